"""`OutputBuffer`: collects printed lines, which appear above a monitor's picture at its next update, or in its log.

Redrawing the picture for each printed line would take longer than printing the line. The buffer is bounded: once it has
more than `MAX_BUFFERED_CHARACTERS` characters, all lines are written immediately.

A printed line may need three locks. A thread that holds a lock takes only the locks below it, so there is no deadlock:

| lock of         | held while                              | by                                                   |
|-----------------|-----------------------------------------|------------------------------------------------------|
| the display     | a picture is drawn or a prompt is shown | its ticker, a thread that prints to a full buffer    |
| the `FdCapture` | a pipe is read                          | the thread that reads the pipes, threads that print  |
| the buffer      | lines are added                         | all of these, but not to take the lines              |

`BufferedStream`s replace `sys.stdout` and `sys.stderr`. They also replace these streams in `logging` handlers, because
a handler keeps the stream that it was created with. If `has_picture` of a stream is true, command jobs print the output
of their processes to that stream line by line. An `FdCapture` captures output that bypasses the streams because it
is written to a file descriptor, as child processes do:

```
print ─────────────────────────────────────────────────┐
child processes ──► descriptors 1 and 2: one pipe ──┐  ├──► OutputBuffer ──► terminal
workers of ProcessJobs ──► a pipe for each ─────────┴──┘  a thread reads
```

A thread reads the pipes, so a child process can write while its job blocks the event loop. Descriptors 1 and 2 share a
pipe, to keep the order of their output. To keep the order of this output and of printed lines, the pipe is read before
`print` adds a line. When the picture ends, descriptors 1 and 2 refer to the terminal again. As long as a process has a
pipe open, the thread continues to read it, and copies the output to the terminal.

No other process has the read end of a pipe, because a fork closes it. So if this program is killed, its children get
EPIPE when they write.
"""

from __future__ import annotations

import codecs
import contextlib
import functools
import io
import itertools
import logging
import os
import selectors
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, TextIO, cast

from ... import _posix as posix
from ..._core.base._logger import voice
from ..._core.base._states import JobState
from ..._core.job._job import AnyJob
from ..._core.run._current import current_job
from ..._core.words import _job_queries
from .._print_ends import keep_end

MAX_BUFFERED_CHARACTERS: Final = 1 << 16
MAX_PARTIAL_LINE_CHARACTERS: Final = 1 << 16
"""The maximum number of characters of an incomplete line. A longer line counts as complete."""


class StreamProxy(io.TextIOBase):
    """A proxy for a text stream. Attributes that `io.TextIOBase` lacks are looked up in the real stream."""

    def __init__(self, real_stream: TextIO) -> None:
        self._real_stream: Final = real_stream

    def isatty(self) -> bool:
        return self._real_stream.isatty()

    def fileno(self) -> int:
        return self._real_stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._real_stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """The error handler of the real stream's encoding."""
        return self._real_stream.errors

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real_stream, name)


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether a stream is a terminal where no monitor is drawing."""
    if stream is None or isinstance(stream, StreamProxy):
        return False
    with contextlib.suppress(Exception):
        # Raised if the stream is closed, or is not a stream.
        return bool(stream.isatty())
    return False


class InputProxy(StreamProxy):
    """A proxy for standard input that hides the picture while `input()`, `pdb` or other code reads from it.

    While the proxy is installed, descriptor 1 is a pipe, not the terminal. So `input()` calls the methods of
    `sys.stdin`, but offers neither history nor completion.
    """

    def __init__(
        self, pause: Callable[[], AbstractContextManager[None]], real_stream: TextIO
    ) -> None:
        """Create a proxy for `real_stream`. `pause()` returns a context manager that hides the picture."""
        super().__init__(real_stream)
        self._pause: Final = pause
        self._should_hide_picture = True

    def restore(self) -> None:
        """Restore the real stream, unless other code has replaced this proxy."""
        self._should_hide_picture = False
        if sys.stdin is self:
            sys.stdin = self._real_stream

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        """Read a line. If `size` is not negative, read at most `size` characters of the line."""
        return self._read(lambda: self._real_stream.readline(size))

    def read(self, size: int | None = -1, /) -> str:
        """Read until the end of the file. If `size` is neither negative nor None, read at most `size` characters."""
        return self._read(lambda: self._real_stream.read(-1 if size is None else size))

    def _read(self, read: Callable[[], str]) -> str:
        if not self._should_hide_picture:
            return read()
        with self._pause():
            return read()

    def readable(self) -> bool:
        """Return True, because the stream is for input."""
        return True


def replace_input(
    pause: Callable[[], AbstractContextManager[None]],
) -> InputProxy | None:
    """Replace `sys.stdin` with a proxy, and return the proxy. If `sys.stdin` is not a terminal, return None instead."""
    if not is_terminal(sys.stdin):
        return None
    replacement = InputProxy(pause, sys.stdin)
    sys.stdin = replacement
    return replacement


class OutputBuffer:
    """A buffer of the lines that will be written above a picture, or to the tagged stream of a log.

    Args:
        wake: a function that is called when lines have been added.
        write_out: a function that is called when the buffer is full. It must write all lines.
        get_tag: a function that returns the tag before each line of a job, or None for no tags.

    """

    def __init__(
        self,
        wake: Callable[[], None],
        write_out: Callable[[], None],
        get_tag: Callable[[AnyJob], str] | None = None,
    ) -> None:
        self._wake: Final = wake
        self._write_out: Final = write_out
        self._get_tag: Final = get_tag
        # The lock is reentrant, because a signal handler may print while its thread holds the lock.
        self._lock: Final = threading.RLock()
        self._lines: Final[list[str]] = []
        self._character_count = 0
        # By job and thread id.
        self._partial_lines: Final[dict[tuple[AnyJob | None, int], str]] = {}
        self._replaced_streams: list[tuple[str, TextIO, BufferedStream]] = []
        # The process that draws. Its forks have no drawing thread.
        self._owner_pid: int | None = None
        self.fd_capture: FdCapture | None = None
        self.before_print: Callable[[], None] = lambda: None
        """A function that is called before `write` adds lines. It adds the earlier output of other processes."""

    @property
    def has_picture(self) -> bool:
        """Whether there is a picture above which lines are written."""
        return self._owner_pid == os.getpid()

    # ---- lines

    def write(self, text: str) -> None:
        """Append `text` to the current job's incomplete line in this thread. Buffer the lines that are now complete."""
        self.before_print()
        job = _find_current_job()
        key = job, threading.get_ident()
        with self._lock:
            # Raises if `text` is bytes.
            lines, partial = split_lines(self._partial_lines.get(key, "") + text)
            self._partial_lines.pop(key, None)
            if partial:
                self._partial_lines[key] = partial
            self.add_lines(lines, job)
        if lines:
            self.schedule_update()

    def add_lines(self, lines: list[str], job: AnyJob | None = None) -> None:
        """Add lines of a job, or of None if it is unknown. The caller must then call `schedule_update`."""
        shown = list(map(visible_text, lines))
        keep_end(job, "".join(line + "\n" for line in shown))
        self._add_shown(shown, job)

    def _add_shown(self, lines: list[str], job: AnyJob | None) -> None:
        if job is not None and self._get_tag is not None:
            tag = f"{self._get_tag(job)}: "
            lines = [tag + line for line in lines]
        self._append(lines)

    def _append(self, lines: list[str]) -> None:
        with self._lock:
            self._lines.extend(lines)
            self._character_count += sum(map(len, lines)) + len(lines)

    def schedule_update(self) -> None:
        """Schedule an update of the picture, which writes the added lines. If the buffer is full, write them now."""
        if self._character_count > MAX_BUFFERED_CHARACTERS:
            self._write_out()
        else:
            self._wake()

    def finish_partial_lines(self, job: object = None) -> None:
        """Add the incomplete lines of a job to the buffer, or of all jobs if `job` is None."""
        if not self._partial_lines:
            return
        with self._lock:
            for key in list(self._partial_lines):
                printing_job, _ = key
                if job is None or printing_job is job:
                    line = self._partial_lines.pop(key, "")
                    # Otherwise a prompt has taken it.
                    if line:
                        self.add_lines([line], printing_job)

    def take_lines(self) -> list[str]:
        """Remove the lines, and return them. Only one thread may call this at a time: who draws.

        It takes no lock: the handler of Ctrl-Z may interrupt a thread that adds a line, and waits for who draws.
        """
        self._character_count = 0
        lines = self._lines.copy()
        del self._lines[: len(lines)]
        return lines

    def write_lines(self, file: TextIO) -> None:
        """Write the lines to a file."""
        file.write("".join(line + "\n" for line in self.take_lines()))
        file.flush()

    def take_partial_line(self) -> str:
        """Remove the incomplete line of the current job, which may be a prompt, and return it."""
        key = _find_current_job(), threading.get_ident()
        return self._partial_lines.pop(key, "")

    # ---- streams

    def open_capture(self, stream: TextIO) -> None:
        """Capture output to `stream` that bypasses it, if it has a descriptor, on systems that can poll pipes."""
        with contextlib.suppress(OSError, ValueError):
            # Raised if the stream has no descriptor.
            if posix.IS_POSIX:
                self.fd_capture = FdCapture(self, stream.fileno(), stream.encoding)

    def replace_terminal_streams(self) -> None:
        """Replace `sys.stdout` and `sys.stderr` where they are terminals."""
        self._owner_pid = os.getpid()
        for name in ("stdout", "stderr"):
            if is_terminal(getattr(sys, name)):
                self.replace_stream(name)

    def replace_stream(self, name: str) -> None:
        """Replace `sys.stdout` or `sys.stderr`, also in `logging` handlers. `name` is "stdout" or "stderr"."""
        self._owner_pid = os.getpid()
        stream = getattr(sys, name)
        replacement = BufferedStream(self, stream)
        setattr(sys, name, replacement)
        self._replaced_streams.append((name, stream, replacement))
        _redirect_handlers(stream, replacement)

    def restore_streams(self) -> None:
        """Restore the streams, unless other code has replaced them, and the descriptors. Add all incomplete lines."""
        for name, stream, replacement in self._replaced_streams:
            _redirect_handlers(replacement, stream)
            if getattr(sys, name) is replacement:
                setattr(sys, name, stream)
        self._replaced_streams.clear()
        self._owner_pid = None
        fd_capture = self.fd_capture
        self.fd_capture = None
        self.finish_partial_lines()
        if fd_capture is not None:
            fd_capture.restore()


class BufferedStream(StreamProxy):
    """A text stream that prints above the picture while there is one, and afterwards to the real stream."""

    def __init__(self, buffer: OutputBuffer, real_stream: TextIO) -> None:
        super().__init__(real_stream)
        self._buffer: Final = buffer

    def write(self, text: str, /) -> int:
        """Write `text` to the buffer, or to the real stream if there is no picture.

        Raises:
            UnicodeEncodeError: the real stream could not encode the text.

        """
        if not self._buffer.has_picture:
            return self._real_stream.write(text)
        if not text.isascii():
            text = text.encode(self.encoding, self.errors or "strict").decode(
                self.encoding, "replace"
            )
        self._buffer.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the real stream. While there is a picture, do nothing, because its next update writes the lines."""
        if not self._buffer.has_picture:
            self._real_stream.flush()

    @property
    def has_picture(self) -> bool:
        """Whether there is a picture on the real stream. If so, other processes must not write to that stream."""
        return self._buffer.has_picture

    def open_output_pipe(self) -> CapturePipe | None:
        """Open a pipe for the output of another process.

        Return None if there is no picture, or if the system does not support such pipes.
        """
        capture = self._buffer.fd_capture
        if self._buffer.has_picture and capture is not None:
            return capture.open_pipe()
        return None

    def writable(self) -> bool:
        """Return True, because the stream is for output."""
        return True


def split_lines(text: str) -> tuple[list[str], str]:
    """Split a text into its complete lines and the incomplete last line.

    A last line of more than `MAX_PARTIAL_LINE_CHARACTERS` characters counts as complete.
    """
    *lines, partial = text.split("\n")
    if len(partial) > MAX_PARTIAL_LINE_CHARACTERS:
        if "\r" in partial[:-1]:
            # Drop the text that a carriage return overwrites.
            partial = visible_text(partial) + "\r" * partial.endswith("\r")
        if len(partial) > MAX_PARTIAL_LINE_CHARACTERS:
            lines = [*lines, partial]
            partial = ""
    return lines, partial


def visible_text(line: str) -> str:
    """Return the part of a line that remains visible on a terminal: the text after the last carriage return."""
    if "\r" in line:
        return line.rstrip("\r").rpartition("\r")[2]
    return line


def replaceable_streams() -> list[str]:
    """Return the names of the standard streams that exist, and that no monitor has replaced."""
    return [
        name
        for name in ("stdout", "stderr")
        if not isinstance(getattr(sys, name), BufferedStream | None)
    ]


def _find_current_job() -> AnyJob | None:
    """Return the job that prints, or None if it is unknown, or the engine reports something about it."""
    if voice.speaks:
        return None
    try:
        return current_job()
    except RuntimeError:
        return None


def _redirect_handlers(
    stream: TextIO | BufferedStream, replacement: TextIO | BufferedStream
) -> None:
    """Let the `logging` handlers that write to a stream write to another."""
    # Names without a logger of their own have a placeholder, which has no handlers.
    for logger in [logging.root, *logging.root.manager.loggerDict.values()]:
        handlers: list[logging.StreamHandler[Any]] = [
            handler
            for handler in getattr(logger, "handlers", ())
            if isinstance(handler, logging.StreamHandler)
        ]
        for handler in handlers:
            if handler.stream is stream:
                handler.setStream(replacement)


# ---- lines in a log, with tags or folded

Fold = Callable[[str, str], str]
"""A function that returns the lines of a job, between the lines that fold them in the log of a CI system. Its arguments
are the name of the job and its lines, without a newline at the end."""


def github_group(name: str, lines: str) -> str:
    return f"::group::{name}\n{lines}\n::endgroup::"


def gitlab_section(name: str, lines: str) -> str:
    section = f"{int(time.time())}:trioflow_{next(_SECTION_NUMBERS)}"
    begin, end = (f"\x1b[0Ksection_{word}:{section}" for word in ("start", "end"))
    return f"{begin}[collapsed=true]\r\x1b[0K{name}\n{lines}\n{end}\r\x1b[0K"


_SECTION_NUMBERS: Final = itertools.count(1)
FOLDS: Final[dict[str, Fold]] = {
    "GITHUB_ACTIONS": github_group,
    "GITLAB_CI": gitlab_section,
}
"""How to fold lines in the log of a CI system, by the environment variable that such a system sets to `true`."""
MAX_HELD_CHARACTERS: Final = 1 << 20


class LogOutput(OutputBuffer):
    """The lines that jobs write to standard streams beside a log, each with the tag of its job.

    Args:
        names: the streams to replace, "stdout" or "stderr". The lines are written to the first stream.
        get_tag: a function that returns the tag before each line of a job, or None for no tags.

    """

    def __init__(
        self, names: Sequence[str], get_tag: Callable[[AnyJob], str] | None = None
    ) -> None:
        super().__init__(
            self._write_buffered_lines, self._write_buffered_lines, get_tag
        )
        self._real_stream: Final[TextIO] = getattr(sys, names[0])
        self._stream_lock: Final = threading.RLock()
        self.open_capture(self._real_stream)
        for name in names:
            self.replace_stream(name)

    def finish(self, job: AnyJob) -> None:
        """Write the rest of the output of a job that has ended."""
        self.finish_partial_lines(job)
        self._write_buffered_lines()

    def restore(self) -> None:
        """Restore the real streams, and write incomplete lines."""
        self.restore_streams()
        # And the partial lines of the descriptors.
        self.finish_partial_lines()
        self._write_buffered_lines()

    def _write_buffered_lines(self) -> None:
        # Raised if the stream is broken or closed.
        with self._stream_lock, contextlib.suppress(OSError, ValueError):
            self.write_lines(self._real_stream)


class PassedOutput(LogOutput):
    """An output that passes on the output of jobs as it comes, and keeps the end of it."""

    def write(self, text: str) -> None:
        """Write `text` to the real stream at once, because it may be a prompt."""
        with self._stream_lock:
            self._real_stream.write(text)
            self._real_stream.flush()
        keep_end(_find_current_job(), text)


class FoldedOutput(LogOutput):
    """An output that holds the lines of each job until the job ends, since the groups of a log cannot overlap.

    More than `MAX_HELD_CHARACTERS` are not held: they become a group before the job ends. Lines of no job, and those
    that arrive after the end of their job, are not held.
    """

    def __init__(
        self, names: Sequence[str], fold: Fold, get_name: Callable[[AnyJob], str]
    ) -> None:
        self._fold: Final = fold
        self._get_name: Final = get_name
        self._held: Final[dict[AnyJob, io.StringIO]] = {}
        self._ended_jobs: Final[weakref.WeakSet[AnyJob]] = weakref.WeakSet()
        super().__init__(names)

    def _add_shown(self, lines: list[str], job: AnyJob | None) -> None:
        with self._lock:
            if job is None or job in self._ended_jobs:
                self._append(lines)
                return
            held = self._held.setdefault(job, io.StringIO())
            held.writelines(line + "\n" for line in lines)
            if held.tell() > MAX_HELD_CHARACTERS:
                self._release(job)

    def finish(self, job: AnyJob) -> None:
        """Write the lines of a job that has ended, with the output that its command was to capture."""
        if _job_queries.runs_commands(job) and not (job.redact or job.restored):
            result = cast(Any, job).last_result
            outputs = _job_queries.captured_outputs(result, MAX_HELD_CHARACTERS)
            for _, text, _ in outputs:
                self._add_shown(text.splitlines(), job)
        super().finish(job)

    def finish_partial_lines(self, job: Any = None) -> None:
        """Add the held output of a job that has ended, or of all jobs if `job` is None."""
        with self._lock:
            super().finish_partial_lines(job)
            ended_jobs = [job]
            if job is None:
                ended_jobs = list(self._held)
            self._ended_jobs.update(ended_jobs)
            for ended in ended_jobs:
                self._release(ended)

    def _release(self, job: AnyJob) -> None:
        if job in self._held:
            lines = self._held.pop(job).getvalue().removesuffix("\n")
            if job.state is not JobState.FAILED:
                lines = self._fold(self._get_name(job), lines)
            self._append([lines])


# ---- output that bypasses the streams

READ_SIZE: Final = 1 << 16
"""The maximum number of bytes to read at once, which is the default capacity of a pipe."""
PROMPT_DELAY: Final = 1.0
"""An incomplete line of an unknown job is shown after this time, in seconds. Such a line may be a prompt."""


class CapturePipe:
    """A pipe for output, with the job that writes to it and the incomplete last line.

    The job and the incomplete line change only under the lock of the `FdCapture`.

    Attributes:
        write_end: the descriptor of the write end, which is closed after the writing process has inherited it.

    """

    def __init__(self, owner: FdCapture) -> None:
        self.read_end, self.write_end = os.pipe()
        posix.set_blocking(self.read_end, False)
        self.job: AnyJob | None = None
        self._owner: Final = owner
        self._decoder: Final = codecs.getincrementaldecoder(owner.encoding)("replace")
        self._partial_line = ""

    def attribute_output_to(self, job: AnyJob) -> None:
        """Attribute all further output to `job`."""
        self._owner._read_pipe(self)
        with self._owner._lock:
            self._owner._forward_lines(self, self.take_partial_line())
            self.job = job

    def decode_lines(self, data: bytes) -> list[str]:
        """Decode output from the pipe, and return the lines that this output completes."""
        text = self._decoder.decode(data)
        if not self._owner.encoding.lower().startswith("utf"):
            # The encoding has no replacement character.
            text = text.replace("\ufffd", "?")
        lines, self._partial_line = split_lines(self._partial_line + text)
        return lines

    def take_partial_line(self) -> list[str]:
        """Remove the incomplete line, and return it in a list. The list is empty if there is none."""
        line = self._partial_line + self._decoder.decode(b"", final=True)
        self._partial_line = ""
        return [line] if line else []


class FdCapture:
    """The pipes that capture output for a display, and the thread that reads them.

    Args:
        buffer: the buffer that gets the lines.
        terminal: a descriptor of the terminal or, if the lines of a log are tagged, of the real standard stream. The
            capture duplicates it, and the caller still owns the original.
        encoding: the encoding of the terminal.

    """

    def __init__(self, buffer: OutputBuffer, terminal: int, encoding: str) -> None:
        self.encoding: Final = encoding
        self._buffer: Final = buffer
        self._terminal_descriptor: Final = os.dup(terminal)
        # Not held while the picture is drawn.
        self._lock: Final = threading.RLock()
        self._selector: Final = selectors.DefaultSelector()
        self._wake_read_end, self._wake_write_end = os.pipe()
        self._selector.register(self._wake_read_end, selectors.EVENT_READ)
        self._pipes: Final[dict[int, CapturePipe]] = {}
        self._replaced_descriptors: list[int] = []
        self._is_buffering = True
        self._thread: threading.Thread | None = None

    # ---- writers

    def replace_descriptors(self) -> None:
        """Replace each of descriptors 1 and 2 that refers to the terminal with a shared pipe."""
        pipe = self.open_pipe()
        device = _device_number(self._terminal_descriptor)
        for number, stream in ((1, sys.__stdout__), (2, sys.__stderr__)):
            with contextlib.suppress(OSError):
                # Raised if the descriptor is not open.
                if os.isatty(number) and _device_number(number) == device:
                    _flush(stream)
                    os.dup2(pipe.write_end, number)
                    self._replaced_descriptors.append(number)
        os.close(pipe.write_end)
        self._buffer.before_print = functools.partial(self._read_pipe, pipe)

    def open_pipe(self) -> CapturePipe:
        """Return a new pipe for the output of another process."""
        pipe = CapturePipe(self)
        with self._lock:
            self._pipes[pipe.read_end] = pipe
            self._selector.register(pipe.read_end, selectors.EVENT_READ, pipe)
            if self._thread is None:
                _CAPTURES.add(self)
                self._thread = threading.Thread(
                    target=self._run_thread, name="trioflow output", daemon=True
                )
                self._thread.start()
        return pipe

    def restore(self) -> None:
        """Restore descriptors 1 and 2, and read each pipe once more. The thread copies later output to the terminal."""
        for number, stream in ((1, sys.__stdout__), (2, sys.__stderr__)):
            if number in self._replaced_descriptors:
                _flush(stream)
                os.dup2(self._terminal_descriptor, number)
        self._replaced_descriptors = []
        with self._lock:
            for pipe in list(self._pipes.values()):
                self._read_pipe(pipe)
                self._forward_lines(pipe, pipe.take_partial_line())
            self._is_buffering = False
            # Wakes the thread, which ends once all pipes have been closed.
            os.close(self._wake_write_end)
            if self._thread is None:
                self._close()

    # ---- the thread

    def _run_thread(self) -> None:
        """Read the pipes until `restore` has been called and all writers have closed their pipes."""
        while self._pipes or self._is_buffering:
            has_partial_line = any(
                pipe._partial_line for pipe in list(self._pipes.values())
            )
            ready = self._selector.select(PROMPT_DELAY if has_partial_line else None)
            if not ready:
                self._show_partial_lines()
            for key, _ in ready:
                if key.data is None:
                    self._selector.unregister(self._wake_read_end)
                else:
                    self._read_pipe(key.data)
                    self._buffer.schedule_update()
        self._close()

    def _close(self) -> None:
        self._selector.close()
        os.close(self._wake_read_end)
        os.close(self._terminal_descriptor)

    def _show_partial_lines(self) -> None:
        with self._lock:
            for pipe in list(self._pipes.values()):
                if pipe.job is None:
                    self._forward_lines(pipe, pipe.take_partial_line())
        self._buffer.schedule_update()

    def _read_pipe(self, pipe: CapturePipe) -> None:
        """Read from a pipe once, and forward the lines.

        Reading until the pipe is empty might take forever, because a process may never stop writing.
        """
        with self._lock:
            if pipe.read_end not in self._pipes:
                return
            try:
                data = os.read(pipe.read_end, READ_SIZE)
            except BlockingIOError:
                return
            if not data:
                self._selector.unregister(pipe.read_end)
                del self._pipes[pipe.read_end]
                os.close(pipe.read_end)
                self._forward_lines(pipe, pipe.take_partial_line())
            elif self._is_buffering:
                self._forward_lines(pipe, pipe.decode_lines(data))
        if data and not self._is_buffering:
            self._copy_to_terminal(data)

    def _forward_lines(self, pipe: CapturePipe, lines: list[str]) -> None:
        """Add lines to the buffer. After the end of the picture, write them to the terminal instead."""
        if lines and self._is_buffering:
            self._buffer.add_lines(lines, pipe.job)
        elif lines:
            text = "".join(f"{line}\n" for line in lines)
            self._copy_to_terminal(text.encode(self.encoding, "replace"))

    def _copy_to_terminal(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            # Raised if the terminal has been closed.
            while data:
                data = data[os.write(self._terminal_descriptor, data) :]


_CAPTURES: Final[weakref.WeakSet[FdCapture]] = weakref.WeakSet()


def _close_in_fork() -> None:
    """Close the read ends of all pipes in a forked process, because it has no thread that reads them."""
    for capture in list(_CAPTURES):
        for descriptor in list(capture._pipes):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        capture._pipes.clear()
        capture._replaced_descriptors.clear()


posix.on_fork(_close_in_fork)


def _device_number(descriptor: int) -> int:
    # Not all systems have `st_rdev`.
    status: Any = os.fstat(descriptor)
    return int(status.st_rdev)


def _flush(stream: Any) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        # Raised if the stream is closed, or is None.
        stream.flush()
