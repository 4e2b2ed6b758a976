"""Modules as other projects write them: one of NNX in the manner of Tunix's models, and a Linen transformer (`Twenty`).

`Tall` stands in for those models, which cannot be installed beside this package (their requirements contradict ours):
it takes a mask of attention, gives logits and a cache of its own, and names axes "fsdp" and "tp" in its metadata. It
has a table that is no parameter, dropout with a random state, and a configuration that cannot be hashed.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

import llm_bridge as bridge
from benchmarks.truth.wrapped import Twenty, seen


@dataclasses.dataclass(slots=True)
class Config:
    """As Tunix has it: not frozen, so without a hash."""

    vocabulary: int = 4
    width: int = 16
    n_layers: int = 2
    n_heads: int = 2


class Layer(nnx.Module):
    """Attention and an MLP."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        self.config, d = config, config.width
        normal = nnx.initializers.normal(0.3)
        self.qkv = nnx.Param(
            normal(rngs.params(), (d, 3 * d), jnp.float32), out_sharding=("fsdp", "tp"), eager_sharding=False
        )
        self.out = nnx.Param(
            normal(rngs.params(), (d, d), jnp.float32), out_sharding=("tp", "fsdp"), eager_sharding=False
        )
        self.mlp = nnx.Linear(d, d, rngs=rngs)
        self.drop = nnx.Dropout(0.5, deterministic=True, rngs=rngs)

    def __call__(self, x: Any, cache: Any, mask: Any) -> tuple[Any, Any]:
        b, t, d = x.shape
        query, key, value = jnp.split(jnp.reshape(x @ self.qkv[...], (b, t, self.config.n_heads, -1)), 3, axis=-1)
        if cache is not None:
            zero = jnp.zeros((), jnp.int32)
            at = (zero, cache["end"][0], zero, zero)
            key, value = (jax.lax.dynamic_update_slice(cache[n], new, at) for n, new in (("k", key), ("v", value)))
            cache = {"k": key, "v": value, "end": cache["end"] + t}
        scores = jnp.where(mask[:, None], jnp.einsum("bthc,bshc->bhts", query, key) / 3, -1e9)
        out = jnp.reshape(jnp.einsum("bhts,bshc->bthc", jax.nn.softmax(scores), value), (b, t, d))
        x = x + self.drop(out @ self.out[...])
        return cache, x + jax.nn.gelu(self.mlp(x))


class Tall(nnx.Module):
    """`model(tokens, positions, cache, attention_mask)` -> logits and cache."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        self.config = config
        self.embed = nnx.Embed(config.vocabulary, config.width, rngs=rngs)
        self.places = nnx.Variable(jax.random.normal(jax.random.key(1), (64, config.width), jnp.float32))
        self.layers = nnx.List([Layer(config, rngs) for _ in range(config.n_layers)])

    def init_cache(self, n_rows: int, n_slots: int) -> list[Any]:
        c = self.config
        empty = jnp.zeros((n_rows, n_slots, c.n_heads, c.width // c.n_heads), jnp.float32)
        return [{"k": empty, "v": empty, "end": jnp.zeros(n_rows, jnp.int32)} for _ in self.layers]

    def __call__(self, tokens: Any, positions: Any, cache: Any, attention_mask: Any) -> tuple[Any, Any]:
        x = self.embed(tokens) + jnp.take(self.places[...], positions, axis=0)
        kept = []
        for i, layer in enumerate(self.layers):
            own, x = layer(x, None if cache is None else cache[i], attention_mask)
            kept.append(own)
        return self.embed.attend(x), None if cache is None else kept


def tall() -> Tall:
    return Tall(Config(), nnx.Rngs(0))


def logits(module: Any, tokens: Any, positions: Any, mask: Any) -> Any:
    return module(tokens, positions, None, seen(positions, mask))[0]


def prefill(module: Any, tokens: Any, positions: Any, mask: Any, n_slots: int) -> Any:
    b, t = tokens.shape
    allowed = jnp.pad(seen(positions, mask), ((0, 0), (0, 0), (0, n_slots - t)))
    return module(tokens, positions, module.init_cache(b, n_slots), allowed)


def step(module: Any, tokens: Any, positions: Any, mask: Any, cache: Any, slot: Any) -> Any:
    return module(tokens, positions, cache, mask[:, None, :])


CALLS = bridge.Calls(logits=logits, prefill=prefill, step=step)


def twenty(vocabulary: int = 4, width: int = 32) -> tuple[Twenty, Any]:
    module = Twenty(vocabulary, width)
    tokens = jnp.zeros((1, 2), jnp.int32)
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        return module, module.init(jax.random.key(0), tokens, tokens, tokens == 0)
