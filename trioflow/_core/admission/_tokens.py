"""The tokens of a `CapacityLimiter`: the jobs of all runs in a loop that have one, and those that wait only for one.

A limiter counts the jobs that are working, at any depth: those of the run whose window it is, and those of nested runs,
except where a nested run has its own limiter. A job takes its token last, after its slot and its needs, so a job with a
token waits for nothing else, and tokens cannot cause a deadlock. Nested schedulers, and jobs that have their own
limiter, take no token. Forever jobs and clean-up jobs take neither a slot nor a token, and if such a job is a
scheduler, neither do the jobs in it, unless it has its own limiter.

- Each job that has to wait draws a **ticket**, and the tickets of all runs are served in the order in which they were
  drawn. A ticket serves the first job of its run, by the entries: a higher priority may use an older ticket of its run.
- A token that a job gives back, or that a worker gets, serves the oldest ticket, of whatever run. It goes back to the
  limiter if other tasks wait for that, or no job does.
- Whether it does is decided by `RunTokens.pass_on`, after the successors of the job have become ready.
- In each run with tickets, one worker waits in the limiter's queue: the program sees each run once (`request_token`).
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from ..job._job import AbstractJob, is_scheduler, takes_slot
from .policy._policy import ready_numbers

if TYPE_CHECKING:
    from ..backend import Backend, Scope
    from ._line import Line
    from .policy._policy import HeapEntry, StartKeys


class Tokens:
    """The tokens of one limiter for the runs in one loop: who waits, and what was given back."""

    def __init__(self, backend: Backend, limiter: Any) -> None:
        self._backend: Final = backend
        self.limiter: Final = limiter
        if backend.try_acquire(limiter, self):  # anyio needs a task at the first use, which may be in a callback
            limiter.release_on_behalf_of(self)
        self.tickets: Final[deque[RunTokens]] = deque()  # the runs that wait, each as often as it has asked, in order
        self.unused: Final[list[object]] = []  # the borrowers of tokens that were given back, until these are passed on
        self.request_count = 0  # how many workers of ours wait in the limiter's queue

    def is_free(self) -> bool:
        """Return whether a token is left for a job that asks now, after all that have asked before."""
        if self.unused and self._do_others_wait():
            self.pass_on(None)
        while self.unused or self.acquire_free():
            if not self.tickets:
                return True
            self.serve(None)
        return False

    def pass_on(self, caller: RunTokens | None) -> None:
        """Serve tickets with the tokens that were given back; return these if other tasks wait, or no job does.

        Workers are woken for the jobs, except in the run of `caller`.
        """
        while self.unused:
            if not self.tickets or self._do_others_wait():
                self.limiter.release_on_behalf_of(self.unused.pop())
            else:
                self.serve(caller)

    def serve(self, caller: RunTokens | None) -> None:
        """Let the first job start of the run that has asked first."""
        served = self.tickets.popleft()
        served.start_first(self.unused.pop())
        if served is not caller:
            served.line.run.workers.spawn_searcher()

    def acquire_free(self) -> bool:
        borrower = object()
        if self._backend.try_acquire(self.limiter, borrower):
            self.unused.append(borrower)
        return bool(self.unused)

    def _do_others_wait(self) -> bool:
        """Return whether tasks other than our workers wait in the limiter's queue, or its total has shrunk."""
        # If tokens are available, no task waits. Reading the statistics would take five times as long.
        available: float = self.limiter.available_tokens
        if available != 0:
            return available < 0
        waiting: int = self.limiter.statistics().tasks_waiting
        return waiting > self.request_count


class RunTokens:
    """The jobs of one run that have a token of a limiter, and those that wait for one."""

    def __init__(self, line: Line, limit: Tokens) -> None:
        self.line = line  # deleted when the run has ended
        self.limit: Final = limit
        self.limiter: Final = limit.limiter
        # For each job that has a token, the object that is its borrower in the limiter.
        self.borrowers: Final[dict[AbstractJob[Any], object]] = {}
        # The jobs that wait for a token, with their entries; and these, with some obsolete ones, as a heap.
        self.waiting: Final[dict[AbstractJob[Any], HeapEntry]] = {}
        self._heap: Final[list[HeapEntry]] = []
        self.request_scope: Scope | None = None  # the scope of the one worker that waits in the limiter's queue
        self.is_held_back = False  # whether all jobs wait until they ask again, in `ask_in_order`

    def ask(self, entry: HeapEntry) -> bool:
        """Return whether a job may start, because it needs no token or gets one at once; otherwise, let it wait."""
        job = entry[2]
        if not self.is_held_back:
            if not takes_slot(job) or is_scheduler(job) or job._own_limiter is not None:
                return True
            if not self.waiting and self.limit.is_free():
                self.borrowers[job] = self.limit.unused.pop()
                return True
        self.waiting[job] = entry
        heapq.heappush(self._heap, entry)
        self.limit.tickets.append(self)
        return False

    def start_first(self, borrower: object) -> None:
        """Let the first waiting job start with a token."""
        while self.waiting.get(self._heap[0][2]) is not self._heap[0]:
            heapq.heappop(self._heap)
        job = heapq.heappop(self._heap)[2]
        del self.waiting[job]
        self.borrowers[job] = borrower
        self.line.startable.append(job)
        self._leave_queue()

    def give_back(self, job: AbstractJob[Any]) -> None:
        """Take back the token of a job, for `pass_on`; if the job waits for one, let it wait no longer."""
        if job in self.borrowers:
            self.limit.unused.append(self.borrowers.pop(job))
        elif self.waiting.pop(job, None) is not None:
            self.limit.tickets.reverse()
            self.limit.tickets.remove(self)  # its last one
            self.limit.tickets.reverse()
            self._leave_queue()

    def _leave_queue(self) -> None:
        """If no job waits any more, leave the limiter's queue."""
        if self.request_scope is not None and not self.waiting:
            self.request_scope.cancel()

    def needs_request(self) -> bool:
        return bool(self.waiting) and self.request_scope is None and not self.is_held_back

    def in_order(self) -> list[AbstractJob[Any]]:
        return [entry[2] for entry in sorted(self.waiting.values())]

    def drain(self) -> list[HeapEntry]:
        """Remove the jobs that wait, and return their entries, in order."""
        entries = sorted(self.waiting.values())
        self.waiting.clear()
        self._heap.clear()
        others = [each for each in self.limit.tickets if each is not self]
        self.limit.tickets.clear()
        self.limit.tickets.extend(others)
        self._leave_queue()
        return entries

    def use_order(self, order: StartKeys) -> None:
        for job in self.in_order():
            self.waiting[job] = (order.key(job), next(ready_numbers), job)
        self._heap[:] = sorted(self.waiting.values())
