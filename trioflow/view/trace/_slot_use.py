"""The use of a past run's slots: when jobs worked in them, and why they were empty otherwise.

If a run has a window, slots that no job ever ran in or waited for are not counted. If a run has no window, its number
of slots is the largest number of jobs that ran at the same time. The same number is used for a run with nested
schedulers, because these take slots of the window themselves, while their jobs run outside it, and for a run in which
more jobs ran than the window has slots, as clean-up jobs may, which take none.

The reason for an empty slot is something that a job waited for at that time. If jobs waited for different things, the
reasons are assigned in the order of `WaitCause`. For n jobs and waits, all this takes O(n log n) time.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from ..._core.base._states import WaitCause
from ..._core.base._text_forms import duration_text, plural
from ..._core.job._labels import printable
from .._state_styles import CAUSE_WORDS
from ._spans import Span, assign_lanes, throttled_before_start, waits_after_start, without_intervals
from ._trace_record import TraceRecord, once_for_each_record
from ._waits import count_overlaps

WORK: Final = "work", ""
"""The `Activity` of a job that neither waits nor has ended."""
Activity = tuple[WaitCause | Literal["work"], str]
"""What a job does in an interval: `WORK`, or a wait, which is a pair of its cause and the name of the resource."""


def measured_spans(record: TraceRecord) -> list[Span]:
    """Return the spans whose work and waits are counted.

    Restored jobs, jobs that take no slot and the members of forever schedulers are left out. A nested scheduler is
    included only if it waited, because its work is that of its members.
    """
    forever_numbers: set[int] = set()
    for run in record.runs:  # enclosing runs come first
        is_forever = run.parent in forever_numbers
        forever_numbers.update(number for number in run.member_numbers if is_forever or record.spans[number].forever)
    return [
        span
        for span in record.spans
        if span.number not in forever_numbers
        and not span.restored
        and span.takes_slot
        and (span.number not in record.scheduler_numbers or span.waits)
    ]


def activity_intervals(record: TraceRecord, span: Span) -> dict[Activity, list[tuple[float, float]]]:
    """Return, for each activity of a job, the intervals (start, end) in which the job had this activity."""
    intervals: dict[Activity, list[tuple[float, float]]] = {}
    inner_waits = [(wait.since, wait.until) for wait in waits_after_start(span)]
    if span.number not in record.scheduler_numbers:
        work_intervals = throttled_before_start(span)
        if span.started_at is not None:
            end = record.end_time if span.finished_at is None else span.finished_at
            work_intervals += without_intervals(span.started_at, end, inner_waits)
        intervals[WORK] = [(since, until) for since, until in work_intervals if until > since]
    for wait in span.waits:
        intervals.setdefault((wait.cause, wait.name), []).append((wait.since, wait.until))
    return intervals


EmptySlotReason = tuple[WaitCause, str]
"""The reason why a slot was empty: the cause of a wait, and the name of the resource.

The cause `WaitCause.JOBS` means that no job was ready.
"""

HANDOVER_SECONDS: Final = 0.0001
"""How much earlier than the end of a job, at most, the start of the next one in its slot is recorded: once 20 µs."""
NOTHING_READY: Final[EmptySlotReason] = WaitCause.JOBS, ""
MIN_REASON_SHARE: Final = 0.005
"""A reason is left out of the sentence about the slots if it explains less than this share of the time of all slots."""

CAUSE_ORDER: Final = tuple(WaitCause)
"""The order in which causes are taken as the reasons for empty slots."""


@dataclass(frozen=True, slots=True)
class SlotBar:
    """An interval in which a job had a slot."""

    start: float
    end: float
    span: Span
    is_failed_attempt: bool = False
    """Whether an attempt failed in this interval, and another attempt followed."""


@dataclass(frozen=True, slots=True)
class SlotUse:
    """The use of the slots of a run, over time and in total."""

    run_seconds: float
    slot_count: int
    """The number of slots, as defined at the top of this module."""
    window_size: int | None
    """The number of slots of the window; None if they are not counted by a window."""
    bars_by_slot: tuple[tuple[SlotBar, ...], ...]
    """For each slot that was used, the jobs in it in chronological order."""
    work_seconds: float
    """The seconds in which jobs worked, summed over all slots."""
    empty_seconds_by_reason: dict[EmptySlotReason, float]
    """The seconds without work for each reason, summed over all slots."""

    def __str__(self) -> str:
        """Return a sentence such as "4 slots for 18 s: 47 % working, 53 % empty because gpu ran short"."""
        total_seconds = self.slot_count * self.run_seconds
        if not total_seconds or not self.work_seconds:
            return "no job took any time"
        capacity_text = plural(self.slot_count, "slot")
        if self.window_size is None:
            capacity_text = f"up to {self.slot_count} jobs at once" if self.slot_count > 1 else "one job at a time"
        elif self.slot_count < self.window_size:
            verb = "was" if self.slot_count == 1 else "were"
            capacity_text = f"{self.slot_count} of {self.window_size} slots {verb} used,"
        parts = [f"{100 * self.work_seconds / total_seconds:.0f} % working"]
        for reason, seconds in sorted(
            self.empty_seconds_by_reason.items(), key=lambda item: (item[0] == NOTHING_READY, -item[1])
        ):
            if seconds >= MIN_REASON_SHARE * total_seconds:
                parts.append(f"{100 * seconds / total_seconds:.0f} % empty because {reason_words(reason)}")
        return f"{capacity_text} for {duration_text(self.run_seconds)}: {', '.join(parts)}"


def reason_words(reason: EmptySlotReason) -> str:
    """Return the words for a reason, which follow "empty because" in a sentence."""
    cause, resource_name = reason
    return CAUSE_WORDS[cause].empty_reason.format(printable(resource_name))


@once_for_each_record
def compute_slot_use(record: TraceRecord) -> SlotUse:
    spans = measured_spans(record)
    bars = sorted(_slot_bars(record, spans), key=lambda bar: (bar.start, bar.span.number))
    rows: list[list[SlotBar]] = []
    ready_times = (bar.span.scheduled_at for bar in bars)
    intervals = ((bar.start, max(bar.start, bar.end - HANDOVER_SECONDS)) for bar in bars)
    for bar, row in zip(bars, assign_lanes(intervals, ready_times), strict=True):
        rows.extend([] for _ in range(row + 1 - len(rows)))
        rows[row].append(bar)
    activities_by_span = [activity_intervals(record, span) for span in spans]
    wait_intervals = [
        ((cause, name), since, until)
        for intervals in activities_by_span
        for (cause, name), times in intervals.items()
        if isinstance(cause, WaitCause) and cause is not WaitCause.JOBS
        for since, until in times
    ]
    work_seconds = sum(until - since for intervals in activities_by_span for since, until in intervals.get(WORK, ()))
    window_size = (
        record.root_runs[0].window_size if len(record.root_runs) == 1 and not record.scheduler_numbers else None
    )
    slot_count = len(rows)
    if window_size is not None and slot_count > window_size:
        window_size = None
    if window_size is not None:
        ready_intervals = [(since, until) for _, since, until in wait_intervals]
        _, slot_demands = count_overlaps([*((bar.start, bar.end) for bar in bars), *ready_intervals])
        slot_count = min(window_size, max([*slot_demands, slot_count]))
    seconds = record.end_time - record.start_time
    empty_seconds = _empty_seconds(record, bars, wait_intervals, slot_count)
    for reason, since, until in wait_intervals:
        if reason[0] is WaitCause.MACHINE:
            empty_seconds[reason] = empty_seconds.get(reason, 0.0) + until - since
    empty_seconds[NOTHING_READY] = max(0.0, slot_count * seconds - work_seconds - sum(empty_seconds.values()))
    return SlotUse(seconds, slot_count, window_size, tuple(map(tuple, rows)), work_seconds, empty_seconds)


def _slot_bars(record: TraceRecord, spans: Iterable[Span]) -> Iterator[SlotBar]:
    for span in spans:
        if span.number in record.scheduler_numbers:
            continue
        for start, end in throttled_before_start(span):
            yield SlotBar(start, end, span)
        if span.started_at is not None:
            end = record.end_time if span.finished_at is None else span.finished_at
            pauses = {wait.since: wait.until for wait in waits_after_start(span) if wait.cause is not WaitCause.MACHINE}
            failures = {ended: ended for _, ended, _ in span.failed_attempts}  # without a pause, an attempt ends here
            for since, until in without_intervals(span.started_at, end, (failures | pauses).items()):
                yield SlotBar(since, until, span, until in failures)


def _empty_seconds(
    record: TraceRecord,
    bars: Iterable[SlotBar],
    wait_intervals: Iterable[tuple[EmptySlotReason, float, float]],
    slot_count: int,
) -> dict[EmptySlotReason, float]:
    """Return the seconds for which slots were empty, for each reason.

    Slots that were empty because no job was ready are not included. The number of slots that are empty for a reason
    never exceeds the number of jobs that wait for that reason.
    """
    waits = [wait for wait in wait_intervals if wait[0][0] is not WaitCause.MACHINE]  # such a job has a slot
    waits.sort(key=lambda wait: _order(wait[0]))
    # At each time: the change in the number of empty slots, or the wait that begins or ends, as its index.
    changes = [change for bar in bars for change in ((bar.start, -1, -1), (bar.end, 1, -1))]
    changes += [(time, 0, index) for index, (_, *times) in enumerate(waits) for time in times]
    seconds: dict[EmptySlotReason, float] = {}
    counted_since: dict[int, float] = {}  # the waits that are counted, at most as many as slots are empty
    going_on: set[int] = set()
    last_counted, others = list[int](), list[int]()  # two heaps, which may also contain waits that are over

    def count(index: int, time: float) -> None:
        counted_since[index] = time
        heapq.heappush(last_counted, -index)

    def stop_counting(index: int, time: float) -> None:
        if (since := counted_since.pop(index, None)) is not None:
            seconds[waits[index][0]] = seconds.get(waits[index][0], 0.0) + time - since

    empty_slots = slot_count
    for time, freed_slots, index in sorted(changes):
        empty_slots += freed_slots
        if index in going_on:
            going_on.remove(index)
            stop_counting(index, time)
        elif index >= 0:
            going_on.add(index)
            count(index, time)
        while len(counted_since) > max(0, empty_slots):
            last = -heapq.heappop(last_counted)
            stop_counting(last, time)
            heapq.heappush(others, last)
        while others and len(counted_since) < empty_slots:
            if (first := heapq.heappop(others)) in going_on:
                count(first, time)
    return seconds


def _order(reason: EmptySlotReason) -> tuple[int, str]:
    return CAUSE_ORDER.index(reason[0]), reason[1]
