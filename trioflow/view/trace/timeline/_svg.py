"""The construction of SVG pictures: elements, hatch patterns, and text cut or wrapped to a width."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal
from xml.etree import ElementTree as Tree

from ...._core.base._text_forms import fit
from ...._core.job._labels import printable
from ...text._symbols import display_width

NARROW_CHARACTERS: Final = frozenset("iljtf.,:;'|!()[] -I1r/")
MARGIN: Final = 16.0
"""The width in pixels of the margins on the left and the right of a picture."""
MAX_CHARACTERS: Final = 200
"""The maximum number of characters in a text. A longer text is cut before it is measured, because no picture has room
for more."""
MIN_CHARACTERS: Final = 4
"""The minimum number of characters in a text that was cut. A shorter text would be useless, and is left out."""


def add_element(parent: Tree.Element, tag: str, text: str | None = None, /, **attributes: Any) -> Tree.Element:
    """Append an element to `parent` and return it.

    Args:
        parent: the parent element.
        tag: the name of the element.
        text: the text of the element, or None if it has no text.
        attributes: the attributes of the element. "_" in a name stands for "-", and `css` is the attribute "class".

    """
    css = attributes.pop("css", None)
    renamed_attributes = {name.replace("_", "-"): attribute_text(value) for name, value in attributes.items()}
    element = Tree.SubElement(parent, tag, renamed_attributes if css is None else {"class": css, **renamed_attributes})
    if text is not None:
        element.text = printable(text) if tag != "title" else "\n".join(map(printable, text.split("\n")))
    return element


def add_hatching(definitions: Tree.Element) -> None:
    """Add to the definitions of a picture the pattern `trioflow-hatch`, which has slanted stripes on a background."""
    size = {"width": "6", "height": "6"}
    pattern = add_element(definitions, "pattern", id="trioflow-hatch", patternUnits="userSpaceOnUse", **size)
    pattern.set("patternTransform", "rotate(45)")
    add_element(pattern, "rect", css="hatched", **size)
    add_element(pattern, "line", css="hatching", x1=1, y1=0, x2=1, y2=6)


def to_xml(picture: Tree.Element, width: float, height: float) -> str:
    """Set the size of a picture, and return it as XML."""
    picture.attrib |= {"width": f"{width}", "height": f"{height:g}", "viewBox": f"0 0 {width} {height:g}"}
    return Tree.tostring(picture, encoding="unicode") + "\n"


def attribute_text(value: Any) -> str:
    """Return the value of an attribute as text. Floats have at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def text_width(text: str, font_size: float, is_bold: bool = False) -> float:
    """Estimate the width in pixels of a text in a sans-serif typeface. The estimate is generous."""
    width_units = sum(
        1.05 * display_width(character) / 2
        if ord(character) > 0x2E7F
        else 0.36
        if character in NARROW_CHARACTERS
        else 0.6
        for character in text
    )
    wide_character_count = sum(character.isupper() or character in "mw%@" for character in text)
    return font_size * (width_units + 0.14 * wide_character_count) * (1.06 if is_bold else 1.0)


def clip_text(
    text: str, max_width: float, font_size: float, is_bold: bool = False, keep: Literal["start", "ends"] = "start"
) -> str:
    """Cut a text to fit a width, and add an ellipsis. Return an empty string if too little would be left.

    With "ends", the end is kept, too, because similar names often differ there.
    """
    shown = printable(fit(text, MAX_CHARACTERS, keep))
    clipped_text = fit(shown, max_width, keep, lambda text: text_width(text, font_size, is_bold))
    return clipped_text if clipped_text == shown or len(clipped_text) > MIN_CHARACTERS else ""


def flow_positions(
    widths: Iterable[float], left: float, right: float, top: float, line_height: float
) -> Iterator[tuple[float, float]]:
    """Place items of the given widths like words in lines from `left` to `right`, and yield the coordinates of each."""
    x, y = left, top
    for width in widths:
        if x + width > right and x > left:
            x, y = left, y + line_height
        yield x, y
        x += width


def wrap_text(text: str, max_width: float, font_size: float) -> Iterator[str]:
    """Yield the lines of a text, wrapped at spaces to fit a width."""
    line = ""
    for word in text.split(" "):
        candidate = f"{line} {word}".strip()
        if line and text_width(candidate, font_size) > max_width:
            yield clip_text(line, max_width, font_size)
            candidate = word
        line = candidate
    yield clip_text(line, max_width, font_size)
