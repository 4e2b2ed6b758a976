"""The sequence form as sparse matrices: what a linear program or a linear solve wants of a game.

A plan x of a player is in the treeplex iff `x >= 0` and `E x = e`, with e = (1, 0, ..., 0) and one row per infoset:

    (E x)_0 = x_0            (E x)_{1+j} = sum_a x_ja - x_parent(j)

Source: von Stengel, "Efficient Computation of Behavior Strategies" (1996); Koller, Megiddo, von Stengel (1996).
Host code, float64. Letters as in `mmd.game.treeplex`.
"""

import numpy as np
from scipy import sparse

from mmd.game.game import Game
from mmd.game.treeplex import Treeplex


def payoff_matrix(game: Game) -> sparse.csr_array:
    """A as a [S0, S1] matrix."""
    rows, columns, values = game.payoff.entries()
    return sparse.csr_array((values, (rows, columns)), shape=(game.row.n_sequences, game.column.n_sequences))


def constraints(treeplex: Treeplex) -> sparse.csr_array:
    """E, a [1 + I, S] matrix."""
    own = np.concatenate([[0], 1 + np.repeat(np.arange(treeplex.n_infosets), treeplex.n_actions)])
    rows = np.concatenate([own, 1 + np.arange(treeplex.n_infosets)])
    columns = np.concatenate([np.arange(treeplex.n_sequences), np.asarray(treeplex.parent)])
    values = np.concatenate([np.ones(treeplex.n_sequences), -np.ones(treeplex.n_infosets)])
    return sparse.csr_array((values, (rows, columns)), shape=(1 + treeplex.n_infosets, treeplex.n_sequences))
