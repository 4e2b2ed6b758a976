"""Methods to compare MPO with, one file each, on the same loop: same samples, same judge, same metrics.

A file says what differs: its payoffs or targets, its loss, or what it asks of the arena. Its attribute `METHOD` is the
class, which `load` and `mpo train --method` find by the file's name. A method from outside this package
(`mmd.host.doors`) is a class that derives from `llm_bridge.Method`; a built-in name always means the built-in method.

Read `self_play.py` first. A method may import the modules of `llm_bridge.train`.
"""

import importlib
import inspect
import pkgutil

from llm_bridge.model.architecture import BridgeError
from llm_bridge.train.loop import Method
from llm_bridge.train.mpo import MPO
from mmd.host.doors import FORMS, Door

DOOR = Door("methods", BridgeError, "a class that derives from llm_bridge.Method, or from llm_bridge.MPO")


def names() -> tuple[str, ...]:
    """Names of the methods of this package, mpo first."""
    return ("mpo", *sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")))


def is_outside(name: str) -> bool:
    """Whether a name is that of a method from outside this package; nothing is imported."""
    return name not in names() and DOOR.is_outside(name)


def load(name: str) -> type[Method]:
    """The class of a method.

    Args:
        name: that of a method of this package; or `module:name`, `path.py:name`, or the name that an installed package
            gives, whose module is then imported.

    Raises:
        BridgeError: there is no such method, its code fails, or it is no method.
    """
    if name == "mpo":
        return MPO
    if name in names():
        return importlib.import_module(f"{__name__}.{name}").METHOD
    if not DOOR.is_outside(name):
        raise BridgeError(f"there is no method {name!r}: expected {' or '.join(names())}, or {FORMS}")
    found, numbers = DOOR.find(name)
    if numbers:
        raise BridgeError(f"method {name}: expected a name alone, got numbers behind it: {numbers!r}; take --set")
    if not (inspect.isclass(found) and issubclass(found, Method)):
        DOOR.refuse(name, found)
    return found
