"""`ProcessJob`: a Python function in a worker process, as a job."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, Final, TypeVar, Unpack, cast, overload

from ... import _posix as posix
from ...abc import BoxStyle, FunctionJob, JobOptions, call_of, carried, name_of, need_of_run, run_of
from .. import T
from .._executor import call_in
from .._pickling import MainRejectingPickler, describe_unpicklable, make_sendable
from ..posix._processes import check_limits
from . import _worker_main
from ._call_places import LOCAL, WORKERS, RemoteValue, call_place_of
from ._worker_pool import WorkerDied, WorkerPool, has_main_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..._core.api.typed import (
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
    from ...abc import RunHandle

D = TypeVar("D")

EXIT_PATIENCE: Final = 1.0
"""Seconds that a worker which has closed its socket gets to exit by itself, before it is killed."""


class ProcessOptions(JobOptions, total=False):
    """The keyword options of a `ProcessJob`, with those of every job."""

    memory_limit: int | None
    nice: int | None


class ProcessJob(
    FunctionJob[T],
    box=BoxStyle("process", "component", place=4),
    calls_in="a process of its own",
    keeps_time=True,
    cannot_be_interrupted="what processes= has taken cannot be interrupted; a worker process of this machine is killed",
):
    """A Python function with its arguments, called in a worker process of this machine or by the scheduler's executor.

    `Scheduler(processes=...)` chooses the place, for nested schedulers too: an executor, as for an `ExecutorJob`, or a
    `trioflow.dask.Cluster`. The following applies to the default, worker processes of this machine.

    A run has at most one worker process for each CPU, or `processes=N`; a job that waits for one is SCHEDULED. The
    process and its whole process group are killed when the job is cancelled or its time is over. Otherwise the process
    is reused for other jobs of the run and ends with the run, so a function may see what an earlier one has changed
    in its module. On Linux, one new interpreter for each run, the server, forks the processes; elsewhere each is a new
    interpreter. The function, its arguments and its result are pickled. The worker must be able to import the function
    by its name. It imports this program's main module under another name, so code that must run only once belongs below
    `if __name__ == "__main__":`. The server imports only the modules that the program has named by
    `multiprocessing.set_forkserver_preload`. In the worker, `current_job()` is not this job, but an object that can
    report its `progress`, up to a hundred times a second.

    An exception of the function arrives with its type, its arguments and its attributes, except those that cannot be
    pickled, which a note names. If its type cannot be imported by name, it becomes a RuntimeError with its name and
    text.

    Args:
        function: a plain function, defined at the top level of a module.
        args: positional arguments of the call; jobs among them are replaced by their results, see `Job`.
        kwargs: keyword arguments of the call; jobs among them are replaced, too.
        memory_limit: bytes of address space for the process during the call, and for each process that it starts
            (RLIMIT_AS); beyond it, the function gets a MemoryError. Python itself and imported modules need some
            hundred million bytes.
        nice: the decrease of its process's priority from this program's, up to 19; only root may give less than 0. Such
            a process serves only jobs with the same `nice`.
        options: the options of every job; see `AbstractJob`. A timeout counts from the start of the job, which may have
            to start a process first. The first one of a run takes some 100 ms, plus the time to import the main module.
            In an executor it counts as for an `ExecutorJob`, and on a cluster as for a `DaskJob`.

    Raises:
        TypeError: an async function (`Job` runs those), or something that is not callable; when the job runs, a value
            that cannot be pickled, which the error names.
        ValueError: an option out of its range; before a run, a `memory_limit` or `nice` where `processes` is not this
            machine.
        RuntimeError: when the job runs, the process has died, or the function called sys.exit().
        OSError: when the job runs, no more processes or descriptors are allowed, or a `nice` below 0.

    Example:
        >>> job = ProcessJob(sum, [1, 2, 3])
        >>> Scheduler(job).run()
        True
        >>> job.result()
        6

    """

    __slots__ = ("_memory_limit", "_nice", "_process")

    # Type checkers compare up to three arguments with the function's parameters; a job may be given for a value.
    @overload
    def __init__(
        self,
        function: type[T],
        /,
        *args: Any,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[ProcessOptions],
    ) -> None: ...
    @overload
    def __init__(self, function: Callable[[], T], /, **options: Unpack[ProcessOptions]) -> None: ...
    @overload
    def __init__(
        self, function: TakesIterable[T], a: Iterable[Any] | GivenJob[Any], /, **options: Unpack[ProcessOptions]
    ) -> None: ...
    @overload
    def __init__(self, function: PlainFunction1[A, T], a: Given[A], /, **options: Unpack[ProcessOptions]) -> None: ...
    @overload
    def __init__(
        self, function: PlainFunction2[A, B, T], a: Given[A], b: Given[B], /, **options: Unpack[ProcessOptions]
    ) -> None: ...
    @overload
    def __init__(
        self,
        function: PlainFunction3[A, B, C, T],
        a: Given[A],
        b: Given[B],
        c: Given[C],
        /,
        **options: Unpack[ProcessOptions],
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
        **options: Unpack[ProcessOptions],
    ) -> None: ...
    @overload
    def __init__(
        self, function: Callable[..., T], /, *args: Any, kwargs: Mapping[str, Any], **options: Unpack[ProcessOptions]
    ) -> None: ...
    def __init__(
        self,
        function: Callable[..., T],
        /,
        *args: Any,
        kwargs: Mapping[str, Any] | None = None,
        memory_limit: int | None = None,
        nice: int | None = None,
        **options: Unpack[JobOptions],
    ) -> None:
        check_limits(nice, memory_limit, repr(options.get("label") or name_of(function)))
        self._memory_limit: Final = memory_limit
        self._nice: Final = nice
        self._process: int | None = None
        super().__init__(function, args, kwargs, options)

    @property
    def pid(self) -> int | None:
        """The id of its process while it runs; None before and afterwards."""
        return self._process

    def check_before_run(self) -> None:
        """Claim a worker process of this machine; or reject options that another place cannot apply.

        Raises:
            ValueError: `memory_limit` or `nice` was given.
            NotImplementedError: this machine's worker processes need a POSIX system.

        """
        place = call_place_of(self)
        if place is None:
            posix.require(f"{self.label!r}, a ProcessJob without processes=,", posix.WORKERS_ALTERNATIVE)
        need_of_run(self, WORKERS, 0 if self.forever or place is not None else 1)
        limit = f"memory_limit={self._memory_limit}" if self._memory_limit is not None else f"nice={self._nice}"
        if (self._memory_limit is not None or self._nice is not None) and place is not None:
            raise ValueError(
                f"{self.label!r} has {limit}, which only worker processes of this machine can apply, and processes= is "
                f"{place!r}: leave it out, or put the job into a nested Scheduler(processes={LOCAL!r})"
            )

    @overload
    def result(self) -> T: ...
    @overload
    def result(self, *, default: D) -> T | D: ...
    def result(self, **options: Any) -> Any:
        """Return the result of the job, or raise why it has none, as for every job.

        A value kept on a cluster is transferred at each call.

        Args:
            options: `default=`, to return if the job has no result.

        Raises:
            BaseException: as `AbstractJob.result`.
            RuntimeError: the value was kept on a cluster that no longer has it.

        """
        value = super().result(**options)
        return value.fetch(self.label) if isinstance(value, RemoteValue) else value

    async def co_run(self) -> T:
        """Call the function in a worker process, or at the place that its scheduler's `processes` names.

        Raises:
            Exception: what the function raised, with its traceback in the worker as a note.
            TypeError: something cannot be pickled.
            RuntimeError: the process has died; the function raised SystemExit, KeyboardInterrupt or another
                BaseException there; or this was not called by a run.

        """
        run, place = run_of(self), call_place_of(self)
        if place is None:
            with run.time_limit(self, cancels=True):
                return await self._call_here(run)
        if isinstance(place, Executor):
            return await call_in(place, self)
        return cast(T, await place.call(self))

    async def _call_here(self, run: RunHandle) -> T:
        """Call the function in a worker process of this machine."""
        request = self._request()
        pool = run.shared(WorkerPool)
        process = await pool.take(self._nice or 0)
        self._process = process.pid
        process.begin(self)
        try:
            answer = await process.call(request, self._memory_limit or 0, self._take_progress)
        except WorkerDied:
            how = await process.end(EXIT_PATIENCE)
            raise RuntimeError(f"{self.label!r}: its process has died: {how}") from None
        except BaseException:
            await process.end()
            raise
        finally:
            self._process = None
        pool.park(process)
        return self._unpack(answer)

    def _take_progress(self, report: bytes) -> None:
        """Record progress reported by the function, unless another job has called this one outside the run."""
        if self.is_running():
            self.progress(pickle.loads(report))

    def _request(self) -> bytes:
        """Return the pickled call."""
        call = call_of(self)
        make_pickler, buffer = pickle.Pickler if has_main_file() else MainRejectingPickler, io.BytesIO()
        try:
            request = (make_sendable(call.func), call.args, call.keywords, dict(carried()))
            make_pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(request)
        except Exception as error:
            raise TypeError(
                f"{self.label!r}: {describe_unpicklable(call, 'a process', make_pickler)}: {error}"
            ) from error
        return buffer.getvalue()

    def _unpack(self, answer: bytes) -> T:
        """Return the result of the function, or raise its exception."""
        try:
            has_returned, value, note = pickle.loads(answer)
            if not has_returned:
                value = _worker_main.rebuild(value)
        except Exception as error:
            raise TypeError(f"{self.label!r}: its result cannot be unpickled here: {error!r}") from error
        if has_returned:
            return cast(T, value)
        if note:
            _worker_main.add_note(value, note)
        if self._memory_limit is not None and isinstance(value, MemoryError):
            advice = "give it more, or let its function hold less at once"
            _worker_main.add_note(value, f"{self.label!r} had memory_limit={self._memory_limit}: {advice}")
        if not isinstance(value, Exception):  # sys.exit() or Ctrl-C there must not end this program
            raise RuntimeError(f"{self.label!r}: its function raised {value!r} in its process") from value
        raise value
