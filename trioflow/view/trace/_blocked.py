"""The jobs that each failure kept from running."""

from __future__ import annotations

from ..._core.api import RequirementFailed
from ..._core.api.views import AnyJob, JobState
from ._span_builder import TraceRecord
from ._spans import Span

NOT_DONE = (JobState.IDLE, JobState.SCHEDULED, JobState.CANCELLED)


def kept_from_running(record: TraceRecord) -> dict[int, list[Span]]:
    """Return for the span of each failure the jobs that it kept from running, or from their end. O(V + E).

    A job in a nested scheduler that was BLOCKED counts, and of the failure that ended a run those that had not settled.
    """
    numbers = {job: span.number for span, job in zip(record.spans, record.jobs, strict=True)}
    inside: dict[int, int] = {}  # the first failure in each nested scheduler
    for number in sorted(record.failures, key=lambda one: (record.spans[one].finished_at or 0.0, one)):
        for outer in record.outwards(record.spans[number]):
            inside.setdefault(outer.number, number)
    found: dict[int, list[Span]] = {}
    culprits = [record.culprit(run) for run in record.roots if run.culprit is not None]
    ended_by = next((_root(record, span, numbers) for span in culprits if span is not None), None)
    for span in record.outcomes:
        cause = None
        if not span.forever:
            around = [span, *record.outwards(span)]
            blocked = next((one for one in around if one.state is JobState.BLOCKED), None)
            cause = None if blocked is None else _root(record, blocked, numbers)
            if cause is None and span.state in NOT_DONE:
                cause = ended_by
        if cause is not None and cause not in record.failures:
            cause = inside.get(cause)
        if cause is not None and cause != span.number:
            found.setdefault(cause, []).append(span)
    return found


def _root(record: TraceRecord, span: Span, numbers: dict[AnyJob, int]) -> int | None:
    """Return the job whose failure blocked this one in the first place."""
    for _ in record.spans:
        if not isinstance(span.exception, RequirementFailed):
            break
        number = numbers.get(span.exception.requirement)
        if number is None:
            return None
        span = record.spans[number]
    return span.number
