"""`RowSelector`: selects the jobs that a monitor shows in a terminal of a given height, and their order.

If all jobs fit, each has a line. If not, each nested scheduler is folded to one line with the counts of its jobs, and
unfolded only around jobs that run or have failed. Without nested schedulers, the running jobs come first, then
failures, then forever jobs; the other jobs are counted.

The lines do not jump: a running job keeps its line, and when it has ended, the line stays until another job needs it.
So the picture may grow, but does not shrink when a job ends.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from ..._core.api.views import JobState
from ..text._symbols import Symbols
from ._model import JobCounts, Model, in_listing_order
from ._records import JobRecord, SchedulerRecord

FAILURE_SHARE: Final = 3
"""The divisor of the height that gives the maximum number of lines for failures: a third of the height."""

FOREVER_SHARE: Final = 6
"""The divisor of the height that gives the maximum number of lines for forever jobs: a sixth of the height."""

MAX_FAILURES: Final = 100
"""The number of failures shown when the run has ended; the debrief has all of them."""


@dataclass(frozen=True, slots=True)
class JobRow:
    """The line of one job."""

    job: JobRecord
    depth: int | None = None
    """The number of enclosing schedulers that have lines above; None if the line is not part of the tree of jobs."""
    equal_failures: int = 1
    """The number of jobs with the same failure, including this one."""


@dataclass(frozen=True, slots=True)
class SelectedRows:
    """The rows of a picture, and the jobs without a row."""

    rows: list[JobRow]
    hidden: dict[str, int] | None = None
    """The number of jobs without a row by state; None if all jobs have one."""
    forever_rows: list[JobRow] = field(default_factory=list[JobRow])
    """The rows of forever jobs, below the others."""


class RowSelector:
    """A selector of rows for the pictures of one run; running jobs keep their lines from picture to picture."""

    def __init__(self, model: Model) -> None:
        self._model: Final = model
        # Caches, each with the revision of the model: the rows of all jobs, and the positions of a scheduler's members.
        self._listed: tuple[int, list[JobRow]] = (-1, [])
        self._places: Final[dict[SchedulerRecord, tuple[int, dict[JobRecord, int]]]] = {}
        self._slots: list[JobRecord] = []  # the jobs on the lines for running jobs, in the previous picture

    def rows(self, height: int) -> SelectedRows:
        """Return the rows for a height in lines."""
        forever_jobs = list(self._model.forever_records)
        if self.fits(height):
            return SelectedRows(self._all_rows(), forever_rows=[JobRow(job) for job in forever_jobs])
        if self._model.ended is not None:
            return self._select_final()
        if any(not nested.forever for nested in list(self._model.root.nested)):
            return self._select_folded(height, forever_jobs)
        return self._select_flat(height, forever_jobs)

    def fits(self, height: int) -> bool:
        """Return whether all jobs fit in a height."""
        return self._row_count() <= height - len(self._model.forever_records)

    # ---- in listing order

    def _row_count(self) -> int:
        return sum(tally.rows for tally in list(self._model.tallies.values()) if not tally.is_separate)

    def _all_rows(self) -> list[JobRow]:
        """Return the rows of all jobs except forever jobs, in the order of the listing."""
        revision, rows = self._listed
        if revision != self._model.revision:
            revision = self._model.revision
            rows = [JobRow(job, depth) for job, depth in in_listing_order(self._model)]
            self._listed = revision, rows
        return rows

    def _sort_key(self, job: JobRecord) -> tuple[int, ...]:
        """Return a sort key for the order of the listing: the positions of the enclosing schedulers and of the job."""
        positions: list[int] = []
        for outer in job.enclosing_schedulers():
            revision, places = self._places.get(outer, (-1, {}))
            if revision != self._model.revision:
                revision = self._model.revision
                places = {member: number for number, member in enumerate(self._model.source.in_order(outer))}
                self._places[outer] = revision, places
            positions.append(places.get(job, len(places)))
            job = outer
        return tuple(reversed(positions))

    def _select_folded(self, height: int, forever_jobs: list[JobRecord]) -> SelectedRows:
        """Return the tree of jobs, folded except around as many failures and running jobs as fit."""
        model, root = self._model, self._model.root
        room = max(1, height - 1)  # one line counts the hidden jobs
        forever_jobs = forever_jobs[: max(1, room // FOREVER_SHARE)] if height >= 3 else []
        room -= len(forever_jobs)
        rows_by_job: dict[JobRecord, JobRow] = {}

        def show(row: JobRow) -> bool:
            """Add a row, and the rows of its enclosing schedulers, if all of them fit."""
            new = [outer for outer in enclosing_schedulers(row.job) if outer not in rows_by_job]
            if row.job in rows_by_job or len(rows_by_job) + len(new) + 1 > room:
                return False
            for outer in new:
                rows_by_job[outer] = JobRow(outer, len(enclosing_schedulers(outer)))
            rows_by_job[row.job] = JobRow(row.job, len(enclosing_schedulers(row.job)), row.equal_failures)
            return True

        members = [member for member in list(root.members) if not member.forever]
        if len(members) <= 2 * room // 3:
            for member in members:
                show(JobRow(member))
        for row in self._failures()[-max(1, room // FAILURE_SHARE) :]:
            show(row)
        slots = dict.fromkeys(self._slots)
        running = list(model.running)
        ended = [job for job in slots if job.state is JobState.SUCCEEDED and not _outer_of(job).state.is_settled]
        candidates = itertools.chain(
            (job for job in running if job in slots), (job for job in running if job not in slots), reversed(ended)
        )
        self._slots = []
        for job in candidates:
            if len(rows_by_job) >= room:
                break
            if show(JobRow(job)):
                self._slots.append(job)
        for member in members:  # if there is room, add unsettled members, then settled ones
            if not member.state.is_settled:
                show(JobRow(member))
        for member in members:
            show(JobRow(member))
        rows = sorted(rows_by_job.values(), key=lambda row: self._sort_key(row.job))
        hidden = None if all(member in rows_by_job for member in members) else self._count_hidden_members(rows)
        return SelectedRows(rows, hidden, [JobRow(job) for job in forever_jobs])

    def _count_hidden_members(self, rows: Iterable[JobRow]) -> dict[str, int]:
        """Count by state the jobs in those members of the outermost scheduler that have no line."""
        counts = self._counts_by_state(self._model.tally)
        for row in rows:
            if row.depth == 0:
                tally = self._model.tallies.get(row.job) if isinstance(row.job, SchedulerRecord) else None
                counts.subtract(
                    collections.Counter({_counted_as(row.job.state): 1})
                    if tally is None
                    else self._counts_by_state(tally)
                )
        return {word: number for word, number in counts.items() if number > 0}

    @staticmethod
    def _counts_by_state(tally: JobCounts) -> collections.Counter[str]:
        failed = tally.settled[JobState.FAILED]
        settled = sum(tally.settled.values()) - failed
        waiting = tally.waiting + tally.unreached
        return collections.Counter(running=tally.running, failed=failed, waiting=waiting, settled=settled)

    # ---- too many jobs for the height

    def _select_flat(self, height: int, forever_jobs: list[JobRecord]) -> SelectedRows:
        """Return running jobs, failures and forever jobs, as many as fit, without a tree."""
        room = max(1, height - 1)  # one line counts the hidden jobs
        further: list[JobRecord] = []  # forever jobs for lines that other jobs do not need
        if len(forever_jobs) > 1:
            further = forever_jobs[max(1, room // FOREVER_SHARE) :]
            forever_jobs = forever_jobs[: max(1, room // FOREVER_SHARE)]
        if height < 3:
            forever_jobs, further = [], []
        failures = self._failures()
        failures = failures[-max(1, (room - len(forever_jobs)) // FAILURE_SHARE) :]
        slots = self._assign_slots(max(0, room - len(forever_jobs) - len(failures)))
        rows = [*(JobRow(job) for job in slots), *failures]
        forever_jobs += further[: max(0, room - len(forever_jobs) - len(failures) - len(slots))]
        return SelectedRows(rows, self._count_hidden(rows), [JobRow(job) for job in forever_jobs])

    def _select_final(self) -> SelectedRows:
        """Return the rows of the last picture: the failures, unless they are printed elsewhere."""
        if self._model.failures_shown_elsewhere:
            return SelectedRows([])
        failures = self._failures()
        left_out = sum(row.equal_failures for row in failures[MAX_FAILURES:])
        return SelectedRows(failures[:MAX_FAILURES], {"failed": left_out} if left_out else None)

    def _failures(self) -> list[JobRow]:
        """Return one row for each group of equal failures, the earliest group first."""
        rows: list[JobRow] = []
        for jobs in list(self._model.failure_kinds.values()):
            if jobs:
                with contextlib.suppress(RuntimeError, StopIteration):  # the run has changed `jobs` meanwhile
                    rows.append(JobRow(next(iter(jobs)), equal_failures=len(jobs)))
        return rows

    def _assign_slots(self, number: int) -> list[JobRecord]:
        """Return at most `number` jobs for the lines of running jobs; each line keeps its job while possible."""
        slots = [job for job in self._slots if job.state in (JobState.RUNNING, JobState.SUCCEEDED)]
        ended = [job for job in slots if job.state is not JobState.RUNNING]
        surplus = set(ended[: max(0, len(slots) - number)])
        slots = [job for job in slots if job not in surplus][:number]
        assigned = set(slots)
        new = (job for job in list(self._model.running) if job not in assigned)
        slots = [job if job.state is JobState.RUNNING else next(new, job) for job in slots]
        self._slots = slots + list(itertools.islice(new, number - len(slots)))
        return self._slots

    def _count_hidden(self, rows: Iterable[JobRow]) -> dict[str, int]:
        """Count the jobs that have no line by state."""
        counts = self._counts_by_state(self._model.tally)
        for row in rows:
            counts[_counted_as(row.job.state)] -= row.equal_failures
        return {word: number for word, number in counts.items() if number > 0}


def _outer_of(job: JobRecord) -> JobRecord:
    return job if job.outer is None else job.outer


def _counted_as(state: JobState) -> str:
    """Return the key under which `_counts_by_state` has jobs in a state."""
    if state is JobState.RUNNING:
        return "running"
    if state is JobState.FAILED:
        return "failed"
    return "settled" if state.is_settled else "waiting"


def enclosing_schedulers(job: JobRecord) -> list[SchedulerRecord]:
    """Return the enclosing schedulers of a job except the outermost one, the innermost first."""
    return list(job.enclosing_schedulers())[:-1]


def full_name(job: JobRecord, symbols: Symbols) -> str:
    """Return the label of a job, preceded by the labels of its enclosing schedulers except the outermost one."""
    outer = reversed([scheduler.label for scheduler in enclosing_schedulers(job)])
    return symbols.escape("/".join([*outer, job.label]))


def attempt_text(job: JobRecord) -> str:
    """Return the number of the current attempt, and the maximum if it is known: `attempt 2 of 3`."""
    return f"attempt {job.attempts}{f' of {job.retry + 1}' if job.retry + 1 >= job.attempts else ''}"
