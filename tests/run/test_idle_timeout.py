"""Progress that jobs report, and jobs that report none for longer than their `idle_timeout`."""

import functools
import math
import re
import threading
import time
from typing import Any
import anyio
import pytest
from trioflow import (
    AbstractJob,
    Job,
    JobTimeout,
    Retry,
    Scheduler,
    StopReason,
    ThreadJob,
    current_job,
    ref,
)
from trioflow._core.run._handle import GRACE_TURNS
from trioflow.abc import fraction_done
from trioflow.view import listing
from tests.conftest import Virtual
from ..bodies import (
    FAILED,
    SUCCEEDED,
    at_once,
    co_run_drained,
    nap,
    pass_time,
    timed,
    turns,
)
from ..places import PATIENCE, patiently


async def report(times: int, every: float, then: float = 0.0) -> str:
    """Report progress so many times, every so many seconds, and then be silent for some."""
    for number in range(times):
        await anyio.sleep(every)
        current_job().progress((number + 1) / 10)
    await anyio.sleep(then)
    return "done"


# ---- progress
def test_fraction_done_is_the_last_reported_progress(virtual: Virtual) -> None:
    job, silent = Job(report, 4, 1), Job(nap, 1)
    seen: list[float | None] = []

    async def look() -> None:
        await anyio.sleep(2.5)
        seen.append(fraction_done(job))
        assert "and is 20% done" in scheduler.explain(job)
        assert listing(scheduler, details=True).splitlines()[0].endswith("20%")

    scheduler = Scheduler(job, silent, Job(look, critical=True))
    assert virtual(scheduler.co_run)
    assert (seen, fraction_done(job), fraction_done(silent)) == ([0.2], 0.4, None)


def test_each_attempt_begins_without_progress(virtual: Virtual) -> None:
    seen: list[float | None] = []

    async def fails() -> None:
        seen.append(fraction_done(current_job()))
        current_job().progress(0.5)
        raise ValueError

    async def hangs() -> None:
        seen.append(fraction_done(current_job()))
        current_job().progress(0.5)
        await anyio.sleep(math.inf)

    jobs = (
        Job(fails, retry=2),
        Job(hangs, timeout=1, retry=Retry(1, first=0, on=JobTimeout)),
    )
    scheduler = Scheduler(*jobs)
    for _ in range(2):
        assert not virtual(scheduler.co_run)
        assert seen == [None] * 5
        seen.clear()


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (1.5, ValueError), (-0.1, ValueError), (math.nan, ValueError), (10**400, ValueError), ("half", TypeError),
        (True, TypeError),
    ],
)  # fmt: skip
def test_progress_beyond_0_to_1_is_rejected(
    virtual: Virtual, given: Any, error: type[Exception]
) -> None:
    job = Job(at_once, lambda: current_job().progress(given), label="wrong")
    assert not virtual(Scheduler(job).co_run)
    assert type(job.raised_exception()) is error
    assert "of 'wrong': give a fraction from 0 to 1" in str(job.raised_exception())


def test_progress_of_an_idle_job_or_a_scheduler_raises() -> None:
    job = Job(nap, 0, label="still")
    with pytest.raises(
        RuntimeError, match="'still': it is idle; call it while the job runs"
    ):
        job.progress(0.4)
    with pytest.raises(TypeError, match="it is a scheduler"):
        Scheduler(job).progress(0.4)


def test_idle_timeout_that_is_not_positive_is_rejected() -> None:
    with pytest.raises(
        ValueError, match=r"idle_timeout=0 of 'x': give a positive number of seconds"
    ):
        Job(nap, 0, label="x", idle_timeout=0)


# ---- idle_timeout
@pytest.mark.parametrize("own_task", [False, True])
def test_a_job_without_progress_fails_after_its_idle_timeout(
    virtual: Virtual, own_task: bool
) -> None:
    job = Job(report, 5, 2, math.inf, idle_timeout=3, own_task=own_task, label="slow")
    scheduler = Scheduler(job, Job(nap, 1, idle_timeout=2))
    assert virtual(timed, scheduler) == (False, 13)
    error = job.raised_exception()
    assert isinstance(error, JobTimeout)
    assert (error.job, error.seconds, error.missing) == (job, 3, "progress")
    advice = "report it more often with current_job().progress(), or give it more time with idle_timeout="
    place = (
        r"it was in report at test_idle_timeout\.py:\d+ \(await anyio\.sleep\(then\)\)"
    )
    assert re.fullmatch(rf"'slow' was ended: no progress for 3 s; {place}", str(error))
    assert error.__notes__[0].startswith(advice)
    assert job.timed_out


def test_any_progress_call_restarts_the_idle_timeout(virtual: Virtual) -> None:
    async def tick() -> None:
        for _ in range(5):
            await anyio.sleep(2)
            current_job().progress()

    async def speak_for(job: AbstractJob) -> None:
        for _ in range(5):
            await anyio.sleep(2)
            job.progress()

    ticking, spoken_for = Job(tick, idle_timeout=3), Job(nap, 11, idle_timeout=3)
    scheduler = Scheduler(ticking, spoken_for)
    scheduler.add(Job(speak_for, ref(spoken_for)))
    assert virtual(timed, scheduler) == (True, 11)
    assert (ticking.state, spoken_for.state) == (SUCCEEDED, SUCCEEDED)
    assert fraction_done(ticking) is None


def test_progress_reported_in_time_counts_although_the_loop_was_blocked(
    virtual: Virtual,
) -> None:
    """Progress that arrives late because the loop was blocked still counts, within some turns after the deadline."""
    job = Job(nap, 8, idle_timeout=5)

    async def hold() -> None:
        await anyio.sleep(4)
        pass_time(virtual.backend, 3)
        await turns(4)
        job.progress()

    assert virtual(timed, Scheduler(job, Job(hold))) == (True, 8)
    assert job.state is SUCCEEDED


# ---- schedulers
def test_outermost_scheduler_without_events_ends_after_its_idle_timeout(
    virtual: Virtual,
) -> None:
    """A run without events for its idle timeout returns False; with `check=True` the error says what was missing."""
    scheduler = Scheduler(
        Job(report, 3, 1), Job(nap, 99), idle_timeout=2, label="night"
    )
    assert virtual(timed, scheduler) == (False, 5)
    assert (scheduler.stop_reason, scheduler.timed_out) == (StopReason.TIMEOUT, True)
    text = r"'night' was ended: no progress of its jobs for 2 s; it was running 'nap\(99\)'\ngive it more time"
    with pytest.raises(JobTimeout, match=text):
        virtual(functools.partial(scheduler.co_run, check=True))


def test_progress_is_a_sign_of_life_of_all_schedulers_around(virtual: Virtual) -> None:
    job = Job(report, 4, 1)
    assert virtual(Scheduler(Scheduler(Scheduler(job)), idle_timeout=1.5).co_run)
    assert job.finished_at == 4


def test_the_error_names_the_timeout_that_ended_the_run(virtual: Virtual) -> None:
    scheduler = Scheduler(
        *(Job(nap, 2) for _ in range(10)),
        jobs_window=1,
        idle_timeout=3,
        timeout=7,
        label="night",
    )
    with pytest.raises(JobTimeout) as caught:
        virtual(functools.partial(scheduler.co_run, check=True))
    assert (caught.value.missing, caught.value.seconds) == (None, 7)


# ---- threads
def test_a_thread_may_report_progress(backend: str) -> None:
    """A thread may report progress as often as it likes; the run takes the latest."""

    def work() -> None:
        for number in range(2000):
            current_job().progress(number / 2000)
        stay.wait(PATIENCE)

    async def look() -> None:
        while fraction_done(job) != 1999 / 2000:  # noqa: ASYNC110 - nobody tells when it is
            await anyio.sleep(0.001)
        stay.set()

    stay = threading.Event()
    job = ThreadJob(work, idle_timeout=2 * PATIENCE)
    assert Scheduler(job, Job(look)).run(backend=backend, timeout=PATIENCE)


@patiently(0.08, 2, 20)
def test_a_thread_that_reports_is_not_idle(backend: str, unit: float) -> None:
    """A thread job that reports progress is not idle; one that does not fails once its function has returned."""

    def work() -> None:
        for _ in range(6):
            time.sleep(unit / 4)
            current_job().progress()

    job, silent = (
        ThreadJob(work, idle_timeout=unit),
        ThreadJob(time.sleep, 2 * unit, idle_timeout=unit),
    )
    assert not Scheduler(job, silent).run(backend=backend)
    assert (job.state, silent.state) == (SUCCEEDED, FAILED)


def test_progress_while_unwinding_does_not_change_which_timeout_it_was(
    virtual: Virtual,
) -> None:
    async def unwind_late() -> None:
        try:
            await anyio.sleep(50)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(7)
                current_job().progress()

    job = Job(unwind_late, timeout=10, idle_timeout=2)
    virtual(Scheduler(job).co_run)
    error = job.raised_exception()
    assert isinstance(error, JobTimeout)
    assert (error.seconds, error.missing) == (2, "progress")


def test_each_deadline_has_its_own_turns_of_grace(virtual: Virtual) -> None:
    """A sign of life in the last turn of grace counts in full: its deadline is followed by as many turns again."""

    async def late() -> None:
        for _ in range(3):
            await anyio.sleep(1)
            await turns(GRACE_TURNS - 1)
            current_job().progress()

    job = Job(late, idle_timeout=1)
    assert virtual(Scheduler(job).co_run)


def test_a_drain_that_an_idle_timeout_cuts_off_is_told_as_a_drain(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler = Scheduler(Job(nap, 99), idle_timeout=5)
    assert not virtual(co_run_drained, scheduler, 1)
    assert scheduler.stop_reason is StopReason.DRAINED
    assert "no more jobs were started" in caplog.messages[-1]
