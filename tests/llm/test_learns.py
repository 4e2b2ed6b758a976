"""A run of `mpo train` shows that it learns: one small run, and what its files and lines have to say (C8, C9)."""

import contextlib
import io
import json
import os
import re
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import yaml
from safetensors.numpy import load_file

import llm_bridge as bridge
import mmd
from llm_bridge.checkpoint import adapters
from llm_bridge.command import defaults, train_commands, training_run
from llm_bridge.command.options import Train
from llm_bridge.run import phases, picture, progress, samples, termination, training_log
from llm_bridge.run.phases import COMPILED, LOWERED, Doing, Phases
from llm_bridge.run.progress import Reporter
from llm_bridge.text import data, held_out
from llm_bridge.train import schedule
from tests.llm.games import PROMPTS, SIZES, SumJudge, policy
from tests.llm.test_data import lines
from tests.llm.test_mpo_cli import SIZES as OPTIONS
from tests.llm.test_mpo_cli import model as model  # a fixture
from tests.llm.test_mpo_cli import mpo
from tests.llm.test_run_state import Terminal

KEY = jax.random.key(7)
JUDGE = """
import json
import pathlib

def shorter(prompts, a, b):
    with (pathlib.Path(__file__).parent / "asked.jsonl").open("a") as file:
        file.write(json.dumps(prompts) + "\\n")
    return [1 / (1 + 2.0 ** (len(x) - len(y))) for x, y in zip(a, b)]
"""
TEXTS = [" ".join(word) for n in (1, 2, 3, 4) for word in product("abc", repeat=n)]  # 120


class Done(NamedTuple):
    """A run that is over: where it is, what it was told, and what it said."""

    folder: Path
    words: list[str]
    said: str

    def rows(self) -> list[dict[str, Any]]:
        return training_log.rows(self.folder / "metrics.jsonl")

    def samples(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "samples.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def run(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """Four rounds of MPO with an adapter on 108 prompts; 12 are held out."""
    home = tmp_path_factory.mktemp("learns")
    lines(home / "prompts.jsonl", *({"prompt": text} for text in TEXTS))
    (home / "judge.py").write_text(JUDGE)
    words = f"train --model-name-or-path {model} --dataset-name {home}/prompts.jsonl --judge {home}/judge.py:shorter"
    words += f" --output-dir {home}/run --max-steps 4 --eval-steps 2 --lora-r 2 --lora-target-modules q_proj v_proj"
    words += " --lr-scheduler-type cosine --warmup-steps 2 --save-steps 1"
    typed = [*words.split(), *map(str, OPTIONS)]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), jax.numpy_dtype_promotion("standard"):
        assert mpo(*typed) == 0, said.getvalue()
    return Done(home / "run", typed, said.getvalue())


# -------------------------------------------------------------------- win rates


def test_the_win_rate_is_measured_before_along_and_after_and_is_that_of_the_samples(run: Done) -> None:
    """Before the first round both sides are one policy: 1/2 within the interval."""
    rows, samples = run.rows(), run.samples()
    assert [row["round"] for row in rows] == [0, 1, 2, 3, 4]
    assert [row["round"] for row in rows if "eval/win_rate" in row] == [0, 2, 4]
    assert rows[0]["eval/win_rate_low"] < 0.5 < rows[0]["eval/win_rate_high"]
    for number in (0, 2, 4):
        of_round = [sample for sample in samples if sample["round"] == number]
        assert len(of_round) == 12
        share = np.mean([sample["preference"] for sample in of_round])
        assert share == pytest.approx(rows[number]["eval/win_rate"], rel=1e-6)
        for sample in of_round:  # the verdict is the judge's on these two texts
            longer = len(sample["now"]) - len(sample["start"])
            assert sample["preference"] == pytest.approx(1 / (1 + 2.0**longer), rel=1e-6)
        assert [s["start"] for s in of_round] == [s["start"] for s in samples[:12]]  # drawn once
    assert [s["now"] for s in samples[:12]] != [s["start"] for s in samples[:12]]  # independent draws
    for number, where in ((0, "before round 1, one model against itself"), (2, "round 2 of 4"), (4, "round 4 of 4")):
        told = "eval/win_rate {:.3g} [{:.3g}, {:.3g}]"
        told = told.format(*(rows[number][f"eval/win_rate{side}"] for side in ("", "_low", "_high")))
        (line,) = [line for line in run.said.splitlines() if line.startswith(f"mpo: {where}") and "eval/" in line]
        assert told in line
    newest = json.loads((run.folder / "result.json").read_text())
    assert newest["win_rate"] == rows[4]["eval/win_rate"]
    rate = [100 * rows[4][f"eval/win_rate{side}"] for side in ("", "_low", "_high")]
    assert "win rate against the start: {:.1f} % [{:.1f}, {:.1f}] after 4 rounds".format(*rate) in run.said


def test_what_is_held_out_is_not_learned_from_and_is_found_again(run: Done, capsys: Any) -> None:
    kept = [row["prompt"] for row in map(json.loads, (run.folder / "held_out.jsonl").read_text().splitlines())]
    assert len(set(kept)) == 12
    calls = [set(json.loads(line)) for line in (run.folder.parent / "asked.jsonl").read_text().splitlines()]
    assert all(asked <= set(kept) or not asked & set(kept) for asked in calls)
    assert {text for asked in calls if asked <= set(kept) for text in asked} <= set(kept)
    assert sum(not asked & set(kept) for asked in calls) >= 4  # the dry run's and the rounds'
    assert "12 of 120 prompts are held out" in run.said
    assert yaml.safe_load((run.folder / "config.yaml").read_text())["eval_share"] == 0.1
    assert mpo(*run.words, "--resume", "--quiet", "--eval-share", "0.2") == 2
    assert "eval_share is 0.2 and was 0.1; which prompts are held out stays as it was" in capsys.readouterr().err


def test_the_same_prompts_are_held_out_whatever_the_order_and_rows_of_one_prompt_stay_together() -> None:
    rows = [data.Row(f"f:{i}", text) for i, text in enumerate([*TEXTS, *TEXTS[:50]])]
    parts = held_out.split(data.Dataset(tuple(rows)), 0.1)
    turned = held_out.split(data.Dataset(tuple(rows[::-1])), 0.1)
    assert parts.held_out is not None
    assert turned.held_out is not None
    texts = {row.text for row in parts.held_out.rows}
    assert len(parts.held_out.rows) == len(texts) == 12
    assert {row.text for row in turned.held_out.rows} == texts
    assert not texts & {row.text for row in parts.rest.rows}
    assert len(parts.rest.rows) == sum(row.text not in texts for row in rows)
    more = held_out.split(data.Dataset(tuple(rows)), 0.2).held_out
    assert more is not None
    assert texts < {row.text for row in more.rows}
    assert held_out.split(data.Dataset(tuple(rows[:79])), 0.1).held_out is None  # 7 would say next to nothing
    many = data.Dataset(tuple(data.Row("f", str(i)) for i in range(5000)))
    assert len(held_out.split(many, 0.1).held_out or ()) == held_out.MOST


def test_a_share_that_is_not_typed_holds_out_eight_prompts_where_they_are_at_most_half() -> None:
    """So 16 prompts have a win rate, and 15 have none; from 80 on a tenth is enough."""
    for n in range(1, 100):
        rows = data.Dataset(tuple(data.Row("f", str(i)) for i in (*range(n), 0)))
        parts = held_out.split(rows, held_out.enough(defaults.HELD_OUT_SHARE, n))
        kept = 0 if parts.held_out is None else len(parts.held_out)
        assert kept == (0 if n < 16 else max(8, n // 10))
        assert len(held_out.distinct(parts.rest.rows)) == n - kept


def test_too_few_prompts_are_said_in_one_line(run: Done, capsys: Any) -> None:
    lines(run.folder.parent / "few.jsonl", *({"prompt": text} for text in TEXTS[:5]))
    few = [word.replace("prompts.jsonl", "few.jsonl").replace("/run", "/few") for word in run.words]
    assert mpo(*few, "--eta", "-1") == 2  # refused before anything is loaded
    assert "expected --eta > 0" in capsys.readouterr().err
    five = data.load(run.folder.parent / "few.jsonl")
    given = Train(model_name_or_path="m", dataset_name=Path("few.jsonl"), output_dir=Path("o"), judge=("j:f",))
    options = defaults.share_of(given, {}, 5)
    parts = held_out.Split(five, None)
    assert train_commands._held_out(options, five) == parts
    assert train_commands._held_out_lines(options, parts) == []
    (line,) = train_commands._unmeasured(options, parts)
    assert line == "no win rate: 0.1 of 5 prompts is 0 and 8 are needed; --eval-dataset-name FILE gives more"
    sixteen = data.Dataset(tuple(data.Row("f", text) for text in TEXTS[:16]))
    (line,) = train_commands._unmeasured(options, train_commands._held_out(options, sixteen))
    assert line.endswith("0.1 of 16 prompts is 1 and 8 are needed; --eval-share or --eval-dataset-name FILE gives more")
    off = replace(options, eval_share=0.0)
    assert train_commands._held_out(off, data.load(run.folder.parent / "prompts.jsonl")).held_out is None
    assert train_commands._unmeasured(off, parts) == []


def test_answers_are_shown(run: Done) -> None:
    """A table of the first three of them, as they stand in the file."""
    assert run.said.count("answers before the first round") == 1
    assert run.said.count("answers after 4 rounds") == 1
    assert samples.table(1, []).title == "answers after 1 round"
    sample = next(s for s in run.samples() if s["round"] == 4)
    table = run.said.partition("answers after 4 rounds")[2]
    name = "tie" if sample["preference"] == 0.5 else "now" if sample["preference"] > 0.5 else "start"
    assert re.search(rf"{re.escape(sample['prompt'])} .*{name} \({sample['preference']:.2f}\)", table)


def test_trackers_get_the_answers_as_a_text(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    from llm_bridge.run.samples import Sample

    with training_log.TrainingLog(tmp_path, "MPO", 3, trackers=("tensorboard",), quiet=True) as log:
        log.write_samples(0, [Sample("why | ever", "because\n[b]", "no", 0.25), Sample("x", "y", "z", None)])
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert rb"| why \| ever | because [b] | no | start (0.25) |" in events.read_bytes()
    assert b"| x | y | z | no verdict |" in events.read_bytes()
    with training_log.TrainingLog(tmp_path, "MPO", 3, done=-1, quiet=True) as log:  # round 0 is measured again
        log.write_samples(0, [Sample("a", "b", "c", 0.5)])
    assert len((tmp_path / "samples.jsonl").read_text().splitlines()) == 1


# -------------------------------------------------------------------- times


def test_seconds_and_tokens_are_those_of_the_phases(run: Done) -> None:
    for row in run.rows()[1:]:
        parts = {name: value for name, value in row.items() if name.startswith("timing_s/")}
        assert {"timing_s/generation", "timing_s/judging", "timing_s/update"} <= parts.keys()
        assert sum(parts.values()) <= row["step_time"] + 1e-6
        drawn = row["tokens_per_second/generation"] * row["timing_s/generation"]
        assert drawn == pytest.approx(8 * row["response_length"], rel=1e-6)  # of 2 prompts with 4 answers each
        learned = row["tokens_per_second/update"] * row["timing_s/update"]
        assert learned == pytest.approx(round(learned), abs=1e-3)
        assert 2 * (8 * 2 + drawn) <= learned + 1e-3  # two steps; a prompt has at least two tokens
        assert ("timing_s/eval" in row) == ("eval/win_rate" in row)
    assert "timing_s/checkpoint" in run.rows()[2]  # written after the round before


def test_a_clock_counts_phases_and_compilation_apart(monkeypatch: Any) -> None:
    now = [100.0]
    monkeypatch.setattr(phases.time, "monotonic", lambda: now[0])

    def pass_by(seconds: float) -> None:
        now[0] += seconds

    clock = Phases()
    clock.begin("generation")
    clock.count("generation", 300)
    pass_by(1)
    clock._hear(LOWERED, 0.5)
    pass_by(4)
    assert str(clock.doing()) == "compiling the generation ... 4 s"
    clock._hear(COMPILED, 4.0)
    pass_by(2)
    assert str(clock.doing()) == "generation ... 7 s"
    clock.begin("update")
    pass_by(5)
    clock.begin(None)
    pass_by(10)
    found = clock.lap()
    assert found == {
        "step_time": 22.0,
        "timing_s/generation": 3.0,
        "timing_s/compilation": 4.0,
        "timing_s/update": 5.0,
        "tokens_per_second/generation": 100.0,
    }
    clock.begin("generation")
    pass_by(1)
    assert clock.doing() == Doing("generation", 1.0, None, 3.0)  # usual: without what was compiled
    assert clock.doing().left == 2.0
    assert clock.lap()["step_time"] == 1.0


def test_compilation_is_heard_of() -> None:
    with Phases() as clock:
        clock.begin("update")
        jax.jit(lambda x: jnp.sin(x) * 3 + len(os.environ) + 0.123456)(jnp.ones(7)).block_until_ready()
        found = clock.lap()
    assert found["timing_s/compilation"] > 0
    assert found["timing_s/compilation"] + found["timing_s/update"] == pytest.approx(found["step_time"], abs=1e-3)


def test_nothing_is_silent_for_long_off_a_terminal(monkeypatch: Any, capsys: Any) -> None:
    """What is compiled is said while it is, and what a round does; and the time that is left."""
    clock, doing = Phases(), [Doing("update", 6.0, 6.0, None)]
    monkeypatch.setattr(clock, "doing", lambda: doing[0])
    monkeypatch.setattr(progress, "SILENCE", 0.0)
    with Reporter("mpo", 4, 0, clock, quiet=False) as reporter:
        reporter._tick_once()
        doing[0] = Doing("generation", 3.0, None, 40.0)
        reporter._tick_once()
        reporter._ends.extend([reporter._ends[0], reporter._ends[0] + 1000.0])
        assert reporter._pace(2) == ", 500 s a round, 17 min left"
        monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
        timed = {"loss": -0.0, "step_time": 3.0, "timing_s/generation": 2.0, "tokens_per_second/generation": 45.0}
        reporter.round(2, timed)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "mpo: round 1 of 4, compiling the update ... 6 s"
    assert said[1] == "mpo: compiling the update is done"
    assert said[2] == "mpo: round 1 of 4, generation ... 3 s of about 40"
    assert said[3].startswith("mpo: round 2 of 4, loss 0, 3 s (generation 2), 45 tokens/s of generation, ")
    with Reporter("mpo", 4, 0, clock, quiet=True) as quiet:
        quiet.say("nothing")
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_what_is_going_on(monkeypatch: Any) -> None:
    clock, screen = Phases(), Terminal()
    monkeypatch.setattr(clock, "doing", lambda: Doing("update", 6.0, 6.0, None))
    monkeypatch.setattr("sys.stderr", screen)
    with Reporter("mpo", 4, 0, clock, quiet=False) as reporter:
        reporter.round(0, {"eval/win_rate": 0.5, "eval/win_rate_low": 0.2, "eval/win_rate_high": 0.8})
        reporter._tick_once()
    assert "compiling the update ... 6 s" in screen.getvalue()
    assert "before round 1, one model against itself" in screen.getvalue()  # stays when the bar is gone


# -------------------------------------------------------------------- the picture, the card


def test_the_picture_shows_the_metrics(run: Done) -> None:
    rows = run.rows()
    assert (run.folder / "training.png").stat().st_size > 10_000
    panels = picture.figure(rows).axes
    assert [axes.get_title() for axes in panels] == [title for title, _ in picture.PANELS]
    drawn = {line.get_label(): line.get_xydata() for axes in panels for line in axes.get_lines()}
    for name, label in picture.LABELS.items():
        known = [(row["round"], row[name]) for row in rows if name in row]
        np.testing.assert_array_equal(drawn[label], known)
    lengths = panels[2].get_ylim()
    assert lengths[0] == 0
    assert lengths[1] >= max(row["response_length"] for row in rows[1:])
    for axes in panels:
        assert all(tick == round(tick) for tick in axes.get_xticks())  # there is no round between rounds
    initial, magnet = panels[1].get_lines()
    assert initial.get_linestyle() != magnet.get_linestyle()  # or equal curves would hide each other
    (band,), (handle,) = panels[0].collections, panels[0].get_legend().legend_handles
    np.testing.assert_allclose([handle.get_facecolor()], band.get_facecolor())
    low, high = (row["eval/win_rate_low"] for row in rows[:1]), (row["eval/win_rate_high"] for row in rows[:1])
    corners = band.get_paths()[0].vertices
    for value in (*low, *high):
        assert [0.0, value] in corners.tolist()


def test_a_model_card_says_what_the_run_says(run: Done, model: Path, tmp_path: Path, capsys: Any) -> None:
    card = (run.folder / "policy" / "README.md").read_text("utf-8")
    head, facts = yaml.safe_load(card.split("---\n")[1]), dict(re.findall(r"^\| (.+?) \| (.*) \|$", card, re.MULTILINE))
    assert (head["base_model"], head["library_name"]) == (str(model), "peft")
    row, config = run.rows()[4], yaml.safe_load((run.folder / "config.yaml").read_text())
    rate = [100 * row[f"eval/win_rate{side}"] for side in ("", "_low", "_high")]
    assert facts["win rate"].startswith("{:.1f} % [{:.1f}, {:.1f}] after 4 rounds".format(*rate))
    assert facts["rounds"] == "4 of 4"
    assert facts["trained"] == "a LoRA adapter of rank 2 on query, value, alpha 16"
    assert facts["magnet"] == f"{config['magnet']}; exported is the last iterate"
    for name in ("eta", "alpha"):
        assert f"{name} {config[name]:.4g}" in facts["numbers"]
    assert f"learning rate {config['learning_rate']:.4g}, cosine, 2 rounds of warm-up" in facts["numbers"]
    assert facts["data"] == str(run.folder.parent / "prompts.jsonl")
    assert facts["judge"].endswith("judge.py:shorter")
    assert 'PeftModel.from_pretrained(base, "FOLDER")' in card
    assert mpo("export", run.folder, "--output-dir", tmp_path / "whole", "--merge") == 0
    merged = (tmp_path / "whole" / "README.md").read_text("utf-8")
    assert "library_name: transformers" in merged
    assert "| merged | the adapter is added to its base |" in merged
    assert facts["win rate"] in merged
    assert 'AutoModelForCausalLM.from_pretrained("FOLDER")' in merged
    assert (tmp_path / "whole" / "tokenizer.json").exists()
    assert mpo("export", run.folder, "--output-dir", tmp_path / "last", "--weights", "last") == 0
    assert "| win rate | not measured |" in (tmp_path / "last" / "README.md").read_text("utf-8")


# -------------------------------------------------------------------- schedules, weight decay, targets


def by_round(shape: str, warmup: int, total: int | None, rounds: int = 20) -> list[float]:
    return [float(schedule.factor(shape, jnp.int32(k), warmup, total)) for k in range(rounds)]


def test_schedules_are_those_of_transformers_and_optax() -> None:
    """After the warm-up; in it transformers has k / W, and here it is (k + 1) / W."""
    for shape, known in (
        ("linear", optax.linear_schedule(1.0, 0.0, 16, transition_begin=4)),
        ("cosine", optax.warmup_cosine_decay_schedule(0.0, 1.0, 4, 20)),
        ("constant", optax.constant_schedule(1.0)),
    ):
        found = by_round(shape, 4, 20)
        np.testing.assert_allclose(found[:4], [0.25, 0.5, 0.75, 1.0], rtol=0, atol=1e-6)
        np.testing.assert_allclose(found[4:], [float(known(k)) for k in range(4, 20)], rtol=0, atol=1e-6)
    np.testing.assert_allclose(by_round("linear", 0, 10, 11), np.arange(10, -1, -1) / 10, rtol=0, atol=1e-6)
    assert by_round("cosine", 0, 20)[10] == pytest.approx(0.5, abs=1e-6)
    assert by_round("cosine", 0, None) == [1.0] * 20


def test_the_run_has_its_schedule(run: Done) -> None:
    rate = yaml.safe_load((run.folder / "config.yaml").read_text())["learning_rate"]
    found = [row["learning_rate"] for row in run.rows()[1:]]
    np.testing.assert_allclose(found, rate * np.array([0.5, 1.0, 1.0, 0.5]), rtol=1e-5, atol=0)


def test_weight_decay_is_that_of_adamw_and_spares_norms_and_biases() -> None:
    weights = {"layers.query": jnp.full((2, 3), 2.0), "final_norm": jnp.full(3, 2.0), "layers.query_bias": jnp.ones(3)}
    gradient = jax.tree.map(lambda w: 0.1 * jnp.arange(w.size, dtype=w.dtype).reshape(w.shape), weights)
    with jax.numpy_dtype_promotion("standard"):
        plain = optax.scale_by_adam(eps=1e-8)
        ours = schedule.with_decay(plain, 0.25)
        direction, _ = ours.update(gradient, ours.init(weights), weights)
        known = optax.adamw(-1.0, weight_decay=0.25)  # which goes uphill, so it is the direction
        expected, _ = known.update(gradient, known.init(weights), weights)
        undecayed, _ = plain.update(gradient, plain.init(weights), weights)
    np.testing.assert_allclose(direction["layers.query"], expected["layers.query"], rtol=1e-6)
    for name in ("final_norm", "layers.query_bias"):
        np.testing.assert_array_equal(direction[name], undecayed[name])
    assert schedule.with_decay(plain, 0.0) is plain  # a run without it has the state that it had


def test_the_adapter_is_on_the_named_maps(run: Done, model: Path) -> None:
    stored = load_file(run.folder / "policy" / "adapter_model.safetensors")
    assert {name.split(".")[-3] for name in stored} == {"q_proj", "v_proj"}
    given = bridge.load(model)
    assert adapters.targets_of(given, ["v_proj", "query"]) == ("value", "query")
    assert adapters.targets_of(given) == adapters.targets_of(given, ["all-linear"]) == adapters.DEFAULT_TARGETS
    with pytest.raises(bridge.BridgeError, match="expected lora_target_modules among q_proj, k_proj"):
        adapters.targets_of(given, ["c_attn"])


# -------------------------------------------------------------------- defaults


def test_numbers_that_are_not_given_follow_from_what_is_trained(run: Done) -> None:
    """The length of a step is 1, eta the length of an answer, eta alpha 0.2, and T eta alpha = 1.6."""
    options = Train(model_name_or_path="m", dataset_name=Path("d"), output_dir=Path("o"), max_new_tokens=50)
    small = policy()
    whole = defaults.resolved(options, small)
    n = sum(array.size for array in small.arrays().values())
    assert whole.learning_rate == pytest.approx(min(1e-3, n**-0.5))
    assert (whole.eta, whole.alpha, whole.magnet) == (50.0, 0.2 / 50, "moving=0.125")
    assert whole.eta * whole.alpha / 0.125 == pytest.approx(1.6)
    adapted = defaults.resolved(options, bridge.add_adapter(small, KEY, rank=2, alpha=16.0))
    assert (adapted.magnet, 8 * adapted.eta * adapted.alpha) == ("refresh=8", pytest.approx(1.6))
    given = replace(options, eta=4.0, learning_rate=1e-5, magnet="fixed")
    found = defaults.resolved(given, small)
    assert (found.eta, found.alpha, found.learning_rate, found.magnet) == (4.0, 0.05, 1e-5, "fixed")
    assert defaults.resolved(replace(options, method="sft"), small).eta is None
    old = {"learning_rate": 1e-5, "eta": None, "alpha": None, "magnet": None}  # what a run of version 0.1 began with
    again = defaults.resolved(options, small, old)
    assert (again.learning_rate, again.eta, again.alpha, again.magnet) == (1e-5, None, None, None)
    begun_as: tuple[dict[str, Any], ...] = ({}, old, {"eval_share": 0.1}, {"eval_share": 0.3})
    assert [defaults.share_of(options, begun, 16).eval_share for begun in begun_as] == [0.5, 0, 0.1, 0.3]
    assert defaults.share_of(replace(options, eval_share=0.2), {}, 16).eval_share == 0.2
    config = yaml.safe_load((run.folder / "config.yaml").read_text())
    stored = load_file(run.folder / "policy" / "adapter_model.safetensors")
    assert config["magnet"] == "refresh=8"
    assert f"mpo trains an adapter of {sum(map(np.size, stored.values())):,} weights; learning rate 0.001, cosine" in (
        run.said
    )
    assert "eta 2, alpha 0.1, magnet refresh=8; 2 prompts a round, 4 answers each, of at most 2 tokens" in run.said


def test_a_temperature_is_the_policys(run: Done, tmp_path: Path, monkeypatch: Any) -> None:
    """Of the one that everything in a run is made of: draws, updates, magnet, start, win rates, export."""

    class Seen(BaseException):
        pass

    def seen(options: Any, given: bridge.Policy, begun: Any) -> None:
        raise Seen(given.decoder.temperature)

    monkeypatch.setattr(train_commands, "resolved", seen)
    words = [word.replace(str(run.folder), str(tmp_path / "warm")) for word in run.words]
    with pytest.raises(Seen, match=r"^1\.5$"):
        mpo(*words, "--temperature", "1.5")


# -------------------------------------------------------------------- going on from an adapter


def test_an_adapter_that_is_continued_equals_one_that_was_trained_through(run: Done, tmp_path: Path) -> None:
    """With an optimizer that remembers nothing, no pull to the magnet and one rate, two rounds are two runs of one."""
    settings = SIZES | {"b1": 0.0, "b2": 0.0, "alpha": 0.0, "schedule": "constant", "learning_rate": 1e-2}
    one = bridge.MPO(SumJudge(), magnet=mmd.Refresh(every=40), **settings)
    words = bridge.load(run.words[2])
    through = one.fit(bridge.add_adapter(words, KEY, rank=2, alpha=16.0), PROMPTS, steps=2, key=KEY)
    first = one.fit(bridge.add_adapter(words, KEY, rank=2, alpha=16.0), PROMPTS, steps=1, key=KEY)
    bridge.save_adapter(first.policy, tmp_path / "adapter")
    from llm_bridge.command.options import Model
    from llm_bridge.command.train_commands import policy_of

    again = policy_of(Model(model_name_or_path=str(tmp_path / "adapter")))
    begun = one.init(again, KEY)
    second = one.fit(again, PROMPTS, steps=2, key=KEY, state=replace(begun, round=begun.round + 1))
    found, expected, before = (each.policy.arrays() for each in (second, through, first))
    for name in (name for name in found if ".lora_" in name):
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-6)
        assert np.abs(found[name] - before[name]).max() > 1e-4
    assert {name for name in found if ".lora_" not in name} == set(words.arrays())


def test_a_run_goes_on_from_an_adapter(run: Done, tmp_path: Path, capsys: Any) -> None:
    words = [word.replace(str(run.folder), str(tmp_path / "further")) for word in run.words]
    words[2] = str(run.folder / "policy")
    assert mpo(*words, "--quiet") == 2
    assert "holds an adapter, which is trained further: leave --lora-r and its like out" in capsys.readouterr().err
    at = words.index("--lora-r")
    del words[at : at + 5]
    with jax.numpy_dtype_promotion("standard"):
        assert mpo(*words, "--quiet", "--eval-share", "0", "--max-steps", "3") == 0
    before = load_file(run.folder / "policy" / "adapter_model.safetensors")
    after = load_file(tmp_path / "further" / "policy" / "adapter_model.safetensors")
    assert before.keys() == after.keys()
    assert any(np.abs(after[name] - before[name]).max() > 0 for name in before)
    config = json.loads((tmp_path / "further" / "policy" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(Path(run.words[2]))
    assert not (tmp_path / "further" / "held_out.jsonl").exists()
    assert not (tmp_path / "further" / "samples.jsonl").exists()


# -------------------------------------------------------------------- being told to stop


def test_a_round_is_given_up_at_the_next_safe_place(run: Done, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    """Told while it draws, the run ends before the judge is asked; and goes on as if nothing had been."""
    words = [word.replace(str(run.folder), str(tmp_path / "told")) for word in run.words]
    begin, seen = training_run.Keeper.begin, []

    def told(keeper: Any, phase: str) -> None:
        seen.append(phase)
        if seen.count("generation") == 3 and phase == "judging":
            keeper._termination._number = 15
        begin(keeper, phase)

    monkeypatch.setattr(training_run.Keeper, "begin", told)
    with jax.numpy_dtype_promotion("standard"):
        assert mpo(*words, "--quiet", "--save-steps", "9") == 143
        assert "told to stop by SIGTERM, rounds up to 2 are saved; --resume goes on" in capsys.readouterr().err
        assert seen[-2:] == ["generation", "judging"]
        monkeypatch.undo()
        assert mpo(*words, "--quiet", "--resume") == 0
    found = training_log.rows(tmp_path / "told" / "metrics.jsonl", times=False)
    assert found == training_log.rows(run.folder / "metrics.jsonl", times=False)
    assert (tmp_path / "told" / "samples.jsonl").read_bytes() == (run.folder / "samples.jsonl").read_bytes()


def test_what_takes_longer_than_may_be_waited_for_is_not_waited_for(monkeypatch: Any, capsys: Any) -> None:
    told, left = termination.Termination(), []
    monkeypatch.setattr(termination, "_leave", lambda number, text: left.append(text))
    told.rescue = lambda: 7
    for doing, ended in ((Doing("generation", 3.0, None, 40.0), True), (Doing("update", 3.0, None, 12.0), False)):
        told.doing = lambda doing=doing: doing
        left.clear()
        told._rescue_if_it_is_long(15)
        assert left == ["told to stop by SIGTERM, rounds up to 7 are saved; --resume goes on"] * ended
    told._say_what_is_waited_for(15)
    assert capsys.readouterr().err == (
        "mpo: SIGTERM: update ... 3 s of about 12; the run stops when the update is done, in 25 seconds at the latest; "
        "a second signal ends it at once\n"
    )


# -------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--temperature 0", "expected --temperature > 0, got 0"),
        ("--top-p 0.9", "mpo train draws from the policy that it trains, and --top-p would draw from another one"),
        ("--warmup-steps 4", "expected --warmup-steps < --max-steps = 4, got 4"),
        ("--warmup-steps -1", "expected --warmup-steps >= 0, got -1"),
        ("--eval-share 1", "expected 0 <= --eval-share < 1, got 1"),
        ("--warmup-ratio 0.1", "train has no option --warmup-ratio, which is --warmup-steps here"),
        ("--lr-scheduler-type step", "--lr-scheduler-type"),
    ],
)
def test_bad_numbers_are_refused_in_one_sentence(words: str, said: str, run: Done, capsys: Any) -> None:
    assert mpo(*run.words, *words.split()) == 2
    found = capsys.readouterr().err
    assert found.count("\n") == 1
    assert said in found


# -------------------------------------------------------------------- the page


def test_the_commands_of_the_page_are_commands(monkeypatch: Any) -> None:
    """Each line that begins with mpo, and each option that is named, is one of the command's."""
    from llm_bridge.command import commands
    from llm_bridge.command.options import BY_NAME
    from mmd.host.command_line import options_of

    page = (Path(__file__).parents[2] / "docs" / "how-to" / "train-on-preferences.md").read_text("utf-8")
    seen: list[Any] = []
    monkeypatch.setattr(commands, "run", lambda command, argv: seen.append(command) or 0)
    typed = [line.removeprefix("mpo ").split() for line in page.splitlines() if line.startswith("mpo ")]
    for words in typed:
        assert "--config" in words or mpo(*words) == 0
    assert len(seen) >= 6
    known = {f"--{name.replace('_', '-')}" for kind in BY_NAME.values() for name in options_of(kind)}
    named = set(re.findall(r"(?<!hf download ID )(--[a-z][a-z-]*[a-z])", page))
    assert named - known <= {"--config", "--help", "--repo-type", "--out"}  # the last two of other programs
