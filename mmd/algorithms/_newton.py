"""The Newton system of an interior point on a tree, and its factors in an order that follows the game.

With both players in one vector, v = (x, y) the plans, s = (z, w) their slacks and t = (p, q) the infoset values, the
two linear programs of a game are one that is its own dual:

    s = C^T t + M v >= 0,   C v = c,   v >= 0,   v_i s_i = 0        M = [[0, -A], [A^T, 0]],   C = [[E, 0], [0, F]]

and one step of Newton's method solves, with Theta = diag(s / v),

    [ Theta + M   C^T ] [dv]   [a]
    [   -C         0  ] [dt] = [b]

Its symmetric part is positive, so it can be eliminated along the diagonal in any order in which an infoset follows its
own sequences (before them its pivot is 0). A minimum degree order that heeds this needs a sixth to two thirds of the
entries of a column order that leaves room for pivots. Near the end, where Theta has more than twenty decades, the
diagonal may fail: then pivots are looked for, first within the same order, then without it.

Sources: von Stengel 1996 (sequence form); Vanderbei 1995 (quasi-definite systems); Liu 1985 (minimum degree).
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from scipy.sparse.linalg import splu

SHIFT = 1e-13  # added to the diagonal of the factored matrix; refinement takes it out of the solution
TINY_PIVOT = 1e-6  # of a column's largest entry: the diagonal is taken down to it once it has failed
RESIDUAL, ACCEPTED = 1e-13, 1e-8  # of the right side: ends the refinement; more than this and the factors are useless
REFINEMENTS = 30
DIAGONAL: dict[str, Any] = {"permc_spec": "NATURAL", "options": {"SymmetricMode": True}}
DENSE = 200  # operations for each entry of the factors from which panels of several columns pay
WAYS: tuple[dict[str, Any], ...] = (
    DIAGONAL | {"diag_pivot_thresh": 0.0},
    DIAGONAL | {"diag_pivot_thresh": TINY_PIVOT},
    {"permc_spec": "COLAMD"},
)


class NotSolvable(ArithmeticError):
    """No factors solve the system to any accuracy."""


class Work(NamedTuple):
    """What one factorisation takes, before it is done: an upper bound.

    Attributes:
        sequences: S, of both players, which is known.
        entries: of both factors.
        operations: multiplications and additions.
    """

    sequences: int
    entries: float
    operations: float


class Newton:
    """The system of one game: its order is found once, its factors for each Theta."""

    def __init__(self, skew: sparse.csr_array, constraints: sparse.csr_array) -> None:
        """Find the order.

        Args:
            skew: M, [S, S], S the sequences of both players.
            constraints: C, [J, S], J their infosets and one row each for the empty sequence.
        """
        self.n_sequences = len(skew.indptr) - 1
        self.matrix = sparse.csr_array(sparse.block_array([[skew, constraints.T], [-constraints, None]]))
        order, self.work = _elimination_order(self.matrix, constraints)
        self.panel = None if self.work.operations > DENSE * self.work.entries else 1
        self._lay_out(order)

    def _lay_out(self, order: Int[np.ndarray, " N"]) -> None:
        """The matrix in that order, with room for a full diagonal."""
        self.order, place, size = order, np.argsort(order), len(order)
        entries = self.matrix.tocoo()
        rows, columns = np.concatenate([place[entries.row], place]), np.concatenate([place[entries.col], place])
        values = np.concatenate([entries.data, np.full(size, SHIFT)])
        counted = sparse.coo_array((np.arange(1.0, len(rows) + 1), (rows, columns)), shape=(size, size)).tocsc()
        number = counted.data.astype(np.int64) - 1
        self.values = values[number]
        self.ordered = sparse.csc_array((self.values.copy(), counted.indices, counted.indptr), shape=(size, size))
        on_diagonal = np.flatnonzero(number >= entries.nnz)
        self.diagonal = np.empty(size, np.int64)
        self.diagonal[number[on_diagonal] - entries.nnz] = on_diagonal

    def factor(self, theta: Float[np.ndarray, " S"]) -> None:
        """Factor the matrix with this Theta.

        Raises:
            NotSolvable: it is singular, however pivots are chosen.
        """
        if not np.isfinite(theta).all():
            raise NotSolvable("the Newton system is singular: its diagonal is not finite")
        self.theta = np.concatenate([theta, np.zeros(len(self.order) - self.n_sequences)])
        np.copyto(self.ordered.data, self.values)
        self.ordered.data[self.diagonal] += self.theta
        self.way = -1
        self._factor_another_way()

    def _factor_another_way(self) -> None:
        while self.way + 1 < len(WAYS):
            self.way += 1
            try:
                self.factors = splu(self.ordered, panel_size=self.panel, **WAYS[self.way])
            except RuntimeError:
                continue
            return
        raise NotSolvable("the Newton system is singular in float64")

    def solve(self, right: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
        """The solution, refined against the matrix without its shift.

        Raises:
            NotSolvable: the residual stays large, however pivots are chosen.
        """
        size = np.abs(right).max() or 1.0
        while True:
            solution, residual = self._refined(right, size)
            if residual <= ACCEPTED:
                return solution
            self._factor_another_way()

    def _refined(self, right: Float[np.ndarray, " N"], size: float) -> tuple[Float[np.ndarray, " N"], float]:
        """The best solution that these factors give, and its largest residual over `size`."""
        solution, best, last = np.zeros_like(right), np.zeros_like(right), np.inf
        residual = right
        with np.errstate(all="ignore"):
            for _ in range(REFINEMENTS):
                solution = solution + self._back(residual)
                residual = right - (self.matrix @ solution + self.theta * solution)
                now = float(np.abs(residual).max() / size)
                if not now < last:
                    break
                best, improved, last = solution, now < last / 2, now
                if now < RESIDUAL or not improved:
                    break
        return best, last

    def _back(self, right: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
        solution = np.empty_like(right)
        solution[self.order] = self.factors.solve(right[self.order])
        return solution


def _elimination_order(matrix: sparse.csr_array, constraints: sparse.csr_array) -> tuple[Int[np.ndarray, " N"], Work]:
    """An order in which each infoset follows its own sequences, and what eliminating in it takes.

    The nodes of a graph are ordered by minimum degree: sequences after which the player does not move again, each by
    itself, and infosets, each with its other sequences. The pattern of the factors of the graph, a node counted as
    often as it has rows, is about that of the matrix.
    """
    infoset, node = _nodes(constraints)
    n_sequences, size = len(infoset), len(node)
    members = sparse.csr_array((np.ones(size), (node, np.arange(size))))
    pattern = sparse.csr_array((np.ones(matrix.nnz), matrix.indices, matrix.indptr), shape=matrix.shape)
    graph = sparse.csc_array(members @ (pattern + pattern.T) @ members.T)
    graph.data[:] = 1.0
    heavy = sparse.diags_array(2.0 * np.diff(graph.indptr) + 1)  # its factors exist without pivots
    factors = splu(sparse.csc_array(graph + heavy), **DIAGONAL | {"permc_spec": "MMD_AT_PLUS_A"}, diag_pivot_thresh=0)
    place = factors.perm_c[node]
    np.maximum.at(place, n_sequences + infoset, place[:n_sequences])
    weight = np.bincount(node)[np.argsort(factors.perm_c)].astype(np.float64)
    below = weight @ sparse.csc_array(factors.L != 0)  # rows at and below each node
    order = np.lexsort((np.arange(size) >= n_sequences, place))
    return order, Work(n_sequences, 2 * float(weight @ below), 2 * float(weight @ below**2))


def _nodes(constraints: sparse.csr_array) -> tuple[Int[np.ndarray, " S"], Int[np.ndarray, " N"]]:
    """The row of C in which each sequence is an action, and the node of each row of the matrix."""
    entries = constraints.tocoo()
    n_rows, n_sequences = 1 + int(entries.row.max()), 1 + int(entries.col.max())
    acts = entries.data > 0
    infoset = np.empty(n_sequences, np.int64)
    infoset[entries.col[acts]] = entries.row[acts]
    moves_again = np.zeros(n_sequences, bool)
    moves_again[entries.col[~acts]] = True
    node = np.concatenate([np.where(moves_again, infoset, n_rows + np.arange(n_sequences)), np.arange(n_rows)])
    return infoset, np.unique(node, return_inverse=True)[1]
