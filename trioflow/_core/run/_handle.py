"""A run as others see it: `RunHandle`, for kinds of jobs (users have it from `trioflow.abc`), and `RunView`, for views.

```
run_of(job) ──► RunHandle ──► clock, waiting, outlasting a cancellation, shared objects, the log
                    └──► time_limit(job) ──► TimeLimit: deadline, signs of life, waits bounded by the deadline
```
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

from ..base._signatures import is_async
from ..job._function import name_of
from ._current import current
from ._idle_timeouts import PROGRESS, TimeLimit
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
    """Return the handle of the run that has called `job`; call it in the job's `co_run`.

    Raises:
        RuntimeError: no run has called it.

    """
    worker = current.get(None)
    if worker is None:
        raise RuntimeError(f"{job.label!r} needs a run: put it into a Scheduler, and run that")
    return RunHandle(worker.run)


@final
class RunHandle:
    """A run, as its jobs may use it, alike on trio and on asyncio."""

    __slots__ = ("_backend", "_run", "clock")

    clock: Final[Callable[[], float]]
    """Returns the time of the run in seconds: that of the event loop, which may be virtual."""

    def __init__(self, run: Any) -> None:  # a `Run`, which is not public
        self._run: Final[Run] = run
        self._backend: Final[Backend] = run.backend
        self.clock = run.clock

    def shared(self, make: Callable[[RunHandle], R]) -> R:
        """Return an object that all jobs of the run share, including jobs of nested schedulers.

        Args:
            make: a class or a function. It is called once in a run, with a handle of the outermost one. Its object is
                closed, by `await made.close()`, when all jobs have been shut down: the last one first, shielded, and
                all of them within the `shutdown_timeout` of the outermost scheduler.

        Raises:
            TypeError: the object has no `async def close(self)`.

        """
        return self._run.shared.get(make, lambda run: _closable(make(RunHandle(run)), make))

    def time_limit(
        self, job: AbstractJob[Any], missing: str = PROGRESS, *, cancels: bool = False, counts: bool = True
    ) -> TimeLimit:
        """Return the time limit of this call of a job, from now on; for kinds with `keeps_time=True`.

        Args:
            job: the job.
            missing: the sign of life that is missing after the `idle_timeout`, for the error.
            cancels: whether `with` cancels its block at the deadline, and then raises the `JobTimeout`. Otherwise the
                job has to check the deadline, or to wait by the methods of the limit.
            counts: whether its `idle_timeout` counts from now on; otherwise only in blocks of `counting()`.

        """
        worker = current.get(None)
        return TimeLimit(
            self._run,
            job,
            missing,
            timeout=job.timeout,
            idle_timeout=job.idle_timeout,
            cancels=cancels,
            counts=counts,
            around=() if worker is None else tuple(worker.time_limits()),
        )

    def report(self, message: str, job: AbstractJob[Any] | None = None, exception: BaseException | None = None) -> None:
        """Report a message that is not the outcome of a job: in the log, in `debrief()`, and to instruments."""
        self._run.report(job, message, exception)

    def note_hold(self, job: AbstractJob[Any], since: float, until: float | None = None) -> None:
        """Record that a running job has waited since then for room on the machine, for traces."""
        facts = job._extras()
        facts.held += ((since, self.clock() if until is None else until),)

    def note_room(self, job: AbstractJob[Any], place: str, calls: int) -> None:
        """Record the place that makes the call of a job, and how many calls it makes at once, for what-if."""
        job._extras().room = place, calls

    def stores(self, job: AbstractJob[Any]) -> bool:
        """Return whether a journal is to store the result of `job`, so that its value has to be here."""
        return self._run.journal_writer is not None and job.save is not None

    # ---- waiting

    def wait_readable(self, descriptor: int, deadline: float = math.inf) -> Awaitable[bool]:
        """Wait until a descriptor is readable, or the clock shows `deadline`; return whether it is readable.

        A deadline that has passed takes precedence. One task at a time may wait for a descriptor.

        Raises:
            PermissionError: the descriptor refers to a regular file (Linux); poll it after `sleep_until`.

        """
        return self._backend.wait_readable(descriptor, deadline)

    def sleep_until(self, when: float) -> Awaitable[None]:
        """Wait until the clock shows `when`."""
        return self._backend.sleep_until(when)

    def outlast(self, wait: Callable[[], Awaitable[V]]) -> Awaitable[V]:
        """Await `wait()` to its end, even if the task is cancelled, and return its result.

        This is for work that has to end cleanly. Raise the cancellation again afterwards.

        Args:
            wait: an async function. A native `asyncio.Task.cancel()` interrupts it; it is then called again, and has to
                resume where it was.

        """
        return self._backend.outlast(wait)

    # ---- slots to lend

    def spare_slots(self) -> SpareSlots | None:
        """Return the slots that are lent to the current job; None if no enclosing scheduler has `jobserver`.

        A forever job, such as a service, gets none.
        """
        worker = current.get(None)
        return None if worker is None or worker.shielded else spare_slots(self._run)

    # ---- threads

    def keep_current_job(self) -> Callable[[], object]:
        """Return a function that fixes `current_job()` to the current job in the thread that calls it.

        Without it a thread that outlives its job may get the next one.
        """
        worker = current.get()
        stand_in = Worker(self._run, has_slot=False)
        stand_in.job = worker.job
        return partial(current.set, stand_in)

    def check_limiter(self, limiter: Any, job: AbstractJob[Any]) -> None:
        """Reject a limiter that is not for the backend of the run.

        Args:
            limiter: the user's `CapacityLimiter` for the job.
            job: the job.

        Raises:
            TypeError: `limiter` is not for this backend.

        """
        if self._backend.check_limiter(limiter) is not None:
            raise TypeError(
                f"limiter={limiter!r} of {job.label!r} is not for {self._backend.name}: "
                f"give a CapacityLimiter of anyio that was made in this run, or on trio one of trio's"
            )


def _closable(made: R, make: Callable[..., R]) -> R:
    """Return the object that `make` has made, if the run can close it at its end."""
    if is_async(getattr(made, "close", None)):
        return made
    raise TypeError(
        f"{name_of(make)} has made a {type(made).__qualname__} for the jobs to share, which has no "
        f"`async def close(self)`: the run calls that at its end"
    )


@final
class RunView:
    """A read-only view of a run in progress; see `current_run`."""

    __slots__ = ("_run",)

    def __init__(self, run: Any) -> None:  # a `Run`, which is not public
        self._run: Final[Run] = run

    @property
    def clock(self) -> Callable[[], float]:
        """The clock of `job.started_at`: returns the time now, in seconds."""
        return self._run.clock

    @property
    def phase(self) -> RunPhase:
        """Its phase: checking, preparing, running, draining or stopping."""
        return self._run.phase

    @property
    def reason(self) -> StopReason | None:
        """The reason of its stop; None while that is open."""
        return self._run.reason

    @property
    def window(self) -> int | None:
        """The most jobs that its window ever lets run; None for no limit. See also `scheduler.window_size`."""
        return self._run.workers.slots

    @property
    def backend(self) -> str:
        """The name of its backend: "trio" or "asyncio"."""
        return self._run.backend.name

    @property
    def tokens_taken(self) -> int | None:
        """The number of taken tokens of its limiter, by any user; None if its window is not a limiter."""
        limiter: Any = self._run.workers.limiter
        return None if limiter is None else limiter.borrowed_tokens

    @property
    def has_adaptive_window(self) -> bool:
        """Whether the size of its window changes while it runs."""
        return self._run.workers.adapts


def current_run(scheduler: BaseScheduler) -> RunView | None:
    """Return a view of the run in progress of a scheduler; None if it is not running."""
    run = scheduler._run
    return None if run is None else RunView(run)
