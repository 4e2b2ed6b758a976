"""Quantal response equilibria against published ones, a root finder, and plain NumPy's regularized best responses."""

import numpy as np
import pytest

import games
import mmd
from mmd.game.game import Game, GameError
from mmd.host.files import OutputError
from mmd.lab import quantal
from tests.claims.reference import dense_payoffs, plan_of, quantal_response_equilibrium, soft_best_response
from tests.claims.test_qre import NORMALIZED, QRES

KUHN = games.load("kuhn_poker")


def plans(game: Game, log_policies: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    return [plan_of(player, np.asarray(log)) for player, log in zip(game.players, log_policies, strict=True)]


def from_best_responses(game: Game, found: mmd.QuantalResponse) -> float:
    """How far both plans are from the regularized best responses to each other, one infoset at a time."""
    matrix, (row, column) = dense_payoffs(game), game.players
    x, y = (
        player.host_plan(probabilities)
        for player, probabilities in zip(game.players, found.policy.probabilities, strict=True)
    )
    best = (
        soft_best_response(row, matrix @ y, row.uniform(), found.alpha),
        soft_best_response(column, -matrix.T @ x, column.uniform(), found.alpha),
    )
    return max(np.abs(plan - own).max() for plan, own in zip(plans(game, best), (x, y), strict=True))


def test_the_published_ones_on_one_path() -> None:
    path = mmd.qre_path(NORMALIZED, QRES)
    assert [one.alpha for one in path] == list(QRES)
    for one in path:
        assert one.converged
        for probabilities in one.policy.probabilities:
            np.testing.assert_allclose(probabilities[1:], QRES[one.alpha], rtol=0, atol=1e-8)


@pytest.mark.parametrize("center", ["uniform", "dilated"])
def test_kuhn_poker_is_the_root_of_the_fixed_point_equation(center: str) -> None:
    magnet = tuple(np.asarray(p.uniform() if center == "uniform" else p.dilated_center()) for p in KUHN.players)
    expected = plans(KUHN, quantal_response_equilibrium(KUHN, 0.1, magnet))
    found = mmd.qre(KUHN, 0.1, center=center)
    for player, probabilities, plan in zip(KUHN.players, found.policy.probabilities, expected, strict=True):
        np.testing.assert_allclose(player.host_plan(probabilities), plan, rtol=0, atol=1e-8)


def test_paths_go_down_to_a_ten_thousandth_of_the_range(rng: np.random.Generator) -> None:
    """Each policy is the regularized best response of plain NumPy; NashConv is at most alpha times both entropies."""
    matrix = Game.from_matrix(rng.uniform(-1, 1, (5, 7)))
    for game in (KUHN, matrix):
        path = mmd.qre_path(game, game.description.payoff_range * np.geomspace(1, 1e-4, 9))
        for one in path:
            assert one.converged, one
            assert one.regularized_gap <= 1e-12 * game.description.payoff_range
            assert from_best_responses(game, one) < 1e-8
            largest = sum(np.log(player.n_actions).sum() for player in game.players)
            assert one.nash_conv <= one.alpha * largest + 1e-12
        assert path[-1].exploitability < 1e-3 < 1e-2 < path[0].exploitability


def test_two_actions_have_the_closed_form_on_any_path() -> None:
    """Odds exp(0.2 / alpha) against any opponent; the order of the alphas does not matter. One program serves all."""
    alphas, programs = [0.3, 0.01, 1.0, 0.05], quantal._advance._cache_size()
    path = mmd.qre_path(np.array([[0.0, 0.2], [-0.2, 0.0]]), alphas)
    assert [one.alpha for one in path] == alphas
    for one in path:
        np.testing.assert_allclose(one.policy.probabilities[0][1], 1 / (1 + np.exp(-0.2 / one.alpha)), atol=1e-9)
        assert mmd.qre(one.game, one.alpha).policy.probabilities[0][1] == pytest.approx(
            one.policy.probabilities[0][1], abs=1e-9
        )
    assert quantal._advance._cache_size() <= programs + 1


def test_what_is_not_reached_is_said(rng: np.random.Generator) -> None:
    found = mmd.qre(rng.uniform(-1, 1, (5, 7)), 1e-4, max_iterations=50)
    assert not found.converged
    assert found.iterations == 50
    assert found.status.startswith("stopped at the iteration limit")
    assert f"{found.residual:.1e}" in found.status
    assert found.residual > 1e-10
    good, bad = mmd.qre_path("preference:cycle", [0.1, 1e-310])
    assert good.converged
    assert bad.status == "stopped because the iterate was no longer finite: alpha is too small for float64"
    assert bad.exploitability == pytest.approx(good.exploitability, abs=1e-12)  # the last policy that is finite


@pytest.mark.parametrize("seed", range(3))
def test_a_game_of_one_payoff_is_at_its_magnet_whatever_rounds(seed: int) -> None:
    """Its range is 0, and a tolerance of 1e-12 of that was below the rounding of a magnet's logarithms."""
    game = games.matrix.game(np.full((4, 7), 5.0))
    magnet = mmd.Policy.random(game, seed)
    path = mmd.qre_path(game, 10.0 ** np.linspace(0, -3, 13), center=magnet, max_iterations=100)
    assert all(one.converged for one in path)
    for one in path:
        for found, start in zip(one.policy.probabilities, magnet.probabilities, strict=True):
            np.testing.assert_allclose(found, start, rtol=1e-13)


def test_a_figure_shows_the_path(tmp_path) -> None:
    path = mmd.qre_path("preference:cycle", [0.01, 0.1, 1.0])
    left, right = path.plot(tmp_path / "path.svg").axes
    drawn = np.asarray(left.lines[0].get_xydata(), float)
    np.testing.assert_allclose(drawn, [(one.alpha, one.exploitability) for one in path], rtol=1e-12)
    for line, action in zip(right.lines, range(3), strict=True):
        np.testing.assert_allclose(
            np.asarray(line.get_ydata(), float), [one.policy.probabilities[0][1 + action] for one in path]
        )
    assert (tmp_path / "path.svg").is_file()
    with pytest.raises(OutputError):
        path.plot(tmp_path / "none" / "path.svg")


def test_bad_numbers_are_refused() -> None:
    for given, message in (
        (lambda: mmd.qre(KUHN, 0.0), "expected positive numbers for alpha"),
        (lambda: mmd.qre_path(KUHN, []), "expected positive numbers for alpha"),
        (lambda: mmd.qre(KUHN, 0.1, tolerance=-1.0), "expected a tolerance >= 0"),
        (lambda: mmd.qre(KUHN, 0.1, max_iterations=0), "max_iterations >= 1"),
        (lambda: mmd.qre(KUHN, 0.1, center="middle"), "middle"),
    ):
        with pytest.raises(GameError, match=message):
            given()
