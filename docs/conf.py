"""Sphinx: the pages of this folder as HTML (`make docs`)."""

from typing import Any

project = "magnetic-mirror"
author = "The magnetic-mirror authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath"]
html_theme = "furo"
html_title = project
suppress_warnings = ["toc.empty_glob"]  # a section lists its pages in order, then those that came later
default_role = "code"  # docstrings quote code in single backticks
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 80


def literal_blocks(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Docstrings set formulas and code off by indentation alone; in reStructuredText such a block needs a `::`."""
    found: list[str] = []
    inside = False
    for before, line in zip(["", *lines], lines, strict=False):
        if line and not line.startswith(" "):
            inside = False
        elif line.startswith("    ") and not before and not inside and not _section(found):
            inside = True
            found += ["::", ""]
        found.append(line)
    lines[:] = found


def _section(lines: list[str]) -> bool:
    """Whether the text so far stands in a section such as `Args:`, whose entries are indented anyway."""
    heads = [line for line in lines if line and not line.startswith(" ")]
    return bool(heads) and heads[-1].endswith(":") and heads[-1][:-1] in ("Args", "Returns", "Raises", "Yields")


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", literal_blocks, priority=400)  # before napoleon
