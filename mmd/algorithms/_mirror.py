"""Unregularized mirror steps with a guess of the gradient: what `optimistic` and `extragradient` share.

With the payoff gradients g(z) = (A y, -A^T x) of a profile z = (x, y) and D the dilated KL with unit weights, one step
from the centre c, with a guess g~ of the gradient ahead, is (both players simultaneously)

    z   =  argmax_z'  <z', g~>    - D(z', c) / eta
    c+  =  argmax_z'  <z', g(z)>  - D(z', c) / eta

The methods differ in the guess: the gradient at the centre (extragradient), or at the z before (optimistic). Each
arg max is `mmd.update` with alpha = 0. With no guess, z = c, this is mirror descent, which circles.

Summing the regrets, for the average of the z, weighted with eta, and the start c_0

    NashConv(average)  <=  max_u D(u, c_0) / sum eta        if   eta <g(z) - g~, c+ - z>  <=  D(z, c) + D(c+, z)

in every step (Nemirovski 2004, whose prox-method adapts its steps by this condition; Rakhlin & Sridharan 2013). In the
dual (log) space c+ and z are eta (g(z) - g~) apart, so the left side is D(c+, z) + D(z, c+) and the condition becomes

    D(z, c+)  <=  D(z, c):        the correction is no longer than the look ahead,

which is free of cancellation. Here a step that fails it is not taken, and the next one starts from the same centre with
the newer gradient as its guess; eta follows PDLP's rule (`_primal_dual`), never below the admissible constant step of
the method, at which steps are taken untested. A refused step is an iteration and costs what any step costs.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mmd.algorithms._primal_dual import next_step
from mmd.algorithms.contract import AVERAGE, ITERATES, LAST, Candidate, Diagnostics
from mmd.game.game import Game, GameError, Number, Pair
from mmd.measure import metrics, theory
from mmd.measure.metrics import Profile


class MirrorState(NamedTuple):
    """The centre, the last iterate (whose gradient is the next guess), the average, and the step size.

    The average is that of the plans of the z taken so far, [S0] and [S1]; `eta_sum` is the sum of its weights.
    """

    iteration: Int[Array, ""]
    gradient_evaluations: Int[Array, ""]
    center: Pair
    iterate: Profile
    average: Pair
    eta_sum: Float[Array, ""]
    eta: Float[Array, ""]


@dataclass(frozen=True, kw_only=True)
class MirrorMethod(ABC):
    """Base of `Optimistic` and `Extragradient`.

    Attributes:
        eta: step size, in 1 / payoff units, or the first and smallest one if it adapts; None for the largest constant
            step that the method's theorem admits.
        adaptive: whether longer steps than `eta` are tried.
        iterate: "last" or "average", which of them is returned.
    """

    name: ClassVar[str]
    keeps_best: ClassVar[bool] = False
    admissible: ClassVar[float]  # the largest constant step, times L of `mmd.measure.theory.operator_norm`
    evaluations: ClassVar[int]  # gradient evaluations of a step

    eta: Number = None
    adaptive: bool = field(default=True, metadata={"static": True})
    iterate: str = field(default=ITERATES[LAST], metadata={"static": True})

    def resolve(self, game: Game) -> "MirrorMethod":
        """Fill in the step size.

        Raises:
            GameError: eta is not positive, or the iterate is neither "average" nor "last".
        """
        if self.iterate not in (ITERATES[AVERAGE], ITERATES[LAST]):
            raise GameError(f"expected iterate to be 'average' or 'last', got {self.iterate!r}")
        bound = theory.operator_norm(game)
        largest = self.admissible / bound if bound > 0 else 1.0
        eta = largest if self.eta is None else self.eta
        if not eta > 0:
            raise GameError(f"expected eta > 0, got {eta}")
        return replace(self, eta=eta)

    def init(self, game: Game, log_policy: Pair) -> MirrorState:
        """Start at a policy with full support; costs one gradient evaluation."""
        at, zero = metrics.profile(game, log_policy), jnp.zeros((), int)
        dtype = at.plan[0].dtype
        eta = jnp.asarray(self.eta, dtype)
        return MirrorState(zero, zero + 1, log_policy, at, at.plan, jnp.zeros((), dtype), eta)

    def step(self, game: Game, state: MirrorState) -> MirrorState:
        """One attempt."""
        ahead = metrics.profile(game, _prox(game, state.center, state.iterate.gradient, state.eta))
        moved = _prox(game, state.center, ahead.gradient, state.eta)
        accepted, eta = self._judge(game, state, ahead, moved) if self.adaptive else (jnp.asarray(True), state.eta)
        center = tuple(jnp.where(accepted, new, old) for new, old in zip(moved, state.center, strict=True))
        weight = jnp.where(accepted, state.eta, 0.0)
        eta_sum = state.eta_sum + weight
        share = jnp.where(accepted, weight / eta_sum, 0.0)
        return MirrorState(
            state.iteration + 1,
            state.gradient_evaluations + self.evaluations,
            center,
            self._iterate(game, ahead, center),
            tuple(mean + share * (plan - mean) for mean, plan in zip(state.average, ahead.plan, strict=True)),
            eta_sum,
            eta,
        )

    def policy(self, game: Game, state: MirrorState) -> Candidate:
        """The last iterate or the average, as `iterate` says."""
        average = self.iterate == ITERATES[AVERAGE]
        at = _average(game, state) if average else state.iterate
        which = jnp.full((), AVERAGE if average else LAST, int)
        return Candidate(at.log_policy, metrics.nash_conv(game, at.gradient), metrics.value(at), which)

    def diagnostics(self, game: Game, state: MirrorState) -> Diagnostics:
        """NashConv of the average, where it is not the policy returned."""
        nan = jnp.full((), jnp.nan, state.eta.dtype)
        if self.iterate == ITERATES[AVERAGE]:
            return Diagnostics(nan, nan)
        return Diagnostics(nan, metrics.nash_conv(game, _average(game, state).gradient))

    def _judge(
        self, game: Game, state: MirrorState, ahead: Profile, moved: Pair
    ) -> tuple[Bool[Array, ""], Float[Array, ""]]:
        """Whether the step is taken, and the next step size."""
        plan = tuple(player.top_down(log) for player, log in zip(game.players, moved, strict=True))
        looked = _distance(game, ahead.plan, ahead.log_policy, state.center)
        back = _distance(game, ahead.plan, ahead.log_policy, moved)
        forth = _distance(game, plan, moved, ahead.log_policy)
        bar = jnp.where(back + forth > 0, state.eta * (looked + forth) / (back + forth), jnp.inf)
        smallest = jnp.asarray(self.eta, state.eta.dtype)
        accepted = (back <= looked) | (state.eta <= smallest)
        return accepted, jnp.maximum(next_step(state.eta, bar, state.iteration), smallest)

    @abstractmethod
    def _iterate(self, game: Game, ahead: Profile, center: Pair) -> Profile:
        """The last iterate; its gradient is the next step's guess."""


def _prox(game: Game, log_policy: Pair, gradient: Pair, eta: Float[Array, ""]) -> Pair:
    """`argmax_z <z, gradient> - D(z, policy) / eta`, for both players."""
    return tuple(
        player.magnetic_step(log, log, g, eta, 0.0, jnp.ones(player.n_infosets, g.dtype))
        for player, log, g in zip(game.players, log_policy, gradient, strict=True)
    )


def _distance(game: Game, plan: Pair, log_policy: Pair, log_reference: Pair) -> Float[Array, ""]:
    """D of both players, from a profile given in both forms to a reference."""
    both = zip(game.players, plan, log_policy, log_reference, strict=True)
    return sum((player.bregman(x, log_x, log_r) for player, x, log_x, log_r in both), jnp.zeros((), plan[0].dtype))


def _average(game: Game, state: MirrorState) -> Profile:
    """The average, with its gradients; where it underflows, the policy is the last iterate's."""
    pairs = zip(game.players, state.average, state.iterate.log_policy, strict=True)
    return metrics.profile(game, tuple(player.log_policy_of(mean, last) for player, mean, last in pairs))
