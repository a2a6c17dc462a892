"""The lanes of one connection that nobody uses now.

```
take ──► a free one ──► or a new one ──► or none: no lane can be had on this node, now and ever
```

There are as many as were ever needed at once. Rejected: to wait a while for one that is in use, before another is
opened, which costs as much as several short commands. As many are opened in the end, and nothing is won.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import anyio

from ._lane import Lane, LaneLost

LOST: Final = 255
"""The exit code of ssh itself, when there is no session, or no more."""
CLOSING: Final = 2.0
"""Seconds that the end of a lane may take before its ssh is killed."""


class Lanes:
    """The lanes of a connection."""

    def __init__(self, make: Callable[[], Lane] | None) -> None:
        """Begin with none.

        Args:
            make: starts one; None if there are to be none.

        """
        self._make = make
        self._free: Final[list[Lane]] = []

    async def take(self) -> Lane | None:
        """Return one that is to be given back; None if there are none on this node.

        Raises:
            LaneLost: the connection was lost, or lets in no more sessions.
            OSError: ssh could not be started.

        """
        while self._free:
            lane = self._free.pop()
            if lane.is_free():
                return lane
            await lane.end(0.0)
        if self._make is None:
            return None
        lane = self._make()
        try:
            await lane.open()
        except LaneLost as lost:
            if lost.code is not None and not 0 <= lost.code < LOST:
                raise
            self._make = None
            return None
        return lane

    def give_back(self, lane: Lane) -> None:
        """Let somebody else have it, if it can be used again."""
        if not lane.has_ended:
            self._free.append(lane)

    async def leave_room(self, sessions: anyio.CapacityLimiter) -> None:
        """End some of those that nobody uses, where they and what is in use are too many sessions for the node."""
        over = len(self._free) + sessions.borrowed_tokens - sessions.total_tokens
        if over > 0:
            await self.end(math.ceil(over))

    def let_go(self) -> None:
        """Let those that nobody uses begin to end."""
        for lane in self._free:
            lane.let_go()

    async def end(self, number: int | None = None) -> bool:
        """End some of those that nobody uses, or all; return whether there was one."""
        ending = self._free[:number]
        del self._free[:number]
        for lane in ending:
            await lane.end(CLOSING)
        return bool(ending)
