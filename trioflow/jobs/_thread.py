"""`ThreadJob`: a plain function in a worker thread, as a job.

anyio provides the threads. This module also guarantees that work that cannot be interrupted keeps its slot: after a
cancellation, the thread continues, and its job settles only when the thread has ended the call.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Unpack, cast, overload

import anyio
import anyio.lowlevel
import anyio.to_thread

from .._core.base._text_forms import short_repr
from .._core.job._argument_types import (
    A,
    B,
    C,
    JobOf,
    PlainFunction1,
    PlainFunction2,
    PlainFunction3,
    T,
    ValueOrJob,
)
from .._core.job._job_options import callback, flag
from ..abc import BoxStyle, FunctionJob, JobOptions, call_of, name_of, run_of
from .posix._files import event_at_end

if TYPE_CHECKING:
    import trio


class ThreadOptions(JobOptions, total=False):
    """The keyword options of a `ThreadJob`, with the options of every job."""

    abandon_on_cancel: bool
    on_cancel: Callable[[], object] | None
    limiter: trio.CapacityLimiter | anyio.CapacityLimiter | None


class ThreadJob(
    FunctionJob[T],
    box=BoxStyle("thread"),
    calls_in="a thread",
    keeps_time=True,
    cannot_be_interrupted=(
        "a thread cannot be interrupted; on_cancel= can end what it waits for, abandon_on_cancel=True abandons it, and "
        "a ProcessJob can be killed"
    ),
):
    """A plain function with its arguments, called in a worker thread.

    Use it for libraries that block. A function that computes in Python belongs in a `ProcessJob`.

    A thread cannot be interrupted. When the job is cancelled or times out, it keeps its slot until the function has
    ended. Then it is CANCELLED, or FAILED with `JobTimeout`, and the result or exception of the function is dropped. A
    long function may call `anyio.from_thread.check_cancelled()` from time to time, which raises once the function
    should end. `on_cancel` can end the operation that it waits for. With `abandon_on_cancel`, the job ends at once, and
    the function continues without supervision.

    The function runs in a copy of the job's context variables. `current_job()` returns this job, even after the thread
    was abandoned.

    Args:
        function: a plain function, or any other callable that is not async.
        args: positional arguments of the call. Jobs among them are replaced by their results, see `Job`.
        kwargs: keyword arguments of the call. Jobs among them are replaced, too.
        abandon_on_cancel: whether to abandon the thread as soon as the job is cancelled or times out. On asyncio, the
            interpreter still waits for the thread before it exits.
        on_cancel: a plain function without arguments, which is called once in the event loop when the job is cancelled
            or its time is over while its function runs, so that it can make the function in the thread return:
            `threading.Event().set`, or the `interrupt` of a database connection. If it raises, this is an incident.
        limiter: a `CapacityLimiter` of trio or anyio, as the backend requires. The running job waits for a token of
            this limiter. Its timeout begins when it has the token. If the window is a limiter, too, the job takes no
            token of the window. By default, the window of the scheduler is the only limit. The default limit of 40
            threads in trio and anyio does not apply.
        options: the options of every job. See `AbstractJob`.

    Raises:
        TypeError: the function is async (use `Job` for those) or not callable, or `limiter` is not a limiter. When the
            job runs: the limiter belongs to another backend, or the function returned a coroutine.
        ValueError: an option is out of its range.

    Example:
        >>> job = ThreadJob(sorted, [2, 3, 1], kwargs={"reverse": True})
        >>> Scheduler(job).run()
        True
        >>> job.result()
        [3, 2, 1]

    """

    __slots__ = ("_abandon_on_cancel", "_on_cancel", "_own_limiter")

    # With these overloads, type checkers compare up to three arguments with the function's parameters. Each argument is
    # a value or a job with such a value as its result.
    @overload
    def __init__(
        self,
        function: type[T],
        /,
        *args: object,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[ThreadOptions],
    ) -> None: ...
    @overload
    def __init__(
        self, function: Callable[[], T], /, **options: Unpack[ThreadOptions]
    ) -> None: ...
    @overload
    def __init__(
        self,
        function: Callable[[Iterable[Any]], T],
        a: Iterable[Any] | JobOf[Any],
        /,
        **options: Unpack[ThreadOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        function: PlainFunction1[A, T],
        a: ValueOrJob[A],
        /,
        **options: Unpack[ThreadOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        function: PlainFunction2[A, B, T],
        a: ValueOrJob[A],
        b: ValueOrJob[B],
        /,
        **options: Unpack[ThreadOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        function: PlainFunction3[A, B, C, T],
        a: ValueOrJob[A],
        b: ValueOrJob[B],
        c: ValueOrJob[C],
        /,
        **options: Unpack[ThreadOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        function: Callable[..., T],
        a: object,
        b: object,
        c: object,
        d: object,
        /,
        *args: object,
        **options: Unpack[ThreadOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        function: Callable[..., T],
        /,
        *args: object,
        kwargs: Mapping[str, Any],
        **options: Unpack[ThreadOptions],
    ) -> None: ...
    def __init__(
        self,
        function: Callable[..., T],
        /,
        *args: object,
        kwargs: Mapping[str, Any] | None = None,
        abandon_on_cancel: bool = False,
        on_cancel: Callable[[], object] | None = None,
        limiter: trio.CapacityLimiter | anyio.CapacityLimiter | None = None,
        **options: Unpack[JobOptions],
    ) -> None:
        if limiter is not None and not hasattr(limiter, "acquire_on_behalf_of"):
            name = options.get("label") or name_of(function)
            raise TypeError(
                f"limiter={short_repr(limiter)} of {name!r}: give a CapacityLimiter of trio or anyio, or None"
            )
        self._abandon_on_cancel = flag(
            abandon_on_cancel, "abandon_on_cancel", "ThreadJob()"
        )
        callback(on_cancel, "on_cancel", "ThreadJob()")
        self._on_cancel = on_cancel
        self._own_limiter = limiter
        super().__init__(function, args, kwargs, options)

    async def co_run(self) -> T:
        """Call the function in a worker thread, and wait until it has returned.

        Raises:
            BaseException: the function raised this exception. A StopIteration, which a coroutine cannot raise, becomes
                the cause of a RuntimeError.

        """
        run = run_of(self)
        call = Future[None]()
        try:
            if self._own_limiter is not None:
                await run.take_token(self._own_limiter, self, call)
            with run.time_limit(self, cancels=True):
                if self._on_cancel is None:
                    return await self._await_thread(call)
                return await self._await_beside(call)
        finally:
            # If no thread has begun it.
            call.cancel()

    async def _await_beside(self, call: Future[None]) -> T:
        """Await the thread in a child task, so that this task can be cancelled meanwhile, and then call `on_cancel`."""
        on_cancel: Any = self._on_cancel
        cancellation_type = anyio.get_cancelled_exc_class()
        has_ended = anyio.Event()
        errors: list[BaseException] = []
        value: Any = None
        has_returned = False
        cancellation: BaseException | None = None

        async def await_thread() -> None:
            nonlocal value, has_returned
            try:
                value = await self._await_thread(call)
                has_returned = True
            except cancellation_type:
                raise
            except BaseException as error:
                # The task group would put it into a group.
                errors.append(error)
            finally:
                has_ended.set()

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(await_thread)
                try:
                    await has_ended.wait()
                except cancellation_type as raised:
                    # Not the context of an exception of on_cancel.
                    cancellation = raised
                if cancellation is not None:
                    if not call.cancel() and call.running():
                        self._call_on_cancel(on_cancel, errors)
                    raise cancellation
            if errors:
                raise errors[0]
            if not has_returned:
                # The function has raised it. The task group has dropped it.
                raise cancellation_type
            return cast(T, value)
        except cancellation_type:
            if errors and not isinstance(errors[0], Exception):
                # Not dropped: a SystemExit of the function.
                raise errors[0] from None
            raise
        finally:
            # Break reference cycles.
            errors.clear()
            value = cancellation = None

    def _call_on_cancel(
        self, on_cancel: Callable[[], object], interruptions: list[BaseException]
    ) -> None:
        try:
            on_cancel()
        except Exception as error:
            run_of(self).report(
                f"on_cancel of {self.label!r} raised {type(error).__name__}: {error}",
                self,
                error,
            )
        except BaseException as interruption:
            # The task group would put it into a group.
            interruptions.append(interruption)

    async def _await_thread(self, call: Future[None]) -> T:
        """Call the function in a worker thread, and wait until it has returned. `call` ends when the function does."""
        keep_job_context = None
        if self._abandon_on_cancel:
            keep_job_context = run_of(self).keep_current_job()
        with (
            anyio.CancelScope()  # dense: the scope of few threads costs 57 calls
            if self._abandon_on_cancel
            else contextlib.nullcontext() as scope
        ):
            try:
                value = await anyio.to_thread.run_sync(
                    self._call_in_thread,
                    call_of(self),
                    call,
                    keep_job_context,
                    abandon_on_cancel=self._abandon_on_cancel,
                    limiter=anyio.CapacityLimiter(math.inf),
                )
            except Exception:
                await anyio.lowlevel.checkpoint_if_cancelled()
                raise
            except BaseException:
                if not call.cancel() and call.running():
                    if scope is not None:
                        # On asyncio, for `check_cancelled` in the thread:
                        # https://github.com/agronholm/anyio/blob/4.16.0/src/anyio/_backends/_asyncio.py#L2782.
                        scope.cancel()
                        raise
                    # Only asyncio comes here: its native `cancel()` ignores shields.
                    await event_at_end(call).outlast()
                    if interruption := call.exception():
                        # Not dropped: a SystemExit of the function.
                        raise interruption from None
                raise
        # The wait for the thread was shielded. A cancellation that arrived meanwhile takes precedence over the value.
        await anyio.lowlevel.checkpoint_if_cancelled()
        return value

    def _call_in_thread(
        self,
        function: Callable[[], T],
        call: Future[None],
        keep_job_context: Callable[[], object] | None,
    ) -> T:
        """Call the function. This method runs in the thread."""
        if not call.set_running_or_notify_cancel():
            raise RuntimeError(
                "cancelled before it began; no job waits for this result"
            )
        try:
            if keep_job_context is not None:
                keep_job_context()
            value: Any = function()
            if type(value) is CoroutineType:
                value.close()
                raise TypeError(
                    f"{self.label!r}: its function returned a coroutine, which a thread cannot run; use Job instead"
                )
            return cast(T, value)
        except BaseException as error:
            if not isinstance(error, Exception):
                call.set_exception(error)
            raise
        finally:
            if not call.done():
                call.set_result(None)
