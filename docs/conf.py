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
    "sphinx_copybutton",
    "contents",
    "docstrings",
    "pictures",
    "references",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["README.md", "_site", "decisions"]
nitpicky = True
smartquotes_action = "D"  # dashes alone: much of what is quoted is code

# ---------------------------------------------------------------- Markdown

myst_heading_anchors = 4
myst_links_external_new_tab = False
suppress_warnings = ["myst.strikethrough"]

# ---------------------------------------------------------------- the reference

# Whose members are not shown again with each class that derives from them; those of private bases are.
INHERITED = "AbstractJob,JobKind,FunctionJob,BaseException,Enum,Executor,Generic,Protocol,Sequence,dict,object,tuple"
autodoc_default_options = {
    "members": True,
    "show-inheritance": True,
    "inherited-members": INHERITED,
}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
add_module_names = False
toc_object_entries_show_parents = "hide"
maximum_signature_line_length = 88
python_use_unqualified_type_names = True

# What has no page to link to.
nitpick_ignore_regex = [
    (
        "py:.*",
        r"Digraph|Source|RunJournal",
    ),  # graphviz publishes no inventory; a protocol of the engine
    (
        "py:.*",
        r"resource\.struct_rusage|re\.Pattern",
    ),  # on pages of Python's, without an entry
    ("py:.*", r"(typing_extensions\.)?TypeIs"),  # newer than the inventory of Python
    ("py:.*", r"opentelemetry\..*"),  # its names are not on these pages
]

# Stored, so that the build needs no network; `python -m docs --inventories` fetches them again. What is there now is of
# Python 3.11, trio 0.35 and anyio 4.16, made from their released documentation.
INVENTORIES = DOCS / "inventories"
intersphinx_mapping = {
    "python": ("https://docs.python.org/3", str(INVENTORIES / "python.inv")),
    "trio": ("https://trio.readthedocs.io/en/stable", str(INVENTORIES / "trio.inv")),
    "anyio": ("https://anyio.readthedocs.io/en/stable", str(INVENTORIES / "anyio.inv")),
}

# ---------------------------------------------------------------- how it looks

html_theme = "furo"
html_title = f"trioflow {version}"
html_static_path = ["_site/static"]
html_css_files = ["site.css"]
html_logo = "_site/static/logo.svg"
html_favicon = "_site/static/logo.svg"
html_copy_source = False
html_search_scorer = str(DOCS / "_site" / "scorer.js")
html_show_sphinx = False
COLOURED = (
    "color-brand-primary",
    "color-brand-content",
    "color-brand-visited",
    "color-api-name",
    "color-api-pre-name",
)
html_theme_options = {
    "navigation_with_keys": True,
    "light_css_variables": dict.fromkeys(COLOURED, "#1d6b63"),
    "dark_css_variables": dict.fromkeys(COLOURED, "#6cc7bb"),
}
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
copybutton_line_continuation_character = "\\"

# ---------------------------------------------------------------- links to elsewhere: `python -m docs --external`

linkcheck_anchors = False  # GitHub makes its anchors by script
linkcheck_timeout = 20
linkcheck_workers = 4
