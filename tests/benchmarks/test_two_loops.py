"""What the measurement of `mpo`'s two loops makes of numbers that are known, and that its page is what it stored."""

import json
from typing import Any, cast

import numpy as np

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


def test_games_that_are_drawn_to_have_an_interior_equilibrium_have_it() -> None:
    game = two_loops.interior(5)
    exact = mmd.solve_exactly(game).policy.probabilities[0]
    assert exact[1:].min() > 1e-3


def test_the_page_is_what_is_stored() -> None:
    stored = json.loads((two_loops.RESULTS / "two_loops.json").read_text())
    assert two_loops.PAGE.read_text("utf-8") == two_loops.page(stored)


def test_bars_on_what_is_stored() -> None:
    """1e-9 within 500,000 evaluations and twice those of `anchored`, Leduc poker 1e-6 in at most 40,000."""
    stored = json.loads((two_loops.RESULTS / "two_loops.json").read_text())["games"]
    assert stored.keys() == {*race.GAMES, *two_loops.TABLES}
    assert all(one["evaluations_to"]["1e-09"] for one in stored.values())
    assert max(one["evaluations_to"]["1e-09"] for one in stored.values()) <= 500_000
    assert stored["leduc_poker"]["evaluations_to"]["1e-06"] <= 40_000
    for one in stored.values():
        theirs = one["anchored"]["1e-09"]
        assert theirs is None or one["evaluations_to"]["1e-09"] <= 2 * theirs
