"""Process groups: how to end them (a grace period, then SIGKILL, until no member lives), and their memory."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

from ... import _posix as posix

if TYPE_CHECKING:
    from ...abc import RunHandle
    from ._processes import Process

FIRST_PAUSE: Final = 0.001
SURVEY_PAUSE: Final = 0.008
LAST_PAUSE: Final = 0.064
"""Seconds between two tests of a group; polling is needed, as no event reports the end of its last member."""
KILL_PAUSE: Final = 0.5
"""Seconds after which SIGKILL is sent again; this shows whether the rest of the group can be signalled at all."""

Pause = Callable[[float], Awaitable[None]]
"""Waits until a time of the clock, and does other work, such as passing on output, meanwhile."""


async def end_process(run: RunHandle, process: Process, patience: float) -> None:
    """Wait `patience` seconds for a process to exit; then kill its group, and wait until the process has exited.

    A cancellation does not interrupt this.
    """
    wait = partial(run.wait_readable, process.exit_descriptor)
    if not (patience and await run.outlast(partial(wait, run.clock() + patience))):
        process.signal(posix.SIGKILL)
        await run.outlast(wait)


async def until_empty(run: RunHandle, process: Process, until: float, pause_until: Pause) -> bool:
    """Wait until the group of a reaped process has no living members; return False when the clock reaches `until`."""
    pause = FIRST_PAUSE
    while process.has_left_others():
        if pause >= SURVEY_PAUSE and process.has_left_only_zombies():
            return True
        now = run.clock()
        if now >= until:
            return False
        await pause_until(min(now + pause, until))
        pause = min(2 * pause, LAST_PAUSE)
    return True


async def end_group(run: RunHandle, process: Process, grace_ends: float, pause_until: Pause) -> bool:
    """Wait until the group of a reaped process has no living members; kill them after the grace period.

    A cancellation does not interrupt this. Return False if the living members belong to another user, so that this
    program may not signal them.
    """

    def pause(until: float) -> Awaitable[None]:
        return run.outlast(lambda: pause_until(until))

    while not await until_empty(run, process, grace_ends, pause):
        if not process.signal(posix.SIGKILL):
            return False
        grace_ends = run.clock() + KILL_PAUSE
    return True


# ---- groups that only look alive

SCAN_PAUSE_FACTOR: Final = 4
"""The minimum pause between two scans, as a multiple of the duration of the earlier one."""
HAS_PROC: Final = os.path.isdir("/proc/self")
DEAD_STATES: Final = (b"Z", b"X")


class LivenessScan:
    """The process groups that had a living member at the last scan of all processes.

    Some programs that run as process 1, above all in containers, reap orphans late or never. Groups of such zombies
    seem to have members. One scan serves all groups that are ending.
    """

    __slots__ = ("_began", "_living", "_next")

    def __init__(self) -> None:
        self._began = self._next = 0.0
        self._living: set[int] = set()

    def are_all_dead(self, group: int, since: float) -> bool:
        """Return whether all members of a group are known to be dead, from a scan that began after `since`."""
        if not HAS_PROC:
            return False
        now = time.monotonic()
        if now >= self._next:
            self._began, self._living = now, {group for group, _ in living_processes()}
            end = time.monotonic()
            self._next = end + SCAN_PAUSE_FACTOR * (end - now)
        return self._began >= since and group not in self._living


def living_processes() -> Iterator[tuple[int, list[bytes]]]:
    """Yield the group of each living process, and the fields of its `stat` from the third on; see proc(5)."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as stat:
                # the second field is the program's name in brackets, which may contain any character
                fields = stat.read().rpartition(b")")[2].split()
                if fields[0] not in DEAD_STATES:
                    yield int(fields[2]), fields


# ---- memory: an occasional scan of all processes, for all commands

LOOK_PAUSE: Final = 1.0
"""The minimum number of seconds between two scans."""
LOOK_REST: Final = 100
"""A factor: after a scan that took a second, the next one starts this many seconds later.

So scans take 1 % of one core at most. One takes 1.5 ms with 180 processes, so `LOOK_PAUSE` decides up to about a
thousand.
"""
RSS: Final = 21
"""The index of the resident pages among the fields of `stat`, the 24th of proc(5), as the first here is the third."""


class GroupMemory:
    """The memory of all process groups at the latest scan; usable from any thread."""

    __slots__ = ("_bytes", "_next")

    def __init__(self) -> None:
        self._next = -1.0  # the time of the next scan
        self._bytes: dict[int, int] = {}  # replaced as a whole, so that no thread sees it half filled

    def of(self, group: int) -> int | None:
        """Return the bytes that the processes of a group have in memory; None if that is unknown (yet).

        Memory shared by several of them is counted for each.
        """
        if not HAS_PROC:
            return None
        now = time.monotonic()
        if now >= self._next:
            self._next = now + LOOK_PAUSE  # meanwhile other threads use the last scan
            self._bytes = _memory_by_group()
            end = time.monotonic()
            self._next = max(now + LOOK_PAUSE, end + LOOK_REST * (end - now))
        return self._bytes.get(group)


def _memory_by_group() -> dict[int, int]:
    page, sizes = posix.sysconf("SC_PAGE_SIZE"), dict[int, int]()
    for group, fields in living_processes():
        sizes[group] = sizes.get(group, 0) + int(fields[RSS]) * page
    return sizes


memory: Final = GroupMemory()
"""One for the whole program, because it describes the machine, not a run."""
