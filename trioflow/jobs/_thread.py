"""`ThreadJob`: a plain function in a worker thread, as a job.

anyio provides the threads. What is left to do here is to keep a promise: work that can't be interrupted keeps its slot.
A thread goes on whatever is cancelled. So its job waits for it, and settles only then.
"""

from __future__ import annotations

import inspect
import math
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

import anyio
import anyio.lowlevel
import anyio.to_thread

from .._core.door.kinds import (
    FunctionJob,
    JobOptions,
    Look,
    T,
    Worker,
    check_function,
    current_backend,
    current_worker,
    name_of,
)

if TYPE_CHECKING:
    import trio


class ThreadJob(
    FunctionJob[T],
    look=Look("thread", place=2),
    cannot_be_interrupted=(
        "a thread cannot be interrupted; abandon_on_cancel=True lets go of it, and a ProcessJob can be killed"
    ),
):
    """A plain function with its arguments, called in a worker thread.

    A thread cannot be interrupted. When the job is cancelled or its time is over, it keeps its slot until the function
    has ended. Then it is CANCELLED, or FAILED with `JobTimeout`, and what the function returned or raised is dropped. A
    long function may call `anyio.from_thread.check_cancelled()` now and then, which raises once the function should
    end. With `abandon_on_cancel` the job ends at once, and the function goes on unwatched.

    The function runs in a copy of its job's context variables: `current_job()` is this job, even when abandoned.

    Args:
        function: a plain function, or any other callable that is not async.
        args: positional arguments of the call; jobs among them are replaced by their results, see `Job`.
        kwargs: keyword arguments of the call; the same holds for jobs among them.
        abandon_on_cancel: lets go of the thread as soon as the job is cancelled or its time is over. On asyncio the
            interpreter still waits for that thread before it exits.
        limiter: a `CapacityLimiter`, of trio or anyio, whichever the backend takes. The job waits for one of its tokens
            after it has got its slot. By default the window of its scheduler is the only limit, not the 40 threads
            of trio and anyio. A limiter that is this very window is not asked for a second token.
        options: those of every job; see `AbstractJob`. A timeout counts from the start of the job.

    Raises:
        TypeError: an async function (`Job` runs those), something that is not callable, or something that is not a
            limiter; when the job runs, a limiter of the other library, or a function that returned a coroutine.
        ValueError: an option out of its range; when the job runs, a limiter that is the window of a scheduler further
            out.

    Example:
        >>> job = ThreadJob(sorted, [2, 3, 1], kwargs={"reverse": True})
        >>> Scheduler(job).run()
        True
        >>> job.result()
        [3, 2, 1]

    """

    __slots__ = ("_abandon_on_cancel", "_limiter")

    def __init__(
        self,
        function: Callable[..., T],
        /,
        *args: Any,
        kwargs: Mapping[str, Any] | None = None,
        abandon_on_cancel: bool = False,
        limiter: trio.CapacityLimiter | anyio.CapacityLimiter | None = None,
        **options: Unpack[JobOptions],
    ) -> None:
        check_function(function, "ThreadJob", place="a thread")
        if limiter is not None and not hasattr(limiter, "acquire_on_behalf_of"):
            name = options.get("label") or name_of(function)
            raise TypeError(f"limiter={limiter!r} of {name!r}: give a CapacityLimiter of trio or anyio, or None")
        self._abandon_on_cancel = bool(abandon_on_cancel)
        self._limiter = limiter
        super().__init__(function, args, kwargs, options)

    async def co_run(self) -> T:
        """Call the function in a worker thread, and wait until it has ended.

        Raises:
            BaseException: what the function raised. No coroutine can raise a StopIteration: it becomes the cause of a
                RuntimeError.

        """
        worker = current_worker.get(None)
        call = _Call()
        try:
            value = await anyio.to_thread.run_sync(
                self._call,
                self._filled(),
                call,
                self._detached(worker) if self._abandon_on_cancel else None,
                abandon_on_cancel=self._abandon_on_cancel,
                limiter=self._chosen_limiter(worker),
            )
        except Exception:
            await anyio.lowlevel.checkpoint_if_cancelled()
            raise
        except BaseException:
            if not call.claim() and not call.has_ended and not self._abandon_on_cancel:
                await _until_ended(call)
            raise
        # The thread was shielded: a cancellation that came meanwhile is due now, and takes precedence.
        await anyio.lowlevel.checkpoint_if_cancelled()
        return value

    def _call(self, function: Callable[[], T], call: _Call, detached: Worker | None) -> T:
        """Call the function; this runs in the thread."""
        if not call.claim():
            raise RuntimeError("called off before it began; nobody waits for this")
        try:
            if detached is not None:
                current_worker.set(detached)
            value = function()
            if inspect.iscoroutine(value):
                value.close()
                raise TypeError(
                    f"{self.label!r}: its function returned a coroutine, which is not for a thread; use Job instead"
                )
            return value
        finally:
            call.end()

    def _detached(self, worker: Worker | None) -> Worker | None:
        """Return a stand-in for `worker` that keeps this job: the real one goes on with other jobs."""
        if worker is None:
            return None
        stand_in = Worker(worker.run, has_slot=False)
        stand_in.job = worker.job
        return stand_in

    def _chosen_limiter(self, worker: Worker | None) -> Any:
        """Return the limiter that anyio is to ask for a token: the user's, or a new one without a limit."""
        limiter = self._limiter
        if limiter is None:
            return anyio.CapacityLimiter(math.inf)
        if current_backend().check_limiter(limiter) is not None:
            raise TypeError(
                f"limiter={limiter!r} of {self.label!r} is not for {current_backend().name}: "
                f"give a CapacityLimiter of anyio that was made in this run, or on trio one of trio's"
            )
        if worker is not None and _holds(worker, limiter):
            return anyio.CapacityLimiter(math.inf)
        outer = worker.run.outer_worker if worker is not None else None
        while outer is not None:
            if _holds(outer, limiter):
                raise ValueError(
                    f"limiter= of {self.label!r} is the window of {outer.run.scheduler.label!r} further out: to wait "
                    f"for a token while that holds one may never end; give it to the nested scheduler as jobs_window="
                )
            outer = outer.run.outer_worker
        return limiter


class _Call:
    """The call in the thread; a `concurrent.futures.Future` does this too, and costs a tenth of a short job."""

    __slots__ = ("_claimed", "_listeners", "has_ended")

    def __init__(self) -> None:
        self._claimed = threading.Lock()  # never released: the thread has begun the call, or it is called off
        self._listeners: list[Callable[[], object]] = []
        self.has_ended = False

    def claim(self) -> bool:
        """Begin the call, or call it off; return False if another thread has done either before."""
        return self._claimed.acquire(blocking=False)

    def end(self) -> None:
        """Tell those who listen that the call has ended."""
        self.has_ended = True
        for listener in self._listeners:
            listener()

    def listen(self, listener: Callable[[], object]) -> None:
        """Have `listener` called in the thread at the end; look at `has_ended` afterwards, in case it came before."""
        self._listeners.append(listener)


async def _until_ended(call: _Call) -> None:
    """Wait until the thread has ended its call. Only asyncio needs this: a native `Task.cancel()` ignores shields."""
    backend = current_backend()
    ended = backend.event()
    call.listen(partial(backend.caller(), ended.set))
    if not call.has_ended:
        await backend.outlast(ended.wait)


def _holds(worker: Worker, limiter: object) -> bool:
    """Return whether the slot that `worker` holds is a token of `limiter`."""
    window = worker.run.workers.window
    return window is not None and window.limiter is limiter and worker.token is not None
