"""One file per model family, named as the `model_type` of its `config.json`; `load` finds it.

A family says how a configuration becomes an `Architecture` (`architecture`), what each weight is called in its
checkpoints (`TENSORS`, `PREFIX`, `IGNORED`; see `llm_bridge.names`), and what transformers calls it (`ARCHITECTURE`).
Modules with a leading underscore hold what several families share.
"""

import difflib
import importlib
import pkgutil
from types import ModuleType

from llm_bridge.architecture import BridgeError


def names() -> tuple[str, ...]:
    """Model types that can be loaded, sorted."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")))


def load(model_type: object) -> ModuleType:
    """The family's module.

    Raises:
        BridgeError: there is no such family; the message suggests the nearest name.
    """
    if isinstance(model_type, str) and model_type in names():
        return importlib.import_module(f"{__name__}.{model_type}")
    near = _nearest(str(model_type))
    hint = f"did you mean {near!r}?" if near else f"supported are {', '.join(names())}"
    raise BridgeError(f"unsupported model_type {model_type!r}: {hint}")


def _nearest(model_type: str) -> str | None:
    """What was perhaps meant; None for a family that exists elsewhere and only sounds like one of these."""
    from transformers import CONFIG_MAPPING

    if model_type in CONFIG_MAPPING:
        return None
    return next(iter(difflib.get_close_matches(model_type, names(), n=1)), None)
