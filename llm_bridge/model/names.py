"""What weights are called in checkpoint files, and how they lie there.

A checkpoint has one tensor a layer, and writes a linear map as [out, in]; here a weight of all layers is one array, and
a linear map is [in, out]. Some families store several maps side by side in one tensor. A family's table of `Stored`
says all that; reading, writing and checking use nothing else.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from llm_bridge.model.architecture import Architecture, BridgeError
from llm_bridge.model.weights import Weight, weights


@dataclass(frozen=True)
class Stored:
    """Where a weight lies in a checkpoint.

    Attributes:
        name: the tensor's name without the family's prefix; `{layer}` and `{expert}` stand for numbers.
        transposed: it is stored as [out, in].
        fused: names of the weights that the same tensor holds side by side along `out`, in order; empty for only this.
        by_head: they lie side by side within each head, and one head after another.
        prefixed: whether the family's prefix precedes the name.
    """

    name: str
    transposed: bool = False
    fused: tuple[str, ...] = ()
    prefixed: bool = True
    by_head: bool = False


@dataclass(frozen=True)
class Piece:
    """One tensor of a checkpoint, or the part of it that belongs to one weight.

    Attributes:
        tensor: the full name in the file.
        weight: the weight's name here.
        index: which part of the weight's leading axes it fills: (), (layer,) or (layer, expert).
        shape: of the part, in our order of axes.
        transposed: it lies transposed in the file.
        start: where it begins along our last axis in the file's tensor; within a run.
        whole: the length of that axis in the file's tensor.
        run: how many of its entries lie together there, such as those of a head; then follow those of the others.
    """

    tensor: str
    weight: str
    index: tuple[int, ...]
    shape: tuple[int, ...]
    transposed: bool
    start: int
    whole: int
    run: int

    def places(self, start: int, stop: int) -> Iterator[tuple[slice, slice]]:
        """Where entries start to stop of our last axis are: slices of them, from 0 on, and of the file's axis."""
        stride = self.whole // (self.shape[-1] // self.run)
        for first in range(start - start % self.run, stop, self.run):
            begin, end = max(first, start), min(first + self.run, stop)
            there = first // self.run * stride + self.start + begin - first
            yield slice(begin - start, end - start), slice(there, there + end - begin)

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """The shape of the file's tensor."""
        shape = (*self.shape[:-1], self.whole)
        return shape[::-1] if self.transposed else shape


def pieces(architecture: Architecture, table: dict[str, Stored], prefix: str) -> list[Piece]:
    """Every tensor of a checkpoint of this architecture, weight by weight, layer by layer.

    Raises:
        BridgeError: the table does not say where a weight lies.
    """
    expected = weights(architecture)
    if missing := [name for name in expected if name not in table]:
        raise BridgeError(f"the family's TENSORS do not say what is stored as {', '.join(missing)}")
    return [
        piece
        for name, weight in expected.items()
        for piece in _of(name, weight, expected, (table[name], architecture.head_width), prefix)
    ]


def _of(
    name: str, weight: Weight, expected: dict[str, Weight], place: tuple[Stored, int], prefix: str
) -> Iterator[Piece]:
    stored, head_width = place
    widths = {other: expected[other].shape[-1] for other in stored.fused if other in expected}
    before = list(widths)[: list(widths).index(name)] if widths else []
    start = len(before) * head_width if stored.by_head else sum(widths[other] for other in before)
    run = head_width if stored.by_head else weight.shape[-1]
    whole = sum(widths.values()) or weight.shape[-1]
    template = (prefix if stored.prefixed else "") + stored.name
    layers = range(weight.stack[0]) if weight.stack else [None]
    experts = range(weight.stack[1]) if len(weight.stack) > 1 else [None]
    for layer in layers:
        for expert in experts:
            index = tuple(i for i in (layer, expert) if i is not None)
            tensor = template.format(layer=layer, expert=expert)
            yield Piece(tensor, name, index, weight.shape, stored.transposed, start, whole, run)
