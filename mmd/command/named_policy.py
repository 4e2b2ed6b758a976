"""The policy of a run by its names, without the game: `policy.csv`, and the tree that stands in `policy.npz`."""

import csv
import zipfile
from collections import Counter
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmd.game.policy import COLUMNS, PLAYERS
from mmd.measure.run_directory import RunError

TABLE, ARRAYS = "policy.csv", "policy.npz"
UNKNOWN = 4  # actions of an infoset, on the average, where a run does not say how many there are
_Tree = tuple[tuple[int, ...], tuple[int, ...] | None]  # numbers of actions, and parents


class NamedPlayer(NamedTuple):
    """One player's policy, or the beginning of a long one.

    Attributes:
        name: row or column.
        infosets: [I] their labels, each one behind those above it.
        counts: [I] how many actions each has.
        actions: [S] labels, infoset by infoset.
        parents: [I] which action, from 0, is above each infoset; -1 for none. None where the run does not say.
        whole: whether the policy has no other infosets.
        probabilities: [S] of the actions.
    """

    name: str
    infosets: tuple[str, ...]
    counts: tuple[int, ...]
    actions: tuple[str, ...]
    parents: tuple[int, ...] | None
    whole: bool
    probabilities: tuple[float, ...]

    @property
    def names(self) -> tuple[object, ...]:
        """What policies of one game have in common."""
        return self[:-1]


class _Rows(NamedTuple):
    """Rows of a player: infoset, action and probability of the first ones, and how many there are in all."""

    first: list[tuple[str, str, float]]
    total: int


def read(folder: Path, most: int) -> list[NamedPlayer]:
    """The players of a run's policy who have a choice.

    Args:
        folder: the run's.
        most: infosets of each player that are read; a longer policy is cut off there.

    Raises:
        RunError: the run has no policy, or its two files do not agree.
    """
    trees = _trees(folder / ARRAYS)
    limits = {name: sum(counts[:most]) for name, (counts, _) in trees.items()}
    rows = _rows(folder / TABLE, {name: limits.get(name, most * UNKNOWN) for name in PLAYERS})
    return [_player(folder, name, rows[name], trees.get(name), most) for name in PLAYERS if rows[name].total]


def _player(folder: Path, name: str, rows: _Rows, tree: _Tree | None, most: int) -> NamedPlayer:
    labels, actions, probabilities = zip(*rows.first, strict=True)
    counts, parents = tree or (_counts(rows), None)
    begins = [0, *accumulate(counts)]
    above = (-1,) if parents is None else parents
    fits = tree is None or begins[-1] == rows.total
    if not (fits and min(counts) > 0 and all(-1 <= s < n for s, n in zip(above, begins, strict=False))):
        raise RunError(f"{folder}: {TABLE} and {ARRAYS} are not of the same policy")
    shown = counts[:most]
    n = sum(shown)
    whole = rows.total == n
    infosets = tuple(labels[i] for i in begins[: len(shown)])
    return NamedPlayer(name, infosets, shown, actions[:n], parents and parents[:most], whole, probabilities[:n])


def _rows(path: Path, most: Mapping[str, int]) -> dict[str, _Rows]:
    """The first rows of each player, and how many there are."""
    kept: dict[str, list[tuple[str, str, float]]] = {name: [] for name in most}
    seen: Counter[str] = Counter()
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            if sorted(header) != sorted(COLUMNS):
                raise RunError(f"{path}:1: expected the columns {', '.join(COLUMNS)}")
            places = [header.index(name) for name in COLUMNS]
            for row in reader:
                if len(row) != len(COLUMNS) or (player := row[places[0]]) not in kept:
                    raise RunError(f"{path}:{reader.line_num}: expected {', '.join(COLUMNS)}, the player row or column")
                seen[player] += 1
                if seen[player] <= most[player]:
                    chance = _probability(row[places[3]], f"{path}:{reader.line_num}")
                    kept[player].append((row[places[1]], row[places[2]], chance))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RunError(f"{path.parent}: cannot read its {path.name} ({error})") from None
    return {name: _Rows(first, seen[name]) for name, first in kept.items()}


def _probability(cell: str, place: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1 + 1e-6:
        raise RunError(f"{place}: expected a probability, got {cell!r:.40}")
    return value


def _trees(path: Path) -> dict[str, _Tree]:
    """Numbers of actions, and parents, of each player; none of a run of version 0.1, which did not write them."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            known = {name: archive[name] for name in archive.files if name.endswith(("_parent", "_n_actions"))}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return {}
    found: dict[str, _Tree] = {}
    for player in PLAYERS:
        parent, counts = known.get(f"{player}_parent"), known.get(f"{player}_n_actions")
        if parent is not None and counts is not None and len(parent) == len(counts) > 0:
            found[player] = (tuple(counts.tolist()), tuple((parent - 1).tolist()))
    return found


def _counts(rows: _Rows) -> tuple[int, ...]:
    """How many actions each infoset has, by where a label ends or an action comes again; of whole infosets only."""
    counts: list[int] = []
    seen: set[str] = set()
    before = None
    for infoset, action, _ in rows.first:
        if infoset != before or action in seen:
            counts.append(0)
            seen, before = set(), infoset
        counts[-1] += 1
        seen.add(action)
    return tuple(counts[:-1] if len(rows.first) < rows.total and len(counts) > 1 else counts)
