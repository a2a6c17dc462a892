"""`LookUp`: whether a job that is ready is restored from its record, or why it runs. It reads, and records nothing.

```
job is ready ──► path and fingerprint ──► its record ──► `judge` ──► MATCHES ──► files and result ──► Restored
                          │                                │ DIFFERS                    │
                          ▼                                ▼                            ▼
                     NotStored: nothing            what has changed?            NotStored: a file has changed,
                     identifies it                 nothing: as MATCHES          the result cannot be used
```

Rules:
1. A look-up may be made again, as `_restore_if` does: it writes to the entry of the job and to the shares of
   requirements what it has found, and `Recorder` does what follows from the answer.
2. What the next commit writes counts as written. `LookUp` asks the recorder for it.
3. The first reason found is the reason that users read: fingerprint, requirements, files, result.

Other modules compare a record (`_matching`), judge files and load the result (`_restoring`), and look up a `First`
(`_first_look_up`).

Decided in docs/decisions: 39-journals.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, cast

from .._core.base._logger import warn
from .._core.base._text_forms import clause
from .._core.job._job import AbstractJob, is_scheduler
from .._core.job._labels import printable
from .._core.run import _journaling
from .._core.run._journaling import NotStored, Restored
from .._core.words import _job_queries
from ..abc import ThreadEvent
from ..jobs.posix._files import call_in_thread
from . import _code_digests, _file_stamps, _record_paths
from ._fingerprint import describe_work, read_parts, with_requirements
from ._first_look_up import find_first
from ._judgement import Evidence, Finding, judge
from ._matching import find_change, path_of_work
from ._record_paths import RecordPaths
from ._requirement_forms import CUT_PART, NOTHING, Counted
from ._restore_if import ask
from ._restoring import restore
from ._run_facts import (
    ALWAYS_RUNS,
    NO_RECORD,
    RAN_BEFORE,
    AskedJob,
    Found,
    RunFacts,
    RunningJob,
)
from ._serialization import NotSerializable
from ._store import DAMAGED_TEXT, DamagedRow, StoredJob

if TYPE_CHECKING:
    from .._core.job._job_options import OptionRecord, Save
    from .._core.job._work_spec import Work
    from ._recorder import Recorder

DAMAGED: Final = NotStored(DAMAGED_TEXT)
UNIDENTIFIED: Final = "only the name of its function identifies it, and other functions may have the same name"


class LookUp:
    """Looks up the jobs of a run.

    Args:
        facts: the facts about the run.
        recorder: says which jobs run, and which records the next commit writes.
        was_empty: whether the journal had no record as the run began.

    """

    def __init__(self, facts: RunFacts, recorder: Recorder, was_empty: bool) -> None:
        self._facts: Final = facts
        self._recorder: Final = recorder
        self._was_empty: Final = was_empty
        self._reported_reasons: Final[set[str]] = set()

    def prefetch(self, path: str) -> Callable[[], None] | None:
        """Return a function that reads the large result at this path, for the next look-up, or None.

        It may be called in a thread.
        """
        return self._facts.results.prefetch(self._facts.find_record(path))

    # ---- before a look-up

    def read_files(self, job: AbstractJob[Any]) -> Callable[[], Awaitable[None]] | None:
        """Return a function that reads the files of a job in a thread, and asks `restore_if=`. None if it is quick."""
        entry = self._facts.entries[job]
        entry.stamps = None
        must_ask = False
        works: list[Work | None]
        if job.is_running():
            # It is about to be recorded.
            works = []
            if entry.running is not None:
                works.append(entry.running.work)
        else:
            judged = self._judged_works(job)
            works = [*judged.values()]
            must_ask = self._may_ask(judged)
        known = [work for work in works if work is not None]
        stamper = self._facts.file_stamper
        files = map(_file_stamps.files_of, known)
        is_slow = stamper.is_slow(itertools.chain.from_iterable(files))
        if not is_slow and not must_ask:
            return None

        async def read() -> None:
            if is_slow:
                entry.stamps = await call_in_thread(stamper.take, known)
            if must_ask:
                await self._ask(job)

        return read

    def _judged_works(
        self, job: AbstractJob[Any]
    ) -> dict[AbstractJob[Any], Work | None]:
        """Return all jobs whose files and `restore_if=` a look-up of a job judges, each with its work.

        These are the job, or all jobs of a `First`, and jobs that require one of these and write the same file.
        """
        works: dict[AbstractJob[Any], Work | None] = {}
        todo = [job]
        if is_scheduler(job) and _job_queries.is_one_job(job):
            todo += job.iterate_jobs()
        for current in todo:
            if (
                _job_queries.always_runs(current)
                or self._facts.save_of(current) is None
            ):
                continue
            works[current] = None
            with contextlib.suppress(NotSerializable):
                # `find` reports it.
                works[current] = describe_work(current)
            for writer in self._other_writers(current, works[current]):
                if current in writer.required and writer not in todo:
                    todo.append(writer)
        return works

    def _may_ask(self, works: dict[AbstractJob[Any], Work | None]) -> bool:
        """Return whether a look-up of these jobs may ask a `restore_if=`.

        If several jobs write a file, that may be of any job: the look-up may have to know which will be restored.
        """
        for job, work in works.items():
            restore_if = _job_queries.options_of(job).restore_if
            if restore_if is not None or self._other_writers(job, work):
                return True
        return False

    def _other_writers(
        self, job: AbstractJob[Any], work: Work | None
    ) -> list[AbstractJob[Any]]:
        """Return the other jobs whose `writes` names a file that a job writes."""
        found: list[AbstractJob[Any]] = []
        if work is not None:
            for path in _file_stamps.outputs_of(work):
                name = _file_stamps.path_text(path, job.redact)
                found += self._facts.writers.get(name, ())
        return [writer for writer in found if writer is not job]

    async def _ask(self, job: AbstractJob[Any]) -> None:
        """Ask each function `restore_if=` that the look-up of a job comes to."""
        while True:
            self._facts.unasked = None
            self.find_with_stamps(job)
            unasked = self._facts.unasked
            if unasked is None:
                return
            asked = self._facts.entries[unasked.job]
            if asked.asking is not None:
                # By the look-up of another job.
                await asked.asking.wait()
                continue
            asked.asking = ThreadEvent()
            try:
                await ask(self._facts, unasked)
            finally:
                asked.asking.set()
                asked.asking = None

    def find_with_stamps(self, job: AbstractJob[Any]) -> Found:
        """Look up a job, with the stamps that `read_files` has taken."""
        stamps = self._facts.entries[job].stamps
        if stamps is None:
            return self.find(job)
        with self._facts.file_stamper.use(stamps):
            return self.find(job)

    # ---- the look-up

    def find(self, job: AbstractJob[Any]) -> Found:
        """Look up a job."""
        facts = self._facts
        paths = facts.record_paths[job.scheduler]
        if _job_queries.always_runs(job):
            return self._find_unrecorded(job, paths)
        options = _job_queries.options_of(job)
        save = options.save
        if save == "default":
            # As `save_of`, for a call less: each job comes by here.
            save = facts.default_save
        if save is None:
            return self._find_unsaved(job, paths)
        asked = self._identify(job, options, save, paths)
        if isinstance(asked, NotStored):
            return Found(asked, record=self._record_of_member(job, paths))
        facts.requirement_forms.add(job, asked.counted)
        evidence = self._find_evidence(job, asked, paths)
        finding = judge(evidence)
        record = evidence.record
        if finding is Finding.AMBIGUOUS:
            self._count_as_run(job, asked.own)
            return Found(NO_RECORD, asked, record, is_ambiguous=True)
        facts.entries[job].path = asked.running.path
        answer: Restored | NotStored | None = None
        if finding is Finding.DIFFERS:
            answer = find_change(
                facts, job, cast(StoredJob, record), asked.own, asked.required
            )
        elif finding is not Finding.MATCHES:
            answer = self._reason(job, asked, finding)
        if answer is None:
            answer = restore(
                facts,
                job,
                options,
                cast(StoredJob, record),
                save,
                asked.running.work,
                paths,
            )
        if isinstance(answer, NotStored):
            asked.counted.cause = answer.cause or f"{job.label!r} has run since"
        else:
            self._note_restored(job, asked, cast(StoredJob, record))
        return Found(answer, asked, record)

    def _find_unrecorded(self, job: AbstractJob[Any], paths: RecordPaths) -> Found:
        if not is_scheduler(job):
            self._facts.requirement_forms.pass_on(job)
        elif _job_queries.is_one_job(job) and not job.forever:
            return find_first(self._facts, self._recorder, job, paths)
        return Found(ALWAYS_RUNS)

    def _find_unsaved(self, job: AbstractJob[Any], paths: RecordPaths) -> Found:
        self._facts.requirement_forms.pass_on(job)
        record = self._record_of_member(job, paths)
        return Found(NotStored(_journaling.NOT_SAVED_REASON), record=record)

    def _record_of_member(
        self, job: AbstractJob[Any], paths: RecordPaths
    ) -> StoredJob | None:
        """Return the record of a job that is not recorded, which counts no more once that has run."""
        path = paths.find(job)
        if path is None or job in paths.interchangeable:
            return None
        return self._facts.find_record(path)

    def _reason(
        self, job: AbstractJob[Any], asked: AskedJob, finding: Finding
    ) -> NotStored:
        """Return why a job runs whose path has no record that counts."""
        if finding is Finding.DAMAGED:
            return DAMAGED
        if finding is not Finding.RAN_BEFORE:
            return asked.moved or NO_RECORD
        failed = self._facts.entries[job].running
        if failed is None:
            return RAN_BEFORE
        # The change that made it run has not come to a result yet.
        return failed.why

    def _note_restored(
        self, job: AbstractJob[Any], asked: AskedJob, record: StoredJob
    ) -> None:
        """Let the jobs after a restored job see when it ran, and that its code has changed since."""
        asked.counted.ran = record.run, record.settled
        asked.counted.cause = None
        function = asked.running.function
        if function is None:
            return
        changed = _code_digests.find_change(
            record.code, _code_digests.code_digest(function)
        )
        if changed is not None:
            named = repr(job.label) + clause(" ({})", changed)
            self._facts.notes.changed_code[asked.running.path] = named
            _job_queries.note_older_code([job], {function.__code__: record.code})

    # ---- what identifies a job

    def _identify(
        self,
        job: AbstractJob[Any],
        options: OptionRecord,
        save: Save,
        paths: RecordPaths,
    ) -> AskedJob | NotStored:
        """Return the path and the work of a job that is looked up, or a `NotStored` if nothing identifies it."""
        facts = self._facts
        try:
            work = describe_work(job)
            own, by_name_only, function = facts.fingerprint_builder.compute(
                job, work, options
            )
        except NotSerializable as error:
            reason = error.shown(job.redact)
            facts.notes.add_unstorable(job, reason)
            self._count_as_run(job, "")
            return NotStored(f"its fingerprint cannot be computed: {reason}")
        path = self._find_path(job, own, by_name_only, paths)
        if path is None:
            self._count_as_run(job, own)
            return self.reject(job, UNIDENTIFIED)
        path, other_directory = path_of_work(facts, path, own)
        moved: NotStored | None = None
        if other_directory is not None:
            moved = NotStored(
                f"its directory has changed from {other_directory!r} to {read_parts(own).get('w')!r}"
            )
        if options.key is None:
            required = facts.requirement_forms.of_requirements(job)
            part = required.part
            if _job_queries.has_cut_requirements(job):
                part = CUT_PART
            fingerprint = with_requirements(own, part)
            counted = Counted(own, 1, required.ran, required.cause)
        else:
            required = None
            fingerprint = own
            counted = Counted(f"{job.label} {own}", 1, NOTHING.ran, NOTHING.cause)
        running = RunningJob(
            path, fingerprint, save, ALWAYS_RUNS, work, by_name_only, function
        )
        return AskedJob(own, required, counted, moved, running)

    def _find_path(
        self, job: AbstractJob[Any], own: str, by_name_only: bool, paths: RecordPaths
    ) -> str | None:
        """Return the path of a job, or None if nothing tells it from others."""
        path = paths.find(job)
        if path is None or paths.is_added:
            self._facts.has_added_jobs = True
        if path is None:
            name = _record_paths.name_of_added_job(job, own, by_name_only)
            if name is not None:
                return paths.prefix + name
        if job in paths.interchangeable:
            return None
        return path

    def _count_as_run(self, job: AbstractJob[Any], own: str) -> None:
        """Let the jobs that follow a job run again, because the job runs each time, though it was not told to."""
        ran = self._facts.run_number, self._facts.now()
        self._facts.requirement_forms.add(
            job, Counted(own, 1, ran, f"{job.label!r} has run since")
        )

    def reject(self, job: AbstractJob[Any], reason: str) -> NotStored:
        """Return the reason why the journal does not store a job. Log it for the first such job."""
        if reason not in self._reported_reasons:
            self._reported_reasons.add(reason)
            warn(
                f"the journal does not store '{printable(job.path)}', nor other jobs like it: {reason}; give each a "
                f"label of its own, or key="
            )
        return NotStored(f"it is not stored: {reason}")

    # ---- the record of a job

    def _find_evidence(
        self, job: AbstractJob[Any], asked: AskedJob, paths: RecordPaths
    ) -> Evidence:
        """Find the record of a job, and claim its path."""
        facts = self._facts
        running = asked.running
        record: StoredJob | None = None
        is_ambiguous = False
        # It runs anew.
        was_used = facts.entries[job].path == ""
        is_damaged = False
        # The journal is new, and each path is used once.
        is_first = self._was_empty and not facts.has_added_jobs and paths.used is None
        if not is_first:
            try:
                record = facts.store.find_job(running.path)
            except DamagedRow:
                is_damaged = True
            is_ambiguous = self._recorder.is_ambiguous(
                job, running.path, record, paths, running.by_name_only
            )
            if self._recorder.was_used_in_run(running.path, record):
                was_used = True
        return Evidence(
            record, running.fingerprint, asked.required or NOTHING, _job_queries.has_cut_requirements(job),
            is_ambiguous, was_used, is_damaged, asked.moved is not None,
        )  # fmt: skip
