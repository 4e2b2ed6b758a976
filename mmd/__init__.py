"""magnetic-mirror: the Nash equilibrium of the game you actually have, with a certificate.

    game = games.load("leduc_poker")
    solution = mmd.solve(game, tolerance=1e-8)

Names are imported when first used, so that `import mmd` costs nothing and pulls in no array library.

Rooms, from the ground up; each may import those before it, and `host`:

    host                            files, environment, progress, the manners of a command line
    report                          pages of HTML
    simplex, update                 the equation: read `update.py` first
    game                            strategy spaces, payoffs, policies
    measure, magnets, feedback      what a policy is worth: `certificate.py`; where magnets move; what a player is told
    algorithms                      the contract, and one file for each algorithm
    solving, lab                    one run, its loop: `solver.py`; many runs side by side
    command                         the `mmd` command
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmd import algorithms as algorithms
    from mmd import magnets as magnets
    from mmd.algorithms.anchored import Anchored as Anchored
    from mmd.algorithms.auto import Auto as Auto
    from mmd.algorithms.contract import LAST as LAST
    from mmd.algorithms.contract import Algorithm as Algorithm
    from mmd.algorithms.contract import Candidate as Candidate
    from mmd.algorithms.contract import Diagnostics as Diagnostics
    from mmd.algorithms.contract import HostAlgorithm as HostAlgorithm
    from mmd.algorithms.contract import Limits as Limits
    from mmd.algorithms.contract import Report as Report
    from mmd.algorithms.interior import Interior as Interior
    from mmd.algorithms.magnetic import MagneticMirrorDescent as MagneticMirrorDescent
    from mmd.algorithms.mpo import MPO as MPO
    from mmd.algorithms.restarted import Restarted as Restarted
    from mmd.feedback import Exact as Exact
    from mmd.feedback import Feedback as Feedback
    from mmd.feedback import Judge as Judge
    from mmd.feedback import NoisyJudge as NoisyJudge
    from mmd.feedback import Sampled as Sampled
    from mmd.game.game import Game as Game
    from mmd.game.game import GameError as GameError
    from mmd.game.game import float64 as float64
    from mmd.game.policy import Policy as Policy
    from mmd.game.treeplex import Treeplex as Treeplex
    from mmd.lab.quantal import QuantalPath as QuantalPath
    from mmd.lab.quantal import QuantalResponse as QuantalResponse
    from mmd.lab.quantal import qre as qre
    from mmd.lab.quantal import qre_path as qre_path
    from mmd.lab.recording import Recording as Recording
    from mmd.lab.recording import record as record
    from mmd.magnets import Fixed as Fixed
    from mmd.magnets import Halpern as Halpern
    from mmd.magnets import Magnet as Magnet
    from mmd.magnets import MovingAverage as MovingAverage
    from mmd.magnets import Refresh as Refresh
    from mmd.measure.bootstrap import Bootstrap as Bootstrap
    from mmd.measure.bootstrap import bootstrap as bootstrap
    from mmd.measure.certificate import certify as certify
    from mmd.measure.equilibria import maximal_entropy as maximal_entropy
    from mmd.measure.exact import OptimalRange as OptimalRange
    from mmd.measure.exact import optimal_range as optimal_range
    from mmd.measure.exact import solve_exactly as solve_exactly
    from mmd.measure.figure import paper_style as paper_style
    from mmd.measure.metrics import exploitability as exploitability
    from mmd.measure.plot import plot_convergence as plot_convergence
    from mmd.measure.rate import LinearRate as LinearRate
    from mmd.measure.rate import linear_rate as linear_rate
    from mmd.measure.solution import Solution as Solution
    from mmd.measure.solution import Solutions as Solutions
    from mmd.measure.solution import Status as Status
    from mmd.solving.batch import solve_many as solve_many
    from mmd.solving.solver import solve as solve

_MODULES = {"algorithms": "mmd.algorithms", "magnets": "mmd.magnets"}  # public as they are, each with its `load`
_HOME = {
    "LAST": "mmd.algorithms.contract",
    "Algorithm": "mmd.algorithms.contract",
    "Candidate": "mmd.algorithms.contract",
    "Diagnostics": "mmd.algorithms.contract",
    "HostAlgorithm": "mmd.algorithms.contract",
    "Limits": "mmd.algorithms.contract",
    "Report": "mmd.algorithms.contract",
    "Anchored": "mmd.algorithms.anchored",
    "Auto": "mmd.algorithms.auto",
    "Interior": "mmd.algorithms.interior",
    "Restarted": "mmd.algorithms.restarted",
    "MagneticMirrorDescent": "mmd.algorithms.magnetic",
    "MPO": "mmd.algorithms.mpo",
    "solve_many": "mmd.solving.batch",
    "certify": "mmd.measure.certificate",
    "solve_exactly": "mmd.measure.exact",
    "OptimalRange": "mmd.measure.exact",
    "optimal_range": "mmd.measure.exact",
    "maximal_entropy": "mmd.measure.equilibria",
    "Bootstrap": "mmd.measure.bootstrap",
    "bootstrap": "mmd.measure.bootstrap",
    "Exact": "mmd.feedback",
    "Feedback": "mmd.feedback",
    "Judge": "mmd.feedback",
    "NoisyJudge": "mmd.feedback",
    "Sampled": "mmd.feedback",
    "Game": "mmd.game.game",
    "GameError": "mmd.game.game",
    "float64": "mmd.game.game",
    "QuantalPath": "mmd.lab.quantal",
    "QuantalResponse": "mmd.lab.quantal",
    "qre": "mmd.lab.quantal",
    "qre_path": "mmd.lab.quantal",
    "Recording": "mmd.lab.recording",
    "record": "mmd.lab.recording",
    "Fixed": "mmd.magnets",
    "Halpern": "mmd.magnets",
    "Magnet": "mmd.magnets",
    "MovingAverage": "mmd.magnets",
    "Refresh": "mmd.magnets",
    "exploitability": "mmd.measure.metrics",
    "paper_style": "mmd.measure.figure",
    "plot_convergence": "mmd.measure.plot",
    "LinearRate": "mmd.measure.rate",
    "linear_rate": "mmd.measure.rate",
    "Policy": "mmd.game.policy",
    "Solution": "mmd.measure.solution",
    "Solutions": "mmd.measure.solution",
    "Status": "mmd.measure.solution",
    "solve": "mmd.solving.solver",
    "Treeplex": "mmd.game.treeplex",
}
__all__ = sorted([*_MODULES, *_HOME])  # pyrefly: ignore[unresolvable-dunder-all]


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
