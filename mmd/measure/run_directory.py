"""A run on disk: `result.json`, `trace.csv`, `policy.npz`, `policy.csv` and `environment.json`.

Each file is replaced as a whole and `result.json` comes last, so a directory that has one is complete. What is not a
number is null in JSON and an empty cell in `trace.csv`. While it runs, `mmd solve` also keeps a `checkpoint.npz` there
(`mmd.solving.checkpoint`).
"""

import csv
import json
import math
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mmd.host import environment
from mmd.host.files import prepare_folder, replacing
from mmd.measure.solution import COUNTS, TRACE_COLUMNS, Solution, Trace

SCHEMA_VERSION = 1
CHECKPOINT = "checkpoint.npz"
RECORDING = "recording.json"  # in place of result.json, where the laboratory has recorded a run
KL = "kl"  # a column that only a recording has
NEVER_LEFT_OUT = TRACE_COLUMNS[:-1]


class RunError(ValueError):
    """A folder is not the directory of a run; the message says why."""


def prepare(path: str | os.PathLike[str]) -> Path:
    """Create the folder and try to write in it, before the work starts.

    Raises:
        OutputError: it cannot be written.
    """
    return prepare_folder(path)


def save(solution: Solution, path: str | os.PathLike[str], *, command: Sequence[str] = ()) -> None:
    """Write a run.

    Args:
        solution: the run.
        path: the folder; created if absent, its five files replaced if present.
        command: the command line that made it, for `environment.json`.

    Raises:
        OutputError: the folder cannot be written.
    """
    folder = prepare(path)
    solution.policy.save_npz(folder / "policy.npz")
    solution.policy.save_csv(folder / "policy.csv")
    write_trace(solution.trace, folder / "trace.csv")
    write_json(_environment(solution, command), folder / "environment.json")
    write_json(result(solution), folder / "result.json")


def result(solution: Solution) -> dict[str, Any]:
    """What `result.json` holds."""
    content = {
        "schema_version": SCHEMA_VERSION,
        "game": solution.game.name,
        "payoff_range": solution.game.description.payoff_range,
        "algorithm": solution.algorithm,
        "iterate": solution.iterate,
        "status": solution.status.value,
        "converged": solution.converged,
        "tolerance": solution.tolerance,
        "iterations": solution.iterations,
        "gradient_evaluations": solution.gradient_evaluations,
        "value": solution.value,
        "exploitability": solution.exploitability,
        "nash_conv": solution.nash_conv,
        "regularized_gap": solution.regularized_gap,
        "proven_factor": solution.proven_factor,
        "policy": solution.policy.as_dict(),
        "seconds": solution.seconds,
        "dtype": solution.dtype,
    }
    return content | ({"polish": solution.polish} if solution.polish is not None else {})


def runs_in(path: str | os.PathLike[str]) -> list[Path]:
    """The run directories that a path means: itself, or the runs in it, by name, as `mmd compare --out` leaves them."""
    names = ("result.json", RECORDING)
    found = {file.parent for name in names for file in Path(path).glob(f"*/{name}")}
    return [Path(path)] if any((Path(path) / name).is_file() for name in names) or not found else sorted(found)


def load_result(path: str | os.PathLike[str], name: str = "result.json") -> dict[str, Any]:
    """`result.json` of a run, or `recording.json`.

    Raises:
        RunError: there is none, as in a folder of several runs, or it has another schema.
    """
    file = Path(path) / name
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        if (found := runs_in(path)) != [Path(path)]:
            raise RunError(f"{path}: holds several runs, expected them by name, as in {found[0]}") from None
        raise RunError(f"{path}: expected a run directory, cannot read its {name} ({error.strerror})") from None
    except ValueError as error:
        raise RunError(f"{file}: expected JSON ({error})") from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise RunError(f"{file}: expected schema_version {SCHEMA_VERSION}, got {version}")
    return content


def load_trace(path: str | os.PathLike[str]) -> Trace:
    """`trace.csv` of a run; NaN where a cell is empty or a column absent, and the column of a recording if it is there.

    Raises:
        RunError: there is none, or a line is not one of numbers.
    """
    file = Path(path) / "trace.csv"
    columns: dict[str, list[float]] = {name: [] for name in TRACE_COLUMNS}
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            columns |= {KL: []} if KL in (reader.fieldnames or ()) else {}
            for line, row in enumerate(reader, start=2):
                for name, values in columns.items():
                    values.append(_number(row.get(name), f"{file}:{line}"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RunError(f"{path}: expected a run directory, cannot read its trace.csv ({error})") from None
    return Trace({name: np.array(values) for name, values in columns.items()})


def _number(cell: str | None, place: str) -> float:
    try:
        return float(cell or math.nan)
    except ValueError:
        raise RunError(f"{place}: expected a number, got {cell!r}") from None


def write_trace(trace: Trace, path: Path) -> None:
    """Write `trace.csv`, a column for each of the trace that holds a number or is never left out."""
    names = [name for name in trace.columns if name in NEVER_LEFT_OUT or np.isfinite(trace[name]).any()]
    columns = [_cells(name, trace[name]) for name in names]
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(zip(*columns, strict=True))


def _cells(name: str, column: Float[np.ndarray, " checks"]) -> list[Any]:
    """Cells of a column; an empty one where a number is not finite."""
    if np.isfinite(column).all():
        return column.astype(np.int64).tolist() if name in COUNTS else column.tolist()
    return [_cell(name, value) for value in column.tolist()]


def _cell(name: str, value: float) -> float | int | str:
    if not math.isfinite(value):
        return ""
    return int(value) if name in COUNTS else value


def _environment(solution: Solution, command: Sequence[str]) -> dict[str, Any]:
    return {
        "versions": environment.versions(),
        "device": environment.device(),
        "dtype": solution.dtype,
        "commit": environment.commit(),
        "command": shlex.join(command) if command else None,
    }


def write_json(content: dict[str, Any], path: Path) -> None:
    """Write a JSON file; null for numbers that JSON does not have."""
    with replacing(path) as part:
        text = json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False)
        part.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def _finite(value: Any) -> Any:
    """The same with None for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
