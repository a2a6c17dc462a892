"""`NonBlockingWriter`: lines on their way to a file, a pipe or a terminal. It never lets the run wait for a reader.

```
put(line) ──► waiting lines ──► written by the run itself, whenever 32 KiB are waiting and the other end takes them
                   │      └───► otherwise by a thread, 50 ms after a line has come
                   └─ 1 MiB is waiting already: the line is dropped and counted
```

Why both? A thread alone is too slow for a run that does nothing but settle jobs: each system call gives up the
interpreter's lock, and it takes 5 ms to get that back; 4 KiB at a time, that is less than 1 MB/s. The run alone would
leave the last lines waiting whenever nothing happens.

Why is the descriptor not made non-blocking? A standard output is shared with other programs, which would find theirs
non-blocking too. A pipe that poll() calls writable takes `PIPE_BUF` bytes without blocking, and takes them whole.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from ... import _posix as posix

LIMIT: Final = 1 << 20
"""Bytes that may wait for a slow reader."""
PIECE: Final = 1 << 15
BETWEEN_TRIES: Final = 64
"""Lines dropped between two polls of the reader: a poll costs as much as a line."""
INTERVAL: Final = 0.05
BETWEEN_LOOKS: Final = 0.5
"""Seconds between two polls of jobs that change without an event."""
GRACE: Final = 2.0
"""Seconds without any progress after which the last lines are given up, at the end of a run."""
LONGEST_END: Final = 10.0
"""Seconds after which the last lines are given up even if a slow reader still takes some."""


class NonBlockingWriter:
    """One file that lines are written to, from the start of a run to its end.

    Args:
        target: a path, a file object, or a descriptor.
        warn: called with a sentence, and the error if there is one, when lines are lost for another reason than a
            reader that is gone.
        dropped: makes the line that says how many were dropped.
        look: called now and then, in the thread; it returns more lines.
        anew: whether a path that names a regular file is emptied.

    Raises:
        OSError: the path cannot be opened.

    """

    def __init__(
        self,
        target: Any,
        warn: Callable[[str, BaseException | None], None],
        dropped: Callable[[int], bytes],
        look: Callable[[], Iterable[bytes]],
        anew: bool,
    ) -> None:
        self._name: Final = target if isinstance(target, str) else getattr(target, "name", target)
        self._warn: Final = warn
        self._dropped_line: Final = dropped
        self._look: Final = look
        self._lines: Final[list[bytes]] = []
        self._rest = memoryview(b"")  # what was taken from the lines, and is not written yet: whole lines at first
        self._put = self._out = 0  # bytes; each has one writer: the run, and the holder of the lock
        self._next_try = PIECE
        self._dropped = 0
        self._tries = 0
        self._partial = 0  # bytes of an incomplete line at the end of a regular file
        self.is_lost = False
        self._lock: Final = threading.Lock()
        self._happened: Final = threading.Event()
        self._ended: Final = threading.Event()
        self._to: _Descriptor | _Object = _open_target(target, anew)
        self._thread: Final = threading.Thread(target=self._work, name="trioflow events", daemon=True)
        self._thread.start()

    # ---- in the thread of the run

    def put(self, line: bytes) -> None:
        """Queue a line, which ends in a newline."""
        if self.is_lost:
            return
        waiting = self._put - self._out
        if waiting + len(line) > LIMIT:
            if self._dropped % BETWEEN_TRIES == 0:
                self._try(waiting)
            if self._put - self._out + len(line) > LIMIT:
                self._dropped += 1
                return
        if self._dropped:
            self._tell_dropped()
        self._put += len(line)
        self._lines.append(line)
        if self._put >= self._next_try:
            self._try(waiting)
        elif not self._happened.is_set():
            self._happened.set()

    def close(self, last: bytes = b"") -> None:
        """Write the last lines, and end the thread; give up after a timeout if there is no reader.

        The very last line is never dropped: it says how the run ended.
        """
        self._ended.set()
        self._happened.set()
        self._thread.join()
        if self._dropped:
            self._tell_dropped()
        self._put += len(last)
        self._lines.append(last)
        began = progress = time.monotonic()
        out = self._out
        while not self._flush() and not self.is_lost:
            now = time.monotonic()
            if self._out > out:
                out, progress = self._out, now
            if now > min(progress + GRACE, began + LONGEST_END):
                lines = b"".join([self._rest, *self._lines]).count(b"\n")
                self._warn(f"the last {lines} events were not written: nobody reads {self._name!r}", None)
                break
            self._to.wait(GRACE / 10)
        self._to.close()

    def _tell_dropped(self) -> None:
        line, self._dropped = self._dropped_line(self._dropped), 0
        self._put += len(line)
        self._lines.append(line)

    def _try(self, waiting: int) -> None:
        """Write without blocking; leave it to the thread if that is writing and little is waiting."""
        if self._lock.acquire(blocking=waiting > LIMIT // 2):
            try:
                self._tries += 1
                self._write()
            finally:
                self._lock.release()
        self._next_try = self._put + PIECE

    # ---- in either thread

    def _flush(self) -> bool:
        with self._lock:
            self._write()
            return self._put == self._out

    def _write(self) -> None:
        """Write as much as the other end takes now; the caller holds the lock."""
        if self.is_lost:
            return
        try:
            while self._to.is_ready():
                if not self._rest:
                    taken = self._lines[:]
                    del self._lines[: len(taken)]  # keep the lines that have arrived since
                    self._rest = memoryview(b"".join(taken))
                    if not self._rest:
                        return
                piece = self._to.piece(self._rest)
                size = self._to.write(piece)
                if not size:
                    return
                self._out += size
                self._note_partial(piece[:size])
                self._rest = self._rest[size:]
        except (OSError, ValueError) as error:
            self._lose(error)

    def _note_partial(self, written: memoryview) -> None:
        end = bytes(written).rfind(b"\n")
        self._partial = len(written) - end - 1 if end >= 0 else self._partial + len(written)

    def _lose(self, error: Exception) -> None:
        """Stop writing: the disk is full, or the reader is gone."""
        self.is_lost = True
        self._lines.clear()
        self._rest = memoryview(b"")
        self._to.cut(self._partial)
        if not isinstance(error, BrokenPipeError):
            self._warn(f"events cannot be written to {self._name!r} any more; the run goes on without them", error)

    # ---- the thread

    def _work(self) -> None:
        tries, looked = 0, time.monotonic()
        while not self._ended.is_set() and not self.is_lost:
            if self._happened.wait(BETWEEN_LOOKS):
                self._ended.wait(INTERVAL)
            if time.monotonic() >= looked + BETWEEN_LOOKS:
                looked = time.monotonic()
                self._add(self._look())
            self._happened.clear()
            if tries != self._tries:  # the run is writing itself, which is faster
                tries = self._tries
                self._happened.set()
            elif not self._flush():
                self._happened.set()
                self._to.wait(INTERVAL)

    def _add(self, lines: Iterable[bytes]) -> None:
        found = list(lines)
        with self._lock:
            if self._put - self._out < LIMIT // 2:
                self._out -= sum(map(len, found))  # leave `_put` alone: only the run writes it
                self._lines.extend(found)


class _Descriptor:
    """A descriptor, possibly of a FIFO without a reader yet."""

    def __init__(self, descriptor: int | None, path: Any, is_own: bool) -> None:
        self._descriptor = descriptor
        self._path: Final = path
        self._is_own: Final = is_own
        self._poll: Any = posix.poll() if posix.IS_THERE else None  # without it, writing may block
        self._is_regular = False
        if descriptor is not None:
            self._begin(descriptor)

    def _begin(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._is_regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        if self._poll is not None:
            self._poll.register(descriptor, posix.POLLOUT)

    def is_ready(self) -> bool:
        """Return whether a write would not block now."""
        if self._descriptor is None and not self._opens():
            return False
        return self._is_regular or self._poll is None or bool(self._poll.poll(0))

    def piece(self, data: memoryview) -> memoryview:
        """Return the bytes to write at once: whole lines, or a part of a line that is too long."""
        if self._is_regular or self._poll is None or len(data) <= posix.PIPE_BUF:
            return data
        return data[: bytes(data[: posix.PIPE_BUF]).rfind(b"\n") + 1 or posix.PIPE_BUF]

    def write(self, piece: memoryview) -> int:
        """Write, and return the number of bytes written; 0 if it would block."""
        assert self._descriptor is not None
        try:
            return os.write(self._descriptor, piece)
        except BlockingIOError:
            return 0

    def _opens(self) -> bool:
        """Try to open a FIFO: the kernel has no notification for its first reader except a blocking open."""
        try:
            self._begin(os.open(self._path, os.O_WRONLY | posix.O_NONBLOCK))
        except OSError as error:
            if error.errno == errno.ENXIO:  # it has no reader yet
                return False
            raise
        return True

    def wait(self, seconds: float) -> None:
        """Wait until a write would not block, or until the timeout."""
        if self._descriptor is None or self._poll is None:
            time.sleep(seconds)
        else:
            self._poll.poll(seconds * 1000)

    def cut(self, size: int) -> None:
        """Truncate an incomplete line at the end of a regular file."""
        if size and self._is_regular and self._is_own:
            assert self._descriptor is not None
            os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - size)

    def close(self) -> None:
        """Close the descriptor if this object opened it."""
        if self._is_own and self._descriptor is not None:
            os.close(self._descriptor)


class _Object:
    """A file object without a descriptor; writes never block."""

    def __init__(self, file: Any) -> None:
        self._file: Final = file

    def is_ready(self) -> bool:
        """Return True."""
        return True

    def piece(self, data: memoryview) -> memoryview:
        """Return all bytes: they end in a newline."""
        return data

    def write(self, piece: memoryview) -> int:
        """Write bytes, or text to a file that takes no bytes."""
        try:
            self._file.write(bytes(piece))
        except TypeError:
            self._file.write(bytes(piece).decode())
        return len(piece)

    def wait(self, seconds: float) -> None:
        """Return at once: writes never block."""

    def cut(self, size: int) -> None:
        """Do nothing: there is no incomplete line."""

    def close(self) -> None:
        """Do nothing: the file is the caller's."""


def _open_target(target: Any, anew: bool) -> _Descriptor | _Object:
    if isinstance(target, int):
        return _Descriptor(target, None, is_own=False)
    if hasattr(target, "write"):
        try:
            descriptor = target.fileno()
        except (AttributeError, OSError):
            return _Object(target)
        target.flush()
        return _Descriptor(descriptor, None, is_own=False)
    if os.path.exists(target) and stat.S_ISFIFO(os.stat(target).st_mode):
        return _Descriptor(None, target, is_own=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | posix.BINARY | (os.O_TRUNC if anew else 0)
    return _Descriptor(os.open(target, flags, 0o666), target, is_own=True)
