"""Measurements of commands: CPU times, and the peak memory even of commands that take less than trioflow itself."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Sequence
from typing import Final

from .. import CommandJob, CommandResult
from .. import _posix as posix
from ..jobs.command._result import with_usage
from ..jobs.posix._process_scans import all_processes
from ..jobs.posix._processes import Process, ReportedUsage
from . import _measure_script


class MeasuredCommandJob(CommandJob):
    """A command that the small program starts.

    Attributes:
        was_alone: whether the command was a single process when trioflow ended it. Then it had waited for all others,
            so that the measured peak includes theirs.

    """

    was_alone = False

    def _terminate(self, process: Process) -> None:
        count = sum(group == process.pid for group, _ in all_processes())
        self.was_alone = count == 2  # the small program and the command
        super()._terminate(process)


class Measurements:
    """The file into which the commands of a batch report what they took, with a record for each slot.

    It has no name, so that nothing is left if this program is killed.
    """

    def __init__(self) -> None:
        self._descriptor: Final[int] = posix.memfd_create("trioflow")
        self._path: Final = f"/proc/{os.getpid()}/fd/{self._descriptor}"
        weakref.finalize(self, os.close, self._descriptor)

    @classmethod
    def create(cls) -> Measurements | None:
        """Return the file, or None if the system does not need it, as on macOS, or cannot have it."""
        return cls() if sys.platform == "linux" and sys.executable and hasattr(os, "memfd_create") else None

    def wrap(self, command: Sequence[str | bytes], slot: int) -> list[str | bytes]:
        offset = slot * _measure_script.RECORD_SIZE
        posix.pwrite(self._descriptor, bytes(_measure_script.RECORD_SIZE), offset)
        script = _measure_script.__file__
        return [sys.executable, "-I", "-S", "-E", script, self._path, str(offset), *command]

    def measured(self, result: CommandResult, slot: int, *, was_alone: bool) -> CommandResult:
        """Return a result with what was measured; `was_alone` is as in `MeasuredCommandJob`."""
        record = posix.pread(self._descriptor, _measure_script.RECORD_SIZE, slot * _measure_script.RECORD_SIZE)
        fields = record.rstrip(b"\0").split()
        if len(fields) != 6:  # it was killed before it could report
            return result
        seconds, user, system = map(float, fields[1:4])
        peak, floor = map(int, fields[4:])
        elapsed = result.elapsed if fields[0] == b"I" else seconds
        if fields[0] == b"T" and not was_alone and peak <= floor:
            peak = floor = 0  # the largest process may have ended before it was seen
        return with_usage(result, elapsed, ReportedUsage(user, system, peak), floor)
