"""Process groups: their end (a grace period, then SIGKILL, until no member lives), and what memory they take now."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Final

from ... import _posix as posix

if TYPE_CHECKING:
    from ...abc import RunHandle
    from ._processes import Process

FIRST_PAUSE: Final = 0.001
SURVEY_PAUSE: Final = 0.008
LAST_PAUSE: Final = 0.064
"""Seconds between two looks at a group. They are needed because no event says that its last member has ended."""
KILL_PAUSE: Final = 0.5
"""Seconds after which SIGKILL is sent again; this shows whether what is left can be signalled at all."""

Pause = Callable[[float], Awaitable[None]]
"""Waits until the clock has reached a time, and does whatever else there is to do meanwhile."""


async def until_empty(run: RunHandle, process: Process, until: float, pause_until: Pause) -> bool:
    """Wait until the group of a reaped process has no living members; return False when the clock reaches `until`."""
    pause = FIRST_PAUSE
    while process.has_left_others():
        if pause >= SURVEY_PAUSE and process.has_left_dead_alone():
            return True
        now = run.clock()
        if now >= until:
            return False
        await pause_until(min(now + pause, until))
        pause = min(2 * pause, LAST_PAUSE)
    return True


async def end_group(run: RunHandle, process: Process, grace_ends: float, pause_until: Pause) -> bool:
    """Wait until the group of a reaped process has no living members; kill them when the grace period is over.

    Cancellations do not interrupt this. It returns False if what is left belongs to another user, who alone can end it.
    """

    def pause(until: float) -> Awaitable[None]:
        return run.outlast(lambda: pause_until(until))

    while not await until_empty(run, process, grace_ends, pause):
        if not process.signal(posix.SIGKILL):
            return False
        grace_ends = run.clock() + KILL_PAUSE
    return True


# ---- groups that only look alive

SHARE: Final = 4
"""After a survey that took a second, the next one may start this many seconds later."""
HAS_PROC: Final = os.path.isdir("/proc/self")
DEAD: Final = (b"Z", b"X")


class LivenessScan:
    """The process groups that had a living member at the last look at all processes.

    Some programs that run as process 1, above all in containers, reap orphans late or never. The groups of such
    orphans seem to have members that in fact died long ago. One survey serves all groups that are ending.
    """

    __slots__ = ("_began", "_living", "_next")

    def __init__(self) -> None:
        self._began = self._next = 0.0
        self._living: set[int] = set()

    def found_dead(self, group: int, since: float) -> bool:
        """Return whether all members of a group are known to be dead, from a survey that began after `since`."""
        if not HAS_PROC:
            return False
        now = time.monotonic()
        if now >= self._next:
            self._began, self._living = now, {group for group, _ in living()}
            end = time.monotonic()
            self._next = end + SHARE * (end - now)
        return self._began >= since and group not in self._living


def living() -> Iterator[tuple[int, list[bytes]]]:
    """Yield for each process that is alive its group, and what its `stat` says from the third field on; see proc(5)."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as stat:
                # the second field is the program's name in brackets, and may contain anything
                fields = stat.read().rpartition(b")")[2].split()
                if fields[0] not in DEAD:
                    yield int(fields[2]), fields


# ---- memory: one look at all processes now and then, for all commands

LOOK_PAUSE: Final = 1.0
"""Seconds between two looks, at least."""
LOOK_REST: Final = 100
"""After a look that took a second, the next one starts this many seconds later: so looks take 1 % of one core at most.

One takes 1.5 ms with 180 processes, so the pause decides up to about a thousand.
"""
RSS: Final = 21
"""proc(5): the 24th field of `stat` is the number of pages in memory; the first here is the third there."""


class GroupMemory:
    """The memory of all process groups at the latest look; any thread may ask."""

    __slots__ = ("_bytes", "_next")

    def __init__(self) -> None:
        self._next = -1.0  # when the next look is due
        self._bytes: dict[int, int] = {}  # replaced as a whole, so that a thread never sees half of it

    def of(self, group: int) -> int | None:
        """Return how many bytes the processes of a group have in memory; None if that is not known (yet).

        What several of them share is counted for each.
        """
        if not HAS_PROC:
            return None
        now = time.monotonic()
        if now >= self._next:
            self._next = now + LOOK_PAUSE  # other threads have what was found last
            self._bytes = _memory_of_all()
            end = time.monotonic()
            self._next = max(now + LOOK_PAUSE, end + LOOK_REST * (end - now))
        return self._bytes.get(group)


def _memory_of_all() -> dict[int, int]:
    page, found = posix.sysconf("SC_PAGE_SIZE"), dict[int, int]()
    for group, fields in living():
        found[group] = found.get(group, 0) + int(fields[RSS]) * page
    return found


memory: Final = GroupMemory()
"""One for the whole program: what it looks at belongs to the machine, not to a run."""
