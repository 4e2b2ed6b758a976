"""llm_bridge: language models as policies for magnetic mirror descent, usually `import llm_bridge as bridge`.

    policy = bridge.load("path/to/checkpoint")
    policy.log_probs(tokens, mask)
    result = bridge.MPO(judge).fit(policy, prompts, steps=500, key=key)
    policy = bridge.wrap(module, max_length=4096)               # any Flax module

Names are imported when first used, so that `import llm_bridge` costs nothing and pulls in no array library.

Rooms, from the ground up; each may import those before it, and of `mmd` only the public surface, `mmd.update` and
`mmd.host`:

    model               the decoder; `families/`, one file for each family of models; any Flax module in its place
    text                tokenizers; rows of data: `data.py`; rows as token ids
    policy              log-probabilities and generation: read `policy/policy.py` first
    checkpoint          Hugging Face folders, adapters, weights of other modules, read and written
    judges              who says which of two responses is preferred; its `__init__.py` has the protocol
    train, run          methods on one loop: `loop.py`, the draws: `rollout.py`, the loss of a token: `objective.py`;
                        what a run keeps on disk and how it is stopped
    measure             win rates, intervals, lotteries of models
    command             the `mpo` command
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llm_bridge import judges as judges
    from llm_bridge.checkpoint.adapters import add_adapter as add_adapter
    from llm_bridge.checkpoint.adapters import load_adapter as load_adapter
    from llm_bridge.checkpoint.adapters import merge as merge
    from llm_bridge.checkpoint.adapters import save_adapter as save_adapter
    from llm_bridge.checkpoint.export import save as save
    from llm_bridge.checkpoint.gguf_files import import_gguf as import_gguf
    from llm_bridge.checkpoint.loading import init as init
    from llm_bridge.checkpoint.loading import load as load
    from llm_bridge.checkpoint.orbax_files import restore as restore
    from llm_bridge.judges import Judge as Judge
    from llm_bridge.judges import JudgeError as JudgeError
    from llm_bridge.judges.population import Population as Population
    from llm_bridge.measure.exploit import Exploitability as Exploitability
    from llm_bridge.measure.exploit import exploit as exploit
    from llm_bridge.measure.judge_report import JudgeReport as JudgeReport
    from llm_bridge.measure.judge_report import judge_report as judge_report
    from llm_bridge.measure.win_rate import WinRate as WinRate
    from llm_bridge.model import families as models
    from llm_bridge.model.architecture import Architecture as Architecture
    from llm_bridge.model.architecture import BridgeError as BridgeError
    from llm_bridge.model.architecture import Norm as Norm
    from llm_bridge.model.compute import Compute as Compute
    from llm_bridge.model.names import Stored as Stored
    from llm_bridge.model.wrapped import Calls as Calls
    from llm_bridge.policy.generate import Generation as Generation
    from llm_bridge.policy.policy import Policy as Policy
    from llm_bridge.policy.scoring import Comparison as Comparison
    from llm_bridge.policy.wrapping import unwrap as unwrap
    from llm_bridge.policy.wrapping import wrap as wrap
    from llm_bridge.text.tokenizer import Tokenizer as Tokenizer
    from llm_bridge.train import baselines
    from llm_bridge.train.arena import Arena as Arena
    from llm_bridge.train.best_response import BestResponse as BestResponse
    from llm_bridge.train.engine import Answers as Answers
    from llm_bridge.train.engine import Engine as Engine
    from llm_bridge.train.engine import EngineError as EngineError
    from llm_bridge.train.engine import Order as Order
    from llm_bridge.train.http_engine import HttpEngine as HttpEngine
    from llm_bridge.train.loop import CollapseWarning as CollapseWarning
    from llm_bridge.train.loop import JudgeWarning as JudgeWarning
    from llm_bridge.train.loop import Method as Method
    from llm_bridge.train.mpo import MPO as MPO
    from llm_bridge.train.objective import Judged as Judged
    from llm_bridge.train.objective import Numbers as Numbers
    from llm_bridge.train.objective import Objective as Objective
    from llm_bridge.train.objective import PolicyGradient as PolicyGradient
    from llm_bridge.train.objective import Regression as Regression
    from llm_bridge.train.result import Result as Result
    from llm_bridge.train.result import Status as Status
    from llm_bridge.train.rollout import Question as Question
    from llm_bridge.train.train_state import TrainState as TrainState

    families, methods = models, baselines

# Public as they are, each with its `load`.
_MODULES = {
    "families": "llm_bridge.model.families",
    "judges": "llm_bridge.judges",
    "methods": "llm_bridge.train.baselines",
}
_HOME = {
    "add_adapter": "llm_bridge.checkpoint.adapters",
    "load_adapter": "llm_bridge.checkpoint.adapters",
    "merge": "llm_bridge.checkpoint.adapters",
    "save_adapter": "llm_bridge.checkpoint.adapters",
    "Architecture": "llm_bridge.model.architecture",
    "BridgeError": "llm_bridge.model.architecture",
    "Norm": "llm_bridge.model.architecture",
    "Judge": "llm_bridge.judges",
    "JudgeError": "llm_bridge.judges",
    "Stored": "llm_bridge.model.names",
    "Judged": "llm_bridge.train.objective",
    "Numbers": "llm_bridge.train.objective",
    "Objective": "llm_bridge.train.objective",
    "import_gguf": "llm_bridge.checkpoint.gguf_files",
    "init": "llm_bridge.checkpoint.loading",
    "load": "llm_bridge.checkpoint.loading",
    "restore": "llm_bridge.checkpoint.orbax_files",
    "Calls": "llm_bridge.model.wrapped",
    "unwrap": "llm_bridge.policy.wrapping",
    "wrap": "llm_bridge.policy.wrapping",
    "Compute": "llm_bridge.model.compute",
    "save": "llm_bridge.checkpoint.export",
    "Generation": "llm_bridge.policy.generate",
    "Policy": "llm_bridge.policy.policy",
    "Comparison": "llm_bridge.policy.scoring",
    "Tokenizer": "llm_bridge.text.tokenizer",
    "TrainState": "llm_bridge.train.train_state",
    "Result": "llm_bridge.train.result",
    "Status": "llm_bridge.train.result",
    "Regression": "llm_bridge.train.objective",
    "Question": "llm_bridge.train.rollout",
    "PolicyGradient": "llm_bridge.train.objective",
    "Method": "llm_bridge.train.loop",
    "MPO": "llm_bridge.train.mpo",
    "JudgeWarning": "llm_bridge.train.loop",
    "CollapseWarning": "llm_bridge.train.loop",
    "Arena": "llm_bridge.train.arena",
    "BestResponse": "llm_bridge.train.best_response",
    "Answers": "llm_bridge.train.engine",
    "Engine": "llm_bridge.train.engine",
    "EngineError": "llm_bridge.train.engine",
    "Order": "llm_bridge.train.engine",
    "HttpEngine": "llm_bridge.train.http_engine",
    "Exploitability": "llm_bridge.measure.exploit",
    "exploit": "llm_bridge.measure.exploit",
    "WinRate": "llm_bridge.measure.win_rate",
    "JudgeReport": "llm_bridge.measure.judge_report",
    "judge_report": "llm_bridge.measure.judge_report",
    "Population": "llm_bridge.judges.population",
}
__all__ = sorted([*_MODULES, *_HOME])  # pyrefly: ignore[unresolvable-dunder-all]


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
