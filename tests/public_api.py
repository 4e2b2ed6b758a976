"""What users rely on, as text: every public name with its signature, every command with its options.

    python -m tests.public_api          writes tests/public_api.txt

Signatures are read from the sources as they are written there, so the text is the same with every version of Python and
of JAX. Names are those of the reference (docs/reference), which has all that the packages say is public; a class comes
with its public members, those that it inherits from a class of this project included.
"""

import ast
import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from llm_bridge.command import options as mpo_options
from mmd.command import options as mmd_options
from mmd.host.command_line import commands_of, options_of

ROOT = Path(__file__).resolve().parents[1]
LIST = Path(__file__).with_suffix(".txt")
PACKAGES = ("mmd", "games", "llm_bridge")
ENTRY = re.compile(r"^\.\. auto(\w+):: ([\w.]+)\n(   :members:)?", re.MULTILINE)
SPECIAL = {"__init__", "__call__", "__getitem__", "__iter__", "__len__", "__eq__"}
HEADER = "# Written by python -m tests.public_api: what users rely on. A change belongs into CHANGELOG.md.\n"
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Defined(NamedTuple):
    """A definition, and the module that it stands in."""

    module: str
    node: ast.stmt


# -------------------------------------------------------------------- sources


@cache
def body(module: str) -> list[ast.stmt]:
    file = ROOT.joinpath(*module.split("."))
    file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
    return ast.parse(file.read_text("utf-8")).body


def named(node: ast.stmt) -> list[str]:
    """What a statement gives a name to."""
    if isinstance(node, Function | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]


def definitions(module: str, name: str) -> list[Defined]:
    """All definitions of a name, overloads included, wherever the module has it from; none if from another library."""
    found = [Defined(module, node) for node in body(module) if name in named(node)]
    for node in body(module):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES:
            for alias in node.names:
                if (alias.asname or alias.name) == name and not found:
                    return definitions(str(node.module), alias.name)
    return found


def home(name: str) -> tuple[str, str]:
    """The module and the name there of a public name such as `mmd.Game` or `games.matrix.game`."""
    package, *rest = name.split(".")
    public = importlib.import_module(package)
    if len(rest) == 2:
        return getattr(public, "_MODULES", {}).get(rest[0], f"{package}.{rest[0]}"), rest[1]
    return getattr(public, "_HOME", {}).get(rest[0], package), rest[0]


# -------------------------------------------------------------------- text


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


def public_names() -> list[str]:
    """Names of the reference; of a module with all its members, these."""
    found = []
    for package in PACKAGES:
        page = (ROOT / "docs" / "reference" / f"{package}.md").read_text("utf-8")
        for kind, name, all_members in ENTRY.findall(page):
            defined = body(name) if kind == "module" and all_members else []
            inner = [n for node in defined if isinstance(node, Function | ast.ClassDef) for n in named(node)]
            found += [f"{name}.{n}" for n in inner if not n.startswith("_")] if kind == "module" else [name]
    return sorted(found)


def command_lines() -> Iterator[str]:
    """Each command with its options."""
    for program, options in (("mmd", mmd_options), ("mpo", mpo_options)):
        for name, command in commands_of(options.Command).items():
            typed = sorted(f"--{option.replace('_', '-')}" for option in options_of(command))
            yield " ".join([program, name, *typed])


def text() -> str:
    """The whole list, as the sources are now."""
    lines = [line for name in public_names() for line in described(name, definitions(*home(name)))]
    return "\n".join([HEADER, *lines, "", *command_lines()]) + "\n"


if __name__ == "__main__":
    LIST.write_text(text(), "utf-8")
