"""Two ways to run functions with a timeout each: as jobs, and by hand, with what asyncio brings.

By hand shows what a library makes of a cancellation. Where a law holds by hand, it has to hold for jobs.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any

from trioflow import Job, Scheduler, Service

from ..places import PATIENCE

Body = Callable[[int], Awaitable[Any]]
"""What is run many times; its argument counts from 0."""

DONE, TIMED_OUT = "done", "timed out"
LONG = 1000
"""Seconds that a query takes which only a cancellation ends."""


def outcome(error: BaseException | None) -> str:
    """Return one word for an end in success or by the timeout, and the text of any other error."""
    if error is None:
        return DONE
    return TIMED_OUT if isinstance(error, TimeoutError) else repr(error)


class Way(ABC):
    """A way to run functions on asyncio."""

    @abstractmethod
    async def times(self, body: Body, timeouts: Sequence[float | None], window: int | None = None) -> Counter[str]:
        """Call a function once for each timeout, at most `window` of them at a time, and count the outcomes."""

    @abstractmethod
    async def with_service(self, service: Callable[..., Awaitable[Any]], number: int, use: Callable[..., Any]) -> None:
        """Call `use(value, i)` so many times with what the service has provided, and then end the service."""

    @abstractmethod
    def run(self, *functions: Callable[[], Awaitable[Any]]) -> None:
        """Run a program of these functions, side by side, that Ctrl-C may end."""


class AsJobs(Way):
    """Each function is a job."""

    async def times(self, body: Body, timeouts: Sequence[float | None], window: int | None = None) -> Counter[str]:
        jobs = [Job(body, number, timeout=timeout) for number, timeout in enumerate(timeouts)]
        assert await Scheduler(jobs, jobs_window=window, critical_jobs=False).co_run()
        return Counter(outcome(job.raised_exception()) for job in jobs)

    async def with_service(self, service: Callable[..., Awaitable[Any]], number: int, use: Callable[..., Any]) -> None:
        provider = Service(service)
        assert await Scheduler(provider, [Job(use, provider, i) for i in range(number)]).co_run(check=True)

    def run(self, *functions: Callable[[], Awaitable[Any]]) -> None:
        Scheduler([Job(function) for function in functions]).run(backend="asyncio")


class ByHand(Way):
    """Each function is a task of a `TaskGroup`, in `asyncio.timeout`, behind a semaphore."""

    async def times(self, body: Body, timeouts: Sequence[float | None], window: int | None = None) -> Counter[str]:
        outcomes: Counter[str] = Counter()
        slots = asyncio.Semaphore(window or len(timeouts))

        async def limited(number: int, timeout: float | None) -> None:
            error = None
            async with slots:
                try:
                    async with asyncio.timeout(timeout):
                        await body(number)
                except Exception as raised:
                    error = raised
            outcomes[outcome(error)] += 1

        async with asyncio.TaskGroup() as group:
            for number, timeout in enumerate(timeouts):
                group.create_task(limited(number, timeout))
        return outcomes

    async def with_service(self, service: Callable[..., Awaitable[Any]], number: int, use: Callable[..., Any]) -> None:
        ready = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(service(task_status=SimpleNamespace(started=ready.set_result)))
        value = await ready
        async with asyncio.TaskGroup() as group:
            for i in range(number):
                group.create_task(use(value, i))
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    def run(self, *functions: Callable[[], Awaitable[Any]]) -> None:
        async def main() -> None:
            async with asyncio.TaskGroup() as group:
                for function in functions:
                    group.create_task(function())

        asyncio.run(main())


async def comes_to(number: int, count: Callable[[], Awaitable[int]]) -> bool:
    """Wait until so many are counted, as servers take a moment; return whether that came before `PATIENCE` ended."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while await count() != number:  # noqa: ASYNC110  # only the server knows when
                await asyncio.sleep(0.01)
            return True
    return False


async def can_be_held_at_once(number: int, hold: Callable[[], Any]) -> bool:
    """Return whether so many connections of a pool can be in use at once, as long as none is lost."""
    together = asyncio.Barrier(number)

    async def use() -> None:
        async with hold():
            await together.wait()

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            for _ in range(number):
                group.create_task(use())
        return True
    return False


def other_tasks() -> set[asyncio.Task[Any]]:
    """Return the tasks of the loop but for the current one."""
    return asyncio.all_tasks() - {asyncio.current_task()}
