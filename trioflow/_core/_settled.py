"""`as_settled()`: the jobs of a scheduler one by one, in the order in which they settle."""

from __future__ import annotations

from collections import deque
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
        worker = _worker.current.get(None)
        self._caller = None if worker is None else worker.job
        self._left: set[AbstractJob[Any]] = set()  # what is watched and keeps the iteration going
        self._event: _backend.Event | None = None
        settled = [job for job in scheduler if job.is_settled()]
        self._found = deque(sorted(settled, key=lambda job: job.finished_at or 0.0))
        for job in scheduler:
            if not job.is_settled():
                self.watch(job)
        scheduler._streams.add(self)

    def watch(self, job: AbstractJob[Any]) -> None:
        """Have a job told when it settles; one that does not run for ever is waited for."""
        if not job.forever and job is not self._caller:
            self._left.add(job)
        job._facts = job._facts or RunFacts()
        job._facts.listeners.append(self._hear)

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
            if not self._left or self._scheduler._will_not_reach():
                raise StopAsyncIteration
            self._event = backend.event()
            await self._event.wait()
        return self._found.popleft()
