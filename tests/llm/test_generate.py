"""Generation: greedy as transformers, log-probabilities as scoring has them, draws from what was asked for."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import llm_bridge as bridge
from llm_bridge.model import cpu_steps
from llm_bridge.policy import generate
from llm_bridge.policy.sampling import truncated
from tests.llm.cases import FAMILIES, N_NEW, config_of, prompts
from tests.llm.checkpoints import STORED, folder_of

CLEAR = 1e-4  # between the two largest logits; below it rounding decides


def scored(policy: bridge.Policy, given: list[np.ndarray], found: bridge.Generation) -> np.ndarray:
    """Log-probabilities of generated tokens by a forward pass without a cache."""
    length = max(len(prompt) for prompt in given) + found.tokens.shape[1]
    tokens, mask = np.zeros((len(given), length), np.int32), np.zeros((len(given), length), bool)
    for i, prompt in enumerate(given):
        whole = np.concatenate([prompt, np.asarray(found.tokens[i])[np.asarray(found.mask[i])]])
        tokens[i, : len(whole)], mask[i, : len(whole)] = whole, True
    log_probs = np.asarray(policy.log_probs(tokens, mask))
    out = np.zeros(found.tokens.shape, np.float32)
    for i, prompt in enumerate(given):
        n = int(found.mask[i].sum())
        out[i, :n] = log_probs[i, len(prompt) : len(prompt) + n]
    return out


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_is_that_of_transformers_and_the_cache_changes_nothing(family: str, root: Path) -> None:
    policy = bridge.load(folder_of(root, family))
    given = prompts(family)
    found = policy.generate(given, max_new_tokens=N_NEW, temperature=0.0, stop=())
    theirs, gaps = STORED[f"{family}/greedy"], STORED[f"{family}/gaps"]
    same = np.asarray(found.tokens) == theirs
    first = np.where(same.all(axis=1), N_NEW - 1, np.argmin(same, axis=1))
    for i in np.flatnonzero(~same.all(axis=1)):
        assert gaps[i, first[i]] <= CLEAR, f"prompt {i} differs at token {first[i]}, gap {gaps[i, first[i]]}"
    assert same.all(axis=1).mean() > 0.9
    assert found.mask.all()
    np.testing.assert_allclose(found.log_probs, scored(policy, given, found), atol=1e-5, rtol=0)
    np.testing.assert_allclose(found.sampling_log_probs, 0, atol=0, rtol=0)


@pytest.fixture(scope="module")
def policy(root: Path) -> bridge.Policy:
    return bridge.load(folder_of(root, "llama_tied_head_dim"))


def test_log_probs_are_of_the_whole_distribution_and_sampling_ones_of_the_one_drawn_from(
    policy: bridge.Policy, key: jax.Array
) -> None:
    given = prompts("llama")[:4]
    found = policy.generate(given, key=key, max_new_tokens=6, temperature=0.7, top_k=5, top_p=0.9, stop=())
    np.testing.assert_allclose(found.log_probs, scored(policy, given, found), atol=1e-5, rtol=0)
    for i, prompt in enumerate(given):
        row = np.concatenate([prompt, np.asarray(found.tokens[i])])
        logits = logits_of(policy, row)[len(prompt) - 1 : -1] / 0.7
        for t, line in enumerate(logits):
            order = np.argsort(-line)[:5]
            shares = np.exp(line[order] - line[order].max())
            shares /= shares.sum()
            kept = order[: int(np.searchsorted(np.cumsum(shares), 0.9)) + 1]
            token = int(found.tokens[i, t])
            assert token in kept
            expected = line[token] - np.log(np.exp(line[kept]).sum())
            np.testing.assert_allclose(found.sampling_log_probs[i, t], expected, atol=1e-5, rtol=0)


@partial(jax.jit, static_argnums=0)
def every_logit(decoder: Any, weights: dict[str, jax.Array], tokens: np.ndarray, mask: np.ndarray) -> jax.Array:
    return decoder.logits(weights, decoder.hidden(weights, tokens, mask))


def logits_of(policy: bridge.Policy, row: np.ndarray) -> np.ndarray:
    tokens, mask = np.zeros((1, 64), np.int32), np.arange(64)[None] < len(row)
    tokens[0, : len(row)] = row
    return np.asarray(every_logit(policy.decoder, policy.arrays(), tokens, mask)[0, : len(row)], np.float64)


def test_draws_have_their_probabilities(policy: bridge.Policy, key: jax.Array) -> None:
    """Of 4,096 first tokens, the share of each is within four standard errors of its probability."""
    prompt, n = prompts("llama")[0], 4096
    found = policy.generate([prompt] * n, key=key, max_new_tokens=1, temperature=1.3, stop=())
    probabilities = np.asarray(jax.nn.softmax(logits_of(policy, prompt)[-1] / 1.3))
    shares = np.bincount(np.asarray(found.tokens)[:, 0], minlength=len(probabilities)) / n
    errors = np.sqrt(probabilities * (1 - probabilities) / n)
    assert np.abs(shares - probabilities).max() <= (4 * errors + 1 / n).max()
    assert (np.abs(shares - probabilities) <= 4 * errors + 1 / n).all()


def test_a_step_is_the_same_scanned_apart_and_turned(policy: bridge.Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other devices scan the layers, this one takes few of them apart; large matrices meet few rows turned."""
    given, few = prompts("llama")[:4], cpu_steps.FEW_LAYERS
    expected = policy.generate(given, max_new_tokens=6, temperature=0.0, stop=())
    for unroll, layers, entries in ((2, 0, cpu_steps.LARGE_MATRIX), (3, few, 0)):
        monkeypatch.setattr(cpu_steps, "FEW_LAYERS", layers)
        monkeypatch.setattr(cpu_steps, "LARGE_MATRIX", entries)
        other = policy.with_compute(unroll=unroll)  # which compiles anew
        found = other.generate(given, max_new_tokens=6, temperature=0.0, stop=())
        np.testing.assert_array_equal(found.tokens, expected.tokens)
        np.testing.assert_allclose(found.log_probs, expected.log_probs, atol=1e-5, rtol=0)


def test_a_row_draws_the_same_in_any_batch_and_bucket(policy: bridge.Policy, key: jax.Array) -> None:
    given = prompts("llama")
    many = policy.generate(given[:5], key=key, max_new_tokens=9, stop=())
    few = policy.generate(given[:2], key=key, max_new_tokens=20, stop=())
    np.testing.assert_array_equal(many.tokens[:2], few.tokens[:, :9])
    other = policy.generate(given[:2], key=jax.random.key(1), max_new_tokens=9, stop=())
    assert (np.asarray(other.tokens) != np.asarray(many.tokens[:2])).any()


def test_rows_of_one_prompt_share_its_reading_and_draw_what_they_would_alone(
    policy: bridge.Policy, key: jax.Array
) -> None:
    one, two, three = prompts("llama")[:3]
    together, alone = [one, one, two, two], [one, one, two, two, three]
    assert [generate.copies_of(rows, 1) for rows in (together, alone, [one] * 6, [one, one, two, two, two, two])] == [
        *(2, 1, 6, 2)
    ]
    assert [generate.copies_of([one, one, two, two], shares) for shares in (2, 4)] == [2, 1]
    found, expected = (policy.generate(rows, key=key, max_new_tokens=8, stop=()) for rows in (together, alone))
    np.testing.assert_array_equal(found.tokens, expected.tokens[:4])
    np.testing.assert_allclose(found.log_probs, expected.log_probs[:4], atol=1e-5, rtol=0)
    assert (np.asarray(found.tokens[0]) != np.asarray(found.tokens[1])).any()


def test_a_policys_temperature_is_a_part_of_all_that_it_says(
    policy: bridge.Policy, key: jax.Array, tmp_path: Path
) -> None:
    """It draws what the plain policy draws at that temperature, and says the log-probabilities of the draws."""
    given, warm = prompts("llama")[:3], policy.with_temperature(1.7)
    found = warm.generate(given, key=key, max_new_tokens=5, stop=())
    plain = policy.generate(given, key=key, max_new_tokens=5, temperature=1.7, stop=())
    np.testing.assert_array_equal(found.tokens, plain.tokens)
    np.testing.assert_allclose(found.log_probs, plain.sampling_log_probs, atol=1e-6, rtol=0)
    np.testing.assert_allclose(found.log_probs, scored(warm, given, found), atol=1e-5, rtol=0)
    assert np.abs(np.asarray(found.log_probs) - np.asarray(plain.log_probs)).max() > 0.1
    folder = bridge.save(warm, tmp_path / "warm")
    settings = json.loads((folder / "generation_config.json").read_text())
    assert (settings["temperature"], settings["do_sample"], settings["eos_token_id"]) == (1.7, True, 2)
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(bridge.BridgeError, match=r"expected temperature .*, got "):
            policy.with_temperature(wrong)


def test_rows_end_at_a_stop_token_or_sequence_and_the_loop_with_the_last_row(policy: bridge.Policy) -> None:
    given = prompts("llama")[:6]
    free = policy.generate(given, max_new_tokens=12, temperature=0.0, stop=())
    tokens = np.asarray(free.tokens)
    one, two = int(tokens[0, 3]), [int(token) for token in tokens[1, 4:6]]
    found = policy.generate(given, max_new_tokens=12, temperature=0.0, stop=[one, two])
    for i, row in enumerate(tokens):
        ends = [t for t in range(12) if row[t] == one or (t and list(row[t - 1 : t + 1]) == two)]
        n = ends[0] + 1 if ends else 12
        np.testing.assert_array_equal(found.mask[i], np.arange(12) < n)
        np.testing.assert_array_equal(found.tokens[i, :n], row[:n])
        assert not np.asarray(found.tokens[i, n:]).any()
        assert not np.asarray(found.log_probs[i, n:]).any()


def test_lengths_and_settings_of_a_bucket_share_one_program(policy: bridge.Policy, key: jax.Array) -> None:
    before = generate.run._cache_size()
    for n, temperature, new in ((1, 0.5, 3), (9, 1.5, 16), (16, 1.0, 7)):
        policy.generate([np.full(n, 5)] * 2, key=key, max_new_tokens=new, temperature=temperature)
    assert generate.run._cache_size() == before + 1


def test_top_p_keeps_the_fewest_tokens_that_reach_it() -> None:
    logits = jnp.log(jnp.asarray([[0.1, 0.4, 0.2, 0.3]], jnp.float32))

    def kept(k: int, p: float) -> list[bool]:
        return np.isfinite(truncated(logits, jnp.asarray(k, jnp.int32), jnp.asarray(p, jnp.float32)))[0].tolist()

    assert kept(4, 0.69) == [False, True, False, True]
    assert kept(4, 0.71) == [False, True, True, True]
    assert kept(2, 0.5) == [False, True, False, False]  # 0.4 / 0.7 is enough after top-k
    assert kept(3, 1.0) == [False, True, True, True]


@pytest.mark.parametrize(
    ("given", "settings", "words"),
    [
        ([], {}, "at least one prompt"),
        ([[]], {}, "a token in each"),
        ([[5] * 60], {}, "exceed the context of 64"),
        ([[5, 101]], {}, "token 101 is not in the vocabulary"),
        ([[5]], {"temperature": -1.0}, "temperature >= 0"),
        ([[5]], {"top_k": 0}, "top_k >= 1"),
        ([[5]], {"top_p": 1.5}, "top_p <= 1"),
        ([[5]], {"max_new_tokens": 0}, "max_new_tokens >= 1"),
        ([[5]], {"stop": ["\n"]}, "encode text"),
        ([[5]], {"temperature": 1.0, "key": None}, "expected a key"),
    ],
)
def test_bad_input_is_one_sentence(
    policy: bridge.Policy, key: jax.Array, given: list, settings: dict, words: str
) -> None:
    with pytest.raises(bridge.BridgeError, match=words) as caught:
        policy.generate(given, **{"key": key, "max_new_tokens": 8} | settings)
    assert "\n" not in str(caught.value)


def test_dynamic_rotations_are_refused_where_a_cache_would_be_wrong() -> None:
    policy = bridge.init(config_of("llama_dynamic"), jax.random.key(0))
    with pytest.raises(bridge.BridgeError, match="context of 20 that can be generated"):
        policy.generate([[3] * 15], max_new_tokens=6, temperature=0.0)
