"""The lanes of one connection that nobody uses now.

```
take ──► a free one ──► or a new one ──► or none: for the first command of the connection, or if no lane can be had
```

The first command gets none. A lane with its first command takes three times as much as a session for a command, and
each further one half. Many nodes have one command alone; a node that has had one is expected to have more.

There are as many as were ever needed at once. Rejected: to wait a while for one that is in use, before another is
opened, which costs as much as several short commands. As many are opened in the end, and nothing is won.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import anyio

from ._lane import Lane, LaneLost
from ._mux import LOST

FIRST: Final = 1
"""Commands of a connection that get no lane."""
SHORT: Final = 10_000
"""Bytes of a command that has certainly room in the command line of a session, however it is encoded."""
CLOSING: Final = 2.0
"""Seconds that the end of a lane may take before its session is killed."""


class Lanes:
    """The lanes of a connection."""

    def __init__(self, make: Callable[[], Lane] | None) -> None:
        """Begin with none.

        Args:
            make: starts one; None if there are to be none.

        """
        self._make = make
        self._begun = 0  # commands that have got a lane, or none
        self._free: Final[list[Lane]] = []

    async def take(self, size: int) -> Lane | None:
        """Return one that is to be given back; None if the command is to have a session of its own.

        Args:
            size: the bytes of the command.

        Raises:
            LaneLost: the connection was lost, or lets in no more sessions.
            OSError: ssh could not be started.

        """
        while self._free:
            lane = self._free.pop()
            if lane.is_free():
                return lane
            await lane.end(0.0)
        self._begun += 1
        if self._make is None or (self._begun <= FIRST and size <= SHORT):
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
