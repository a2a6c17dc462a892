"""Real processes for tests: trees that resist their end, and a way to find which of them are alive."""

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
import pytest
from ...places import PATIENCE

VARIABLE = "TRIOFLOW_TEST"

TREE = 'sh -c "sh -c \\"sleep 1000 & exec sleep 1000\\" & exec sleep 1000" & exec sleep 1000'
"""Four processes on three levels."""
STUBBORN = f'trap "" TERM; {TREE}'
"""The processes of `TREE`, all of which ignore SIGTERM."""
FORKING = 'trap "" TERM; while :; do sleep 0.02 & sleep 0.01; done'
"""A shell that ignores SIGTERM, and starts other processes without end."""


class Watched:
    """Finds the processes that a test has started, by a variable in their environment that they inherit. Processes that
    there were before are not looked at: to read their environments takes most of the time."""

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex
        self._before = numbers()

    def alive(self) -> list[str]:
        return [line for line in map(command_line, self.processes()) if line]

    def processes(self) -> list[Path]:
        new = numbers() - self._before
        return [path for name in new if self._is_ours(path := Path("/proc", name))]

    def commands(self) -> list[str]:
        return [line for line in self.alive() if "_guard_script" not in line]

    def gone_in_time(self) -> bool:
        """Wait until no process is alive; return whether that was so before `PATIENCE` ended."""
        end, pause = time.monotonic() + PATIENCE, 0.005
        while self.alive():
            if time.monotonic() > end:
                return False
            time.sleep(pause)
            pause = min(
                0.1, 2 * pause
            )  # to look at all processes takes a core as long as a short pause
        return True

    def kill(self) -> None:
        for path in self.processes():
            with contextlib.suppress(OSError):
                os.kill(int(path.name), signal.SIGKILL)

    def _is_ours(self, path: Path) -> bool:
        try:
            return self.mark.encode() in (path / "environ").read_bytes()
        except OSError:
            return False


def numbers() -> set[str]:
    """Return the numbers of all processes, or none on a system without /proc."""
    names: list[str] = []
    with contextlib.suppress(OSError):
        names = os.listdir("/proc")
    return {*filter(str.isdigit, names)}


def command_line(path: Path) -> str:
    """Return the command line of the process with this directory in /proc."""
    try:
        return (
            (path / "cmdline")
            .read_bytes()
            .replace(b"\0", b" ")
            .decode(errors="replace")
            .strip()
        )
    except OSError:
        return ""


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    """Mark what the test starts, in its environment, and kill what is left of it after the test."""
    watched = Watched()
    monkeypatch.setenv(VARIABLE, watched.mark)
    yield watched
    watched.kill()


def until_there(*paths: Path) -> None:
    end = time.monotonic() + PATIENCE
    while not all(path.exists() for path in paths):
        assert time.monotonic() < end, (
            f"never came: {[path for path in paths if not path.exists()]}"
        )
        time.sleep(0.002)
