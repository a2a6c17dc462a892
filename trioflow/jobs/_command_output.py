"""The three standard streams of one run of a command: opened before it starts, pumped while it runs.

What passes through this program goes through pipes. One selector watches them and the end of the process; being a
descriptor itself it is what the event loop waits for. So one task does it all, in the same order on both backends.
"""

from __future__ import annotations

import contextlib
import io
import os
import selectors
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ._command_capture import Capture, Lines, Onwards, Sink, Spool
from ._command_options import is_path

if TYPE_CHECKING:
    from ._command import CommandJob
    from ._waiting import Wait

PIECE: Final = 1 << 16
"""Bytes that are read at once."""
PIECES: Final = 16
"""Pieces that are read from one pipe before others get their turn; a pipe holds no more by default, or at most."""


class Stream:
    """One pipe that a command writes to, and where that goes."""

    __slots__ = ("_owner", "_sinks", "descriptor", "is_watched")

    def __init__(self, descriptor: int, sinks: list[Sink], owner: Streams) -> None:
        """Take the read end."""
        os.set_blocking(descriptor, False)
        self.descriptor: Final = descriptor
        self._sinks: Final = sinks
        self._owner: Final = owner
        self.is_watched = False  # a process writes to it

    def read(self) -> bool:
        """Pass on what is there; tell whether there may be more to come."""
        for _ in range(PIECES):
            try:
                data = os.read(self.descriptor, PIECE)
            except BlockingIOError:
                return True
            if not data:
                return False
            self._pass_on("write", data)
        return True

    def finish(self) -> None:
        """Take note that there is no more."""
        os.close(self.descriptor)
        self._pass_on("finish")

    def _pass_on(self, method: str, *data: bytes) -> None:
        """Give the data to all sinks; after the first error of one to none any more."""
        if self._owner.error is not None:
            return
        try:
            for sink in self._sinks:
                getattr(sink, method)(*data)
        except Exception as error:
            self._owner.error = error


class Streams:
    """What one process gets as its standard streams, and what comes out of those that are pipes."""

    def __init__(self, job: CommandJob, stdin: Any) -> None:
        """Open all of it.

        Raises:
            OSError: a file can't be opened, or there are no more descriptors.

        """
        self._job: Final = job
        self._theirs: Final[list[int]] = []  # to be closed when the process has them
        self._streams: Final[dict[int, Stream]] = {}
        self._selector: selectors.BaseSelector | None = None
        self._captures: Final[dict[str, Capture]] = {}
        self._exited = False
        self._exit_descriptor = -1
        self.ending = False  # from here on an error of a sink keeps nobody from waiting
        self.error: BaseException | None = None  # what a sink raised: a callback, or a full disk
        try:
            self.stdin: Final = self._open_input(stdin)
            self.stdout: Final = self._open_output("stdout", job._how.stdout)
            self.stderr: Final = self._open_output("stderr", job._how.stderr)
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
        how = self._job._how
        if given == subprocess.STDOUT:
            return subprocess.STDOUT if self.stdout is None else self.stdout
        if given == subprocess.DEVNULL:
            return subprocess.DEVNULL
        sinks: list[Sink] = []
        if given == subprocess.PIPE:
            self._captures[name] = Capture()
            sinks.append(self._captures[name])
        if how.goes_by_lines:
            sinks += [Lines(take) for take in _takers(self._job, name)]
        if sinks:
            return self._pipe(sinks)
        if isinstance(given, int):
            return given
        if is_path(given):
            return self._keep(_open_to_append(given))
        return self._inherit(name, given)

    def _inherit(self, name: str, given: Any) -> int | None:
        """Return the descriptor of an open file; without one, of a pipe that is written on there.

        None is where `print` goes. In a notebook, or under a test that captures, this is no descriptor of the system,
        even if what stands there tells one; and above a monitor's picture it is better not taken for one.
        """
        file = getattr(sys, name) if given is None else given
        if file is None:  # a program without a terminal
            return subprocess.DEVNULL
        if given is None and file is getattr(sys, f"__{name}__"):
            return None
        has_picture = getattr(file, "has_picture", None)  # a monitor's has or has not, others have no such thing
        if has_picture:  # on the terminal itself it would go into the picture
            return self._pipe([Lines(lambda line: _print_on(file, line))])
        if given is not None or has_picture is not None or isinstance(file, io.TextIOWrapper):
            with contextlib.suppress(OSError, AttributeError, ValueError):
                return int(file.fileno())
        return self._pipe([Onwards(file)])

    def _pipe(self, sinks: list[Sink]) -> int:
        read_end, write_end = os.pipe()
        self._keep(write_end)
        self._streams[read_end] = Stream(read_end, sinks, self)
        return write_end

    def _keep(self, descriptor: int) -> int:
        self._theirs.append(descriptor)
        return descriptor

    # ---- while it runs

    def started(self, exit_descriptor: int) -> None:
        """Let go of what the process has now, and begin to watch."""
        self._close_theirs()
        self._exit_descriptor = exit_descriptor
        if self._selector is not None:
            self._selector.register(exit_descriptor, selectors.EVENT_READ)
            for stream in self._streams.values():
                self._selector.register(stream.descriptor, selectors.EVENT_READ, stream)
                stream.is_watched = True

    async def until_exited(self, wait: Wait, deadline: float) -> bool:
        """Pump until the process has exited; False at the deadline, or at an error of a sink."""
        if self._selector is None:
            self._exited = self._exited or await wait(self._exit_descriptor, deadline)
            return self._exited
        while not self._exited and (self.ending or self.error is None):
            if not await self._pump(self._selector, wait, deadline):
                break
        return self._exited

    async def until(self, wait: Wait, deadline: float) -> None:
        """Pump until the deadline; the process has exited, but not all of its group."""
        while (
            self._selector is not None and self._selector.get_map() and await self._pump(self._selector, wait, deadline)
        ):
            pass

    async def _pump(self, selector: Any, wait: Wait, deadline: float) -> bool:
        if not await wait(selector.fileno(), deadline):
            return False
        for key, _ in selector.select(0):
            if key.data is None:
                selector.unregister(key.fd)
                self._exited = True
            elif not key.data.read():
                self._finish(key.data)
        return True

    def _finish(self, stream: Stream) -> None:
        if self._selector is not None and stream.is_watched:
            self._selector.unregister(stream.descriptor)
        del self._streams[stream.descriptor]
        stream.finish()

    # ---- when it has ended

    def close(self) -> None:
        """Read what is in the pipes, and no more: who still holds them, does so in vain."""
        self._close_theirs()
        for stream in tuple(self._streams.values()):
            if stream.is_watched:
                stream.read()
            self._finish(stream)
        if self._selector is not None:
            self._selector.close()
            self._selector = None

    def kept(self, name: str) -> bytes | Spool | None:
        """Return what was captured of a stream; None if it was not."""
        capture = self._captures.get(name)
        return None if capture is None else capture.kept()

    def _close_theirs(self) -> None:
        for descriptor in self._theirs:
            os.close(descriptor)
        self._theirs.clear()


def _takers(job: CommandJob, name: str) -> list[Callable[[str], object]]:
    """Return what gets each line."""
    how, takers = job._how, list[Callable[[str], object]]()
    if how.on_line is not None:
        on_line = how.on_line
        takers.append(lambda line: on_line(job, line))
    if how.tag:
        prefix = how.tag if isinstance(how.tag, str) else f"{job.label}: "
        takers.append(lambda line: print(prefix + line, file=getattr(sys, name)))
    return takers


def _print_on(file: Any, line: str) -> None:
    """Print a line of a command, whatever it has in it: what the stream cannot encode is escaped."""
    encoding = file.encoding or "utf-8"
    file.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def _open_to_append(path: Any) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o666)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        return os.open(path, flags, 0o666)


def _filled_file(data: Any) -> int:
    """Return the descriptor of a nameless file with this in it: it needs nobody to feed a pipe."""
    with tempfile.TemporaryFile(buffering=0) as file:
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]
        file.seek(0)
        return os.dup(file.fileno())
