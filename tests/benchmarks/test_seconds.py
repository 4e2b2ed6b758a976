"""Benchmarks of seconds: what they draw is what they say, their pages and claims are those of the stored numbers."""

import json
from typing import Any

import numpy as np
import pytest

from benchmarks.device import cold_start, cost_model, large_trees, lp_curve
from benchmarks.report import RESULTS
from mmd.algorithms._newton import Work
from mmd.solving import automatic


def stored(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text("utf-8"))


def test_drawn_matrices_are_of_their_kind() -> None:
    rng = np.random.default_rng(0)
    for draw in cold_start.SQUARE:
        matrix = draw(rng, (20, 30))
        assert matrix.shape == (20, 20)
        np.testing.assert_array_equal(matrix, -matrix.T)
    assert np.linalg.matrix_rank(cold_start.low_rank(rng, (20, 30))) == 5
    assert len(np.unique(cold_start.duplicated(rng, (20, 30)), axis=0)) <= 10
    assert set(np.unique(cold_start.integers(rng, (20, 30)))) == {-1, 0, 1}


def test_cases_are_as_many_as_the_claim_says_and_the_same_every_time() -> None:
    cases = cold_start.cases()
    groups = [case.group for case in cases]
    assert {group: groups.count(group) for group in cold_start.MOST_SECONDS} == {
        "trees": 11,
        "perturbed": 100,
        "random": 200,
        "matrices": 54,
    }
    assert len({case.key for case in cases}) == len(cases)
    for case, again in zip(cases[-54::9], cold_start.cases()[-54::9], strict=True):
        assert case.matrix is not None
        assert again.matrix is not None
        np.testing.assert_array_equal(case.matrix(), again.matrix())


def test_the_page_of_cold_starts_is_that_of_the_stored_numbers() -> None:
    assert cold_start.PAGE.read_text("utf-8") == cold_start.page(stored("cold_start"))


def test_every_game_of_the_cold_starts_converges() -> None:
    for key, runs in stored("cold_start")["games"].items():
        for name in ("alone", "first", "again"):
            if name in runs:
                assert runs[name]["converged"], key
                assert runs[name]["exploitability"] <= runs[name]["tolerance"], key


def test_the_crossing_is_where_the_default_is_faster_from_then_on() -> None:
    def runs(ours: float | None, theirs: float | None) -> dict[str, Any]:
        highs = {"seconds": None} if theirs is None else {"attempts": [{"seconds": theirs}, {"seconds": 9.0}]}
        return {"default": {"seconds": ours}, "highs": highs}

    measured = {"a:1": runs(1, 2), "a:2": runs(3, 2), "a:3": runs(3, 4), "a:4": runs(9, None), "b:1": runs(None, 1)}
    assert lp_curve.crossing(measured, "a") == "a:3"
    assert lp_curve.crossing(measured, "b") is None


def test_what_a_start_by_regret_minimisation_is_worth_is_a_ratio_of_what_was_reached() -> None:
    measured = {
        "a": {"auto 1e-3": {"seconds": 2.0}, "restarted 1e-3": {"seconds": 9.0}},
        "b": {"auto 1e-3": {"seconds": 2.0}, "restarted 1e-3": {"not_reached": "1800 s"}},
    }
    assert large_trees.gains(measured) == {"a": pytest.approx(4.5)}


def test_the_model_of_cost_holds_within_a_factor_of_two_on_trees_it_was_not_fitted_on() -> None:
    games = stored("cost_model")["games"]
    held_out = [spec for spec in games if spec in cost_model.HELD_OUT]
    assert not set(cost_model.FITTED) & set(cost_model.HELD_OUT)
    assert len(held_out) >= 10
    for spec in held_out:
        run = games[spec]
        work = Work(sum(run["sequences"]), run["work"]["entries"], run["work"]["operations"])
        assert 0.5 <= automatic.interior_seconds(work) / run["seconds"] <= 2, spec
