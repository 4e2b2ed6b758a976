"""Comparisons in CSV files, a row for each match or for each pair.

The names in the first row alone say which:

    a, b, wins_a, wins_b[, ties]         how often a was preferred to b, b to a, and neither
    player, opponent, score              one match: 1 if the player won, 0 if it lost, 0.5 for a tie
    row, column, wins, losses[, ties]    how often an action of the row player won against one of the column player

Columns may stand in any order, large and small letters are one. Any text is a name in the columns of names, also a
number. Rows of one pair are added, whichever of the two comes first. The separator is the one with which the first row
has these names: a comma, a semicolon, a tab or a bar.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from games import matrix, preference
from games.readers.cells import read_cell
from games.readers.csv_table import SEPARATORS, declared, split
from games.readers.source import GameFormatError, read_text
from mmd.game.game import Game, GameError

FORMS = (
    ("a", "b", "wins_a", "wins_b"),
    ("player", "opponent", "score"),
    ("row", "column", "wins", "losses"),
)
TIES = "ties"  # a column that may be there besides, unless rows are matches
KNOWN = "a, b, wins_a, wins_b and perhaps ties; player, opponent, score; or row, column, wins, losses and perhaps ties"
TELLING = {"wins_a", "wins_b", "player", "opponent", "score", "wins", "losses"}  # not what any action may be called
SCORES = (0.0, 0.5, 1.0)


class _Header(NamedTuple):
    """The first row: where it is, its names, and what separates them."""

    line: int
    names: list[str]
    separator: str
    body: str
    first_line: int

    @property
    def form(self) -> tuple[str, ...] | None:
        """The form that it names exactly."""
        return next((form for form in FORMS if sorted(self.names) in _spellings(form)), None)


@dataclass(frozen=True)
class Comparisons:
    """The rows of a file, which is of one of the three forms.

    Attributes:
        path: the file.
        header: its first row.
    """

    path: Path
    header: _Header

    def game(self, name: str, missing: str) -> Game:
        """The game of the shares of wins.

        Raises:
            GameFormatError: with the line and the cell that is no name or no number, or a comparison of an option with
                itself.
            GameError: a pair was never compared, and that is not allowed for.
        """
        asymmetric = self.header.form == FORMS[2]
        rows: dict[str, int] = {}
        columns: dict[str, int] = {} if asymmetric else rows
        counts: dict[tuple[int, int], np.ndarray] = {}
        for one, other, outcome in self._rows():
            at = rows.setdefault(one, len(rows)), columns.setdefault(other, len(columns))
            counts[at] = counts.get(at, np.zeros(3)) + outcome
        if not counts:
            raise GameFormatError(self.path, self.header.line + 1, 1, "expected comparisons below the header")
        table = np.zeros((3, len(rows), len(columns)))
        for (i, j), outcome in counts.items():
            table[:, i, j] += outcome
            if not asymmetric:
                table[:, j, i] += outcome[[1, 0, 2]]
        if not asymmetric:
            return preference.from_counts(table[0], table[2], labels=list(rows), name=name, missing=missing)
        if missing != "refuse":
            raise GameError("#missing applies to comparisons of options with each other, and rows and columns differ")
        return matrix.from_counts(*table, labels=(list(rows), list(columns)), name=name)

    def _rows(self) -> Iterator[tuple[str, str, np.ndarray]]:
        """Both names of each row, and how often the first won, the second, and neither."""
        header, form = self.header, self.header.form
        assert form is not None
        one, other = (header.names.index(column) for column in form[:2])
        numbers = [header.names.index(column) for column in [*form[2:], TIES] if column in header.names]
        matches = form == FORMS[1]
        for line, cells in _filled(self.path, header):
            if len(cells) != len(header.names):
                sentence = f"expected {len(header.names)} cells as in line {header.line}, got {len(cells)}"
                raise GameFormatError(self.path, line, min(len(cells), len(header.names)) + 1, sentence)
            for at in (one, other):
                if not cells[at]:
                    raise GameFormatError(self.path, line, at + 1, f"expected a name, got {_shown(cells[at])}")
            if form != FORMS[2] and cells[one] == cells[other]:
                sentence = f"expected two options, got {cells[one]!r:.40} compared with itself"
                raise GameFormatError(self.path, line, other + 1, sentence)
            values = [_number(self.path, line, at, cells[at], score=matches) for at in numbers]
            if matches:
                values = [float(values[0] == 1.0), float(values[0] == 0.0), float(values[0] == 0.5)]
            yield cells[one], cells[other], np.array([*values, 0.0][:3])


def comparisons_in(path: Path) -> Comparisons | None:
    """The comparisons in a .csv or .tsv file; None if its first row has other names.

    Raises:
        GameFormatError: the file cannot be read.
    """
    return next((Comparisons(path, header) for header in _headers(path) if header.form is not None), None)


def refuse_nearly(path: Path) -> None:
    """Refuse a file that is no matrix and whose first row has nearly the names of comparisons.

    Raises:
        GameFormatError: with the first name that is not known, or the names that are missing.
    """
    for header in _headers(path):
        shared = [len(set(form) & set(header.names)) for form in FORMS]
        if max(shared) < 2 or TELLING.isdisjoint(header.names):
            continue
        form = FORMS[int(np.argmax(shared))]
        allowed = {*form, *([] if form == FORMS[1] else [TIES])}
        index = next((i for i, n in enumerate(header.names) if n not in allowed or n in header.names[:i]), None)
        lacking = ", ".join(column for column in form if column not in header.names)
        got = f"without {lacking}" if index is None else f"got {_shown(header.names[index])}"
        sentence = f"expected the columns of comparisons, {KNOWN}, {got}"
        raise GameFormatError(path, header.line, None if index is None else index + 1, sentence)


def _spellings(form: tuple[str, ...]) -> list[list[str]]:
    return [sorted(form)] if form == FORMS[1] else [sorted(form), sorted([*form, TIES])]


def _headers(path: Path) -> Iterator[_Header]:
    """The first row that is not blank, under every separator that it may have."""
    text = read_text(path)
    separator, body, first_line = declared(path, text)
    for candidate in SEPARATORS if separator is None else (separator,):
        header = _Header(0, [], candidate, body, first_line)
        try:
            line, cells = next(_filled(path, header), (0, []))
        except GameFormatError:
            continue
        yield _Header(line, [cell.lower() for cell in cells], candidate, body, first_line)


def _filled(path: Path, header: _Header) -> Iterator[tuple[int, list[str]]]:
    """The rows behind the header that are not blank, with the line on which each begins; all rows if it has no line."""
    reader, line = split(header.body, header.separator), header.first_line
    try:
        for texts in reader:
            cells = [text.replace("\ufeff", "").strip() for text in texts]
            if line > header.line and any(cells):
                yield line, cells
            line = reader.line_num + header.first_line
    except csv.Error as error:
        at = reader.line_num + header.first_line - 1
        raise GameFormatError(path, at, None, f"not CSV: {error}") from None


def _number(path: Path, line: int, index: int, text: str, *, score: bool) -> float:
    """The count or the score in a cell."""
    wanted = "a score, 1, 0 or 0.5" if score else "a count, a whole number of at least 0"
    try:
        number = read_cell(text)
    except ValueError:
        number = text
    good = isinstance(number, float) and (number in SCORES if score else number >= 0 and number.is_integer())
    if not isinstance(number, float) or not good:
        raise GameFormatError(path, line, index + 1, f"expected {wanted}, got {_shown(text)}")
    return number


def _shown(text: str) -> str:
    return repr(text[:40]) if text else "an empty cell"
