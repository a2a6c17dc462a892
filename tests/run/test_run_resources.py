"""Resources that each run has without a pool, for kinds of jobs, such as the worker processes of ProcessJobs."""

from collections.abc import Iterator
from typing import Any

import pytest
from trioflow import Job, Pool, Scheduler, Trace
from trioflow._core.job import _job_options
from trioflow.abc import declare_run_resource, set_run_need
from ..bodies import nap
from ..conftest import Virtual


class BenchJob(Job[Any]):
    def check_before_run(self) -> None:
        set_run_need(self, "benches", 1)


@pytest.fixture(autouse=True)
def two_benches() -> Iterator[None]:
    declare_run_resource("benches", lambda: 2)
    yield
    del _job_options.RUN_RESOURCES["benches"]


def benches(number: int, **options: Any) -> list[Job[Any]]:
    return [BenchJob(nap, 1, label=f"bench {place}", **options) for place in range(number)]


def traced_run(virtual: Virtual, scheduler: Scheduler) -> Trace:
    trace = Trace()
    virtual(lambda: scheduler.co_run(instruments=[trace]))
    return trace


def test_all_jobs_of_a_run_share_its_run_resources(virtual: Virtual) -> None:
    nested, keeper = Scheduler(*benches(2), label="n"), Scheduler(*benches(2), needs={"cpu": 1}, label="k")
    scheduler = Scheduler(*benches(2), nested, keeper, pool=Pool(cpu=1))
    traced_run(virtual, scheduler)
    jobs = [job for job in scheduler.iterate_jobs() if isinstance(job, BenchJob)]
    started = sorted(job.started_at or 0.0 for job in jobs)
    assert [round(start - started[0], 3) for start in started] == [0, 0, 1, 1, 2, 2]


def test_a_job_added_during_the_run_waits_for_a_run_resource(virtual: Virtual) -> None:
    async def add() -> None:
        scheduler.update(late)

    late = benches(3)
    scheduler = Scheduler(Job(add))
    traced_run(virtual, scheduler)
    starts = sorted(job.started_at or 0.0 for job in late)
    assert starts[2] - starts[0] == pytest.approx(1)


def test_a_trace_names_the_wait_for_a_run_resource(virtual: Virtual) -> None:
    trace = traced_run(virtual, Scheduler(benches(3)))
    waits = {span.label: [wait.words for wait in span.waits] for span in trace.spans if span.waits}
    assert waits == {"bench 2": ["benches"]}
