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

from llm_bridge.train.loop import Method
from llm_bridge.train.objective import Judged, Numbers, Objective, Seen


@dataclass(frozen=True)
class WinRateRegression(Objective):
    """The loss of SPPO."""

    by_row: ClassVar[bool] = True

    def __call__(self, seen: Seen, judged: Judged, numbers: Numbers) -> Float[Array, ""]:
        """Mean over responses of (log pi(y) - log pi_k(y) - eta q)^2, with q the payoff of y; nats^2."""
        policy, before, _ = seen.responses()
        apart = policy - before - numbers.eta * judged.payoff
        return jnp.sum(seen.weight * apart**2)


@dataclass(frozen=True)
class SPPO(Method):
    """Self-Play Preference Optimization; alpha has no part in it."""

    has_magnet: ClassVar[bool] = False

    def objective(self) -> Objective:
        """The loss of SPPO: least squares of log-ratios to eta times the payoffs."""
        return WinRateRegression()


METHOD = SPPO
