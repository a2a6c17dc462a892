"""trio's virtual clock, and the order of its tasks: first come, first served, where trio leaves the order to chance.

trio reverses half of its batches of tasks, and cancels scopes of one deadline in the order of their addresses. So a
run on this clock gets a queue that hands over one task at a time, and a heap that numbers deadlines. Both are private
parts of trio; where its loop has others, the order stays as it is.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Iterator
from typing import Any

import trio
import trio._core._run as inside
from trio.testing import MockClock


def in_order() -> MockClock:
    """Return a clock that jumps as soon as nothing can run; tasks of its run resume in the order in which they woke."""
    clock: Any = MockClock(autojump_threshold=0)
    start = clock.start_clock

    def start_in_order() -> None:
        start()
        if {"runq", "clear", "shuffle", "expire"} <= {*inside.unrolled_run.__code__.co_names}:
            context: Any = inside.GLOBAL_RUN_CONTEXT
            runner = context.runner
            runner.runq, runner.deadlines = _OneByOne(runner.runq), _Numbered()

    clock.start_clock = start_in_order
    return clock  # type: ignore[no-any-return]


class _OneByOne(deque[Any]):
    """The tasks that can resume. Each turn of the loop copies this queue, clears it, and mixes the copy."""

    def __iter__(self) -> Iterator[Any]:
        return iter([self[0]] if self else [])

    def clear(self) -> None:
        """Drop the task that has been copied."""
        if self:
            self.popleft()


class _Numbered(inside.Deadlines):
    """The deadlines of scopes: of equal ones, the first that was set comes first."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers = itertools.count()

    def add(self, deadline: float, cancel_scope: trio.CancelScope) -> None:
        """Add the deadline of a scope."""
        heapq.heappush(self._heap, (deadline, next(self._numbers), cancel_scope))
        self._active += 1
