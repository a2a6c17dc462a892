"""The tokens of a `CapacityLimiter`: the jobs of a run that wait for one, and the workers that have one.

A limiter counts the jobs that work, at any depth: those of the run whose window it is, and those of nested runs, except
where a nested run has a limiter of its own. A job acquires its resources in this order:

```
ready ──► a slot of its run's integer window, if any, together with its needs ──► a token ──► it runs
```

So a job with a token waits for nothing else, and there can be no deadlock over tokens. The job releases the token when
it ends or is throttled. A nested scheduler takes no token. Forever jobs and clean-up jobs take neither a slot nor a
token, and the same is true for the jobs nested in them, unless they have a limiter of their own.

- Jobs with a slot and their needs wait for tokens in the start order of their run. A nested scheduler that is ready
  starts without waiting.
- A run requests one token at a time: one of its workers waits in the limiter's queue. When that worker has the token,
  another one follows. So runs that share a limiter alternate.
- A worker keeps its token from job to job, unless other tasks wait for the limiter. In that case it releases the token
  and requests another, at the end of the limiter's queue.
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
"""The most ready jobs that begin to wait for tokens in one call of `collect`, which takes half a millisecond."""


class Tokens:
    """The limiter of one run, and the jobs of the run that have all they need but a token.

    Args:
        run: the run.
        workers: its workers, which count the slots.
        limiter: the limiter.

    """

    __slots__ = ("_heap", "_request_scope", "_run", "_workers", "limiter", "waiting")

    def __init__(self, run: Run, workers: Workers, limiter: Any) -> None:
        self._run = run
        self._workers = workers
        self.limiter: Final = limiter
        # The jobs that have a slot and their needs, and wait for a token.
        self.waiting: Final[dict[AbstractJob[Any], None]] = {}
        self._heap: Final[list[HeapEntry]] = []  # the same jobs in start order, among obsolete entries
        self._request_scope: Scope | None = None  # the scope of the one worker that waits in the limiter's queue

    def detach(self) -> None:
        """Release the run, which is over."""
        del self._run, self._workers

    @property
    def is_requesting(self) -> bool:
        """Whether a worker of this run waits in the limiter's queue."""
        return self._request_scope is not None

    def first(self) -> AbstractJob[Any] | None:
        """Return the job that gets the next token, or None."""
        while self._heap and self._heap[0][2] not in self.waiting:
            heapq.heappop(self._heap)
        return self._heap[0][2] if self._heap else None

    def in_order(self) -> list[AbstractJob[Any]]:
        """Return the waiting jobs in start order."""
        return [entry[2] for entry in sorted(self._heap) if entry[2] in self.waiting]

    async def next_job(self, worker: Worker, has_run_jobs: bool) -> AbstractJob[Any] | None:
        """Wait for a job that `worker` can run, with a token if the job takes one; None if the worker has to leave.

        Args:
            worker: a worker without a job.
            has_run_jobs: whether the worker has run jobs before: then it cannot run a job that needs its own task.

        """
        run, workers, queue = self._run, self._workers, self._run.queue
        if worker.has_slot:
            workers.give_back_slot(worker)
        if worker.token_limiter is not None and self._others_wait():
            self.release(worker)
        while run.phase is not STOPPING:
            job = self.collect(worker) if queue.forever or queue.jobs else None
            if job is not None:
                return job
            first = self.first()
            if first is None or (has_run_jobs and (run.needs_own_tasks or needs_own_task(first))):
                return None
            if self._has_token(worker):
                job = self._take(worker, first)
                if job is not None:
                    return job
            elif self._request_scope is not None or not await self._wait(worker):
                return None
        return None

    def collect(self, worker: Worker | None = None) -> AbstractJob[Any] | None:
        """Move ready jobs, with slots and needs, to the queue for tokens; return the first job that can run now.

        Without a worker, this stops at the first job that takes no token. With a worker, this releases the worker's
        token and returns that job; or it returns a job that takes a token, if no other job waits and a token is free.
        """
        workers, queue = self._workers, self._run.queue
        ready = queue.jobs
        for _ in range(MAX_QUEUED_PER_TURN):
            if workers.free <= 0 or not ready:
                break
            entry = ready.pop_entry()
            job = entry[2]
            if job._state is not SCHEDULED:
                continue  # it was cancelled, or it is a forever job that was taken from the forever queue
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
                    queue.remove_forever_entry(job)
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
        """Return the first job, which runs with the worker's token; None if no job may start after all.

        While the worker waited for the token, a job that starts earlier may have become ready, or a rate may have been
        throttled. Then the jobs' needs are granted anew.
        """
        ready = self._run.queue.jobs
        requeued: set[AbstractJob[Any]] = set()
        while first is not None:
            if first in requeued or ready.may_start(self._heap[0]):
                if (grant := first._grant()) is not None:
                    grant.start()
                    ready.admission_queue.request_round()
                worker.has_slot = True
                del self.waiting[first]
                return heapq.heappop(self._heap)[2]
            requeued.add(first)
            self._workers.free += 1
            del self.waiting[first]
            ready.push_entry(heapq.heappop(self._heap))
            self.collect()
            first = self.first()
        return None

    def forget(self, job: AbstractJob[Any]) -> None:
        """Remove a cancelled job from the queue for tokens, if it is there."""
        if job in self.waiting:
            del self.waiting[job]
            self._workers.free += 1
            self._run.queue.jobs.return_grant(job)
            self.note_start()

    def drain(self) -> list[AbstractJob[Any]]:
        """Empty the queue for tokens, and return its jobs in order; they lose their slots and needs."""
        jobs = [entry[2] for entry in self._clear()]
        for job in jobs:
            self._run.queue.jobs.return_grant(job)
        self.note_start()
        return jobs

    def requeue_waiting(self) -> None:
        """Move the waiting jobs back to the ready queue, without slots and needs, before the start order changes."""
        for entry in reversed(self._clear()):
            self._run.queue.jobs.push_entry(entry)

    def _clear(self) -> list[HeapEntry]:
        """Empty the queue for tokens; return its valid entries in order."""
        entries = [entry for entry in sorted(self._heap) if entry[2] in self.waiting]
        self._workers.free += len(entries)
        self.waiting.clear()
        self._heap.clear()
        return entries

    def note_start(self) -> None:
        """Make a worker request the next token, or cancel the request if no job waits."""
        if self.waiting:
            self._workers.ensure_searcher()
        elif self._request_scope is not None:
            self._request_scope.cancel()

    def _has_token(self, worker: Worker) -> bool:
        """Take a token for a worker, if it has none and one is free; return whether it has one now."""
        if worker.token_limiter is None and self._run.backend.try_acquire(self.limiter, worker):
            worker.token_limiter = self.limiter
        return worker.token_limiter is not None

    def release(self, worker: Worker) -> None:
        """Release the token of a worker, if it has one."""
        if worker.token_limiter is not None:
            worker.token_limiter = None
            self.limiter.release_on_behalf_of(worker)

    async def _wait(self, worker: Worker) -> bool:
        """Wait in the limiter's queue for a token; return False if it is no longer needed, or after a cancellation."""
        run, workers = self._run, self._workers
        workers.searchers -= 1  # another worker has to look for jobs that take no token
        try:
            with run.backend.scope() as self._request_scope:
                workers.ensure_searcher()
                if await run.backend.acquire(self.limiter, worker):
                    worker.token_limiter = self.limiter
        finally:
            self._request_scope = None
            workers.searchers += 1
        return worker.token_limiter is not None

    def _others_wait(self) -> bool:
        """Return whether tasks other than this run's worker wait in the limiter's queue."""
        if self.limiter.available_tokens > 0:  # then no task waits; reading the statistics takes five times as long
            return False
        waiting: int = self.limiter.statistics().tasks_waiting
        return waiting > (self._request_scope is not None)


def enclosing_limiter(run: Run) -> Any:
    """Return the limiter that applies to a nested run without a limiter of its own, or None.

    It is that of the enclosing run, unless the nested scheduler is a forever or clean-up job, whose worker has no slot.
    """
    worker = run.outer_worker
    tokens = worker.run.workers.tokens if worker is not None and worker.has_slot else None
    return None if tokens is None else tokens.limiter


def token_holder(limiter: Any) -> AbstractJob[Any] | None:
    """Return the job that runs this code, at any depth of nested runs, and holds a token of `limiter`; or None."""
    for worker in enclosing_workers():
        if worker.job is not None and limiter in (worker.token_limiter, worker.job._own_limiter):
            return worker.job
    return None
