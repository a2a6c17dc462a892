"""Cancellation from everywhere: scopes, native ones, cancel() of jobs and schedulers, at every moment of a run."""

import asyncio
import contextlib
import functools
import gc
import math
import time
import weakref
from collections.abc import Awaitable, Callable
from typing import Any
import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest
from trioflow import Job, Pool, Retry, Scheduler, StopReason, Throttled, current_job
from trioflow.abc import AbstractJob
from trioflow.testing import run_virtual
from .. import bodies
from ..bodies import (
    CANCELLED,
    IDLE,
    SUCCEEDED,
    Actor,
    fail,
    hooked,
    later,
    nap,
    naps,
    running,
    shut_down,
    timed,
)
from ..conftest import Virtual


# --- cancelled from outside
@pytest.mark.parametrize("at", [0.5, 1.125, 1.375, 1.625])
@pytest.mark.parametrize("nested", [False, True])
def test_cancelled_outer_scope_ends_the_run_cleanly_in_any_phase(
    virtual: Virtual, at: float, nested: bool
) -> None:
    told: list[tuple[str, float]] = []
    scheduler = Scheduler(
        Actor(told, label="job"), Actor(told, label="forever", forever=True), timeout=1
    )
    outermost = Scheduler(scheduler) if nested else scheduler

    async def main() -> tuple[bool, float]:
        with anyio.CancelScope(deadline=at) as scope:
            await outermost.co_run()
        return scope.cancelled_caught, anyio.current_time()

    assert virtual(main) == (True, min(at, 1) + 0.75)
    assert shut_down(told) == ["forever", "job"]
    assert scheduler.stop_reason is (
        StopReason.CANCELLED if at < 1 else StopReason.TIMEOUT
    )


@pytest.mark.parametrize("check", [True, False])
def test_failures_replace_an_outer_cancellation_of_a_run_with_check(
    virtual: Virtual, check: bool
) -> None:
    """With `check=True`, what jobs raise when a scope around the run is cancelled is raised, as by a nursery."""

    async def main() -> BaseException | None:
        try:
            with anyio.move_on_after(1) as scope:
                await Scheduler(job).co_run(check=check)
        except ExceptionGroup as group:
            return group
        assert scope.cancelled_caught
        return None

    job = Job(bodies.clumsy)
    error = virtual(main)
    assert check == isinstance(error, ExceptionGroup)
    assert error is None or error.exceptions == (job.raised_exception(),)


def test_each_of_two_cancelled_outer_scopes_catches_its_own_cancellation(
    virtual: Virtual,
) -> None:
    told: list[tuple[str, float]] = []

    async def main() -> list[bool]:
        with anyio.CancelScope(deadline=1.125) as outer:
            with anyio.CancelScope(deadline=1) as inner:
                await Scheduler(Actor(told, label="a")).co_run()
            await anyio.lowlevel.checkpoint()
        return [inner.cancel_called, outer.cancelled_caught]

    assert virtual(main) == [True, True]
    assert shut_down(told) == ["a"]


def test_failure_of_another_task_in_the_nursery_ends_the_run_cleanly(
    virtual: Virtual,
) -> None:
    told: list[tuple[str, float]] = []
    scheduler = Scheduler(Actor(told, label="a"))

    async def beside() -> None:
        async with running(scheduler):
            await fail(1)

    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            await beside()
        assert [type(error) for error in caught.value.exceptions] == [OSError]

    virtual(main)
    assert (scheduler.stop_reason, shut_down(told)) == (StopReason.CANCELLED, ["a"])
    assert [job.state for job in scheduler] == [CANCELLED]


PHASES = {"runs": 0.5, "unwinds": 1.125, "forever unwinds": 1.375, "shuts down": 1.625}


def natively(main: Callable[[], Awaitable[Any]]) -> Any:
    return run_virtual(main, backend="asyncio")


def natively_cancelled_scenario() -> tuple[list[tuple[str, float]], Scheduler]:
    told: list[tuple[str, float]] = []
    jobs = [Actor(told, label="job"), Actor(told, label="forever", forever=True)]
    return told, Scheduler(jobs, timeout=1)


async def in_wait_for(scheduler: Scheduler, seconds: float) -> None:
    await asyncio.wait_for(scheduler.co_run(), seconds)


async def in_timeout(scheduler: Scheduler, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        await scheduler.co_run()


@pytest.mark.fast_way  # a shield of anyio does not hold with direct isolation
@pytest.mark.parametrize("limited", [in_wait_for, in_timeout])
@pytest.mark.parametrize("phase", PHASES)
def test_a_timeout_of_asyncio_around_the_run_raises_after_the_ending_in_any_phase(
    phase: str, limited: Any
) -> None:
    told, scheduler = natively_cancelled_scenario()

    async def main() -> float:
        with pytest.raises(TimeoutError):
            await limited(scheduler, PHASES[phase])
        return anyio.current_time()

    assert natively(main) == min(PHASES[phase], 1) + 0.75
    assert shut_down(told) == ["forever", "job"]


@pytest.mark.fast_way  # a shield of anyio does not hold with direct isolation
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("second", [0, 0.25, 0.5])
def test_repeated_task_cancel_takes_effect_after_the_ending_in_any_phase(
    phase: str, second: float
) -> None:
    told, scheduler = natively_cancelled_scenario()

    async def main() -> float:
        task = asyncio.create_task(scheduler.co_run())
        await asyncio.sleep(PHASES[phase])
        task.cancel()
        await asyncio.sleep(second)
        if not task.done():
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return anyio.current_time()

    assert natively(main) == max(min(PHASES[phase], 1) + 0.75, PHASES[phase] + second)
    assert shut_down(told) == ["forever", "job"]


def test_task_cancel_during_the_cancellation_of_an_outer_scope_is_not_lost() -> None:
    told, scheduler = natively_cancelled_scenario()

    async def run() -> str:
        with anyio.move_on_after(0.5):
            await scheduler.co_run()
        await asyncio.sleep(0)
        return "went on"

    async def main() -> None:
        task = asyncio.create_task(run())
        await asyncio.sleep(0.625)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    natively(main)
    assert shut_down(told) == ["forever", "job"]


# --- stop() while starting
@pytest.mark.parametrize(
    "error", [ValueError, functools.partial(Throttled, "api", after=1)]
)
@pytest.mark.parametrize("end", [Scheduler.cancel, Scheduler.drain])
def test_run_that_a_hook_ends_between_two_attempts_makes_no_other(
    virtual: Virtual, end: Any, error: Any
) -> None:
    attempts: list[int] = []

    async def work() -> None:
        attempts.append(1)
        raise error()

    watch = hooked(
        job_scheduled=lambda scheduler, _: end(scheduler) if attempts else None
    )
    scheduler = Scheduler(
        job := Job(work, needs={"api": 1}, retry=Retry(1, first=0)),
        Job(nap, 1),
        pool=Pool(api=1),
    )
    assert not virtual(functools.partial(timed, scheduler, instruments=[watch]))[0]
    assert (job.state, len(attempts)) == (CANCELLED, 1)


@pytest.mark.parametrize("hook", ["before_run", "job_scheduled", "job_started"])
def test_run_cancelled_by_a_hook_at_its_start_starts_no_further_jobs(
    virtual: Virtual, hook: str
) -> None:
    """A run that a hook cancels while jobs become ready starts no more of them, and leaves none SCHEDULED."""
    scheduler = Scheduler(jobs := naps(3))
    calls = [scheduler.cancel]
    watch = hooked(**{hook: lambda *_: [calls.pop()() for _ in calls[:1]]})
    assert virtual(functools.partial(timed, scheduler, instruments=[watch])) == (
        False,
        0,
    )
    assert scheduler.stop_reason is StopReason.CANCELLED
    assert {job.state for job in jobs} <= {IDLE, CANCELLED}


# --- while the run is prepared: another task calls, no hook is needed
async def beside(
    scheduler: Scheduler, call: Callable[[], Any], turns: int
) -> tuple[bool, float]:
    """Run `scheduler`, and call `call` after so many turns of the loop; give up after a while."""

    async def soon() -> None:
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        call()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(soon)
        return await timed(scheduler, timeout=99)


def large() -> Scheduler:
    """Return a scheduler that takes a few turns of the loop to prepare, with `many_pauses`."""
    return Scheduler([Job(nap, 1) for _ in range(50)])


@pytest.mark.usefixtures("many_pauses")
@pytest.mark.parametrize("turns", [1, 2, 4])
def test_run_cancelled_during_the_check_of_a_large_scenario_starts_nothing(
    virtual: Virtual, turns: int
) -> None:
    told: list[tuple[str, float]] = []
    scheduler = Scheduler(actor := Actor(told, label="a"), inner := large())
    assert virtual(beside, scheduler, scheduler.cancel, turns) == (False, 0.25)
    assert scheduler.stop_reason is StopReason.CANCELLED
    assert {actor.state, inner.state} <= {IDLE, CANCELLED}
    assert {job.state for job in inner} == {IDLE}
    assert (actor.started_at, shut_down(told)) == (None, ["a"])


@pytest.mark.usefixtures("many_pauses")
@pytest.mark.parametrize("is_nested", [False, True])
@pytest.mark.parametrize("turns", range(1, 12, 2))
def test_run_cancelled_twice_in_preparation_starts_nothing(
    virtual: Virtual, turns: int, is_nested: bool
) -> None:
    scheduler = Scheduler(inner := large()) if is_nested else (inner := large())

    def cancel_twice() -> None:
        scheduler.cancel()
        scheduler.cancel()

    assert virtual(beside, scheduler, cancel_twice, turns) == (False, 0)
    assert scheduler.stop_reason is StopReason.CANCELLED
    assert {job.started_at for job in inner} <= {None, 0}


@pytest.mark.usefixtures("many_pauses")
@pytest.mark.parametrize("is_group", [False, True])
@pytest.mark.parametrize("turns", [1, 2, 4])
def test_what_is_cancelled_during_the_check_of_a_large_scenario_does_not_start(
    virtual: Virtual, turns: int, is_group: bool
) -> None:
    """A job cancelled before its requirements are counted does not start, and the jobs behind it do. It settled before
    its successors knew of it, and they waited for it forever."""
    inner = large()
    job: Any = inner if is_group else Job(nap, 1)
    after = Job(nap, 2, required=job, run_if="settled")
    scheduler = Scheduler({job, inner}, after)
    assert virtual(beside, scheduler, job.cancel, turns) == (True, 2)
    assert (job.state, job.started_at, after.state) == (CANCELLED, None, SUCCEEDED)
    assert not is_group or {job.state for job in inner} == {IDLE}


@pytest.mark.usefixtures("many_pauses")
@pytest.mark.parametrize("turns", range(1, 12, 2))
def test_job_cancelled_during_the_preparation_of_a_second_run_does_not_start(
    virtual: Virtual, turns: int
) -> None:
    scheduler = large()
    jobs = list(scheduler)
    assert virtual(scheduler.co_run)
    assert virtual(beside, scheduler, jobs[-1].cancel, turns) == (True, 1)
    assert (jobs[-1].state, jobs[-1].started_at) == (CANCELLED, None)


@pytest.mark.usefixtures("many_pauses")
@pytest.mark.parametrize("turns", range(1, 12, 2))
def test_run_drained_during_the_preparation_of_a_nested_scheduler_ends(
    virtual: Virtual, turns: int
) -> None:
    inner = large()
    scheduler = Scheduler(inner, Job(nap, 3), Job(nap, 1, required=inner))
    ok, ended = virtual(beside, scheduler, scheduler.drain, turns)
    assert (ok, scheduler.stop_reason) == (False, StopReason.DRAINED)
    assert {job.state for job in inner} <= {IDLE, SUCCEEDED, CANCELLED}
    assert ended in (0, 1, 3)


@pytest.mark.usefixtures("many_pauses")
def test_job_cancelled_before_its_reset_in_a_second_run_settles_once(
    virtual: Virtual,
) -> None:
    """An IDLE job that was cancelled before its reset in a second run settled twice, which made a count wrong. All jobs
    had succeeded, the cancelled one too, and the run waited forever."""
    first = Job(nap, 1)
    job = Job(nap, 5, required=first)
    scheduler = Scheduler(first, job, large())
    virtual(functools.partial(timed, scheduler, timeout=0.5))
    assert virtual(beside, scheduler, job.cancel, 1) == (True, 1)
    assert (job.state, job.started_at) == (CANCELLED, None)


def test_job_cancelled_in_the_hook_before_run_does_not_start(virtual: Virtual) -> None:
    job = Job(nap, 1)
    after = Job(nap, 2, required=job, run_if="settled")
    watch = hooked(before_run=lambda _: job.cancel())
    assert virtual(
        functools.partial(timed, Scheduler(job, after), instruments=[watch], timeout=99)
    ) == (True, 2)
    assert (job.state, after.state) == (CANCELLED, SUCCEEDED)


# --- every task that there is
@pytest.mark.parametrize("phase", PHASES)
def test_run_ends_in_any_phase_if_all_asyncio_tasks_are_cancelled(phase: str) -> None:
    told, scheduler = natively_cancelled_scenario()

    async def main() -> None:
        task = asyncio.create_task(scheduler.co_run())
        await asyncio.sleep(PHASES[phase])
        for one in asyncio.all_tasks() - {asyncio.current_task()}:
            one.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    natively(main)
    assert sorted(what for what, _ in told if what.endswith("begins")) == [
        "forever begins",
        "job begins",
    ]
    assert all(job.is_settled() for job in scheduler)


# --- what a job has begun in a thread
def ask_until_told(started: anyio.Event) -> str:
    """Ask in a thread whether the job was cancelled, for at most ten seconds."""
    anyio.from_thread.run_sync(started.set)
    for _ in range(10_000):
        try:
            anyio.from_thread.check_cancelled()
        except BaseException as cancellation:
            return type(cancellation).__name__
        time.sleep(0.001)
    return "never"


def sleep_in_the_loop(started: anyio.Event) -> str:
    """Sleep in the loop, on behalf of a thread, for at most ten seconds."""

    async def sleep() -> None:
        started.set()
        await anyio.sleep(10)

    try:
        anyio.from_thread.run(sleep)
    except BaseException as cancellation:
        return type(cancellation).__name__
    return "never"


@pytest.mark.fast_way(
    "asyncio"
)  # a shield of anyio does not hold there with direct isolation
@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("function", [ask_until_told, sleep_in_the_loop])
def test_thread_of_a_job_sees_its_cancellation(
    backend: Any, function: Callable[..., str], within: bool
) -> None:
    """A thread sees that its job is cancelled alone; on asyncio it once asked the scope that all workers share."""
    told: list[str] = []
    started = anyio.Event()

    async def begin() -> None:
        with anyio.CancelScope() if within else contextlib.nullcontext():
            await anyio.to_thread.run_sync(lambda: told.append(function(started)))
            await anyio.sleep(10)

    async def cancel() -> None:
        await started.wait()
        job.cancel()

    job = Job(begin)
    assert Scheduler(job, Job(cancel)).run(backend=backend) is True
    assert job.state is CANCELLED
    assert len(told) == 1
    assert told[0].startswith("Cancelled")


async def sleep_in_scope() -> None:
    with anyio.CancelScope():
        await anyio.sleep(1)


@pytest.mark.parametrize("way", ["cancelled", "forever", "in a scope"])
def test_tasks_that_had_their_own_cancel_scope_are_freed(
    virtual: Virtual, way: str
) -> None:
    """Tasks of jobs that had a cancel scope of their own are freed; on asyncio they once never were."""
    tasks: list[weakref.ref[Any]] = []

    async def body() -> None:
        tasks.append(weakref.ref(bodies.task_now()))
        await sleep_in_scope()
        await anyio.sleep(1 if way == "in a scope" else 99)

    async def main() -> None:
        jobs = [Job(body, forever=way == "forever") for _ in range(5)]
        ends = (
            [Job(later, 2, job.cancel) for job in jobs]
            if way == "cancelled"
            else [Job(nap, 2)]
        )
        assert await Scheduler(jobs, ends).co_run() is True

    virtual(main)
    gc.collect()
    assert [task() for task in tasks] == [None] * 5


@pytest.mark.parametrize("forever", [False, True])
def test_tasks_and_nested_runs_are_freed_without_the_garbage_collector(
    virtual: Virtual, forever: bool
) -> None:
    """Tasks and nested runs are freed at once; they were once in reference cycles until the collector came."""
    freed: list[weakref.ref[Any]] = []

    async def body() -> None:
        freed.append(weakref.ref(bodies.task_now()))
        freed.append(weakref.ref(current_job().scheduler._run))  # type: ignore[union-attr]
        await anyio.sleep(1)

    async def main() -> None:
        gc.collect()
        gc.disable()
        try:
            nested = [
                Scheduler(Job(body, forever=forever), Job(nap, 0.5)) for _ in range(5)
            ]
            await Scheduler(nested).co_run()
            await anyio.sleep(1)
            assert [one() for one in freed] == [None] * 10
        finally:
            gc.enable()

    virtual(main)


# --- scopes around a run
async def deadline() -> float:
    return anyio.current_effective_deadline()


@pytest.mark.fast_way("asyncio")  # with direct isolation, jobs do not see it there
@pytest.mark.parametrize("nested", [False, True])
def test_job_sees_the_deadline_of_a_scope_around_the_run(
    virtual: Virtual, nested: bool
) -> None:
    """A job sees the deadline of a scope around the run; on asyncio it once saw only scopes of its own."""
    job = Job(deadline)
    scheduler = Scheduler(Scheduler(job)) if nested else Scheduler(job)

    async def main() -> None:
        with anyio.move_on_after(7):
            await scheduler.co_run()

    virtual(main)
    assert job.result() == 7


@pytest.mark.fast_way("asyncio")  # with direct isolation, jobs do not see it there
def test_job_sees_the_nearest_deadline(virtual: Virtual) -> None:
    timed, own, inner = Job(deadline), Job(deadline, timeout=3), Job(deadline)
    scheduler = Scheduler(timed, own, Scheduler(inner, timeout=4), timeout=5)
    free = Job(deadline)

    async def main() -> None:
        with anyio.move_on_after(7):
            await scheduler.co_run()
            with anyio.CancelScope(shield=True):
                await Scheduler(free).co_run()

    virtual(main)
    assert [job.result() for job in (timed, own, inner, free)] == [5, 3, 4, math.inf]


async def in_cancelled_scope(run: Any) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await run()


async def in_cancelled_task(run: Any) -> None:
    async def cancelled() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await run()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(cancelled())


@pytest.mark.parametrize("cancelled", [in_cancelled_scope, in_cancelled_task])
@pytest.mark.parametrize("jobs", [0, 1, 3])
def test_run_in_a_cancelled_scope_or_task_starts_nothing(
    virtual: Virtual, cancelled: Any, jobs: int
) -> None:
    if cancelled is in_cancelled_task and virtual.backend == "trio":
        pytest.skip("trio has no native cancellation of a task")
    scheduler = Scheduler([Job(nap) for _ in range(jobs)])
    ended: list[int] = []

    async def run() -> None:
        await scheduler.co_run()
        ended.append(1)

    virtual(cancelled, run)
    assert scheduler.stop_reason is StopReason.CANCELLED
    assert not ended
    assert all(job.started_at is None for job in scheduler)


def test_cancellation_from_outside_is_no_timeout_whatever_timers_are_set(
    virtual: Virtual,
) -> None:
    """On trio, a cancellation from outside was once taken for a timeout if timers noticed it before the run did. trio
    resumes tasks in any order: with this many timers, one of them was nearly always before the run."""
    for _ in range(3):
        scheduler = Scheduler(*(Scheduler(Job(nap, 9), timeout=8) for _ in range(20)))

        async def main(scheduler: Scheduler = scheduler) -> None:
            with anyio.move_on_after(1):
                await scheduler.co_run()

        virtual(main)
        assert scheduler.stop_reason is StopReason.CANCELLED


@pytest.mark.fast_way  # with direct isolation it stops in the next turn of the loop
@pytest.mark.parametrize("drains", [True, False])
def test_run_stops_at_once_when_a_job_cancels_a_scope_around_it(
    virtual: Virtual, drains: bool
) -> None:
    async def cancel(around: anyio.CancelScope) -> None:
        around.cancel()
        if drains:
            scheduler.drain()
        with pytest.raises(RuntimeError, match="is stopping"):
            scheduler.add(Job(anyio.sleep, 1))

    async def main() -> None:
        with anyio.CancelScope() as around:
            scheduler.add(Job(cancel, around))
            await scheduler.co_run()

    scheduler = Scheduler()
    virtual(main)
    assert scheduler.stop_reason is StopReason.CANCELLED


class CancelsAround(AbstractJob[None]):
    """Cancels a scope around the run, in its body or in its shutdown."""

    def __init__(self, around: anyio.CancelScope, at_the_end: bool) -> None:
        super().__init__()
        self.around = around
        self.at_the_end = at_the_end

    async def co_run(self) -> None:
        if not self.at_the_end:
            self.around.cancel()

    async def co_shutdown(self) -> None:
        self.around.cancel()


@pytest.mark.parametrize("at_the_end", [False, True])
def test_run_whose_last_job_cancels_an_enclosing_scope_does_not_return(
    virtual: Virtual, at_the_end: bool
) -> None:
    went_on: list[bool] = []

    async def main() -> None:
        with anyio.CancelScope() as around:
            went_on.append(await Scheduler(CancelsAround(around, at_the_end)).co_run())

    virtual(main)
    assert went_on == []
