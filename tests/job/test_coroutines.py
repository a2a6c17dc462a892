"""Coroutine objects that never run are closed, without a warning."""

import gc
import inspect
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from trioflow import Job, MissingRequirement, Scheduler, StopReason
from ..bodies import fail_now, nap
from ..conftest import Virtual


@pytest.fixture
def no_warnings() -> Iterator[None]:
    """Collect before the test ends, so that a warning does not appear in the next test."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
        gc.collect()


# --- coroutines that never run
def test_coroutine_is_closed_when_its_job_is_garbage_collected(no_warnings: None) -> None:
    coroutine = nap()
    job = Job(coroutine)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED
    del job
    gc.collect()
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


def test_coroutines_in_reference_cycles_leave_no_warning() -> None:
    async def refers(thing: object) -> None:
        await anyio.sleep(1)

    def build() -> None:
        box: list[Any] = []
        scheduler = Scheduler(Job(refers(box)), Job(nap()))
        box.append(scheduler)
        first, second = Job(refers(box), label="1"), Job(nap(), label="2")
        first.requires(second)
        second.requires(first)
        box.extend([first, second])

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        build()
        gc.collect()
    assert caught == []


@pytest.mark.parametrize("close", ["job", "scheduler"])
def test_coroutine_that_refers_to_its_own_scheduler_is_freed_by_close(no_warnings: None, close: str) -> None:
    """A coroutine that has not run may keep its own scheduler alive until `close()` frees both."""

    async def refers(thing: object) -> None:
        await anyio.sleep(1)

    def build() -> tuple[weakref.ref[Any], weakref.ref[Any]]:
        scheduler = Scheduler()
        job = scheduler.add(Job(refers(scheduler)))
        return weakref.ref(scheduler), weakref.ref(job)

    scheduler, job = build()
    gc.collect()
    assert scheduler() is not None
    (job if close == "job" else scheduler)().close()
    gc.collect()
    assert (scheduler(), job()) == (None, None)


def test_coroutine_that_refers_to_its_own_scheduler_is_freed_when_it_has_run(virtual: Virtual) -> None:
    async def refers(thing: object) -> None:
        await anyio.sleep(1)

    def run() -> weakref.ref[Any]:
        scheduler = Scheduler()
        scheduler.add(Job(refers(scheduler)))
        assert virtual(scheduler.co_run) is True
        return weakref.ref(scheduler)

    scheduler = run()
    gc.collect()
    assert scheduler() is None


def test_closing_a_scheduler_closes_the_coroutines_of_its_jobs(no_warnings: None) -> None:
    coroutines = [nap(), nap(), nap()]
    jobs = [Job(coroutine) for coroutine in coroutines]
    Scheduler(jobs[0], Scheduler(jobs[1], Scheduler(jobs[2]))).close()
    assert [inspect.getcoroutinestate(coroutine) for coroutine in coroutines] == [inspect.CORO_CLOSED] * 3
    assert all(job.is_idle() for job in jobs)


def test_closing_an_open_scheduler_closes_coroutines_of_unstarted_jobs(virtual: Virtual, no_warnings: None) -> None:
    coroutine = nap()

    async def main() -> str:
        async with Scheduler() as scheduler:
            first = scheduler.add(Job(nap, 1))
            scheduler.add(Job(coroutine, required=first)).cancel()
        scheduler.close()
        return inspect.getcoroutinestate(coroutine)

    assert virtual(main) == inspect.CORO_CLOSED


def test_closing_a_job_closes_its_coroutine(no_warnings: None) -> None:
    coroutine = nap()
    job = Job(coroutine)
    job.close()
    job.close()
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED
    with pytest.raises(ValueError, match="can run only once"):
        Scheduler(job).run()


def test_results_are_readable_after_close(virtual: Virtual) -> None:
    job = Job(nap(1, "value"))
    scheduler = Scheduler(job)
    assert virtual(scheduler.co_run) is True
    scheduler.close()
    scheduler.close()
    assert job.result() == "value"
    assert scheduler.stop_reason is StopReason.COMPLETED


def test_coroutine_of_a_cancelled_job_is_closed_without_a_warning(virtual: Virtual, no_warnings: None) -> None:
    scheduler = Scheduler(Job(fail_now, critical=True), Job(nap()), Job(nap(), required=Job(nap())), jobs_window=1)
    scheduler.sanitize()
    assert virtual(scheduler.co_run) is False


def test_validation_error_consumes_no_coroutine(virtual: Virtual, no_warnings: None) -> None:
    """After a run was rejected, the same coroutine objects can run once the graph is repaired."""
    stray, job = Job(nap(1, 1)), Job(nap(1, 2))
    job.requires(stray)
    scheduler = Scheduler(job)
    with pytest.raises(MissingRequirement):
        virtual(scheduler.co_run)
    scheduler.add(stray)
    assert virtual(scheduler.co_run) is True
    assert (stray.result(), job.result()) == (1, 2)
