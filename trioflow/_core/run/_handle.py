"""`RunHandle`: the interface of a run for user-defined kinds of jobs, in `trioflow.abc`.

```
run_of(job) ──► RunHandle: clock, waiting, waiting despite a cancellation, shared objects, incidents
                    └──► time_limit(job) ──► TimeLimit: deadline, signs of life, waiting until the deadline
```
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, final

from ..base._user_code import is_async
from ..job._errors import no_run_error
from ..job._function import name_of
from ._current import current_worker_var
from ._idle_timeouts import PROGRESS_NOUN, TimeLimit
from ._run import Run
from ._worker import Worker

if TYPE_CHECKING:
    import concurrent.futures

    from ..job._job import AbstractJob
    from ._journaling import OpenQuestion


V = TypeVar("V")
R = TypeVar("R")


def run_of(job: AbstractJob[Any]) -> RunHandle:
    """Return the handle of the run that runs `job`; call this in the job's `co_run`.

    Raises:
        RuntimeError: no run has called the job.

    """
    worker = current_worker_var.get(None)
    if worker is None:
        raise no_run_error(job)
    return RunHandle(worker.run)


@final
class RunHandle:
    """A job's interface to its run, the same on trio and asyncio."""

    __slots__ = ("_run", "clock")

    clock: Final[Callable[[], float]]
    """A function that returns the time in seconds, on the clock of the event loop, which may be virtual."""

    def __init__(self, run: Any) -> None:  # a `Run`, which is not public
        self._run: Final[Run] = run
        self.clock = run.clock

    def shared(self, make: Callable[[RunHandle], R]) -> R:
        """Return an object that all jobs of the run share, including jobs of nested schedulers.

        Args:
            make: a class, or a function that returns the object. The first call of `shared` with this `make` calls it
                with a handle of the outermost run; later calls in that run return the same object. When all jobs have
                been shut down, the outermost run awaits `close()` of all shared objects that have it, the last one
                first, within its `shutdown_timeout`.

        Raises:
            TypeError: the object has a `close()` that is not async.

        """
        run = self._run.outermost()
        if make not in run.shared:
            made: Any = make(RunHandle(run))
            if getattr(made, "close", None) is not None and not is_async(made.close):
                raise TypeError(
                    f"{name_of(make)} returned a {type(made).__qualname__} for the jobs to share, whose close() is not "
                    f"async: the run awaits it at its end; return an object with `async def close(self)`, or without "
                    f"close()"
                )
            run.shared[make] = made
        return cast(R, run.shared[make])

    def time_limit(
        self, job: AbstractJob[Any], missing: str = PROGRESS_NOUN, *, cancels: bool = False, counts: bool = True
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
        return TimeLimit(
            self._run,
            job,
            missing,
            timeout=job.timeout,
            idle_timeout=job.idle_timeout,
            cancels=cancels,
            counts=counts,
            enclosing=() if worker is None else tuple(worker.time_limits()),
        )

    def report(self, message: str, job: AbstractJob[Any] | None = None, exception: BaseException | None = None) -> None:
        """Report an incident that is not the outcome of a job, to the log, to `debrief()` and to instruments."""
        self._run.report(job, message, exception)

    def record_machine_wait(self, job: AbstractJob[Any], since: float, until: float | None = None) -> None:
        """Record, for traces, that a running job has waited for free capacity on its machine.

        Args:
            job: the job.
            since: the start of the wait, on the run's clock.
            until: the end of the wait; None for now.

        """
        extras = job._ensure_extras()
        extras.machine_waits += ((since, self.clock() if until is None else until),)

    def stores(self, job: AbstractJob[Any]) -> bool:
        """Return whether a journal will store the result of `job`. If so, this process needs the result."""
        return self._run.journal_writer is not None and job.save is not None

    def prefetch_result(self, path: str) -> Callable[[], None] | None:
        """Return what reads the large result that a journal has of the next job to be added; None if it has none.

        Whoever adds jobs whose results may have 100 MB calls it in a thread, just before.

        Args:
            path: the path of the job.

        """
        writer = self._run.journal_writer
        return None if writer is None else writer.journal.prefetch(path)

    def prepare_result(self, job: AbstractJob[Any], value: Any) -> None:
        """Have the journal, if there is one, write what is large in a result that `job` is about to return.

        A kind whose results may have 100 MB calls this in a thread: otherwise the event loop stands still meanwhile.

        Raises:
            JournalError: the journal cannot be written.

        """
        writer = self._run.journal_writer
        if writer is not None:
            writer.journal.prepare(job, value)

    def open_question(self, job: AbstractJob[Any], facts: Mapping[str, Any]) -> OpenQuestion | None:
        """Have the journal publish a question, which another process may answer; None if it cannot.

        There is no journal, or it will not record the job.

        Args:
            job: the job that asks.
            facts: the texts that describe the question: "question", "choices", and "parse".

        """
        writer = self._run.journal_writer
        return None if writer is None else writer.open_question(job, facts)

    # ---- waiting

    def wait_readable(self, descriptor: int, deadline: float = math.inf) -> Awaitable[bool]:
        """Wait until a descriptor is readable, or the clock reaches `deadline`; return whether it is readable.

        If the deadline has already passed, return False. Only one task at a time may wait for a descriptor.

        Raises:
            PermissionError: the descriptor refers to a regular file (only on Linux); poll it with `sleep_until`.

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
        stand_in = Worker(worker.workers)
        stand_in.job = worker.job
        return partial(current_worker_var.set, stand_in)

    async def take_token(self, limiter: Any, job: AbstractJob[Any], call: concurrent.futures.Future[Any]) -> None:
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
        call_in_loop, give_back = backend.threadsafe_caller(), partial(limiter.release_on_behalf_of, call)
        call.add_done_callback(lambda _: call_in_loop(give_back))
