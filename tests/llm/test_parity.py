"""Log-probabilities are those of torch transformers, for every family and every way in which they differ.

Golden values come from `make_golden.py`, each row scored alone, without padding, without a cache, in float32.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import llm_bridge as bridge
from llm_bridge import models
from tests.llm.cases import CASES, FAMILIES, rows, write

GOLDEN = Path(__file__).parent
MANIFEST = json.loads((GOLDEN / "golden.json").read_text("utf-8"))
STORED = np.load(GOLDEN / "golden.npz")


def padded(sequences: list[np.ndarray], before: list[int], length: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of one length, each begun after some padding."""
    tokens, mask = np.zeros((len(sequences), length), np.int32), np.zeros((len(sequences), length), bool)
    for i, (row, start) in enumerate(zip(sequences, before, strict=True)):
        tokens[i, start : start + len(row)], mask[i, start : start + len(row)] = row, True
    return tokens, mask


def real(log_probs: jax.Array, mask: np.ndarray) -> np.ndarray:
    """Without padding and first tokens, as golden values are stored."""
    predicted = mask & (np.cumsum(mask, axis=1) > 1)
    assert not np.asarray(log_probs)[~predicted].any()
    return np.asarray(log_probs)[predicted]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("checkpoints")
    return {case: root / case for case in CASES}


def loaded(folders: dict[str, Path], case: str, **options: object) -> bridge.Policy:
    folder = folders[case]
    if not folder.exists():
        write(folder, case, {name: tuple(shape) for name, shape in MANIFEST[case].items()})
    return bridge.load(folder, **options)


def test_every_family_is_there() -> None:
    assert set(models.names()) == set(FAMILIES)
    assert len(CASES) >= 30


@pytest.mark.parametrize("case", CASES)
def test_log_probs_are_those_of_transformers_wherever_the_padding_is(case: str, folders: dict[str, Path]) -> None:
    policy = loaded(folders, case)
    tokens, mask = padded(rows(case) * 3, [0, 0, 0, 3, 10, 31, 2, 4, 9], 43)
    ours = policy.log_probs(tokens, mask)
    assert ours.dtype == jnp.float32
    right, left, middle = (real(ours[i : i + 3], mask[i : i + 3]) for i in (0, 3, 6))
    np.testing.assert_allclose(right, STORED[f"{case}/log_probs"], atol=2e-5, rtol=0)
    np.testing.assert_allclose(left, right, atol=1e-5, rtol=0)
    np.testing.assert_allclose(middle, right, atol=1e-5, rtol=0)


@pytest.mark.parametrize("case", ["llama", "gemma2", "qwen3_moe", "gpt2", "smollm3_windows", "llama_dynamic"])
def test_alone_unrolled_and_in_chunks_is_the_same(case: str, folders: dict[str, Path]) -> None:
    policy = loaded(folders, case)
    tokens, mask = padded([rows(case)[i] for i in (2, 1, 0, 2, 1, 1, 0, 2)], [28, 0, 0, 0, 1, 7, 0, 2], 40)
    among = np.asarray(policy.log_probs(tokens, mask))[1:2]
    unrolled = policy.with_compute(unroll=policy.architecture.n_layers)
    alone = np.asarray(unrolled.log_probs(tokens[1:2], mask[1:2], chunk=7))
    np.testing.assert_allclose(among, alone, atol=1e-5, rtol=0)


def test_bfloat16_is_as_close_to_the_truth_as_torch_in_bfloat16(folders: dict[str, Path]) -> None:
    """No family is off by more than half again torch's own noise, and on average they are equal to 10 %."""
    ratios = []
    for case in ("llama", "gemma2", "gpt2", "qwen2", "olmo2"):
        truth, theirs = STORED[f"{case}/log_probs"], STORED[f"{case}/bfloat16"]
        tokens, mask = padded(rows(case), [0, 0, 0], 40)
        ours = loaded(folders, case, dtype="bfloat16").log_probs(tokens, mask)
        assert ours.dtype == jnp.float32
        ratios.append(np.std(real(ours, mask) - truth) / np.std(theirs - truth))
    assert max(ratios) <= 1.5, ratios
    assert np.exp(np.mean(np.log(ratios))) <= 1.1, ratios
