"""`JournalSession`: the use of a journal by a run. `LookUp` reads, `Recorder` writes, and both know the `RunFacts`.

| method | whose |
|---|---|
| `look_up` | `LookUp` finds, then `Recorder` prepares what follows from it |
| `nested` | the session's: one for all schedulers of the run |
| `read_files`, `prefetch` | `LookUp` |
| `begin_attempt`, `end_attempt` | `Recorder` |
| `prepare`, `record`, `record_winners` | `Recorder` |
| `open_question`, `forget`, `discard`, `commit` | `Recorder` |
| `close` | the session's: the end of the run, then the file, then the notes |
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


class JournalSession:
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
        store = JournalStore(path, writes=True, syncs=self.commits_each)
        try:
            was_empty = store.is_empty()
            questions = RunQuestions(path, store.file, store.find_undamaged_job)
            questions.discard_answered()
            store.commit()
            run_number = store.add_run(scheduler.label)
        except BaseException:
            store.close()
            raise
        claim(self, store.own_paths)
        self.facts: Final = RunFacts(
            scheduler, store, run_number, save, compares_contents
        )
        self.recorder: Final = Recorder(self.facts, questions)
        self._look_up: Final = LookUp(self.facts, self.recorder, was_empty)
        self.read_files: Final = self._look_up.read_files
        self.prefetch: Final = self._look_up.prefetch
        self.begin_attempt: Final = self.recorder.begin_attempt
        self.end_attempt: Final = self.recorder.end_attempt
        self.prepare: Final = self.recorder.prepare
        self.record: Final = self.recorder.record
        self.record_winners: Final = self.recorder.record_winners
        self.open_question: Final = self.recorder.open_question
        self.forget: Final = self.recorder.forget
        self.discard: Final = self.recorder.discard
        self.commit: Final = self.recorder.commit
        _loaded_files.remember()
        _loaded_files.before_reload[self.recorder.note_codes] = None

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
        answer, asked, record, first, is_ambiguous = self._look_up.find_with_stamps(job)
        self.facts.entries[job].stamps = None
        recorder = self.recorder
        if is_ambiguous:
            assert asked is not None
            recorder.mark_ambiguous(job, asked, record)
            return self._look_up.reject(job, AMBIGUOUS)
        if asked is None:
            if first is not None and record is not None:
                recorder.accept_first(job, record, first)
            elif record is not None:
                # Whatever its fingerprint, what the job will have done is not in the record.
                recorder.note_outdated(job, record.path, "", record)
        elif isinstance(answer, NotStored):
            recorder.expect(job, asked, answer, record)
        elif record is not None:
            recorder.accept(job, asked, record)
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
                self.recorder.end_run(outcome)
        finally:
            _loaded_files.before_reload.pop(self.recorder.note_codes, None)
            store.close()
        self.facts.notes.report(
            report,
            store.path,
            [*self.facts.fingerprint_builder.identified_by_name_only],
        )
