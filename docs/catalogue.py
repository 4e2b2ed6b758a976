"""docs/reference/catalogue.md: every built-in game, algorithm, method, family and judge, from their docstrings.

    python -m docs.catalogue

A file of an algorithm says in its docstring what it is (first line), where it is from (`Source:`) and what is proven of
it (`Proven`). The page repeats these, so a new file appears there by itself; a test keeps the page equal to the files.
"""

import ast
import importlib
import re
from pathlib import Path

import games
from mmd import algorithms

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "catalogue.md"
TRAINING = ROOT / "llm_bridge" / "train"
OPENING = """# Catalogue

Everything that is built in, found by its name: `mmd solve GAME --algorithm NAME`, `mpo train --method NAME`. Written by
`python -m docs.catalogue` from the docstrings of the files; a test keeps the two equal. *Regularized* is the game in
which players also pay for leaving the magnet; *original* the game without that ([definitions](definitions.md)). What
comes from outside the package is named in [another way](../how-to/from-outside.md).
"""
FAMILIES = "The family of a checkpoint is the `model_type` of its `config.json`."
JUDGES = (
    "Whatever takes three lists is a judge. These are built in ([how to](../how-to/train-on-preferences.md#judges))."
)


def docstring(file: Path) -> str:
    """A module's docstring, read without importing the module."""
    return ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""


def modules(folder: Path) -> dict[str, str]:
    """Docstrings of a folder's modules that are found by name."""
    return {file.stem: docstring(file) for file in sorted(folder.glob("[a-z]*.py"))}


def flat(text: str) -> str:
    """On one line."""
    return " ".join(text.split())


def headline(text: str) -> str:
    """The first line."""
    return flat(text.partition("\n")[0])


def source(text: str) -> str:
    """The paragraph of sources, as far as it is not about what is proven."""
    found = re.search(r"^Sources?: (.*?)(?:\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    return flat(found[1]) if found else ""


def proven(text: str) -> str:
    """What is proven, from its word to the paragraph's end."""
    found = re.search(r"\b(Proven\b.*?)(?:\n\n|\Z)", text, re.DOTALL)
    return flat(found[1]) if found else ""


def escaped(text: str) -> str:
    """Markdown in which a star is a star, as in `pi*`, unless it emphasises a word; code stays."""
    parts = re.split(r"(`[^`]*`)", text)
    parts[::2] = [re.sub(r"(?<!\*)\*(?!\*)", r"\\*", re.sub(r"\*(\w+)\*", r"**\1**", part)) for part in parts[::2]]
    return "".join(parts)


def entry(name: str, text: str) -> str:
    """Name, line, source, guarantee."""
    parts = [headline(text)]
    if cited := source(text):
        parts.append(f"Source: {cited}")
    if (said := proven(text)) and said not in cited:
        parts.append(said)
    return f"### {name}\n\n" + "\n\n".join(map(escaped, parts)) + "\n"


def game_rows() -> list[str]:
    """A row for each built-in spec."""
    rows = ["| spec, with default parameters | what it is |", "| --- | --- |"]
    built_in = {spec: line for spec, line in games.available().items() if not line.startswith("Installed by")}
    return rows + [f"| `{spec}` | {line} |" for spec, line in built_in.items()]


def algorithm_docs() -> dict[str, str]:
    """Docstrings of the files of all algorithms, by public name."""
    homes = {name: algorithms.load(name).__module__ for name in algorithms.names()}
    return {name: importlib.import_module(home).__doc__ or "" for name, home in homes.items()}


def page() -> str:
    """The page of the files as they are now."""
    training = {"mpo": docstring(TRAINING / "mpo.py"), **modules(TRAINING / "baselines")}
    sections = [
        OPENING,
        "## Games\n\n" + "\n".join(game_rows()) + "\n",
        "## Algorithms\n",
        *(entry(name, text) for name, text in algorithm_docs().items()),
        "## Training methods\n",
        *(entry(f"{name.replace('_', '-')} (training)", text) for name, text in training.items()),
        f"## Model families\n\n{FAMILIES}\n\n| `model_type` | what it is |\n| --- | --- |\n"
        + "".join(
            f"| `{n}` | {headline(t)} |\n" for n, t in modules(ROOT / "llm_bridge" / "model" / "families").items()
        ),
        f"## Judges\n\n{JUDGES}\n\n| file of `llm_bridge.judges` | what it is |\n| --- | --- |\n"
        + "".join(f"| `{n}` | {headline(t)} |\n" for n, t in modules(ROOT / "llm_bridge" / "judges").items()),
    ]
    return "\n".join(sections)


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), "utf-8")


if __name__ == "__main__":
    main()
