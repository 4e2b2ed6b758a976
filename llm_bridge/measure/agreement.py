"""How often a judge agrees with preferences that are known, beside what needs no judge at all.

Two baselines stand beside every accuracy: preferring by length alone, and always saying the same of pairs that are
shown in random order. Each takes the better of its two directions, which favours it.

Pairs of one prompt are not independent: prompts are the cases of the interval, each with all of its pairs
(`llm_bridge.measure.intervals.redrawn`).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from llm_bridge.measure.intervals import cases_of, redrawn
from llm_bridge.text.data import Row


def agreement(
    judge: Callable[[Sequence[Any], Sequence[Any], Sequence[Any]], Any], rows: Sequence[Row], *, seed: int = 0
) -> dict[str, float]:
    """Accuracy of a judge on preferences; a tie counts half, a failure is left out and counted.

    Args:
        judge: see `llm_bridge.judges`; one that favours an order is asked in the order shown.
        rows: of preferences, at least one.
        seed: of the order in which the two answers are shown.

    Returns:
        accuracy, over pairs; its 95 % interval if the prompts were drawn again, accuracy_low and accuracy_high; the
        baselines length_only and majority; n, the pairs that count, and prompts, how many distinct ones they have;
        failed_frac.
    """
    swapped = np.random.default_rng(seed).random(len(rows)) < 0.5
    prompts, chosen, rejected, _ = zip(*(row.comparison for row in rows), strict=True)
    pairs = [(b, a) if s else (a, b) for a, b, s in zip(chosen, rejected, swapped, strict=True)]
    first, second = ([pair[side] for pair in pairs] for side in (0, 1))
    said = np.asarray(judge(list(prompts), first, second), np.float64)
    truth = np.array([row.p_chosen for row in rows])
    label = np.where(swapped, 1 - truth, truth)
    counted = np.isfinite(said) & (label != 0.5)
    right = _right(said, label)
    longer = np.array([float(len(a) > len(b)) + 0.5 * (len(a) == len(b)) for a, b in zip(first, second, strict=True)])
    case = cases_of([row.case for row in rows])
    sizes, sums = (np.bincount(case, weights=each) for each in (counted, np.where(counted, right, 0)))
    low, high = redrawn(np.divide(sums, sizes, out=np.full(len(sizes), np.nan), where=sizes > 0), sizes)
    return {
        "accuracy": _share(right, counted),
        "accuracy_low": low,
        "accuracy_high": high,
        "length_only": _better(_share(_right(longer, label), counted)),
        "majority": _better(_share(_right(np.ones(len(rows)), label), counted)),
        "n": float(counted.sum()),
        "prompts": float((sizes > 0).sum()),
        "failed_frac": float(np.mean(np.isnan(said))),
    }


def _right(said: np.ndarray, label: np.ndarray) -> np.ndarray:
    """1 where what is said is on the label's side of 1/2, 0 on the other, 1/2 on neither."""
    return 0.5 + 0.5 * np.sign((said - 0.5) * (label - 0.5))


def _share(right: np.ndarray, counted: np.ndarray) -> float:
    return float(np.mean(right[counted])) if counted.any() else float("nan")


def _better(share: float) -> float:
    return max(share, 1 - share)
