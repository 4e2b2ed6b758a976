"""Nash mirror descent (Nash-MD): play against, and step from, a mixture of the model and the magnet.

    pi'_t    prop. to  pi_t^(1 - eta_t alpha) mu^(eta_t alpha)
    pi_t+1   prop. to  pi'_t exp(eta_t q(pi'_t))
    eta_t    =  2 / (alpha (t + 2))        t = 0, 1, 2, ...

Source: Munos et al., "Nash Learning from Human Feedback", ICML 2024, section 6 and Theorem 1.

Proven: with preferences in [0, 1] and these eta_t the *last* iterate converges to the Nash equilibrium pi* of the
*regularized* game, KL(pi*, pi_T) <= 8 / (alpha^2 (T + 1)); with any eta, a step has
KL(pi*, pi_t+1) <= (1 - eta alpha) KL(pi*, pi_t) + 2 eta^2, which ends at 2 eta / alpha with constant eta.

Deviations: none in the tabular form. The language-model form samples the mixture token by token, which this is not.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mmd.algorithms._selfplay import Rates, RegularizedSelfPlay, mirror, mixture
from mmd.game.game import Game, GameError, Number, Pair


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class NashMD(RegularizedSelfPlay):
    """Nash-MD; returns the last iterate. With eta None it follows the paper's schedule."""

    name: ClassVar[str] = "nash-md"

    def _check_pull(self, eta: Number) -> None:
        if not self.magnet.regularizes:
            super()._check_pull(eta)
        elif eta is not None and not eta * self.alpha <= 1:
            raise GameError(f"expected eta alpha <= 1, a mixture of policy and magnet, got {eta * self.alpha:g}")

    def _default_eta(self, game: Game) -> Number:
        return None

    def _eta(self, iteration: Int[Array, ""]) -> Float[Array, ""]:
        if self.eta is not None:
            return jnp.asarray(self.eta, float)
        return 2.0 / (self.alpha * (iteration.astype(float) + 2.0))

    def _regularized(self, game: Game, log_policy: Pair, log_magnet: Pair, rates: Rates, keys: list[jax.Array]) -> Pair:
        mixed = mixture(game, log_policy, log_magnet, rates.eta * rates.alpha)
        return mirror(game, mixed, self._asked(game, mixed, keys[0]), rates.eta)


ALGORITHM = NashMD
