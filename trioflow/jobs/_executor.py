"""`ExecutorJob`: a plain function in an executor (PEP 3148), as a job: threads, processes, a cluster."""

from __future__ import annotations

import concurrent.futures
import functools
import pickle
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, Unpack, cast

import anyio.to_thread

from ..abc import FunctionJob, JobOptions, Look, ThreadEvent, call_of, flag, run_of, shown
from . import T, _pickling

if TYPE_CHECKING:
    from ..abc import RunHandle

ExecutorOrMaker = concurrent.futures.Executor | Callable[[], concurrent.futures.Executor]


class ExecutorJob(
    FunctionJob[T],
    look=Look("call by an executor", "tab", place=3),
    calls_in="an executor",
    keeps_time=True,
    cannot_be_interrupted="a call by an executor cannot be interrupted; a ProcessJob can be killed",
):
    """A plain function with its arguments, called by an executor of `concurrent.futures`, or by one that acts like it.

    Any executor will do: those for threads, processes and interpreters, loky's, mpi4py's, and with Dask's
    `client.get_executor()` jobs run on a cluster. The executor stays the caller's, who shuts it down; one that the job
    is to make itself, by a function, serves all jobs of the run with the same function, and is shut down at its end.

    When the job is cancelled or its time is over, it cancels the call. One that runs already cannot be cancelled, and
    a pool of processes counts some calls that wait as running: the job then keeps its slot until the call has ended,
    what it returned or raised is dropped, and the job is CANCELLED, or has failed with `JobTimeout`.

    Args:
        executor: the executor, or a function without arguments that makes one.
        function: a plain function; where the executor pickles it, one at the top level of a module.
        args: positional arguments of the call; jobs among them are filled in, see `Job`.
        kwargs: keyword arguments of the call, jobs among them as well.
        restart_broken: makes a new executor in the place of one that has broken, say because one of its processes was
            killed. What the broken one had taken fails (`retry=1` runs it again), what comes later runs on the new one.
            For a `ProcessPoolExecutor`, or an executor that a function makes.
        options: those of every job; see `AbstractJob`. With threads (a `ThreadPoolExecutor`, a `trioflow.Executor`) a
            timeout counts from the start of the call: the time in their queue does not count. Other executors do not
            tell when a call starts, and so it counts from the submission.

    Raises:
        TypeError: no executor, an async function, something not callable, or `restart_broken` for an executor that
            nobody knows how to make again; from the job itself, something that cannot be pickled, named.
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

    __slots__ = ("_executor", "_restart_broken")

    def __init__(
        self,
        executor: ExecutorOrMaker,
        function: Callable[..., T],
        /,
        *args: Any,
        kwargs: Mapping[str, Any] | None = None,
        restart_broken: bool = False,
        **options: Unpack[JobOptions],
    ) -> None:
        _check_executor(executor, flag(restart_broken, "restart_broken", "ExecutorJob()"))
        self._executor: Final = executor
        self._restart_broken: Final = bool(restart_broken)
        super().__init__(function, args, kwargs, options)

    async def co_run(self) -> T:
        """Submit the call, and wait until it has ended.

        Raises:
            BaseException: what the function raised.
            BrokenExecutor: the executor has broken.
            TypeError: something cannot be pickled.
            RuntimeError: the executor is shut down, or this is not called by a run.

        """
        run, started, ended = run_of(self), ThreadEvent(), ThreadEvent()
        future = self._submit(run, started)

        def wake(_: object) -> None:
            started.set()
            ended.set()

        future.add_done_callback(wake)
        try:
            await started.wait()
            with run.time_limit(self, cancels=True):
                await ended.wait()
        except BaseException:
            if not future.cancel():
                await ended.outlast()
            raise
        return self._outcome_of(future)

    def _submit(self, run: RunHandle, started: ThreadEvent) -> Future[T]:
        executors = run.shared(Executors)
        executor = executors.get(self._executor)
        call = call_of(self)
        if self.timeout is self.idle_timeout is None or not _has_threads(executor):
            started.set()
        else:
            call = functools.partial(_call_and_tell, started, call)
        make_pickler = _pickler_of(executor)
        if make_pickler is not None:
            _pickling.check(call, repr(self.label), f"a worker of {type(executor).__name__}", make_pickler)
        try:
            return executor.submit(call.func, *call.args, **call.keywords)
        except BrokenExecutor as error:
            if not self._restart_broken:
                raise self._with_advice_on_broken(error) from None
        except RuntimeError as error:
            error.add_note(f"{self.label!r} could not be submitted: its executor must not be shut down before the run")
            raise
        return executors.replace(self._executor).submit(call.func, *call.args, **call.keywords)

    def _outcome_of(self, future: Future[T]) -> T:
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise RuntimeError(
                f"{self.label!r}: its future was cancelled, and not by the run: was the executor shut down, or "
                f"has it lost its workers?"
            ) from None
        except BrokenExecutor as error:
            raise self._with_advice_on_broken(error) from None
        finally:
            del future  # it has the exception, whose traceback has this frame

    def _with_advice_on_broken(self, error: BrokenExecutor) -> BrokenExecutor:
        advice = "retry=1 runs the job again" if self._restart_broken else "restart_broken=True makes a new one"
        error.add_note(f"{self.label!r}: its executor has broken, and takes no more calls; {advice}")
        return error


def _call_and_tell(started: ThreadEvent, call: functools.partial[T]) -> T:
    """Make a call in a thread of an executor, and tell that it has started."""
    started.set()
    return call()


def _has_threads(executor: concurrent.futures.Executor) -> bool:
    """Return whether an executor calls functions in threads of this program, where they need no pickles."""
    if type(executor).__name__ == "InterpreterPoolExecutor":
        return False
    return isinstance(executor, ThreadPoolExecutor) or type(executor).__module__ == "trioflow"


class Executors:
    """The executors that an outermost run has made: those of makers, and those in the place of broken ones."""

    def __init__(self, run: RunHandle) -> None:
        """Begin with none."""
        self._made: Final[dict[ExecutorOrMaker, concurrent.futures.Executor]] = {}
        self._broken: Final[list[concurrent.futures.Executor]] = []

    def get(self, given: ExecutorOrMaker) -> concurrent.futures.Executor:
        """Return the executor that stands for what a job was given."""
        found = self._made.get(given)
        if found is None:
            if isinstance(given, concurrent.futures.Executor):
                return given
            found = self._made[given] = _made_by(given)
        return found

    def replace(self, given: ExecutorOrMaker) -> concurrent.futures.Executor:
        """Make a new one in the place of a broken one."""
        broken = self._made.pop(given, None)
        if broken is not None:
            self._broken.append(broken)
        maker: Any = given
        new = _like(maker) if isinstance(given, concurrent.futures.Executor) else _made_by(given)
        self._made[given] = new
        return new

    async def close(self) -> None:
        """Shut them all down."""
        for executor in (*self._made.values(), *self._broken):
            await anyio.to_thread.run_sync(_shut_down, executor, abandon_on_cancel=True)


def _shut_down(executor: concurrent.futures.Executor) -> None:
    try:
        executor.shutdown(wait=True, cancel_futures=True)
    except TypeError:  # older ones, such as loky's, have no cancel_futures
        executor.shutdown(wait=True)


def _made_by(maker: Any) -> concurrent.futures.Executor:
    made = maker()
    if not isinstance(made, concurrent.futures.Executor):
        raise TypeError(f"ExecutorJob: {shown(maker)} was to make an executor, and returned {shown(made)}")
    return made


def _like(executor: Any) -> concurrent.futures.Executor:
    """Return a new pool of processes with the settings of another."""
    return concurrent.futures.ProcessPoolExecutor(
        executor._max_workers, executor._mp_context, executor._initializer, executor._initargs
    )


def _check_executor(executor: Any, restart_broken: bool) -> None:
    if isinstance(executor, concurrent.futures.Executor):
        if restart_broken and type(executor) is not concurrent.futures.ProcessPoolExecutor:
            name = type(executor).__name__
            raise TypeError(
                f"ExecutorJob({name}, restart_broken=True): nobody knows how to make another one; "
                f"give a function that does: ExecutorJob(lambda: {name}(...), ...)"
            )
    elif hasattr(executor, "get_executor"):
        raise TypeError(f"ExecutorJob({type(executor).__name__}): give its get_executor(), or use DaskJob")
    elif not callable(executor):
        raise TypeError(f"ExecutorJob({shown(executor)}): give an executor, or a function that makes one")


def _pickler_of(executor: concurrent.futures.Executor) -> _pickling.MakePickler | None:
    """Return what pickles calls as an executor does; None where it does not, or it is not known how."""
    if isinstance(executor, concurrent.futures.ProcessPoolExecutor):
        from multiprocessing.reduction import ForkingPickler

        return cast(_pickling.MakePickler, ForkingPickler)
    if type(executor).__name__ == "InterpreterPoolExecutor" or type(executor).__module__.startswith("mpi4py"):
        return pickle.Pickler
    if type(executor).__module__.startswith(("distributed", "loky")):
        cloudpickle: Any = sys.modules.get("cloudpickle")
        if cloudpickle is not None:
            return functools.partial(_cloudpickler, cloudpickle)
    return None


def _cloudpickler(cloudpickle: Any, file: Any, protocol: int, _: bool, callback: Any) -> Any:
    return cloudpickle.Pickler(file, protocol, callback)
