"""R-NaD: regularized Nash dynamics, with full feedback.

Three moves, again and again: *transform* the rewards towards a reference policy mu, follow the *dynamics* of the
transformed game to its equilibrium, and *update* the reference to it. At every decision of player i, with the policy pi
of now, whoever decides pays the other one for leaving the reference,

    r_i - alpha log(pi_i(a) / mu_i(a))  at own decisions,        r_i + alpha log(pi_-i(a) / mu_-i(a))  at the other's,

which keeps the game zero-sum. With q the counterfactual values of these rewards the dynamics is the replicator's, here
in steps of size eta (both players simultaneously), and every so many steps mu is replaced by pi:

    pi+_j(a)  prop. to  pi_j(a) exp(eta q_ja)        at every infoset

Sources: Perolat et al., "From Poincare Recurrence to Convergence in Imperfect Information Games: Finding Equilibrium
via Regularization", ICML 2021 (there FoReL with the entropy; its values are weighted with the opponent's and chance's
reach, as here); Perolat et al., "Mastering the Game of Stratego with Model-Free Multiagent Reinforcement Learning",
Science 2022, where it has its name and alpha = 0.2 (the papers' eta).

Proven, in continuous time: the dynamics converges exponentially to the equilibrium of the transformed game, and the
sequence of those equilibria to an equilibrium of the original game (the last iterate; no rate). Not proven: anything
for steps of finite size, or for references that are updated before the dynamics has settled.

The transformed rewards of one play depend on both players' policies along it, so a step needs how likely every play is
(`_plays`) and costs three gradient evaluations.

Deviations: the papers integrate (2021) or sample and learn (2022); step size and period of the reference are ours.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mmd.algorithms import _plays
from mmd.algorithms.contract import LAST, Candidate, Diagnostics
from mmd.game.game import Game, GameError, Number, Pair
from mmd.game.payoff import Dense, Sparse
from mmd.game.treeplex import Treeplex
from mmd.measure import metrics
from mmd.measure.metrics import Profile
from mmd.update import magnetic_step


class NashDynamicsState(NamedTuple):
    """The iterate and the reference policy."""

    iteration: Int[Array, ""]
    gradient_evaluations: Int[Array, ""]
    iterate: Profile
    log_reference: Pair


class Feedback(NamedTuple):
    """What a player learns in a step: the gradient [S] of others' rewards, and the reach [I] of its infosets."""

    gradient: Float[Array, " S"]
    reach: Float[Array, " I"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class RegularizedNashDynamics:
    """R-NaD; returns the last iterate. The first reference is the start.

    Attributes:
        eta: step size of the dynamics, in 1 / payoff units.
        alpha: strength of the reward transformation, in payoff units.
        every: steps between two updates of the reference.
        plays: how likely plays are; filled in by `resolve`.
    """

    name: ClassVar[str] = "r-nad"
    keeps_best: ClassVar[bool] = False

    eta: Number = 1.0
    alpha: Number = 0.2
    every: Number = 100
    plays: Dense | Sparse | None = field(default=None, metadata={"derived": True})

    def resolve(self, game: Game) -> "RegularizedNashDynamics":
        """Work out how likely plays are; check the numbers.

        Raises:
            GameError: eta, alpha or the period is not positive, or the game does not know how likely its plays are.
        """
        for name in ("eta", "alpha", "every"):
            if not getattr(self, name) > 0:
                raise GameError(f"expected {name} > 0, got {getattr(self, name)}")
        return replace(self, plays=_plays.probabilities(game, self.name))

    def init(self, game: Game, log_policy: Pair) -> NashDynamicsState:
        """Start at a policy with full support; costs one gradient evaluation."""
        zero = jnp.zeros((), int)
        return NashDynamicsState(zero, zero + 1, metrics.profile(game, log_policy), log_policy)

    def step(self, game: Game, state: NashDynamicsState) -> NashDynamicsState:
        """One step of the dynamics; where it is time, the reference is updated."""
        at, iteration = state.iterate, state.iteration + 1
        log_ratio = tuple(pi - mu for pi, mu in zip(at.log_policy, state.log_reference, strict=True))
        feedback = self._feedback(game, at, log_ratio)
        seats = zip(game.players, at.log_policy, log_ratio, feedback, strict=True)
        log_policy = tuple(self._moved(*seat) for seat in seats)
        due = iteration % self.every == 0
        reference = tuple(jnp.where(due, pi, mu) for pi, mu in zip(log_policy, state.log_reference, strict=True))
        moved = metrics.profile(game, log_policy)
        return NashDynamicsState(iteration, state.gradient_evaluations + 3, moved, reference)

    def policy(self, game: Game, state: NashDynamicsState) -> Candidate:
        """The last iterate."""
        at = state.iterate
        return Candidate(
            at.log_policy, metrics.nash_conv(game, at.gradient), metrics.value(at), jnp.full((), LAST, int)
        )

    def diagnostics(self, game: Game, state: NashDynamicsState) -> Diagnostics:
        """None."""
        nan = jnp.full((), jnp.nan, state.iterate.plan[0].dtype)
        return Diagnostics(nan, nan)

    def _feedback(self, game: Game, at: Profile, log_ratio: Pair) -> tuple[Feedback, Feedback]:
        """The payoffs with what the opponent pays, and reach; two pairs of products."""
        assert self.plays is not None, "resolve fills it in"
        # The derivative of a plan along log_ratio is the plan times the sum of log_ratio on the way: what is paid.
        paid = tuple(
            jax.jvp(player.top_down, (log,), (ratio,))[1]
            for player, log, ratio in zip(game.players, at.log_policy, log_ratio, strict=True)
        )
        collected, bonus = _plays.products(self.plays, at.plan), _plays.products(self.plays, paid)
        row, column = (
            Feedback(gradient + self.alpha * from_opponent, _plays.reach(player, own))
            for player, gradient, from_opponent, own in zip(game.players, at.gradient, bonus, collected, strict=True)
        )
        return row, column

    def _moved(
        self, player: Treeplex, log_policy: Float[Array, " S"], log_ratio: Float[Array, " S"], feedback: Feedback
    ) -> Float[Array, " S"]:
        """The step at every infoset, own payments included."""

        def rule(q: Array, reach: Array, current: Array, ratio: Array) -> tuple[Array, Array]:
            q = q - self.alpha * reach[:, None] * ratio
            expected = jnp.sum(jnp.where(jnp.isneginf(q), 0.0, jnp.exp(current) * q), axis=-1)
            return expected, magnetic_step(current, current, q, self.eta, 0.0)[0]

        own = (log_policy, log_ratio)
        return player.bottom_up(feedback.gradient, rule, infoset=(feedback.reach,), sequence=own)[1]


ALGORITHM = RegularizedNashDynamics
