"""Sphinx: the pages of this folder as HTML (`make docs`)."""

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert

project = "magnetic-mirror"
author = "The magnetic-mirror authors"
html_show_copyright = False
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_math_renderer = "mathml"
exclude_patterns = ["_build"]
myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath"]
html_theme = "furo"
html_title = project
html_static_path = ["style.css"]
html_css_files = ["style.css"]
PHONE = 460  # points: a figure that is drawn wider would be too small to read on a phone
default_role = "code"  # docstrings quote code in single backticks
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_use_ivar = True  # attributes are described once, in the docstring of their class
python_maximum_signature_line_length = 80


def as_restructured_text(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Docstrings set formulas off by indentation alone, where a `::` is needed, and `|A|` means no substitution."""
    found: list[str] = []
    literal = False
    for before, line in zip(["", *lines], lines, strict=False):
        if line and not line.startswith(" "):
            literal = False
        elif line.startswith("    ") and not before and not literal and not _section(found):
            literal = True
            found += ["::", ""]
        found.append(line if literal else "`".join(_outside_code(line.split("`"))))
    lines[:] = found


def _outside_code(parts: list[str]) -> list[str]:
    parts[::2] = [part.replace("|", "\\|") for part in parts[::2]]
    return parts


def _section(lines: list[str]) -> bool:
    """Whether the text so far stands in a section such as `Args:`, whose entries are indented anyway."""
    heads = [line for line in lines if line and not line.startswith(" ")]
    return bool(heads) and heads[-1] in ("Args:", "Attributes:", "Returns:", "Raises:", "Yields:")


def without_a_type(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Napoleon takes what stands before a colon in a property's docstring for its type; the signature has that."""
    for i, line in enumerate(lines if what == "property" else ()):
        if line.startswith(":type: "):
            lines[0] = f"{line.removeprefix(':type: ')}: {lines[0]}"
            del lines[i]
            return


def skip_fields(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Fields of a NamedTuple are described in its docstring, and not as aliases for numbers."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def arrays_by_their_public_name(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: Any, result: Any
) -> Any:
    """JAX's array has a private module in a signature."""
    return tuple(text and text.replace("jaxlib._jax.Array", "Array") for text in (signature, result))


def wide_figures(app: Any, tree: nodes.document) -> None:
    """Figures too wide for a phone are given a class: there they are moved sideways, and the others shrink."""
    for image in tree.findall(nodes.image):
        drawn = re.search(r'<svg [^>]*?width="([\d.]+)pt"', Path(app.srcdir, image["uri"]).read_text("utf-8"))
        if drawn is not None and float(drawn[1]) > PHONE:
            image["classes"].append("wide")


def inline_formula(page: Any, node: nodes.math) -> None:
    """A formula as MathML, which browsers draw themselves: a page from a disk needs no network for it."""
    page.body.append(convert(node.astext()))
    raise nodes.SkipNode


def formula(page: Any, node: nodes.math_block) -> None:
    """The same on a line of its own."""
    page.body.append(f'<div class="math">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", as_restructured_text, priority=400)  # before napoleon
    app.connect("autodoc-process-docstring", without_a_type, priority=600)  # after it
    app.connect("doctree-read", wide_figures)
    app.add_html_math_renderer("mathml", (inline_formula, None), (formula, None))
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("autodoc-process-signature", arrays_by_their_public_name)
