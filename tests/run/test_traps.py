"""The traps that prototypes fell into, each with its story, and faults that random scenarios have found."""

import asyncio
import contextlib
import contextvars
import functools
import gc
import sys
import threading
import typing
import warnings
from typing import Any
import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import trioflow
from trioflow import (
    AbstractJob,
    CycleError,
    Job,
    JobTimeout,
    Scheduler,
    Sequence,
    StopReason,
    ThreadJob,
)
from .. import bodies
from ..bodies import (
    CANCELLED,
    FAILED,
    SUCCEEDED,
    at_once,
    fail,
    later,
    nap,
    nothing,
    pass_time,
    states,
    timed,
)
from ..conftest import Virtual

variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable")


@pytest.mark.parametrize("depth", [1, 3])
def test_06_shared_limiter_of_one_token_suffices_for_any_nesting(
    virtual: Virtual, depth: int
) -> None:
    """The outer job held the one token while the jobs inside waited for another: a deadlock."""

    async def main() -> tuple[bool, float]:
        limiter = anyio.CapacityLimiter(1)
        scheduler = Scheduler(Job(nap), Job(nap), jobs_window=limiter)
        for _ in range(depth):
            scheduler = Scheduler(scheduler, Job(nap), jobs_window=limiter)
        return await timed(scheduler)

    assert virtual(main) == (True, 2 + depth)


def test_06_worker_does_not_wait_for_a_token_when_no_job_is_left(
    virtual: Virtual,
) -> None:
    """A worker waited for a token though another had run its job meanwhile: the run ended with the next token only."""

    async def main() -> tuple[bool, float]:
        limiter = anyio.CapacityLimiter(2)
        await limiter.acquire_on_behalf_of("somebody else, for good")
        return await timed(Scheduler(Job(nap), Job(nap), jobs_window=limiter))

    assert virtual(main) == (True, 2)


def test_07_no_job_starts_after_a_cancellation(virtual: Virtual) -> None:
    started: list[int] = []

    async def stubborn(number: int) -> None:
        started.append(number)
        try:
            await anyio.sleep(100)
        except bodies.cancelled_of(virtual.backend):
            return

    scheduler = Scheduler(
        [Job(stubborn, number) for number in range(3)], jobs_window=1, timeout=1
    )
    assert virtual(timed, scheduler) == (False, 1)
    assert started == [0]
    assert states(scheduler) == [SUCCEEDED, CANCELLED, CANCELLED]


def test_10_virtual_time_does_not_wait_for_threads(virtual: Virtual) -> None:
    """A virtual clock jumps while a real thread works: an hour beside it is over at once."""
    gate = threading.Event()
    job = ThreadJob(gate.wait, 30)
    virtual(Scheduler(job, Job(later, 3600, gate.set)).co_run)
    assert job.result() is True
    assert (job.elapsed or 0) >= 3600


def test_13_contexts_are_compared_by_identity(virtual: Virtual) -> None:
    """Contexts compare by `==` of values: a new list, equal to the old one, passed unseen and was shared."""
    job = Job(at_once, variable.get)

    async def main() -> bool:
        variable.set(callers := [])
        assert await timed(
            Scheduler(Sequence(Job(at_once, lambda: variable.set([])), job))
        ) == (True, 0)
        return job.result() is callers

    assert virtual(main)


def test_15_all_workers_share_one_turn_of_the_loop(virtual: Virtual) -> None:
    """Each of 74 workers had a millisecond of its own between two turns: a ticker stood still for 74 of them."""
    gaps: list[float] = []

    work_hard = functools.partial(pass_time, virtual.backend, 0.00025)

    async def tick() -> None:
        await anyio.sleep(1)
        before = anyio.current_time()
        while True:
            await anyio.lowlevel.checkpoint()
            before, gap = anyio.current_time(), anyio.current_time() - before
            gaps.append(gap)

    chains = [
        Sequence(Job(nap), [Job(at_once, work_hard) for _ in range(10)])
        for _ in range(74)
    ]
    assert virtual(timed, Scheduler(chains, Job(tick, forever=True)))[0] is True
    assert sum(gaps) >= 74 * 10 * 0.00025 - 0.01
    assert (
        max(gaps) < 0.003
    )  # trio shuffles the tasks of a turn: first in one, last in the next


def test_18_value_that_a_thread_returns_after_the_timeout_is_dropped(
    virtual: Virtual,
) -> None:
    """`move_on_after` around a thread that cannot be interrupted returns its value late, as if in time."""
    gate = threading.Event()
    job = ThreadJob(gate.wait, 30, timeout=1)
    virtual(Scheduler(job, Job(later, 5, gate.set)).co_run)
    assert job.state is FAILED
    assert isinstance(job.raised_exception(), JobTimeout)


def test_19_annotations_with_list_resolve_in_a_class_with_a_method_list() -> None:
    assert (
        typing.get_origin(
            typing.get_type_hints(Scheduler.map, vars(typing) | _names())["return"]
        )
        is list
    )


def _names() -> dict[str, Any]:
    import trioflow._core.scheduler._base_scheduler as module

    return vars(module)


def test_19_empty_scheduler_is_true(virtual: Virtual) -> None:
    """A class with `__len__` is false when empty, so `scheduler or default` forgot an empty scheduler."""
    assert Scheduler()
    assert Job(nothing, scheduler=(empty := Scheduler())).scheduler is empty


def test_19_run_in_a_thread_started_from_an_event_loop_works(virtual: Virtual) -> None:
    """sniffio's variable is inherited by `asyncio.to_thread`: `run()` there believed that it was in a loop."""

    async def main() -> bool:
        run = functools.partial(Scheduler(Job(nothing)).run, backend="trio")
        return await (
            anyio.to_thread.run_sync(run)
            if virtual.backend == "trio"
            else asyncio.to_thread(run)
        )

    assert virtual(main) is True


@pytest.mark.parametrize("options", [{}, {"debug": False}])
def test_19_a_job_may_run_a_scheduler_in_a_thread(options: dict[str, Any]) -> None:
    """A thread of `asyncio.to_thread` inherits sniffio's variable, too, from a run that `run()` has started."""
    run = functools.partial(
        Scheduler(Job(nothing)).run, backend="asyncio", backend_options=options
    )
    job = Job(asyncio.to_thread, run)
    assert Scheduler(job).run(backend="asyncio", backend_options=options)
    assert job.result() is True


def test_20_coroutine_in_a_reference_cycle_is_closed() -> None:
    """The collector finalizes a coroutine in a cycle before a `__del__` could close it, and warned "never awaited"."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        a, b = Job(nap()), Job(nap())
        scheduler = Scheduler(a, b.requires(a))
        coroutines = [a._function, b._function]
        del a, b, scheduler
        gc.collect()
        assert [coroutine.cr_frame for coroutine in coroutines] == [None, None]


def test_21_cancellations_have_no_place_in_groups_of_failures(virtual: Virtual) -> None:
    """`ExceptionGroup([CancelledError()])` is a TypeError, which was raised instead of the failures themselves."""
    scheduler = Scheduler(
        Job(bodies.stray, []), Job(fail), Job(bodies.own_nursery), timeout=2
    )
    assert virtual(timed, scheduler) == (False, 2)
    with pytest.raises(ExceptionGroup) as caught:
        scheduler.raise_for_failures()
    assert [type(one) for one in caught.value.exceptions] == [
        trioflow.JobCancelled,
        OSError,
    ]


# --- Faults that random scenarios have found, each made as small as it gets; those of the model are in `tests/model`
class SlowToShutDown(Job[None]):
    async def co_shutdown(self) -> None:
        await anyio.sleep(0.5)


def test_cancellation_during_the_shutdown_is_raised_after_it(virtual: Virtual) -> None:
    """On asyncio, a cancellation of an anyio scope around the run was lost if it came during the shutdown."""

    async def main() -> None:
        scheduler = Scheduler(SlowToShutDown(anyio.sleep, 1))
        with anyio.move_on_after(1.25) as scope:
            await scheduler.co_run()
        assert (scope.cancelled_caught, scheduler.stop_reason) == (
            True,
            StopReason.COMPLETED,
        )

    virtual(main)


def test_a_scope_around_a_run_that_ends_cancels_its_jobs_once_more(
    virtual: Virtual,
) -> None:
    """On asyncio, jobs that unwound after a timeout did not notice that a scope around the run was cancelled. This is a
    further cause, as the `cancel()` of a task is: it ends their next wait, and is raised after the ending."""

    async def clean_up_without_shield() -> None:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            await anyio.sleep(9)
            raise

    async def main() -> float:
        began = anyio.current_time()
        scheduler = Scheduler(
            Job(clean_up_without_shield), SlowToShutDown(nothing), timeout=1
        )
        with anyio.move_on_after(3) as scope:
            await scheduler.co_run()
        assert (scope.cancelled_caught, scheduler.stop_reason) == (
            virtual.backend == "asyncio",
            StopReason.TIMEOUT,
        )
        return anyio.current_time() - began

    seconds = 3.5 if virtual.backend == "asyncio" else 1.5  # trio cancels each wait
    assert virtual(main) == seconds


@pytest.mark.parametrize("ends", ["timeout", "outside"])
def test_job_that_unwinds_cannot_add_jobs_or_requirements(
    virtual: Virtual, ends: str
) -> None:
    """A cancelled job can add nothing, although on trio it may notice the cancellation before the run does."""
    taken: list[str] = []

    async def cancel_later() -> None:
        try:
            await anyio.sleep(100)
        finally:
            with contextlib.suppress(RuntimeError):
                scheduler.add(Job(nothing))
                taken.append("a job")
            with contextlib.suppress(RuntimeError):
                idle.requires(other)
                taken.append("a requirement")

    canceller, other = Job(cancel_later), Job(nap, 100)
    idle = Job(nap, required=canceller)
    scheduler = Scheduler(canceller, other, idle)

    async def main() -> None:
        for _ in range(20):
            with anyio.move_on_after(1 if ends == "outside" else 200):
                await scheduler.co_run(timeout=1 if ends == "timeout" else None)

    virtual(main)
    assert taken == []


def test_late_requirement_that_closes_a_cycle_through_an_input_is_rejected(
    virtual: Virtual,
) -> None:
    gate = Job(nap)
    source = Job(nap, required=gate)
    nested = Scheduler(Job(nap, 1, source), label="nested")
    refused = Job(at_once, lambda: source.requires(nested), critical=False)
    assert virtual(timed, Scheduler(gate, source, nested, refused)) == (True, 3)
    assert isinstance(refused.raised_exception(), CycleError)


def test_two_tasks_may_share_one_iterator_of_as_settled(virtual: Virtual) -> None:
    seen: list[AbstractJob[Any]] = []

    async def main() -> None:
        jobs = [Job(anyio.sleep, seconds) for seconds in (1, 2, 3)]
        scheduler = Scheduler(jobs)
        stream = scheduler.as_settled()

        async def consume() -> None:
            async for job in stream:
                seen.append(job)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(consume)
            tasks.start_soon(consume)
            await scheduler.co_run()

    virtual(main)
    assert len(seen) == len(set(seen)) == 3


def test_job_that_waits_for_itself_is_rejected(virtual: Virtual) -> None:
    """A job that waits for its own end gets an error: otherwise it would wait forever, silently."""
    job: Job[None] = Job(lambda: job.wait_settled(), label="me")
    virtual(Scheduler(job).co_run)
    with pytest.raises(RuntimeError, match="'me' waits for itself"):
        job.result()


if sys.version_info >= (3, 12):

    def test_run_completes_with_the_eager_task_factory_of_asyncio() -> None:
        """With asyncio's eager task factory, a worker once ran before it knew its own task."""

        async def main() -> bool:
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
            inner = Scheduler(
                Job(nap, 0.01), Job(nothing), Job(anyio.sleep_forever, forever=True)
            )
            return await Scheduler(inner, Job(nap, 0.01, required=inner)).co_run(
                timeout=60
            )

        assert asyncio.run(main()) is True
