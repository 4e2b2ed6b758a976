"""The convergence of runs as a figure, from solutions and from run directories; `mmd.measure.figure` draws it."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, overload, runtime_checkable

from mmd.measure.figure import Curve, Look, Scale, Style, X, draw_convergence
from mmd.measure.run_directory import RECORDING, RunError, load_result, load_trace
from mmd.measure.solution import Status

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@runtime_checkable
class HasCurve(Protocol):
    """A run in memory: a `mmd.Solution`, or a `mmd.Recording` of the laboratory."""

    @property
    def curve(self) -> Curve:
        """What a figure needs of it."""
        ...

    @property
    def method(self) -> str:
        """How a figure names it."""
        ...


Run = HasCurve | str | os.PathLike[str]
Runs = Mapping[str, Run] | Sequence[Run] | Run


def curve_of(run: Run) -> Curve:
    """What a figure needs of a run in memory or of a run directory.

    Raises:
        RunError: it is none, or the path is not a run directory.
    """
    if isinstance(run, HasCurve):
        return run.curve
    if not isinstance(run, str | os.PathLike):
        raise _no_run(run)
    name = RECORDING if (Path(run) / RECORDING).is_file() else "result.json"
    known, trace = load_result(run, name), load_trace(run).columns
    try:
        needed = {name: known[name] for name in Curve._fields if name not in ("trace", "proven", "settled")}
    except KeyError as error:
        raise RunError(f"{run}: expected {error} in {name}, found none") from None
    settled = known.get("status") == Status.REGULARIZED.value
    return Curve(**needed, trace=trace, proven=known.get("proven_factor"), settled=settled)


def _no_run(found: object) -> RunError:
    return RunError(f"expected a run to be a Solution, a Recording or a run directory, got {found!r:.80}")


def label_with_method(label: str, curve: Curve) -> str:
    """A label that says as well which method `auto` chose."""
    return f"{label}: {curve.method}" if curve.chosen else label


@overload
def plot_convergence(
    runs: Runs,
    x: X = ...,
    path: str | os.PathLike[str] | None = ...,
    *,
    y: str = ...,
    xscale: Scale = ...,
    ax: None = ...,
    style: Style | None = ...,
    legend: bool = ...,
) -> "Figure": ...
@overload
def plot_convergence(
    runs: Runs,
    x: X = ...,
    path: str | os.PathLike[str] | None = ...,
    *,
    y: str = ...,
    xscale: Scale = ...,
    ax: "Axes",
    style: Style | None = ...,
    legend: bool = ...,
) -> "Axes": ...
def plot_convergence(
    runs: Runs,
    x: X = "gradient_evaluations",
    path: str | os.PathLike[str] | None = None,
    *,
    y: str = "exploitability",
    xscale: Scale = "linear",
    ax: "Axes | None" = None,
    style: Style | None = None,
    legend: bool = True,
) -> "Figure | Axes":
    """How far runs are from equilibrium against their work: by default the exploitability of the returned policy.

    Args:
        runs: label -> run; or a run, or several of them, which are then labelled by algorithm and by folder, and by
            which iterate they return. A run is a `Solution`, a `Recording` or a run directory.
        x: the work: "iterations", "gradient_evaluations" or "seconds".
        path: where to write the figure (.png at 300 dpi, .svg, .pdf); not written if None.
        y: the column of the trace: "exploitability", "nash_conv", "regularized_gap", "value",
            "average_exploitability", or "kl", which a `Recording` has. In "kl" the line of the MMD paper's Theorem 3.4
            is drawn where it holds. Logarithmic, but for the value.
        xscale: "linear" or "log", of the work. A logarithmic axis has no place for a start at which no work has been
            done, such as evaluation 0 of a regret minimizer.
        ax: axes of a figure of your own to draw into.
        style: "paper" for a figure of a column's width in small print, with neither title nor tolerance; None for a
            screen. Axes of your own are begun inside `with mmd.paper_style():`.
        legend: whether there is one: inside the axes, or below them where it would cover a curve.

    A line is solid for a last iterate, dashed for an average. A dotted line goes on from where a run ended because the
    game regularized towards its magnet is solved. A shaded band holds rows that lie too close together for a line.

    Returns:
        The axes that were given, or else the figure.

    Raises:
        RunError: a run is none, or a path is not a run directory.
        FigureError: a run has no such column, there is no such work, scale or style, or `ax` are no axes.
        OutputError: matplotlib cannot be imported, or the figure cannot be written.
    """
    curves = _curves(runs)
    if not curves:
        raise RunError("expected at least one run to draw, got none")
    return draw_convergence(curves, Look(x, y, xscale, style, given=_given(runs), legend=legend), path, ax)


def _given(runs: Runs) -> frozenset[str]:
    """The labels that the caller chose."""
    return frozenset(runs) if isinstance(runs, Mapping) else frozenset()


def _curves(runs: Runs) -> dict[str, Curve]:
    """Curves by label: the method or the folder, with the run's number where that is not enough."""
    if isinstance(runs, Mapping):
        return {label: curve_of(run) for label, run in runs.items()}
    if not isinstance(runs, HasCurve | str | os.PathLike | Iterable):
        raise _no_run(runs)
    listed = [runs] if isinstance(runs, HasCurve | str | os.PathLike) else list(runs)
    curves = [curve_of(run) for run in listed]
    names = [
        run.method if isinstance(run, HasCurve) else label_with_method(Path(run).resolve().name, curve)
        for run, curve in zip(listed, curves, strict=True)
    ]
    labels = [name if names.count(name) == 1 else f"{name} {i}" for i, name in enumerate(names, 1)]
    return dict(zip(labels, curves, strict=True))
