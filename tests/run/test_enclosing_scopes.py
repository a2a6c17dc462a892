"""Effects of cancel scopes around a run on its jobs."""

import asyncio
import math
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from trioflow import Job, Scheduler, StopReason
from trioflow.abc import AbstractJob
from ..bodies import nap
from ..conftest import Virtual


async def deadline() -> float:
    return anyio.current_effective_deadline()


@pytest.mark.fast_way("asyncio")  # with direct isolation, jobs do not see it there
@pytest.mark.parametrize("nested", [False, True])
def test_job_sees_the_deadline_of_a_scope_around_the_run(virtual: Virtual, nested: bool) -> None:
    """A job sees the deadline of a scope around the run; on asyncio it once saw only scopes of its own."""
    job = Job(deadline)
    scheduler = Scheduler(Scheduler(job)) if nested else Scheduler(job)

    async def main() -> None:
        with anyio.move_on_after(7):
            await scheduler.co_run()

    virtual(main)
    assert job.result() == 7


@pytest.mark.fast_way("asyncio")  # with direct isolation, jobs do not see it there
def test_job_sees_the_nearest_deadline(virtual: Virtual) -> None:
    timed, own, inner = Job(deadline), Job(deadline, timeout=3), Job(deadline)
    scheduler = Scheduler(timed, own, Scheduler(inner, timeout=4), timeout=5)
    free = Job(deadline)

    async def main() -> None:
        with anyio.move_on_after(7):
            await scheduler.co_run()
            with anyio.CancelScope(shield=True):
                await Scheduler(free).co_run()

    virtual(main)
    assert [job.result() for job in (timed, own, inner, free)] == [5, 3, 4, math.inf]


async def in_cancelled_scope(run: Any) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await run()


async def in_cancelled_task(run: Any) -> None:
    async def cancelled() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await run()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(cancelled())


@pytest.mark.parametrize("cancelled", [in_cancelled_scope, in_cancelled_task])
@pytest.mark.parametrize("jobs", [0, 1, 3])
def test_run_in_a_cancelled_scope_or_task_starts_nothing(virtual: Virtual, cancelled: Any, jobs: int) -> None:
    if cancelled is in_cancelled_task and virtual.backend == "trio":
        pytest.skip("trio has no native cancellation of a task")
    scheduler = Scheduler([Job(nap) for _ in range(jobs)])
    ended: list[int] = []

    async def run() -> None:
        await scheduler.co_run()
        ended.append(1)

    virtual(cancelled, run)
    assert scheduler.stop_reason is StopReason.CANCELLED
    assert not ended
    assert all(job.started_at is None for job in scheduler)


def test_cancellation_from_outside_is_no_timeout_whatever_timers_are_set(virtual: Virtual) -> None:
    """On trio, a cancellation from outside was once taken for a timeout if timers noticed it before the run did. trio
    resumes tasks in any order: with this many timers, one of them was nearly always before the run."""
    for _ in range(3):
        scheduler = Scheduler(*(Scheduler(Job(nap, 9), timeout=8) for _ in range(20)))

        async def main(scheduler: Scheduler = scheduler) -> None:
            with anyio.move_on_after(1):
                await scheduler.co_run()

        virtual(main)
        assert scheduler.stop_reason is StopReason.CANCELLED


@pytest.mark.fast_way  # with direct isolation it stops in the next turn of the loop
@pytest.mark.parametrize("drains", [True, False])
def test_run_stops_at_once_when_a_job_cancels_a_scope_around_it(virtual: Virtual, drains: bool) -> None:
    async def cancel(around: anyio.CancelScope) -> None:
        around.cancel()
        if drains:
            scheduler.drain()
        with pytest.raises(RuntimeError, match="is stopping"):
            scheduler.add(Job(anyio.sleep, 1))

    async def main() -> None:
        with anyio.CancelScope() as around:
            scheduler.add(Job(cancel, around))
            await scheduler.co_run()

    scheduler = Scheduler()
    virtual(main)
    assert scheduler.stop_reason is StopReason.CANCELLED


class CancelsAround(AbstractJob[None]):
    """Cancels a scope around the run, in its body or in its shutdown."""

    def __init__(self, around: anyio.CancelScope, at_the_end: bool) -> None:
        super().__init__()
        self.around = around
        self.at_the_end = at_the_end

    async def co_run(self) -> None:
        if not self.at_the_end:
            self.around.cancel()

    async def co_shutdown(self) -> None:
        self.around.cancel()


@pytest.mark.parametrize("at_the_end", [False, True])
def test_run_whose_last_job_cancels_an_enclosing_scope_does_not_return(virtual: Virtual, at_the_end: bool) -> None:
    """If the last job cancels a scope around the run, the run raises the cancellation instead of returning."""
    went_on: list[bool] = []

    async def main() -> None:
        with anyio.CancelScope() as around:
            went_on.append(await Scheduler(CancelsAround(around, at_the_end)).co_run())

    virtual(main)
    assert went_on == []
