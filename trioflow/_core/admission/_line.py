"""The line of a crew: its ready jobs, until workers take them. It decides, and workers act.

```
push ──► wait in `places` for a slot and for needs ──► wait for a limiter's token ──► startable ──► take
              FifoPlaces or OrderedPlaces                   `tokens`                        give_back ──► look
```

Invariants, whenever control returns to the loop:

1. A ready job is in exactly one place: in `places`, among the jobs that wait for a token, or in `startable`. A job that
   runs, or waits for its next attempt, is in none.
2. A job that waits in `places` holds nothing, or it waits for its turn alone. It gets its slot and its needs in one
   step, and a token after them, so no job holds a token while it waits for something else.
3. A place in `holders`, a grant and a token belong to the job, from its admission until `give_back`, which `settle` and
   `requeue` (of `_steps`) call for each job that leaves, however it does.
4. `give_back` only takes: nothing starts in it. `look` passes on, after the successors of the job have become ready.
   Each event that frees something, or makes a job ready, is followed by `take` or `ensure_searcher`, which call it.
   Events outside of the runs (a timer, `used()`, a gate, a token from the limiter) begin a round themselves.
5. There is a single order: the order of the entries `(key, number, job)`. A job gets its entry when it begins to wait
   in `places`, or, first in first out, when it leaves the deque. The entry goes with the job wherever it waits. A job
   that was throttled in an attempt comes before all others. A job that was admitted and returned comes before the other
   jobs of its key.
6. Each condition has a single owner, which decides whether a job may start now, and sees to it that `look` is called
   when that may have changed, as the table says. An owner knows nothing of the others.
7. Resources that several runs may have are owned by an object that the runs share: an `Admission` for needs, `Tokens`
   for a limiter. It serves the jobs of all runs in a single order, and wakes workers of the runs whose jobs may start.
8. Admitted jobs start: nothing is taken back for a job that becomes ready later. But a throttle and a pause return jobs
   that have not begun to the places, and a smaller window returns the last jobs whose slots are too many.
9. Changes by time alone are in the timer of an owner (`Admission`). They move when two owners are merged (`merge`).
10. If `places` is `NO_PLACES`, the run has no limit, and its jobs start in the order that they become ready. A pause
    leaves no trace: where nothing but the pause needs an order, `resume()` gives the old places back.

| event that frees               | who takes it back     | who is served next, in which order                          |
|--------------------------------|-----------------------|-------------------------------------------------------------|
| a job leaves: its slot         | `holders`             | the jobs of its run, by their entries                       |
| its needs                      | each `Resource`       | all runs of the `Admission`: priority, number of the first  |
| its key                        | the `Key`             | the first job of each group parked with it, then a round    |
| its token                      | `Tokens`              | other tasks in the limiter's queue, each outermost run one  |
|                                |                       | of them; in one, the oldest ticket: the first of that group |
| time: rate, key, throttle      | the admission's timer | a round                                                     |
| time: backoff, turn of a First | the run's own task    | they become ready                                           |
| `used()`, a budget             | the resource          | a round                                                     |
| a gate has opened              | the `GatedResource`   | all that are parked at it, then a round                     |
| a job that waited is cancelled | the place of its wait | the jobs behind it                                          |
| `resume()`                     | `set_paused`          | all runs in the pause, by priority and number               |
| a larger window                | `size`                | the jobs of its run                                         |

A clean-up crew waits for nothing. Its jobs get their needs even beyond the free amounts, and it first lets the jobs of
its run be admitted.

**Tokens.** A limiter counts the jobs that are working, at any depth: in the run whose window it is, and in nested runs,
except where a nested run has its own limiter. A job takes its token last, after its slot and its needs, so a job with a
token waits for nothing else, and tokens cannot cause a deadlock. Nested schedulers, and jobs that have their own
limiter, take no token. Forever jobs and clean-up jobs take neither a slot nor a token, and if such a job is a
scheduler, neither do the jobs in it, unless it has its own limiter.

- Each job that has to wait draws a **ticket**, and the tickets of all runs in an outermost run are served in the order
  that they were drawn. A ticket serves the first job of its run, by the entries: a higher priority may use an older
  ticket of its run.
- A token that a job gives back serves the oldest ticket, of whatever run. It goes back to the limiter if other tasks
  wait there, such as those of the program and of other outermost runs, or if no job waits.
- Whether it does is decided by `Tokens.pass_on`, after the successors of the job have become ready.
- While its job works, a token is borrowed in the name of the job's task. So if the job's own code asks the limiter for
  another, it gets the error that it would get in a nursery, and does not wait for what it holds. The library has no
  public way to rename a borrower. See `borrowers_of`.
- While there are tickets, a single worker waits in the limiter's queue, for the oldest of them. So all jobs of an
  outermost run together are in that queue once, and a run with many jobs takes turns with others that ask later.

Decided in docs/decisions: 13-limiters, 19-admission.
"""

from __future__ import annotations

import heapq
import math
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from ..backend import matches_any
from ..base._states import SCHEDULED
from ..job._job import AnyJob, is_scheduler, takes_slot
from ._admission import MAX_ADMITTED, Admission, OrderedPlaces
from ._policies import (
    LOWEST_KEY,
    HeapEntry,
    StartKeys,
    ready_numbers,
    returned_numbers,
    throttled_numbers,
)
from ._window import VariableWindow

if TYPE_CHECKING:
    from ..backend import Backend, Scope
    from ..run._run import Run
    from ..run._worker import Worker


class NoPlaces:
    """The places of a run without a limit: `NO_PLACES`, where no job waits. Its jobs may start as they become ready.

    Whoever has a ready job asks before: a call would cost a twentieth of an empty job.
    """

    admission: Final = None

    def push(self, job: AnyJob) -> None:
        raise AssertionError(f"{job.label!r} waits in a run without a limit")

    def insert(self, entry: HeapEntry) -> None:
        self.push(entry[2])

    def look(self, number: float) -> None:
        """No job waits."""

    def give_back(self, job: AnyJob) -> None:
        """No job has a grant."""

    def mark_stale(self) -> None:
        """There is no admission."""

    def entries(self) -> list[HeapEntry]:
        return []

    def drop_settled(self) -> None:
        """No job waits."""

    def clear(self) -> None:
        """No job waits."""


NO_PLACES: Final = NoPlaces()


class FifoPlaces(NoPlaces):
    """The jobs of a run that wait for a slot, first in, first out, until the run is paused or has another order."""

    def __init__(self, line: Line, jobs: Iterable[AnyJob] = ()) -> None:
        self._line = line
        self._jobs: Final = deque(jobs)

    def push(self, job: AnyJob) -> None:
        """Add a job. If it waits for no slot, it is admitted at once, after the jobs before it that can be."""
        line = self._line
        if line.size is not None and (job._is_plain or takes_slot(job)):
            self._jobs.append(job)
        else:
            self.look(math.inf)
            line.admit_job(line.entry_of(job))

    def look(self, number: float) -> None:
        """Admit jobs while slots are free. Because no job can overtake them, these may be more than `number`."""
        jobs = self._jobs
        line = self._line
        # It is None only if no job waits.
        size: Any = line.size
        tokens = line.tokens
        startable = line.startable
        holders = line.holders
        # `admit_job` would do the same, but take four times as long.
        while jobs and len(holders) < size:
            job = jobs.popleft()
            if job._state is SCHEDULED:
                holders.add(job)
                if tokens is None or tokens.ask(line.entry_of(job)):
                    startable.append(job)

    def insert(self, entry: HeapEntry) -> None:
        """Add a job that was admitted, and has returned, ahead of all others."""
        self._jobs.appendleft(entry[2])

    def entries(self) -> list[HeapEntry]:
        return _numbered(self._jobs)

    def drop_settled(self) -> None:
        _keep_scheduled(self._jobs)

    def clear(self) -> None:
        self._jobs.clear()


def _numbered(jobs: Iterable[AnyJob]) -> list[HeapEntry]:
    """Return entries for the jobs, in their order, that have not settled."""
    waiting = [job for job in list(jobs) if job._state is SCHEDULED]
    return [(LOWEST_KEY, next(ready_numbers), job) for job in waiting]


def _keep_scheduled(jobs: deque[AnyJob]) -> None:
    kept = [job for job in jobs if job._state is SCHEDULED]
    jobs.clear()
    jobs.extend(kept)


class Line:
    """The ready jobs of a crew, and the slots and tokens of its jobs. The module's docstring explains it.

    Args:
        run: the run.
        window: the window of the run: a number, an `Adaptive`, a limiter, or None for no limit.
        behind: the line of the run, if this is the line of its clean-up jobs.

    """

    places: NoPlaces | OrderedPlaces
    """The places of the jobs that wait: `NO_PLACES` if no job has to wait."""

    def __init__(self, run: Run, window: Any, behind: Line | None = None) -> None:
        self.run = run
        self.window: Final = window
        # The number of slots now, or None without a limit, or if a limiter has it: see `Steering.set_window`.
        first_size = window.minimum if isinstance(window, VariableWindow) else window
        self.size: int | None = first_size if isinstance(first_size, int) else None
        # In start order, with some that were cancelled.
        self.startable: Final = deque[AnyJob]()
        # The jobs that have a slot.
        self.holders: Final = set[AnyJob]()
        # None for first in, first out.
        self.order: StartKeys | None = None
        # If a limiter counts the jobs.
        self.tokens: RunTokens | None = None
        # Whether the run, or an enclosing run, is paused, so that no job is admitted.
        self.is_paused = False
        # Whether jobs have something to pass on to other lines.
        self.passes_on = behind is not None
        self._behind = behind
        self.places = NO_PLACES
        if behind is not None:
            self.order = behind.order
            self.places = OrderedPlaces(self)
        elif self.size is not None:
            self.places = FifoPlaces(self)

    def use_tokens(self, tokens: RunTokens) -> None:
        """Let jobs wait for tokens, before any is ready."""
        self.tokens = tokens
        self.passes_on = True
        if self.places is NO_PLACES:
            self.places = FifoPlaces(self)

    def detach(self) -> None:
        """Drop the references to the run, which has ended, and leave the admission for good."""
        if isinstance(self.places, OrderedPlaces):
            self.places.detach()
        if self.tokens is not None:
            del self.tokens.line
        self.places = NO_PLACES
        self.order = self._behind = None
        del self.run

    # ---- the window

    @property
    def limiter(self) -> Any:
        """The limiter that is the window, or None if the window is not a limiter."""
        return self.window if self.size is None else None

    @property
    def free(self) -> float:
        """The number of free slots, or infinity if there is no limit."""
        if self.tokens is not None:
            return float(self.tokens.limiter.available_tokens)
        if self.size is None:
            return math.inf
        return self.size - len(self.holders)

    def is_full(self, promised: int = 0) -> bool:
        """Return whether no slot is free but so many. More may be taken than there are, if the window has shrunk."""
        return self.size is not None and len(self.holders) + promised >= self.size

    def resize(self, size: int) -> None:
        """Replace the number of slots. Call `look` afterwards."""
        self.size = size
        if isinstance(self.places, OrderedPlaces) and len(self.holders) > size:
            # Those that wait for their turn alone have slots, too.
            self.places.admit_granted()
        self._take_back_admitted()

    def set_paused(self, is_paused: bool) -> None:
        """Admit no jobs from now on, or admit them again. Call `look` afterwards."""
        if is_paused is not self.is_paused:
            self.is_paused = is_paused
            if is_paused:
                self._ordered_places().admit_granted()
            self._take_back_admitted()

    def use_fifo_again(self) -> None:
        """Give the cheap places back after a pause, if neither an order nor needs ask for others.

        Until then, ordered places have kept the jobs that were taken back in their order.
        """
        needs_order = (
            self.is_paused or self.order is not None or self.admission is not None
        )
        if isinstance(self.places, OrderedPlaces) and not needs_order:
            # Now only jobs that wait for a slot are left, first in, first out.
            self.places.look(math.inf)
            is_limited = self.size is not None or self.tokens is not None
            waiting = self.in_order()
            if is_limited:
                self.places = FifoPlaces(self, waiting)
            else:
                self.places = NO_PLACES

    def _take_back_admitted(self) -> None:
        """Return jobs that have not begun to their places: all in a pause, else the last that have a slot too many.

        The jobs that could start come first. The jobs that waited for a token come in their old places.
        """
        waiting: list[HeapEntry] = []
        if self.tokens is not None:
            waiting = sorted(self.tokens.waiting.values())
        kept = deque[AnyJob]()
        size = math.inf if self.size is None else self.size
        while self.is_paused or len(self.holders) > size:
            if waiting:
                entry = waiting.pop()
                job = entry[2]
            elif self.startable:
                job = self.startable.pop()
                entry = (self.key_of(job, 0), next(returned_numbers), job)
            else:
                break
            if job._state is SCHEDULED and (self.is_paused or job in self.holders):
                self._put_back(entry)
            else:
                # From `startable`: a job that waits for a token is SCHEDULED and has a slot.
                kept.appendleft(job)
        self.startable.extend(kept)
        self.mark_stale()

    def _put_back(self, entry: HeapEntry) -> None:
        """Return an admitted job, which has not begun, to a place. It gives back all it has."""
        self.refund(entry[2])
        self.give_back(entry[2])
        if self.order is not None:
            self.order.starts -= 1
        # Each admitted job had a place.
        self.places.insert(entry)

    @property
    def admission(self) -> Admission | None:
        """The admission in which jobs wait for resources, or None if no job of the run needs any."""
        return self.places.admission

    def mark_stale(self) -> None:
        """Require a new round of the admission, if any, because jobs can take more or less than before."""
        if self.places.admission is not None:
            self.places.mark_stale()

    # ---- the steps of a job

    def push(self, job: AnyJob) -> None:
        """Add a job that has become ready. Call `Crew.ensure_searcher` afterwards."""
        if self.places is NO_PLACES:
            self.startable.append(job)
        else:
            self.places.push(job)

    def push_throttled(self, job: AnyJob) -> None:
        """Add a job that was throttled, ahead of all others but those that were throttled before."""
        self._ordered_places().insert((LOWEST_KEY, next(throttled_numbers), job))

    def entry_of(self, job: AnyJob) -> HeapEntry:
        key: Any = LOWEST_KEY
        if self.order is not None:
            key = self.order.key(job)
        return key, next(ready_numbers), job

    def look(self, number: float = MAX_ADMITTED) -> None:
        """Let waiting jobs take the slots and resources that were given back, until `number` of them are startable."""
        if self._behind is not None:
            self._behind.look()
        self.places.look(number)
        if self.tokens is not None and self.tokens.limit.unused:
            self.tokens.limit.pass_on(self.tokens)

    def admit_job(self, entry: HeapEntry) -> None:
        """Give a slot to a job that has its needs. Let it wait for a token, or make it startable."""
        job = entry[2]
        if self.order is not None:
            self.order.starts += 1
        if self.size is not None and takes_slot(job):
            self.holders.add(job)
        if self.tokens is None or self.tokens.ask(entry):
            self.startable.append(job)

    def take(self) -> AnyJob | None:
        startable = self.startable
        while True:
            if self.passes_on or not startable:
                # Shared resources must be passed on, even if other jobs are startable.
                self.look(1)
            if not startable:
                return None
            job = startable.popleft()
            if job._state is not SCHEDULED:
                continue
            if not (self.passes_on and self._return_early(job)):
                return job

    def give_back(self, job: AnyJob) -> None:
        """Take back all that a job holds which has settled or is queued again. `look` has to be called afterwards."""
        self.holders.discard(job)
        if self.passes_on:
            if self.tokens is not None:
                self.tokens.give_back(job)
            if self.places.admission is not None:
                self.places.give_back(job)

    def refund(self, job: AnyJob) -> None:
        """Put back the amounts of rates and budgets of a job that does not start. Call `give_back` afterwards."""
        grant = job._grant()
        if grant is not None:
            grant.refund()

    def _return_early(self, job: AnyJob) -> bool:
        """Put an admitted job back into its old place if it has to wait, such as at a gate, except a clean-up job."""
        grant = job._grant()
        if grant is None or self._behind is not None or not grant.must_wait():
            return False
        self._put_back(grant.entry)
        return True

    # ---- all ready jobs

    def in_order(self) -> list[AnyJob]:
        return [entry[2] for entry in self.places.entries()]

    def drain(self) -> list[AnyJob]:
        """Remove and return all jobs, in start order. They keep their slots and resources until `give_back`."""
        waiting: list[HeapEntry] = []
        if self.tokens is not None:
            waiting = self.tokens.drain()
        jobs = [*self.startable, *(entry[2] for entry in waiting), *self.in_order()]
        self.startable.clear()
        self.places.clear()
        return [job for job in jobs if job._state is SCHEDULED]

    def drop_settled(self) -> None:
        """Remove the jobs that were cancelled while they waited: those that may be ready again come last. O(n)."""
        _keep_scheduled(self.startable)
        self.places.drop_settled()

    def use_order(self, order: StartKeys, has_needs: bool) -> None:
        """Order all waiting jobs by these keys from now on. `has_needs` is whether any job needs resources."""
        self.order = order
        if self.tokens is not None:
            self.tokens.use_order()
        self._ordered_places(has_needs, is_new_order=True)

    def _ordered_places(
        self, has_needs: bool = False, is_new_order: bool = False
    ) -> OrderedPlaces:
        """Return the places, ordered from now on. In a new order, jobs keep their numbers and get new keys."""
        places = self.places
        if isinstance(places, OrderedPlaces) and not is_new_order:
            return places
        if places is NO_PLACES:
            entries = _numbered(self.startable)
            self.startable.clear()
        else:
            entries = places.entries()
            places.clear()
        if not isinstance(places, OrderedPlaces):
            self.places = places = OrderedPlaces(self)
        if has_needs and places.admission is None:
            places.use_admission()
            self.passes_on = True
        for _, number, job in entries:
            places.insert((self.key_of(job, number), number, job))
        return places

    def key_of(self, job: AnyJob, number: int) -> Any:
        """Return the key of a job that waits with a number. It is the lowest key for `throttled_numbers`."""
        if self.order is None or number < -sys.maxsize // 2:
            return LOWEST_KEY
        return self.order.key(job)


class Tokens:
    """The tokens of a limiter for all runs in an outermost run: the waiting runs, and returned tokens."""

    def __init__(self, backend: Backend, limiter: Any) -> None:
        self._backend: Final = backend
        self.limiter: Final = limiter
        if backend.try_acquire(limiter, self):
            # anyio needs a task at the first use, which may be in a callback.
            limiter.release_on_behalf_of(self)
        # The runs that have asked, in order, each as often as it has asked, or None for a job that waits no longer.
        self.tickets: Final[deque[list[RunTokens | None]]] = deque()
        # How many jobs wait, which is the number of valid tickets.
        self.waiting_count = 0
        # The borrowers of tokens that were given back, until these are passed on.
        self.unused: Final[list[object]] = []
        # The borrowers of the limiter, found with the first token.
        self._borrowers: set[object] | None = None
        # The worker that waits in the limiter's queue, or will, and its borrower, as soon as it waits.
        self.requester: Worker | None = None
        self.request: object = None
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
        """Serve tickets with the tokens that were given back. Return these if other tasks wait, or no job does.

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
            served.line.run.crew.spawn_searcher()

    def _acquire_free(self) -> bool:
        borrower = object()
        is_free = self._backend.try_acquire(self.limiter, borrower)
        if is_free:
            self.unused.append(borrower)
        return is_free

    def let_borrow(self, borrower: object, name: object) -> object:
        """Let `name` be the borrower of a token, in place of `borrower`, if possible. Return the borrower."""
        if self._borrowers is None:
            self._borrowers = borrowers_of(self.limiter, borrower)
        if self._borrowers is None or name in self._borrowers:
            return borrower
        # It lacks the borrower if the job's own code has released the token of its task.
        self._borrowers.discard(borrower)
        self._borrowers.add(name)
        return name

    def _do_others_wait(self) -> bool:
        """Return whether tasks other than our worker wait in the limiter's queue, or its total has shrunk."""
        # If tokens are available, no task waits. Reading the statistics would take five times as long.
        available: float = self.limiter.available_tokens
        if available != 0:
            return available < 0
        statistics = self.limiter.statistics()
        waiting: int = statistics.tasks_waiting
        if waiting != 1 or self.request is None:
            return waiting > 0
        # It was granted and has left the queue, so another request waits.
        return self.request in statistics.borrowers

    # ---- the request in the limiter's queue

    def update_request(self) -> None:
        """Keep a worker in the limiter's queue while jobs wait. Call this when the first waits, or any leaves."""
        if not self.waiting_count:
            self.tickets.clear()
            if self._request_scope is not None:
                self._request_scope.cancel()
        elif self.requester is None:
            run = self._first_run()
            home = run.outermost()
            if home.crew.is_closed:
                # Its forever jobs and clean-up jobs go on.
                home = run
            self.requester = home.crew.spawn(self)

    def _first_run(self) -> Run:
        first = next(tokens for (tokens,) in self.tickets if tokens is not None)
        return first.line.run

    async def do_errand(self) -> None:
        """Wait in the limiter's queue for tokens, one at a time, as long as any job waits."""
        worker: Any = self.requester
        while self.waiting_count and not worker.must_leave:
            if not await self._acquire(worker.run.standstill):
                return
            if self.waiting_count:
                # Also if other tasks wait: they have asked later.
                self._serve(None)
            while self.waiting_count and self._acquire_free():
                self._serve(None)
            self.pass_on(None)

    async def _acquire(self, standstill: Any) -> bool:
        """Wait for a token. Return False if no job waits any more, or the run of the worker was cancelled."""
        standstill.remove_active()
        borrower = self.request = object()
        try:
            with self._backend.create_scope() as self._request_scope:
                standstill.suspect(self._first_run())
                if await self._backend.acquire(self.limiter, borrower):
                    self.unused.append(borrower)
        finally:
            self.request = self._request_scope = None
            standstill.add_active()
        return borrower in self.unused

    def end_errand(self) -> None:
        self.requester = None
        # If the run of the worker has stopped, or jobs have asked while it left.
        self.update_request()


SECOND_TOKEN_TEXT: Final = "already holding one of this CapacityLimiter's tokens"
"""In the error of trio and anyio for a task that asks for a second token."""


TOKEN_REFERENCES: Final = 2


class RunTokens:
    """The jobs of a run that have a token of a limiter, or wait for a token."""

    def __init__(self, line: Line, limit: Tokens) -> None:
        # Deleted when the run has ended.
        self.line = line
        self.limit: Final = limit
        self.limiter: Final = limit.limiter
        # For each job that has a token, the object that is its borrower in the limiter.
        self.borrowers: Final[dict[AnyJob, object]] = {}
        # The jobs that wait for a token, with their entries. The heap has the same entries, and some obsolete entries.
        self.waiting: Final[dict[AnyJob, HeapEntry]] = {}
        self._heap: Final[list[HeapEntry]] = []
        # As many as jobs wait.
        self._tickets: Final[deque[list[RunTokens | None]]] = deque()
        # Whether all jobs wait until they ask again, in `ask_in_order`.
        self.is_held_back = False

    def ask(self, entry: HeapEntry) -> bool:
        """Return whether a job may start, because it needs no token or gets a token at once. If not, let it wait."""
        job = entry[2]
        limit = self.limit
        if not self.is_held_back:
            needs_token = job._is_plain or (
                takes_slot(job) and not is_scheduler(job) and job._own_limiter is None
            )
            if not needs_token:
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

    def begin(self, job: AnyJob, task: object) -> int:
        """Let the task of a job that begins be the borrower of its token, if it has one.

        Return how many references to the task there are until `give_back`: from here, and from the limiter.
        """
        if job not in self.borrowers:
            return 0
        borrower = self.limit.let_borrow(self.borrowers[job], task)
        self.borrowers[job] = borrower
        return TOKEN_REFERENCES if borrower is task else 0

    def give_back(self, job: AnyJob) -> None:
        """Take back the token of a job, for `pass_on`. If the job waits for a token, let it wait no longer."""
        if job in self.borrowers:
            # The task goes on with other jobs.
            borrower = self.limit.let_borrow(self.borrowers.pop(job), object())
            self.limit.unused.append(borrower)
        elif self.waiting.pop(job, None) is not None:
            self._tickets.pop()[0] = None  # its last one
            self.limit.waiting_count -= 1
            self.limit.update_request()

    def second_token_advice(self, job: AnyJob, error: BaseException) -> str | None:
        """Return advice if a job has failed because it has asked for a second token of its window, or None if not."""
        if job not in self.borrowers:
            return None
        if not matches_any(error, (RuntimeError, SECOND_TOKEN_TEXT)):
            return None
        run: Any = self.line.run
        while run.line.limiter is not self.limiter and run.outer_worker is not None:
            run = run.outer_worker.run
        return (
            f"{job.label!r} already has a token of this limiter, which is the window of {run.scheduler.label!r}: "
            f"leave `async with limiter` out of its body, or give jobs_window= a number"
        )

    def in_order(self) -> list[AnyJob]:
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

    def use_order(self) -> None:
        for job, (_, number, _) in self.waiting.items():
            self.waiting[job] = (self.line.key_of(job, number), number, job)
        self._heap[:] = sorted(self.waiting.values())


def borrowers_of(limiter: Any, borrower: object) -> set[object] | None:
    """Return the set in which a limiter of trio or anyio keeps its borrowers, one of which is `borrower`.

    Return None if the limiter has no such set: then a job that asks for a second token waits for it.
    """
    # https://github.com/agronholm/anyio/blob/4.16.0/src/anyio/_core/_synchronization.py#L655 creates that of the loop,
    # and https://github.com/agronholm/anyio/blob/4.16.0/src/anyio/_backends/_trio.py#L841 wraps that of trio.
    for name in ("_internal_limiter", "_CapacityLimiter__original"):
        limiter = getattr(limiter, name, limiter)
    borrowers: Any = getattr(limiter, "_borrowers", None)
    # Not narrowed to a set of unknown items.
    kind: Any = set
    return borrowers if isinstance(borrowers, kind) and borrower in borrowers else None


def ask_in_order(runs: Iterable[Run]) -> None:
    """Let the jobs of runs whose pause is over ask for tokens in the order that they became ready.

    As in a round of the admission, each run keeps its own order, and between runs a higher priority comes first.
    """
    lines = [run.line for run in runs]
    waiting = [line.tokens for line in lines if line.tokens is not None]
    for each in waiting:
        each.is_held_back = True
    for each in waiting:
        each.line.look()
    asking = [
        [(-one[2]._options.priority, one[1], one, each) for one in each.drain()]
        for each in waiting
    ]
    for each in waiting:
        each.is_held_back = False
    for *_, entry, each in heapq.merge(*asking):
        if each.ask(entry):
            each.line.startable.append(entry[2])
            each.line.run.crew.spawn_searcher()


def token_holder(workers: Iterable[Worker], limiter: object) -> AnyJob | None:
    """Return the first job of these workers that holds a token of `limiter`, or None if none does."""
    working = [worker for worker in workers if worker.job is not None]
    holders = {*token_holders((worker.run for worker in working), limiter)}
    return next((worker.job for worker in working if worker.job in holders), None)


def token_holders(runs: Iterable[Run], limiter: object) -> Iterator[AnyJob]:
    """Yield the jobs of these runs that hold a token of `limiter`, also those that have not begun. Any thread may ask.

    A running job may have the limiter itself, in place of the window's.
    """
    for run in runs:
        for worker in list(run.crew.alive):
            job = worker.job
            if job is not None and job._own_limiter is limiter:
                yield job
        if run.line.tokens is not None and run.line.tokens.limiter is limiter:
            yield from list(run.line.tokens.borrowers)
