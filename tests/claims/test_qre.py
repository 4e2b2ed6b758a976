"""Published quantal response equilibria and trajectories."""

import jax.numpy as jnp
import numpy as np
import pytest

import mmd
from mmd.algorithms.magnetic import MagneticMirrorDescent
from mmd.game.game import Game
from mmd.magnets import Fixed, Refresh
from mmd.measure import metrics
from tests.claims.reference import PERTURBED_RPS, kl_to, trajectory

NORMALIZED = (PERTURBED_RPS + 3) / 6
QRES = {  # Sokota et al., repository; both players play the same
    0.5: (0.29813319, 0.41382045, 0.28804635),
    0.2: (0.22364492, 0.47798817, 0.29836691),
    0.1: (0.17347803, 0.48630324, 0.34021873),
    0.05: (0.1517447, 0.46794775, 0.38030755),
}


@pytest.mark.parametrize("alpha", QRES)
def test_converges_to_the_published_qre(alpha: float) -> None:
    solution = mmd.solve(
        Game.from_matrix(NORMALIZED),
        MagneticMirrorDescent(alpha=alpha),
        tolerance=0.0,
        regularized_tolerance=0.0,
        max_iterations=20_000,
    )
    for probabilities in solution.policy.probabilities:
        np.testing.assert_allclose(probabilities[1:], QRES[alpha], rtol=0, atol=1e-8)
    assert solution.regularized_gap is not None
    assert solution.regularized_gap < 1e-14
    assert solution.exploitability > 1e-2  # the equilibrium of another game


@pytest.mark.parametrize("alpha", QRES)
def test_a_published_qre_is_a_fixed_point(alpha: float) -> None:
    game = Game.from_matrix(NORMALIZED)
    qre = tuple(np.log([1.0, *QRES[alpha]]) for _ in range(2))
    moved = trajectory(game, MagneticMirrorDescent(eta=0.3, alpha=alpha), 1, start=qre)[1]
    np.testing.assert_allclose(moved, qre, rtol=0, atol=2e-7)  # the digits printed
    at = metrics.profile(game.astype(jnp.float64), tuple(jnp.asarray(q) for q in qre))
    center = tuple(player.dilated_center() for player in game.players)
    assert metrics.regularized_gap(game, at, center, alpha) < 1e-13
    away = metrics.profile(game.astype(jnp.float64), tuple(player.dilated_center() for player in game.players))
    assert metrics.regularized_gap(game, away, center, alpha) > 1e-3


def test_published_trajectory() -> None:
    """Fact 39: alpha = eta = 0.1 from uniform play."""
    game = Game.from_matrix(NORMALIZED)
    qre = trajectory(game, MagneticMirrorDescent(eta=0.1, alpha=0.1), 30_000)[-1]
    path = trajectory(game, MagneticMirrorDescent(eta=0.1, alpha=0.1), 1000)
    for k, expected in {0: 0.154661, 1: 0.1515275, 10: 0.1257588, 100: 0.0213494}.items():
        np.testing.assert_allclose(kl_to(game, qre, path[k]), expected, rtol=0, atol=6e-7)
    np.testing.assert_allclose(kl_to(game, qre, path[1000]), 5.1e-10, rtol=0.02)
    np.testing.assert_allclose(np.exp(path[100][0][1:]), [0.16672609, 0.55403274, 0.27924117], rtol=0, atol=1e-8)


CYCLE = np.array([[0.5, 0.1, 0.8], [0.9, 0.5, 0.1], [0.2, 0.9, 0.5]])  # fact 11: P[b>a] = P[c>b] = .9, P[a>c] = .8
START = np.log([1.0, 0.6, 0.3, 0.1])


def test_two_actions_have_the_closed_form() -> None:
    """Fact 21: odds exp((p - 1/2) / alpha) against any opponent."""
    game = Game.from_matrix(np.array([[0.5, 0.7], [0.3, 0.5]]) - 0.5)
    solution = mmd.solve(
        game, MagneticMirrorDescent(alpha=0.1), tolerance=0.0, regularized_tolerance=0.0, max_iterations=5000
    )
    np.testing.assert_allclose(solution.policy.probabilities[0][1], 1 / (1 + np.exp(-2)), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("alpha", "expected", "gap"),
    [
        (0.5, (0.47508864, 0.41631526, 0.1085961), 0.293194),
        (0.1, (0.30479773, 0.42474706, 0.27045521), 0.156919),
        (0.05, (0.31750046, 0.35550954, 0.32699), 0.093907),
    ],
)
def test_equilibrium_around_a_given_magnet(alpha: float, expected: tuple, gap: float) -> None:
    """Fact 32: the regularized equilibrium of the cycle around (.6, .3, .1), and its gap in the original game."""
    game = Game.from_matrix(CYCLE - 0.5)
    algorithm = MagneticMirrorDescent(alpha=alpha, magnet=Fixed((START, START)))
    solution = mmd.solve(game, algorithm, tolerance=0.0, regularized_tolerance=0.0, max_iterations=40_000)
    np.testing.assert_allclose(solution.policy.probabilities[0][1:], expected, rtol=0, atol=1e-8)
    np.testing.assert_allclose(solution.nash_conv, gap, rtol=0, atol=6e-7)


@pytest.mark.parametrize(
    ("eta", "alpha", "every", "gaps"),
    [
        (0.4, 0.1, 100, {100: (0.167, 6e-4), 1000: (1.3e-4, 6e-6)}),
        (1.0, 0.25, 50, {100: (0.245, 6e-4), 1000: (0.0019, 6e-5)}),
        (2.0, 0.5, 1, {100: (0.69, 6e-3)}),
    ],
)
def test_refreshed_magnet_trajectories(eta: float, alpha: float, every: int, gaps: dict) -> None:
    """Fact 35: refreshing every K steps converges to the Nash equilibrium; K = 1 is mirror descent and diverges.

    It goes away from a fully mixed equilibrium at every step, in KL (Bailey and Piliouras 2018). Its exploitability
    after a thousand steps says nothing: rounding decides where on the way round the iterate is by then.
    """
    game = Game.from_matrix(CYCLE - 0.5)
    algorithm = MagneticMirrorDescent(eta=eta, alpha=alpha, magnet=Refresh(every=every, center=(START, START)))
    path = trajectory(game, algorithm, 1000, start=(START, START))
    for k, (expected, digits) in gaps.items():
        np.testing.assert_allclose(2 * mmd.exploitability(game, path[k]), expected, rtol=0, atol=digits)
    if every == 1:
        row, column = (np.log(probabilities) for probabilities in mmd.solve_exactly(game).probabilities)
        apart = [kl_to(game, (row, column), at) for at in path]
        assert (np.diff(apart) > 0).all()
        assert apart[-1] > 10 * apart[0]
