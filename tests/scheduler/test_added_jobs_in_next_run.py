"""Jobs that were added during a run, or come from another scheduler, in the next run; and scenarios without end."""

import anyio
import anyio.lowlevel
import pytest
from trioflow import Job, Scheduler, StopReason
from trioflow.graph import keep_only
from ..bodies import CANCELLED, SUCCEEDED, checked, fail, later, nap, timed
from ..conftest import Virtual


def test_added_jobs_are_dropped_in_the_next_run(virtual: Virtual) -> None:
    """Jobs and requirements added during a run, even in nested schedulers, stay until the next run drops them."""
    extra, inside = Job(nap, 1), Job(nap, 1)
    member, inner = Job(nap, 3), Scheduler(Job(nap, 2))
    first, idle = Job(nap, 2), Job(nap, 1)
    idle.requires(first)
    runs: list[int] = []

    def grow() -> None:
        runs.append(1)
        if len(runs) == 1:
            scheduler.add(extra)
            idle.requires(extra, member)
            inner.add(inside)

    scheduler = Scheduler(first, idle, member, inner, Job(later, 1, grow))
    size = len(scheduler)
    assert virtual(checked(scheduler)) == (True, 4)
    assert (extra in scheduler, inside in inner) == (True, True)
    assert virtual(checked(scheduler)) == (True, 4)
    assert (extra in scheduler, inside in inner) == (False, False)
    assert len(scheduler) == size
    assert list(idle.required) == [first, member]
    assert extra.scheduler is None


def test_a_scheduler_that_has_settled_as_a_job_accepts_jobs_in_a_run_of_its_own(virtual: Virtual) -> None:
    extra = Job(nap, 1)
    inner = Scheduler(Job(nap, 1))
    outer = Scheduler(inner)
    assert virtual(checked(outer)) == (True, 1)
    outer.remove(inner)
    inner.add(Job(later, 1, lambda: inner.add(extra)))
    assert virtual(checked(inner)) == (True, 2)
    assert extra.state is SUCCEEDED


@pytest.mark.parametrize("depth", [1, 2])
def test_added_jobs_are_dropped_from_a_nested_scheduler_that_is_not_reached_again(virtual: Virtual, depth: int) -> None:
    runs: list[int] = []

    async def first() -> None:
        runs.append(1)
        if len(runs) > 1:
            raise OSError

    decides = Job(first)
    inner = Scheduler(Job(nap, 2))
    outer = inner if depth == 1 else Scheduler(inner)
    outer.run_if = "succeeded"
    scheduler = Scheduler(decides, outer, Job(later, 1, lambda: len(runs) == 1 and inner.add(Job(nap, 1))))
    outer.requires(decides)
    assert virtual(timed, scheduler) == (True, 2)
    assert len(inner) == 2
    assert virtual(timed, scheduler) == (False, 1)
    assert (outer.state.name, len(inner)) == ("BLOCKED", 1)


def test_job_added_to_a_nested_scheduler_before_its_start_is_dropped_in_the_next_run(virtual: Virtual) -> None:
    extra, runs = Job(nap, 1), []

    def grow() -> None:
        runs.append(1)
        if len(runs) == 1:
            inner.add(extra)

    grower = Job(later, 1, grow)
    inner = Scheduler(Job(nap, 1), required=grower)
    scheduler = Scheduler(grower, inner)
    virtual(checked(scheduler))
    assert extra.state is SUCCEEDED
    virtual(checked(scheduler))
    assert extra not in inner


def test_same_job_may_be_added_in_each_run(virtual: Virtual) -> None:
    """A job that each run drops and adds again runs each time: its earlier outcome is forgotten."""
    extra = Job(nap, 1)
    scheduler = Scheduler(Job(later, 1, lambda: scheduler.add(extra)))
    for _ in range(2):
        assert virtual(checked(scheduler)) == (True, 2)
        assert extra.state is SUCCEEDED


def test_added_job_that_is_removed_and_added_again_between_runs_stays(virtual: Virtual) -> None:
    extra, runs = Job(nap, 1), []

    def grow() -> None:
        runs.append(1)
        if len(runs) == 1:
            scheduler.add(extra)

    scheduler = Scheduler(Job(later, 1, grow))
    virtual(checked(scheduler))
    scheduler.remove(extra)
    scheduler.add(extra)
    virtual(checked(scheduler))
    assert extra in scheduler


@pytest.mark.parametrize("while_running", [False, True])
def test_job_that_has_run_in_one_scheduler_runs_in_another(virtual: Virtual, while_running: bool) -> None:
    job, old = Job(nap, 1), Scheduler()
    old.add(job)
    virtual(checked(old))
    old.remove(job)
    new = Scheduler(Job(later, 1, lambda: new.add(job))) if while_running else Scheduler(job)
    virtual(checked(new))
    assert job.started_at == (1 if while_running else 0)


def test_jobs_that_were_not_reached_keep_their_order_in_another_scheduler(virtual: Virtual) -> None:
    bad = Job(fail, 0, critical=True)
    short, long = Job(nap, 1, required=bad), Job(nap, 5, required=bad)
    last = Job(nap, 1, required=[short, long])
    old = Scheduler(bad, short, long, last)
    assert virtual(timed, old) == (False, 0)
    keep_only(old, [short, long, last])
    for job in list(old):
        old.remove(job)
    assert virtual(checked(Scheduler(short, long, last))) == (True, 6)
    assert last.started_at == 5


@pytest.mark.parametrize("ends", ["timeout", "cancel", "outside"])
def test_scenario_that_adds_jobs_without_end_ends_when_stopped(virtual: Virtual, ends: str) -> None:
    async def more() -> None:
        await anyio.sleep(1)
        scheduler.add(Job(more))
        if ends == "cancel" and anyio.current_time() == 5:
            scheduler.cancel()

    scheduler = Scheduler(Job(more))

    async def main() -> float:
        with anyio.move_on_after(5.5 if ends == "outside" else 1000):
            await scheduler.co_run(timeout=5.5 if ends == "timeout" else None)
        return anyio.current_time()

    assert virtual(main) == (5 if ends == "cancel" else 5.5)
    assert scheduler.stop_reason is (StopReason.TIMEOUT if ends == "timeout" else StopReason.CANCELLED)
    assert {job.state for job in scheduler} == {SUCCEEDED, CANCELLED}


def test_a_job_that_an_ended_run_has_left_waiting_runs_in_another_scheduler(virtual: Virtual) -> None:
    bad, slow = Job(fail, 0, critical=True), Job(nap, 9)
    left = Job(nap, 1, required=slow)
    old = Scheduler(bad, slow, left)
    assert virtual(timed, old) == (False, 0)
    old.remove(left)
    left.requires(slow, remove=True)
    new = Scheduler(Job(later, 1, lambda: new.add(left)))
    virtual(checked(new))
    assert left.started_at == 1
