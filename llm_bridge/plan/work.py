"""What a round of training does, as numbers: the argument of every plan."""

from dataclasses import dataclass, field
from typing import Literal

from llm_bridge.model.compute import Compute

LINEAR = ("query", "key", "value", "output", "gate", "up", "down")  # maps that an adapter may be on


@dataclass(frozen=True)
class Work:
    """A round.

    Attributes:
        prompts: N.
        group: G, answers to each prompt.
        prompt_length: P, tokens of the longest prompt.
        new_tokens: R, most tokens of an answer.
        epochs: E, optimizer steps.
        parts: in which the prompts go through the model.
        rounds: whose rows are learned from together, this one's and those that are replayed; each in as many parts.
        compute: precision, what is recomputed, which attention.
        rank: of an adapter that is trained; 0 for all weights.
        targets: the linear maps that the adapter is on; empty for all of them.
        given: precision of the weights that are loaded.
        first_moment: precision of Adam's.
        has_magnet, watch_start: whether there is a copy of what is trained for either.
    """

    prompts: int = 16
    group: int = 16
    prompt_length: int = 512
    new_tokens: int = 128
    epochs: int = 4
    parts: int = 1
    rounds: int = 1
    compute: Compute = field(default_factory=lambda: Compute("bfloat16", "layer"))
    rank: int = 0
    targets: tuple[str, ...] = ()
    given: Literal["float32", "bfloat16"] = "bfloat16"
    first_moment: Literal["float32", "bfloat16"] = "float32"
    has_magnet: bool = True
    watch_start: bool = False

    @property
    def rows(self) -> int:
        """B, of a round."""
        return self.prompts * self.group

    @property
    def length(self) -> int:
        """T, tokens of the longest row."""
        return self.prompt_length + self.new_tokens
