"""Which judge an option means."""

import importlib
import os
import re
import sys
from pathlib import Path
from typing import Any

from llm_bridge import checkpoint
from llm_bridge.architecture import BridgeError
from llm_bridge.judges import preference_model
from llm_bridge.judges.generative import GenerativeJudge
from llm_bridge.judges.http import HttpJudge
from llm_bridge.options import Judging
from llm_bridge.tensor_files import HUB_ID

KINDS = "a folder of mpo train-judge, a model's folder or hub id, http(s)://host/v1, or a function as module:name"
FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def judge_of(options: Judging) -> Any:
    """The judge, one of texts (see `llm_bridge.judges`).

    Raises:
        BridgeError: there is none of this name, it cannot be loaded, or it takes no `--judge-model`.
    """
    name = options.judge
    if name is None:
        raise BridgeError(f"--judge is needed: {KINDS}")
    if options.judge_model is not None and "://" not in name:
        raise BridgeError(f"--judge-model is for a judge over HTTP, expected --judge http(s)://host/v1, got {name}")
    if "://" in name:
        if not options.judge_model:
            raise BridgeError("a judge over HTTP needs --judge-model, its name at the endpoint")
        return HttpJudge(
            name,
            options.judge_model,
            key_variable=options.judge_key_variable,
            concurrency=options.judge_concurrency,
            timeout=options.judge_timeout,
            tell=lambda text: sys.stderr.write(f"mpo: {text}\n"),
        )
    for folder in (Path(name), Path(name) / "policy"):  # the second one is that of a run of mpo train-judge
        if (folder / preference_model.CONFIG).exists():
            return preference_model.load(folder)
    if FUNCTION.fullmatch(name) and not Path(name).exists():
        return _function(name)
    if not Path(name).exists() and (not re.fullmatch(HUB_ID, name) or Path(name).parent.exists()):
        raise BridgeError(f"--judge {name}: there is no such judge, expected {KINDS}")
    policy = checkpoint.load(name)
    if policy.tokenizer is None:
        raise BridgeError(f"--judge {name}: has no tokenizer, so it cannot be asked")
    return GenerativeJudge(policy, policy.tokenizer)


def _function(name: str) -> Any:
    """A function of (prompts, a, b), from a module on the path or in the current folder."""
    module, _, attribute = name.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise BridgeError(f"--judge {name}: cannot import it ({error})") from None
    except AttributeError:
        raise BridgeError(f"--judge {name}: the module {module} has no {attribute!r}") from None
    finally:
        sys.path.remove(os.getcwd())
    if not callable(found):
        raise BridgeError(f"--judge {name}: expected a function of prompts, a and b, got {type(found).__name__}")
    return found
