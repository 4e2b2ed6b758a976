"""A method: Magnetic Preference Optimization whose magnet stays while its pull fades.

    alpha_k = alpha / (1 + k / half)        in round k, counted from 0

Halpern's idea (`mmd.Halpern`) with a pace of one's own. Nothing is proven about it with samples.
"""

from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import jax.numpy as jnp

import llm_bridge as bridge
import mmd


@dataclass(frozen=True)
class Cooling(bridge.MPO):
    """MPO with a fixed magnet and a pull that fades; exports the last iterate.

    Attributes:
        half: rounds after which the pull is half of what it was, > 0.
    """

    _: KW_ONLY
    magnet: Any = field(default_factory=mmd.Fixed)
    half: float = 50.0

    def check_settings(self) -> None:
        """What all methods check, and the own number."""
        super().check_settings()
        if not self.half > 0:
            raise bridge.BridgeError(f"expected half > 0, in rounds, got {self.half}")

    def numbers(self, state: bridge.TrainState) -> bridge.Numbers:
        """Eta and alpha of a round."""
        eta, alpha = super().numbers(state)
        return bridge.Numbers(eta, alpha / (1 + state.round.astype(jnp.float32) / self.half))
