"""Faults that random scenarios have found, each made as small as it gets; those of the model are in `tests/model`."""

import asyncio
import contextlib
import functools
import sys
from typing import Any

import anyio
import pytest
from trioflow import AbstractJob, CycleError, Job, Scheduler, StopReason, current_job
from ..bodies import nap, nothing
from ..conftest import Virtual


class SlowToShutDown(Job[None]):
    async def co_shutdown(self) -> None:
        await anyio.sleep(0.5)


def test_cancellation_during_the_shutdown_is_raised_after_it(virtual: Virtual) -> None:
    """On asyncio, a cancellation of an anyio scope around the run was lost if it came during the shutdown."""

    async def main() -> None:
        scheduler = Scheduler(SlowToShutDown(anyio.sleep, 1))
        with anyio.move_on_after(1.25) as scope:
            await scheduler.co_run()
        assert (scope.cancelled_caught, scheduler.stop_reason) == (True, StopReason.COMPLETED)

    virtual(main)


def test_a_scope_around_a_run_that_ends_cancels_its_jobs_once_more(virtual: Virtual) -> None:
    """On asyncio, jobs that unwound after a timeout did not notice that a scope around the run was cancelled. This is a
    further cause, as the `cancel()` of a task is: it ends their next wait, and is raised after the ending."""

    async def clean_up_without_shield() -> None:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            await anyio.sleep(9)
            raise

    async def main() -> float:
        began = anyio.current_time()
        scheduler = Scheduler(Job(clean_up_without_shield), SlowToShutDown(nothing), timeout=1)
        with anyio.move_on_after(3) as scope:
            await scheduler.co_run()
        assert (scope.cancelled_caught, scheduler.stop_reason) == (virtual.backend == "asyncio", StopReason.TIMEOUT)
        return anyio.current_time() - began

    seconds = 3.5 if virtual.backend == "asyncio" else 1.5  # trio cancels each wait
    assert virtual(main) == seconds


@pytest.mark.parametrize("ends", ["timeout", "outside"])
def test_job_that_unwinds_cannot_add_jobs_or_requirements(virtual: Virtual, ends: str) -> None:
    """A cancelled job can add nothing, although on trio it may notice the cancellation before the run does."""
    taken: list[str] = []

    async def cancel_later() -> None:
        try:
            await anyio.sleep(100)
        finally:
            with contextlib.suppress(RuntimeError):
                scheduler.add(Job(nothing))
                taken.append("a job")
            with contextlib.suppress(RuntimeError):
                idle.requires(other)
                taken.append("a requirement")

    canceller, other = Job(cancel_later), Job(nap, 100)
    idle = Job(nap, required=canceller)
    scheduler = Scheduler(canceller, other, idle)

    async def main() -> None:
        for _ in range(20):
            with anyio.move_on_after(1 if ends == "outside" else 200):
                await scheduler.co_run(timeout=1 if ends == "timeout" else None)

    virtual(main)
    assert taken == []


def test_late_requirement_that_closes_a_cycle_through_an_input_is_rejected(virtual: Virtual) -> None:
    refused: list[type[Exception]] = []
    gate = Job(nap)
    source = Job(nap, required=gate)
    scheduler = Scheduler(gate, source)
    nested = Scheduler(Job(nap, 1, source), label="nested")

    async def cancel_later() -> None:
        try:
            source.requires(nested)
        except CycleError as error:
            refused.append(type(error))

    scheduler.update([nested, Job(cancel_later)])
    with contextlib.suppress(CycleError):
        virtual(functools.partial(scheduler.co_run, timeout=100))
    assert refused == [CycleError]
    assert scheduler.stop_reason is StopReason.COMPLETED


def test_two_tasks_may_share_one_iterator_of_as_settled(virtual: Virtual) -> None:
    seen: list[AbstractJob[Any]] = []

    async def main() -> None:
        jobs = [Job(anyio.sleep, seconds) for seconds in (1, 2, 3)]
        scheduler = Scheduler(jobs)
        stream = scheduler.as_settled()

        async def consume() -> None:
            async for job in stream:
                seen.append(job)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(consume)
            tasks.start_soon(consume)
            await scheduler.co_run()

    virtual(main)
    assert len(seen) == len(set(seen)) == 3


def test_job_that_waits_for_itself_is_rejected(virtual: Virtual) -> None:
    """A job that waits for its own end gets an error: otherwise it would wait forever, silently."""

    async def wait() -> None:
        await current_job().wait_settled()

    job = Job(wait, label="me")
    virtual(Scheduler(job).co_run)
    with pytest.raises(RuntimeError, match="'me' waits for itself"):
        job.result()


if sys.version_info >= (3, 12):

    def test_run_completes_with_the_eager_task_factory_of_asyncio() -> None:
        """With asyncio's eager task factory, a worker once ran before it knew its own task."""

        async def main() -> bool:
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
            inner = Scheduler(Job(nap, 0.01), Job(nothing), Job(anyio.sleep_forever, forever=True))
            return await Scheduler(inner, Job(nap, 0.01, required=inner)).co_run(timeout=60)

        assert asyncio.run(main()) is True
