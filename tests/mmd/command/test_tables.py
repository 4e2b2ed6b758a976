"""What is printed of a result: as many digits of the value as are certified."""

import numpy as np
import pytest

import games
import mmd
from mmd.command.tables import certificate_lines, solution_lines


def test_a_large_constant_does_not_hide_the_value() -> None:
    """Columns (0, 1) and (2, 0) have the value 2/3; a constant of 1e12 leaves four digits of it in float64."""
    game = games.matrix.game(1e12 + np.array([[0.0, 1.0], [2.0, 0.0]]))
    solution = mmd.solve(game)
    for lines in (solution_lines(solution), certificate_lines(game, mmd.certify(game, solution.policy))):
        (shown,) = (line.split()[1] for line in lines if line.split()[:1] == ["value"])
        assert float(shown) - 1e12 == pytest.approx(2 / 3, abs=2e-4)
