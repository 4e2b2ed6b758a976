"""Many small matrix games at once: the simplex method on all tableaus together, in NumPy.

A resampled table is one game of a thousand, and a linear program of its own would cost more in overhead than in
arithmetic. With payoffs A > 0 the program of the column player starts at the origin,

    max sum(y)   s.t.   A y <= 1,   y >= 0,

and its multipliers are a strategy x of the row player (Dantzig 1951; the tableau is that of Tucker 1960). Each pivot is
carried out in all games that are not done. The NashConv of every strategy pair is measured on the payoffs as given;
where it is not nearly 0, `mmd.measure.exact` solves that game by itself.

Letters: G games, m rows and n columns of payoffs.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mmd.game.game import Game
from mmd.measure.exact import solve_exactly

PIVOTS = 6  # times the rows and columns: so many, and a game counts as stalled
POSITIVE = 1e-12  # what is less is rounding, in a tableau of payoffs from 1 to 2
CELLS = 1_000_000  # of tableaus that are worked on at a time
EXACT = 1e-9  # of the payoff range: NashConv above which a game is solved again


class Equilibria(NamedTuple):
    """An equilibrium of each game: strategies [G, m] and [G, n], values [G] to the row player."""

    row: Float[np.ndarray, "G m"]
    column: Float[np.ndarray, "G n"]
    values: Float[np.ndarray, " G"]


def solve_all(payoffs: Float[np.ndarray, "G m n"]) -> Equilibria:
    """An equilibrium of every game, a vertex of its set of equilibria; NashConv at most 1e-9 of the payoff range.

    Args:
        payoffs: finite, to the row player.
    """
    step = max(1, CELLS // payoffs[0].size)
    parts = [_solved(payoffs[first : first + step]) for first in range(0, len(payoffs), step)]
    return Equilibria(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _solved(payoffs: Float[np.ndarray, "G m n"]) -> Equilibria:
    """Of so many games that their tableaus fit into the memory."""
    low = payoffs.min(axis=(1, 2), keepdims=True)
    span = np.ptp(payoffs, axis=(1, 2), keepdims=True)
    row, column = _strategies(1.0 + (payoffs - low) / np.where(span > 0, span, 1.0))
    at_row, at_column = _guaranteed(payoffs, row, column)
    for g in np.flatnonzero(~(at_column - at_row <= EXACT * span[:, 0, 0])):
        exact = solve_exactly(Game.from_matrix(payoffs[g])).probabilities
        row[g], column[g] = exact[0][1:], exact[1][1:]
    at_row, at_column = _guaranteed(payoffs, row, column)
    return Equilibria(row, column, (at_row + at_column) / 2)


def _guaranteed(payoffs: np.ndarray, row: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the row player gets at least and what the column player pays at most: their difference is NashConv."""
    at_least = np.einsum("gm,gmn->gn", row, payoffs).min(axis=1)
    return at_least, np.einsum("gmn,gn->gm", payoffs, column).max(axis=1)


def _strategies(positive: Float[np.ndarray, "G m n"]) -> tuple[np.ndarray, np.ndarray]:
    """Strategies of both players from the last tableaus; not optimal, or NaN, where a game is stalled."""
    games, m, n = positive.shape
    tableau = np.ones((games, m + 1, n + 1))
    tableau[:, :m, :n], tableau[:, m, :n], tableau[:, m, n] = positive, -1.0, 0.0
    # Variables 0 to m - 1 are the slacks of the rows, m to m + n - 1 the columns' probabilities.
    basic = np.tile(np.arange(m), (games, 1))
    nonbasic = np.tile(np.arange(m, m + n), (games, 1))
    active = np.arange(games)
    for _ in range(PIVOTS * (m + n)):
        active = active[(tableau[active, m, :n] < -POSITIVE).any(axis=1)]
        if not len(active):
            break
        enter = tableau[active, m, :n].argmin(axis=1)
        entries = tableau[active, :m, enter]
        ratios = np.where(entries > POSITIVE, tableau[active, :m, n] / np.maximum(entries, POSITIVE), np.inf)
        leave = ratios.argmin(axis=1)
        _pivot(tableau, active, leave, enter)
        basic[active, leave], nonbasic[active, enter] = nonbasic[active, enter], basic[active, leave]
    return _read(tableau, basic, nonbasic)


def _pivot(tableau: np.ndarray, at: Int[np.ndarray, " a"], r: Int[np.ndarray, " a"], c: Int[np.ndarray, " a"]) -> None:
    """Exchange the variables of row r and column c in the games `at`."""
    now, each = tableau[at], np.arange(len(at))
    pivot, row, column = now[each, r, c], now[each, r].copy(), now[each, :, c].copy()
    now -= (column / pivot[:, None])[:, :, None] * row[:, None, :]
    now[each, r] = row / pivot[:, None]
    now[each, :, c] = -column / pivot[:, None]
    now[each, r, c] = 1.0 / pivot
    tableau[at] = now


def _read(tableau: np.ndarray, basic: np.ndarray, nonbasic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The probabilities of columns that are basic and, as multipliers, of rows whose slacks are not."""
    m, n = basic.shape[1], nonbasic.shape[1]
    each = np.arange(len(tableau))[:, None]
    columns, rows = np.zeros((len(tableau), m + n)), np.zeros((len(tableau), m + n))
    columns[each, basic] = tableau[:, :m, n]
    rows[each, nonbasic] = tableau[:, m, :n]
    found = []
    for weights in (rows[:, :m], columns[:, m:]):
        weights = np.maximum(weights, 0.0)
        total = weights.sum(axis=1, keepdims=True)
        found.append(np.where(total > 0, weights / np.where(total > 0, total, 1.0), np.nan))
    return found[0], found[1]
