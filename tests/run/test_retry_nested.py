"""Retry and timeout combined; nested schedulers, each of whose attempts is a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from trioflow import Job, JobState, JobTimeout, Retry, Scheduler, StopReason

from ..bodies import CANCELLED, FAILED, SUCCEEDED, nap, timed
from .attempts import Attempts, Flaky

if TYPE_CHECKING:
    from ..conftest import Virtual


# --- with timeouts


def test_a_job_is_retried_after_its_timeout(virtual: Virtual) -> None:
    """The timeout covers each attempt of a job, and JobTimeout is retried like any other Exception."""
    seen: list[BaseException] = []
    job = Flaky(0, seconds=9, timeout=2, retry=Retry(1, first=0, on=lambda error: seen.append(error) or True))
    assert virtual(timed, Scheduler(job)) == (False, 4)
    assert [type(error) for error in [*seen, job.raised_exception()]] == [JobTimeout] * 2
    assert (job.attempts, job.calls, job.timed_out) == (2, [0, 2], True)


def test_a_job_with_move_on_is_not_retried_after_its_timeout(virtual: Virtual) -> None:
    """A job that moves on at its timeout has succeeded, so it is not retried."""
    job = Flaky(1, seconds=1, timeout=1.5, on_timeout="move_on", retry=5)
    slow = Flaky(0, seconds=9, timeout=1.5, on_timeout="move_on", retry=5)
    assert virtual(timed, Scheduler(job, slow)) == (True, 2)
    assert (job.result(), job.attempts) == (2, 2)
    assert (slow.result(), slow.attempts, slow.timed_out) == (None, 1, True)


def test_waiting_between_attempts_is_not_in_the_timeout(virtual: Virtual) -> None:
    """The pause between two attempts counts in no timeout."""
    job = Flaky(1, timeout=2, retry=Retry(1, first=9, jitter=False))
    assert virtual(timed, Scheduler(job)) == (True, 11)
    assert (job.result(), job.timed_out) == (2, False)


# --- nested schedulers


def test_nested_scheduler_is_retried_as_a_whole(virtual: Virtual) -> None:
    """Each attempt of a nested scheduler is a run, in which all its jobs are reset, run and shut down."""
    steady, flaky = Flaky(0), Flaky(1, critical=True)
    flaky.requires(steady)
    inner = Scheduler(steady, flaky, retry=1)
    assert virtual(timed, Scheduler(inner)) == (True, 4)
    assert (steady.calls, flaky.calls) == ([0, 2], [1, 3])
    assert (steady.shutdowns, flaky.shutdowns) == (2, 2)
    assert (inner.attempts, steady.attempts, flaky.attempts) == (2, 1, 1)
    assert (inner.result(), inner.stop_reason, inner.culprit) == (True, StopReason.COMPLETED, None)
    assert (inner.started_at, flaky.started_at) == (0, 3)


def test_nested_scheduler_fails_when_its_attempts_are_used_up(virtual: Virtual) -> None:
    """A nested scheduler fails with its last attempt's exception, and is critical or not by its own setting."""
    flaky = Flaky(9, critical=True)
    inner = Scheduler(flaky, retry=2, critical=True)
    outer = Scheduler(inner, Job(nap, 99))
    assert virtual(timed, outer) == (False, 3)
    assert (inner.attempts, inner.state, outer.culprit) == (3, FAILED, inner)
    assert inner.raised_exception().exceptions == (flaky.raised_exception(),)  # type: ignore[union-attr]
    with pytest.raises(ExceptionGroup) as caught:
        outer.raise_for_failures()
    assert caught.value.exceptions == (flaky.raised_exception(),)


def test_failures_of_earlier_attempts_are_not_counted(virtual: Virtual, caplog: pytest.LogCaptureFixture) -> None:
    """A failure in an earlier run of the nested scheduler is logged, but does not count if a later run succeeded."""
    outer = Scheduler(Scheduler(Flaky(1, critical=True), retry=1))
    assert virtual(outer.co_run) is True
    outer.raise_for_failures()
    (message,) = caplog.messages
    assert "failed: OSError" in message


def test_nested_scheduler_keeps_its_slot_between_attempts(virtual: Virtual) -> None:
    """A nested scheduler keeps its slot of the parent between two attempts."""
    inner, other = Scheduler(Flaky(2, critical=True), retry=2), Job(nap, 1)
    assert virtual(timed, Scheduler(inner, other, jobs_window=1)) == (True, 4)
    assert other.started_at == 3


def test_a_nested_scheduler_is_retried_after_its_timeout(virtual: Virtual) -> None:
    """A nested scheduler is retried after its timeout."""
    slow = Flaky(0, seconds=9)
    inner = Scheduler(slow, timeout=2, retry=3)
    assert virtual(timed, Scheduler(inner)) == (False, 8)
    assert (inner.attempts, slow.calls, slow.shutdowns) == (4, [0, 2, 4, 6], 4)
    assert isinstance(inner.raised_exception(), JobTimeout)
    assert (inner.stop_reason, inner.timed_out) == (StopReason.TIMEOUT, True)


def test_a_nested_scheduler_with_a_tolerated_failure_is_not_retried(virtual: Virtual) -> None:
    """A nested scheduler that completed is not retried, whatever has failed in it."""
    flaky = Flaky(9, critical=False)
    inner = Scheduler(flaky, retry=5)
    assert virtual(timed, Scheduler(inner)) == (True, 1)
    assert (inner.attempts, flaky.attempts, flaky.state) == (1, 1, FAILED)


def test_retry_of_a_job_begins_anew_in_each_attempt_of_its_scheduler(virtual: Virtual) -> None:
    """A job's own attempts begin anew in each attempt of its scheduler."""
    flaky = Flaky(4, retry=1, critical=True)
    inner = Scheduler(flaky, retry=2)
    assert virtual(timed, Scheduler(inner)) == (True, 5)
    assert (inner.attempts, flaky.attempts, flaky.result()) == (3, 1, 5)


@pytest.mark.parametrize("how", ["job", "run", "timeout"])
def test_cancelled_nested_scheduler_is_not_retried(virtual: Virtual, how: str) -> None:
    """A nested scheduler that is cancelled from outside is CANCELLED, and not retried."""

    async def end() -> None:
        await nap(2)
        inner.cancel() if how == "job" else outer.cancel()

    slow = Flaky(0, seconds=9)
    inner = Scheduler(slow, retry=5)
    outer = Scheduler(inner, Job(end), timeout=2 if how == "timeout" else None)
    assert virtual(timed, outer) == (how == "job", 2)
    assert (inner.state, inner.attempts, slow.calls) == (CANCELLED, 1, [0])
    assert inner.stop_reason is StopReason.CANCELLED


def test_jobs_added_in_an_attempt_are_dropped_by_the_next(virtual: Virtual) -> None:
    """Each attempt of a nested scheduler, being a run, drops the jobs that the last one has added."""
    sizes: list[int] = []

    async def grow() -> None:
        sizes.append(len(inner))
        inner.add(Job(nap))

    inner = Scheduler(Job(grow), Flaky(2, critical=True), retry=2)
    assert virtual(timed, Scheduler(inner)) == (True, 3)
    assert sizes == [2, 2, 2]


def test_each_attempt_runs_the_clean_up_jobs(virtual: Virtual) -> None:
    """Each attempt of a nested scheduler cleans up if it stops on a critical failure, but not if it completes."""
    flaky, alarm = Flaky(2, critical=True), Flaky(0, seconds=0.5, run_if="failed")
    alarm.requires(flaky)
    inner = Scheduler(flaky, alarm, retry=2)
    assert virtual(timed, Scheduler(inner)) == (True, 4)
    assert alarm.calls == [1, 2.5]
    assert (inner.attempts, alarm.state) == (3, JobState.SKIPPED)


def test_outer_instruments_get_the_attempts_of_a_nested_scheduler(virtual: Virtual) -> None:
    """The outer instruments receive each attempt of the nested scheduler, and the jobs in each of its runs."""
    watch = Attempts()
    inner: Any = Scheduler(Flaky(1, critical=True), retry=1)
    virtual(Scheduler(inner, instruments=[watch]).co_run)
    assert watch.seen == [
        ("started", 0), (1, 0), ("started", 0), (1, 0), ("finished", 1),
        ("started", 1), (2, 1), ("started", 1), (1, 1), ("finished", 2), ("finished", 2),
    ]  # fmt: skip


def test_clean_up_nested_scheduler_may_be_retried(virtual: Virtual) -> None:
    """A nested scheduler that runs as a clean-up job is retried like any other."""
    flaky, broken = Flaky(1, critical=True), Flaky(9, critical=True)
    alarm = Scheduler(flaky, run_if="failed", retry=1, critical=False)
    alarm.requires(broken)
    assert virtual(timed, Scheduler(broken, alarm)) == (False, 3)
    assert (alarm.state, alarm.attempts) == (SUCCEEDED, 2)
