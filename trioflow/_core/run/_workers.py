"""The workers of one run: when they are spawned, woken and parked.

The terms worker, searcher, turn and park are defined in `_worker`, with their invariants.
"""

from __future__ import annotations

from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, Final, cast

from ..base._states import SCHEDULED
from ..job._job import is_scheduler
from ._worker import Worker, needs_own_task

if TYPE_CHECKING:
    from ..job._job import AbstractJob
    from ._run import Run

MAX_SEARCHERS: Final = 12
"""The maximum number of workers of a run that search for jobs at the same time.

More searchers would save turns of the loop. However, all jobs that they start resume in the same later turn, before any
other task, and nested schedulers whose jobs do nothing would cost more.
"""
MAX_FEW: Final = 24
"""The maximum number of jobs in a small graph, which get a worker each if their function was suspended before."""
MAX_PARKED: Final = 128
"""The maximum number of parked workers that a run keeps, its nested runs included."""


class Workers:
    """The workers of one run."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._queue: Final = run.queue
        self.searchers = 0
        self.alive: Final[dict[Worker, None]] = {}
        # The parked workers of this run and of the runs whose `parking_run` is this run. They are not in `alive`.
        self.parked: Final[dict[Worker, None]] = {}
        self.forever_count = 0  # how many workers run forever jobs

    def ensure_searcher(self) -> None:
        """Admit jobs that can start; if jobs are startable and no worker searches, spawn or wake workers.

        Call this after each event that makes a job ready, or after which another one can start.
        """
        queue = self._queue
        if queue.is_limited:
            queue.admit()
        if self.searchers or self._run.is_draining_or_stopping:
            return
        startable = queue.startable
        while startable and startable[0]._state is not SCHEDULED:
            startable.popleft()  # the job was cancelled
        if startable:
            parking_run = self._run.parking_run
            if parking_run is not self._run or (parking_run.workers.parked and is_scheduler(startable[0])):
                number = 1  # leave parked workers for other runs, or for the nested scheduler that is starting
            elif len(startable) <= MAX_FEW and _function_code(startable[0]) in self._run.time_slice.suspended_code:
                number = len(startable)  # these jobs will probably be suspended, so each of them needs a worker
            else:  # waking parked workers costs little
                number = max(1, min(len(parking_run.workers.parked), len(startable), MAX_SEARCHERS))
            self._spawn_until(number)
        elif queue.tokens is not None and queue.tokens.needs_request():
            self._spawn()

    def spawn_more(self) -> None:
        """Spawn or wake workers up to the maximum number of searchers, if jobs of other workers are suspended.

        A worker that begins to search calls this. If nested schedulers are next, one more searcher is enough at a time,
        because their jobs need workers, too.
        """
        startable = self._queue.startable
        if len(self.alive) > self.searchers < len(startable):
            number = self.searchers + 1 if is_scheduler(startable[0]) else MAX_SEARCHERS
            self._spawn_until(min(number, len(startable), MAX_SEARCHERS))

    def has_enough_searchers(self) -> bool:
        """Return whether a worker that cannot continue in this turn is not needed in the next one."""
        return self.searchers >= MAX_SEARCHERS

    def has_suspended_job(self) -> bool:
        """Return whether any job is suspended. Call this in a task other than the workers, while no job executes."""
        return any(worker.job is not None for worker in self.alive)

    def record_suspension(self, job: AbstractJob[Any]) -> None:
        """Record whether `job`, the first job of this run, is still suspended after the first turns."""
        code, suspended = _function_code(job), self._run.time_slice.suspended_code
        if code is not None and (job._worker is not None) is not (code in suspended):
            (suspended.discard if job._worker is None else suspended.add)(code)

    def _spawn_until(self, searchers: int) -> None:
        """Spawn or wake workers until there are `searchers` searchers."""
        for _ in range(searchers - self.searchers):
            self._spawn()

    def _spawn(self) -> None:
        run = self._run
        parked = run.parking_run.workers.parked
        if parked and not self._next_needs_own_task():
            worker, _ = parked.popitem()  # the most recent one, whose memory is probably still in the CPU's cache
            worker.woken_in_turn = run.time_slice.turn_number
            self._wake(worker)
            return
        self.searchers += 1
        worker = Worker(run)
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
        startable = self._queue.startable
        return self._run.needs_own_tasks or (bool(startable) and needs_own_task(startable[0]))

    def may_park(self) -> bool:
        """Return whether a worker that leaves should park instead. Waking it costs a fifth of spawning another one."""
        run = self._run
        if run.needs_own_tasks or len(run.parking_run.workers.parked) >= MAX_PARKED:
            return False
        return run.expects_ready_jobs()

    def park(self, worker: Worker) -> None:
        """Move a worker to the parked workers of this run's `parking_run`."""
        run, parking_run = self._run, self._run.parking_run
        self._remove(worker)
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
        self._queue.detach()
        del self._run

    def leave(self, worker: Worker) -> None:
        """Remove a worker, and replace it if needed."""
        self._remove(worker)
        self._run.group.forget(worker)
        self.forever_count -= worker.is_shielded
        self.ensure_searcher()
        self._run.on_worker_left()

    def prepare_for_forever_job(self, worker: Worker) -> None:
        """Prepare a worker to run a forever job, shielded until the end of the run."""
        self.forever_count += 1
        worker.is_shielded = True
        worker.group.shield(worker)
        if not self.searchers:
            self.ensure_searcher()


def _function_code(job: AbstractJob[Any]) -> CodeType | None:
    """Return the code of the function that a job calls; None for a nested scheduler or a non-Python function."""
    called: Any = None
    if job._is_called_directly:
        called = cast(Any, job)._function
    elif not is_scheduler(job):
        called = type(job).co_run
    return called.__code__ if type(called) is FunctionType else None
