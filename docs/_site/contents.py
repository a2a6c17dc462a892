"""The contents of the site are the lists of README.md: each heading is a part, and each item of its list a page.

So the sidebar, and the list that people see on GitHub, are one text. A page that shows a file from elsewhere, such as
the changelog, is a stub here; it is named by that file in README.md.
"""

import os
import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

DOCS = Path(__file__).parents[1]
SHOWN = {
    "index": "README.md",
    "changelog": "../CHANGELOG.md",
    "contributing": "../CONTRIBUTING.md",
    "security": "../SECURITY.md",
}
"""The pages that show another file in place of their own text."""
PAGE_OF = {file: page for page, file in SHOWN.items()} | {"../README.md": "index"}
LINK = re.compile(r"(?<!!)\[((?:[^][]|\[[^][]*\])*)\]\(([^)#:\s]+)((?:#[^)\s]*)?)\)")
"""A link to a file: its text, its path, and the place in it."""


def page_of(folder: str, path: str) -> str | None:
    """Return the page that a link from a file in a folder leads to, if that is a page of the site."""
    target = os.path.relpath(
        os.path.join(DOCS, folder, path), DOCS
    )  # "../docs/x.md" is x.md
    if target in PAGE_OF:
        return PAGE_OF[target]
    is_page = target.endswith(".md") and not target.startswith(("..", "decisions"))
    return target.removesuffix(".md") if is_page else None


def toctrees(text: str) -> str:
    """Return a table of contents for each part of README.md, hidden, for the sidebar."""
    parts: list[tuple[str, list[str]]] = []
    found: set[str] = set()  # each page is in the first part that leads to it
    for line in text.splitlines():
        if line.startswith("## "):
            parts.append((line.removeprefix("## "), []))
        elif parts and line.startswith(
            ("- ", "  ")
        ):  # an item of a list, or its next line
            for link in LINK.finditer(line):
                page = page_of("", link[2])
                if page is not None and page not in found:
                    found.add(page)
                    parts[-1][1].append(page)
    trees = [
        ["```{toctree}", ":hidden:", f":caption: {name}", "", *pages, "```"]
        for name, pages in parts
        if pages
    ]
    return "\n\n".join("\n".join(tree) for tree in trees)


def on_read(app: Sphinx, name: str, source: list[str]) -> None:
    """Give stubs their text, let links lead to pages of the site, and give the first page its contents."""
    shown = SHOWN.get(name, f"{name}.md")
    if name in SHOWN:
        app.env.note_dependency(os.path.join(app.srcdir, shown))
        source[0] = Path(app.srcdir, shown).read_text(encoding="utf-8")
    folder, here = os.path.dirname(shown), os.path.dirname(name)

    def rewritten(link: re.Match[str]) -> str:
        text, path, place = link.groups()
        page = page_of(folder, path)
        found = Path(app.srcdir, folder, path)
        if page is not None and app.env.found_docs and page in app.env.found_docs:
            return f"[{text}]({os.path.relpath(page, here or '.')}.md{place})"
        if (
            found.is_dir() or "decisions" in found.parts
        ):  # only in the repository there is something to see
            return text
        if found.is_file():
            return f"[{text}](path:{os.path.relpath(os.path.join(folder, path), here or '.')})"
        return link[0]  # a wrong one, which Sphinx reports

    source[0] = LINK.sub(rewritten, source[0])
    if name == app.config.root_doc:
        source[0] += "\n" + toctrees(
            Path(app.srcdir, "README.md").read_text(encoding="utf-8")
        )


def setup(app: Sphinx) -> dict[str, Any]:
    """Register it."""
    app.connect("source-read", on_read)
    return {"parallel_read_safe": True}
