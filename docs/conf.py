"""How Sphinx builds the documentation site: `make docs`."""

from kinescribe.schemas.version import VERSION

project = "Kinescribe"
author = "The Kinescribe developers"
release = VERSION
html_title = f"Kinescribe {VERSION}"
html_theme = "furo"
html_copy_source = False

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_heading_anchors = 3
exclude_patterns: list[str] = []

autodoc_member_order = "bysource"
autodoc_typehints = "description"
