"""Game: two treeplexes and a payoff operator. Every two-player zero-sum game with perfect recall has this form.

The row player (0) maximises x^T A y + offset over its plans x, the column player (1) minimises it over its plans y.
For an extensive-form game A is the sequence-form payoff matrix, chance probabilities included (von Stengel 1996); for
a matrix game it is the payoff matrix, bordered by the empty sequences.

Letters: S0, S1 sequences of the row and the column player; N non-zero payoffs. A `Game` is a pytree whose leaves are
host (NumPy) float64 and int32 arrays, so it keeps its precision whatever the caller's JAX settings are.
"""

import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from mmd.treeplex import Treeplex

Pair = tuple[Float[Array, " _"], ...]  # the row player's, the column player's
HostPair = tuple[Float[np.ndarray, " _"], ...]
Number = Any  # a float or int; under JAX also an array, a tracer, or the placeholder of a pytree being rebuilt

DENSE_CELLS = 90_000  # trees up to 300 x 300 sequences use a dense operator
DENSE_SHARE = 0.25  # larger operators are dense from this share of non-zeros on
MAX_BUCKETS = 16
PART = 2**20  # payoffs that are listed at a time
MAX_UNROLLED = 12  # a wider bucket is summed by a reduction


class GameError(ValueError):
    """The input is not a game that this package can solve; the message says what, where and what instead."""


class Entries(NamedTuple):
    """Payoffs by coordinate, for code that wants the plain list."""

    rows: Int[np.ndarray, " N"]
    columns: Int[np.ndarray, " N"]
    values: Float[np.ndarray, " N"]


@dataclass(frozen=True)
class PlayerLabels:
    """Names for people: `infosets[j]`, and `actions[j][a]` in treeplex order. Any sequence will do, also a lazy one."""

    infosets: Sequence[str]
    actions: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Description:
    """What a game is called and how its numbers read; not seen by any solver.

    Attributes:
        name: the game's name, with its parameters.
        payoff_range: largest minus smallest payoff of an outcome, in the units of the input.
        offset: added to x^T A y to give the value in the units of the input.
        labels: names of the infosets and actions of both players; numbers where None.
        symmetric: the game is a symmetric preference or margin game, whose equilibrium is a lottery over the labels.
        facts: sentences worth reporting, such as who the Condorcet winner is.
        plays: works out the payoffs by coordinate of the same game if every play paid 1: how likely chance makes each
            pair of last own sequences. For algorithms that need more than payoffs; None if it is not known.
    """

    name: str
    payoff_range: float
    offset: float = 0.0
    labels: tuple[PlayerLabels, PlayerLabels] | None = None
    symmetric: bool = False
    facts: tuple[str, ...] = ()
    plays: Callable[[], Entries] | None = None

    # Two games of the same shape share one compiled program whatever they are called: as static data of the pytree, all
    # descriptions are alike.
    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Description)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Dense:
    """Payoffs as a [S0, S1] array."""

    matrix: Float[Array | np.ndarray, "S0 S1"]

    def times(self, column_plan: Float[Array, " S1"]) -> Float[Array, " S0"]:
        """A y."""
        return jnp.matmul(self.matrix, column_plan)

    def transposed_times(self, row_plan: Float[Array, " S0"]) -> Float[Array, " S1"]:
        """A^T x."""
        return jnp.matmul(row_plan, self.matrix)

    @property
    def n_stored(self) -> int:
        """Number of payoffs that a product touches."""
        return int(np.size(self.matrix))

    def absolute(self) -> "Dense":
        """|A|, entry by entry."""
        return replace(self, matrix=jnp.abs(self.matrix))

    def entries(self) -> Entries:
        """The non-zero payoffs."""
        matrix = np.asarray(self.matrix, np.float64)
        rows, columns = np.nonzero(matrix)
        return Entries(rows, columns, matrix[rows, columns])

    def parts(self) -> Iterator[Entries]:
        """The same in one part: a dense game that needs several is too large for other reasons."""
        yield self.entries()


class Bucket(NamedTuple):
    """Rows of a sparse matrix with (about) the same number of non-zeros: indices and values [n, k]."""

    indices: Int[Array | np.ndarray, "n k"]
    values: Float[Array | np.ndarray, "n k"]

    def times(self, vector: Float[Array, " T"]) -> Float[Array, " n"]:
        """The product of these rows with a vector."""
        width = self.values.shape[1]
        if width > MAX_UNROLLED:
            return jnp.sum(self.values * vector[self.indices], axis=1)
        # Written out, the sum is one loop over rows; as a reduction of a short axis it takes twice as long.
        columns = zip(jnp.asarray(self.values).T, self.indices.T, strict=True)
        terms = [values * vector[indices] for values, indices in columns]
        return functools.reduce(operator.add, terms)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Buckets:
    """One direction of a sparse product: rows grouped by their number of non-zeros, then put back in order.

    A gather, a multiply and a sum over the last axis for each bucket; faster on CPU and GPU than scattered sums.
    `position[i]` is where row i comes out of the concatenated buckets; empty rows point one past the end.
    """

    buckets: tuple[Bucket, ...]
    position: Int[Array | np.ndarray, " S"]

    @classmethod
    def build(cls, rows: np.ndarray, columns: np.ndarray, values: np.ndarray, n_rows: int) -> "Buckets":
        """Group the rows of a matrix given by coordinates (no duplicates)."""
        if not (np.diff(rows) >= 0).all():
            order = np.argsort(rows, kind="stable")
            columns, values = columns[order], values[order]
        counts = np.bincount(rows, minlength=n_rows)
        starts = np.cumsum(counts) - counts
        widths = _bucket_widths(counts)
        position = np.full(n_rows, np.count_nonzero(counts), np.int32)
        buckets, filled, below = [], 0, 0
        for width in widths:
            members = np.flatnonzero((counts > below) & (counts <= width))
            slot = np.arange(width)
            exists = slot < counts[members, None]
            at = np.where(exists, starts[members, None] + slot, 0)
            buckets.append(Bucket(np.where(exists, columns[at], 0).astype(np.int32), np.where(exists, values[at], 0.0)))
            position[members] = filled + np.arange(len(members))
            filled, below = filled + len(members), width
        return cls(tuple(buckets), position)

    def times(self, vector: Float[Array, " T"]) -> Float[Array, " S"]:
        """The product with a vector."""
        sums = [b.times(vector) for b in self.buckets]
        return jnp.concatenate([*sums, jnp.zeros(1, vector.dtype)])[self.position]

    def absolute(self) -> "Buckets":
        """The same with absolute values."""
        return replace(self, buckets=tuple(Bucket(b.indices, jnp.abs(b.values)) for b in self.buckets))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Sparse:
    """Payoffs in compressed form, in both directions: 24 bytes a non-zero in float64."""

    by_row: Buckets
    by_column: Buckets

    def times(self, column_plan: Float[Array, " S1"]) -> Float[Array, " S0"]:
        """A y."""
        return self.by_row.times(column_plan)

    def transposed_times(self, row_plan: Float[Array, " S0"]) -> Float[Array, " S1"]:
        """A^T x."""
        return self.by_column.times(row_plan)

    @property
    def n_stored(self) -> int:
        """Number of payoffs that a product touches."""
        return sum(int(np.size(bucket.values)) for bucket in self.by_row.buckets)

    def absolute(self) -> "Sparse":
        """|A|, entry by entry."""
        return Sparse(self.by_row.absolute(), self.by_column.absolute())

    def entries(self) -> Entries:
        """The non-zero payoffs."""
        return _joined(list(self._slices()))

    def parts(self) -> Iterator[Entries]:
        """The non-zero payoffs, about a million at a time: in one piece they would need more memory than the game."""
        part: list[Entries] = []
        for piece in self._slices():
            part.append(piece)
            if sum(len(entries.values) for entries in part) >= PART:
                yield _joined(part)
                part = []
        yield _joined(part)

    def _slices(self) -> Iterator[Entries]:
        """The non-zero payoffs of some rows of a bucket."""
        position = np.asarray(self.by_row.position)
        row_at = np.empty(sum(len(b.indices) for b in self.by_row.buckets) + 1, np.int64)
        row_at[position] = np.arange(len(position))
        filled = 0
        for bucket in self.by_row.buckets:
            indices, stored = np.asarray(bucket.indices), np.asarray(bucket.values, np.float64)
            length, width = indices.shape
            step = max(1, PART // width)
            for start in range(0, length, step):
                columns, values = indices[start : start + step], stored[start : start + step]
                rows = np.repeat(row_at[filled + start : filled + start + len(values)], width)
                kept = values.reshape(-1) != 0
                yield Entries(rows[kept], columns.reshape(-1)[kept].astype(np.int64), values.reshape(-1)[kept])
            filled += length


def _joined(parts: list[Entries]) -> Entries:
    """Several entries as one."""
    if not parts:
        return Entries(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    return parts[0] if len(parts) == 1 else Entries(*map(np.concatenate, zip(*parts, strict=True)))


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False)
class Game:
    """A two-player zero-sum game.

    Attributes:
        players: strategy spaces of the row (0) and the column player (1).
        payoff: A, to the row player.
        description: names and units.
    """

    players: tuple[Treeplex, Treeplex]
    payoff: Dense | Sparse
    description: Description = field(metadata={"static": True})

    @classmethod
    def from_matrix(
        cls,
        payoffs: Float[np.ndarray, "m n"],
        *,
        name: str = "matrix",
        labels: tuple[Sequence[str], Sequence[str]] | None = None,
        offset: float = 0.0,
        symmetric: bool = False,
        facts: tuple[str, ...] = (),
    ) -> "Game":
        """The matrix game in which the row player receives `payoffs[i, j]`.

        Args:
            payoffs: [m, n] finite payoffs to the row player.
            name, offset, symmetric, facts: see `Description`.
            labels: names of the m rows and the n columns.

        Raises:
            GameError: the array is not a finite, non-empty matrix, or the labels do not fit it.
        """
        payoffs = _checked_matrix(payoffs)
        labels = labels or (_numbered(payoffs.shape[0]), _numbered(payoffs.shape[1]))
        for n, given, player in zip(payoffs.shape, labels, ("row", "column"), strict=True):
            if len(given) != n:
                raise GameError(f"expected {n} labels for the {player} player, got {len(given)}")
            if len(set(given)) != n:
                twice = next(label for label in given if list(given).count(label) > 1)
                raise GameError(f"expected different labels for the {player} player's actions, got {twice!r} twice")
        bordered = np.zeros((payoffs.shape[0] + 1, payoffs.shape[1] + 1))
        bordered[1:, 1:] = payoffs
        described = Description(
            name=name,
            payoff_range=float(payoffs.max() - payoffs.min()),
            offset=offset,
            labels=(PlayerLabels(("row",), (tuple(labels[0]),)), PlayerLabels(("column",), (tuple(labels[1]),))),
            symmetric=symmetric,
            facts=facts,
            plays=functools.partial(_every_pair, payoffs.shape),
        )
        return cls((Treeplex.simplex(payoffs.shape[0]), Treeplex.simplex(payoffs.shape[1])), Dense(bordered), described)

    @classmethod
    def from_entries(cls, players: tuple[Treeplex, Treeplex], entries: Entries, description: Description) -> "Game":
        """A game from its sequence-form payoffs by coordinate; entries at the same place are added.

        Args:
            players: the two strategy spaces.
            entries: payoffs to the row player times chance probabilities, in treeplex numbering of sequences.
            description: names and units.

        Raises:
            GameError: a payoff is NaN or infinite.
        """
        if not np.isfinite(entries.values).all():
            raise GameError(f"{description.name}: expected finite payoffs, got NaN or infinity")
        shape = (players[0].n_sequences, players[1].n_sequences)
        cell = np.asarray(entries.rows, np.int64) * shape[1] + np.asarray(entries.columns, np.int64)
        values = np.asarray(entries.values, np.float64)
        if not (np.diff(cell) > 0).all():
            cell, inverse = np.unique(cell, return_inverse=True)
            values = np.bincount(inverse, values, minlength=len(cell))
        rows, columns = np.divmod(cell, shape[1])
        if shape[0] * shape[1] <= DENSE_CELLS or len(cell) >= DENSE_SHARE * shape[0] * shape[1]:
            matrix = np.zeros(shape)
            matrix[rows, columns] = values
            return cls(players, Dense(matrix), description)
        by_row = Buckets.build(rows, columns, values, shape[0])
        return cls(players, Sparse(by_row, Buckets.build(columns, rows, values, shape[1])), description)

    def __repr__(self) -> str:
        infosets, sequences = (" + ".join(f"{n:,}" for n in counts) for counts in zip(*self._sizes(), strict=True))
        kind = type(self.payoff).__name__.lower()
        return f"Game({self.name}: {infosets} infosets, {sequences} sequences, {kind} payoffs)"

    def _sizes(self) -> list[tuple[int, int]]:
        return [(player.n_infosets, player.n_sequences) for player in self.players]

    @property
    def row(self) -> Treeplex:
        """The row player's strategy space."""
        return self.players[0]

    @property
    def column(self) -> Treeplex:
        """The column player's strategy space."""
        return self.players[1]

    @property
    def name(self) -> str:
        """The game's name."""
        return self.description.name

    @property
    def is_matrix(self) -> bool:
        """Whether each player has a single information set."""
        return all(player.n_infosets == 1 for player in self.players)

    def gradient(self, player: int, opponent_plan: Float[Array, " S"]) -> Float[Array, " T"]:
        """Payoff gradient with respect to a player's own plan: A y for the row player, -A^T x for the column player."""
        if player == 0:
            return self.payoff.times(opponent_plan)
        return -self.payoff.transposed_times(opponent_plan)

    def astype(self, dtype: DTypeLike) -> "Game":
        """The same game with payoffs on the default device, in `dtype`."""
        return jax.tree.map(
            lambda leaf: jnp.asarray(leaf, dtype if np.issubdtype(leaf.dtype, np.floating) else None), self
        )


def _checked_matrix(payoffs: np.ndarray) -> Float[np.ndarray, "m n"]:
    try:
        payoffs = np.array(payoffs, np.float64)
    except (TypeError, ValueError):
        raise GameError("expected a matrix of numbers with rows of equal length, got something else") from None
    if payoffs.ndim != 2 or 0 in payoffs.shape:
        raise GameError(f"expected a non-empty matrix of payoffs, got an array of shape {payoffs.shape}")
    if not np.isfinite(payoffs).all():
        row, column = np.argwhere(~np.isfinite(payoffs))[0]
        raise GameError(f"expected finite payoffs, got {payoffs[row, column]} in row {row + 1}, column {column + 1}")
    return payoffs


def _every_pair(shape: tuple[int, int]) -> Entries:
    rows, columns = np.indices(shape).reshape(2, -1) + 1  # after the empty sequences
    return Entries(rows, columns, np.ones(rows.size))


def _numbered(n: int) -> tuple[str, ...]:
    return tuple(str(i) for i in range(n))


def _bucket_widths(counts: Int[np.ndarray, " S"]) -> list[int]:
    """Upper bounds of the bucket sizes: the exact counts if they are few, else powers of two."""
    exact = np.unique(counts[counts > 0])
    if len(exact) <= MAX_BUCKETS:
        return [int(width) for width in exact]
    return sorted({int(2 ** np.ceil(np.log2(width))) for width in exact})
