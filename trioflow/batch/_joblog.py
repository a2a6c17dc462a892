"""The outcome of a command, and its line in a job log, in GNU parallel's columns."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from typing import BinaryIO, Final, Literal

from .. import CommandError, CommandResult, JobTimeout, SshError, Unreachable
from .. import _posix as posix
from ..jobs.command._output_sinks import write_all
from ..jobs.command._result import MAX_COMMAND_LENGTH
from ..jobs.posix._processes import describe
from . import BatchError

COLUMNS: Final = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand"
CUT_OFF: Final = "\0\n"
"""The end written to a line that a crash has cut off, so that its command is not read as a shorter, wrong one."""
KILLED: Final = -1
"""The exit value of a command ended by trioflow."""

NOT_STARTED: Final = 126
SIGNALLED: Final = 128
NEVER: Final = 255
"""Exit codes. Shells have 126 for a program that cannot be started, and 128 plus its number for a signal; 255 is for
commands ended by trioflow, and for nodes that are unreachable or were lost."""


@dataclass(frozen=True, slots=True)
class CommandOutcome:
    r"""The outcome of a command's last attempt.

    Example:
        >>> CommandOutcome(3, "nothing", None, FileNotFoundError(), 1795174043.25, 0.5).line()
        '3\t:\t1795174043.250\t     0.500\t0\t0\t126\t0\tnothing\n'

    """

    sequence: int
    command: str
    result: CommandResult | None  # None if it was not started
    error: Exception | None
    started: float  # seconds since 1970
    runtime: float
    restored: bool = False  # from a journal: it did not run
    received: int = 0  # bytes of its standard output that came through this program
    host: str = ":"  # this machine

    def line(self) -> str:
        """Return the command's line in a job log; an end of line inside the command becomes a NUL."""
        columns = (
            self.sequence, self.host, f"{self.started:.3f}", f"{self.runtime:10.3f}", 0, self.received,
            self.exit_value, self.signal, self.command.replace("\n", "\0"),
        )  # fmt: skip
        return "\t".join(map(str, columns)) + "\n"

    @property
    def failed(self) -> bool:
        """Whether the command failed."""
        return self.error is not None

    @property
    def signal(self) -> int:
        """The number of the signal that ended the command, or 0."""
        return int(self.result.signal or 0) if self.result else 0

    @property
    def exit_value(self) -> int:
        """The exit code for a job log: -1 if trioflow ended the command, 0 if any other signal did."""
        if isinstance(self.error, SshError):
            return NEVER
        if isinstance(self.error, JobTimeout):
            return KILLED
        if self.result is None:
            return NOT_STARTED
        if self.error is not None and not isinstance(self.error, CommandError):
            return KILLED
        return 0 if self.signal else self.result.returncode

    @property
    def code(self) -> int:
        """The exit code that a shell would report."""
        if self.exit_value == KILLED:
            return NEVER
        return SIGNALLED + self.signal if self.signal else self.exit_value

    @property
    def remark(self) -> str:
        """The message to print besides the command's own output; empty for an exit code or a signal."""
        if isinstance(self.error, JobTimeout):
            return f"{self.reason}: {shorten_line(self.command)}"
        if isinstance(self.error, Unreachable):
            return ""  # reported once for the node
        if self.error is None or (isinstance(self.error, CommandError) and self.result is not None):
            return ""
        return f"{shorten_line(self.command)}: {self.error}" if isinstance(self.error, OSError) else str(self.error)

    @property
    def reason(self) -> str:
        """The reason of a failure."""
        if isinstance(self.error, JobTimeout):
            return "ended by --timeout" if self.error.missing is None else "ended by --idle-timeout"
        if self.result is not None and isinstance(self.error, CommandError):
            return describe(self.result.returncode)
        return str(self.error)


def outputs(result: CommandResult | None) -> tuple[BinaryIO, BinaryIO]:
    """Return the captured standard output and standard error of a command."""
    return _captured(result, "stdout"), _captured(result, "stderr")


def _captured(result: CommandResult | None, stream: Literal["stdout", "stderr"]) -> BinaryIO:
    try:
        return io.BytesIO() if result is None else result.open(stream)
    except ValueError:  # it was not captured
        return io.BytesIO()


def shorten_line(line: str) -> str:
    """Return a command line as messages show it: at most a few lines of it."""
    return line if len(line) <= MAX_COMMAND_LENGTH else line[:MAX_COMMAND_LENGTH] + "..."


class LogFile:
    """A file that is written as the batch runs. Each write goes to the system at once, so that a crash loses none.

    Args:
        path: the file.
        what: its name in errors.
        append: whether to keep the contents of an existing file.

    Raises:
        BatchError: it cannot be written.

    """

    def __init__(self, path: str, what: str, *, append: bool) -> None:
        self._name: Final = f"{what} {path!r}"
        try:
            flags = os.O_RDWR if append else os.O_WRONLY | os.O_TRUNC
            self.descriptor: Final = os.open(path, flags | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            raise self._unwritable(error) from None

    def write(self, data: bytes) -> None:
        """Write whole lines.

        Raises:
            BatchError: they cannot be written.

        """
        try:
            write_all(self.descriptor, data)
        except OSError as error:
            raise self._unwritable(error) from None

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)

    def _unwritable(self, error: OSError) -> BatchError:
        return BatchError(f"cannot write {self._name}: {error.strerror}")


class Joblog(LogFile):
    """The job log: a file with a line for each command, in GNU parallel's columns."""

    def __init__(self, path: str, *, append: bool) -> None:
        """Open the file, and write the header if it is new.

        Raises:
            BatchError: it cannot be written.

        """
        super().__init__(path, "the job log", append=append)
        try:
            self.write(self._first_text().encode())
        except BaseException:
            self.close()
            raise

    def add(self, outcome: CommandOutcome) -> None:
        """Write the line of a command.

        Raises:
            BatchError: it cannot be written.

        """
        self.write(os.fsencode(outcome.line()))

    def _first_text(self) -> str:
        """Return the text to write first: the header, or the end of a line that a crash has cut off."""
        size = os.fstat(self.descriptor).st_size
        if size == 0:
            return COLUMNS + "\n"
        return "" if posix.pread(self.descriptor, 1, size - 1) == b"\n" else CUT_OFF
