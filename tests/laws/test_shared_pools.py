"""Laws of runs that share a pool: they end, take no more than exists, leave nothing taken, and none starves.

The suite runs a few random scenarios; for more of them::

    TRIOFLOW_SOAK=2000 python -m tests --soak -- tests/laws/test_shared_pools.py
"""

from __future__ import annotations

import os
import random
from collections import Counter
from typing import TYPE_CHECKING, Any, get_args

import anyio
import pytest

from trioflow import Adaptive, Job, Pool, Rate, Scheduler, Throttled
from trioflow.abc import PolicyName

from ..bodies import DepthFirst, nap
from ..conftest import Ordered
from .pool_scenarios import PoolScenario

if TYPE_CHECKING:
    from ..conftest import Virtual

FEW = range(10)
TELLING = [16, 57, 134]  # these have found faults that were put in
MANY = int(os.environ.get("TRIOFLOW_SOAK", "1000"))
FEW_MORE = 5  # what starts while there is enough for it and the waiting one, of which an earlier one takes the rest
TOLERANCE = 1e-6  # sums of floats are not exact


class Scenario(PoolScenario):
    """Several schedulers with one pool; jobs end in any way, some are added late, and a scheduler may be stopped.

    If there is a limiter, some of them, at any depth, have it as their window, and may keep something of the pool.
    """

    def __init__(self, seed: int, tokens: int | None = None) -> None:
        super().__init__(seed)
        self.limiter = None if tokens is None else anyio.CapacityLimiter(tokens)
        self.rate = Rate(requests=4, tokens=40, per=4, burst={"requests": self.choose([1, 2, 4])})
        self.pool = Pool(cpu=self.choose([1, 2, 3]), gpu=["0", "1"], disk=1, api=self.rate)
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()  # that was ever taken at once
        self.taken: list[tuple[float, dict[str, float]]] = []  # of the rate: when, and how much
        self.schedulers = [self.scheduler(2, pool=self.pool) for _ in range(self.draw.randint(1, 5))]

    def scheduler(self, depth: int, **options: Any) -> Scheduler:
        members: list[Any] = []
        keeps = False
        windows: list[Any] = [None, None, 1, 1, 2, 3, Adaptive(1, 4)]
        if self.limiter is not None:
            windows += 8 * [self.limiter]
        if not depth and self.one_in(4 if self.limiter is None else 2):
            keeps, options = True, {**options, "needs": {"gpu": 1}}
        for _ in range(self.draw.randint(1, 7)):
            if depth and self.one_in(3):
                members.append(self.scheduler(depth - 1))
            else:
                required = self.choose(members) if members and self.one_in(3) else None
                members.append(self.job(keeps, required=required))
        return Scheduler(
            *members,
            jobs_window=self.choose(windows),
            backfill=self.choose([0, 1, 3, 64]),
            policy=self.choose([*get_args(PolicyName), DepthFirst()]),
            timeout=self.choose([None, None, None, 5]),
            **options,
        )

    def job(self, kept: bool = False, **options: Any) -> Job[None]:
        """Build a job; in a scheduler that keeps a GPU, the job may need that and the rate."""
        one: list[Any] = [{}, {"cpu": 1}, {"cpu": self.pool.total["cpu"]}, {"gpu": 1}, {"gpu": 2}, {"disk": 1}]
        one += [{"gpu": 1, "cpu": 1}, {"disk": 1, "cpu": 1}, {"disk": 1, "gpu": 2}]
        rated: list[Any] = [{"api": 1}, {"api": {"tokens": self.choose([5, 20])}}, {"cpu": 1, "api": 1}]
        if kept:
            one, rated = [{}, {"gpu": 1}], [*rated[:2], {"gpu": 1, "api": 1}]
        needs = self.choose([*one, *rated])
        ends = ["returns", "returns", "raises", "is cancelled", *(["is throttled", "uses"] if "api" in needs else [])]
        return Job(
            self.body,
            self.choose([0, 0, 0.25, 1, 2.5]),
            self.choose(ends),
            needs=needs,
            retry=self.choose([None, None, 1]),
            priority=self.choose([0, 0, 0, 2]),
            expected_duration=self.choose([None, None, 2]),
            own_task=self.one_in(10),
            timeout=self.choose([None, 2]),
            **options,
        )

    def take(self, job: Any) -> Counter[str]:
        granted = job.granted
        if "api" in granted and job.attempts == 1:  # a further attempt does not wait
            self.taken.append((anyio.current_time(), granted["api"]))
        kept = Counter({name: granted.get(name, 0) for name in ("cpu", "disk")}, gpu=len(granted.get("gpu", ())))
        self.running += kept
        self.most |= self.running
        return kept

    def give_back(self, taken: Counter[str]) -> None:
        self.running -= taken

    def end(self, job: Any, end: str) -> None:
        if end == "is throttled" and self.one_in(2):
            raise Throttled("api", after=self.choose([0, 1, 3]))
        if end == "uses" and "tokens" in job.granted["api"]:
            tokens, granted = self.draw.randint(0, 30), job.granted["api"]["tokens"]
            self.taken.append((anyio.current_time(), {"tokens": min(0, tokens - granted)}))
            job.used(api={"tokens": tokens})

    def could_start(self, job: Any) -> bool:
        if not job.needs or "api" in job.needs:
            return False
        return all(needed <= self.pool.free[name] for name, needed in job.needs.items())


def check(virtual: Virtual, seed: int, tokens: int | None = None) -> None:
    """Assert that all runs end, nothing stays taken or waited for, and at most burst + rate * t is taken of a rate."""
    scenario = Scenario(seed, tokens)
    virtual(scenario.run)
    assert scenario.limiter is None or scenario.limiter.borrowed_tokens == 0
    scenario.assert_nothing_is_taken()
    taken, rate = scenario.taken, scenario.rate
    for name in ("cpu", "gpu", "disk"):
        assert scenario.most[name] <= scenario.pool.total[name]
    for key, limit in rate.limits.items():
        for first, (begin, _) in enumerate(taken):
            total = 0.0
            for when, amounts in taken[first:]:
                total += amounts.get(key, 0)
                assert total <= rate.burst[key] + limit / rate.per * (when - begin) + TOLERANCE


class Watched(Scenario):
    """Flat schedulers that check between all events whether a waiting job could start."""

    is_watched = True

    def scheduler(self, depth: int, **options: Any) -> Scheduler:
        members: list[Any] = []
        for _ in range(self.draw.randint(2, 8)):
            members.append(self.job(required=self.choose(members) if members and self.one_in(3) else None))
        return Scheduler(
            *members,
            jobs_window=self.choose([None, 1, 2, Adaptive(1, 3), Adaptive(1, 3)]),
            backfill=self.choose([0, 1, 64, 64]),
            policy=self.choose(["auto", "fifo"]),
            **options,
        )


def check_no_time_is_lost(virtual: Virtual, seed: int) -> None:
    """Assert that a job starts as soon as it can, unless a job that waits for more comes first."""
    virtual(Watched(seed).run)


def check_nobody_starves(virtual: Virtual, seed: int) -> None:
    """Assert that at most `backfill` later jobs start first, while other runs get streams of jobs."""
    draw = random.Random(seed)
    pool = Pool(cpu=draw.choice([2, 3]), gpu=2)
    kinds = [{"cpu": 1}, {"cpu": 2}, {"gpu": 1}, {"gpu": 1, "cpu": 1}]
    backfill = draw.choice([0, 1, 3])

    def stream() -> Scheduler:
        """Return a scheduler whose jobs each add the next one at their end."""

        async def body(left: int) -> None:
            await anyio.sleep(draw.choice([0, 0.25, 1]))
            if left:
                following = Job(body, left - 1, needs=draw.choice(kinds))
                scheduler.add(following)
                if anyio.current_time() > 3:  # it is ready after the patient one
                    later.append(following)

        jobs = [Job(body, 20, needs=draw.choice(kinds)) for _ in range(draw.randint(2, 5))]
        scheduler = Scheduler(*jobs, pool=pool, backfill=64)
        return scheduler

    later: list[Job[None]] = []
    first = Job(nap, 3)
    patient = Job(nap, required=first, needs=draw.choice(kinds))
    streams = [stream() for _ in range(draw.randint(1, 3))]

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for scheduler in (*streams, Scheduler(first, patient, pool=pool, backfill=backfill)):
                group.start_soon(scheduler.co_run)

    virtual(main)
    started = patient.started_at
    assert started is not None
    passing = [
        job
        for job in later
        if job.started_at is not None and job.started_at < started and not patient.needs.keys().isdisjoint(job.needs)
    ]
    assert len(passing) <= backfill + FEW_MORE


@pytest.mark.parametrize("seed", FEW)
def test_random_runs_that_share_a_pool_keep_the_laws_of_pools(backend: str, seed: int) -> None:
    """Runs that share a pool end, never take more than exists, and leave nothing taken, whatever their jobs do."""
    check(Ordered(backend, seed), seed)


@pytest.mark.parametrize("tokens", [1, 2])
@pytest.mark.parametrize("seed", FEW)
def test_random_runs_that_share_a_pool_and_a_limiter_keep_the_laws_of_pools(
    backend: str, seed: int, tokens: int
) -> None:
    """The laws of pools also hold for jobs that wait for a limiter's tokens, whether or not they keep needs then."""
    check(Ordered(backend, seed), seed, tokens)


@pytest.mark.parametrize("seed", FEW)
def test_no_job_is_passed_forever_by_jobs_of_other_runs(backend: str, seed: int) -> None:
    """At most `backfill` later jobs pass a waiting job, even if other runs get endless streams of jobs."""
    check_nobody_starves(Ordered(backend, seed), seed)


@pytest.mark.parametrize("seed", [*FEW, *TELLING])
def test_each_job_starts_as_soon_as_its_needs_are_free(backend: str, seed: int) -> None:
    """In any scenario, a release wakes the right runs, so that each job starts as soon as its needs are free."""
    check_no_time_is_lost(Ordered(backend, seed), seed)


@pytest.mark.soak
def test_many_random_runs_that_share_pools_keep_the_laws_of_pools(backend: str) -> None:
    """A long run of the other tests of this file, with other seeds."""
    for seed in range(MANY):
        virtual = Ordered(backend, seed)
        check(virtual, seed)
        check(virtual, seed, 1 + seed % 3)
        check_nobody_starves(virtual, seed)
        check_no_time_is_lost(virtual, seed)
