"""Judges say which of two responses is preferred; one file each.

    judge(prompts, a, b)  ->  P(a is preferred to b), one number a pair, in [0, 1]

1/2 is a tie and NaN an answer that could not be had, which is never turned into a preference. Whatever takes three
lists and returns such an array is a judge. No scalar reward is assumed behind it: preferences may run in cycles.

Judges favour a position (Zheng et al. 2023, "Judging LLM-as-a-Judge"), so `ask` puts every pair in both orders and
averages; a judge that always takes the first says 1/2. One whose attribute `symmetric` is True answers P(b, a) =
1 - P(a, b) by construction and is asked once.

A prompt and a response are text, or, for a policy without a tokenizer, a tuple of token ids.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from llm_bridge.architecture import BridgeError

Prompt = str | tuple[int, ...]
Response = str | tuple[int, ...]


@runtime_checkable
class Judge(Protocol):
    """What decides; see the module. It may have `symmetric: bool`, and a `name` for complaints."""

    def __call__(
        self, prompts: Sequence[Prompt], a: Sequence[Response], b: Sequence[Response], /
    ) -> Float[np.ndarray, " n"]:
        """P(a[i] is preferred to b[i] as an answer to prompts[i]); NaN where there is no answer."""
        ...


class NoAnswers(BridgeError):
    """A judge has answered none of many comparisons, so there is nothing to learn from."""


class Verdicts(NamedTuple):
    """Answers to n pairs, both orders averaged.

    Attributes:
        preference: P(a is preferred to b); NaN where either order failed.
        failed: pairs without an answer.
        flipped: pairs where the two orders named different winners.
        tied: pairs whose average is exactly 1/2.
    """

    preference: Float[np.ndarray, " n"]
    failed: Bool[np.ndarray, " n"]
    flipped: Bool[np.ndarray, " n"]
    tied: Bool[np.ndarray, " n"]


def ask(judge: Judge, prompts: Sequence[Prompt], a: Sequence[Response], b: Sequence[Response]) -> Verdicts:
    """Put each pair to a judge in both orders, as one batch.

    Raises:
        BridgeError: lengths differ, or the judge answers something else than probabilities and NaN.
    """
    if not len(prompts) == len(a) == len(b):
        raise BridgeError(f"expected as many prompts as responses, got {len(prompts)}, {len(a)} and {len(b)}")
    if getattr(judge, "symmetric", False):
        first = answers_of(judge, prompts, a, b)
        second = first
    else:
        both = answers_of(judge, [*prompts, *prompts], [*a, *b], [*b, *a])
        first, second = both[: len(a)], 1 - both[len(a) :]
    preference = (first + second) / 2
    failed = np.isnan(preference)
    return Verdicts(preference, failed, (first - 0.5) * (second - 0.5) < 0, preference == 0.5)


def name_of(judge: Any) -> str:
    """What a judge is called: by its own `name`, as a function, or by its class."""
    names = (getattr(judge, "name", None), getattr(judge, "__qualname__", None), type(judge).__name__)
    return next(name for name in names if isinstance(name, str))


def answers_of(
    judge: Judge, prompts: Sequence[Prompt], a: Sequence[Response], b: Sequence[Response]
) -> Float[np.ndarray, " n"]:
    """What a judge answers when it is asked once.

    Raises:
        BridgeError: something else than as many probabilities and NaN.
    """
    name, found = name_of(judge), judge(prompts, a, b)
    try:
        answers = np.asarray(found, np.float64)
    except (TypeError, ValueError):
        raise BridgeError(f"judge {name}: expected an array of numbers, got {_described(found)}") from None
    if answers.shape != (len(prompts),):
        shape = f"an array of shape {answers.shape}" if answers.shape else _described(found)
        raise BridgeError(f"judge {name}: expected {len(prompts)} answers, got {shape}")
    if wrong := np.flatnonzero((answers < 0) | (answers > 1)).tolist():
        raise BridgeError(
            f"judge {name}: expected probabilities, or NaN for no answer, got {answers[wrong[0]]:g} for pair {wrong[0]}"
        )
    return answers


def _described(found: Any) -> str:
    """What a judge has returned, without its text."""
    odd = [one for one in found if not isinstance(one, int | float)] if isinstance(found, list | tuple) else []
    return f"a {type(found).__name__}" + (f" with a {type(odd[0]).__name__} in it" if odd else "")
