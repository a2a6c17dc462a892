"""`Process`: what a job's `proc` is, with those names of `subprocess.Popen` that make sense for it."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal

from ._waiting import wait

if TYPE_CHECKING:
    from ... import CommandResult


class Process:
    """The process of a job, as `subprocess.Popen` would show it.

    What it writes to a `PIPE` is read while it runs, so it never waits for a reader; `stdout` and `stderr` give all of
    it when it has ended.

    Attributes:
        args: the program and its arguments.
        pid: its number; None where it had gone before it could be looked at, because this program ignores SIGCHLD.
        returncode: None while it runs; then the exit code, below 0 for a signal.

    """

    def __init__(self, args: Sequence[Any], pid: int | None, send: Callable[[int], None]) -> None:
        self.args: Final = args
        self.pid: Final = pid
        self.returncode: int | None = None
        self._send: Final = send
        self._ended: Final = threading.Event()
        self._files: dict[str, BinaryIO] = {}
        self._result: CommandResult | None = None

    def _end(self, result: CommandResult | None, piped: Iterable[Literal["stdout", "stderr"]]) -> None:
        """Take in how it has ended; None where nobody knows, which is 0 as in `subprocess`."""
        self._result = result
        if result is not None:
            self._files = {name: result.open(name) for name in piped}
        self.returncode = 0 if result is None else result.returncode
        self._ended.set()

    def _text(self, name: str) -> str | None:
        """Return what was captured of a stream, wherever its file has been read to."""
        if self._result is None or name not in self._files:
            return None
        return (getattr(self._result, name) or b"").decode(errors="replace")

    # ---- as of Popen

    @property
    def stdout(self) -> BinaryIO | None:
        """What it wrote to its standard output, a file to read from, if that was a PIPE; waits until it has ended."""
        wait(self._ended)
        return self._files.get("stdout")

    @property
    def stderr(self) -> BinaryIO | None:
        """The same of its standard error."""
        wait(self._ended)
        return self._files.get("stderr")

    def poll(self) -> int | None:
        """Return the exit code; None while it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended, and return the exit code.

        Args:
            timeout: seconds; None for no limit.

        Raises:
            subprocess.TimeoutExpired: it has not ended in time; it goes on.

        """
        if not wait(self._ended, timeout):
            assert timeout is not None
            raise subprocess.TimeoutExpired(list(self.args), timeout)
        assert self.returncode is not None
        return self.returncode

    def communicate(self) -> tuple[bytes | None, bytes | None]:
        """Return what it wrote to its standard output and its standard error; None for what was no PIPE."""
        stdout, stderr = self.stdout, self.stderr
        return None if stdout is None else stdout.read(), None if stderr is None else stderr.read()

    def send_signal(self, number: int) -> None:
        """Send it a signal, as long as it runs; it alone, not its children.

        Raises:
            ValueError: there is no such signal.

        """
        known = signal.Signals(number)
        if self.returncode is None:
            self._send(known)

    def terminate(self) -> None:
        """Send it SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send it SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def __repr__(self) -> str:
        """Show how it ended, and what it is."""
        return f"<Process: returncode: {self.returncode} args: {self.args!r}>"
