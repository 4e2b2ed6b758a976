"""What a round of training does, as numbers: the argument of every plan."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from llm_bridge.model.architecture import Architecture
from llm_bridge.model.compute import Compute

LINEAR = ("query", "key", "value", "output", "gate", "up", "down")  # maps that an adapter may be on


class Axes(NamedTuple):
    """Sizes of a mesh's axes."""

    data: int
    fsdp: int
    tensor: int

    @property
    def n_chips(self) -> int:
        """All of them."""
        return self.data * self.fsdp * self.tensor

    @property
    def shares(self) -> int:
        """Among which rows are divided."""
        return self.data * self.fsdp

    def text(self) -> str:
        """As `--mesh` takes it."""
        named = [f"{name}={n}" for name, n in self._asdict().items() if n > 1]
        return ",".join(named) or "data=1"


class LocalJudge(NamedTuple):
    """A local judge.

    Attributes:
        architecture: of it.
        dtype: precision of its weights, and of its activations.
        axes: of the mesh that they lie on; None for the policy's.
        apart: whether that mesh is of other chips than the policy's.
        rows: that it reads at a time, for each share of its mesh's rows.
        asked: whether it is asked a question and says a token, so that there are logits; else it has a head of its own.
        plain: whether its attention keeps all scores.
    """

    architecture: Architecture
    dtype: str = "bfloat16"
    axes: Axes | None = None
    apart: bool = False
    rows: int = 16
    asked: bool = False
    plain: bool = False


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
        judges: local ones, each of which reads every pair of a group.
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
    judges: tuple[LocalJudge, ...] = ()

    @property
    def rows(self) -> int:
        """B, of a round."""
        return self.prompts * self.group

    @property
    def length(self) -> int:
        """T, tokens of the longest row."""
        return self.prompt_length + self.new_tokens
