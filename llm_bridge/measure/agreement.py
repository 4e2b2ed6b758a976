"""How often a judge agrees with preferences that are known, beside what needs no judge at all.

Two baselines stand beside every accuracy: preferring by length alone, and always saying the same of pairs that are
shown in random order. Each takes the better of its two directions, which favours it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from llm_bridge.measure.intervals import wilson
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
        accuracy, its 95 % interval accuracy_low and accuracy_high, the baselines length_only and majority, n,
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
    accuracy, n = _share(said, label, counted), int(counted.sum())
    longer = np.array([float(len(a) > len(b)) + 0.5 * (len(a) == len(b)) for a, b in zip(first, second, strict=True)])
    low, high = wilson(accuracy, n)
    return {
        "accuracy": accuracy,
        "accuracy_low": low,
        "accuracy_high": high,
        "length_only": _better(_share(longer, label, counted)),
        "majority": _better(_share(np.ones(len(rows)), label, counted)),
        "n": float(n),
        "failed_frac": float(np.mean(np.isnan(said))),
    }


def _share(said: np.ndarray, label: np.ndarray, counted: np.ndarray) -> float:
    """Share of cases in which what is said is on the label's side of 1/2; on neither, half."""
    right = 0.5 + 0.5 * np.sign((said - 0.5) * (label - 0.5))
    return float(np.mean(right[counted])) if counted.any() else float("nan")


def _better(share: float) -> float:
    return max(share, 1 - share)
