"""When a `Service` counts as ready, what its users get from it, and what happens if it ends by itself."""

import functools
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from trioflow import Job, JobCancelled, JobNotDone, JobTimeout, Scheduler, Service
from ...bodies import BLOCKED, CANCELLED, FAILED, IDLE, RUNNING, SUCCEEDED, Flaw, give_now, nap, serve, timed
from ...conftest import Virtual


def after(seconds: float, action: Callable[[], Any]) -> Job[None]:
    async def act() -> None:
        await anyio.sleep(seconds)
        action()

    return Job(act)


# --- ready
def test_result_of_a_service_is_none_if_started_has_no_value(virtual: Virtual) -> None:
    async def quiet(*, task_status: Any) -> None:
        task_status.started()
        await anyio.sleep_forever()

    service = Service(quiet)
    virtual(Scheduler(service, Job(nap)).co_run)
    assert (service.state, service.result()) == (SUCCEEDED, None)


def test_result_of_a_service_is_available_as_soon_as_it_is_ready(virtual: Virtual) -> None:
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
    assert seen == [(IDLE, JobNotDone), (RUNNING, JobNotDone), (RUNNING, "value"), (SUCCEEDED, "value")]


def test_service_is_called_with_its_arguments(virtual: Virtual) -> None:
    """A service takes `args` and `kwargs` like a Job, and jobs among them are replaced by their results."""
    got: list[Any] = []

    async def server(port: int, *, host: str, task_status: Any) -> None:
        got.append((port, host))
        task_status.started()

    port = Job(give_now, 80)
    nested = Scheduler()
    host = Job(give_now, "here", scheduler=nested)
    virtual(Scheduler(port, Service(server, port, kwargs={"host": host}), nested).co_run)
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
    assert [job.state for job in (service, client, other)] == [FAILED, BLOCKED, SUCCEEDED]
    with pytest.raises(RuntimeError, match=r"'hasty' returned without .*started\(\)"):
        service.result()


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("how", ["fails", "cancelled"])
def test_a_service_failure_is_raised_in_a_user_that_starts_later(virtual: Virtual, how: str, inside: bool) -> None:
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
    assert virtual(timed, Scheduler(service, others, client, jobs_window=2)) == (False, 2)
    assert (service.state, client.state) == (FAILED if how == "fails" else CANCELLED, FAILED)
    assert type(client.raised_exception()) is (Flaw if how == "fails" else JobCancelled)


def test_a_service_that_ends_starts_no_job_that_came_when_it_was_ready(virtual: Virtual) -> None:
    async def brief(*, task_status: Any) -> None:
        task_status.started()
        await anyio.sleep(2)

    service, slow = Service(brief), Job(nap, 3)
    user = Job(nap, required=(service, slow))
    assert virtual(Scheduler(service, slow, after(1, lambda: slow.scheduler.add(user))).co_run) is True
    assert user.started_at == 3


# --- limits of a `Service`, which hold until it is ready, and functions that a `Service` rejects
@pytest.mark.fast_way("asyncio")  # a shield of anyio does not hold there with direct isolation
def test_a_service_that_gets_ready_after_its_timeout_is_not_retried(virtual: Virtual) -> None:
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
@pytest.mark.parametrize("function", [nap, lambda: nap(), functools.partial(nap, 1), anyio.sleep])
def test_function_without_task_status_raises(function: Any) -> None:
    with pytest.raises(TypeError, match=r"takes no task_status; write async def .*task_status"):
        Service(function)


@pytest.mark.parametrize("function", [print, "serve", None, lambda *, task_status: int("1")])
def test_function_that_is_not_async_raises_or_fails_the_service(virtual: Virtual, function: Any) -> None:
    if callable(function) and function is not print:
        service = Service(function)
        virtual(Scheduler(service, Job(nap)).co_run)
        assert isinstance(service.raised_exception(), TypeError)
    else:
        with pytest.raises(TypeError, match="async function"):
            Service(function)


@pytest.mark.parametrize("on_timeout", ["fail", "move_on"])
def test_a_service_that_becomes_ready_as_its_timeout_cancels_it_has_failed(virtual: Virtual, on_timeout: str) -> None:
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
