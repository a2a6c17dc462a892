"""The story of a job as text: how it came to where it is, with times, told from its spans."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from ..._core.api.views import WaitCause, duration_text, printable
from .._state_styles import recorded_state
from ..text import _exception_text
from ._spans import Span, Wait

MIN_WAIT_SECONDS = 0.001
"""Shorter waits are left out: they are those of the event loop between two steps."""
RELEASES: Final = {
    WaitCause.JOBS: ", until {} settled",
    WaitCause.SLOT: ", until {} released it",
    WaitCause.TOKEN: ", until {} released it",
    WaitCause.RESOURCE: ", until {} released it",
    WaitCause.RATE: ", from which {} had taken",
    WaitCause.THROTTLED: ", because of {}",
}
"""For each cause of a wait that another job may have ended, what that job did."""


def story_lines(spans: Sequence[Span], span: Span, began_at: float) -> list[str]:
    """Return a line for each step of a job, with its time since the run began.

    Args:
        spans: all spans of the trace.
        span: the span of the job.
        began_at: the time when the run began.

    """
    steps = sorted(_steps(spans, span), key=lambda step: step[0])
    return [f"{duration_text(max(0.0, time - began_at), in_column=True)}: {printable(text)}" for time, text in steps]


def _steps(spans: Sequence[Span], span: Span) -> Iterator[tuple[float, str]]:
    """Yield the time and the text of each step of a job."""
    for wait in span.waits:
        if wait.cause is WaitCause.JOBS or wait.seconds >= MIN_WAIT_SECONDS:
            yield wait.until, _step_text(spans, span, wait)
    if span.scheduled_at is not None and not any(wait.cause is WaitCause.JOBS for wait in span.waits):
        yield span.scheduled_at, "was ready"
    starts = dict(enumerate(span.attempts, 1))
    failures = {number: (failed_at, error) for number, failed_at, error in span.failed_attempts}
    for number in sorted(starts | failures):
        if number in starts:
            yield starts[number], "started" if number == 1 else f"started attempt {number}"
        if number in failures:
            yield failures[number][0], f"attempt {number} failed: {failures[number][1]}"
    for _, until in span.throttled:
        yield until, "was throttled"
    if span.ready_at is not None:
        yield span.ready_at, "reported that it is ready"
    if span.finished_at is not None:
        times = "" if span.elapsed is None else f" after {duration_text(span.elapsed)}"
        error = "" if span.exception is None else f": {_exception_text.one_line_text(span.exception)}"
        yield span.finished_at, f"{recorded_state(span).value}{times}{error}"


def _step_text(spans: Sequence[Span], span: Span, wait: Wait) -> str:
    """Return the step with which a wait ended."""
    if wait.cause is not WaitCause.JOBS or span.scheduled_at is None:  # it has never been ready
        return wait_text(spans, wait)
    return "was ready" if wait.released_by is None else f"was ready, because {spans[wait.released_by].name} settled"


def wait_text(spans: Sequence[Span], wait: Wait) -> str:
    """Return how long a job waited, for what, and what another job had to do with it, if one is known."""
    preposition = "," if wait.cause is WaitCause.THROTTLED else " for"
    release = "" if wait.released_by is None else RELEASES.get(wait.cause, "").format(spans[wait.released_by].name)
    return f"waited {duration_text(wait.seconds)}{preposition} {wait.words}{release}"
