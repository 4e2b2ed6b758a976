"""Every number that can be set has one range, under both of its names, and what is outside is refused in a sentence."""

import dataclasses
import math
import re
import types
import typing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import llm_bridge as bridge
import mmd
from llm_bridge.command.cli import main
from llm_bridge.command.method_choice import method_of
from llm_bridge.command.options import BY_NAME, Train
from llm_bridge.judges.scalar_reward import ScalarReward
from llm_bridge.model import ranges
from llm_bridge.model.ranges import IN_PYTHON, RANGES, SettingError, complaints, require
from llm_bridge.train import baselines
from llm_bridge.train.objective import Regression
from tests.llm.games import PROMPTS, SIZES, SumJudge, policy

NEEDED: dict[str, Any] = {"model_name_or_path": "m", "dataset_name": Path("d"), "output_dir": Path("o")}
ALSO_NEEDED = {"output_file": Path("x"), "models": ("a=x", "b=y"), "judge": ("j",), "model": "m", "topology": "v5e:4x4"}
METHODS = ("egpo", "inpo", "iterative_dpo", "nash_md", "online_ipo", "self_play", "sft", "sppo")


def numeric(kind: Any) -> bool:
    """Whether a type has numbers in it that are no booleans."""
    inner = typing.get_args(kind)
    of_union = typing.get_origin(kind) in (typing.Union, types.UnionType, typing.Annotated)
    return kind in (int, float) or (of_union and any(map(numeric, inner)))


def method(name: str) -> type[bridge.Method]:
    module = __import__(f"{baselines.__name__}.{name}", fromlist=["METHOD"])
    return module.METHOD


def test_every_number_that_can_be_set_has_a_range() -> None:
    for command in BY_NAME.values():
        hints = typing.get_type_hints(command, include_extras=True)
        free = {name for name, kind in hints.items() if numeric(kind)} - set(IN_PYTHON) - set(RANGES)
        assert not free, f"{command.__name__}: {free}"
    for kind in (bridge.MPO, *map(method, METHODS)):
        numbers = {f.name for f in dataclasses.fields(kind) if type(f.default) in (int, float)}
        assert numbers <= set(RANGES), kind.__name__
    assert set(IN_PYTHON.values()) <= set(RANGES)


def outside(found: ranges.Range) -> list[float]:
    """Numbers beyond the ends, and what is no number at all."""
    beyond = [found.least - 1] + [found.least] * found.above
    if found.most < math.inf:
        beyond += [found.most + 1] + [found.most] * found.below
    wrong = [int(x) for x in beyond] if found.whole else [*beyond, 1e39, 1e-300]
    return [*wrong, math.nan, math.inf, -math.inf]


@pytest.mark.parametrize("command", [name for name in BY_NAME if name not in ("report", "export", "import", "env")])
def test_an_option_outside_of_its_range_is_refused_by_its_name(command: str) -> None:
    kind = BY_NAME[command]
    given = {
        f.name: (NEEDED | ALSO_NEEDED)[f.name] for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING
    }
    good = kind(**given)
    assert not list(complaints(good))
    for field in dataclasses.fields(kind):
        name = IN_PYTHON.get(field.name, field.name)
        for value in outside(RANGES[name]) if name in RANGES else ():
            bad = object.__new__(kind)  # what a parser might make of it
            for f in dataclasses.fields(kind):
                object.__setattr__(bad, f.name, value if f is field else getattr(good, f.name))
            (said,) = complaints(bad)
            assert f"--{field.name.replace('_', '-')} " in said
            assert said.endswith(f", got {value!r}")


LINES = {
    "--learning-rate nan": "expected --learning-rate > 0, got nan",
    "--learning-rate -1": "expected --learning-rate > 0, got -1.0",
    "--alpha inf": "expected --alpha >= 0 and finite in float32, got inf",
    "--max-grad-norm 0": "expected --max-grad-norm > 0, got 0.0",
    "--adam-beta1 1": "expected 0 <= --adam-beta1 < 1, got 1.0",
    "--adam-beta2 -0.5": "expected 0 <= --adam-beta2 < 1, got -0.5",
    "--lora-r -1": "expected --lora-r >= 0, got -1",
    "--seed 4294967296": "expected --seed <= 4294967295, got 4294967296",
    "--max-steps 0": "expected --max-steps >= 1, got 0",
    "--output-dir=": "expected a value after --output-dir, got an empty text",
    "--judge EMPTY": "expected a value after --judge, got an empty text",
    "--eval-dataset-name EMPTY": "expected a value after --eval-dataset-name, got an empty text",
}


@pytest.mark.parametrize("words", LINES)
def test_a_line_with_such_an_option_ends_with_2_and_leaves_nothing(
    words: str, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    line = f"train --model-name-or-path m --dataset-name d.jsonl --output-dir o --judge j:f {words}"
    assert main(["" if word == "EMPTY" else word for word in line.split()]) == 2
    assert capsys.readouterr().err == f"mpo: {LINES[words]}\n"
    assert not list(tmp_path.iterdir())


SET = {
    "estimator=1": "expected --set estimator= to be one of policy-gradient, policy-gradient-with-credit, regression, "
    "got '1'",
    "first_moment=float16": "expected --set first_moment= to be one of float32, bfloat16, got 'float16'",
    "watch_start=x": "expected --set watch_start= to be one of true, false, got 'x'",
    "exports=both": "expected --set exports= to be one of last, magnet, policy, got 'both'",
    "exports": "expected --set exports= to be one of last, magnet, policy, got ''",
}


@pytest.mark.parametrize("text", SET)
def test_what_is_set_to_a_word_that_there_is_not_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(SET[text])}$"):
        method_of(Train(**NEEDED, set=(text,)))


def test_further_settings_reach_the_method() -> None:
    found = method_of(Train(**NEEDED, set=("estimator=regression", "watch_start=false", "exports=policy")))
    assert (found.estimator, found.watch_start, found.exports) == (Regression(), False, "policy")
    assert method_of(Train(**NEEDED, method="nash_md", set=("share=0.25",))).share == 0.25
    with pytest.raises(ValueError, match=r"inpo has no 'estimator' to --set, expected exports, first_moment, watch"):
        method_of(Train(**NEEDED, method="inpo", set=("estimator=regression",)))


TOGETHER: dict[str, dict[str, Any]] = {
    "expected --opponents < --num-generations = 4, got 4": {"num_generations": 4, "opponents": 4},
    "expected --num-generations >= 2, got 1": {"num_generations": 1},
    "expected --opponents to be even, half of them on each side, got 1": {"num_generations": 4, "opponents": 1},
    "expected an even --num-generations, half of it for each step, got 5": {"num_generations": 5, "method": "egpo"},
    "expected 0 <= --set share <= 1, got 2.0": {"method": "nash_md", "set": ("share=2",)},
    "sft takes no --num-generations, which would change nothing": {"method": "sft", "num_generations": 4},
    "sft takes no --opponents, which would change nothing": {"method": "sft", "opponents": 2},
    "sft takes no --alpha, which would change nothing": {"method": "sft", "alpha": 0.1},
    "expected --alpha > 0, by which preferences are divided, got 0": {"method": "online_ipo", "alpha": 0.0},
}


@pytest.mark.parametrize("words", TOGETHER)
def test_options_that_do_not_fit_each_other_are_called_by_their_names(words: str) -> None:
    options = Train(**NEEDED, **TOGETHER[words])
    with pytest.raises(SettingError) as refusal:
        method_of(options)
    assert refusal.value.called(ranges.flags(options)) == words
    assert "--" not in str(refusal.value)
    assert "{" not in str(refusal.value)


BAD: dict[str, dict[str, Any]] = {
    "expected eta > 0, got nan": {"eta": math.nan},
    "expected alpha >= 0 and finite in float32, got inf": {"alpha": math.inf},
    "expected 0 <= b1 < 1, got 1.0": {"b1": 1.0},
    "expected decay_rounds >= 1 or None, got 0": {"decay_rounds": 0},
    "expected max_grad_norm > 0 or None, got 0.0": {"max_grad_norm": 0.0},
    "expected 0 < rate <= 1, got nan": {"magnet": mmd.MovingAverage(rate=math.nan)},
    "expected power >= 0 or None, got -1": {"magnet": mmd.MovingAverage(power=-1)},
    "expected every >= 1, got 0": {"magnet": mmd.Refresh(every=0)},
}


@pytest.mark.parametrize("words", BAD)
def test_in_python_the_ranges_are_the_same_also_where_a_run_goes_on(words: str, key: Any) -> None:
    good = bridge.MPO(SumJudge(), **SIZES)
    state = good.init(policy(), key)
    for begun in (None, state):
        with pytest.raises(bridge.BridgeError, match=re.escape(words)):
            dataclasses.replace(good, **BAD[words]).fit(policy(), PROMPTS, steps=1, key=key, state=begun)


def test_no_rounds_are_no_training_in_python(key: Any) -> None:
    """What a command refuses, a loop may come to: the policy as it is."""
    found = bridge.MPO(SumJudge(), **SIZES).fit(policy(), PROMPTS, steps=0, key=key)
    assert (found.status, found.history) == (bridge.Status.FINISHED, [])
    for name, array in policy().arrays().items():
        np.testing.assert_array_equal(found.policy.arrays()[name], array)


def test_numbers_of_other_types() -> None:
    for value in (0.4, 1, np.float32(0.4), np.float64(2), bridge.MPO().eta):
        require("eta", value)
    require("opponents", None, optional=True)
    wrong = {"eta": ("0.4", None, True, [1.0]), "group_size": (2.5, 2.0, "4", False)}
    for name, values in wrong.items():
        for value in values:
            with pytest.raises(SettingError, match=f"expected {name} to be an? .*, got {re.escape(repr(value))}"):
                require(name, value)
    with pytest.raises(bridge.BridgeError, match="expected scale > 0, got nan"):
        ScalarReward(lambda prompts, responses: responses, scale=math.nan)


def test_an_adapter_has_at_most_the_rank_of_the_models_width(key: Any) -> None:
    with pytest.raises(SettingError, match="expected rank <= 16, the model's width, got 17"):
        bridge.add_adapter(policy(), key, rank=17, alpha=1.0)
    assert any(".lora_" in name for name in bridge.add_adapter(policy(), key, rank=16, alpha=1.0).weights)


KEPT = {
    "inpo": ("Fixed", 4, 0.9),
    "self_play": ("Fixed", 1, 0.0),
    "sppo": (None, 4, 0.9),
    "mpo": ("MovingAverage", 4, 0.9),
}


@pytest.mark.parametrize("name", KEPT)
def test_a_method_keeps_what_it_is_not_told(name: str) -> None:
    found = method_of(Train(**NEEDED, method=name, eta=0.7))
    magnet, epochs, b1 = KEPT[name]
    assert (found.epochs, found.b1, found.eta, found.alpha) == (epochs, b1, 0.7, 0.1)
    assert magnet is None or type(found.magnet).__name__ == magnet
