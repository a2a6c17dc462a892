"""What jobs share during an outermost run, and what each run has without a pool."""

import asyncio
from collections.abc import Iterator
from typing import Any
import anyio
import pytest
from trioflow import Job, Pool, Scheduler, StopReason, Trace, current_job
from trioflow._core.job import _job_options
from trioflow._core.job._job_options import declare_run_resource
from trioflow._core.job._option_descriptors import set_run_need
from trioflow.abc import incidents_of, run_of
from trioflow.testing import run_virtual
from ..bodies import Closing, at_once, nap, nothing, running
from ..conftest import Virtual


# --- created on first need, closed once, when all jobs have ended
class Shared:
    """A resource that records when it is made and closed."""

    log: list[str] = []  # noqa: RUF012 - cleared by each test

    def __init__(self, run: Any) -> None:
        self.log.append(f"made for {run._run.scheduler.label}")

    async def close(self) -> None:
        self.log.append("closing")
        await anyio.sleep(0.25)
        self.log.append("closed")


class Endless(Shared):
    async def close(self) -> None:
        await anyio.sleep(100)


class Broken(Shared):
    async def close(self) -> None:
        raise OSError("broken")


async def share(kind: type[Shared] = Shared) -> Shared:
    return run_of(current_job()).shared(kind)


@pytest.fixture(autouse=True)
def _fresh_log() -> None:
    Shared.log.clear()


def test_all_nested_schedulers_share_one_resource(virtual: Virtual) -> None:
    """A shared resource is made once for the outermost run, and closed after the last shutdown."""
    closing = Closing(nothing)
    inner = Scheduler(Job(share, label="a"), label="inner")
    outer = Scheduler(
        inner, Job(share, label="b"), closing, label="outer", jobs_window=1
    )
    assert virtual(outer.co_run)
    assert Shared.log == ["made for outer", "closing", "closed"]
    first, second = (job for job in outer.iterate_jobs() if job.label in "ab")
    assert first.result() is second.result()
    assert closing.ended == 1


def test_a_resource_is_closed_when_the_run_is_cancelled(virtual: Virtual) -> None:
    async def main() -> None:
        with anyio.CancelScope() as scope:
            scheduler = Scheduler(Job(share), Job(nap, 10))
            async with running(scheduler, 1):
                scope.cancel()

    virtual(main)
    assert Shared.log[1:] == ["closing", "closed"]


def test_closing_a_resource_for_longer_than_shutdown_timeout_is_cancelled(
    virtual: Virtual,
) -> None:
    scheduler = Scheduler(Job(share, Endless), shutdown_timeout=2)

    async def main() -> float:
        start = anyio.current_time()
        assert await scheduler.co_run()
        return anyio.current_time() - start

    assert virtual(main) == 2
    assert (
        "was not closed within shutdown_timeout=2" in incidents_of(scheduler)[0].message
    )


@pytest.mark.parametrize("log", [True, False])
def test_error_in_closing_a_resource_is_reported(
    virtual: Virtual, caplog: pytest.LogCaptureFixture, log: bool
) -> None:
    """An error in closing a resource is an incident, which is logged even with `log=False`; the run is COMPLETED."""
    scheduler = Scheduler(Job(share, Broken), log=log)
    assert virtual(scheduler.co_run)
    assert "closing a shared object of the jobs raised" in caplog.text
    assert scheduler.stop_reason is StopReason.COMPLETED
    assert isinstance(incidents_of(scheduler)[0].exception, OSError)


def test_a_cancelled_closing_of_a_resource_is_not_begun_again() -> None:
    scheduler = Scheduler(Job(share))

    async def main() -> None:
        run = asyncio.create_task(scheduler.co_run())
        await asyncio.sleep(0.1)
        assert Shared.log[1:] == ["closing"]
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.wait([run])

    run_virtual(main, backend="asyncio")
    assert Shared.log[1:] == ["closing"]


def test_the_resource_made_last_is_closed_first(virtual: Virtual) -> None:
    order: list[str] = []

    class First(Shared):
        async def close(self) -> None:
            order.append("first")

    class Second(Broken):
        async def close(self) -> None:
            order.append("second")
            await super().close()

    class Third(Endless):
        async def close(self) -> None:
            order.append("third")
            await super().close()

    scheduler = Scheduler(
        Job(share, First), Job(share, Second), Job(share, Third), jobs_window=1
    )
    assert virtual(scheduler.co_run)
    assert order == ["third", "second", "first"]
    assert len(incidents_of(scheduler)) == 2


# --- resources without a pool, for kinds of jobs
class BenchJob(Job[Any]):
    def check_before_run(self) -> None:
        set_run_need(self, "benches", 1)


@pytest.fixture(autouse=True)
def two_benches() -> Iterator[None]:
    declare_run_resource("benches", lambda: 2)
    yield
    del _job_options.RUN_RESOURCES["benches"]


def benches(number: int, **options: Any) -> list[Job[Any]]:
    return [
        BenchJob(nap, 1, label=f"bench {place}", **options) for place in range(number)
    ]


def traced_run(virtual: Virtual, scheduler: Scheduler) -> Trace:
    trace = Trace()
    virtual(lambda: scheduler.co_run(instruments=[trace]))
    return trace


def test_all_jobs_of_a_run_share_its_run_resources(virtual: Virtual) -> None:
    nested, keeper = (
        Scheduler(*benches(2), label="n"),
        Scheduler(*benches(2), needs={"cpu": 1}, label="k"),
    )
    scheduler = Scheduler(*benches(2), nested, keeper, pool=Pool(cpu=1))
    traced_run(virtual, scheduler)
    jobs = [job for job in scheduler.iterate_jobs() if isinstance(job, BenchJob)]
    started = sorted(job.started_at or 0.0 for job in jobs)
    assert [round(start - started[0], 3) for start in started] == [0, 0, 1, 1, 2, 2]


def test_a_job_added_during_the_run_waits_for_a_run_resource(virtual: Virtual) -> None:
    late = benches(3)
    scheduler = Scheduler(Job(at_once, lambda: scheduler.update(late)))
    traced_run(virtual, scheduler)
    starts = sorted(job.started_at or 0.0 for job in late)
    assert starts[2] - starts[0] == pytest.approx(1)


def test_a_trace_names_the_wait_for_a_run_resource(virtual: Virtual) -> None:
    trace = traced_run(virtual, Scheduler(benches(3)))
    waits = {
        span.label: [wait.words for wait in span.waits]
        for span in trace.spans
        if span.waits
    }
    assert waits == {"bench 2": ["benches"]}
