"""Generation on a CPU: the decoder's arithmetic in the order of memory in which XLA for CPUs is fast.

    apart      layers each get weights and caches of their own, where there are few of them or many tokens to come
    step       appends a token with them: the layers one after another, without a scan
    product    X W for few rows
    by_table   X E^T for few rows, E the embedding

A scan copies a layer's weights and cache out of their stacks at every token, which takes as long as using them; a
program without one takes about half a second a layer longer to compile. Keys are kept transposed, as products with few
rows read them. Nothing here changes the mathematics, and `llm_bridge.model.decoder` is the only caller.

Letters: L layers, B rows, K key-value heads, S slots of the cache, C channels of a head, D width, V vocabulary.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Apart = dict[str, Array | tuple[Array, ...]]  # weights of the layers as arrays of their own
Store = Callable[[Array, Array], tuple[Array, Array]]
Block = Callable[[Any, Array, Store], Array]
FEW_LAYERS = 16  # up to which a step on a CPU is never scanned
MANY_LAYERS, MANY_TOKENS = 64, 32  # up to how many layers it is not for so many tokens
FEW_ROWS, LARGE_MATRIX = 64, 2**17  # numbers of rows and of entries between which XLA's products on a CPU are slow


def pays(n_layers: int, n_tokens: int) -> bool:
    """Whether taking the layers apart does, for so many tokens."""
    return n_layers <= FEW_LAYERS or (n_layers <= MANY_LAYERS and n_tokens >= MANY_TOKENS)


def apart(weights: dict[str, Array], layers: str) -> Apart:
    """Weights for `step`.

    Args:
        weights: by name.
        layers: what names of stacked weights begin with; those are [L, ...].
    """
    return {name: tuple(array) if name.startswith(layers) else array for name, array in weights.items()}


def caches_apart(
    keys: Any, values: Any
) -> tuple[tuple[Float[Array, "B K C S"], ...], tuple[Float[Array, "B K S C"], ...]]:
    """Keys and values [L, B, K, S, C] as those of each layer, for `step`."""
    return tuple(jnp.swapaxes(layer, 2, 3) for layer in keys), tuple(values)


def step(
    block: Block, layers: Apart, x: Float[Array, "B 1 D"], slot: Int[Array, ""], caches: tuple[Any, Any]
) -> tuple[Float[Array, "B 1 D"], Any, Any]:
    """A token through all layers.

    Args:
        block: a layer; `block(weights, x, store)` gives its output and calls `store(key, value)`, each [B, 1, K, C],
            for the keys and values [B, K, S, C] that the token may see.
        layers: weights of each layer, by name.
        x: activations.
        slot: where the token's key and value go.
        caches: keys and values of each layer, as `caches_apart` gives them.

    Returns:
        Activations, keys and values with the token in them.
    """
    keys, values = map(list, caches)

    def written(array: Array, new: Array, axis: int) -> Array:
        return jax.lax.dynamic_update_slice_in_dim(array, new, slot, axis)

    for i in range(len(keys)):

        def store(key: Array, value: Array, i: int = i) -> tuple[Array, Array]:
            keys[i] = written(keys[i], jnp.transpose(key, (0, 2, 3, 1)), 3)
            values[i] = written(values[i], jnp.swapaxes(value, 1, 2), 2)
            return jnp.swapaxes(keys[i], 2, 3), values[i]

        x = block({name: parts[i] for name, parts in layers.items()}, x, store)
    return x, tuple(keys), tuple(values)


def is_slow(flat: Float[Array, "R D"], matrix: Float[Array, "M N"]) -> bool:
    """Whether XLA's own product of these is, and `product` is to take its place."""
    return flat.shape[0] <= FEW_ROWS and matrix.size >= LARGE_MATRIX


def product(flat: Float[Array, "R D"], matrix: Float[Array, "D F"], precision: Any, dtype: Any) -> Float[Array, "R F"]:
    """X W; XLA has two routines for it, and the one that takes X as it stands is half as fast.

    Args:
        flat: X, few rows.
        matrix: W.
        precision: as `jnp.matmul` takes it.
        dtype: of the result; None for that of the factors.
    """
    turned = jax.lax.optimization_barrier(flat.T)
    contracted = (((0,), (0,)), ((), ()))
    return jax.lax.dot_general(turned, matrix, contracted, precision=precision, preferred_element_type=dtype)


def by_table(flat: Float[Array, "R D"], table: Float[Array, "V D"], precision: Any) -> Float[Array, "R V"]:
    """X E^T in float32; as E X^T it reads the table as it lies, a third faster."""
    return jnp.matmul(table, flat.T, precision=precision, preferred_element_type=jnp.float32).T
