"""Scaled dot-product attention with groups, windows and soft caps, and its fused form where a backend has one.

    out = sum_s softmax_s(cap(scale * q . k_s) over the allowed s) v_s

Query heads come in K groups of G that share a key-value head (Ainslie et al. 2023). Which keys a query may see is a
table of booleans, made from positions alone, so that padding may be anywhere. A query that may see nothing (padding)
gets the mean of all values: finite, and read by nobody.

The plain form works everywhere and is the definition. `jax.nn.dot_product_attention` computes the same without keeping
the scores, through cuDNN on NVIDIA GPUs; it has no soft cap and wants half precision. On TPUs that is the kernel of
`llm_bridge.model.splash`.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Implementation = Literal["auto", "plain", "xla", "cudnn", "splash"]

FORBIDDEN = -1e30  # finite, so that the gradient of a row without any allowed key is a number
MAX_FUSED_CHANNELS = 128  # of cuDNN, backward pass included


def visible(
    positions: Int[Array, "B T"], key_positions: Int[Array, "B S"], real: Bool[Array, "B S"]
) -> Bool[Array, "B T S"]:
    """Whether key s is a real token at or before the query's position."""
    return real[:, None, :] & (key_positions[:, None, :] <= positions[:, :, None])


def within(
    window: Int[Array, ""], positions: Int[Array, "B T"], key_positions: Int[Array, "B S"]
) -> Bool[Array, "B T S"]:
    """Whether key s is one of the `window` newest positions up to the query's own."""
    return positions[:, :, None] - key_positions[:, None, :] < window


def attend(
    query: Float[Array, "B T K G C"],
    key: Float[Array, "B K S C"],
    value: Float[Array, "B K S C"],
    allowed: Bool[Array, "B T S"],
    scale: float | Float[Array, ""],
    softcap: float | None,
) -> Float[Array, "B T K G C"]:
    """The plain form. Scores and their softmax are float32 whatever the inputs are.

    The queries of a group are put side by side first, so that both products are one matrix product a key-value head.
    """
    n_rows, length, n_kv, n_group, channels = query.shape
    precision, grouped = exact(query.dtype), (n_rows, n_kv, n_group, length)
    query = jnp.transpose(query, (0, 2, 3, 1, 4)).reshape(n_rows, n_kv, n_group * length, channels)
    scores = jnp.einsum("bkqc,bksc->bkqs", query, key, precision=precision, preferred_element_type=jnp.float32)
    scores = scores.reshape(*grouped, -1) * scale
    if softcap is not None:
        scores = softcap * jnp.tanh(scores / softcap)
    scores = jnp.where(allowed[:, None, None, :, :], scores, FORBIDDEN)
    shares = jax.nn.softmax(scores, axis=-1).astype(query.dtype).reshape(n_rows, n_kv, n_group * length, -1)
    out = jnp.einsum("bkqs,bksc->bkqc", shares, value, precision=precision)
    return jnp.transpose(out.reshape(*grouped, channels), (0, 3, 1, 2, 4))


def attend_fused(
    query: Float[Array, "B T K G C"],
    key: Float[Array, "B K S C"],
    value: Float[Array, "B K S C"],
    allowed: Bool[Array, "B T S"],
    scale: float,
    implementation: Literal["xla", "cudnn"],
) -> Float[Array, "B T K G C"]:
    """The same by `jax.nn.dot_product_attention`, without a soft cap."""
    n_rows, length, n_kv, n_group, channels = query.shape
    out = jax.nn.dot_product_attention(
        query.reshape(n_rows, length, n_kv * n_group, channels),
        jnp.swapaxes(key, 1, 2),
        jnp.swapaxes(value, 1, 2),
        mask=allowed[:, None, :, :],
        scale=scale,
        implementation=implementation,
    )
    return out.reshape(query.shape)


def chosen(
    implementation: Implementation, platform: str, dtype: jnp.dtype, softcap: float | None, channels: int
) -> Literal["plain", "xla", "cudnn", "splash"]:
    """The form that a backend has and that is exact for this model: fused on TPUs, and on GPUs in half precision.

    Args:
        implementation: what was asked for; "auto" decides, anything else is taken where it is possible.
        platform: "cpu", "gpu" or "tpu".
        dtype: of queries, keys and values.
        softcap: which only the plain form and the TPU's have.
        channels: of a head.
    """
    if implementation == "splash" or (implementation == "auto" and platform == "tpu"):
        return "splash"
    if softcap is not None:
        return "plain"
    if implementation != "auto":
        return implementation
    half = dtype in (jnp.bfloat16, jnp.float16)
    return "cudnn" if platform == "gpu" and half and channels % 8 == 0 and channels <= MAX_FUSED_CHANNELS else "plain"


def exact(dtype: jnp.dtype) -> jax.lax.Precision | None:
    """Float32 means float32: on some devices the default would round the factors of a product."""
    return jax.lax.Precision.HIGHEST if dtype == jnp.float32 else None
