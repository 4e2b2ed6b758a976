"""PDCFR+: predictive discounted CFR+, alternating updates, average with weights t^5.

    R_t = [d_t-1 R_t-1 + r_t]+        d_t = t^a / (t^a + 1)
    pi_t+1 = [d_t R_t + m]+ / sum [d_t R_t + m]+        m = r_t        at every infoset (`_regret` defines r)

The next policy is the one that the same rule would play if the regret just observed came again. Old regrets fade as in
discounted CFR, so that what a blunder cost is sooner forgotten than by PCFR+. Here a = 2.3 and the average has weights
t^5, as the paper has them in all its experiments.

Source: Xu, Li, Liu, Fu, Fu, Xing, Cheng, "Minimizing Weighted Counterfactual Regret with Optimistic Online Mirror
Descent", IJCAI 2024, and its authors' code. On a matrix game it is predictive discounted RM+.

Proven: the *average* iterate converges to an equilibrium, O(1 / sqrt T) where regrets and average have the same
weights; with other weights, as here, under conditions on them. The last iterate is not proven to converge.

Deviation: the average begins with the policy that iteration 1 puts out, as everywhere in `_regret`, and leaves out the
start, which the authors weigh like iteration 1.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmd.algorithms._regret import RegretMinimizer
from mmd.game.game import Number


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class PredictiveDiscountedCFRPlus(RegretMinimizer):
    """Predictive discounted CFR+; returns the average with weights t^5.

    Attributes:
        averaging: p (the paper's gamma).
        power: a (the paper's alpha); the larger, the less is forgotten.
    """

    name: ClassVar[str] = "pdcfr+"

    averaging: Number = 5.0
    power: Number = 2.3

    def _accumulate(
        self, regrets: Float[Array, " S"], observed: Float[Array, " S"], t: Float[Array, ""]
    ) -> Float[Array, " S"]:
        return jnp.maximum(self._discount(t - 1) * regrets + observed, 0.0)

    def _target(
        self, regrets: Float[Array, " S"], observed: Float[Array, " S"], t: Float[Array, ""]
    ) -> Float[Array, " S"]:
        return self._discount(t) * regrets + observed

    def _discount(self, t: Float[Array, ""]) -> Float[Array, ""]:
        return t**self.power / (t**self.power + 1)


ALGORITHM = PredictiveDiscountedCFRPlus
