"""The interfaces of a run: `RunHandle` for kinds of jobs, which is public in `trioflow.abc`, and `RunView` for views.

```
run_of(job) ──► RunHandle: clock, waits, waits despite a cancellation, shared objects, the log
                    └──► time_limit(job) ──► TimeLimit: deadline, signs of life, waits up to the deadline
```
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

from ..base._signatures import is_async
from ..job._function import name_of
from ._current import current_worker_var
from ._idle_timeouts import PROGRESS_NOUN, TimeLimit
from ._shared_resources import SharedResource
from ._slot_lending import SpareSlots, spare_slots
from ._worker import Worker

if TYPE_CHECKING:
    from ..backend import Backend
    from ..base._states import RunPhase, StopReason
    from ..job._job import AbstractJob
    from ..scheduler._base_scheduler import BaseScheduler
    from ._run import Run


V = TypeVar("V")
R = TypeVar("R", bound=SharedResource)


def run_of(job: AbstractJob[Any]) -> RunHandle:
    """Return the handle of the run that runs `job`; call this in the job's `co_run`.

    Raises:
        RuntimeError: the job was not called by a run.

    """
    worker = current_worker_var.get(None)
    if worker is None:
        raise RuntimeError(f"{job.label!r} needs a run: put it into a Scheduler, and run that")
    return RunHandle(worker.run)


@final
class RunHandle:
    """A job's interface to its run, which is the same on trio and asyncio."""

    __slots__ = ("_backend", "_run", "clock")

    clock: Final[Callable[[], float]]
    """Returns the time in seconds, on the clock of the event loop, which may be virtual."""

    def __init__(self, run: Any) -> None:  # a `Run`, which is not public
        self._run: Final[Run] = run
        self._backend: Final[Backend] = run.backend
        self.clock = run.clock

    def shared(self, make: Callable[[RunHandle], R]) -> R:
        """Return an object that all jobs of the run share, including jobs of nested schedulers.

        Args:
            make: a class or a function that returns the object. The first call in an outermost run calls it, with a
                handle of that run; later calls return the same object. When all jobs have been shut down, the run
                awaits the `close()` of all shared objects, the last one first, within the `shutdown_timeout` of the
                outermost scheduler.

        Raises:
            TypeError: the object has no `async def close(self)`.

        """
        return self._run.shared_objects.get_or_create(make, lambda run: _closable(make(RunHandle(run)), make))

    def time_limit(
        self, job: AbstractJob[Any], missing: str = PROGRESS_NOUN, *, cancels: bool = False, counts: bool = True
    ) -> TimeLimit:
        """Start and return the time limit for this call of a job; for kinds with `keeps_time=True`.

        Args:
            job: the job.
            missing: a noun for the signs of life of the job, which the error after an `idle_timeout` contains.
            cancels: whether the body of `with limit:` is cancelled at the deadline, and raises `JobTimeout`. If not,
                the job must check the deadline itself, or wait with the methods of the limit.
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
        """Report an incident that is not the outcome of a job: to the log, to `debrief()` and to instruments."""
        self._run.report(job, message, exception)

    def note_hold(self, job: AbstractJob[Any], since: float, until: float | None = None) -> None:
        """Record, for traces, that a running job has waited for free capacity of its machine.

        Args:
            job: the job.
            since: the begin of the wait, on the run's clock.
            until: the end of the wait; None for now.

        """
        extras = job._ensure_extras()
        extras.machine_waits += ((since, self.clock() if until is None else until),)

    def note_room(self, job: AbstractJob[Any], place: str, calls: int) -> None:
        """Record, for what-if simulations, where the job's call runs, and how many calls can run there concurrently."""
        job._ensure_extras().call_place = place, calls

    def stores(self, job: AbstractJob[Any]) -> bool:
        """Return whether a journal will store the result of `job`, so that this process needs its value."""
        return self._run.journal_writer is not None and job.save is not None

    # ---- waiting

    def wait_readable(self, descriptor: int, deadline: float = math.inf) -> Awaitable[bool]:
        """Wait until a descriptor is readable, or the clock shows `deadline`; return whether it is readable.

        A deadline that has passed takes precedence. Only one task at a time may wait for a descriptor.

        Raises:
            PermissionError: the descriptor refers to a regular file (Linux); poll it after `sleep_until`.

        """
        return self._backend.wait_readable(descriptor, deadline)

    def sleep_until(self, when: float) -> Awaitable[None]:
        """Wait until the clock shows `when`."""
        return self._backend.sleep_until(when)

    def outlast(self, wait: Callable[[], Awaitable[V]]) -> Awaitable[V]:
        """Await `wait()` to its end, even if the task is cancelled, and return its result.

        Use this for work that must not be interrupted. A cancellation takes effect afterwards.

        Args:
            wait: an async function. If a native `asyncio.Task.cancel()` interrupts it, it is called again, and must
                resume its work.

        """
        return self._backend.outlast(wait)

    # ---- slots to lend

    def spare_slots(self) -> SpareSlots | None:
        """Return the spare slots that the current job may borrow; None if no enclosing scheduler has `jobserver`.

        Forever jobs, including services, cannot borrow slots, so the result is None for them, too.
        """
        worker = current_worker_var.get(None)
        return None if worker is None or worker.is_shielded else spare_slots(self._run)

    # ---- threads

    def keep_current_job(self) -> Callable[[], object]:
        """Return a function that sets `current_job()` in another thread to the job that is current now.

        Without it, `current_job()` may return the next job in a thread that outlives its job.
        """
        worker = current_worker_var.get()
        stand_in = Worker(self._run, has_slot=False)
        stand_in.job = worker.job
        return partial(current_worker_var.set, stand_in)

    def check_limiter(self, limiter: Any, job: AbstractJob[Any]) -> None:
        """Reject a limiter that the backend of the run cannot use.

        Args:
            limiter: the `CapacityLimiter` that the user has given `job`.
            job: the job, for the error.

        Raises:
            TypeError: `limiter` belongs to another backend, or is not a limiter.

        """
        if self._backend.limiter_problem(limiter) is not None:
            raise TypeError(
                f"limiter={limiter!r} of {job.label!r} is not for {self._backend.name}: "
                f"give a CapacityLimiter of anyio that was made in this run, or on trio one of trio's"
            )


def _closable(made: R, make: Callable[..., R]) -> R:
    """Check that a shared object has an async `close()`, and return the object."""
    if is_async(getattr(made, "close", None)):
        return made
    raise TypeError(
        f"{name_of(make)} has made a {type(made).__qualname__} for the jobs to share, which has no "
        f"`async def close(self)`: the run calls that at its end"
    )


@final
class RunView:
    """A read-only view of a run in progress, which `current_run` returns."""

    __slots__ = ("_run",)

    def __init__(self, run: Any) -> None:  # a `Run`, which is not public
        self._run: Final[Run] = run

    @property
    def clock(self) -> Callable[[], float]:
        """The clock of `job.started_at`: a function that returns the time in seconds."""
        return self._run.clock

    @property
    def phase(self) -> RunPhase:
        """The phase of the run."""
        return self._run.phase

    @property
    def reason(self) -> StopReason | None:
        """The reason why the run stops, or None if it is not stopping."""
        return self._run.reason

    @property
    def window(self) -> int | None:
        """The largest size of the window, or None for no limit. See also `scheduler.window_size`."""
        return self._run.workers.max_size

    @property
    def backend(self) -> str:
        """The name of the backend."""
        return self._run.backend.name

    @property
    def tokens_taken(self) -> int | None:
        """The number of tokens of the limiter that all its users have taken; None if the window is not a limiter."""
        limiter: Any = self._run.workers.limiter
        return None if limiter is None else limiter.borrowed_tokens

    @property
    def has_adaptive_window(self) -> bool:
        """Whether the window is an `Adaptive` one, whose size changes during the run."""
        return self._run.workers.is_adaptive


def current_run(scheduler: BaseScheduler) -> RunView | None:
    """Return a view of the scheduler's run in progress, or None if it is not running."""
    run = scheduler._run
    return None if run is None else RunView(run)
