"""What users rely on, as text: every public name with its signature, every command with its options.

    python -m tests.public_api          writes tests/public_api.txt

Signatures are read from the sources as they are written there, so the text is the same with every version of Python and
of JAX. Names are those of the reference (docs/reference), which has all that the packages say is public; a class comes
with its public members, those that it inherits from a class of this project included.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from docs.public_names import Defined, Function, definitions, home, named, public_names
from llm_bridge.command import options as mpo_options
from mmd.command import options as mmd_options
from mmd.host.command_line import options_of

LIST = Path(__file__).with_suffix(".txt")
SPECIAL = {"__init__", "__call__", "__getitem__", "__iter__", "__len__", "__eq__"}
HEADER = "# Written by python -m tests.public_api: what users rely on. A change belongs into CHANGELOG.md.\n"


def described(name: str, found: list[Defined]) -> Iterator[str]:
    """The lines of a name: a class with its members, a function with each overload, or a value."""
    for module, node in found:
        if isinstance(node, ast.ClassDef):
            bases = ", ".join(map(ast.unparse, [*node.bases, *node.keywords]))
            yield f"{name}: class({bases})"
            yield from (f"    {line}" for line in members(module, node).values())
        elif isinstance(node, Function):
            yield f"{name}{signature(node)}"
        else:
            yield f"{name}: {ast.unparse(node)}"


def members(module: str, node: ast.ClassDef) -> dict[str, str]:
    """Public members of a class -> their lines, its own before what it inherits."""
    found: dict[str, str] = {}
    for inner in node.body:
        for name in named(inner):
            if not name.startswith("_") or name in SPECIAL:
                found[name] = member(name, inner)
    for base in node.bases:
        plain = base.value if isinstance(base, ast.Subscript) else base
        for where, inherited in definitions(module, plain.id) if isinstance(plain, ast.Name) else []:
            if isinstance(inherited, ast.ClassDef):
                found = members(where, inherited) | found
    return found


def member(name: str, node: ast.stmt) -> str:
    """The line of a field, a property or a method."""
    if not isinstance(node, Function):
        return ast.unparse(node)
    marks = {ast.unparse(mark).rpartition(".")[2] for mark in node.decorator_list}
    if marks & {"property", "cached_property"}:
        return f"{name} -> {ast.unparse(node.returns) if node.returns else 'Any'}"
    kinds = "".join(f"{mark} " for mark in sorted(marks & {"classmethod", "staticmethod"}))
    return f"{kinds}{name}{signature(node)}"


def signature(node: Function) -> str:
    """Parameters with annotations and defaults, and what is returned."""
    return f"({ast.unparse(node.args)})" + (f" -> {ast.unparse(node.returns)}" if node.returns else "")


def command_lines() -> Iterator[str]:
    """Each command with its options."""
    for program, options in (("mmd", mmd_options), ("mpo", mpo_options)):
        for name, command in options.PROGRAM.commands.items():
            typed = sorted(f"--{option.replace('_', '-')}" for option in options_of(command))
            yield " ".join([program, name, *typed])


def text() -> str:
    """The whole list, as the sources are now."""
    lines = [line for name in public_names() for line in described(name, definitions(*home(name)))]
    return "\n".join([HEADER, *lines, "", *command_lines()]) + "\n"


if __name__ == "__main__":
    LIST.write_text(text(), "utf-8")
