"""A page: sections of blocks, written as one file of HTML.

Labels, answers and settings come from whoever made the run. They are escaped where they stand in the HTML, scripts set
them as text and never as HTML, and should both fail, the page's policy names the digest of the one script that may run,
so no other one does. The same policy forbids every request.
"""

import base64
import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from mmd.host.files import OutputError, prepare_file, replacing
from mmd.report.blocks import breakable_html, text_html

ASSETS = Path(__file__).with_name("assets")
STYLES = ("uplot/uPlot.min.css", "page.css")
SCRIPTS = ("uplot/uPlot.iife.min.js", "dom.js", "rows.js", "chart.js", "policies.js", "answers.js", "page.js")
POLICY = (
    "default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)
SUFFIXES = (".html", ".htm")


@runtime_checkable
class Block(Protocol):
    """A part of a section."""

    def html(self) -> str:
        """As HTML, all text escaped."""
        ...


class Section(NamedTuple):
    """A part of a page that the list at its top leads to."""

    heading: str
    parts: Sequence[Block]


class Page(NamedTuple):
    """What a page says.

    Attributes:
        title: what it is about.
        lead: a sentence below the title.
        sections: in order; those without a block are left out.
        foot: what made the page.
    """

    title: str
    lead: str
    sections: Sequence[Section]
    foot: str = ""

    def html(self) -> str:
        """The whole document."""
        sections = [section for section in self.sections if section.parts]
        names = _anchors([section.heading for section in sections])
        links = "".join(
            f'<li><a href="#{name}">{text_html(section.heading)}</a></li>'
            for name, section in zip(names, sections, strict=True)
        )
        body = "".join(
            f'<section id="{name}" aria-labelledby="{name}-heading">'
            f'<h2 id="{name}-heading">{text_html(section.heading)}</h2>'
            f"{''.join(block.html() for block in section.parts)}</section>"
            for name, section in zip(names, sections, strict=True)
        )
        script = _assets(SCRIPTS)
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY.format(digest=digest)}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta name="color-scheme" content="light dark">\n'
            f"<title>{text_html(self.title)}</title>\n<style>{_assets(STYLES)}</style>\n</head>\n<body>\n"
            '<a class="skip" href="#main">Skip to the content</a>\n'
            f'<header><div class="top"><h1>{breakable_html(self.title)}</h1>'
            '<button type="button" id="theme" hidden>Dark</button></div>'
            f'<p class="lead">{text_html(self.lead)}</p>'
            f'<nav aria-label="Sections"><ul>{links}</ul></nav></header>\n'
            "<noscript><p>Curves, policies and answers need scripts, which are off; the rest is here.</p></noscript>\n"
            f'<main id="main" tabindex="-1">{body}</main>\n<footer>{text_html(self.foot)}</footer>\n'
            f"<script>{script}</script>\n</body>\n</html>\n"
        )


def prepare(path: str | os.PathLike[str]) -> Path:
    """Make sure that a page can be written there.

    Raises:
        OutputError: it cannot; the message says why.
    """
    return prepare_file(path, SUFFIXES)


def write(page: Page, path: str | os.PathLike[str]) -> None:
    """Write a page, whole.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        with replacing(path) as part:
            part.write_bytes(page.html().encode("utf-8", "xmlcharrefreplace"))  # half a surrogate pair is no UTF-8
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from None


def labelled(folders: Sequence[Path]) -> dict[str, Path]:
    """Folders by name; by their paths where names are not enough."""
    names = [folder.resolve().name for folder in folders]
    labels = names if len(set(names)) == len(names) else [str(folder) for folder in folders]
    return dict(zip(labels, folders, strict=True))


def _anchors(headings: Sequence[str]) -> list[str]:
    """A name for each section, of letters, digits and hyphens, no two alike."""
    plain = [re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-") for heading in headings]
    return [f"{name}-{i}" if plain.index(name) != i else name for i, name in enumerate(plain)]


def _assets(names: Sequence[str]) -> str:
    return "\n".join((ASSETS / name).read_text("utf-8") for name in names)
