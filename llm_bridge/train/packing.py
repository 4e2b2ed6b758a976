"""Rows of a round sorted by the length of their answers, and learned from in tiles of a few shapes.

Where most answers are short and a few are long, rows as long as the longest are mostly padding. Sorted, the longest
rows go through the model first, a few at a time, and shorter ones in tiles of more rows and fewer columns:

    answers   |||||||||||||||||            2 rows of 2048 columns
              ||||||||||                   3 of 1248
              ||||||                       5 of 768, and so on

All shapes are in one program, chosen once a run; how many tiles of which shape a round has is no part of it. Answers
of a group are apart then, so their prompt is read before, once for all tiles, and its gradient is added up over them.
A tile reaches back over rows that were in the tile before where there are too few left; these count once.

Every share of the rows on a mesh has tiles of its own, at the same time and of the same shape, so a share waits for the
longest row of all; groups are dealt to the shares so that each has some with long answers. The loss, its gradient and
all metrics are those of `Learner`, sums taken in another order.

Letters: as in `llm_bridge.train.arena`; S shares that rows are divided among; b rows of a share, of one part; K parts
of a round; Q most tiles of a part; P columns of prompts, R of answers.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from llm_bridge.model import sharding
from llm_bridge.model.network import Weights
from llm_bridge.policy import scoring
from llm_bridge.train.arena import Samples
from llm_bridge.train.learning import LARGEST, UNKNOWN, Learner, Once, RoundRows, added, metrics_of, sums
from llm_bridge.train.objective import Judged, Numbers

LEAST = 2048  # tokens of answers in a tile on a share
MOST = 4096  # of them, enough to multiply with while the next layer's weights arrive: 3,000 on v5e, v5p and H100
PORTIONS = 64  # of a share's rows, as far as that leaves so many tokens: with fewer the last ones are padding
NARROWER, MULTIPLE = 0.65, 32  # each width of the one before, and what widths are multiples of
FEWEST, MOST_SHAPES = 64, 7  # columns of the narrowest tile, and how many widths there are
EXCHANGES = 4096  # of two groups, that are tried at most: a tenth of a second
WORTH = 8  # tiles of the longest rows: with fewer there is little to sort


def shapes_of(n_rows: int, longest: int, gathers: bool) -> tuple[tuple[int, int], ...]:
    """Rows and columns of tiles, the longest first; none where sorting is not worth it.

    Args:
        n_rows: of a part, on a share.
        longest: columns of the longest answer that may come.
        gathers: whether weights have to be gathered for every tile.
    """
    least = -(-(MOST if gathers else LEAST) // longest)
    at_once, widths = max(least, min(MOST // longest, n_rows // PORTIONS)), [longest]
    while len(widths) < MOST_SHAPES and (width := -(-int(NARROWER * widths[-1]) // MULTIPLE) * MULTIPLE) >= FEWEST:
        if width == widths[-1]:
            break
        widths.append(width)
    if n_rows < WORTH * at_once or len(widths) < 4:
        return ()
    return tuple((min(n_rows, at_once * longest // width), width) for width in widths)


def dealt(lengths: Int[np.ndarray, "N G"], n_shares: int, shapes: tuple[tuple[int, int], ...]) -> Int[np.ndarray, " N"]:
    """Groups in an order whose equal parts, the shares, have about the same lengths of answers.

    They are dealt by their longest answer, to and fro. Then two groups of different shares are exchanged as long as
    that takes fewer columns. Where the shares do not divide the groups, these stay in their order.

    Args:
        lengths: of each group's answers.
        n_shares: S.
        shapes: of tiles.
    """
    if len(lengths) % n_shares or n_shares == 1:
        return np.arange(len(lengths))
    order = np.argsort(-lengths.max(axis=1), kind="stable").reshape(-1, n_shares)
    order[1::2] = order[1::2, ::-1]
    order = order.T.ravel()

    def cost(order: np.ndarray) -> tuple[int, int]:
        most = np.sort(lengths[order].reshape(n_shares, -1), axis=1).max(axis=0)[::-1]
        return sum(shapes[kind][0] * shapes[kind][1] for _, kind in cut(most, shapes)), int(most.sum())

    each, least, n_tried, is_better = len(order) // n_shares, cost(order), 0, True
    while is_better and n_tried < EXCHANGES:
        is_better = False
        for i, j in itertools.combinations(range(len(order)), 2):
            if i // each == j // each or n_tried >= EXCHANGES:
                continue
            order[[i, j]], n_tried = order[[j, i]], n_tried + 1
            if (found := cost(order)) < least:
                least, is_better = found, True
            else:
                order[[i, j]] = order[[j, i]]
    return order


def cut(lengths: Int[np.ndarray, " b"], shapes: tuple[tuple[int, int], ...]) -> list[tuple[int, int]]:
    """First row and shape of each tile; as few tiles as there can be, since all cost the same.

    Args:
        lengths: of answers, the longest first.
        shapes: as `shapes_of` gives them.
    """
    found, first = [], 0
    while first < len(lengths):
        kind = max(k for k, (_, width) in enumerate(shapes) if k == 0 or width >= lengths[first])
        found.append((first, kind))
        first += shapes[kind][0]
    return found


class Packed(NamedTuple):
    """A round's rows, sorted.

    Attributes:
        prompts, real: a prompt for as many rows as share its reading, and which tokens are no padding.
        tokens, mask: of answers.
        log_probs: of their tokens, by the sampler.
        of: which prompt each row follows, counted in its share.
        row: which of the round's rows each is.
        weight: of each row in the round's mean; 0 for rows that fill up.
        first, kind, n_tiles: of the tiles.
    """

    prompts: Int[Array, "K Sn P"]
    real: Bool[Array, "K Sn P"]
    tokens: Int[Array, "K S b R"]
    mask: Bool[Array, "K S b R"]
    log_probs: Float[Array, "K S b R"]
    of: Int[Array, "K S b"]
    row: Int[Array, "K S b"]
    weight: Float[Array, "K S b"]
    first: Int[Array, "K Q"]
    kind: Int[Array, "K Q"]
    n_tiles: Int[Array, " K"]


def packed(samples: Samples, group: int, n_parts: int, mesh: Mesh, shapes: tuple[tuple[int, int], ...]) -> Packed:
    """Sort a round's rows, on the host, and put them on the mesh.

    Args:
        samples: draws, whose responses are the last `answers` columns.
        group: G.
        n_parts: in which the prompts go through the model.
        mesh: of what is trained.
        shapes: of tiles.
    """
    tokens, mask, _, log_probs = sharding.gathered(samples[:4])
    share = np.full(len(tokens), 1 / group) if samples.share is None else np.asarray(samples.share).ravel()
    n_shares, (n_all, length) = sharding.n_row_shares(mesh), tokens.shape
    assert samples.answers is not None
    n_rows, before = n_all // n_parts, length - samples.answers
    same = scoring.shared_rows(n_rows, group, n_shares)
    n_filled = -n_rows % n_shares
    by_group = mask[:, before:].sum(axis=1).reshape(n_parts, -1, group)
    groups = [i * by_group.shape[1] + dealt(part, n_shares, shapes) for i, part in enumerate(by_group)]
    given = (np.concatenate(groups)[:, None] * group + np.arange(group)).ravel()
    tokens, mask, log_probs = (part[given] for part in (tokens, mask, log_probs))

    def by_part(array: np.ndarray, columns: slice, width: int) -> np.ndarray:
        found = array[:, columns][:, :width].reshape(n_parts, n_rows, -1)
        return np.pad(found, ((0, 0), (0, n_filled), (0, width - found.shape[2])))

    prompts = [by_part(part, slice(before), before)[:, ::same] for part in (tokens, mask)]
    own = [by_part(part, slice(before, None), shapes[0][1]) for part in (tokens, mask, log_probs)]
    own = [part.reshape(n_parts, n_shares, -1, part.shape[2]) for part in own]
    lengths = own[1].sum(axis=3)
    order = np.argsort(-lengths, axis=2, kind="stable")
    own = [np.take_along_axis(part, order[..., None], axis=2) for part in own]
    at = order + np.arange(n_shares)[None, :, None] * order.shape[2]  # in the part
    row = given[np.minimum(at, n_rows - 1) + np.arange(n_parts)[:, None, None] * n_rows]
    weight = np.where(at < n_rows, share[row] * (group / n_all), 0)
    tiles = [cut(of_part, shapes) for of_part in np.take_along_axis(lengths, order, axis=2).max(axis=1)]
    table = np.zeros((2, n_parts, -(-order.shape[2] // shapes[0][0])), np.int32)
    for part, found in enumerate(tiles):
        table[:, part, : len(found)] = np.array(found).T
    arrays = (*prompts, *own, order // same, row, weight)
    kinds = (np.int32, bool, np.int32, bool, np.float32, np.int32, np.int32, np.float32)
    put = [
        sharding.put(array.astype(kind), sharding.rows(mesh, array.ndim, rows_at=1))
        for array, kind in zip(arrays, kinds, strict=True)
    ]
    counted = (*table, np.array([len(found) for found in tiles], np.int32))
    return Packed(*put, *(sharding.put(part, sharding.whole(mesh)) for part in counted))


class _Tile(NamedTuple):
    """Some rows of a part: where they begin, and the rows of each array."""

    start: Int[Array, ""]
    tokens: Int[Array, "B R"]
    mask: Bool[Array, "B R"]
    log_probs: Float[Array, "B R"]
    of: Int[Array, "S m"]
    row: Int[Array, " B"]
    weight: Float[Array, "B 1"]


def _tile(part: Packed, shape: tuple[int, int], first: Int[Array, ""]) -> _Tile:
    """The tile of this shape that begins with this row, or reaches back from the last one; `part` has no axis K."""
    n_rows = shape[0]
    start = jnp.minimum(first, part.of.shape[1] - n_rows)
    tokens, mask, scores = (_rows_of(array, start, shape) for array in (part.tokens, part.mask, part.log_probs))
    of, row, weight = (
        jax.lax.dynamic_slice_in_dim(array, start, n_rows, axis=1) for array in (part.of, part.row, part.weight)
    )
    is_new = start + jnp.arange(n_rows, dtype=jnp.int32) >= first
    weight = jnp.where(is_new[None, :], weight, 0).reshape(-1, 1)
    return _Tile(start, tokens, mask, scores, of, row.reshape(-1), weight)


def _rows_of(array: Array, start: Int[Array, ""], shape: tuple[int, int]) -> Array:
    """[B, R, ...] of [S, b, R, ...]."""
    found = jax.lax.dynamic_slice_in_dim(array, start, shape[0], axis=1)[:, :, : shape[1]]
    return found.reshape(-1, *found.shape[2:])


def _written(array: Array, start: Int[Array, ""], rows: Array) -> Array:
    """The inverse: the array with these rows in it."""
    new = rows.reshape(array.shape[0], -1, *rows.shape[1:]).astype(array.dtype)
    zero = jnp.zeros((), jnp.int32)
    return jax.lax.dynamic_update_slice(array, new, (zero, start, *[zero] * (array.ndim - 2)))


class _Total(NamedTuple):
    """Of some tiles: loss, gradient, `sums`, and log-probabilities by pi_k as far as they are known."""

    loss: Float[Array, ""]
    gradient: Weights
    sums: dict[str, Array]
    before: Any


@dataclass(frozen=True)
class PackedLearner(Learner):
    """A `Learner` of rows that are sorted.

    Attributes:
        shapes: of tiles.
    """

    shapes: tuple[tuple[int, int], ...] = ()

    def steps(
        self, trained: Any, samples: Any, judged: Judged, numbers: Numbers, rate: Array, others: Any
    ) -> tuple[Any, dict[str, Array]]:
        """E steps; `samples` is a `Packed`, everything else is as of `Learner.steps`."""
        base, magnet, initial = others
        heads = self._heads(base, magnet, trained[0], initial)
        start = base | initial if initial and self.objective.magnet != "whole" else None
        once = jax.lax.map(partial(self._once_of_part, heads, start), samples)
        payoff = judged.payoff.reshape(-1)

        def evaluated(weights: Weights, before: Array) -> _Total:
            def add(total: _Total, given: Any) -> tuple[_Total, Array]:
                found = self._of_part((weights, base), heads, (payoff, numbers), given, total)
                return found._replace(before=None), found.before

            total, before = jax.lax.scan(add, self._nothing(weights, bool(initial)), (samples, once, before))
            return total._replace(before=before)

        def step(carry: tuple[Any, Array], _: None) -> tuple[tuple[Any, Array], dict[str, Array]]:
            found = evaluated(carry[0][0], carry[1])
            new, norm = self._updated(carry[0], found.loss, found.gradient, rate)
            return (new, found.before), {"loss": found.loss, "grad_norm": norm} | metrics_of(found.sums)

        unknown = jnp.full_like(samples.log_probs, UNKNOWN)
        (after, _), found = jax.lax.scan(step, (trained, unknown), length=self.epochs)
        return self._ended(trained[2], after, found)

    def _activations(self, weights: Weights, rows: RoundRows) -> Float[Array, "_ R D"]:
        read, real, of = rows.prompts
        return self.decoder.continued(weights, read, real, (rows.tokens, rows.mask), of)

    def _nothing(self, weights: Weights, has_start: bool) -> _Total:
        """Of no rows; `has_start` says whether the start is there to be compared with."""
        names = ["entropy", "tokens", "kl/step", LARGEST]
        names += ["kl/magnet"] * (self.objective.magnet == "whole") + ["kl/initial"] * has_start
        zero = jnp.zeros((), jnp.float32)
        return _Total(zero, jax.tree.map(jnp.zeros_like, weights), dict.fromkeys(names, zero), None)

    def _over(self, part: Packed, function: Callable[[_Tile, Any], Any], carry: Any) -> Any:
        """What a function carries from tile to tile."""

        def of_shape(shape: tuple[int, int], first: Array, carry: Any) -> Any:
            return function(_tile(part, shape, first), carry)

        def body(i: Array, carry: Any) -> Any:
            branches = [partial(of_shape, shape) for shape in self.shapes]
            return jax.lax.switch(part.kind[i], branches, part.first[i], carry)

        return jax.lax.fori_loop(jnp.zeros((), jnp.int32), part.n_tiles, body, carry)

    def _once_of_part(self, heads: tuple[Weights, ...], start: Weights | None, part: Packed) -> Once:
        """What is computed once a round; `start`, all weights of it, where its log-probabilities are enough."""
        everyone = heads if start is None else (*heads, start)
        read = [self.decoder.read(each, (part.prompts, part.real)) for each in everyone]
        room = part.tokens.shape
        hidden = tuple(jnp.zeros((*room, each.last.shape[-1]), each.last.dtype) for each in read[: len(heads)])
        once = Once(hidden, None, None if start is None else jnp.zeros(room, jnp.float32))

        def add(tile: _Tile, once: Once) -> Once:
            def activations(weights: Weights, prompts: Any) -> Array:
                return self.decoder.continued(weights, prompts, part.real, (tile.tokens, tile.mask), tile.of)

            found = [activations(each, prompts) for each, prompts in zip(heads, read, strict=False)]
            hidden = tuple(_written(old, tile.start, new) for old, new in zip(once.hidden, found, strict=True))
            if start is None or once.initial is None:
                return Once(hidden, None, None)
            chunk, last = self._chunk(tile.mask.shape), activations(start, read[-1])
            found = jnp.where(tile.mask, scoring.scores(self.decoder, start, last, tile.tokens, chunk), 0)
            return Once(hidden, None, _written(once.initial, tile.start, found))

        return self._over(part, add, once)

    def _of_part(
        self,
        weights: tuple[Weights, Weights],
        heads: tuple[Weights, ...],
        known: tuple[Array, Numbers],
        given: tuple[Packed, Once, Array],
        total: _Total,
    ) -> _Total:
        """A part's rows added to a total; `weights` are those that are trained and all others."""
        (trained, base), (payoff, numbers), (part, once, before) = weights, known, given
        prompts = (part.prompts, part.real)
        read, back = jax.vjp(lambda trained: self.decoder.read(base | trained, prompts), trained)

        def add(tile: _Tile, carry: tuple[_Total, Any]) -> tuple[_Total, Any]:
            total, of_read = carry
            shape = (tile.of.shape[1], tile.tokens.shape[1])
            own = jax.tree.map(lambda array: _rows_of(array, tile.start, shape), (once, total.before))
            rows = _as_rows(tile, payoff, *own)

            def loss(trained: Weights, read: Any) -> Any:
                mine = rows._replace(prompts=(read, part.real, tile.of))
                return self.loss(trained, mine, base, heads, numbers, True)

            (value, (seen, to_start)), slopes = jax.value_and_grad(loss, (0, 1), has_aux=True)(trained, read)
            gradient, of_read = jax.tree.map(_sum, (total.gradient, of_read), slopes)
            found = added(total.sums, sums(seen, tile.log_probs, to_start))
            before = _written(total.before, tile.start, seen.before)
            return _Total(total.loss + value, gradient, found, before), of_read

        wide = jax.tree.map(lambda array: jnp.zeros(array.shape, jnp.float32), read)
        found, of_read = self._over(part, add, (total._replace(before=before), wide))
        (of_prompts,) = back(jax.tree.map(lambda slope, array: slope.astype(array.dtype), of_read, read))
        return found._replace(gradient=jax.tree.map(jnp.add, found.gradient, of_prompts))


def _as_rows(tile: _Tile, payoff: Array, once: Once, before: Array) -> RoundRows:
    """A tile's rows, each a group of its own."""
    nobody = jnp.full((tile.row.shape[0], 1, 1), jnp.nan, jnp.float32)
    judged = Judged(payoff[tile.row][:, None], nobody)
    return RoundRows(tile.tokens, tile.mask, tile.mask, tile.weight, judged, once, before)


def _sum(total: Array, more: Array) -> Array:
    """In the precision of the total."""
    return total + more.astype(total.dtype)
