"""The payoff matrix of a game as an operator: products with plans, from either side, dense or sparse.

Rows are the sequences of the row player, columns those of the column player; an entry is a payoff to the row player,
times the probability of chance on the way to it. Arrays are host (NumPy) or device arrays alike.
"""

import functools
import operator
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Shaped

MAX_BUCKETS = 16
MAX_UNROLLED = 12  # a wider bucket is summed by a reduction
PART = 2**20  # payoffs that are listed at a time


class Entries(NamedTuple):
    """Payoffs by coordinate, for code that wants the plain list."""

    rows: Int[np.ndarray, " N"]
    columns: Int[np.ndarray, " N"]
    values: Float[np.ndarray, " N"]


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
            return jnp.sum(self.values * taken(vector, self.indices), axis=1)
        # Written out, the sum is one loop over rows; as a reduction of a short axis it takes twice as long.
        columns = zip(jnp.asarray(self.values).T, self.indices.T, strict=True)
        terms = [values * taken(vector, indices) for values, indices in columns]
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

    @jax.jit
    def times(self, vector: Float[Array, " T"]) -> Float[Array, " S"]:
        """The product with a vector."""
        sums = [b.times(vector) for b in self.buckets]
        return taken(jnp.concatenate([*sums, jnp.zeros(1, vector.dtype)]), self.position)

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


def taken(values: Shaped[Array, " n"], at: Int[Array | np.ndarray, "*shape"]) -> Shaped[Array, "*shape"]:
    """`values[at]` for indices that are known to lie in 0..n-1: nothing is checked, wrapped or clamped."""
    return jnp.asarray(values).at[at].get(mode="promise_in_bounds", wrap_negative_indices=False)


def typed(leaf: Any, dtype: DTypeLike) -> np.ndarray:
    """An array or number as a host array, a real one in `dtype`, integers as they are."""
    array = np.asarray(leaf)
    return array.astype(dtype, copy=False) if np.issubdtype(array.dtype, np.floating) else array


def _bucket_widths(counts: Int[np.ndarray, " S"]) -> list[int]:
    """Upper bounds of the bucket sizes: the exact counts if they are few, else powers of two."""
    exact = np.unique(counts[counts > 0])
    if len(exact) <= MAX_BUCKETS:
        return [int(width) for width in exact]
    return sorted({int(2 ** np.ceil(np.log2(width))) for width in exact})
