"""What a compiled program does, counted from its text: moves between chips, and products, as often as they are made.

XLA's own cost analysis counts the body of a loop once. Here each computation is counted and multiplied by the trips of
the loops around it, which XLA writes beside a loop where they are known. A loop that goes on until something happens,
such as one that draws tokens, counts as `unknown_trips` of them.

Moves are in bytes of what a chip receives or holds of them, one direction:

    all-gather          the whole result less the part that the chip had
    reduce-scatter      the whole operand less the part that it keeps
    all-reduce          twice that, as a ring does it (Patarasuk and Yuan 2009)
    all-to-all          the operand less the part that stays
    collective-permute  the operand

`results` are the bytes of the moves' results, whatever the way.

A TPU's program has a sum that is scattered as a computation "all-reduce-scatter": a sum, and the slice of it that a
chip keeps. It counts as a reduce-scatter, and takes the time of one (Austin et al. 2025, How to scale your model, 9).
"""

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

KINDS = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter", "ragged-all-to-all")
BYTES = {"pred": 1, "c64": 8, "c128": 16, "bf16": 2, "token": 0}
HEAD = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\) -> .* ?\{")
LINE = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$")
SHAPE = re.compile(r"(\w+)\[([\d,<=]*)\]")
NAME = re.compile(r"%([\w.\-]+)")
CALLED = re.compile(r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)")
BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
INDEX = re.compile(r"index=(\d+)")
GROUPS = re.compile(r"replica_groups=(?:\{\{([\d,]*)\}|\[(\d+),(\d+)\]|(mesh\[.*?\] *\{.*?\}))")
CHAINED, STARTED, SCATTERED = "chain_id=", '"AsyncCollectiveStart"', "all-reduce-scatter"
WINDOW = re.compile(r"window=\{([^}]*)\}")
DIMENSIONS = re.compile(r"dim_labels=(\w+)_(\w+)->(\w+)")


@dataclass
class Counts:
    """Of a program on one chip.

    Attributes:
        moved: bytes over links, by kind.
        results: bytes of the results of moves, by kind.
        moves: how many of each kind.
        flops: of matrix products.
        shapes: of every array that a move makes: element type and sizes, with bytes in all.
        unknown_loops: loops whose trips are not known.
    """

    moved: Counter[str] = field(default_factory=Counter)
    results: Counter[str] = field(default_factory=Counter)
    moves: Counter[str] = field(default_factory=Counter)
    flops: float = 0.0
    shapes: Counter[str] = field(default_factory=Counter)
    unknown_loops: int = 0

    def add(self, other: "Counts", times: int) -> None:
        """So many times what another computation does."""
        for mine, theirs in zip(self._counters(), other._counters(), strict=True):
            for name, number in theirs.items():
                mine[name] += number * times
        self.flops += other.flops * times
        self.unknown_loops += other.unknown_loops

    def _counters(self) -> tuple[Counter[str], ...]:
        return self.moved, self.results, self.moves, self.shapes


@dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    result: str
    operation: str
    rest: str


def counted(text: str, unknown_trips: int = 1) -> Counts:
    """What the program of this text does; see the module.

    Args:
        text: as `jax.stages.Compiled.as_text` gives it.
        unknown_trips: of a loop that does not say.
    """
    computations, entry = parsed(text)
    sizes = re.search(r"num_partitions=(\d+)", text)
    n_chips = int(sizes[1]) if sizes else 1

    @cache
    def of(name: str) -> Counts:
        found, results = Counts(), {one.name: one.result for one in computations.get(name, ())}
        begun = _begun(computations.get(name, ()))
        for one in computations.get(name, ()):
            if CHAINED not in one.rest or one.name in begun:
                _add_own(found, one, results, n_chips, name.startswith(SCATTERED))
            times = 1
            if one.operation == "while":
                trips = _trips(one, computations)
                times = unknown_trips if trips is None else trips
                found.unknown_loops += trips is None
            if one.operation != "conditional" and not any(one.operation.startswith(kind) for kind in KINDS):
                for called in CALLED.findall(one.rest):
                    found.add(of(called), times)
            elif branches := _branches(one.rest):
                found.add(max(map(of, branches), key=lambda c: (c.flops, sum(c.moved.values()))), 1)
        return found

    return of(entry)


def _begun(computation: Sequence[Instruction]) -> set[str]:
    """Moves that begin here; a TPU's program names a move again in each of the products that it hides behind."""
    starts = (one.rest for one in computation if one.operation == "custom-call" and STARTED in one.rest)
    return {name for rest in starts for name in NAME.findall(rest.split(")")[0])}


def parsed(text: str) -> tuple[dict[str, list[Instruction]], str]:
    """The instructions of each computation, and the name of the first to run."""
    computations: dict[str, list[Instruction]] = {}
    entry, current = "", None
    for line in text.splitlines():  # a kernel's description may go over several lines, from the first column
        if (head := HEAD.match(line)) and line.endswith("{") and not line.startswith("HloModule"):
            current = computations.setdefault(head[1], [])
            entry = head[1] if line.startswith("ENTRY") else entry
        elif current is not None and (found := LINE.match(line)):
            current.append(Instruction(*found.groups()))
    return computations, entry


def sizes_of(result: str) -> list[tuple[str, tuple[int, ...]]]:
    """Element types and sizes of the arrays of a result."""
    found = SHAPE.findall(re.sub(r"\{[^{}]*\}", "", result))
    return [(kind, tuple(int(n.strip("<=")) for n in sizes.split(",") if n)) for kind, sizes in found]


def n_bytes(kind: str, sizes: tuple[int, ...]) -> int:
    """Of one array."""
    width = BYTES.get(kind) or (int(digits[0]) / 8 if (digits := re.findall(r"\d+", kind)) else 0)
    return int(math.prod(sizes) * width)


def _trips(loop: Instruction, computations: dict[str, list[Instruction]]) -> int | None:
    """How often a loop goes round: as it says, or as its condition compares a counter that begins at 0."""
    if said := TRIPS.search(loop.rest):
        return int(said[1])
    condition = re.search(r"condition=%?([\w.\-]+)", loop.rest)
    lines = computations.get(condition[1], []) if condition else []
    if not lines or lines[-1].operation not in ("compare", "fusion"):
        return None
    inside = [one for name in CALLED.findall(lines[-1].rest) for one in computations.get(name, [])]
    compared = [one for one in (lines[-1], *inside) if one.operation == "compare"]
    whole = [one for one in (*lines, *inside) if one.operation == "constant" and one.result[0] in "su"]
    known = [one.rest.split(")")[0] for one in whole]
    limits = [int(text) for text in known if text.isdigit() and int(text) > 0]
    one_limit = len(compared) == len(limits) == 1 and "direction=LT" in compared[0].rest
    return -(-limits[0] // _step(loop, lines, computations)) if one_limit else None


def _step(loop: Instruction, condition: Sequence[Instruction], computations: dict[str, list[Instruction]]) -> int:
    """What a loop's body adds to the counter that its condition reads; 1 where no such sum is found.

    A TPU's loops that multiply while they move a matrix have two rounds in their body, and count by two.
    """
    named = re.search(r"body=%?([\w.\-]+)", loop.rest)
    body, read = computations.get(named[1], []) if named else [], _arguments(condition[-1])
    counters = [one for one in condition if one.operation == "get-tuple-element" and one.name in read]
    if not body or len(counters) != 1 or not (at := INDEX.search(counters[0].rest)):
        return 1
    by_name, kept = {one.name: one for one in body}, _arguments(body[-1])
    grown = by_name.get(kept[int(at[1])]) if int(at[1]) < len(kept) else None
    if grown is None or grown.operation not in ("add", "fusion"):
        return 1
    parts = [by_name[name] for name in _arguments(grown) if name in by_name]
    if grown.operation == "fusion":
        parts += [one for name in CALLED.findall(grown.rest) for one in computations.get(name, [])]
    steps = [one.rest.split(")")[0] for one in parts if one.operation == "constant"]
    return int(steps[0]) if len(steps) == 1 and steps[0].isdigit() and int(steps[0]) > 0 else 1


def _arguments(one: Instruction) -> list[str]:
    """Names of what an instruction reads."""
    return NAME.findall(one.rest.split("), ")[0])


def _add_own(found: Counts, one: Instruction, results: dict[str, str], n_chips: int, scattered: bool) -> None:
    kind = one.operation.removesuffix("-start")
    if kind in KINDS and not one.operation.endswith("-done"):
        arrays, group = sizes_of(one.result), _group(one.rest, n_chips)
        if one.operation.endswith("-start") and kind != "all-reduce":  # operands, results, and perhaps marks
            arrays = arrays[1:2] if not one.result.startswith("((") else arrays[len(arrays) // 2 :]
        made = sum(n_bytes(*array) for array in arrays)
        if scattered and kind == "all-reduce":
            kind, made = "reduce-scatter", made // group
        found.results[kind] += made
        found.moved[kind] += round(made * _share(kind, group))
        found.moves[kind] += 1
        for name, sizes in arrays:
            found.shapes[f"{kind} {name}[{','.join(map(str, sizes))}]"] += n_bytes(name, sizes)
    elif one.operation == "dot":
        found.flops += _of_dot(one, results)
    elif one.operation == "convolution":
        found.flops += _of_convolution(one, results)


def _share(kind: str, n: int) -> float:
    """Bytes over links for each byte of a result, among n chips."""
    others = (n - 1) / n
    of = {"all-gather": others, "all-reduce": 2 * others, "reduce-scatter": n - 1.0, "collective-permute": 1.0}
    return of.get(kind, others)


def _group(rest: str, n_chips: int) -> int:
    """How many chips a move is among; all of them where it does not say."""
    if not (found := GROUPS.search(rest)) or found[1] == "":
        return n_chips
    if found[4] is not None:  # by axes of a mesh, or parts of them: 'name' or 'name':(before)size
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", found[4]))
        among = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", found[4].partition("]")[2])
        return math.prod(int(part or sizes[name]) for name, part in among)
    return len(found[1].split(",")) if found[1] is not None else int(found[3])


def _branches(rest: str) -> list[str]:
    listed = BRANCHES.search(rest)
    return NAME.findall(listed[1]) if listed else CALLED.findall(rest)


def _operands(one: Instruction, results: dict[str, str]) -> list[tuple[int, ...]]:
    """Sizes of the first two operands."""
    inside = one.rest.split("), ")[0]
    written = sizes_of(inside)
    if len(written) >= 2:
        return [sizes for _, sizes in written[:2]]
    return [sizes_of(results[name])[0][1] for name in NAME.findall(inside)[:2]]


def _of_dot(one: Instruction, results: dict[str, str]) -> float:
    contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", one.rest)
    left, out = _operands(one, results)[0], sizes_of(one.result)[0][1]
    inner = math.prod(left[int(i)] for i in contracted[1].split(",") if i) if contracted else 1
    return 2.0 * math.prod(out) * inner


def _of_convolution(one: Instruction, results: dict[str, str]) -> float:
    """Products of matrices are convolutions on a TPU: as many multiplications as meet an entry of the input."""
    (left, right), out = _operands(one, results), sizes_of(one.result)[0][1]
    labels = DIMENSIONS.search(one.rest)
    assert labels is not None, one.rest
    fields = dict(part.split("=") for part in (WINDOW.search(one.rest) or ["", ""])[1].split())
    found = 2.0 * right[labels[2].index("i")] * out[labels[3].index("b")] * out[labels[3].index("f")]
    for axis in sorted(set(labels[1]) - set("bf")):
        at = int(axis)
        window = {name: value.split("x")[at] for name, value in fields.items()}
        found *= _meetings(left[labels[1].index(axis)], out[labels[3].index(axis)], window)
    return found


@cache
def _places(n: int, step: int) -> np.ndarray:
    return np.arange(n, dtype=np.int64) * step


def _meetings(n_in: int, n_out: int, window: dict[str, str]) -> int:
    """Pairs of an output and a window's entry that meet an entry of the input, along one axis."""
    size, stride = int(window.get("size", 1)), int(window.get("stride", 1))
    wide_in, wide_window = int(window.get("lhs_dilate", 1)), int(window.get("rhs_dilate", 1))
    low = int(window.get("pad", "0_0").split("_")[0])
    at = _places(n_out, stride)[:, None] + _places(size, wide_window)[None, :] - low
    return int(np.sum((at >= 0) & (at % wide_in == 0) & (at // wide_in < n_in)))


def as_json(counts: Counts) -> str:
    """For storing."""
    return json.dumps({"moved": counts.moved, "results": counts.results, "moves": counts.moves, "flops": counts.flops})
