"""`Journal`, and its use by a run, which looks up ready jobs, records those that succeed, and commits.

```
job is ready ──► fingerprint ──► stored under its path, with this fingerprint? ──► yes: the stored result, restored
                                    │ no: the reason is kept for `explain`
                                    ▼
                 it runs ──► SUCCEEDED ──► its serialized result, in the buffer ──► commit
```

Before a job that writes files starts, its start is recorded and committed. If the process is killed, this record tells
a later run that the files may be half-written.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import pickle
import re
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, cast, final, get_args

from .. import _loaded_files
from .._core.base._graph_algorithms import reachable, topological_order
from .._core.base._logger import warn
from .._core.base._states import RAN_TO_END
from .._core.base._text_forms import MAX_NAMED_JOBS, clause, join_names, plural
from .._core.job import _ancestors, _function
from .._core.job._errors import DROPPED, JournalError
from .._core.job._job import AbstractJob, Restoration, is_scheduler, with_members
from .._core.job._job_options import SaveName, check_save, choice_of, file_path, flag
from .._core.job._labels import escape_label, printable
from .._core.job._work_spec import Work
from .._core.run import _journaling
from .._core.run._journaling import NotStored, Restored, RunJournal
from .._core.words import _job_queries, _run_view
from .._core.words._job_queries import has_cut_requirements, is_in_first, is_one_job
from ..jobs._thread import ThreadJob
from ..jobs._user_files import HIDDEN_TEXT, claim
from ..jobs.command._output_sinks import OutputSpool
from ..jobs.posix._files import call_in_thread
from ..jobs.process._process_job import ProcessJob, find_executor
from . import _file_stamps, _record_paths, _run_summary
from ._code_digests import code_digest, executing_codes, find_change
from ._fingerprint import FingerprintBuilder, describe_difference, path_in_directory, read_parts, with_requirements
from ._judgement import Evidence, Finding, judge
from ._questions import PublishedQuestion, RunQuestions
from ._record_paths import RecordPaths
from ._requirement_forms import CUT_PART, NEVER, NOTHING, Counted, RequirementForms, first_cause
from ._serialization import IS_INSTALLED, NotSerializable, Spools, comparison_form, dumps, hide_if, loads, msgspec
from ._store import AMBIGUOUS_PREFIX, DAMAGED_TEXT, END_OF_FIRST, MAX_INLINE_RESULT, DamagedRow, JournalStore, StoredJob

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from .._core.job._job_options import Save
    from .._core.run._journaling import JournalProtocol
    from .._core.scheduler._base_scheduler import BaseScheduler

MAX_UNSTORED_JOBS: Final = 1000


Durability = Literal["group", "each"]


@final
class Journal:
    """A file that stores the results of jobs. A later run with the same journal continues from there.

    Use it when a run that was killed should go on where it stopped. A path is enough, unless you set an option.

    Give it to `Scheduler.run(journal=...)`, or give just the path. A job is restored instead of run if it succeeded in
    an earlier run, under the same path (`job.path`), and if its fingerprint is the same. The fingerprint consists of
    the name of the job's function, its arguments, the results of its inputs, its `version=`, the files that it reads,
    the directory of a command, and its requirements, unless with `order_only=True`. If the job has `key=`, its
    fingerprint is the key alone. The journal does not see a change of code: change `version=`, too.

    A nested scheduler always runs, and its jobs are restored one by one. Services always run. Jobs that only their
    order would distinguish are not stored, and the log names them.

    Args:
        path: the file, which is created if it is missing.
        durable: "group" commits once in each turn of the event loop. If the process is killed, the results of the last
            turn are lost. "each" commits each job, and syncs it to the disk, before any job that requires it starts.
            Committed results then survive a power cut, too.
        save: the default for jobs without `save=`: "json", "pickle", a pair (dump, load), or None.
        hash: whether to compare files by their contents instead of by size and modification time.

    Raises:
        ValueError: `durable` or `save` has an unknown value.
        JournalError: msgspec is not installed.

    Example:
        >>> import tempfile
        >>> async def double(number):
        ...     return 2 * number
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     for _ in range(2):
        ...         job = Job(double, 21)
        ...         scheduler = Scheduler(job)
        ...         scheduler.run(journal=Journal(directory + "/run.db")), job.result(), job.restored
        (True, 42, False)
        (True, 42, True)

    """

    def __init__(
        self, path: str | os.PathLike[str], *, durable: Durability = "group", save: Save = "json", hash: bool = False
    ) -> None:
        """Check the options, and that msgspec is installed. The file is opened by a run."""
        if not IS_INSTALLED:
            raise JournalError("a journal needs msgspec: pip install 'trioflow[journal]'")
        check_save(save, "save", "a Journal", get_args(SaveName))
        self.path: Final = Path(file_path(path, "path", "a Journal"))
        self.durable: Final[Durability] = choice_of(Durability)(durable, "durable", "a Journal")
        self.save: Final[Save] = save
        self.hash: Final = flag(hash, "hash", "a Journal")

    def open_for(self, scheduler: BaseScheduler) -> RunJournal:
        """Open the journal for a run of `scheduler`. The run calls this method.

        Raises:
            JournalError: the file cannot be used, or another run uses it.

        """
        return JournalSession(self, scheduler)

    def __repr__(self) -> str:
        return f"<Journal {os.fspath(self.path)!r}>"


def open_journal(journal: JournalProtocol | str, scheduler: BaseScheduler) -> RunJournal:
    """Open a journal for a run of `scheduler`.

    Args:
        journal: a `Journal`, a path, or another `JournalProtocol`, as `check_journal` has returned it.
        scheduler: the outermost scheduler of the run.

    Raises:
        JournalError: the file cannot be used, another run uses it, or msgspec is not installed.

    """
    return (Journal(journal) if isinstance(journal, str) else journal).open_for(scheduler)


ALWAYS_RUNS: Final = NotStored()
NO_RECORD: Final = NotStored(_journaling.NOT_IN_JOURNAL_REASON)
RAN_BEFORE: Final = NotStored(_journaling.TRIED_AGAIN_REASON)
REASONS: Final = {Finding.RAN_BEFORE: RAN_BEFORE, Finding.DAMAGED: NotStored(DAMAGED_TEXT)}
MUTABLE_FORM: Final = re.compile(r'"(?:a":\[|k":\{).*"(?:\[|\{|~)')
"""The part of a fingerprint that says that an argument may be a container or an object."""
UNIDENTIFIED: Final = "only the name of its function identifies it, and other functions may have the same name"
AMBIGUOUS: Final = "several jobs have had this name"
FIRST_FINGERPRINT: Final = "{" + END_OF_FIRST
UNSTORED_FORM: Final = "unstored"
"""The form of a missing result, or of a result that cannot be stored and need not be, because of `save=None`."""
RUN_SINCE_REASON: Final = "it has run since in another run, without a result"


@dataclasses.dataclass(frozen=True)
class Outputs:
    """The content of the column `outputs` of a job, as JSON."""

    stamps: dict[str, str] = dataclasses.field(default_factory=dict[str, str])
    budgets: dict[str, int | float] = dataclasses.field(default_factory=dict[str, int | float])
    winners: dict[str, dict[str, bool]] = dataclasses.field(default_factory=dict[str, dict[str, bool]])
    """The winners of a `First`. See `_record_paths`."""
    redacted: bool = False
    answered: str | None = None
    """How its question was answered, by whom and when."""

    @classmethod
    def parse(cls, text: str | None) -> Outputs:
        """Parse the JSON. Return no facts if it is missing, or another program has changed it."""
        try:
            return msgspec.json.decode(text or "{}", type=cls)
        except Exception:
            return NO_FACTS

    def to_json(self) -> str | None:
        return None if self == NO_FACTS else msgspec.json.encode(self).decode()


NO_FACTS: Final = Outputs()


@dataclasses.dataclass(slots=True)
class RunningJob:
    """A job that runs or is about to run, if its result will be recorded."""

    path: str
    fingerprint: str
    save: Save
    why: NotStored
    """Why the job was not restored, without a reason if it had no record."""
    work: Work | None
    by_name_only: bool
    """Whether the fingerprint identifies the function by its name alone."""
    function: Any
    """The function whose code is part of the work, or None if there is none, or `version=` or `key=` stand for it."""
    stamps_before: dict[str, str] | None = None
    """The stamps of its files before its attempt, while a record says that this has begun."""
    prepared: tuple[Any, StoredResult] | None = None
    """The result that `prepare` has stored, and its place."""
    code_before: tuple[int, str | None] = (0, None)
    """The number of the attempt that ran as mended code was taken, and the digest of its code, if that is known."""


@dataclasses.dataclass(slots=True)
class JobEntry:
    """What a session knows of a job: from its first look-up, or its first result, until its scheduler drops it.

    | the job | `path` | `running` | `form` |
    |---|---|---|---|
    | has not been looked up, or is not stored | None | None | of its result, once a job that takes this asks |
    | was restored | its path | None | of the stored result |
    | runs, or is about to | its path | the facts for its record | None |
    | was recorded | its path | None | of the result, if that could be stored |
    | has succeeded, and runs anew | "" until it is looked up | None | None |
    """

    path: str | None = None
    form: str | None = None
    """The text that represents its result in the fingerprints of jobs that take the result as input."""
    running: RunningJob | None = None
    stamps: _file_stamps.Stamps | None = None
    """The stamps of its files that `read_files` has taken, until they are used."""
    outdated: tuple[str, str] | None = None
    """The path and fingerprint of a record that counts no more once an attempt of the job has begun."""
    mark: StoredJob | None = None
    """The record that the job leaves as it ends, because another job has had its path meanwhile."""
    undecided: tuple[RecordPaths, str] | None = None
    """Of a `First` that runs: the paths of its members, and its fingerprint."""

    def take_stamps(self) -> _file_stamps.Stamps | None:
        stamps, self.stamps = self.stamps, None
        return stamps


class AskedJob(NamedTuple):
    """A job that is looked up, and what identifies its record."""

    own: str
    """Its fingerprint, without its requirements."""
    required: Counted | None
    """The share of its requirements, or None if they do not count."""
    counted: Counted
    """Its share in the fingerprints of the jobs that require it."""
    moved: NotStored
    """The reason if its work was recorded in another directory, or `NO_RECORD`."""
    running: RunningJob
    """The facts for the record of its result, if it runs."""


class StoredResult(NamedTuple):
    """Where a result is stored: the columns `result` and `large` of its job.

    `form` is the text that represents it in the fingerprints of jobs that take it as input.
    """

    result: str | bytes | int
    large: str | None
    form: str


class JournalSession:
    """The use of a journal by a run. All schedulers of the run share the session.

    Attributes:
        journal: the journal.
        store: the open file of the journal.
        run_number: the number of the run in the journal.
        commits_each: whether each result is committed before any job that requires it starts.

    """

    def __init__(self, journal: Journal, scheduler: BaseScheduler) -> None:
        self.journal: Final = journal
        self._scheduler: Final = scheduler
        self.commits_each: Final = journal.durable == "each"
        self.store: Final = JournalStore(journal.path, writes=True, syncs=self.commits_each)
        try:
            self._was_empty: Final = self.store.is_empty()
            self._questions: Final = RunQuestions(journal.path, self.store.file, self._find_record)
            self._questions.discard_answered()
            self.store.commit()
            self.run_number: Final = self.store.add_run(scheduler.label)
        except BaseException:
            self.store.close()
            raise
        claim(self, self.store.own_paths)
        self._file_stamper: Final = _file_stamps.FileStamper(journal.hash, self.store.own_paths)
        directory = str(self.store.file.parent)
        self.fingerprint_builder: Final = FingerprintBuilder(self._result_form, self._file_stamper, directory)
        self.requirement_forms: Final = RequirementForms()
        # The paths of the jobs of each scheduler that runs.
        find_identity = self.fingerprint_builder.find_ambiguous_identity
        self._record_paths: Final[dict[object, RecordPaths]] = {scheduler: RecordPaths(scheduler, find_identity)}
        self._last_time = 0.0  # see `_now`
        self._entries: Final = defaultdict[AbstractJob[Any], JobEntry](JobEntry)
        # The result that `prefetch` has read: `StoredJob.large`, the result, and the outputs that are stored apart.
        self._prefetched: tuple[str, str | bytes, list[OutputSpool]] = "", b"", []
        # The jobs that run or are about to run, if their results will be recorded, by path.
        self._running_paths: Final[dict[str, AbstractJob[Any]]] = {}
        # Whether paths may be used twice, because jobs were added during the run.
        self._has_added_jobs = False
        # The `First` whose jobs are counted: as it begins, none of them has a result, whatever it has kept.
        self._counted_first: AbstractJob[Any] | None = None
        self._budget_use: Final = _record_paths.BudgetUse()
        self._reported_reasons: Final[set[str]] = set()
        self._unstorable_reasons_by_label: Final[dict[str, str]] = {}
        # The restored jobs whose functions have changed since, or constants that these read, in words, by path.
        self._changed_code: Final[dict[str, str]] = {}
        # Labels of the first jobs that have changed theirs.
        self._changed_arguments: Final[dict[str, None]] = {}
        self._tally: Final = _run_summary.JobTally()
        # ---- changes that the next commit writes
        self._pending_records: dict[str, StoredJob] = {}
        self._pending_restored: dict[str, None] = {}
        self._pending_ended_writers: list[tuple[str]] = []
        _loaded_files.remember()
        _loaded_files.before_reload[self._note_codes] = None

    def nested(self, scheduler: AbstractJob[Any]) -> JournalSession:
        self.requirement_forms.begin(scheduler)
        self._record_paths[scheduler] = self._record_paths[scheduler.scheduler].nested(cast("BaseScheduler", scheduler))
        return self

    # ---- before a job

    def read_files(self, job: AbstractJob[Any]) -> Callable[[], Awaitable[None]] | None:
        """Return a function that reads the files of a job in a thread, or None if that takes no time."""
        entry = self._entries[job]
        entry.stamps = None
        works = [*self._works_to_read(job)]
        if not self._file_stamper.is_slow(path for work in works for path in _file_stamps.files_of(work)):
            return None

        async def read() -> None:
            entry.stamps = await call_in_thread(self._file_stamper.take, works)

        return read

    def _works_to_read(self, job: AbstractJob[Any]) -> Iterator[Work]:
        """Yield the work of a job that is about to be recorded, or of all jobs whose files a look-up of the job judges.

        These are the job, or all jobs of a `First`, and jobs that require one of these and write the same file.
        """
        if job.is_running():
            if (running := self._entries[job].running) is not None and running.work is not None:
                yield running.work
            return
        jobs = [job]
        if is_scheduler(job) and is_one_job(job):
            jobs += job.iterate_jobs()
        for current in jobs:
            if _job_queries.always_runs(current) or self._save_of(current) is None:
                continue
            with contextlib.suppress(NotSerializable):
                # `look_up` reports it.
                if (work := _call_for_journal(current)) is not None:
                    yield work
                    for path in _file_stamps.outputs_of(work):
                        writers = self._writers.get(_file_stamps.path_text(path, current.redact), ())
                        jobs += [each for each in writers if current in each.required and each not in jobs]

    @functools.cached_property
    def _writers(self) -> dict[str, list[AbstractJob[Any]]]:
        """The jobs that write each file that an option `writes` names."""
        writers = defaultdict[str, list[AbstractJob[Any]]](list)
        for job in self._scheduler.iterate_jobs():
            for path in job.writes:
                writers[_file_stamps.path_text(path, job.redact)].append(job)
        return writers

    def look_up(self, job: AbstractJob[Any]) -> Restored | NotStored:
        """Return the stored result of a job. If the job must run, prepare to record it, and return a `NotStored`.

        The `NotStored` has the reason, unless the job always runs.
        """
        if (stamps := self._entries[job].take_stamps()) is None:
            return self._look_up(job)
        with self._file_stamper.use(stamps):
            return self._look_up(job)

    def _look_up(self, job: AbstractJob[Any]) -> Restored | NotStored:
        paths = self._record_paths[job.scheduler]
        if _job_queries.always_runs(job):
            if is_scheduler(job):
                return self._look_up_first(job, paths) if is_one_job(job) and not job.forever else ALWAYS_RUNS
            self.requirement_forms.pass_on(job)
            return ALWAYS_RUNS
        if (save := self._save_of(job)) is None:
            self.requirement_forms.pass_on(job)
            if (path := paths.find(job)) is not None and job not in paths.interchangeable:
                # Whatever its fingerprint, what it has done is not in the record.
                self._note_outdated(job, path, "", self._find_record(path))
            return NotStored(_journaling.NOT_SAVED_REASON)
        if isinstance(asked := self._identify(job, save, paths), NotStored):
            return asked
        self.requirement_forms.add(job, asked.counted)
        evidence = self._find_evidence(job, asked, paths)
        finding, record = judge(evidence), evidence.record
        if finding is Finding.AMBIGUOUS:
            # Of an earlier attempt, if it is tried again.
            self._take_running(job)
            self._mark_ambiguous(asked.running.path, asked.running.fingerprint, record, asked.running.by_name_only)
            self._count_as_run(job, asked.own)
            return self._reject(job, AMBIGUOUS)
        self._entries[job].path = asked.running.path
        found: Restored | NotStored = asked.moved if finding is Finding.MOVED else REASONS.get(finding, NO_RECORD)
        if finding is Finding.RAN_BEFORE and (failed := self._entries[job].running) is not None:
            # The change that made it run has not come to a result yet.
            found = failed.why
        if record is not None and finding in (Finding.MATCHES, Finding.DIFFERS):
            changed = finding is Finding.DIFFERS and self._find_change(job, record, asked.own, asked.required)
            found = changed or self._restore_from_record(job, record, save, asked.running.work, paths)
            if isinstance(found, Restored):
                self._accept_record(job, asked, record)
                return found
        assert isinstance(found, NotStored)
        self._expect_result(job, asked, found, record)
        return found

    def _identify(self, job: AbstractJob[Any], save: Save, paths: RecordPaths) -> AskedJob | NotStored:
        """Return the path and the work of a job that is looked up, or a `NotStored` if nothing identifies it."""
        options = _job_queries.options_of(job)
        try:
            work, own, by_name_only, function = self._work_and_fingerprint(job)
        except NotSerializable as error:
            reason = error.shown(job.redact)
            self._record_unstorable(job, reason)
            self._count_as_run(job, "")
            return NotStored(f"its fingerprint cannot be computed: {reason}")
        path = paths.find(job)
        if path is None or paths.is_added:
            self._has_added_jobs = True
        if path is None and (name := _record_paths.name_of_added_job(job, own, by_name_only)) is not None:
            path = paths.prefix + name
        elif job in paths.interchangeable:
            path = None
        if path is None:
            self._count_as_run(job, own)
            return self._reject(job, UNIDENTIFIED)
        path, other_directory = self._path_in_directory(path, own)
        moved = NO_RECORD
        if other_directory is not None:
            moved = NotStored(f"its directory has changed from {other_directory!r} to {read_parts(own).get('w')!r}")
        required, fingerprint, identity = None, own, f"{job.label} {own}"
        if options.key is None:
            required = self.requirement_forms.of_requirements(job)
            fingerprint = with_requirements(own, CUT_PART if has_cut_requirements(job) else required.part)
            identity = own
        counted = Counted(identity, 1, (required or NOTHING).ran, (required or NOTHING).cause)
        running = RunningJob(path, fingerprint, save, ALWAYS_RUNS, work, by_name_only, function)
        return AskedJob(own, required, counted, moved, running)

    def _find_evidence(self, job: AbstractJob[Any], asked: AskedJob, paths: RecordPaths) -> Evidence:
        """Find the record of a job, and claim its path."""
        path, required = asked.running.path, asked.required or NOTHING
        evidence = Evidence(
            None, asked.running.fingerprint, required, has_cut_requirements(job),
            was_used=self._entries[job].path == "", has_moved=asked.moved is not NO_RECORD,
        )  # fmt: skip
        if self._was_empty and not self._has_added_jobs and paths.used is None:
            # The journal is new, and each path is used once.
            return evidence
        record, is_damaged = None, False
        try:
            record = self.store.find_job(path)
        except DamagedRow:
            is_damaged = True
        return evidence._replace(
            record=record,
            is_damaged=is_damaged,
            is_ambiguous=self._is_ambiguous(job, path, record, paths, asked.running.by_name_only),
            was_used=evidence.was_used or self._was_used_in_run(path, record),
        )

    def _accept_record(self, job: AbstractJob[Any], asked: AskedJob, record: StoredJob) -> None:
        """Note that a job is restored from its record."""
        function = asked.running.function
        changed = None if function is None else find_change(record.code, code_digest(function))
        if changed is not None and function is not None:
            self._changed_code[asked.running.path] = repr(job.label) + clause(" ({})", changed)
            _job_queries.note_older_code([job], {function.__code__: record.code})
        asked.counted.ran = record.run, record.settled
        asked.counted.cause = None
        self._complete(job, record, asked.running.fingerprint)
        self._pending_restored[asked.running.path] = None
        if asked.running.work is not None and asked.running.work.writes:
            self._pending_ended_writers.append((asked.running.path,))

    def _expect_result(
        self, job: AbstractJob[Any], asked: AskedJob, found: NotStored, record: StoredJob | None
    ) -> None:
        """Prepare to record the result of a job that runs."""
        asked.counted.cause = found.cause or f"{job.label!r} has run since"
        running = asked.running
        running.why = ALWAYS_RUNS if found is NO_RECORD else found
        # What was left out of this run is not compared.
        fingerprint = running.fingerprint
        if record is not None and has_cut_requirements(job):
            fingerprint = with_requirements(asked.own, read_parts(record.fingerprint).get("q") or "")
        self._note_outdated(job, running.path, fingerprint, record)
        self._entries[job].running = running
        self._running_paths[running.path] = job

    def _note_outdated(self, job: AbstractJob[Any], path: str, fingerprint: str, record: StoredJob | None) -> None:
        """Note a job that is about to run, if it has a record of a result with another fingerprint."""
        keeps_names = job.scheduler is None or job.scheduler.keep_jobs
        # Otherwise, another job may get its name in this run, and the record be that of this job.
        if record is not None and record.saved is not None and record.fingerprint != fingerprint and keeps_names:
            self._entries[job].outdated = path, fingerprint or record.fingerprint

    def _save_of(self, job: AbstractJob[Any]) -> Save:
        save = _job_queries.options_of(job).save
        return self.journal.save if save == "default" else save

    def _work_and_fingerprint(self, job: AbstractJob[Any]) -> tuple[Work | None, str, bool, Any]:
        """Return the work of a job, and what `FingerprintBuilder.compute` returns."""
        work = _call_for_journal(job)
        return work, *self.fingerprint_builder.compute(job, work, _job_queries.options_of(job))

    def _now(self) -> float:
        """Return the time, in seconds since 1970. It never decreases, even if the clock was set back."""
        self._last_time = max(self._last_time, time.time())
        return self._last_time

    # ---- the requirements of a job

    def _count_as_run(self, job: AbstractJob[Any], own: str) -> None:
        """Let the jobs that follow a job run again, because the job runs each time, though it was not told to."""
        self.requirement_forms.add(job, Counted(own, 1, (self.run_number, self._now()), f"{job.label!r} has run since"))

    def _path_in_directory(self, path: str, own: str) -> tuple[str, str | None]:
        """Return the path of the record of a job, and None.

        If the record at `path` is that of its work in another directory, return another path, and that directory.
        """
        if '"w":' not in own or (record := self._find_record(path)) is None:
            return path, None
        stored, directory = (read_parts(text).get("w") for text in (record.fingerprint, own))
        if directory is None or stored in (None, directory):
            return path, None
        return path_in_directory(path, directory), stored

    def _find_change(
        self, job: AbstractJob[Any], record: StoredJob, own: str, required: Counted | None
    ) -> NotStored | None:
        """Return the reason why a record does not match, or None if it does.

        Args:
            job: the job.
            record: the record.
            own: the job's fingerprint, without its requirements.
            required: the count of its requirements, or None if they do not count.

        """
        ran = record.run, record.settled
        if (changed := describe_difference(record.fingerprint, own, job)) is not None:
            # What it requires may have made the change, as by writing a file.
            followed = required.cause if required is not None and required.ran > ran else None
            return NotStored(changed, followed or first_cause(job, changed))
        if required is None:
            return None
        old = CUT_PART if has_cut_requirements(job) else read_parts(record.fingerprint).get("q")
        cause = self._find_cut_run(job, record.run) or self.requirement_forms.describe_change(job, old, required, ran)
        return None if cause is None else NotStored(cause, cause)

    def _find_cut_run(self, job: AbstractJob[Any], run: int) -> str | None:
        """Describe the requirement, left out of this run, that has run after the run `run`, if there is any."""
        for level in (job, *_ancestors.enclosing_schedulers(job))[:-1]:
            outer = cast("BaseScheduler", level.scheduler)
            prefix = "" if outer.scheduler is None else f"{outer.path}/"
            for cut in _job_queries.cut_requirements(level):
                if self.store.last_run(prefix + escape_label(cut.label)) > run:
                    return f"{cut.label!r} has run since"
        return None

    def _complete(self, job: AbstractJob[Any], record: StoredJob, fingerprint: str) -> None:
        """Add the requirements of a restored job to its record, if `--only` has left them out."""
        if record.fingerprint != fingerprint and not has_cut_requirements(job):
            self._pending_records[record.path] = record._replace(fingerprint=fingerprint)

    # ---- a First

    def _look_up_first(self, first: AbstractJob[Any], paths: RecordPaths) -> Restored | NotStored:
        """Return the stored result of a `First`. If there is none, prepare to record its winners."""
        try:
            members = paths.nested(cast("BaseScheduler", first))
        except NotSerializable:
            # Its own run reports that.
            return ALWAYS_RUNS
        path = members.prefix[:-1]
        record = self._find_record(path)
        counted, required = self._count_first(first)
        is_cut = has_cut_requirements(first)
        fingerprint = with_requirements(FIRST_FINGERPRINT, CUT_PART if is_cut else required.part)
        is_ambiguous = self._is_ambiguous(first, path, record, paths, False)
        was_used = self._was_used_in_run(path, record)
        finding = judge(Evidence(record, fingerprint, required, is_cut, is_ambiguous=is_ambiguous, was_used=was_used))
        if finding is Finding.AMBIGUOUS:
            return ALWAYS_RUNS
        self._budget_use.begin(first)
        entry = self._entries[first]
        entry.undecided, entry.path = (members, fingerprint), path
        if record is None or finding not in (Finding.MATCHES, Finding.DIFFERS):
            return ALWAYS_RUNS
        changed = finding is Finding.DIFFERS and self._find_change(first, record, FIRST_FINGERPRINT, required)
        if changed:
            counted.cause = changed.cause
            return ALWAYS_RUNS
        try:
            restored = self._restore_first(first, record, members, counted)
        except (LookupError, NotSerializable):
            return ALWAYS_RUNS
        self._complete(first, record, fingerprint)
        self._pending_restored[path] = None
        return restored

    def _restore_first(
        self, first: AbstractJob[Any], record: StoredJob, members: RecordPaths, counted: Counted
    ) -> Restored:
        """Return the result of a `First` whose record matches, and let its share count as that of its winners.

        Raises:
            LookupError, NotSerializable: a job that it depends on has to run.

        """
        ran = NEVER

        def find_result(job: AbstractJob[Any], paths: RecordPaths) -> Any:
            nonlocal ran
            path, save = paths.find(job), self._save_of(job)
            if path is None or save is None:
                raise LookupError
            work, own, *_ = self._work_and_fingerprint(job)
            found = self._find_record(self._path_in_directory(path, own)[0])
            if found is None or self._find_change(job, found, own, None) is not None:
                raise LookupError
            if isinstance(restored := self._restore_from_record(job, found, save, work, paths), NotStored):
                raise LookupError
            # For `discard`.
            self._entries[job].path = found.path
            ran = max(ran, (found.run, found.settled))
            return restored.value

        def add_result(first: AbstractJob[Any], value: object) -> None:
            self._entries[first].form = comparison_form(dumps(value))

        value = _record_paths.stored_result(
            first, members, lambda path: self._find_facts(path).winners, find_result, add_result
        )
        counted.ran = ran
        counted.cause = None
        needed = _record_paths.budgets_needed_around(first)
        budgets = Outputs.parse(record.outputs).budgets
        used = {name: amount for name, amount in budgets.items() if name in needed and amount >= 0}
        self._budget_use.decide(first, used)
        return Restored(value, Restoration(record.settled, record.took, tuple(used.items())))

    def _count_first(self, first: AbstractJob[Any]) -> tuple[Counted, Counted]:
        """Add the share of a `First`: the work of its jobs, whichever wins. Return it, and its requirements' share."""
        required = self.requirement_forms.of_requirements(first)
        texts: list[str] = []
        self._counted_first = first
        for job in cast("BaseScheduler", first).iterate_jobs():
            if not _job_queries.always_runs(job) and self._save_of(job) is not None:
                with contextlib.suppress(NotSerializable):
                    # Reported when the job is looked up.
                    texts.append(self._work_and_fingerprint(job)[1])
        self._counted_first = None
        counted = Counted(" ".join(sorted(texts)), 1, required.ran, required.cause)
        self.requirement_forms.add(first, counted)
        return counted, required

    def record_winners(self, first: AbstractJob[Any], winners: Sequence[AbstractJob[Any]]) -> None:
        """Buffer the winners of a `First` for the next commit."""
        entry = self._entries[first]
        (members, fingerprint), entry.undecided = entry.undecided or (None, ""), None
        self.requirement_forms.winners[first] = winners
        used = dict(self._budget_use.decide(first))
        if members is not None and (described := _record_paths.describe_winners(winners, members)):
            path = members.prefix[:-1]
            took = (winners[-1].finished_at or 0.0) - (first.started_at or 0.0)
            record = self._unstored(path, fingerprint, None, took)
            outputs = Outputs(winners=described, budgets=used).to_json()
            self._pending_records[path] = record._replace(saved="json", result=dumps([*described]), outputs=outputs)

    def _find_record(self, path: str) -> StoredJob | None:
        try:
            return self.store.find_job(path)
        except DamagedRow:
            return None

    def _find_facts(self, path: str) -> Outputs:
        record = self._find_record(path)
        return NO_FACTS if record is None else Outputs.parse(record.outputs)

    # ---- paths

    def _was_used_in_run(self, path: str, record: StoredJob | None) -> bool:
        """Return whether this run has already restored or recorded a job under this path.

        The journal is asked for settled jobs, so that a run that adds jobs for a year needs no memory for them.
        """
        if path in self._pending_records or path in self._pending_restored:
            return True
        return record is not None and self.run_number in (record.run, record.restored)

    def _is_ambiguous(
        self, job: AbstractJob[Any], path: str, record: StoredJob | None, paths: RecordPaths, by_name_only: bool
    ) -> bool:
        if record is not None and record.fingerprint.startswith(AMBIGUOUS_PREFIX):
            return True
        if paths.used is not None:
            return paths.used.setdefault(path, job) is not job
        if (earlier := self._running_paths.get(path)) is job:
            # It is tried again.
            return False
        if earlier is None:
            return self._was_used_in_run(path, record)
        # If a job has failed, another job may have its name, unless both could have the same fingerprint.
        return by_name_only or not earlier.is_settled()

    def _mark_ambiguous(self, path: str, fingerprint: str, record: StoredJob | None, by_name_only: bool) -> None:
        """Replace the record of a path that several jobs have, so that no run stores or restores any of them.

        Raises:
            JournalError: any of them was restored, maybe with the result of another.

        """
        is_marked = record is not None and record.fingerprint.startswith(AMBIGUOUS_PREFIX)
        first = fingerprint if record is None else record.fingerprint
        first = first[len(AMBIGUOUS_PREFIX) : -1] if is_marked else first
        was_restored = path in self._pending_restored or (record is not None and record.restored == self.run_number)
        if record is None or not is_marked or record.run != self.run_number:
            self._pending_restored.pop(path, None)
            marked = self._unstored(path, f"{AMBIGUOUS_PREFIX}{first}}}", AMBIGUOUS)
            self._pending_records[path] = marked = marked._replace(restored=self.run_number if was_restored else None)
            self.commit()
            if (earlier := self._running_paths.get(path)) is not None:
                entry = self._entries[earlier]
                entry.mark, entry.outdated = marked, None
        if was_restored and by_name_only and first == fingerprint:
            raise JournalError(
                f"several jobs have the name '{printable(path)}'; one of them was restored, but the journal knows "
                f"their function by name only, so the result may be that of another; start the run again: it restores "
                f"none of them; to have them stored, give each a label of its own, or key="
            )

    def _reject(self, job: AbstractJob[Any], reason: str) -> NotStored:
        """Return the reason why the journal does not store a job. Log it for the first such job."""
        if reason not in self._reported_reasons:
            self._reported_reasons.add(reason)
            warn(
                f"the journal does not store '{printable(job.path)}', nor other jobs like it: {reason}; give each a "
                f"label of its own, or key="
            )
        return NotStored(f"it is not stored: {reason}")

    def _unstored(self, path: str, fingerprint: str, why: str | None, took: float | None = None) -> StoredJob:
        return StoredJob(
            path, fingerprint, saved=None, result=None, large=None, outputs=None, run=self.run_number, restored=None,
            settled=self._now(), took=took, why=why,
        )  # fmt: skip

    def _take_running(self, job: AbstractJob[Any]) -> RunningJob | None:
        """Remove and return the facts about a job that no longer runs, or None if its result will not be recorded."""
        entry = self._entries[job]
        running, mark = entry.running, entry.mark
        entry.outdated = entry.running = entry.mark = None
        if running is not None and self._running_paths.get(running.path) is job:
            del self._running_paths[running.path]
            if mark is not None:
                self._pending_records[running.path] = mark
                return None
        return running

    def _restore_from_record(
        self, job: AbstractJob[Any], record: StoredJob, save: Save, work: Work | None, paths: RecordPaths
    ) -> Restored | NotStored:
        """Return the result in a record that matches, or a `NotStored` if there is none, or it cannot be used."""
        if record.saved is None:
            return NotStored(f"the journal could not store its result: {record.why}")
        if record.saved != _save_format(save):
            return NotStored(f"its result was stored as {record.saved}, but save= is now {_save_format(save)}")
        if work is not None:
            stamps = Outputs.parse(record.outputs).stamps

            find_taker = functools.partial(self._find_taker, job, paths)
            changed = self._file_stamper.describe_changed_output(work, stamps, job.redact, find_taker)
            if changed is not None:
                return NotStored(changed, first_cause(job, changed))
        if save == "pickle" and self.store.other_writers is not None:
            # They could have it run any code.
            return NotStored(f"its stored result is a pickle, which is not loaded because {self.store.other_writers}")
        try:
            spools: list[OutputSpool] = []
            if record.large is None or save == "pickle":
                data = self.store.read_result(record)
            else:
                found, self._prefetched = self._prefetched, ("", b"", [])
                _, data, spools = found if found[0] == record.large else self._read_large(record)
        except (TypeError, ValueError, MemoryError) as error:
            return NotStored(f"its stored result cannot be used: {error}")
        try:
            if save == "pickle":
                # The job decides whether to unpickle, not the record, because a journal may be forged.
                value = pickle.loads(cast(bytes, data))
            else:
                value = loads(data, spools)
                if isinstance(save, tuple):
                    value = save[1](value)
        except NotSerializable as error:
            return NotStored(f"its stored result cannot be restored: {error.shown(job.redact)}")
        except Exception as error:
            # Raised by user code.
            shown = type(error).__name__ if job.redact else repr(error)
            return NotStored(f"its stored result cannot be restored: {shown}")
        if work is not None and work.rejects is not None and (why := work.rejects(value)) is not None:
            return NotStored(why)
        self._entries[job].form = comparison_form(data) if record.large is None else f"~{record.large}"
        used = tuple((name, amount) for name, amount in Outputs.parse(record.outputs).budgets.items() if amount >= 0)
        return Restored(value, Restoration(record.settled, record.took, used))

    def _find_taker(self, job: AbstractJob[Any], paths: RecordPaths, path: str, stamp: str) -> str | None:
        """Find another job that has left an output of `job` as it is, such as a job that strips a program in place.

        Returns:
            "" if that job waits for `job`, and will be restored, with all that it still waits for, if `job` is: then
            all is as it was. Otherwise its label, because it would change the file twice, or None if there is no such
            job.

        """
        takers = [each for each in self._writers.get(path, ()) if each is not job and each.scheduler is job.scheduler]
        places = {taker: place for taker in takers if (place := paths.find(taker)) is not None}
        last = [taker for taker, place in places.items() if self._find_facts(place).stamps.get(path) == stamp]
        restored: dict[AbstractJob[Any], Counted] = {}
        is_as_it_was = False
        with contextlib.suppress(NotSerializable, TypeError):
            # Reported when the job is looked up.
            for taker in last:
                waits = topological_order(reachable([taker], _open_requirements), _open_requirements)
                others = (each for each in waits if each not in restored)
                is_as_it_was |= job in waits and all(self._foresee(each, job, restored, path, paths) for each in others)
        for each in restored:
            self._entries[each].form = None
        if is_as_it_was:
            return ""
        return last[0].label if last else None

    def _foresee(
        self, job: AbstractJob[Any], first: AbstractJob[Any], restored: dict[AbstractJob[Any], Counted], path: str,
        paths: RecordPaths,
    ) -> bool:  # fmt: skip
        """Add a job to `restored` if it will be restored as these will be, and let the jobs after it find its result.

        The outputs of `first`, whose record matches, count as unchanged, and so does the output `path` of all others.

        Raises:
            NotSerializable: its fingerprint cannot be computed.
            TypeError: another program has changed its result.

        """
        save, place, options = self._save_of(job), paths.find(job), _job_queries.options_of(job)
        if place is None or save is None or _job_queries.always_runs(job):
            return False
        work = _call_for_journal(job)
        if work is not None and self._file_stamper.is_slow((*work.reads, *work.writes, *work.appends)):
            # It must not be read in the event loop.
            return False
        own = self.fingerprint_builder.compute(job, work, options)[0]
        record = self._find_record(self._path_in_directory(place, own)[0])
        if record is None or record.saved != _save_format(save):
            return False
        required = self.requirement_forms.of_requirements(job, restored) if options.key is None else None
        if self._find_change(job, record, own, required) is not None:
            return False
        if work is not None and self._file_stamper.describe_changed_output(
            work, Outputs.parse(record.outputs).stamps, job.redact,
            lambda output, _: "" if job is first or output == path else None,
        ):  # fmt: skip
            return False
        result = f"~{record.large}" if record.large is not None else comparison_form(self.store.read_result(record))
        self._entries[job].form = result
        identity = own if options.key is None else f"{job.label} {own}"
        restored[job] = Counted(identity, 1, (record.run, record.settled))
        return True

    # ---- an attempt

    def begin_attempt(self, job: AbstractJob[Any]) -> Callable[[], Awaitable[None]] | None:
        """Return a function that records that an attempt begins, if it writes files: a kill alone leaves that record.

        Before, it sets aside the files that a killed attempt has half written.
        """
        running = self._entries[job].running
        if running is None or running.work is None or not running.work.writes:
            return None
        writes = running.work.writes

        async def begin() -> None:
            # The end of the last attempt.
            self.commit()
            stamps: dict[str, str] = {}
            with contextlib.suppress(DamagedRow):
                # Otherwise, the stamps from the killed attempt are lost.
                stamps = Outputs.parse(self.store.find_stamps_before_start(running.path)).stamps
            self._set_aside(job, running, stamps, "did not succeed in the run before")
            is_slow = self._file_stamper.is_slow(writes)
            taken = await call_in_thread(self._file_stamper.take, [Work(what="", writes=writes)]) if is_slow else {}
            stamps = {}
            with contextlib.suppress(NotSerializable), self._file_stamper.use(taken):
                stamps = self._file_stamper.stamps_of_writes(writes, job.redact)
            running.stamps_before = stamps
            self.store.record_start(running.path, Outputs(stamps).to_json() or "{}")

        return begin

    def end_attempt(self, job: AbstractJob[Any]) -> bool:
        """Take away the record that an attempt has begun, whatever its outcome, in the commit of its result if any.

        If it has no success, set aside the files that its kind writes, besides those of its option `writes`. If it
        began with another fingerprint than that of the record of an earlier run, that record counts no more.
        """
        # Only what has begun is queued again; of a throttled attempt, nothing else is left.
        outdated, running = self._entries[job].outdated, self._entries[job].running
        if is_outdated := outdated is not None and (job.started_at is not None or not job.is_settled()):
            path, fingerprint = outdated
            self._pending_records[path] = self._unstored(path, fingerprint, RUN_SINCE_REASON, job.elapsed)
        if running is None or running.stamps_before is None:
            return is_outdated
        if not job.is_succeeded() and len([*cast("Work", running.work).writes]) > len(job.writes):
            self._set_aside(job, running, running.stamps_before, "has not succeeded")
        running.stamps_before = None
        self._pending_ended_writers.append((running.path,))
        return True

    def _set_aside(self, job: AbstractJob[Any], running: RunningJob, stamps: dict[str, str], how: str) -> None:
        """Set aside the files that an attempt may have half written, and log it."""
        if stamps:
            others = {*map(os.path.realpath, self.store.outputs_of_other_jobs(running.path))}
            if moved := self._file_stamper.set_aside_partial_files(job, cast("Work", running.work), stamps, others):
                warn(f"{job.label!r} {how}: {HIDDEN_TEXT if job.redact else moved}")

    # ---- after a job

    def prefetch(self, path: str) -> Callable[[], None] | None:
        """Return a function that reads the large result at this path, for the next `look_up`, or None.

        It may be called in a thread.
        """
        if (record := self._find_record(path)) is None or record.large is None or record.saved == "pickle":
            return None

        def read() -> None:
            with contextlib.suppress(ValueError):
                # `look_up` reports it.
                self._prefetched = self._read_large(record)

        return read

    def _read_large(self, record: StoredJob) -> tuple[str, str | bytes, list[OutputSpool]]:
        large = record.large or ""
        spools: list[OutputSpool] = []
        for name in large.split(" ")[1:]:
            spools.append(OutputSpool())
            for piece in self.store.read_large(name):
                spools[-1].write(piece)
        return large, self.store.read_result(record), spools

    def prepare(self, job: AbstractJob[Any], value: object) -> None:
        """Write a result that is about to be recorded, if it is large. This may be called in a thread."""
        if (running := self._entries[job].running) is not None:
            with contextlib.suppress(NotSerializable):
                # `record` reports it.
                running.prepared = value, self._store_result(running.save, value, in_thread=True)

    def _store_result(self, save: Save, value: object, *, in_thread: bool = False) -> StoredResult:
        """Serialize a result, and write its large parts.

        Raises:
            NotSerializable: the result cannot be stored.

        """
        spools: Spools = {}
        encoded = _serialize_result(save, value, spools)
        if not spools and len(encoded) <= MAX_INLINE_RESULT:
            return StoredResult(encoded, None, comparison_form(encoded))
        parts: list[bytes | OutputSpool] = [encoded.encode() if isinstance(encoded, str) else encoded, *spools]
        large = " ".join(self.store.write_large(part, in_thread=in_thread) for part in parts)
        return StoredResult(sum(map(len, parts)), large, f"~{large}")

    def record(self, job: AbstractJob[Any], value: object) -> None:
        """Buffer the result of a job for the next commit."""
        if (running := self._take_running(job)) is None:
            # The job was restored, or it is never recorded.
            return
        path, why, work = running.path, running.why.reason, running.work
        entry = self._entries[job]
        taken = entry.take_stamps() or {}
        self._note_changed_arguments(job, running.fingerprint)
        prepared_value, prepared = running.prepared or (None, None)
        saved: str | None = None
        data: str | bytes | int | None = None
        large: str | None = None
        facts = NO_FACTS
        settled = self._now()
        if job.timed_out and _job_queries.options_of(job).on_timeout == "move_on":
            why = "incomplete because of its timeout"
        elif _job_queries.has_skipped_itself(job):
            why = "its node was skipped"
        else:
            self.requirement_forms.set_ran(job, (self.run_number, settled))
            try:
                if prepared is None or prepared_value is not value:
                    prepared = self._store_result(running.save, value)
                with self._file_stamper.use(taken):
                    stamps = {} if work is None else self._file_stamper.output_stamps(work, job.redact)
                answered = self._questions.told(path)
                if (used := _job_queries.budget_use(job)) or stamps or job.redact or answered:
                    facts = Outputs(stamps, used, redacted=job.redact, answered=answered)
                data, large, entry.form = prepared
                saved = _save_format(running.save)
            except NotSerializable as error:
                why = error.shown(job.redact)
                self._record_unstorable(job, f"its result, {why}")
        self._pending_records[path] = StoredJob(
            path, running.fingerprint, saved, data, large, facts.to_json(), self.run_number, None, settled,
            job.took, why, _code_of(job, running),
        )  # fmt: skip

    def _note_codes(self) -> None:
        """Note the code of the jobs that run, before mended code is taken. Any thread may call this.

        Of a `ThreadJob` whose thread does not execute the function, it is not known whether it has, or is about to. A
        `ProcessJob` that waits for its worker gets one with the mended code.
        """
        executing = executing_codes()
        for job, entry in self._entries.copy().items():
            running = entry.running
            waits = isinstance(job, ProcessJob) and job._called_attempt < job.attempts and find_executor(job) is None
            if not (running is None or running.function is None or waits or running.code_before[0] == job.attempts):
                code = running.function.__code__
                is_known = not isinstance(job, ThreadJob) or code in executing
                running.code_before = job.attempts, code_digest(running.function) if is_known else None

    def _note_changed_arguments(self, job: AbstractJob[Any], fingerprint: str) -> None:
        """Note a job that has changed its arguments in place: a resumed run, which restores it, does not do that."""
        if (
            isinstance(job, _function.FunctionJob)
            and MUTABLE_FORM.search(fingerprint)
            and len(self._changed_arguments) < MAX_NAMED_JOBS
        ):
            with contextlib.suppress(Exception):
                # Raised by an attribute of a user's class.
                now = read_parts(self.fingerprint_builder.compute(job, None, _job_queries.options_of(job))[0])
                if any(now.get(part) != value for part, value in read_parts(fingerprint).items() if part in "ak"):
                    self._changed_arguments[job.label] = None

    # ---- questions

    def open_question(self, job: AbstractJob[Any], facts: Mapping[str, Any]) -> PublishedQuestion | None:
        if (running := self._entries[job].running) is None:
            return None
        # Of jobs that come later, nobody knows the labels.
        is_sole = not self._has_added_jobs and self._label_counts[job.label] == 1
        try:
            return self._questions.publish(job, running.path, running.fingerprint, is_sole, facts)
        except JournalError as error:
            warn(f"{error}; so {job.label!r} can only be answered by its method answer()")
            return None

    @functools.cached_property
    def _label_counts(self) -> Counter[str]:
        """How many jobs of the whole scenario have each label."""
        return Counter(job.label for job in self._scheduler.iterate_jobs())

    def _record_unstorable(self, job: AbstractJob[Any], reason: str) -> None:
        """Record that a job cannot be stored, for the report at the end of the run."""
        if len(self._unstorable_reasons_by_label) < MAX_UNSTORED_JOBS:
            self._unstorable_reasons_by_label[job.label] = reason

    def _result_form(self, job: AbstractJob[Any]) -> str:
        """Return the text that represents a job's result in the fingerprints of jobs that take the result as input.

        Raises:
            NotSerializable: the result has been dropped, or cannot be stored.

        """
        if any(level is self._counted_first for level in _ancestors.enclosing_schedulers(job)):
            return UNSTORED_FORM
        entry = self._entries.get(job)
        if (form := None if entry is None else entry.form) is None:
            if (value := _job_queries.result_for_journal(job)) is _job_queries.SERVICE:
                return "service"
            if not job.is_settled():
                # In a `First` that is looked up.
                return UNSTORED_FORM
            if value is DROPPED:
                raise NotSerializable(f"the result of {job.label!r}, which has been dropped")
            try:
                form = comparison_form(dumps(value))
            except NotSerializable as error:
                if self._save_of(job) is not None:
                    raise NotSerializable(f"the result of {job.label!r}, {error.shown(job.redact)}") from None
                form = UNSTORED_FORM
            # For a job that is no member any more, `forget` has been called already.
            if job.scheduler is not None and job in job.scheduler:
                self._entries[job].form = form
        return hide_if(job.redact and not form.startswith("~"), form)

    def forget(self, job: AbstractJob[Any]) -> None:
        """Drop the references to a job that its scheduler drops, and to its nested jobs.

        Their outcomes are counted first. Their results stay stored.
        """
        self.requirement_forms.forget(job)
        self._budget_use.drop(job)
        self._record_paths[job.scheduler].forget(job)
        for dropped in with_members(job):
            running = self._tally_outcome(dropped)
            self._entries.pop(dropped, None)
            self._record_paths.pop(dropped, None)
            if running is not None and running.why.reason in (None, RAN_BEFORE.reason) and running.by_name_only:
                # It has failed, and had no record. A later job with this name could have the same fingerprint.
                failed = self._unstored(running.path, running.fingerprint, "because it failed", dropped.took)
                self._pending_records[running.path] = failed

    def discard(self, jobs: Sequence[AbstractJob[Any]]) -> None:
        """Remove the records of jobs that run anew, so that no later run restores what they have returned so far."""
        entries = [self._entries[job] for job in jobs]
        paths = [entry.path or "" for entry in entries]
        for job, entry, path in zip(jobs, entries, paths, strict=True):
            entry.path, entry.form = "", None
            self.requirement_forms.discard(job)
            for known in (self._pending_records, self._pending_restored, self._changed_code):
                known.pop(path, None)
        self.store.discard(paths)

    def _tally_outcome(self, job: AbstractJob[Any]) -> RunningJob | None:
        """Add the outcome of a job to the summary of the run. Return the facts if its result was not recorded."""
        facts = self._take_running(job)
        state = None if is_in_first(job, self._scheduler) else _job_queries.counted_state(self._scheduler, job)
        if state is not None:
            self._tally.add_outcome(job, state, _run_summary.ALWAYS_RUNS_REASON if facts is None else facts.why.reason)
        return facts

    # ---- the file

    def commit(self) -> None:
        if self._pending_records or self._pending_restored or self._pending_ended_writers:
            records, self._pending_records = self._pending_records, {}
            restored, self._pending_restored = self._pending_restored, {}
            ended, self._pending_ended_writers = self._pending_ended_writers, []
            self.store.add_records(list(records.values()), [(self.run_number, path) for path in restored], ended)
            self._questions.close(records)

    def close(self, outcome: str | None, report: Callable[[str], object]) -> None:
        """Commit, record the end of the run, close the file, and report jobs whose results could not be stored.

        It also logs a warning about functions that are identified only by name.

        Args:
            outcome: the stop reason of the run, or "refused" if it did not start. None closes the file without writing,
                because the journal has failed.
            report: called with a message if results could not be stored.

        """
        try:
            if outcome is not None:
                for job in self._scheduler.iterate_jobs():
                    self._tally_outcome(job)
                self.commit()
                if outcome in {reason.name for reason in RAN_TO_END}:
                    self._questions.discard_unasked()
                began, ended = _run_view.run_times(self._scheduler) or (0.0, None)
                seconds = 0.0 if ended is None else ended - began
                self.store.end_run(self.run_number, outcome, seconds, self._tally.to_json(self._scheduler))
        finally:
            _loaded_files.before_reload.pop(self._note_codes, None)
            self.store.close()
        if self._unstorable_reasons_by_label:
            labels, reasons = zip(*self._unstorable_reasons_by_label.items(), strict=True)
            number = f"{'at least ' * (len(labels) == MAX_UNSTORED_JOBS)}{plural(len(labels), 'job')}"
            report(
                f"the journal cannot store {number}, which will run again: "
                f"{join_names([*map(repr, labels)], MAX_NAMED_JOBS)}; reason for the first: {reasons[0]}; for a "
                "result, give save='pickle', save=(dump, load) or save=None; for an argument, give key="
            )
        if self._changed_arguments:
            changed = join_names([*map(repr, self._changed_arguments)], MAX_NAMED_JOBS)
            warn(
                f"jobs have changed their arguments in place, {changed}: a run that restores them gives others to "
                f"the jobs after them; let each return what is new instead"
            )
        if self._changed_code:
            changed = join_names([*self._changed_code.values()], MAX_NAMED_JOBS)
            warn(
                f"the code of {plural(len(self._changed_code), 'restored job')} has changed since, {changed}: that "
                f"counts only with version=, or after trioflow journal {self.store.path} forget NAME"
            )
        if by_name_only := list(self.fingerprint_builder.identified_by_name_only):
            warn(
                f"the journal knows the functions of these jobs by name only, because looking up the name does not "
                f"give them (lambdas, closures, functions in functions, results of decorators, methods of objects): "
                f"{join_names([*map(repr, by_name_only)], MAX_NAMED_JOBS)}; give them key= or version= if what the "
                f"functions do, or capture, may change"
            )


def _open_requirements(job: AbstractJob[Any]) -> list[AbstractJob[Any]]:
    return [each for each in job.required if not each.is_settled()]


def _call_for_journal(job: AbstractJob[Any]) -> Work | None:
    """Return the result of a job's `for_journal`.

    Raises:
        NotSerializable: `for_journal` raised an exception.

    """
    describe: Callable[[Any], Work | None] | None = getattr(type(job), "for_journal", None)
    try:
        work = describe(job) if callable(describe) else None
    except Exception as error:
        # A user-defined class can raise anything.
        raise NotSerializable("its work, because for_journal() raised", error) from None
    options = _job_queries.options_of(job)
    if not options.has_files:
        return work
    work = work or Work(what="")
    return dataclasses.replace(work, reads=[*options.reads, *work.reads], writes=[*options.writes, *work.writes])


def _code_of(job: AbstractJob[Any], running: RunningJob) -> str | None:
    """Return the digest of the code with which the last attempt of a job began, or None if it is not known."""
    attempts, found = running.code_before
    if running.function is None:
        return None
    return found if attempts == job.attempts else code_digest(running.function)


def _serialize_result(save: Save, value: object, spools: Spools) -> str | bytes:
    try:
        if save == "pickle":
            return pickle.dumps(value)
        return dumps(save[0](value) if isinstance(save, tuple) else value, spools=spools)
    except NotSerializable:
        raise
    except Exception as error:
        raise NotSerializable(f"which {_save_format(save)} cannot store:", error) from None


def _save_format(save: Save) -> str:
    return "own" if isinstance(save, tuple) else str(save)
