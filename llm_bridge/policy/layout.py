"""Where a policy lies while it draws: on the same devices as for training, but divided in another way.

To draw a token every weight is read once, for few rows. Divided along their width, as training keeps them, weights
would have to be gathered for every token, which takes ten times as long as reading them. So before a round's draws
they are brought to where no weight moves any more: divided along heads, channels of the MLP and vocabulary (Shoeybi et
al. 2019), among as many devices as is fastest, in the precision of activations. Then two sums of activations a layer
are all that moves. On one device everything stays where it is.

The devices keep their order, and the axis "fsdp" is split in two: one part of it keeps rows of its own, the other,
"split", goes with the axis "tensor". What a device holds afterwards is a part of what its column of the mesh held
before, so a share moves once among the devices of "split", and is then gathered among those of "fsdp".
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, PartitionSpec
from jaxtyping import Array

from llm_bridge.model import sharding
from llm_bridge.model.architecture import Architecture
from llm_bridge.model.decoder import Decoder, Weights
from llm_bridge.model.weights import weights as table_of
from llm_bridge.policy.generate import Steps
from llm_bridge.policy.mixture import Mixture

LINKS = 9  # bytes read from memory in the time that one takes over links: 8 to 10 on a TPU v5e, v5p, and on an H100
TWO = ("fsdp", "tensor")  # axes that divide a weight while it is trained
A_SUM = 4 * 10**6  # bytes read in the time that a sum among devices takes to begin, about 5 microseconds


def for_drawing(decoder: Steps, weights: Any, n_rows: int) -> tuple[Steps, Any]:
    """A decoder and its weights where so many rows are drawn fastest; the same if they are there already.

    Args:
        decoder: a `Decoder` or a `Mixture` of them; anything else stays where it is.
        weights: of the decoder; not used up.
        n_rows: that will be drawn at once.
    """
    own = decoder.decoder if isinstance(decoder, Mixture) else decoder
    if decoder.mesh.size == 1 or not isinstance(own, Decoder):
        return decoder, weights
    sets: Sequence[Weights] = weights if isinstance(decoder, Mixture) else [weights]
    precision = np.dtype(own.compute.dtype or sets[0]["embedding"].dtype)
    mesh = drawing_mesh(own.architecture, own.mesh, n_rows, precision.itemsize)
    there = replace(own, mesh=mesh)
    moved = [bring(there, tuple(each), precision)(each) for each in sets]
    if isinstance(decoder, Mixture):
        return replace(decoder, decoder=there), tuple(moved)
    return there, moved[0]


def drawing_mesh(architecture: Architecture, mesh: Mesh, n_rows: int, itemsize: int) -> Mesh:
    """The mesh on which so many rows are drawn fastest, by bytes read and moved for a token.

    Args:
        architecture: of the policy.
        mesh: of training.
        n_rows: that are drawn at once.
        itemsize: bytes of a weight, and of an activation.
    """
    sizes = {name: dict(mesh.shape).get(name, 1) for name in sharding.AXES}
    split = best_split(architecture, sizes, n_rows, itemsize)
    order = [mesh.axis_names.index(name) for name in sharding.AXES if name in mesh.axis_names]
    shape = (sizes["data"], sizes["fsdp"] // split, split, sizes["tensor"])
    devices = np.transpose(mesh.devices, order).reshape(shape)
    return Mesh(devices, sharding.DRAWING, axis_types=(AxisType.Auto,) * len(shape))


def best_split(architecture: Architecture, sizes: Mapping[str, int], n_rows: int, itemsize: int) -> int:
    """How many devices of the axis "fsdp" go with the axis "tensor"; arguments as of `drawing_mesh`."""
    n_devices = math.prod(sizes.values())
    splits = [n for n in range(1, sizes["fsdp"] + 1) if sizes["fsdp"] % n == 0]
    splits = [n for n in splits if n == 1 or divides(architecture, n * sizes["tensor"])]
    return min(splits, key=lambda n: cost(architecture, n * sizes["tensor"], n_devices, n_rows, itemsize))


def divides(architecture: Architecture, n: int) -> bool:
    """Whether heads, channels of the MLP and vocabulary can be divided by n."""
    sizes = (
        size
        for weight in table_of(architecture).values()
        for size, axis in zip(weight.full_shape, weight.full_axes, strict=True)
        if sharding.RULES[axis] == "tensor"
    )
    return not (architecture.n_kv_heads % n or any(size % n for size in sizes))


def cost(architecture: Architecture, n_tensor: int, n_devices: int, n_rows: int, itemsize: int) -> float:
    """Bytes read from memory in the time of a token, what is not read put in terms of it; the cache is left out."""
    a = architecture
    read = sum(math.prod(weight.full_shape) for weight in table_of(a).values()) * itemsize / n_tensor
    if n_tensor == 1:
        return read
    rows = -(-n_rows * n_tensor // n_devices)
    moved = 2 * (n_tensor - 1) / n_tensor * rows * a.width * itemsize
    return read + 2 * a.n_layers * (LINKS * moved + A_SUM)


@cache
def bring(decoder: Decoder, names: tuple[str, ...], precision: np.dtype) -> Any:
    """A compiled function that brings weights of these names to the decoder's mesh, matrices in a precision."""
    mesh, table = decoder.mesh, table_of(decoder.architecture)
    there = {name: sharding.named(decoder.architecture, name, mesh) for name in names}
    here = {name: sharding.before_drawing(decoder.architecture, name, mesh) for name in names}
    matrices = {name for name in names if len(table[name.partition(".lora_")[0]].shape) > 1}

    def moved(weights: Weights) -> Weights:
        return {name: _moved(array, here[name].spec, dict(mesh.shape)) for name, array in weights.items()}

    def brought(weights: Weights) -> Weights:
        weights = {n: w.astype(precision) if n in matrices else w for n, w in weights.items()}
        specs = tuple({name: place.spec for name, place in places.items()} for places in (here, there))
        return jax.shard_map(moved, mesh=mesh, in_specs=specs[:1], out_specs=specs[1], check_vma=False)(weights)

    return jax.jit(brought, out_shardings=there)


def _moved(share: Array, place: PartitionSpec, sizes: dict[str, int]) -> Array:
    """What a device holds of a weight where it draws, from what all of them held of it before."""
    wide, tall = (next((i for i, names in enumerate(place) if names and name in names), None) for name in TWO)
    if sizes["split"] > 1:
        if wide is not None and tall is not None:
            share = jax.lax.all_to_all(share, "split", split_axis=tall, concat_axis=wide, tiled=True)
        elif wide is not None:
            share = jax.lax.all_gather(share, "split", axis=wide, tiled=True)
        elif tall is not None:
            n = share.shape[tall] // sizes["split"]
            share = jax.lax.dynamic_slice_in_dim(share, jax.lax.axis_index("split") * n, n, tall)
    if wide is not None and sizes["fsdp"] > 1:
        share = jax.lax.all_gather(share, "fsdp", axis=wide, tiled=True)
    return share
