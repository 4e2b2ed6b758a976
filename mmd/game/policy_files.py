"""Reading policies: `.npz` and CSV as `mmd.game.policy` writes them, or as anybody else did.

Nothing is guessed. Every infoset and action of the game must be there once, under the game's own names, and the
probabilities of an infoset must sum to 1 up to the rounding of six digits; they are then scaled to exactly 1.
"""

import csv
import difflib
import io
import math
import os
import zipfile
import zlib
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mmd.game.game import Game, PlayerLabels
from mmd.game.policy import COLUMNS, PLAYERS, Policy, labels_of
from mmd.game.treeplex import Treeplex

SUM_TOLERANCE = 1e-6  # per action: what writing six digits may cost


class PolicyError(ValueError):
    """A file is not a policy of the game; the message is `path:line:column: sentence`.

    Attributes:
        path, line, column: where, counted from 1 (the column of a CSV file is a field); None where there is no such
            place.
    """

    def __init__(self, path: Path, sentence: str, line: int | None = None, column: int | None = None) -> None:
        """Put the place in front of the sentence."""
        super().__init__(":".join(str(part) for part in (path, line, column) if part is not None) + f": {sentence}")
        self.path, self.line, self.column = path, line, column


def load(path: str | os.PathLike[str], game: Game) -> Policy:
    """Read a policy of `game` from a `.npz` or CSV file or a run directory; every infoset is renormalised.

    Raises:
        PolicyError: the file is not a policy of this game; the message says where and why.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "policy.npz"
    if path.suffix.lower() not in (".npz", ".csv"):
        raise PolicyError(path, "expected a policy as a .npz or .csv file or a run directory")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PolicyError(path, f"cannot read the policy ({error.strerror})") from None
    if path.suffix.lower() == ".csv":
        read = partial(_read_csv, path, _records(path, content))
    else:
        read = partial(_read_npz, path, content)
    row, column = map(read, _Names.of(game))
    return Policy(game, (row, column))


class _Names:
    """Where one player's infosets and actions are in the treeplex, by name."""

    def __init__(self, player: str, treeplex: Treeplex, labels: PlayerLabels) -> None:
        self.player, self.treeplex, self.labels = player, treeplex, labels
        self.first = np.asarray(treeplex.first_sequence)
        self.infosets = {label: j for j, label in enumerate(labels.infosets)}

    @classmethod
    def of(cls, game: Game) -> "list[_Names]":
        return [cls(*names) for names in zip(PLAYERS, game.players, labels_of(game), strict=True)]

    def describe(self, sequence: int) -> str:
        j = int(np.searchsorted(self.first, sequence, side="right")) - 1
        action, infoset = self.labels.actions[j][sequence - self.first[j]], self.labels.infosets[j]
        return f"action {action!r} at infoset {infoset!r} of the {self.player} player"

    def checked(self, path: Path, probabilities: np.ndarray, lines: np.ndarray | None = None) -> np.ndarray:
        """Scale sums of about 1 to 1 and refuse others; `lines` [S] are where the probabilities were read.

        Probabilities that sum to 1 up to float64's rounding stay as they are, so that what was written reads back.
        """
        if self.treeplex.n_infosets > 0:
            n_actions = np.asarray(self.treeplex.n_actions)
            sums = np.add.reduceat(probabilities, self.first)
            wrong = np.flatnonzero(np.abs(sums - 1) > SUM_TOLERANCE * n_actions)
            if len(wrong) > 0:
                where = f"infoset {self.labels.infosets[wrong[0]]!r} of the {self.player} player"
                sentence = f"expected the probabilities at {where} to sum to 1, got {sums[wrong[0]]:.9g}"
                raise PolicyError(path, sentence, None if lines is None else int(lines[self.first[wrong[0]]]))
            exact = np.abs(sums - 1) <= n_actions * np.finfo(np.float64).eps
            return np.append(1.0, probabilities[1:] / np.repeat(np.where(exact, 1.0, sums), n_actions))
        return probabilities


# -------------------------------------------------------------------- .npz


def _read_npz(path: Path, content: bytes, names: _Names) -> Float[np.ndarray, " S"]:
    """One player's probabilities, the empty sequence in front."""
    n, player = names.treeplex.n_sequences - 1, names.player
    try:
        with zipfile.ZipFile(io.BytesIO(content)):
            archive = np.load(io.BytesIO(content), allow_pickle=False)
        array = archive[player]
    except KeyError:
        raise PolicyError(path, f"expected the arrays row and column, found no {player!r}") from None
    except (ValueError, EOFError, OSError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error):
        sentence = f"cannot read the array {player!r}: the archive is damaged, or pickled, which is refused"
        raise PolicyError(path, sentence) from None
    if array.dtype.kind not in "fiu" or array.shape != (n,):
        expected = f"{n} numbers (one for each action of each infoset)"
        raise PolicyError(path, f"expected the array {player!r} to hold {expected}, got {array.dtype} {array.shape}")
    wrong = np.flatnonzero(~(np.isfinite(array) & (array >= 0)))
    if len(wrong) > 0:
        where = names.describe(int(wrong[0]) + 1)
        raise PolicyError(path, f"expected a probability for {where}, got {array[wrong[0]]}")
    return names.checked(path, np.concatenate([[1.0], array]))


# -------------------------------------------------------------------- CSV


class _Record(NamedTuple):
    """A row of the file by column name, in the order of the file, and the line where it starts."""

    path: Path
    line: int
    fields: dict[str, str]

    def error(self, column: str, sentence: str) -> PolicyError:
        return PolicyError(self.path, sentence, self.line, 1 + list(self.fields).index(column))


def _records(path: Path, content: bytes) -> list[_Record]:
    """The rows of a CSV file whose header names `COLUMNS`, in any order."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PolicyError(path, f"expected UTF-8 text, got something else at byte {error.start + 1}") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    records, header, line = [], None, 1
    try:
        for values in reader:
            if header is None:
                header = values
                if sorted(header) != sorted(COLUMNS):
                    raise PolicyError(path, f"expected the header {','.join(COLUMNS)}, got {','.join(header)}", line)
            elif len(values) == len(header):
                records.append(_Record(path, line, dict(zip(header, values, strict=True))))
            elif values:
                raise PolicyError(path, f"expected {len(header)} fields, got {len(values)}", line)
            line = reader.line_num + 1
    except csv.Error as error:
        raise PolicyError(path, f"expected comma-separated values ({error})", reader.line_num) from None
    if header is None:
        raise PolicyError(path, "expected a policy, got an empty file")
    return records


def _read_csv(path: Path, records: list[_Record], names: _Names) -> Float[np.ndarray, " S"]:
    """One player's probabilities, the empty sequence in front."""
    probabilities, lines = np.ones(names.treeplex.n_sequences), np.zeros(names.treeplex.n_sequences, np.int64)
    for record in records:
        if record.fields["player"] not in PLAYERS:
            raise record.error("player", f"expected the player to be row or column, got {record.fields['player']!r}")
        if record.fields["player"] == names.player:
            sequence = _sequence(record, names)
            if lines[sequence] > 0:
                raise record.error("action", f"{names.describe(sequence)} was given before, on line {lines[sequence]}")
            probabilities[sequence], lines[sequence] = _probability(record), record.line
    missing = np.flatnonzero(lines[1:] == 0)
    if len(missing) > 0:
        raise PolicyError(path, f"expected a row for {names.describe(int(missing[0]) + 1)}, found none")
    return names.checked(path, probabilities, lines)


def _sequence(record: _Record, names: _Names) -> int:
    """The sequence that a row of the file is about."""
    infoset, action = record.fields["infoset"], record.fields["action"]
    if infoset not in names.infosets:
        hint = _nearest(infoset, names.infosets)
        raise record.error("infoset", f"unknown infoset {infoset!r} of the {names.player} player{hint}")
    j = names.infosets[infoset]
    actions = list(names.labels.actions[j])
    if action not in actions:
        raise record.error("action", f"unknown action {action!r} at infoset {infoset!r}{_nearest(action, actions)}")
    return int(names.first[j]) + actions.index(action)


def _probability(record: _Record) -> float:
    text = record.fields["probability"]
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise record.error("probability", f"expected a probability, got {text!r}")
    return value


def _nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a misspelt name."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f", did you mean {close[0]!r}?" if close else ""
