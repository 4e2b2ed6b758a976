"""The laboratory: batches are the single runs, distances to sets of equilibria, what `mmd lab` writes and refuses."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import games
import mmd
from games import matrix, preference
from mmd import algorithms
from mmd.command.cli import main
from mmd.lab import laboratory
from mmd.measure.equilibria import OptimalSet
from tests.selfplay import CYCLE, LOG_START, MARGINS, gap, iterates, kl


def test_a_batch_is_its_single_runs() -> None:
    """Two games and two step sizes at once; gaps and counts at each mark."""
    other = preference.game(0.5 + 0.7 * MARGINS)
    cases = [(CYCLE, algorithms.load("omwu")(eta=1.0)), (other, algorithms.load("omwu")(eta=0.5))]
    found = laboratory.run(cases, np.array([0, 3, 30]), LOG_START)
    for c, (game, algorithm) in enumerate(cases):
        path = iterates(game, algorithm, 30)[0]
        payoffs = MARGINS if c == 0 else 0.7 * MARGINS
        for r, k in enumerate((0, 3, 30)):
            np.testing.assert_allclose(found.last[c, r], gap(payoffs, path[k]), rtol=0, atol=1e-13)
            average = path[:k].mean(axis=0) if k else path[0]
            np.testing.assert_allclose(found.average[c, r], gap(payoffs, average), rtol=0, atol=1e-13)
    np.testing.assert_array_equal(found.gradient_evaluations, [[0, 3, 30]] * 2)
    np.testing.assert_array_equal(found.preference_calls, [[0, 27, 270]] * 2)


def test_evaluations_to_a_gap() -> None:
    """The first iteration whose last or average iterate is there; NEVER where the run ends before."""
    algorithm = algorithms.load("omwu")(eta=1.0)
    path = iterates(CYCLE, algorithm, 400)[0]
    first = next(k for k, x in enumerate(path) if gap(MARGINS, x) <= 1e-4)
    cases = [(CYCLE, algorithm)]
    for most, expected in ((first + 50, first), (first - 1, laboratory.NEVER)):
        assert laboratory.run(cases, np.array([0, most]), LOG_START, target=1e-4).reached == [expected]


def test_marks_are_logarithmic() -> None:
    at = laboratory.marks(1000, per_decade=3)
    np.testing.assert_array_equal(at, [0, 1, 2, 5, 10, 22, 46, 100, 215, 464, 1000])


def test_nearest_of_many_equilibria() -> None:
    """Rock twice: any split of its third is optimal, and the I-projection splits it as the strategy does."""
    index = [0, 0, 1, 2]
    rps = np.array([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]])[np.ix_(index, index)]
    optimal = OptimalSet.of(matrix.game(rps), 0)
    assert not optimal.unique
    strategy = np.array([0.1, 0.3, 0.2, 0.4])
    expected = np.array([1 / 12, 1 / 4, 1 / 3, 1 / 3])
    np.testing.assert_allclose(optimal.nearest(strategy), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(optimal.distance(strategy), kl(expected, strategy), rtol=0, atol=1e-10)
    assert optimal.distance(expected) < 1e-12
    alone = OptimalSet.of(CYCLE, 1)
    assert alone.unique
    np.testing.assert_allclose(
        alone.distance(np.array([0.6, 0.3, 0.1])), 0.2613550, rtol=0, atol=1e-7
    )  # as published with the game
    assert alone.distance(np.array([1.0, 0.0, 0.0])) == np.inf


def test_lab_writes_what_it_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "lab preference:cycle --methods omwu,mpo --feedback sampled=4 --seeds 3 --iterations 50"
    assert main([*words.split(), "--start", "0.6,0.3,0.1", "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "lab.json").read_text())
    assert set(report["methods"]) == {"omwu", "mpo"}
    one = report["methods"]["omwu"]
    assert one["algorithm"]["feedback"] == {"kind": "Sampled", "opponents": 4}
    assert np.shape(one["nash_conv_last"]) == (3, len(one["iteration"]))
    np.testing.assert_allclose(np.array(one["nash_conv_last"])[:, 0], 0.4, rtol=0, atol=1e-12)
    np.testing.assert_allclose(np.array(one["kl_from_nearest_equilibrium"])[:, 0], 2 * 0.261355, rtol=0, atol=1e-6)
    assert len({tuple(row) for row in one["nash_conv_last"]}) == 3  # three seeds
    with (tmp_path / "lab.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 3 * len(one["iteration"])
    assert {row["preference_calls"] for row in rows if row["iteration"] == "50"} == {str(50 * 3 * 4)}
    assert (tmp_path / "lab.png").stat().st_size > 10_000
    assert "omwu" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("kuhn_poker", "kuhn_poker:cards=3 is a tree: use mmd compare"),
        ("preference:cycle --methods nash-mp", "did you mean 'nash-md'"),
        ("preference:cycle --methods pcfr+ --feedback sampled=3", "takes exact payoffs only"),
        ("preference:cycle --feedback sampled", "exact, sampled=8 or judge=8"),
        ("preference:cycle --feedback judge=0", "at least 1 of the samples"),
        ("preference:cycle --iterations 0", "at least 1"),
        ("preference:cycle --seeds 0 --feedback judge=2", "at least 1 seed"),
        ("preference:cycle --start 0.5,0.5", "a positive probability for each action"),
        ("preference:cycle --start a,b,c", "numbers separated by commas"),
    ],
)
def test_lab_refuses_in_one_sentence(
    line: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lab", *line.split(), "--out", str(tmp_path / "lab")]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert not list(tmp_path.glob("lab/lab.*"))


def test_trees_and_unlike_cases_are_refused() -> None:
    omwu = algorithms.load("omwu")()
    with pytest.raises(mmd.GameError, match="works on matrix games"):
        laboratory.run([(games.load("kuhn_poker"), omwu)], np.array([0, 1]))
    with pytest.raises(mmd.GameError, match="one shape"):
        laboratory.run([(CYCLE, omwu), (matrix.game(np.eye(2)), omwu)], np.array([0, 1]))
    with pytest.raises(mmd.GameError, match="at least one case"):
        laboratory.run([], np.array([0, 1]))


def test_ctrl_c_keeps_the_methods_that_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = laboratory.study

    def interrupted(game, methods, *rest):
        if "omwu" in methods:
            raise KeyboardInterrupt
        return study(game, methods, *rest)

    monkeypatch.setattr(laboratory, "study", interrupted)
    line = ["lab", "preference:cycle", "--iterations", "20", "--out", str(tmp_path)]
    assert main([*line, "--methods", "inpo,omwu"]) == 130
    assert "interrupted: omwu missing" in capsys.readouterr().out
    assert set(json.loads((tmp_path / "lab.json").read_text())["methods"]) == {"inpo"}


def test_lab_says_what_auto_is_in_a_compiled_batch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["lab", "preference:cycle", "--iterations", "20", "--out", str(tmp_path), "--methods", "auto,restarted"]
    assert main(line) == 0
    assert "\nauto: restarted  " in capsys.readouterr().out
    auto, restarted = json.loads((tmp_path / "lab.json").read_text())["methods"].values()
    assert auto == restarted
    assert auto["algorithm"]["name"] == "restarted"


def test_lab_says_that_payoffs_are_larger_than_its_settings_are_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "game.csv").write_text("0,-400\n400,0\n")
    line = ["lab", str(tmp_path / "game.csv"), "--iterations", "10", "--methods", "gabp", "--out", str(tmp_path)]
    assert main(line) == 0
    assert "payoffs reach 400" in capsys.readouterr().out
