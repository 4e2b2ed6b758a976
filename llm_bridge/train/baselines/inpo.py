"""INPO: regression to mirror descent's closed form, with a reference that stays.

    pi_k+1  ~  (pi_k ref^(eta alpha) exp(eta P(y > pi_k)))^(1 / (1 + eta alpha))

Source: Zhang et al., "Iterative Nash Policy Optimization: Aligning LLMs with General Preferences via No-Regret
Learning", ICLR 2025, eq. 7 and Theorem 4: the last iterate goes to the equilibrium of the game *regularized* towards
the reference.

It is MPO's regression with `mmd.Fixed`. Deviations: soft preferences over all pairs of a group instead of its best and
worst response; the paper's tau is alpha, and its step tau / eta is eta alpha / (1 + eta alpha) here.
"""

from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import mmd
from llm_bridge.train.mpo import MPO
from llm_bridge.train.objective import Objective, Regression


@dataclass(frozen=True)
class INPO(MPO):
    """Iterative Nash Policy Optimization; exports the last iterate."""

    _: KW_ONLY
    magnet: Any = field(default_factory=mmd.Fixed)
    estimator: Objective = field(default_factory=Regression)


METHOD = INPO
