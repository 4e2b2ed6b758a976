"""The picture of a run: how often it wins against its start, how far it has gone from it, how long its answers are.

What is drawn is what stands in `metrics.jsonl`, round by round.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from mmd.host.drawing import COLORS, MARKERS, empty_figure, save_figure
from mmd.host.files import OutputError

FILE = "training.png"
ROUND, WIN_RATE, LENGTH = "round", "eval/win_rate", "response_length"
LINES = ("-", "--")  # the second of two equal curves does not hide the first
PANELS = (
    ("win rate against the start", (WIN_RATE,)),
    ("divergence, nats an answer", ("kl/initial", "kl/magnet")),
    ("tokens an answer", (LENGTH, "eval/response_length")),
)
LABELS = {
    WIN_RATE: "held-out prompts, 95 % interval",
    "kl/initial": "from the start",
    "kl/magnet": "from the magnet",
    LENGTH: "while training",
    "eval/response_length": "held-out prompts",
}


class Curve(NamedTuple):
    """A metric along rounds, where it is known.

    Attributes:
        rounds: in which it is.
        values: the metric.
        low, high: its interval; None without one.
    """

    rounds: Float[np.ndarray, " n"]
    values: Float[np.ndarray, " n"]
    low: Float[np.ndarray, " n"] | None = None
    high: Float[np.ndarray, " n"] | None = None


def curves(rows: Sequence[Mapping[str, Any]]) -> dict[str, Curve]:
    """What is drawn of a run, by metric; those that no round has are left out.

    Args:
        rows: of `metrics.jsonl`.
    """
    found = {}
    for name in LABELS:
        known = [row for row in rows if row.get(name) is not None]
        if not known:
            continue
        sides = [f"{name}_{side}" for side in ("low", "high")]
        whole = all(row.get(side) is not None for row in known for side in sides)
        columns = [ROUND, name, *(sides if whole else ())]
        found[name] = Curve(*(np.array([row[column] for row in known], np.float64) for column in columns))
    return found


def figure(rows: Sequence[Mapping[str, Any]]) -> Any:
    """A `matplotlib.figure.Figure` with a panel for each of `PANELS` of which something is known.

    Raises:
        OutputError: matplotlib cannot be imported.
    """
    known = curves(rows)
    panels = [(title, names) for title, names in PANELS if known.keys() & set(names)]
    drawn = empty_figure(figsize=(4.4 * max(1, len(panels)), 3.4), layout="constrained")
    for place, (title, names) in enumerate(panels, 1):
        axes = drawn.add_subplot(1, len(panels), place)
        handles = [
            _drawn(axes, known[name], LABELS[name], style)
            for name, *style in zip(names, COLORS, MARKERS, LINES, strict=False)
            if name in known
        ]
        if WIN_RATE in names:
            axes.axhline(0.5, color="0.4", linestyle=":", linewidth=1.0)
            axes.set_ylim(0, 1)
        elif LENGTH in names:
            axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
        axes.set(title=title, xlabel="rounds")
        axes.locator_params(axis="x", integer=True)
        axes.grid(visible=True, alpha=0.3)
        axes.legend(handles, [handle[-1].get_label() for handle in handles], fontsize="small")
    return drawn


def _drawn(axes: Any, curve: Curve, label: str, style: Sequence[str]) -> tuple[Any, ...]:
    """What stands for a curve in the legend: the band of its interval, if there is one, and its line.

    Args:
        axes: to draw on.
        curve: along rounds.
        label: of the line.
        style: color, marker and kind of line.
    """
    color, marker, line = style
    band = ()
    if curve.low is not None and curve.high is not None:
        band = (axes.fill_between(curve.rounds, curve.low, curve.high, color=color, alpha=0.2, linewidth=0),)
    every = max(1, len(curve.rounds) // 20)
    shown = {"color": color, "marker": marker, "linestyle": line, "markersize": 4, "markevery": every}
    return (*band, *axes.plot(curve.rounds, curve.values, label=label, **shown))


def draw(rows: Sequence[Mapping[str, Any]], folder: Path, shown: Path) -> list[str]:
    """Draw a run into its folder, and say so in a line; or say why not, for a picture is worth no failure.

    Args:
        rows: of `metrics.jsonl`.
        folder: the run's.
        shown: how it is called in the line.
    """
    if not curves(rows):
        return []
    try:
        save_figure(figure(rows), folder / FILE, dpi=150)
    except OutputError as error:
        return [f"no picture: {error}"]
    return [f"picture: {shown / FILE}"]
