"""Random scenarios with full limiters at any depth: none deadlocks, and no limiter gives out too many tokens.

Schedulers keep needs, windows are numbers inside limiters and around them, two runs share all of it, jobs are added
late, and other code takes tokens too. The suite runs a few scenarios; for more of them::

    TRIOFLOW_SOAK=10000 python -m tests --soak -- tests/laws/test_full_limiters.py
"""

from __future__ import annotations

import os
import random
from collections import Counter
from typing import Any

import anyio
import pytest

from trioflow import Adaptive, Job, Pool, Rate, Scheduler, Service, StopReason, Throttled, current_job
from trioflow.abc import AbstractJob, Instrument

from ..bodies import serve
from ..conftest import Ordered

MANY = int(os.environ.get("TRIOFLOW_SOAK", "1000"))
FOREVER = 1e5
"""Seconds of virtual time after which a run has stood still."""


class Watch(Instrument):
    """The number of jobs that work under each limiter."""

    def __init__(self, tokens: dict[Any, int]) -> None:
        self.tokens = tokens
        self.ready: set[AbstractJob[Any]] = set()
        self.running: set[AbstractJob[Any]] = set()
        self.working: Counter[Any] = Counter()
        self.full = 0  # how often a job ended under a limiter that was used up, and for which others waited

    def job_scheduled(self, scheduler: Any, job: AbstractJob[Any]) -> None:
        if job in self.running:  # it was throttled
            self.job_finished(scheduler, job)
        self.ready.add(job)

    def job_started(self, scheduler: Any, job: AbstractJob[Any]) -> None:
        limiter = limiter_of(job)
        self.ready.discard(job)
        self.running.add(job)
        self.working[limiter] += 1
        assert limiter is None or self.working[limiter] <= self.tokens[limiter]

    def job_finished(self, scheduler: Any, job: AbstractJob[Any]) -> None:
        self.ready.discard(job)
        if job in self.running:
            self.running.remove(job)
            limiter = limiter_of(job)
            if limiter is not None and self.working[limiter] == self.tokens[limiter]:
                self.full += any(limiter_of(one) is limiter for one in self.ready)
            self.working[limiter] -= 1


def limiter_of(job: AbstractJob[Any]) -> Any:
    """Return the innermost limiter from which a job takes a token; None for jobs that take none."""
    around: Any = job
    if isinstance(job, Scheduler):
        return None
    while around is not None and not around.forever:
        around = around.scheduler
        if around is not None and isinstance(around.jobs_window, anyio.CapacityLimiter):
            return around.jobs_window
    return None


class Scenario:
    """One or two runs over one pool and some limiters."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        choose = self.draw.choice
        self.limiters = [anyio.CapacityLimiter(choose([1, 1, 2, 3])) for _ in range(choose([1, 1, 2, 3]))]
        self.pool = Pool(a=choose([1, 2]), b=choose([1, 2]), api=Rate(requests=3, per=4, burst=choose([1, 3])))
        self.watch = Watch({one: int(one.total_tokens) for one in self.limiters})
        self.roots = [self.scheduler(0, ("a", "b", "api"), pool=self.pool) for _ in range(choose([1, 1, 2]))]

    def one_in(self, number: int) -> bool:
        return self.draw.randrange(number) == 0

    def scheduler(self, depth: int, names: tuple[str, ...], **options: Any) -> Scheduler:
        kept = {name: 1 for name in names if depth and name != "api" and self.one_in(3)}
        inside = (*kept, "api") if kept else names  # a scheduler that keeps needs is the pool of its members
        members: list[AbstractJob[Any]] = []
        for _ in range(self.draw.randint(1, 6)):
            if depth < 3 and self.one_in(3):
                forever = not all(one.forever for one in members) and self.one_in(12)  # one job has to come to an end
                members.append(self.scheduler(depth + 1, inside, forever=forever))
            else:
                members.append(self.job(inside))
            members[-1].requires(*(one for one in members[:-1] if not one.forever and self.one_in(5)))
        if self.one_in(6):
            members.append(Service(serve, self.draw.choice([0, 1])))
        windows: list[Any] = [None, None, 1, 2, Adaptive(1, 3), *self.limiters, *self.limiters]
        return Scheduler(
            *members,
            jobs_window=self.draw.choice(windows),
            backfill=self.draw.choice([0, 1, 64]),
            policy=self.draw.choice(["auto", "critical-path"]),
            needs=kept or None,
            timeout=None if depth else FOREVER,
            critical_jobs=False,  # failures are beside the point
            **options,
        )

    def job(self, names: tuple[str, ...]) -> Job[None]:
        needs = {name: 1 for name in names if self.one_in(6 if name == "api" else 3)}
        return Job(
            self.body,
            self.draw.choice([0, 0.5, 1, 1, 2]),
            self.draw.choice([*[""] * 8, "adds", "fails", "is cancelled", "throttled" if "api" in needs else ""]),
            names,
            needs=needs,
            priority=self.draw.choice([0, 0, 0, 1]),
            expected_duration=self.draw.choice([None, None, 2]),
            own_task=self.one_in(8),
            retry=self.draw.choice([None, None, 1]),
            timeout=self.draw.choice([None, None, 1.5]),
        )

    async def body(self, seconds: float, end: str, names: tuple[str, ...]) -> None:
        job = current_job()
        await anyio.sleep(seconds)
        if end == "adds" and job.scheduler is not None:
            job.scheduler.add(self.job(names))
        elif end == "fails":
            raise ValueError
        elif end == "is cancelled":
            job.cancel()
            await anyio.sleep(1)
        elif end == "throttled" and self.one_in(2):
            raise Throttled("api", after=1)

    async def others(self) -> None:
        """Take and release tokens as other code may."""
        while True:
            async with self.draw.choice(self.limiters):
                await anyio.sleep(0.75)
            await anyio.sleep(self.draw.choice([0.25, 3]))

    async def run(self) -> None:
        async with anyio.create_task_group() as around:
            if self.one_in(3):
                around.start_soon(self.others)
            async with anyio.create_task_group() as runs:
                for root in self.roots:
                    root.instruments = [self.watch]
                    runs.start_soon(root.co_run)
            around.cancel_scope.cancel()
        for root in self.roots:
            assert root.stop_reason is StopReason.COMPLETED
        for limiter in self.limiters:
            assert (limiter.borrowed_tokens, limiter.statistics().tasks_waiting) == (0, 0)
        assert {name: self.pool.free[name] for name in "ab"} == {name: self.pool.total[name] for name in "ab"}


def check(backend: str, seed: int) -> int:
    """Run a scenario; return how often a job became ready while its limiter was full."""

    async def main() -> Scenario:
        scenario = Scenario(seed)
        await scenario.run()
        return scenario

    return Ordered(backend, seed)(main).watch.full


def test_random_runs_with_full_limiters_do_not_deadlock(backend: str) -> None:
    """Random runs that fill their limiters again and again all end, and no limiter is ever exceeded."""
    assert sum(check(backend, seed) for seed in range(20)) > 60


@pytest.mark.soak
def test_many_random_runs_with_full_limiters_do_not_deadlock(backend: str) -> None:
    """A long run of `test_random_runs_with_full_limiters_do_not_deadlock`."""
    assert sum(check(backend, seed) for seed in range(MANY)) > MANY
