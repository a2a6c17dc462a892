"""The time of a past run: how long jobs worked, and how long they waited, by cause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, final

from ..._core.api.views import durations_in_column, printable
from .._state_styles import CAUSES
from ..text._symbols import align_columns
from ._slots import WORK, SlotUse, counted, pieces, slot_use, words
from ._span_builder import TraceRecord
from ._spans import Span

MAX_KINDS: Final = 50
"""Number of kinds that have a line of their own."""
LONGEST: Final = 40
"""Columns: longer names of kinds are cut."""


@final
@dataclass(frozen=True, slots=True)
class KindTime:
    """The time of the jobs of one kind, in seconds."""

    kind: str
    """What their labels have in common: a label without its numbers; of one that was not given, the function, or the
    program."""
    count: int
    """The number of jobs."""
    work: float
    """The sum of their work."""
    waits: Mapping[str, float]
    """The sums of their waits by cause, the longest first."""
    p50: float
    """The median of the work of those that started."""
    p95: float
    """The 95th percentile of the work of those that started."""


@final
@dataclass(frozen=True, slots=True)
class TimeSpent:
    """The time of a run as a sentence and a table. Times are in seconds.

    Each job counts from the moment when it was added, or its run began, to its end: it worked, or it waited. Forever
    jobs do not count. Of a nested scheduler its waits count, and then what its jobs do.
    """

    seconds: float
    """The duration of the run."""
    work: float
    """The sum of all work: job-seconds."""
    waits: Mapping[str, float]
    """The sums of all waits by cause, in the words of `Wait.words`, the longest first."""
    kinds: tuple[KindTime, ...]
    """The same for each kind of jobs, the kind with most time first."""
    slots: int
    """How many jobs could run at once: the slots of the window; without one, and around nested schedulers, how many
    did."""
    empty: Mapping[str, float]
    """How long slots were empty, together, by the reason: "gpu ran short", "nothing was ready"; the longest first."""
    _slots: SlotUse = field(repr=False)

    def __str__(self) -> str:
        """Say it in a sentence: "4 slots for 18 s: 47 % working, 53 % empty because gpu ran short"."""
        return str(self._slots)

    def table(self) -> str:
        """Return a line for each kind of jobs: how many there are, how long they worked and waited, and for what.

        Example:
            >>> trace = Trace()
            >>> Scheduler(*(Job(anyio.sleep, 0.01, label=f"nap {n}") for n in range(3))).run(instruments=[trace])
            True
            >>> trace.time_spent().table().splitlines()[1].split()[:3]
            ['nap', '*', '3']

        """
        heads, cells = in_columns(self.kinds[:MAX_KINDS])
        rows = [heads, *map(_row, self.kinds, cells)]
        if len(self.kinds) > MAX_KINDS:
            rows.append((f"and {len(self.kinds) - MAX_KINDS} more kinds", *[""] * (len(HEADINGS) - 1)))
        return "\n".join(align_columns(rows, (0, len(HEADINGS) - 1)))


HEADINGS: Final = ("kind", "count", "work", "waits", "p50", "p95", "waited for")


def in_columns(kinds: Sequence[KindTime]) -> tuple[tuple[str, ...], list[tuple[list[str], list[tuple[str, str]]]]]:
    """Return the headings with the unit of each column, and for each kind its times and its waits.

    A column has one unit, and as many decimals everywhere, so that its numbers can be compared: sums with sums, and
    times of single jobs with each other.
    """
    number = len(kinds)
    sums = [kind.work for kind in kinds] + [sum(kind.waits.values()) for kind in kinds]
    sums += [seconds for kind in kinds for seconds in kind.waits.values()]
    unit, texts = durations_in_column(sums)
    unit_of_single, singles = durations_in_column([kind.p50 for kind in kinds] + [kind.p95 for kind in kinds])
    left = iter(texts[2 * number :])
    cells = [
        (
            [texts[n], texts[number + n], singles[n], singles[number + n]],
            [(printable(what), next(left)) for what in kind.waits],
        )
        for n, kind in enumerate(kinds)
    ]
    units = unit, unit, unit_of_single, unit_of_single, unit
    return (*HEADINGS[:2], *(f"{name}, {unit}" for name, unit in zip(HEADINGS[2:], units, strict=True))), cells


def _row(kind: KindTime, cells: tuple[list[str], list[tuple[str, str]]]) -> tuple[str, ...]:
    name = printable(kind.kind) or "(no label)"
    name = name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
    times, waited = cells
    return name, str(kind.count), *times, ", ".join(f"{what} {text}" for what, text in waited)


def time_spent(record: TraceRecord) -> TimeSpent:
    """Return the breakdown of a run's time. O(n log n) for n jobs."""
    by_kind: dict[str, list[Span]] = {}
    for span in counted(record):
        by_kind.setdefault(record.kinds[span.number], []).append(span)
    kinds = [_of_kind(record, kind if len(spans) > 1 else spans[0].label, spans) for kind, spans in by_kind.items()]
    kinds.sort(key=lambda kind: -kind.work - sum(kind.waits.values()))
    waits: Counter[str] = Counter()
    for kind in kinds:
        waits.update(kind.waits)
    work = sum(kind.work for kind in kinds)
    slots = slot_use(record)
    empty = {
        words(reason): seconds for reason, seconds in sorted(slots.empty.items(), key=lambda item: -item[1]) if seconds
    }
    return TimeSpent(slots.seconds, work, dict(waits.most_common()), tuple(kinds), slots.number, empty, slots)


def _of_kind(record: TraceRecord, kind: str, spans: Iterable[Span]) -> KindTime:
    waits: Counter[str] = Counter()
    worked: list[float] = []
    count = 0
    for span in spans:
        count += 1
        took = {what: sum(until - since for since, until in parts) for what, parts in pieces(record, span).items()}
        if span.number not in record.nested and span.started_at is not None:
            worked.append(took.pop(WORK, 0.0))
        waits.update({CAUSES[cause].awaited.format(name): took[cause, name] for cause, name in took if cause != "work"})
    worked.sort()
    return KindTime(kind, count, sum(worked), dict(waits.most_common()), _share(worked, 0.5), _share(worked, 0.95))


def _share(ordered: Sequence[float], share: float) -> float:
    """Return a percentile of numbers in ascending order, by the nearest rank."""
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)] if ordered else 0.0
