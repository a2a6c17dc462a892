"""Loans of slots that no job needs now: to the compilers of a build, for example.

A lent slot counts as if a job had it: a window of 8 has 8 slots for jobs and loans together. Jobs take precedence:

```
a job is ready, and no slot is free ──► take_back: the unused ones ──► the job starts
no job is ready, and a slot is free ──► offer: the borrower takes it
```

Slots in use stay lent until the borrower returns them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from ._workers import Workers

if TYPE_CHECKING:
    from ._run import Run


class Borrower(Protocol):
    """A borrower of slots that no job needs now."""

    def offer(self) -> None:
        """Take slots, by `SpareSlots.take`, if there is a use for them."""
        ...

    def take_back(self, number: int) -> None:
        """Return up to `number` unused slots, by `SpareSlots.give_back`, because jobs wait for them."""
        ...

    def unused(self) -> int:
        """Return the number of its slots that could be taken back now."""
        ...


class SpareSlots:
    """The slots of one counted window, for a borrower. Only the event loop may use it."""

    __slots__ = ("_workers", "borrower", "lent", "style")

    borrower: Borrower | None
    """The borrower of these slots."""
    lent: int
    """The number of lent slots."""
    style: Any
    """The option of the scheduler by which slots are lent."""

    def __init__(self, workers: Any, style: Any) -> None:  # `LendingWorkers`, which is not public
        self._workers: Final[LendingWorkers] = workers
        self.style = style
        self.borrower = None
        self.lent = 0

    @property
    def total(self) -> int:
        """The total number of slots, including those that jobs have."""
        return self._workers.slots or 1

    @property
    def is_shared(self) -> bool:
        """Whether others besides the jobs of this run may wait for slots without notice."""
        return False

    def wanted(self) -> int:
        """Return the number of slots that jobs wait for now."""
        workers, jobs = self._workers, self._workers._queue.jobs
        # First whether there are any: with needs, the length holds only the result of the last round.
        return len(jobs) if workers.free <= 0 and workers.may_start() and jobs else 0

    def take(self) -> bool:
        """Take a slot that no job needs; return False if there is none."""
        workers = self._workers
        if workers.free <= 0 or (workers._queue.jobs and workers.may_start()):
            return False
        workers.free -= 1
        self.lent += 1
        return True

    def give_back(self, number: int) -> None:
        """Return slots; `tell` then starts the jobs that wait."""
        self._workers.free += number
        self.lent -= number

    def tell(self) -> None:
        """Start ready jobs in the slots that were given back."""
        if self._workers.may_start():
            self._workers.ensure_searcher()

    def call_at(self, when: float, function: Callable[[], None], /) -> Callable[[], None]:
        """Call `function()` when the run's clock shows `when`; return a function that cancels the call."""
        return self._workers._run.group.call_at(when, function)


class LimiterSlots(SpareSlots):
    """The same for a window that is a limiter, which others use too."""

    __slots__ = ("_backend", "_limiter", "_tokens")

    def __init__(self, workers: LendingWorkers, style: Any, limiter: Any) -> None:
        super().__init__(workers, style)
        self._backend: Final = workers._run.backend
        self._limiter: Final = limiter
        self._tokens: Final[list[object]] = []

    @property
    def is_shared(self) -> bool:
        """A limiter does not report that others begin to wait for it."""
        return True

    def wanted(self) -> int:
        """Return the number of tasks that wait for a token."""
        waiting: int = self._limiter.statistics().tasks_waiting
        return waiting

    def take(self) -> bool:
        """Take a token if no task waits for one; return False if there is none."""
        token = object()
        if self.wanted() or not self._backend.try_acquire(self._limiter, token):
            return False
        self._tokens.append(token)
        self.lent += 1
        return True

    def give_back(self, number: int) -> None:
        """Return tokens."""
        self.lent -= number
        for _ in range(number):
            self._limiter.release_on_behalf_of(self._tokens.pop())


class LendingWorkers(Workers):
    """The workers of a run whose scheduler lends slots; see the top of this file."""

    notes_each_start = True

    def __init__(self, run: Run, window: Any, style: Any) -> None:
        super().__init__(run, window)
        tokens = None if self.limiter is None else LimiterSlots(self, style, self.limiter)
        self.spare: Final = tokens or SpareSlots(self, style)

    @property
    def lent(self) -> int:
        """The number of lent slots."""
        return self.spare.lent

    def may_start(self) -> bool:
        """Return whether jobs may still start."""
        return not self._run.starts_no_more

    def ensure_searcher(self) -> None:
        """Take slots back for ready jobs, ensure a searcher, and then offer free slots."""
        borrower = self.spare.borrower
        if borrower is not None and not self.searchers and (number := self.spare.wanted()):
            borrower.take_back(number)
        super().ensure_searcher()
        self._offer()

    def note_start(self) -> None:
        """Record the start, and then offer the slots kept for this job while it was ready."""
        super().note_start()
        self._offer()

    def count_startable(self) -> int:
        """Return the number of ready jobs that get a slot; if none is free, one if lent slots are unused."""
        borrower = self.spare.borrower
        return super().count_startable() or int(borrower is not None and self.may_start() and borrower.unused() > 0)

    def _offer(self) -> None:
        if self.spare.borrower is not None and self.free > 0:
            self.spare.borrower.offer()


def spare_slots(run: Run | None) -> SpareSlots | None:
    """Return the slots lent to jobs of a run: those of the nearest enclosing scheduler that lends any."""
    while run is not None:
        if isinstance(run.workers, LendingWorkers):
            return run.workers.spare
        run = None if run.outer_worker is None else run.outer_worker.run
    return None
