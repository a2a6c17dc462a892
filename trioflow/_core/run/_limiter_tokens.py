"""The tokens of a `CapacityLimiter`: the jobs of a run that have one, and those that wait only for one.

A limiter counts the jobs that are working, at any depth: those of the run whose window it is, and those of nested runs,
except where a nested run has its own limiter. A job takes its token last, after its slot and its needs, so a job with a
token waits for nothing else, and tokens cannot cause a deadlock. Nested schedulers, and jobs that have their own
limiter, take no token. Forever jobs and clean-up jobs take neither a slot nor a token, and if such a job is a
scheduler, neither do the jobs in it, unless it has its own limiter.

- Jobs that have a slot and their needs wait for tokens in the start order of their run. A nested scheduler that is
  ready starts without waiting for a token.
- A run requests one token at a time: one of its workers waits in the limiter's queue. So runs that share a limiter
  alternate.
- The token of a job that has settled goes to the next job of its run, unless other tasks wait for the limiter. It is
  passed on only after the successors of the job have become ready, which may come first.
- A job that asks now comes after those that other runs with the limiter have waiting, even if these are between two
  requests.
- At the end of a pause, the jobs of all runs in it ask in the order in which they became ready, not run by run.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, Final

from ..admission.policy._policy import ready_numbers
from ..job._job import AbstractJob, is_scheduler, takes_slot
from ._current import enclosing_workers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..admission.policy._policy import HeapEntry, StartKeys
    from ..backend import Scope
    from ._run import Run
    from ._worker import Worker


class LimiterTokens:
    """The tokens of one run's limiter, and the jobs of the run that wait only for a token."""

    def __init__(self, run: Run, limiter: Any) -> None:
        self._run = run
        self.limiter: Final = limiter
        if run.backend.try_acquire(limiter, self):  # anyio needs a task at the first use, which may be in a callback
            limiter.release_on_behalf_of(self)
        # For each job that has a token, the object that is its borrower in the limiter.
        self.borrowers: Final[dict[AbstractJob[Any], object]] = {}
        self._unused: Final[list[object]] = []  # the borrowers of tokens of settled jobs, until these are passed on
        # The jobs that wait for a token, with their entries; and these, with some obsolete ones, as a heap.
        self.waiting: Final[dict[AbstractJob[Any], HeapEntry]] = {}
        self._heap: Final[list[HeapEntry]] = []
        self.request_scope: Scope | None = None  # the scope of the one worker that waits in the limiter's queue
        self.is_held_back = False  # whether all jobs wait until their run asks again, in `ask_in_order`

    def detach(self) -> None:
        del self._run

    def first_waiting(self) -> AbstractJob[Any] | None:
        """Return the job that gets the next token; None if no job waits."""
        while self._heap and self.waiting.get(self._heap[0][2]) is not self._heap[0]:
            heapq.heappop(self._heap)
        return self._heap[0][2] if self._heap else None

    def waiting_in_order(self) -> list[AbstractJob[Any]]:
        return [entry[2] for entry in sorted(self.waiting.values())]

    def acquire_or_wait(self, entry: HeapEntry) -> bool:
        """Return whether a job may start, because it needs no token or gets one at once; otherwise, let it wait."""
        job = entry[2]
        if not self.is_held_back and (not takes_slot(job) or is_scheduler(job) or job._own_limiter is not None):
            return True
        if not (self.waiting or self.is_held_back):
            if self._unused and self._do_others_wait():
                self.pass_on()  # the others have asked before
            while self._unused or self._acquire_free():
                earlier = self._run_that_waits()
                if earlier is None:
                    self.borrowers[job] = self._unused.pop()
                    return True
                earlier.start_with(self._unused.pop())
        self.waiting[job] = entry
        self._run.time_slice.token_lines[self] = None
        heapq.heappush(self._heap, entry)
        return False

    def release(self, job: AbstractJob[Any]) -> None:
        """Take back the token of a job, for `pass_on`; if the job waits for one, let it wait no longer."""
        if job in self.borrowers:
            self._unused.append(self.borrowers.pop(job))
        elif self.waiting.pop(job, None) is not None:
            self._wait_no_longer()

    def pass_on(self) -> None:
        """Start waiting jobs with the tokens that were taken back; return the tokens if others wait, or no job does."""
        while self._unused:
            if self.first_waiting() is None or self._do_others_wait():
                self.limiter.release_on_behalf_of(self._unused.pop())
            else:
                self._start_first()

    def _run_that_waits(self) -> LimiterTokens | None:
        """Return the tokens of a run that waits for one of this limiter, besides one that its request has got."""
        lines = [each for each in self._run.time_slice.token_lines if each.limiter is self.limiter]
        return next((each for each in lines if len(each.waiting) > (each.request_scope is not None)), None)

    def start_with(self, borrower: object) -> None:
        """Start the first waiting job with a token of another run."""
        self._unused.append(borrower)
        self.first_waiting()
        self._start_first()
        self._run.workers.spawn_searcher()

    def needs_request(self) -> bool:
        return bool(self.waiting) and self.request_scope is None and not self.is_held_back

    async def request(self, worker: Worker) -> None:
        """Wait in the limiter's queue for a token, and start waiting jobs with it and with others that are free."""
        run, borrower = self._run, object()
        has_token = False
        worker.stop_searching()  # so that another worker looks for jobs that need no token
        run.standstill.active_count -= 1
        try:
            with run.backend.create_scope() as self.request_scope:
                run.workers.ensure_searcher()
                run.standstill.suspect(run)
                has_token = await run.backend.acquire(self.limiter, borrower)
        finally:
            self.request_scope = None
            run.standstill.count_worker()
            worker.start_searching()
            if has_token:
                self._unused.append(borrower)
            while self.first_waiting() is not None and (self._unused or self._acquire_free()):
                self._start_first()
            self.pass_on()

    def drain(self) -> list[HeapEntry]:
        entries = sorted(self.waiting.values())
        self.waiting.clear()
        self._heap.clear()
        self._wait_no_longer()
        return entries

    def use_order(self, order: StartKeys) -> None:
        for job in self.waiting_in_order():
            self.waiting[job] = (order.key(job), next(ready_numbers), job)
        self._heap[:] = sorted(self.waiting.values())

    def _start_first(self) -> None:
        job = heapq.heappop(self._heap)[2]
        del self.waiting[job]
        self.borrowers[job] = self._unused.pop()
        self._run.queue.startable.append(job)
        self._wait_no_longer()

    def _acquire_free(self) -> bool:
        borrower = object()
        if self._run.backend.try_acquire(self.limiter, borrower):
            self._unused.append(borrower)
        return bool(self._unused)

    def _wait_no_longer(self) -> None:
        """If no job waits any more, leave the runs that wait, and the limiter's queue."""
        if not self.waiting:
            self._run.time_slice.token_lines.pop(self, None)
            if self.request_scope is not None:
                self.request_scope.cancel()

    def _do_others_wait(self) -> bool:
        """Return whether tasks other than a worker of this run wait in the limiter's queue, or its total has shrunk."""
        # If tokens are available, no task waits. Reading the statistics would take five times as long.
        available: float = self.limiter.available_tokens
        if available != 0:
            return available < 0
        waiting: int = self.limiter.statistics().tasks_waiting
        return waiting > (self.request_scope is not None)


def ask_in_order(runs: list[Run]) -> None:
    """Let the jobs of runs whose pause is over ask for tokens in the order in which they became ready.

    As in a round of the admission, each run keeps its own order, and between runs a higher priority comes first.
    """
    lines: list[LimiterTokens] = [run.queue.tokens for run in runs if run.queue.tokens is not None]
    for tokens in lines:
        tokens.is_held_back = True
    for tokens in lines:
        tokens._run.queue.admit()
    asking = [[(-each[2]._options.priority, each[1], each, tokens) for each in tokens.drain()] for tokens in lines]
    for tokens in lines:
        tokens.is_held_back = False
    for *_, entry, tokens in heapq.merge(*asking):
        if tokens.acquire_or_wait(entry):
            tokens._run.queue.startable.append(entry[2])
            tokens._run.workers.spawn_searcher()
        elif len(tokens.waiting) == 1:
            tokens._run.workers.spawn()  # to request a token before the runs of later jobs do


def takes_limits_of(run: Run) -> Worker | None:
    """Return the worker that runs the scheduler of `run` under the limits of its run.

    Return None if there is no such run, or if no limit applies, because the scheduler is a forever or clean-up job.
    """
    worker = run.outer_worker
    is_unlimited = worker is None or worker.is_shielded or worker.workers is not worker.run.workers
    return None if is_unlimited else worker


def token_holder(limiter: Any) -> AbstractJob[Any] | None:
    """Return the innermost job, from the current one outwards, that holds a token of `limiter`; None if none does."""
    workers = [worker for worker in enclosing_workers() if worker.job is not None]
    holders = {*token_holders((worker.run for worker in workers), limiter)}
    return next((worker.job for worker in workers if worker.job in holders), None)


def token_holders(runs: Iterable[Run], limiter: Any) -> Iterator[AbstractJob[Any]]:
    """Yield the jobs of these runs that hold a token of `limiter`, also those that have not begun. Any thread may ask.

    A running job may have the limiter itself, in place of the window's.
    """
    for run in runs:
        working = (worker.job for worker in list(run.workers.alive))
        yield from (job for job in working if job is not None and job._own_limiter is limiter)
        if run.queue.tokens is not None and run.queue.tokens.limiter is limiter:
            yield from list(run.queue.tokens.borrowers)
