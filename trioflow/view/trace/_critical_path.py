"""The critical path of a past run: the chain of jobs that decided when the run ended.

The method of Kelley and Walker (Critical-Path Planning and Scheduling, 1959) finds the longest path through a plan.
Here the plan has been executed and all times are known, so the path is followed backwards from the last job to
finish: from each job to its predecessor, whose end let it start. The predecessor is the requirement that settled last.
If the job waited for a slot or a resource, it is the job that released the slot or the resource. The result is the
critical chain of Goldratt (1997), which treats resources like requirements. For V jobs and E requirements, it takes
O(V log V + E) time, where the logarithm comes from sorting the ends.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from ..._core.api.views import WaitCause
from ._spans import RunSpan, Span, or_infinity

RESOURCE_CAUSES: Final = (WaitCause.RESOURCE, WaitCause.RATE, WaitCause.THROTTLED)
"""The causes of waits for a resource of a pool."""


@dataclass(frozen=True, slots=True)
class CriticalPathLink:
    """One job on the critical path, and the reason why it did not start earlier."""

    span_number: int  # the number of the job's span
    predecessor_number: int | None  # the number of the predecessor's span; None for the first job of a run
    wait_cause: WaitCause | None  # why the job waited for its predecessor, e.g. JOBS; None for the first job of a run


def compute_critical_path(runs: Iterable[RunSpan], spans: tuple[Span, ...]) -> tuple[CriticalPathLink, ...]:
    """Return the critical path of the outermost run that ended last, in the order in which the jobs started.

    The path includes jobs of nested runs.
    """
    runs_by_parent: dict[int | None, list[RunSpan]] = {}
    runs = tuple(runs)
    for run in runs:
        runs_by_parent.setdefault(run.parent, []).append(run)
    pending_runs = sorted(runs_by_parent.get(None, []), key=lambda run: or_infinity(run.finished_at))[-1:]
    walk = _BackwardWalk(runs, spans)
    links: list[CriticalPathLink] = []
    while pending_runs:
        for link in walk.iterate_links(pending_runs.pop()):
            links.append(link)
            pending_runs += runs_by_parent.get(link.span_number, [])
    return tuple(sorted(links, key=lambda link: link.span_number))  # spans are in the order of their starts


class _BackwardWalk:
    """The walk from the last job of a run to the first. A wait for a resource may lead to a job of another run."""

    def __init__(self, runs: tuple[RunSpan, ...], spans: tuple[Span, ...]) -> None:
        self._runs: Final = runs
        self._spans: Final = spans
        self._run_indices: Final = {number: index for index, run in enumerate(runs) for number in run.member_numbers}
        self._handovers_by_run: Final[dict[int, SlotHandovers]] = {}
        self._visited_numbers: Final[set[int]] = set()  # jobs that took no time may form a cycle

    def iterate_links(self, run: RunSpan) -> Iterator[CriticalPathLink]:
        """Yield the links from the last job of a run back to the first, or to a job that is on the path already.

        The links of nested runs are left out.
        """
        span = _find_last_job(run, self._spans)
        while span is not None and span.number not in self._visited_numbers:
            self._visited_numbers.add(span.number)
            predecessor, wait_cause = _find_predecessor(span, self._spans, self._get_handovers(span))
            if span.started_at is not None:
                yield CriticalPathLink(span.number, None if predecessor is None else predecessor.number, wait_cause)
            span = predecessor

    def _get_handovers(self, span: Span) -> SlotHandovers:
        index = self._run_indices[span.number]
        if index not in self._handovers_by_run:
            run = self._runs[index]
            self._handovers_by_run[index] = SlotHandovers(run, [self._spans[number] for number in run.member_numbers])
        return self._handovers_by_run[index]


def _find_last_job(run: RunSpan, spans: tuple[Span, ...]) -> Span | None:
    """Return the last job to finish. If a job stopped the run, only that job and later clean-up jobs are considered."""
    members = (spans[number] for number in run.member_numbers)
    candidates = [span for span in members if span.started_at is not None and not span.forever]
    if run.culprit_number is not None:
        culprit = spans[run.culprit_number]
        stopped_at = culprit.finished_at
        cleanups = [span for span in candidates if stopped_at is not None and _is_cleanup(span, stopped_at)]
        candidates = cleanups or [culprit]
    return max(candidates, key=lambda span: (or_infinity(span.finished_at), -span.number), default=None)


def _is_cleanup(span: Span, stopped_at: float) -> bool:
    """Return whether a job started after its run was stopped, as only clean-up jobs do."""
    return or_infinity(span.started_at) >= stopped_at and or_infinity(span.finished_at) > stopped_at


def _find_predecessor(
    span: Span, spans: tuple[Span, ...], handovers: SlotHandovers
) -> tuple[Span | None, WaitCause | None]:
    """Return the job whose end let the job of `span` start, and the cause of the wait.

    Both are None if the job did not wait for another.
    """
    for wait in reversed(span.waits):
        if wait.cause not in RESOURCE_CAUSES:
            break
        # If the job itself was throttled, `released_by` may be its own number, which is no predecessor.
        if wait.released_by is not None and wait.released_by < span.number:
            return spans[wait.released_by], wait.cause
    releasing_job = handovers.find_releasing_job(span)
    if releasing_job is not None:
        return releasing_job, WaitCause.SLOT
    settled_requirements = [job for job in (spans[number] for number in span.required) if settled_at(job) < math.inf]
    if not settled_requirements:
        return None, None
    return max(settled_requirements, key=lambda job: (settled_at(job), job.number)), WaitCause.JOBS


def settled_at(span: Span) -> float:
    """Return the time from which jobs that require the job of `span` could start, or infinity if there is none yet.

    This is the end of the job, or, for a service, the time when the service became ready.
    """
    return or_infinity(span.finished_at if span.ready_at is None else span.ready_at)


def _end_or_infinity(span: Span) -> float:
    return or_infinity(span.finished_at)


class SlotHandovers:
    """The handovers of slots in one run, from jobs that ended while the window was full to jobs that waited."""

    def __init__(self, run: RunSpan, members: list[Span]) -> None:
        """Find the jobs that ended while the window was full, sorted by their ends."""
        slot_users = [span for span in members if span.started_at is not None and span.takes_slot]
        slot_users.sort(key=lambda span: (_end_or_infinity(span), span.number))
        starts = sorted(or_infinity(span.started_at) for span in slot_users)
        ends = list(map(_end_or_infinity, slot_users))

        def was_window_full(span: Span) -> bool:
            running_count = bisect.bisect_left(starts, _end_or_infinity(span)) - bisect.bisect_left(
                ends, _end_or_infinity(span)
            )
            return run.window_size is not None and running_count >= run.window_size

        self._releasing_jobs = list(filter(was_window_full, slot_users))
        self._jobs_by_lane: dict[int | None, list[Span]] = {None: []}  # a job that has not started has no lane
        for span in slot_users:
            self._jobs_by_lane.setdefault(span.lane, []).append(span)

    def find_releasing_job(self, span: Span, until: float | None = None) -> Span | None:
        """Return the job from which the job of `span` got its slot, or None if it did not wait for a slot.

        A job may have waited even if a slot was free when the job became ready, because another job that became ready
        at the same time may have taken that slot.

        Args:
            span: the span of the job that may have waited.
            until: the time when the job got the slot. Default: the time when the job started.

        """
        since, start = span.scheduled_at, span.started_at if until is None else until
        if not span.takes_slot or since is None or start is None or start <= since:
            return None
        index = bisect.bisect_right(self._releasing_jobs, start, key=_end_or_infinity) - 1
        while index >= 0 and _end_or_infinity(self._releasing_jobs[index]) > since:
            if self._releasing_jobs[index].number < span.number:
                return self._find_previous_in_lane(span, since, start) or self._releasing_jobs[index]
            index -= 1
        return None

    def _find_previous_in_lane(self, span: Span, since: float, start: float) -> Span | None:
        """Return the job before `span` in its lane, or None if that job ended before the wait.

        If several jobs ended at the same time, the one in the same lane is the most likely to have released the slot.
        """
        lane_jobs = self._jobs_by_lane[span.lane]
        index = bisect.bisect_right(lane_jobs, start, key=_end_or_infinity) - 1
        if index >= 0 and _end_or_infinity(lane_jobs[index]) > since and lane_jobs[index].number < span.number:
            return lane_jobs[index]
        return None
