"""What `--help` prints: the commands of a program by theme, or the options of one command by theme.

A command is a dataclass as `mmd.host.command_line` parses it: an option's text is the string below its field, and its
theme is the class that the field stands in, whose docstring is the heading. Nothing is parsed and nothing heavy is
imported, so help is there at once.
"""

import ast
import inspect
import itertools
import shutil
import sys
import textwrap
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from mmd.host.marks import marked

COLUMN = 30  # where texts begin
WIDEST = 120
REQUIRED = "(required)"
PLACEHOLDERS = {int: "INTEGER", float: "NUMBER", Path: "PATH", str: "TEXT"}


class Program(NamedTuple):
    """What a command line program says of itself.

    Attributes:
        name: as it is typed.
        description: in a sentence or two.
        commands: name -> the command's dataclass.
        themes: heading -> the commands below it; every command once.
        names: heading -> names of what is built in; called for help alone.
    """

    name: str
    description: str
    commands: Mapping[str, type]
    themes: Mapping[str, Sequence[str]]
    names: Callable[[], Mapping[str, Sequence[str]]]


class Option(NamedTuple):
    """One line of help.

    Attributes:
        typed: what is typed, with a placeholder for its value.
        text: what it does, its default last.
        is_positional: whether it is given by its place.
        theme: the class that it stands in.
    """

    typed: str
    text: str
    is_positional: bool
    theme: type


def overview(program: Program) -> Iterator[str]:
    """Lines about a program: every command in a line, by theme, and the names that its options take."""
    yield f"usage: {program.name} COMMAND ...     ({program.name} COMMAND --help says what a command takes)"
    yield from ("", *_wrapped(program.description, ""))
    for heading, listed in program.themes.items():
        yield from ("", f"{heading}:")
        for name in listed:
            yield from _line(name, _headline(program.commands[name]), column=16)
    yield ""
    for heading, built_in in program.names().items():
        yield from _wrapped(f"{heading}: {', '.join(built_in)}", "  ")


def of_command(program: Program, name: str) -> Iterator[str]:
    """Lines about one command: its options by theme, those of its own first."""
    command = program.commands[name]
    found = options(command)
    needed = [option.typed for option in found if option.text.endswith(REQUIRED)]
    yield from _wrapped(" ".join([f"usage: {program.name} {name}", *needed, "[--OPTION ...]"]), " " * 7)
    yield from ("", *_wrapped(inspect.getdoc(command) or "", ""))
    for theme in dict.fromkeys([command, *(option.theme for option in found)]):
        listed = [option for option in found if option.theme is theme]
        if listed:
            yield from ("", "options:" if theme is command else f"{_headline(theme).removesuffix('.')}:")
        for option in listed:
            yield from _line(option.typed, option.text)


def options(command: type) -> list[Option]:
    """Everything that a command takes, those of its own and of nearer classes first."""
    hints = get_type_hints(command, include_extras=True)
    nearest = [base for base in command.__mro__ if "__dataclass_fields__" in vars(base)]
    named = {base: inspect.get_annotations(base) for base in nearest}
    homes = {field.name: next(base for base in nearest if field.name in named[base]) for field in fields(command)}
    found = [_option(field, hints[field.name], homes[field.name]) for field in fields(command)]
    return sorted(found, key=lambda option: (not option.is_positional, nearest.index(option.theme)))


def _option(field: Field[Any], hint: Any, home: type) -> Option:
    kind, shown, is_positional = marked(hint)
    is_flag = kind is bool
    placeholder = shown.metavar or _placeholder(kind)
    typed = f"--{(shown.name or field.name).replace('_', '-')}" + ("" if is_flag else f" {placeholder}")
    text = shown.help or texts(home).get(field.name, "")
    if not is_flag:
        text += f" {_default(field) if shown.default is None else f'(default: {shown.default})'}"
    return Option(placeholder if is_positional else typed, text, is_positional, home)


def _placeholder(kind: Any) -> str:
    """For the value of an option whose type is all that is known of it."""
    if get_origin(kind) is Literal:
        return "{" + ",".join(map(str, get_args(kind))) + "}"
    inner = [one for one in get_args(kind) if one not in (types.NoneType, ...)]
    if inner:
        return _placeholder(inner[0]) + ("..." if get_origin(kind) is tuple else "")
    return PLACEHOLDERS.get(kind, "VALUE")


def _default(field: Field[Any]) -> str:
    if field.default is MISSING:
        return REQUIRED
    value = field.default
    return f"(default: {' '.join(map(str, value)) if isinstance(value, tuple) else value})"


@cache
def _classes(module: str) -> dict[str, list[ast.stmt]]:
    """What stands in the classes of a module, by their names."""
    source = ast.parse(Path(str(sys.modules[module].__file__)).read_text("utf-8"))
    return {node.name: node.body for node in source.body if isinstance(node, ast.ClassDef)}


@cache
def texts(command: type) -> dict[str, str]:
    """The strings below the fields of a class, by the fields' names."""
    body, found = _classes(command.__module__)[command.__name__], {}
    for node, below in itertools.pairwise(body):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(below, ast.Expr):
            found[node.target.id] = " ".join(str(ast.literal_eval(below.value)).split())
    return found


# -------------------------------------------------------------------- lines


def _headline(command: type) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((inspect.getdoc(command) or "").partition("\n\n")[0].split())


def _width() -> int:
    return min(WIDEST, shutil.get_terminal_size().columns)


def _wrapped(text: str, later: str) -> list[str]:
    return textwrap.wrap(text, _width(), subsequent_indent=later, break_long_words=False, break_on_hyphens=False)


def _line(typed: str, text: str, column: int = COLUMN) -> list[str]:
    """What is typed, and beside it, or below if it is long, what it does."""
    first, indent = f"  {typed}", " " * column
    room = max(_width() - column, 24)
    lines = textwrap.wrap(text.strip(), room, break_long_words=False, break_on_hyphens=False) or [""]
    if len(first) + 2 > column:
        return [first, *(indent + line for line in lines)]
    return [first.ljust(column) + lines[0], *(indent + line for line in lines[1:])]
