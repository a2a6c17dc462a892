"""The outcome of a command, and its line in a job log, in GNU parallel's columns."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO, Final, Literal

from .. import CommandError, CommandResult, JobTimeout, SshError, Unreachable
from .. import _posix as posix
from ..abc import fit
from ..jobs.command._output_sinks import SPOOL_LIMIT_BYTES, write_all
from ..jobs.command._result import MAX_COMMAND_LENGTH
from ..jobs.posix._processes import describe_exit
from . import BatchError

JOBLOG_HEADER: Final = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand"
TRUNCATED_LINE_END: Final = "\0\n"
"""The text that completes a line truncated by a crash. The NUL keeps the truncated command from matching a real one."""
KILLED_EXIT_VALUE: Final = -1
"""The exit value in a job log for a command that trioflow ended."""

NOT_FOUND_CODE: Final = 127
NOT_FOUND_PATTERN: Final = re.compile(rb": (command )?not found\b|\bcommand not found: ")
"""How a shell says that it has not found a command. The code alone could also mean that a shared library is missing."""
NOT_STARTED_CODE: Final = 126
SIGNAL_BASE_CODE: Final = 128
KILLED_CODE: Final = 255
"""Exit codes for commands that did not exit by themselves.

As in shells, 126 means that the program could not be started, and 128 plus the number of a signal means that this
signal ended it. 255 means that trioflow ended the command, or that the node was unreachable or lost.
"""


@dataclass(frozen=True, slots=True)
class CommandOutcome:
    r"""The outcome of a command's last attempt.

    Attributes:
        sequence: the number of the command, from 1.
        command: the command line.
        result: the result of the process; None if no process was started.
        error: the error that the command failed with; None if it succeeded.
        start_timestamp: the time of the start, in seconds since 1970.
        runtime: the duration in seconds.
        is_restored: whether the outcome was restored from a journal instead of running the command.
        received_bytes: the number of bytes of standard output that this program has read.
        host: the name of the node; `:` for this machine.
        is_kept: whether a journal with `--keep all` keeps the outcome.

    Example:
        >>> CommandOutcome(3, "nothing", None, FileNotFoundError(), 1795174043.25, 0.5).joblog_line()
        '3\t:\t1795174043.250\t     0.500\t0\t0\t126\t0\tnothing\n'

    """

    sequence: int
    command: str
    result: CommandResult | None
    error: Exception | None
    start_timestamp: float
    runtime: float
    is_restored: bool = False
    received_bytes: int = 0
    host: str = ":"
    is_kept: bool = True

    def joblog_line(self) -> str:
        """Return the command's line in a job log. A newline inside the command becomes a NUL."""
        columns = (
            self.sequence, self.host, f"{self.start_timestamp:.3f}", f"{self.runtime:10.3f}", 0, self.received_bytes,
            self.joblog_exit_value, self.signal, self.command.replace("\n", "\0"),
        )  # fmt: skip
        return "\t".join(map(str, columns)) + "\n"

    @property
    def has_large_output(self) -> bool:
        """Whether it takes so long to save the outputs that a thread should do it."""
        return sum(output.seek(0, io.SEEK_END) for output in open_outputs(self.result)) > SPOOL_LIMIT_BYTES

    @property
    def has_failed(self) -> bool:
        return self.error is not None

    @property
    def signal(self) -> int:
        return int(self.result.signal or 0) if self.result else 0

    @property
    def joblog_exit_value(self) -> int:
        """The exit code in a job log.

        It is 0 if a signal ended the command, -1 if trioflow ended it, 126 if it could not be started, and 255 if its
        node was unreachable or lost. If a timeout has only ended what a failed command has left, it is that command's.
        """
        if isinstance(self.error, SshError):
            return KILLED_CODE
        if isinstance(self.error, JobTimeout):
            own_code = 0 if self.result is None or not self.error.waits else self.result.returncode
            return own_code if own_code > 0 else KILLED_EXIT_VALUE
        if self.result is None:
            return NOT_STARTED_CODE
        if self.error is not None and not isinstance(self.error, CommandError):
            return KILLED_EXIT_VALUE
        return 0 if self.signal else self.result.returncode

    @property
    def table_exit_code(self) -> int | None:
        """The exit code in a table of results: that of a job log, but None if a signal or trioflow ended the command.

        So no crash has the exit code 0 there.
        """
        return None if self.signal or self.joblog_exit_value == KILLED_EXIT_VALUE else self.joblog_exit_value

    @property
    def exit_code(self) -> int:
        """The exit code that a shell would report."""
        if self.joblog_exit_value == KILLED_EXIT_VALUE:
            return KILLED_CODE
        return SIGNAL_BASE_CODE + self.signal if self.signal else self.joblog_exit_value

    @property
    def message(self) -> str:
        """The message to print about a new failure; "" if there is none, or if other output explains it."""
        if self.is_restored or self.error is None:
            return ""
        if isinstance(self.error, JobTimeout):
            return f"{self.reason}: {shorten_line(self.command)}"
        if isinstance(self.error, Unreachable):
            return ""  # the batch reports each unreachable node once
        if isinstance(self.error, CommandError) and self.result is not None:
            return ""
        return f"{shorten_line(self.command)}: {self.error}" if isinstance(self.error, OSError) else str(self.error)

    @property
    def reason(self) -> str:
        """The reason for the failure, in a few words. Read this only if the command failed."""
        if isinstance(self.error, JobTimeout):
            limit = "--timeout" if self.error.missing is None else "--idle-timeout"
            if not self.error.waits or self.result is None:
                return f"ended by {limit}"
            return f"{describe_exit(self.result.returncode)}; what it left running was ended by {limit}"
        if self.result is not None and isinstance(self.error, CommandError):
            is_missing = self.result.returncode == NOT_FOUND_CODE and NOT_FOUND_PATTERN.search(self.error.stderr or b"")
            return describe_exit(self.result.returncode) + ": command not found" * bool(is_missing)
        return str(self.error)

    @property
    def failure_kind(self) -> tuple[object, ...]:
        """A key that is equal for failures of one kind, whose commands share a line in the summary."""
        if isinstance(self.error, JobTimeout) or self.result is not None:
            return (self.reason,)
        cause = None if self.error is None else self.error.__cause__
        return type(self.error), self.host, getattr(cause, "errno", None)


def open_outputs(result: CommandResult | None) -> tuple[BinaryIO, BinaryIO]:
    """Open the captured standard output and standard error of a command. A stream that was not captured is empty."""
    return _open_output(result, "stdout"), _open_output(result, "stderr")


def _open_output(result: CommandResult | None, stream: Literal["stdout", "stderr"]) -> BinaryIO:
    try:
        return io.BytesIO() if result is None else result.open(stream)
    except ValueError:  # the stream was not captured
        return io.BytesIO()


def shorten_line(line: str) -> str:
    return fit(line, MAX_COMMAND_LENGTH, ellipsis="...")


class LogFile:
    """A file that is written while the batch runs. Writes are not buffered, so a crash loses no line.

    Args:
        path: the file.
        description: the kind of file, as it appears before the path in error messages.
        append: whether to keep the contents of an existing file.

    Raises:
        BatchError: the file cannot be written.

    """

    def __init__(self, path: str, description: str, *, append: bool) -> None:
        self._name: Final = f"{description} {path!r}"
        self._path: Final = path
        try:
            flags = os.O_RDWR if append else os.O_WRONLY | os.O_TRUNC
            self.descriptor: Final = os.open(path, flags | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            raise self._make_write_error(error) from None

    def write(self, data: bytes) -> None:
        try:
            write_all(self.descriptor, data)
        except OSError as error:
            raise self._make_write_error(error) from None

    def close(self) -> None:
        os.close(self.descriptor)

    def _reopen(self) -> BinaryIO:
        """Return the file, positioned at its start, for reading."""
        os.lseek(self.descriptor, 0, os.SEEK_SET)
        return open(self.descriptor, "rb", closefd=False)

    def _rewrite(self, records: Iterable[bytes]) -> None:
        """Replace the contents of the file, at once.

        Raises:
            BatchError: the file cannot be written.

        """
        path = os.path.realpath(self._path)
        temporary = f"{path}.{os.getpid()}.tmp"
        try:
            with open(temporary, "wb") as file:
                file.writelines(records)
                posix.fchmod(file.fileno(), os.fstat(self.descriptor).st_mode & 0o7777)
            os.replace(temporary, path)
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise self._make_write_error(error) if isinstance(error, OSError) else error from None

    def _make_write_error(self, error: OSError) -> BatchError:
        return BatchError(f"cannot write {self._name}: {error.strerror}")


class Joblog(LogFile):
    """The job log: a file with a line for each command, in GNU parallel's columns."""

    def __init__(self, path: str, *, append: bool, reads: bool = False) -> None:
        """Open the file; if it is new, write the header.

        Args:
            path: the file.
            append: whether to keep the contents of an existing file.
            reads: whether to read which commands an existing file has.

        Raises:
            BatchError: the file cannot be written.

        """
        super().__init__(path, "the job log", append=append)
        # The lines of earlier batches, as pairs of index and number, by exit value, signal and command.
        self._logged_lines: Final[dict[str, list[tuple[int, int]]]] = {}
        self._renumbered_lines: Final[dict[int, int]] = {}  # the new numbers, by index
        try:
            if reads:
                self._read_lines()
            self.write(self._initial_text().encode())
        except BaseException:
            self.close()
            raise

    def add(self, outcome: CommandOutcome) -> None:
        """Write the line of a command. If an earlier batch has written that of a restored command, only renumber it.

        Raises:
            BatchError: the file cannot be written.

        """
        line, number = outcome.joblog_line(), outcome.sequence
        logged = self._logged_lines.get(_end(line))
        if not (outcome.is_restored and logged):
            self.write(os.fsencode(line))
            return
        # Of several lines, take the one with this number, else the last: others may be of runs that were replaced.
        index, old_number = earlier = max(logged, key=lambda entry: (entry[1] == number, entry[0]))
        logged.remove(earlier)
        if number != old_number:
            self._renumbered_lines[index] = number

    def close(self) -> None:
        """Give the lines of restored commands their numbers in this batch, and close the file."""
        try:
            if self._renumbered_lines:
                with self._reopen() as file:
                    self._rewrite(self._renumbered(index, line) for index, line in enumerate(file))
        finally:
            super().close()

    def _renumbered(self, index: int, line: bytes) -> bytes:
        number = self._renumbered_lines.get(index)
        return line if number is None else b"%d\t%s" % (number, line.split(b"\t", 1)[1])

    def _read_lines(self) -> None:
        with self._reopen() as file:
            for index, line in enumerate(map(os.fsdecode, file)):
                number = line.split("\t", 1)[0]
                if number.isdigit():
                    self._logged_lines.setdefault(_end(line), []).append((index, int(number)))

    def _initial_text(self) -> str:
        """Return the text to write first: in a new file the header, after a crash the end of the truncated line."""
        size = os.fstat(self.descriptor).st_size
        if size == 0:
            return JOBLOG_HEADER + "\n"
        return "" if posix.pread(self.descriptor, 1, size - 1) == b"\n" else TRUNCATED_LINE_END


def _end(line: str) -> str:
    """Return the exit value, the signal and the command of a line of a job log."""
    return line.split("\t", 6)[-1]
