"""Exceptions for a run as a whole: `check=` and `raise_for_failures`."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any
import anyio
import pytest
from trioflow import (
    Job,
    JobCancelled,
    JobTimeout,
    RequirementFailed,
    Scheduler,
    StopReason,
)
from .. import bodies
from ..bodies import (
    BLOCKED,
    CANCELLED,
    FAILED,
    IDLE,
    SKIPPED,
    alarm,
    at_once,
    fail,
    later,
    nap,
    nothing,
    unwind,
)
from ..conftest import Virtual

pytestmark = pytest.mark.usefixtures("keep_jobs")


# --- check= and raise_for_failures
def failures_of(scheduler: Scheduler) -> list[Any]:
    try:
        scheduler.raise_for_failures()
    except ExceptionGroup as group:
        return [*group.exceptions]
    return []


def raised_with(virtual: Virtual, run: Callable[..., Any], **options: Any) -> list[Any]:
    """Return the exceptions in the group that a call raises."""
    with pytest.raises(ExceptionGroup) as caught:
        virtual(functools.partial(run, **options))
    return [caught.value, *caught.value.exceptions]


# --- check= and raise_for_failures
def test_raise_for_failures_groups_in_settling_order(virtual: Virtual) -> None:
    errors = [OSError("one"), KeyError("two"), ValueError("three")]
    scheduler = Scheduler(
        Job(fail, 3, errors[2], label="third"),
        Scheduler(
            Job(fail, 1, errors[0], label="first"),
            Job(fail, 2, errors[1], label="second"),
            label="in",
        ),
        Job(nap),
    )
    assert virtual(scheduler.co_run) is False
    assert failures_of(scheduler) == failures_of(scheduler) == errors
    for error, label in zip(errors, ["first", "second", "third"], strict=True):
        assert len(error.__notes__) == 1
        assert label in error.__notes__[0]


def test_raise_for_failures_returns_without_failures(virtual: Virtual) -> None:
    scheduler = Scheduler(Job(nap))
    scheduler.raise_for_failures()
    assert virtual(functools.partial(scheduler.co_run, check=True)) is True
    scheduler.raise_for_failures()


def test_raise_for_failures_lists_a_nested_failure_once(virtual: Virtual) -> None:
    error = OSError("deep")
    through = Scheduler(
        Scheduler(Job(fail, 1, error), critical_jobs=True), critical_jobs=True
    )
    slow = Scheduler(Job(nap, 5), timeout=2, label="slow")
    scheduler = Scheduler(through, slow)
    assert virtual(scheduler.co_run) is False
    first, second = failures_of(scheduler)
    assert first is error
    assert isinstance(second, JobTimeout)
    assert "'slow'" in str(second)


@pytest.mark.parametrize("stops", [False, True], ids=["to its end", "cancelled"])
def test_raise_for_failures_can_raise_the_first_one(
    stops: bool, virtual: Virtual
) -> None:
    tolerated, first, second = (
        OSError("tolerated"),
        KeyError("first"),
        OSError("second"),
    )
    scheduler = Scheduler(
        Job(fail, 1, tolerated, critical=False),
        Scheduler(Job(fail, 2, first, label="first"), label="in"),
        Job(fail, 3, second),
        Job(nap, 4),
    )
    scheduler.raise_for_failures(first=True)
    if stops:
        scheduler.add(Job(later, 3.5, scheduler.cancel))
    assert virtual(scheduler.co_run) is False
    assert scheduler.stop_reason is (
        StopReason.CANCELLED if stops else StopReason.FAILED
    )
    for _ in range(2):
        with pytest.raises(KeyError) as caught:
            scheduler.raise_for_failures(first=True)
        assert caught.value is first
        assert caught.value.__context__ is None
    assert len(first.__notes__) == 1
    with pytest.raises(TypeError, match="first='no'"):
        scheduler.raise_for_failures(first="no")  # type: ignore[arg-type]


def test_check_raises_the_failures_of_a_run_that_failed(virtual: Virtual) -> None:
    error = OSError()
    bad, tolerated = Job(fail, 1, error), Job(fail, critical=False)
    scheduler = Scheduler(bad, tolerated, Job(nap, 2), Job(nap, required=bad))
    assert raised_with(virtual, scheduler.co_run, check=True)[1:] == [error]
    assert scheduler.stop_reason is StopReason.FAILED


def test_check_raises_all_failures_after_a_critical_one(virtual: Virtual) -> None:
    lenient, strict = OSError("lenient"), OSError("strict")
    scheduler = Scheduler(
        Job(fail, 1, lenient),
        Scheduler(Job(fail, 2, strict), critical_jobs=True, critical=True),
    )
    assert raised_with(virtual, scheduler.co_run, check=True)[1:] == [lenient, strict]


@pytest.mark.parametrize("check", [True, "first"])
def test_check_raises_the_reason_of_other_ends(virtual: Virtual, check: Any) -> None:
    slow = Scheduler(
        Job(nap, 5), *[Job(fail, 1)] * (check == "first"), label="slow", log=False
    )
    with pytest.raises(JobTimeout, match=r"'slow'.*2 s"):
        virtual(functools.partial(slow.co_run, timeout=2, check=check))
    scheduler = Scheduler(
        Job(at_once, lambda: scheduler.cancel()), Job(nap, 5), label="home"
    )
    with pytest.raises(JobCancelled, match="'home'"):
        virtual(functools.partial(scheduler.co_run, check=check))


def test_check_first_stores_no_cancellation_in_the_exception(virtual: Virtual) -> None:
    """A cancelled caller gets the first failure in place of the cancellation, which is not its context."""
    error = KeyError("first")

    async def main() -> None:
        with anyio.move_on_after(2):
            with pytest.raises(KeyError) as caught:
                await Scheduler(Job(fail, 1, error), Job(nap, 9), log=False).co_run(
                    check="first"
                )
            assert caught.value is error
            assert error.__context__ is None

    virtual(main)


@pytest.mark.parametrize("critical", [None, True])
def test_check_first_raises_the_first_failure_as_it_was_raised(
    virtual: Virtual, critical: bool | None
) -> None:
    """With `check="first"`, callers get the exception itself, also that of a job in a nested scheduler."""
    error = KeyError("first")
    tolerated = Job(fail, 1, critical=False)
    first = Job(fail, 2, error, critical=critical, label="first")
    inner = Scheduler(Job(nap, required=first), first, label="inner", critical=critical)
    scheduler = Scheduler(tolerated, inner, Job(fail, 3), label="outer", log=False)
    with pytest.raises(KeyError) as caught:
        virtual(functools.partial(scheduler.co_run, check="first"))
    assert caught.value is error
    assert (error.__cause__, error.__context__) == (None, None)
    assert error.__notes__ == [f"raised by the job '{first.path}' of 'outer'"]


def test_run_with_check_raises_the_failures(backend: Any) -> None:
    with pytest.raises(ExceptionGroup):
        Scheduler(Job(fail, 0)).run(backend=backend, check=True)


def test_the_number_of_the_rest_is_that_of_the_failures_that_count(
    virtual: Virtual, keep_jobs: bool
) -> None:
    """With `keep_jobs=False`, "and n more" leaves out a failure that a body has awaited, and what failed BLOCKED."""

    async def main() -> None:
        async with Scheduler() as scheduler:
            jobs = [scheduler.add(Job(fail, 1 + number)) for number in range(20)]
            scheduler.add(Job(nap, required=jobs[5]))
            await nap(4.5)
            with pytest.raises(OSError, match="broken"):
                await jobs[3]

    group, *failures = raised_with(virtual, main)
    assert len(failures) == 19 if keep_jobs else 16
    assert ("and 3 more" in str(group)) is not keep_jobs


@pytest.mark.parametrize("count", [1, 16, 17, 40])
@pytest.mark.parametrize("order", [1, -1])
def test_a_block_whose_body_has_handled_all_failures_raises_nothing(
    virtual: Virtual, count: int, order: int
) -> None:
    async def main() -> Scheduler:
        async with Scheduler() as scheduler:
            jobs: list[Any] = []
            for number in range(count):
                jobs.append(scheduler.add(Job(fail, number)))
                jobs.append(scheduler.add(Job(nap, required=jobs[-1])))
            await nap(count)
            for job in jobs[::order]:
                with pytest.raises((OSError, RequirementFailed)):
                    await job
        return scheduler

    assert virtual(main).stop_reason is StopReason.COMPLETED


def test_what_a_handled_failure_has_blocked_counts(virtual: Virtual) -> None:
    async def main() -> None:
        async with Scheduler() as scheduler:
            bad = scheduler.add(Job(fail, 1))
            scheduler.add(Job(nap, required=bad))
            await nap(2)
            with pytest.raises(OSError, match="broken"):
                await bad

    assert [type(error) for error in raised_with(virtual, main)[1:]] == [
        RequirementFailed
    ]


def test_failures_that_were_dropped_are_raised_by_number(
    virtual: Virtual, keep_jobs: bool
) -> None:
    """If a body has handled all failures that `keep_jobs=False` has kept, one exception says how many others count."""

    async def main() -> None:
        async with Scheduler(label="calls") as scheduler:
            jobs = [scheduler.add(Job(fail, number)) for number in range(18)]
            await nap(18)
            for job in jobs[:16]:
                with pytest.raises(OSError, match="broken"):
                    await job

    dropped = ["2 jobs of 'calls' failed, which keep_jobs=False has dropped"]
    assert [*map(str, raised_with(virtual, main)[1:])] == (
        ["broken"] * 2 if keep_jobs else dropped
    )


def test_what_a_dropped_failure_has_blocked_is_no_further_failure(
    virtual: Virtual, keep_jobs: bool
) -> None:
    async def main() -> None:
        async with Scheduler() as scheduler:
            bad = [scheduler.add(Job(fail, number)) for number in range(17)][-1]
            scheduler.add(Job(nap, required=bad))

    group, *failures = raised_with(virtual, main)
    assert len(failures) == (17 if keep_jobs else 16)
    assert ("and 1 more" in str(group)) is not keep_jobs


def test_failures_of_groups_come_in_the_order_in_which_their_jobs_settled(
    virtual: Virtual,
) -> None:
    """Groups that fail side by side, at any depth, do not keep theirs together: `raise_for_failures` says when each."""
    first, second, third, fourth, fifth, sixth = (
        Job(fail, number, OSError(number)) for number in range(1, 7)
    )
    deep = Scheduler(Scheduler(sixth, second), fourth)
    scheduler = Scheduler(deep, third, Scheduler(fifth, first))
    assert not virtual(scheduler.co_run)
    assert [error.args[0] for error in failures_of(scheduler)] == [1, 2, 3, 4, 5, 6]
    assert [error.args[0] for error in scheduler.failures().values()] == [
        1,
        2,
        3,
        4,
        5,
        6,
    ]
    with pytest.raises(OSError, match="1"):
        scheduler.raise_for_failures(first=True)


# --- What counts is decided once: the result, the reason, the exception and the log say the same
@pytest.mark.parametrize("critical", [True, None])
def test_a_group_that_was_cancelled_alone_fails_nothing(
    virtual: Virtual, critical: bool | None
) -> None:
    bad = Job(fail, critical=critical, label="bad")
    inner = Scheduler(bad, alarm(bad, 9), Job(nap, 9), label="inner")
    outer = Scheduler(inner, Job(later, 3, inner.cancel))
    assert virtual(outer.co_run) is True
    assert (inner.state, outer.stop_reason) == (CANCELLED, StopReason.COMPLETED)
    assert (len(failures_of(outer)), len(failures_of(inner))) == (0, 1)


@pytest.mark.parametrize("end", ["critical", "timeout", "cancelled"])
def test_a_group_that_was_cancelled_alone_fails_nothing_as_its_run_stops(
    virtual: Virtual, end: str
) -> None:
    inner = Scheduler(Job(fail), Job(unwind), label="inner")
    outer: Scheduler = Scheduler(
        inner,
        Job(later, 3, inner.cancel),
        Job(nap, 20),
        timeout=4 if end == "timeout" else None,
    )
    outer.add(
        Job(fail, 4, OSError("critical"), critical=True)
        if end == "critical"
        else Job(later, 4, outer.cancel)
    )
    assert virtual(outer.co_run) is False
    assert (inner.state, outer.stop_reason) == (CANCELLED, StopReason[end.upper()])
    assert [str(error) for error in failures_of(outer)] == ["critical"] * (
        end == "critical"
    )


@pytest.mark.parametrize("critical", [None, False])
def test_a_group_that_was_cut_off_with_its_run_counts_by_its_jobs(
    virtual: Virtual, critical: bool | None
) -> None:
    """The run is cancelled after a job in a group has failed: it counts, as in a nursery, unless it is tolerated."""
    inner = Scheduler(Job(fail), Job(nap, 9), critical=critical)
    outer: Scheduler = Scheduler(inner, Job(later, 3, lambda: outer.cancel()))
    assert virtual(outer.co_run) is False
    assert outer.stop_reason is StopReason.CANCELLED
    assert len(failures_of(outer)) == (critical is None)


def test_what_a_failure_outside_of_a_group_blocks_counts_in_it(
    virtual: Virtual,
) -> None:
    """A group whose job is BLOCKED by an input from outside fails with that; it once said that it had dropped a job."""
    bad = Job(fail)
    inner = Scheduler(Job(nap, 1), Job(nap, bad))
    outer = Scheduler(bad, inner)
    assert virtual(outer.co_run) is False
    group = inner.raised_exception()
    assert isinstance(group, ExceptionGroup)
    assert [type(error) for error in group.exceptions] == [RequirementFailed]
    assert [type(error) for error in failures_of(outer)] == [OSError]


def test_what_a_group_never_reached_blocks_jobs_outside_of_it(virtual: Virtual) -> None:
    """A timeout ends a group before a job in it was reached, whose result another job needs; this once was a crash."""
    first = Job(nap, 9)
    unreached = Job(nap, 1, required=first)
    inner = Scheduler(first, unreached, timeout=2)
    follower = Job(nap, 1, unreached)
    outer = Scheduler(inner, follower)
    assert virtual(outer.co_run) is False
    assert (unreached.state, follower.state, outer.stop_reason) == (
        IDLE,
        BLOCKED,
        StopReason.FAILED,
    )
    assert [type(error) for error in failures_of(outer)] == [
        JobTimeout,
        RequirementFailed,
    ]


@pytest.mark.parametrize("on_timeout", ["fail", "move_on"])
def test_what_fails_as_a_group_times_out_blocks_jobs_outside_of_it(
    virtual: Virtual, on_timeout: Any
) -> None:
    """The group stands for its timeout alone, so what its jobs block outside of it counts by itself. The exception once
    said that `keep_jobs=False` had dropped a job."""
    bad = Job(bodies.own_nursery, OSError("broken"))
    inner = Scheduler(bad, timeout=2, on_timeout=on_timeout)
    blocked = Job(nap, 1, bad)
    outer = Scheduler(inner, blocked)
    assert virtual(outer.co_run) is False
    assert (bad.state, blocked.state) == (FAILED, BLOCKED)
    timeouts = [] if on_timeout == "move_on" else [JobTimeout]
    assert [type(error) for error in failures_of(outer)] == [
        *timeouts,
        RequirementFailed,
    ]


@pytest.mark.parametrize("settled", [(), (1,), (0, 1)])
@pytest.mark.parametrize(("run_if", "runs"), [("succeeded", False), ("settled", True)])
def test_a_job_is_skipped_if_all_that_it_requires_was(
    backend: Any, settled: Any, run_if: Any, runs: bool
) -> None:
    required = [Job(nothing, run_if="failed") for _ in range(2)]
    job = Job(nothing, required=required, run_if=run_if)
    for number in settled:
        job.requires(required[number], settled=True)
    assert Scheduler(*required, job).run(backend=backend)
    assert (job.state is SKIPPED) is not runs


def test_a_group_that_was_cancelled_has_not_completed_although_its_job_returned(
    virtual: Virtual,
) -> None:
    async def returns() -> None:
        with contextlib.suppress(anyio.get_cancelled_exc_class()):
            await nap(9)

    group = Scheduler(job := Job(returns), label="group")
    virtual(Scheduler(group, Job(later, 1, group.cancel)).co_run)
    assert (job.state, group.state, group.stop_reason) == (
        bodies.SUCCEEDED,
        CANCELLED,
        StopReason.CANCELLED,
    )


def test_a_critical_job_that_was_blocked_is_the_culprit(virtual: Virtual) -> None:
    """Not what has blocked it, which fails nothing at once."""
    bad = Job(fail, 1)
    blocked = Job(nap, required=bad, critical=True, label="blocked")
    scheduler = Scheduler(bad, blocked, Job(nap, 9))
    assert not virtual(scheduler.co_run)
    assert scheduler.culprit is blocked
