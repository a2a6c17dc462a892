"""`SettledJobs`: the async iterator that `as_settled()` returns."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Collection
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, final

from .. import backend as _backend
from ..job._job import AbstractJob
from ..run._current import enclosing_workers
from ..words._wait_paths import ITERATES
from . import _awaiting

if TYPE_CHECKING:
    from ._base_scheduler import BaseScheduler

J = TypeVar("J", bound=AbstractJob[Any])


@final
class SettledJobs(Generic[J]):
    """An async iterator over jobs of a scheduler as they settle; see `BaseScheduler.as_settled`."""

    def __init__(self, scheduler: BaseScheduler, jobs: Collection[J] | None = None) -> None:
        """Collect the jobs that have settled, and begin to watch the others; None: all jobs, also those added later."""
        self._scheduler = scheduler
        self.includes_added_jobs: bool = jobs is None
        # The job that iterates and its enclosing schedulers, which cannot settle before the iteration ends.
        self._iterating_jobs = {worker.job for worker in enclosing_workers()}
        self._waiter = _awaiting.caller_in(scheduler)
        self._is_reported = False  # whether it was reported that the iteration cannot go on
        self._listener = _weak_listener(self)
        self._unsettled_jobs: set[J] = set()  # the jobs that the iteration waits for
        self._change_event: _backend.TaskEvent | None = None
        self._has_run_ended = scheduler._will_not_reach()
        writer = None if scheduler._run is None else scheduler._run.journal_writer
        restored = () if writer is None else writer.restored_by_add
        watched: Collection[Any] = [*restored, *scheduler] if jobs is None else jobs
        settled = [job for job in watched if job.is_settled()]
        self._settled_jobs: deque[J] = deque(sorted(settled, key=attrgetter("finished_at")))
        for job in watched:
            if not job.is_settled():
                self.watch(job)
        if scheduler._settled_iterators is None:
            scheduler._settled_iterators = weakref.WeakSet()
        for other in scheduler._settled_iterators:
            other._wake()
        scheduler._settled_iterators.add(self)

    def watch(self, job: J) -> None:
        """Watch a job until it settles. The iteration waits for it, unless it is a forever job or the iterating job."""
        if job.is_settled():  # a job that is added to a running scheduler may be BLOCKED or SKIPPED at once
            self._on_settled(job)
            return
        if not job.forever and job not in self._iterating_jobs:
            self._unsettled_jobs.add(job)
        job._ensure_extras().add_listener(self._listener)

    def end_iteration(self) -> None:
        """End the iteration because the run has ended. It does not include jobs that settle in a later run."""
        self._has_run_ended = True
        self._wake()

    def _on_settled(self, job: J) -> None:
        self._unsettled_jobs.discard(job)
        if job.is_settled():
            self._settled_jobs.append(job)
        self._wake()

    def _wake(self) -> None:
        if self._change_event is not None:
            self._change_event.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> J:
        """Return the next job that has settled. This is a checkpoint."""
        backend = _backend.current_backend()
        if self._settled_jobs or self._is_exhausted():  # otherwise, the wait below is the checkpoint
            await backend.checkpoint()
        while not self._settled_jobs:
            if self._is_exhausted():
                raise StopAsyncIteration
            if self._change_event is None or self._change_event.is_set():
                self._change_event = backend.create_event()
            if not self._is_reported:
                self._is_reported = await _awaiting.wait_or_report(
                    self._change_event, self._waiter, self._unsettled_jobs, ITERATES
                )
            await self._change_event.wait()
        return self._settled_jobs.popleft()

    def _is_exhausted(self) -> bool:
        """Return whether no further jobs are awaited, because the run has ended or all awaited jobs have settled."""
        return self._has_run_ended or self._unsettled_jobs <= self._askers() or self._scheduler._will_not_reach()

    def awaited_by(self, job: AbstractJob[Any]) -> tuple[AbstractJob[Any], ...]:
        """Return the jobs for which the iteration waits, if `job` iterates and is not done with what it got."""
        return () if self._waiter is not job or self._settled_jobs else tuple(self._unsettled_jobs - self._askers())

    def _askers(self) -> set[Any]:
        """Return the jobs that iterate over all jobs, if this iterator does, too: none may wait for the others."""
        iterators = (self._scheduler._settled_iterators or ()) if self.includes_added_jobs else ()
        return {job for iterator in iterators if iterator.includes_added_jobs for job in iterator._iterating_jobs}


def _weak_listener(iterator: SettledJobs[Any]) -> Callable[[AbstractJob[Any]], None]:
    """Return a listener that notifies the iterator of a settled job, but does not keep the iterator alive."""
    iterator_ref = weakref.ref(iterator)

    def listener(job: AbstractJob[Any]) -> None:
        iterator = iterator_ref()
        if iterator is not None:
            iterator._on_settled(job)

    return listener
