"""Whoever waits for a job that the run will not reach any more is told so at the word, not when the run has ended."""

from collections.abc import Callable
from itertools import product
from typing import Any

import anyio
import pytest
from trioflow import Job, JobNotDone, Scheduler, Service
from ..bodies import Flaw, nap, serve
from ..conftest import Virtual

UNREACHED: dict[str, Callable[[Job[Any]], Any]] = {
    "a job": lambda running: Job(nap, required=running),
    "a service": lambda running: Service(serve, required=running),
    "a forever job": lambda running: Job(nap, required=running, forever=True),
    "a clean-up job": lambda running: Job(nap, required=running, run_if="failed"),
    "a job of a group with a retry": lambda running: Scheduler(Job(nap), required=running, retry=2),
}
WAYS: dict[str, Callable[[Job[Any]], Any]] = {"await": lambda job: job, "wait_settled": lambda job: job.wait_settled()}


ENDS = ["drain", "cancel", "critical", "timeout"]
CLEANED_UP = {"critical", "timeout"}


@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize(
    ("word", "what"), [each for each in product(ENDS, UNREACHED) if not ("clean" in each[1] and each[0] in CLEANED_UP)]
)
def test_who_waits_for_an_unreached_job_is_told_at_the_word(virtual: Virtual, word: str, what: str, depth: int) -> None:
    """A drain and `cancel()` do without clean-up jobs, and a drain without further attempts of a group."""

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
    member = UNREACHED[what](running)
    unreached = next(iter(member)) if isinstance(member, Scheduler) else member
    members: list[Any] = [running, member]
    for _ in range(depth):
        members = [Scheduler(members, retry=2 if word == "drain" else None)]
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
