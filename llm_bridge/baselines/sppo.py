"""SPPO: each response's log-ratio is regressed onto its win rate.

    loss = mean_i (log pi(y_i) - log pi_k(y_i) - eta q_i)^2

Source: Wu et al., "Self-Play Preference Optimization for Language Model Alignment", ICLR 2025, eq. 4.6; it
approximates multiplicative weights, without their log-normaliser. Proven for the *average* iterate (Theorem 4.1,
original game); the last one circles.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from llm_bridge.loop import Method
from llm_bridge.objective import Numbers, Objective, OfResponses, Part, Responses


@dataclass(frozen=True)
class WinRateRegression(OfResponses):
    """The loss of SPPO."""

    magnet: ClassVar[str | None] = None

    def of_groups(self, responses: Responses, part: Part, numbers: Numbers) -> Float[Array, ""]:
        """See `OfResponses`."""
        apart = responses.policy - responses.before - numbers.eta * part.judged.payoff
        return jnp.sum(part.weight * apart**2)


@dataclass(frozen=True)
class SPPO(Method):
    """Self-Play Preference Optimization; alpha has no part in it."""

    has_magnet: ClassVar[bool] = False

    def objective(self) -> Objective:
        """See `Method`."""
        return WinRateRegression()


METHOD = SPPO
