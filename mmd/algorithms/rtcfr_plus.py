"""RTCFR+: reward-transformation CFR+, whose last iterate converges; alternating updates.

CFR+ solves a sequence of games in which a player with plan x also pays alpha / 2 |x - r|^2 for leaving a reference plan
r, and in which every action is played with a probability of at least about gamma:

    g      =  A y - alpha (x - r)                           the gradient; q, V and regrets from it as in `_regret`
    R+     =  [R + q - V]+        s+ = R+ / sum R+          at every infoset, with V_j = <s_j, q_j>
    pi+    =  (s+ + gamma) / (1 + n gamma)                  n actions; x is the plan of pi

Before the iterations T, 2T, 3T, ... the reference moves to where the player has arrived, r = x, and gamma is halved.
Regrets are kept: begun anew with each game, the authors report, they never converge.

Source: Meng, Yang, Zhang, Ge, Yang, Ding, Li, An, Gao, "Efficient Last-Iterate Convergence in Solving Extensive-Form
Games", NeurIPS 2025, and the authors' code, whose defaults these are: alpha = 1e-3 (their mu), gamma = 1e-10, T = 100.
Tuned values of (alpha, T) in the paper: Kuhn poker (0.1, 10), Leduc poker (0.001, 100), liar's dice with 4, 5, 6 faces
(0.01, 10), (0.0005, 10), (0.0001, 500), goofspiel with 4, 5, 6 cards (0.1, 10), (0.05, 100), (0.005, 50).

Proven: the last iterate converges to the equilibrium of each of those games, whatever the start and without step sizes,
and the equilibria to one of the original game. No rate.

Deviations: gamma is added to the probabilities before normalising; the paper mixes `(1 - n gamma) s + gamma`, which is
the same with gamma / (1 + n gamma) for gamma.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mmd.algorithms._regret import instantaneous_regrets, proportional
from mmd.algorithms.contract import LAST, Candidate, Diagnostics
from mmd.game.game import Game, GameError, Number, Pair
from mmd.measure import metrics


class Seat(NamedTuple):
    """One player's part of the state, arrays over sequences [S].

    Attributes:
        regrets: accumulated regret R of each action.
        matched: s, the policy before gamma is added.
        policy, plan: the last iterate, with gamma, as behavioural probabilities and in sequence form.
        reference: the plan r.
    """

    regrets: Float[Array, " S"]
    matched: Float[Array, " S"]
    policy: Float[Array, " S"]
    plan: Float[Array, " S"]
    reference: Float[Array, " S"]


class RewardTransformationState(NamedTuple):
    """Both players' seats, and gamma as it is now."""

    iteration: Int[Array, ""]
    gradient_evaluations: Int[Array, ""]
    gamma: Float[Array, ""]
    seats: tuple[Seat, Seat]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class RewardTransformationCFRPlus:
    """RTCFR+; returns the last iterate. The first reference is the start.

    Attributes:
        alpha: strength of the reward transformation, in payoff units.
        gamma: about the smallest probability of an action, at first.
        every: T, iterations between two updates of the reference.
    """

    name: ClassVar[str] = "rtcfr+"
    keeps_best: ClassVar[bool] = False

    alpha: Number = 1e-3
    gamma: Number = 1e-10
    every: Number = 100

    def resolve(self, game: Game) -> "RewardTransformationCFRPlus":
        """Nothing to fill in.

        Raises:
            GameError: alpha, gamma or the period is not positive.
        """
        for name in ("alpha", "gamma", "every"):
            if not getattr(self, name) > 0:
                raise GameError(f"expected {name} > 0, got {getattr(self, name)}")
        return self

    def init(self, game: Game, log_policy: Pair) -> RewardTransformationState:
        """Start at a pair of policies, without regrets."""
        plans = (player.top_down(log) for player, log in zip(game.players, log_policy, strict=True))
        row, column = (
            Seat(jnp.zeros_like(log), jnp.exp(log), jnp.exp(log), plan, plan)
            for log, plan in zip(log_policy, plans, strict=True)
        )
        zero = jnp.zeros((), int)
        return RewardTransformationState(zero, zero, jnp.asarray(self.gamma, row.plan.dtype), (row, column))

    def step(self, game: Game, state: RewardTransformationState) -> RewardTransformationState:
        """Where it is time, another game; then one update of the row player and one of the column player."""
        iteration = state.iteration + 1
        due = iteration % self.every == 0
        gamma = jnp.where(due, state.gamma / 2, state.gamma)
        row, column = (_with_reference(seat, due) for seat in state.seats)
        row = self._reply(game, 0, row, column.plan, gamma)
        column = self._reply(game, 1, column, row.plan, gamma)
        return RewardTransformationState(iteration, state.gradient_evaluations + 1, gamma, (row, column))

    def policy(self, game: Game, state: RewardTransformationState) -> Candidate:
        """The last iterate."""
        log_policy = tuple(jnp.log(seat.policy) for seat in state.seats)
        at = metrics.profile(game, log_policy)
        return Candidate(log_policy, metrics.nash_conv(game, at.gradient), metrics.value(at), jnp.full((), LAST, int))

    def diagnostics(self, game: Game, state: RewardTransformationState) -> Diagnostics:
        """None."""
        nan = jnp.full((), jnp.nan, state.gamma.dtype)
        return Diagnostics(nan, nan)

    def _reply(self, game: Game, player: int, seat: Seat, opponent: Float[Array, " T"], gamma: Array) -> Seat:
        """Observe the regrets against the opponent's plan and the reference, accumulate and match them."""
        treeplex = game.players[player]
        gradient = game.gradient(player, opponent) - self.alpha * (seat.plan - seat.reference)
        observed = instantaneous_regrets(treeplex, gradient, seat.matched)
        regrets = jnp.maximum(seat.regrets + observed, 0.0)
        matched = proportional(treeplex, regrets)
        policy = proportional(treeplex, matched + gamma)
        return Seat(regrets, matched, policy, treeplex.plan_of_probabilities(policy), seat.reference)


def _with_reference(seat: Seat, due: Bool[Array, ""]) -> Seat:
    return seat._replace(reference=jnp.where(due, seat.plan, seat.reference))


ALGORITHM = RewardTransformationCFRPlus
