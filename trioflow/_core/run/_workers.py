"""The workers of one run: when they are spawned, woken and parked, and their slots.

The terms worker, searcher, turn and park are defined in `_worker`, with their invariants.
"""

from __future__ import annotations

from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from ..admission._ready_queues import SharedQueue
from ..admission._window import Adaptive, max_slots
from ..job._job import is_scheduler
from ._limiter_tokens import LimiterTokens, enclosing_limiter
from ._worker import TURN_SECONDS, Worker, needs_own_task

if TYPE_CHECKING:
    from ..job._job import AbstractJob
    from ._run import Run

UNLIMITED_SLOTS: Final = 1 << 60
"""The number of free slots without a window."""
MIN_SEARCHERS: Final = 8
MAX_SEARCHERS: Final = 24
"""The maximum number of searchers: at first, and when many jobs are suspended.

More searchers would save turns of the loop. However, all jobs that they start resume in the same later turn, before any
other task. And if `MIN_SEARCHERS` were 16, nested schedulers whose jobs do nothing would cost a tenth more.
"""
MIN_SUSPENDED: Final = 64
SUSPENDED_PER_SEARCHER: Final = 8
"""The number of suspended jobs, beyond the first `MIN_SUSPENDED`, that allow one more searcher."""
MAX_TAKEN_FRACTION: Final = 0.5
"""If more jobs than this fraction of the suspended ones were taken since a worker was woken, jobs are not suspended for
long."""
MAX_PARKED: Final = 128
"""The maximum number of parked workers that a run keeps, its nested runs included."""


class Workers:
    """The workers of one run.

    Args:
        run: the run.
        window: the window of the run: a number, an `Adaptive`, a limiter, or None for no limit.

    """

    has_start_hook: ClassVar[bool] = False
    """Whether the class has to be notified of each job start, by `on_job_start`. If so, workers are gated."""

    def __init__(self, run: Run, window: Any) -> None:
        self._run = run
        self._queue: Final = run.queue
        self._window: Final = window
        self._size = window.minimum if isinstance(window, Adaptive) else window if isinstance(window, int) else None
        # The number of free slots, if the window is a number or an `Adaptive`. It is negative if the window has shrunk
        # below the number of running jobs.
        self.free: int = UNLIMITED_SLOTS if self._size is None else self._size
        self.limiter: Final = window if window is not None and self._size is None else None
        limiter = enclosing_limiter(run) if self.limiter is None else self.limiter
        self.tokens: Final = None if limiter is None else LimiterTokens(run, self, limiter)
        self.is_adaptive: Final = isinstance(window, Adaptive)
        # Whether workers have to call `take_job` or `next_job` for each job, instead of popping it from the queue, and
        # `on_job_start` when the job starts.
        self.is_gated: Final = self.has_start_hook or self.is_adaptive or self.tokens is not None
        self.searchers = 0
        self.search_count = 0  # how many times a worker has begun to search after it was spawned or woken
        # If there are this many searchers when a turn is used up, further workers park or leave.
        self.enough_searchers: Final = 1 if self.is_gated else MIN_SEARCHERS
        # A worker that begins to search checks whether more searchers are needed, unless there are more than this.
        self._searcher_threshold = MIN_SEARCHERS
        self.alive: Final[dict[Worker, None]] = {}
        # The parked workers of this run and of the runs whose `parking_run` is this run. They are not in `alive`.
        self.parked: Final[dict[Worker, None]] = {}
        self.forever_count = 0  # how many workers run forever jobs

    @property
    def lent_count(self) -> int:
        """The number of slots that are lent to builds, which run as jobs."""
        return 0

    @property
    def max_size(self) -> int | None:
        """The largest size of the window; None for no limit."""
        return max_slots(self._window)

    @property
    def size(self) -> int | None:
        """The current size of the window; None for no limit."""
        return max_slots(self._window) if self._size is None else self._size

    def resize(self, size: int) -> None:
        """Change the size of the window. If more jobs are running than it allows, workers leave when their jobs end."""
        assert self._size is not None
        added = size - self._size
        self.free += added
        self._size = size
        if added > 0:
            self.ensure_searcher()
        elif added < 0:
            self._queue.jobs.request_round_for_others()

    def ensure_searcher(self) -> None:
        """Spawn or wake workers if a ready job could start and there is no searcher."""
        if self.searchers or self._run.is_draining_or_stopping:
            return
        queue, tokens = self._queue, self.tokens
        ready = queue.jobs
        if tokens is not None and tokens.is_requesting and not isinstance(ready, SharedQueue):
            tokens.collect_ready_jobs()  # a SharedQueue holds jobs with needs, which only workers may admit
        if self.free > 0 and ready:
            # Wake a parked worker for each ready job, because that costs little.
            parking_run, max_searchers = self._run.parking_run, MAX_SEARCHERS
            if parking_run is not self._run or (parking_run.workers.parked and is_scheduler(ready.first())):
                max_searchers = 1  # leave parked workers for other runs, or for the nested scheduler that is starting
            number = max(1, min(len(ready), len(parking_run.workers.parked), max_searchers))
            are_few = number < len(ready) <= max_searchers and max_searchers > 1
            if are_few and not self.is_gated and _function_code(ready.first()) in self._run.time_slice.suspended_code:
                number = len(ready)  # these jobs will probably be suspended, so each of them needs a worker
            self._spawn_until(number)
        elif queue.forever and queue.has_any() and queue.forever:  # `has_any` removes cancelled jobs
            self._spawn(False, self._run.clock(), len(queue.jobs) + self.search_count)
        elif tokens is not None and tokens.waiting_jobs and not tokens.is_requesting:
            self._spawn(False, self._run.clock(), 0)

    def spawn_more(self, newcomer: Worker, now: float) -> None:
        """Spawn or wake more workers when `newcomer` begins to search while the jobs of other workers are suspended.

        Jobs that are suspended for long need a task each, and each turn of the loop costs time. So the more jobs are
        suspended, the more searchers are allowed. Jobs that are suspended for only a turn or two need few tasks. There
        are two signs of these: many jobs were taken since `newcomer` was woken, or it was woken long ago, because a
        turn in which many jobs resume takes long. In both cases, no worker is spawned or woken.
        """
        searchers = self.searchers
        if searchers > self._searcher_threshold or self.is_gated or now > newcomer.woken_at + TURN_SECONDS:
            return
        suspended = len(self.alive) - searchers
        if suspended <= 0:
            return
        ready = len(self._queue.jobs)
        taken = newcomer.jobs_at_wake_up - (ready + self.search_count - 1)
        if ready > searchers and taken <= MAX_TAKEN_FRACTION * suspended:
            more = max(0, suspended - MIN_SUSPENDED) // SUSPENDED_PER_SEARCHER
            max_searchers = min(MIN_SEARCHERS + more, MAX_SEARCHERS)
            self._searcher_threshold = max_searchers * 3 // 4
            if searchers <= self._searcher_threshold:
                self._spawn_until(min(max_searchers, ready))

    def has_suspended_job(self) -> bool:
        """Return whether any job is suspended. Call this in a task other than the workers, while no job executes."""
        return any(worker.job is not None for worker in self.alive)

    def record_suspension(self, job: AbstractJob[Any]) -> None:
        """Record whether `job`, the first job of this run, is still suspended after the first turns."""
        code, suspended = _function_code(job), self._run.time_slice.suspended_code
        if code is not None and (job._worker is not None) is not (code in suspended):
            (suspended.discard if job._worker is None else suspended.add)(code)

    def count_startable(self) -> int:
        """Return the number of slots in which ready jobs can start: free ones, and one that a searcher already has."""
        if self._run.is_draining_or_stopping:
            return 0
        return max(0, self.free) + (self.searchers > 0 and self._searcher_has_slot())

    def _spawn_until(self, searchers: int) -> None:
        """Spawn or wake workers until there are `searchers` searchers, or no free slots."""
        now, jobs = self._run.clock(), len(self._queue.jobs) + self.search_count
        for _ in range(min(searchers - self.searchers, self.free)):
            self.free -= 1
            self._spawn(True, now, jobs)

    def _spawn(self, has_slot: bool, now: float, jobs: int) -> None:
        run = self._run
        parked = run.parking_run.workers.parked
        if parked and not self._next_needs_own_task():
            worker, _ = parked.popitem()  # the most recent one, whose memory is probably still in the CPU's cache
            worker.has_slot = has_slot
            worker.record_wake_up(now, jobs)
            self._wake(worker)
            return
        self.searchers += 1
        worker = Worker(run, has_slot, now, jobs)
        self._enter(worker)
        run.group.spawn(worker)

    def _wake(self, worker: Worker) -> None:
        """Wake a parked worker, to search for a job of this run."""
        run = self._run
        self.searchers += 1
        self._enter(worker)
        if worker.run is not run:
            worker.run = run
            run.group.adopt(worker)
        run.backend.wake(worker)

    def _enter(self, worker: Worker) -> None:
        self.alive[worker] = None
        self._run.standstill.active_count += 1

    def _remove(self, worker: Worker) -> None:
        del self.alive[worker]
        self._run.standstill.active_count -= 1

    def _next_needs_own_task(self) -> bool:
        first = (
            self._queue.jobs.first()
            if self._queue.jobs
            else None
            if self.tokens is None
            else self.tokens.first_waiting_job()
        )
        return self._run.needs_own_tasks or (first is not None and needs_own_task(first))

    def may_park(self) -> bool:
        """Return whether a worker that leaves should park instead. Waking it costs a fifth of spawning another one."""
        run = self._run
        if self.is_gated or run.needs_own_tasks or len(run.parking_run.workers.parked) >= MAX_PARKED:
            return False
        return run.expects_ready_jobs()

    def park(self, worker: Worker) -> None:
        """Release the slot of a worker, and move the worker to the parked workers of this run's `parking_run`."""
        run, parking_run = self._run, self._run.parking_run
        self._remove(worker)
        if worker.has_slot:
            self.give_back_slot(worker)
        parking_run.workers.parked[worker] = None
        if run is not parking_run:
            worker.run = parking_run
            parking_run.group.adopt(worker)
        run.on_worker_left()

    def was_woken(self, worker: Worker) -> bool:
        """Return whether a parked worker was woken to search; False if it was cancelled, and must leave."""
        if worker not in self.parked:
            return True
        del self.parked[worker]
        self._enter(worker)
        self._run.notice_cancellation(worker)
        return False

    def dismiss_parked(self) -> None:
        """Wake all workers of this run that are parked or queue for a turn, so that they leave at its end."""
        run, queue = self._run, self._run.time_slice.queue
        while self.parked:
            self._wake(self.parked.popitem()[0])
        for worker in self.alive if queue else ():
            if worker in queue:
                run.time_slice.admit_next(worker)

    def detach(self) -> None:
        """Drop the reference to the run, which has ended. Other threads, such as monitors, can still read counts."""
        if self.tokens is not None:
            self.tokens.detach()
        del self._run

    def leave(self, worker: Worker) -> None:
        """Remove a worker, release its slot and token, and replace it if needed."""
        self._remove(worker)
        self._run.group.forget(worker)
        if worker.has_slot:
            self.give_back_slot(worker)
        if self.tokens is not None:
            self.tokens.release(worker)
        self.forever_count -= worker.is_shielded
        self.ensure_searcher()
        if self.is_adaptive:  # the window may have shrunk while this worker had a slot
            self._queue.jobs.request_round_for_others()
        self._run.on_worker_left()

    def give_back_slot(self, worker: Worker) -> None:
        """Release the slot of a worker."""
        worker.has_slot = False
        self.free += 1

    def prepare_for_forever_job(self, worker: Worker) -> None:
        """Prepare a worker to run a forever job, without a slot and shielded until the end of the run."""
        self.forever_count += 1
        worker.is_shielded = True
        worker.group.shield(worker)
        if worker.has_slot:
            self.give_back_slot(worker)
        if not self.searchers:
            self.ensure_searcher()

    def take_job(self, worker: Worker) -> AbstractJob[Any] | None:
        """Take the next job that `worker` may run from the ready queue; return None if the worker has to leave.

        A forever job must not start before an ordinary job that became ready earlier and could start now. So a worker
        without a slot takes a free slot first. If there is none, but another worker with a slot is about to take the
        ordinary job, the worker leaves.
        """
        if worker.has_slot:
            if self.free < 0:
                return None  # the window has shrunk
        elif self.free > 0:
            self.free -= 1
            worker.has_slot = True
        elif self._queue.next_needs_slot() and self._searcher_has_slot():
            return None
        return self._queue.take(worker.has_slot)

    def _searcher_has_slot(self) -> bool:
        """Return whether any worker has a slot but no job, and so is about to look for one."""
        return any(worker.has_slot and worker.job is None for worker in self.alive)

    def on_job_start(self) -> None:
        """Update the request for a token, because a job starts. Only workers of a gated run call this."""
        if self.tokens is not None:
            self.tokens.update_request()


def _function_code(job: AbstractJob[Any]) -> CodeType | None:
    """Return the code of the function that a job calls; None for a nested scheduler or a non-Python function."""
    called: Any = None
    if job._is_called_directly:
        called = cast(Any, job)._function
    elif not is_scheduler(job):
        called = type(job).co_run
    return called.__code__ if type(called) is FunctionType else None
