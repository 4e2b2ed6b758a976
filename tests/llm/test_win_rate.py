"""Win rates while training: against the exact one, in a run that is interrupted, and where they are reported."""

import importlib
import json
import os
import shutil
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import llm_bridge as bridge
from llm_bridge.command import train_commands
from llm_bridge.judges.callable import PairFunction
from llm_bridge.measure.intervals import wilson
from llm_bridge.measure.win_rate import _summary
from llm_bridge.run import training_log
from llm_bridge.run.training_log import TrainingLog
from tests.llm.games import CYCLE, SIZES, SumJudge, policy
from tests.llm.test_data import lines
from tests.llm.test_mpo_cli import model as model  # fixtures
from tests.llm.test_mpo_cli import mpo, rounds, train
from tests.llm.test_mpo_cli import work as work

KEY = jax.random.key(7)
ONE_TOKEN = SIZES | {"max_new_tokens": 1, "prompts_per_round": 32, "exports": "policy"}


def first_token(given: bridge.Policy) -> np.ndarray:
    """Its probabilities behind the prompt [0]."""
    rows = np.array([[0, token] for token in range(4)])
    return np.exp(np.asarray(given.log_probs(rows, np.ones(rows.shape, bool)))[:, -1])


def test_the_measured_win_rate_is_the_exact_one_of_what_is_exported_against_the_start() -> None:
    """Answers of one token in a cycle: the win rate is the sum over pairs of both policies' probabilities."""
    one = bridge.MPO(SumJudge(), **ONE_TOKEN)
    state = one.init(policy(), KEY)
    state = replace(state, weights=state.weights | {"head": 4 * jnp.roll(state.weights["head"], 2, axis=1)})
    ours, start = first_token(one.export(state)), first_token(policy())
    classes = np.arange(4) % 3
    expected = ours @ CYCLE[np.ix_(classes, classes)] @ start
    assert abs(expected - 0.5) > 0.1
    measured = bridge.WinRate(one, policy(), [[0]] * 700, every=3, key=KEY)
    metrics: dict[str, float] = {}
    measured(replace(state, round=state.round + 1), metrics)
    assert metrics == {}
    measured(state, metrics)
    assert metrics["eval/win_rate"] == pytest.approx(expected, abs=0.03)
    assert metrics["eval/win_rate_low"] < expected < metrics["eval/win_rate_high"]
    assert (metrics["eval/response_length"], metrics["eval/failed_frac"]) == (1, 0)


def test_pairs_without_an_answer_are_left_out_and_counted() -> None:
    one = bridge.MPO(PairFunction(lambda p, a, b: None if a == (0,) else 1.0), **ONE_TOKEN)
    found = bridge.WinRate(one, policy(), [[0]] * 256, every=1, key=KEY).measure(one.init(policy(), KEY))
    no_zero = 1 - first_token(policy())[0]
    # both orders are asked, so a pair is answered where neither side is 0, and then it is a tie: the first always wins;
    # equal answers are a tie that nobody is asked about
    both = no_zero**2 + (1 - no_zero) ** 2
    assert found["eval/win_rate"] == 0.5
    assert 1 - found["eval/failed_frac"] == pytest.approx(both, abs=0.08)


def test_held_out_rows_that_repeat_a_prompt_are_one_case() -> None:
    """Rows with the prompt [0] all won, the row with the prompt [1] lost: 1/2 over two prompts, whatever the rows."""
    won, once = np.array([1.0] * 9 + [0.0]), _summary(np.array([1.0, 0.0]), np.array([0, 1]))
    assert _summary(won, np.array([0] * 9 + [1])) == pytest.approx(once, abs=1e-12)
    assert once["eval/win_rate"] == pytest.approx(0.5, abs=1e-12)
    assert once["eval/win_rate_wilson_low"] == pytest.approx(wilson(0.5, 2)[0], abs=1e-12)
    assert _summary(np.array([np.nan, 1.0]), np.array([0, 0]))["eval/win_rate"] == pytest.approx(1, abs=1e-12)


def test_a_win_rate_needs_a_judge_and_a_period() -> None:
    with pytest.raises(bridge.BridgeError, match="needs a judge"):
        bridge.WinRate(bridge.MPO(), policy(), [[0]], every=1, key=KEY)
    with pytest.raises(bridge.BridgeError, match="every >= 1"):
        bridge.WinRate(bridge.MPO(SumJudge()), policy(), [[0]], every=0, key=KEY)


def test_repeated_prompts_are_said_to_be_where_they_come_from(model: Path, work: Path, capsys: Any) -> None:
    """Prompts that differ in spaces, which are no tokens here, are one case."""
    lines(work / "prompts.jsonl", *({"prompt": f"a{' ' * i}"} for i in range(40)))
    for more, source in (
        ((), "held out of prompts.jsonl"),
        (("--eval-dataset-name", "prompts.jsonl"), "prompts.jsonl"),
    ):
        assert train(model, f"run{len(more)}", *more, "--eval-share", 0.5, steps=1) == 0
        n = 40 if more else 20
        said = f"{source}: {n - 1} of {n} rows repeat a prompt: intervals have 1 cases"
        assert said in capsys.readouterr().out.splitlines()


def test_a_measurement_that_was_interrupted_is_made_up_for(model: Path, work: Path, monkeypatch: Any) -> None:
    """SIGTERM while the judge compares held-out answers: the resumed run's log is that of an undisturbed one."""
    held_out = ("--eval-dataset-name", "prompts.jsonl", "--eval-steps", "2", "--quiet")
    assert train(model, "alone", *held_out) == 0
    rows = training_log.rows("alone/metrics.jsonl")
    assert ["eval/win_rate" in row for row in rows] == [True, False, True, False, True]
    assert all(row["eval/win_rate_low"] <= row["eval/win_rate"] <= row["eval/win_rate_high"] for row in rows[::2])
    name = os.environ["JUDGES"]
    told = sys.modules[name]
    shorter, calls = told.shorter, []

    def interrupted(prompts: list, a: list, b: list) -> np.ndarray:
        calls.append(len(prompts))
        if len(calls) == 5:  # the dry run, the win rate before the first round, two rounds, then the win rate
            os.kill(os.getpid(), 15)
        return shorter(prompts, a, b)

    monkeypatch.setattr(told, "shorter", interrupted)
    assert train(model, "killed", *held_out) == 143
    assert "eval/win_rate" not in training_log.rows("killed/metrics.jsonl")[-1]
    assert train(model, "killed", *held_out, "--resume") == 0
    assert rounds("killed") == rounds("alone")


@pytest.mark.pictured
def test_a_judge_that_goes_elsewhere_takes_no_file_with_it(model: Path, work: Path, monkeypatch: Any) -> None:
    name = os.environ["JUDGES"]
    monkeypatch.syspath_prepend(work)
    told = importlib.import_module(name)
    shorter = told.shorter
    (work / "elsewhere").mkdir()
    monkeypatch.setattr(told, "shorter", lambda *given: os.chdir(work / "elsewhere") or shorter(*given))
    assert train(model, "run", "--eval-dataset-name", "prompts.jsonl", "--save-steps", 1, steps=2) == 0
    assert [row["round"] for row in training_log.rows(work / "run" / "metrics.jsonl")] == [0, 1, 2]
    files = {path.name for path in (work / "run").iterdir()}
    known = {"checkpoints", "config.yaml", "environment.json", "metrics.jsonl", "policy", "result.json"}
    assert files == known | {"samples.jsonl", "training.png"}
    os.chdir(work)
    lines(work / "one.jsonl", *({"prompt": text, "response": "b"} for text in ("a", "c", "ab", "abc", "b")))
    words = f"eval one=one.jsonl two=one.jsonl --dataset-name prompts.jsonl --judge {name}:shorter --output-dir out"
    assert mpo(*words.split()) == 0
    assert (work / "out" / "eval.json").exists()
    assert not list((work / "elsewhere").iterdir())


def test_held_out_prompts_need_a_judge(model: Path, work: Path, capsys: Any) -> None:
    words = ["--model-name-or-path", model, "--dataset-name", "pairs.jsonl", "--output-dir", "run", "--method", "sft"]
    assert mpo("train", *words, "--eval-dataset-name", "prompts.jsonl") == 2
    assert "--eval-dataset-name needs a --judge" in capsys.readouterr().err


@pytest.fixture
def small(model: Path, work: Path) -> Path:
    """The model with a context of 8 tokens."""
    shutil.copytree(model, work / "small")
    config = json.loads((model / "config.json").read_text()) | {"max_position_embeddings": 8}
    (work / "small" / "config.json").write_text(json.dumps(config))
    return work / "small"


def test_a_prompt_that_leaves_the_context_no_room_for_an_answer_is_named_or_left_out(
    small: Path, work: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """A context of 8 holds prompts of 6 tokens with answers of 2, whatever --max-prompt-length allows."""
    lines(work / "long.jsonl", {"prompt": "a b c a b c"}, {"prompt": "a b c a b"}, {"prompt": "a"})
    learned, held_out = ("--dataset-name", "long.jsonl"), ("--eval-dataset-name", "long.jsonl", "--eval-steps", 1)
    reason = "long.jsonl:1: has 7 tokens, more than the 6 that it may have\n"
    for words in (learned, held_out):
        assert train(small, "run", *words) == 2
        assert capsys.readouterr().err == f"mpo: {reason}"
    assert train(small, "run", "--max-new-tokens", 8) == 2
    said = capsys.readouterr().err
    assert said == "mpo: --max-new-tokens 8 leaves no room for a prompt in the context of 8 tokens\n"
    monkeypatch.setattr(train_commands, "Keeper", lambda *_: sys.exit("all is encoded"))
    with pytest.raises(SystemExit, match="all is encoded"):
        train(small, "run", *learned, *held_out, "--on-bad-row", "skip")
    assert capsys.readouterr().out.count(f"1 rows are left out, the first is {reason}") == 2


def test_demonstrations_longer_than_the_context_are_named(small: Path, work: Path, capsys: Any) -> None:
    rows = [{"prompt": "a", "chosen": answer, "rejected": "c"} for answer in ("b b b b b", "b b b b b b b")]
    lines(work / "long.jsonl", *rows)
    words = "train --method sft --model-name-or-path small --dataset-name long.jsonl --output-dir run"
    assert mpo(*words.split()) == 2
    assert capsys.readouterr().err == "mpo: long.jsonl:2: has 10 tokens, more than the 8 that it may have\n"


class FakeRun:
    """What `wandb.init` returns."""

    def __init__(self, **given: Any):
        self.given, self.rows = given, []

    def log(self, row: dict, step: int) -> None:
        if step == 5:
            raise OSError("no network")
        self.rows.append((step, row))

    def finish(self) -> None:
        self.rows.append("finished")


def test_wandb_gets_the_finite_numbers_of_the_same_run_and_may_fail(tmp_path: Path, monkeypatch: Any) -> None:
    runs: list[FakeRun] = []
    fake = types.SimpleNamespace(init=lambda **given: runs.append(FakeRun(**given)) or runs[-1])
    monkeypatch.setitem(sys.modules, "wandb", fake)
    (tmp_path / "config.yaml").write_text("eta: 0.4\n")
    with TrainingLog(tmp_path, "MPO", 9, trackers=("wandb",), quiet=True) as log:
        log.write(1, {"loss": 0.5, "kl/magnet": float("nan")})
    with TrainingLog(tmp_path, "MPO", 9, done=1, trackers=("wandb",), quiet=True) as log:
        log.write(2, {"loss": 0.25})
        with pytest.warns(UserWarning, match=r"Weights & Biases is no longer fed \(no network\)"):
            log.write(5, {"loss": 0.125})
        log.write(6, {"loss": 0.125})
    assert [run.rows for run in runs] == [[(1, {"loss": 0.5}), "finished"], [(2, {"loss": 0.25})]]
    assert runs[0].given["id"] == runs[1].given["id"]
    assert runs[0].given["config"] == {"eta": 0.4}
    assert len(training_log.rows(tmp_path / "metrics.jsonl")) == 4
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.warns(UserWarning, match=r"pip install 'magnetic-mirror\[wandb\]'"):
        TrainingLog(tmp_path / "other", "MPO", 9, trackers=("wandb",), quiet=True).__enter__().__exit__()
