"""The field's figure: how methods move on a preference game, against the gradient evaluations that they took.

Three panels: NashConv of the last (solid) and of the average iterate (dashed); KL from the nearest equilibrium; and, in
a game of three actions, the row player's path on the simplex, equilibrium marked. Lines are medians over seeds, bands
their tenth to ninetieth percentile.
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from mmd.host.drawing import COLORS, MARKERS, empty_figure, save_figure
from mmd.lab.laboratory import Records

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BAND = (10, 90)
FLOOR = 1e-16
CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])


def plot_laboratory(
    title: str,
    records: Mapping[str, Records],
    distances: Mapping[str, Float[np.ndarray, "C R"]],
    corners: tuple[tuple[str, ...], Float[np.ndarray, " A"]] | None = None,
    path: str | os.PathLike[str] | None = None,
) -> "Figure":
    """Draw it.

    Args:
        title: the game's name.
        records: label -> what was measured.
        distances: label -> KL from the nearest equilibrium to the last iterate.
        corners: names of the row player's three actions and an equilibrium strategy; None leaves the simplex out.
        path: .png, .svg or .pdf to write.

    Raises:
        OutputError: matplotlib cannot be imported, or the figure cannot be written.
    """
    panels = 2 if corners is None else 3
    figure = empty_figure(figsize=(5.2 * panels, 4.4), layout="constrained")
    axes = figure.subplots(1, panels)
    for n, (label, found) in enumerate(records.items()):
        color = COLORS[n % len(COLORS)]
        work = found.gradient_evaluations[0]
        _draw(axes[0], work, found.last, color, "-", label)
        _draw(axes[0], work, found.average, color, "--", None)
        _draw(axes[1], work, distances[label], color, "-", label)
        if corners is not None:
            path_ = np.exp(found.log_policy[0][0][:, 1:]) @ CORNERS
            axes[2].plot(*path_.T, color=color, linewidth=0.8, alpha=0.8)
            axes[2].plot(*path_[-1], MARKERS[n % len(MARKERS)], color=color, markersize=5)
    axes[0].set_ylabel("NashConv: last (solid), average (dashed)")
    axes[1].set_ylabel("KL from the nearest equilibrium")
    for panel in axes[:2]:
        panel.set(xscale="log", yscale="log", xlabel="gradient evaluations")
        panel.grid(visible=True, alpha=0.3)
        if panel.get_ylim()[0] <= FLOOR:  # what is smaller is drawn there
            panel.axhline(FLOOR, color="0.4", linestyle=":", linewidth=0.8)
            panel.annotate("drawn no lower", (1, FLOOR), xycoords=("axes fraction", "data"), ha="right", va="bottom")
    for text in axes[0].legend(fontsize="small").get_texts():
        text.set_parse_math(False)
    if corners is not None:
        _draw_simplex(axes[2], *corners)
    figure.suptitle(title, parse_math=False)
    if path is not None:
        save_figure(figure, path, dpi=200)
    return figure


def _draw(
    axes: "Axes", work: np.ndarray, values: Float[np.ndarray, "C R"], color: str, style: str, label: str | None
) -> None:
    """The median over seeds, and the band if there are several."""
    seen = (work > 0) & np.isfinite(values).all(axis=0)
    if not seen.any():
        return
    work, values = work[seen], np.maximum(values[:, seen], FLOOR)
    width = 1.4 if style == "-" else 0.8
    axes.plot(work, np.median(values, axis=0), style, color=color, label=label, linewidth=width)
    if len(values) > 1:
        low, high = np.percentile(values, BAND, axis=0)
        axes.fill_between(work, low, high, color=color, alpha=0.15, linewidth=0)


def _draw_simplex(axes: "Axes", names: tuple[str, ...], equilibrium: Float[np.ndarray, " A"]) -> None:
    axes.plot(*np.vstack([CORNERS, CORNERS[:1]]).T, color="0.6", linewidth=0.8)
    axes.plot(*(equilibrium @ CORNERS), "*", color="black", markersize=12)
    for name, corner in zip(names, CORNERS, strict=True):
        below = corner[1] == 0
        axes.annotate(name, tuple(corner), ha="center", va="top" if below else "bottom", parse_math=False)
    axes.set_aspect("equal")
    axes.set_axis_off()
