"""What stands below a timeline: the meaning of the signs that it has, and the jobs that never started."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final
from xml.etree import ElementTree as Tree

from .._core._states import JobState
from ._script import UNICODE
from ._timeline_paint import add, clipped, text_width
from ._trace_record import Record

LINE: Final = 18.0
MARGIN: Final = 16.0
SAMPLE: Final = 22.0
MOST_NAMES: Final = 30
FAILED: Final = UNICODE.marks[JobState.FAILED]
NEVER_STARTED: Final = (JobState.BLOCKED, JobState.SKIPPED, JobState.CANCELLED, JobState.SCHEDULED, JobState.IDLE)

Draw = Callable[[Tree.Element, float, float], object]


def legend(svg: Tree.Element, record: Record, top: float, width: float, merged: int) -> float:
    """Draw it from `top` on, and return where the picture ends; `merged` bars were drawn without details."""
    x, y = MARGIN, top
    for draw, text in _entries(record):
        needed = SAMPLE + 5 + text_width(text, 11) + 14
        if x + needed > width and x > MARGIN:
            x, y = MARGIN, y + LINE
        draw(svg, x, y)
        add(svg, "text", text, css="legend", x=x + SAMPLE + 5, y=y + 4)
        x += needed
    for text, names in _notes(record, merged):
        y += LINE
        note = add(svg, "text", clipped(text, width - 2 * MARGIN, 11), css="note", x=MARGIN, y=y + 4)
        add(note, "title", names)
    return y + LINE


def _notes(record: Record, merged: int) -> Iterator[tuple[str, str]]:
    """Yield what there is to say of jobs without a bar of their own: on a line, and in a tip."""
    if merged:
        yield f"{merged} bars, the narrowest, tell no details here: see the table", ""
    for state in NEVER_STARTED:
        spans = [span for span in record.spans if span.state is state and span.started_at is None]
        if spans:
            names = ", ".join(span.path for span in spans[:MOST_NAMES]) + ", …" * (len(spans) > MOST_NAMES)
            yield f"{len(spans)} never started, {state.value}: {names}", names


def _entries(record: Record) -> Iterator[tuple[Draw, str]]:
    """Yield what the picture has to have explained, and nothing else."""
    started = [span for span in record.spans if span.started_at is not None]
    states = {span.state for span in started if not span.forever}
    shown = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.RUNNING)
    for state in (state for state in shown if state in states):
        yield _bar(f"bar {state.value}"), f"{FAILED} " * (state is JobState.FAILED) + state.value
    if any(span.forever for span in started):
        yield _bar("bar forever"), "forever"
    if any(span.ready_at is not None for span in started):
        yield (lambda svg, x, y: add(svg, "path", css="ready", d=f"M{x + 7:.1f} {y - 3:.1f}h8l-4 6z")), "service ready"
    if any(len(span.attempts) > 1 for span in started):
        yield _attempts, "further attempt"
    if record.chain:
        yield _bar("bar succeeded", "on-path"), "critical path"
        reasons = {link.reason for link in record.chain}
        if "requirement" in reasons:
            yield _line("chain"), "required by the next"
        if "slot" in reasons:
            yield _line("chain slot"), "gave its slot to the next"
    if record.incidents:
        yield (
            (lambda svg, x, y: add(svg, "path", css="incident", d=f"M{x + 11:.1f} {y - 5:.1f}l4 5l-4 5l-4 -5z")),
            "incident",
        )


def _bar(*styles: str) -> Draw:
    def draw(svg: Tree.Element, x: float, y: float) -> None:
        for css in styles:
            add(svg, "rect", css=css, x=x, y=y - 6, width=SAMPLE, height=12, rx=2)

    return draw


def _attempts(svg: Tree.Element, x: float, y: float) -> None:
    _bar("bar succeeded")(svg, x, y)
    add(svg, "line", css="attempt", x1=x + 11, y1=y, x2=x + 11, y2=y + 6)
    add(svg, "line", css="attempt-edge", x1=x + 12, y1=y, x2=x + 12, y2=y + 6)


def _line(css: str) -> Draw:
    def draw(svg: Tree.Element, x: float, y: float) -> None:
        add(svg, "path", css=css, d=f"M{x:.1f} {y:.1f}h{SAMPLE - 3:.1f}")
        add(svg, "path", css="arrow", d=f"M{x + SAMPLE:.1f} {y:.1f}l-4 -3v6z")

    return draw
