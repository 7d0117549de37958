"""The documentation as a site: ``make docs`` builds it from this repository's own pages and docstrings."""

project = "sdpo-bench"
author = "the sdpo-bench authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinxarg.ext"]
root_doc = "docs/index"
# The source is the repository, so that links between its pages are those of the files.
include_patterns = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/**.md",
    "config/README.md",
    "resources/*/README.md",
    "results/README.md",
]
myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath"]
suppress_warnings = ["myst.header"]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
html_theme = "furo"
html_title = "sdpo-bench"
html_show_copyright = False
html_show_sourcelink = False
