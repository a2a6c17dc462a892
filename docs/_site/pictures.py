"""`<picture>`, as GitHub shows it by day and by night, becomes two pictures, of which the theme shows one."""

import re
from typing import Any

from docutils import nodes
from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

SOURCE = re.compile(r'<source[^>]*\bsrcset="([^"]+)"')
IMAGE = re.compile(r'<img[^>]*\bsrc="([^"]+)"')
TEXT = re.compile(r'\balt="([^"]*)"')


class Pictures(SphinxTransform):
    """Replaces each `<picture>`."""

    default_priority = 200  # before the files of images are collected

    def apply(self, **_: Any) -> None:
        """Replace them."""
        for raw in list(self.document.findall(nodes.raw)):
            text = raw.astext()
            if not text.lstrip().startswith("<picture"):
                continue
            dark, light, alt = (
                SOURCE.search(text),
                IMAGE.search(text),
                TEXT.search(text),
            )
            if not (dark and light and alt and "prefers-color-scheme: dark" in text):
                raise ValueError(
                    f"{raw.source}:{raw.line}: a <picture> needs a dark <source>, and an <img> with alt="
                )
            images = [
                nodes.image(uri=found[1], alt=alt[1], classes=[name])
                for found, name in ((light, "only-light"), (dark, "only-dark"))
            ]
            for image in images:
                image.source, image.line = raw.source, raw.line
            raw.replace_self(nodes.paragraph("", "", *images))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register it."""
    app.add_transform(Pictures)
    app.add_lexer("mermaid", TextLexer)  # GitHub draws it; here it is text
    return {"parallel_read_safe": True}
