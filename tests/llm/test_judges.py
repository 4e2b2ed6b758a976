"""Judges: what each can express, the symmetry that it promises, and that it comes back from disk the same."""

import json
from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import llm_bridge as bridge
from llm_bridge.judges import answers_of, dry_run, preference_model
from llm_bridge.judges.callable import PairFunction
from llm_bridge.judges.generative import GenerativeJudge
from llm_bridge.judges.preference_model import (
    JudgeState,
    Layout,
    PreferenceModel,
    PreferenceTraining,
    text_layout,
    train_judge,
)
from llm_bridge.judges.scalar_reward import ScalarReward
from llm_bridge.measure.agreement import agreement
from llm_bridge.measure.intervals import wilson
from llm_bridge.run.processes import SharedJudge
from llm_bridge.run.termination import Termination
from llm_bridge.text.data import Row
from tests.llm.cases import config_of
from tests.llm.games import PROMPTS, SIZES, SumJudge
from tests.llm.test_tokenizer import tokenizer

TINY = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
CONFIG = config_of("llama") | TINY | {"vocab_size": 12, "num_key_value_heads": 1, "initializer_range": 0.2}
LAYOUT = Layout(((9,), (10,), (11,)), 16)
CYCLE = np.array([[0.5, 0.1, 0.8], [0.9, 0.5, 0.1], [0.2, 0.9, 0.5]])  # P[b>a] = P[c>b] = .9, P[a>c] = .8


def log_odds(p: Any) -> np.ndarray:
    return np.log(p) - np.log1p(-np.asarray(p))


@pytest.fixture(scope="module", autouse=True)
def optax_promotes() -> Iterator[None]:
    """It raises floats to integer powers."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@cache
def policy(**changes: Any) -> bridge.Policy:
    return bridge.init(CONFIG | changes, jax.random.key(1))


# -------------------------------------------------------------------- a scalar reward


def test_a_scalar_reward_is_bradley_terry() -> None:
    """Log-odds add up along any chain, so no cycle can be expressed."""
    rewards = {"a": 1.0, "b": -0.5, "c": 0.25}
    judge = ScalarReward(lambda prompts, responses: [rewards[r] for r in responses], scale=0.5)
    p = {pair: judge(["x"], [pair[0]], [pair[1]])[0] for pair in product("abc", repeat=2)}
    for a, b, c in product("abc", repeat=3):
        np.testing.assert_allclose(log_odds(p[a, c]), log_odds(p[a, b]) + log_odds(p[b, c]), rtol=0, atol=1e-12)
    np.testing.assert_allclose(p["a", "b"], 1 / (1 + np.exp(-3)), rtol=1e-12, atol=0)
    np.testing.assert_array_equal(judge.reward([], "ab"), [1.0, -0.5])


def test_a_reward_that_failed_is_no_preference() -> None:
    judge = ScalarReward(lambda prompts, responses: [np.nan, 1.0, 2.0, np.inf, 1.0, 1.0])
    np.testing.assert_allclose(judge(["x"] * 3, "aaa", "bbb"), [np.nan, 0.5, 1 / (1 + np.exp(-1))], rtol=1e-15, atol=0)
    with pytest.raises(bridge.BridgeError, match="expected 2 rewards"):
        ScalarReward(lambda *_: [1.0])(["x"], "a", "b")
    with pytest.raises(bridge.BridgeError, match="got a list with a str in it"):
        ScalarReward(lambda *_: ["1.0", "2.0"])(["x"], "a", "b")
    with pytest.raises(bridge.BridgeError, match="scale > 0"):
        ScalarReward(lambda *_: [1.0], scale=0.0)


# -------------------------------------------------------------------- a preference model


def training_of(start: bridge.Policy) -> PreferenceTraining:
    return PreferenceTraining(start, LAYOUT, None, steps=150, learning_rate=1e-2, weight_decay=0.0)


@pytest.fixture(scope="module")
def trained() -> PreferenceModel:
    """Of all pairs of one-token answers 3..8, of classes (mod 3) that beat each other in a cycle."""
    pairs = [pair for pair in product(range(3, 9), repeat=2) if pair[0] % 3 < pair[1] % 3]
    rows = [((1,), (i,), (j,), float(CYCLE[i % 3, j % 3])) for i, j in pairs]
    return train_judge(training_of(policy()), rows, rows_per_step=12)


def test_a_trained_judge_expresses_a_cycle(trained: PreferenceModel) -> None:
    """Which Bradley and Terry's model cannot: its best fit of this cycle is off by more than 0.35 somewhere."""
    for i, j in product(range(3, 9), repeat=2):
        if i % 3 != j % 3:
            found = trained([(1,)], [(i,)], [(j,)])[0]
            np.testing.assert_allclose(found, CYCLE[i % 3, j % 3], rtol=0, atol=0.06)


def test_both_orders_make_it_antisymmetric(trained: PreferenceModel) -> None:
    rng = np.random.default_rng(0)
    a, b = ([tuple(rng.integers(3, 9, rng.integers(1, 5))) for _ in range(40)] for _ in range(2))
    forth, back = trained([(1,)] * 40, a, b), trained([(1,)] * 40, b, a)
    np.testing.assert_allclose(forth + back, 1.0, rtol=0, atol=1e-6)  # its scores are float32, batch by batch
    np.testing.assert_allclose(trained([(1,)] * 40, a, a), 0.5, rtol=0, atol=1e-6)
    assert np.abs(forth - 0.5).max() > 0.1


def test_neighbours_and_padding_change_nothing(trained: PreferenceModel) -> None:
    a, b = [(3,), (4, 5, 6), (7,)], [(5,), (3,), (8, 8, 8, 8)]
    alone = [trained([(1,)], [x], [y])[0] for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(trained([(1,)] * 3, a, b), alone, rtol=0, atol=1e-6)


def test_a_judge_comes_back_from_disk(trained: PreferenceModel, tmp_path: Path) -> None:
    trained.save(tmp_path / "judge")
    found = preference_model.load(tmp_path / "judge")
    comparisons = [(1,)] * 3, [(3,), (4,), (5,)], [(4,), (5,), (3,)]
    assert found(*comparisons).tobytes() == trained(*comparisons).tobytes()
    with pytest.raises(bridge.BridgeError, match="not empty"):
        trained.save(tmp_path / "judge")
    head = tmp_path / "judge" / preference_model.HEAD
    head.write_bytes(head.read_bytes()[:-3])
    with pytest.raises(bridge.BridgeError, match="expected a judge"):
        preference_model.load(tmp_path / "judge")
    config = tmp_path / "judge" / preference_model.CONFIG
    config.write_text(json.dumps(json.loads(config.read_text()) | {"version": 99}))
    with pytest.raises(bridge.BridgeError, match="expected version 1, got 99"):
        preference_model.load(tmp_path / "judge")


def test_an_adapter_and_the_head_are_trained_and_nothing_else() -> None:
    base = policy()
    adapted = bridge.add_adapter(base, jax.random.key(2), rank=2, alpha=4.0)
    training = training_of(adapted)
    state = training.init(jax.random.key(0))
    assert {name.rpartition(".")[2] for name in state.weights} == {"lora_a", "lora_b", "head"}
    rows = [((1,), (3,), (4,), 1.0)] * 2
    for _ in range(3):
        state, _ = training.round(state, rows)
    judge = training.export(state)
    for name, array in base.arrays().items():
        assert judge.policy.arrays()[name] is array
    assert np.abs(np.asarray(judge.policy.arrays()["layers.query.lora_b"])).max() > 0


def test_a_gradient_that_is_not_finite_changes_nothing_and_is_counted() -> None:
    training = training_of(policy())
    state = training.init(jax.random.key(0))
    broken = state.weights | {"head": state.weights["head"] * np.float32(np.nan)}
    state = JudgeState(broken, state.optimizer, state.round, state.skipped)
    before = jax.tree.map(np.asarray, state)
    rows = [((1,), (3,), (4,), 1.0)] * 12
    for skipped in (1, 2):
        state, metrics = training.round(state, rows)
        assert metrics["skipped"] == skipped
    for old, new in zip(jax.tree.leaves(before[:2]), jax.tree.leaves(state[:2]), strict=True):
        assert old.tobytes() == np.asarray(new).tobytes()
    assert int(state.round) == 2


def test_what_does_not_fit_is_cut_where_it_hurts_least() -> None:
    layout = Layout(((9,), (10,), (11,)), 20, (1,))
    assert layout.row([2, 3], [4], [5]) == [1, 2, 3, 9, 4, 10, 5, 11]
    for p, a, b in product((1, 8, 40), (1, 8, 40), (1, 8, 40)):
        row = layout.row([2] * p, [4] * a, [5] * b)
        assert len(row) <= 20
        assert min(20, p + a + b + 4) - len(row) in (0, p + a + b > 16)
        assert row[0] == 1
        assert row[-1] == 11
        assert min(row.count(token) for token in (9, 4, 10, 5)) >= 1
    assert layout.row([2, 3, 6, 7] * 5, [4] * 4, [5] * 4)[1:9] == [2, 3, 6, 7, 2, 3, 6, 7]  # the prompt's end
    with pytest.raises(bridge.BridgeError, match="room for three more"):
        Layout(((9,), (10,), (11,)), 5)


# -------------------------------------------------------------------- a language model that is asked


@pytest.fixture(scope="module")
def generative(tmp_path_factory: pytest.TempPathFactory) -> GenerativeJudge:
    words = bridge.Tokenizer(tokenizer(tmp_path_factory.mktemp("t"), template=None))
    return GenerativeJudge(policy(max_position_embeddings=800), words, "a b?", options=("a", "b"), rows=4)


def test_a_generative_judge_compares_the_options_of_the_next_token(generative: GenerativeJudge) -> None:
    a, b = ["a b", "c", "a"], ["c", "c a b", "a"]
    found = generative(["a"] * 3, a, b)
    asked = [generative._ids("a", *pair) for pair in zip(a, b, strict=True)]
    tokens, mask = generative.tokenizer.batch([[*ids, option] for ids in asked for option in (5, 6)])  # a and b
    last = mask.sum(axis=1) - 1
    said = np.asarray(generative.policy.log_probs(tokens, mask))[np.arange(6), last].astype(float).reshape(3, 2)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(said[:, 1] - said[:, 0])), rtol=0, atol=1e-6)
    assert len(set(found)) == 3


def test_a_question_that_does_not_fit_has_failed(generative: GenerativeJudge) -> None:
    found = generative(["a"] * 2, ["a", "a " * 800], ["b", "b"])
    np.testing.assert_array_equal(np.isnan(found), [False, True])


def test_a_context_that_holds_no_question_is_named(generative: GenerativeJudge) -> None:
    short = GenerativeJudge(policy(max_position_embeddings=100), generative.tokenizer, "a b?", options=("a", "b"))
    alone = len(short._ids("", "", ""))
    with pytest.raises(bridge.BridgeError, match=f"a context of 100 tokens does not hold .* of {alone} wi"):
        short(["a"], ["a"], ["b"])


def test_options_have_to_differ(generative: GenerativeJudge) -> None:
    same = GenerativeJudge(generative.policy, generative.tokenizer, options=("a", "a"))
    with pytest.raises(bridge.BridgeError, match="options that differ"):
        same(["a"], ["a"], ["b"])


# -------------------------------------------------------------------- agreement


def test_agreement_counts_ties_half_and_leaves_failures_out() -> None:
    rows = [
        Row("", "x", "long answer", "no"),
        Row("", "x", "yes", "nooo"),
        Row("", "x", "ab", "a"),
        Row("", "x", "b", "aa"),
    ]
    by_length = agreement(lambda p, a, b: [float(len(x) > len(y)) for x, y in zip(a, b, strict=True)], rows)
    assert (by_length["accuracy"], by_length["length_only"], by_length["n"]) == (0.5, 0.5, 4)
    oracle = agreement(lambda p, a, b: [float(x in ("long answer", "yes", "ab", "b")) for x in a], rows)
    assert oracle["accuracy"] == 1
    undecided = agreement(lambda p, a, b: [0.5, np.nan, 0.5, 0.5], rows)
    assert (undecided["accuracy"], undecided["n"], undecided["failed_frac"]) == (0.5, 3, 0.25)
    sour = [Row("", "x", "b", "aa", p_chosen=0.2)]
    assert agreement(lambda p, a, b: [float(x == "aa") for x in a], sour)["accuracy"] == 1


def test_an_accuracy_is_as_sure_as_its_prompts_and_not_as_its_pairs() -> None:
    """Every pair of 12 prompts ten times is the interval of 12 pairs; prompts count by their pairs."""
    answers = [("good", "bad") if i % 3 else ("bad", "good") for i in range(12)]
    once = [Row("", f"prompt {i}", *pair) for i, pair in enumerate(answers)]

    def judge(_: Any, a: Any, b: Any) -> list[float]:
        return [float(x == "good") for x in a]

    alone, ten = agreement(judge, once), agreement(judge, once * 10)
    keys = ("accuracy", "accuracy_low", "accuracy_high", "prompts")
    assert [ten[key] for key in keys] == pytest.approx([alone[key] for key in keys], abs=1e-12)
    assert (alone["accuracy"], alone["prompts"], ten["n"]) == (pytest.approx(2 / 3), 12, 120)
    many = agreement(judge, [Row("", f"prompt {i}", *answers[i % 12]) for i in range(120)])
    assert many["accuracy_high"] - many["accuracy_low"] < 0.5 * (ten["accuracy_high"] - ten["accuracy_low"])
    # One prompt of nine pairs, all wrong, beside nine of one pair, all right: 1/2, and anything is possible.
    uneven = agreement(judge, [Row("", "x", "bad", "good")] * 9 + [Row("", str(i), "good", "bad") for i in range(9)])
    assert uneven["accuracy"] == pytest.approx(0.5)
    assert uneven["accuracy_low"] < 0.25
    assert uneven["accuracy_high"] > 0.85


def test_wilsons_interval_holds_what_it_should() -> None:
    """The definition: the border is where the observed share is z standard errors away."""
    for share, n in ((0.5, 40), (0.9, 25), (0.0, 10), (1.0, 10)):
        for border in wilson(share, n):
            if 1e-9 < border < 1 - 1e-9:
                error = np.sqrt(border * (1 - border) / n)
                np.testing.assert_allclose(abs(share - border), 1.959964 * error, rtol=0, atol=1e-9)
    assert wilson(0.0, 10)[0] == 0
    np.testing.assert_allclose(wilson(1.0, 10)[1], 1, rtol=0, atol=1e-15)
    assert np.isnan(wilson(0.5, 0)).all()


def test_a_row_that_has_room_for_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        bridge.BridgeError, match=r"expected max_length, .*, >= (\d+), of which headings take .*, got 5"
    ):
        text_layout(bridge.Tokenizer(tokenizer(tmp_path)), 5)


def returning(value: Any) -> Any:
    def mine(prompts: Any, a: Any, b: Any) -> Any:
        return value

    return mine


WANTED = "expected an array of numbers, and None or NaN for no answer, got"
WRONG: dict[str, Any] = {
    "expected 2 numbers, P(a preferred) for each pair, got None for all of them; does it return its answers?": None,
    f"{WANTED} a list with a str in it": [0.5, "a"],
    f"{WANTED} a tuple with a str in it": ("0.7", "0.2"),
    f"{WANTED} a list with a bytes in it": [None, b"1"],
    f"{WANTED} an array of <U3": np.array(["0.7", "0.2"]),
    f"{WANTED} an array of object": np.array([0.7, "0.2"], object),
    f"{WANTED} a list with a list in it": [[0.5], [0.5, 0.5]],
    "expected 2 answers, got an array of shape (3,)": [0.5, 0.5, 0.5],
    "expected 2 answers, got a float": 0.5,
    "expected probabilities, or NaN for no answer, got 2 for pair 1": [0.5, 2.0],
}


@pytest.mark.parametrize("words", WRONG)
def test_a_complaint_names_the_judge_that_was_given(words: str) -> None:
    for judge in (returning(WRONG[words]), SharedJudge(Termination().interrupting(returning(WRONG[words])))):
        with pytest.raises(bridge.BridgeError) as refusal:
            answers_of(judge, ["x", "y"], ["a", "b"], ["c", "d"])
        assert str(refusal.value) == f"judge returning.<locals>.mine: {words}"
    assert PairFunction(returning(1)).name == "returning.<locals>.mine"


def test_a_pairs_answer_is_a_number_or_none_and_no_text() -> None:
    answers = {"a": True, "b": None, "c": 0.25, "d": np.float32(1), "e": jax.numpy.float32(0.5)}
    found = answers_of(PairFunction(lambda prompt, a, b: answers[a]), ["x"] * 5, list("abcde"), list("vwxyz"))
    np.testing.assert_array_equal(found, [1, np.nan, 0.25, 1, 0.5])
    np.testing.assert_array_equal(answers_of(returning([0.5, None]), ["x"] * 2, "ab", "cd"), [0.5, np.nan])
    with pytest.raises(bridge.BridgeError, match=r"^judge returning.<locals>.mine: .*, got a list with a str in it$"):
        answers_of(PairFunction(returning("0.7")), ["x"], ["a"], ["b"])


# -------------------------------------------------------------------- a dry run


def trl_reward(prompts: Any, completions: Any, **kwargs: Any) -> list[float]:
    return [0.5] * len(completions)


def trl_judge(prompts: Any, completions: Any, shuffle_order: bool = True) -> list[int]:
    return [0] * len(prompts)


def per_pair(prompt: str, a: str, b: str) -> float:
    return float(len(a) < len(b))


def raising(prompts: Any, a: Any, b: Any) -> Any:
    return {"known": 1.0}[prompts[0]]


class TrlJudge:
    def judge(self, prompts: Any, completions: Any, shuffle_order: bool = True) -> list[int]:
        return trl_judge(prompts, completions, shuffle_order)


SIGNATURE = "expected a judge(prompts, a, b) that takes three lists and returns one number in [0, 1] for each i, P(a[i]"
INDEX = "in TRL a judge's answer is the index, 0 or 1, of the better completion, so here it is 1 - index"
LINE = raising.__code__.co_firstlineno + 1
TRIED: dict[str, tuple[Any, tuple[str, ...]]] = {
    "a reward function of TRL": (trl_reward, ("takes (prompts, completions, **kwargs), ", SIGNATURE, INDEX)),
    "a judge of TRL, which would take b for an option": (
        TrlJudge().judge,
        ("takes (prompts, completions, shuffle_order=True), ", SIGNATURE, INDEX),
    ),
    "an object of TRL": (TrlJudge(), ("TrlJudge: cannot be called, ", SIGNATURE, INDEX)),
    "a class": (SumJudge, ("SumJudge: is a class, whose objects may be judges, ", SIGNATURE)),
    "too few arguments": (lambda prompts, a: [0.5], ("takes (prompts, a), ", SIGNATURE)),
    "one pair": (per_pair, ("expected 3 answers, got a float; it was tried on 3 pairs before the run, ", SIGNATURE)),
    "always as many": (lambda *_: [0.5, 0.5], ("expected 3 answers, got an array of shape (2,); ", SIGNATURE)),
    "a row a pair": (lambda p, a, b: [[0.5, 0.5]] * len(a), ("got an array of shape (3, 2); ", SIGNATURE)),
    "nothing": (lambda *_: None, ("got None for all of them; does it return its answers?; ", SIGNATURE)),
    "texts": (lambda p, a, b: ["a"] * len(a), ("got a list with a str in it; ", SIGNATURE)),
    "out of range": (
        lambda p, a, b: [-1] * len(a),
        ("expected probabilities, or NaN for no answer, got -1 for", SIGNATURE),
    ),
    "its own error": (
        raising,
        (
            "judge raising: raised KeyError: 'x' at ",
            f"test_judges.py:{LINE} when it was tried on 3 pairs before the run; what it cannot answer is NaN, ",
            SIGNATURE,
        ),
    ),
    "an exit": (PairFunction(lambda *_: exit(1)), ("raised SystemExit: 1 at ", SIGNATURE)),
}


@pytest.mark.parametrize("fault", TRIED)
def test_what_is_no_judge_is_told_before_a_run_what_is_expected(fault: str) -> None:
    judge, words = TRIED[fault]
    with pytest.raises(bridge.BridgeError) as refusal:
        dry_run(judge, ["x"])
    for part in words:
        assert part in str(refusal.value)


def test_what_is_said_of_trl_turns_its_judges_into_ours() -> None:
    """The better completion's index, -1 where TRL's judge has failed."""
    indices = {"a": 0, "b": 1, "c": -1}

    def judge(prompts: Any, completions: Any) -> list[int]:
        assert completions == [["u", "x"], ["v", "y"], ["w", "z"]]
        return [indices[prompt] for prompt in prompts]

    with pytest.raises(bridge.BridgeError) as refusal:
        dry_run(judge, ["a"])
    written = str(refusal.value).partition("return [")[2].partition(";")[0]
    ours = eval(f"lambda prompts, a, b: [{written}", {"judge": judge})
    np.testing.assert_array_equal(answers_of(ours, list("abc"), list("uvw"), list("xyz")), [1, 0, np.nan])


def test_a_dry_run_shows_the_runs_own_prompts_in_one_call_and_takes_what_a_judge_may_say() -> None:
    seen: list[Any] = []

    def judge(prompts: Any, a: Any, b: Any) -> list[float | None]:
        seen.append((prompts, a, b))
        return [None, float("nan"), 1.0]

    dry_run(judge, ["x", "y"])
    dry_run(judge, [(1, 2), (3,)])
    (texts, a, b), (ids, c, d) = seen
    assert texts == ["x", "y", "x"]
    assert all(isinstance(text, str) and text for text in [*a, *b])
    assert len({*zip(a, b, strict=True)}) == 3
    assert ids == [(1, 2), (3,), (1, 2)]
    assert (c, d) == (ids, [(1, 2, 1, 2), (3, 3), (1, 2, 1, 2)])  # tokens that the policy has


def test_in_python_nothing_is_generated_for_a_judge_that_fails(monkeypatch: Any, key: Any) -> None:
    """C10: it was found after a whole generation."""
    monkeypatch.setattr("llm_bridge.train.rollout.Rollout.draw", lambda *_: pytest.fail("it has generated"))
    for judge, words in ((trl_reward, "takes \\(prompts, completions"), (raising, "raised KeyError")):
        with pytest.raises(bridge.BridgeError, match=words):
            bridge.MPO(judge, **SIZES).fit(policy(), PROMPTS, steps=1, key=key)
    method = bridge.MPO(**SIZES)
    object.__setattr__(method, "judge", TrlJudge())  # types are not checked where users call
    with pytest.raises(
        bridge.BridgeError, match=r"expected judge to be callable, got .*TrlJudge.*; expected .*1 - index"
    ):
        method.check_settings()


def test_several_processes_try_the_judge_of_the_first_one_once() -> None:
    judge = SumJudge()
    shared = SharedJudge(Termination().interrupting(judge))
    for _ in range(2):
        dry_run(shared, [(1,)])
    assert judge.asked == 3
    with pytest.raises(bridge.BridgeError, match="judge raising: raised KeyError"):
        dry_run(SharedJudge(Termination().interrupting(raising)), ["x"])


def test_a_folder_that_is_no_judge_is_refused_before_its_weights_are_read(
    trained: PreferenceModel, tmp_path: Path, monkeypatch: Any
) -> None:
    trained.save(tmp_path / "judge")
    monkeypatch.setattr("llm_bridge.checkpoint.loading.load", lambda *_, **__: pytest.fail("weights were read"))
    (tmp_path / "judge" / preference_model.HEAD).unlink()
    with pytest.raises(bridge.BridgeError, match="expected a judge as `mpo train-judge` writes it"):
        preference_model.load(tmp_path / "judge")
