"""The outcome of a command: its exit code, for a shell and for a job log, and a remark about it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import BinaryIO, Final

from .._core.door.reading import JobTimeout
from ..jobs.command._result import LONG, CommandError, CommandResult
from ..jobs.ssh._errors import SshError, Unreachable
from ._joblog import KILLED

NOT_STARTED: Final = 126
SIGNALLED: Final = 128
NEVER: Final = 255
"""Exit codes. Shells have 126 for a program that cannot be started, and 128 plus its number for a signal; 255 is for
what trioflow ended, and for a node that cannot be reached or was lost."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the last attempt of a command ended."""

    result: CommandResult | None  # None if it was not started
    error: Exception | None
    started: float
    runtime: float
    is_restored: bool = False  # from a journal: it did not run

    @property
    def failed(self) -> bool:
        """Whether the command did not succeed."""
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

    def remark(self, line: str) -> str:
        """Return what to print besides the command's own output; empty for an exit code or a signal."""
        if isinstance(self.error, JobTimeout):
            option = "--timeout" if self.error.missing is None else "--idle-timeout"
            return f"ended by {option}: {shown(line)}"
        if isinstance(self.error, Unreachable):
            return ""  # it is said once for the node
        if self.error is None or (isinstance(self.error, CommandError) and self.result is not None):
            return ""
        return f"{shown(line)}: {self.error}" if isinstance(self.error, OSError) else str(self.error)

    @property
    def usage(self) -> tuple[float, float, int | None] | None:
        """CPU seconds of user and system, and the largest memory in bytes; None if it was not started."""
        return None if self.result is None else (self.result.user_time, self.result.system_time, self.result.max_rss)

    @property
    def received(self) -> int:
        """How many bytes the command wrote to its standard output."""
        return len(self.result._stdout or b"") if self.result else 0


def outputs(result: CommandResult | None) -> tuple[BinaryIO, BinaryIO]:
    """Return what a command wrote to its standard output, and to its standard error."""
    return (io.BytesIO(), io.BytesIO()) if result is None else (result.open("stdout"), result.open("stderr"))


def shown(line: str) -> str:
    """Return a command line as messages show it: not more than a few lines of it."""
    return line if len(line) <= LONG else line[:LONG] + "..."
