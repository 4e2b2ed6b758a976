"""Blocks that are plain HTML: paragraphs, tables of facts, win rates, shares. They need no script."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, Literal, NamedTuple

NONE = "\N{EN DASH}"  # in place of a number that there is not
Number = int | float  # a checker of types at run time tells them apart
Kind = Literal["good", "bad", "open"]


class Badge(NamedTuple):
    """A word that is set off; the kind is a colour, and the word says the same."""

    text: str
    kind: Kind


class Bar(NamedTuple):
    """A share of 1 as a bar, with its interval if there is one, and in figures."""

    value: Number | None
    low: Number | None = None
    high: Number | None = None


Cell = str | Number | bool | None | Badge | Bar


def text_html(text: str) -> str:
    """Text as HTML."""
    return escape(text, quote=True)


def breakable_html(text: str) -> str:
    """Text as HTML that is broken, where it must be, after the marks inside names and paths."""
    return re.sub(r"(?<=[,:/_])(?=\w)|(?<=[.=])(?=[^\W\d])", "<wbr>", text_html(text))


def number(value: Number | None, digits: int = 4) -> str:
    """A number for people: whole ones with commas, others with so many significant digits; a dash for none."""
    if value is None or not math.isfinite(value):
        return NONE
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.{digits}g}"


def cell_html(value: Cell) -> str:
    """A cell's content."""
    if isinstance(value, Badge):
        return f'<span class="badge {value.kind}">{text_html(value.text)}</span>'
    if isinstance(value, Bar):
        return _bar(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or isinstance(value, int | float):
        return f'<span class="number">{number(value)}</span>'
    return f"<bdi>{breakable_html(value)}</bdi>"


def _bar(bar: Bar) -> str:
    if bar.value is None or not math.isfinite(bar.value):
        return cell_html(None)
    share = 100 * min(max(bar.value, 0.0), 1.0)
    known = bar.low is not None and bar.high is not None
    low, high = (100 * (bound if known and bound is not None else 0.0) for bound in (bar.low, bar.high))
    span = f' <span class="interval">[{low:.1f}, {high:.1f}]</span>' if known else ""
    whisker = f'<i class="whisker" style="left:{low:.2f}%;width:{max(high - low, 0):.2f}%"></i>' if known else ""
    return (
        f'<span class="bar" aria-hidden="true"><i style="width:{share:.2f}%"></i>{whisker}</span>'
        f'<span class="number">{100 * bar.value:.1f} %{span}</span>'
    )


def table_html(caption: str, columns: Sequence[str], rows: str, *, kind: str = "facts") -> str:
    """A table that scrolls where it is too wide, given its rows as HTML."""
    head = "".join(f'<th scope="col"><bdi>{text_html(name)}</bdi></th>' for name in columns)
    named = f"<thead><tr><td></td>{head}</tr></thead>" if any(columns) else ""
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{text_html(caption)}"><table class="{kind}">'
        f"<caption>{text_html(caption)}</caption>{named}<tbody>{rows}</tbody></table></div>"
    )


class Text(NamedTuple):
    """Paragraphs."""

    paragraphs: Sequence[str]

    def html(self) -> str:
        """As HTML."""
        return "".join(f"<p>{text_html(one)}</p>" for one in self.paragraphs)


class Facts(NamedTuple):
    """Named facts of several runs, a column for each.

    Attributes:
        caption: what they are about.
        columns: names of the runs.
        rows: name -> a cell for each run.
        compared: whether rows in which runs differ are set off, and may be shown alone.
    """

    caption: str
    columns: Sequence[str]
    rows: Mapping[str, Sequence[Cell]]
    compared: bool = False

    def html(self) -> str:
        """As HTML."""
        compared = self.compared and len(self.columns) > 1
        rows = "".join(self._row(name, cells, compared) for name, cells in self.rows.items())
        if not compared:
            return table_html(self.caption, self.columns, rows)
        only = '<label class="only"><input type="checkbox" class="differences"> only what differs</label>'
        return f'<div class="compared">{only}{table_html(self.caption, self.columns, rows)}</div>'

    def _row(self, name: str, cells: Sequence[Cell], compared: bool) -> str:
        shown = [cell_html(cell) for cell in cells]
        differs = compared and len(set(shown)) > 1
        mark = '<span class="mark" title="the runs differ">≠<span class="unseen"> differs: </span></span>&nbsp;'
        held = "".join(f"<td>{cell}</td>" for cell in shown)
        label = f'<th scope="row">{mark * differs}<bdi>{breakable_html(name)}</bdi></th>'
        kind = ' class="differs"' if differs else ""
        return f"<tr{kind}>{label}{held}</tr>"


def side_by_side(caption: str, found: Mapping[str, Mapping[str, Cell]], *, compared: bool = False) -> Facts:
    """Facts of runs in columns, in the order in which the first run that has one names it.

    Args:
        caption: of the table.
        found: label of a run -> name of a fact -> cell.
        compared: as in `Facts`.
    """
    names = dict.fromkeys(name for facts in found.values() for name in facts)
    rows = {name: [facts.get(name) for facts in found.values()] for name in names}
    return Facts(caption, [*found], rows, compared)


def plain(value: Any) -> Cell:
    """What stands in a JSON or YAML file as a cell."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):
        return float(value) if isinstance(value, float) or abs(value) < 1e15 else str(value)
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(value)
    return json.dumps(value, ensure_ascii=False, default=str)


def flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Cell]]:
    """Names with dots, and cells, of nested objects."""
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", plain(value)


class Matrix(NamedTuple):
    """Win rates of rows against columns, as a table of colours with the figures in it.

    Attributes:
        caption: what they are.
        names: of the n rows and columns.
        values: [n][n] in [0, 1]; None where there is none.
        low, high: [n][n] their intervals.
    """

    caption: str
    names: Sequence[str]
    values: Sequence[Sequence[Number | None]]
    low: Sequence[Sequence[Number | None]]
    high: Sequence[Sequence[Number | None]]

    def html(self) -> str:
        """As HTML."""
        rows = "".join(
            f'<tr><th scope="row"><bdi>{text_html(name)}</bdi></th>'
            f"{''.join(self._cell(i, j) for j in range(len(self.names)))}</tr>"
            for i, name in enumerate(self.names)
        )
        return table_html(self.caption, self.names, rows, kind="matrix")

    def _cell(self, i: int, j: int) -> str:
        value, low, high = (table[i][j] for table in (self.values, self.low, self.high))
        if i == j or value is None:
            return f'<td class="none">{NONE * (i != j)}</td>'
        side, strength = ("win" if value >= 0.5 else "loss"), min(2 * abs(value - 0.5), 1.0)
        bounds = "" if low is None or high is None else f"<small>[{100 * low:.0f}, {100 * high:.0f}]</small>"
        return f'<td class="{side}" style="--strength:{strength:.3f}"><b>{100 * value:.1f}</b>{bounds}</td>'


class Shares(NamedTuple):
    """What a whole is made of, a bar for each run.

    Attributes:
        caption: what it is.
        unit: of the numbers.
        runs: name of a run -> part -> number.
    """

    caption: str
    unit: str
    runs: Mapping[str, Mapping[str, Number]]

    def html(self) -> str:
        """As HTML."""
        parts = list(dict.fromkeys(part for held in self.runs.values() for part in held))
        keys = "".join(f'<li><i class="swatch part-{k % 8}"></i>{text_html(part)}</li>' for k, part in enumerate(parts))
        bars = "".join(self._bar(name, held, parts) for name, held in self.runs.items())
        rows = "".join(
            f'<tr><th scope="row"><bdi>{text_html(name)}</bdi></th>'
            f"{''.join(f'<td>{cell_html(held.get(part))}</td>' for part in parts)}</tr>"
            for name, held in self.runs.items()
        )
        legend = f'<ul class="keys" aria-hidden="true">{keys}</ul>'
        table = table_html(f"{self.caption}, {self.unit}", parts, rows)
        return f'<div class="shares">{legend}{bars}{table}</div>'

    def _bar(self, name: str, held: Mapping[str, Number], parts: Sequence[str]) -> str:
        whole = sum(held.values()) or 1.0
        pieces = "".join(
            f'<i class="part-{k % 8}" style="width:{100 * held[part] / whole:.3f}%" '
            f'title="{text_html(f"{part}: {number(held[part])} {self.unit}")}"></i>'
            for k, part in enumerate(parts)
            if held.get(part)
        )
        return f'<p class="stack" aria-hidden="true"><bdi>{text_html(name)}</bdi><span>{pieces}</span></p>'
