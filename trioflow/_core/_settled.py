"""`as_settled()`: the jobs of a scheduler one by one, in the order in which they settle."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self, final

from . import _backend, _worker
from ._jobs import AbstractJob
from ._outcomes import RunFacts

if TYPE_CHECKING:
    from ._live import LiveScheduler


@final
class SettledJobs:
    """An async iterator over jobs as they settle; see `LiveScheduler.as_settled`."""

    def __init__(self, scheduler: LiveScheduler) -> None:
        """Take note of those that have settled, and watch the others."""
        self._scheduler = scheduler
        self._callers = _callers()
        self._listener = _weak_listener(self)
        self._left: set[AbstractJob[Any]] = set()  # what is watched and keeps the iteration going
        self._event: _backend.Event | None = None
        self._over = scheduler._will_not_reach()  # nothing is to come but what has been found
        settled = [job for job in scheduler if job.is_settled()]
        self._found = deque(sorted(settled, key=lambda job: job.finished_at or 0.0))
        for job in scheduler:
            if not job.is_settled():
                self.watch(job)
        scheduler._streams.add(self)

    def watch(self, job: AbstractJob[Any]) -> None:
        """Have a job told when it settles; one that does not run for ever is waited for."""
        if not job.forever and job not in self._callers:
            self._left.add(job)
        job._facts = job._facts or RunFacts()
        job._facts.listeners.append(self._listener)

    def end(self) -> None:
        """Take note that the run has ended: a later one begins anew, and has nothing to tell here."""
        self._over = True
        if self._event is not None:
            self._event.set()

    def _hear(self, job: AbstractJob[Any]) -> None:
        self._left.discard(job)
        if job.is_settled():
            self._found.append(job)
        if self._event is not None:
            self._event.set()

    def __aiter__(self) -> Self:
        """Iterate by itself."""
        return self

    async def __anext__(self) -> AbstractJob[Any]:
        """Return the next job that has settled; a checkpoint."""
        backend = _backend.current()
        await backend.checkpoint()
        while not self._found:
            if self._over or not self._left or self._scheduler._will_not_reach():
                raise StopAsyncIteration
            if self._event is None or self._event.is_set():
                self._event = backend.event()
            await self._event.wait()
        return self._found.popleft()


def _weak_listener(stream: SettledJobs) -> Callable[[AbstractJob[Any]], None]:
    """Return what jobs call: it keeps no iterator alive that nobody iterates over any more."""
    weak = weakref.ref(stream)

    def hear(job: AbstractJob[Any]) -> None:
        alive = weak()
        if alive is not None:
            alive._hear(job)

    return hear


def _callers() -> set[AbstractJob[Any] | None]:
    """Return the job that calls, and those around it: jobs whose runs it is in, and that can't settle before it."""
    found: set[AbstractJob[Any] | None] = set()
    worker = _worker.current.get(None)
    while worker is not None:
        found.add(worker.job)
        worker = worker.run.context.get(_worker.current)
    return found
