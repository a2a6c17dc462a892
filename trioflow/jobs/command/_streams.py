"""The three standard streams of one run of a command: opened before it starts, read while it runs.

Output that passes through this program comes through pipes. One selector watches the pipes and the end of the process.
The selector is a descriptor itself, and the event loop waits for it alone. So a single task does all the work, in the
same order on both backends.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ._capture import Capture, DescriptorSink, FileSink, Lines, SignOfLife, Sink, Spool, line_sinks, tags
from ._options import is_path

if TYPE_CHECKING:
    from ._job import CommandJob

Wait = Callable[[int, float], Awaitable[bool]]
"""`Backend.wait_readable`."""
PIECE: Final = 1 << 16
"""Bytes that are read at once."""
PIECES: Final = 16
"""Pieces that are read from one pipe before the others get their turn. By default a pipe holds a single one."""
PATIENCE: Final = 0.001
"""Seconds after which no further piece is read in the same turn of the event loop: to pass on a million lines takes
long."""


class Stream:
    """One pipe that a command writes to, and the sinks of its output."""

    __slots__ = ("_owner", "_sinks", "descriptor", "is_watched")

    def __init__(self, descriptor: int, sinks: list[Sink], owner: Streams) -> None:
        os.set_blocking(descriptor, False)
        self.descriptor: Final = descriptor
        self._sinks: Final = sinks
        self._owner: Final = owner
        self.is_watched = False  # a process writes to it, and the selector has it

    def read(self, patience: float = math.inf) -> bool:
        """Pass on what is in the pipe, for some seconds; return whether there may be more to come."""
        end = time.perf_counter() + patience
        for _ in range(PIECES):
            try:
                data = os.read(self.descriptor, PIECE)
            except BlockingIOError:
                return True
            if not data:
                return False
            self._pass_on("write", data)
            if time.perf_counter() > end:
                break
        return True

    def finish(self) -> None:
        """Close the pipe and finish the sinks."""
        os.close(self.descriptor)
        self._pass_on("finish")

    def _pass_on(self, method: str, *data: bytes) -> None:
        """Call a method of all sinks; after the first error of a sink, none is called any more."""
        if self._owner.error is not None:
            return
        try:
            for sink in self._sinks:
                getattr(sink, method)(*data)
        except Exception as error:
            self._owner.error = error


class Streams:
    """The standard streams of one process, and the output of those that are pipes."""

    def __init__(self, job: CommandJob, stdin: Any, alive: Callable[[], None] | None) -> None:
        """Open them; if `alive` is to be called for each sign of life, all output passes through this program."""
        self._job: Final = job
        self._alive: Final = alive
        self._pipes: Final[set[int]] = set()  # the ends of pipes that the process writes to
        self._theirs: Final[list[int]] = []  # descriptors to close once the process has its copies
        self._streams: Final[dict[int, Stream]] = {}
        self._selector: selectors.BaseSelector | None = None
        self._captures: Final[dict[str, Capture]] = {}
        self._exited = False
        self._exit_descriptor = -1
        self.ending = False  # once it is True, the error of a sink no longer ends the wait for the process
        self.error: BaseException | None = None  # what a sink raised: a callback's error, or a full disk
        try:
            self.stdin: Final = self._open_input(stdin)
            self.stdout: Final = self._seen(1, self._open_output("stdout", job._options.stdout))
            self.stderr: Final = self._seen(2, self._open_output("stderr", job._options.stderr))
            if self._streams:
                self._selector = selectors.DefaultSelector()
        except BaseException:
            self.close()
            raise

    # ---- opening

    def _open_input(self, given: Any) -> int | None:
        if given is None or given == subprocess.DEVNULL:
            return None
        if isinstance(given, int):
            return given
        if isinstance(given, Spool):
            return self._keep(given.reopen() if os.path.isdir("/proc/self") else _filled_file(given.read()))
        if isinstance(given, (bytes, bytearray, memoryview)):
            return self._keep(_filled_file(given))
        if is_path(given):
            return self._keep(os.open(given, os.O_RDONLY | os.O_CLOEXEC))
        return int(given.fileno())

    def _open_output(self, name: str, given: Any) -> int | None:
        options = self._job._options
        if given == subprocess.STDOUT:
            return subprocess.STDOUT if self.stdout is None else self.stdout
        if given == subprocess.DEVNULL:
            return subprocess.DEVNULL
        sinks: list[Sink] = []
        if given == subprocess.PIPE:
            self._captures[name] = Capture()
            sinks.append(self._captures[name])
        job, on_line = self._job, options.on_line
        tag = tags(options.tag, f"{job.label}: ", {"label": str(job.label)})
        sinks += line_sinks(name, None if on_line is None else partial(on_line, job), tag)
        if sinks:
            return self._pipe(sinks)
        if isinstance(given, int):
            return given
        if is_path(given):
            return self._keep(open_output(given, anew=not options.append))
        return self._inherit(name, given)

    def _seen(self, own: int, descriptor: int | None) -> int | None:
        """Return what the process gets for a descriptor, or for this program's own one: itself, if nobody watches."""
        if self._alive is None or descriptor in self._pipes:
            return descriptor
        if descriptor == subprocess.DEVNULL:
            return self._pipe([])
        return self._pipe([DescriptorSink(os.dup(own if descriptor is None else descriptor))])

    def _inherit(self, name: str, given: Any) -> int | None:
        """Return the descriptor of an open file, or of a pipe whose output is passed on to the file.

        A stream that is None goes where `print` writes. In a notebook, or in a test that captures output, that is no
        real descriptor, even if the object there claims to have one. Above a monitor's picture the real descriptor is
        not used, because the output would go into the picture.
        """
        file = getattr(sys, name) if given is None else given
        if file is None:  # a program without a terminal
            return subprocess.DEVNULL
        if given is None and file is getattr(sys, f"__{name}__"):
            return None
        has_picture = getattr(file, "has_picture", None)  # None: not a monitor's stream
        if has_picture:
            return self._pipe([Lines(lambda line: print_line(file, line))])
        if given is not None or has_picture is not None or isinstance(file, io.TextIOWrapper):
            with contextlib.suppress(OSError, AttributeError, ValueError):
                return int(file.fileno())
        return self._pipe([FileSink(file)])

    def _pipe(self, sinks: list[Sink]) -> int:
        read_end, write_end = os.pipe()
        self._keep(write_end)
        self._pipes.add(write_end)
        if self._alive is not None:
            sinks = [*sinks, SignOfLife(self._alive)]
        self._streams[read_end] = Stream(read_end, sinks, self)
        return write_end

    def _keep(self, descriptor: int) -> int:
        self._theirs.append(descriptor)
        return descriptor

    # ---- while it runs

    def started(self, exit_descriptor: int) -> None:
        """Close this program's copies of what the process has now, and begin to watch."""
        self._close_theirs()
        self._exit_descriptor = exit_descriptor
        if self._selector is not None:
            self._selector.register(exit_descriptor, selectors.EVENT_READ)
            for stream in self._streams.values():
                self._selector.register(stream.descriptor, selectors.EVENT_READ, stream)
                stream.is_watched = True

    async def until_exited(self, wait: Wait, deadline: float) -> bool:
        """Pass on output until the process has exited; return False at the deadline, or when a sink fails."""
        if self._selector is None:
            self._exited = self._exited or await wait(self._exit_descriptor, deadline)
            return self._exited
        while not self._exited and (self.ending or self.error is None):
            if not await self._pass_on_ready(self._selector, wait, deadline):
                break
        return self._exited

    async def until(self, wait: Wait, deadline: float) -> None:
        """Pass on output until the deadline; the process has exited, but not all of its group."""
        selector = self._selector
        while selector is not None and selector.get_map() and await self._pass_on_ready(selector, wait, deadline):
            pass

    async def _pass_on_ready(self, selector: Any, wait: Wait, deadline: float) -> bool:
        if not await wait(selector.fileno(), deadline):
            return False
        self.pass_on()
        return True

    def pass_on(self) -> None:
        """Pass on what output there is, and see whether the process has exited."""
        if self._selector is None:
            return
        for key, _ in self._selector.select(0):
            if key.data is None:
                self._selector.unregister(key.fd)
                self._exited = True
            elif not key.data.read(PATIENCE):
                self._finish(key.data)

    def _finish(self, stream: Stream) -> None:
        if self._selector is not None and stream.is_watched:
            self._selector.unregister(stream.descriptor)
        del self._streams[stream.descriptor]
        stream.finish()

    # ---- when it has ended

    def close(self) -> None:
        """Read what is left in the pipes, and close them, even if a process still holds the other end."""
        self._close_theirs()
        for stream in tuple(self._streams.values()):
            if stream.is_watched:
                stream.read()
            self._finish(stream)
        if self._selector is not None:
            self._selector.close()
            self._selector = None

    def kept(self, name: str) -> bytes | Spool | None:
        """Return the captured output of a stream, or None if it was not captured."""
        capture = self._captures.get(name)
        return None if capture is None else capture.kept()

    def _close_theirs(self) -> None:
        for descriptor in self._theirs:
            os.close(descriptor)
        self._theirs.clear()


def print_line(file: Any, line: str) -> None:
    """Print a line of a command; characters that the stream cannot encode are escaped."""
    encoding = file.encoding or "utf-8"
    file.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def open_output(path: Any, *, anew: bool = False) -> int:
    """Open a file that output is appended to, empty if it is to begin anew, and make its parent directories."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | (os.O_TRUNC if anew else 0)
    try:
        return os.open(path, flags, 0o666)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        return os.open(path, flags, 0o666)


def _filled_file(data: Any) -> int:
    """Return the descriptor of a nameless file with this content; unlike a pipe, nothing has to feed it."""
    with tempfile.TemporaryFile(buffering=0) as file:
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]
        file.seek(0)
        return os.dup(file.fileno())
