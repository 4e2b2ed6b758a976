"""Log-probabilities of given tokens, and the exact divergence of two policies, without keeping [B, T, V].

Entry (b, t) of every result concerns token t of row b given the tokens before it; it is 0 where there is nothing to
predict: at a row's first token and at padding. Everything is float32, whatever the weights are, and from one softmax
over the whole vocabulary, at the policy's temperature.

Logits are made for a chunk of tokens at a time, and made again in the backward pass (Chen et al. 2016), so memory is
that of a chunk. The divergence is summed over the vocabulary, no estimate: with equal policies it is 0, rounding apart.

On a mesh each device makes the logits of its own rows, for its share of the vocabulary. The head comes to it once,
before the first chunk, and its gradient leaves once, after the last: left to XLA, both would move with every chunk.
Sums over the vocabulary are those of all shares (`Vocabulary`). Rows that the mesh does not divide are filled up with
padding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
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
) -> Float[Array, "_ R D"]:
    """What the last R tokens of every row are predicted from.

    Args:
        decoder, weights: of a policy.
        batch: tokens, and which of them are no padding.
        answers: R; None for all tokens but the first, R = T - 1.
        group: so many rows, one after another, begin with the same T - R tokens, padded on the left, which then go
            through the model once for all of them.

    Returns:
        Of all rows, and of as many rows of padding after them as the devices' shares need.
    """
    (n_rows, length), n_shares = batch[0].shape, sharding.n_row_shares(decoder.mesh)
    before = length - (length - 1 if answers is None else answers)
    shared = shared_rows(n_rows, group, n_shares)
    if shared == 1 or not decoder.shares_prompts:
        tokens, mask = (_filled(part, n_rows + -n_rows % n_shares) for part in batch)
        return decoder.hidden(weights, tokens, mask)[:, before - 1 : -1]
    prompts, own = ((part[::shared, :before], part[:, before:]) for part in batch)
    return decoder.answers(weights, *zip(prompts, own, strict=True))


def shared_rows(n_rows: int, group: int, n_shares: int) -> int:
    """How many rows of a group share the reading of their prompt: as many as leave each device the same work."""
    return max(n for n in range(1, group + 1) if n == 1 or group % n == n_rows // n % n_shares == 0)


def _filled(array: Array, n_rows: int) -> Array:
    """With rows of zeros at the end, until there are so many."""
    if array.shape[0] == n_rows:
        return array
    return jnp.pad(array, ((0, n_rows - array.shape[0]), *[(0, 0)] * (array.ndim - 1)))


def visit(
    heads: Sequence[tuple[Network, Weights]],
    hidden: Sequence[Float[Array, "_ R D"]],
    targets: Int[Array, "B R"],
    of_chunk: Callable[..., Any],
    chunk: int,
) -> Any:
    """Call a function of whole distributions for some tokens of every row at a time.

    Args:
        heads: of the policies whose distributions are wanted.
        hidden: what each of them predicts the tokens from, as `activations` gives it.
        targets: the tokens.
        of_chunk: of a `Vocabulary`, the log-probabilities [B, t, V] of each policy, as a tuple, and the tokens [B, t]
            that they predict; returns arrays [B, t].
        chunk: how many tokens at a time.

    Returns:
        What `of_chunk` returns, for all tokens, also where there is nothing to predict.
    """

    def of_logits(vocabulary: Vocabulary, logits: Sequence[Array], targets: Array) -> Any:
        return of_chunk(vocabulary, tuple(map(vocabulary.log_softmax, logits)), targets)

    return _by_rows(heads, of_logits, hidden, targets, chunk)


@partial(jax.jit, static_argnames=("decoder", "chunk"))
def log_probs(
    decoder: Network, weights: Weights, tokens: Int[Array, "B T"], mask: Bool[Array, "B T"], chunk: int
) -> Float[Array, "B T"]:
    """Log-probability of each token given those before it."""
    hidden = activations(decoder, weights, (tokens, mask))
    return _where_predicted(scores(decoder, weights, hidden, tokens[:, 1:], chunk), mask)


def scores(
    decoder: Network, weights: Weights, hidden: Float[Array, "_ R D"], targets: Int[Array, "B R"], chunk: int
) -> Float[Array, "B R"]:
    """Log-probability of each target, from what it is predicted from."""

    def of_logits(vocabulary: Vocabulary, logits: Sequence[Array], targets: Array) -> Array:
        return vocabulary.target_log_probs(logits[0], targets)

    return _by_rows([(decoder, weights)], of_logits, [hidden], targets, chunk)


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

    def of_chunk(vocabulary: Vocabulary, logs: tuple[Array, Array], targets: Array) -> Comparison:
        ours, theirs = (vocabulary.at(each, targets) for each in logs)
        return Comparison(ours, theirs, vocabulary.kl_divergence(*logs))

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


def _by_rows(
    heads: Sequence[tuple[Network, Weights]],
    of_logits: Callable[..., Any],
    hidden: Sequence[Float[Array, "_ R D"]],
    targets: Int[Array, "B R"],
    chunk: int,
) -> Any:
    """A function of logits, on each device for its own rows, by chunks; the module says what moves.

    Args:
        heads, hidden, targets, chunk: as of `visit`, but that the activations may have rows of padding besides.
        of_logits: of a `Vocabulary`, the logits [B, t, V] of each policy, as a list, and the tokens [B, t].
    """
    decoders, mesh, n_rows = [decoder for decoder, _ in heads], heads[0][0].mesh, targets.shape[0]
    named = [head for decoder, weights in heads if (head := decoder.head(weights)) is not None]
    if len(named) < len(heads):
        return _by_the_compiler(heads, of_logits, (*hidden, _filled(targets, hidden[0].shape[0])), chunk, n_rows)
    names, shared = [name for name, _ in named], {id(table): (name, table) for name, table in named}
    at = [list(shared).index(id(table)) for _, table in named]  # a base is there once, whoever shares it
    places = [sharding.named(decoders[0].architecture, name, mesh).spec for name, _ in shared.values()]
    by_row = sharding.rows(mesh, 1).spec

    def of_rows(tables: Sequence[Array], *arrays: Array) -> Any:
        vocabulary = Vocabulary("tensor" if dict(mesh.shape).get("tensor", 1) > 1 else None)
        if mesh.size > 1:
            tables = [_gathered(table, place, arrays[0].dtype) for table, place in zip(tables, places, strict=True)]

        def of_chunk(*parts: Array) -> Any:
            own = zip(decoders, names, at, parts[:-1], strict=True)
            logits = [decoder.logits({name: tables[i]}, part) for decoder, name, i, part in own]
            return of_logits(vocabulary, logits, parts[-1])

        return _by_chunks(of_chunk, arrays, chunk)

    if mesh.size > 1:
        specs = (places, *[by_row] * (len(hidden) + 1))
        of_rows = jax.shard_map(of_rows, mesh=mesh, in_specs=specs, out_specs=by_row, check_vma=False)
    found = of_rows([table for _, table in shared.values()], *hidden, _filled(targets, hidden[0].shape[0]))
    return jax.tree.map(lambda part: part[:n_rows], found)


def _by_the_compiler(
    heads: Sequence[tuple[Network, Weights]],
    of_logits: Callable[..., Any],
    arrays: tuple[Array, ...],
    chunk: int,
    n_rows: int,
) -> Any:
    """The same where a model does not say what makes its logits: the compiler decides what moves."""

    def of_chunk(*parts: Array) -> Any:
        logits = [decoder.logits(weights, part) for (decoder, weights), part in zip(heads, parts[:-1], strict=True)]
        return of_logits(Vocabulary(), logits, parts[-1])

    return jax.tree.map(lambda part: part[:n_rows], _by_chunks(of_chunk, arrays, chunk))


def _gathered(table: Array, place: PartitionSpec, dtype: Any) -> Array:
    """A head's table, whole along its width, moved in the precision of activations; its gradient adds up in its own."""
    for axis, name in enumerate(place):
        if name in sharding.ROWS:
            table = jax.lax.all_gather(table.astype(dtype), name, axis=axis, tiled=True).astype(table.dtype)
    return table


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


@dataclass(frozen=True)
class Vocabulary:
    """Functions of distributions over the vocabulary, of which each device may have a share.

    Attributes:
        over: the axis of the mesh that divides it; None where it is whole.
    """

    over: str | None = None

    def sum(self, values: Float[Array, "... V"]) -> Float[Array, "..."]:
        """Over the whole vocabulary."""
        found = jnp.sum(values, axis=-1)
        return found if self.over is None else jax.lax.psum(found, self.over)

    def log_softmax(self, logits: Float[Array, "... V"]) -> Float[Array, "... V"]:
        """Log-probabilities."""
        if self.over is None:
            return jax.nn.log_softmax(logits)
        shifted = logits - self._largest(logits)
        return shifted - jnp.log(self.sum(jnp.exp(shifted)))[..., None]

    def target_log_probs(self, logits: Float[Array, "... V"], targets: Int[Array, "..."]) -> Float[Array, "..."]:
        """The targets' entries of the log-softmax, of which nothing else is made."""
        shifted = logits - self._largest(logits)
        return self.at(shifted, targets) - jnp.log(self.sum(jnp.exp(shifted)))

    def at(self, log_probs: Float[Array, "... V"], targets: Int[Array, "..."]) -> Float[Array, "..."]:
        """The targets' entries; a sum, which shares of a vocabulary add up where they lie."""
        if self.over is not None:
            targets = targets - jax.lax.axis_index(self.over).astype(targets.dtype) * log_probs.shape[-1]
        return self.sum(jnp.where(chosen(log_probs, targets), log_probs, 0))

    def kl_divergence(self, ours: Float[Array, "... V"], theirs: Float[Array, "... V"]) -> Float[Array, "..."]:
        """KL(ours || theirs), nats; every token has a positive probability."""
        return self.sum(jnp.exp(ours) * (ours - theirs))

    def entropy(self, log_probs: Float[Array, "... V"]) -> Float[Array, "..."]:
        """Shannon entropy, nats."""
        return -self.sum(jnp.exp(log_probs) * log_probs)

    def _largest(self, logits: Float[Array, "... V"]) -> Float[Array, "... 1"]:
        found = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
        return found if self.over is None else jax.lax.pmax(found, self.over)


def target_log_probs(logits: Float[Array, "... V"], targets: Int[Array, "..."]) -> Float[Array, "..."]:
    """The targets' entries of the log-softmax over a whole vocabulary."""
    return Vocabulary().target_log_probs(logits, targets)


def chosen(log_probs: Float[Array, "... V"], targets: Int[Array, "..."]) -> Bool[Array, "... V"]:
    """Which entries are the targets'."""
    return jax.lax.broadcasted_iota(targets.dtype, log_probs.shape, log_probs.ndim - 1) == targets[..., None]


def _where_predicted(found: Float[Array, "B T1"], mask: Bool[Array, "B T"]) -> Float[Array, "B T"]:
    predicted = mask[:, 1:] & mask[:, :-1]
    return jnp.pad(jnp.where(predicted, found, 0), ((0, 0), (1, 0)))
