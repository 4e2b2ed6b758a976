"""Rows of any length through a decoder, a few at a time, to the activations of each row's last token."""

from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from llm_bridge.model.network import Network, Weights
from llm_bridge.model.sharding import n_row_shares, whole
from llm_bridge.policy.generate import bucket


def batches(
    rows: Sequence[Sequence[int]], n_rows: int, mesh: Mesh
) -> Iterator[tuple[Int[np.ndarray, " _"], Int[np.ndarray, "B T"], Bool[np.ndarray, "B T"]]]:
    """Rows of similar length together, so that little is padding and few shapes are compiled.

    Args:
        rows: token ids; empty ones are left out.
        n_rows: for each share of the mesh's rows, B in all; the last batch is filled up with copies of its first row.
        mesh: of the decoder.

    Yields:
        Which rows these are (at most B), their tokens and which of these are tokens.
    """
    n_rows = n_rows * n_row_shares(mesh)
    order = np.array([i for i in np.argsort([len(row) for row in rows], kind="stable") if len(rows[i])], int)
    for begin in range(0, len(order), n_rows):
        index = order[begin : begin + n_rows]
        yield index, *padded([rows[i] for i in [*index, *[index[0]] * (n_rows - len(index))]])


def padded(rows: Sequence[Sequence[int]]) -> tuple[Int[np.ndarray, "B T"], Bool[np.ndarray, "B T"]]:
    """Rows as one array, padded at their ends to one of a few lengths, and which of it are tokens."""
    shape = len(rows), bucket(max(map(len, rows)))
    tokens, mask = np.zeros(shape, np.int32), np.zeros(shape, bool)
    for i, row in enumerate(rows):
        tokens[i, : len(row)], mask[i, : len(row)] = row, True
    return tokens, mask


def last_activations(
    decoder: Network, weights: Weights, tokens: Int[Array, "B T"], mask: Bool[Array, "B T"]
) -> Float[Array, "B D"]:
    """Normalised activations of the last token of each row; traced."""
    hidden = decoder.hidden(weights, tokens, mask)
    place = jnp.argmax(jnp.where(mask, jnp.arange(mask.shape[1], dtype=jnp.int32)[None, :], -1), axis=1)
    return jnp.take_along_axis(hidden, place[:, None, None], axis=1)[:, 0]


def on_mesh(decoder: Network, array: np.ndarray) -> jax.Array:
    """An array that every device of the decoder's mesh has."""
    return jax.device_put(array, whole(decoder.mesh))
