"""The program that the guard executes if the controller dies, to kill the remaining processes of the run.

This module uses only the standard library. The controller imports it for the sweep at the end of a run. A process
is found by its group, which the controller has entered into a table, or by the mark of the run in its environment,
which children inherit even if they move to another session or group.
"""

import contextlib
import mmap
import os
import signal
import sys
import time
from collections.abc import Iterable

MARK_VARIABLE = "TRIOFLOW_GUARDED"  # the environment variable with the mark, for this program only
KILL_TIMEOUT = 10.0  # seconds after which the guard gives up on processes that cannot be killed
SCAN_INTERVAL = 0.005  # seconds between two scans of all processes
MAX_SCANS = 50  # the maximum number of scans in `find_marked_pids`, in case new processes start all the time


def find_marked_pids(mark: bytes) -> list[int]:
    """Return the pids of this user's processes, except the calling one, with `mark` in their environment.

    A process that becomes a daemon forks and exits twice. It may exit before it is scanned, and its child may have
    started after the processes were listed. So the scan is repeated for new processes until there are none.
    """
    pids: list[int] = []
    scanned_pids: set[str] = set()
    for _ in range(MAX_SCANS):
        new_pids = list_pids() - scanned_pids - {str(os.getpid())}
        if not new_pids:
            break
        pids += [int(pid) for pid in new_pids if mark in read_environment(pid)]
        scanned_pids |= new_pids
    return pids


def list_pids() -> set[str]:
    """Return the pids of all processes, as strings; the set is empty on a system without /proc."""
    return set(filter(str.isdigit, os.listdir("/proc"))) if os.path.isdir("/proc/self") else set()


def read_environment(pid: str) -> bytes:
    """Return the environment of a process; empty if it may not be read, or if the process is another user's."""
    if sys.platform == "win32":
        return b""
    with contextlib.suppress(OSError), open("/proc/" + pid + "/environ", "rb") as file:
        if os.fstat(file.fileno()).st_uid == os.geteuid():
            return file.read()
    return b""


def signal_all(pids: Iterable[int], signal_number: int) -> None:
    """Send a signal to several processes, as if at the same time.

    The processes are stopped first. Otherwise a shell might start its next command when the current command has been
    ended, before the shell itself gets the signal.
    """
    if sys.platform == "win32":
        return
    for next_signal in (signal.SIGSTOP, signal_number, signal.SIGCONT):
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(pid, next_signal)


def read_groups(descriptor: int) -> list[int]:
    """Return the process groups in the table: one for each running command."""
    table = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    with table, memoryview(table) as view, view.cast("i") as entries:
        return [group for group in entries[: entries[0] + 1].tolist()[1:] if group]


def main(descriptor: int, mark: bytes) -> None:
    """Kill all groups in the table, then all processes with the mark, until none is left or `KILL_TIMEOUT` is over."""
    if sys.platform == "win32":
        return
    for group in read_groups(descriptor):
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)
    deadline = time.monotonic() + KILL_TIMEOUT
    pids = find_marked_pids(mark)
    while pids and time.monotonic() < deadline:
        signal_all(pids, signal.SIGKILL)
        time.sleep(SCAN_INTERVAL)
        pids = find_marked_pids(mark)


if __name__ == "__main__":
    main(int(sys.argv[1]), os.fsencode(os.environ[MARK_VARIABLE]))
