"""llm_bridge: language models as policies for magnetic mirror descent, usually `import llm_bridge as bridge`.

    policy = bridge.load("path/to/checkpoint")
    policy.log_probs(tokens, mask)
    result = bridge.MPO(judge).fit(policy, prompts, steps=500, key=key)

Names are imported when first used, so that `import llm_bridge` costs nothing and pulls in no array library.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llm_bridge import baselines, models
    from llm_bridge import judges as judges
    from llm_bridge.adapters import add_adapter as add_adapter
    from llm_bridge.adapters import load_adapter as load_adapter
    from llm_bridge.adapters import merge as merge
    from llm_bridge.adapters import save_adapter as save_adapter
    from llm_bridge.architecture import Architecture as Architecture
    from llm_bridge.architecture import BridgeError as BridgeError
    from llm_bridge.architecture import Norm as Norm
    from llm_bridge.arena import Arena as Arena
    from llm_bridge.checkpoint import init as init
    from llm_bridge.checkpoint import load as load
    from llm_bridge.compute import Compute as Compute
    from llm_bridge.export import save as save
    from llm_bridge.generate import Generation as Generation
    from llm_bridge.judges import Judge as Judge
    from llm_bridge.loop import CollapseWarning as CollapseWarning
    from llm_bridge.loop import JudgeWarning as JudgeWarning
    from llm_bridge.loop import Method as Method
    from llm_bridge.loop import Result as Result
    from llm_bridge.loop import Status as Status
    from llm_bridge.mpo import MPO as MPO
    from llm_bridge.names import Stored as Stored
    from llm_bridge.objective import Judged as Judged
    from llm_bridge.objective import Numbers as Numbers
    from llm_bridge.objective import Objective as Objective
    from llm_bridge.objective import PolicyGradient as PolicyGradient
    from llm_bridge.objective import Regression as Regression
    from llm_bridge.policy import Policy as Policy
    from llm_bridge.rollout import Question as Question
    from llm_bridge.scoring import Comparison as Comparison
    from llm_bridge.tokenizer import Tokenizer as Tokenizer
    from llm_bridge.train_state import TrainState as TrainState
    from llm_bridge.win_rate import WinRate as WinRate

    families, methods = models, baselines

# Public as they are, each with its `load`.
_MODULES = {"families": "llm_bridge.models", "judges": "llm_bridge.judges", "methods": "llm_bridge.baselines"}
_HOME = {
    "add_adapter": "llm_bridge.adapters",
    "load_adapter": "llm_bridge.adapters",
    "merge": "llm_bridge.adapters",
    "save_adapter": "llm_bridge.adapters",
    "Architecture": "llm_bridge.architecture",
    "BridgeError": "llm_bridge.architecture",
    "Norm": "llm_bridge.architecture",
    "Judge": "llm_bridge.judges",
    "Stored": "llm_bridge.names",
    "Judged": "llm_bridge.objective",
    "Numbers": "llm_bridge.objective",
    "Objective": "llm_bridge.objective",
    "init": "llm_bridge.checkpoint",
    "load": "llm_bridge.checkpoint",
    "Compute": "llm_bridge.compute",
    "save": "llm_bridge.export",
    "Generation": "llm_bridge.generate",
    "Policy": "llm_bridge.policy",
    "Comparison": "llm_bridge.scoring",
    "Tokenizer": "llm_bridge.tokenizer",
    "TrainState": "llm_bridge.train_state",
    "Result": "llm_bridge.loop",
    "Status": "llm_bridge.loop",
    "Regression": "llm_bridge.objective",
    "Question": "llm_bridge.rollout",
    "PolicyGradient": "llm_bridge.objective",
    "Method": "llm_bridge.loop",
    "MPO": "llm_bridge.mpo",
    "JudgeWarning": "llm_bridge.loop",
    "CollapseWarning": "llm_bridge.loop",
    "Arena": "llm_bridge.arena",
    "WinRate": "llm_bridge.win_rate",
}
__all__ = sorted([*_MODULES, *_HOME])  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("magnetic-mirror")
    raise AttributeError(f"module 'llm_bridge' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
