"""A running scheduler takes jobs and requirements, and rejects those that cannot be run; the next run has them, too."""

import contextlib
import functools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trioflow import (
    CycleError,
    First,
    Job,
    MissingRequirement,
    Scheduler,
    Sequence,
    StopReason,
)
from trioflow._core.base import _graph_algorithms
from trioflow.abc import accepts_jobs, reported_state
from trioflow.graph import keep_only
from ..bodies import (
    CANCELLED,
    IDLE,
    SUCCEEDED,
    checked,
    fail,
    give,
    hooked,
    later,
    nap,
    nothing,
    timed,
)
from ..conftest import Virtual


# --- added jobs start
def test_another_task_of_the_thread_adds_a_job(virtual: Virtual) -> None:
    new = Job(nap, 5)
    scheduler = Scheduler(Job(nap, 2))

    async def main() -> Any:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(later, 1, lambda: scheduler.add(new))
            return await timed(scheduler)

    assert virtual(main) == (True, 6)
    assert new.started_at == 1


@pytest.mark.parametrize("is_in_first", [False, True])
def test_a_ready_job_that_gets_a_requirement_before_it_is_scheduled_waits_for_it(
    virtual: Virtual, is_in_first: bool
) -> None:
    """An instrument gave it to the next entry job, or a body to a job of a `First` that had no turn: both began."""
    required, ready = Job(nap, 5), Job(nap, 1)

    def require(_: object, job: object) -> None:
        if job is required:
            ready.requires(required)

    watch = hooked(job_scheduled=require)
    jobs: list[Any] = [required, ready]
    if is_in_first:
        jobs = [First(required, ready, stagger=1)]
        watch = hooked(job_started=require)
    scheduler = Scheduler(jobs)
    assert virtual(lambda: scheduler.co_run(instruments=[watch]))
    assert ready.started_at == 5


def test_instrument_adds_a_job(virtual: Virtual) -> None:
    first, new = Job(nap, 1), Job(nap, 1)
    new.requires(first)

    def job_settled(scheduler: Any, job: Any) -> None:
        if job is first:
            scheduler.add(new)

    assert virtual(
        timed, Scheduler(first, instruments=[hooked(job_settled=job_settled)])
    ) == (True, 2)
    assert new.state is SUCCEEDED


def test_update_accepts_jobs_that_require_each_other(virtual: Virtual) -> None:
    last, first, third = Job(nap, 1), Job(nap, 1), Job(nap, 1)
    last.requires(first)
    scheduler = Scheduler(
        Job(
            later,
            1,
            lambda: scheduler.update([last, first, Sequence(third, Job(nap, 2))]),
        )
    )
    assert virtual(checked(scheduler)) == (True, 4)
    assert (first.started_at, last.started_at, third.started_at) == (1, 2, 1)


def test_scheduler_option_adds_a_job_during_a_run(virtual: Virtual) -> None:
    scheduler = Scheduler(Job(later, 1, lambda: Job(nap, 2, scheduler=scheduler)))
    assert virtual(checked(scheduler)) == (True, 3)


# --- requires during a run
@pytest.mark.parametrize(
    ("seconds", "state"), [(1, "succeeded"), (9, "running"), (0, "scheduled")]
)
def test_requires_of_a_job_that_is_not_idle_raises(
    virtual: Virtual, seconds: float, state: str
) -> None:
    """It has started, or only waits for a slot."""
    job, other = Job(nap, seconds, label="late"), Job(nap, 20)

    def meddle() -> None:
        with pytest.raises(RuntimeError, match=rf"'late'.*{state}"):
            job.requires(other)

    meddler = Job(later, 2, meddle)
    is_waiting = state == "scheduled"
    jobs = [meddler, job, other] if is_waiting else [job, other, meddler]
    virtual(checked(Scheduler(jobs, jobs_window=1 if is_waiting else None)))
    assert list(job.required) == []


def test_requirement_that_closes_a_cycle_during_a_run_raises_at_the_call(
    virtual: Virtual,
) -> None:
    first = Job(nap, 1)
    a, b, c = (Job(nap, 1, label=label) for label in "abc")
    Sequence(first, a, b, c)

    def meddle() -> None:
        with pytest.raises(
            CycleError, match="c requires b requires a requires c"
        ) as caught:
            a.requires(c)
        assert set(caught.value.cycle) == {a, b, c}

    assert virtual(checked(Scheduler(first, a, b, c, Job(later, 0.5, meddle)))) == (
        True,
        4,
    )
    assert list(a.required) == [first]


def test_requirement_that_closes_a_cycle_through_a_cancelled_job_raises(
    virtual: Virtual,
) -> None:
    first = Job(nap, 1)
    a = Job(nap, 1, required=first)
    b = Job(nap, 1, required=a)

    def meddle() -> None:
        b.cancel()
        with pytest.raises(CycleError):
            a.requires(b)

    scheduler = Scheduler(first, a, b, Job(later, 0.5, meddle))
    virtual(checked(scheduler))
    assert scheduler.is_runnable() is True


# --- rejected
def growing(
    virtual: Virtual,
    error: type[Exception],
    match: str,
    change: Callable[[Scheduler], object],
) -> Scheduler:
    def meddle() -> None:
        with pytest.raises(error, match=match):
            change(scheduler)

    scheduler = Scheduler(
        Job(later, 1, meddle, label="member"),
        Job(nap, 9, forever=True, label="monitor"),
        label="home",
    )
    members = list(scheduler)
    assert virtual(checked(scheduler)) == (True, 1)
    assert list(scheduler) == members
    return scheduler


def test_added_job_that_requires_a_nonmember_is_rejected(virtual: Virtual) -> None:
    stray = Job(nap, label="stray")
    new = Job(nap, label="new", required=stray)
    growing(
        virtual,
        MissingRequirement,
        r"'new'.*'stray'.*'home'",
        lambda scheduler: scheduler.add(new),
    )
    assert new.scheduler is None


def test_added_job_that_requires_a_forever_job_is_rejected(virtual: Virtual) -> None:
    """As such, and not because that job is missing, if it comes in the same update."""
    monitor = Job(nap, label="new monitor", forever=True)
    user = Job(nap, label="new", required=monitor)
    growing(
        virtual,
        ValueError,
        r"'new'.*'new monitor'.*ever",
        lambda scheduler: scheduler.update([monitor, user]),
    )
    growing(
        virtual, ValueError, r"'new'.*'monitor'.*ever",
        lambda scheduler: scheduler.add(Job(nap, label="new", required=list(scheduler)[1])),
    )  # fmt: skip


def test_update_with_one_bad_job_adds_none_during_a_run(virtual: Virtual) -> None:
    good, stray = Job(nap), Job(nap)
    bad = Job(nap, required=stray)
    growing(
        virtual,
        MissingRequirement,
        "requires",
        lambda scheduler: scheduler.update([good, bad]),
    )
    assert good.scheduler is bad.scheduler is None
    assert good.state is IDLE


@pytest.mark.parametrize("depth", [0, 2])
def test_update_with_a_cycle_raises(virtual: Virtual, depth: int) -> None:
    """Also in a nested scheduler, at any depth, which is checked before it is added."""
    a, b = Job(nap, label="a"), Job(nap, label="b")
    added = [a, b.requires(a.requires(b))]
    for _ in range(depth):
        added = [Scheduler(added)]
    growing(
        virtual,
        CycleError,
        "a requires b requires a",
        lambda scheduler: scheduler.update(added),
    )


def test_stopping_scheduler_rejects_jobs_and_requirements(virtual: Virtual) -> None:
    """While a run unwinds, `add` and `requires` raise plain RuntimeErrors that name the scheduler."""
    told: list[str] = []

    async def adds_when_cancelled() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            for change in (
                lambda: scheduler.add(Job(nap)),
                lambda: idle.requires(running),
            ):
                with pytest.raises(RuntimeError, match="'home' is stopping") as caught:
                    change()
                assert caught.type is RuntimeError
                told.append(str(caught.value))

    running = Job(adds_when_cancelled)
    idle = Job(nap, required=running)
    scheduler = Scheduler(running, idle, label="home", timeout=1)
    assert virtual(timed, scheduler) == (False, 1)
    assert len(told) == 2


def test_a_query_says_whether_add_is_possible(virtual: Virtual) -> None:
    """`accepts_jobs` is True exactly where `add` works: until a run drains or stops, and after it."""
    inner, scheduler = (
        Scheduler(Job(nap, 1), label="inner"),
        Scheduler(label="outer", timeout=9, log=False),
    )

    def asked() -> list[bool]:
        answers = [accepts_jobs(scheduler), accepts_jobs(inner)]
        for home, answer in zip((scheduler, inner), answers, strict=True):
            with contextlib.nullcontext() if answer else pytest.raises(RuntimeError):
                home.add(Job(nothing))
        return answers

    async def ask() -> None:
        found.append(asked())
        await anyio.sleep(2)
        found.append(asked())
        with ThreadPoolExecutor(1) as threads:
            assert not threads.submit(accepts_jobs, scheduler).result()
        scheduler.drain()
        found.append(asked())

    found: list[list[bool]] = []
    scheduler.update([inner, Job(ask)])
    found.append(asked())
    virtual(scheduler.co_run)
    found.append(asked())
    scheduler.close()
    found.append(asked())
    assert found == [
        [True, True],
        [True, True],
        [True, False],
        [False, False],
        [True, True],
        [False, False],
    ]


def test_a_scheduler_is_running_during_its_run(virtual: Virtual) -> None:
    """State, predicates, repr and reports of a scheduler, outermost or nested, say the same at each time."""

    def seen(scheduler: Scheduler) -> tuple[object, ...]:
        predicates = scheduler.is_idle(), scheduler.is_running(), scheduler.is_settled()
        return (
            scheduler.state.value,
            reported_state(scheduler).value,
            repr(scheduler).split(", ")[1],
            predicates,
        )

    async def look() -> None:
        assert (
            seen(outer)
            == seen(inner)
            == ("running", "running", "running", (False, True, False))
        )

    inner = Scheduler(Job(look), label="inner")
    outer = Scheduler(inner, label="outer")
    assert seen(outer)[:2] == ("idle", "idle")
    assert virtual(outer.co_run)
    assert seen(outer) == ("idle", "idle", "completed", (True, False, False))


# --- in the next run; and scenarios without end
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


def test_a_scheduler_that_has_settled_as_a_job_accepts_jobs_in_a_run_of_its_own(
    virtual: Virtual,
) -> None:
    extra = Job(nap, 1)
    inner = Scheduler(Job(nap, 1))
    outer = Scheduler(inner)
    assert virtual(checked(outer)) == (True, 1)
    outer.remove(inner)
    inner.add(Job(later, 1, lambda: inner.add(extra)))
    assert virtual(checked(inner)) == (True, 2)
    assert extra.state is SUCCEEDED


@pytest.mark.parametrize("depth", [1, 2])
def test_added_jobs_are_dropped_from_a_nested_scheduler_that_is_not_reached_again(
    virtual: Virtual, depth: int
) -> None:
    runs: list[int] = []

    async def first() -> None:
        runs.append(1)
        if len(runs) > 1:
            raise OSError

    decides = Job(first)
    inner = Scheduler(Job(nap, 2))
    outer = inner if depth == 1 else Scheduler(inner)
    outer.run_if = "succeeded"
    scheduler = Scheduler(
        decides, outer, Job(later, 1, lambda: len(runs) == 1 and inner.add(Job(nap, 1)))
    )
    outer.requires(decides)
    assert virtual(timed, scheduler) == (True, 2)
    assert len(inner) == 2
    assert virtual(timed, scheduler) == (False, 1)
    assert (outer.state.name, len(inner)) == ("BLOCKED", 1)


@pytest.mark.parametrize("is_nested", [False, True])
def test_an_added_job_is_dropped_in_the_next_run_unless_it_is_added_again_between_them(
    virtual: Virtual, is_nested: bool
) -> None:
    """Also from a nested scheduler that had not begun when it was added."""
    extra, runs = Job(nap, 1), []

    def grow() -> None:
        runs.append(1)
        if len(runs) == 1:
            home.add(extra)

    grower = Job(later, 1, grow)
    inner = Scheduler(Job(nap, 1), required=grower)
    scheduler = Scheduler(grower, inner)
    home = inner if is_nested else scheduler
    virtual(checked(scheduler))
    assert extra.state is SUCCEEDED
    if not is_nested:
        scheduler.remove(extra)
        scheduler.add(extra)
    virtual(checked(scheduler))
    assert (extra in home) is not is_nested


def test_same_job_may_be_added_in_each_run(virtual: Virtual) -> None:
    """A job that each run drops and adds again runs each time: its earlier outcome is forgotten."""
    extra = Job(nap, 1)
    scheduler = Scheduler(Job(later, 1, lambda: scheduler.add(extra)))
    for _ in range(2):
        assert virtual(checked(scheduler)) == (True, 2)
        assert extra.state is SUCCEEDED


@pytest.mark.parametrize("while_running", [False, True])
def test_job_that_has_run_in_one_scheduler_runs_in_another(
    virtual: Virtual, while_running: bool
) -> None:
    job, old = Job(nap, 1), Scheduler()
    old.add(job)
    virtual(checked(old))
    old.remove(job)
    new = (
        Scheduler(Job(later, 1, lambda: new.add(job)))
        if while_running
        else Scheduler(job)
    )
    virtual(checked(new))
    assert job.started_at == (1 if while_running else 0)


def test_jobs_that_were_not_reached_keep_their_order_in_another_scheduler(
    virtual: Virtual,
) -> None:
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
def test_scenario_that_adds_jobs_without_end_ends_when_stopped(
    virtual: Virtual, ends: str
) -> None:
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
    assert scheduler.stop_reason is (
        StopReason.TIMEOUT if ends == "timeout" else StopReason.CANCELLED
    )
    assert {job.state for job in scheduler} == {SUCCEEDED, CANCELLED}


def test_a_job_that_an_ended_run_has_left_waiting_runs_in_another_scheduler(
    virtual: Virtual,
) -> None:
    bad, slow = Job(fail, 0, critical=True), Job(nap, 9)
    left = Job(nap, 1, required=slow)
    old = Scheduler(bad, slow, left)
    assert virtual(timed, old) == (False, 0)
    old.remove(left)
    left.requires(slow, remove=True)
    new = Scheduler(Job(later, 1, lambda: new.add(left)))
    virtual(checked(new))
    assert left.started_at == 1


# --- Changes of a large scenario cost what they touch: more jobs must not make each call dearer
CALLS = 50


def cost_of(adopts: bool, size: int) -> float:
    """Seconds for each of the last calls of `requires`, or of `add` with an input that belongs to no scheduler."""
    hold = Job(anyio.sleep, 100)
    jobs = [] if adopts else [Job(nothing, required=hold) for _ in range(size)]
    costs: list[float] = []

    async def work() -> None:
        if adopts:
            scheduler.update(
                Job(give, Job(nothing, required=hold)) for _ in range(size)
            )
        else:
            jobs[-1].requires(jobs[0])  # the first call may look at all
        start = time.process_time()
        for number in range(CALLS):
            if adopts:
                scheduler.add(Job(give, Job(nothing, required=hold)))
            else:
                jobs[-2 - number].requires(jobs[0], jobs[1])
        costs.append(time.process_time() - start)
        scheduler.cancel()

    scheduler = Scheduler(hold, *jobs, Job(work))
    anyio.run(scheduler.co_run)
    return costs[0] / CALLS


# Thirty times as many jobs once cost as many times as much; but what was adopted was copied at only 10 ns each.
LIMITS = [(False, 15), (True, 4)]


@pytest.mark.parametrize(("adopts", "limit"), LIMITS)
def test_change_of_a_large_scenario_costs_no_more_than_of_a_small_one(
    adopts: bool, limit: int
) -> None:
    """Calls of `requires` and `add` once visited all jobs: with 100,000 of them a call took milliseconds."""
    small = min(cost_of(adopts, 300) for _ in range(5))
    assert any(cost_of(adopts, 10_000) < limit * small for _ in range(2))


@given(
    st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=30),
    st.integers(0, 11),
    st.integers(0, 11),
)
def test_search_from_both_ends_finds_what_one_finds(
    edges: list[tuple[int, int]], end: int, start: int
) -> None:
    forwards: Any = {node: [b for a, b in edges if a == node] for node in range(12)}
    backwards: Any = {node: [a for a, b in edges if b == node] for node in range(12)}
    reached = start in _graph_algorithms.reachable([end], forwards.__getitem__)
    assert (
        _graph_algorithms.has_path(
            [end], forwards.__getitem__, [start], backwards.__getitem__
        )
        is reached
    )


@pytest.mark.parametrize("is_large_ahead", [False, True])
def test_search_from_both_ends_ends_with_the_smaller_side(is_large_ahead: bool) -> None:
    asked: list[int] = []

    def neighbors(node: int, limit: int) -> list[int]:
        asked.append(node)
        return [node + 1] if node < limit else []

    large, small = (functools.partial(neighbors, limit=limit) for limit in (1000, 3))
    sides = [([0], large), ([2000], small)]
    (ends, forwards), (starts, backwards) = sides if is_large_ahead else sides[::-1]
    assert not _graph_algorithms.has_path(ends, forwards, starts, backwards)
    assert len(asked) <= 4


def test_adding_a_requirement_that_closes_a_long_cycle_raises(virtual: Virtual) -> None:
    hold = Job(anyio.sleep, 5)
    jobs = [Job(nothing, required=hold, label="0")]
    for number in range(1, 40):
        jobs.append(Job(nothing, required=jobs[-1], label=str(number)))

    async def work() -> None:
        for first, last in [(0, 39), (0, 1), (20, 30)]:
            with pytest.raises(CycleError) as caught:
                jobs[first].requires(jobs[last])
            assert set(caught.value.cycle) == set(jobs[first : last + 1])
        jobs[39].requires(jobs[0])

    assert virtual(
        functools.partial(timed, Scheduler(hold, *jobs, Job(work)), check=True)
    ) == (True, 5)
