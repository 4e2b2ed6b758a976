"""Figures: how the exploitability of the policy fell, for one run or several, or another column of their traces.

Line styles say which iterate a curve is about: solid the last, dashed the average. Where curves lie on each other, the
ones below are wider and their markers stand elsewhere. Values below the rounding floor (float64 eps times the payoff
range) are drawn on it: differences there mean nothing. The axis ends where the curves do; a tolerance or a floor more
than a decade below all of them is left out.

A line has about as many points as the eye can tell apart. Where more than two rows of a trace share a typographic point
of the axis, the line goes through the row of median value, and a shaded band reaches from the smallest to the largest.
A run that ended because its regularized game is solved is continued by a dotted line: there it would stay.
"""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mmd.host.drawing import COLORS, MARKERS, PLAIN, draw_legend, empty_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NO_MIRROR, OTHER_METHODS = "not mirror descent", {"interior"}  # what `auto` may have chosen
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
    "figure.figsize": SIZES["paper"],
    "savefig.dpi": DPI["paper"],
}
SCREEN: dict[Any, Any] = {"legend.fontsize": "small", "lines.markersize": 4}


WIDTHS = (1.0, 40.0)  # inches
POINTS_PER_INCH = 72  # of a line: one in a typographic point, which is about its width
MARKS = 10  # markers of a line


class FigureError(ValueError):
    """These runs cannot be drawn so; the message says why."""


class Look(NamedTuple):
    """What a figure of runs shows, and how.

    Attributes:
        x, y: the work, and the column of the trace.
        xscale: "linear" or "log".
        style: "paper" for a figure of a column's width in small print; None for a screen.
        given: labels that somebody chose, which stay as they are; others say which iterate a curve is about, and where
            games differ also the game.
        legend: whether there is one.
        title: of the axes; None for the names of the games, which the style "paper" leaves out.
        width: of a new figure, in inches; None for that of the style.
    """

    x: X = "gradient_evaluations"
    y: str = "exploitability"
    xscale: Scale = "linear"
    style: Style | None = None
    given: Collection[str] = ()
    legend: bool = True
    title: str | None = None
    width: float | None = None


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


def paper_style() -> AbstractContextManager[None]:
    """Figures of your own as a paper prints them: inside `with mmd.paper_style():`, begin, draw and save them.

    Text is 8 points and less and stays text (TrueType in a .pdf or .ps file, no Type 3 fonts), and lines are thin. A
    new figure is 3.4 by 2.6 inches unless its size is given, and a .png has 600 dots per inch. These are settings of
    matplotlib, which are as before when the block ends. `plot_convergence(..., ax=, style="paper")` draws in it.

    Returns:
        A context manager.

    Raises:
        OutputError: on entry, if matplotlib cannot be imported.
    """
    return styled("paper")


def method_of(algorithm: Mapping[str, Any]) -> str:
    """The method that found a policy, as a heading or a figure names it.

    Args:
        algorithm: its name and hyper-parameters, as a solution has them.
    """
    name = str(algorithm.get("name", ""))
    return f"{name} ({NO_MIRROR})" if name in OTHER_METHODS else name


class Curve(NamedTuple):
    """What a figure needs of a run.

    Attributes:
        trace: columns by name, as `mmd.measure.solution.Trace.columns` has them, and perhaps "kl".
        proven: the factor by which the theorem says that KL falls in an iteration; None if it says nothing.
        settled: whether the run ended because the game regularized towards its magnet, which stays, is solved.
    """

    game: str
    payoff_range: float
    tolerance: float
    iterate: str
    exploitability: float
    algorithm: dict[str, Any]
    trace: dict[str, Float[np.ndarray, " checks"]]
    proven: float | None = None
    settled: bool = False

    @property
    def method(self) -> str:
        """The method whose run it is."""
        return method_of(self.algorithm)

    @property
    def chosen(self) -> bool:
        """Whether `auto` chose the method."""
        return "chosen_by" in self.algorithm

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
    curves = _with_games(curves, look)
    with styled(look.style):
        axes = axes_for(ax, look.style, look.width)
        for n, (label, curve) in enumerate(curves.items()):
            _draw(axes, label, curve, look, (n, len(curves)))
        _draw_levels(axes, curves.values(), look)
        _name_styles(axes, curves, look)
        if look.y not in SIGNED:
            _draw_proven(axes, curves, look)
            _end_where_curves_do(axes, list(curves.values()), look)
        axes.set_xscale(look.xscale)
        axes.set_xlabel(X_LABELS[look.x])
        axes.set_ylabel(y_label(look.y))
        games = ", ".join(dict.fromkeys(curve.game for curve in curves.values()))
        if look.title is not None or look.style != "paper":
            axes.set_title(games if look.title is None else look.title, parse_math=False)
        return finished(axes, ax, path, look.style, legend=look.legend)


def _with_games(curves: Mapping[str, Curve], look: Look) -> dict[str, Curve]:
    """The curves, whose labels say the game where games differ: but those that somebody chose, or that name it."""
    if len({curve.game for curve in curves.values()}) == 1:
        return dict(curves)
    return {
        label if label in look.given or curve.game in str(label) else f"{label} on {curve.game}": curve
        for label, curve in curves.items()
    }


def axes_for(ax: "Axes | None", style: str | None, width: float | None = None) -> "Axes":
    """The axes that are given, or those of a new figure in a style, perhaps of another width in inches.

    Raises:
        FigureError: what is given are no axes, or no figure has such a width.
    """
    if ax is not None:
        from matplotlib.axes import Axes

        if not isinstance(ax, Axes):
            raise FigureError(f"expected ax to be axes of matplotlib, got {ax!r:.80}")
        return ax
    wide, high = SIZES[style]
    width = wide if width is None else width
    if not WIDTHS[0] <= width <= WIDTHS[1]:
        raise FigureError(f"expected a width from {WIDTHS[0]:g} to {WIDTHS[1]:g} inches, got {width:g}")
    return empty_figure(figsize=(width, high * min(width / wide, 1.0)), layout="constrained").add_subplot()


def finished(
    axes: "Axes",
    given: "Axes | None",
    path: str | os.PathLike[str] | None,
    style: str | None,
    *,
    legend: bool = True,
) -> "Figure | Axes":
    """Grid and legend; the figure, written if that is asked for, or the axes that were given."""
    axes.grid(visible=True, alpha=0.3)
    if legend:
        draw_legend(axes, grow=given is None)
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
    from matplotlib import rcParams

    width = 1.0 + 0.6 * (many - 1 - n) / max(many - 1, 1)  # what lies below is seen on both sides
    drawn: dict[str, Any] = {"color": COLORS[n % len(COLORS)], "marker": MARKERS[n % len(MARKERS)]}
    last = {"linestyle": _style_of(curve, look), "linewidth": width * rcParams["lines.linewidth"]}
    lines = Lines(axes, look.xscale, n / many)
    lines.draw(work, values, {"label": _said(label, curve, look), **last, **drawn})
    if look.y not in RETURNED:
        return
    doubles = IN_DOUBLES.get(look.y, 1.0)
    average = doubles * np.maximum(curve.trace["average_exploitability"][seen], curve.floor)
    if np.isfinite(average).any():
        dashed = {"linestyle": STYLES["average"], "linewidth": 0.8 * rcParams["lines.linewidth"] / 1.5}
        lines.draw(work, average, {"label": f"{label}, average iterate", **dashed, **drawn})
    if curve.iterate == "polished":
        end, color = doubles * max(curve.exploitability, curve.floor), drawn["color"]
        axes.plot(work[-1:], [end], "*", color=color, markersize=11, label=f"{label}, polished")


class Lines(NamedTuple):
    """How the lines of one run are drawn.

    Attributes:
        axes: where.
        xscale: "linear" or "log", of the work.
        offset: of its markers, as a share of the way from one to the next.
    """

    axes: "Axes"
    xscale: Scale
    offset: float

    def draw(self, work: np.ndarray, values: np.ndarray, how: Mapping[str, Any]) -> None:
        """A line with about as many points as can be told apart, markers evenly along the axis, and perhaps a band."""
        there = np.isfinite(values)
        work, values = work[there], values[there]
        at = np.log(work) if self.xscale == "log" else work
        inches = self.axes.get_window_extent().width / self.axes.figure.dpi
        rows, low, high = thinned(at, values, max(1, round(inches * POINTS_PER_INCH)))
        marked = _marked(at[rows], self.offset)
        self.axes.plot(work[rows], values[rows], markevery=marked, **how)
        if (low < high).any():
            self.axes.fill_between(work[rows], low, high, color=how["color"], alpha=0.2, linewidth=0)


def thinned(
    at: Float[np.ndarray, " m"], values: Float[np.ndarray, " m"], bins: int
) -> tuple[Int[np.ndarray, " r"], Float[np.ndarray, " r"], Float[np.ndarray, " r"]]:
    """The rows that a line goes through, and of each the smallest and the largest value of those that it stands for.

    The axis is cut into bins of equal width. A bin of one or two rows keeps them; of more, the one of median value
    (the lower of two) stands for all. The first row, which is the start, is always kept.

    Args:
        at: places on the axis, which do not fall.
        values: at these places.
        bins: how many.
    """
    span = float(at[-1] - at[0]) if len(at) else 0.0
    place = np.minimum(bins * (at - at[0]) / span, bins - 1).astype(int) if span > 0 else np.arange(len(at))
    rows: list[int] = []
    low, high = np.array(values), np.array(values)
    for held in np.split(np.arange(len(at)), np.flatnonzero(np.diff(place)) + 1):
        if len(held) <= 2:
            rows.extend(held)
            continue
        low[held], high[held] = values[held].min(), values[held].max()
        rows.append(int(held[np.argsort(values[held], kind="stable")[(len(held) - 1) // 2]]))
    kept = np.unique([0, *rows]) if len(at) else np.zeros(0, int)
    return kept, low[kept], high[kept]


def _marked(at: Float[np.ndarray, " r"], offset: float) -> list[int]:
    """Which rows have a marker: those next to places that stand evenly along the axis."""
    if not len(at):
        return []
    places = at[0] + (np.arange(MARKS) + offset) / MARKS * (at[-1] - at[0])
    return sorted({int(np.abs(at - place).argmin()) for place in places})


def _style_of(curve: Curve, look: Look) -> Any:
    """The line style of a run."""
    kept = BEST if curve.algorithm.get("keeps_best") else curve.iterate
    return STYLES["average" if look.y == "average_exploitability" else kept]


def _said(label: str, curve: Curve, look: Look) -> str:
    """What the legend calls the line of a run."""
    return label if label in look.given or look.y == "average_exploitability" else f"{label}, {drawn_iterate(curve)}"


def _draw_levels(axes: "Axes", curves: Iterable[Curve], look: Look) -> None:
    """Of every run that ended where its regularized game is solved: the level on which it would stay."""
    right = max(float(np.max(line.get_xdata(), initial=0.0)) for line in axes.get_lines())
    for n, curve in enumerate(curves):
        work = float(column_of(curve, look.x)[-1])
        if curve.settled and look.y in RETURNED and (work > 0 or look.xscale == "linear") and work < right:
            level = float(_drawn_values(curve, look.y, column_of(curve, look.y))[-1])
            axes.plot(
                [work, right], [level, level], linestyle=(0, (1, 2)), linewidth=0.9, color=COLORS[n % len(COLORS)]
            )


def _name_styles(axes: "Axes", curves: Mapping[str, Curve], look: Look) -> None:
    """Rows of the legend for the line styles, where a label that somebody chose does not name an iterate."""
    given = [curve for label, curve in curves.items() if label in look.given and look.y != "average_exploitability"]
    styles = {drawn_iterate(curve): _style_of(curve, look) for curve in given}
    if set(styles.values()) - {"-"}:
        for said, style in styles.items():
            axes.plot([], [], linestyle=style, color="0.35", linewidth=1.0, label=said)


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
    drawn += [np.asarray(path.vertices, float)[:, 1] for band in axes.collections for path in band.get_paths()]
    seen = np.concatenate([values[np.isfinite(values) & (values > 0)] for values in drawn])
    low, high = float(seen.min()), float(seen.max())
    near = [(level, how) for level, how in _levels(curves, look) if low / 10 <= level <= 10 * high]
    for level, how in near:
        axes.axhline(level, linewidth=1.0, **how)
    ends = [low, high, *(level for level, _ in near)]
    axes.set_yscale("log")
    if min(ends) < max(ends):
        axes.set_ylim(min(ends) / 2, max(ends) * 2)


def _levels(curves: Sequence[Curve], look: Look) -> Iterator[tuple[float, dict[str, Any]]]:
    """Tolerances and rounding floors, and how each is drawn; none in the style "paper", whose caption may say them."""
    if look.style == "paper" or not (look.y in RETURNED or look.y == "average_exploitability"):
        return
    times = IN_DOUBLES.get(look.y, 1.0)
    for least, most in _groups(times * curve.tolerance for curve in curves if curve.tolerance > 0):
        said = dict.fromkeys(f"{level:.2g}" for level in (least, most))
        yield most, {"color": "0.4", "linestyle": ":", "label": f"tolerance {' to '.join(said)}"}
    for _, level in _groups(times * curve.floor for curve in curves):
        yield level, {"color": "0.7", "linestyle": "-.", "label": f"rounding floor {level:.1g} (float64)"}


def _groups(levels: Iterable[float]) -> list[tuple[float, float]]:
    """Smallest and largest of levels that lie so close together (a factor 2) that one line shows them."""
    found: list[tuple[float, float]] = []
    for level in sorted(levels):
        if found and level <= 2 * found[-1][0]:
            found[-1] = (found[-1][0], level)
        else:
            found.append((level, level))
    return found
