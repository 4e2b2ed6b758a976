"""Restarted Bregman primal-dual steps: the machinery that `anchored`, `averaged` and `restarted` share.

One attempt, with s = (1 + rho) eta and the dilated KL of range weights as metric:

    x+ = prox(x; A y),   y+ = prox(y; -(A^T x + 2/(1+rho) (A^T x+ - A^T x)))        prox with step s and magnet pull
    alpha

rho is over-relaxation: in the dual (log) space a mirror step is theta + eta g, so relaxing it by 1 + rho is the same
step with s, and the matching extrapolation is the one above. rho = 0 is primal-dual hybrid gradient (Chambolle & Pock
2016) in Bregman form. The step is accepted if `eta <= bar = (D(x+, x) + D(y+, y)) / |<x+ - x, A (y+ - y)>|`, and eta
adapts either way (Applegate et al., PDLP, 2021). After a refusal the next iteration tries again with the smaller step,
so one iteration is one gradient evaluation, accepted or not.

Restarts follow the measured residual r_k = sqrt(D(z_k+1, z_k)): when it has fallen to `sufficient` times its value at
the epoch's first step, or to `necessary` times and rises, or when the epoch is longer than `artificial` times all
steps so far.
At a restart the magnet moves to the restart point and the weights are measured anew there (one more gradient
evaluation, with |A|). The metric changes only when the iterate is its own magnet, so no step mixes two metrics.

Not proven: convergence with changing metric, adaptive step and over-relaxation together. The certificate makes it safe.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mmd.algorithms.contract import Candidate, Diagnostics
from mmd.game.game import Game, Number, Pair
from mmd.magnets import Halpern
from mmd.measure import metrics
from mmd.measure.metrics import Profile

STANDSTILL = 1e-26  # squared distance under which a step is rounding noise: accept it, leave eta alone
MAX_REFUSALS = 20
MIN_ARTIFICIAL_EPOCH = 20


class Metric(NamedTuple):
    """Infoset weights of both players, per infoset [I] and repeated over sequences [S]."""

    infosets: Pair
    sequences: Pair


class Epoch(NamedTuple):
    """What is measured since the last restart; plans are summed with the weights of `PrimalDual._average_weight`."""

    steps: Int[Array, ""]
    first_residual: Float[Array, ""]
    last_residual: Float[Array, ""]
    plan_sum: Pair
    weight_sum: Float[Array, ""]


class PrimalDualState(NamedTuple):
    """The iterate, its magnet and metric, the step size, the epoch, the best restart point, and uniform plans."""

    iteration: Int[Array, ""]
    gradient_evaluations: Int[Array, ""]
    accepted: Int[Array, ""]
    refused: Int[Array, ""]
    eta: Float[Array, ""]
    iterate: Profile
    log_magnet: Pair
    metric: Metric
    epoch: Epoch
    best: Candidate
    uniform: Pair


class Pull(NamedTuple):
    """What both players are drawn to in a step: the magnet, in which metric, and how strongly."""

    log_magnet: Pair
    metric: Metric
    alpha: Float[Array, ""] | float


class Moved(NamedTuple):
    """Where a step leads: `distance` is D(x+, x) + D(y+, y), `interaction` |<x+ - x, A (y+ - y)>|."""

    profile: Profile
    distance: Float[Array, ""]
    interaction: Float[Array, ""]


class Attempt(NamedTuple):
    """A step that may be refused."""

    iterate: Profile
    accepted: Bool[Array, ""]
    residual: Float[Array, ""]
    eta: Float[Array, ""]


@dataclass(frozen=True, kw_only=True)
class PrimalDual(ABC):
    """Base of `Anchored`, `Averaged` and `Restarted`, which choose the restart point and the policy to return.

    Attributes:
        relaxation: rho, over-relaxation of the step; above 0.7 it stops converging on trees.
        strength: how strongly the restart point pulls inside an epoch (`mmd.Halpern`).
        mixing: share of the uniform policy at which the metric is measured.
        sufficient: an epoch ends when the residual is at most this share of the epoch's first residual.
        necessary: an epoch also ends when the residual is at most this share of the first one, and rises.
        artificial: an epoch also ends when its steps are this share of all steps so far, and more than 20.
    """

    name: ClassVar[str]
    keeps_best: ClassVar[bool]

    relaxation: Number
    strength: Number
    mixing: Number = 0.25
    sufficient: Number = 0.3
    necessary: Number = 0.8
    artificial: Number = 0.36

    def resolve(self, game: Game) -> "PrimalDual":
        """Nothing to fill in."""
        return self

    def init(self, game: Game, log_policy: Pair) -> PrimalDualState:
        """Start at a policy with full support; costs two gradient evaluations."""
        iterate = metrics.profile(game, log_policy)
        uniform = tuple(
            p.top_down(jnp.asarray(p.uniform(), p_log.dtype)) for p, p_log in zip(game.players, log_policy, strict=True)
        )
        metric, scale = self._measure(game, iterate, uniform)
        zero, one = jnp.zeros((), int), jnp.ones((), iterate.plan[0].dtype)
        epoch = _new_epoch(iterate.plan)
        best = self._measured(game, iterate)
        return PrimalDualState(
            zero, zero + 2, zero, zero, one / scale, iterate, log_policy, metric, epoch, best, uniform
        )

    def step(self, game: Game, state: PrimalDualState) -> PrimalDualState:
        """One attempt; where the restart rule says so, a restart."""
        attempt = self._attempt(game, state)
        epoch, restart = self._account(state, attempt)
        state = state._replace(
            iteration=state.iteration + 1,
            gradient_evaluations=state.gradient_evaluations + 1,
            accepted=state.accepted + attempt.accepted.astype(int),
            refused=jnp.where(attempt.accepted, 0, state.refused + 1),
            eta=attempt.eta,
            iterate=_where(attempt.accepted, attempt.iterate, state.iterate),
            epoch=epoch,
        )
        return jax.lax.cond(restart, lambda s: self._restart(game, s), lambda s: s, state)

    def diagnostics(self, game: Game, state: PrimalDualState) -> Diagnostics:
        """None: the magnet's pull fades, so there is no one regularized game."""
        nan = jnp.full((), jnp.nan, state.eta.dtype)
        return Diagnostics(nan, nan)

    def _attempt(self, game: Game, state: PrimalDualState) -> Attempt:
        """The step of the module docstring, and whether its length is admissible."""
        alpha = Halpern(strength=self.strength).alpha(0.0, (1 + self.relaxation) * state.eta, state.epoch.steps)
        pull = Pull(state.log_magnet, state.metric, alpha)
        moved = stepped(game, state.iterate, pull, state.eta, self.relaxation)
        accepted, eta = judged(moved, state.eta, state.accepted + state.refused, state.refused)
        return Attempt(moved.profile, accepted, jnp.sqrt(moved.distance), eta)

    def _account(self, state: PrimalDualState, attempt: Attempt) -> tuple[Epoch, Bool[Array, ""]]:
        """The epoch with the attempt counted, and whether to restart."""
        epoch = state.epoch
        ok, r = attempt.accepted, attempt.residual
        steps = epoch.steps + ok.astype(int)
        length, total = steps.astype(r.dtype), (state.accepted + 1).astype(r.dtype)
        weight = jnp.where(ok, state.eta * self._average_weight(length), 0.0)
        first = jnp.where(ok & (steps == 1), r, epoch.first_residual)
        fallen = r <= self.sufficient * first
        turned = (r <= self.necessary * first) & (r > epoch.last_residual)
        long = (length >= self.artificial * total) & (steps > MIN_ARTIFICIAL_EPOCH)
        restart = ok & (((steps > 1) & (fallen | turned)) | long)
        return Epoch(
            steps,
            first,
            jnp.where(ok, r, epoch.last_residual),
            tuple(s + weight * p for s, p in zip(epoch.plan_sum, attempt.iterate.plan, strict=True)),
            epoch.weight_sum + weight,
        ), restart

    def _restart(self, game: Game, state: PrimalDualState) -> PrimalDualState:
        """Begin a new epoch at the restart point."""
        iterate, best, evaluations = self._restart_point(game, state)
        metric, _ = self._measure(game, iterate, state.uniform)
        return state._replace(
            gradient_evaluations=state.gradient_evaluations + evaluations + 1,
            iterate=iterate,
            log_magnet=iterate.log_policy,
            metric=metric,
            epoch=_new_epoch(iterate.plan),
            best=best,
        )

    def _average_weight(self, k: Float[Array, ""]) -> Float[Array, ""]:
        """Weight, times eta, of an epoch's k-th step in its average: linear."""
        return k

    @abstractmethod
    def policy(self, game: Game, state: PrimalDualState) -> Candidate:
        """The policy that would be returned now."""

    @abstractmethod
    def _restart_point(self, game: Game, state: PrimalDualState) -> tuple[Profile, Candidate, int]:
        """Where to restart, the best policy seen, and the gradient evaluations that it took."""

    def _measure(self, game: Game, at: Profile, uniform: Pair) -> tuple[Metric, Float[Array, ""]]:
        """The metric at a profile mixed with uniform play."""
        return metric_at(game, at.plan, uniform, self.mixing)

    def _measured(self, game: Game, at: Profile) -> Candidate:
        """A profile as a candidate."""
        return Candidate(at.log_policy, metrics.nash_conv(game, at.gradient), metrics.value(at), jnp.zeros((), int))


def stepped(game: Game, at: Profile, pull: Pull, eta: Float[Array, ""], relaxation: Number = 0.0) -> Moved:
    """The step of the module docstring: the row player, then the column player with the extrapolated gradient.

    Args:
        game: the game.
        at: the profile before it.
        pull: the magnet, the metric and alpha.
        eta: the step size, in 1 / payoff units and without over-relaxation.
        relaxation: rho.
    """
    row, column = game.players
    size, log_magnet, metric = (1 + relaxation) * eta, pull.log_magnet, pull.metric
    log_x = row.magnetic_step(at.log_policy[0], log_magnet[0], at.gradient[0], size, pull.alpha, metric.infosets[0])
    x = row.top_down(log_x)
    to_column = game.gradient(1, x)
    ahead = at.gradient[1] + 2 / (1 + relaxation) * (to_column - at.gradient[1])
    log_y = column.magnetic_step(at.log_policy[1], log_magnet[1], ahead, size, pull.alpha, metric.infosets[1])
    y = column.top_down(log_y)
    to_row = game.gradient(0, y)
    distance = row.bregman(x, log_x, at.log_policy[0], metric.sequences[0])
    distance += column.bregman(y, log_y, at.log_policy[1], metric.sequences[1])
    interaction = jnp.abs(jnp.dot(x - at.plan[0], to_row - at.gradient[0]))
    return Moved(Profile((log_x, log_y), (x, y), (to_row, to_column)), distance, interaction)


def judged(
    moved: Moved, eta: Float[Array, ""], attempts: Int[Array, ""], refused: Int[Array, ""]
) -> tuple[Bool[Array, ""], Float[Array, ""]]:
    """Whether a step is taken, and the next step size, by PDLP's rule.

    Args:
        moved: where the step leads.
        eta: its size.
        attempts: attempts before this one, never reset.
        refused: those since the last step that was taken.
    """
    bar = jnp.where(moved.interaction > 0, moved.distance / moved.interaction, jnp.inf)
    standstill = moved.distance < STANDSTILL
    accepted = (eta <= bar) | (refused >= MAX_REFUSALS) | standstill
    return accepted, jnp.where(standstill, eta, next_step(eta, bar, attempts))


def next_step(eta: Float[Array, ""], bar: Float[Array, ""], attempts: Int[Array, ""]) -> Float[Array, ""]:
    """PDLP's rule: the next step size after `attempts` earlier ones, where `bar` is the longest that was admissible."""
    n = (attempts + 2).astype(eta.dtype)
    return jnp.minimum((1 - n**-0.3) * bar, (1 + n**-0.6) * eta)


def metric_at(game: Game, plan: Pair, uniform: Pair, mixing: Number) -> tuple[Metric, Float[Array, ""]]:
    """Range weights at a profile mixed with uniform play, divided by their joint mean; and that mean.

    Costs one gradient evaluation, with |A|.

    Args:
        game: the game.
        plan: [S0], [S1] the profile.
        uniform: [S0], [S1] uniform play.
        mixing: share of uniform play.
    """
    size = game.payoff.absolute()
    mixed = tuple((1 - mixing) * x + mixing * even for x, even in zip(plan, uniform, strict=True))
    bounds = (size.times(mixed[1]), size.transposed_times(mixed[0]))
    weights = tuple(player.range_weights(b) for player, b in zip(game.players, bounds, strict=True))
    mean = (jnp.sum(weights[0]) + jnp.sum(weights[1])) / (weights[0].size + weights[1].size)
    scaled = tuple(w / mean for w in weights)
    return Metric(scaled, tuple(p.over_sequences(w) for p, w in zip(game.players, scaled, strict=True))), mean


def _new_epoch(plan: Pair) -> Epoch:
    infinity = jnp.full((), jnp.inf, plan[0].dtype)
    zero = jnp.zeros((), plan[0].dtype)
    return Epoch(jnp.zeros((), int), infinity, infinity, tuple(jnp.zeros_like(p) for p in plan), zero)


def _where(condition: Bool[Array, ""], yes: Profile, no: Profile) -> Profile:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
