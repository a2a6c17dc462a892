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
        lines = [self._format_row(row, details) for row in self._rows]
        return "\n".join(_align_lines(lines))

    # ---- the lines

    def _format_row(self, row: ListingRow, details: bool) -> LineParts:
        match row:
            case PlainRow(job, depth):
                references = self._requires_text(job)
                return self._format_job(job, depth, "", references, details)
            case BeginRow(job, depth):
                parts = (
                    self._requires_text(job),
                    clause("window={}", job.window_size),
                    f"-> entries={self._reference_set(_members.entry_jobs(job), job)}",
                )
                references = " ".join(filter(None, parts))
                return self._format_job(job, depth, "> ", references, details)
            case EndRow(job, depth):
                exits = f"exits={self._reference_set(_members.exit_jobs(job), job)}"
                end = "end".rjust(Symbols.job_symbols_width + 1 + len(INDENT * depth))
                left = f"{self._numbers[job]}  {end} < {self._kind_and_label(job)}"
                return LineParts(left, exits)
            case CycleRow(scheduler, depth):
                cycle = " requires ".join(
                    self._reference(job, scheduler) for job in closed_cycle(scheduler)
                )
                return LineParts(
                    f"{self._margin}{INDENT * depth}-- the remaining jobs are in the order added: cycle {cycle}"
                )

    def _format_job(
        self, job: AnyJob, depth: int, marker: str, references: str, details: bool
    ) -> LineParts:
        name = f"{INDENT * depth}{marker}{self._kind_and_label(job)}"
        left = f"{self._numbers[job]}  {self._symbols.job_symbols(job)}  {name}"
        tolerated = ""
        if job.state is _states.JobState.FAILED:
            tolerated = clause("(tolerated)", _job_queries.criticality(job) is False)
        outcome = clause("restored", job.restored)
        if details:
            outcome = self._outcome_text(job)
        right = "  ".join(filter(None, (tolerated, references, outcome)))
        return LineParts(left, right, duration_text(shown_elapsed(job), in_column=True))

    def _kind_and_label(self, job: AnyJob) -> str:
        text = f"<{type(job).__name__} {_labels.shorten(job.label)}>"
        return self._symbols.escape(text)

    def _requires_text(self, job: AnyJob) -> str:
        if not job.required:
            return ""
        inputs = _job_queries.inputs_of(job)
        text = f"requires={self._reference_set(job.required, job.scheduler, inputs)}"
        settled_only = _job_queries.settled_only_for(job)
        if settled_only:
            text += f" settled={self._reference_set(settled_only, job.scheduler)}"
        if job.run_if != "succeeded":
            text += f" run_if={job.run_if}"
        return text

    def _outcome_text(self, job: AnyJob) -> str:
        error = job.raised_exception()
        if error is not None:
            return f"!! {self._symbols.escape(_failure_text.one_line_text(error))}"
        if job.state is _states.JobState.SUCCEEDED:
            result = _job_queries.stored_result(job)
            text = "-> (redacted)"
            if result is _errors.DROPPED and not job.redact:
                text = "-> (given up)"
            elif result is None or not job.redact:
                text = f"-> {self._symbols.escape(short_repr(result))}"
            if job.restored:
                text += "  restored"
            reason = _job_queries.reason_not_restored(job)
            if reason:
                text += f"  not restored: {self._symbols.escape(reason)}"
            return text
        if job.is_running():
            fraction = _job_queries.fraction_done(job)
            progress = ""
            if fraction is not None:
                progress = percent_text(fraction)
            status = self._symbols.escape(_explain.get_status_text(job))
            return "  ".join(filter(None, (progress, status)))
        return self._symbols.escape((_explain.waiting(job) or _states.NO_WAIT).text)

    # ---- other jobs in a line

    def _reference_set(
        self,
        jobs: Iterable[AnyJob],
        scheduler: BaseScheduler | None,
        inputs: Container[AnyJob] = (),
    ) -> str:
        # The references can be sorted as text, because all numbers have the same length and "?" sorts after the digits.
        references = sorted(self._reference(job, scheduler, inputs) for job in jobs)
        return f"{{{', '.join(_collapse_ranges(references))}}}"

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
        number = self._numbers.get(job)
        if number is None:
            return f"?{self._symbols.escape(job.label)}"
        if job.scheduler is scheduler or job in inputs:
            return number
        return f"?{number}"


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
                inside = _rows_inside(row.job, row.depth + 1)
                stack.append(itertools.chain(inside, [EndRow(*row)]))
                break
        else:
            stack.pop()


def number_jobs(rows: Iterable[ListingRow]) -> dict[AnyJob, str]:
    """Return the number of each job as text, in the order of the rows, with leading zeros to make the lengths equal."""
    jobs = [row.job for row in rows if isinstance(row, (PlainRow, BeginRow))]
    width = _digit_count(jobs)
    return {job: f"{number:0{width}}" for number, job in enumerate(jobs, 1)}


def _collapse_ranges(references: Iterable[str]) -> Iterator[str]:
    """Yield sorted references, with three or more consecutive numbers merged into a range such as `204-303`."""
    for _, group in itertools.groupby(enumerate(references), _distance):
        adjacent = [reference for _, reference in group]
        if len(adjacent) > 2:
            yield f"{adjacent[0]}-{adjacent[-1]}"
        else:
            yield from adjacent


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
        others = itertools.filterfalse(set(order).__contains__, jobs)
        yield from (_create_row(job, depth) for job in others)


def _create_row(job: AnyJob, depth: int) -> PlainRow | BeginRow:
    if is_scheduler(job):
        return BeginRow(job, depth)
    return PlainRow(job, depth)


def closed_cycle(scheduler: BaseScheduler) -> list[AnyJob]:
    """Return the jobs of a cycle of requirements, with the first job repeated at the end.

    If there is no cycle, return an empty list.
    """
    requirements = partial(_job_queries.all_requirements, scheduler)
    cycle = _graph_algorithms.find_cycle(tuple(scheduler), requirements) or []
    return cycle + cycle[:1]


def _align_lines(lines: Iterable[LineParts]) -> Iterator[str]:
    """Yield each line as text, with the durations right-aligned in a column, and the right parts left-aligned."""
    measured_lines = [(line, display_width(line.left_part)) for line in lines]
    column_width = duration_width = 0
    for line, left_width in measured_lines:
        duration_width = max(duration_width, len(line.duration))
        if any(line[1:]) and left_width <= MAX_ALIGNED_WIDTH:
            column_width = max(column_width, left_width)
    for line, left_width in measured_lines:
        if not any(line[1:]):
            yield line.left_part
            continue
        padding = " " * (column_width - left_width)
        duration = ""
        if duration_width:
            duration = f"  {line.duration:>{duration_width}}"
        yield f"{line.left_part}{padding}{duration}  {line.right_part}".rstrip()
