"""Readers of our own data files: JSON of several kinds, and CSV or NumPy matrices of payoffs to the row player.

JSON files are objects with a `kind`, the `names` of the n options, and [n, n] matrices:

    pairwise_preference            preference[i][j] = share of comparisons that i wins over j, null if they never met
    pairwise_preference_by_judge   judges[NAME].preference, pooled by their mean unless a judge is chosen
    payoff_matrix                  payoff[i][j] to the row player
    election_pairwise_counts       counts[i][j] = ballots that rank i over j; payoff (counts - counts.T) / ballots

A CSV file may have a header row of names, a first column of names, or both. Its errors count cells as columns.
"""

import csv
import difflib
import io
import json
import os
import tokenize
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from games import matrix, preference
from mmd.game import Game, GameError

OPTIONS = ("judge", "subset", "antisymmetrized")
MISSING = ("na", "n/a", "null", "none")  # words for a missing number, which make no name


class GameFormatError(GameError):
    """A file that is not what its format says; reads `path:line:column: sentence`.

    Attributes:
        path: the file.
        line, column: where, from 1; None where there is no such place.
        sentence: what is wrong, and what was expected.
    """

    def __init__(self, path: str | os.PathLike[str], line: int | None, column: int | None, sentence: str) -> None:
        super().__init__(path, line, column, sentence)
        self.path, self.line, self.column, self.sentence = os.fspath(path), line, column, sentence

    def __str__(self) -> str:
        place = [self.path, *(str(at) for at in (self.line, self.column) if at is not None)]
        return f"{':'.join(place)}: {self.sentence}"


def load(path: str | os.PathLike[str], options: Iterable[str] = ()) -> Game:
    """Read a .json, .csv or .npy file.

    Args:
        path: the file.
        options: what follows the file's name in a spec: `judge=NAME`, `subset=FIELD` (a field of the file that lists
            indices of options) or `antisymmetrized` (payoffs A become (A - A.T) / 2).

    Raises:
        GameFormatError: unreadable, not of its format, or options that do not fit it.
    """
    path, options = Path(path), list(options)
    try:
        return READERS[path.suffix.lower()](path, "#".join([path.name, *options]), _parse_options(options))
    except GameFormatError:
        raise
    except GameError as error:
        raise GameFormatError(path, None, None, str(error)) from None


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        GameFormatError: no such file, a directory, unreadable, or empty.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise GameFormatError(path, None, None, "there is no such file") from None
    except IsADirectoryError:
        raise GameFormatError(path, None, None, "expected a file, got a directory") from None
    except OSError as error:
        raise GameFormatError(path, None, None, f"the file cannot be read: {error.strerror}") from None
    if not content.strip():
        raise GameFormatError(path, 1, 1, "the file is empty")
    return content


def read_text(path: Path) -> str:
    """The content of a UTF-8 file, without its byte order mark.

    Raises:
        GameFormatError: as `read_bytes`, or not UTF-8.
    """
    content = read_bytes(path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        lines = error.object[: error.start].decode().split("\n")
        raise GameFormatError(path, len(lines), len(lines[-1]) + 1, "expected UTF-8 text, got another byte") from None


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint for a name that does not exist: the closest known one, else all of them."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"try {close[0]}" if close else f"known are {', '.join(known)}" if known else "there are none"


# -------------------------------------------------------------------- options


def _parse_options(options: Sequence[str]) -> dict[str, str]:
    chosen: dict[str, str] = {}
    for option in options:
        key, _, value = option.partition("=")
        if key not in OPTIONS:
            raise GameError(f"unknown option #{key}: {nearest(key, OPTIONS)}")
        if key in chosen:
            raise GameError(f"expected #{key} once, got it twice")
        form = key if key == "antisymmetrized" else f"{key}={value or 'NAME'}"
        if option != form:
            raise GameError(f"expected #{form}, got #{option}")
        chosen[key] = value
    return chosen


def _refuse_others(chosen: dict[str, str], allowed: tuple[str, ...], kind: str) -> None:
    for key in chosen:
        if key not in allowed:
            options = ", ".join(f"#{option}" for option in allowed)
            raise GameError(f"#{key} does not apply to {kind}, try {options}")


# -------------------------------------------------------------------- JSON


@dataclass(frozen=True)
class _Contents:
    """A parsed file: its fields, its n names, and the options in its spec."""

    fields: dict[str, Any]
    names: list[str]
    chosen: dict[str, str]

    def table(self, fields: dict[str, Any], key: str) -> Float[np.ndarray, "m m"]:
        """The [n, n] matrix of a field, null as NaN, restricted to the chosen subset."""
        rows, n = fields.get(key), len(self.names)
        if not isinstance(rows, list) or len(rows) != n:
            raise GameError(f"expected {key!r} to be a list of {n} rows, one a name")
        for i, row in enumerate(rows):
            if not isinstance(row, list) or len(row) != n:
                raise GameError(f"expected a list of {n} numbers in row {i + 1} of {key!r}")
            for j, entry in enumerate(row):
                if isinstance(entry, bool) or not isinstance(entry, int | float | None):
                    raise GameError(f"expected a number in row {i + 1}, column {j + 1} of {key!r}, got {entry!r:.40}")
        return matrix.as_matrix(rows)[np.ix_(self.members, self.members)]

    @property
    def members(self) -> list[int]:
        """Indices of the options in the chosen subset."""
        if "subset" not in self.chosen:
            return list(range(len(self.names)))
        subsets, field = self.subsets, self.chosen["subset"]
        if field not in subsets:
            raise GameError(f"no list of indices is called {field!r}: {nearest(field, subsets)}")
        return subsets[field]

    @property
    def subsets(self) -> dict[str, list[int]]:
        """The fields that list indices of options."""
        indices = set(range(len(self.names)))
        lists = {key: value for key, value in self.fields.items() if isinstance(value, list) and value}
        return {
            key: value
            for key, value in lists.items()
            if all(type(i) is int and i in indices for i in value) and len(set(value)) == len(value)
        }

    @property
    def labels(self) -> list[str]:
        """Names of the options in the chosen subset."""
        return [self.names[i] for i in self.members]


def _load_json(path: Path, name: str, chosen: dict[str, str]) -> Game:
    fields = _parse_json(path)
    kind = fields.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise GameError(f'expected a known "kind" of game, got {kind!r:.40}: {nearest(str(kind), KINDS)}')
    build, options = KINDS[kind]
    _refuse_others(chosen, options, f"files of kind {kind}")
    names = fields.get("names")
    if not isinstance(names, list) or not names or not all(isinstance(label, str) for label in names):
        raise GameError('expected "names" to be a list of strings')
    return build(_Contents(fields, names, chosen), name)


def _parse_json(path: Path) -> dict[str, Any]:
    text = read_text(path)
    try:
        fields = json.loads(text)
    except json.JSONDecodeError as error:
        raise GameFormatError(path, error.lineno, error.colno, f"not JSON: {error.msg}") from None
    except RecursionError:
        raise GameError("not a game: lists are nested too deeply") from None
    except ValueError as error:  # an integer of thousands of digits
        raise GameError(f"not readable as JSON: {error}") from None
    if not isinstance(fields, dict):
        raise GameFormatError(path, 1, 1, "expected a JSON object with a kind and names")
    return fields


def _pairwise_preference(contents: _Contents, name: str) -> Game:
    shares = contents.table(contents.fields, "preference")
    try:
        return preference.game(shares, labels=contents.labels, name=name)
    except GameError as error:
        observed = ~np.isnan(shares) | np.eye(len(shares), dtype=bool)
        if observed.all() or not contents.subsets:
            raise
        raise GameError(f"{error}; try {' or '.join(f'#subset={field}' for field in contents.subsets)}") from None


def _preference_by_judge(contents: _Contents, name: str) -> Game:
    judges = contents.fields.get("judges")
    if not isinstance(judges, dict) or not judges or not all(isinstance(judge, dict) for judge in judges.values()):
        raise GameError('expected "judges" to be an object of judges with a preference matrix each')
    chosen = contents.chosen.get("judge")
    if chosen is not None and chosen not in judges:
        raise GameError(f"no judge is called {chosen!r}: {nearest(chosen, judges)}")
    selected = judges.values() if chosen is None else [judges[chosen]]
    shares = np.mean([contents.table(judge, "preference") for judge in selected], axis=0)
    return preference.game(shares, labels=contents.labels, name=name)


def _payoff_matrix(contents: _Contents, name: str) -> Game:
    payoffs = contents.table(contents.fields, "payoff")
    return _payoffs(payoffs, (contents.labels, contents.labels), contents.chosen, name)


def _election(contents: _Contents, name: str) -> Game:
    counts = contents.table(contents.fields, "counts")
    ballots = contents.fields.get("ballots")
    if isinstance(ballots, bool) or not isinstance(ballots, int | float) or not 0 < ballots < np.inf:
        raise GameError('expected "ballots" to be a positive number')
    if not ((counts >= 0) & (counts + counts.T <= ballots)).all():
        raise GameError('expected "counts" of at least 0, at most "ballots" together for each pair')
    return preference.margins((counts - counts.T) / ballots, labels=contents.labels, name=name)


KINDS: dict[str, tuple[Callable[[_Contents, str], Game], tuple[str, ...]]] = {
    "pairwise_preference": (_pairwise_preference, ("subset",)),
    "pairwise_preference_by_judge": (_preference_by_judge, ("judge", "subset")),
    "payoff_matrix": (_payoff_matrix, ("subset", "antisymmetrized")),
    "election_pairwise_counts": (_election, ("subset",)),
}


# -------------------------------------------------------------------- matrices


def _load_npy(path: Path, name: str, chosen: dict[str, str]) -> Game:
    _refuse_others(chosen, ("antisymmetrized",), ".npy files")
    content = read_bytes(path)
    try:
        payoffs = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError, MemoryError, tokenize.TokenError) as error:
        raise GameError(f"not a NumPy array of numbers: {str(error).splitlines()[0]}") from None
    if not isinstance(payoffs, np.ndarray) or payoffs.dtype.kind not in "biuf":
        raise GameError(f"expected an array of real numbers, got {getattr(payoffs, 'dtype', 'an archive')}")
    return _payoffs(matrix.as_matrix(payoffs), None, chosen, name)


def _load_csv(path: Path, name: str, chosen: dict[str, str]) -> Game:
    _refuse_others(chosen, ("antisymmetrized",), ".csv files")
    rows = _csv_rows(path)
    first = rows[0][1]
    has_header = all(_is_word(cell) for cell in (first[1:] or first))
    body = rows[1:] if has_header else rows
    if not body:
        raise GameFormatError(path, rows[0][0] + 1, 1, "expected rows of numbers below the header")
    skip = int(len(first) > 1 and all(_is_word(row[0]) for _, row in body))
    payoffs = np.array([[_number(path, line, i, row[i]) for i in range(skip, len(row))] for line, row in body])
    if not has_header and not skip:
        _refuse_counting_header(path, payoffs)
    m, n = payoffs.shape
    names = [row[0] for _, row in body] if skip else None
    columns = first[skip:] if has_header else None
    if m == n:  # the names of one side are those of the other, unless both have their own
        names, columns = names or columns, columns or names
    return _payoffs(payoffs, (names or _numbers(m), columns or _numbers(n)), chosen, name)


def _numbers(n: int) -> list[str]:
    return [str(i) for i in range(n)]


def _csv_rows(path: Path) -> list[tuple[int, list[str]]]:
    """Line number and stripped cells of every row that is not blank; all rows have the same length."""
    rows: list[tuple[int, list[str]]] = []
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        for cells in reader:
            row = [cell.strip() for cell in cells]
            if len(row) > 1 or any(row):
                rows.append((reader.line_num, row))
    except csv.Error as error:
        raise GameFormatError(path, reader.line_num, None, f"not CSV: {error}") from None
    if not rows:
        raise GameError("the file is empty")
    for line, row in rows:
        if len(row) != len(rows[0][1]):
            expected = f"expected {len(rows[0][1])} cells as in line {rows[0][0]}, got {len(row)}"
            raise GameFormatError(path, line, min(len(row), len(rows[0][1])) + 1, expected)
    return rows


def _is_word(cell: str) -> bool:
    """Whether a cell is a name: neither blank, nor a number, nor a word for a missing one."""
    if not cell or cell.lower() in MISSING:
        return False
    try:
        float(cell)
    except ValueError:
        return True
    return False


def _number(path: Path, line: int, index: int, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        got = "an empty cell"
        if cell:
            got = f"{cell[:40]!r} (names fill the first row, the first column, or both)"
        raise GameFormatError(path, line, index + 1, f"expected a number, got {got}") from None
    if not np.isfinite(value):
        raise GameFormatError(path, line, index + 1, f"expected a finite number, got {cell!r}")
    return value


def _refuse_counting_header(path: Path, payoffs: Float[np.ndarray, "m n"]) -> None:
    """Refuse a square matrix below a row 0, 1, 2, ... (a header by number, as table software writes it)."""
    m, n = payoffs.shape
    if n > 1 and m == n + 1 and any(np.array_equal(payoffs[0], np.arange(n) + start) for start in (0, 1)):
        counting = "the first row counts its columns: leave it out if it is a header, else add a header of names"
        raise GameFormatError(path, 1, 1, counting)


def _payoffs(
    payoffs: Float[np.ndarray, "m n"],
    labels: tuple[Sequence[str], Sequence[str]] | None,
    chosen: dict[str, str],
    name: str,
) -> Game:
    """The game of a payoff matrix as it stands, or of its antisymmetric part."""
    if "antisymmetrized" not in chosen:
        return matrix.game(payoffs, labels=labels, name=name)
    if payoffs.shape[0] != payoffs.shape[1]:
        raise GameError(f"#antisymmetrized needs a square matrix, got {payoffs.shape[0]} x {payoffs.shape[1]}")
    return preference.margins((payoffs - payoffs.T) / 2, labels=labels and labels[0], name=name)


READERS: dict[str, Callable[[Path, str, dict[str, str]], Game]] = {
    ".json": _load_json,
    ".csv": _load_csv,
    ".npy": _load_npy,
}
