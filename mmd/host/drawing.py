"""Figures that belong to no window: how they are begun, coloured and written.

Colours are Okabe and Ito's, told apart by markers as well. matplotlib is imported when a figure is asked for.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mmd.host.files import OutputError, prepare_file, replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

FORMATS = (".png", ".svg", ".pdf")
BACKEND = "MPLBACKEND"  # environment variable of matplotlib
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
PLAIN: dict[Any, Any] = {"svg.fonttype": "none", "pdf.fonttype": 42, "ps.fonttype": 42}  # text stays text
MARKERS = ("o", "s", "^", "v", "D", "P", "X", "*")


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


def draw_legend(axes: "Axes", *, grow: bool = False) -> None:
    """A legend of all lines that have a label, where no curve is: inside the axes, or else below them.

    Below only in a figure that makes room (layout="constrained", for one); in others the place inside that covers
    least.

    Args:
        axes: with all that is drawn.
        grow: whether the figure becomes higher by a legend below.
    """
    named = [line for line in axes.get_lines() if not str(line.get_label()).startswith("_child")]
    legend, figure = axes.legend(handles=named), cast("Any", axes.figure).figure
    layout = figure.get_layout_engine()
    if layout is not None:
        layout.execute(figure)  # what is where, without a drawing, which would take twice as long
        if _covers(legend, axes):
            width = legend.get_window_extent().width
            legend = axes.legend(handles=named, **_below(axes, legend), ncols=_fitting(axes, width, len(named)))
            if grow:
                figure.set_figheight(figure.get_figheight() + legend.get_window_extent().height / figure.dpi)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _below(axes: "Axes", legend: "Legend") -> dict[str, Any]:
    """Where a legend stands that is below the labels of the axis: under the middle of the figure, or of a panel."""
    from matplotlib.transforms import blended_transform_factory

    figure, labels = cast("Any", axes.figure).figure, cast("Any", axes.xaxis.get_tightbbox())
    across = figure.transFigure if len(figure.axes) == 1 else axes.transAxes
    return {
        "loc": "upper center",
        "bbox_to_anchor": (0.5, 0.0),
        "bbox_transform": blended_transform_factory(across, axes.transAxes),
        "borderaxespad": (axes.bbox.y0 - labels.y0) / (legend.get_texts()[0].get_fontsize() * figure.dpi / 72) + 0.5,
    }


def _fitting(axes: "Axes", width: float, many: int) -> int:
    """How many columns of a legend have room, of which one is so many pixels wide."""
    figure: Any = axes.figure.figure
    room = figure.bbox.width if len(figure.axes) == 1 else axes.bbox.width
    return min(max(int(room // width), 1), many)


def _covers(legend: "Legend", axes: "Axes") -> bool:
    """Whether a legend lies on a line or a band of its axes."""
    box = legend.get_window_extent()
    for line in axes.get_lines():
        path: Any = line.get_transform().transform_path(line.get_path())
        if len(path.vertices) and (path.intersects_bbox(box, filled=False) or box.count_contains(path.vertices)):
            return True
    bands = ((band.get_transform(), path) for band in axes.collections for path in band.get_paths())
    return any(transform.transform_path(path).intersects_bbox(box) for transform, path in bands)


def save_figure(figure: "Figure", path: str | os.PathLike[str], dpi: int) -> None:
    """Write a figure, whole, in the format that its name says; the same figure gives the same SVG, without a date.

    Raises:
        OutputError: it cannot be written.
    """
    from matplotlib import rc_context

    kind = Path(path).suffix[1:].lower()
    dated: dict[str, Any] = {"metadata": {"Date": None}} if kind == "svg" else {}
    try:
        with replacing(path) as part, rc_context({**PLAIN, "svg.hashsalt": "magnetic-mirror"}):
            figure.savefig(part, dpi=dpi, format=kind, **dated)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from None
