"""One file per model family, named as the `model_type` of its `config.json`; `load` finds it.

A family's `architecture` says how a configuration becomes an `Architecture`. Its `TENSORS`, `PREFIX` and `IGNORED` say
what each weight is called in its checkpoints (`llm_bridge.model.names`), and `ARCHITECTURE` what transformers calls
the family. Modules with a leading underscore hold what several families share.

A family from outside this package (`mmd.host.doors`) is a module, or a class or another object, with the same five
names. It is named, or it is an entry point of an installed package that is called as the `model_type`. A built-in
`model_type` always means the built-in family.

A family of models of more than text has a `text_config` as well, which gives the `config.json` of the part that reads
text. A policy of it has that part's family from then on. Where tensors may begin in several ways, `PREFIXES` has all.

A family may import the modules of `llm_bridge.model`. Read `llama.py` first, then `_llama_like.py`.
"""

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Collection, Mapping
from typing import Any

from llm_bridge.model.architecture import BridgeError
from llm_bridge.model.names import Stored
from mmd.host.doors import FORMS, Door, names_code

MEMBERS = ("architecture", "TENSORS", "PREFIX", "IGNORED", "ARCHITECTURE")
KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "architecture": (callable, "a function of the configuration's fields"),
    "TENSORS": (
        lambda x: isinstance(x, Mapping) and all(isinstance(each, Stored) for each in x.values()),
        "a bridge.Stored by each weight's name",
    ),
    "PREFIX": (lambda x: isinstance(x, str), "a text"),
    "IGNORED": (
        lambda x: isinstance(x, Collection) and not isinstance(x, str) and all(isinstance(each, str) for each in x),
        "a tuple of texts",
    ),
    "ARCHITECTURE": (lambda x: isinstance(x, str), "a text"),
}
DOOR = Door("families", BridgeError, f"a module or an object with {', '.join(MEMBERS)}")


def names() -> tuple[str, ...]:
    """Model types that can be loaded, sorted."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")))


def load(model_type: object, named: str | None = None) -> Any:
    """The family of a checkpoint: a module, or an object with the same names.

    Args:
        model_type: of its `config.json`.
        named: a family from outside, for a `model_type` that is not built in: `module:name`, `path.py:name` or the name
            that an installed package gives. Its module is imported.

    Raises:
        BridgeError: there is no such family, and the message suggests the nearest name; or code from outside fails, or
            is no family.
    """
    if isinstance(model_type, str) and model_type in names():
        if named is not None:
            raise BridgeError(f"family {named}: expected none, the model_type {model_type!r} is built in")
        return importlib.import_module(f"{__name__}.{model_type}")
    if named is not None:
        return _from_outside(named)
    if isinstance(model_type, str) and not names_code(model_type) and DOOR.is_outside(model_type):
        return _from_outside(model_type)
    near = _nearest(str(model_type))
    known = f"supported are {', '.join(names())}, or a family from outside ({FORMS})"
    raise BridgeError(f"unsupported model_type {model_type!r}: {f'did you mean {near!r}?' if near else known}")


def _from_outside(name: str) -> Any:
    """The family behind a door, with all that a family says."""
    found, numbers = DOOR.find(name)
    if numbers:
        raise BridgeError(f"family {name}: expected a name alone, got numbers behind it: {numbers!r}")
    if missing := [member for member in MEMBERS if not hasattr(found, member)]:
        raise BridgeError(f"family {name}: expected {DOOR.wanted}, and it has no {missing[0]}")
    for member, (holds, wanted) in KINDS.items():
        if not holds(there := getattr(found, member)):
            raise BridgeError(f"family {name}: expected {member} to be {wanted}, got {there!r}")
    return found


def _nearest(model_type: str) -> str | None:
    """What was perhaps meant; None for a family that exists elsewhere and only sounds like one of these."""
    from transformers import CONFIG_MAPPING

    if model_type in CONFIG_MAPPING:
        return None
    return next(iter(difflib.get_close_matches(model_type, names(), n=1)), None)
