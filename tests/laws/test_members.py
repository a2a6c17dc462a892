"""Laws about the members of a run, whatever it goes through: windows, critical failures, services, throttles."""

import logging
from typing import Any
import anyio
import pytest
import trioflow
from trioflow import (
    AbstractJob,
    Job,
    Pool,
    Rate,
    Retry,
    Scheduler,
    Service,
    StopReason,
    Throttled,
    current_job,
)
from ..bodies import Flaw, fail_now, later, nap
from ..conftest import Virtual


@pytest.mark.parametrize("kind", ["chain", "limiter around", "priorities"])
@pytest.mark.parametrize(("before", "after"), [(2, 1), (3, 2), (4, 1)])
def test_from_change_on_window_admits_no_more_than_itself(
    virtual: Virtual, kind: str, before: int, after: int
) -> None:
    running, too_many = 0, list[int]()

    async def work(number: int) -> None:
        nonlocal running
        if number == 0:
            group.jobs_window = after
        running += 1
        if running > after:
            too_many.append(number)
        await anyio.sleep(1)
        running -= 1

    jobs = [
        Job(work, number, priority=-number if kind == "priorities" else 0)
        for number in range(2 * before)
    ]
    group = Scheduler(jobs, jobs_window=before)

    async def main() -> None:
        window = anyio.CapacityLimiter(9) if kind == "limiter around" else None
        assert await Scheduler(group, jobs_window=window).co_run()

    virtual(main)
    assert too_many == []


def test_failures_are_never_empty_after_a_critical_failure(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    """A critical failure counts, whoever awaits it: a clean-up job that did so left a CRITICAL run without failures."""
    caplog.set_level(logging.CRITICAL)

    async def clean() -> None:
        with pytest.raises(ValueError, match="critical"):
            await failed

    failed = Job(fail_now, ValueError("critical"), critical=True)
    scheduler = Scheduler(
        failed, cleaned := Job(clean, required=failed, run_if="failed")
    )

    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            await scheduler.co_run(check=True)
        assert [str(error) for error in caught.value.exceptions] == ["critical"]

    virtual(main)
    assert cleaned.is_succeeded()
    assert (scheduler.stop_reason, [*scheduler.failures()]) == (
        StopReason.CRITICAL,
        [failed],
    )


def serving(used: list[Service[Any]], seen: list[bool]) -> Any:
    """Return a service that notes, while it is ready and as it ends, whether the services that it uses are running."""

    async def serve(*, task_status: Any) -> None:
        task_status.started("ready")
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.1)
            seen.extend(service.is_running() for service in used)

    return serve


@pytest.mark.parametrize("between", [0, 1, 3])
def test_a_service_runs_as_long_as_a_service_that_requires_it(
    virtual: Virtual, between: int
) -> None:
    """However many plain jobs stand between the two, the users of a service are ended before it."""
    seen: list[bool] = []
    base: Service[Any] = Service(serving([], seen), label="base")
    chain: list[AbstractJob[Any]] = [base]
    for _ in range(between):
        chain.append(Job(anyio.sleep, 0, required=chain[-1]))
    user: Service[Any] = Service(
        serving([base], seen), required=chain[-1], label="user"
    )
    assert virtual(Scheduler(chain, user, Job(anyio.sleep, 1, required=user)).co_run)
    assert seen == [True]


def test_service_of_group_runs_again_with_what_requires_it(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    """A group that was tried again kept its service as if it had succeeded, and its jobs used one that had ended."""
    caplog.set_level(logging.CRITICAL)
    seen: list[tuple[bool, float]] = []

    async def use(address: str) -> None:
        seen.append((service.is_running(), anyio.current_time()))
        if len(seen) == 1:
            raise OSError("not yet")

    service: Service[Any] = Service(serving([], []), label="service")
    group = Scheduler(
        service, Job(nap, 1, required=service), Job(use, service), label="group"
    )
    scheduler = Scheduler(group, hold=True)

    async def main() -> bool:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(later, 5, group.try_again)
            return await scheduler.co_run()

    assert virtual(main)
    assert seen == [(True, 0), (True, 5)]


def test_throttles_of_clean_up_are_explained_by_their_rate(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    """The second throttle was explained as a backoff, because the first one was looked at."""
    caplog.set_level(logging.CRITICAL)
    attempts = 0

    async def clean() -> None:
        nonlocal attempts
        attempts += 1
        if attempts < 4:
            raise Throttled("api", after=attempts)

    failed = Job(fail_now, ValueError(), critical=True)
    cleaned = Job(clean, required=failed, run_if="failed", needs={"api": 1})
    pool = Pool(api=Rate(requests=100, per=1))
    scheduler = Scheduler(failed, cleaned, pool=pool, cleanup_timeout=60)
    texts: list[str] = []

    async def look() -> None:
        for when in (0.5, 1, 2):  # in the middle of each throttle: from 0 to 1, 3 and 6
            await anyio.sleep(when)
            texts.append(scheduler.explain(cleaned))

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look)
            await scheduler.co_run()

    virtual(main)
    assert [("api" in text, "throttled" in text) for text in texts] == [
        (True, True)
    ] * 3


# --- Each event of a job, of whatever kind and at any depth, is a sign of life of the schedulers around it
EVENTS = [
    "job_added",
    "job_scheduled",
    "job_attempt",
    "service_ready",
    "job_settled",
    "progress",
]


@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize("event", EVENTS)
def test_each_event_alone_keeps_a_scheduler_from_idling(
    virtual: Virtual, event: str, depth: int
) -> None:
    async def body(*, task_status: Any = None) -> None:
        if event == "job_attempt" and current_job().attempts == 1:
            raise Flaw
        if event != "job_attempt":
            await anyio.sleep(2)
        if event == "job_added":
            trioflow.current_scheduler().add(Job(nap, 0, required=long))
        elif event == "job_scheduled" and current_job().attempts == 1:
            raise Flaw
        elif event == "service_ready":
            task_status.started()
        elif event == "progress":
            current_job().progress()
        if event not in ("job_settled", "job_scheduled"):
            await anyio.sleep(9)

    def scene(idle_timeout: float) -> Scheduler:
        kind: Any = Service if event == "service_ready" else Job
        backoff = {"job_attempt": 2, "job_scheduled": 2.75}.get(event)
        retry = None if backoff is None else Retry(1, first=backoff, jitter=False)
        job = kind(body, retry=retry, **({} if kind is Service else {"forever": True}))
        members: list[Any] = [job, long]
        for _ in range(depth):
            members = [Scheduler(members)]
        return Scheduler(members, idle_timeout=idle_timeout, log=False)

    long = Job(nap, 4.5)
    assert virtual(scene(3).co_run)
    long = Job(nap, 4.5)
    assert not virtual(scene(1.5).co_run)
