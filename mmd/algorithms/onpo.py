"""Optimistic Nash Policy Optimization (ONPO): optimistic mirror descent, whose average is returned.

The update is `omwu`'s: in two steps, with the gradient seen last as the prediction,

    pi_t   prop. to  c_t exp(eta q_t-1)        c_t+1  prop. to  c_t exp(eta q_t)        t = 1, 2, ..., c_1 = pi_0

Source: Zhang et al., "Improving LLM General Preference Alignment via Optimistic Online Mirror Descent", 2025
(arXiv:2502.16852); Rakhlin & Sridharan 2013.

Proven: the *average* iterate has NashConv O(1 / T), to a Nash equilibrium of the *original* game, where eta is at most
a constant over L (`optimistic` states the bound). For the last iterate see `omwu`.

Deviations: none in the tabular form; the default step is `omwu`'s.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax

from mmd.algorithms.contract import AVERAGE
from mmd.algorithms.omwu import OptimisticMWU


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class ONPO(OptimisticMWU):
    """ONPO; returns the average."""

    name: ClassVar[str] = "onpo"
    guaranteed: ClassVar[int] = AVERAGE


ALGORITHM = ONPO
