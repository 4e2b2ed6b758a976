"""The run-time check of shapes and types that `--jaxtyping-packages` names: beartype, when a function is first called.

beartype takes milliseconds to write the check of a function. There are five thousand of them in the packages, and a
worker calls a part of them. jaxtyping asks for two checks of a function: of its arguments, before it is called, and of
its result, among the sizes that the arguments have shown; that one need not look at the arguments again.
"""

from collections.abc import Callable
from typing import Any

from beartype import beartype


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its result checked; with its arguments checked, where the result may be anything."""
    result = function.__annotations__.get("return", Any)
    if result is not Any:
        function.__annotations__ = {"return": result}
    made: list[Callable[..., Any]] = []

    def called(*args: Any, **kwargs: Any) -> Any:
        if not made:
            made.append(beartype(function))
        return made[0](*args, **kwargs)

    return called
