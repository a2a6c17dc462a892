"""A question whose answer nothing can use any more: the run does not wait for it, and the views say so."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any
import anyio
import pytest
from trioflow import Answer, Job, JobState, Pool, Scheduler, Service, StopReason
from trioflow._core.words import _job_queries
from trioflow._core.words._explain import get_status_text
from ..bodies import fail, nap
from ..conftest import Virtual
from .tries import Broken

IN_VAIN = "asks no more: nothing can use the answer, since"


async def use(*_: Any) -> None:
    await anyio.sleep(1)


async def serve(*, task_status: Any) -> None:
    await anyio.sleep(5)
    task_status.started()
    await anyio.sleep_forever()


def scenario(
    *others: Any, group: bool = False, **options: Any
) -> tuple[Scheduler, Job[Any], Answer[str], Job[Any]]:
    build = Job(fail, label="build")
    approve = Answer("publish?", choices=["yes", "no"], label="approve")
    publish = Job(use, approve, label="publish", required=build)
    jobs: list[Any] = [build, approve, publish, *others]
    if group:
        jobs = [Scheduler(jobs, label="group")]
    return Scheduler(jobs, **options), build, approve, publish


@pytest.mark.parametrize("group", [False, True])
@pytest.mark.parametrize("journal", [False, True])
def test_a_run_ends_whose_open_question_nothing_can_use(
    virtual: Virtual,
    tmp_path: Path,
    group: bool,
    journal: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It once waited for ever for an answer that only a blocked job had asked for."""
    scheduler, build, approve, publish = scenario(
        group=group, journal=tmp_path / "run.db" if journal else None
    )
    assert virtual(scheduler.co_run) is False
    assert [build.state, approve.state, publish.state] == [
        JobState.FAILED,
        JobState.CANCELLED,
        JobState.BLOCKED,
    ]
    assert "'build'" in str(publish.raised_exception())
    assert f"'approve' {IN_VAIN} 'publish' cannot run" in caplog.text


@pytest.mark.parametrize("limit", ["slot", "needs", "priority"])
def test_the_run_goes_on_until_all_else_has_ended(virtual: Virtual, limit: str) -> None:
    """Jobs that run, that wait for a slot or a pool, and that are behind these, come before the end of the question."""
    options: dict[str, Any] = (
        {"needs": {"ram": 1}}
        if limit == "needs"
        else {"priority": 3 * (limit == "priority")}
    )
    others: list[Job[Any]] = []
    for number in range(3):
        others.append(Job(nap, 5, label=f"other {number}", **options))
    others.append(Job(nap, 5, label="behind", required=others[0], retry=1, **options))
    pool: Any = {"pool": Pool(ram=1)} if limit == "needs" else {"jobs_window": 1}
    scheduler, _, approve, _ = scenario(*others, **pool)
    assert virtual(scheduler.co_run) is False
    assert [job.state for job in others] == [JobState.SUCCEEDED] * 4
    assert approve.state is JobState.CANCELLED


def test_services_and_forever_jobs_keep_no_question_open(virtual: Virtual) -> None:
    forever = Job(anyio.sleep, 1e9, label="forever", forever=True)
    service = Service(serve, label="service")
    scheduler, _, approve, _ = scenario(
        forever, service, Job(nap, 1, label="client", required=service)
    )
    assert virtual(scheduler.co_run) is False
    assert approve.state is JobState.CANCELLED


def test_a_question_is_waited_for_as_long_as_something_can_use_the_answer(
    virtual: Virtual,
) -> None:
    """Another job requires it; nothing requires it; what has failed is only required to settle, or is tolerated."""

    async def main(scheduler: Scheduler, approve: Answer[str]) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scheduler.co_run)
            await anyio.sleep(100)
            assert approve.state is JobState.RUNNING
            assert _job_queries.is_needed(approve)
            approve.answer("yes")

    for way in ("another", "none", "settled", "tolerated"):
        build = Job(fail, label="build", critical=False)
        approve = Answer("publish?", label="approve")
        publish = Job(use, label="publish")
        jobs: list[Any] = [build, approve, publish]
        if way != "none":
            publish.requires(approve)
        publish.requires(build, settled=way == "settled")
        if way == "another":
            jobs.append(Job(use, approve, label="another"))
        virtual(main, Scheduler(jobs), approve)
        assert approve.result() == "yes"


def test_a_held_run_asks_until_it_goes_on_and_the_answer_is_used_if_what_failed_succeeds(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    build = Job(Broken(1, 1), label="build")
    approve = Answer("publish?", choices=["yes", "no"], label="approve")
    publish = Job(use, approve, label="publish", required=build)
    scheduler = Scheduler(build, approve, publish, hold=True)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scheduler.co_run)
            await anyio.sleep(10)
            assert "is held" in caplog.text
            assert approve.state is JobState.RUNNING
            assert not _job_queries.is_needed(approve)
            assert (
                get_status_text(approve)
                == "asks: publish? (yes or no); nothing can use the answer now"
            )
            build.try_again()
            await anyio.sleep(10)
            assert get_status_text(approve) == "asks: publish? (yes or no)"
            approve.answer("yes")

    virtual(main)
    assert [job.state for job in (build, approve, publish)] == [JobState.SUCCEEDED] * 3


def test_a_held_run_that_is_released_ends_the_question(virtual: Virtual) -> None:
    scheduler, _, approve, publish = scenario(hold=True)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scheduler.co_run)
            await anyio.sleep(10)
            assert approve.state is JobState.RUNNING
            scheduler.resume()

    virtual(main)
    assert [approve.state, publish.state] == [JobState.CANCELLED, JobState.BLOCKED]


def test_a_group_that_is_tried_again_asks_again(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    build = Job(Broken(1, 1), label="build")
    approve = Answer("publish?", label="approve")
    group = Scheduler(
        build,
        approve,
        Job(use, approve, label="publish", required=build),
        label="group",
    )
    scheduler = Scheduler(group, Job(nap, 50, label="long"))

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scheduler.co_run)
            await anyio.sleep(10)
            assert approve.state is JobState.CANCELLED
            group.try_again()
            await anyio.sleep(10)
            assert approve.is_running()
            approve.answer("yes")

    virtual(main)
    assert group.state is JobState.SUCCEEDED


@pytest.mark.parametrize("group", [False, True])
@pytest.mark.parametrize("moment", ["before it is in vain", "after", "at the end"])
def test_a_drained_run_ends_whose_open_question_nothing_can_use(
    virtual: Virtual, group: bool, moment: str, caplog: pytest.LogCaptureFixture
) -> None:
    """No answer would start anything: a cluster that drains it would wait until it kills it."""
    build = Job(Broken(1, 3), label="build")
    approve = Answer("publish?", choices=["yes", "no"], label="approve")
    publish = Job(use, approve, label="publish", required=build)
    long = Job(nap, 10, label="long")
    jobs: list[Any] = [build, approve, publish, long]
    if group:
        jobs = [Scheduler(jobs, label="group")]
    scheduler = Scheduler(jobs)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scheduler.co_run)
            await anyio.sleep({"before it is in vain": 1, "after": 5}.get(moment, 9.5))
            scheduler.drain()

    virtual(main)
    assert scheduler.stop_reason is StopReason.DRAINED
    assert [job.state for job in (build, approve, publish, long)] == [
        JobState.FAILED,
        JobState.CANCELLED,
        JobState.IDLE,
        JobState.SUCCEEDED,
    ]
    assert f"'approve' {IN_VAIN} 'publish' cannot run" in caplog.text


def test_a_drained_run_waits_for_an_answer_that_the_next_run_can_use(
    virtual: Virtual,
) -> None:
    approve = Answer("publish?", label="approve")
    scheduler = Scheduler(approve, Job(use, approve, label="publish"))

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scheduler.co_run)
            await anyio.sleep(1)
            scheduler.drain()
            await anyio.sleep(100)
            assert approve.is_running()
            approve.answer("yes")

    virtual(main)
    assert approve.result() == "yes"
