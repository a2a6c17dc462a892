"""The hatching of empty slots and of waits: a pattern for each reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final
from xml.etree import ElementTree as Tree

from ...._core.api.views import WaitCause, duration_text
from .._slots import NOTHING_READY, Reason
from ._geometry import PITCH, Geometry
from ._svg import add, add_hatching, clipped, text_width

RESOURCE_COLOURS: Final = 6
MIN_WIDTH: Final = 3.0
"""Pixels below which a gap is left blank."""


class Patterns:
    """The patterns of one picture."""

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

    def fill(self, reason: Reason) -> str:
        """Return the fill for a reason."""
        return f"url(#trioflow-{self._css[reason]})"


def draw_gaps(svg: Tree.Element, definitions: Tree.Element, places: Geometry) -> Patterns:
    """Hatch the waits of jobs for anything but jobs, where their rows are free; return the patterns."""
    spans = places.record.spans
    rows: dict[int, list[int]] = {}
    for number, box in places.boxes.items():
        rows.setdefault(box.row, []).append(number)
    found: list[tuple[Reason, float, float, int, str]] = []
    for row, numbers in rows.items():
        numbers.sort(key=lambda number: places.bounds(spans[number])[0])
        frees = [places.x(places.began), *(places.bounds(spans[number])[1] for number in numbers)]
        for number, free in zip(numbers, frees, strict=False):
            for wait in spans[number].waits:
                left, right = max(places.x(wait.since), free), places.x(wait.until)
                if wait.cause not in (WaitCause.JOBS, WaitCause.MACHINE) and right - left >= MIN_WIDTH:
                    told = f"waited {duration_text(wait.seconds)} for {wait.words}"
                    found.append(((wait.cause, wait.name), left, right, row, told))
    patterns = Patterns(definitions, dict.fromkeys(reason for reason, *_ in found))
    for reason, left, right, row, told in found:
        y = places.top + row * PITCH + 4
        gap = add(svg, "rect", css="why", x=left, y=y, width=right - left, height=PITCH - 8, fill=patterns.fill(reason))
        add(gap, "title", told)
    return patterns


def draw_word(svg: Tree.Element, text: str, left: float, y: float, room: float, height: float, font: float) -> None:
    """Write a word on hatching, on a ground of its own, if it fits."""
    if clipped(text, room - 12, font) == text:
        add(svg, "rect", css="behind", x=left + 4, y=y + 1, width=text_width(text, font) + 4, height=height - 2)
        add(svg, "text", text, css="label", x=left + 6, y=y + height / 2 + font * 0.36, font_size=font)
