"""Optimistic mirror descent against NumPy, the known curve of a preference cycle, and its bound; it needs no tuning."""

import numpy as np
import pytest

import games
import mmd
from games import kuhn_poker, matrix
from mmd.algorithms.optimistic import Optimistic
from tests.claims.reference import BIASED_RPS, trajectory
from tests.mmd.algorithms.mirror import adapting, cycle_curve, ergodic, gradients, prox

RANDOM = np.random.default_rng(0).uniform(-1, 1, (6, 9))


def test_constant_steps_are_mirror_descent_on_the_extrapolated_gradient() -> None:
    """`z_k+1 = prox(z_k, 2 g_k - g_k-1)`, the one-step form, from the two steps of the paper."""
    game, eta = kuhn_poker.game(), 0.5
    at = tuple(player.uniform() for player in game.players)
    before = gradients(game, at)
    for found in trajectory(game, Optimistic(eta=eta, adaptive=False), 20)[1:]:
        now = gradients(game, at)
        at = prox(game, at, tuple(2 * new - old for new, old in zip(now, before, strict=True)), eta)
        before = now
        for p in range(2):
            np.testing.assert_allclose(np.exp(found[p]), np.exp(at[p]), rtol=0, atol=1e-12)


def test_adapted_steps_obey_the_condition_as_published() -> None:
    """The same refusals and iterates as with both sides of the condition computed from its definition."""
    game = games.load("goofspiel:cards=3")
    algorithm = Optimistic().resolve(game)
    _, expected, refused = adapting(game, lambda _, looked: gradients(game, looked), algorithm.eta, 30)
    assert refused > 0
    for found, at in zip(trajectory(game, algorithm, 30)[1:], expected, strict=True):
        for p in range(2):
            np.testing.assert_allclose(np.exp(found[p]), np.exp(at[p]), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("eta", "known"),
    [
        (0.1, {100: 0.37, 1000: 0.37, 10_000: 0.0525}),
        (0.5, {100: 0.198, 1000: 0.00121}),
        (1.0, {100: 0.0531, 1000: 2.3e-11}),
    ],
)
def test_known_curve(eta: float, known: dict[int, float]) -> None:
    """NashConv after so many iterations, as another implementation measures it: two digits."""
    curve = cycle_curve(Optimistic(eta=eta, adaptive=False), games.load("preference:cycle"))
    for iteration, gap in known.items():
        np.testing.assert_allclose(curve[iteration], gap, rtol=0.02)


@pytest.mark.parametrize(
    ("game", "adaptive"), [(kuhn_poker.game(), True), (matrix.game(RANDOM), False)], ids=["Kuhn", "random"]
)
def test_the_average_keeps_its_bound(game: mmd.Game, adaptive: bool) -> None:
    """NashConv of the average <= max_u D(u, c_1) / sum eta after every step; within a factor of two, so it bites."""
    gaps, bounds = ergodic(game, Optimistic(adaptive=adaptive), 300)
    assert (gaps <= bounds).all()
    assert (gaps / bounds).max() > 0.4


@pytest.mark.parametrize("game", [kuhn_poker.game(), matrix.game(BIASED_RPS)], ids=["Kuhn", "biased RPS"])
def test_the_last_iterate_converges(game: mmd.Game) -> None:
    """Mirror descent circles here: see the test of extragradient."""
    solution = mmd.solve(game, Optimistic(), tolerance=1e-9, max_iterations=1000)
    assert solution.converged
    assert solution.iterate == "last"
    assert solution.gradient_evaluations == solution.iterations + 1
    np.testing.assert_allclose(solution.value, -1 / 18 if game.name.startswith("kuhn") else 0, rtol=0, atol=2e-9)


def test_adapting_beats_the_constant_step_of_the_theorem() -> None:
    game = kuhn_poker.game()
    adapted = mmd.solve(game, Optimistic(), tolerance=1e-6)
    constant = mmd.solve(game, Optimistic(adaptive=False), tolerance=1e-6, max_iterations=10 * adapted.iterations)
    assert adapted.converged
    assert not constant.converged
