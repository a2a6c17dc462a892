"""The file of a journal: one SQLite database, one writer at a time, and a directory for large results next to it.

A commit survives the end of the process at any instant, because SQLite's write-ahead log is written before
the commit returns. With `durable="each"` it survives a power cut too, for each commit is then synced to the disk.

```
run.db            the jobs that have settled, and the runs
run.db-wal, -shm  of SQLite; gone when the last run has ended cleanly
run.db-lock       names the process that uses the journal; gone with it (`_lock`)
run.db-results/   results of more than 1 MiB, each in a file that is named by the hash of its contents
```

Every write goes through `Store._write`, `Store.commit` or `Store.write_result`, so that tests can kill the process
before and after each of them.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import re
import shutil
import sqlite3
import stat
import time
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from .. import _posix as posix
from .._core.api.journals import JournalError
from ._file_watch import FileWatch
from ._lock import Lock, holder, is_own, read_start
from ._msgspec import msgspec

T = TypeVar("T")

APPLICATION: Final = 0x74666A31
"""The application id in the file's header: it distinguishes a journal from other SQLite files."""
VERSION: Final = 3
RETRY_DELAYS: Final = (0.01, 0.05, 0.2)
"""Delays, in seconds, before further attempts to open a journal whose run was killed during a read."""
LARGE_RESULT: Final = 1 << 20
"""The size in bytes above which a result gets a file of its own."""
MAGIC: Final = b"SQLite format 3\0"
SCHEMA: Final = (
    "CREATE TABLE runs (id INTEGER PRIMARY KEY, label TEXT NOT NULL, started REAL NOT NULL, ended REAL, outcome TEXT,"
    " process TEXT NOT NULL, ending TEXT)",
    # `restored` is the last run that restored the job, `run` the one that ran it.
    "CREATE TABLE jobs (id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, fingerprint TEXT NOT NULL, saved TEXT,"
    " result BLOB, file TEXT, outputs TEXT, run INTEGER NOT NULL, restored INTEGER, settled REAL NOT NULL,"
    " elapsed REAL, why TEXT, checksum INTEGER)",
    # Commands that write files and have not succeeded yet, with the stamps of these files before the start.
    "CREATE TABLE begun (path TEXT PRIMARY KEY, outputs TEXT NOT NULL, checksum INTEGER) WITHOUT ROWID",
)
DAMAGED: Final = "what the journal has of it is damaged"
ROW_ERROR: Final = re.compile(r"[\w-]+ value in (runs|jobs|begun)\.")
"""SQLite's message if a value in a row is wrong; the checksum of the row finds that as well."""

RESULT_NAME: Final = re.compile("[0-9a-f]{64}")
"""The name of a file with a large result."""
PARTIAL_NAME: Final = re.compile(r"[0-9a-f]{64}\.\d+\.partial")
"""The name of such a file while it is written."""
DISK_FULL_CODES: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LOW_DISK_SPACE: Final = 1 << 16
"""Free bytes on the disk below which a commit may fail."""
HEADER_BYTES: Final = 100
"""Bytes of the header of an SQLite file, which has the application id."""


class Record(NamedTuple):
    """One job in a journal."""

    path: str
    fingerprint: str
    saved: str | None
    """The format of the result: "json", "pickle" or "own"; None if it could not be stored, for the reason in `why`."""
    result: str | bytes | None
    file: str | None
    """The hash of a large result, which is in a file of its own."""
    outputs: str | None
    """The stamps of the files that it wrote, as JSON."""
    run: int
    restored: int | None
    settled: float
    """The time when it settled: seconds since 1970, by the clock of the machine, which may have been set back since."""
    elapsed: float | None
    why: str | None
    """The reason that it was not restored, or that its result could not be stored."""


class RunRecord(NamedTuple):
    """One run that has used a journal."""

    id: int
    label: str
    started: float
    ended: float | None
    outcome: str | None
    """The stop reason; None if it is running, or the process was killed."""
    process: str
    ending: str | None = None
    """The summary of its jobs, as JSON; see `_run_summary`."""
    is_running: bool = False


RUN_COLUMNS: Final = RunRecord._fields[:-1]
TEXTS: Final = frozenset(
    ("path", "fingerprint", "label", "process", "saved", "file", "outputs", "outcome", "why", "ending")
)
NUMBERS: Final = frozenset(("id", "run", "restored", "settled", "elapsed", "started", "ended"))
COLUMNS: Final = ", ".join(Record._fields)
NOTHING_MORE: Final = (None, None)
"""The columns `file` and `outputs` of a job without a large result and without outputs."""
NEEDED: Final = {"jobs": f"{COLUMNS}, checksum", "begun": "path, outputs, checksum", "runs": "ending"}
CHECKED: Final = ", ".join(Record._fields[:6])
"""The columns that decide on restoring; the others are for reports."""
FIND: Final = f"SELECT {COLUMNS}, checksum FROM jobs WHERE path = ?"
REPLACED: Final = ", ".join(f"{name} = excluded.{name}" for name in (*Record._fields[1:], "checksum"))
INSERT: Final = (
    f"INSERT INTO jobs ({COLUMNS}, checksum) VALUES ({', '.join('?' * len(Record._fields))}, ?)"
    f" ON CONFLICT (path) DO UPDATE SET {REPLACED}"
)


class Damaged(Exception):
    """A row that differs from what was written."""


class Store:
    """An open journal.

    Args:
        path: the file.
        writes: opens it for a run or for changes, not only for reading.
        syncs: syncs each commit to the disk.

    Raises:
        JournalError: the file is not a journal, or cannot be used, for the reason in the message. It is left as it is.

    """

    def __init__(self, path: Path, *, writes: bool, syncs: bool = False) -> None:
        self.path: Final = path
        # Without links, so that all of its files are beside it; absolute, because a job may change our directory.
        self._file: Final = Path(os.path.realpath(path))
        self._results: Final = self._file.with_name(self._file.name + "-results")
        self._writes: Final = writes
        self._in_transaction = False
        self._lock: Lock | None = None
        self._db: sqlite3.Connection | None = None
        self._file_watch: FileWatch | None = None
        self._syncs: Final = syncs
        is_new = not os.path.lexists(self._file)
        try:
            self._refuse_links()
            if writes:
                self._lock = Lock(self._file, self._subject)
            elif not path.exists():
                raise JournalError(f"{self._subject}: there is no such file")
            self._check_file()
            with self._explain_errors("open it"):
                self._db = self._connect("rwc" if writes else self._mode_to_read())
                self._check_kind(self._db)
                if self._lock is not None:
                    self._prepare(self._lock)
                    if is_new:
                        self._sync_directory(self._file.parent)
                    self._remove_partial_files()
        except BaseException:
            self.close()
            raise

    @property
    def own_files(self) -> frozenset[str]:
        """The paths of all files of the journal, without links."""
        return frozenset(f"{self._file}{suffix}" for suffix in ("", "-wal", "-shm", "-lock", "-journal", "-results"))

    # ---- opening

    @property
    def _subject(self) -> str:
        """The journal, for errors."""
        return f"journal {os.fspath(self.path)!r}"

    def _connect(self, mode: str) -> sqlite3.Connection:
        db = sqlite3.connect(
            f"{self._file.as_uri()}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False, timeout=5.0
        )
        db.text_factory = _decoded  # a text that is not UTF-8 is damage, which the checksum of its row shows
        return db

    def _mode_to_read(self) -> str:
        """Return SQLite's mode for reading the journal.

        While a run writes it, nothing may be changed. Otherwise a reader recovers the log of a killed run.
        """
        if is_own(self._file) or holder(self._file) is not None:
            return "ro"
        if os.access(self._file, os.W_OK) and os.access(self._file.parent, os.W_OK):
            return "rw"
        # SQLite cannot create its files here; without a log, the database file is complete by itself.
        return "ro" if self._log_exists() else "ro&immutable=1"

    def _refuse_links(self) -> None:
        """Reject a file with hard links: the log of a killed run is beside one of the names only."""
        with contextlib.suppress(OSError):
            status = os.stat(self._file)
            if stat.S_ISREG(status.st_mode) and (names := status.st_nlink) > 1:
                raise JournalError(
                    f"{self._subject}: the file has {names} names (hard links), and its log is beside one of them "
                    f"alone; remove the other names, or give the path of a copy"
                )

    def _log_exists(self) -> bool:
        return os.path.exists(f"{self._file}-wal")

    def _check_file(self) -> None:
        start = self._read_header()
        if start and start[: len(MAGIC)] != MAGIC:
            raise JournalError(
                f"{self._subject}: this is not a journal but some other file, and is left as it is; "
                f"give the path of a journal, or of a new file"
            )
        # Opening a database checkpoints its log. A journal has no log before its header has the application id.
        if start and self._log_exists() and start[68:72] != APPLICATION.to_bytes(4, "big"):
            raise self._foreign_file()
        if self._writes and not os.access(self._file, os.W_OK):
            raise JournalError(f"{self._subject}: the file is read-only; a run has to write into it")

    def _read_header(self) -> bytes:
        """Return the header; empty if this process writes the file, which must not be opened again."""
        try:
            if self._lock is not None:
                return read_start(self._lock.database, HEADER_BYTES)
            if is_own(self._file):
                return b""
            with self._file.open("rb") as file:
                return file.read(HEADER_BYTES)
        except OSError as error:
            raise JournalError(f"{self._subject}: it cannot be read: {error.strerror}") from error

    def _check_kind(self, db: sqlite3.Connection) -> None:
        def one(statement: str) -> Any:
            return db.execute(statement).fetchone()[0]

        db.execute("BEGIN")  # one snapshot: a run may be creating the file now
        application, version = one("PRAGMA application_id"), one("PRAGMA user_version")
        tables = one("SELECT count(*) FROM sqlite_master")
        if not (application or version or tables or self._writes):
            raise JournalError(f"{self._subject}: it is empty, no run has written into it")
        programs = one("SELECT count(*) FROM sqlite_master WHERE type IN ('trigger', 'view')")
        if programs or (application != APPLICATION and (application or version or tables)):
            raise self._foreign_file()
        if application and version != VERSION:
            raise JournalError(
                f"{self._subject}: it was written by another version of trioflow (format {version}, this one "
                f"knows {VERSION}), and is left as it is; use that version, or give the path of a new file"
            )
        if tables:
            for (state,) in db.execute("PRAGMA quick_check"):
                if state != "ok" and not ROW_ERROR.match(state):
                    raise sqlite3.DatabaseError(state)
        db.execute("COMMIT")

    def _foreign_file(self) -> JournalError:
        return JournalError(
            f"{self._subject}: this is an SQLite file of some other program, and is left as it "
            f"is; give the path of a journal, or of a new file"
        )

    def _prepare(self, lock: Lock) -> None:
        (version,) = self._row("PRAGMA user_version")
        self._row_or_none(f"PRAGMA synchronous = {'FULL' if self._syncs else 'NORMAL'}")
        if not version:
            for statement in SCHEMA:
                self._write(statement)
            self._write(f"PRAGMA application_id = {APPLICATION}")
            self._write(f"PRAGMA user_version = {VERSION}")
            self.commit()
        for table, columns in NEEDED.items():
            try:
                self._database.execute(f"SELECT {columns} FROM {table} LIMIT 0")
            except sqlite3.OperationalError as error:  # a bit has flipped in their names
                raise sqlite3.DatabaseError(str(error)) from error
        (mode,) = self._row("PRAGMA journal_mode = WAL")
        if mode != "wal":
            raise sqlite3.OperationalError(f"its file system cannot keep a write-ahead log (journal_mode {mode})")
        self._row("SELECT count(*) FROM runs")  # creates the files of the log
        lock.shield(self._file.with_name(self._file.name + "-shm"))
        self._file_watch = FileWatch(self._file, lock.database, self._reread)

    def _remove_partial_files(self) -> None:
        """Remove half-written files of large results, left by a killed process."""
        for file in self._results.iterdir() if self._results.is_dir() else ():
            if PARTIAL_NAME.fullmatch(file.name):
                file.unlink()

    def _sync_directory(self, directory: Path) -> None:
        """With `syncs`, sync a directory, so that its names survive a power cut."""
        if not self._syncs or not posix.IS_POSIX:  # Windows opens no directory
            return
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _reread(self) -> None:
        """Read the file as another program would, after a change from outside.

        Raises:
            sqlite3.Error, JournalError: it is damaged.

        """
        self._check_file()
        with contextlib.closing(self._connect("ro")) as db:
            self._check_kind(db)

    # ---- reading

    def is_empty(self) -> bool:
        """Return whether the journal has no jobs."""
        return self._row_or_none("SELECT 1 FROM jobs LIMIT 1") is None

    def find(self, path: str) -> Record | None:
        """Return the record of the job with this path; None if there is none.

        Raises:
            Damaged: its row differs from what was written.

        """
        if not self._in_transaction:
            self._begin()  # one transaction for many reads: each would lock the file
        row = self._row_or_none(FIND, (path,))
        if row is None:
            return None
        if row[-1] != checksum(row) or (row[0] != path and row[0] != _escaped((path,))[0]):
            raise Damaged
        return Record._make(row[:-1])

    def find_start(self, path: str) -> str | None:
        """Return the stamps of a command's outputs before its start; None if it has succeeded since.

        Raises:
            Damaged: its row differs from what was written.

        """
        self._begin()
        stored_row = self._row_or_none("SELECT path, outputs, checksum FROM begun WHERE path = ?", (path,))
        if stored_row is None:
            return None
        *row, right = stored_row
        if checksum(row) != right:
            raise Damaged
        return str(row[1])

    def is_output_of_another(self, file: str, path: str) -> bool:
        """Return whether a job other than that at `path` writes `file`: several may append to one log."""
        rows: list[tuple[Any, Any]] = []
        with self._explain_errors("read it"):
            for table in ("jobs", "begun"):
                rows += self._database.execute(f"SELECT path, outputs FROM {table} WHERE outputs IS NOT NULL")
        mine, name = _escaped((path,))[0], msgspec.json.encode(file).decode()
        return any(other != mine and name in str(outputs) for other, outputs in rows)

    def records(self) -> list[Record]:
        """Return all jobs, in the order in which they were first written."""
        with self._explain_errors("read it"):
            rows = self._database.execute(f"SELECT {COLUMNS} FROM jobs ORDER BY id").fetchall()
        return [Record(*_fix_types(Record._fields, row)) for row in rows]

    def number_of_results(self) -> int:
        """Return the number of jobs with a result that the last run ran or restored."""
        (number,) = self._row(
            "SELECT count(*) FROM jobs, (SELECT max(id) AS last FROM runs)"
            " WHERE saved IS NOT NULL AND (run = last OR restored = last)"
        )
        return int(number)

    def runs(self) -> list[RunRecord]:
        """Return all runs, the oldest first."""
        with self._explain_errors("read it"):
            rows = self._database.execute(f"SELECT {', '.join(RUN_COLUMNS)} FROM runs ORDER BY id").fetchall()
        records = [RunRecord(*_fix_types(RUN_COLUMNS, row)) for row in rows]
        if records and records[-1].outcome is None and holder(self._file) in (records[-1].process, ""):
            records[-1] = records[-1]._replace(is_running=True)
        return records

    def read_result(self, record: Record) -> str | bytes:
        """Return the stored form of a result.

        Raises:
            OSError: the file of a large result is missing.
            TypeError, ValueError: the result differs from what was written.

        """
        if record.file is None:
            if not isinstance(record.result, (str, bytes)):  # the file was changed from outside
                raise TypeError(f"it is {record.result!r}")
            return record.result
        if not RESULT_NAME.fullmatch(record.file):  # a path could leave the directory
            raise ValueError(f"{record.file!r} is not the name of one of its files")
        data = (self._results / record.file).read_bytes()
        if _hash_name(data) != record.file:
            raise ValueError("its contents have changed")
        return data

    # ---- writing

    def add_run(self, label: str) -> int:
        """Record that a run begins, and return its number."""
        assert self._lock is not None, "the journal is open to be read"
        self._write(
            "INSERT INTO runs (label, started, process) VALUES (?, ?, ?)", [(label, time.time(), self._lock.name)]
        )
        (number,) = self._row("SELECT max(id) FROM runs")
        self.commit()
        return int(number)

    def end_run(self, number: int, outcome: str, ending: str | None = None) -> None:
        """Record the end of a run, with the summary of its jobs."""
        row = time.time(), outcome, ending, number
        self._write("UPDATE runs SET ended = ?, outcome = ?, ending = ? WHERE id = ?", [row])
        self.commit()

    def add(self, records: Sequence[tuple[Any, ...]], restored: list[tuple[int, str]], done: list[tuple[str]]) -> None:
        """Write several jobs in one transaction.

        Args:
            records: the jobs that have run, each with the fields of a `Record`.
            restored: the number of this run, and the path of each job that was restored.
            done: the paths of commands recorded by `begin` that have succeeded.

        """
        if records:
            try:
                rows = [(*row, checksum(row)) for row in records]
            except UnicodeEncodeError:
                rows = [(*row, checksum(row)) for row in map(_escaped, records)]
            self._write(INSERT, rows)
        if restored:
            self._write("UPDATE jobs SET restored = ? WHERE path = ?", restored)
        if done:
            self._write("DELETE FROM begun WHERE path = ?", done)
        self.commit()

    def record_start(self, path: str, outputs: str) -> None:
        """Record, and commit, that a command is about to write files."""
        self._write(
            "INSERT INTO begun VALUES (?, ?, ?) ON CONFLICT (path) DO UPDATE SET outputs = excluded.outputs,"
            " checksum = excluded.checksum",
            [(*row, checksum(row)) for row in [_escaped((path, outputs))]],
        )
        self.commit()

    def write_result(self, data: bytes) -> str:
        """Write a large result to a file of its own, and return the file's name."""
        name = _hash_name(data)
        target = self._results / name
        with self._explain_errors("write a large result"):
            if not self._results.is_dir():
                self._results.mkdir()
                self._sync_directory(self._results.parent)
            partial = target.with_name(f"{name}.{os.getpid()}.partial")
            try:
                with partial.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                partial.replace(target)
                self._sync_directory(self._results)
            except OSError:
                partial.unlink(missing_ok=True)
                raise
        return name

    def find_damage(self) -> list[tuple[str | None, str]]:
        """Return the faults found, each with the path of its job, or None."""
        with self._explain_errors("read it"):
            states = [state for (state,) in self._database.execute("PRAGMA integrity_check")]
            rows = self._database.execute(f"SELECT {COLUMNS}, checksum FROM jobs ORDER BY id").fetchall()
        damaged: list[tuple[str | None, str]] = [(None, state) for state in states if state != "ok"]
        for *row, right in rows:
            record = Record(*_fix_types(Record._fields, row))
            if checksum(tuple(row)) != right:
                damaged.append((record.path, "its row is damaged"))
            elif record.saved is not None:
                try:
                    self.read_result(record)
                except (OSError, TypeError, ValueError) as error:
                    damaged.append((record.path, f"its stored result cannot be used: {error}"))
        return damaged

    def copy_to(self, target: Path) -> None:
        """Copy the journal, with its large results, to a new file; a run may be using it.

        Raises:
            JournalError: it could not be copied; the partial copy is removed.

        """
        results = target.with_name(f"{target.name}-results")
        for path in (target, results):
            if os.path.lexists(path):
                raise JournalError(
                    f"{self._subject}: {os.fspath(path)!r} is there already; give the name of a new file"
                )
        partial = target.with_name(f"{target.name}.partial")
        try:
            with self._explain_errors(f"copy it to {os.fspath(target)!r}"):
                with contextlib.closing(sqlite3.connect(partial)) as copy:
                    self._database.backup(copy)
                    copy.execute("PRAGMA journal_mode = DELETE")  # leave WAL mode, so that the copy is a single file
                    files = [file for (file,) in copy.execute("SELECT DISTINCT file FROM jobs WHERE file IS NOT NULL")]
                if files:
                    results.mkdir()
                for file in filter(RESULT_NAME.fullmatch, files):
                    shutil.copyfile(self._results / file, results / file)
                os.link(partial, target)  # unlike a rename, it replaces nothing
        except BaseException:
            shutil.rmtree(results, ignore_errors=True)
            raise
        finally:
            partial.unlink(missing_ok=True)

    def forget(self, paths: Iterable[str]) -> None:
        """Remove jobs: a later run will run them."""
        rows = [(path,) for path in paths]
        self._write("DELETE FROM jobs WHERE path = ?", rows)
        self._write("DELETE FROM begun WHERE path = ?", rows)
        self.commit()

    def vacuum(self) -> None:
        """Release unused space, and remove large results that no job refers to."""
        with self._explain_errors("vacuum it"):
            used = {row[0] for row in self._database.execute("SELECT file FROM jobs WHERE file IS NOT NULL")}
            self._database.execute("VACUUM")
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            for file in self._results.iterdir() if self._results.is_dir() else ():
                if file.name not in used:
                    file.unlink()
            if self._lock is not None:
                self._file_watch = FileWatch(self._file, self._lock.database, self._reread)  # it has become shorter

    def commit(self) -> None:
        """Commit what was written since the last commit."""
        if not self._in_transaction:
            return
        if self._file_watch is None:
            self._end_transaction("COMMIT")
            return
        fault = self._file_watch.fault()
        self._end_transaction("COMMIT" if fault is None else "ROLLBACK")
        if fault is None:
            self._file_watch.remember()
            return
        if self._file_watch.may_be_completed():  # it was moved: complete it under its new name
            with contextlib.suppress(sqlite3.Error):
                self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        raise JournalError(f"{self._subject}: {fault}")

    def _end_transaction(self, statement: str) -> None:
        with self._explain_errors("write into it"):
            self._database.execute(statement)
        self._in_transaction = False

    def close(self) -> None:
        """Close the file, and release its locks."""
        db, self._db, self._in_transaction = self._db, None, False
        if self._lock is not None and (self._file_watch is None or self._file_watch.may_be_completed()):
            self._lock.lift_shield()
        if db is not None:
            with contextlib.suppress(sqlite3.Error):  # what is not committed is lost, and the error was raised before
                db.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    # ---- the database

    @property
    def _database(self) -> sqlite3.Connection:
        assert self._db is not None, "the journal is closed"
        return self._db

    def _begin(self) -> None:
        if not self._in_transaction:
            with self._explain_errors("write into it"):
                self._database.execute("BEGIN IMMEDIATE")
            self._in_transaction = True

    def _write(self, statement: str, rows: Iterable[tuple[Any, ...]] | None = None) -> None:
        self._begin()
        with self._explain_errors("write into it"):
            if rows is None:
                self._database.execute(statement)
                return
            rows = list(rows)
            try:
                self._database.executemany(statement, rows)
            except UnicodeEncodeError:  # writing the rows before it again changes nothing
                self._database.executemany(statement, [_escaped(row) for row in rows])

    def _row(self, statement: str, parameters: tuple[Any, ...] = ()) -> Any:
        row = self._row_or_none(statement, parameters)
        assert row is not None
        return row

    def _row_or_none(self, statement: str, parameters: tuple[Any, ...] = ()) -> Any:
        try:
            try:
                return self._database.execute(statement, parameters).fetchone()
            except UnicodeEncodeError:
                return self._database.execute(statement, _escaped(parameters)).fetchone()
        except sqlite3.Error as error:
            raise self._roll_back("read it", error) from error

    @contextlib.contextmanager
    def _explain_errors(self, what: str) -> Generator[None]:
        """Turn errors of the database and of the system into a `JournalError` with a remedy.

        Raises:
            JournalError: the block failed; the transaction is rolled back.

        """
        try:
            yield
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:  # the last: sqlite3 cannot read SQLite's error
            raise self._roll_back(what, error) from error

    def _roll_back(self, what: str, error: Exception) -> JournalError:
        """Roll the transaction back, and return the error for the user."""
        if self._in_transaction:
            self._in_transaction = False
            with contextlib.suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
        return self._make_error(what, error)

    def _limit_reached(self) -> str | None:
        """Return the limit that stops writing, if any: SQLite reports some as I/O errors."""
        with contextlib.suppress(OSError):
            if shutil.disk_usage(self._file.parent).free < LOW_DISK_SPACE:
                return "no space is left on its disk"
            if not posix.IS_POSIX:
                return None
            limit, _ = posix.resource.getrlimit(posix.resource.RLIMIT_FSIZE)
            sizes = [os.path.getsize(path) for path in (self._file, f"{self._file}-wal") if os.path.exists(path)]
            if limit != posix.resource.RLIM_INFINITY and max(sizes, default=0) + LOW_DISK_SPACE > limit:
                return f"a file may have no more than {limit} bytes here (ulimit -f)"
        return None

    def _make_error(self, what: str, error: Exception) -> JournalError:
        text = str(error)
        code = getattr(error, "sqlite_errorcode", None)
        advice = "see whether the disk and the directory are in order"
        lack = self._limit_reached() if code is not None and code & 0xFF == sqlite3.SQLITE_IOERR else None
        if lack is not None or code == sqlite3.SQLITE_FULL or getattr(error, "errno", None) in DISK_FULL_CODES:
            text = lack or text
            advice = "make room on the disk, and start the run again: it goes on from what was committed"
        elif isinstance(error, UnicodeDecodeError) or (
            isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
        ):
            advice = "the file is damaged, and is left as it is; take a copy of an earlier state, or another path"
        elif code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            advice = "another program uses the file; wait for it, or take another path"
        elif code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
            advice = "the file or its directory cannot be written; take a path that can"
        return JournalError(f"{self._subject}: cannot {what}: {text}; {advice}")


def read_with_retry(path: Path, read: Callable[[Store], T]) -> T:
    """Return the result of `read` on a journal; a run may be using it, and be killed.

    A journal in use is opened read-only. If its run is killed meanwhile, the log needs recovery, so the file is opened
    again like one that is not in use.
    """
    for seconds in RETRY_DELAYS:
        try:
            return _read_once(path, read)
        except JournalError as error:
            code = getattr(error.__cause__, "sqlite_errorcode", None)
            if code is None or code & 0xFF != sqlite3.SQLITE_READONLY:
                raise
            time.sleep(seconds)
    return _read_once(path, read)


def _read_once(path: Path, read: Callable[[Store], T]) -> T:
    store = Store(path, writes=False)
    try:
        return read(store)
    finally:
        store.close()


def checksum(row: Sequence[Any]) -> int:
    """Return a checksum of the columns of a row of `jobs` or `begun` that decide on restoring (`CHECKED`)."""
    if row[4:6] == NOTHING_MORE:
        try:
            return zlib.crc32("\0".join(row[:4]).encode())
        except TypeError:
            pass  # some values are not text
    total = 0
    for value in row[:6]:
        data = value if isinstance(value, bytes) else f"{type(value).__name__} {value}".encode()
        total = zlib.crc32(data, zlib.crc32(b"\0", total))
    return total


_decoded: Final[Callable[[bytes], str]] = functools.partial(str, encoding="utf-8", errors="backslashreplace")


def _escaped(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Escape lone surrogates, as in file names that are not UTF-8: SQLite cannot store them."""
    return tuple(item.encode(errors="backslashreplace").decode() if isinstance(item, str) else item for item in row)


def _fix_types(names: tuple[str, ...], row: Iterable[Any]) -> Iterator[Any]:
    """Yield a row's values, replaced if of a wrong type: SQLite accepts any type in any column."""
    for name, value in zip(names, row, strict=True):
        if name in TEXTS and not isinstance(value, (str, type(None))):
            yield repr(value)
        elif name in NUMBERS and not isinstance(value, (int, float, type(None))):
            yield 0
        elif name == "result" and not isinstance(value, (str, bytes, type(None))):
            yield repr(value)
        else:
            yield value


def _hash_name(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
