"""The TPU's fused attention, interpreted, is the plain one: values and gradients, whatever a query may see."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh

from llm_bridge.model import attention, splash

LENGTH, N_SLOTS, K, G, C = 5, 150, 2, 2, 8  # more than one block of 128 keys


def drawn(key: jax.Array, length: int) -> tuple[jax.Array, ...]:
    shapes = ((2, length, K, G, C), (2, K, N_SLOTS, C), (2, K, N_SLOTS, C), (2, length, K, G, C))
    return tuple(jax.random.normal(k, s, jnp.float32) for k, s in zip(jax.random.split(key, 4), shapes, strict=True))


def pieces(length: int, packed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Padding on the left of the one row and on the right of the other; two texts in a row where they are packed."""
    ids = np.ones((2, N_SLOTS), np.int32)
    ids[0, :7], ids[1, -2:] = 0, 0
    if packed:
        ids[:, N_SLOTS - 4 :] *= 2
    return ids[:, N_SLOTS - length :], ids


def table(queries: np.ndarray, keys: np.ndarray, window: int | None) -> np.ndarray:
    """What a query may see, by the definition."""
    q, s = np.arange(N_SLOTS - queries.shape[1], N_SLOTS)[:, None], np.arange(N_SLOTS)[None, :]
    near = (s <= q) & ((q - s < window) if window else True)
    return near[None] & (queries[:, :, None] == keys[:, None, :]) & (queries[:, :, None] > 0)


@pytest.fixture(autouse=True)
def in_32_bits() -> Iterator[None]:
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.parametrize(
    ("window", "softcap", "packed", "length", "axes"),
    [
        (None, None, False, N_SLOTS, {"fsdp": 2, "tensor": 2}),
        (3, None, True, LENGTH, {"tensor": 1}),
        (9, 2.0, False, LENGTH, {"data": 2}),
    ],
    ids=["causal", "window_packed", "window_cap"],
)
def test_the_kernel_is_the_plain_form(
    window: int | None, softcap: float | None, packed: bool, length: int, axes: dict[str, int], key: jax.Array
) -> None:
    n = int(np.prod(list(axes.values())))
    mesh = Mesh(
        np.array(jax.devices()[:n]).reshape(*axes.values()), tuple(axes), axis_types=(AxisType.Auto,) * len(axes)
    )
    (*arrays, weight), known = drawn(key, length), pieces(length, packed)
    ids = (jnp.asarray(known[0]), jnp.asarray(known[1]))
    seen, real = jnp.asarray(table(*known, window)), jnp.asarray(known[0] > 0)[:, :, None, None, None]

    def kernel(*arrays: Any) -> jax.Array:
        return splash.attend(mesh, (0.3 * arrays[0], *arrays[1:]), ids, softcap, window)

    def plain(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        return attention.attend(query, key, value, seen, 0.3, softcap)

    def loss(form: Any) -> Any:
        return jax.jit(jax.value_and_grad(lambda *a: jnp.sum(jnp.where(real, weight * form(*a), 0)), (0, 1, 2)))

    (one, gradient), (other, expected) = loss(kernel)(*arrays), loss(plain)(*arrays)
    np.testing.assert_allclose(one, other, rtol=1e-5)
    for found, right in zip(gradient, expected, strict=True):
        assert jnp.abs(right).max() > 0.1
        np.testing.assert_allclose(found, right, atol=1e-5, rtol=0)
