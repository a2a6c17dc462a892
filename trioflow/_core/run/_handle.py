"""The interface of a run for user-defined kinds of jobs, in `trioflow.abc`: its handle, time limits, and events.

```
run_of(job) ──► RunHandle: clock, waiting, waiting despite a cancellation, shared objects, incidents
                    └──► time_limit(job) ──► TimeLimit: deadline, signs of life, waiting until the deadline
```

The run itself limits the calls of other kinds in the same way. An `idle_timeout` ends a call that shows no sign of life
for too long. For a job, a sign of life is reported progress, or output of its command. For a scheduler, it is any event
of one of its jobs. Each sign of life postpones the deadline of the call:

```
call begins ──► deadline: after idle_timeout, or at the end of the timeout ──► passed: the call ends with a JobTimeout
                   ▲ sign of life: the idle_timeout restarts
```

While a job blocks the event loop, or the program is suspended, signs of life of other jobs cannot be received. So a
call is ended only some turns of the loop after its deadline. In these turns, earlier signs of life can still arrive.

A job without an `idle_timeout` needs no timer.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Awaitable, Callable, Generator, Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, cast, final

from ..backend import current_backend
from ..base import _logger, _user_code
from ..base._states import WaitCause
from ..job import _errors
from ..job._function import name_of
from ._current import current_worker_var

if TYPE_CHECKING:
    import concurrent.futures

    from ..backend import Scope
    from ..job._job import AbstractJob, RunExtras
    from ._journaling import OpenQuestion
    from ._run import Run

PROGRESS_NOUN: Final = "progress"
JOB_EVENTS_NOUN: Final = "progress of its jobs"

GRACE_TURNS: Final = 4
"""The number of turns of the loop between a deadline and the end of the call. A report from a thread arrives after one
turn, and a message from a process after two. The output of a command on another machine passes through one or two more
tasks."""
TIMER_TOLERANCE: Final = 0.001
"""How early a timer may fire, in seconds. A timer of asyncio may be early by the resolution of its clock."""


@final
class ThreadEvent:
    """A one-time event that any thread can set. Tasks of a single event loop can wait for it."""

    __slots__ = ("_backend", "_call_in_loop", "_event")

    def __init__(self) -> None:
        """Create an event for the running event loop."""
        self._backend: Final = current_backend()
        self._event: Final = self._backend.create_event()
        self._call_in_loop: Final = self._backend.threadsafe_caller()

    def set(self) -> None:
        """Wake all waiting tasks. Later waits return immediately."""
        self._call_in_loop(self._event.set)

    async def wait(self, deadline: float = math.inf) -> bool:
        """Wait until the event is set, or the loop's clock reaches `deadline`. Return whether the event is set."""
        with self._backend.create_scope(deadline):
            await self._event.wait()
        return self._event.is_set()

    async def outlast(self) -> None:
        """Wait until the event is set, even if the task is cancelled."""
        await self._backend.outlast(self._event.wait)


@final
class TimeLimit:
    """The time limit of a call of a job: its `timeout`, and its `idle_timeout`, which each sign of life restarts.

    In the body of `with limit:`, calls of the job's `progress()` count as signs of life.
    """

    end: float
    """The time when the job's `timeout` expires, or infinity if it has none. Signs of life do not change this."""
    # The scope around the body of `with limit:`, which is cancelled at the deadline.
    _scope: Scope | None = None
    # The extras in which `Worker.time_limits` finds the limit, and a service that becomes ready. None if neither needs
    # it, or if the run did not call this job itself.
    _extras: RunExtras | None = None
    _has_fired = False
    # How many turns of the loop have begun since the deadline passed.
    _turns_after_deadline = 0
    _stop_timer: Callable[[], None] | None = None
    # The last deadline that had passed when `wait_readable` still found data.
    _late_deadline = math.inf

    def __init__(
        self,
        # A `Run`, which is not public.
        run: Any,
        job: AbstractJob[Any],
        missing: str = PROGRESS_NOUN,
        *,
        timeout: float | None,
        idle_timeout: float | None,
        cancels: bool = False,
        end_call: Callable[[], object] | None = None,
        counts: bool = True,
        enclosing: tuple[TimeLimit, ...] = (),
    ) -> None:
        """Start the limit. User-defined kinds of jobs call `RunHandle.time_limit` instead.

        Args:
            run: the run that makes the call.
            job: the job.
            missing: a noun for the job's signs of life, for the error.
            timeout: the maximum duration of the whole call, in seconds, or None for no limit.
            idle_timeout: the maximum time without a sign of life, in seconds, or None for no limit.
            cancels: whether the body of `with limit:` is cancelled at the deadline.
            end_call: if not, called once, when the `idle_timeout` has expired. The caller enforces the `timeout`.
            counts: whether the `idle_timeout` counts from now on, not only in the body of `with limit.counting():`.
            enclosing: the limits of the enclosing jobs and schedulers, which signs of life postpone, too.

        """
        now = run.clock()
        self._run: Final[Run] = run
        self._job: Final = job
        self._missing: Final = missing
        self._timeout: Final = timeout
        self._idle_timeout: Final = math.inf if idle_timeout is None else idle_timeout
        self.end = math.inf if timeout is None else now + timeout
        self._end_call: Any = end_call
        if cancels and (timeout is not None or idle_timeout is not None):
            self._scope = scope = run.backend.isolation.create_call_scope(
                current_worker_var.get(None), self.end
            )
            self._end_call = scope.cancel
        is_called_by_run = job._worker is not None or job is run.scheduler
        if is_called_by_run and (idle_timeout is not None or job._is_service):
            self._extras = job._ensure_extras()
        self._enclosing: Final = enclosing
        # The time of the latest sign of life, or infinity while the `idle_timeout` does not count.
        self._last_sign = now if counts else math.inf

    @property
    def deadline(self) -> float:
        """The time on the run's clock when the call ends without another sign of life. Infinity is no limit."""
        return min(self.end, self._last_sign + self._idle_timeout)

    @property
    def is_over(self) -> bool:
        """Whether the deadline has passed."""
        return self._run.clock() >= self.deadline - TIMER_TOLERANCE

    @property
    def needs_signs(self) -> bool:
        """Whether the job or an enclosing job or scheduler has an `idle_timeout`. If not, `heartbeat` has no effect."""
        return bool(self._enclosing) or self._idle_timeout < math.inf

    def heartbeat(self) -> None:
        """Record a sign of life, for this limit and the limits of the enclosing jobs and schedulers."""
        self._renew()
        for limit in self._enclosing:
            limit._renew()

    def _renew(self) -> None:
        """Record a sign of life for this limit only."""
        if self._last_sign < math.inf:
            self._restart(self._run.clock())

    @contextlib.contextmanager
    def counting(self) -> Generator[None]:
        """Return a context manager: in its body, the `idle_timeout` counts, even with `counts=False`."""
        self._restart(self._run.clock())
        try:
            yield
        finally:
            if self._end_call is not None or self._run.clock() < self.deadline:
                self._restart(math.inf)

    def _restart(self, last: float) -> None:
        if not self._has_fired:
            self._last_sign = last
            self._turns_after_deadline = 0
            self._set_timer()

    def _set_timer(self) -> None:
        """Set a timer for the `idle_timeout`, unless it is set already.

        A timer that is set is not moved at each sign of life, because these are frequent: `_check` sets another.
        """
        due = self._last_sign + self._idle_timeout
        if self._end_call is not None and self._stop_timer is None and due < self.end:
            self._stop_timer = self._run.call_at(due, self._check)

    def _check(self) -> None:
        """End the call if its `idle_timeout` has expired and the loop has turned `GRACE_TURNS` times since then."""
        self._stop_timer = None
        if self._last_sign + self._idle_timeout > self._run.clock():
            self._set_timer()
        elif self._turns_after_deadline < GRACE_TURNS:
            self._turns_after_deadline += 1
            self._stop_timer = self._run.call_at(self._run.clock(), self._check)
        else:
            self._has_fired = True
            worker = self._job._worker
            if worker is not None:
                worker.must_leave = True
                self._run.stuck_jobs.watch(worker, self._run.clock())
            self._end_call()

    def error(self) -> _errors.JobTimeout:
        """Return the `JobTimeout` to raise after the deadline. It names the timeout that has expired.

        Raises:
            RuntimeError: the deadline has not passed.

        """
        if self.is_over:
            return self._error_at_end()
        remaining = self.deadline - self._run.clock()
        state = "no deadline, because no timeout is in effect"
        if remaining < math.inf:
            state = f"{remaining:g} s left"
        raise RuntimeError(
            f"error() of the time limit of {self._job.label!r}, which has {state}: call it when `is_over`"
        )

    def _error_at_end(
        self, traceback: TracebackType | None = None
    ) -> _errors.JobTimeout:
        """Return the exception for the timeout that expired. `traceback` shows where the job was interrupted."""
        place = _user_code.innermost_line(traceback)
        if self.end <= self._last_sign + self._idle_timeout:
            assert self._timeout is not None
            return _errors.JobTimeout(self._job, self._timeout, place=place)
        return _errors.JobTimeout(self._job, self._idle_timeout, self._missing, place)

    async def wait_readable(self, descriptor: int) -> bool:
        """Wait until a descriptor is readable. Return False if the deadline passes first."""
        wait = self._run.backend.wait_readable
        if await self._wait_in_time(partial(wait, descriptor)):
            return True
        if self._late_deadline == self.deadline or self.deadline == self.end:
            return False
        # The data may have arrived before the deadline, while the loop was blocked.
        self._late_deadline = self.deadline
        return await wait(descriptor, self._run.clock() + TIMER_TOLERANCE)

    async def wait(self, event: ThreadEvent) -> bool:
        """Wait until an event is set. Return False if the deadline passes first."""
        return await self._wait_in_time(event.wait)

    async def _wait_in_time(self, wait: Callable[[float], Awaitable[bool]]) -> bool:
        while True:
            until = self.deadline
            if await wait(until):
                return True
            turns = GRACE_TURNS if self.deadline < self.end else 0
            for _ in range(turns):
                await self._run.backend.checkpoint()
            if self.deadline <= until:
                return False

    def _lift(self) -> None:
        """Stop the limit, because the service of this call is ready."""
        self._stop()
        if self._scope is not None:
            self._scope.deadline = math.inf
        worker = self._job._worker
        if worker is not None and worker.cause is None:
            self._run.stuck_jobs.forget(worker)

    def _stop(self) -> None:
        if self._stop_timer is not None:
            self._stop_timer()
            self._stop_timer = None
        if self._extras is not None and self._extras.time_limit is self:
            self._extras.time_limit = None

    def __enter__(self) -> Self:
        """Start the timer, and count calls of the job's `progress()` as signs of life."""
        if self._scope is not None:
            self._scope.__enter__()
            job = self._job
            run = self._run
            if self.end < math.inf and job._worker is not None:
                if job._keeps_time and job._cannot_be_interrupted:
                    run.stuck_jobs.watch_deadline(job._worker, run.clock(), self.end)
        if self._idle_timeout < math.inf:
            self._set_timer()
        if self._extras is not None:
            self._extras.time_limit = self
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the limit. If it has cancelled the body of the `with` statement, raise a `JobTimeout`."""
        self._stop()
        scope = self._scope
        if scope is None or not scope.__exit__(kind, error, traceback):
            return
        if error is not None:
            timeout = self._error_at_end(traceback)
            try:
                raise timeout
            finally:
                # The cancellation, which must not be stored.
                timeout.__context__ = None


V = TypeVar("V")
R = TypeVar("R")


def run_of(job: AbstractJob[Any]) -> RunHandle:
    """Return the handle of the run that runs `job`. Call this in the job's `co_run`.

    Raises:
        RuntimeError: no run has called the job.

    """
    if (worker := current_worker_var.get(None)) is None:
        raise _errors.no_run_error(job)
    return RunHandle(worker.run)


@final
class RunHandle:
    """A job's interface to its run, the same on trio and asyncio."""

    __slots__ = ("_run", "clock")

    clock: Final[Callable[[], float]]
    """A function that returns the time in seconds, on the clock of the event loop, which may be virtual."""

    # A `Run`, which is not public.
    def __init__(self, run: Any) -> None:
        self._run: Final[Run] = run
        self.clock = run.clock

    def shared(self, make: Callable[[RunHandle], R]) -> R:
        """Return an object that all jobs of the run share, including jobs of nested schedulers.

        Args:
            make: a class, or a function that returns the object. The first call of `shared` with this `make` calls it
                with a handle of the outermost run. Later calls in that run return the same object. When all jobs have
                been shut down, the outermost run awaits `close()` of all shared objects that have it, the last first,
                within its `shutdown_timeout`.

        Raises:
            TypeError: the object has a `close()` that is not async.

        """
        run = self._run.outermost()
        if make not in run.shared:
            made: Any = make(RunHandle(run))
            close = getattr(made, "close", None)
            if close is not None and not _user_code.is_async(close):
                raise TypeError(
                    f"{name_of(make)} returned a {type(made).__qualname__} for the jobs to share, whose close() is not "
                    f"async: the run awaits it at its end; return an object with `async def close(self)`, or without "
                    f"close()"
                )
            run.shared[make] = made
        return cast(R, run.shared[make])

    def time_limit(
        self,
        job: AbstractJob[Any],
        missing: str = PROGRESS_NOUN,
        *,
        cancels: bool = False,
        counts: bool = True,
    ) -> TimeLimit:
        """Start and return the time limit for the current call of a job. This is for kinds with `keeps_time=True`.

        Args:
            job: the job.
            missing: a noun for the job's signs of life, for the error after an `idle_timeout`.
            cancels: whether the body of `with limit:` is cancelled at the deadline, so that the `with` statement raises
                `JobTimeout`. If not, the job must check the deadline itself, or wait with the methods of the limit.
            counts: whether the `idle_timeout` counts from now on, not only in the body of `with limit.counting():`.

        """
        worker = current_worker_var.get(None)
        enclosing: tuple[TimeLimit, ...] = ()
        if worker is not None:
            enclosing = tuple(worker.time_limits())
        return TimeLimit(
            self._run,
            job,
            missing,
            timeout=job.timeout,
            idle_timeout=job.idle_timeout,
            cancels=cancels,
            counts=counts,
            enclosing=enclosing,
        )

    def report(
        self,
        message: str,
        job: AbstractJob[Any] | None = None,
        exception: BaseException | None = None,
        *,
        is_steering: bool = False,
    ) -> None:
        """Report an incident that is not the outcome of a job, to the log, to `debrief()` and to instruments.

        Args:
            message: what has happened.
            job: the job that it concerns, or None.
            exception: its cause, or None.
            is_steering: whether it is a word from outside, so that nothing went wrong.

        """
        self._run.report(job, message, exception, is_steering=is_steering)

    def log_question(self, message: str) -> None:
        """Log the question of a job, and how to answer it. A question is no incident."""
        needs = self._run.scheduler._needs_to_look()
        _logger.warn(message + needs, about="question")

    def record_machine_wait(
        self, job: AbstractJob[Any], since: float, until: float | None = None
    ) -> None:
        """Record, for traces, that a running job has waited for free capacity on its machine.

        Args:
            job: the job.
            since: the start of the wait, on the run's clock.
            until: the end of the wait, or None for now.

        """
        if until is None:
            until = self.clock()
        job._ensure_extras().inner_waits += ((WaitCause.MACHINE, since, until),)

    def record_loading(self, job: AbstractJob[Any], since: float) -> None:
        """Record, for traces, that a running job has waited until now for its code to be imported."""
        wait = (WaitCause.LOADING, since, self.clock())
        job._ensure_extras().inner_waits += (wait,)

    def stores(self, job: AbstractJob[Any]) -> bool:
        """Return whether a journal will store the result of `job`. If so, this process needs the result."""
        return self._run.journal_writer is not None and job.save is not None

    def prefetch_result(self, path: str) -> Callable[[], None] | None:
        """Return a function that reads a journal's large result of the next job to be added, or None.

        Code that adds jobs with results of up to 100 MB calls this in a thread, just before.

        Args:
            path: the path of the job.

        """
        writer = self._run.journal_writer
        if writer is None:
            return None
        return writer.journal.prefetch(path)

    def prepare_result(self, job: AbstractJob[Any], value: object) -> None:
        """Have the journal, if there is any, write the large parts of a result that `job` is about to return.

        A kind whose results may have 100 MB calls this in a thread: otherwise the event loop stands still meanwhile.

        Raises:
            JournalError: the journal cannot be written.

        """
        if (writer := self._run.journal_writer) is not None:
            writer.journal.prepare(job, value)

    def lower_total(self, job: AbstractJob[Any], name: str, total: int) -> bool:
        """Give a resource of the run a lower total, because there is less of it than was declared.

        Return whether the job has taken of it. Only then it is lowered, and the job may raise `Throttled` with the
        name, to wait for it again.

        Args:
            job: the job.
            name: the name passed to `declare_run_resource`.
            total: the new total.

        """
        return self._run.pools.lower_total(job, name, total)

    def open_question(
        self, job: AbstractJob[Any], facts: Mapping[str, Any]
    ) -> OpenQuestion | None:
        """Have the journal publish a question, which another process may answer. Return None if it cannot.

        It cannot if there is no journal, or if the journal will not record the job. The run does not wait for the job
        if nothing can use the answer any more. Call `close_question` when the job waits no more.

        Args:
            job: the job that asks.
            facts: the texts that describe the question: "question", "choices", and "parse".

        """
        run = self._run
        writer = run.journal_writer
        published = None
        if writer is not None:
            published = writer.open_question(job, facts)
        run.questions.asking[job] = run
        # Perhaps nothing can use the answer from the first.
        run.wake()
        return published

    def close_question(self, job: AbstractJob[Any]) -> None:
        """Record that a job waits for no answer any more."""
        self._run.questions.close(job)

    # ---- waiting

    def wait_readable(
        self, descriptor: int, deadline: float = math.inf
    ) -> Awaitable[bool]:
        """Wait until a descriptor is readable, or the clock reaches `deadline`. Return whether it is readable.

        If the deadline has already passed, return False. Only one task at a time may wait for a descriptor.

        Raises:
            PermissionError: the descriptor refers to a regular file (only on Linux). Poll it with `sleep_until`.

        """
        return self._run.backend.wait_readable(descriptor, deadline)

    def sleep_until(self, when: float) -> Awaitable[None]:
        """Wait until the clock reaches `when`."""
        return self._run.backend.sleep_until(when)

    def outlast(self, wait: Callable[[], Awaitable[V]]) -> Awaitable[V]:
        """Await `wait()` to its end, even if the task is cancelled, and return its result.

        Use this for work that must not be interrupted. A cancellation takes effect afterwards.

        Args:
            wait: an async function. If a native `asyncio.Task.cancel()` interrupts it, it is called again, and must
                then resume its work.

        """
        return self._run.backend.outlast(wait)

    # ---- threads

    def keep_current_job(self) -> Callable[[], object]:
        """Return a function that sets `current_job()` in another thread to the job that is current now.

        Otherwise, in a thread that outlives its job, `current_job()` might return the next job of the same worker.
        """
        worker = current_worker_var.get()
        stand_in = type(worker)(worker.crew)
        stand_in.job = worker.job
        return partial(current_worker_var.set, stand_in)

    async def take_token(
        self, limiter: Any, job: AbstractJob[Any], call: concurrent.futures.Future[Any]
    ) -> None:
        """Wait for a token of a limiter, which is given back when a call in a thread has ended.

        Args:
            limiter: the user-supplied `CapacityLimiter` of `job`.
            job: the job, for the error.
            call: ends with the call.

        Raises:
            TypeError: `limiter` is not a limiter, or belongs to another backend.

        """
        backend = self._run.backend
        if backend.limiter_problem(limiter) is not None:
            raise TypeError(
                f"limiter={limiter!r} of {job.label!r} cannot be used on {backend.name}: "
                f"give a CapacityLimiter of anyio that was created in this run, or, on trio, one of trio"
            )
        await limiter.acquire_on_behalf_of(call)
        call_in_loop = backend.threadsafe_caller()
        release = partial(limiter.release_on_behalf_of, call)

        def give_back(_: object) -> None:
            if threading.get_ident() == self._run.thread_id:
                # It was cancelled before it began: its job must not end with the token.
                release()
            else:
                call_in_loop(release)

        call.add_done_callback(give_back)
