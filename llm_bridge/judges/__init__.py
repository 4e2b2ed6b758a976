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
    if found is None:
        raise BridgeError(
            f"judge {name}: expected {len(prompts)} numbers, P(a preferred) for each pair, got None for all of them; "
            "does it return its answers?"
        )
    answers = numbers(name, found)
    if answers.shape != (len(prompts),):
        shape = f"an array of shape {answers.shape}" if answers.shape else _described(found)
        raise BridgeError(f"judge {name}: expected {len(prompts)} answers, got {shape}")
    if wrong := np.flatnonzero((answers < 0) | (answers > 1)).tolist():
        raise BridgeError(
            f"judge {name}: expected probabilities, or NaN for no answer, got {answers[wrong[0]]:g} for pair {wrong[0]}"
        )
    return answers


def numbers(name: str, found: Any) -> Float[np.ndarray, "..."]:
    """What a judge has returned as numbers, NaN for None.

    Raises:
        BridgeError: it is something else, a text that reads like a number included.
    """
    try:
        array = np.asarray(found)
        if array.dtype.kind in "SU" or (array.dtype == object and any(isinstance(x, str | bytes) for x in array.flat)):
            raise TypeError
        return np.asarray(array, np.float64)
    except (TypeError, ValueError):
        wanted = "an array of numbers, and None or NaN for no answer"
        raise BridgeError(f"judge {name}: expected {wanted}, got {_described(found)}") from None


def _described(found: Any) -> str:
    """What a judge has returned, without its text."""
    if isinstance(found, np.ndarray):
        return f"an array of {found.dtype}"
    known = (int, float, type(None))
    odd = [one for one in found if not isinstance(one, known)] if isinstance(found, list | tuple) else []
    return f"a {type(found).__name__}" + (f" with a {type(odd[0]).__name__} in it" if odd else "")
