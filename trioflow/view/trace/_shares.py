"""The breakdown of a critical path: the time that each of its jobs, and each wait between them, took."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from ..._core.api.views import WaitCause, shorten
from .._state_styles import CAUSES
from ._critical import settled_at
from ._span_builder import TraceRecord
from ._spans import Span

MAX_SINGLE_JOBS: Final = 12
"""The number of jobs on the path above which those of one kind are combined."""
MIN_GAP: Final = 1e-9
"""Seconds below which a gap between two jobs is a rounding error."""


@dataclass(frozen=True, slots=True)
class PathPart:
    """The time that a job on the critical path took, or several of one kind, or waits with one cause."""

    name: str
    """The path of the job, or the kind of the jobs; for waits, the cause in words."""
    seconds: float
    """The duration, or the sum of the durations."""
    count: int
    """The number of jobs, or of waits."""
    span: int
    """The number of the first job's span; for waits, of the first job that waited."""
    began: float
    """The start of the first job or wait."""
    is_wait: bool = False

    @property
    def text(self) -> str:
        """The name, with the count if it is more than one."""
        return f"{self.name} × {self.count}" if self.count > 1 else self.name


def path_parts(record: TraceRecord) -> list[PathPart]:
    """Return the parts of the critical path, the longest first; they add up to the duration of the run. O(n)."""
    steps = list(path_steps(record))
    by_kind = sum(not step.is_wait for step in steps) > MAX_SINGLE_JOBS
    parts: dict[tuple[bool, str], PathPart] = {}
    for step in steps:
        is_kind = by_kind and not step.is_wait
        key = step.is_wait, record.kinds[step.span] if is_kind else step.name if step.is_wait else str(step.span)
        if (part := parts.get(key)) is None:
            parts[key] = step
        else:
            name = key[1] if is_kind else part.name
            parts[key] = replace(part, name=name, seconds=part.seconds + step.seconds, count=part.count + 1)
    return sorted(parts.values(), key=lambda part: -part.seconds)


def path_steps(record: TraceRecord) -> Iterator[PathPart]:
    """Yield the jobs and waits along the critical path in chronological order, without gaps between them."""
    at = record.began
    for link in record.chain:
        span = record.spans[link.number]
        if span.number in record.nested or span.started_at is None:
            continue
        if span.started_at - at > MIN_GAP:
            yield PathPart(_last_wait(span), span.started_at - at, 1, span.number, at, is_wait=True)
        end = min(settled_at(span), record.now)
        begins = max(at, span.started_at)
        if end > begins:
            yield PathPart(shorten(span.path), end - begins, 1, span.number, begins)
        at = max(at, end)
    if record.chain and record.now - at > MIN_GAP:
        yield PathPart("the end of the run", record.now - at, 1, record.chain[-1].number, at, is_wait=True)


def _last_wait(span: Span) -> str:
    """Return in words what a job waited for last, once its requirements had settled."""
    waits = [wait for wait in span.waits if wait.cause is not WaitCause.JOBS]
    return waits[-1].words if waits else CAUSES[WaitCause.LOOP].awaited
