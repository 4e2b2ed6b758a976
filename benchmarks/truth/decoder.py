"""A decoder on games so small that every prefix is known: it reads each prefix once and looks the rest up.

A round has 64 responses of three tokens, but there are only 16 pairs of first tokens, so the network runs on 16 rows of
three tokens a prompt instead of 64 rows of four, and a generation is one pass. The function is the same, and so is its
gradient.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from llm_bridge.model.decoder import Decoder, Weights

LENGTH = 3  # tokens of a row: prompt, first, second


class Place(NamedTuple):
    """Where a row stands in the table.

    Attributes:
        table: logits after every prefix, by row and position.
        row: the first row that begins with the row's tokens.
    """

    table: Float[Array, "S t V"]
    row: Int[Array, " B"]


@dataclass(frozen=True)
class PrefixTable(Decoder):
    """A decoder whose activations are logits.

    Attributes:
        n_prompts: prompt x is the token x.
        n_tokens: that a response goes on after; an end token is none of them.
    """

    n_prompts: int = 1
    n_tokens: int = 1

    def table(self, weights: Weights) -> Float[Array, "S t V"]:
        """Logits after each token of each row of prompt, first and second token, in the order of their numbers."""
        sizes = (range(self.n_prompts), *[range(self.n_tokens)] * (LENGTH - 1))
        rows = jnp.asarray(np.array(list(product(*sizes)), np.int32))
        return super().logits(weights, super().hidden(weights, rows, jnp.ones(rows.shape, bool)))

    def hidden(self, weights: Weights, tokens: Int[Array, "B T"], mask: Bool[Array, "B T"]) -> Float[Array, "B T V"]:
        """Logits; zeros after the last token of the longest responses, where nothing follows."""
        table, n = self.table(weights), self.n_tokens
        taken = jnp.minimum(tokens[:, :LENGTH], n - 1)  # end tokens and padding, after which nothing is asked
        place = jnp.asarray([[n**2, n, 1]], jnp.int32) * taken
        rows = jnp.minimum(jnp.cumsum(place, axis=1), len(table) - 1)
        found = jnp.stack([table[rows[:, t], t] for t in range(rows.shape[1])], axis=1)
        return jnp.pad(found, ((0, 0), (0, tokens.shape[1] - LENGTH), (0, 0)))

    def prefill(  # pyrefly: ignore[bad-override] - a place in the table is its cache
        self, weights: Weights, tokens: Int[Array, "N P"], padding: Int[Array, " N"], n_slots: int, copies: int = 1
    ) -> tuple[Float[Array, "B V"], Place]:
        """See `Decoder`; prompts are one token."""
        place = Place(self.table(weights), jnp.repeat(tokens[:, 0], copies) * self.n_tokens**2)
        return place.table[place.row, 0], place

    def apart(  # pyrefly: ignore[bad-override]
        self, weights: Weights, cache: Place, n_tokens: int
    ) -> tuple[Weights, Place]:
        """See `Decoder`."""
        return weights, cache

    def step(  # pyrefly: ignore[bad-override]
        self, weights: Weights, tokens: Int[Array, " B"], slot: Int[Array, ""], cache: Place
    ) -> tuple[Float[Array, "B V"], Place]:
        """See `Decoder`."""
        n = self.n_tokens
        row = cache.row + jnp.minimum(tokens, n - 1) * jnp.where(slot == 1, n, 1)
        return cache.table[row, slot], Place(cache.table, row)

    def logits(self, weights: Any, hidden: Float[Array, "... V"]) -> Float[Array, "... V"]:
        """Activations are logits already."""
        return hidden


def reading(decoder: Decoder, n_prompts: int, n_tokens: int) -> PrefixTable:
    """The same decoder, reading each prefix once."""
    return PrefixTable(**vars(decoder), n_prompts=n_prompts, n_tokens=n_tokens)
