"""`JournalSession`: the use of a journal by a run. `LookUp` reads, and the session records: it is a `Recorder`.

| method | what it does |
|---|---|
| `look_up` | `LookUp` finds, then the session prepares what follows from it |
| `nested` | the same session, for all schedulers of the run |
| `read_files`, `prefetch` | those of `LookUp` |
| `close` | the end of the run, then the file, then the notes |
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from .. import _loaded_files
from .._core.job._job import AbstractJob
from .._core.run._journaling import NotStored, Restored
from ..jobs._user_files import claim
from ._look_up import LookUp
from ._questions import RunQuestions
from ._recorder import Recorder
from ._run_facts import AMBIGUOUS, RunFacts
from ._store import JournalStore

if TYPE_CHECKING:
    from .._core.job._job_options import Save
    from .._core.scheduler._base_scheduler import BaseScheduler


class JournalSession(Recorder):
    """A journal that is open for a run. All schedulers of the run share the session.

    Args:
        path: the file.
        scheduler: the outermost scheduler of the run.
        save: the default for jobs without `save=`.
        compares_contents: whether to compare files by their contents.
        commits_each: whether to commit each result before any job that requires it starts.

    Raises:
        JournalError: the file cannot be used, or another run uses it.

    """

    def __init__(
        self,
        path: Path,
        scheduler: BaseScheduler,
        *,
        save: Save,
        compares_contents: bool,
        commits_each: bool,
    ) -> None:
        self.commits_each: Final = commits_each
        store = JournalStore(path, writes=True, syncs=commits_each)
        try:
            was_empty = store.is_empty()
            questions = RunQuestions(store)
            questions.discard_answered()
            store.commit()
            run_number = store.add_run(scheduler.label)
        except BaseException:
            store.close()
            raise
        claim(self, store.own_paths)
        facts = RunFacts(scheduler, store, run_number, save, compares_contents)
        super().__init__(facts, questions)
        self._look_up: Final = LookUp(facts, self, was_empty)
        self.read_files: Final = self._look_up.read_files
        self.prefetch: Final = self._look_up.prefetch
        _loaded_files.remember()
        _loaded_files.before_reload[self.note_codes] = None

    def nested(self, scheduler: AbstractJob[Any]) -> JournalSession:
        facts = self.facts
        facts.requirement_forms.begin(scheduler)
        outer = facts.record_paths[scheduler.scheduler]
        facts.record_paths[scheduler] = outer.nested(cast("BaseScheduler", scheduler))
        return self

    def look_up(self, job: AbstractJob[Any]) -> Restored | NotStored:
        """Return the stored result of a job. If the job must run, prepare to record it, and return a `NotStored`.

        The `NotStored` has the reason, unless the job always runs.
        """
        found = self._look_up.find_with_stamps(job)
        answer, asked, record, first, is_ambiguous = found
        self.facts.entries[job].stamps = None
        if is_ambiguous:
            assert asked is not None
            self.mark_ambiguous(job, asked, record)
            return self._look_up.reject(job, AMBIGUOUS)
        if asked is None:
            if first is not None and record is not None:
                self.accept(job, record, first)
            elif record is not None:
                # Whatever its fingerprint, what the job will have done is not in the record.
                self.note_outdated(job, record.path, "", record)
        elif isinstance(answer, NotStored):
            self.expect(job, asked, answer, record)
        elif record is not None:
            running = asked.running
            self.accept(job, record, running.fingerprint, running.work)
        return answer

    def close(self, outcome: str | None, report: Callable[[str], object]) -> None:
        """Commit, record the end of the run, close the file, and report jobs whose results could not be stored.

        It also logs a warning about functions that are identified only by name.

        Args:
            outcome: the stop reason of the run, or "refused" if it did not start. None closes the file without writing,
                because the journal has failed.
            report: called with a message if results could not be stored.

        """
        store = self.facts.store
        try:
            if outcome is not None:
                self.end_run(outcome)
        finally:
            _loaded_files.before_reload.pop(self.note_codes, None)
            store.close()
        self.facts.notes.report(
            report,
            store.path,
            [*self.facts.fingerprint_builder.identified_by_name_only],
        )
