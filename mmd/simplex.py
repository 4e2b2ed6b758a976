"""Distributions on a simplex, stored as log-probabilities: normalisation, entropy and Kullback-Leibler divergence.

Log-probability -inf means probability 0 and contributes 0 to entropies and divergences (0 log 0 = 0).
Letters: A actions; `...` any batch shape. Natural logarithms throughout (units: nats).
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


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
