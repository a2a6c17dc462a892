"""The traps that prototypes fell into, each with its story; what they taught is tested in depth elsewhere."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import threading
import typing
import warnings
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import trio

from trioflow import Job, JobCancelled, JobTimeout, Scheduler, Sequence, StopReason, ThreadJob

from ..bodies import (
    CANCELLED,
    FAILED,
    SUCCEEDED,
    Closing,
    cancelled_of,
    fail,
    leaves,
    nap,
    nothing,
    own_nursery,
    states,
    stray,
    task_now,
    timed,
)

if TYPE_CHECKING:
    from ..conftest import Virtual


variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable")


def test_01_cancelled_job_with_its_own_nursery_does_not_count_as_failed(virtual: Virtual) -> None:
    """A cancelled nursery raises a group of Cancelled: `except Cancelled` missed it, and the job counted as failed.

    With an error beside the cancellation the error is the job's, and the run ends all the same.
    """
    mine = OSError("while unwinding")
    clean, torn = Job(own_nursery), Job(own_nursery, mine)
    scheduler = Scheduler(clean, torn, Job(nap, 100), timeout=1)
    assert virtual(timed, scheduler) == (False, 1)
    assert states(scheduler) == [CANCELLED, FAILED, CANCELLED]
    assert leaves(torn.raised_exception()) == [mine]
    assert scheduler.stop_reason is StopReason.TIMEOUT


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_02_interruption_is_raised_after_the_ordered_ending(
    virtual: Virtual, interruption: type[BaseException]
) -> None:
    """A job with `except Exception` let KeyboardInterrupt tear the run apart, without any shutdown."""
    closing = Closing(functools.partial(anyio.sleep, 0.5))
    job = Job(fail, 0.5, interruption("mine"))
    scheduler = Scheduler(closing, job)
    with pytest.raises(interruption, match="mine"):
        virtual(timed, scheduler)
    assert closing.ended == 1
    assert states(scheduler) == [CANCELLED, FAILED]
    assert scheduler.stop_reason is StopReason.INTERRUPTED


def test_03_forever_job_takes_no_slot(virtual: Virtual) -> None:
    """A forever job that held the only slot starved all the others."""
    scheduler = Scheduler(Job(anyio.sleep_forever, forever=True), Job(nap), Job(nap), jobs_window=1)
    assert virtual(timed, scheduler) == (True, 2)


def test_04_nested_scheduler_that_stopped_has_failed(virtual: Virtual) -> None:
    """A nested run that stopped returned False, which became the result of a nested scheduler that had SUCCEEDED."""
    late = Scheduler(Job(nap, 100), timeout=1)
    broken = Scheduler(Job(fail, 1, OSError("mine"), critical=True))
    scheduler = Scheduler(late, broken)
    assert virtual(timed, scheduler) == (False, 1)
    assert states(scheduler) == [FAILED, FAILED]
    assert isinstance(late.raised_exception(), JobTimeout)
    assert str(broken.raised_exception().exceptions[0]) == "mine"  # type: ignore[union-attr]


def test_05_traceback_of_a_failed_result_is_the_same_for_every_reader(virtual: Virtual) -> None:
    """Raising a stored exception makes its traceback grow: the tenth reader saw the frames of the nine before."""
    job = Job(fail)
    assert virtual(timed, Scheduler(job)) == (False, 1)
    depths = set()
    for _ in range(10):
        with pytest.raises(OSError, match="broken") as caught:
            job.result()
        depths.add(len(caught.traceback))
    assert len(depths) == 1


@pytest.mark.parametrize("depth", [1, 3])
def test_06_shared_limiter_of_one_token_suffices_for_any_nesting(virtual: Virtual, depth: int) -> None:
    """The outer job held the one token while the jobs inside waited for another: a deadlock."""

    async def main() -> tuple[bool, float]:
        limiter = anyio.CapacityLimiter(1)
        scheduler = Scheduler(Job(nap), Job(nap), jobs_window=limiter)
        for _ in range(depth):
            scheduler = Scheduler(scheduler, Job(nap), jobs_window=limiter)
        return await timed(scheduler)

    assert virtual(main) == (True, 2 + depth)


def test_06_worker_does_not_wait_for_a_token_when_no_job_is_left(virtual: Virtual) -> None:
    """A worker waited for a token though another had run its job meanwhile: the run ended with the next token only."""

    async def main() -> tuple[bool, float]:
        limiter = anyio.CapacityLimiter(2)
        await limiter.acquire_on_behalf_of("somebody else, for good")
        return await timed(Scheduler(Job(nap), Job(nap), jobs_window=limiter))

    assert virtual(main) == (True, 2)


def test_07_no_job_starts_after_a_cancellation(virtual: Virtual) -> None:
    """A worker whose job was cancelled went on with the next job, which then started after the end."""
    started: list[int] = []

    async def stubborn(number: int) -> None:
        started.append(number)
        try:
            await anyio.sleep(100)
        except cancelled_of(virtual.backend):
            return

    scheduler = Scheduler([Job(stubborn, number) for number in range(3)], jobs_window=1, timeout=1)
    assert virtual(timed, scheduler) == (False, 1)
    assert started == [0]
    assert states(scheduler) == [SUCCEEDED, CANCELLED, CANCELLED]


def test_08_workers_are_spawned_from_the_context_of_the_run(virtual: Virtual) -> None:
    """A worker inherited the context of its spawner, which was the job that had made another one ready."""

    async def grow() -> None:
        variable.set("the adder's")
        scheduler.add(added)
        await anyio.sleep(1)

    async def look() -> Any:
        return variable.get()

    added = Job(look)
    scheduler = Scheduler(Job(grow))

    async def main() -> None:
        variable.set("the caller's")
        assert await timed(scheduler) == (True, 1)

    virtual(main)
    assert added.result() == "the caller's"


def test_09_jobs_start_in_the_order_added(virtual: Virtual) -> None:
    """trio starts a batch of new tasks in random order, so a task must not be given its job when it is spawned."""
    order: list[int] = []

    async def note(number: int) -> None:
        order.append(number)
        await anyio.sleep(1)

    assert virtual(timed, Scheduler([Job(note, number) for number in range(50)])) == (True, 1)
    assert order == list(range(50))


def test_10_virtual_time_does_not_wait_for_threads(virtual: Virtual) -> None:
    """A virtual clock jumps while a real thread works: an hour beside it is over at once."""
    gate = threading.Event()

    async def release() -> None:
        await anyio.sleep(3600)
        gate.set()

    job = ThreadJob(gate.wait, 30)
    virtual(Scheduler(job, Job(release)).co_run)
    assert job.result() is True
    assert (job.elapsed or 0) >= 3600


def test_11_own_task_is_shared_with_no_other_job(virtual: Virtual) -> None:
    """Jobs share tasks, one after the other: a `current_task()` that was kept, and cancelled later, hit another job."""
    kept: list[Any] = []

    async def keep() -> None:
        kept.append(task_now())

    async def strike() -> str:
        assert kept[-1] is not task_now()
        if virtual.backend == "asyncio":
            kept[-1].cancel()
        await anyio.sleep(1)
        return "unharmed"

    victims = [Job(strike), Job(strike)]
    jobs = [Job(keep, own_task=True), victims[0], Job(keep, own_task=True), victims[1]]
    assert virtual(timed, Scheduler(Sequence(jobs))) == (True, 2)
    assert [job.result() for job in victims] == ["unharmed"] * 2


def test_12_scope_left_open_is_closed(virtual: Virtual) -> None:
    """A job that left a cancel scope open put the next job in its task under that scope's deadline."""

    async def sloppy() -> None:
        anyio.move_on_after(2).__enter__()
        await anyio.lowlevel.checkpoint()

    job, after = Job(sloppy), Job(nap, 5, "whole", run_if="settled")
    assert virtual(timed, Scheduler(Sequence(job, after))) == (False, 5)
    assert job.state is FAILED
    assert after.result() == "whole"


def test_13_contexts_are_compared_by_identity(virtual: Virtual) -> None:
    """Contexts compare by `==` of values: a new list, equal to the old one, passed unseen and was shared."""

    async def dirty() -> None:
        variable.set([])

    async def look() -> Any:
        return variable.get()

    job = Job(look)

    async def main() -> bool:
        variable.set(callers := [])
        assert await timed(Scheduler(Sequence(Job(dirty), job))) == (True, 0)
        return job.result() is callers

    assert virtual(main)


def test_14_nothing_interrupts_the_shutdown(virtual: Virtual) -> None:
    """A shield of anyio does not stop a native `Task.cancel()`: `asyncio.wait_for` cut shutdowns short."""
    closing = Closing(functools.partial(anyio.sleep, 0.5))
    scheduler = Scheduler(closing)

    async def main() -> float:
        if virtual.backend == "trio":
            with trio.move_on_after(1.25):
                await scheduler.co_run()
        else:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(scheduler.co_run(), 1.25)
        return anyio.current_time()

    assert virtual(main) == 1.5
    assert closing.ended == 1


def test_15_all_workers_share_one_turn_of_the_loop(virtual: Virtual) -> None:
    """Each of 74 workers had a millisecond of its own between two turns: a ticker stood still for 74 of them."""
    gaps: list[float] = []

    async def work_hard() -> None:  # for a quarter of a millisecond
        if virtual.backend == "trio":
            typing.cast(Any, trio.lowlevel.current_clock()).jump(0.00025)
        else:
            loop: Any = asyncio.get_running_loop()
            loop._set_time(loop.time() + 0.00025)

    async def tick() -> None:
        await anyio.sleep(1)
        before = anyio.current_time()
        while True:
            await anyio.lowlevel.checkpoint()
            before, gap = anyio.current_time(), anyio.current_time() - before
            gaps.append(gap)

    chains = [Sequence(Job(nap), [Job(work_hard) for _ in range(10)]) for _ in range(74)]
    assert virtual(timed, Scheduler(chains, Job(tick, forever=True)))[0] is True
    assert sum(gaps) >= 74 * 10 * 0.00025 - 0.01
    assert max(gaps) < 0.003  # trio shuffles the tasks of a turn: first in one, last in the next


def test_16_cancellation_is_never_stored(virtual: Virtual) -> None:
    """A stored trio.Cancelled that is raised later vanishes in a healthy nursery: its reader ended without a sound."""
    job = Job(nap, 100)

    async def read() -> None:
        job.result()

    async def main() -> None:
        assert await timed(Scheduler(job, timeout=1)) == (False, 1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)

    with pytest.raises(ExceptionGroup) as caught:
        virtual(main)
    assert [type(one) for one in leaves(caught.value)] == [JobCancelled]


def test_18_value_that_a_thread_returns_after_the_timeout_is_dropped(virtual: Virtual) -> None:
    """`move_on_after` around a thread that cannot be interrupted returns its value late, as if in time."""
    gate = threading.Event()

    async def release() -> None:
        await anyio.sleep(5)
        gate.set()

    job = ThreadJob(gate.wait, 30, timeout=1)
    virtual(Scheduler(job, Job(release)).co_run)
    assert job.state is FAILED
    assert isinstance(job.raised_exception(), JobTimeout)


def test_19_annotations_with_list_resolve_in_a_class_with_a_method_list() -> None:
    """Below a method called `list`, `-> list[Job]` in the same class was a TypeError."""
    assert typing.get_origin(typing.get_type_hints(Scheduler.map, vars(typing) | _names())["return"]) is list


def _names() -> dict[str, Any]:
    import trioflow._core.scheduler._base_scheduler as module

    return vars(module)


def test_19_empty_scheduler_is_true(virtual: Virtual) -> None:
    """A class with `__len__` is false when empty, so `scheduler or default` forgot an empty scheduler."""
    assert Scheduler()
    job = Job(nothing, scheduler=(empty := Scheduler()))
    assert job.scheduler is empty


def test_19_run_in_a_thread_started_from_an_event_loop_works(virtual: Virtual) -> None:
    """sniffio's variable is inherited by `asyncio.to_thread`: `run()` there believed that it was in a loop."""

    async def main() -> bool:
        run = functools.partial(Scheduler(Job(nothing)).run, backend="trio")
        return await (anyio.to_thread.run_sync(run) if virtual.backend == "trio" else asyncio.to_thread(run))

    assert virtual(main) is True


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
    scheduler = Scheduler(Job(stray, []), Job(fail), Job(own_nursery), timeout=2)
    assert virtual(timed, scheduler) == (False, 2)
    with pytest.raises(ExceptionGroup) as caught:
        scheduler.raise_for_failures()
    assert [type(one) for one in caught.value.exceptions] == [JobCancelled, OSError]
