"""The workers of one run: their number, their slots or tokens, and the search for the next job.

The terms worker, searcher, turn and park are defined in `_worker`, with their invariants.
"""

from __future__ import annotations

from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from ..admission._priority_queues import SharedQueue
from ..admission._window import Adaptive, slots
from ..job._job import is_scheduler
from ._limiter_tokens import Tokens, enclosing_limiter
from ._worker import TURN_SECONDS, Worker, needs_own_task

if TYPE_CHECKING:
    from ..job._job import AbstractJob
    from ._run import Run

UNLIMITED: Final = 1 << 60
MIN_SEARCHERS: Final = 8
MAX_SEARCHERS: Final = 24
"""The most workers that may begin to search in one turn of the loop: at first, and when many jobs have blocked. More
would save turns. But all jobs that they start resume in the next turn, before any other task; and with 16 at first,
nested schedulers whose jobs do nothing cost a tenth more."""
FEW_BLOCKED: Final = 64
BLOCKED_PER_SEARCHER: Final = 8
"""Beyond FEW_BLOCKED, each group of this many blocked jobs allows one more searcher."""
MANY_BACK: Final = 0.5
"""If more than this fraction of the blocked workers have taken another job since a worker was spawned, the jobs do not
block for long."""
MAX_PARKED: Final = 128


class Workers:
    """The workers of one run, under its window.

    Args:
        run: the run.
        window: the most jobs that may run at once: a number, an `Adaptive`, a limiter, or None for no limit.

    """

    notes_each_start: ClassVar[bool] = False
    """Whether `note_start` is called for each job, not only where it has an effect."""

    def __init__(self, run: Run, window: Any) -> None:
        self._run = run
        self._queue: Final = run.queue
        self._given: Final = window
        self._size = window.minimum if isinstance(window, Adaptive) else window if isinstance(window, int) else None
        # The number of free slots, if counted here: below 0 when the window has shrunk below the number of running
        # jobs.
        self.free: int = UNLIMITED if self._size is None else self._size
        # The window, if it is a limiter.
        self.limiter: Final = window if window is not None and self._size is None else None
        limiter = enclosing_limiter(run) if self.limiter is None else self.limiter
        self.tokens: Final = None if limiter is None else Tokens(run, self, limiter)
        self.adapts: Final = isinstance(window, Adaptive)
        self.gated: Final = self.notes_each_start or self.adapts or self.tokens is not None
        self.searchers = 0
        # The workers that have begun to search since they were spawned or woken.
        self.begun = 0
        # With this many, a worker leaves rather than wait for the next turn to search.
        self.enough_searchers: Final = 1 if self.gated else MIN_SEARCHERS
        # With no more than these, one that begins to search checks whether more are needed.
        self._few_searchers = MIN_SEARCHERS
        self.alive: Final[dict[Worker, None]] = {}
        self.parked: Final[dict[Worker, None]] = {}  # here, not in an enclosing run; they are not alive
        self.forever = 0

    @property
    def lent(self) -> int:
        """The number of slots lent to the builds that jobs run."""
        return 0

    @property
    def slots(self) -> int | None:
        """The most jobs that the window lets run at once; None for no limit."""
        return slots(self._given)

    @property
    def size(self) -> int | None:
        """The current size of the window: the jobs that it lets run at once; None for no limit."""
        return slots(self._given) if self._size is None else self._size

    def resize(self, size: int) -> None:
        """Change the size of the window. If more jobs are running, workers leave when their jobs have ended."""
        assert self._size is not None
        more = size - self._size
        self.free += more
        self._size = size
        if more > 0:
            self.ensure_searcher()
        elif more < 0:
            self._queue.jobs.has_fewer_slots()

    def ensure_searcher(self) -> None:
        """Spawn or wake workers if a ready job could start and there is no searcher."""
        if self.searchers or self._run.starts_no_more:
            return
        queue, tokens = self._queue, self.tokens
        ready = queue.jobs
        if tokens is not None and tokens.is_requesting and not isinstance(ready, SharedQueue):
            tokens.collect()  # without a worker; only workers admit jobs with needs
        if self.free > 0 and ready:
            # Wake as many parked workers as there are jobs for, because that costs little.
            home, most = self._run.home, MAX_SEARCHERS
            if home is not self._run or (home.workers.parked and is_scheduler(ready.first())):
                most = 1  # other runs need the parked workers too, and a nested scheduler the remaining ones
            number = max(1, min(len(ready), len(home.workers.parked), most))
            if number < len(ready) <= most and most > 1 and not self.gated and self._will_be_suspended(ready.first()):
                number = len(ready)
            self._spawn_until(number)
        elif queue.forever and queue.has_any() and queue.forever:  # `has_any` drops entries of cancelled jobs
            self._spawn(False, self._run.clock(), len(queue.jobs) + self.begun)
        elif tokens is not None and tokens.waiting and not tokens.is_requesting:
            self._spawn(False, self._run.clock(), 0)

    def spawn_more(self, newcomer: Worker, now: float) -> None:
        """Spawn or wake more workers when one begins to search while the jobs of earlier ones have blocked.

        Jobs that block for long need a task each, and each turn of the loop has its price. So the more jobs have
        blocked, the more workers may begin to search in one turn; several are called together. Jobs that block only for
        a turn or two need few tasks. So no worker is called if many jobs were taken since `newcomer` was called, or if
        that was long ago: turns are long when many jobs resume in each.
        """
        searchers = self.searchers
        if searchers > self._few_searchers or self.gated or now > newcomer.called_at + TURN_SECONDS:
            return
        blocked = len(self.alive) - searchers
        if blocked <= 0:
            return
        ready = len(self._queue.jobs)
        taken = newcomer.jobs_at_call - (ready + self.begun - 1)
        if ready > searchers and taken <= MANY_BACK * blocked:
            more = max(0, blocked - FEW_BLOCKED) // BLOCKED_PER_SEARCHER
            most = min(MIN_SEARCHERS + more, MAX_SEARCHERS)
            self._few_searchers = most * 3 // 4
            if searchers <= self._few_searchers:
                self._spawn_until(min(most, ready))

    def has_blocked(self) -> bool:
        """Return whether a worker has begun a job that has not ended: between turns, that job has blocked."""
        return any(worker.job is not None for worker in self.alive)

    def note_suspension(self, job: AbstractJob[Any]) -> None:
        """Record whether a job that began in this run's first turn is suspended now."""
        code, suspended = _code_of(job), self._run.time_slice.suspended
        if code is not None and (job._worker is not None) is not (code in suspended):
            (suspended.discard if job._worker is None else suspended.add)(code)

    def _will_be_suspended(self, job: AbstractJob[Any]) -> bool:
        return _code_of(job) in self._run.time_slice.suspended

    def count_startable(self) -> int:
        """Return the number of ready jobs that get a slot as soon as workers look for jobs."""
        if self._run.starts_no_more:
            return 0
        return max(0, self.free) + (self.searchers > 0 and self._searcher_has_slot())

    def _spawn_until(self, searchers: int) -> None:
        """Spawn or wake workers until there are `searchers` of them, or no more slots; a job can probably start."""
        now, jobs = self._run.clock(), len(self._queue.jobs) + self.begun
        for _ in range(min(searchers - self.searchers, self.free)):
            self.free -= 1
            self._spawn(True, now, jobs)

    def _spawn(self, has_slot: bool, now: float, jobs: int) -> None:
        run = self._run
        parked = run.home.workers.parked
        if parked and not self._next_needs_own_task():
            worker, _ = parked.popitem()  # the last one: its memory may still be in the processor's cache
            worker.has_slot = has_slot
            worker.note_call(now, jobs)
            self._wake(worker)
            return
        self.searchers += 1
        worker = Worker(run, has_slot, now, jobs)
        self.alive[worker] = None
        run.group.spawn(worker)

    def _wake(self, worker: Worker) -> None:
        """Wake a parked worker, for this run."""
        run = self._run
        self.searchers += 1
        self.alive[worker] = None
        if worker.run is not run:
            worker.run = run
            run.group.adopt(worker)
        run.backend.wake(worker)

    def _next_needs_own_task(self) -> bool:
        first = self._queue.jobs.first() if self._queue.jobs else None if self.tokens is None else self.tokens.first()
        return self._run.own_tasks or (first is not None and needs_own_task(first))

    def may_park(self) -> bool:
        """Return whether a worker may wait to be called for a job: waking it costs a fifth of spawning one."""
        run = self._run
        if self.gated or run.own_tasks or len(run.home.workers.parked) >= MAX_PARKED:
            return False
        return run.expects_ready_jobs()

    def park(self, worker: Worker) -> None:
        """Park a worker, in the home of the run."""
        run, home = self._run, self._run.home
        del self.alive[worker]
        if worker.has_slot:
            self.give_back_slot(worker)
        home.workers.parked[worker] = None
        if run is not home:
            worker.run = home
            home.group.adopt(worker)
        run.worker_left()

    def was_woken(self, worker: Worker) -> bool:
        """Return whether a parked worker was woken to search; otherwise it was cancelled, and has to leave."""
        if worker not in self.parked:
            return True
        del self.parked[worker]
        self.alive[worker] = None
        self._run.notice_cancellation(worker)
        return False

    def dismiss_parked(self) -> None:
        """Wake all workers that are parked here, or queue for a turn, so that they leave: the run ends."""
        run, line = self._run, self._run.time_slice.queue
        while self.parked:
            self._wake(self.parked.popitem()[0])
        for worker in self.alive if line else ():
            if worker in line:
                run.time_slice.admit_next(worker)

    def detach(self) -> None:
        """Release the run, which is over. Other threads, such as a monitor's, may still read the numbers here."""
        if self.tokens is not None:
            self.tokens.detach()
        del self._run

    def leave(self, worker: Worker) -> None:
        """Remove a worker, and replace it if needed."""
        del self.alive[worker]
        self._run.group.forget(worker)
        if worker.has_slot:
            self.give_back_slot(worker)
        if self.tokens is not None:
            self.tokens.release(worker)
        self.forever -= worker.shielded
        self.ensure_searcher()
        if self.adapts:  # the window may have shrunk before the worker took the job that others waited for
            self._queue.jobs.has_fewer_slots()
        self._run.worker_left()

    def give_back_slot(self, worker: Worker) -> None:
        """Take back the slot of a worker."""
        worker.has_slot = False
        self.free += 1

    def become_forever(self, worker: Worker) -> None:
        """Prepare a worker to run a forever job: it needs no slot, and it outlives the workers of ordinary jobs."""
        self.forever += 1
        worker.shielded = True
        worker.group.shield(worker)
        if worker.has_slot:
            self.give_back_slot(worker)
        if not self.searchers:
            self.ensure_searcher()

    def take(self, worker: Worker) -> AbstractJob[Any] | None:
        """Take the next job that `worker` may run; None if the worker has to leave.

        A forever job must not start before an ordinary job that became ready earlier and could start now. So a worker
        without a slot gets one if one is free, and leaves if a worker with a slot is about to look.
        """
        if worker.has_slot:
            if self.free < 0:
                return None  # the window has shrunk
        elif self.free > 0:
            self.free -= 1
            worker.has_slot = True
        elif self._queue.begins_with_ordinary() and self._searcher_has_slot():
            return None
        return self._queue.take(worker.has_slot)

    def _searcher_has_slot(self) -> bool:
        """Return whether a worker that has a slot, but no job, is about to look for one."""
        return any(worker.has_slot and worker.job is None for worker in self.alive)

    def note_start(self) -> None:
        """Record that a job of a gated run starts."""
        if self.tokens is not None:
            self.tokens.note_start()


def _code_of(job: AbstractJob[Any]) -> CodeType | None:
    """Return the code of a job's function; None if that is not a Python function, or if the job is a scheduler."""
    called: Any = cast(Any, job)._function if job._called_in_frame else None if is_scheduler(job) else type(job).co_run
    return called.__code__ if type(called) is FunctionType else None
