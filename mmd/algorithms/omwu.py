"""Optimistic multiplicative weights (OMWU) for preference games: the last gradient but one is corrected for.

    log pi_t+1  =  log pi_t + eta (2 q_t - q_t-1) - log Z                                          q_-1 = q_0

Without noise and with the same eta this is `optimistic` with constant steps, which also adapts them; here the gradients
may be noisy.

Sources: Daskalakis & Panageas, "Last-Iterate Convergence: Zero-Sum Games and Constrained Min-Max Optimization", ITCS
2019; Wei et al., ICLR 2021; for alignment, Chen et al., arXiv:2512.24818.

Proven: with a small enough constant eta the *last* iterate converges linearly to a Nash equilibrium of the *original*
game, after a burn-in and at a rate that depends on the game, where the equilibrium is unique (Wei et al.) or one of
full support exists (Chen et al.); without either it can keep a constant gap for arbitrarily long (Cai et al., NeurIPS
2024).

Deviations: the default step, 1 / (2 L), is far above the theorems' and was measured to converge; at 1 / L and more some
games diverge.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from mmd.algorithms._selfplay import SelfPlay, SelfPlayState, mirror
from mmd.game.game import Game, Pair


class Before(NamedTuple):
    """The gradients of the step before, if there was one."""

    gradients: Pair
    known: Bool[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class OptimisticMWU(SelfPlay):
    """Optimistic multiplicative weights; returns the last iterate."""

    name: ClassVar[str] = "omwu"

    def _start(self, game: Game, log_policy: Pair) -> Before:
        return Before(tuple(jnp.zeros_like(log) for log in log_policy), jnp.asarray(False))

    def _move(self, game: Game, state: SelfPlayState, keys: list[jax.Array]) -> tuple[Pair, Before]:
        asked, before = self._asked(game, state.log_policy, keys[0]), state.memory
        guesses = tuple(
            2 * new - jnp.where(before.known, old, new) for new, old in zip(asked, before.gradients, strict=True)
        )
        return mirror(game, state.log_policy, guesses, self.eta), Before(asked, jnp.asarray(True))


ALGORITHM = OptimisticMWU
