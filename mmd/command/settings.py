"""Algorithms as they are typed where there may be several: `mmd:alpha=1,magnet=fixed mmd:alpha=0.1 anchored`.

Words are separated by spaces, and a word may hold several names with commas between them. Behind a name and a colon
stand its settings, `key=value` with commas between them; so a comma is followed by a further setting if that has an
equals sign, by a further name if it has none.

A label may stand before the first name of a word, with an equals sign: `annealed=mmd-behavioral:annealed=true`. An
equals sign before any colon means a label, as settings stand behind a colon.
"""

import inspect
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmd import algorithms, magnets
from mmd.algorithms.contract import Algorithm, HostAlgorithm, asked, describe
from mmd.command.options import UsageError
from mmd.game.game import Game
from mmd.host import doors
from mmd.host.command_line import rate_and_power
from mmd.magnets import CENTERS, Fixed, Halpern, Magnet, MovingAverage, Refresh

MAGNET, CENTER, POWER = "magnet", "center", "power"
UNTYPED = {"feedback", "plays"}  # parameters that no text means
TRUE_OR_FALSE = {"true": True, "false": False}

Named = dict[str, Algorithm | HostAlgorithm]


def named(words: Sequence[str] | str, game: Game, **given: Any) -> Named:
    """Label -> algorithm, resolved for the game.

    A label is the one that is typed, or the name: alone where there is one of that name without a label, else with the
    settings in which they differ.

    Args:
        words: as typed.
        game: what they are for.
        given: further arguments of those that take them.

    Raises:
        UsageError: a setting is none of the algorithm's, has no such value, or two algorithms are the same.
        GameError: there is no such algorithm, or it is not defined on this game.
    """
    typed = [_split(word) for word in _names([words] if isinstance(words, str) else words)]
    if not typed:
        raise UsageError(f"expected names of algorithms, got none: try {', '.join(algorithms.names())}")
    unresolved = [_made(name, numbers, given) for _, name, numbers in typed]
    made = [asked(one, "resolve", one.resolve, game) for one in unresolved]
    own = [label for label, _, _ in typed]
    known = [(one.name, numbers, describe(one)) for (_, _, numbers), one in zip(typed, made, strict=True)]
    told = iter(_labels([one for one, label in zip(known, own, strict=True) if not label]))
    labels = [label or next(told) for label in own]
    if twice := [label for label, n in Counter(labels).items() if n > 1]:
        why = "labels must differ" if twice[0] in own else "their settings mean the same"
        raise UsageError(f"expected every algorithm once, got {twice[0]!r} twice: {why}")
    if alike := [folder for folder, n in Counter(map(folder_of, labels)).items() if n > 1]:
        raise UsageError(f"expected labels that make different folders, got {alike[0]!r} twice")
    return dict(zip(labels, made, strict=True))


def given_labels(words: Sequence[str] | str) -> frozenset[str]:
    """Those labels that are typed.

    Raises:
        UsageError: a word is not well formed.
    """
    split = map(_split, _names([words] if isinstance(words, str) else words))
    return frozenset(label for label, _, _ in split if label)


def folder_of(label: str) -> str:
    """A folder's name for a label."""
    return label.replace(":", ",").replace("/", "-").replace("\\", "-")


def magnet_of(text: str, center: str) -> Magnet:
    """The magnet that `fixed`, `refresh`, `refresh=200`, `moving=0.05`, `halpern` or a name from outside means.

    Raises:
        UsageError: it means none.
        GameError: it is one from outside that cannot be had.
    """
    kind, _, number = text.partition("=")
    try:
        match kind, number:
            case "fixed", "":
                return Fixed(center)
            case "halpern", "":
                return Halpern(center=center)
            case "refresh", "":
                return Refresh(center=center)
            case "refresh", every if int(every) >= 1:
                return Refresh(center=center, every=int(every))
            case "moving", numbers:
                rate, power = rate_and_power(numbers)
                return MovingAverage(center=center, rate=rate, power=power)
    except ValueError:
        pass
    if magnets.DOOR.is_outside(text):
        return magnets.load(text, **({} if center == "dilated" else {"center": center}))
    known = (
        "fixed, refresh, refresh=200 (iterations >= 1), moving=0.05 or moving=0.05,power=4 (a rate in (0, 1], a power "
        f">= 0), halpern or one from outside ({doors.FORMS})"
    )
    raise UsageError(f"expected --magnet to be {known}, got {text!r}")


def _names(words: Iterable[str]) -> list[str]:
    """Names with their settings, one each."""
    found: list[str] = []
    for word in words:
        for n, part in enumerate(word.split(",")):
            is_setting = n > 0 and "=" in part.partition(":")[0]
            if is_setting:
                found[-1] += f",{part.strip()}"
            else:
                found.append(part.strip())
    return found


def _split(text: str) -> tuple[str, str, dict[str, str]]:
    """A label, empty if none is typed, a name, and its settings as they are typed.

    Raises:
        UsageError: the label names no folder, or a setting has no value, or stands twice.
    """
    label, text = _label(text)
    outside = doors.CODE.fullmatch(text)
    if outside is not None and text.partition(":")[0] not in algorithms.names():
        name, numbers = text[: outside.end("name")], outside["numbers"] or ""
    else:
        name, _, numbers = text.partition(":")
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in numbers.split(","))):
        key, equals, value = part.partition("=")
        if key == POWER and MAGNET in found and POWER not in found[MAGNET]:
            found[MAGNET] += f",{part}"  # moving=0.05,power=4 is one magnet
        elif not equals or not value:
            raise UsageError(f"{name}: expected settings such as alpha=0.1, got {part!r}")
        elif key in found:
            raise UsageError(f"{name}: expected {key} once, got it twice")
        else:
            found[key] = value
    return label, name, found


def _label(text: str) -> tuple[str, str]:
    """The label that stands before an algorithm, empty if there is none, and the rest.

    Raises:
        UsageError: it can be none.
    """
    label, equals, rest = (part.strip() for part in text.partition("="))
    if not equals or ":" in label:
        return "", text
    if "," in label:
        raise UsageError(f"expected settings behind a colon, as in mmd:alpha=0.1, got {text!r}")
    if not label or label.startswith(".") or not label.isprintable():
        raise UsageError(f"expected a label that can name a folder, as in annealed=mmd, got {label!r}")
    return label, rest


def _made(name: str, numbers: Mapping[str, str], given: Mapping[str, Any]) -> Any:
    """The algorithm with its settings, and what of `given` it takes.

    Raises:
        UsageError: a setting is none of its own, or has no such value.
        GameError: there is no such algorithm.
    """
    known = doors.signature_of(algorithms.load(name))
    centered = {CENTER} if MAGNET in known and CENTER not in known else set()
    typed = [key for key in (*known, *centered) if key not in UNTYPED]
    values: dict[str, Any] = {key: value for key, value in given.items() if key in known}
    for key, text in numbers.items():
        if key not in typed:
            have = f"known are {', '.join(typed)}" if typed else "it chooses its own"
            raise UsageError(f"{name} has no setting {key!r}: {have}")
        if key not in (MAGNET, CENTER):
            values[key] = _value(name, known[key], text)
    if not numbers.keys().isdisjoint((MAGNET, CENTER)):
        center = numbers.get(CENTER, "dilated")
        if center not in CENTERS:
            raise UsageError(f"{name}: expected center to be one of {', '.join(CENTERS)}, got {center!r}")
        values[MAGNET] = magnet_of(numbers.get(MAGNET, "fixed"), center)
    return algorithms.made(name, **values)


def _value(name: str, parameter: inspect.Parameter, text: str) -> Any:
    """The value that a text means for a parameter: true or false, a word, or a number.

    Raises:
        UsageError: it means none.
    """
    if isinstance(parameter.default, bool):
        if text.lower() not in TRUE_OR_FALSE:
            raise UsageError(f"{name}: expected {parameter.name} to be true or false, got {text!r}")
        return TRUE_OR_FALSE[text.lower()]
    if isinstance(parameter.default, str) or parameter.annotation is str:
        return text
    for kind in (int, float) if isinstance(parameter.default, int) else (float,):
        try:
            return kind(text)
        except ValueError:
            pass
    raise UsageError(f"{name}: expected {parameter.name} to be a number, got {text!r}")


def _labels(runs: Sequence[tuple[str, Mapping[str, str], Mapping[str, Any]]]) -> list[str]:
    """A label for each: its name, and the settings that tell it from others of that name.

    Args:
        runs: name, settings as typed, and resolved numbers of each.
    """
    found = []
    for name, numbers, resolved in runs:
        alike = [(typed, held) for other, typed, held in runs if other == name]
        differ = [
            key
            for key in dict.fromkeys(key for typed, _ in alike for key in typed)
            if any(_plain(held, key) != _plain(resolved, key) for _, held in alike)
        ]
        told = [key for key in differ if key in numbers or _plain(resolved, key) is not None]
        said = ",".join(f"{key}={_said(key, numbers, resolved)}" for key in told)
        found.append(f"{name}:{said}" if said else name)
    return found


def _plain(resolved: Mapping[str, Any], key: str) -> Any:
    """What a setting came to; the centre is the magnet's."""
    magnet = resolved.get(MAGNET)
    if key == CENTER and isinstance(magnet, Mapping):
        return magnet.get(CENTER)
    return {k: v for k, v in magnet.items() if k != CENTER} if key == MAGNET and magnet else resolved.get(key)


def _said(key: str, numbers: Mapping[str, str], resolved: Mapping[str, Any]) -> str:
    """A setting as it was typed, or what it came to by itself."""
    value = _plain(resolved, key)
    if key in numbers:
        return numbers[key]
    if isinstance(value, Mapping):
        return str(value.get("kind", "")).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value).lower()
