"""The run-time check of shapes and types: what the import hook of `--jaxtyping-packages` writes before every function.

The hook writes `@jaxtyping.jaxtyped`. That one checks a function by calling two empty ones with its arguments, before
and after it, and looks up every argument's place each time: together a sixth of the suite's time. Here beartype checks
the function itself, in a context of jaxtyping's own, in which a size that has shown itself must be the same everywhere.
beartype takes milliseconds to write a check. There are five thousand functions in the packages, and a worker calls a
part of them, so a check is written when its function is first called.
"""

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

import jaxtyping
from beartype import beartype

SIZES = jaxtyping.jaxtyped("context")


def checked(thing: Any = None, *, typechecker: Any = None) -> Any:
    """The function with its arguments and its result checked; the dataclass with what it is made of checked."""
    if thing is None:
        return checked
    if not inspect.isclass(thing):
        return _function(thing)
    made = vars(thing).get("__init__")
    if dataclasses.is_dataclass(thing) and made and not hasattr(made, "__wrapped__"):
        type.__setattr__(thing, "__init__", _function(made))
    return thing


def _function(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that writes the check when it is first called."""
    written: list[Callable[..., Any]] = []

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        if jaxtyping.config.jaxtyping_disable:  # as a user has it, to whom a wrong type is said otherwise
            return function(*args, **kwargs)
        if not written:
            written.append(_written(function))
        with SIZES:
            return written[0](*args, **kwargs)

    return called


def _written(function: Any) -> Callable[..., Any]:
    """A copy of the function with beartype's check; the function itself keeps its annotations."""
    copy = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__, copy.__qualname__ = function.__kwdefaults__, function.__qualname__
    copy.__annotations__ = {name: _known(hint, function.__globals__) for name, hint in function.__annotations__.items()}
    return beartype(copy)


def _known(hint: Any, names: dict[str, Any]) -> Any:
    """An annotation; anything for a name that only a type checker imports."""
    stub = types.SimpleNamespace(__annotations__={"it": hint})
    try:
        return typing.get_type_hints(stub, names, include_extras=True)["it"]
    except NameError:
        return Any


vars(jaxtyping)["jaxtyped"] = checked
