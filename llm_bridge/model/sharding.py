"""Where weights, rows and caches lie on a mesh of devices: one table, read by everything.

Axes of a mesh: "data" (rows only), "fsdp" (rows, and a share of each weight, gathered when it is used: Rajbhandari et
al. 2020) and "tensor" (heads, MLP channels and vocabulary: Shoeybi et al. 2019). Any of them may be missing. One device
is a mesh of one, and there is no other path. Axes are of type Auto: constraints say where arrays lie, XLA derives the
rest (Xu et al. 2021).
"""

import math
from collections.abc import Callable, Hashable, Sequence
from functools import cache, partial
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from llm_bridge.model.architecture import Architecture, BridgeError
from llm_bridge.model.config import raise_all
from llm_bridge.model.weights import Axis, weights

AXES = ("data", "fsdp", "tensor")
ROWS = ("data", "fsdp")
LOOKED_UP = ("data", None, "fsdp")
DRAWING = ("data", "fsdp", "split", "tensor")  # of a mesh that is drawn on, see `llm_bridge.policy.layout`
# XLA's pass that takes sums out of loops finds none here, and ends with an error in an update of a model's own head.
ON_TPUS = {"xla_disable_hlo_passes": "while-loop-all-reduce-code-motion"}
RULES: dict[Axis, str | None] = {
    "vocabulary": "tensor",
    "heads": "tensor",
    "kv_heads": "tensor",
    "mlp": "tensor",
    "width": "fsdp",
    "positions": None,
    "experts": None,
    "layers": None,
    "channels": None,
}


def as_mesh(mesh: Mesh | None) -> Mesh:
    """The mesh with axes of type Auto; the first device alone if there is none.

    Raises:
        BridgeError: an axis has a name that the rules do not know.
    """
    if mesh is None:
        mesh = Mesh(np.asarray(jax.devices()[:1]).reshape(1, 1, 1), AXES)
    if unknown := [name for name in mesh.axis_names if name not in AXES]:
        raise BridgeError(f"expected a mesh with axes among {', '.join(AXES)}, got {', '.join(map(str, unknown))}")
    return Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * mesh.devices.ndim)


def spec(axes: Sequence[Axis], mesh: Mesh) -> PartitionSpec:
    """How an array whose axes have these meanings is divided."""
    return PartitionSpec(*(_over(RULES[axis], mesh) for axis in axes))


def _over(name: str | None, mesh: Mesh) -> str | tuple[str, ...] | None:
    """The axes of the mesh that stand for an axis of the rules."""
    if "split" in mesh.axis_names:
        return ("tensor", "split") if name == "tensor" else None
    return name if name in mesh.axis_names else None


def before_drawing(architecture: Architecture, name: str, mesh: Mesh) -> NamedSharding:
    """How a weight is divided while it is trained, on a mesh that is drawn on."""
    training = Mesh(mesh.devices.reshape(mesh.devices.shape[0], -1, mesh.devices.shape[3]), AXES)
    place = named(architecture, name, training).spec
    return NamedSharding(mesh, PartitionSpec(*(("fsdp", "split") if axis == "fsdp" else axis for axis in place)))


def shardings(architecture: Architecture, mesh: Mesh) -> dict[str, NamedSharding]:
    """Of every weight, by name."""
    return {name: NamedSharding(mesh, spec(w.full_axes, mesh)) for name, w in weights(architecture).items()}


def named(architecture: Architecture, name: str, mesh: Mesh) -> NamedSharding:
    """Of one weight; the low-rank parts A and B of an adapter lie as the map that they are added to."""
    base, _, part = name.partition(".lora_")
    axes = list(weights(architecture)[base].full_axes)
    if part:
        axes[-1 if part == "a" else -2] = "channels"
    return NamedSharding(mesh, spec(axes, mesh))


def rows(mesh: Mesh, n_axes: int, heads_at: int | None = None, rows_at: int = 0) -> NamedSharding:
    """Of an array with one axis over rows, and perhaps one over key-value heads."""
    parts: list[str | tuple[str, ...] | None] = [None] * n_axes
    parts[rows_at] = tuple(name for name in ROWS if name in mesh.axis_names) or None
    if heads_at is not None:
        parts[heads_at] = _over(RULES["kv_heads"], mesh)
    return NamedSharding(mesh, PartitionSpec(*parts))


def looked_up(mesh: Mesh) -> NamedSharding:
    """Of activations [B, T, D] as they come out of a table: by the rows' data axis, and in width as the table is.

    Said explicitly, the way from there to `rows` is one all-to-all; XLA alone would make them whole on every device.
    """
    if "split" in mesh.axis_names:
        return rows(mesh, 3)
    return NamedSharding(mesh, PartitionSpec(*(name if name in mesh.axis_names else None for name in LOOKED_UP)))


def whole(mesh: Mesh) -> NamedSharding:
    """Of an array that every device has."""
    return NamedSharding(mesh, PartitionSpec())


def put(array: Any, place: Sharding) -> jax.Array:
    """What every process has on its host, where it belongs; NaN is as good as any other number."""
    array = np.asarray(array)
    if place.is_fully_addressable:
        return jax.device_put(array, place)
    return jax.make_array_from_callback(array.shape, place, lambda index: array[index])


def gathered(arrays: Any) -> Any:
    """A pytree of arrays as NumPy's, whole on every process."""
    return jax.tree.map(
        lambda a: np.asarray(a) if a.is_fully_addressable else multihost_utils.process_allgather(a, tiled=True), arrays
    )


def n_row_shares(mesh: Mesh) -> int:
    """Among how many shares rows are divided."""
    return math.prod(mesh.shape[name] for name in ROWS if name in mesh.axis_names)


def check(architecture: Architecture, mesh: Mesh) -> None:
    """That every weight can be divided evenly, and that heads stay whole.

    Raises:
        BridgeError: it cannot; the message lists each size once, with the axis of the mesh.
    """
    problems: dict[str, None] = {}
    for weight in weights(architecture).values():
        for size, axis in zip(weight.full_shape, weight.full_axes, strict=True):
            name = RULES[axis]
            if name in mesh.axis_names and size % mesh.shape[name]:
                problems[f"{axis} {size} is not divisible by the {mesh.shape[name]} devices of axis {name!r}"] = None
    n_tensor = dict(mesh.shape).get("tensor", 1)
    if architecture.n_kv_heads % n_tensor:
        problems[
            f"{architecture.n_kv_heads} key-value heads cannot be divided by the {n_tensor} devices of axis 'tensor'"
        ] = None
    raise_all("the model does not fit the mesh", list(problems))


def program(function: Callable[..., Any], static: Hashable, changing: Any) -> Callable[..., Any]:
    """`function(static, changing, *others)`, compiled, as a function of `changing` and the others.

    The first of its two results takes the buffers of `changing` and lies where it did. Left alone, XLA chooses places,
    and what is called round after round is compiled again for every new one. While a caller is being traced it is a
    plain call.

    Args:
        function: returns a pair.
        static: what the program is made for.
        changing: arrays, or their shapes and places.
    """
    leaves, structure = jax.tree.flatten(changing)
    if any(isinstance(leaf, Tracer) for leaf in leaves):
        return partial(function, static)
    return _compiled(function, static, structure, tuple(leaf.sharding for leaf in leaves))


@cache
def _compiled(
    function: Callable[..., Any], static: Hashable, structure: Any, places: tuple[Sharding, ...]
) -> Callable[..., Any]:
    outcome = (jax.tree.unflatten(structure, places), None)
    on_tpus = bool(places) and next(iter(places[0].device_set)).platform == "tpu"
    options = ON_TPUS if on_tpus else None
    return jax.jit(partial(function, static), donate_argnums=0, out_shardings=outcome, compiler_options=options)
