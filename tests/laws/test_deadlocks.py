"""No scenario that a run accepts deadlocks, whatever its schedulers keep, share and add.

The scenarios keep the rule of needs, so that none is rejected. The tests count which parts the scenarios have, and how
many of them fill windows and pools. The suite runs a few scenarios; for more of them::

    TRIOFLOW_SOAK=10000 python -m tests --soak -- tests/laws/test_deadlocks.py
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from trioflow import Job, Pool, Rate, Scheduler, StopReason, current_job

from ..conftest import Ordered

if TYPE_CHECKING:
    from ..conftest import Virtual

FEW = 25
MANY = int(os.environ.get("TRIOFLOW_SOAK", "1000"))
LATE = 1e5
"""When a run is stopped that stands still."""
INSIDE = {"rate inside": 1 / 4, "pool inside": 1 / 4}
PARTS = {"keeps": 1 / 2, "limiter": 1 / 4, "late": 1 / 4, "two runs": 1 / 4, **INSIDE}
"""How many of the scenarios have which part."""


class Scenario:
    """One or two schedulers with one pool; its parts are drawn first, and then each is put in at least once."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.seen: Counter[str] = Counter()
        keeps = self.chance(PARTS["keeps"])
        shares = {"keeps": keeps, **{name: share / PARTS["keeps"] * keeps for name, share in INSIDE.items()}}
        self.parts = {name for name, share in (PARTS | shares).items() if self.chance(share)}
        self.pools = [self.pool("abc")]
        self.limiters = [anyio.CapacityLimiter(self.draw.choice([1, 2])) for _ in range(2)]
        self.backfill = self.draw.choice([0, 0, 1, 3, 64])
        self.runs = [self.outermost() for _ in range(1 + ("two runs" in self.parts))]

    def chance(self, share: float) -> bool:
        return self.draw.random() < share

    def pool(self, names: Iterable[str]) -> Pool:
        rate = Rate(requests=3, per=5)
        return Pool(**{name: self.draw.choice([1, 2]) for name in names}, r=rate)  # type: ignore[arg-type]

    def outermost(self) -> Scheduler:
        members = self.members(0, "abc", kept=False)
        if "keeps" in self.parts:
            members.append(self.group(1, "abc", kept=False, keeps=True))
        return self.scheduler(members, pool=self.pools[0], timeout=LATE)

    def scheduler(self, members: list[Any], **options: Any) -> Scheduler:
        window: Any = self.draw.choice([None, None, 1, 2])
        if "limiter" in self.parts and self.chance(1 / 2):
            window = self.draw.choice(self.limiters)
            self.seen["limiter"] += 1
        return Scheduler(*members, jobs_window=window, backfill=self.backfill, **options)

    def members(self, depth: int, names: str, kept: bool) -> list[Any]:
        members: list[Any] = []
        for _ in range(self.draw.randint(1, 5) if depth else self.draw.randint(4, 9)):
            inside = depth < 3 and self.chance(0.35)
            member = self.group(depth + 1, names, kept=kept) if inside else self.job(names, depth, kept=kept)
            for other in members:
                if self.chance(0.2):
                    member.requires(other)
            members.append(member)
        return members

    def group(self, depth: int, names: str, *, kept: bool, keeps: bool = False) -> Scheduler:
        """Build a nested scheduler whose members need what it keeps, if it keeps anything."""
        options: dict[str, Any] = {}
        if names and "keeps" in self.parts and (keeps or self.chance(0.3)):
            names = "".join(self.draw.sample(names, self.draw.randint(1, len(names))))
            options["needs"] = dict.fromkeys(names, 1)
            kept = True
            self.seen["keeps"] += 1
        if kept and "pool inside" in self.parts and (keeps or self.chance(0.3)):
            own = "xy"[: self.draw.randint(1, 2)]
            options["pool"] = self.pool(own)
            self.pools.append(options["pool"])
            names += own
            self.seen["pool inside"] += 1
        members = self.members(depth, names, kept)
        if keeps and "rate inside" in self.parts:
            members.append(self.job(names, depth, kept=True, rated=True))
        return self.scheduler(members, **options)

    def job(self, names: str, depth: int, *, kept: bool, rated: bool = False) -> Job[None]:
        needs = {name: 1 for name in dict.fromkeys(names) if self.chance(0.45)}
        if rated or ("rate inside" in self.parts and self.chance(0.3)):
            needs["r"] = 1
            self.seen["rate inside"] += kept
        adds = "late" in self.parts and self.chance(0.3)
        seconds = self.draw.choice([0, 0.5, 1, 1, 2])
        added = (names, depth, kept) if adds else None
        return Job(self.body, seconds, added, needs=needs, priority=self.draw.choice([0, 0, 0, 1]))

    async def body(self, seconds: float, added: tuple[str, int, bool] | None) -> None:
        scheduler = current_job().scheduler
        assert scheduler is not None
        self.look(scheduler)
        if added is not None:
            names, depth, kept = added
            inside = depth < 3 and self.chance(0.6)
            more = self.group(depth + 1, names, kept=kept) if inside else self.job(names, 3, kept=kept)
            await anyio.sleep(seconds / 2)
            scheduler.add(more)
            self.seen["late"] += 1
        await anyio.sleep(seconds)

    def look(self, scheduler: Scheduler) -> None:
        """Count what is used up when a job has started."""
        size = scheduler.jobs_window
        running = sum(job.is_running() for job in scheduler)
        self.seen["full window"] += isinstance(size, int) and running == size
        self.seen["full window"] += any(not limiter.available_tokens for limiter in self.limiters)
        self.seen["full pool"] += any(0 in pool.free.values() for pool in self.pools)

    async def run(self) -> None:
        async with anyio.create_task_group() as group:
            for scheduler in self.runs:
                group.start_soon(scheduler.co_run)


def perform(virtual: Virtual, seed: int) -> set[str]:
    """Run a scenario to its end; return the parts that occurred, and which of windows and pools were used up."""
    scenario = Scenario(seed)
    virtual(scenario.run)
    assert [run.stop_reason for run in scenario.runs] == [StopReason.COMPLETED] * len(scenario.runs)
    left = [job for run in scenario.runs for job in run.iterate_jobs() if not job.is_succeeded()]
    assert left == []
    for pool in scenario.pools:
        assert all(pool.free[name] == total for name, total in pool.total.items() if name != "r")
    assert not any(limiter.borrowed_tokens for limiter in scenario.limiters)
    scenario.seen["two runs"] = len(scenario.runs) - 1
    return {what for what, number in scenario.seen.items() if number}


def check_parts(seen: Counter[str], number: int) -> None:
    """Check that each part occurs about as often as it should, and that most scenarios use up a window and a pool."""
    for part, share in PARTS.items():
        assert seen[part] > 0.7 * share * number, part
    assert seen["full pool"] > 0.9 * number
    assert seen["full window"] > 0.9 * number


def test_no_random_run_deadlocks(backend: str) -> None:
    """Each random run ends by itself, all its jobs succeed, and it leaves nothing taken."""
    seen: Counter[str] = Counter()
    for seed in range(FEW):
        seen.update(perform(Ordered(backend, seed), seed))
    check_parts(seen, FEW)


@pytest.mark.soak
def test_none_of_many_random_runs_deadlocks(backend: str) -> None:
    """A long run of `test_no_random_run_deadlocks`."""
    seen: Counter[str] = Counter()
    for seed in range(MANY):
        seen.update(perform(Ordered(backend, seed), seed))
    print(backend, MANY, dict(seen))
    check_parts(seen, MANY)
