"""How the infosets of a treeplex are laid out: blocks that a sweep can reshape, and groups of blocks that it pads.

Infosets are sorted by (level, number of actions, parent sequence). A block is a run with one level and one number of
actions. XLA compiles a few kernels for every array shape: a level with a dozen numbers of actions (liar's dice) costs
a dozen times the compile time and launches of one. There, neighbouring blocks share a group, padded to the largest.
Everything here is static: NumPy and tuples, no JAX.
"""

from functools import lru_cache
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

MAX_BLOCKS = 3  # a level with more is cut into groups
GROUP_ENTRIES = 12_000  # what one more group of infosets costs, in entries
PADDED_ENTRY = 3  # what an entry costs that is gathered


class Block(NamedTuple):
    """A run of infosets with the same level and the same number of actions; offsets into the arrays [I] and [S]."""

    level: int
    n_actions: int
    first_infoset: int
    n_infosets: int
    first_sequence: int

    @property
    def infosets(self) -> slice:
        """Where the block lies in an array over infosets."""
        return slice(self.first_infoset, self.first_infoset + self.n_infosets)

    @property
    def sequences(self) -> slice:
        """Where the block lies in an array over sequences."""
        return slice(self.first_sequence, self.first_sequence + self.n_infosets * self.n_actions)


class Group(NamedTuple):
    """Neighbouring blocks of one level that a sweep handles as one [n, A] array, A the largest number of actions.

    A group of one block is a reshape. Several blocks are padded: that costs a gather and some idle entries, and saves
    kernels, of which a level with a dozen numbers of actions would otherwise need a dozen times as many.
    """

    level: int
    n_actions: int
    infosets: slice
    sequences: slice
    padded: bool

    @property
    def n_infosets(self) -> int:
        """Number of infosets, the n of [n, A]."""
        return self.infosets.stop - self.infosets.start


def in_blocks(level: Int[np.ndarray, " I"], n_actions: Int[np.ndarray, " I"]) -> tuple[Block, ...]:
    """Blocks of sorted infosets."""
    if len(level) == 0:
        return ()
    starts = np.flatnonzero(np.diff(level, prepend=-1) | np.diff(n_actions, prepend=-1))
    counts = np.diff(starts, append=len(level))
    first_sequence = 1 + np.concatenate([[0], np.cumsum(n_actions)])[starts]
    return tuple(
        Block(int(level[i]), int(n_actions[i]), int(i), int(n), int(f))
        for i, n, f in zip(starts, counts, first_sequence, strict=True)
    )


@lru_cache(maxsize=256)
def in_levels(blocks: tuple[Block, ...]) -> tuple[tuple[Block, ...], ...]:
    """The blocks of each level."""
    return tuple(tuple(level) for _, level in groupby(blocks, key=attrgetter("level")))


@lru_cache(maxsize=256)
def in_spans(blocks: tuple[Block, ...]) -> tuple[tuple[slice, slice], ...]:
    """Where each level lies in arrays over infosets and over sequences."""
    return tuple(
        (
            slice(level[0].infosets.start, level[-1].infosets.stop),
            slice(level[0].sequences.start, level[-1].sequences.stop),
        )
        for level in in_levels(blocks)
    )


@lru_cache(maxsize=16)
def numbers_of_actions(blocks: tuple[Block, ...]) -> Int[np.ndarray, " I"]:
    """Of each infoset."""
    counts = np.repeat([b.n_actions for b in blocks], [b.n_infosets for b in blocks]).astype(np.int64)
    counts.setflags(write=False)
    return counts


@lru_cache(maxsize=256)
def in_groups(blocks: tuple[Block, ...]) -> tuple[tuple[Group, ...], ...]:
    """Every level in groups: a block each where they are few, else cut so that entries and groups cost least."""
    return tuple(
        _cut(level) if len(level) > MAX_BLOCKS else tuple(_merged((b,)) for b in level) for level in in_levels(blocks)
    )


def _cut(level: tuple[Block, ...]) -> tuple[Group, ...]:
    """The cheapest partition of a level into runs of blocks, by dynamic programming over where a run ends."""
    best: list[tuple[float, tuple[Group, ...]]] = [(0.0, ())]
    for end in range(1, len(level) + 1):
        candidates = []
        for begin in range(end):
            group = _merged(level[begin:end])
            entries = group.n_infosets * group.n_actions * (PADDED_ENTRY if group.padded else 1)
            candidates.append((best[begin][0] + entries + GROUP_ENTRIES, (*best[begin][1], group)))
        best.append(min(candidates, key=lambda candidate: candidate[0]))
    return best[-1][1]


def _merged(run: tuple[Block, ...]) -> Group:
    """A run of blocks as one group."""
    first, last = run[0], run[-1]
    infosets = slice(first.infosets.start, last.infosets.stop)
    return Group(first.level, last.n_actions, infosets, slice(first.sequences.start, last.sequences.stop), len(run) > 1)


def depth_of(parent: Int[np.ndarray, " I"]) -> Int[np.ndarray, " I"]:
    """Number of ancestors in a forest given by parent indices (-1 at roots), by pointer doubling."""
    ancestor = np.asarray(parent).copy()
    depth = (ancestor >= 0).astype(np.int64)
    while (ancestor >= 0).any():
        inner = ancestor >= 0
        depth[inner] += depth[ancestor[inner]]
        ancestor[inner] = ancestor[ancestor[inner]]
    return depth


@lru_cache(maxsize=16)
def padded_levels(blocks: tuple[Block, ...]) -> tuple[Int[np.ndarray, "L W"], Int[np.ndarray, "L W A"]]:
    """Infosets and sequences of every level, padded to one shape; I and S mark what does not exist."""
    levels, n_actions = in_levels(blocks), max(b.n_actions for b in blocks)
    width = max(sum(b.n_infosets for b in level) for level in levels)
    infosets = np.full((len(levels), width), blocks[-1].infosets.stop, np.int32)
    sequences = np.full((len(levels), width, n_actions), blocks[-1].sequences.stop, np.int32)
    for row, level in enumerate(levels):
        at = 0
        for b in level:
            span = slice(at, at + b.n_infosets)
            infosets[row, span] = np.arange(b.infosets.start, b.infosets.stop)
            sequences[row, span, : b.n_actions] = np.arange(b.sequences.start, b.sequences.stop).reshape(
                -1, b.n_actions
            )
            at += b.n_infosets
    return infosets, sequences
