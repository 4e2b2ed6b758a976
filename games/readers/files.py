"""Readers of our own data files: JSON of several kinds, and CSV or NumPy matrices of payoffs to the row player.

JSON files are objects with a `kind`, the `names` of the n options, and [n, n] matrices:

    pairwise_preference            preference[i][j] = share of comparisons that i wins over j; null on the diagonal, or
                                   if the two never met: then one of the options #missing and #subset is needed
    pairwise_preference_by_judge   judges[NAME].preference, pooled by their mean unless a judge is chosen
    payoff_matrix                  payoff[i][j] to the row player
    election_pairwise_counts       counts[i][j] = ballots that rank i over j; payoff (counts - counts.T) / ballots

A pairwise_preference may say in counts[i][j] how many comparisons each share is of, and every file in n how many names
it has. Other texts are notes, and lists of indices are for #subset. Whatever else is not read is named among the game's
facts, or refused if it nearly has the name of a field that is read. CSV files hold a matrix
(`games.readers.csv_table`) or comparisons (`games.readers.comparisons`); .soc, .soi, .toc and .toi files are those of
`games.readers.preflib`.
"""

import difflib
import io
import json
import math
import os
import re
import tokenize
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from games import matrix, preference
from games.readers.comparisons import comparisons_in, refuse_nearly
from games.readers.csv_table import read_table
from games.readers.preflib import KINDS as PREFLIB
from games.readers.preflib import read_profile
from games.readers.source import GameFormatError, read_bytes, read_text
from mmd.game.game import Game, GameError
from mmd.game.sample import Pairs
from mmd.host.doors import nearest as nearest

WANTED = {  # what the value of each option is; None where it has none
    "judge": "NAME",
    "subset": "NAME",
    "antisymmetrized": None,
    "sum_tolerance": "NUMBER",
    "missing": "|".join(preference.MISSING),
    "unranked": "|".join(preference.UNRANKED),
}
GENERAL = ("kind", "names", "n")  # fields of every JSON file
NEARLY = 0.85  # similarity of a field's name, as difflib has it, from which it is taken for a slip
SHOWN = 7  # fields in a fact
FLOAT_MAX = int(np.finfo(np.float64).max)
JSON_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*+)"(\s*+:)?|[{}]')


def load(path: str | os.PathLike[str], options: Iterable[str] = ()) -> Game:
    """Read a .json, .csv, .tsv, .npy, .soc, .soi, .toc or .toi file.

    Args:
        path: the file.
        options: what follows the file's name in a spec: `judge=NAME`, `subset=FIELD` (a field of the file that lists
            indices of options), `antisymmetrized` (payoffs A become (A - A.T) / 2), `sum_tolerance=NUMBER` (how far
            the shares of a pair may sum to other than 1), `missing=half|drop|refuse` (pairs that were never compared,
            as in `games.preference.game`) or `unranked=missing|last` (as in `games.preference.from_ballots`).

    Raises:
        GameFormatError: unreadable, not of its format, or options that do not fit it.
    """
    path, options = Path(path), list(options)
    try:
        return READERS[path.suffix.lower()](path, "#".join([path.name, *options]), parse_options(options))
    except GameFormatError:
        raise
    except GameError as error:
        raise GameFormatError(path, None, None, str(error)) from None


# -------------------------------------------------------------------- options


def parse_options(options: Iterable[str]) -> dict[str, str]:
    """Options in the form `key=value` or `key`; keys take - and _ alike.

    Raises:
        GameError: unknown, given twice, or without the value it needs.
    """
    chosen: dict[str, str] = {}
    for option in options:
        written, _, value = option.partition("=")
        key = written.replace("-", "_")
        if key not in WANTED:
            raise GameError(f"unknown option #{written}: {nearest(key, WANTED)}")
        if key in chosen:
            raise GameError(f"expected #{key} once, got it twice")
        wanted = WANTED[key]
        form = written if wanted is None else f"{written}={value or wanted}"
        if option != form:
            raise GameError(f"expected #{form}, got #{option}")
        chosen[key] = value
    return chosen


def refuse_others(chosen: dict[str, str], allowed: tuple[str, ...], kind: str) -> None:
    """That every option applies to a kind of file.

    Raises:
        GameError: one does not.
    """
    for key in chosen:
        if key not in allowed:
            options = ", ".join(f"#{option}" for option in allowed)
            raise GameError(f"#{key} does not apply to {kind}, try {options}")


def missing_of(chosen: dict[str, str]) -> str:
    """What becomes of pairs that were never compared."""
    return chosen.get("missing", preference.MISSING[0])


def sum_tolerance(chosen: dict[str, str]) -> float | None:
    """The number that the option of this name gives; None without it.

    Raises:
        GameError: not a finite number of at least 0.
    """
    if "sum_tolerance" not in chosen:
        return None
    try:
        tolerance = float(chosen["sum_tolerance"])
    except ValueError:
        tolerance = math.nan
    if not 0 <= tolerance < math.inf:
        raise GameError(f"expected #sum_tolerance= and a number of at least 0, got {chosen['sum_tolerance']!r:.40}")
    return tolerance


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
                _check_number(entry, f"in row {i + 1}, column {j + 1} of {key!r}")
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


def _check_number(entry: object, place: str) -> None:
    if isinstance(entry, bool) or not isinstance(entry, int | float | None):
        raise GameError(f"expected a number {place}, got {entry!r:.40}")
    if isinstance(entry, int) and abs(entry) > FLOAT_MAX:
        digits = math.floor(entry.bit_length() * math.log10(2)) + 1
        raise GameError(f"expected a number of at most 1.8e308 in size {place}, got an integer of {digits} digits")


def _load_json(path: Path, name: str, chosen: dict[str, str]) -> Game:
    fields = _parse_json(path)
    kind = fields.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise GameError(f'expected a known "kind" of game, got {kind!r:.40}: {nearest(str(kind), KINDS)}')
    build, options, tables = KINDS[kind]
    refuse_others(chosen, options, f"files of kind {kind}")
    names = fields.get("names")
    if not isinstance(names, list) or not names or not all(isinstance(label, str) for label in names):
        raise GameError('expected "names" to be a list of strings')
    if "n" in fields and (fields["n"] != len(names) or isinstance(fields["n"], bool)):
        raise GameError(f'expected "n" to be the number of names, {len(names)}, got {fields["n"]!r:.40}')
    contents = _Contents(fields, names, chosen)
    unread = _unread(fields, (*GENERAL, *tables), f"files of kind {kind} do")
    judges = fields.get("judges")
    if isinstance(judges, dict) and "judges" in tables:
        parts = [_unread(one, ("preference",), "a judge does") for one in judges.values() if isinstance(one, dict)]
        unread += dict.fromkeys(f"{field} of judges" for part in parts for field in part)
    game = build(contents, name)
    unread = [f"{field:.40}" for field in unread if field not in contents.subsets]
    more = f" and {len(unread) - SHOWN} more" if len(unread) > SHOWN else ""
    facts = (f"fields not read: {', '.join(unread[:SHOWN])}{more}",) if unread else ()
    return preference.measured(game, game.description.sample, facts)


def _unread(fields: dict[str, Any], known: tuple[str, ...], where: str) -> list[str]:
    """The fields that hold more than a text and are not read.

    Raises:
        GameError: one of them nearly has the name of a field that is read here.
    """
    unread = [field for field, value in fields.items() if field not in known and not isinstance(value, str)]
    for field in unread:
        if near := difflib.get_close_matches(field.casefold().strip(), known, n=1, cutoff=NEARLY):
            raise GameError(f"expected {near[0]!r}, got a field {field!r:.40}, which {where} not have")
    return unread


def _parse_json(path: Path) -> dict[str, Any]:
    text = read_text(path)
    try:
        fields = json.loads(text, object_pairs_hook=_once)
    except _RepeatedKeyError:
        raise _repeated_key(path, text) from None
    except json.JSONDecodeError as error:
        raise GameFormatError(path, error.lineno, error.colno, f"not JSON: {error.msg}") from None
    except RecursionError:
        raise GameError("not a game: lists are nested too deeply") from None
    except ValueError as error:  # an integer of thousands of digits
        raise GameError(f"not readable as JSON: {error}") from None
    if not isinstance(fields, dict):
        raise GameFormatError(path, 1, 1, "expected a JSON object with a kind and names")
    return fields


class _RepeatedKeyError(Exception):
    """An object has a key twice."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise _RepeatedKeyError
    return fields


def _repeated_key(path: Path, text: str) -> GameFormatError:
    """The error of the first key that an object of this JSON text has twice."""
    seen: list[dict[str, int]] = []
    for token in JSON_TOKEN.finditer(text):
        if token[0] == "{":
            seen.append({})
        elif token[0] == "}":
            seen.pop()
        elif token[2] is not None:
            key, line = json.loads(f'"{token[1]}"'), text.count("\n", 0, token.start()) + 1
            if key in seen[-1]:
                sentence = f"expected the key {key!r:.40} once in its object, it is in line {seen[-1][key]} too"
                return GameFormatError(path, line, token.start() - text.rfind("\n", 0, token.start()), sentence)
            seen[-1][key] = line
    return GameFormatError(path, None, None, "expected every key once in its object")


def _pairwise_preference(contents: _Contents, name: str) -> Game:
    counts = contents.table(contents.fields, "counts") if "counts" in contents.fields else None
    return _preference_game(contents, contents.table(contents.fields, "preference"), name, counts)


def _preference_game(
    contents: _Contents, shares: Float[np.ndarray, "n n"], name: str, counts: Float[np.ndarray, "n n"] | None = None
) -> Game:
    """The game of shares that may be incomplete; says how to leave options out that never met."""
    tolerance, missing = sum_tolerance(contents.chosen), missing_of(contents.chosen)
    try:
        return preference.game(
            shares, labels=contents.labels, name=name, sum_tolerance=tolerance, missing=missing, counts=counts
        )
    except GameError as error:
        observed = ~np.isnan(shares) | np.eye(len(shares), dtype=bool)
        if observed.all() or missing != "refuse":
            raise
        fields = " or ".join(f"#subset={field}" for field in contents.subsets)
        hint = fields or "#subset=FIELD, a field of the file that lists the indices to keep"
        raise GameError(f"{error}; try {hint}") from None


def _preference_by_judge(contents: _Contents, name: str) -> Game:
    judges = contents.fields.get("judges")
    if not isinstance(judges, dict) or not judges or not all(isinstance(judge, dict) for judge in judges.values()):
        raise GameError('expected "judges" to be an object of judges with a preference matrix each')
    chosen = contents.chosen.get("judge")
    if chosen is not None and chosen not in judges:
        raise GameError(f"no judge is called {chosen!r}: {nearest(chosen, judges)}")
    selected = judges.values() if chosen is None else [judges[chosen]]
    shares = np.mean([contents.table(judge, "preference") for judge in selected], axis=0)
    return _preference_game(contents, shares, name)


def _payoff_matrix(contents: _Contents, name: str) -> Game:
    payoffs = contents.table(contents.fields, "payoff")
    return _payoffs(payoffs, (contents.labels, contents.labels), contents.chosen, name)


def _election(contents: _Contents, name: str) -> Game:
    counts = contents.table(contents.fields, "counts")
    ballots = contents.fields.get("ballots")
    if isinstance(ballots, bool) or not isinstance(ballots, int | float) or not 0 < ballots <= FLOAT_MAX:
        raise GameError('expected "ballots" to be a positive number')
    bad = ~(counts >= 0)
    wrong = np.argwhere(bad if bad.any() else counts + counts.T > ballots)
    if len(wrong):
        i, j = (contents.members[at] for at in wrong[0])
        place = f"got {contents.fields['counts'][i][j]!r:.40} in row {i + 1}, column {j + 1}"
        raise GameError(f'expected "counts" of at least 0, at most "ballots" together for each pair, {place}')
    game = preference.margins((counts - counts.T) / ballots, labels=contents.labels, name=name)
    return preference.measured(game, Pairs(counts, counts.T, ballots - counts - counts.T, margins=True))


# Of each kind of file: what builds the game, the options that it takes, the fields that it reads.
KINDS: dict[str, tuple[Callable[[_Contents, str], Game], tuple[str, ...], tuple[str, ...]]] = {
    "pairwise_preference": (
        _pairwise_preference,
        ("subset", "missing", "sum_tolerance"),
        ("preference", "counts"),
    ),
    "pairwise_preference_by_judge": (
        _preference_by_judge,
        ("judge", "subset", "missing", "sum_tolerance"),
        ("judges",),
    ),
    "payoff_matrix": (_payoff_matrix, ("subset", "antisymmetrized"), ("payoff",)),
    "election_pairwise_counts": (_election, ("subset",), ("counts", "ballots")),
}


# -------------------------------------------------------------------- matrices


def _load_npy(path: Path, name: str, chosen: dict[str, str]) -> Game:
    refuse_others(chosen, ("antisymmetrized",), ".npy files")
    content = read_bytes(path)
    stream = io.BytesIO(content)
    try:
        payoffs = np.load(stream, allow_pickle=False)
    except (ValueError, EOFError, OSError, MemoryError, tokenize.TokenError) as error:
        raise GameError(f"not a NumPy array of numbers: {str(error).splitlines()[0]}") from None
    if not isinstance(payoffs, np.ndarray) or payoffs.dtype.kind not in "biuf":
        raise GameError(f"expected an array of real numbers, got {getattr(payoffs, 'dtype', 'an archive')}")
    if stream.read(1):
        raise GameError("expected one array, but the file goes on after it")
    return _payoffs(matrix.as_matrix(payoffs), None, chosen, name)


def _load_csv(path: Path, name: str, chosen: dict[str, str]) -> Game:
    ending = path.suffix.lower()
    if comparisons := comparisons_in(path):
        refuse_others(chosen, ("missing",), f"{ending} files of comparisons")
        return comparisons.game(name, missing_of(chosen))
    try:
        table = read_table(path)
    except GameFormatError:
        refuse_nearly(path)
        raise
    refuse_others(chosen, ("antisymmetrized",), f"{ending} files")
    (m, n), names, columns = table.numbers.shape, table.rows, table.columns
    if m == n:  # the names of one side are those of the other, unless both have their own
        names, columns = names or columns, columns or names
    return _payoffs(table.numbers, (names or _numbers(m), columns or _numbers(n)), chosen, name)


def _load_preflib(path: Path, name: str, chosen: dict[str, str]) -> Game:
    refuse_others(chosen, ("missing", "unranked"), f"{path.suffix.lower()} files")
    profile = read_profile(path)
    unranked = chosen.get("unranked", preference.UNRANKED[0])
    return preference.from_ballots(
        profile.ranks,
        profile.voters,
        labels=profile.names,
        name=name,
        missing=missing_of(chosen),
        unranked=unranked,
    )


def _numbers(n: int) -> list[str]:
    return [str(i) for i in range(n)]


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
    ".tsv": _load_csv,
    ".npy": _load_npy,
    **dict.fromkeys(PREFLIB, _load_preflib),
}
