"""A population of judges: who is asked, what a failure means, and what a Python judge is told besides three lists."""

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import llm_bridge as bridge
from llm_bridge.command.judge_choice import judge_of
from llm_bridge.command.options import ReportOnJudge
from llm_bridge.judges import NoAnswers, answers_of, ask, columns_for, dry_run, keyed
from llm_bridge.judges.callable import PairFunction
from llm_bridge.judges.population import Population
from llm_bridge.judges.scalar_reward import ScalarReward
from llm_bridge.run.processes import SharedJudge
from llm_bridge.run.termination import Termination
from llm_bridge.text import data
from tests.llm.test_data import lines

N = 4_000
PAIRS = ["x"] * N, [f"a{i}" for i in range(N)], [f"b{i}" for i in range(N)]
RANKINGS = {"one": "abc", "two": "bca", "three": "cab"}  # Condorcet's: each of a, b, c is before the next one twice


def constant(value: float, name: str = "") -> Any:
    def judge(prompts: Any, a: Any, b: Any) -> np.ndarray:
        return np.full(len(a), value)

    judge.__qualname__ = name or f"constant {value}"
    return judge


def ranking(order: str) -> ScalarReward:
    return ScalarReward(lambda prompts, responses: [-order.index(response) for response in responses], scale=1e-3)


def test_members_are_asked_as_often_as_their_weights_say() -> None:
    """The answers have the mean of the members' own, sum_m w_m P_m; 4,000 draws are within 4 standard errors of it."""
    weights = [5, 3, 2]
    found = Population([constant(1.0), constant(0.25), constant(0.5)], weights)
    np.testing.assert_allclose(np.asarray(found.weights), [0.5, 0.3, 0.2], rtol=0, atol=1e-15)
    shares = np.bincount(found.drawn(*PAIRS), minlength=3) / N
    np.testing.assert_allclose(shares, np.asarray(found.weights), rtol=0, atol=4 * 0.5 / np.sqrt(N))
    mean = Population(found.members, weights, aggregation="mean")(*PAIRS)
    np.testing.assert_allclose(mean, 0.5 * 1 + 0.3 * 0.25 + 0.2 * 0.5, rtol=0, atol=1e-12)
    assert abs(found(*PAIRS).mean() - mean[0]) < 4 * 0.4 / np.sqrt(N)


def test_who_is_asked_depends_on_round_seed_and_comparison_and_on_nothing_else() -> None:
    x, a, b = PAIRS
    group = Population([constant(0.0), constant(1.0)])
    who = group.drawn(*PAIRS)
    np.testing.assert_array_equal(group.drawn(x, b, a), who)  # one member answers both orders
    np.testing.assert_array_equal(group.drawn(x[7:9], a[7:9], b[7:9]), who[7:9])
    np.testing.assert_array_equal(Population([constant(0.0), constant(1.0)]).drawn(*PAIRS), who)
    later = group.keyed((3, 9))
    np.testing.assert_array_equal(later.drawn(*PAIRS), Population(group.members, key=(3, 9)).drawn(*PAIRS))
    others = (later, group.keyed((9, 3)), Population(group.members, seed=1))
    for other in (later.drawn(*PAIRS), *(one.drawn(*PAIRS) for one in others[1:]), group.drawn(["y"] * N, a, b)):
        assert abs(np.mean(other == who) - 0.5) < 4 * 0.5 / np.sqrt(N)  # independent of the first draw


def test_draws_are_the_same_on_every_machine() -> None:
    """A run that resumes elsewhere asks the same members, so the numbers are part of a run's format."""
    group = Population([constant(0.0)] * 4, names=list("abcd"), seed=5).keyed((1, 2))
    assert group.drawn(["p"] * 8, list("abcdefgh"), list("ijklmnop")).tolist() == [1, 2, 3, 2, 3, 2, 2, 1]


def test_a_member_that_favours_a_place_is_asked_in_both_orders_and_alone() -> None:
    """It always prefers what it reads first, which is 1/2 over both orders; the other one is never averaged with it."""
    group = Population([constant(1.0), ranking("ab")])
    assert not group.symmetric
    verdicts = ask(group, ["x"] * 40, ["a"] * 40, ["b"] * 40)
    who = group.drawn(["x"] * 40, ["a"] * 40, ["b"] * 40)
    np.testing.assert_allclose(verdicts.preference, np.where(who == 0, 0.5, 1.0), rtol=0, atol=1e-12)
    prompts = [f"{i}" for i in range(40)]
    verdicts, who = ask(group, prompts, ["a"] * 40, ["b"] * 40), group.drawn(prompts, ["a"] * 40, ["b"] * 40)
    assert 5 < who.sum() < 35
    np.testing.assert_allclose(verdicts.preference, np.where(who == 0, 0.5, 1.0), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(verdicts.flipped, who == 0)


def test_a_symmetric_member_is_asked_once_for_both_orders() -> None:
    seen: list[int] = []
    member = ranking("ab")
    counting = ScalarReward(lambda p, r: seen.append(len(r) // 2) or member.reward(p, r), scale=1e-3)
    group = Population([counting, constant(1.0)], aggregation="mean")
    found = ask(group, ["x", "y"], ["a", "b"], ["b", "a"]).preference
    np.testing.assert_allclose(found, [0.75, 0.25], rtol=0, atol=1e-12)
    assert seen == [2]
    assert Population([counting, ranking("ba")]).symmetric


@pytest.mark.parametrize("aggregation", ["mean", "draw"])
def test_rankings_that_rotate_are_a_cycle_that_no_member_has(aggregation: str) -> None:
    """Two of three rank a before b, b before c and c before a (Condorcet 1785)."""
    group = Population([ranking(order) for order in RANKINGS.values()], names=list(RANKINGS), aggregation=aggregation)
    prompts = [f"{i}" for i in range(N)]
    for better, worse in ("ab", "bc", "ca"):
        found = group(prompts, [better] * N, [worse] * N)
        np.testing.assert_allclose(found.mean(), 2 / 3, rtol=0, atol=4 * 0.5 / np.sqrt(N))


def test_nobody_answers_in_the_place_of_a_member_that_fails() -> None:
    members = [constant(np.nan, "broken"), constant(1.0)]
    x, a, b = (part[:30] for part in PAIRS)
    group = Population(members, [1, 3])
    failed = group.drawn(x, a, b) == 0
    assert 0 < failed.sum() < 20
    np.testing.assert_array_equal(np.isnan(group(x, a, b)), failed)
    assert np.isnan(Population(members, [1, 3], aggregation="mean")(x[:9], a[:9], b[:9])).all()
    said = r"the judge broken of the population answered none of \d\d pairs"
    for aggregation, n in {"draw": 200, "mean": 20}.items():  # of 200 it is asked about 50 or so
        with pytest.raises(NoAnswers, match=said):
            ask(Population(members, [1, 3], aggregation=aggregation), *(part[:n] for part in PAIRS))


def test_what_is_no_population_is_refused() -> None:
    fine = constant(0.5)
    for given, said in {
        "1": ({"members": []}, "got 0 members, 0 weights"),
        "2": ({"members": [fine], "weights": [1, 2]}, "got 1 members, 2 weights and 1 names"),
        "3": ({"members": [fine, fine], "weights": [1, 0]}, "numbers > 0, got 0"),
        "4": ({"members": [fine, fine], "weights": [1, np.nan]}, "numbers > 0, got nan"),
        "5": ({"members": [fine], "aggregation": "vote"}, "expected aggregation to be draw or mean, got 'vote'"),
        "6": ({"members": [len]}, "judge len: takes"),
    }.values():
        with pytest.raises(bridge.BridgeError, match=said):
            Population(**given)
    assert Population([fine, fine, fine]).names == ("constant 0.5", "constant 0.5 #2", "constant 0.5 #3")
    with pytest.raises(bridge.BridgeError, match="judge constant 2: expected probabilities"):
        dry_run(Population([fine, constant(2)]), ["x"])


def test_the_key_of_a_round_reaches_a_population_behind_every_wrapper() -> None:
    group = Population([constant(0.0), constant(1.0)])
    shared = SharedJudge(Termination().interrupting(group))
    np.testing.assert_array_equal(keyed(shared, [4, 2])(*PAIRS), group.keyed((4, 2))(*PAIRS))
    np.testing.assert_array_equal(shared(*PAIRS), group(*PAIRS))
    assert keyed(SharedJudge(Termination().interrupting(constant(0.5))), [1])(["x"], ["a"], ["b"]) == [0.5]


def test_criteria_and_endpoints_are_members() -> None:
    """Every judge that is asked answers by every criterion; models and keys of endpoints are in their order."""
    where: dict[str, Any] = {
        "judge": ("http://h/v1", "operator:add", "http://i/v1"),
        "judge_criterion": ("kind?", "brief?"),
    }
    with pytest.raises(bridge.BridgeError, match="judge add: takes"):
        judge_of(ReportOnJudge(**where, judge_model=("m",)))
    where["judge"] = ("http://h/v1", "http://i/v1")
    found = judge_of(
        ReportOnJudge(
            **where, judge_model=("m", "n"), judge_key_variable=("K", "L"), judge_weights=(1.0, 2.0, 3.0, 4.0)
        )
    )
    parts = [(one.endpoint, one.model, one.key_variable, one.criterion) for one in found.members]
    assert parts == [
        ("http://h/v1", "m", "K", "kind?"),
        ("http://h/v1", "m", "K", "brief?"),
        ("http://i/v1", "n", "L", "kind?"),
        ("http://i/v1", "n", "L", "brief?"),
    ]
    assert found.names[1] == "m at http://h/v1: brief?"
    np.testing.assert_allclose(np.asarray(found.weights), [0.1, 0.2, 0.3, 0.4], rtol=0, atol=1e-15)
    where["judge"] = ("http://h/v1",)
    one = judge_of(ReportOnJudge(**where, judge_model=("m",), judge_aggregation="mean"))
    assert (one.names, one.aggregation) == (("kind?", "brief?"), "mean")
    assert [member.key_variable for member in one.members] == ["OPENAI_API_KEY"] * 2


# -------------------------------------------------------------------- what a Python judge is told besides


@pytest.fixture
def rows(tmp_path: Path) -> list[Any]:
    """Prompts of a file: conversations with a column, which the last one lacks."""
    chat = [{"role": "user", "content": "hi"}]
    path = lines(
        tmp_path / "p.jsonl",
        {"prompt": chat, "right": "a", "tools": []},
        {"prompt": [{"role": "system", "content": "short"}, *chat], "right": "b"},
        {"prompt": chat},
    )
    return [row.text for row in data.load(path).rows]


def test_columns_and_messages_reach_a_judge_that_asks_for_them(rows: list[Any]) -> None:
    seen: list[Any] = []

    def by_reference(
        prompts: Any, a: Any, b: Any, *, right: Any, messages: Any, level: int = 3, other: Any = None
    ) -> Any:
        seen.append((prompts, messages, level, other))
        return [0.5 if r is None else float(x == r) for x, r in zip(a, right, strict=True)]

    judge = SharedJudge(Termination().interrupting(Population([cast(Any, by_reference)])))
    dry_run(judge, rows)
    assert judge(rows, "aaa", "bbb").tolist() == [1.0, 0.0, 0.5]
    prompts, messages, level, other = seen[-1]
    assert prompts == ["hi", "system: short\n\nuser: hi", "hi"]
    assert [len(one) for one in messages] == [1, 2, 1]
    assert messages[1][0]["content"] == "short"
    assert (level, other) == (3, None)
    with pytest.raises(bridge.BridgeError, match="asks for the column 'right', and the data has no columns besides"):
        dry_run(by_reference, ["hi"])
    assert answers_of(lambda prompts, a, b: np.full(len(a), 0.5), rows, "aaa", "bbb").tolist() == [0.5] * 3


def test_whoever_takes_everything_gets_every_column(rows: list[Any]) -> None:
    def everything(prompts: Any, a: Any, b: Any, **columns: Any) -> None: ...

    assert columns_for(everything, rows) == {"right": ["a", "b", None], "messages": [row.messages for row in rows]}
    assert columns_for(everything, ["plain"]) == {}
    named_a = data.ShownPrompt("x", columns={"a": 1, "z": 2})
    assert columns_for(everything, [named_a]) == {"z": [2]}  # a is the list of answers
    assert columns_for(min, rows) == {}


def test_pairs_and_rewards_are_told_as_well(rows: list[Any]) -> None:
    pair = PairFunction(lambda prompt, a, b, *, right: None if right is None else a == right)
    np.testing.assert_array_equal(pair(rows, "aaa", "bbb"), [1.0, 0.0, np.nan])
    reward = ScalarReward(
        lambda prompts, completions, **kwargs: [x == r for x, r in zip(completions, kwargs["right"], strict=True)]
    )
    np.testing.assert_allclose(reward(rows, "aaa", "bbb"), 1 / (1 + np.exp([-1.0, 1.0, 0.0])), rtol=1e-12, atol=0)


def test_a_shown_prompt_is_a_text(rows: list[Any]) -> None:
    assert json.loads(json.dumps(rows[:1])) == ["hi"]
    assert {rows[0]: 1}["hi"] == 1
    assert rows[0] == rows[2]
