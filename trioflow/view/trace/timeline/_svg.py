"""The construction of SVG pictures: elements, hatch patterns, and text cut or wrapped to a width."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final
from xml.etree import ElementTree as Tree

import wcwidth

from ...._core.api.views import printable, without_middle

NARROW_CHARACTERS: Final = frozenset("iljtf.,:;'|!()[] -I1r/")
"""Characters that are narrow in most typefaces."""
MAX_CHARACTERS: Final = 200
"""The number of characters after which texts are cut before they are measured: no picture has room for more."""
MIN_CHARACTERS: Final = 4
"""The number of characters below which the rest of a cut label is useless, and so left out."""


def add(parent: Tree.Element, tag: str, text: str | None = None, /, **attributes: Any) -> Tree.Element:
    """Append an element to `parent` and return it.

    Args:
        parent: the parent element.
        tag: the name of the element.
        text: its text, if it has any.
        attributes: its attributes, where "_" in a name stands for "-"; `css` is the attribute "class".

    """
    css = attributes.pop("css", None)
    named = {name.replace("_", "-"): attribute_text(value) for name, value in attributes.items()}
    element = Tree.SubElement(parent, tag, named if css is None else {"class": css, **named})
    if text is not None:
        element.text = printable(text) if tag != "title" else "\n".join(map(printable, text.split("\n")))
    return element


def add_hatching(definitions: Tree.Element, name: str, ground: str, stripe: str, x: float) -> None:
    """Add the pattern `trioflow-NAME`: slanted stripes at `x` on a background.

    `ground` and `stripe` are the CSS classes of the background and of the stripes.
    """
    size = {"width": "6", "height": "6"}
    pattern = add(definitions, "pattern", id=f"trioflow-{name}", patternUnits="userSpaceOnUse", **size)
    pattern.set("patternTransform", "rotate(45)")
    add(pattern, "rect", css=ground, **size)
    add(pattern, "line", css=stripe, x1=x, y1=0, x2=x, y2=6)


def to_text(picture: Tree.Element, width: float, height: float) -> str:
    """Set the size of a picture, and return it as XML."""
    picture.attrib |= {"width": f"{width}", "height": f"{height:g}", "viewBox": f"0 0 {width} {height:g}"}
    return Tree.tostring(picture, encoding="unicode") + "\n"


def attribute_text(value: Any) -> str:
    """Return the value of an attribute as text, floats with at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Estimate the width of a text in a sans-serif typeface in pixels, rather too large than too small."""
    units = sum(
        1.05 * wcwidth.wcswidth(c) / 2 if ord(c) > 0x2E7F else 0.36 if c in NARROW_CHARACTERS else 0.6 for c in text
    )
    capitals = sum(c.isupper() or c in "mw%@" for c in text)
    return size * (units + 0.14 * capitals) * (1.06 if bold else 1.0)


def clip(text: str, pixels: float, size: float, bold: bool = False) -> str:
    """Cut the end of a text to fit a width, with an ellipsis; return an empty string if too little would be left."""
    shown = printable(text[:MAX_CHARACTERS])
    if len(text) <= MAX_CHARACTERS and text_width(shown, size, bold) <= pixels:
        return shown
    while shown and text_width(shown + "…", size, bold) > pixels:
        shown = shown[:-1]
    return shown.rstrip() + "…" if len(shown) >= MIN_CHARACTERS else ""


def clip_middle(text: str, pixels: float, size: float, bold: bool = False) -> str:
    """Cut the middle of a name to fit a width, because similar names often differ in a number at the end."""
    longest = len(clip(text, pixels, size, bold))
    if longest >= len(text):
        return printable(text)
    shown = printable(without_middle(text, MAX_CHARACTERS))
    while longest >= MIN_CHARACTERS and text_width(without_middle(shown, longest), size, bold) > pixels:
        longest -= 1
    return without_middle(shown, longest) if longest >= MIN_CHARACTERS else ""


def flow(
    widths: Iterable[float], left: float, right: float, top: float, line_height: float
) -> Iterator[tuple[float, float]]:
    """Yield the coordinates of items with these widths, placed in lines from `left` to `right` like words."""
    x, y = left, top
    for width in widths:
        if x + width > right and x > left:
            x, y = left, y + line_height
        yield x, y
        x += width


def wrap(text: str, pixels: float, size: float) -> Iterator[str]:
    """Yield the lines of a text, wrapped at blanks to fit a width."""
    line = ""
    for word in text.split(" "):
        longer = f"{line} {word}".strip()
        if line and text_width(longer, size) > pixels:
            yield clip(line, pixels, size)
            longer = word
        line = longer
    yield clip(line, pixels, size)
