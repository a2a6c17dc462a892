"""A window that is a `CapacityLimiter`, shared at any depth of nesting; and the interval between two starts.

A window that is a number needs nothing from here: `Workers` counts its free slots. If the window is a limiter, each
worker borrows one of its tokens while it runs a job:

- After each job the worker keeps its token, unless others wait for the limiter. Then it gives the token back and asks
  again, at the end of the queue. So nobody starves.
- A run asks for one token at a time. When it has got that token, the next worker asks.
- A scheduler that runs as a job under a token *lends* it to the runs inside, which use it for one job at a time
  (`Lease`). They need no second token to go on, so nothing deadlocks. Lent tokens are given back and asked for again
  like others. A run that no longer needs a lent token leaves it with the scheduler, unless others wait for the limiter.
- If nothing is left to run, the worker that waits for a token stops waiting (`call_off`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ..backend import Backend, Scope
    from ._run import Run
    from ._worker import Worker


class Token:
    """One borrower of a limiter; `held` says whether it has its token now."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held = False


class Lease:
    """A token of an outer worker, lent to the runs inside its job for one of their jobs at a time."""

    __slots__ = ("in_use", "token")

    def __init__(self, token: Token) -> None:
        self.token: Final = token
        self.in_use = False


class Interval:
    """Keeps a number of seconds between two starts."""

    __slots__ = ("_next", "_run", "_seconds")

    def __init__(self, run: Run, seconds: float) -> None:
        self._run, self._seconds = run, seconds
        self._next = run.clock()  # the first job may start at once

    def is_over(self) -> bool:
        """Return whether a job may start."""
        return self._run.clock() >= self._next

    def begin(self, now: float) -> None:
        """Record that a job starts."""
        self._next = now + self._seconds

    async def wait(self) -> bool:
        """Wait until the present interval is over. Return False on cancellation."""
        return await self._run.backend.wait_until(self._next)


class LimiterWindow:
    """The window of one run, if it is a limiter."""

    __slots__ = ("_backend", "_limiter", "_outer", "_run", "_waiting")

    def __init__(self, run: Run, limiter: Any) -> None:
        self._run = run
        self._limiter = limiter
        self._backend: Backend = run.backend
        self._outer: Final = tuple(_lent_by_enclosing(run, limiter))
        self._waiting: Scope | None = None  # the scope of the one worker that waits for a token

    @property
    def limiter(self) -> Any:
        """The limiter that the user gave."""
        return self._limiter

    @property
    def has_waiting(self) -> bool:
        """Whether a worker of this run waits in the limiter's queue."""
        return self._waiting is not None

    async def pass_through(self, worker: Worker) -> bool:
        """Get a token for the worker. Return False if it is not needed any more, or on cancellation."""
        run = self._run
        worker.lent = None
        if worker.token is not None and worker.token.held:
            if run.queue.jobs and not self._others_wait():
                return True
            self._return(worker.token)
        if not run.queue.jobs or self._waiting is not None:
            return False  # another worker of this run waits in the queue already
        lent = self._idle_lease()
        # Use a lent token rather than queue for another; use one that is held rather than one that was given back.
        if worker.token is None or (lent is not None and (worker.lease is None or lent.token.held)):
            self._assign(worker, lent)
        return await self._obtain(worker)

    def leave(self, worker: Worker) -> None:
        """Take back what a worker has that stops running jobs of this window."""
        token, lease = worker.token, worker.lease
        worker.token = worker.lease = worker.lent = None
        if token is None:
            return
        if lease is None:
            self._return(token)
            return
        lease.in_use = False
        if self._limiter.statistics().tasks_waiting:  # it may be this run's own worker, waiting for another token
            self._return(token)

    def give_back(self, worker: Worker) -> None:
        """Give back the token of a worker that has to wait for something else."""
        if worker.token is not None:
            self._return(worker.token)

    def call_off(self) -> None:
        """Stop the worker that waits for a token, because nothing is left to run."""
        if self._waiting is not None:
            self._waiting.cancel()

    def _idle_lease(self) -> Lease | None:
        """Return a lease that no run uses now; preferably one whose token is held, however far out it is."""
        idle = [lease for lease in self._outer if not lease.in_use]
        return next((lease for lease in idle if lease.token.held), idle[0] if idle else None)

    def _assign(self, worker: Worker, lent: Lease | None) -> None:
        if worker.lease is not None:
            worker.lease.in_use = False
        if lent is not None:
            lent.in_use = True
            worker.lease, worker.token = lent, lent.token
        else:
            worker.token = Token()

    async def _obtain(self, worker: Worker) -> bool:
        token = worker.token
        assert token is not None
        if token.held or self._backend.try_acquire(self._limiter, token):
            token.held = True
            return True
        run = self._run
        run.workers.searchers -= 1  # while it waits here, somebody else must look for forever jobs
        run.workers.ensure_searcher()
        try:
            with self._backend.scope() as self._waiting:
                token.held = await self._backend.acquire(self._limiter, token)
        finally:
            self._waiting = None
            run.workers.searchers += 1
        if token.held and not run.queue.jobs:
            self._return(token)
        return token.held

    def _return(self, token: Token) -> None:
        if token.held:
            token.held = False
            self._limiter.release_on_behalf_of(token)

    def _others_wait(self) -> bool:
        waiting: int = self._limiter.statistics().tasks_waiting
        return waiting > (self._waiting is not None)


def _lent_by_enclosing(run: Run, limiter: Any) -> Iterator[Lease]:
    """Yield the leases of all enclosing workers that borrow from `limiter`, the nearest first."""
    worker = run.outer_worker
    while worker is not None:
        window = worker.run.workers.window
        if window is not None and window.limiter is limiter and worker.token is not None:
            worker.lent = worker.lent or Lease(worker.token)
            yield worker.lent
        worker = worker.run.outer_worker
