"""Sentences of README, docs and public docstrings that are longer than a reader holds.

    python -m docs.sentences [PAGE...]

Lists them with their place, the longest first. A sentence is what stands between full stops. A piece of code, a list of
such pieces and a formula count as one word, a link as the words of its text. Code blocks, tables, headings and pages
that are written from results or decisions of the past are left out. Docstrings are those that docs/reference shows.
"""

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from docs import public_names

ROOT = Path(__file__).resolve().parents[1]
MOST = 25  # words
PAGES = (
    ROOT / "README.md",
    ROOT / "docs" / "index.md",
    ROOT / "docs" / "gallery" / "index.md",
    ROOT / "docs" / "reference" / "definitions.md",
    *(page for room in ("tutorials", "how-to", "explanation") for page in sorted((ROOT / "docs" / room).glob("*.md"))),
)
FENCE = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)
BLANKED = re.compile(r"[^\n]")
ITEM = re.compile(r"^ *(?:[*+-]|\d+\.) ")
NO_TEXT = re.compile(r"^ *(?:[|#<:]|!\[|\$\$|\{)")
AS_ONE = (
    (re.compile(r"!?\[([^\]]*)\]\([^)]*\)"), r"\1"),  # a link is its text
    (re.compile(r"`[^`]*`"), "code"),
    (re.compile(r"code(?:, (?:and |or )?code)+"), "code"),  # a list of names is looked at, not read
    (re.compile(r"\$[^$]+\$"), "formula"),
    (re.compile(r"\b(?:e\.g|i\.e|et al|vs|prop|app)\.", re.IGNORECASE), "and"),
    (re.compile(r"(\d)\.(\d)"), r"\1,\2"),
)
SECTION = re.compile(r"^(?:Args|Attributes|Raises|Returns|Yields):$", re.MULTILINE)
ENTRY = re.compile(r"^ {4}(?:\*{0,2}\w+(?:, )?)+: ", re.MULTILINE)  # of a section: names, and what they are
SET_OFF = re.compile(r"(?<=\n\n)(?: {4}.*\n?)+")  # a formula or code
END = re.compile(
    r"(?<=[.!?])[*)\"”]*\s+(?=[\"“(*]*[A-Z0-9`\[]|\"[a-z]|code|formula)|:\s+(?=\*[A-Z])"
)  # or a title behind its authors


class Sentence(NamedTuple):
    """One sentence, and the line on which its paragraph begins."""

    page: Path
    line: int
    text: str

    @property
    def words(self) -> int:
        """Words, without dashes and signs that stand alone."""
        return sum(bool(re.search(r"\w", word)) for word in self.text.split())


def paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """Paragraphs and items of lists, each with its first line; code, tables and headings left out."""
    kept = FENCE.sub(lambda block: BLANKED.sub("", block[0]), text)
    begun, lines = 0, []
    for number, line in enumerate([*kept.splitlines(), ""], 1):
        if lines and (not line.strip() or ITEM.match(line) or NO_TEXT.match(line)):
            yield begun, " ".join(lines)
            lines = []
        if line.strip() and not NO_TEXT.match(line):
            begun = begun if lines else number
            lines.append(ITEM.sub("", line).strip())


def sentences(page: Path, text: str, first: int = 1) -> Iterator[Sentence]:
    """Every sentence of a text, which begins on a line of a page."""
    for line, paragraph in paragraphs(text):
        for pattern, word in AS_ONE:
            paragraph = pattern.sub(word, paragraph)
        yield from (Sentence(page, first + line - 1, text) for text in END.split(paragraph))


def prose(docstring: str) -> str:
    """A docstring as a page would have it, line by line: entries of its sections are items of lists."""
    begun = found.start() if (found := SECTION.search(docstring)) else len(docstring)
    before = SET_OFF.sub(lambda formula: BLANKED.sub("", formula[0]), docstring[:begun])
    return before + ENTRY.sub("- ", SECTION.sub("", docstring[begun:]))


def long_ones(pages: Sequence[Path] = PAGES) -> list[Sentence]:
    """Sentences of pages with more than `MOST` words, the longest first."""
    return _long(sentence for page in pages for sentence in sentences(page, page.read_text("utf-8")))


def long_ones_of_docstrings() -> list[Sentence]:
    """Sentences of public docstrings with more than `MOST` words, the longest first."""
    shown = public_names.docstrings()
    return _long(sentence for one in shown for sentence in sentences(one.file, prose(one.text), one.line))


def _long(found: Iterable[Sentence]) -> list[Sentence]:
    return sorted((one for one in found if one.words > MOST), key=lambda one: -one.words)


def main(names: Sequence[str]) -> int:
    """Print them; 1 if there are any."""
    found = long_ones([Path(name).resolve() for name in names]) if names else [*long_ones(), *long_ones_of_docstrings()]
    for one in found:
        sys.stdout.write(f"{one.page.relative_to(ROOT)}:{one.line}: {one.words} words: {one.text}\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
