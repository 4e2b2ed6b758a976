"""Iterative Nash Policy Optimization (INPO): online mirror descent on the regularized game.

    pi_t+1  prop. to  pi_t^(1 - eta_t alpha) mu^(eta_t alpha) exp(eta_t q_t)
    eta_t    =  2 / (alpha (t + 2))        t = 1, 2, ...

It is MMD (`magnetic`) counted in the step of mirror descent, eta_t = eta' / (1 + eta' alpha); the paper writes 1 / eta.

Source: Zhang et al., "Iterative Nash Policy Optimization: Aligning LLMs with General Preferences via No-Regret
Learning", ICLR 2025, eq. 5 and Theorems 3 and 4.

Proven: with these eta_t the *last* iterate converges to the Nash equilibrium pi* of the *regularized* game,
KL(pi*, pi_T) <= 32 C^2 / (alpha^2 (T + 1)), C = max(B alpha, 1), B a bound on the log ratios to the magnet, from which
it starts. With a constant eta that MMD's theorem admits, linearly (`mmd.measure.theory`), which is the paper's method
with better constants: give eta.

Deviations: none; the regression that the paper solves each round has this closed form as its minimum.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mmd.algorithms._selfplay import Rates, RegularizedSelfPlay
from mmd.game.game import Game, Number, Pair


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class INPO(RegularizedSelfPlay):
    """INPO; returns the last iterate. With eta None it follows the paper's schedule."""

    name: ClassVar[str] = "inpo"

    def _default_eta(self, game: Game) -> Number:
        return None

    def _eta(self, iteration: Int[Array, ""]) -> Float[Array, ""]:
        if self.eta is not None:
            return jnp.asarray(self.eta, float)
        return 2.0 / (self.alpha * (iteration.astype(float) + 3.0))

    def _regularized(self, game: Game, log_policy: Pair, log_magnet: Pair, rates: Rates, keys: list[jax.Array]) -> Pair:
        return self._magnetic(game, log_policy, log_magnet, self._asked(game, log_policy, keys[0]), rates)


ALGORITHM = INPO
