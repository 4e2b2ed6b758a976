"""The weights of an architecture: names, shapes, meaning of the axes, and random values.

A flat table, because loading, saving, placing on a mesh, adapting and checking all go through it by name.
"""

import math
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from llm_bridge.model.architecture import Architecture

Axis = Literal["vocabulary", "width", "heads", "kv_heads", "mlp", "experts", "layers", "positions", "channels"]


@dataclass(frozen=True)
class Weight:
    """What one weight is.

    Attributes:
        shape: of one layer's (and expert's).
        axes: what its axes count, for placing it on a mesh; as many as `shape`.
        stack: leading axes over layers, or layers and experts; () for a weight outside the layers.
        fill: how it starts: at random, or all 0 or 1.
    """

    shape: tuple[int, ...]
    axes: tuple[Axis, ...]
    stack: tuple[int, ...] = ()
    fill: Literal["random", "zeros", "ones"] = "random"

    @property
    def full_shape(self) -> tuple[int, ...]:
        """With the stack."""
        return self.stack + self.shape

    @property
    def full_axes(self) -> tuple[Axis, ...]:
        """With the stack's."""
        stack: tuple[Axis, ...] = ("layers", "experts")
        return (*stack[: len(self.stack)], *self.axes)

    def n_bytes(self, dtype: np.dtype) -> int:
        """Of the whole, stack included."""
        return math.prod(self.full_shape) * dtype.itemsize


def weights(a: Architecture) -> dict[str, Weight]:
    """Every weight by name; names of weights of the layers start with "layers."."""
    found = {"embedding": Weight((a.vocabulary, a.width), ("vocabulary", "width"))}
    if a.learned_positions:
        found["positions"] = Weight((a.max_length, a.width), ("positions", "width"))
    found |= {f"layers.{name}": weight for name, weight in _layer(a).items()}
    found |= _norm(a, "final_norm", a.width)
    if not a.tied:
        found["head"] = Weight((a.width, a.vocabulary), ("width", "vocabulary"))
    return found


def random_weights(a: Architecture, key: Key[Array, ""], dtype: np.dtype) -> dict[str, Array]:
    """Fresh weights: normal with the architecture's scale, norms as the identity, biases 0."""
    table = weights(a)
    keys = jax.random.split(key, len(table))
    made = {}
    for (name, weight), own in zip(table.items(), keys, strict=True):
        if weight.fill == "random":
            made[name] = (a.init_scale * jax.random.normal(own, weight.full_shape, jnp.float32)).astype(dtype)
        else:
            made[name] = jnp.full(weight.full_shape, float(weight.fill == "ones"), dtype)
    return made


def count(a: Architecture) -> int:
    """Number of parameters."""
    return sum(math.prod(weight.full_shape) for weight in weights(a).values())


def _layer(a: Architecture) -> dict[str, Weight]:
    heads, kv_heads = a.n_heads * a.head_width, a.n_kv_heads * a.head_width
    found: dict[str, Weight] = {}
    for part in ("attention", "mlp"):
        if a.norm_before:
            found |= _norm(a, f"{part}_norm", a.width)
        if a.norm_after:
            found |= _norm(a, f"{part}_output_norm", a.width)
    found |= _linear("query", (a.width, heads), ("width", "heads"), a.qkv_bias)
    found |= _linear("key", (a.width, kv_heads), ("width", "kv_heads"), a.qkv_bias)
    found |= _linear("value", (a.width, kv_heads), ("width", "kv_heads"), a.qkv_bias)
    found |= _linear("output", (heads, a.width), ("heads", "width"), a.output_bias)
    if a.query_key_norm:
        whole = a.query_key_norm == "whole"
        found |= _norm(a, "query_norm", heads if whole else a.head_width, "heads" if whole else "channels")
        found |= _norm(a, "key_norm", kv_heads if whole else a.head_width, "kv_heads" if whole else "channels")
    found = {name: _stacked(weight, (a.n_layers,)) for name, weight in found.items()}
    return found | _mlp(a)


def _mlp(a: Architecture) -> dict[str, Weight]:
    width = a.experts.width if a.experts else a.mlp_width
    found = _linear("gate", (a.width, width), ("width", "mlp"), a.mlp_bias) if a.gated else {}
    found |= _linear("up", (a.width, width), ("width", "mlp"), a.mlp_bias)
    found |= _linear("down", (width, a.width), ("mlp", "width"), a.mlp_bias)
    if a.experts is None:
        return {name: _stacked(weight, (a.n_layers,)) for name, weight in found.items()}
    router = Weight((a.width, a.experts.n), ("width", "experts"), (a.n_layers,))
    stacked = {name: _stacked(weight, (a.n_layers, a.experts.n)) for name, weight in found.items()}
    return {"router": router} | stacked


def _linear(name: str, shape: tuple[int, int], axes: tuple[Axis, Axis], bias: bool) -> dict[str, Weight]:
    found = {name: Weight(shape, axes)}
    return found | ({f"{name}_bias": Weight(shape[1:], axes[1:], fill="zeros")} if bias else {})


def _norm(a: Architecture, name: str, width: int, axis: Axis = "channels") -> dict[str, Weight]:
    fill = "zeros" if a.norm.kind == "rms_plus_one" else "ones"
    found = {name: Weight((width,), (axis,), fill=fill)}
    return found | ({f"{name}_bias": Weight((width,), (axis,), fill="zeros")} if a.norm.kind == "layer" else {})


def _stacked(weight: Weight, stack: tuple[int, ...]) -> Weight:
    return Weight(weight.shape, weight.axes, stack, weight.fill)
