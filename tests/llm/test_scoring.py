"""The divergence is the exact one; nothing as large as [B, T, V] is kept; training reaches its optimum."""

import re
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import llm_bridge as bridge
from llm_bridge.model import attention
from llm_bridge.policy import scoring
from tests.llm.cases import rows
from tests.llm.checkpoints import folder_of, padded


@pytest.fixture(scope="module")
def pair(root: Path) -> tuple[bridge.Policy, bridge.Policy]:
    return bridge.load(folder_of(root, "llama")), bridge.load(folder_of(root, "llama_biases"))


@pytest.fixture(scope="module")
def batch() -> tuple[np.ndarray, np.ndarray]:
    return padded([row[:12] for row in rows("llama")], [0, 3, 1], 15)


def log_softmax(policy: bridge.Policy, tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Of every prefix, [B, T, V], in float64."""

    @jax.jit
    def every_logit(weights: dict[str, jax.Array]) -> jax.Array:
        return policy.decoder.logits(weights, policy.decoder.hidden(weights, jnp.asarray(tokens), jnp.asarray(mask)))

    logits = np.asarray(every_logit(policy.arrays()), np.float64)
    logits -= logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def test_the_divergence_is_the_sum_over_the_vocabulary(
    pair: tuple[bridge.Policy, bridge.Policy], batch: tuple[np.ndarray, np.ndarray]
) -> None:
    policy, magnet = pair
    tokens, mask = batch
    found = policy.compare(magnet, tokens, mask, chunk=4)
    ours, theirs = log_softmax(policy, tokens, mask), log_softmax(magnet, tokens, mask)
    expected = np.zeros(tokens.shape)
    expected[:, 1:] = (np.exp(ours) * (ours - theirs)).sum(axis=-1)[:, :-1]
    expected[:, 1:][~(mask[:, 1:] & mask[:, :-1])] = 0
    assert expected.max() > 0.1
    np.testing.assert_allclose(found.divergence, expected, atol=2e-5, rtol=0)
    np.testing.assert_allclose(found.log_probs, policy.log_probs(tokens, mask), atol=1e-6, rtol=0)
    np.testing.assert_allclose(found.magnet_log_probs, magnet.log_probs(tokens, mask), atol=1e-6, rtol=0)


def test_equal_policies_have_divergence_zero(
    pair: tuple[bridge.Policy, bridge.Policy], batch: tuple[np.ndarray, np.ndarray]
) -> None:
    found = pair[0].compare(pair[0].copy(), *batch)
    np.testing.assert_allclose(found.divergence, 0, atol=1e-6, rtol=0)
    np.testing.assert_allclose(found.log_probs, found.magnet_log_probs, atol=1e-5, rtol=0)


def test_chunks_and_remat_do_not_change_gradients(
    pair: tuple[bridge.Policy, bridge.Policy], batch: tuple[np.ndarray, np.ndarray]
) -> None:
    policy, magnet = pair

    def loss(policy: bridge.Policy, chunk: int) -> jax.Array:
        found = policy.compare(magnet, *batch, chunk=chunk)
        return jnp.mean(found.divergence) - jnp.mean(found.log_probs)

    plain = nnx.grad(loss)(policy, 14)
    for other, chunk in ((policy.with_compute(remat="layer"), 5), (policy.with_compute(remat="projections"), 5)):
        again = nnx.grad(loss)(other, chunk)
        for one, two in zip(jax.tree.leaves(plain), jax.tree.leaves(again), strict=True):
            scale = np.abs(np.asarray(one)).max()
            np.testing.assert_allclose(one, two, atol=1e-5 * max(scale, 1.0), rtol=0)


def test_nothing_as_large_as_all_logits_is_ever_made(pair: tuple[bridge.Policy, bridge.Policy]) -> None:
    policy, _ = pair
    tokens, mask = jnp.ones((3, 41), jnp.int32), jnp.ones((3, 41), bool)

    def loss(weights: dict, chunk: int) -> jax.Array:
        return scoring.log_probs(policy.decoder, weights, tokens, mask, chunk).sum()

    def sizes(chunk: int) -> set[int]:
        text = jax.jit(jax.grad(loss), static_argnums=1).lower(policy.arrays(), chunk).as_text()
        shapes = re.findall(r"tensor<([\dx]+)xf32>", text)
        return {int(np.prod([int(n) for n in shape.split("x")])) for shape in shapes if shape.endswith("x101")}

    all_logits = 3 * 40 * 101
    assert all_logits in sizes(40)
    assert max(sizes(8)) < all_logits / 2


def test_ascent_on_log_probs_learns_the_tokens(root: Path) -> None:
    """Nothing but the optimum explains that every token becomes almost certain."""
    policy = bridge.load(folder_of(root, "llama"))
    tokens, mask = padded([rows("llama")[2]] * 2, [0, 0], 12)
    optimizer = nnx.Optimizer(policy, optax.adam(1e-2), wrt=nnx.Param)

    @nnx.jit
    def step(policy: bridge.Policy, optimizer: nnx.Optimizer) -> jax.Array:
        loss, grads = nnx.value_and_grad(lambda p: -p.log_probs(tokens, mask).sum())(policy)
        optimizer.update(policy, grads)
        return loss

    with jax.numpy_dtype_promotion("standard"):  # optax raises floats to integer powers
        losses = [float(step(policy, optimizer)) for _ in range(60)]
    assert losses[-1] < 0.1 < 10 < losses[0]


@pytest.mark.parametrize("side", ["left", "right"])
def test_fused_attention_is_the_plain_one(side: str, key: jax.Array) -> None:
    """Through `jax.nn.dot_product_attention`, on the backend that is here."""
    keys = jax.random.split(key, 3)
    query = jax.random.normal(keys[0], (2, 9, 2, 3, 8), jnp.float32)
    key_, value = (jax.random.normal(k, (2, 2, 9, 8), jnp.float32) for k in keys[1:])
    real = jnp.asarray([[True] * 9, [True] * 6 + [False] * 3])
    real = real if side == "right" else real[:, ::-1]

    @jax.jit
    def both(query: jax.Array, key_: jax.Array, value: jax.Array) -> tuple[jax.Array, jax.Array]:
        positions = jnp.maximum(jnp.cumsum(real, axis=1, dtype=jnp.int32) - 1, 0)
        allowed = attention.visible(positions, positions, real)
        allowed = allowed & attention.within(jnp.asarray(4, jnp.int32), positions, positions)
        plain = attention.attend(query, key_, value, allowed, 0.3, None)
        return plain, attention.attend_fused(query, key_, value, allowed, 0.3, "xla")

    plain, fused = both(query, key_, value)
    np.testing.assert_allclose(fused[np.asarray(real)], plain[np.asarray(real)], atol=1e-6, rtol=0)


def test_the_form_of_attention_follows_the_backend() -> None:
    half = jnp.dtype("bfloat16")
    assert attention.chosen("auto", "gpu", half, None, 128) == "cudnn"
    assert attention.chosen("auto", "gpu", jnp.dtype("float32"), None, 128) == "plain"
    assert attention.chosen("auto", "gpu", half, None, 256) == "plain"
    assert attention.chosen("auto", "tpu", half, None, 128) == "splash"
    assert attention.chosen("auto", "tpu", jnp.dtype("float32"), 50.0, 64) == "splash"
    assert attention.chosen("plain", "tpu", half, None, 128) == "plain"
    assert attention.chosen("cudnn", "gpu", half, 50.0, 128) == "plain"


@pytest.mark.parametrize(
    ("tokens", "words"),
    [([[3, 101]], "token 101 is not in the vocabulary"), ([[3] * 65], "65 tokens, more than the context of 64")],
)
def test_rows_that_cannot_be_scored(
    pair: tuple[bridge.Policy, bridge.Policy], tokens: list[list[int]], words: str
) -> None:
    with pytest.raises(bridge.BridgeError, match=words):
        pair[0].log_probs(np.array(tokens), np.ones_like(tokens, bool))


@pytest.mark.parametrize("case", ["mistral", "gpt2"])  # windows and rotations; learned positions
@pytest.mark.parametrize("scale", [0.0, 1.0])  # of an adapter: a prompt and its answers at once, or one after the other
def test_answers_that_share_their_prompt_are_scored_as_whole_rows_are(case: str, scale: float, root: Path) -> None:
    """And have the same gradient: that of the prompt is the sum over its answers."""
    policy, before, after, group = bridge.load(folder_of(root, case)), 10, 5, 3
    decoder = replace(policy.decoder, adapter_scale=scale)
    rng = np.random.default_rng(4)
    prompts = [rng.integers(3, 97, n) for n in (10, 4)]
    answers = [rng.integers(3, 97, n) for n in (5, 1, 3, 2, 5, 4)]
    tokens, mask = np.zeros((6, before + after), np.int32), np.zeros((6, before + after), bool)
    for i, answer in enumerate(answers):
        whole = np.concatenate([prompts[i // group], answer])
        first = before - len(prompts[i // group])
        tokens[i, first : first + len(whole)], mask[i, first : first + len(whole)] = whole, True
    batch, weight = (
        (jnp.asarray(tokens), jnp.asarray(mask)),
        jnp.asarray(mask[:, before:] * rng.normal(size=(6, after)), jnp.float32),
    )

    @jax.jit
    @jax.value_and_grad
    def shared(weights: dict) -> jax.Array:
        hidden = scoring.activations(decoder, weights, batch, after, group)
        return jnp.sum(weight * scoring.scores(decoder, weights, hidden, batch[0][:, before:], 2))

    @jax.jit
    @jax.value_and_grad
    def whole_rows(weights: dict) -> jax.Array:
        return jnp.sum(weight * scoring.log_probs(policy.decoder, weights, *batch, 20)[:, before:])

    (one, gradient), (other, expected) = shared(policy.arrays()), whole_rows(policy.arrays())
    np.testing.assert_allclose(one, other, rtol=0, atol=2e-5)
    for name, array in expected.items():
        np.testing.assert_allclose(gradient[name], array, rtol=0, atol=2e-5 * max(1, float(jnp.abs(array).max())))
