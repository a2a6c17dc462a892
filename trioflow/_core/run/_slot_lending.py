"""Lending of a window's slots while no job needs them, for example to the compilers that a build starts.

A lent slot counts as taken, so a window of 8 has 8 slots for jobs and borrowers together. Jobs take precedence:

```
a job is ready, but no slot is free ──► take_back: the borrower returns unused slots ──► the job starts
a slot is free, but no job is ready ──► offer: the borrower takes the slot
```

The borrower keeps the slots that it uses until it no longer needs them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from ._workers import Workers

if TYPE_CHECKING:
    from ._run import Run


class Borrower(Protocol):
    """The interface of an object that borrows spare slots."""

    def offer(self) -> None:
        """Take as many free slots as needed, by `SpareSlots.take`."""
        ...

    def take_back(self, number: int) -> None:
        """Return up to `number` unused slots, by `SpareSlots.give_back`, because jobs wait for them."""
        ...

    def count_unused(self) -> int:
        """Return the number of borrowed slots that `take_back` could return now."""
        ...


class SpareSlots:
    """The spare slots of one window, for a borrower. Use this only in the thread of the event loop."""

    __slots__ = ("_workers", "borrower", "jobserver_style", "lent_count")

    borrower: Borrower | None
    """The object that borrows these slots; None if there is none."""
    lent_count: int
    """The number of lent slots."""
    jobserver_style: Any
    """The `jobserver` option of the scheduler that lends the slots."""

    def __init__(self, workers: Any, style: Any) -> None:  # `LendingWorkers`, which is not public
        self._workers: Final[LendingWorkers] = workers
        self.jobserver_style = style
        self.borrower = None
        self.lent_count = 0

    @property
    def total(self) -> int:
        """The maximum size of the window, which includes the slots of jobs."""
        return self._workers.max_size or 1

    @property
    def is_shared(self) -> bool:
        """Whether code outside of the run may wait for slots. The borrower is not notified of that."""
        return False

    def count_wanted(self) -> int:
        """Return the number of slots that ready jobs wait for."""
        workers, jobs = self._workers, self._workers._queue.jobs
        # Test `jobs` before `len(jobs)`: if jobs have needs, the test updates which of them can start.
        return len(jobs) if workers.free <= 0 and workers.may_start() and jobs else 0

    def take(self) -> bool:
        """Take a free slot that no job needs; return False if there is none."""
        workers = self._workers
        if workers.free <= 0 or (workers._queue.jobs and workers.may_start()):
            return False
        workers.free -= 1
        self.lent_count += 1
        return True

    def give_back(self, number: int) -> None:
        """Return a number of slots. Call `start_waiting_jobs` afterwards, so that waiting jobs start."""
        self._workers.free += number
        self.lent_count -= number

    def start_waiting_jobs(self) -> None:
        """Start ready jobs in the returned slots, unless the run drains or stops."""
        if self._workers.may_start():
            self._workers.ensure_searcher()

    def call_at(self, when: float, function: Callable[[], None], /) -> Callable[[], None]:
        """Call `function()` when the run's clock reaches `when`; return a function that cancels the call."""
        return self._workers._run.group.call_at(when, function)


class LimiterSlots(SpareSlots):
    """The spare tokens of a window that is a `CapacityLimiter`, which other code may also use."""

    __slots__ = ("_backend", "_limiter", "_tokens")

    def __init__(self, workers: LendingWorkers, style: Any, limiter: Any) -> None:
        super().__init__(workers, style)
        self._backend: Final = workers._run.backend
        self._limiter: Final = limiter
        self._tokens: Final[list[object]] = []

    @property
    def is_shared(self) -> bool:
        """True: a limiter does not notify the borrower of tasks that begin to wait."""
        return True

    def count_wanted(self) -> int:
        """Return the number of tasks that wait for a token of the limiter."""
        waiting: int = self._limiter.statistics().tasks_waiting
        return waiting

    def take(self) -> bool:
        """Take a token that no task waits for; return False if there is none."""
        token = object()
        if self.count_wanted() or not self._backend.try_acquire(self._limiter, token):
            return False
        self._tokens.append(token)
        self.lent_count += 1
        return True

    def give_back(self, number: int) -> None:
        """Return a number of tokens to the limiter."""
        self.lent_count -= number
        for _ in range(number):
            self._limiter.release_on_behalf_of(self._tokens.pop())


class LendingWorkers(Workers):
    """The workers of a run whose scheduler lends slots."""

    has_start_hook = True

    def __init__(self, run: Run, window: Any, style: Any) -> None:
        super().__init__(run, window)
        tokens = None if self.limiter is None else LimiterSlots(self, style, self.limiter)
        self.spare_slots: Final = tokens or SpareSlots(self, style)

    @property
    def lent_count(self) -> int:
        """The number of lent slots."""
        return self.spare_slots.lent_count

    def may_start(self) -> bool:
        """Return whether jobs may still start."""
        return not self._run.is_draining_or_stopping

    def ensure_searcher(self) -> None:
        """Take back slots for ready jobs, ensure that a worker searches, and then offer free slots."""
        borrower = self.spare_slots.borrower
        if borrower is not None and not self.searchers and (number := self.spare_slots.count_wanted()):
            borrower.take_back(number)
        super().ensure_searcher()
        self._offer()

    def on_job_start(self) -> None:
        """Offer free slots, because a job that was ready starts now and no longer needs another one."""
        super().on_job_start()
        self._offer()

    def count_startable(self) -> int:
        """Return the number of slots in which ready jobs can start; if there is none, 1 if a lent slot is unused."""
        borrower = self.spare_slots.borrower
        return super().count_startable() or int(
            borrower is not None and self.may_start() and borrower.count_unused() > 0
        )

    def _offer(self) -> None:
        if self.spare_slots.borrower is not None and self.free > 0:
            self.spare_slots.borrower.offer()


def spare_slots(run: Run | None) -> SpareSlots | None:
    """Return the spare slots of the innermost run, from `run` outwards, that lends slots; None if none does."""
    while run is not None:
        if isinstance(run.workers, LendingWorkers):
            return run.workers.spare_slots
        run = None if run.outer_worker is None else run.outer_worker.run
    return None
