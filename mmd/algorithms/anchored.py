"""Anchored: magnetic mirror descent whose magnet pulls as Halpern's anchor and moves on the measured residual.

It is `_primal_dual` with rho = 0.5 and alpha_k = 1 / (step (k + 1)), k steps after the magnet's last move: in the dual
space `theta' = (k+1)/(k+2) T(theta) + 1/(k+2) theta_magnet`, Halpern's iteration (Halpern 1967; Lieder 2021). When the
residual has fallen enough, the magnet is moved to the last iterate. So this is MMD in the full sense: a magnet, a
decreasing alpha, and a *last* iterate, which is what is returned; no average is ever formed.

Proven: Halpern's iteration of a non-expansive map has residual O(1/k). Not proven: that the Bregman step is
non-expansive in the dual, nor any rate of the restarted method; measured to converge linearly to the equilibrium of
the original game on small trees. It is not the fastest: `auto` is faster.

Source: this project's own; of the parts, Halpern, "Fixed points of nonexpanding maps", Bulletin of the AMS 1967, and
Lieder, "On the convergence rate of the Halpern-iteration", Optimization Letters 2021, Theorem 2.1.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax

from mmd.algorithms._primal_dual import PrimalDual, PrimalDualState
from mmd.algorithms.contract import Candidate
from mmd.game.game import Game, Number
from mmd.measure.metrics import Profile


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Anchored(PrimalDual):
    """The Halpern-magnet engine; returns the last iterate. No number needs tuning."""

    name: ClassVar[str] = "anchored"
    keeps_best: ClassVar[bool] = False

    relaxation: Number = 0.5
    mixing: Number = 0.2
    artificial: Number = 0.2
    strength: Number = 1.0

    def policy(self, game: Game, state: PrimalDualState) -> Candidate:
        """The last iterate."""
        return self._measured(game, state.iterate)

    def _restart_point(self, game: Game, state: PrimalDualState) -> tuple[Profile, Candidate, int]:
        """The last iterate."""
        return state.iterate, state.best, 0


ALGORITHM = Anchored
