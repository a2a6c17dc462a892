"""A run that is drained: no more jobs start, and those that are running end by themselves."""

import contextlib
from typing import Any
import anyio
import pytest
from trioflow import (
    First,
    Job,
    JobCancelled,
    JobState,
    Pool,
    Retry,
    Scheduler,
    Sequence,
    StopReason,
)
from tests.bodies import co_run_drained, fail, hooked, later, nap, unwind
from tests.conftest import Virtual


def test_a_job_may_drain_its_own_run(virtual: Virtual) -> None:
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
    assert (first.result(), behind.state, scheduler.culprit) == (
        "done",
        JobState.IDLE,
        None,
    )


@pytest.mark.parametrize(
    "hook", ["job_scheduled", "job_started", "job_settled", "before_run"]
)
def test_a_hook_of_an_instrument_may_drain_the_run(virtual: Virtual, hook: str) -> None:
    started: list[str] = []
    at_drain: list[int] = []

    def drain(scheduler: Scheduler, *jobs: Job[None]) -> None:
        if not at_drain and (not jobs or jobs[0].label == "b"):
            scheduler.drain()
            at_drain.append(len(started))

    # The first notes each start, and the second drains the run.
    watches = (
        hooked(job_started=lambda _, job: started.append(job.label)),
        hooked(**{hook: drain}),
    )
    a = Job(anyio.sleep, 0, label="a")
    scheduler = Scheduler(
        a, *(Job(anyio.sleep, 0, label=label, required=a) for label in "bcd")
    )
    assert not virtual(lambda: scheduler.co_run(instruments=watches))
    assert [len(started)] == at_drain
    assert all(job.is_idle() or job.is_settled() for job in scheduler)
    assert scheduler.stop_reason is StopReason.DRAINED


def test_a_drained_run_with_check_raises_job_cancelled(virtual: Virtual) -> None:
    with pytest.raises(JobCancelled, match="was drained"):
        virtual(lambda: co_run_drained(Scheduler(Job(nap, 2)), 1, check=True))


@pytest.mark.parametrize("nested", [False, True])
def test_after_a_drain_the_body_of_a_block_is_not_cancelled_and_add_raises(
    virtual: Virtual, nested: bool
) -> None:
    """The body of `async with` continues during a drain; a server's lifespan was once cancelled at its `yield`. Jobs
    that are added later are rejected, also when the last job has ended, and in a nested scheduler."""

    async def main() -> None:
        inner = Scheduler(label="inner")
        async with Scheduler(inner, running := Job(anyio.sleep, 2)) as scheduler:
            await anyio.sleep(1)
            scheduler.drain()
            for _ in range(3):
                with pytest.raises(RuntimeError, match="drain"):
                    (inner if nested else scheduler).add(Job(anyio.sleep, 0))
                await anyio.sleep(1)
            assert running.finished_at == 2
        assert anyio.current_time() == 4
        assert scheduler.stop_reason is StopReason.DRAINED

    virtual(main)


@pytest.mark.parametrize(
    ("cause", "error"),
    [("critical", ExceptionGroup), ("timeout", TimeoutError), ("cancel", JobCancelled)],
)
def test_a_draining_block_raises_what_stops_its_jobs(
    virtual: Virtual, cause: str, error: type[BaseException]
) -> None:
    """A critical failure during the drain of an open scheduler cancels the body of its block, as at any other time."""

    async def fail() -> None:
        await anyio.sleep(3)
        if (
            cause == "cancel"
        ):  # by a job: a body that cancels its own run leaves its block without an exception
            long.scheduler.cancel()  # type: ignore[union-attr]
        raise ValueError

    failing, long = Job(fail, critical=cause == "critical"), Job(anyio.sleep, 9)

    async def cut_off() -> None:
        async with Scheduler(
            failing, long, timeout=3 if cause == "timeout" else None
        ) as scheduler:
            await anyio.sleep(1)
            scheduler.drain()
            await anyio.sleep_forever()

    async def main() -> None:
        with pytest.raises(error):
            await cut_off()
        assert anyio.current_time() == long.finished_at == 3

    virtual(main)


def test_drain_outside_of_a_run_raises() -> None:
    with pytest.raises(RuntimeError, match="not running"):
        Scheduler().drain()


def test_a_nested_scheduler_that_fails_while_it_drains_has_failed(
    virtual: Virtual,
) -> None:
    class Broken(Scheduler):
        async def co_run(self, **options: Any) -> bool:
            with contextlib.suppress(JobCancelled):
                await super().co_run(**options)
            raise OSError("broken")

    broken, sound = (
        kind(Sequence(Job(anyio.sleep, 2), Job(anyio.sleep, 2)))
        for kind in (Broken, Scheduler)
    )
    assert not virtual(
        Scheduler(
            broken, sound, Job(later, 1, broken.drain), Job(later, 1, sound.drain)
        ).co_run
    )
    assert (broken.state, sound.state) == (JobState.FAILED, JobState.CANCELLED)


def test_failures_in_a_nested_scheduler_that_a_drain_cuts_off_count(
    virtual: Virtual,
) -> None:
    long = Job(nap, 5)
    group = Scheduler(Job(fail, 1), long, Job(nap, required=long))
    scheduler = Scheduler(group, Job(later, 2, lambda: scheduler.drain()))
    assert not virtual(scheduler.co_run)
    assert (group.state, scheduler.stop_reason) == (
        JobState.CANCELLED,
        StopReason.DRAINED,
    )
    with pytest.raises(ExceptionGroup) as info:
        scheduler.raise_for_failures()
    assert [type(error) for error in info.value.exceptions] == [OSError]


def test_a_first_that_is_cut_off_after_a_drain_was_drained(virtual: Virtual) -> None:
    """Its job swallows the cancellation and returns, which decides nothing any more: the first reason stays."""

    async def stubborn() -> None:
        with contextlib.suppress(anyio.get_cancelled_exc_class()):
            await anyio.sleep(9)

    async def drain() -> None:
        await later(1, scheduler.drain)
        await anyio.sleep(1)

    only = Job(stubborn)
    loser = First(only)
    winner = First(loser, Job(drain))
    scheduler = Scheduler(winner)
    assert not virtual(scheduler.co_run)
    assert (winner.state, loser.state, only.state) == (
        JobState.SUCCEEDED,
        JobState.CANCELLED,
        JobState.SUCCEEDED,
    )
    assert loser.stop_reason is scheduler.stop_reason is StopReason.DRAINED


@pytest.mark.parametrize("word", ["drain", "cancel", "timeout"])
def test_what_waits_as_a_run_ends_settles_in_the_order_of_starting(
    virtual: Virtual, word: str
) -> None:
    settled: list[str] = []
    retried = [
        Job(
            fail,
            0.5,
            retry=Retry(1, first=seconds, jitter=False),
            label=f"in {seconds}",
        )
        for seconds in (10, 30, 20, 25, 15)
    ]
    ready = [
        Job(nap, needs={"x": 1}, priority=level, label=f"with {level}")
        for level in (1, 3, 2)
    ]
    long = Job(nap, 4, needs={"x": 1}, priority=9, label="long")
    limit = {"timeout": 1} if word == "timeout" else {}
    options: dict[str, Any] = {
        "pool": Pool(x=1),
        "on_job_settled": lambda job: settled.append(job.label),
        **limit,
    }
    group = Scheduler(*retried, *ready, long, **options)
    scheduler = Scheduler(group, log=False)
    if word != "timeout":
        scheduler.add(Job(later, 1, getattr(group, word)))
    virtual(scheduler.co_run)
    settled.remove("long")
    assert settled == [
        "with 3",
        "with 2",
        "with 1",
        "in 10",
        "in 15",
        "in 20",
        "in 25",
        "in 30",
    ]


@pytest.mark.parametrize("log", [True, False])
def test_a_drain_says_how_many_jobs_still_run(
    virtual: Virtual, caplog: pytest.LogCaptureFixture, log: bool
) -> None:
    """The log has a line when a drain begins, because the running jobs may take long; a `First` is one job."""
    group = Scheduler(Job(nap, 3), Job(nap, 5))
    waiting = First(Job(nap, needs={"x": 2}), Job(nap, needs={"x": 2}))
    jobs = (
        Job(nap, 9),
        Job(nap, 9, needs={"x": 1}),
        First(Job(nap, 3), Job(nap, 5)),
        group,
        waiting,
    )
    scheduler = Scheduler(jobs, label="run", pool=Pool(x=2), log=log)
    assert not virtual(co_run_drained, scheduler, 1)
    text = "the run of 'run' drains: no more jobs start, with 5 jobs still running"
    assert caplog.messages[:1] == [text] * log


def test_a_drained_run_leaves_the_line_for_a_token(virtual: Virtual) -> None:
    """A run that drains while its jobs wait for a token that the program holds ends at once."""

    async def main() -> float:
        limiter = anyio.CapacityLimiter(1)
        waits = Job(nap, 1)
        scheduler = Scheduler(waits, jobs_window=limiter)
        scheduler.add(Job(later, 1, scheduler.drain, forever=True))
        async with limiter:
            with anyio.move_on_after(9):
                assert not await scheduler.co_run()
            assert waits.state is JobState.CANCELLED
            return anyio.current_time()

    assert virtual(main) == 1


def test_a_first_that_a_drain_keeps_from_its_result_is_cancelled(
    virtual: Virtual,
) -> None:
    first = First(Job(fail, 2), Job(nap, 1), log=False)
    scheduler = Scheduler(first, jobs_window=anyio.CapacityLimiter(1))
    scheduler.add(Job(later, 1, scheduler.drain, forever=True))
    assert not virtual(scheduler.co_run)
    assert (first.state, scheduler.stop_reason) == (
        JobState.CANCELLED,
        StopReason.DRAINED,
    )
    scheduler.raise_for_failures()


def test_an_iteration_yields_a_job_that_is_cancelled_while_its_run_drains(
    virtual: Virtual,
) -> None:
    """The drain had told the iteration that no run will reach the job, and the iteration no longer watched it."""
    yielded: list[str] = []
    works, idle = Job(anyio.sleep, 2, label="works"), Job(anyio.sleep, 0, label="idle")
    scheduler = Scheduler(works, idle.requires(works))

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scheduler.co_run)
            tasks.start_soon(iterate)
            await anyio.sleep(1)
            scheduler.drain()
            idle.cancel()

    async def iterate() -> None:
        async for job in scheduler.as_settled():
            yielded.append(f"{job.label} {job.state.value}")

    virtual(main)
    assert yielded == ["idle cancelled", "works succeeded"]


@pytest.mark.parametrize(
    "hook", ["job_scheduled", "job_started", "job_attempt", "before_run"]
)
def test_a_group_that_begins_as_its_run_is_drained_starts_nothing(
    virtual: Virtual, hook: str
) -> None:
    def drain(*told: Any) -> None:
        if told[-1] is group:
            run.drain()

    job = Job(anyio.sleep, 0, label="job")
    group = Scheduler(job, label="group")
    run = Scheduler(group, Job(anyio.sleep, 0, required=group), label="run")
    assert not virtual(lambda: run.co_run(instruments=[hooked(**{hook: drain})]))
    assert run.stop_reason is StopReason.DRAINED
    assert group.state is JobState.CANCELLED
    assert job.started_at is None


@pytest.mark.parametrize("why", ["critical", "timeout", "drain"])
def test_a_drain_while_the_run_stops_keeps_the_scheduler_from_another_attempt(
    virtual: Virtual, why: str
) -> None:
    async def clean_up() -> None:
        group.drain()
        await anyio.sleep(1)

    async def drain_and_fail() -> None:
        group.drain()
        raise OSError

    body = {"critical": fail, "timeout": anyio.sleep_forever, "drain": drain_and_fail}[
        why
    ]
    stops = Job(body, critical=True)
    cleans_up = Job(clean_up, required=stops, run_if="failed")
    group = Scheduler(
        stops,
        cleans_up,
        label="group",
        timeout=2,
        retry=Retry(2, first=1),
        critical=False,
    )
    virtual(Scheduler(group).co_run)
    assert (group.attempts, group.state) == (1, JobState.CANCELLED)
    assert why == "drain" or cleans_up.is_succeeded()


@pytest.mark.parametrize("end", ["cancel", "drain", "timeout"])
def test_what_waits_for_its_next_attempt_settles_as_the_run_ends(
    virtual: Virtual, end: str
) -> None:
    flaky = Job(fail, 0, retry=Retry(1, first=50, jitter=False))
    scheduler = Scheduler(
        flaky, Job(unwind), timeout=2 if end == "timeout" else None, log=False
    )
    if end != "timeout":
        scheduler.add(Job(later, 2, getattr(scheduler, end), forever=True))
    assert not virtual(scheduler.co_run)
    assert (flaky.state, flaky.finished_at) == (JobState.CANCELLED, 2)


@pytest.mark.parametrize("end", ["critical", "timeout"])
def test_what_stops_a_run_during_its_drain_is_followed_by_the_clean_up(
    virtual: Virtual, end: str
) -> None:
    """The run stays DRAINED, because that came first."""
    failing = Job(fail, 2, critical=end == "critical" or None)
    alarm = Job(nap, 1, required=failing, run_if="failed")
    scheduler = Scheduler(
        failing, alarm, Job(nap, 9), timeout=3 if end == "timeout" else None, log=False
    )
    scheduler.add(Job(later, 1, scheduler.drain, forever=True))
    assert not virtual(scheduler.co_run)
    assert (alarm.state, scheduler.stop_reason) == (
        JobState.SUCCEEDED,
        StopReason.DRAINED,
    )


@pytest.mark.parametrize("depth", [1, 2])
def test_a_drain_leaves_alone_what_cleans_up_in_a_group_that_stops(
    virtual: Virtual, depth: int
) -> None:
    """Its clean-up goes on, in groups of its own, too, and so do its forever groups, until they end with it."""
    critical = Job(fail, 1, critical=True)
    clean_up = Sequence(Job(nap, 2, label="first"), Job(nap, 1, label="second"))
    cleaning = Scheduler(clean_up, label="cleaning", run_if="failed", required=critical)
    lasting = Scheduler(Job(nap, 99, forever=True), forever=True, label="lasting")
    group = Scheduler(critical, cleaning, lasting, label="group")
    for _ in range(depth - 1):
        group = Scheduler(group)
    scheduler = Scheduler(
        group, Job(nap, 3, label="other"), Job(later, 2, lambda: scheduler.drain())
    )
    assert not virtual(scheduler.co_run)
    assert [job.state for job in cleaning.iterate_jobs()] == [
        JobState.SUCCEEDED,
        JobState.SUCCEEDED,
    ]
    assert (cleaning.finished_at, cleaning.stop_reason) == (4, StopReason.COMPLETED)
    assert (lasting.state, lasting.stop_reason) == (
        JobState.CANCELLED,
        StopReason.CANCELLED,
    )
    assert scheduler.stop_reason is StopReason.DRAINED
