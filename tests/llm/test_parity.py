"""Log-probabilities are those of torch transformers, for every family and every way in which they differ.

Golden values come from `make_golden.py`, each row scored alone, without padding, without a cache, in float32.
"""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import llm_bridge as bridge
from llm_bridge.model import families
from tests.llm.cases import CASES, FAMILIES, rows
from tests.llm.checkpoints import STORED, folder_of, padded, real


def test_every_family_is_there() -> None:
    assert set(families.names()) == set(FAMILIES)
    assert len(CASES) >= 30


@pytest.mark.parametrize("case", CASES)
def test_log_probs_are_those_of_transformers_wherever_the_padding_is(case: str, root: Path) -> None:
    policy = bridge.load(folder_of(root, case))
    tokens, mask = padded(rows(case) * 3, [0, 0, 0, 3, 10, 31, 2, 4, 9], 43)
    ours = policy.log_probs(tokens, mask)
    assert ours.dtype == jnp.float32
    right, left, middle = (real(ours[i : i + 3], mask[i : i + 3]) for i in (0, 3, 6))
    np.testing.assert_allclose(right, STORED[f"{case}/log_probs"], atol=2e-5, rtol=0)
    np.testing.assert_allclose(left, right, atol=1e-5, rtol=0)
    np.testing.assert_allclose(middle, right, atol=1e-5, rtol=0)


@pytest.mark.parametrize("case", ["llama", "gemma2", "qwen3_moe", "gpt2", "smollm3_windows", "llama_dynamic"])
def test_alone_unrolled_and_in_chunks_is_the_same(case: str, root: Path) -> None:
    policy = bridge.load(folder_of(root, case))
    tokens, mask = padded([rows(case)[i] for i in (2, 1, 0, 2, 1, 1, 0, 2)], [28, 0, 0, 0, 1, 7, 0, 2], 40)
    among = np.asarray(policy.log_probs(tokens, mask))[1:2]
    unrolled = policy.with_compute(unroll=policy.architecture.n_layers)
    alone = np.asarray(unrolled.log_probs(tokens[1:2], mask[1:2], chunk=7))
    np.testing.assert_allclose(among, alone, atol=1e-5, rtol=0)


def test_bfloat16_is_as_close_to_the_truth_as_torch_in_bfloat16(root: Path) -> None:
    """No family is off by more than half again torch's own noise, and on average they are equal to 10 %."""
    ratios = []
    for case in ("llama", "gemma2", "gpt2", "qwen2", "olmo2"):
        truth, theirs = STORED[f"{case}/log_probs"], STORED[f"{case}/bfloat16"]
        tokens, mask = padded(rows(case), [0, 0, 0], 40)
        ours = bridge.load(folder_of(root, case), dtype="bfloat16").log_probs(tokens, mask)
        assert ours.dtype == jnp.float32
        ratios.append(np.std(real(ours, mask) - truth) / np.std(theirs - truth))
    assert max(ratios) <= 1.5, ratios
    assert np.exp(np.mean(np.log(ratios))) <= 1.1, ratios
