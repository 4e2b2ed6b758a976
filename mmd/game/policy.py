"""A pair of behavioural policies with names: what users read and save. `mmd.game.policy_files` reads them back.

Files: `.npz` (arrays `row` [S0 - 1] and `column` [S1 - 1] of probabilities in treeplex order, with the tree they belong
to, no pickle) and CSV with the columns player (row or column), infoset, action, probability.
"""

import csv
import difflib
import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from jaxtyping import Float

from mmd.game.game import Game, GameError, HostPair, Pair, PlayerLabels, arrays_of, holds_logs
from mmd.game.treeplex import Treeplex
from mmd.host.files import replacing
from mmd.host.notebook import MOST_ROWS, data_frame, html_table

MAX_NAMED_INFOSETS = 10_000
SUM_TOLERANCE = 1e-6  # a policy written with seven digits still counts as one
PLAYERS = ("row", "column")
WANTED = f"expected an infoset's label, or a player of {' and '.join(PLAYERS)} before it"
COLUMNS = ("player", "infoset", "action", "probability")


@dataclass(frozen=True, repr=False)
class Policy:
    """Behavioural policies of both players.

    Attributes:
        game: whose infosets they belong to.
        probabilities: [S0] and [S1], float64: probability of each action at its infoset; entry 0 (the empty sequence)
            is 1.
    """

    game: Game
    probabilities: tuple[Float[np.ndarray, " S0"], Float[np.ndarray, " S1"]]

    @classmethod
    def from_log(cls, game: Game, log_policy: HostPair) -> "Policy":
        """From log-probabilities in any precision; every infoset is renormalised in float64."""
        exact = (np.exp(np.asarray(log, np.float64)) for log in log_policy)
        row, column = (normalized(p, t) for p, t in zip(exact, game.players, strict=True))
        return cls(game, (row, column))

    @classmethod
    def from_plans(cls, game: Game, plans: tuple[np.ndarray, np.ndarray]) -> "Policy":
        """From realisation plans [S0] and [S1]; negative entries count as 0, and infosets not reached are uniform."""
        row, column = (behaviour(t, plan, np.exp(t.uniform())) for plan, t in zip(plans, game.players, strict=True))
        return cls(game, (row, column))

    def __repr__(self) -> str:
        small = self.game.is_matrix and max(map(len, self.probabilities)) <= MOST_ROWS + 1
        return f"Policy({self.as_dict()})" if small else f"Policy(of {self.game!r})"

    def __getitem__(self, infoset: str | tuple[str, ...]) -> dict[str, float]:
        """{action: probability} at the infoset with this label; (player, label) where both players have it.

        Raises:
            KeyError: no infoset has the label, or several do; the message says what instead.
        """
        if isinstance(infoset, tuple) and len(infoset) != 2:
            raise KeyError(f"{WANTED}, got {infoset!r}")
        player, label = infoset if isinstance(infoset, tuple) else (None, infoset)
        found = [place for place in self._places.get(label, ()) if player in (None, PLAYERS[place[0]])]
        if len(found) != 1:
            raise KeyError(self._which(player, label, found))
        (side, j), treeplex = found[0], self.game.players[found[0][0]]
        first = treeplex.first_sequence[j]
        chances = self.probabilities[side][first : first + treeplex.n_actions[j]].tolist()
        return dict(zip(labels_of(self.game)[side].actions[j], chances, strict=True))

    @functools.cached_property
    def _places(self) -> dict[str, list[tuple[int, int]]]:
        """Label -> (player, infoset) of each infoset that has it."""
        places: dict[str, list[tuple[int, int]]] = {}
        for side, labels in enumerate(labels_of(self.game)):
            for j, label in enumerate(labels.infosets):
                places.setdefault(label, []).append((side, j))
        return places

    def _which(self, player: str | None, label: str, found: list[tuple[int, int]]) -> str:
        """Why a label names no infoset, or which ones."""
        if len({side for side, _ in found}) > 1:
            return (
                f"both players have an infoset {label!r}: use policy['row', {label!r}] or policy['column', {label!r}]"
            )
        if found:
            return f"{len(found)} infosets have the label {label!r}: policy.table() lists them"
        players = {one: (None, *(PLAYERS[side] for side, _ in places)) for one, places in self._places.items()}
        known = (one for one in players if player in players[one])
        near = difflib.get_close_matches(str(label), islice(known, MAX_NAMED_INFOSETS), n=3, cutoff=0.0)
        if not near:
            return f"{WANTED}, got {player!r}"
        of = "" if player is None else f" of the {player} player"
        return f"{self.game.name} has no infoset {label!r}{of}: did you mean {' or '.join(map(repr, near))}?"

    def _repr_html_(self) -> str:
        """For notebooks: the first rows of `table()`."""
        count = sum(len(probabilities) - 1 for probabilities in self.probabilities)
        return html_table(f"policy of {self.game.name}", self._rows(), COLUMNS, count)

    def to_pandas(self) -> Any:
        """`table()` as a `pandas.DataFrame`.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        rows = self.table()
        return data_frame({name: [row[i] for row in rows] for i, name in enumerate(COLUMNS)})

    def table(self) -> list[tuple[str, str, str, float]]:
        """Rows (player, infoset, action, probability), in treeplex order."""
        return list(self._rows())

    def _rows(self) -> Iterator[tuple[str, str, str, float]]:
        """The rows of `table()`, one by one."""
        for player, probabilities, treeplex, labels in zip(
            PLAYERS, self.probabilities, self.game.players, labels_of(self.game), strict=True
        ):
            for j, (first, n) in enumerate(zip(treeplex.first_sequence, treeplex.n_actions, strict=True)):
                infoset, actions = labels.infosets[j], labels.actions[j]  # may be worked out on demand
                for a in range(n):
                    yield player, infoset, actions[a], float(probabilities[first + a])

    def as_dict(self) -> dict[str, dict] | None:
        """`{"row": ..., "column": ...}`, each infoset -> {action: probability}; in a matrix game action -> probability.

        A symmetric game also has `"lottery"`, the mean of both players' strategies. None above 10,000 infosets.
        """
        if max(player.n_infosets for player in self.game.players) > MAX_NAMED_INFOSETS:
            return None
        nested: dict[str, dict] = {player: {} for player in PLAYERS}
        for player, infoset, action, probability in self.table():
            nested[player].setdefault(infoset, {})[action] = probability
        if self.game.is_matrix:
            nested = {player: next(iter(by_infoset.values())) for player, by_infoset in nested.items()}
            if self.game.description.symmetric:
                nested["lottery"] = self.lottery()
        return nested

    @classmethod
    def random(cls, game: Game, seed: int) -> "Policy":
        """Drawn uniformly from the simplex at every infoset; full support.

        Args:
            game: whose policies.
            seed: an integer >= 0.

        Raises:
            GameError: the seed is negative.
        """
        if seed < 0:
            raise GameError(f"expected a seed >= 0, got {seed}")
        rng = np.random.default_rng(seed)
        row, column = (normalized(rng.exponential(size=t.n_sequences), t) for t in game.players)
        return cls(game, (row, column))

    def lottery(self) -> dict[str, float]:
        """The mean of both players' strategies, by label: the maximal lottery of a symmetric game.

        Raises:
            GameError: the players do not choose among the same labels, once each.
        """
        row, column = labels_of(self.game)
        if not self.game.is_matrix or list(row.actions[0]) != list(column.actions[0]):
            raise GameError(f"{self.game.name} has no lottery: expected a matrix with the same labels on both sides")
        mean = (self.probabilities[0][1:] + self.probabilities[1][1:]) / 2
        return dict(zip(row.actions[0], mean.tolist(), strict=True))

    def save_npz(self, path: str | os.PathLike[str]) -> None:
        """Write the arrays `row` [S0 - 1] and `column` [S1 - 1]: exact, and no pickle.

        The tree stands beside them, so that the file can be read without the game. `row_parent` [I0] is the number of
        the sequence above each infoset (0 for none, n for the n-th number of `row`). `row_n_actions` [I0] is how many
        actions each infoset has.
        """
        arrays: dict[str, Any] = {}
        for player, probabilities, treeplex in zip(PLAYERS, self.probabilities, self.game.players, strict=True):
            arrays[player] = probabilities[1:]
            arrays[f"{player}_parent"] = np.asarray(treeplex.parent, np.int64)
            arrays[f"{player}_n_actions"] = np.asarray(treeplex.n_actions, np.int64)
        with replacing(path) as part, part.open("wb") as file:
            np.savez(file, **arrays)

    def save_csv(self, path: str | os.PathLike[str]) -> None:
        """Write `table()` under a header, with as many digits as float64 needs to read back the same."""
        with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(self.table())


def labels_of(game: Game) -> tuple[PlayerLabels, PlayerLabels]:
    """The game's labels; numbers where it has none."""
    if game.description.labels is not None:
        return game.description.labels
    row, column = (
        PlayerLabels([str(j) for j in range(p.n_infosets)], [[str(a) for a in range(n)] for n in p.n_actions])
        for p in game.players
    )
    return row, column


def normalized(probabilities: Float[np.ndarray, " S"], treeplex: Treeplex) -> Float[np.ndarray, " S"]:
    """Scaled to sum 1 at every infoset; 1 at the empty sequence."""
    if treeplex.n_infosets == 0:
        return np.ones(1)
    sums = np.add.reduceat(probabilities, treeplex.first_sequence)
    return np.concatenate([[1.0], probabilities[1:] / np.repeat(sums, treeplex.n_actions)])


def behaviour(
    treeplex: Treeplex, plan: Float[np.ndarray, " S"], fallback: Float[np.ndarray, " S"]
) -> Float[np.ndarray, " S"]:
    """Behavioural probabilities of a plan whose entries may be negative by rounding.

    Args:
        treeplex: whose plan it is.
        plan: [S] realisation probabilities.
        fallback: [S] behavioural probabilities for the infosets that the plan does not reach.

    Returns:
        [S] probabilities, normalised at every infoset; 1 at the empty sequence.
    """
    if treeplex.n_infosets == 0:
        return np.ones(1)
    mass = np.maximum(plan, 0.0)
    mass[0] = 1.0
    sums = np.add.reduceat(mass, treeplex.first_sequence)
    reached = np.repeat(sums > 0, treeplex.n_actions)
    share = mass[1:] / np.repeat(np.where(sums > 0, sums, 1.0), treeplex.n_actions)
    return np.concatenate([[1.0], np.where(reached, share, fallback[1:])])


def as_log(policy: Policy | Pair | HostPair) -> HostPair:
    """Log-probabilities of both players, on the host in float64; -inf where a probability is 0.

    Args:
        policy: a `Policy`, or a pair of arrays [S0], [S1] of probabilities or of log-probabilities, which their values
            tell apart: log-probabilities are never above 0, and probabilities sum to 1.

    Raises:
        GameError: it is neither; or a probability is below 0.
    """
    known = isinstance(policy, Policy)
    return tuple(
        np.concatenate([[0.0], array[1:]]) if holds_logs(array) and not known else _log(array)
        for array in arrays_of(policy)
    )


def _log(probabilities: Float[np.ndarray, " S"]) -> Float[np.ndarray, " S"]:
    """Logarithms of probabilities, 0 at the empty sequence."""
    if not (smallest := probabilities[1:].min(initial=0.0)) >= 0:
        raise GameError(f"expected probabilities >= 0, got {smallest:g}")
    with np.errstate(divide="ignore"):
        return np.concatenate([[0.0], np.log(probabilities[1:])])


def full_support(game: Game, policy: Policy | Pair | HostPair, role: str) -> HostPair:
    """Log-probabilities of a policy that gives every action of the game a positive probability.

    Args:
        game: whose infosets the policy must fit.
        policy: the policy.
        role: what it is for, named in the refusal.

    Raises:
        GameError: a size is wrong, or a probability is 0 or no number.
    """
    log_policy = fitting(game, policy, role)
    if not all(np.isfinite(log).all() for log in log_policy):
        raise GameError(f"the {role} gives probability 0 to an action: mix it with a full-support policy first")
    return log_policy


def fitting(game: Game, policy: Policy | Pair | HostPair, role: str) -> HostPair:
    """Log-probabilities of a policy of the game, [S0] and [S1]; an action may have probability 0.

    Args:
        game: whose infosets the policy must fit.
        policy: the policy.
        role: what the policy is for, named in the refusal.

    Raises:
        GameError: a size is wrong, a probability is below 0, or the probabilities of an infoset do not sum to 1.
    """
    log_policy = as_log(policy)
    sizes = [(player.n_sequences,) for player in game.players]
    if [log.shape for log in log_policy] != sizes:
        got = " and ".join(str(log.shape) for log in log_policy)
        raise GameError(f"expected a {role} of shape {sizes[0]} and {sizes[1]}, got {got}")
    for player, log in zip(game.players, log_policy, strict=True):
        with np.errstate(over="ignore"):
            sums = np.add.reduceat(np.exp(log), player.first_sequence) if player.n_infosets else np.ones(1)
        if not np.abs(sums - 1).max() <= SUM_TOLERANCE:
            off = float(sums[np.argmax(~(np.abs(sums - 1) <= SUM_TOLERANCE))])
            raise GameError(f"expected a {role} whose probabilities sum to 1 at every infoset, got {off:.6g}")
    return log_policy
