"""DCFR: discounted counterfactual regret minimisation, DCFR(3/2, 0, 2), alternating updates.

    R_t = d(R_t-1 + r_t)        d(R) = R t^a / (t^a + 1) if R > 0, else R t^b / (t^b + 1)
    pi_t+1 = [R_t]+ / sum [R_t]+        at every infoset (`_regret` defines r)

and the contributions to the average are multiplied by (t / (t+1))^c after iteration t, which makes the weight of
iteration t proportional to t^c. Here a = 3/2, b = 0 (negative regrets are halved), c = 2, as the paper recommends.

Source: Brown & Sandholm, "Solving Imperfect-Information Games via Discounted Regret Minimization", AAAI 2019. On a
matrix game it is discounted regret matching.

Proven: with these numbers the exploitability of the weighted *average* iterate is O(1 / sqrt T). The last iterate is
not proven to converge.

Deviations: none.
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
class DiscountedCFR(RegretMinimizer):
    """Discounted CFR; returns the quadratically weighted average.

    Attributes:
        positive_power: a (the paper's alpha); the larger, the less is forgotten.
        negative_power: b (the paper's beta).
        averaging: c (the paper's gamma).
    """

    name: ClassVar[str] = "dcfr"

    averaging: Number = 2.0
    positive_power: Number = 1.5
    negative_power: Number = 0.0

    def _accumulate(
        self, regrets: Float[Array, " S"], observed: Float[Array, " S"], t: Float[Array, ""]
    ) -> Float[Array, " S"]:
        total = regrets + observed
        kept, forgiven = (t**power / (t**power + 1) for power in (self.positive_power, self.negative_power))
        return total * jnp.where(total > 0, kept, forgiven)


ALGORITHM = DiscountedCFR
