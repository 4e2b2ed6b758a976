"""The tutorials as notebooks.

    make notebooks
    python -m docs.notebooks [FOLDER]          into runs/notebooks unless told otherwise

A page's Python becomes cells, and its commands become cells that begin with `!`; what they print is left to the reader.
Needs Jupytext, of the extra `docs`. Notebooks are made and not kept: the pages are what the tests run.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(page for page in (ROOT / "docs" / "tutorials").glob("*.md") if page.stem != "index")
SHOWN = re.compile(r"^```output\n.*?^```\n", re.MULTILINE | re.DOTALL)
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[([^\]]+)\]\((?!https?:)[^)\s]+\)")  # to another page


def text_of(page: Path) -> str:
    """A page as Jupytext reads it: commands as cells, nothing shown, and links to other pages as plain text."""

    def cell(block: re.Match[str]) -> str:
        commands = re.findall(r"^\$ (.*)$", block[1], re.MULTILINE)
        return "```python\n" + "".join(f"!{command}\n" for command in commands) + "```"

    shown = SHOWN.sub("", page.read_text("utf-8"))
    return LINK.sub(r"\1", CONSOLE.sub(cell, shown))


def main(words: Sequence[str]) -> None:
    """Write them."""
    import jupytext

    folder = Path(words[0]) if words else ROOT / "runs" / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    for page in PAGES:
        jupytext.write(jupytext.reads(text_of(page), fmt="md"), folder / f"{page.stem}.ipynb")
        sys.stdout.write(f"wrote {folder / page.stem}.ipynb\n")


if __name__ == "__main__":
    main(sys.argv[1:])
