"""The two loops of Magnetic Preference Optimization on every two-player zero-sum game, with no number to tune.

Inner loop, at a magnet mu, a metric w and an alpha that stay: magnetic steps towards the equilibrium of

    <x, A y> - alpha D(x, mu) + alpha D(y, mu)                                  D the dilated KL with infoset weights w

The players move in turn, the column player with the gradient extrapolated: `_primal_dual` without over-relaxation,
whose test admits each step and adapts eta. It ends when the measured residual r = sqrt D(z_k+1, z_k) / eta, which is 0
at the regularized equilibrium alone, is at most `fall` times that of the loop's first step.

Outer loop: the magnet moves to the iterate, where the range weights are measured anew (one more gradient evaluation,
with |A|), best replies are brought back, and alpha is chosen for the next inner loop. At an exact solution
s = alpha sqrt D(z, mu) is what is left of the original game's optimality conditions. In an unconstrained bilinear game
with singular value sigma an exact solution multiplies s by 1 / sqrt(1 + (sigma / alpha)^2), for an inner loop of about
1 / (eta alpha) steps: the most progress for the work is made at alpha = sigma / 1.98, where that factor is 0.45. So
alpha is multiplied by sqrt(0.45 / f), f the factor just measured, and by no more than 2 either way. After a loop of
fewer than 10 steps it does not rise: a move costs an evaluation as well.

In an inner loop the logarithm of an action with slack s falls to log mu - s / (alpha w), by thousands. If play changes
and the action is a best reply, it comes back by no more than its gain over alpha w a move, and until then the
exploitability stays as it is. So at a move every best reply at an infoset gets at least the probability

    e = 0.1 min(1, exploitability / largest weight) / (n + 1)^2                             n moves before this one

in the iterate and so in the magnet, for one more gradient evaluation where one had less.

Proven: z = z+ at the regularized equilibrium alone, whatever the step. With a constant `eta < 1 / L`, for L with
|<x - x', A (y - y')>| <= L (D(x, x') + D(y, y')), the *last* iterate of the inner loop converges linearly to it:
V_k = D(z*, z_k) / eta + <x* - x_k, A (y* - y_k)> falls by 1 / (1 + eta alpha / 2) a step or faster
(docs/explanation/theory.md; a primal-dual step of Chambolle & Pock 2016, whose two terms are strongly convex relative
to D). An exact solution brings the magnet closer, in that loop's D, to every equilibrium z* of the original game; best
replies that are brought back take it away by at most e sum_j k_j w_j z*_j, k_j of them at infoset j, and all e together
are less than 0.17 whatever is measured. So exact solutions in one metric converge to an equilibrium, with them as
without.
Measured: that steps which adapt converge as well, at about the rate of the theorem; that inexact solutions, a metric
that changes from loop to loop and an alpha that adapts reach the equilibrium of the original game, and how fast
(`benchmarks.claims.two_loops`). No rate is proven for the original game.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mmd.algorithms._primal_dual import Metric, Pull, judged, metric_at, stepped
from mmd.algorithms.contract import LAST, Candidate, Diagnostics
from mmd.game.game import Game, Number, Pair
from mmd.measure import metrics
from mmd.measure.metrics import Profile

MOST_CHANGE = 2.0  # of alpha, from one inner loop to the next
SHORT = 10  # steps: an inner loop of fewer is not made shorter
BROUGHT_BACK = 0.1  # of the exploitability, over the largest weight: the least probability of a best reply


class Inner(NamedTuple):
    """The inner loop of now.

    Attributes:
        alpha: its regularization, in payoff units.
        steps: steps that were taken in it.
        first_residual: sqrt D(z_k+1, z_k) / eta of its first step; infinite before.
        residual: that of its newest step.
    """

    alpha: Float[Array, ""]
    steps: Int[Array, ""]
    first_residual: Float[Array, ""]
    residual: Float[Array, ""]


class TwoLoopsState(NamedTuple):
    """The iterate, its magnet and metric, the step size and both loops.

    Attributes:
        refused: attempts since the last step that was taken.
        solved: the inner loop that ended last; without steps before.
        moves: how often the magnet has moved.
        last_move: alpha times the root of the distance by which it moved last; infinite before.
        uniform: [S0], [S1] plans of uniform play.
    """

    iteration: Int[Array, ""]
    gradient_evaluations: Int[Array, ""]
    refused: Int[Array, ""]
    eta: Float[Array, ""]
    iterate: Profile
    log_magnet: Pair
    metric: Metric
    inner: Inner
    solved: Inner
    moves: Int[Array, ""]
    last_move: Float[Array, ""]
    uniform: Pair


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class TwoLoops:
    """The two loops; returns the last iterate.

    Attributes:
        fall: an inner loop ends when its residual is at most this share of its first one.
        progress: factor that a move of the magnet should leave of the one before.
        first_alpha: alpha of the first inner loop, as a share of the mean range of the gradients at uniform play.
        mixing: share of uniform play at which the weights are measured.
    """

    name: ClassVar[str] = "mpo"
    keeps_best: ClassVar[bool] = False

    fall: Number = 0.3
    progress: Number = 0.45
    first_alpha: Number = 0.01
    mixing: Number = 0.2

    def resolve(self, game: Game) -> "TwoLoops":
        """Nothing to fill in."""
        return self

    def init(self, game: Game, log_policy: Pair) -> TwoLoopsState:
        """Start at a policy with full support, which is the first magnet; costs two gradient evaluations."""
        iterate = metrics.profile(game, log_policy)
        dtype = iterate.plan[0].dtype
        uniform = tuple(player.top_down(jnp.asarray(player.uniform(), dtype)) for player in game.players)
        metric, scale = metric_at(game, iterate.plan, uniform, self.mixing)
        zero, infinity = jnp.zeros((), int), jnp.full((), jnp.inf, dtype)
        inner = Inner(jnp.asarray(self.first_alpha * scale, dtype), zero, infinity, infinity)
        return TwoLoopsState(
            zero, zero + 2, zero, 1 / scale, iterate, log_policy, metric, inner, inner, zero, infinity, uniform
        )

    def step(self, game: Game, state: TwoLoopsState) -> TwoLoopsState:
        """One attempt of an inner step; where it ends the inner loop, the magnet's move."""
        inner = state.inner
        moved = stepped(game, state.iterate, Pull(state.log_magnet, state.metric, inner.alpha), state.eta)
        accepted, eta = judged(moved, state.eta, state.iteration, state.refused)
        residual = jnp.sqrt(moved.distance) / state.eta
        steps = inner.steps + accepted.astype(int)
        first = jnp.where(accepted & (steps == 1), residual, inner.first_residual)
        state = state._replace(
            iteration=state.iteration + 1,
            gradient_evaluations=state.gradient_evaluations + 1,
            refused=jnp.where(accepted, 0, state.refused + 1),
            eta=eta,
            iterate=jax.tree.map(lambda new, old: jnp.where(accepted, new, old), moved.profile, state.iterate),
            inner=Inner(inner.alpha, steps, first, jnp.where(accepted, residual, inner.residual)),
        )
        solved = accepted & (steps > 1) & (residual <= self.fall * first)
        return jax.lax.cond(solved, lambda s: self._move_magnet(game, s), lambda s: s, state)

    def policy(self, game: Game, state: TwoLoopsState) -> Candidate:
        """The last iterate."""
        at = state.iterate
        return Candidate(
            at.log_policy, metrics.nash_conv(game, at.gradient), metrics.value(at), jnp.full((), LAST, int)
        )

    def diagnostics(self, game: Game, state: TwoLoopsState) -> Diagnostics:
        """The gap of the game that the inner loop solves, with the metric's weights."""
        weights = state.metric.infosets
        gap = metrics.regularized_gap(game, state.iterate, state.log_magnet, state.inner.alpha, weights)
        return Diagnostics(gap, jnp.full_like(gap, jnp.nan))

    def _move_magnet(self, game: Game, state: TwoLoopsState) -> TwoLoopsState:
        """The magnet goes to the iterate, best replies brought back; the metric is measured, the next alpha chosen."""
        at, alpha = state.iterate, state.inner.alpha
        each = zip(game.players, at.plan, at.log_policy, state.log_magnet, state.metric.sequences, strict=True)
        distance = sum((player.bregman(*rest) for player, *rest in each), jnp.zeros_like(alpha))
        move = alpha * jnp.sqrt(distance)
        infinity = jnp.full_like(alpha, jnp.inf)
        metric, mean = metric_at(game, at.plan, state.uniform, self.mixing)
        iterate, evaluations = brought_back(game, at, mean * jnp.max(jnp.concatenate(metric.infosets)), state.moves)
        return state._replace(
            gradient_evaluations=state.gradient_evaluations + 1 + evaluations,
            iterate=iterate,
            log_magnet=iterate.log_policy,
            metric=metric,
            inner=Inner(self._next_alpha(state.inner, move / state.last_move), jnp.zeros((), int), infinity, infinity),
            solved=state.inner,
            moves=state.moves + 1,
            last_move=move,
        )

    def _next_alpha(self, solved: Inner, factor: Float[Array, ""]) -> Float[Array, ""]:
        """Alpha after an inner loop whose move was `factor` times the one before; unchanged where it is 0 or NaN."""
        most = jnp.where(solved.steps < SHORT, 1.0, MOST_CHANGE)
        change = jnp.clip(jnp.sqrt(self.progress / factor), 1 / MOST_CHANGE, most)
        return jnp.where((factor > 0) & jnp.isfinite(factor), solved.alpha * change, solved.alpha)


def brought_back(
    game: Game, at: Profile, largest: Float[Array, ""], moves: Int[Array, ""]
) -> tuple[Profile, Int[Array, ""]]:
    """The profile with no best reply at an infoset less probable than e, and the gradient evaluations it cost.

    Args:
        game: the game.
        at: the profile; it is returned as it is where every best reply has that much.
        largest: the largest range of payoffs at an infoset, by which e is free of units.
        moves: how often this was done before, so that the sum of e is finite.
    """
    gains, regrets = zip(
        *(player.best_response(gradient) for player, gradient in zip(game.players, at.gradient, strict=True)),
        strict=True,
    )
    share = jnp.minimum(sum(gains) / (2 * largest), 1.0)
    least = jnp.log(BROUGHT_BACK * share) - 2 * jnp.log1p(moves)
    lacking = tuple((regret >= 0) & (log < least) for regret, log in zip(regrets, at.log_policy, strict=True))

    def again(at: Profile) -> Profile:
        each = zip(game.players, lacking, at.log_policy, strict=True)
        return metrics.profile(game, tuple(player.normalized(jnp.where(k, least, log)) for player, k, log in each))

    found = jnp.any(lacking[0]) | jnp.any(lacking[1])
    return jax.lax.cond(found, again, lambda at: at, at), found.astype(int)
