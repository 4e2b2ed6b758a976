"""The arena of a game whose responses are all known: a table in place of the judge, traceable as a whole.

Draws come from the sampler of language models, or all responses at once with their probabilities (`exact`), and then
expectations are exact.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from benchmarks.truth.games import ResponseGame
from llm_bridge.policy import generate, scoring
from llm_bridge.policy.sampling import Settings
from llm_bridge.train.arena import Samples, Source


class Table(NamedTuple):
    """A game as arrays.

    Attributes:
        tokens, mask: prompt and response of each pair, prompt by prompt; one token is the prompt.
        preferences: between responses, by prompt.
        numbered: the response's number, by its code (its tokens as digits of a number).
    """

    tokens: Int[Array, "NY T"]
    mask: Bool[Array, "NY T"]
    preferences: Float[Array, "N Y Y"]
    numbered: Int[Array, " codes"]


def table(game: ResponseGame) -> Table:
    """The arrays of a game."""
    n, y = len(game.preferences), len(game.responses)
    prompts = np.repeat(np.arange(n), y)[:, None]
    tokens = np.concatenate([prompts, np.tile(game.responses, (n, 1))], axis=1)
    mask = np.arange(tokens.shape[1])[None, :] <= np.tile(game.lengths, n)[:, None]
    index = np.zeros(game.vocabulary ** game.responses.shape[1], np.int32)
    index[_digits(game) @ game.responses.T] = np.arange(y)
    return Table(
        jnp.asarray(tokens, jnp.int32),
        jnp.asarray(mask),
        jnp.asarray(game.preferences, jnp.float32),
        jnp.asarray(index),
    )


def _digits(game: ResponseGame) -> Int[np.ndarray, " L"]:
    return game.vocabulary ** np.arange(game.responses.shape[1])


class TableArena:
    """See the module.

    Args:
        game: what is static of it.
        arrays: what is not.
        exact: whether a draw is all responses.
        spread: whether the draws of a group are spread evenly, and its halves compared, as `Rollout` has it.
    """

    def __init__(self, game: ResponseGame, arrays: Table, *, exact: bool, spread: bool = False):
        self._game, self._arrays, self._exact, self._spread = game, arrays, exact, spread and not exact
        self._n, self._y = game.preferences.shape[:2]

    def log_probs(self, source: Source) -> Float[Array, "N Y"]:
        """Of every response."""
        return _of_responses(source, self._arrays.tokens, self._arrays.mask).reshape(self._n, self._y)

    def log_probs_of(self, source: Source, samples: Samples) -> Float[Array, " B"]:
        """Of responses that were drawn, by some policy."""
        return _of_responses(source, samples.tokens, samples.mask)

    def gap(self, source: Source) -> Float[Array, " N"]:
        """Exact duality gap of each prompt."""
        probability = jax.nn.softmax(self.log_probs(source), axis=-1)
        won = jnp.einsum("nij,nj->ni", self._arrays.preferences - 0.5, probability, precision="highest")
        return 2 * jnp.max(won, axis=-1)

    def draw(self, source: Source, n: int, key: Key[Array, ""]) -> Samples:
        """See `Arena`."""
        if self._exact:
            log_probs, arrays = self.log_probs(source), self._arrays
            response = arrays.mask & (jnp.arange(arrays.mask.shape[1]) > 0)[None, :]
            return Samples(
                arrays.tokens,
                arrays.mask,
                response,
                jnp.zeros(arrays.tokens.shape, jnp.float32),
                jax.lax.stop_gradient(jnp.exp(log_probs)),
            )
        length, vocabulary = self._game.responses.shape[1], self._game.vocabulary
        prompts = jnp.repeat(jnp.arange(self._n, dtype=jnp.int32), n)[:, None]
        stop = np.array([[vocabulary - 1]] if self._game.ends else np.zeros((0, 1)), np.int32)
        data, one = jax.random.key_data(key), np.float32(1)
        settings: Any = (data, np.int32(length), one, np.int32(vocabulary), one, stop)
        generator, group = str(jax.random.key_impl(key)), n if self._spread else 0
        shape = generate.Shape(length, False, False, vocabulary - 1, generator, spread=group)
        padding = jnp.zeros(len(prompts), jnp.int32)
        found = generate.run(source.decoder, shape, source.weights, (prompts, padding), Settings(*settings))
        first = jnp.ones_like(prompts, bool)
        return Samples(
            jnp.concatenate([prompts, found.tokens], axis=1),
            jnp.concatenate([first, found.mask], axis=1),
            jnp.concatenate([~first, found.mask], axis=1),
            jnp.concatenate([jnp.zeros(prompts.shape, jnp.float32), found.log_probs], axis=1),
        )

    def compare(self, ours: Samples, theirs: Samples | None = None) -> Float[Array, "N G H"]:
        """See `Arena`."""
        a = self._indices(ours)
        b = a if theirs is None else self._indices(theirs)
        found = jax.vmap(lambda table, i, j: table[i[:, None], j[None, :]])(self._arrays.preferences, a, b)
        if theirs is not None or not self._spread:
            return found
        half = jnp.arange(a.shape[1]) % 2
        return jnp.where(half[:, None] == half[None, :], jnp.nan, found)

    def _indices(self, samples: Samples) -> Int[Array, "N G"]:
        digits = jnp.asarray(_digits(self._game), jnp.int32)
        codes = jnp.sum(samples.tokens[:, 1:] * digits[None, :], axis=1)
        return self._arrays.numbered[codes].reshape(self._n, -1)


def _of_responses(source: Source, tokens: Int[Array, "B T"], mask: Bool[Array, "B T"]) -> Float[Array, " B"]:
    return jnp.sum(scoring.log_probs(source.decoder, source.weights, tokens, mask, 64), axis=1)
