"""Where the time of a past run went: `TimeSpent`, by work and causes of waits, and the parts of its critical path.

`SlotUse` says when jobs worked in the slots, and why these were empty otherwise. If a run has a window, slots that no
job ever ran in or waited for are not counted. If a run has no window, its number of slots is the largest number of jobs
that ran at the same time. The same number is used for a run with nested schedulers, because these take slots of the
window themselves, while their jobs run outside it. It is also used for a run with more running jobs than slots, which
clean-up jobs may cause, because they take none.

The reason for an empty slot is something that a job waited for at that time. If jobs waited for different things, the
reasons are assigned in the order of `WaitCause`. For n jobs and waits, all this takes O(n log n) time.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, final

from ..._core.base._states import WaitCause
from ..._core.base._text_forms import duration_text, plural
from ..._core.job._labels import printable
from .._state_styles import CAUSE_WORDS
from . import _spans, _waits
from ._spans import WAITS_IN_ATTEMPT, Span, waits_after_start, without_intervals
from ._trace_record import TraceRecord, once_for_each_record

MAX_FAMILIES: Final = 50


@final
@dataclass(frozen=True, slots=True)
class FamilyTime:
    """The times of all jobs of a family, in seconds."""

    family: str
    """The common part of the jobs' labels, with a star in place of each number. If the jobs have default labels, it is
    the name of the function or the program. If a single job worked, it is the label of that job."""
    count: int
    """The number of jobs that worked. Jobs that never started may have waited."""
    work: float
    """The total time that the jobs worked."""
    waits: Mapping[str, float]
    """The total time that the jobs waited, by cause, the longest first."""
    p50: float | None
    """The median of the times that the jobs worked, or None if none did."""
    p95: float | None
    """The 95th percentile of the times that the jobs worked, or None if none did."""


@final
@dataclass(frozen=True, slots=True)
class TimeSpent:
    """The breakdown of a run's time, in seconds. `str()` returns it as a sentence.

    A job either works or waits, from the moment when its run began, or when it was added if that was later, until it
    settles. Forever jobs are not counted. For a nested scheduler, its own waits and the times of its jobs are counted.
    A nested scheduler belongs to no family.
    """

    seconds: float
    """The duration of the run."""
    work: float
    """The total time that jobs worked, summed over all jobs."""
    waits: Mapping[str, float]
    """The total time that jobs waited, by cause as in `Wait.words`, the longest first."""
    families: tuple[FamilyTime, ...]
    """The work and the waits of each family of jobs, the family with the longest total time first."""
    slots: int
    """The number of slots of the window, without those that no job ever ran in or waited for: "4 of 6 slots were used".
    If there is no window, or there are nested schedulers, it is the largest number of jobs that ran at a time."""
    empty: Mapping[str, float]
    """The total time that slots were empty, by reason, the longest first. A reason is a phrase such as
    "gpu ran short" or "nothing was ready"."""
    _slots: SlotUse = field(repr=False)

    def __str__(self) -> str:
        """Return a sentence such as "4 slots for 18 s: 47 % working, 53 % empty because gpu ran short"."""
        return str(self._slots)


@once_for_each_record
def compute_time_spent(record: TraceRecord) -> TimeSpent:
    """Compute the breakdown of a run's time, in O(n log n) time for n jobs."""
    family_times = compute_family_times(record).values()
    families = sorted(
        family_times, key=lambda family: -family.work - sum(family.waits.values())
    )
    waits: dict[str, float] = {}
    schedulers = [
        span
        for span in measured_spans(record)
        if span.number in record.scheduler_numbers
    ]
    for family in (_compute_family_time(record, "", schedulers), *families):
        for words, seconds in family.waits.items():
            waits[words] = waits.get(words, 0.0) + seconds
    slot_use = compute_slot_use(record)
    empty: dict[str, float] = {}
    for reason, seconds in slot_use.empty_seconds_by_reason.items():
        if seconds:
            empty[reason_words(reason)] = seconds
    return TimeSpent(
        slot_use.run_seconds,
        sum(family.work for family in families),
        _longest_first(waits),
        tuple(families),
        slot_use.slot_count,
        _longest_first(empty),
        slot_use,
    )


@once_for_each_record
def compute_family_times(record: TraceRecord) -> dict[str, FamilyTime]:
    """Return the times of each family in `record.families` that has jobs whose work and waits are counted."""
    spans_by_family: dict[str, list[Span]] = {}
    for span in measured_spans(record):
        if span.number not in record.scheduler_numbers:
            spans_by_family.setdefault(record.families[span.number], []).append(span)
    return {
        family: _compute_family_time(record, family, spans)
        for family, spans in spans_by_family.items()
    }


def _compute_family_time(
    record: TraceRecord, family: str, spans: Sequence[Span]
) -> FamilyTime:
    waits: dict[str, float] = {}
    # Of the jobs that had a slot.
    work_by_job: dict[int, float] = {}
    for span in spans:
        for wait in span.waits:
            waits[wait.words] = waits.get(wait.words, 0.0) + wait.seconds
        is_job = span.number not in record.scheduler_numbers
        if is_job and (span.started_at is not None or span.throttled):
            work_by_job[span.number] = work_seconds(record, span)
    if len(work_by_job or spans) == 1:
        family = record.spans[next(iter(work_by_job), spans[0].number)].label
    work = sorted(work_by_job.values())
    percentiles = _percentile(work, 0.5), _percentile(work, 0.95)
    return FamilyTime(family, len(work), sum(work), _longest_first(waits), *percentiles)


def _longest_first(seconds: dict[str, float]) -> dict[str, float]:
    return dict(sorted(seconds.items(), key=lambda item: -item[1]))


def _percentile(sorted_values: Sequence[float], fraction: float) -> float | None:
    """Return a percentile of sorted values by the nearest-rank method, or None if there are no values."""
    if not sorted_values:
        return None
    return sorted_values[max(0, -int(-fraction * len(sorted_values) // 1) - 1)]


# ---- the use of the slots


def measured_spans(record: TraceRecord) -> list[Span]:
    """Return the spans whose work and waits are counted.

    Restored jobs, jobs that take no slot and the members of forever schedulers are left out. A nested scheduler is
    included only if it waited, because its members do its work.
    """
    forever_numbers: set[int] = set()
    # Enclosing runs come first.
    for run in record.runs:
        is_forever = run.parent in forever_numbers
        forever_numbers.update(
            number
            for number in run.member_numbers
            if is_forever or record.spans[number].forever
        )
    return [
        span
        for span in record.spans
        if span.number not in forever_numbers
        and not span.restored
        and span.takes_slot
        and (span.number not in record.scheduler_numbers or span.waits)
    ]


def work_seconds(record: TraceRecord, span: Span) -> float:
    """Return how long a job has worked, its throttled attempts included. The jobs of a scheduler work, and not it."""
    if span.number in record.scheduler_numbers:
        return 0.0
    intervals = _spans.throttled_before_start(span)
    if span.started_at is not None:
        inner_waits = [(wait.since, wait.until) for wait in waits_after_start(span)]
        intervals += without_intervals(
            span.started_at, record.end_of(span), inner_waits
        )
    return sum(until - since for since, until in intervals)


EmptySlotReason = tuple[WaitCause, str]
"""The reason why a slot was empty: the cause of a wait, and the name of the resource. The cause `WaitCause.JOBS` means
that no job was ready."""

HANDOVER_SECONDS: Final = 0.0001
"""How much earlier than the end of a job, at most, the start of the next job in its slot is recorded: once 20 µs."""
NOTHING_READY: Final[EmptySlotReason] = WaitCause.JOBS, ""
MIN_REASON_SHARE: Final = 0.005
"""A reason is left out of the sentence about the slots if it explains less than this share of the time of all slots."""

CAUSE_ORDER: Final = tuple(WaitCause)


class SlotBar(NamedTuple):
    """An interval when a job had a slot."""

    start: float
    end: float
    span: Span
    is_failed_attempt: bool = False


class SlotUse(NamedTuple):
    """The use of the slots of a run, over time and in total."""

    run_seconds: float
    slot_count: int
    window_size: int | None
    """The number of slots of the window, or None if they are not counted by a window."""
    bars_by_slot: tuple[tuple[SlotBar, ...], ...]
    """The jobs in each slot that was used, in chronological order."""
    work_seconds: float
    empty_seconds_by_reason: dict[EmptySlotReason, float]
    """The seconds that jobs worked, and those without work by reason, summed over all slots."""

    @property
    def bars(self) -> Iterator[SlotBar]:
        """All bars, slot by slot."""
        return itertools.chain(*self.bars_by_slot)

    def __str__(self) -> str:
        """Return a sentence such as "4 slots for 18 s: 47 % working, 53 % empty because gpu ran short"."""
        total_seconds = self.slot_count * self.run_seconds
        if not total_seconds or not self.work_seconds:
            return "no job took any time"
        capacity_text = plural(self.slot_count, "slot")
        if self.window_size is None:
            capacity_text = "one job at a time"
            if self.slot_count > 1:
                capacity_text = f"up to {self.slot_count} jobs at once"
        elif self.slot_count < self.window_size:
            verb = "was" if self.slot_count == 1 else "were"
            capacity_text = (
                f"{self.slot_count} of {self.window_size} slots {verb} used,"
            )
        parts = [f"{100 * self.work_seconds / total_seconds:.0f} % working"]
        reasons = sorted(
            self.empty_seconds_by_reason.items(),
            key=lambda item: (item[0] == NOTHING_READY, -item[1]),
        )
        for reason, seconds in reasons:
            if seconds >= MIN_REASON_SHARE * total_seconds:
                share = f"{100 * seconds / total_seconds:.0f} %"
                parts.append(f"{share} empty because {reason_words(reason)}")
        duration = duration_text(self.run_seconds)
        return f"{capacity_text} for {duration}: {', '.join(parts)}"


def reason_words(reason: EmptySlotReason) -> str:
    """Return the words for a reason, which follow "empty because" in a sentence."""
    cause, resource_name = reason
    return CAUSE_WORDS[cause].empty_reason.format(printable(resource_name))


@once_for_each_record
def compute_slot_use(record: TraceRecord) -> SlotUse:
    spans = measured_spans(record)
    bars = sorted(
        _slot_bars(record, spans), key=lambda bar: (bar.start, bar.span.number)
    )
    rows: dict[int, list[SlotBar]] = {}
    ready_times = (bar.span.scheduled_at for bar in bars)
    intervals = (
        (bar.start, max(bar.start, bar.end - HANDOVER_SECONDS)) for bar in bars
    )
    for bar, row in zip(bars, _spans.assign_lanes(intervals, ready_times), strict=True):
        rows.setdefault(row, []).append(bar)
    wait_intervals = [
        ((wait.cause, wait.resource), wait.since, wait.until)
        for wait in itertools.chain(*(span.waits for span in spans))
        if wait.cause is not WaitCause.JOBS
    ]
    seconds_worked = sum(work_seconds(record, span) for span in spans)
    slot_count = len(rows)
    window_size = None
    if record.root_run is not None and not record.scheduler_numbers:
        window_size = record.root_run.window_size
    if window_size is not None and slot_count > window_size:
        window_size = None
    if window_size is not None:
        demands = [(bar.start, bar.end) for bar in bars]
        demands += [(since, until) for _, since, until in wait_intervals]
        _, counts = _waits.count_overlaps(demands)
        slot_count = min(window_size, max([*counts, slot_count]))
    empty_seconds = _empty_seconds(record, bars, wait_intervals, slot_count)
    for reason, since, until in wait_intervals:
        if reason[0] in WAITS_IN_ATTEMPT:
            empty_seconds[reason] = empty_seconds.get(reason, 0.0) + until - since
    empty_seconds[NOTHING_READY] = max(
        0.0, slot_count * record.seconds - seconds_worked - sum(empty_seconds.values())
    )
    return SlotUse(
        record.seconds,
        slot_count,
        window_size,
        tuple(map(tuple, rows.values())),
        seconds_worked,
        empty_seconds,
    )


def _slot_bars(record: TraceRecord, spans: Iterable[Span]) -> Iterator[SlotBar]:
    for span in spans:
        if span.number in record.scheduler_numbers:
            continue
        for start, end in _spans.throttled_before_start(span):
            yield SlotBar(start, end, span)
        if span.started_at is not None:
            pauses = {
                wait.since: wait.until
                for wait in waits_after_start(span)
                if wait.cause not in WAITS_IN_ATTEMPT
            }
            # Without a pause, an attempt ends here. A job that was blocked had made no attempt.
            failures = {
                ended: ended for number, ended, _ in span.failed_attempts if number
            }
            ends = (failures | pauses).items()
            end = record.end_of(span)
            for since, until in without_intervals(span.started_at, end, ends):
                yield SlotBar(since, until, span, until in failures)


def _empty_seconds(
    record: TraceRecord,
    bars: Iterable[SlotBar],
    wait_intervals: Iterable[tuple[EmptySlotReason, float, float]],
    slot_count: int,
) -> dict[EmptySlotReason, float]:
    """Return the seconds that slots were empty, for each reason.

    Slots that were empty because no job was ready are not included. The number of slots that are empty for a reason
    never exceeds the number of jobs that wait for that reason.
    """
    # Such a job has a slot.
    waits = [wait for wait in wait_intervals if wait[0][0] not in WAITS_IN_ATTEMPT]
    waits.sort(key=lambda wait: (CAUSE_ORDER.index(wait[0][0]), wait[0][1]))
    # At each time: the change in the number of empty slots, or the wait that begins or ends, as its index.
    changes: list[tuple[float, int, int]] = []
    for bar in bars:
        changes += [(bar.start, -1, -1), (bar.end, 1, -1)]
    for index, (_, since, until) in enumerate(waits):
        changes += [(since, 0, index), (until, 0, index)]
    seconds: dict[EmptySlotReason, float] = {}
    # The waits that are counted, at most as many as slots are empty.
    counted_since: dict[int, float] = {}
    going_on: set[int] = set()
    # Two heaps, which may also contain waits that are over.
    last_counted = list[int]()
    others = list[int]()

    def count(index: int, time: float) -> None:
        counted_since[index] = time
        heapq.heappush(last_counted, -index)

    def stop_counting(index: int, time: float) -> None:
        if index in counted_since:
            reason, *_ = waits[index]
            since = counted_since.pop(index)
            seconds[reason] = seconds.get(reason, 0.0) + time - since

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


# ---- the critical path: how long each of its jobs, and each wait between them, took

MAX_SINGLE_JOBS: Final = 12
"""The maximum number of jobs that are listed one by one. If the path has more, jobs of a family are combined."""
MIN_GAP_SECONDS: Final = 1e-9
"""A gap between two jobs that is shorter than this is a rounding error, not a wait."""


@dataclass(frozen=True, slots=True)
class CriticalPathPart:
    """The part of a critical path that consists of a job, of several jobs of a family, or of waits with one cause."""

    # The path of the job, or the family of the jobs, or the cause of the waits in words.
    name: str
    seconds: float
    count: int
    # The span number of the first of these jobs or, for waits, of the first job that waited.
    span_number: int
    start: float
    is_wait: bool = False

    @property
    def label(self) -> str:
        """The name, followed by the count if it is more than one, e.g. `page * × 3`."""
        if self.count > 1:
            return f"{self.name} × {self.count}"
        return self.name


def critical_path_parts(record: TraceRecord) -> list[CriticalPathPart]:
    """Return the parts of the critical path, the longest first. Their durations add up to the duration of the run."""
    steps = list(critical_path_steps(record))
    should_merge_families = sum(not step.is_wait for step in steps) > MAX_SINGLE_JOBS
    groups: dict[tuple[bool, str], list[CriticalPathPart]] = {}
    for step in steps:
        key = str(step.span_number)
        if step.is_wait:
            key = step.name
        elif should_merge_families:
            key = record.families[step.span_number]
        groups.setdefault((step.is_wait, key), []).append(step)
    parts = list[CriticalPathPart]()
    for (is_wait, key), group in groups.items():
        count = len(group)
        if not is_wait:
            count = len({step.span_number for step in group})
        name = key if count > 1 else group[0].name
        seconds = sum(step.seconds for step in group)
        parts.append(replace(group[0], name=name, seconds=seconds, count=count))
    return sorted(parts, key=lambda part: -part.seconds)


NOT_ADDED: Final = "jobs to be added"
"""The cause of a wait of a job whose predecessors had ended before it was ready."""


def critical_path_steps(record: TraceRecord) -> Iterator[CriticalPathPart]:
    """Yield the jobs and waits along the critical path in chronological order, without gaps between them."""
    covered_until = record.start_time
    open_group: Span | None = None
    for number in record.critical_path:
        span = record.spans[number]
        if span.started_at is None:
            continue
        yield from _parts_before_start(span, covered_until)
        covered_until = max(covered_until, span.started_at)
        if span.number in record.scheduler_numbers:  # its jobs work
            if span.finished_at is None:
                open_group = span
            continue
        end = min(_spans.settled_at(span), record.end_time)
        waits = [wait for wait in waits_after_start(span) if wait.since < end]
        times = [(wait.since, min(wait.until, end), wait.words) for wait in waits]
        yield from _parts_of_job(span, covered_until, [*times, (end, end, "")])
        covered_until = max(covered_until, end)
    if open_group is not None:
        # Between two attempts, none of its jobs waits.
        waits = waits_after_start(open_group)
        times = [(wait.since, wait.until, wait.words) for wait in waits]
        yield from _parts_of_job(open_group, covered_until, times)
        covered_until = max([covered_until, *[wait.until for wait in waits]])
    wait_seconds = record.end_time - covered_until
    if record.critical_path and wait_seconds > MIN_GAP_SECONDS:
        last_number = max(record.critical_path)
        run = record.root_run
        assert run is not None
        words = "the next start"
        if run.finished_at is not None:
            words = "the end of the run"
        if any(until >= record.end_time for _, until in run.pauses):
            words = CAUSE_WORDS[WaitCause.PAUSE].awaited_phrase
        yield CriticalPathPart(
            words, wait_seconds, 1, last_number, covered_until, is_wait=True
        )


def _parts_before_start(span: Span, since: float) -> Iterator[CriticalPathPart]:
    """Yield the waits of a job from a time until its start, and between them its throttled attempts, which worked."""
    start = span.started_at
    assert start is not None
    ready = start if span.scheduled_at is None else span.scheduled_at
    last_words = CAUSE_WORDS[WaitCause.LOOP].awaited_phrase
    times = [(since, ready, NOT_ADDED)]
    for wait in _spans.waits_before_start(span):
        last_words = wait.words
        times.append((wait.since, wait.until, last_words))
    times.append((start, start, last_words))
    yield from _parts_of_job(span, since, times, has_worked=bool(span.throttled))


def _parts_of_job(
    span: Span,
    since: float,
    waits: Iterable[tuple[float, float, str]],
    has_worked: bool = True,
) -> Iterator[CriticalPathPart]:
    """Yield the waits of a job from a time on, and its work between them. Without work, a wait lasts to the next."""
    for began, until, words in waits:
        if has_worked and began - since > MIN_GAP_SECONDS:
            yield CriticalPathPart(span.name, began - since, 1, span.number, since)
            since = began
        if until - since > MIN_GAP_SECONDS:
            yield CriticalPathPart(
                words, until - since, 1, span.number, since, is_wait=True
            )
            since = until
