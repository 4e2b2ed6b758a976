"""CFR+: regrets never below zero, alternating updates, linear average.

    R_t = [R_t-1 + r_t]+        pi_t+1 = R_t / sum R_t        at every infoset (`_regret` defines r)

Sources: Tammelin, "Solving Large Imperfect Information Games Using CFR+", arXiv:1407.5042, 2014; Tammelin, Burch,
Johanson, Bowling, "Solving Heads-up Limit Texas Hold'em", IJCAI 2015. On a matrix game it is RM+.

Proven: the exploitability of the linearly weighted *average* iterate is O(1 / sqrt T); with alternating updates by
Burch, Moravcik, Schmid, "Revisiting CFR+ and Alternating Updates", JAIR 2019. In practice it falls about as 1 / T. The
last iterate need not converge: RM+ circles on a 3 x 3 matrix (Cai et al., arXiv:2311.00676).

Clipping at zero makes rounding matter: where actions tie exactly, a regret of 1e-18 is a regret and decides the policy.
On Leduc poker, payoffs changed by 1e-15 change the average's exploitability after 1,000 iterations by some per cent.

Deviations: none; the averaging delay d of the paper is 0.
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
class CFRPlus(RegretMinimizer):
    """CFR+; returns the linearly weighted average."""

    name: ClassVar[str] = "cfr+"

    averaging: Number = 1.0

    def _accumulate(
        self, regrets: Float[Array, " S"], observed: Float[Array, " S"], t: Float[Array, ""]
    ) -> Float[Array, " S"]:
        return jnp.maximum(regrets + observed, 0.0)


ALGORITHM = CFRPlus
