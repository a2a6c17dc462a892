"""The parts of an SVG picture: elements, numbers, and text cut to a width."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from xml.etree import ElementTree as Tree

import wcwidth

from ...._core.api.views import printable, without_middle

NARROW: Final = frozenset("iljtf.,:;'|!()[] -I1r/")
"""Characters that are narrow in most typefaces."""
LONGEST: Final = 200
"""Characters of a text that are measured: no picture has room for more."""
MIN_LABEL: Final = 4
"""Characters below which a cut label is useless and left out."""


def add(parent: Tree.Element, tag: str, text: str | None = None, /, **attributes: Any) -> Tree.Element:
    """Append an element and return it; `css` is its class, "_" in a name stands for "-", numbers are shortened."""
    css = attributes.pop("css", None)
    named = {name.replace("_", "-"): number(value) for name, value in attributes.items()}
    element = Tree.SubElement(parent, tag, named if css is None else {"class": css, **named})
    if text is not None:
        element.text = printable(text) if tag != "title" else "\n".join(map(printable, text.split("\n")))
    return element


def add_hatching(definitions: Tree.Element, name: str, ground: str, stripe: str, x: float) -> None:
    """Add the pattern `trioflow-NAME`: slanted stripes on a ground, each with its CSS class."""
    size = {"width": "6", "height": "6"}
    pattern = add(definitions, "pattern", id=f"trioflow-{name}", patternUnits="userSpaceOnUse", **size)
    pattern.set("patternTransform", "rotate(45)")
    add(pattern, "rect", css=ground, **size)
    add(pattern, "line", css=stripe, x1=x, y1=0, x2=x, y2=6)


def finished(picture: Tree.Element, width: float, height: float) -> str:
    """Return a picture as text, with its size."""
    picture.attrib |= {"width": f"{width}", "height": f"{height:g}", "viewBox": f"0 0 {width} {height:g}"}
    return Tree.tostring(picture, encoding="unicode") + "\n"


def number(value: Any) -> str:
    """Return an attribute as text, a float with two decimals at most."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Return an upper estimate of the width of a text in a sans-serif typeface, in pixels."""
    units = sum(1.05 * wcwidth.wcswidth(c) / 2 if ord(c) > 0x2E7F else 0.36 if c in NARROW else 0.6 for c in text)
    capitals = sum(c.isupper() or c in "mw%@" for c in text)
    return size * (units + 0.14 * capitals) * (1.06 if bold else 1.0)


def clipped(text: str, pixels: float, size: float, bold: bool = False) -> str:
    """Cut a text to a width, with an ellipsis; return "" if too little fits."""
    shown = printable(text[:LONGEST])
    if len(text) <= LONGEST and text_width(shown, size, bold) <= pixels:
        return shown
    while shown and text_width(shown + "…", size, bold) > pixels:
        shown = shown[:-1]
    return shown.rstrip() + "…" if len(shown) >= MIN_LABEL else ""


def clipped_name(text: str, pixels: float, size: float, bold: bool = False) -> str:
    """Cut the middle of a name: similar names often differ in a number at the end."""
    longest = len(clipped(text, pixels, size, bold))
    if longest >= len(text):
        return printable(text)
    shown = printable(without_middle(text, LONGEST))
    while longest >= MIN_LABEL and text_width(without_middle(shown, longest), size, bold) > pixels:
        longest -= 1
    return without_middle(shown, longest) if longest >= MIN_LABEL else ""


def in_lines(text: str, pixels: float, size: float) -> Iterator[str]:
    """Wrap a text at blanks."""
    line = ""
    for word in text.split(" "):
        longer = f"{line} {word}".strip()
        if line and text_width(longer, size) > pixels:
            yield clipped(line, pixels, size)
            longer = word
        line = longer
    yield clipped(line, pixels, size)
