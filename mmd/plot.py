"""Figures: how the exploitability of the policy fell, for one run or several.

Colours are Okabe and Ito's, told apart by markers as well; line styles say which iterate a curve is about. Values below
the rounding floor (float64 eps times the payoff range) are drawn on it: differences there mean nothing.
"""

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from mmd.files import OutputError, prepare_file, replacing
from mmd.run_directory import RunError, load_result, load_trace
from mmd.solution import Solution, Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")
BACKEND = "MPLBACKEND"  # environment variable of matplotlib
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
MARKERS = ("o", "s", "^", "v", "D", "P", "X", "*")
BEST = "best so far"  # of an algorithm that returns the best policy it measured, be it a last iterate or an average
STYLES = {"last": "-", "average": "--", "polished": "-", BEST: (0, (6, 1, 1, 1))}
X_AXES = {"iterations": "iteration", "gradient_evaluations": "gradient_evaluations", "seconds": "seconds"}
X_LABELS = {"iterations": "iterations", "gradient_evaluations": "gradient evaluations", "seconds": "seconds"}

X = Literal["iterations", "gradient_evaluations", "seconds"]
Run = Solution | str | os.PathLike[str]
Runs = Mapping[str, Run] | Sequence[Run] | Run


def prepare_figure(path: Path) -> None:
    """Make sure, before the work starts, that a figure can be drawn and written there.

    Raises:
        OutputError: it cannot; the message says why.
    """
    empty_figure()
    prepare_file(path, FORMATS)


def empty_figure(**arguments: Any) -> "Figure":
    """A matplotlib figure that belongs to no window and no notebook, so no backend is asked for it.

    `MPLBACKEND` may name one that is not installed: a command run from a notebook inherits the notebook's. matplotlib
    then fails when it is imported, and is imported without.

    Args:
        arguments: of `matplotlib.figure.Figure`.

    Raises:
        OutputError: matplotlib cannot be imported.
    """
    try:
        try:
            from matplotlib.figure import Figure
        except ValueError:
            if BACKEND not in os.environ:
                raise
            backend = os.environ.pop(BACKEND)
            try:
                from matplotlib.figure import Figure
            finally:
                os.environ[BACKEND] = backend
    except ModuleNotFoundError:
        raise OutputError("figures need matplotlib: pip install 'magnetic-mirror[plot]'") from None
    except (ImportError, ValueError) as error:
        raise OutputError(f"figures need matplotlib, which cannot be imported here ({error})") from None
    return Figure(**arguments)


def save_figure(figure: "Figure", path: str | os.PathLike[str], dpi: int) -> None:
    """Write a figure, whole, in the format that its name says.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        with replacing(path) as part:
            figure.savefig(part, dpi=dpi, format=Path(path).suffix[1:].lower())
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from None


class Curve(NamedTuple):
    """What a figure needs of a run."""

    game: str
    payoff_range: float
    tolerance: float
    iterate: str
    exploitability: float
    algorithm: dict[str, Any]
    trace: Trace

    @classmethod
    def of(cls, run: Run) -> "Curve":
        """From a solution or a run directory."""
        if isinstance(run, Solution):
            game = run.game.description
            return cls(
                game.name, game.payoff_range, run.tolerance, run.iterate, run.exploitability, run.algorithm, run.trace
            )
        known = load_result(run)
        try:
            return cls(**{field: known[field] for field in cls._fields[:-1]}, trace=load_trace(run))
        except KeyError as error:
            raise RunError(f"{run}: expected {error} in result.json, found none") from None

    @property
    def floor(self) -> float:
        """Rounding floor of the exploitability."""
        return float(np.finfo(np.float64).eps) * (self.payoff_range or 1.0)


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
    figure = empty_figure(figsize=(7.0, 4.5), layout="constrained")
    axes = figure.add_subplot()
    curves = {label: Curve.of(run) for label, run in _labelled(runs).items()}
    for (label, curve), color, marker in zip(curves.items(), itertools.cycle(COLORS), itertools.cycle(MARKERS)):
        _draw(axes, label, curve, X_AXES[x], color, marker)
    _draw_levels(axes, curves.values())
    axes.set_yscale("log")
    axes.set_xlabel(X_LABELS[x])
    axes.set_ylabel("exploitability (NashConv / 2)")
    axes.set_title(", ".join(dict.fromkeys(curve.game for curve in curves.values())), parse_math=False)
    axes.grid(visible=True, alpha=0.3)
    for text in axes.legend(handles=axes.get_lines(), fontsize="small").get_texts():
        text.set_parse_math(False)
    if path is not None:
        save_figure(figure, path, dpi=300)
    return figure


def _labelled(runs: Runs) -> Mapping[str, Run]:
    """Runs by label: the algorithm's name or the folder's, with the run's number where that is not enough."""
    if isinstance(runs, Mapping):
        return dict(runs)
    listed = [runs] if isinstance(runs, Solution | str | os.PathLike) else list(runs)
    names = [run.algorithm["name"] if isinstance(run, Solution) else Path(run).resolve().name for run in listed]
    labels = [name if names.count(name) == 1 else f"{name} {i}" for i, name in enumerate(names, 1)]
    return dict(zip(labels, listed, strict=True))


def _draw(axes: "Axes", label: str, curve: Curve, column: str, color: str, marker: str) -> None:
    """One run: what would have been returned, the average iterate where there is one, and where a polish ended."""
    work = curve.trace[column]
    every = max(1, len(work) // 10)
    drawn = {"color": color, "marker": marker, "markersize": 4, "markevery": every}
    returned = np.maximum(curve.trace["exploitability"], curve.floor)
    average = np.maximum(curve.trace["average_exploitability"], curve.floor)
    kept = BEST if curve.algorithm.get("keeps_best") else curve.iterate
    said = "before the polish" if curve.iterate == "polished" else kept if kept == BEST else f"{kept} iterate"
    axes.plot(work, returned, linestyle=STYLES[kept], label=f"{label}, {said}", **drawn)
    if np.isfinite(average).any():
        axes.plot(work, average, STYLES["average"], label=f"{label}, average iterate", linewidth=0.8, **drawn)
    if curve.iterate == "polished":
        end = max(curve.exploitability, curve.floor)
        axes.plot(work[-1:], [end], "*", color=color, markersize=11, label=f"{label}, polished")


def _draw_levels(axes: "Axes", curves: Iterable[Curve]) -> None:
    """The tolerances and the rounding floors, each drawn once."""
    for level in sorted({curve.tolerance for curve in curves if curve.tolerance > 0}):
        axes.axhline(level, color="0.4", linestyle=":", linewidth=1.0, label=f"tolerance {level:.2g}")
    for level in sorted({curve.floor for curve in curves}):
        axes.axhline(level, color="0.7", linestyle="-.", linewidth=1.0, label=f"rounding floor {level:.1g} (float64)")
