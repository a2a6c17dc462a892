"""The locks of a journal, which survive accidents inside the process.

A record lock of POSIX, such as those of SQLite, belongs to a process and a file: it vanishes when the process closes
any descriptor of this file, as a job does that copies the directory. Locks of an open file description do not. So:

| on | lock | for |
|---|---|---|
| `run.db-lock` | for writing | one run at a time; the file names the process |
| `run.db-lock` | `flock`, which each guard inherits | the next run waits for the commands of a killed one to end |
| `run.db`, far behind its end | for writing | one run at a time, though the lock file was removed |
| `run.db` and `run.db-shm`, where SQLite locks | for reading | no other program checkpoints and removes the log |

The system releases the locks at the end of the process, whatever ends it. A forked child closes them, and a program
that the process starts never has them.
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
from .._core.api.journals import JournalError, warn

if sys.platform == "win32":
    import msvcrt

GUARD_PATIENCE: Final = 10.0
"""Seconds to wait for the guard of a killed run; it takes a few tenths."""
LOG_AFTER: Final = 0.5
"""Seconds before a wait for another run is logged."""
SET_LOCK: Final[int | None] = getattr(posix.fcntl, "F_OFD_SETLK", None) if posix.IS_POSIX else None
GET_LOCK: Final[int | None] = getattr(posix.fcntl, "F_OFD_GETLK", None) if posix.IS_POSIX else None
"""Not every system has locks of open file descriptions; without them, the locks are those of POSIX, or of Windows."""
FREE, READ, WRITE = range(3)
"""Kinds of locks."""
LOCK_BYTE: Final = 0 if posix.IS_POSIX else 1 << 30
"""The byte of the lock file that is locked. On Windows locked bytes cannot be read, so it lies behind the name."""
FLOCK_STRUCT: Final = "hhqqi"
"""`struct flock`: kind, whence, start, length, process."""
WRITER_BYTE: Final = 1 << 62
"""The byte of the database that the writing run locks: no file is that long, and SQLite locks other bytes."""
READ_LOCK: Final = (0x40000002, 510)
"""The bytes of a database that SQLite has locked for reading while it is open: start and length (its file format)."""
LOG_IN_USE_BYTE: Final = (128, 1)
"""The byte of `-shm` that is locked while the log is in use; a program that finds it free recreates the file."""

_own: Final[dict[tuple[int, int], Lock]] = {}
"""The journals that this process writes, by device and inode."""


class Patience:
    """A wait for another run's locks, `GUARD_PATIENCE` seconds at most; logged after `SILENCE` seconds."""

    def __init__(self, subject: str, holder: str) -> None:
        now = time.monotonic()
        self._ends: Final = now + GUARD_PATIENCE
        self._speaks = now + LOG_AFTER
        holder = holder or "it has left no name"
        self._text: Final = f"{subject}: waits for another run to leave it, {GUARD_PATIENCE:g} s at most ({holder})"

    def wait(self) -> bool:
        """Sleep for a moment; return False if the time is over."""
        now = time.monotonic()
        if now > self._speaks:
            self._speaks = math.inf
            warn(self._text)
        time.sleep(0.01)
        return now <= self._ends


class Lock:
    """The locks that keep a second run out of a journal.

    Args:
        path: the resolved path of the database, which is created if it is missing.
        subject: the journal, for errors.

    Raises:
        JournalError: another run has it, the file cannot be written, or the file system has no locks.

    """

    def __init__(self, path: Path, subject: str) -> None:
        self._path: Final = path.with_name(path.name + "-lock")
        self._process: Final = os.getpid()
        self.name: Final = this_process()
        """This process, as named in the lock file and in the record of the run."""
        self._descriptors: Final[list[int]] = []
        self._shielded: Final[list[tuple[int, tuple[int, int]]]] = []
        self._identity: tuple[int, int] | None = None
        if is_own(path):  # do not even open it: closing it would drop the locks of SQLite
            raise JournalError(
                f"{subject}: another run of this process ({self._process}) uses it; "
                f"wait for that one, or take another path"
            )
        try:
            self._file: Final = self._acquire(subject)
            self._for_guards: Final = self._keep(os.open(self._path, os.O_RDWR))
            self.database: Final = self._lock_database(path, subject)
            """A descriptor of the database. It stays open until SQLite has closed its own."""
            status = os.fstat(self.database)
            self._identity = status.st_dev, status.st_ino
            _own[self._identity] = self
            self._wait_for_guard(subject)
        except BaseException:
            self.close_descriptors()
            raise
        if posix.IS_POSIX:
            from ..jobs.posix._guard import INHERITED_DESCRIPTORS  # late: reading a journal needs no processes

            INHERITED_DESCRIPTORS.add(self._for_guards)
        with contextlib.suppress(OSError):  # on a full disk: the lock holds without a name, too
            os.ftruncate(self._file, 0)
            os.lseek(self._file, 0, os.SEEK_SET)
            os.write(self._file, self.name.encode())

    def _acquire(self, subject: str) -> int:
        """Open and lock the lock file; return its descriptor."""
        patience = None
        while True:
            try:
                file = os.open(self._path, os.O_RDWR | os.O_CREAT | posix.O_BINARY, 0o666)
            except OSError as error:
                raise JournalError(
                    f"{subject}: cannot make {self._path.name!r} beside it: {error.strerror}; "
                    f"take a path in a directory that can be written"
                ) from error
            try:
                lock(file, LOCK_BYTE, 1)
                if _is_file(self._path, file):
                    return self._keep(file)
                os.close(file)  # the last holder has just removed it
            except OSError as error:
                holder = _holder_in(file)
                os.close(file)
                patience = patience or Patience(subject, holder)
                if _is_alive(holder) or not patience.wait():
                    raise _lock_error(subject, error, holder) from error

    def _lock_database(self, path: Path, subject: str) -> int:
        """Return a descriptor of the database, locked against runs that use the file by another name."""
        try:
            file = self._keep(os.open(path, os.O_RDWR | os.O_CREAT | posix.O_BINARY, 0o666))
        except PermissionError:
            raise JournalError(f"{subject}: the file is read-only; a run has to write into it") from None
        except OSError as error:
            raise JournalError(f"{subject}: it cannot be opened: {error.strerror}") from error
        if SET_LOCK is not None:
            holder = _holder_in(self._file)  # the last holder, if that was killed
            patience = Patience(subject, holder)
            while True:
                try:
                    lock(file, WRITER_BYTE, 1)
                    break
                except OSError as error:
                    if _is_alive(holder) or not patience.wait():
                        raise _lock_error(subject, error, "") from error
        return file

    def _keep(self, descriptor: int) -> int:
        self._descriptors.append(descriptor)
        return descriptor

    def _wait_for_guard(self, subject: str) -> None:
        """Wait until the commands of a killed run have ended."""
        if not posix.IS_POSIX:
            return  # no run has commands here
        patience = Patience(subject, "its commands are being ended")
        while True:
            try:
                posix.fcntl.flock(self._for_guards, posix.fcntl.LOCK_EX | posix.fcntl.LOCK_NB)
            except BlockingIOError:
                if not patience.wait():
                    break
            except OSError:
                return  # the file system has no such locks
            else:
                return
        warn(f"{subject}: commands of a run that was killed may still be running; the new run starts all the same")

    def release(self) -> None:
        """Release the locks, and remove the lock file. SQLite must have closed the database before."""
        if os.getpid() == self._process:
            if _is_file(self._path, self._file):
                with contextlib.suppress(OSError):
                    os.unlink(self._path)
            if SET_LOCK is not None:  # a forked child may not have closed its descriptor yet
                lock(self.database, WRITER_BYTE, 1, FREE)
        self.close_descriptors()
        if not posix.IS_POSIX:  # an open file cannot be removed there, so this removes none that another run has
            with contextlib.suppress(OSError):
                os.unlink(self._path)

    def close_descriptors(self) -> None:
        """Close the descriptors, and with them the locks, in this process."""
        if self._identity is not None:
            _own.pop(self._identity, None)
            if posix.IS_POSIX:
                from ..jobs.posix._guard import INHERITED_DESCRIPTORS

                INHERITED_DESCRIPTORS.discard(self._for_guards)
        while self._descriptors:
            os.close(self._descriptors.pop())

    def shield(self, shared_memory: Path) -> None:
        """Lock for reading the bytes that SQLite has locked; see the top of this file."""
        if SET_LOCK is not None:
            memory = self._keep(os.open(shared_memory, os.O_RDWR))
            self._shielded.extend([(self.database, READ_LOCK), (memory, LOG_IN_USE_BYTE)])
            for file, place in self._shielded:
                lock(file, *place, READ)

    def lift_shield(self) -> None:
        """Release the read locks, so that SQLite checkpoints and removes its log when it closes the database."""
        while self._shielded:
            file, place = self._shielded.pop()
            lock(file, *place, FREE)


def _close_in_child() -> None:
    """Close the locks in a forked child, which would keep the journal locked after this process has ended."""
    for held in list(_own.values()):
        held.close_descriptors()


posix.on_fork(_close_in_child)


def lock(file: int, start: int, length: int, kind: int = WRITE) -> None:
    """Lock, or unlock, bytes of a file, without waiting.

    Raises:
        OSError: another process or descriptor has locked them, or the file system has no locks.

    """
    if sys.platform == "win32":
        os.lseek(file, start, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_UNLCK if kind == FREE else msvcrt.LK_NBLCK, length)
    elif SET_LOCK is None:
        kinds = posix.fcntl.LOCK_UN, posix.fcntl.LOCK_SH, posix.fcntl.LOCK_EX
        posix.fcntl.lockf(file, kinds[kind] | posix.fcntl.LOCK_NB, length, start)
    else:
        kinds = posix.fcntl.F_UNLCK, posix.fcntl.F_RDLCK, posix.fcntl.F_WRLCK
        posix.fcntl.fcntl(file, SET_LOCK, struct.pack(FLOCK_STRUCT, kinds[kind], os.SEEK_SET, start, length, 0))


def _is_locked(file: int) -> bool:
    """Return whether another process, or another descriptor of this one, has locked a lock file."""
    if sys.platform != "win32":
        asked = struct.pack(FLOCK_STRUCT, posix.fcntl.F_WRLCK, os.SEEK_SET, LOCK_BYTE, 1, 0)
        answer = posix.fcntl.fcntl(file, posix.fcntl.F_GETLK if GET_LOCK is None else GET_LOCK, asked)
        return bool(struct.unpack_from(FLOCK_STRUCT, answer)[0] != posix.fcntl.F_UNLCK)
    try:
        lock(file, LOCK_BYTE, 1)
    except OSError:
        return True
    lock(file, LOCK_BYTE, 1, FREE)
    return False


def read_start(file: int, size: int) -> bytes:
    """Return the first bytes of a file."""
    os.lseek(file, 0, os.SEEK_SET)
    return os.read(file, size)


def _holder_in(file: int) -> str:
    """Return the name of the holder in a lock file."""
    return read_start(file, 1000).decode(errors="replace")


def is_own(path: Path) -> bool:
    """Return whether this process writes a journal."""
    try:
        status = os.stat(path)
    except OSError:
        return False
    return (status.st_dev, status.st_ino) in _own


def holder(path: Path) -> str | None:
    """Return the process that uses a journal now; "" if it left no name, None if there is none."""
    try:
        file = os.open(path.with_name(path.name + "-lock"), os.O_RDONLY | posix.O_BINARY)
    except OSError:
        return None
    try:
        try:
            return _holder_in(file) if _is_locked(file) else None
        except OSError:
            return None
    finally:
        os.close(file)


def this_process() -> str:
    """Describe this process, for runs that want the same journal."""
    now = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    return f"process {os.getpid()} on {socket.gethostname()}, since {now}"


def _is_alive(holder: str) -> bool:
    """Return whether the process named in a lock file is alive; True if that cannot be found out.

    If the process was killed, a forked child that has not yet executed its program holds the locks for a moment longer.
    """
    match = re.match(r"process (\d+) on (.*), since ", holder)
    if sys.platform == "win32" or match is None or match[2] != socket.gethostname():
        return True  # os.kill(pid, 0) would end it on Windows
    try:
        os.kill(int(match[1]), 0)
        return b") Z " not in Path(f"/proc/{match[1]}/stat").read_bytes()
    except ProcessLookupError:
        return False
    except OSError:  # another user's process, or a system without /proc
        return True


def _is_file(path: Path, descriptor: int) -> bool:
    """Return whether the path names the open file."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except OSError:
        return False


def _lock_error(subject: str, error: OSError, holder: str) -> JournalError:
    if error.errno in (errno.EACCES, errno.EAGAIN):
        name = holder or "it has left no name"
        return JournalError(f"{subject}: another run uses it: {name}; wait for that one, or take another path")
    return JournalError(
        f"{subject}: its file system cannot lock files ({error.strerror}), so two runs could spoil it; "
        f"take a path on a local disk"
    )
