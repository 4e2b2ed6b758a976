"""The rate of a line on a logarithmic axis: of sequences that are known, and what is said of those that are no line."""

import numpy as np
import pytest
from matplotlib.figure import Figure

import mmd
from mmd.game.game import Game
from mmd.measure import theory
from mmd.measure.rate import RateError

PENNIES = Game.from_matrix(np.array([[1.0, -1.0], [-1.0, 1.0]]), name="pennies")
START = (np.log([1, 0.7, 0.3]), np.log([1, 0.4, 0.6]))
N = np.arange(1_000.0)


def test_a_geometric_sequence_has_its_factor() -> None:
    found = mmd.linear_rate(3 * 0.9**N)
    assert found.is_line
    assert found.factor == pytest.approx(0.9, rel=1e-9)
    assert found.r_squared == pytest.approx(1.0, abs=1e-9)
    assert found.at(10.0) == pytest.approx(3 * 0.9**10, rel=1e-6)
    assert found.decades == pytest.approx(-np.log10(0.9) * (found.last - found.first), rel=1e-9)
    assert found.decades > 13  # down to 1e-14 of the largest, where rounding begins
    assert found.proven is None
    assert "no rate is proven" in found.status


def test_a_transient_and_rounding_at_the_end_are_left_out() -> None:
    """A power dies out at the beginning, and at 1e-9 the sequence stands still."""
    found = mmd.linear_rate(np.maximum(3 * 0.9**N + 5 / (1 + N) ** 6, 1e-9))
    assert found.is_line
    assert found.factor == pytest.approx(0.9, rel=2e-3)
    assert found.last < 215  # 0.9^208 = 3e-10


def test_work_is_what_the_rate_is_per() -> None:
    """Rows of every tenth iteration: the factor is that of an iteration, not of a row."""
    run = mmd.solve(PENNIES, mmd.MagneticMirrorDescent(alpha=0.2), start=START, tolerance=0.0, max_iterations=700)
    by_rows = mmd.linear_rate(run)
    assert by_rows.y == "regularized_gap"
    assert by_rows.factor == pytest.approx(1 / 1.04, rel=5e-4)
    assert by_rows.proven == theory.contraction_factor(0.2, 0.2)
    assert mmd.linear_rate(run, x="gradient_evaluations").proven is None
    with pytest.raises(RateError, match="falls by a factor of 100"):
        mmd.linear_rate(run, "exploitability", floor=1e-2)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_a_power_is_no_line_and_is_called_one(power: float) -> None:
    found = mmd.linear_rate(1 / (1.0 + np.arange(30_000)) ** power)
    assert not found.is_line
    assert found.power == pytest.approx(power, rel=0.02)
    assert found.status.startswith("not a line")
    assert "two logarithmic axes" in found.status


def test_a_curve_with_swings_is_no_line() -> None:
    found = mmd.linear_rate(0.97**N * np.exp(4 * np.sin(N / 40)))
    assert not found.is_line
    assert found.r_squared < 0.98
    assert f"R^2 is {found.r_squared:.3f}" in found.status


@pytest.mark.parametrize(
    ("distances", "message"),
    [
        ([1.0, 0.1, 0.01], "expected at least 5 values of the distance above 1.0e-14, where rounding begins, got 3"),
        (np.zeros(50), "got 0"),
        (np.full(50, np.nan), "got 0"),
        (0.999**N, "it falls by one of 2.72"),
        (1.1**N, "it falls by one of 1:"),
        (np.ones((3, 3)), "expected a run or a sequence of distances, got an array of shape"),
        (np.array([{}]), r"expected a run or a sequence of distances, got array\(\[\{\}\], dtype=object\)"),
    ],
)
def test_where_there_is_no_rate_one_sentence_says_so(distances: np.ndarray, message: str) -> None:
    with pytest.raises(RateError, match=message):
        mmd.linear_rate(distances)


def test_a_run_that_begins_at_its_end_says_how_to_begin_elsewhere() -> None:
    """Rock, paper, scissors from the uniform policy, which is the regularized equilibrium."""
    recording = mmd.record("preference:rock_paper_scissors", mmd.MagneticMirrorDescent(alpha=0.1))
    with pytest.raises(RateError, match="--seed 1"):
        mmd.linear_rate(recording)


def test_what_is_proven_and_what_is_not() -> None:
    """Theorem 3.4: a magnet that stays, alpha > 0 and eta <= alpha / L^2."""
    game = Game.from_matrix(np.array([[2.0, -2.0], [-2.0, 2.0]]))

    def factor(**numbers: object) -> float | None:
        fixed = {"kind": "Fixed", "center": "dilated"}
        return theory.proven_factor(game, {"name": "mmd", "magnet": fixed, "eta": 0.025, "alpha": 0.1, **numbers})

    assert factor() == 1 / (1 + 0.0025)
    assert factor(eta=0.1 / 4) is not None
    assert factor(eta=0.0251) is None
    assert factor(alpha=0.0) is None
    assert factor(magnet={"kind": "Refresh", "every": 10}) is None
    assert factor(name="anchored") is None


def test_the_figure_shows_the_distances_the_line_and_the_theorem() -> None:
    found = mmd.linear_rate(0.9**N, proven=0.95)
    drawn = {str(line.get_label()): line for line in found.plot().axes[0].get_lines()}
    measured = np.asarray(drawn["measured"].get_xydata(), float)
    np.testing.assert_allclose(measured[:, 1], 0.9 ** measured[:, 0], rtol=1e-9)
    line = np.asarray(drawn["fitted: times 0.9, R² 1.0000"].get_xydata(), float)
    np.testing.assert_allclose(line[:, 1], 0.9 ** line[:, 0], rtol=1e-6)
    bound = np.asarray(drawn["theorem: times 0.95"].get_xydata(), float)
    np.testing.assert_allclose(bound[:, 1], 0.95 ** bound[:, 0], rtol=1e-9)
    axes = Figure().add_subplot()
    assert found.plot(ax=axes) is axes
