"""Log-probabilities of given tokens, and the exact divergence of two policies, without keeping [B, T, V].

Entry (b, t) of every result concerns token t of row b given the tokens before it; it is 0 where there is nothing to
predict: at a row's first token and at padding. Everything is float32, whatever the weights are, and from one softmax
over the whole vocabulary at temperature 1.

Logits are made for a chunk of tokens at a time, and made again in the backward pass (Chen et al. 2016), so memory is
that of a chunk. The divergence is summed over the vocabulary, no estimate: with equal policies it is exactly 0.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from llm_bridge.decoder import Decoder, Weights

LOGITS_AT_A_TIME = 2**24  # float32 logits of a chunk on each share of the rows: 64 MiB


class Comparison(NamedTuple):
    """Two policies on the same tokens.

    Attributes:
        log_probs: of the policy.
        magnet_log_probs: of the other.
        divergence: KL(policy || magnet) of the distributions that predict the token, nats.
    """

    log_probs: Float[Array, "B T"]
    magnet_log_probs: Float[Array, "B T"]
    divergence: Float[Array, "B T"]


@partial(jax.jit, static_argnames=("decoder", "chunk"))
def log_probs(
    decoder: Decoder, weights: Weights, tokens: Int[Array, "B T"], mask: Bool[Array, "B T"], chunk: int
) -> Float[Array, "B T"]:
    """Log-probability of each token given those before it."""
    hidden = decoder.hidden(weights, tokens, mask)

    def of_chunk(hidden: Array, targets: Array) -> Array:
        return target_log_probs(decoder.logits(weights, hidden), targets)

    found = _by_chunks(of_chunk, (hidden[:, :-1], tokens[:, 1:]), chunk)
    return _where_predicted(found, mask)


@partial(jax.jit, static_argnames=("decoder", "magnet_decoder", "chunk"))
def compare(
    decoder: Decoder,
    weights: Weights,
    magnet_decoder: Decoder,
    magnet_weights: Weights,
    batch: tuple[Int[Array, "B T"], Bool[Array, "B T"]],
    chunk: int,
) -> Comparison:
    """Log-probabilities of both, and the divergence, in one pass over the logits."""
    tokens, mask = batch
    hidden = decoder.hidden(weights, tokens, mask)
    magnet_hidden = magnet_decoder.hidden(magnet_weights, tokens, mask)

    def of_chunk(hidden: Array, magnet_hidden: Array, targets: Array) -> tuple[Array, Array, Array]:
        ours = jax.nn.log_softmax(decoder.logits(weights, hidden))
        theirs = jax.nn.log_softmax(magnet_decoder.logits(magnet_weights, magnet_hidden))
        return _at(ours, targets), _at(theirs, targets), jnp.sum(jnp.exp(ours) * (ours - theirs), axis=-1)

    found = _by_chunks(of_chunk, (hidden[:, :-1], magnet_hidden[:, :-1], tokens[:, 1:]), chunk)
    return Comparison(*(_where_predicted(part, mask) for part in found))


def chunk_length(n_rows: int, length: int, vocabulary: int) -> int:
    """How many tokens of every row have their logits made at a time.

    Args:
        n_rows: rows of a device's share.
        length: T.
        vocabulary: V.
    """
    return max(1, min(length - 1, LOGITS_AT_A_TIME // (n_rows * vocabulary)))


def _by_chunks(of_chunk: Callable[..., Any], arrays: tuple[Array, ...], chunk: int) -> Any:
    """Apply a function of [B, chunk, ...] along the second axis, padded to a multiple of it."""
    length = arrays[0].shape[1]
    if chunk >= length:
        return of_chunk(*arrays)
    n_chunks = -(-length // chunk)

    def split(array: Array) -> Array:
        room = [(0, 0), (0, n_chunks * chunk - length), *[(0, 0)] * (array.ndim - 2)]
        parts = jnp.pad(array, room).reshape(array.shape[0], n_chunks, chunk, *array.shape[2:])
        return jnp.swapaxes(parts, 0, 1)

    found = jax.lax.map(lambda parts: jax.checkpoint(of_chunk)(*parts), tuple(map(split, arrays)))
    return jax.tree.map(lambda part: jnp.swapaxes(part, 0, 1).reshape(part.shape[1], -1)[:, :length], found)


def target_log_probs(logits: Float[Array, "... V"], targets: Int[Array, "..."]) -> Float[Array, "..."]:
    """The targets' entries of the log-softmax, of which nothing else is made."""
    shifted = logits - jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    return _at(shifted, targets) - jnp.log(jnp.sum(jnp.exp(shifted), axis=-1))


def _at(log_probs: Float[Array, "... V"], targets: Int[Array, "..."]) -> Float[Array, "..."]:
    """The targets' entries; a sum, which a vocabulary divided over devices adds up where it lies."""
    tokens = jax.lax.broadcasted_iota(targets.dtype, log_probs.shape, log_probs.ndim - 1)
    return jnp.sum(jnp.where(tokens == targets[..., None], log_probs, 0), axis=-1)


def _where_predicted(found: Float[Array, "B T1"], mask: Bool[Array, "B T"]) -> Float[Array, "B T"]:
    predicted = mask[:, 1:] & mask[:, :-1]
    return jnp.pad(jnp.where(predicted, found, 0), ((0, 0), (1, 0)))
