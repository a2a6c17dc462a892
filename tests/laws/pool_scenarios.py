"""Random scenarios of several schedulers that share a pool: jobs end in any way, some are added late, one may stop."""

from __future__ import annotations

import contextlib
import math
import random
from abc import ABC, abstractmethod
from typing import Any

import anyio

from trioflow import Job, JobState, Pool, Scheduler, current_job

from ..bodies import LIMIT


class PoolScenario(ABC):
    """Several schedulers with one pool. A subclass builds them and their jobs, and records what these have."""

    pool: Pool
    schedulers: list[Scheduler]
    is_watched = False
    """Whether `look` asserts that no job waits which could start."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.choose = self.draw.choice

    def one_in(self, number: int) -> bool:
        return self.draw.randrange(number) == 0

    @abstractmethod
    def job(self) -> Job[None]:
        """Build a job."""

    @abstractmethod
    def take(self, job: Any) -> Any:
        """Record what a job has that starts."""

    @abstractmethod
    def give_back(self, taken: Any) -> None:
        """Record that a job ends, with what `take` has returned."""

    @abstractmethod
    def could_start(self, job: Any) -> bool:
        """Return whether a waiting job has a slot and what it needs; False if that is hard to determine."""

    @abstractmethod
    def end(self, job: Any, end: str) -> None:
        """End a job in a way that only this scenario knows."""

    async def body(self, seconds: float, end: str) -> None:
        job = current_job()
        taken = self.take(job)
        try:
            await anyio.sleep(seconds)
            if end == "raises":
                raise ValueError
            if end == "is cancelled":
                job.cancel()
                await anyio.sleep(1)
            self.end(job, end)
        finally:
            self.give_back(taken)

    async def add(self, scheduler: Scheduler) -> None:
        """Add jobs to a scheduler while it runs."""
        await anyio.sleep(self.choose([0, 1, 3]))
        for _ in range(3):
            with contextlib.suppress(RuntimeError):  # it is over
                scheduler.add(self.job())
            await anyio.sleep(0.25)

    async def stop(self) -> None:
        """Stop one of the schedulers."""
        await anyio.sleep(2)
        scheduler = self.choose(self.schedulers)
        with contextlib.suppress(RuntimeError):
            self.choose([scheduler.cancel, scheduler.drain])()

    async def run(self) -> None:
        async def begin(scheduler: Scheduler) -> None:
            await anyio.sleep(self.choose([0, 0, 0.5, 2]))
            await scheduler.co_run()

        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as watch:
                if self.is_watched:
                    watch.start_soon(self.look)
                async with anyio.create_task_group() as group:
                    for scheduler in self.schedulers:
                        group.start_soon(begin, scheduler)
                        if self.one_in(2):
                            group.start_soon(self.add, scheduler)
                    if self.one_in(3):
                        group.start_soon(self.stop)
                watch.cancel_scope.cancel()

    async def look(self) -> None:
        """Assert, between all events, that no job waits that could start, unless one that needs more comes first."""
        await anyio.sleep(0.125)  # all happens at multiples of 0.05
        while True:
            waiting = [job for one in self.schedulers for job in one if job.state is JobState.SCHEDULED]
            able = [job for job in waiting if has_slot(job) and self.could_start(job)]
            for job in able:
                assert any(other not in able and may_block(other, job) for other in waiting), f"{job} could start"
            await anyio.sleep(0.25)

    def assert_nothing_is_taken(self) -> None:
        """Assert that jobs hold nothing of the pool, and none waits for anything of it."""
        pool = self.pool
        for name in pool.total.keys() & {"cpu", "gpu", "disk"}:
            assert pool.free[name] == pool.total[name]
        assert not any(resource.admission and resource.admission.group_counts for resource in pool._resources.values())


def has_slot(job: Any) -> bool:
    """Return whether the run of a job has a free slot."""
    run = job.scheduler._run
    if run is None or run.is_draining_or_stopping:
        return False
    size = math.inf if run.queue.current_size is None else run.queue.current_size
    return sum(one.state is JobState.RUNNING for one in job.scheduler) < size


def may_block(waiting: Any, job: Any) -> bool:
    """Return whether a job that waits for more may reserve what another one needs."""
    return waiting.scheduler.backfill < 64 and not waiting.needs.keys().isdisjoint(job.needs) and has_slot(waiting)
