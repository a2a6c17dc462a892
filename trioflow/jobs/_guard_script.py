"""What the guard of a run does when the conductor has died: kill all that is left of the run's commands.

This runs by itself, with nothing but the standard library, and is imported for the sweep at the end of a run too.
A process is found by its group, which the conductor has written into a table, or by the mark of the run in its
environment: children inherit it, in whatever session or group they are.
"""

import contextlib
import mmap
import os
import signal
import sys
import time
from collections.abc import Iterable

PATIENCE = 10.0  # seconds after which what can't be killed is left to the system
PAUSE = 0.005  # seconds between two looks at all processes


def marked(mark: bytes) -> list[int]:
    """Return the numbers of the processes that have `mark`, bytes, in their environment."""
    found: list[int] = []
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else ():
        if name.isdigit():
            with contextlib.suppress(OSError), open("/proc/" + name + "/environ", "rb") as environment:
                if mark in environment.read():
                    found.append(int(name))
    return found


def kill(pids: Iterable[int]) -> None:
    """Kill these processes."""
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def groups(descriptor: int) -> list[int]:
    """Return the process groups in a table: those of commands that were running."""
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as table, memoryview(table) as view, view.cast("i") as all_:
        return [number for number in all_[: all_[0] + 1].tolist()[1:] if number]


def main(descriptor: int, mark: bytes) -> None:
    """Kill all groups in the table, then whatever carries the mark, until there is nothing left."""
    for group in groups(descriptor):
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)
    end = time.monotonic() + PATIENCE
    left = marked(mark)
    while left and time.monotonic() < end:
        kill(left)
        time.sleep(PAUSE)
        left = marked(mark)


if __name__ == "__main__":
    main(int(sys.argv[1]), os.fsencode(sys.argv[2]))
