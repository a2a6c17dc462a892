"""The critical path of a past run: the jobs that, one after the other, decided when it ended.

The method of Kelley and Walker (Critical-Path Planning and Scheduling, 1959) finds the longest path through a plan.
Here the plan has been executed and all times are known, so the path is followed backwards from the last job to
finish: from each job to the one whose end let it start. That is the requirement that settled last, or, if the window
was full, the job whose end freed its slot, as in the critical chain of Goldratt (1997), which treats resources like
requirements. O(V log V + E) for a run; the logarithm comes from sorting the ends.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from ..._core.api.views import WaitCause
from ._spans import RunSpan, Span, or_infinity

AT_RESOURCES: Final = (WaitCause.RESOURCE, WaitCause.RATE, WaitCause.THROTTLED)


@dataclass(frozen=True, slots=True)
class Link:
    """One job of the chain, and why it did not start earlier."""

    number: int  # the number of its span
    after: int | None  # the span whose end it waited for; None at the beginning of a run
    reason: WaitCause | None  # JOBS for a requirement; None at the beginning of a run


def critical_chain(runs: Iterable[RunSpan], spans: tuple[Span, ...]) -> tuple[Link, ...]:
    """Return the chain through the outermost run that ended last, and through its nested runs, in order of starts."""
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
    """Yield the links of one run, the last one first."""
    members = [spans[number] for number in run.members]
    slots = SlotGivers(run, members)
    span = _last(run, members, spans)
    seen: set[int] = set()  # jobs that took no time may form a cycle
    while span is not None and span.number not in seen:
        seen.add(span.number)
        before, reason = _cause(span, spans, slots)
        if span.started_at is not None:
            yield Link(span.number, None if before is None else before.number, reason)
        span = before


def _last(run: RunSpan, members: list[Span], spans: tuple[Span, ...]) -> Span | None:
    """Return the last job to finish, not counting jobs that were cancelled because of the culprit."""
    candidates = [span for span in members if span.started_at is not None and not span.forever]
    if run.culprit is not None:
        culprit = spans[run.culprit]
        over = culprit.finished_at
        candidates = [span for span in candidates if over is not None and _cleans_up(span, over)] or [culprit]
    return max(candidates, key=lambda span: (or_infinity(span.finished_at), -span.number), default=None)


def _cleans_up(span: Span, over: float) -> bool:
    """Return whether a job began after the run's end at `over`, as only clean-up jobs do."""
    return or_infinity(span.started_at) >= over and or_infinity(span.finished_at) > over


def _cause(span: Span, spans: tuple[Span, ...], slots: SlotGivers) -> tuple[Span | None, WaitCause | None]:
    """Return the job whose end let this one start, and the cause of the wait."""
    for wait in reversed(span.waits):
        if wait.cause not in AT_RESOURCES:
            break
        if (
            wait.released_by is not None and wait.released_by < span.number
        ):  # leave out the span itself, before it was throttled
            return spans[wait.released_by], wait.cause
    giver = slots.giver(span)
    if giver is not None:
        return giver, WaitCause.SLOT
    required = [job for job in (spans[number] for number in span.required) if settled_at(job) < math.inf]
    if not required:
        return None, None
    return max(required, key=lambda job: (settled_at(job), job.number)), WaitCause.JOBS


def settled_at(span: Span) -> float:
    """Return when the jobs that require this one could start: for a service, when it became ready. Infinity: never."""
    return or_infinity(span.finished_at if span.ready_at is None else span.ready_at)


class SlotGivers:
    """The hand-over of slots between jobs of one run: only jobs that ended while the window was full give one."""

    def __init__(self, run: RunSpan, members: list[Span]) -> None:
        """Find those jobs, in the order of their ends."""
        takers = [span for span in members if span.started_at is not None and not span.forever]
        starts = sorted(or_infinity(span.started_at) for span in takers)
        ends = sorted(or_infinity(span.finished_at) for span in takers)

        def was_full(span: Span) -> bool:
            end = or_infinity(span.finished_at)
            running = bisect.bisect_left(starts, end) - bisect.bisect_left(ends, end)
            return run.window is not None and running >= run.window

        self._givers = sorted(filter(was_full, takers), key=lambda span: (or_infinity(span.finished_at), span.number))
        self._ends = [or_infinity(span.finished_at) for span in self._givers]
        self._in_lane: dict[int | None, list[tuple[float, Span]]] = {}
        for taker in sorted(takers, key=lambda span: (or_infinity(span.finished_at), span.number)):
            self._in_lane.setdefault(taker.lane, []).append((or_infinity(taker.finished_at), taker))

    def giver(self, span: Span, until: float | None = None) -> Span | None:
        """Return the job whose slot `span` waited for and got; None if it did not wait for a slot.

        It got the slot when it started, or `until` then, to go on waiting for something else.

        A free slot at the moment when it was scheduled does not mean that it did not wait: jobs that were scheduled
        together with it may start first.
        """
        since, start = span.scheduled_at, span.started_at if until is None else until
        if span.forever or since is None or start is None or start <= since:
            return None
        place = bisect.bisect_right(self._ends, start) - 1
        while place >= 0 and self._ends[place] > since:
            if self._givers[place].number < span.number:
                return self._before_in_lane(span, since, start) or self._givers[place]
            place -= 1
        return None

    def _before_in_lane(self, span: Span, since: float, start: float) -> Span | None:
        """Return the job that had the lane before: this decides between several that ended at about the same time."""
        in_lane = self._in_lane[span.lane]
        place = bisect.bisect_right(in_lane, start, key=lambda entry: entry[0]) - 1
        if place >= 0 and in_lane[place][0] > since and in_lane[place][1].number < span.number:
            return in_lane[place][1]
        return None
