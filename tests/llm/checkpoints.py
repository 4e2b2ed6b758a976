"""The checkpoints of `cases.py` on disk, and the golden values that belong to them."""

import json
from pathlib import Path

import numpy as np

from tests.llm.cases import write

HERE = Path(__file__).parent
MANIFEST = json.loads((HERE / "golden.json").read_text("utf-8"))
STORED = np.load(HERE / "golden.npz")


def shapes(case: str) -> dict[str, tuple[int, ...]]:
    """Of the tensors that transformers would save."""
    return {name: tuple(shape) for name, shape in MANIFEST[case].items()}


def folder_of(root: Path, case: str) -> Path:
    """The case's folder, written if it is not there."""
    folder = root / case
    return folder if folder.exists() else write(folder, case, shapes(case))


def padded(sequences: list[np.ndarray], before: list[int], length: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of one length, each begun after some padding."""
    tokens, mask = np.zeros((len(sequences), length), np.int32), np.zeros((len(sequences), length), bool)
    for i, (row, start) in enumerate(zip(sequences, before, strict=True)):
        tokens[i, start : start + len(row)], mask[i, start : start + len(row)] = row, True
    return tokens, mask


def real(log_probs: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Without padding and first tokens, as golden values are stored."""
    predicted = mask & (np.cumsum(mask, axis=1) > 1)
    assert not np.asarray(log_probs)[~predicted].any()
    return np.asarray(log_probs)[predicted]
