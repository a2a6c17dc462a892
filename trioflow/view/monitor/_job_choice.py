"""Which jobs a monitor shows, and where, in a terminal of a given height.

If all jobs fit, each has its line. If not, the running ones come first, then failures, then forever jobs ("beside"),
and the rest are counted. Nested schedulers are open (their jobs have lines) or folded (only the scheduler has one).

A picture is calm: a running job keeps its line, and when it has ended, the line shows that until another job takes its
place. So the picture grows, and never shrinks or shifts because a job has ended.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from ..._core.api.views import JobState
from ..text._symbols import Symbols
from ._model import Model, in_listing_order
from ._records import JobRecord, SchedulerRecord

Nested = Literal["auto", "open", "folded"]

FAILURES: Final = 3
"""Failures get up to a third of the lines."""

BESIDE: Final = 6
"""Forever jobs get up to a sixth of the lines."""

MOST_FAILURES: Final = 100
"""How many are shown when the run has ended; the debrief has all."""


@dataclass(frozen=True, slots=True)
class JobRow:
    """The line of one job, at `depth` in the listing; with no depth, outside of the listing; for `alike` failures."""

    job: JobRecord
    depth: int | None = None
    alike: int = 1


@dataclass(frozen=True, slots=True)
class ChosenJobs:
    """What fits; `rest` has words with the numbers of jobs that do not fit, and is None if all of them do."""

    rows: list[JobRow]
    rest: dict[str, int] | None = None
    beside: list[JobRow] = field(default_factory=list[JobRow])


class JobChoice:
    """The arrangement of one run's jobs; it remembers which job has which line."""

    def __init__(self, model: Model, nested: Nested) -> None:
        self._model: Final = model
        self._nested: Final = nested
        self._listed: Final[
            dict[int | None, tuple[int, list[JobRow]]]
        ] = {}  # with the edition of the model that it shows
        self._slots: list[JobRecord] = []

    def rows(self, height: int) -> ChosenJobs:
        """Return what to show in `height` lines."""
        beside = list(self._model.beside)
        room = height - len(beside)
        if self.fits(height):
            return ChosenJobs(self._listing(None), beside=[JobRow(job) for job in beside])
        if self._model.ended is not None:
            return self._last()
        folded = self._folded(height, room)
        if folded is not None and self._nested == "folded":
            return self._with_failures(folded, room, beside)
        return self._chosen(folded or [], height, beside)

    def fits(self, height: int) -> bool:
        """Return whether each job has its line."""
        return self._nested != "folded" and self._number_open() <= height - len(self._model.beside)

    # ---- in listing order

    def _number_open(self) -> int:
        return sum(tally.rows for tally in list(self._model.tallies.values()) if not tally.is_apart)

    def _listing(self, depth: int | None) -> list[JobRow]:
        edition, rows = self._listed.get(depth, (-1, []))
        if edition != self._model.edition:
            edition = self._model.edition
            rows = [JobRow(job, deep) for job, deep in in_listing_order(self._model, depth)]
            self._listed[depth] = edition, rows
        return rows

    def _folded(self, height: int, room: int) -> list[JobRow] | None:
        """Return a row for each member of the outermost scheduler, if that is wanted and they fit."""
        if self._nested == "open" or all(nested.forever for nested in list(self._model.root.nested)):
            return None
        if self._model.tally.rows > (room if self._nested == "folded" else height // 2):
            return None
        return self._listing(0)

    def _with_failures(self, listed: list[JobRow], room: int, beside: list[JobRecord]) -> ChosenJobs:
        inside = self._failures(self._model.root)
        number = min(len(inside), room - len(listed))
        shown = inside[len(inside) - number :]
        return ChosenJobs(listed + shown, beside=[JobRow(job) for job in beside])

    # ---- where there are too many

    def _chosen(self, listed: list[JobRow], height: int, beside: list[JobRecord]) -> ChosenJobs:
        room = max(1, height - len(listed) - 1)  # one line is for the rest
        further: list[JobRecord] = []  # forever jobs for which there are lines only if others leave them free
        if len(beside) > 1:
            further = beside[max(1, room // BESIDE) :]
            beside = beside[: max(1, room // BESIDE)]
        if height < 3:
            beside, further = [], []
        left_out = self._model.root if listed else None
        failures = self._failures(left_out)
        failures = failures[-max(1, (room - len(beside)) // FAILURES) :]
        slots = self._occupied(max(0, room - len(beside) - len(failures)), left_out)
        rows = [*listed, *(JobRow(job) for job in slots), *failures]
        beside += further[: max(0, room - len(beside) - len(failures) - len(slots))]
        return ChosenJobs(rows, self._rest(rows), [JobRow(job) for job in beside])

    def _last(self) -> ChosenJobs:
        """Return what remains on the terminal when the run has ended: its failures, unless they are told below."""
        if self._model.failures_are_told:
            return ChosenJobs([])
        failures = self._failures(None)
        left_out = sum(row.alike for row in failures[MOST_FAILURES:])
        return ChosenJobs(failures[:MOST_FAILURES], {"failed": left_out} if left_out else None)

    def _failures(self, left_out: SchedulerRecord | None) -> list[JobRow]:
        """Return a row for each kind of failure, in the order of the first ones, without those of members of one."""
        rows: list[JobRow] = []
        for (is_member, _), jobs in list(self._model.failure_kinds.items()):
            if jobs and not (is_member and left_out is self._model.root):
                with contextlib.suppress(RuntimeError, StopIteration):  # it has changed meanwhile
                    rows.append(JobRow(next(iter(jobs)), alike=len(jobs)))
        return rows

    def _occupied(self, number: int, left_out: SchedulerRecord | None) -> list[JobRecord]:
        """Return the jobs to show in the lines for running jobs, at most `number`."""
        slots = [job for job in self._slots if job.state in (JobState.RUNNING, JobState.SUCCEEDED)]
        over = [job for job in slots if job.state is not JobState.RUNNING]
        slots = _without(slots, over[: max(0, len(slots) - number)])
        slots = slots[:number]
        shown = set(slots)
        new = (job for job in list(self._model.running) if job not in shown and job.outer is not left_out)
        slots = [job if job.state is JobState.RUNNING else next(new, job) for job in slots]
        self._slots = slots + list(itertools.islice(new, number - len(slots)))
        return self._slots

    def _rest(self, rows: Iterable[JobRow]) -> dict[str, int]:
        """Count the jobs that have no line, each under a word for its state."""
        tally = self._model.tally
        shown: collections.Counter[str] = collections.Counter()
        for row in rows:
            if not row.job.is_scheduler:
                shown[_word(row.job.state)] += row.alike
        counts = {
            "running": tally.running,
            "failed": tally.settled[JobState.FAILED],
            "waiting": tally.waiting + tally.unreached,
            "settled": sum(tally.settled.values()) - tally.settled[JobState.FAILED],
        }
        return {word: number - shown[word] for word, number in counts.items() if number > shown[word]}


def _without(jobs: list[JobRecord], dropped: Iterable[JobRecord]) -> list[JobRecord]:
    leave_out = set(dropped)
    return [job for job in jobs if job not in leave_out] if leave_out else jobs


def _word(state: JobState) -> str:
    if state is JobState.RUNNING:
        return "running"
    if state is JobState.FAILED:
        return "failed"
    return "settled" if state.is_settled else "waiting"


def context(job: JobRecord) -> list[SchedulerRecord]:
    """Return the schedulers between a job and the outermost one, from the inside out."""
    return list(job.outwards())[:-1]


def full_name(job: JobRecord, symbols: Symbols) -> str:
    """Return the label of a job, after those of the schedulers that it is in, without the outermost one."""
    outer = reversed([scheduler.label for scheduler in context(job)])
    return symbols.line(" / ".join([*outer, job.label]))


def attempt(job: JobRecord) -> str:
    """Return which attempt of a job this is, and of how many, if that is known: `attempt 2 of 3`."""
    return f"attempt {job.attempts}{f' of {job.retry + 1}' if job.retry + 1 >= job.attempts else ''}"
