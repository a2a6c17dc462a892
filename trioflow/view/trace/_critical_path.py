"""The critical path of a past run: the chain of jobs that decided when the run ended.

The method of Kelley and Walker (Critical-Path Planning and Scheduling, 1959) finds the longest path through a plan.
Here the plan has been executed and all times are known, so the path is followed backwards from the last job to
finish: from each job to its predecessor, whose end let it start. The predecessor is the requirement that settled last.
If the job waited for a slot or a resource, it is the job that released the slot or the resource. The result is the
critical chain of Goldratt (1997), which treats resources like requirements. For V jobs and E requirements, it takes
O(V log V + E) time, where the logarithm comes from sorting the ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..._core.base._states import StopReason, WaitCause
from ._spans import RunSpan, Span, or_infinity


@dataclass(frozen=True, slots=True)
class CriticalPathLink:
    """One job on the critical path, and the reason why it did not start earlier."""

    span_number: int
    predecessor_number: int | None  # the number of the predecessor's span; None for the first job of a run
    wait_cause: WaitCause | None  # why the job waited for its predecessor, e.g. JOBS; None for the first job of a run


def compute_critical_path(runs: Iterable[RunSpan], spans: tuple[Span, ...]) -> tuple[CriticalPathLink, ...]:
    """Return the critical path of the outermost run that ended last, in the order in which the jobs started.

    The path includes jobs of nested runs.
    """
    runs_by_parent: dict[int | None, list[RunSpan]] = {}
    for run in runs:
        runs_by_parent.setdefault(run.parent, []).append(run)
    pending_runs = sorted(runs_by_parent.get(None, []), key=lambda run: or_infinity(run.finished_at))[-1:]
    links: list[CriticalPathLink] = []
    visited_numbers: set[int] = set()
    while pending_runs:
        for link in _iterate_links(pending_runs.pop(), spans, visited_numbers):
            links.append(link)
            pending_runs += runs_by_parent.get(link.span_number, [])
    return tuple(sorted(links, key=lambda link: link.span_number))  # spans are in the order of their starts


def _iterate_links(run: RunSpan, spans: tuple[Span, ...], visited_numbers: set[int]) -> Iterator[CriticalPathLink]:
    """Yield the links from the last job of a run back to the first, or to a job that is on the path already.

    The links of nested runs are left out. A wait for a resource may lead to a job of another run.
    """
    span = _find_last_job(run, spans)
    while span is not None and span.number not in visited_numbers:  # jobs that took no time may form a cycle
        visited_numbers.add(span.number)
        predecessor, wait_cause = _find_predecessor(span, spans)
        if span.started_at is not None:
            yield CriticalPathLink(span.number, None if predecessor is None else predecessor.number, wait_cause)
        span = predecessor


def _find_last_job(run: RunSpan, spans: tuple[Span, ...]) -> Span | None:
    """Return the last job to finish. If a job stopped the run, only that job and later clean-up jobs are considered."""
    members = (spans[number] for number in run.member_numbers)
    candidates = [span for span in members if span.started_at is not None and not span.forever]
    if run.culprit_number is not None and run.stop_reason is not StopReason.FAILED:
        culprit = spans[run.culprit_number]
        stopped_at = culprit.finished_at
        cleanups = [span for span in candidates if stopped_at is not None and _is_cleanup(span, stopped_at)]
        candidates = cleanups or [culprit]
    return max(candidates, key=lambda span: (or_infinity(span.finished_at), -span.number), default=None)


def _is_cleanup(span: Span, stopped_at: float) -> bool:
    """Return whether a job started after its run was stopped, as only clean-up jobs do."""
    return or_infinity(span.started_at) >= stopped_at and or_infinity(span.finished_at) > stopped_at


def _find_predecessor(span: Span, spans: tuple[Span, ...]) -> tuple[Span | None, WaitCause | None]:
    """Return the job whose end let the job of `span` start, and the cause of the wait.

    Both are None if the job did not wait for another.
    """
    for wait in reversed(span.waits):
        # If the job itself was throttled, `released_by` may be its own number, which is no predecessor.
        if wait.cause is not WaitCause.JOBS and wait.released_by is not None and wait.released_by < span.number:
            return spans[wait.released_by], wait.cause
    settled_requirements = [job for job in (spans[number] for number in span.required) if settled_at(job) < math.inf]
    if not settled_requirements:
        return None, None
    return max(settled_requirements, key=lambda job: (settled_at(job), job.number)), WaitCause.JOBS


def settled_at(span: Span) -> float:
    """Return the time from which jobs that require the job of `span` could start, or infinity if there is none yet.

    This is the end of the job, or, for a service, the time when the service became ready.
    """
    return or_infinity(span.finished_at if span.ready_at is None else span.ready_at)
