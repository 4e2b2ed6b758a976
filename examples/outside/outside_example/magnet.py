"""A magnet: every so many steps it goes part of the way to the iterate, and stays in between.

After n such moves towards a policy pi that stays, with w = (1 - part)^n, log mu = w log mu_0 + (1 - w) log pi,
normalised.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array

import mmd


@dataclass(frozen=True, kw_only=True)
class Stride(mmd.Magnet):
    """A magnet that moves now and then, and not all the way.

    Attributes:
        center: first place.
        every: steps from one move to the next, >= 1; rounds in `mpo train`.
        part: of the way, in (0, 1].
    """

    center: Any = "dilated"
    every: int = 100
    part: float = 0.5

    def share(self, k: Array, measured: Any = None) -> Array:
        """The share of the policy in the magnet after step k."""
        return jnp.where(k % jnp.asarray(self.every, k.dtype) == 0, jnp.asarray(self.part, float), 0.0)
