"""The report on a judge: counts against known ones, the test of a scalar against its level and its power."""

import json
import os
import re
from functools import partial
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import llm_bridge as bridge
from benchmarks.real_model import judge_calibration
from benchmarks.real_model.judge_calibration import CASES, GIVEN, SHOWN, Drawing, annotator, preferences
from llm_bridge.command import answering
from llm_bridge.command.cli import main
from llm_bridge.judges.callable import PairFunction
from llm_bridge.judges.population import Population
from llm_bridge.judges.scalar_reward import ScalarReward
from llm_bridge.measure.bradley_terry import cyclic_triples, deviance, scalar_test, scores_of, triples
from llm_bridge.measure.judge_report import JudgeReport, judge_report, paradox
from tests.llm.test_data import lines
from tests.llm.test_eval_cli import folders as folders
from tests.llm.test_mpo_cli import model as model
from tests.llm.test_mpo_cli import work as work

FEW = SHOWN[:5], GIVEN[:5]


def tournament(random: np.random.Generator, n: int) -> np.ndarray:
    """Every pair has a winner, by a coin."""
    upper = np.triu(random.integers(2, size=(n, n)), 1)
    return upper + np.tril(1 - upper.T, -1)


# -------------------------------------------------------------------- scores


def test_the_likelihood_ratio_of_a_cycle_is_that_of_three_coins() -> None:
    """7 of 10 for each next one: equal scores are the best, so every pair has 2 (7 ln 1.4 + 3 ln 0.6)."""
    wins = np.array([[[0.0, 7, 3], [3, 0, 7], [7, 3, 0]]])
    np.testing.assert_allclose(scores_of(wins), 0, rtol=0, atol=1e-9)
    np.testing.assert_allclose(deviance(wins), [3 * 2 * (7 * np.log(1.4) + 3 * np.log(0.6))], rtol=1e-9, atol=0)
    np.testing.assert_allclose(deviance(np.swapaxes(wins, 1, 2)), deviance(wins), rtol=1e-9, atol=0)


def test_scores_that_made_the_shares_are_found() -> None:
    scores = np.array([[1.5, -0.5, 0.25, -1.25], [0.0, 0.0, 0.0, 0.0]])
    wins = 1e6 * preferences(scores) * (1 - np.eye(4))
    np.testing.assert_allclose(scores_of(wins), scores, rtol=0, atol=1e-6)
    np.testing.assert_allclose(deviance(wins), 0, rtol=0, atol=1e-3)


def test_answers_that_always_win_do_not_blow_up() -> None:
    """A ranking has no scores of greatest likelihood (Ford 1957), but its likelihood ratio is 0."""
    ranking = np.triu(np.ones((1, 6, 6)), 1)
    assert 0 <= deviance(ranking)[0] < 0.25
    assert 0 <= deviance(9 * ranking)[0] < 0.25
    scores = scores_of(ranking)[0]
    assert np.isfinite(scores).all()
    assert (np.diff(scores) < -1).all()
    found = scalar_test(np.tile(9 * ranking, (5, 1, 1)), replicates=19)
    assert found.p_value > 0.5
    assert found.cyclic_high < 0.01
    nothing = np.zeros((1, 6, 6))
    assert deviance(nothing) == 0
    padded = np.pad(ranking, ((0, 0), (0, 2), (0, 2)))
    np.testing.assert_allclose(deviance(padded), deviance(ranking), rtol=1e-6, atol=1e-9)


def test_cyclic_triples_follow_from_scores_of_a_tournament() -> None:
    """Kendall and Babington Smith (1940): n (n - 1) (2 n - 1) / 12 - sum of squared wins / 2."""
    random = np.random.default_rng(0)
    for n in (3, 5, 8):
        tables = np.array([tournament(random, n) for _ in range(20)])
        known = n * (n - 1) * (2 * n - 1) / 12 - (tables.sum(axis=2) ** 2).sum(axis=1) / 2
        np.testing.assert_allclose(cyclic_triples(tables), known, rtol=0, atol=1e-9)
        by_hand = sum(
            any(tables[0][i, j] and tables[0][j, k] and tables[0][k, i] for i, j, k in ((x, y, z), (z, y, x)))
            for x, y, z in combinations(range(n), 3)
        )
        assert cyclic_triples(tables)[0] == pytest.approx(by_hand, abs=1e-9)
        np.testing.assert_allclose(
            triples(tables + tables.swapaxes(1, 2)), n * (n - 1) * (n - 2) / 6, rtol=0, atol=1e-9
        )


def test_condorcets_paradox_is_as_frequent_as_it_is_known_to_be() -> None:
    assert paradox([1.0] * 3) == pytest.approx(1 / 18, abs=1e-12)
    assert paradox([1.0] * 5) == pytest.approx(5 / 72, abs=1e-12)
    assert paradox([1.0] * 101) == pytest.approx(0.0877, abs=4 * np.sqrt(0.0877 * 0.9123 / 50_000) + 1e-3)
    assert paradox([1.0]) == 0
    assert paradox([5.0, 1.0, 2.0]) == 0  # one has the majority alone


# -------------------------------------------------------------------- reports


def test_a_judge_of_rewards_has_no_cycles() -> None:
    found = judge_report(ScalarReward(lambda p, r: [float(x) for x in r]), *FEW)
    assert (found.deterministic, found.scalar_would_do, found.test) == (True, True, None)
    assert found.triples == 5 * 20
    assert found.cyclic.value == 0
    assert found.condorcet == 1
    assert found.misfit_most < 1e-3
    assert found.flipped is None
    assert found.disagreement is None
    assert found.sentence.startswith("a scalar reward would do: 0.0 % [0.0, ")


def test_rankings_that_rotate_are_a_cycle_that_is_counted_exactly() -> None:
    """Two answers in each of three classes: 8 of 20 triples have one of each. Members agree on one pair of three."""
    group = Population([annotator(i) for i in range(3)], names=["a", "b", "c"])
    found = judge_report(group, *FEW)
    assert (found.deterministic, found.scalar_would_do) == (True, False)
    assert found.cyclic.value == pytest.approx(0.4, abs=1e-12)
    assert found.cyclic.low < 0.4 < found.cyclic.high
    assert found.random_rankings == pytest.approx(1 / 18, abs=1e-12)
    assert found.tied == pytest.approx(3 / 15, abs=1e-12)
    assert found.condorcet == 0
    assert found.misfit_most == pytest.approx(1 / 6, abs=1e-6)  # the best scores say 1/2 of all pairs, the group 2/3
    assert found.disagreement is not None
    assert found.disagreement.value == pytest.approx(12 / 15 * 2 / 3, abs=1e-12)
    np.testing.assert_allclose(found.tables, 8 / 15 * (1 - np.eye(3)), rtol=0, atol=1e-12)
    assert all(member["cyclic"] == 0 for member in found.members.values())
    np.testing.assert_allclose(found.preference, found.by_member.mean(axis=0), rtol=0, atol=1e-12)
    assert "no scalar reward would do: 40.0 % [" in found.lines()[-1]
    weighted = judge_report(Population(group.members, [3, 1, 1]), *FEW)  # one of them decides alone
    assert weighted.scalar_would_do
    assert weighted.cyclic.value == 0


def test_a_judge_that_favours_a_place_is_told_by_order_alone() -> None:
    found = judge_report(PairFunction(lambda prompt, a, b: True), *FEW)
    assert found.flipped is not None
    assert (found.flipped.value, found.first_preferred, found.tied) == (1, 1, 1)
    assert found.cyclic.value == 0
    fair = judge_report(PairFunction(lambda prompt, a, b: a < b), *FEW)
    assert fair.flipped is not None
    assert (fair.flipped.value, fair.first_preferred, fair.tied) == (0, 0.5, 0)


def test_a_judge_of_length_is_told_by_length_alone() -> None:
    answers = [["a", "bb", "cc", "dddd"]] * 2
    for sign, share in ((1, 1.0), (-1, 0.0), (0, 0.5)):
        judge = ScalarReward(lambda p, r, sign=sign: [sign * len(x) for x in r])
        assert judge_report(judge, ["x", "y"], answers).longer.value == share


def test_members_that_want_the_opposite_always_disagree() -> None:
    up, down = (ScalarReward(lambda p, r, s=s: [s * float(x) for x in r]) for s in (1, -1))
    found = judge_report(Population([up, down, up], [2, 1, 1], names=["up", "down", "also"]), *FEW)
    assert found.disagreement is not None
    assert found.disagreement.value == pytest.approx((2 * 1 + 1 * 1) / (2 * 1 + 1 * 1 + 2 * 1), abs=1e-12)
    np.testing.assert_array_equal(found.tables, [[0, 1, 0], [1, 0, 1], [0, 1, 0]])


def test_what_a_judge_did_not_answer_is_counted_and_is_no_preference() -> None:
    """One pair of 15 has no answer, so 4 of 20 triples have none either."""

    def partly(prompt: str, a: str, b: str) -> float | None:
        return None if {a, b} == {"0", "1"} else float(a < b)

    found = judge_report(PairFunction(partly), *FEW)
    assert found.failed_frac == pytest.approx(1 / 15, abs=1e-12)
    assert found.triples == 5 * 16
    assert (found.cyclic.value, found.scalar_would_do) == (0, True)
    with pytest.raises(bridge.BridgeError, match="the judge silent answered none of 75 pairs"):
        judge_report(silent, *FEW)
    with pytest.raises(bridge.BridgeError, match="at least three different answers"):
        judge_report(silent, ["x"], [["a", "b", "a"]])
    with pytest.raises(bridge.BridgeError, match="got 2, 1 and 2"):
        judge_report(silent, ["x", "y"], [["a", "b", "c"]])
    with pytest.raises(bridge.BridgeError, match="repeats >= 1, got 0"):
        judge_report(silent, *FEW, repeats=0)


def silent(prompts: Any, a: Any, b: Any) -> np.ndarray:
    return np.full(len(a), np.nan)


def test_answers_that_are_equal_count_once_and_rows_of_a_prompt_belong_together() -> None:
    asked: list[Any] = []

    def judge(prompts: Any, a: Any, b: Any) -> np.ndarray:
        asked.append(sorted(zip(prompts, a, b, strict=True)))
        return np.full(len(a), 0.5)

    judge.symmetric = True
    found = judge_report(judge, ["x", "y", "x"], [["a", "b", "a"], ["c"], ["b", "d"]])
    assert found.prompts == 1
    assert asked == [[("x", "a", "b"), ("x", "a", "d"), ("x", "b", "d")]] * 2
    assert [row["a"] + row["b"] for row in found.verdicts()] == ["ab", "ad", "bd"]


def test_a_judge_that_is_asked_once_leaves_open_what_is_noise() -> None:
    """A noisy scalar judge may well show a cycle; asked again it contradicts itself, and the test finds no fault."""
    random = np.random.default_rng(1)
    table = preferences(0.3 * random.normal(size=(40, 6)))
    once, twice = (judge_report(noisy(table), SHOWN, GIVEN, repeats=n) for n in (1, 2))
    assert "asked 2 times, not always with the same answer" in twice.lines()[0]
    assert once.cyclic.value > 0.01
    assert (once.deterministic, once.scalar_would_do) == (None, None)
    assert "it is open whether a scalar reward would do" in once.sentence
    assert "ask twice" in once.sentence
    assert (twice.deterministic, twice.scalar_would_do) == (False, True)
    assert twice.test is not None
    assert twice.test.degrees == 40 * 10
    assert twice.test.p_value > 0.05
    assert twice.test.cyclic == pytest.approx(twice.cyclic.value, abs=0.04)  # all of it is noise


def noisy(table: np.ndarray) -> Drawing:
    return Drawing(table, np.random.default_rng(2), both=True, place=0.0, ties=0.0)


@pytest.mark.parametrize("kind", ["scalar, all equal, a third ties", "scalar, spread 1", "cyclic, three classes"])
def test_the_test_keeps_its_level_and_finds_cycles(kind: str, monkeypatch: Any) -> None:
    """A small form of the calibration: at 3 % more than 2 of 6 alarms have a probability of 0.0005."""
    monkeypatch.setattr("llm_bridge.measure.judge_report.scalar_test", partial(scalar_test, replicates=39))
    said = [judge_calibration.says_scalar(CASES[kind], seed) for seed in range(6 if CASES[kind].scalar else 3)]
    assert said.count(False) <= 2 if CASES[kind].scalar else said == [False] * 3


def test_the_calibration_that_is_stored_meets_its_bars() -> None:
    path = Path(judge_calibration.__file__).parents[1] / "results" / "judge_calibration.json"
    found = json.loads(path.read_text("utf-8"))
    assert (found["prompts"], found["answers"]) == (40, 6)
    assert set(found["cases"]) == set(CASES)
    for name, one in found["cases"].items():
        assert one["share"] <= 0.07 if one["scalar"] else one["share"] >= 0.9, name


# -------------------------------------------------------------------- the command


def report_of(found: JudgeReport) -> dict[str, Any]:
    return json.loads(json.dumps(found.as_dict(), allow_nan=False))


def test_a_result_has_the_manners_of_the_others() -> None:
    found = judge_report(Population([annotator(0), annotator(1)], names=["<a>", "b"]), *FEW)
    plain = report_of(found)
    assert plain["cyclic"]["value"] == found.cyclic.value
    assert plain["members"]["b"]["weight"] == 0.5
    assert plain["pairs"] == 75
    assert repr(found) == f"JudgeReport(5 prompts, 75 pairs: {found.sentence})"
    assert "&lt;a&gt;" in found._repr_html_()
    assert "<a>" not in found._repr_html_()
    assert bridge.judge_report is judge_report


def test_the_command_reports_on_given_answers_and_keeps_every_verdict(work: Path, capsys: Any) -> None:
    rows = [{"prompt": p, "response": "x" * n, "right": n} for p, n in product("ab", (1, 2, 3, 4))]
    lines(work / "answers.jsonl", *rows)
    (work / "two.py").write_text(
        "def shorter(prompts, a, b):\n    return [float(len(x) < len(y)) for x, y in zip(a, b)]\n"
        "def longer(prompts, a, b, *, right):\n    return [float(len(x) > len(y)) for x, y in zip(a, b)]\n"
    )
    line = "judge-report --answers answers.jsonl --output-dir out --judge two.py:shorter two.py:longer"
    assert main([*line.split(), "--judge-weights", "3", "1"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"cyclic +0.0 % \[0.0, .*\] of 8 triples; 25.0 % if verdicts were coins", printed)
    assert re.search(r"two.py:longer +weight 0.250, cyclic 0.0 %, longer preferred 100.0 %", printed)
    found = json.loads((work / "out" / "report.json").read_text("utf-8"))
    assert found["judge"] == ["two.py:shorter", "two.py:longer"]
    assert found["judge_weights"] == [3, 1]
    assert (found["scalar_would_do"], found["disagreement"]["value"]) == (True, 1)
    verdicts = [json.loads(row) for row in (work / "out" / "verdicts.jsonl").read_text("utf-8").splitlines()]
    assert len(verdicts) == 12
    assert verdicts[0] == {
        "prompt": "a",
        "a": "x",
        "b": "xx",
        "preference": 0.75,
        "members": {"two.py:shorter": 1.0, "two.py:longer": 0.0},
    }
    assert main(line.split()) == 2
    assert "out: holds report.json; choose another folder" in capsys.readouterr().err


def test_a_model_answers_and_its_answers_outlive_a_judge_that_fails(
    folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(answering, "draw", lambda _, prompts, options, *__: [["a", "b", "ab"]] * len(prompts))
    (folders / "later.py").write_text("def f(prompts, a, b):\n    return [0.5] * 3 if len(prompts) == 3 else None\n")
    line = "judge-report --model good --dataset-name prompts.jsonl --max-new-tokens 4 --output-dir out --judge"
    assert main([*line.split(), "later.py:f"]) == 2
    assert "wrote 15 answers to " in capsys.readouterr().out
    again = f"judge-report --answers out/answers.jsonl --output-dir out --judge {os.environ['JUDGES']}:shorter"
    assert main([*line.split(), f"{os.environ['JUDGES']}:shorter"]) == 2
    assert "out: holds answers.jsonl; choose another folder, or take --answers out/answers" in capsys.readouterr().err
    assert main(again.split()) == 0
    assert json.loads((folders / "out" / "report.json").read_text("utf-8"))["triples"] == 5


REFUSED = {
    "": "expected --answers FILE, or --model MODEL with --dataset-name FILE, got none of them",
    "--answers a.jsonl --model m": "with --dataset-name FILE, got both",
    "--model m": "--model needs --dataset-name, whose prompts the model answers",
    "--answers a.jsonl --dataset-name p.jsonl": "--dataset-name is for --model",
    "--answers prompts.jsonl": "prompts.jsonl:1: expected a text 'response' beside the prompt",
    "--answers two.jsonl": "expected at least three different answers to some prompt",
    "--answers two.jsonl --repeats 0": "expected --repeats >= 1, got 0",
    "--answers two.jsonl --model-name-or-path m": "has no option --model-name-or-path, which is --model here",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_reported_is_refused_in_one_sentence(words: str, work: Path, capsys: Any) -> None:
    lines(work / "two.jsonl", *({"prompt": "a", "response": text} for text in "bb"), {"prompt": "a", "response": "c"})
    assert main(["judge-report", *words.split(), "--judge", f"{os.environ['JUDGES']}:shorter"]) == 2
    said = capsys.readouterr().err
    assert REFUSED[words] in said
    assert said.count("\n") == 1
