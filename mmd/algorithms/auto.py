"""Auto, the default: restarted Bregman primal-dual steps with a linear average, over-relaxation and a moving reference.

It is `_primal_dual` with rho = 0.7. Each epoch ends at the better, by NashConv, of its linearly weighted average and
its last iterate; that point becomes the reference (magnet) of the next epoch. The policy returned is the best one that
was measured: a last iterate at a check, or an average at a restart.

On trees the reference has no pull inside an epoch (strength 0): then this is restarted Bregman PDHG with a moving
reference and is *not* MMD. On matrix games it pulls with alpha_k = 0.2 / (step (k + 1)), which is MMD with a fading
alpha.

Proven: nothing about the combination. Restarted PDHG with fixed metric converges linearly on linear programs
(Applegate, Hinder, Lu, Lubin 2023); the changing metric, the relaxation and the choice between average and last have
no proof here.
What makes the answer safe is its certificate.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmd import metrics
from mmd.algorithm import AVERAGE, Candidate
from mmd.algorithms._primal_dual import PrimalDual, PrimalDualState
from mmd.game import Game, Number
from mmd.metrics import Profile

MATRIX_STRENGTH, TREE_STRENGTH = 0.2, 0.0


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Auto(PrimalDual):
    """The default engine; returns the best certified policy met. No number needs tuning.

    Attributes:
        strength: pull of the restart point; None for the default of the game's kind (see the module).
        check_every: iterations between two measurements of the last iterate.
    """

    name: ClassVar[str] = "auto"

    relaxation: Number = 0.7
    strength: Number = None
    check_every: Number = 10

    def resolve(self, game: Game) -> "Auto":
        """Choose the magnet's strength by the kind of game."""
        by_kind = MATRIX_STRENGTH if game.is_matrix else TREE_STRENGTH
        return self if self.strength is not None else replace(self, strength=by_kind)

    def step(self, game: Game, state: PrimalDualState) -> PrimalDualState:
        """One attempt and perhaps a restart; every `check_every` iterations the last iterate competes for the best."""
        state = super().step(game, state)
        check = state.iteration % self.check_every == 0
        return state._replace(best=jax.lax.cond(check, lambda s: self._better(game, s), lambda s: s.best, state))

    def policy(self, game: Game, state: PrimalDualState) -> Candidate:
        """The best policy measured so far."""
        return state.best

    def _better(self, game: Game, state: PrimalDualState) -> Candidate:
        return _smaller(self._last(game, state.iterate), state.best)

    def _restart_point(self, game: Game, state: PrimalDualState) -> tuple[Profile, Candidate, int]:
        """The better of the epoch's average and its last iterate."""
        last, average = state.iterate, self._average(game, state)
        of_last = self._last(game, last)
        of_average = self._last(game, average)._replace(iterate=jnp.full((), AVERAGE))
        best = _smaller(of_average, _smaller(of_last, state.best))
        better = of_average.nash_conv < of_last.nash_conv
        return jax.tree.map(lambda a, b: jnp.where(better, a, b), average, last), best, 1

    def _average(self, game: Game, state: PrimalDualState) -> Profile:
        def log_policy(player: int) -> Float[Array, " S"]:
            mean = (state.epoch.plan_sum[player] / state.epoch.weight_sum).at[0].set(1.0)
            return game.players[player].log_policy_of(mean, state.iterate.log_policy[player])

        return metrics.profile(game, (log_policy(0), log_policy(1)))


def _smaller(a: Candidate, b: Candidate) -> Candidate:
    """The candidate with the smaller NashConv; b in a tie, or where a is not a number."""
    return jax.tree.map(lambda x, y: jnp.where(a.nash_conv < b.nash_conv, x, y), a, b)


ALGORITHM = Auto
