"""The standard streams of a process: opened before it starts, and closed after its end.

If this program captures output, splits it into lines, or forwards it, the output is read from pipes. A single selector
watches the pipes and the descriptor that reports the end of the command. The event loop waits only for the selector's
own descriptor. So a single task reads all output, in the same order on trio and on asyncio.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import selectors
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from subprocess import DEVNULL, PIPE, STDOUT
from typing import TYPE_CHECKING, Any, Final

from ... import _posix as posix
from .._user_files import open_output_file
from ..posix._files import explain_temporary_file, is_named_pipe, write_all
from . import _argv, _output_sinks, _spawn_options
from ._output_sinks import (
    CaptureSink,
    DescriptorSink,
    LineSink,
    OutputSink,
    OutputSpool,
    TailSink,
    file_tail,
)

if TYPE_CHECKING:
    from ._command_job import CommandJob


class ProcessStreams:
    """The standard streams of a process, and the captured output.

    Attributes:
        pipes: the pipes for output that passes through this program.
        stdin: the descriptor that the process inherits, or None for an empty input.
        stdout: the descriptor that the process inherits, or `subprocess.DEVNULL`, or None for this program's output.
        stderr: likewise for standard error, or `subprocess.STDOUT`.
        ends: the ends of the outputs that pass through this program and are not captured.

    """

    def __init__(
        self, job: CommandJob, stdin: object, on_output: Callable[[], None] | None
    ) -> None:
        """Open the streams.

        Args:
            job: the command.
            stdin: standard input, as for `CommandJob`.
            on_output: a function to call whenever output arrives, or None. If it is given, all output passes through
                this program.

        """
        self._job: Final = job
        self._on_output: Final = on_output
        self.pipes: Final = OutputPipes()
        self.ends: Final = _output_sinks.OutputEnds()
        self._write_ends: Final[set[int]] = set()
        # Descriptors to close once the process has inherited them.
        self._inherited_descriptors: Final[list[int]] = []
        self._captures_by_stream: Final[dict[str, CaptureSink]] = {}
        # The redirections of a shell in front of the program: opening a named pipe waits for the program at its other
        # end.
        self._redirections: Final[list[tuple[str, str]]] = []
        try:
            self.stdin: Final = self._open_input(stdin)
            self.stdout: Final = self._descriptor_for(
                1, self._open_output("stdout", job._command_options.stdout)
            )
            self.stderr: Final = self._descriptor_for(
                2, self._open_output("stderr", job._command_options.stderr)
            )
        except BaseException:
            self.close()
            raise

    # ---- opening

    def _open_input(self, value: Any) -> int | None:
        if value is None or (isinstance(value, int) and value == DEVNULL):
            return None
        if isinstance(value, int):
            return value
        if isinstance(value, OutputSpool) and os.path.isdir("/proc/self"):
            return self._close_after_start(value.reopen())
        if isinstance(value, OutputSpool):
            value = value.read()
        if isinstance(value, _argv.BYTES_TYPES):
            return self._close_after_start(_create_unnamed_file(value))
        if _spawn_options.is_path(value):
            if is_named_pipe(value):
                return self._redirect("<", value)
            return self._close_after_start(os.open(value, os.O_RDONLY))
        return int(value.fileno())

    def _open_output(self, name: str, value: object) -> int | None:
        options = self._job._command_options
        if value == STDOUT:
            if any(operator == ">>" for operator, _ in self._redirections):
                return self._redirect("2>&1")
            return STDOUT if self.stdout is None else self.stdout
        if value == DEVNULL:
            return DEVNULL
        sinks: list[OutputSink] = []
        if value == PIPE:
            self._captures_by_stream[name] = CaptureSink()
            sinks.append(self._captures_by_stream[name])
        job = self._job
        on_line = options.on_line
        tag = _output_sinks.make_tag_function(
            options.tag, job.label, {"label": str(job.label)}
        )
        report_line = None
        if on_line is not None:
            report_line = partial(on_line, job)
        sinks += _output_sinks.make_line_sinks(name, report_line, tag)
        if sinks:
            if value != PIPE:
                sinks.append(self._end_of(name))
            return self._open_pipe(sinks)
        if isinstance(value, int):
            return value
        if _spawn_options.is_path(value):
            if self._on_output is None and is_named_pipe(value):
                return self._redirect(">>" if name == "stdout" else "2>>", value)
            return self._close_after_start(
                open_output_file(value, self._job, truncate=not options.append)
            )
        return self._descriptor_of_file(name, value)

    def _descriptor_for(
        self, standard_descriptor: int, descriptor: int | None
    ) -> int | None:
        """Return the descriptor that the process inherits.

        This is `descriptor` itself, unless all output must pass through this program. In that case it is the write end
        of a pipe, whose data is forwarded to `descriptor`, or to this program's own `standard_descriptor` if
        `descriptor` is None.
        """
        if self._on_output is None or descriptor in self._write_ends:
            return descriptor
        if descriptor == DEVNULL:
            return self._open_pipe([])
        if descriptor is None:
            descriptor = standard_descriptor
        return self._open_pipe([DescriptorSink(os.dup(descriptor))])

    def _descriptor_of_file(self, name: str, value: Any) -> int | None:
        """Return the descriptor of an open file, or of a pipe whose data is forwarded to the file.

        If `value` is None, the file is `sys.stdout` or `sys.stderr`. In a notebook, or in a test that captures output,
        these files have no usable descriptor, even if they have a `fileno()`. While a monitor displays its picture, the
        descriptor is not used either, because the output would overwrite the picture.
        """
        file = value
        if value is None:
            file = getattr(sys, name)
        if file is None:
            # This program has no standard streams, as under pythonw.
            return DEVNULL
        if value is None and file is getattr(sys, f"__{name}__"):
            return None
        # None if `file` is not the stream of a monitor.
        has_picture = getattr(file, "has_picture", None)
        has_descriptor = (
            value is not None
            or has_picture is not None
            or isinstance(file, io.TextIOWrapper)
        )
        if has_descriptor and not has_picture:
            with contextlib.suppress(OSError, AttributeError, ValueError):
                return int(file.fileno())
        sinks = [_output_sinks.stream_sink(file)]
        if value is None:
            sinks.append(self._end_of(name))
        return self._open_pipe(sinks)

    def _end_of(self, name: str) -> TailSink:
        return self.ends.setdefault(name, TailSink())

    def _open_pipe(self, sinks: list[OutputSink]) -> int:
        if self._on_output is not None:
            sinks = [*sinks, _output_sinks.ActivitySink(self._on_output)]
        write_end = self._close_after_start(self.pipes.open_pipe(sinks))
        self._write_ends.add(write_end)
        return write_end

    def _redirect(self, operator: str, path: Any = "") -> int:
        self._redirections.append(
            (operator, path and os.path.abspath(os.fsdecode(path)))
        )
        return DEVNULL

    def wrap_command(self, command: Sequence[str | bytes]) -> Sequence[str | bytes]:
        """Return the command. If its streams are named pipes, return a shell's command that opens them and execs it.

        So this program does not wait for the programs at their other ends, and the command can be ended meanwhile.
        """
        for operator, path in reversed(self._redirections):
            target = path and '"$0"'
            command = ["/bin/sh", "-c", f'exec "$@" {operator}{target}', path, *command]
        return command

    def _close_after_start(self, descriptor: int) -> int:
        self._inherited_descriptors.append(descriptor)
        return descriptor

    # ---- after the start

    def watch_process(self, exit_descriptor: int) -> None:
        self._close_inherited_descriptors()
        self.pipes.watch_command(exit_descriptor)

    def close(self) -> None:
        """Read the remaining data from the pipes, and close them, even if a process still holds a write end."""
        self._close_inherited_descriptors()
        self.pipes.close()

    def captured_output(self, name: str) -> bytes | OutputSpool | None:
        capture = self._captures_by_stream.get(name)
        if capture is None:
            return None
        return capture.output()

    def tails(self, size: int) -> Iterator[tuple[str, bytes]]:
        """Yield the end of each stream that is captured, passes through this program, or goes to a file.

        Any thread may call this.
        """
        for name, capture in self._captures_by_stream.copy().items():
            yield name, capture.tail(size)
        options = self._job._command_options
        for name, target in (("stdout", options.stdout), ("stderr", options.stderr)):
            if _spawn_options.is_path(target):
                yield name, file_tail(target, size) or b""
        yield from self.ends.tails(size)

    def unkept(self) -> list[str]:
        """Return the names of the streams that the process has inherited from this program."""
        return [
            name
            for name, descriptor in (("stdout", self.stdout), ("stderr", self.stderr))
            if descriptor is None
        ]

    def _close_inherited_descriptors(self) -> None:
        for descriptor in self._inherited_descriptors:
            os.close(descriptor)
        self._inherited_descriptors.clear()


def _create_unnamed_file(data: Any) -> int:
    """Return a descriptor of an unnamed file with this content.

    The file is complete before the command starts, whereas a pipe would have to be written while the command reads.
    """
    with (
        explain_temporary_file("standard input"),
        tempfile.TemporaryFile(buffering=0) as file,
    ):
        write_all(file.fileno(), data)
        file.seek(0)
        return os.dup(file.fileno())


# ---- the pipes, and the wait for the end of the command

WaitReadableFunction = Callable[[int, float], Awaitable[bool]]
MAX_READ_BYTES: Final = 1 << 16
"""The maximum size of a read, in bytes. This is also the default capacity of a pipe on Linux."""
MAX_LINES_READ_BYTES: Final = 1 << 12
"""The same where each line is printed, or passed to a function, so that a flood of lines does not block the loop."""
MAX_READS_PER_TURN: Final = 16
MAX_READING_SECONDS: Final = 0.001
"""The maximum time, in seconds, to read a pipe before the next is read, so that the event loop is not blocked."""


class PipeReader:
    """The read end of a pipe, and the sinks of its data."""

    def __init__(
        self, descriptor: int, sinks: Sequence[OutputSink], owner: OutputPipes
    ) -> None:
        posix.set_blocking(descriptor, False)
        self.descriptor: Final = descriptor
        self._sinks: Final = sinks
        has_lines = any(isinstance(sink, LineSink) for sink in sinks)
        self._max_bytes: Final = MAX_LINES_READ_BYTES if has_lines else MAX_READ_BYTES
        self._output_pipes: Final = owner

    def read(self, max_seconds: float = math.inf) -> bool:
        """Forward data to the sinks for up to about `max_seconds` seconds. Return False at the end of the output."""
        deadline = time.perf_counter() + max_seconds
        for _ in range(MAX_READS_PER_TURN):
            try:
                data = os.read(self.descriptor, self._max_bytes)
            except BlockingIOError:
                return True
            if not data:
                return False
            self._call_sinks("write", data)
            if time.perf_counter() > deadline:
                break
        return True

    def read_rest(self) -> None:
        """Forward the data that the pipe has now. A program may have made the pipe larger."""
        request = posix.termios.FIONREAD
        answer = posix.fcntl.ioctl(self.descriptor, request, bytes(4))
        size = int.from_bytes(answer, sys.byteorder)
        while size > 0:
            data = os.read(self.descriptor, min(size, self._max_bytes))
            self._call_sinks("write", data)
            size -= len(data)

    def finish(self) -> None:
        os.close(self.descriptor)
        self._call_sinks("finish")

    def _call_sinks(self, method: str, *data: bytes) -> None:
        """Call a method of all sinks, or do nothing if a sink of this command has raised an exception."""
        if self._output_pipes.sink_error is not None:
            return
        try:
            for sink in self._sinks:
                getattr(sink, method)(*data)
        except Exception as error:
            self._output_pipes.sink_error = error


class OutputPipes:
    """The pipes of a command, from before its start until its end.

    Attributes:
        sink_error: the first exception raised by a sink, such as an OSError because the disk is full, or the exception
            of a user's callback. None if no sink has failed.
        is_ending: whether the command is being ended. If so, a failing sink does not interrupt the wait for the end.

    """

    def __init__(self) -> None:
        self.sink_error: Exception | None = None
        self.is_ending = False
        self._readers: Final[set[PipeReader]] = set()
        self._selector: selectors.BaseSelector | None = None
        self._exit_descriptor = -1
        self._is_command_over = False

    def open_pipe(self, sinks: Sequence[OutputSink]) -> int:
        """Open a pipe to the sinks, and return the write end for the command. The caller must close it."""
        if self._selector is None:
            self._selector = selectors.DefaultSelector()
        read_end, write_end = os.pipe()
        self._readers.add(PipeReader(read_end, sinks, self))
        return write_end

    def watch_command(self, exit_descriptor: int) -> None:
        """Start watching the pipes of a command that has started.

        Args:
            exit_descriptor: a descriptor that becomes readable when the command has ended.

        """
        self._exit_descriptor = exit_descriptor
        if self._selector is not None:
            self._selector.register(exit_descriptor, selectors.EVENT_READ)
            for reader in self._readers:
                self._selector.register(reader.descriptor, selectors.EVENT_READ, reader)

    async def forward_until_ended(
        self, wait: WaitReadableFunction, deadline: float
    ) -> bool:
        """Forward output until the command has ended, and return True. Return False at the deadline or if a sink fails.

        If no output passes through this program, only wait for the end.
        """
        if self._selector is None:
            self._is_command_over = self._is_command_over or await wait(
                self._exit_descriptor, deadline
            )
            return self._is_command_over
        while not self._is_command_over and (self.is_ending or self.sink_error is None):
            if not await self._forward_when_ready(self._selector, wait, deadline):
                break
        return self._is_command_over

    async def forward_remaining(
        self, wait: WaitReadableFunction, deadline: float
    ) -> None:
        """Forward output that arrives after the end of the command, until the deadline or the end of all pipes."""
        selector = self._selector
        while (
            selector is not None
            and selector.get_map()
            and await self._forward_when_ready(selector, wait, deadline)
        ):
            pass

    async def _forward_when_ready(
        self,
        selector: selectors.BaseSelector,
        wait: WaitReadableFunction,
        deadline: float,
    ) -> bool:
        if not await wait(selector.fileno(), deadline):  # type: ignore[attr-defined]
            return False
        self.forward_available()
        return True

    def forward_available(self) -> None:
        """Forward the available output, and check whether the command has ended."""
        if self._selector is None:
            return
        for key, _ in self._selector.select(0):
            if key.data is not None:
                if not key.data.read(MAX_READING_SECONDS):
                    self._close_reader(key.data)
            else:
                self._selector.unregister(key.fd)
                self._is_command_over = True

    def _close_reader(self, reader: PipeReader) -> None:
        if self._selector is not None and reader.descriptor in self._selector.get_map():
            self._selector.unregister(reader.descriptor)
        self._readers.discard(reader)
        reader.finish()

    def close(self) -> None:
        """Read the remaining data from the pipes, and close them, even if a process still holds a write end."""
        for reader in tuple(self._readers):
            reader.read_rest()
            self._close_reader(reader)
        if self._selector is not None:
            self._selector.close()
            self._selector = None
