"""The hatching of empty slots, with a pattern for each reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final
from xml.etree import ElementTree as Tree

from ...._core.api.views import WaitCause
from .._slots import NOTHING_READY, EmptySlotReason
from ._svg import add_element, add_hatching, clip_text, text_width

RESOURCE_COLOR_COUNT: Final = 6
"""The number of different colors for resources. If there are more resources, the colors repeat."""


class HatchPatterns:
    """The hatch patterns of one picture, by reason. Iteration yields the reasons."""

    def __init__(self, definitions: Tree.Element, reasons: Iterable[EmptySlotReason]) -> None:
        self._pattern_names: Final[dict[EmptySlotReason, str]] = {}
        resource_colors: dict[str, int] = {}
        for reason in reasons:
            cause, name = reason
            if reason == NOTHING_READY:
                continue
            pattern_name = str(cause)
            if cause is WaitCause.RESOURCE:
                pattern_name += str(resource_colors.setdefault(name, len(resource_colors) % RESOURCE_COLOR_COUNT))
            if pattern_name not in self._pattern_names.values():
                add_hatching(definitions, pattern_name, "empty", f"stripe {pattern_name}", 1.5)
            self._pattern_names[reason] = pattern_name

    def __iter__(self) -> Iterator[EmptySlotReason]:
        return iter(self._pattern_names)

    def fill_attribute(self, reason: EmptySlotReason) -> str:
        """Return the value of the SVG attribute `fill` for a reason."""
        return f"url(#trioflow-{self._pattern_names[reason]})"


def draw_hatching_label(
    svg: Tree.Element, text: str, left: float, y: float, width: float, height: float, font_size: float
) -> None:
    """Write a text with a plain background on a hatched area, if the text fits."""
    if clip_text(text, width - 12, font_size) == text:
        add_element(
            svg, "rect", css="behind", x=left + 4, y=y + 1, width=text_width(text, font_size) + 4, height=height - 2
        )
        add_element(
            svg, "text", text, css="label", x=left + 6, y=y + height / 2 + font_size * 0.36, font_size=font_size
        )
