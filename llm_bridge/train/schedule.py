"""How the learning rate changes over a run, by the names of transformers; and weight decay, by its rule.

    rate in round k of K, after W rounds of warm-up, times the learning rate:

    (k + 1) / W                          while k < W
    1 - s                                linear           s = (k - W) / (K - W)
    (1 + cos(pi s)) / 2                  cosine
    1                                    constant

These are transformers' schedules of as many steps, but for the warm-up, which there begins with a step of 0: here a
step is a round, whose answers would be drawn and judged for nothing.
"""

import math
from functools import cache
from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

SHAPES = ("linear", "cosine", "constant")
MOST = 1e-3  # a learning rate that is not given is at most so large
NOT_DECAYED = ("norm", "bias", "scale")  # ends of the names of norms and biases; those of one axis are, too


def usual_rate(n_trained: int) -> float:
    """The learning rate of Adam for so many weights, one over the root of their number, at most `MOST`."""
    return min(MOST, 1 / math.sqrt(n_trained))


def factor(shape: str, round: Int[Array, ""], warmup: int, total: Any) -> Float[Array, ""]:
    """What the learning rate of a round is multiplied by.

    Args:
        shape: one of `SHAPES`.
        round: rounds that are done, k.
        warmup: rounds of warm-up, W.
        total: rounds until the rate is 0, K; None for never.
    """
    k = round.astype(jnp.float32)
    rise = jnp.minimum((k + 1) / warmup, 1) if warmup else jnp.float32(1)
    if total is None or shape == "constant":
        return rise
    share = jnp.clip((k - warmup) / jnp.maximum(total - warmup, 1), 0, 1) if warmup else jnp.clip(k / total, 0, 1)
    return rise * (1 - share if shape == "linear" else (1 + jnp.cos(jnp.pi * share)) / 2)


@cache
def with_decay(optimizer: optax.GradientTransformation, weight_decay: float) -> optax.GradientTransformation:
    """AdamW's decay beside an optimizer's direction (Loshchilov and Hutter 2019): weight_decay times the weight.

    As in transformers, norms and biases do not decay.
    """
    return optax.chain(optimizer, optax.add_decayed_weights(weight_decay, mask=_decays)) if weight_decay else optimizer


def _decays(weights: dict[str, Any]) -> dict[str, bool]:
    return {name: not (name.endswith(NOT_DECAYED) or array.ndim == 1) for name, array in weights.items()}
