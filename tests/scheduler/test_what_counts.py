"""What counts is decided once: the result, the reason, the exception and the log say the same."""

import contextlib
from typing import Any

import anyio
import pytest
from trioflow import Job, JobTimeout, RequirementFailed, Scheduler, StopReason
from ..bodies import BLOCKED, CANCELLED, FAILED, IDLE, SKIPPED, SUCCEEDED, alarm, fail, later, nap, nothing, unwind
from ..conftest import Virtual

pytestmark = pytest.mark.usefixtures("keep_jobs")


@pytest.mark.parametrize("critical", [True, None])
def test_a_group_that_was_cancelled_alone_fails_nothing(virtual: Virtual, critical: bool | None) -> None:
    bad = Job(fail, critical=critical, label="bad")
    inner = Scheduler(bad, alarm(bad, 9), Job(nap, 9), label="inner")
    outer = Scheduler(inner, Job(later, 3, inner.cancel))
    assert virtual(outer.co_run) is True
    assert (inner.state, outer.stop_reason) == (CANCELLED, StopReason.COMPLETED)
    outer.raise_for_failures()
    with pytest.raises(ExceptionGroup):
        inner.raise_for_failures()


@pytest.mark.parametrize("end", ["critical", "timeout", "cancelled"])
def test_a_group_that_was_cancelled_alone_fails_nothing_as_its_run_stops(virtual: Virtual, end: str) -> None:
    inner = Scheduler(Job(fail), Job(unwind), label="inner")
    outer: Scheduler = Scheduler(
        inner, Job(later, 3, inner.cancel), Job(nap, 20), timeout=4 if end == "timeout" else None
    )
    outer.add(Job(fail, 4, OSError("critical"), critical=True) if end == "critical" else Job(later, 4, outer.cancel))
    assert virtual(outer.co_run) is False
    assert (inner.state, outer.stop_reason) == (CANCELLED, StopReason[end.upper()])
    assert [str(error) for error in failures_of(outer)] == ["critical"] * (end == "critical")


def failures_of(scheduler: Scheduler) -> list[Any]:
    try:
        scheduler.raise_for_failures()
    except ExceptionGroup as group:
        return [*group.exceptions]
    return []


def test_a_tolerated_group_that_was_cut_off_with_its_run_counts_for_nothing(virtual: Virtual) -> None:
    """The whole run is cancelled after a job in a tolerated group has failed: nothing that counts is left."""
    inner = Scheduler(Job(fail), Job(nap, 9), critical=False)
    outer: Scheduler = Scheduler(inner, Job(later, 3, lambda: outer.cancel()))
    assert virtual(outer.co_run) is False
    assert outer.stop_reason is StopReason.CANCELLED
    outer.raise_for_failures()


def test_a_group_that_was_cut_off_with_its_run_counts_by_its_jobs(virtual: Virtual) -> None:
    """The whole run is cancelled after a job in a group has failed: the failure counts, as in a nursery."""
    inner = Scheduler(Job(fail), Job(nap, 9))
    outer: Scheduler = Scheduler(inner, Job(later, 3, lambda: outer.cancel()))
    assert virtual(outer.co_run) is False
    with pytest.raises(ExceptionGroup):
        outer.raise_for_failures()


def test_what_a_failure_outside_of_a_group_blocks_counts_in_it(virtual: Virtual) -> None:
    """A group whose job is BLOCKED by an input from outside fails with that; it once said that it had dropped a job."""
    bad = Job(fail)
    blocked = Job(nap, bad)
    inner = Scheduler(Job(nap, 1), blocked)
    outer = Scheduler(bad, inner)
    assert virtual(outer.co_run) is False
    group = inner.raised_exception()
    assert isinstance(group, ExceptionGroup)
    assert [type(error) for error in group.exceptions] == [RequirementFailed]
    with pytest.raises(ExceptionGroup) as caught:
        outer.raise_for_failures()
    assert [type(error) for error in caught.value.exceptions] == [OSError]


def test_what_a_group_never_reached_blocks_jobs_outside_of_it(virtual: Virtual) -> None:
    """A timeout ends a group before a job in it was reached, whose result another job needs; this once was a crash."""
    first = Job(nap, 9)
    unreached = Job(nap, 1, required=first)
    inner = Scheduler(first, unreached, timeout=2)
    follower = Job(nap, 1, unreached)
    outer = Scheduler(inner, follower)
    assert virtual(outer.co_run) is False
    assert (unreached.state, follower.state, outer.stop_reason) == (IDLE, BLOCKED, StopReason.FAILED)
    with pytest.raises(ExceptionGroup) as caught:
        outer.raise_for_failures()
    assert [type(error) for error in caught.value.exceptions] == [JobTimeout, RequirementFailed]


async def fail_in_the_end() -> None:
    try:
        await nap(9)
    finally:
        raise OSError("broken")


@pytest.mark.parametrize("on_timeout", ["fail", "move_on"])
def test_what_fails_as_a_group_times_out_blocks_jobs_outside_of_it(virtual: Virtual, on_timeout: Any) -> None:
    """The group stands for its timeout alone, so what its jobs block outside of it counts by itself. The exception once
    said that `keep_jobs=False` had dropped a job."""
    bad = Job(fail_in_the_end)
    inner = Scheduler(bad, timeout=2, on_timeout=on_timeout)
    blocked = Job(nap, 1, bad)
    outer = Scheduler(inner, blocked)
    assert virtual(outer.co_run) is False
    assert (bad.state, blocked.state) == (FAILED, BLOCKED)
    with pytest.raises(ExceptionGroup) as caught:
        outer.raise_for_failures()
    timeouts = [] if on_timeout == "move_on" else [JobTimeout]
    assert [type(error) for error in caught.value.exceptions] == [*timeouts, RequirementFailed]


@pytest.mark.parametrize("settled", [(), (1,), (0, 1)])
@pytest.mark.parametrize(("run_if", "runs"), [("succeeded", False), ("settled", True)])
def test_a_job_is_skipped_if_all_that_it_requires_was(backend: Any, settled: Any, run_if: Any, runs: bool) -> None:
    required = [Job(nothing, run_if="failed") for _ in range(2)]
    job = Job(nothing, required=required, run_if=run_if)
    for number in settled:
        job.requires(required[number], settled=True)
    assert Scheduler(*required, job).run(backend=backend)
    assert (job.state is SKIPPED) is not runs


def test_a_group_that_was_cancelled_has_not_completed_although_its_job_returned(virtual: Virtual) -> None:
    async def returns() -> None:
        with contextlib.suppress(anyio.get_cancelled_exc_class()):
            await nap(9)

    group = Scheduler(job := Job(returns), label="group")
    virtual(Scheduler(group, Job(later, 1, group.cancel)).co_run)
    assert (job.state, group.state, group.stop_reason) == (SUCCEEDED, CANCELLED, StopReason.CANCELLED)


def test_a_critical_job_that_was_blocked_is_the_culprit(virtual: Virtual) -> None:
    """Not what has blocked it, which fails nothing at once."""
    bad = Job(fail, 1)
    blocked = Job(nap, required=bad, critical=True, label="blocked")
    scheduler = Scheduler(bad, blocked, Job(nap, 9))
    assert not virtual(scheduler.co_run)
    assert scheduler.culprit is blocked
