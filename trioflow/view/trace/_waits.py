"""The waits of each job of a past run: their causes, their times, and the jobs that ended them.

A run does not record waits. They are derived from the times of the jobs, their needs, the slots of each window, the
amounts in each pool, and the times when its rates had too little. Jobs of a run with the same needs have the same
shortages at the same times. So the intervals when a slot or a resource was short, or a key was throttled, are computed
once for each group of such jobs. The waits of a job are the parts of these intervals when the job was ready. If a job
was ready and nothing was short, it waited for the event loop, or for something that the trace does not contain: a gate,
the rate of a key, or other users of a pool.

If several things were short, the cause is the first that the engine checks. For example, a job that has no slot
does not wait for resources. For n jobs with few different needs, the analysis takes O(n log n) time. It never takes
O(n²) time, because each group has at most `MAX_INTERVALS` intervals.

Decided in docs/decisions: 29-critical-path.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter
from typing import Final, TypeVar

from ..._core.base._states import JobState, WaitCause
from ._spans import (
    WAITS_IN_ATTEMPT,
    RunSpan,
    Span,
    Wait,
    settled_at,
    throttled_before_start,
    without_intervals,
)

# ---- the use of resources: the amounts that each job held, and the cooldowns of throttled keys

Amount = TypeVar("Amount", int, float)
StepFunction = tuple[list[float], list[float]]
"""A step function of time: the times of its steps in ascending order, and the value from each of these times on."""


def sum_overlaps(
    intervals: Iterable[tuple[float, float, Amount]],
) -> tuple[list[float], list[Amount]]:
    """Add up the amounts of overlapping intervals (start, end, amount), and return the sum as a step function of time.

    This takes O(n log n) time for n intervals.
    """
    changes: dict[float, Amount] = {}
    for start, end, amount in intervals:
        changes[start] = changes.get(start, 0) + amount
        changes[end] = changes.get(end, 0) - amount
    times = sorted(changes)
    return times, list(itertools.accumulate(changes[time] for time in times))


def count_overlaps(
    intervals: Iterable[tuple[float, float]],
) -> tuple[list[float], list[int]]:
    """Count the overlapping intervals (start, end), and return their number as a step function of time."""
    return sum_overlaps((since, until, 1) for since, until in intervals)


Cooldowns = list[tuple[float, float, int]]
"""The cooldowns of a throttled key: the start and end of each, and the number of the span that caused it."""


@dataclass(eq=False)
class ResourceUse:
    """The use of a resource of a pool or a run, or of the share that a nested scheduler reserved for its members."""

    name: str
    # The total amount. It is None for a rate, because jobs take from a rate without holding an amount of it.
    total_amount: float | None
    cooldowns: Cooldowns
    # The use of each key, or None if the resource is not a `PerKey`.
    uses_by_key: dict[str, ResourceUse] | None = None
    # The total amount of each key, or None for rates.
    key_totals: dict[str, float | None] = field(
        default_factory=dict[str, "float | None"]
    )
    # When too little of a rate was left for a job. None if jobs may have waited at any time: a gate, a key's rate.
    shortages: tuple[tuple[float, float], ...] | None = ()
    # The start, end, amount and span number of each use. A use of a rate lasts as long as the job's attempt.
    uses: list[tuple[float, float, float, int]] = field(
        default_factory=list[tuple[float, float, float, int]]
    )

    def amount_over_time(self) -> StepFunction:
        """Return the amount held over time.

        For a rate, the amount is the number of running jobs that took from it.
        """
        return sum_overlaps(
            (since, until, amount) for since, until, amount, _ in self.uses
        )

    def find_releasing_span_number(
        self, since: float, until: float, waiting_number: int
    ) -> int | None:
        """Return the number of the span that ended a wait, or None if there is none.

        This is the last span that released some of the resource, or, for a rate, the last span that took from it.

        Args:
            since: the start of the wait.
            until: the end of the wait.
            waiting_number: the number of the span that waited.

        """
        if self.total_amount is None:
            use = self._find_last_use(0, until - 1e-9, waiting_number)
            return None if use is None else use[3]
        use = self._find_last_use(1, until, waiting_number)
        return use[3] if use is not None and use[1] > since else None

    @cached_property
    def _sorted_uses(self) -> tuple[list[tuple[float, float, float, int]], ...]:
        """The uses by start, and by end. All uses are known when the first of the waits is looked for."""
        return tuple(
            sorted(self.uses, key=lambda use: (use[time_index], use[3]))
            for time_index in (0, 1)
        )

    def _find_last_use(
        self, time_index: int, until: float, waiting_number: int
    ) -> tuple[float, float, float, int] | None:
        """Return the last use by another span that started (`time_index` 0) or ended (`time_index` 1) by `until`."""
        uses = self._sorted_uses[time_index]
        index = bisect.bisect_right(uses, until, key=lambda use: use[time_index]) - 1
        while index >= 0 and uses[index][3] == waiting_number:
            index -= 1
        return uses[index] if index >= 0 else None


ResolvedNeeds = tuple[tuple[ResourceUse, float], ...]
"""The resources that a job needed, each with the amount. The amount of a rate is always 1."""


# ---- the waits

MIN_GAP_SECONDS: Final = 0.001
"""A gap between two shortages that is shorter than this is closed, because the engine was about to start a job then."""
MAX_INTERVALS: Final = 200
"""The maximum number of intervals kept for a group of jobs. If there are more, gaps between them are closed, the
shortest gaps first."""
MAX_STEPS: Final = 2_000_000
"""The maximum number of changes of amounts that are examined. If there are more, adjacent changes are merged."""

Shortage = tuple[WaitCause, ResourceUse | None]
"""The cause of a wait, and the resource that was short, or None if the cause is not a resource."""
ShortageInterval = tuple[float, float, WaitCause, ResourceUse | None]


class WaitAnalysis:
    """The analysis of a trace: the waits of each span are derived from it."""

    def __init__(
        self,
        spans: Sequence[Span],
        runs: Sequence[RunSpan],
        lifetimes: Sequence[tuple[float, float]],
        needs: Mapping[int, ResolvedNeeds],
        inner_waits: Mapping[int, tuple[tuple[WaitCause, float, float], ...]],
    ) -> None:
        """Compute the use of slots and resources over time. `find_waits` derives the waits from it.

        Args:
            spans: the spans, by number, without their waits.
            runs: the runs.
            lifetimes: for each span, the interval when its job could wait or run. It begins when the run began, or
                when the job was added if that was later. It ends when the job settled. If the job has not settled, it
                ends when the run ended, or with the trace if the run has not ended.
            needs: the needs of each span that has any.
            inner_waits: for each span, the cause, start and end of each wait between the start of its job and its end.
                If the cause is LOOP, the job was ready for its next attempt, and its shortage is to be found.

        """
        self._spans: Final = spans
        self._runs: Final = runs
        self._lifetimes: Final = lifetimes
        self._needs: Final = needs
        self._inner_waits: Final = inner_waits
        self._run_indices: Final = {
            number: index
            for index, run in enumerate(runs)
            for number in run.member_numbers
        }
        self._is_first: Final = [
            run.parent is not None and spans[run.parent].is_first for run in runs
        ]
        self._slots: Final = [ResourceUse("", 0.0, []) for _ in runs]
        needed_amounts: dict[ResourceUse, set[float]] = {}
        for span in spans:
            end = math.inf
            if span.state is not JobState.RUNNING:
                end = lifetimes[span.number][1]
            attempts = throttled_before_start(span)
            if span.started_at is not None:
                pauses = [
                    wait[1:]
                    for wait in inner_waits.get(span.number, ())
                    if wait[0] not in WAITS_IN_ATTEMPT
                ]
                attempts += without_intervals(span.started_at, end, pauses)
            span_needs = needs.get(span.number, ())
            for began, ended in attempts:
                for resource, amount in span_needs:
                    resource.uses.append((began, ended, amount, span.number))
                if span.takes_slot:
                    self._slots[self._run_indices[span.number]].uses.append(
                        (began, ended, 1, span.number)
                    )
            for resource, amount in span_needs:
                needed_amounts.setdefault(resource, set()).add(amount)
        step_count = sum(
            len(distinct_amounts) * 2 * len(resource.uses)
            for resource, distinct_amounts in needed_amounts.items()
        )
        group_size = max(1, math.ceil(step_count / MAX_STEPS))
        self._used_amounts: Final = {
            resource: _downsample(resource.amount_over_time(), group_size)
            for resource in needed_amounts
            if resource.total_amount is not None
        }
        self._full_window_intervals: Final = list(
            map(_find_full_window_intervals, runs, self._slots)
        )
        self._resource_shortages: Final[
            dict[tuple[ResourceUse, float], list[ShortageInterval]]
        ] = {}
        self._shortages_by_needs: Final[
            dict[
                tuple[int, bool, ResolvedNeeds],
                tuple[list[ShortageInterval], list[ShortageInterval]],
            ]
        ] = {}

    def find_waits(self, span: Span) -> Iterator[Wait]:
        """Yield the waits of a span in chronological order."""
        since, end_of_life = self._lifetimes[span.number]
        ready_since = span.scheduled_at
        # A job that has run may have no `scheduled_at`: its requirements were tried again meanwhile.
        until = next(
            time
            for time in (ready_since, span.started_at, end_of_life)
            if time is not None
        )
        if until > since and (
            ready_since is not None or span.state is not JobState.RUNNING
        ):
            last = max(
                span.required,
                key=lambda number: (settled_at(self._spans[number]), number),
                default=None,
            )
            yield Wait(
                WaitCause.JOBS, "", since, until, None if ready_since is None else last
            )
        # A restored job did not wait for its needs.
        if ready_since is not None and not span.restored:
            yield from self._waits_until_start(span, ready_since)
        for cause, began, ended in self._inner_waits.get(span.number, ()):
            found = list[Wait]()
            if cause is WaitCause.LOOP:
                found += self._waits_between(span, began, ended)
            yield from found or [Wait(cause, "", began, ended)]

    def _waits_until_start(self, span: Span, ready_since: float) -> Iterator[Wait]:
        """Yield the waits from the time when a job was ready, without its throttled attempts, until it started."""
        throttled = throttled_before_start(span)
        if span.started_at is None:
            last_start = self._lifetimes[span.number][1]
        else:
            last_start = span.started_at
        starts = [*(began for began, _ in throttled), last_start]
        # Nothing follows the last start.
        ends = [*(ended for _, ended in throttled), last_start]
        for start, end in zip(starts, ends, strict=True):
            if start > ready_since:
                yield from self._waits_between(span, ready_since, start)
            ready_since = end

    def _waits_between(self, span: Span, since: float, until: float) -> Iterator[Wait]:
        """Yield the waits that fill, without gaps, an interval during which a job was ready."""
        exact_intervals, simplified_intervals = self._find_shortage_intervals(span)
        intervals = _clip_intervals(
            exact_intervals
            if until - since < MIN_GAP_SECONDS
            else simplified_intervals,
            since,
            until,
        )
        for began, ended, cause, resource in _fill_gaps(
            intervals,
            since,
            until,
            self._assumed_shortage(span),
            self._fallback_shortage(span),
        ):
            # No other job ended the last wait of a job that never started.
            is_unfinished = (
                span.started_at is None and ended == self._lifetimes[span.number][1]
            )
            releasing_number = None
            if not is_unfinished:
                releasing_number = _find_releasing(span, cause, resource, began, ended)
            yield Wait(
                cause,
                "" if resource is None else resource.name,
                began,
                ended,
                releasing_number,
            )

    def _assumed_shortage(self, span: Span) -> Shortage | None:
        """Return the shortage to assume in a gap between shortages, or None to extend the shortage before the gap."""
        for resource, _ in self._needs.get(span.number, ()):
            if resource.shortages is None:
                return (
                    WaitCause.RATE
                    if resource.total_amount is None
                    else WaitCause.RESOURCE,
                    resource,
                )
        return None

    def _fallback_shortage(self, span: Span) -> Shortage:
        """Return the shortage to assume in a gap if there is no shortage before it."""
        index = self._run_indices[span.number]
        needs = self._needs.get(span.number, ())
        if self._is_first[index]:
            # Its turn came after the turn of another job.
            return WaitCause.JOBS, None
        # A resource that jobs hold must have been reserved, or used by a run that is not in the trace.
        held = [resource for resource, _ in needs if resource.total_amount is not None]
        if held:
            return WaitCause.RESOURCE, held[0]
        has_limiter = self._runs[index].has_limiter and span.takes_slot
        if has_limiter:
            return (WaitCause.SLOT, self._slots[index])
        return (WaitCause.LOOP, None)

    def _find_shortage_intervals(
        self, span: Span
    ) -> tuple[list[ShortageInterval], list[ShortageInterval]]:
        """Return the intervals when no job with the needs of `span` could start, because something was short.

        Returns:
            A pair: the exact intervals, and the intervals as simplified by `_close_gaps`.

        """
        key = run, _, needs = (
            self._run_indices[span.number],
            span.takes_slot,
            self._needs.get(span.number, ()),
        )
        if key not in self._shortages_by_needs:
            pauses = self._runs[run].pauses
            layers: list[list[ShortageInterval]] = [
                [(*times, WaitCause.PAUSE, None)] for times in pauses
            ]
            if span.takes_slot:
                layers += [self._full_window_intervals[run]]
            else:
                layers += []
            layers += [_find_cooldowns(resource) for resource, _ in needs]
            layers += [
                self._find_shortages(resource, amount) for resource, amount in needs
            ]
            layers = [layer for layer in layers if layer]
            if len(layers) == 1:
                exact_intervals = layers[0]
            else:
                exact_intervals = _merge_layers(layers)
            self._shortages_by_needs[key] = (
                exact_intervals,
                _close_gaps(exact_intervals),
            )
        return self._shortages_by_needs[key]

    def _find_shortages(
        self, resource: ResourceUse, amount: float
    ) -> list[ShortageInterval]:
        if resource.total_amount is None:
            return _covered_intervals(
                resource.shortages or (), WaitCause.RATE, resource
            )
        key = resource, amount
        if key not in self._resource_shortages:
            max_used_amount = (
                resource.total_amount - amount + 1e-9 * max(1.0, resource.total_amount)
            )
            times, used_amounts = self._used_amounts[resource]
            is_short = [value > max_used_amount for value in used_amounts]
            self._resource_shortages[key] = list(
                _flagged_intervals(times, is_short, WaitCause.RESOURCE, resource)
            )
        return self._resource_shortages[key]


def _find_releasing(
    span: Span,
    cause: WaitCause,
    resource: ResourceUse | None,
    since: float,
    until: float,
) -> int | None:
    """Return the number of the span that ended a wait, or None if there is none."""
    if resource is None:
        return None
    if cause is WaitCause.THROTTLED:
        return max(
            (
                cooldown
                for cooldown in resource.cooldowns
                if cooldown[0] < until and cooldown[1] > since
            ),
            key=itemgetter(1),
            default=(0, 0, None),
        )[2]
    return resource.find_releasing_span_number(since, until, span.number)


# ---- intervals


def _find_full_window_intervals(
    run: RunSpan, slots: ResourceUse
) -> list[ShortageInterval]:
    """Return the intervals when all slots of a run's window were taken."""
    if run.window_size is None:
        return []
    times, job_counts = slots.amount_over_time()
    window_sizes = run.window_sizes or ((run.started_at or 0.0, run.window_size),)
    change_times = [since for since, _ in window_sizes]
    is_full: list[bool] = []
    all_times = sorted({*times, *change_times})
    for time in all_times:
        index = bisect.bisect_right(times, time) - 1
        size = bisect.bisect_right(change_times, time) - 1
        is_full.append(
            index >= 0 and job_counts[index] >= window_sizes[max(size, 0)][1]
        )
    return list(_flagged_intervals(all_times, is_full, WaitCause.SLOT, slots))


def _find_cooldowns(resource: ResourceUse) -> list[ShortageInterval]:
    times = [(since, until) for since, until, _ in resource.cooldowns]
    return _covered_intervals(times, WaitCause.THROTTLED, resource)


def _covered_intervals(
    intervals: Iterable[tuple[float, float]], cause: WaitCause, resource: ResourceUse
) -> list[ShortageInterval]:
    """Return the intervals when at least one of these, which may overlap, was in progress."""
    times, counts = count_overlaps(intervals)
    return list(
        _flagged_intervals(times, [number > 0 for number in counts], cause, resource)
    )


def _flagged_intervals(
    times: Sequence[float],
    flags: Sequence[bool],
    cause: WaitCause,
    resource: ResourceUse | None,
) -> Iterator[ShortageInterval]:
    """Yield the intervals when the flag is true. Each flag is valid from its time until the next time."""
    since = None
    for time, flag in zip(times, flags, strict=True):
        if flag and since is None:
            since = time
        elif not flag and since is not None:
            yield since, time, cause, resource
            since = None
    if since is not None:
        yield since, math.inf, cause, resource


def _merge_layers(layers: Sequence[list[ShortageInterval]]) -> list[ShortageInterval]:
    """Merge several lists of intervals into one. Where intervals overlap, keep the interval from the earlier list."""
    boundaries = sorted(
        {time for layer in layers for interval in layer for time in interval[:2]}
    )
    positions = [0] * len(layers)
    merged_intervals = list[ShortageInterval]()
    for since, until in itertools.pairwise(boundaries):
        for layer_number, layer in enumerate(layers):
            while (
                positions[layer_number] < len(layer)
                and layer[positions[layer_number]][1] <= since
            ):
                positions[layer_number] += 1
            if (
                positions[layer_number] < len(layer)
                and layer[positions[layer_number]][0] <= since
            ):
                _, _, cause, resource = layer[positions[layer_number]]
                merged_intervals.append((since, until, cause, resource))
                break
    return merged_intervals


def _close_gaps(intervals: Iterable[ShortageInterval]) -> list[ShortageInterval]:
    """Close gaps between intervals, until at most `MAX_INTERVALS` intervals remain.

    In the first pass, close all gaps shorter than `MIN_GAP_SECONDS`, and merge intervals across such gaps if they have
    the same cause and resource. Double the threshold in each further pass. In these passes, also merge an interval
    shorter than the threshold into the interval before such a gap, whatever its cause.
    """
    merged_intervals = list(intervals)
    min_gap = MIN_GAP_SECONDS
    while True:
        previous_intervals = merged_intervals
        merged_intervals = list[ShortageInterval]()
        for interval in previous_intervals:
            if not merged_intervals or interval[0] - merged_intervals[-1][1] >= min_gap:
                merged_intervals.append(interval)
            elif interval[2:] == merged_intervals[-1][2:] or (
                min_gap > MIN_GAP_SECONDS and interval[1] - interval[0] < min_gap
            ):
                merged_intervals[-1] = (
                    merged_intervals[-1][0],
                    interval[1],
                    *merged_intervals[-1][2:],
                )
            else:
                merged_intervals[-1] = (
                    merged_intervals[-1][0],
                    interval[0],
                    *merged_intervals[-1][2:],
                )
                merged_intervals.append(interval)
        if len(merged_intervals) <= MAX_INTERVALS:
            return merged_intervals
        min_gap *= 2


def _clip_intervals(
    intervals: list[ShortageInterval], since: float, until: float
) -> Iterator[ShortageInterval]:
    for index in range(
        bisect.bisect_right(intervals, since, key=itemgetter(1)), len(intervals)
    ):
        start, end, cause, resource = intervals[index]
        if start >= until:
            return
        yield max(start, since), min(end, until), cause, resource


def _fill_gaps(
    intervals: Iterable[ShortageInterval],
    since: float,
    until: float,
    assumed_shortage: Shortage | None,
    fallback_shortage: Shortage,
) -> list[ShortageInterval]:
    """Return intervals that fill the time from `since` to `until`. Adjacent intervals have different shortages.

    A gap of at least `MIN_GAP_SECONDS` gets the shortage `assumed_shortage`. If `assumed_shortage` is None, such a gap
    gets the shortage before it, or `fallback_shortage` if there is none. A shorter gap is added to the interval after
    it, or, at the end, to the last interval. If there are no intervals, and the whole time is shorter than
    `MIN_GAP_SECONDS`, the result is empty.
    """
    filled_intervals: list[ShortageInterval] = []
    filled_until = since

    def shortage_in_gap() -> Shortage:
        return assumed_shortage or (
            filled_intervals[-1][2:] if filled_intervals else fallback_shortage
        )

    for start, end, cause, resource in intervals:
        if start - filled_until >= MIN_GAP_SECONDS:
            _append_or_extend(filled_intervals, filled_until, start, shortage_in_gap())
            filled_until = start
        _append_or_extend(filled_intervals, filled_until, end, (cause, resource))
        filled_until = end
    if until - filled_until >= MIN_GAP_SECONDS:
        _append_or_extend(filled_intervals, filled_until, until, shortage_in_gap())
    elif filled_intervals:
        _append_or_extend(
            filled_intervals, filled_until, until, filled_intervals[-1][2:]
        )
    return filled_intervals


def _append_or_extend(
    intervals: list[ShortageInterval], since: float, until: float, shortage: Shortage
) -> None:
    if intervals and intervals[-1][2:] == shortage:
        intervals[-1] = intervals[-1][0], until, *shortage
    elif until > since:
        intervals.append((since, until, *shortage))


def _downsample(steps: StepFunction, group_size: int) -> StepFunction:
    """Merge each group of `group_size` adjacent steps into a single step, which has the highest value in the group."""
    if group_size == 1:
        return steps
    times, values = steps
    group_starts = range(0, len(times), group_size)
    return [times[group_start] for group_start in group_starts], [
        max(values[group_start : group_start + group_size])
        for group_start in group_starts
    ]
