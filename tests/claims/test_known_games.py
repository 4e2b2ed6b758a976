"""Kuhn and Leduc poker: values, and how many gradient evaluations the engines may take from uniform play, no flags."""

import numpy as np
import pytest

import games
import mmd
from benchmarks.claims.convergence import evaluations_to, exploitability_at, perturbed
from mmd.algorithms.contract import Algorithm

KUHN_VALUE = -1 / 18
LEDUC_VALUE = -0.0856064240780


@pytest.mark.parametrize(("algorithm", "budget"), [(mmd.Auto(), 400), (mmd.Anchored(), 500)], ids=["auto", "anchored"])
def test_kuhn(algorithm: Algorithm, budget: int) -> None:
    solution = mmd.solve(games.load("kuhn_poker"), algorithm, tolerance=1e-12, polish=False)
    assert solution.converged
    assert solution.gradient_evaluations <= budget
    np.testing.assert_allclose(solution.value, KUHN_VALUE, rtol=0, atol=1e-11)
    assert solution.iterate == "last" or algorithm.name == "auto"


def test_leduc_by_auto_without_the_polish() -> None:
    solution = mmd.solve(games.load("leduc_poker"), tolerance=1e-9, polish=False)
    assert solution.converged
    np.testing.assert_allclose(solution.value, LEDUC_VALUE, rtol=0, atol=1e-9)
    to_1e6, to_1e9 = evaluations_to(solution, 1e-6), evaluations_to(solution, 1e-9)
    assert to_1e6 is not None
    assert to_1e6 <= 6500
    assert to_1e9 is not None
    assert to_1e9 <= 15_000


def test_leduc_by_the_last_iterate_of_anchored() -> None:
    solution = mmd.solve(games.load("leduc_poker"), mmd.Anchored(), tolerance=1e-6)
    assert solution.converged
    assert solution.iterate == "last"
    assert solution.gradient_evaluations <= 12_000
    np.testing.assert_allclose(solution.value, LEDUC_VALUE, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "value", "budget"),
    [
        ("kuhn_poker", KUHN_VALUE, 100),
        ("leduc_poker", LEDUC_VALUE, 2000),
        ("goofspiel:cards=5", 0.0, 1000),
        ("liars_dice:faces=5", 0.008, 1000),
    ],
)
def test_restarted_steps_end_exactly(spec: str, value: float, budget: int) -> None:
    """The polish finishes long before the iteration would; its own gradient evaluations count."""
    solution = mmd.solve(games.load(spec), mmd.Restarted(), tolerance=1e-13)
    assert solution.converged
    assert solution.iterate == "polished"
    assert solution.gradient_evaluations <= budget
    np.testing.assert_allclose(solution.value, value, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("spec", "value"),
    [("kuhn_poker", KUHN_VALUE), ("leduc_poker", LEDUC_VALUE), ("goofspiel", 0.0), ("liars_dice:faces=5", 0.008)],
)
def test_the_default_is_exact_and_says_what_it_was(spec: str, value: float) -> None:
    solution = mmd.solve(games.load(spec), tolerance=1e-12)
    assert solution.converged
    assert solution.algorithm["name"] == solution.iterate == "interior"
    assert solution.algorithm["chosen_by"] == "auto"
    assert solution.gradient_evaluations <= 30
    np.testing.assert_allclose(solution.value, value, rtol=0, atol=1e-11)


def test_perturbed_copies_of_leduc() -> None:
    """Five games that nothing was tuned on, symmetric in nothing."""
    leduc = games.load("leduc_poker")
    reached = [
        exploitability_at(mmd.solve(perturbed(leduc, seed), tolerance=0.0, max_iterations=6000, polish=False), 6000)
        for seed in range(5)
    ]
    assert np.median(reached) <= 5e-5


def test_the_magnets_center_matters_on_a_tree() -> None:
    """Two centres, two QREs: the published caution about dilated entropy and uniform play."""
    game = games.load("kuhn_poker")
    values = {}
    for center in ("dilated", "uniform"):
        algorithm = mmd.MagneticMirrorDescent(alpha=0.1, magnet=mmd.Fixed(center))
        solution = mmd.solve(game, algorithm, tolerance=0.0, regularized_tolerance=0.0, max_iterations=20_000)
        assert solution.regularized_gap is not None
        assert solution.regularized_gap < 1e-13
        values[center] = solution.exploitability
    assert abs(values["dilated"] - values["uniform"]) > 1e-3
    np.testing.assert_allclose(
        values["dilated"], 0.104, rtol=0, atol=6e-4
    )  # as other published implementations measure
