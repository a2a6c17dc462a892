"""The ending of a run with services, whatever ends it: clients, clean-up, forever jobs, then services, users first."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from trioflow import AbstractJob, Job, JobState, Scheduler, Service, StopReason, current_job
from trioflow.testing import run_virtual
from ...bodies import CANCELLED, IDLE, SKIPPED, SUCCEEDED, interrupt, nap
from ...conftest import Virtual

UNWINDING = 0.25  # seconds that everything here takes to unwind


class Plant:
    """A service, a second one that uses it, a client, a forever job, an alarm, and something to shut down."""

    def __init__(self, event: Callable[[Plant], Any], **options: Any) -> None:
        self.seen: list[tuple[str, float]] = []
        self.base = Service(self.serve, label="base")
        self.upper = Service(self.serve, label="upper", required=self.base)
        self.client = Job(self.act, label="client", required=self.upper)
        self.forever = Job(self.act, label="forever", forever=True, required=self.base)
        self.alarm = Job(self.note, self.base, label="alarm", run_if="failed", required=self.client)
        self.event = Job(self.happen, event, label="event", critical=True)
        self.scheduler = Scheduler(
            self.base, self.client, self.forever, self.alarm, self.upper, self.event, Actor(self), **options
        )

    async def act(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(UNWINDING)
            await self.note()

    async def serve(self, *, task_status: Any) -> None:
        task_status.started("value")
        await self.act()

    async def note(self, value: str = "") -> None:
        self.seen.append((current_job().label, anyio.current_time()))

    async def happen(self, event: Callable[[Plant], Any]) -> None:
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
    plant = Plant(interrupt)
    with pytest.raises(KeyboardInterrupt):
        virtual(plant.scheduler.co_run)
    assert plant.scheduler.stop_reason is StopReason.INTERRUPTED
    assert plant.seen == WITHOUT_ALARM
    assert (plant.base.state, plant.upper.result(), plant.alarm.state) == (SUCCEEDED, "value", IDLE)


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


@pytest.mark.fast_way("asyncio")  # a shield of anyio does not hold there with direct isolation
def test_services_share_one_shutdown_timeout(virtual: Virtual, caplog: pytest.LogCaptureFixture) -> None:
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
def test_a_service_outlasts_those_that_use_it_through_jobs(virtual: Virtual, between: int) -> None:
    """Their users end first, however many jobs stand between them, and however long a user takes to end."""
    ended: list[str] = []

    async def server(name: str, *, task_status: Any) -> None:
        task_status.started()
        try:
            await anyio.sleep(100)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.3 if name == "user" else 0.1)
            ended.append(name)

    jobs: list[AbstractJob[Any]] = [Service(server, "used")]
    for _ in range(between):
        jobs.append(Job(nap, 1, required=jobs[-1]))
    assert virtual(Scheduler(*jobs, Service(server, "user", required=jobs[-1]), Job(nap, 5)).co_run)
    assert ended == ["user", "used"]


def test_a_service_that_cancels_itself_as_its_run_ends_has_succeeded(virtual: Virtual) -> None:
    async def server(*, task_status: Any) -> None:
        task_status.started("value")
        try:
            await anyio.sleep(100)
        finally:
            current_job().cancel()

    service = Service(server)
    assert virtual(Scheduler(service, Job(nap, 1)).co_run)
    assert (service.state, service.result()) == (SUCCEEDED, "value")
