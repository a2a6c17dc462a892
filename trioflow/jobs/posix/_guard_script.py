"""What the guard of a run does when the conductor has died: kill all that is left of the run's commands.

It is a program of its own that uses only the standard library. The sweep at the end of a run imports it too. It finds
a process by its group, which the conductor has written into a table, or by the mark of the run in its environment:
children inherit that, whatever session or group they move to.
"""

import contextlib
import mmap
import os
import signal
import sys
import time
from collections.abc import Iterable

PATIENCE = 10.0  # seconds until it gives up on processes that cannot be killed
PAUSE = 0.005  # seconds between two looks at all processes
STATE_STYLES = 50  # at new processes, on a machine that never stops starting some


def marked(mark: bytes) -> list[int]:
    """Return the pids of the processes that have `mark`, bytes, in their environment.

    A program that turns itself into a daemon forks and exits twice. It may be gone before it is looked at, when its
    child was not yet there to be listed. So new processes are looked at again, until there are none.
    """
    found: list[int] = []
    seen: set[str] = set()
    for _ in range(STATE_STYLES):
        new = processes() - seen
        if not new:
            break
        found += [int(name) for name in new if mark in environment(name)]
        seen |= new
    return found


def processes() -> set[str]:
    """Return the pids of all processes, as text; none if the system does not list them."""
    return set(filter(str.isdigit, os.listdir("/proc"))) if os.path.isdir("/proc/self") else set()


def environment(name: str) -> bytes:
    """Return the environment of a process, or nothing if it may not be read."""
    with contextlib.suppress(OSError), open("/proc/" + name + "/environ", "rb") as file:
        return file.read()
    return b""


def end(pids: Iterable[int], number: int) -> None:
    """Send a signal to processes as if all got it at once.

    They are stopped first. Otherwise a shell whose command ends a moment before itself would start its next command.
    """
    if sys.platform == "win32":
        return
    for one in (signal.SIGSTOP, number, signal.SIGCONT):
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(pid, one)


def groups(descriptor: int) -> list[int]:
    """Return the process groups in a table: those of the commands that were running."""
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as table, memoryview(table) as view, view.cast("i") as all_:
        return [number for number in all_[: all_[0] + 1].tolist()[1:] if number]


def main(descriptor: int, mark: bytes) -> None:
    """Kill all groups in the table, then whatever carries the mark, until nothing is left."""
    if sys.platform == "win32":
        return
    for group in groups(descriptor):
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)
    until = time.monotonic() + PATIENCE
    left = marked(mark)
    while left and time.monotonic() < until:
        end(left, signal.SIGKILL)
        time.sleep(PAUSE)
        left = marked(mark)


if __name__ == "__main__":
    main(int(sys.argv[1]), os.fsencode(sys.argv[2]))
