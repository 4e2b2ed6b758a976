"""What notebooks show of a result: small HTML tables of escaped text, without scripts, styles or links; data frames."""

import importlib
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import islice
from typing import Any

import numpy as np

MOST_ROWS = 12


def html_table(caption: str, rows: Iterable[Sequence[object]], header: Sequence[str] = (), count: int = 0) -> str:
    """A table of at most `MOST_ROWS` rows; the first cell of each is a heading.

    Args:
        caption: text above it.
        rows: cells, of which no more are asked for than are shown.
        header: names of the columns.
        count: how many rows there are, to say how many are left out; 0 if all are given.
    """
    shown = list(islice(rows, MOST_ROWS))
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join(
        f"<tr><th>{_text(first)}</th>{''.join(f'<td>{_text(cell)}</td>' for cell in rest)}</tr>"
        for first, *rest in shown
    )
    left_out = f"<tr><td>and {count - len(shown):,} more</td></tr>" if count > len(shown) else ""
    return (
        f"<table><caption>{escape(caption)}</caption>{f'<thead><tr>{head}</tr></thead>' if head else ''}"
        f"<tbody>{body}{left_out}</tbody></table>"
    )


def html_columns(caption: str, columns: Mapping[str, np.ndarray], counts: Sequence[str] = ()) -> str:
    """A table of at most `MOST_ROWS` rows of columns, from the first to the last, as `html_table` makes it.

    Args:
        caption: text above it.
        columns: [n] numbers by name; those without a finite one are left out.
        counts: names of the columns that hold whole numbers.
    """
    names = [name for name, column in columns.items() if np.isfinite(column).any()]
    n = max(map(len, columns.values()), default=0)
    at = np.unique(np.linspace(0, n - 1, MOST_ROWS).astype(int)) if n else []
    rows = (tuple(int(columns[x][i]) if x in counts else float(columns[x][i]) for x in names) for i in at)
    return html_table(caption, rows, names)


def _text(cell: object) -> str:
    if isinstance(cell, float):
        return "" if math.isnan(cell) else f"{cell:.6g}"
    return escape(f"{cell:,}" if isinstance(cell, int) and not isinstance(cell, bool) else str(cell))


def data_frame(columns: Mapping[str, Any]) -> Any:
    """A `pandas.DataFrame` of columns by name.

    Raises:
        ModuleNotFoundError: pandas is not installed; the message says how to install it.
    """
    try:
        pandas = importlib.import_module("pandas")
    except ModuleNotFoundError:
        raise ModuleNotFoundError("data frames need pandas: pip install 'magnetic-mirror[pandas]'") from None
    return pandas.DataFrame(columns)
