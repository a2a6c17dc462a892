"""`explain(job)` says in words why a job is where it is: for every state, and every cause."""

import re
from collections.abc import Callable, Iterable
from typing import Any
import anyio
import anyio.lowlevel
import pytest
import trio.testing
from trioflow import (
    First,
    Job,
    JobState,
    JobTimeout,
    Pool,
    Retry,
    Scheduler,
    Sequence,
    Service,
)
from trioflow.abc import AbstractJob, WaitCause, Waiting, waiting
from ..bodies import at_once, fail, later, nap, pass_time, running, serve, unwind
from ..conftest import Virtual


def all_explained_during(
    scheduler: Scheduler, jobs: Iterable[Any], virtual: Virtual
) -> list[str]:
    async def main() -> list[str]:
        async with running(scheduler, 2):
            return [scheduler.explain(job) for job in jobs]

    return virtual(main)


def explained_during(scheduler: Scheduler, job: Any, virtual: Virtual) -> str:
    return all_explained_during(scheduler, [job], virtual)[0]


def explained_after(scheduler: Scheduler, job: Any, virtual: Virtual) -> str:
    virtual(lambda: scheduler.co_run(timeout=scheduler.timeout or 99))
    return scheduler.explain(job)


# --- waiting
def test_explain_names_the_scheduler_that_has_not_started() -> None:
    """Before the run, `explain` says that the job is idle because its scheduler has not started."""
    job = Job(nap, label="job")
    assert (
        Scheduler(job, label="s").explain(job) == "'job' is idle: 's' has not started"
    )


def test_explain_names_the_requirements_that_a_job_waits_for(virtual: Virtual) -> None:
    """A few of many, since when they run, and that one has not started."""
    many = [Job(nap, 9, label=f"n{number}") for number in range(12)]
    job = Job(nap, label="job", required=[*many[:2], done := Job(nap, 1, label="done")])
    behind, last = Job(nap, job, label="behind"), Job(nap, label="last", required=many)
    of_job, of_behind, of_last = all_explained_during(
        Scheduler(many, done, job, behind, last), [job, behind, last], virtual
    )
    assert (
        of_job
        == "'job' waits for 'n0', 'n1': 'n0' has been running for 2 s; 'n1' has been running for 2 s"
    )
    assert of_behind == "'behind' waits for 'job': 'job' has not started"
    assert of_last.startswith(
        "'last' waits for 'n0', 'n1', 'n2', 'n3', 'n4' and 7 more: 'n0' has been running"
    )


@pytest.mark.parametrize("ready", [False, True])
def test_explain_names_a_required_service_until_it_is_ready(
    virtual: Virtual, ready: bool
) -> None:
    service, slow = (
        Service(serve, 0 if ready else 9, label="service"),
        Job(nap, 9, label="slow"),
    )
    job = Job(nap, label="job", required=[service, slow])
    text = explained_during(Scheduler(service, slow, job), job, virtual)
    assert ("'service' has been running for 2 s" in text) is not ready
    assert "'slow' has been running for 2 s" in text


def test_explain_follows_the_enclosing_schedulers_to_the_cause(
    virtual: Virtual,
) -> None:
    """It is what one of them requires, or an input of a job inside, which its scheduler waits for."""
    source, job = Job(nap, 9, label="source"), Job(nap, label="job")
    uses = Job(nap, source, label="uses")
    middle = Scheduler(Scheduler(job, label="inner"), label="middle", required=source)
    scheduler = Scheduler(source, middle, Scheduler(uses, label="user"))
    assert all_explained_during(scheduler, [job, uses], virtual) == [
        "'job' waits for its scheduler 'inner', which waits for its scheduler 'middle', "
        "which waits for 'source': 'source' has been running for 2 s",
        "'uses' waits for its scheduler 'user', which waits for 'source': 'source' has been running for 2 s",
    ]


@pytest.mark.usefixtures("many_pauses")
def test_explain_reports_that_the_scenario_is_being_checked(virtual: Virtual) -> None:
    async def main() -> str:
        async with running(scheduler):
            while scheduler._run is None:
                await anyio.lowlevel.checkpoint()
            return scheduler.explain(job)

    job = Job(nap, label="job")
    scheduler = Scheduler(job, [Job(nap) for _ in range(50)], label="s")
    assert virtual(main) == "'job' waits for the start of 's', which is being checked"


# --- scheduled
def test_explain_names_the_jobs_that_fill_the_window(virtual: Virtual) -> None:
    a, b = Job(nap, 9, label="a"), Scheduler(Job(nap, 9), label="b")
    job, forever = Job(nap, label="job"), Job(anyio.sleep_forever, forever=True)
    text = explained_during(Scheduler(forever, a, b, job, jobs_window=2), job, virtual)
    assert re.fullmatch(
        r"'job' waits for a slot: the window is full, with '[ab]', '[ab]'", text
    )
    assert "'a'" in text
    assert "'b'" in text


def test_explain_names_and_counts_the_holders_of_a_limiter(virtual: Virtual) -> None:
    async def main() -> str:
        limiter = anyio.CapacityLimiter(3)
        limiter.acquire_on_behalf_of_nowait("another task")
        scheduler = Scheduler(
            Job(nap, 9, label="here"), job, jobs_window=limiter, label="s"
        )
        async with limiter, anyio.create_task_group() as tasks:
            tasks.start_soon(scheduler.co_run)
            await anyio.sleep(2)
            text = scheduler.explain(job)
            tasks.cancel_scope.cancel()
        return text

    job = Job(nap, label="job")
    assert virtual(main) == (
        "'job' waits for a token of the window of 's': its limiter is exhausted, with 'here', and 2 elsewhere"
    )


def test_explain_names_the_holders_of_a_limiter_in_all_schedulers(
    virtual: Virtual,
) -> None:
    """If several schedulers share a limiter, `explain` names the jobs that hold its tokens in all of them."""

    async def main() -> str:
        limiter = anyio.CapacityLimiter(2)
        inner = Scheduler(
            Job(nap, 9, label="inside"), jobs_window=limiter, label="inner"
        )
        scheduler = Scheduler(inner, Job(nap, 9, label="beside"), jobs_window=limiter)
        async with running(scheduler, 1):
            inner.add(job)
            await anyio.sleep(1)
            return scheduler.explain(job)

    job = Job(nap, label="job")
    assert re.fullmatch(
        r"'job' waits for a token of the window of 'inner': its limiter is exhausted, "
        r"with '(beside', 'inside|inside', 'beside)'",
        virtual(main),
    )


@pytest.mark.fast_way("asyncio")  # a task for each job holds no token between two jobs
def test_explain_names_the_job_for_which_a_limiter_token_is_held_between_two_jobs(
    virtual: Virtual,
) -> None:
    """It is the one that starts next, though none runs at that moment. A token that no job has yet is elsewhere."""
    computed: list[str] = []
    told: list[tuple[str, int]] = []

    async def compute(name: str) -> None:
        computed.append(name)
        pass_time(virtual.backend, 0.002)

    async def look() -> None:
        while not job.is_running():
            await anyio.lowlevel.checkpoint()
            if (text := scheduler.explain(job)).startswith(exhausted):
                told.append((text.removeprefix(exhausted), len(computed)))

    def pair(number: int, limiter: anyio.CapacityLimiter) -> Scheduler:
        return Scheduler(
            Sequence(
                Job(compute, name, label=name)
                for name in f"{number}a {number}b".split()
            ),
            jobs_window=limiter,
        )

    async def main() -> None:
        limiter = anyio.CapacityLimiter(1)
        groups = [pair(number, limiter) for number in range(9)]
        scheduler.update(
            [Job(look), groups, Scheduler(job, jobs_window=limiter, label="s")]
        )
        assert await scheduler.co_run(check=True)

    scheduler, job = Scheduler(), Job(nap, 0, label="job")
    exhausted = (
        "'job' waits for a token of the window of 's': its limiter is exhausted, with "
    )
    virtual(main)
    named = [(text, done) for text, done in told if text != "1 elsewhere"]
    assert len(named) > 3
    assert named == [(repr(computed[done]), done) for _, done in named]


def test_waiting_gives_a_cause_only_for_ready_jobs(virtual: Virtual) -> None:
    first, ready = Job(nap, 3), Job(nap)
    behind = Job(nap, required=first)

    async def main() -> list[Waiting | None]:
        async with running(Scheduler(first, ready, behind, jobs_window=1), 2):
            return [waiting(job) for job in (first, ready, behind)]

    assert virtual(main) == [None, (WaitCause.SLOT, "", "no free slot"), None]


def test_explain_reports_that_a_ready_job_is_about_to_start(virtual: Virtual) -> None:
    asking, job = Job(at_once, lambda: scheduler.explain(job)), Job(nap, label="job")
    scheduler = Scheduler(asking, job)
    virtual(scheduler.co_run)
    text = "is ready, and starts in this iteration of the event loop or the next, or after other ready jobs"
    assert asking.result() == f"'job' {text}"


def test_explain_promises_no_slot_to_more_jobs_than_there_are_slots(
    virtual: Virtual,
) -> None:
    """While slots are being given to the first of many ready jobs, the last ones are told that others come first."""
    asking, last = Job(at_once, lambda: scheduler.explain(last), priority=1), Job(nap)
    scheduler = Scheduler(
        asking, *(Job(nap) for _ in range(199)), last, jobs_window=100
    )
    virtual(scheduler.co_run)
    assert "or after other ready jobs" in asking.result()


# --- running
def test_explain_gives_the_running_time_and_what_is_known_beside_it(
    virtual: Virtual,
) -> None:
    """The number of the attempt, and whether a service is ready."""
    running = {
        Job(nap, 9, label="job"): "2 s",
        Job(fail, 1.5, label="again", retry=5): "500 ms, in attempt 2",
        Service(serve, 1, label="ready"): "2 s, and is ready for those that require it",
        Service(serve, 9, label="late"): "2 s, and has not reported that it is ready",
    }
    texts = [
        f"'{job.label}' has been running for {words}" for job, words in running.items()
    ]
    assert all_explained_during(Scheduler(running), running, virtual) == texts


def test_nested_job_is_explained_by_the_outer_scheduler(virtual: Virtual) -> None:
    inside, waiting = Job(nap, 9, label="inside"), Job(nap, label="waiting")
    outer = Scheduler(Scheduler(Scheduler(inside, waiting, jobs_window=1)))
    assert all_explained_during(outer, [inside, waiting], virtual) == [
        "'inside' has been running for 2 s", "'waiting' waits for a slot: the window is full, with 'inside'"
    ]  # fmt: skip


# --- settled
@pytest.mark.parametrize("running", [True, False])
def test_explain_gives_the_duration_of_a_success(
    virtual: Virtual, running: bool
) -> None:
    job = Job(nap, 1, label="job")
    ask: Callable[..., str] = explained_during if running else explained_after
    assert ask(Scheduler(job, Job(nap, 9)), job, virtual) == "'job' succeeded after 1 s"


def test_explain_reports_no_timeout_if_a_later_attempt_succeeded(
    virtual: Virtual,
) -> None:
    lasts = iter([9, 1])
    job = Job(
        lambda: anyio.sleep(next(lasts)),
        label="job",
        timeout=2,
        retry=Retry(None, first=0, on=JobTimeout),
    )
    scheduler = Scheduler(job)
    assert virtual(scheduler.co_run)
    assert job.timed_out
    assert scheduler.explain(job) == "'job' succeeded after 3 s"


def test_explain_gives_duration_and_exception_of_a_failure(virtual: Virtual) -> None:
    """It leaves out the middle of a long message, and says what a timeout or `critical=True` makes of the failure."""
    job, other = Job(fail, label="job"), Job(fail, 1, OSError(""), label="other")
    long, late = (
        Job(fail, 1, OSError("x" * 201)),
        Job(nap, 9, label="late", timeout=2, on_timeout="move_on"),
    )
    critical = Job(fail, 3, label="critical", critical=True)
    scheduler = Scheduler(job, other, long, late, critical)
    assert (
        explained_after(scheduler, job, virtual)
        == "'job' failed after 1 s, with OSError: broken"
    )
    assert scheduler.explain(other) == "'other' failed after 1 s, with OSError"
    beginning, end = scheduler.explain(long).partition("with OSError: ")[2].split("…")
    assert len(beginning) + len(end) == 199
    assert scheduler.explain(late) == (
        "'late' succeeded after 2 s: its timeout cancelled it, which counts as success with on_timeout='move_on'"
    )
    assert scheduler.explain(critical) == (
        "'critical' failed after 3 s, with OSError: broken; it was critical, and ended the run"
    )


def test_explain_reports_that_an_interruption_ended_the_run(virtual: Virtual) -> None:
    job = Job(fail, 1, SystemExit(3), label="job")
    inner = Scheduler(job, label="inner")
    with pytest.raises(SystemExit):
        virtual(Scheduler(inner).co_run)
    assert (
        inner.explain(job)
        == "'job' failed after 1 s, with SystemExit: 3; that ended the run"
    )
    assert inner.scheduler is not None
    assert (
        inner.scheduler.explain(inner)
        == "'inner' failed after 1 s, with SystemExit: 3; that ended the run"
    )


def test_explain_distinguishes_cancel_of_a_job_from_the_end_of_the_run(
    virtual: Virtual,
) -> None:
    """`explain` says that a job was cancelled by its own `cancel()`, whether or not the job had started. The text once
    read "the run stopped: completed", as if that had been the reason."""
    job, idle = Job(nap, 9, label="job"), Job(nap, label="idle")
    nested = Scheduler(Job(nap, 9), label="nested")

    async def cancel() -> None:
        await anyio.sleep(1)
        job.cancel()
        idle.cancel()
        nested.cancel()

    scheduler = Scheduler(job, Job(cancel), idle.requires(job), nested)
    assert (
        explained_after(scheduler, job, virtual)
        == "'job' was cancelled after 1 s, by its own cancel()"
    )
    assert (
        scheduler.explain(idle)
        == "'idle' was cancelled before it started, by its own cancel()"
    )
    assert (
        scheduler.explain(nested)
        == "'nested' was cancelled after 1 s, by its own cancel()"
    )


def test_explain_knows_a_cancel_from_the_end_of_the_run_in_which_it_comes(
    virtual: Virtual,
) -> None:
    clean_up = Job(
        nap,
        9,
        label="clean-up",
        run_if="failed",
        required=(failing := Job(fail, critical=True)),
    )
    cancels = Job(later, 2, clean_up.cancel, forever=True)
    assert explained_after(
        Scheduler(failing, clean_up, cancels), clean_up, virtual
    ) == ("'clean-up' was cancelled after 1 s, by its own cancel()")
    service, one = Service(serve, label="service"), Job(nap, 9, label="one")
    holder, unreached = (
        Job(nap, 9, forever=True, label=label, needs={"cpu": 1})
        for label in ("holder", "unreached")
    )
    first = First(one, Job(nap, 3), label="first")
    cancels = [Job(later, 1, service.cancel), Job(later, 1, one.cancel)]
    scheduler = Scheduler(holder, service, first, unreached, *cancels, pool=Pool(cpu=1))
    assert (
        explained_after(scheduler, service, virtual)
        == "'service' was cancelled after 1 s, by its own cancel()"
    )
    assert first.explain(one) == "'one' was cancelled after 1 s, by its own cancel()"
    assert (
        scheduler.explain(unreached)
        == "'unreached' was cancelled before it started; the run stopped: completed"
    )


def test_explain_gives_the_stop_reason_of_a_job_cancelled_with_the_run(
    virtual: Virtual,
) -> None:
    job, waiting = Job(nap, 9, label="job"), Job(nap, label="waiting")
    forever = Job(anyio.sleep_forever, label="forever", forever=True)
    scheduler = Scheduler(job, waiting, forever, timeout=2, jobs_window=1)
    assert (
        explained_after(scheduler, job, virtual)
        == "'job' was cancelled after 2 s; the run stopped: timeout"
    )
    assert (
        scheduler.explain(waiting)
        == "'waiting' was cancelled before it started; the run stopped: timeout"
    )
    assert (
        scheduler.explain(forever)
        == "'forever' was cancelled after 2 s; the run stopped: timeout"
    )
    other = Job(nap, 5, forever=True, label="other")
    text = explained_after(Scheduler(Job(nap), other), other, virtual)
    assert text == "'other' ran alongside the others for 1 s, and was then cancelled"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (0.1 + 0.2, "300 ms"), (12345.6789, "3 h 26 min")],
)
def test_explain_prints_durations_in_a_readable_unit(
    virtual: Virtual, seconds: float, words: str
) -> None:
    """`explain` prints durations without exponents, with three significant digits, as all views do."""
    job = Job(nap, seconds, label="job")
    scheduler = Scheduler(job)
    assert virtual(scheduler.co_run)
    assert scheduler.explain(job) == f"'job' succeeded after {words}"


def test_explain_reports_that_the_run_did_not_reach_a_job(virtual: Virtual) -> None:
    job, nested = Job(nap, label="job"), Job(nap, label="nested")
    inner = Scheduler(Scheduler(nested, label="inmost"), label="inner")
    scheduler = Scheduler(
        slow := Job(nap, 9),
        job.requires(slow),
        inner.requires(slow),
        timeout=2,
        label="s",
    )
    assert (
        explained_after(scheduler, job, virtual)
        == "'job' was not reached: the run of 's' stopped before (timeout)"
    )
    assert (
        scheduler.explain(nested)
        == "'nested' was not reached: the run of 's' stopped before (timeout)"
    )


def test_explain_does_not_take_the_run_of_a_group_before_for_that_which_it_did_not_reach(
    virtual: Virtual,
) -> None:
    """What the group requires was tried again, and failed. The job "was not reached: the run stopped (completed)"."""
    bodies = iter((nap, fail))
    source = Job(lambda: next(bodies)(1), label="source")
    job = Job(nap, label="job")
    group = Scheduler(job, label="group", required=source)
    scheduler = Scheduler(source, group, Job(later, 4, source.try_again))
    why = "its scheduler 'group' is blocked: 'source' did not succeed"
    assert explained_after(scheduler, job, virtual).startswith(
        f"'job' was not reached again: {why}"
    )


def test_explain_says_that_a_job_that_was_taken_back_was_not_reached_again(
    virtual: Virtual,
) -> None:
    """It has run, but explain() said that it was not reached."""
    source = Job(nap, 1, label="source")
    job = Job(nap, 1, label="job", required=source)
    member = Job(nap, 1, label="member")
    group = Scheduler(member, label="group", required=source)
    seen = list[str]()

    async def take_back() -> None:
        await anyio.sleep(3)
        source.try_again()
        scheduler.drain()
        seen.append(scheduler.explain(job))

    scheduler = Scheduler(source, job, group, Job(take_back), label="s")
    why = "not reached again: the run of 's' stopped before (drained)"
    assert explained_after(scheduler, job, virtual) == f"'job' was {why}"
    assert scheduler.explain(group) == f"'group' was {why}"
    assert scheduler.explain(member) == f"'member' was {why}"
    assert seen[0].startswith("'job' will not be reached again: 's' is draining")


@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize(
    ("run_if", "body", "why"),
    [
        (
            "failed",
            nap,
            "was skipped: run_if='failed', and none of its requirements failed",
        ),
        (
            "succeeded",
            fail,
            "is blocked: 'source' did not succeed; the original failure is OSError: broken",
        ),
    ],
)
def test_explain_names_an_unreached_group(
    virtual: Virtual, run_if: Any, body: Any, why: str, depth: int
) -> None:
    """`explain` says which scheduler around a job was SKIPPED or BLOCKED, so that the job was not reached, and why."""
    job: AbstractJob[Any] = Job(nap, label="job")
    inside = job
    for _ in range(depth):
        inside = Scheduler(inside)
    source = Job(body, label="source")
    inner = Scheduler(inside, label="inner", required=source, run_if=run_if)
    scheduler = Scheduler(source, inner, Job(nap, 9))
    wanted = f"'job' was not reached: its scheduler 'inner' {why}"
    assert explained_during(scheduler, job, virtual) == wanted
    assert scheduler.explain(job) == wanted


def test_explain_reports_that_a_stopping_run_will_not_reach_a_job(
    virtual: Virtual,
) -> None:
    async def slow() -> None:
        try:
            await anyio.sleep(9)
        finally:
            said.append(scheduler.explain(job))

    said: list[str] = []
    first, job = Job(slow), Job(nap, label="job")
    scheduler = Scheduler(first, job.requires(first), timeout=2, label="s")
    virtual(scheduler.co_run)
    assert said == ["'job' will not be reached: 's' is stopping (timeout)"]


def test_explain_knows_which_jobs_a_stopping_run_still_reaches(
    virtual: Virtual,
) -> None:
    failing = Job(fail, critical=True)
    first = Job(fail, 5, label="first", run_if="failed", required=failing)
    second = Job(nap, label="second", run_if="failed", required=first)
    scheduler = Scheduler(failing, first, second, label="s", cleanup_timeout=9)
    assert (
        explained_during(scheduler, second, virtual)
        == "'second' waits for 'first': 'first' has been running for 1 s"
    )
    virtual(scheduler.co_run)
    assert second.state is JobState.SUCCEEDED


def test_explain_knows_which_jobs_a_draining_run_may_still_reach(
    virtual: Virtual,
) -> None:
    """A job that cleaned up, because the timeout came in the drain, had been said to be out of reach."""
    long, drain = Job(nap, 9), Job(later, 1, lambda: scheduler.drain())
    clean_up, other = (
        Job(nap, label="clean-up", run_if="failed", required=long),
        Job(nap, required=long, label="other"),
    )
    scheduler = Scheduler(long, drain, clean_up, other, timeout=3, label="s")
    text = "will not be reached: 's' is draining, and starts no more jobs"
    wanted = (
        f"'clean-up' {text}, but for clean-up after a critical failure or a timeout"
    )
    assert explained_during(scheduler, clean_up, virtual) == wanted
    assert explained_during(scheduler, other, virtual) == f"'other' {text}"
    assert (
        explained_after(scheduler, clean_up, virtual)
        == "'clean-up' succeeded after 1 s"
    )


def test_explain_knows_that_the_time_is_over_before_the_run_does() -> None:
    """On trio, a job that is not reached any more is known as soon as the deadline has passed, in the same turn."""

    async def busy() -> str:
        clock.jump(3)
        return scheduler.explain(job)

    clock = trio.testing.MockClock()
    first = Job(busy)
    job = Job(nap, label="job", required=first)
    scheduler = Scheduler(first, job, timeout=2, label="s")
    assert not scheduler.run(backend_options={"clock": clock})
    assert first.result() == "'job' will not be reached: 's' is stopping (timeout)"


def test_explain_names_the_requirement_and_root_failure_of_a_blocked_job(
    virtual: Virtual,
) -> None:
    """The root may be a cancellation."""
    root, middle = Job(fail, label="root"), Job(nap, label="middle")
    job, cancelled = (
        Job(nap, middle.requires(root), label="job"),
        Job(nap, 9, label="cancelled"),
    )
    other = Job(nap, cancelled, label="other")
    scheduler = Scheduler(
        root, middle, job, cancelled, Job(at_once, cancelled.cancel), other
    )
    assert explained_after(scheduler, job, virtual) == (
        "'job' is blocked: 'middle' did not succeed; the original failure is OSError: broken"
    )
    reason = "the original failure is JobCancelled: 'cancelled' was cancelled"
    assert (
        scheduler.explain(other)
        == f"'other' is blocked: 'cancelled' did not succeed; {reason}"
    )


def test_explain_names_the_cause_of_a_skipped_job(virtual: Virtual) -> None:
    good, bad = Job(nap, label="good"), Job(fail, label="bad")
    alarm = Job(nap, label="alarm", run_if="failed", required=good)
    job = Job(nap, alarm, label="job")
    both = Job(nap, alarm, label="both", run_if="failed", required=bad)
    scheduler = Scheduler(good, bad, alarm, job, both)
    assert (
        explained_after(scheduler, alarm, virtual)
        == "'alarm' was skipped: run_if='failed', and none of its requirements failed"
    )
    assert scheduler.explain(job) == "'job' was skipped: 'alarm' was skipped"
    assert scheduler.explain(both) == "'both' was skipped: 'alarm' was skipped"


def test_explain_of_a_job_outside_the_scheduler_raises_key_error() -> None:
    scheduler = Scheduler(label="s")
    with pytest.raises(KeyError, match=r"'stranger' is not in 's'"):
        scheduler.explain(Job(nap, label="stranger"))
    with pytest.raises(KeyError):
        scheduler.explain(scheduler)


def test_a_job_that_has_a_slot_is_not_said_to_wait_for_one(virtual: Virtual) -> None:
    """A job that was admitted to a full window, and has not begun, is ready: the slot is its own."""
    seen: list[str] = []
    first, admitted = (
        Job(at_once, lambda: seen.append(scheduler.explain(admitted))),
        Job(nap),
    )
    scheduler = Scheduler(first, admitted, jobs_window=2)
    assert virtual(scheduler.co_run)
    assert "waits for a slot" not in seen[0]


def test_a_cancelled_job_is_explained_by_the_run_in_progress(virtual: Virtual) -> None:
    lingers, quick = Job(unwind, 99, 5), Job(nap, 9)
    scheduler = Scheduler(lingers, quick, timeout=1)
    assert (
        explained_after(scheduler, quick, virtual)
        == "'nap(9)' was cancelled after 1 s; the run stopped: timeout"
    )
    scheduler.timeout = None

    async def main() -> str:
        async with running(scheduler, 2):
            scheduler.cancel()
            await nap(1)
            return scheduler.explain(quick)

    assert (
        virtual(main) == "'nap(9)' was cancelled after 2 s; the run stopped: cancelled"
    )


def test_a_job_whose_backoff_is_over_waits_for_what_any_job_waits_for(
    virtual: Virtual,
) -> None:
    """The time of its next attempt has come, so it waits for a slot, and not for a retry "in 0 s"."""
    job = Job(fail, 1, retry=Retry(1, first=0.5, jitter=False), label="again")
    scheduler = Scheduler(job, Job(nap, 9, label="other"), jobs_window=1)
    slot = "waits for a slot: the window is full, with 'other'"
    assert (
        explained_during(scheduler, job, virtual)
        == f"'again' {slot}; it is attempt 2 of 2, after OSError: broken"
    )


def test_a_job_that_was_tried_again_has_all_its_attempts_and_those_left_counted(
    virtual: Virtual,
) -> None:
    """Two attempts have failed before, and its `retry` allows two more."""
    job = Job(fail, 1, retry=Retry(1, first=5, jitter=False), label="again")
    seen: list[str] = []
    look = Job(later, 12, lambda: seen.append(scheduler.explain(job)))
    scheduler = Scheduler(job, Job(later, 10, job.try_again), look, log=False)
    assert not virtual(scheduler.co_run)
    text = "'again' will be retried in 4 s, attempt 4 of 4, after OSError: broken"
    assert seen == [text]
