"""`RowSelector`: selects and orders the jobs that a monitor shows in a terminal of a certain height.

If all jobs fit, each job has a line. Otherwise, the running jobs come first, then the failures, then the forever jobs.
The other jobs are only counted.

Lines do not jump, but the running job that exceeds its expected duration most takes the first one, as the most likely
to be stuck. A running job keeps its line. After the job has ended, its line remains until another job needs the
space. So the picture may grow, but it does not shrink when a job ends.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from ..._core.base._states import JobState, ReportedState
from ..._core.job._job import AnyJob
from ..text import _failure_text
from ..text._symbols import Symbols
from ..text._verdict import Tally
from ._model import MAX_KEPT_FAILURES, RunModel, iterate_in_listing_order
from ._records import JobRecord, SchedulerRecord

FAILURE_DIVISOR: Final = 3
"""At most one in this many job lines shows a failure."""

FOREVER_DIVISOR: Final = 6
"""At most one in this many job lines shows a forever job, while other jobs need the lines."""

MAX_FAILURE_ROWS: Final = 100
"""The maximum number of lines for failures in the last picture. `Scheduler.debrief` prints all failures."""


@dataclass(frozen=True, slots=True)
class JobRow:
    """The content of a line that shows a job."""

    job: JobRecord
    depth: int | None = None
    """The number of levels by which the line is indented in the tree of jobs; None if it is not part of a tree."""
    failure_count: int = 1
    """The number of jobs with failures of one kind, including this job."""
    has_other_messages: bool = False
    """Whether the messages of these failures differ."""


@dataclass(frozen=True, slots=True)
class SelectedRows:
    """The rows selected for a picture, and the number of jobs without a row."""

    rows: list[JobRow]
    hidden_counts: dict[str, int] | None = None
    """The number of jobs without a row, by state; None if the picture does not show this number."""
    forever_rows: list[JobRow] = field(default_factory=list[JobRow])
    """The rows of forever jobs, which are shown below all other rows."""


class RowSelector:
    """A selector of the rows for the pictures of one run. A running job keeps its line from picture to picture."""

    def __init__(self, model: RunModel) -> None:
        self._model: Final = model
        # The rows of all jobs, which are valid if the integer equals the model's `graph_revision`.
        self._cached_rows: tuple[int, list[JobRow]] = (-1, [])
        # The jobs that the latest picture has on the lines for running jobs. Some of them may have ended.
        self._jobs_on_running_lines: list[JobRecord] = []

    def select(self, height: int) -> SelectedRows:
        """Return the rows for a picture with at most `height` lines of jobs."""
        forever_jobs = list(self._model.forever_jobs)
        if self.all_jobs_fit(height):
            return SelectedRows(self._all_rows(), forever_rows=[JobRow(job) for job in forever_jobs])
        if self._model.ended_at is not None:
            return self._select_last_picture_rows()
        return self._select_flat(height, forever_jobs)

    def all_jobs_fit(self, height: int) -> bool:
        """Return whether `height` lines are enough for one line per job."""
        return self._row_count() <= height - len(self._model.forever_jobs)

    # ---- in listing order

    def _row_count(self) -> int:
        schedulers = self._model.root.iterate_schedulers()
        return sum(scheduler.counts.row_count for scheduler in schedulers if not scheduler.belongs_to_forever_job)

    def _all_rows(self) -> list[JobRow]:
        """Return the rows of all jobs except forever jobs, in the order of `Scheduler.list`."""
        revision, rows = self._cached_rows
        if revision != self._model.graph_revision:
            revision = self._model.graph_revision
            rows = [JobRow(job, depth) for job, depth in iterate_in_listing_order(self._model)]
            self._cached_rows = revision, rows
        return rows

    def _count_hidden_jobs(self, rows: Iterable[JobRow]) -> dict[str, int]:
        """Return the number of jobs without a row, by state."""
        counts = _counts_by_word(self._model.root.counts)
        for row in rows:
            if row.job.is_one_job or row.job.failed_by_itself:
                counts[_count_word(row.job.state)] -= row.failure_count
        return {word: number for word, number in counts.items() if number > 0}

    # ---- too many jobs for the height

    def _select_flat(self, height: int, forever_jobs: list[JobRecord]) -> SelectedRows:
        """Return rows for as many running jobs, failures and forever jobs as fit, without a tree."""
        row_limit = max(1, height - 1)  # one line shows the number of hidden jobs
        more_forever_jobs: list[JobRecord] = []  # these get only lines that other jobs do not need
        if len(forever_jobs) > 1:
            more_forever_jobs = forever_jobs[max(1, row_limit // FOREVER_DIVISOR) :]
            forever_jobs = forever_jobs[: max(1, row_limit // FOREVER_DIVISOR)]
        if height < 3:
            forever_jobs, more_forever_jobs = [], []
        failure_rows = self._failure_rows()
        failure_rows = failure_rows[: max(1, (row_limit - len(forever_jobs)) // FAILURE_DIVISOR)]
        running_jobs = self._assign_running_lines(max(0, row_limit - len(forever_jobs) - len(failure_rows)))
        rows = [*(JobRow(job) for job in running_jobs), *failure_rows]
        forever_jobs += more_forever_jobs[
            : max(0, row_limit - len(forever_jobs) - len(failure_rows) - len(running_jobs))
        ]
        return SelectedRows(rows, self._count_hidden_jobs(rows), [JobRow(job) for job in forever_jobs])

    def _select_last_picture_rows(self) -> SelectedRows:
        """Return the rows of the last picture: the failures, or none if other code prints the failures."""
        if self._model.are_failures_shown_elsewhere:
            return SelectedRows([])
        failure_rows = self._failure_rows()
        omitted_count = sum(row.failure_count for row in failure_rows[MAX_FAILURE_ROWS:])
        return SelectedRows(failure_rows[:MAX_FAILURE_ROWS], {"failed": omitted_count} if omitted_count else None)

    def _failure_rows(self) -> list[JobRow]:
        rows: list[JobRow] = []
        failed = sorted(
            self._model.failed_jobs_by_kind.items(), key=lambda item: _failure_text.FAILURE_ORDER.index(item[0][0])
        )
        for _, jobs in failed:
            if jobs:
                # An exception means that the thread of the run changed `jobs` at the same time.
                with contextlib.suppress(RuntimeError, StopIteration):
                    errors = [job.error for job in itertools.islice(jobs, MAX_KEPT_FAILURES)]
                    messages = {_failure_text.one_line_text(error) for error in errors if error is not None}
                    rows.append(JobRow(next(iter(jobs)), None, len(jobs), len(messages) > 1))
        return rows

    def _assign_running_lines(self, number: int) -> list[JobRecord]:
        """Return at most `number` jobs for the lines of running jobs. If possible, each line keeps its job."""
        jobs = [job for job in self._jobs_on_running_lines if job.state in (JobState.RUNNING, JobState.SUCCEEDED)]
        ended_jobs = [job for job in jobs if job.state is not JobState.RUNNING]
        surplus_jobs = set(ended_jobs[: max(0, len(jobs) - number)])
        jobs = [job for job in jobs if job not in surplus_jobs][:number]
        assigned_jobs = set(jobs)
        unassigned_jobs = (job for job in self._running_jobs() if job not in assigned_jobs)
        jobs = [job if job.state is JobState.RUNNING else next(unassigned_jobs, job) for job in jobs]
        jobs += itertools.islice(unassigned_jobs, number - len(jobs))
        if jobs and (slowest := self._find_slowest_job()) is not None:
            position = jobs.index(slowest) if slowest in jobs else 0  # it changes places with the first, if it has one
            jobs[position], jobs[0] = jobs[0], slowest
        self._jobs_on_running_lines = jobs
        return jobs

    def _find_slowest_job(self) -> JobRecord | None:
        """Return the running job that exceeds its expected duration by the largest factor; None if none exceeds it."""
        now, factors = self._model.clock(), dict[JobRecord, float]()
        for job in self._running_jobs():
            if (started := job.started_at) is not None and (expected := job.expected_duration):
                factors[job] = (now - started) / expected
        slowest = max(factors, key=factors.__getitem__, default=None)
        return None if slowest is None or factors[slowest] <= 1 else slowest

    def _running_jobs(self) -> list[JobRecord]:
        """Return the running jobs that count as jobs."""
        return [job for job in list(self._model.running_jobs) if job.is_one_job and job.first is None]


def _counts_by_word(tally: Tally) -> collections.Counter[str]:
    words = collections.Counter(running=0, failed=0, waiting=0, settled=0)  # in the order shown
    for state, number in tally.states():
        words[_count_word(state)] += number
    return words


def _count_word(state: ReportedState) -> str:
    if state in (JobState.RUNNING, JobState.FAILED):
        return str(state.value)
    return "settled" if state.is_settled else "waiting"


def enclosing_nested_schedulers(job: JobRecord) -> list[SchedulerRecord]:
    """Return the enclosing schedulers of a job, innermost first, without the outermost scheduler of the run."""
    return list(job.enclosing_schedulers())[:-1]


def full_name(job: JobRecord, symbols: Symbols) -> str:
    """Return the labels of a job's enclosing schedulers and of the job, separated by slashes: `tests/unit/parser`."""
    outer_labels = reversed([scheduler.job.label for scheduler in enclosing_nested_schedulers(job)])
    return symbols.escape("/".join([*outer_labels, job.job.label]))


def name_of(job: AnyJob, model: RunModel | None, symbols: Symbols) -> str:
    """Return the full name of a job; its label if the model does not have it."""
    record = None if model is None else model.records.get(job)
    return symbols.escape(job.label) if record is None else full_name(record, symbols)


def attempt_text(job: JobRecord) -> str:
    """Return the number of the current attempt, with the maximum number if known, as text: `attempt 2 of 3`."""
    attempts, retry = job.job.attempts, job.job.retry
    limit = 1 + (0 if retry is None else retry.times or 0)
    return f"attempt {attempts}{f' of {limit}' if limit >= attempts else ''}"
