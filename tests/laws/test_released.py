"""What a job no longer needs is freed, however it has settled, and what it may still need is kept for it.

Nothing of the engine refers to its arguments and its context then, nor to the jobs that came before it.
"""

import contextvars
import gc
import weakref
from typing import Any

import anyio
import pytest
from trioflow import Job, Scheduler, Service
from ..bodies import Flaw, nap
from ..conftest import Virtual

variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable")


class Thing:
    """An object that tests can refer to weakly."""


ENDS = ["succeeds", "fails", "is cancelled", "is blocked", "is skipped", "moves on", "is tried again"]


async def body(end: str, job: list[Any], *things: object) -> Thing:
    assert isinstance(variable.get(), Thing)
    del things  # the exception keeps the frame that has raised it
    match end, job[0].attempts:
        case ("fails", _) | ("is tried again", 1):
            raise Flaw
        case (("moves on" | "is cancelled"), _):
            await anyio.sleep(9)
        case _:
            await anyio.sleep(1)
    return Thing()


async def broken() -> None:
    raise Flaw


@pytest.mark.parametrize(("end", "keep_jobs"), [*((end, True) for end in ENDS), *((end, False) for end in ENDS[:-1])])
def test_a_job_of_an_open_block_leaves_arguments_and_context(virtual: Virtual, end: str, keep_jobs: bool) -> None:
    """After the block, also where the program keeps the job; each attempt sees the context of whoever has added it."""
    kept: list[Any] = []
    freed: list[weakref.ref[Thing]] = []

    async def main() -> None:
        async with Scheduler(keep_jobs=keep_jobs, critical_jobs=False, log=False) as scheduler:
            before = Job(broken) if end == "is blocked" else Job(nap)
            argument, value = Thing(), Thing()
            freed.extend([weakref.ref(argument), weakref.ref(value)])
            token = variable.set(value)
            timeout: dict[str, Any] = {"timeout": 2, "on_timeout": "move_on"} if end == "moves on" else {}
            inputs = [before] if end == "is blocked" else []
            condition: Any = "failed" if end == "is skipped" else "succeeded"
            job = Job(body, end, kept, argument, *inputs, required=before, run_if=condition, **timeout)
            kept.append(job)
            scheduler.add(before)
            scheduler.add(job)
            variable.reset(token)
            del argument, value
            await anyio.sleep(0.5)
            if end == "is cancelled":
                await anyio.sleep(1)
                job.cancel()
            await job.wait_settled()
            if end == "is tried again":
                job.try_again()
                await job.wait_settled()
                assert job.is_succeeded()
        gc.collect()
        assert [each() for each in freed] == [None, None]

    virtual(main)
    assert kept[0].is_settled()


def test_a_job_that_was_dropped_keeps_none_of_those_before_it(virtual: Virtual) -> None:
    """Not as a requirement, an input, an input of an inner job, or a user of a service, though the program keeps it."""
    refs: list[weakref.ref[Any]] = []

    async def use(*_: object) -> Thing:
        await anyio.sleep(1)
        return Thing()

    async def serve(*, task_status: Any) -> None:
        task_status.started()
        await anyio.sleep_forever()

    async def main() -> None:
        async with Scheduler(keep_jobs=False) as scheduler:
            service = scheduler.add(Service(serve))
            first = scheduler.add(Job(use, required=service))
            middle = scheduler.add(Scheduler(Job(use, first), Job(use, first), required=first))
            last = scheduler.add(Job(use, first, required=middle))
            for job in (first, middle):
                refs.append(weakref.ref(job))
            del first, middle, job
            await last.wait_settled()
            await anyio.sleep(1)
            gc.collect()
            assert [each() for each in refs] == [None, None]
            assert last.is_succeeded()

    virtual(main)
