"""`Listing`: the jobs of a scheduler as text, one line each, as `Scheduler.list` prints them.

```
1    ☉ ☓    <Job `fetch`>
2  ⚠ ☉ ↺    > <Scheduler `analyse`>  requires={1} -> entries={3, 4}
3  ⚠ ☉ ☓      <Job `parse`>
4  ⚠ ☉ ↺ ∞    <Job `watch`>
5  ⚠   ⚐      <Job `count`>          requires={3}
2       end < <Scheduler `analyse`>  exits={5}
```

Each job has its number before the first line is written, for a line may name jobs that stand below it. All of it is
O(V + E) and without recursion: `rows` puts the jobs into their order, `Listing` writes a line for each, `_aligned`
moves what they say of other jobs into one column.
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Iterator, Sized
from typing import Any, Final, NamedTuple

from .._core import _checks, _graph
from .._core._jobs import AbstractJob
from .._core._outcomes import FREED
from .._core._scheduler import BaseScheduler
from .._core._states import JobState
from . import _values
from ._script import Script, width

WIDEST_ALIGNED: Final = 80
"""Columns: a longer line, because of its label, does not push what the others require out of the terminal."""

INDENT: Final = "  "
"""A nested scheduler's jobs stand so much further to the right."""


class Plain(NamedTuple):
    """The one line of a job that is no scheduler."""

    job: AbstractJob[Any]
    depth: int


class Begin(NamedTuple):
    """The line of a nested scheduler; its jobs follow."""

    job: BaseScheduler
    depth: int


class End(NamedTuple):
    """The line behind the jobs of a nested scheduler."""

    job: BaseScheduler
    depth: int


class Cycle(NamedTuple):
    """The remark that the jobs of `job` that follow require each other in a circle, or wait for such."""

    job: BaseScheduler
    depth: int


Row = Plain | Begin | End | Cycle


class Line(NamedTuple):
    """A line in the making: `right` is going to stand in one column with that of the other lines."""

    left: str
    right: str = ""


class Listing:
    """The jobs of a scheduler, nested ones included, each with its number, as one script shows them."""

    def __init__(self, scheduler: BaseScheduler, script: Script) -> None:
        """Put the jobs into their order; what became of them is looked at when the lines are written."""
        self._script: Final = script
        self._rows: Final = tuple(rows(scheduler))
        self._numbers: Final = numbered(self._rows)
        self.jobs: Final = tuple(self._numbers)
        self._margin: Final = " " * (_digits(self.jobs) + 2 + Script.columns + 2)

    def text(self, details: bool = False, silence_done_jobs: bool = False) -> str:
        """Return the lines, with no newline behind the last."""
        shown = _without_done(self._rows) if silence_done_jobs else self._rows
        return "\n".join(_aligned([self._line(row, details) for row in shown]))

    def name(self, job: AbstractJob[Any]) -> str:
        """Return number, kind and label; for a job that is not listed, a question mark as its number."""
        return f"{self._numbers.get(job, '?')} {self._kind(job)}"

    # ---- the lines

    def _line(self, row: Row, details: bool) -> Line:
        match row:
            case Plain(job, depth):
                return self._job_line(job, depth, "", self._requires(job), details)
            case Begin(job, depth):
                entries = f"-> entries={self._set(job.entry_jobs(), job)}"
                return self._job_line(job, depth, "> ", f"{self._requires(job)} {entries}".lstrip(), details)
            case End(job, depth):
                exits = f"exits={self._set(job.exit_jobs(), job)}"
                end = "end".rjust(Script.columns + 1 + len(INDENT * depth))
                return Line(f"{self._numbers[job]}  {end} < {self._kind(job)}", exits)
            case _:
                cycle = " -> ".join(self._reference(one, row.job) for one in _one_cycle(row.job))
                return Line(f"{self._margin}{INDENT * row.depth}-- from here on in the order added: cycle {cycle}")

    def _job_line(self, job: AbstractJob[Any], depth: int, begin: str, says: str, details: bool) -> Line:
        left = f"{self._numbers[job]}  {self._script.signs(job)}  {INDENT * depth}{begin}{self._kind(job)}"
        return Line(left, "  ".join(filter(None, (says, self._outcome(job) if details else ""))))

    def _kind(self, job: AbstractJob[Any]) -> str:
        return self._script.line(f"<{type(job).__name__} `{job.label}`>")

    def _requires(self, job: AbstractJob[Any]) -> str:
        return f"requires={self._set(job.required, job.scheduler, _inputs(job))}" if job.required else ""

    def _outcome(self, job: AbstractJob[Any]) -> str:
        error = job.raised_exception()
        if error is not None:
            kind = "CRIT. EXC." if job.is_critical() else "exception"
            return f"!! {kind} => {self._script.line(_values.exception(error))}!!"
        if job.state is JobState.SUCCEEDED:
            if job._outcome is FREED:
                return "[[ given up ]]"
            return f"[[ -> {self._script.line(_values.result(job.result()))}]]"
        return ""

    # ---- other jobs in a line

    def _set(
        self,
        jobs: Iterable[AbstractJob[Any]],
        scheduler: BaseScheduler | None,
        inputs: Container[AbstractJob[Any]] = (),
    ) -> str:
        # As text they are in order: numbers have the same length, and a question mark stands behind the digits.
        return "{" + ", ".join(sorted(self._reference(job, scheduler, inputs) for job in jobs)) + "}"

    def _reference(
        self, job: AbstractJob[Any], scheduler: BaseScheduler | None, inputs: Container[AbstractJob[Any]] = ()
    ) -> str:
        """Return a job's number, its label if it has none; behind a question mark if it may not stand elsewhere."""
        number = self._numbers.get(job)
        if number is None:
            return "?" + self._script.line(f"`{job.label}`")
        return number if job.scheduler is scheduler or job in inputs else "?" + number


def _inputs(job: AbstractJob[Any]) -> Container[AbstractJob[Any]]:
    """Return the jobs whose results it gets: those may stand in other schedulers."""
    return job._rule.inputs if job._rule is not None else ()


def rows(scheduler: BaseScheduler) -> Iterator[Row]:
    """Yield what the listing shows, line by line; nested schedulers wait on a stack, to any depth."""
    stack = [_rows_inside(scheduler, 0)]
    while stack:
        for row in stack[-1]:
            yield row
            if isinstance(row, Begin):
                stack.append(itertools.chain(_rows_inside(row.job, row.depth + 1), [End(*row)]))
                break
        else:
            stack.pop()


def numbered(lines: Iterable[Row]) -> dict[AbstractJob[Any], str]:
    """Return the jobs in the order of their lines, each with its number; all numbers are of the same length."""
    jobs = [row.job for row in lines if isinstance(row, (Plain, Begin))]
    return {job: f"{number:0{_digits(jobs)}}" for number, job in enumerate(jobs, 1)}


def _digits(jobs: Sized) -> int:
    return len(str(len(jobs)))


def _rows_inside(scheduler: BaseScheduler, depth: int) -> Iterator[Row]:
    jobs = tuple(scheduler)
    _checks.imply_all(scheduler)
    order = _graph.topological_order(jobs, scheduler._waits_for)
    yield from (_row(job, depth) for job in order)
    if len(order) < len(jobs):
        yield Cycle(scheduler, depth)
        ordered = set(order)
        yield from (_row(job, depth) for job in jobs if job not in ordered)


def _row(job: AbstractJob[Any], depth: int) -> Plain | Begin:
    return Begin(job, depth) if isinstance(job, BaseScheduler) else Plain(job, depth)


def _one_cycle(scheduler: BaseScheduler) -> list[AbstractJob[Any]]:
    cycle = _graph.find_cycle(tuple(scheduler), scheduler._waits_for) or []
    return cycle + cycle[:1]


def _without_done(shown: Iterable[Row]) -> Iterator[Row]:
    """Leave out the jobs that are done, and with a nested scheduler that is done all that is in it."""
    left_out: BaseScheduler | None = None
    for row in shown:
        if left_out is not None:
            if isinstance(row, End) and row.job is left_out:
                left_out = None
        elif isinstance(row, Cycle) or not row.job.is_done():
            yield row
        elif isinstance(row, Begin):
            left_out = row.job


def _aligned(lines: Iterable[Line]) -> Iterator[str]:
    """Join the two parts of each line so that the right ones begin in one column, where the left ones let them."""
    measured = [(line, width(line.left)) for line in lines]
    column = max((wide for line, wide in measured if line.right and wide <= WIDEST_ALIGNED), default=0)
    for line, wide in measured:
        yield f"{line.left}{' ' * (column - wide)}  {line.right}" if line.right else line.left
