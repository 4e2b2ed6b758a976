"""What a method may ask for during a round: responses, and how often one is preferred to another.

A method sees prompts, sampler and judge only through an `Arena`, so the same method runs on a language model with a
judge over the network (`llm_bridge.train.rollout`) and, traced as a whole, on a table of preferences.

Letters: N prompts of a round; G responses to each, a group; B = N G rows, prompt by prompt; T tokens of a row, prompt
and padding included.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Bool, Float, Int, Key


class Source(NamedTuple):
    """What responses are drawn from.

    Attributes:
        decoder: a `Decoder`, or several as one (`llm_bridge.policy.mixture`).
        weights: of the decoder.
    """

    decoder: Any
    weights: Any


class Samples(NamedTuple):
    """Responses to all prompts of a round.

    Attributes:
        tokens: prompts and responses.
        mask: which of them are tokens and not padding.
        response: which of them were generated, the token that ended the row included.
        log_probs: of those, by the sampler; 0 elsewhere.
        share: weight of each response in its group's mean: its probability where all responses are enumerated, its
            weight over G where draws are replayed; None for draws, which count 1 / G each.
        answers: how many columns, the last ones, hold the responses; the columns before them hold the prompt, the same
            for all rows of a group, padded on the left. None where prompts and responses may be anywhere. It is no
            array, so `Method.learn` takes it out before anything is traced.
    """

    tokens: Int[Array, "B T"]
    mask: Bool[Array, "B T"]
    response: Bool[Array, "B T"]
    log_probs: Float[Array, "B T"]
    share: Float[Array, "N G"] | None = None
    answers: int | None = None


@runtime_checkable
class Arena(Protocol):
    """The prompts of a round, with a sampler and a judge."""

    def draw(self, source: Source, n: int, key: Key[Array, ""]) -> Samples:
        """Draw n responses to each prompt.

        Args:
            source: what they are drawn from.
            n: responses to a prompt.
            key: of the draws.
        """
        ...

    def compare(self, ours: Samples, theirs: Samples | None = None) -> Float[Array, "N G H"]:
        """P(our response is preferred to theirs), for the responses to each prompt; NaN where there is no answer.

        Args:
            ours: G responses to each prompt.
            theirs: H responses to each prompt; None for ours, and then entries (i, j) and (j, i) sum to 1 or both are
                NaN.
        """
        ...
