"""Figures: how the exploitability of the policy fell, for one run or several.

Colours are Okabe and Ito's, told apart by markers as well; line styles say which iterate a curve is about. Values below
the rounding floor (float64 eps times the payoff range) are drawn on it: differences there mean nothing. matplotlib is
imported when a figure is asked for.
"""

import itertools
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from mmd.host.files import OutputError, prepare_file, replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")
BACKEND = "MPLBACKEND"  # environment variable of matplotlib
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
MARKERS = ("o", "s", "^", "v", "D", "P", "X", "*")
BEST = "best so far"  # of an algorithm that returns the best policy it measured, be it a last iterate or an average
STYLES = {"last": "-", "average": "--", "polished": "-", "interior": "-", BEST: (0, (6, 1, 1, 1))}
X_AXES = {"iterations": "iteration", "gradient_evaluations": "gradient_evaluations", "seconds": "seconds"}
X_LABELS = {"iterations": "iterations", "gradient_evaluations": "gradient evaluations", "seconds": "seconds"}

X = Literal["iterations", "gradient_evaluations", "seconds"]


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
    """What a figure needs of a run; `trace` is columns by name, as `mmd.measure.solution.Trace.columns` has them."""

    game: str
    payoff_range: float
    tolerance: float
    iterate: str
    exploitability: float
    algorithm: dict[str, Any]
    trace: dict[str, Float[np.ndarray, " checks"]]

    @property
    def floor(self) -> float:
        """Rounding floor of the exploitability."""
        return float(np.finfo(np.float64).eps) * (self.payoff_range or 1.0)


def draw_convergence(curves: Mapping[str, Curve], x: X, path: str | os.PathLike[str] | None) -> "Figure":
    """Exploitability against work, on a logarithmic axis; arguments and errors as of `mmd.plot_convergence`."""
    figure = empty_figure(figsize=(7.0, 4.5), layout="constrained")
    axes = figure.add_subplot()
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
