"""Limits of a `Service`, which hold until it is ready, and functions that a `Service` rejects."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from trioflow import Job, JobTimeout, Retry, Scheduler, Service

from ...bodies import BLOCKED, FAILED, SUCCEEDED, Flaw, fail, give_now, nap, serve, timed

if TYPE_CHECKING:
    from ...conftest import Virtual


def test_timeout_limits_the_time_until_a_service_is_ready(virtual: Virtual) -> None:
    """A service that is not ready in time fails with JobTimeout; a ready one may run as long as it likes."""
    slow, quick = Service(serve, 9, timeout=2), Service(serve, 1, timeout=2)
    client = Job(give_now, slow)
    assert virtual(timed, Scheduler(slow, quick, client, Job(nap, 20))) == (False, 20)
    assert (slow.state, slow.finished_at, client.state) == (FAILED, 2, BLOCKED)
    assert isinstance(slow.raised_exception(), JobTimeout)
    assert (quick.state, quick.finished_at, quick.timed_out) == (SUCCEEDED, 20, False)


def test_a_retry_calls_a_service_again_until_it_is_ready_in_time(virtual: Virtual) -> None:
    """A service is retried until it is ready before its timeout, which no longer applies afterwards."""
    calls: list[float] = []

    async def slower(*, task_status: Any) -> None:
        calls.append(anyio.current_time())
        await serve(4 - len(calls), len(calls), task_status=task_status)

    service = Service(slower, timeout=1.5, retry=Retry(None, first=0, on=JobTimeout))
    client = Job(give_now, service)
    assert virtual(timed, Scheduler(service, client, Job(nap, 9))) == (True, 9)
    assert (calls, client.result(), client.started_at, service.state) == ([0, 1.5, 3], 3, 4, SUCCEEDED)


@pytest.mark.parametrize("failures", [1, 2])
def test_retry_calls_a_service_again_that_fails_before_it_is_ready(virtual: Virtual, failures: int) -> None:
    """With `retry=1`, a service that fails before it is ready is called once more, and a second failure is final."""
    calls: list[float] = []

    async def flaky(*, task_status: Any) -> None:
        calls.append(anyio.current_time())
        if len(calls) <= failures:
            await fail(1, Flaw())
        await serve(1, len(calls), task_status=task_status)

    service = Service(flaky, retry=1)
    client = Job(give_now, service)
    virtual(Scheduler(service, client).co_run)
    assert service.attempts == len(calls) == 2
    assert (service.state, client.state) == ((SUCCEEDED, SUCCEEDED) if failures == 1 else (FAILED, BLOCKED))


@pytest.mark.parametrize("retry", [3, Retry(None, first=0)])
def test_a_service_that_fails_after_it_was_ready_is_not_retried(virtual: Virtual, retry: Any) -> None:
    """No `retry` calls a service again that fails after it was ready."""

    async def broken(*, task_status: Any) -> None:
        task_status.started("value")
        await fail(5, Flaw())

    service = Service(broken, retry=retry, timeout=2)
    assert virtual(timed, Scheduler(service, Job(nap, 9))) == (False, 9)
    assert (service.state, service.attempts, service.finished_at) == (FAILED, 1, 5)
    assert isinstance(service.raised_exception(), Flaw)


def test_a_service_that_gets_ready_after_its_timeout_is_not_retried(virtual: Virtual) -> None:
    """A service that gets ready after its timeout fails with JobTimeout: jobs may use it already, so no retry."""

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
    """A function without `task_status` raises a TypeError that shows how to write the function of a Service."""
    with pytest.raises(TypeError, match=r"takes no task_status; write async def .*task_status"):
        Service(function)


@pytest.mark.parametrize("function", [print, "serve", None, lambda *, task_status: int("1")])
def test_function_that_is_not_async_raises_or_fails_the_service(virtual: Virtual, function: Any) -> None:
    """A function that is not async raises a TypeError at creation; if only its call shows that, the service fails."""
    if callable(function) and function is not print:
        service = Service(function)
        virtual(Scheduler(service, Job(nap)).co_run)
        assert isinstance(service.raised_exception(), TypeError)
    else:
        with pytest.raises(TypeError, match="async function"):
            Service(function)
