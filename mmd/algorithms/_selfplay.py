"""Self-play on one infoset: what the methods that were published for preference games share.

A model plays itself: the row and the column player move simultaneously, each against the other's policy of now, and a
method is what it does with the payoff gradients q that its feedback (`mmd.feedback`) reports. In a symmetric game a
symmetric profile stays symmetric, so both players are the one model. In any other matrix game they are two.

Methods that are regularized towards a magnet mu share more: with the mirror descent step eta on the regularized payoff,

    log pi+  =  (1 - eta alpha) log pi + eta alpha log mu + eta q - log Z

is the magnetic step (`mmd.update`) of size eta / (1 - eta alpha), by Prop. D.7 of the MMD paper, and it is the plain
step of size eta from the mixture of policy and magnet, which exists up to eta alpha = 1. The papers below all count
their steps in the eta of mirror descent; so do their files here. Alpha is what the magnet makes of it in that step.

A step of cost c asks for the gradients c times. Nothing else is counted: NashConv is measured at checks, exactly, from
products that no method sees.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt32

from mmd import magnets
from mmd.algorithms.contract import AVERAGE, ITERATES, LAST, Candidate, Diagnostics
from mmd.feedback import Exact, Feedback
from mmd.game.game import Game, GameError, Number, Pair
from mmd.measure import metrics, theory

PULL_ROUNDING = 1e-6  # of float32, by which a pull of 1 may be measured


class SelfPlayState(NamedTuple):
    """The iterate, the average, and what a method remembers.

    Attributes:
        preference_calls: comparisons that the feedback has asked for.
        key: data of the random key that the next step starts from.
        log_policy: [S0], [S1] the last iterate; -inf where a method has put 0.
        average: [S0], [S1] mean of the plans at which a step began, this one excluded; the start before the first.
        memory: the method's own.
    """

    iteration: Int[Array, ""]
    gradient_evaluations: Int[Array, ""]
    preference_calls: Int[Array, ""]
    key: UInt32[Array, "2"]
    log_policy: Pair
    average: Pair
    memory: Any


@dataclass(frozen=True, kw_only=True)
class SelfPlay(ABC):
    """Base of the methods.

    Attributes:
        eta: step size, in 1 / payoff units; None for what the method's module says.
        feedback: what is known about payoffs.
        seed: of the feedback's randomness.
        iterate: "last" or "average", which of them is returned; None for the one that the method's theorem is about.
        calls: comparisons of one evaluation; filled in by `resolve`.
        mirrored: whether the game is symmetric, so that both players' gradients are A times a plan; filled in by
            `resolve`. Then rounding treats both alike, and a symmetric profile stays symmetric to the last bit.
    """

    name: ClassVar[str]
    keeps_best: ClassVar[bool] = False
    evaluations: ClassVar[int] = 1
    guaranteed: ClassVar[int] = LAST  # which iterate the theorem is about

    eta: Number = None
    feedback: Feedback = field(default_factory=Exact)
    seed: Number = 0
    iterate: str | None = field(default=None, metadata={"static": True})
    calls: Number = field(default=None, metadata={"derived": True})
    mirrored: bool = field(default=False, metadata={"derived": True, "static": True})

    def resolve(self, game: Game) -> Any:
        """Fill in the defaults; check the numbers.

        Raises:
            GameError: the game is a tree, a number is out of range, or the feedback is not defined on the game.
        """
        if not game.is_matrix:
            raise GameError(
                f"{self.name} is defined on matrix games, one choice a player, and {game.name} is a tree: try "
                "mmd-behavioral, mmd or optimistic, or the preference game of its complete sequences"
            )
        if self.iterate not in (None, ITERATES[AVERAGE], ITERATES[LAST]):
            raise GameError(f"expected iterate to be 'average' or 'last', got {self.iterate!r}")
        if self.eta is not None and not self.eta > 0:
            raise GameError(f"expected eta > 0, got {self.eta}")
        if not isinstance(self.feedback, Feedback):
            raise GameError(f"expected a feedback such as mmd.Exact() or mmd.NoisyJudge(), got {self.feedback!r}")
        self.feedback.check(game)
        return replace(
            self,
            eta=self._default_eta(game) if self.eta is None else self.eta,
            iterate=self.iterate or ITERATES[self.guaranteed],
            calls=self.feedback.calls(game),
            mirrored=game.description.symmetric,
        )

    def _default_eta(self, game: Game) -> Number:
        """The step size where none is given; None for a schedule."""
        return 0.5 / (theory.smoothness(game) or 1.0)

    def init(self, game: Game, log_policy: Pair) -> SelfPlayState:
        """Start at a pair of policies with full support."""
        zero = jnp.zeros((), int)
        key = jax.random.key_data(jax.random.key(self.seed))
        return SelfPlayState(zero, zero, zero, key, log_policy, plans(log_policy), self._start(game, log_policy))

    def _start(self, game: Game, log_policy: Pair) -> Any:
        """The memory before the first step."""
        return ()

    @abstractmethod
    def _move(self, game: Game, state: SelfPlayState, keys: list[jax.Array]) -> tuple[Pair, Any]:
        """The next iterate and memory; a key for each evaluation."""

    def step(self, game: Game, state: SelfPlayState) -> SelfPlayState:
        """One simultaneous step of both players."""
        key, *keys = jax.random.split(jax.random.wrap_key_data(state.key), 1 + self.evaluations)
        log_policy, memory = self._move(game, state, keys)
        share = 1.0 / (state.iteration + 1).astype(log_policy[0].dtype)
        now = plans(state.log_policy)
        return SelfPlayState(
            state.iteration + 1,
            state.gradient_evaluations + self.evaluations,
            state.preference_calls + self.evaluations * jnp.asarray(self.calls, int),
            jax.random.key_data(key),
            log_policy,
            tuple(mean + share * (plan - mean) for mean, plan in zip(state.average, now, strict=True)),
            memory,
        )

    def policy(self, game: Game, state: SelfPlayState) -> Candidate:
        """The last iterate or the average, as `iterate` says."""
        which = ITERATES.index(self.iterate or ITERATES[self.guaranteed])
        log_policy = state.log_policy if which == LAST else logs(state.average)
        at = metrics.profile(game, log_policy)
        return Candidate(log_policy, metrics.nash_conv(game, at.gradient), metrics.value(at), jnp.full((), which, int))

    def diagnostics(self, game: Game, state: SelfPlayState) -> Diagnostics:
        """NashConv of the average, where it is not the policy returned."""
        nan = jnp.full((), jnp.nan, state.log_policy[0].dtype)
        if self.iterate == ITERATES[AVERAGE]:
            return Diagnostics(nan, nan)
        return Diagnostics(nan, metrics.nash_conv(game, metrics.profile(game, logs(state.average)).gradient))

    def _asked(self, game: Game, log_policy: Pair, key: jax.Array) -> Pair:
        """The gradients that the feedback reports at a profile."""
        row, column = plans(log_policy)
        return self._told(game, 0, column, key), self._told(game, 1, row, key)

    def _told(self, game: Game, player: int, opponent_plan: Float[Array, " T"], key: jax.Array) -> Float[Array, " S"]:
        """The gradient that the feedback reports to one player: half an evaluation."""
        return self.feedback.gradient(game, 0 if self.mirrored else player, opponent_plan, key)


class Pulled(NamedTuple):
    """The magnet, as log-policies."""

    log_magnet: Pair


class Rates(NamedTuple):
    """The step size of a step, and the regularization in it."""

    eta: Float[Array, ""]
    alpha: Float[Array, ""]


@dataclass(frozen=True, kw_only=True)
class RegularizedSelfPlay(SelfPlay):
    """Base of the methods that are drawn to a magnet; `eta` is the step of mirror descent on the regularized payoff.

    Attributes:
        alpha: regularization towards the magnet, in payoff units.
        magnet: where the magnet starts and how it moves.
    """

    moves_magnet: ClassVar[bool] = False  # otherwise than the magnet itself says

    alpha: Number = 0.1
    magnet: magnets.Magnet = field(default_factory=magnets.Fixed)

    def resolve(self, game: Game) -> Any:
        """Fill in the defaults; check the numbers.

        Raises:
            GameError: as for the base; alpha is not positive; a step of eta alpha >= 1, past the magnet, or > 1 where
                the magnet chooses alpha.
        """
        if not self.alpha > 0:
            raise GameError(f"expected alpha > 0, got {self.alpha}: without it this is self-play")
        if not isinstance(self.magnet, magnets.Magnet):
            raise GameError(f"expected a magnet such as mmd.Fixed() or mmd.Refresh(every=200), got {self.magnet!r}")
        filled = super().resolve(game)
        self._check_pull(filled.eta)
        return replace(filled, magnet=self.magnet.resolve(game))

    def _check_pull(self, eta: Number) -> None:
        """Refuse steps past the magnet; eta is None for a schedule, which has none."""
        if self.magnet.regularizes:
            if eta is not None and not eta * self.alpha < 1:
                pull = f"{eta * self.alpha:g}"
                raise GameError(f"expected eta alpha < 1, a step that ends before the magnet, got {pull}")
            return
        eta = 1.0 if eta is None else eta
        if not (pull := float(eta * self.magnet.alpha(self.alpha, eta, 0))) <= 1 + PULL_ROUNDING:
            step = f"{self.name} ends past the magnet"
            raise GameError(f"{step}: expected eta alpha <= 1 in its first step, got {pull:g} from {self.magnet!r}")

    def _default_eta(self, game: Game) -> Number:
        """The mirror descent step of MMD's largest admissible one, alpha / L^2."""
        largest = theory.largest_step(game, self.alpha)
        return largest * theory.contraction_factor(largest, self.alpha)

    def _start(self, game: Game, log_policy: Pair) -> Any:
        return Pulled(tuple(m.astype(log_policy[0].dtype) for m in self.magnet.start(game)))

    def _move(self, game: Game, state: SelfPlayState, keys: list[jax.Array]) -> tuple[Pair, Any]:
        """The method's step, then the magnet's."""
        log_magnet, eta = state.memory.log_magnet, self._eta(state.iteration)
        rates = Rates(eta, self.magnet.alpha(self.alpha, eta, state.iteration))
        log_policy = self._regularized(game, state.log_policy, log_magnet, rates, keys)
        step = magnets.Step(state.log_policy, plans(log_policy), log_policy, rates.eta * rates.alpha)
        return log_policy, Pulled(self.magnet.moved(game, log_magnet, step, state.iteration + 1))

    def _eta(self, iteration: Int[Array, ""]) -> Float[Array, ""]:
        """The step size of a step; `iteration` steps were taken before."""
        return jnp.asarray(self.eta, float)

    @abstractmethod
    def _regularized(self, game: Game, log_policy: Pair, log_magnet: Pair, rates: Rates, keys: list[jax.Array]) -> Pair:
        """The step with a given magnet."""

    def _magnetic(self, game: Game, log_policy: Pair, log_magnet: Pair, gradients: Pair, rates: Rates) -> Pair:
        """The magnetic step that is a mirror descent step of size eta."""
        return mirror(game, mixture(game, log_policy, log_magnet, rates.eta * rates.alpha), gradients, rates.eta)

    def diagnostics(self, game: Game, state: SelfPlayState) -> Diagnostics:
        """The gap of the game regularized towards the current magnet; NashConv of the average."""
        at = metrics.profile(game, state.log_policy)
        gap = metrics.regularized_gap(game, at, state.memory.log_magnet, self.alpha)
        known = gap if self.magnet.regularizes else jnp.full_like(gap, jnp.nan)
        return super().diagnostics(game, state)._replace(regularized_gap=known)


def magnetic(
    game: Game,
    log_policies: tuple[Pair, Pair],
    gradients: Pair,
    eta: Float[Array, ""] | float,
    alpha: Float[Array, ""] | float,
) -> Pair:
    """`argmax_z <z, gradients> - alpha KL(z, magnet) - KL(z, policy) / eta` of both players, from (policy, magnet)."""
    return tuple(
        player.magnetic_step(log, magnet, g, eta, alpha, jnp.ones(player.n_infosets, g.dtype))
        for player, log, magnet, g in zip(game.players, *log_policies, gradients, strict=True)
    )


def mirror(game: Game, log_policy: Pair, gradients: Pair, eta: Float[Array, ""] | float) -> Pair:
    """`argmax_z <z, gradients> - KL(z, policy) / eta` of both players."""
    return magnetic(game, (log_policy, log_policy), gradients, eta, 0.0)


def mixture(game: Game, log_policy: Pair, log_magnet: Pair, share: Float[Array, ""]) -> Pair:
    """The geometric mixture of policy and magnet, prop. to `policy^(1 - share) magnet^share`."""
    return tuple(
        player.normalized((1 - share) * pi + share * mu)
        for player, pi, mu in zip(game.players, log_policy, log_magnet, strict=True)
    )


def projected(point: Float[Array, " S"]) -> Float[Array, " S"]:
    """The nearest plan of one infoset in the Euclidean norm; entry 0, the empty sequence, is 1.

    Subtract from all what makes the positive part sum to 1; found by sorting (Held, Wolfe, Crowder 1974).
    """
    actions = point[1:]
    falling = jnp.sort(actions)[::-1]
    excess = (jnp.cumsum(falling) - 1.0) / jnp.arange(1, len(actions) + 1, dtype=point.dtype)
    last = jnp.sum(falling > excess) - 1
    return jnp.concatenate([jnp.ones(1, point.dtype), jnp.maximum(actions - excess[last], 0.0)])


def plans(log_policy: Pair) -> Pair:
    """Probabilities; on one infoset that is the plan."""
    return tuple(jnp.exp(log) for log in log_policy)


def logs(plan: Pair) -> Pair:
    """Log-policies of plans of one infoset, -inf where there is no mass."""
    return tuple(jnp.log(x).at[0].set(0.0) for x in plan)
