"""`ProcessJob`: a Python function in a worker process, as a job. The option `processes=` names the caller."""

from __future__ import annotations

import concurrent.futures
import contextvars
import functools
import io
import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from typing import (
    Any,
    ClassVar,
    Final,
    Literal,
    TypeAlias,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from ... import _posix as posix
from ... import abc
from ..._core.base._text_forms import short_repr
from ..._core.job._argument_types import (
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
from ..._core.job._job_options import declare_run_resource
from ..._core.job._option_descriptors import Argument, set_run_need
from ..._core.run._current import propagated_env
from ..._core.words import _job_queries
from .. import _sent_calls
from .._sent_calls import MainRejectingPickler, make_picklable, unpicklable_error
from ..posix import _cpus, _processes
from ..posix._files import event_at_end
from . import _worker_main
from ._worker_pool import (
    EXIT_TIMEOUT,
    WorkerDied,
    WorkerPool,
    WorkerProcess,
    is_main_imported,
)

D = TypeVar("D")

MIN_LOADING_SECONDS: Final = 0.01
"""If a worker loads a call for longer, in seconds, the job has waited for it. It has imported a module, most often."""
# An executor of Python 3.14, which is a ThreadPoolExecutor, too:
# https://docs.python.org/3/library/concurrent.futures.html#concurrent.futures.InterpreterPoolExecutor.
INTERPRETER_POOL: Final = "InterpreterPoolExecutor"


class ProcessOptions(abc.JobOptions, total=False):
    """The keyword options of a `ProcessJob`, with the options of every job."""

    memory_limit: int | str | None
    nice: int | None
    processes: JobProcesses


class ProcessJob(
    abc.FunctionJob[T],
    box=abc.BoxStyle("process", "component"),
    calls_in="a separate process",
    keeps_time=True,
    cannot_be_interrupted=(
        "a call made by the executor or cluster of processes= cannot be interrupted; "
        "a worker process on this machine is killed"
    ),
):
    """A Python function with its arguments, called in a worker process on this machine, by an executor or on a cluster.

    Use it for functions that compute, that may crash, or that a timeout has to end.

    `Scheduler(processes=...)` chooses the maker of the calls, also in nested schedulers: worker processes on this
    machine (the default), an executor of `concurrent.futures` or a compatible executor, or a `trioflow.dask.Cluster`.
    The option `processes` of the job itself takes precedence.

    **On this machine**, a run has at most one worker process for each CPU, or `Scheduler(processes=N)`. A job that
    waits for a worker process is SCHEDULED. The process and its whole process group are killed when the job is
    cancelled or times out. Otherwise the process is reused for other jobs of the run and ends with the run, so a
    function may see what an earlier call has changed in its module. Each process is a new interpreter. The function,
    its arguments and its result are pickled. The worker must be able to import the function by its name. The worker
    imports this program's main module under another name, so code that must run only once belongs below `if __name__ ==
    "__main__":`. In the worker, `current_job()` is not this job, but an object that can report its `progress`, up to a
    hundred times a second.

    If the function raises an exception, the job raises an exception with the same type, arguments and attributes. A
    note names the parts that were lost because they cannot be pickled. If the type cannot be imported by name, the
    exception becomes a RuntimeError with the name of the type and the text of the exception.

    **In an executor**, a running call cannot be cancelled, and a pool of processes counts some queued calls as running.
    In these cases a job that is cancelled or times out keeps its slot until the call has ended, if threads or processes
    of this machine make it. Any other engine may have lost the call: the job settles at once, and the call goes on. If
    a `ProcessPoolExecutor` is broken, e.g. because a process of it was killed, all its further calls fail. The caller
    shuts the executor down.

    Args:
        function: a plain function, defined at the top level of a module.
        args: positional arguments of the call. Jobs among them are replaced by their results, see `Job`.
        kwargs: keyword arguments of the call. Jobs among them are replaced, too.
        memory_limit: the maximum address space, in bytes or as "2 GiB", of the process during the call, and of each
            process that it starts (RLIMIT_AS). Above this limit, the function gets a MemoryError. Python itself and
            imported modules may need a few hundred million bytes.
        nice: the number to add to this program's niceness, up to 19. Only root may give less than 0. A process with a
            changed niceness serves only jobs with the same `nice`.
        processes: the executor or the cluster that makes this call, or "local" for a worker process on this machine,
            or None for the scheduler's option.
        options: the options of every job. See `AbstractJob`. A timeout counts from the call, when a worker is ready.
            Starting the first worker of a run takes about 100 ms, plus the time to import the main module. In a
            `ThreadPoolExecutor`, a timeout counts from the start of the call, and in other executors and on a cluster,
            which do not report it, from the submission.

    Raises:
        TypeError: the function is async (use `Job` for those) or not callable, or `processes` has a wrong type. When
            the job runs: a value cannot be pickled, which the error names.
        ValueError: an option is out of its range. Before a run: the job has a `memory_limit` or a `nice`, but its call
            is not made by a worker process on this machine.
        RuntimeError: when the job runs: the process has died, the function called sys.exit(), or the executor is shut
            down.
        BrokenExecutor: when the job runs: the executor has broken.
        OSError: when the job runs: no more processes or descriptors are allowed, or `nice` is below 0 and this program
            does not run as root.

    Example:
        >>> job = ProcessJob(sum, [1, 2, 3])
        >>> Scheduler(job).run()
        True
        >>> job.result()
        6

    """

    __slots__ = ("_called_attempt", "_memory_limit", "_nice", "_pid", "_processes")
    _has_status_text: ClassVar[bool] = True

    # With these overloads, type checkers compare up to three arguments with the function's parameters. Each argument is
    # a value or a job with such a value as its result.
    @overload
    def __init__(
        self,
        function: type[T],
        /,
        *args: object,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[ProcessOptions],
    ) -> None: ...
    @overload
    def __init__(
        self, function: Callable[[], T], /, **options: Unpack[ProcessOptions]
    ) -> None: ...
    @overload
    def __init__(
        self,
        function: Callable[[Iterable[Any]], T],
        a: Iterable[Any] | JobOf[Any],
        /,
        **options: Unpack[ProcessOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        function: PlainFunction1[A, T],
        a: ValueOrJob[A],
        /,
        **options: Unpack[ProcessOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        function: PlainFunction2[A, B, T],
        a: ValueOrJob[A],
        b: ValueOrJob[B],
        /,
        **options: Unpack[ProcessOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        function: PlainFunction3[A, B, C, T],
        a: ValueOrJob[A],
        b: ValueOrJob[B],
        c: ValueOrJob[C],
        /,
        **options: Unpack[ProcessOptions],
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
        **options: Unpack[ProcessOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        function: Callable[..., T],
        /,
        *args: object,
        kwargs: Mapping[str, Any],
        **options: Unpack[ProcessOptions],
    ) -> None: ...
    def __init__(
        self,
        function: Callable[..., T],
        /,
        *args: object,
        kwargs: Mapping[str, Any] | None = None,
        memory_limit: int | str | None = None,
        nice: int | None = None,
        processes: JobProcesses = None,
        **options: Unpack[abc.JobOptions],
    ) -> None:
        name = repr(options.get("label") or abc.name_of(function))
        checked = check_processes(processes, f"processes of {name}")
        if isinstance(checked, int):
            raise TypeError(
                f"processes of {name} is {checked}: a number is for all jobs of a scheduler; write Scheduler(processes="
                f"{checked}), or give the job {LOCAL_PROCESSES!r}, an executor, or a trioflow.dask.Cluster"
            )
        self._processes: Final = checked
        self._memory_limit: Final = _processes.check_limits(nice, memory_limit, name)
        self._nice: Final = nice
        self._pid: int | None = None
        # The number of the last attempt for which a worker process was found, as `begun_attempts` counts.
        self._called_attempt = 0
        super().__init__(function, args, kwargs, options)

    @property
    def pid(self) -> int | None:
        """The id of the job's process while the job runs, or None before and afterwards."""
        return self._pid

    processes: Argument[JobProcesses] = Argument()

    def status_text(self) -> str:
        """Name the executor of the call, if that is no worker process on this machine: it may have lost the call."""
        executor = find_executor(self)
        if executor is None:
            return ""
        return f"called by {type(executor).__name__}"

    def check_before_run(self) -> None:
        """Declare whether the job needs a worker process on this machine, and reject options that would have no effect.

        Raises:
            ValueError: `memory_limit` or `nice` was given, but an executor or a cluster makes the call.
            NotImplementedError: a worker process on this machine should make the call, but this is not a POSIX system.

        """
        executor = find_executor(self)
        if executor is None:
            posix.require(
                f"{self.label!r}, a ProcessJob without processes=,",
                posix.WORKER_PROCESSES_HINT,
            )
        needs_worker = executor is None and not self.forever
        set_run_need(self, WORKER_PROCESSES_RESOURCE, int(needs_worker))
        option_value = ""
        if self._nice is not None:
            option_value = f"nice={self._nice}"
        if self._memory_limit is not None:
            option_value = f"memory_limit={self._memory_limit}"
        if option_value and executor is not None:
            raise ValueError(
                f"{self.label!r} has {option_value}, which only worker processes on this machine can apply, but "
                f"processes= is {executor!r}: leave it out, or give the job processes={LOCAL_PROCESSES!r}"
            )

    @overload
    def result(self) -> T: ...
    @overload
    def result(self, *, default: D) -> T | D: ...
    def result(self, **options: object) -> Any:
        """Return the result of the job, or raise an exception if it has none, like `AbstractJob.result`.

        A value kept on a cluster is transferred on each call.

        Args:
            options: `default=`, the value to return if the job has no result.

        Raises:
            BaseException: any exception that `AbstractJob.result` raises.
            RuntimeError: the value was kept on a cluster that no longer has it.

        """
        value = super().result(**options)
        if isinstance(value, RemoteValue):
            return value.fetch(self.label)
        return value

    async def co_run(self) -> T:
        """Call the function in a worker process on this machine, or by the executor or cluster in `processes=`.

        Raises:
            Exception: the function raised this exception. A note contains the worker's traceback.
            TypeError: an argument or the result cannot be pickled.
            RuntimeError: the process has died.
            RuntimeError: the function raised SystemExit, KeyboardInterrupt or another BaseException.
            RuntimeError: this method was not called by a run.

        """
        run = abc.run_of(self)
        executor = find_executor(self)
        if executor is None:
            return await self._call_in_worker(run)
        if isinstance(executor, Executor):
            return await call_in_executor(executor, self)
        return cast(T, await executor.make_call(self))

    async def _call_in_worker(self, run: abc.RunHandle) -> T:
        request = self._pickle_call()
        pool = run.shared(WorkerPool)
        # The attribute may have the number of an attempt in an earlier run.
        self._called_attempt = 0
        try:
            process = await pool.take_worker(self)
        except WorkerDied as error:
            raise RuntimeError(f"{self.label!r}: {error}") from None
        self._called_attempt = _job_queries.begun_attempts(self)
        self._pid = process.pid
        process.assign_job(self)
        since = run.clock()
        try:
            answer = await process.load_call(
                request, self._memory_limit or 0, self._record_progress
            )
            if run.clock() - since > MIN_LOADING_SECONDS:
                run.record_loading(self, since)
            if answer is None:
                answer = await self._receive_answer(run, process)
        except WorkerDied as error:
            exit_description = await process.end(0.0 if str(error) else EXIT_TIMEOUT)
            reason = str(error) or f"its process has died: {exit_description}"
            raise RuntimeError(f"{self.label!r}: {reason}") from None
        except BaseException:
            await process.end()
            raise
        finally:
            self._pid = None
        pool.give_back(process)
        return self._load_answer(answer)

    async def _receive_answer(
        self, run: abc.RunHandle, process: WorkerProcess
    ) -> bytearray:
        """Wait for the answer of a call that is loaded, within the timeouts of this job."""
        with run.time_limit(self, cancels=True) as limit:
            try:
                return await process.receive_answer(self._record_progress)
            except BaseException:
                # If this program was stopped, or its loop was blocked, the call may have ended before the deadline.
                found = None
                if limit.is_over:
                    found = process.poll_answer(self._record_progress)
                if found is None:
                    raise
                return found

    def _record_progress(self, report: bytearray) -> None:
        """Record progress that the function has reported, if this job was started by the run and not by another job."""
        if self.is_running():
            self.progress(pickle.loads(report))

    def _pickle_call(self) -> bytes:
        call = abc.call_of(self)
        make_pickler = pickle.Pickler if is_main_imported() else MainRejectingPickler
        buffer = io.BytesIO()
        try:
            request = (
                make_picklable(call.func),
                call.args,
                call.keywords,
                dict(propagated_env()),
            )
            make_pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(request)
        except Exception as error:
            raise unpicklable_error(call, self, "a process", make_pickler, error)  # noqa: B904 - it has its cause
        return buffer.getvalue()

    def _load_answer(self, answer: bytearray) -> T:
        """Unpickle the answer of a worker, and return the result of the function or raise its exception."""
        try:
            has_returned, value, note = pickle.loads(answer)
            if not has_returned:
                value = _worker_main.rebuild_error(value)
        except Exception as error:
            raise TypeError(
                f"{self.label!r}: its result cannot be unpickled here: {error!r}"
            ) from error
        if has_returned:
            return cast(T, value)
        if note:
            _worker_main.add_note(value, note)
        if self._memory_limit is not None and isinstance(value, MemoryError):
            advice = "raise the limit, or use less memory at a time"
            _worker_main.add_note(
                value, f"{self.label!r} had memory_limit={self._memory_limit}: {advice}"
            )
        if not isinstance(value, Exception):
            raise _exit_elsewhere_error(self, value) from value
        raise value


def _exit_elsewhere_error(
    job: abc.FunctionJob[Any], error: BaseException
) -> RuntimeError:
    """Return the error for a sys.exit() or Ctrl-C in another process, which must not end this program."""
    return RuntimeError(f"{job.label!r}: its function raised {error!r} in its process")


# ---- the call by an executor (PEP 3148) of threads, processes or a cluster


async def call_in_executor(executor: Executor, job: abc.FunctionJob[T]) -> T:
    """Make the call of a job in an executor, and return the result.

    Args:
        executor: the executor.
        job: the job.

    Raises:
        BaseException: the function raised this exception. From another process, only an `Exception`.
        BrokenExecutor: the executor has broken.
        TypeError: an argument or the result cannot be pickled.
        RuntimeError: the executor is shut down, or other code has cancelled the future.

    """
    run = abc.run_of(job)
    started_event = abc.ThreadEvent()
    try:
        future = _submit_call(executor, job, started_event)
    except BrokenExecutor as error:
        raise _add_advice(error, job, executor) from None
    future.add_done_callback(lambda _: started_event.set())
    ended_event = event_at_end(future)
    try:
        await started_event.wait()
        with run.time_limit(job, cancels=True):
            await ended_event.wait()
    except BaseException:
        # A call that goes on uses this machine. Any other engine may have lost the call.
        is_here = isinstance(
            executor, (ThreadPoolExecutor, ProcessPoolExecutor)
        ) or _uses_cloudpickle(executor)
        if not _cancel_call(future, job) and is_here:
            await ended_event.outlast()
        raise
    try:
        return future.result()
    except concurrent.futures.CancelledError:
        if not future.cancelled():
            # The function has raised it.
            raise
        raise RuntimeError(
            f"{job.label!r}: its future was cancelled, but not by the run: check whether the executor was "
            f"shut down or lost its workers"
        ) from None
    except BrokenExecutor as error:
        raise _add_advice(error, job, executor) from None
    except BaseException as error:
        if isinstance(error, Exception) or _calls_in_threads(executor):
            raise
        raise _exit_elsewhere_error(job, error) from error
    finally:
        # Breaks a reference cycle: the future refers to the exception, whose traceback refers to this frame.
        del future


def _cancel_call(future: Future[Any], job: abc.FunctionJob[Any]) -> bool:
    """Ask the executor to cancel a call, and return whether it has. Nothing that the executor raises hides why."""
    try:
        return future.cancel()
    except NotImplementedError:  # such as Parsl's
        return False
    except Exception as error:
        abc.run_of(job).report(
            f"{job.label!r}: its executor could not cancel the call: {error!r}", job
        )
        return False


def _submit_call(
    executor: Executor, job: abc.FunctionJob[T], started_event: abc.ThreadEvent
) -> Future[T]:
    call = abc.call_of(job)
    if job.timeout is job.idle_timeout is None or not _calls_in_threads(executor):
        started_event.set()
    else:
        call = functools.partial(_call_and_report_start, started_event, call)
    if (make_pickler := _executor_pickler(executor)) is not None:
        if not _uses_cloudpickle(executor):
            call = functools.partial(
                make_picklable(call.func), *call.args, **call.keywords
            )
        if (error := _sent_calls.pickling_error(call, make_pickler)) is not None:
            destination = f"a worker of {type(executor).__name__}"
            raise _sent_calls.unpicklable_error(
                call, job, destination, make_pickler, error
            )
    call = _with_propagated_context(call, executor)
    try:
        return executor.submit(call.func, *call.args, **call.keywords)
    except BrokenExecutor:
        raise
    except RuntimeError as error:
        error.add_note(
            f"{job.label!r} could not be submitted: keep its executor open until the run ends"
        )
        raise


def _add_advice(
    error: BrokenExecutor, job: abc.FunctionJob[Any], executor: Executor
) -> BrokenExecutor:
    advice = "run again with a new one"
    if isinstance(executor, ProcessPoolExecutor):
        advice += "; of trioflow's own worker processes (processes=None), one that dies fails its job alone"
    error.add_note(
        f"{job.label!r}: its executor is broken and accepts no more calls; {advice}"
    )
    return error


def _with_propagated_context(
    call: functools.partial[T], executor: Executor
) -> functools.partial[T]:
    """Wrap a call for an executor so that processes started during the call get the job's propagated variables.

    A thread makes the call in a copy of the job's context. Another process sets the variables in its environment during
    the call. If the job carries no variables, the call is returned unchanged.
    """
    variables = dict(propagated_env())
    if not variables:
        return call
    if _calls_in_threads(executor):
        return functools.partial(contextvars.copy_context().run, call)
    if _uses_cloudpickle(executor):
        return functools.partial(
            _sent_calls.wrap_with_variables(call.func, variables),
            *call.args,
            **call.keywords,
        )
    return functools.partial(
        _sent_calls.call_with_variables,
        variables,
        call.func,
        *call.args,
        **call.keywords,
    )


def _call_and_report_start(
    started_event: abc.ThreadEvent, call: functools.partial[T]
) -> T:
    started_event.set()
    return call()


# ---- the sorts of executors


def _calls_in_threads(executor: Executor) -> bool:
    """Return whether an executor makes calls in threads of this interpreter, which share its objects."""
    return isinstance(executor, ThreadPoolExecutor) and not is_made_by(
        executor, INTERPRETER_POOL
    )


def _uses_cloudpickle(executor: Executor) -> bool:
    """Return whether an executor is loky's, whose cloudpickle can also pickle lambdas and local functions."""
    # joblib has a copy of loky: https://github.com/joblib/joblib/tree/1.4.2/joblib/externals/loky.
    return is_made_by(executor, "loky", "joblib")


def _executor_pickler(executor: Executor) -> _sent_calls.PicklerFactory | None:
    """Return the pickler that an executor uses, or None if it does not pickle or its pickler is unknown."""
    if isinstance(executor, ProcessPoolExecutor):
        from multiprocessing.reduction import ForkingPickler

        return cast(_sent_calls.PicklerFactory, ForkingPickler)
    if is_made_by(executor, INTERPRETER_POOL, "mpi4py"):
        return pickle.Pickler
    if _uses_cloudpickle(executor):
        return _sent_calls.cloudpickle_pickler()
    return None


# ---- the option `processes=`

JobProcesses: TypeAlias = "Executor | JobExecutor | Literal['local'] | None"
ProcessesOption: TypeAlias = "JobProcesses | int"

LOCAL_PROCESSES: Final = "local"
"""The value that selects worker processes on this machine, even if an enclosing scheduler uses an executor."""
WORKER_PROCESSES_RESOURCE: Final = "worker processes"
"""The name of the resource that a ProcessJob needs if its call runs in a worker process on this machine."""


declare_run_resource(
    WORKER_PROCESSES_RESOURCE, _cpus.count_usable_cpus, "starting a worker process",
    lambda job: abc.run_of(job).shared(WorkerPool),
)  # fmt: skip


class JobExecutor(ABC):
    """The interface of objects other than an `Executor` that make the calls of ProcessJobs, such as a Dask cluster."""

    @abstractmethod
    async def make_call(self, job: abc.FunctionJob[Any]) -> Any:
        """Make the call of a job, and return its value or a `RemoteValue`. `ProcessJob.co_run` calls this method."""


class RemoteValue(ABC):
    """The interface of a job's result that is kept where it was computed, such as on a Dask cluster."""

    @abstractmethod
    def fetch(self, label: str) -> Any:
        """Transfer the value to this program, and return it. This may block for a long time.

        Args:
            label: the label of the job, for error messages.

        """


def check_processes(value: object, subject: str) -> ProcessesOption:
    """Check a value of `processes=`, and return it.

    Args:
        value: the value.
        subject: the name of the option and of its owner, for error messages.

    Raises:
        TypeError: the value is neither an executor, a cluster, a number, "local", nor None.
        ValueError: the value is a number below 1.

    """
    if is_made_by(value, "distributed") or hasattr(
        cast(Any, type(value)), "get_executor"
    ):
        raise TypeError(
            f"{subject} is {short_repr(value)}: write trioflow.dask.Cluster(client), with a distributed.Client; "
            f"its get_executor() makes equal calls once, also those of a retry"
        )
    if value is None or isinstance(value, (Executor, JobExecutor)):
        return value
    if type(value) is str and value == LOCAL_PROCESSES:
        return value  # type: ignore[return-value]
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 1:
            raise ValueError(
                f"{subject} is {value}: give 1 or more worker processes, or leave it out for one per CPU"
            )
        return value
    raise TypeError(
        f"{subject} is {short_repr(value)}: give an executor (concurrent.futures.Executor), a "
        f"trioflow.dask.Cluster, a number of worker processes, {LOCAL_PROCESSES!r}, or None"
    )


def is_made_by(value: object, *names: str) -> bool:
    """Return whether a class of a value has one of these names, or is from a package of this name."""
    return any(
        cls.__name__ in names or cls.__module__.partition(".")[0] in names
        for cls in type(value).__mro__
    )


def find_executor(job: abc.AbstractJob[Any]) -> Executor | JobExecutor | None:
    """Return the executor or cluster that makes a ProcessJob's call, or None if a worker on this machine makes it."""
    for owner in (job, *abc.enclosing_schedulers(job)):
        value: Any = getattr(owner, "processes", None)
        if value is not None:
            return None if value == LOCAL_PROCESSES or isinstance(value, int) else value
    return None
