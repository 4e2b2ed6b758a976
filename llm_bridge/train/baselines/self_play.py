"""Self-play policy gradient with a reference that stays.

    gradient of E_{y ~ pi} P(y > pi) - alpha KL(pi, ref),    opponents frozen within a round

Source: the "self-play" baseline of Munos et al., "Nash Learning from Human Feedback", ICML 2024, section 7, whose
expected gradient is that of online IPO (Calandriello et al. 2024, Proposition 4.2). Where it converges it is at the
equilibrium of the *regularized* game.

Deviations: leave-one-out win rates of a group; the exact divergence over the vocabulary. One step a round, so that eta
has no part in it: the learning rate is the step size. Momentum is off for that reason.
"""

from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import mmd
from llm_bridge.train.mpo import MPO
from llm_bridge.train.objective import Objective, PolicyGradient


@dataclass(frozen=True)
class SelfPlay(MPO):
    """Policy gradient against itself; exports the last iterate."""

    _: KW_ONLY
    epochs: int = 1
    b1: float = 0.0
    magnet: Any = field(default_factory=mmd.Fixed)
    estimator: Objective = field(default_factory=lambda: PolicyGradient(credit=True))


METHOD = SelfPlay
