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
- While nothing runs because of an interval between starts, a run keeps no token of its limiter, a lent one neither.
- A scheduler in which nothing runs, because all its jobs wait for needs or for a service, must not keep its token: who
  has what they wait for may wait for a token. So it gives the token back (`OuterToken`). As soon as one of its jobs
  could start, it asks for the token again, and until then none starts, and nothing is taken of a pool. So whoever
  waits for needs keeps no token.
- If several limiters are nested, tokens are asked for from the outermost on, and those further in are given back
  meanwhile. If all schedulers nest them in the same order, nobody waits for ever (Havender 1968).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from ..base._states import RunPhase

if TYPE_CHECKING:
    from ..backend import Backend, Scope
    from ._run import Run
    from ._worker import Worker


class Token:
    """One borrower of a limiter."""

    __slots__ = ("asked", "held")

    def __init__(self) -> None:
        self.held = False  # whether it has its token now
        self.asked = False  # whether somebody waits for it in the limiter's queue


class Lease:
    """A token of an outer worker, lent to the runs inside its job for one of their jobs at a time."""

    __slots__ = ("_worker", "in_use", "token")

    def __init__(self, worker: Worker, token: Token) -> None:
        self._worker: Final = worker
        self.token: Final = token
        self.in_use = False

    def note_change(self) -> None:
        """Take in that the token may have come or gone, or that nobody uses it any more."""
        job: Any = self._worker.job  # a scheduler, or the token would not be lent
        nested: Run | None = job._run
        if nested is not None and nested.workers.outer_token is not None:
            nested.workers.outer_token.note_change()


class OuterToken:
    """The token under which a worker runs a scheduler: that of the run, and of what is nested in it."""

    __slots__ = ("_run", "_wanted_by", "_window", "_worker", "limiter", "token")

    def __init__(self, run: Run, worker: Worker, window: LimiterWindow, token: Token) -> None:
        self._run = run
        self._worker: Final = worker
        self._window: Final = window
        self.limiter: Final = window.limiter
        self.token: Final = token
        self._wanted_by: Final[dict[Run, None]] = {}  # runs with a job that could start if the token were there

    def is_of(self, run: Run) -> bool:
        """Return whether it is the token of the worker around this very run."""
        return self._run is run

    def part_from_run(self) -> None:
        """Give up the run, which is over."""
        self._wanted_by.clear()
        del self._run

    def want(self, run: Run) -> None:
        """Let the run whose token this is ask for it again, because a job of that run or of one inside could start."""
        self._wanted_by[run] = None
        self._run.wake()

    def is_wanted(self) -> bool:
        """Return whether somebody has to ask for the token."""
        return bool(self._wanted_by) and not self.token.held and not self.token.asked

    def give_back(self) -> None:
        """Give the token back, unless a run inside uses it, which does so itself."""
        lent = self._worker.lent
        if lent is None or not lent.in_use:
            self._window.take_back(self.token)

    async def ask(self) -> None:
        """Wait for the token, until it is there or the run is woken for something else."""
        run, token = self._run, self.token
        if run.backend.try_acquire(self.limiter, token):
            token.held = True
        else:
            run.changed = request = TokenRequest(run.backend.scope(), self.limiter, token)
            token.asked = True
            if not await run.group.host.wait(request):
                run.cancelled_outside()
            token.asked, run.changed = False, None
        if token.held:
            self._use()

    def note_change(self) -> None:
        """Take in that the token may have come or gone, or that a run inside does not use it any more."""
        if self._wanted_by and self.token.held:
            self._use()
        elif self._wanted_by:
            self._run.wake()

    def _use(self) -> None:
        """Start what the token was wanted for; if nothing can start any more, give it back."""
        wanted = [run for run in self._wanted_by if run.phase is RunPhase.RUNNING]
        self._wanted_by.clear()
        for run in wanted:
            run.workers.ensure_searcher()
        if not any(run.queue.jobs for run in wanted):  # none searches, or has asked for another token
            self._run.workers.note_idle()


class TokenRequest:
    """An event that a run waits for: that a token is there; or, as with any other, that something has set it."""

    def __init__(self, scope: Scope, limiter: Any, token: Token) -> None:
        self._scope: Final = scope
        self._limiter: Final = limiter
        self._token: Final = token

    def is_set(self) -> bool:
        """Return whether the token is there."""
        return self._token.held

    async def wait(self) -> None:
        """Wait for the token."""
        with self._scope:
            await self._limiter.acquire_on_behalf_of(self._token)
            self._token.held = True

    def set(self) -> None:
        """Stop waiting."""
        self._scope.cancel()


class Interval:
    """Keeps a number of seconds between two starts."""

    __slots__ = ("_backend", "_clock", "_next", "_seconds")

    def __init__(self, run: Run, seconds: float) -> None:
        self._backend, self._clock, self._seconds = run.backend, run.clock, seconds
        self._next = run.clock()  # the first job may start at once

    def is_over(self) -> bool:
        """Return whether a job may start."""
        return self._clock() >= self._next

    def begin(self, now: float) -> None:
        """Record that a job starts."""
        self._next = now + self._seconds

    async def wait(self) -> bool:
        """Wait until the present interval is over. Return False on cancellation."""
        return await self._backend.wait_until(self._next)


class LimiterWindow:
    """The window of one run, if it is a limiter."""

    __slots__ = ("_backend", "_limiter", "_outer", "_run", "_waiting")

    def __init__(self, run: Run, limiter: Any) -> None:
        self._run = run
        self._limiter = limiter
        self._backend: Backend = run.backend
        self._outer: Final = tuple(_lent_by_enclosing(run, limiter))
        self._waiting: Scope | None = None  # the scope of the one worker that waits for a token

    def part_from_run(self) -> None:
        """Give up the run, which is over."""
        del self._run

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
            self.take_back(worker.token)
        if not run.queue.jobs or self._waiting is not None:
            return False  # another worker of this run waits in the queue already
        lent = self._idle_lease()
        # Use a lent token rather than queue for another; use one that is held rather than one that was given back, and
        # none for which somebody else waits: it can be waited for only once.
        token = worker.token
        if token is None or token.asked or (lent is not None and (worker.lease is None or lent.token.held)):
            self._assign(worker, lent)
        return await self._obtain(worker)

    def leave(self, worker: Worker) -> None:
        """Take back what a worker has that stops running jobs of this window."""
        token, lease = worker.token, worker.lease
        worker.token = worker.lease = worker.lent = None
        if token is None:
            return
        if lease is None:
            self.take_back(token)
            return
        lease.in_use = False
        if self._limiter.statistics().tasks_waiting:  # it may be this run's own worker, waiting for another token
            self.take_back(token)
        lease.note_change()

    def give_back(self, worker: Worker) -> None:
        """Give back the token of a worker that has to wait for something else."""
        if worker.token is not None:
            self.take_back(worker.token)

    def take_back(self, token: Token) -> None:
        """Take back a token, if it is held."""
        if token.held:
            token.held = False
            self._limiter.release_on_behalf_of(token)

    def call_off(self) -> None:
        """Stop the worker that waits for a token, because nothing is left to run."""
        if self._waiting is not None:
            self._waiting.cancel()

    def _idle_lease(self) -> Lease | None:
        """Return a lease that no run uses, or asks for, now; preferably one whose token is held, however far out."""
        idle = [lease for lease in self._outer if not (lease.in_use or lease.token.asked)]
        return next((lease for lease in idle if lease.token.held), idle[0] if idle else None)

    def _assign(self, worker: Worker, lent: Lease | None) -> None:
        if worker.lease is not None:
            worker.lease.in_use = False
            worker.lease.note_change()
            worker.lease = None
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
        token.asked = worker.idle = True
        run.workers.note_idle(self._limiter)
        try:
            with self._backend.scope() as self._waiting:
                token.held = await self._backend.acquire(self._limiter, token)
        finally:
            self._waiting, token.asked, worker.idle = None, False, False
            run.workers.searchers += 1
        if worker.lease is not None:
            worker.lease.note_change()
        if token.held and not run.queue.jobs:
            self.take_back(token)
        return token.held

    def _others_wait(self) -> bool:
        waiting: int = self._limiter.statistics().tasks_waiting
        return waiting > (self._waiting is not None)


def tokens_around(run: Run) -> tuple[OuterToken, ...]:
    """Return the tokens under which the jobs of a run start, one for each limiter, that of the worker around it first.

    A forever job, and so all that is in one, takes none.
    """
    worker = run.outer_worker
    if worker is None or worker.shielded:
        return ()
    around, window = worker.run.workers.tokens_around, worker.run.workers.window
    if worker.token is None:
        return around
    assert window is not None  # it has given the token
    own = OuterToken(run, worker, window, worker.token)
    return own, *(one for one in around if one.limiter is not own.limiter)


def _lent_by_enclosing(run: Run, limiter: Any) -> Iterator[Lease]:
    """Yield the leases of all enclosing workers that borrow from `limiter`, the nearest first."""
    worker = run.outer_worker
    while worker is not None:
        window = worker.run.workers.window
        if window is not None and window.limiter is limiter and worker.token is not None:
            worker.lent = worker.lent or Lease(worker, worker.token)
            yield worker.lent
        worker = worker.run.outer_worker
