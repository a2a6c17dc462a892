"""`Executor`: an executor of `concurrent.futures` (PEP 3148) on top of a scheduler, for code that takes one.

```
submit ─┬─► backlog ──► a thread with an event loop: one Scheduler, each call a job of it ──► future
        │                 there as long as calls are under way, and LINGER seconds more
        └─► a thread for each plain call, up to `max_workers`, which waits until its job starts
```

The threads end by themselves soon after the last call, so an executor that nobody shuts down keeps no program from
ending, and one that is still at work is waited for, like the other threads of a program. At that time no thread can be
started any more (from Python 3.12 on). That is why `submit` starts the threads, and not the jobs.

A job never waits long for its thread. Both take the calls in the order of `submit`, and there are as many threads as
slots in the scheduler's window. So the calls whose jobs have started are among the first `max_workers` that have not
ended, and these have the threads.
"""

from __future__ import annotations

import concurrent.futures
import functools
import inspect
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, cast

import anyio

from . import Job, Scheduler
from .abc import BACKEND_NAMES, ThreadEvent, is_among, name_of, shown

if TYPE_CHECKING:
    from .abc import BackendName

P = ParamSpec("P")
T = TypeVar("T")

LINGER: Final = 0.1
"""Seconds that the thread stays after its last call: to start another one takes a millisecond or two."""


class Executor(concurrent.futures.Executor):
    """Calls functions in worker threads, and async functions in an event loop, each as a job of one scheduler.

    It does what `ThreadPoolExecutor` does, and may stand in its place: `submit`, `map`, `shutdown`, `with`. Calls start
    in the order in which they were submitted. A call that runs cannot be cancelled. At the end of the program all calls
    are waited for.

    Args:
        max_workers: how many calls at once, 1 or more; None for the number of CPUs and 4, at most 32.
        backend: "trio" or "asyncio": the event loop, which async functions run in.

    Raises:
        TypeError: a `max_workers` that is not a whole number.
        ValueError: a `max_workers` below 1, or an unknown backend.

    Example:
        >>> with Executor(4) as executor:
        ...     future = executor.submit(pow, 2, 10)
        ...     lengths = list(executor.map(len, ["a", "bc"]))
        >>> future.result(), lengths
        (1024, [1, 2])

    """

    def __init__(self, max_workers: int | None = None, *, backend: BackendName = "trio") -> None:
        if max_workers is None:
            max_workers = min(32, (os.cpu_count() or 1) + 4)
        if isinstance(max_workers, bool) or not isinstance(max_workers, int):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"max_workers={shown(max_workers)}: give a whole number, 1 or more, or None")
        if max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        self._max_workers: Final = max_workers
        if not is_among(backend, BACKEND_NAMES):
            raise ValueError(f"backend={shown(backend)}: choose one of {', '.join(BACKEND_NAMES)}")
        self._backend: Final = backend
        self._lock: Final = threading.Lock()
        # ---- under the lock
        self._backlog: Final[deque[_Call]] = deque()  # not yet in the scheduler
        self._under_way: Final[set[_Call]] = set()  # those of the backlog too
        self._thread: threading.Thread | None = None  # there as long as it takes calls from the backlog
        self._pool: ThreadPoolExecutor | None = None  # the threads for plain calls; made and ended with that thread
        self._wake: Callable[[], None] | None = None  # wakes the loop, as soon as that is there
        self._is_shut_down = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have a function called, and return a future of what it returns; of an async one, when it is awaited.

        Raises:
            TypeError: `fn` cannot be called.
            RuntimeError: it is shut down, or the interpreter is.

        """
        if not callable(fn):
            raise TypeError(f"fn={shown(fn)} of submit(): give a function, and its arguments after it")
        call = _Call(fn, args, kwargs)
        future: Any = call.future
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if self._thread is None:
                pool = ThreadPoolExecutor(self._max_workers, "trioflow.Executor call")
                thread = threading.Thread(target=self._run, args=[pool], name="trioflow.Executor")
                thread.start()
                self._pool, self._thread = pool, thread
            if not call.is_async:
                assert self._pool is not None
                self._pool.submit(call.run_when_started)
            self._backlog.append(call)
            self._under_way.add(call)
            if self._wake is not None:
                self._wake()
        return future  # type: ignore[no-any-return]

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls.

        Args:
            wait: returns when all calls have ended; otherwise at once, and they go on.
            cancel_futures: cancels the calls that do not run yet.

        """
        with self._lock:
            self._is_shut_down = True
            waiting = [call.future for call in self._under_way] if cancel_futures else []
            thread = self._thread
            if self._wake is not None:
                self._wake()
        for future in waiting:
            if future is not None:
                future.cancel()
        if wait and thread is not None:
            thread.join()

    # ---- in the thread

    def _run(self, pool: ThreadPoolExecutor) -> None:
        try:
            anyio.run(self._serve, backend=self._backend)
        except BaseException as error:
            self._give_up(error)
            raise
        finally:
            pool.shutdown()

    def _give_up(self, error: BaseException) -> None:
        """Let nobody wait for ever for calls that nothing will run."""
        with self._lock:
            self._thread = self._pool = self._wake = None
            left = tuple(self._under_way)
            self._under_way.clear()
            self._backlog.clear()
        for call in left:
            call.give_up(error)

    async def _serve(self) -> None:
        async with Scheduler(label="Executor", jobs_window=self._max_workers, keep_jobs=False) as scheduler:
            while True:
                news = ThreadEvent()
                with self._lock:
                    self._wake = news.set
                    calls = tuple(self._backlog)
                    self._backlog.clear()
                    idle = not self._under_way
                    patience = (0 if self._is_shut_down else LINGER) if idle else None
                scheduler.update(map(self._job, calls))
                del calls
                with anyio.move_on_after(patience):
                    await news.wait()
                if idle and self._ends():
                    return

    def _job(self, call: _Call) -> Job[None]:
        return Job(self._await if call.is_async else self._have_called, call, label=call.name)

    async def _have_called(self, call: _Call) -> None:
        """Let the thread of a call make it, and wait for that."""
        ended = ThreadEvent()
        call.start(ended.set)
        try:
            await ended.wait()
        finally:
            self._forget(call)

    async def _await(self, call: _Call) -> None:
        try:
            await call.co_run()
        finally:
            self._forget(call)

    def _forget(self, call: _Call) -> None:
        with self._lock:
            self._under_way.discard(call)
            if not self._under_way and self._wake is not None:
                self._wake()

    def _ends(self) -> bool:
        """Decide whether the thread ends, now that it has been idle for a while, or is shut down."""
        with self._lock:
            if self._under_way:
                return False
            self._thread = self._pool = self._wake = None
            return True


class _Call:
    """One call, and the future of what comes of it; the job that made the call keeps nothing of either."""

    __slots__ = ("_call", "_ended", "_may_run", "future", "is_async", "name")

    def __init__(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.future: Future[Any] | None = Future()  # there until the call is made
        self.is_async: Final = _is_async(function)
        self.name: Final = name_of(function)
        self._call: Any = function, args, kwargs
        self._may_run: Final = threading.Semaphore(0)
        self._ended: Callable[[], None] | None = None

    def start(self, ended: Callable[[], None]) -> None:
        """Let the thread of a plain call make it; `ended` is called in that thread afterwards."""
        self._ended = ended
        self._may_run.release()

    def run_when_started(self) -> None:
        """Wait until the job of the call starts, and make the call."""
        self._may_run.acquire()
        try:
            self._run()
        finally:
            if self._ended is not None:
                self._ended()

    def give_up(self, error: BaseException) -> None:
        """Let the future fail, if the job of the call has not started: it never will."""
        if self._ended is not None:
            return  # its thread makes the call
        future, self.future = self.future, None
        if future is not None and future.set_running_or_notify_cancel():
            future.set_exception(_broken(error))
        self._may_run.release()

    def _run(self) -> None:
        """Call the function, unless the future is cancelled."""
        future = self._begun()
        if future is not None:
            function, args, kwargs = self._taken()
            try:
                value = function(*args, **kwargs)
            except BaseException as error:
                future.set_exception(error)
                del future  # the exception's traceback has this frame
            else:
                del function, args, kwargs  # before those who wait for the future go on
                future.set_result(value)

    async def co_run(self) -> None:
        """Call the function and await what it returns, unless the future is cancelled."""
        future = self._begun()
        if future is not None:
            function, args, kwargs = self._taken()
            try:
                value = await function(*args, **kwargs)
            except BaseException as error:  # nothing that leaves one call may end the event loop of all
                future.set_exception(_reported(error))
                del future
            else:
                del function, args, kwargs
                future.set_result(value)

    def _begun(self) -> Future[Any] | None:
        """Return the future, from now on running; None if it was cancelled."""
        future, self.future = self.future, None
        return future if future is not None and future.set_running_or_notify_cancel() else None

    def _taken(self) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        """Return function and arguments, and keep them no longer."""
        taken, self._call = self._call, None
        return taken  # type: ignore[no-any-return]


def _is_async(function: Any) -> bool:
    """Return whether what a call returns is to be awaited: also that of an object with an async `__call__`."""
    while isinstance(function, functools.partial):
        function = cast(Any, function).func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _reported(error: BaseException) -> BaseException:
    """Return what a future has to raise: the error itself; for a cancellation, which nobody may keep, a fresh one."""
    cancellation = anyio.get_cancelled_exc_class()
    given: Any = error
    left = given.split(cancellation)[1] if isinstance(error, BaseExceptionGroup) else given
    if left is None or isinstance(left, cancellation):
        return concurrent.futures.CancelledError("the call was cancelled in its event loop")
    return left  # type: ignore[no-any-return]


def _broken(error: BaseException) -> BrokenExecutor:
    return BrokenExecutor(f"the event loop of the executor has ended: {error!r}")
