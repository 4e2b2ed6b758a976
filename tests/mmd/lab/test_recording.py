"""Recorded runs: closed forms of the rate, independent distances, what is written and what is refused."""

from pathlib import Path

import numpy as np
import pytest

import games
import mmd
from mmd.game.game import Game, GameError
from mmd.measure.figure import FigureError
from tests.claims.reference import kl_to, quantal_response_equilibrium, trajectory

PENNIES = Game.from_matrix(np.array([[1.0, -1.0], [-1.0, 1.0]]), name="pennies")
START = (np.log([1, 0.7, 0.3]), np.log([1, 0.4, 0.6]))


@pytest.mark.parametrize(("eta", "alpha"), [(0.2, 0.2), (0.05, 0.2)])
def test_matching_pennies_have_a_closed_form(eta: float, alpha: float) -> None:
    """Near uniform play a step is (I + eta J) / (1 + eta alpha) with J a rotation, in log odds.

    So KL falls by (1 + eta^2) / (1 + eta alpha)^2. With eta = alpha / L^2 and L = 1 that is the theorem's
    1 / (1 + eta alpha): the theorem is tight.
    """
    run = mmd.record(PENNIES, mmd.MagneticMirrorDescent(eta=eta, alpha=alpha), start=START)
    rate = mmd.linear_rate(run)
    assert rate.y == "kl"
    assert rate.is_line
    assert rate.factor == pytest.approx((1 + eta**2) / (1 + eta * alpha) ** 2, rel=3e-5)
    assert rate.proven == 1 / (1 + eta * alpha)
    assert run.trace["kl"][0] == pytest.approx(sum(np.log(0.5 / p) / 2 for p in (0.7, 0.3, 0.4, 0.6)), rel=1e-12)
    k, kl = run.trace["iteration"], run.trace["kl"]
    assert (kl <= kl[0] * rate.proven**k * (1 + 1e-9)).all()


def test_kl_on_a_tree_is_that_to_an_equilibrium_that_a_root_finder_finds() -> None:
    game, algorithm = games.load("kuhn_poker"), mmd.MagneticMirrorDescent(eta=0.5, alpha=0.1)
    magnet = tuple(np.asarray(player.dilated_center()) for player in game.players)
    star = quantal_response_equilibrium(game, 0.1, magnet)
    run = mmd.record(game, algorithm, 60, every=20, iterates=True)
    path = trajectory(game, algorithm, 60)
    np.testing.assert_array_equal(run.trace["iteration"], [0, 20, 40, 60])
    np.testing.assert_allclose(run.trace["kl"], [kl_to(game, star, path[k]) for k in (0, 20, 40, 60)], rtol=1e-9)
    assert run.log_policies is not None
    np.testing.assert_allclose(run.log_policies[1][2], path[40][1], atol=1e-12)
    np.testing.assert_allclose(run.trace["exploitability"][-1], mmd.exploitability(game, path[60]), rtol=1e-9)
    np.testing.assert_array_equal(run.trace["gradient_evaluations"], 1 + run.trace["iteration"])


def test_kl_to_a_nash_equilibrium_stays_where_the_magnet_does() -> None:
    """The cycle's equilibrium is (4, 3, 4) / 11, and nothing is proven of the distance to it."""
    run = mmd.record("preference:cycle", mmd.MagneticMirrorDescent(alpha=0.1), 300, to="nash")
    nash = np.array([4, 3, 4]) / 11
    assert run.trace["kl"][0] == pytest.approx(2 * nash @ np.log(3 * nash), rel=1e-9)
    assert run.trace["kl"][-1] > 1e-3
    assert run.proven_factor is None
    assert run.reference == "a Nash equilibrium, by linear programming"
    with pytest.raises(ValueError, match="falls by a factor of 100"):
        mmd.linear_rate(run)


def test_of_many_equilibria_the_nearest_is_meant() -> None:
    """Every row is optimal where all payoffs are 0, so every iterate is an equilibrium."""
    run = mmd.record(np.zeros((2, 2)), mmd.MagneticMirrorDescent(eta=1.0, alpha=0.5), 3, to="nash", start=START)
    assert run.reference == "the nearest Nash equilibrium"
    assert run.equilibrium is None
    np.testing.assert_allclose(run.trace["kl"], 0, atol=1e-12)


def test_a_recording_is_drawn_from_memory_and_from_its_folder(tmp_path: Path) -> None:
    run = mmd.record(PENNIES, mmd.MagneticMirrorDescent(eta=0.2, alpha=0.2), start=START)
    run.save(tmp_path)
    for given in (run, tmp_path):
        axes = mmd.plot_convergence({"run": given}, "iterations", y="kl").axes[0]
        drawn = {str(line.get_label()): np.asarray(line.get_xydata(), float) for line in axes.get_lines()}
        at, values = drawn["run"].T  # of rows that share a point of the axis, one
        np.testing.assert_allclose(values, run.trace["kl"][at.astype(int)], rtol=1e-12)
        assert len(at) > 400
        assert at[0] == 0
        bound = drawn[f"theorem: times {1 / 1.04:.4g}"]
        np.testing.assert_allclose(bound[:, 1], run.trace["kl"][0] * 1.04 ** -bound[:, 0], rtol=1e-9)
        assert mmd.linear_rate(given).proven == 1 / 1.04
    with pytest.raises(FigureError, match="recorded no 'seconds'"):
        mmd.plot_convergence(run, "seconds")


def test_what_cannot_be_recorded_is_refused() -> None:
    descent = mmd.MagneticMirrorDescent(alpha=0.2)
    for given, message in (
        (lambda: mmd.record(PENNIES, mmd.Interior()), "runs on the host"),
        (lambda: mmd.record(PENNIES, mmd.Anchored(), to="regularized"), "has no regularized equilibrium"),
        (lambda: mmd.record(PENNIES, descent, to="near"), "expected KL to 'regularized', 'nash' or a policy"),
        (lambda: mmd.record(PENNIES, descent, 0), "iterations >= 1"),
        (lambda: mmd.record(PENNIES, descent, every=0), "every >= 1"),
        (lambda: mmd.record(PENNIES, mmd.MagneticMirrorDescent), "expected an algorithm such as"),
    ):
        with pytest.raises(GameError, match=message):
            given()
