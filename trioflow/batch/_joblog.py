"""The job log: a line for each command that has run, in GNU parallel's columns; and what an earlier log says."""

from __future__ import annotations

import collections
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from . import BatchError

HEADER: Final = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n"
KILLED: Final = -1
"""The exit value of a command that trioflow ended."""


@dataclass(frozen=True, slots=True)
class Entry:
    r"""One line of a job log.

    Example:
        >>> Entry(3, 1795174043.25, 0.5, 12, 1, 0, "false").line()
        '3\t:\t1795174043.250\t     0.500\t0\t12\t1\t0\tfalse\n'

    """

    sequence: int
    started: float  # seconds since 1970
    runtime: float
    received: int  # bytes of its standard output
    exit_value: int
    signal: int
    command: str
    host: str = ":"  # this machine

    def line(self) -> str:
        """Return the line as it is written; an end of line inside the command becomes a NUL."""
        columns = (
            self.sequence, self.host, f"{self.started:.3f}", f"{self.runtime:10.3f}", 0, self.received,
            self.exit_value, self.signal, self.command.replace("\n", "\0"),
        )  # fmt: skip
        return "\t".join(map(str, columns)) + "\n"

    @property
    def failed(self) -> bool:
        """Whether the command did not succeed."""
        return bool(self.exit_value or self.signal)


def entries(lines: Iterable[str]) -> Iterator[Entry]:
    """Yield the entries of a job log; lines that a crash has cut off, or that are no entries, are skipped."""
    for line in lines:
        columns = line.split("\t", 8)
        if len(columns) == 9 and line.endswith("\n"):
            sequence, host, started, runtime, _, received, exit_value, signal, command = columns
            try:
                yield Entry(
                    int(sequence), float(started), float(runtime), int(received), int(exit_value), int(signal),
                    command[:-1].replace("\0", "\n"), host,
                )  # fmt: skip
            except ValueError:  # the header
                continue


class Done:
    """The commands that need not run again; one that is twice in a batch must have run twice."""

    def __init__(self, former: Iterable[Entry] = (), *, failed_again: bool = False) -> None:
        """Count the entries of an earlier log; with `failed_again` only successes count."""
        runs = {(entry.sequence, entry.command) for entry in former if not (failed_again and entry.failed)}
        self._times: Final = collections.Counter(command for _, command in runs)

    def __contains__(self, command: object) -> bool:
        return self._times[str(command)] > 0

    def take(self, command: str) -> bool:
        """Return whether this command is done, and if so, use that entry up."""
        found = command in self
        if found:
            self._times[command] -= 1
        return found


class Joblog:
    """A log that is being written. Each line is written at once, so that a crash loses none."""

    def __init__(self, path: str, *, append: bool) -> None:
        """Open the file, and write the header if it is new.

        Raises:
            BatchError: it cannot be written.

        """
        self._path: Final = path
        try:
            flags = os.O_RDWR if append else os.O_WRONLY | os.O_TRUNC
            self._descriptor: Final = os.open(path, flags | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            self._write(self._beginning())
        except BaseException:
            self.close()
            raise

    def add(self, entry: Entry) -> None:
        """Write a line for an entry.

        Raises:
            BatchError: it cannot be written.

        """
        self._write(entry.line())

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _beginning(self) -> str:
        """Return what must be written first: the header, or the end of a line that a crash has cut off."""
        size = os.fstat(self._descriptor).st_size
        if size == 0:
            return HEADER
        return "" if os.pread(self._descriptor, 1, size - 1) == b"\n" else "\n"

    def _write(self, text: str) -> None:
        data = os.fsencode(text)
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> BatchError:
        return BatchError(f"cannot write the job log {self._path!r}: {error.strerror}")


def done(path: str, *, failed_again: bool = False) -> Done:
    """Return the commands that an earlier log says are done; none if there is no such file.

    Raises:
        BatchError: it cannot be read.

    """
    try:
        with open(path, encoding=sys.getfilesystemencoding(), errors="surrogateescape", newline="\n") as file:
            return Done(entries(file), failed_again=failed_again)
    except FileNotFoundError:
        return Done()
    except OSError as error:
        raise BatchError(f"cannot read the job log {path!r}: {error.strerror}") from None
