"""What the pages of docs/reference list: public names, where each is defined, and its docstrings.

Read from the sources as they are written there, so the answer is the same with every version of Python and of JAX.
"""

import ast
import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("mmd", "games", "llm_bridge")
ENTRY = re.compile(r"^\.\. auto(\w+):: ([\w.]+)\n(   :members:)?", re.MULTILINE)
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Defined(NamedTuple):
    """A definition, and the module that it stands in."""

    module: str
    node: ast.stmt


class Docstring(NamedTuple):
    """A docstring, the file that it stands in, and its first line there."""

    file: Path
    line: int
    text: str


def file_of(module: str) -> Path:
    """The file of a module of this project."""
    place = ROOT.joinpath(*module.split("."))
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


@cache
def tree(module: str) -> ast.Module:
    """A module's source."""
    return ast.parse(file_of(module).read_text("utf-8"))


def named(node: ast.stmt) -> list[str]:
    """What a statement gives a name to."""
    if isinstance(node, Function | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]


def definitions(module: str, name: str) -> list[Defined]:
    """All definitions of a name, overloads included, wherever the module has it from; none if from another library."""
    found = [Defined(module, node) for node in tree(module).body if name in named(node)]
    for node in tree(module).body:
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


def entries() -> Iterator[tuple[str, str, bool]]:
    """Kind and name of each entry, and whether it comes with its members."""
    for package in PACKAGES:
        page = (ROOT / "docs" / "reference" / f"{package}.md").read_text("utf-8")
        yield from ((kind, name, bool(with_members)) for kind, name, with_members in ENTRY.findall(page))


def members_of(module: str) -> list[str]:
    """Public names that a module defines."""
    defined = [node for node in tree(module).body if isinstance(node, Function | ast.ClassDef)]
    return [name for node in defined for name in named(node) if not name.startswith("_")]


def public_names() -> list[str]:
    """Names of the reference; of a module with all its members, these."""
    found: list[str] = []
    for kind, name, with_members in entries():
        inner = members_of(name) if kind == "module" and with_members else []
        found += [f"{name}.{n}" for n in inner] if kind == "module" else [name]
    return sorted(found)


def docstrings() -> list[Docstring]:
    """Those that the reference shows, each once."""
    found: dict[Docstring, None] = {}
    for kind, name, _ in entries():
        if kind == "module":
            package, *rest = name.split(".")
            module = getattr(importlib.import_module(package), "_MODULES", {}).get(".".join(rest), name)
            found |= dict.fromkeys(_docstrings(Defined(module, tree(module)), False))
    for name in public_names():
        for one in definitions(*home(name)):
            found |= dict.fromkeys(_docstrings(one, True))
    return [*found]


def _docstrings(defined: Defined, with_members: bool) -> Iterator[Docstring]:
    """A definition's docstring, and those of its public members."""
    node = defined.node
    if not isinstance(node, Function | ast.ClassDef | ast.Module):
        return
    if text := ast.get_docstring(node):
        yield Docstring(file_of(defined.module), node.body[0].lineno, text)
    for inner in node.body if with_members and isinstance(node, ast.ClassDef) else ():
        if isinstance(inner, Function) and not inner.name.startswith("_"):
            yield from _docstrings(Defined(defined.module, inner), False)
