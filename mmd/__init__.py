"""magnetic-mirror: the Nash equilibrium of the game you actually have, with a certificate.

    game = games.load("leduc_poker")
    solution = mmd.solve(game, tolerance=1e-8)

Names are imported when first used, so that `import mmd` costs nothing and pulls in no array library.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmd import algorithms as algorithms
    from mmd import magnets as magnets
    from mmd.algorithm import LAST as LAST
    from mmd.algorithm import Algorithm as Algorithm
    from mmd.algorithm import Candidate as Candidate
    from mmd.algorithm import Diagnostics as Diagnostics
    from mmd.algorithm import HostAlgorithm as HostAlgorithm
    from mmd.algorithm import Limits as Limits
    from mmd.algorithm import Report as Report
    from mmd.algorithms.anchored import Anchored as Anchored
    from mmd.algorithms.auto import Auto as Auto
    from mmd.algorithms.magnetic import MagneticMirrorDescent as MagneticMirrorDescent
    from mmd.batch import solve_many as solve_many
    from mmd.certificate import certify as certify
    from mmd.exact import solve_exactly as solve_exactly
    from mmd.feedback import Exact as Exact
    from mmd.feedback import Feedback as Feedback
    from mmd.feedback import Judge as Judge
    from mmd.feedback import NoisyJudge as NoisyJudge
    from mmd.feedback import Sampled as Sampled
    from mmd.game import Game as Game
    from mmd.game import GameError as GameError
    from mmd.game import float64 as float64
    from mmd.magnets import Fixed as Fixed
    from mmd.magnets import Halpern as Halpern
    from mmd.magnets import Magnet as Magnet
    from mmd.magnets import MovingAverage as MovingAverage
    from mmd.magnets import Refresh as Refresh
    from mmd.metrics import exploitability as exploitability
    from mmd.plot import plot_convergence as plot_convergence
    from mmd.policy import Policy as Policy
    from mmd.solution import Solution as Solution
    from mmd.solution import Solutions as Solutions
    from mmd.solution import Status as Status
    from mmd.solver import solve as solve
    from mmd.treeplex import Treeplex as Treeplex

_MODULES = {"algorithms": "mmd.algorithms", "magnets": "mmd.magnets"}  # public as they are, each with its `load`
_HOME = {
    "LAST": "mmd.algorithm",
    "Algorithm": "mmd.algorithm",
    "Candidate": "mmd.algorithm",
    "Diagnostics": "mmd.algorithm",
    "HostAlgorithm": "mmd.algorithm",
    "Limits": "mmd.algorithm",
    "Report": "mmd.algorithm",
    "Anchored": "mmd.algorithms.anchored",
    "Auto": "mmd.algorithms.auto",
    "MagneticMirrorDescent": "mmd.algorithms.magnetic",
    "solve_many": "mmd.batch",
    "certify": "mmd.certificate",
    "solve_exactly": "mmd.exact",
    "Exact": "mmd.feedback",
    "Feedback": "mmd.feedback",
    "Judge": "mmd.feedback",
    "NoisyJudge": "mmd.feedback",
    "Sampled": "mmd.feedback",
    "Game": "mmd.game",
    "GameError": "mmd.game",
    "float64": "mmd.game",
    "Fixed": "mmd.magnets",
    "Halpern": "mmd.magnets",
    "Magnet": "mmd.magnets",
    "MovingAverage": "mmd.magnets",
    "Refresh": "mmd.magnets",
    "exploitability": "mmd.metrics",
    "plot_convergence": "mmd.plot",
    "Policy": "mmd.policy",
    "Solution": "mmd.solution",
    "Solutions": "mmd.solution",
    "Status": "mmd.solution",
    "solve": "mmd.solver",
    "Treeplex": "mmd.treeplex",
}
__all__ = sorted([*_MODULES, *_HOME])  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("magnetic-mirror")
    raise AttributeError(f"module 'mmd' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
