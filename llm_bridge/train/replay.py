"""Responses of earlier rounds, learned from again: what is kept of them, and what they weigh.

    w(y)   =  min(pi_k(y) / pi_j(y), 4)                          of a response that pi_j drew, in an earlier round j
    q(y)   =  mean over the others y' of its group of w(y') (P(y > y') - 1/2)
    loss   =  mean over all rounds and groups of w(y) times the loss of y

The mean over draws of pi_j of w times anything is its mean over draws of pi_k, so old responses say of the policy of
now what new ones would, as often as no weight is cut off (Ionides 2008, "Truncated importance sampling"). Both sides of
a pair are weighed, and its verdict is that of its own round: a preference does not depend on who drew the responses, so
nobody is asked again. No policy of the past is kept, only responses, how likely they were, and verdicts.

A response's probability is the product of its tokens', so weights of long responses spread where the policy moves far
in a round. What is left of the old ones is measured, `replay/effective_frac`.

Letters: as in `llm_bridge.train.arena`; K rounds that are kept.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from llm_bridge.model import sharding
from llm_bridge.model.architecture import BridgeError
from llm_bridge.model.network import Network, Weights
from llm_bridge.policy import scoring
from llm_bridge.train.arena import Samples, Source
from llm_bridge.train.objective import Judged, payoffs
from llm_bridge.train.rollout import shortened

LARGEST_WEIGHT = 4.0
UNANSWERED = -1.0  # in place of NaN, which no checkpoint has


class Memory(NamedTuple):
    """Rounds, the newest first.

    Attributes:
        tokens, mask, response: as in `Samples`, all rounds padded to the same columns.
        log_probs: of each response by the policy that drew it.
        verdicts: P(our response is preferred to theirs) within each group; `UNANSWERED` where there is no answer.
        n_rounds: how many of the K there have been.
    """

    tokens: Int[Array, "K B T"]
    mask: Bool[Array, "K B T"]
    response: Bool[Array, "K B T"]
    log_probs: Float[Array, "K B"]
    verdicts: Float[Array, "K N G G"]
    n_rounds: Int[Array, ""]


def nothing(rounds: int, mesh: Mesh, groups: tuple[int, int] = (0, 0), length: int = 0) -> Memory:
    """A memory before the first round.

    Args:
        rounds: K.
        mesh: of the run.
        groups: N and G; with none of them the first round makes room for itself.
        length: T.
    """
    shape = (rounds, groups[0] * groups[1], length)
    blank = np.zeros(shape, bool)
    verdicts = np.zeros((rounds, *groups, groups[1]), np.float32)
    parts = (np.zeros(shape, np.int32), blank, blank, np.zeros(shape[:2], np.float32), verdicts, np.zeros((), np.int32))
    return Memory._make(sharding.put(part, sharding.whole(mesh)) for part in parts)


def recalled(
    source: Source, memory: Memory, samples: Samples, preference: Float[Array, "N G G"], longest: int, n_parts: int
) -> tuple[Memory, Samples, Judged, dict[str, Array]]:
    """A round's rows and those of the rounds before it, as groups of one round.

    As long as there have not been K rounds, this round's rows stand in place of those that are missing.

    Args:
        source: the policy of now.
        memory: of the rounds before.
        samples: of this round, draws.
        preference: within its groups.
        longest: most columns of responses, where `samples.answers` says that they are the last ones.
        n_parts: in which all rows go through the model.

    Returns:
        The memory of the rounds up to this one; the rows of all 1 + K rounds, each with its weight in its group's mean;
        what the judge says of them; metrics.

    Raises:
        BridgeError: the round has another number of groups or responses than those before it.
    """
    mesh, groups = source.decoder.mesh, preference.shape[:2]
    rounds = _extended(memory, _as_memory(samples, preference, longest))
    answers = samples.answers if samples.answers is None else _columns(rounds, longest)
    tokens, mask, response = (_cut(part, longest, answers) for part in rounds[:3])
    tokens, mask = (_placed(part.reshape(-1, part.shape[-1]), mesh) for part in (tokens, mask))
    response = response.reshape(tokens.shape)
    now = _local(_log_probs(source.decoder, (groups[1], answers, n_parts), source.weights, tokens, mask))
    now = jnp.where(_local(response), jnp.pad(now, ((0, 0), (tokens.shape[1] - now.shape[1], 0))), 0)
    by_sampler = _left(_wide(samples.log_probs, samples.answers, longest)[None], rounds.tokens.shape[2])
    by_sampler = _cut(by_sampler[0], longest, answers)
    scores = jnp.concatenate([by_sampler, now[len(by_sampler) :]])
    total = jnp.sum(now, axis=1).reshape(-1, groups[1])
    weight = jnp.minimum(jnp.exp(total - rounds.log_probs.reshape(total.shape)), LARGEST_WEIGHT)
    rows = Samples(tokens, mask, _placed(response, mesh), _placed(scores, mesh), weight / groups[1], answers)
    kept = jax.tree.map(partial(_put, place=sharding.whole(mesh)), _without_oldest(rounds))
    return kept, rows, judged(rounds.verdicts, weight), {"replay/effective_frac": spread(weight)}


def with_newest(memory: Memory, samples: Samples, preference: Float[Array, "N G G"]) -> Memory:
    """The memory after a round whose rows are all of the same columns as those before."""
    return _without_oldest(_extended(memory, _as_memory(samples, preference, samples.answers or 0)))


def judged(verdicts: Float[Array, "K N G G"], weight: Float[Array, "KN G"]) -> Judged:
    """Payoffs against the responses of each group as the policy of now would draw them."""
    flat = verdicts.reshape(-1, *verdicts.shape[2:])
    preference = jnp.where(flat == UNANSWERED, jnp.nan, flat)
    return Judged(payoffs(0.5 + (preference - 0.5) * weight[:, None, :]), preference)


def spread(weight: Float[Array, "KN G"]) -> Float[Array, ""]:
    """As how large a share of themselves groups count: (sum w)^2 / (G sum w^2) on average; 1 where all weigh the same.

    Kong 1992, "A note on importance sampling using standardized weights".
    """
    return jnp.mean(jnp.sum(weight, axis=1) ** 2 / jnp.maximum(jnp.sum(weight**2, axis=1), 1e-30)) / weight.shape[1]


@partial(jax.jit, static_argnames=("decoder", "shape"))
def _log_probs(
    decoder: Network, shape: tuple[int, int | None, int], weights: Weights, tokens: Array, mask: Array
) -> Float[Array, "B R"]:
    """Of the last R tokens of each row; `shape` is G, R where it is known, and in how many parts the rows are read."""
    group, answers, n_parts = shape
    n_rows, n_last = tokens.shape[0] // n_parts, tokens.shape[1] - 1 if answers is None else answers
    n_shares = sharding.n_row_shares(decoder.mesh)
    chunk = scoring.chunk_length(-(-n_rows // n_shares), n_last, decoder.architecture.vocabulary)

    def of_part(part: tuple[Array, Array]) -> Array:
        hidden = scoring.activations(decoder, weights, part, n_last, 1 if answers is None else group)
        return scoring.scores(decoder, weights, hidden, part[0][:, -n_last:], chunk)

    if n_parts == 1:
        return of_part((tokens, mask))
    parts = [part.reshape(n_parts, n_rows, -1) for part in (tokens, mask)]
    return jax.lax.map(of_part, (parts[0], parts[1])).reshape(-1, n_last)


def _as_memory(samples: Samples, preference: Float[Array, "N G G"], longest: int) -> Memory:
    """Of this round alone."""
    rows = [_wide(part, samples.answers, longest)[None] for part in samples[:3]]
    drawn = jnp.sum(_local(samples.log_probs), axis=1)[None]
    verdicts = jnp.where(jnp.isnan(preference), UNANSWERED, preference)[None]
    return Memory._make([*rows, drawn, verdicts, jnp.ones((), jnp.int32)])


def _extended(memory: Memory, newest: Memory) -> Memory:
    """With a round before the others, and in place of those that have not been."""
    memory = jax.tree.map(_local, memory)
    rounds, length = memory.tokens.shape[0], max(memory.tokens.shape[2], newest.tokens.shape[2])
    if not memory.verdicts.size:
        room = [jnp.zeros((rounds, *part.shape[1:]), part.dtype) for part in newest[:-1]]
        memory = Memory._make([*room, memory.n_rounds])
    if memory.verdicts.shape[1:] != newest.verdicts.shape[1:]:
        (n, g), (m, h) = (one.verdicts.shape[1:3] for one in (memory, newest))
        raise BridgeError(f"replay keeps rounds of one size: expected {n} groups of {g} responses, got {m} of {h}")
    there = jnp.arange(rounds, dtype=jnp.int32) < memory.n_rounds

    def both(old: Array, new: Array) -> Array:
        old, new = (_left(part, length) if part.ndim == 3 else part for part in (old, new))
        return jnp.concatenate([new, jnp.where(there.reshape(-1, *[1] * (old.ndim - 1)), old, new)])

    parts = [both(old, new) for old, new in zip(memory[:-1], newest[:-1], strict=True)]
    return Memory._make([*parts, memory.n_rounds + 1])


def _without_oldest(rounds: Memory) -> Memory:
    n_rounds = jnp.minimum(rounds.n_rounds, len(rounds.tokens) - 1)
    return Memory._make([*(part[:-1] for part in rounds[:-1]), n_rounds])


def _columns(rounds: Memory, longest: int) -> int:
    """How many columns the longest response of all rounds is given."""
    return shortened(int(jnp.max(jnp.sum(rounds.response, axis=-1))), longest)


def _wide(part: Array, answers: int | None, longest: int) -> Array:
    """Rows whose responses have all the columns that they may need; as they are where nobody knows which those are."""
    part = _local(part)
    return part if answers is None else jnp.pad(part, ((0, 0), (0, longest - answers)))


def _left(part: Array, length: int) -> Array:
    """Padded on the left to so many columns."""
    return jnp.pad(part, ((0, 0), (0, 0), (length - part.shape[2], 0)))


def _cut(part: Array, longest: int, answers: int | None) -> Array:
    """Without the columns that no response needs."""
    return part if answers is None else part[..., : part.shape[-1] - longest + answers]


def _local(array: Array) -> Array:
    """What several processes have, on each of them."""
    return array if isinstance(array, Tracer) else jnp.asarray(sharding.gathered(array))


def _placed(rows: Array, mesh: Mesh) -> Array:
    """On the mesh, as an arena places its rows."""
    even = rows.shape[0] % sharding.n_row_shares(mesh) == 0
    return _put(rows, sharding.rows(mesh, rows.ndim) if even else sharding.whole(mesh))


def _put(array: Array, place: Any) -> Array:
    return array if isinstance(array, Tracer) else sharding.put(array, place)
