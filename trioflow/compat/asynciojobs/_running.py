"""How a scheduler's jobs run: each as a `trioflow.AbstractJob`, and on asyncio in a native task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

import anyio

import trioflow
from trioflow.abc import Instrument

if TYPE_CHECKING:
    from .job import AbstractJob
    from .purescheduler import PureScheduler

Backend = Literal["asyncio", "trio"]


class Host(trioflow.AbstractJob[Any]):
    """What runs one job in one run."""

    __slots__ = ("after", "job", "task_of_its_own")

    job: AbstractJob
    task_of_its_own: bool
    after: Iterable[Host]
    """What runs forever and must end first: trioflow refuses that as a requirement."""

    def __init__(self, job: AbstractJob, label: str, *, critical: bool, forever: bool, task_of_its_own: bool) -> None:
        super().__init__(label=label, critical=critical, forever=forever)
        self.job = job
        self.task_of_its_own = task_of_its_own
        self.after = ()

    async def co_run(self) -> Any:
        """Run the job."""
        for host in self.after:
            await host.wait_settled()
        if not self.task_of_its_own:
            return await self.job.co_run()
        scheduler = self.scheduler
        return await in_own_task(self.job, None if scheduler is None else scheduler.shutdown_timeout)


class HostWithShutdown(Host):
    """What runs a job that has something to shut down; the others need not be asked."""

    __slots__ = ()

    async def co_shutdown(self) -> None:
        """Shut the job down."""
        await self.job.co_shutdown()


async def in_own_task(job: AbstractJob, patience: float | None) -> Any:
    """Run an asyncio job in a native task; return or raise what it does.

    A cancellation is handed on once. The job then has `patience` seconds, None for no limit, to end as it likes;
    after that it is cancelled at each await.
    """
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    task = loop.create_task(_guarded(job, ended))
    try:
        await ended  # not the task: a cancellation would reach it again and again
    except asyncio.CancelledError:
        task.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait((task,), timeout=patience)
        if not task.done():
            await task  # now it is to be reached
        if task.cancelled():
            raise
    value, interruption = task.result()
    if interruption is not None:
        raise interruption
    return value


async def _guarded(job: AbstractJob, ended: asyncio.Future[None]) -> tuple[Any, BaseException | None]:
    """Run a job as the whole of a task; keep what would stop the loop at once: the run has to end in order first."""
    try:
        return await job.co_run(), None
    except (KeyboardInterrupt, SystemExit) as interruption:
        return None, interruption
    finally:
        if not ended.done():
            ended.set_result(None)


def run_in_a_loop(function: Callable[[], Awaitable[Any]], backend: Backend, label: str) -> Any:
    """Await `function()` in an event loop of its own, where Ctrl-C ends it in order, also in a notebook's cell.

    Raises:
        RuntimeError: an event loop runs in this thread.

    """
    value: Any = None
    error: Exception | None = None

    async def call() -> None:
        nonlocal value, error
        try:
            value = await function()
        except Exception as raised:  # is the caller's, and no job's failure
            error = raised

    trioflow.Scheduler(trioflow.Job(call, label=label), label=label, shutdown_timeout=None).run(backend=backend)
    if error is not None:
        raise error
    return value


def runs_on_asyncio() -> bool:
    """Return whether the loop that runs is asyncio's."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


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
