"""The hatching of waits and of empty slots, with a pattern for each reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final
from xml.etree import ElementTree as Tree

from ...._core.api.views import WaitCause, duration_text
from .._slots import NOTHING_READY, EmptySlotReason
from .._spans import Wait
from ._geometry import ROW_HEIGHT, Geometry
from ._svg import add_element, add_hatching, clip_text, text_width

RESOURCE_COLOR_COUNT: Final = 6
"""The number of different colors for resources. If there are more resources, the colors repeat."""
MIN_WAIT_WIDTH: Final = 3.0
"""The minimum width in pixels of a wait that is hatched."""


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


def draw_waits(svg: Tree.Element, definitions: Tree.Element, geometry: Geometry) -> HatchPatterns:
    """Hatch the waits in front of bars, and return the patterns. Waits for jobs or for the machine are not drawn.

    The part of a wait before the end of the previous bar in the same row is not drawn either.
    """
    spans = geometry.record.spans
    numbers_by_row: dict[int, list[int]] = {}
    for number, box in geometry.boxes.items():
        numbers_by_row.setdefault(box.first_row, []).append(number)
    visible_waits: list[tuple[Wait, float, float, int]] = []  # each wait with its left and right ends and its row
    for row, numbers in numbers_by_row.items():
        numbers.sort()  # spans are numbered in the order of their starts
        previous_ends = (
            geometry.time_to_x(geometry.start_time),
            *(geometry.horizontal_bounds(spans[number])[1] for number in numbers),
        )
        for number, previous_end in zip(numbers, previous_ends, strict=False):
            for wait in spans[number].waits:
                left, right = max(geometry.time_to_x(wait.since), previous_end), geometry.time_to_x(wait.until)
                if wait.cause not in (WaitCause.JOBS, WaitCause.MACHINE) and right - left >= MIN_WAIT_WIDTH:
                    visible_waits.append((wait, left, right, row))
    patterns = HatchPatterns(definitions, dict.fromkeys((wait.cause, wait.name) for wait, *_ in visible_waits))
    for wait, left, right, row in visible_waits:
        y = geometry.top + row * ROW_HEIGHT + 4
        fill = patterns.fill_attribute((wait.cause, wait.name))
        rectangle = add_element(
            svg, "rect", css="why", x=left, y=y, width=right - left, height=ROW_HEIGHT - 8, fill=fill
        )
        add_element(rectangle, "title", f"waited {duration_text(wait.seconds)} for {wait.words}")
    return patterns


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
