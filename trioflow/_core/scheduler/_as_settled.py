"""`SettledJobs`: the async iterator that `as_settled()` returns."""

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
    """An async iterator over the jobs of a scheduler as they settle; see `BaseScheduler.as_settled`."""

    def __init__(self, scheduler: BaseScheduler) -> None:
        """Collect the jobs that have settled, and listen to the others."""
        self._scheduler = scheduler
        # The job that iterates and the schedulers around it: they cannot settle before the iteration ends.
        self._callers = {worker.job for worker in enclosing_workers()}
        self._listener = _weak_listener(self)
        self._unsettled: set[AbstractJob[Any]] = set()  # the jobs that the iteration waits for
        self._event: _backend.TaskEvent | None = None
        self._run_ended = scheduler._will_not_reach()
        settled = [job for job in scheduler if job.is_settled()]
        self._settled = deque(sorted(settled, key=attrgetter("finished_at")))
        for job in scheduler:
            if not job.is_settled():
                self.watch(job)
        if scheduler._settled_iterators is None:
            scheduler._settled_iterators = weakref.WeakSet()
        scheduler._settled_iterators.add(self)

    def watch(self, job: AbstractJob[Any]) -> None:
        """Listen to a job until it settles. The iteration waits for it unless it is a forever job or a caller."""
        if job.is_settled():  # a job that is added to a running scheduler may settle at once, by its rule
            self._on_settled(job)
            return
        if not job.forever and job not in self._callers:
            self._unsettled.add(job)
        job._ensure_extras().add_listener(self._listener)

    def end(self) -> None:
        """End the iteration, because the run has ended: jobs that settle in a later run are not included."""
        self._run_ended = True
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
        if self._settled or self._is_exhausted():  # otherwise it waits below, which is a checkpoint
            await backend.checkpoint()
        while not self._settled:
            if self._is_exhausted():
                raise StopAsyncIteration
            if self._event is None or self._event.is_set():
                self._event = backend.event()
            await self._event.wait()
        return self._settled.popleft()

    def _is_exhausted(self) -> bool:
        """Return whether no further jobs will come."""
        return self._run_ended or not self._unsettled or self._scheduler._will_not_reach()


def _weak_listener(iterator: SettledJobs) -> Callable[[AbstractJob[Any]], None]:
    """Return a listener for jobs that does not keep the iterator alive."""
    reference = weakref.ref(iterator)

    def listener(job: AbstractJob[Any]) -> None:
        alive = reference()
        if alive is not None:
            alive._on_settled(job)

    return listener
