"""The locks of a journal, which are kept even if a job opens and closes the journal's files.

A POSIX record lock, such as SQLite's, belongs to a process and a file. The process loses the lock when it closes
any descriptor of the file, for example in a job that copies the directory. Linux also has locks that belong to an open
file description, and are not lost in this way. A journal has the following locks:

| file | lock | purpose |
|---|---|---|
| `run.db-lock` | write lock | one run at a time, whose process the file names |
| `run.db-lock` | `flock`, which each guard inherits | the next run waits until the commands of a killed run end |
| `run.db`, far beyond its end | write lock | one run at a time, even if the lock file was removed |
| `run.db` and `run.db-shm`, where SQLite locks | read lock | no other program checkpoints and removes the log |

The system releases the locks when the process ends, even if it is killed. A forked child closes them. Programs that the
process starts do not inherit them, except for the guards and their `flock`.

Decided in docs/decisions: 40-journal-locks.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import math
import os
import re
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Final

from .. import _posix as posix
from .._core.base._logger import warn
from .._core.job._errors import JournalError

if sys.platform == "win32":
    import msvcrt

fcntl: Final = posix.fcntl
RELEASE_TIMEOUT: Final = 10.0
LOG_DELAY: Final = 0.5
"""How many seconds to wait for the locks of a killed run, whose guard usually ends in half a second, and after how many
this is logged."""
NAME_TIMEOUT: Final = 0.5
"""The maximum time, in seconds, to wait for the name of a run that has just taken the lock."""
SET_LOCK_COMMAND: Final[int | None] = (
    getattr(fcntl, "F_OFD_SETLK", None) if posix.IS_POSIX else None  # dense: a constant
)
GET_LOCK_COMMAND: Final[int] = getattr(fcntl, "F_OFD_GETLK", fcntl.F_GETLK)
"""The fcntl() commands for locks of open file descriptions. None on systems without them, which use POSIX locks."""
UNLOCKED, READ_LOCK, WRITE_LOCK = range(3)
LOCK_FILE_BYTE: Final = 0 if posix.IS_POSIX else 1 << 30
"""The byte of the lock file to lock. On Windows, it is far beyond the text, because locked bytes cannot be read."""
FLOCK_STRUCT: Final = "hhqqi"
NEW_DATABASE_MODE: Final = 0o644
"""The permissions of a new database, and so of its log. Pickles are loaded only if no other user may write to these."""
WRITER_BYTE: Final = 1 << 62
"""The byte of the database to lock while a run writes. No database is that long, and SQLite locks other bytes."""
SQLITE_READ_LOCK_RANGE: Final = (0x40000002, 510)
"""The bytes (start, length) of an open database that SQLite locks for reading, as its file format defines them."""
# See https://www.sqlite.org/walformat.html.
LOG_IN_USE_BYTE: Final = (128, 1)
"""The byte (start, length) of the `-shm` file that is locked while the log is in use. If a program opens the database
and finds this byte unlocked, it resets the log."""
HOLDER_PATTERN: Final = re.compile("process ([0-9]{1,9}) on (.*), since ")

_own_journals: Final[dict[tuple[int, int], JournalLock]] = {}
"""The locks of the journals that this process writes, by the device and inode of the database."""


class ReleaseWait:
    """A wait until another run has released its locks.

    It times out after `RELEASE_TIMEOUT`, and is logged after `LOG_DELAY`.
    """

    def __init__(self, subject: str, holder: str) -> None:
        now = time.monotonic()
        self._deadline: Final = now + RELEASE_TIMEOUT
        self._log_time = now + LOG_DELAY
        holder = holder or "an unknown process"
        self._text: Final = f"{subject}: waiting up to {RELEASE_TIMEOUT:g} s for another run to release it ({holder})"

    def wait(self) -> bool:
        """Sleep for a moment, and return whether to try again, or False if the timeout has passed."""
        if (now := time.monotonic()) > self._log_time:
            self._log_time = math.inf
            warn(self._text)
        time.sleep(0.01)
        return now <= self._deadline


class JournalLock:
    """The locks that keep a second run out of a journal.

    Args:
        path: the resolved path of the database, which is created if it is missing.
        subject: the name of the journal in error messages.

    Raises:
        JournalError: another run uses the journal.
        JournalError: a file cannot be written, or the file system does not support locks.

    """

    def __init__(self, path: Path, subject: str) -> None:
        self._path: Final = path.with_name(path.name + "-lock")
        self._owner_pid: Final = os.getpid()
        self.process_description: Final = describe_this_process()
        self._descriptors: Final[list[int]] = []
        self._read_locks: Final[list[tuple[int, tuple[int, int]]]] = []
        self._database_id: tuple[int, int] | None = None
        # Opening and closing the file would release the locks of SQLite:
        # https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_.
        if is_own_journal(path):
            raise JournalError(
                f"{subject}: another run in this process ({self._owner_pid}) is using it; "
                f"wait until it ends, or use another path"
            )
        try:
            self._lock_descriptor: Final = self._open_lock_file(subject)
            self._guard_descriptor: Final = self._keep_open(
                posix.open_regular(self._path, os.O_RDWR)
            )
            self.database_descriptor: Final = self._lock_database(path, subject)
            """A descriptor of the database, which must stay open until SQLite has closed the database."""
            status = os.fstat(self.database_descriptor)
            self._database_id = status.st_dev, status.st_ino
            _own_journals[self._database_id] = self
            self._wait_for_guard(subject)
        except BaseException:
            self.close_descriptors()
            raise
        if posix.IS_POSIX:
            # Imported here, because reading a journal does not need it.
            from ..jobs.posix._guard import INHERITED_DESCRIPTORS

            INHERITED_DESCRIPTORS.add(self._guard_descriptor)

    def _open_lock_file(self, subject: str) -> int:
        release_wait = None
        named_by = time.monotonic() + NAME_TIMEOUT
        while True:
            try:
                file = posix.open_regular(self._path, os.O_RDWR | os.O_CREAT)
            except OSError as error:
                advice = "use a path in a writable directory"
                directory = self._path.parent
                if not directory.is_dir():
                    advice = f"create the directory {str(directory)!r} first"
                raise JournalError(
                    f"{subject}: cannot create {self._path.name!r} next to it: {error.strerror}; {advice}"
                ) from error
            try:
                set_lock(file, LOCK_FILE_BYTE, 1)
                if _is_same_file(self._path, file):
                    self._previous_holder = _read_holder(file)
                    self._write_name(file)
                    return self._keep_open(file)
                # The previous holder has just removed the file.
                os.close(file)
            except OSError as error:
                holder = _read_holder(file)
                os.close(file)
                if not holder and _is_taken(error) and time.monotonic() < named_by:
                    time.sleep(0.01)
                    continue
                release_wait = release_wait or ReleaseWait(subject, holder)
                if _is_alive(holder) or not release_wait.wait():
                    raise _lock_error(subject, error, holder) from error

    def _write_name(self, file: int) -> None:
        """Write the name of this process at once: a run that finds the lock taken shows it."""
        name = self.process_description.encode()
        # If the disk is full, lock without writing the name.
        with contextlib.suppress(OSError):
            os.lseek(file, 0, os.SEEK_SET)
            os.write(file, name)
            os.ftruncate(file, len(name))

    def _lock_database(self, path: Path, subject: str) -> int:
        """Open and lock the database, and return its descriptor.

        This lock keeps out a run that uses the database under another name, and so has another lock file.
        """
        try:
            file = self._keep_open(
                posix.open_regular(path, os.O_RDWR | os.O_CREAT, NEW_DATABASE_MODE)
            )
        except PermissionError:
            raise JournalError(
                f"{subject}: the file is read-only; a run must be able to write to it"
            ) from None
        except OSError as error:
            raise JournalError(
                f"{subject}: it cannot be opened: {error.strerror}"
            ) from error
        if SET_LOCK_COMMAND is not None:
            # If it was killed.
            holder = self._previous_holder
            release_wait = ReleaseWait(subject, holder)
            while True:
                try:
                    set_lock(file, WRITER_BYTE, 1)
                    break
                except OSError as error:
                    if _is_alive(holder) or not release_wait.wait():
                        raise _lock_error(subject, error, "") from error
        return file

    def _keep_open(self, descriptor: int) -> int:
        self._descriptors.append(descriptor)
        return descriptor

    def _wait_for_guard(self, subject: str) -> None:
        """Wait until the commands of a killed run have ended. After the timeout, log a warning instead."""
        if not posix.IS_POSIX:
            # Commands need POSIX.
            return
        release_wait = ReleaseWait(subject, "its commands are being killed")
        while True:
            try:
                fcntl.flock(self._guard_descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not release_wait.wait():
                    break
            except OSError:
                # The file system does not support flock().
                return
            else:
                return
        warn(
            f"{subject}: commands of a run that was killed may still be running; the new run starts anyway"
        )

    def release(self) -> None:
        """Release the locks, and remove the lock file. SQLite must have closed the database before."""
        if os.getpid() == self._owner_pid:
            if _is_same_file(self._path, self._lock_descriptor):
                with contextlib.suppress(OSError):
                    os.unlink(self._path)
            # Closing is not enough if a forked child still has the descriptor:
            # https://man7.org/linux/man-pages/man2/fcntl_locking.2.html.
            if SET_LOCK_COMMAND is not None:
                set_lock(self.database_descriptor, WRITER_BYTE, 1, UNLOCKED)
        self.close_descriptors()
        # Windows does not remove a file that a process has open: https://docs.python.org/3/library/os.html#os.remove.
        if not posix.IS_POSIX:
            with contextlib.suppress(OSError):
                os.unlink(self._path)

    def close_descriptors(self) -> None:
        """Close the descriptors. This releases their locks, unless a forked child still has the descriptors, too."""
        if self._database_id is not None:
            _own_journals.pop(self._database_id, None)
            if posix.IS_POSIX:
                from ..jobs.posix._guard import INHERITED_DESCRIPTORS

                INHERITED_DESCRIPTORS.discard(self._guard_descriptor)
        while self._descriptors:
            os.close(self._descriptors.pop())

    def take_read_locks(self, shared_memory: Path) -> None:
        """Add read locks on the bytes that SQLite has locked, because jobs can make the process lose SQLite's locks."""
        if SET_LOCK_COMMAND is not None:
            memory = self._keep_open(posix.open_regular(shared_memory, os.O_RDWR))
            self._read_locks.extend(
                [
                    (self.database_descriptor, SQLITE_READ_LOCK_RANGE),
                    (memory, LOG_IN_USE_BYTE),
                ]
            )
            for file, byte_range in self._read_locks:
                set_lock(file, *byte_range, READ_LOCK)

    def release_read_locks(self) -> None:
        """Release the read locks. SQLite can then checkpoint and remove its log when it closes the database."""
        while self._read_locks:
            file, byte_range = self._read_locks.pop()
            set_lock(file, *byte_range, UNLOCKED)


def _close_in_child() -> None:
    """Close the inherited locks in a forked child: they would keep the journal locked after the parent has ended."""
    for journal_lock in list(_own_journals.values()):
        journal_lock.close_descriptors()


posix.on_fork(_close_in_child)


def set_lock(file: int, start: int, length: int, kind: int = WRITE_LOCK) -> None:
    """Lock or unlock bytes of a file, without waiting.

    Raises:
        OSError: another process or descriptor has locked the bytes, or the file system does not support locks.

    """
    if sys.platform == "win32":
        os.lseek(file, start, os.SEEK_SET)
        msvcrt.locking(
            file, msvcrt.LK_UNLCK if kind == UNLOCKED else msvcrt.LK_NBLCK, length
        )
    elif SET_LOCK_COMMAND is None:
        kinds = fcntl.LOCK_UN, fcntl.LOCK_SH, fcntl.LOCK_EX
        fcntl.lockf(file, kinds[kind] | fcntl.LOCK_NB, length, start)
    else:
        kinds = fcntl.F_UNLCK, fcntl.F_RDLCK, fcntl.F_WRLCK
        fcntl.fcntl(
            file,
            SET_LOCK_COMMAND,
            struct.pack(FLOCK_STRUCT, kinds[kind], os.SEEK_SET, start, length, 0),
        )


def _is_locked(file: int) -> bool:
    """Return whether a lock file is locked through another descriptor, in this process or another."""
    if sys.platform != "win32":
        request = struct.pack(
            FLOCK_STRUCT, fcntl.F_WRLCK, os.SEEK_SET, LOCK_FILE_BYTE, 1, 0
        )
        response = fcntl.fcntl(file, GET_LOCK_COMMAND, request)
        return bool(struct.unpack_from(FLOCK_STRUCT, response)[0] != fcntl.F_UNLCK)
    try:
        set_lock(file, LOCK_FILE_BYTE, 1)
    except OSError:
        return True
    set_lock(file, LOCK_FILE_BYTE, 1, UNLOCKED)
    return False


def read_first_bytes(file: int, size: int) -> bytes:
    os.lseek(file, 0, os.SEEK_SET)
    return os.read(file, size)


def _read_holder(file: int) -> str:
    """Read the description of the holder from a lock file. Return "" if it contains anything else.

    Another user may have written it, for example with escape sequences for the terminal that shows it.
    """
    text = read_first_bytes(file, 1000).decode(errors="replace")
    return text if HOLDER_PATTERN.match(text) and text.isprintable() else ""


def is_own_journal(path: Path) -> bool:
    try:
        status = os.stat(path)
    except OSError:
        return False
    return (status.st_dev, status.st_ino) in _own_journals


def find_holder(path: Path) -> str | None:
    """Return the description of the process that uses a journal, or "" if it is unknown, None if no process uses it."""
    lock_file = path.with_name(path.name + "-lock")
    with (
        contextlib.suppress(OSError),
        os.fdopen(posix.open_regular(lock_file, os.O_RDONLY), "rb") as file,
    ):
        if not _is_locked(file.fileno()):
            return None
        return _read_holder(file.fileno())
    return None


def describe_this_process() -> str:
    """Describe this process, for errors of other runs that need the same journal."""
    now = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    return f"process {os.getpid()} on {socket.gethostname()}, since {now}"


def _is_alive(holder: str) -> bool:
    """Return whether the process named in a lock file is alive, or True if that is unknown.

    The lock of a killed process may outlive it for a moment, until its forked children execute their programs.
    """
    match = HOLDER_PATTERN.match(holder)
    # On Windows, os.kill(pid, 0) would end the process: https://docs.python.org/3/library/os.html#os.kill.
    if sys.platform == "win32" or match is None or match[2] != socket.gethostname():
        return True
    try:
        os.kill(int(match[1]), 0)
        return b") Z " not in Path(f"/proc/{match[1]}/stat").read_bytes()
    except ProcessLookupError:
        return False
    except OSError:
        # The process is another user's, or the system has no /proc.
        return True


def _is_same_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except OSError:
        return False


def _is_taken(error: OSError) -> bool:
    return error.errno in (errno.EACCES, errno.EAGAIN)


def _lock_error(subject: str, error: OSError, holder: str) -> JournalError:
    if _is_taken(error):
        name = holder or "an unknown process"
        return JournalError(
            f"{subject}: another run is using it: {name}; wait until it ends, or use another path"
        )
    return JournalError(
        f"{subject}: its file system cannot lock files ({error.strerror}), so two runs could corrupt it; "
        f"use a path on a local disk"
    )
