"""Online IPO: log-ratios to a reference that stays are regressed onto preferences.

    loss = mean over pairs of (u_i - u_j - (P(y_i > y_j) - 1/2) / alpha)^2,    u_i = log pi(y_i) - log ref(y_i)

Source: Calandriello et al., "Human Alignment of Large Language Models through Online Preference Optimisation", ICML
2024, eq. 8 with both responses from the policy. Its stationary point is the equilibrium of the *regularized* game
(Proposition 4.1); the paper's tau is alpha.

Deviation: soft preferences, over all pairs of a group; E steps use the same samples.
"""

from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar

import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

import mmd
from llm_bridge.model.ranges import SettingError
from llm_bridge.train.mpo import MPO
from llm_bridge.train.objective import Judged, Numbers, Objective, Seen, pair_weights


@dataclass(frozen=True)
class PreferenceRegression(Objective):
    """The loss of IPO with soft labels."""

    magnet: ClassVar[str | None] = "sampled"

    def __call__(self, seen: Seen, judged: Judged, numbers: Numbers) -> Float[Array, ""]:
        """Mean over answered pairs of (u_i - u_j - (P(y_i > y_j) - 1/2) / alpha)^2, u = log pi - log mu; nats^2."""
        policy, _, magnet = seen.responses()
        ratio = policy - magnet
        weight, preference = pair_weights(seen, judged)
        apart = ratio[:, :, None] - ratio[:, None, :] - (preference - 0.5) / numbers.alpha
        return jnp.sum(weight * apart**2)


@dataclass(frozen=True)
class OnlineIPO(MPO):
    """Online Identity Preference Optimization; eta has no part in it."""

    _: KW_ONLY
    epochs: int = 1
    b1: float = 0.0
    magnet: Any = field(default_factory=mmd.Fixed)
    estimator: Objective = field(default_factory=PreferenceRegression)

    def check_settings(self) -> None:
        """That the settings are in their ranges, and that alpha, by which preferences are divided, is not 0.

        Raises:
            SettingError: they are not; alpha is 0, or the magnet's strength is.
        """
        super().check_settings()
        if not callable(self.alpha) and not isinstance(self.alpha, Tracer) and self.alpha == 0:
            raise SettingError("expected {alpha} > 0, by which preferences are divided, got 0")
        strength = getattr(self.magnet, "strength", 1)
        if not isinstance(strength, Tracer) and strength == 0:
            raise SettingError(f"expected a magnet that pulls, for alpha divides preferences, got {self.magnet!r}")


METHOD = OnlineIPO
