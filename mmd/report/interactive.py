"""Blocks that a script draws: curves, policies, answers. What the script needs stands beside them as JSON.

JSON inside HTML must hold no `<`, or a text with `</script>` would end it; `_json` writes that as an escape.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mmd.report.blocks import Number, text_html

DIGITS = 6  # of a probability: what a page shows has four, and the run's own files have all
POINTS = 2_000  # of a curve; a screen has no more columns


class Line(NamedTuple):
    """A curve.

    Attributes:
        label: what it is called.
        run: number of the run, which has a colour.
        columns: name -> values, None where there is none; all equally long. `NAME_low` and `NAME_high` are the
            interval of NAME.
        style: 0 for a solid line, 1 for a dashed one, 2 for a dotted one, 3 for points alone.
    """

    label: str
    run: int
    columns: Mapping[str, Sequence[Number | None]]
    style: int = 0


class Axis(NamedTuple):
    """What an axis shows: a column, how it is called, and whether its scale is logarithmic.

    Attributes:
        column: of the lines.
        label: of the axis.
        log: whether it is.
        bounds: lowest and highest value; None for those of the curves.
    """

    column: str
    label: str
    log: bool = False
    bounds: tuple[float, float] | None = None


class Level(NamedTuple):
    """A horizontal line, where the vertical axis shows a column."""

    label: str
    column: str
    value: Number


class Chart(NamedTuple):
    """Curves that can be zoomed, with the values under the pointer.

    Attributes:
        caption: what it shows.
        xs, ys: what the axes may show, the first choice first.
        lines, horizontals: what is drawn.
        note: a sentence below it.
        small: whether it stands beside others.
    """

    caption: str
    xs: Sequence[Axis]
    ys: Sequence[Axis]
    lines: Sequence[Line]
    horizontals: Sequence[Level] = ()
    note: str = ""
    small: bool = False

    def html(self) -> str:
        """As HTML."""
        drawn = {
            "caption": self.caption,
            "xs": [axis._asdict() for axis in self.xs],
            "ys": [axis._asdict() for axis in self.ys],
            "lines": [line._asdict() | {"columns": _thinned(line.columns)} for line in self.lines],
            "levels": [level._asdict() for level in self.horizontals],
        }
        note = f"<figcaption>{text_html(self.note)}</figcaption>" if self.note else ""
        kind = "chart small" if self.small else "chart"
        return f'<figure class="{kind}"><h3>{text_html(self.caption)}</h3>{_held(drawn)}{note}</figure>'


class Panels(NamedTuple):
    """Charts side by side, as far as there is room."""

    charts: Sequence[Chart]

    def html(self) -> str:
        """As HTML."""
        return f'<div class="panels">{"".join(chart.html() for chart in self.charts)}</div>'


class Player(NamedTuple):
    """One player's information sets and the policies of several runs there.

    Attributes:
        name: of the player.
        infosets: [I] their labels, each one before those that follow its actions.
        counts: [I] how many actions each has.
        actions: [S] labels of the actions, infoset by infoset.
        parents: [I] which action, counted from 0, leads to each of them; -1 where no earlier one of this player does.
            None where that is not known, and then there is no tree.
        probabilities: a list [S] for each run.
    """

    name: str
    infosets: Sequence[str]
    counts: Sequence[int]
    actions: Sequence[str]
    parents: Sequence[int] | None
    probabilities: Sequence[Sequence[Number]]


class Policies(NamedTuple):
    """Policies of runs on one game, side by side: a table that can be searched, and a tree.

    Attributes:
        caption: which game they are of.
        runs: names of the runs, by number, which has a colour.
        players: of the game.
        note: a sentence below it.
    """

    caption: str
    runs: Mapping[int, str]
    players: Sequence[Player]
    note: str = ""

    def html(self) -> str:
        """As HTML."""
        named = {"caption": self.caption, "runs": [*self.runs.values()], "numbers": [*self.runs]}
        held = named | {"players": [_of_player(one) for one in self.players]}
        note = f'<p class="note">{text_html(self.note)}</p>' if self.note else ""
        return f'<div class="policies"><h3>{text_html(self.caption)}</h3>{_held(held)}{note}</div>'


class Answer(NamedTuple):
    """Two answers to a prompt.

    Attributes:
        run: number of the run.
        round: of the run; None where there are no rounds.
        prompt, first, second: the texts.
        preference: P(the second one is preferred); None where the judge said nothing.
    """

    run: int
    round: int | None
    prompt: str
    first: str
    second: str
    preference: Number | None


class Answers(NamedTuple):
    """Answers side by side, with the judge's verdict.

    Attributes:
        caption: whose answers they are.
        runs: names of the runs.
        sides: of each run, what the first and the second answer are called; the models, where they are.
        answers: all of them.
        note: a sentence below them.
    """

    caption: str
    runs: Sequence[str]
    sides: Sequence[tuple[str, str]]
    answers: Sequence[Answer]
    note: str = ""

    def html(self) -> str:
        """As HTML."""
        held = {"runs": list(self.runs), "sides": list(self.sides), "answers": [list(one) for one in self.answers]}
        note = f'<p class="note">{text_html(self.note)}</p>' if self.note else ""
        return f'<div class="answers"><h3>{text_html(self.caption)}</h3>{_held(held)}{note}</div>'


def _of_player(player: Player) -> dict[str, Any]:
    rounded = [[float(f"{p:.{DIGITS}g}") for p in of_run] for of_run in player.probabilities]
    return player._asdict() | {"probabilities": rounded}


def _thinned(columns: Mapping[str, Sequence[Number | None]]) -> dict[str, list[Number | None]]:
    """At most about `POINTS` of each column, the first and the last among them, denser at the beginning."""
    n = max(map(len, columns.values()), default=0)
    if n <= POINTS:
        kept = range(n)
    else:
        even = {round(i * (n - 1) / (POINTS // 2)) for i in range(POINTS // 2 + 1)}
        early = {round(math.expm1(i * math.log(n) / (POINTS // 2))) for i in range(POINTS // 2)}
        kept = sorted(even | early)
    return {name: [_finite(values[i]) for i in kept] for name, values in columns.items()}


def _finite(value: Number | None) -> Number | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _held(content: Mapping[str, Any]) -> str:
    """JSON for the block's script."""
    return f'<script type="application/json">{_json(content)}</script>'


def _json(content: Mapping[str, Any]) -> str:
    """JSON without anything that HTML would read."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
