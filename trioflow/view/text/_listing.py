"""`Listing`: the jobs of a scheduler as text, each on a line, as `Scheduler.list` prints them.

```
1    ✓    <Job fetch>             1.4 s
2  ! ▸    > <Scheduler analyze>  12.1 s  requires={1} -> entries={3, 4}
3  ! ✓      <Job parse>          318 ms
4  ! ▸ ∞    <Job watch>          12.1 s
5  ! ·      <Job count>                  requires={3}
2     end < <Scheduler analyze>          exits={5}
```

All jobs are numbered before the first line is formatted, because a line may refer to jobs below it. `listing_rows`
orders the jobs, `Listing` formats a line for each, and `_align_lines` puts the durations and the references to other
jobs in columns. A listing takes O(V + E) time, and needs no recursion.
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Iterator, Sized
from functools import partial
from typing import Final, Generic, NamedTuple, TypeVar

from ..._core.base import _graph_algorithms, _states
from ..._core.base._text_forms import clause, duration_text, percent_text, short_repr
from ..._core.job import _errors, _job_options, _labels
from ..._core.job._job import AnyJob, is_scheduler
from ..._core.scheduler import _checks, _members
from ..._core.scheduler._base_scheduler import BaseScheduler
from ..._core.words import _explain, _job_queries
from . import _failure_text
from ._symbols import Symbols, display_width

MAX_ALIGNED_WIDTH: Final = 80
"""The maximum width of the left column. A line with a wider left part is not aligned with the others."""

MIN_SHOWN_DURATION: Final = 0.05
"""The shortest duration to show, in seconds. Shorter durations are mostly overhead, and vary between equal runs."""

INDENT: Final = "  "
RowJob = TypeVar("RowJob", bound=AnyJob)


class _Row(NamedTuple, Generic[RowJob]):
    """The row of a job, or of a scheduler, at a depth of nesting."""

    job: RowJob
    depth: int


class PlainRow(_Row[AnyJob]):
    """The row of a job that is not a scheduler."""


class BeginRow(_Row[BaseScheduler]):
    """The first row of a nested scheduler, before the rows of its jobs."""


class EndRow(_Row[BaseScheduler]):
    """The last row of a nested scheduler, after the rows of its jobs."""


class CycleRow(_Row[BaseScheduler]):
    """A row that shows a cycle of requirements in the scheduler `job`.

    The rows below it have the jobs that are in a cycle, or that wait for such jobs.
    """


ListingRow = PlainRow | BeginRow | EndRow | CycleRow


class LineParts(NamedTuple):
    """The parts of a line of text before they are aligned. Each part becomes a column."""

    left_part: str
    right_part: str = ""
    duration: str = ""


class Listing:
    """The listing of a scheduler: numbered lines for its jobs, including jobs of nested schedulers."""

    def __init__(self, scheduler: BaseScheduler, symbols: Symbols) -> None:
        """Order and number the jobs. Their states are read only when `text` is called."""
        self._symbols: Final = symbols
        self._rows: Final = tuple(listing_rows(scheduler))
        self._numbers: Final = number_jobs(self._rows)
        self._margin: Final = " " * (
            _digit_count(self._numbers) + 2 + Symbols.job_symbols_width + 2
        )

    def text(self, details: bool = False) -> str:
        """Return the listing as text, without a newline at the end.

        Args:
            details: whether to add the outcome of each settled job, and the reason why each waiting job waits.

        Raises:
            TypeError: `details` is neither True nor False.

        """
        _job_options.flag(details, "details", "list()")
        return "\n".join(
            _align_lines([self._format_row(row, details) for row in self._rows])
        )

    # ---- the lines

    def _format_row(self, row: ListingRow, details: bool) -> LineParts:
        match row:
            case PlainRow(job, depth):
                return self._format_job(
                    job, depth, "", self._requires_text(job), details
                )
            case BeginRow(job, depth):
                window = clause("window={}", job.window_size)
                entries = (
                    f"-> entries={self._reference_set(_members.entry_jobs(job), job)}"
                )
                references = " ".join(
                    filter(None, (self._requires_text(job), window, entries))
                )
                return self._format_job(job, depth, "> ", references, details)
            case EndRow(job, depth):
                exits = f"exits={self._reference_set(_members.exit_jobs(job), job)}"
                end = "end".rjust(Symbols.job_symbols_width + 1 + len(INDENT * depth))
                return LineParts(
                    f"{self._numbers[job]}  {end} < {self._kind_and_label(job)}", exits
                )
            case _:
                cycle = " requires ".join(
                    self._reference(job, row.job) for job in closed_cycle(row.job)
                )
                return LineParts(
                    f"{self._margin}{INDENT * row.depth}-- the remaining jobs are in the order added: cycle {cycle}"
                )

    def _format_job(
        self, job: AnyJob, depth: int, marker: str, references: str, details: bool
    ) -> LineParts:
        name = f"{INDENT * depth}{marker}{self._kind_and_label(job)}"
        left = f"{self._numbers[job]}  {self._symbols.job_symbols(job)}  {name}"
        tolerated = clause(
            "(tolerated)",
            job.state is _states.JobState.FAILED
            and _job_queries.criticality(job) is False,
        )
        if details:
            outcome = self._outcome_text(job)
        else:
            outcome = "restored" * job.restored
        right = "  ".join(filter(None, (tolerated, references, outcome)))
        return LineParts(left, right, duration_text(shown_elapsed(job), in_column=True))

    def _kind_and_label(self, job: AnyJob) -> str:
        return self._symbols.escape(
            f"<{type(job).__name__} {_labels.shorten(job.label)}>"
        )

    def _requires_text(self, job: AnyJob) -> str:
        if not job.required:
            return ""
        settled_only = _job_queries.settled_only_for(job)
        condition = clause(
            " settled={}",
            settled_only and self._reference_set(settled_only, job.scheduler),
        )
        condition += clause(f" run_if={job.run_if}", job.run_if != "succeeded")
        return f"requires={self._reference_set(job.required, job.scheduler, _job_queries.inputs_of(job))}{condition}"

    def _outcome_text(self, job: AnyJob) -> str:
        if (error := job.raised_exception()) is not None:
            return f"!! {self._symbols.escape(_failure_text.one_line_text(error))}"
        if job.state is _states.JobState.SUCCEEDED:
            result = _job_queries.stored_result(job)
            result_text = "(given up)"
            if result is not _errors.DROPPED:
                result_text = self._symbols.escape(short_repr(result))
            if job.redact and result is not None:
                result_text = "(redacted)"
            reason = _job_queries.reason_not_restored(job)
            remark = clause("not restored: {}", reason and self._symbols.escape(reason))
            return "  ".join(
                filter(None, (f"-> {result_text}", "restored" * job.restored, remark))
            )
        if job.is_running():
            fraction = _job_queries.fraction_done(job)
            progress = ""
            if fraction is not None:
                progress = percent_text(fraction)
            return "  ".join(
                filter(
                    None,
                    (progress, self._symbols.escape(_explain.get_status_text(job))),
                )
            )
        return self._symbols.escape((_explain.waiting(job) or _states.NO_WAIT).text)

    # ---- other jobs in a line

    def _reference_set(
        self,
        jobs: Iterable[AnyJob],
        scheduler: BaseScheduler | None,
        inputs: Container[AnyJob] = (),
    ) -> str:
        # The references can be sorted as text, because all numbers have the same length and "?" sorts after the digits.
        return (
            "{"
            + ", ".join(
                _collapse_ranges(
                    sorted(self._reference(job, scheduler, inputs) for job in jobs)
                )
            )
            + "}"
        )

    def _reference(
        self,
        job: AnyJob,
        scheduler: BaseScheduler | None,
        inputs: Container[AnyJob] = (),
    ) -> str:
        """Return a text that refers to a job: its number, e.g. "3", or its label if it is not listed, e.g. "?fetch".

        The number has a question mark, e.g. "?3", if the job is neither in `scheduler` nor among `inputs`, because a
        member of `scheduler` may not require such a job.
        """
        if (number := self._numbers.get(job)) is None:
            return "?" + self._symbols.escape(job.label)
        return number if job.scheduler is scheduler or job in inputs else "?" + number


def shown_elapsed(job: AnyJob) -> float | None:
    """Return the seconds that a job took, if listings and graphs show them, otherwise None."""
    seconds = job.took
    return seconds if (seconds or 0.0) >= MIN_SHOWN_DURATION else None


def listing_rows(scheduler: BaseScheduler) -> Iterator[ListingRow]:
    """Yield the rows of a scheduler's listing, at any depth of nesting, without recursion."""
    _checks.store_implied_requirements(scheduler)
    stack = [_rows_inside(scheduler, 0)]
    while stack:
        for row in stack[-1]:
            yield row
            if isinstance(row, BeginRow):
                stack.append(
                    itertools.chain(
                        _rows_inside(row.job, row.depth + 1), [EndRow(*row)]
                    )
                )
                break
        else:
            stack.pop()


def number_jobs(rows: Iterable[ListingRow]) -> dict[AnyJob, str]:
    """Return the number of each job as text, in the order of the rows, with leading zeros to make the lengths equal."""
    jobs = [row.job for row in rows if isinstance(row, (PlainRow, BeginRow))]
    return {
        job: f"{number:0{_digit_count(jobs)}}" for number, job in enumerate(jobs, 1)
    }


def _collapse_ranges(references: Iterable[str]) -> Iterator[str]:
    """Yield sorted references, with three or more consecutive numbers merged into a range such as `204-303`."""
    for _, group in itertools.groupby(enumerate(references), _distance):
        adjacent = [reference for _, reference in group]
        yield from [f"{adjacent[0]}-{adjacent[-1]}"] if len(adjacent) > 2 else adjacent


def _distance(item: tuple[int, str]) -> object:
    """Return the difference between a number and its position, which adjacent numbers share, or an item of its own."""
    position, reference = item
    if reference.isdigit():
        return int(reference) - position
    return item


def _digit_count(jobs: Sized) -> int:
    return len(str(len(jobs)))


def _rows_inside(scheduler: BaseScheduler, depth: int) -> Iterator[ListingRow]:
    jobs = tuple(scheduler)
    order = _job_queries.members_in_order(scheduler)
    yield from (_create_row(job, depth) for job in order)
    if len(order) < len(jobs):
        yield CycleRow(scheduler, depth)
        ordered = set(order)
        yield from (_create_row(job, depth) for job in jobs if job not in ordered)


def _create_row(job: AnyJob, depth: int) -> PlainRow | BeginRow:
    if is_scheduler(job):
        return BeginRow(job, depth)
    return PlainRow(job, depth)


def closed_cycle(scheduler: BaseScheduler) -> list[AnyJob]:
    """Return the jobs of a cycle of requirements, with the first job repeated at the end.

    If there is no cycle, return an empty list.
    """
    cycle = (
        _graph_algorithms.find_cycle(
            tuple(scheduler), partial(_job_queries.all_requirements, scheduler)
        )
        or []
    )
    return cycle + cycle[:1]


def _align_lines(lines: Iterable[LineParts]) -> Iterator[str]:
    """Yield each line as text, with the durations right-aligned in a column, and the right parts left-aligned."""
    measured_lines = [(line, display_width(line.left_part)) for line in lines]
    left_widths = [left_width for line, left_width in measured_lines if any(line[1:])]
    column_width = max(
        filter(lambda left_width: left_width <= MAX_ALIGNED_WIDTH, left_widths),
        default=0,
    )
    duration_width = max((len(line.duration) for line, _ in measured_lines), default=0)
    for line, left_width in measured_lines:
        padding = " " * (column_width - left_width)
        duration = ""
        if duration_width:
            duration = f"  {line.duration:>{duration_width}}"
        if any(line[1:]):
            yield f"{line.left_part}{padding}{duration}  {line.right_part}".rstrip()
        else:
            yield line.left_part
