"""The breakdown of a past run's time: the jobs on its critical path, their waits, and the share of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from ..._core.api.views import WaitCause, shortened
from .._state_styles import CAUSES
from ._critical import settled_at
from ._span_builder import TraceRecord
from ._spans import Span

MANY: Final = 12
"""Number of jobs on the path above which those of one kind are added up."""
MIN_GAP: Final = 1e-9
"""Seconds below which a gap between two jobs is a rounding error."""


@dataclass(frozen=True, slots=True)
class PathPart:
    """One job of the critical path, or several of one kind; or a cause of waits."""

    name: str
    """The job's label, or the kind; for a wait, its cause."""
    seconds: float
    number: int
    """The number of jobs."""
    span: int
    """The number of the first of them."""
    began: float
    """The start of the first of them."""
    is_wait: bool = False

    @property
    def text(self) -> str:
        """The name, with the number of jobs if there are several."""
        return f"{self.name} × {self.number}" if self.number > 1 else self.name


def path_parts(record: TraceRecord) -> list[PathPart]:
    """Return the parts of the critical path, the longest first; together, they are the time of the run. O(n)."""
    parts = list(path_steps(record))
    jobs = [part for part in parts if not part.is_wait]
    found: dict[tuple[bool, str], PathPart] = {}
    for part in parts:
        is_kind = not part.is_wait and len(jobs) > MANY
        key = part.is_wait, record.kinds[part.span] if is_kind else part.name if part.is_wait else str(part.span)
        if (before := found.get(key)) is None:
            found[key] = part
        else:
            name = key[1] if is_kind else before.name
            found[key] = replace(before, name=name, seconds=before.seconds + part.seconds, number=before.number + 1)
    return sorted(found.values(), key=lambda part: -part.seconds)


def path_steps(record: TraceRecord) -> Iterator[PathPart]:
    """Yield each wait and each job of the path, in the order of time: each begins where the one before ended."""
    at = record.began
    for link in record.chain:
        span = record.spans[link.number]
        if span.number in record.nested or span.started_at is None:
            continue
        if span.started_at - at > MIN_GAP:
            yield PathPart(_waited_for(span), span.started_at - at, 1, span.number, at, is_wait=True)
        end = min(settled_at(span), record.now)
        begins = max(at, span.started_at)
        if end > begins:
            yield PathPart(shortened(span.path), end - begins, 1, span.number, begins)
        at = max(at, end)
    if record.chain and record.now - at > MIN_GAP:
        yield PathPart("the end of the run", record.now - at, 1, record.chain[-1].number, at, is_wait=True)


def _waited_for(span: Span) -> str:
    """Return the last cause other than jobs that a job waited for."""
    waits = [wait for wait in span.waits if wait.cause is not WaitCause.JOBS]
    return waits[-1].words if waits else CAUSES[WaitCause.LOOP].awaited
