"""Scans of `/proc`: which process groups have a living member."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Final

SCAN_PAUSE_FACTOR: Final = 4
"""The minimum pause after a scan, as a multiple of the duration of the scan."""
HAS_PROC: Final = os.path.isdir("/proc/self")
DEAD_STATES: Final = (b"Z", b"X")
"""The states, in the `stat` of proc(5), of zombies and of dead processes."""


class LivenessScan:
    """The latest scan of all processes, which finds the process groups that have a living member.

    Some programs that run as process 1, especially in containers, reap orphans late or never. A group of such zombies
    still exists, although none of its members is alive. One scan serves all groups that are being ended.
    """

    __slots__ = ("_living_groups", "_next_scan_at", "_scan_started_at")

    def __init__(self) -> None:
        self._scan_started_at = self._next_scan_at = 0.0
        self._living_groups: set[int] = set()

    def are_all_dead(self, group: int, since: float) -> bool:
        """Return whether all members of a group are known to be dead, from a scan that began after `since`."""
        if not HAS_PROC:
            return False
        now = time.monotonic()
        if now >= self._next_scan_at:
            self._scan_started_at, self._living_groups = now, set(living_groups())
            scan_end = time.monotonic()
            self._next_scan_at = scan_end + SCAN_PAUSE_FACTOR * (scan_end - now)
        return self._scan_started_at >= since and group not in self._living_groups


def living_groups() -> Iterator[int]:
    """Yield the group of each living process; see proc(5)."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as stat:
                # The second field is the program's name in parentheses. It may contain any character.
                state, _, group, *_ = stat.read().rpartition(b")")[2].split()
                if state not in DEAD_STATES:
                    yield int(group)
