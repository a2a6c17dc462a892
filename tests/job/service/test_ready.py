"""Services: when one is ready, what its users get, its limits, and the ending of a run with services."""

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import Any
import anyio
import pytest
from trioflow import (
    Job,
    JobCancelled,
    JobNotDone,
    JobState,
    JobTimeout,
    Scheduler,
    Service,
    StopReason,
    current_job,
)
from trioflow.abc import AbstractJob
from trioflow.testing import run_virtual
from ... import bodies
from ...bodies import (
    CANCELLED,
    FAILED,
    IDLE,
    RUNNING,
    SKIPPED,
    SUCCEEDED,
    Flaw,
    give_now,
    later,
    nap,
    serve,
    timed,
)
from ...conftest import Virtual


def after(seconds: float, action: Callable[[], Any]) -> Job[None]:
    return Job(later, seconds, action)


# --- ready
def test_result_of_a_service_is_none_if_started_has_no_value(virtual: Virtual) -> None:
    async def quiet(*, task_status: Any) -> None:
        task_status.started()
        await anyio.sleep_forever()

    service = Service(quiet)
    virtual(Scheduler(service, Job(nap)).co_run)
    assert (service.state, service.result()) == (SUCCEEDED, None)


def test_result_of_a_service_is_available_as_soon_as_it_is_ready(
    virtual: Virtual,
) -> None:
    seen: list[Any] = []

    def look() -> None:
        try:
            seen.append((service.state, service.result()))
        except JobNotDone as error:
            seen.append((service.state, type(error)))

    service = Service(serve, 2, "value")
    scheduler = Scheduler(service, after(1, look), after(3, look))
    look()
    assert virtual(scheduler.co_run) is True
    look()
    assert seen == [
        (IDLE, JobNotDone),
        (RUNNING, JobNotDone),
        (RUNNING, "value"),
        (SUCCEEDED, "value"),
    ]


def test_service_is_called_with_its_arguments(virtual: Virtual) -> None:
    """A service takes `args` and `kwargs` like a Job, and jobs among them are replaced by their results."""
    got: list[Any] = []

    async def server(port: int, *, host: str, task_status: Any) -> None:
        got.append((port, host))
        task_status.started()

    port = Job(give_now, 80)
    nested = Scheduler()
    host = Job(give_now, "here", scheduler=nested)
    virtual(
        Scheduler(port, Service(server, port, kwargs={"host": host}), nested).co_run
    )
    assert got == [(80, "here")]


# --- ends by itself
def test_calling_started_twice_raises(virtual: Virtual) -> None:
    async def twice(*, task_status: Any) -> None:
        task_status.started(1)
        task_status.started(2)

    service = Service(twice, label="eager")
    client = Job(give_now, service)
    assert virtual(Scheduler(service, client, Job(nap)).co_run) is False
    assert service.state is FAILED
    with pytest.raises(RuntimeError, match=r"'eager' has already called .*started\(\)"):
        service.result()
    assert client.state is FAILED  # it was let go, and there is no value any more


def test_calling_started_after_the_end_of_the_service_raises(virtual: Virtual) -> None:
    kept: list[Any] = []

    async def forgetful(*, task_status: Any) -> None:
        kept.append(task_status)
        raise Flaw

    async def late() -> None:
        with pytest.raises(RuntimeError, match=r"'forgetful'.*has already ended"):
            kept[0].started("late")

    service = Service(forgetful, label="forgetful")
    job = Job(late).requires(service, settled=True)
    assert virtual(Scheduler(service, job).co_run) is False
    job.result()
    with pytest.raises(Flaw):
        service.result()


def test_a_service_that_returns_before_it_is_ready_fails(virtual: Virtual) -> None:
    async def hasty(*, task_status: Any) -> None: ...

    service = Service(hasty, label="hasty")
    client, other = Job(give_now, service), Job(nap).requires(service, settled=True)
    assert virtual(Scheduler(service, client, other).co_run) is False
    assert [job.state for job in (service, client, other)] == [
        FAILED,
        bodies.BLOCKED,
        SUCCEEDED,
    ]
    with pytest.raises(RuntimeError, match=r"'hasty' returned without .*started\(\)"):
        service.result()


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("how", ["fails", "cancelled"])
def test_a_service_failure_is_raised_in_a_user_that_starts_later(
    virtual: Virtual, how: str, inside: bool
) -> None:
    async def break_down(*, task_status: Any) -> None:
        task_status.started("address")
        await anyio.sleep(1 if how == "fails" else 9)
        raise Flaw

    async def end_it() -> None:
        await anyio.sleep(1)
        if how == "cancelled":
            service.cancel()
        await anyio.sleep(0.5)  # its slot is free when the service has ended

    service = Service(break_down)
    client = Job(give_now, [service] if inside else service)
    others = [after(2, lambda: None), Job(end_it)]
    assert virtual(timed, Scheduler(service, others, client, jobs_window=2)) == (
        False,
        2,
    )
    assert (service.state, client.state) == (
        FAILED if how == "fails" else CANCELLED,
        FAILED,
    )
    assert type(client.raised_exception()) is (Flaw if how == "fails" else JobCancelled)


def test_a_service_that_ends_starts_no_job_that_came_when_it_was_ready(
    virtual: Virtual,
) -> None:
    async def brief(*, task_status: Any) -> None:
        task_status.started()
        await anyio.sleep(2)

    service, slow = Service(brief), Job(nap, 3)
    user = Job(nap, required=(service, slow))
    assert (
        virtual(
            Scheduler(service, slow, after(1, lambda: slow.scheduler.add(user))).co_run
        )
        is True
    )
    assert user.started_at == 3


# --- limits of a `Service`, which hold until it is ready, and functions that a `Service` rejects
@pytest.mark.fast_way(
    "asyncio"
)  # a shield of anyio does not hold there with direct isolation
def test_a_service_that_gets_ready_after_its_timeout_is_not_retried(
    virtual: Virtual,
) -> None:
    async def shielded(*, task_status: Any) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(3)
        task_status.started("value")
        await anyio.sleep_forever()

    service = Service(shielded, timeout=2, retry=3)
    assert virtual(timed, Scheduler(service, Job(nap, 9))) == (False, 9)
    assert (service.state, service.attempts, service.finished_at) == (FAILED, 1, 3)
    assert isinstance(service.raised_exception(), JobTimeout)


# --- bad input
@pytest.mark.parametrize(
    "function", [nap, lambda: nap(), functools.partial(nap, 1), anyio.sleep]
)
def test_function_without_task_status_raises(function: Any) -> None:
    with pytest.raises(
        TypeError, match=r"takes no task_status; write async def .*task_status"
    ):
        Service(function)


@pytest.mark.parametrize(
    "function", [print, "serve", None, lambda *, task_status: int("1")]
)
def test_function_that_is_not_async_raises_or_fails_the_service(
    virtual: Virtual, function: Any
) -> None:
    if callable(function) and function is not print:
        service = Service(function)
        virtual(Scheduler(service, Job(nap)).co_run)
        assert isinstance(service.raised_exception(), TypeError)
    else:
        with pytest.raises(TypeError, match="async function"):
            Service(function)


@pytest.mark.parametrize("on_timeout", ["fail", "move_on"])
def test_a_service_that_becomes_ready_as_its_timeout_cancels_it_has_failed(
    virtual: Virtual, on_timeout: str
) -> None:
    """It is too late to move on: what requires the service has started, and a result of None would be a wrong value."""

    async def serve_late(*, task_status: Any) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            task_status.started("late")

    service = Service(serve_late, timeout=1, on_timeout=on_timeout)  # type: ignore[call-overload]
    user = Job(nap, required=service)
    assert not virtual(Scheduler(service, user).co_run)
    assert (service.state, user.is_succeeded()) == (FAILED, True)
    assert isinstance(service.raised_exception(), JobTimeout)


# --- the ending of a run with services, whatever ends it: clients, clean-up, forever jobs, then services, users first

UNWINDING = 0.25  # seconds that everything here takes to unwind


class Plant:
    """A service, a second one that uses it, a client, a forever job, an alarm, and something to shut down."""

    def __init__(self, event: Callable[["Plant"], Any], **options: Any) -> None:
        self.seen: list[tuple[str, float]] = []
        self.base = Service(self.serve, label="base")
        self.upper = Service(self.serve, label="upper", required=self.base)
        self.client = Job(self.act, label="client", required=self.upper)
        self.forever = Job(self.act, label="forever", forever=True, required=self.base)
        self.alarm = Job(
            self.note, self.base, label="alarm", run_if="failed", required=self.client
        )
        self.event = Job(self.happen, event, label="event", critical=True)
        self.scheduler = Scheduler(
            self.base,
            self.client,
            self.forever,
            self.alarm,
            self.upper,
            self.event,
            Actor(self),
            **options,
        )

    async def act(self) -> None:
        try:
            await bodies.unwind(takes=UNWINDING)
        finally:
            await self.note()

    async def serve(self, *, task_status: Any) -> None:
        task_status.started("value")
        await self.act()

    async def note(self, value: str = "") -> None:
        self.seen.append((current_job().label, anyio.current_time()))

    async def happen(self, event: Callable[["Plant"], Any]) -> None:
        await anyio.sleep(2)
        event(self)

    def states(self) -> dict[str, JobState]:
        return {job.label: job.state for job in self.scheduler}


class Actor(AbstractJob[None]):
    def __init__(self, plant: Plant) -> None:
        super().__init__(label="actor")
        self.plant = plant

    async def co_run(self) -> None: ...

    async def co_shutdown(self) -> None:
        self.plant.seen.append(("shutdown", anyio.current_time()))


def cancel(plant: Plant) -> None:
    plant.scheduler.cancel()


def nothing(plant: Plant) -> None: ...


SERVICES = [("upper", 2.75), ("base", 3.0), ("shutdown", 3.0)]
WITHOUT_ALARM = [("client", 2.25), ("forever", 2.5), *SERVICES]


def test_jobs_and_services_end_in_order_at_completion(virtual: Virtual) -> None:
    """At completion, forever jobs end first, then services (users before what they use); the shutdowns come last."""

    async def brief(self: Plant) -> None:
        await anyio.sleep(2.25)
        await self.note()

    plant = Plant(nothing)
    plant.client._function = functools.partial(brief, plant)
    assert virtual(plant.scheduler.co_run) is True
    assert plant.seen == WITHOUT_ALARM
    assert plant.states() == {
        "base": SUCCEEDED, "upper": SUCCEEDED, "client": SUCCEEDED, "forever": CANCELLED, "alarm": SKIPPED,
        "event": SUCCEEDED, "actor": SUCCEEDED,
    }  # fmt: skip


@pytest.mark.parametrize("how", ["wait_for", "cancel", "twice"])
def test_jobs_and_services_end_in_order_after_a_native_cancellation(how: str) -> None:
    async def main() -> float:
        if how == "wait_for":
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(plant.scheduler.co_run(), 2)
            return anyio.current_time()
        task = asyncio.create_task(plant.scheduler.co_run())
        await anyio.sleep(2)
        task.cancel()
        if how == "twice":
            await anyio.sleep(0.6)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return anyio.current_time()

    plant = Plant(nothing)
    assert run_virtual(main, backend="asyncio") == 3
    assert plant.seen == WITHOUT_ALARM
    assert plant.base.state is SUCCEEDED


def test_jobs_and_services_end_in_order_after_an_interruption(virtual: Virtual) -> None:
    """A KeyboardInterrupt that a job raises leaves the run, without a group around it, when everything has ended."""
    plant = Plant(bodies.interrupt)
    with pytest.raises(KeyboardInterrupt):
        virtual(plant.scheduler.co_run)
    assert plant.scheduler.stop_reason is StopReason.INTERRUPTED
    assert plant.seen == WITHOUT_ALARM
    assert (plant.base.state, plant.upper.result(), plant.alarm.state) == (
        SUCCEEDED,
        "value",
        IDLE,
    )


# --- services among themselves
def linger(log: list[Any], seconds: float = UNWINDING) -> Any:
    async def server(*, task_status: Any) -> None:
        task_status.started()
        try:
            await anyio.sleep_forever()
        finally:
            log.append((current_job().label, anyio.current_time()))
            with anyio.CancelScope(shield=True):
                await anyio.sleep(seconds)

    return server


@pytest.mark.fast_way(
    "asyncio"
)  # a shield of anyio does not hold there with direct isolation
def test_services_share_one_shutdown_timeout(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    """When their common `shutdown_timeout` is over, the remaining services are cancelled together and logged."""
    log: list[Any] = []
    a = Service(linger(log), label="a")
    b = Service(linger(log, 9), label="b", required=a)
    c = Service(linger(log, 1), label="c", required=b)
    scheduler = Scheduler(a, b, c, Job(nap), shutdown_timeout=1.5)
    with caplog.at_level(logging.WARNING, "trioflow"):
        assert virtual(scheduler.co_run) is True
    assert log == [("c", 1), ("b", 2), ("a", 2.5)]
    assert b.finished_at == 11
    assert any("'b' was cancelled" in message for message in caplog.messages)


def test_a_native_cancellation_while_services_end_does_not_disturb_them() -> None:
    log: list[Any] = []
    base = Service(linger(log), label="base")
    upper = Service(linger(log), label="upper", required=base)

    async def main() -> None:
        task = asyncio.create_task(Scheduler(base, upper, Job(nap)).co_run())
        await anyio.sleep(1.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run_virtual(main, backend="asyncio")
    assert log == [("upper", 1), ("base", 1.25)]
    assert (base.state, upper.state) == (SUCCEEDED, SUCCEEDED)


@pytest.mark.parametrize("between", [0, 1, 2])
def test_a_service_outlasts_those_that_use_it_through_jobs(
    virtual: Virtual, between: int
) -> None:
    """Their users end first, however many jobs stand between them, and however long a user takes to end."""
    ended: list[str] = []

    async def server(name: str, *, task_status: Any) -> None:
        task_status.started()
        try:
            await bodies.unwind(takes=0.3 if name == "user" else 0.1)
        finally:
            ended.append(name)

    jobs: list[AbstractJob[Any]] = [Service(server, "used")]
    for _ in range(between):
        jobs.append(Job(nap, 1, required=jobs[-1]))
    assert virtual(
        Scheduler(*jobs, Service(server, "user", required=jobs[-1]), Job(nap, 5)).co_run
    )
    assert ended == ["user", "used"]


def test_a_service_that_cancels_itself_as_its_run_ends_has_succeeded(
    virtual: Virtual,
) -> None:
    async def server(*, task_status: Any) -> None:
        task_status.started("value")
        try:
            await anyio.sleep(100)
        finally:
            current_job().cancel()

    service = Service(server)
    assert virtual(Scheduler(service, Job(nap, 1)).co_run)
    assert (service.state, service.result()) == (SUCCEEDED, "value")
