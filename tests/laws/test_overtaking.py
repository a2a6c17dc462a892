"""Random runs that share a pool: each admission is compared with a plain list of the jobs that wait, in order."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import anyio
import pytest

from trioflow import Job, JobState, Pool, Rate, Scheduler, Throttled
from trioflow._core.admission import _admission
from trioflow._core.admission._admission import AdmissionQueue

from ..conftest import Ordered


class Scenario:
    """Runs that share a pool, whose jobs wait, are cancelled and throttled; and the jobs that wait, in order.

    The order is that of the contract: a higher priority first, then the job that became ready first.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
        self.draw = random.Random(seed)
        self.places: dict[Any, tuple[int, int]] = {}  # of the jobs that wait: the priority and the number
        self.overtaken: Counter[Any] = Counter()
        self.furthest = 0  # the largest count
        self.faults: list[str] = []
        self.pool = Pool(cpu=8, gpu=2, api=Rate(requests=5, per=4))
        self.backfill = self.draw.choice([0, 1, 2, 5])
        self.schedulers = [self.scheduler() for _ in range(self.draw.choice([1, 1, 2, 4]))]
        insert, grant = AdmissionQueue.insert, _admission.Grant

        def inserted(queue: AdmissionQueue, entry: Any) -> None:
            key, number, job = entry
            self.places[job] = (key[0], number)
            self.overtaken.pop(job, None)  # if it was throttled, it waits anew
            insert(queue, entry)

        def granted(job: Any, needs: Any, entry: Any) -> Any:
            self.check(job)
            return grant(job, needs, entry)

        monkeypatch.setattr(AdmissionQueue, "insert", inserted)
        monkeypatch.setattr(_admission, "Grant", granted)

    def scheduler(self) -> Scheduler:
        draw = self.draw
        jobs: list[Job[None]] = []
        kinds = [self.needs() for _ in range(draw.choice([2, 4, 12]))]
        for _ in range(draw.choice([10, 40])):
            required = draw.choice(jobs) if jobs and draw.random() < 0.4 else None
            priority = draw.choice([0, 0, 0, 0, 1])
            jobs.append(Job(self.body, needs=draw.choice(kinds), required=required, priority=priority))
        return Scheduler(*jobs, pool=self.pool, backfill=self.backfill, policy="fifo", timeout=300)

    def needs(self) -> dict[str, float]:
        draw = self.draw
        needs: dict[str, float] = {"cpu": draw.choice([1, 1, 2, 3, 6, 8])}
        if draw.random() < 0.3:
            needs["gpu"] = draw.choice([1, 2])
        if draw.random() < 0.2:
            needs["api"] = draw.choice([1, 4])
        return needs

    async def body(self) -> None:
        await anyio.sleep(self.draw.randint(1, 3) + self.draw.random())
        if self.places and self.draw.random() < 0.1:
            self.draw.choice([*self.places]).cancel()
        elif self.draw.random() < 0.05:
            raise Throttled("cpu", after=1.5)

    async def run(self) -> None:
        async def begin(scheduler: Scheduler) -> None:
            await anyio.sleep(self.draw.choice([0, 1]))
            await scheduler.co_run()

        async with anyio.create_task_group() as group:
            for scheduler in self.schedulers:
                group.start_soon(begin, scheduler)

    def check(self, job: Any) -> None:
        """Record who is overtaken by a job that is admitted now, and what is wrong with that."""
        place = self.places.pop(job)
        before = [other for other in self.places if other.state is JobState.SCHEDULED and self.places[other] < place]
        firsts: dict[Any, Any] = {}
        for other in sorted(before, key=self.places.__getitem__):
            firsts.setdefault((other.scheduler, *sorted(other.needs.items())), other)
        reserved: set[str] = set()
        for other in firsts.values():
            if self.fits(other) and reserved.isdisjoint(other.needs):
                self.faults.append(f"{job} starts, although {other} could, which comes before it")
            if not self.fits(other):
                if self.overtaken[other] >= self.backfill:
                    reserved |= other.needs.keys()
                if not other.needs.keys().isdisjoint(job.needs):
                    self.overtaken[other] += 1
        self.furthest = max([self.furthest, *self.overtaken.values()])
        self.overtaken.pop(job, None)

    def fits(self, job: Any) -> bool:
        """Return whether the needs of a job can be met now."""
        return all(
            resource.available_at(need) < 0 for resource, need in job.scheduler._run.queue.groups.resolve_needs(job)
        )


@pytest.mark.parametrize("seeds", [range(40), pytest.param(range(40, 2000), marks=pytest.mark.soak)])
def test_a_job_is_overtaken_at_most_backfill_times_and_only_while_its_needs_cannot_be_met(
    backend: str, monkeypatch: pytest.MonkeyPatch, seeds: range
) -> None:
    """While a job is the first with its needs, at most `backfill` later ones that share one start, if it cannot."""
    reached = 0
    for seed in seeds:
        with monkeypatch.context() as patches:
            scenario = Scenario(patches, seed)
            Ordered(backend, seed)(scenario.run)
        assert not scenario.faults, (seed, scenario.faults[0])
        assert scenario.furthest <= scenario.backfill, seed
        reached += 0 < scenario.furthest == scenario.backfill
    assert reached > len(seeds) // 4
