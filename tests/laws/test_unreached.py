"""Whoever waits for a job that the run will not reach any more is told so at the word, not when the run has ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from trioflow import Job, JobNotDone, Scheduler

from ..bodies import Flaw, nap
from ..conftest import Virtual

WAYS: dict[str, Callable[[Job[Any]], Any]] = {"await": lambda job: job, "wait_settled": lambda job: job.wait_settled()}


@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize("word", ["drain", "cancel", "critical", "timeout"])
def test_who_waits_for_an_unreached_job_is_told_at_the_word(virtual: Virtual, word: str, depth: int) -> None:
    async def slow() -> None:
        try:
            await anyio.sleep(6)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await anyio.sleep(5)
            raise

    async def say() -> None:
        await anyio.sleep(1)
        if word == "drain":
            scheduler.drain()
        elif word == "cancel":
            scheduler.cancel()
        elif word == "critical":
            raise Flaw

    running = Job(slow)
    unreached = Job(nap, required=running)
    members: list[Any] = [running, unreached]
    for _ in range(depth):
        members = [Scheduler(members)]
    scheduler = Scheduler(members, Job(say, critical=True), log=False, timeout=1 if word == "timeout" else None)
    told: list[float] = []

    async def wait(way: Callable[[Job[Any]], Any]) -> None:
        await anyio.sleep(0.5)
        with pytest.raises(JobNotDone):
            await way(unreached)
        told.append(anyio.current_time())

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for way in WAYS.values():
                tasks.start_soon(wait, way)
            await scheduler.co_run()
            assert anyio.current_time() == pytest.approx(6)

    virtual(main)
    assert told == pytest.approx([1, 1])
