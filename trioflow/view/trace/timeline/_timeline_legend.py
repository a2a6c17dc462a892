"""The text below a timeline: the legend, and the jobs that never started."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final
from xml.etree import ElementTree as Tree

from ...._core.api.views import JobState, WaitCause, printable, shortened
from ..._state_styles import BARS, CAUSES, NEVER_STARTED
from ...text import _verdict
from .._span_builder import TraceRecord
from .._spans import Span
from ._bars import FAILED
from ._gaps import Patterns
from ._geometry import MARGIN
from ._svg import add, clipped, text_width

LINE: Final = 18.0
SAMPLE: Final = 22.0
MAX_NAMES: Final = 30

Draw = Callable[[Tree.Element, float, float], object]


def legend(
    svg: Tree.Element, record: TraceRecord, top: float, width: float, lines: set[str], patterns: Patterns
) -> float:
    """Draw the legend from `top` on, and return where the picture ends.

    `lines` are the lines drawn by `draw_chain`.
    """
    x, y = MARGIN, top
    for draw, text in (*_entries(record, lines), *_reasons(patterns)):
        needed = SAMPLE + 5 + text_width(text, 11) + 14
        if x + needed > width and x > MARGIN:
            x, y = MARGIN, y + LINE
        draw(svg, x, y)
        add(svg, "text", text, css="legend", x=x + SAMPLE + 5, y=y + 4)
        x += needed
    return draw_notes(svg, record, y, width)


def draw_notes(svg: Tree.Element, record: TraceRecord, y: float, width: float) -> float:
    """Write below `y` which jobs have no bar; return where the picture ends."""
    for text, names in _notes(record):
        y += LINE
        note = add(svg, "text", clipped(text, width - 2 * MARGIN, 11), css="note", x=MARGIN, y=y + 4)
        add(note, "title", names)
    return y + LINE


def _notes(record: TraceRecord) -> Iterator[tuple[str, str]]:
    """Yield a line and a tooltip about the jobs that have no bar of their own."""
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


def _note(what: str, spans: list[Span]) -> tuple[str, str]:
    shown = [shortened(span.path) for span in spans[:MAX_NAMES]]
    names = ", ".join(shown) + ", …" * (len(spans) > MAX_NAMES)
    return f"{len(spans)} {what}: {names}", names


def _entries(record: TraceRecord, lines: set[str]) -> Iterator[tuple[Draw, str]]:
    """Yield a sample and a text for each thing that occurs in the picture."""
    started = [span for span in record.spans if span.started_at is not None]
    states = {span.state for span in started if not span.forever}
    entries: tuple[tuple[bool, Draw, str], ...] = (
        *((state in states, _bar(f"bar {state.value}"), _text(state)) for state in BARS),
        (any(span.forever for span in started), _bar("bar forever"), "forever job"),
        (any(span.ready_at is not None for span in started), _shape("ready", 7, -3, "h8l-4 6z"), "service ready"),
        (any(len(span.attempts) > 1 for span in started), _attempts, "further attempt"),
        ("path" in lines, _bar("bar succeeded", "on-path"), "critical path"),
        (WaitCause.JOBS in lines, _line("chain"), "required by the next"),
        (bool(lines - {"path", WaitCause.JOBS}), _line("chain slot"), _gave(lines)),
        (bool(record.incidents), _shape("incident", 11, -5, "l4 5l-4 5l-4 -5z"), "incident"),
    )
    return ((draw, text) for needed, draw, text in entries if needed)


def _reasons(patterns: Patterns) -> Iterator[tuple[Draw, str]]:
    for reason in patterns:
        cause, name = reason
        yield _hatching(patterns.fill(reason)), f"waited for {CAUSES[cause].awaited.format(printable(name))}"


def _hatching(fill: str) -> Draw:
    def draw(svg: Tree.Element, x: float, y: float) -> None:
        add(svg, "rect", css="why", x=x, y=y - 6, width=SAMPLE, height=12, fill=fill)

    return draw


def _text(state: JobState) -> str:
    return f"{FAILED} failed" if state is JobState.FAILED else state.value


def _gave(lines: set[str]) -> str:
    """Return the meaning of a dotted line."""
    if lines & {WaitCause.RATE, WaitCause.THROTTLED}:
        return "held up the next: a slot, a resource or a rate"
    return "gave its slot or a resource to the next" if WaitCause.RESOURCE in lines else "gave its slot to the next"


def _shape(css: str, right: float, down: float, outline: str) -> Draw:
    def draw(svg: Tree.Element, x: float, y: float) -> None:
        add(svg, "path", css=css, d=f"M{x + right:.1f} {y + down:.1f}{outline}")

    return draw


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
