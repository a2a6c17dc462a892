"""Scans of `/proc`: which process groups have a living member, and how much memory each group uses."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Final

from ... import _posix as posix

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
            self._scan_started_at, self._living_groups = now, {group for group, _ in living_processes()}
            scan_end = time.monotonic()
            self._next_scan_at = scan_end + SCAN_PAUSE_FACTOR * (scan_end - now)
        return self._scan_started_at >= since and group not in self._living_groups


def living_processes() -> Iterator[tuple[int, list[bytes]]]:
    """Yield the group of each living process, and the fields of its `stat` from the third on; see proc(5)."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as stat:
                # The second field is the program's name in parentheses. It may contain any character.
                fields = stat.read().rpartition(b")")[2].split()
                if fields[0] not in DEAD_STATES:
                    yield int(fields[2]), fields


# ---- memory

MIN_MEMORY_SCAN_INTERVAL: Final = 1.0
"""The minimum time between the starts of two scans, in seconds."""
MEMORY_SCAN_PAUSE_FACTOR: Final = 100
"""The minimum pause after a scan, as a multiple of the duration of the scan.

So scans use at most 1 % of one core. A scan of 180 processes takes 1.5 ms. With fewer than about 1,000 processes,
`MIN_MEMORY_SCAN_INTERVAL` determines the interval.
"""
RSS_FIELD_INDEX: Final = 21
"""The index of the number of resident pages, which is field 24 of `stat` in proc(5); field 3 has the index 0."""


class GroupMemory:
    """The memory of all process groups, as of the latest scan. It can be used from any thread."""

    __slots__ = ("_bytes_by_group", "_next_scan_at")

    def __init__(self) -> None:
        self._next_scan_at = -1.0  # before this time, the latest scan is used
        self._bytes_by_group: dict[int, int] = {}  # each scan replaces it, so that no thread sees partial results

    def get_group_bytes(self, group: int) -> int | None:
        """Return how many bytes of memory the processes of a group use; None if that is unknown.

        Memory that several processes share is counted for each of them.
        """
        if not HAS_PROC:
            return None
        now = time.monotonic()
        if now >= self._next_scan_at:
            self._next_scan_at = now + MIN_MEMORY_SCAN_INTERVAL  # other threads use the latest scan meanwhile
            self._bytes_by_group = _memory_by_group()
            scan_end = time.monotonic()
            self._next_scan_at = max(
                now + MIN_MEMORY_SCAN_INTERVAL, scan_end + MEMORY_SCAN_PAUSE_FACTOR * (scan_end - now)
            )
        return self._bytes_by_group.get(group)


def _memory_by_group() -> dict[int, int]:
    page_size, sizes = posix.sysconf("SC_PAGE_SIZE"), dict[int, int]()
    for group, fields in living_processes():
        sizes[group] = sizes.get(group, 0) + int(fields[RSS_FIELD_INDEX]) * page_size
    return sizes


group_memory: Final = GroupMemory()
"""The only instance. All runs share it, because one scan finds the process groups of all runs."""
