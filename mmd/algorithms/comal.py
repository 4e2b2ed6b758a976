"""COMAL: the conceptual prox, each regularized game solved to an accuracy that is measured, then the next magnet.

    mu_n+1  ~  the Nash equilibrium of the game regularized by alpha KL(., mu_n)

by steps of `inpo` with constant eta, from mu_n. The magnet is copied once the regularized gap, measured with the
gradients that the step asks for anyway, is at most `first * shrink^n` after n copies, or after `at_most` steps.

Source: Liu et al., "COMAL: A Convergent Meta-Algorithm for Aligning LLMs with General Preferences", ICLR 2026,
Algorithm 1 and Theorems 1 and 3.

Proven: the *last* iterate converges to a Nash equilibrium of the *original* game for every alpha > 0, also with inexact
solutions whose errors are summable (Theorem 3), which a geometric sequence is. No rate. Same outer scheme as MPO, whose
theorem needs exact solutions.

Deviations: the paper's practical form moves the reference after a fixed number of steps, which is `mpo`. With noisy
feedback the measured gap does not go to 0; then `at_most` is what moves the magnet.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from mmd.algorithms._selfplay import Rates, RegularizedSelfPlay, SelfPlayState, plans
from mmd.algorithms.inpo import INPO
from mmd.game.game import Game, GameError, Number, Pair
from mmd.magnets import Magnet
from mmd.measure import metrics


class Solving(NamedTuple):
    """The magnet of now, the steps since it was copied, and how often it was copied."""

    log_magnet: Pair
    age: Int[Array, ""]
    solved: Int[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class COMAL(INPO):
    """COMAL; returns the last iterate.

    Attributes:
        first: regularized gap to which the first game is solved, in payoff units.
        shrink: factor from one game to the next, in (0, 1).
        at_most: steps spent on a game.
    """

    name: ClassVar[str] = "comal"
    moves_magnet: ClassVar[bool] = True

    first: Number = 0.01
    shrink: Number = 0.5
    at_most: Number = 10_000

    def resolve(self, game: Game) -> Any:
        """Fill in the defaults; check the numbers.

        Raises:
            GameError: as for the base; `first` is not positive, `shrink` not in (0, 1), or `at_most` below 1; the
                magnet has a motion of its own.
        """
        if not (self.first > 0 and 0 < self.shrink < 1 and self.at_most >= 1):
            numbers = f"{self.first}, {self.shrink} and {self.at_most}"
            raise GameError(f"expected first > 0, shrink between 0 and 1 and at_most >= 1, got {numbers}")
        if not (isinstance(self.magnet, Magnet) and self.magnet.regularizes and not self.magnet.travels):
            raise GameError(f"comal moves the magnet itself: expected mmd.Fixed(...), got {self.magnet!r}")
        return super().resolve(game)

    def _default_eta(self, game: Game) -> Number:
        return RegularizedSelfPlay._default_eta(self, game)

    def _start(self, game: Game, log_policy: Pair) -> Solving:
        zero = jnp.zeros((), int)
        return Solving(super()._start(game, log_policy).log_magnet, zero, zero)

    def _move(self, game: Game, state: SelfPlayState, keys: list[jax.Array]) -> tuple[Pair, Solving]:
        """Measure, copy the magnet if that is good enough, step."""
        memory: Solving = state.memory
        asked = self._asked(game, state.log_policy, keys[0])
        at = metrics.Profile(state.log_policy, plans(state.log_policy), asked)
        gap = metrics.regularized_gap(game, at, memory.log_magnet, self.alpha)
        wanted = self.first * self.shrink ** memory.solved.astype(gap.dtype)
        done = (memory.age > 0) & ((gap <= wanted) | (memory.age >= self.at_most))
        log_magnet = tuple(jnp.where(done, pi, mu) for pi, mu in zip(state.log_policy, memory.log_magnet, strict=True))
        rates = Rates(jnp.asarray(self.eta, float), jnp.asarray(self.alpha, float))
        moved = self._magnetic(game, state.log_policy, log_magnet, asked, rates)
        return moved, Solving(log_magnet, jnp.where(done, 1, memory.age + 1), memory.solved + done.astype(int))


ALGORITHM = COMAL
