"""Log-probabilities of given tokens, and the exact divergence of two policies, without keeping [B, T, V].

Entry (b, t) of every result concerns token t of row b given the tokens before it; it is 0 where there is nothing to
predict: at a row's first token and at padding. Everything is float32, whatever the weights are, and from one softmax
over the whole vocabulary, at the policy's temperature.

Logits are made for a chunk of tokens at a time, and made again in the backward pass (Chen et al. 2016), so memory is
that of a chunk. The divergence is summed over the vocabulary, no estimate: with equal policies it is 0, rounding apart.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from llm_bridge.model import sharding
from llm_bridge.model.network import Network, Weights

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


Batch = tuple[Int[Array, "B T"], Bool[Array, "B T"]]


def activations(
    decoder: Network, weights: Weights, batch: Batch, answers: int | None = None, group: int = 1
) -> Float[Array, "B R D"]:
    """What the last R tokens of every row are predicted from.

    Args:
        decoder, weights: of a policy.
        batch: tokens, and which of them are no padding.
        answers: R; None for all tokens but the first, R = T - 1.
        group: so many rows, one after another, begin with the same T - R tokens, padded on the left, which then go
            through the model once for all of them.
    """
    tokens, mask = batch
    n_rows, length = tokens.shape
    before = length - (length - 1 if answers is None else answers)
    even = n_rows // group % sharding.n_row_shares(decoder.mesh) == 0
    if group == 1 or not even or not decoder.shares_prompts:
        return decoder.hidden(weights, tokens, mask)[:, before - 1 : -1]
    prompts, own = ((part[::group, :before], part[:, before:]) for part in batch)
    return decoder.answers(weights, *zip(prompts, own, strict=True))


def visit(
    heads: Sequence[tuple[Network, Weights]],
    hidden: Sequence[Float[Array, "B R D"]],
    targets: Int[Array, "B R"],
    of_chunk: Callable[..., Any],
    chunk: int,
) -> Any:
    """Call a function of whole distributions for some tokens of every row at a time.

    Args:
        heads: of the policies whose distributions are wanted.
        hidden: what each of them predicts the tokens from, as `activations` gives it.
        targets: the tokens.
        of_chunk: of the log-probabilities [B, t, V] of each policy, as a tuple, and the tokens [B, t] that they
            predict; returns arrays [B, t].
        chunk: how many tokens at a time.

    Returns:
        What `of_chunk` returns, for all tokens, also where there is nothing to predict.
    """

    def of_hidden(*parts: Array) -> Any:
        logits = (decoder.logits(w, part) for (decoder, w), part in zip(heads, parts[:-1], strict=True))
        return of_chunk(tuple(map(jax.nn.log_softmax, logits)), parts[-1])

    return _by_chunks(of_hidden, (*hidden, targets), chunk)


@partial(jax.jit, static_argnames=("decoder", "chunk"))
def log_probs(
    decoder: Network, weights: Weights, tokens: Int[Array, "B T"], mask: Bool[Array, "B T"], chunk: int
) -> Float[Array, "B T"]:
    """Log-probability of each token given those before it."""
    hidden = activations(decoder, weights, (tokens, mask))
    return _where_predicted(scores(decoder, weights, hidden, tokens[:, 1:], chunk), mask)


def scores(
    decoder: Network, weights: Weights, hidden: Float[Array, "B R D"], targets: Int[Array, "B R"], chunk: int
) -> Float[Array, "B R"]:
    """Log-probability of each target, from what it is predicted from."""

    def of_chunk(hidden: Array, targets: Array) -> Array:
        return target_log_probs(decoder.logits(weights, hidden), targets)

    return _by_chunks(of_chunk, (hidden, targets), chunk)


@partial(jax.jit, static_argnames=("decoder", "magnet_decoder", "chunk"))
def compare(
    decoder: Network,
    weights: Weights,
    magnet_decoder: Network,
    magnet_weights: Weights,
    batch: Batch,
    chunk: int,
) -> Comparison:
    """Log-probabilities of both, and the divergence, in one pass over the logits."""

    def of_chunk(logs: tuple[Array, Array], targets: Array) -> Comparison:
        return Comparison(at(logs[0], targets), at(logs[1], targets), kl_divergence(*logs))

    heads = [(decoder, weights), (magnet_decoder, magnet_weights)]
    hidden = [activations(*each, batch) for each in heads]
    found = visit(heads, hidden, batch[0][:, 1:], of_chunk, chunk)
    return jax.tree.map(lambda part: _where_predicted(part, batch[1]), found)


def chunk_length(n_rows: int, n_targets: int, vocabulary: int) -> int:
    """How many tokens of every row have their logits made at a time.

    Args:
        n_rows: rows of a device's share.
        n_targets: R, tokens of a row that are predicted.
        vocabulary: V.
    """
    return max(1, min(n_targets, LOGITS_AT_A_TIME // (n_rows * vocabulary)))


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
    return at(shifted, targets) - jnp.log(jnp.sum(jnp.exp(shifted), axis=-1))


def at(log_probs: Float[Array, "... V"], targets: Int[Array, "..."]) -> Float[Array, "..."]:
    """The targets' entries; a sum, which a vocabulary divided over devices adds up where it lies."""
    return jnp.sum(jnp.where(chosen(log_probs, targets), log_probs, 0), axis=-1)


def chosen(log_probs: Float[Array, "... V"], targets: Int[Array, "..."]) -> Bool[Array, "... V"]:
    """Which entries are the targets'."""
    return jax.lax.broadcasted_iota(targets.dtype, log_probs.shape, log_probs.ndim - 1) == targets[..., None]


def kl_divergence(ours: Float[Array, "... V"], theirs: Float[Array, "... V"]) -> Float[Array, "..."]:
    """KL(ours || theirs), nats; every token has a positive probability."""
    return jnp.sum(jnp.exp(ours) * (ours - theirs), axis=-1)


def entropy(log_probs: Float[Array, "... V"]) -> Float[Array, "..."]:
    """Shannon entropy, nats."""
    return -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)


def _where_predicted(found: Float[Array, "B T1"], mask: Bool[Array, "B T"]) -> Float[Array, "B T"]:
    predicted = mask[:, 1:] & mask[:, :-1]
    return jnp.pad(jnp.where(predicted, found, 0), ((0, 0), (1, 0)))
