"""The upper part of a timeline: its title, the axis, and how many jobs ran at each time, against the window."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import accumulate
from typing import Final
from xml.etree import ElementTree as Tree

from .._core._states import JobState
from ._timeline_paint import add, clipped, text_width
from ._timeline_places import HEAD, LOAD_HEIGHT, MARGIN, Places
from ._trace_spans import RunSpan, Span
from ._trace_units import duration, ticks

TICK_PIXELS: Final = 110
"""From one tick to the next at least."""
FULL: Final = 0.86
"""How much of its height the highest load takes."""


def draw_title(svg: Tree.Element, places: Places) -> None:
    """Write what ran, how long it took, and what became of it."""
    roots = places.record.roots
    name = ", ".join(dict.fromkeys(run.label for run in roots)) or "nothing has run"
    add(svg, "text", clipped(name, places.inner, 15, bold=True), css="title", x=MARGIN, y=24.0)
    if not roots:
        return
    states = Counter(span.state for span in places.record.spans)
    counts = (f"{states[state]} {state.value}" for state in JobState if states[state])
    ends = dict.fromkeys("running" if run.reason is None else run.reason.value for run in roots)
    text = " · ".join(filter(None, (duration(places.seconds), ", ".join(ends), ", ".join(counts))))
    add(svg, "text", clipped(text, places.inner, 11), css="subtitle", x=MARGIN, y=41.0)


def draw_axis(svg: Tree.Element, places: Places) -> None:
    """Draw the ticks, each with a line through all rows."""
    top = HEAD - 4
    for at, text in ticks(places.seconds, max(2, int(places.width / TICK_PIXELS))):
        x = places.x(places.began + at)
        add(svg, "line", css="grid", x1=x, y1=top, x2=x, y2=places.bottom)
        if x + text_width(text, 11) / 2 <= places.width:
            anchor = "start" if at == 0 else "middle"
            add(svg, "text", text, css="tick", x=x, y=top - 3, text_anchor=anchor)
    _draw_across(svg, places, "frame", top)


def draw_load(svg: Tree.Element, places: Places, run: RunSpan) -> None:
    """Draw how many jobs that take slots ran at each time, against the window of the run."""
    steps = _steps((places.record.spans[number] for number in run.members), places.record.now)
    most = max((running for _, running in steps), default=0)
    has_line = run.window is not None and run.window <= 4 * most  # one far above would leave nothing of the rest
    base = HEAD + LOAD_HEIGHT
    unit = LOAD_HEIGHT * FULL / max(most, (run.window or 0) if has_line else 0, 1)
    path = "".join(f"H{places.x(at):.1f}V{base - running * unit:.1f}" for at, running in steps)
    add(svg, "path", css="load", d=f"M{MARGIN} {base:.1f}{path}V{base:.1f}Z")
    _draw_across(svg, places, "frame", base)
    if has_line:
        _draw_across(svg, places, "window", base - (run.window or 0) * unit)
    text = f"running, at most {most}" + (f" of window {run.window}" if run.window is not None else "")
    add(svg, "text", text, css="note", x=MARGIN + 4, y=base - 5)


def _draw_across(svg: Tree.Element, places: Places, css: str, y: float) -> None:
    add(svg, "line", css=css, x1=MARGIN, y1=y, x2=places.width - MARGIN, y2=y)


def _steps(spans: Iterable[Span], now: float) -> list[tuple[float, int]]:
    """Return each time at which the number of running jobs changed, with the number from then on."""
    changes: Counter[float] = Counter()
    for span in spans:
        if span.started_at is not None and not span.forever:
            changes[span.started_at] += 1
            changes[now if span.finished_at is None else span.finished_at] -= 1
    times = sorted(changes)
    return list(zip(times, accumulate(changes[at] for at in times), strict=True))
