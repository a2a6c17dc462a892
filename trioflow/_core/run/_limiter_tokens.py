"""The tokens of a `CapacityLimiter`: the jobs of a run that wait for one, and the workers that have one.

A limiter counts the jobs that are working, at any depth: those of the run whose window it is, and those of nested runs,
except where a nested run has its own limiter. A job acquires what it needs in this order:

```
ready ──► a slot, if its run's window is a number or adaptive, together with its needs ──► a token ──► it runs
```

So a job with a token waits for nothing else, and tokens cannot cause a deadlock. Nested schedulers, and jobs that have
their own limiter, take no token.
Forever jobs and clean-up jobs take neither a slot nor a token, and if such a job is a scheduler, neither do the jobs in
it, unless it has its own limiter.

- Jobs that have a slot and their needs wait for tokens in the start order of their run. A nested scheduler that is
  ready starts without waiting for a token.
- A run requests one token at a time: one of its workers waits in the limiter's queue. When that worker has the token,
  another worker begins to wait. So runs that share a limiter alternate.
- A worker keeps its token from job to job, unless other tasks wait for the limiter. In that case, it releases the token
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
"""The maximum number of jobs that one call of `collect_ready_jobs` moves. Moving them takes half a millisecond."""


class LimiterTokens:
    """The tokens of one run's limiter, and the jobs of the run that wait only for a token.

    Args:
        run: the run.
        workers: the workers of the run, which count the slots.
        limiter: the limiter.

    """

    __slots__ = ("_heap", "_request_scope", "_run", "_workers", "limiter", "waiting_jobs")

    def __init__(self, run: Run, workers: Workers, limiter: Any) -> None:
        self._run = run
        self._workers = workers
        self.limiter: Final = limiter
        # The jobs that wait for a token; each of them has a slot and its needs.
        self.waiting_jobs: Final[dict[AbstractJob[Any], None]] = {}
        # The entries of these jobs, and of some that no longer wait, as a heap in start order.
        self._heap: Final[list[HeapEntry]] = []
        self._request_scope: Scope | None = None  # the scope of the one worker that waits in the limiter's queue

    def detach(self) -> None:
        """Drop the reference to the run, which has ended."""
        del self._run, self._workers

    @property
    def is_requesting(self) -> bool:
        """Whether a worker of this run waits in the limiter's queue."""
        return self._request_scope is not None

    def first_waiting_job(self) -> AbstractJob[Any] | None:
        """Return the job that gets the next token; None if no job waits."""
        while self._heap and self._heap[0][2] not in self.waiting_jobs:
            heapq.heappop(self._heap)
        return self._heap[0][2] if self._heap else None

    def waiting_in_order(self) -> list[AbstractJob[Any]]:
        """Return the waiting jobs in start order."""
        return [entry[2] for entry in sorted(self._heap) if entry[2] in self.waiting_jobs]

    async def next_job(self, worker: Worker, has_run_jobs: bool) -> AbstractJob[Any] | None:
        """Wait for a job that a worker can run, and for a token if the job needs one.

        Args:
            worker: a worker without a job.
            has_run_jobs: whether the worker has already run a job. If so, it cannot run a job that needs its own task.

        Returns:
            The job; None if the worker must leave.

        """
        run, workers, queue = self._run, self._workers, self._run.queue
        if worker.has_slot:
            workers.give_back_slot(worker)
        if worker.token_limiter is not None and self._do_others_wait():
            self.release(worker)
        while run.phase is not STOPPING:
            job = self.collect_ready_jobs(worker) if queue.forever or queue.jobs else None
            if job is not None:
                return job
            first = self.first_waiting_job()
            if first is None or (has_run_jobs and (run.needs_own_tasks or needs_own_task(first))):
                return None
            if self._acquire_nowait(worker):
                job = self._grant_token(worker, first)
                if job is not None:
                    return job
            elif self._request_scope is not None or not await self._wait_for_token(worker):
                return None
        return None

    def collect_ready_jobs(self, worker: Worker | None = None) -> AbstractJob[Any] | None:
        """Give ready jobs their slots and resources, and move these jobs to the queue for tokens.

        If `worker` is None, stop at the first job that needs no token, and leave it in the ready queue.

        Otherwise, return the first job that the worker can run at once; None if there is none. This is either a job
        that needs no token (the worker's token is then released) or, if no job is waiting for a token, a job that can
        use the worker's token or a free one.
        """
        workers, queue = self._workers, self._run.queue
        ready = queue.jobs
        for _ in range(MAX_QUEUED_PER_TURN):
            if workers.free <= 0 or not ready:
                break
            entry = ready.pop_entry()
            job = entry[2]
            if job._state is not SCHEDULED:
                continue  # the job was cancelled, or was taken from the forever queue
            needs_token = not (job._options.forever or is_scheduler(job) or job._own_limiter is not None)
            if needs_token and (worker is None or self.waiting_jobs or not self._acquire_nowait(worker)):
                workers.free -= 1
                if (grant := job._grant()) is not None:
                    grant.defer_accrual()
                self.waiting_jobs[job] = None
                heapq.heappush(self._heap, entry)
            elif worker is None:
                ready.push_entry(entry)
                break
            else:
                if not needs_token:
                    self.release(worker)
                    queue.remove_forever_entry(job)
                if not job._options.forever:
                    workers.free -= 1
                    worker.has_slot = True
                return job
        if worker is None or not queue.forever:
            return None
        forever = queue.take(has_slot=False)
        if forever is not None:
            self.release(worker)
        return forever

    def _grant_token(self, worker: Worker, first: AbstractJob[Any] | None) -> AbstractJob[Any] | None:
        """Return the job that runs with the worker's token, with a slot; None if no job may start after all.

        If `first`, the first waiting job, may not start because an earlier job has become ready or a resource was
        throttled, put it back into the ready queue, and continue with the new first job.
        """
        ready = self._run.queue.jobs
        requeued: set[AbstractJob[Any]] = set()
        while first is not None:
            if first in requeued or ready.may_start(self._heap[0]):
                if (grant := first._grant()) is not None:
                    grant.resume_accrual()
                    ready.admission_queue.request_round()
                worker.has_slot = True
                del self.waiting_jobs[first]
                return heapq.heappop(self._heap)[2]
            requeued.add(first)
            self._workers.free += 1
            del self.waiting_jobs[first]
            ready.push_entry(heapq.heappop(self._heap))
            self.collect_ready_jobs()
            first = self.first_waiting_job()
        return None

    def forget(self, job: AbstractJob[Any]) -> None:
        """Remove a cancelled job from the queue for tokens, if it is there, and release its slot and needs."""
        if job in self.waiting_jobs:
            del self.waiting_jobs[job]
            self._workers.free += 1
            self._run.queue.jobs.return_grant(job)
            self.update_request()

    def drain(self) -> list[AbstractJob[Any]]:
        """Empty the queue for tokens, release the slots and needs of its jobs, and return the jobs in start order."""
        jobs = [entry[2] for entry in self._clear()]
        for job in jobs:
            self._run.queue.jobs.return_grant(job)
        self.update_request()
        return jobs

    def requeue_waiting(self) -> None:
        """Move the waiting jobs back to the ready queue, and release their slots and needs.

        Call this before the start order changes.
        """
        for entry in reversed(self._clear()):
            self._run.queue.jobs.push_entry(entry)

    def _clear(self) -> list[HeapEntry]:
        """Empty the queue for tokens, release the slots of its jobs, and return their entries in start order."""
        entries = [entry for entry in sorted(self._heap) if entry[2] in self.waiting_jobs]
        self._workers.free += len(entries)
        self.waiting_jobs.clear()
        self._heap.clear()
        return entries

    def update_request(self) -> None:
        """Ensure that a worker requests the next token; if no job waits for one, cancel the request."""
        if self.waiting_jobs:
            self._workers.ensure_searcher()
        elif self._request_scope is not None:
            self._request_scope.cancel()

    def _acquire_nowait(self, worker: Worker) -> bool:
        """Take a free token for a worker, unless it has one already; return whether it has a token now."""
        if worker.token_limiter is None and self._run.backend.try_acquire(self.limiter, worker):
            worker.token_limiter = self.limiter
        return worker.token_limiter is not None

    def release(self, worker: Worker) -> None:
        """Release the token of a worker, if it has one."""
        if worker.token_limiter is not None:
            worker.token_limiter = None
            self.limiter.release_on_behalf_of(worker)

    async def _wait_for_token(self, worker: Worker) -> bool:
        """Wait in the limiter's queue for a token; return False if the wait was cancelled."""
        run, workers = self._run, self._workers
        workers.searchers -= 1  # so that another worker looks for jobs that need no token
        try:
            with run.backend.create_scope() as self._request_scope:
                workers.ensure_searcher()
                if await run.backend.acquire(self.limiter, worker):
                    worker.token_limiter = self.limiter
        finally:
            self._request_scope = None
            workers.searchers += 1
        return worker.token_limiter is not None

    def _do_others_wait(self) -> bool:
        """Return whether tasks other than a worker of this run wait in the limiter's queue."""
        # If tokens are available, no task waits. Reading the statistics would take five times as long.
        if self.limiter.available_tokens > 0:
            return False
        waiting: int = self.limiter.statistics().tasks_waiting
        return waiting > (self._request_scope is not None)


def enclosing_limiter(run: Run) -> Any:
    """Return the limiter of an enclosing run that also applies to `run`, which has none itself; None if none applies.

    No limiter applies if the scheduler of `run` is a forever job or a clean-up job, whose worker has no slot.
    """
    worker = run.outer_worker
    tokens = worker.run.workers.tokens if worker is not None and worker.has_slot else None
    return None if tokens is None else tokens.limiter


def token_holder(limiter: Any) -> AbstractJob[Any] | None:
    """Return the innermost job, from the current one outwards, that holds a token of `limiter`; None if none does."""
    for worker in enclosing_workers():
        if worker.job is not None and limiter in (worker.token_limiter, worker.job._own_limiter):
            return worker.job
    return None
