"""Bodies of jobs and small helpers that many tests share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import anyio
import trio

from trioflow import AbstractJob, Job, JobState, Scheduler

LIMIT = 1000
"""Seconds of virtual time after which what hangs is an error."""


async def nothing() -> None:
    """Return at once, without a checkpoint."""


async def nap(seconds: float = 1, value: Any = None) -> Any:
    """Sleep, and return the value."""
    await anyio.sleep(seconds)
    return value


async def fail(seconds: float = 1, error: BaseException | None = None) -> None:
    """Sleep, and raise the error."""
    await anyio.sleep(seconds)
    raise error if error is not None else OSError("broken")


async def timed(scheduler: Scheduler, **options: Any) -> tuple[bool, float]:
    """Run it and return the result, with the time that it took; what hangs is an error."""
    start = anyio.current_time()
    with anyio.fail_after(LIMIT):
        return await scheduler.co_run(**options), anyio.current_time() - start


def jobs_named(labels: str) -> list[Job[Any]]:
    """Jobs that nap a second, each labelled with one letter."""
    return [Job(nap, label=label) for label in labels]


GRID = ["ab", "ac", "bd", "cd", "de", "xe"]  # a diamond a-b/c-d, then e, which also requires x


def grid() -> tuple[Scheduler, dict[str, Job[Any]]]:
    """A scenario with two entries and three exits, and its jobs by label."""
    jobs = {label: Job(nap, label=label) for label in "abcdexz"}
    for before, after in GRID:
        jobs[after].requires(jobs[before])
    return Scheduler(*jobs.values()), jobs


def states(scheduler: Scheduler) -> list[JobState]:
    """The states of its members."""
    return [job.state for job in scheduler]


def edges(scheduler: Scheduler) -> set[str]:
    """Each requirement as a word: "ab" if b requires a."""
    return {requirement.label + job.label for job in scheduler for requirement in job.required}


def notes(error: BaseException | None) -> str:
    """What was noted with an exception."""
    return "\n".join(getattr(error, "__notes__", ()))


def leaves(error: BaseException | None) -> list[BaseException | None]:
    """The exceptions that are no groups, out of groups at any depth."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for one in error.exceptions for leaf in leaves(one)]


def task_now() -> Any:
    """The native task that calls."""
    return trio.lowlevel.current_task() if trio.lowlevel.in_trio_run() else asyncio.current_task()


def cancelled_of(backend: str) -> type[BaseException]:
    """What a cancellation is there."""
    return trio.Cancelled if backend == "trio" else asyncio.CancelledError


async def own_nursery(error: Exception | None = None) -> None:
    """Sleep in a nursery of one's own; with an error, one child turns its cancellation into it."""

    async def child() -> None:
        try:
            await anyio.sleep(100)
        except BaseException:
            if error is not None:
                raise error from None
            raise

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(child)
        tasks.start_soon(anyio.sleep, 100)
        await anyio.sleep(100)


class Closing(AbstractJob[None]):
    """A job that naps a second; its shutdown does what it is told, and counts."""

    def __init__(self, shutdown: Callable[[], Any], **options: Any) -> None:
        super().__init__(**options)
        self.shutdown = shutdown
        self.calls = 0
        self.ended = 0

    async def co_run(self) -> None:
        await anyio.sleep(1)

    async def co_shutdown(self) -> None:
        self.calls += 1
        await self.shutdown()
        self.ended += 1
