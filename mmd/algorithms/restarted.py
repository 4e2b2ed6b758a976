"""Restarted Bregman primal-dual steps with a linear average, over-relaxation and a moving reference.

It is `_primal_dual` with rho = 0.7. Each epoch ends at the better, by NashConv, of its linearly weighted average and
its last iterate; that point becomes the reference (magnet) of the next epoch. The policy returned is the best one that
was measured: a last iterate at a check, or an average at a restart.

On trees the reference has no pull inside an epoch (strength 0): then this is restarted Bregman PDHG with a moving
reference and is *not* MMD. On matrix games it pulls with alpha_k = 0.2 / (step (k + 1)), which is MMD with a fading
alpha.

Proven: nothing about the combination. Restarted PDHG with fixed metric converges linearly on linear programs
(Applegate, Hinder, Lu, Lubin 2023); the changing metric, the relaxation and the choice between average and last have
no proof here. What makes the answer safe is its certificate.

Source: this project's own; of the parts, Applegate, Hinder, Lu, Lubin, "Faster first-order primal-dual methods for
linear programming using restarts and sharpness", Mathematical Programming 2023, and Chambolle & Pock, "On the ergodic
convergence rates of a first-order primal-dual algorithm", Mathematical Programming 2016 (Bregman steps).
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmd.algorithms._primal_dual import PrimalDual, PrimalDualState
from mmd.algorithms.contract import AVERAGE, LAST, Candidate, smaller
from mmd.game.game import Game, Number
from mmd.measure import metrics
from mmd.measure.metrics import Profile

MATRIX_STRENGTH, TREE_STRENGTH = 0.2, 0.0


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Restarted(PrimalDual):
    """The first-order engine behind `auto`; returns the best certified policy met. No number needs tuning.

    Attributes:
        strength: pull of the restart point, alpha_k = strength / (step (k + 1)); None for 0 on trees and 0.2 on matrix
            games.
    """

    name: ClassVar[str] = "restarted"
    keeps_best: ClassVar[bool] = True

    relaxation: Number = 0.7
    strength: Number = None

    def resolve(self, game: Game) -> "Restarted":
        """Choose the reference's pull by the kind of game."""
        by_kind = MATRIX_STRENGTH if game.is_matrix else TREE_STRENGTH
        return self if self.strength is not None else replace(self, strength=by_kind)

    def policy(self, game: Game, state: PrimalDualState) -> Candidate:
        """The better of the last iterate and the best restart point so far."""
        return smaller(self._measured(game, state.iterate), state.best)

    def _restart_point(self, game: Game, state: PrimalDualState) -> tuple[Profile, Candidate, int]:
        """The better of the epoch's average and its last iterate."""
        both = jax.tree.map(lambda a, b: jnp.stack([a, b]), state.iterate, self._average(game, state))
        gaps = jax.vmap(lambda gradient: metrics.nash_conv(game, gradient))(both.gradient)
        which = jnp.where(gaps[1] < gaps[0], AVERAGE, LAST)
        point = jax.tree.map(lambda leaf: leaf[which], both)
        candidate = Candidate(point.log_policy, gaps[which], metrics.value(point), which)
        return point, smaller(candidate, state.best), 1

    def _average(self, game: Game, state: PrimalDualState) -> Profile:
        def log_policy(player: int) -> Float[Array, " S"]:
            mean = (state.epoch.plan_sum[player] / state.epoch.weight_sum).at[0].set(1.0)
            return game.players[player].log_policy_of(mean, state.iterate.log_policy[player])

        return metrics.profile(game, (log_policy(0), log_policy(1)))


ALGORITHM = Restarted
