"""`NonBlockingWriter`: writes lines to a file, a pipe or a terminal, and never makes the run wait for the reader.

```
put(line) ──► buffer ──► written by the thread of the run, when another 32 KiB are buffered and the reader accepts them
                │   └──► otherwise by the writer's own thread, 50 ms after a line was buffered
                └─ 1 MiB is buffered already: the line is dropped and counted
```

Both threads are needed. The writer's own thread is too slow when the run does little but settle jobs: each system call
releases the GIL, and getting it back takes 5 ms; at 4 KiB per call, that is less than 1 MB/s. The thread of the run
writes only when events happen, so the last lines before a quiet time would stay in the buffer.

The descriptor stays in blocking mode, because that mode is shared: other programs with the same standard output would
find theirs non-blocking, too. A pipe that poll() reports as writable accepts `PIPE_BUF` bytes without blocking, and
writes them in one piece.
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

MAX_WAITING: Final = 1 << 20
"""The number of bytes buffered for a slow reader; further lines are dropped."""
FLUSH_SIZE: Final = 1 << 15
"""The number of buffered bytes after which the thread of the run tries to write."""
DROPS_PER_POLL: Final = 64
"""The number of lines dropped between two polls of the reader; a poll costs as much as a line."""
WRITE_DELAY: Final = 0.05
"""Seconds that the writer's own thread waits for further lines before it writes."""
POLL_INTERVAL: Final = 0.5
"""Seconds between two calls of `poll_jobs`."""
STALL_TIMEOUT: Final = 2.0
"""Seconds for which `close` waits for a reader that accepts nothing."""
CLOSE_TIMEOUT: Final = 10.0
"""Seconds after which `close` gives up even if the reader still accepts lines."""


class NonBlockingWriter:
    """A writer of lines to one file, from the start of a run to its end.

    Args:
        target: a path, a file object, or a descriptor.
        warn: called with a message, and the error if there is one, when lines are lost; not if the reader has gone.
        encode_dropped: returns the line that reports a number of dropped lines.
        poll_jobs: called twice a second in the writer's own thread; returns further lines.
        truncate: whether to truncate a regular file; only if `target` is a path.

    Raises:
        OSError: the path cannot be opened.

    """

    def __init__(
        self,
        target: Any,
        warn: Callable[[str, BaseException | None], None],
        encode_dropped: Callable[[int], bytes],
        poll_jobs: Callable[[], Iterable[bytes]],
        truncate: bool,
    ) -> None:
        self._name: Final = target if isinstance(target, str) else getattr(target, "name", target)
        self._warn: Final = warn
        self._encode_dropped: Final = encode_dropped
        self._poll_jobs: Final = poll_jobs
        self._lines: Final[list[bytes]] = []
        self._unwritten = memoryview(b"")  # bytes taken from `_lines` that are not written yet
        # Totals in bytes. Only the thread of the run changes `_queued`, and only the holder of the lock `_written`.
        self._queued = self._written = 0
        self._next_try = FLUSH_SIZE  # the value of `_queued` at which the thread of the run tries to write
        self._dropped = 0
        self._attempts = 0  # how often the thread of the run has tried to write
        self._partial = 0  # bytes of an incomplete line at the end of a regular file
        self.is_lost = False
        self._lock: Final = threading.Lock()
        self._line_queued: Final = threading.Event()
        self._ended: Final = threading.Event()
        self._target: _Descriptor | _FileObject = _open_target(target, truncate)
        self._thread: Final = threading.Thread(target=self._run_thread, name="trioflow events", daemon=True)
        self._thread.start()

    # ---- in the thread of the run

    def put(self, line: bytes) -> None:
        """Buffer a line, which ends in a newline; drop it if the buffer is full."""
        if self.is_lost:
            return
        waiting = self._queued - self._written
        if waiting + len(line) > MAX_WAITING:
            if self._dropped % DROPS_PER_POLL == 0:
                self._try_write(waiting)
            if self._queued - self._written + len(line) > MAX_WAITING:
                self._dropped += 1
                return
        if self._dropped:
            self._queue_dropped()
        self._queued += len(line)
        self._lines.append(line)
        if self._queued >= self._next_try:
            self._try_write(waiting)
        elif not self._line_queued.is_set():
            self._line_queued.set()

    def close(self, last: bytes = b"") -> None:
        """Write the buffered lines and `last`, and end the thread; give up if the reader accepts nothing for too long.

        `last` is buffered even if the buffer is full, because it reports how the run ended.
        """
        self._ended.set()
        self._line_queued.set()
        self._thread.join()
        if self._dropped:
            self._queue_dropped()
        self._queued += len(last)
        self._lines.append(last)
        began = progress = time.monotonic()
        written = self._written
        while not self._flush() and not self.is_lost:
            now = time.monotonic()
            if self._written > written:
                written, progress = self._written, now
            if now > min(progress + STALL_TIMEOUT, began + CLOSE_TIMEOUT):
                lines = b"".join([self._unwritten, *self._lines]).count(b"\n")
                self._warn(f"the last {lines} events were not written: nobody reads {self._name!r}", None)
                break
            self._target.wait(STALL_TIMEOUT / 10)
        self._target.close()

    def _queue_dropped(self) -> None:
        line, self._dropped = self._encode_dropped(self._dropped), 0
        self._queued += len(line)
        self._lines.append(line)

    def _try_write(self, waiting: int) -> None:
        """Write what the reader accepts; skip this if the other thread writes and the buffer is not half full."""
        if self._lock.acquire(blocking=waiting > MAX_WAITING // 2):
            try:
                self._attempts += 1
                self._write()
            finally:
                self._lock.release()
        self._next_try = self._queued + FLUSH_SIZE

    # ---- in either thread

    def _flush(self) -> bool:
        with self._lock:
            self._write()
            return self._queued == self._written

    def _write(self) -> None:
        """Write as much as the reader accepts now; the caller holds the lock."""
        if self.is_lost:
            return
        try:
            while self._target.is_ready():
                if not self._unwritten:
                    taken = self._lines[:]
                    del self._lines[: len(taken)]  # keep the lines that have arrived since
                    self._unwritten = memoryview(b"".join(taken))
                    if not self._unwritten:
                        return
                piece = self._target.next_piece(self._unwritten)
                size = self._target.write(piece)
                if not size:
                    return
                self._written += size
                self._note_partial(piece[:size])
                self._unwritten = self._unwritten[size:]
        except (OSError, ValueError) as error:
            self._give_up(error)

    def _note_partial(self, written: memoryview) -> None:
        """Update the size of the incomplete line at the end of the file."""
        end = bytes(written).rfind(b"\n")
        self._partial = len(written) - end - 1 if end >= 0 else self._partial + len(written)

    def _give_up(self, error: Exception) -> None:
        """Stop writing after an error: the disk is full, or the reader has gone."""
        self.is_lost = True
        self._lines.clear()
        self._unwritten = memoryview(b"")
        self._target.truncate_line(self._partial)
        if not isinstance(error, BrokenPipeError):
            self._warn(f"events cannot be written to {self._name!r} any more; the run goes on without them", error)

    # ---- the thread

    def _run_thread(self) -> None:
        """Write the buffered lines, and poll the jobs, until the writer is closed."""
        tries, polled = 0, time.monotonic()
        while not self._ended.is_set() and not self.is_lost:
            if self._line_queued.wait(POLL_INTERVAL):
                self._ended.wait(WRITE_DELAY)
            if time.monotonic() >= polled + POLL_INTERVAL:
                polled = time.monotonic()
                self._add_polled(self._poll_jobs())
            self._line_queued.clear()
            if tries != self._attempts:  # the thread of the run is writing, which is faster
                tries = self._attempts
                self._line_queued.set()
            elif not self._flush():
                self._line_queued.set()
                self._target.wait(WRITE_DELAY)

    def _add_polled(self, lines: Iterable[bytes]) -> None:
        """Buffer the lines of `poll_jobs` unless half of the buffer is full."""
        polled = list(lines)
        with self._lock:
            if self._queued - self._written < MAX_WAITING // 2:
                self._written -= sum(map(len, polled))  # not `_queued`, which only the thread of the run changes
                self._lines.extend(polled)


class _Descriptor:
    """A target with a descriptor; a FIFO has none until it has a reader."""

    def __init__(self, descriptor: int | None, path: Any, is_own: bool) -> None:
        self._descriptor = descriptor
        self._path: Final = path
        self._is_own: Final = is_own
        self._poll: Any = posix.poll() if posix.IS_POSIX else None  # without it, writing may block
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
        if self._descriptor is None and not self._open_fifo():
            return False
        return self._is_regular or self._poll is None or bool(self._poll.poll(0))

    def next_piece(self, data: memoryview) -> memoryview:
        """Return the bytes for one write: as many whole lines as fit, or the beginning of a line that is too long."""
        if self._is_regular or self._poll is None or len(data) <= posix.PIPE_BUF:
            return data
        return data[: bytes(data[: posix.PIPE_BUF]).rfind(b"\n") + 1 or posix.PIPE_BUF]

    def write(self, piece: memoryview) -> int:
        """Write bytes, and return how many were written; 0 if the write would block."""
        assert self._descriptor is not None
        try:
            return os.write(self._descriptor, piece)
        except BlockingIOError:
            return 0

    def _open_fifo(self) -> bool:
        """Open the FIFO if it has a reader; only a blocking open could wait for one."""
        try:
            self._begin(os.open(self._path, os.O_WRONLY | posix.O_NONBLOCK))
        except OSError as error:
            if error.errno == errno.ENXIO:  # the FIFO has no reader yet
                return False
            raise
        return True

    def wait(self, seconds: float) -> None:
        """Wait until a write would not block, or until the timeout."""
        if self._descriptor is None or self._poll is None:
            time.sleep(seconds)
        else:
            self._poll.poll(seconds * 1000)

    def truncate_line(self, size: int) -> None:
        """Truncate an incomplete line at the end of a regular file."""
        if size and self._is_regular and self._is_own:
            assert self._descriptor is not None
            os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - size)

    def close(self) -> None:
        """Close the descriptor if this object opened it."""
        if self._is_own and self._descriptor is not None:
            os.close(self._descriptor)


class _FileObject:
    """A target that is a file object without a descriptor; writes never block."""

    def __init__(self, file: Any) -> None:
        self._file: Final = file

    def is_ready(self) -> bool:
        """Return True: writes never block."""
        return True

    def next_piece(self, data: memoryview) -> memoryview:
        """Return all bytes, which end in a newline."""
        return data

    def write(self, piece: memoryview) -> int:
        """Write bytes, decoded if the file accepts only text, and return how many were written."""
        try:
            self._file.write(bytes(piece))
        except TypeError:
            self._file.write(bytes(piece).decode())
        return len(piece)

    def wait(self, seconds: float) -> None:
        """Return at once: writes never block."""

    def truncate_line(self, size: int) -> None:
        """Do nothing: all lines were written whole."""

    def close(self) -> None:
        """Do nothing: the caller closes the file."""


def _open_target(target: Any, truncate: bool) -> _Descriptor | _FileObject:
    """Return the target for a descriptor, a file object or a path."""
    if isinstance(target, int):
        return _Descriptor(target, None, is_own=False)
    if hasattr(target, "write"):
        try:
            descriptor = target.fileno()
        except (AttributeError, OSError):
            return _FileObject(target)
        target.flush()
        return _Descriptor(descriptor, None, is_own=False)
    if os.path.exists(target) and stat.S_ISFIFO(os.stat(target).st_mode):
        return _Descriptor(None, target, is_own=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | posix.O_BINARY | (os.O_TRUNC if truncate else 0)
    return _Descriptor(os.open(target, flags, 0o666), target, is_own=True)
