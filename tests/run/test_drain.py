"""A run that is drained: no more jobs start, and those that are running end by themselves."""

from __future__ import annotations

import contextlib
from typing import Any

import anyio
import pytest

from tests.bodies import co_run_drained, fail, nap
from tests.conftest import Virtual
from trioflow import AbstractJob, First, Job, JobCancelled, JobState, Pool, Scheduler, Sequence, Service, StopReason
from trioflow.abc import Instrument


def states(*jobs: AbstractJob[Any]) -> list[str]:
    """Return the states of jobs, by name."""
    return [job.state.name for job in jobs]


def test_running_jobs_end_normally_when_the_run_is_drained(virtual: Virtual) -> None:
    """In a drained run, running jobs go on to their end, jobs that wait for a slot are CANCELLED, others stay IDLE."""
    running, waiting = Job(anyio.sleep, 5), Job(anyio.sleep, 5)
    behind = Job(anyio.sleep, 5, required=running)
    scheduler = Scheduler(running, waiting, behind, jobs_window=1)
    assert not virtual(co_run_drained, scheduler, 2)
    assert scheduler.stop_reason is StopReason.DRAINED
    assert states(running, waiting, behind) == ["SUCCEEDED", "CANCELLED", "IDLE"]
    assert (running.elapsed, running.finished_at, waiting.finished_at) == (5, 5, 2)
    assert "not reached" in scheduler.explain(behind)
    assert "drained" in scheduler.explain(waiting)


def test_a_job_may_drain_its_own_run(virtual: Virtual) -> None:
    """A job may drain its own run: nothing behind it starts, nothing can be added, and a second drain does nothing."""

    async def drain() -> str:
        scheduler.drain()
        scheduler.drain()
        assert "is draining" in scheduler.explain(behind)
        with pytest.raises(RuntimeError, match="is draining"):
            scheduler.add(Job(anyio.sleep, 0))
        await anyio.sleep(1)
        return "done"

    scheduler = Scheduler()
    first = scheduler.add(Job(drain))
    behind = scheduler.add(Job(anyio.sleep, 0, required=first))
    assert not virtual(scheduler.co_run)
    assert (first.result(), behind.state, scheduler.culprit) == ("done", JobState.IDLE, None)


def test_drain_lets_running_jobs_of_many_chains_end_and_starts_no_others(virtual: Virtual) -> None:
    """When chains that share a window are drained, each job has run to its end, or has not started."""
    scheduler = Scheduler(*(Sequence(*(Job(anyio.sleep, 1) for _ in range(5))) for _ in range(40)), jobs_window=7)
    assert not virtual(co_run_drained, scheduler, 10.5)
    assert sum(job.is_succeeded() for job in scheduler) == 77
    assert {job.state for job in scheduler} == {JobState.SUCCEEDED, JobState.CANCELLED, JobState.IDLE}
    assert max(job.finished_at or 0 for job in scheduler) == 11


def test_drain_of_a_run_drains_its_nested_runs(virtual: Virtual) -> None:
    """A drain of the outer run also drains nested schedulers, which end CANCELLED and are not retried."""
    inside, left = Job(anyio.sleep, 5), Job(anyio.sleep, 5)
    nested = Scheduler(Sequence(inside, left), label="nested", retry=3, critical=True)
    beside = Job(anyio.sleep, 9)
    scheduler = Scheduler(nested, beside)
    assert not virtual(co_run_drained, scheduler, 1)
    assert states(inside, left, beside) == ["SUCCEEDED", "IDLE", "SUCCEEDED"]
    assert (nested.state, nested.stop_reason, nested.attempts) == (JobState.CANCELLED, StopReason.DRAINED, 1)
    assert "was drained after 5 s" in scheduler.explain(nested)


def test_drain_of_a_nested_run_does_not_drain_the_outer_run(virtual: Virtual) -> None:
    """The outer run continues when a nested one is drained, but jobs that need the latter to succeed are BLOCKED."""

    async def drain() -> None:
        nested.drain()

    nested = Scheduler(Sequence(Job(drain), Job(anyio.sleep, 1)))
    after, needing = Job(anyio.sleep, 1, required=nested, run_if="settled"), Job(anyio.sleep, 1, required=nested)
    assert virtual(Scheduler(nested, after, needing).co_run)
    assert states(after, needing) == ["SUCCEEDED", "BLOCKED"]


def test_no_attempt_starts_during_a_drain(virtual: Virtual) -> None:
    """A job that would be retried after its run was drained is CANCELLED, as all that wait are."""
    calls: list[float] = []

    async def fail_once() -> None:
        calls.append(anyio.current_time())
        await anyio.sleep(2)
        if len(calls) == 1:
            raise ValueError

    job = Job(fail_once, retry=1)
    assert not virtual(co_run_drained, Scheduler(job), 1)
    assert (job.state, calls) == (JobState.CANCELLED, [0])


def test_drain_ends_services_and_forever_jobs_after_the_last_running_job(virtual: Virtual) -> None:
    """In a drained run, services and forever jobs live until the last running job has ended."""

    async def serve(task_status: anyio.abc.TaskStatus[int]) -> None:
        task_status.started(7)
        await anyio.sleep_forever()

    service, forever = Service(serve), Job(anyio.sleep_forever, forever=True)
    job = Job(anyio.sleep, 3, required=service)
    assert not virtual(co_run_drained, Scheduler(service, forever, job), 1)
    assert (service.state, service.result(), service.finished_at) == (JobState.SUCCEEDED, 7, 3)
    assert (forever.state, job.state) == (JobState.CANCELLED, JobState.SUCCEEDED)


@pytest.mark.parametrize("hook", ["job_scheduled", "job_started", "job_finished", "before_run"])
def test_a_hook_of_an_instrument_may_drain_the_run(virtual: Virtual, hook: str) -> None:
    """An instrument may drain the run in any hook: no more jobs start, and each one ends settled or IDLE."""

    class Drainer(Instrument):
        def __init__(self) -> None:
            self.started: list[str] = []
            self.at_drain = -1

        def job_started(self, scheduler: Scheduler, job: Job[None]) -> None:
            self.started.append(job.label)

    def drain(scheduler: Scheduler, *rest: Job[None]) -> None:
        if rest and hook == "job_started":
            drainer.job_started_really(scheduler, *rest)
        if drainer.at_drain < 0 and (not rest or rest[0].label == "b"):
            scheduler.drain()
            drainer.at_drain = len(drainer.started)

    class Tail(Drainer):
        def job_started_really(self, scheduler: Scheduler, job: Job[None]) -> None:
            self.started.append(job.label)

    setattr(Tail, hook, lambda self, *given: drain(*given))
    drainer = Tail()
    a = Job(anyio.sleep, 0, label="a")
    scheduler = Scheduler(a, *(Job(anyio.sleep, 0, label=label, required=a) for label in "bcd"))
    assert not virtual(lambda: scheduler.co_run(instruments=[drainer]))
    assert len(drainer.started) == drainer.at_drain
    assert all(job.is_idle() or job.is_settled() for job in scheduler)
    assert scheduler.stop_reason is StopReason.DRAINED


def test_drained_run_ends_while_a_worker_waits_for_a_token(virtual: Virtual) -> None:
    """A drained run ends at once although one of its workers waits for a token."""

    async def main() -> float:
        limiter = anyio.CapacityLimiter(1)
        async with limiter:
            assert not await co_run_drained(Scheduler(Job(anyio.sleep, 1), jobs_window=limiter), 2)
        return anyio.current_time()

    assert virtual(main) == 2


def test_a_drained_run_with_check_raises_job_cancelled(virtual: Virtual) -> None:
    """With `check=True` a drained run raises a JobCancelled that names the drain as the reason."""

    async def drain() -> None:
        await anyio.sleep(1)
        scheduler.drain()
        await anyio.sleep(1)

    async def main() -> None:
        with pytest.raises(JobCancelled, match="was drained"):
            await scheduler.co_run(check=True)

    scheduler = Scheduler(Job(drain))
    virtual(main)


@pytest.mark.parametrize("nested", [False, True])
def test_the_body_of_an_open_scheduler_continues_during_a_drain(virtual: Virtual, nested: bool) -> None:
    """The body of `async with` continues during a drain; a server's lifespan was once cancelled at its `yield`.

    Jobs that are added later are rejected, also when the last job has ended, and in a nested scheduler.
    """

    async def main() -> None:
        inner = Scheduler(label="inner")
        async with Scheduler(inner, running := Job(anyio.sleep, 2)) as scheduler:
            await anyio.sleep(1)
            scheduler.drain()
            for _ in range(3):
                with pytest.raises(RuntimeError, match="is draining" if not nested else "inner"):
                    (inner if nested else scheduler).add(Job(anyio.sleep, 0))
                await anyio.sleep(1)
            assert running.finished_at == 2
        assert anyio.current_time() == 4
        assert scheduler.stop_reason is StopReason.DRAINED

    virtual(main)


@pytest.mark.parametrize(
    ("cause", "error"), [("critical", ExceptionGroup), ("timeout", TimeoutError), ("cancel", JobCancelled)]
)
def test_a_draining_open_scheduler_raises_the_error_that_stops_its_jobs(
    virtual: Virtual, cause: str, error: type[BaseException]
) -> None:
    """A critical failure during the drain of an open scheduler cancels the body of its block, as at any other time."""

    async def fail() -> None:
        await anyio.sleep(3)
        raise ValueError

    failing, long = Job(fail, critical=cause == "critical"), Job(anyio.sleep, 9)

    async def cut_off() -> None:
        async with Scheduler(failing, long, timeout=3 if cause == "timeout" else None) as scheduler:
            await anyio.sleep(1)
            scheduler.drain()
            await anyio.sleep(2)
            if cause == "cancel":
                scheduler.cancel()
            await anyio.sleep_forever()

    async def main() -> None:
        with pytest.raises(error):
            await cut_off()
        assert anyio.current_time() == long.finished_at == 3

    virtual(main)


def test_a_critical_failure_during_a_drain_cancels_the_running_jobs(virtual: Virtual) -> None:
    """A critical failure during a drain cancels the running jobs, but the stop reason stays DRAINED."""

    async def fail() -> None:
        await anyio.sleep(2)
        raise ValueError

    long = Job(anyio.sleep, 9)
    scheduler = Scheduler(Job(fail, critical=True), long)
    assert not virtual(co_run_drained, scheduler, 1)
    assert (scheduler.stop_reason, long.state, long.finished_at) == (StopReason.DRAINED, JobState.CANCELLED, 2)


@pytest.mark.parametrize("cause", ["critical", "timeout", "cancel"])
def test_clean_up_jobs_run_after_a_failure_or_a_timeout_during_a_drain(virtual: Virtual, cause: str) -> None:
    """Clean-up jobs run after a failure or timeout during a drain, though the reason is DRAINED; not after `cancel()`.

    The clean-up asked for the reason of the run, so they stayed IDLE.
    """

    async def fail() -> None:
        await anyio.sleep(1)
        raise ValueError

    async def main() -> None:
        failing = Job(fail, label="failing")
        running = Job(anyio.sleep, 9, critical=True, timeout=3 if cause == "critical" else None)
        tidy = Job(anyio.sleep, 1, required=failing, run_if="failed")
        again = Job(anyio.sleep, 1, required=running, run_if="failed")
        scheduler = Scheduler(failing, running, tidy, again, timeout=3 if cause == "timeout" else None)
        async with anyio.create_task_group() as tasks:

            async def cancel() -> None:
                await anyio.sleep(3)
                scheduler.cancel()

            if cause == "cancel":
                tasks.start_soon(cancel)
            assert not await co_run_drained(scheduler, 0.5)
        assert scheduler.stop_reason is StopReason.DRAINED
        assert failing.state is JobState.FAILED
        assert states(tidy, again) == (["IDLE"] * 2 if cause == "cancel" else ["SUCCEEDED"] * 2)

    virtual(main)


def test_drain_outside_of_a_run_raises() -> None:
    """`drain()` raises an error if the scheduler is not running."""
    with pytest.raises(RuntimeError, match="not running"):
        Scheduler().drain()


def test_drain_cancels_jobs_that_wait_for_needs(virtual: Virtual) -> None:
    """A drain cancels a job that waits for a resource, which is free again when its holder has ended."""
    pool = Pool(cpu=1)
    running, waiting = Job(anyio.sleep, 3, needs={"cpu": 1}), Job(anyio.sleep, 3, needs={"cpu": 1})
    assert not virtual(co_run_drained, Scheduler(running, waiting, pool=pool), 1)
    assert states(running, waiting) == ["SUCCEEDED", "CANCELLED"]
    assert (waiting.started_at, pool.free) == (None, {"cpu": 1})


@pytest.mark.parametrize("number", range(3))
def test_drain_reaches_all_nested_runs_if_one_is_drained_already(virtual: Virtual, number: int) -> None:
    """A drain of the outer run reaches each nested run, though one of these was drained before it."""
    groups = [Scheduler(Sequence(Job(anyio.sleep, 2), Job(anyio.sleep, 2))) for _ in range(3)]
    outer = Scheduler(*groups)

    async def drain_one() -> None:
        await anyio.sleep(0.5)
        groups[number].drain()

    outer.add(Job(drain_one))
    assert not virtual(co_run_drained, outer, 1)
    assert [states(*group) for group in groups] == [["SUCCEEDED", "IDLE"]] * 3


def test_a_nested_scheduler_that_fails_while_it_drains_has_failed(virtual: Virtual) -> None:
    """A nested scheduler that was kept from its end is CANCELLED, but one whose `co_run` raises an error is FAILED."""

    class Broken(Scheduler):
        async def co_run(self, **options: Any) -> bool:
            with contextlib.suppress(JobCancelled):
                await super().co_run(**options)
            raise OSError("broken")

    async def drain_later() -> None:
        await anyio.sleep(1)
        broken.drain()
        sound.drain()

    broken, sound = (kind(Sequence(Job(anyio.sleep, 2), Job(anyio.sleep, 2))) for kind in (Broken, Scheduler))
    assert not virtual(Scheduler(broken, sound, Job(drain_later)).co_run)
    assert (broken.state, sound.state) == (JobState.FAILED, JobState.CANCELLED)


def test_a_first_whose_running_job_succeeds_in_a_drain_has_succeeded(virtual: Virtual) -> None:
    """A drain lets running jobs end: their answer, which may be paid, is the result of their `First`.

    Such a `First` once ended CANCELLED, so that 13 of 407 paid answers were not among the results.
    """
    hedged = First(Job(nap, 3, "answer"), Job(nap, 3), stagger=2)
    deep = First(Scheduler(Job(nap, 3)), Job(nap, 9), stagger=4)
    scheduler = Scheduler(hedged, deep)
    assert not virtual(co_run_drained, scheduler, 1)
    assert scheduler.stop_reason is StopReason.DRAINED
    assert (hedged.state, hedged.result(), deep.state) == (JobState.SUCCEEDED, "answer", JobState.SUCCEEDED)
    assert [job.state for job in (*hedged, *deep)] == [JobState.SUCCEEDED, JobState.IDLE] * 2
    assert scheduler.results()[hedged] == "answer"


def test_a_first_without_its_result_after_a_drain_is_cancelled(virtual: Virtual) -> None:
    """If the running jobs of a `First` fail in a drain, the others might have succeeded; if all ran, it has failed."""
    held = First(Job(fail, 2), Job(nap), stagger=5)
    queued = First(Job(fail, 2), Job(nap), jobs_window=1)
    lost = First(Job(fail, 2), Job(fail, 3))
    two = First(Job(nap, 2), Job(nap, 2), Job(nap, 2), enough=2, jobs_window=1)
    scheduler = Scheduler(held, queued, lost, two)
    assert not virtual(co_run_drained, scheduler, 1)
    assert states(held, queued, lost, two) == ["CANCELLED", "CANCELLED", "FAILED", "CANCELLED"]
    assert list(scheduler.failures()) == [lost]


def test_a_nested_scheduler_that_a_drain_keeps_from_nothing_has_succeeded(virtual: Virtual) -> None:
    """A nested scheduler is drained, too. If all its jobs come to their end, so does it."""
    complete = Scheduler(Job(nap, 3), Scheduler(Job(nap, 2)), Job(anyio.sleep_forever, forever=True))
    queued, unreached = Scheduler(Job(nap, 3), Job(nap), jobs_window=1), Scheduler(Sequence(Job(nap, 3), Job(nap)))
    assert not virtual(co_run_drained, Scheduler(complete, queued, unreached), 1)
    assert states(complete, queued, unreached) == ["SUCCEEDED", "CANCELLED", "CANCELLED"]


def test_a_drain_says_how_many_jobs_still_run(virtual: Virtual, caplog: pytest.LogCaptureFixture) -> None:
    """The log has a line when a drain begins, because the running jobs may take long; a `First` is one job."""
    group = Scheduler(Job(nap, 3), Job(nap, 5))
    waiting = First(Job(nap, needs={"x": 2}), Job(nap, needs={"x": 2}))
    jobs = Job(nap, 9), Job(nap, 9, needs={"x": 1}), First(Job(nap, 3), Job(nap, 5)), group, waiting
    scheduler = Scheduler(jobs, label="run", pool=Pool(x=2))
    assert not virtual(co_run_drained, scheduler, 1)
    assert caplog.messages[0] == "the run of 'run' drains: no more jobs start, and 5 jobs are still running"
