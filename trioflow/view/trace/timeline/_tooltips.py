"""The tooltips of a timeline's bars."""

from __future__ import annotations

from collections.abc import Iterator

from ...._core.api.views import WaitCause, duration_text
from ..._state_styles import recorded_state
from .._record import TraceRecord
from .._spans import Span
from .._story import wait_text


def tooltip_lines(record: TraceRecord, span: Span) -> Iterator[str]:
    """Yield the lines of the tooltip of a job that started."""
    assert span.started_at is not None
    yield span.name
    yield f"{span.kind}, {recorded_state(span).value}{', critical' * span.critical}"
    duration = "still running" if span.elapsed is None else f"took {duration_text(span.elapsed)}"
    yield f"started at {duration_text(span.started_at - record.start_time)}, {duration}"
    for wait in sorted(span.waits, key=lambda wait: wait.cause is WaitCause.JOBS):  # waits for jobs come last
        yield wait_text(record.spans, wait)
    if len(span.attempts) > 1:
        yield f"{len(span.attempts)} attempts"
    if span.throttled:
        yield f"throttled {len(span.throttled)} times before" if len(span.throttled) > 1 else "throttled once before"
    if span.exception is not None:
        yield span.exception_text
