"""Vertex: an equilibrium of a small game in whole numbers, whatever the sizes of its payoffs.

First-order steps and floating-point projections lose a game in which one payoff is 1e12 times another. This is the
last resort for such a game, as long as it is small: the simplex method in integers, which rounds nothing until the
equilibrium is known.

With payoffs shifted to be at least 0, more mass never hurts the row player, so the sequence-form program (Koller,
Megiddo, von Stengel 1996) needs inequalities only, and starts at the origin:

    max q_0   s.t.   E x <= e,   F^T q <= A^T x,   x, q >= 0

x scaled up to a plan is an optimal plan of the row player, and the multipliers of the second block scaled down to one
are an optimal plan of the column player. A float64 is a whole number times a power of two, so the tableau holds whole
numbers; a pivot divides by the pivot before, without remainder (Edmonds 1967; Bareiss 1968; the `lrs` of Avis 2000).

Letters as in `mmd.game.treeplex`; M rows and N columns of the tableau.
"""

from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mmd.game.game import Game
from mmd.game.payoff import Entries
from mmd.game.treeplex import Treeplex
from mmd.measure.sequence_form import constraints

PER_WORD = 2e-8  # seconds, on two cores of 2025, for a machine word of all products of the pivots
MOST_SECONDS = 2.0
PIVOTS = 2.0  # expected, per row and column of the tableau
STALLED = 4  # times the rows and columns: so many pivots without gain, and Bland's rule takes over

Probabilities = tuple[Float[np.ndarray, " S0"], Float[np.ndarray, " S1"]]
Whole = Any  # an object array of Python's integers


def affordable(game: Game, time_limit: float | None = None) -> bool:
    """Whether a vertex takes at most about two seconds, or a quarter of a time limit, by a model of its work."""
    m, n = (player.n_infosets + other.n_sequences for player, other in (game.players, game.players[::-1]))
    products, most = PIVOTS * (m + n) * m * n, MOST_SECONDS if time_limit is None else min(MOST_SECONDS, time_limit / 4)
    if PER_WORD * products > most or game.description.plays is None:
        return False
    exponents = np.frexp(np.abs(game.payoff.entries().values))[1]
    bits = 53 + (int(np.ptp(exponents)) if exponents.size else 0)
    words = 1 + bits * min(m, n) / 64
    return PER_WORD * products * words**1.3 <= most


def vertex(game: Game, fallback: Probabilities) -> Probabilities:
    """An equilibrium, exact up to the rounding of its probabilities.

    Args:
        game: the game, of which `affordable` has said yes.
        fallback: [S0], [S1] behavioural policies where no play of the equilibrium leads.

    Returns:
        [S0], [S1] behavioural policies.
    """
    solved = _Tableau.of(game.players, _shifted(game)).solved()
    x, y = solved.optimum(game.players)
    return _behaviour(game.row, x, fallback[0]), _behaviour(game.column, y, fallback[1])


def _shifted(game: Game) -> Whole:
    """The sequence-form payoffs [S0, S1] as whole numbers, times a power of two, all at least 0."""
    assert game.description.plays is not None, "without it payoffs cannot be shifted"
    payoffs, reach = (_exact(game, entries) for entries in (game.payoff.entries(), game.description.plays()))
    lowest = min((payoffs[cell] / chance for cell, chance in np.ndenumerate(reach) if chance), default=Fraction(0))
    shifted = payoffs - Fraction(np.nextafter(float(lowest), -np.inf)) * reach if lowest < 0 else payoffs
    denominator = max(value.denominator for value in shifted.flat)  # all are powers of two
    return np.frompyfunc(lambda value: int(value * denominator), 1, 1)(shifted)


def _exact(game: Game, entries: Entries) -> Any:
    """Entries as an array [S0, S1] of fractions; those at the same place are added."""
    dense = np.full([player.n_sequences for player in game.players], Fraction(0), object)
    np.add.at(dense, (entries.rows, entries.columns), np.array([Fraction(v) for v in entries.values.tolist()], object))
    return dense


class _Tableau(NamedTuple):
    """`max c z s.t. M z <= b, z >= 0` as a dictionary of whole numbers over one denominator.

    Attributes:
        cells: [M + 1, N + 1] the last row is the objective, the last column the right-hand side.
        denominator: the pivot before.
        rows, columns: [M], [N] which variable is basic in a row and which is zero in a column; variables from N on are
            the slacks of the rows.
    """

    cells: Whole
    denominator: int
    rows: Int[np.ndarray, " M"]
    columns: Int[np.ndarray, " N"]

    @classmethod
    def of(cls, players: tuple[Treeplex, Treeplex], payoffs: Whole) -> "_Tableau":
        """The program of the module docstring, without x_0 = 1, q_0 and the column player's empty sequence."""
        own, other = (constraints(player).toarray().astype(int).astype(object) for player in players)
        height, width = own.shape[0] - 1 + other.shape[1] - 1, own.shape[1] - 1 + other.shape[0] - 1
        cells = np.full((height + 1, width + 1), 0, object)
        n_own, n_x = own.shape[0] - 1, own.shape[1] - 1
        cells[:n_own, :n_x], cells[:n_own, -1] = own[1:, 1:], -own[1:, 0]
        cells[n_own:-1, :n_x], cells[n_own:-1, -1] = -payoffs[1:, 1:].T, payoffs[0, 1:]
        cells[n_own:-1, n_x:-1] = other[1:, 1:].T
        cells[-1, :n_x], cells[-1, n_x:-1] = -payoffs[1:, 0], other[1:, 0]  # c with the sign turned
        return cls(cells, 1, width + np.arange(height), np.arange(width))

    def solved(self) -> "_Tableau":
        """The optimal dictionary. Steepest entry first; Bland's rule, which cannot cycle, while nothing is gained."""
        tableau, stalled = self, 0
        while True:
            objective = tableau.cells[-1, :-1]
            entering = np.flatnonzero(np.array([value < 0 for value in objective], bool))
            if len(entering) == 0:
                return tableau
            if stalled > STALLED * sum(self.cells.shape):
                column = int(entering[np.argmin(tableau.columns[entering])])
            else:
                column = min(entering.tolist(), key=lambda j: objective[j])
            row = tableau.leaving(column)
            stalled = stalled + 1 if tableau.cells[row, -1] == 0 else 0
            tableau = tableau.pivoted(row, column)

    def leaving(self, column: int) -> int:
        """The row with the smallest ratio; of several, the one whose variable comes first."""
        rows = [i for i in range(len(self.rows)) if self.cells[i, column] > 0]
        return min(rows, key=lambda i: (Fraction(self.cells[i, -1], self.cells[i, column]), self.rows[i]))

    def pivoted(self, row: int, column: int) -> "_Tableau":
        """With the variables of a row and a column exchanged."""
        cells, pivot = self.cells, self.cells[row, column]
        new = (cells * pivot - np.multiply.outer(cells[:, column], cells[row])) // self.denominator
        new[row], new[:, column] = cells[row], -cells[:, column]
        new[row, column] = self.denominator
        rows, columns = self.rows.copy(), self.columns.copy()
        rows[row], columns[column] = columns[column], rows[row]
        return _Tableau(new, pivot, rows, columns)

    def optimum(self, players: tuple[Treeplex, Treeplex]) -> tuple[Whole, Whole]:
        """The row player's x [S0] and the column player's multipliers y [S1], times the denominator."""
        width, n_own = len(self.columns), players[0].n_infosets
        values = np.full(width + len(self.rows), 0, object)
        values[self.rows] = self.cells[:-1, -1]
        multipliers = np.full_like(values, 0)
        multipliers[self.columns] = self.cells[-1, :-1]
        x = np.concatenate([[self.denominator], values[: players[0].n_sequences - 1]])
        return x, np.concatenate([[self.denominator], multipliers[width + n_own :]])


def _behaviour(treeplex: Treeplex, plan: Whole, fallback: Float[np.ndarray, " S"]) -> Float[np.ndarray, " S"]:
    """Behavioural probabilities of whole masses, each rounded once; [S]."""
    probabilities = np.array(fallback, np.float64)
    probabilities[0] = 1.0
    for first, n in zip(np.asarray(treeplex.first_sequence).tolist(), treeplex.n_actions.tolist(), strict=True):
        total = sum(plan[first : first + n])
        if total > 0:
            probabilities[first : first + n] = [float(Fraction(mass, total)) for mass in plan[first : first + n]]
    return probabilities
