"""A short form of benchmarks/faults/fuzz_csv.py: no file is read as another matrix, every refusal is a GameError."""

import random
from pathlib import Path

import pytest

from benchmarks.faults.fuzz_csv import EITHER, KINDS, NEEDED, READ, REFUSED, Tally, draw, judge

FILES = 20  # of each kind


@pytest.mark.parametrize("kind", KINDS)
def test_files_whose_matrix_is_known(tmp_path: Path, kind: str) -> None:
    rng, tally = random.Random(f"quick {kind}"), Tally()
    for _ in range(FILES):
        judge(draw(rng, kind), tmp_path, tally)
    assert not tally.other_errors
    assert not tally.wrong
    assert not tally.elsewhere
    if kind in READ:
        assert tally.read >= NEEDED * FILES
    if kind in REFUSED:
        assert tally.refused == FILES
    assert tally.read + tally.refused == FILES


def test_the_kinds_are_told_apart() -> None:
    assert set(READ).isdisjoint(REFUSED)
    assert set(KINDS) == {*READ, *REFUSED, *EITHER}
