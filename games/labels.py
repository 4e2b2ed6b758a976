"""Labels: names that survive becoming the keys of a dictionary, and names that are worked out when asked for.

A name that is given twice may be a slip in the data, and may be right. So it is not refused: the second one gets a
suffix, and the game says so among its facts (`told_apart`).
"""

import reprlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar, overload

SHOWN = 7  # labels that a repr, or a fact, looks at

Label = TypeVar("Label", covariant=True)


def unique_labels(labels: Iterable[object]) -> tuple[str, ...]:
    """The labels, told apart: a blank one becomes its number, a repeated one gets a suffix, as in "B", "B (2)"."""
    given = [label or str(i + 1) for i, label in enumerate(map(_clean, labels))]
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


def told_apart(*groups: Iterable[object]) -> tuple[str, ...]:
    """A fact about names that were given more than once within a group of labels; nothing where all differ.

    Args:
        groups: labels as `unique_labels` is given them.
    """
    new: dict[str, None] = {}
    for group in groups:
        given = list(map(_clean, group))
        if len(set(given)) == len(given):
            continue
        pairs = zip(given, unique_labels(given), strict=True)
        new |= {f"{label!r} as {name!r}": None for label, name in pairs if label and label != name}
    if not new:
        return ()
    more = f" and {len(new) - SHOWN} more" if len(new) > SHOWN else ""
    return (f"names that are given more than once are told apart: {', '.join([*new][:SHOWN])}{more}",)


def _clean(label: object) -> str:
    """Without what no file can be written with: half a surrogate pair is a legal JSON string."""
    return str(label).strip().encode(errors="replace").decode()


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
