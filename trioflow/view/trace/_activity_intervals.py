"""The activity of each job over time: intervals of work, and of waits by cause."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

from ..._core.api.views import WaitCause
from .._state_styles import CAUSES
from ._span_builder import TraceRecord
from ._spans import Span

WORK: Final = "work", ""
ORDER: Final = tuple(WaitCause)
"""The order in which causes are stacked, from the work upwards."""

What = tuple[WaitCause | Literal["work"], str]
"""A cause and the name of a resource, or work."""


def counted(record: TraceRecord) -> list[Span]:
    """Return the spans that count: neither forever jobs, nor the jobs in them."""
    found: list[Span] = []
    apart: set[int] = set()
    for span in sorted(record.spans, key=lambda one: len(record.outwards(one))):
        if span.forever or span.parent in apart:
            apart.add(span.number)
        elif span.number not in record.nested or span.waits:
            found.append(span)
    return sorted(found, key=lambda one: one.number)


def pieces(record: TraceRecord, span: Span) -> dict[What, list[tuple[float, float]]]:
    """Return the intervals in which a job worked, and those of each wait."""
    found: dict[What, list[tuple[float, float]]] = {}
    held = [(wait.since, wait.until) for wait in span.waits if wait.cause is WaitCause.MACHINE]
    if span.number not in record.nested:
        ran = [*span.throttled]
        if span.started_at is not None:
            at = span.started_at
            for since, until in sorted(held):
                ran.append((at, since))
                at = until
            ran.append((at, record.now if span.finished_at is None else span.finished_at))
        found[WORK] = [one for one in ran if one[1] > one[0]]
    for wait in span.waits:
        found.setdefault((wait.cause, wait.name), []).append((wait.since, wait.until))
    return found


def causes(record: TraceRecord, spans: Iterable[Span]) -> list[What]:
    """Return the activities of jobs in stacking order: the work, then the causes of waits."""
    found: set[tuple[WaitCause, str]] = {(wait.cause, wait.name) for span in spans for wait in span.waits}
    waits: list[What] = [*sorted(found, key=lambda what: (ORDER.index(what[0]), what[1]))]
    return [WORK, *waits]


def legend(what: What) -> str:
    """Return the meaning of a colour."""
    cause, name = what
    if cause == "work":
        return "working"
    words = CAUSES[cause].what.format(name)
    return words if cause is WaitCause.THROTTLED else f"waits for {words}"
