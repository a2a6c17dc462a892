"""What a limit by key costs with a key for each job, as a crawler has that finds ever more hosts.

A feeder adds jobs, some at a time, to an open scheduler that keeps none of them: neither the time of a job nor the
memory may grow with the number of keys. The same jobs with one key are beside them.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from functools import partial
from typing import Final

from trioflow import Job, PerKey, Pool, Scheduler

from .. import loops
from ..bodies import BODIES
from ..measuring import Contest, Contestant, Sample, Setting, Stopwatch
from ..plans import Plan
from ..rivals import OURS

EACH: Final = "a key for each job"
ONE: Final = "one key"
BODY: Final = "checkpoint"
FEW: Final = 100
"""The number of jobs that are there at once, and that a key allows."""


def keys(plan: Plan) -> Iterator[Contest]:
    """Measure each number of jobs, by time, and then by memory, because `tracemalloc` is slow."""
    for backend in plan.loops:
        for size in plan.key_sizes:
            each, one = (Setting(backend, shape, BODY, size) for shape in (EACH, ONE))
            contestants = [
                Contestant(OURS, setting, partial(run, setting))
                for setting in (each, one)
            ]
            yield Contest("keys", contestants, plan.few_rounds)
            yield Contest("keys", [Contestant(OURS, each, partial(weigh, each))], 1)


def run(setting: Setting) -> Sample:
    """Run once; building the jobs is included."""
    watch = Stopwatch()
    with watch:
        loops.run(setting.backend, partial(feed, setting))
    return {"together": watch.cpu * 1e6 / setting.size}


def weigh(setting: Setting) -> Sample:
    """Run once under `tracemalloc`."""
    tracemalloc.start()
    try:
        loops.run(setting.backend, partial(feed, setting))
        return {"held": tracemalloc.get_traced_memory()[1]}
    finally:
        tracemalloc.stop()


async def feed(setting: Setting) -> None:
    """Add the jobs, each few when the last few have settled."""
    body = BODIES[setting.backend][setting.body]
    async with Scheduler(pool=Pool(host=PerKey(FEW)), keep_jobs=False) as scheduler:
        for first in range(0, setting.size, FEW):
            numbers = range(first, min(first + FEW, setting.size))
            hosts = (
                f"host {number}" if setting.shape == EACH else "host"
                for number in numbers
            )
            jobs = [
                Job(body, number, needs={"host": host})
                for number, host in zip(numbers, hosts, strict=True)
            ]
            scheduler.update(jobs)
            for job in jobs:
                await job.wait_settled()
