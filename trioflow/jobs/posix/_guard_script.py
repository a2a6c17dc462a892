"""The guard's program after the death of the controller: kill the remaining processes of the run.

This is a separate program that uses only the standard library. The sweep at the end of a run imports it too. It
finds a process by its group, which the controller has entered into a table, or by the mark of the run in its
environment: children inherit that, whatever session or group they move to.
"""

import contextlib
import mmap
import os
import signal
import sys
import time
from collections.abc import Iterable

PATIENCE = 10.0  # seconds after which it gives up on processes that cannot be killed
PAUSE = 0.005  # seconds between two scans of all processes
ROUNDS = 50  # the most scans for new processes, on a machine that starts some all the time


def find_marked(mark: bytes) -> list[int]:
    """Return the pids of the processes whose environment contains `mark`.

    A program that daemonizes itself forks and exits twice. It may exit before it is scanned, and its child may not have
    been listed yet. So the scan is repeated for new processes, until there are none.
    """
    pids: list[int] = []
    seen: set[str] = set()
    for _ in range(ROUNDS):
        new = processes() - seen
        if not new:
            break
        pids += [int(name) for name in new if mark in environment(name)]
        seen |= new
    return pids


def processes() -> set[str]:
    """Return the pids of all processes, as text; none on a system without /proc."""
    return set(filter(str.isdigit, os.listdir("/proc"))) if os.path.isdir("/proc/self") else set()


def environment(name: str) -> bytes:
    """Return the environment of a process; empty if it may not be read."""
    with contextlib.suppress(OSError), open("/proc/" + name + "/environ", "rb") as file:
        return file.read()
    return b""


def end(pids: Iterable[int], number: int) -> None:
    """Send a signal to processes as if simultaneously.

    They are stopped first. Otherwise a shell whose command ends a moment before it does would start its next command.
    """
    if sys.platform == "win32":
        return
    for step in (signal.SIGSTOP, number, signal.SIGCONT):
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(pid, step)


def groups(descriptor: int) -> list[int]:
    """Return the process groups in the table, one for each running command."""
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as table, memoryview(table) as view, view.cast("i") as all_:
        return [number for number in all_[: all_[0] + 1].tolist()[1:] if number]


def main(descriptor: int, mark: bytes) -> None:
    """Kill all groups in the table, then all processes with the mark, until none is left."""
    if sys.platform == "win32":
        return
    for group in groups(descriptor):
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)
    until = time.monotonic() + PATIENCE
    left = find_marked(mark)
    while left and time.monotonic() < until:
        end(left, signal.SIGKILL)
        time.sleep(PAUSE)
        left = find_marked(mark)


if __name__ == "__main__":
    main(int(sys.argv[1]), os.fsencode(sys.argv[2]))
