"""The limiter of a run: the jobs that wait for one of its tokens, and the workers that have one.

A limiter counts the jobs that work, at any depth: it applies to the run whose window it is, and to the runs nested
there, down to those with a limiter of their own. A job takes its shares in this order:

```
ready ──► a slot of its run, if slots are counted, and its needs, together ──► a token ──► it runs
```

So a job with a token has all that it needs, and works; it returns the token when it has ended, or is throttled. A
scheduler takes no token. A cycle of waits would need a job that waits with a token. Forever jobs and clean-up jobs
take no slot, and no token; nor do the jobs nested in one, unless it has a limiter of its own.

- Jobs with a slot and their needs wait in `Tokens`, in the order of the run. The schedulers among the ready jobs start
  immediately.
- A run requests one token at a time: one worker waits in the limiter's queue. When it has got the token, the next one
  follows. So runs that share a limiter take turns.
- A worker keeps its token from job to job, unless others wait for the limiter. Then it returns the token and requests
  one again, at the end of the limiter's queue.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, Final

from ..base._states import SCHEDULED, STOPPING
from ..job._job import AbstractJob, is_scheduler
from ._current import enclosing_workers
from ._worker import needs_own_task

if TYPE_CHECKING:
    from ..admission._heap_keys import HeapEntry
    from ..backend import Scope
    from ._run import Run
    from ._worker import Worker
    from ._workers import Workers

MAX_QUEUED_PER_TURN: Final = 200
"""The most ready jobs that begin to wait for tokens in one turn of the loop, which takes half a ms."""


class Tokens:
    """The limiter of one run, and the jobs of the run that wait only for a token.

    Args:
        run: the run.
        workers: its workers, which count the slots.
        limiter: the limiter.

    """

    __slots__ = ("_heap", "_run", "_scope", "_workers", "limiter", "waiting")

    def __init__(self, run: Run, workers: Workers, limiter: Any) -> None:
        self._run = run
        self._workers = workers
        self.limiter: Final = limiter
        # The jobs that have a slot and their needs, and wait for a token.
        self.waiting: Final[dict[AbstractJob[Any], None]] = {}
        self._heap: Final[list[HeapEntry]] = []  # the same in order, with obsolete entries
        self._scope: Scope | None = None  # the scope of the one worker that waits in the limiter's queue

    def detach(self) -> None:
        """Release the run, which is over."""
        del self._run, self._workers

    @property
    def is_requesting(self) -> bool:
        """Whether a worker of this run waits in the limiter's queue."""
        return self._scope is not None

    def first(self) -> AbstractJob[Any] | None:
        """Return the job that gets the next token; None if no job waits."""
        while self._heap and self._heap[0][2] not in self.waiting:
            heapq.heappop(self._heap)
        return self._heap[0][2] if self._heap else None

    def in_order(self) -> list[AbstractJob[Any]]:
        """Return the jobs that wait, in the order in which they start."""
        return [entry[2] for entry in sorted(self._heap) if entry[2] in self.waiting]

    async def next_job(self, worker: Worker, used: bool) -> AbstractJob[Any] | None:
        """Return the next job, when the worker has all that the job needs; None if the worker has to leave.

        Args:
            worker: a worker without a job.
            used: whether it has run jobs before, so that it cannot run a job that needs a task of its own.

        """
        run, workers, queue = self._run, self._workers, self._run.queue
        if worker.has_slot:
            workers.give_back_slot(worker)
        if worker.token is not None and self._others_wait():
            self.release(worker)
        while run.phase is not STOPPING:
            job = self.collect(worker) if queue.forever or queue.jobs else None
            if job is not None:
                return job
            first = self.first()
            if first is None or (used and (run.own_tasks or needs_own_task(first))):
                return None
            if self._has_token(worker):
                job = self._take(worker, first)
                if job is not None:
                    return job
            elif self._scope is not None or not await self._wait(worker):
                return None
        return None

    def collect(self, worker: Worker | None = None) -> AbstractJob[Any] | None:
        """Queue ready jobs with slots for tokens; return the first job that `worker` can run now.

        Without a worker, a job that takes no token stays in its place. With one, such a job gives the worker's token
        back; and a job that takes one need not queue while no other waits and there is a token for it.
        """
        workers, queue = self._workers, self._run.queue
        ready = queue.jobs
        for _ in range(MAX_QUEUED_PER_TURN):
            if workers.free <= 0 or not ready:
                break
            entry = ready.pop_entry()
            job = entry[2]
            if job._state is not SCHEDULED:
                continue  # cancelled since, or a forever job that was taken from its other queue
            takes_token = not (job._forever or is_scheduler(job) or job._own_limiter is not None)
            if takes_token and (worker is None or self.waiting or not self._has_token(worker)):
                workers.free -= 1
                if (grant := job._grant()) is not None:
                    grant.hold()
                self.waiting[job] = None
                heapq.heappush(self._heap, entry)
            elif worker is None:
                ready.push_entry(entry)
                break
            else:
                if not takes_token:
                    self.release(worker)
                    queue.note_taken(job)
                if not job._forever:
                    workers.free -= 1
                    worker.has_slot = True
                return job
        if worker is None or not queue.forever:
            return None
        forever = queue.take(has_slot=False)
        if forever is not None:
            self.release(worker)
        return forever

    def _take(self, worker: Worker, first: AbstractJob[Any] | None) -> AbstractJob[Any] | None:
        """Give the worker's token to the first job, and return it; None if no job may start after all.

        Meanwhile an earlier job may have become ready, which waits for this one's grant; or a rate may have been
        throttled. Then the grants are decided anew.
        """
        ready = self._run.queue.jobs
        chosen: set[AbstractJob[Any]] = set()
        while first is not None:
            if first in chosen or ready.may_begin(self._heap[0]):
                if (grant := first._grant()) is not None:
                    grant.begin()
                    ready.sharing.note_change()
                worker.has_slot = True
                del self.waiting[first]
                return heapq.heappop(self._heap)[2]
            chosen.add(first)
            self._workers.free += 1
            del self.waiting[first]
            ready.push_entry(heapq.heappop(self._heap))
            self.collect()
            first = self.first()
        return None

    def forget(self, job: AbstractJob[Any]) -> None:
        """Remove a cancelled job from the queue for tokens."""
        if job in self.waiting:
            del self.waiting[job]
            self._workers.free += 1
            self._run.queue.jobs.return_grant(job)
            self.note_start()

    def drain(self) -> list[AbstractJob[Any]]:
        """Empty the queue for tokens; return its jobs, in order."""
        jobs = [entry[2] for entry in self._clear()]
        for job in jobs:
            self._run.queue.jobs.return_grant(job)
        self.note_start()
        return jobs

    def requeue_waiting(self) -> None:
        """Put the waiting jobs back among the ready ones, without slots and needs: the order is about to change."""
        for entry in reversed(self._clear()):
            self._run.queue.jobs.push_entry(entry)

    def _clear(self) -> list[HeapEntry]:
        """Empty the queue for tokens; return its valid entries, in order."""
        entries = [entry for entry in sorted(self._heap) if entry[2] in self.waiting]
        self._workers.free += len(entries)
        self.waiting.clear()
        self._heap.clear()
        return entries

    def note_start(self) -> None:
        """Have a worker request the next token, or withdraw the request if no job waits."""
        if self.waiting:
            self._workers.ensure_searcher()
        elif self._scope is not None:
            self._scope.cancel()

    def _has_token(self, worker: Worker) -> bool:
        """Return whether a worker has a token; it takes one that is free."""
        if worker.token is None and self._run.backend.try_acquire(self.limiter, worker):
            worker.token = self.limiter
        return worker.token is not None

    def release(self, worker: Worker) -> None:
        """Give back the token of a worker, if it has one."""
        if worker.token is not None:
            worker.token = None
            self.limiter.release_on_behalf_of(worker)

    async def _wait(self, worker: Worker) -> bool:
        """Wait in the limiter's queue for a token; return False if it is no longer needed, or on cancellation."""
        run, workers = self._run, self._workers
        workers.searchers -= 1  # while it waits here, another one has to look for jobs without a token
        try:
            with run.backend.scope() as self._scope:
                workers.ensure_searcher()
                if await run.backend.acquire(self.limiter, worker):
                    worker.token = self.limiter
        finally:
            self._scope = None
            workers.searchers += 1
        return worker.token is not None

    def _others_wait(self) -> bool:
        """Return whether others than the worker of this run wait in the limiter's queue."""
        if self.limiter.available_tokens > 0:  # then nothing waits, and the statistics take five times as long
            return False
        waiting: int = self.limiter.statistics().tasks_waiting
        return waiting > (self._scope is not None)


def enclosing_limiter(run: Run) -> Any:
    """Return the limiter of the enclosing run, for a run whose own window is not one; None if there is none.

    A worker without a slot runs a forever job or a clean-up job.
    """
    worker = run.outer_worker
    tokens = worker.run.workers.tokens if worker is not None and worker.has_slot else None
    return None if tokens is None else tokens.limiter


def token_holder(limiter: Any) -> AbstractJob[Any] | None:
    """Return the job that contains this call, at any depth of runs, and holds a token of the limiter."""
    for worker in enclosing_workers():
        if worker.job is not None and limiter in (worker.token, worker.job._own_limiter):
            return worker.job
    return None
