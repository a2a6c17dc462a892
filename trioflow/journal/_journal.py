"""`Journal`, and its use by a run: look up ready jobs, record those that succeed, commit.

```
job is ready ──► fingerprint ──► stored under its path, with this fingerprint? ──► yes: the stored result, restored
                                    │ no: the reason is kept for `explain`
                                    ▼
                 it runs ──► SUCCEEDED ──► its result as text, in the buffer ──► commit, at most once in a turn
```

The start of a job that writes files is committed before it starts, so that a later run knows that its files may be
half-written.
"""

from __future__ import annotations

import os
import pickle
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast, final, get_args

from .._core.api.journals import (
    DROPPED,
    NOT_IN_JOURNAL,
    NOT_SAVED,
    SERVICE,
    AbstractJob,
    JournalProtocol,
    NotStored,
    PathCache,
    RunJournal,
    SaveName,
    Work,
    always_runs,
    check_save,
    file_path,
    flag,
    is_among,
    is_scheduler,
    journal_options,
    result_for_journal,
    warn,
)
from .._core.api.journals import (
    short_repr as shown_value,
)
from ._file_stamps import Files, path_text
from ._fingerprint import Fingerprints, describe_difference
from ._msgspec import check_installed, msgspec
from ._run_summary import ALWAYS, JobTally
from ._serialization import NotSerializable, comparison_form, dumps, loads
from ._store import DAMAGED, LARGE_RESULT, Damaged, Record, Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core.api.journals import BaseScheduler, Save

MAX_NAMED: Final = 5
"""The number of jobs that a report names."""


Durable = Literal["group", "each"]


@final
class Journal:
    """A file that stores the results of jobs, so that a later run continues from there.

    Give it to `Scheduler.run(journal=...)`, or give just the path. A job is restored instead of run if it succeeded in
    an earlier run, under the same path (`job.path`), and if its fingerprint is the same: its function by name, its
    arguments, the results of its inputs, its `version=`, and the files that it reads; or its `key=` in place of all
    these. A change of code is not seen, unless `source` is True or you change `version=`.

    A nested scheduler always runs; its jobs are restored one by one. Services always run.

    Args:
        path: the file, created if missing. Results over 1 MiB go to a directory beside it, with "-results" appended
            to the name.
        durable: "group" commits once in each turn of the event loop, so that a killed process loses what ended in
            the last turn; "each" commits each job before any job that requires it starts, and syncs it to the disk, so
            that it survives a power cut.
        save: the default for jobs without `save=`: "json"; "pickle"; a pair (dump, load); or None.
        hash: compares files by their contents, not by size and modification time.
        source: compares functions by their source, too, but not the functions that they call.

    Raises:
        ValueError: an unknown `durable` or `save`.
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
        self,
        path: str | os.PathLike[str],
        *,
        durable: Durable = "group",
        save: Save = "json",
        hash: bool = False,
        source: bool = False,
    ) -> None:
        """Check the options and import msgspec; a run opens the file."""
        check_installed()
        if not is_among(durable, get_args(Durable)):
            choices = " or ".join(map(repr, get_args(Durable)))
            raise ValueError(f"durable={shown_value(durable)} of a Journal: choose {choices}")
        check_save(save, "save", "a Journal", get_args(SaveName))
        self.path: Final = Path(file_path(path, "path", "a Journal"))
        self.durable: Final = durable
        self.save: Final[Save] = save
        self.hash: Final = flag(hash, "hash", "a Journal")
        self.source: Final = flag(source, "source", "a Journal")

    def open_for(self, scheduler: BaseScheduler) -> RunJournal:
        """Open the journal for a run of `scheduler`. The run calls this.

        Raises:
            JournalError: the file cannot be used, or another run uses it.

        """
        return RunJournalView(Session(self, scheduler), PathCache(scheduler))

    def __repr__(self) -> str:
        """Show the path."""
        return f"<Journal {os.fspath(self.path)!r}>"


def open_journal(journal: object, scheduler: BaseScheduler) -> RunJournal:
    """Open a journal for a run of `scheduler`.

    Args:
        journal: a `Journal`, a path, or another `JournalProtocol`.
        scheduler: the outermost scheduler of the run.

    Raises:
        TypeError: it is none of these.
        JournalError: the file cannot be used.

    """
    if isinstance(journal, (str, os.PathLike)):
        journal = Journal(cast("str | os.PathLike[str]", journal))
    if not hasattr(journal, "open_for"):
        raise TypeError(f"journal={shown_value(journal)} of {scheduler.label!r}: give a Journal, or the path of one")
    return cast("JournalProtocol", journal).open_for(scheduler)


ALWAYS_RUNS: Final = NotStored()
RESULT_NOT_SAVED: Final = NotStored(NOT_SAVED)
NO_RECORD: Final = NotStored(NOT_IN_JOURNAL)
Running = tuple[str, str, "Save", "str | None", "Work | None", bool]
"""The facts of a running job: path, fingerprint, `save`, the reason that it was not restored, its `Work`, and True if
a timeout counts as success."""


class Session:
    """A journal while a run uses it; the runs of nested schedulers share it."""

    def __init__(self, journal: Journal, scheduler: BaseScheduler) -> None:
        self.journal: Final = journal
        self._scheduler: Final = scheduler
        self.store: Final = Store(journal.path, writes=True, syncs=journal.durable == "each")
        try:
            self._is_new: Final = self.store.is_empty()
            self.number: Final = self.store.add_run(scheduler.label)
        except BaseException:
            self.store.close()
            raise
        self._files: Final = Files(journal.hash, self.store.own_files)
        self._fingerprints: Final = Fingerprints(self._result_form, self._files, journal.source)
        # The forms of results in the fingerprints of jobs that have them as inputs.
        self._forms: Final[dict[AbstractJob[Any], str]] = {}
        # The jobs that are ready or running, and whose results will be recorded.
        self._running: Final[dict[AbstractJob[Any], Running]] = {}
        self._restored_paths: Final[set[str]] = set()  # restored: another attempt of a scheduler runs them again
        self._unstored: Final[dict[str, str]] = {}  # reasons, by label
        self._tally: Final = JobTally()
        self._kinds_without_journal: Final[set[type[Any]]] = set()  # kinds of jobs without `for_journal`
        # ---- for the next commit
        self._records: list[tuple[Any, ...]] = []
        self._restored: list[tuple[int, str]] = []
        self._done: list[tuple[str]] = []

    # ---- before a job

    def look_up(self, job: AbstractJob[Any], path: str) -> Any:
        """Return the stored result of a job, or a `NotStored`."""
        if always_runs(job):
            return ALWAYS_RUNS
        settings = journal_options(job)
        save = self.journal.save if settings is None or settings.save == "default" else settings.save
        if save is None:
            return RESULT_NOT_SAVED
        try:
            work = None if type(job) in self._kinds_without_journal else self._work(job)
            fingerprint = self._fingerprints.of(job, work, settings)
        except NotSerializable as error:
            self._unstored[job.label] = str(error)
            return NotStored(f"what identifies it cannot be stored: {error}")
        value: Any = NO_RECORD
        if not self._is_new and path not in self._restored_paths:
            try:
                record = self.store.find(path)
            except Damaged:
                record, value = None, NotStored(DAMAGED)
            if record is not None:
                value = self._match(job, record, fingerprint, save, work)
        if type(value) is NotStored:
            writes = work is not None and bool(work.writes or work.appends or work.begins_anew)
            moves_on = settings is not None and job.on_timeout == "move_on"
            self._running[job] = path, fingerprint, save, None if value is NO_RECORD else value.why, work, moves_on
            if work is not None and writes:
                self._record_start(work, path)
        else:
            self._restored_paths.add(path)
            self._restored.append((self.number, path))
        return value

    def _match(
        self,
        job: AbstractJob[Any],
        record: Record,
        fingerprint: str,
        save: Save,
        work: Work | None,
    ) -> Any:
        """Return the result of a job if its record still holds, else a `NotStored` with the reason."""
        if record.run == self.number:
            return NotStored("it has run in this run already, in an earlier attempt of its scheduler")
        changed = self._change(job, record, fingerprint, save, work)
        if changed is not None:
            return NotStored(changed)
        try:
            data = self.store.read_result(record)
        except (OSError, TypeError, ValueError) as error:
            return NotStored(f"its stored result cannot be used: {error}")
        try:
            if save == "pickle":  # only if the job asks for it now: the journal may be forged
                value = pickle.loads(cast(bytes, data))
            else:
                value = loads(data)
                if isinstance(save, tuple):
                    value = save[1](value)
        except NotSerializable as error:
            return NotStored(f"its result is {error}")
        except Exception as error:  # from the user's code
            return NotStored(f"its result cannot be loaded: {error!r}")
        self._forms[job] = comparison_form(data)
        return value

    def _change(
        self, job: AbstractJob[Any], record: Record, fingerprint: str, save: Save, work: Work | None
    ) -> str | None:
        """Return the reason that a record no longer holds; None if it does."""
        if record.fingerprint != fingerprint:
            changed = describe_difference(record.fingerprint, fingerprint, job)
            if changed is not None:
                return changed
        if record.saved is None:
            return f"its result could not be stored: {record.why}"
        if record.saved != _save_name(save):
            return f"its result is stored by {record.saved}, and save= now says {_save_name(save)}"
        if work is None:
            return None
        files = self._files
        return files.describe_changed_output(work, _stamps(record.outputs)) or files.describe_changed_input(
            work, _depfile_stamps(record.outputs)
        )

    def _record_start(self, work: Work, path: str) -> None:
        """Clean up a job's files after an attempt that did not end, and record the new start."""
        try:
            before = _stamps(self.store.find_start(path))
        except Damaged:  # the earlier stamps are lost
            before = {}
        self._files.put_aside(work, before)
        for file in work.appends:
            then = before.get(path_text(file))
            if then is not None and not self.store.is_output_of_another(path_text(file), path):
                self._files.cut_back(file, then)
        try:
            stamps = self._files.output_stamps(work)
        except NotSerializable:
            stamps = {}
        self.commit()
        self.store.record_start(path, msgspec.json.encode(stamps).decode())

    def _work(self, job: AbstractJob[Any]) -> Work | None:
        """Return the work of a job by its `for_journal`.

        Raises:
            NotSerializable: `for_journal` raised.

        """
        if type(job).for_journal is AbstractJob.for_journal:
            self._kinds_without_journal.add(type(job))
        try:
            return job.for_journal()
        except Exception as error:  # from a kind of the user's
            raise NotSerializable(f"its work, for for_journal() raised {error!r}") from None

    # ---- after a job

    def record(self, job: AbstractJob[Any], value: Any, took: float | None = None) -> None:
        """Buffer the result of a job for the next commit; `took` is its time in seconds, by default `job.elapsed`."""
        running = self._running.pop(job, None)
        if running is None:
            return  # it was restored, or it always runs
        path, fingerprint, save, why, work, moves_on = running
        if moves_on and job.timed_out:
            return  # its result is incomplete
        saved: str | None = None
        data: str | bytes | None = None
        outputs: str | None = None
        file: str | None = None
        elapsed = job.elapsed if took is None else took
        try:
            saved, data = _serialized(save, value)
            self._forms[job] = comparison_form(data)
            if work is not None:
                stamps: dict[str, Any] = dict(self._files.output_stamps(work))
                if (named := self._files.depfile_stamps(work, elapsed or 0.0)) is not None:
                    stamps[NAMED] = named
                outputs = msgspec.json.encode(stamps).decode() if stamps else None
            if len(data) > LARGE_RESULT:
                file = self.store.write_result(data.encode() if isinstance(data, str) else data)
                data = None
        except NotSerializable as error:
            saved, data, why = None, None, str(error)
            self._unstored[job.label] = f"its result, {error}"
        self._records.append(
            (  # a Record; a plain tuple takes a tenth of the time
                path, fingerprint, saved, data, file, outputs, self.number, None, time.time(),
                elapsed, why,
            )
        )  # fmt: skip
        if outputs is not None:
            self._done.append((path,))

    def _result_form(self, job: AbstractJob[Any]) -> str:
        """Return the form of an input's result in a fingerprint."""
        form = self._forms.get(job)
        if form is None:
            value = result_for_journal(job)
            if value is SERVICE:
                return "service"
            if value is DROPPED:
                raise NotSerializable(f"the result of {job.label!r}, which was given up")
            try:
                form = self._forms[job] = comparison_form(dumps(value))
            except NotSerializable as error:
                raise NotSerializable(f"the result of {job.label!r}, {error}") from None
        return form

    def forget(self, job: AbstractJob[Any]) -> None:
        """Release a job that is about to be dropped, and the jobs in it; their results stay in the file."""
        for dropped in (job, *job.iterate_jobs()) if is_scheduler(job) else (job,):
            self._note_outcome(dropped)
            self._forms.pop(dropped, None)

    def _note_outcome(self, job: AbstractJob[Any]) -> None:
        """Record the outcome of a job."""
        running = self._running.pop(job, None)
        self._tally.note(job, ALWAYS if running is None else running[3])

    # ---- the file

    def commit(self) -> None:
        """Write the buffered results."""
        if self._records or self._restored:
            records, self._records = self._records, []
            restored, self._restored = self._restored, []
            done, self._done = self._done, []
            self.store.add(records, restored, done)

    def close(self, outcome: str | None, report: Callable[[str], object]) -> None:
        """Commit, record the end of the run, report jobs that could not be stored, and close the file.

        Args:
            outcome: the end of the run; None if the file cannot be written.
            report: called with the message.

        """
        try:
            if outcome is not None:
                self.commit()
                for job in self._scheduler.iterate_jobs():
                    self._note_outcome(job)
                self.store.end_run(self.number, outcome, self._tally.text(self._scheduler))
        finally:
            self.store.close()
        if self._unstored:
            labels = _join_labels(list(self._unstored))
            _, why = next(iter(self._unstored.items()))
            report(
                f"the journal cannot store {len(self._unstored)} job{'s' * (len(self._unstored) != 1)}, which will run "
                f"again: {labels}; the first: {why}; for a result give save='pickle', save=(dump, load) or "
                "save=None, for an argument key=",
            )
        by_name_only = list(self._fingerprints.known_by_name_only)
        if by_name_only and self._is_new:
            warn(
                f"the journal knows the functions of these jobs by name only, because they are lambdas, closures or "
                f"bound to objects: {_join_labels(by_name_only)}; "
                f"give them key= or version= if what they capture may change"
            )


class RunJournalView:
    """A journal for one scheduler's run, with the paths of its jobs."""

    def __init__(self, session: Session, paths: PathCache) -> None:
        self._session: Final = session
        self._paths: Final = paths
        # Bound methods of the session: wrappers would take as long as some of the methods themselves.
        self.record: Final = session.record
        self.commit: Final = session.commit
        self.close: Final = session.close

    @property
    def commits_each(self) -> bool:
        """Whether each job is committed before any job that waits for it may start."""
        return self._session.journal.durable == "each"

    def nested(self, scheduler: AbstractJob[Any]) -> RunJournalView:
        """Return a view of the same journal for a nested scheduler."""
        return RunJournalView(self._session, self._paths.nested(scheduler))

    def look_up(self, job: AbstractJob[Any]) -> Any:
        """Return the stored result of a job that is ready to run, or a `NotStored`."""
        return self._session.look_up(job, self._paths.path_of(job))

    def forget(self, job: AbstractJob[Any]) -> None:
        """Release a job that its scheduler is about to drop."""
        self._session.forget(job)
        self._paths.forget(job)


def _serialized(save: Save, value: Any) -> tuple[str, str | bytes]:
    """Return the kind of storage of a result ("json", "pickle" or "own"), and its stored form."""
    if save == "json":
        return "json", dumps(value)
    try:
        if save == "pickle":
            return "pickle", pickle.dumps(value)
        assert isinstance(save, tuple)
        return "own", dumps(save[0](value))
    except NotSerializable:
        raise
    except Exception as error:
        raise NotSerializable(f"which {_save_name(save)} cannot store: {error!r}") from None


NAMED: Final = ""
"""The key, instead of a path, for the stamps of the files that depfiles name."""


def _stamps(stored: Any) -> dict[str, str]:
    """Return the stamps of a job's outputs; empty if the stored text is invalid."""
    return {path: str(stamp) for path, stamp in _files_in(stored).items() if path != NAMED}


def _depfile_stamps(stored: Any) -> dict[str, str] | None:
    """Return the stamps of the files that depfiles name; None if none are stored."""
    files = _files_in(stored).get(NAMED)
    return (
        {path: str(stamp) for path, stamp in cast("dict[str, Any]", files).items()} if isinstance(files, dict) else None
    )


def _files_in(stored: Any) -> dict[str, Any]:
    try:
        files: Any = msgspec.json.decode(stored or "{}")
    except Exception:  # the file was changed from outside
        files = None
    return cast("dict[str, Any]", files) if isinstance(files, dict) else {}


def _save_name(save: Save) -> str:
    return "own" if isinstance(save, tuple) else str(save)


def _join_labels(labels: list[str]) -> str:
    more = f" and {len(labels) - MAX_NAMED} more" if len(labels) > MAX_NAMED else ""
    return ", ".join(map(repr, labels[:MAX_NAMED])) + more
