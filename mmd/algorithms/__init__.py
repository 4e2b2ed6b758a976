"""One file per algorithm, each citing its paper; `mmd solve --algorithm NAME` finds them here.

A module of this package is an algorithm if its attribute `ALGORITHM` is one; the class attribute `name` is its
public name. Modules with a leading underscore hold machinery that several algorithms share.
"""

import difflib
import importlib
import pkgutil
from functools import cache

from mmd.game import GameError


@cache
def _by_name() -> dict[str, type]:
    modules = (m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))
    classes = (importlib.import_module(f"{__name__}.{module}").ALGORITHM for module in modules)
    return {algorithm.name: algorithm for algorithm in classes}


def names() -> tuple[str, ...]:
    """Public names of all algorithms, sorted."""
    return tuple(sorted(_by_name()))


def load(name: str) -> type:
    """The class of an algorithm, a `mmd.algorithm.Algorithm`.

    Raises:
        GameError: there is no such algorithm; the message suggests the nearest name.
    """
    if name in _by_name():
        return _by_name()[name]
    near = difflib.get_close_matches(name, names(), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"try one of {', '.join(names())}"
    raise GameError(f"unknown algorithm {name!r}: {hint}")
