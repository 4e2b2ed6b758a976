"""The contract of magnets on weights, and that what is exported was trained.

Every magnet in every method that takes one, against plain NumPy, or a refusal by name. Learning is played by a change
of the weights that a test knows, so that 41 rounds cost nothing; `benchmarks.faults.exported_weights` does the same
with rounds that learn.
"""

import dataclasses
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import llm_bridge as bridge
import mmd
from llm_bridge.command.method_choice import method_of
from llm_bridge.command.options import Train
from llm_bridge.measure.win_rate import WinRate
from llm_bridge.model.ranges import SettingError, flags
from llm_bridge.train.baselines.egpo import EGPO
from llm_bridge.train.baselines.inpo import INPO
from llm_bridge.train.baselines.nash_md import NashMD
from llm_bridge.train.baselines.online_ipo import OnlineIPO
from llm_bridge.train.baselines.self_play import SelfPlay
from llm_bridge.train.loop import Status, UntrainedWarning
from tests.llm.games import PROMPTS, SIZES, SumJudge, policy

KEY, ETA, ALPHA = jax.random.key(7), 0.4, 0.1
LENGTHS = (1, 2, 7, 39, 40, 41)
MAGNETS: dict[str, tuple[Any, Callable[[int], float]]] = {  # and the share after round k
    "fixed": (mmd.Fixed(), lambda k: 0.0),
    "refresh=40": (mmd.Refresh(every=40), lambda k: float(k % 40 == 0)),
    "refresh=7": (mmd.Refresh(every=7), lambda k: float(k % 7 == 0)),
    "moving=0.025": (mmd.MovingAverage(rate=0.025), lambda k: 0.025),
    "moving=0.5,power=4": (mmd.MovingAverage(rate=0.5, power=4.0), lambda k: min(0.5, 5 / (k + 4))),
    "halpern": (mmd.Halpern(), lambda k: 0.0),
}
METHODS = (bridge.MPO, INPO, EGPO, NashMD, SelfPlay, OnlineIPO)
FEW = {name: value for name, value in SIZES.items() if name != "epochs"}


def method(magnet: Any, kind: Any = bridge.MPO, **changes: Any) -> Any:
    return kind(SumJudge(), eta=ETA, alpha=ALPHA, magnet=magnet, **(FEW | changes))


def given(lora: bool) -> bridge.Policy:
    return bridge.add_adapter(policy(), jax.random.key(1), rank=2, alpha=4.0) if lora else policy()


def rounds(one: Any, start: bridge.Policy, n: int) -> Iterator[bridge.TrainState]:
    """States after 1, 2, ... n rounds in which every weight learned something else."""
    state = one.init(start, KEY)
    for k in range(n):
        change = float(0.01 * np.cos(1.3 * k))
        state = one.settle(dataclasses.replace(state, weights={n: w + change for n, w in state.weights.items()}))
        yield state


@pytest.mark.parametrize("kind", METHODS)
def test_every_method_honours_every_magnet_in_its_alpha_and_its_moves(kind: Any) -> None:
    for name, (magnet, share) in MAGNETS.items():
        one = method(magnet, kind)
        state = one.init(policy(), KEY)
        mean = np.array(state.magnet["final_norm"], np.float64)
        for k, state in enumerate(rounds(one, policy(), 15), start=1):
            mean += share(k) * (np.asarray(state.weights["final_norm"]) - mean)
            np.testing.assert_allclose(state.magnet["final_norm"], mean, rtol=0, atol=1e-6, err_msg=f"{name}, {k}")
            pull = 1 / (ETA * (k + 1)) if name == "halpern" else ALPHA
            np.testing.assert_allclose(one.numbers(state).alpha, pull, rtol=1e-6, atol=0, err_msg=f"{name}, {k}")


def test_a_magnet_of_ones_own_needs_the_two_methods_only() -> None:
    class Half(mmd.Magnet):
        def share(self, k: Any, measured: Any = None) -> Any:
            return jnp.asarray(0.5)

    states = [jax.tree.map(np.array, s.weights["head"]) for s in rounds(method(Half()), policy(), 2)]
    *_, last = rounds(method(Half()), policy(), 2)
    start = np.asarray(policy().arrays()["head"])
    np.testing.assert_allclose(last.magnet["head"], start / 4 + states[0] / 4 + states[1] / 2, rtol=0, atol=1e-6)


def test_what_a_network_cannot_do_is_refused_by_name() -> None:
    with pytest.raises(bridge.BridgeError, match="expected a period in rounds"):
        method(mmd.Refresh()).init(policy(), KEY)
    with pytest.raises(bridge.BridgeError, match="expected a magnet that pulls"):
        method(mmd.Halpern(strength=0.0), OnlineIPO).init(policy(), KEY)


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("name", MAGNETS)
def test_what_is_exported_was_trained(name: str, lora: bool) -> None:
    """The last iterate, or a magnet that is an average; never the start. It was the start for all but the averages."""
    magnet, share = MAGNETS[name]
    one, start = method(magnet), given(lora)
    begun = {n: np.array(w, np.float64) for n, w in one.init(start, KEY).weights.items()}
    mean, seen = dict(begun), 0
    for k, state in enumerate(rounds(one, start, max(LENGTHS)), start=1):
        mean = {n: mu + share(k) * (np.asarray(state.weights[n]) - mu) for n, mu in mean.items()}
        if k not in LENGTHS:
            continue
        exported = one.export(state).arrays()
        expected = mean if magnet.averages else state.weights
        for n, was in begun.items():
            assert np.abs(np.asarray(exported[n]) - was).max() > 1e-6, f"round {k}: {n} is the start's"
            np.testing.assert_allclose(exported[n], expected[n], rtol=0, atol=2e-6, err_msg=f"round {k}: {n}")
        seen += 1
    assert seen == len(LENGTHS)


def test_the_magnet_can_be_chosen_where_it_has_left_the_start() -> None:
    one = method(mmd.Refresh(every=7), exports="magnet")
    state = one.init(policy(), KEY)
    for k, state in enumerate(rounds(one, policy(), 8), start=1):
        if k < 7:
            with pytest.raises(bridge.BridgeError, match=rf"expected exports to be 'last', in {k} rounds the magnet"):
                one.export(state)
        else:
            np.testing.assert_array_equal(one.export(state).arrays()["head"], state.magnet["head"])
    last = dataclasses.replace(one, exports="last").export(state).arrays()
    np.testing.assert_array_equal(last["head"], state.weights["head"])
    assert np.abs(np.asarray(state.weights["head"] - state.magnet["head"])).max() > 1e-4


@pytest.mark.parametrize("magnet", [mmd.Fixed(), mmd.Halpern()])
def test_a_magnet_that_is_the_start_at_any_length_is_no_choice(magnet: Any) -> None:
    with pytest.raises(bridge.BridgeError, match=r"^expected exports to be 'last', the magnet stays at the start"):
        method(magnet, exports="magnet").init(policy(), KEY)


def test_a_run_that_is_too_short_for_the_chosen_magnet_is_refused_before_it_begins() -> None:
    judge = SumJudge()
    one = dataclasses.replace(method(mmd.Refresh(every=40), exports="magnet"), judge=judge)
    with pytest.raises(bridge.BridgeError, match="expected exports to be 'last', in 39 rounds the magnet stays"):
        one.fit(policy(), PROMPTS, steps=39, key=KEY)
    assert judge.asked == 0


def test_the_same_on_the_command_line() -> None:
    known = {"model_name_or_path": "m", "dataset_name": Path("d"), "output_dir": Path("o"), "judge": ("j",)}

    def chosen(**more: Any) -> Any:
        return method_of(Train(**(known | more)))

    assert not chosen(magnet="refresh=40").exports_magnet
    assert chosen().exports_magnet
    assert not chosen(lora_r=2).exports_magnet
    assert not chosen(weights="last").exports_magnet
    assert chosen(weights="magnet", magnet="refresh=40", max_steps=40).exports_magnet
    assert not chosen(set=("exports=policy",)).exports_magnet
    refused = {
        "expected --weights to be 'last', the magnet stays at the start": {"magnet": "fixed"},
        "expected --weights to be 'last', in 39 rounds the magnet": {"magnet": "refresh=40", "max_steps": 39},
        "iterative_dpo has one set of weights, so --weights cannot choose": {"method": "iterative_dpo"},
        "expected --weights or --set exports=, got both": {"set": ("exports=last",)},
    }
    for words, options in refused.items():
        with pytest.raises(ValueError, match=r"weights|exports") as refusal:
            chosen(weights="magnet", **options)
        error: Any = refusal.value
        said = error.called(flags(Train(**known))) if isinstance(error, SettingError) else str(error)
        assert said.startswith(words)


def test_a_run_that_ends_early_keeps_what_it_learned_and_says_which_weights_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def learned(one: Any, state: bridge.TrainState, questions: Any) -> tuple[bridge.TrainState, dict[str, float]]:
        return one.settle(dataclasses.replace(state, weights={n: w + 0.01 for n, w in state.weights.items()})), {}

    monkeypatch.setattr(bridge.MPO, "round", learned)
    one = method(mmd.Refresh(every=7), exports="magnet")
    with pytest.warns(UntrainedWarning, match="after 1 rounds the magnet is still the start, so the last iterate is"):
        result = one.fit(policy(), PROMPTS, steps=7, key=KEY, callback=lambda *_: True)
    np.testing.assert_array_equal(result.policy.arrays()["head"], result.state.weights["head"])
    assert not result.state.is_start(result.policy)


def test_a_change_that_the_precision_does_not_hold_is_named() -> None:
    """Bfloat16 does not see a change of 1e-9: the run would report success with the start's weights."""
    whole = policy()
    half = {name: array.astype(jnp.bfloat16) for name, array in whole.arrays().items()}
    one = method(mmd.Refresh(every=40))
    state = one.init(bridge.Policy(whole.decoder, half, whole.origin), KEY)
    for change, warned in ((1e-9, True), (0.5, False)):
        moved = {name: array + change for name, array in state.initial.items()}
        now = one.settle(dataclasses.replace(state, weights=moved, magnet=jax.tree.map(jnp.copy, state.initial)))
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always", UntrainedWarning)
            one.export(now)
        assert [w.category for w in seen] == [UntrainedWarning] * warned


def test_no_win_rate_is_measured_of_a_magnet_that_is_the_start() -> None:
    one = method(mmd.Refresh(every=4), exports="magnet")
    measured = WinRate(one, policy(), PROMPTS, every=2, key=KEY)
    assert [measured.due(state) for state in rounds(one, policy(), 4)] == [False, False, False, True]


def learns(one: Any, state: bridge.TrainState, questions: Any) -> tuple[bridge.TrainState, dict[str, float]]:
    return one.settle(dataclasses.replace(state, weights={n: w + 0.01 for n, w in state.weights.items()})), {}


@pytest.mark.parametrize("watched", [True, False])
def test_a_magnet_that_never_left_the_start_is_not_exported(watched: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rate of 1e-12 moves no float32: by default the last iterate is exported with a word, a choice is refused."""
    monkeypatch.setattr(bridge.MPO, "round", learns)
    one, start = method(mmd.MovingAverage(rate=1e-12), watch_start=watched), policy().copy()
    chosen = dataclasses.replace(one, exports="magnet")
    with pytest.warns(UntrainedWarning, match="after 3 rounds the magnet is still the start, so the last iterate is"):
        found = one.fit(start, PROMPTS, steps=3, key=KEY)
    np.testing.assert_array_equal(found.policy.arrays()["head"], found.state.weights["head"])
    assert found.status is Status.FINISHED
    assert one.result(found.state, start) is found.state.weights  # and so the win rate is theirs
    with pytest.warns(UntrainedWarning, match="the magnet is still the start"):
        stopped = chosen.fit(start, PROMPTS, steps=3, key=KEY)
    assert stopped.status is Status.MAGNET_STAYED
    with pytest.raises(SettingError, match="to be 'last', after 3 rounds the magnet is still the start"):
        chosen.export(found.state, start)
    for array in start.arrays().values():
        array.delete()
    if not watched:  # nobody knows the start any more, so nothing is said of it
        np.testing.assert_array_equal(chosen.export(found.state, start).arrays()["head"], found.state.magnet["head"])


@pytest.mark.parametrize("watched", [True, False])
def test_a_rounding_that_takes_back_what_was_learned_is_named(watched: bool) -> None:
    """Bfloat16 has steps of 2**-7 above 1: of .6 steps it takes back .4, of .8 it takes back .2, of 1/2 nothing."""
    whole = policy()
    half = {name: jnp.ones(array.shape, jnp.bfloat16) for name, array in whole.arrays().items()}
    start = bridge.Policy(whole.decoder, half, whole.origin)
    one = method(mmd.Refresh(every=40), watch_start=watched)
    for change, warned in ((0.6 * 2**-7, True), (0.8 * 2**-7, False), (0.5, False)):
        state = one.init(start, KEY)
        now = one.settle(dataclasses.replace(state, weights={n: w + change for n, w in state.weights.items()}))
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always", UntrainedWarning)
            one.export(now, start)
        assert [str(w.message).startswith("rounding to bfloat16 moves") for w in seen] == [True] * warned, change
