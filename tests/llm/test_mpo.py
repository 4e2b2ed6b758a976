"""Training by MPO: what a round promises, whatever the model."""

import dataclasses
import warnings
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import llm_bridge as bridge
import mmd
from llm_bridge.judges.callable import PairFunction
from llm_bridge.plan import memory
from llm_bridge.train import loop, rollout
from llm_bridge.train.objective import Judged, PolicyGradient, Regression, payoffs
from tests.llm.games import CONFIG, PROMPTS, SIZES, SumJudge, policy

KEY = jax.random.key(7)


def method(**changes: Any) -> bridge.MPO:
    return bridge.MPO(SumJudge(), **(SIZES | changes))


def arrays(state: bridge.TrainState) -> list[np.ndarray]:
    return [np.array(leaf) for leaf in jax.tree.leaves(state)]


@pytest.fixture(scope="module")
def run() -> bridge.Result:
    return method(decay_rounds=4).fit(policy(), PROMPTS, steps=4, key=KEY)


def test_before_the_first_step_policy_magnet_and_start_are_one(run: bridge.Result) -> None:
    assert run.history[0]["kl/magnet"] == pytest.approx(0.0, abs=1e-6)
    assert run.history[0]["kl/initial"] == pytest.approx(0.0, abs=1e-6)
    assert run.history[-1]["kl/magnet"] > 1e-4
    assert run.history[-1]["kl/initial"] > run.history[-1]["kl/magnet"]


@pytest.mark.parametrize("estimator", [PolicyGradient(), Regression()])
def test_magnet_and_start_that_are_one_have_one_divergence(estimator: Any) -> None:
    """C6: a fixed magnet is the start in every round."""
    one = method(magnet=mmd.Fixed(), exports="policy", estimator=estimator)
    history = one.fit(policy(), PROMPTS, steps=3, key=KEY).history
    assert abs(history[-1]["kl/initial"]) > 1e-4
    initial, magnet = ([row[name] for row in history] for name in ("kl/initial", "kl/magnet"))
    np.testing.assert_allclose(initial, magnet, rtol=1e-4, atol=1e-6)


def test_sampler_and_trainer_agree_on_every_token(run: bridge.Result) -> None:
    assert all(metrics["sampling/sampling_logp_difference/max"] < 1e-5 for metrics in run.history)


def test_a_run_that_is_cut_in_two_is_the_same_bit_for_bit(run: bridge.Result) -> None:
    first = method(decay_rounds=4).fit(policy(), PROMPTS, steps=2, key=KEY)
    leaves = [jnp.asarray(leaf) for leaf in arrays(first.state)]
    saved = jax.tree.unflatten(jax.tree.structure(first.state), leaves)
    second = method(decay_rounds=4).fit(policy(), PROMPTS, steps=4, key=KEY, state=saved)
    assert first.history + second.history == run.history
    for one, other in zip(arrays(second.state), arrays(run.state), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("magnet", "shares"),
    [(mmd.MovingAverage(rate=0.25), (0.25, 0.25)), (mmd.MovingAverage(rate=0.9, power=1.0), (0.9, 2 / 3))],
)
def test_the_magnet_is_the_moving_average_of_the_weights_and_is_exported(magnet: Any, shares: Sequence[float]) -> None:
    one = method(magnet=magnet)
    state = one.init(policy(), KEY)
    expected = {name: np.array(w, np.float64) for name, w in state.magnet.items()}
    questions = one.read(policy(), PROMPTS)
    for share in shares:
        state, _ = one.round(state, questions)
        new = {name: share * np.asarray(w) for name, w in state.weights.items()}
        expected = {name: (1 - share) * mean + new[name] for name, mean in expected.items()}
    for name, array in one.export(state).arrays().items():
        np.testing.assert_allclose(array, expected[name], rtol=0, atol=1e-6)
    last = dataclasses.replace(one, exports="policy").export(state).arrays()
    np.testing.assert_array_equal(last["head"], state.weights["head"])


def test_a_refreshed_magnet_is_a_copy_made_every_so_many_rounds_and_a_fixed_one_stays() -> None:
    for magnet, copied in ((mmd.Refresh(every=2), [0, 0, 2, 2]), (mmd.Fixed(), [0, 0, 0, 0])):
        one = method(magnet=magnet)
        state = one.init(policy(), KEY)
        seen = [np.array(state.weights["head"])]
        questions = one.read(policy(), PROMPTS)
        for source in copied[1:]:
            state, _ = one.round(state, questions)
            seen.append(np.array(state.weights["head"]))
            np.testing.assert_array_equal(state.magnet["head"], seen[source])


def test_gradients_accumulate_over_parts_of_the_prompts() -> None:
    states = []
    for parts in (None, 1):
        one = method(prompts_at_a_time=parts)
        states.append(one.round(one.init(policy(), KEY), one.read(policy(), PROMPTS))[0])
    for name, array in states[0].weights.items():
        np.testing.assert_allclose(array, states[1].weights[name], rtol=0, atol=2e-6)


@pytest.mark.parametrize("estimator", [PolicyGradient(proximal=True), Regression()])
def test_learning_from_the_columns_of_the_answers_is_learning_from_whole_rows(estimator: Any) -> None:
    """Prompts of different lengths go through the model once a group; every metric and weight is the same.

    Adam divides rounding by `eps` at the least, so it is large here: on one processor 1e-3 has made 3e-6 of it.
    """
    one = method(estimator=estimator, eps=1e-2)
    found = []
    for answers in (False, True):
        state = one.init(policy(), KEY)
        arena = rollout.Rollout(one.read(policy(), PROMPTS), SumJudge(), policy().origin, one.max_new_tokens)
        samples = arena.draw(one.source(state), one.group_size, state.round_key())
        assert samples.answers == 3
        judged = Judged(payoffs(preference := arena.compare(samples)), preference)
        found.append(one.learn(state, samples if answers else samples._replace(answers=None), judged))
    (plain, by_plain), (shared, by_shared) = found
    assert {"kl/initial", "kl/magnet", "kl/step", "entropy"} <= by_plain.keys()
    for name, value in by_plain.items():
        np.testing.assert_allclose(by_shared[name], value, rtol=1e-4, atol=2e-6, err_msg=name)
    for name, array in plain.weights.items():
        assert np.abs(array - policy().arrays()[name]).max() > 1e-4
        np.testing.assert_allclose(shared.weights[name], array, rtol=0, atol=2e-6)


def test_a_policy_that_training_has_broken_ends_the_run_and_is_not_called_the_given_one() -> None:
    one = method(decay_rounds=4)
    state = one.fit(policy(), PROMPTS, steps=1, key=KEY).state
    broken = state.weights | {"final_norm": jnp.full_like(state.weights["final_norm"], jnp.nan)}
    result = one.fit(policy(), PROMPTS, steps=4, key=KEY, state=dataclasses.replace(state, weights=broken))
    assert (result.status, result.history) == (bridge.Status.DIVERGED, [])


def test_an_error_of_the_judge_is_the_cause_of_what_fit_raises_in_that_round() -> None:
    class Tired(Exception):
        pass

    judge, asked = SumJudge(), []

    def tired(prompts: Sequence, a: Sequence, b: Sequence) -> np.ndarray:
        asked.append(len(prompts))
        if len(asked) == 3:  # of which the first is the trial before the run
            raise Tired
        return judge(prompts, a, b)

    with pytest.raises(bridge.JudgeError, match=r"tired: raised .*Tired at .*test_mpo.py:\d+ in round 2;") as failure:
        dataclasses.replace(method(decay_rounds=4), judge=tired).fit(policy(), PROMPTS, steps=4, key=KEY)
    assert isinstance(failure.value.__cause__, Tired)


def test_a_first_moment_in_half_precision_is_rounded_after_it_has_been_used() -> None:
    """So the first step is that of float32, but for rounding, and the second is not."""
    kinds = {dtype: method(epochs=1, first_moment=dtype) for dtype in ("float32", "bfloat16")}
    states = {dtype: one.init(policy(), KEY) for dtype, one in kinds.items()}
    for same in (True, False):
        for dtype, one in kinds.items():
            states[dtype], _ = one.round(states[dtype], one.read(policy(), PROMPTS))
        wide, half = (states[dtype] for dtype in kinds)
        apart = max(np.abs(w - half.weights[name]).max() for name, w in wide.weights.items())
        assert (apart < 1e-6) == same
        if same:
            moments = zip(*(jax.tree.leaves(state.optimizer) for state in (wide, half)), strict=True)
            for exact, kept in moments:
                np.testing.assert_allclose(exact, np.asarray(kept, exact.dtype), rtol=2.0**-8, atol=1e-6)
    sizes = [sum(leaf.nbytes for leaf in jax.tree.leaves(state.optimizer)) for state in (wide, half)]
    n_weights = sum(array.size for array in wide.weights.values())
    assert sizes[0] - sizes[1] == 2 * n_weights


def test_updates_that_are_not_finite_do_not_happen_and_end_the_run() -> None:
    """A step size of 0 / 0 from the second round on; three steps a round."""
    broken = method(eta=lambda number: jnp.where(number < 1, 0.4, jnp.nan))
    seen: list[dict[str, np.ndarray]] = []

    def remember(state: bridge.TrainState, metrics: dict[str, float]) -> None:
        seen.append({"skipped": np.array(metrics["skipped"])} | {n: np.array(w) for n, w in state.weights.items()})

    result = broken.fit(policy(), PROMPTS, steps=9, key=KEY, callback=remember)
    assert result.status is bridge.Status.NOT_FINITE
    assert [metrics["skipped"] for metrics in result.history] == [0, 3, 3]
    assert int(result.state.counters.skipped) == 6
    for name, array in result.state.weights.items():
        np.testing.assert_array_equal(array, seen[0][name])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result.state.optimizer))


def test_a_collapse_is_named() -> None:
    """A judge that likes zeros only, and steps that are far too large."""

    def zeros(prompt: Any, a: tuple[int, ...], b: tuple[int, ...]) -> float:
        return 0.5 + 0.5 * np.sign(a.count(0) - b.count(0))

    sizes = SIZES | {"learning_rate": 0.05, "eta": 10.0, "alpha": 0.0}
    greedy = bridge.MPO(PairFunction(zeros, symmetric=True), **sizes)
    with pytest.warns(bridge.CollapseWarning, match="the policy collapses"):
        result = greedy.fit(policy(), PROMPTS, steps=12, key=KEY)
    assert result.history[-1]["entropy"] < 0.1 * result.history[0]["entropy"]


def test_with_adapters_the_base_is_there_once_and_stays() -> None:
    adapted = bridge.add_adapter(policy(), jax.random.key(1), rank=2, alpha=4.0)
    one = method(magnet=mmd.Refresh(every=2))
    state = one.init(adapted, KEY)
    given = adapted.arrays()
    assert set(state.weights) == {name for name in given if ".lora_" in name}
    assert all(array is given[name] or _same_buffer(array, given[name]) for name, array in state.base.items())
    state, metrics = one.round(state, one.read(adapted, PROMPTS))
    assert metrics["kl/magnet"] == pytest.approx(0.0, abs=1e-6)
    assert float(jnp.abs(state.weights["layers.query.lora_b"]).max()) > 0
    exported = one.export(state).arrays()
    assert all(_same_buffer(exported[name], given[name]) for name in state.base)
    everything = jax.tree.leaves((given, exported, state))
    held = {array.unsafe_buffer_pointer(): array.nbytes for array in everything}
    base, adapter = (sum(array.nbytes for array in part.values()) for part in (state.base, state.weights))
    small = sum(array.nbytes for array in jax.tree.leaves(state) if array.ndim < 2)
    # adapters: given, trained, magnet, start, two moments, exported
    assert base + 7 * adapter <= sum(held.values()) <= base + 7 * adapter + small


def _same_buffer(one: jax.Array, other: jax.Array) -> bool:
    return one.unsafe_buffer_pointer() == other.unsafe_buffer_pointer()


def test_eight_devices_train_as_one() -> None:
    """The same losses over 20 steps, and a device holds its share of magnet and moments."""
    mesh = jax.make_mesh((2, 2, 2), ("data", "fsdp", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 3)
    histories = []
    for place in (None, mesh):
        one = method(epochs=2, learning_rate=1e-3, watch_start=False, decay_rounds=10)
        result = one.fit(policy(place), PROMPTS, steps=10, key=KEY)
        histories.append([[metrics[name] for name in ("loss", "grad_norm", "entropy")] for metrics in result.history])
    np.testing.assert_allclose(histories[0], histories[1], rtol=0, atol=1e-5)
    moments = [leaf for leaf in jax.tree.leaves(result.state.optimizer) if leaf.ndim > 1]
    for array in (*moments, result.state.magnet["head"]):
        assert array.ndim == 2 or not array.sharding.is_fully_replicated
    assert result.state.magnet["head"].addressable_shards[0].data.size * 4 == result.state.magnet["head"].size


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"eta": 0.0}, "expected eta > 0"),
        ({"alpha": -0.1}, "expected alpha >= 0"),
        ({"group_size": 1}, "expected group_size >= 2"),
        ({"opponents": 8}, "expected opponents < group_size = 8"),
        ({"prompts_at_a_time": 3}, "a divisor of prompts_per_round = 2"),
        ({"magnet": mmd.Refresh()}, "expected a period in rounds"),
        ({"magnet": 0.1}, "expected a magnet such as"),
        ({"max_new_tokens": 64}, "exceed the context of 64"),
    ],
)
def test_bad_settings_are_refused_in_one_sentence(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(bridge.BridgeError, match=words):
        method(**changes).fit(policy(), PROMPTS, steps=1, key=KEY)


def test_prompts_that_cannot_be_read_are_refused() -> None:
    wrong = {
        "at least one prompt": [],
        "has no tokenizer": ["text"],
        "prompt 0: expected": [[]],
        "got one text": "text",
    }
    for words, prompts in {**wrong, "got NoneType": None, "prompt 0: expected text, .* got int": [1, 2]}.items():
        with pytest.raises(bridge.BridgeError, match=words):
            method().read(policy(), prompts)


def test_a_run_does_not_go_on_from_the_state_of_another_policy() -> None:
    other = method().init(bridge.init(CONFIG | {"intermediate_size": 8}, KEY), KEY)
    with pytest.raises(bridge.BridgeError, match="expected a state of the policy's architecture"):
        method().fit(policy(), PROMPTS, steps=1, key=KEY, state=other)


def test_no_warning_without_a_collapse(run: bridge.Result) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop._name_collapse(run.state, run.history[-1], 8)


def test_the_budget_counts_what_is_kept_to_the_byte() -> None:
    state = method().init(policy(), KEY)
    found = memory.training(policy(), memory.Rows(32, 8, 8), copies=3).parts
    half = memory.training(policy(), memory.Rows(32, 8, 8), copies=3, moments=1.5).parts
    kept = jax.tree.leaves((state.weights, state.magnet, state.initial))
    assert found["given policy"] == sum(array.nbytes for array in policy().arrays().values())
    assert found["trained weights"] == sum(array.nbytes for array in kept)
    moments = [leaf for leaf in jax.tree.leaves(state.optimizer) if leaf.ndim]
    assert found["moments"] == sum(array.nbytes for array in moments)
    moments = [leaf for leaf in jax.tree.leaves(method(first_moment="bfloat16").init(policy(), KEY).optimizer)]
    assert half["moments"] == sum(array.nbytes for array in moments if array.ndim)


def test_a_policy_with_broken_weights_is_named_before_a_judge_is_asked() -> None:
    whole = policy()
    arrays = whole.arrays() | {"final_norm": jnp.full_like(whole.arrays()["final_norm"], jnp.nan)}

    judge = SumJudge()
    with pytest.raises(bridge.BridgeError, match="not numbers"):
        bridge.MPO(judge, **SIZES).fit(bridge.Policy(whole.decoder, arrays, whole.origin), PROMPTS, steps=1, key=KEY)
    assert judge.asked == 3  # the pairs of the dry run
