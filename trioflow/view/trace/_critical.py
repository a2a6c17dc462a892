"""The critical path of a past run: the chain of jobs that decided when the run ended.

The method of Kelley and Walker (Critical-Path Planning and Scheduling, 1959) finds the longest path through a plan.
Here the plan has been executed and all times are known, so the path is followed backwards from the last job to
finish: from each job to the one whose end let it start. That is the requirement that settled last, or, if the job
waited for a slot or a resource, the job that released it, as in the critical chain of Goldratt (1997), which treats
resources like requirements. The cost is O(V log V + E) for a run; the logarithm comes from sorting the ends.
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


@dataclass(frozen=True, slots=True)
class Link:
    """One job on the critical path, and the reason why it did not start earlier."""

    number: int  # the number of the job's span
    after: int | None  # the number of its predecessor on the path; None for the first job of a run
    reason: WaitCause | None  # why it waited for its predecessor, JOBS for a requirement; None for the first job


def critical_chain(runs: Iterable[RunSpan], spans: tuple[Span, ...]) -> tuple[Link, ...]:
    """Return the critical path of the outermost run that ended last, nested runs included, in order of starts."""
    inside: dict[int | None, list[RunSpan]] = {}
    for run in runs:
        inside.setdefault(run.parent, []).append(run)
    todo = sorted(inside.get(None, []), key=lambda run: or_infinity(run.finished_at))[-1:]
    links: list[Link] = []
    while todo:
        for link in _chain(todo.pop(), spans):
            links.append(link)
            todo += inside.get(link.number, [])
    return tuple(sorted(links, key=lambda link: link.number))  # spans are in the order of their starts


def _chain(run: RunSpan, spans: tuple[Span, ...]) -> Iterator[Link]:
    """Yield the links of one run, without those of nested runs, the last one first."""
    members = [spans[number] for number in run.members]
    slots = SlotGivers(run, members)
    span = _last_to_finish(run, members, spans)
    seen: set[int] = set()  # because jobs that took no time may form a cycle
    while span is not None and span.number not in seen:
        seen.add(span.number)
        before, reason = _predecessor(span, spans, slots)
        if span.started_at is not None:
            yield Link(span.number, None if before is None else before.number, reason)
        span = before


def _last_to_finish(run: RunSpan, members: list[Span], spans: tuple[Span, ...]) -> Span | None:
    """Return the last job to finish; of a run that was stopped, its culprit, or a clean-up job after that."""
    candidates = [span for span in members if span.started_at is not None and not span.forever]
    if run.culprit is not None:
        culprit = spans[run.culprit]
        stopped = culprit.finished_at
        candidates = [span for span in candidates if stopped is not None and _cleans_up(span, stopped)] or [culprit]
    return max(candidates, key=lambda span: (or_infinity(span.finished_at), -span.number), default=None)


def _cleans_up(span: Span, stopped: float) -> bool:
    """Return whether a job started after its run was stopped, as only clean-up jobs do."""
    return or_infinity(span.started_at) >= stopped and or_infinity(span.finished_at) > stopped


def _predecessor(span: Span, spans: tuple[Span, ...], slots: SlotGivers) -> tuple[Span | None, WaitCause | None]:
    """Return the job whose end let this one start, and the cause of the wait for it."""
    for wait in reversed(span.waits):
        if wait.cause not in RESOURCE_CAUSES:
            break
        # Not the span itself, which may have ended the wait when it was throttled.
        if wait.released_by is not None and wait.released_by < span.number:
            return spans[wait.released_by], wait.cause
    giver = slots.releasing_job(span)
    if giver is not None:
        return giver, WaitCause.SLOT
    required = [job for job in (spans[number] for number in span.required) if settled_at(job) < math.inf]
    if not required:
        return None, None
    return max(required, key=lambda job: (settled_at(job), job.number)), WaitCause.JOBS


def settled_at(span: Span) -> float:
    """Return the time from which jobs that require this one could start; infinity if there is none.

    It is the end of the job, or, for a service, the time when it became ready.
    """
    return or_infinity(span.finished_at if span.ready_at is None else span.ready_at)


def _end(span: Span) -> float:
    return or_infinity(span.finished_at)


class SlotGivers:
    """The jobs of one run whose ends handed a slot to another job: those that ended while the window was full."""

    def __init__(self, run: RunSpan, members: list[Span]) -> None:
        """Find the jobs that ended while the window was full, sorted by their ends."""
        takers = [span for span in members if span.started_at is not None and not span.forever]
        takers.sort(key=lambda span: (_end(span), span.number))
        starts = sorted(or_infinity(span.started_at) for span in takers)
        ends = list(map(_end, takers))

        def window_was_full(span: Span) -> bool:
            running = bisect.bisect_left(starts, _end(span)) - bisect.bisect_left(ends, _end(span))
            return run.window is not None and running >= run.window

        self._givers = list(filter(window_was_full, takers))
        self._in_lane: dict[int | None, list[Span]] = {}
        for taker in takers:
            self._in_lane.setdefault(taker.lane, []).append(taker)

    def releasing_job(self, span: Span, until: float | None = None) -> Span | None:
        """Return the job from which `span` got its slot; None if `span` did not wait for one.

        A job may have waited even if a slot was free when it became ready: jobs that became ready at the same time may
        have taken the slot first.

        Args:
            span: the span of the job that may have waited.
            until: when it got the slot. Default: when it started.

        """
        since, start = span.scheduled_at, span.started_at if until is None else until
        if span.forever or since is None or start is None or start <= since:
            return None
        index = bisect.bisect_right(self._givers, start, key=_end) - 1
        while index >= 0 and _end(self._givers[index]) > since:
            if self._givers[index].number < span.number:
                return self._previous_in_lane(span, since, start) or self._givers[index]
            index -= 1
        return None

    def _previous_in_lane(self, span: Span, since: float, start: float) -> Span | None:
        """Return the previous job in the lane of `span`, the most likely giver if several jobs ended at one time."""
        in_lane = self._in_lane[span.lane]
        index = bisect.bisect_right(in_lane, start, key=_end) - 1
        if index >= 0 and _end(in_lane[index]) > since and in_lane[index].number < span.number:
            return in_lane[index]
        return None
