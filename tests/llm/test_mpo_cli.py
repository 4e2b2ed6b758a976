"""The `mpo` command, from the line that is typed to the files that it leaves; a stopped run goes on the same."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import jax
import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

import llm_bridge as bridge
from llm_bridge.command import defaults, memory_choice, train_commands, training_run
from llm_bridge.command.cli import main
from llm_bridge.command.options import BY_NAME, ELSEWHERE, Train
from llm_bridge.plan import memory
from llm_bridge.run import termination, training_log
from llm_bridge.run.run_state import RunState
from llm_bridge.train import loop, rollout
from mmd.host import folder_lock
from mmd.host.command_line import hint, options_of
from mmd.host.folder_lock import held
from tests.llm.cases import config_of
from tests.llm.games import policy
from tests.llm.test_data import lines
from tests.llm.test_tokenizer import tokenizer
from tests.processes import QUICK_XLA

ROOT = Path(__file__).resolve().parents[2]
TINY = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
CONFIG = config_of("llama") | TINY | {"vocab_size": 12, "num_key_value_heads": 1, "initializer_range": 0.3}
JUDGE = """
import os
import pathlib
import time
import numpy as np

def shorter(prompts, a, b):
    return 1 / (1 + np.exp(np.array([len(x) - len(y) for x, y in zip(a, b)]) / 3.0))

def longer(prompts, a, b):
    return 1 - shorter(prompts, a, b)

def failing(prompts, a, b):
    return np.where(np.arange(len(a)) % (len(a) // 2) % 2, np.nan, 0.5)

def slow(prompts, a, b):
    time.sleep(100)

def silent(prompts, a, b):
    return np.full(len(a), np.nan)

def leaving(prompts, a, b):
    raise SystemExit(0)

def leaving_later(prompts, a, b):
    return [0.5] * 3 if len(prompts) == 3 else leaving(prompts, a, b)

def down(prompts, a, b):
    return shorter(prompts, a, b) if rounds() < 2 else silent(prompts, a, b)

def wrong(prompts, a, b):
    return shorter(prompts, a, b) if rounds() < 2 else ["a"] * len(a)

def raising_later(prompts, a, b):
    if rounds() < 2:
        return shorter(prompts, a, b)
    os.chdir("/")
    return {}["the prompt"]

def broken(prompts, a, b):
    return prompts["a"]

def by_column(prompts, a, b, *, right):
    return [0.5] * len(a)

def of_trl(prompts, completions, shuffle_order=True):
    return [0] * len(prompts)

def rounds():
    path = pathlib.Path("run/metrics.jsonl")
    return path.read_text().count("round") if path.exists() else 0
"""
TRAIN = {"num-generations": 4, "prompts-per-round": 2, "max-new-tokens": 2, "num-iterations": 2, "learning-rate": 1e-3}
SIZES = [word for name, value in TRAIN.items() for word in (f"--{name}", value)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with a tokenizer, as a folder."""
    folder = tmp_path_factory.mktemp("model")
    words = tokenizer(folder / "words")
    (words / "config.json").write_text(json.dumps(CONFIG))
    return bridge.save(bridge.init(words, jax.random.key(5)), folder / "tiny")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with prompts, preferences and judges to be in."""
    monkeypatch.chdir(tmp_path)
    lines(tmp_path / "prompts.jsonl", *({"prompt": text} for text in ("a", "c", "ab", "abc", "b")))
    pairs = [{"prompt": "a", "chosen": "b " * (i % 3 + 1), "rejected": "c"} for i in range(12)]
    lines(tmp_path / "pairs.jsonl", *pairs)
    name = f"judges_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(JUDGE)
    monkeypatch.setenv("JUDGES", name)
    with jax.numpy_dtype_promotion("standard"):  # optax raises floats to integer powers
        yield tmp_path


def mpo(*words: Any) -> int:
    return main([str(word) for word in words])


def train(model: Path, out: str, *more: Any, judge: str = "shorter", steps: int = 4) -> int:
    return mpo(
        *("train", "--model_name_or_path", model, "--dataset-name", "prompts.jsonl", "--output_dir", out),
        *("--judge", f"{os.environ['JUDGES']}:{judge}", "--max-steps", steps, *SIZES, *more),
    )


def rounds(run: str) -> list[dict[str, Any]]:
    """What a run has logged, but for what a clock says."""
    return training_log.rows(f"{run}/metrics.jsonl", times=False)


def weights(folder: Path) -> dict[str, bytes]:
    return {name: np.asarray(array).tobytes() for name, array in bridge.load(folder).arrays().items()}


# -------------------------------------------------------------------- training


def test_a_run_says_what_it_does_and_leaves_its_files(model: Path, work: Path, capsys: Any) -> None:
    assert train(model, "run", "--report-to", "tensorboard") == 0
    printed = capsys.readouterr()
    assert re.search(r"prompts.jsonl:1: 2 prompt tokens\n  text <s> a\n  ids  1 5\n", printed.out)
    assert "mask" not in printed.out  # of prompts nothing is trained
    assert re.search(r"memory on this host's processor, GiB: .* needed \(trained weights .*\), .* free", printed.out)
    assert "finished: 4 rounds, the policy is in run/policy" in printed.out
    assert "mpo: round 4 of 4, loss" in printed.err
    rows = training_log.rows("run/metrics.jsonl")
    assert [row["round"] for row in rows] == [1, 2, 3, 4]
    assert {"kl/magnet", "judge/order_flip_frac", "judge/failed_frac", "entropy", "response_length"} <= set(rows[0])
    assert rows[0]["kl/magnet"] == 0
    assert rows[0]["judge/order_flip_frac"] == 0
    assert weights(work / "run" / "policy") != weights(model)
    assert json.loads((work / "run" / "result.json").read_text())["status"] == "finished"
    assert yaml.safe_load((work / "run" / "config.yaml").read_text())["num_generations"] == 4
    assert {"checkpoints", "metrics.jsonl", "environment.json", "tensorboard"} <= set(os.listdir("run"))

    assert mpo("export", "run", "--output-dir", "magnet") == 0
    assert weights(work / "magnet") == weights(work / "run" / "policy")
    assert mpo("export", "run", "--output-dir", "last", "--weights", "last") == 0
    assert weights(work / "last") != weights(work / "magnet")

    assert train(model, "run") == 2
    assert "holds a run; --resume goes on with it" in capsys.readouterr().err

    shutil.rmtree("run/checkpoints")
    before = {path: path.read_bytes() for path in (work / "run").rglob("*") if path.is_file()}
    assert train(model, "run", "--resume", "--eta", "0.5") == 2
    assert "run: holds a run that has ended, and no checkpoint of it to go on from" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (work / "run").rglob("*") if path.is_file()} == before


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(model: Path, work: Path, monkeypatch: Any) -> None:
    """R5 and R6: SIGTERM after a round, and a process that dies between two checkpoints."""
    assert train(model, "alone", "--quiet") == 0

    class Dead(BaseException):
        pass

    written = training_log.TrainingLog.write

    def told_to_stop(log: Any, number: int, metrics: Any) -> None:
        written(log, number, metrics)
        if number == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        if number == 3:
            raise Dead

    monkeypatch.setattr(training_log.TrainingLog, "write", told_to_stop)
    assert train(model, "killed", "--quiet") == 143
    with pytest.raises(Dead):
        train(model, "killed", "--quiet", "--resume", "--save-steps", "2")
    monkeypatch.undo()
    monkeypatch.chdir(work)
    monkeypatch.setenv("JUDGES", next(work.glob("judges_*.py")).stem)
    assert train(model, "killed", "--quiet", "--resume") == 0
    assert weights(work / "killed" / "policy") == weights(work / "alone" / "policy")
    assert rounds("killed") == rounds("alone")
    known = (work / "killed" / "config.yaml").read_bytes()
    assert train(model, "killed", "--quiet", "--resume", "--eta", "0.5") == 2
    assert (work / "killed" / "config.yaml").read_bytes() == known  # what is refused changes nothing
    assert mpo("export", "killed", "--output-dir", "exported") == 0
    assert weights(work / "exported") == weights(work / "alone" / "policy")


def test_a_run_with_several_judges_goes_on_with_the_same_draws(
    model: Path, work: Path, monkeypatch: Any, capsys: Any
) -> None:
    """Who answers a comparison follows from the round's key; another population is another run."""
    asked = [f"{os.environ['JUDGES']}:{name}" for name in ("shorter", "longer")]
    several = ["--judge", *asked, "--judge-weights", 1, 2]
    assert train(model, "alone", "--quiet", *several, steps=2) == 0
    written = training_log.TrainingLog.write

    def told_to_stop(log: Any, number: int, metrics: Any) -> None:
        written(log, number, metrics)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(training_log.TrainingLog, "write", told_to_stop)
        assert train(model, "killed", "--quiet", *several, steps=2) == 143
    known = yaml.safe_load((work / "killed" / "config.yaml").read_text())
    assert (known["judge"], known["judge_weights"]) == (asked, [1.0, 2.0])
    for others in ([*several[:-1], 3], ["--judge", *asked], [*several, "--judge-aggregation", "mean"]):
        assert train(model, "killed", "--quiet", "--resume", *others, steps=2) == 2
        assert "of another run, judge_" in capsys.readouterr().err
    assert train(model, "killed", "--quiet", "--resume", *several, steps=2) == 0
    assert weights(work / "killed" / "policy") == weights(work / "alone" / "policy")
    assert mpo("train", "--config", "alone/config.yaml", "--resume") == 2
    assert "judge is code from outside, which no file brings in: name it on the" in capsys.readouterr().err


@pytest.mark.parametrize("moment", ["drawing", "learning"])
def test_sigterm_in_a_long_round_saves_the_rounds_before_it(
    moment: str, model: Path, work: Path, monkeypatch: Any, capsys: Any
) -> None:
    """In a call that Python does not interrupt; the thread that hears the signal writes the state, if it is there.

    While a round draws it is: rounds 1 and 2 are kept. An update has overwritten it, and the newest checkpoint counts.
    """
    assert train(model, "alone", "--quiet") == 0
    calls, left = [], threading.Event()
    place: Any = (rollout.Rollout, "_generated") if moment == "drawing" else (loop.Method, "learn")
    usual = getattr(*place)

    class Left(BaseException):
        pass

    def long(*given: Any) -> Any:
        calls.append(given)
        if len(calls) == 3:
            if moment == "learning":
                _, state, *_ = given
                for leaf in jax.tree.leaves((state.weights, state.optimizer, state.counters)):
                    leaf.delete()
            os.kill(os.getpid(), signal.SIGTERM)
            assert left.wait(60)
            raise Left
        return usual(*given)

    monkeypatch.setattr(*place, long)
    monkeypatch.setattr(termination, "PATIENCE", {signal.SIGTERM: 0.1})
    monkeypatch.setattr(termination, "LIMIT", {signal.SIGTERM: 0.2})
    monkeypatch.setattr(termination, "_leave", lambda number, text: (termination._say(text), left.set()))
    first = ["--save-steps", "1"] if moment == "learning" else []
    with pytest.raises(Left):
        train(model, "told", "--quiet", *first)
    assert "told to stop by SIGTERM, rounds up to 2 are saved; --resume goes on" in capsys.readouterr().err
    assert max(os.listdir("told/checkpoints")) == "step_00000002"
    monkeypatch.undo()
    monkeypatch.chdir(work)
    monkeypatch.setenv("JUDGES", next(work.glob("judges_*.py")).stem)
    assert train(model, "told", "--quiet", "--resume") == 0
    assert weights(work / "told" / "policy") == weights(work / "alone" / "policy")
    assert rounds("told") == rounds("alone")


def test_checkpoints_come_by_rounds_or_by_minutes_and_after_each_round_that_is_long(
    model: Path, work: Path, monkeypatch: Any
) -> None:
    ways = {"rounds": ("--save-steps", "3"), "minutes": ("--save-minutes", "0"), "long": (), "neither": ()}
    kept = {"rounds": [3, 4], "minutes": [1, 2, 3, 4], "long": [1, 2, 3, 4], "neither": [4]}
    for name, words in ways.items():
        with monkeypatch.context() as patch:
            # "long": a round lasts longer than can be waited for, and writing takes little of it
            patch.setattr("llm_bridge.command.training_run.WAITED_FOR", 0.0 if name == "long" else float("inf"))
            patch.setattr("llm_bridge.command.training_run.WRITING_SHARE", float("inf"))
            assert train(model, name, "--quiet", "--save-total-limit", "5", *words) == 0
        assert [int(path.name[-8:]) for path in sorted(Path(name, "checkpoints").iterdir())] == kept[name]
    assert len({tuple(weights(work / name / "policy").items()) for name in ways}) == 1


@pytest.mark.parametrize("resume", [(), ("--resume",)])
def test_two_processes_never_work_in_one_run(resume: tuple[str, ...], model: Path, work: Path, capsys: Any) -> None:
    """The second is refused at once, by the host and the number of the first, and changes nothing (B7)."""
    (work / "run").mkdir()
    with held("run", "mpo"):
        known = sorted(os.listdir("run"))
        begun = time.monotonic()
        assert train(model, "run", *resume) == 2
        assert time.monotonic() - begun < 5
        said = capsys.readouterr().err
        assert f"mpo: run: process {os.getpid()} on {socket.gethostname()} works in this folder since" in said
        assert said.endswith("; wait for it, or choose another folder\n")
        assert sorted(os.listdir("run")) == known


def test_a_run_that_was_killed_is_taken_over_with_a_line(model: Path, work: Path, capsys: Any) -> None:
    (work / "run").mkdir()
    lock = {**folder_lock._myself(), "began": "1", "key": "x"}  # a process that had this number before
    Path("run", folder_lock.FILE).write_text(json.dumps(lock))
    assert train(model, "run", "--quiet", "--resume", steps=1) == 0
    gone = f"process {os.getpid()} on {socket.gethostname()}, which worked in this folder, is gone; taking its place"
    assert f"mpo: run: {gone}\n" in capsys.readouterr().err
    assert folder_lock.FILE not in os.listdir("run")


def test_a_run_whose_folder_another_one_took_writes_nothing_more(
    model: Path, work: Path, monkeypatch: Any, capsys: Any
) -> None:
    """As after a laptop's sleep of more than a minute."""
    acquire = folder_lock.FolderLock.acquire

    def lost(lock: Any) -> str:
        said, lock._lost = acquire(lock), "process 7 on node7"
        return said

    monkeypatch.setattr(folder_lock.FolderLock, "acquire", lost)
    assert train(model, "run", "--quiet", "--save-steps", "1") == 2
    assert "process 7 on node7 has taken this folder over; nothing more is written" in capsys.readouterr().err
    assert not Path("run/checkpoints").exists()


def test_a_full_disk_is_named_before_the_first_round(model: Path, work: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr("llm_bridge.run.run_state.shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    monkeypatch.setattr(train_commands.Method, "fit", lambda *_: pytest.fail("it began"))
    assert train(model, "run", "--quiet") == 2
    said = capsys.readouterr().err
    assert re.search(r"need [\d,]+ bytes .2 are kept, and one is written beside them., and 1,000 are free; make", said)


def test_sigterm_in_a_judges_call_ends_the_process_with_143(model: Path, work: Path) -> None:
    """R6, from outside: the rounds before are saved, and nobody is waited for."""
    assert train(model, "run", "--quiet", "--save-steps", "1", steps=2) == 0
    (work / "run" / "result.json").unlink()
    name = os.environ["JUDGES"]
    slow = (work / f"{name}.py").read_text().replace("def shorter", "def quick").replace("def slow", "def shorter")
    dry = "if len(prompts) == 3: return [0.5] * 3"
    asked = f"{dry}\n    print('asked', flush=True); time.sleep(100)"
    (work / f"{name}.py").write_text(slow.replace("time.sleep(100)", asked))
    shutil.rmtree("run/checkpoints/step_00000002")
    command = [sys.executable, "-m", "llm_bridge", "train", "--config", "run/config.yaml", "--resume"]
    command += ["--judge", f"{name}:shorter"]  # code, which no run folder brings in
    environment = os.environ | {
        "XLA_FLAGS": QUICK_XLA,
        "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
    }
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "asked\n"
        process.terminate()
        _, errors = process.communicate(timeout=25)
    assert process.returncode == 143
    assert "told to stop by SIGTERM, rounds up to 1 are saved; --resume goes on" in errors
    assert "Traceback" not in errors


def test_a_judge_that_fails_too_often_ends_the_run(model: Path, work: Path, monkeypatch: Any, capsys: Any) -> None:
    """R9, with a window of 3 rounds instead of 50."""
    monkeypatch.setattr("llm_bridge.command.training_run.FAILED_OVER", 3)
    assert train(model, "run", "--quiet", judge="failing", steps=9) == 3
    said = capsys.readouterr().err
    assert re.search("[345].% of the judge's comparisons failed over 3 rounds, more than 20%", said)
    assert "rounds up to 3 are saved" in said
    assert len(training_log.rows("run/metrics.jsonl")) == 3


@pytest.mark.filterwarnings("default")
def test_a_run_whose_judge_never_answers_is_no_success(model: Path, work: Path, capsys: Any) -> None:
    """Rounds before the first answer taught nothing, so a run that resumes repeats them."""
    for more in ((), ("--resume",)):
        assert train(model, "run", "--save-steps", "1", "--quiet", *more, judge="silent") == 3
        said = capsys.readouterr().err
        assert "mpo: round 1: the judge silent answered no comparison" in said
        assert "mpo: stopped: the judge answered no comparison in any round; there is nothing to save, --resume" in said
    assert not (work / "run" / "result.json").exists()
    assert not (work / "run" / "checkpoints").exists()


def mended(work: Path, judge: str) -> None:
    """From now on the judge answers."""
    path = work / f"{os.environ['JUDGES']}.py"
    path.write_text(path.read_text().replace(f"def {judge}", "def unused") + f"\n{judge} = shorter\n")
    sys.modules.pop(path.stem)


@pytest.mark.parametrize(("judge", "status"), [("down", 3), ("wrong", 2)])
def test_what_is_done_is_kept_when_a_judge_goes_down_or_wrong(
    judge: str, status: int, model: Path, work: Path, monkeypatch: Any, capsys: Any
) -> None:
    """After two of four rounds; with a judge that is well again the run ends as one that it has always been with."""
    monkeypatch.setattr("llm_bridge.train.rollout.ENOUGH", 4)
    assert train(model, "run", "--quiet", judge=judge) == status
    assert capsys.readouterr().err in (
        "mpo: rounds up to 2 are saved, --resume goes on\n"
        "mpo: judge wrong: expected an array of numbers, and None or NaN for no answer, got a list with a str in it\n",
        *(
            f"mpo: stopped: the judge down answered none of a round's {n} pairs; rounds up to 2 are saved, "
            "--resume goes on\n"
            for n in range(4, 13)
        ),
    )
    mended(work, judge)
    assert train(model, "run", "--quiet", "--resume", judge=judge) == 0
    assert train(model, "alone", "--quiet") == 0
    assert weights(work / "run" / "policy") == weights(work / "alone" / "policy")


def test_a_judge_that_raises_in_a_later_round_is_named_in_a_sentence(model: Path, work: Path, capsys: Any) -> None:
    """With its error and the round; the traceback is for its author. The run goes on once the judge is well again."""
    assert train(model, "run", "--quiet", judge="raising_later") == 2
    os.chdir(work)  # where the judge has left it
    name = os.environ["JUDGES"]
    line = (work / f"{name}.py").read_text().split("\n").index('    return {}["the prompt"]') + 1
    saved, said = capsys.readouterr().err.splitlines()
    assert saved == "mpo: rounds up to 2 are saved, --resume goes on"
    assert re.fullmatch(
        rf"mpo: judge raising_later: raised KeyError: 'the prompt' at \S*{name}\.py:{line} in round 3; "
        r"what it cannot answer is None or NaN; its traceback is in run/judge_error\.txt",
        said,
    )
    kept = (work / "run" / "judge_error.txt").read_text()
    assert kept.startswith("Traceback (most recent call last):\n")
    assert f"line {line}, in raising_later" in kept
    assert kept.endswith("KeyError: 'the prompt'\n")
    mended(work, "raising_later")
    assert train(model, "run", "--quiet", "--resume", judge="raising_later") == 0


def test_a_judge_cannot_end_the_process(model: Path, work: Path, capsys: Any) -> None:
    """Not in a round either; `BAD_TRAINING` has one that tries it before."""
    assert train(model, "run", "--quiet", judge="leaving_later") == 2
    said = "mpo: judge leaving_later: raised SystemExit instead of answering; what it cannot answer is NaN\n"
    assert capsys.readouterr().err == said


def test_answers_that_are_given_are_learned_without_a_judge(model: Path, work: Path) -> None:
    words = ["--model-name-or-path", model, "--dataset-name", "pairs.jsonl", "--output-dir", "run", "--quiet"]
    assert mpo("train", *words, "--method", "sft", "--max-steps", "3", "--learning-rate", "1e-2") == 0
    losses = [row["loss"] for row in training_log.rows("run/metrics.jsonl")]
    assert losses[-1] < losses[0]


def test_an_adapter_is_trained_and_exported(model: Path, work: Path, capsys: Any) -> None:
    """It is the last iterate: the magnet is copied every 40 rounds, and was exported as it began."""
    assert train(model, "run", "--lora-r", "2", "--quiet", steps=2) == 0
    assert {"README.md", "adapter_config.json", "adapter_model.safetensors"} <= set(os.listdir("run/policy"))
    assert bridge.Tokenizer("run/policy").prompt("a b") == bridge.Tokenizer(model).prompt("a b")
    trained = load_file("run/policy/adapter_model.safetensors")
    assert all(np.abs(array).max() > 0 for name, array in trained.items() if "lora_B" in name)
    assert mpo("export", "run", "--output-dir", "last") == 0
    exported = load_file("last/adapter_model.safetensors")
    assert exported.keys() == trained.keys()
    assert all(np.array_equal(array, trained[name]) for name, array in exported.items())
    capsys.readouterr()
    assert mpo("export", "run", "--output-dir", "magnet", "--weights", "magnet") == 2
    assert "expected --weights to be 'last', in 2 rounds the magnet stays at the start" in capsys.readouterr().err
    assert mpo("export", "run", "--output-dir", "merged", "--merge") == 0
    assert weights(work / "merged").keys() == weights(model).keys()


def test_a_run_that_cannot_fit_is_refused_before_it_begins(
    model: Path, work: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setattr(memory, "available", lambda mesh: (100_000, "a thimble"))
    monkeypatch.setattr(train_commands.Method, "fit", lambda *_: pytest.fail("it began"))
    assert train(model, "run") == 2
    said = capsys.readouterr()
    assert "GiB on a thimble" in said.err
    assert "--gradient-checkpointing" in said.err
    assert "an adapter (--lora-r 8) or a smaller --max-new-tokens" in said.err


def test_a_round_is_learned_from_in_the_fewest_parts_that_fit(monkeypatch: Any) -> None:
    """Where their number is not typed; what is typed is kept, and a refusal says what would fit."""
    monkeypatch.setattr(memory, "_resident", lambda: 0)
    options, method = Train(model_name_or_path="m", dataset_name=Path("d"), output_dir=Path("o")), bridge.MPO()
    start, longest = policy(), 512
    need = {n: memory_choice._budget(start, memory_choice._in_parts(method, n), longest).total for n in (1, 2, 4, 8)}
    assert need[1] > need[2] > need[4] > need[8]
    monkeypatch.setattr(memory, "available", lambda mesh: ((need[4] + need[2]) // 2, "a laptop"))
    said: list[str] = []
    found, in_parts = memory_choice.fitted(options, start, method, longest, said.extend)
    assert (found.gradient_accumulation_steps, in_parts.prompts_at_a_time) == (4, 4)
    assert said[0].startswith("prompts of a round are learned from in 4 parts (--gradient-accumulation-steps 4)")
    typed = replace(options, gradient_accumulation_steps=2)
    with pytest.raises(bridge.BridgeError, match=r"try --gradient-accumulation-steps 4 \(needs about .* GiB\), an "):
        memory_choice.fitted(typed, start, method, longest, said.extend)
    assert defaults.resolved(options, start, {"gradient_accumulation_steps": 2}).gradient_accumulation_steps == 2
    adapted = bridge.add_adapter(start, jax.random.key(0), rank=2, alpha=16.0)
    assert memory_choice.thriftier(adapted) == []  # layers are recomputed already


def test_a_round_whose_answers_were_all_cut_is_told_once(tmp_path: Path) -> None:
    """One answer of 256 that ends a token earlier is enough for silence."""
    options = Train(model_name_or_path="m", dataset_name=Path("d"), output_dir=tmp_path, max_new_tokens=8)
    keeper = training_run.Keeper(options, RunState(tmp_path, None), termination.Termination())
    said: list[str] = []
    keeper._log = cast(Any, SimpleNamespace(reporter=SimpleNamespace(say=said.append)))
    for number, length in enumerate((8 - 1 / 256, 8.0, 8.0), 1):
        keeper._say_once_if_cut(number, {"response_length": length})
    assert said == ["round 2: all answers were cut at --max-new-tokens 8"]


# -------------------------------------------------------------------- a judge, answers, a tournament


def test_judge_answers_and_tournament(model: Path, work: Path, capsys: Any) -> None:
    words = ["--model-name-or-path", model, "--dataset-name", "pairs.jsonl", "--eval-dataset-name", "pairs.jsonl"]
    size = ["--per-device-train-batch-size", "4", "--max-length", "64", "--learning-rate", "1e-2"]
    assert mpo("train-judge", *words, *size, "--output-dir", "judge", "--num-train-epochs", "2") == 0
    said = capsys.readouterr().out
    assert (found := re.search(r"accuracy 1.000 \[(.*), 1.000\] on 12 pairs, distinct prompts: 1; by length", said))
    assert float(found[1]) < 0.5  # one prompt shows little, however many pairs it has
    result = Path("judge/result.json").read_bytes()
    assert mpo("train-judge", *words[:4], *size, "--output-dir", "judge", "--num-train-epochs", "2", "--resume") == 0
    assert Path("judge/result.json").read_bytes() == result  # what was measured is not forgotten
    for seed in (0, 1):
        drawn = ["--dataset-name", "prompts.jsonl", "--num-generations", "2", "--max-new-tokens", "2", "--seed", seed]
        assert mpo("generate", "--model-name-or-path", model, *drawn, "--output-file", f"{seed}.jsonl") == 0
    rows = [json.loads(line) for line in Path("0.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in rows[:3]] == ["a", "a", "c"]
    line = ["--dataset-name", "prompts.jsonl", "--num-generations", "2", "--max-new-tokens", "2"]
    models = ["one=0.jsonl", "two=1.jsonl", f"three={model}"]
    assert mpo("eval", *models, *line, "--judge", "judge", "--output-dir", "out") == 0
    found = json.loads(Path("out/eval.json").read_text())
    wins = np.array(found["wins"])
    np.testing.assert_allclose(wins + wins.T, 1, rtol=0, atol=1e-12)
    assert sum(found["lottery"].values()) == pytest.approx(1, abs=1e-9)
    said = [json.loads(line) for line in Path("out/comparisons.jsonl").read_text().splitlines()]
    for first, second in (("two", "one"), ("three", "one"), ("three", "two")):  # prompts differ, so each is a case
        kept = [row["preference"] for row in said if row["models"] == [first, second]]
        i, j = found["names"].index(first), found["names"].index(second)
        assert np.mean(kept) == pytest.approx(wins[i, j], abs=1e-12)
    assert "Nash probability" in capsys.readouterr().out
    assert len(Path("out/three.jsonl").read_text().splitlines()) == 10
    assert not Path("out/one.jsonl").exists()  # these answers are in their file already


# -------------------------------------------------------------------- what is typed


def test_the_command_line_beats_yaml_beats_defaults(work: Path, monkeypatch: Any) -> None:
    from llm_bridge.command import commands

    seen = []
    monkeypatch.setattr(commands, "run", lambda command, argv: seen.append(command) or 0)
    (work / "c.yaml").write_text(
        "model_name_or_path: m\ndataset-name: d.jsonl\njudge: j\noutput_dir: o\nlearning_rate: 1e-4\n"
        "eta: 2\nresume: true\nquiet: false\nset: [b=1, c=2]\nlora_alpha: null\n"
    )
    assert mpo("train", "--eta", "3", "--config", "c.yaml", "--num_generations=8") == 0
    (found,) = seen
    assert (found.eta, found.num_generations, found.learning_rate, found.alpha) == (3.0, 8, 1e-4, None)
    assert (found.resume, found.quiet, found.set, found.lora_alpha) == (True, False, ("b=1", "c=2"), 16.0)
    assert found.judge == ("j",)
    assert mpo("eval", "--judge", "j", "http://h/v1", "one=a", "two=b=c", "--dataset-name", "d") == 0
    assert (seen[-1].judge, seen[-1].models) == (("j", "http://h/v1"), ("one=a", "two=b=c"))


TRAIN_LINE = "train --model-name-or-path m --dataset-name prompts.jsonl --judge JUDGES:shorter --output-dir o"
BAD_INPUT = {
    "train --config c.yaml": "c.yaml:2: there is no option 'learning_rte', perhaps you meant --learning-rate",
    "train-judge --config c.yaml": "c.yaml:1: there is no option 'eta'; mpo train-judge --help lists them",
    "train --config missing.yaml": "missing.yaml: cannot be read (No such file or directory)",
    "train --config broken.yaml": "broken.yaml:2:1: expected YAML",
    "--config c.yaml": "--config needs a subcommand before it",
    "train --config": "--config needs the name of a YAML file",
    "train": "--model-name-or-path",
    "trian": "there is no command 'trian', perhaps you meant train",
    "fine-tune": "there is no command 'fine-tune': expected train, train-judge, generate, eval, judge-report, ",
    f"{TRAIN_LINE} --beta 0.1": "train has no option --beta, which is --alpha here",
    f"{TRAIN_LINE} --per-device-train-batch-size 4": "which is --prompts-per-round here",
    f"{TRAIN_LINE} --num_train_epochs=3": "train has no option --num_train_epochs, which is --max-steps here",
    f"{TRAIN_LINE} --max-length 512": "which is --max-prompt-length and --max-new-tokens here",
    f"{TRAIN_LINE} --bf16": "which is --compute-dtype bfloat16 here",
    "eval a=b c=d --bf16": "eval has no option --bf16, which is --dtype bfloat16 here",
    "train-judge --max-steps 3": "train-judge has no option --max-steps, which is --num-train-epochs here",
    "train-judge --top-p 1": "train-judge has no option --top-p; mpo generate and mpo eval and mpo judge-report have",
    f"{TRAIN_LINE} --optim adamw": "train has no option --optim (try --help)",
    f"{TRAIN_LINE} --eta much": "--eta",
    f"{TRAIN_LINE}": "m: no folder; expected a folder with config.json",
    "train --model-name-or-path m --dataset-name bad.jsonl --judge j:f --output-dir o": "bad.jsonl:2: not JSON",
    "train --method sft --model-name-or-path m --dataset-name pairs.jsonl --output-dir o --judge-model m": "--judge is",
    "train --method sft --model-name-or-path m --dataset-name pairs.jsonl --output-dir o --judge-field w": "--judge is",
    "eval one=m --dataset-name prompts.jsonl --judge j:f": "expected at least two models",
    "eval one=a.jsonl two=b.jsonl --dataset-name prompts.jsonl --judge json:dumps": "a.jsonl: cannot be read",
    "eval one=a.jsonl two=b.jsonl --dataset-name prompts.jsonl": "--judge",
    "export . --output-dir out": "expected a directory of mpo train",
    "generate --model-name-or-path m --dataset-name prompts.jsonl --output-file x.txt": "ends in .jsonl",
}


@pytest.mark.parametrize("line", BAD_INPUT)
def test_bad_input_is_refused_in_one_sentence(line: str, work: Path, capsys: Any) -> None:
    (work / "c.yaml").write_text("eta: 1\nlearning_rte: 3\n")
    (work / "broken.yaml").write_text("a: [\n")
    lines(work / "bad.jsonl", {"prompt": "a"}, b"{\n")
    assert mpo(*line.replace("JUDGES", os.environ["JUDGES"]).split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("mpo: ")
    assert printed.err.count("\n") == 1
    assert BAD_INPUT[line] in printed.err


def test_no_suggestion_names_an_option_that_its_command_does_not_have() -> None:
    """Every name that is an option somewhere, here or elsewhere, or one letter away from it, in every command."""
    options = {command: options_of(kind) for command, kind in BY_NAME.items()}
    names = {*ELSEWHERE, *(name for known in options.values() for name in known)}
    names |= {name[:-1] for name in names if len(name) > 1} | {f"{name}s" for name in names}
    n_suggested = 0
    for command, known in options.items():
        accepted = {f"--{name.replace('_', '-')}" for name in known}
        for name in names - set(known):
            suggested = set(re.findall("--[a-z][a-z0-9-]*", hint(name, known, ELSEWHERE)))
            assert suggested <= accepted, (command, name)
            n_suggested += len(suggested) > 0
    assert n_suggested > 300
    assert "run" not in options["export"]  # it is given by its place


BAD_TRAINING = {
    "--method sppo --magnet fixed": "sppo has no magnet that moves",
    "--method sppo --replay 2": "sppo keeps no answers of earlier rounds, so it takes no --replay",
    "--method egpo --replay 2": "EGPO draws twice in a round, so expected --replay to be 0, got 2",
    "--method sppo --spread-draws": "sppo learns from all pairs of a group, so it takes no --spread-draws",
    "--method inpo --spread-draws": "as independent draws, so expected --spread-draws to be False",
    "--method moo": "there is no method 'moo': expected mpo",
    "--magnet moving=2": "expected --magnet to be fixed",
    "--magnet moving=0.1,power=1e308": "expected --magnet power >= 0",
    "--set speed=3": "mpo has no 'speed' to --set, expected estimator, exports, first_moment, watch_start as NAME",
    "--gradient-accumulation-steps 3": "a divisor of the 2 prompts",
    "--mesh data=3": "expected --mesh to name different axes among data, fsdp, tensor whose product is the number of",
    "--mesh data=-1,fsdp=-1,tensor=8": "got 'data=-1,fsdp=-1,tensor=8'",
    "--mesh data=8,data=8": "got 'data=8,data=8'",
    "--judge nothing_here:f": "cannot import it",
    "--judge j": "--judge j: there is no such judge, expected a folder of mpo train-judge, a model's folder or hub",
    "--judge json:dumps2": "the module json has no 'dumps2'",
    "--judge http://localhost:1/v1": "needs --judge-model",
    "--judge-model m": "--judge-model is for a judge over HTTP",
    "--judge-key-variable KEY": "--judge-key-variable is for a judge over HTTP, expected --judge http",
    "--judge-concurrency 4": "--judge-concurrency is for a judge over HTTP",
    "--judge-timeout 5": "--judge-timeout is for a judge over HTTP",
    "--judge-field winner": "--judge-field is for a judge over HTTP",
    "--judge-max-tokens 9": "--judge-max-tokens is for a judge over HTTP",
    "--judge-request-fields {}": "--judge-request-fields is for a judge over HTTP",
    "--judge-criterion kinder?": "--judge-criterion is for a judge that is asked, expected --judge http",
    "--judge http://h/v1 --judge-model m --judge-request-fields [1]": "expected --judge-request-fields to be a JSON",
    "--judge http://h/v1 --judge-model m --judge-max-tokens 0": "expected --judge-max-tokens >= 1, got 0",
    '--judge http://h/v1 --judge-model m --judge-request-fields {"stream":true}': "expected no 'stream' among",
    "--judge json:loads": "judge loads: takes (s, *, cls=None, ",
    "--judge raises_on_import:f": "cannot import it (ValueError: not today at raises_on_import.py:2)",
    "--judge JUDGES:broken": "judge broken: raised TypeError: list indices must be integers or slices, not",
    "--judge JUDGES:of_trl": "judge of_trl: takes (prompts, completions, shuffle_order=True), expected",
    "--judge JUDGES:leaving": "judge leaving: raised SystemExit: 0 at judges_",
    "--judge-weights 1": "--judge-weights is for several judges, expected --judge with more than one, got judges_",
    "--judge-aggregation mean": "--judge-aggregation is for several judges",
    "--judge JUDGES:shorter JUDGES:slow --judge-weights 1": "for each judge and criterion, got 1 for 2 (judges",
    "--judge JUDGES:shorter JUDGES:slow --judge-weights 1 0": "members to be numbers > 0, got 0.0",
    "--judge JUDGES:shorter http://h/v1 --judge-model a b": "one for all judges over HTTP or one for each of the 1",
    "--judge JUDGES:shorter JUDGES:leaving": "judge leaving: raised SystemExit: 0 at judges_",
    "--judge JUDGES:shorter JUDGES:by_column": "judge by_column: asks for the column 'right', and the",
    "--eta -1": "expected --eta > 0",
    "--seed -1": "expected --seed >= 0, got -1",
    "--save-steps 0": "expected --save-steps >= 1, got 0",
    "--prompts-per-round 0": "expected --prompts-per-round >= 1",
    "--max-prompt-length 1": "prompts.jsonl:1: has 2 tokens, more than the 1",
}


@pytest.mark.parametrize("flags", BAD_TRAINING)
def test_what_does_not_fit_together_is_refused_before_training(
    flags: str, model: Path, work: Path, monkeypatch: Any, capsys: Any
) -> None:
    if "--judge" in flags:
        monkeypatch.setattr(train_commands, "policy_of", lambda *_, **__: pytest.fail("weights were read"))
    (work / "raises_on_import.py").write_text("\nraise ValueError('not today')\n")
    assert train(model, "o", "--quiet", *flags.replace("JUDGES", os.environ["JUDGES"]).split()) == 2
    assert not (work / "o").exists()
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert BAD_TRAINING[flags] in said


def test_env_names_versions_and_devices(capsys: Any) -> None:
    assert mpo("env") == 0
    printed = capsys.readouterr().out
    assert "jax " in printed
    assert "device cpu:0" in printed
