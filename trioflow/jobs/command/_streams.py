"""The standard streams of a process: opened before it starts, and closed after its end.

Output that this program captures, splits into lines or forwards is read from pipes (`_pipes`).
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ._argv import IN_MEMORY
from ._output_sinks import (
    ActivitySink,
    Capture,
    DescriptorSink,
    FileSink,
    LineSink,
    Sink,
    Spool,
    line_sinks,
    tag_maker,
    write_all,
)
from ._pipes import OutputPipes
from ._spawn_options import is_path

if TYPE_CHECKING:
    from ._command_job import CommandJob


class Streams:
    """The standard streams of one process, and the captured output.

    Attributes:
        pipes: the pipes for output that passes through this program.
        stdin: the descriptor that the process inherits; None for an empty input.
        stdout: the descriptor that the process inherits, or `subprocess.DEVNULL`; None for this program's own.
        stderr: the same for the standard error, or `subprocess.STDOUT`.

    """

    def __init__(self, job: CommandJob, stdin: Any, alive: Callable[[], None] | None) -> None:
        """Open the streams.

        Args:
            job: the command.
            stdin: the standard input, as for `CommandJob`.
            alive: called for each piece of output, all of which then passes through this program; None if not needed.

        """
        self._job: Final = job
        self._alive: Final = alive
        self.pipes: Final = OutputPipes()
        self._write_ends: Final[set[int]] = set()  # the write ends of the pipes
        self._inherited: Final[list[int]] = []  # descriptors to close once the process has inherited them
        self._captures: Final[dict[str, Capture]] = {}
        try:
            self.stdin: Final = self._open_input(stdin)
            self.stdout: Final = self._descriptor_for(1, self._open_output("stdout", job._options.stdout))
            self.stderr: Final = self._descriptor_for(2, self._open_output("stderr", job._options.stderr))
        except BaseException:
            self.close()
            raise

    # ---- opening

    def _open_input(self, value: Any) -> int | None:
        if value is None or value == subprocess.DEVNULL:
            return None
        if isinstance(value, int):
            return value
        if isinstance(value, Spool):
            return self._close_after_start(
                value.reopen() if os.path.isdir("/proc/self") else _nameless_file(value.read())
            )
        if isinstance(value, IN_MEMORY):
            return self._close_after_start(_nameless_file(value))
        if is_path(value):
            return self._close_after_start(os.open(value, os.O_RDONLY))
        return int(value.fileno())

    def _open_output(self, name: str, value: Any) -> int | None:
        options = self._job._options
        if value == subprocess.STDOUT:
            return subprocess.STDOUT if self.stdout is None else self.stdout
        if value == subprocess.DEVNULL:
            return subprocess.DEVNULL
        sinks: list[Sink] = []
        if value == subprocess.PIPE:
            self._captures[name] = Capture()
            sinks.append(self._captures[name])
        job, on_line = self._job, options.on_line
        tag = tag_maker(options.tag, job.label, {"label": str(job.label)})
        sinks += line_sinks(name, None if on_line is None else partial(on_line, job), tag)
        if sinks:
            return self._pipe(sinks)
        if isinstance(value, int):
            return value
        if is_path(value):
            return self._close_after_start(open_output(value, truncate=not options.append))
        return self._inherit(name, value)

    def _descriptor_for(self, own: int, descriptor: int | None) -> int | None:
        """Return the descriptor that the process inherits.

        This is `descriptor` or, if all output must pass through this program, a pipe whose data is forwarded to
        `descriptor` (to `own` if it is None).
        """
        if self._alive is None or descriptor in self._write_ends:
            return descriptor
        if descriptor == subprocess.DEVNULL:
            return self._pipe([])
        return self._pipe([DescriptorSink(os.dup(own if descriptor is None else descriptor))])

    def _inherit(self, name: str, value: Any) -> int | None:
        """Return the descriptor of an open file, or of a pipe whose data is forwarded to the file.

        If `value` is None, the file is `sys.stdout` or `sys.stderr`. In a notebook, or in a test that captures output,
        that object has no usable descriptor, even if it has a `fileno()`. While a monitor displays its picture, the
        descriptor is not used either, because the output would overwrite the picture.
        """
        file = getattr(sys, name) if value is None else value
        if file is None:  # there are no standard streams, as under pythonw
            return subprocess.DEVNULL
        if value is None and file is getattr(sys, f"__{name}__"):
            return None
        has_picture = getattr(file, "has_picture", None)  # None: not a monitor's stream
        if has_picture:
            return self._pipe([LineSink(lambda line: print_line(file, line))])
        if value is not None or has_picture is not None or isinstance(file, io.TextIOWrapper):
            with contextlib.suppress(OSError, AttributeError, ValueError):
                return int(file.fileno())
        return self._pipe([FileSink(file)])

    def _pipe(self, sinks: list[Sink]) -> int:
        if self._alive is not None:
            sinks = [*sinks, ActivitySink(self._alive)]
        write_end = self._close_after_start(self.pipes.open(sinks))
        self._write_ends.add(write_end)
        return write_end

    def _close_after_start(self, descriptor: int) -> int:
        self._inherited.append(descriptor)
        return descriptor

    # ---- after the start

    def watch_process(self, exit_descriptor: int) -> None:
        """Close this program's copies of the inherited descriptors, and start watching the pipes."""
        self._close_inherited()
        self.pipes.watch(exit_descriptor)

    def close(self) -> None:
        """Read the remaining data from the pipes, and close them, even if a process still holds a write end."""
        self._close_inherited()
        self.pipes.close()

    def captured(self, name: str) -> bytes | Spool | None:
        """Return the captured output of a stream, or None if it was not captured."""
        capture = self._captures.get(name)
        return None if capture is None else capture.captured()

    def _close_inherited(self) -> None:
        for descriptor in self._inherited:
            os.close(descriptor)
        self._inherited.clear()


def print_line(file: Any, line: str) -> None:
    """Print a line of output; characters that the stream cannot encode are escaped."""
    encoding = file.encoding or "utf-8"
    file.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def open_output(path: Any, *, truncate: bool = False) -> int:
    """Open a file for appending, after truncating it if `truncate`; create it and its parent directories if needed."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | (os.O_TRUNC if truncate else 0)
    try:
        return os.open(path, flags, 0o666)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        return os.open(path, flags, 0o666)


def _nameless_file(data: Any) -> int:
    """Return a descriptor of an unnamed file with this content; unlike a pipe, a file needs no writer."""
    with tempfile.TemporaryFile(buffering=0) as file:
        write_all(file.fileno(), data)
        file.seek(0)
        return os.dup(file.fileno())
