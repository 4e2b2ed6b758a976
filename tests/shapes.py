"""The run-time check of shapes and types that `--jaxtyping-packages` names: beartype, when a function is first called.

beartype takes milliseconds to write the check of a function. There are five thousand of them in the packages, and a
worker calls a part of them.
"""

from collections.abc import Callable
from typing import Any

from beartype import beartype


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its arguments and its result checked."""
    made: list[Callable[..., Any]] = []

    def called(*args: Any, **kwargs: Any) -> Any:
        if not made:
            made.append(beartype(function))
        return made[0](*args, **kwargs)

    return called
