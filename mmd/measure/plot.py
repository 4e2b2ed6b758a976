"""The convergence of runs as a figure, from solutions and from run directories; `mmd.measure.figure` draws it."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmd.measure.figure import Curve, X, draw_convergence
from mmd.measure.run_directory import RunError, load_result, load_trace
from mmd.measure.solution import Solution

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Run = Solution | str | os.PathLike[str]
Runs = Mapping[str, Run] | Sequence[Run] | Run


def curve_of(run: Run) -> Curve:
    """What a figure needs of a solution or a run directory.

    Raises:
        RunError: the path is not a run directory.
    """
    if isinstance(run, Solution):
        return run.curve
    known = load_result(run)
    try:
        return Curve(**{name: known[name] for name in Curve._fields[:-1]}, trace=load_trace(run).columns)
    except KeyError as error:
        raise RunError(f"{run}: expected {error} in result.json, found none") from None


def plot_convergence(runs: Runs, x: X = "gradient_evaluations", path: str | os.PathLike[str] | None = None) -> "Figure":
    """Exploitability of the returned policy against work, on a logarithmic axis.

    Args:
        runs: label -> solution or run directory; or a solution, a run directory, or several of them, which are then
            labelled by algorithm and by folder.
        x: the work: "iterations", "gradient_evaluations" or "seconds".
        path: where to write the figure (.png at 300 dpi, .svg, .pdf); not written if None.

    Raises:
        RunError: a path is not a run directory.
        OutputError: matplotlib cannot be imported, or the figure cannot be written.
    """
    return draw_convergence({label: curve_of(run) for label, run in _labelled(runs).items()}, x, path)


def _labelled(runs: Runs) -> Mapping[str, Run]:
    """Runs by label: the algorithm's name or the folder's, with the run's number where that is not enough."""
    if isinstance(runs, Mapping):
        return dict(runs)
    listed = [runs] if isinstance(runs, Solution | str | os.PathLike) else list(runs)
    names = [run.method if isinstance(run, Solution) else Path(run).resolve().name for run in listed]
    labels = [name if names.count(name) == 1 else f"{name} {i}" for i, name in enumerate(names, 1)]
    return dict(zip(labels, listed, strict=True))
