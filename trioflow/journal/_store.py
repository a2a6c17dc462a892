"""The file of a journal: an SQLite database with one writer at a time.

A commit survives if the process is killed at any later time, because SQLite writes its log before the commit returns.
With `durable="each"`, it also survives a power cut, because each commit is synced to the disk.

```
run.db            the jobs that have settled, and the runs
run.db-wal, -shm  SQLite's files, which it removes when a run ends cleanly
run.db-lock       names the process that uses the journal, which removes the file when it finishes (see `_lock`)
run.db-answers/   questions of jobs, and the answers of other processes (see `_questions`)
```

A run writes only through `_write` and `commit` of `JournalStore`. Tests kill the process before and after their calls.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import hashlib
import io
import math
import os
import re
import shutil
import sqlite3
import stat
import threading
import time
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar, get_args, get_type_hints

from .. import _posix as posix
from .._core.base._text_forms import size_text
from .._core.job._errors import JournalError
from ..jobs.command._output_sinks import OutputSpool
from ._lock import JournalLock, find_holder, is_own_journal, read_first_bytes
from ._serialization import NotSerializable, escape_row, msgspec

T = TypeVar("T")

APPLICATION_ID: Final = 0x74666A31
FORMAT_VERSION: Final = 6
RETRY_DELAYS: Final = (0.01, 0.05, 0.2)
"""The delays, in seconds, between the attempts to read a journal whose run is killed during the read."""
MAX_INLINE_RESULT: Final = 1 << 20
"""The maximum length of a result in the table `jobs`: of a pickle in bytes, of JSON in characters. A longer result is
in the table `results`, so that reading the records of all jobs takes little memory."""
MAX_RESULT: Final = 10**9 - 1000
"""The maximum length, in bytes, of any result and of an output of a command: what SQLite takes in a row is 1 GB. See
https://sqlite.org/limits.html#max_length."""
CHUNK_SIZE: Final = 1 << 20
"""The maximum length, in bytes, of the pieces of a large result or output."""
MIN_UNUSED_PAGES: Final = 64
UNUSED_SHARE: Final = 0.25
"""A journal with at least this many unused pages (of 4 KiB) and this unused share is rewritten at the end of a run, so
that rewriting costs less than the removed results did."""
LARGE_RESULT_QUERY: Final = "SELECT rowid FROM results WHERE hash = ? ORDER BY piece"
SQLITE_MAGIC: Final = b"SQLite format 3\0"
SCHEMA_STATEMENTS: Final = (
    "CREATE TABLE runs (id INTEGER PRIMARY KEY, label TEXT NOT NULL, started REAL NOT NULL, ended REAL, outcome TEXT,"
    " process TEXT NOT NULL, ending TEXT)",
    # `run` is the number of the last run that ran the job. `restored` is the number of the last run that restored it.
    "CREATE TABLE jobs (id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, fingerprint TEXT NOT NULL, saved TEXT,"
    " result BLOB, large TEXT, outputs TEXT, run INTEGER NOT NULL, restored INTEGER, settled REAL NOT NULL,"
    " took REAL, why TEXT, checksum INTEGER, code TEXT)",
    # Large results in pieces, and outputs, by the hash of their contents: see `StoredJob.large`.
    "CREATE TABLE results (hash TEXT, piece INTEGER, data BLOB NOT NULL, PRIMARY KEY (hash, piece))",
    # Jobs that write files, and have started but not ended, with the stamps of the files before the start.
    "CREATE TABLE begun (path TEXT PRIMARY KEY, outputs TEXT NOT NULL, checksum INTEGER) WITHOUT ROWID",
)
SCHEMA: Final = frozenset(
    [
        *(
            ("table", statement.split()[2], statement.split()[2], statement)
            for statement in SCHEMA_STATEMENTS
        ),
        *(
            ("index", f"sqlite_autoindex_{table}_1", table, None)
            for table in ("jobs", "results")
        ),
    ]
)
"""The schema that SQLite stores for these statements, with its indexes. Expressions in any other schema are code, which
SQLite evaluates: for a CHECK or a generated column even if the file is only read."""
SCHEMA_LIMITS: Final = (sqlite3.SQLITE_LIMIT_LENGTH, sqlite3.SQLITE_LIMIT_SQL_LENGTH)
MAX_SCHEMA_TEXT: Final = 1 << 16
"""The maximum length, in bytes, of a row of the schema while it is compared."""
MAX_SCHEMA_STEPS: Final = 10_000
DAMAGED_TEXT: Final = "its record in the journal is damaged"
ROW_ERROR_PATTERN: Final = re.compile(r"[\w-]+ value in (runs|jobs|results|begun)\.")
"""The start of SQLite's messages about an invalid value in a row. They are ignored: checksums detect damage to the rows
that decide whether a job is restored."""

DISK_FULL_CODES: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MIN_FREE_BYTES: Final = 1 << 16
"""The number of bytes that a commit may need. If less space is left, an I/O error is blamed on the lack of space."""
FILE_SUFFIXES: Final = ("", "-wal", "-shm", "-lock")
COMPANION_SUFFIXES: Final = (*FILE_SUFFIXES[1:], "-journal")
"""The suffixes of the files of a journal, and of all that SQLite or a run looks for beside a database."""
# See https://www.sqlite.org/fileformat2.html#file_format_version_numbers.
WAL_MODE_BYTE: Final = b"\2"
"""The byte at offset 18 of the header of an SQLite file with a write-ahead log."""
HEADER_SIZE: Final = 100


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What a job has left besides its result: the column `outputs`, as JSON."""

    stamps: dict[str, str] = dataclasses.field(default_factory=dict[str, str])
    budgets: dict[str, int | float] = dataclasses.field(
        default_factory=dict[str, int | float]
    )
    winners: dict[str, dict[str, bool]] = dataclasses.field(
        default_factory=dict[str, dict[str, bool]]
    )
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
        if self == NO_FACTS:
            return None
        return msgspec.json.encode(self).decode()


NO_FACTS: Final = Outputs()


class StoredJob(NamedTuple):
    path: str
    fingerprint: str
    saved: str | None
    """The format of the result: "json", "pickle" or "own". None if the result could not be stored. See `why`."""
    result: str | bytes | int | None
    """The result, or the size of a large result in bytes. None if it could not be stored."""
    large: str | None
    """The hash of a large result, and after spaces the hashes of the outputs in it that are stored apart, or None if
    the result is in `result`."""
    outputs: str | None
    """The `Outputs` as JSON: stamps of the files that the job wrote, and so on, or None without any."""
    run: int
    """The number of the last run that ran the job."""
    restored: int | None
    """The number of the last run that restored the job, or None if it has not been restored since it ran."""
    settled: float
    """The time when the job settled, in seconds since 1970. It may be in the future if the clock was set back."""
    took: float | None
    why: str | None
    """Why the job was not restored, or why its result could not be stored. None if it had no record before."""
    code: str | None = None
    """The digest of the function as its attempt began, or None if it is not known. See `_code_digests`."""


class RunRecord(NamedTuple):
    id: int
    label: str
    started: float
    ended: float | None
    outcome: str | None
    """The stop reason, or "refused" if the run did not start. None if no end is recorded, as for a killed run."""
    process: str
    ending: str | None = None
    """The summary of the run's jobs, as JSON. See `_run_summary`."""
    is_running: bool = False


RUN_COLUMNS: Final = RunRecord._fields[:-1]
COLUMN_TYPES: Final[dict[str, tuple[type[Any], ...]]] = {
    name: get_args(kind) or (kind,)
    for name, kind in (get_type_hints(StoredJob) | get_type_hints(RunRecord)).items()
}
"""SQLite accepts any type in any column."""
JOB_COLUMN_TYPES: Final = tuple(COLUMN_TYPES[name] for name in StoredJob._fields)
END_OF_FIRST: Final = '"f":"first"}'
"""The end of the fingerprint of a `First`."""
AMBIGUOUS_PREFIX: Final = '{"ambiguous":'
"""The beginning of the fingerprint of the record of an ambiguous path. The fingerprint of any such job follows."""
RECORD_COLUMNS: Final = ", ".join(StoredJob._fields)
NOT_LARGE_NO_OUTPUTS: Final = (None, None)
SELECT_JOB_STATEMENT: Final = (
    f"SELECT {RECORD_COLUMNS}, checksum FROM jobs WHERE path = ?"
)
UPDATE_CLAUSE: Final = ", ".join(
    f"{name} = excluded.{name}" for name in (*StoredJob._fields[1:], "checksum")
)
UPSERT_JOB_STATEMENT: Final = (
    f"INSERT INTO jobs ({RECORD_COLUMNS}, checksum) VALUES ({', '.join('?' * len(StoredJob._fields))}, ?)"
    f" ON CONFLICT (path) DO UPDATE SET {UPDATE_CLAUSE}"
)


def count_jobs(rows: Iterable[tuple[Any, Any]]) -> int:
    """Return the number of jobs with these paths and fingerprints. As in all counts, a `First` is a job of its own."""
    paths = set[str]()
    firsts = set[str]()
    for path, fingerprint in rows:
        paths.add(str(path))
        if str(fingerprint).endswith(END_OF_FIRST):
            firsts.add(str(path))
    count = 0
    for path in paths:
        slashes = [place for place, sign in enumerate(path) if sign == "/"]
        if firsts.isdisjoint(path[:place] for place in slashes):
            count += 1
    return count


class DamagedRow(Exception):
    """A row does not match its checksum, or belongs to another job than expected."""


class EmptyJournal(JournalError):
    """No run has written to the journal: the first was killed while it created the file."""


class ReadDisturbed(JournalError):
    """A run has changed the journal while it was read without locks."""


class JournalStore:
    """The open file of a journal.

    Args:
        path: the file.
        writes: whether to open the file for a run or for changes, not only for reading.
        syncs: whether to sync each commit to the disk.

    Raises:
        JournalError: the file is not a journal, or cannot be used. The file is not changed.

    """

    def __init__(self, path: Path, *, writes: bool, syncs: bool = False) -> None:
        self.path: Final = path
        # Symbolic links are resolved, because the journal's other files are beside the target. The path is absolute,
        # because a job may call chdir().
        self.file: Final = Path(os.path.realpath(path))
        self._is_writable: Final = writes
        self._is_in_transaction = False
        # Held for each step that writes or reads a large result, which a thread may do, and by `close`.
        self._in_use: Final = threading.RLock()
        self._lock: JournalLock | None = None
        self._db: sqlite3.Connection | None = None
        # The database and its log as they were opened, for a run.
        self._open_files: Final[dict[Path, os.stat_result]] = {}
        self._state_before_read: tuple[int, ...] | None = None
        self._syncs_commits: Final = syncs
        self.other_writers: str | None = None
        """Who else may have written to the open journal, for a message, or None if only this user may."""
        is_new = not os.path.lexists(self.file)
        try:
            self._reject_irregular_files()
            self.other_writers = self._find_other_writers()
            self._check_exists()
            if writes:
                self._lock = JournalLock(self.file, self._subject)
            self._check_file()
            with self._explain_errors("open it"):
                # Checked through a connection that only reads: another connection would merge the log into a file that
                # is rejected.
                self._db = self._connect(self._choose_read_mode())
                self._check_format(self._db)
                if self._lock is not None:
                    self._db.close()
                    self._state_before_read = None
                    self._db = self._connect("rw")
                    self._prepare_for_writing(self._lock)
                    if self.other_writers is None:
                        self.other_writers = self._find_other_writers()
                    if is_new:
                        self._sync_directory(self.file.parent)
        except BaseException as error:
            self.close()
            if isinstance(error, JournalError):
                self.check_undisturbed()
            raise

    @property
    def own_paths(self) -> frozenset[str]:
        """The resolved paths of all files that the journal may have, and of its directories."""
        return frozenset(
            f"{self.file}{suffix}" for suffix in ("", *COMPANION_SUFFIXES, "-answers")
        )

    # ---- opening

    @property
    def _subject(self) -> str:
        return f"journal {os.fspath(self.path)!r}"

    def _connect(self, mode: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self.file.as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=5.0,
        )
        # The file may be a stranger's: https://www.sqlite.org/security.html#untrusted_sqlite_database_files.
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        # Text that is not UTF-8 raises no error here: the checksum of its row detects the damage.
        connection.text_factory = _decode_text
        return connection

    def _check_exists(self) -> None:
        """Check that the file exists, if it is only read. A run may create it, but not beside a lost file's log."""
        if self._log_exists() and not os.path.lexists(self.file):
            # Asked last, because a run creates it before the log.
            log, memory = (self.file.name + suffix for suffix in ("-wal", "-shm"))
            raise JournalError(
                f"{self._subject}: the file is missing, but its log {log!r} is there; restore the file, or remove "
                f"{log!r} and {memory!r}, too, to begin anew"
            )
        if self._is_writable:
            return
        try:
            os.stat(self.file)
        except (FileNotFoundError, NotADirectoryError):
            raise JournalError(f"there is no file {os.fspath(self.path)!r}") from None
        except OSError as error:
            # A directory that this user may not enter, or a name that is too long.
            raise JournalError(
                f"{self._subject}: it cannot be read: {error.strerror}"
            ) from error

    def _choose_read_mode(self) -> str:
        """Return the `mode` of SQLite's URI for reading the journal, which keeps SQLite from changing contents.

        Without a log, no run uses the journal, so SQLite neither locks the file nor creates others beside it
        ("immutable"). `check_undisturbed` finds out whether a run has started.
        """
        if self._log_exists() or (self._lock is None and is_own_journal(self.file)):
            return "ro"
        self._state_before_read = self._file_state()
        return "ro&immutable=1"

    def _file_state(self) -> tuple[int, ...]:
        status = os.stat(self.file)
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    def check_undisturbed(self) -> None:
        """Check that no run has started since the journal was opened to be read without locks.

        Raises:
            ReadDisturbed: a run has started. The values read may be wrong.

        """
        if self._state_before_read is None:
            return
        with contextlib.suppress(OSError):
            if not self._log_exists() and self._file_state() == self._state_before_read:
                return
        raise ReadDisturbed(
            f"{self._subject}: a run has changed it while it was read; try again"
        )

    def _reject_irregular_files(self) -> None:
        """Reject the journal if any of its files is not a regular file with a single name.

        Others may have put the files there. SQLite and a run write into them, and reading a pipe could wait forever.
        Of several hard links to a journal, only one has the log of a killed run beside it.
        """
        if os.path.islink(self.path) and not os.path.lexists(self.file):
            raise JournalError(
                f"{self._subject}: it is a symbolic link to a file that does not exist; create an empty file there, "
                f"or give the path of a new file"
            )
        if os.path.lexists(f"{self.file}-journal"):
            raise JournalError(
                f"{self._subject}: {self.file.name + '-journal'!r} next to it is a rollback journal, which no run "
                f"creates, and with which SQLite may delete any file; remove it, or use an earlier copy"
            )
        for suffix in FILE_SUFFIXES:
            try:
                irregularity = posix.describe_irregularity(
                    os.lstat(f"{self.file}{suffix}")
                )
            except OSError:
                # It is missing, or the error is raised when it is opened.
                continue
            if irregularity is not None:
                problem = f"it is {irregularity}; give the path of a regular file with one name"
                if suffix:
                    problem = f"{self.file.name + suffix!r} next to it is {irregularity}; remove it"
                raise JournalError(f"{self._subject}: {problem}")

    def _find_other_writers(self) -> str | None:
        """Return who else may have written to the database or its log, for a message, or None if only this user may."""
        if not posix.IS_POSIX:
            return None
        for suffix in ("", "-wal"):
            with contextlib.suppress(OSError):
                status = os.lstat(f"{self.file}{suffix}")
                if status.st_uid != posix.geteuid():
                    return f"{self.file.name + suffix!r} belongs to another user"
                if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                    return f"other users may write to {self.file.name + suffix!r}: chmod go-w"
        return None

    def _log_exists(self) -> bool:
        return os.path.exists(f"{self.file}-wal")

    def _check_file(self) -> None:
        start = self._read_header()
        if start is None:
            return
        # SQLite would remove the log of an empty file: pagerOpenWalIfPresent() in
        # https://github.com/sqlite/sqlite/blob/version-3.46.0/src/pager.c.
        if not start and self._log_exists():
            raise JournalError(
                f"{self._subject}: it is empty, but has a log {self.file.name + '-wal'!r}; restore an earlier copy, "
                f"or remove the log"
            )
        if start and start[: len(SQLITE_MAGIC)] != SQLITE_MAGIC:
            raise JournalError(
                f"{self._subject}: this file is not a journal, and was left unchanged; "
                f"give the path of a journal, or of a new file"
            )
        # Do not open the database of another program, because that would checkpoint its log. A journal is recognized
        # by the application id in its header, which is written before the journal has a log.
        has_log = start[18:19] == WAL_MODE_BYTE or self._log_exists()
        if start and has_log and start[68:72] != APPLICATION_ID.to_bytes(4, "big"):
            raise self._foreign_file_error()
        if self._is_writable and not os.access(self.file, os.W_OK):
            raise JournalError(
                f"{self._subject}: the file is read-only; a run must be able to write to it"
            )

    def _read_header(self) -> bytes | None:
        """Return the header of the file, or None if another store in this process writes the journal.

        In that case, opening and closing the file could release the locks of the other store.
        """
        try:
            if self._lock is not None:
                return read_first_bytes(self._lock.database_descriptor, HEADER_SIZE)
            if is_own_journal(self.file):
                return None
            with self.file.open("rb") as file:
                return file.read(HEADER_SIZE)
        except OSError as error:
            raise JournalError(
                f"{self._subject}: it cannot be read: {error.strerror}"
            ) from error

    def _check_format(self, connection: sqlite3.Connection) -> None:
        """Check that the file is a journal of this format, or empty."""
        # Reads all values from the same snapshot, even while a run creates the file.
        connection.execute("BEGIN")
        pragmas = ("PRAGMA application_id", "PRAGMA user_version")
        application, version = (
            connection.execute(pragma).fetchone()[0] for pragma in pragmas
        )
        if application != APPLICATION_ID and (application or version):
            raise self._foreign_file_error()
        if application and version != FORMAT_VERSION:
            raise JournalError(
                f"{self._subject}: it was written by another version of trioflow (format {version}, this one reads "
                f"{FORMAT_VERSION}), and was left unchanged; use that version, or give the path of a new file"
            )
        schema = self._read_schema(connection)
        if schema and not application:
            raise self._foreign_file_error()
        if schema and schema != SCHEMA:
            raise self._schema_error()
        if not (schema or self._is_writable):
            raise EmptyJournal(
                f"{self._subject}: it is empty: no run has written to it"
            )
        if schema:
            for (message,) in connection.execute("PRAGMA quick_check"):
                if message != "ok" and not ROW_ERROR_PATTERN.match(message):
                    raise sqlite3.DatabaseError(message)
        connection.execute("COMMIT")

    def _read_schema(
        self, connection: sqlite3.Connection
    ) -> frozenset[tuple[Any, ...]]:
        """Return the schema of the database, without evaluating any expression in it.

        The schema of a file from elsewhere may be so large that parsing it would take minutes. The schema of a journal
        takes some hundred steps of SQLite's virtual machine.

        Raises:
            JournalError: the schema is larger than a journal's.

        """
        limits = {
            limit: connection.setlimit(limit, MAX_SCHEMA_TEXT)
            for limit in SCHEMA_LIMITS
        }
        connection.set_progress_handler(lambda: True, MAX_SCHEMA_STEPS)
        try:
            return frozenset(
                connection.execute(
                    "SELECT type, name, tbl_name, sql FROM sqlite_master"
                )
            )
        except sqlite3.Error as error:
            code = error.sqlite_errorcode
            if code in (sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_TOOBIG):
                raise self._schema_error() from None
            raise
        finally:
            connection.set_progress_handler(None, 0)
            for limit, value in limits.items():
                connection.setlimit(limit, value)

    def _schema_error(self) -> JournalError:
        return JournalError(
            f"{self._subject}: its tables are not those of a journal: the file is damaged, or another program has "
            f"changed it; it was left unchanged; restore an earlier copy, or use another path"
        )

    def _foreign_file_error(self) -> JournalError:
        return JournalError(
            f"{self._subject}: this is an SQLite file of another program, and was left unchanged; "
            f"give the path of a journal, or of a new file"
        )

    def _prepare_for_writing(self, lock: JournalLock) -> None:
        # In WAL mode, NORMAL syncs no commit: https://www.sqlite.org/pragma.html#pragma_synchronous.
        level = "FULL" if self._syncs_commits else "NORMAL"
        self._fetch_row(f"PRAGMA synchronous = {level}")
        self._enter_wal_mode()
        if self._fetch_row("SELECT 1 FROM sqlite_master") is None:
            for statement in SCHEMA_STATEMENTS:
                self._write(statement)
            self.commit()
        # Makes SQLite create its log.
        self._fetch_row("SELECT count(*) FROM runs")
        lock.take_read_locks(self.file.with_name(self.file.name + "-shm"))
        for path in (self.file, self.file.with_name(self.file.name + "-wal")):
            self._open_files[path] = os.stat(path)

    def _enter_wal_mode(self) -> None:
        """Mark the file as a journal, and make SQLite use a write-ahead log.

        SQLite writes only the first page until then, so it needs no rollback journal, and a killed run leaves none.
        """
        (mode,) = self._fetch_row("PRAGMA journal_mode")
        if mode != "wal":
            # A new file, or a copy by SQLite.
            self._fetch_row("PRAGMA journal_mode = MEMORY")
            self._write(f"PRAGMA application_id = {APPLICATION_ID}")
            self._write(f"PRAGMA user_version = {FORMAT_VERSION}")
            self.commit()
            (mode,) = self._fetch_row("PRAGMA journal_mode = WAL")
        if mode != "wal":
            raise sqlite3.OperationalError(
                f"its file system does not support a write-ahead log (journal_mode {mode})"
            )

    def _sync_directory(self, directory: Path) -> None:
        """If commits are synced, sync a directory, too: new entries then survive a power cut."""
        if not self._syncs_commits or not posix.IS_POSIX:
            # On Windows, a directory cannot be opened.
            return
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    # ---- reading

    def is_empty(self) -> bool:
        return self._fetch_row("SELECT 1 FROM jobs LIMIT 1") is None

    def find_job(self, path: str) -> StoredJob | None:
        """Return the record of the job with this path, or None if there is none.

        Raises:
            DamagedRow: the row does not match its checksum or the path, or has values of a wrong type.

        """
        # A single transaction for all reads until the next commit, because each transaction locks the file.
        self._begin_transaction()
        row = self._fetch_row(SELECT_JOB_STATEMENT, (path,))
        if row is None:
            return None
        is_of_path = row[0] == path or row[0] == escape_row((path,))[0]
        if not is_of_path or row[-1] != checksum(row):
            raise DamagedRow
        if not all(map(isinstance, row, JOB_COLUMN_TYPES)):
            raise DamagedRow
        return StoredJob._make(row[:-1])

    def find_undamaged_job(self, path: str) -> StoredJob | None:
        """Return the record of the job with this path, or None if there is none, or it is damaged."""
        try:
            return self.find_job(path)
        except DamagedRow:
            return None

    def find_stamps_before_start(self, path: str) -> str | None:
        """Return, as JSON, the stamps that a job's outputs had before an attempt that was killed.

        Return None if the last attempt has ended, or none has started.

        Raises:
            DamagedRow: the row does not match its checksum.

        """
        self._begin_transaction()
        statement = "SELECT path, outputs, checksum FROM begun WHERE path = ?"
        found = self._fetch_row(statement, (path,))
        if found is None:
            return None
        if checksum(found[:2]) != found[2]:
            raise DamagedRow
        return str(found[1])

    def outputs_of_other_jobs(self, path: str) -> list[str]:
        """Return the names of all files that other jobs than the job at `path` have recorded as outputs."""
        selections = [
            f"SELECT path, outputs FROM {table} WHERE outputs IS NOT NULL"
            for table in ("jobs", "begun")
        ]
        names: list[str] = []
        for other_path, outputs in self._fetch_rows(" UNION ALL ".join(selections)):
            if other_path != escape_row((path,))[0]:
                with contextlib.suppress(Exception):
                    # Another program has changed the file.
                    names += msgspec.json.decode(outputs)["stamps"]
        return names

    def job_records(self) -> list[StoredJob]:
        """Return the records of all jobs, in the order that they were first written."""
        rows = self._fetch_rows(f"SELECT {RECORD_COLUMNS} FROM jobs ORDER BY id")
        return [
            StoredJob(*_replace_wrong_types(StoredJob._fields, row)) for row in rows
        ]

    def last_run(self, path: str) -> int:
        """Return the number of the last run that ran the job with this path, or a job nested in it, or 0."""
        statement = "SELECT max(run) FROM jobs WHERE typeof(run) = 'integer' AND (path = ? OR substr(path, 1, ?) = ?)"
        found = self._fetch_row(statement, (path, len(path) + 1, f"{path}/"))
        return int(found[0] or 0)

    def count_kept_jobs(self) -> int:
        """Return the number of jobs that ran or were restored in the last run, and have a stored result."""
        last = "SELECT max(id) AS last FROM runs"
        condition = "saved IS NOT NULL AND (run = last OR restored = last)"
        return count_jobs(
            self._fetch_rows(
                f"SELECT path, fingerprint FROM jobs, ({last}) WHERE {condition}"
            )
        )

    def run_records(self) -> list[RunRecord]:
        rows = self._fetch_rows(
            f"SELECT {', '.join(RUN_COLUMNS)} FROM runs ORDER BY id"
        )
        records = [RunRecord(*_replace_wrong_types(RUN_COLUMNS, row)) for row in rows]
        if records and records[-1].outcome is None:
            last = records[-1]
            if find_holder(self.file) in (last.process, ""):
                records[-1] = last._replace(is_running=True)
        return records

    def read_result(self, record: StoredJob) -> str | bytes:
        """Return the stored form of a result.

        Raises:
            TypeError, ValueError: the record or the result is damaged.

        """
        if record.large is not None:
            return b"".join(self.read_large(record.large.split(" ")[0]))
        if not isinstance(record.result, (str, bytes)):
            # Another program has changed the file.
            raise TypeError(f"it is {record.result!r}")
        return record.result

    def read_large(self, name: str) -> Iterator[bytes]:
        """Yield a large result piece by piece: a result from elsewhere may be larger than the memory.

        Raises:
            ValueError: it is missing or damaged. This is raised after the last piece if its contents have changed.

        """
        found = hashlib.sha256()
        try:
            with self._in_use:
                rows = self._database.execute(LARGE_RESULT_QUERY, (name,)).fetchall()
            for (row,) in rows:
                with (
                    self._in_use,
                    self._database.blobopen(
                        "results", "data", row, readonly=True
                    ) as blob,
                ):
                    while chunk := blob.read(CHUNK_SIZE):
                        found.update(chunk)
                        yield chunk
        except (sqlite3.Error, UnicodeEncodeError) as error:
            raise ValueError(f"it cannot be read: {error}") from None
        if found.hexdigest() != name:
            raise ValueError("its contents have changed")

    # ---- writing

    def add_run(self, label: str) -> int:
        assert self._lock is not None, "the journal is open to be read"
        row = label, time.time(), self._lock.process_description
        self._write(
            "INSERT INTO runs (label, started, process) VALUES (?, ?, ?)", [row]
        )
        (number,) = self._fetch_row("SELECT max(id) FROM runs")
        self.commit()
        return int(number)

    def end_run(
        self, number: int, outcome: str, seconds: float, summary: str | None = None
    ) -> None:
        """Record the end of a run: how many seconds it took by its own clock, and the summary of its jobs as JSON."""
        row = seconds, outcome, summary, number
        self._write(
            "UPDATE runs SET ended = started + ?, outcome = ?, ending = ? WHERE id = ?",
            [row],
        )
        self._release_space()

    def add_records(
        self,
        records: Sequence[StoredJob],
        restored: list[tuple[int, str]],
        ended_writers: list[tuple[str]],
    ) -> None:
        """Record the outcomes of several jobs in a single transaction, and commit it.

        Args:
            records: the records of jobs that have run.
            restored: for each restored job, the number of this run and the path of the job.
            ended_writers: for each job that writes files and has ended, or was restored, its path.

        """
        with self._in_use:
            self._write(
                UPSERT_JOB_STATEMENT, [(*row, checksum(row)) for row in records]
            )
            self._write("UPDATE jobs SET restored = ? WHERE path = ?", restored)
            self._write("DELETE FROM begun WHERE path = ?", ended_writers)
            self.commit()

    def record_start(self, path: str, outputs: str) -> None:
        """Record that a job is about to start and write files, and commit the record.

        Args:
            path: the path of the job.
            outputs: the stamps of the files before the start, as JSON.

        """
        self._write(
            "INSERT OR REPLACE INTO begun VALUES (?, ?, ?)",
            [(path, outputs, checksum((path, outputs)))],
        )
        self.commit()

    def write_large(self, data: bytes | OutputSpool, *, in_thread: bool = False) -> str:
        """Write a large result or output, which the next commit keeps, and return its hash.

        In a thread, each piece is committed, so that no commit of the event loop takes long. Pieces that a killed run
        has left of a result that no job has are removed at the end of the next run.

        Raises:
            NotSerializable: it is too large.

        """
        if len(data) > MAX_RESULT:
            raise NotSerializable(
                f"too large: it takes {size_text(len(data))}, and a journal's take up to 1 GB"
            )
        statement = (
            "INSERT INTO results VALUES (?, ?, ?) ON CONFLICT (hash, piece)"
            " DO UPDATE SET data = excluded.data WHERE data != excluded.data"  # it is damaged
        )
        if isinstance(data, bytes):
            opened: io.BufferedIOBase = io.BytesIO(data)
        else:
            opened = data.open()
        with opened as file:
            name = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            pieces = iter(functools.partial(file.read, CHUNK_SIZE), b"")
            for number, piece in enumerate(pieces):
                self._write(statement, [(name, number, piece)])
                if in_thread:
                    self.commit()
        return name

    def discard(self, paths: Iterable[str]) -> None:
        """Remove records, whose jobs run anew in this run. Their large results may be those of others. Marks stay."""
        statement = f"DELETE FROM jobs WHERE path = ? AND fingerprint NOT GLOB '{AMBIGUOUS_PREFIX}*'"
        self._write(statement, [(path,) for path in paths])
        self.commit()

    def forget(self, paths: Iterable[str]) -> None:
        rows = [(path,) for path in paths]
        self._write("DELETE FROM jobs WHERE path = ?", rows)
        self._write("DELETE FROM begun WHERE path = ?", rows)
        self._release_space()

    def _release_space(self) -> None:
        """Remove large results that no job refers to. If much of the file is then unused, make it smaller.

        Programs that read the journal keep their snapshot. The file itself shrinks when SQLite next checkpoints its
        log, at the latest when the last of them has closed it.
        """
        names = self._fetch_rows("SELECT large FROM jobs WHERE large IS NOT NULL")
        stored = self._fetch_rows("SELECT DISTINCT hash FROM results")
        used = set[str]()
        for (large,) in names:
            used.update(str(large).split(" "))
        unused_rows = [row for row in stored if row[0] not in used]
        self._write("DELETE FROM results WHERE hash = ?", unused_rows)
        self.commit()
        (unused,) = self._fetch_row("PRAGMA freelist_count")
        (total,) = self._fetch_row("PRAGMA page_count")
        if unused < MIN_UNUSED_PAGES or unused < total * UNUSED_SHARE:
            return
        with contextlib.suppress(sqlite3.Error):
            # There is no space for the copy: the next run tries again.
            self._database.execute("VACUUM")

    def commit(self) -> None:
        with self._in_use:
            if not self._is_in_transaction:
                return
            change = self._describe_lost_file()
            with self._explain_errors("write to it"):
                self._database.execute("COMMIT" if change is None else "ROLLBACK")
            self._is_in_transaction = False
            if change is not None:
                with contextlib.suppress(sqlite3.Error):
                    # A file that was renamed gets the contents of its log.
                    self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                raise JournalError(f"{self._subject}: {change}")

    def _describe_lost_file(self) -> str | None:
        """Describe that another program has removed or replaced an open file. Return None if none has."""
        for path, opened in self._open_files.items():
            subject = "it" if path == self.file else f"its log {path.name!r}"
            try:
                if os.path.samestat(os.stat(path), opened):
                    continue
                change = "replaced by another file"
            except OSError:
                change = "removed or renamed"
            return (
                f"{subject} was {change} while the run was writing to it; rename it back if it was renamed, and start "
                f"the run again"
            )
        return None

    def close(self) -> None:
        with self._in_use:
            connection = self._db
            self._db = None
            self._is_in_transaction = False
            if self._lock is not None:
                self._lock.release_read_locks()
            if connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    # A commit has already reported the error.
                    connection.close()
            if self._lock is not None:
                self._lock.release()
                self._lock = None

    # ---- the database

    @property
    def _database(self) -> sqlite3.Connection:
        assert self._db is not None, "the journal is closed"
        return self._db

    def _begin_transaction(self) -> None:
        with self._in_use:
            if not self._is_in_transaction:
                with self._explain_errors("write to it"):
                    self._database.execute("BEGIN IMMEDIATE")
                self._is_in_transaction = True

    def _write(
        self, statement: str, rows: Iterable[tuple[Any, ...]] | None = None
    ) -> None:
        if rows is not None:
            rows = list(rows)
            if not rows:
                # Not even a transaction has to begin.
                return
        with self._in_use, self._explain_errors("write to it"):
            self._begin_transaction()
            if rows is None:
                self._database.execute(statement)
                return
            try:
                self._database.executemany(statement, rows)
            except UnicodeEncodeError:
                # Write all rows again, which is harmless.
                self._database.executemany(statement, [escape_row(row) for row in rows])

    def _fetch_row(self, statement: str, parameters: tuple[Any, ...] = ()) -> Any:
        return next(iter(self._fetch_rows(statement, parameters)), None)

    def _fetch_rows(
        self, statement: str, parameters: tuple[Any, ...] = ()
    ) -> list[Any]:
        with self._explain_errors("read it"):
            try:
                return self._database.execute(statement, parameters).fetchall()
            except UnicodeEncodeError:
                return self._database.execute(
                    statement, escape_row(parameters)
                ).fetchall()

    @contextlib.contextmanager
    def _explain_errors(self, action: str) -> Generator[None]:
        """Translate errors of the database and of the system into a `JournalError` with a remedy.

        Args:
            action: the action that failed, for the message, e.g. "open it" for "cannot open it".

        Raises:
            JournalError: the body of the `with` statement raised such an error. The transaction is rolled back.

        """
        try:
            yield
        # sqlite3 raises UnicodeDecodeError if it cannot decode an error message of SQLite.
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            if self._is_in_transaction:
                self._is_in_transaction = False
                with contextlib.suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
            raise self._make_error(action, error) from error

    def _describe_space_limit(self) -> str | None:
        """Describe the limit of disk space or file size that leaves no room for a commit. Return None if there is room.

        SQLite reports some of these limits only as I/O errors.
        """
        with contextlib.suppress(OSError):
            if shutil.disk_usage(self.file.parent).free < MIN_FREE_BYTES:
                return "no space left on its disk"
            if not posix.IS_POSIX:
                return None
            limit, _ = posix.resource.getrlimit(posix.resource.RLIMIT_FSIZE)
            size = 0
            for path in (str(self.file), f"{self.file}-wal"):
                if os.path.exists(path):
                    size = max(size, os.path.getsize(path))
            is_limited = limit != posix.resource.RLIM_INFINITY
            if is_limited and size + MIN_FREE_BYTES > limit:
                return f"the limit of the file size is {limit} bytes (ulimit -f)"
        return None

    def _make_error(self, action: str, error: Exception) -> JournalError:
        text = str(error)
        code = getattr(error, "sqlite_errorcode", None)
        advice = "check the disk and the directory"
        limit = None
        if code is not None and code & 0xFF == sqlite3.SQLITE_IOERR:
            limit = self._describe_space_limit()
        if (
            limit is not None
            or code == sqlite3.SQLITE_FULL
            or getattr(error, "errno", None) in DISK_FULL_CODES
        ):
            text = limit or text
            advice = "free some space, and start the run again: it continues from the last commit"
        elif isinstance(error, UnicodeDecodeError) or (
            isinstance(error, sqlite3.DatabaseError)
            and not isinstance(error, sqlite3.OperationalError)
        ):
            advice = "the file is damaged, and was left unchanged; restore an earlier copy, or use another path"
        elif code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            advice = (
                "another program is using the file; wait for it, or use another path"
            )
        elif code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
            advice = "the file or its directory is not writable; use a writable path"
        return JournalError(f"{self._subject}: cannot {action}: {text}; {advice}")


def read_with_retry(path: Path, read: Callable[[JournalStore], T]) -> T:
    """Open a journal for reading, and return the result of `read`, which is called again if a run has disturbed it.

    While no run uses the journal, it is read without locks, and a run that starts may change it. While a run uses it,
    the run may be killed, and SQLite must recover the log.
    """
    for seconds in RETRY_DELAYS:
        try:
            return _read_once(path, read)
        except JournalError as error:
            code = getattr(error.__cause__, "sqlite_errorcode", None)
            needs_recovery = code is not None and code & 0xFF == sqlite3.SQLITE_READONLY
            if not (needs_recovery or isinstance(error, ReadDisturbed)):
                raise
            time.sleep(seconds)
    return _read_once(path, read)


def _read_once(path: Path, read: Callable[[JournalStore], T]) -> T:
    with contextlib.closing(JournalStore(path, writes=False)) as store:
        try:
            value = read(store)
        except JournalError:
            store.check_undisturbed()
            raise
    store.check_undisturbed()
    return value


def checksum(row: Sequence[Any]) -> int:
    """Return the checksum of a row, or of its stored form (see `escape_row`).

    For `jobs`, it covers the first six columns: what is restored, and for which work. Of the others, `run`, `settled`
    and `restored` decide whether the job is restored, too. Only their types are checked, since `restored` changes
    alone, and the rest is for reports. For `begun`, it covers the path and the outputs.
    """
    if row[4:6] == NOT_LARGE_NO_OUTPUTS:
        try:
            return zlib.crc32("\0".join(row[:4]).encode(errors="backslashreplace"))
        except TypeError:
            # Some values are not text.
            pass
    total = 0
    for value in row[:6]:
        raw = value
        if not isinstance(value, bytes):
            raw = f"{type(value).__name__} {value}".encode(errors="backslashreplace")
        total = zlib.crc32(raw, zlib.crc32(b"\0", total))
    return total


_decode_text: Final[Callable[[bytes], str]] = functools.partial(
    str, encoding="utf-8", errors="backslashreplace"
)


def _replace_wrong_types(names: tuple[str, ...], row: Iterable[Any]) -> Iterator[Any]:
    """Yield the values of a row, replacing values of a wrong type, which another program has stored."""
    for name, value in zip(names, row, strict=True):
        types = COLUMN_TYPES[name]
        if not isinstance(value, types) and str in types:
            yield repr(value)
        elif not isinstance(value, types) or (
            isinstance(value, float) and not math.isfinite(value)
        ):
            yield 0
        else:
            yield value
