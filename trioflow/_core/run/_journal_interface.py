"""What a run asks of its journal: the protocols that a journal implements, and the answers that it gives.

```
run(journal=J) ──► J.open_for(scheduler) ──► a RunJournal, which the run calls, in the event loop:

  job is ready ──► look_up(job): Restored(result), or NotStored(why) ──► it is restored, or it runs
  a First is decided ──► record_winners(first, winners)
  job SUCCEEDED ──► record(job, value) ──► commit(), once per iteration of the loop, or after each job (commits_each)
  job is removed, because of keep_jobs=False ──► forget(job)
  a nested scheduler starts ──► nested(scheduler): the RunJournal for its run        at the end ──► close(...)
```

A journal with another storage, such as a database, needs no more than this interface, and what `api/views` has on jobs:
`PathCache` gives the key of a job's record; for a job that was added during the run (`was_added_during_run`), the path
depends on the order of adding, and `is_known_by_call` helps to find a key that does not. `call_parts` and
`substitute_inputs` give its function and arguments, with placeholders for the jobs among them, and `result_for_journal`
the result of an input. Kinds of jobs without a function describe their work in `JobKind.for_journal`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, cast

from ..job._job_options import bad_value_error, file_path
from ..job._outcome import Restoration

if TYPE_CHECKING:
    from ..job._job import AbstractJob
    from ..job._job_options import Subject

NOT_IN_JOURNAL_REASON: Final = "it has no result in the journal"
NOT_SAVED_REASON: Final = "save=None: its result is not stored"
"""Reasons why a job was not restored; see `NotStored`."""


class JournalProtocol(Protocol):
    """The interface of the argument `journal` of `Scheduler.run`; `trioflow.Journal` implements it."""

    def open_for(self, scheduler: Any) -> RunJournal:
        """Open the journal for a run of the outermost scheduler, before anything starts.

        Raises:
            JournalError: the journal cannot be used. The run does not start.

        """
        ...


def check_journal(value: Any, name: str, subject: Subject) -> JournalProtocol | str | None:
    if value is None or hasattr(value, "open_for"):
        return cast("JournalProtocol | None", value)
    if isinstance(value, (str, os.PathLike)):
        return file_path(value, name, subject)
    raise bad_value_error(TypeError, value, name, subject, "give a Journal, or the path of one")


class NotStored(NamedTuple):
    """The value that `look_up` returns if the journal has no result for a job."""

    reason: str | None = None
    """The reason; None if there is nothing to explain."""
    cause: str | None = None
    """If the job has run before: the first change because of which it runs again, for the verdict."""


class Restored(NamedTuple):
    """The value that `look_up` returns if the journal has the result of a job."""

    value: Any
    restoration: Restoration = Restoration()
    """The facts about the run in which the job succeeded."""


class OpenQuestion(Protocol):
    """A question that a journal has published, so that another process may answer it."""

    def poll(self) -> str | None:
        """Return the text of a new answer, or None."""
        ...

    def refuse(self, reason: str) -> None:
        """Refuse the answer that `poll` has returned."""

    def close(self) -> None:
        """Withdraw the question as soon as the result of the job is committed."""


class RunJournal(Protocol):
    """The interface of a journal that is open for one run. Jobs are identified by their paths.

    If the journal's file cannot be read or written, the methods raise a `JournalError`.
    """

    def nested(self, scheduler: AbstractJob[Any]) -> RunJournal:
        """Return a view of this journal for the run of a nested scheduler."""
        ...

    def look_up(self, job: AbstractJob[Any]) -> Restored | NotStored:
        """Return the stored result of a job that is ready to run, or the reason why there is none."""
        ...

    def prefetch(self, path: str) -> Callable[[], None] | None:
        """Return what reads the large result at this path, in a thread, for the next `look_up`; None if it has none."""
        ...

    def prepare(self, job: AbstractJob[Any], value: Any) -> None:
        """Write what is large in a result that a running job is about to return. This may be called in a thread."""

    def record(self, job: AbstractJob[Any], value: Any) -> None:
        """Record the result of a job that has succeeded; the next `commit` writes it."""

    def record_winners(self, first: AbstractJob[Any], winners: Sequence[AbstractJob[Any]]) -> None:
        """Record which jobs of a `First` have decided its result, for a later `look_up` of the `First`."""

    def open_question(self, job: AbstractJob[Any], facts: Mapping[str, Any]) -> OpenQuestion | None:
        """Publish the question of a job that runs; None if its answer can only be given in this process."""
        ...

    def forget(self, job: AbstractJob[Any]) -> None:
        """Release a settled job that its scheduler is about to drop because of `keep_jobs=False`."""

    def commit(self) -> None:
        """Write all recorded results, in one transaction."""

    def close(self, outcome: str | None, report: Callable[[str], object]) -> None:
        """Write the pending records and close the journal, at the end of the outermost run.

        Args:
            outcome: the name of the run's `stop_reason`, or "refused" if the run did not start; None if the journal has
                already failed.
            report: called with a message for each error that occurs in this call.

        """

    @property
    def commits_each(self) -> bool:
        """Whether each result must be committed before the jobs that wait for it may start."""
        ...
