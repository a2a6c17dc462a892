"""`ExecutorJob`: a plain function, called by an executor (PEP 3148) of threads, processes or a cluster, as a job."""

from __future__ import annotations

import concurrent.futures
import contextvars
import functools
import pickle
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, Unpack, cast, overload

import anyio.to_thread

from ..abc import BoxStyle, FunctionJob, JobOptions, RunHandle, ThreadEvent, call_of, propagated_env, run_of, short_repr
from . import T, _pickling
from ._env_propagation import call_with_variables, wrap_with_variables

if TYPE_CHECKING:
    from .._core.api.typed import (
        A,
        B,
        C,
        IterableFunction,
        JobOf,
        PlainFunction1,
        PlainFunction2,
        PlainFunction3,
        ValueOrJob,
    )

ExecutorOrFactory = concurrent.futures.Executor | Callable[[], concurrent.futures.Executor]


class ExecutorJob(
    FunctionJob[T],
    box=BoxStyle("call by an executor", "tab"),
    calls_in="an executor",
    keeps_time=True,
    cannot_be_interrupted="a call by an executor cannot be interrupted; a ProcessJob can be killed",
):
    """A plain function with its arguments, called by an executor of `concurrent.futures` or a compatible one.

    Any executor works: the standard ones for threads, processes and interpreters, those of loky and mpi4py, and Dask's
    `client.get_executor()`, which runs jobs on a cluster. If an executor is given, the caller must shut it down. If a
    function that makes an executor is given, it is called once per run. All jobs of the run with the same function
    share the executor, which is shut down at the end of the run.

    If an executor breaks, e.g. because one of its processes was killed, its calls fail; `retry=1` runs them again. A
    broken `ProcessPoolExecutor`, or a broken executor that was made by a function, is replaced for the rest of the run.

    When the job is cancelled or times out, it cancels the call. A running call cannot be cancelled, and a pool of
    processes counts some queued calls as running. In these cases the job keeps its slot until the call has ended. The
    result or exception of the call is dropped, and the job is CANCELLED, or FAILED with `JobTimeout`.

    Args:
        executor: the executor, or a function without arguments that makes one.
        function: a plain function. If the executor pickles it, the function must be at the top level of a module.
        args: positional arguments of the call; jobs among them are replaced by their results, see `Job`.
        kwargs: keyword arguments of the call; jobs among them are replaced, too.
        options: the options of every job; see `AbstractJob`. With a `ThreadPoolExecutor`, a timeout counts from the
            start of the call, without the time in the queue of the executor. Other executors do not report when a call
            starts, so the timeout counts from the submission.

    Raises:
        TypeError: `executor` is not an executor, or the function is async or not callable. When the job runs: a value
            cannot be pickled, which the error names.
        ValueError: an option is out of its range.
        RuntimeError: when the job runs: the executor is shut down, or its futures were cancelled by others.
        BrokenExecutor: when the job runs: the executor has broken.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> with ThreadPoolExecutor(2) as executor:
        ...     job = ExecutorJob(executor, pow, 2, 10)
        ...     done = Scheduler(job).run()
        >>> done, job.result()
        (True, 1024)

    """

    __slots__ = ("_executor",)

    # With these overloads, type checkers compare up to three arguments with the function's parameters. Each argument is
    # a value or a job with such a value as its result.
    @overload
    def __init__(
        self,
        executor: ExecutorOrFactory,
        function: type[T],
        /,
        *args: Any,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self, executor: ExecutorOrFactory, function: Callable[[], T], /, **options: Unpack[JobOptions]
    ) -> None: ...
    @overload
    def __init__(
        self,
        executor: ExecutorOrFactory,
        function: IterableFunction[T],
        a: Iterable[Any] | JobOf[Any],
        /,
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        executor: ExecutorOrFactory,
        function: PlainFunction1[A, T],
        a: ValueOrJob[A],
        /,
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        executor: ExecutorOrFactory,
        function: PlainFunction2[A, B, T],
        a: ValueOrJob[A],
        b: ValueOrJob[B],
        /,
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        executor: ExecutorOrFactory,
        function: PlainFunction3[A, B, C, T],
        a: ValueOrJob[A],
        b: ValueOrJob[B],
        c: ValueOrJob[C],
        /,
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        executor: ExecutorOrFactory,
        function: Callable[..., T],
        a: Any,
        b: Any,
        c: Any,
        d: Any,
        /,
        *args: Any,
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        executor: ExecutorOrFactory,
        function: Callable[..., T],
        /,
        *args: Any,
        kwargs: Mapping[str, Any],
        **options: Unpack[JobOptions],
    ) -> None: ...
    def __init__(
        self,
        executor: ExecutorOrFactory,
        function: Callable[..., T],
        /,
        *args: Any,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[JobOptions],
    ) -> None:
        _check_executor_argument(executor)
        self._executor: Final = executor
        super().__init__(function, args, kwargs, options)

    async def co_run(self) -> T:
        """Submit the call, and wait until it has ended.

        Raises:
            BaseException: the function raised this exception.
            BrokenExecutor: the executor has broken.
            TypeError: an argument or the result cannot be pickled.
            RuntimeError: the executor is shut down, or this method was not called by a run.

        """
        return await call_in_executor(self._executor, self)


async def call_in_executor(source: ExecutorOrFactory, job: FunctionJob[T]) -> T:
    """Make the call of an `ExecutorJob` or a `ProcessJob` in an executor, and return the result.

    Args:
        source: the executor, or a function that makes one for all jobs of the run.
        job: the job.

    Raises:
        BaseException: any exception that `ExecutorJob.co_run` raises.

    """
    run, started_event, ended_event = run_of(job), ThreadEvent(), ThreadEvent()
    try:
        future = _submit_call(run.shared(RunExecutors), source, job, started_event)
    except BrokenExecutor as error:
        raise _add_advice(error, job, source) from None

    def mark_ended(_: object) -> None:
        started_event.set()
        ended_event.set()

    future.add_done_callback(mark_ended)
    try:
        await started_event.wait()
        with run.time_limit(job, cancels=True):
            await ended_event.wait()
    except BaseException:
        if not future.cancel():
            await ended_event.outlast()
        raise
    try:
        return future.result()
    except concurrent.futures.CancelledError:
        raise RuntimeError(
            f"{job.label!r}: its future was cancelled, but not by the run: check whether the executor was "
            f"shut down or lost its workers"
        ) from None
    except BrokenExecutor as error:
        raise _add_advice(error, job, source) from None
    finally:
        del future  # breaks a reference cycle: the future refers to the exception, whose traceback refers to this frame


def _submit_call(
    executors: RunExecutors, source: ExecutorOrFactory, job: FunctionJob[T], started_event: ThreadEvent
) -> Future[T]:
    executor = executors.find_or_create(source)
    call = call_of(job)
    if job.timeout is job.idle_timeout is None or not isinstance(executor, ThreadPoolExecutor):
        started_event.set()
    else:
        call = functools.partial(_call_and_report_start, started_event, call)
    make_pickler = _executor_pickler(executor)
    if make_pickler is not None:
        if not _uses_cloudpickle(executor):
            call = functools.partial(_pickling.make_picklable(call.func), *call.args, **call.keywords)
        _pickling.check_picklable(call, job, f"a worker of {type(executor).__name__}", make_pickler)
    call = _with_propagated_context(call, executor)
    try:
        return executor.submit(call.func, *call.args, **call.keywords)
    except BrokenExecutor:
        if not _is_replaceable(source):
            raise
    except RuntimeError as error:
        error.add_note(f"{job.label!r} could not be submitted: keep its executor open until the run ends")
        raise
    return executors.replace_broken(source).submit(call.func, *call.args, **call.keywords)


def _is_replaceable(source: ExecutorOrFactory) -> bool:
    """Return whether a broken executor can be replaced by an equivalent one."""
    return not isinstance(source, concurrent.futures.Executor) or type(source) is concurrent.futures.ProcessPoolExecutor


def _add_advice(error: BrokenExecutor, job: FunctionJob[Any], source: ExecutorOrFactory) -> BrokenExecutor:
    advice = "with retry=1, the job runs in a new one"
    if not _is_replaceable(source):
        advice = "to have it replaced, give a function that creates one"
    error.add_note(f"{job.label!r}: its executor is broken and accepts no more calls; {advice}")
    return error


def _with_propagated_context(call: functools.partial[T], executor: concurrent.futures.Executor) -> functools.partial[T]:
    """Wrap a call for an executor so that processes started during the call get the job's propagated variables.

    A thread makes the call in a copy of the job's context. Another process sets the variables in its environment during
    the call. If the job carries no variables, the call is returned unchanged.
    """
    variables = dict(propagated_env())
    if not variables:
        return call
    if isinstance(executor, ThreadPoolExecutor):
        return functools.partial(contextvars.copy_context().run, call)
    if _uses_cloudpickle(executor):
        return functools.partial(wrap_with_variables(call.func, variables), *call.args, **call.keywords)
    return functools.partial(call_with_variables, variables, call.func, *call.args, **call.keywords)


def _call_and_report_start(started_event: ThreadEvent, call: functools.partial[T]) -> T:
    started_event.set()
    return call()


class RunExecutors:
    """The executors that an outermost run has created, with user-supplied functions or to replace broken ones."""

    def __init__(self, run: RunHandle) -> None:
        self._executors: Final[dict[ExecutorOrFactory, concurrent.futures.Executor]] = {}
        self._broken_executors: Final[list[concurrent.futures.Executor]] = []

    def find_or_create(self, source: ExecutorOrFactory) -> concurrent.futures.Executor:
        """Return the executor for a job's argument `executor`. If `source` is a function, it is called once per run."""
        executor = self._executors.get(source)
        if executor is None:
            if isinstance(source, concurrent.futures.Executor):
                return source
            executor = self._executors[source] = _make_executor(source)
        return executor

    def replace_broken(self, source: ExecutorOrFactory) -> concurrent.futures.Executor:
        broken_executor = self._executors.pop(source, None)
        if broken_executor is not None:
            self._broken_executors.append(broken_executor)
        replacement = (
            _recreate_process_pool(source)
            if isinstance(source, concurrent.futures.Executor)
            else _make_executor(source)
        )
        self._executors[source] = replacement
        return replacement

    async def close(self) -> None:
        for executor in (*self._executors.values(), *self._broken_executors):
            await anyio.to_thread.run_sync(_shut_down, executor, abandon_on_cancel=True)


def _shut_down(executor: concurrent.futures.Executor) -> None:
    try:
        executor.shutdown(wait=True, cancel_futures=True)
    except TypeError:  # some executors, such as loky's, have no cancel_futures
        executor.shutdown(wait=True)


def _make_executor(factory: Any) -> concurrent.futures.Executor:
    executor = factory()
    if not isinstance(executor, concurrent.futures.Executor):
        shown_value = short_repr(executor)
        raise TypeError(f"ExecutorJob: {short_repr(factory)} must return an executor, but returned {shown_value}")
    return executor


def _recreate_process_pool(executor: Any) -> concurrent.futures.Executor:
    return concurrent.futures.ProcessPoolExecutor(
        executor._max_workers, executor._mp_context, executor._initializer, executor._initargs
    )


def _check_executor_argument(executor: Any) -> None:
    if isinstance(executor, concurrent.futures.Executor):
        return
    if hasattr(executor, "get_executor"):
        raise TypeError(f"ExecutorJob({type(executor).__name__}): give its get_executor(), or use DaskJob")
    if not callable(executor):
        raise TypeError(f"ExecutorJob({short_repr(executor)}): give an executor, or a function that creates one")


def _uses_cloudpickle(executor: concurrent.futures.Executor) -> bool:
    """Return whether an executor uses cloudpickle, which can also pickle lambdas and local functions."""
    return type(executor).__module__.startswith(("distributed", "loky"))


def _executor_pickler(executor: concurrent.futures.Executor) -> _pickling.PicklerFactory | None:
    """Return the pickler that an executor uses, or None if it does not pickle or its pickler is unknown."""
    if isinstance(executor, concurrent.futures.ProcessPoolExecutor):
        from multiprocessing.reduction import ForkingPickler

        return cast(_pickling.PicklerFactory, ForkingPickler)
    if type(executor).__name__ == "InterpreterPoolExecutor" or type(executor).__module__.startswith("mpi4py"):
        return pickle.Pickler
    if _uses_cloudpickle(executor):
        return _pickling.cloudpickle_pickler()
    return None
