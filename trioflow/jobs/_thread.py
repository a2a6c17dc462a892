"""`ThreadJob`: a plain function in a worker thread, as a job.

anyio provides the threads. This module adds a guarantee: work that cannot be interrupted keeps its slot. A thread runs
on after a cancellation, so its job waits for it and settles only then.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Unpack, overload

import anyio
import anyio.lowlevel
import anyio.to_thread

from ..abc import BoxStyle, FunctionJob, JobOptions, ThreadEvent, call_of, flag, name_of, run_of, short_repr
from . import T

if TYPE_CHECKING:
    from collections.abc import Iterable

    import trio

    from .._core.api.typed import (
        A,
        B,
        C,
        Given,
        GivenJob,
        PlainFunction1,
        PlainFunction2,
        PlainFunction3,
        TakesIterable,
    )


class ThreadOptions(JobOptions, total=False):
    """The keyword options of a `ThreadJob`, with those of every job."""

    abandon_on_cancel: bool
    limiter: trio.CapacityLimiter | anyio.CapacityLimiter | None


class ThreadJob(
    FunctionJob[T],
    box=BoxStyle("thread", place=2),
    calls_in="a thread",
    cannot_be_interrupted=(
        "a thread cannot be interrupted; abandon_on_cancel=True lets go of it, and a ProcessJob can be killed"
    ),
):
    """A plain function with its arguments, called in a worker thread.

    A thread cannot be interrupted. When the job is cancelled or its time is over, it keeps its slot until the function
    has ended. Then it is CANCELLED, or FAILED with `JobTimeout`, and what the function returned or raised is dropped. A
    long function may call `anyio.from_thread.check_cancelled()` now and then, which raises once the function should
    end. With `abandon_on_cancel` the job ends at once, and the function runs on without supervision.

    The function runs in a copy of its job's context variables: `current_job()` is this job, even when abandoned.

    Args:
        function: a plain function, or any other callable that is not async.
        args: positional arguments of the call; jobs among them are replaced by their results, see `Job`.
        kwargs: keyword arguments of the call; jobs among them are replaced, too.
        abandon_on_cancel: lets go of the thread as soon as the job is cancelled or its time is over. On asyncio the
            interpreter still waits for that thread before it exits.
        limiter: a `CapacityLimiter`, of trio or anyio, whichever the backend takes. The job takes one of its tokens in
            place of one of the window's, if that is a limiter, and waits for the token when it is running. By default
            the window of its scheduler is the only limit, not the 40 threads of trio and anyio.
        options: the options of every job; see `AbstractJob`. A timeout counts from the start of the job.

    Raises:
        TypeError: an async function (`Job` runs those), something that is not callable, or something that is not a
            limiter; when the job runs, a limiter of the other library, or a function that returned a coroutine.
        ValueError: an option out of its range.

    Example:
        >>> job = ThreadJob(sorted, [2, 3, 1], kwargs={"reverse": True})
        >>> Scheduler(job).run()
        True
        >>> job.result()
        [3, 2, 1]

    """

    __slots__ = ("_abandon_on_cancel", "_own_limiter")

    # Type checkers compare up to three arguments with the function's parameters; a job may be given for a value.
    @overload
    def __init__(
        self,
        function: type[T],
        /,
        *args: Any,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[ThreadOptions],
    ) -> None: ...
    @overload
    def __init__(self, function: Callable[[], T], /, **options: Unpack[ThreadOptions]) -> None: ...
    @overload
    def __init__(
        self, function: TakesIterable[T], a: Iterable[Any] | GivenJob[Any], /, **options: Unpack[ThreadOptions]
    ) -> None: ...
    @overload
    def __init__(self, function: PlainFunction1[A, T], a: Given[A], /, **options: Unpack[ThreadOptions]) -> None: ...
    @overload
    def __init__(
        self, function: PlainFunction2[A, B, T], a: Given[A], b: Given[B], /, **options: Unpack[ThreadOptions]
    ) -> None: ...
    @overload
    def __init__(
        self,
        function: PlainFunction3[A, B, C, T],
        a: Given[A],
        b: Given[B],
        c: Given[C],
        /,
        **options: Unpack[ThreadOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        function: Callable[..., T],
        a: Any,
        b: Any,
        c: Any,
        d: Any,
        /,
        *args: Any,
        **options: Unpack[ThreadOptions],
    ) -> None: ...
    @overload
    def __init__(
        self, function: Callable[..., T], /, *args: Any, kwargs: Mapping[str, Any], **options: Unpack[ThreadOptions]
    ) -> None: ...
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
        if limiter is not None and not hasattr(limiter, "acquire_on_behalf_of"):
            name = options.get("label") or name_of(function)
            raise TypeError(
                f"limiter={short_repr(limiter)} of {name!r}: give a CapacityLimiter of trio or anyio, or None"
            )
        self._abandon_on_cancel = flag(abandon_on_cancel, "abandon_on_cancel", "ThreadJob()")
        self._own_limiter = limiter
        super().__init__(function, args, kwargs, options)

    async def co_run(self) -> T:
        """Call the function in a worker thread, and wait until it has returned.

        Raises:
            BaseException: what the function raised. No coroutine can raise a StopIteration: it becomes the cause of a
                RuntimeError.

        """
        call = _ThreadCall()
        if self._own_limiter is not None:
            run_of(self).check_limiter(self._own_limiter, self)
        may_outlive = run_of(self).keep_current_job() if self._abandon_on_cancel else None
        try:
            value = await anyio.to_thread.run_sync(
                self._call,
                call_of(self),
                call,
                may_outlive,
                abandon_on_cancel=self._abandon_on_cancel,
                limiter=self._own_limiter or anyio.CapacityLimiter(math.inf),
            )
        except Exception:
            await anyio.lowlevel.checkpoint_if_cancelled()
            raise
        except BaseException:
            if not call.claim() and not call.has_ended and not self._abandon_on_cancel:
                await _until_ended(call)
            raise
        # The thread was shielded: a cancellation that has arrived since is due now, and takes precedence.
        await anyio.lowlevel.checkpoint_if_cancelled()
        return value

    def _call(self, function: Callable[[], T], call: _ThreadCall, may_outlive: Callable[[], object] | None) -> T:
        """Call the function; this runs in the thread."""
        if not call.claim():
            raise RuntimeError("cancelled before it began; no job waits for this result")
        try:
            if may_outlive is not None:
                may_outlive()
            value = function()
            if isinstance(value, CoroutineType):
                value.close()
                raise TypeError(
                    f"{self.label!r}: its function returned a coroutine, which is not for a thread; use Job instead"
                )
            return value
        finally:
            call.end()


class _ThreadCall:
    """The call in the thread; a `concurrent.futures.Future` would serve, but costs a tenth of a short job."""

    __slots__ = ("_claimed", "_listeners", "has_ended")

    def __init__(self) -> None:
        self._claimed = threading.Lock()  # never released: it is held once the call has begun or was prevented
        self._listeners: list[Callable[[], object]] = []
        self.has_ended = False

    def claim(self) -> bool:
        """Begin the call, or prevent it; return False if the other thread has done either already."""
        return self._claimed.acquire(blocking=False)

    def end(self) -> None:
        """Record the end of the call, and notify the listeners."""
        self.has_ended = True
        for listener in self._listeners:
            listener()

    def listen(self, listener: Callable[[], object]) -> None:
        """Have `listener` called in the thread at the end; check `has_ended` afterwards, as the end may come first."""
        self._listeners.append(listener)


async def _until_ended(call: _ThreadCall) -> None:
    """Wait until the thread has ended its call. Only asyncio needs this: a native `Task.cancel()` ignores shields."""
    ended = ThreadEvent()
    call.listen(ended.set)
    if not call.has_ended:
        await ended.outlast()
