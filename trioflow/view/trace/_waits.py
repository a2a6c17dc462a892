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
    Interval,
    RunSpan,
    Span,
    Wait,
    run_indices,
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
    intervals: Iterable[Interval],
) -> tuple[list[float], list[int]]:
    """Count the overlapping intervals (start, end), and return their number as a step function of time."""
    return sum_overlaps((since, until, 1) for since, until in intervals)


Use = tuple[float, float, float, int]
"""The start, end, amount and span number of a use. A use of a rate lasts as long as the job's attempt."""
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
    shortages: tuple[Interval, ...] | None = ()
    uses: list[Use] = field(default_factory=list[Use])

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
        else:
            use = self._find_last_use(1, until, waiting_number)
            if use is not None and use[1] <= since:
                return None
        return None if use is None else use[3]

    @cached_property
    def _sorted_uses(self) -> tuple[list[Use], ...]:
        """The uses by start, and by end. All uses are known when the first of the waits is looked for."""
        return tuple(sorted(self.uses, key=itemgetter(at, 3)) for at in (0, 1))

    def _find_last_use(
        self, time_index: int, until: float, waiting_number: int
    ) -> Use | None:
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
Shortages = list[ShortageInterval]


class WaitAnalysis:
    """The analysis of a trace: the waits of each span are derived from it."""

    def __init__(
        self,
        spans: Sequence[Span],
        runs: Sequence[RunSpan],
        lifetimes: Sequence[Interval],
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
        self._run_indices: Final = run_indices(runs)
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
                    (since, until)
                    for cause, since, until in inner_waits.get(span.number, ())
                    if cause not in WAITS_IN_ATTEMPT
                ]
                attempts += without_intervals(span.started_at, end, pauses)
            used = [*needs.get(span.number, ())]
            for resource, amount in used:
                needed_amounts.setdefault(resource, set()).add(amount)
            if span.takes_slot:
                used.append((self._slots[self._run_indices[span.number]], 1))
            for resource, amount in used:
                for began, ended in attempts:
                    resource.uses.append((began, ended, amount, span.number))
        step_count = sum(
            len(amounts) * 2 * len(resource.uses)
            for resource, amounts in needed_amounts.items()
        )
        group_size = max(1, math.ceil(step_count / MAX_STEPS))
        held = [each for each in needed_amounts if each.total_amount is not None]
        self._used_amounts: Final = {
            resource: _downsample(resource.amount_over_time(), group_size)
            for resource in held
        }
        self._full_window_intervals: Final = list(
            map(_find_full_window_intervals, runs, self._slots)
        )
        self._resource_shortages: Final[dict[tuple[ResourceUse, float], Shortages]] = {}
        self._shortages_by_needs: Final[
            dict[
                tuple[int, bool, ResolvedNeeds],
                tuple[Shortages, Shortages],
            ]
        ] = {}

    def find_waits(self, span: Span) -> Iterator[Wait]:
        """Yield the waits of a span in chronological order."""
        since, until = self._lifetimes[span.number]
        ready_since = span.scheduled_at
        last = None
        if ready_since is not None:
            until = ready_since
            last = max(
                span.required,
                key=lambda number: (settled_at(self._spans[number]), number),
                default=None,
            )
        elif span.started_at is not None:
            # Its requirements were tried again meanwhile.
            until = span.started_at
        is_known = ready_since is not None or span.state is not JobState.RUNNING
        if until > since and is_known:
            yield Wait(WaitCause.JOBS, "", since, until, last)
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
        last_start = span.started_at
        if last_start is None:
            _, last_start = self._lifetimes[span.number]
        # Nothing follows the last start.
        for start, end in (*throttled_before_start(span), (last_start, last_start)):
            if start > ready_since:
                yield from self._waits_between(span, ready_since, start)
            ready_since = end

    def _waits_between(self, span: Span, since: float, until: float) -> Iterator[Wait]:
        """Yield the waits that fill, without gaps, an interval during which a job was ready."""
        exact_intervals, intervals = self._find_shortage_intervals(span)
        if until - since < MIN_GAP_SECONDS:
            intervals = exact_intervals
        for began, ended, cause, resource in _fill_gaps(
            _clip_intervals(intervals, since, until),
            since,
            until,
            self._assumed_shortage(span),
            self._fallback_shortage(span),
        ):
            name = ""
            if resource is not None:
                name = resource.name
            # No other job ended the last wait of a job that never started.
            _, end_of_life = self._lifetimes[span.number]
            releasing_number = None
            if span.started_at is not None or ended != end_of_life:
                releasing_number = _find_releasing(span, cause, resource, began, ended)
            yield Wait(cause, name, began, ended, releasing_number)

    def _assumed_shortage(self, span: Span) -> Shortage | None:
        """Return the shortage to assume in a gap between shortages, or None to extend the shortage before the gap."""
        for resource, _ in self._needs.get(span.number, ()):
            if resource.shortages is None and resource.total_amount is None:
                return WaitCause.RATE, resource
            if resource.shortages is None:
                return WaitCause.RESOURCE, resource
        return None

    def _fallback_shortage(self, span: Span) -> Shortage:
        """Return the shortage to assume in a gap if there is no shortage before it."""
        index = self._run_indices[span.number]
        if self._is_first[index]:
            # Its turn came after the turn of another job.
            return WaitCause.JOBS, None
        # A resource that jobs hold must have been reserved, or used by a run that is not in the trace.
        for resource, _ in self._needs.get(span.number, ()):
            if resource.total_amount is not None:
                return WaitCause.RESOURCE, resource
        if self._runs[index].has_limiter and span.takes_slot:
            return WaitCause.SLOT, self._slots[index]
        return WaitCause.LOOP, None

    def _find_shortage_intervals(self, span: Span) -> tuple[Shortages, Shortages]:
        """Return the intervals when no job with the needs of `span` could start, because something was short.

        Returns:
            A pair: the exact intervals, and the intervals as simplified by `_close_gaps`.

        """
        run = self._run_indices[span.number]
        needs = self._needs.get(span.number, ())
        key = run, span.takes_slot, needs
        if key not in self._shortages_by_needs:
            layers: list[Shortages] = [
                [(*times, WaitCause.PAUSE, None)] for times in self._runs[run].pauses
            ]
            if span.takes_slot:
                layers.append(self._full_window_intervals[run])
            for resource, _ in needs:
                times = [(since, until) for since, until, _ in resource.cooldowns]
                layers.append(_covered_intervals(times, WaitCause.THROTTLED, resource))
            layers += itertools.starmap(self._find_shortages, needs)
            layers = [layer for layer in layers if layer]
            exact_intervals, *more_layers = layers or [[]]
            if more_layers:
                exact_intervals = _merge_layers(layers)
            self._shortages_by_needs[key] = (
                exact_intervals,
                _close_gaps(exact_intervals),
            )
        return self._shortages_by_needs[key]

    def _find_shortages(self, resource: ResourceUse, amount: float) -> Shortages:
        total = resource.total_amount
        if total is None:
            shortages = resource.shortages or ()
            return _covered_intervals(shortages, WaitCause.RATE, resource)
        key = resource, amount
        if key not in self._resource_shortages:
            max_used_amount = total - amount + 1e-9 * max(1.0, total)
            times, used_amounts = self._used_amounts[resource]
            is_short = [value > max_used_amount for value in used_amounts]
            self._resource_shortages[key] = _flagged_intervals(
                times, is_short, WaitCause.RESOURCE, resource
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
    if cause is not WaitCause.THROTTLED:
        return resource.find_releasing_span_number(since, until, span.number)
    cooldowns = [
        (ended, number)
        for began, ended, number in resource.cooldowns
        if began < until and ended > since
    ]
    _, number = max(cooldowns, key=itemgetter(0), default=(0, None))
    return number


# ---- intervals


def _find_full_window_intervals(run: RunSpan, slots: ResourceUse) -> Shortages:
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
        change = max(bisect.bisect_right(change_times, time) - 1, 0)
        _, size = window_sizes[change]
        is_full.append(index >= 0 and job_counts[index] >= size)
    return _flagged_intervals(all_times, is_full, WaitCause.SLOT, slots)


def _covered_intervals(
    intervals: Iterable[Interval], cause: WaitCause, resource: ResourceUse
) -> Shortages:
    """Return the intervals when at least one of these, which may overlap, was in progress."""
    times, counts = count_overlaps(intervals)
    return _flagged_intervals(times, list(map(bool, counts)), cause, resource)


def _flagged_intervals(
    times: Sequence[float],
    flags: Sequence[bool],
    cause: WaitCause,
    resource: ResourceUse,
) -> Shortages:
    """Return the intervals when the flag is true. Each flag is valid from its time until the next time."""
    intervals: Shortages = []
    since = None
    for time, flag in zip(times, flags, strict=True):
        if flag and since is None:
            since = time
        elif not flag and since is not None:
            intervals.append((since, time, cause, resource))
            since = None
    if since is not None:
        intervals.append((since, math.inf, cause, resource))
    return intervals


def _merge_layers(layers: Sequence[Shortages]) -> Shortages:
    """Merge several lists of intervals into one. Where intervals overlap, keep the interval from the earlier list."""
    boundaries: set[float] = set()
    for interval in itertools.chain(*layers):
        boundaries.update(interval[:2])
    positions = [0] * len(layers)
    merged_intervals: Shortages = []
    for since, until in itertools.pairwise(sorted(boundaries)):
        for number, layer in enumerate(layers):
            position = positions[number]
            while position < len(layer) and layer[position][1] <= since:
                position += 1
            positions[number] = position
            if position < len(layer) and layer[position][0] <= since:
                _, _, cause, resource = layer[position]
                merged_intervals.append((since, until, cause, resource))
                break
    return merged_intervals


def _close_gaps(intervals: Shortages) -> Shortages:
    """Close gaps between intervals, until at most `MAX_INTERVALS` intervals remain.

    In the first pass, close all gaps shorter than `MIN_GAP_SECONDS`, and merge intervals across such gaps if they have
    the same cause and resource. Double the threshold in each further pass. In these passes, also merge an interval
    shorter than the threshold into the interval before such a gap, whatever its cause.
    """
    min_gap = MIN_GAP_SECONDS
    while True:
        merged_intervals: Shortages = []
        for interval in intervals:
            since, until, *shortage = interval
            if not merged_intervals or since - merged_intervals[-1][1] >= min_gap:
                merged_intervals.append(interval)
                continue
            began, _, cause, resource = merged_intervals[-1]
            is_short = min_gap > MIN_GAP_SECONDS and until - since < min_gap
            if is_short or shortage == [cause, resource]:
                merged_intervals[-1] = began, until, cause, resource
            else:
                merged_intervals[-1] = began, since, cause, resource
                merged_intervals.append(interval)
        if len(merged_intervals) <= MAX_INTERVALS:
            return merged_intervals
        intervals = merged_intervals
        min_gap *= 2


def _clip_intervals(
    intervals: Shortages, since: float, until: float
) -> Iterator[ShortageInterval]:
    first = bisect.bisect_right(intervals, since, key=itemgetter(1))
    for start, end, cause, resource in itertools.islice(intervals, first, None):
        if start >= until:
            return
        yield max(start, since), min(end, until), cause, resource


def _fill_gaps(
    intervals: Iterable[ShortageInterval],
    since: float,
    until: float,
    assumed_shortage: Shortage | None,
    fallback_shortage: Shortage,
) -> Shortages:
    """Return intervals that fill the time from `since` to `until`. Adjacent intervals have different shortages.

    A gap of at least `MIN_GAP_SECONDS` gets the shortage `assumed_shortage`. If `assumed_shortage` is None, such a gap
    gets the shortage before it, or `fallback_shortage` if there is none. A shorter gap is added to the interval after
    it, or, at the end, to the last interval. If there are no intervals, and the whole time is shorter than
    `MIN_GAP_SECONDS`, the result is empty.
    """
    filled_intervals: Shortages = []

    def shortage_in_gap() -> Shortage:
        if assumed_shortage is None and filled_intervals:
            return filled_intervals[-1][2:]
        return assumed_shortage or fallback_shortage

    for start, end, cause, resource in intervals:
        if start - since >= MIN_GAP_SECONDS:
            _append_or_extend(filled_intervals, since, start, shortage_in_gap())
            since = start
        _append_or_extend(filled_intervals, since, end, (cause, resource))
        since = end
    if until - since >= MIN_GAP_SECONDS:
        _append_or_extend(filled_intervals, since, until, shortage_in_gap())
    elif filled_intervals:
        _append_or_extend(filled_intervals, since, until, filled_intervals[-1][2:])
    return filled_intervals


def _append_or_extend(
    intervals: Shortages, since: float, until: float, shortage: Shortage
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
    highest = [
        max(values[start : start + group_size])
        for start in range(0, len(values), group_size)
    ]
    return times[::group_size], highest
