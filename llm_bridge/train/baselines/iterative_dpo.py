"""Iterative DPO: logistic regression of preferences on log-ratios to the policy of the round's beginning.

    loss = -mean over pairs of P(y_i > y_j) log sigmoid(u_i - u_j),    u_i = (log pi(y_i) - log pi_k(y_i)) / eta

Source: Rafailov et al., "Direct Preference Optimization", NeurIPS 2023, with fresh pairs and a new reference each round
(Xu et al. 2023, "Some things are more CRINGE than others"; Xiong et al. 2024). Built on Bradley-Terry rewards; it is no
method for Nash equilibria, and circles where preferences do. DPO's beta is 1 / eta.

Deviation: soft preferences over all pairs of a group.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from llm_bridge.train.loop import Method
from llm_bridge.train.objective import Judged, Numbers, Objective, Seen, pair_weights


@dataclass(frozen=True)
class PairedLogistic(Objective):
    """The loss of DPO with soft labels."""

    def __call__(self, seen: Seen, judged: Judged, numbers: Numbers) -> Float[Array, ""]:
        """Mean over answered pairs of -P(y_i > y_j) log sigmoid(u_i - u_j), the two orders of a pair added; nats."""
        policy, before, _ = seen.responses()
        ratio = (policy - before) / numbers.eta
        margin = ratio[:, :, None] - ratio[:, None, :]
        weight, preference = pair_weights(seen, judged)
        return -jnp.sum(weight * preference * jax.nn.log_sigmoid(margin)) * 2


@dataclass(frozen=True)
class IterativeDPO(Method):
    """Iterative Direct Preference Optimization; alpha has no part in it."""

    has_magnet: ClassVar[bool] = False

    def objective(self) -> Objective:
        """The loss of DPO with soft labels, from the policy of the round's beginning."""
        return PairedLogistic()


METHOD = IterativeDPO
