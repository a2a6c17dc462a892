"""`Recorder`: what a run writes into its journal: attempts, results, and what counts no more.

```
look-up ──► Restored ──────────────────► `accept` ─────────────────────────┐
   │                                                                        ▼
   └──► NotStored ──► `expect` ──► begin_attempt ──► end_attempt ──► record ──► pending ──► commit
                                        │ at once
                                        ▼
                          begun: a kill alone leaves that
```

Rules:
1. A job is recorded under the path and the fingerprint of its look-up: `expect` keeps them, until it has its outcome.
2. All but the begin of an attempt, an answer and a word of `discard` is pending until the next commit, which is one
   transaction.
3. Two jobs of one path are never both stored: `mark_ambiguous` replaces what the first has left.

Decided in docs/decisions: 39-journals.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections import Counter
from collections.abc import (
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import TYPE_CHECKING, Any, Final, cast

from .._core.base._logger import warn
from .._core.base._states import COMPLETED
from .._core.base._text_forms import MAX_NAMED_JOBS
from .._core.job import _function
from .._core.job._ancestors import enclosing_schedulers
from .._core.job._errors import JournalError
from .._core.job._job import AbstractJob, with_members
from .._core.job._labels import paths_of, printable
from .._core.job._work_spec import Work
from .._core.run._journaling import NotStored
from .._core.words import _job_queries, _run_view
from ..jobs._thread import ThreadJob
from ..jobs._user_files import HIDDEN_TEXT
from ..jobs.posix._files import call_in_thread
from ..jobs.process._process_job import ProcessJob, find_executor
from . import _record_paths, _run_summary
from ._code_digests import code_digest, executing_codes
from ._file_stamps import placed
from ._fingerprint import read_parts, with_requirements
from ._questions import PublishedQuestion, RunQuestions
from ._results import save_format
from ._run_facts import AMBIGUOUS, NO_RECORD, RAN_BEFORE, AskedJob, RunFacts, RunningJob
from ._serialization import NotSerializable, dumps
from ._store import AMBIGUOUS_PREFIX, DamagedRow, Outputs, StoredJob

if TYPE_CHECKING:
    from ._file_stamps import Stamps
    from ._record_paths import RecordPaths

MUTABLE_FORM: Final = re.compile(r'"(?:a":\[|k":\{).*"(?:\[|\{|~)')
"""The part of a fingerprint that says that an argument may be a container or an object."""
RUN_SINCE_REASON: Final = "it has run since in another run, without a result"


class Recorder:
    """Writes the records of a run's jobs.

    Args:
        facts: the facts about the run.
        questions: the questions of the run.

    """

    def __init__(self, facts: RunFacts, questions: RunQuestions) -> None:
        self.facts: Final = facts
        self.questions: Final = questions
        # The jobs that run or are about to run, if their results will be recorded, by path.
        self.running_paths: Final[dict[str, AbstractJob[Any]]] = {}
        self._tally: Final = _run_summary.JobTally()
        # ---- changes that the next commit writes
        self._pending_records: dict[str, StoredJob] = {}
        self._pending_restored: dict[str, None] = {}
        self._pending_ended_writers: list[tuple[str]] = []

    def was_used_in_run(self, path: str, record: StoredJob | None) -> bool:
        """Return whether this run has already restored or recorded a job under this path.

        The journal is asked for settled jobs, so that a run that adds jobs for a year needs no memory for them.
        """
        if path in self._pending_records or path in self._pending_restored:
            return True
        return record is not None and self.facts.run_number in (
            record.run,
            record.restored,
        )

    def is_ambiguous(
        self,
        job: AbstractJob[Any],
        path: str,
        record: StoredJob | None,
        paths: RecordPaths,
        by_name_only: bool,
    ) -> bool:
        """Return whether several jobs of this run have this path, so that none of them is stored."""
        if record is not None and record.fingerprint.startswith(AMBIGUOUS_PREFIX):
            return True
        if paths.used is not None:
            return paths.used.setdefault(path, job) is not job
        earlier = self.running_paths.get(path)
        if earlier is job:
            # It is tried again.
            return False
        if earlier is None:
            return self.was_used_in_run(path, record)
        # If a job has failed, another job may have its name, unless both could have the same fingerprint.
        return by_name_only or not earlier.is_settled()

    # ---- after a look-up

    def accept(
        self,
        job: AbstractJob[Any],
        record: StoredJob,
        fingerprint: str,
        work: Work | None = None,
    ) -> None:
        """Record that a job is restored. Add its requirements to its record, if `--only` has left them out."""
        is_changed = record.fingerprint != fingerprint
        if is_changed and not _job_queries.has_cut_requirements(job):
            self._pending_records[record.path] = record._replace(
                fingerprint=fingerprint
            )
        path = self.facts.entries[job].path or ""
        self._pending_restored[path] = None
        if work is not None and work.writes:
            self._pending_ended_writers.append((path,))

    def expect(
        self,
        job: AbstractJob[Any],
        asked: AskedJob,
        found: NotStored,
        record: StoredJob | None,
    ) -> None:
        """Prepare to record the result of a job that runs."""
        running = asked.running
        if found is not NO_RECORD:
            running.why = found
        # What was left out of this run is not compared.
        fingerprint = running.fingerprint
        if record is not None and _job_queries.has_cut_requirements(job):
            fingerprint = with_requirements(
                asked.own, read_parts(record.fingerprint).get("q") or ""
            )
        if found is RAN_BEFORE:
            # In an earlier attempt of a group around it, whose result ends as this one does.
            self._end_older(job, running.path, fingerprint)
        elif record is not None:
            self.note_outdated(job, running.path, fingerprint, record)
        self.facts.entries[job].running = running
        self.running_paths[running.path] = job

    def note_outdated(
        self,
        job: AbstractJob[Any],
        path: str,
        fingerprint: str,
        record: StoredJob,
    ) -> None:
        """Note a job that is about to run, if it has a record of a result with another fingerprint.

        Args:
            job: the job.
            path: its path.
            fingerprint: the fingerprint with which it runs, or "" if its result will not be recorded.
            record: the record of its path.

        """
        if record.saved is not None and record.fingerprint != fingerprint:
            self._end_older(job, path, fingerprint or record.fingerprint)

    def _end_older(self, job: AbstractJob[Any], path: str, fingerprint: str) -> None:
        """Let the result in the record of a path count no more as soon as an attempt of a job has ended."""
        # Otherwise, another job may get its name in this run, and the record be that of this job.
        if job.scheduler is None or job.scheduler.keep_jobs:
            self.facts.entries[job].outdated = path, fingerprint

    def mark_ambiguous(
        self, job: AbstractJob[Any], asked: AskedJob, record: StoredJob | None
    ) -> None:
        """Replace the record of a path that several jobs have, so that no run stores or restores any of them.

        Raises:
            JournalError: any of them was restored, maybe with the result of another.

        """
        # Of an earlier attempt, if it is tried again.
        self._take_running(job)
        path = asked.running.path
        run_number = self.facts.run_number
        first_fingerprint = asked.running.fingerprint
        is_marked = False
        was_restored = path in self._pending_restored
        if record is not None:
            first_fingerprint = record.fingerprint
            is_marked = record.fingerprint.startswith(AMBIGUOUS_PREFIX)
            if record.restored == run_number:
                was_restored = True
        if is_marked:
            first_fingerprint = first_fingerprint[len(AMBIGUOUS_PREFIX) : -1]
        if record is None or not is_marked or record.run != run_number:
            self._pending_restored.pop(path, None)
            marked = self._unstored(
                path, f"{AMBIGUOUS_PREFIX}{first_fingerprint}}}", AMBIGUOUS
            )
            if was_restored:
                marked = marked._replace(restored=run_number)
            self._pending_records[path] = marked
            self.commit()
            earlier = self.running_paths.get(path)
            if earlier is not None:
                entry = self.facts.entries[earlier]
                entry.mark = marked
                entry.outdated = None
        is_alike = first_fingerprint == asked.running.fingerprint
        if was_restored and asked.running.by_name_only and is_alike:
            raise JournalError(
                f"several jobs have the name '{printable(path)}'; one of them was restored, but the journal knows "
                f"their function by name only, so the result may be that of another; start the run again: it restores "
                f"none of them; to have them stored, give each a label of its own, or key="
            )

    # ---- an attempt

    def begin_attempt(
        self, job: AbstractJob[Any]
    ) -> Callable[[], Awaitable[None]] | None:
        """Return a function that records that an attempt begins, if it writes files: a kill alone leaves that record.

        Before, it sets aside the files that a killed attempt has half written. A result that does not hold any more, by
        `restore_if=`, counts no more then: see rule 3 of `_restore_if`.
        """
        entry = self.facts.entries[job]
        running = entry.running
        if running is None:
            return None
        writes: Iterable[Any] = ()
        if running.work is not None:
            running.work = placed(running.work)
            writes = running.work.writes
        is_refused = entry.verdict is not None and entry.verdict.against is running.why
        if not writes and not is_refused:
            return None
        stamper = self.facts.file_stamper

        async def begin() -> None:
            if is_refused:
                entry.outdated = None
                self._pending_records[running.path] = self._unstored(
                    running.path, running.fingerprint, running.why.reason
                )
            # The end of the last attempt, too.
            self.commit()
            if not writes:
                return
            left: dict[str, str] = {}
            with contextlib.suppress(DamagedRow):
                # Otherwise, the stamps from the killed attempt are lost.
                found = self.facts.store.find_stamps_before_start(running.path)
                left = Outputs.parse(found).stamps
            self._set_aside(job, running, left, "did not succeed in the run before")
            taken: Stamps = {}
            if stamper.is_slow(writes):
                work = Work(what="", writes=writes)
                taken = await call_in_thread(stamper.take, [work])
            stamps: dict[str, str] = {}
            with contextlib.suppress(NotSerializable), stamper.use(taken):
                stamps = stamper.stamps_of_writes(writes, job.redact)
            running.stamps_before = stamps
            outputs = Outputs(stamps).to_json() or "{}"
            self.facts.store.record_start(running.path, outputs)

        return begin

    def end_attempt(self, job: AbstractJob[Any]) -> bool:
        """Take away the record that an attempt has begun, whatever its outcome, in the commit of its result if any.

        If it has no success, set aside the files that its kind writes, besides those of its option `writes`. If it
        began with another fingerprint than that of the record of an earlier run, or the record is of an earlier attempt
        of a group around it, that record counts no more.
        """
        entry = self.facts.entries[job]
        running = entry.running
        is_outdated = False
        if entry.outdated is not None:
            # Only what has begun is queued again; of a throttled attempt, nothing else is left.
            is_outdated = job.started_at is not None or not job.is_settled()
            if is_outdated:
                path, fingerprint = entry.outdated
                self._pending_records[path] = self._unstored(
                    path, fingerprint, RUN_SINCE_REASON, job.elapsed
                )
        if running is None or running.stamps_before is None:
            return is_outdated
        written = [*cast("Work", running.work).writes]
        if not job.is_succeeded() and len(written) > len(job.writes):
            self._set_aside(job, running, running.stamps_before, "has not succeeded")
        running.stamps_before = None
        self._pending_ended_writers.append((running.path,))
        return True

    def _set_aside(
        self,
        job: AbstractJob[Any],
        running: RunningJob,
        stamps: dict[str, str],
        how: str,
    ) -> None:
        """Set aside the files that an attempt may have half written, and log it."""
        if not stamps:
            return
        others = self.facts.store.outputs_of_other_jobs(running.path)
        moved = self.facts.file_stamper.set_aside_partial_files(
            job, cast("Work", running.work), stamps, {*map(os.path.realpath, others)}
        )
        if moved and job.redact:
            moved = HIDDEN_TEXT
        if moved:
            warn(f"{job.label!r} {how}: {moved}")

    def note_codes(self) -> None:
        """Note the code of the jobs that run, before mended code is taken. Any thread may call this.

        Of a `ThreadJob` whose thread does not execute the function, it is not known whether it has, or is about to. A
        `ProcessJob` that waits for its worker gets one with the mended code.
        """
        executing = executing_codes()
        for job, entry in self.facts.entries.copy().items():
            running = entry.running
            if running is None or running.function is None:
                continue
            attempt = _job_queries.begun_attempts(job)
            if running.code_before[0] == attempt:
                continue
            is_waiting = isinstance(job, ProcessJob) and job._called_attempt < attempt
            if is_waiting and find_executor(job) is None:
                continue
            digest: str | None = None
            if not isinstance(job, ThreadJob) or running.function.__code__ in executing:
                digest = code_digest(running.function)
            running.code_before = attempt, digest

    # ---- a result

    def prepare(self, job: AbstractJob[Any], value: object) -> None:
        """Write a result that is about to be recorded, if it is large. This may be called in a thread."""
        running = self.facts.entries[job].running
        if running is not None:
            with contextlib.suppress(NotSerializable):
                # `record` reports it.
                result = self.facts.results.write(running.save, value, in_thread=True)
                running.prepared = (value, result)

    def record(self, job: AbstractJob[Any], value: object) -> None:
        """Buffer the result of a job for the next commit. Commit the answer to a question at once."""
        running = self._take_running(job)
        if running is None:
            # The job was restored, or it is never recorded.
            return
        facts = self.facts
        entry = facts.entries[job]
        taken = entry.stamps or {}
        entry.stamps = None
        self._note_changed_arguments(job, running.fingerprint)
        why = _describe_incomplete(job)
        record = self._unstored(running.path, running.fingerprint, why, job.took)
        record = record._replace(code=_code_of(job, running))
        if why is None:
            facts.requirement_forms.set_ran(job, (record.run, record.settled))
            try:
                record = self._with_result(record, job, running, value, taken)
            except NotSerializable as error:
                why = error.shown(job.redact)
                facts.notes.add_unstorable(job, f"its result, {why}")
                record = record._replace(why=why)
        self._pending_records[running.path] = record
        if self.questions.told(running.path) is not None:
            # Before a job acts on the answer: after a kill, another person could replace it.
            self.commit()

    def _with_result(
        self,
        record: StoredJob,
        job: AbstractJob[Any],
        running: RunningJob,
        value: object,
        taken: Stamps,
    ) -> StoredJob:
        """Return the record of a job with its result.

        Raises:
            NotSerializable: the result cannot be stored, or a file that it has written cannot be read.

        """
        facts = self.facts
        prepared_value, result = running.prepared or (None, None)
        if result is None or prepared_value is not value:
            result = facts.results.write(running.save, value)
        stamps: dict[str, str] = {}
        if running.work is not None:
            with facts.file_stamper.use(taken):
                stamps = facts.file_stamper.output_stamps(running.work, job.redact)
        answered = self.questions.told(running.path)
        used = _job_queries.budget_use(job)
        outputs = Outputs(stamps, used, redacted=job.redact, answered=answered)
        facts.entries[job].form = result.form
        return record._replace(
            saved=save_format(running.save),
            result=result.result,
            large=result.large,
            outputs=outputs.to_json(),
            why=running.why.reason,
        )

    def _unstored(
        self, path: str, fingerprint: str, why: str | None, took: float | None = None
    ) -> StoredJob:
        return StoredJob(
            path, fingerprint, saved=None, result=None, large=None, outputs=None, run=self.facts.run_number,
            restored=None, settled=self.facts.now(), took=took, why=why,
        )  # fmt: skip

    def _take_running(self, job: AbstractJob[Any]) -> RunningJob | None:
        """Remove and return the facts about a job that no longer runs, or None if its result will not be recorded."""
        entry = self.facts.entries[job]
        running = entry.running
        mark = entry.mark
        entry.running = None
        entry.outdated = None
        entry.mark = None
        if running is not None and self.running_paths.get(running.path) is job:
            del self.running_paths[running.path]
            if mark is not None:
                self._pending_records[running.path] = mark
                return None
        return running

    def _note_changed_arguments(self, job: AbstractJob[Any], fingerprint: str) -> None:
        """Note a job that has changed its arguments in place: a resumed run, which restores it, does not do that."""
        if not isinstance(job, _function.FunctionJob):
            return
        if not MUTABLE_FORM.search(fingerprint):
            return
        changed = self.facts.notes.changed_arguments
        if len(changed) >= MAX_NAMED_JOBS:
            return
        with contextlib.suppress(Exception):
            # Raised by an attribute of a user's class.
            options = _job_queries.options_of(job)
            now = self.facts.fingerprint_builder.compute(job, None, options)[0]
            parts = read_parts(now)
            for part, value in read_parts(fingerprint).items():
                if part in "ak" and parts.get(part) != value:
                    changed[job.label] = None

    def record_winners(
        self, first: AbstractJob[Any], winners: Sequence[AbstractJob[Any]]
    ) -> None:
        """Buffer the winners of a `First` for the next commit."""
        facts = self.facts
        entry = facts.entries[first]
        undecided = entry.undecided
        entry.undecided = None
        facts.requirement_forms.winners[first] = winners
        used = dict(facts.budget_use.decide(first))
        if first.scheduler is None:
            # Of one that runs alone, a later run restores the winners themselves.
            self.questions.withdraw("")
        if undecided is None:
            return
        members, fingerprint = undecided
        described = _record_paths.describe_winners(winners, members)
        if not described:
            return
        path = members.prefix[:-1]
        took = (winners[-1].finished_at or 0.0) - (first.started_at or 0.0)
        record = self._unstored(path, fingerprint, None, took)
        outputs = Outputs(winners=described, budgets=used).to_json()
        result = dumps([*described])
        record = record._replace(saved="json", result=result, outputs=outputs)
        self._pending_records[path] = record
        self.questions.withdraw(members.prefix)

    # ---- a question

    def open_question(
        self, job: AbstractJob[Any], facts: Mapping[str, Any]
    ) -> PublishedQuestion | None:
        running = self.facts.entries[job].running
        if running is None:
            return None
        self.commit()
        record = self.facts.find_record(running.path)
        if record is not None and record.fingerprint == running.fingerprint:
            # Otherwise, a later run would restore this answer, whatever is answered now.
            self.facts.store.discard([running.path])
        # Of jobs that come later, nobody knows the labels.
        is_sole = not self.facts.has_added_jobs and self._label_counts[job.label] == 1
        try:
            return self.questions.publish(
                job, running.path, running.fingerprint, is_sole, facts
            )
        except JournalError as error:
            warn(
                f"{error}; so {job.label!r} can only be answered by its method answer()"
            )
            return None

    @functools.cached_property
    def _label_counts(self) -> Counter[str]:
        """How many jobs of the whole scenario have each label."""
        return Counter(job.label for job in self.facts.scheduler.iterate_jobs())

    # ---- what counts no more

    def forget(self, job: AbstractJob[Any]) -> None:
        """Drop the references to a job that its scheduler drops, and to its nested jobs.

        Their outcomes are counted first. Their results stay stored.
        """
        facts = self.facts
        facts.requirement_forms.forget(job)
        facts.budget_use.drop(job)
        facts.record_paths[job.scheduler].forget(job)
        for dropped in with_members(job):
            running = self._tally_outcome(dropped)
            facts.entries.pop(dropped, None)
            facts.record_paths.pop(dropped, None)
            if running is None or not running.by_name_only:
                continue
            if running.why.reason in (None, RAN_BEFORE.reason):
                # It has failed, and had no record. A later job with this name could have the same fingerprint.
                failed = self._unstored(
                    running.path, running.fingerprint, "because it failed", dropped.took
                )
                self._pending_records[running.path] = failed

    def discard(self, jobs: Sequence[AbstractJob[Any]]) -> None:
        """Remove the records of jobs that run anew, so that no later run restores what they have returned so far."""
        paths: list[str] = []
        for job in jobs:
            entry = self.facts.entries[job]
            path = entry.path or ""
            paths.append(path)
            entry.path = ""
            entry.form = None
            self.facts.requirement_forms.discard(job)
            self.facts.notes.changed_code.pop(path, None)
            self._pending_records.pop(path, None)
            self._pending_restored.pop(path, None)
        # An answer that no commit has taken yet answers no later question.
        self.questions.close(paths)
        self.facts.store.discard(paths)

    def _tally_outcome(self, job: AbstractJob[Any]) -> RunningJob | None:
        """Add the outcome of a job to the summary of the run. Return the facts if its result was not recorded."""
        scheduler = self.facts.scheduler
        running = self._take_running(job)
        if _job_queries.is_in_first(job, scheduler):
            return running
        state = _job_queries.counted_state(scheduler, job)
        if state is not None:
            why: str | None = _run_summary.ALWAYS_RUNS_REASON
            if running is not None:
                why = running.why.reason
            self._tally.add_outcome(job, state, why)
        return running

    # ---- the file

    def commit(self) -> None:
        records = self._pending_records
        ended = self._pending_ended_writers
        if not (records or ended or self._pending_restored):
            return
        restored = [(self.facts.run_number, path) for path in self._pending_restored]
        self._pending_records = {}
        self._pending_restored = {}
        self._pending_ended_writers = []
        self.facts.store.add_records(list(records.values()), restored, ended)
        self.questions.close(records)

    def end_run(self, outcome: str) -> None:
        """Commit, and record the end of the run with its summary."""
        scheduler = self.facts.scheduler
        for job in scheduler.iterate_jobs():
            self._tally_outcome(job)
        self.commit()
        has_all_jobs = not _job_queries.is_cut(scheduler)
        if has_all_jobs and outcome == COMPLETED.name:
            # Otherwise, the job that failed may be the one that adds what asks.
            self.questions.discard_unasked(self._paths_to_be_asked())
        began, ended = _run_view.run_times(scheduler) or (0.0, None)
        seconds = 0.0
        if ended is not None:
            seconds = ended - began
        summary = self._tally.to_json(scheduler)
        self.facts.store.end_run(self.facts.run_number, outcome, seconds, summary)

    def _paths_to_be_asked(self) -> Iterator[str]:
        """Yield the paths of jobs that have no result, and so may ask in a later run."""
        for job, path in paths_of(self.facts.scheduler).items():
            levels = job, *enclosing_schedulers(job)
            # A group that has succeeded may have such jobs, a `First` none.
            if not any(map(_has_result, levels)):
                yield path


def _has_result(job: AbstractJob[Any]) -> bool:
    return job.is_succeeded() and _job_queries.is_one_job(job)


def _describe_incomplete(job: AbstractJob[Any]) -> str | None:
    """Return why the result of a job that succeeded is not whole, or None if it is."""
    if job.timed_out and _job_queries.options_of(job).on_timeout == "move_on":
        return "incomplete because of its timeout"
    if _job_queries.has_skipped_itself(job):
        return "its node was skipped"
    return None


def _code_of(job: AbstractJob[Any], running: RunningJob) -> str | None:
    """Return the digest of the code with which the last attempt of a job began, or None if it is not known."""
    if running.function is None:
        return None
    attempt, digest = running.code_before
    if attempt == _job_queries.begun_attempts(job):
        return digest
    return code_digest(running.function)
