"""The policy of a run by its names, without the game: `policy.csv`, and the tree that stands in `policy.npz`."""

import csv
import zipfile
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmd.game.policy import COLUMNS, PLAYERS
from mmd.measure.run_directory import RunError

TABLE, ARRAYS = "policy.csv", "policy.npz"


class NamedPlayer(NamedTuple):
    """One player's policy.

    Attributes:
        name: row or column.
        infosets: [I] their labels.
        counts: [I] how many actions each has.
        actions: [S] labels, infoset by infoset.
        parents: [I] which action, from 0, is above each infoset; -1 for none. None where the run does not say.
        probabilities: [S] of the actions.
    """

    name: str
    infosets: tuple[str, ...]
    counts: tuple[int, ...]
    actions: tuple[str, ...]
    parents: tuple[int, ...] | None
    probabilities: tuple[float, ...]

    @property
    def names(self) -> tuple[object, ...]:
        """What policies of one game have in common."""
        return self.infosets, self.counts, self.actions, self.parents

    def cut(self, most: int) -> "NamedPlayer":
        """The first infosets alone; what is above an infoset stands before it."""
        n = sum(self.counts[:most])
        parents = None if self.parents is None else self.parents[:most]
        first = (self.infosets[:most], self.counts[:most], self.actions[:n], parents, self.probabilities[:n])
        return NamedPlayer(self.name, *first)


def read(folder: Path) -> list[NamedPlayer]:
    """The players of a run's policy who have a choice.

    Raises:
        RunError: the run has no policy, or its two files do not agree.
    """
    rows = list(_rows(folder / TABLE))
    trees = _trees(folder / ARRAYS)
    players = []
    for name in PLAYERS:
        of_player = [(infoset, action, p) for player, infoset, action, p in rows if player == name]
        if of_player:
            counts, parents = trees.get(name) or (_counts(of_player), None)
            players.append(_player(folder, name, of_player, (counts, parents)))
    return players


def _player(
    folder: Path,
    name: str,
    rows: Sequence[tuple[str, str, float]],
    tree: tuple[tuple[int, ...], tuple[int, ...] | None],
) -> NamedPlayer:
    counts, parents = tree
    labels, actions, probabilities = zip(*rows, strict=True)
    begins = [0, *accumulate(counts)]
    above = [-1] if parents is None else parents
    fits = begins[-1] == len(rows) and min(counts) > 0 and all(-1 <= s < n for s, n in zip(above, begins, strict=False))
    if not fits:
        raise RunError(f"{folder}: {TABLE} and {ARRAYS} are not of the same policy")
    return NamedPlayer(name, tuple(labels[i] for i in begins[:-1]), counts, actions, parents, probabilities)


def _rows(path: Path) -> Iterator[tuple[str, str, str, float]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if sorted(reader.fieldnames or ()) != sorted(COLUMNS):
                raise RunError(f"{path}:1: expected the columns {', '.join(COLUMNS)}")
            for row in reader:
                player, infoset, action, probability = (row[name] or "" for name in COLUMNS)
                yield player, infoset, action, _probability(probability, f"{path}:{reader.line_num}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RunError(f"{path.parent}: cannot read its {path.name} ({error})") from None


def _probability(cell: str, place: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1 + 1e-6:
        raise RunError(f"{place}: expected a probability, got {cell!r:.40}")
    return value


def _trees(path: Path) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Numbers of actions, and parents, of each player; none of a run of version 0.1, which did not write them."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            known = {name: archive[name] for name in archive.files if name.endswith(("_parent", "_n_actions"))}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return {}
    found = {}
    for player in PLAYERS:
        parent, counts = known.get(f"{player}_parent"), known.get(f"{player}_n_actions")
        if parent is not None and counts is not None and len(parent) == len(counts) > 0:
            found[player] = (tuple(counts.tolist()), tuple((parent - 1).tolist()))
    return found


def _counts(rows: Sequence[tuple[str, str, float]]) -> tuple[int, ...]:
    """How many actions each infoset has, by where a label ends or an action comes again."""
    counts: list[int] = []
    seen: set[str] = set()
    before = None
    for infoset, action, _ in rows:
        if infoset != before or action in seen:
            counts.append(0)
            seen, before = set(), infoset
        counts[-1] += 1
        seen.add(action)
    return tuple(counts)
