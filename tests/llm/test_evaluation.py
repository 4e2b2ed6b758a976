"""Standard errors over clusters, and win rates among answers of the same length, against known values."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

import llm_bridge as bridge
from benchmarks.faults import win_rate_intervals
from llm_bridge.command.answering import keep_comparisons
from llm_bridge.judges.callable import PairFunction
from llm_bridge.measure.evaluation import Tournament, matched, tournament
from llm_bridge.measure.intervals import cases_of, clustered, redrawn, repeats, replicates, wilson
from llm_bridge.measure.lottery import lottery_of, nash, nash_of_each, tables_of
from llm_bridge.text import data
from tests.llm.test_data import lines


def test_a_clustered_error_is_that_of_the_clusters() -> None:
    """Clusters of one case: the mean's error. A case repeated within its cluster tells nothing new."""
    values = [0.2, 0.9, 0.4, 0.4, 0.7]
    mean, error = clustered(values, [1] * 5)
    assert mean == pytest.approx(0.52, abs=1e-12)
    assert error == pytest.approx(np.std(values, ddof=1) / math.sqrt(5), abs=1e-12)
    assert clustered([3 * v for v in values], [3] * 5) == pytest.approx((mean, error), abs=1e-12)
    assert clustered([*values, 0.0], [1] * 5 + [0]) == (mean, error)
    # Two clusters, 1 of 1 and 0 of 3: mean 1/4, residuals 3/4 and -3/4, error sqrt(2 (9/16 + 9/16)) / 4.
    assert clustered([1, 0], [1, 3]) == pytest.approx((0.25, 0.375), abs=1e-12)
    assert math.isnan(clustered([0.5], [1])[1])
    assert all(map(math.isnan, clustered([], [])))


@pytest.mark.parametrize(
    ("lengths", "alike"),
    [((10, 13), True), ((10, 14), False), ((40, 44), True), ((40, 45), False), ((0, 3), True), ((50, 50), True)],
)
def test_lengths_match_within_a_tenth_or_three_units(lengths: tuple[int, int], alike: bool) -> None:
    same = matched(len)
    a, b = ("x" * n for n in lengths)
    assert same(a, b) is alike
    assert same(b, a) is alike


def test_a_judge_of_length_alone_is_undecided_where_lengths_match() -> None:
    """The longer answer wins by its length, so of three pairs the two that match are ties or nearly so."""
    answers = {"short": [["a" * 10], ["b" * 10], ["c" * 10]], "long": [["a" * 40], ["b" * 10], ["c" * 12]]}
    judge = PairFunction(lambda prompt, a, b: 0.5 + (len(a) - len(b)) / 100)
    found = tournament(judge, ["x", "y", "z"], answers, alike=matched(len))
    assert found.wins[1, 0] == pytest.approx((0.8 + 0.5 + 0.52) / 3, abs=1e-12)
    assert found.error[0, 1] == pytest.approx(np.std([0.8, 0.5, 0.52], ddof=1) / math.sqrt(3), abs=1e-12)
    assert found.similar[1, 0] == pytest.approx(0.51, abs=1e-12)
    assert found.similar[0, 1] == pytest.approx(0.49, abs=1e-12)
    assert found.similar_frac[0, 1] == pytest.approx(2 / 3, abs=1e-12)
    assert found.similar_error[1, 0] == pytest.approx(0.01, abs=1e-12)
    assert set(found.as_dict()) >= {"error", "similar_error"}


CYCLE = {("a", "b"): 0.1, ("b", "c"): 0.1, ("a", "c"): 0.8}


def cyclic(prompt: str, a: str, b: str) -> float:
    return CYCLE[a, b] if (a, b) in CYCLE else 1 - CYCLE[b, a] if (b, a) in CYCLE else 0.5


def test_a_cycle_of_models_has_the_lottery_that_is_known() -> None:
    """P[b > a] = P[c > b] = .9, P[a > c] = .8: the Nash lottery is (4, 3, 4) / 11, and no model is the best."""
    found = tournament(PairFunction(cyclic), [str(k) for k in range(50)], {name: [[name]] * 50 for name in "abc"})
    np.testing.assert_allclose(list(found.lottery.values()), np.array([4, 3, 4]) / 11, rtol=0, atol=1e-9)
    assert found.exploitability < 1e-12
    assert found.wins[1, 0] == pytest.approx(0.9)
    assert found.low[1, 0] < 0.9 < found.high[1, 0]
    for low, high in ((found.low, found.high), (found.wilson_low, found.wilson_high)):
        np.testing.assert_allclose(low + high.T, np.where(np.eye(3), np.nan, 1), rtol=0, atol=1e-12)
    exact = {"a": 4 / 11, "b": 3 / 11, "c": 4 / 11}
    assert all(found.lottery_low[name] < p < found.lottery_high[name] for name, p in exact.items())
    assert 0 <= found.exploitability <= found.exploitability_low + 1e-9 < found.exploitability_high < 0.1
    assert "not told apart" not in "\n".join(found.lines())
    assert found.order_flip_frac == 0
    assert nash(np.array([[0.5, 0.6], [0.4, 0.5]]), "xy")[0] == pytest.approx({"x": 1, "y": 0}, abs=1e-9)


def test_position_ties_failures_and_length_in_a_tournament() -> None:
    answers = {"short": [["aa"], ["aaaa"]], "long": [["aaaaaaaa"], ["aaaab"]]}
    first = tournament(lambda p, a, b: np.ones(len(a)), ["x", "y"], answers)
    assert (first.wins == 0.5).all()  # R11: who always takes the first says nothing
    assert first.order_flip_frac == 1
    longer = tournament(PairFunction(lambda p, a, b: 0.5 + 0.5 * np.sign(len(a) - len(b))), ["x", "y"], answers)
    assert longer.wins[1, 0] == 1
    assert longer.similar_frac[1, 0] == 0.5
    assert longer.lengths["short"]["mean"] == 3
    some = tournament(PairFunction(lambda p, a, b: None if p == "x" else float(len(a) > len(b))), ["x", "y"], answers)
    assert (some.wins[1, 0], some.failed_frac) == (1, 0.5)
    with pytest.raises(bridge.BridgeError, match=r"every comparison of .* has failed"):
        tournament(PairFunction(lambda *_: None), ["x", "y"], answers)


# ------------------------------------------------------------------------ all pairs, prompts drawn again


def test_every_answer_meets_every_other_answer_to_its_prompt(tmp_path: Path) -> None:
    """Rates of 4 pairs on one prompt and of 4 on another, by hand; what failed is left out of its prompt's mean.

    What the judge said of each pair is kept as it is.
    """
    value = {("p", "a", "c"): 1.0, ("p", "a", "d"): 0.5, ("p", "b", "c"): 0.25, ("p", "b", "d"): 0.25}
    value |= {("q", "e", "g"): 1.0, ("q", "e", "h"): None, ("q", "f", "g"): 0.0, ("q", "f", "h"): None}
    p_says, q_says = [[1.0, 0.5], [0.25, 0.25]], [[1.0, None], [0.0, None]]
    asked = []

    def judge(prompts: list, a: list, b: list) -> list:
        asked.extend(zip(prompts, a, b, strict=True))
        return [
            value[p, x, y] if (p, x, y) in value else None if value[p, y, x] is None else 1 - value[p, y, x]
            for p, x, y in zip(prompts, a, b, strict=True)
        ]

    answers = {"one": [["c", "d"], ["g", "h"]], "two": [["a", "b"], ["e", "f"]]}
    found = tournament(judge, ["p", "q"], answers)
    assert sorted(asked) == sorted([*value, *((p, y, x) for p, x, y in value)])
    assert found.wins[1, 0] == pytest.approx((0.5 + 0.5) / 2, abs=1e-12)
    assert found.failed_frac == pytest.approx(2 / 8, abs=1e-12)
    keep_comparisons(tmp_path, ["p", "q"], answers, found)
    kept = [json.loads(line) for line in (tmp_path / "comparisons.jsonl").read_text("utf-8").splitlines()]
    assert kept == [
        {"prompt": "p", "models": ["two", "one"], "answers": [["a", "b"], ["c", "d"]], "preference": p_says},
        {"prompt": "q", "models": ["two", "one"], "answers": [["e", "f"], ["g", "h"]], "preference": q_says},
    ]


@pytest.mark.parametrize("spread", [0.0, 1.0])
@pytest.mark.parametrize(("rate", "prompts"), [(0.5, 10), (0.5, 100), (0.95, 10), (0.95, 100)])
def test_intervals_hold_the_exact_rate_as_often_as_they_say(rate: float, prompts: int, spread: float) -> None:
    """Rock, paper, scissors, prompts drawn again in each of 1,000 experiments; prompts alike, and unlike each other."""
    two = win_rate_intervals.pair(rate, spread)
    assert two.rate == pytest.approx(rate, abs=1e-9)
    assert 0.93 <= win_rate_intervals.held("mpo eval", two, prompts) <= 0.98


def test_answers_that_share_their_noise_measure_another_game() -> None:
    """What 0.1.0 did: a rate of 1/2 measures as .41. Its interval misses it, and one of the right width always does."""
    two = win_rate_intervals.pair(0.5, 0.0)
    assert win_rate_intervals.coupled(two, 100, 4, 200).mean() == pytest.approx(0.41, abs=0.01)
    assert win_rate_intervals.independent(two, 100, 4, 200).mean() == pytest.approx(0.5, abs=0.005)
    assert win_rate_intervals.held("0.1.0", two, 100) < 0.75
    assert win_rate_intervals.held("coupled", two, 100) < 0.05


def test_an_interval_is_honest_where_prompts_show_no_variance() -> None:
    """All won, all tied, one prompt: the interval is no point, holds the mean, and narrows with prompts."""
    widths = []
    for n in (1, 10, 100):
        low, high = redrawn(np.ones(n))
        assert high == 1
        # Doubt is the weight of the unseen prompt, Beta(1, n), times its loss, Beta(1/2, 1/2).
        loss = (1 - np.cos(np.pi * (np.arange(2000) + 0.5) / 2000)) / 2
        assert np.mean(np.maximum(0, 1 - (1 - low) / loss) ** n) == pytest.approx(0.025, abs=0.015)
        tied = redrawn(np.full(n, 0.5))
        assert tied[0] < 0.5 < tied[1]
        widths.append((1 - low, tied[1] - tied[0]))
    assert widths == sorted(widths, reverse=True)
    assert widths[1][1] < 0.25
    few, many = redrawn(np.tile([0.4, 0.6], 5)), redrawn(np.tile([0.4, 0.6], 500))
    assert many[1] - many[0] < (few[1] - few[0]) / 5
    # A thousand prompts decide it: mean and standard error are those of the central limit theorem.
    np.testing.assert_allclose(many, 0.5 + np.array([-1, 1]) * 1.96 * 0.1 / np.sqrt(1000), rtol=0, atol=1e-3)
    assert redrawn(np.array([0.25, np.nan, 0.75])) == redrawn(np.array([0.25, np.nan, 0.75]))
    assert all(map(math.isnan, redrawn(np.array([np.nan]))))
    assert wilson(0.5, 10)[0] < few[0]


# ------------------------------------------------------------------------ the lottery and its uncertainty


def measured(*rates: list[float]) -> Tournament:
    """A tournament of models whose pairs (1, 0), (2, 0), (2, 1), ... have these rates on the prompts."""
    names = "abcd"[: round((1 + math.sqrt(1 + 8 * len(rates))) / 2)]
    pairs = [(names[i], names[j]) for i in range(len(names)) for j in range(i)]
    known = {(str(k), *pair): rate for pair, row in zip(pairs, rates, strict=True) for k, rate in enumerate(row)}
    judge = PairFunction(lambda p, a, b: known[p, a, b] if (p, a, b) in known else 1 - known[p, b, a])
    return tournament(judge, [str(k) for k in range(len(rates[0]))], {n: [[n]] * len(rates[0]) for n in names})


def test_a_lottery_is_open_where_no_interval_is_clear_of_a_half() -> None:
    """C7: three of five prompts won. The measured table has a pure equilibrium, and nothing of it may be printed."""
    found = measured([1.0, 1.0, 1.0, 0.0, 0.0])
    assert found.lottery == pytest.approx({"a": 0, "b": 1}, abs=1e-9)
    assert (found.lottery_low["b"], found.lottery_high["b"]) == pytest.approx((0, 1), abs=1e-9)
    assert not found.apart.any()
    said = "\n".join(found.lines())
    assert "these prompts do not tell the models apart: every interval holds 50 %" in said
    assert "Nash probability [0.000, 1.000]" in said
    assert "1.000 [" not in said
    assert not re.search(r"\de-\d", said)
    assert found.exploitability_high > 0.1


def test_a_lottery_is_sure_where_one_model_clearly_wins() -> None:
    """And which models are not told apart is said; they have no part in the lottery."""
    found = measured([0.9, 1.0] * 20, [0.45, 0.55] * 20, [0.1, 0.0] * 20)
    assert found.lottery == pytest.approx({"a": 0, "b": 1, "c": 0}, abs=1e-9)
    assert (found.lottery_low["b"], found.lottery_high["c"]) == pytest.approx((1, 0), abs=1e-9)
    assert found.exploitability_high == pytest.approx(0, abs=1e-9)
    said = "\n".join(found.lines())
    assert "not told apart, because the interval holds 50 %: a and c" in said
    assert "Nash probability 1.000 [1.000, 1.000]" in said
    assert set(found.as_dict()) >= {"wilson_low", "wilson_high", "lottery_low", "lottery_high", "exploitability_high"}


def test_a_lottery_of_redrawn_prompts_is_that_of_each_table() -> None:
    """Three models have one Nash lottery, each model with the other two's margin; where no cycle is, a pure one."""
    won = np.random.default_rng(0).uniform(0.2, 1.0, (3, 12))
    won[1] = 1 - won[1]  # b beats a, a beats c, c beats b
    tables = tables_of(replicates(won, 50), 3)
    margins = np.stack([tables[:, 2, 1], tables[:, 0, 2], tables[:, 1, 0]], axis=1) - 0.5
    cycle = (margins > 0).all(axis=1)
    assert cycle.sum() > 10
    expected = margins[cycle] / margins[cycle].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(nash_of_each(tables)[cycle], expected, rtol=0, atol=1e-6)
    solved = np.stack([list(nash(table, "abc")[0].values()) for table in tables[~cycle][:2]])
    np.testing.assert_allclose(nash_of_each(tables)[~cycle][:2], solved, rtol=0, atol=1e-6)
    found = lottery_of(won, tables_of(won.mean(axis=1)[:, None], 3)[0], "abc")
    assert all(found.lottery_low[n] < found.lottery[n] < found.lottery_high[n] for n in "abc")


# ------------------------------------------------------------------------ rows that repeat a prompt


def test_rows_that_repeat_a_prompt_are_one_case() -> None:
    """120 rows of 3 prompts tell what 3 prompts tell: rates 1, .5 and .3, mean .6; the lottery stays open."""
    rate = {"p": 1.0, "q": 0.5, "r": 0.3}

    def judge(prompt: str, a: str, b: str) -> float:
        return rate[prompt] if a == "new" else 1 - rate[prompt]

    def found(prompts: list[str], cases: list[str] | None = None) -> Tournament:
        answers = {"old": [["old"]] * len(prompts), "new": [["new"]] * len(prompts)}
        return tournament(PairFunction(judge), prompts, answers, cases=cases)

    once, often = found([*rate]), found([*rate] * 40)
    assert once.wins[1, 0] == pytest.approx(0.6, abs=1e-12)
    for name in ("wins", "low", "high", "wilson_low", "wilson_high", "error", "similar", "similar_error"):
        np.testing.assert_allclose(getattr(often, name), getattr(once, name), rtol=0, atol=1e-12, err_msg=name)
    assert once.error[1, 0] == pytest.approx(np.std([1, 0.5, 0.3], ddof=1) / math.sqrt(3), abs=1e-12)
    assert wilson(0.6, 3) == pytest.approx((often.wilson_low[1, 0], often.wilson_high[1, 0]), abs=1e-12)
    assert "so the lottery is open" in "\n".join(often.lines())
    told_apart = found([*rate] * 40, [str(k) for k in range(120)])  # what 0.1.0 took them for
    assert told_apart.apart[1, 0]
    uneven = found(["p", "p", "p", "q", "r"])
    assert uneven.wins[1, 0] == pytest.approx(0.6, abs=1e-12)


def test_a_row_with_other_template_arguments_is_another_case(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "q"}]
    rows = [{"prompt": turns}, {"prompt": turns, "chat_template_kwargs": {"k": 1}}, {"prompt": turns}]
    cases = [row.case for row in data.load(lines(tmp_path / "p.jsonl", *rows)).rows]
    assert cases_of(cases).tolist() == [0, 1, 0]
    assert repeats(cases) == ["1 of 3 rows repeat a prompt: intervals have 2 cases"]
    assert repeats(cases[:2]) == []
