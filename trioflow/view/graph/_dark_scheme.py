"""The dark color scheme of pictures: a style sheet in the SVG, because `dot` can write only one scheme."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..._core.api.views import JobState
from .._state_styles import DARK_SCHEME_TEXT_COLOR, STATE_STYLES
from . import _dot, _style
from ._drawing import EdgeKind

DARK_BACKGROUND: Final = "#1b1f26"
DARK_EDGE_COLORS: Final = {EdgeKind.ORDER: "#9aa5b1", EdgeKind.DATA: "#7fb8e6"}
"""The colors of edges on a dark background. Other kinds of edges have the color of `EdgeKind.ORDER`."""
SVG_CLASS: Final = "trioflow-graph"
"""The CSS class of pictures to which the dark color scheme applies."""
DEFAULT_TITLE: Final = "<title>%3</title>\n"
"""The title that `dot` writes for a graph without a name. It is removed, because browsers show it as a tooltip."""


def dark_scheme_css() -> str:
    """Return a style sheet with the dark color scheme, which replaces the colors in pictures of class `SVG_CLASS`."""
    return "\n".join(["@media screen and (prefers-color-scheme: dark) {", *dict.fromkeys(_css_rules()), "}"])


def add_dark_scheme(svg: str) -> str:
    """Add a style sheet to an SVG made by `dot`, to make the picture follow the color scheme of the browser."""
    svg = svg.replace(DEFAULT_TITLE, "", 1)
    start = svg.index("<svg ")
    end = svg.index(">", start) + 1
    tag = svg[start:end].replace("<svg ", f'<svg class="{SVG_CLASS}" ', 1)
    return f"{svg[:start]}{tag}<style>{dark_scheme_css()}</style>{svg[end:]}"


def _css_rules() -> Iterator[str]:
    """Yield the rules of the style sheet. Some of them are repeated."""
    yield _css_rule('[fill="white"]', "fill", DARK_BACKGROUND)
    yield _css_rule("text:not([fill])", "fill", DARK_SCHEME_TEXT_COLOR)
    for style in STATE_STYLES.values():
        (fill, outline, text, frame), dark = style.light_colors, style.dark_colors
        yield _css_rule(f':not(text)[fill="{fill}"]', "fill", dark.fill)
        yield _css_rule(f':not(text)[fill="{frame}"]', "fill", dark.frame)
        yield _css_rule(f'[stroke="{outline}"]', "stroke", dark.outline)
        yield _css_rule(f'text[fill="{text}"]', "fill", dark.text)
    # The fill color of failed jobs is also the border color of frames with a failure inside.
    failed_state = JobState.FAILED
    yield _css_rule(
        f'[stroke="{STATE_STYLES[failed_state].light_colors.fill}"]',
        "stroke",
        STATE_STYLES[failed_state].dark_colors.fill,
    )
    for attribute in ("stroke", "fill"):
        yield _css_rule(f'[{attribute}="{_style.CRITICAL_PATH_COLOR}"]', attribute, "#ffffff")
    for kind, color in DARK_EDGE_COLORS.items():
        light = _dot.EDGE_ATTRIBUTES[kind].get("color", _dot.FAINT_COLOR)
        yield _css_rule(f'[stroke="{light}"]', "stroke", color)
        yield _css_rule(f'[fill="{light}"]', "fill", color)


def _css_rule(selector: str, attribute: str, color: str) -> str:
    return f".{SVG_CLASS} {selector} {{ {attribute}: {color}; }}"
