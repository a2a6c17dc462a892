"""`async with Scheduler(...) as s`: jobs start as they are added, and leaving waits for all."""

import contextvars
import functools
from typing import Any

import anyio
import pytest
from trioflow import CycleError, Job, MissingRequirement, Scheduler, Service, StopReason, current_job, ref
from ..bodies import CANCELLED, SUCCEEDED, Flaw, fail, nap
from ..conftest import Virtual


# --- runs without errors
def test_jobs_start_as_they_are_added(virtual: Virtual) -> None:
    """In a block, existing jobs start at entry, others as they are added, and leaving the block waits for all."""

    async def main() -> None:
        first = Job(nap, 1)
        async with Scheduler(first) as scheduler:
            await anyio.sleep(2)
            second = scheduler.add(Job(nap, 3, "value"))
            third, fourth = Job(nap, 1), Job(nap, 1)
            scheduler.update([third, fourth.requires(third)])
            await anyio.sleep(1)
        assert anyio.current_time() == 5
        assert [job.started_at for job in (first, second, third, fourth)] == [0, 2, 2, 3]
        assert (second.result(), scheduler.stop_reason) == ("value", StopReason.COMPLETED)

    virtual(main)


def test_a_job_that_never_runs_again_keeps_its_options(virtual: Virtual) -> None:
    async def main() -> None:
        async with Scheduler(keep_jobs=False) as scheduler:
            job = scheduler.add(Job(nap, 1, timeout=5, label="one"))
            await job.wait_settled()
            assert (job.state, job.timeout, job.label) == (SUCCEEDED, 5, "one")

    virtual(main)


def test_entry_of_a_block_returns_the_scheduler(virtual: Virtual) -> None:
    """`async with scheduler as s` gives the scheduler itself, which accepts jobs at once."""

    async def main() -> None:
        scheduler = Scheduler()
        async with scheduler as s:
            assert s is scheduler
            job = s.add(Job(nap, 1))
        assert job.state is SUCCEEDED

    virtual(main)


def test_empty_block_ends_at_once(virtual: Virtual) -> None:
    """An `async with` block without jobs is left at once, and its run is COMPLETED."""

    async def main() -> None:
        async with Scheduler() as scheduler:
            pass
        assert (anyio.current_time(), scheduler.stop_reason) == (0, StopReason.COMPLETED)

    virtual(main)


def test_block_stays_open_while_it_has_no_job_to_run(virtual: Virtual) -> None:
    async def main() -> None:
        async with Scheduler(Job(nap)) as scheduler:
            await anyio.sleep(5)
            assert scheduler.stop_reason is None
            late = scheduler.add(Job(nap))
        assert late.finished_at == 6

    virtual(main)


def test_leaving_a_block_waits_for_jobs_added_by_jobs(virtual: Virtual) -> None:
    async def grow(left: int) -> None:
        await anyio.sleep(1)
        if left:
            scheduler.add(Job(grow, left - 1))

    async def main() -> float:
        async with scheduler:
            scheduler.add(Job(grow, 3))
        return anyio.current_time()

    scheduler = Scheduler()
    assert virtual(main) == 4


def test_options_and_kinds_of_jobs_work_in_a_block(virtual: Virtual) -> None:
    """Window, forever jobs, services and nested schedulers work in an `async with` block as in any run."""

    async def serve(*, task_status: Any) -> None:
        task_status.started("address")
        await anyio.sleep_forever()

    async def main() -> None:
        forever, service = Job(anyio.sleep_forever, forever=True), Service(serve)
        async with Scheduler(forever, service, jobs_window=1) as scheduler:
            jobs = [scheduler.add(Job(nap, 1, service)) for _ in range(2)]
            inner = scheduler.add(Scheduler(Job(nap, 1), Job(nap, 1)))
        assert anyio.current_time() == 3
        assert [job.result() for job in jobs] == ["address"] * 2
        assert [job.state for job in (forever, service, inner)] == [CANCELLED, SUCCEEDED, SUCCEEDED]

    virtual(main)


def test_failures_that_count_are_raised_by_a_block(virtual: Virtual, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        fine, bad = Job(nap, 2), Job(fail, 1, Flaw())
        with pytest.raises(ExceptionGroup) as caught:
            async with Scheduler(bad, fine, Job(fail, critical=False)):
                pass
        assert caught.value.exceptions == (bad.raised_exception(),)
        assert fine.is_succeeded()

    virtual(main)
    assert any(message.startswith("1 job of ") for message in caplog.messages)


def test_scheduler_is_closed_after_its_block(virtual: Virtual) -> None:
    async def main() -> None:
        async with Scheduler(job := Job(nap, 1, "value")) as scheduler:
            pass
        assert job.result() == "value"
        for refused in (lambda: scheduler.add(Job(nap)), lambda: scheduler.map(nap, [1])):
            with pytest.raises(RuntimeError, match="closed"):
                refused()
        with pytest.raises(RuntimeError, match="closed"):
            await scheduler.co_run()
        with pytest.raises(RuntimeError, match="closed"):
            async with scheduler:
                pass

    virtual(main)


# --- rejected at entry
def test_scenario_that_cannot_run_is_rejected_at_entry_of_a_block(virtual: Virtual) -> None:
    async def main() -> None:
        a, b, c = Job(nap), Job(nap), Job(nap)
        scheduler = Scheduler(a.requires(b), b.requires(a))
        with pytest.raises(CycleError):
            async with scheduler:
                raise AssertionError("entered")
        a.requires(b, remove=True)
        a.requires(c)
        with pytest.raises(MissingRequirement):
            async with scheduler:
                raise AssertionError("entered")
        scheduler.add(c)
        async with scheduler:
            pass
        assert scheduler.stop_reason is StopReason.COMPLETED

    virtual(main)


def test_entering_a_running_scheduler_raises(virtual: Virtual) -> None:
    async def enter(which: Scheduler) -> None:
        with pytest.raises(RuntimeError, match="running"):
            async with which:
                raise AssertionError("entered")

    async def main() -> None:
        inner.add(Job(enter, ref(inner)))
        outer.add(Job(enter, ref(outer)))
        await outer.co_run(check=True)

    inner = Scheduler()
    outer = Scheduler(inner)
    virtual(main)


# --- contexts, and blocks among others

variable = contextvars.ContextVar("variable", default="unset")


def test_job_in_a_block_gets_the_context_of_the_body(virtual: Virtual) -> None:
    async def read() -> str:
        value = variable.get()
        variable.set("job's")
        return value

    async def main() -> None:
        variable.set("before")
        async with Scheduler() as scheduler:
            variable.set("body's")
            job = scheduler.add(Job(read))
            await job.wait_settled()
            assert variable.get() == "body's"
            with pytest.raises(RuntimeError, match="current_job"):
                current_job()
        assert (job.result(), variable.get()) == ("body's", "body's")

    virtual(main)


def test_job_may_open_a_block(virtual: Virtual) -> None:
    async def open_block(seconds: float) -> None:
        me = current_job()
        async with Scheduler() as scheduler:
            inner.append(scheduler.add(Job(nap, seconds)))
            assert current_job() is me
            await anyio.sleep(seconds)

    inner: list[Any] = []
    jobs = [Job(open_block, 1), Job(open_block, 9)]
    scheduler = Scheduler(jobs, timeout=2)
    assert virtual(scheduler.co_run) is False
    assert [job.state for job in [*jobs, *inner]] == [SUCCEEDED, CANCELLED] * 2


@pytest.mark.parametrize("nested", [False, True])
def test_failure_in_one_block_does_not_affect_another(virtual: Virtual, nested: bool) -> None:
    async def one(seconds: float) -> None:
        async with Scheduler() as scheduler:
            jobs.append(scheduler.add(Job(nap, seconds)))

    async def broken() -> None:
        with pytest.raises(ExceptionGroup):
            async with Scheduler(Job(fail, 1, Flaw(), critical=True)):
                await anyio.sleep(9)

    async def main() -> float:
        if nested:
            async with Scheduler() as outer:
                jobs.append(outer.add(Job(nap, 5)))
                await one(2)
                await broken()
        else:
            async with anyio.create_task_group() as tasks:
                for function in (functools.partial(one, 2), broken, functools.partial(one, 5)):
                    tasks.start_soon(function)
        return anyio.current_time()

    jobs: list[Any] = []
    assert virtual(main) == 5
    assert [job.state for job in jobs] == [SUCCEEDED] * 2
