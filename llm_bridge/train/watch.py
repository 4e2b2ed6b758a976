"""What a round is doing: who watches a run is told which phase begins, and how many tokens went through one.

Phases follow each other in a round as its method asks for them: responses are drawn ("generation"), compared
("judging"), learned from ("update").
"""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Float, Key

from llm_bridge.model import sharding
from llm_bridge.train.arena import Arena, Samples, Source

GENERATION, JUDGING, UPDATE = "generation", "judging", "update"


@runtime_checkable
class Watch(Protocol):
    """Is told what a round is doing. It may raise: before an update nothing is lost but the round."""

    def begin(self, phase: str) -> None:
        """A phase begins, and the one before is over."""
        ...

    def count(self, phase: str, tokens: int) -> None:
        """So many tokens more have gone, or will go, through a phase of this round."""
        ...


class WatchedArena:
    """An arena that says what it is doing.

    Tokens of "generation" are those of responses; of "update" those of the rows that are learned from, which are those
    whose preference over others is asked for, prompts and responses.

    Args:
        arena: which does it.
        watch: is told.
        epochs: how often each row is learned from, now and in later rounds.
    """

    def __init__(self, arena: Arena, watch: Watch, epochs: int):
        self._arena, self._watch, self._epochs = arena, watch, epochs

    def draw(self, source: Source, n: int, key: Key[Array, ""]) -> Samples:
        """Draw n responses to each prompt, while the watch is told so."""
        self._watch.begin(GENERATION)
        samples = self._arena.draw(source, n, key)
        self._watch.count(GENERATION, n_marked(samples.response))
        return samples

    def compare(self, ours: Samples, theirs: Samples | None = None) -> Float[Array, "N G H"]:
        """P(our response is preferred to theirs), while the watch is told so; an update follows."""
        self._watch.begin(JUDGING)
        preference = self._arena.compare(ours, theirs)
        self._watch.count(UPDATE, self._epochs * n_marked(ours.mask))
        self._watch.begin(UPDATE)
        return preference


def n_marked(mask: Any) -> int:
    """How many tokens a mask marks, on all devices."""
    return int(np.sum(sharding.gathered(mask)))
