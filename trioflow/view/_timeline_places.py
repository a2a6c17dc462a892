"""Where on the picture a time and a job are: the scale of a timeline, and how high its rows may be."""

from __future__ import annotations

from typing import Final

from ._timeline_layout import Box, layout
from ._trace_record import Record
from ._trace_spans import Span

MARGIN: Final = 16.0
HEAD: Final = 66.0
"""Pixels from the top, for the title and the texts of the axis."""
LOAD_HEIGHT: Final = 44.0
SIZES: Final = ((60, 20.0), (150, 14.0), (400, 7.0), (1500, 3.0))
"""Up to how many rows each may be so many pixels high, and 1.5 beyond."""
SHORTEST: Final = 1e-9
"""Seconds that an axis has at least: a run on a virtual clock may have taken no time."""


class Places:
    """The geometry of one picture."""

    def __init__(self, record: Record, width: int) -> None:
        """Choose the scale."""
        placed = layout(record)
        self.record: Final = record
        self.boxes: Final = placed.boxes
        self.width: Final = float(width)
        self.inner: Final = self.width - 2 * MARGIN
        self.began: Final = record.began
        self.seconds: Final = max(record.now - record.began, SHORTEST)
        self.pitch: Final = next((size for most, size in SIZES if placed.rows <= most), 1.5)
        self.font: Final = 11.0 if self.pitch >= 20 else 9.0
        self.has_labels: Final = self.pitch >= 14
        self.top: Final = HEAD + (LOAD_HEIGHT + 14 if placed.boxes else 0)
        self.bottom: Final = self.top + max(placed.rows, 1) * self.pitch

    def x(self, at: float) -> float:
        """Return where a time is, in pixels from the left."""
        return MARGIN + (at - self.began) * self.inner / self.seconds

    def bounds(self, span: Span) -> tuple[float, float]:
        """Return where the bar of a job begins and ends; now, if it still runs."""
        assert span.started_at is not None
        return self.x(span.started_at), self.x(self.record.now if span.finished_at is None else span.finished_at)

    def rows(self, box: Box) -> tuple[float, float]:
        """Return where a bar is from above, and how high."""
        gap = 2.0 if self.pitch >= 7 else 0.0
        if box.height > 1:
            return self.top + box.row * self.pitch, box.height * self.pitch
        return self.top + box.row * self.pitch + gap / 2, self.pitch - gap

    def middle(self, box: Box) -> float:
        """Return the middle of its first row, from above."""
        return self.top + (box.row + 0.5) * self.pitch

    def rectangle(self, span: Span) -> dict[str, float]:
        """Return the attributes of a bar."""
        left, right = self.bounds(span)
        y, height = self.rows(self.boxes[span.number])
        return {"x": left, "y": y, "width": max(right - left, 1.0), "height": height, "rx": 2 if height > 6 else 0}
