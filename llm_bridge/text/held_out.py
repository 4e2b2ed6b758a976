"""A share of the prompts is set aside, so that what is measured on them was not learned from.

Which ones is decided by the prompts alone: the distinct texts are put in the order of their SHA-256, and the first ones
are held out, with all rows that have them. So neither seed nor order of the file matters, runs of several methods on
the same data hold out the same prompts, and a run that resumes finds its own again.
"""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from llm_bridge.text.data import Dataset, Row

FEWEST, MOST = 8, 128  # prompts: fewer say next to nothing, and more cost more than they tell


def distinct(rows: Iterable[Row]) -> dict[str, Row]:
    """The first row of each prompt, by what a judge reads of the prompt."""
    first: dict[str, Row] = {}
    for row in rows:
        first.setdefault(row.text, row)
    return first


def enough(share: float, n_prompts: int) -> float:
    """The share, or a larger one of at least `FEWEST` prompts where those are at most half of all.

    Args:
        share: in [0, 1).
        n_prompts: distinct ones.
    """
    if int(share * n_prompts) >= FEWEST or n_prompts < 2 * FEWEST:
        return share
    return math.ceil(1000 * FEWEST / n_prompts) / 1000  # `split` rounds down


class Split(NamedTuple):
    """A dataset in two parts that have no prompt in common.

    Attributes:
        rest: what is learned from.
        held_out: a row for each prompt that is held out; None where there would be too few.
    """

    rest: Dataset
    held_out: Dataset | None


def split(dataset: Dataset, share: float) -> Split:
    """Hold out a share of the distinct prompts, rounded down, and at most `MOST`; none where it is below `FEWEST`.

    Args:
        dataset: rows of any type.
        share: in [0, 1).
    """
    first = distinct(dataset.rows)
    count = min(MOST, int(share * len(first)))
    if count < FEWEST:
        return Split(dataset, None)
    chosen = set(sorted(first, key=_digest)[:count])
    rest = tuple(row for row in dataset.rows if row.text not in chosen)
    held_out = tuple(row for text, row in first.items() if text in chosen)
    return Split(replace(dataset, rows=rest), Dataset(held_out))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
