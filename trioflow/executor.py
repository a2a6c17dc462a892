"""`Executor`: an executor of `concurrent.futures` (PEP 3148) on top of a scheduler, for code that takes one.

```
submit ──► backlog ──► a thread with an event loop: one Scheduler, each call a job of it ──► future
                         there as long as calls are under way, and LINGER seconds more
```

The thread ends by itself soon after the last call, so an executor that nobody shuts down keeps no program from ending,
and one that is still at work is waited for, like the other threads of a program.
"""

from __future__ import annotations

import concurrent.futures
import inspect
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future
from typing import Any, Final, ParamSpec, TypeVar

import anyio

from ._core import backend as _backend
from ._core.job._function import Job
from ._core.scheduler._scheduler import BackendName
from ._scheduler import Scheduler
from .jobs._thread import ThreadJob

P = ParamSpec("P")
T = TypeVar("T")

LINGER: Final = 0.1
"""Seconds that the thread stays after its last call: to start another one takes a millisecond or two."""
MANY: Final = 1000
"""Jobs in the scheduler, from which on those that have settled are dropped when their number has doubled."""


class Executor(concurrent.futures.Executor):
    """Calls functions in worker threads, and async functions in an event loop, each as a job of one scheduler.

    It does what `ThreadPoolExecutor` does, and may stand in its place: `submit`, `map`, `shutdown`, `with`. Calls start
    in the order in which they were submitted. A call that runs cannot be cancelled. At the end of the program all calls
    are waited for.

    Args:
        max_workers: how many calls at once, 1 or more; None for the number of CPUs and 4, at most 32.
        backend: "trio" or "asyncio": the event loop, which async functions run in.

    Raises:
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
        if max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        self._max_workers: Final = max_workers
        self._backend: Final = _backend.by_name(backend)
        self._lock: Final = threading.Lock()
        # ---- under the lock
        self._backlog: Final[deque[_Call]] = deque()  # not yet in the scheduler
        self._under_way: Final[set[_Call]] = set()  # those of the backlog too
        self._thread: threading.Thread | None = None  # there as long as it takes calls from the backlog
        self._wake: Callable[[], None] | None = None  # wakes the loop, as soon as that is there
        self._is_shut_down = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have a function called, and return a future of what it returns; of an async one, when it is awaited.

        Raises:
            RuntimeError: it is shut down.

        """
        call = _Call(fn, args, kwargs)
        future: Any = call.future
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._backlog.append(call)
            self._under_way.add(call)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="trioflow.Executor")
                self._thread.start()
            elif self._wake is not None:
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

    def _run(self) -> None:
        try:
            self._backend.run(self._serve, {})
        except BaseException as error:
            self._give_up(error)
            raise

    def _give_up(self, error: BaseException) -> None:
        """Let nobody wait for ever for calls that nothing will run."""
        with self._lock:
            self._thread = self._wake = None
            left = [call.future for call in self._under_way]
            self._under_way.clear()
            self._backlog.clear()
        for future in left:
            if future is not None and future.set_running_or_notify_cancel():
                future.set_exception(_broken(error))

    async def _serve(self) -> None:
        backend = self._backend
        call_in_loop = backend.caller()
        async with Scheduler(label="Executor", jobs_window=self._max_workers) as scheduler:
            limit = MANY
            while True:
                news = backend.event()
                with self._lock:
                    self._wake = lambda news=news: call_in_loop(news.set)
                    calls = tuple(self._backlog)
                    self._backlog.clear()
                    idle = not self._under_way
                    patience = (0 if self._is_shut_down else LINGER) if idle else None
                scheduler.update([self._job(call) for call in calls])
                if len(scheduler) > limit:
                    limit = max(MANY, 2 * _drop_settled(scheduler))
                with anyio.move_on_after(patience):
                    await news.wait()
                if idle and self._ends():
                    return

    def _job(self, call: _Call) -> Job[None] | ThreadJob[None]:
        if call.is_async:
            return Job(self._await, call)
        return ThreadJob(self._call, call)

    def _call(self, call: _Call) -> None:
        try:
            call.run()
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
            self._thread = self._wake = None
            return True


class _Call:
    """One call, and the future of what comes of it; the job that made the call keeps nothing of either."""

    __slots__ = ("_call", "future", "is_async")

    def __init__(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.future: Future[Any] | None = Future()  # there until the call is made
        self.is_async: Final = inspect.iscoroutinefunction(function)
        self._call: Any = function, args, kwargs

    def run(self) -> None:
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
            except Exception as error:
                future.set_exception(error)
                del future
            except BaseException as error:
                future.set_exception(_broken(error))
                raise
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


def _broken(error: BaseException) -> BrokenExecutor:
    return BrokenExecutor(f"the event loop of the executor has ended: {error!r}")


def _drop_settled(scheduler: Scheduler) -> int:
    """Let go of jobs that nobody is going to ask for, and return how many are left."""
    for job in scheduler:
        if job.is_settled():
            scheduler._members.forget(job)
    return len(scheduler)
