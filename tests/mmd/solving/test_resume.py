"""Checkpoints: a run that was killed and resumed ends bit for bit as one that was not, and damage is never loaded."""

import dataclasses
import errno
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mmd
from benchmarks.faults import kill_and_resume
from games import kuhn_poker
from mmd import algorithms
from mmd.algorithms.contract import Candidate
from mmd.command import commands
from mmd.command.cli import main
from mmd.game.game import Game, GameError
from mmd.host.files import OutputError
from mmd.measure import run_directory
from mmd.measure.certificate import Certificate
from mmd.solving import checkpoint, chunk, programs, solver
from mmd.solving.checkpoint import CheckpointError
from tests.claims.reference import BIASED_RPS

RPS, CYCLE = Game.from_matrix(BIASED_RPS, name="biased rock-paper-scissors"), "preference:cycle"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Breaking(mmd.MagneticMirrorDescent):
    """An algorithm whose policy is no number from iteration 250 on."""

    def policy(self, game: Game, state: Any) -> Candidate:
        newest = super().policy(game, state)
        return newest._replace(nash_conv=jnp.where(state.iteration < 250, newest.nash_conv, jnp.nan))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Scripted(mmd.MagneticMirrorDescent):
    """An algorithm that measures the exploitabilities it is told to, one a check."""

    script: Any = None

    def policy(self, game: Game, state: Any) -> Candidate:
        return super().policy(game, state)._replace(nash_conv=2 * jnp.asarray(self.script)[state.iteration // 10])


RUNS: dict[str, tuple[Game, dict[str, Any]]] = {
    "polished": (
        kuhn_poker.game(cards=4),
        {"algorithm": mmd.Auto(), "polish": True, "tolerance": 0.0, "max_iterations": 200},
    ),
    "anchored": (RPS, {"algorithm": mmd.Anchored(), "tolerance": 1e-10, "check_every": 3}),
    "magnet": (RPS, {"algorithm": mmd.MagneticMirrorDescent(eta=0.1, alpha=1.0, magnet=mmd.Refresh())}),
    "average": (RPS, {"algorithm": algorithms.load("pcfr+")(), "start": mmd.Policy.random(RPS, 5), "check_every": 7}),
    "float32": (RPS, {"algorithm": algorithms.load("pcfr+")(), "dtype": "float32", "tolerance": 0.0, "check_every": 5}),
    "breaking": (RPS, {"algorithm": Breaking(eta=0.1, alpha=0.1)}),
}
EACH_RUN = pytest.mark.parametrize(("game", "arguments"), RUNS.values(), ids=RUNS)


class Killed(BaseException):
    """The end of a process, as far as one process can play it."""


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """One check a chunk, and a checkpoint after each."""
    monkeypatch.setattr(solver, "CHUNK_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(checkpoint, "WRITING_SHARE", np.inf)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.npz"


def solve(game: Game, **arguments: Any) -> mmd.Solution:
    return mmd.solve(game, **{"max_iterations": 400} | arguments)


def solve_until(chunks: int, game: Game, **arguments: Any) -> mmd.Solution | None:
    """Solve, killed after so many chunks, before the last of them is saved; the solution if it is done before."""
    left = iter(range(chunks))

    def kill(_: dict[str, float]) -> None:
        if next(left, None) is None:
            raise Killed

    try:
        return solve(game, on_check=kill, **arguments)
    except Killed:
        return None


def assert_same(one: mmd.Solution, other: mmd.Solution) -> None:
    """All but the seconds, bit for bit."""
    for name in ("status", "iterate", "iterations", "gradient_evaluations", "value", "nash_conv", "algorithm"):
        assert getattr(one, name) == getattr(other, name), name
    for mine, its in zip(one.policy.probabilities, other.policy.probabilities, strict=True):
        assert mine.tobytes() == its.tobytes()
    for name, column in one.trace.columns.items():
        assert name == "seconds" or column.tobytes() == other.trace[name].tobytes(), name
    if one.polish is not None and other.polish is not None:
        assert kill_and_resume.timeless(one.polish) == kill_and_resume.timeless(other.polish)
    assert (one.polish is None) == (other.polish is None)


# -------------------------------------------------------------------- the same numbers


def test_a_process_killed_five_times_at_random_writes_the_same_run(tmp_path: Path, rng: np.random.Generator) -> None:
    """SIGKILL anywhere, in the middle of a write included.

    The magnet moves so slowly that 200,000 iterations come nowhere near an exploitability of 0. A quicker method may
    meet the tolerance 0 by rounding, on some processors, and end before it was killed five times. So may a quick
    processor: a kill anywhere comes within a third of the time of the undisturbed run, which also compiles.
    """
    words = ["kuhn_poker", "--tolerance", "0", "--max-iterations", "200000", "--algorithm", "mmd", "--alpha", "1"]
    words += ["--magnet", "moving=0.00001"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "programs"))
        patch.delenv(programs.SWITCH)
        begun = time.monotonic()
        kill_and_resume.solve_once(words, tmp_path / "alone")
        lifetime = min(kill_and_resume.LIFETIME, (time.monotonic() - begun) / 3)
        kills = kill_and_resume.killed_and_resumed(words, tmp_path / "killed", 5, rng, lifetime)
    assert len(kills) == 5
    assert any(kill.left_a_part for kill in kills)
    assert not kill_and_resume.differences(tmp_path / "alone", tmp_path / "killed")
    assert not [name for name in os.listdir(tmp_path / "killed") if name.endswith(".part")]


@pytest.mark.usefixtures("eager")
@EACH_RUN
def test_a_run_killed_again_and_again_ends_as_one_that_was_not(game: Game, arguments: dict, path: Path) -> None:
    alone = solve(game, **arguments)
    lives = 0
    while (resumed := solve_until(3, game, checkpoint=path, resume=True, **arguments)) is None:
        lives += 1
    assert lives >= 2
    assert_same(resumed, alone)
    assert resumed.seconds["solve"] >= resumed.trace["seconds"][-1] > 0
    assert (np.diff(resumed.trace["seconds"]) >= 0).all()


@EACH_RUN
def test_where_chunks_end_changes_no_number(game: Game, arguments: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver, "CHUNK_SECONDS", 0.0)
    short = solve(game, **arguments)
    monkeypatch.setattr(solver, "CHUNK_SECONDS", 1e9)
    assert_same(solve(game, **arguments), short)


def test_a_run_that_breaks_returns_its_last_finite_policy() -> None:
    """Checks are every 10 iterations, so the last finite policy is that of iteration 240."""
    broken = solve(RPS, **RUNS["breaking"][1])
    assert broken.status is mmd.Status.NONFINITE
    last = solve(RPS, algorithm=mmd.MagneticMirrorDescent(eta=0.1, alpha=0.1), max_iterations=240)
    for mine, its in zip(broken.policy.probabilities, last.policy.probabilities, strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-14)


@pytest.mark.parametrize(("script", "end"), [((9, 0.8, 0.6, 0.4, 0.1), 30), ((9, 0.4, 0.3, 0.2, 0.1), 20)])
def test_a_doubted_measurement_is_remembered(
    script: tuple[float, ...], end: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The certificate doubts the first measurement below the tolerance 1, and is asked again at 1/2, resumed or not."""
    arguments: dict[str, Any] = {"algorithm": Scripted(eta=0.1, alpha=0.1, script=np.array(script)), "tolerance": 1.0}
    doubted = solve(RPS, max_iterations=10, **arguments).policy.probabilities[0]
    monkeypatch.setattr(
        solver, "certify", lambda _, found: Certificate(0.0, (9.0 * np.array_equal(found[0], doubted), 0.0), 1.0, 0.0)
    )
    alone = solve(RPS, **arguments)
    assert alone.converged
    assert alone.iterations == end
    for limit in (10, 20):
        assert solve(RPS, max_iterations=limit, checkpoint=path, **arguments).iterations == limit
        assert_same(solve(RPS, checkpoint=path, resume=True, **arguments), alone)


def test_limits_and_tolerance_may_be_raised(path: Path) -> None:
    """Then the run is the one that had them from the start; a limit between two checks only adds a row there."""
    further = solve(RPS, algorithm=mmd.Anchored(), tolerance=1e-11)
    assert further.converged
    solve(RPS, algorithm=mmd.Anchored(), tolerance=1e-3, checkpoint=path)
    cut = solve(RPS, algorithm=mmd.Anchored(), tolerance=1e-11, max_iterations=60, checkpoint=path, resume=True)
    assert cut.iterations == 60
    assert_same(solve(RPS, algorithm=mmd.Anchored(), tolerance=1e-11, checkpoint=path, resume=True), further)

    fixed = mmd.MagneticMirrorDescent(alpha=0.5)
    solve(RPS, algorithm=fixed, max_iterations=25, checkpoint=path)
    resumed = solve(RPS, algorithm=fixed, max_iterations=100, checkpoint=path, resume=True)
    alone = solve(RPS, algorithm=fixed, max_iterations=100)
    between = resumed.trace["iteration"] == 25
    assert between.sum() == 1
    for name, column in alone.trace.columns.items():
        assert name == "seconds" or resumed.trace[name][~between].tobytes() == column.tobytes(), name


def test_a_finished_run_is_told_again_without_an_iteration(path: Path) -> None:
    arguments: dict[str, Any] = {"algorithm": mmd.Auto(), "polish": True, "checkpoint": path}
    done = solve(kuhn_poker.game(), tolerance=1e-13, **arguments)
    assert done.converged
    written = path.read_bytes()
    arguments |= {"resume": True, "on_check": lambda _: pytest.fail("went on")}
    again = solve(kuhn_poker.game(), tolerance=1e-13, **arguments)
    assert_same(again, done)
    assert path.read_bytes() == written


def test_the_time_limit_counts_from_the_first_start(path: Path) -> None:
    arguments: dict[str, Any] = {
        "algorithm": mmd.MagneticMirrorDescent(alpha=0.5, magnet=mmd.Halpern()),
        "tolerance": 0.0,
        "max_iterations": 10**9,
        "checkpoint": path,
    }
    stopped = mmd.solve(RPS, time_limit=0.02, **arguments)
    assert stopped.status is mmd.Status.TIME_LIMIT
    again = mmd.solve(RPS, time_limit=0.02, resume=True, on_check=lambda _: pytest.fail("went on"), **arguments)
    assert again.status is stopped.status
    assert again.iterations == stopped.iterations


@pytest.mark.usefixtures("eager")
def test_ctrl_c_leaves_a_checkpoint_of_what_it_returns(path: Path) -> None:
    arguments: dict[str, Any] = {"algorithm": mmd.Anchored(), "tolerance": 1e-10}

    def interrupt(row: dict[str, float]) -> None:
        if row["iteration"] >= 50:
            raise KeyboardInterrupt

    stopped = solve(RPS, checkpoint=path, on_check=interrupt, **arguments)
    assert stopped.status is mmd.Status.INTERRUPTED
    at_once = solve(RPS, checkpoint=path, resume=True, algorithm=arguments["algorithm"], tolerance=1.0)
    assert at_once.iterations == stopped.iterations == 50
    assert_same(solve(RPS, checkpoint=path, resume=True, **arguments), solve(RPS, **arguments))


@pytest.mark.usefixtures("eager")
def test_ctrl_c_at_a_bad_moment_goes_back_to_the_last_chunk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pressed while a chunk is being recorded: rows whose state is not there yet are neither returned nor saved."""
    record = solver._Run._record

    def interrupted(self: Any, *chunk: Any) -> None:
        record(self, *chunk)
        if len(self.trace) == 7:
            raise KeyboardInterrupt

    arguments: dict[str, Any] = {"algorithm": mmd.Anchored(), "tolerance": 1e-10}
    with monkeypatch.context() as patch:
        patch.setattr(solver._Run, "_record", interrupted)
        stopped = solve(RPS, checkpoint=path, **arguments)
    assert stopped.iterations == 50
    assert_same(solve(RPS, checkpoint=path, resume=True, **arguments), solve(RPS, **arguments))


# -------------------------------------------------------------------- whole or refused


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a good checkpoint."""
    path = tmp_path_factory.mktemp("whole") / "checkpoint.npz"
    solve(RPS, algorithm=mmd.Anchored(), max_iterations=50, checkpoint=path)
    return path.read_bytes()


def test_every_flipped_bit_and_every_cut_is_noticed(whole: bytes, path: Path, rng: np.random.Generator) -> None:
    path.write_bytes(whole)
    assert checkpoint._read(path) is not None
    size = len(whole)
    ends = [*range(48), *range(size - 80, size)]  # first member's header; end of the directory and the digest
    for place in [*ends, *rng.integers(0, size, 300).tolist()]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="whole checkpoint"):
            checkpoint._read(path)
    for length in [0, 1, 31, 32, 33, *rng.integers(0, size, 50).tolist(), size - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="whole checkpoint"):
            checkpoint._read(path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (lambda path: np.savez(path, row=np.ones(3)), "checksum is wrong"),
        (lambda path: path.write_text("iteration,seconds\n1,2\n"), "checksum is wrong"),
        (lambda path: path.mkdir(), "expected a file to write, got a folder"),
    ],
    ids=["npz", "text", "folder"],
)
def test_something_else_is_refused(content: Callable[[Path], object], sentence: str, path: Path) -> None:
    content(path)
    with pytest.raises((CheckpointError, OutputError), match=sentence):
        solve(RPS, checkpoint=path, resume=True)


OTHER_RPS = Game.from_matrix(BIASED_RPS + np.array([[0, 0, 1e-9], [0, 0, 0], [0, 0, 0]]), name=RPS.name)
OFFSET_RPS = Game.from_matrix(BIASED_RPS, name=RPS.name, offset=1.0)
AT = (np.log([1, 0.2, 0.3, 0.5]), np.log([1, 0.2, 0.3, 0.5]))
MMD = mmd.MagneticMirrorDescent(eta=0.1, alpha=0.5, magnet=mmd.Fixed(AT))


@pytest.mark.parametrize(
    ("game", "other", "difference"),
    [
        (OTHER_RPS, {}, "the game differs"),
        (OFFSET_RPS, {}, "the game differs"),
        (Game.from_matrix(np.eye(4)), {"algorithm": mmd.MagneticMirrorDescent(eta=0.1, alpha=0.5)}, "the game differs"),
        (RPS, {"algorithm": mmd.Auto()}, r"the algorithm differs \(mmd, not restarted\)"),
        (RPS, {"algorithm": dataclasses.replace(MMD, eta=0.2)}, r"the eta differs \(0.1, not 0.2\)"),
        (RPS, {"algorithm": dataclasses.replace(MMD, magnet=mmd.Refresh(center=AT))}, "the magnet differs .*Refresh"),
        (RPS, {"algorithm": dataclasses.replace(MMD, magnet=mmd.Fixed(AT[::-1][:1] * 2))}, None),
        (RPS, {"algorithm": dataclasses.replace(MMD, magnet=mmd.Fixed((AT[0], RPS.column.uniform())))}, "given policy"),
        (RPS, {"start": AT}, "the start differs"),
        (RPS, {"dtype": "float32"}, r"the dtype differs \(float64, not float32\)"),
        (RPS, {"check_every": 5}, r"the check_every differs \(10, not 5\)"),
        (Game.from_matrix(BIASED_RPS, name="renamed"), {"tolerance": 1e-3, "polish": True}, None),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(game: Game, other: dict, difference: str | None, path: Path) -> None:
    """None: only what may change has changed."""
    first = solve(RPS, algorithm=MMD, max_iterations=20, checkpoint=path)
    written = path.read_bytes()
    arguments = {"algorithm": MMD, "checkpoint": path, "resume": True} | other
    if difference is None:
        np.testing.assert_array_equal(solve(game, **arguments).trace["seconds"][:3], first.trace["seconds"])
    else:
        with pytest.raises(CheckpointError, match=difference) as refusal:
            solve(game, **arguments)
        assert str(refusal.value).startswith(f"{path}: cannot resume {game.name} by ")
        assert path.read_bytes() == written


def test_a_state_of_another_layout_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    solve(RPS, algorithm=MMD, max_iterations=20, checkpoint=path)
    init = mmd.MagneticMirrorDescent.init
    with monkeypatch.context() as patch:
        patch.setattr(mmd.MagneticMirrorDescent, "init", lambda *a: init(*a)._replace(iteration=jnp.zeros((2,), int)))
        chunk.init.clear_cache()
        with pytest.raises(CheckpointError, match=r"the layout of the state differs, in state\.iteration"):
            solve(RPS, algorithm=MMD, checkpoint=path, resume=True)
    chunk.init.clear_cache()
    written = checkpoint.LAYOUT
    monkeypatch.setattr(checkpoint, "LAYOUT", written + 1)
    with pytest.raises(CheckpointError, match=rf"the layout differs \({written}, not {written + 1}\)"):
        solve(RPS, algorithm=MMD, checkpoint=path, resume=True)


@pytest.mark.usefixtures("eager")
def test_a_disk_that_fills_up_leaves_the_checkpoint_before(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: dict[str, Any] = {"algorithm": mmd.Anchored(), "tolerance": 1e-10}
    solve(RPS, max_iterations=30, checkpoint=path, **arguments)
    written = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(
            OutputError, match=r"cannot write the checkpoint \(No space left on device; about [\d,]+ bytes"
        ):
            solve(RPS, checkpoint=path, resume=True, **arguments)
    assert path.read_bytes() == written
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert_same(solve(RPS, checkpoint=path, resume=True, **arguments), solve(RPS, **arguments))


def test_a_fresh_start_replaces_what_is_there(path: Path) -> None:
    path.write_text("nonsense")
    part = path.with_name(f".{path.name}.1.part")
    part.write_text("what a killed process left")
    solve(RPS, algorithm=MMD, max_iterations=20, checkpoint=path)
    assert not part.exists()
    assert solve(RPS, algorithm=MMD, max_iterations=20, checkpoint=path, resume=True).iterations == 20


def test_a_checkpoint_belongs_to_one_run_at_a_time(path: Path, eager: None) -> None:
    """Another run is refused, whatever its method, and so is one that would remove it; other files are free."""
    game, refused = RPS, []

    def others(row: dict[str, float]) -> None:
        if row["iteration"] == 20:
            for arguments in ({"resume": True}, {}, {"algorithm": mmd.Interior()}, {"algorithm": None}):
                with pytest.raises(OutputError) as refusal:
                    solve(game, **{"algorithm": mmd.Restarted(), "checkpoint": path} | arguments)
                refused.append(str(refusal.value))
            solve(game, algorithm=mmd.Restarted(), checkpoint=path.with_name("other.npz"))

    wanted = {"algorithm": mmd.Restarted(), "tolerance": 0.0, "polish": False, "max_iterations": 40}
    found = solve(game, **wanted, checkpoint=path, on_check=others)
    assert len(refused) == 4
    assert all(text.startswith(f"{path}: process {os.getpid()} on ") for text in refused)
    assert "works on this file" in refused[0]
    assert refused[0].endswith("wait for it, or choose another file")
    assert_same(solve(game, **wanted, checkpoint=path, resume=True), found)
    assert {file.name for file in path.parent.iterdir()} == {path.name, "other.npz"}


def test_a_checkpoint_of_a_process_that_is_gone_is_taken_over(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    code = "import sys; from mmd.host.folder_lock import FolderLock; FolderLock(*sys.argv[1:]).acquire(); print('held')"
    words = [sys.executable, "-c", code, str(path.parent), str(path), path.name]
    subprocess.run(words, check=True, capture_output=True, timeout=300)
    assert [file.name for file in path.parent.iterdir()] == [f".lock.{path.name}"]
    caplog.set_level(logging.INFO, logger="mmd")
    solve(RPS, algorithm=mmd.Restarted(), checkpoint=path)
    assert any("which worked on this file, is gone; taking its place" in text for text in caplog.messages)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_resuming_needs_to_know_from_where(path: Path) -> None:
    with pytest.raises(GameError, match="expected a checkpoint to resume from"):
        solve(RPS, resume=True)
    with pytest.raises(OutputError, match=r"ends in \.npz"):
        solve(RPS, checkpoint=path.with_suffix(".zip"))


# -------------------------------------------------------------------- on the command line


def _notices(capsys: pytest.CaptureFixture) -> list[str]:
    """What was told on stderr, without the lines of progress: how many there are depends on the machine."""
    return [line for line in capsys.readouterr().err.splitlines() if not line.endswith("it/s")]


def test_the_same_command_line_starts_goes_on_and_tells_again(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    line = ["solve", CYCLE, "--algorithm", "mmd", "--tolerance", "0", "--out", str(tmp_path / "run"), "--resume"]
    assert main([*line, "--max-iterations", "50"]) == 3
    assert _notices(capsys) == [f"no {tmp_path}/run/checkpoint.npz yet: starting anew"]
    assert main([*line, "--max-iterations", "90"]) == 3
    assert main([*line, "--max-iterations", "90"]) == 3
    assert _notices(capsys) == 2 * [f"resuming from {tmp_path}/run/checkpoint.npz"]
    assert main(["solve", *line[1:-3], "--max-iterations", "90", "--out", str(tmp_path / "alone"), "--quiet"]) == 3
    assert not kill_and_resume.differences(tmp_path / "alone", tmp_path / "run")
    assert main(["solve", "kuhn_poker", *line[2:], "--quiet"]) == 2
    (refusal,) = _notices(capsys)
    assert "cannot resume kuhn_poker:cards=3 by mmd from a checkpoint of preference:cycle by mmd: the game" in refusal


MATRIX = ",a,b\n" + "c,{},0\nd,0,2\n"


@pytest.mark.parametrize("command", ["solve", "compare"])
def test_a_run_that_has_ended_without_a_checkpoint_is_not_replaced_by_another(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """The interior point keeps none. The same line is told again; another game, or method, ends with status 2."""
    monkeypatch.setattr(commands, "draw_convergence", lambda *_: None)
    games = [tmp_path / folder / "game.csv" for folder in ("one", "other")]
    for file, payoff in zip(games, (1, 2), strict=True):
        file.parent.mkdir()
        file.write_text(MATRIX.format(payoff))
    option, folder = ("--algorithm", "run") if command == "solve" else ("--algorithms", "")
    label = [] if command == "solve" else ["run="]

    def run(game: object, method: str) -> int:
        return main(
            [command, str(game), option, "".join([*label, method]), "--out", str(tmp_path / folder), "--resume"]
        )

    def held() -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir()}

    assert run(games[0], "interior") == 0
    assert "checkpoint.npz" not in (before := held())
    for game, method in ((CYCLE, "interior"), (games[1], "interior"), (games[0], "mmd"), ("kuhn_poker", "auto")):
        capsys.readouterr()
        assert run(game, method) == 2
        said = capsys.readouterr()
        assert said.err.count("\n") == 1
        assert "run: cannot resume " in said.err
        assert "holds another run, of game.csv by interior; choose another folder, or start without" in said.err
        assert held() == before
    assert run(games[0], "interior") == 0
    assert run_directory.load_result(tmp_path / "run")["game"] == "game.csv"


def test_a_recording_is_not_gone_on_with(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = ["--out", str(tmp_path / "run")]
    assert main(["rate", CYCLE, "--quiet", *out]) == 0
    before = (tmp_path / "run" / "trace.csv").read_bytes()
    assert main(["solve", CYCLE, "--resume", *out]) == 2
    assert _notices(capsys) == [
        f"mmd: {tmp_path}/run: holds a recording, which cannot be gone on with; choose another folder"
    ]
    assert (tmp_path / "run" / "trace.csv").read_bytes() == before


@pytest.mark.usefixtures("eager")
def test_a_killed_compare_goes_on_inside_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the second of two runs: the first is told again, the second goes on, and both end as they would alone.

    Of the chunk in which the kill comes nothing is saved, so the second run begins at the check before.
    """
    limits = ["--tolerance", "0", "--max-iterations", "90", "--quiet", "--out"]
    line = ["compare", CYCLE, "--algorithms", "mmd:alpha=0.2", "mmd:alpha=0.1", *limits, str(tmp_path / "killed")]
    checks: list[tuple[float, int]] = []
    last = 60

    def watched(game: Game, algorithm: Any, *, on_check: Callable, **arguments: Any) -> mmd.Solution:
        def check(row: dict[str, float]) -> None:
            checks.append((algorithm.alpha, int(row["iteration"])))
            if checks[-1] == (0.1, last):
                raise Killed
            on_check(row)

        return mmd.solve(game, algorithm, on_check=check, **arguments)

    monkeypatch.setattr(commands, "solve", watched)
    monkeypatch.setattr(commands, "draw_convergence", lambda *_: None)
    with pytest.raises(Killed):
        main(line)
    assert not (tmp_path / "killed" / "mmd,alpha=0.1" / "result.json").exists()
    checks.clear()
    last = -1
    assert main([*line, "--resume"]) == 0
    assert checks == [(0.1, iteration) for iteration in (60, 70, 80, 90)]
    for alpha in ("0.2", "0.1"):
        alone = ["solve", CYCLE, "--algorithm", "mmd", "--alpha", alpha, *limits, str(tmp_path / alpha)]
        assert main(alone) == 3
        assert not kill_and_resume.differences(tmp_path / alpha, tmp_path / "killed" / f"mmd,alpha={alpha}")
