"""How Sphinx builds the site from the Markdown in this folder; `python -m docs` calls it."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "_site"))  # our own extensions

project = "trioflow"
author = "The trioflow authors"
project_copyright = author
release = version = version_of("trioflow")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "contents",
    "pictures",
    "references",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["README.md", "_site", "benchmarks/report.md"]  # the report is thousands of lines of figures
nitpicky = True

# ---------------------------------------------------------------- Markdown

myst_heading_anchors = 4
myst_links_external_new_tab = False
suppress_warnings = ["myst.strikethrough"]

# ---------------------------------------------------------------- the reference

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
add_module_names = False
toc_object_entries_show_parents = "hide"
maximum_signature_line_length = 88
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

# Stored, so that the build needs no network; `python -m docs --inventories` fetches them again. What is there now is of
# Python 3.11, trio 0.35 and anyio 4.16, made from their released documentation.
intersphinx_mapping = {
    "python": ("https://docs.python.org/3", "inventories/python.inv"),
    "trio": ("https://trio.readthedocs.io/en/stable", "inventories/trio.inv"),
    "anyio": ("https://anyio.readthedocs.io/en/stable", "inventories/anyio.inv"),
}
intersphinx_disabled_reftypes = ["*"]  # only from names in docstrings and signatures; pages have links

# ---------------------------------------------------------------- how it looks

html_theme = "furo"
html_title = f"trioflow {version}"
html_static_path = ["_site/static"]
html_css_files = ["site.css"]
html_logo = "_site/static/logo.svg"
html_favicon = "_site/static/logo.svg"
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "navigation_with_keys": True,
    "light_css_variables": {"color-brand-primary": "#1d6b63", "color-brand-content": "#1d6b63"},
    "dark_css_variables": {"color-brand-primary": "#6cc7bb", "color-brand-content": "#6cc7bb"},
}
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True

# ---------------------------------------------------------------- links to elsewhere: `python -m docs --external`

linkcheck_anchors = False  # GitHub makes its anchors by script
linkcheck_timeout = 20
linkcheck_workers = 4
