"""Figures: how the exploitability of the policy fell, for one run or several.

Line styles say which iterate a curve is about. Values below the rounding floor (float64 eps times the payoff range) are
drawn on it: differences there mean nothing.
"""

import itertools
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from mmd.host.drawing import COLORS, MARKERS, empty_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BEST = "best so far"  # of an algorithm that returns the best policy it measured, be it a last iterate or an average
STYLES = {"last": "-", "average": "--", "polished": "-", "interior": "-", BEST: (0, (6, 1, 1, 1))}
X_AXES = {"iterations": "iteration", "gradient_evaluations": "gradient_evaluations", "seconds": "seconds"}
X_LABELS = {"iterations": "iterations", "gradient_evaluations": "gradient evaluations", "seconds": "seconds"}

X = Literal["iterations", "gradient_evaluations", "seconds"]


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
