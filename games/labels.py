"""Labels: names that survive becoming the keys of a dictionary."""

from collections.abc import Iterable


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
