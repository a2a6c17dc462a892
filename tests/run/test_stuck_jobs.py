"""Jobs that still run a second after they were cancelled, for whatever reason, are named."""

import re
import time
from typing import Any
import anyio
import pytest
from trioflow import Job, Scheduler, Service, ThreadJob
from ..bodies import deaf, later, nap, printed, serve, timed, turns, unwind
from ..conftest import Virtual

WAYS: dict[str, dict[str, Any]] = {
    "timeout": {"timeout": 2}, "idle_timeout": {"idle_timeout": 2}, "both": {"timeout": 9, "idle_timeout": 2},
    "cancel": {}, "cancel_before_timeout": {"timeout": 9},
}  # fmt: skip


def texts_about_stuck(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [text for text in caplog.messages if "is still running" in text]


@pytest.mark.fast_way(
    "asyncio"
)  # a shield of anyio does not hold there with direct isolation
@pytest.mark.parametrize("is_nested", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_deaf_job_is_named_once(
    virtual: Virtual, caplog: pytest.LogCaptureFixture, way: str, is_nested: bool
) -> None:
    """The log names a job one second after its own cancellation, with its stack; views say how long ago that was."""
    told: list[tuple[int, str, str]] = []
    # Its worker has been watched before, for a later deadline.
    before = Job(turns, 5, timeout=99)
    stuck = Job(deaf, 8, label="stuck", required=before, **WAYS[way])
    members = before, stuck
    scheduler = Scheduler(
        Scheduler(*members) if is_nested else members, Job(nap, 9, label="meek")
    )

    async def watch() -> None:
        await anyio.sleep(2)
        if "cancel" in way:
            stuck.cancel()
        await anyio.sleep(0.75)
        told.append(
            (
                len(texts_about_stuck(caplog)),
                scheduler.explain(stuck),
                printed(scheduler, None, details=True),
            )
        )
        await anyio.sleep(2.25)
        told.append(
            (
                len(texts_about_stuck(caplog)),
                scheduler.explain(stuck),
                printed(scheduler, None, details=True),
            )
        )

    scheduler.add(Job(watch, label="watch"))
    assert virtual(timed, scheduler)[1] == 9
    assert [count for count, *_ in told] == [0, 1]
    _, explanation, listing = told[1]
    assert (
        explanation
        == "'stuck' has been running for 5 s, was cancelled 3 s ago, and is still running"
    )
    assert "cancelled 3 s ago, still running" in listing
    (text,) = texts_about_stuck(caplog)
    assert text.startswith(
        "'stuck' was cancelled 1 s ago and is still running; it must let the cancellation propagate"
    )
    assert re.fullmatch(
        r"[^\n]*:\n  File \"[^\n]*, in deaf\n    await anyio.sleep\(seconds\)\n", text
    ), text


@pytest.mark.parametrize("way", WAYS)
def test_a_job_that_ends_in_a_second_is_not_named(
    virtual: Virtual, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    """A job that obeys, even after some clean-up, is not named, and neither is the job that follows it."""
    obedient = Job(unwind, 8, 0.75, label="obedient", **WAYS[way])
    scheduler = Scheduler(obedient, Job(nap, 5, run_if="settled", required=obedient))

    async def cancel() -> None:
        await anyio.sleep(2)
        if "cancel" in way:
            obedient.cancel()

    scheduler.add(Job(cancel, label="cancel"))
    assert virtual(timed, scheduler)[1] == 2 + 0.75 + 5
    assert texts_about_stuck(caplog) == []


@pytest.mark.fast_way("asyncio")  # as above
def test_job_is_named_again_for_no_later_cancellation(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    """A deaf job whose run stops later, too, is named once; another one, of the same run, is named for the stop."""
    first, second = Job(deaf, 8, timeout=1, label="first"), Job(deaf, 8, label="second")
    assert virtual(timed, Scheduler(first, second, timeout=4)) == (False, 8)
    assert [text.split()[0] for text in texts_about_stuck(caplog)] == [
        "'first'",
        "'second'",
    ]


@pytest.mark.fast_way("asyncio")  # as above
@pytest.mark.parametrize("limit", ["timeout", "idle_timeout"])
def test_job_is_named_a_second_after_its_cancel(
    virtual: Virtual, caplog: pytest.LogCaptureFixture, limit: str
) -> None:
    """A further one does not put that off."""
    job, counts = Job(deaf, 8, label="first", **{limit: 1.0}), list[int]()

    async def watch() -> None:
        await anyio.sleep(1.5)
        job.cancel()
        for _ in range(2):
            counts.append(len(texts_about_stuck(caplog)))
            await anyio.sleep(0.75)

    virtual(Scheduler(job, Job(watch)).co_run)
    assert counts == [0, 1]


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_job_that_is_over_moves_no_virtual_clock(
    virtual: Virtual, is_cancelled: bool
) -> None:
    quick = Job(nap, 5 if is_cancelled else 1, timeout=5, label="quick")
    thread = ThreadJob(time.sleep, 0.02)
    thread.requires(quick, settled=True)
    scheduler = Scheduler(quick, thread)
    if is_cancelled:
        scheduler.add(Job(later, 1, quick.cancel))
    virtual(scheduler.co_run)
    assert quick.elapsed == 1
    assert thread.elapsed is not None
    assert thread.elapsed < 1


def test_a_ready_service_is_not_cancelled_by_timeout(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service(serve, timeout=2, label="service")
    scheduler = Scheduler(service, Job(nap, 6, required=service))
    told: list[str] = []
    scheduler.add(
        Job(later, 5, lambda: told.append(scheduler.explain(service)), required=service)
    )
    assert virtual(timed, scheduler) == (True, 6)
    assert texts_about_stuck(caplog) == []
    assert told == [
        "'service' has been running for 5 s, and is ready for those that require it"
    ]
