"""The clean-up phase: after a critical failure or a timeout, jobs with `run_if="failed"` still run.

When which of them run, and how long, also in nested schedulers, is predicted by `tests/model`.
"""

import contextvars
import logging
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from trioflow import AbstractJob, Job, Scheduler, StopReason, current_job, ref
from ..bodies import CANCELLED, FAILED, IDLE, SUCCEEDED, Actor, alarm, at_once, bad, fail_now, nap, shut_down, timed
from ..conftest import Virtual

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="default")


def test_clean_up_job_runs_after_a_critical_failure(virtual: Virtual) -> None:
    critical = bad()
    cleaning = alarm(critical, 2, kwargs={"value": "clean"})
    scheduler = Scheduler(critical, cleaning, Job(nap, 9))
    assert virtual(timed, scheduler) == (False, 3)
    assert scheduler.stop_reason is StopReason.CRITICAL
    assert scheduler.culprit is critical
    assert cleaning.result() == "clean"
    assert (cleaning.started_at, cleaning.finished_at) == (1, 3)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_no_clean_up_after_an_interruption(virtual: Virtual, kind: type[BaseException]) -> None:
    job = Job(fail_now, kind(), critical=True)
    cleaning = alarm(job)
    scheduler = Scheduler(job, cleaning)
    with pytest.raises(kind):
        virtual(scheduler.co_run)
    assert scheduler.stop_reason is StopReason.INTERRUPTED
    assert cleaning.state is IDLE


def test_no_clean_up_after_an_error_in_an_open_block(virtual: Virtual) -> None:
    """An exception in the body of `async with` cancels the run, and starts no clean-up."""
    job = Job(nap, 9)
    cleaning = alarm(job)

    async def main() -> None:
        async with Scheduler(job, cleaning):
            await anyio.sleep(1)
            raise LookupError

    with pytest.raises(LookupError):
        virtual(main)
    assert cleaning.state is IDLE


def test_clean_up_job_may_have_inputs(virtual: Virtual) -> None:
    """Clean-up jobs get results of jobs that succeeded, and failed jobs by `ref`; an input that failed blocks them."""
    critical, name = bad(), Job(nap, 0, "name")

    async def tell(name: str, job: AbstractJob[Any]) -> str:
        return f"{name}: {job.raised_exception()}"

    telling = Job(tell, name, ref(critical), required=critical, run_if="failed")
    blocked = Job(tell, critical, None, run_if="failed")
    assert virtual(timed, Scheduler(telling, blocked, critical)) == (False, 1)
    assert telling.result() == "name: broken"
    assert blocked.started_at is None


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("is_reached", [True, False])
@pytest.mark.parametrize("is_critical", [True, False])
def test_clean_up_counts_blocked_as_failed(virtual: Virtual, is_critical: bool, is_reached: bool, depth: int) -> None:
    """A critical job BLOCKED because a critical failure or the timeout cut off its input ends its clean-up group."""
    cut_off = Job(nap, 9, required=() if is_reached else (before := Job(nap, 9)))
    around = cut_off if is_reached else Scheduler(before, cut_off)
    for _ in range(depth):
        around = Scheduler(around)
    blocked, long = Job(nap, cut_off, critical=True), Job(nap, 4)
    group = Scheduler(blocked, long, required=around, run_if="failed")
    scheduler = Scheduler(around, group, bad(critical=is_critical), timeout=2)
    assert virtual(timed, scheduler) == (False, 1 if is_critical else 2)
    assert scheduler.stop_reason is (StopReason.CRITICAL if is_critical else StopReason.TIMEOUT)
    assert (group.stop_reason, group.culprit, group.state) == (StopReason.CRITICAL, blocked, FAILED)
    assert long.state is not SUCCEEDED


@pytest.mark.fast_way("asyncio")  # with direct isolation, a shield of anyio does not hold
@pytest.mark.parametrize("seconds", [0, 3])
def test_what_cancel_had_blocked_before_the_stop_is_no_failure_in_the_clean_up(virtual: Virtual, seconds: int) -> None:
    async def unwinds() -> None:
        try:
            await anyio.sleep(9)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(seconds)

    cancelled = Job(unwinds)
    blocked, long = Job(nap, cancelled, critical=True), Job(nap, 4)
    group = Scheduler(blocked, long, required=cancelled, run_if="failed")
    critical = bad()
    group.requires(critical)
    assert virtual(timed, Scheduler(cancelled, Job(at_once, cancelled.cancel), critical, group)) == (
        False,
        max(1, seconds) + 4,
    )
    assert (group.stop_reason, long.state) == (StopReason.COMPLETED, SUCCEEDED)


def test_a_thousand_chained_clean_up_jobs_run(virtual: Virtual) -> None:
    critical = bad()
    scheduler = Scheduler(critical)
    last: Job[Any] | None = None
    for _ in range(1000):
        last = scheduler.add(alarm([critical, last], 0))
    assert virtual(timed, scheduler) == (False, 1)
    assert last is not None
    assert last.state is SUCCEEDED


def test_clean_up_job_has_its_own_context_and_current_job(virtual: Virtual) -> None:
    async def look() -> tuple[str, str]:
        seen = variable.get()
        variable.set("changed")
        await anyio.lowlevel.checkpoint()
        return current_job().label, seen

    async def spoil() -> None:
        variable.set("spoiled")
        raise OSError

    critical = Job(spoil, critical=True)
    first, second = (Job(look, required=critical, run_if="failed", label=label) for label in ("first", "second"))
    third = Job(look, required=[critical, first], run_if="failed", label="third")

    async def main() -> None:
        variable.set("of the caller")
        await Scheduler(critical, first, second, third).co_run()

    virtual(main)
    assert [job.result() for job in (first, second, third)] == [
        (label, "of the caller") for label in ("first", "second", "third")
    ]


@pytest.mark.fast_way  # with direct isolation, what is left open is not closed
def test_scope_left_open_by_a_clean_up_job_fails_only_this_job(virtual: Virtual) -> None:
    critical = bad()
    job = Job(at_once, lambda: anyio.CancelScope().__enter__(), required=critical, run_if="failed")
    beside = alarm(critical)
    assert virtual(timed, Scheduler(critical, job, beside)) == (False, 2)
    assert (job.state, beside.state) == (FAILED, SUCCEEDED)
    assert "cancel scope still open" in str(job.raised_exception())


def test_job_of_a_coroutine_object_may_clean_up(virtual: Virtual) -> None:
    critical = bad()
    job = Job(nap(1, "clean"), required=critical, run_if="failed")
    assert virtual(timed, Scheduler(critical, job)) == (False, 2)
    assert job.result() == "clean"
    unused = Scheduler(Job(nap(1), run_if="failed"))
    assert virtual(unused.co_run) is True
    unused.close()


def test_interruption_in_a_clean_up_job_is_raised_after_the_shutdown(virtual: Virtual) -> None:
    """SystemExit from a clean-up job is raised after the shutdown, and leaves the stop reason unchanged."""
    told: list[tuple[str, float]] = []
    critical = bad()
    scheduler = Scheduler(
        critical,
        Job(fail_now, SystemExit(3), required=critical, run_if="failed"),
        Actor(told, label="actor", seconds=0),
    )
    with pytest.raises(SystemExit):
        virtual(scheduler.co_run)
    assert scheduler.stop_reason is StopReason.CRITICAL
    assert shut_down(told) == ["actor"]


def test_no_job_can_be_added_during_the_clean_up(virtual: Virtual) -> None:
    async def meddle() -> None:
        with pytest.raises(RuntimeError, match="stopping"):
            scheduler.add(Job(nap))

    critical = bad()
    job = Job(meddle, required=critical, run_if="failed")
    scheduler = Scheduler(critical, job)
    assert virtual(timed, scheduler) == (False, 1)
    job.result()


def test_clean_up_that_ends_in_time_is_not_logged(virtual: Virtual, caplog: pytest.LogCaptureFixture) -> None:
    critical = bad()
    with caplog.at_level(logging.WARNING, "trioflow"):
        assert virtual(timed, Scheduler(critical, alarm(critical, 4))) == (False, 5)
    assert not [record for record in caplog.records if "is still running" in record.getMessage()]


def test_a_clean_up_job_that_ends_as_its_time_is_up_is_cancelled(virtual: Virtual) -> None:
    fails = bad()
    other, clean = (Job(nap, seconds, required=fails, run_if="failed") for seconds in (1, 2))
    assert not virtual(Scheduler(fails, other, clean, cleanup_timeout=2).co_run)
    assert clean.state is CANCELLED


def test_cleanup_timeout_is_five_seconds_by_default_and_none_is_no_limit(virtual: Virtual) -> None:
    for seconds, options in (6, {}), (100, {"cleanup_timeout": None}):
        critical = bad()
        assert virtual(timed, Scheduler(critical, alarm(critical, 99), **options)) == (False, seconds)


@pytest.mark.fast_way("asyncio")  # a shield of anyio does not hold there with direct isolation
@pytest.mark.parametrize("nested", [False, True])
def test_clean_up_job_that_ignores_its_cancellation_is_logged_with_its_stack(
    virtual: Virtual, caplog: pytest.LogCaptureFixture, nested: bool
) -> None:
    """A clean-up job that still runs a second after its cancellation is logged once, with its stack."""

    async def stays() -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(9)

    critical = bad()
    job: Any = Job(stays, label="stubborn")
    job = Scheduler(job) if nested else job
    job.requires(critical)
    job.run_if = "failed"
    with caplog.at_level(logging.WARNING, "trioflow"):
        assert virtual(timed, Scheduler(critical, job, cleanup_timeout=2)) == (False, 10)
    told = [record.getMessage() for record in caplog.records if "is still running" in record.getMessage()]
    assert len(told) == 1
    assert "'stubborn' was cancelled 1 s ago" in told[0]
    assert "in stays" in told[0]


def test_cancelled_scope_around_the_run_takes_effect_after_the_clean_up(virtual: Virtual) -> None:
    critical = bad()
    cleaning = alarm(critical, 3)
    scheduler = Scheduler(critical, cleaning)

    async def main() -> tuple[bool, float]:
        with anyio.move_on_after(2) as scope:
            await scheduler.co_run()
            await anyio.sleep(99)
        return scope.cancelled_caught, anyio.current_time()

    assert virtual(main) == (True, 4)
    assert cleaning.state is SUCCEEDED
    assert scheduler.stop_reason is StopReason.CRITICAL


def test_a_forever_job_is_no_clean_up_job(virtual: Virtual) -> None:
    """Clean-up waits for its jobs; a forever job with the same rule would take all of `cleanup_timeout`."""
    critical = bad()
    watch = Job(anyio.sleep_forever, run_if="failed", required=critical, forever=True)
    cleaning = alarm(critical, 2)
    scheduler = Scheduler(critical, watch, cleaning)
    assert virtual(timed, scheduler) == (False, 3)
    assert (watch.state, cleaning.state, scheduler.stop_reason) == (IDLE, SUCCEEDED, StopReason.CRITICAL)
