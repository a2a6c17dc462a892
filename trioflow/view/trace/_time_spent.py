"""Where the time of a past run went: `TimeSpent`, by work and causes of waits; and the parts of its critical path."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, final

from ..._core.base._states import WaitCause
from .._state_styles import CAUSE_WORDS
from ._slot_use import SlotUse, activity_intervals, compute_slot_use, measured_spans, reason_words
from ._spans import Span, settled_at, waits_after_start, waits_before_start
from ._trace_record import TraceRecord, once_for_each_record

MAX_FAMILIES: Final = 50


@final
@dataclass(frozen=True, slots=True)
class FamilyTime:
    """The times of all jobs of one family, in seconds."""

    family: str
    """The common part of the jobs' labels, with a star in place of each number. If the jobs have default labels, it is
    the name of the function or the program. If only one job worked, it is the label of that job."""
    count: int
    """The number of jobs that worked. Jobs that never started may have waited."""
    work: float
    """The total time for which the jobs worked."""
    waits: Mapping[str, float]
    """The total time for which the jobs waited, by cause, the longest first."""
    p50: float | None
    """The median of the times for which the jobs worked; None if none did."""
    p95: float | None
    """The 95th percentile of the times for which the jobs worked; None if none did."""


@final
@dataclass(frozen=True, slots=True)
class TimeSpent:
    """The breakdown of a run's time, in seconds. `str()` returns it as a sentence.

    A job either works or waits, from the moment when its run began, or when it was added if that was later, until it
    settles. Forever jobs are not counted. For a nested scheduler, its own waits and the times of its jobs are counted;
    it belongs to no family.
    """

    seconds: float
    """The duration of the run."""
    work: float
    """The total time for which jobs worked, summed over all jobs."""
    waits: Mapping[str, float]
    """The total time for which jobs waited, by cause as in `Wait.words`, the longest first."""
    families: tuple[FamilyTime, ...]
    """The work and the waits of each family of jobs, the family with the longest total time first."""
    slots: int
    """The number of slots of the window, without those that no job ever ran in or waited for: "4 of 6 slots were used".
    If there is no window, or there are nested schedulers, it is the largest number of jobs that ran at one time."""
    empty: Mapping[str, float]
    """The total time for which slots were empty, by reason, the longest first. A reason is a phrase such as
    "gpu ran short" or "nothing was ready"."""
    _slots: SlotUse = field(repr=False)

    def __str__(self) -> str:
        """Return a sentence such as "4 slots for 18 s: 47 % working, 53 % empty because gpu ran short"."""
        return str(self._slots)


@once_for_each_record
def compute_time_spent(record: TraceRecord) -> TimeSpent:
    """Compute the breakdown of a run's time, in O(n log n) time for n jobs."""
    families = list(compute_family_times(record).values())
    families.sort(key=lambda family: -family.work - sum(family.waits.values()))
    waits: dict[str, float] = {}
    schedulers = [span for span in measured_spans(record) if span.number in record.scheduler_numbers]
    for family in (_compute_family_time(record, "", schedulers), *families):
        for words, seconds in family.waits.items():
            waits[words] = waits.get(words, 0.0) + seconds
    work = sum(family.work for family in families)
    slot_use = compute_slot_use(record)
    reasons = sorted(slot_use.empty_seconds_by_reason, key=lambda reason: -slot_use.empty_seconds_by_reason[reason])
    empty_seconds = {
        reason_words(reason): slot_use.empty_seconds_by_reason[reason]
        for reason in reasons
        if slot_use.empty_seconds_by_reason[reason]
    }
    return TimeSpent(
        slot_use.run_seconds, work, _longest_first(waits), tuple(families), slot_use.slot_count, empty_seconds, slot_use
    )


@once_for_each_record
def compute_family_times(record: TraceRecord) -> dict[str, FamilyTime]:
    """Return the times of each family in `record.families` that has jobs whose work and waits are counted."""
    spans_by_family: dict[str, list[Span]] = {}
    for span in measured_spans(record):
        if span.number not in record.scheduler_numbers:
            spans_by_family.setdefault(record.families[span.number], []).append(span)
    return {family: _compute_family_time(record, family, spans) for family, spans in spans_by_family.items()}


def _compute_family_time(record: TraceRecord, family: str, spans: Sequence[Span]) -> FamilyTime:
    waits: dict[str, float] = {}
    work_by_job: dict[int, float] = {}  # of the jobs that had a slot
    for span in spans:
        for (cause, name), intervals in activity_intervals(record, span).items():
            seconds = sum(until - since for since, until in intervals)
            if cause != "work":
                words = CAUSE_WORDS[cause].awaited_phrase.format(name)
                waits[words] = waits.get(words, 0.0) + seconds
            elif span.started_at is not None or span.throttled:
                work_by_job[span.number] = seconds
    if len(work_by_job or spans) == 1:
        family = record.spans[next(iter(work_by_job), spans[0].number)].label
    work = sorted(work_by_job.values())
    percentiles = _percentile(work, 0.5), _percentile(work, 0.95)
    return FamilyTime(family, len(work), sum(work), _longest_first(waits), *percentiles)


def _longest_first(seconds: dict[str, float]) -> dict[str, float]:
    return dict(sorted(seconds.items(), key=lambda item: -item[1]))


def _percentile(sorted_values: Sequence[float], fraction: float) -> float | None:
    """Return a percentile of sorted values by the nearest-rank method, or None if there are no values."""
    return sorted_values[max(0, -int(-fraction * len(sorted_values) // 1) - 1)] if sorted_values else None


# ---- the critical path: how long each of its jobs, and each wait between them, took

MAX_SINGLE_JOBS: Final = 12
"""The maximum number of jobs that are listed one by one. If the path has more, jobs of one family are combined."""
MIN_GAP_SECONDS: Final = 1e-9
"""A gap between two jobs that is shorter than this is a rounding error, not a wait."""


@dataclass(frozen=True, slots=True)
class CriticalPathPart:
    """The part of a critical path that consists of a job, of several jobs of one family, or of waits with one cause."""

    name: str
    """The path of the job, or the family of the jobs, or the cause of the waits in words."""
    seconds: float
    count: int
    span_number: int
    """The span number of the first of these jobs or, for waits, of the first job that waited."""
    start: float
    is_wait: bool = False

    @property
    def label(self) -> str:
        """The name, followed by the count if it is more than one, e.g. `page * × 3`."""
        return f"{self.name} × {self.count}" if self.count > 1 else self.name


def critical_path_parts(record: TraceRecord) -> list[CriticalPathPart]:
    """Return the parts of the critical path, the longest first. Their durations add up to the duration of the run."""
    steps = list(critical_path_steps(record))
    should_merge_families = sum(not step.is_wait for step in steps) > MAX_SINGLE_JOBS
    groups: dict[tuple[bool, str], list[CriticalPathPart]] = {}
    for step in steps:
        is_merged = should_merge_families and not step.is_wait
        key = record.families[step.span_number] if is_merged else step.name if step.is_wait else str(step.span_number)
        groups.setdefault((step.is_wait, key), []).append(step)
    parts = [
        replace(
            group[0],
            name=key if should_merge_families and not is_wait else group[0].name,
            seconds=sum(step.seconds for step in group),
            count=len(group if is_wait else {step.span_number for step in group}),
        )
        for (is_wait, key), group in groups.items()
    ]
    return sorted(parts, key=lambda part: -part.seconds)


NOT_ADDED: Final = "jobs to be added"
"""What a job waited for whose predecessors had ended before it was ready."""


def critical_path_steps(record: TraceRecord) -> Iterator[CriticalPathPart]:
    """Yield the jobs and waits along the critical path in chronological order, without gaps between them."""
    covered_until = record.start_time
    for link in record.critical_path_links:
        span = record.spans[link.span_number]
        if span.started_at is None:
            continue
        yield from _parts_before_start(span, covered_until)
        covered_until = max(covered_until, span.started_at)
        if span.number in record.scheduler_numbers:  # its jobs work
            continue
        end = min(settled_at(span), record.end_time)
        waits = [(wait.since, min(wait.until, end), wait.words) for wait in waits_after_start(span) if wait.since < end]
        yield from _parts_of_job(span, covered_until, [*waits, (end, end, "")])
        covered_until = max(covered_until, end)
    wait_seconds = record.end_time - covered_until
    if record.critical_path_links and wait_seconds > MIN_GAP_SECONDS:
        last_number = record.critical_path_links[-1].span_number
        run = record.outermost_runs[last_number]
        words = "the end of the run" if run.finished_at is not None else "the next start"
        if any(until >= record.end_time for _, until in run.pauses):
            words = CAUSE_WORDS[WaitCause.PAUSE].awaited_phrase
        yield CriticalPathPart(words, wait_seconds, 1, last_number, covered_until, is_wait=True)


def _parts_before_start(span: Span, since: float) -> Iterator[CriticalPathPart]:
    """Yield the waits of a job from a time until its start, and its throttled attempts, which worked, between them."""
    assert span.started_at is not None
    waits = [(wait.since, wait.until, wait.words) for wait in waits_before_start(span)]
    last_words = waits[-1][2] if waits else CAUSE_WORDS[WaitCause.LOOP].awaited_phrase
    waits.append((span.started_at, span.started_at, last_words))
    waits.insert(0, (since, span.started_at if span.scheduled_at is None else span.scheduled_at, NOT_ADDED))
    yield from _parts_of_job(span, since, waits, has_worked=bool(span.throttled))


def _parts_of_job(
    span: Span, since: float, waits: Iterable[tuple[float, float, str]], has_worked: bool = True
) -> Iterator[CriticalPathPart]:
    """Yield the waits of a job from a time on, and its work between them; without work, a wait lasts to the next."""
    for began, until, words in waits:
        if has_worked and began - since > MIN_GAP_SECONDS:
            yield CriticalPathPart(span.name, began - since, 1, span.number, since)
            since = began
        if until - since > MIN_GAP_SECONDS:
            yield CriticalPathPart(words, until - since, 1, span.number, since, is_wait=True)
            since = until
