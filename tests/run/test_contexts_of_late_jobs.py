"""Jobs that are added to an open scheduler have the context variables of the code that adds them."""

import asyncio
import contextvars
from typing import Any

import anyio
import pytest
import trio
from trioflow import Job, Scheduler, Service
from ..bodies import fail
from ..conftest import Virtual

request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")


async def look(*_: object) -> str:
    before = request.get()
    await anyio.sleep(1)
    assert request.get() == before
    return before


@pytest.mark.parametrize("window", [None, 1])
def test_each_handler_of_a_server_adds_jobs_in_its_own_context(virtual: Virtual, window: int | None) -> None:
    """Jobs that a server's handler added once saw the variables of the server instead of the handler's."""
    found: dict[str, list[str]] = {}

    async def main() -> None:
        async with Scheduler(jobs_window=window) as server, anyio.create_task_group() as handlers:

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
    assert (first.result(), last.result(), tries) == ("none", "none", ["adder", "adder"])


def test_late_services_and_clean_up_jobs_have_the_variables_of_the_adding_code(virtual: Virtual) -> None:
    async def serve(*, task_status: Any) -> None:
        task_status.started(request.get())
        await anyio.sleep_forever()

    jobs: list[Any] = []

    async def adds() -> None:
        request.set("adder")
        bad = Job(fail, 2, critical=True)
        jobs.extend(scheduler.update([Service(serve), bad, Job(look, required=bad, run_if="failed")]))

    async def main() -> None:
        async with scheduler:
            scheduler.add(Job(adds))

    scheduler = Scheduler()
    with pytest.raises(ExceptionGroup):
        virtual(main)
    assert (jobs[1].result(), jobs[3].result()) == ("adder", "adder")


@pytest.mark.parametrize("window", [None, 1])
def test_a_variable_with_another_value_makes_another_context(virtual: Virtual, window: int | None) -> None:
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
def test_a_job_that_is_tried_again_keeps_the_variables_of_the_adding_code(virtual: Virtual, end: str) -> None:
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
def test_jobs_that_are_added_with_the_same_variables_share_a_task(virtual: Virtual) -> None:
    async def task() -> int:
        return id(trio.lowlevel.current_task() if virtual.backend == "trio" else asyncio.current_task())

    async def main() -> int:
        async with Scheduler(jobs_window=1) as scheduler:
            jobs = [scheduler.add(Job(task)) for _ in range(5)]
        return len({job.result() for job in jobs})

    assert virtual(main) == 1
