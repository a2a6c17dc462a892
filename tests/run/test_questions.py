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


async def never_ready(*, task_status: Any) -> None:
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


def question_in_vain(way: str) -> tuple[Scheduler, Answer[str]]:
    """Return a scenario in which nothing can use the answer, once all that can run has run."""
    build = Job(fail, label="build")
    early = Job(nap, 5, label="early")
    approve = Answer("publish?", label="approve")
    if way == "asked after the failure":
        approve.requires(early)
        publish = Job(use, approve, label="publish", required=build)
        return Scheduler(build, early, approve, publish), approve
    if way == "its user will be skipped":
        skipped = Job(nap, 1, label="skipped", run_if="failed", required=early)
        publish = Job(use, approve, skipped, label="publish")
        return Scheduler(early, skipped, approve, publish), approve
    if way == "its user waits for another question":
        other = Answer("build what?", label="other")
        waits = Job(use, other, label="waits", required=build)
        publish = Job(use, approve, label="publish", required=waits)
        return Scheduler(build, approve, other, waits, publish), approve
    if way == "its user is in a group inside":
        publish = Job(use, approve, label="publish")
        inside = Scheduler(label="inside", required=build)
        scheduler = Scheduler(build, approve, inside)
        inside.add(publish)
        return scheduler, approve
    groups = [Scheduler(approve, label="first")]
    if way == "another input of its user was never reached":
        fails = Job(fail, label="fails")
        late = Job(nap, 1, label="late", required=fails)
        groups.append(Scheduler(fails, late, label="third", critical_jobs=True))
        publish = Job(use, approve, late, label="publish")
        return Scheduler(*groups, Scheduler(publish, label="second")), approve
    publish = Job(use, approve, label="publish")
    assert way == "its user and it are in two groups"
    return (
        Scheduler(build, *groups, Scheduler(publish, label="second", required=build)),
        approve,
    )


WAYS = (
    "asked after the failure",
    "its user will be skipped",
    "its user waits for another question",
    "its user is in a group inside",
    "its user and it are in two groups",
    "another input of its user was never reached",
)


@pytest.mark.both_backends
@pytest.mark.parametrize("is_nested", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_no_run_waits_for_an_answer_whatever_keeps_its_user_from_running(
    virtual: Virtual, way: str, is_nested: bool, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler, approve = question_in_vain(way)
    if is_nested:
        scheduler = Scheduler(scheduler)
    virtual(scheduler.co_run)
    assert approve.state is JobState.CANCELLED
    assert f"'approve' {IN_VAIN} 'publish' cannot run" in caplog.text


def test_a_question_of_a_group_is_needed_by_what_follows_it_there(
    virtual: Virtual,
) -> None:
    """A user in another group cannot run, but one in its own can."""
    build = Job(fail, label="build")
    approve = Answer("publish?", label="approve")
    last = Job(use, label="last", required=approve)
    first = Scheduler(approve, last, label="first")
    publish = Job(use, approve, label="publish")
    second = Scheduler(publish, label="second", required=build)
    scheduler = Scheduler(build, first, second)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scheduler.co_run)
            await anyio.sleep(100)
            assert approve.is_running()
            approve.answer("yes")

    virtual(main)
    assert last.state is JobState.SUCCEEDED
    assert second.state is JobState.BLOCKED


def test_a_question_for_another_group_is_open_until_the_run_around_both_would_end(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    """So what has failed can be tried again, and the answer be used: the log says once that it is of no use now."""
    build = Job(Broken(1, 1), label="build")
    approve = Answer("publish?", label="approve")
    publish = Job(use, approve, label="publish")
    first = Scheduler(approve, Job(nap, 3), label="first")
    second = Scheduler(publish, label="second", required=build)
    scheduler = Scheduler(build, first, second, Job(nap, 50, label="long"))
    told = "nothing can use the answer to 'approve' now, since 'publish' cannot run"

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scheduler.co_run)
            await anyio.sleep(10)
            assert approve.is_running()
            assert not _job_queries.is_needed(approve)
            assert caplog.text.count(told) == 1
            build.try_again()
            await anyio.sleep(10)
            assert _job_queries.is_needed(approve)
            approve.answer("yes")

    virtual(main)
    assert publish.state is JobState.SUCCEEDED
    assert IN_VAIN not in caplog.text


def test_a_held_run_keeps_a_question_for_another_group(virtual: Virtual) -> None:
    build = Job(Broken(1, 1), label="build")
    approve = Answer("publish?", label="approve")
    publish = Job(use, approve, label="publish")
    first = Scheduler(approve, label="first")
    second = Scheduler(publish, label="second", required=build)
    scheduler = Scheduler(build, first, second, hold=True)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scheduler.co_run)
            await anyio.sleep(10)
            assert approve.is_running()
            assert scheduler.is_paused()
            build.try_again()
            await anyio.sleep(10)
            approve.answer("yes")

    virtual(main)
    assert publish.state is JobState.SUCCEEDED


def test_two_questions_of_one_group_end_each_where_its_users_are(
    virtual: Virtual,
) -> None:
    """The group waits for neither, and the run around it for no group that only asks."""
    build = Job(fail, label="build")
    for_own = Answer("publish here?", label="for own")
    for_other = Answer("publish there?", label="for other")
    own = Job(use, for_own, label="own", required=Job(fail, label="inner build"))
    first = Scheduler(for_own, for_other, *own.required, own, label="first")
    publish = Job(use, for_other, label="publish")
    second = Scheduler(publish, label="second", required=build)
    virtual(Scheduler(build, first, second).co_run)
    assert [for_own.state, for_other.state] == [JobState.CANCELLED] * 2
    assert second.state is JobState.BLOCKED


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
    """Of those that start, or get ready, later, the run waits for none but the services that other jobs wait for."""
    forever = [
        Job(anyio.sleep, 1e9, label=label, forever=True, needs={"gpu": 1})
        for label in ("has the gpu", "waits for it")
    ]
    idle = Service(never_ready, label="of no use")
    service = Service(serve, label="service")
    second = Service(serve, label="second", required=service)
    client = Job(nap, 1, label="client", required=second)
    scheduler, _, approve, _ = scenario(
        *forever, idle, service, second, client, pool=Pool(gpu=1)
    )
    assert virtual(scheduler.co_run) is False
    assert approve.state is JobState.CANCELLED
    assert client.state is JobState.SUCCEEDED
    assert approve.finished_at == client.finished_at


@pytest.mark.both_backends
def test_forever_jobs_process_their_input_before_a_question_ends(
    virtual: Virtual,
) -> None:
    """What they add may use the answer: the question ended in the turn in which the last job had failed."""
    failed = anyio.Event()

    async def break_down() -> None:
        await anyio.sleep(1)
        failed.set()
        raise ValueError

    async def add_user() -> None:
        await failed.wait()
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        scheduler.add(late)
        approve.answer("yes")

    build = Job(break_down, label="build")
    approve = Answer("publish?", label="approve")
    publish = Job(use, approve, label="publish", required=build)
    late = Job(use, approve, label="late")
    adds = Job(add_user, label="adds", forever=True)
    scheduler = Scheduler(build, approve, publish, adds)
    assert virtual(scheduler.co_run) is False
    assert late.state is JobState.SUCCEEDED


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
