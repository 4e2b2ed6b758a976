"""What is called converged is right over 24 decades of payoffs; 2,000 games: benchmarks/faults/small_games.py."""

from fractions import Fraction

import numpy as np
import pytest

import mmd
from benchmarks.faults.small_games import KINDS, compare, equilibria, stake
from mmd.game.game import Game
from mmd.measure.exact import solve_exactly

DRAWS = 200


def test_the_truth_of_a_game_with_a_known_one() -> None:
    """[[3, -1], [-1, 1]]: both play (1, 2) / 3, the value is 1/3, payoffs are 1/9 * 8/3 + 4/9 * 4/3 + 4/9 * 2/3 off."""
    payoffs = np.array([[3.0, -1], [-1, 1]])
    (found,) = equilibria(payoffs)
    assert found.row == found.column == [Fraction(1, 3), Fraction(2, 3)]
    assert found.value == Fraction(1, 3)
    assert stake(payoffs, [found]) == Fraction(32, 27)


@pytest.fixture(scope="module")
def results() -> list[dict]:
    return compare(range(DRAWS))


@pytest.mark.parametrize("kind", KINDS)
def test_converged_is_right(results: list[dict], kind: str) -> None:
    for result in results:
        if result["kind"] == kind:
            assert not any(result["wrong"].values()), result


def test_precision_is_rare_and_never_of_a_plain_game(results: list[dict]) -> None:
    for solver in ("solve", "solve_many"):
        refused = [result for result in results if result["status"][solver] != "CONVERGED"]
        assert {result["status"][solver] for result in refused} <= {"PRECISION"}
        assert len(refused) <= 0.05 * DRAWS
        assert not [result for result in refused if result["decades"] < 6]


FAULTS = {
    "a penalty of 1e12": ([[1, -1], [-1e12, 1]], -0.999999999996, 1e-15),
    "a penalty of 1e9": ([[1, -1], [-1e9, 1]], -0.999999996, 1e-15),
    "payoffs near 1e9": ([[1000000001, 1000000000], [1000000000, 1000000003]], 1000000000.75, 1e-6),
    "constant 1e6": ([[1e6, 999999, 1000003], [1000001, 1e6, 999999], [999997, 1000001, 1e6]], 1e6, 1e-9),
    "differences of 1e-15": ([[1, 1 + 1e-15], [1 + 2e-15, 1]], 1 + 2 / 3 * 1e-15, 3e-16),
    "1e-310": ([[0, -1e-310, 3e-310], [1e-310, 0, -1e-310], [-3e-310, 1e-310, 0]], 0.0, 1e-320),
    "1e300": ([[0, -1e300, 3e300], [1e300, 0, -1e300], [-3e300, 1e300, 0]], 0.0, 1e289),
    "1e19 in a corner": ([[1e19, -1], [-1, 0]], -1e-19, 1e-33),
}


@pytest.mark.parametrize(("payoffs", "value", "error"), FAULTS.values(), ids=FAULTS)
def test_faults_of_the_first_version(payoffs: list, value: float, error: float) -> None:
    solution = mmd.solve(Game.from_matrix(np.array(payoffs, float)))
    assert solution.converged
    np.testing.assert_allclose(solution.value, value, rtol=0, atol=error)
    np.testing.assert_allclose(
        solve_exactly(Game.from_matrix(np.array(payoffs, float))).value, value, rtol=0, atol=error
    )


@pytest.mark.parametrize("seed", [237, 249, 650, 1541, 1887])
def test_games_that_were_once_refused_or_solved_wrongly(seed: int) -> None:
    """An equilibrium at the edge of its set leaves nothing at stake but ties; and HiGHS drops what is below 1e-9."""
    (result,) = compare([seed])
    assert set(result["status"].values()) == {"CONVERGED"}
    assert not any(result["wrong"].values())


def test_uniform_play_is_not_an_equilibrium_of_a_game_with_one_extreme_payoff() -> None:
    """The old default, 1e-11 of the payoff range, let it pass."""
    game = Game.from_matrix(np.array([[1.0, -1], [-1e12, 1]]))
    half = np.array([1, 0.5, 0.5])
    certificate = mmd.certify(game, (half, half))
    assert certificate.exploitability > certificate.default_tolerance
    assert not mmd.solve(game, polish=False, max_iterations=100).converged


def test_a_precision_that_does_not_suffice_is_said_to() -> None:
    """The third row asks for column probabilities that float64 rounds by more than is at stake in play."""
    payoffs = [[1.6e17, -1.3e10], [-8.4e7, -0.11], [-4e-5, 10.5], [269.0, -8.2e9]]
    solution = mmd.solve(Game.from_matrix(np.array(payoffs)))
    assert solution.status is mmd.Status.PRECISION
    assert "float32" not in solution.status.value


def test_a_plain_13_by_16_matrix_is_solved() -> None:
    for seed in range(3):
        game = Game.from_matrix(np.random.default_rng(seed).uniform(size=(13, 16)))
        solution = mmd.solve(game)
        assert solution.converged
        np.testing.assert_allclose(solution.value, solve_exactly(game).value, rtol=0, atol=1e-12)
