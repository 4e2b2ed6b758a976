"""What the measurement of `mpo`'s two loops makes of numbers that are known, and that its page is what it stored."""

import json
from typing import Any, cast

import jax.numpy as jnp
import numpy as np

import games
import mmd
from benchmarks.claims import race, two_loops
from tests.selfplay import CYCLE, MARGINS, NASH

COURSE = two_loops.Course(*(np.zeros(0) for _ in two_loops.Course._fields))


def run_of(log10: np.ndarray) -> two_loops.Run:
    return two_loops.Run(COURSE, np.arange(len(log10)), 10.0**log10, 0.0, cast("Any", None))


def test_a_geometric_fall_is_a_line() -> None:
    """A decade in 50 evaluations. With a swing upwards now and then, the smallest so far remains nearly one."""
    n = np.arange(600)
    line = run_of(-n / 50).line()
    assert line is not None
    assert run_of(-n / 50).first_below(1e-2) == 100
    np.testing.assert_allclose(list(line.values()), [0.02, 1.0, 1.0], rtol=1e-9)
    swinging = run_of(-n / 50 + 2.0 * (n % 20 > 10)).line()
    assert swinging is not None
    assert swinging["r_squared"] < 0.9
    assert swinging["r_squared_of_smallest"] > 0.99


def test_the_singular_value_of_the_cycle() -> None:
    """An antisymmetric 3 x 3 matrix has two equal ones, whose squares sum to the squares of its scaled entries."""
    plan = np.concatenate([[1.0], NASH])
    sigma = two_loops.smallest_singular_value(CYCLE, (plan, plan), (np.ones(1), np.ones(1)))
    np.testing.assert_allclose(2 * sigma**2, np.sum(np.outer(NASH, NASH) * MARGINS**2), rtol=1e-12)


def test_directions_of_a_tree_are_orthonormal_in_the_distance() -> None:
    """A step of length e along one costs e^2 / 2 in D, up to third order, and the plan remains one."""
    game, e = games.load("leduc_poker"), 1e-4
    rng = np.random.default_rng(0)
    for player in game.players:
        policy = np.exp(player.uniform())
        last, n = player.first_sequence[-1], player.n_actions[-1]
        policy[last : last + n] = [1 - 1e-12 * (n - 1), *np.full(n - 1, 1e-12)]  # one that is played
        weights = rng.uniform(0.5, 2.0, player.n_infosets)
        columns = two_loops.directions(player, policy, weights)
        step = rng.standard_normal(columns.shape[1])
        with mmd.float64():
            plan, fallback = player.plan_of_probabilities(jnp.asarray(policy)), jnp.asarray(player.uniform())
            moved = plan + e * columns @ (step / np.linalg.norm(step))
            logs = [player.log_policy_of(x, fallback) for x in (moved, plan)]
            np.testing.assert_allclose(player.top_down(logs[0]), moved, atol=1e-15)
            distance = player.bregman(moved, *logs, player.over_sequences(jnp.asarray(weights)))
        np.testing.assert_allclose(distance, e**2 / 2, rtol=1e-2)


def test_the_longest_flat_stretch() -> None:
    """A decade in 50 evaluations, where a factor of 2 takes 15, and which stand still for 200."""
    n = np.arange(600)
    assert two_loops.longest_flat(n, 10.0 ** (-np.where(n < 100, n, np.maximum(100, n - 200)) / 50)) == 215


def test_games_that_are_drawn_to_have_an_interior_equilibrium_have_it() -> None:
    game = two_loops.interior(5)
    exact = mmd.solve_exactly(game).policy.probabilities[0]
    assert exact[1:].min() > 1e-3


def test_the_page_is_what_is_stored() -> None:
    stored = json.loads((two_loops.RESULTS / "two_loops.json").read_text())
    assert two_loops.PAGE.read_text("utf-8") == two_loops.page(stored)


def test_bars_on_what_is_stored() -> None:
    """1e-9 within 500,000 evaluations and twice those of `anchored`, Leduc poker 1e-6 in at most 40,000."""
    found = json.loads((two_loops.RESULTS / "two_loops.json").read_text())
    stored, copies = found["games"], found["perturbed"]
    assert stored.keys() == {*race.GAMES, *two_loops.TABLES}
    assert all(one["evaluations_to"]["1e-09"] for one in stored.values())
    assert copies.keys() == {*two_loops.PERTURBED}
    assert max(one["evaluations_to"]["1e-09"] for one in (*stored.values(), *copies.values())) <= 500_000
    assert stored["leduc_poker"]["evaluations_to"]["1e-06"] <= 40_000
    for one in stored.values():
        theirs = one["anchored"]["1e-09"]
        assert theirs is None or one["evaluations_to"]["1e-09"] <= 2 * theirs
