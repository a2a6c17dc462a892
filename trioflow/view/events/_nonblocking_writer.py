"""`NonBlockingWriter`: writes lines to a file, a pipe or a terminal, and never makes the run wait for the reader.

```
write_line ──► buffer ──► written by the thread of the run, if another 32 KiB are buffered and the reader accepts them
                 │   └──► otherwise written by the writer's own thread, at most 50 ms after a line was buffered
                 └─ 1 MiB is already buffered: the line is dropped and counted
```

Both threads are needed. While the run does little but settle jobs, the writer's own thread is too slow. Each of its
system calls releases the GIL, and reacquiring the GIL takes 5 ms. At 4 KiB per call, it writes less than 1 MB/s. The
thread of the run writes only when events happen, so without the other thread, the last lines before a quiet period
would stay in the buffer.

The descriptor stays in blocking mode, because non-blocking mode would also affect other programs that share the same
standard output. A pipe that poll() reports as writable accepts `PIPE_BUF` bytes without blocking, and writes them
atomically.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from ... import _posix as posix
from ..monitor._records import Ticker

MAX_BUFFERED_BYTES: Final = 1 << 20
"""The maximum number of bytes buffered for a slow reader. Further lines are dropped."""
FLUSH_BYTES: Final = 1 << 15
"""The thread of the run tries to write after this many newly buffered bytes."""
DROPS_PER_POLL: Final = 64
"""The number of lines to drop before polling the reader again, because a poll takes as long as handling a line."""
WRITE_DELAY: Final = 0.05
"""Seconds that the writer's own thread waits for further lines between two writes."""
POLL_INTERVAL: Final = 0.5
STALL_TIMEOUT: Final = 2.0
CLOSE_TIMEOUT: Final = 10.0
"""Seconds until `close` gives up if the reader accepts nothing, and even if it still accepts lines."""


PolledLine = tuple[Callable[[], bool], bytes]
"""Whether what a line says is still so, which is asked as it is written, and the line."""


class NonBlockingWriter:
    """A writer of lines to a file, from the start of a run to its end.

    Args:
        target: a path, or a file object.
        warn: a function that is called with a message when lines are lost, except if the reader has closed the pipe.
        encode_dropped_count: a function that returns the line that reports a number of dropped lines.
        poll_jobs: a function that returns further lines. The writer's own thread calls it twice a second.
        truncate: whether to truncate the file if `target` is the path of a regular file.

    Raises:
        OSError: the path cannot be opened.

    """

    def __init__(
        self,
        target: Any,
        warn: Callable[[str], None],
        encode_dropped_count: Callable[[int], bytes],
        poll_jobs: Callable[[], Iterable[PolledLine]],
        truncate: bool,
    ) -> None:
        # A path has no name.
        self._target_name: Final = getattr(target, "name", target)
        self._warn: Final = warn
        self._encode_dropped_count: Final = encode_dropped_count
        self._poll_jobs: Final = poll_jobs
        self.has_failed = False
        # Why writing has failed, or None if the reader has closed the pipe.
        self.error: Exception | None = None
        # The lock guards the fields below.
        self._lock: Final = threading.Lock()
        self._lines: list[bytes] = []
        # Bytes that were taken from `_lines` but are not written yet.
        self._unwritten_batch = memoryview(b"")
        # The size of an incomplete line at the end of the file.
        self._partial_line_bytes = 0
        self._buffered_bytes = 0
        # The bytes that were buffered since the thread of the run last tried to write.
        self._new_bytes = 0
        self._dropped_line_count = 0
        self._target: Final = _open_target(target, truncate)
        self._last_poll = time.monotonic()
        self._ticker: Final = Ticker(
            self._write_and_poll, WRITE_DELAY, POLL_INTERVAL, "trioflow events"
        )
        self._ticker.start()

    # ---- in the thread of the run

    def write_line(self, line: bytes) -> None:
        """Buffer a line, which must end in a newline. If the buffer is full, drop the line."""
        if self.has_failed:
            # Also if a handler of the log calls this while `_give_up`, with the lock, logs the error.
            return
        with self._lock:
            if self._buffered_bytes + len(line) > MAX_BUFFERED_BYTES:
                if self._dropped_line_count % DROPS_PER_POLL == 0:
                    self._write_accepted_bytes()
                if self._buffered_bytes + len(line) > MAX_BUFFERED_BYTES:
                    self._dropped_line_count += 1
                    return
            self._append(line)
            self._new_bytes += len(line)
            if self._new_bytes >= FLUSH_BYTES:
                self._new_bytes = 0
                self._write_accepted_bytes()
        self._ticker.wake()

    def close(self, last_line: bytes = b"") -> None:
        """End the thread, write the buffered lines and `last_line`, and close the target.

        Give up if the reader accepts nothing for too long. `last_line` is buffered even if the buffer is full, because
        it reports how the run ended.
        """
        self._ticker.stop()
        self._append(last_line)
        start = last_progress = time.monotonic()
        remaining = self._buffered_bytes
        while not self._write_accepted_bytes():
            now = time.monotonic()
            if self._buffered_bytes < remaining:
                remaining = self._buffered_bytes
                last_progress = now
            if now > min(last_progress + STALL_TIMEOUT, start + CLOSE_TIMEOUT):
                lines = b"".join([self._unwritten_batch, *self._lines]).count(b"\n")
                self._warn(
                    f"the last {lines} events were not written: no process reads {self._target_name!r}"
                )
                break
            self._target.wait(STALL_TIMEOUT / 10)
        self._target.close()

    # ---- in either thread, while the caller holds the lock

    def _append(self, line: bytes) -> None:
        """Buffer a line, after a line that reports how many were dropped before it, if any were."""
        if self._dropped_line_count:
            line = self._encode_dropped_count(self._dropped_line_count) + line
            self._dropped_line_count = 0
        if line and not self.has_failed:
            self._lines.append(line)
            self._buffered_bytes += len(line)

    def _write_accepted_bytes(self) -> bool:
        """Write as much as the reader accepts now, and return whether nothing is left to write."""
        try:
            while self._buffered_bytes and self._target.is_writable():
                if not self._unwritten_batch:
                    self._unwritten_batch = memoryview(b"".join(self._lines))
                    self._lines = []
                chunk = self._target.next_chunk(self._unwritten_batch)
                size = self._target.write(chunk)
                if not size:
                    break
                self._buffered_bytes -= size
                self._unwritten_batch = self._unwritten_batch[size:]
                end = bytes(chunk[:size]).rfind(b"\n")
                if end >= 0:
                    self._partial_line_bytes = 0
                self._partial_line_bytes += size - end - 1
        except (OSError, ValueError) as error:
            self._give_up(error)
        return not self._buffered_bytes

    def _give_up(self, error: Exception) -> None:
        """Stop writing after an error, e.g. because the disk is full or the reader has closed the pipe."""
        self.has_failed = True
        self._lines = []
        self._unwritten_batch = memoryview(b"")
        self._buffered_bytes = 0
        self._target.remove_partial_line(self._partial_line_bytes)
        if not isinstance(error, BrokenPipeError):
            self.error = error
            reason = getattr(error, "strerror", None) or error
            self._warn(
                f"events can no longer be written to {self._target_name!r}: {reason}; the run continues without them"
            )

    # ---- in the writer's own thread

    def _write_and_poll(self) -> None:
        """Write the buffered lines, and poll the jobs."""
        if self.has_failed:
            return
        polled_lines: list[PolledLine] = []
        if time.monotonic() >= self._last_poll + POLL_INTERVAL:
            self._last_poll = time.monotonic()
            polled_lines = list(self._poll_jobs())
        with self._lock:
            if self._buffered_bytes < MAX_BUFFERED_BYTES // 2:
                for is_so, line in polled_lines:
                    # The line of what has ended it may be buffered.
                    if is_so():
                        self._append(line)
            is_done = self._write_accepted_bytes()
        if not is_done:
            self._ticker.wake()
            self._target.wait(WRITE_DELAY)


class _DescriptorTarget:
    """A target that is written through a file descriptor. A FIFO is not opened until it has a reader."""

    def __init__(self, descriptor: int | None, path: Any) -> None:
        self._descriptor = descriptor
        self._path: Final = path  # None unless this object opens the file
        # Whether it is a regular file, or no file of the system at all.
        self._never_blocks = False
        if descriptor is not None:
            self._use_descriptor(descriptor)

    def _use_descriptor(self, descriptor: int) -> None:
        self._descriptor = descriptor
        # If the system has no poll(), writing may block.
        mode = os.fstat(descriptor).st_mode
        self._never_blocks = not posix.IS_POSIX or stat.S_ISREG(mode)

    def is_writable(self) -> bool:
        """Return whether a write would not block now."""
        if self._never_blocks:
            return True
        if self._descriptor is None:
            self._open_fifo()
        return self._descriptor is not None and posix.is_ready(
            self._descriptor, posix.POLLOUT
        )

    def next_chunk(self, data: memoryview) -> memoryview:
        """Return the bytes for a call of `write`: as many whole lines as fit, or the beginning of a longer line."""
        if self._never_blocks or len(data) <= posix.PIPE_BUF:
            return data
        end = bytes(data[: posix.PIPE_BUF]).rfind(b"\n") + 1
        return data[: end or posix.PIPE_BUF]

    def write(self, chunk: memoryview) -> int:
        """Write bytes, and return how many were written. If writing would block, return 0."""
        assert self._descriptor is not None
        try:
            return os.write(self._descriptor, chunk)
        except BlockingIOError:
            return 0

    def _open_fifo(self) -> None:
        """Open the FIFO if it has a reader, without waiting for a reader."""
        try:
            self._use_descriptor(os.open(self._path, os.O_WRONLY | posix.O_NONBLOCK))
        except OSError as error:
            # The FIFO may have no reader yet.
            if error.errno != errno.ENXIO:
                raise

    def wait(self, seconds: float) -> None:
        """Wait up to `seconds` for the target to become writable."""
        if self._descriptor is None or self._never_blocks:
            time.sleep(seconds)
        else:
            posix.is_ready(self._descriptor, posix.POLLOUT, seconds)

    def remove_partial_line(self, size: int) -> None:
        """Remove an incomplete line of `size` bytes from the end of a regular file that this object opened."""
        if size and self._never_blocks and self._path is not None:
            assert self._descriptor is not None
            os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - size)

    def close(self) -> None:
        """Close the descriptor if this object opened it."""
        if self._path is not None and self._descriptor is not None:
            os.close(self._descriptor)


class _FileObjectTarget(_DescriptorTarget):
    """A target that is a file object without a file descriptor. Writing to it never blocks."""

    def __init__(self, file: Any) -> None:
        super().__init__(None, None)
        self._file: Final = file
        self._never_blocks = True

    def write(self, chunk: memoryview) -> int:
        """Write bytes, decoded if the file accepts only text, and return how many it took: a raw stream takes some."""
        try:
            size = self._file.write(bytes(chunk))
        except TypeError:
            self._file.write(bytes(chunk).decode())
            return len(chunk)
        if isinstance(self._file, io.RawIOBase):
            return size or 0
        return len(chunk)


def _open_target(target: Any, truncate: bool) -> _DescriptorTarget:
    if hasattr(target, "write"):
        try:
            descriptor = target.fileno()
        except (AttributeError, OSError):
            return _FileObjectTarget(target)
        target.flush()
        return _DescriptorTarget(descriptor, None)
    if os.path.exists(target) and stat.S_ISFIFO(os.stat(target).st_mode):
        return _DescriptorTarget(None, target)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | posix.O_BINARY
    if truncate:
        flags |= os.O_TRUNC
    return _DescriptorTarget(os.open(target, flags, 0o666), target)
