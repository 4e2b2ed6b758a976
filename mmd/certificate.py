"""The independent check: value and NashConv of a policy profile, recomputed from the game's data alone.

    NashConv = max_x' x'^T A y - min_y' x^T A y' = (row player's gain) + (column player's gain),

each gain being what a best response to the other's plan adds to the payoff (exploitability = NashConv / 2, OpenSpiel's
convention). Best responses by backward induction over the sequence form (von Stengel 1996).

NumPy in float64 only, with its own sweep; it shares no code with the solvers that it checks, and reads nothing but the
payoffs by coordinate and which infoset hangs from which sequence.

Letters as in `mmd.treeplex`: I infosets, S sequences of a player; G matrix games in arrays of one shape, [m, n].
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from mmd.game import Game, GameError, arrays_of, holds_logs
from mmd.treeplex import Treeplex

PLAYERS = ("row", "column")
SUM_TOLERANCE = 1e-6  # a probability vector written with seven digits still counts as one
ROUNDING = 1e-12  # of the largest absolute payoff that a deviation can expect


@dataclass(frozen=True)
class Certificate:
    """What a policy profile is worth and how far it is from equilibrium.

    Attributes:
        value: payoff of the row player, in the units of the input (the game's offset included).
        best_response_gains: what the row and the column player gain by their best deviation, in payoff units (>= 0).
    """

    value: float
    best_response_gains: tuple[float, float]

    @property
    def nash_conv(self) -> float:
        """Sum of both gains."""
        return sum(self.best_response_gains)

    @property
    def exploitability(self) -> float:
        """NashConv / 2."""
        return self.nash_conv / 2


def certify(game: Game, policy: Any) -> Certificate:
    """The certificate of a profile of behavioural policies.

    Args:
        game: the game.
        policy: a `mmd.Policy`, or a pair of arrays [S0], [S1]: the probability of each sequence's action at its
            infoset, or its logarithm (log-probabilities are never above 0, and probabilities sum to 1). Entry 0 (the
            empty sequence) is not read. Every infoset must sum to 1 within 1e-6, and is then scaled to sum 1.

    Raises:
        GameError: it is no policy of this game; the message names player and infoset.
        RuntimeError: a best response came out worse than the policy itself, beyond rounding: a defect of this package.
    """
    probabilities = [np.exp(array) if holds_logs(array) else array for array in arrays_of(policy)]
    row, column = game.players
    x, y = (_plan(game.players[player], _checked(game, player, probabilities[player])) for player in (0, 1))
    (to_row, size_to_row), (to_column, size_to_column) = (np.zeros((2, player.n_sequences)) for player in game.players)
    for rows, columns, values in game.payoff.parts():
        for for_row, for_column, payoffs in (
            (to_row, to_column, values),
            (size_to_row, size_to_column, np.abs(values)),
        ):
            for_row += _sums(rows, payoffs * y[columns], row)
            for_column += _sums(columns, payoffs * x[rows], column)
    value = float(x @ to_row)
    gains = (_best_response_value(row, to_row) - value, _best_response_value(column, -to_column) + value)
    largest = max(_best_response_value(row, size_to_row), _best_response_value(column, size_to_column))
    if not min(gains) >= -ROUNDING * largest:
        raise RuntimeError(f"{game.name}: best responses gain {gains}, which cannot be negative; please report this")
    return Certificate(value + game.description.offset, (max(gains[0], 0.0), max(gains[1], 0.0)))


@dataclass(frozen=True)
class Certificates:
    """Certificates of many matrix games, as arrays.

    Attributes:
        values: payoff of the row player in each game.
        best_response_gains: [G], [G] what the row and the column player gain by their best deviation (>= 0).
    """

    values: Float[np.ndarray, " G"]
    best_response_gains: tuple[Float[np.ndarray, " G"], Float[np.ndarray, " G"]]

    @property
    def nash_conv(self) -> Float[np.ndarray, " G"]:
        """Sum of both gains."""
        return self.best_response_gains[0] + self.best_response_gains[1]


def certify_matrices(
    payoffs: Float[np.ndarray, "G m n"],
    exists: tuple[Bool[np.ndarray, "G m"], Bool[np.ndarray, "G n"]],
    probabilities: tuple[Float[np.ndarray, "G m"], Float[np.ndarray, "G n"]],
) -> Certificates:
    """The certificates of profiles of many matrix games.

    Args:
        payoffs: to the row player.
        exists: which rows and which columns each game has; payoffs elsewhere are not read as deviations.
        probabilities: of both players; each must sum to 1 within 1e-6 over the actions that exist, and is then scaled
            to sum 1. Actions that do not exist have none.

    Raises:
        GameError: the probabilities are not policies of these games; the message names player and game.
        RuntimeError: as for `certify`.
    """
    x, y = (_distributions(p, there, who) for p, there, who in zip(probabilities, exists, PLAYERS, strict=True))
    to_row, to_column = (payoffs @ y[:, :, None])[:, :, 0], (x[:, None, :] @ payoffs)[:, 0, :]
    values = np.sum(x * to_row, axis=1)
    row = np.where(exists[0], to_row, -np.inf).max(axis=1) - values
    column = values - np.where(exists[1], to_column, np.inf).min(axis=1)
    largest = np.abs(payoffs).max(axis=(1, 2))
    if not np.all(np.minimum(row, column) >= -ROUNDING * largest):
        worst = np.argmin(np.minimum(row, column) + ROUNDING * largest)
        gains = row[worst], column[worst]
        raise RuntimeError(f"game {worst}: best responses gain {gains}, which cannot be negative; please report this")
    return Certificates(values, (np.maximum(row, 0.0), np.maximum(column, 0.0)))


def _distributions(
    probabilities: Float[np.ndarray, "G m"], exists: Bool[np.ndarray, "G m"], who: str
) -> Float[np.ndarray, "G m"]:
    """Probabilities of one player in each game, scaled to sum exactly 1."""
    legal = np.isfinite(probabilities) & (probabilities >= 0) & (exists | (probabilities == 0))
    sums = probabilities.sum(axis=1)
    off = np.flatnonzero(~(legal.all(axis=1) & (np.abs(sums - 1) <= SUM_TOLERANCE)))
    if len(off):
        raise GameError(
            f"game {off[0]}, the {who} player: expected probabilities >= 0 that sum to 1 over the actions that exist, "
            f"got {probabilities[off[0]]}"
        )
    return probabilities / sums[:, None]


def _checked(game: Game, player: int, probabilities: Float[np.ndarray, " S"]) -> Float[np.ndarray, " S"]:
    """Probabilities of one player, scaled to sum exactly 1 at every infoset."""
    treeplex, who = game.players[player], f"{game.name}: the {PLAYERS[player]} player"
    probabilities = np.asarray(probabilities, np.float64)
    if probabilities.shape != (treeplex.n_sequences,):
        raise GameError(
            f"{who} has {treeplex.n_sequences} sequences, the empty one included; "
            f"expected as many probabilities, got an array of shape {probabilities.shape}"
        )
    bad = 1 + np.flatnonzero(~(np.isfinite(probabilities[1:]) & (probabilities[1:] >= 0)))
    if len(bad):
        place = _infoset_name(game, player, int(np.searchsorted(treeplex.first_sequence, bad[0], side="right")) - 1)
        raise GameError(f"{who}, {place}: expected probabilities >= 0, got {probabilities[bad[0]]}")
    if treeplex.n_infosets == 0:
        return np.ones(1)
    sums = np.add.reduceat(probabilities, treeplex.first_sequence)
    off = np.flatnonzero(np.abs(sums - 1) > SUM_TOLERANCE)
    if len(off):
        place = _infoset_name(game, player, int(off[0]))
        raise GameError(f"{who}, {place}: expected probabilities that sum to 1, got {sums[off[0]]:.9g}")
    return np.concatenate([[1.0], probabilities[1:] / np.repeat(sums, treeplex.n_actions)])


def _infoset_name(game: Game, player: int, infoset: int) -> str:
    """How a message names an infoset."""
    labels = game.description.labels
    return f"infoset {infoset}" if labels is None else f"infoset {labels[player].infosets[infoset]!r}"


def _sums(
    sequences: Int[np.ndarray, " N"], values: Float[np.ndarray, " N"], treeplex: Treeplex
) -> Float[np.ndarray, " S"]:
    """What falls on each sequence of a player."""
    sums = np.bincount(sequences, values, minlength=treeplex.n_sequences)
    return sums.astype(np.float64)  # of nothing, bincount makes integers


def _levels(treeplex: Treeplex) -> Iterator[tuple[slice, slice]]:
    """Infosets and sequences of each level from the top: both contiguous, because infosets are sorted by level."""
    first = treeplex.first_sequence
    ends = first + treeplex.n_actions
    owner = np.searchsorted(first, treeplex.parent, side="right") - 1  # infoset of the parent sequence, -1 if empty
    above = np.maximum.accumulate(owner)
    start = 0
    while start < len(first):
        stop = int(np.searchsorted(above, start))  # the next level begins where parents are of this one
        yield slice(start, stop), slice(int(first[start]), int(ends[stop - 1]))
        start = stop


def _plan(treeplex: Treeplex, probabilities: Float[np.ndarray, " S"]) -> Float[np.ndarray, " S"]:
    """Realisation probabilities: products of the probabilities along each sequence."""
    plan, parent, n_actions = probabilities.copy(), np.asarray(treeplex.parent), treeplex.n_actions
    for infosets, sequences in _levels(treeplex):
        plan[sequences] *= np.repeat(plan[parent[infosets]], n_actions[infosets])
    return plan


def _best_response_value(treeplex: Treeplex, gradient: Float[np.ndarray, " S"]) -> float:
    """`max_x <x, gradient>` over plans, by backward induction."""
    values, parent, first = gradient.copy(), np.asarray(treeplex.parent), treeplex.first_sequence
    for infosets, sequences in reversed(list(_levels(treeplex))):
        best = np.maximum.reduceat(values[sequences], first[infosets] - sequences.start)
        np.add.at(values, parent[infosets], best)
    return float(values[0])
