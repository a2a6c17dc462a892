"""The use of a past run's slots: when jobs worked in them, and why they were empty otherwise.

A run without a window counts as having as many slots as jobs ran at the same time. So does a run with nested
schedulers, which take slots of the window themselves, while their jobs run outside it. The reason for an empty slot is
something that a job waited for at that time; if jobs waited for different things, reasons come in the order of
`WaitCause`. The cost is O(n log n) for n jobs.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

from ..._core.api.views import WaitCause, duration_text, printable
from .._state_styles import CAUSES
from ._lanes import assign_lanes
from ._resource_use import count_overlaps
from ._span_builder import TraceRecord
from ._spans import Span

WORK: Final = "work", ""
Activity = tuple[WaitCause | Literal["work"], str]
"""The activity of a job at a time: a wait, as its cause and the name of a resource, or `WORK`."""


def spans_with_time(record: TraceRecord) -> list[Span]:
    """Return the spans whose work and waits count: neither forever jobs, nor the members of forever schedulers.

    A nested scheduler counts if it waited; the work is that of its members.
    """
    counted: list[Span] = []
    forever: set[int] = set()
    for span in sorted(record.spans, key=lambda span: len(record.enclosing_spans(span))):
        if span.forever or span.parent in forever:
            forever.add(span.number)
        elif span.number not in record.nested or span.waits:
            counted.append(span)
    return sorted(counted, key=lambda span: span.number)


def activity_intervals(record: TraceRecord, span: Span) -> dict[Activity, list[tuple[float, float]]]:
    """Return the intervals in which a job worked, and those in which it waited, by cause."""
    intervals: dict[Activity, list[tuple[float, float]]] = {}
    machine_waits = [(wait.since, wait.until) for wait in span.waits if wait.cause is WaitCause.MACHINE]
    if span.number not in record.nested:
        work = [*span.throttled]
        if span.started_at is not None:
            at = span.started_at
            for since, until in sorted(machine_waits):
                work.append((at, since))
                at = until
            work.append((at, record.now if span.finished_at is None else span.finished_at))
        intervals[WORK] = [(since, until) for since, until in work if until > since]
    for wait in span.waits:
        intervals.setdefault((wait.cause, wait.name), []).append((wait.since, wait.until))
    return intervals


Reason = tuple[WaitCause, str]
"""The reason why a slot was empty: a cause, and the name of the resource. With JOBS, no job was ready."""

NOTHING_READY: Final[Reason] = WaitCause.JOBS, ""
MIN_SHARE: Final = 0.005
"""The share of the time of all slots below which the sentence leaves out a reason."""


@dataclass(frozen=True, slots=True)
class Bar:
    """An interval in which a job had a slot."""

    began: float
    ended: float
    span: Span


@dataclass(frozen=True, slots=True)
class SlotUse:
    """The use of the slots of a run, over time and in total."""

    seconds: float
    """The duration of the run."""
    slots: int
    """The number of slots."""
    has_window: bool
    """Whether a window limits the number of slots."""
    rows: tuple[tuple[Bar, ...], ...]
    """The jobs in each slot that was used."""
    work: float
    """The seconds in which jobs worked, summed over all slots."""
    empty: dict[Reason, float]
    """The seconds without work by reason, summed over all slots."""
    empty_steps: tuple[tuple[float, tuple[tuple[Reason, int], ...]], ...] = field(repr=False)
    """A step function: the time of each change, and from then on the number of empty slots for each reason.

    Empty slots for which no job was ready are not included.
    """

    def __str__(self) -> str:
        """Return the use of the slots in a sentence."""
        whole = self.slots * self.seconds
        if not whole or not self.work:
            return "no job took any time"
        jobs = f"{self.slots} slot{'s' * (self.slots != 1)}"
        if not self.has_window:
            jobs = f"up to {self.slots} jobs at once" if self.slots > 1 else "one job at a time"
        parts = [f"{100 * self.work / whole:.0f} % working"]
        for reason, seconds in sorted(self.empty.items(), key=lambda item: (item[0] == NOTHING_READY, -item[1])):
            if seconds >= MIN_SHARE * whole:
                parts.append(f"{100 * seconds / whole:.0f} % empty because {reason_words(reason)}")
        return f"{jobs} for {duration_text(self.seconds)}: {', '.join(parts)}"


def reason_words(reason: Reason) -> str:
    """Return a reason in words, as they follow "empty because"."""
    cause, name = reason
    return CAUSES[cause].empty_because.format(printable(name))


def slot_use(record: TraceRecord) -> SlotUse:
    """Compute the use of the slots of a run."""
    spans = spans_with_time(record)
    bars = sorted(_bars(record, spans), key=lambda bar: (bar.began, bar.span.number))
    rows: list[list[Bar]] = []
    waited = (bar.span.scheduled_at for bar in bars)
    for bar, row in zip(bars, assign_lanes(((bar.began, bar.ended) for bar in bars), waited), strict=True):
        rows.extend([] for _ in range(row + 1 - len(rows)))
        rows[row].append(bar)
    activities = [activity_intervals(record, span) for span in spans]
    waiting = [
        ((cause, name), since, until)
        for intervals in activities
        for (cause, name), times in intervals.items()
        if isinstance(cause, WaitCause) and cause is not WaitCause.JOBS
        for since, until in times
    ]
    work = sum(until - since for intervals in activities for since, until in intervals.get(WORK, ()))
    window = record.roots[0].window if len(record.roots) == 1 and not record.nested else None
    number = len(rows)
    if window is not None:
        ready = [(since, until) for _, since, until in waiting]
        _, at_once = count_overlaps([*((bar.began, bar.ended) for bar in bars), *ready])
        number = min(window, max([*at_once, number]))
    seconds = record.now - record.began
    empty: dict[Reason, float] = {}
    steps = tuple(_empty_steps(record, bars, waiting, number))
    for (since, reasons), (until, _) in itertools.pairwise([*steps, (record.now, ())]):
        for reason, slots in reasons:
            empty[reason] = empty.get(reason, 0.0) + slots * (until - since)
    for reason, since, until in waiting:
        if reason[0] is WaitCause.MACHINE:  # not in `steps`, because the job had a slot
            empty[reason] = empty.get(reason, 0.0) + until - since
    empty[NOTHING_READY] = max(0.0, number * seconds - work - sum(empty.values()))
    return SlotUse(seconds, number, window is not None, tuple(map(tuple, rows)), work, empty, steps)


def _bars(record: TraceRecord, spans: Iterable[Span]) -> Iterator[Bar]:
    for span in spans:
        if span.number in record.nested:
            continue
        for began, ended in span.throttled:
            yield Bar(began, ended, span)
        if span.started_at is not None:
            yield Bar(span.started_at, record.now if span.finished_at is None else span.finished_at, span)


def _empty_steps(
    record: TraceRecord, bars: Iterable[Bar], waiting: Iterable[tuple[Reason, float, float]], number: int
) -> Iterator[tuple[float, tuple[tuple[Reason, int], ...]]]:
    """Yield `SlotUse.empty_steps`; at any time, no more slots have a reason than jobs waited for it."""
    # For each time, the changes of the number of waiting jobs by reason; with None, of the number of bars.
    changes: dict[float, Counter[Reason | None]] = {record.began: Counter()}

    def change(reason: Reason | None, since: float, until: float) -> None:
        changes.setdefault(since, Counter())[reason] += 1
        changes.setdefault(until, Counter())[reason] -= 1

    for bar in bars:
        change(None, bar.began, bar.ended)
    for reason, since, until in waiting:
        if reason[0] is not WaitCause.MACHINE:
            change(reason, since, until)
    now: Counter[Reason | None] = Counter()
    for at in sorted(changes):
        now.update(changes[at])
        empty, by_reason = number - now[None], list[tuple[Reason, int]]()
        for reason in sorted((cause for cause, count in now.items() if cause is not None and count > 0), key=_sort_key):
            slots = min(empty, now[reason])
            if slots > 0:
                by_reason.append((reason, slots))
                empty -= slots
        yield at, tuple(by_reason)


CAUSE_ORDER: Final = tuple(WaitCause)


def _sort_key(reason: Reason) -> tuple[int, str]:
    return CAUSE_ORDER.index(reason[0]), reason[1]
