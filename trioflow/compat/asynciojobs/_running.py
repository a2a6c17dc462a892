"""The run of a scheduler's jobs: each as a `trioflow.AbstractJob`, which on asyncio is cancelled once."""

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

TURNS: Final = 4
"""A job that raises waits for this number of turns of the loop: by then, jobs that may start at the same time have done
so. In asynciojobs all of these start before any of them can end the run."""


class Mirror(trioflow.Scheduler, cancels_once=True):
    """The trioflow scheduler of one run."""


class Host(trioflow.AbstractJob[Any]):
    """The trioflow job that runs one job in one run."""

    __slots__ = ("after", "job")

    job: AbstractJob
    after: Iterable[Host]
    """Forever jobs that must end first: trioflow rejects them as requirements."""

    def __init__(self, job: AbstractJob, label: str, critical: bool, forever: bool) -> None:
        if critical and not forever:  # usual, as its scheduler's default; checking the option would double the time
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
                for _ in range(TURNS):
                    await anyio.lowlevel.checkpoint()
            raise


class HostWithShutdown(Host):
    """The trioflow job of a job with a shutdown."""

    __slots__ = ()

    async def co_shutdown(self) -> None:
        """Shut the job down."""
        await self.job.co_shutdown()


def run_in_a_loop(function: Callable[[], Awaitable[Any]], backend: BackendName, label: str) -> Any:
    """Await `function()` in an event loop of its own, where Ctrl-C ends it cleanly, also in a notebook's cell.

    Raises:
        RuntimeError: an event loop runs in this thread.

    """
    value: Any = None
    error: Exception | None = None

    async def call() -> None:
        nonlocal value, error
        try:
            value = await function()
        except Exception as raised:  # for the caller: no job's failure
            error = raised

    trioflow.Scheduler(trioflow.Job(call, label=label), label=label, shutdown_timeout=None).run(backend=backend)
    if error is not None:
        raise error
    return value


class Chronicle(Instrument):
    """Prints when a job starts and when it is done, for `verbose` schedulers."""

    def __init__(self, scheduler: PureScheduler) -> None:
        self.of: PureScheduler = scheduler

    def job_started(self, scheduler: Any, job: Any) -> None:
        """Print that a job starts."""
        self._tell(job, "STARTING")

    def job_finished(self, scheduler: Any, job: Any) -> None:
        """Print that a job is done."""
        if job.is_done():
            self._tell(job, "DONE    ")

    def _tell(self, host: Any, what: str) -> None:
        self.of._trioflow_tell(f"{self.of.stats()} {what}: {host.job.repr_id()} {host.job!r}")
