"""Native cancellation on asyncio: whose doing it is, and what it does to a job, to its neighbors and to the run."""

import asyncio
import contextlib
import functools
import math
import time
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any
import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from trioflow import (
    Job,
    JobCancelled,
    JobTimeout,
    Retry,
    Scheduler,
    Sequence,
    Service,
    StopReason,
)
from trioflow._core.run import _worker
from trioflow.testing import run_virtual
from ..bodies import (
    CANCELLED,
    FAILED,
    RUNNING,
    SCHEDULED,
    SUCCEEDED,
    fail,
    nap,
    task_now,
)


async def in_task_group(child: Callable[[], Awaitable[Any]]) -> str:
    """Handle the failure of a child of a task group."""
    became = "no failure"
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(child())
            await asyncio.sleep(0)
    except* OSError:
        became = "handled"
    return became


async def broken() -> None:
    await asyncio.sleep(0.001)
    raise OSError("broken")


# --- what a job does to its own task
def test_job_that_handles_the_failure_of_its_task_group_has_succeeded() -> None:
    """On 3.11 and 3.12 a failed TaskGroup leaves `cancelling()` at 1, once taken for a cancellation of the job."""
    job, after = Job(in_task_group, broken), Job(nap, 0.001, "whole")
    assert Scheduler(Sequence(job, after)).run(backend="asyncio", check=True) is True
    assert (job.result(), after.result()) == ("handled", "whole")


@pytest.mark.parametrize(
    ("options", "calls"),
    [
        ({"timeout": 1}, 1),
        ({"timeout": 1, "retry": 1}, 2),
        ({"timeout": 1, "retry": Retry(2, first=0, on=JobTimeout)}, 3),
        ({"idle_timeout": 1}, 1),
    ],
)
@pytest.mark.parametrize("stopped_at", [None, 0.5, 1])
def test_a_timeout_after_a_failed_group_is_seen(
    options: dict[str, Any], calls: int, stopped_at: float | None
) -> None:
    """A timeout is recognized though a failed TaskGroup left `cancelling()` at 1; an outer cancellation has precedence.
    A scope of anyio takes this count for a native cancellation, and lets its own cancellation pass. So the job failed
    with the latter, and was not called again."""
    called: list[float] = []

    async def hang() -> None:
        called.append(anyio.current_time())
        assert await in_task_group(broken) == "handled"
        await anyio.sleep(10)

    job = Job(hang, **options)
    scheduler = Scheduler(job)

    async def run() -> None:
        with anyio.move_on_after(math.inf if stopped_at is None else stopped_at):
            await scheduler.co_run()

    run_virtual(run, backend="asyncio")
    if stopped_at is None:
        assert (type(job.raised_exception()), job.elapsed, len(called)) == (
            JobTimeout,
            calls,
            calls,
        )
    else:
        assert (job.state, scheduler.stop_reason, job.elapsed) == (
            CANCELLED,
            StopReason.CANCELLED,
            stopped_at,
        )


def test_job_that_swallows_its_own_cancellation_has_succeeded() -> None:
    tasks: list[Any] = []

    async def swallow() -> str:
        tasks.append(task_now())
        tasks[-1].cancel()
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            return "swallowed"
        return "slept"

    async def look() -> int:
        tasks.append(task_now())
        return tasks[-1].cancelling()  # type: ignore[no-any-return]

    job, after = Job(swallow), Job(look)
    assert Scheduler(Sequence(job, after)).run(backend="asyncio", check=True) is True
    assert (job.result(), after.result()) == ("swallowed", 0)
    assert tasks[0] is not tasks[1]


def test_a_stray_cancelled_error_in_a_job_with_a_timeout_is_no_timeout() -> None:
    async def body() -> None:
        with anyio.CancelScope():
            await anyio.lowlevel.checkpoint()
        raise asyncio.CancelledError

    job = Job(body, timeout=60)
    assert Scheduler(job).run(backend="asyncio") is False
    assert isinstance(job.raised_exception(), JobCancelled)
    assert not job.timed_out


def test_an_attempt_after_a_failed_task_group_decides_the_outcome() -> None:
    attempts: list[int] = []

    async def work() -> str:
        attempts.append(1)
        handled = await in_task_group(broken)
        if len(attempts) == 1:
            raise OSError("again")
        return handled

    job = Job(work, retry=1)
    assert Scheduler(job).run(backend="asyncio", check=True) is True
    assert (job.result(), job.attempts) == ("handled", 2)


# --- when the loop ends everything
async def started(scheduler: Scheduler) -> asyncio.Task[bool]:
    """Start the run in the background, and return when all its jobs that require nothing are running."""
    task = asyncio.create_task(scheduler.co_run())
    entries = [job for job in scheduler.iterate_jobs() if not job.required]
    while any(job.state is not RUNNING for job in entries):  # noqa: ASYNC110 - no event
        await asyncio.sleep(0)
    return task


async def through_main(scheduler: Scheduler) -> None:
    """Return while the run is in progress: `asyncio.run` then cancels all tasks that are left."""
    background.append(await started(scheduler))


async def through_wait_for(scheduler: Scheduler) -> None:
    """Cancel every task that exists, in the order in which the loop keeps them."""
    task = await started(scheduler)
    for one in asyncio.all_tasks() - {asyncio.current_task()}:
        one.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


background: list[Any] = []


@pytest.mark.parametrize("end", [through_main, through_wait_for])
@pytest.mark.parametrize("critical", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_jobs_are_cancelled_when_the_loop_cancels_all_tasks(
    end: Any, critical: bool, nested: bool
) -> None:
    """When the loop cancels all tasks, in whatever order, the jobs are CANCELLED, and so is the run. This used to
    depend on chance: a job whose task came before that of the run FAILED, and if it was critical, clean-up jobs ran."""
    for _ in range(4):
        jobs = [Job(nap, 5, critical=critical) for _ in range(4)]
        jobs += [Job(nap, 5, forever=True, critical=critical) for _ in range(4)]
        waiting = [Job(nap, 5, required=jobs[0]) for _ in range(4)]
        alarm = Job(nap, required=jobs[:4], run_if="failed")
        inside = Scheduler(
            *jobs, *waiting, alarm, critical=critical if nested else None
        )
        scheduler = Scheduler(inside) if nested else inside
        asyncio.run(end(scheduler))
        assert scheduler.stop_reason is inside.stop_reason is StopReason.CANCELLED
        assert {job.state for job in jobs} == {CANCELLED}
        assert not any(job.started_at for job in [*waiting, alarm])
        background.clear()


@pytest.mark.parametrize("ending", ["_wait_until_left", "_clean_up"])
def test_cancelling_the_task_of_an_ending_cancels_neither_the_run_nor_its_caller(
    ending: str,
) -> None:
    cancelled: list[str] = []

    async def cancel_ending() -> None:
        while not cancelled:
            await asyncio.sleep(0)
            for task in asyncio.all_tasks():
                if task.get_coro().__name__ == "_wind_up":  # type: ignore[union-attr]
                    cancelled.append(task.get_name())
                    task.cancel()
        await asyncio.sleep(60 if ending == "_clean_up" else 0.01)

    async def unwind() -> None:
        try:
            await asyncio.sleep(5)
        finally:
            with anyio.CancelScope(
                shield=True
            ):  # without private parts of anyio, each await would be cancelled
                if ending == "_wait_until_left":
                    await cancel_ending()

    failing = Job(fail, 0.01, critical=True)
    alarm = Job(
        cancel_ending if ending == "_clean_up" else suspended,
        required=failing,
        run_if="failed",
    )
    scheduler = Scheduler(failing, alarm, Job(unwind))
    assert not asyncio.run(scheduler.co_run())
    assert scheduler.stop_reason is StopReason.CRITICAL
    assert len(cancelled) == 1
    assert alarm.state is (
        CANCELLED if ending == "_clean_up" else SUCCEEDED
    )  # a cancellation ends the clean-up


async def suspended() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def service(task_status: Any) -> None:
    task_status.started()
    await asyncio.sleep(5)


def cleaned_up() -> Scheduler:
    """Return a scheduler that fails in its second turn or so, and then runs clean-up jobs."""
    failing = Job(broken_soon, critical=True)
    return Scheduler(
        failing,
        *[Job(suspended, run_if="failed", required=failing) for _ in range(9)],
        log=False,
    )


async def broken_soon() -> None:
    await suspended()
    raise OSError("broken")


SHAPES: dict[str, Callable[[], Scheduler]] = {
    "wide": lambda: Scheduler(*[Job(nap, 5) for _ in range(30)], timeout=9),
    "own tasks": lambda: Scheduler(
        *[Job(suspended, own_task=True) for _ in range(60)], jobs_window=3
    ),
    "nested": lambda: Scheduler(
        *[Scheduler(*[Job(nap, 5) for _ in range(3)]) for _ in range(3)], Job(suspended)
    ),
    "clean-up": cleaned_up,
    "services": lambda: Scheduler(
        Service(service), Job(nap, 5, forever=True), *[Job(nap, 5) for _ in range(3)]
    ),
    "tokens": lambda: Scheduler(
        *[Job(suspended) for _ in range(30)], jobs_window=anyio.CapacityLimiter(2)
    ),
}


def look_at_scopes(tasks: set[asyncio.Task[Any]]) -> None:
    for info in anyio.get_running_tasks():
        info.has_pending_cancellation()


def add_callbacks(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.add_done_callback(lambda _: None)


@pytest.mark.parametrize(
    ("look", "factory"),
    [
        (None, None),
        (look_at_scopes, None),
        (add_callbacks, None),
        (look_at_scopes, asyncio.Task),
    ],
)
@pytest.mark.sampled
@pytest.mark.parametrize("shape", SHAPES)
def test_all_tasks_may_be_cancelled_and_awaited_at_any_turn_of_a_run(
    shape: str, look: Any, factory: Any
) -> None:
    """At any turn of a run, all tasks can be cancelled and awaited, as `asyncio.run` does, and no further job starts. A
    worker whose task was cancelled before its first step, and then awaited by `gather`, was once taken for one that had
    begun, and the run waited for it forever."""

    async def main(turns: int) -> None:
        if factory is not None:
            loop = asyncio.get_running_loop()
            loop.set_task_factory(
                lambda loop, coroutine, **options: factory(
                    coroutine, loop=loop, **options
                )
            )
        run = asyncio.create_task(scheduler.co_run())
        for _ in range(turns):
            await asyncio.sleep(0)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        if look is not None:
            look(tasks)
        for task in tasks:
            task.cancel()
        started = starts()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert run.done()
        assert starts() == started

    def starts() -> int:
        ordinary = [
            job for job in scheduler.iterate_jobs() if job.run_if == "succeeded"
        ]  # no clean-up jobs
        return sum(job.started_at is not None for job in ordinary)

    for turns in (*range(8), 10, 15, 25):
        scheduler = SHAPES[shape]()
        asyncio.run(main(turns))
        assert not any(
            job.state in (RUNNING, SCHEDULED) for job in scheduler.iterate_jobs()
        )


def test_a_done_callback_of_a_task_that_has_not_begun_is_called_after_its_first_job() -> (
    None
):
    """Whoever awaits a worker's task from before its first step awaits one job, as without shared tasks."""
    calls: list[int] = []

    async def main() -> None:
        run = asyncio.create_task(scheduler.co_run())
        others = {asyncio.current_task(), run}
        while not (tasks := asyncio.all_tasks() - others):  # noqa: ASYNC110 - no event for the start of a task
            await asyncio.sleep(0)
        for task in tasks:
            task.add_done_callback(
                lambda _: calls.append(sum(job.is_done() for job in scheduler))
            )
        await run

    scheduler = Scheduler(Sequence(*[Job(nap, 0.001) for _ in range(5)]))
    asyncio.run(main())
    assert calls == [1]


def test_a_task_cancelled_before_its_first_step_is_replaced() -> None:
    made: list[asyncio.Task[Any]] = []
    faults: list[Any] = []

    def cancel_the_first(
        loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coroutine, loop=loop, **options)
        made.append(task)
        if len(made) == 1:
            task.cancel()
        return task

    async def main() -> bool:
        asyncio.get_running_loop().set_task_factory(cancel_the_first)
        asyncio.get_running_loop().set_exception_handler(
            lambda loop, context: faults.append(context)
        )
        return await scheduler.co_run()

    scheduler = Scheduler(*[Job(asyncio.sleep, 0) for _ in range(3)])
    assert asyncio.run(main())
    assert made[0].cancelled()
    assert all(job.state is SUCCEEDED for job in scheduler)
    assert faults == []


# --- what a job leaves behind
async def leave_timeout() -> None:
    """Suspend an async generator inside `asyncio.timeout`, which cancels the task when its time is over."""

    async def generator() -> AsyncIterator[int]:
        async with asyncio.timeout(0.005):
            yield 1

    background.append(generator())
    await anext(background[-1])


async def leave_task_group() -> None:
    """Suspend an async generator inside a TaskGroup, which cancels the task when a child fails."""

    async def generator() -> AsyncIterator[int]:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fail())
            yield 1

    async def fail() -> None:
        await asyncio.sleep(0.005)
        raise OSError("broken")

    background.append(generator())
    await anext(background[-1])


async def leave_task() -> None:
    background.append(task_now())
    asyncio.get_running_loop().call_later(0.005, background[-1].cancel)


async def leave_task_after_a_pause() -> None:
    await asyncio.sleep(0.001)
    await leave_task()


@pytest.mark.parametrize(
    "leave", [leave_timeout, leave_task_group, leave_task, leave_task_after_a_pause]
)
@pytest.mark.parametrize("raises", [False, True])
def test_late_native_cancellation_hits_no_other_job(
    leave: Callable[[], Awaitable[None]], raises: bool
) -> None:
    """A worker whose task a job has stored runs no other job, so that a late `cancel()` of the task reaches none. A
    later job that happened to have the same task was once cancelled in its place."""

    async def sloppy() -> None:
        await leave()
        if raises:
            raise OSError("mine")

    job, others = (
        Job(sloppy),
        [Job(nap, 0.01, "whole", run_if="settled") for _ in range(2)],
    )

    async def main() -> None:
        assert (
            await Scheduler(Sequence(Job(nap, 0.001), job, others)).co_run()
            is not raises
        )
        for one in background:
            if isinstance(one, AsyncGenerator):
                with contextlib.suppress(BaseException):
                    await one.aclose()
        background.clear()

    asyncio.run(main())
    assert [other.result() for other in others] == ["whole"] * 2
    assert (job.state is FAILED) is raises


async def in_timeout() -> None:
    async with asyncio.timeout(5):
        await asyncio.sleep(0)


async def in_cancelled_timeout() -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.001):
            await asyncio.sleep(1)


async def in_scope() -> None:
    with anyio.move_on_after(5):
        await anyio.lowlevel.checkpoint()


async def in_groups() -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(asyncio.sleep(0))
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 0)


async def in_thread() -> None:
    await asyncio.to_thread(int)
    await anyio.to_thread.run_sync(int)
    time.sleep(0.001)  # noqa: ASYNC251 - the thread may keep the context for a moment longer than its call lasts


async def in_waits() -> None:
    await asyncio.wait_for(asyncio.sleep(0), 5)
    await asyncio.gather(asyncio.sleep(0), asyncio.shield(asyncio.sleep(0)))
    await asyncio.wait([asyncio.create_task(asyncio.sleep(0))], timeout=5)


def test_no_job_runs_in_a_task_that_was_cancelled_before_its_worker_began(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_worker, "TURN_SECONDS", 0.0)
    requests: list[int] = []

    async def look() -> None:
        requests.append(task_now().cancelling())

    async def main(turns: int) -> None:
        async with asyncio.TaskGroup() as tasks:
            run = tasks.create_task(
                Scheduler([Scheduler(Job(look)) for _ in range(8)]).co_run()
            )
            for _ in range(turns):
                await asyncio.sleep(0)
            for task in asyncio.all_tasks() - {run, task_now()}:
                task.cancel()

    for turns in range(12):
        asyncio.run(main(turns))
    assert set(requests) == {0}


@pytest.mark.fast_way
@pytest.mark.parametrize(
    "work", [in_timeout, in_cancelled_timeout, in_scope, in_groups, in_thread, in_waits]
)
def test_jobs_that_leave_no_reference_to_their_task_share_it(
    work: Callable[[], Awaitable[None]],
) -> None:
    tasks: list[Any] = []

    async def look() -> None:
        tasks.append(weakref.ref(task_now()))
        await work()

    number, most = (
        (50, 49) if work is in_thread else (5, 1)
    )  # a thread may be later still
    scheduler = Scheduler(Sequence([Job(look) for _ in range(number)]))
    # A job that lasts gets a name, and its task for itself. So may one on virtual time whose thread is slow.
    if work is in_thread:
        assert scheduler.run(backend="asyncio", check=True)
    else:
        assert run_virtual(
            functools.partial(scheduler.co_run, check=True), backend="asyncio"
        )
    assert len(set(map(id, tasks))) <= most


@pytest.mark.parametrize("is_swallowed", [False, True])
@pytest.mark.parametrize("isolation", ["fast", "direct"])
def test_cancellation_just_before_a_run_is_its_own_unless_it_was_swallowed(
    is_swallowed: bool, isolation: str
) -> None:
    """One that is pending keeps each job from its start; one that somebody has caught before cancels nothing."""
    started: list[int] = []

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        if is_swallowed:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(1)
        await scheduler.co_run()

    async def start() -> None:
        started.append(1)

    scheduler = Scheduler(Job(start), Job(start))
    if is_swallowed:
        run_virtual(main, backend="asyncio")
    else:
        with pytest.raises(asyncio.CancelledError):
            run_virtual(main, backend="asyncio")
    assert (len(started), scheduler.stop_reason) == (
        (2, StopReason.COMPLETED) if is_swallowed else (0, StopReason.CANCELLED)
    )
