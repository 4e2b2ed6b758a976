"""Sphinx: the pages of this folder as HTML (`make docs`)."""

project = "magnetic-mirror"
author = "The magnetic-mirror authors"
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = project
