"""The time from `cancel()` to the end of everything, with thousands of running jobs."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, Final

import anyio
import trio

from .. import graphs, loops
from ..measuring import Contest, Contestant, Sample, Setting, Stopwatch
from ..plans import Plan
from ..rivals import OURS, ours


class Sleepers:
    """Jobs that sleep until they are cancelled; `asleep()` returns when all of them sleep."""

    def __init__(self, backend: str, size: int) -> None:
        self.backend, self.size = backend, size
        self._begun = 0
        self._asleep = loops.event(backend)

    async def body(self, number: int) -> None:
        self._begun += 1
        if self._begun == self.size:
            self._asleep.set()
        await loops.sleep(self.backend, 3600)

    async def asleep(self) -> None:
        await self._asleep.wait()
        await loops.checkpoint(self.backend)


async def scheduler(sleepers: Sleepers, watch: Stopwatch) -> None:
    """trioflow: `Scheduler.cancel()`."""
    ours_ = ours.scheduler(graphs.make("wide", sleepers.size), sleepers.body)

    async def run() -> None:
        await ours_.co_run()
        watch.stop()

    async def cancel() -> None:
        await sleepers.asleep()
        watch.start()
        ours_.cancel()

    await loops.beside(sleepers.backend, run, cancel)


async def nursery(sleepers: Sleepers, watch: Stopwatch) -> None:
    """trio: the nursery's cancel scope."""
    async with trio.open_nursery() as nursery:
        for number in range(sleepers.size):
            nursery.start_soon(sleepers.body, number)
        await sleepers.asleep()
        watch.start()
        nursery.cancel_scope.cancel()
    watch.stop()


async def anyio_task_group(sleepers: Sleepers, watch: Stopwatch) -> None:
    """anyio: the task group's cancel scope."""
    async with anyio.create_task_group() as tasks:
        for number in range(sleepers.size):
            tasks.start_soon(sleepers.body, number)
        await sleepers.asleep()
        watch.start()
        tasks.cancel_scope.cancel()
    watch.stop()


async def task_group(sleepers: Sleepers, watch: Stopwatch) -> None:
    """asyncio: a `TaskGroup` has no `cancel()`; the task around it does."""

    async def host() -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(sleepers.size):
                tasks.create_task(sleepers.body(number))

    hosting = asyncio.create_task(host())
    await sleepers.asleep()
    with watch:
        hosting.cancel()
        await asyncio.wait([hosting])


Way = Callable[[Sleepers, Stopwatch], Awaitable[None]]

WAYS: Final[dict[str, dict[str, Way]]] = {
    "trio": {OURS: scheduler, "nursery": nursery},
    "asyncio": {
        OURS: scheduler,
        "TaskGroup": task_group,
        "anyio task group": anyio_task_group,
    },
}


def cancel(plan: Plan) -> Iterator[Contest]:
    """Cancel all jobs while all of them run."""
    for backend, conditions in itertools.product(plan.loops, plan.conditions):
        setting = Setting(
            backend, "wide", "sleep", plan.cancelled, conditions=conditions
        )
        contestants = [
            Contestant(name, setting, partial(attempt, way, setting))
            for name, way in WAYS[backend].items()
        ]
        yield Contest("cancel", contestants, plan.few_rounds)


def attempt(way: Way, setting: Setting) -> Sample:
    """Start all, cancel all."""
    watch = Stopwatch()

    async def main() -> Any:
        await way(Sleepers(setting.backend, setting.size), watch)

    loops.run(setting.backend, main)
    return {"cancel": watch.cpu * 1e3, "cancel wall": watch.wall * 1e3}
