"""Gradient ascent with boosted payoff perturbation (GABP), Euclidean.

    x_t+1  =  Proj( x_t + eta ( q_t - alpha (x_t - a_k) ) )        a_k  =  (k s_k + s_1) / (k + 1)

for both players. The anchor s_k is copied from the iterate every `every` steps, k = 1, 2, ... counts the copies, and
s_1 is the start: the pull is Halpern's, between the newest anchor and the first.

Source: Abe et al., "Boosting Perturbed Gradient Ascent for Last-Iterate Convergence in Games", ICLR 2025, Algorithm 1
and Theorems 4.1 and 4.3.

Proven: for eta < alpha / (L + alpha)^2, L the spectral norm of the payoffs, and `every` proportional to
max(1, 6 ln(3 (T + 1)) / ln(1 + eta alpha)), the *last* iterate has gap O(1 / T) up to logarithms, to a Nash equilibrium
of the *original* game; with noisy gradients and its own schedule O(T^(-1/7)).

Deviations: none; the default eta is the theorem's bound, the default period is ours.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from mmd.algorithms._selfplay import SelfPlay, SelfPlayState, logs, plans, projected
from mmd.game.game import Game, GameError, Number, Pair
from mmd.measure.theory import spectral_norm


class Anchors(NamedTuple):
    """Plans: the start and the newest anchor; its number k, and the steps since it was copied."""

    first: Pair
    newest: Pair
    number: Int[Array, ""]
    age: Int[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class GABP(SelfPlay):
    """GABP; returns the last iterate.

    Attributes:
        alpha: strength of the perturbation (the paper's mu), in payoff units.
        every: steps between two copies of the anchor.
    """

    name: ClassVar[str] = "gabp"

    alpha: Number = 0.1
    every: Number = 100

    def resolve(self, game: Game) -> Any:
        """Fill in the step size; check the numbers.

        Raises:
            GameError: as for the base; alpha is not positive, or the period below 1.
        """
        if not (self.alpha > 0 and self.every >= 1):
            raise GameError(f"expected alpha > 0 and every >= 1, got {self.alpha} and {self.every}")
        return super().resolve(game)

    def _default_eta(self, game: Game) -> Number:
        largest = spectral_norm(game) + self.alpha
        return self.alpha / largest / largest

    def _start(self, game: Game, log_policy: Pair) -> Anchors:
        return Anchors(plans(log_policy), plans(log_policy), jnp.ones((), int), jnp.zeros((), int))

    def _move(self, game: Game, state: SelfPlayState, keys: list[jax.Array]) -> tuple[Pair, Anchors]:
        at: Anchors = state.memory
        now, asked = plans(state.log_policy), self._asked(game, state.log_policy, keys[0])
        k = at.number.astype(now[0].dtype)
        moved = tuple(
            projected(x + self.eta * (q - self.alpha * (x - (k * newest + first) / (k + 1))))
            for x, q, newest, first in zip(now, asked, at.newest, at.first, strict=True)
        )
        copy = at.age + 1 >= self.every
        newest = tuple(jnp.where(copy, x, anchor) for x, anchor in zip(moved, at.newest, strict=True))
        return logs(moved), Anchors(at.first, newest, at.number + copy.astype(int), jnp.where(copy, 0, at.age + 1))


ALGORITHM = GABP
