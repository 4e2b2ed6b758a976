"""One file per algorithm, each citing its paper; `mmd solve --algorithm NAME` finds them here.

A module of this package is an algorithm if its attribute `ALGORITHM` is one; the class attribute `name` is its
public name. Modules with a leading underscore hold machinery that several algorithms share. An algorithm from outside
this package (`mmd.host.doors`) is such a class; a built-in name always means the built-in algorithm.

Read `contract.py` first, which says what every algorithm promises, then `magnetic.py`, the published method. This room
may import `mmd.measure`, `mmd.magnets`, `mmd.feedback` and what lies below them; algorithms never know who runs them.
"""

import difflib
import importlib
import inspect
import pkgutil
from dataclasses import MISSING, fields
from functools import cache
from typing import Any

import jax

from mmd.game.game import GameError
from mmd.host import doors

MEMBERS = ("name", "keeps_best", "resolve")
FORMS = (("init", "step", "policy", "diagnostics"), ("run",))  # traced; on the host
DOOR = doors.Door("algorithms", GameError, "a dataclass that is a mmd.Algorithm or a mmd.HostAlgorithm")


@cache
def _by_name() -> dict[str, type]:
    modules = (m.name for m in pkgutil.iter_modules(__path__) if m.name != "contract" and not m.name.startswith("_"))
    classes = (importlib.import_module(f"{__name__}.{module}").ALGORITHM for module in modules)
    return {algorithm.name: algorithm for algorithm in classes}


def names() -> tuple[str, ...]:
    """Public names of all algorithms, sorted."""
    return tuple(sorted(_by_name()))


def load(name: str) -> type:
    """The class of an algorithm, a `mmd.algorithms.contract.Algorithm`.

    Args:
        name: that of an algorithm of this package; or `module:name`, `path.py:name`, or the name that an installed
            package gives, whose module is then imported.

    Raises:
        GameError: there is no such algorithm, and the message suggests the nearest name; or code from outside fails, or
            is no algorithm.
    """
    if name in _by_name():
        return _by_name()[name]
    if is_outside(name):
        return _from_outside(name)
    near = difflib.get_close_matches(name, names(), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"try one of {', '.join(names())}, or {doors.FORMS}"
    raise GameError(f"unknown algorithm {name!r}: {hint}")


def is_outside(name: str) -> bool:
    """Whether a name is that of an algorithm from outside this package; nothing is imported."""
    return name not in _by_name() and DOOR.is_outside(name)


def made(name: str, **given: Any) -> Any:
    """An algorithm by its name, with these numbers.

    Raises:
        GameError: there is no such algorithm, code from outside fails or is none, or the numbers do not fit.
    """
    return DOOR.called(name, load(name), given)


def _from_outside(name: str) -> type:
    """The algorithm behind a door.

    Raises:
        GameError: there is none, or it lacks something that every algorithm has.
    """
    found, numbers = DOOR.find(name)
    if numbers:
        raise GameError(f"algorithm {name}: expected a name alone, got numbers behind it: {numbers!r}")
    if not (inspect.isclass(found) and hasattr(found, "__dataclass_fields__")):
        DOOR.refuse(name, found)
    form = next((form for form in FORMS if hasattr(found, form[0])), FORMS[0])
    if missing := [member for member in (*MEMBERS, *form) if not hasattr(found, member)]:
        raise GameError(f"algorithm {name}: expected {DOOR.wanted}, and {found.__qualname__} has no {missing[0]!r}")
    own = getattr(found, "name")  # noqa: B009 - for the type checker it is any class
    if not isinstance(own, str):
        raise GameError(f"algorithm {name}: expected the name of {found.__qualname__} to be a text, got {own!r}")
    if own in _by_name():
        wanted = f"a name of its own for {found.__qualname__}"
        raise GameError(f"algorithm {name}: expected {wanted}, got {own!r}, which is built in")
    if form is FORMS[0] and _is_complete(found) and jax.tree_util.all_leaves([DOOR.called(name, found, {})]):
        decorator = "@jax.tree_util.register_dataclass"
        raise GameError(f"algorithm {name}: expected {decorator} above {found.__qualname__}, its numbers are leaves")
    return found


def _is_complete(found: Any) -> bool:
    """Whether an object can be made of a dataclass without arguments."""
    return all(f.default is not MISSING or f.default_factory is not MISSING for f in fields(found))
