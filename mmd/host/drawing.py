"""Figures that belong to no window: how they are begun, coloured and written.

Colours are Okabe and Ito's, told apart by markers as well. matplotlib is imported when a figure is asked for.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmd.host.files import OutputError, prepare_file, replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
