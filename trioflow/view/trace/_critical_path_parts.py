"""The breakdown of a critical path: how long each of its jobs, and each wait between them, took."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from ..._core.api.views import WaitCause
from .._state_styles import CAUSE_WORDS
from ._critical_path import settled_at
from ._record import TraceRecord
from ._spans import last_wait

MAX_SINGLE_JOBS: Final = 12
"""The maximum number of jobs that are listed one by one. If the path has more, jobs of one family are combined."""
MIN_GAP_SECONDS: Final = 1e-9
"""A gap between two jobs that is shorter than this is a rounding error, not a wait."""


@dataclass(frozen=True, slots=True)
class CriticalPathPart:
    """The part of a critical path that consists of a job, of several jobs of one family, or of waits with one cause."""

    name: str
    """The path of the job, or the family of the jobs, or the cause of the waits in words."""
    seconds: float
    count: int
    span_number: int
    """The span number of the first of these jobs or, for waits, of the first job that waited."""
    start: float
    is_wait: bool = False

    @property
    def label(self) -> str:
        """The name, followed by the count if it is more than one, e.g. `page * × 3`."""
        return f"{self.name} × {self.count}" if self.count > 1 else self.name


def critical_path_parts(record: TraceRecord) -> list[CriticalPathPart]:
    """Return the parts of the critical path, the longest first. Their durations add up to the duration of the run."""
    steps = list(critical_path_steps(record))
    should_merge_families = sum(not step.is_wait for step in steps) > MAX_SINGLE_JOBS
    parts: dict[tuple[bool, str], CriticalPathPart] = {}
    for step in steps:
        is_merged = should_merge_families and not step.is_wait
        key = (
            step.is_wait,
            record.families[step.span_number] if is_merged else step.name if step.is_wait else str(step.span_number),
        )
        if (part := parts.get(key)) is None:
            parts[key] = step
        else:
            name = key[1] if is_merged else part.name
            parts[key] = replace(part, name=name, seconds=part.seconds + step.seconds, count=part.count + 1)
    return sorted(parts.values(), key=lambda part: -part.seconds)


def critical_path_steps(record: TraceRecord) -> Iterator[CriticalPathPart]:
    """Yield the jobs and waits along the critical path in chronological order, without gaps between them."""
    covered_until = record.start_time
    for link in record.critical_path_links:
        span = record.spans[link.span_number]
        if span.number in record.scheduler_numbers or span.started_at is None:
            continue
        if span.started_at - covered_until > MIN_GAP_SECONDS:
            wait_seconds = span.started_at - covered_until
            wait = last_wait(span)
            words = CAUSE_WORDS[WaitCause.LOOP].awaited_phrase if wait is None else wait.words
            yield CriticalPathPart(words, wait_seconds, 1, span.number, covered_until, is_wait=True)
        end = min(settled_at(span), record.end_time)
        start = max(covered_until, span.started_at)
        if end > start:
            yield CriticalPathPart(span.name, end - start, 1, span.number, start)
        covered_until = max(covered_until, end)
    wait_seconds = record.end_time - covered_until
    if record.critical_path_links and wait_seconds > MIN_GAP_SECONDS:
        last_number = record.critical_path_links[-1].span_number
        yield CriticalPathPart("the end of the run", wait_seconds, 1, last_number, covered_until, is_wait=True)
