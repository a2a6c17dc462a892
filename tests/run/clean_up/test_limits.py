"""The clean-up phase: how long it lasts, and what it does not change."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from trioflow import AbstractJob, Job, JobState, JobTimeout, Pool, Scheduler, Sequence, StopReason
from trioflow.abc import Instrument

from ...bodies import CANCELLED, FAILED, IDLE, RUNNING, SCHEDULED, SUCCEEDED, alarm, bad, fail, timed

if TYPE_CHECKING:
    from ...conftest import Virtual


# --- how long


def test_clean_up_phase_ends_at_cleanup_timeout(virtual: Virtual) -> None:
    """After `cleanup_timeout` seconds, running clean-up jobs are CANCELLED, and no others start."""
    critical = bad()
    endless = alarm(critical, 99)
    second = alarm([critical, endless])
    scheduler = Scheduler(critical, endless, second, cleanup_timeout=3)
    assert virtual(timed, scheduler) == (False, 4)
    assert (endless.state, second.state) == (CANCELLED, IDLE)


def test_cleanup_timeout_is_five_seconds_by_default_and_none_is_no_limit(virtual: Virtual) -> None:
    """Clean-up jobs may take 5 s by default, and any time with `cleanup_timeout=None`."""
    for seconds, options in (6, {}), (100, {"cleanup_timeout": None}):
        critical = bad()
        assert virtual(timed, Scheduler(critical, alarm(critical, 99), **options)) == (False, seconds)


def test_clean_up_job_may_have_its_own_timeout_and_retry(virtual: Virtual) -> None:
    """A clean-up job may have a timeout, a retry and restarts of its own."""
    critical = bad()
    slow = alarm(critical, 9, timeout=1)
    stubborn = Job(fail, 1, required=critical, run_if="failed", retry=2)
    assert virtual(timed, Scheduler(critical, slow, stubborn)) == (False, 4)
    assert isinstance(slow.raised_exception(), JobTimeout)
    assert (stubborn.state, stubborn.attempts) == (FAILED, 3)


def test_clean_up_jobs_do_not_wait_for_their_needs(virtual: Virtual) -> None:
    """Clean-up jobs with needs run at once, each of them once, although other jobs hold the resources."""
    critical = bad()
    needs: list[dict[str, int]] = [{}, {"gpu": 1}, {}, {}, {"gpu": 1}]
    cleaning = [alarm(critical, 2, needs=need) for need in needs]
    waiting = Job(fail, 9, needs={"gpu": 1})
    scheduler = Scheduler(critical, cleaning, waiting, Job(fail, 9, needs={"gpu": 1}), pool=Pool(gpu=1))
    assert virtual(timed, scheduler) == (False, 3)
    assert {(job.state, job.started_at) for job in cleaning} == {(SUCCEEDED, 1)}


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
    """A scope that is cancelled during the clean-up cuts no clean-up job short."""
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


def test_cancel_of_one_clean_up_job_ends_only_this_job(virtual: Virtual) -> None:
    """`cancel()` of one clean-up job ends that job alone, and `cancel()` of the stopping scheduler has no effect."""
    critical = bad()
    one = alarm(critical, 3)
    other = alarm(critical, 3, label="other")

    async def meddle() -> None:
        await anyio.sleep(1)
        one.cancel()
        scheduler.cancel()

    meddling = Job(meddle, required=critical, run_if="failed")
    scheduler = Scheduler(critical, one, other, meddling)
    assert virtual(timed, scheduler) == (False, 4)
    assert (one.state, one.finished_at, other.state) == (CANCELLED, 2, SUCCEEDED)
    assert scheduler.stop_reason is StopReason.CRITICAL


# --- what does not change


def test_failure_of_a_clean_up_job_does_not_change_the_outcome_of_the_run(virtual: Virtual) -> None:
    """A failing clean-up job, critical or not, leaves stop reason, culprit, result and the other jobs as they are."""
    critical = bad()
    failing = Job(fail, 1, OSError("worse"), required=critical, run_if="failed", critical=True)
    beside = alarm(critical, 3)
    scheduler = Scheduler(critical, failing, beside)
    assert virtual(timed, scheduler) == (False, 4)
    assert scheduler.stop_reason is StopReason.CRITICAL
    assert scheduler.culprit is critical
    assert (failing.state, beside.state) == (FAILED, SUCCEEDED)
    with pytest.raises(ExceptionGroup) as caught:
        scheduler.raise_for_failures()
    assert [str(one) for one in caught.value.exceptions] == ["broken", "worse"]


def test_clean_up_jobs_are_reset_for_a_second_run(virtual: Virtual) -> None:
    """A second run resets clean-up jobs like all others, and runs them again."""
    critical = bad()
    cleaning = alarm(Sequence(critical))
    scheduler = Scheduler(critical, cleaning)
    for _ in range(2):
        assert virtual(functools.partial(timed, scheduler)) == (False, 2)
        assert cleaning.state is SUCCEEDED


def test_instruments_see_clean_up_jobs(virtual: Virtual) -> None:
    """Instruments see clean-up jobs scheduled, started and finished, all before `after_run`."""
    told: list[tuple[str, JobState | None]] = []

    class Watch(Instrument):
        def job_scheduled(self, scheduler: Any, job: Any) -> None:
            self.tell("scheduled", job)

        def job_started(self, scheduler: Any, job: Any) -> None:
            self.tell("started", job)

        def job_attempt(self, scheduler: Any, job: Any) -> None:
            self.tell("attempt", job)

        def job_finished(self, scheduler: Any, job: Any) -> None:
            self.tell("finished", job)

        def after_run(self, scheduler: Any) -> None:
            told.append(("after_run", None))

        def tell(self, what: str, job: AbstractJob[Any]) -> None:
            if job is cleaning:
                told.append((what, job.state))

    critical = bad()
    cleaning = alarm(critical)
    assert virtual(timed, Scheduler(critical, cleaning, instruments=[Watch()])) == (False, 2)
    assert told == [
        ("scheduled", SCHEDULED), ("started", RUNNING), ("attempt", RUNNING), ("finished", SUCCEEDED),
        ("after_run", None),
    ]  # fmt: skip
