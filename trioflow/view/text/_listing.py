"""`Listing`: the jobs of a scheduler as text, one line each, as `Scheduler.list` prints them.

```
1    ✓    <Job `fetch`>             1.4 s
2  ! ▸    > <Scheduler `analyse`>  12.1 s  requires={1} -> entries={3, 4}
3  ! ✓      <Job `parse`>          318 ms
4  ! ▸ ∞    <Job `watch`>          12.1 s
5  ! ·      <Job `count`>                  requires={3}
2     end < <Scheduler `analyse`>          exits={5}
```

Jobs are numbered before the first line is written, because a line may refer to jobs below it. All of it is O(V + E)
and without recursion: `rows` orders the jobs, `Listing` writes a line for each, and `_aligned` aligns the durations and
the references to other jobs in one column each.
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Iterator, Sized
from functools import partial
from typing import Final, NamedTuple

from ..._core.api.views import (
    DROPPED,
    AnyJob,
    BaseScheduler,
    JobState,
    duration_text,
    find_cycle,
    find_implied,
    flag,
    in_order,
    inputs_of,
    is_scheduler,
    kept_of,
    not_restored,
    percent,
    shortened,
    shown,
    status_of,
    waiting,
    waits_for,
)
from . import _exception_text
from ._symbols import Symbols, width

WIDEST_ALIGNED: Final = 80
"""Columns above which a label does not widen the column for all lines."""

SHORTEST_SHOWN: Final = 0.05
"""Seconds below which no duration is shown: it is mostly overhead, and listings of two runs should be equal."""

INDENT: Final = "  "
"""The indentation of a nested scheduler's jobs."""


class Plain(NamedTuple):
    """The line of a job that is not a scheduler."""

    job: AnyJob
    depth: int


class Begin(NamedTuple):
    """The line of a nested scheduler; its jobs follow."""

    job: BaseScheduler
    depth: int


class End(NamedTuple):
    """The line after the jobs of a nested scheduler."""

    job: BaseScheduler
    depth: int


class Cycle(NamedTuple):
    """A remark: the following jobs of `job` require each other in a cycle, or wait for such jobs."""

    job: BaseScheduler
    depth: int


Row = Plain | Begin | End | Cycle


class ListingRow(NamedTuple):
    """An unaligned line: `took` and `right` become columns."""

    left: str
    right: str = ""
    took: str = ""


class Listing:
    """The jobs of a scheduler, nested ones included, each with its number, in the given symbols."""

    def __init__(self, scheduler: BaseScheduler, symbols: Symbols) -> None:
        """Put the jobs in order; their states are read when the lines are written."""
        self._symbols: Final = symbols
        self._rows: Final = tuple(rows(scheduler))
        self._numbers: Final = numbered(self._rows)
        self.jobs: Final = tuple(self._numbers)
        self._margin: Final = " " * (_digits(self.jobs) + 2 + Symbols.columns + 2)

    def text(self, details: bool = False, silence_done_jobs: bool = False, legend: bool = False) -> str:
        """Return the lines, without a newline after the last; the legend stands below them.

        Raises:
            TypeError: an option is neither True nor False.

        """
        for name, given in (("details", details), ("silence_done_jobs", silence_done_jobs), ("legend", legend)):
            flag(given, name, "list()")
        rows = _without_done(self._rows) if silence_done_jobs else self._rows
        lines = "\n".join(_aligned([self._line(row, details) for row in rows]))
        return "\n\n".join(filter(None, [lines, self._symbols.legend() if legend else ""]))

    def name(self, job: AnyJob) -> str:
        """Return number, kind and label; the number of a job that is not listed is a question mark."""
        return f"{self._numbers.get(job, '?')} {self._kind(job)}"

    # ---- the lines

    def _line(self, row: Row, details: bool) -> ListingRow:
        match row:
            case Plain(job, depth):
                return self._job_line(job, depth, "", self._requires(job), details)
            case Begin(job, depth):
                entries = f"-> entries={self._set(job.entry_jobs(), job)}"
                return self._job_line(job, depth, "> ", f"{self._requires(job)} {entries}".lstrip(), details)
            case End(job, depth):
                exits = f"exits={self._set(job.exit_jobs(), job)}"
                end = "end".rjust(Symbols.columns + 1 + len(INDENT * depth))
                return ListingRow(f"{self._numbers[job]}  {end} < {self._kind(job)}", exits)
            case _:
                cycle = " -> ".join(self._reference(job, row.job) for job in cycle_of(row.job))
                return ListingRow(
                    f"{self._margin}{INDENT * row.depth}-- from here on in the order added: cycle {cycle}"
                )

    def _job_line(self, job: AnyJob, depth: int, begin: str, says: str, details: bool) -> ListingRow:
        left = f"{self._numbers[job]}  {self._symbols.for_job(job)}  {INDENT * depth}{begin}{self._kind(job)}"
        right = "  ".join(filter(None, (says, self._outcome(job) if details else _restored(job))))
        return ListingRow(left, right, _took(job))

    def _kind(self, job: AnyJob) -> str:
        return self._symbols.line(f"<{type(job).__name__} `{shortened(job.label)}`>")

    def _requires(self, job: AnyJob) -> str:
        return f"requires={self._set(job.required, job.scheduler, inputs_of(job))}" if job.required else ""

    def _outcome(self, job: AnyJob) -> str:
        error = job.raised_exception()
        if error is not None:
            return f"!! {self._symbols.line(_exception_text.exception(error))}"
        if job.state is JobState.SUCCEEDED:
            given_up = kept_of(job) is DROPPED
            result = "(given up)" if given_up else self._symbols.line(shown(kept_of(job)))
            why = not_restored(job)
            return "  ".join(
                filter(None, (f"-> {result}", _restored(job), why and f"not restored: {self._symbols.line(why)}"))
            )
        if job.is_running():
            done = "" if job.fraction_done is None else percent(job.fraction_done)
            return "  ".join(filter(None, (done, self._symbols.line(status_of(job)))))
        wait = waiting(job)
        return "" if wait is None else self._symbols.line(wait.text)

    # ---- other jobs in a line

    def _set(
        self,
        jobs: Iterable[AnyJob],
        scheduler: BaseScheduler | None,
        inputs: Container[AnyJob] = (),
    ) -> str:
        # Sorting them as text is enough: numbers have the same length, and a question mark sorts after the digits.
        return "{" + ", ".join(_ranges(sorted(self._reference(job, scheduler, inputs) for job in jobs))) + "}"

    def _reference(self, job: AnyJob, scheduler: BaseScheduler | None, inputs: Container[AnyJob] = ()) -> str:
        """Return a job's number, or its label; with a question mark in front if it must not be required from there."""
        number = self._numbers.get(job)
        if number is None:
            return "?" + self._symbols.line(f"`{job.label}`")
        return number if job.scheduler is scheduler or job in inputs else "?" + number


def _restored(job: AnyJob) -> str:
    return "restored" if job.restored else ""


def _took(job: AnyJob) -> str:
    elapsed = job.elapsed or 0.0
    return duration_text(elapsed, in_column=True) if elapsed >= SHORTEST_SHOWN else ""


def rows(scheduler: BaseScheduler) -> Iterator[Row]:
    """Yield the rows of the listing; a stack, not recursion, reaches any depth of nesting."""
    find_implied(scheduler)
    stack = [_rows_inside(scheduler, 0)]
    while stack:
        for row in stack[-1]:
            yield row
            if isinstance(row, Begin):
                stack.append(itertools.chain(_rows_inside(row.job, row.depth + 1), [End(*row)]))
                break
        else:
            stack.pop()


def numbered(lines: Iterable[Row]) -> dict[AnyJob, str]:
    """Return the jobs in the order of their lines, each with its number; all numbers have the same length."""
    jobs = [row.job for row in lines if isinstance(row, (Plain, Begin))]
    return {job: f"{number:0{_digits(jobs)}}" for number, job in enumerate(jobs, 1)}


def _ranges(references: Iterable[str]) -> Iterator[str]:
    """Yield the references in their order; three or more consecutive numbers become one range, such as `204-303`."""
    for _, run in itertools.groupby(
        enumerate(references), lambda item: int(item[1]) - item[0] if item[1].isdigit() else item
    ):
        found = [reference for _, reference in run]
        yield from [f"{found[0]}-{found[-1]}"] if len(found) > 2 else found


def _digits(jobs: Sized) -> int:
    return len(str(len(jobs)))


def _rows_inside(scheduler: BaseScheduler, depth: int) -> Iterator[Row]:
    jobs = tuple(scheduler)
    order = in_order(scheduler)
    yield from (_row(job, depth) for job in order)
    if len(order) < len(jobs):
        yield Cycle(scheduler, depth)
        ordered = set(order)
        yield from (_row(job, depth) for job in jobs if job not in ordered)


def _row(job: AnyJob, depth: int) -> Plain | Begin:
    return Begin(job, depth) if is_scheduler(job) else Plain(job, depth)


def cycle_of(scheduler: BaseScheduler) -> list[AnyJob]:
    """Return the members of a cycle, the first one again at the end."""
    cycle = find_cycle(tuple(scheduler), partial(waits_for, scheduler)) or []
    return cycle + cycle[:1]


def _without_done(shown: Iterable[Row]) -> Iterator[Row]:
    """Drop settled jobs, and settled nested schedulers with all their members."""
    left_out: BaseScheduler | None = None
    for row in shown:
        if left_out is not None:
            if isinstance(row, End) and row.job is left_out:
                left_out = None
        elif isinstance(row, Cycle) or not row.job.is_done():
            yield row
        elif isinstance(row, Begin):
            left_out = row.job


def _aligned(lines: Iterable[ListingRow]) -> Iterator[str]:
    """Join the parts of each line: times end in one column, if there are any, and the right parts begin in the next."""
    measured = [(line, width(line.left)) for line in lines]
    column = max((wide for line, wide in measured if any(line[1:]) and wide <= WIDEST_ALIGNED), default=0)
    longest = max((len(line.took) for line, _ in measured), default=0)
    for line, wide in measured:
        took = f"  {line.took:>{longest}}" if longest else ""
        yield f"{line.left}{' ' * (column - wide)}{took}  {line.right}".rstrip() if any(line[1:]) else line.left
