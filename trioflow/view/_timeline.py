"""A trace as an SVG timeline: the window and how full it was, a bar for each job, the critical path, a legend."""

from __future__ import annotations

import heapq
from collections import Counter
from importlib import resources
from itertools import pairwise
from typing import Final
from xml.etree import ElementTree as Tree

from .._core import _labels
from .._core._states import JobState, StopReason
from ._timeline_layout import Box, layout
from ._timeline_legend import FAILED, legend
from ._timeline_paint import add, clipped, text_width
from ._trace_record import Record
from ._trace_spans import RunSpan, Span
from ._trace_units import duration, ticks

MARGIN: Final = 16.0
LOAD_HEIGHT: Final = 44.0
NARROWEST: Final = 300
MANY: Final = 2000
"""So many bars at most, the widest, are elements of their own; a browser has trouble with tens of thousands."""
SIZES: Final = ((60, 20.0), (150, 14.0), (400, 7.0), (1500, 3.0))
"""Up to how many rows each may be so many pixels high, and 1.5 beyond."""


def svg(record: Record, width: int) -> str:
    """Return the whole picture.

    Raises:
        ValueError: `width` is too small.

    """
    if width < NARROWEST:
        raise ValueError(f"width={width} of a timeline: give {NARROWEST} pixels or more")
    return Tree.tostring(Timeline(record, width).drawn(), encoding="unicode") + "\n"


def style() -> str:
    """Return the style sheet that a timeline is drawn with."""
    return (resources.files("trioflow.view") / "report" / "timeline.css").read_text(encoding="utf-8")


class Timeline:
    """One picture in the making."""

    def __init__(self, record: Record, width: int) -> None:
        """Find out where everything goes."""
        self._record: Final = record
        self._width: Final = float(width)
        self._began: Final = record.began
        self._span: Final = max(record.now - record.began, 1e-9)
        self._layout: Final = layout(record)
        self._pitch: Final = next((size for most, size in SIZES if self._layout.rows <= most), 1.5)
        self._font: Final = 11.0 if self._pitch >= 20 else 9.0
        self._has_load: Final = bool(record.runs) and bool(self._layout.boxes)
        self._load_top: Final = 66.0
        self._top: Final = self._load_top + (LOAD_HEIGHT + 14 if self._has_load else 0)
        self._bottom: Final = self._top + max(self._layout.rows, 1) * self._pitch
        self._scale: Final = (self._width - 2 * MARGIN) / self._span
        self._svg: Final = Tree.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "class": "timeline"})

    def drawn(self) -> Tree.Element:
        """Draw it."""
        self._prepare()
        self._draw_title()
        self._draw_axis()
        if self._has_load:
            self._draw_load(self._record.roots[-1])
        self._draw_bars()
        self._draw_chain()
        self._draw_marks()
        end = legend(self._svg, self._record, self._bottom + 24, self._width, max(len(self._layout.boxes) - MANY, 0))
        self._svg[1].set("height", f"{end:g}")
        self._svg.set("viewBox", f"0 0 {self._width:g} {end:g}")
        self._svg.set("width", f"{self._width:g}")
        self._svg.set("height", f"{end:g}")
        return self._svg

    def x(self, at: float) -> float:
        """Return where a time is, in pixels from the left."""
        return MARGIN + (at - self._began) * self._scale

    def _prepare(self) -> None:
        definitions = add(self._svg, "defs")
        add(definitions, "style").text = style()
        size = {"width": 6, "height": 6}
        hatch = add(definitions, "pattern", id="trioflow-hatch", patternUnits="userSpaceOnUse", **size)
        hatch.set("patternTransform", "rotate(45)")
        add(hatch, "rect", css="hatched", **size)
        add(hatch, "line", css="hatching", x1=1, y1=0, x2=1, y2=6)
        add(self._svg, "rect", css="paper", width="100%", height=0)

    def _draw_title(self) -> None:
        roots = self._record.roots
        name = ", ".join(dict.fromkeys(run.label for run in roots)) or "nothing has run"
        add(self._svg, "text", clipped(name, self._width - 2 * MARGIN, 15, True), css="title", x=MARGIN, y=24.0)
        states = Counter(span.state for span in self._record.spans)
        counts = ", ".join(f"{states[state]} {state.value}" for state in JobState if states[state])
        parts = [duration(self._record.now - self._began), _why(roots), counts]
        text = " · ".join(part for part in parts if part) if roots else ""
        add(self._svg, "text", clipped(text, self._width - 2 * MARGIN, 11), css="subtitle", x=MARGIN, y=41.0)

    def _draw_axis(self) -> None:
        top = self._load_top - 4
        for at, text in ticks(self._span, max(2, int(self._width / 110))):
            x = self.x(self._began + at)
            add(self._svg, "line", css="grid", x1=x, y1=top, x2=x, y2=self._bottom)
            if x + text_width(text, 11) / 2 <= self._width:
                anchor = "start" if at == 0 else "middle"
                add(self._svg, "text", text, css="tick", x=x, y=top - 3, text_anchor=anchor)
        add(self._svg, "line", css="frame", x1=MARGIN, y1=top, x2=self._width - MARGIN, y2=top)

    def _draw_load(self, run: RunSpan) -> None:
        """Draw how many jobs that take slots ran at each time, against the window."""
        steps = _steps([self._record.spans[number] for number in run.members], self._record.now)
        highest = max([running for _, running in steps] + [run.window or 0, 1])
        if run.window is not None and run.window > 4 * max(running for _, running in steps):
            highest = max([running for _, running in steps] + [1])  # a line far above would leave nothing of the rest
        base, unit = self._load_top + LOAD_HEIGHT, LOAD_HEIGHT * 0.86 / highest
        path = [f"M{self.x(self._began):.1f} {base:.1f}"]
        for at, running in steps:
            path.append(f"H{self.x(at):.1f}V{base - running * unit:.1f}")
        area = add(self._svg, "path", css="load", d="".join(path) + f"V{base:.1f}Z")
        add(area, "title", f"at most {max(running for _, running in steps)} jobs at once")
        add(self._svg, "line", css="frame", x1=MARGIN, y1=base, x2=self._width - MARGIN, y2=base)
        text = f"running, at most {max(running for _, running in steps)}"
        if run.window is not None:
            text += f" of window {run.window}"
            if run.window <= highest:
                y = base - run.window * unit
                add(self._svg, "line", css="window", x1=MARGIN, y1=y, x2=self._width - MARGIN, y2=y)
        add(self._svg, "text", text, css="note", x=MARGIN + 4, y=base - 5)

    # ---- bars

    def _draw_bars(self) -> None:
        ends = self._ends_of_room()
        alone = self._drawn_alone()
        together: dict[str, list[str]] = {}
        for number, box in self._layout.boxes.items():
            span = self._record.spans[number]
            css = f"{'forever ' * span.forever}{span.state.value}"
            if number in alone:
                self._draw_bar(span, box, css, ends.get(number, self._width - 2))
            else:
                left, right = self._bounds(span)
                y, height = self._place(box)
                outlined = "bar " * (right - left >= 3)  # else the line between two would be all there is
                path = f"M{left:.1f} {y:.1f}h{max(right - left, 0.3):.1f}v{height:.1f}H{left:.1f}z"
                together.setdefault(outlined + css, []).append(path)
        for css, paths in together.items():
            add(self._svg, "path", css=css, d="".join(paths))

    def _drawn_alone(self) -> set[int]:
        """Return the jobs that have a bar with a label and a tip: all, or the widest and those that count most."""
        boxes = self._layout.boxes
        if len(boxes) <= MANY:
            return set(boxes)
        marked = {link.number for link in self._record.chain}
        return set(
            heapq.nlargest(MANY, boxes, key=lambda number: self._weight(number, boxes[number], number in marked))
        )

    def _weight(self, number: int, box: Box, marked: bool) -> tuple[bool, bool, float]:
        span = self._record.spans[number]
        left, right = self._bounds(span)
        return box.height > 1 or marked, span.state is JobState.FAILED, right - left

    def _draw_bar(self, span: Span, box: Box, css: str, room_until: float) -> None:
        y, height = self._place(box)
        nested = box.height > 1
        group = add(self._svg, "g", css="job", data_number=span.number)
        add(group, "title", self._tooltip(span))
        add(group, "rect", css=f"{'nest' if nested else 'bar'} {css}", **self._shape(span, box))
        for at in span.attempts[1:]:
            x, end = self.x(at), y + (self._pitch - 2 if nested else height)
            top = end - 6 if self._pitch >= 14 else y  # lest it cross the label
            add(group, "line", css="attempt", x1=x, y1=top, x2=x, y2=end)
            add(group, "line", css="attempt-edge", x1=x + 1, y1=top, x2=x + 1, y2=end)
        if self._pitch >= 14:
            self._draw_label(group, span, box, room_until)

    def _draw_label(self, group: Tree.Element, span: Span, box: Box, room_until: float) -> None:
        """Write the label into the bar, or behind it where there is more room."""
        left, right = self._bounds(span)
        y, _ = self._place(box)
        failed = span.state is JobState.FAILED
        text = f"{FAILED} " * failed + span.label
        bold = box.height > 1 or failed
        inside = clipped(text, right - left - 7, self._font, bold)
        behind = clipped(text, room_until - right - 8, self._font, bold) if box.height == 1 else ""
        start, shown, css = left + 4, inside, "label on-dark" if failed and box.height == 1 else "label"
        if len(behind) > len(inside):
            start, shown, css = right + 4, behind, "label"
        if box.height > 1:
            css += " heading"
        if shown:
            base = y + (self._pitch - 2) / 2 + self._font * 0.36
            add(group, "text", shown, css=css, x=start, y=base, font_size=self._font)

    def _ends_of_room(self) -> dict[int, float]:
        """Return up to where the label of each bar may reach: to the next bar of its row, or the end of its box."""
        found: dict[int, float] = {}
        rows: dict[int, list[int]] = {}
        for number, box in self._layout.boxes.items():
            parent = self._record.spans[number].parent
            found[number] = self._width - 2 if parent is None else self._bounds(self._record.spans[parent])[1]
            for row in range(box.row, box.row + (box.height if box.height > 1 else 1)):
                rows.setdefault(row, []).append(number)
        for numbers in rows.values():
            for one, following in pairwise(
                sorted(numbers, key=lambda number: self._bounds(self._record.spans[number])[0])
            ):
                left = self._bounds(self._record.spans[following])[0]
                if left >= self._bounds(self._record.spans[one])[1] - 0.01:
                    found[one] = min(found[one], left)
        return found

    def _bounds(self, span: Span) -> tuple[float, float]:
        assert span.started_at is not None
        return self.x(span.started_at), self.x(self._record.now if span.finished_at is None else span.finished_at)

    def _shape(self, span: Span, box: Box) -> dict[str, float]:
        left, right = self._bounds(span)
        y, height = self._place(box)
        return {"x": left, "y": y, "width": max(right - left, 1.0), "height": height, "rx": 2 if height > 6 else 0}

    def _place(self, box: Box) -> tuple[float, float]:
        gap = 2.0 if self._pitch >= 7 else 0.0
        if box.height > 1:
            return self._top + box.row * self._pitch, box.height * self._pitch
        return self._top + box.row * self._pitch + gap / 2, self._pitch - gap

    def _tooltip(self, span: Span) -> str:
        assert span.started_at is not None
        run = f" (run {span.run})" if span.run > 1 else ""
        start = duration(span.started_at - self._began)
        lines = [f"{span.path}{run}", f"{span.kind}, {span.state.value}{', critical' * span.critical}"]
        end = "and still runs" if span.elapsed is None else f"took {duration(span.elapsed)}"
        lines.append(f"started at {start}, {end}")
        if span.waited:
            lines.append(f"had waited {duration(span.waited)} since it could")
        if len(span.attempts) > 1:
            lines.append(f"{len(span.attempts)} attempts")
        if span.exception is not None:
            lines.append(span.exception_text)
        return "\n".join(map(_labels.printable, lines))

    # ---- what goes over the bars

    def _draw_chain(self) -> None:
        """Put a border around the jobs of the critical path, and lead from each to the next one of the same run."""
        chain = self._record.chain if len(self._record.chain) <= MANY else ()  # no white would be left
        for link in chain:
            box = self._layout.boxes[link.number]
            add(self._svg, "rect", css="on-path", **self._shape(self._record.spans[link.number], box))
        for link in chain:
            if link.after is None or link.after not in self._layout.boxes:
                continue
            before, after = self._record.spans[link.after], self._record.spans[link.number]
            released = before.ready_at if before.ready_at is not None else before.finished_at
            if released is None or after.started_at is None:
                continue
            start, end = self.x(released), self.x(after.started_at)
            above, below = self._middle(self._layout.boxes[link.after]), self._middle(self._layout.boxes[link.number])
            if above != below:
                corner = end if end - start < 1 else end - min(6.0, (end - start) / 2)
                way = f"M{start:.1f} {above:.1f}H{corner:.1f}V{below:.1f}H{end:.1f}"
            else:
                way = f"M{start:.1f} {above:.1f}H{end:.1f}"
            if end - start >= 1 or above != below:
                add(self._svg, "path", css=f"chain {link.reason}", d=way)
                add(self._svg, "path", css="arrow", d=f"M{end:.1f} {below:.1f}l-4 -3v6z")

    def _middle(self, box: Box) -> float:
        return self._top + (box.row + 0.5) * self._pitch

    def _draw_marks(self) -> None:
        """Mark services that became ready, and incidents on the line of the axis."""
        for number, box in self._layout.boxes.items():
            ready = self._record.spans[number].ready_at
            if ready is not None and self._pitch >= 7:
                x, y = self.x(ready), self._place(box)[0]
                add(self._svg, "path", css="ready", d=f"M{x - 4:.1f} {y:.1f}h8l-4 6z")
        for incident in self._record.incidents:
            x, y = self.x(incident.at), self._load_top - 4
            mark = add(self._svg, "path", css="incident", d=f"M{x:.1f} {y - 5:.1f}l4 5l-4 5l-4 -5z")
            add(mark, "title", "incident: " + incident.message)


def _steps(spans: list[Span], now: float) -> list[tuple[float, int]]:
    """Return each time at which the number of running jobs changed, with the number from then on."""
    changes: Counter[float] = Counter()
    for span in spans:
        if span.started_at is not None and not span.forever:
            changes[span.started_at] += 1
            changes[now if span.finished_at is None else span.finished_at] -= 1
    running, steps = 0, list[tuple[float, int]]()
    for at in sorted(changes):
        running += changes[at]
        if not steps or changes[at]:
            steps.append((at, running))
    return steps or [(now, 0)]


def _why(roots: list[RunSpan]) -> str:
    reasons = dict.fromkeys(run.reason for run in roots)
    names = ("running" if reason is None else reason.value for reason in reasons if reason is not StopReason.COMPLETED)
    return ", ".join(names) or ("completed" if roots else "")
