"""Processes of one's own that are there at once: forked off one that has imported the libraries, not started anew."""

from __future__ import annotations

<<<<<<< HEAD
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any
=======
import contextlib
import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
>>>>>>> 618cc28 (Give commands a session of their own only where there is a terminal; measure them beside their rivals)

CHILD_TIMEOUT = 20.0

forks = multiprocessing.get_context("forkserver")
# pytest, too, because each process imports what was the main module here.
forks.set_forkserver_preload(["pytest", "anyio._backends._asyncio", "anyio._backends._trio", "trioflow.abc", __name__])


<<<<<<< HEAD
def child(code: str, *sends: tuple[str, signal.Signals]) -> list[str]:
    """Run `code` in a new process, send it each signal as soon as it prints the line for it, and return its lines."""
    lines: list[str] = []
    left = list(sends)
    reader, writer = forks.Pipe(duplex=False)
    with reader, forked(code, writer) as process, open(reader.fileno(), closefd=False) as output:
        writer.close()
        for line in output:
            lines.append(line.rstrip("\n"))
            while left and left[0][0] == lines[-1]:
                assert process.pid is not None
                os.kill(process.pid, left.pop(0)[1])
    assert not left, lines
    return lines
=======
class Watched:
    """Finds the processes that a test has started, by a variable in their environment that they inherit."""

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex

    def alive(self) -> list[str]:
        """Return the command lines of those that live."""
        found = [_command_line(path) for path in Path("/proc").glob("[0-9]*") if self._is_ours(path)]
        return [line for line in found if line]

    def commands(self) -> list[str]:
        """Return those of them that are not the guard of a run under way."""
        return [line for line in self.alive() if "_guard_script" not in line]

    def gone_within(self, seconds: float) -> bool:
        """Wait until none lives; False if some do after so many seconds."""
        end = time.monotonic() + seconds
        while self.alive():
            if time.monotonic() > end:
                return False
            time.sleep(0.005)
        return True

    def kill(self) -> None:
        """Kill those that a failed test has left."""
        for path in filter(self._is_ours, Path("/proc").glob("[0-9]*")):
            with contextlib.suppress(OSError):
                os.kill(int(path.name), signal.SIGKILL)

    def _is_ours(self, path: Path) -> bool:
        try:
            return path.name != str(os.getpid()) and self.mark.encode() in (path / "environ").read_bytes()
        except OSError:
            return False
>>>>>>> 618cc28 (Give commands a session of their own only where there is a terminal; measure them beside their rivals)


@contextmanager
def forked(code: str, writer: Connection[Any, Any]) -> Iterator[ForkServerProcess]:
    """A process that runs `code`; it has gone afterwards, by force if it takes too long."""
    process = forks.Process(target=_run, args=(code, writer))
    process.start()
    timer = threading.Timer(CHILD_TIMEOUT, process.kill)
    timer.start()
    try:
        yield process
        process.join()
    finally:
        timer.cancel()
        timer.join()
        process.close()


<<<<<<< HEAD
def _run(code: str, writer: Connection[Any, Any]) -> None:
    sys.stdout = open(writer.fileno(), "w", closefd=False)  # noqa: SIM115 - as long as the process
    exec(code, {"__name__": "__main__"})
=======
@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    """What the test starts has a mark in its environment, and does not outlive it."""
    watched = Watched()
    monkeypatch.setenv(VARIABLE, watched.mark)
    yield watched
    watched.kill()


def until_there(*paths: Path) -> None:
    """Wait until files exist."""
    end = time.monotonic() + PATIENCE
    while not all(path.exists() for path in paths):
        assert time.monotonic() < end, f"never came: {[path for path in paths if not path.exists()]}"
        time.sleep(0.002)
>>>>>>> 618cc28 (Give commands a session of their own only where there is a terminal; measure them beside their rivals)
