"""What a run asks of a journal: whether the result of a job is stored, and that it be stored.

A run with a journal asks when a job is ready to be scheduled. If the result is stored, the job is settled at once, and
those that wait for it are looked at next. That may go on for 100,000 jobs, so it is cut into turns of the event loop.
All of it is in methods that the worker's shortest path does not call: in a run with a journal, each job that is
scheduled has `RareFacts`, and jobs that have these are settled by `Run.settle`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from ..base._states import StopReason

if TYPE_CHECKING:
    from ..job._job import AbstractJob
    from ._run import Run

NOT_STORED: Final = object()
"""In place of a stored result, which may be None."""
NOT_THERE: Final = "the journal does not have it"
NOT_KEPT: Final = "save=None: its result is not stored"


class RunJournal(Protocol):
    """A journal, as a run sees it: its own jobs, each known by its path.

    What it can't do because of the file, it raises as a `JournalError`.
    """

    def nested(self, scheduler: AbstractJob[Any]) -> RunJournal:
        """Return the same journal for the run of a nested scheduler, a job of this run."""
        ...

    def look_up(self, job: AbstractJob[Any]) -> Any:
        """Return the stored result of a job that is ready to run, or NOT_STORED; then its facts say why not."""
        ...

    def record(self, job: AbstractJob[Any], value: Any) -> None:
        """Keep the result of a job that has succeeded, for the next `commit`."""
        ...

    def commit(self) -> None:
        """Write all that was kept, in one transaction."""
        ...

    def close(self, run: Run) -> None:
        """Write what is left, and let go of the file. Called once, for the outermost run, after its shutdown."""
        ...

    @property
    def commits_each(self) -> bool:
        """Whether each job is committed before any job that waits for it may start."""
        ...


def end(run: Run) -> None:
    """Close the journal of the outermost run; a fault then is reported, for the run has ended."""
    assert run.journal is not None
    try:
        run.journal.close(run)
    except Exception as error:
        run.journal_fault = run.journal_fault or error
        run.report(None, str(error), error)
        if run.scheduler._stop_reason is StopReason.COMPLETED:
            run.reason = run.scheduler._stop_reason = StopReason.CRITICAL
