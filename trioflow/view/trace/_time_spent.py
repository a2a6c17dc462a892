"""`TimeSpent`: how long the jobs of a past run worked, and how long they waited, by cause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, final

from ..._core.api.views import durations_in_column, printable
from .._state_styles import CAUSES
from ..text._symbols import align_columns
from ._slots import WORK, SlotUse, activity_intervals, reason_words, slot_use, spans_with_time
from ._span_builder import TraceRecord
from ._spans import Span

MAX_KINDS: Final = 50
"""The number of kinds of jobs that a table lists."""
MAX_KIND_WIDTH: Final = 40
"""The number of characters above which the name of a kind is cut."""


@final
@dataclass(frozen=True, slots=True)
class KindTime:
    """The times of all jobs of one kind, in seconds."""

    kind: str
    """The common part of their labels: a label with a star for each number, or, of default labels, the function or
    program."""
    count: int
    """The number of jobs."""
    work: float
    """The total time for which the jobs worked."""
    waits: Mapping[str, float]
    """The total time for which they waited, by cause, the longest first."""
    p50: float
    """The median time for which one of the jobs worked, among those that started."""
    p95: float
    """The 95th percentile of the time for which one of the jobs worked, among those that started."""


@final
@dataclass(frozen=True, slots=True)
class TimeSpent:
    """The breakdown of a run's time, in seconds; it prints as a sentence and as a table.

    From the moment when it was added, or its run began, until its end, a job either works or waits. Forever jobs do not
    count. A nested scheduler counts with its own waits, and with the times of its jobs.
    """

    seconds: float
    """The duration of the run."""
    work: float
    """The total time for which jobs worked, summed over all jobs."""
    waits: Mapping[str, float]
    """The total time for which jobs waited, by cause as in `Wait.words`, the longest first."""
    kinds: tuple[KindTime, ...]
    """The same for each kind of jobs, the kind with the longest time first."""
    slots: int
    """The number of slots of the window; without a window, or with nested schedulers, the largest number of jobs that
    ran at the same time."""
    empty: Mapping[str, float]
    """The total time for which slots were empty, by reason, such as "gpu ran short" or "nothing was ready"; the longest
    first."""
    _slots: SlotUse = field(repr=False)

    def __str__(self) -> str:
        """Return a sentence such as "4 slots for 18 s: 47 % working, 53 % empty because gpu ran short"."""
        return str(self._slots)

    def table(self) -> str:
        """Return a table in plain text: for each kind of jobs, their number, their work, and their waits by cause.

        Example:
            >>> trace = Trace()
            >>> Scheduler(*(Job(anyio.sleep, 0.01, label=f"nap {n}") for n in range(3))).run(instruments=[trace])
            True
            >>> trace.time_spent().table().splitlines()[1].split()[:3]
            ['nap', '*', '3']

        """
        heads, cells = format_columns(self.kinds[:MAX_KINDS])
        rows = [heads, *map(_row, self.kinds, cells)]
        if len(self.kinds) > MAX_KINDS:
            rows.append((f"and {len(self.kinds) - MAX_KINDS} more kinds", *[""] * (len(HEADINGS) - 1)))
        return "\n".join(align_columns(rows, (0, len(HEADINGS) - 1)))


HEADINGS: Final = ("kind", "count", "work", "waits", "p50", "p95", "waited for")


def format_columns(kinds: Sequence[KindTime]) -> tuple[tuple[str, ...], list[tuple[list[str], list[tuple[str, str]]]]]:
    """Format the times of kinds of jobs as columns of a table.

    All numbers in a column have the same unit and the same number of decimals, so that they can be compared. Sums share
    one unit, and the times of single jobs (p50, p95) another.

    Returns:
        The headings, with the units; and for each kind its four times, and its waits as pairs of cause and time.

    """
    number = len(kinds)
    sums = [kind.work for kind in kinds] + [sum(kind.waits.values()) for kind in kinds]
    sums += [seconds for kind in kinds for seconds in kind.waits.values()]
    unit, texts = durations_in_column(sums)
    single_unit, singles = durations_in_column([kind.p50 for kind in kinds] + [kind.p95 for kind in kinds])
    wait_texts = iter(texts[2 * number :])
    cells = [
        (
            [texts[n], texts[number + n], singles[n], singles[number + n]],
            [(printable(cause), next(wait_texts)) for cause in kind.waits],
        )
        for n, kind in enumerate(kinds)
    ]
    units = unit, unit, single_unit, single_unit, unit
    return (*HEADINGS[:2], *(f"{name}, {unit}" for name, unit in zip(HEADINGS[2:], units, strict=True))), cells


def _row(kind: KindTime, cells: tuple[list[str], list[tuple[str, str]]]) -> tuple[str, ...]:
    name = printable(kind.kind) or "(no label)"
    name = name if len(name) <= MAX_KIND_WIDTH else name[: MAX_KIND_WIDTH - 1] + "…"
    times, waited = cells
    return name, str(kind.count), *times, ", ".join(f"{cause} {text}" for cause, text in waited)


def time_spent(record: TraceRecord) -> TimeSpent:
    """Break down the time of a run. O(n log n) for n jobs."""
    by_kind: dict[str, list[Span]] = {}
    for span in spans_with_time(record):
        by_kind.setdefault(record.kinds[span.number], []).append(span)
    kinds = [_kind_time(record, kind if len(spans) > 1 else spans[0].label, spans) for kind, spans in by_kind.items()]
    kinds.sort(key=lambda kind: -kind.work - sum(kind.waits.values()))
    waits: Counter[str] = Counter()
    for kind in kinds:
        waits.update(kind.waits)
    work = sum(kind.work for kind in kinds)
    use = slot_use(record)
    reasons = sorted(use.empty, key=lambda reason: -use.empty[reason])
    empty = {reason_words(reason): use.empty[reason] for reason in reasons if use.empty[reason]}
    return TimeSpent(use.seconds, work, dict(waits.most_common()), tuple(kinds), use.slots, empty, use)


def _kind_time(record: TraceRecord, kind: str, spans: Sequence[Span]) -> KindTime:
    waits: Counter[str] = Counter()
    worked: list[float] = []
    for span in spans:
        sums = {
            activity: sum(until - since for since, until in intervals)
            for activity, intervals in activity_intervals(record, span).items()
        }
        if span.number not in record.nested and span.started_at is not None:
            worked.append(sums.pop(WORK, 0.0))
        waits.update({CAUSES[cause].awaited.format(name): sums[cause, name] for cause, name in sums if cause != "work"})
    worked.sort()
    percentiles = _percentile(worked, 0.5), _percentile(worked, 0.95)
    return KindTime(kind, len(spans), sum(worked), dict(waits.most_common()), *percentiles)


def _percentile(ordered: Sequence[float], share: float) -> float:
    """Return a percentile of sorted numbers, by the nearest rank; 0 if there are none."""
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)] if ordered else 0.0
