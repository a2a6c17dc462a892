"""The outcome of a run: its result and its stop reason; critical jobs; repeated runs."""

import functools
import itertools
import logging
from typing import Any
import anyio
import anyio.lowlevel
import pytest
import trioflow
from trioflow import (
    First,
    Job,
    JobState,
    Retry,
    Scheduler,
    Sequence,
    Service,
    StopReason,
    current_scheduler,
    ref,
)
from trioflow.abc import criticality
from trioflow.graph import keep_only
from trioflow.testing import virtual_options
from .. import bodies
from ..bodies import (
    BLOCKED,
    CANCELLED,
    FAILED,
    IDLE,
    SUCCEEDED,
    fail,
    flaky,
    later,
    nap,
    serve,
    states,
    take,
    timed,
)
from ..conftest import Virtual


# --- the result
def test_run_of_jobs_that_succeed_returns_true(virtual: Virtual) -> None:
    scheduler = Scheduler(Job(nap, 1), Job(nap, 3), Job(nap, 2))
    assert virtual(timed, scheduler) == (True, 3)
    assert scheduler.stop_reason is StopReason.COMPLETED
    assert scheduler.culprit is None
    assert states(scheduler) == [SUCCEEDED] * 3


def test_run_passes_backend_options_to_the_event_loop(backend: Any) -> None:
    job = Job(nap, 3600, "value")
    assert (
        Scheduler(job).run(backend=backend, backend_options=virtual_options(backend))
        is True
    )
    assert (job.elapsed, job.result()) == (3600, "value")


def test_run_of_an_empty_scheduler_returns_true(virtual: Virtual) -> None:
    assert virtual(timed, Scheduler()) == (True, 0)
    assert virtual(timed, Scheduler(Scheduler(), Scheduler(Scheduler()))) == (True, 0)


def test_what_cancel_has_ended_does_not_count(virtual: Virtual) -> None:
    """A job that `cancel()` ended fails nothing, nor does what is BLOCKED because of it alone."""
    slow = Job(nap, 9)
    blocked = Job(nap, required=slow)
    scheduler = Scheduler(
        slow, Job(later, 1, slow.cancel), blocked, Job(nap, required=blocked)
    )
    assert virtual(scheduler.co_run) is True
    assert (slow.state, blocked.state) == (CANCELLED, BLOCKED)
    bad, slow = Job(fail, critical=False), Job(nap, 9)
    scheduler = Scheduler(
        Job(later, 1, slow.cancel), slow, Job(take, bad, required=slow)
    )
    assert virtual(scheduler.co_run) is False


async def handle(job: Any) -> None:
    with pytest.raises(OSError, match="broken"):
        await job


@pytest.mark.parametrize("keep_jobs", [True, False])
def test_a_failure_that_an_await_raises_belongs_to_whoever_awaits(
    virtual: Virtual, keep_jobs: bool
) -> None:
    async def main(cut: bool) -> bool:
        async with Scheduler(keep_jobs=keep_jobs) as scheduler:
            for _ in range(40):
                scheduler.add(Job(handle, ref(scheduler.add(Job(fail, 1)))))
            early, late = scheduler.add(Job(fail, 1)), scheduler.add(Job(nap, 2))
            await late
            await handle(early)
            if cut:
                with anyio.move_on_after(1):
                    await scheduler.add(Job(fail, 2))
        return scheduler.stop_reason is StopReason.COMPLETED

    assert virtual(main, False) is True
    with pytest.raises(ExceptionGroup) as caught:
        virtual(main, True)
    assert len(caught.value.exceptions) == 1


def test_a_job_of_a_nested_scheduler_that_is_awaited_does_not_fail_it(
    virtual: Virtual,
) -> None:
    nested = Scheduler(bad := Job(fail, 1))
    assert virtual(Scheduler(nested, Job(handle, ref(bad))).co_run) is True
    assert nested.state is SUCCEEDED


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_without_kept_jobs_the_group_has_the_first_16(
    virtual: Virtual, depth: int
) -> None:
    async def call_all() -> None:
        for number in range(20):
            bad = current_scheduler().add(Job(fail, number + 1, OSError(number)))
            current_scheduler().add(Job(nap, required=bad))

    scheduler = Scheduler(Job(call_all), keep_jobs=False, label="calls")
    for _ in range(depth):
        scheduler = Scheduler(scheduler, label="calls")
    with pytest.raises(
        ExceptionGroup, match=r"jobs of 'calls' failed, and 4 more"
    ) as caught:
        virtual(lambda: scheduler.co_run(check=True))
    assert [
        error.args[0] for error in caught.value.exceptions if isinstance(error, OSError)
    ] == list(range(16))


@pytest.mark.parametrize("late", ["forever job", "service"])
def test_a_failure_during_the_ending_counts(virtual: Virtual, late: str) -> None:
    async def serve_clumsily(*, task_status: Any) -> None:
        task_status.started()
        await bodies.clumsy()

    job = (
        Service(serve_clumsily)
        if late == "service"
        else Job(bodies.clumsy, forever=True)
    )
    scheduler = Scheduler(job, Job(nap, 1))
    assert virtual(scheduler.co_run) is False
    assert (scheduler.stop_reason, scheduler.culprit) == (StopReason.FAILED, job)


def test_a_retry_asks_about_each_leaf_of_a_group(virtual: Virtual) -> None:
    """A nested scheduler is retried if `on` accepts each failure in it, at any depth, for classes and functions."""

    def asked(error: Exception) -> bool | float:
        return isinstance(error, OSError) and 2.0

    def nested(*errors: Exception, on: Any) -> Scheduler:
        return Scheduler(
            Scheduler(*(Job(fail, 1, error) for error in errors)),
            retry=Retry(1, first=2, jitter=False, on=on),
        )

    for on in (OSError, (OSError, KeyError), asked):
        for errors, attempts in (
            ((OSError(1), OSError(2)), 2),
            ((OSError(), ValueError()), 1),
        ):
            job = nested(*errors, on=on)
            virtual(Scheduler(job).co_run)
            assert (job.attempts, job.elapsed) == (
                attempts,
                4.0 if attempts == 2 else 1.0,
            )


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        ({"critical": True}, "write critical_jobs=True"),
        ({"critical": False}, "write critical_jobs=False"),
        ({"retry": 2}, "put it into another scheduler"),
        ({"forever": True}, "give it a timeout"),
        ({"run_if": "settled"}, "run the scheduler or not"),
        ({"timeout": 9, "on_timeout": "move_on"}, "stop_reason is TIMEOUT"),
        ({"required": Job(anyio.sleep, 0, label="first")}, "add both to one scheduler"),
    ],
)
def test_an_option_for_an_enclosing_scheduler_is_refused_on_the_outermost(
    options: dict[str, Any], cure: str
) -> None:
    started = Job(nap, 0)
    scheduler = Scheduler(started, **options)
    (name,) = options.keys() - {"timeout"}
    for _ in range(2):
        with pytest.raises(ValueError, match=rf"{name}=.* of 'Scheduler'.*{cure}"):
            scheduler.run()
    assert started.state is IDLE
    required = [job for job in scheduler.required if job.scheduler is None]
    assert Scheduler(required, scheduler, Job(nap, 0)).run() is True


def test_failures_are_counted_in_one_warning_at_the_end(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    """After failures, the last warning in the log counts them, nested ones included, and names `debrief()`."""
    scheduler = Scheduler(
        Job(fail), Job(nap), Scheduler(Job(fail), Job(fail)), label="home"
    )
    assert virtual(scheduler.co_run) is False
    warnings = [
        record for record in caplog.records if record.levelno >= logging.WARNING
    ]
    assert {record.name for record in warnings} == {"trioflow"}
    assert (
        warnings[-1]
        .getMessage()
        .startswith("3 jobs of 'home' failed; the run has failed; debrief()")
    )
    virtual(Scheduler(Job(fail), Job(fail, critical=False), label="home").co_run)
    assert caplog.messages[-1].startswith(
        "1 job of 'home' failed, 1 more was tolerated; the run has failed; debrief()"
    )


def test_the_log_says_which_failures_are_tolerated(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    assert (
        virtual(Scheduler(Job(fail), label="home", critical_jobs=False).co_run) is True
    )
    assert caplog.messages == [
        "'fail()' failed: OSError: broken; it is tolerated, and the run goes on; debrief() shows the traceback",
        "1 job of 'home' failed; this failure was tolerated; debrief() shows the tracebacks",
    ]


def test_successful_run_logs_nothing(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    assert virtual(Scheduler(Job(nap)).co_run) is True
    assert not caplog.records


def test_run_with_a_critical_failure_returns_false_and_cancels_at_once(
    virtual: Virtual,
) -> None:
    """A critical failure cancels running jobs at once, leaves others IDLE, and makes the failed job the culprit."""
    bad = Job(fail, 1, critical=True)
    running, waiting = Job(nap, 5), Job(nap)
    after = Job(nap, required=bad)
    later = Job(nap, required=running)
    scheduler = Scheduler(bad, running, waiting, after, later, jobs_window=2)
    assert virtual(timed, scheduler) == (False, 1)
    assert states(scheduler) == [FAILED, CANCELLED, CANCELLED, IDLE, IDLE]
    assert scheduler.stop_reason is StopReason.CRITICAL
    assert scheduler.culprit is bad


def test_stop_reason_is_none_before_the_first_run() -> None:
    scheduler = Scheduler(Job(nap))
    assert (scheduler.stop_reason, scheduler.culprit, scheduler.timed_out) == (
        None,
        None,
        False,
    )
    assert scheduler.results() == scheduler.failures() == {}


def test_stop_reason_is_none_during_each_run(virtual: Virtual) -> None:
    """A second run does not have the reason and the culprit of the first."""
    seen: list[Any] = []

    async def fail_later() -> None:
        seen.append((scheduler.stop_reason, scheduler.culprit))
        raise OSError

    job = Job(fail_later)
    scheduler = Scheduler(job, log=False)
    for _ in range(2):
        assert virtual(scheduler.co_run) is False
        assert (scheduler.stop_reason, scheduler.culprit) == (StopReason.FAILED, job)
    assert seen == [(None, None)] * 2


@pytest.mark.parametrize("word", ["fail", "cancel", "drain", "timeout"])
@pytest.mark.parametrize("first", ["critical", "cancel", "timeout"])
def test_of_several_reasons_the_first_counts(
    virtual: Virtual, first: str, word: str
) -> None:
    """A job that unwinds for one reason brings another: a critical failure, a word, or the end of the time."""

    async def unwind() -> None:
        try:
            await anyio.sleep(99)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(3 if word == "timeout" else 0)
            if word == "fail":
                raise OSError
            if word in ("cancel", "drain"):
                getattr(scheduler, word)()

    begin = {
        "critical": Job(fail, 1, critical=True),
        "cancel": Job(later, 1, lambda: scheduler.cancel()),
        "timeout": Job(nap, 99),
    }[first]
    scheduler = Scheduler(
        Job(unwind, critical=True),
        begin,
        timeout=1 if first == "timeout" else 2,
        log=False,
    )
    assert virtual(scheduler.co_run) is False
    assert (
        scheduler.stop_reason
        is {
            "critical": StopReason.CRITICAL,
            "cancel": StopReason.CANCELLED,
            "timeout": StopReason.TIMEOUT,
        }[first]
    )
    assert scheduler.culprit is (begin if first == "critical" else None)


# --- critical and its inheritance
def test_critical_is_inherited_from_the_nearest_value_that_is_not_none() -> None:
    for kind, *values in itertools.product(
        [Scheduler, First], *[[None, True, False]] * 4
    ):
        own, jobs, inner, outer = values
        job = Job(nap, critical=own)
        Scheduler(kind(job, critical_jobs=jobs, critical=inner), critical_jobs=outer)
        reached = [own, jobs] if kind is First else [own, jobs, outer]
        nearest = next((value for value in reached if value is not None), None)
        assert criticality(job) is nearest, values


def test_a_member_that_runs_alone_has_the_critical_jobs_around_it(
    virtual: Virtual,
) -> None:
    """Once, its jobs were critical when its run had ended, but not before."""
    inner = Scheduler(Job(fail), after := Job(nap, 2))
    Scheduler(inner, critical_jobs=True)
    assert virtual(inner.co_run) is False
    assert (inner.stop_reason, after.state) == (StopReason.CRITICAL, JobState.CANCELLED)


# --- running again
def test_running_again_resets_every_job(virtual: Virtual) -> None:
    job = Job(flaky(), critical=True)
    after = Job(nap, 1, "after", required=job)
    inside = Job(nap, 1, "inside")
    scheduler = Scheduler(job, after, Scheduler(inside, required=job))
    assert virtual(scheduler.co_run) is False
    assert states(scheduler) == [FAILED, IDLE, IDLE]
    assert virtual(scheduler.co_run) is True
    assert (job.result(), after.result(), inside.result()) == (2, "after", "inside")
    assert job.raised_exception() is None
    assert scheduler.stop_reason is StopReason.COMPLETED
    assert scheduler.culprit is None
    assert job.attempts == 1


def test_running_again_resets_jobs_that_are_not_reached(virtual: Virtual) -> None:
    bodies = iter([nap, fail])
    first = Job(lambda: next(bodies)(), critical=True)
    inside = Job(nap, 1, "old")
    inner = Scheduler(Scheduler(inside), required=first)
    scheduler = Scheduler(first, inner)
    assert virtual(scheduler.co_run) is True
    assert inside.result() == "old"
    assert virtual(scheduler.co_run) is False
    assert (inside.state, inner.state, inner.stop_reason) == (IDLE, IDLE, None)
    with pytest.raises(trioflow.JobNotDone):
        inside.result()


def test_run_options_apply_to_one_run_only(virtual: Virtual) -> None:
    """`timeout=` and `jobs_window=` of `run()` apply to one run; None lifts the scheduler's own limit for one run."""
    scheduler = Scheduler(Job(nap, 1), Job(nap, 1), timeout=5, jobs_window=1)
    assert virtual(functools.partial(timed, scheduler, timeout=0.5)) == (False, 0.5)
    assert virtual(functools.partial(timed, scheduler, jobs_window=2)) == (True, 1)
    assert virtual(functools.partial(timed, scheduler, jobs_window=None)) == (True, 1)
    assert virtual(timed, scheduler) == (True, 2)
    assert (scheduler.timeout, scheduler.jobs_window) == (5, 1)


def test_scheduler_may_be_changed_between_runs(virtual: Virtual) -> None:
    a, b = Job(nap, 1), Job(nap, 1)
    scheduler = Scheduler(Sequence(a, b))
    assert virtual(timed, scheduler) == (True, 2)
    keep_only(scheduler, [b])
    c = scheduler.add(Job(nap, 3, required=b))
    assert virtual(timed, scheduler) == (True, 4)
    assert c.started_at == 1
    assert a.state is SUCCEEDED


def test_scheduler_can_run_on_both_backends_in_turn() -> None:
    job = Job(nap, 0, 1)
    scheduler = Scheduler(job, Scheduler(Job(nap, 0)), jobs_window=1)
    assert scheduler.run(backend="trio") is True
    assert scheduler.run(backend="asyncio") is True
    assert scheduler.run(backend="trio") is True


def test_repr_shows_label_and_state(virtual: Virtual) -> None:
    """After a run, it shows the outcome."""
    job = Job(fail, critical=True, label="job")
    scheduler = Scheduler(job, label="home")
    for each in (job, scheduler):
        assert each.label in repr(each)
        assert "idle" in repr(each)
    virtual(scheduler.co_run)
    assert "failed" in repr(job)
    assert "critical, 1 job>" in repr(scheduler)


# --- the outcomes of all jobs at once: `results`, `failures`, `rows`; and results without traps


@pytest.fixture
def mixed(virtual: Virtual) -> dict[str, Any]:
    jobs: dict[str, Any] = {
        "fine": Job(bodies.give_now, 1, label="fine"),
        "wrong": Job(fail, label="wrong"),
    }
    jobs["blocked"] = Job(bodies.give_now, jobs["wrong"], label="blocked")
    jobs["skipped"] = Job(
        bodies.give_now, 0, label="skipped", run_if="failed", required=jobs["fine"]
    )
    jobs["late"] = Job(nap, 50, label="late")
    jobs["unreached"] = Job(
        bodies.give_now, 0, label="unreached", required=jobs["late"]
    )
    jobs["deep"] = Job(bodies.give_now, 2, label="deep")
    jobs["inner"] = Scheduler(jobs["deep"], label="inner")
    jobs["service"] = Service(serve, 0, "address", label="service")
    members = [job for name, job in jobs.items() if name != "deep"]
    jobs["all"] = Scheduler(members, timeout=5, label="all")
    virtual(jobs["all"].co_run)
    return jobs


def test_results_and_failures_are_those_of_the_jobs_that_have_ended(
    mixed: dict[str, Any],
) -> None:
    assert mixed["all"].results() == {
        mixed["fine"]: 1,
        mixed["deep"]: 2,
        mixed["service"]: "address",
    }
    assert mixed["all"].failures() == {
        mixed["wrong"]: mixed["wrong"].raised_exception()
    }


def test_result_with_a_default_never_raises(mixed: dict[str, Any]) -> None:
    missing = object()
    got = {
        name: job.result(default=missing)
        for name, job in mixed.items()
        if name != "all"
    }
    assert {name for name, value in got.items() if value is not missing} == {
        "fine",
        "deep",
        "inner",
        "service",
    }
    assert got["fine"] == 1


def test_is_succeeded_is_true_of_one_state_only(mixed: dict[str, Any]) -> None:
    jobs = [job for name, job in mixed.items() if name != "all"]
    assert [job for job in jobs if job.is_succeeded()] == [
        job for job in jobs if job.state is JobState.SUCCEEDED
    ]


def test_results_leaves_out_dropped_results(virtual: Virtual) -> None:
    """`results()` leaves out a result dropped by `keep_result=False`, and `result(default=7)` returns 7."""
    first = Job(bodies.give_now, 1, keep_result=False)
    second = Job(bodies.give_now, first)
    scheduler = Scheduler(first, second)
    virtual(scheduler.co_run)
    assert scheduler.results() == {second: 1}
    assert first.result(default=7) == 7
