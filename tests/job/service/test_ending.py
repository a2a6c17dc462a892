"""The ending of a run with services, whatever ends it: clients, clean-up, forever jobs, then services, users first."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from trioflow import AbstractJob, Job, JobState, Scheduler, Service, StopReason, current_job
from trioflow.testing import run_virtual

from ...bodies import CANCELLED, FAILED, IDLE, SKIPPED, SUCCEEDED, Flaw, crash, interrupt, nap

if TYPE_CHECKING:
    from ...conftest import Virtual


UNWINDING = 0.25  # seconds that everything here takes to unwind


class Plant:
    """A service, a second one that uses it, a client, a forever job, an alarm, and something to shut down."""

    def __init__(self, event: Callable[[Plant], Any], unwinding: float = UNWINDING, **options: Any) -> None:
        self.seen: list[tuple[str, float]] = []
        self.unwinding = unwinding
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
                await anyio.sleep(self.unwinding)
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


def finish(plant: Plant) -> None:
    plant.client.cancel()


def cancel(plant: Plant) -> None:
    plant.scheduler.cancel()


def nothing(plant: Plant) -> None: ...


SERVICES = [("upper", 2.75), ("base", 3.0), ("shutdown", 3.0)]
WITHOUT_ALARM = [("client", 2.25), ("forever", 2.5), *SERVICES]
WITH_ALARM = [("client", 2.25), ("alarm", 2.25), ("forever", 2.5), *SERVICES]


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


def test_jobs_and_services_end_in_order_after_a_critical_failure(virtual: Virtual) -> None:
    """After a critical failure clients end first, then clean-up jobs run with services alive, and services end last."""
    plant = Plant(crash)
    assert virtual(plant.scheduler.co_run) is False
    assert plant.scheduler.stop_reason is StopReason.CRITICAL
    assert plant.seen == WITH_ALARM
    assert plant.states() == {
        "base": SUCCEEDED, "upper": SUCCEEDED, "client": CANCELLED, "forever": CANCELLED, "alarm": SUCCEEDED,
        "event": FAILED, "actor": SUCCEEDED,
    }  # fmt: skip


def test_jobs_and_services_end_in_order_at_the_timeout(virtual: Virtual) -> None:
    """At the timeout, clean-up jobs run, and everything ends in the same order as after a critical failure."""
    plant = Plant(nothing, timeout=2)
    assert virtual(plant.scheduler.co_run) is False
    assert plant.scheduler.stop_reason is StopReason.TIMEOUT
    assert plant.seen == WITH_ALARM
    assert (plant.base.state, plant.upper.result()) == (SUCCEEDED, "value")


def test_jobs_and_services_end_in_order_after_cancel(virtual: Virtual) -> None:
    """After `cancel()` of the scheduler no clean-up jobs run, and jobs and services end in the usual order."""
    plant = Plant(cancel)
    assert virtual(plant.scheduler.co_run) is False
    assert plant.scheduler.stop_reason is StopReason.CANCELLED
    assert plant.seen == WITHOUT_ALARM
    assert (plant.base.state, plant.upper.result(), plant.alarm.state) == (SUCCEEDED, "value", IDLE)


def test_jobs_and_services_end_in_order_after_an_outer_cancellation(virtual: Virtual) -> None:
    """When a scope around the run is cancelled, the run ends in order, and the scope is left after the last service."""

    async def main() -> tuple[bool, float]:
        with anyio.move_on_after(2) as scope:
            await plant.scheduler.co_run()
        return scope.cancelled_caught, anyio.current_time()

    plant = Plant(nothing)
    assert virtual(main) == (True, 3)
    assert plant.scheduler.stop_reason is StopReason.CANCELLED
    assert plant.seen == WITHOUT_ALARM
    assert (plant.base.state, plant.upper.result(), plant.alarm.state) == (SUCCEEDED, "value", IDLE)


@pytest.mark.parametrize("how", ["wait_for", "cancel", "twice"])
def test_jobs_and_services_end_in_order_after_a_native_cancellation(how: str) -> None:
    """When asyncio cancels the run, by `wait_for` or by one or two `Task.cancel()`, jobs and services end in order."""

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


@pytest.mark.parametrize("event", [crash, cancel])
def test_jobs_and_services_of_a_nested_scheduler_end_in_order(virtual: Virtual, event: Callable[[Plant], Any]) -> None:
    """A nested scheduler ends its jobs and services in the usual order, and before a service of its parent ends."""
    plant = Plant(crash if event is crash else nothing)
    server = Plant(nothing).serve
    outside = Service(server)
    outer = Scheduler(outside, plant.scheduler)
    if event is cancel:
        outer.add(Job(plant.happen, lambda _: plant.scheduler.cancel()))
    plant.scheduler.requires(outside)
    virtual(outer.co_run)
    assert plant.seen == (WITH_ALARM if event is crash else WITHOUT_ALARM)
    assert outside.finished_at == 3 + UNWINDING


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


def test_services_that_do_not_use_each_other_end_together(virtual: Virtual) -> None:
    """Services that do not use each other end together, after those that use them."""
    log: list[Any] = []
    a, b, c = (Service(linger(log), label=label) for label in "abc")
    d = Service(linger(log), label="d", required=[a, b])
    virtual(Scheduler(a, b, c, d, Job(nap)).co_run)
    assert log[0] == ("d", 1) or ("c", 1) in log[:2]
    assert sorted(log) == [("a", 1.25), ("b", 1.25), ("c", dict(log)["c"]), ("d", 1)]


@pytest.mark.parametrize("between", ["job", "nested", "argument"])
def test_a_service_that_uses_another_one_indirectly_ends_first(virtual: Virtual, between: str) -> None:
    """A service ends before one that it uses through jobs, nested schedulers or arguments in between."""
    log: list[Any] = []
    base, upper = Service(linger(log), label="base"), Service(linger(log), label="upper")

    async def take(value: Any) -> None: ...

    scheduler = Scheduler(base, Job(nap, 3))
    link: Any = {
        "job": lambda: Job(nap, required=base),
        "nested": lambda: Scheduler(Job(take, base)),
        "argument": lambda: Job(take, [base]),
    }[between]()
    upper.requires(link)
    virtual(scheduler.update([upper, link]).co_run)
    assert log == [("upper", 3), ("base", 3.25)]


def test_the_end_of_a_service_does_not_wait_for_a_failed_user(virtual: Virtual) -> None:
    """At the end of the run, a service ends without waiting for a user that failed during the run."""
    log: list[Any] = []
    base = Service(linger(log), label="base")

    async def broken(*, task_status: Any) -> None:
        task_status.started()
        raise Flaw

    virtual(Scheduler(base, Service(broken, required=base), Job(nap, 3)).co_run)
    assert log == [("base", 3)]


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


def test_co_shutdown_has_its_own_timeout_after_the_services(virtual: Virtual) -> None:
    """`co_shutdown` begins when the services have ended, with a whole `shutdown_timeout` of its own."""
    plant = Plant(cancel, unwinding=0.5, shutdown_timeout=1)
    virtual(plant.scheduler.co_run)
    assert plant.seen == [("client", 2.5), ("forever", 3), ("upper", 3.5), ("base", 4), ("shutdown", 4)]
    assert plant.scheduler.incidents == ()


@pytest.mark.parametrize("event", [nothing, crash, cancel, interrupt])
def test_service_that_never_got_ready_is_cancelled(virtual: Virtual, event: Callable[[Plant], Any]) -> None:
    """At any end of the run, a service that is not ready is CANCELLED, and a job that requires it stays IDLE."""

    async def mute(*, task_status: Any) -> None:
        await anyio.sleep_forever()

    plant = Plant(event)
    service = Service(mute)
    user = Service(mute, required=service)
    plant.scheduler.update([service, user])
    try:
        virtual(functools.partial(plant.scheduler.co_run, timeout=5))
    except KeyboardInterrupt:
        assert event is interrupt
    assert (service.state, user.state) == (CANCELLED, IDLE)


def test_a_native_cancellation_while_services_end_does_not_disturb_them() -> None:
    """A `Task.cancel()` while services end changes neither their order nor their state."""
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
