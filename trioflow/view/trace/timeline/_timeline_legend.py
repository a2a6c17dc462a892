"""The part below a timeline: the legend, and notes on jobs without bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final
from xml.etree import ElementTree as Tree

from ...._core.api.views import JobState, WaitCause, printable, shorten
from ..._state_styles import CAUSE_WORDS, NEVER_STARTED_STATES, STATES_WITH_BARS
from ...text import _verdict
from .._span_builder import TraceRecord
from .._spans import Span
from ._bars import FAILED_SYMBOL
from ._geometry import MARGIN
from ._hatching import HatchPatterns
from ._svg import add_element, clip_text, flow_positions, text_width

LINE_HEIGHT: Final = 18.0
"""The height of a line in the legend and the notes, in pixels."""
SAMPLE_WIDTH: Final = 22.0
"""The width of a swatch, the drawn sample of an entry in the legend, in pixels."""
MAX_NAMED_JOBS: Final = 30
"""The maximum number of jobs that a note names."""

SampleDrawer = Callable[[Tree.Element, float, float], object]
"""A function that draws a sample at the given coordinates of a picture."""


def draw_legend(
    svg: Tree.Element,
    record: TraceRecord,
    top: float,
    width: float,
    wait_causes: set[WaitCause],
    patterns: HatchPatterns,
) -> float:
    """Draw the legend and the notes below `top`. Return the y coordinate of the lower edge.

    Args:
        svg: the picture.
        record: the record that the picture shows.
        top: the y coordinate of the first line.
        width: the width of the picture.
        wait_causes: the causes of waits for which `draw_critical_path_arrows` has drawn arrows.
        patterns: the hatch patterns in the picture.

    """
    entries = [*_symbol_entries(record, wait_causes), *_wait_entries(patterns)]
    widths = [SAMPLE_WIDTH + 5 + text_width(text, 11) + 14 for _, text in entries]
    y = top
    for (draw_sample, text), (x, y) in zip(
        entries, flow_positions(widths, MARGIN, width, top, LINE_HEIGHT), strict=True
    ):
        draw_sample(svg, x, y)
        add_element(svg, "text", text, css="legend", x=x + SAMPLE_WIDTH + 5, y=y + 4)
    return draw_notes(svg, record, y, width)


def draw_notes(svg: Tree.Element, record: TraceRecord, y: float, width: float) -> float:
    """Write notes on the jobs without bars, below `y`. Return the y coordinate of the lower edge."""
    for text, names in _notes_with_tooltips(record):
        y += LINE_HEIGHT
        note = add_element(svg, "text", clip_text(text, width - 2 * MARGIN, 11), css="note", x=MARGIN, y=y + 4)
        add_element(note, "title", names)
    return y + LINE_HEIGHT


def _notes_with_tooltips(record: TraceRecord) -> Iterator[tuple[str, str]]:
    """Yield a line and its tooltip for each group of jobs without bars: the restored jobs, and those never started."""
    leaf_spans = list(record.leaf_spans)
    restored_spans = [span for span in leaf_spans if span.restored]
    if restored_spans:
        yield _note_with_tooltip("restored from the journal, not run again", restored_spans)
    for state in NEVER_STARTED_STATES:
        spans = [
            span
            for span in leaf_spans
            if span.started_at is None and _verdict.tally_key(span.state, span.forever) is state
        ]
        if spans:
            yield _note_with_tooltip(f"never started, {state.value}", spans)


def _note_with_tooltip(words: str, spans: list[Span]) -> tuple[str, str]:
    paths = [shorten(span.path) for span in spans[:MAX_NAMED_JOBS]]
    names = ", ".join(paths) + ", …" * (len(spans) > MAX_NAMED_JOBS)
    return f"{len(spans)} {words}: {names}", names


def _symbol_entries(record: TraceRecord, wait_causes: set[WaitCause]) -> Iterator[tuple[SampleDrawer, str]]:
    """Yield a sample and its text for each kind of bar, line and mark in the picture."""
    started_spans = [span for span in record.spans if span.started_at is not None]
    states = {span.state for span in started_spans if not span.forever}
    yield from (
        (partial(_draw_bar, f"bar {state.value}"), _state_text(state)) for state in STATES_WITH_BARS if state in states
    )
    if any(span.forever for span in started_spans):
        yield partial(_draw_bar, "bar forever"), "forever job"
    if any(span.ready_at is not None for span in started_spans):
        yield partial(_draw_shape, "ready", 7, -3, "h8l-4 6z"), "service ready"
    if any(len(span.attempts) > 1 for span in started_spans):
        yield _draw_attempts, "retry"
    if record.critical_path_links:
        yield _draw_critical_path_bar, "critical path"
    if WaitCause.JOBS in wait_causes:
        yield partial(_draw_line, "chain"), "required by the next"
    if wait_causes - {WaitCause.JOBS}:
        yield partial(_draw_line, "chain slot"), _dotted_line_text(wait_causes)
    if record.incidents:
        yield partial(_draw_shape, "incident", 11, -5, "l4 5l-4 5l-4 -5z"), "incident"


def _wait_entries(patterns: HatchPatterns) -> Iterator[tuple[SampleDrawer, str]]:
    for reason in patterns:
        cause, name = reason
        words = f"waited for {CAUSE_WORDS[cause].awaited_phrase.format(printable(name))}"
        yield partial(_draw_hatching, patterns.fill_attribute(reason)), words


def _state_text(state: JobState) -> str:
    return f"{FAILED_SYMBOL} failed" if state is JobState.FAILED else state.value


def _dotted_line_text(wait_causes: set[WaitCause]) -> str:
    """Return the meaning of dotted lines, which depends on the causes of the waits that they stand for."""
    if wait_causes & {WaitCause.RATE, WaitCause.THROTTLED}:
        return "held up the next: a slot, a resource or a rate"
    return (
        "gave its slot or a resource to the next" if WaitCause.RESOURCE in wait_causes else "gave its slot to the next"
    )


# ---- samples


def _draw_hatching(fill: str, svg: Tree.Element, x: float, y: float) -> None:
    add_element(svg, "rect", css="why", x=x, y=y - 6, width=SAMPLE_WIDTH, height=12, fill=fill)


def _draw_shape(
    css_class: str, x_offset: float, y_offset: float, outline: str, svg: Tree.Element, x: float, y: float
) -> None:
    add_element(svg, "path", css=css_class, d=f"M{x + x_offset:.1f} {y + y_offset:.1f}{outline}")


def _draw_bar(css_class: str, svg: Tree.Element, x: float, y: float) -> None:
    add_element(svg, "rect", css=css_class, x=x, y=y - 6, width=SAMPLE_WIDTH, height=12, rx=2)


def _draw_critical_path_bar(svg: Tree.Element, x: float, y: float) -> None:
    _draw_bar("bar succeeded", svg, x, y)
    _draw_bar("on-path", svg, x, y)


def _draw_attempts(svg: Tree.Element, x: float, y: float) -> None:
    _draw_bar("bar succeeded", svg, x, y)
    add_element(svg, "line", css="attempt", x1=x + 11, y1=y, x2=x + 11, y2=y + 6)
    add_element(svg, "line", css="attempt-edge", x1=x + 12, y1=y, x2=x + 12, y2=y + 6)


def _draw_line(css_class: str, svg: Tree.Element, x: float, y: float) -> None:
    add_element(svg, "path", css=css_class, d=f"M{x:.1f} {y:.1f}h{SAMPLE_WIDTH - 3:.1f}")
    add_element(svg, "path", css="arrow", d=f"M{x + SAMPLE_WIDTH:.1f} {y:.1f}l-4 -3v6z")
