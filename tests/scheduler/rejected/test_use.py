"""Use at the wrong time, in the wrong place, or with the wrong library: the error says what to do."""

import asyncio
import functools
import sys
import types
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import trio
from trioflow import Job, JobState, Scheduler, StopReason
from trioflow.graph import keep_only
from ...bodies import nap, notes, nothing
from ...conftest import Virtual


# --- where and when it may run
def test_run_inside_a_running_loop_raises_and_names_co_run(virtual: Virtual) -> None:
    scheduler = Scheduler(Job(nap(), label="once"), label="home")

    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"'home'.*await scheduler\.co_run\(\)"):
            scheduler.run(backend=virtual.backend)  # type: ignore[arg-type]
        assert await scheduler.co_run()

    virtual(main)


def test_warning_about_a_co_run_never_awaited_has_the_public_name() -> None:
    """Python's warning about a coroutine that was never awaited names Scheduler, not the class behind it."""
    never_awaited = Scheduler().co_run()
    assert never_awaited.__qualname__ == "Scheduler.co_run"
    never_awaited.close()


def test_run_in_a_thread_of_a_running_loop_is_allowed(virtual: Virtual) -> None:
    """`run()` works in a worker thread, which has no running loop, whatever context variables it inherited."""
    scheduler = Scheduler(Job(nap, 0))

    async def main() -> bool:
        return await anyio.to_thread.run_sync(lambda: scheduler.run(backend=virtual.backend))  # type: ignore[arg-type]

    assert virtual(main) is True


def test_second_concurrent_run_raises_and_does_not_disturb_the_first(virtual: Virtual) -> None:
    job = Job(nap, 1, "fine")
    scheduler = Scheduler(job, label="home")

    async def second() -> None:
        await anyio.sleep(0.5)
        with pytest.raises(RuntimeError, match="'home' is already running"):
            await scheduler.co_run()

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(second)
            assert await scheduler.co_run() is True

    virtual(main)
    assert job.result() == "fine"


def test_job_cannot_run_its_own_scheduler(virtual: Virtual) -> None:
    """A job that runs its own scheduler fails with a RuntimeError, because that scheduler is running already."""
    job = Job(lambda: scheduler.co_run())
    scheduler = Scheduler(job, label="home")
    assert virtual(scheduler.co_run) is False
    with pytest.raises(RuntimeError, match="'home' is already running"):
        job.result()


def test_co_run_of_a_nested_scheduler_during_the_outer_run_raises(virtual: Virtual) -> None:
    inner = Scheduler(Job(nap), label="inner")

    async def meddle() -> None:
        with pytest.raises(RuntimeError, match=r"'inner'.*'outer'"):
            await inner.co_run()

    meddler = Job(meddle)
    inner.requires(meddler)
    assert virtual(functools.partial(Scheduler(meddler, inner, label="outer").co_run, check=True)) is True
    assert inner.stop_reason is StopReason.COMPLETED


def test_closed_scheduler_rejects_runs_and_jobs(virtual: Virtual) -> None:
    scheduler = Scheduler(Job(nap), label="home")
    scheduler.close()
    with pytest.raises(RuntimeError, match="'home' is closed"):
        virtual(scheduler.co_run)
    with pytest.raises(RuntimeError, match="'home' is closed"):
        scheduler.add(Job(nap))


def test_cancel_outside_a_run_raises(virtual: Virtual) -> None:
    job = Job(nap, label="idle")
    scheduler = Scheduler(job, label="home")
    with pytest.raises(RuntimeError, match="'idle'"):
        job.cancel()
    assert virtual(scheduler.co_run)
    with pytest.raises(RuntimeError, match="'home'"):
        scheduler.cancel()


# --- the other library
async def on_asyncio_only() -> None:
    await asyncio.sleep(1)


async def on_asyncio_only_by_yield() -> None:
    await asyncio.sleep(0)


async def on_trio_only() -> None:
    await trio.sleep(1)


async def on_trio_only_by_yield() -> None:
    await trio.lowlevel.cancel_shielded_checkpoint()


FOREIGN = {
    "trio": ("asyncio", [on_asyncio_only, on_asyncio_only_by_yield]),
    "asyncio": ("trio", [on_trio_only, on_trio_only_by_yield]),
}


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("one_shot", [False, True])
def test_job_of_the_other_library_fails_with_a_note(virtual: Virtual, number: int, one_shot: bool) -> None:
    library, functions = FOREIGN[virtual.backend]
    function = functions[number]
    job = Job(function() if one_shot else function, label="foreign")
    bystander = Job(nap, 1, "fine")
    assert virtual(Scheduler(job, bystander).co_run) is False
    assert job.state is JobState.FAILED
    assert "'foreign'" in notes(job.raised_exception())
    assert f'backend="{library}"' in notes(job.raised_exception())
    assert bystander.result() == "fine"


def test_limiter_of_the_other_library_is_rejected(virtual: Virtual) -> None:
    job = Job(nap())
    scheduler = Scheduler(job, label="home")

    async def make() -> anyio.CapacityLimiter:
        limiter = anyio.CapacityLimiter(2)
        assert limiter.available_tokens == 2
        return limiter

    other = "asyncio" if virtual.backend == "trio" else "trio"
    limiters: list[Any] = [anyio.run(make, backend=other)]
    if virtual.backend == "asyncio":
        limiters.append(trio.CapacityLimiter(2))
    for limiter in limiters:
        with pytest.raises(TypeError, match=r"'home'.*CapacityLimiter"):
            virtual(functools.partial(scheduler.co_run, jobs_window=limiter))
    assert job.is_idle()
    scheduler.close()


# --- changes while it runs


CHANGES: dict[str, Callable[[Scheduler, Any], object]] = {
    "remove": lambda scheduler, job: scheduler.remove(job),
    "keep_only": lambda scheduler, job: keep_only(scheduler, [job]),
    "sanitize": lambda scheduler, job: scheduler.sanitize(),
    "close": lambda scheduler, job: scheduler.close(),
    "requires": lambda scheduler, job: job.requires(*job.required, remove=True),
    "forever": lambda scheduler, job: setattr(job, "forever", True),
}


@pytest.mark.parametrize("change", CHANGES)
def test_change_of_a_running_scheduler_raises(virtual: Virtual, change: str) -> None:
    """Removing jobs or requirements, `close()` and similar changes raise during a run, and change nothing."""
    first = Job(nap, label="first")
    last = Job(nap, label="last", required=first)

    async def meddle() -> None:
        with pytest.raises(RuntimeError, match=change):
            CHANGES[change](scheduler, last)

    meddler = Job(meddle)
    scheduler = Scheduler(first, last, meddler)
    assert virtual(functools.partial(scheduler.co_run, check=True)) is True
    assert list(scheduler) == [first, last, meddler]
    assert list(last.required) == [first]
    assert last.is_done()


def test_asyncio_run_works_while_another_thread_imports_trio(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run on asyncio works while another thread imports trio, although that module lacks its parts at that moment."""
    monkeypatch.setitem(sys.modules, "trio", types.ModuleType("trio"))
    job = Job(nothing)
    assert Scheduler(job).run(backend="asyncio") is True
