"""pytest-trio's fixtures with schedulers: its nursery, its clock, and async fixtures that hold an open scheduler."""

from typing import Any
import pytest
import trio
import trio.testing
from trioflow import Job, JobCancelled, JobState, Scheduler, StopReason, current_job
from .conftest import Connection

pytestmark = pytest.mark.trio


async def nap(seconds: float, value: Any = None) -> Any:
    await trio.sleep(seconds)
    return value


async def test_autojump_clock_skips_the_sleeps_of_a_run(
    autojump_clock: trio.testing.MockClock,
) -> None:
    start = trio.current_time()
    job = Job(nap, 24 * 3600, "done")
    assert await Scheduler(job, timeout=48 * 3600).co_run()
    assert (job.result(), job.elapsed, trio.current_time() - start) == (
        "done",
        24 * 3600,
        24 * 3600,
    )


async def test_two_runs_can_share_one_nursery(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    start = trio.current_time()
    first, second = Job(nap, 3, 1), Job(nap, 5, 2)
    for job in (first, second):
        nursery.start_soon(Scheduler(job).co_run)
    await trio.sleep(1)
    assert [job.state for job in (first, second)] == [JobState.RUNNING] * 2
    assert (
        await first.wait_settled(),
        first.result(),
        trio.current_time() - start,
    ) == (None, 1, 3)
    assert (
        await second.wait_settled(),
        second.result(),
        trio.current_time() - start,
    ) == (None, 2, 5)


async def test_a_cancelled_nursery_ends_its_run(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    job = Job(nap, 3600)
    scheduler = Scheduler(job)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as own:
            own.start_soon(scheduler.co_run)
            await trio.sleep(1)
            scope.cancel()
    assert (scheduler.stop_reason, job.state) == (
        StopReason.CANCELLED,
        JobState.CANCELLED,
    )
    with pytest.raises(JobCancelled):
        job.result()


async def test_nursery_start_can_wait_for_a_run(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def serve(task_status: trio.TaskStatus[Scheduler]) -> None:
        async with Scheduler(label="served") as scheduler:
            await scheduler.add(Job(nap, 7)).wait_settled()
            task_status.started(scheduler)
            await scheduler.add(later).wait_settled()

    start, later = trio.current_time(), Job(nap, 2, label="later")
    scheduler = await nursery.start(serve)
    assert (trio.current_time() - start, later.is_settled()) == (7, False)
    await later.wait_settled()
    assert list(scheduler)[-1] is later
    assert trio.current_time() - start == 9


async def test_a_fixture_holds_a_scheduler_open(
    closed_afterwards: Connection,
    scheduler: Scheduler,
    autojump_clock: trio.testing.MockClock,
) -> None:
    """In a scheduler that a fixture holds open, a test can add jobs, which wait for the service of the fixture."""
    service = next(iter(scheduler))
    answers = [
        scheduler.add(Job(closed_afterwards.ask, what, required=service))
        for what in ("a", "b")
    ]
    for answer in answers:
        await answer.wait_settled()
    assert [answer.result() for answer in answers] == ["A", "B"]
    assert closed_afterwards.is_open


async def test_current_job_works_with_a_fixture(
    scheduler: Scheduler, autojump_clock: trio.testing.MockClock
) -> None:
    async def who() -> str:
        job = current_job()
        assert job.scheduler is scheduler
        return job.path

    job = scheduler.add(Job(who, label="who"))
    await job.wait_settled()
    assert job.result() == "who"
