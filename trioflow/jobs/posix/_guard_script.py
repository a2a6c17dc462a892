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

# The environment variable with the mark, for this program only.
MARK_VARIABLE = "TRIOFLOW_GUARDED"
# Entries of the table that are no groups: the highest used index, and a flag.
LAST_INDEX, IS_STARTING = 0, 1
START_TIME = 0.1  # seconds until a process that was just being started is taken for a process that never began
# Seconds after which the guard gives up on processes that cannot be killed.
KILL_TIMEOUT = 10.0
SCAN_INTERVAL = 0.005  # seconds between two scans of all processes
MAX_SCANS = 50  # the maximum number of scans in `find_marked_pids`, in case new processes start all the time


def find_marked_pids(mark: bytes) -> list[int]:
    """Return the pids of this user's other processes with `mark` in their environment.

    A process that becomes a daemon forks and exits twice. It may exit before it is scanned, and its child may have
    started after the processes were listed. So the scan is repeated for new processes until there are none, and for
    those in the middle of an exec, which have no environment yet.
    """
    pids: list[int] = []
    scanned_pids: set[str] = set()
    for _ in range(MAX_SCANS):
        new_pids = list_pids() - scanned_pids - {str(os.getpid())}
        if not new_pids:
            break
        environments = {pid: read_environment(pid) for pid in new_pids}
        for pid, environment in environments.items():
            if environment and mark in environment:
                pids.append(int(pid))
        in_exec = {
            pid for pid, environment in environments.items() if environment is None
        }
        scanned_pids |= new_pids - in_exec
        if in_exec:
            time.sleep(SCAN_INTERVAL)
    return pids


def list_pids() -> set[str]:
    """Return the pids of all processes, as strings. The set is empty on a system without /proc."""
    if os.path.isdir("/proc/self"):
        return set(filter(str.isdigit, os.listdir("/proc")))
    return set()


def read_environment(pid: str) -> bytes | None:
    """Return the environment of a process, or None if exec(2) is just setting it up.

    It is empty if it may not be read, or if the process is another user's.
    """
    with contextlib.suppress(OSError):
        # By the time that exec has closed descriptors, there is a program without arguments and environment. A busy
        # machine can leave it there for milliseconds. Zombies and kernel threads have no program.
        environment = read_file(pid, "environ")
        if not environment and os.readlink(f"/proc/{pid}/exe"):
            if not read_file(pid, "cmdline"):
                return None
            return read_file(pid, "environ")
        return environment
    return b""


def read_file(pid: str, name: str) -> bytes:
    """Return the content of a file in /proc about a process of this user."""
    with open(f"/proc/{pid}/{name}", "rb") as file:
        if sys.platform != "win32" and os.fstat(file.fileno()).st_uid != os.geteuid():
            raise PermissionError
        return file.read()


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


def read_table(descriptor: int) -> tuple[list[int], bool]:
    """Return the process groups in the table, one for each running command, and whether another was being started."""
    table = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    with table, memoryview(table) as view, view.cast("i") as entries:
        groups = entries[: entries[LAST_INDEX] + 1].tolist()[IS_STARTING + 1 :]
        return [group for group in groups if group], bool(entries[IS_STARTING])


def main(descriptor: int, mark: bytes) -> None:
    """Kill all groups in the table, then all processes with the mark, until none is left or `KILL_TIMEOUT` is over."""
    if sys.platform == "win32":
        return
    groups, is_starting = read_table(descriptor)
    for group in groups:
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)
    begun = time.monotonic()
    minimum = START_TIME if is_starting else 0.0
    while True:
        pids = find_marked_pids(mark)
        now = time.monotonic()
        is_over = not pids and now >= begun + minimum
        if is_over or now >= begun + KILL_TIMEOUT:
            return
        signal_all(pids, signal.SIGKILL)
        time.sleep(SCAN_INTERVAL)


if __name__ == "__main__":
    main(int(sys.argv[1]), os.fsencode(os.environ[MARK_VARIABLE]))
