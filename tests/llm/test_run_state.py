"""Checkpoints of training come back bit for bit, or not at all (R6, R7, R8, R14); the log holds each round once."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from llm_bridge.judges import ask
from llm_bridge.model.architecture import BridgeError
from llm_bridge.run import run_state, training_log
from llm_bridge.run.run_state import RunState, RunStateError, RunStateWarning
from llm_bridge.run.termination import APART, Terminated, Termination
from llm_bridge.run.training_log import TrainingLog
from tests.llm.test_mpo_cli import model as model  # fixtures
from tests.llm.test_mpo_cli import mpo, train
from tests.llm.test_mpo_cli import work as work
from tests.mmd.command.test_cli import Terminal

IDENTITY = {"method": {"name": "MPO", "eta": 0.4}, "data": "sha256:1"}
KEY = type(jax.random.key(0).dtype)
ROOT = Path(__file__).resolve().parents[2]


class State(NamedTuple):
    weights: dict[str, Any]
    round: Any
    key: Any


def state(step: int) -> State:
    """Of several precisions and placements, different at every step."""
    rng = np.random.default_rng(step)
    mesh = Mesh(np.array(jax.devices()).reshape(2, 4), ("fsdp", "tensor"))
    rows = NamedSharding(mesh, PartitionSpec("fsdp", "tensor"))
    weights = {
        "sharded": jax.device_put(rng.standard_normal((4, 8)).astype(np.float32), rows),
        "half": jnp.asarray(rng.standard_normal(5).astype(ml_dtypes.bfloat16)),
        "tiny": jnp.asarray(np.array([5e-324, -0.0, 1e308])),
    }
    return State(weights, jnp.asarray(step, jnp.int32), jax.random.fold_in(jax.random.key(7), step))


def bits(tree: Any) -> list[bytes]:
    plain = (
        jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in jax.tree.leaves(tree)
    )
    return [np.asarray(leaf).tobytes() for leaf in plain]


def copies(tree: Any) -> list[np.ndarray]:
    """Leaves on the host, random keys as their data."""
    return [np.array(jax.random.key_data(x) if isinstance(x.dtype, KEY) else x) for x in jax.tree.leaves(tree)]


def saved(folder: Path, *steps: int, keep: int = 2) -> RunState:
    found = RunState(folder, IDENTITY, keep=keep)
    for step in steps:
        found.save(step, state(step))
    return found


# -------------------------------------------------------------------- the same bits


def test_a_state_comes_back_bit_for_bit_where_it_was(tmp_path: Path) -> None:
    found = saved(tmp_path, 3).restore(state(0))
    assert found is not None
    assert found.step == 3
    assert bits(found.state) == bits(state(3))
    for mine, template in zip(jax.tree.leaves(found.state), jax.tree.leaves(state(0)), strict=True):
        assert (mine.dtype, mine.sharding) == (template.dtype, template.sharding)


def test_copies_on_the_host_are_saved_as_the_arrays_are(tmp_path: Path) -> None:
    given, run = state(3), RunState(tmp_path, IDENTITY)
    run.save(3, given, copies=copies(given))
    found = run.restore(state(0))
    assert found is not None
    assert bits(found.state) == bits(given)
    assert jax.tree.leaves(found.state)[1].sharding == jax.tree.leaves(given)[1].sharding


def test_what_is_written_behind_is_the_state_of_its_round(tmp_path: Path) -> None:
    """Though the next update takes its buffers at once."""
    given, run = state(3), saved(tmp_path, 1)
    expected = bits(given)
    run.save(3, given, behind=True)
    jax.block_until_ready(jax.jit(lambda w: jax.tree.map(lambda x: x * 2, w), donate_argnums=0)(given.weights))
    assert given.weights["sharded"].is_deleted()
    run.settle()
    found = run.restore(state(0))
    assert found is not None
    assert (found.step, bits(found.state)) == (3, expected)


def test_what_was_killed_while_it_was_written_behind_leaves_the_one_before(tmp_path: Path, monkeypatch: Any) -> None:
    run = saved(tmp_path, 1)
    monkeypatch.setattr(RunState, "_commit", lambda *_: None)  # everything but the end
    run.save(2, state(2), behind=True)
    run.settle()
    monkeypatch.undo()
    found = RunState(tmp_path, IDENTITY).restore(state(0))
    assert found is not None
    assert (found.step, bits(found.state)) == (1, bits(state(1)))
    monkeypatch.setattr(run_state, "_sync", full)
    run.save(2, state(2), behind=True)
    with pytest.raises(RunStateError, match=r"No space left on device.*the one before, step_00000001, is untouched"):
        run.settle()
    monkeypatch.undo()
    run.settle()  # said once
    run.save(2, state(2), behind=True)
    assert [run.settle(), run.steps()] == [None, [1, 2]]


def test_the_newest_are_kept_and_an_empty_folder_is_no_error(tmp_path: Path) -> None:
    assert RunState(tmp_path / "none", IDENTITY).restore(state(0)) is None
    run = saved(tmp_path, 1, 2, 3)
    assert run.steps() == [2, 3]
    run.discard()
    assert run.steps() == []


# -------------------------------------------------------------------- R7


def victims(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file())


def flip(path: Path, rng: np.random.Generator) -> None:
    file = victims(path)[rng.integers(len(victims(path)))]
    content = bytearray(file.read_bytes())
    if not content:
        return truncate(path, rng)
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    return file.write_bytes(content) and None


def truncate(path: Path, rng: np.random.Generator) -> None:
    files = [file for file in victims(path) if file.stat().st_size]
    file = files[rng.integers(len(files))]
    file.write_bytes(file.read_bytes()[: rng.integers(file.stat().st_size)])


def delete(path: Path, rng: np.random.Generator) -> None:
    victims(path)[rng.integers(len(victims(path)))].unlink()


def uncommit(path: Path, rng: np.random.Generator) -> None:
    (path / run_state.MANIFEST).unlink()


def add(path: Path, rng: np.random.Generator) -> None:
    (path / run_state.STATE / "more").write_bytes(b"")


@pytest.mark.parametrize("damage", [flip, truncate, delete, uncommit, add])
def test_damage_is_found_and_the_checkpoint_before_is_taken(damage: Callable[..., None], tmp_path: Path) -> None:
    saved(tmp_path / "whole", 1, 2)
    for trial in range(6):
        run = tmp_path / f"run{trial}"
        shutil.copytree(tmp_path / "whole", run)
        damage(run / run_state.FOLDER / "step_00000002", np.random.default_rng(trial))
        with pytest.warns(RunStateWarning, match="step_00000002.*going on from step 1"):
            found = RunState(run, IDENTITY).restore(state(0))
        assert found is not None
        assert bits(found.state) == bits(state(1))


def test_nothing_whole_left_is_an_error_and_no_new_beginning(tmp_path: Path) -> None:
    run = saved(tmp_path, 1, 2)
    for step in (1, 2):
        uncommit(tmp_path / run_state.FOLDER / f"step_0000000{step}", np.random.default_rng())
    with pytest.raises(RunStateError, match=r"no whole checkpoint is left: .*step_00000002 .it was never committed"):
        run.restore(state(0))
    assert run.save(2, state(2)).exists()  # the run repeats the round
    assert bits(run.restore(state(0)).state) == bits(state(2))


def test_what_a_killed_process_left_is_ignored_and_cleared_away(tmp_path: Path) -> None:
    run = saved(tmp_path, 1)
    folder = tmp_path / run_state.FOLDER
    shutil.copytree(folder / "step_00000001", folder / ".step_00000002.part")
    found = run.restore(state(0))
    assert found is not None
    assert found.step == 1
    run.save(3, state(3))
    assert sorted(os.listdir(folder)) == ["step_00000001", "step_00000003"]


def test_another_run_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    other = RunState(tmp_path, IDENTITY | {"data": "sha256:2"})
    with pytest.raises(RunStateError, match="of another run, data is 'sha256:2' and was 'sha256:1'"):
        other.restore(state(0))
    smaller = state(0)._replace(weights={"half": state(0).weights["half"]})
    with pytest.raises(RunStateError, match="the state has an"):
        RunState(tmp_path, IDENTITY).restore(smaller)


# -------------------------------------------------------------------- R8, R14


def full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("fault", ["disk", "write", "commit", "folder"])
def test_a_disk_that_is_full_costs_nothing_that_was_there(fault: str, tmp_path: Path, monkeypatch: Any) -> None:
    run = saved(tmp_path, 1)
    if fault == "disk":
        monkeypatch.setattr(run_state.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 3}))
    elif fault == "write":
        monkeypatch.setattr(run_state, "_write_arrays", full)
    elif fault == "commit":
        monkeypatch.setattr(run_state, "_sync", full)
    else:
        (tmp_path / "file").write_text("")
        run = RunState(tmp_path / "file", IDENTITY)
    before = "there is none before" if fault == "folder" else "the one before, step_00000001, is untouched"
    needed = rf"step_00000002: cannot write the checkpoint .*[\d,]+ bytes are needed; {before}"
    with pytest.raises(RunStateError, match=needed):
        run.save(2, state(2))
    monkeypatch.undo()
    found = RunState(tmp_path, IDENTITY).restore(state(0))
    assert found is not None
    assert bits(found.state) == bits(state(1))


def test_a_disk_without_room_for_a_runs_checkpoints_is_named_before_the_first_round(
    tmp_path: Path, monkeypatch: Any
) -> None:
    """Two are kept and a third is written beside them, of 228 the same size."""
    n_bytes = 4 * 8 * 4 + 5 * 2 + 3 * jnp.asarray(0.0).dtype.itemsize + 4 + 8
    for free, run in ((3 * n_bytes, RunState(tmp_path / "new", IDENTITY)), (n_bytes, saved(tmp_path / "old", 1, 2))):
        monkeypatch.setattr(run_state.shutil, "disk_usage", lambda _, free=free: type("Usage", (), {"free": free}))
        run.check_room(state(0))
        monkeypatch.setattr(run_state.shutil, "disk_usage", lambda _, free=free: type("Usage", (), {"free": free - 1}))
        with pytest.raises(RunStateError, match=rf"need {free:,} bytes .2 are kept.*, and {free - 1:,} are free; make"):
            run.check_room(state(0))


@pytest.mark.parametrize("on_host", [False, True])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_state_that_is_not_finite_is_never_saved(value: float, on_host: bool, tmp_path: Path) -> None:
    broken = state(1)
    broken.weights["half"] = broken.weights["half"].at[2].set(value)
    with pytest.raises(RunStateError, match=r"half.*is not finite"):
        saved(tmp_path).save(1, broken, copies=copies(broken) if on_host else None)
    assert not list(tmp_path.iterdir())


# -------------------------------------------------------------------- R6


def test_a_run_is_ended_between_rounds_and_in_the_middle_of_a_judges_call() -> None:
    termination = Termination()
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    def slow(prompts: Any, a: Any, b: Any) -> Any:
        time.sleep(60)

    with termination.listening():
        begun = time.monotonic()
        another = subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -TERM {os.getpid()}"])
        with pytest.raises(Terminated, match="SIGTERM"):
            ask(termination.interrupting(slow), ["x"], ["a"], ["b"])
        assert time.monotonic() - begun < 30
        another.wait()
        with pytest.raises(Terminated):
            termination.check()
    again = Termination()
    with again.listening():
        again.check()
        os.kill(os.getpid(), signal.SIGTERM)  # heard, but a round is going on
        time.sleep(0.01)
        with pytest.raises(Terminated):
            again.check()
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers


COMPILING = """
import hashlib
import signal
from llm_bridge.run import termination
termination.PATIENCE = {{number: 1.2 for number in termination.PATIENCE}}
termination.LIMIT = {{signal.SIGTERM: 2.4}}
told = termination.Termination()
told.rounds, told.rescue, told.kept = {rounds}, lambda: {rescued}, lambda: {kept}
with told.listening():
    print("busy", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # one call without a bytecode, as compiling is
"""
WAITS = "SIGTERM: the run stops when the round is done, in 2 seconds at the latest; a second signal ends it at once"
TOLD = {
    # rounds of a checkpoint since which nothing was done, of one that can be written now, of the newest there is
    (3, None, 3): "told to stop by SIGTERM, rounds up to 3 are saved; --resume goes on",
    (None, 7, 3): "told to stop by SIGTERM, rounds up to 7 are saved; --resume goes on",
    (None, None, 3): "told to stop by SIGTERM, rounds up to 3 are saved; --resume goes on",
    (None, None, None): "ended by a second SIGTERM; --resume goes on",
}


@pytest.mark.parametrize("known", TOLD)
def test_signals_are_heard_while_the_main_thread_is_in_one_long_call(known: tuple[int | None, ...]) -> None:
    """At once where nothing is lost; after a while with the state before the round, or the newest checkpoint."""
    rounds, rescued, kept = known
    command = [sys.executable, "-c", COMPILING.format(rounds=rounds, rescued=rescued, kept=kept)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert process.stdout.readline() == "busy\n"
            process.terminate()
            said = process.stderr.readline()
            if rounds is None:
                assert said == f"mpo: {WAITS}\n"
                if kept is None:
                    time.sleep(APART)  # what comes sooner is the same one again
                    process.terminate()
                said = process.stderr.readline()
            assert process.wait(10) == 143
        finally:
            process.kill()
    assert said == f"mpo: {TOLD[known]}\n"


# -------------------------------------------------------------------- the log


def log(folder: Path, numbers: range, done: int = 0, **options: Any) -> None:
    with TrainingLog(folder, "MPO", 8, done=done, quiet=True, **options) as found:
        for number in numbers:
            found.write(number, {"loss": 1 / number, "kl/magnet": float("nan")})


def test_a_resumed_log_holds_every_round_once(tmp_path: Path) -> None:
    log(tmp_path / "alone", range(1, 9))
    log(tmp_path / "killed", range(1, 6))
    file = tmp_path / "killed" / "metrics.jsonl"
    file.write_bytes(file.read_bytes() + b'{"round": 6, "lo')  # killed while writing
    log(tmp_path / "killed", range(4, 9), done=3)
    assert file.read_bytes() == (tmp_path / "alone" / "metrics.jsonl").read_bytes()
    found = training_log.rows(file)
    assert [row["round"] for row in found] == list(range(1, 9))
    assert found[2] == {"round": 3.0, "loss": 1 / 3, "kl/magnet": None}


def test_a_log_that_is_none_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("notes of mine\n")
    with pytest.raises(BridgeError, match="expected one JSON object a line"):
        log(tmp_path, range(1))
    assert (tmp_path / "metrics.jsonl").read_text() == "notes of mine\n"


@pytest.mark.parametrize(
    "text",
    ["notes of mine", "[1]", '{"loss": 1.0}', '{"round": 1, "loss": "x"}', '{"round": 1, "loss": [1]}', "[" * 100_000],
)
def test_rounds_of_a_log_that_is_none_are_refused_in_a_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(f"{text}\n")
    with pytest.raises(BridgeError, match=r"metrics\.jsonl: expected one JSON object a line with a round"):
        training_log.rows(tmp_path / "metrics.jsonl")
    assert training_log.rows(tmp_path / "moved.jsonl") == []


def test_a_run_goes_on_without_its_log_and_says_what_is_missing(model: Path, work: Path, capsys: Any) -> None:
    """The policy is that of a run whose log was never gone; a log that is damaged ends the command with a sentence."""
    assert train(model, "run", "--quiet", "--save-steps", 1, steps=2) == 0
    known, log_of = (Path("run/policy/model.safetensors").read_bytes(), Path("run/metrics.jsonl"))
    shutil.rmtree("run/checkpoints/step_00000002")
    log_of.write_text("rubbish\n")
    capsys.readouterr()
    assert train(model, "run", "--quiet", "--save-steps", 1, "--resume", steps=2) == 2
    said = capsys.readouterr().err
    assert "run/metrics.jsonl: expected one JSON object a line with a round; move it away\n" in said
    assert said.count("\n") == 1
    log_of.unlink()
    Path("run/result.json").write_text("rubbish")
    assert train(model, "run", "--quiet", "--save-steps", 1, "--resume", steps=2) == 0
    said = capsys.readouterr().err
    assert "run/metrics.jsonl: is not there, so round 1 will be missing in it; the run goes on" in said
    assert [row["round"] for row in training_log.rows(log_of)] == [2]
    assert Path("run/policy/model.safetensors").read_bytes() == known


def test_tensorboard_gets_the_same_numbers_and_may_fail(tmp_path: Path, monkeypatch: Any) -> None:
    tensorboard = pytest.importorskip("tensorboardX")
    log(tmp_path, range(1, 4), trackers=("tensorboard",))
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"loss" in events.read_bytes()
    monkeypatch.setattr(tensorboard.SummaryWriter, "add_scalar", full)
    with pytest.warns(UserWarning, match="TensorBoard is no longer fed"):
        log(tmp_path, range(4, 7), done=3, trackers=("tensorboard",))
    assert len(training_log.rows(tmp_path / "metrics.jsonl")) == 6


def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    with TrainingLog(tmp_path, "MPO", 3) as found:
        for number in (1, 2, 3):
            found.write(number, {"loss": 0.25})
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("MPO: round 3 of 3, loss 0.25, ")
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with TrainingLog(tmp_path, "MPO", 3, done=1) as found:
        found.write(2, {"loss": 0.125})
    assert "loss 0.125" in screen.getvalue()
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1]) == {"round": 2.0, "loss": 0.125}


# -------------------------------------------------------------------- the length of a run


@pytest.mark.parametrize("rank", [0, 2])
def test_a_run_keeps_its_length_and_a_new_one_goes_further(rank: int, model: Path, work: Path, capsys: Any) -> None:
    """Its learning rate falls to 0 over it: a longer one differs from the first round's step on."""
    more, onward = ("--quiet", "--lora-r", rank), () if rank else ("--lora-r", rank)  # an adapter is trained further
    assert train(model, "run", *more, steps=2) == 0
    known = {path: path.read_bytes() for path in sorted(Path("run").rglob("*")) if path.is_file()}
    capsys.readouterr()
    for steps in (1, 3):
        assert train(model, "run", *more, "--resume", steps=steps) == 2
        assert capsys.readouterr().err == (
            f"mpo: run/checkpoints/step_00000002: of another run, max_steps is {steps} and was 2; "
            "a run keeps its length, over which the learning rate falls to 0: to go further, "
            "mpo export run --output-dir FOLDER and begin a new run with --model-name-or-path FOLDER\n"
        )
    assert known == {path: path.read_bytes() for path in sorted(Path("run").rglob("*")) if path.is_file()}
    assert mpo(*["export", "run", "--output-dir", "reached"]) == 0
    assert train(Path("reached"), "further", "--quiet", *onward, steps=1) == 0
    assert train(model, "longer", *more, steps=3) == 0
    rows = {out: training_log.rows(f"{out}/metrics.jsonl") for out in ("run", "longer")}
    rates = {out: [row["learning_rate"] for row in found] for out, found in rows.items()}
    np.testing.assert_allclose(rates["run"], [1e-3, 1e-3 / 2], rtol=1e-6, atol=0)
    np.testing.assert_allclose(rates["longer"], [1e-3, 2e-3 / 3, 1e-3 / 3], rtol=1e-6, atol=0)
