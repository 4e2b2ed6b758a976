"""Averaged: restarted Bregman primal-dual steps that restart at the epoch's average, without a magnet's pull.

It is `_primal_dual` with rho = 0, no pull inside an epoch, the average weighted with eta (not linearly), and every
restart at that average, be it better than the last iterate or not. This is the restarted PDHG of the linear programming
solvers with the dilated KL as metric: the ancestor of `restarted`, which adds over-relaxation, linear weights and the
choice between average and last iterate, and is kept to show what those buy.

Source: Applegate, Hinder, Lu, Lubin, "Faster first-order primal-dual methods for linear programming using restarts and
sharpness", Mathematical Programming 2023; step sizes from PDLP (Applegate et al. 2021).

Proven: with a fixed Euclidean metric and restarts on the normalised duality gap, linear convergence on linear programs.
Not proven: anything with the KL, whose metric changes at restarts, and with restarts on the residual as here.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmd.algorithms._primal_dual import PrimalDualState
from mmd.algorithms.contract import AVERAGE, Candidate, smaller
from mmd.algorithms.restarted import Restarted
from mmd.game.game import Game, Number
from mmd.measure import metrics
from mmd.measure.metrics import Profile


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Averaged(Restarted):
    """Restarted averages; returns the best policy measured, an average at a restart or a last iterate at a check."""

    name: ClassVar[str] = "averaged"

    relaxation: Number = 0.0
    strength: Number = 0.0
    mixing: Number = 0.1

    def _average_weight(self, k: Float[Array, ""]) -> Float[Array, ""]:
        return jnp.ones_like(k)

    def _restart_point(self, game: Game, state: PrimalDualState) -> tuple[Profile, Candidate, int]:
        """The epoch's average."""
        point = self._average(game, state)
        which = jnp.full((), AVERAGE, int)
        candidate = Candidate(point.log_policy, metrics.nash_conv(game, point.gradient), metrics.value(point), which)
        return point, smaller(candidate, state.best), 1


ALGORITHM = Averaged
