"""An instrument that sets context variables: who sees them, and what this leaves alone."""

from __future__ import annotations

import contextvars
from collections.abc import AsyncIterator, Generator
from typing import Any

import anyio
import pytest
from trioflow import AbstractJob, Job, JobState, Scheduler, Service, ThreadJob, current_job
from trioflow.abc import Instrument
from ..bodies import hooked
from ..conftest import Virtual

seen: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="nothing")


class Names(Instrument):
    """An instrument that sets a variable to the label of each job, and notes its value at each hook."""

    def __init__(self) -> None:
        self.at: list[str] = []

    def job_started(self, scheduler: Any, job: Any) -> None:
        self.at.append(f"start {seen.get()}")
        seen.set(job.label)

    def job_attempt(self, scheduler: Any, job: Any) -> None:
        self.at.append(f"attempt {seen.get()}")

    def service_ready(self, scheduler: Any, job: Any) -> None:
        self.at.append(f"ready {seen.get()}")

    def job_settled(self, scheduler: Any, job: Any) -> None:
        self.at.append(f"end {seen.get()}")
        seen.set("ended")


async def look(*_: object) -> str:
    """Return the variables seen by the body: before it waits, afterwards, and in a task of its own."""
    found = [seen.get()]
    await anyio.sleep(1)
    found.append(seen.get())

    async def child() -> None:
        found.append(seen.get())

    async with anyio.create_task_group() as group:
        group.start_soon(child)
    assert current_job().label == found[0]
    return " ".join(found)


def test_a_variable_set_in_job_started_is_seen_by_this_job_alone(virtual: Virtual) -> None:
    tried = iter([OSError("once"), None])

    async def again() -> str:
        if (error := next(tried)) is not None:
            raise error
        return seen.get()

    watch = Names()
    a, b = Job(look, label="a"), Job(look, label="b")
    c, d = ThreadJob(seen.get, label="c"), Job(again, label="d", retry=1)
    assert virtual(Scheduler(a, b, c, d, instruments=[watch], jobs_window=2).co_run)
    assert [job.result() for job in (a, b, c, d)] == ["a a a", "b b b", "c", "d"]
    assert sorted(watch.at) == sorted(
        [*(f"{what} {name}" for name in "abcd" for what in ("attempt", "end")), "attempt d", *["start nothing"] * 5]
    )
    assert seen.get() == "nothing"


def test_jobs_of_a_nested_scheduler_inherit_its_variables(virtual: Virtual) -> None:
    watch = hooked(job_started=lambda _, job: seen.set(f"{seen.get()}/{job.label}"))

    async def where() -> str:
        await anyio.sleep(1)
        return seen.get()

    deep = [Job(where, label=label) for label in "xy"]
    assert virtual(Scheduler(Scheduler(Scheduler(*deep, label="b"), label="a"), instruments=[watch]).co_run)
    assert [job.result() for job in deep] == ["nothing/a/b/x", "nothing/a/b/y"]


def test_services_forever_jobs_and_clean_up_jobs_have_their_own_context(virtual: Virtual) -> None:
    async def serve(*, task_status: Any) -> None:
        task_status.started(seen.get())
        await anyio.sleep_forever()

    async def now() -> str:
        return seen.get()

    async def fails() -> None:
        raise OSError(seen.get())

    service, forever = Service(serve, label="service"), Job(anyio.sleep_forever, label="forever", forever=True)
    failing = Job(fails, label="failing", critical=True, required=service)
    slow = Job(anyio.sleep_forever, label="slow", timeout=1, required=service)
    cleaning = Job(now, label="cleaning", run_if="failed", required=failing)
    watch = Names()
    wait = Job(anyio.sleep, 2, label="wait")
    failing.requires(wait)
    assert not virtual(Scheduler(service, forever, wait, failing, slow, cleaning, instruments=[watch]).co_run)
    assert (service.result(), cleaning.result(), str(failing.raised_exception())) == ("service", "cleaning", "failing")
    assert slow.timed_out
    assert {"end " + job.label for job in (service, forever, wait, failing, slow, cleaning)} <= set(watch.at)
    assert "ready service" in watch.at


def test_a_variable_set_at_the_end_of_a_blocked_job_is_seen_by_no_job(virtual: Virtual) -> None:
    async def fails() -> None:
        raise OSError

    async def after() -> str:
        return seen.get()

    failing = Job(fails)
    blocked = Job(after, required=failing)
    last = Job(after, required=blocked, run_if="settled")
    watch = Names()
    assert not virtual(Scheduler(failing, blocked, last, instruments=[watch]).co_run)
    assert blocked.state is JobState.BLOCKED
    assert last.result() == last.label


def test_an_instrument_that_raises_does_not_affect_variables_of_another(virtual: Virtual) -> None:
    class Raises(Instrument):
        def job_started(self, scheduler: Any, job: Any) -> None:
            raise OSError("broken")

    job, other = Job(look, label="job"), Job(look, label="other")
    watch = Names()
    assert virtual(Scheduler(job, other, instruments=[Raises(), watch]).co_run)
    assert (job.result(), other.result()) == ("job job job", "other other other")


class Plain:
    """An awaitable without `send`, `throw` or `close`."""

    def __await__(self) -> Generator[Any, Any, str]:
        yield from anyio.sleep(1).__await__()
        return seen.get()


class Once:
    """An awaitable whose iterator is as plain as can be."""

    def __init__(self) -> None:
        self.is_over = False

    def __await__(self) -> Once:
        return self

    def __iter__(self) -> Once:
        return self

    def __next__(self) -> None:
        raise StopIteration(seen.get())


@pytest.mark.parametrize("make", [Plain, Once])
def test_any_awaitable_that_a_function_returns_sees_the_variables_of_its_job(virtual: Virtual, make: Any) -> None:
    job, wrong = Job(lambda: make(), label="job"), Job(lambda: int("3"), label="wrong")
    assert not virtual(Scheduler(job, wrong, instruments=[Names()]).co_run)
    assert job.result() == "job"
    assert "not awaitable" in "".join(getattr(wrong.raised_exception(), "__notes__", []))


def test_a_job_that_hangs_is_logged_with_its_stack(virtual: Virtual, caplog: pytest.LogCaptureFixture) -> None:
    async def hangs() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(3)

    job = Job(hangs, label="hangs")
    assert not virtual(Scheduler(job, timeout=1, instruments=[Names()]).co_run)
    assert "in hangs" in caplog.text


def test_a_generator_is_closed_in_the_context_where_it_was_begun(virtual: Virtual) -> None:
    """A context variable that a body set can be reset there by its token when the job is cancelled."""
    given_back: list[str] = []

    async def steps() -> AsyncIterator[int]:
        token = seen.set("inside")
        try:
            while True:
                yield 1
                await anyio.sleep(1)
        finally:
            seen.reset(token)
            given_back.append(seen.get())

    async def body() -> None:
        async for _ in steps():
            pass

    job: AbstractJob[Any] = Job(body, label="body", timeout=3)
    assert not virtual(Scheduler(job, instruments=[Names()]).co_run)
    assert given_back == ["body"]
