"""The early schedulers `Engine`, `Scheduler` and `SchedulerJob`, with their kinds of jobs."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from typing import Any

from ...abc import BackendName, criticality
from .. import asynciojobs
from ..asynciojobs import _running


class AbstractJob(asynciojobs.AbstractJob):
    """Base class of jobs: a subclass defines `co_run`, and `co_shutdown` if it has resources to release.

    Args:
        forever: whether the run does not wait for the job, and cancels it at the end.
        label: the label in listings.
        critical: whether an exception in the job ends the run. In a critical scheduler, all jobs are critical.
        required: the requirements.
        scheduler: a scheduler to add the job to.
        requires: more requirements; an older name of `required`.

    """

    def __init__(
        self,
        forever: bool = False,
        label: str | None = None,
        critical: bool | None = False,
        required: Any = None,
        scheduler: Any = None,
        *,
        requires: Any = None,
    ) -> None:
        requirements = [required, requires]
        super().__init__(
            forever=forever,
            label=label,
            critical=critical,
            required=requirements,
            scheduler=scheduler,
        )

    def is_critical(self) -> bool:
        """Return whether an exception in the job ends the run.

        This is the case if the job is critical, or if its scheduler was critical in the last run.
        """
        adapter = self._trioflow_adapter
        return bool(self.critical or (adapter is not None and criticality(adapter)))


class Job(asynciojobs.Job, AbstractJob):
    """A job that awaits a coroutine object, once.

    Args:
        corun: the coroutine object that does the work.
        coshutdown: a coroutine object to await when the job is shut down.
        kwds: the arguments of `AbstractJob`.

    Raises:
        TypeError: `corun` or `coshutdown` is not a coroutine object.

    """

    def __init__(
        self, corun: object, coshutdown: object = None, **kwds: object
    ) -> None:
        super().__init__(corun, coshutdown=coshutdown, **kwds)


class PrintJob(asynciojobs.PrintJob, AbstractJob):
    """A job that prints its messages on a line, and may then sleep.

    Args:
        messages: the objects to print.
        requires: more requirements; an older name of `required`.
        kwds: the arguments of `PrintJob` in `trioflow.compat.asynciojobs`.

    """

    def __init__(
        self, *messages: Any, requires: Any = None, required: Any = None, **kwds: Any
    ) -> None:
        super().__init__(*messages, required=[required, requires], **kwds)


class Sequence(asynciojobs.Sequence):
    """A chain of jobs. Each job requires its predecessor.

    Args:
        sequences_or_jobs: jobs and Sequences, in order.
        requires: more requirements; an older name of `required`.
        kwds: the arguments of `Sequence` in `trioflow.compat.asynciojobs`.

    Raises:
        TypeError: an item is neither a job nor a Sequence.

    Example:
        >>> from trioflow.compat.asynciojobs_classic import PrintJob, Scheduler, Sequence
        >>> first = PrintJob("one")
        >>> Scheduler(first, Sequence(PrintJob("two"), PrintJob("three"), requires=first)).run()
        one
        two
        three
        True

    """

    def __init__(
        self,
        *sequences_or_jobs: Any,
        requires: Any = None,
        required: Any = None,
        **kwds: Any,
    ) -> None:
        super().__init__(*sequences_or_jobs, required=[required, requires], **kwds)


class Scheduler(asynciojobs.PureScheduler):
    """A set of jobs that can be run.

    Args:
        jobs_or_sequences: jobs, Sequences and None.
        critical: whether all jobs of the scheduler are critical.
        kwds: the arguments of `PureScheduler` in `trioflow.compat.asynciojobs`.

    Raises:
        TypeError: an item is neither a job nor a Sequence.

    Example:
        >>> from trioflow.compat.asynciojobs_classic import PrintJob, Scheduler
        >>> Scheduler(PrintJob("hello")).run(timeout=5)
        hello
        True

    """

    critical: bool | None

    def __init__(
        self, *jobs_or_sequences: Any, critical: bool | None = False, **kwds: Any
    ) -> None:
        self.critical = critical
        super().__init__(*jobs_or_sequences, **kwds)

    def run(
        self,
        timeout: float | None = None,
        jobs_window: int | None = None,
        loop: Any = None,
        *,
        backend: BackendName = "asyncio",
        instruments: Iterable[Any] = (),
    ) -> bool:
        """Run the jobs, and shut them all down.

        Args:
            timeout: the time limit for the run in seconds, or None for the scheduler's own `timeout`.
            jobs_window: the maximum number of jobs that run at once, or None for the scheduler's own `jobs_window`.
            loop: the asyncio event loop to run in, or None for a new loop. If it already runs, as in a notebook, a new
                loop is used.
            backend: "asyncio", or "trio" for jobs that are written for trio.
            instruments: instruments of the run.

        Returns:
            True; False after a timeout or the exception of a critical job.

        Raises:
            Exception: requirements form a cycle, or are not in the scheduler.
            ValueError: the coroutine object of a job has been awaited already.
            RuntimeError: the scheduler is running. Or an event loop is running in this thread, and this is not a
                notebook cell: use `await scheduler.co_run()`.

        """
        call = functools.partial(self.co_run, timeout, jobs_window)
        self._trioflow_instruments = instruments
        try:
            if loop is not None and not loop.is_running():
                return bool(loop.run_until_complete(call()))
            return bool(
                _running.run_in_event_loop(call, backend, self._trioflow_label())
            )
        finally:
            self._trioflow_instruments = ()

    async def co_run(
        self,
        timeout: float | None = None,
        jobs_window: int | None = None,
        loop: object = None,
    ) -> bool:
        """Run the jobs in the running event loop, and shut them all down.

        Args:
            timeout: the time limit for the run in seconds, or None for the scheduler's own `timeout`.
            jobs_window: the maximum number of jobs that run at once, or None for the scheduler's own `jobs_window`.
            loop: has no effect.

        Returns:
            True; False after a timeout or the exception of a critical job.

        Raises:
            Exception: requirements form a cycle, or are not in the scheduler.
            ValueError: the coroutine object of a job has been awaited already.
            RuntimeError: the scheduler is running.

        """
        return await self._trioflow_co_run(
            self.timeout if timeout is None else timeout,
            self.jobs_window if jobs_window is None else jobs_window,
        )

    def orchestrate(
        self,
        loop: Any = None,
        timeout: float | None = None,
        jobs_window: int | None = None,
        **kwds: Any,
    ) -> bool:
        """Call `run`, which takes these arguments in another order."""
        return self.run(timeout, jobs_window, loop, **kwds)

    async def co_orchestrate(
        self,
        loop: object = None,
        timeout: float | None = None,
        jobs_window: int | None = None,
    ) -> bool:
        """Call `co_run`. `loop` has no effect."""
        return await self.co_run(timeout, jobs_window)

    def rain_check(self) -> bool:
        """Return whether the graph is valid: it has no cycles, and all requirements are in the same scheduler."""
        return self.check_cycles()

    def save_as_dotfile(self, filename: str | os.PathLike[str]) -> str:
        """Call `export_as_dotfile`."""
        return self.export_as_dotfile(filename)

    def _trioflow_is_critical(self, job: asynciojobs.AbstractJob) -> bool:
        return bool(job.critical) or bool(self.critical)


class Engine(Scheduler):
    """A `Scheduler` under the name that it had in the first versions.

    Example:
        >>> from trioflow.compat.asynciojobs_classic import Engine, PrintJob
        >>> engine = Engine(PrintJob("hello"))
        >>> engine.orchestrate(timeout=5)
        hello
        True

    """


class SchedulerJob(Scheduler, asynciojobs.Scheduler, AbstractJob):
    """A `Scheduler` that is also a job, so that it can be nested.

    Args:
        jobs_or_sequences: jobs, Sequences and None.
        critical: whether the scheduler itself, as a job, and all its jobs are critical.
        kwds: the arguments of `Scheduler` in `trioflow.compat.asynciojobs`.

    Raises:
        TypeError: an item is neither a job nor a Sequence.

    Example:
        >>> from trioflow.compat.asynciojobs_classic import PrintJob, Scheduler, SchedulerJob
        >>> Scheduler(SchedulerJob(PrintJob("inside"), label="inner")).run()
        inside
        True

    """

    def __init__(
        self, *jobs_or_sequences: Any, critical: bool | None = False, **kwds: Any
    ) -> None:
        asynciojobs.Scheduler.__init__(
            self, *jobs_or_sequences, critical=critical, **kwds
        )

    def _trioflow_should_raise(self) -> bool:
        return (
            self._trioflow_is_running_as_member() and super()._trioflow_should_raise()
        )
