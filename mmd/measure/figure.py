"""Figures: how the exploitability of the policy fell, for one run or several, or another column of their traces.

Line styles say which iterate a curve is about. Where curves lie on each other, the ones below are wider and their
markers stand elsewhere. Values below the rounding floor (float64 eps times the payoff range) are drawn on it:
differences there mean nothing. The axis ends where the curves do; a tolerance or a floor more than a decade below all
of them is left out.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from mmd.host.drawing import COLORS, MARKERS, PLAIN, empty_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BEST = "best so far"  # of an algorithm that returns the best policy it measured, be it a last iterate or an average
STYLES = {"last": "-", "average": "--", "polished": "-", "interior": "-", BEST: (0, (6, 1, 1, 1))}
X_AXES = {"iterations": "iteration", "gradient_evaluations": "gradient_evaluations", "seconds": "seconds"}
X_LABELS = {"iterations": "iterations", "gradient_evaluations": "gradient evaluations", "seconds": "seconds"}
Y_LABELS = {
    "exploitability": "exploitability (NashConv / 2)",
    "nash_conv": "NashConv",
    "regularized_gap": "regularized gap",
    "average_exploitability": "exploitability of the average iterate",
    "value": "value",
    "kl": "KL(z*, z), in nats",
}
SIGNED = {"value"}  # columns whose axis is linear
IN_DOUBLES = {"nash_conv": 2.0}  # of the exploitability: what is drawn beside a curve of such a column
RETURNED = {"exploitability", "nash_conv"}  # of the policy that would be returned, polish included

X = Literal["iterations", "gradient_evaluations", "seconds"]
Scale = Literal["linear", "log"]
Style = Literal["paper"]
DPI = {None: 300, "paper": 600}
SIZES = {None: (7.0, 4.5), "paper": (3.4, 2.6)}  # inches
PAPER: dict[Any, Any] = {
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 6.5,
    "lines.linewidth": 1.1,
    "lines.markersize": 3,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
}
SCREEN: dict[Any, Any] = {"legend.fontsize": "small", "lines.markersize": 4}


class FigureError(ValueError):
    """These runs cannot be drawn so; the message says why."""


class Look(NamedTuple):
    """What a figure of runs shows, and how.

    Attributes:
        x, y: the work, and the column of the trace.
        xscale: "linear" or "log".
        style: "paper" for a figure of a column's width in small print; None for a screen.
    """

    x: X = "gradient_evaluations"
    y: str = "exploitability"
    xscale: Scale = "linear"
    style: Style | None = None


@contextmanager
def styled(style: str | None) -> Iterator[None]:
    """Inside, figures are made in a style, and text is kept as text where they are written.

    Raises:
        FigureError: there is no such style.
        OutputError: matplotlib cannot be imported.
    """
    if style not in SIZES:
        raise FigureError(f"expected style to be 'paper' or None, got {style!r}")
    empty_figure()
    from matplotlib import rc_context

    with rc_context(PLAIN | (SCREEN if style is None else PAPER)):
        yield


class Curve(NamedTuple):
    """What a figure needs of a run.

    Attributes:
        trace: columns by name, as `mmd.measure.solution.Trace.columns` has them, and perhaps "kl".
        proven: the factor by which the theorem says that KL falls in an iteration; None if it says nothing.
    """

    game: str
    payoff_range: float
    tolerance: float
    iterate: str
    exploitability: float
    algorithm: dict[str, Any]
    trace: dict[str, Float[np.ndarray, " checks"]]
    proven: float | None = None

    @property
    def floor(self) -> float:
        """Rounding floor of the exploitability."""
        return float(np.finfo(np.float64).eps) * (self.payoff_range or 1.0)


def drawn_iterate(curve: Curve) -> str:
    """Which iterate of a run its curve is about, in words."""
    if curve.iterate == "polished":
        return "before the polish"
    return BEST if curve.algorithm.get("keeps_best") else f"{curve.iterate} iterate"


def column_of(curve: Curve, name: str) -> Float[np.ndarray, " checks"]:
    """A column of a run's trace, by its name in the trace or that of an axis.

    Raises:
        FigureError: the run has no number in such a column; the message says which it has.
    """
    values = curve.trace.get(X_AXES.get(name, name))
    if values is None or not np.isfinite(values).any():
        known = (n for n, held in curve.trace.items() if n not in X_AXES.values() and np.isfinite(held).any())
        ran = f"{curve.algorithm.get('name', 'the run')} on {curve.game}"
        raise FigureError(f"{ran} has recorded no {name!r}: expected one of {', '.join(known)}")
    return np.asarray(values, np.float64)


def draw_convergence(
    curves: Mapping[str, Curve], look: Look, path: str | os.PathLike[str] | None, ax: "Axes | None" = None
) -> "Figure | Axes":
    """A column of the traces against work; arguments, result and errors as of `mmd.plot_convergence`."""
    if look.x not in X_AXES or look.xscale not in ("linear", "log"):
        known = f"x to be one of {', '.join(X_AXES)} and xscale to be linear or log"
        raise FigureError(f"expected {known}, got {look.x!r} and {look.xscale!r}")
    with styled(look.style):
        axes = axes_for(ax, look.style)
        for n, (label, curve) in enumerate(curves.items()):
            _draw(axes, label, curve, look, (n, len(curves)))
        if look.y not in SIGNED:
            _draw_proven(axes, curves, look)
            _end_where_curves_do(axes, list(curves.values()), look)
        axes.set_xscale(look.xscale)
        axes.set_xlabel(X_LABELS[look.x])
        axes.set_ylabel(y_label(look.y))
        if look.style != "paper":
            axes.set_title(", ".join(dict.fromkeys(curve.game for curve in curves.values())), parse_math=False)
        return finished(axes, ax, path, look.style)


def axes_for(ax: "Axes | None", style: str | None) -> "Axes":
    """The axes that are given, or those of a new figure in a style."""
    return empty_figure(figsize=SIZES[style], layout="constrained").add_subplot() if ax is None else ax


def finished(
    axes: "Axes", given: "Axes | None", path: str | os.PathLike[str] | None, style: str | None
) -> "Figure | Axes":
    """Grid and legend; the figure, written if that is asked for, or the axes that were given."""
    axes.grid(visible=True, alpha=0.3)
    named = [line for line in axes.get_lines() if not str(line.get_label()).startswith("_child")]
    for text in axes.legend(handles=named).get_texts():
        text.set_parse_math(False)
    figure: Any = axes.figure
    if path is not None:
        save_figure(figure, path, dpi=DPI[style])
    return figure if given is None else axes


def y_label(name: str) -> str:
    """What the axis of a column is called."""
    return Y_LABELS.get(name, name.replace("_", " "))


def _draw(axes: "Axes", label: str, curve: Curve, look: Look, place: tuple[int, int]) -> None:
    """One run; of the returned policy also the average iterate, where there is one, and where a polish ended.

    Args:
        axes, curve, look: where, what and how.
        label: of the run.
        place: which run it is, and of how many.
    """
    n, many = place
    work = column_of(curve, look.x)
    values = _drawn_values(curve, look.y, column_of(curve, look.y))
    if look.xscale == "log" and not (work > 0).any():
        work = np.ones_like(work)  # a run that ended at its start is seen all the same
    seen = np.isfinite(values) & ((work > 0) | (look.xscale == "linear"))
    work, values = work[seen], values[seen]
    every = max(1, len(work) // 10)
    width = 1.0 + 0.6 * (many - 1 - n) / max(many - 1, 1)  # what lies below is seen on both sides
    drawn: dict[str, Any] = {
        "color": COLORS[n % len(COLORS)],
        "marker": MARKERS[n % len(MARKERS)],
        "markevery": (n * every // many, every),
    }
    kept, said = BEST if curve.algorithm.get("keeps_best") else curve.iterate, drawn_iterate(curve)
    style = STYLES[kept] if look.y != "average_exploitability" else STYLES["average"]
    said = label if look.y == "average_exploitability" else f"{label}, {said}"
    from matplotlib import rcParams

    axes.plot(work, values, linestyle=style, label=said, linewidth=width * rcParams["lines.linewidth"], **drawn)
    if look.y not in RETURNED:
        return
    doubles = IN_DOUBLES.get(look.y, 1.0)
    average = doubles * np.maximum(curve.trace["average_exploitability"][seen], curve.floor)
    if np.isfinite(average).any():
        axes.plot(work, average, STYLES["average"], label=f"{label}, average iterate", linewidth=0.8, **drawn)
    if curve.iterate == "polished":
        end, color = doubles * max(curve.exploitability, curve.floor), drawn["color"]
        axes.plot(work[-1:], [end], "*", color=color, markersize=11, label=f"{label}, polished")


def _drawn_values(curve: Curve, name: str, values: np.ndarray) -> np.ndarray:
    """Values as they are drawn: not below the rounding floor where the axis is logarithmic."""
    return values if name in SIGNED else np.maximum(values, np.finfo(float).tiny if name == "kl" else curve.floor)


def _draw_proven(axes: "Axes", curves: Mapping[str, Curve], look: Look) -> None:
    """Of every run whose KL has a proven rate: the line that it may not cross."""
    for label, curve in curves.items() if look.y == "kl" else ():
        if curve.proven is not None:
            of = f"{label}, " if len(curves) > 1 else ""
            work, values, k = (column_of(curve, name) for name in (look.x, look.y, "iterations"))
            seen = (work > 0) | (look.xscale == "linear")
            line = values[0] * curve.proven ** (k - k[0])
            bottom = float(np.min(values[values > 0]))
            draw_theorem(axes, work[seen], line[seen], bottom, f"{of}theorem: times {curve.proven:.4g}")


def draw_theorem(axes: "Axes", work: np.ndarray, line: np.ndarray, bottom: float, label: str) -> None:
    """The bound, as far down as the measured values go."""
    shown = np.count_nonzero(line >= bottom / 2)
    axes.plot(work[:shown], line[:shown], "-.", color="0.25", linewidth=1.0, label=label)


def _end_where_curves_do(axes: "Axes", curves: Sequence[Curve], look: Look) -> None:
    """The logarithmic axis, no decade of it empty, with the tolerances and rounding floors that lie near the curves."""
    drawn = [np.asarray(line.get_ydata(), float) for line in axes.get_lines()]
    seen = np.concatenate([values[np.isfinite(values) & (values > 0)] for values in drawn])
    low, high = float(seen.min()), float(seen.max())
    levels: list[tuple[float, dict[str, Any]]] = []
    if look.y in RETURNED or look.y == "average_exploitability":
        times = IN_DOUBLES.get(look.y, 1.0)
        for level in sorted({times * curve.tolerance for curve in curves if curve.tolerance > 0}):
            levels.append((level, {"color": "0.4", "linestyle": ":", "label": f"tolerance {level:.2g}"}))
        for level in sorted({times * curve.floor for curve in curves}):
            levels.append(
                (level, {"color": "0.7", "linestyle": "-.", "label": f"rounding floor {level:.1g} (float64)"})
            )
    near = [(level, how) for level, how in levels if low / 10 <= level <= 10 * high]
    for level, how in near:
        axes.axhline(level, linewidth=1.0, **how)
    ends = [low, high, *(level for level, _ in near)]
    axes.set_yscale("log")
    if min(ends) < max(ends):
        axes.set_ylim(min(ends) / 2, max(ends) * 2)
