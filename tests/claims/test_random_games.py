"""Random matrix games of six kinds over twelve decades; the whole 200 are in benchmarks/claims/random_games.py."""

import pytest

from benchmarks.claims.random_games import KINDS, compare


@pytest.mark.parametrize("first", range(len(KINDS)), ids=KINDS)
def test_value_is_right_and_nothing_is_called_converged_that_is_not(first: int) -> None:
    for seed in range(first, 24, len(KINDS)):
        result = compare(seed)
        assert not result["false_converged"]
        assert result["value_error_of_scale"] <= 1e-8
