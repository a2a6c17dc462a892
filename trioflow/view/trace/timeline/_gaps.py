"""The hatching of waits and of empty slots, with a pattern for each reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final
from xml.etree import ElementTree as Tree

from ...._core.api.views import WaitCause, duration_text
from .._slots import NOTHING_READY, Reason
from .._spans import Wait
from ._geometry import ROW_HEIGHT, Geometry
from ._svg import add, add_hatching, clip, text_width

RESOURCE_COLOURS: Final = 6
MIN_GAP_WIDTH: Final = 3.0
"""Pixels below which a wait is not hatched."""


class HatchPatterns:
    """The hatch patterns of one picture, by reason; iteration yields the reasons."""

    def __init__(self, definitions: Tree.Element, reasons: Iterable[Reason]) -> None:
        self._css: Final[dict[Reason, str]] = {}
        resources: dict[str, int] = {}
        for reason in reasons:
            cause, name = reason
            if reason == NOTHING_READY:
                continue
            css = str(cause)
            if cause is WaitCause.RESOURCE:
                css += str(resources.setdefault(name, len(resources) % RESOURCE_COLOURS))
            if css not in self._css.values():
                add_hatching(definitions, css, "empty", f"stripe {css}", 1.5)
            self._css[reason] = css

    def __iter__(self) -> Iterator[Reason]:
        return iter(self._css)

    def gap_fill(self, reason: Reason) -> str:
        """Return the value of the SVG attribute `fill` for a reason."""
        return f"url(#trioflow-{self._css[reason]})"


def draw_waits(svg: Tree.Element, definitions: Tree.Element, geometry: Geometry) -> HatchPatterns:
    """Hatch the waits in front of bars, except those for jobs or for the machine; return the patterns.

    A wait is drawn only where its row is not taken by the bar before.
    """
    spans = geometry.record.spans
    rows: dict[int, list[int]] = {}
    for number, box in geometry.boxes.items():
        rows.setdefault(box.row, []).append(number)
    drawn: list[tuple[Wait, float, float, int]] = []  # waits with their left and right ends and rows
    for row, numbers in rows.items():
        numbers.sort()  # spans are numbered in the order of their starts
        previous_ends = geometry.x(geometry.began), *(geometry.horizontal_bounds(spans[n])[1] for n in numbers)
        for number, previous_end in zip(numbers, previous_ends, strict=False):
            for wait in spans[number].waits:
                left, right = max(geometry.x(wait.since), previous_end), geometry.x(wait.until)
                if wait.cause not in (WaitCause.JOBS, WaitCause.MACHINE) and right - left >= MIN_GAP_WIDTH:
                    drawn.append((wait, left, right, row))
    patterns = HatchPatterns(definitions, dict.fromkeys((wait.cause, wait.name) for wait, *_ in drawn))
    for wait, left, right, row in drawn:
        y = geometry.top + row * ROW_HEIGHT + 4
        fill = patterns.gap_fill((wait.cause, wait.name))
        gap = add(svg, "rect", css="why", x=left, y=y, width=right - left, height=ROW_HEIGHT - 8, fill=fill)
        add(gap, "title", f"waited {duration_text(wait.seconds)} for {wait.words}")
    return patterns


def draw_word(svg: Tree.Element, text: str, left: float, y: float, room: float, height: float, font: float) -> None:
    """Write a word with a background on a hatched area, if it fits."""
    if clip(text, room - 12, font) == text:
        add(svg, "rect", css="behind", x=left + 4, y=y + 1, width=text_width(text, font) + 4, height=height - 2)
        add(svg, "text", text, css="label", x=left + 6, y=y + height / 2 + font * 0.36, font_size=font)
