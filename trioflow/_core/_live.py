"""`LiveScheduler`: a scheduler that people talk to while it runs: an open block, `map`, `as_settled`, `explain`."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from . import _backend, _explain, _failures
from ._decorator import JobFunction
from ._function_job import Job, check_function
from ._jobs import AbstractJob
from ._options import JobOptions
from ._outcomes import interruption_in
from ._scheduler import BaseScheduler
from ._settled import SettledJobs
from ._states import StopReason

if TYPE_CHECKING:
    from ._run import Run

T = TypeVar("T")


class LiveScheduler(BaseScheduler):
    """What a scheduler offers while it runs; `trioflow.Scheduler` adds the ways to look at it."""

    _block: OpenBlock | None = None  # there inside `async with`

    def __init__(self, *jobs_or_sequences: Any, **settings: Any) -> None:
        """Begin with nobody watching."""
        self._streams: weakref.WeakSet[SettledJobs] = weakref.WeakSet()
        super().__init__(*jobs_or_sequences, **settings)

    def map(
        self,
        function: Callable[..., Awaitable[T]] | JobFunction[..., T],
        /,
        *iterables: Iterable[Any],
        **options: Unpack[JobOptions],
    ) -> list[Job[T]]:
        """Add a job for each set of arguments, as the built-in `map` takes them from the iterables.

        Args:
            function: an async callable, or what `@job` has made of one.
            iterables: where its arguments come from; the shortest ends it. Jobs among them are dependencies.
            options: those of each job; see `AbstractJob`.

        Returns:
            The jobs, in their order; all of them were added, or none.

        Raises:
            TypeError: not an async callable, or not iterable.
            RuntimeError: it is closed or stopping, or another thread.

        Example:
            >>> async def double(number):
            ...     return 2 * number
            >>> s = Scheduler()
            >>> jobs = s.map(double, [1, 2, 3])
            >>> s.run(), [job.result() for job in jobs]
            (True, [2, 4, 6])

        """
        if not iterables:
            raise TypeError(f"map() of {self.label!r}: give at least one iterable of arguments behind the function")
        for iterable in iterables:
            if not isinstance(iterable, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"map() of {self.label!r}: {iterable!r} is not iterable; give lists of arguments")
        make: Callable[..., Job[T]]
        if isinstance(function, JobFunction):
            make = function.options(**options)
        else:
            check_function(function)
            make = functools.partial(Job[T], function, **options)
        jobs = [make(*arguments) for arguments in zip(*iterables, strict=False)]
        self.update(jobs)
        return jobs

    def as_settled(self) -> SettledJobs:
        """Iterate over the jobs as they settle: those that have already first, then as they come.

        It ends when no job is left unsettled, but for those that run for ever and the one that iterates; or with
        the run. Jobs that are added meanwhile are waited for too. Two jobs that both iterate over
        the scheduler that they are in wait for each other.

        Returns:
            An async iterator.

        Example:
            >>> async def report():
            ...     async for job in current_job().scheduler.as_settled():
            ...         print(job.label)
            >>> async def nap():
            ...     await anyio.sleep(0)
            >>> Scheduler(Job(nap, label="a"), Job(report)).run()
            a
            True

        """
        return SettledJobs(self)

    def explain(self, job: AbstractJob[Any]) -> str:
        """Say in words why a job is where it is.

        Args:
            job: a member, or a job nested in one.

        Returns:
            What it waits for and for how long, that the window is full and by whom, what blocked it, what it raised.

        Raises:
            KeyError: it is not in this scheduler.

        Example:
            >>> job = Job(anyio.sleep, 1, label="nap")
            >>> Scheduler(job).explain(job)
            "'nap' is idle: 'Scheduler' is not running"

        """
        scheduler = job.scheduler
        while scheduler is not None and scheduler is not self:
            scheduler = scheduler.scheduler
        if scheduler is None:
            raise KeyError(f"explain(): {job.label!r} is not in {self.label!r}, nor in what is nested there")
        return _explain.explain(self, job)

    async def __aenter__(self) -> Self:
        """Start the run, and keep it open for jobs that are added in the block.

        Raises:
            CycleError, MissingRequirement, ValueError: the scenario can't run; nothing has started.
            RuntimeError: it runs already, or is closed.

        """
        self._check_may_run()
        block = OpenBlock(self)
        await block.enter()
        self._block = block
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Wait for all jobs, and close the scheduler for good; an error in the block cancels the run instead.

        Raises:
            ExceptionGroup: of the critical failures that stopped the run.
            JobTimeout: the run did not end in time.
            JobCancelled: it was cancelled.
            BaseException: what the block raised, or what interrupted the run, bare.

        """
        block, self._block = self._block, None
        assert block is not None
        try:
            return await block.leave(error)
        finally:
            self.close()

    def _note_end(self, run: Run) -> None:
        super()._note_end(run)
        for stream in tuple(self._streams):
            stream.end()
        self._streams.clear()

    def _note_added(self, jobs: list[AbstractJob[Any]]) -> None:
        for stream in tuple(self._streams):
            for job in jobs:
                stream.watch(job)


class OpenBlock:
    """The body of one `async with`: the run goes on in a task beside it, and cancels it when it stops before."""

    def __init__(self, scheduler: LiveScheduler) -> None:
        """Prepare; `enter` starts the run."""
        self._scheduler = scheduler
        self._tasks = _backend.current().task_group()
        self._begun = _backend.current().event()
        self._ended = False
        self._error: BaseException | None = None  # what left the run, to be raised at the end of the block

    async def enter(self) -> None:
        """Start the run, and return when it takes jobs."""
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._run)
        try:
            await self._begun.wait()
        except BaseException as error:
            self._tasks.cancel_scope.cancel()
            await self._exit(error)
            raise
        if self._ended:
            await self._exit(None)
            self._raise()

    async def _run(self) -> None:
        scheduler = self._scheduler
        try:
            await scheduler.co_run(_opened=self._begun.set)
        except BaseException as error:
            if _is_cancellation(error):
                raise
            self._error = error
        finally:
            self._ended = True
            self._begun.set()
            if scheduler._stop_reason is not StopReason.COMPLETED:
                self._tasks.cancel_scope.cancel()

    async def leave(self, error: BaseException | None) -> bool:
        """End the run, in good order or because of `error`; True if that was but the run's own end."""
        scheduler = self._scheduler
        run = scheduler._run
        if run is not None:
            if error is not None:
                run.stop(StopReason.CANCELLED)
            run.close_block()
        cancelled = _is_cancellation(error)
        sent, rest = (False, None) if error is None else _backend.current().split(error)
        if sent and rest is not None and self._tasks.cancel_scope.cancel_called:
            await self._exit(None)  # the body failed while the run's own end unwound it
            raise rest
        try:
            await self._exit(error)
        except BaseException as late:
            if error is None or not _is_cancellation(late):
                raise
            return False  # a scope further out was cancelled: it gets what it sent, or what the block raised before
        if error is not None and not cancelled:
            return False
        self._raise()
        return cancelled

    async def _exit(self, error: BaseException | None) -> None:
        """Wait until the run's task has ended; a cancellation is shown to its group, which may have sent it."""
        shown = error if _is_cancellation(error) else None
        try:
            await self._tasks.__aexit__(None if shown is None else type(shown), shown, shown and shown.__traceback__)
        except BaseExceptionGroup as group:
            interruption = interruption_in(group)  # trio's Ctrl-C finds the task that waits here, not the run's
            if interruption is None:
                raise
            raise interruption from None

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
        if self._scheduler._stop_reason is not StopReason.COMPLETED:
            _failures.check(self._scheduler)


def _is_cancellation(error: BaseException | None) -> bool:
    """Tell whether this is a cancellation and nothing else."""
    return error is not None and _backend.current().split(error) == (True, None)
