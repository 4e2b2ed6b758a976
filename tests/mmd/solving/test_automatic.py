"""What `auto` chooses, what it says, and what it does where the first choice does not arrive."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import games
import mmd
from mmd.algorithms.contract import Limits
from mmd.algorithms.interior import Interior
from mmd.measure.solution import TRACE_COLUMNS
from mmd.solving import automatic

KUHN = games.load("kuhn_poker")
KUHN_VALUE = -1 / 18


@pytest.mark.parametrize(
    ("given", "method"),
    [
        ({}, "interior"),
        ({"algorithm": mmd.Auto()}, "interior"),
        ({"algorithm": mmd.Auto(relaxation=0.6)}, "restarted"),
        ({"dtype": "float32", "tolerance": 1e-3}, "restarted"),
        ({"start": mmd.Policy.random(KUHN, 1)}, "restarted"),
        ({"polish": True}, "restarted"),
        ({"polish": False}, "restarted"),
    ],
)
def test_what_only_compiled_steps_have_chooses_them(given: dict[str, Any], method: str) -> None:
    solution = mmd.solve(KUHN, **{"tolerance": 1e-9} | given)
    assert solution.converged
    assert solution.algorithm["name"] == method
    assert solution.algorithm["chosen_by"] == "auto"
    np.testing.assert_allclose(solution.value, KUHN_VALUE, rtol=0, atol=1e-2 if "dtype" in given else 1e-8)


def test_a_run_that_has_a_checkpoint_goes_on_from_it(tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    begun = mmd.solve(KUHN, mmd.Restarted(), tolerance=1e-9, max_iterations=20, checkpoint=path)
    assert not begun.converged
    ended = mmd.solve(KUHN, tolerance=1e-9, checkpoint=path, resume=True)
    assert ended.converged
    assert ended.algorithm["name"] == "restarted"
    assert ended.iterations > 20
    anew = mmd.solve(KUHN, tolerance=1e-9, checkpoint=path)
    assert anew.algorithm["name"] == "interior"
    assert not path.exists()  # it keeps none, and the old one is of another run


def test_where_the_interior_point_gives_up_compiled_steps_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    def gives_up(self: Interior, game: mmd.Game, limits: mmd.Limits, report: mmd.Report) -> None:
        row, column = (np.exp(player.uniform()) for player in game.players)
        report(mmd.Policy(game, (row, column)), iterate="interior", iteration=0, gradient_evaluations=1)

    monkeypatch.setattr(Interior, "run", gives_up)
    monkeypatch.setattr("mmd.measure.vertex.affordable", lambda *_: False)
    monkeypatch.setattr("mmd.solving.polish.affordable", lambda *_: 0.0)
    found = mmd.solve(games.load("preference:cycle"), tolerance=1e-9)
    assert found.converged
    assert found.algorithm["name"] == "restarted"
    np.testing.assert_allclose(list(found.policy.lottery().values()), np.array([4, 3, 4]) / 11, rtol=0, atol=1e-6)


def test_an_exact_vertex_ends_what_float64_cannot() -> None:
    """The interior point ends at a tie far below the largest payoff; whole numbers do not round."""
    matrix = np.array([[1e12, 1e-12, -1.0], [-1e-12, 1.0, 3e-13], [0.5, -1e6, 1e-9]])
    solution = mmd.solve(matrix)
    assert solution.status in {mmd.Status.CONVERGED, mmd.Status.PRECISION}
    assert abs(solution.value - mmd.solve_exactly(games.matrix.game(matrix)).value) <= 1e-9


def test_a_large_game_begins_with_regret_minimisation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(automatic, "MOST_PAYOFFS", 0)
    rows: list[dict[str, float]] = []
    solution = mmd.solve(KUHN, tolerance=1e-10, on_check=rows.append)
    assert solution.converged
    assert solution.algorithm["name"] == "restarted"
    assert solution.algorithm["start"].endswith("iterations of dcfr")
    np.testing.assert_allclose(solution.value, KUHN_VALUE, rtol=0, atol=1e-9)
    assert set(solution.trace.columns) == set(TRACE_COLUMNS)
    assert (np.diff(solution.trace["iteration"]) >= 0).all()
    assert (np.diff(solution.trace["gradient_evaluations"]) >= 0).all()
    assert solution.trace["iteration"][-1] == solution.iterations
    coarse = mmd.solve(KUHN, tolerance=2e-2)
    assert coarse.converged
    assert coarse.algorithm["name"] == "dcfr"
    assert coarse.tolerance == 2e-2


def test_little_asked_of_a_large_game_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred payoffs count as large here: regret minimisation does it alone, or hands over to the interior point."""
    monkeypatch.setattr(automatic, "MANY", 100)
    monkeypatch.setattr("mmd.solving.solver._Run", None)
    rough = mmd.solve(KUHN, tolerance=1e-3)
    assert rough.converged
    assert (rough.algorithm["name"], rough.algorithm["chosen_by"], rough.iterate) == ("dcfr", "auto", "average")
    assert abs(rough.value - KUHN_VALUE) <= 1e-3
    fine = mmd.solve(KUHN, tolerance=1e-6)
    assert (fine.algorithm["name"], fine.status) == ("interior", mmd.Status.CONVERGED)
    monkeypatch.setattr(automatic, "MOST_STEPS", 20)
    slow = mmd.solve(KUHN, tolerance=1e-3)
    assert slow.converged
    assert (slow.algorithm["name"], slow.algorithm["start"]) == ("interior", "20 iterations of dcfr")
    assert slow.iterations > 20
    ended = mmd.solve(KUHN, tolerance=1e-3, max_iterations=10)
    assert (ended.status, ended.iterations) == (mmd.Status.ITERATION_LIMIT, 10)


def test_a_second_method_has_what_the_first_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(automatic, "MOST_PAYOFFS", 0)
    whole = mmd.solve(KUHN, tolerance=1e-10)
    first = int(whole.algorithm["start"].split()[0].replace(",", ""))
    stopped = mmd.solve(KUHN, tolerance=1e-10, max_iterations=first + 1)
    assert stopped.iterations <= first + 1
    assert stopped.status is mmd.Status.ITERATION_LIMIT or stopped.converged
    shorter = mmd.solve(KUHN, max_iterations=10)
    assert (shorter.status, shorter.iterations) == (mmd.Status.ITERATION_LIMIT, 10)
    assert shorter.tolerance == mmd.certify(KUHN, shorter.policy).default_tolerance


def test_the_rule_weighs_size_and_tolerance() -> None:
    """Factors of some ten thousand entries are quicker than compiling; those of six-card goofspiel are not."""
    fine = Limits.checked(KUHN, 1e-9, 100, None, 1)
    coarse = Limits.checked(KUHN, 1e-2 * KUHN.description.payoff_range, 100, None, 1)
    prepared = Interior().resolve(games.load("leduc_poker")).prepared
    assert prepared is not None
    assert automatic.interior_seconds(prepared.newton.work) < 1 < automatic.first_order_seconds(KUHN, fine)
    goofspiel = prepared.newton.work._replace(entries=2.2e7, operations=1.68e10)  # as ordered, cards=6
    assert automatic.interior_seconds(goofspiel) > automatic.first_order_seconds(KUHN, fine)
    large = games.load("liars_dice:faces=5")
    assert automatic.first_order_seconds(large, coarse) < automatic.first_order_seconds(large, fine)


def test_a_number_that_no_choice_has_is_refused() -> None:
    with pytest.raises(mmd.GameError, match="regularized_tolerance only with a magnet that stays"):
        mmd.solve(KUHN, regularized_tolerance=1e-9)
