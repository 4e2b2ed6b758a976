"""Mirror-prox against NumPy, a known curve, Nemirovski's bound, and where mirror descent circles.

`theory.operator_norm`, the constant of its step size, is tested here too.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import games
import mmd
from games import kuhn_poker, matrix
from mmd.algorithms.extragradient import Extragradient
from mmd.measure import theory
from tests.claims.reference import BIASED_RPS, dense_payoffs, kl_to, plan_of, soft_best_response, trajectory
from tests.mmd.algorithms.mirror import adapting, cycle_curve, ergodic, gradients, prox

RANDOM = np.random.default_rng(0).uniform(-1, 1, (6, 9))


def test_constant_steps_are_two_steps_of_mirror_descent() -> None:
    game, eta = kuhn_poker.game(), 0.5
    at = tuple(player.uniform() for player in game.players)
    for found in trajectory(game, Extragradient(eta=eta, adaptive=False), 20)[1:]:
        ahead = prox(game, at, gradients(game, at), eta)
        at = prox(game, at, gradients(game, ahead), eta)
        for p in range(2):
            np.testing.assert_allclose(np.exp(found[p]), np.exp(at[p]), rtol=0, atol=1e-12)


def test_adapted_steps_obey_the_condition_as_published() -> None:
    """The same refusals and iterates as with both sides of Nemirovski's condition computed from their definition."""
    game = games.load("goofspiel:cards=3")
    algorithm = Extragradient().resolve(game)
    expected, _, refused = adapting(game, lambda center, _: gradients(game, center), algorithm.eta, 30)
    assert refused > 0
    for found, at in zip(trajectory(game, algorithm, 30), expected, strict=True):
        for p in range(2):
            np.testing.assert_allclose(np.exp(found[p]), np.exp(at[p]), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("eta", "known"), [(0.5, {100: 0.197, 1000: 0.0014}), (1.0, {100: 0.0597, 1000: 2.8e-10})])
def test_known_curve(eta: float, known: dict[int, float]) -> None:
    """NashConv after so many iterations, as another implementation measures it: two digits."""
    curve = cycle_curve(Extragradient(eta=eta, adaptive=False), games.load("preference:cycle"))
    for iteration, gap in known.items():
        np.testing.assert_allclose(curve[iteration], gap, rtol=0.02)


@pytest.mark.parametrize(
    ("game", "adaptive"), [(kuhn_poker.game(), True), (matrix.game(RANDOM), False)], ids=["Kuhn", "random"]
)
def test_the_average_keeps_nemirovskis_bound(game: mmd.Game, adaptive: bool) -> None:
    """NashConv of the average <= max_u D(u, z_0) / sum eta after every step; within a factor of two, so it bites."""
    gaps, bounds = ergodic(game, Extragradient(adaptive=adaptive), 300)
    assert (gaps <= bounds).all()
    assert (gaps / bounds).max() > 0.4


@pytest.mark.parametrize("game", [kuhn_poker.game(), matrix.game(BIASED_RPS)], ids=["Kuhn", "biased RPS"])
def test_the_last_iterate_converges_where_mirror_descent_circles(game: mmd.Game) -> None:
    algorithm = Extragradient().resolve(game)
    solution = mmd.solve(game, algorithm, tolerance=1e-9, max_iterations=1000)
    assert solution.converged
    assert solution.iterate == "last"
    assert solution.gradient_evaluations == 2 * solution.iterations + 1
    np.testing.assert_allclose(solution.value, -1 / 18 if game.name.startswith("kuhn") else 0, rtol=0, atol=2e-9)
    circling = mmd.MagneticMirrorDescent(eta=algorithm.eta, alpha=0.0)
    assert mmd.solve(game, circling, tolerance=0.0, max_iterations=1000).trace["exploitability"].min() > 0.01


def test_the_average_is_returned_on_request() -> None:
    game = matrix.game(BIASED_RPS)
    last = mmd.solve(game, Extragradient(), tolerance=0.0, max_iterations=200)
    average = mmd.solve(game, Extragradient(iterate="average"), tolerance=0.0, max_iterations=200)
    assert average.iterate == "average"
    np.testing.assert_allclose(average.exploitability, last.trace["average_exploitability"][-1], rtol=1e-9)
    assert average.exploitability > 100 * last.exploitability


@pytest.mark.parametrize(
    ("chosen", "message"), [({"eta": 0.0}, "expected eta > 0, got 0"), ({"iterate": "best"}, "'average' or 'last'")]
)
def test_refusals(chosen: dict, message: str) -> None:
    with pytest.raises(mmd.GameError, match=message):
        mmd.solve(kuhn_poker.game(), Extragradient(**chosen))


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(0.01, 10))
def test_the_operator_norm_bounds_the_payoffs_by_the_divergences(seed: int, scale: float) -> None:
    """|<x - x', A (y - y')>| <= L (D(x, x') + D(y, y')): L, and the entropy's strong convexity in the same norm."""
    game, rng = kuhn_poker.game(), np.random.default_rng(seed)
    one, other = (
        tuple(soft_best_response(p, scale * rng.normal(size=p.n_sequences), p.uniform(), 1.0) for p in game.players)
        for _ in range(2)
    )
    dx, dy = (plan_of(p, a) - plan_of(p, b) for p, a, b in zip(game.players, one, other, strict=True))
    assert abs(dx @ dense_payoffs(game) @ dy) <= theory.operator_norm(game) * kl_to(game, one, other)


def test_the_operator_norm_is_attained_and_blind_to_constants() -> None:
    """Two pure strategies a player are 2 apart: |<dx, A dy>| = 4 = L 2 2 with payoffs of +-1, whatever is added."""
    for constant in (0.0, 100.0):
        game = matrix.game(np.array([[1.0, -1], [-1, 1]]) + constant)
        difference = np.array([0.0, 1, -1])
        attained = abs(difference @ dense_payoffs(game) @ difference)
        np.testing.assert_allclose(attained, theory.operator_norm(game) * 2 * 2, rtol=1e-12)
