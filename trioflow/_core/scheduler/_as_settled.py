"""`as_settled()`: the jobs of a scheduler one by one, in the order in which they settle."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Self, final

from .. import backend as _backend
from ..job._job import AbstractJob
from ..run._current import enclosing_workers

if TYPE_CHECKING:
    from ._base_scheduler import BaseScheduler


@final
class SettledJobs:
    """An async iterator over jobs as they settle; see `BaseScheduler.as_settled`."""

    def __init__(self, scheduler: BaseScheduler) -> None:
        """Record the jobs that have settled, and watch the others."""
        self._scheduler = scheduler
        # The job that makes this call, and its enclosing schedulers, which cannot settle before it.
        self._callers = {worker.job for worker in enclosing_workers()}
        self._listener = _weak_listener(self)
        self._unsettled: set[AbstractJob[Any]] = set()  # the jobs that the iteration waits for
        self._event: _backend.Event | None = None
        self._is_finished = scheduler._will_not_reach()  # no further jobs will settle
        settled = [job for job in scheduler if job.is_settled()]
        self._settled = deque(sorted(settled, key=attrgetter("finished_at")))
        for job in scheduler:
            if not job.is_settled():
                self.watch(job)
        if scheduler._settled_iterators is None:
            scheduler._settled_iterators = weakref.WeakSet()
        scheduler._settled_iterators.add(self)

    def watch(self, job: AbstractJob[Any]) -> None:
        """Listen to a job until it settles; the iteration waits for it, unless it is a forever job or a caller."""
        if job.is_settled():  # its rule settled it when it was added
            self._on_settled(job)
            return
        if not job.forever and job not in self._callers:
            self._unsettled.add(job)
        job._extras().listen(self._listener)

    def end(self) -> None:
        """Record that the run has ended. A later run does not belong to this iteration."""
        self._is_finished = True
        if self._event is not None:
            self._event.set()

    def _on_settled(self, job: AbstractJob[Any]) -> None:
        self._unsettled.discard(job)
        if job.is_settled():
            self._settled.append(job)
        if self._event is not None:
            self._event.set()

    def __aiter__(self) -> Self:
        """Return the iterator itself."""
        return self

    async def __anext__(self) -> AbstractJob[Any]:
        """Return the next job that has settled. This is a checkpoint."""
        backend = _backend.current()
        if self._settled or self._is_over():  # otherwise it waits anyway; this saves a turn of the loop
            await backend.checkpoint()
        while not self._settled:
            if self._is_over():
                raise StopAsyncIteration
            if self._event is None or self._event.is_set():
                self._event = backend.event()
            await self._event.wait()
        return self._settled.popleft()

    def _is_over(self) -> bool:
        """Return whether the iteration waits for no further job."""
        return self._is_finished or not self._unsettled or self._scheduler._will_not_reach()


def _weak_listener(stream: SettledJobs) -> Callable[[AbstractJob[Any]], None]:
    """Return a listener for jobs, with a weak reference to the iterator."""
    weak = weakref.ref(stream)

    def hear(job: AbstractJob[Any]) -> None:
        alive = weak()
        if alive is not None:
            alive._on_settled(job)

    return hear
