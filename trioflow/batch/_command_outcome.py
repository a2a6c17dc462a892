"""The outcome of a command: how it ended, in the terms of a shell, of GNU parallel and of a summary."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import BinaryIO, Final, Literal

from .. import CommandError, CommandResult, JobCancelled, JobTimeout, SshError, Unreachable
from ..abc import fit
from ..jobs.command._output_sinks import SPOOL_LIMIT_BYTES
from ..jobs.command._result import MAX_COMMAND_LENGTH, text_with_notes
from ..jobs.posix._processes import describe_exit

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
    """The outcome of a command's last attempt.

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
        in_shell: whether a shell ran the command line.

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
    in_shell: bool = False

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
        if isinstance(self.error, JobCancelled):
            return KILLED_EXIT_VALUE
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
        if isinstance(self.error, JobTimeout | JobCancelled):
            return f"{self.reason}: {shorten_line(self.command)}"
        if isinstance(self.error, Unreachable):
            return ""  # the batch reports each unreachable node once
        if isinstance(self.error, CommandError) and self.result is not None:
            return ""
        if isinstance(self.error, (CommandError, SshError)):
            return text_with_notes(self.error)
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
