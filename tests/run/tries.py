"""Bodies of jobs that fail or count, and calls in the middle of a run."""

from typing import Any
import anyio
from trioflow import Scheduler


class Broken:
    """A body that fails a number of times, and then returns how often it was called."""

    def __init__(self, fails: int, seconds: float = 1) -> None:
        self.fails, self.seconds, self.calls = fails, seconds, 0

    async def __call__(self, *args: Any) -> int:
        self.calls += 1
        await anyio.sleep(self.seconds)
        if self.calls <= self.fails:
            raise OSError("disk full")
        return self.calls


async def nap(*_: Any) -> None:
    await anyio.sleep(1)


def names(scheduler: Scheduler) -> str:
    return "".join(
        "X" if job.state.name == "SKIPPED" else job.state.name[0]
        for job in scheduler.iterate_jobs()
    )


async def after(seconds: float, *calls: Any) -> None:
    for call in calls:
        await anyio.sleep(seconds)
        call()
