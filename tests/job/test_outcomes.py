"""The state, result and times of a job, and waiting for it."""

import functools
import traceback
from typing import Any
import anyio
import anyio.lowlevel
import pytest
from trioflow import AbstractJob, Job, JobCancelled, JobNotDone, JobState, Scheduler
from ..bodies import IDLE, RUNNING, SCHEDULED, SUCCEEDED, fail, later, nap
from ..conftest import Virtual


# --- states and outcomes
def test_states_follow_the_life_of_a_job(virtual: Virtual) -> None:
    """A job is IDLE until its requirements have settled, SCHEDULED until there is a slot, RUNNING, and then settled."""
    first, second = Job(nap, 2), Job(nap, 2)
    third = Job(nap, 2, required=first)
    seen: list[list[JobState]] = []

    async def look(scheduler: Scheduler) -> None:
        for _ in range(4):
            await anyio.sleep(1)
            seen.append([job.state for job in (first, second, third)])
            await anyio.sleep(1)

    async def main() -> None:
        scheduler = Scheduler(first, second, third, jobs_window=1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look, scheduler)
            assert await scheduler.co_run()

    virtual(main)
    assert seen == [
        [RUNNING, SCHEDULED, IDLE],
        [SUCCEEDED, RUNNING, SCHEDULED],
        [SUCCEEDED, SUCCEEDED, RUNNING],
        [SUCCEEDED, SUCCEEDED, SUCCEEDED],
    ]


def test_result_returns_the_value_of_the_function(virtual: Virtual) -> None:
    value = object()
    job = Job(nap, 1, value)
    virtual(Scheduler(job).co_run)
    assert job.result() is value
    assert job.result() is value
    assert job.raised_exception() is None


def test_result_raises_the_exception_of_the_job_with_its_original_traceback(
    virtual: Virtual,
) -> None:
    error = OSError("broken")
    job = Job(fail, 1, error)
    virtual(Scheduler(job).co_run)
    lengths = []
    for _ in range(3):
        with pytest.raises(OSError, match="broken") as caught:
            job.result()
        assert caught.value is error
        lengths.append(len(traceback.extract_tb(caught.value.__traceback__)))
    assert lengths[0] == lengths[1] == lengths[2]
    assert any(
        frame.name == "fail" for frame in traceback.extract_tb(error.__traceback__)
    )
    assert job.raised_exception() is error


def test_result_of_an_unfinished_job_raises_job_not_done(virtual: Virtual) -> None:
    job = Job(nap, label="slow")
    with pytest.raises(JobNotDone, match=r"'slow' is idle"):
        job.result()
    never = Job(nap, label="never", required=job)
    assert (
        virtual(
            functools.partial(Scheduler(job, never, label="home").co_run, timeout=0.5)
        )
        is False
    )
    with pytest.raises(
        JobNotDone,
        match=r"'never' was not reached: the run of 'home' stopped before \(timeout\), so",
    ):
        never.result()


def test_result_of_a_cancelled_job_raises_a_fresh_job_cancelled(
    virtual: Virtual,
) -> None:
    job = Job(nap, label="cut")
    virtual(functools.partial(Scheduler(job).co_run, timeout=0.5))
    errors = []
    for _ in range(2):
        with pytest.raises(JobCancelled, match="'cut'") as caught:
            job.result()
        errors.append(caught.value)
    assert errors[0] is not errors[1]
    assert job.raised_exception() is None


def test_times_of_a_job_are_on_the_clock_of_the_backend(virtual: Virtual) -> None:
    """`started_at`, `finished_at` and `elapsed` are seconds on the backend's clock, or None if unknown."""
    first, second = Job(nap, 2), Job(nap, 3)
    second.requires(first)
    never = Job(nap, required=second)
    assert (second.started_at, second.finished_at, second.elapsed) == (None, None, None)

    async def main() -> None:
        await anyio.sleep(10)
        await Scheduler(first, second, never).co_run(timeout=4)

    virtual(main)
    assert (first.started_at, first.finished_at, first.elapsed) == (10, 12, 2)
    assert (second.started_at, second.finished_at, second.elapsed) == (12, 14, 2)
    assert (never.started_at, never.finished_at, never.elapsed) == (None, None, None)


def test_elapsed_of_a_running_job_grows(virtual: Virtual) -> None:
    """While a job runs, `elapsed` is the time until now."""
    job = Job(nap, 5)
    looker = Job(later, 2, lambda: job.elapsed)
    virtual(Scheduler(job, looker).co_run)
    assert looker.result() == 2


# --- wait_settled
def test_wait_settled_waits_in_another_task(virtual: Virtual) -> None:
    ok, bad = Job(nap, 1), Job(fail, 2)
    scheduler = Scheduler(ok, bad, Job(nap, 3))
    woken: dict[str, float] = {}

    async def wait(name: str, job: AbstractJob[Any]) -> None:
        await job.wait_settled()
        woken[name] = anyio.current_time()

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait, "ok", ok)
            tasks.start_soon(wait, "bad", bad)
            tasks.start_soon(wait, "bad too", bad)
            await scheduler.co_run()

    virtual(main)
    assert woken == {"ok": 1, "bad": 2, "bad too": 2}


def test_wait_settled_works_in_another_job(virtual: Virtual) -> None:
    slow = Job(nap, 2)

    async def wait() -> float:
        await slow.wait_settled()
        return anyio.current_time()

    waiter = Job(wait)
    virtual(Scheduler(waiter, slow).co_run)
    assert waiter.result() == 2


def test_wait_settled_of_a_settled_job_returns_at_once(virtual: Virtual) -> None:
    async def wait() -> tuple[float, float]:
        start = anyio.current_time()
        await job.wait_settled()
        return start, anyio.current_time()

    job = Job(nap)
    virtual(Scheduler(job).co_run)
    start, end = virtual(wait)
    assert start == end


def test_wait_settled_of_a_job_that_the_run_does_not_reach_raises(
    virtual: Virtual,
) -> None:
    bad = Job(fail, 1, critical=True)
    never = Job(nap, label="never", required=bad)
    inside = Job(nap, label="inside")
    scheduler = Scheduler(bad, never, Scheduler(inside, required=bad))
    told: list[str] = []

    async def wait(job: Job[Any]) -> None:
        with pytest.raises(JobNotDone) as caught:
            await job.wait_settled()
        told.append(str(caught.value))

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait, never)
            tasks.start_soon(wait, inside)
            await anyio.lowlevel.checkpoint()
            await scheduler.co_run()
        await wait(never)

    virtual(main)
    assert sum("'never'" in one for one in told) == 2
    assert sum("'inside'" in one for one in told) == 1


def test_wait_settled_of_a_job_in_no_scheduler_raises(virtual: Virtual) -> None:
    with pytest.raises(JobNotDone, match="'lonely'"):
        virtual(Job(nap, label="lonely").wait_settled)
