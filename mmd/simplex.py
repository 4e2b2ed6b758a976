"""Distributions on a simplex, stored as log-probabilities: normalisation, entropy and Kullback-Leibler divergence.

Log-probability -inf means probability 0 and contributes 0 to entropies and divergences (0 log 0 = 0).
Letters: A actions; `...` any batch shape. Natural logarithms throughout (units: nats).
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

SERIES_BELOW = 0.03


def masked_log_softmax(
    logits: Float[Array, "... A"], legal: Bool[Array, "... A"] | None = None
) -> Float[Array, "... A"]:
    """Normalised log-probabilities of `logits`; actions that are not `legal` get -inf."""
    if legal is not None:
        logits = jnp.where(legal, logits, -jnp.inf)
    top = jnp.max(logits, axis=-1, keepdims=True)
    shifted = logits - top
    return shifted - jnp.log(jnp.sum(jnp.exp(shifted), axis=-1, keepdims=True))


def entropy(log_policy: Float[Array, "... A"]) -> Float[Array, "..."]:
    """Shannon entropy `-sum_a p_a log p_a`."""
    return -jnp.sum(_weighted(log_policy, log_policy), axis=-1)


def kl_divergence(log_p: Float[Array, "... A"], log_q: Float[Array, "... A"]) -> Float[Array, "..."]:
    """`KL(p, q) = sum_a p_a log(p_a / q_a)`; infinite where p puts mass on an action that q excludes.

    Args:
        log_p: normalised log-probabilities of p.
        log_q: normalised log-probabilities of q.
    """
    absent = jnp.isneginf(log_p)
    log_ratio = jnp.where(absent, 0.0, log_p) - jnp.where(absent, 0.0, log_q)
    return jnp.sum(jnp.exp(log_p) * log_ratio, axis=-1)


def _weighted(log_p: Float[Array, "... A"], values: Float[Array, "... A"]) -> Float[Array, "... A"]:
    """`p_a * value_a`, 0 where p_a = 0."""
    return jnp.where(jnp.isneginf(log_p), 0.0, jnp.exp(log_p) * jnp.where(jnp.isneginf(log_p), 0.0, values))


def exp_remainder(d: Float[Array, "..."]) -> Float[Array, "..."]:
    """`exp(-d) - 1 + d >= 0`, whose mean under p is KL(p, q) for d = log p - log q: all terms of one sign.

    Near 0 the direct form cancels, so there it is summed as a series; the relative error is below 1e-12 everywhere.
    """
    series = d * d * (1 / 2 - d * (1 / 6 - d * (1 / 24 - d * (1 / 120 - d / 720))))
    largest = 0.7 * jnp.log(jnp.finfo(d.dtype).max)  # exp stays finite, and so does its sum over many
    return jnp.where(jnp.abs(d) < SERIES_BELOW, series, jnp.exp(jnp.minimum(-d, largest)) - 1.0 + d)
