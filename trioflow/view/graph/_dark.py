"""The colours of a picture of a graph in a page with a dark scheme: `dot` can write only those for a light one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..._core.api.views import JobState
from .._states import INK_IN_THE_DARK, LOOKS
from . import _dot, _style
from ._drawing import LineKind

PAPER: Final = "#1b1f26"
LINES: Final = {LineKind.ORDER: "#9aa5b1", LineKind.DATA: "#7fb8e6"}
CLASS: Final = "trioflow-graph"
NO_TITLE: Final = "<title>%3</title>\n"
"""What `dot` makes of a graph without a name: a tooltip everywhere."""


def rules() -> str:
    """Return a style sheet that gives each colour of the pictures with our class its like in the dark."""
    return "\n".join(["@media screen and (prefers-color-scheme: dark) {", *dict.fromkeys(_rules()), "}"])


def adapted(svg: str) -> str:
    """Return what `dot` has drawn as a picture that goes by the scheme of the page that it is in, or of the browser."""
    svg = svg.replace(NO_TITLE, "", 1)
    start = svg.index("<svg ")
    end = svg.index(">", start) + 1
    tag = svg[start:end].replace("<svg ", f'<svg class="{CLASS}" ', 1)
    return f"{svg[:start]}{tag}<style>{rules()}</style>{svg[end:]}"


def _rules() -> Iterator[str]:
    yield _rule('[fill="white"]', "fill", PAPER)
    yield _rule("text:not([fill])", "fill", INK_IN_THE_DARK)
    for look in LOOKS.values():
        (fill, line, text, frame), dark = look.light, look.dark
        yield _rule(f':not(text)[fill="{fill}"]', "fill", dark.fill)
        yield _rule(f':not(text)[fill="{frame}"]', "fill", dark.frame)
        yield _rule(f'[stroke="{line}"]', "stroke", dark.line)
        yield _rule(f'text[fill="{text}"]', "fill", dark.text)
    failed = JobState.FAILED  # a frame with a failure inside has the colour of a failure as its border
    yield _rule(f'[stroke="{LOOKS[failed].light.fill}"]', "stroke", LOOKS[failed].dark.fill)
    for attribute in ("stroke", "fill"):
        yield _rule(f'[{attribute}="{_style.PATH}"]', attribute, "#ffffff")
    for sort, colour in LINES.items():
        light = _dot.LINES[sort].get("color", _dot.FAINT)
        yield _rule(f'[stroke="{light}"]', "stroke", colour)
        yield _rule(f'[fill="{light}"]', "fill", colour)


def _rule(selector: str, attribute: str, colour: str) -> str:
    return f".{CLASS} {selector} {{ {attribute}: {colour}; }}"
