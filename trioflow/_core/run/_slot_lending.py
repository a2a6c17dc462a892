"""Lending of a window's slots while no job needs them, for example to the compilers that a build starts.

A lent slot counts as taken, so a window of 8 has 8 slots for jobs and borrowers together. Jobs take precedence:

```
a job is ready, but no slot is free ──► take_back: the borrower returns unused slots ──► the job starts
a slot is free, but no job is ready ──► offer: the borrower takes the slot
```

The borrower keeps the slots that it uses until it no longer needs them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from ..admission._ready_queue import ReadyQueue
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

    __slots__ = ("_queue", "borrower", "jobserver_style", "lent_count")

    borrower: Borrower | None
    """The object that borrows these slots; None if there is none."""
    lent_count: int
    """The number of lent slots."""
    jobserver_style: Any
    """The `jobserver` option of the scheduler that lends the slots."""

    def __init__(self, run: Any, style: Any) -> None:  # a `Run`, which is not public
        self._queue: Final[ReadyQueue] = run.queue
        self.jobserver_style = style
        self.borrower = None
        self.lent_count = 0

    @property
    def total(self) -> int:
        """The maximum size of the window, which includes the slots of jobs."""
        return self._queue.max_size or 1

    @property
    def is_shared(self) -> bool:
        """Whether code outside of the run may wait for slots. The borrower is not notified of that."""
        return False

    def count_wanted(self) -> int:
        """Return the number of slots that ready jobs wait for."""
        return self._queue.line.count_without_slot() if self._queue.is_full() else 0

    def take(self) -> bool:
        """Take a free slot that no job needs; return False if there is none."""
        if self._queue.is_full():
            return False
        self._queue.line.admit(math.inf)
        if self._queue.is_full():
            return False
        self.lent_count += 1
        return True

    def give_back(self, number: int) -> None:
        """Return a number of slots. Call `start_waiting_jobs` afterwards, so that waiting jobs start."""
        self.lent_count -= number
        self._queue.on_change()

    def start_waiting_jobs(self) -> None:
        """Start ready jobs in the returned slots."""
        self._queue.run.workers.ensure_searcher()

    def call_at(self, when: float, function: Callable[[], None], /) -> Callable[[], None]:
        """Call `function()` when the run's clock reaches `when`; return a function that cancels the call."""
        cancel: Callable[[], None] = self._queue.run.group.call_at(when, function)
        return cancel


class LimiterSlots(SpareSlots):
    """The spare tokens of a window that is a `CapacityLimiter`, which other code may also use."""

    __slots__ = ("_backend", "_limiter", "_tokens")

    def __init__(self, run: Run, style: Any, limiter: Any) -> None:
        super().__init__(run, style)
        self._backend: Final = run.backend
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
        self.lent_count -= number
        for _ in range(number):
            self._limiter.release_on_behalf_of(self._tokens.pop())


def make_spare_slots(run: Run, style: Any) -> SpareSlots:
    limiter = run.queue.limiter
    return SpareSlots(run, style) if limiter is None else LimiterSlots(run, style, limiter)


def spare_slots(run: Run | None) -> SpareSlots | None:
    """Return the spare slots of the innermost run, from `run` outwards, that lends slots; None if none does."""
    while run is not None:
        if run.queue.spare_slots is not None:
            return run.queue.spare_slots  # type: ignore[no-any-return]
        run = None if run.outer_worker is None else run.outer_worker.run
    return None
