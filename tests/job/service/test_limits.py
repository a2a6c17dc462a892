"""Limits of a `Service`, which hold until it is ready, and functions that a `Service` rejects."""

from __future__ import annotations

import functools
from typing import Any

import anyio
import pytest

from trioflow import Job, JobTimeout, Scheduler, Service

from ...bodies import FAILED, nap, timed
from ...conftest import Virtual


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
    """A function that is not async raises a TypeError at creation; if only its call shows that, the service fails."""
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
