"""Whoever tells of a failure names the job that has failed itself, by its path: groups have members of equal labels."""

import functools
from typing import Any

import anyio
import pytest
from trioflow import First, Job, Retry, Scheduler, Service
from ..bodies import Flaw, nap
from ..conftest import Virtual


async def fail(_: object = None) -> None:
    await anyio.sleep(1)
    raise Flaw("broken")


def deep(critical: bool | None) -> Scheduler:
    """Return a group of groups, in which all jobs have the label of their group, or of each other."""
    for group in (inner := Scheduler(Job(fail, label="x"), label="x"),):
        group.critical = group.critical_jobs = critical
    middle = Scheduler(inner, Job(nap, label="y"), label="y", critical=critical, critical_jobs=critical)
    return Scheduler(middle, Job(nap, label="x"), label="z", critical=critical, critical_jobs=critical)


@pytest.mark.parametrize("critical", [None, True])
def test_the_log_names_the_job_that_has_failed_however_deep_it_is(
    virtual: Virtual, caplog: pytest.LogCaptureFixture, critical: bool | None
) -> None:
    """Once for itself, and, if it is critical, once for each group that it ends."""
    scheduler = Scheduler(deep(critical), label="home")
    with pytest.raises(Flaw) as caught:
        virtual(functools.partial(scheduler.co_run, check="first"))
    about = [record.getMessage() for record in caplog.records if record.getMessage().startswith("'z")]
    ends = [f"{path!r} failed because of 'z/y/x/x'" for path in ("z/y/x", "z/y", "z")] if critical else []
    assert [text.partition(":" if number == 0 else ";")[0] for number, text in enumerate(about)] == [
        "'z/y/x/x' failed",
        *ends,
    ]
    assert caught.value.__notes__ == ["raised by the job 'z/y/x/x' of 'home'"]
    assert list(scheduler.failures()) == [job for job in scheduler.iterate_jobs() if job.path == "z/y/x/x"]


def test_the_log_counts_jobs_that_failed_alike_by_name(virtual: Virtual, caplog: pytest.LogCaptureFixture) -> None:
    retry = Retry(1, first=0.1, jitter=False)
    for labels, alike in (
        (
            "ab",
            [
                "one more job failed with Flaw like 'a/x': 'b/x'",
                "2 more jobs failed with Flaw like 'a/x': 'a/x', 'b/x'",
            ],
        ),
        ("a", ["'a/x' failed once more with Flaw"]),
    ):
        caplog.clear()
        groups = [Scheduler(Job(fail, label="x"), label=label, retry=retry) for label in labels]
        virtual(Scheduler(groups, Job(nap, 9)).co_run)
        assert caplog.messages[1:-1] == alike


def test_the_refusal_of_another_try_names_the_job_and_what_stands_in_its_way(virtual: Virtual) -> None:
    async def again() -> None:
        await group.wait_settled()
        with pytest.raises(
            RuntimeError, match=r"try_again\(\) of 'x': it is in 'group', which is succeeded, and keeps its winners"
        ):
            broken.try_again()

    broken = Job(fail, label="x")
    group = First(broken, Job(nap, 2), label="group")
    assert virtual(Scheduler(group, Job(again), log=False).co_run)


@pytest.mark.parametrize("ends", [True, False])
def test_the_value_of_a_service_is_that_with_which_it_was_ready(virtual: Virtual, ends: bool) -> None:
    """Whatever its function returns, before or after its users, or at its cancellation."""

    async def serve(*, task_status: Any) -> str:
        task_status.started("ready")
        if not ends:
            try:
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class():
                return "cancelled"
        return "returned"

    async def use(value: str) -> str:
        await anyio.sleep(1)
        return f"{value} {service.result()}"

    service = Service(serve)
    user = Job(use, service)
    assert virtual(Scheduler(user).co_run)
    assert (user.result(), service.result()) == ("ready ready", "ready")


def test_the_winners_of_a_first_that_is_tried_again_come_in_the_order_of_their_ends(virtual: Virtual) -> None:
    ends = iter([False, True])

    async def win(seconds: float) -> float:
        await anyio.sleep(seconds)
        if seconds == 3 and not next(ends):
            raise Flaw
        return seconds

    async def again() -> None:
        await group.wait_settled()
        group.try_again()

    group = First(*(Job(win, seconds) for seconds in (2, 3, 1)), enough=3)
    assert virtual(Scheduler(group, Job(again), log=False).co_run)
    assert group.result() == [1, 2, 3]
