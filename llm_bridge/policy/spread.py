"""Draws of a group that are spread evenly: arithmetic sampling, in two halves that are independent of each other.

A *code* in [0, 1) stands for an answer. The probabilities of the next token divide the interval into parts; the code
lies in the part of the token that is taken, and its place within that part is the code of what follows. With a uniform
code the answer is a draw from the policy. G codes of equal distances and one uniform shift give G answers, each of them
such a draw, whose frequencies are as near to the policy's as whole numbers allow, where independent draws miss them
like 1 / sqrt(G).

Source: Vilnis et al., "Arithmetic Sampling: Parallel Diverse Decoding for Large Language Models", ICML 2023.

*Why two halves.* The gradient of MPO is a mean over pairs of an answer and its opponent, and is right on average only
if the two are independent. Answers of one shift are not. Pairs that are all independent would need codes of which any
two are, and the variance of a mean of such codes is that of independent draws: what is gained is dependence. So a group
has two halves, each with a shift of its own, and an answer is compared with those of the other half. Both sides of a
pair are then spread, the mean is the same, and half as many pairs are compared (`MPO.spread_draws`).

Rows of a group belong to the halves by turns, and codes are dealt to the rows of a half at random, so that a row's
number says nothing of its answer.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt32

RESOLUTION = 2.0**-24  # of a code; what is finer has not been drawn yet


def codes(key: Key[Array, ""], n_rows: int, group: int) -> Float[Array, " B"]:
    """Of so many rows, group by group; a group's own depend on the key and its number only.

    Args:
        key: of the draws.
        n_rows: B; the last group may be cut.
        group: G, an even number.
    """
    half = group // 2

    def of_half(key: Key[Array, ""]) -> Array:
        for_places, for_shift = jax.random.split(key)
        places = jax.random.permutation(for_places, jnp.arange(half, dtype=jnp.float32))
        shift = jax.random.uniform(for_shift, dtype=jnp.float32)
        return jnp.minimum((places + shift) / half, 1 - RESOLUTION)

    def of_group(number: UInt32[Array, ""]) -> Array:
        return jax.vmap(of_half, out_axes=1)(jax.random.split(jax.random.fold_in(key, number))).ravel()

    return jax.vmap(of_group)(jnp.arange(-(-n_rows // group), dtype=jnp.uint32)).ravel()[:n_rows]


def taken(
    logits: Float[Array, "B V"], codes: Float[Array, " B"], keys: Key[Array, " B"]
) -> tuple[Int[Array, " B"], Float[Array, " B"]]:
    """The token in whose part each code lies, and the code of what follows.

    A token has the probability that the logits say, up to about 1e-7. The vocabulary is divided into blocks of its
    square root first, and the block that is taken into tokens.

    Args:
        logits: of the next token.
        codes: of the rows.
        keys: of each row, for the digits of its code that the token leaves open.
    """
    n = logits.shape[1]
    size = math.isqrt(n - 1) + 1
    weights = jnp.exp(logits - jnp.max(logits, axis=1, keepdims=True))
    blocks = jnp.pad(weights, ((0, 0), (0, -n % size))).reshape(len(weights), -1, size)
    finer = jax.vmap(lambda key: jax.random.uniform(key, (2,), jnp.float32))(keys)
    block, codes = _divided(jnp.sum(blocks, axis=2), codes, finer[:, 0])
    tokens = jnp.take_along_axis(blocks, block[:, None, None], axis=1)[:, 0]
    token, codes = _divided(tokens, codes, finer[:, 1])
    return block * size + token, codes


def _divided(
    weights: Float[Array, "B K"], codes: Float[Array, " B"], finer: Float[Array, " B"]
) -> tuple[Int[Array, " B"], Float[Array, " B"]]:
    """The part of [0, 1) that each code lies in, parts being as long as the weights say, and its place in that part.

    Args:
        weights: of each part, in any unit; a part of none is not taken.
        codes: of the rows.
        finer: what comes after the last digit of the codes, in [0, 1).
    """
    ends = jnp.cumsum(weights, axis=1)
    place = codes[:, None] * ends[:, -1:]
    beyond = (ends > place) & (weights > 0)  # of which the first is it
    part = jnp.where(jnp.any(beyond, axis=1), jnp.argmax(beyond, axis=1), jnp.argmax(weights, axis=1))
    part = part.astype(jnp.int32)
    length, end = (jnp.take_along_axis(each, part[:, None], axis=1) for each in (weights, ends))
    inside = (place - end + length + RESOLUTION * ends[:, -1:] * finer[:, None]) / length
    return part, jnp.clip(inside[:, 0], 0, 1 - RESOLUTION)
