"""The use of a journal by a run, and the interface of journals: the questions of a run, and the answers that it gets.

```
run(journal=J) ──► J.open_for(scheduler) ──► a RunJournal, which the run calls, in the event loop:

  job is ready ──► look_up(job): Restored(result), or NotStored(why) ──► it is restored, or it runs
  an attempt begins ──► begin_attempt(job)      it ends, whatever its outcome ──► end_attempt(job)
  a First is decided ──► record_winners(first, winners)
  job SUCCEEDED ──► record(job, value) ──► commit(), once per iteration of the loop, or after each job (commits_each)
  job is removed, because of keep_jobs=False ──► forget(job)
  successes are taken back: try_again() of a job that SUCCEEDED ──► discard(jobs)
  a nested scheduler starts ──► nested(scheduler): the RunJournal for its run        at the end ──► close(...)
```

A journal with another storage, such as a database, needs only this interface, and some functions on jobs. `PathCache`
gives the key of a job's record. For a job that was added during the run (`was_added_during_run`), the path depends on
the order of adding, and `is_known_by_call` helps to find a key that does not. `call_parts` and `substitute_inputs` give
its function and arguments, with placeholders for the jobs among them, and `result_for_journal` the result of an input.
Kinds of jobs without a function describe their work in `JobKind.for_journal`.

A run with a journal looks up each job that has no open requirements. If the journal has the job's result, the job
settles at once, and the jobs that wait for it are looked up next: see `_undecided`.

None of this is on the workers' hot path: with a journal, each scheduled job has `RunExtras`, so `settle` settles
it.

Decided in docs/decisions: 39-journals.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeVar, cast

from ..base._states import RAN_TO_END, JobState, StopReason
from ..job import _errors, _job_options
from ..job._job import AbstractJob, Restoration, RunExtras
from . import _steps
from ._current import current_worker_var

if TYPE_CHECKING:
    from ._run import Run

NOT_IN_JOURNAL_REASON: Final = "it has no result in the journal"
NOT_SAVED_REASON: Final = "save=None: its result is not stored"
TRIED_AGAIN_REASON: Final = "it was tried again in this run"
OBVIOUS_REASONS: Final = (NOT_IN_JOURNAL_REASON, NOT_SAVED_REASON, TRIED_AGAIN_REASON)


class JournalProtocol(Protocol):
    """The interface of the argument `journal` of `Scheduler.run`; `trioflow.Journal` implements it."""

    def open_for(self, scheduler: Any) -> RunJournal:
        """Open the journal for a run of the outermost scheduler, before anything starts.

        Raises:
            JournalError: the journal cannot be used. The run does not start.

        """
        ...


def check_journal(
    value: object, name: str, subject: _job_options.Subject
) -> JournalProtocol | str | None:
    if value is None or hasattr(value, "open_for"):
        return cast("JournalProtocol | None", value)
    if isinstance(value, str) and value == ":memory:":
        advice = "a journal is a file, which a later run reads; leave it out for none"
        raise _job_options.bad_value_error(ValueError, value, name, subject, advice)
    if isinstance(value, (str, os.PathLike)):
        return _job_options.file_path(value, name, subject)  # pyright: ignore[reportUnknownArgumentType]
    raise _job_options.bad_value_error(
        TypeError, value, name, subject, "give a Journal, or the path of one"
    )


class NotStored(NamedTuple):
    """The value that `look_up` returns if the journal has no result for a job."""

    reason: str | None = None
    """The reason, or None if there is nothing to explain."""
    cause: str | None = None
    """If the job has run before: the first change that makes it run again, for the verdict."""


class Restored(NamedTuple):
    """The value that `look_up` returns if the journal has the result of a job."""

    value: Any
    restoration: Restoration = Restoration()


class OpenQuestion(Protocol):
    """A question that a journal has published, so that another process may answer it."""

    @property
    def number(self) -> int:
        """How many different questions the job has asked, in runs before, too."""
        ...

    def poll(self) -> tuple[str, str] | None:
        """Return the text of a new answer, and who has given it, or None."""
        ...

    def refuse(self, reason: str) -> None:
        """Refuse the answer that `poll` has returned."""

    def close(self, told: str) -> None:
        """Withdraw the question as soon as the result of the job is committed.

        Args:
            told: what was answered, by whom and when, for those who come later.

        """


class RunJournal(Protocol):
    """The interface of a journal that is open for a run. Jobs are identified by their paths.

    If the journal's file cannot be read or written, the methods raise a `JournalError`.
    """

    def nested(self, scheduler: AbstractJob[Any]) -> RunJournal:
        """Return a view of this journal for the run of a nested scheduler."""
        ...

    def look_up(self, job: AbstractJob[Any]) -> Restored | NotStored:
        """Return the stored result of a job that is ready to run, or the reason why there is none."""
        ...

    def prefetch(self, path: str) -> Callable[[], None] | None:
        """Return a function that reads the large result at this path, in a thread, for the next `look_up`, or None."""
        ...

    def read_files(self, job: AbstractJob[Any]) -> Callable[[], Awaitable[None]] | None:
        """Return a function that reads the files of a job, for the next `look_up` or `record`. None if it is quick."""
        ...

    def begin_attempt(
        self, job: AbstractJob[Any]
    ) -> Callable[[], Awaitable[None]] | None:
        """Return a function that records that an attempt of a job begins. None if nothing has to be recorded."""
        ...

    def end_attempt(self, job: AbstractJob[Any]) -> bool:
        """Forget that an attempt began: it was not killed. Return whether that has to be committed."""
        ...

    def prepare(self, job: AbstractJob[Any], value: object) -> None:
        """Write the large parts of a result that a running job is about to return. This may be called in a thread."""

    def record(self, job: AbstractJob[Any], value: object) -> None:
        """Record the result of a job that succeeded. The next `commit` writes it."""

    def record_winners(
        self, first: AbstractJob[Any], winners: Sequence[AbstractJob[Any]]
    ) -> None:
        """Record which jobs of a `First` have decided its result, for a later `look_up` of the `First`."""

    def open_question(
        self, job: AbstractJob[Any], facts: Mapping[str, Any]
    ) -> OpenQuestion | None:
        """Publish the question of a job that runs, or None if its answer can only be given in this process."""
        ...

    def forget(self, job: AbstractJob[Any]) -> None:
        """Release a settled job that its scheduler is about to drop because of `keep_jobs=False`."""

    def discard(self, jobs: Sequence[AbstractJob[Any]]) -> None:
        """Remove the results of jobs that have succeeded in this run, and are about to run anew in it."""

    def commit(self) -> None:
        """Write all recorded results, in one transaction."""

    def close(self, outcome: str | None, report: Callable[[str], object]) -> None:
        """Write the pending records and close the journal, at the end of the outermost run.

        Args:
            outcome: the name of the run's `stop_reason`, or "refused" if the run did not start, or None if the journal
                has already failed.
            report: called with a message for each error that occurs in this call.

        """

    @property
    def commits_each(self) -> bool:
        """Whether each result must be committed before the jobs that wait for it may start."""
        ...


T = TypeVar("T")


class JournalWriter:
    """Restores jobs of a run from its journal, and records and commits their results."""

    def __init__(
        self, run: Run, journal: RunJournal, outer: JournalWriter | None = None
    ) -> None:
        self._run: Final = run
        self.journal: Final = journal
        self._outermost: Final[JournalWriter] = (
            self if outer is None else outer._outermost
        )
        # Whether recorded results have to be committed in the next turn. Used only in the outermost run's writer.
        self._commit_is_due = False
        # False after a `First` has decided.
        self.records_results = True
        # The jobs that were restored in this turn of the loop, while they were added, and that were removed at once,
        # because of `keep_jobs=False`. `as_settled()` yields them, as if they had settled in the next turn.
        self.restored_by_add: Final[list[AbstractJob[Any]]] = []
        # The first error of the journal, only in the outermost run's writer.
        self.fault: Exception | None = None

    def nested(self, run: Run) -> JournalWriter:
        """Return the writer for `run`, which is nested in this writer's run."""
        return JournalWriter(run, self.journal.nested(run.scheduler), self)

    def restore(self, job: AbstractJob[Any]) -> None:
        """Settle a ready job if the journal has its result. If the journal cannot be read, stop the run."""
        run = self._run
        # In a run with a journal, every scheduled job has extras.
        extras = job._ensure_extras()
        found = self._ask(self.journal.look_up, job)
        if isinstance(found, NotStored):
            extras.not_restored_reason, extras.rerun_cause = found
        elif found is not None:
            extras.restoration = found.restoration
            job._skip_run()
            if found.restoration.used:
                run.pools.charge(job, found.restoration.used)
            _steps.settle(run, job, JobState.SUCCEEDED, found.value, run.clock())

    async def begin_attempt(self, job: AbstractJob[Any]) -> None:
        """Record that an attempt of a job begins, before the clock of the job."""
        await self.wait_for(self._ask(self.journal.begin_attempt, job))

    async def read_outputs(self, job: AbstractJob[Any]) -> None:
        """Read the files of a job that is about to be recorded."""
        if self.records_results:
            await self.wait_for(self.files_to_read(job))

    def files_to_read(
        self, job: AbstractJob[Any]
    ) -> Callable[[], Awaitable[None]] | None:
        """Return what reads the files of a job before its look-up, or None if that takes no time."""
        return self._ask(self.journal.read_files, job)

    async def wait_for(self, read: Callable[[], Awaitable[None]] | None) -> None:
        if read is None:
            return
        try:
            await read()
        except _errors.JournalError as error:
            self._fail(error)

    def end_attempt(self, job: AbstractJob[Any]) -> None:
        """Record that an attempt of a job has ended, whatever its outcome."""
        if self._ask(self.journal.end_attempt, job):
            self._commit_soon()

    def record(self, job: AbstractJob[Any], value: object) -> None:
        """Record the result of a job. It is committed in the next turn of the loop, or at once with `commits_each`.

        A job that has added other jobs is not recorded: in a later run, it must run again to add them. Nor is a job of
        a `First` that has its result.
        """
        if self.records_results and not (job._extras or RunExtras).has_added_jobs:
            self._record(self.journal.record, job, value)

    def record_winners(self, winners: Sequence[AbstractJob[Any]]) -> None:
        """Record which jobs have decided the `First` whose run this is."""
        self._record(self.journal.record_winners, self._run.scheduler, winners)

    def _record(self, record: Callable[..., None], *args: object) -> None:
        self._ask(record, *args)
        if self.journal.commits_each:
            self.commit()
        else:
            self._commit_soon()

    def _commit_soon(self) -> None:
        outermost = self._outermost
        if outermost.fault is None and not outermost._commit_is_due:
            outermost._commit_is_due = True
            outermost._run.wake()

    def on_jobs_added(self) -> None:
        """Mark the current job, which has added jobs. It is not recorded, because it must run again to add them."""
        worker = current_worker_var.get(None)
        # The current job may be one of another run, whose body runs this scheduler.
        if (
            worker is not None
            and worker.job is not None
            and worker.run.outermost() is self._outermost._run
        ):
            worker.job._ensure_extras().has_added_jobs = True

    def discard(self, jobs: Sequence[AbstractJob[Any]]) -> None:
        """Let no later run restore these jobs, which run anew, unless they succeed again."""
        if jobs:
            self._ask(self.journal.discard, jobs)

    def forget(self, job: AbstractJob[Any]) -> None:
        self._ask(self.journal.forget, job)

    def open_question(
        self, job: AbstractJob[Any], facts: Mapping[str, Any]
    ) -> OpenQuestion | None:
        return self._ask(self.journal.open_question, job, facts)

    def commit(self) -> None:
        if self._outermost.fault is None:
            self._outermost._commit_is_due = False
            self._ask(self.journal.commit)

    def has_work(self) -> bool:
        """Return whether the run has to call `work_one_turn`."""
        return (
            self._commit_is_due
            or self._run.undecided.may_resume()
            or bool(self.restored_by_add)
        )

    async def work_one_turn(self) -> None:
        """Wait for the next turn of the loop, resume the deferred look-ups, and commit the recorded results."""
        run = self._run
        number = run.time_slice.turn_number
        if not await run.group.host.yield_to_loop():
            run.stop_cancelled()
        run.time_slice.begin(number, run.clock())
        self.restored_by_add.clear()
        run.undecided.resume()
        self.commit()

    def _ask(self, method: Callable[..., T], *args: object) -> T | None:
        """Call a method of the journal. If it fails, stop the outermost run and this one, and return None."""
        try:
            return method(*args)
        except _errors.JournalError as error:
            self._fail(error)
            return None

    def _fail(self, error: _errors.JournalError) -> None:
        outermost = self._outermost
        if outermost.fault is None:
            outermost.fault = error
            outermost._run.stop_with_error(error, None, str(error))
        # If this run is nested in a forever job, the outermost run does not stop it yet.
        self._run.stop_cancelled()

    def close(self) -> None:
        """Close the journal at the end of the outermost run.

        If closing fails, report the error. A run that had completed then counts as failed.
        """
        run = self._run
        outcome: str | None = "refused"
        if self.fault is not None:
            outcome = None
        elif run.fate.reason is not None:
            outcome = run.fate.reason.name
        try:
            self.journal.close(outcome, partial(run.report, None))
        except Exception as error:
            self.fault = run.scheduler._run_error = self.fault or error
            run.report(None, str(error), error)
            if run.fate.reason in RAN_TO_END:
                run.fate.give(StopReason.CRITICAL, run.fate.culprit)
