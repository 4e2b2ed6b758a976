"""Theorem 3.4 of the MMD paper: with a fixed magnet the last iterate contracts linearly to the regularized equilibrium.

The reference equilibrium is computed independently (`reference.quantal_response_equilibrium`), and the sequence is
followed only until KL < 1e-12: below that one would measure rounding.
"""

from collections.abc import Callable

import numpy as np
import pytest

import games
from games import kuhn_poker
from mmd.algorithms.magnetic import MagneticMirrorDescent
from mmd.game.game import Game
from mmd.magnets import Fixed
from mmd.measure import theory
from tests.claims.reference import (
    BIASED_RPS,
    dense_payoffs,
    kl_to,
    plan_of,
    quantal_response_equilibrium,
    soft_best_response,
    trajectory,
)

FLOOR = 1e-12


def _games() -> dict[str, Game]:
    rng = np.random.default_rng(7)
    strength = rng.normal(size=20)
    preference = 1 / (1 + np.exp(strength[None, :] - strength[:, None] + 0.3 * np.triu(rng.normal(size=(20, 20)), 1)))
    preference = np.triu(preference, 1) - np.tril(preference.T, -1) + np.tril(np.ones((20, 20)), -1)
    np.fill_diagonal(preference, 0.5)
    base = rng.uniform(-1, 1, (10, 10))
    return {
        "uniform 20": Game.from_matrix(rng.uniform(-1, 1, (20, 20))),
        "biased RPS": Game.from_matrix(BIASED_RPS),
        "noisy preference 20": Game.from_matrix(preference - 0.5),
        "duplicated 20": Game.from_matrix(np.tile(base, (2, 2))),
        "rectangular 5x9": Game.from_matrix(rng.normal(size=(5, 9))),
        "kuhn_poker": kuhn_poker.game(),
    }


CELLS = [(name, alpha) for name in _games() for alpha in (0.5, 0.1)]


def contraction(game: Game, alpha: float, eta: float, target: tuple, n_steps: int) -> tuple[bool, float]:
    """Whether `KL_k <= KL_0 (1 + eta alpha)^-k` at every step above the floor, and the fitted rate per step."""
    algorithm = MagneticMirrorDescent(eta=eta, alpha=alpha, magnet=Fixed("dilated"))
    return against_the_theorem(
        np.array([kl_to(game, target, at) for at in trajectory(game, algorithm, n_steps)]), eta, alpha
    )


def against_the_theorem(distances: np.ndarray, eta: float, alpha: float) -> tuple[bool, float]:
    """The same, of distances after 0, 1, ... steps."""
    above = np.flatnonzero(distances < FLOOR)
    distances = distances[: above[0] if len(above) else None]
    bound = distances[0] * theory.contraction_factor(eta, alpha) ** np.arange(len(distances))
    late = distances < 0.1 * distances[0]
    rate = -np.polyfit(np.flatnonzero(late), np.log(distances[late]), 1)[0] if late.sum() > 2 else 0.0
    reached = bool(len(above))
    return bool((distances <= bound * (1 + 1e-12)).all()) and reached, rate


@pytest.mark.parametrize(("name", "alpha"), CELLS)
def test_last_iterate_contracts_as_the_theorem_says(
    name: str, alpha: float, record_property: Callable[[str, object], None]
) -> None:
    game = _games()[name]
    magnet = tuple(np.asarray(player.dilated_center()) for player in game.players)
    target = quantal_response_equilibrium(game, alpha, magnet)
    eta = theory.largest_step(game, alpha)
    expected = np.log1p(eta * alpha)
    holds, rate = contraction(game, alpha, eta, target, n_steps=int(40 / expected) + 50)
    record_property("fitted_rate", float(rate))
    record_property("theorem_rate", float(expected))
    assert holds
    assert rate >= expected


@pytest.mark.parametrize(
    ("spec", "alpha"),
    [("dark_hex", 0.5), ("dark_hex", 0.2), ("liars_dice:faces=4", 0.1), ("leduc_poker", 0.1)],
)
def test_the_papers_other_trees(spec: str, alpha: float) -> None:
    """Too large for a root finder: the target is the method's own limit, which the independent soft reply confirms."""
    game = games.load(spec)
    magnet = tuple(np.asarray(player.dilated_center()) for player in game.players)
    eta = theory.largest_step(game, alpha)
    expected = np.log1p(eta * alpha)
    steps = int(40 / expected) + 50
    path = trajectory(game, MagneticMirrorDescent(eta=eta, alpha=alpha, magnet=Fixed("dilated")), 2 * steps)
    target = path[-1]
    plans = [plan_of(player, log) for player, log in zip(game.players, target, strict=True)]
    matrix = dense_payoffs(game)
    gradients = (matrix @ plans[1], -matrix.T @ plans[0])
    for player, gradient, mu, log in zip(game.players, gradients, magnet, target, strict=True):
        reply = soft_best_response(player, gradient, mu, alpha)
        np.testing.assert_allclose(np.exp(log), np.exp(reply), rtol=0, atol=1e-9)
    distances = np.array([sum(x @ (t - p) for x, t, p in zip(plans, target, at, strict=True)) for at in path[:steps]])
    holds, rate = against_the_theorem(distances, eta, alpha)
    assert holds
    assert rate >= expected


def test_without_regularization_nothing_contracts() -> None:
    """alpha = 0: the same test fails, because mirror descent cycles around the equilibrium."""
    game = Game.from_matrix(BIASED_RPS)
    nash = tuple(np.log([1.0, 0.2, 0.6, 0.2]) for _ in range(2))
    holds, _ = contraction(game, 0.0, eta=0.05, target=nash, n_steps=4000)
    assert not holds
    far = [kl_to(game, nash, at) for at in trajectory(game, MagneticMirrorDescent(eta=0.05, alpha=0.0), 4000)]
    assert min(far[1:]) >= far[0]
