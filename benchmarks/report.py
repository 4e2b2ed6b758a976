"""Printing and storing what a benchmark measured."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import mmd.host.environment
from mmd.host.files import replacing

RESULTS = Path(__file__).parent / "results"


def environment() -> dict[str, Any]:
    """Versions, device, commit and processor count: what the numbers depend on."""
    return {
        "versions": mmd.host.environment.versions(),
        "device": mmd.host.environment.device(),
        "commit": mmd.host.environment.commit(),
        "cpu_count": os.cpu_count(),
    }


def store(name: str, numbers: dict[str, Any]) -> Path:
    """Write `benchmarks/results/NAME.json`, whole for whoever reads it meanwhile."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    with replacing(path) as part:
        part.write_text(json.dumps(_plain(numbers), indent=1, allow_nan=False) + "\n")
    print(f"\nstored in {path.relative_to(RESULTS.parents[1])}")
    return path


def stored(name: str) -> dict[str, Any]:
    """What `benchmarks/results/NAME.json` holds; nothing where it is not there."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A Markdown table with aligned columns."""
    widths = [max(len(str(row[i])) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, ["-" * width for width in widths], *rows]:
        print("| " + " | ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")


def _plain(value: Any) -> Any:
    """JSON has no NaN, no infinity and no NumPy."""
    if isinstance(value, dict):
        return {str(key): _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
