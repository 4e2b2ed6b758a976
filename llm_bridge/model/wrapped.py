"""A Flax module from anywhere as a function of its weights, so that everything that a `Decoder` can do, it can.

The module maps tokens, positions and a mask to logits; `Calls` says how, where it wants other arguments, has a cache of
its own, or gives activations and a head apart. What the module holds becomes one flat dictionary: parameters by their
paths, low-rank ones with `ADAPTER` in their names, and what is no parameter (tables, counters, random states) with
`BUFFER`. What a call changes in the module is thrown away.

Without a cache, a new token is computed from all that precede it, again each time.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx, traverse_util
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from llm_bridge.model import sharding
from llm_bridge.model.architecture import BridgeError, Outline
from llm_bridge.model.config import raise_all
from llm_bridge.model.network import ADAPTER, BUFFER, Network, Weights

PARAMS = "params"  # the collection of a Linen module that is trained


@dataclass(frozen=True)
class Calls:
    """How a module is called; every function takes the module first, of Linen the bound one.

    Letters: B rows, T tokens of a row, S slots of a cache, D width, V vocabulary. `positions` count a row's tokens from
    0 on; `mask` says which tokens are none of the padding, which may be on both sides. The module must let a token see
    no token behind it, and none of the padding.

    Attributes:
        logits: `(module, tokens [B, T], positions [B, T], mask [B, T])` -> [B, T, V]; None for `module(tokens,
            positions, mask)`.
        hidden: the same as far as the head, -> [B, T, D]. With `head` it stands in place of `logits`, so that logits
            are made for some tokens at a time.
        head: `(module, hidden [..., D])` -> logits [..., V].
        prefill: `(module, tokens [B, T], positions, mask, S)`, prompts padded on the left -> what `logits` or `hidden`
            gives, and a cache. That has room for S slots, of which the first T are filled, and its leaves are arrays.
        step: `(module, tokens [B, 1], positions [B, 1], mask [B, S], cache, slot)` -> the same of one more token,
            which belongs into `slot`, and the cache. The mask has the slots that may be seen, the new one included.

    Raises:
        BridgeError: one of two that belong together is missing, or there are both `logits` and `hidden`.
    """

    logits: Callable[..., Any] | None = None
    hidden: Callable[..., Any] | None = None
    head: Callable[..., Any] | None = None
    prefill: Callable[..., Any] | None = None
    step: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        """Checks."""
        for field in fields(self):
            if not (getattr(self, field.name) is None or callable(getattr(self, field.name))):
                raise BridgeError(f"expected {field.name} to be a function, got {getattr(self, field.name)!r}")
        for one, other in (("hidden", "head"), ("prefill", "step")):
            if (getattr(self, one) is None) != (getattr(self, other) is None):
                raise BridgeError(f"{one} and {other} belong together, expected both or none of them")
        if self.logits is not None and self.hidden is not None:
            raise BridgeError("expected logits, or hidden with head, got all of them")


@dataclass(frozen=True)
class Leaf:
    """An array that a module holds.

    Attributes:
        name: in the flat dictionary.
        path: in the module.
        shape: of the array.
        dtype: in which the module has it; weights in another one are converted before they are put into it.
        generator: of a random key, which is kept as its data; None for other arrays.
        axes: names by which its axes are divided, as its metadata says; may be shorter than its shape.
    """

    name: str
    path: tuple[Any, ...]
    shape: tuple[int, ...]
    dtype: str
    generator: str | None
    axes: tuple[Any, ...]

    @property
    def is_float(self) -> bool:
        """Whether it holds real numbers."""
        return jnp.issubdtype(jnp.dtype(self.dtype), jnp.floating)


class Held:
    """A module without arrays as a static argument: equal ones share compiled programs, where they can be compared.

    Args:
        value: the module; where an attribute of it cannot be hashed, it equals itself alone.
    """

    def __init__(self, value: Any):
        self.value = value
        try:
            self._hash = hash(value)
        except TypeError:
            self._hash = None

    def __hash__(self) -> int:
        return id(self) if self._hash is None else self._hash

    def __eq__(self, other: object) -> bool:
        if self is other or not isinstance(other, Held):
            return self is other
        return self._hash is not None and self._hash == other._hash and self.value == other.value

    def __reduce__(self) -> tuple[Any, ...]:
        """For `pickle`: a hash is another one in another process."""
        return Held, (self.value,)


class Written(NamedTuple):
    """In place of a cache: the tokens themselves.

    Attributes:
        tokens: one a slot.
        padding: how many of a row's first slots are empty.
    """

    tokens: Int[Array, "B S"]
    padding: Int[Array, " B"]


class Kept(NamedTuple):
    """The module's own cache.

    Attributes:
        cache: of the module.
        padding: how many of a row's first slots are empty.
        slots: as many zeros as it has slots, S.
    """

    cache: Any
    padding: Int[Array, " B"]
    slots: Int[Array, " S"]


@dataclass(frozen=True)
class Wrapped(Network):
    """A module as a function of its weights.

    Attributes:
        architecture: vocabulary and longest row.
        body: the module without arrays: the graph of an NNX module, or a Linen module.
        leaves: its arrays.
        calls: how it is called.
        rules: of which axis of the mesh an axis name of the module's metadata speaks; others mean themselves.
        mesh: where it computes.
        temperature: what logits are divided by.
    """

    architecture: Outline  # pyrefly: ignore[bad-override] - a frozen class's are read only
    body: Held
    leaves: tuple[Leaf, ...]
    calls: Calls
    rules: tuple[tuple[str, str | None], ...]
    mesh: Mesh  # pyrefly: ignore[bad-override]
    temperature: float = 1.0  # pyrefly: ignore[bad-override]

    # ------------------------------------------------------------------------------------------------ as a network

    def hidden(self, weights: Weights, tokens: Int[Array, "B T"], mask: Bool[Array, "B T"]) -> Float[Array, "B T D"]:
        """What the module's head reads; the logits themselves, where `Calls` names no head."""
        return self._read(weights, tokens, jnp.maximum(jnp.cumsum(mask, axis=1, dtype=jnp.int32) - 1, 0), mask)

    def prefill(
        self, weights: Weights, tokens: Int[Array, "N P"], padding: Int[Array, " N"], n_slots: int, copies: int = 1
    ) -> tuple[Float[Array, "B D"], Written | Kept]:
        """Read prompts that are padded on the left, one row for each copy."""
        tokens, padding = jnp.repeat(tokens, copies, axis=0), jnp.repeat(padding, copies)
        length = tokens.shape[1]
        positions, mask = self._slots(length, padding, jnp.int32(length - 1))
        if self.calls.prefill is None:
            room = jnp.pad(tokens, ((0, 0), (0, n_slots - length)))
            return self._read(weights, tokens, positions, mask)[:, -1], Written(room, padding)
        out, cache = self._call(self.calls.prefill, weights, tokens, positions, mask, n_slots)
        return self._rows(out)[:, -1], Kept(cache, padding, jnp.zeros(n_slots, jnp.int32))

    def step(
        self, weights: Weights, tokens: Int[Array, " B"], slot: Int[Array, ""], cache: Written | Kept
    ) -> tuple[Float[Array, "B D"], Written | Kept]:
        """Append one token to every row, in the same slot."""
        n_slots = cache.tokens.shape[1] if isinstance(cache, Written) else cache.slots.shape[0]
        positions, mask = self._slots(n_slots, cache.padding, slot)
        if isinstance(cache, Written):
            zero = jnp.zeros((), jnp.int32)
            written = jax.lax.dynamic_update_slice(cache.tokens, tokens[:, None], (zero, slot))
            out = self._read(weights, written, positions, mask)
            return jax.lax.dynamic_index_in_dim(out, slot, 1, keepdims=False), cache._replace(tokens=written)
        assert self.calls.step is not None
        own = (slot - cache.padding)[:, None]
        out, kept = self._call(self.calls.step, weights, tokens[:, None], own, mask, cache.cache, slot)
        return self._rows(out)[:, -1], cache._replace(cache=kept)

    def logits(self, weights: Weights, hidden: Float[Array, "... D"]) -> Float[Array, "... V"]:
        """Float32 logits, temperature included."""
        logits = hidden if self.calls.head is None else self._call(self.calls.head, weights, hidden)
        logits = logits.astype(jnp.float32)
        return logits if self.temperature == 1 else logits / self.temperature

    def fixed(self, weights: Weights) -> "Wrapped":
        """Itself: a module computes in the precision that it was made in, whatever precision weights are kept in."""
        return self

    def placed(self, names: Iterable[str], mesh: Mesh | None) -> tuple["Wrapped", dict[str, NamedSharding]]:
        """The same on another mesh, and where each weight lies there: as the module's metadata says."""
        mesh = automatic(mesh)
        rules, wanted = dict(self.rules), set(names)
        found, problems = {}, []
        for leaf in self.leaves:
            parts = [tuple(name for name in _renamed(axis, rules) if name in mesh.axis_names) for axis in leaf.axes]
            for size, part in zip(leaf.shape, parts, strict=False):
                if size % (share := int(np.prod([mesh.shape[name] for name in part], dtype=int))):
                    problems.append(f"{leaf.name} {leaf.shape} is not divisible by {share} along {' and '.join(part)}")
            spec = PartitionSpec(*(part[0] if len(part) == 1 else part or None for part in parts))
            found[leaf.name] = NamedSharding(mesh, spec)
        raise_all("the module does not fit the mesh", problems)
        return replace(self, mesh=mesh), {name: place for name, place in found.items() if name in wanted}

    def dtype(self, weights: Any) -> Any:
        """That of the largest array of real numbers."""
        floats = [leaf for leaf in self.leaves if leaf.is_float]
        return weights[max(floats, key=lambda leaf: np.prod(leaf.shape)).name].dtype

    def described(self) -> str:
        """Vocabulary, context, and whether it generates with a cache."""
        return f"{super().described()}, {'without a' if self.calls.prefill is None else 'its own'} cache"

    # ------------------------------------------------------------------------------------------------ the module

    def module(self, weights: Mapping[str, Any]) -> Any:
        """The module with these weights: of NNX a new one, of Linen the bound one."""
        flat = {leaf.path: _value(leaf, weights[leaf.name]) for leaf in self.leaves}
        if isinstance(self.body.value, nnx.GraphDef):
            return nnx.merge(self.body.value, nnx.from_flat_state(flat))
        return self.body.value.bind(traverse_util.unflatten_dict(flat))

    def _read(
        self, weights: Weights, tokens: Int[Array, "B T"], positions: Int[Array, "B T"], mask: Bool[Array, "B T"]
    ) -> Any:
        return self._rows(
            self._call(self.calls.hidden or self.calls.logits or _plain, weights, tokens, positions, mask)
        )

    def _call(self, function: Callable[..., Any], weights: Weights, *arguments: Any) -> Any:
        """Call a function of the module as if this package's settings were not there, on the mesh."""
        around = jax.sharding.get_abstract_mesh()  # of the caller, who knows why it is another one
        mesh = self.mesh.abstract_mesh if around.empty or around.size == self.mesh.size else around
        with (
            jax.sharding.use_abstract_mesh(mesh),
            jax.numpy_dtype_promotion("standard"),
            jax.numpy_rank_promotion("allow"),
        ):
            return function(self.module(weights), *arguments)

    def _slots(
        self, n_slots: int, padding: Int[Array, " B"], newest: Int[Array, ""]
    ) -> tuple[Int[Array, "B S"], Bool[Array, "B S"]]:
        """Positions of slots, and which of them hold tokens up to the newest."""
        slots = jnp.arange(n_slots, dtype=jnp.int32)[None, :]
        positions = slots - padding[:, None]
        return jnp.maximum(positions, 0), (positions >= 0) & (slots <= newest)

    def _rows(self, x: Any) -> Any:
        if not hasattr(x, "ndim") or x.ndim != 3:
            raise BridgeError(
                f"expected one array with axes for rows, tokens and channels, got {jax.eval_shape(lambda: x)}"
            )
        return jax.lax.with_sharding_constraint(x, sharding.rows(self.mesh, x.ndim))


def of_module(
    module: Any, variables: Any, calls: Calls, rules: Mapping[str, str | None]
) -> tuple[Wrapped, dict[str, Any]]:
    """A module as a function of its weights, whose vocabulary is not known yet, and the weights where they are.

    Args:
        module: of NNX or Linen.
        variables: of a Linen module.
        calls: how it is called.
        rules: as of `Wrapped`.

    Raises:
        BridgeError: it is neither, or two of its arrays cannot be told apart.
    """
    if isinstance(module, nnx.Module) and variables is None:
        body, state = nnx.split(module)
        boxed = dict(nnx.to_flat_state(state))
        kinds = {path: _kind(variable) for path, variable in boxed.items()}
        axes = {path: tuple(variable.get_metadata("out_sharding", None) or ()) for path, variable in boxed.items()}
        arrays = {path: variable.get_value() for path, variable in boxed.items()}
    elif isinstance(module, nn.Module) and isinstance(variables, Mapping):
        body = module
        specs: Any = traverse_util.flatten_dict(nn.get_partition_spec(variables))
        arrays = traverse_util.flatten_dict(nn.meta.unbox(variables))
        kinds = {path: "" if path[0] == PARAMS else BUFFER for path in arrays}
        axes = {path: tuple(specs.get(path) or ()) for path in arrays}
    else:
        got = type(module).__name__ + (" with variables" if variables is not None else " alone")
        raise BridgeError(f"expected an NNX module, or a Linen module with its variables, got {got}")
    leaves = tuple(_leaf(path, array, kinds[path], axes[path]) for path, array in arrays.items())
    if len({leaf.name for leaf in leaves}) < len(leaves):
        raise BridgeError(f"{type(module).__name__}: two of its arrays have the same path but for the points in it")
    nowhere = automatic(_mesh_of(arrays.values()))
    wrapped = Wrapped(Outline(1, 1), Held(body), leaves, calls, tuple(sorted(rules.items())), nowhere)
    return wrapped, {leaf.name: _data(array) for leaf, array in zip(leaves, arrays.values(), strict=True)}


def automatic(mesh: Mesh | None) -> Mesh:
    """A mesh with axes of type Auto, whatever their names; the first device alone if there is none."""
    if mesh is None:
        return sharding.as_mesh(None)
    return Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * mesh.devices.ndim)


def _plain(module: Any, *arguments: Any) -> Any:
    return module(*arguments)


def _kind(variable: nnx.Variable) -> str:
    """What the name of a variable's array has to say."""
    return ADAPTER if isinstance(variable, nnx.LoRAParam) else "" if isinstance(variable, nnx.Param) else BUFFER


def _leaf(path: tuple[Any, ...], array: Any, kind: str, axes: tuple[Any, ...]) -> Leaf:
    *before, last = map(str, path)
    place = getattr(array, "sharding", None)
    if not axes and isinstance(place, NamedSharding):
        axes = tuple(place.spec)
    if not kind and not jnp.issubdtype(array.dtype, jnp.floating):
        kind = BUFFER
    plain = _data(array)
    generator = None if plain is array else _generator(array)
    axes = tuple(tuple(axis) if isinstance(axis, list) else axis for axis in axes)
    name = f"{'.'.join(before)}{kind or '.'}{last}" if before or kind else last
    for mark in {ADAPTER, BUFFER} - {kind}:
        name = f".{name}".replace(mark, f"._{mark[1:]}")[1:]  # a module may call its parts so
    return Leaf(name, path, plain.shape, plain.dtype.name, generator, axes)


def _data(array: Any) -> Any:
    """An array, or its shape, that can be copied anywhere; of a random key its data."""
    if not jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        return array
    is_shape = isinstance(array, jax.ShapeDtypeStruct)
    return jax.eval_shape(jax.random.key_data, array) if is_shape else jax.random.key_data(array)


def _generator(key: Any) -> str:
    """Of a random key, or of its shape."""
    found: list[str] = []
    jax.eval_shape(lambda key: found.append(str(jax.random.key_impl(key))) or key, key)
    return found[0]


def _value(leaf: Leaf, array: Any) -> Any:
    """The inverse, in the module's precision."""
    if leaf.generator is not None:
        return jax.random.wrap_key_data(array, impl=leaf.generator)
    return array.astype(leaf.dtype) if isinstance(array, jax.Array) and array.dtype != leaf.dtype else array


def _renamed(axis: Any, rules: Mapping[str, str | None]) -> Sequence[str]:
    """The axes of the mesh that an entry of a module's metadata means."""
    named = () if axis is None else (axis,) if isinstance(axis, str) else tuple(axis)
    return tuple(cast(str, rules.get(name, name)) for name in named if rules.get(name, name) is not None)


def _mesh_of(arrays: Iterable[Any]) -> Mesh | None:
    """The mesh of several devices that arrays lie on already; None for none."""
    places = (getattr(array, "sharding", None) for array in arrays)
    meshes = (place.mesh for place in places if isinstance(place, NamedSharding) and place.mesh.size > 1)
    return next((mesh for mesh in meshes if isinstance(mesh, Mesh)), None)
