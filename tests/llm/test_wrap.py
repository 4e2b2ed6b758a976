"""`bridge.wrap`: modules of Flax from anywhere are policies, with the numbers that they have by themselves."""

import dataclasses
import logging
import pickle
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, PartitionSpec

import llm_bridge as bridge
import mmd
from llm_bridge.checkpoint import adapters
from llm_bridge.run.run_state import RunState
from tests.llm import outside
from tests.llm.games import CONFIG, PROMPTS, SIZES, SumJudge, policy

KEY = jax.random.key(7)
METHOD = bridge.MPO(SumJudge(), magnet=mmd.Refresh(every=1), decay_rounds=2, **SIZES)
TOKENS = np.array([[1, 2, 3, 0, 2, 1], [3, 1, 2, 2, 0, 0], [0, 0, 3, 1, 1, 2]], np.int32)
MASK = np.array([[1, 1, 1, 1, 0, 0], [0, 1, 1, 1, 1, 0], [0, 0, 1, 1, 1, 1]], bool)
OWN = bridge.Calls(
    hidden=lambda module, tokens, _, mask: module.decoder.hidden(module.arrays(), tokens, mask),
    head=lambda module, hidden: module.decoder.logits(module.arrays(), hidden),
    prefill=lambda module, tokens, _, mask, n_slots: _wide(
        *module.decoder.prefill(module.arrays(), tokens, jnp.sum(~mask, axis=1, dtype=jnp.int32), n_slots)
    ),
    step=lambda module, tokens, _, mask, kept, slot: _wide(
        *module.decoder.step(module.arrays(), tokens[:, 0], slot, kept)
    ),
)


def _wide(hidden: Any, kept: Any) -> Any:
    return hidden[:, None], kept


@cache
def own(*, cached: bool = True) -> bridge.Policy:
    """This package's decoder as if somebody else had written it."""
    calls = OWN if cached else dataclasses.replace(OWN, prefill=None, step=None)
    return bridge.wrap(policy(), max_length=64, calls=calls)


@cache
def tall(mesh: Any = None) -> bridge.Policy:
    return bridge.wrap(outside.tall(), max_length=64, calls=outside.CALLS, mesh=mesh)


@cache
def twenty() -> bridge.Policy:
    return bridge.wrap(*outside.twenty(), max_length=64)


def directly(module: Any) -> np.ndarray:
    """The log-probabilities of each row by itself, without padding, by calling an NNX or a bound Linen module."""
    rows = jnp.asarray(TOKENS[MASK].reshape(3, 4))
    at, real = jnp.broadcast_to(jnp.arange(4, dtype=jnp.int32), (3, 4)), jnp.ones((3, 4), bool)
    call = outside.logits if isinstance(module, outside.Tall) else outside.Twenty.__call__
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        logs = np.asarray(jax.jit(lambda *arguments: jax.nn.log_softmax(call(module, *arguments)))(rows, at, real))
    found = np.zeros(TOKENS.shape)
    found[MASK] = np.pad(
        np.take_along_axis(logs[:, :-1], np.asarray(rows)[:, 1:, None], 2)[..., 0], ((0, 0), (1, 0))
    ).ravel()
    return found


# -------------------------------------------------------------------- the same numbers


def test_our_own_decoder_wrapped_has_the_same_numbers() -> None:
    """Log-probabilities and divergences, whole or in chunks; gradients are compared in rounds of MPO below."""
    plain, wrapped = policy(), own()
    other = bridge.init(CONFIG, jax.random.key(1))
    np.testing.assert_allclose(
        wrapped.log_probs(TOKENS, MASK, chunk=2), plain.log_probs(TOKENS, MASK), rtol=0, atol=1e-6
    )
    magnet = bridge.wrap(other, max_length=64, calls=OWN)
    expected = plain.compare(other, TOKENS, MASK)
    assert float(expected.divergence.max()) > 0.01
    for ours, theirs in zip(wrapped.compare(magnet, TOKENS, MASK), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("cached", [True, False])
def test_generation_draws_the_same_tokens_with_and_without_a_cache(cached: bool, caplog: Any) -> None:
    arguments: dict[str, Any] = {"key": KEY, "max_new_tokens": 5, "temperature": 0.7, "stop": [3]}
    expected = policy().generate([[1, 2, 0], [2], [2]], **arguments)
    own.cache_clear()
    with caplog.at_level(logging.WARNING):
        found = own(cached=cached).generate([[1, 2, 0], [2], [2]], **arguments)
    assert ("each new token of an answer is computed from all that precede it" in caplog.text) != cached
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    np.testing.assert_array_equal(found.mask, expected.mask)
    np.testing.assert_allclose(found.log_probs, expected.log_probs, rtol=0, atol=1e-6)


def test_two_rounds_of_mpo_are_the_same() -> None:
    """Draws, gradients, the magnet that moves and is exported, and divergences from it and from the start."""
    method = bridge.MPO(SumJudge(), magnet=mmd.MovingAverage(rate=0.3), decay_rounds=2, **SIZES)
    expected, found = (method.fit(each, PROMPTS, steps=2, key=KEY) for each in (policy(), own()))
    for ours, theirs in zip(found.history, expected.history, strict=True):
        assert theirs.keys() == ours.keys()
        np.testing.assert_allclose(list(ours.values()), list(theirs.values()), rtol=1e-4, atol=1e-6)
    start = policy().arrays()
    for name, array in expected.policy.arrays().items():
        assert float(jnp.abs(array - start[name]).max()) > 1e-3
        np.testing.assert_allclose(found.policy.arrays()[f"weights.{name}"], array, rtol=0, atol=1e-5)


@pytest.mark.parametrize("given", [tall, twenty])
def test_a_module_of_another_project_has_its_own_numbers(given: Any) -> None:
    """Each row alone, by calling the module; and so has what it was taken for when it is taken back."""
    wrapped = given()
    found = wrapped.log_probs(TOKENS, MASK)
    back = bridge.unwrap(wrapped)
    module = back[0].bind(back[1]) if isinstance(back, tuple) else back
    np.testing.assert_allclose(found, directly(module), rtol=0, atol=1e-5)
    if given is tall:
        np.testing.assert_allclose(found, directly(outside.tall()), rtol=0, atol=1e-5)
    answers = wrapped.generate([[1, 2, 0], [2]], key=KEY, max_new_tokens=6, stop=())
    rows = np.concatenate([[[1, 2, 0], [0, 0, 2]], answers.tokens], axis=1)
    mask = np.arange(9)[None] >= np.array([[0], [2]])
    np.testing.assert_allclose(answers.log_probs, wrapped.log_probs(rows, mask)[:, 3:], rtol=0, atol=1e-5)


def test_parameters_are_trained_and_nothing_else() -> None:
    """Tables and random states are the run's base; a module's low-rank parameters are trained alone."""
    wrapped = tall()
    state = bridge.MPO(SumJudge(), **SIZES).init(wrapped, KEY)
    assert {name.rpartition(".")[2] for name in state.base} == {"buffer_places", "buffer_count", "buffer_key"}
    assert {name for name in state.weights if name.startswith("layers.0")} == {
        *("layers.0.qkv", "layers.0.out", "layers.0.mlp.kernel", "layers.0.mlp.bias")
    }
    module = outside.tall()
    with jax.numpy_rank_promotion("allow"):
        module.layers[0].mlp = nnx.LoRA(16, 2, 16, base_module=module.layers[0].mlp, rngs=nnx.Rngs(3))
    adapted = bridge.wrap(module, max_length=64, calls=outside.CALLS)
    assert adapted.n_trained == 2 * 16 * 2
    np.testing.assert_allclose(adapted.log_probs(TOKENS, MASK), wrapped.log_probs(TOKENS, MASK), rtol=0, atol=1e-6)
    state = bridge.MPO(SumJudge(), magnet=mmd.Refresh(every=1), **SIZES).init(adapted, KEY)
    assert len(state.weights) == 2
    assert all(".lora_" in name for name in state.weights)
    assert {"layers.0.qkv", "layers.0.mlp.base_module.kernel"} <= set(state.base)


# -------------------------------------------------------------------- where it lies, what is kept


def test_weights_lie_as_the_metadata_says_and_compute_the_same() -> None:
    mesh = jax.make_mesh((2, 2), ("fsdp", "tp"), axis_types=(AxisType.Explicit,) * 2)
    divided = tall(mesh)
    array = divided.arrays()["layers.1.qkv"]
    assert array.sharding.spec == PartitionSpec("fsdp", "tp")
    assert array.addressable_shards[0].data.shape == (8, 24)
    found, expected = (METHOD.fit(each, PROMPTS, steps=1, key=KEY) for each in (divided, tall()))
    assert found.policy.arrays()["layers.1.qkv"].sharding.spec == PartitionSpec("fsdp", "tp")
    for name, array in expected.policy.arrays().items():
        np.testing.assert_allclose(found.policy.arrays()[name], array, rtol=0, atol=1e-4)
    renamed = bridge.wrap(
        outside.tall(),
        max_length=64,
        calls=outside.CALLS,
        mesh=jax.make_mesh((2,), ("tensor",), axis_types=(AxisType.Auto,)),
        rules={"tp": "tensor"},
        check=False,
    )
    assert renamed.arrays()["layers.1.qkv"].sharding.spec == PartitionSpec(None, "tensor")
    assert divided.on(None).arrays()["layers.1.qkv"].sharding.num_devices == 1
    with pytest.raises(bridge.BridgeError, match=r"layers.0.qkv \(16, 48\) is not divisible by 5 along fsdp"):
        tall().on(jax.make_mesh((5,), ("fsdp",), axis_types=(AxisType.Auto,)))


def test_weights_are_saved_and_restored(tmp_path: Path) -> None:
    """Bit for bit, where they belong, into a module that has no arrays yet; with the temperature."""
    mesh = jax.make_mesh((2, 2), ("fsdp", "tp"), axis_types=(AxisType.Auto,) * 2)
    warm = tall(mesh).with_temperature(1.5)
    bridge.save(warm, tmp_path / "out")
    empty = bridge.wrap(nnx.eval_shape(outside.tall), max_length=64, calls=outside.CALLS, mesh=mesh)
    found = bridge.restore(empty, tmp_path / "out")
    for name, array in warm.arrays().items():
        np.testing.assert_array_equal(found.arrays()[name], array)
        assert found.arrays()[name].sharding.spec == array.sharding.spec
    assert found.decoder.temperature == 1.5
    with pytest.raises(bridge.BridgeError, match="exists and is not empty"):
        bridge.save(warm, tmp_path / "out")
    with pytest.raises(bridge.BridgeError, match=r"has no params\.Dense_0\.bias, which Twenty has"):
        bridge.restore(twenty(), tmp_path / "out")
    (tmp_path / "out" / "module.json").unlink()
    with pytest.raises(bridge.BridgeError, match=r"has no module.json"):
        bridge.restore(empty, tmp_path / "out")
    again = pickle.loads(pickle.dumps(twenty()))
    np.testing.assert_array_equal(again.log_probs(TOKENS, MASK), twenty().log_probs(TOKENS, MASK))


def test_a_run_goes_on_from_its_checkpoint_bit_for_bit(tmp_path: Path) -> None:
    whole = METHOD.fit(tall(), PROMPTS, steps=2, key=KEY)
    first = METHOD.fit(tall(), PROMPTS, steps=1, key=KEY)
    states = RunState(tmp_path, {"method": "MPO"})
    states.save(1, first.state)
    found = states.restore(METHOD.init(tall(), KEY))
    assert found is not None
    second = METHOD.fit(tall(), PROMPTS, steps=2, key=KEY, state=found.state)
    for name, array in whole.policy.arrays().items():
        np.testing.assert_array_equal(second.policy.arrays()[name], array)


# -------------------------------------------------------------------- what is refused


def acausal(module: Any, tokens: Any, positions: Any, mask: Any) -> Any:
    return module(tokens, positions, None, jnp.broadcast_to(mask[:, None, :], (*mask.shape, mask.shape[1])))[0]


def blind(module: Any, tokens: Any, positions: Any, mask: Any) -> Any:
    return outside.logits(module, tokens, positions, jnp.ones_like(mask))


def stale(module: Any, tokens: Any, positions: Any, mask: Any, cache: Any, slot: Any) -> Any:
    return outside.step(module, tokens, positions * 0, mask, cache, slot)


def infinite(module: Any, tokens: Any, positions: Any, mask: Any) -> Any:
    return jnp.where(mask[..., None], outside.logits(module, tokens, positions, mask), jnp.nan)


WRONG: dict[str, tuple[Any, str]] = {
    "acausal": (bridge.Calls(logits=acausal), "Tall: a token's logits change with the token behind it"),
    "blind": (bridge.Calls(logits=blind), "Tall: logits change with padding before a row"),
    "stale": (dataclasses.replace(outside.CALLS, step=stale), "Tall: logits with its cache .* are others than without"),
    "infinite": (bridge.Calls(logits=infinite), "Tall: gives logits that are not finite"),
    "no calls": (bridge.Calls(), r"Tall: cannot be called as module\(tokens, positions, mask\) \(TypeError: "),
    "a pair": (
        bridge.Calls(logits=lambda m, *a: outside.logits(m, *a)[0]),
        "expected one array with axes for rows, tokens",
    ),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_module_that_is_no_language_model_is_refused(fault: str) -> None:
    calls, reason = WRONG[fault]
    with pytest.raises(bridge.BridgeError, match=reason) as refusal:
        bridge.wrap(outside.tall(), max_length=64, calls=calls)
    assert "\n" not in str(refusal.value)


def test_what_only_our_decoder_can_is_refused_in_a_sentence(tmp_path: Path) -> None:
    wrapped = twenty()
    for act in (
        lambda: bridge.add_adapter(wrapped, KEY, rank=2, alpha=4.0),
        lambda: bridge.merge(wrapped),
        lambda: adapters.save_adapter(wrapped, tmp_path / "a"),
        lambda: wrapped.with_compute(dtype="bfloat16"),
    ):
        with pytest.raises(bridge.BridgeError, match=r"the policy wraps a Twenty, which (brings|computes)"):
            act()
    with pytest.raises(
        bridge.BridgeError, match="expected an NNX module, or a Linen module with its variables, got Twenty"
    ):
        bridge.wrap(outside.Twenty(4), max_length=64)
    with pytest.raises(bridge.BridgeError, match="prefill and step belong together"):
        bridge.Calls(prefill=outside.prefill)
    with pytest.raises(bridge.BridgeError, match=r"expected a policy of bridge\.wrap, got Policy"):
        bridge.unwrap(policy())
    with pytest.raises(bridge.BridgeError, match="token 9 is not in the vocabulary of 4 tokens"):
        bridge.wrap(*outside.twenty(), max_length=64, stop_tokens=[9], check=False)
