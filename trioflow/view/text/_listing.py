"""`Listing`: the jobs of a scheduler as text, one per line, as `Scheduler.list` prints them.

```
1    ✓    <Job `fetch`>             1.4 s
2  ! ▸    > <Scheduler `analyse`>  12.1 s  requires={1} -> entries={3, 4}
3  ! ✓      <Job `parse`>          318 ms
4  ! ▸ ∞    <Job `watch`>          12.1 s
5  ! ·      <Job `count`>                  requires={3}
2     end < <Scheduler `analyse`>          exits={5}
```

Jobs are numbered before the first line is written, because a line may refer to jobs below it. `listing_rows` orders the
jobs, `Listing` formats a line for each, and `_align` puts the durations and the references to other jobs in columns.
The work is O(V + E), without recursion.
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
    percent_text,
    reason_not_restored,
    short_repr,
    shorten,
    status_of,
    stored_result,
    waiting,
    waits_for,
)
from . import _exception_text
from ._symbols import Symbols, width

MAX_ALIGNED_WIDTH: Final = 80
"""Width above which the left part of a line does not widen the column of the other lines."""

MIN_DURATION: Final = 0.05
"""Seconds below which no duration is shown: it would be mostly overhead, and make listings of equal runs differ."""

INDENT: Final = "  "
"""The indentation of the jobs in a nested scheduler, for each level."""


class Plain(NamedTuple):
    """The row of a job that is not a scheduler."""

    job: AnyJob
    depth: int


class Begin(NamedTuple):
    """The row of a nested scheduler, before those of its jobs."""

    job: BaseScheduler
    depth: int


class End(NamedTuple):
    """The row that ends a nested scheduler, after those of its jobs."""

    job: BaseScheduler
    depth: int


class Cycle(NamedTuple):
    """A remark that the following jobs in the scheduler `job` require each other in a cycle, or wait for such jobs."""

    job: BaseScheduler
    depth: int


Row = Plain | Begin | End | Cycle


class ListingRow(NamedTuple):
    """The parts of a line before alignment; `duration` and `right` each become a column."""

    left: str
    right: str = ""
    duration: str = ""


class Listing:
    """The listing of a scheduler: its jobs, those of nested schedulers included, each with a number."""

    def __init__(self, scheduler: BaseScheduler, symbols: Symbols) -> None:
        """Order and number the jobs; their states are read only when `text` is called."""
        self._symbols: Final = symbols
        self._rows: Final = tuple(listing_rows(scheduler))
        self._numbers: Final = number_jobs(self._rows)
        self._margin: Final = " " * (_digits(self._numbers) + 2 + Symbols.columns + 2)

    def text(self, details: bool = False, silence_done_jobs: bool = False, legend: bool = False) -> str:
        """Return the listing as text, without a newline at the end.

        Args:
            details: whether to add the outcome of each job, or the reason why it waits.
            silence_done_jobs: whether to leave out jobs that have ended.
            legend: whether to add the legend of the symbols below.

        Raises:
            TypeError: an option is neither True nor False.

        """
        for name, value in (("details", details), ("silence_done_jobs", silence_done_jobs), ("legend", legend)):
            flag(value, name, "list()")
        rows = _hide_done(self._rows) if silence_done_jobs else self._rows
        lines = "\n".join(_align([self._line(row, details) for row in rows]))
        return "\n\n".join(filter(None, [lines, self._symbols.legend() if legend else ""]))

    # ---- the lines

    def _line(self, row: Row, details: bool) -> ListingRow:
        match row:
            case Plain(job, depth):
                return self._job_line(job, depth, "", self._requires(job), details)
            case Begin(job, depth):
                entries = f"-> entries={self._reference_set(job.entry_jobs(), job)}"
                return self._job_line(job, depth, "> ", f"{self._requires(job)} {entries}".lstrip(), details)
            case End(job, depth):
                exits = f"exits={self._reference_set(job.exit_jobs(), job)}"
                end = "end".rjust(Symbols.columns + 1 + len(INDENT * depth))
                return ListingRow(f"{self._numbers[job]}  {end} < {self._kind_and_label(job)}", exits)
            case _:
                cycle = " -> ".join(self._reference(job, row.job) for job in closed_cycle(row.job))
                return ListingRow(
                    f"{self._margin}{INDENT * row.depth}-- from here on in the order added: cycle {cycle}"
                )

    def _job_line(self, job: AnyJob, depth: int, marker: str, references: str, details: bool) -> ListingRow:
        left = (
            f"{self._numbers[job]}  {self._symbols.for_job(job)}  {INDENT * depth}{marker}{self._kind_and_label(job)}"
        )
        right = "  ".join(filter(None, (references, self._outcome(job) if details else _restored(job))))
        return ListingRow(left, right, _duration(job))

    def _kind_and_label(self, job: AnyJob) -> str:
        return self._symbols.escape(f"<{type(job).__name__} `{shorten(job.label)}`>")

    def _requires(self, job: AnyJob) -> str:
        return f"requires={self._reference_set(job.required, job.scheduler, inputs_of(job))}" if job.required else ""

    def _outcome(self, job: AnyJob) -> str:
        error = job.raised_exception()
        if error is not None:
            return f"!! {self._symbols.escape(_exception_text.one_line(error))}"
        if job.state is JobState.SUCCEEDED:
            is_dropped = stored_result(job) is DROPPED
            result = "(given up)" if is_dropped else self._symbols.escape(short_repr(stored_result(job)))
            reason = reason_not_restored(job)
            remark = f"not restored: {self._symbols.escape(reason)}" if reason else ""
            return "  ".join(filter(None, (f"-> {result}", _restored(job), remark)))
        if job.is_running():
            progress = "" if job.fraction_done is None else percent_text(job.fraction_done)
            return "  ".join(filter(None, (progress, self._symbols.escape(status_of(job)))))
        wait = waiting(job)
        return "" if wait is None else self._symbols.escape(wait.text)

    # ---- other jobs in a line

    def _reference_set(
        self,
        jobs: Iterable[AnyJob],
        scheduler: BaseScheduler | None,
        inputs: Container[AnyJob] = (),
    ) -> str:
        # Sorting as text is enough: all numbers have the same length, and the question mark sorts after the digits.
        return "{" + ", ".join(_collapse_ranges(sorted(self._reference(job, scheduler, inputs) for job in jobs))) + "}"

    def _reference(self, job: AnyJob, scheduler: BaseScheduler | None, inputs: Container[AnyJob] = ()) -> str:
        """Return the number of a job, or its label if it is not listed.

        A question mark precedes the label, and the number of a job that is neither in `scheduler` nor among `inputs`:
        a member of `scheduler` may not require it.
        """
        number = self._numbers.get(job)
        if number is None:
            return "?" + self._symbols.escape(f"`{job.label}`")
        return number if job.scheduler is scheduler or job in inputs else "?" + number


def _restored(job: AnyJob) -> str:
    return "restored" if job.restored else ""


def _duration(job: AnyJob) -> str:
    elapsed = job.elapsed or 0.0
    return duration_text(elapsed, in_column=True) if elapsed >= MIN_DURATION else ""


def listing_rows(scheduler: BaseScheduler) -> Iterator[Row]:
    """Yield the rows of a scheduler's listing; a stack in place of recursion allows any depth of nesting."""
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


def number_jobs(rows: Iterable[Row]) -> dict[AnyJob, str]:
    """Return the number of each job in the order of the rows, padded with zeros to the same length."""
    jobs = [row.job for row in rows if isinstance(row, (Plain, Begin))]
    return {job: f"{number:0{_digits(jobs)}}" for number, job in enumerate(jobs, 1)}


def _collapse_ranges(references: Iterable[str]) -> Iterator[str]:
    """Yield sorted references, with three or more consecutive numbers merged into a range such as `204-303`."""
    for _, group in itertools.groupby(
        enumerate(references), lambda item: int(item[1]) - item[0] if item[1].isdigit() else item
    ):
        adjacent = [reference for _, reference in group]
        yield from [f"{adjacent[0]}-{adjacent[-1]}"] if len(adjacent) > 2 else adjacent


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


def closed_cycle(scheduler: BaseScheduler) -> list[AnyJob]:
    """Return the members of a cycle of requirements, with the first repeated at the end; empty if there is none."""
    cycle = find_cycle(tuple(scheduler), partial(waits_for, scheduler)) or []
    return cycle + cycle[:1]


def _hide_done(rows: Iterable[Row]) -> Iterator[Row]:
    """Leave out the rows of jobs that have ended, and of nested schedulers that have, with all their members."""
    hidden: BaseScheduler | None = None
    for row in rows:
        if hidden is not None:
            if isinstance(row, End) and row.job is hidden:
                hidden = None
        elif isinstance(row, Cycle) or not row.job.is_done():
            yield row
        elif isinstance(row, Begin):
            hidden = row.job


def _align(lines: Iterable[ListingRow]) -> Iterator[str]:
    """Yield each row as a line, with the durations right-aligned in one column, and the right parts left-aligned."""
    measured = [(line, width(line.left)) for line in lines]
    column = max((wide for line, wide in measured if any(line[1:]) and wide <= MAX_ALIGNED_WIDTH), default=0)
    longest = max((len(line.duration) for line, _ in measured), default=0)
    for line, wide in measured:
        duration = f"  {line.duration:>{longest}}" if longest else ""
        yield f"{line.left}{' ' * (column - wide)}{duration}  {line.right}".rstrip() if any(line[1:]) else line.left
