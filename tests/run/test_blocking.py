"""Jobs that keep the event loop from turning are named in the log."""

import asyncio
from collections.abc import Callable
from typing import Any
import anyio
import anyio.lowlevel
import pytest
import trio
from trioflow import Job, Scheduler
from trioflow.abc import AbstractJob, incidents_of
from ..conftest import Virtual

pytestmark = [
    pytest.mark.fast_way(
        "asyncio"
    ),  # public names do not say there whether a task has been suspended
    pytest.mark.usefixtures("blocking_is_reported"),
]


async def compute(seconds: float) -> None:
    pass_time(seconds)


def pass_time(seconds: float) -> None:
    """Move the virtual clock, as time moves while something computes."""
    try:
        clock: Any = trio.lowlevel.current_clock()
    except RuntimeError:
        loop: Any = asyncio.get_running_loop()
        loop.jump(seconds)
    else:
        clock.jump(seconds)


@pytest.fixture
def blocking_lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    return lambda: [line for line in caplog.messages if "event loop" in line]


LINE = (
    "'{}' blocked the event loop for {} s: meanwhile no other job ran and no timeout could fire; "
    "make it a ThreadJob, or a ProcessJob if it is CPU-bound"
)


def test_jobs_that_block_the_loop_are_logged_once(
    virtual: Virtual, blocking_lines: Callable[[], list[str]]
) -> None:
    """Four jobs that block the loop beyond their timeout succeed, and a single log line names the first of them."""
    scheduler = Scheduler(
        *(Job(compute, 1.5, timeout=0.1, label=f"job {number}") for number in range(4))
    )
    assert virtual(scheduler.co_run)
    assert blocking_lines() == [LINE.format("job 0", 1.5)]
    assert [incident.job for incident in incidents_of(scheduler)] == [
        next(iter(scheduler))
    ]


@pytest.mark.parametrize(
    "how",
    ["alone", "chain", "nested", "own task", "forever", "fails", "own kind", "last"],
)
def test_job_that_blocks_the_loop_is_named(
    virtual: Virtual, blocking_lines: Callable[[], list[str]], how: str
) -> None:
    """A job that blocks the loop is named in the log, whatever its kind, and whether alone, nested or after others."""

    class Kind(AbstractJob[None]):
        async def co_run(self) -> None:
            pass_time(2)

    async def wrong() -> None:
        pass_time(2)
        raise OSError

    made: dict[str, Callable[[], Any]] = {
        "own task": lambda: Job(compute, 2, own_task=True, label="x"),
        "forever": lambda: Job(compute, 2, forever=True, label="x"),
        "fails": lambda: Job(wrong, label="x"),
        "own kind": lambda: Kind(label="x"),
    }
    job = made.get(how, lambda: Job(compute, 2, label="x"))()
    if how == "chain":
        job.requires(before := Job(anyio.sleep, 1))
        scheduler = Scheduler(before, job, Job(anyio.sleep, 1, required=job))
    elif how == "nested":
        scheduler = Scheduler(Scheduler(job, label="inner"))
    elif how == "last":
        scheduler = Scheduler(
            *(Job(anyio.sleep, number / 10) for number in range(9)), job
        )
    else:
        scheduler = Scheduler(job)
    assert virtual(scheduler.co_run) is (how != "fails")
    assert blocking_lines() == [
        LINE.format("inner/x" if how == "nested" else "x", "2.0")
    ]


def test_a_job_that_awaits_is_not_logged_as_blocking(
    virtual: Virtual, blocking_lines: Callable[[], list[str]]
) -> None:
    async def others() -> None:
        await anyio.lowlevel.checkpoint()
        await compute(3)  # not in a job

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(others)
            await Scheduler(
                Job(anyio.sleep, 9), Job(anyio.lowlevel.checkpoint), Job(anyio.sleep, 2)
            ).co_run()
        await Scheduler(Job(anyio.sleep, 9)).co_run()
        await Scheduler(Job(compute, 0.9), Job(compute, 0.9)).co_run()

    virtual(main)
    assert blocking_lines() == []
