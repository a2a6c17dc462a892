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

from trioflow.jobs.posix._guard_script import find_marked_pids

GRACE: Final = 0.2
"""The number of seconds in which what a run has used may go away, such as the idle threads of anyio."""
MARK_VARIABLE: Final = "TRIOFLOW_CHECKED"


class Leftovers:
    """The threads, processes and open files that were not there before.

    Processes are found by a mark in their environment, and open files by their descriptors, where the system has
    `/proc`.
    """

    def __init__(self, mark: str) -> None:
        self._mark: Final = mark.encode()
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
        processes = {f"the process {pid} ({_command_line(pid)})" for pid in find_marked_pids(self._mark)}
        return threads | processes | _open_files()


@contextlib.contextmanager
def marked_environment() -> Generator[str]:
    """Mark the processes that are started meanwhile, and yield the mark."""
    mark = os.environ[MARK_VARIABLE] = uuid.uuid4().hex
    try:
        yield mark
    finally:
        del os.environ[MARK_VARIABLE]


def _is_idle(thread: threading.Thread) -> bool:
    return thread.name.startswith("Trio thread ")  # trio keeps it for ten seconds, and renames it while it works


def _command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ").strip()
    return ""


def _open_files() -> set[str]:
    found: set[str] = set()
    for path in Path("/proc/self/fd").glob("*"):
        with contextlib.suppress(OSError):  # that of this very directory is closed by now
            found.add(f"the open file {path.name} ({path.readlink()})")
    return found
