"""The outcomes of all jobs at once: `results`, `failures`, `rows`; and results without traps."""

from typing import Any

import pytest
from trioflow import Job, JobState, Scheduler, Service
from ..bodies import fail, nap
from ..conftest import Virtual


async def give(value: object) -> object:
    return value


async def serve(*, task_status: Any) -> None:
    task_status.started("address")
    await nap(99)


@pytest.fixture
def mixed(virtual: Virtual) -> dict[str, Any]:
    jobs: dict[str, Any] = {"fine": Job(give, 1, label="fine"), "wrong": Job(fail, label="wrong")}
    jobs["blocked"] = Job(give, jobs["wrong"], label="blocked")
    jobs["skipped"] = Job(give, 0, label="skipped", run_if="failed", required=jobs["fine"])
    jobs["late"] = Job(nap, 50, label="late")
    jobs["unreached"] = Job(give, 0, label="unreached", required=jobs["late"])
    jobs["deep"] = Job(give, 2, label="deep")
    jobs["inner"] = Scheduler(jobs["deep"], label="inner")
    jobs["service"] = Service(serve, label="service")
    members = [job for name, job in jobs.items() if name != "deep"]
    jobs["all"] = Scheduler(members, timeout=5, label="all")
    virtual(jobs["all"].co_run)
    return jobs


def test_results_are_those_of_the_jobs_that_succeeded(mixed: dict[str, Any]) -> None:
    assert mixed["all"].results() == {mixed["fine"]: 1, mixed["deep"]: 2, mixed["service"]: "address"}


def test_failures_are_the_exceptions_that_jobs_raised(mixed: dict[str, Any]) -> None:
    ((job, error),) = mixed["all"].failures().items()
    assert job is mixed["wrong"]
    assert error is job.raised_exception()


def test_results_and_failures_are_empty_before_the_first_run() -> None:
    scheduler = Scheduler(Job(give, 1))
    assert scheduler.results() == scheduler.failures() == {}


def test_result_with_a_default_never_raises(mixed: dict[str, Any]) -> None:
    missing = object()
    got = {name: job.result(default=missing) for name, job in mixed.items() if name != "all"}
    assert {name for name, value in got.items() if value is not missing} == {"fine", "deep", "inner", "service"}
    assert got["fine"] == 1


def test_is_succeeded_is_true_of_one_state_only(mixed: dict[str, Any]) -> None:
    jobs = [job for name, job in mixed.items() if name != "all"]
    assert [job for job in jobs if job.is_succeeded()] == [job for job in jobs if job.state is JobState.SUCCEEDED]


def test_results_leaves_out_dropped_results(virtual: Virtual) -> None:
    """`results()` leaves out a result dropped by `keep_result=False`, and `result(default=7)` returns 7."""
    first = Job(give, 1, keep_result=False)
    second = Job(give, first)
    scheduler = Scheduler(first, second)
    virtual(scheduler.co_run)
    assert scheduler.results() == {second: 1}
    assert first.result(default=7) == 7
