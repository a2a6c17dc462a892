"""Functions with a timeout each, and with a service, as jobs on asyncio, and what to ask of libraries afterwards."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
import anyio
import pytest
from trioflow import Job, Scheduler, Service
from ..places import PATIENCE

DONE, TIMED_OUT = "done", "timed out"

MANY_TIMEOUTS = [random.uniform(0.001, 0.2) for _ in range(500)]
"""Timeouts at any moment from asking for a connection on."""
SOAK = [pytest.mark.soak, pytest.mark.timeout(3600)]
few_or_many = pytest.mark.parametrize(
    "timeouts",
    [[0.2] * 6, pytest.param(MANY_TIMEOUTS, marks=SOAK)],
    ids=["few", "many"],
)


def outcome(error: BaseException | None) -> str:
    """Return one word for an end in success or by the timeout, and the text of any other error."""
    if error is None:
        return DONE
    return TIMED_OUT if isinstance(error, TimeoutError) else repr(error)


async def times(
    body: Callable[[int], Awaitable[Any]],
    timeouts: Sequence[float | None],
    window: int | None = None,
) -> Counter[str]:
    """Call a function with a number, from 0 on, once for each timeout, and count the outcomes."""
    jobs = [
        Job(body, number, timeout=timeout) for number, timeout in enumerate(timeouts)
    ]
    assert await Scheduler(jobs, jobs_window=window, critical_jobs=False).co_run()
    return Counter(outcome(job.raised_exception()) for job in jobs)


async def with_service(
    service: Callable[..., Awaitable[Any]], number: int, use: Callable[..., Any]
) -> None:
    provider = Service(service)
    assert await Scheduler(
        provider, [Job(use, provider, i) for i in range(number)]
    ).co_run(check=True)


async def comes_to(number: int, count: Callable[[], Awaitable[int] | int]) -> bool:
    """Wait until so many are counted, as servers take a moment; return whether that came before `PATIENCE` ended."""
    with anyio.move_on_after(PATIENCE):
        while True:
            found = count()
            if isinstance(found, Awaitable):
                found = await found
            if found == number:
                return True
            await anyio.sleep(0.01)
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
    return asyncio.all_tasks() - {asyncio.current_task()}
