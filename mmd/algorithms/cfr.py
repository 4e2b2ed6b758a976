"""CFR: counterfactual regret minimisation, with simultaneous updates and the uniform average.

    R_t = R_t-1 + r_t        pi_t+1 = [R_t]+ / sum [R_t]+        at every infoset (`_regret` defines r)

Source: Zinkevich, Johanson, Bowling, Piccione, "Regret Minimization in Games with Incomplete Information", NeurIPS
2007. On a matrix game it is regret matching (Hart & Mas-Colell 2000).

Proven: the exploitability of the *average* iterate is O(1 / sqrt T), with a constant linear in the payoff range and the
number of infosets. The last iterate need not converge: it moves around the equilibrium.

Deviations: none but the convention that the average begins with the first policy that follows from regrets.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
from jaxtyping import Array, Float

from mmd.algorithms._regret import RegretMinimizer
from mmd.game.game import Number


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class CFR(RegretMinimizer):
    """Counterfactual regret minimisation; returns the uniform average."""

    name: ClassVar[str] = "cfr"
    simultaneous: ClassVar[bool] = True

    averaging: Number = 0.0

    def _accumulate(
        self, regrets: Float[Array, " S"], observed: Float[Array, " S"], t: Float[Array, ""]
    ) -> Float[Array, " S"]:
        return regrets + observed


ALGORITHM = CFR
