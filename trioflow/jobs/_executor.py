"""`ExecutorJob`: a plain function in an executor (PEP 3148), as a job: threads, processes, a cluster."""

from __future__ import annotations

import concurrent.futures
import contextvars
import functools
import pickle
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, Unpack, cast, overload

import anyio.to_thread

from ..abc import BoxStyle, FunctionJob, JobOptions, ThreadEvent, call_of, carried, run_of, short_repr
from . import T, _pickling
from ._env_propagation import call_with_variables, with_variables

if TYPE_CHECKING:
    from collections.abc import Iterable

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
    from ..abc import RunHandle

ExecutorOrMaker = concurrent.futures.Executor | Callable[[], concurrent.futures.Executor]


class ExecutorJob(
    FunctionJob[T],
    box=BoxStyle("call by an executor", "tab", place=3),
    calls_in="an executor",
    keeps_time=True,
    cannot_be_interrupted="a call by an executor cannot be interrupted; a ProcessJob can be killed",
):
    """A plain function with its arguments, called by an executor of `concurrent.futures` or a compatible one.

    Any executor works: those for threads, processes and interpreters, loky's, mpi4py's, and Dask's
    `client.get_executor()`, which runs jobs on a cluster. The caller shuts down an executor that is given. A function
    that makes one is called once a run: all jobs of the run with the same function share the executor, which is shut
    down at the end of the run.

    If an executor breaks (one of its processes was killed), its calls fail; `retry=1` runs them again. A broken
    `ProcessPoolExecutor`, or one that a function has made, is replaced for the rest of the run.

    When the job is cancelled or its time is over, it cancels the call. A running call cannot be cancelled, and a pool
    of processes counts some queued calls as running: the job then keeps its slot until the call has ended. What the
    call returned or raised is dropped, and the job is CANCELLED, or has failed with `JobTimeout`.

    Args:
        executor: the executor, or a function without arguments that makes one.
        function: a plain function; at the top level of a module if the executor pickles it.
        args: positional arguments of the call; jobs among them are replaced by their results, see `Job`.
        kwargs: keyword arguments of the call, jobs among them as well.
        options: the options of every job; see `AbstractJob`. With a `ThreadPoolExecutor` a timeout counts from the
            start of the call: the time in its queue does not count. Other executors do not report when a call starts,
            so the timeout counts from the submission.

    Raises:
        TypeError: no executor, an async function, or something not callable; from the job itself, a value that cannot
            be pickled, which the error names.
        ValueError: an option out of its range.
        RuntimeError: from the job itself: the executor is shut down, or its futures were cancelled by others.
        BrokenExecutor: from the job itself: the executor has broken.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> with ThreadPoolExecutor(2) as executor:
        ...     job = ExecutorJob(executor, pow, 2, 10)
        ...     done = Scheduler(job).run()
        >>> done, job.result()
        (True, 1024)

    """

    __slots__ = ("_executor",)

    # Type checkers compare up to three arguments with the function's parameters; a job may be given for a value.
    @overload
    def __init__(
        self,
        executor: ExecutorOrMaker,
        function: type[T],
        /,
        *args: Any,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self, executor: ExecutorOrMaker, function: Callable[[], T], /, **options: Unpack[JobOptions]
    ) -> None: ...
    @overload
    def __init__(
        self,
        executor: ExecutorOrMaker,
        function: TakesIterable[T],
        a: Iterable[Any] | GivenJob[Any],
        /,
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self, executor: ExecutorOrMaker, function: PlainFunction1[A, T], a: Given[A], /, **options: Unpack[JobOptions]
    ) -> None: ...
    @overload
    def __init__(
        self,
        executor: ExecutorOrMaker,
        function: PlainFunction2[A, B, T],
        a: Given[A],
        b: Given[B],
        /,
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        executor: ExecutorOrMaker,
        function: PlainFunction3[A, B, C, T],
        a: Given[A],
        b: Given[B],
        c: Given[C],
        /,
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        executor: ExecutorOrMaker,
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
        executor: ExecutorOrMaker,
        function: Callable[..., T],
        /,
        *args: Any,
        kwargs: Mapping[str, Any],
        **options: Unpack[JobOptions],
    ) -> None: ...
    def __init__(
        self,
        executor: ExecutorOrMaker,
        function: Callable[..., T],
        /,
        *args: Any,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[JobOptions],
    ) -> None:
        _check_executor(executor)
        self._executor: Final = executor
        super().__init__(function, args, kwargs, options)

    async def co_run(self) -> T:
        """Submit the call, and wait until it has ended.

        Raises:
            BaseException: what the function raised.
            BrokenExecutor: the executor has broken.
            TypeError: something cannot be pickled.
            RuntimeError: the executor is shut down, or this is not called by a run.

        """
        return await call_in(self._executor, self)


async def call_in(source: ExecutorOrMaker, job: FunctionJob[T]) -> T:
    """Have an executor make the call of a job, in its `co_run`, and return the result.

    Args:
        source: the executor, or a function that makes one for all jobs of the run.
        job: the job.

    Raises:
        BaseException: as `ExecutorJob.co_run`.

    """
    run, started, ended = run_of(job), ThreadEvent(), ThreadEvent()
    try:
        future = _submit(run.shared(Executors), source, job, started)
    except BrokenExecutor as error:
        raise _add_advice(error, job, source) from None

    def wake(_: object) -> None:
        started.set()
        ended.set()

    future.add_done_callback(wake)
    try:
        await started.wait()
        with run.time_limit(job, cancels=True):
            await ended.wait()
    except BaseException:
        if not future.cancel():
            await ended.outlast()
        raise
    try:
        return future.result()
    except concurrent.futures.CancelledError:
        raise RuntimeError(
            f"{job.label!r}: its future was cancelled, and not by the run: was the executor shut down, or "
            f"has it lost its workers?"
        ) from None
    except BrokenExecutor as error:
        raise _add_advice(error, job, source) from None
    finally:
        del future  # it has the exception, whose traceback has this frame


def _submit(executors: Executors, source: ExecutorOrMaker, job: FunctionJob[T], started: ThreadEvent) -> Future[T]:
    executor = executors.get(source)
    call = call_of(job)
    if job.timeout is job.idle_timeout is None or not isinstance(executor, ThreadPoolExecutor):
        started.set()
    else:
        call = functools.partial(_call_and_report_start, started, call)
    make_pickler = _pickler_of(executor)
    if make_pickler is not None:
        if not _uses_cloudpickle(executor):
            call = functools.partial(_pickling.make_sendable(call.func), *call.args, **call.keywords)
        _pickling.check_picklable(call, repr(job.label), f"a worker of {type(executor).__name__}", make_pickler)
    call = _with_propagated_context(call, executor)
    try:
        return executor.submit(call.func, *call.args, **call.keywords)
    except BrokenExecutor:
        if not _is_replaceable(source):
            raise
    except RuntimeError as error:
        error.add_note(f"{job.label!r} could not be submitted: its executor must not be shut down before the run")
        raise
    return executors.replace(source).submit(call.func, *call.args, **call.keywords)


def _is_replaceable(source: ExecutorOrMaker) -> bool:
    """Return whether a broken executor can be replaced by an equal one."""
    return not isinstance(source, concurrent.futures.Executor) or type(source) is concurrent.futures.ProcessPoolExecutor


def _add_advice(error: BrokenExecutor, job: FunctionJob[Any], source: ExecutorOrMaker) -> BrokenExecutor:
    advice = "retry=1 runs the job in another one"
    if not _is_replaceable(source):
        advice = "give a function that makes one, and another one is made"
    error.add_note(f"{job.label!r}: its executor has broken, and takes no more calls; {advice}")
    return error


def _with_propagated_context(call: functools.partial[T], executor: concurrent.futures.Executor) -> functools.partial[T]:
    """Wrap a call so that it runs in the job's context (threads) or with its variables set (processes)."""
    variables = dict(carried())
    if not variables:
        return call
    if isinstance(executor, ThreadPoolExecutor):
        return functools.partial(contextvars.copy_context().run, call)
    if _uses_cloudpickle(executor):
        return functools.partial(with_variables(call.func, variables), *call.args, **call.keywords)
    return functools.partial(call_with_variables, variables, call.func, *call.args, **call.keywords)


def _call_and_report_start(started: ThreadEvent, call: functools.partial[T]) -> T:
    """Make a call in a thread of an executor, and report its start."""
    started.set()
    return call()


class Executors:
    """The executors that an outermost run has made: from functions, and as replacements of broken ones."""

    def __init__(self, run: RunHandle) -> None:
        """Begin with none."""
        self._executors: Final[dict[ExecutorOrMaker, concurrent.futures.Executor]] = {}
        self._broken: Final[list[concurrent.futures.Executor]] = []

    def get(self, source: ExecutorOrMaker) -> concurrent.futures.Executor:
        """Return the executor to use for a job's argument."""
        executor = self._executors.get(source)
        if executor is None:
            if isinstance(source, concurrent.futures.Executor):
                return source
            executor = self._executors[source] = _make_executor(source)
        return executor

    def replace(self, source: ExecutorOrMaker) -> concurrent.futures.Executor:
        """Replace a broken executor by a new one."""
        broken = self._executors.pop(source, None)
        if broken is not None:
            self._broken.append(broken)
        maker: Any = source
        new = _copy_process_pool(maker) if isinstance(source, concurrent.futures.Executor) else _make_executor(source)
        self._executors[source] = new
        return new

    async def close(self) -> None:
        """Shut down all of them."""
        for executor in (*self._executors.values(), *self._broken):
            await anyio.to_thread.run_sync(_shut_down, executor, abandon_on_cancel=True)


def _shut_down(executor: concurrent.futures.Executor) -> None:
    try:
        executor.shutdown(wait=True, cancel_futures=True)
    except TypeError:  # older ones, such as loky's, have no cancel_futures
        executor.shutdown(wait=True)


def _make_executor(maker: Any) -> concurrent.futures.Executor:
    made = maker()
    if not isinstance(made, concurrent.futures.Executor):
        raise TypeError(f"ExecutorJob: {short_repr(maker)} was to make an executor, and returned {short_repr(made)}")
    return made


def _copy_process_pool(executor: Any) -> concurrent.futures.Executor:
    """Return a new pool of processes with the settings of another."""
    return concurrent.futures.ProcessPoolExecutor(
        executor._max_workers, executor._mp_context, executor._initializer, executor._initargs
    )


def _check_executor(executor: Any) -> None:
    if isinstance(executor, concurrent.futures.Executor):
        return
    if hasattr(executor, "get_executor"):
        raise TypeError(f"ExecutorJob({type(executor).__name__}): give its get_executor(), or use DaskJob")
    if not callable(executor):
        raise TypeError(f"ExecutorJob({short_repr(executor)}): give an executor, or a function that makes one")


def _uses_cloudpickle(executor: concurrent.futures.Executor) -> bool:
    """Return whether an executor sends functions by cloudpickle, which pickles functions without a name by value."""
    return type(executor).__module__.startswith(("distributed", "loky"))


def _pickler_of(executor: concurrent.futures.Executor) -> _pickling.MakePickler | None:
    """Return the pickler that an executor uses; None if it uses none, or an unknown one."""
    if isinstance(executor, concurrent.futures.ProcessPoolExecutor):
        from multiprocessing.reduction import ForkingPickler

        return cast(_pickling.MakePickler, ForkingPickler)
    if type(executor).__name__ == "InterpreterPoolExecutor" or type(executor).__module__.startswith("mpi4py"):
        return pickle.Pickler
    if _uses_cloudpickle(executor):
        return _pickling.cloudpickle_pickler()
    return None
