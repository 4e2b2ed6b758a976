"""Algorithms of the host form: `solve` and the commands do with them what they do with the traced ones."""

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import games
import mmd
from mmd import algorithms
from mmd.command import commands
from mmd.command.cli import main
from mmd.lab import laboratory
from mmd.measure import run_directory
from mmd.measure.solution import TRACE_COLUMNS, Status
from mmd.solving.checkpoint import CheckpointError
from tests.mmd.solving.host_algorithms import FictitiousPlay, LinearProgram

PLAIN_RPS = games.matrix.game([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])


@pytest.mark.parametrize(
    ("spec", "value", "atol"),
    [("kuhn_poker", -1 / 18, 1e-12), ("leduc_poker", -0.0856064240, 1e-10), ("preference:cycle", 0.5, 1e-12)],
)
def test_a_linear_program_on_the_host_finds_known_values(spec: str, value: float, atol: float) -> None:
    found = mmd.solve(games.load(spec), LinearProgram(), tolerance=1e-9)
    assert found.status is Status.CONVERGED
    assert found.exploitability <= 1e-9
    np.testing.assert_allclose(found.value, value, rtol=0, atol=atol)
    assert found.algorithm == {"name": "linear-program", "keeps_best": True}
    assert (found.iterate, found.dtype, found.regularized_gap) == ("last", "float64", None)
    assert found.seconds["compile"] == 0
    assert mmd.certify(found.game, found.policy).nash_conv == found.nash_conv


def test_fictitious_play_repeats_its_first_rounds_by_hand() -> None:
    """Rock against rock; then paper, twice: the best answer to (1, 0, 0), (1, 1, 0) / 2, (1, 2, 0) / 3 gains 1, 1/2,
    1/3 for each player."""
    found = mmd.solve(PLAIN_RPS, FictitiousPlay(), max_iterations=3, tolerance=1e-3)
    assert found.status is Status.ITERATION_LIMIT
    assert (found.iterate, found.iterations, found.gradient_evaluations) == ("average", 3, 3)
    assert tuple(found.trace.columns) == TRACE_COLUMNS
    np.testing.assert_array_equal(found.trace["iteration"], [1, 2, 3])
    np.testing.assert_allclose(found.trace["exploitability"], [1, 1 / 2, 1 / 3], rtol=0, atol=1e-15)
    np.testing.assert_allclose(found.trace["nash_conv"], [2, 1, 2 / 3], rtol=0, atol=1e-15)
    np.testing.assert_allclose(found.trace["value"], 0, rtol=0, atol=1e-15)
    assert np.isnan(found.trace["regularized_gap"]).all()
    for probabilities in found.policy.probabilities:
        np.testing.assert_allclose(probabilities, [1, 1 / 3, 2 / 3, 0], rtol=0, atol=1e-15)


def test_fictitious_play_approaches_the_value_of_kuhn_poker() -> None:
    found = mmd.solve(games.load("kuhn_poker"), FictitiousPlay(), tolerance=0.02)
    assert found.converged
    assert abs(found.value + 1 / 18) <= found.nash_conv  # no player can gain more than that
    assert found.trace["exploitability"][-1] == found.exploitability <= 0.02 < found.trace["exploitability"][:-1].min()


def test_each_limit_has_its_status() -> None:
    reached = mmd.solve(PLAIN_RPS, FictitiousPlay(), tolerance=0.6)
    assert (reached.status, reached.iterations) == (Status.CONVERGED, 2)
    late = mmd.solve(PLAIN_RPS, FictitiousPlay(), tolerance=1e-3, time_limit=1e-9)
    assert (late.status, late.iterations) == (Status.TIME_LIMIT, 1)
    ended = mmd.solve(PLAIN_RPS, FictitiousPlay(rounds=2), tolerance=1e-3)
    assert (ended.status, ended.iterations) == (Status.ENDED, 2)
    assert not ended.converged
    assert "comes no closer" in ended.status.value


@dataclasses.dataclass(frozen=True)
class Script:
    """Reports given strategies of both players, and may break off between two of them."""

    name: ClassVar[str] = "script"
    keeps_best: ClassVar[bool] = True

    strategies: Any = dataclasses.field(default=(), metadata={"derived": True})
    iterate: str = "last"
    answers: list[Any] = dataclasses.field(default_factory=list, metadata={"derived": True})

    def resolve(self, game: mmd.Game) -> "Script":
        return self

    def run(self, game: mmd.Game, limits: mmd.Limits, report: mmd.Report) -> None:
        for k, strategy in enumerate(self.strategies):
            if isinstance(strategy, BaseException):
                raise strategy
            side = np.array([1.0, *strategy])
            policy = mmd.Policy(game, (side, side))
            self.answers.append(report(policy, iterate=self.iterate, iteration=k, gradient_evaluations=k))


ROCK, HALF, UNIFORM, BROKEN = (1.0, 0.0, 0.0), (0.5, 0.5, 0.0), (1 / 3, 1 / 3, 1 / 3), (float("nan"), 0.0, 0.0)


def test_the_best_reported_policy_is_kept_if_the_algorithm_says_so() -> None:
    found = mmd.solve(PLAIN_RPS, Script((HALF, ROCK, HALF)), tolerance=1e-3)
    np.testing.assert_allclose(found.trace["exploitability"], [0.5, 0.5, 0.5], rtol=0, atol=1e-15)
    np.testing.assert_allclose(found.policy.probabilities[0], [1, *HALF], rtol=0, atol=0)


def test_after_the_reason_to_stop_a_report_changes_nothing() -> None:
    script = Script((UNIFORM, ROCK, ROCK))
    found = mmd.solve(PLAIN_RPS, script)
    assert script.answers == [Status.CONVERGED] * 3
    assert (found.status, found.iterations, len(found.trace)) == (Status.CONVERGED, 0, 1)


def test_an_iterate_that_is_not_finite_ends_the_run_with_the_last_one_that_was() -> None:
    found = mmd.solve(PLAIN_RPS, Script((HALF, BROKEN, UNIFORM)))
    assert found.status is Status.NONFINITE
    np.testing.assert_allclose(found.exploitability, 0.5, rtol=0, atol=1e-15)
    assert len(found.trace) == 1


def test_ctrl_c_between_two_checks_and_at_one_keeps_what_was_reported() -> None:
    between = mmd.solve(PLAIN_RPS, Script((HALF, KeyboardInterrupt(), UNIFORM)))
    assert between.status is Status.INTERRUPTED
    np.testing.assert_allclose(between.exploitability, 0.5, rtol=0, atol=1e-15)

    def interrupt(row: dict[str, float]) -> None:
        if row["iteration"] == 1:
            raise KeyboardInterrupt

    script = Script((ROCK, HALF, UNIFORM))
    at_one = mmd.solve(PLAIN_RPS, script, on_check=interrupt)
    assert script.answers == [None, Status.INTERRUPTED, Status.INTERRUPTED]
    np.testing.assert_allclose(at_one.exploitability, 0.5, rtol=0, atol=1e-15)
    nothing = mmd.solve(games.load("kuhn_poker"), Script((KeyboardInterrupt(),)))
    assert (nothing.status, nothing.iterations, len(nothing.trace)) == (Status.INTERRUPTED, 0, 0)
    np.testing.assert_allclose(nothing.exploitability, 11 / 24, rtol=0, atol=1e-15)  # uniform play


def test_a_broken_contract_is_named() -> None:
    with pytest.raises(mmd.GameError, match="script reported the iterate 'mine': expected last, average, polished"):
        mmd.solve(PLAIN_RPS, Script((UNIFORM,), iterate="mine"))
    with pytest.raises(mmd.GameError, match="script ended on matrix without a report"):
        mmd.solve(PLAIN_RPS, Script())


@pytest.mark.parametrize(
    "given",
    [
        {"dtype": "float32"},
        {"start": mmd.Policy.random(PLAIN_RPS, 0)},
        {"polish": True},
        {"regularized_tolerance": 0.1},
    ],
    ids=lambda given: next(iter(given)),
)
def test_an_argument_without_use_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(mmd.GameError, match=f"expected no {next(iter(given))} for linear-program: it runs on the host"):
        mmd.solve(PLAIN_RPS, LinearProgram(), **given)


def test_it_keeps_no_checkpoint_and_touches_no_others(tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    found = mmd.solve(PLAIN_RPS, FictitiousPlay(rounds=2), checkpoint=path, resume=True)
    assert found.iterations == 2
    assert not path.exists()
    path.write_bytes(b"of another run")
    with pytest.raises(CheckpointError, match="cannot resume fictitious-play, which keeps no checkpoint"):
        mmd.solve(PLAIN_RPS, FictitiousPlay(rounds=2), checkpoint=path, resume=True)
    assert path.read_bytes() == b"of another run"
    mmd.solve(PLAIN_RPS, FictitiousPlay(rounds=2), checkpoint=path)
    assert not path.exists()


def test_the_laboratory_refuses_it_in_a_sentence() -> None:
    with pytest.raises(mmd.GameError, match="fictitious-play runs on the host, and the laboratory compiles"):
        laboratory.batchable(FictitiousPlay())


# -------------------------------------------------------------------- the command

KINDS = {"linear-program": LinearProgram, "fictitious-play": FictitiousPlay}


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command finds the algorithms of these tests by their names."""
    load = algorithms.load
    monkeypatch.setattr(commands.algorithms, "load", lambda name: KINDS.get(name) or load(name))


@pytest.mark.usefixtures("known")
def test_the_command_solves_saves_verifies_plots_and_starts_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, figure = str(tmp_path / "run"), tmp_path / "run.svg"
    words = ["solve", "kuhn_poker", "--algorithm", "fictitious-play", "--max-iterations", "20", "--out", run]
    assert main(words) == 3
    first = run_directory.load_result(run)
    assert first["algorithm"] == {"name": "fictitious-play", "keeps_best": False, "rounds": 1_000}
    assert (first["status"], first["iterate"]) == (Status.ITERATION_LIMIT.value, "average")
    assert {file.name for file in Path(run).iterdir()} == {
        "result.json",
        "trace.csv",
        "policy.npz",
        "policy.csv",
        "environment.json",
    }
    with (Path(run) / "trace.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["iteration"]) for row in rows] == list(range(1, 21))
    assert float(rows[-1]["exploitability"]) == first["exploitability"]
    capsys.readouterr()
    assert main(["verify", "kuhn_poker", run]) == 0
    assert f"{first['nash_conv']:.6e}" in capsys.readouterr().out
    assert main(["plot", run, "--out", str(figure)]) == 0
    assert "average iterate" in figure.read_text()
    assert main([*words, "--resume"]) == 3
    assert "fictitious-play keeps no checkpoint: starting anew" in capsys.readouterr().err
    again = run_directory.load_result(run)
    assert (again["iterations"], again["nash_conv"]) == (20, first["nash_conv"])


@pytest.mark.usefixtures("known")
def test_compare_takes_both_forms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", "preference:cycle", "--algorithms", "auto,linear-program", "--out", str(tmp_path)]
    assert main([*words, "--tolerance", "1e-9"]) == 0
    for name in ("auto", "linear-program"):
        result = json.loads((tmp_path / name / "result.json").read_text())
        assert result["converged"]
        assert result["policy"]["lottery"] == pytest.approx({"a": 4 / 11, "b": 3 / 11, "c": 4 / 11}, abs=1e-8)
    assert "linear-program" in capsys.readouterr().out


@pytest.mark.usefixtures("known")
def test_the_command_refuses_what_it_has_no_use_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["solve", "preference:cycle", "--algorithm", "linear-program", "--seed", "1"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["lab", "preference:cycle", "--methods", "fictitious-play"]) == 2
    assert "use mmd compare" in capsys.readouterr().err
