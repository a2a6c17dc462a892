"""A run's use of a journal: it restores stored results, and records new ones.

A run with a journal looks each job up when it is ready to be scheduled. If its result is stored, the job is settled
immediately, and the jobs that wait for it are next. That may be 100,000 jobs, so it is cut into turns of the event
loop.
All of it is in methods off the workers' hot path: in a run with a journal, each job that is scheduled has `RunExtras`,
and jobs that have these are settled by `Run.settle`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, final

from ..base._states import JobState, StopReason
from ..job._errors import JournalError
from ._current import current

if TYPE_CHECKING:
    from ..job._job import AbstractJob
    from ._run import Run

BETWEEN_CLOCKS: Final = 8
"""The number of jobs to look up between two readings of the clock."""
NOT_IN_JOURNAL: Final = "the journal does not have it"
NOT_SAVED: Final = "save=None: its result is not stored"


class JournalProtocol(Protocol):
    """The type of `run(journal=...)`, such as a `Journal`."""

    def open_for(self, scheduler: Any) -> RunJournal:
        """Open it for a run of the outermost scheduler `scheduler`, or raise a `JournalError`: then nothing starts."""
        ...


@final
class NotStored:
    """The answer of a journal that does not have a result.

    Args:
        why: the reason, in words, or None.

    """

    __slots__ = ("why",)

    def __init__(self, why: str | None = None) -> None:
        self.why: Final = why


class RunJournal(Protocol):
    """The view that a run has of a journal: its own jobs, each known by its path.

    Its failures with the file are raised as a `JournalError`.
    """

    def nested(self, scheduler: AbstractJob[Any]) -> RunJournal:
        """Return the same journal for the run of a nested scheduler, a job of this run."""
        ...

    def look_up(self, job: AbstractJob[Any]) -> Any:
        """Return the stored result of a job that is ready to run, or a `NotStored`."""
        ...

    def record(self, job: AbstractJob[Any], value: Any) -> None:
        """Record the result of a job that has succeeded, for the next `commit`."""
        ...

    def forget(self, job: AbstractJob[Any]) -> None:
        """Forget a job that has settled: its scheduler, which has `keep_jobs=False`, is about to drop it."""
        ...

    def commit(self) -> None:
        """Write all that was recorded, in one transaction."""
        ...

    def close(self, outcome: str | None, report: Callable[[str], object]) -> None:
        """Write the pending records, and close the file. Called once, for the outermost run, after its shutdown.

        Args:
            outcome: the name of the reason why the run stopped; None if something could not be written.
            report: called with the faults of this call.

        """
        ...

    @property
    def commits_each(self) -> bool:
        """Whether each job is committed before any job that waits for it may start."""
        ...


class JournalWriter:
    """The journal of one run: restores jobs, records results, and commits them."""

    __slots__ = ("_commit_is_due", "_journal", "_outermost", "_run", "_waits", "fault")

    def __init__(self, run: Run, journal: RunJournal, outer: JournalWriter | None = None) -> None:
        self._run: Final = run
        self._journal: Final = journal
        self._outermost: Final[JournalWriter] = self if outer is None else outer._outermost
        self._commit_is_due = False  # in the outermost run: whether to commit within the next turn of the loop
        self._waits = False  # jobs wait for the next turn of the loop to be looked up
        self.fault: Exception | None = None  # in the outermost run: why the journal could not be written

    def nested(self, run: Run) -> JournalWriter:
        """Return the same for a run nested in this one."""
        return JournalWriter(run, self._journal.nested(run.scheduler), self)

    def restore(self, job: AbstractJob[Any]) -> None:
        """Settle a ready job if the journal has its result; stop the run if the journal cannot be read."""
        run = self._run
        facts = job._extras()  # required for each scheduled job: see the top of the module
        try:
            value = self._journal.look_up(job)
        except JournalError as error:
            self._fail(error)
            return
        if type(value) is NotStored:
            facts.not_restored = value.why
        else:
            facts.restored = True
            run.settle(job, JobState.SUCCEEDED, value, run.clock())

    def record(self, job: AbstractJob[Any], value: Any) -> None:
        """Record a result; the outermost run commits it within the next turn of the loop.

        A job that has added others is not recorded: it has to run again, to add them again.
        """
        outermost = self._outermost
        if job._facts is not None and job._facts.adds_jobs:
            return
        try:
            self._journal.record(job, value)
        except JournalError as error:
            self._fail(error)
            return
        if self._journal.commits_each:
            self.commit()
        elif not outermost._commit_is_due:
            outermost._commit_is_due = True
            outermost._run.wake()

    def note_added(self) -> None:
        """Record that the current job has added others, which a restored job would not."""
        worker = current.get(None)
        if worker is not None and worker.job is not None:
            worker.job._extras().adds_jobs = True

    def forget(self, job: AbstractJob[Any]) -> None:
        """Make the journal forget a job that its scheduler is about to drop."""
        self._journal.forget(job)

    def commit(self) -> None:
        """Commit the journal's records."""
        if self._outermost.fault is not None:
            return
        self._outermost._commit_is_due = False
        try:
            self._journal.commit()
        except JournalError as error:
            self._fail(error)

    def defer_if_late(self, number: int) -> bool:
        """Return whether the turn is over, after this number of successors; then `turn` resumes with the others.

        Reading the clock costs a tenth of a look-up.
        """
        if number % BETWEEN_CLOCKS or self._run.clock() <= self._run.time_slice.ends_at:
            return False
        self.defer()
        return True

    def defer(self) -> None:
        """Postpone the rest of the successors to the next turn of the loop."""
        self._waits = True
        self._run.wake()

    def has_work(self) -> bool:
        """Return whether the run has to call `turn`."""
        return self._commit_is_due or self._waits

    async def work_one_turn(self) -> None:
        """In the next turn of the loop, resume deferred work; then commit, at most once in a turn."""
        run = self._run
        number = run.time_slice.number
        if not await run.group.host.yield_to_loop():
            run.stop_cancelled()
        run.time_slice.begin(number, run.clock())
        if self._waits:
            self._waits = False
            run.requirement_counts.count_down_queued()
            run.workers.ensure_searcher()
        self.commit()

    def _fail(self, error: Exception) -> None:
        """End the outermost run, because results cannot be recorded any longer."""
        outermost = self._outermost
        if outermost.fault is None:
            outermost.fault = error
            outermost._run.fail(error, None, str(error))
        self._run.stop(StopReason.CANCELLED)  # immediately: its scope is cancelled only in the next turn of the loop

    def end(self) -> None:
        """Close the journal of the outermost run; a fault is only reported, since the run has ended."""
        run = self._run
        outcome = run.reason.name if run.reason is not None else "refused"
        try:
            self._journal.close(None if self.fault is not None else outcome, partial(run.report, None))
        except Exception as error:
            self.fault = run.scheduler._fault = self.fault or error
            run.report(None, str(error), error)
            if run.scheduler._stop_reason is StopReason.COMPLETED:
                run.reason = run.scheduler._stop_reason = StopReason.CRITICAL
