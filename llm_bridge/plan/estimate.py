"""A round's bytes, products, moves and seconds from shapes alone, without a compiler.

Weights, moments and samples are exact. What is there in passing is counted from the program's parts: the copies in the
precision of activations that XLA makes outside of loops, a layer's weights gathered, what the backward pass keeps, the
head, the logits of a chunk. `MARGIN` is for what a compiler adds.

Times are of chips at their published peaks: products, reads of memory, and moves over links. A phase lasts at least as
long as the longest of them, if the others hide behind it, and as long as their sum, if nothing hides. A real round does
not reach the peaks. Letters: as in `llm_bridge.plan.work`; D width, V vocabulary, L layers.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from llm_bridge.model.architecture import Architecture
from llm_bridge.model.sharding import RULES
from llm_bridge.model.weights import weights as table_of
from llm_bridge.plan.hardware import Chip
from llm_bridge.plan.work import LINEAR, Axes, LocalJudge, Work
from llm_bridge.policy import layout
from llm_bridge.policy.generate import bucket
from llm_bridge.policy.scoring import LOGITS_AT_A_TIME, chunk_length, shared_rows
from llm_bridge.train.packing import shapes_of

FLOAT = 4
MARGIN = 1.06
GATHERS = 4  # of each layer for the gradient of a part: forward, again for the backward pass, and there for each factor
LOGITS = 3  # arrays of a chunk's size at once
HIDDEN = 4  # arrays of the size of what logits are made from: itself, in the order of chunks, and slopes
# With gaps between arrays, where tiles of sorted rows are branches, each with an order of its own.
GAPS, ADAPTER_GAPS = 1.22, 1.03
JUDGED = 2  # tokens a judge reads for each token of an answer: two answers a question
QUESTION, HEADINGS = 256, 32  # tokens around a prompt and two answers: of a judge that is asked, of a trained one
# Arrays of the MLP's and of the model's width that a judge holds at once; from so many shares of a weight on, XLA may
# multiply with a share while the next one moves, and holds more.
READING, IN_STEPS, FEW_SHARES = (2, 3), (3, 5), 4


@dataclass(frozen=True)
class Estimate:
    """Of a round, for each chip.

    Attributes:
        memory: bytes at the worst moment, by what they are for.
        during: bytes, by phase: "update", "generation", "judging", and "judging elsewhere" on a judge's own chips.
        flops: of products, by phase: "generation", "judging", "update".
        moved: bytes over links, by phase.
        read: bytes of memory read by generation.
        seconds: at least, by phase: the longest of products, moves and reads.
        in_turn: seconds by phase if none of the three hides behind another.
        useful: products of an update that its mathematics needs, recomputed ones left out.
    """

    memory: Mapping[str, float]
    during: Mapping[str, float]
    flops: Mapping[str, float]
    moved: Mapping[str, float]
    read: float
    seconds: Mapping[str, float]
    in_turn: Mapping[str, float]
    useful: float

    @property
    def bytes(self) -> float:
        """All of memory."""
        return sum(self.memory.values())

    @property
    def round_seconds(self) -> float:
        """At least, of a round."""
        return sum(self.seconds.values())

    @property
    def round_in_turn(self) -> float:
        """Seconds of a round at the chips' peaks, if nothing hides behind anything."""
        return sum(self.in_turn.values())


def estimate(a: Architecture, axes: Axes, work: Work, chip: Chip) -> Estimate:
    """What a round needs of each chip.

    Args:
        a: the model.
        axes: of the mesh.
        work: the round.
        chip: its peaks.
    """
    update, generation = _update(a, axes, work), _generation(a, axes, work)
    phases = {"generation": generation, "judging": _judging(axes, work), "update": update}
    waits = {name: (p.flops / chip.flops, p.moved / chip.links, p.read / chip.bandwidth) for name, p in phases.items()}
    needed = held(a, axes, work)
    return Estimate(
        memory=needed.worst(),
        during={name: sum(parts.values()) for name, parts in needed.during().items()},
        flops={name: float(phase.flops) for name, phase in phases.items()},
        moved={name: float(phase.moved) for name, phase in phases.items()},
        read=float(generation.read),
        seconds={name: max(each) for name, each in waits.items()},
        in_turn={name: sum(each) for name, each in waits.items()},
        useful=float(update.useful),
    )


@dataclass(frozen=True)
class _Phase:
    flops: float = 0.0
    moved: float = 0.0
    read: float = 0.0
    useful: float = 0.0


@dataclass(frozen=True)
class _Sizes:
    """Numbers of weights: of a layer's matrices, the head; in all; and the largest part on a chip, exact."""

    layer: int
    head: int
    total: int
    held: int
    held_layers: int


@cache
def _sizes(a: Architecture, axes: Axes) -> _Sizes:
    divided = {"fsdp": axes.fsdp, "tensor": axes.tensor}
    layer = total = held = held_layers = 0
    for weight in table_of(a).values():
        n = math.prod(weight.full_shape)
        own = n // math.prod(divided.get(RULES[axis] or "", 1) for axis in weight.full_axes)
        total, held = total + n, held + own
        if weight.stack and len(weight.shape) > 1:
            used = a.experts.n_chosen / a.experts.n if a.experts and len(weight.stack) > 1 else 1
            layer += int(math.prod(weight.full_shape[1:]) * used)
            held_layers += own
    return _Sizes(layer, a.vocabulary * a.width, total, held, held_layers)


def _adapter(a: Architecture, axes: Axes, work: Work) -> int:
    """Weights of an adapter on a chip."""
    divided, found = {"fsdp": axes.fsdp, "tensor": axes.tensor}, 0
    for name, weight in table_of(a).items():
        if name.removeprefix("layers.") in (work.targets or LINEAR) and weight.stack:
            sides = zip(weight.full_shape[-2:], weight.full_axes[-2:], strict=True)
            stack = math.prod(weight.full_shape[:-2])
            found += sum(stack * work.rank * size // divided.get(RULES[axis] or "", 1) for size, axis in sides)
    return found


def _tokens(axes: Axes, work: Work, n_prompts: int) -> tuple[float, float]:
    """Tokens that go through the layers on a chip for so many prompts, which answers share; and pairs that attend."""
    n_rows = n_prompts * work.group
    shared = shared_rows(n_rows, work.group, axes.shares)
    rows = -(-n_rows // axes.shares)
    if shared == 1:
        return float(rows * work.length), float(rows * work.length**2)
    read, answered = rows / shared * work.prompt_length, rows * work.new_tokens
    return read + answered, read * work.prompt_length + answered * work.length


class Bytes(NamedTuple):
    """Bytes of a chip, by what they are for.

    Attributes:
        state: what is there all the time.
        learning: besides, while a gradient is computed.
        drawing: besides, while answers are drawn.
        judging: besides, while a judge reads; empty where none reads on these chips.
        elsewhere: weights of judges on chips of their own, and what is there while one reads.
    """

    state: dict[str, float]
    learning: dict[str, float]
    drawing: dict[str, float]
    judging: dict[str, float]
    elsewhere: tuple[dict[str, float], dict[str, float]] = ({}, {})

    def during(self) -> dict[str, dict[str, float]]:
        """By phase and part, with `MARGIN` on what is there in passing."""
        phases = {"update": (self.state, self.learning), "generation": (self.state, self.drawing)}
        if self.judging:
            phases["judging"] = self.state, self.judging
        if self.elsewhere[0]:
            phases["judging elsewhere"] = self.elsewhere
        return {
            phase: {name: float(n * MARGIN if name in parts else n) for name, n in {**stays, **parts}.items() if n}
            for phase, (stays, parts) in phases.items()
        }

    def worst(self) -> dict[str, float]:
        """At the worst moment, by part."""
        return max(self.during().values(), key=lambda parts: sum(parts.values()))


def held(a: Architecture, axes: Axes, work: Work) -> Bytes:
    """Bytes of a chip while it updates, while it draws, and while a judge reads."""
    sizes = _sizes(a, axes)
    trained = _adapter(a, axes, work) if work.rank else sizes.held
    moments = 1 + np.dtype(work.first_moment).itemsize / FLOAT
    state = {
        "given weights": sizes.held * np.dtype(work.given).itemsize if work.rank else 0,
        "trained weights": FLOAT * trained * (1 + work.has_magnet + work.watch_start),
        "moments": FLOAT * trained * moments,
        "judge": sum(_judge_held(judge, axes) for judge in work.judges if not judge.apart),
    }
    apart = [judge for judge in work.judges if judge.apart]
    elsewhere = {"judge": float(sum(_judge_held(judge, axes) for judge in apart))} if apart else {}
    there = elsewhere, reading(apart, axes, work)
    return Bytes({name: float(n) for name, n in state.items()}, *passing(a, axes, work, trained), there)


class Passing(NamedTuple):
    """Bytes of a chip that are there in passing, by part; as in `Bytes`."""

    learning: dict[str, float]
    drawing: dict[str, float]
    judging: dict[str, float]


def passing(a: Architecture, axes: Axes, work: Work, trained: int) -> Passing:
    """What is there in passing while a gradient is computed, while answers are drawn, and while a judge reads.

    Args:
        a, axes, work: as of `estimate`.
        trained: weights on a chip.
    """
    learning, drawn = _learning(a, axes, work, trained), _drawn(a, axes, work)
    judged = reading([judge for judge in work.judges if not judge.apart], axes, work)
    return Passing(*({name: float(n) for name, n in parts.items()} for parts in (learning, drawn, judged)))


def reading(judges: Iterable[LocalJudge], axes: Axes, work: Work) -> dict[str, float]:
    """What is there on a chip while one judge after the other reads, at the worst moment; empty without judges."""
    return max((_read(judge, judge.axes or axes, work) for judge in judges), key=lambda p: sum(p.values()), default={})


def _read(judge: LocalJudge, axes: Axes, work: Work) -> dict[str, float]:
    """In the MLP, in attention, or while there are logits; all layers are passed, and nothing of them is kept."""
    a, item, length = judge.architecture, np.dtype(judge.dtype).itemsize, columns_of(judge, work)
    tokens = judge.rows * length
    wide, heads = tokens * a.width * item, tokens * (a.n_heads + 2 * a.n_kv_heads) * a.head_width * item / axes.tensor
    n_mlp, n_wide = READING if axes.fsdp < FEW_SHARES else IN_STEPS
    scores = judge.rows * length**2 * (2 * FLOAT * a.n_heads / axes.tensor + 1) if judge.plain else 0
    head = _sizes(a, axes).head / axes.tensor * item * (axes.fsdp > 1) * judge.asked
    in_layers = max(n_mlp * tokens * _mlp_width(a) * item / axes.tensor + n_wide * wide, wide + heads + scores)
    if in_layers >= head + 2 * wide:
        return {"what the judge reads": float(in_layers)}
    return {"what the judge reads": float(2 * wide), "the judge's head": float(head)}


def columns_of(judge: LocalJudge, work: Work) -> int:
    """Tokens of the longest question to a judge, with its padding."""
    around = QUESTION if judge.asked else HEADINGS
    return min(bucket(work.prompt_length + JUDGED * work.new_tokens + around), judge.architecture.max_length)


def _learning(a: Architecture, axes: Axes, work: Work, trained: int) -> Mapping[str, Any]:
    """At the worse of two moments: while logits are there, and while a layer is computed again."""
    sizes, item = _sizes(a, axes), np.dtype(work.compute.dtype or work.given).itemsize
    n_prompts = work.prompts // work.parts
    rows, (tokens, _) = -(-n_prompts * work.group // axes.shares), _tokens(axes, work, n_prompts)
    whole_rows = -(-work.rows // axes.shares) * work.rounds
    columns, read, at_once, again = work.new_tokens, 0.0, tokens, 0.0
    tiles = tiles_of(a, axes, work)
    if tiles:  # prompts stay while tiles come and go; under adapters what is computed once of a part is copied
        read = tokens - rows * work.new_tokens
        rows, columns = tiles[0]
        longest = float(max(n * width for n, width in tiles))
        tokens, at_once, again = read + longest, max(read, longest), (work.rank > 0) / work.parts
    kept, inside = _activations(a, axes, work, tokens, at_once)
    always = {
        "copies to compute with": (trained + _others_copied(a, axes, work, bool(tiles))) * item * (item < FLOAT),
        "keys of prompts": 2 * a.n_layers * a.n_kv_heads * a.head_width / axes.tensor * read * (2 * item + FLOAT),
        "what is computed once": whole_rows * work.new_tokens * a.width * item * work.has_magnet * (1 + again),
    }
    accumulated = FLOAT * trained * (work.parts > 1 or bool(tiles))
    head, logits, (of_head, stays) = _of_vocabulary(a, axes, work, (rows, columns))
    with_logits = always | {
        "gradient": accumulated,
        "activations": (kept + HIDDEN * rows * columns * a.width) * item,
        "head": head,
        "logits": logits,
    }
    in_layers = always | {
        "gradient": accumulated + FLOAT * trained - of_head / axes.fsdp,
        "a layer gathered": sizes.layer / axes.tensor * item * (axes.fsdp > 1),
        "activations": (kept + inside) * item,
        "head": of_head + stays,
    }
    worse = max(with_logits, in_layers, key=lambda parts: sum(parts.values()))
    gaps = (ADAPTER_GAPS if work.rank else GAPS) if tiles else 1.0
    return {name: n * gaps for name, n in worse.items()}


def _of_vocabulary(
    a: Architecture, axes: Axes, work: Work, shape: tuple[int, int]
) -> tuple[float, float, tuple[float, float]]:
    """Bytes of the head's copies and gradient, of a chunk's logits; and of that gradient, and of copies that stay.

    Args:
        a, axes, work: as of `estimate`.
        shape: rows and columns on a chip that go through the model at once.
    """
    size, item = _sizes(a, axes).head / axes.tensor, np.dtype(work.compute.dtype or work.given).itemsize
    (rows, columns), table, v = shape, size * item, a.vocabulary
    logits = min(max(LOGITS_AT_A_TIME, rows * v), rows * chunk_length(rows, columns, v) * v)
    logits *= LOGITS * FLOAT / axes.tensor
    gathered, reordered = table * (axes.fsdp > 1), table * a.tied
    if work.rank:  # the copy in another order takes the place of what was gathered, before there are logits
        return max(gathered, reordered), max(min(gathered, reordered), logits), (0.0, 0.0)
    gradient = FLOAT * size  # of all rows, before it is divided
    n, own = 1 + work.has_magnet, work.has_magnet * table / axes.fsdp
    stay = own + n * reordered * (axes.fsdp == 1)  # what is gathered is let go, and made again for each part
    return gradient + n * (gathered + reordered) + own, logits, (gradient, stay)


def _others_copied(a: Architecture, axes: Axes, work: Work, is_sorted: bool) -> int:
    """Weights that an adapter is on, which XLA copies in another order where rows are sorted."""
    if not (work.rank and is_sorted):
        return 0
    divided, found = {"fsdp": axes.fsdp, "tensor": axes.tensor}, 0
    for name, weight in table_of(a).items():
        if name.removeprefix("layers.") in (work.targets or LINEAR) and weight.stack:
            parts = math.prod(divided.get(RULES[axis] or "", 1) for axis in weight.full_axes)
            found += math.prod(weight.full_shape) // parts
    return found


def tiles_of(a: Architecture, axes: Axes, work: Work) -> tuple[tuple[int, int], ...]:
    """Rows and columns of the tiles that a round is learned from in; none where rows are not sorted."""
    if any(rotary.depends_on_length for rotary in a.rotaries):
        return ()
    rows = -(-work.rows // work.parts // axes.shares)
    return shapes_of(rows, bucket(work.new_tokens, 1), axes.fsdp > 1)


def _drawn(a: Architecture, axes: Axes, work: Work) -> Mapping[str, Any]:
    sizes, item, mesh = _sizes(a, axes), np.dtype(work.compute.dtype or work.given).itemsize, _drawing(a, axes, work)
    return {
        "weights to draw with": sizes.total * item / mesh.tensor * (axes.n_chips > 1),
        "cache": 2 * a.n_layers * a.n_kv_heads * a.head_width * work.length * item * work.rows / axes.n_chips,
        "logits": 4 * FLOAT * -(-work.rows // mesh.data) * a.vocabulary / mesh.tensor,
    }


def _activations(a: Architecture, axes: Axes, work: Work, tokens: float, at_once: float) -> tuple[float, float]:
    """Numbers that the backward pass keeps on a chip for so many tokens, and those of one layer that it makes again."""
    heads, mlp = (a.n_heads + 2 * a.n_kv_heads) * a.head_width / axes.tensor, _mlp_width(a) / axes.tensor
    of_token = 4 * a.width + 3 * heads + (5 if a.gated else 3) * mlp
    if work.compute.attention == "plain":
        of_token += 5 * a.n_heads / axes.tensor * work.length
    match work.compute.remat:
        case "layer":
            kept = float(a.width)
        case "none":
            kept = of_token + 2 * a.width + 3 * mlp  # in float32 what norms and activations are computed in
        case _:
            kept = 3 * a.width + heads + 2 * mlp
    return a.n_layers * tokens * kept, at_once * of_token * (work.compute.remat != "none")


def _mlp_width(a: Architecture) -> int:
    return a.experts.width * a.experts.n_chosen if a.experts else a.mlp_width


def _update(a: Architecture, axes: Axes, work: Work) -> _Phase:
    """A round's optimizer steps."""
    sizes, item = _sizes(a, axes), np.dtype(work.compute.dtype or work.given).itemsize
    tokens, pairs = (n * work.parts for n in _tokens(axes, work, work.prompts // work.parts))
    targets = -(-work.rows // axes.shares) * work.new_tokens
    one = (2 * a.n_layers * sizes.layer * tokens + _attention(a, work, pairs)) / axes.tensor
    of_head = 2 * sizes.head * targets / axes.tensor
    again, back = work.compute.remat == "layer", 1 if work.rank else 2
    epochs, once = work.epochs, int(work.has_magnet)
    rows = -(-work.rows // work.parts // axes.shares)
    logits = 1 + (chunk_length(rows, work.new_tokens, a.vocabulary) < work.new_tokens)  # and again for the gradient
    flops = one * (once + epochs * (1 + again + back)) + of_head * epochs * (logits + back + logits * once)
    flops += (one + of_head) * (work.rounds > 1)  # what the policy makes of earlier rounds' responses
    useful = (one + of_head) * epochs * (1 + back)
    passes = work.parts * (epochs * GATHERS + once)
    if tiles := tiles_of(a, axes, work):  # and one for the prompts
        passes *= 1 - (-rows // tiles[0][0])
    gathered = a.n_layers * sizes.layer / axes.tensor * item * (axes.fsdp - 1) / axes.fsdp * passes
    of_table = sizes.head / axes.tensor * item * (axes.fsdp - 1) / axes.fsdp * work.parts * epochs
    summed = 0.0
    if not work.rank:  # gradients of each part: summed and scattered among "fsdp", shares of them summed over "data"
        among = axes.fsdp - 1 + 2 * (axes.data - 1) / axes.data
        summed = item * sizes.held_layers * among * work.parts * epochs
        of_table *= 2
    by_tensor = 2 * a.n_layers * tokens * a.width * item * 2 * (axes.tensor - 1) / axes.tensor
    moved = gathered + of_table + summed + by_tensor * (once + epochs * (2 + again))
    return _Phase(flops * work.rounds, moved * work.rounds, 0.0, useful * work.rounds)


def _attention(a: Architecture, work: Work, pairs: float) -> float:
    """Products of scores and values; the fused form leaves out the half that is masked."""
    both = 4 if work.compute.attention == "plain" else 2
    return both * a.n_layers * a.n_heads * a.head_width * pairs


def _drawing(a: Architecture, axes: Axes, work: Work) -> Axes:
    """Sizes of the mesh that is drawn on, as `llm_bridge.policy.layout` chooses it."""
    item = np.dtype(work.compute.dtype or work.given).itemsize
    split = layout.best_split(a, axes._asdict(), work.rows, item)
    return Axes(axes.shares // split, 1, axes.tensor * split)


def _generation(a: Architecture, axes: Axes, work: Work) -> _Phase:
    """Prefill, and as many tokens as the longest answer may have."""
    sizes, item, mesh = _sizes(a, axes), np.dtype(work.compute.dtype or work.given).itemsize, _drawing(a, axes, work)
    rows = -(-work.rows // mesh.data)
    prompts = rows / shared_rows(work.rows, work.group, mesh.data)
    read_tokens = prompts * work.prompt_length + rows * work.new_tokens
    flops = (2 * a.n_layers * sizes.layer * read_tokens + 2 * sizes.head * rows * work.new_tokens) / mesh.tensor
    slots = work.prompt_length + work.new_tokens / 2
    cache = 2 * a.n_layers * a.n_kv_heads * a.head_width * item * slots * rows / mesh.tensor
    read = work.new_tokens * (sizes.total * item / mesh.tensor + cache)
    sums = 2 * a.n_layers * a.width * item * 2 * (mesh.tensor - 1) / mesh.tensor
    moved = sums * (rows * work.new_tokens + prompts * work.prompt_length)
    if axes.fsdp > 1:
        moved += sizes.total * item / axes.tensor
    return _Phase(flops, moved, read)


def _judge_held(judge: LocalJudge, axes: Axes) -> int:
    """Bytes of a judge's weights on a chip."""
    return _sizes(judge.architecture, judge.axes or axes).held * np.dtype(judge.dtype).itemsize


def _judging(axes: Axes, work: Work) -> _Phase:
    """Every pair of a group, read once in each order by each judge."""
    pairs, flops, moved = work.prompts * work.group * (work.group - 1), 0.0, 0.0
    for judge in work.judges:
        there, n_layers = judge.axes or axes, judge.architecture.n_layers
        sizes, item = _sizes(judge.architecture, there), np.dtype(judge.dtype).itemsize
        tokens = pairs * (work.prompt_length + JUDGED * work.new_tokens) / there.n_chips
        gathered = n_layers * sizes.layer / there.tensor * item * (there.fsdp - 1) / there.fsdp
        flops += 2 * n_layers * sizes.layer * tokens
        moved += gathered * math.ceil(pairs / (judge.rows * there.shares))
    return _Phase(flops, moved)
