"""Generation: prompts are read once, then one compiled loop appends a token to every row until all have ended.

Answers to one prompt share its reading: its keys and values are copied for each of them.

Prompts are padded on the left to a length of a few sizes, and so is the cache, so another prompt length rarely compiles
again. Settings are arguments of the compiled loop, not constants of it.

Two log-probabilities are returned for each token. `log_probs` is that of `Policy.log_probs`: the whole vocabulary, at
the policy's own temperature. It is what training compares, however the token was drawn. `sampling_log_probs` belongs to
the distribution that it was drawn from, after the call's temperature, top-k and top-p; it is 0 for greedy choices.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Key

from llm_bridge.model import sharding
from llm_bridge.model.architecture import BridgeError, Outline
from llm_bridge.policy import spread
from llm_bridge.policy.sampling import ANY, NEVER, Settings, draw, ended, likeliest, scaled
from llm_bridge.policy.scoring import target_log_probs

SMALLEST_BUCKET, SMALLEST_STOP = 16, 4
OF_CODES = 2**31  # in a key's place of the step: draws of tokens have smaller ones
TokenPrompts = Sequence[Sequence[int] | Int[np.ndarray, " _"]]
Stop = Sequence[Any]  # of token ids and sequences of them


@runtime_checkable
class Steps(Protocol):
    """What the loop calls: a `Network`, or several of them as one (`llm_bridge.policy.mixture`)."""

    @property
    def architecture(self) -> Outline:
        """What gives the vocabulary and the longest context."""
        ...

    @property
    def mesh(self) -> Mesh:
        """Where rows and caches lie."""
        ...

    def prefill(
        self, weights: Any, tokens: Int[Array, "N P"], padding: Int[Array, " N"], n_slots: int, copies: int = 1
    ) -> tuple[Float[Array, "B D"], Any]:
        """Read prompts padded on the left: activations [B, D] of the last token, and a cache with room for n_slots.

        Each prompt has so many rows of both as there are copies, one after another.
        """
        ...

    def apart(self, weights: Any, cache: Any, n_tokens: int) -> tuple[Any, Any]:
        """Weights and cache in the form that `step` is fastest with for so many tokens."""
        ...

    def step(
        self, weights: Any, tokens: Int[Array, " B"], slot: Int[Array, ""], cache: Any
    ) -> tuple[Float[Array, "B D"], Any]:
        """Append one token to every row, in the same slot: activations [B, D] of the token, and the cache."""
        ...

    def logits(self, weights: Any, hidden: Float[Array, "... D"]) -> Float[Array, "... V"]:
        """Logits over the vocabulary, float32, from activations."""
        ...


class Generation(NamedTuple):
    """What was appended to each prompt; N is the number of new tokens that were allowed.

    Attributes:
        tokens: padded at the end of each row.
        mask: which of them were generated; the token that ended a row is one of them.
        log_probs: under the policy's whole distribution, as of `Policy.log_probs`; 0 at padding.
        sampling_log_probs: under the distribution that was drawn from; 0 at padding.
    """

    tokens: Int[Array, "B N"]
    mask: Bool[Array, "B N"]
    log_probs: Float[Array, "B N"]
    sampling_log_probs: Float[Array, "B N"]


class Shape(NamedTuple):
    """What a compiled loop is made for.

    Attributes:
        n_new: tokens that it has room for.
        greedy: it takes the likeliest token.
        truncates: it applies top-k and top-p.
        pad_token: what fills the rest of a row.
        generator: of the key, as `jax.random.key_impl` names it.
        copies: rows of each prompt, one after another.
        spread: rows of a group whose draws are spread evenly (`llm_bridge.policy.spread`); 0 for independent draws.
    """

    n_new: int
    greedy: bool
    truncates: bool
    pad_token: int
    generator: str
    copies: int = 1
    spread: int = 0


class State(NamedTuple):
    """What the loop carries.

    Attributes:
        step: how many tokens have been drawn.
        newest: the last of them.
        recent: the last few, as many as the longest stop sequence has.
        done: rows that have ended.
        cache: keys and values up to the token before the newest.
        out: what is returned, filled up to `step`.
        codes: of what follows in each row, where draws are spread evenly.
    """

    step: Int[Array, ""]
    newest: Int[Array, " B"]
    recent: Int[Array, "B longest"]
    done: Bool[Array, " B"]
    cache: Any
    out: Generation
    codes: Float[Array, " B"] | None = None


@partial(jax.jit, static_argnames=("decoder", "shape"))
def run(
    decoder: Steps,
    shape: Shape,
    weights: Any,
    prompts: tuple[Int[Array, "N P"], Int[Array, " N"]],
    settings: Settings,
) -> Generation:
    """Continue prompts.

    Args:
        decoder: the function that reads tokens.
        shape: what the loop is compiled for, such as the number of new tokens it has room for.
        weights: of the decoder.
        prompts: tokens, padded on the left, and how many tokens of each row are padding; a row of padding alone is no
            prompt, and nothing is generated for it.
        settings: key, temperature, truncation and stop sequences, which change without compiling again.
    """
    tokens, padding = prompts
    n_rows, length = tokens.shape[0] * shape.copies, tokens.shape[1]
    hidden, cache = decoder.prefill(weights, tokens, padding, length + shape.n_new, shape.copies)
    newest, empty = (jnp.repeat(part, shape.copies) for part in (tokens[:, -1], padding == length))
    blank = jnp.zeros((n_rows, shape.n_new), jnp.float32)
    out = Generation(jnp.full(blank.shape, shape.pad_token, jnp.int32), jnp.zeros(blank.shape, bool), blank, blank)
    recent = jnp.full((n_rows, settings.stop.shape[1]), -2, jnp.int32)
    codes = None
    if shape.spread:
        codes = spread.codes(jax.random.fold_in(_key(shape, settings), OF_CODES), n_rows, shape.spread)
    start = State(jnp.zeros((), jnp.int32), newest, recent, empty, cache, out, codes)
    state = _append(decoder, shape, weights, hidden, start, settings)

    def goes_on(state: State) -> Array:
        return (state.step < settings.max_new_tokens) & ~jnp.all(state.done)

    apart, cache = decoder.apart(weights, state.cache, shape.n_new)
    state = state._replace(cache=cache)

    def body(state: State) -> State:
        hidden, cache = decoder.step(apart, state.newest, length + state.step - 1, state.cache)
        return _append(decoder, shape, apart, hidden, state._replace(cache=cache), settings)

    out = jax.lax.while_loop(goes_on, body, state).out
    return jax.lax.with_sharding_constraint(out, sharding.whole(decoder.mesh))


def _append(
    decoder: Steps,
    shape: Shape,
    weights: Any,
    hidden: Float[Array, "B D"],
    state: State,
    settings: Settings,
) -> State:
    """Draw a token of every row from the activations of its last one."""
    logits, codes = decoder.logits(weights, hidden), state.codes
    if shape.greedy:
        tokens = likeliest(logits)
        sampling_log_probs = jnp.zeros(tokens.shape, jnp.float32)
    else:
        row_keys = jax.vmap(partial(jax.random.fold_in, jax.random.fold_in(_key(shape, settings), state.step)))
        keys = row_keys(jnp.arange(hidden.shape[0], dtype=jnp.uint32))
        drawn_from = scaled(logits, settings, truncates=shape.truncates)
        tokens, codes = (draw(drawn_from, keys), None) if codes is None else spread.taken(drawn_from, codes, keys)
        sampling_log_probs = target_log_probs(drawn_from, tokens)
    going = ~state.done

    def write(array: Array, new: Array, blank: int) -> Array:
        column = jnp.where(going, new, jnp.asarray(blank, new.dtype))[:, None]
        return jax.lax.dynamic_update_slice(array, column, (jnp.zeros((), jnp.int32), state.step))

    out = Generation(
        write(state.out.tokens, tokens, shape.pad_token),
        write(state.out.mask, going, 0),
        write(state.out.log_probs, target_log_probs(logits, tokens), 0),
        write(state.out.sampling_log_probs, sampling_log_probs, 0),
    )
    recent = jnp.concatenate([state.recent[:, 1:], tokens[:, None]], axis=1)
    done = state.done | ended(recent, settings.stop)
    return State(state.step + 1, tokens, recent, done, state.cache, out, codes)


def _key(shape: Shape, settings: Settings) -> Key[Array, ""]:
    return jax.random.wrap_key_data(settings.key, impl=shape.generator)


def bucket(n: int, smallest: int = SMALLEST_BUCKET) -> int:
    """The smallest of 16, 24, 32, 48, 64, 96, ... that is at least n; or of 1, 2, 3, 4, 6, ... from another start."""
    size = smallest
    while size < n:
        half_more = size + size // 2
        size = half_more if half_more >= n else 2 * size
    return size


def copies_of(prompts: TokenPrompts, n_shares: int) -> int:
    """How many rows in a row have the same prompt, as far as the prompts are divided evenly over the devices' shares.

    Args:
        prompts: of each row.
        n_shares: among which rows are divided.
    """
    changes = [i for i in range(1, len(prompts)) if not np.array_equal(prompts[i - 1], prompts[i])]
    copies = math.gcd(len(prompts), *changes)
    return max(n for n in range(1, copies + 1) if n == 1 or copies % n == len(prompts) // n % n_shares == 0)


def padded_left(
    prompts: TokenPrompts, n_rows: int, pad_token: int, length: int | None = None
) -> tuple[Int[np.ndarray, "N P"], Int[np.ndarray, " N"]]:
    """Prompts of this length, or one bucket's, rows that are none appended; tokens, and the padding of each row."""
    length = length or bucket(max(len(prompt) for prompt in prompts))
    tokens = np.full((n_rows, length), pad_token, np.int32)
    padding = np.full(n_rows, length, np.int32)
    for i, prompt in enumerate(prompts):
        padding[i] = length - len(prompt)
        tokens[i, padding[i] :] = prompt
    return tokens, padding


def stop_table(stop: Any, vocabulary: int) -> Int[np.ndarray, "n longest"]:
    """Stop sequences as `Settings` has them, in a table of a few sizes.

    Raises:
        BridgeError: one is empty or no sequence of token ids.
    """
    wanted = "expected stop to hold token ids or sequences of them"
    if isinstance(stop, str) or not isinstance(stop, Sequence | np.ndarray | set | frozenset):
        raise BridgeError(f"{wanted}, got {stop!r}")
    sequences = [[one] if np.ndim(one) == 0 and not isinstance(one, str) else one for one in stop]
    if any(isinstance(one, str) for one in sequences):
        raise BridgeError(f"{wanted}; encode text with the tokenizer first")
    for one in sequences:
        if not len(one) or not all(isinstance(token, int | np.integer) and 0 <= token < vocabulary for token in one):
            raise BridgeError(f"{wanted} of the vocabulary of {vocabulary}, got {one!r}")
    longest = bucket(max([1, *map(len, sequences)]), 1)
    table = np.full((bucket(len(sequences), SMALLEST_STOP), longest), NEVER, np.int32)
    for i, one in enumerate(sequences):
        table[i] = ANY
        table[i, longest - len(one) :] = one
    return table
