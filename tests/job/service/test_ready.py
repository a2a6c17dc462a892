"""When a `Service` counts as ready, what its users get from it, and what happens if it ends by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from trioflow import AbstractJob, Job, JobCancelled, JobNotDone, Scheduler, Service, StopReason
from trioflow.abc import Instrument

from ...bodies import BLOCKED, CANCELLED, FAILED, IDLE, RUNNING, SUCCEEDED, Flaw, fail, give_now, nap, serve, timed

if TYPE_CHECKING:
    from ...conftest import Virtual


def after(seconds: float, action: Callable[[], Any]) -> Job[None]:
    async def act() -> None:
        await anyio.sleep(seconds)
        action()

    return Job(act)


# --- ready


def test_jobs_that_require_a_service_start_when_it_is_ready(virtual: Virtual) -> None:
    """A job that requires a service starts after `started()`, and gets its value as an argument."""
    service = Service(serve, 2, "address")
    client, late = Job(give_now, service), Job(nap, 3, required=service)
    assert virtual(timed, Scheduler(service, client, late)) == (True, 5)
    assert (client.started_at, client.result(), late.started_at) == (2, "address", 2)
    assert (service.state, service.result(), service.finished_at) == (SUCCEEDED, "address", 5)


def test_result_of_a_service_is_none_if_started_has_no_value(virtual: Virtual) -> None:
    """After a call of `started()` without a value, the result of the service is None."""

    async def quiet(*, task_status: Any) -> None:
        task_status.started()
        await anyio.sleep_forever()

    service = Service(quiet)
    virtual(Scheduler(service, Job(nap)).co_run)
    assert (service.state, service.result()) == (SUCCEEDED, None)


def test_result_of_a_service_is_available_as_soon_as_it_is_ready(virtual: Virtual) -> None:
    """A service has a result as soon as it is ready, while it runs and after it has ended, but not before."""
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


def test_a_service_that_requires_another_one_starts_when_that_is_ready(virtual: Virtual) -> None:
    """A service that uses another one starts when that is ready, and gets its value."""
    first = Service(serve, 1, "first")
    second = Service(lambda uses, *, task_status: serve(1, [uses, "second"], task_status=task_status), first)
    client = Job(give_now, second)
    assert virtual(timed, Scheduler(first, second, client)) == (True, 2)
    assert client.result() == ["first", "second"]


def test_services_take_no_slot(virtual: Virtual) -> None:
    """Three services and their clients run even with `jobs_window=1`, because a service takes no slot."""
    services = [Service(serve, 1) for _ in range(3)]
    jobs = [Job(nap, 1, required=services) for _ in range(2)]
    assert virtual(timed, Scheduler(services, jobs, jobs_window=1)) == (True, 3)


def test_an_unused_service_is_ended_with_the_run(virtual: Virtual) -> None:
    """A service that no job uses does not keep the run going; if it is not ready when the run ends, it is CANCELLED."""
    ready, slow = Service(serve, 1), Service(serve, 9)
    assert virtual(timed, Scheduler(ready, slow, Job(nap, 2))) == (True, 2)
    assert (ready.state, slow.state) == (SUCCEEDED, CANCELLED)
    with pytest.raises(JobCancelled):
        slow.result()


def test_instruments_are_notified_when_a_service_is_ready(virtual: Virtual) -> None:
    """The hook `job_ready` is called when a service becomes ready, and can read the result of the service."""
    seen: list[Any] = []

    class Watch(Instrument):
        def job_ready(self, scheduler: Any, job: AbstractJob[Any]) -> None:
            seen.append((job.result(), anyio.current_time()))

    virtual(Scheduler(Service(serve, 2, "value"), Job(nap, 3), instruments=[Watch()]).co_run)
    assert seen == [("value", 2)]


def test_jobs_added_during_the_run_may_require_a_service(virtual: Virtual) -> None:
    """A job added during the run may require a service that is ready already, or one that becomes ready later."""
    ready, slow = Service(serve, 0, "now"), Service(serve, 5, "later")
    late = [Job(give_now, ready), Job(give_now, slow)]
    assert virtual(timed, scheduler := Scheduler(ready, slow, after(2, lambda: scheduler.update(late)))) == (True, 5)
    assert [(job.started_at, job.result()) for job in late] == [(2, "now"), (5, "later")]


def test_a_service_may_be_added_during_the_run(virtual: Virtual) -> None:
    """A service may be added during the run, together with a job that uses it."""
    service = Service(serve, 1, "late")
    client = Job(give_now, service)
    scheduler = Scheduler(Job(nap, 1))
    scheduler.add(after(1, lambda: scheduler.update([service, client])))
    assert virtual(timed, scheduler) == (True, 2)
    assert (client.result(), service.state) == ("late", SUCCEEDED)


def test_jobs_of_a_nested_scheduler_may_use_a_service_of_the_enclosing_one(virtual: Virtual) -> None:
    """A service that jobs of a nested scheduler use ends after that scheduler."""
    service = Service(serve, 1, "outside")
    scheduler = Scheduler(service)
    client = Job(give_now, service)
    scheduler.add(Scheduler(client, Job(nap, 2)))
    assert virtual(timed, scheduler) == (True, 3)
    assert (client.result(), service.finished_at) == ("outside", 3)


# --- ends by itself


def test_calling_started_twice_raises(virtual: Virtual) -> None:
    """A second call of `started()` raises a RuntimeError with the name of the service, which then fails."""

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
    """Calling `started()` after the service has ended raises, and does not overwrite the outcome of the service."""
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
    """A service that returns without a call of `started()` fails, and jobs that use its value are BLOCKED."""

    async def hasty(*, task_status: Any) -> None: ...

    service = Service(hasty, label="hasty")
    client, other = Job(give_now, service), Job(nap).requires(service, settled=True)
    assert virtual(Scheduler(service, client, other).co_run) is False
    assert [job.state for job in (service, client, other)] == [FAILED, BLOCKED, SUCCEEDED]
    with pytest.raises(RuntimeError, match=r"'hasty' returned without .*started\(\)"):
        service.result()


def test_a_service_that_returns_after_it_was_ready_succeeds(virtual: Virtual) -> None:
    """A service that returns after it was ready succeeds, and jobs that start later still get its value."""

    async def short(*, task_status: Any) -> str:
        task_status.started("value")
        await anyio.sleep(1)
        return "ignored"

    service = Service(short)
    assert virtual(timed, Scheduler(service, wait := Job(nap, 2), late := Job(give_now, service, required=wait))) == (
        True,
        2,
    )
    assert (service.state, service.finished_at, service.result(), late.result()) == (SUCCEEDED, 1, "value", "value")


@pytest.mark.parametrize("ready", [False, True])
def test_a_service_that_raises_fails(virtual: Virtual, ready: bool) -> None:
    """When a service that was ready raises, jobs that use it keep its value; if it was not, they are BLOCKED."""

    async def broken(*, task_status: Any) -> None:
        if ready:
            task_status.started("value")
        await anyio.sleep(1)
        raise Flaw

    service = Service(broken)
    client = Job(nap, 2, service)
    assert virtual(Scheduler(service, client, Job(nap, 2)).co_run) is False
    assert (service.state, client.state) == (FAILED, SUCCEEDED if ready else BLOCKED)
    with pytest.raises(Flaw):
        service.result()


@pytest.mark.parametrize("ready", [False, True])
def test_a_critical_service_that_raises_ends_the_run(virtual: Virtual, ready: bool) -> None:
    """A critical service that raises ends the run, whether or not it was ready."""

    async def broken(*, task_status: Any) -> None:
        if ready:
            task_status.started()
        await fail(1, Flaw())

    service = Service(broken, critical=True)
    assert virtual(timed, scheduler := Scheduler(service, Job(nap, 9))) == (False, 1)
    assert (scheduler.stop_reason, scheduler.culprit) == (StopReason.CRITICAL, service)


def test_a_service_that_raises_while_it_is_ended_fails(virtual: Virtual) -> None:
    """A critical service that raises while it is being ended fails, but the outcome of the run does not change."""

    async def clumsy(*, task_status: Any) -> None:
        task_status.started()
        try:
            await anyio.sleep_forever()
        finally:
            raise Flaw

    service = Service(clumsy, critical=True)
    assert virtual(Scheduler(service, Job(nap)).co_run) is False
    assert service.state is FAILED


@pytest.mark.parametrize("ready", [False, True])
def test_cancelling_a_service_does_not_end_the_run(virtual: Virtual, ready: bool) -> None:
    """When a service is cancelled, the run goes on: its users keep its value, or are BLOCKED if it was not ready."""
    service = Service(serve, 0 if ready else 9)
    client = Job(nap, 5, service)
    assert virtual(Scheduler(service, client, after(1, service.cancel)).co_run) is True
    assert (service.state, client.state) == (CANCELLED, SUCCEEDED if ready else BLOCKED)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("how", ["fails", "cancelled"])
def test_a_service_failure_is_raised_in_a_user_that_starts_later(virtual: Virtual, how: str, inside: bool) -> None:
    """A job that waits for a slot while its service fails gets the error of the service, as it has no value."""

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
