"""`ThreadJob`: a plain function in a worker thread, as a job.

anyio brings the threads. What it leaves to do is to keep the promise that work which cannot be interrupted keeps its
slot: a thread goes on whatever is cancelled, so its job waits for it, and only then tells what became of it.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Unpack

import anyio
import anyio.lowlevel
import anyio.to_thread

from .._core import _backend, _labels, _worker
from .._core._arguments import Call, Search
from .._core._checks import repeats
from .._core._jobs import AbstractJob, T
from .._core._options import JobOptions
from .._core._rules import release_inputs

if TYPE_CHECKING:
    import trio


class ThreadJob(AbstractJob[T]):
    """A plain function with its arguments, called in a worker thread.

    A thread cannot be interrupted. When the job is cancelled or its time is over, it keeps its slot until the function
    has ended; what the function returned or raised is dropped then, and the job is CANCELLED, or has failed with
    `JobTimeout`. A long function may call `anyio.from_thread.check_cancelled()` now and then, which raises as soon as
    it is to end. With `abandon_on_cancel` the job ends at once, and the function goes on unwatched.

    The function sees the context variables of its job, in a copy: `current_job()` is this job, also when abandoned.

    Args:
        function: a plain function, or anything callable that is not async.
        args: positional arguments of the call; jobs among them are filled in, see `Job`.
        kwargs: keyword arguments of the call, jobs among them as well.
        abandon_on_cancel: lets go of the thread as soon as the job is cancelled or its time is over. On asyncio the
            interpreter still waits for that thread before it exits.
        limiter: a `CapacityLimiter`, trio's or anyio's as the backend takes; the job waits for one of its tokens
            after it has got its slot. By default the window of its scheduler is the only limit, not the 40 threads
            of trio and anyio. The limiter that is this very window is not asked for a second token.
        options: those of every job; see `AbstractJob`. A timeout counts from the start of the job.

    Raises:
        TypeError: an async function (`Job` runs those), something not callable, or a limiter that is none; from the
            job itself, a limiter of the other library, or a coroutine returned by the function.
        ValueError: an option out of its range; from the job itself, a limiter that is the window of a scheduler
            further out.

    Example:
        >>> job = ThreadJob(sorted, [2, 3, 1], kwargs={"reverse": True})
        >>> Scheduler(job).run()
        True
        >>> job.result()
        [3, 2, 1]

    """

    __slots__ = ("_abandon_on_cancel", "_args", "_function", "_limiter")

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
        _check_function(function)
        if limiter is not None and not hasattr(limiter, "acquire_on_behalf_of"):
            name = options.get("label") or _labels.of_function(type(self).__name__, function)
            raise TypeError(f"limiter={limiter!r} of {name!r}: give a CapacityLimiter of trio or anyio, or None")
        search = Search(repr(options.get("label") or _labels.of_function(type(self).__name__, function)))
        self._args = search.positional(args)
        self._function: Callable[..., T] = search.keywords(function, kwargs) if kwargs else function
        self._abandon_on_cancel = bool(abandon_on_cancel)
        self._limiter = limiter
        super().__init__(**options, _inputs=tuple(search.inputs))

    async def co_run(self) -> T:
        """Call the function in a worker thread, and wait until it has ended.

        Raises:
            BaseException: what the function raised; a StopIteration, which no coroutine can raise, as the cause of a
                RuntimeError.

        """
        worker = _worker.current.get(None)
        call: Future[None] = Future()  # tells whether the thread has begun, and ended, its call
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
            if not call.cancel() and not self._abandon_on_cancel:
                await _outlast(call)
            raise
        # The thread was shielded: a cancellation that came meanwhile is due now, and takes precedence.
        await anyio.lowlevel.checkpoint_if_cancelled()
        return value

    def _filled(self) -> Callable[[], T]:
        """Return the call with the results in the jobs' places, and take note that those are needed no more."""
        bound: Any = self._function
        keywords = bound.filled() if isinstance(bound, Call) else {}
        function: Callable[..., T] = bound.func if isinstance(bound, Call) else bound
        filled = functools.partial(function, *self._args, **keywords)
        if self._rule is not None and self._rule.frees and not repeats(self):
            release_inputs(self, self._rule)
        return filled

    def _call(self, function: Callable[[], T], call: Future[None], detached: _worker.Worker | None) -> T:
        """Call the function; this is in the thread."""
        if not call.set_running_or_notify_cancel():
            raise RuntimeError("called off before it began; nobody waits for this")
        try:
            if detached is not None:
                _worker.current.set(detached)
            value = function()
            if inspect.iscoroutine(value):
                value.close()
                raise TypeError(
                    f"{self.label!r}: its function returned a coroutine, which is not for a thread; use Job instead"
                )
            return value
        finally:
            call.set_result(None)

    def _detached(self, worker: _worker.Worker | None) -> _worker.Worker | None:
        """Return a stand-in for `worker` that has this job for ever: the real one goes on with other jobs."""
        if worker is None:
            return None
        stand_in = _worker.Worker(worker.run, has_slot=False)
        stand_in.job = worker.job
        return stand_in

    def _chosen_limiter(self, worker: _worker.Worker | None) -> Any:
        """Return what anyio is to ask for a token: the user's limiter, or a new one that has enough for all."""
        limiter = self._limiter
        if limiter is None:
            return anyio.CapacityLimiter(math.inf)
        if _backend.current().check_limiter(limiter) is not None:
            raise TypeError(
                f"limiter={limiter!r} of {self.label!r} is not for {_backend.current().name}: "
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

    def _default_label(self) -> str:
        return _labels.of_function(type(self).__name__, self._function)


async def _outlast(call: Future[None]) -> None:
    """Wait until the thread has ended its call. Only asyncio comes here: no shield stops a native `Task.cancel()`."""
    import asyncio  # runs here already

    while not call.done():
        with anyio.CancelScope(shield=True), contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([asyncio.wrap_future(call)])


def _holds(worker: _worker.Worker, limiter: object) -> bool:
    """Tell whether the slot that `worker` has is a token of `limiter`."""
    window = worker.run.crew.window
    return window is not None and window.limiter is limiter and worker.token is not None


def _check_function(function: Any) -> None:
    name = getattr(function, "__qualname__", repr(function))
    if inspect.iscoroutine(function):
        raise TypeError(f"ThreadJob({function!r}): a coroutine object is not for a thread; use Job instead")
    if not callable(function):
        raise TypeError(f"ThreadJob({function!r}): give a plain function and its arguments")
    for called in (function, getattr(type(function), "__call__", None)):  # noqa: B004 - it is looked at, not called
        if inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called):
            short = getattr(function, "__name__", name)
            raise TypeError(f"ThreadJob({name}): this is async, and not for a thread; write Job({short}, ...)")
