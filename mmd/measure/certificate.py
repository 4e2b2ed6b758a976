"""The independent check: value and NashConv of a policy profile, recomputed from the game's data alone.

    NashConv = max_x' x'^T A y - min_y' x^T A y' = (row player's gain) + (column player's gain),

each gain being what a best response to the other's plan adds to the payoff (exploitability = NashConv / 2, OpenSpiel's
convention). Best responses by backward induction over the sequence form (von Stengel 1996).

NumPy in float64, with its own sweep; it shares no code with the solvers that it checks, and reads nothing but the
payoffs by coordinate and which infoset hangs from which sequence. Where one payoff is so large that rounding could
decide whether a policy is an equilibrium, a game that is not large is checked in fractions, which round nothing.

Letters as in `mmd.game.treeplex`: I infosets, S sequences of a player; G matrix games in arrays of one shape, [m, n].
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from mmd.game.game import Game, GameError, arrays_of, as_game, holds_logs
from mmd.game.payoff import Entries
from mmd.game.treeplex import Treeplex

PLAYERS = ("row", "column")
SUM_TOLERANCE = 1e-6  # a probability vector written with seven digits still counts as one
ROUNDING = 1e-12  # of the largest absolute payoff that a deviation can expect
ROUNDINGS = 4 * np.finfo(np.float64).eps  # of |A| y: what a policy's own rounding and a sum leave of A y, usually
FINE = 1e-12  # of the scale of play: rounding above it calls for fractions
CLEAR = 1e3  # roundings: an exploitability above it cannot be the rounding's, and no tolerance is near it
MOST_FRACTIONS = 20_000  # payoffs of a game that is checked in fractions
MOST_COMPARED = 200_000  # payoffs of a game in which each is compared with the value
DEFAULT_TOLERANCE = 1e-11  # of the scale of play: on ill-conditioned tables 1e-9 leaves five digits of the policy
MEANINGFUL, ULPS = 2.5e-7, 3.5  # of the scale of play, units in the last place of the value (`Certificate`)


@dataclass(frozen=True)
class Certificate:
    """What a policy profile is worth and how far it is from equilibrium.

    Attributes:
        value: payoff of the row player, in the units of the input (the game's offset included).
        best_response_gains: what the row and the column player gain by their best deviation, in payoff units (>= 0).
        scale: what is at stake in play, in payoff units: the mean distance of a payoff from the value, over the actions
            that the policies use in earnest; where that is 0, the least that another action changes: its loss, or for
            actions that lose nothing, the mean distance of the payoffs that they meet.
        rounding: exploitability, in payoff units, below which policies in float64 cannot be told apart: the effect of
            some roundings in every payoff that a best response meets. An estimate, not a bound.
    """

    value: float
    best_response_gains: tuple[float, float]
    scale: float
    rounding: float

    @property
    def default_tolerance(self) -> float:
        """The exploitability, in payoff units, up to which policies are called an equilibrium if no tolerance is given.

        1e-11 of `scale`, or `rounding` where that is larger. `rounding` counts up to a limit only, 2.5e-7 of `scale` or
        3.5 units in the last place of the value, so the value is right to 5e-7 of `scale`, or to 7 such units.
        """
        return float(_default_tolerance(self.scale, self.rounding, self.value))

    @property
    def unresolved(self) -> bool:
        """Whether the exploitability is above the default tolerance and yet at most `rounding`."""
        return self.default_tolerance < self.exploitability <= self.rounding

    @property
    def nash_conv(self) -> float:
        """Sum of both players' best-response gains, in payoff units."""
        return sum(self.best_response_gains)

    @property
    def exploitability(self) -> float:
        """NashConv / 2, in payoff units."""
        return self.nash_conv / 2


def _default_tolerance(scale: Any, rounding: Any, value: Any) -> Any:
    """`Certificate.default_tolerance`, of numbers or of arrays."""
    meaningful = np.maximum(MEANINGFUL * scale, ULPS * np.spacing(np.abs(value)))
    return np.maximum(DEFAULT_TOLERANCE * scale, np.minimum(rounding, meaningful))


class Cells(NamedTuple):
    """The payoffs of a game beside how likely its plays are: what many certificates of one game share.

    Attributes:
        game: whose they are.
        payoffs, plays: by coordinate; of the latter several may lie at one place.
        cell: [N + P] the place of each payoff, then of each play.
        rows, columns: [C] the coordinates of each place.
    """

    game: Game
    payoffs: Entries
    plays: Entries
    cell: Int[np.ndarray, " NP"]
    rows: Int[np.ndarray, " C"]
    columns: Int[np.ndarray, " C"]


def cells_of(game: Game) -> Cells | None:
    """The cells of a game; None in a large one, and where it is not known how likely plays are."""
    if game.payoff.n_stored > MOST_COMPARED or game.description.plays is None:
        return None
    payoffs, plays = game.payoff.entries(), game.description.plays()
    rows, columns = (np.concatenate([a, b]).astype(np.int64) for a, b in zip(payoffs[:2], plays[:2], strict=True))
    place = rows * game.column.n_sequences + columns
    _, first, cell = np.unique(place, return_index=True, return_inverse=True)
    return Cells(game, payoffs, plays, cell, rows[first], columns[first])


def certify(game: Game | Any, policy: Any, *, cells: Cells | None = None) -> Certificate:
    """The certificate of a profile of behavioural policies.

    Args:
        game: a `Game`, an [m, n] array of payoffs, or the name or file of a game, as `games.load` takes them.
        policy: a `mmd.Policy`, or a pair of arrays [S0], [S1]: the probability of each sequence's action at its
            infoset, or its logarithm. The two are told apart: log-probabilities are never above 0. Entry 0 (the
            empty sequence) is not read. Every infoset must sum to 1 within 1e-6, and is then scaled to sum 1.
        cells: those of the game, if they are at hand (`cells_of`); those of another game are not used.

    Raises:
        GameError: there is no such game, or it is no policy of it; the message names player and infoset.
        RuntimeError: a best response came out worse than the policy itself, beyond rounding: a defect of this package.
    """
    game = as_game(game)
    if cells is None or cells.game is not game:
        cells = cells_of(game)
    probabilities = [np.exp(array) if holds_logs(array) else array for array in arrays_of(policy)]
    policies = _checked(game, 0, probabilities[0]), _checked(game, 1, probabilities[1])
    found = _measured(game, policies, cells)
    sizes = _gradients(game, found.plans, cells, size=True)
    rounding, largest = _rounding(game, found, sizes)
    earnest, noise = _in_earnest(game, policies, found, sizes), rounding
    scale = _stake(game, earnest, found, sizes, cells)
    close = sum(found.gains) / 2 <= CLEAR * rounding
    if close and rounding > FINE * scale and game.payoff.n_stored * _depth(game) <= MOST_FRACTIONS:
        policies = tuple(_fractions(game, player, p) for player, p in enumerate(probabilities))
        found, noise = _measured(game, policies, cells), 0.0
        earnest = _in_earnest(game, policies, found, sizes)
        scale = _stake(game, earnest, found, sizes, cells)
    if scale <= noise:
        scale = _least_at_stake(game, earnest, found, (rounding, noise), cells)
        pruned = _measured(game, earnest, cells)
        limit = _rounding(game, pruned, _gradients(game, pruned.plans, cells, size=True))[0]
        least = _least_at_stake(game, earnest, pruned, (limit, min(noise, limit)), cells)
        if sum(pruned.gains) / 2 <= DEFAULT_TOLERANCE * least:  # then a loss that the rest causes is no stake
            scale = least
    if not min(found.gains) >= -ROUNDING * largest:
        raise RuntimeError(
            f"{game.name}: best responses gain {found.gains}, which cannot be negative; please report this"
        )
    value = float(found.value + type(found.value)(game.description.offset))
    gains = (max(float(found.gains[0]), 0.0), max(float(found.gains[1]), 0.0))
    return Certificate(value, gains, float(scale), rounding)


def _rounding(game: Game, found: "_Measured", sizes: tuple[Any, Any]) -> tuple[float, float]:
    """`Certificate.rounding`, half of what both best responses may change by, and the largest payoff to be expected.

    Args:
        game: the game.
        found: what was measured in float64.
        sizes: (|A| y, |A|^T x).
    """
    width, largest = 0.0, 0.0
    for player, gradient, size in zip(game.players, found.gradients, sizes, strict=True):
        error = ROUNDINGS * size
        most, least, absolute = _best_response(player, np.stack([gradient + error, gradient - error, size]))[0]
        width, largest = width + float(most - least), max(largest, float(absolute))
    return width / 4, largest


def _in_earnest(game: Game, policies: tuple[Any, ...], found: "_Measured", sizes: tuple[Any, Any]) -> tuple[Any, ...]:
    """The policies over the actions that they use in earnest.

    Such an action's probability exceeds its loss over what the policies meet there: an equilibrium may use an action
    very rarely, and what an unfinished iterate still gives to a bad one does not count. In a matrix an action that
    meets only payoffs of 0, and loses nothing, is used in earnest. In a tree more may follow an action that has no
    payoff of its own, so there it is not told apart from the others of its infoset.
    """
    reached = np.greater_equal if _depth(game) == 1 else np.greater
    return tuple(
        _scaled(player, np.where(reached(p * size, -regret), p, 0 * p), p)
        for player, p, size, regret in zip(game.players, policies, sizes, found.regrets, strict=True)
    )


def _stake(
    game: Game, policies: tuple[Any, ...], found: "_Measured", sizes: tuple[Any, Any], cells: Cells | None
) -> Any:
    """Mean distance of a payoff from the value of some policies, or, in a large game, from 0 under the given ones."""
    if cells is None:
        return float(found.plans[0] @ sizes[0])
    return _spread(cells, _plan(game.row, policies[0]), _plan(game.column, policies[1]))


def _spread(cells: Cells, x: Any, y: Any) -> Any:
    """Mean distance of a payoff from the value of two plans."""
    values, chances = (_like(x, entries.values) for entries in (cells.payoffs, cells.plays))
    value = np.sum(x[cells.payoffs.rows] * values * y[cells.payoffs.columns])
    difference = _sums(cells.cell, np.concatenate([values, -value * chances]), len(cells.rows))
    return np.sum(x[cells.rows] * np.abs(difference) * y[cells.columns])


def _least_at_stake(
    game: Game, earnest: tuple[Any, ...], found: "_Measured", limits: tuple[float, float], cells: Cells | None
) -> float:
    """What is at stake where every payoff that is met is the value: the least that another action changes.

    An action that loses more than rounding can tell counts with its loss. Those that lose less, one player's at a time,
    count with the mean distance of the payoffs from the value when all of them are played alike.

    Args:
        game: the game.
        earnest: the policies over the actions that they use in earnest.
        found: what was measured.
        limits: what rounding can tell of a loss, and of a mean distance.
        cells: those of the game.
    """
    rounding, noise = limits
    losses = -np.concatenate([regrets[1:] for regrets in found.regrets])
    least = [float(loss) for loss in losses[losses > rounding]]
    if cells is not None:
        plans = [_plan(treeplex, p) for treeplex, p in zip(game.players, earnest, strict=True)]
        for player, (treeplex, p, regret) in enumerate(zip(game.players, earnest, found.regrets, strict=True)):
            alike = _plan(treeplex, _scaled(treeplex, np.where(regret >= -rounding, 0 * p + 1, 0 * p), p))
            x, y = (alike, plans[1]) if player == 0 else (plans[0], alike)
            least.append(float(_spread(cells, x, y)))
    return min((one for one in least if one > noise), default=0.0)


def _like(plan: Any, values: Float[np.ndarray, " N"]) -> Any:
    """Values in the arithmetic of a plan."""
    return np.array([Fraction(value) for value in values.tolist()], object) if plan.dtype == object else values


def _depth(game: Game) -> int:
    """Levels of the deeper treeplex, at least 1: as many factors a realisation probability may have."""
    return max([1, *(sum(1 for _ in _levels(player)) for player in game.players)])


class _Measured(NamedTuple):
    """What follows from policies, in float64 or in fractions: plans, (A y, -A^T x), value, gains, regrets."""

    plans: tuple[Any, Any]
    gradients: tuple[Any, Any]
    value: Any
    gains: tuple[Any, Any]
    regrets: tuple[Any, Any]


def _measured(game: Game, policies: tuple[Any, ...], cells: Cells | None) -> _Measured:
    """Plans, gradients and best responses of behavioural policies, in the arithmetic in which they are given."""
    row, column = game.players
    plans = _plan(row, policies[0]), _plan(column, policies[1])
    to_row, to_column = _gradients(game, plans, cells)
    value = (plans[0] * to_row).sum() if plans[0].dtype == object else np.float64(plans[0] @ to_row)
    (best_row, row_regrets), (best_column, column_regrets) = (
        _best_response(row, to_row),
        _best_response(column, to_column),
    )
    return _Measured(
        plans, (to_row, to_column), value, (best_row - value, best_column + value), (row_regrets, column_regrets)
    )


def _gradients(game: Game, plans: tuple[Any, Any], cells: Cells | None, *, size: bool = False) -> tuple[Any, Any]:
    """(A y, -A^T x), or with `size` (|A| y, |A|^T x)."""
    x, y = plans
    to_row, to_column = (np.zeros(len(plan), plan.dtype) for plan in plans)
    for rows, columns, values in game.payoff.parts() if cells is None else (cells.payoffs,):
        payoffs = _like(x, np.abs(values) if size else values)
        to_row = to_row + _sums(rows, payoffs * y[columns], len(x))
        to_column = to_column + _sums(columns, payoffs * x[rows], len(y)) * (1 if size else -1)
    return to_row, to_column


def _fractions(game: Game, player: int, probabilities: Float[np.ndarray, " S"]) -> Any:
    """Probabilities as an array [S] of fractions, scaled to sum exactly 1 at every infoset."""
    exact = np.array([Fraction(p) for p in np.asarray(probabilities, np.float64).tolist()], object)
    return _scaled(game.players[player], exact, exact)


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


def default_tolerances(
    payoffs: Float[np.ndarray, "G m n"],
    exists: tuple[Bool[np.ndarray, "G m"], Bool[np.ndarray, "G n"]],
    probabilities: tuple[Float[np.ndarray, "G m"], Float[np.ndarray, "G n"]],
) -> Float[np.ndarray, " G"]:
    """`Certificate.default_tolerance` of many matrix games, in float64; arguments as for `certify_matrices`.

    A game in which one payoff dwarfs play may need more than float64: its `certify` says.
    """
    row, column = sides = _sides(payoffs, exists, probabilities)
    played = row.earnest, column.earnest
    rounding = (row.width + column.width) / 4
    values = np.einsum("gm,gmn,gn->g", row.earnest, payoffs, column.earnest)
    stake = _spreads(payoffs, *played)
    scale = np.where(stake > rounding, stake, _least_spreads(payoffs, sides, played, rounding))
    pruned = _sides(payoffs, exists, played)
    least = _least_spreads(payoffs, pruned, played, (pruned[0].width + pruned[1].width) / 4)
    gains = sum(np.sum(p * np.where(p > 0, side.losses, 0), axis=1) for p, side in zip(played, pruned, strict=True))
    scale = np.where((stake <= rounding) & (gains / 2 <= DEFAULT_TOLERANCE * least), least, scale)
    return _default_tolerance(scale, rounding, values)


def _least_spreads(
    payoffs: Float[np.ndarray, "G m n"],
    sides: tuple["_Side", "_Side"],
    played: tuple[Float[np.ndarray, "G m"], Float[np.ndarray, "G n"]],
    rounding: Float[np.ndarray, " G"],
) -> Float[np.ndarray, " G"]:
    """`_least_at_stake` of many matrix games; 0 where there is none.

    Args:
        payoffs: to the row player.
        sides: both players, and what their actions lose.
        played: the strategies over the actions that they use in earnest.
        rounding: what it can tell of a loss, and of a mean distance.
    """
    row, column = sides
    spreads = [
        _spreads(payoffs, row.alike(rounding), played[1]),
        _spreads(payoffs, played[0], column.alike(rounding)),
    ]
    least = np.concatenate([row.losses, column.losses, np.stack(spreads, axis=1)], axis=1)
    smallest = np.where(least > rounding[:, None], least, np.inf).min(axis=1)
    return np.where(np.isfinite(smallest), smallest, 0.0)


def _spreads(
    payoffs: Float[np.ndarray, "G m n"], x: Float[np.ndarray, "G m"], y: Float[np.ndarray, "G n"]
) -> Float[np.ndarray, " G"]:
    """Mean distance of a payoff from the value of strategies, in each game."""
    values = np.einsum("gm,gmn,gn->g", x, payoffs, y)
    return np.einsum("gm,gmn,gn->g", x, np.abs(payoffs - values[:, None, None]), y)


class _Side(NamedTuple):
    """One player of many matrix games, as `certify` sees it.

    Attributes:
        losses: [G, m] what each action is worth less than the best (>= 0), infinite where it does not exist.
        earnest: [G, m] the strategies over the actions that they use in earnest (`_stake`).
        width: [G] what rounding may change of the best response's value.
    """

    losses: Float[np.ndarray, "G m"]
    earnest: Float[np.ndarray, "G m"]
    width: Float[np.ndarray, " G"]

    @classmethod
    def of(cls, payoffs: np.ndarray, own: np.ndarray, other: np.ndarray, exists: np.ndarray) -> "_Side":
        """From payoffs [G, m, n] to the player, and both strategies."""
        gradient, size = (payoffs @ other[:, :, None])[:, :, 0], (np.abs(payoffs) @ other[:, :, None])[:, :, 0]
        gradient, error = np.where(exists, gradient, -np.inf), ROUNDINGS * size
        losses = gradient.max(axis=1, keepdims=True) - gradient
        earnest = np.where(own * size >= losses, own, 0.0)
        mass = earnest.sum(axis=1, keepdims=True)
        earnest = np.where(mass > 0, earnest / np.where(mass > 0, mass, 1.0), own)
        return cls(losses, earnest, (gradient + error).max(axis=1) - (gradient - error).max(axis=1))

    def alike(self, rounding: Float[np.ndarray, " G"]) -> Float[np.ndarray, "G m"]:
        """The strategies that play alike all actions which lose no more than rounding can tell."""
        tied = (self.losses <= rounding[:, None]).astype(np.float64)
        return tied / tied.sum(axis=1, keepdims=True)


def _sides(
    payoffs: Float[np.ndarray, "G m n"],
    exists: tuple[Bool[np.ndarray, "G m"], Bool[np.ndarray, "G n"]],
    probabilities: tuple[Float[np.ndarray, "G m"], Float[np.ndarray, "G n"]],
) -> tuple[_Side, _Side]:
    """Both players under some strategies; arguments as for `certify_matrices`."""
    x, y = probabilities
    return _Side.of(payoffs, x, y, exists[0]), _Side.of(-payoffs.transpose(0, 2, 1), y, x, exists[1])


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
    return _scaled(treeplex, probabilities, probabilities)


def _scaled(treeplex: Treeplex, mass: Any, otherwise: Any) -> Any:
    """Masses scaled to sum 1 at every infoset; other probabilities where there are none."""
    if treeplex.n_infosets == 0:
        return mass[:1] * 0 + 1
    sums = np.repeat(np.add.reduceat(mass, treeplex.first_sequence), treeplex.n_actions)
    return np.concatenate([mass[:1] * 0 + 1, np.where(sums > 0, mass[1:] / np.where(sums > 0, sums, 1), otherwise[1:])])


def _infoset_name(game: Game, player: int, infoset: int) -> str:
    """How a message names an infoset."""
    labels = game.description.labels
    return f"infoset {infoset}" if labels is None else f"infoset {labels[player].infosets[infoset]!r}"


def _sums(sequences: Int[np.ndarray, " N"], values: Any, n_sequences: int) -> Any:
    """What falls on each sequence of a player, [S]."""
    if values.dtype != object:
        return np.bincount(sequences, values, minlength=n_sequences).astype(np.float64)  # of nothing, integers
    sums = np.full(n_sequences, Fraction(0), object)
    np.add.at(sums, sequences, values)
    return sums


def _levels(treeplex: Treeplex) -> Iterator[tuple[slice, slice]]:
    """Infosets and sequences of each level from the top: both contiguous, because infosets are sorted by level."""
    first, start = np.asarray(treeplex.first_sequence), 0
    owner = np.searchsorted(first, treeplex.parent, side="right") - 1  # infoset of the parent sequence, -1 if empty
    above, ends = np.maximum.accumulate(owner), np.append(first[1:], treeplex.n_sequences)
    while start < len(first):
        stop = bisect_left(above, start)  # the next level begins where parents are of this one
        yield slice(start, stop), slice(int(first[start]), int(ends[stop - 1]))
        start = stop


def _plan(treeplex: Treeplex, probabilities: Any) -> Any:
    """Realisation probabilities [S]: products of the probabilities along each sequence."""
    plan, parent, n_actions = probabilities.copy(), np.asarray(treeplex.parent), treeplex.n_actions
    for infosets, sequences in _levels(treeplex):
        plan[sequences] *= np.repeat(plan[parent[infosets]], n_actions[infosets])
    return plan


def _best_response(treeplex: Treeplex, gradients: Any) -> tuple[Any, Any]:
    """`max_x <x, gradient>` over plans for gradients [..., S], by backward induction, and regrets (<= 0)."""
    values, parent, first = gradients.copy(), np.asarray(treeplex.parent), treeplex.first_sequence
    regrets, n_actions = gradients * 0, treeplex.n_actions
    for infosets, sequences in reversed(list(_levels(treeplex))):
        best = np.maximum.reduceat(values[..., sequences], first[infosets] - sequences.start, axis=-1)
        regrets[..., sequences] = values[..., sequences] - np.repeat(best, n_actions[infosets], axis=-1)
        np.add.at(values, (..., parent[infosets]), best)  # pyrefly: ignore[bad-argument-type]
    return values[..., 0], regrets
