"""A virtual clock for trio, in whose runs the order of tasks is deterministic: first in, first out.

trio itself reverses half of its batches of tasks at random, and cancels scopes with equal deadlines in the order of
their memory addresses. A run on this clock gets a run queue that hands over a single task at a time, and a heap that
numbers the deadlines. Both replace private attributes of trio. If a version of trio lacks these, its order stays
random.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Iterator
from typing import Any

import trio
import trio._core._run as trio_run
from trio.testing import MockClock


def make_clock() -> MockClock:
    """Return a clock that jumps ahead to the next deadline when every task is waiting.

    In a run that uses it, tasks resume in the order that they were woken.
    """
    clock: Any = MockClock(autojump_threshold=0)
    start = clock.start_clock

    def start_and_order_tasks() -> None:
        start()
        if {"runq", "clear", "shuffle", "expire"} <= {
            *trio_run.unrolled_run.__code__.co_names
        }:
            context: Any = trio_run.GLOBAL_RUN_CONTEXT
            runner = context.runner
            runner.runq = _FifoRunQueue(runner.runq)
            runner.deadlines = _NumberedDeadlines()

    clock.start_clock = start_and_order_tasks
    return clock  # type: ignore[no-any-return]


# See https://github.com/python-trio/trio/blob/v0.35.0/src/trio/_core/_run.py#L2827.
class _FifoRunQueue(deque[Any]):
    """A replacement for trio's run queue, which fixes the order of tasks.

    Each iteration of trio's loop copies the run queue, clears it, and shuffles the copy. Iterating this queue yields
    only the first task, so the copy has no other task.
    """

    def __iter__(self) -> Iterator[Any]:
        return iter([self[0]] if self else [])

    def clear(self) -> None:
        """Remove the first task, the only task that was copied."""
        if self:
            self.popleft()


# trio's own compares memory addresses: https://github.com/python-trio/trio/blob/v0.35.0/src/trio/_core/_run.py#L268.
class _NumberedDeadlines(trio_run.Deadlines):
    """The deadlines of cancel scopes. Equal deadlines expire in the order that they were set."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers = itertools.count()

    def add(self, deadline: float, cancel_scope: trio.CancelScope) -> None:
        heapq.heappush(self._heap, (deadline, next(self._numbers), cancel_scope))
        self._active += 1
