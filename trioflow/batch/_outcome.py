"""What has become of a command: its exit code, as a shell has it and as a job log has it, and a word about it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import BinaryIO, Final

from .._core._errors import JobTimeout
from ..jobs._command_result import CommandError, CommandResult
from ._joblog import KILLED

NOT_STARTED: Final = 126
SIGNALLED: Final = 128
NEVER: Final = 255
"""Exit codes that shells have for a program that cannot be started and one that a signal has ended; and for neither."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the last attempt of a command ended."""

    result: CommandResult | None  # None if it was not started
    error: Exception | None
    started: float
    runtime: float

    @property
    def failed(self) -> bool:
        """Whether it has not succeeded."""
        return self.error is not None

    @property
    def signal(self) -> int:
        """The number of the signal that has ended it, or 0."""
        return int(self.result.signal or 0) if self.result else 0

    @property
    def exit_value(self) -> int:
        """Its exit code for a job log: -1 where we have ended it, and 0 where another signal has."""
        if self.result is None:
            return NOT_STARTED
        if self.error is not None and not isinstance(self.error, CommandError):
            return KILLED
        return 0 if self.signal else self.result.returncode

    @property
    def code(self) -> int:
        """Its exit code as a shell would have it."""
        if self.exit_value == KILLED:
            return NEVER
        return SIGNALLED + self.signal if self.signal else self.exit_value

    def remark(self, line: str) -> str:
        """Return what is to be said of it in addition to its own output; nothing for an exit code or a signal."""
        if isinstance(self.error, JobTimeout):
            return f"ended by --timeout: {line}"
        if self.error is None or (isinstance(self.error, CommandError) and self.result is not None):
            return ""
        return str(self.error)

    @property
    def outputs(self) -> tuple[BinaryIO, BinaryIO]:
        """What it has written to its standard output, and to its standard error."""
        if self.result is None:
            return io.BytesIO(), io.BytesIO()
        return self.result.open("stdout"), self.result.open("stderr")

    @property
    def received(self) -> int:
        """How many bytes it has written to its standard output."""
        return len(self.result._stdout or b"") if self.result else 0
