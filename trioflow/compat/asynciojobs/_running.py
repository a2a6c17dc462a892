"""The trioflow scheduler that is built for each run, and the trioflow jobs that run the jobs of asynciojobs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.lowlevel

import trioflow
from trioflow.abc import BackendName, Instrument

from ._listing import label_text

if TYPE_CHECKING:
    from .job import AbstractJob
    from .purescheduler import PureScheduler

CHECKPOINTS_BEFORE_FAILURE: Final = 4
"""The number of checkpoints that a failed job passes before it raises its exception, which may end the run. As in
asynciojobs, all jobs that can start at the same time then start before any of them can end the run."""


class JobAdapter(trioflow.AbstractJob[Any]):
    """The trioflow job that runs a job of asynciojobs in a run."""

    __slots__ = ("awaited_forever_jobs", "job")

    job: AbstractJob
    awaited_forever_jobs: Iterable[JobAdapter]
    """The required forever jobs. This job awaits them itself, because trioflow rejects forever jobs as requirements."""

    def __init__(self, job: AbstractJob, critical: bool, forever: bool) -> None:
        if critical and not forever:
            # The defaults here, because options cost as much as all the rest.
            super().__init__()
        else:
            super().__init__(critical=None if critical else False, forever=forever)
        self.job = job
        self.awaited_forever_jobs = ()

    def _default_label(self, depth: int = 0) -> str:
        return label_text(self.job)

    async def co_run(self) -> Any:
        for adapter in self.awaited_forever_jobs:
            await adapter.wait_settled()
        try:
            return await self.job.co_run()
        except (Exception, KeyboardInterrupt, SystemExit):
            with anyio.CancelScope(shield=True):
                for _ in range(CHECKPOINTS_BEFORE_FAILURE):
                    await anyio.lowlevel.checkpoint()
            raise

    async def co_shutdown(self) -> None:
        await self.job.co_shutdown()

    # A call costs as much as an empty job.
    def _needs_shutdown(self) -> bool:
        return self.job._trioflow_needs_shutdown()


def run_in_event_loop(
    function: Callable[[], Awaitable[Any]], backend: BackendName, label: str
) -> Any:
    """Run `function()` in a new event loop, which Ctrl-C ends cleanly, and return its result.

    This also works in a notebook cell.

    Raises:
        RuntimeError: an event loop is running in this thread.

    """
    result: Any = None
    error: Exception | None = None

    async def call() -> None:
        nonlocal result, error
        try:
            result = await function()
        except Exception as raised:
            # Raised in the caller below, because the trioflow job itself must not fail.
            error = raised

    trioflow.Scheduler(
        trioflow.Job(call, label=label), label=label, shutdown_timeout=None
    ).run(backend=backend)
    if error is not None:
        raise error
    return result


class VerbosePrinter(Instrument):
    """An instrument for `verbose` schedulers that prints when a job starts and when it is done."""

    def __init__(self, scheduler: PureScheduler) -> None:
        self.scheduler: PureScheduler = scheduler

    def job_started(self, scheduler: object, job: object) -> None:
        self._print(job, "STARTING")

    def job_settled(self, scheduler: object, job: Any) -> None:
        if job.is_done():
            self._print(job, "DONE    ")

    def _print(self, adapter: Any, event: str) -> None:
        self.scheduler._trioflow_print(
            f"{self.scheduler.stats()} {event}: {adapter.job.repr_id()} {adapter.job!r}"
        )
