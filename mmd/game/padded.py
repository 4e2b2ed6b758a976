"""Matrix games of several sizes in arrays of one shape: what is missing is masked, and no algorithm notices.

A simplex of k actions inside a larger one is the treeplex with one information set in which the other actions hold -inf
wherever a rule looks, exactly as the padding of a group of ragged infosets does (`mmd.game.blocks`). No dominated
actions, no extra payoffs: steps, regrets, averages and best responses of the k actions are those of the game alone, up
to the order in which sums are rounded.

Letters: G games; m, n rows and columns of the arrays, at least those of each game.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mmd.game.blocks import Group
from mmd.game.game import Description, Game
from mmd.game.payoff import Dense
from mmd.game.treeplex import Treeplex

SMALLEST_OCTAVE = 3  # up to 2^3 actions games share arrays
MULTIPLE = 4  # arrays are as long as a multiple of it, so that batches of similar sizes share programs

Mask = Bool[Array | np.ndarray, " S"]


class Matrices(NamedTuple):
    """Many matrix games as arrays; payoffs of missing actions are 0.

    Attributes:
        payoffs: to the row player.
        rows, columns: which actions exist; those of a game come first.
    """

    payoffs: Float[np.ndarray, "G m n"]
    rows: Bool[np.ndarray, "G m"]
    columns: Bool[np.ndarray, "G n"]

    @classmethod
    def of(cls, matrices: Sequence[Float[np.ndarray, "_ _"]], multiple: int = MULTIPLE) -> "Matrices":
        """Padded to their largest sizes, rounded up to multiples of a number."""
        sizes = np.array([matrix.shape for matrix in matrices])
        m, n = (-(-int(size) // multiple) * multiple for size in sizes.max(axis=0))
        payoffs = np.zeros((len(matrices), m, n))
        for into, matrix in zip(payoffs, matrices, strict=True):
            into[: matrix.shape[0], : matrix.shape[1]] = matrix
        return cls(payoffs, np.arange(m) < sizes[:, :1], np.arange(n) < sizes[:, 1:])

    @property
    def exist(self) -> tuple[Bool[np.ndarray, "G m"], Bool[np.ndarray, "G n"]]:
        """Which rows and which columns each game has."""
        return self.rows, self.columns

    def at(self, index: Int[np.ndarray, " H"]) -> "Matrices":
        """Some of the games."""
        return Matrices(self.payoffs[index], self.rows[index], self.columns[index])


def alike(matrices: Sequence[Float[np.ndarray, "_ _"]]) -> list[Int[np.ndarray, " _"]]:
    """Which games share arrays: those whose numbers of rows and of columns lie in the same octaves, (2^k, 2^(k+1)]."""
    octaves = [tuple(max((n - 1).bit_length(), SMALLEST_OCTAVE) for n in matrix.shape) for matrix in matrices]
    kinds = sorted(set(octaves))
    of_kind = np.array([kinds.index(octave) for octave in octaves])
    return [np.flatnonzero(of_kind == kind) for kind in range(len(kinds))]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PaddedSimplex(Treeplex):
    """The strategy space of a matrix game, of which only some actions exist; traceable.

    Attributes:
        exists: which sequences there are, the empty one included.
    """

    exists: Mask

    @classmethod
    def of(cls, actions: Mask) -> "PaddedSimplex":
        """The simplex of these actions."""
        return cls(**vars(Treeplex.simplex(len(actions))), exists=jnp.concatenate([jnp.ones(1, bool), actions]))

    def uniform(self) -> Float[Array, " S"]:  # pyrefly: ignore[bad-override] - traced, so no NumPy
        """Log of the uniform policy over the actions that exist."""
        actions = jnp.sum(self.exists) - 1
        return jnp.where(self.exists, -jnp.log(actions.astype(float)), -jnp.inf).at[0].set(0.0)

    def _rows(self, values: Array, group: Group, start: int, missing: float) -> Array:
        return jnp.where(self.exists[None, 1:], super()._rows(values, group, start, missing), missing)


def padded_game(
    payoffs: Float[Array, "m n"], rows: Bool[Array, " m"], columns: Bool[Array, " n"], description: Description
) -> Game:
    """One of `Matrices` as a game; traceable, so that a batch of them is a `jax.vmap`."""
    bordered = jnp.pad(payoffs, ((1, 0), (1, 0)))
    return Game((PaddedSimplex.of(rows), PaddedSimplex.of(columns)), Dense(bordered), description)
