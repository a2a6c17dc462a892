"""How much memory process groups take now: one look at all processes now and then, for all commands."""

from __future__ import annotations

import os
import time
from typing import Final

from ._groups import HAS_PROC, living

PAUSE: Final = 1.0
"""Seconds between two looks, at least."""
REST: Final = 100
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
            self._next = now + PAUSE  # other threads have what was found last
            self._bytes = _memory_of_all()
            end = time.monotonic()
            self._next = max(now + PAUSE, end + REST * (end - now))
        return self._bytes.get(group)


def _memory_of_all() -> dict[int, int]:
    page, found = os.sysconf("SC_PAGE_SIZE"), dict[int, int]()
    for group, fields in living():
        found[group] = found.get(group, 0) + int(fields[RSS]) * page
    return found


memory: Final = GroupMemory()
"""One for the whole program: what it looks at belongs to the machine, not to a run."""
