"""`Leftovers`, which finds what a run has left behind in this process and in the processes that it has started."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
import uuid
from collections.abc import Generator
from pathlib import Path
from typing import Final
from trioflow.jobs.posix._guard_script import list_pids, read_environment

GRACE: Final = 0.2
"""The number of seconds in which what a run has used may go away, such as the idle threads of anyio."""
MARK_VARIABLE: Final = "TRIOFLOW_CHECKED"


class Leftovers:
    """The threads, processes and open files that were not there before. Processes are found by a mark in their
    environment, and open files by their descriptors, where the system has `/proc`."""

    def __init__(self, mark: Mark) -> None:
        self._mark: Final = mark
        self._before: Final = self._look()

    def find(self) -> set[str]:
        """Return what is left when `GRACE` is over."""
        deadline = time.monotonic() + GRACE
        while left := self._look() - self._before:
            if time.monotonic() > deadline:
                return left
            gc.collect()  # closes files that only a reference cycle holds
            time.sleep(GRACE / 20)
        return left

    def _look(self) -> set[str]:
        threads = {f"the thread {t.name!r} ({t.native_id})" for t in threading.enumerate() if not _is_idle(t)}
        processes = {f"the process {pid} ({_command_line(pid)})" for pid in self._mark.find()}
        return threads | processes | _open_files()


class Mark:
    """A text in the environment of processes, by which they are found among those that there were not before."""

    def __init__(self) -> None:
        self.text: Final = uuid.uuid4().hex
        self._before: Final = list_pids()  # to read the environments of all takes longer than the run of a job

    def find(self) -> list[str]:
        found: list[str] = []
        scanned = self._before
        while new := list_pids() - scanned:  # again, because a daemon forks, and ends, while it is looked for
            found += [pid for pid in new if self.text.encode() in (read_environment(pid) or b"")]
            scanned = scanned | new
        return found


@contextlib.contextmanager
def marked_environment() -> Generator[Mark]:
    """Mark the processes that are started meanwhile, and yield the mark."""
    mark = Mark()
    os.environ[MARK_VARIABLE] = mark.text
    try:
        yield mark
    finally:
        del os.environ[MARK_VARIABLE]


def _is_idle(thread: threading.Thread) -> bool:
    return thread.name.startswith("Trio thread ")  # trio keeps it for ten seconds, and renames it while it works


def _command_line(pid: str) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ").strip()
    return ""


def _open_files() -> set[str]:
    found: set[str] = set()
    for path in Path("/proc/self/fd").glob("*"):
        with contextlib.suppress(OSError):  # that of this very directory is closed by now
            found.add(f"the open file {path.name} ({path.readlink()})")
    return found
