"""The trioflow jobs and schedulers that run the jobs of one run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.lowlevel

import trioflow
from trioflow.abc import BackendName, Instrument

if TYPE_CHECKING:
    from .job import AbstractJob
    from .purescheduler import PureScheduler

CHECKPOINTS_BEFORE_FAILURE: Final = 4
"""The number of turns of the event loop that a job waits before its exception can end the run.

In asynciojobs, all jobs that may start at the same time start before any of them can end the run.
"""


class RunScheduler(trioflow.Scheduler, cancels_once=True):
    """The trioflow scheduler of one run; on asyncio it cancels jobs once."""


class Host(trioflow.AbstractJob[Any]):
    """The trioflow job that runs one job of asynciojobs in one run."""

    __slots__ = ("after", "job")

    job: AbstractJob
    after: Iterable[Host]
    """Required forever jobs, which this job awaits itself, because trioflow rejects them as requirements."""

    def __init__(self, job: AbstractJob, label: str, critical: bool, forever: bool) -> None:
        # The usual case, in which the defaults of the scheduler are right: checking options would double the time.
        if critical and not forever:
            super().__init__(label=label)
        else:
            super().__init__(label=label, critical=critical, forever=forever)
        self.job = job
        self.after = ()

    async def co_run(self) -> Any:
        """Run the job."""
        for host in self.after:
            await host.wait_settled()
        try:
            return await self.job.co_run()
        except (Exception, KeyboardInterrupt, SystemExit):
            with anyio.CancelScope(shield=True):
                for _ in range(CHECKPOINTS_BEFORE_FAILURE):
                    await anyio.lowlevel.checkpoint()
            raise


class HostWithShutdown(Host):
    """The trioflow job that runs a job with a `co_shutdown`."""

    __slots__ = ()

    async def co_shutdown(self) -> None:
        """Call the job's `co_shutdown`."""
        await self.job.co_shutdown()


def run_in_event_loop(function: Callable[[], Awaitable[Any]], backend: BackendName, label: str) -> Any:
    """Run `function()` in a new event loop, which Ctrl-C ends cleanly, and return its result; also in a notebook cell.

    Raises:
        RuntimeError: an event loop is running in this thread.

    """
    value: Any = None
    error: Exception | None = None

    async def call() -> None:
        nonlocal value, error
        try:
            value = await function()
        except Exception as raised:  # for the caller; not the failure of a trioflow job
            error = raised

    trioflow.Scheduler(trioflow.Job(call, label=label), label=label, shutdown_timeout=None).run(backend=backend)
    if error is not None:
        raise error
    return value


class VerbosePrinter(Instrument):
    """An instrument for `verbose` schedulers that prints when a job starts and when it is done."""

    def __init__(self, scheduler: PureScheduler) -> None:
        self.scheduler: PureScheduler = scheduler

    def job_started(self, scheduler: Any, job: Any) -> None:
        """Print that a job starts."""
        self._print(job, "STARTING")

    def job_finished(self, scheduler: Any, job: Any) -> None:
        """Print that a job is done."""
        if job.is_done():
            self._print(job, "DONE    ")

    def _print(self, host: Any, event: str) -> None:
        self.scheduler._trioflow_print(f"{self.scheduler.stats()} {event}: {host.job.repr_id()} {host.job!r}")
