"""A short form of benchmarks/claims/bootstrap_coverage.py, and the stored results of the long one."""

import json

import pytest

from benchmarks.claims.bootstrap_coverage import BETWEEN, KINDS, coverage, falsely_flagged, flagged
from benchmarks.report import RESULTS
from mmd.command.bootstrap_command import CAUTION

STORED = RESULTS / "bootstrap_coverage.json"


@pytest.mark.parametrize(("level", "least", "most"), [(0.95, 0.85, 1.0), (0.5, 0.3, 0.7)])
def test_intervals_hold_the_true_value_about_as_often_as_they_say(level: float, least: float, most: float) -> None:
    found = coverage("rows against columns", 40, 150, level)
    assert least <= found["value"] <= most


def test_known_elections_are_called_not_unique_and_generic_games_unique() -> None:
    for row in flagged():
        assert not row["unique"], row["election"]
        assert row["range"] == pytest.approx(row["expected"], abs=1e-8), row["election"]
    assert falsely_flagged(6) == 0


def test_the_stored_results_say_what_is_claimed() -> None:
    stored = json.loads(STORED.read_text("utf-8"))
    assert [result["kind"] for result in stored["coverage"]] == list(KINDS)
    assert all(result["tables"] >= 500 for result in stored["coverage"])
    assert BETWEEN[0] <= stored["coverage"][0]["value"] <= BETWEEN[1]
    for result in stored["coverage"]:
        for size, held in result["probabilities"].items():
            assert held["hold"] >= 0.9 or f"a probability of {size} " in CAUTION
            assert held["hold"] >= 0.88
    assert not any(row["unique"] for row in stored["elections"])
    assert stored["generic"]["games"] >= 200
    assert stored["generic"]["called_not_unique"] == 0
