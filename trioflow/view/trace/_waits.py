"""The waits of each job of a past run: their causes, their times, and the span that ended each.

A run does not record waits. They are derived from the times of the jobs, their needs, the slots of each window, and the
amounts in each pool. Jobs of one run with the same needs lack the same things at the same times. So for each such group
of jobs, the intervals are computed in which a slot or a resource was lacking, or a key was throttled; the waits of a
job are the parts of these intervals in which the job was ready. A ready job that lacked nothing waited for a reason
that the trace cannot see: the state of a rate, or other users of a shared pool.

If several things were lacking, the cause is the one that the engine checks first: a job without a slot does not wait
for resources. The cost is O(n log n) for n jobs with few different needs; it never becomes n², because each group has
at most `MAX_INTERVALS` intervals.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Final

from ..._core.api.views import JobState, WaitCause
from ._critical import SlotGivers, settled_at
from ._resource_use import Needs, ResourceUse, Steps, count_overlaps
from ._spans import RunSpan, Span, Wait

MIN_GAP: Final = 0.001
"""Seconds below which a gap between two waits has no cause of its own: the engine was about to start a job."""
MAX_INTERVALS: Final = 200
"""The number of intervals kept for each group of jobs; if there are more, the shortest gaps between them are closed."""
MAX_STEPS: Final = 2_000_000
"""The number of changes of amounts to examine in all; if there are more, adjacent ones are merged."""

Lack = tuple[WaitCause, ResourceUse | None]
"""The cause of a wait, and the missing resource, if there is one."""
LackInterval = tuple[float, float, WaitCause, ResourceUse | None]
"""An interval in which something was lacking: start, end, cause and resource."""


class Waits:
    """The computation of the waits of all spans in a trace."""

    def __init__(
        self,
        spans: Sequence[Span],
        runs: Sequence[RunSpan],
        lifetimes: Sequence[tuple[float, float]],
        needs: Mapping[int, Needs],
        machine_waits: Mapping[int, tuple[tuple[float, float], ...]],
    ) -> None:
        """Record the use of slots and resources over time, from which `find` derives the waits.

        Args:
            spans: the spans, by number, without their waits.
            runs: the runs.
            lifetimes: for each span, the interval in which it could wait or run. It begins when the job was added, or
                its run began, and ends when the job settled, or else with its run, or now.
            needs: the needs of each span that has any.
            machine_waits: the intervals in which a span was RUNNING, but waited for room on the machine.

        """
        self._spans: Final = spans
        self._runs: Final = runs
        self._lifetimes: Final = lifetimes
        self._needs: Final = needs
        self._machine_waits: Final = machine_waits
        self._run_of: Final = {number: index for index, run in enumerate(runs) for number in run.members}
        self._slot_givers: Final = [SlotGivers(run, [spans[number] for number in run.members]) for run in runs]
        amounts: dict[ResourceUse, set[float]] = {}
        ran_in: list[list[tuple[float, float]]] = [[] for _ in runs]
        for span in spans:
            end = math.inf if span.state is JobState.RUNNING else lifetimes[span.number][1]
            ran = [*span.throttled, (span.started_at, end)] if span.started_at is not None else span.throttled
            needed = needs.get(span.number, ())
            for began, ended in ran:
                for resource, amount in needed:
                    resource.uses.append((began, ended, amount, span.number))
                if not span.forever:
                    ran_in[self._run_of[span.number]].append((began, ended))
            for resource, amount in needed:
                amounts.setdefault(resource, set()).add(amount)
        steps = sum(len(different) * 2 * len(resource.uses) for resource, different in amounts.items())
        group_size = max(1, math.ceil(steps / MAX_STEPS))
        self._used: Final = {
            resource: _thin_out(resource.amount_over_time(), group_size)
            for resource in amounts
            if resource.total is not None
        }
        self._full_windows: Final = [
            _find_full_window(run, *count_overlaps(intervals)) for run, intervals in zip(runs, ran_in, strict=True)
        ]
        self._shortages: Final[dict[tuple[ResourceUse, float], list[LackInterval]]] = {}
        self._lacking_by_needs: Final[dict[tuple[int, bool, Needs], tuple[list[LackInterval], list[LackInterval]]]] = {}
        for resource in amounts:
            resource.index_uses()

    def find_waits(self, span: Span) -> Iterator[Wait]:
        """Yield the waits of one span in chronological order."""
        since, end_of_life = self._lifetimes[span.number]
        ready = span.scheduled_at
        until = end_of_life if ready is None else ready
        if until > since and (ready is not None or span.state is not JobState.RUNNING):
            yield Wait(WaitCause.JOBS, "", since, until, None if ready is None else self._last_required(span))
        if ready is None:
            return
        last_start = end_of_life if span.started_at is None else span.started_at
        starts = [*(began for began, _ in span.throttled), last_start]
        ends = [*(ended for _, ended in span.throttled), None]
        for start, end in zip(starts, ends, strict=True):
            if start > ready:
                yield from self._waits_between(span, ready, start)
            ready = start if end is None else end
        for began, ended in self._machine_waits.get(span.number, ()):
            yield Wait(WaitCause.MACHINE, "", began, ended)

    def _last_required(self, span: Span) -> int | None:
        return max(span.required, key=lambda number: (settled_at(self._spans[number]), number), default=None)

    def _waits_between(self, span: Span, since: float, until: float) -> Iterator[Wait]:
        """Yield the waits of a job that was ready during all of an interval; together, they fill it without gaps."""
        exact, simplified = self._find_shortage_intervals(span)
        intervals = _clip(exact if until - since < MIN_GAP else simplified, since, until)
        for began, ended, cause, resource in _fill_gaps(
            intervals, since, until, self._unseen_shortage(span), self._fallback_shortage(span)
        ):
            # The last wait of a job that never started was ended by no other job.
            is_last = span.started_at is None and ended == self._lifetimes[span.number][1]
            by = None if is_last else self._released_by(span, cause, resource, began, ended)
            yield Wait(cause, "" if resource is None else resource.name, began, ended, by)

    def _released_by(
        self, span: Span, cause: WaitCause, resource: ResourceUse | None, since: float, until: float
    ) -> int | None:
        if cause is WaitCause.SLOT:
            giver = self._slot_givers[self._run_of[span.number]].releasing_job(span, until)
            return None if giver is None else giver.number
        if resource is None:
            return None
        if cause is WaitCause.THROTTLED:
            return max(
                (entry for entry in resource.cooldowns if entry[0] < until and entry[1] > since),
                key=itemgetter(1),
                default=(0, 0, None),
            )[2]
        return resource.released_by(since, until, span.number)

    def _unseen_shortage(self, span: Span) -> Lack | None:
        """Return the cause to assume where nothing appears to be lacking; None to extend the cause before."""
        rate = next((resource for resource, _ in self._needs.get(span.number, ()) if resource.total is None), None)
        return None if rate is None else (WaitCause.RATE, rate)

    def _fallback_shortage(self, span: Span) -> Lack:
        """Return the cause to assume where nothing appears to be lacking, and no cause came before."""
        if needs := self._needs.get(span.number):  # reserved, or taken by a run that is not in the trace
            return WaitCause.RESOURCE, needs[0][0]
        has_limiter = self._runs[self._run_of[span.number]].has_limiter
        return (WaitCause.SLOT if has_limiter and not span.forever else WaitCause.LOOP), None

    def _find_shortage_intervals(self, span: Span) -> tuple[list[LackInterval], list[LackInterval]]:
        """Return the intervals in which jobs of the group of `span` lacked something.

        Returns:
            The exact intervals, and simplified ones without short gaps.

        """
        key = run, _, needs = self._run_of[span.number], span.forever, self._needs.get(span.number, ())
        if key not in self._lacking_by_needs:
            layers = [] if span.forever else [self._full_windows[run]]
            layers += [_find_cooldowns(resource) for resource, _ in needs]
            layers += [self._find_shortages(resource, amount) for resource, amount in needs]
            layers = [layer for layer in layers if layer]
            exact = layers[0] if len(layers) == 1 else _overlay(layers)
            self._lacking_by_needs[key] = exact, _close_gaps(exact)
        return self._lacking_by_needs[key]

    def _find_shortages(self, resource: ResourceUse, amount: float) -> list[LackInterval]:
        """Return the intervals in which less than `amount` of a resource was free."""
        if resource.total is None:
            return []
        key = resource, amount
        if key not in self._shortages:
            limit = resource.total - amount + 1e-9 * max(1.0, resource.total)
            times, used = self._used[resource]
            is_short = [value > limit for value in used]
            self._shortages[key] = list(_flagged_intervals(times, is_short, WaitCause.RESOURCE, resource))
        return self._shortages[key]


# ---- intervals


def _find_full_window(run: RunSpan, times: list[float], numbers: list[int]) -> list[LackInterval]:
    """Return the intervals in which all slots of a run's window were taken.

    `times` and `numbers` are a step function: from each time on, this number of jobs had slots.
    """
    if run.window is None:
        return []
    sizes = run.window_sizes or ((run.started_at or 0.0, run.window),)
    changes = [since for since, _ in sizes]
    flags: list[bool] = []
    all_times = sorted({*times, *changes})
    for at in all_times:
        index, size = bisect.bisect_right(times, at) - 1, bisect.bisect_right(changes, at) - 1
        flags.append(index >= 0 and numbers[index] >= sizes[max(size, 0)][1])
    return list(_flagged_intervals(all_times, flags, WaitCause.SLOT, None))


def _find_cooldowns(resource: ResourceUse) -> list[LackInterval]:
    times, closed = count_overlaps((since, until) for since, until, _ in resource.cooldowns)
    return list(_flagged_intervals(times, [number > 0 for number in closed], WaitCause.THROTTLED, resource))


def _flagged_intervals(
    times: Sequence[float], flags: Sequence[bool], cause: WaitCause, resource: ResourceUse | None
) -> Iterator[LackInterval]:
    """Yield the intervals in which a step function of flags, each valid from its time on, is true."""
    since = None
    for at, flag in zip(times, flags, strict=True):
        if flag and since is None:
            since = at
        elif not flag and since is not None:
            yield since, at, cause, resource
            since = None
    if since is not None:
        yield since, math.inf, cause, resource


def _overlay(layers: Sequence[list[LackInterval]]) -> list[LackInterval]:
    """Merge layers of intervals into one; where several overlap, that of the first layer wins."""
    bounds = sorted({at for layer in layers for interval in layer for at in interval[:2]})
    indices, merged = [0] * len(layers), list[LackInterval]()
    for since, until in itertools.pairwise(bounds):
        for number, layer in enumerate(layers):
            while indices[number] < len(layer) and layer[indices[number]][1] <= since:
                indices[number] += 1
            if indices[number] < len(layer) and layer[indices[number]][0] <= since:
                _, _, cause, resource = layer[indices[number]]
                merged.append((since, until, cause, resource))
                break
    return merged


def _close_gaps(intervals: Iterable[LackInterval]) -> list[LackInterval]:
    """Close short gaps between intervals, and then ever longer ones until at most `MAX_INTERVALS` are left."""
    closed, min_gap = list(intervals), MIN_GAP
    while True:
        before, closed = closed, list[LackInterval]()
        for interval in before:
            if not closed or interval[0] - closed[-1][1] >= min_gap:
                closed.append(interval)
            elif interval[2:] == closed[-1][2:] or (min_gap > MIN_GAP and interval[1] - interval[0] < min_gap):
                closed[-1] = closed[-1][0], interval[1], *closed[-1][2:]
            else:
                closed[-1] = closed[-1][0], interval[0], *closed[-1][2:]
                closed.append(interval)
        if len(closed) <= MAX_INTERVALS:
            return closed
        min_gap *= 2


def _clip(intervals: list[LackInterval], since: float, until: float) -> Iterator[LackInterval]:
    """Yield the parts of intervals that lie between two times."""
    for index in range(bisect.bisect_right(intervals, since, key=itemgetter(1)), len(intervals)):
        began, ended, cause, resource = intervals[index]
        if began >= until:
            return
        yield max(began, since), min(ended, until), cause, resource


def _fill_gaps(
    intervals: Iterable[LackInterval], since: float, until: float, invisible: Lack | None, fallback: Lack
) -> list[LackInterval]:
    """Return intervals that fill the time from `since` to `until` without gaps; adjacent ones have different causes.

    A long gap gets the cause `invisible`, or else the one before the gap, or else `fallback`. A short gap is added to
    the interval after it, or, at the end, to the last one; without any interval, a short time was no wait.
    """
    filled: list[LackInterval] = []
    at = since
    for began, ended, cause, resource in intervals:
        if began - at >= MIN_GAP:
            _append_or_extend(filled, at, began, invisible or (filled[-1][2:] if filled else fallback))
            at = began
        _append_or_extend(filled, at, ended, (cause, resource))
        at = ended
    if until - at >= MIN_GAP:
        _append_or_extend(filled, at, until, invisible or (filled[-1][2:] if filled else fallback))
    elif filled:
        _append_or_extend(filled, at, until, filled[-1][2:])
    return filled


def _append_or_extend(intervals: list[LackInterval], since: float, until: float, lack: Lack) -> None:
    if intervals and intervals[-1][2:] == lack:
        intervals[-1] = intervals[-1][0], until, *lack
    elif until > since:
        intervals.append((since, until, *lack))


def _thin_out(used: Steps, group_size: int) -> Steps:
    """Merge each group of `group_size` adjacent steps into one, with the highest of their values."""
    if group_size == 1:
        return used
    times, values = used
    starts = range(0, len(times), group_size)
    return [times[start] for start in starts], [max(values[start : start + group_size]) for start in starts]
