"""The workers of one run: how many there are, which slots or tokens they have, and who looks for the next job.

While a job is ready that could start, somebody looks for it: a searcher. There are few at a time, and each that
finds a job sees to it that another one looks for the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from . import _window, _worker

if TYPE_CHECKING:
    from ._jobs import AbstractJob
    from ._run import Run

UNLIMITED: Final = 1 << 60
MIN_SEARCHERS: Final = 4
MAX_SEARCHERS: Final = 24
"""How many may begin in one turn of the loop: at first, and when many jobs have blocked. More would save turns, but
what they start goes on in the next ones, all of it, before anybody else has a chance."""
FEW_BLOCKED: Final = 64
BLOCKED_A_SEARCHER: Final = 8
"""For so many jobs that have blocked, beyond the few, there is one more who looks for the next."""
MANY_TAKEN: Final = 2 * MAX_SEARCHERS
MAX_PARKED: Final = 128


class Crew:
    """The workers of one run, under its window.

    Args:
        run: the run.
        window: how many jobs at once: a number, a limiter, or None for no limit.

    """

    def __init__(self, run: Run, window: Any) -> None:
        self._run: Final = run
        self._queue: Final = run.queue
        # Slots that are free, if the window is a number; who waits for tokens, if it is a limiter.
        self.free: int = window if isinstance(window, int) else UNLIMITED
        self.window: Final = None if window is None or isinstance(window, int) else _window.LimiterWindow(run, window)
        seconds = run.scheduler.start_interval
        self.interval: Final = _window.Interval(run, seconds) if seconds else None
        self.gated: Final = self.interval is not None or self.window is not None
        self.searchers = 0
        self.enough_searchers: Final = 1 if self.gated else MIN_SEARCHERS  # more need not wait for another turn
        self.workers: Final[dict[_worker.Worker, None]] = {}
        self.parked: Final[dict[_worker.Worker, None]] = {}
        self.forever_workers = 0

    def ensure_searcher(self) -> None:
        """See to it that somebody looks for the next job, if one could start."""
        if self._run.stopping or self.searchers:
            return
        if self._could_start():  # of those who are parked as many as there is work for: to wake them costs little
            self._spawn_until(max(1, min(len(self._queue.jobs), len(self.parked), MAX_SEARCHERS)))
        elif self._queue.has_any() and self._queue.forever:  # not for what was cancelled
            self._spawn(has_slot=False)

    def call_for_more(self, newcomer: _worker.Worker, now: float) -> None:
        """Let more look for jobs, as a newcomer would, if the jobs of those before have blocked.

        What blocks for long needs a task a job, and a turn of the loop has its price: so there are the more who come
        in a turn the more of them have blocked. What blocks but for a turn or two needs few tasks: nobody is called if
        those who are there have taken many jobs since. Nor where turns have become long, for many go on in each.
        """
        if self.gated or self._run.stopping or now > newcomer.born + _worker.TURN_SECONDS:
            return
        if newcomer.ready_then - len(self._queue.jobs) > MANY_TAKEN:
            return
        blocked = len(self.workers) - len(self.parked) - self.searchers
        most = min(MAX_SEARCHERS, MIN_SEARCHERS + max(0, blocked - FEW_BLOCKED) // BLOCKED_A_SEARCHER)
        if blocked:
            self._spawn_until(min(len(self._queue.jobs), most))

    def _could_start(self) -> bool:
        """Tell whether there is a job and a slot for it."""
        return bool(self._queue.jobs) and self.free > 0 and not (self.window and self.window.has_waiting)

    def _spawn_until(self, searchers: int) -> None:
        """Let so many search, as far as there are jobs and slots."""
        while self.searchers < searchers and self._could_start():
            self.free -= 1
            self._spawn(has_slot=True)

    def _spawn(self, has_slot: bool) -> None:
        self.searchers += 1
        if self.parked and not self._next_needs_own_task():
            worker, _ = self.parked.popitem()  # the last: what it works with may still be in the processor's cache
            worker.has_slot, worker.called_in_turn = has_slot, self._run.turn.number
            self._run.backend.wake(worker)
            return
        worker = _worker.Worker(self._run, has_slot)
        self.workers[worker] = None
        self._run.group.spawn(worker)

    def _next_needs_own_task(self) -> bool:
        limits = self._queue.jobs[0]._limits if self._queue.jobs else None
        return limits is not None and limits.own_task

    async def park(self, worker: _worker.Worker) -> bool:
        """Let a worker that has found no job wait for one; True if it was woken to search, False if it is to leave.

        To wake one costs a fifth of what it costs to spawn one.
        """
        if self._run.stopping or len(self.parked) >= MAX_PARKED:
            return False
        self.give_back_slot(worker)
        self.parked[worker] = None
        await self._run.backend.park(worker)
        return self.parked.pop(worker, self) is self

    def dismiss_parked(self) -> None:
        """Wake those who wait for a job, when none will come."""
        while self.parked:
            self.searchers += 1
            self._run.backend.wake(self.parked.popitem()[0])

    def leave(self, worker: _worker.Worker) -> None:
        """Let a worker go, and another take its place if there is need."""
        del self.workers[worker]
        self._run.group.forget(worker)
        self.give_back_slot(worker)
        self.forever_workers -= worker.shielded
        self.ensure_searcher()
        self._run.note_left()

    def give_back_slot(self, worker: _worker.Worker) -> None:
        """Take back the slot or the token that a worker has."""
        if worker.has_slot:
            worker.has_slot = False
            self.free += 1
            if self.window is not None:
                self.window.leave(worker)

    def turn_forever(self, worker: _worker.Worker) -> None:
        """Let a worker run a forever job: without a slot, and to the end of the run."""
        self.give_back_slot(worker)
        self.forever_workers += 1
        worker.shield()
        self.ensure_searcher()

    def take(self, worker: _worker.Worker) -> AbstractJob[Any] | None:
        """Take the next job that `worker` may run, while forever jobs are among the ready ones.

        A worker without a slot must not take a forever job out of turn: it gets a slot if there is one now, and leaves
        if one who has a slot is about to look.
        """
        if not worker.has_slot and self.window is None:  # for a limiter's token people may wait long
            if self.free > 0:
                self.free -= 1
                worker.has_slot = True
            elif self._queue.begins_with_ordinary() and self._slot_looks():
                return None
        return self._queue.take(worker.has_slot)

    def _slot_looks(self) -> bool:
        """Tell whether a worker that has a slot, and no job, is about to look for one."""
        return any(worker.has_slot and worker.job is None for worker in self.workers)

    def put_back(self, job: AbstractJob[Any]) -> None:
        """Leave a job that needs a task of its own to a new worker."""
        self._queue.push_first(job)

    async def pass_gates(self, worker: _worker.Worker) -> bool:
        """Wait for the interval between two starts and for a token; False if there is nothing to start."""
        window = self.window if worker.has_slot else None
        while self._queue.has_any():
            if self.interval is not None and not self.interval.is_over():
                if window is not None:
                    window.give_back(worker)
                if not await self.interval.wait():
                    return False
            elif window is not None and not await window.pass_through(worker):
                return False
            elif self.interval is None or self.interval.is_over():
                return True
        return False

    def note_start(self, now: float) -> None:
        """Take note that a job starts: the interval begins, and if it was the last one nobody waits for a token."""
        if self.interval is not None:
            self.interval.begin(now)
        if self.window is not None and not self._queue.has_any():
            self.window.call_off()
