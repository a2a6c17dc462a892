"""On asyncio each cause cancels a job once, and leaves alone what the job awaits while it unwinds."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any
import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from trioflow import (
    Job,
    JobTimeout,
    Retry,
    Scheduler,
    Sequence,
    Service,
    StopReason,
    ThreadJob,
)
from trioflow.abc import AbstractJob, run_of
from trioflow.testing import run_virtual
from ..bodies import CANCELLED, FAILED, later, nap, task_now


def now() -> float:
    return asyncio.get_running_loop().time()


class Careful:
    """A body that notes each of its cancellations, and takes its time to unwind."""

    def __init__(self, seconds: float = 8.0) -> None:
        self.seconds = seconds
        self.cancelled_at: list[float] = []
        self.tidied_at: list[float] = []

    async def __call__(self, task_status: Any = None) -> None:
        if task_status is not None:
            task_status.started()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.cancelled_at.append(now())
            await self.tidy()
            raise

    async def tidy(self) -> None:
        """Await functions of asyncio and of anyio, and a task, for `seconds` altogether."""
        try:
            await asyncio.sleep(self.seconds / 4)
            await asyncio.gather(asyncio.sleep(self.seconds / 4))
            await anyio.sleep(self.seconds / 4)
            await anyio.lowlevel.checkpoint_if_cancelled()
            async with asyncio.timeout(60):
                await asyncio.create_task(asyncio.sleep(self.seconds / 4))
        except asyncio.CancelledError:
            self.cancelled_at.append(now())
            raise
        self.tidied_at.append(now())


async def fail_at(when: float) -> None:
    await asyncio.sleep(when)
    raise OSError("broken")


OTHER_ERRORS = Retry(1, on=KeyError)
"""A `retry=` that needs the coroutine of retries, and retries nothing here."""


def ended_at(main: Callable[[], Awaitable[Any]]) -> float:
    """Run on the virtual clock, and return when `main` has ended."""

    async def timed() -> float:
        with contextlib.suppress(TimeoutError, BaseExceptionGroup):
            await main()
        return now()

    return run_virtual(timed, backend="asyncio")


Cause = Callable[[Careful], Callable[[], Awaitable[Any]]]


# --- one cause
def cancel_of_the_run(body: Careful) -> Callable[[], Awaitable[Any]]:
    scheduler = Scheduler(Job(body))
    scheduler.add(Job(later, 1, scheduler.cancel))
    return scheduler.co_run


def interruption(body: Careful) -> Callable[[], Awaitable[Any]]:
    scheduler = Scheduler(Job(body))
    scheduler.add(Job(later, 1, lambda: scheduler._run.interrupt(None)))  # type: ignore[union-attr]  # as a signal does
    return scheduler.co_run


def timeout_around(body: Careful) -> Callable[[], Awaitable[Any]]:
    async def main() -> None:
        async with asyncio.timeout(1):
            await Scheduler(Scheduler(Job(body))).co_run()

    return main


def task_group_around(body: Careful) -> Callable[[], Awaitable[Any]]:
    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(Scheduler(Job(body)).co_run())
            tasks.create_task(fail_at(1))

    return main


def scope_around(body: Careful) -> Callable[[], Awaitable[Any]]:
    async def main() -> None:
        with anyio.move_on_after(1):
            await Scheduler(Scheduler(Job(body))).co_run()

    return main


CAUSES: dict[str, Cause] = {
    "timeout": lambda body: Scheduler(Job(body, timeout=1)).co_run,
    "timeout_of_an_attempt": lambda body: (
        Scheduler(Job(body, timeout=1, retry=OTHER_ERRORS)).co_run
    ),
    "idle_timeout": lambda body: Scheduler(Job(body, idle_timeout=1)).co_run,
    "cancel": lambda body: (
        Scheduler(job := Job(body), Job(later, 1, job.cancel)).co_run
    ),
    "cancel_of_the_run": cancel_of_the_run,
    "timeout_of_the_run": lambda body: Scheduler(Job(body), timeout=1).co_run,
    "critical_failure": lambda body: (
        Scheduler(Job(body), Job(fail_at, 1, critical=True)).co_run
    ),
    "interruption": interruption,
    "timeout_of_a_nested_run": lambda body: (
        Scheduler(Scheduler(Scheduler(Job(body)), timeout=1)).co_run
    ),
    "timeout_of_an_outer_run": lambda body: (
        Scheduler(Scheduler(Scheduler(Job(body)), timeout=100), timeout=1).co_run
    ),
    "end_of_a_forever_job": lambda body: (
        Scheduler(Job(body, forever=True), Job(nap, 1), shutdown_timeout=None).co_run
    ),
    "end_of_a_service": lambda body: (
        Scheduler(Service(body), Job(nap, 1), shutdown_timeout=None).co_run
    ),
    "cleanup_timeout": lambda body: (
        Scheduler(
            bad := Job(fail_at, 0.25, critical=True),
            Job(body, required=bad, run_if="failed"),
            cleanup_timeout=0.75,
        ).co_run
    ),
    "wait_for": lambda body: lambda: asyncio.wait_for(Scheduler(Job(body)).co_run(), 1),
    "timeout_around": timeout_around,
    "task_group_around": task_group_around,
    "scope_around": scope_around,
    "scope_in_a_job": lambda body: Scheduler(Job(scope_around(body))).co_run,
}


@pytest.mark.parametrize("cause", CAUSES)
def test_a_job_is_cancelled_once_and_may_await_while_it_unwinds(cause: str) -> None:
    body = Careful()
    assert ended_at(CAUSES[cause](body)) == 9
    assert (body.cancelled_at, body.tidied_at) == ([1], [9])


@pytest.mark.parametrize(
    "cause",
    [
        "timeout",
        "idle_timeout",
        "cancel",
        "timeout_of_the_run",
        "end_of_a_service",
        "scope_around",
    ],
)
def test_the_children_of_a_cancelled_job_may_await_while_they_unwind(
    cause: str,
) -> None:
    """Tasks that a cancelled job awaits, by `gather` or in a TaskGroup, are cancelled once, too."""
    children = [Careful(), Careful()]

    class Parent(Careful):
        async def __call__(self, task_status: Any = None) -> None:
            if task_status is not None:
                task_status.started()
            await asyncio.gather(children[0](), in_group(children[1]))

    async def in_group(child: Careful) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(child())

    assert ended_at(CAUSES[cause](Parent())) == 9
    assert [child.cancelled_at for child in children] == [[1], [1]]
    assert [child.tidied_at for child in children] == [[9], [9]]


def test_a_job_that_has_not_ended_a_second_after_its_cancellation_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert ended_at(Scheduler(Job(Careful(), label="careful"), timeout=1).co_run) == 9
    assert [
        record.message.partition(" and is")[0]
        for record in caplog.records
        if "1 s ago" in record.message
    ] == ["'careful' was cancelled 1 s ago"]


# --- further causes
def outside(
    scheduler: Scheduler, first: Callable[[], Any], second: Callable[[], Any]
) -> Callable[[], Awaitable[Any]]:
    async def main() -> None:
        asyncio.get_running_loop().call_later(1, first)
        asyncio.get_running_loop().call_later(3, second)
        await scheduler.co_run()

    return main


def stop_of_the_run_twice(body: Careful) -> Callable[[], Awaitable[Any]]:
    scheduler = Scheduler(Scheduler(Job(body)), timeout=1)
    return outside(scheduler, lambda: None, scheduler.cancel)


def two_signals(body: Careful) -> Callable[[], Awaitable[Any]]:
    scheduler: Any = Scheduler(Job(body))
    return outside(
        scheduler,
        lambda: scheduler._run.interrupt(None),
        lambda: scheduler._run.interrupt(None),
    )


def native_cancellations(body: Careful) -> Callable[[], Awaitable[Any]]:
    async def main() -> None:
        task = asyncio.create_task(Scheduler(Job(body)).co_run())
        for when in (1, 3):
            asyncio.get_running_loop().call_at(when, task.cancel)
        await asyncio.wait([task])

    return main


FURTHER_CAUSES: dict[str, Cause] = {
    "timeout_then_end_of_the_run": lambda body: (
        Scheduler(Job(body, timeout=1), timeout=3).co_run
    ),
    "timeout_then_cancel": lambda body: (
        Scheduler(job := Job(body, timeout=1), Job(later, 3, job.cancel)).co_run
    ),
    "cancel_twice": lambda body: (
        Scheduler(
            job := Job(body), Job(later, 1, job.cancel), Job(later, 3, job.cancel)
        ).co_run
    ),
    "cancel_then_end_of_the_run": lambda body: (
        Scheduler(
            job := Job(body), Job(later, 1, job.cancel), Job(fail_at, 3, critical=True)
        ).co_run
    ),
    "stop_of_the_run_twice": stop_of_the_run_twice,
    "two_signals": two_signals,
    "timeouts_on_both_levels": lambda body: (
        Scheduler(Scheduler(Job(body), timeout=1), timeout=3).co_run
    ),
    "timeouts_on_outer_levels": lambda body: (
        Scheduler(Scheduler(Scheduler(Job(body)), timeout=1), timeout=3).co_run
    ),
    "timeout_of_a_run_in_a_job": lambda body: (
        Scheduler(Job(Scheduler(Job(body), timeout=1).co_run, timeout=3)).co_run
    ),
    "cancel_of_a_job_that_awaits_a_run": lambda body: (
        Scheduler(
            job := Job(Scheduler(Job(body), timeout=1).co_run),
            Job(later, 3, job.cancel),
        ).co_run
    ),
    "timeout_around_a_job_that_awaits_a_run": lambda body: (
        Scheduler(
            Scheduler(Job(Scheduler(Job(body), timeout=1).co_run)), timeout=3
        ).co_run
    ),
    "native_cancellations": native_cancellations,
}


@pytest.mark.parametrize("causes", FURTHER_CAUSES)
def test_a_further_cause_cancels_a_job_once_more(causes: str) -> None:
    """A job that unwinds is cancelled once more by a further cause, and not again after that."""
    body = Careful()
    assert ended_at(FURTHER_CAUSES[causes](body)) == 3
    assert (body.cancelled_at, body.tidied_at) == ([1, 3], [])


def test_a_second_cancel_of_a_run_leaves_alone_what_cleans_up() -> None:
    """Two parts of a program asked to stop, and none of the jobs could finish its clean-up, which trio shields."""
    body = Careful()
    scheduler = Scheduler(Scheduler(Job(body)))
    assert ended_at(outside(scheduler, scheduler.cancel, scheduler.cancel)) == 9
    assert (body.cancelled_at, body.tidied_at) == ([1], [9])


def test_a_second_cancel_leaves_alone_what_cleans_up_after_a_timeout_and_a_first() -> (
    None
):
    body = Careful()

    async def careful_twice() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(8)
        await body()

    scheduler: Any = Scheduler(Scheduler(Job(careful_twice)), timeout=0.5)
    assert ended_at(outside(scheduler, scheduler.cancel, scheduler.cancel)) == 9
    assert (body.cancelled_at, body.tidied_at) == ([1], [9])


@pytest.mark.parametrize("option", ["timeout", "idle_timeout"])
@pytest.mark.parametrize("run_timeout", [1, None])
def test_a_job_that_was_cancelled_is_not_cancelled_again_by_its_timeout(
    option: str, run_timeout: float | None
) -> None:
    """The timeout of a job that unwinds already, because of `cancel()` or the end of its run, is no further cause."""
    body = Careful()
    job = Job(body, **{option: 2})  # type: ignore[arg-type]
    assert (
        ended_at(Scheduler(job, Job(later, 1, job.cancel), timeout=run_timeout).co_run)
        == 9
    )
    assert (body.cancelled_at, body.tidied_at) == ([1], [9])
    assert job.state is CANCELLED


def test_a_job_with_a_timeout_that_its_run_ends_is_cancelled() -> None:
    ended, timed = Job(Careful(), timeout=1), Job(Careful(1), timeout=1)
    assert ended_at(Scheduler(ended, timed, timeout=3).co_run) == 3
    assert ended.state is CANCELLED
    assert (type(timed.raised_exception()), timed.timed_out) == (JobTimeout, True)


def test_the_jobs_of_a_service_of_a_nested_run_end_with_it() -> None:
    """A nested scheduler is a job: the end of the outer run cancels the jobs inside once, in the midst of a timeout."""
    body, forever = Careful(), Careful()
    inner = Scheduler(
        Job(body), Job(forever, forever=True), timeout=1, shutdown_timeout=None
    )
    assert ended_at(Scheduler(inner, timeout=3).co_run) == 11
    assert (body.cancelled_at, forever.cancelled_at) == ([1, 3], [3])
    assert inner.stop_reason is StopReason.TIMEOUT
    assert inner.state is CANCELLED


def test_a_nested_run_that_is_cancelled_in_its_ending_leaves_nothing_behind_in_its_task() -> (
    None
):
    body = Careful()
    inner = Scheduler(Job(nap, 1), Service(body), shutdown_timeout=None)
    after = Job(nap, 5, timeout=1, run_if="settled")
    assert (
        ended_at(Scheduler(Sequence(inner, after), Job(later, 2, inner.cancel)).co_run)
        == 10
    )
    assert (inner.state, body.tidied_at) == (CANCELLED, [9])
    assert isinstance(after.raised_exception(), JobTimeout)


@pytest.mark.parametrize("kind", [Service, Job, Scheduler])
def test_a_forever_job_is_cancelled_at_each_await_after_shutdown_timeout(
    kind: Any,
) -> None:
    """A group only once more: a run ends in its own time. Once, its task was cancelled in each turn of the loop, which
    never came to rest."""
    cancelled_at: list[float] = []

    async def stubborn(task_status: Any = None) -> None:
        if task_status is not None:
            task_status.started()
        for _ in range(2 if kind is Scheduler else 4):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)
            cancelled_at.append(now())
        if kind is Scheduler:
            await asyncio.sleep(5)

    job = Service(stubborn) if kind is Service else Job(stubborn, forever=kind is Job)
    forever = Scheduler(job, forever=True) if kind is Scheduler else job
    assert ended_at(Scheduler(forever, Job(nap, 1), shutdown_timeout=2).co_run) == (
        8 if kind is Scheduler else 3
    )
    assert cancelled_at == ([1, 3] if kind is Scheduler else [1, 3, 3, 3])


# --- shields
@pytest.mark.fast_way  # a shield of anyio does not hold with direct isolation
@pytest.mark.parametrize(
    "options",
    [{"timeout": 1}, {"timeout": 1, "retry": OTHER_ERRORS}, {"idle_timeout": 1}],
)
def test_a_cancellation_waits_until_the_job_leaves_its_shield(
    options: dict[str, Any],
) -> None:
    """A job in a shield of anyio is cancelled when it leaves the shield, however long that takes, and at no cost."""
    notes: list[Any] = []
    turns: list[float] = []

    async def body() -> None:
        with anyio.CancelScope(shield=True):
            with anyio.CancelScope(shield=True):
                await asyncio.sleep(10)
            await asyncio.sleep(10)
            notes.append(now())
        try:
            await asyncio.sleep(3600)
        finally:
            notes.append(now())
            await asyncio.sleep(5)
            notes.append(now())

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        select = loop._selector.select
        loop._selector.select = lambda *args: (turns.append(now()), select(*args))[1]
        await Scheduler(job).co_run()

    job = Job(body, **options)
    run_virtual(main, backend="asyncio")
    assert notes == [20, 20, 25]
    assert isinstance(job.raised_exception(), JobTimeout)
    assert len(turns) < 60


@pytest.mark.fast_way  # a shield of anyio does not hold with direct isolation
def test_a_job_that_opens_a_scheduler_when_it_leaves_its_shield_is_cancelled_there() -> (
    None
):
    notes: list[str] = []

    async def body() -> None:
        with anyio.CancelScope(shield=True):
            await asyncio.sleep(2)
        try:
            async with Scheduler():
                notes.append("entered")
        except asyncio.CancelledError:
            notes.append("cancelled")
            raise

    job = Job(body)
    assert ended_at(Scheduler(job, Job(later, 1, job.cancel)).co_run) == 2
    assert (notes, job.state) == (["cancelled"], CANCELLED)


@pytest.mark.fast_way  # a shield of anyio does not hold with direct isolation
def test_causes_that_come_while_a_job_is_in_a_shield_are_one() -> None:
    """A timeout and the end of the run, both while the job is in a shield, cancel it once, and it is CANCELLED."""
    careful = Careful()

    async def body() -> None:
        with anyio.CancelScope(shield=True):
            await asyncio.sleep(10)
        await careful()

    job = Job(body, timeout=1)
    assert ended_at(Scheduler(job, timeout=2).co_run) == 18
    assert (careful.cancelled_at, careful.tidied_at) == ([10], [18])
    assert job.state is CANCELLED


def test_asyncio_shield_holds_as_with_asyncio_timeout() -> None:
    """What a cancelled job awaits in `asyncio.shield` goes on, and the job is cancelled at once."""
    shielded = Careful()
    tasks: list[Any] = []

    async def body() -> None:
        tasks.append(asyncio.create_task(shielded()))
        await asyncio.shield(tasks[0])

    async def main() -> None:
        await Scheduler(Job(body, timeout=1)).co_run()
        assert now() == 1
        assert not tasks[0].cancelling()
        tasks[0].cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await tasks[0]

    run_virtual(main, backend="asyncio")


@pytest.mark.fast_way  # a shield of anyio does not hold with direct isolation
def test_tasks_outside_the_shield_of_a_cancelled_job_go_on() -> None:
    notes: list[float] = []

    async def child(done: anyio.Event) -> None:
        await anyio.sleep(5)
        notes.append(now())
        done.set()

    async def body() -> None:
        done = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(child, done)
            with anyio.CancelScope(shield=True):
                await done.wait()
            await anyio.sleep(3600)

    job = Job(body, timeout=1)
    assert ended_at(Scheduler(job).co_run) == 5
    assert notes == [5]
    assert isinstance(job.raised_exception(), JobTimeout)


@pytest.mark.parametrize("cause", ["timeout", "cancel"])
def test_a_thread_job_whose_time_is_over_when_its_thread_ends_has_not_succeeded(
    cause: str,
) -> None:
    """A thread is a shield; a job that was cancelled meanwhile does not succeed with its value."""
    begun = asyncio.Event()

    def work() -> str:
        anyio.from_thread.run_sync(begun.set)
        anyio.from_thread.run(anyio.sleep, 0.05)
        return "late"

    async def cancel() -> None:
        await begun.wait()
        job.cancel()

    job = ThreadJob(work, timeout=0.001 if cause == "timeout" else None)
    Scheduler(job, *([Job(cancel)] if cause == "cancel" else [])).run(backend="asyncio")
    assert job.state is (FAILED if cause == "timeout" else CANCELLED)


@pytest.mark.fast_way  # a shield of anyio does not hold with direct isolation
def test_a_shield_that_is_left_at_the_end_of_a_job_holds_for_the_next_one() -> None:
    """A cancellation that a job never receives, because it ends in its shield, reaches no later job."""

    async def body() -> str:
        with anyio.CancelScope(shield=True):
            await asyncio.sleep(2)
        return "whole"

    jobs = [
        Job(body, timeout=1),
        Job(body, timeout=1, retry=1),
        Job(body),
        Job(body, timeout=9),
    ]
    jobs.append(Job(nap, 1, "after"))
    assert (
        ended_at(Scheduler(Sequence(*jobs), Job(later, 5, jobs[2].cancel)).co_run) == 9
    )
    assert [job.result() for job in jobs] == ["whole"] * 4 + ["after"]


@pytest.mark.fast_way  # asyncio delivers it before Python 3.13
def test_a_cancellation_that_an_attempt_never_received_does_not_reach_the_next_attempt() -> (
    None
):
    """An attempt that fails at the end of its shield, after its timeout, is retried as if it had not timed out."""
    attempts: list[float] = []

    async def body() -> str:
        attempts.append(anyio.current_time())
        if len(attempts) == 1:
            with anyio.CancelScope(shield=True):
                await asyncio.sleep(2)
            raise OSError("broken")
        await anyio.sleep(0.5)
        await anyio.lowlevel.checkpoint_if_cancelled()
        return "whole"

    job = Job(body, timeout=1, retry=1)
    assert ended_at(Scheduler(job).co_run) == 2.5
    assert (job.result(), attempts) == ("whole", [0, 2])


def test_a_clean_up_job_that_is_cancelled_before_its_first_step_is_cancelled_at_its_first_await() -> (
    None
):
    notes: list[float] = []

    async def tidy() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(1)
            notes.append(now())

    async def main() -> None:
        bad = Job(fail_at, 1, critical=True)
        scheduler: Any = Scheduler(
            bad, Job(tidy, required=bad, run_if="failed"), cleanup_timeout=1e-9
        )
        await scheduler.co_run()

    assert ended_at(main) == 2 + 1e-9
    assert notes == [2 + 1e-9]


def test_a_thread_that_its_job_has_abandoned_sees_the_cancellation() -> None:
    begun, ended = asyncio.Event(), threading.Event()

    def work() -> None:
        anyio.from_thread.run_sync(begun.set)
        while True:
            try:
                anyio.from_thread.check_cancelled()
            except BaseException:
                ended.set()
                return
            time.sleep(0.001)

    async def cancel() -> None:
        await begun.wait()
        job.cancel()

    job = ThreadJob(work, abandon_on_cancel=True)
    assert Scheduler(job, Job(cancel)).run(backend="asyncio")
    assert job.state is CANCELLED
    assert ended.wait(60)


# --- what a job opens itself, and what it does with its cancellation
async def in_move_on_after() -> str:
    with anyio.move_on_after(1) as scope:
        await asyncio.sleep(3600)
    return f"moved on {scope.cancelled_caught}"


async def in_asyncio_timeout() -> str:
    try:
        async with asyncio.timeout(1):
            await asyncio.sleep(3600)
    except TimeoutError:
        return "timed out"
    return "no"


async def in_a_task_group() -> str:
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fail_at(1))
            await asyncio.sleep(3600)
    except* OSError:
        pass
    return "group failed"


async def in_a_group_of_anyio() -> str:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(asyncio.sleep, 3600)
        await asyncio.sleep(1)
        tasks.cancel_scope.cancel()
    return "group cancelled"


@pytest.mark.parametrize(
    "own", [in_move_on_after, in_asyncio_timeout, in_a_task_group, in_a_group_of_anyio]
)
@pytest.mark.parametrize(
    "options", [{}, {"timeout": 5}, {"timeout": 5, "retry": OTHER_ERRORS}]
)
def test_what_a_job_opens_behaves_as_in_any_task(
    own: Any, options: dict[str, Any]
) -> None:
    notes: list[Any] = []

    async def body() -> None:
        notes.append(await own())
        try:
            await asyncio.sleep(3600)
        finally:
            notes.append(await own())

    async def plainly() -> tuple[str, float]:
        return await own(), now()

    job = Job(body, **options)
    expected, seconds = run_virtual(plainly, backend="asyncio")
    scheduler = Scheduler(job) if options else Scheduler(job, Job(later, 5, job.cancel))
    assert ended_at(scheduler.co_run) == 5 + seconds
    assert notes == [expected, expected]
    assert job.state is (FAILED if options else CANCELLED)


@pytest.mark.parametrize("own_task", [False, True])
@pytest.mark.parametrize("options", [{"timeout": 1}, {"idle_timeout": 1}, {}], ids=str)
def test_a_job_that_catches_its_only_cancellation_and_returns_has_succeeded(
    own_task: bool, options: dict[str, Any]
) -> None:
    async def swallow() -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        await asyncio.sleep(4)
        return "swallowed"

    async def look() -> int:
        count: int = task_now().cancelling()
        await asyncio.sleep(1)
        return count

    job, after = Job(swallow, own_task=own_task, **options), Job(look)
    scheduler = Scheduler(
        Sequence(job, after), Job(later, 1, (lambda: None) if options else job.cancel)
    )
    assert ended_at(scheduler.co_run) == 6
    assert (job.result(), after.result()) == ("swallowed", 0)


def test_a_retry_after_a_timeout_begins_with_no_cancellation() -> None:
    """Each attempt is cancelled once at its own timeout, in a task without requests of earlier attempts."""
    counts: list[int] = []
    bodies = [Careful(), Careful()]

    async def work() -> None:
        counts.append(task_now().cancelling())
        await bodies[len(counts) - 1]()

    job = Job(work, timeout=1, retry=1)
    assert ended_at(Scheduler(job).co_run) == 18
    assert counts == [0, 0]
    assert [body.cancelled_at for body in bodies] == [[1], [10]]
    assert isinstance(job.raised_exception(), JobTimeout)


def test_uncancel_in_a_job_is_its_own_affair() -> None:
    async def back() -> int:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        assert task_now().uncancel() == 0
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.sleep(1))
        return 1

    jobs = [Job(back), Job(back, timeout=2), Job(nap, 1, 2)]
    assert (
        ended_at(Scheduler(Sequence(*jobs), Job(later, 1, jobs[0].cancel)).co_run) == 6
    )
    assert [job.result() for job in jobs] == [1, 1, 2]


def test_a_job_that_cancels_itself_is_cancelled_at_its_next_await() -> None:
    notes: list[Any] = []

    async def work() -> None:
        job.cancel()
        notes.append("goes on")
        try:
            await asyncio.sleep(0)
        finally:
            await asyncio.sleep(1)
            notes.append("tidied")

    job: Job[None] = Job(work)
    assert ended_at(Scheduler(job).co_run) == 1
    assert notes == ["goes on", "tidied"]
    assert job.state is CANCELLED


def test_a_time_limit_of_a_kind_cancels_its_body_once() -> None:
    body = Careful()

    class Limited(AbstractJob[None], keeps_time=True):
        async def co_run(self) -> None:
            with run_of(self).time_limit(self, cancels=True):
                await body()

    job = Limited(timeout=1)
    assert ended_at(Scheduler(job).co_run) == 9
    assert (body.cancelled_at, body.tidied_at) == ([1], [9])
    assert isinstance(job.raised_exception(), JobTimeout)


# --- done callbacks
@pytest.mark.parametrize("factory", [False, True])
def test_a_done_callback_that_a_job_adds_to_its_task_is_called_after_the_job(
    factory: bool,
) -> None:
    called: list[str] = []

    async def add(name: str) -> None:
        task_now().add_done_callback(lambda _: called.append(name))
        await asyncio.sleep(0)

    jobs = [
        Job(add, "a"),
        Job(later, 1, called.copy),
        Job(add, "b"),
        Job(later, 1, called.copy),
    ]

    async def main() -> None:
        if factory:

            def make(loop: Any, coroutine: Any, **options: Any) -> Any:
                return asyncio.Task(coroutine, loop=loop, **options)

            asyncio.get_running_loop().set_task_factory(make)
        assert await Scheduler(Sequence(*jobs)).co_run(check=True)

    run_virtual(main, backend="asyncio")
    assert [job.result() for job in jobs] == [None, ["a"], None, ["a", "b"]]
