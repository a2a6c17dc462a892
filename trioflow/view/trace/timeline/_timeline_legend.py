"""The part below a timeline: the legend, and notes on jobs without bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final
from xml.etree import ElementTree as Tree

from ...._core.api.views import JobState, WaitCause, printable, shorten
from ..._state_styles import BARS, CAUSES, NEVER_STARTED
from ...text import _verdict
from .._span_builder import TraceRecord
from .._spans import Span
from ._bars import FAILED_SYMBOL
from ._gaps import HatchPatterns
from ._geometry import MARGIN
from ._svg import add, clip, flow, text_width

LINE_HEIGHT: Final = 18.0
SAMPLE_WIDTH: Final = 22.0
MAX_NAMES: Final = 30

Draw = Callable[[Tree.Element, float, float], object]
"""A function that draws a sample at the given coordinates of a picture."""


def draw_legend(
    svg: Tree.Element, record: TraceRecord, top: float, width: float, reasons: set[WaitCause], patterns: HatchPatterns
) -> float:
    """Draw the legend and the notes below `top`; return the lower edge.

    Args:
        svg: the picture.
        record: the record that it shows.
        top: the y coordinate of the first line.
        width: the width of the picture.
        reasons: the causes of waits for which `draw_chain` has drawn lines.
        patterns: the hatch patterns in the picture.

    """
    entries = [*_symbol_entries(record, reasons), *_wait_entries(patterns)]
    widths = [SAMPLE_WIDTH + 5 + text_width(text, 11) + 14 for _, text in entries]
    y = top
    for (draw, text), (x, y) in zip(entries, flow(widths, MARGIN, width, top, LINE_HEIGHT), strict=True):
        draw(svg, x, y)
        add(svg, "text", text, css="legend", x=x + SAMPLE_WIDTH + 5, y=y + 4)
    return draw_notes(svg, record, y, width)


def draw_notes(svg: Tree.Element, record: TraceRecord, y: float, width: float) -> float:
    """Write notes on the jobs without bars below `y`; return the lower edge."""
    for text, names in _notes(record):
        y += LINE_HEIGHT
        note = add(svg, "text", clip(text, width - 2 * MARGIN, 11), css="note", x=MARGIN, y=y + 4)
        add(note, "title", names)
    return y + LINE_HEIGHT


def _notes(record: TraceRecord) -> Iterator[tuple[str, str]]:
    """Yield a line and its tooltip for each group of jobs without bars: restored ones, and those that never started."""
    leaves = list(record.leaves)
    restored = [span for span in leaves if span.restored]
    if restored:
        yield _note("restored from the journal, not run again", restored)
    for state in NEVER_STARTED:
        spans = [
            span
            for span in leaves
            if span.started_at is None and _verdict.counted_state(span.state, span.forever) is state
        ]
        if spans:
            yield _note(f"never started, {state.value}", spans)


def _note(words: str, spans: list[Span]) -> tuple[str, str]:
    shown = [shorten(span.path) for span in spans[:MAX_NAMES]]
    names = ", ".join(shown) + ", …" * (len(spans) > MAX_NAMES)
    return f"{len(spans)} {words}: {names}", names


def _symbol_entries(record: TraceRecord, reasons: set[WaitCause]) -> Iterator[tuple[Draw, str]]:
    """Yield a sample and a text for each kind of bar, line and mark that occurs in the picture."""
    started = [span for span in record.spans if span.started_at is not None]
    states = {span.state for span in started if not span.forever}
    yield from ((partial(_draw_bar, f"bar {state.value}"), _state_text(state)) for state in BARS if state in states)
    if any(span.forever for span in started):
        yield partial(_draw_bar, "bar forever"), "forever job"
    if any(span.ready_at is not None for span in started):
        yield partial(_draw_shape, "ready", 7, -3, "h8l-4 6z"), "service ready"
    if any(len(span.attempts) > 1 for span in started):
        yield _draw_attempts, "further attempt"
    if record.chain:
        yield _draw_path_bar, "critical path"
    if WaitCause.JOBS in reasons:
        yield partial(_draw_line, "chain"), "required by the next"
    if reasons - {WaitCause.JOBS}:
        yield partial(_draw_line, "chain slot"), _dotted_line_text(reasons)
    if record.incidents:
        yield partial(_draw_shape, "incident", 11, -5, "l4 5l-4 5l-4 -5z"), "incident"


def _wait_entries(patterns: HatchPatterns) -> Iterator[tuple[Draw, str]]:
    for reason in patterns:
        cause, name = reason
        words = f"waited for {CAUSES[cause].awaited.format(printable(name))}"
        yield partial(_draw_hatching, patterns.gap_fill(reason)), words


def _state_text(state: JobState) -> str:
    return f"{FAILED_SYMBOL} failed" if state is JobState.FAILED else state.value


def _dotted_line_text(reasons: set[WaitCause]) -> str:
    """Return the meaning of dotted lines that stand for these causes."""
    if reasons & {WaitCause.RATE, WaitCause.THROTTLED}:
        return "held up the next: a slot, a resource or a rate"
    return "gave its slot or a resource to the next" if WaitCause.RESOURCE in reasons else "gave its slot to the next"


# ---- samples


def _draw_hatching(fill: str, svg: Tree.Element, x: float, y: float) -> None:
    add(svg, "rect", css="why", x=x, y=y - 6, width=SAMPLE_WIDTH, height=12, fill=fill)


def _draw_shape(css: str, right: float, down: float, outline: str, svg: Tree.Element, x: float, y: float) -> None:
    add(svg, "path", css=css, d=f"M{x + right:.1f} {y + down:.1f}{outline}")


def _draw_bar(css: str, svg: Tree.Element, x: float, y: float) -> None:
    add(svg, "rect", css=css, x=x, y=y - 6, width=SAMPLE_WIDTH, height=12, rx=2)


def _draw_path_bar(svg: Tree.Element, x: float, y: float) -> None:
    _draw_bar("bar succeeded", svg, x, y)
    _draw_bar("on-path", svg, x, y)


def _draw_attempts(svg: Tree.Element, x: float, y: float) -> None:
    _draw_bar("bar succeeded", svg, x, y)
    add(svg, "line", css="attempt", x1=x + 11, y1=y, x2=x + 11, y2=y + 6)
    add(svg, "line", css="attempt-edge", x1=x + 12, y1=y, x2=x + 12, y2=y + 6)


def _draw_line(css: str, svg: Tree.Element, x: float, y: float) -> None:
    add(svg, "path", css=css, d=f"M{x:.1f} {y:.1f}h{SAMPLE_WIDTH - 3:.1f}")
    add(svg, "path", css="arrow", d=f"M{x + SAMPLE_WIDTH:.1f} {y:.1f}l-4 -3v6z")
