"""Every way of waiting for a job, times every way in which a job settles: each wait ends, and no resource is lost."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from trioflow import Budget, First, Job, Pool, Scheduler, StopReason, TrioflowError, ref

from ..bodies import nap

if TYPE_CHECKING:
    from ..conftest import Virtual


async def give(value: Any, *inputs: Any) -> Any:
    await nap(1)
    return value


async def fail() -> None:
    await nap(1)
    raise OSError("broken")


async def sleep_for_ever() -> None:
    await anyio.sleep_forever()


def succeeds(scheduler: Scheduler) -> Job[Any]:
    return Job(give, 1, label="awaited")


def fails(scheduler: Scheduler) -> Job[Any]:
    return Job(fail, label="awaited", retry=1)


def moves_on(scheduler: Scheduler) -> Job[Any]:
    return Job(sleep_for_ever, label="awaited", timeout=2, on_timeout="move_on")


def is_blocked(scheduler: Scheduler) -> Job[Any]:
    return Job(give, 1, scheduler.add(Job(fail)), label="awaited")


def is_skipped(scheduler: Scheduler) -> Job[Any]:
    skipped = Job(give, 1, run_if="failed", required=scheduler.add(Job(give, 1)))
    return Job(give, 1, scheduler.add(skipped), label="awaited")


def lacks_budget(scheduler: Scheduler) -> Job[Any]:
    return Job(give, 1, scheduler.add(Job(give, 1, needs={"usd": 1})), label="awaited", needs={"usd": 1})


def is_cancelled(started: bool) -> Callable[[Scheduler], Job[Any]]:
    def make(scheduler: Scheduler) -> Job[Any]:
        inputs = [] if started else [scheduler.add(Job(nap, 5))]
        job = Job(sleep_for_ever, label="awaited") if started else Job(give, 1, *inputs, label="awaited")

        async def cancel() -> None:
            await nap(1)
            job.cancel()

        scheduler.add(Job(cancel))
        return job

    return make


WAYS: dict[str, Callable[[Scheduler], Job[Any]]] = {
    "succeeds": succeeds,
    "fails": fails,
    "moves on": moves_on,
    "blocked": is_blocked,
    "skipped": is_skipped,
    "without budget": lacks_budget,
    "cancelled early": is_cancelled(False),
    "cancelled late": is_cancelled(True),
    "restored": succeeds,
    "dropped": succeeds,
    "failed and dropped": fails,
}
"""The ways in which a job settles. A job that is restored, or dropped, succeeds or fails as others do."""


def other(value: Any, *inputs: Any, **options: Any) -> Job[Any]:
    """Return a job that each run runs, so that a restored job is awaited by one that is not."""
    return Job(give, value, *inputs, save=None, **options)


async def wait_for(job: Job[Any]) -> str:
    try:
        await job.wait_settled()
    except TrioflowError as error:
        return type(error).__name__
    return job.state.value


async def take(job: Job[Any]) -> Any:
    try:
        return await job
    except (TrioflowError, OSError) as error:
        return type(error).__name__


def needs_the_same(job: Job[Any]) -> Job[Any]:
    job.needs = {**job.needs, "cpu": 1}
    return other(2, needs={"cpu": 1}, priority=-1)


def requires_settled(job: Job[Any]) -> Job[Any]:
    waiter = other(2)
    waiter.requires(job, settled=True)
    return waiter


def first(job: Job[Any], **options: Any) -> First:
    """Return a `First` of the job and of two others, which come after it in the order of turns."""
    return First(job, other("b"), other("c"), **options)


WAITS: dict[str, Callable[[Job[Any]], Job[Any] | Scheduler]] = {
    "requires": lambda job: other(2, required=job),
    "run_if failed": lambda job: other(2, required=job, run_if="failed"),
    "run_if settled": lambda job: other(2, required=job, run_if="settled"),
    "requires settled": requires_settled,
    "input": lambda job: other(2, job),
    "input in a group": lambda job: Scheduler(other(2, job), label="group"),
    "group": lambda job: other(2, required=Scheduler(job, label="group")),
    "wait_settled": lambda job: Job(wait_for, ref(job), save=None),
    "await": lambda job: Job(take, ref(job), save=None),
    "first": lambda job: first(job),
    "first of two": lambda job: first(job, enough=2),
    "all": lambda job: first(job, enough=3),
    "staggered": lambda job: first(job, stagger=0.5),
    "staggered, of two": lambda job: first(job, stagger=50, enough=2),
    "staggered, all": lambda job: first(job, stagger=50, enough=3),
    "first that drops": lambda job: first(job, stagger=50, enough=3, keep_jobs=False),
    "first of a group": lambda job: First(Scheduler(job, label="group"), other("b"), stagger=50, enough=2),
    "slot": lambda job: Scheduler(job, other(2), jobs_window=1),
    "need": needs_the_same,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wait", WAITS)
def test_each_wait_ends_in_whichever_way_its_job_settles(virtual: Virtual, tmp_path: Path, wait: str, way: str) -> None:
    """A run ends by itself, with the job, and what waits for it, settled, and with all of its resources free."""

    async def run() -> None:
        pool = Pool(usd=Budget(1), cpu=1)
        journal = tmp_path / "run.db" if way == "restored" else None
        scheduler = Scheduler(label="run", pool=pool, timeout=1000, journal=journal, keep_jobs="dropped" not in way)
        job = WAYS[way](scheduler)
        waiter = WAITS[wait](job)
        nested = [one for one in (job, *waiter.required, waiter) if one.scheduler is None]
        if scheduler.keep_jobs:
            scheduler.update(nested)
            await scheduler.co_run()
        else:
            with contextlib.suppress(ExceptionGroup):  # of the failures that count
                async with scheduler:
                    for one in nested:
                        scheduler.add(one)
        assert scheduler.stop_reason not in (None, StopReason.TIMEOUT, StopReason.CRITICAL)
        assert job.is_settled() or waiter.restored  # a `First` that is restored as a whole starts none of its jobs
        assert waiter.is_settled()
        assert waiter.is_succeeded() or wait != "requires settled" or way == "skipped"
        assert pool.free["cpu"] == 1

    for _ in range(2 if way == "restored" else 1):
        virtual(run)
