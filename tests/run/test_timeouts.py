"""Timeouts of schedulers and of jobs: fail, be retried, move_on; nested schedulers, each of whose attempts is a run."""

from __future__ import annotations

import contextlib
import functools
import gc
import inspect
import math
import runpy
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
import trio

from trioflow import AbstractJob, Job, JobTimeout, Retry, Scheduler, StopReason
from trioflow._core.base._user_code import library_prefixes

from ..bodies import CANCELLED, FAILED, IDLE, SUCCEEDED, nap, timed

if TYPE_CHECKING:
    from ..conftest import Virtual


class Slower(AbstractJob[int]):
    """A job that takes a second less at each call, from `first` on, and counts its calls and shutdowns."""

    def __init__(self, first: float, **options: Any) -> None:
        super().__init__(**options)
        self.first = first
        self.calls = self.shutdowns = 0

    async def co_run(self) -> int:
        self.calls += 1
        await anyio.sleep(max(0, self.first - self.calls + 1))
        return self.calls

    async def co_shutdown(self) -> None:
        self.shutdowns += 1


# --- jobs


def test_job_timeout_fails_the_job(virtual: Virtual) -> None:
    """By default a job that times out fails with JobTimeout, a TimeoutError that names the job and the timeout."""
    job = Job(nap, 5, timeout=2, label="slow")
    after = Job(nap, 1, required=job, run_if="settled")
    scheduler = Scheduler(job, after)
    assert virtual(timed, scheduler) == (False, 3)
    assert job.state is FAILED
    assert job.timed_out is True
    assert job.elapsed == 2
    with pytest.raises(JobTimeout, match=r"'slow'.*2 s") as caught:
        job.result()
    assert isinstance(caught.value, TimeoutError)
    assert scheduler.timed_out is False


def test_job_timeout_may_be_critical(virtual: Virtual) -> None:
    """A timeout of a critical job is a critical failure like any other."""
    job = Job(nap, 5, timeout=2, critical=True)
    scheduler = Scheduler(job, Job(nap, 9))
    assert virtual(timed, scheduler) == (False, 2)
    assert scheduler.stop_reason is StopReason.CRITICAL
    assert scheduler.culprit is job


def test_job_within_its_timeout_succeeds(virtual: Virtual) -> None:
    """A job that ends within its timeout succeeds as without one."""
    job = Job(nap, 1, "in time", timeout=2)
    assert virtual(timed, Scheduler(job)) == (True, 1)
    assert job.result() == "in time"
    assert job.timed_out is False


def test_waiting_for_a_slot_does_not_count_for_the_timeout(virtual: Virtual) -> None:
    """A job's timeout covers the calls of `co_run`, not the time for which the job waits for a slot."""
    job = Job(nap, 1, "in time", timeout=2)
    assert virtual(timed, Scheduler(Job(nap, 5), job, jobs_window=1)) == (True, 6)
    assert job.result() == "in time"


def test_move_on_succeeds_with_none(virtual: Virtual) -> None:
    """With `on_timeout="move_on"`, a job that times out is SUCCEEDED with None, and `timed_out` is True."""
    job = Job(nap, 5, "never", timeout=2, on_timeout="move_on", critical=True)
    assert virtual(timed, Scheduler(job)) == (True, 2)
    assert job.state is SUCCEEDED
    assert job.result() is None
    assert job.timed_out is True
    assert job.raised_exception() is None


def test_a_timeout_is_retried(virtual: Virtual) -> None:
    """A `Retry` of timeouts calls `co_run` again, and `started_at` and `elapsed` are those of all attempts."""
    job = Slower(4, timeout=2.5, retry=Retry(None, first=0, on=JobTimeout))
    assert virtual(timed, Scheduler(job)) == (True, 2.5 + 2.5 + 2)
    assert job.result() == 3
    assert job.calls == 3
    assert job.attempts == 3
    assert job.timed_out is True
    assert job.started_at == 0
    assert job.elapsed == 7
    assert job.shutdowns == 1


@pytest.mark.parametrize("times", [0, 1, 2])
def test_a_timeout_is_retried_a_limited_number_of_times(virtual: Virtual, times: int) -> None:
    """A job fails at its next timeout when it has been retried `times` times."""
    job = Slower(100, timeout=2, retry=Retry(times, first=0, on=JobTimeout), label="slow")
    assert virtual(timed, Scheduler(job)) == (False, 2 * (times + 1))
    assert job.calls == job.attempts == times + 1
    assert job.state is FAILED
    assert isinstance(job.raised_exception(), JobTimeout)


def test_retries_without_limit_end_with_the_run(virtual: Virtual) -> None:
    """A job that is retried forever is ended by the run's timeout."""
    job = Slower(1e9, timeout=1, retry=Retry(None, first=0, on=JobTimeout))
    assert virtual(functools.partial(timed, Scheduler(job), timeout=10.5)) == (False, 10.5)
    assert job.calls == 11
    assert job.state is CANCELLED


def test_a_retry_without_a_pause_gets_the_next_slot(virtual: Virtual) -> None:
    """A job that is retried at once is the first of the ready jobs, so others wait."""
    job = Slower(3, timeout=2.5, retry=Retry(None, first=0, on=JobTimeout))
    other = Job(nap, 1)
    assert virtual(timed, Scheduler(job, other, jobs_window=1)) == (True, 5.5)
    assert other.started_at == 4.5


@pytest.mark.parametrize("on_timeout", ["fail", "move_on"])
def test_job_that_catches_its_cancellation_and_returns_has_succeeded(virtual: Virtual, on_timeout: Any) -> None:
    """A job that catches its timeout's cancellation and returns has succeeded, whatever `on_timeout` says."""

    async def stubborn() -> str:
        try:
            await anyio.sleep(10)
        except BaseException:
            return "rescued"
        return "whole"

    job = Job(stubborn, timeout=1, on_timeout=on_timeout)
    assert virtual(timed, Scheduler(job)) == (True, 1)
    assert job.result() == "rescued"


@pytest.mark.parametrize("on_timeout", ["fail", "move_on"])
def test_job_that_raises_at_its_timeout_fails_with_that_exception(virtual: Virtual, on_timeout: Any) -> None:
    """A job that raises an error of its own when its timeout cancels it fails with that, whatever `on_timeout` says."""

    async def clumsy() -> None:
        try:
            await anyio.sleep(10)
        finally:
            raise OSError("while unwinding")

    job = Job(clumsy, timeout=1, on_timeout=on_timeout)
    assert virtual(timed, Scheduler(job)) == (False, 1)
    assert isinstance(job.raised_exception(), OSError)


def test_job_cut_inside_its_own_nursery_fails_with_job_timeout(virtual: Virtual) -> None:
    """A job that times out inside a nursery of its own fails with JobTimeout itself, not with a group."""

    async def nursery() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep, 10)
            await anyio.sleep(10)

    job = Job(nursery, timeout=1)
    assert virtual(timed, Scheduler(job)) == (False, 1)
    assert isinstance(job.raised_exception(), JobTimeout)


def test_timeout_error_raised_by_the_body_is_an_ordinary_failure(virtual: Virtual) -> None:
    """A TimeoutError, or another object's JobTimeout, that a body raises is an ordinary failure, not a timeout."""

    async def inside() -> None:
        with anyio.fail_after(0.5):
            await anyio.sleep(10)

    async def run_another() -> None:
        await Scheduler(Job(nap, 5)).co_run(timeout=1, check=True)

    jobs = [
        Job(inside, timeout=2, retry=Retry(None, first=0, on=JobTimeout)),
        Job(run_another, timeout=2, on_timeout="move_on"),
    ]
    assert virtual(timed, Scheduler(*jobs)) == (False, 1)
    assert [type(job.raised_exception()) for job in jobs] == [TimeoutError, JobTimeout]
    assert [job.timed_out for job in jobs] == [False, False]


def test_forever_job_fails_at_its_timeout(virtual: Virtual) -> None:
    """A forever job fails at its timeout, and the run goes on."""
    monitor = Job(nap, 100, forever=True, timeout=1)
    assert virtual(timed, Scheduler(monitor, Job(nap, 3))) == (False, 3)
    assert monitor.state is FAILED
    assert isinstance(monitor.raised_exception(), JobTimeout)


def test_timeout_between_runs_may_be_changed(virtual: Virtual) -> None:
    """`job.timeout` may be changed between runs, and the next run applies it."""
    job = Job(nap, 2)
    scheduler = Scheduler(job)
    job.timeout = 1
    virtual(scheduler.co_run)
    assert job.state is FAILED
    job.timeout = None
    virtual(scheduler.co_run)
    assert job.state is SUCCEEDED
    with pytest.raises(ValueError, match="timeout"):
        job.timeout = 0


# --- schedulers


def test_scheduler_timeout_cancels_jobs_and_forever_jobs(virtual: Virtual) -> None:
    """A run's timeout cancels all jobs that run or wait, forever jobs included; those not reached stay IDLE."""
    jobs = [Job(nap, 9), Job(nap, 9), Job(nap, 9, forever=True)]
    never = Job(nap, required=jobs[0])
    scheduler = Scheduler(*jobs, never, jobs_window=1, timeout=2)
    assert virtual(timed, scheduler) == (False, 2)
    assert [job.state for job in scheduler] == [CANCELLED, CANCELLED, CANCELLED, IDLE]


def test_nested_timeout_fails_the_nested_scheduler(virtual: Virtual) -> None:
    """A nested scheduler that times out fails with JobTimeout, like a job, and the outer run continues."""
    cut = Job(nap, 5)
    inner = Scheduler(cut, timeout=2, label="inner")
    after = Job(nap, 1, required=inner, run_if="settled")
    outer = Scheduler(inner, after)
    assert virtual(timed, outer) == (False, 3)
    assert (inner.state, cut.state) == (FAILED, CANCELLED)
    assert inner.stop_reason is StopReason.TIMEOUT
    assert inner.timed_out is True
    with pytest.raises(JobTimeout, match="'inner'"):
        inner.result()
    assert outer.timed_out is False


def test_nested_timeout_may_be_critical(virtual: Virtual) -> None:
    """A nested scheduler that times out is a critical failure or not by its own setting."""
    inner = Scheduler(Job(nap, 5), timeout=2, critical=True)
    outer = Scheduler(inner, Job(nap, 9))
    assert virtual(timed, outer) == (False, 2)
    assert outer.stop_reason is StopReason.CRITICAL
    assert outer.culprit is inner


def test_nested_scheduler_with_move_on_succeeds_at_its_timeout(virtual: Virtual) -> None:
    """A nested scheduler that moves on at its timeout is SUCCEEDED with None, and `timed_out` is True."""
    cut = Job(nap, 5)
    inner = Scheduler(cut, timeout=2, on_timeout="move_on")
    outer = Scheduler(inner, critical_jobs=True)
    assert virtual(timed, outer) == (True, 2)
    assert inner.state is SUCCEEDED
    assert inner.result() is None
    assert inner.timed_out is True
    assert cut.state is CANCELLED


def test_a_retry_of_a_nested_scheduler_is_a_new_run_each_time(virtual: Virtual) -> None:
    """Each attempt of a nested scheduler is a run, in which its jobs are reset, run and shut down."""
    quick, slow = Slower(1, label="quick"), Slower(4, label="slow")
    after = Job(nap, 0, required=[quick])
    inner = Scheduler(quick, slow, after, timeout=2.5, retry=Retry(None, first=0, on=JobTimeout))
    outer = Scheduler(inner)
    assert virtual(timed, outer) == (True, 7)
    assert inner.result() is True
    assert (slow.calls, slow.shutdowns) == (3, 3)
    assert (quick.calls, quick.shutdowns) == (3, 3)
    assert slow.result() == 3
    assert (slow.attempts, inner.attempts) == (1, 3)
    assert slow.started_at == 5
    assert inner.started_at == 0
    assert inner.timed_out is True
    assert inner.stop_reason is StopReason.COMPLETED


def test_retries_of_a_nested_scheduler_are_limited(virtual: Virtual) -> None:
    """A nested scheduler fails at its next timeout when its retries are used up."""
    inner = Scheduler(Job(nap, 9), timeout=2, retry=Retry(1, first=0, on=JobTimeout))
    assert virtual(timed, Scheduler(inner)) == (False, 4)
    assert inner.state is FAILED
    assert isinstance(inner.raised_exception(), JobTimeout)


def test_a_nested_scheduler_that_is_retried_gets_the_next_slot(virtual: Virtual) -> None:
    """A nested scheduler that is retried at once is the first of the ready jobs of its parent."""
    inner = Scheduler(Slower(3), timeout=2.5, retry=Retry(None, first=0, on=JobTimeout))
    other = Job(nap, 1)
    assert virtual(timed, Scheduler(inner, other, jobs_window=1)) == (True, 5.5)
    assert other.started_at == 4.5


def test_a_retry_of_timeouts_ignores_critical_failures(virtual: Virtual) -> None:
    """A nested scheduler with a `Retry` of timeouts is not retried after a critical failure."""
    calls: list[float] = []

    async def fail() -> None:
        calls.append(anyio.current_time())
        raise OSError

    inner = Scheduler(Job(fail, critical=True), timeout=2, retry=Retry(None, first=0, on=JobTimeout))
    assert virtual(timed, Scheduler(inner, critical_jobs=False)) == (True, 0)
    assert calls == [0]
    assert isinstance(inner.raised_exception(), ExceptionGroup)


def test_timeout_of_a_critical_job_is_no_timeout_of_its_nested_scheduler(virtual: Virtual) -> None:
    """A critical job that times out fails its nested scheduler, whose own `timed_out` stays False."""
    job = Job(nap, 9, timeout=1, critical=True)
    inner = Scheduler(job, timeout=5)
    assert virtual(timed, Scheduler(inner, critical_jobs=False)) == (True, 1)
    assert inner.state is FAILED
    assert inner.timed_out is False
    assert inner.stop_reason is StopReason.CRITICAL
    assert inner.raised_exception().exceptions == (job.raised_exception(),)  # type: ignore[union-attr]


def test_outer_timeout_cancels_the_inner_run(virtual: Virtual) -> None:
    """A nested scheduler that the outer timeout ends is CANCELLED, and so is the stop reason of its run."""
    job = Job(nap, 9)
    inner = Scheduler(job, timeout=5, retry=Retry(None, first=0, on=JobTimeout))
    outer = Scheduler(inner, timeout=2)
    assert virtual(timed, outer) == (False, 2)
    assert (inner.state, job.state) == (CANCELLED, CANCELLED)
    assert inner.stop_reason is StopReason.CANCELLED
    assert outer.stop_reason is StopReason.TIMEOUT


def test_timeout_just_after_the_end_does_not_affect_the_run(virtual: Virtual) -> None:
    """A timeout just after the end of a run does not affect it."""
    scheduler = Scheduler(Job(nap, 1), timeout=1.25)
    assert virtual(timed, scheduler) == (True, 1)
    assert scheduler.timed_out is False


@pytest.mark.parametrize("make", [lambda: Job(nap, 9), lambda: Scheduler(Job(nap, 9))])
def test_run_ends_at_its_timeout_however_deep_the_running_jobs_are(virtual: Virtual, make: Callable[[], Any]) -> None:
    """A run ends exactly at its timeout, however deeply the running jobs are nested."""
    scheduler = Scheduler(Scheduler(make(), make()), make(), jobs_window=1, timeout=0.5)
    assert virtual(timed, scheduler) == (False, 0.5)


@pytest.mark.fast_way  # in plain isolation on asyncio, jobs do not see it
def test_effective_deadline_in_a_job_is_that_of_its_run(virtual: Virtual) -> None:
    """The deadline that a job sees through anyio is that of its run."""

    async def ask() -> float:
        return anyio.current_effective_deadline()

    job = Job(ask)
    virtual(Scheduler(job, timeout=20).co_run)
    assert job.result() == 20


async def asks() -> float:
    return anyio.current_effective_deadline()


@pytest.mark.fast_way  # in plain isolation on asyncio, jobs do not see it
def test_effective_deadline_in_a_job_is_its_own_if_that_is_earlier(virtual: Virtual) -> None:
    """A job sees its own deadline through anyio if that is earlier than the run's; the next job does not see it."""
    first = Job(asks, timeout=5)
    second = Job(asks, required=first)  # in the same task
    third = Job(asks, timeout=30, required=second)
    virtual(Scheduler(first, second, third, timeout=20).co_run)
    assert (first.result(), second.result(), third.result()) == (5, 20, 20)


def test_each_job_is_cancelled_at_its_own_timeout(virtual: Virtual) -> None:
    """Each job is cancelled at its own timeout, in whatever order the timeouts of jobs begin and end."""
    jobs = [Job(nap, 99, timeout=limit) for limit in (7, 3, 9, 1, 5)]
    first = Job(nap, 0.5)
    late = Job(nap, 99, timeout=2, required=first)
    assert virtual(timed, Scheduler(*jobs, first, late)) == (False, 9)
    assert [job.finished_at for job in (*jobs, late)] == [7, 3, 9, 1, 5, 2.5]
    assert all(job.timed_out for job in jobs)


@pytest.mark.parametrize("limits", [(2, None, 20), (2, 20, None), (20, 2, None), (2, 5, 4), (5, 2, 99), (2, 2, 2)])
def test_a_job_is_not_cancelled_by_the_deadline_of_a_job_before_it(
    virtual: Virtual, limits: tuple[float | None, ...]
) -> None:
    """A job is cancelled only at its own deadline, not at that of a job that ran in the same task before."""
    quick = Job(nap, 1, timeout=limits[0])
    job = Job(nap, 3, timeout=limits[1], required=quick)
    late = Job(nap, 99, timeout=limits[2] or 30, required=job, run_if="settled")
    virtual(Scheduler(quick, job, late, jobs_window=1).co_run)
    lasts = 2 if limits[1] == 2 else 3
    assert (quick.finished_at, quick.timed_out) == (1, False)
    assert (job.finished_at, job.timed_out) == (1 + lasts, lasts == 2)
    assert (late.finished_at, late.timed_out) == (1 + lasts + (limits[2] or 30), True)


def test_a_run_leaves_no_deadline_behind() -> None:
    """After a run, trio's loop holds no deadline of jobs that ended in time."""

    async def main() -> float:
        assert await Scheduler(*(Job(trio.lowlevel.checkpoint, timeout=100) for _ in range(5))).co_run()
        return trio.lowlevel.current_statistics().seconds_to_next_deadline

    assert trio.run(main) == math.inf


def test_unused_deadlines_do_not_keep_a_run_alive(virtual: Virtual) -> None:
    """A long-lived loop forgets a run when the run is over, not when the timeouts of its jobs would have expired."""

    async def main() -> object:
        scheduler = Scheduler(*(Job(anyio.lowlevel.checkpoint, timeout=1000) for _ in range(5)))
        assert await scheduler.co_run()
        left = weakref.ref(scheduler)
        del scheduler
        gc.collect()
        return left()

    assert virtual(main) is None


async def slow_to_unwind() -> None:
    """Take three seconds to end after the cancellation."""
    try:
        await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(3)


def test_a_job_that_is_cancelled_after_its_timeout_is_cancelled(virtual: Virtual) -> None:
    """A job that is cancelled while it unwinds after its timeout is CANCELLED, as with an enclosing scope."""

    job = Job(slow_to_unwind, timeout=1)

    async def cancel() -> None:
        await anyio.sleep(2)
        job.cancel()

    scheduler = Scheduler(job, Job(cancel))
    assert virtual(timed, scheduler) == (True, 4)
    assert (job.state, job.timed_out) == (CANCELLED, False)


def test_a_timeout_during_the_unwinding_of_a_cancelled_job_changes_nothing(virtual: Virtual) -> None:
    """A timeout that expires while a cancelled job unwinds changes nothing."""

    job = Job(slow_to_unwind, timeout=2)

    async def cancel() -> None:
        await anyio.sleep(1)
        job.cancel()

    assert virtual(timed, Scheduler(job, Job(cancel))) == (True, 4)
    assert (job.state, job.timed_out) == (CANCELLED, False)


def test_a_job_that_swallows_its_timeout_does_not_affect_its_run(virtual: Virtual) -> None:
    """A job that swallows its timeout and returns has succeeded, and the jobs after it run as usual."""

    async def swallows() -> str:
        with contextlib.suppress(anyio.get_cancelled_exc_class()):
            await anyio.sleep_forever()
        return "swallowed"

    job = Job(swallows, timeout=1)
    after = Job(nap, 1, required=job)
    assert virtual(timed, Scheduler(job, after)) == (True, 2)
    assert (job.result(), after.state) == ("swallowed", SUCCEEDED)


def test_timeouts_of_jobs_that_have_ended_are_forgotten(virtual: Virtual) -> None:
    """A run that stays open keeps nothing of jobs that ended before their timeouts."""

    class Held:
        pass

    async def hold(held: Held) -> None:
        await anyio.lowlevel.checkpoint()

    left = weakref.WeakSet[Held]()

    async def main() -> None:
        async with Scheduler(keep_jobs=False, jobs_window=3) as scheduler:
            for _ in range(300):
                left.add(held := Held())
                job = scheduler.add(Job(hold, held, timeout=1000))
                del held
                await job.wait_settled()
                del job
            gc.collect()
            assert len(left) < 5

    virtual(main)


# ---- where a job was


def decorated(function: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    @functools.wraps(function)
    async def call() -> None:
        await function()

    return call


async def hang() -> None:
    await anyio.sleep_forever()  # here


@pytest.mark.parametrize("options", [{}, {"retry": 1}, {"own_task": True}])
@pytest.mark.parametrize("body", [hang, decorated(hang)], ids=["plain", "decorated"])
def test_the_timeout_error_names_the_line_where_the_job_was(
    virtual: Virtual, body: Callable[[], Awaitable[None]], options: dict[str, Any]
) -> None:
    """The timeout error names the innermost line of the user's code, not a library's or a decorator's."""
    job = Job(body, timeout=1, label="slow", **options)
    assert not virtual(Scheduler(job).co_run)
    error = job.raised_exception()
    assert isinstance(error, JobTimeout)
    number = inspect.getsourcelines(hang)[1] + 1
    assert error.place == f"in hang at test_timeouts.py:{number} (await anyio.sleep_forever()  # here)"
    where = f"it was {error.place}"
    assert str(error) == f"'slow' did not end within its timeout of 1 s; {where}"


@pytest.mark.parametrize("folder", ["site-packages", "dist-packages"])
def test_the_timeout_error_names_no_line_of_a_package_of_the_user_or_the_system(
    virtual: Virtual, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    """In a virtual environment that includes such packages, a line of trio itself was named."""
    package = tmp_path / folder / "package.py"
    package.parent.mkdir()
    package.write_text("import anyio\nasync def wait():\n    await anyio.sleep(9)\n")
    monkeypatch.syspath_prepend(package.parent)
    library_prefixes.cache_clear()
    wait = runpy.run_path(str(package))["wait"]

    async def call() -> None:
        await wait()

    job = Job(call, timeout=1)
    virtual(Scheduler(job).co_run)
    assert "it was in call at test_timeouts.py" in str(job.raised_exception())


def test_the_timeout_error_of_a_job_without_user_code_names_no_line(virtual: Virtual) -> None:
    """The timeout error of a job that runs only library code names no line."""
    job = Job(anyio.sleep, 9, timeout=1, label="slow")
    assert not virtual(Scheduler(job).co_run)
    error = job.raised_exception()
    assert isinstance(error, JobTimeout)
    assert error.place is None
    assert str(error) == "'slow' did not end within its timeout of 1 s"
