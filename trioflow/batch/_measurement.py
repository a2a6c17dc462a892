"""Measurements of commands: CPU times, and the peak memory even of commands that take less than trioflow itself."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Sequence
from typing import Final

from .. import CommandResult
from .. import _posix as posix
from ..jobs.command._result import with_usage
from ..jobs.posix._processes import ReportedUsage
from . import _measure_script


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

    def measured(self, result: CommandResult, slot: int) -> CommandResult:
        record = posix.pread(self._descriptor, _measure_script.RECORD_SIZE, slot * _measure_script.RECORD_SIZE)
        fields = record.rstrip(b"\0").split()
        if len(fields) != 6:  # it was killed before it could report
            return result
        seconds, user, system = map(float, fields[1:4])
        peak, floor = map(int, fields[4:])
        elapsed = seconds if fields[0] == b"F" else result.elapsed
        return with_usage(result, elapsed, ReportedUsage(user, system, peak), floor)
