"""The pauses of jobs between two attempts, after which they are ready again."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ..admission._resource import TIME_TOLERANCE
from ..base._states import SCHEDULED

if TYPE_CHECKING:
    from ..job._job import AbstractJob
    from ._run import Run


class Pauses:
    """The jobs of one run that wait for their next attempt, with one timer for the first of them."""

    __slots__ = ("_cancel_timer", "_heap", "_numbers", "_run")

    def __init__(self, run: Run) -> None:
        self._run: Final = run
        self._heap: list[tuple[float, int, AbstractJob[Any]]] = []
        self._numbers = itertools.count()
        self._cancel_timer: Callable[[], None] | None = None

    def add(self, job: AbstractJob[Any], until: float) -> None:
        """Let a job, which holds nothing, be ready again at the time `until`."""
        job._ensure_extras().paused_until = until
        heapq.heappush(self._heap, (until, next(self._numbers), job))
        if self._heap[0][2] is job:
            self._set_timer()

    def drain(self) -> list[AbstractJob[Any]]:
        """Remove and return all jobs that wait, in the order in which they would have been ready."""
        jobs = [job for _, _, job in sorted(self._heap) if job._state is SCHEDULED]
        self._heap.clear()
        self._forget_timer()
        return jobs

    def is_empty(self) -> bool:
        return not self._heap

    def _set_timer(self) -> None:
        self._forget_timer()
        if self._heap:
            self._cancel_timer = self._run.group.call_at(self._heap[0][0], self._on_timer)

    def _forget_timer(self) -> None:
        if self._cancel_timer is not None:
            self._cancel_timer()
            self._cancel_timer = None

    def _on_timer(self) -> None:
        self._cancel_timer = None
        run, heap = self._run, self._heap
        now = run.clock() + TIME_TOLERANCE
        while heap and heap[0][0] <= now:
            job = heapq.heappop(heap)[2]
            if job._state is SCHEDULED:
                job._ensure_extras().paused_until = None
                run.queue.push(job)
        self._set_timer()
        run.workers.ensure_searcher()
