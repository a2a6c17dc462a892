"""The tokens of a `CapacityLimiter`: the jobs of an outermost run, at any depth, that have one or wait only for one.

A limiter counts the jobs that are working, at any depth: those of the run whose window it is, and those of nested runs,
except where a nested run has its own limiter. A job takes its token last, after its slot and its needs, so a job with a
token waits for nothing else, and tokens cannot cause a deadlock. Nested schedulers, and jobs that have their own
limiter, take no token. Forever jobs and clean-up jobs take neither a slot nor a token, and if such a job is a
scheduler, neither do the jobs in it, unless it has its own limiter.

- Each job that has to wait draws a **ticket**, and the tickets of all these runs are served in the order in which they
  were drawn. A ticket serves the first job of its run, by the entries: a higher priority may use an older ticket of its
  run.
- A token that a job gives back serves the oldest ticket, of whatever run. It goes back to the limiter if other tasks
  wait there, such as those of the program and of other outermost runs, or if no job waits.
- Whether it does is decided by `RunTokens.pass_on`, after the successors of the job have become ready.
- While there are tickets, one worker waits in the limiter's queue, for the oldest of them. So all jobs of an outermost
  run stand in that queue once, and a run with many jobs takes turns with others that ask later.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from ..job._job import AbstractJob, is_scheduler, takes_slot
from ._policies import LOWEST_KEY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..backend import Backend, Scope
    from ._line import Line
    from ._policies import HeapEntry, StartKeys


class Tokens:
    """The tokens of one limiter for the runs of an outermost run: who waits, and what was given back."""

    def __init__(self, backend: Backend, limiter: Any) -> None:
        self._backend: Final = backend
        self.limiter: Final = limiter
        if backend.try_acquire(limiter, self):  # anyio needs a task at the first use, which may be in a callback
            limiter.release_on_behalf_of(self)
        # The runs that have asked, in order, each as often as it has; None for a job that waits no longer.
        self.tickets: Final[deque[list[RunTokens | None]]] = deque()
        self.waiting_count = 0  # how many jobs wait, which is the number of valid tickets
        self.unused: Final[list[object]] = []  # the borrowers of tokens that were given back, until these are passed on
        self.requester: Any = None  # the `Worker` that waits in the limiter's queue, or will
        self._request: object = None  # its borrower, as soon as it waits
        self._request_scope: Scope | None = None

    def is_free(self) -> bool:
        """Return whether a token is left for a job that asks now, after all that have asked before."""
        if self.unused and self._do_others_wait():
            self.pass_on(None)
        while self.unused or self._acquire_free():
            if not self.waiting_count:
                return True
            self._serve(None)
        return False

    def pass_on(self, caller: RunTokens | None) -> None:
        """Serve tickets with the tokens that were given back; return these if other tasks wait, or no job does.

        Workers are woken for the jobs, except in the run of `caller`.
        """
        while self.unused:
            if not self.waiting_count or self._do_others_wait():
                self.limiter.release_on_behalf_of(self.unused.pop())
            else:
                self._serve(caller)

    def _serve(self, caller: RunTokens | None) -> None:
        """Let the first job start of the run with the oldest ticket."""
        while (served := self.tickets.popleft()[0]) is None:
            pass
        served.start_first(self.unused.pop())
        self.waiting_count -= 1
        if not self.waiting_count:
            self.update_request()
        if served is not caller:
            served.line.run.workers.spawn_searcher()

    def _acquire_free(self) -> bool:
        borrower = object()
        if is_free := self._backend.try_acquire(self.limiter, borrower):
            self.unused.append(borrower)
        return is_free

    def _do_others_wait(self) -> bool:
        """Return whether tasks other than our worker wait in the limiter's queue, or its total has shrunk."""
        # If tokens are available, no task waits. Reading the statistics would take five times as long.
        available: float = self.limiter.available_tokens
        if available != 0:
            return available < 0
        statistics = self.limiter.statistics()
        waiting: int = statistics.tasks_waiting
        if waiting != 1 or self._request is None:
            return waiting > 0
        return self._request in statistics.borrowers  # it was granted and has left the queue, so another one waits

    # ---- the request in the limiter's queue

    def is_requested(self) -> bool:
        return self._request is not None

    def update_request(self) -> None:
        """Keep a worker in the limiter's queue as long as jobs wait: call this if a first one waits, or one leaves."""
        if not self.waiting_count:
            self.tickets.clear()
            if self._request_scope is not None:
                self._request_scope.cancel()
        elif self.requester is None:
            run = self._first_run()
            home = run.outermost()  # it may have stopped, while its forever jobs and clean-up jobs go on
            self.requester = (run if home.workers.is_closed else home).workers.spawn(self)

    def _first_run(self) -> Any:
        return next(ticket[0] for ticket in self.tickets if ticket[0] is not None).line.run

    async def do_errand(self) -> None:
        """Wait in the limiter's queue for tokens, one at a time, as long as any job waits."""
        worker = self.requester
        while self.waiting_count and not worker.must_leave and await self._acquire(worker.run.standstill):
            if self.waiting_count:
                self._serve(None)  # also if other tasks wait: they have asked later
            while self.waiting_count and self._acquire_free():
                self._serve(None)
            self.pass_on(None)

    async def _acquire(self, standstill: Any) -> bool:
        """Wait for a token; return False if no job waits any more, or the run of the worker was cancelled."""
        standstill.active_count -= 1
        borrower = self._request = object()
        try:
            with self._backend.create_scope() as self._request_scope:
                standstill.suspect(self._first_run())
                if await self._backend.acquire(self.limiter, borrower):
                    self.unused.append(borrower)
        finally:
            self._request = self._request_scope = None
            standstill.count_worker()
        return borrower in self.unused

    def end_errand(self) -> None:
        self.requester = None
        self.update_request()  # if the run of the worker has stopped, or jobs have asked while it left


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
        self._tickets: Final[deque[list[RunTokens | None]]] = deque()  # as many as jobs wait
        self.is_held_back = False  # whether all jobs wait until they ask again, in `ask_in_order`

    def ask(self, entry: HeapEntry) -> bool:
        """Return whether a job may start, because it needs no token or gets one at once; otherwise, let it wait."""
        job, limit = entry[2], self.limit
        if not self.is_held_back:
            if not (job._is_plain or (takes_slot(job) and not is_scheduler(job) and job._own_limiter is None)):
                return True
            if not self.waiting and limit.is_free():
                self.borrowers[job] = limit.unused.pop()
                return True
        self.waiting[job] = entry
        heapq.heappush(self._heap, entry)
        ticket: list[RunTokens | None] = [self]
        self._tickets.append(ticket)
        limit.tickets.append(ticket)
        limit.waiting_count += 1
        if limit.requester is None:
            limit.update_request()
        return False

    def start_first(self, borrower: object) -> None:
        """Let the first waiting job start with a token."""
        while self.waiting.get(self._heap[0][2]) is not self._heap[0]:
            heapq.heappop(self._heap)
        job = heapq.heappop(self._heap)[2]
        del self.waiting[job]
        self._tickets.popleft()
        self.borrowers[job] = borrower
        self.line.startable.append(job)

    def give_back(self, job: AbstractJob[Any]) -> None:
        """Take back the token of a job, for `pass_on`; if the job waits for one, let it wait no longer."""
        if job in self.borrowers:
            self.limit.unused.append(self.borrowers.pop(job))
        elif self.waiting.pop(job, None) is not None:
            self._tickets.pop()[0] = None  # its last one
            self.limit.waiting_count -= 1
            self.limit.update_request()

    def in_order(self) -> list[AbstractJob[Any]]:
        return [entry[2] for entry in sorted(self.waiting.values())]

    def drain(self) -> list[HeapEntry]:
        """Remove the jobs that wait, and return their entries, in order."""
        entries = sorted(self.waiting.values())
        self.waiting.clear()
        self._heap.clear()
        for ticket in self._tickets:
            ticket[0] = None
        self._tickets.clear()
        self.limit.waiting_count -= len(entries)
        self.limit.update_request()
        return entries

    def use_order(self, order: StartKeys) -> None:
        for job, (_, number, _) in self.waiting.items():  # those that were throttled have negative numbers
            self.waiting[job] = (LOWEST_KEY if number < 0 else order.key(job), number, job)
        self._heap[:] = sorted(self.waiting.values())


def ask_in_order(runs: Iterable[Any]) -> None:
    """Let the jobs of runs whose pause is over ask for tokens in the order in which they became ready.

    As in a round of the admission, each run keeps its own order, and between runs a higher priority comes first.
    """
    waiting: list[RunTokens] = [run.queue.tokens for run in runs if run.queue.tokens is not None]
    for each in waiting:
        each.is_held_back = True
    for each in waiting:
        each.line.admit()
    asking = [[(-one[2]._options.priority, one[1], one, each) for one in each.drain()] for each in waiting]
    for each in waiting:
        each.is_held_back = False
    for *_, entry, each in heapq.merge(*asking):
        if each.ask(entry):
            each.line.startable.append(entry[2])
            each.line.run.workers.spawn_searcher()


def token_holder(workers: Iterable[Any], limiter: Any) -> AbstractJob[Any] | None:
    """Return the first job of these workers that holds a token of `limiter`; None if none does."""
    working = [worker for worker in workers if worker.job is not None]
    holders = {*token_holders((worker.run for worker in working), limiter)}
    return next((worker.job for worker in working if worker.job in holders), None)


def token_holders(runs: Iterable[Any], limiter: Any) -> Iterator[AbstractJob[Any]]:
    """Yield the jobs of these runs that hold a token of `limiter`, also those that have not begun. Any thread may ask.

    A running job may have the limiter itself, in place of the window's.
    """
    for run in runs:
        working = (worker.job for worker in list(run.workers.alive))
        yield from (job for job in working if job is not None and job._own_limiter is limiter)
        if run.queue.tokens is not None and run.queue.tokens.limiter is limiter:
            yield from list(run.queue.tokens.borrowers)
