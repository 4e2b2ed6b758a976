"""Drawing the next token, and its probability under what it was drawn from.

Order of the settings, as in transformers: logits are divided by the temperature, then the `top_k` largest are kept,
then the fewest whose probabilities reach `top_p` (Fan et al. 2018, Holtzman et al. 2020). Ties at a border are kept.

Every row has a key of its own, made from its number and the step, so a row draws the same tokens in any batch.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt32

EXCLUDED = -jnp.inf
ANY, NEVER = -1, -3  # in a stop sequence: matched by every token, by none


class Settings(NamedTuple):
    """Numbers that change without compiling again.

    Attributes:
        key: data of the key of all draws.
        max_new_tokens: when to stop at the latest.
        temperature: what logits are divided by; unused when greedy.
        top_k: how many are kept; V for all.
        top_p: probability that is kept; 1 for all.
        stop: sequences of tokens that end a row, each at the end of its line, `ANY` before it; lines
            that are none hold `NEVER`.
    """

    key: UInt32[Any, " _"]
    max_new_tokens: Int[Any, ""]
    temperature: Float[Any, ""]
    top_k: Int[Any, ""]
    top_p: Float[Any, ""]
    stop: Int[Any, "n longest"]


def scaled(logits: Float[Array, "B V"], settings: Settings, *, truncates: bool) -> Float[Array, "B V"]:
    """The logits of the distribution that tokens are drawn from."""
    logits = logits / settings.temperature
    return truncated(logits, settings.top_k, settings.top_p) if truncates else logits


def draw(logits: Float[Array, "B V"], keys: Key[Array, " B"]) -> Int[Array, " B"]:
    """One token a row."""
    noise = jax.vmap(lambda key: jax.random.gumbel(key, logits.shape[1:], logits.dtype))(keys)
    return likeliest(logits + noise)


def likeliest(scores: Float[Array, "B V"]) -> Int[Array, " B"]:
    """The first of the largest entries; two plain reductions, which are faster than one for value and place."""
    places = jax.lax.broadcasted_iota(jnp.int32, scores.shape, 1)
    largest = jnp.max(scores, axis=-1, keepdims=True)
    return jnp.min(jnp.where(scores == largest, places, scores.shape[1] - 1), axis=-1)


def truncated(logits: Float[Array, "B V"], top_k: Int[Array, ""], top_p: Float[Array, ""]) -> Float[Array, "B V"]:
    """Logits with -inf for what top-k, then top-p exclude."""
    ordered = -jnp.sort(-logits, axis=-1)
    ranks = jnp.arange(logits.shape[-1], dtype=jnp.int32)[None, :]
    shares = jax.nn.softmax(jnp.where(ranks < top_k, ordered, EXCLUDED), axis=-1)
    kept = (ranks < top_k) & (jnp.cumsum(shares, axis=-1) - shares < top_p)
    border = jnp.min(jnp.where(kept, ordered, jnp.inf), axis=-1, keepdims=True)
    return jnp.where(logits >= border, logits, EXCLUDED)


def ended(recent: Int[Array, "B longest"], stop: Int[Array, "n longest"]) -> Array:
    """Which rows end with one of the stop sequences.

    Args:
        recent: the newest tokens of each row.
        stop: a stop sequence a line, written at the line's end; `ANY` before it, `NEVER` in lines without one.
    """
    same = (recent[:, None, :] == stop[None, :, :]) | (stop[None, :, :] == ANY)
    return jnp.any(jnp.all(same, axis=-1), axis=-1)
