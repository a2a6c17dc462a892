"""Context variables: those of jobs that are added late, and those that an instrument sets."""

import contextvars
from collections.abc import AsyncIterator, Generator
from typing import Any
import anyio
import pytest
from trioflow import (
    AbstractJob,
    Job,
    JobState,
    Scheduler,
    Service,
    ThreadJob,
    current_job,
)
from trioflow._core.run._current import propagated_env
from trioflow.abc import Instrument, propagate_env
from ..bodies import at_once, fail, fail_now, hooked, later, raising, task_now, unwind
from ..conftest import Virtual

# --- jobs added to an open scheduler have those of the code that adds them
request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")


async def look(*_: object) -> str:
    before = request.get()
    await anyio.sleep(1)
    assert request.get() == before
    return before


@pytest.mark.parametrize("window", [None, 1])
def test_each_handler_of_a_server_adds_jobs_in_its_own_context(
    virtual: Virtual, window: int | None
) -> None:
    """Jobs that a server's handler added once saw the variables of the server instead of the handler's."""
    found: dict[str, list[str]] = {}

    async def main() -> None:
        async with (
            Scheduler(jobs_window=window) as server,
            anyio.create_task_group() as handlers,
        ):

            async def handle(name: str) -> None:
                request.set(name)
                job = server.add(Job(look, source := Job(look)))
                await server.add(Scheduler(inside := Job(look))).wait_settled()
                found[name] = [await job, source.result(), inside.result()]

            for name in "abc":
                handlers.start_soon(handle, name)

    virtual(main)
    assert found == {name: [name] * 3 for name in "abc"}
    assert request.get() == "none"


def test_context_changes_of_a_job_are_invisible_to_other_jobs(virtual: Virtual) -> None:
    """A job that sets a variable affects the job that it adds and its retries, but not other jobs."""
    tries: list[str] = []

    async def again() -> None:
        tries.append(request.get())
        await anyio.sleep(0.5)
        if len(tries) == 1:
            raise OSError

    async def adds() -> None:
        request.set("adder")
        scheduler.add(Job(again, retry=1))

    async def main() -> None:
        async with scheduler:
            scheduler.update([Job(adds), first, last])

    first, last = Job(look), Job(look)
    scheduler = Scheduler(jobs_window=1)
    virtual(main)
    assert (first.result(), last.result(), tries) == (
        "none",
        "none",
        ["adder", "adder"],
    )


def test_late_services_and_clean_up_jobs_have_the_variables_of_the_adding_code(
    virtual: Virtual,
) -> None:
    async def serve(*, task_status: Any) -> None:
        task_status.started(request.get())
        await anyio.sleep_forever()

    jobs: list[Any] = []

    async def adds() -> None:
        request.set("adder")
        bad = Job(fail, 2, critical=True)
        jobs.extend(
            scheduler.update(
                [Service(serve), bad, Job(look, required=bad, run_if="failed")]
            )
        )

    async def main() -> None:
        async with scheduler:
            scheduler.add(Job(adds))

    scheduler = Scheduler()
    with pytest.raises(ExceptionGroup):
        virtual(main)
    assert (jobs[1].result(), jobs[3].result()) == ("adder", "adder")


@pytest.mark.parametrize("window", [None, 1])
def test_a_variable_with_another_value_makes_another_context(
    virtual: Virtual, window: int | None
) -> None:
    seen: dict[str, str] = {}

    async def main() -> None:
        request.set("main")
        async with Scheduler(jobs_window=window) as scheduler:
            for name in ("main", "other", "main"):
                request.set(name)
                seen[name] = await scheduler.add(Job(look))

    virtual(main)
    assert seen == {"main": "main", "other": "other"}


@pytest.mark.parametrize("end", ["failed", "cancelled", "blocked"])
def test_a_job_that_is_tried_again_keeps_the_variables_of_the_adding_code(
    virtual: Virtual, end: str
) -> None:
    calls: list[str] = []
    fails = [end]

    async def work(name: str) -> None:
        calls.append(f"{name}: {request.get()}")
        await anyio.sleep(1)
        if name == failing and fails:
            fails.clear()
            raise OSError

    async def main() -> None:
        async with Scheduler(log=False) as scheduler:
            request.set("adder")
            first = Job(work, "a")
            jobs = [first, Job(work, "b", required=first)]
            scheduler.update(jobs)
            request.set("main")
            await anyio.sleep(0.5)
            if end == "cancelled":
                jobs[1].cancel()
            await jobs[0].wait_settled()
            await jobs[1].wait_settled()
            jobs[end != "blocked"].try_again()

    failing = {"failed": "b", "blocked": "a", "cancelled": ""}[end]
    virtual(main)
    assert calls[-1] == "b: adder"
    assert {call[3:] for call in calls} == {"adder"}


@pytest.mark.fast_way("asyncio")
def test_jobs_that_are_added_with_the_same_variables_share_a_task(
    virtual: Virtual,
) -> None:
    async def main() -> int:
        async with Scheduler(jobs_window=1) as scheduler:
            jobs = [
                scheduler.add(Job(at_once, lambda: id(task_now()))) for _ in range(5)
            ]
        return len({job.result() for job in jobs})

    assert virtual(main) == 1


# --- an instrument that sets some: who sees them, and what this leaves alone
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


async def look_at_names(*_: object) -> str:
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


def test_a_variable_set_in_job_started_is_seen_by_this_job_alone(
    virtual: Virtual,
) -> None:
    tried = iter([OSError("once"), None])

    async def again() -> str:
        if (error := next(tried)) is not None:
            raise error
        return seen.get()

    watch = Names()
    a, b = Job(look_at_names, label="a"), Job(look_at_names, label="b")
    c, d = ThreadJob(seen.get, label="c"), Job(again, label="d", retry=1)
    assert virtual(Scheduler(a, b, c, d, instruments=[watch], jobs_window=2).co_run)
    assert [job.result() for job in (a, b, c, d)] == ["a a a", "b b b", "c", "d"]
    assert sorted(watch.at) == sorted(
        [
            *(f"{what} {name}" for name in "abcd" for what in ("attempt", "end")),
            "attempt d",
            *["start nothing"] * 5,
        ]
    )
    assert seen.get() == "nothing"


def test_jobs_of_a_nested_scheduler_inherit_its_variables(virtual: Virtual) -> None:
    watch = hooked(job_started=lambda _, job: seen.set(f"{seen.get()}/{job.label}"))

    deep = [Job(later, 1, seen.get, label=label) for label in "xy"]
    assert virtual(
        Scheduler(
            Scheduler(Scheduler(*deep, label="b"), label="a"), instruments=[watch]
        ).co_run
    )
    assert [job.result() for job in deep] == ["nothing/a/b/x", "nothing/a/b/y"]


def test_services_forever_jobs_and_clean_up_jobs_have_their_own_context(
    virtual: Virtual,
) -> None:
    async def serve(*, task_status: Any) -> None:
        task_status.started(seen.get())
        await anyio.sleep_forever()

    async def fails() -> None:
        raise OSError(seen.get())

    service, forever = (
        Service(serve, label="service"),
        Job(anyio.sleep_forever, label="forever", forever=True),
    )
    failing = Job(fails, label="failing", critical=True, required=service)
    slow = Job(anyio.sleep_forever, label="slow", timeout=1, required=service)
    cleaning = Job(
        at_once, seen.get, label="cleaning", run_if="failed", required=failing
    )
    watch = Names()
    wait = Job(anyio.sleep, 2, label="wait")
    failing.requires(wait)
    assert not virtual(
        Scheduler(
            service, forever, wait, failing, slow, cleaning, instruments=[watch]
        ).co_run
    )
    assert (service.result(), cleaning.result(), str(failing.raised_exception())) == (
        "service",
        "cleaning",
        "failing",
    )
    assert slow.timed_out
    assert {
        "end " + job.label for job in (service, forever, wait, failing, slow, cleaning)
    } <= set(watch.at)
    assert "ready service" in watch.at


def test_a_variable_set_at_the_end_of_a_blocked_job_is_seen_by_no_job(
    virtual: Virtual,
) -> None:
    failing = Job(fail_now)
    blocked = Job(at_once, seen.get, label="after", required=failing)
    last = Job(at_once, seen.get, label="after", required=blocked, run_if="settled")
    watch = Names()
    assert not virtual(Scheduler(failing, blocked, last, instruments=[watch]).co_run)
    assert blocked.state is JobState.BLOCKED
    assert last.result() == last.label


def test_an_instrument_that_raises_does_not_affect_variables_of_another(
    virtual: Virtual,
) -> None:
    job, other = Job(look_at_names, label="job"), Job(look_at_names, label="other")
    watch = Names()
    assert virtual(
        Scheduler(
            job,
            other,
            instruments=[hooked(job_started=raising(OSError("broken"))), watch],
        ).co_run
    )
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

    def __await__(self) -> "Once":
        return self

    def __iter__(self) -> "Once":
        return self

    def __next__(self) -> None:
        raise StopIteration(seen.get())


@pytest.mark.parametrize("make", [Plain, Once])
def test_any_awaitable_that_a_function_returns_sees_the_variables_of_its_job(
    virtual: Virtual, make: Any
) -> None:
    job, wrong = Job(lambda: make(), label="job"), Job(lambda: int("3"), label="wrong")
    assert not virtual(Scheduler(job, wrong, instruments=[Names()]).co_run)
    assert job.result() == "job"
    assert "not awaitable" in "".join(
        getattr(wrong.raised_exception(), "__notes__", [])
    )


def test_a_job_that_hangs_is_logged_with_its_stack(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    job = Job(unwind, label="hangs")
    assert not virtual(Scheduler(job, timeout=1, instruments=[Names()]).co_run)
    assert "in unwind" in caplog.text


def test_a_generator_is_closed_in_the_context_where_it_was_begun(
    virtual: Virtual,
) -> None:
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


def test_a_second_call_of_propagate_env_replaces_all_variables(
    virtual: Virtual,
) -> None:
    async def set_twice() -> dict[str, str]:
        propagate_env({"A": "1", "B": "2"})
        propagate_env({"A": "3"})
        return dict(propagated_env())

    job = Job(set_twice)
    assert virtual(Scheduler(job).co_run)
    assert job.result() == {"A": "3"}
