"""What a kind of job asks of the engine and of its run; `trioflow.abc` passes it on to users.

```
run_of(job) ──► RunHandle ──► clock, waiting, outlasting a cancellation, what the run's jobs share, the log
                    └──► time_limit(job) ──► TimeLimit: until when, signs of life, waiting no longer than that
```
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Awaitable, Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, final

from ..backend import BackendName, loop_running
from ..backend import by_name as backend_by_name
from ..backend import current as current_backend
from ..base._graph import topological_order
from ..base._states import JobState
from ..job._call import Search, as_given
from ..job._errors import JobCancelled, JobTimeout, TrioflowError
from ..job._function import FunctionJob, Job, name_of
from ..job._job import RAISE, AbstractJob, AnyJob, D, Look, T
from ..job._labels import DEPTH, of_job_inside, printable, without_middle
from ..job._options import JobOptions, duration, whole
from ..job._outcome import Failure
from ..job._work import Hidden, Work
from ..run._attempts import as_often
from ..run._current import current
from ..run._idle import PROGRESS, Watch
from ..run._observers import Instrument
from ..run._shared_resources import SharedResource
from ..run._worker import Worker
from ..scheduler._scheduler import BaseScheduler

if TYPE_CHECKING:
    from ..backend import Backend, Scope
    from ..job._options import Retry as Retry
    from ..run._run import Run

__all__ = (
    "DEPTH",
    "RAISE",
    "AbstractJob",
    "AnyJob",
    "BackendName",
    "BaseScheduler",
    "D",
    "Failure",
    "FunctionJob",
    "Hidden",
    "Instrument",
    "Job",
    "JobCancelled",
    "JobOptions",
    "JobState",
    "JobTimeout",
    "Look",
    "RunHandle",
    "Search",
    "SharedResource",
    "T",
    "ThreadEvent",
    "TimeLimit",
    "TrioflowError",
    "Work",
    "as_given",
    "as_often",
    "backend_by_name",
    "call_of",
    "current_backend",
    "duration",
    "loop_running",
    "name_of",
    "of_job_inside",
    "printable",
    "run_of",
    "topological_order",
    "whole",
    "without_middle",
)

V = TypeVar("V")
R = TypeVar("R", bound=SharedResource)


def run_of(job: AbstractJob[Any]) -> RunHandle:
    """Return what `job` may ask of the run that has called it; to be called in its `co_run`.

    Raises:
        RuntimeError: no run has called it.

    """
    worker = current.get(None)
    if worker is None:
        raise RuntimeError(f"{job.label!r} needs a run: put it into a Scheduler, and run that")
    return RunHandle(worker.run)


def call_of(job: FunctionJob[T]) -> partial[T]:
    """Return the call that a job makes, with results in place of jobs; to be called in its `co_run`, once.

    Results that no other job needs are dropped, if they are not to be kept.
    """
    return job._filled()


@final
class RunHandle:
    """A run, as far as its jobs have to do with it. It does the same on trio and on asyncio."""

    __slots__ = ("_backend", "_run", "clock")

    clock: Final[Callable[[], float]]
    """Returns the time of the run in seconds: that of the event loop, which may be virtual."""

    def __init__(self, run: Run) -> None:
        self._run: Final = run
        self._backend: Final = run.backend
        self.clock = run.clock

    def shared(self, make: Callable[[RunHandle], R]) -> R:
        """Return what all jobs of the run share, those of nested schedulers included.

        Args:
            make: a class or a function. It is called once in a run, with a handle on the outermost one. What it has
                made is closed, by `await made.close()`, when all jobs have been shut down: what was made last first,
                shielded, and all of it within the `shutdown_timeout` of the outermost scheduler.

        """
        return self._run.shared.get(make, lambda run: make(RunHandle(run)))

    def time_limit(
        self, job: AbstractJob[Any], missing: str = PROGRESS, *, cancels: bool = False, counts: bool = True
    ) -> TimeLimit:
        """Return the time that this call of a job has, from now on; for kinds that keep their time themselves.

        Args:
            job: the job.
            missing: what did not come when its `idle_timeout` is over, for the error.
            cancels: whether `with` cancels its block when the time is over, and raises the `JobTimeout` then.
                Otherwise the job has to ask for the deadline, or to wait by the methods of the limit.
            counts: whether its `idle_timeout` counts from now on; otherwise in the blocks of `counting()` alone.

        """
        return TimeLimit(self._run, job, missing, cancels, counts)

    def report(self, message: str, job: AbstractJob[Any] | None = None, exception: BaseException | None = None) -> None:
        """Tell people something that is not the outcome of a job: in the log, in `debrief()`, and to instruments."""
        self._run.report(job, message, exception)

    # ---- waiting

    def wait_readable(self, descriptor: int, deadline: float = math.inf) -> Awaitable[bool]:
        """Wait until a descriptor is readable, or the clock shows `deadline`; return whether it is readable.

        A deadline that has passed comes first, whatever can be read. One task may wait for a descriptor at a time.
        """
        return self._backend.wait_readable(descriptor, deadline)

    def sleep_until(self, when: float) -> Awaitable[None]:
        """Wait until the clock shows `when`."""
        return self._backend.sleep_until(when)

    def outlast(self, wait: Callable[[], Awaitable[V]]) -> Awaitable[V]:
        """Await `wait()` to its end, whatever is cancelled meanwhile, and return its answer.

        This is for the end of work that has to be orderly. Let the cancellation go on afterwards: raise it again.

        Args:
            wait: an async function. A native `Task.cancel()` of asyncio interrupts it; it is then called again, and has
                to go on where it was.

        """
        return self._backend.outlast(wait)

    # ---- threads

    def keep_current_job(self) -> Callable[[], object]:
        """Return a function that makes `current_job()` this job for good in the thread that calls it.

        Without it a thread that outlives its job may be told the next one.
        """
        worker = current.get()
        stand_in = Worker(self._run, has_slot=False)
        stand_in.job = worker.job
        return partial(current.set, stand_in)

    def limiter_to_ask(self, limiter: Any, job: AbstractJob[Any]) -> Any:
        """Return the limiter that `job` has to ask for a token; None if the slot that it has is one of its tokens.

        Args:
            limiter: a `CapacityLimiter` that the user gave to the job.
            job: the job.

        Raises:
            TypeError: it is not a limiter for this backend.
            ValueError: it is the window of a scheduler further out.

        """
        if self._backend.check_limiter(limiter) is not None:
            raise TypeError(
                f"limiter={limiter!r} of {job.label!r} is not for {self._backend.name}: "
                f"give a CapacityLimiter of anyio that was made in this run, or on trio one of trio's"
            )
        worker = current.get()
        if _holds(worker, limiter):
            return None
        outer = worker.run.outer_worker
        while outer is not None:
            if _holds(outer, limiter):
                raise ValueError(
                    f"limiter= of {job.label!r} is the window of {outer.run.scheduler.label!r} further out: to wait "
                    f"for a token while that holds one may never end; give it to the nested scheduler as jobs_window="
                )
            outer = outer.run.outer_worker
        return limiter


def _holds(worker: Worker, limiter: object) -> bool:
    """Return whether the slot that `worker` holds is a token of `limiter`."""
    window = worker.run.workers.window
    return window is not None and window.limiter is limiter and worker.token is not None


@final
class TimeLimit:
    """The time that one call of a job has: its `timeout`, and its `idle_timeout`, which signs of life put off.

    It is a context manager: inside, signs of life reach it, those of `progress()` included.
    """

    __slots__ = ("_around", "_backend", "_own", "_scope")

    def __init__(self, run: Run, job: AbstractJob[Any], missing: str, cancels: bool, counts: bool) -> None:
        timeout, idle_timeout = job.timeout, job.idle_timeout
        self._backend: Final[Backend] = run.backend
        self._scope: Scope | None = None
        self._own: Watch | None = None
        if not timeout is idle_timeout is None:
            move = None
            if cancels:
                self._scope = run.backend.scope()
                move = partial(setattr, self._scope, "deadline")
            seconds = math.inf if idle_timeout is None else idle_timeout
            self._own = Watch(run, job, seconds, timeout, missing, move, begins=counts)
        worker = current.get(None)
        self._around: Final = () if worker is None else tuple(worker.watches())  # of schedulers and jobs around

    @property
    def deadline(self) -> float:
        """When the time is over, unless there is a sign of life before: a time of the run's clock, or infinity."""
        return math.inf if self._own is None else self._own.deadline

    @property
    def end(self) -> float:
        """When the job's `timeout` is over, whatever signs of life there are; or infinity."""
        return math.inf if self._own is None else self._own.end

    @property
    def needs_signs(self) -> bool:
        """Whether there is an `idle_timeout`, of the job or around it, so that signs of life are worth their price."""
        return bool(self._around) or (self._own is not None and self._own.needs_signs)

    def alive(self) -> None:
        """Give a sign of life: to this limit, and to those of the schedulers around the job."""
        if self._own is not None:
            self._own.alive()
        for watch in self._around:
            watch.alive()

    def counting(self) -> contextlib.AbstractContextManager[None]:
        """Return a block in which the `idle_timeout` counts, if the limit was made with `counts=False`."""
        return contextlib.nullcontext() if self._own is None else self._own.counting()

    def error(self) -> JobTimeout:
        """Return what the job has to raise when the deadline has come: it says which of the two times was over."""
        assert self._own is not None, "a job without a timeout has no deadline"
        return self._own.error()

    async def wait_readable(self, descriptor: int) -> bool:
        """Wait until a descriptor is readable; return False if the time is over before."""
        return await self._in_time(partial(self._backend.wait_readable, descriptor))

    async def wait(self, event: ThreadEvent) -> bool:
        """Wait until an event is set; return False if the time is over before."""
        return await self._in_time(event.wait)

    async def _in_time(self, wait: Callable[[float], Awaitable[bool]]) -> bool:
        while True:
            until = self.deadline
            if await wait(until):
                return True
            if self.deadline <= until:
                return False

    def __enter__(self) -> Self:
        """Let signs of life reach it."""
        if self._scope is not None:
            self._scope.__enter__()
        if self._own is not None:
            self._own.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let no more signs of life reach it; raise the `JobTimeout` if the block was cancelled because of it."""
        if self._own is not None:
            self._own.__exit__()
        if self._scope is not None and self._scope.__exit__(kind, error, traceback) and error is not None:
            timeout = self.error()
            try:
                raise timeout
            finally:
                timeout.__context__ = None  # the cancellation, which nobody may keep


@final
class ThreadEvent:
    """Something that happens once; any thread may set it, and tasks of the loop that has made it wait for it."""

    __slots__ = ("_backend", "_call", "_event")

    def __init__(self) -> None:
        """Make one in an async function."""
        self._backend: Final = current_backend()
        self._event: Final = self._backend.event()
        self._call: Final = self._backend.caller()

    def set(self) -> None:
        """Wake all who wait, and let nobody wait any more."""
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
        """Wait until it is set, whatever is cancelled meanwhile."""
        await self._backend.outlast(self._event.wait)
