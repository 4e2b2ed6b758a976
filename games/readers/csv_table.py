"""CSV files: a matrix of numbers, perhaps with a header row of names, a first column of names, or both.

Nothing is guessed. Every cell is a number or a name (`games.readers.cells`), rows have one length, and a row or a
column that only counts its like is refused. Commas separate the cells of a .csv file and tabs those of a .tsv file,
unless the first line is `sep=;` or the like, as spreadsheets write it; a file without any comma whose rows all fall
into the same number of cells at one other separator is read with that. Errors count cells as columns.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from games.readers.cells import read_cell
from games.readers.source import GameFormatError, read_text

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
DECLARATION = re.compile(r'"?sep=(.*?)"?', re.IGNORECASE)
PLACES = "names fill the first row, the first column, or both"
INDEX_NAMES = ("index", "id", "row", "no", "nr", "unnamed: 0")


@dataclass(frozen=True)
class Table:
    """What a CSV file holds.

    Attributes:
        numbers: [m, n].
        rows, columns: names of the m rows and the n columns; None where the file has none.
    """

    numbers: Float[np.ndarray, "m n"]
    rows: list[str] | None
    columns: list[str] | None


class _Row(NamedTuple):
    """The line on which a row starts, its cells as they are written, and what they say."""

    line: int
    texts: list[str]
    cells: list[float | str]


def read_table(path: Path) -> Table:
    """Read a .csv or .tsv file.

    Raises:
        GameFormatError: with the line and the cell that is neither a number nor a name, or out of its place.
    """
    text = read_text(path)
    separator, body, line = declared(path, text)
    if separator is not None:
        return _Reader(path, separator, line).table(body)
    if path.suffix.lower() == ".tsv":
        return _Reader(path, "\t", 1).table(text)
    if "," not in text and len(likely := _likely(text)) == 1:
        return _Reader(path, likely[0], 1).table(text)
    table = _with_commas(path, text)
    if table.rows is not None and (other := _decimal_commas(text)):
        named = f"say which in a first line sep=, or {_declaration(other)}"
        raise GameFormatError(path, 1, 1, f"commas or {SEPARATORS[other]} may separate the cells: {named}")
    return table


def _with_commas(path: Path, text: str) -> Table:
    """The table whose cells commas separate; a refusal says what else may separate them."""
    try:
        return _Reader(path, ",", 1).table(text)
    except GameFormatError as error:
        hint = ""
        if likely := _likely(text):
            hint = f"; if {SEPARATORS[likely[0]]} separate the cells, say so in a first line {_declaration(likely[0])}"
            hint += ", and write decimals with a point, as 0.5" if _decimal_commas(text) else ""
        elif _fits_spaces(text):
            hint = "; if spaces separate the cells, put commas in their place"
        raise GameFormatError(path, error.line, error.column, f"{error.sentence}{hint}") from None


def _declaration(separator: str) -> str:
    """How a message writes the line that declares a separator."""
    return "sep= and a tab" if separator == "\t" else f"sep={separator}"


# -------------------------------------------------------------------- separators


def declared(path: Path, text: str) -> tuple[str | None, str, int]:
    """The separator that the first line declares, what follows that line, and the number of its first line."""
    first, *rest = re.split(r"\r\n|\r|\n", text, maxsplit=1)
    match = DECLARATION.fullmatch(first.strip(" "))
    if match is None:
        return None, text, 1
    if match[1] not in SEPARATORS:
        known = ", ".join(f"{separator!r}" for separator in SEPARATORS)
        raise GameFormatError(path, 1, 5, f"expected one of {known} to be declared as separator, got {match[1]!r:.20}")
    return match[1], "".join(rest), 2


def _likely(text: str) -> list[str]:
    """The separators other than commas that part all rows into the same number of cells, two or more."""
    return [separator for separator in SEPARATORS if separator != "," and _fits(text, separator)]


def _decimal_commas(text: str) -> str | None:
    """A separator with which every row, one at most apart, holds a number with a comma in it: `x;1,2`."""
    for separator in _likely(text):
        rows = [row for row in split(text, separator) if row]
        written = [any(re.fullmatch(r"\s*[-+]?\d[\d.]*,\d+\s*", cell) for cell in row) for row in rows]
        if sum(written) >= max(1, len(rows) - 1):
            return separator
    return None


def _fits(text: str, separator: str) -> bool:
    try:
        lengths = {len(row) for row in split(text, separator) if row}
    except csv.Error:
        return False
    return len(lengths) == 1 and lengths.pop() > 1


def _fits_spaces(text: str) -> bool:
    lengths = {len(line.split()) for line in text.splitlines() if line.strip()}
    return "," not in text and len(lengths) == 1 and lengths.pop() > 1


def split(text: str, separator: str) -> Any:
    """A reader of the rows, of the csv module."""
    return csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True)


# -------------------------------------------------------------------- rows and names


@dataclass(frozen=True)
class _Reader:
    """Reads the text of one file whose separator is known."""

    path: Path
    separator: str
    first_line: int

    def table(self, text: str) -> Table:
        rows = self._rows(text)
        first = rows[0].cells
        has_header = all(_is_name(cell) for cell in (first[1:] or first))
        body = rows[1:] if has_header else rows
        if not body:
            raise GameFormatError(self.path, rows[0].line + 1, 1, "expected rows of numbers below the header")
        skip = int(len(first) > 1 and all(_is_name(row.cells[0]) for row in body))
        if len(first) > 1:
            self._check_corner(rows[0], body, has_header=has_header, named=bool(skip))
        self._check_numbers(body, skip)
        numbers = np.array([row.cells[skip:] for row in body], np.float64)
        columns = [str(cell) for cell in first[skip:]] if has_header else None
        self._refuse_counting(body[0].line, numbers, columns, named=bool(skip))
        return Table(numbers, [str(row.cells[0]) for row in body] if skip else None, columns)

    def _rows(self, text: str) -> list[_Row]:
        """The rows that are not blank, all of one length."""
        rows: list[_Row] = []
        gaps: list[_Row | None] = []  # the row before which there was a blank one; None where there was none
        reader, line, blank = split(text, self.separator), self.first_line, False
        try:
            for texts in reader:
                if len(texts) > 1 or any(cell.strip() for cell in texts):
                    rows.append(_Row(line, texts, self._cells(line, texts)))
                    gaps.append(rows[-1] if blank else None)
                blank = len(texts) <= 1 and not any(cell.strip() for cell in texts)
                line = reader.line_num + self.first_line
        except csv.Error as error:
            at = reader.line_num + self.first_line - 1
            raise GameFormatError(self.path, at, None, f"not CSV: {error}") from None
        if not rows:
            raise GameFormatError(self.path, None, None, "the file is empty")
        self._refuse_two_tables(gaps[2:] if all(map(_is_name, rows[0].cells)) else gaps[1:])
        length, _ = Counter(len(row.cells) for row in rows).most_common(1)[0]
        usual = next(row for row in rows if len(row.cells) == length)
        for row in rows:
            if len(row.cells) != length:
                expected = f"expected {length} cells as in line {usual.line}, got {len(row.cells)}"
                raise GameFormatError(self.path, row.line, min(len(row.cells), length) + 1, expected)
        return rows

    def _refuse_two_tables(self, gaps: Sequence[_Row | None]) -> None:
        """A blank row between some rows, and not between all, ends a table."""
        begins = next((row for row in gaps if row is not None), None)
        if begins is not None and None in gaps:
            sentence = "expected one table, but a blank row ends it above: keep each table in a file of its own"
            raise GameFormatError(self.path, begins.line, 1, sentence)

    def _cells(self, line: int, texts: list[str]) -> list[float | str]:
        cells: list[float | str] = []
        try:
            for text in texts:
                cells.append(read_cell(text))
        except ValueError as error:
            raise GameFormatError(self.path, line, len(cells) + 1, str(error)) from None
        return cells

    def _check_corner(self, header: _Row, body: Sequence[_Row], *, has_header: bool, named: bool) -> None:
        """The first cell of a header is a name, or it is blank above names; a header has names only."""
        corner, others = header.cells[0], header.cells[1:]
        if corner == "" and not has_header and any(map(_is_name, others)):
            index = next(i for i, cell in enumerate(others) if not _is_name(cell))
            sentence = f"expected a name as in the rest of the row, got {_shown(header.texts[index + 1])}"
            raise GameFormatError(self.path, header.line, index + 2, sentence)
        if has_header and not isinstance(corner, str):
            place = next(i for i, cell in enumerate(others) if _is_name(cell)) + 1
            name = f"{_shown(header.texts[place])} in column {place + 1}"
            sentence = f"expected names only or numbers only in a row, got {_shown(header.texts[0])} beside {name}"
            raise GameFormatError(self.path, header.line, 1, sentence)
        if not has_header or named or corner != "":
            return
        row = next(row for row in body if not _is_name(row.cells[0]))
        sentence = f"expected a name, as the cell above the first column is empty, got {_shown(row.texts[0])}"
        raise GameFormatError(self.path, row.line, 1, f"{sentence}: leave the column out if it numbers the rows")

    def _check_numbers(self, body: Sequence[_Row], skip: int) -> None:
        """Refuse the first cell from column `skip` on that is blank or a name."""
        for row in body:
            for index, cell in enumerate(row.cells):
                if index >= skip and isinstance(cell, str):
                    sentence = f"expected a number, got {_shown(row.texts[index])}{_hint(row, index, body)}"
                    raise GameFormatError(self.path, row.line, index + 1, sentence)

    def _refuse_counting(
        self, line: int, numbers: Float[np.ndarray, "m n"], columns: list[str] | None, *, named: bool
    ) -> None:
        """Refuse a first row or column 0, 1, 2, ... or 1, 2, ... of a table that is square without it.

        A first column that counts is refused in any table if its own name says that it is an index.
        """
        m, n = numbers.shape
        if columns is None and n > 1 and m == n + 1 and _counts(numbers[0]):
            counting = "the first row counts its columns: leave it out if it is a header, else add a header of names"
            raise GameFormatError(self.path, line, 1 + named, counting)
        is_index = columns is not None and columns[0].lower() in INDEX_NAMES
        if not named and min(m, n) > 1 and (n == m + 1 or is_index) and _counts(numbers[:, 0]):
            counting = "the first column counts its rows: leave it out if it is an index, else add a column of names"
            raise GameFormatError(self.path, line, 1, counting)


def _hint(row: _Row, index: int, body: Sequence[_Row]) -> str:
    """What a cell may be that should have been a number."""
    square = len(body) > 1 and 0 <= len(row.cells) - len(body) <= 1
    if square and all(other.cells[i - len(body)] == "" for i, other in enumerate(body)):
        return " (shares or counts of comparisons have a format of their own, see docs/reference/formats.md)"
    if row.cells[index] == "":
        return ""
    if 0 < index < len(row.cells) - 1 and _is_name(row.cells[0]):
        return f" ({PLACES}; comparisons have a first row that says so, such as a,b,wins_a,wins_b)"
    return f" ({PLACES})"


def _is_name(cell: float | str) -> bool:
    return isinstance(cell, str) and cell != ""


def _shown(text: str) -> str:
    return repr(text.strip()[:40]) if text.strip() else "an empty cell"


def _counts(numbers: Float[np.ndarray, " n"]) -> bool:
    return any(np.array_equal(numbers, np.arange(len(numbers)) + start) for start in (0, 1))
