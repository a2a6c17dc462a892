"""Progress, and jobs that show no sign of life for longer than their `idle_timeout`.

A sign of life is progress that a job reports, or output of its command; for a scheduler, any event of one of its jobs.
Each puts off the end of the call, up to the end that a timeout sets:

```
call begins ──► the end is due after idle_timeout, or timeout ──► it comes: as after any timeout, with the error below
                   ▲ sign of life: due after idle_timeout again
```

While a job holds the loop, or the whole program stands still, signs of others are not received. So at the deadline,
signs that came before it are looked for once more.

Jobs without an `idle_timeout` set no timer here.
"""

from __future__ import annotations

import contextlib
import math
import selectors
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, final

from ..backend import current as current_backend
from ..job import _errors
from ._instruments import Instrument

if TYPE_CHECKING:
    from ..backend import Backend, Scope
    from ..job._job import AbstractJob
    from ._run import Run

PROGRESS: Final = "progress"
OF_JOBS: Final = "progress of its jobs"

GRACE_TURNS: Final = 4
"""The turns of the loop after a deadline before it counts.

A report of a thread arrives in one turn, a message of a process in two; the output of a node passes one or two tasks
more.
"""


TIMER_TOLERANCE: Final = 0.001
"""Seconds by which the timer of an event loop may be early: asyncio's may be a tick of its clock early."""

SELECTOR: Final[type[selectors.BaseSelector]] = getattr(selectors, "PollSelector", selectors.SelectSelector)
"""poll() where there is one, because select() takes no descriptor above 1,023."""


def is_readable(descriptor: int) -> bool:
    """Return whether a descriptor is readable now."""
    with SELECTOR() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        return bool(selector.select(0))


@final
class ThreadEvent:
    """A one-time event that any thread may set, and that tasks of the loop in which it was made can wait for."""

    __slots__ = ("_backend", "_call", "_event")

    def __init__(self) -> None:
        """Make one in an async function."""
        self._backend: Final = current_backend()
        self._event: Final = self._backend.event()
        self._call: Final = self._backend.threadsafe_caller()

    def set(self) -> None:
        """Wake all waiting tasks; later waits return immediately."""
        self._call(self._event.set)

    async def wait(self, deadline: float = math.inf) -> bool:
        """Wait until it is set, or the loop's clock shows `deadline`; return whether it is set."""
        if deadline == math.inf:
            await self._event.wait()
        else:
            with self._backend.scope(deadline):
                await self._event.wait()
        return self._event.is_set()

    async def outlast(self) -> None:
        """Wait until the event is set, even if the task is cancelled."""
        await self._backend.outlast(self._event.wait)


@final
class TimeLimit:
    """The time that one call of a job has: its `timeout`, and its `idle_timeout`, which signs of life put off.

    It is a context manager: inside, it receives signs of life, including calls of `progress()`.
    """

    __slots__ = (
        "_around", "_clock", "_end_call", "_facts", "_is_over", "_job", "_last", "_late", "_missing", "_run", "_scope",
        "_seconds", "_stop_timer", "_timeout", "_turns", "end",
    )  # fmt: skip

    end: float
    """The end of the job's `timeout`, despite signs of life; or infinity."""

    def __init__(
        self,
        run: Any,  # a `Run`, which is not public
        job: AbstractJob[Any],
        missing: str = PROGRESS,
        *,
        timeout: float | None,
        idle_timeout: float | None,
        end_call: Callable[[], object] | None = None,
        cancels: bool = False,
        counts: bool = True,
        around: tuple[TimeLimit, ...] = (),
    ) -> None:
        """Begin to count; `RunHandle.time_limit` makes one for a kind of job.

        Args:
            run: the run that the call is in.
            job: the job.
            missing: the missing sign of life, for the error.
            timeout: seconds for the whole call, from now; None for no limit.
            idle_timeout: seconds without a sign of life; None for no limit.
            end_call: called once, when the call has to end for lack of a sign of life; the caller keeps the timeout.
            cancels: whether the block is cancelled at the deadline.
            counts: whether the `idle_timeout` counts from now on; otherwise only while it is `counting`.
            around: the limits of enclosing schedulers and jobs, which receive the signs of life too.

        """
        now = run.clock()
        self._run: Final[Run] = run
        self._clock: Final[Callable[[], float]] = run.clock
        self._job: Final = job
        self._missing: Final = missing
        self._timeout: Final = timeout
        self._seconds: Final = math.inf if idle_timeout is None else idle_timeout
        self.end = math.inf if timeout is None else now + timeout
        is_limited = timeout is not None or idle_timeout is not None
        self._scope: Final[Scope | None] = run.backend.scope(self.end) if cancels and is_limited else None
        self._end_call: Final = end_call if self._scope is None else self._scope.cancel
        # Where `progress()` finds it, unless another job has called this one.
        self._facts: Final = job._extras() if idle_timeout is not None and job._worker is not None else None
        self._around: Final = around
        self._last = now if counts else math.inf  # the latest sign of life; infinity while it does not count
        self._is_over = False
        self._turns = 0
        self._stop_timer: Callable[[], None] | None = None
        self._late = math.inf  # a deadline after which something was readable

    @property
    def deadline(self) -> float:
        """The time at which the limit is over without a sign of life: on the run's clock, or infinity."""
        return min(self.end, self._last + self._seconds)

    @property
    def is_over(self) -> bool:
        """Whether the deadline has come."""
        return self._clock() >= self.deadline - TIMER_TOLERANCE

    @property
    def needs_signs(self) -> bool:
        """Whether the job, or an enclosing one, has an `idle_timeout`: otherwise signs of life are not needed."""
        return bool(self._around) or self._seconds < math.inf

    def alive(self) -> None:
        """Give a sign of life: to this limit, and to the limits of the enclosing schedulers."""
        self._renew()
        for limit in self._around:
            limit._renew()

    def _renew(self) -> None:
        """Record a sign of life, for only this limit."""
        if self._last < math.inf:
            self._set(self._clock())

    @contextlib.contextmanager
    def counting(self) -> Generator[None]:
        """Return a block in which the `idle_timeout` counts, if the limit was made with `counts=False`."""
        self._set(self._clock())
        try:
            yield
        finally:
            if self._end_call is not None or self._clock() < self.deadline:
                self._set(math.inf)

    def _set(self, last: float) -> None:
        if not self._is_over:
            self._last, self._turns = last, 0
            self._set_timer()

    def _set_timer(self) -> None:
        """Schedule a call of `_check` at the deadline, or before, if needed: signs of life are frequent."""
        due = self._last + self._seconds
        if self._end_call is not None and self._stop_timer is None and due < self.end:
            self._stop_timer = self._run.group.call_at(due, self._check)

    def _check(self) -> None:
        """End the call if its deadline has passed, and the loop has turned since then."""
        self._stop_timer = None
        if self._last + self._seconds > self._clock():
            self._set_timer()
        elif self._turns < GRACE_TURNS:
            self._turns += 1
            self._stop_timer = self._run.group.call_at(self._clock(), self._check)
        else:
            self._is_over = True
            assert self._end_call is not None
            self._end_call()

    def error(self) -> _errors.JobTimeout:
        """Return the exception to raise at the deadline, which names the timeout that is over.

        Raises:
            RuntimeError: the deadline has not passed.

        """
        if self.is_over:
            return self._error_at_end()
        left = self.deadline - self._clock()
        found = (
            f"{left:g} s left" if left < math.inf else "no deadline without timeout=, or an idle_timeout= that counts"
        )
        raise RuntimeError(
            f"error() of the time limit of {self._job.label!r}, which has {found}: call it when `is_over`"
        )

    def _error_at_end(self, place: str | None = None) -> _errors.JobTimeout:
        """Return the exception after the end: it names the timeout that is over, and the place of the job."""
        if not self._is_over and self.end <= self._last + self._seconds:
            assert self._timeout is not None
            return _errors.JobTimeout(self._job, self._timeout, place=place)
        return _errors.JobTimeout(self._job, self._seconds, self._missing, place)

    async def wait_readable(self, descriptor: int) -> bool:
        """Wait until a descriptor is readable; return False if the deadline passes before."""
        if await self._in_time(partial(self._run.backend.wait_readable, descriptor)):
            return True
        if self._late == self.deadline or self.deadline == self.end or not is_readable(descriptor):
            return False
        self._late = self.deadline  # the data may be a sign of life that the loop could not wait for
        return True

    async def wait(self, event: ThreadEvent) -> bool:
        """Wait until an event is set; return False if the deadline passes before."""
        return await self._in_time(event.wait)

    async def _in_time(self, wait: Callable[[float], Awaitable[bool]]) -> bool:
        while True:
            until = self.deadline
            if await wait(until):
                return True
            for _ in range(GRACE_TURNS if self.deadline < self.end else 0):
                await self._run.backend.checkpoint()
            if self.deadline <= until:
                return False

    def _stop(self) -> None:
        """Stop receiving signs of life, and do not end the call any longer."""
        if self._stop_timer is not None:
            self._stop_timer()
            self._stop_timer = None
        if self._facts is not None and self._facts.watch is self:
            self._facts.watch = None

    def __enter__(self) -> Self:
        """Start receiving signs of life."""
        if self._scope is not None:
            self._scope.__enter__()
        self._set_timer()
        if self._facts is not None:
            self._facts.watch = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop receiving signs of life; raise the `JobTimeout` if the block was cancelled by it."""
        self._stop()
        if self._scope is not None and self._scope.__exit__(kind, error, traceback) and error is not None:
            timeout = self._error_at_end()
            try:
                raise timeout
            finally:
                timeout.__context__ = None  # the cancellation, which must not be kept


class IdleInstrument(Instrument):
    """The limit of a run whose scheduler has an `idle_timeout`: each event of its jobs, at any depth, renews it."""

    def __init__(self, run: Run, seconds: float) -> None:
        """Begin without a limit."""
        self._run, self._seconds = run, seconds
        self.limit: TimeLimit | None = None

    def begin(self) -> None:
        """Start the limit."""
        run, seconds = self._run, self._seconds
        limit = TimeLimit(
            run, run.scheduler, OF_JOBS, timeout=None, idle_timeout=seconds, end_call=run.stop_because_idle
        )
        self.limit = limit.__enter__()

    def end(self) -> None:
        """Stop the limit."""
        if self.limit is not None:
            self.limit._stop()
            self.limit = None
        del self._run

    def _note(self, scheduler: Any, job: AbstractJob[Any]) -> None:
        if self.limit is not None:
            self.limit._renew()

    job_added = job_scheduled = job_attempt = job_ready = job_finished = _note


class ThreadReports:
    """Progress that jobs have reported in other threads, until the thread of the run receives it.

    A run is woken once for many reports of a thread, and takes the latest value.
    """

    __slots__ = ("_call", "_is_due", "_waiting")

    def __init__(self, backend: Backend) -> None:
        self._call: Final = backend.threadsafe_caller()
        self._waiting: Final[dict[AbstractJob[Any], float | None]] = {}
        self._is_due = False

    def add(self, job: AbstractJob[Any], fraction: float | None) -> None:
        """Keep a job's report; called in the job's thread."""
        self._waiting[job] = self._waiting.get(job) if fraction is None else fraction
        if not self._is_due:
            self._is_due = True
            self._call(self._deliver)

    def _deliver(self) -> None:
        self._is_due = False  # first: later reports are due again
        while self._waiting:
            job, fraction = self._waiting.popitem()
            if job._worker is not None:  # it has not settled since
                job._worker.run.note_progress(job, fraction)
