"""The clean-up phase: after a critical failure or a timeout, jobs with `run_if="failed"` still run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from trioflow import AbstractJob, Job, JobState, Pool, Scheduler, StopReason, current_job, ref

from ...bodies import CANCELLED, IDLE, SUCCEEDED, alarm, bad, fail, later, nap, timed

if TYPE_CHECKING:
    from ...conftest import Virtual


# --- when


def test_clean_up_job_runs_after_a_critical_failure(virtual: Virtual) -> None:
    """After a critical failure the clean-up job of the failed job runs, and then the run returns False."""
    critical = bad()
    cleaning = alarm(critical, 2, kwargs={"value": "clean"})
    scheduler = Scheduler(critical, cleaning, Job(nap, 9))
    assert virtual(timed, scheduler) == (False, 3)
    assert scheduler.stop_reason is StopReason.CRITICAL
    assert scheduler.culprit is critical
    assert cleaning.result() == "clean"
    assert (cleaning.started_at, cleaning.finished_at) == (1, 3)


def test_clean_up_job_runs_after_a_timeout_of_the_run(virtual: Virtual) -> None:
    """Jobs that the timeout of the run cancelled count as failed, so their clean-up jobs still run."""
    slow = Job(nap, 9)
    cleaning = alarm(slow)
    scheduler = Scheduler(slow, cleaning, timeout=2)
    assert virtual(timed, scheduler) == (False, 3)
    assert scheduler.stop_reason is StopReason.TIMEOUT
    assert (slow.state, cleaning.state) == (CANCELLED, SUCCEEDED)


def test_jobs_cancelled_by_a_critical_failure_count_as_failed(virtual: Virtual) -> None:
    """Running and waiting jobs that a critical failure cancels count as failed, so both have their clean-up."""
    running, waiting = Job(nap, 9), Job(nap, 9)
    jobs = [alarm(running), alarm(waiting)]
    scheduler = Scheduler(bad(), running, waiting, *jobs, jobs_window=2)
    assert virtual(timed, scheduler) == (False, 2)
    assert (waiting.state, waiting.started_at) == (CANCELLED, None)
    assert [job.state for job in jobs] == [SUCCEEDED, SUCCEEDED]


def test_clean_up_begins_after_all_ordinary_jobs_have_unwound(virtual: Virtual) -> None:
    """Clean-up jobs start when no ordinary job is left, so that nothing uses what they remove."""
    ended: list[float] = []

    async def unwinds() -> None:
        try:
            await anyio.sleep(99)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(3)
            ended.append(anyio.current_time())

    critical = bad()
    cleaning = alarm(critical)
    assert virtual(timed, Scheduler(critical, Job(unwinds), cleaning)) == (False, 5)
    assert ended == [cleaning.started_at] == [4]


def test_a_run_that_completes_has_no_clean_up_phase(virtual: Virtual) -> None:
    """If a run completes, a job with `run_if="failed"` runs only if a requirement failed, and is otherwise skipped."""
    failing = Job(fail)
    cleaning, spare = alarm(failing), alarm(Job(nap))
    scheduler = Scheduler(failing, cleaning, *spare.required, spare, Job(nap, 5))
    assert virtual(timed, scheduler) == (False, 5)
    assert cleaning.started_at == 1
    assert spare.state is JobState.SKIPPED


def test_no_clean_up_after_cancel(virtual: Virtual) -> None:
    """After `cancel()` no clean-up job starts."""
    job = Job(nap, 9)
    cleaning = alarm(job)
    scheduler = Scheduler(job, cleaning, Job(later, 1, lambda: scheduler.cancel()))
    assert virtual(timed, scheduler) == (False, 1)
    assert scheduler.stop_reason is StopReason.CANCELLED
    assert cleaning.state is IDLE


def test_no_clean_up_after_a_cancellation_from_outside(virtual: Virtual) -> None:
    """When a scope around the run is cancelled, no clean-up job starts."""
    job = Job(nap, 9)
    cleaning = alarm(job)

    async def main() -> float:
        with anyio.move_on_after(1):
            await Scheduler(job, cleaning).co_run()
        return anyio.current_time()

    assert virtual(main) == 1
    assert cleaning.state is IDLE


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_no_clean_up_after_an_interruption(virtual: Virtual, kind: type[BaseException]) -> None:
    """Ctrl-C and SystemExit start no clean-up."""

    async def interrupt() -> None:
        raise kind

    job = Job(interrupt, critical=True)
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


# --- which


def test_clean_up_runs_only_jobs_whose_requirements_have_settled(virtual: Virtual) -> None:
    """During the clean-up, jobs behind one that was not reached stay IDLE, and jobs with other rules do not run."""
    critical, good = bad(), Job(nap, 0.5)
    never = Job(nap, required=critical)
    late, unneeded = alarm([critical, never]), alarm(good)
    settled, succeeded = Job(nap, required=critical), Job(nap, required=good, run_if="succeeded")
    scheduler = Scheduler(critical, good, never, late, unneeded, settled, succeeded, alarm(critical))
    assert virtual(timed, scheduler) == (False, 2)
    assert [job.state for job in (never, late, settled)] == [IDLE, IDLE, IDLE]
    assert unneeded.state is JobState.SKIPPED


def test_clean_up_jobs_that_ran_before_the_stop_do_not_run_again(virtual: Virtual) -> None:
    """A clean-up job that has settled before the run stops does not run again."""
    calls: list[float] = []

    async def count() -> None:
        calls.append(anyio.current_time())

    early = Job(fail, 0.25)
    assert virtual(timed, Scheduler(early, Job(count, required=early, run_if="failed"), bad())) == (False, 1)
    assert calls == [0.25]


def test_clean_up_job_running_before_the_stop_is_cancelled_and_not_restarted(virtual: Virtual) -> None:
    """A job with `run_if="failed"` that is running at the stop is cancelled like any other, and not started again."""
    early = Job(fail, 0.25)
    cleaning = alarm(early, 9)
    assert virtual(timed, Scheduler(early, cleaning, bad())) == (False, 1)
    assert cleaning.state is CANCELLED


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


def test_clean_up_job_that_requires_another_starts_after_it(virtual: Virtual) -> None:
    """A clean-up job that requires another starts when the latter has settled, if one of its requirements failed."""
    critical = bad()
    first = alarm(critical, 1)
    second = alarm([critical, first], 1)
    third = alarm([critical, second], 1)
    assert virtual(timed, Scheduler(third, second, first, critical)) == (False, 4)
    assert [job.started_at for job in (first, second, third)] == [1, 2, 3]


def test_slow_clean_up_job_does_not_delay_a_chain_of_others(virtual: Virtual) -> None:
    """Each clean-up job starts as soon as its own requirements have settled, though another is still running."""
    critical = bad()
    slow, first = alarm(critical, 99), alarm(critical, 1)
    second = alarm([critical, first], 1)
    assert virtual(timed, Scheduler(critical, slow, first, second)) == (False, 6)
    assert second.started_at == 2
    assert (slow.state, second.state) == (CANCELLED, SUCCEEDED)


def test_a_thousand_chained_clean_up_jobs_run(virtual: Virtual) -> None:
    """A chain of a thousand clean-up jobs runs without deep recursion."""
    critical = bad()
    scheduler = Scheduler(critical)
    last: Job[Any] | None = None
    for _ in range(1000):
        last = scheduler.add(alarm([critical, last], 0))
    assert virtual(timed, scheduler) == (False, 1)
    assert last is not None
    assert last.state is SUCCEEDED


def test_clean_up_job_that_requires_a_failed_clean_up_job_runs(virtual: Virtual) -> None:
    """A clean-up job whose only requirement is another clean-up job runs after the failure of the latter."""
    critical = bad()
    failing = Job(fail, required=critical, run_if="failed")
    last = alarm(failing)
    assert virtual(timed, Scheduler(critical, failing, last)) == (False, 3)
    assert last.state is SUCCEEDED


@pytest.mark.parametrize("needs", [None, {"gpu": 1}])
@pytest.mark.parametrize("chained", [False, True])
def test_a_clean_up_job_that_was_cancelled_never_starts(virtual: Virtual, needs: Any, chained: bool) -> None:
    """A clean-up job that another one cancels stays CANCELLED; what requires it runs. Once it ran, or the run hung."""
    critical = bad()
    cancelled: list[Job[Any]] = []

    async def cancel() -> None:
        cancelled[0].cancel()

    cancelling = Job(cancel, required=critical, run_if="failed")
    cancelled.append(alarm([critical, *([cancelling] if chained else [])], needs=needs))
    last = alarm(cancelled[0])
    scheduler = Scheduler(critical, cancelling, cancelled[0], last, pool=Pool(gpu=1))
    assert virtual(timed, scheduler) == (False, 2)
    assert (cancelling.state, cancelled[0].state, last.state) == (SUCCEEDED, CANCELLED, SUCCEEDED)
    assert cancelled[0].started_at is None


def test_clean_up_jobs_start_in_the_order_added_whatever_the_window(virtual: Virtual) -> None:
    """All clean-up jobs that are due start at once, in the order added, and the window does not limit them."""
    order: list[str] = []

    async def start() -> None:
        order.append(current_job().label)
        await anyio.sleep(1)

    critical = bad()
    cleaning = [Job(start, required=critical, run_if="failed", label=str(number)) for number in range(50)]
    assert virtual(timed, Scheduler(critical, *cleaning, jobs_window=1)) == (False, 2)
    assert order == [str(number) for number in range(50)]
