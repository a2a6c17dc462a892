"""Which process groups have a living member: one look at all processes for many groups that are ending at once.

Some programs that run as the first process, in containers above all, reap orphans late or never: their groups seem to
have members that are long dead.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Final

SHARE: Final = 4
"""A look that has taken a second is followed by none for so many."""
HAS_PROC: Final = os.path.isdir("/proc/self")
DEAD: Final = (b"Z", b"X")


class Survey:
    """What the last look at all processes has found."""

    __slots__ = ("_began", "_living", "_next")

    def __init__(self) -> None:
        """Begin without one."""
        self._began = self._next = 0.0
        self._living: set[int] = set()

    def found_dead(self, group: int, since: float) -> bool:
        """Tell whether all members of a group are known to be dead, by a look at them after `since`."""
        if not HAS_PROC:
            return False
        now = time.monotonic()
        if now >= self._next:
            self._began, self._living = now, set(_groups_with_living())
            end = time.monotonic()
            self._next = end + SHARE * (end - now)
        return self._began >= since and group not in self._living


def _groups_with_living() -> Iterator[int]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as stat:
                state, _, group = stat.read().rpartition(b")")[2].split()[:3]  # proc(5); the name before may have any
                if state not in DEAD:
                    yield int(group)
