"""A past run over time: its jobs' intervals of work and of waits by cause, and the use of its slots, with their gaps.

A run without a window has as many slots as jobs ran at once. So has one with nested schedulers: these take slots of the
window themselves, and their jobs run beside them. A slot is empty because something was short if a job waited for just
that; if several jobs waited for different things, in the order of `WaitCause`. O(n log n) for n jobs.
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
from ._resource_use import running
from ._span_builder import TraceRecord
from ._spans import Span

WORK: Final = "work", ""
What = tuple[WaitCause | Literal["work"], str]
"""A cause and the name of a resource, or work."""


def counted(record: TraceRecord) -> list[Span]:
    """Return the spans that count: neither forever jobs, nor the jobs in them."""
    found: list[Span] = []
    apart: set[int] = set()
    for span in sorted(record.spans, key=lambda one: len(record.enclosing_spans(one))):
        if span.forever or span.parent in apart:
            apart.add(span.number)
        elif span.number not in record.nested or span.waits:
            found.append(span)
    return sorted(found, key=lambda one: one.number)


def pieces(record: TraceRecord, span: Span) -> dict[What, list[tuple[float, float]]]:
    """Return the intervals in which a job worked, and in which it waited."""
    found: dict[What, list[tuple[float, float]]] = {}
    held = [(wait.since, wait.until) for wait in span.waits if wait.cause is WaitCause.MACHINE]
    if span.number not in record.nested:
        ran = [*span.throttled]
        if span.started_at is not None:
            at = span.started_at
            for since, until in sorted(held):
                ran.append((at, since))
                at = until
            ran.append((at, record.now if span.finished_at is None else span.finished_at))
        found[WORK] = [one for one in ran if one[1] > one[0]]
    for wait in span.waits:
        found.setdefault((wait.cause, wait.name), []).append((wait.since, wait.until))
    return found


Reason = tuple[WaitCause, str]
"""The reason why a slot was empty: a cause, and the name of the resource. JOBS: no job was ready."""

NOTHING_READY: Final[Reason] = WaitCause.JOBS, ""
MIN_SHARE: Final = 0.005
"""The least share of the time of all slots that the sentence names."""


@dataclass(frozen=True, slots=True)
class Bar:
    """An interval in which a job had a slot."""

    began: float
    ended: float
    span: Span


@dataclass(frozen=True, slots=True)
class SlotUse:
    """The slots of a run."""

    seconds: float
    """The duration of the run."""
    number: int
    has_window: bool
    """Whether a window limits their number."""
    rows: tuple[tuple[Bar, ...], ...]
    """The jobs in each slot that was used."""
    work: float
    """Seconds of all slots in which jobs worked."""
    empty: dict[Reason, float]
    """Seconds of all slots without work, by the reason."""
    steps: tuple[tuple[float, tuple[tuple[Reason, int], ...]], ...] = field(repr=False)
    """The number of empty slots by reason over time; the others were empty because no job was ready."""

    def __str__(self) -> str:
        """Return the use of the slots as a sentence."""
        whole = self.number * self.seconds
        if not whole or not self.work:
            return "no job took any time"
        jobs = f"{self.number} slot{'s' * (self.number != 1)}"
        if not self.has_window:
            jobs = f"up to {self.number} jobs at once" if self.number > 1 else "one job at a time"
        parts = [f"{100 * self.work / whole:.0f} % working"]
        for reason, seconds in sorted(self.empty.items(), key=lambda item: (item[0] == NOTHING_READY, -item[1])):
            if seconds >= MIN_SHARE * whole:
                parts.append(f"{100 * seconds / whole:.0f} % empty because {words(reason)}")
        return f"{jobs} for {duration_text(self.seconds)}: {', '.join(parts)}"


def words(reason: Reason) -> str:
    """Return the words after "because": why a slot was empty."""
    cause, name = reason
    return CAUSES[cause].empty_because.format(printable(name))


def slot_use(record: TraceRecord) -> SlotUse:
    """Return the use of a run's slots."""
    spans = counted(record)
    bars = sorted(_bars(record, spans), key=lambda bar: (bar.began, bar.span.number))
    rows: list[list[Bar]] = []
    waited = (bar.span.scheduled_at for bar in bars)
    for bar, row in zip(bars, assign_lanes(((bar.began, bar.ended) for bar in bars), waited), strict=True):
        rows.extend([] for _ in range(row + 1 - len(rows)))
        rows[row].append(bar)
    found = {span.number: pieces(record, span) for span in spans}
    waiting = [
        ((cause, name), since, until)
        for parts in found.values()
        for (cause, name), times in parts.items()
        if isinstance(cause, WaitCause) and cause is not WaitCause.JOBS
        for since, until in times
    ]
    work = sum(until - since for parts in found.values() for since, until in parts.get(WORK, ()))
    window = record.roots[0].window if len(record.roots) == 1 and not record.nested else None
    number = len(rows)
    if window is not None:
        ready = [(since, until) for _, since, until in waiting]
        _, at_once = running([*((bar.began, bar.ended) for bar in bars), *ready])
        number = min(window, max([*at_once, number]))
    seconds = record.now - record.began
    empty: dict[Reason, float] = {}
    steps = tuple(_steps(record, bars, waiting, number))
    for (since, reasons), (until, _) in itertools.pairwise([*steps, (record.now, ())]):
        for reason, slots in reasons:
            empty[reason] = empty.get(reason, 0.0) + slots * (until - since)
    for reason, since, until in waiting:
        if reason[0] is WaitCause.MACHINE:  # the job had its slot
            empty[reason] = empty.get(reason, 0.0) + until - since
    rest = number * seconds - work - sum(empty.values())
    empty[NOTHING_READY] = max(0.0, rest)
    return SlotUse(seconds, number, window is not None, tuple(map(tuple, rows)), work, empty, steps)


def _bars(record: TraceRecord, spans: Iterable[Span]) -> Iterator[Bar]:
    for span in spans:
        if span.number in record.nested:
            continue
        for began, ended in span.throttled:
            yield Bar(began, ended, span)
        if span.started_at is not None:
            yield Bar(span.started_at, record.now if span.finished_at is None else span.finished_at, span)


def _steps(
    record: TraceRecord, bars: Iterable[Bar], waiting: Iterable[tuple[Reason, float, float]], number: int
) -> Iterator[tuple[float, tuple[tuple[Reason, int], ...]]]:
    """Yield the number of empty slots by reason over time, each at most the number of jobs that waited for it."""
    changes: dict[float, Counter[Reason | None]] = {record.began: Counter()}

    def change(what: Reason | None, since: float, until: float) -> None:
        changes.setdefault(since, Counter())[what] += 1
        changes.setdefault(until, Counter())[what] -= 1

    for bar in bars:
        change(None, bar.began, bar.ended)
    for reason, since, until in waiting:
        if reason[0] is not WaitCause.MACHINE:
            change(reason, since, until)
    now: Counter[Reason | None] = Counter()
    for at in sorted(changes):
        now.update(changes[at])
        free, found = number - now[None], list[tuple[Reason, int]]()
        for reason in sorted((cause for cause, count in now.items() if cause is not None and count > 0), key=_place):
            taken = min(free, now[reason])
            if taken > 0:
                found.append((reason, taken))
                free -= taken
        yield at, tuple(found)


ORDER: Final = tuple(WaitCause)


def _place(reason: Reason) -> tuple[int, str]:
    return ORDER.index(reason[0]), reason[1]
