"""`mpo eval` looks at everything that it is given before the first model answers."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import llm_bridge as bridge
from llm_bridge.command import answering, commands
from llm_bridge.command.cli import main
from llm_bridge.command.drawing import unlike_recommended
from llm_bridge.command.options import Sampling
from tests.llm.test_data import lines
from tests.llm.test_mpo_cli import model as model
from tests.llm.test_mpo_cli import work as work

REFUSED = {
    "two=nowhere": "nowhere: no folder; expected a folder with config.json",
    "two=broken": "broken: missing: ",
    "two=bare": "bare: has no tokenizer, expected tokenizer.json",
    "two=begun": "begun: the run is not finished, so it has no policy yet; mpo export begun --output-dir FOLDER writes",
    "two=judged": "judged: holds a judge, which answers no prompts",
    "two=adapted": "nowhere: no folder; expected a folder with config.json",
    "two=short.jsonl": "short.jsonl: 4 of 5 prompts have fewer than 2 answers in it",
    "two=nan --max-new-tokens 4": "nan: weights that are not finite in float32: model.norm.weight",
    "two=large --max-new-tokens 4 --dtype float16": "large: weights that are not finite in float16: model.norm.weight",
    "../two=good": "expected names of letters, digits and . + -, which files can have, got '../two'",
    "two=good --max-new-tokens 256": "--max-new-tokens 256 leaves no room for a prompt in the context of 256 tokens",
    "two=good --judge j": "--judge j: there is no such judge",
    "two=good --max-new-tokens 4 --judge json:dumps --judge-model m": "--judge-model is for a judge over HTTP, "
    "expected --judge http(s)://host/v1, got json:dumps",
    "two=good --max-new-tokens 4 --judge json:loads": "judge loads: takes (s, *, cls=None, ",
    "two=good --max-new-tokens 4 --judge builtins:print": "judge print: expected 3 numbers, P(a preferred) for each "
    "pair, got None for all of them; does it return its answers?; it was tried on 3 pairs before the run, expected",
    "two=good --max-new-tokens 4 --judge http://127.0.0.1:1/v1 --judge-model m": "the judge at http://127.0.0.1:1/v1 "
    "cannot be asked (",
    "one=good": "each as NAME=MODEL with a name of its own",
    "comparisons=good": "expected another name than 'comparisons', whose file has the judge's verdicts",
}


@pytest.fixture
def folders(model: Path, work: Path) -> Path:
    """A model that can answer, and much that cannot."""
    for name in ("good", "broken", "bare", "judged", "nan", "large"):
        shutil.copytree(model, work / name)
    config = json.loads((work / "good" / "config.json").read_text())
    (work / "good" / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 256}))
    (work / "broken" / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))
    for file in (work / "bare").glob("*token*"):
        file.unlink()
    for name, value in {"nan": np.nan, "large": 1e6}.items():
        tensors = load_file(work / name / "model.safetensors")
        tensors["model.norm.weight"][3] = value
        save_file(tensors, work / name / "model.safetensors", {"format": "pt"})
    (work / "judged" / "judge.json").write_text("{}")
    (work / "begun").mkdir()
    (work / "begun" / "config.yaml").write_text("eta: 1\n")
    bridge.save_adapter(bridge.add_adapter(bridge.load(model), jax.random.key(0), rank=2, alpha=1.0), work / "adapted")
    (work / "adapter").mkdir()
    shutil.copytree(work / "adapted", work / "adapter" / "policy")
    (work / "adapter" / "config.yaml").write_text("eta: 1\n")
    settings = work / "adapted" / "adapter_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"base_model_name_or_path": "nowhere"}))
    lines(work / "short.jsonl", {"prompt": "a", "response": "b"}, {"prompt": "a", "response": "c"})
    return work


def test_what_cannot_answer_is_refused_before_another_model_answers(
    folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(answering, "draw", lambda *_: pytest.fail("a model answered"))
    for words, reason in REFUSED.items():
        line = f"eval one=good {words} --dataset-name prompts.jsonl --num-generations 2 --output-dir out"
        judge = "" if "--judge" in words else f"--judge {os.environ['JUDGES']}:shorter"
        assert main(f"{line} {judge}".split()) == 2
        said = capsys.readouterr().err
        assert reason in said
        assert said.count("\n") == 1
        assert not (folders / "out").exists()


def test_whatever_eval_takes_answers_prompts_of_generate_as_well(
    folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """A run's directory stands for its policy, an adapter brings its base."""
    seen: list[bridge.Policy] = []
    monkeypatch.setattr(answering, "draw", lambda policy, prompts, *_: seen.append(policy) or [["b"]] * len(prompts))
    for name, status in {"good": 0, "adapter": 0, "judged": 2, "begun": 2}.items():
        line = f"generate --model-name-or-path {name} --dataset-name prompts.jsonl --output-file {name}.jsonl"
        assert main([*line.split(), "--max-new-tokens", "4"]) == status
        assert (folders / f"{name}.jsonl").exists() == (status == 0)
    assert [any(".lora_" in weight for weight in policy.weights) for policy in seen] == [False, True]
    (folders / "begun" / "config.yaml").write_text("output_dir: o\nnum_train_epochs: 1.0\n")
    assert main(["export", "begun", "--output-dir", "out"]) == 2
    assert "begun: a run of mpo train-judge; its judge is in begun/policy" in capsys.readouterr().err


FAILING_LATER = """
def silent(prompts, a, b):
    return [0.5] * 3 if len(prompts) == 3 else None

def raising(prompts, a, b):
    return [0.5] * 3 if len(prompts) == 3 else prompts["a"]
"""


@pytest.mark.parametrize("judge", ["silent", "raising"])
def test_drawn_answers_outlive_a_judge_that_fails_if_there_is_a_place_for_them(
    judge: str, folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The one answers nothing that could be used, the other raises; both did well in the dry run, of three pairs."""
    (folders / f"later_{os.environ['JUDGES']}.py").write_text(FAILING_LATER)
    line = f"eval one=good two=good --dataset-name prompts.jsonl --judge later_{os.environ['JUDGES']}:{judge}"
    monkeypatch.setattr(answering, "draw", lambda _, prompts, *__: [["b"]] * len(prompts))
    for more in ([], ["--output-dir", "out"]):
        assert main([*line.split(), *more]) == 2
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 2
        kept = "kept, and need not be drawn again: mpo eval takes one=out/one.jsonl two=out/two.jsonl"
        lost = "lost; with --output-dir FOLDER they would have been kept"
        assert said[0] == f"mpo: the answers of one, two are {kept if more else lost}"
        if judge == "raising":
            assert said[1].startswith("mpo: judge raising: raised TypeError: list indices must be integers")
            where = (
                "its traceback is in out/judge_error.txt" if more else "with --output-dir FOLDER its traceback would"
            )
            assert where in said[1]
    assert (folders / "out" / "judge_error.txt").exists() == (judge == "raising")
    monkeypatch.setattr(answering, "draw", lambda *_: pytest.fail("a model answered"))
    again = "eval one=out/one.jsonl two=out/two.jsonl --dataset-name prompts.jsonl --judge"
    assert main([*again.split(), f"{os.environ['JUDGES']}:shorter"]) == 0


def test_what_an_eval_has_written_is_not_replaced(folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Answers of an eval that was not finished can be taken in their own folder, beside new ones; then it is full."""
    monkeypatch.setattr(answering, "draw", lambda *_: [["b"]] * 5)
    line = f"--dataset-name prompts.jsonl --judge {os.environ['JUDGES']}:shorter --output-dir out".split()
    (folders / "out").mkdir()
    rows = [json.loads(row) | {"response": "c"} for row in (folders / "prompts.jsonl").read_text().splitlines()]
    before = lines(folders / "out" / "one.jsonl", *rows).read_bytes()
    assert main(["eval", "one=good", "two=good", *line]) == 2
    assert capsys.readouterr().err == (
        "mpo: out/one.jsonl: holds answers already; take them as one=out/one.jsonl, or choose another folder\n"
    )
    assert main(["eval", "one=out/one.jsonl", "two=good", *line]) == 0
    capsys.readouterr()
    files = {path: path.read_bytes() for path in (folders / "out").iterdir()}
    assert {path.name for path in files} == {"one.jsonl", "two.jsonl", "comparisons.jsonl", "eval.json"}
    monkeypatch.setattr(commands, "judge_of", lambda _: pytest.fail("the judge was loaded"))
    for models in (["one=good", "two=good"], ["one=out/one.jsonl", "two=out/two.jsonl"], ["three=good", "four=good"]):
        assert main(["eval", *models, *line]) == 2
        said = capsys.readouterr().err
        assert said == (
            "mpo: out: holds an eval (eval.json); choose another folder, and take its answers as NAME=out/NAME.jsonl\n"
        )
    assert {path: path.read_bytes() for path in (folders / "out").iterdir()} == files
    assert files[folders / "out" / "one.jsonl"] == before


# ------------------------------------------------------------------------ how answers are drawn


@pytest.fixture(scope="module")
def policy(model: Path) -> bridge.Policy:
    return bridge.load(model)


SETTINGS = Sampling(max_new_tokens=1, num_generations=40, batch_size=400)


def first_tokens(policy: bridge.Policy, options: Sampling = SETTINGS, name: str = "") -> list[str]:
    """Four hundred answers of one token to the same prompt."""
    return [text for given in answering.draw(policy, [[1, 5]] * 10, options, name) for text in given]


def test_two_models_never_share_their_noise(policy: bridge.Policy) -> None:
    """Models that differ in a millionth of a weight, a model under two names, and with two seeds agree by chance alone.

    By chance two answers are equal with the probability sum p^2; with shared noise all of them are.
    """
    arrays = policy.arrays()
    name, array = next(iter(arrays.items()))
    moved = bridge.Policy(policy.decoder, arrays | {name: array.at[(0,) * array.ndim].add(1e-6)}, policy.origin)
    texts = first_tokens(policy)
    assert first_tokens(policy) == texts
    others = {
        "other weights": first_tokens(moved),
        "other name": first_tokens(policy, name="two"),
        "other seed": first_tokens(policy, replace(SETTINGS, seed=1)),
    }
    frequencies = np.unique(texts, return_counts=True)[1] / len(texts)
    chance = float((frequencies**2).sum())
    assert chance < 0.7
    for kind, other in others.items():
        assert np.mean([a == b for a, b in zip(texts, other, strict=True)]) == pytest.approx(chance, abs=0.1), kind


def test_a_models_answers_do_not_depend_on_the_models_beside_it(folders: Path, capsys: Any) -> None:
    """And the same model under two names gives two independent sets of answers."""
    drawing = "--dataset-name prompts.jsonl --max-new-tokens 2 --num-generations 3"
    judge = f"{drawing} --judge {os.environ['JUDGES']}:shorter"
    for models, out in (("one=good two=good", "out"), ("two=good three=adapter", "beside")):
        assert main(f"eval {models} {judge} --output-dir {out}".split()) == 0
    files = {name: (folders / name).read_bytes() for name in ("out/one.jsonl", "out/two.jsonl", "beside/two.jsonl")}
    assert files["out/two.jsonl"] == files["beside/two.jsonl"]
    assert files["out/one.jsonl"] != files["out/two.jsonl"]
    assert main(f"generate --model-name-or-path good {drawing} --output-file drawn.jsonl".split()) == 0
    assert (folders / "drawn.jsonl").read_bytes() not in files.values()


def test_what_a_checkpoint_recommends_and_what_is_used_is_said(folders: Path, capsys: Any, monkeypatch: Any) -> None:
    """B11: once for each model whose recommendation is not followed, before it answers; nothing if it is."""
    monkeypatch.setattr(answering, "draw", lambda _, prompts, *__: [["b"]] * len(prompts))
    wanted = {"temperature": 0.6, "top_p": 0.9, "top_k": 0, "eos_token_id": 2}
    (folders / "good" / "generation_config.json").write_text(json.dumps(wanted))
    remark = "generation_config.json recommends temperature 0.6, top_p 0.9; answers are drawn with temperature "
    common = "--dataset-name prompts.jsonl --max-new-tokens 4"
    line = f"generate --model-name-or-path good {common} --output-file a.jsonl"
    for more, said in {
        "": f"good: {remark}1: the policy itself, which is what training samples\n",
        "--temperature 0.6": f"good: {remark}0.6, as the options say\n",
        "--temperature 0.6 --top-p 0.9": "",
    }.items():
        assert main([*line.split(), *more.split()]) == 0
        printed = capsys.readouterr().out
        assert printed.startswith(f"{said}prompts.jsonl:1: 2 prompt tokens")
        assert printed.endswith("wrote 5 answers to a.jsonl\n")
    models = "one=good two=good three=a.jsonl"
    assert main(f"eval {models} {common} --judge {os.environ['JUDGES']}:shorter".split()) == 0
    assert capsys.readouterr().out.count("generation_config.json recommends") == 2


@pytest.mark.parametrize(
    ("recommended", "used", "said"),
    [
        ({"do_sample": False}, Sampling(), "recommends do_sample false; answers are drawn with temperature 1:"),
        ({"do_sample": False}, Sampling(temperature=0.0), None),
        ({"top_k": 40, "temperature": 1.0}, Sampling(top_k=40), None),
        ({"top_k": 40}, Sampling(top_k=20), "recommends top_k 40; answers are drawn with temperature 1, top_k 20, as"),
        ({"repetition_penalty": 1.1}, Sampling(), "recommends repetition_penalty 1.1; answers"),
        ({"temperature": 1, "top_p": 1.0, "do_sample": True, "eos_token_id": 3}, Sampling(), None),
    ],
)
def test_recommendations_that_are_met_or_not(
    recommended: dict, used: Sampling, said: str | None, tmp_path: Path
) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps(recommended))
    found = unlike_recommended(tmp_path, used)
    assert found is said is None or said in str(found)
    assert unlike_recommended(tmp_path / "nowhere", used) is None
    assert unlike_recommended(None, used) is None
