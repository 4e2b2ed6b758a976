"""What a policy is given: padding that does not matter, and bad input in one sentence."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import llm_bridge as bridge
from llm_bridge.policy.generate import stop_table
from llm_bridge.policy.policy import check_sampling
from llm_bridge.policy.sampling import ended
from tests.llm.games import CONFIG, policy

ONES = np.ones((1, 3), bool)
KEY = jax.random.key(0)
SHORT = {"model_type": "gpt2", "n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 4, "n_positions": 2}


def test_what_stands_at_padding_does_not_matter_even_if_it_is_no_token() -> None:
    tokens, mask = np.array([[1, 2, 0, 3]]), np.array([[1, 1, 1, 0]])
    expected = np.asarray(policy().log_probs(tokens, mask))
    traced = jax.jit(lambda tokens: policy().log_probs(tokens, mask))
    for other in (-100, 4, 128_256):
        given = np.where(mask, tokens, other)
        np.testing.assert_array_equal(policy().log_probs(given, mask), expected)
        np.testing.assert_allclose(traced(given), expected, rtol=0, atol=1e-6)


def test_a_policy_is_printed_on_a_line() -> None:
    """With the numbers that tell one from another; an adapter of rank 2 of q and v: 2 x (16 x 2 + 2 x 16) numbers."""
    adapted = bridge.add_adapter(policy(), KEY, rank=2, alpha=2.0, targets=("query", "value"))
    numbers = sum(array.size for array in policy().arrays().values())
    for one, words in (
        (policy(), f"Policy(llama, {numbers:,} weights in float32, 1 layers of width 16, vocabulary 4, context 64, on"),
        (adapted, f"Policy(llama, {numbers + 128:,} weights in float32, 128 of an adapter, 1 layers"),
    ):
        assert str(one) == repr(one)
        assert repr(one).startswith(words)
        assert "\n" not in repr(one)


def test_a_row_of_one_token_has_nothing_to_predict() -> None:
    assert np.asarray(policy().log_probs([[1], [2]], np.ones((2, 1)))).tolist() == [[0.0], [0.0]]
    assert not np.any(policy().compare(policy(), [[1]], [[1]]))


SCORED: dict[str, tuple[Any, Any]] = {
    "a mask with a hole": ([[1, 0, 2]], [[1, 0, 1]]),
    "token 4294967297 is not in the vocabulary of 4": (np.array([[1, 2**32 + 1, 2]]), ONES),
    "integers, got an array of float64": ([[1, 2.5, 3]], ONES),
    "rows of different lengths; pad them": ([[1, 2, 3], [1]], ONES),
    "integers, got an array of <U5": ("hello", ONES),
    "that holds something, got (0, 3) and (0, 3)": (np.zeros((0, 3), int), np.zeros((0, 3))),
}


@pytest.mark.parametrize("words", SCORED)
def test_what_cannot_be_scored_is_refused(words: str) -> None:
    with pytest.raises(bridge.BridgeError) as refusal:
        policy().log_probs(*SCORED[words])
    assert words in str(refusal.value)


def test_a_magnet_has_a_context_and_a_mesh_too() -> None:
    magnet = bridge.init(SHORT, KEY)
    with pytest.raises(bridge.BridgeError, match="3 tokens, more than the context of 2"):
        policy().compare(magnet, [[1, 2, 3]], ONES)
    with pytest.raises(bridge.BridgeError, match="to be a policy, got str"):
        policy().compare("magnet", [[1, 2, 3]], ONES)
    elsewhere = bridge.init(CONFIG, KEY, mesh=jax.make_mesh((2,), ("data",)))
    with pytest.raises(bridge.BridgeError, match="on the policy's mesh"):
        policy().compare(elsewhere, [[1, 2, 3]], ONES)
    with pytest.raises(bridge.BridgeError, match="chunk to be a number of tokens >= 1, got -1"):
        policy().log_probs([[1, 2, 3]], ONES, chunk=-1)


GENERATED: dict[str, dict[str, Any]] = {
    "such as [[1, 5, 9]]": {"prompts": [1, 2]},
    "each a list of token ids, got str": {"prompts": "hello"},
    "encode text with bridge.Tokenizer": {"prompts": ["hello"]},
    "got NoneType": {"prompts": None},
    "integers, got an array of float64": {"prompts": [[1.5, 2.0]]},
    "top_p <= 1 or None, got nan": {"top_p": float("nan")},
    "sequences of them, got 5": {"stop": 5},
    "of the vocabulary of 4, got [9]": {"stop": [9]},
    "got int ()": {"key": 0},
    "got PRNGKeyArray (3,)": {"key": jax.random.split(KEY, 3)},
}


@pytest.mark.parametrize("words", GENERATED)
def test_what_cannot_be_generated_is_refused(words: str) -> None:
    given = {"prompts": [[1, 2]], "key": KEY, "max_new_tokens": 2} | GENERATED[words]
    with pytest.raises(bridge.BridgeError) as refusal:
        policy().generate(given.pop("prompts"), **given)
    assert words in str(refusal.value)


def test_settings_of_the_wrong_type_are_refused() -> None:
    for given, words in (
        (("hot", None, None), "temperature to be a number >= 0, got 'hot'"),
        ((1.0, 2.5, None), "top_k to be an integer >= 1 or None"),
    ):
        with pytest.raises(bridge.BridgeError, match=words):
            check_sampling(*given, KEY)
    with pytest.raises(bridge.BridgeError, match=r"an integer max_new_tokens >= 1, got 4\.0"):
        policy().check_prompts([[1]], 4.0)


def test_generate_inside_jit_says_so() -> None:
    with pytest.raises(bridge.BridgeError, match="outside of jit"):
        jax.jit(lambda key: policy().generate([[1]], key=key, max_new_tokens=2).tokens)(KEY)


def test_weights_that_are_broken_are_named_instead_of_drawn_from() -> None:
    fine = policy()
    broken = bridge.Policy(
        fine.decoder, fine.arrays() | {"head": fine.arrays()["head"].at[0, 1].set(jnp.nan)}, fine.origin
    )
    for call in (
        lambda: broken.generate([[1, 2]], key=KEY, max_new_tokens=2),
        lambda: broken.log_probs([[1, 2, 3]], ONES),
        lambda: fine.compare(broken, [[1, 2, 3]], ONES),
    ):
        with pytest.raises(bridge.BridgeError, match=r"the llama policy: gives log-probabilities that are not numbers"):
            call()
    traced = jax.jit(lambda tokens: broken.log_probs(tokens, ONES))(np.array([[1, 2, 3]]))
    assert np.isnan(traced).any()  # where values are not known, they are not looked at


COMPUTE = {
    "unroll to be a number of layers >= 1, got 0": {"unroll": 0},
    "a dtype among float32, bfloat16, float16, got 'int8'": {"dtype": "int8"},
    "'cudnn' needs a GPU and the policy is on a cpu": {"attention": "cudnn"},
}


@pytest.mark.parametrize("words", COMPUTE)
def test_a_way_to_compute_that_there_is_not(words: str) -> None:
    with pytest.raises(bridge.BridgeError) as refusal:
        policy().with_compute(**COMPUTE[words])
    assert words in str(refusal.value)
    assert policy().with_compute(dtype=jnp.bfloat16).decoder.compute.dtype == "bfloat16"


def test_stop_sequences_fill_tables_of_few_sizes_and_empty_lines_match_nothing() -> None:
    recent = jnp.array([[3, 1, 2], [1, 2, 3], [0, 0, 0]], jnp.int32)
    for stop, expected in (([], [0, 0, 0]), ([2], [1, 0, 0]), ([3, [1, 2]], [1, 1, 0]), ([[3, 1, 2]], [1, 0, 0])):
        table = stop_table(stop, 4)
        assert table.shape[0] == 4  # one to four sequences share a program
        assert ended(recent[:, -table.shape[1] :], jnp.asarray(table)).tolist() == [bool(one) for one in expected]
