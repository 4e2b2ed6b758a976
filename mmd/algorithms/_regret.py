"""Counterfactual regret minimisation: the machinery that `cfr`, `cfr+`, `dcfr`, `pcfr+` and `pdcfr+` share.

At every infoset j of a player, with the payoff gradient g against the opponent's plan and the player's current policy
pi, one bottom-up sweep gives the counterfactual values of the actions and their instantaneous regrets:

    q_ja  =  g_ja + sum of V_j' over the infosets j' below ja        V_j  =  <pi_j, q_j>        r_ja  =  q_ja - V_j

(chance and the opponent's reach are inside g). Regrets R are accumulated from r and matched by the next policy:

    pi+_j  =  [T_j]+ / sum [T_j]+,  uniform where no entry of T_j is positive        T = R, or R + r with a prediction

The methods differ in how R grows, in T, and in the weights t^p of the average of the plans (in sequence form, which is
the reach-weighted average of the policies). With one infoset, a matrix game, they are regret matching (RM), RM+,
discounted RM and predictive RM+. Sources: Hart & Mas-Colell 2000 (regret matching); Zinkevich, Johanson, Bowling,
Piccione 2007 (its sum over infosets bounds the regret of the tree).

Conventions, which the published numbers depend on: regrets start at 0; iteration t = 1, 2, ... updates the row player,
then the column player (alternating: against the row's new plan; simultaneous: against its old one); the plans that come
out of iteration t, not those that went in, enter the average with weight t^p. So the start is replied to and never
averaged. One product with A and one with A^T an iteration make one gradient evaluation; measuring the average at a
check is not counted, since the iteration does not need it.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mmd.algorithms.contract import AVERAGE, ITERATES, LAST, Candidate, Diagnostics
from mmd.game.game import Game, GameError, Number, Pair
from mmd.game.treeplex import Treeplex
from mmd.measure import metrics


class Seat(NamedTuple):
    """One player's part of the state, arrays over sequences [S].

    Attributes:
        regrets: accumulated regret R of each action; 0 at the empty sequence.
        policy, plan: the last iterate as behavioural probabilities and in sequence form. No logarithm is taken: regret
            matching needs none, and they are most of what a step of mirror descent costs.
        average: weighted mean of the plans so far.
    """

    regrets: Float[Array, " S"]
    policy: Float[Array, " S"]
    plan: Float[Array, " S"]
    average: Float[Array, " S"]


class RegretState(NamedTuple):
    """Both players' seats, and the sum of the weights in their averages."""

    iteration: Int[Array, ""]
    gradient_evaluations: Int[Array, ""]
    weight_sum: Float[Array, ""]
    seats: tuple[Seat, Seat]


@dataclass(frozen=True, kw_only=True)
class RegretMinimizer(ABC):
    """Base of the family. Nothing needs tuning, and payoffs may have any scale: a policy depends on ratios of regrets.

    Attributes:
        averaging: p >= 0, the weight of iteration t in the average is t^p: 0 uniform, 1 linear, 2 quadratic.
        iterate: "average" or "last", which of them is returned; only the average has a guarantee.
    """

    name: ClassVar[str]
    keeps_best: ClassVar[bool] = False
    simultaneous: ClassVar[bool] = False

    averaging: Number
    iterate: str = field(default=ITERATES[AVERAGE], metadata={"static": True})

    def resolve(self, game: Game) -> "RegretMinimizer":
        """Nothing to fill in.

        Raises:
            GameError: averaging is negative, or the iterate is neither "average" nor "last".
        """
        if not self.averaging >= 0:
            raise GameError(f"expected averaging >= 0 (weights t^averaging), got {self.averaging}")
        if self.iterate not in (ITERATES[AVERAGE], ITERATES[LAST]):
            raise GameError(f"expected iterate to be 'average' or 'last', got {self.iterate!r}")
        return self

    def init(self, game: Game, log_policy: Pair) -> RegretState:
        """Start at a pair of policies, without regrets; until the first step the average is the start itself."""
        plans = (player.top_down(log) for player, log in zip(game.players, log_policy, strict=True))
        row, column = (
            Seat(jnp.zeros_like(log), jnp.exp(log), plan, plan) for log, plan in zip(log_policy, plans, strict=True)
        )
        zero = jnp.zeros((), int)
        return RegretState(zero, zero, jnp.zeros((), row.plan.dtype), (row, column))

    def step(self, game: Game, state: RegretState) -> RegretState:
        """One update of the row player, then one of the column player."""
        iteration = state.iteration + 1
        t = iteration.astype(state.weight_sum.dtype)
        weight = t**self.averaging
        weight_sum = state.weight_sum + weight
        row, column = state.seats
        share = weight / weight_sum
        moved = self._reply(game, 0, row, column.plan, t, share)
        answered = row if self.simultaneous else moved
        seats = (moved, self._reply(game, 1, column, answered.plan, t, share))
        return RegretState(iteration, state.gradient_evaluations + 1, weight_sum, seats)

    def policy(self, game: Game, state: RegretState) -> Candidate:
        """The average or the last iterate, as `iterate` says."""
        average = self.iterate == ITERATES[AVERAGE]
        log_policy = _average(game, state) if average else tuple(jnp.log(seat.policy) for seat in state.seats)
        at = metrics.profile(game, log_policy)
        which = jnp.full((), AVERAGE if average else LAST, int)
        return Candidate(log_policy, metrics.nash_conv(game, at.gradient), metrics.value(at), which)

    def diagnostics(self, game: Game, state: RegretState) -> Diagnostics:
        """NashConv of the average, where it is not the policy returned."""
        nan = jnp.full((), jnp.nan, state.weight_sum.dtype)
        if self.iterate == ITERATES[AVERAGE]:
            return Diagnostics(nan, nan)
        at = metrics.profile(game, _average(game, state))
        return Diagnostics(nan, metrics.nash_conv(game, at.gradient))

    def _reply(self, game: Game, player: int, seat: Seat, opponent: Float[Array, " T"], t: Array, share: Array) -> Seat:
        """Observe the regrets against the opponent's plan, accumulate and match them, average the new plan."""
        treeplex = game.players[player]
        observed = instantaneous_regrets(treeplex, game.gradient(player, opponent), seat.policy)
        regrets = self._accumulate(seat.regrets, observed, t)
        policy = proportional(treeplex, self._target(regrets, observed, t))
        plan = treeplex.plan_of_probabilities(policy)
        return Seat(regrets, policy, plan, seat.average + share * (plan - seat.average))

    @abstractmethod
    def _accumulate(
        self, regrets: Float[Array, " S"], observed: Float[Array, " S"], t: Float[Array, ""]
    ) -> Float[Array, " S"]:
        """R after iteration t."""

    def _target(
        self, regrets: Float[Array, " S"], observed: Float[Array, " S"], t: Float[Array, ""]
    ) -> Float[Array, " S"]:
        """What the next policy matches: the regrets, unless a method predicts the next ones."""
        return regrets


def instantaneous_regrets(
    player: Treeplex, gradient: Float[Array, " S"], policy: Float[Array, " S"]
) -> Float[Array, " S"]:
    """Counterfactual regret `q_ja - <policy_j, q_j>` of every action, not weighted with the player's own reach."""

    def rule(q: Array, policy: Array) -> tuple[Array, Array]:
        expected = jnp.sum(jnp.where(jnp.isneginf(q), 0.0, policy * q), axis=-1)
        return expected, q - expected[:, None]

    return player.bottom_up(gradient, rule, sequence=(policy,))[1]


def proportional(player: Treeplex, weights: Float[Array, " S"]) -> Float[Array, " S"]:
    """Policy proportional to the positive part of the weights at every infoset; uniform where there is none.

    Of regrets this is regret matching; of a plan it is the behavioural policy (uniform at infosets that the plan never
    reaches). An action without weight has probability 0, exactly: a floor would give regrets to infosets that nobody
    reaches, which then play by rounding noise.
    """

    def rule(q: Array) -> Array:
        exists = jnp.where(jnp.isneginf(q), 0.0, jnp.ones_like(q))
        positive = jnp.maximum(q, 0.0)
        positive = jnp.where(jnp.any(positive > 0, axis=-1, keepdims=True), positive, exists)
        return positive / jnp.sum(positive, axis=-1, keepdims=True)

    return player.at_infosets(rule, weights).at[0].set(1.0)


def _average(game: Game, state: RegretState) -> Pair:
    """The average plans as log-policies."""
    pairs = zip(game.players, state.seats, strict=True)
    return tuple(jnp.log(proportional(player, seat.average)) for player, seat in pairs)
