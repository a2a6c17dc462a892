"""The rows of a monitor: which jobs it shows, and where, in a terminal of a given height.

If all jobs fit, each has its line. If not, nested schedulers are folded to one line each, with the counts of their
jobs, and open only around jobs that run or have failed. Without nested schedulers, the running jobs come first, then
failures, then forever jobs ("beside"), and the rest are counted.

The rows do not jump: a running job keeps its line, and when it has ended, the line stays until another job needs it.
So the picture grows, and never shrinks because a job has ended.
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

FAILURES: Final = 3
"""Failures get up to a third of the lines."""

BESIDE: Final = 6
"""Forever jobs get up to a sixth of the lines."""

MAX_FAILURES: Final = 100
"""Number of failures shown when the run has ended; the debrief has all."""


@dataclass(frozen=True, slots=True)
class JobRow:
    """The line of one job at `depth` in the listing, None outside of it; `alike` counts equal failures."""

    job: JobRecord
    depth: int | None = None
    alike: int = 1


@dataclass(frozen=True, slots=True)
class ChosenJobs:
    """The rows that fit; `rest` has the counts of jobs that do not fit, and is None if all fit."""

    rows: list[JobRow]
    rest: dict[str, int] | None = None
    beside: list[JobRow] = field(default_factory=list[JobRow])


class JobChoice:
    """The arrangement of one run's jobs; each job keeps its line."""

    def __init__(self, model: Model) -> None:
        self._model: Final = model
        self._listed: tuple[int, list[JobRow]] = (-1, [])  # the rows, and the edition of the model that they show
        # By scheduler: the places of its members in the listing, with the edition.
        self._places: Final[dict[SchedulerRecord, tuple[int, dict[JobRecord, int]]]] = {}
        self._slots: list[JobRecord] = []

    def rows(self, height: int) -> ChosenJobs:
        """Return the rows for `height` lines."""
        beside = list(self._model.beside)
        if self.fits(height):
            return ChosenJobs(self._listing(), beside=[JobRow(job) for job in beside])
        if self._model.ended is not None:
            return self._last()
        if any(not nested.forever for nested in list(self._model.root.nested)):
            return self._tree(height, beside)
        return self._chosen(height, beside)

    def fits(self, height: int) -> bool:
        """Return whether every job has a line."""
        return self._number_open() <= height - len(self._model.beside)

    # ---- in listing order

    def _number_open(self) -> int:
        return sum(tally.rows for tally in list(self._model.tallies.values()) if not tally.is_apart)

    def _listing(self) -> list[JobRow]:
        edition, rows = self._listed
        if edition != self._model.edition:
            edition = self._model.edition
            rows = [JobRow(job, depth) for job, depth in in_listing_order(self._model)]
            self._listed = edition, rows
        return rows

    def _place(self, job: JobRecord) -> tuple[int, ...]:
        """Return the positions in the listing of a job's enclosing schedulers, outermost first, and its own."""
        found: list[int] = []
        for outer in job.outwards():
            edition, places = self._places.get(outer, (-1, {}))
            if edition != self._model.edition:
                edition = self._model.edition
                places = {member: number for number, member in enumerate(self._model.source.in_order(outer))}
                self._places[outer] = edition, places
            found.append(places.get(job, len(places)))
            job = outer
        return tuple(reversed(found))

    def _tree(self, height: int, beside: list[JobRecord]) -> ChosenJobs:
        """Return the folded tree, open around as many failures and running jobs as fit."""
        model, root = self._model, self._model.root
        room = max(1, height - 1)  # one line is for the rest
        beside = beside[: max(1, room // BESIDE)] if height >= 3 else []
        room -= len(beside)
        shown: dict[JobRecord, JobRow] = {}

        def show(row: JobRow) -> bool:
            """Add a row, and the rows of its enclosing schedulers, if all of them fit."""
            new = [outer for outer in context(row.job) if outer not in shown]
            if row.job in shown or len(shown) + len(new) + 1 > room:
                return False
            for outer in new:
                shown[outer] = JobRow(outer, len(context(outer)))
            shown[row.job] = JobRow(row.job, len(context(row.job)), row.alike)
            return True

        members = [member for member in list(root.members) if not member.forever]
        if len(members) <= 2 * room // 3:
            for member in members:
                show(JobRow(member))
        for row in self._failures()[-max(1, room // FAILURES) :]:
            show(row)
        slots = dict.fromkeys(self._slots)
        running = list(model.running)
        ended = [job for job in slots if job.state is JobState.SUCCEEDED and not _outer_of(job).state.is_settled]
        candidates = itertools.chain(
            (job for job in running if job in slots), (job for job in running if job not in slots), reversed(ended)
        )
        self._slots = []
        for job in candidates:
            if len(shown) >= room:
                break
            if show(JobRow(job)):
                self._slots.append(job)
        for member in members:  # the others, as far as there is room: those that wait or run before those that are done
            if not member.state.is_settled:
                show(JobRow(member))
        for member in members:
            show(JobRow(member))
        rows = sorted(shown.values(), key=lambda row: self._place(row.job))
        rest = None if all(member in shown for member in members) else self._rest_of_tree(rows)
        return ChosenJobs(rows, rest, [JobRow(job) for job in beside])

    def _rest_of_tree(self, rows: Iterable[JobRow]) -> dict[str, int]:
        """Count the jobs in those members of the outermost scheduler that have no line."""
        counts = self._counts(self._model.tally)
        for row in rows:
            if row.depth == 0:
                tally = self._model.tallies.get(row.job) if isinstance(row.job, SchedulerRecord) else None
                counts.subtract(
                    collections.Counter({_word(row.job.state): 1}) if tally is None else self._counts(tally)
                )
        return {word: number for word, number in counts.items() if number > 0}

    @staticmethod
    def _counts(tally: JobCounts) -> collections.Counter[str]:
        failed = tally.settled[JobState.FAILED]
        settled = sum(tally.settled.values()) - failed
        waiting = tally.waiting + tally.unreached
        return collections.Counter(running=tally.running, failed=failed, waiting=waiting, settled=settled)

    # ---- too many jobs for the height

    def _chosen(self, height: int, beside: list[JobRecord]) -> ChosenJobs:
        room = max(1, height - 1)  # one line is for the rest
        further: list[JobRecord] = []  # forever jobs get only the lines that others leave free
        if len(beside) > 1:
            further = beside[max(1, room // BESIDE) :]
            beside = beside[: max(1, room // BESIDE)]
        if height < 3:
            beside, further = [], []
        failures = self._failures()
        failures = failures[-max(1, (room - len(beside)) // FAILURES) :]
        slots = self._occupied(max(0, room - len(beside) - len(failures)))
        rows = [*(JobRow(job) for job in slots), *failures]
        beside += further[: max(0, room - len(beside) - len(failures) - len(slots))]
        return ChosenJobs(rows, self._rest(rows), [JobRow(job) for job in beside])

    def _last(self) -> ChosenJobs:
        """Return the rows of the last picture: the failures, unless they are printed below it."""
        if self._model.failures_are_told:
            return ChosenJobs([])
        failures = self._failures()
        left_out = sum(row.alike for row in failures[MAX_FAILURES:])
        return ChosenJobs(failures[:MAX_FAILURES], {"failed": left_out} if left_out else None)

    def _failures(self) -> list[JobRow]:
        """Return a row for each kind of failure, in the order of the first ones."""
        rows: list[JobRow] = []
        for jobs in list(self._model.failure_kinds.values()):
            if jobs:
                with contextlib.suppress(RuntimeError, StopIteration):  # it has just changed
                    rows.append(JobRow(next(iter(jobs)), alike=len(jobs)))
        return rows

    def _occupied(self, number: int) -> list[JobRecord]:
        """Return the jobs, at most `number`, for the lines of running jobs."""
        slots = [job for job in self._slots if job.state in (JobState.RUNNING, JobState.SUCCEEDED)]
        over = [job for job in slots if job.state is not JobState.RUNNING]
        slots = _without(slots, over[: max(0, len(slots) - number)])
        slots = slots[:number]
        shown = set(slots)
        new = (job for job in list(self._model.running) if job not in shown)
        slots = [job if job.state is JobState.RUNNING else next(new, job) for job in slots]
        self._slots = slots + list(itertools.islice(new, number - len(slots)))
        return self._slots

    def _rest(self, rows: Iterable[JobRow]) -> dict[str, int]:
        """Count the jobs that have no line, each under a word for its state."""
        counts = self._counts(self._model.tally)
        for row in rows:
            counts[_word(row.job.state)] -= row.alike
        return {word: number for word, number in counts.items() if number > 0}


def _without(jobs: list[JobRecord], dropped: Iterable[JobRecord]) -> list[JobRecord]:
    leave_out = set(dropped)
    return [job for job in jobs if job not in leave_out] if leave_out else jobs


def _outer_of(job: JobRecord) -> JobRecord:
    return job if job.outer is None else job.outer


def _word(state: JobState) -> str:
    if state is JobState.RUNNING:
        return "running"
    if state is JobState.FAILED:
        return "failed"
    return "settled" if state.is_settled else "waiting"


def context(job: JobRecord) -> list[SchedulerRecord]:
    """Return the schedulers between a job and the outermost one, innermost first."""
    return list(job.outwards())[:-1]


def full_name(job: JobRecord, symbols: Symbols) -> str:
    """Return the label of a job, preceded by the labels of its enclosing schedulers except the outermost."""
    outer = reversed([scheduler.label for scheduler in context(job)])
    return symbols.escape("/".join([*outer, job.label]))


def attempt(job: JobRecord) -> str:
    """Return the current attempt, and the most if known: `attempt 2 of 3`."""
    return f"attempt {job.attempts}{f' of {job.retry + 1}' if job.retry + 1 >= job.attempts else ''}"
