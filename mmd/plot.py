"""The convergence of runs as a figure, from solutions and from run directories; `mmd.figure` draws it."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mmd.figure import Curve, X, draw_convergence
from mmd.run_directory import RunError, load_result, load_trace
from mmd.solution import Solution

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Run = Solution | str | os.PathLike[str]


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


def plot_convergence(
    runs: Mapping[str, Run], x: X = "gradient_evaluations", path: str | os.PathLike[str] | None = None
) -> "Figure":
    """Exploitability of the returned policy against work, on a logarithmic axis.

    Args:
        runs: label -> solution or run directory.
        x: the work: "iterations", "gradient_evaluations" or "seconds".
        path: where to write the figure (.png at 300 dpi, .svg, .pdf); not written if None.

    Raises:
        RunError: a path is not a run directory.
        OutputError: matplotlib cannot be imported, or the figure cannot be written.
    """
    return draw_convergence({label: curve_of(run) for label, run in runs.items()}, x, path)
