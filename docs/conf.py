"""Sphinx settings: `make docs` builds the site and fails on every warning, broken links included."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import generate

from migrator import __version__

generate.write(Path(__file__).parent / "reference" / "generated")

project = "migrator"
version = release = __version__
copyright = "the migrator authors"  # noqa: A001  the name that Sphinx reads
extensions = ["myst_parser"]
exclude_patterns = ["deploy/Dockerfile*", "examples"]
myst_heading_anchors = 3
suppress_warnings = ["misc.highlighting_failure"]  # Mermaid has no lexer
html_theme = "alabaster"
html_theme_options = {
    "description": "Bulk changes through a REST API, at the speed of its quota",
    "page_width": "1100px",
}
html_show_copyright = False
