"""Preference games: each player names an option, and the payoff is how often its option is preferred.

With P[i, j] the share of comparisons that i wins over j, the row player receives P - 1/2 (values are reported in the
units of P, so that every equilibrium has value 1/2). The game is symmetric; its equilibrium strategies are the maximal
lotteries or von Neumann winners (Fishburn 1984; Dudik et al. 2015). An option that is preferred to every
other, the Condorcet winner, is then the only equilibrium strategy.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from games.constant_sum import rounding_hint
from games.labels import unique_labels
from games.matrix import Numbers, as_matrix
from mmd.game.game import Game, GameError

SUM_TOLERANCE = 1e-9  # in P + P.T = 1: shares written with ten digits pass


def game(
    preferences: Numbers,
    *,
    labels: Sequence[str] | None = None,
    name: str = "preference",
    sum_tolerance: float | None = None,
) -> Game:
    """The preference game of a matrix of win rates.

    Args:
        preferences: [n, n] shares between 0 and 1 with P + P.T = 1; the diagonal is 1/2 or missing (None or NaN).
        labels: names of the n options; repeated ones get a suffix.
        name: the game's name.
        sum_tolerance: how far P + P.T may be from 1, for rounded shares; the game is that of (P - P.T + 1) / 2. The
            default is 1e-9.

    Raises:
        GameError: not such a matrix; the message names the entry, or the two options that never met.
    """
    shares, names = _square(preferences, labels)
    diagonal = np.arange(len(names))
    shares[diagonal, diagonal] = np.where(np.isnan(shares.diagonal()), 0.5, shares.diagonal())
    if place := _first(np.isnan(shares) | np.isnan(shares.T)):
        i, j = place
        raise GameError(
            f"{names[i]!r} and {names[j]!r} were never compared, expected a share for every pair: leave one of them out"
        )
    if place := _first((shares < 0) | (shares > 1)):
        i, j = place
        raise GameError(f"expected shares between 0 and 1, got {shares[i, j]:g} {_entry(names, i, j)}")
    off = np.abs(shares + shares.T - 1)
    if place := _first(off > (SUM_TOLERANCE if sum_tolerance is None else sum_tolerance)):
        i, j = place
        sums = f"{shares[i, j]:.12g} + {shares[j, i]:.12g} {_entry(names, i, j)}"
        raise GameError(f"expected P + P.T = 1, got {sums}, off by {off[i, j]:.3g}{rounding_hint(off.max(), 1.0)}")
    return _symmetric((shares - shares.T) / 2, names, name, offset=0.5)


def margins(payoffs: Numbers, *, labels: Sequence[str] | None = None, name: str = "margins") -> Game:
    """The symmetric game of an antisymmetric matrix, such as an election's majority margins.

    Args:
        payoffs: [n, n] finite numbers, `payoffs[i, j] = -payoffs[j, i]` to 1e-9 of the largest.
        labels: names of the n options; repeated ones get a suffix.
        name: the game's name.

    Raises:
        GameError: not such a matrix; the message names the entry.
    """
    matrix, names = _square(payoffs, labels)
    if place := _first(~np.isfinite(matrix)):
        i, j = place
        raise GameError(f"expected finite numbers, got {matrix[i, j]} {_entry(names, i, j)}")
    if place := _first(np.abs(matrix + matrix.T) > SUM_TOLERANCE * np.abs(matrix).max()):
        i, j = place
        raise GameError(f"expected A = -A.T, got {matrix[i, j]:.12g} and {matrix[j, i]:.12g} {_entry(names, i, j)}")
    return _symmetric((matrix - matrix.T) / 2, names, name, offset=0.0)


def cycle() -> Game:
    """Three options, b over a and c over b by 0.9, a over c by 0.8: equilibrium (4, 3, 4) / 11."""
    shares = [[0.5, 0.1, 0.8], [0.9, 0.5, 0.1], [0.2, 0.9, 0.5]]
    return game(shares, labels=("a", "b", "c"), name="preference:cycle")


def rock_paper_scissors() -> Game:
    """Rock, paper, scissors: each option surely beats one other and loses to one; equilibrium (1, 1, 1) / 3."""
    shares = [[0.5, 0, 1], [1, 0.5, 0], [0, 1, 0.5]]
    return game(shares, labels=("rock", "paper", "scissors"), name="preference:rock_paper_scissors")


def _square(numbers: Numbers, labels: Sequence[str] | None) -> tuple[Float[np.ndarray, "n n"], tuple[str, ...]]:
    matrix = as_matrix(numbers)
    n = len(matrix)
    if matrix.shape != (n, n):
        raise GameError(f"expected a square matrix, got {matrix.shape[0]} rows and {matrix.shape[1]} columns")
    names = unique_labels(range(n) if labels is None else labels)
    if len(names) != n:
        raise GameError(f"expected {n} labels, got {len(names)}")
    return matrix, names


def _symmetric(payoffs: Float[np.ndarray, "n n"], names: tuple[str, ...], name: str, *, offset: float) -> Game:
    beaten = np.count_nonzero(payoffs > 0, axis=1)
    winner = int(beaten.argmax())
    fact = "no Condorcet winner"
    if beaten[winner] == len(names) - 1:
        fact = f"{names[winner]} beats every other: the Condorcet winner"
    return Game.from_matrix(payoffs, name=name, labels=(names, names), offset=offset, symmetric=True, facts=(fact,))


def _first(wrong: Bool[np.ndarray, "n n"]) -> tuple[int, int] | None:
    """The first marked entry, None if there is none."""
    at = np.argwhere(wrong)
    return (int(at[0, 0]), int(at[0, 1])) if len(at) else None


def _entry(names: tuple[str, ...], i: int, j: int) -> str:
    return f"for {names[i]!r} over {names[j]!r} (row {i + 1}, column {j + 1})"
