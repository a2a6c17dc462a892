"""A run that is refused has closed what it had opened: its scheduler, its pool and its journal can be used at once."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
import anyio
import pytest
from trioflow import Job, JobNotDone, JournalError, Pool, Scheduler
from trioflow._core.scheduler import _awaiting, _checks
from trioflow.abc import AbstractJob
from ..bodies import Flaw, at_once, crash, nap, nothing


def test_a_run_that_its_pool_refuses_closes_its_journal(backend: Any, tmp_path: Path) -> None:
    pool = Pool(cpu=1)
    refused = Scheduler(Job(nothing, needs={"cpu": 1}), pool=pool, journal=tmp_path / "journal.db")
    errors: list[BaseException] = []

    def run_elsewhere() -> None:
        try:
            refused.run(backend=backend)
        except RuntimeError as error:
            errors.append(error)  # which keeps the frames of the run alive

    def body() -> None:
        thread = threading.Thread(target=run_elsewhere)
        thread.start()
        thread.join()

    assert Scheduler(Job(at_once, body, needs={"cpu": 1}), pool=pool).run(backend=backend)
    assert "in another event loop" in str(errors[0])
    assert refused.run(backend=backend)


STEPS = [(Pool, "_enter"), (_awaiting, "watch_of"), (_checks, "check_members"), (Scheduler, "_open_journal")]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step[1])
def test_whichever_step_fails_before_a_run_its_means_are_free(
    backend: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: tuple[object, str]
) -> None:
    """A run inside of a job fails in one of its first steps, and the next one has the journal, the pool, the jobs."""
    pool, journal = Pool(cpu=1), tmp_path / "journal.db"
    scheduler = Scheduler(Job(nap, 0, 5, needs={"cpu": 1}), pool=pool, journal=journal)

    async def body() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(*step, crash)
            with pytest.raises(Flaw):
                await scheduler.co_run()
        assert await scheduler.co_run()

    assert anyio.run(Scheduler(Job(body)).co_run, backend=backend)
    assert pool.free == pool.total


def cycle(jobs: list[Job[Any]], _: Path) -> dict[str, Any]:
    jobs[0].requires(jobs[1])
    jobs[1].requires(jobs[0])
    return {}


def no_journal(_: object, folder: Path) -> dict[str, Any]:
    return {"journal": folder / "missing" / "journal.db"}


def bad_option(*_: object) -> dict[str, Any]:
    return {"timeout": -1}


def unknown_option(*_: object) -> dict[str, Any]:
    return {"windows": 2}


async def wait_for(job: AbstractJob[Any], _: object) -> None:
    with pytest.raises(JobNotDone, match="no run will reach it"):
        await job


async def iterate(job: AbstractJob[Any], one: bool) -> None:
    scheduler: Any = job._scheduler
    async for settled in scheduler.as_settled([job]) if one else scheduler.as_settled():
        raise AssertionError(settled)


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("refuse", [cycle, no_journal, bad_option, unknown_option])
def test_whoever_waits_for_a_job_of_a_refused_run_gets_an_error_or_the_end(
    virtual: Any, tmp_path: Path, refuse: Callable[..., dict[str, Any]], again: bool, is_late: bool
) -> None:
    """With its run in a task beside, an `async for` over `as_settled()` waited for ever when the run was refused."""

    async def main() -> None:
        jobs = [Job(nothing), Job(nothing), Job(nothing)]
        scheduler = Scheduler(jobs[0], Scheduler(jobs[1]), jobs[2])
        if again:
            assert await scheduler.co_run()
            jobs = [Job(nothing), Job(nothing), Job(nothing)]
            scheduler.add([jobs[0], Scheduler(jobs[1]), jobs[2]])
        options = refuse([jobs[0], jobs[2]], tmp_path)
        async with anyio.create_task_group() as tasks:

            def wait() -> None:
                for job in jobs:
                    tasks.start_soon(wait_for, job, False)
                    tasks.start_soon(iterate, job, True)
                tasks.start_soon(iterate, jobs[1], False)

            if not is_late:
                wait()
                await anyio.sleep(0.001)
            with pytest.raises((JournalError, TypeError, ValueError)):
                await scheduler.co_run(**options)
            if is_late:
                wait()

    virtual(main)
