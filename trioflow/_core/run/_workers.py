"""The workers of one run, and when they are spawned.

The terms worker, searcher and turn are defined in `_worker`, with their invariants.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from ..base._states import SCHEDULED
from ..job._job import is_scheduler
from ._worker import Worker

if TYPE_CHECKING:
    from ._run import Run

MAX_SEARCHERS: Final = 8
"""The maximum number of workers of a run that search for jobs at the same time.

More searchers would save turns of the loop. However, all jobs that they start resume in the same later turn, before any
other task, and nested schedulers whose jobs do nothing would cost more.
"""
NAMING_DELAY: Final = 0.05
"""The time, in seconds, after which the task of a job gets the job's label as its name: a label takes up to 5 µs."""
MAX_NAMED_IN_TURN: Final = 200
"""The maximum number of tasks that are named in one turn of the loop, so that it lasts no longer than a millisecond."""


class Workers:
    def __init__(self, run: Run) -> None:
        self._run = run
        self._queue: Final = run.queue
        self.searchers = 0
        self.alive: Final[dict[Worker, None]] = {}
        self.forever_count = 0  # how many workers run forever jobs
        # The outermost run names the tasks of all runs in it, because a timer for each of them would cost a turn.
        outer = run.outer_worker
        self._namer: Workers = self if outer is None else outer.run.workers._namer
        # The workers that run jobs and have tasks without a name, each with the time since when, the longest first.
        self.unnamed: Final[dict[Worker, float]] = {}
        self.names_due_at = math.inf  # when the run has to call `name_tasks`

    def ensure_searcher(self) -> None:
        """Admit jobs that can start; if jobs are startable and no worker searches, spawn some.

        Call this after each event that makes a job ready, or after which another one can start.
        """
        queue = self._queue
        if queue.line is not None:
            queue.admit()
        if self.searchers:
            return
        startable = queue.startable
        while startable and startable[0]._state is not SCHEDULED:
            startable.popleft()  # the job was cancelled
        if startable:
            self._spawn_until(1)
        elif queue.tokens is not None and queue.tokens.needs_request():
            self._spawn()

    def spawn_more(self) -> None:
        """Spawn workers up to the maximum number of searchers, if jobs of other workers are suspended.

        A worker that begins to search calls this, and the run after its first turns. If nested schedulers are next, one
        more searcher is enough at a time, because their jobs need workers, too.
        """
        startable = self._queue.startable
        if len(self.alive) > self.searchers < len(startable):
            number = self.searchers + 1 if is_scheduler(startable[0]) else MAX_SEARCHERS
            self._spawn_until(min(number, len(startable), MAX_SEARCHERS))

    def has_suspended_job(self) -> bool:
        """Return whether any job is suspended. Call this in a task other than the workers, while no job executes."""
        return any(worker.job is not None for worker in self.alive)

    def _spawn_until(self, searchers: int) -> None:
        for _ in range(searchers - self.searchers):
            self._spawn()

    def _spawn(self) -> None:
        self.searchers += 1
        worker = Worker(self._run)
        self.alive[worker] = None
        self._run.standstill.active_count += 1
        self._run.group.spawn(worker)

    def watch(self, worker: Worker, now: float) -> None:
        """Let the task of a worker that takes a job be named, unless it does not run the job for long."""
        namer = self._namer
        namer.unnamed.setdefault(worker, now)
        if namer.names_due_at == math.inf:
            namer.names_due_at = now + NAMING_DELAY
            namer._run.wake()

    def name_tasks(self, now: float) -> None:
        """Name the tasks of jobs that have run for long. Their workers leave after these jobs, and so do the names."""
        unnamed = self.unnamed
        for _ in range(MAX_NAMED_IN_TURN):
            worker = next(iter(unnamed), None)
            if worker is None or unnamed[worker] + NAMING_DELAY > now:
                break
            del unnamed[worker]
            job: Any = worker.job
            if job is not None and job._started_at + NAMING_DELAY > now:
                unnamed[worker] = job._started_at
            elif job is not None:
                self._run.backend.name_task(worker.task, job.label)
                worker.is_tainted = True
        self.names_due_at = next(iter(unnamed.values()), math.inf) + NAMING_DELAY

    def admit_queued(self) -> None:
        """Admit all workers of this run that queue for a turn, so that they leave at its end."""
        run, queue = self._run, self._run.time_slice.queue
        for worker in self.alive if queue else ():
            if worker in queue:
                run.time_slice.admit_next(worker)

    def detach(self) -> None:
        """Drop the reference to the run, which has ended. Other threads, such as monitors, can still read counts."""
        self._queue.detach()
        del self._run, self._namer

    def leave(self, worker: Worker) -> None:
        """Remove a worker, and replace it if needed."""
        del self.alive[worker]
        self._namer.unnamed.pop(worker, None)
        self._run.standstill.active_count -= 1
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
