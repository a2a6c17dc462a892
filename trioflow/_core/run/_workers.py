"""All workers of one run: how many there are, which slots or tokens they have, and who looks for the next job.

The words worker, searcher, turn and park are defined in `_worker`, with what is always true of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from ..base._states import RunPhase
from ..job._job import is_scheduler
from ..limits._window import Adaptive, slots
from ._window import Interval, LimiterWindow, OuterToken, tokens_around
from ._worker import TURN_SECONDS, Worker

if TYPE_CHECKING:
    from ..job._job import AbstractJob
    from ._run import Run

UNLIMITED: Final = 1 << 60
MIN_SEARCHERS: Final = 8
MAX_SEARCHERS: Final = 24
"""How many workers may begin to search in one turn of the loop: at first, and when many jobs have blocked. More would
save turns. But all that they start goes on in the next turn, before any other task gets a chance; and with 16 at first,
nested schedulers whose jobs do nothing cost a tenth more."""
FEW_BLOCKED: Final = 64
BLOCKED_PER_SEARCHER: Final = 8
"""Beyond FEW_BLOCKED, each group of this many blocked jobs allows one more searcher."""
MANY_BACK: Final = 0.5
"""If more than this part of the workers that were blocked have taken another job since a worker was spawned, the jobs
do not block for long."""
MAX_PARKED: Final = 128


class Workers:
    """The workers of one run, under its window.

    Args:
        run: the run.
        window: how many jobs may run at once: a number, an `Adaptive`, a limiter, or None for no limit.

    """

    tells_starts: ClassVar[bool] = False
    """Whether `note_start` is called for each job in any case, not only where something has to be kept or given up."""

    def __init__(self, run: Run, window: Any) -> None:
        self._run = run
        self._queue: Final = run.queue
        self._given: Final = window
        self._size = window.minimum if isinstance(window, Adaptive) else window if isinstance(window, int) else None
        # The number of free slots, if they are counted here: below 0 when the window has shrunk below what runs.
        self.free: int = UNLIMITED if self._size is None else self._size
        # What gives out tokens, if the window is a limiter.
        self.window: Final = LimiterWindow(run, window) if window is not None and self._size is None else None
        # The tokens of other limiters, or of none, under which its jobs start.
        self.tokens_around: Final = tokens_around(run)
        own = self.tokens_around[0] if self.tokens_around else None
        # That of the worker around this run, if it has one.
        self.outer_token: Final = own if own is not None and own.is_of(run) else None
        limiter = None if self.window is None else self.window.limiter  # whose tokens the window itself looks after
        self._needed: Final = [one for one in reversed(self.tokens_around) if one.limiter is not limiter]
        seconds = run.scheduler._start_interval
        self.interval: Final = Interval(run, seconds) if seconds else None
        self.adapts: Final = isinstance(window, Adaptive)
        self.gated: Final = (
            self.tells_starts
            or self.interval is not None
            or self.window is not None
            or self.adapts
            or bool(self.tokens_around)
        )
        self.searchers = 0
        # How many workers have begun to search since they were spawned or woken.
        self.begun = 0
        # If there are this many, a worker leaves rather than wait for the next turn to search.
        self.enough_searchers: Final = 1 if self.gated else MIN_SEARCHERS
        # If there are no more than these, one that begins to search looks whether more are needed.
        self._few_searchers = MIN_SEARCHERS
        self.alive: Final[dict[Worker, None]] = {}
        self.parked: Final[dict[Worker, None]] = {}  # here, not in a run around this one; they are not alive
        self.forever = 0

    @property
    def lent(self) -> int:
        """How many slots are lent on, to the builds that jobs run."""
        return 0

    @property
    def slots(self) -> int | None:
        """How many jobs the window lets run at once, at most; None for no limit."""
        return slots(self._given)

    @property
    def size(self) -> int | None:
        """How many jobs the window lets run at once now; None for no limit."""
        return slots(self._given) if self._size is None else self._size

    def resize(self, size: int) -> None:
        """Let so many jobs run at once from now on. If more are running, workers leave when their jobs have ended."""
        assert self._size is not None
        more = size - self._size
        self.free += more
        self._size = size
        if more > 0:
            self.ensure_searcher()
        elif more < 0:
            self._queue.jobs.has_fewer_slots()

    def ensure_searcher(self) -> None:
        """Spawn or wake workers, if a ready job could start and nobody is looking for one."""
        if self.searchers or self._run.starts_no_more:
            return
        queue = self._queue
        ready = queue.jobs
        if (
            self.free > 0
            and ready
            and not (self.window and self.window.has_waiting)
            and (not self.tokens_around or self._has_tokens())
        ):
            # Wake as many parked workers as there are jobs for, because that costs little.
            home, most = self._run.home, MAX_SEARCHERS
            if home is not self._run or (home.workers.parked and is_scheduler(ready.first())):
                most = 1  # other runs need the parked workers too, a nested scheduler those that are left
            self._spawn_until(max(1, min(len(ready), len(home.workers.parked), most)))
        elif queue.forever and queue.has_any() and queue.forever:  # not for entries of cancelled jobs
            self._spawn(False, self._run.clock(), len(queue.jobs) + self.begun)

    def call_for_more(self, newcomer: Worker, now: float) -> None:
        """Spawn or wake more workers, when a worker begins to search while the jobs of earlier ones have blocked.

        Jobs that block for long need a task each, and each turn of the loop has its price. So the more jobs have
        blocked, the more workers may begin to search in one turn; several are called at once. Jobs that block only for
        a turn or two need few tasks. So no worker is called if many jobs were taken since `newcomer` was called, or if
        that was long ago: turns are long when many jobs go on in each.
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
        """Return whether a worker has begun a job that has not ended: asked between turns, that job has blocked."""
        return any(worker.job is not None for worker in self.alive)

    def has_free_slot(self) -> bool:
        """Return whether one more job could start now, as far as the window is concerned."""
        if self._run.starts_no_more or self.free <= 0:
            return False
        if any(not one.token.held and one.limiter.available_tokens <= 0 for one in self._needed):
            return False
        return self.window is None or self.window.limiter.available_tokens > 0

    def starts_at_once(self) -> int:
        """Return how many ready jobs start as soon as workers look: there are slots for them, and no gate is closed."""
        if self._run.starts_no_more or self.window is not None:  # nobody knows who gets the next token
            return 0
        if not all(one.token.held for one in self._needed):
            return 0
        slots = max(0, self.free) + (self.searchers > 0 and self._searcher_has_slot())
        if self.interval is not None:
            return min(slots, self.interval.is_over())
        return slots

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
            run.group.take_over(worker)
        run.backend.wake(worker)

    def _next_needs_own_task(self) -> bool:
        limits = self._queue.jobs.first()._limits if self._queue.jobs else None
        return self._run.own_tasks or (limits is not None and limits.own_task)

    def may_park(self) -> bool:
        """Return whether a worker may wait to be called for a job: waking it costs a fifth of spawning one."""
        run = self._run
        if self.gated or run.own_tasks or len(run.home.workers.parked) >= MAX_PARKED:
            return False
        return run.expects_ready_jobs()

    def park(self, worker: Worker) -> None:
        """Make a worker one that is parked, in the home of the run."""
        run, home = self._run, self._run.home
        del self.alive[worker]
        if worker.has_slot:
            self.give_back_slot(worker)
        home.workers.parked[worker] = None
        if run is not home:
            worker.run = home
            home.group.take_over(worker)
        run.worker_left()

    def was_called(self, worker: Worker) -> bool:
        """Return whether a worker that was parked was woken to search; otherwise it was cancelled, and has to leave."""
        if worker not in self.parked:
            return True
        del self.parked[worker]
        self.alive[worker] = None
        self._run.notice_cancellation(worker)
        return False

    def dismiss_parked(self) -> None:
        """Wake all workers that are parked here, or stand in the line for a turn, so that they leave: the run ends."""
        run, line = self._run, self._run.turn.line
        while self.parked:
            self._wake(self.parked.popitem()[0])
        for worker in self.alive if line else ():
            if worker in line:
                run.turn.let_in(worker)

    def part_from_run(self) -> None:
        """Give up the run, which is over. Other threads, such as a monitor's, may still read the numbers here."""
        if self.window is not None:
            self.window.part_from_run()
        if self.outer_token is not None:
            self.outer_token.part_from_run()
        del self._run

    def leave(self, worker: Worker) -> None:
        """Remove a worker, and let another one take its place if one is needed."""
        del self.alive[worker]
        self._run.group.forget(worker)
        if worker.has_slot:
            self.give_back_slot(worker)
        self.forever -= worker.shielded
        self.ensure_searcher()
        if self.adapts:  # the window may have shrunk before the worker has taken the job that others waited for
            self._queue.jobs.has_fewer_slots()
        self.note_idle()
        self._run.worker_left()

    def give_back_slot(self, worker: Worker) -> None:
        """Take back the slot or the token that a worker has."""
        worker.has_slot = False
        self.free += 1
        if self.window is not None:
            self.window.leave(worker)

    def turn_forever(self, worker: Worker) -> None:
        """Prepare a worker to run a forever job: it needs no slot, and it outlives the workers of ordinary jobs."""
        self.forever += 1
        worker.shielded = True
        worker.group.shield(worker)
        if worker.has_slot:
            self.give_back_slot(worker)
        if not self.searchers:
            self.ensure_searcher()

    def take(self, worker: Worker) -> AbstractJob[Any] | None:
        """Take the next job that `worker` may run, if forever jobs are ready or it has no slot; None to let it leave.

        A forever job must not start before an ordinary job that became ready earlier and could start now. So a worker
        without a slot gets one if one is free, and leaves if a worker that has a slot is about to look.
        """
        if not worker.has_slot and self.window is None:  # a limiter's token may take long to get
            if self.free > 0:
                self.free -= 1
                worker.has_slot = True
            elif self._queue.begins_with_ordinary() and self._searcher_has_slot():
                return None
        return self._queue.take(worker.has_slot)

    def _searcher_has_slot(self) -> bool:
        """Return whether a worker that has a slot, but no job, is about to look for one."""
        return any(worker.has_slot and worker.job is None for worker in self.alive)

    def put_back(self, job: AbstractJob[Any]) -> None:
        """Put back a job that needs a task of its own, for a new worker."""
        self._queue.push_first(job)

    async def pass_gates(self, worker: Worker) -> bool:
        """Wait for the start interval and for a token. Return False if nothing is left to start, or on cancellation."""
        window = self.window if worker.has_slot else None
        worker.idle = False
        if self.free < 0 and worker.has_slot:
            return False  # the window has shrunk
        while self._queue.has_any():
            if worker.has_slot and not self._has_tokens():
                return False
            if self.interval is not None and not self.interval.is_over():
                if window is not None:
                    window.give_back(worker)
                    worker.idle = True
                    self.note_idle(window.limiter)
                if not await self.interval.wait():
                    return False
                worker.idle = False
            elif window is not None and not await window.pass_through(worker):
                return False
            elif (self.interval is None or self.interval.is_over()) and (not worker.has_slot or self._has_tokens()):
                self._note_busy()
                return True
        return False

    def _has_tokens(self) -> bool:
        """Return whether all tokens are there under which a job would start; otherwise let them be asked for."""
        missing = self.missing_token()
        if missing is None:
            return True
        missing.want(self._run)
        self.note_idle(until=missing)
        return False

    def missing_token(self) -> OuterToken | None:
        """Return the outermost token that is not there, and without which no job starts; None if all are there."""
        return next((one for one in self._needed if not one.token.held), None)

    def _note_busy(self) -> None:
        """Record that a job is about to start, here and so in the schedulers around."""
        if self.tokens_around:
            worker = self._run.outer_worker
            while worker is not None:
                worker.idle = False
                worker = worker.run.outer_worker

    def note_idle(self, only: Any = None, until: OuterToken | None = None) -> None:
        """If nothing runs here, give back the token around; likewise further out, if nothing runs there either.

        Args:
            only: if it is given, tokens of this limiter alone are given back: a worker waits for one of its own.
            until: if it is given, tokens further in than this one are given back: this one is waited for.

        """
        workers = self
        while workers.tokens_around and workers._is_idle() and (until is None or workers.outer_token is not until):
            around = workers._run.outer_worker
            assert around is not None
            around.idle = True
            token = workers.outer_token
            if token is not None and (only is None or token.limiter is only):
                token.give_back()
            workers._queue.jobs.has_fewer_slots()
            workers = around.run.workers

    def _is_idle(self) -> bool:
        """Return whether there are jobs left, and none of them runs, except for forever jobs, which take no slot."""
        run = self._run
        if run.phase is not RunPhase.RUNNING or not run.unsettled:
            return False
        return all(worker.idle or worker.shielded for worker in self.alive)

    def note_start(self, now: float) -> None:
        """Record that a job starts: begin the interval, and stop waiting for a token if no other job is ready."""
        if self.interval is not None:
            self.interval.begin(now)
        if self.window is not None and not self._queue.has_any():
            self.window.call_off()
