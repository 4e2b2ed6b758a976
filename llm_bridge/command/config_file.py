"""`--config FILE`: a flat YAML file of options, which stand before those of the command line and so yield to them.

Values are read by the same parser as if they had been typed, so both have the same names, checks and complaints. Only
code from outside has to be typed: a run folder has such a file, and no run folder says which code is run.
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from llm_bridge.command.options import BY_NAME, ELSEWHERE, METHODS
from mmd.host.command_line import UsageError, hint, options_of
from mmd.host.doors import Door

KINDS = {"method": "methods", "magnet": "magnets", "judge": "judges", "family": "families"}  # what may be from outside
MAGNETS = ("fixed", "refresh", "moving")
OBJECTS = ("chat_template_kwargs",)  # options whose text is a JSON object, which YAML may write as one of its own


def expanded(argv: Sequence[str], *, unread: Sequence[str] = ()) -> list[str]:
    """The command line with the options of its configuration file in place of `--config FILE`.

    Args:
        argv: the command line, without the program's name.
        unread: options that nobody will read, so that they may name code from outside.

    Raises:
        UsageError: the file cannot be read, an option in it does not exist, or names code from outside that the command
            line does not name; with file and line.
    """
    found = list(argv)
    for i, word in enumerate(found):
        if word == "--config" or word.startswith("--config="):
            inline = word.partition("=")[2]
            if not inline and i + 1 == len(found):
                raise UsageError("--config needs the name of a YAML file")
            path, end = (inline, i + 1) if inline else (found[i + 1], i + 2)
            rest = found[:i] + found[end:]
            if not rest or rest[0] not in BY_NAME:
                raise UsageError(f"--config needs a subcommand before it: {', '.join(BY_NAME)}")
            typed = {word.partition("=")[0].removeprefix("--").replace("-", "_") for word in rest if word[:2] == "--"}
            return [rest[0], *_options(Path(path), rest[0], typed | {*unread}), *rest[1:]]
    return found


def check_texts(words: Sequence[str]) -> None:
    """That no option has an empty text, which a shell makes of a variable that is not set.

    Raises:
        UsageError: one has.
    """
    for before, word in zip(["the command", *words], words, strict=False):
        name, given, value = word.partition("=") if word.startswith("--") else (before, "=", word)
        if given and not value.strip():
            raise UsageError(f"expected a value after {name}, got an empty text")


def _options(path: Path, command: str, typed: set[str]) -> Iterator[str]:
    known = options_of(BY_NAME[command])
    for name, value, line in _entries(path):
        spelled = name.replace("-", "_")
        if spelled not in known:
            meant = hint(name, known, ELSEWHERE) or f"; mpo {command} --help lists them"
            raise UsageError(f"{path}:{line}: there is no option {name!r}{meant}")
        if value is None or value is False:
            continue
        named = list(map(str, value if isinstance(value, list) else [value]))
        if spelled in KINDS and spelled not in typed and any(_is_outside(spelled, one) for one in named):
            wanted = f"name it on the command line, --{spelled} {' '.join(named)}"
            raise UsageError(f"{path}:{line}: {spelled} is code from outside, which no file brings in: {wanted}")
        yield f"--{spelled}"
        if value is not True:
            yield from named


def _is_outside(option: str, value: str) -> bool:
    """Whether an option's text names code from outside this package; nothing is imported."""
    built_in = {
        "method": value.replace("-", "_") in METHODS,
        "magnet": value.partition("=")[0] in MAGNETS,
        "judge": "://" in value or Path(value).exists(),
    }
    return not built_in.get(option) and Door(KINDS[option], UsageError, "").is_outside(value)


def _entries(path: Path) -> Iterator[tuple[str, Any, int]]:
    """Name, value and line of every option."""
    import yaml

    try:
        text = path.read_text("utf-8")
        node = yaml.compose(text, yaml.SafeLoader)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: expected YAML in UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise UsageError(f"{place}: expected YAML ({getattr(error, 'problem', 'unreadable')})") from None
    if not isinstance(node, yaml.MappingNode):
        raise UsageError(f"{path}: expected options, one a line, as in learning_rate: 1e-5")
    loader = yaml.SafeLoader("")
    for key, inner in node.value:
        line, value = key.start_mark.line + 1, loader.construct_object(inner, deep=True)
        if isinstance(inner, yaml.ScalarNode) and re.fullmatch(r"[-+]?[\d.]+[eE][-+]?\d+", inner.value):
            value = inner.value  # YAML 1.1 takes 1e-5 for text; the parser of options does not
        if isinstance(inner, yaml.MappingNode) and str(key.value).replace("-", "_") in OBJECTS:
            value = json.dumps(value)
        if not isinstance(value, str | int | float | bool | list | None):
            raise UsageError(f"{path}:{line}: expected a number, text or a list for {key.value!r}")
        yield str(key.value), value, line
