"""`TimeSpent`: how long the jobs of a past run worked, and how long they waited, by cause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, final

from ..._core.api.views import durations_in_column, printable
from .._state_styles import CAUSE_WORDS
from ._record import TraceRecord
from ._slots import WORK, SlotUse, activity_intervals, compute_slot_use, measured_spans, reason_words
from ._spans import Span

MAX_FAMILIES: Final = 50


@final
@dataclass(frozen=True, slots=True)
class FamilyTime:
    """The times of all jobs of one family, in seconds."""

    family: str
    """The common part of the jobs' labels, with a star in place of each number. If the jobs have default labels, it is
    the name of the function or the program. If there is only one job, it is the label of that job."""
    count: int
    """The number of jobs."""
    work: float
    """The total time for which the jobs worked."""
    waits: Mapping[str, float]
    """The total time for which the jobs waited, by cause, the longest first."""
    p50: float
    """The median of the times for which the jobs worked. Jobs that never started are ignored."""
    p95: float
    """The 95th percentile of the times for which the jobs worked. Jobs that never started are ignored."""


@final
@dataclass(frozen=True, slots=True)
class TimeSpent:
    """The breakdown of a run's time, in seconds. `str()` returns it as a sentence.

    A job either works or waits, from the moment when its run began, or when it was added if that was later, until it
    settles. Forever jobs are not counted. For a nested scheduler, its own waits and the times of its jobs are counted.
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
    """The number of slots of the window, without those that no job ever ran in or waited for. If there is no window, or
    there are nested schedulers, it is the largest number of jobs that ran at the same time."""
    empty: Mapping[str, float]
    """The total time for which slots were empty, by reason, the longest first. A reason is a phrase such as
    "gpu ran short" or "nothing was ready"."""
    _slots: SlotUse = field(repr=False)

    def __str__(self) -> str:
        """Return a sentence such as "4 slots for 18 s: 47 % working, 53 % empty because gpu ran short"."""
        return str(self._slots)


HEADINGS: Final = ("family", "count", "work", "waits", "p50", "p95", "waited for")


def format_columns(
    families: Sequence[FamilyTime],
) -> tuple[tuple[str, ...], list[tuple[list[str], list[tuple[str, str]]]]]:
    """Format the times of families of jobs as columns of a table.

    All numbers in a column have the same unit and the same number of decimals, so that they can be compared. The sums
    have one unit, and the times of single jobs (p50, p95) may have another.

    Returns:
        A pair: the headings, which contain the units, and the cells of each family. The cells of a family are its four
        times, and its waits as pairs of cause and time.

    """
    family_count = len(families)
    sums = [family.work for family in families] + [sum(family.waits.values()) for family in families]
    sums += [seconds for family in families for seconds in family.waits.values()]
    unit, texts = durations_in_column(sums)
    job_unit, job_texts = durations_in_column([family.p50 for family in families] + [family.p95 for family in families])
    wait_texts = iter(texts[2 * family_count :])
    cells = [
        (
            [texts[index], texts[family_count + index], job_texts[index], job_texts[family_count + index]],
            [(printable(cause), next(wait_texts)) for cause in family.waits],
        )
        for index, family in enumerate(families)
    ]
    units = unit, unit, job_unit, job_unit, unit
    return (*HEADINGS[:2], *(f"{name}, {unit}" for name, unit in zip(HEADINGS[2:], units, strict=True))), cells


def compute_time_spent(record: TraceRecord) -> TimeSpent:
    """Compute the breakdown of a run's time, in O(n log n) time for n jobs."""
    spans_by_family: dict[str, list[Span]] = {}
    for span in measured_spans(record):
        spans_by_family.setdefault(record.families[span.number], []).append(span)
    families = [
        _compute_family_time(record, family if len(spans) > 1 else spans[0].label, spans)
        for family, spans in spans_by_family.items()
    ]
    families.sort(key=lambda family: -family.work - sum(family.waits.values()))
    waits: Counter[str] = Counter()
    for family in families:
        waits.update(family.waits)
    work = sum(family.work for family in families)
    slot_use = compute_slot_use(record)
    reasons = sorted(slot_use.empty_seconds_by_reason, key=lambda reason: -slot_use.empty_seconds_by_reason[reason])
    empty_seconds = {
        reason_words(reason): slot_use.empty_seconds_by_reason[reason]
        for reason in reasons
        if slot_use.empty_seconds_by_reason[reason]
    }
    return TimeSpent(
        slot_use.run_seconds,
        work,
        dict(waits.most_common()),
        tuple(families),
        slot_use.slot_count,
        empty_seconds,
        slot_use,
    )


def _compute_family_time(record: TraceRecord, family: str, spans: Sequence[Span]) -> FamilyTime:
    waits: Counter[str] = Counter()
    work_seconds: list[float] = []
    for span in spans:
        sums = {
            activity: sum(until - since for since, until in intervals)
            for activity, intervals in activity_intervals(record, span).items()
        }
        if span.number not in record.scheduler_numbers and span.started_at is not None:
            work_seconds.append(sums.pop(WORK, 0.0))
        waits.update(
            {
                CAUSE_WORDS[cause].awaited_phrase.format(name): sums[cause, name]
                for cause, name in sums
                if cause != "work"
            }
        )
    work_seconds.sort()
    percentiles = _percentile(work_seconds, 0.5), _percentile(work_seconds, 0.95)
    return FamilyTime(family, len(spans), sum(work_seconds), dict(waits.most_common()), *percentiles)


def _percentile(sorted_values: Sequence[float], fraction: float) -> float:
    """Return a percentile of sorted values by the nearest-rank method, or 0 if there are no values."""
    return sorted_values[max(0, -int(-fraction * len(sorted_values) // 1) - 1)] if sorted_values else 0.0
