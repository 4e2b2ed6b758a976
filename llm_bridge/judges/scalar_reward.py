"""A judge made of a scalar reward: P(a preferred) = sigmoid((r(a) - r(b)) / scale), which is Bradley and Terry (1952).

Such a preference is transitive by construction: there is always a best answer, and a cycle a > b > c > a cannot be
expressed. Where that is what you want, the game has a pure equilibrium and a reward would do; where it is not, take a
judge of pairs. It is here for reward models that exist and for comparison.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from llm_bridge.judges import columns_for, name_of, numbers
from llm_bridge.model.architecture import BridgeError
from llm_bridge.model.ranges import require

Reward = Callable[[Sequence[Any], Sequence[Any]], Any]


@dataclass(frozen=True)
class ScalarReward:
    """A judge that compares rewards.

    Attributes:
        reward: of (prompts, responses), one number each, NaN where it fails; by keyword it may take columns of the
            data, as reward functions of TRL do.
        scale: difference of rewards at which the better answer wins with probability sigmoid(1) = 0.73.
    """

    symmetric: ClassVar[bool] = True

    reward: Reward
    scale: float = 1.0

    def __post_init__(self) -> None:
        require("scale", self.scale)

    def __call__(self, prompts: Sequence[Any], a: Sequence[Any], b: Sequence[Any]) -> Float[np.ndarray, " n"]:
        """P(a preferred); NaN where a reward is not finite.

        Raises:
            BridgeError: there is not one reward, a number, for each response.
        """
        twice = [*prompts, *prompts]
        both = numbers(name_of(self.reward), self.reward(twice, [*a, *b], **columns_for(self.reward, twice)))
        if both.shape != (2 * len(prompts),):
            raise BridgeError(f"expected {2 * len(prompts)} rewards, got an array of shape {both.shape}")
        of_a, of_b = np.split(np.where(np.isfinite(both), both, np.nan), 2)
        return 0.5 + 0.5 * np.tanh((of_a - of_b) / (2 * self.scale))
