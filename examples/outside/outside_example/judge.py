"""A judge: the answer that repeats itself less is preferred.

P(a preferred) = 1/2 + (share of different words in a - share of different words in b) / 2

Pairs are judged one by one, and a judge is any function like this one.
"""

from collections.abc import Sequence

import numpy as np


def fewer_repeats(prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> np.ndarray:
    """A probability for each i: that a[i] is preferred to b[i] as an answer to prompts[i]."""
    return np.array([0.5 + (_different(x) - _different(y)) / 2 for x, y in zip(a, b, strict=True)])


def _different(text: str) -> float:
    """The share of different words, 1 where there are none."""
    words = text.split()
    return len(set(words)) / len(words) if words else 1.0


fewer_repeats.symmetric = True  # P(b preferred) = 1 - P(a preferred), so each pair is asked once
