"""A game on a mesh of devices: each holds its share of the payoffs' rows and computes its share of the infosets.

Every direction of the payoff operator is divided by rows, padded with empty ones to a multiple of the devices. Rows are
multiplied where they lie, and the products, [S] numbers, are gathered; payoffs never move. In the sweeps each
device computes its rows of a large group of infosets, and the results are gathered. Plans, policies and all that is
small are whole on every device, so that the same program reads alike with one device and with many, and every process
of a mesh can read the results.

Three subclasses hold all of it: same mathematics, same numbers up to the rounding of sums. Nothing outside this module
knows a mesh.

Sources: Xu et al. 2021 (GSPMD: sharding constraints change where, never what); jax.shard_map for the products.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from mmd.game.game import Game, GameError
from mmd.game.payoff import Bucket, Buckets, Dense, Sparse, taken, typed
from mmd.game.treeplex import Treeplex

ROWS = "rows"  # the one axis of every mesh here
BY_ROWS, WHOLE = PartitionSpec(ROWS), PartitionSpec()
ROWS_PER_DEVICE = 1_024  # smaller groups of infosets are cheaper computed everywhere than gathered

Tree = TypeVar("Tree")
Put = Callable[[np.ndarray, NamedSharding], Any]  # a host array, padded by rows where they are divided, on devices


def flat(mesh: Mesh) -> Mesh:
    """The devices of a mesh along one axis, which is how payoffs are divided.

    Raises:
        GameError: it is no mesh.
    """
    if not isinstance(mesh, Mesh):
        raise GameError(f"expected a jax.sharding.Mesh, such as jax.make_mesh((8,), ('devices',)), got {mesh!r}")
    return Mesh(mesh.devices.reshape(-1), (ROWS,), axis_types=(AxisType.Auto,))


class Placement(NamedTuple):
    """Where a run computes, and in which precision.

    Attributes:
        dtype: of payoffs and iterates.
        mesh: the devices that share the work, along one axis (`flat`); None for JAX's default device.
    """

    dtype: np.dtype
    mesh: Mesh | None = None

    def game(self, game: Game) -> Game:
        """The game there."""
        if self.mesh is None:
            return game.astype(self.dtype)
        return divided(game, self.mesh, lambda array, sharding: put(typed(array, self.dtype), sharding))

    def whole(self, tree: Tree) -> Tree:
        """A pytree of arrays and numbers there, undivided; a number as an array, so that its value is no constant."""
        arrays = jax.tree.map(lambda leaf: typed(leaf, self.dtype), tree)
        if self.mesh is None:
            return jax.device_put(arrays)
        everywhere = NamedSharding(self.mesh, WHOLE)
        return jax.tree.map(lambda array: put(array, everywhere), arrays)

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes files: the first of the mesh."""
        return self.mesh is None or self.mesh.devices.flat[0].process_index == jax.process_index()

    def of_all_processes(self, number: float) -> list[float]:
        """What each process passes, the same list in every one; all have to call this together."""
        if self.mesh is None or not self.mesh.is_multi_process:
            return [number]
        with jax.enable_x64(True):
            rows, whole = NamedSharding(self.mesh, BY_ROWS), NamedSharding(self.mesh, WHOLE)
            mine = jax.make_array_from_callback((self.mesh.size,), rows, lambda _: np.full(1, float(number)))
            return np.asarray(jax.device_put(mine, whole)).tolist()


def divided(game: Game, mesh: Mesh, put: Put) -> Game:
    """The game with its payoffs divided over the devices of a mesh of one axis.

    Args:
        game: a game on the host.
        mesh: as `flat` makes it.
        put: brings a host array to where it belongs.
    """
    everywhere = NamedSharding(mesh, WHOLE)

    def on_mesh(player: Treeplex) -> ShardedTreeplex:
        return ShardedTreeplex(**vars(jax.tree.map(lambda leaf: put(leaf, everywhere), player)), mesh=mesh)

    if isinstance(game.payoff, Dense):
        matrix = np.asarray(game.payoff.matrix)
        payoff = ShardedDense(put(matrix, NamedSharding(mesh, BY_ROWS)), len(matrix), mesh)
    else:
        by_row, by_column = game.payoff.by_row, game.payoff.by_column
        payoff = Sparse(ShardedBuckets.of(by_row, mesh, put), ShardedBuckets.of(by_column, mesh, put))
    return Game((on_mesh(game.row), on_mesh(game.column)), payoff, game.description)


def put(array: np.ndarray, sharding: NamedSharding) -> Array:
    """A host array on the devices of a mesh; a process touches only what its own devices hold."""
    shape = padded_shape(array, sharding)
    height = sharding.shard_shape(shape)[0] if shape else 0

    def share(index: Any) -> np.ndarray:
        mine = np.asarray(array[index])
        missing = height - len(mine) if shape else 0
        return np.pad(mine, [(0, missing)] + [(0, 0)] * (mine.ndim - 1)) if missing else mine

    return jax.make_array_from_callback(shape, sharding, share)


def padded_shape(array: np.ndarray, sharding: NamedSharding) -> tuple[int, ...]:
    """Its shape on devices: rows that are divided are filled up to a multiple of the devices."""
    if sharding.is_fully_replicated:
        return array.shape
    return (-(-len(array) // sharding.mesh.size) * sharding.mesh.size, *array.shape[1:])


def settled(game: Game, tree: Tree) -> Tree:
    """Results of a traced computation on a game, made whole on every device; nothing happens without a mesh."""
    return _laid_out(game.row.mesh, tree, WHOLE) if isinstance(game.row, ShardedTreeplex) else tree


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ShardedTreeplex(Treeplex):
    """A treeplex whose large groups of infosets are computed by rows on the devices of a mesh."""

    mesh: Mesh = field(metadata={"static": True})

    def by_rows(self, function: Callable[..., Any], *rows: Array) -> Any:
        """`function(*rows)`, divided if there are enough rows."""
        if len(rows[0]) < ROWS_PER_DEVICE * self.mesh.size:
            return function(*rows)
        # XLA spreads a layout to both sides: the outer WHOLE keep it from dividing what comes before and after as well,
        # the inner BY_ROWS from computing all rows everywhere.
        return _laid_out(self.mesh, function(*_laid_out(self.mesh, rows, WHOLE, BY_ROWS)), BY_ROWS, WHOLE)

    def bregman(
        self,
        plan: Float[Array, " S"],
        log_policy: Float[Array, " S"],
        log_reference: Float[Array, " S"],
        weights: Float[Array, " S"] | None = None,
    ) -> Float[Array, ""]:
        """Dilated KL; each device sums its share of the sequences."""
        arrays = (plan, log_policy, log_reference, weights)
        if len(plan) >= ROWS_PER_DEVICE * self.mesh.size:
            arrays = _laid_out(self.mesh, arrays, WHOLE, BY_ROWS)
        return _laid_out(self.mesh, super().bregman(*arrays), WHOLE)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ShardedDense(Dense):
    """A [S0, S1] array with its rows, and empty ones after them, divided over a mesh."""

    n_rows: int = field(metadata={"static": True})
    mesh: Mesh = field(metadata={"static": True})

    def times(self, column_plan: Float[Array, " S1"]) -> Float[Array, " S0"]:
        """A y: each device its rows."""
        multiply = jax.shard_map(jnp.matmul, mesh=self.mesh, in_specs=(BY_ROWS, WHOLE), out_specs=BY_ROWS)
        return _laid_out(self.mesh, multiply(self.matrix, column_plan), WHOLE)[: self.n_rows]

    def transposed_times(self, row_plan: Float[Array, " S0"]) -> Float[Array, " S1"]:
        """A^T x: each device what its rows contribute, then a sum over devices."""

        def contribution(plan: Array, matrix: Array) -> Array:
            return jax.lax.psum(jnp.matmul(plan, matrix), ROWS)

        multiply = jax.shard_map(contribution, mesh=self.mesh, in_specs=(BY_ROWS, BY_ROWS), out_specs=WHOLE)
        return multiply(jnp.pad(row_plan, (0, len(self.matrix) - self.n_rows)), jnp.asarray(self.matrix))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ShardedBuckets(Buckets):
    """One direction of a sparse product; the rows of each bucket, and empty ones after them, divided over a mesh."""

    mesh: Mesh = field(metadata={"static": True})

    @classmethod
    def of(cls, buckets: Buckets, mesh: Mesh, put: Put) -> "ShardedBuckets":
        """The same rows on a mesh; products come out further on by the empty rows before them."""
        rows, whole = NamedSharding(mesh, BY_ROWS), NamedSharding(mesh, WHOLE)
        lengths = np.array([len(bucket.values) for bucket in buckets.buckets], np.int64)
        empty = np.concatenate([[0], np.cumsum(-lengths % mesh.size)])
        position = np.asarray(buckets.position)
        position = position + empty[np.searchsorted(np.cumsum(lengths), position, side="right")]
        shares = tuple(Bucket(*(put(np.asarray(array), rows) for array in bucket)) for bucket in buckets.buckets)
        return cls(shares, put(position.astype(np.int32), whole), mesh)

    @jax.jit
    def times(self, vector: Float[Array, " T"]) -> Float[Array, " S"]:
        """The product with a vector: each device its rows of all buckets, and one gathering of the products."""
        if not self.buckets:
            return super().times(vector)

        def share(buckets: tuple[Bucket, ...], vector: Array) -> Array:
            return jnp.concatenate([bucket.times(vector) for bucket in buckets])

        multiply = jax.shard_map(share, mesh=self.mesh, in_specs=(BY_ROWS, WHOLE), out_specs=BY_ROWS)
        products = _laid_out(self.mesh, multiply(self.buckets, vector), WHOLE).reshape(self.mesh.size, -1)
        ends = np.cumsum([len(bucket.values) // self.mesh.size for bucket in self.buckets])
        by_bucket = [part.reshape(-1) for part in jnp.split(products, ends[:-1], axis=1)]
        return taken(jnp.concatenate([*by_bucket, jnp.zeros(1, vector.dtype)]), self.position)


def _laid_out(mesh: Mesh, tree: Tree, *layouts: PartitionSpec) -> Tree:
    """Arrays in these layouts, one after the other. A length need not be a multiple of the devices."""
    for layout in layouts:
        tree = jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, layout))
    return tree
