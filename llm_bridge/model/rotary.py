"""Rotary position embeddings: frequencies of every form, and the rotation.

A pair of channels (i, i + n/2) of a query or key at position p turns by the angle p * f_i, so that scores depend on
differences of positions alone (Su et al. 2021). The forms differ in f only. Where f depends on the length, it is the
length of the token's own row: what a row's tokens are worth never depends on the rows beside it.

Sources: Chen et al. 2023 (linear), bloc97 2023 (dynamic NTK), Peng et al. 2023 (YaRN), Dubey et al. 2024 (llama3),
Ding et al. 2024 (LongRoPE).
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from llm_bridge.model.architecture import Architecture, Rotary


class Rotation(NamedTuple):
    """Cosine and sine of every angle, for each rotary form R of an architecture."""

    cosine: Float[Array, "R B T half"]
    sine: Float[Array, "R B T half"]


def rotations(architecture: Architecture, positions: Int[Array, "B T"], lengths: Int[Array, " B"]) -> Rotation:
    """The rotations of tokens at positions, in rows of the given lengths (tokens, padding not counted)."""
    angles, factors = [], []
    for rotary in architecture.rotaries:
        frequencies = _frequencies_by_row(rotary, lengths)  # [B or 1, half]
        angles.append(positions.astype(jnp.float32)[:, :, None] * frequencies[:, None, :])
        factors.append(rotary.attention_factor)
    scale = jnp.asarray(factors, jnp.float32).reshape(-1, 1, 1, 1)
    stacked = jnp.stack(angles)
    return Rotation(jnp.cos(stacked) * scale, jnp.sin(stacked) * scale)


def rotate(
    x: Float[Array, "B T N C"], cosine: Float[Array, "B T half"], sine: Float[Array, "B T half"]
) -> Float[Array, "B T N C"]:
    """Turn the first 2 * half channels of every head; the others stay."""
    half = cosine.shape[-1]
    cosine, sine = cosine[:, :, None, :], sine[:, :, None, :]
    first, second = (part.astype(jnp.float32) for part in (x[..., :half], x[..., half : 2 * half]))
    turned = [first * cosine - second * sine, second * cosine + first * sine]
    return jnp.concatenate([*(part.astype(x.dtype) for part in turned), x[..., 2 * half :]], axis=-1)


def frequencies(rotary: Rotary) -> Float[np.ndarray, " half"]:
    """Angle by position of every pair of channels, in a row no longer than the original length; float64."""
    n = rotary.n_channels
    plain = rotary.theta ** -(np.arange(0, n, 2) / n)
    match rotary.form:
        case "none":
            return np.zeros_like(plain)
        case "linear":
            return plain / rotary.factor
        case "llama3":
            return _llama3(rotary, plain)
        case "yarn":
            return _yarn(rotary, plain)
        case "longrope":
            return plain / np.asarray(rotary.short)
        case _:
            return plain


def yarn_attention_factor(factor: float, mscale: float | None, mscale_all: float | None) -> float:
    """What YaRN multiplies cosine and sine with where a config does not say (Peng et al. 2023, eq. 22)."""

    def temperature(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0

    return temperature(mscale) / temperature(mscale_all) if mscale and mscale_all else temperature(1.0)


def _frequencies_by_row(rotary: Rotary, lengths: Int[Array, " B"]) -> Float[Array, "rows half"]:
    short = frequencies(rotary)
    constant = jnp.asarray(short, jnp.float32)[None, :]
    beyond = (lengths > rotary.original_length)[:, None]
    if rotary.form == "longrope":
        long = jnp.asarray(short * np.asarray(rotary.short) / np.asarray(rotary.long), jnp.float32)[None, :]
        return jnp.where(beyond, long, constant)
    if rotary.form == "dynamic":
        n = rotary.n_channels
        stretch = jnp.maximum(lengths, rotary.original_length).astype(jnp.float32)[:, None] / rotary.original_length
        growth = rotary.factor * stretch - (rotary.factor - 1)  # theta grows by growth ** (n / (n - 2))
        powers = jnp.asarray(np.arange(0, n, 2) / (n - 2), jnp.float32)[None, :]
        return constant * growth**-powers
    return constant


def _llama3(rotary: Rotary, plain: Float[np.ndarray, " half"]) -> Float[np.ndarray, " half"]:
    """Long wavelengths are stretched, short ones kept, those between interpolated."""
    turns = rotary.original_length * plain / (2 * np.pi)  # within the original context
    kept = np.clip((turns - rotary.low) / (rotary.high - rotary.low), 0, 1)
    return plain * (kept + (1 - kept) / rotary.factor)


def _yarn(rotary: Rotary, plain: Float[np.ndarray, " half"]) -> Float[np.ndarray, " half"]:
    """As llama3, but interpolated linearly in the number of the channel (Peng et al. 2023, eq. 17-23)."""
    n = rotary.n_channels

    def channel(turns: float) -> float:
        return n * math.log(rotary.original_length / (turns * 2 * math.pi)) / (2 * math.log(rotary.theta))

    first, last = channel(rotary.high), channel(rotary.low)
    if rotary.truncated:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, n - 1)
    stretched = np.clip((np.arange(n // 2) - first) / ((last - first) or 1e-3), 0, 1)
    return plain * (1 - stretched + stretched / rotary.factor)
