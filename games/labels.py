"""Labels: names that survive becoming the keys of a dictionary, and names that are worked out when asked for."""

import reprlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar, overload

SHOWN = 7  # labels that a repr looks at

Label = TypeVar("Label", covariant=True)


def unique_labels(labels: Iterable[object]) -> tuple[str, ...]:
    """The labels, told apart: a blank one becomes its number, a repeated one gets a suffix, as in "B", "B (2)"."""
    # Half a surrogate pair is a legal JSON string that no file can be written with.
    clean = [str(label).strip().encode(errors="replace").decode() for label in labels]
    given = [label or str(i + 1) for i, label in enumerate(clean)]
    taken, result, last = set(given), [], {}
    for label in given:
        if label not in last:
            last[label] = 1
            result.append(label)
            continue
        name = label
        while name in taken:
            last[label] += 1
            name = f"{label} ({last[label]})"
        taken.add(name)
        result.append(name)
    return tuple(result)


@dataclass(frozen=True, repr=False)
class LazyLabels(Sequence[Label]):
    """`length` labels, each worked out when asked for: those of millions of infosets cost nothing.

    Attributes:
        length: how many.
        label: the label of a number from 0 to length - 1.
    """

    length: int
    label: Callable[[int], Label]

    def __repr__(self) -> str:
        return f"LazyLabels({self.length:,}: {reprlib.repr(self[:SHOWN])})"

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> Label: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Label]: ...

    def __getitem__(self, index: int | slice) -> Label | Sequence[Label]:
        if isinstance(index, slice):
            return [self.label(j) for j in range(self.length)[index]]
        return self.label(range(self.length)[index])
