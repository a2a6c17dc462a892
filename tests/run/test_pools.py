"""Pools: what jobs need is granted at once, waited for in order, and given back however a job ends."""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioflow import Job, JobState, Pool, Rate, Scheduler, Sequence, Service, ThreadJob, current_job
from trioflow._core.admission import _admission
from trioflow._core.admission._admission import Admission
from trioflow._core.admission._resource import CountedResource
from trioflow._core.base import _graph_algorithms
from trioflow.abc import run_of
from trioflow.testing import run_virtual

from ..bodies import LIMIT, nap, nothing, serve, turns
from ..conftest import Virtual

TOTALS = {"a": 3, "b": 2}


@dataclass
class Task:
    """One job of a random scenario: it becomes ready at once, in the order of the list."""

    number: int
    seconds: float
    needs: dict[str, int]
    passed: int = 0
    log: list[tuple[float, int]] = field(default_factory=list)


@st.composite
def tasks(draw: st.DrawFn) -> list[Task]:
    """Return jobs whose ends all differ: each duration has a binary digit of its own."""
    needs = st.fixed_dictionaries({}, optional={name: st.integers(0, total) for name, total in TOTALS.items()})
    number = draw(st.integers(1, 12))
    return [Task(i, draw(st.integers(1, 3)) + 2.0 ** -(i + 1), draw(needs)) for i in range(number)]


def starts_by_hand(
    all_tasks: list[Task], window: int, backfill: int, totals: dict[str, int] = TOTALS
) -> list[tuple[float, int]]:
    """Return when each job starts, by a plain oracle that looks at all jobs each time.

    Of jobs with equal needs, only the first one counts who passes it.
    """
    free, now, waiting = dict(totals), 0.0, list(all_tasks)
    running: list[tuple[float, Task]] = []
    log: list[tuple[float, int]] = []

    def fits(task: Task) -> bool:
        return all(free[name] >= amount for name, amount in task.needs.items())

    def rivals(one: Task, other: Task) -> bool:
        return any(one.needs[name] and other.needs.get(name) for name in one.needs)

    def is_first(one: Task) -> bool:
        return next(other for other in waiting if other.needs == one.needs) is one

    while waiting or running:
        for task in waiting:
            earlier = [one for one in waiting[: waiting.index(task)] if is_first(one)]
            before = [one for one in earlier if rivals(one, task) and not fits(one)]
            if len(running) < window and fits(task) and all(one.passed < backfill for one in before):
                for one in before:
                    one.passed += 1
                for name, amount in task.needs.items():
                    free[name] -= amount
                waiting.remove(task)
                running.append((now + task.seconds, task))
                log.append((now, task.number))
                break
        else:
            now, task = min(running, key=lambda one: one[0])
            running.remove((now, task))
            for name, amount in task.needs.items():
                free[name] += amount
    return log


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@given(all_tasks=tasks(), window=st.integers(1, 4) | st.just(99), backfill=st.integers(0, 3))
def test_jobs_with_needs_start_as_the_oracle_predicts(
    backend: str, all_tasks: list[Task], window: int, backfill: int
) -> None:
    """Jobs start in order if they fit, pass others at most `backfill` times, and leave nothing taken."""
    log: list[tuple[float, int]] = []

    async def body(task: Task) -> None:
        log.append((anyio.current_time(), task.number))
        await anyio.sleep(task.seconds)

    pool = Pool(**TOTALS)
    jobs = [Job(body, task, needs=task.needs, label=str(task.number)) for task in all_tasks]
    scheduler = Scheduler(*jobs, jobs_window=window, pool=pool, backfill=backfill)
    assert run_virtual(scheduler.co_run, backend=backend)
    assert sorted(log) == sorted(starts_by_hand(all_tasks, window, backfill))
    assert pool.free == pool.total


@pytest.mark.parametrize("seed", range(20))
def test_jobs_with_many_different_needs_start_as_the_oracle_predicts(virtual: Virtual, seed: int) -> None:
    """Up to 45 jobs with as many different needs start as a simple model predicts, with many overtakers."""
    draw, totals = random.Random(seed), {"a": 40, "b": 9}
    all_tasks = [
        Task(
            number,
            draw.randint(1, 9) + 2.0 ** -(number + 3),
            {name: draw.randint(1, total) for name, total in totals.items() if draw.random() < 0.6},
        )
        for number in range(draw.randint(10, 45))
    ]
    window, backfill = draw.choice([2, 5, 99]), draw.choice([0, 1, 3, 10])
    jobs = [Job(anyio.sleep, task.seconds, needs=task.needs) for task in all_tasks]
    scheduler = Scheduler(*jobs, jobs_window=window, pool=Pool(**totals), backfill=backfill)
    assert virtual(scheduler.co_run)
    found = [(job.started_at, number) for number, job in enumerate(jobs)]
    assert found == sorted(starts_by_hand(all_tasks, window, backfill, totals), key=lambda start: start[1])


@st.composite
def trees(draw: st.DrawFn) -> list[Any]:
    """Draw nested scenarios: a job is (needs, how it ends); a scheduler is ([needs], window, members)."""
    ends = st.sampled_from(["returns", "raises", "is cancelled", "times out", "retries"])
    needs = st.fixed_dictionaries({}, optional={name: st.integers(1, total) for name, total in TOTALS.items()})
    job = st.tuples(needs, ends)
    inner = st.tuples(st.integers(1, 3), st.lists(job, max_size=4), st.sampled_from(["job's own", "reserved"]))
    return draw(st.lists(job | inner, min_size=1, max_size=8))


def scheduler_of(tree: list[Any], pool: Pool, **options: Any) -> Scheduler:
    """Build a random scenario."""

    async def body(end: str) -> None:
        granted = current_job().granted
        assert granted == current_job().needs
        await anyio.sleep(1)
        if end in ("raises", "retries"):
            raise ValueError(end)
        if end == "is cancelled":
            current_job().cancel()
        await anyio.sleep(1)

    def job(needs: dict[str, int], end: str) -> Job[None]:
        return Job(
            body, end, needs=needs, timeout=1.5 if end == "times out" else None, retry=1 if end == "retries" else None
        )

    scheduler = Scheduler(pool=pool, **options)
    for node in tree:
        if len(node) == 2:
            scheduler.add(job(*node))
            continue
        window, members, reserved = node
        most = {name: max(needs.get(name, 0) for needs, _ in members) for name in TOTALS} if members else {}
        needs = most if reserved == "reserved" else {}
        scheduler.add(Scheduler(*[job(*one) for one in members], jobs_window=window, needs=needs))
    return scheduler


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@given(trees=st.lists(trees(), min_size=1, max_size=2), window=st.integers(1, 3), timeout=st.sampled_from([None, 3.5]))
def test_random_runs_with_pools_neither_deadlock_nor_leak(
    backend: str, trees: list[Any], window: int, timeout: float | None
) -> None:
    """Random runs of one or two schedulers with a pool all end, whatever their outcomes, and leave the pool full."""
    pool = Pool(**TOTALS)
    schedulers = [
        scheduler_of(tree, pool, jobs_window=window, backfill=1, timeout=timeout, label=str(i))
        for i, tree in enumerate(trees)
    ]

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for scheduler in schedulers:
                group.start_soon(scheduler.co_run)

    run_virtual(main, backend=backend)
    assert pool.free == pool.total
    if timeout is None:
        assert all(job.is_settled() for scheduler in schedulers for job in scheduler.iterate_jobs())
    for resource in pool._resources.values():
        assert not (resource.admission and resource.admission.group_counts)
        assert not resource.holders


def test_named_resources_are_granted_to_one_job_at_a_time(virtual: Virtual) -> None:
    """A job gets the first names of a resource that are free, and another job gets them again afterwards."""
    seen: list[list[str]] = []

    async def use() -> None:
        seen.append(current_job().granted["gpu"])
        await anyio.sleep(1)

    jobs = [Job(use, needs={"gpu": number}) for number in (1, 2, 3, 1)]
    assert virtual(Scheduler(*jobs, pool=Pool(gpu=["x", "y", "z"])).co_run)
    assert seen == [["x"], ["y", "z"], ["x", "y", "z"], ["x"]] or seen == [["x"], ["y", "z"], ["x"], ["x", "y", "z"]]
    assert jobs[0].granted == {}


def test_members_share_the_needs_of_their_scheduler(virtual: Virtual) -> None:
    """A nested scheduler has its needs for its whole run, and its members share exactly these."""
    log: list[tuple[float, str, Any]] = []

    async def use() -> None:
        log.append((anyio.current_time(), current_job().label, current_job().granted["gpu"]))
        await anyio.sleep(1)

    inner = Scheduler(*[Job(use, label=f"in {i}", needs={"gpu": 1}) for i in range(3)], needs={"gpu": 1})
    others = [Job(use, label=f"out {i}", needs={"gpu": 1}) for i in range(2)]
    assert virtual(Scheduler(inner, *others, pool=Pool(gpu=["0", "1"])).co_run)
    assert sorted(log) == [
        (0, "in 0", ["0"]), (0, "out 0", ["1"]), (1, "in 1", ["0"]), (1, "out 1", ["1"]), (2, "in 2", ["0"])
    ]  # fmt: skip


def test_a_job_that_waits_for_a_slot_reserves_nothing(virtual: Virtual) -> None:
    """An outer job that waits for a slot reserves nothing, or the nested jobs, which need the same, could never end."""
    inner = Scheduler(*[Job(anyio.sleep, 1, needs={"a": 1}) for _ in range(5)], backfill=0)
    outer = Scheduler(inner, Job(anyio.sleep, 1, needs={"a": 3}), jobs_window=1, pool=Pool(a=3), backfill=0)
    assert virtual(outer.co_run)


def test_needs_are_found_in_the_nearest_pool(virtual: Virtual) -> None:
    """Needs are taken from the nearest pool that has the name: an inner pool hides an outer one."""
    near = Job(anyio.sleep, 1, needs={"a": 5, "b": 1})
    assert virtual(Scheduler(Scheduler(near, pool=Pool(a=5)), pool=Pool(a=1, b=1)).co_run)


def test_jobs_added_during_the_run_may_have_needs(virtual: Virtual) -> None:
    """Even the first job with needs may be added during the run, and `add` rejects one that could never start."""

    async def add() -> None:
        scheduler.update([Job(anyio.sleep, 1, label=f"{i}", needs={"a": 2}) for i in range(2)])
        with pytest.raises(ValueError, match="'big' needs a=4, but the total is only 3: it could never start"):
            scheduler.add(Job(anyio.sleep, 1, label="big", needs={"a": 4}))

    scheduler = Scheduler(Job(add), pool=Pool(a=3))
    assert virtual(scheduler.co_run)
    assert [job.started_at for job in scheduler][1:] == [0, 1]


def test_cancelling_the_due_job_lets_later_jobs_start(virtual: Virtual) -> None:
    """With `backfill=0` no job passes a large one that waits, but when that is cancelled, later jobs start."""

    async def cancel() -> None:
        await anyio.sleep(1)
        big.cancel()

    first, last = Job(anyio.sleep, 5, needs={"a": 1}), Job(anyio.sleep, 1, needs={"a": 1})
    big = Job(anyio.sleep, 1, needs={"a": 3})
    assert virtual(Scheduler(first, big, last, Job(cancel), pool=Pool(a=3), backfill=0).co_run)
    assert last.started_at == 1


def test_a_due_job_that_waits_behind_another_reserves_nothing(virtual: Virtual) -> None:
    """A job that fits, but has to wait behind an earlier one that does not, reserves nothing."""
    first = Job(anyio.sleep, 0.5)
    kept = Job(anyio.sleep, 1, needs={"b": 1}, required=first)
    around = Scheduler(first, kept)
    earlier, due = Job(anyio.sleep, 1, needs={"a": 1, "c": 1}), Job(anyio.sleep, 1, needs={"b": 1, "c": 1})
    jobs = [Job(anyio.sleep, 1, needs={"c": 1}), Job(anyio.sleep, 2, needs={"a": 1}), around, earlier, due]
    assert virtual(Scheduler(*jobs, pool=Pool(a=1, b=1, c=1), backfill=0).co_run)
    assert (kept.started_at, earlier.started_at, due.started_at) == (1, 2, 3)


async def one_after_the_other(runs: list[Scheduler], pauses: tuple[float, ...]) -> None:
    """Start these runs, each followed by a pause of the given seconds, and wait for all of them."""
    async with anyio.create_task_group() as group:
        for run, pause in zip(runs, pauses, strict=True):
            group.start_soon(run.co_run)
            await anyio.sleep(pause)


def test_pools_that_one_job_joins_leave_no_timer_behind(virtual: Virtual) -> None:
    """A job that needs names of two pools joins their queues; once a timer of one remained, and met an ended run."""
    group = Scheduler(Job(nap, 0, needs={"api": 2}), jobs_window=1)
    second = Scheduler(Job(nap, 0, needs={"gpu": 1}), Job(nap, 1, needs={"gpu": 1, "api": 1}), pool=Pool(gpu=1))
    first = Job(nap, 0.5, needs={"api": 10})
    others = [Job(nap, 1, needs={"api": 1}), Job(nap, 1, needs={"api": 8})]
    pool = Pool(api=Rate(tokens=1, per=1, burst=10))
    assert virtual(Scheduler(first, group, second, *others, jobs_window=2, pool=pool, timeout=99).co_run)


def test_a_job_that_waits_for_a_rate_starts_on_time_although_its_pool_is_joined_to_another(virtual: Virtual) -> None:
    """The timer for a rate is set again when a job of a run without a free slot joins two pools."""
    waiting = Job(nap, 0, needs={"api": 1})
    first = Scheduler(Job(nap, 0, needs={"api": 1}), waiting)
    service = Service(serve, 2)  # takes no slot, so `late` becomes ready while the window is full
    late = Job(nap, 0, needs={"gpu": 1, "api": 1}, required=service)
    second = Scheduler(service, Job(nap, 0, needs={"gpu": 1}), Job(nap, 99), late, jobs_window=1, pool=Pool(gpu=1))
    scheduler = Scheduler(first, second, pool=Pool(api=Rate(tokens=1, per=10, burst=1)))
    assert virtual(scheduler.co_run)
    assert waiting.started_at == 10


def test_a_run_that_has_ended_takes_no_part_when_its_pool_is_joined_to_another(virtual: Virtual) -> None:
    """The round after two pools are joined is due in the loop of a run that is in progress."""
    pool, kept = Pool(disk=9, api=Rate(tokens=1, per=10, burst=1)), []

    async def keep() -> None:
        run: Any = run_of(current_job())
        kept.append(run._run.queue)

    for _ in range(20):
        assert virtual(Scheduler(Job(keep, needs={"disk": 1}), pool=pool).co_run)
    waiting = Job(nap, 0, needs={"disk": 1, "api": 1})
    first = Scheduler(Job(nap, 0, needs={"disk": 1, "api": 1}), waiting)
    service, needs = Service(serve, 2), {"a": 1, "b": 1, "c": 1}
    late = Job(nap, 0, needs={"a": 1, "api": 1}, required=service)
    jobs = [service, Job(nap, 0, needs=needs), Job(nap, 99), late]
    second = Scheduler(jobs, jobs_window=1, pool=Pool(a=1, b=1, c=1))
    assert virtual(Scheduler(first, second, pool=pool).co_run)
    assert waiting.started_at == 10


@pytest.mark.parametrize("resource", [2, Rate(requests=1, per=1)])
def test_the_first_ready_job_among_all_runs_of_a_pool_starts_first(virtual: Virtual, resource: Any) -> None:
    """Of all jobs in the runs of a pool the one that became ready first starts first, so no run starves."""
    shared = Pool(api=resource)
    schedulers = [Scheduler(*[Job(anyio.sleep, 1, needs={"api": 1}) for _ in range(8)], pool=shared) for _ in range(4)]
    virtual(one_after_the_other, schedulers, (0.25, 0.25, 0.25, 0.25))
    starts = [[job.started_at or 0 for job in scheduler] for scheduler in schedulers]
    for earlier, later in itertools.pairwise(starts):
        assert max(earlier) <= min(later)


def test_a_late_priority_is_compared_with_jobs_that_overtook_without_one(virtual: Virtual) -> None:
    """A late job with a priority can be compared with earlier overtakers, which had none."""
    big = Job(anyio.sleep, 1, needs={"cpu": 2})
    small = [Job(anyio.sleep, 1, needs={"cpu": 1}) for _ in range(4)]
    scheduler = Scheduler(small[0], big, *small[1:], pool=Pool(cpu=2), backfill=1)

    async def add() -> None:
        scheduler.add(Job(anyio.sleep, 1, needs={"cpu": 1}, priority=1))

    scheduler.add(Job(add))
    assert virtual(scheduler.co_run)
    assert all(job.is_succeeded() for job in scheduler)


def test_a_run_that_is_still_being_prepared_is_not_woken(virtual: Virtual, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is still counting successors is not woken: it would start a job and never release those behind it."""
    monkeypatch.setattr(_graph_algorithms, "CHUNK_SIZE", 10)
    shared = Pool(cpu=2)
    first = Job(nothing, needs={"cpu": 1})
    last = Job(nothing, required=first)
    prepared = Scheduler(first, *[Job(nothing) for _ in range(100)], last, pool=shared)
    others = Scheduler(*[Job(turns, 5, needs={"cpu": 1}) for _ in range(9)], pool=shared, jobs_window=1)

    async def main() -> None:
        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as group:
                group.start_soon(others.co_run)
                group.start_soon(prepared.co_run)
        assert last.state is JobState.SUCCEEDED

    virtual(main)


def test_services_and_clean_up_jobs_get_their_needs(virtual: Virtual) -> None:
    """A service has its needs until the run ends it, and a clean-up job does not wait for its needs."""
    seen: list[Any] = []

    async def serve(task_status: Any) -> None:
        task_status.started(current_job().granted["gpu"])
        await anyio.sleep_forever()

    async def fail() -> None:
        raise ValueError

    async def clean() -> None:
        seen.append((current_job().granted["gpu"], pool.free["gpu"]))

    pool = Pool(gpu=["0"])
    service = Service(serve, needs={"gpu": 1})
    failing = Job(fail, critical=True, required=service)
    cleaning = Job(clean, run_if="failed", required=failing, needs={"gpu": 1})
    assert not virtual(Scheduler(service, failing, cleaning, pool=pool).co_run)
    assert service.result() == ["0"]
    assert cleaning.state is JobState.SUCCEEDED
    assert seen == [([], -1)]
    assert pool.free == {"gpu": 1}


def test_explain_names_the_resource_that_a_job_waits_for(virtual: Virtual) -> None:
    """`explain` names the resource that a job waits for, the amount taken and its holders, or the job before it."""
    said: list[str] = []

    async def look() -> None:
        said.extend(scheduler.explain(job) for job in (waiting, behind))

    running = [Job(anyio.sleep, 1, label=label, needs={"gpu": 1}) for label in "abefgh"]
    waiting = Job(anyio.sleep, 1, label="c", needs={"gpu": 2})
    behind = Job(anyio.sleep, 1, label="d", needs={"gpu": 1})
    scheduler = Scheduler(running, waiting, behind, Job(look), pool=Pool(gpu=7), backfill=0)
    assert virtual(scheduler.co_run)
    assert said == [
        "'c' waits for gpu: 6 of 7 taken by 'a', 'b', 'e', 'f', 'g' and 1 more",
        "'d' waits for gpu, although enough is free, behind 'c', which no more jobs may overtake (backfill=0)",
    ]


def test_explain_changes_no_queue(virtual: Virtual, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread may ask at any time; once, `explain` scanned the queues, and a run failed that was looked at."""
    scans: list[Admission] = []
    scan = Admission.scan

    def counted(self: Admission) -> Any:
        scans.append(self)
        return scan(self)

    async def look() -> None:
        before = len(scans)
        texts = [scheduler.explain(job) for job in scheduler]
        assert "behind 'c'" in texts[2]
        assert len(scans) == before

    monkeypatch.setattr(Admission, "scan", counted)
    jobs = [Job(anyio.sleep, 1, label=label, needs={"gpu": number}) for label, number in (("a", 1), ("c", 2), ("d", 1))]
    looking = Job(look)
    scheduler = Scheduler(jobs, looking, pool=Pool(gpu=2), backfill=0)
    assert virtual(scheduler.co_run)
    assert looking.state is JobState.SUCCEEDED
    assert scans


def test_a_pool_in_use_is_rejected_in_a_second_loop(backend: str) -> None:
    """A second loop may not use a pool while the first one does, but after its run it may."""
    pool = Pool(a=1)

    def elsewhere() -> None:
        with pytest.raises(RuntimeError, match="the pool of 'second' is in use by a scheduler in another event loop"):
            Scheduler(Job(anyio.sleep, 0, needs={"a": 1}), pool=pool, label="second").run()

    assert Scheduler(ThreadJob(elsewhere), pool=pool).run(backend=backend, check=True)  # type: ignore[arg-type]
    assert Scheduler(Job(anyio.sleep, 0, needs={"a": 1}), pool=pool).run()


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        ({"gpu": 3}, r"'x' needs gpu=3, but the total is only 2: it could never start"),
        ({"gpu": 0.5}, r"'x' needs gpu=0.5, which has named units: give a whole number"),
        (
            {"tpu": 1},
            r"'x' needs tpu=1, which no enclosing pool has \(they have gpu, ram\): give its",
        ),
        ({"ram": "3 GiB"}, r"'x' needs ram=3 GiB, but the total is only 2 GiB"),
    ],
)
def test_needs_that_can_never_fit_are_rejected_before_any_job_starts(needs: Any, message: str) -> None:
    """Needs that can never be met, of nested jobs too, are rejected before any job starts."""
    job = Job(anyio.sleep, 0, label="x", needs=needs)
    first = Job(anyio.sleep, 0)
    scheduler = Scheduler(first, Scheduler(job), pool=Pool(gpu=["0", "1"], ram="2 GiB"))
    assert not scheduler.is_runnable()
    with pytest.raises(ValueError, match=message):
        scheduler.run()
    assert first.state is JobState.IDLE
    job.needs = {"gpu": 2}
    assert scheduler.run()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Pool(cpu=-1), ValueError, r"Pool\(cpu=-1\): give a finite number, 0 or more"),
        (lambda: Pool(cpu=float("nan")), ValueError, r"Pool\(cpu=nan\)"),
        (lambda: Pool(cpu=True), TypeError, r"Pool\(cpu=True\): give a number"),
        (lambda: Pool(ram="9" * 400), ValueError, r"999'\): the size is too large"),
        (lambda: Pool(ram="9" * 300 + " PiB"), ValueError, r"PiB'\): the size is too large"),
        (lambda: Pool(ram="24 gigs"), ValueError, r"Pool\(ram='24 gigs'\): write a number and a unit: B, kB"),
        (lambda: Pool(gpu=["0", "0"]), ValueError, r"duplicate unit"),
        (lambda: Job(anyio.sleep, 0, label="x", needs={"cpu": -2}), ValueError, r"needs=\{'cpu': -2\} of 'x'"),
        (lambda: Job(anyio.sleep, 0, label="x", needs={"cpu": None}), TypeError, r"needs=\{'cpu': None\} of 'x'"),
        (lambda: Job(anyio.sleep, 0, label="x", needs=["cpu"]), TypeError, r"needs=\['cpu'\] of 'x': give a dict"),
        (lambda: Job(anyio.sleep, 0, label="x", needs={1: 1}), TypeError, r"the name 1 is not a string"),
        (lambda: Job(anyio.sleep, 0, label="x", needs={"cpu": 10**400}), ValueError, r"of 'x': give a finite number"),
        (lambda: Scheduler(label="s", pool={"cpu": 1}), TypeError, r"pool=\{'cpu': 1\} of 's': give a Pool"),
        (lambda: Scheduler(label="s", backfill=-1), ValueError, r"backfill=-1 of 's'"),
        (lambda: Scheduler(label="s", backfill=1.5), TypeError, r"backfill=1.5 of 's'"),
    ],
)
def test_invalid_amounts_are_rejected(make: Any, error: type[Exception], message: str) -> None:
    """An invalid amount raises an error that names the value and the job or pool."""
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("text", "number"),
    [("24 GiB", 24 * 2**30), ("500MB", 500_000_000), ("1.5 kB", 1500), ("4G", 4 * 2**30), ("7", 7), ("0.5", 0.5)],
)
def test_sizes_with_decimal_and_binary_prefixes_are_parsed(text: str, number: float) -> None:
    """Sizes may have decimal (MB) or binary (GiB) units; a prefix alone (G) is binary."""
    assert Pool(ram=text).total == {"ram": number}


def test_amounts_given_as_sizes_are_shown_as_sizes(virtual: Virtual) -> None:
    """If a pool was given a size, texts about it show sizes, not numbers of bytes."""
    shared = Pool(ram="24 GiB", disk=1 << 30)
    holder = Job(anyio.sleep, 1, label="holder", needs={"ram": "20 GiB"})
    waiting = Job(anyio.sleep, 1, label="waiting", needs={"ram": "5 GiB"})

    async def look() -> tuple[str, str]:
        return scheduler.explain(waiting), repr(shared)

    looked = Job(look)
    scheduler = Scheduler(holder, waiting, looked, pool=shared)
    assert virtual(scheduler.co_run)
    assert looked.result() == (
        "'waiting' waits for ram: 20 GiB of 24 GiB taken by 'holder'",
        "<Pool ram=4 GiB of 24 GiB free, disk=1073741824 of 1073741824 free>",
    )


@pytest.mark.parametrize(("need", "at_once"), [(Fraction(1, 3), 3), (0.1, 10), (Fraction(2, 7), 3)])
def test_fractional_needs_that_add_up_to_the_whole_fit_exactly(virtual: Virtual, need: Any, at_once: int) -> None:
    """Jobs whose fractional needs add up to the whole all start at once, and one more has to wait."""
    jobs = [Job(nap, 1, needs={"share": need}) for _ in range(at_once + 1)]
    assert virtual(Scheduler(*jobs, pool=Pool(share=1.0)).co_run)
    assert [job.started_at for job in jobs] == [0] * at_once + [1]


# ---- what it costs


@pytest.mark.parametrize("window", [None, 2])
def test_the_end_of_a_job_wakes_only_runs_whose_jobs_are_first(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch, window: int | None
) -> None:
    """The end of a job wakes only runs whose jobs are first, so runs check no oftener among many than among few."""
    scan, looks = Admission.scan, itertools.count()

    def counted(admission: Admission) -> Any:
        next(looks)
        return scan(admission)

    monkeypatch.setattr(Admission, "scan", counted)
    runs = [Scheduler(*[Job(nap, needs={"cpu": 1}) for _ in range(5)], jobs_window=window) for _ in range(40)]
    assert virtual(Scheduler(*runs, pool=Pool(cpu=2)).co_run)
    assert next(looks) < 10 * 200


def test_needs_without_waiting_jobs_are_removed_from_the_admission_queue(virtual: Virtual) -> None:
    """Needs for which no job waits any more are forgotten, so a stream of jobs may have ever different ones."""
    asked: list[int] = []

    async def body() -> None:
        run: Any = scheduler._run
        asked.append(len(run.queue.groups.group_entries))

    jobs: list[Any] = []
    for number in range(20):
        jobs.append(Job(body, needs={"cpu": number}, required=jobs[-1:]))
    scheduler = Scheduler(*jobs, pool=Pool(cpu=20))
    assert virtual(scheduler.co_run)
    assert asked == [0] * 20


def kinds(number: int) -> Scheduler:
    """Return so many jobs, each with another amount of one resource."""
    return Scheduler([Job(nap, 1, needs={"ram": 1000 + one}) for one in range(number)], pool=Pool(ram=8000))


def rates(number: int) -> Scheduler:
    """Return so many jobs, each with another number of tokens."""
    jobs = [Job(nothing, needs={"api": {"tokens": 1000 + one}}) for one in range(number)]
    return Scheduler(jobs, pool=Pool(api=Rate(tokens=9000, per=1)))


def groups(number: int) -> Scheduler:
    """Return schedulers of five jobs each, inside one that has a pool."""
    inner = [Scheduler([Job(nap, 1, needs={"cpu": 1}) for _ in range(5)]) for _ in range(number // 5)]
    return Scheduler(inner, pool=Pool(cpu=8))


def test_a_queue_in_which_nothing_has_changed_is_not_scanned_again(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round looks at the waiting jobs only if something has changed since the last one."""
    scan, looks = Admission.scan, itertools.count()

    async def ask() -> None:
        queue = waiting.scheduler._run.queue
        queue.admit()
        before = next(looks)
        for _ in range(5):
            queue.admit()
        assert next(looks) == before + 1
        queue.on_change()
        queue.admit()
        assert next(looks) > before + 2

    monkeypatch.setattr(Admission, "scan", lambda admission: [next(looks), scan(admission)][1])
    waiting = Job(nap, 1, needs={"cpu": 2})
    asking = Job(ask, needs={"cpu": 1})
    assert virtual(Scheduler(asking, waiting, pool=Pool(cpu=2)).co_run)


def test_a_scan_ends_where_too_little_is_left_for_anybody(virtual: Virtual, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the first of many kinds of needs is looked at while too little is left for the smallest."""
    available_at, looks = CountedResource.available_at, itertools.count()

    def counted(resource: CountedResource, need: Any) -> float:
        next(looks)
        return available_at(resource, need)

    monkeypatch.setattr(CountedResource, "available_at", counted)
    assert virtual(kinds(200).co_run)
    assert next(looks) < 3 * 200


def passed(number: int) -> Scheduler:
    """Return pairs of jobs, where all second ones pass all first ones."""
    left: list[None] = [None] * (number // 2)
    done = anyio.Event()

    async def second() -> None:
        left.pop()
        if not left:
            done.set()

    pairs = [[Job(nothing, needs={"cpu": 3}), Job(second, needs={"cpu": 1})] for _ in left]
    return Scheduler(Job(done.wait, needs={"cpu": 1}), pairs, pool=Pool(cpu=3), backfill=10**9)


@pytest.mark.parametrize("scenario", [kinds, rates, groups, passed])
def test_work_per_job_does_not_grow_with_the_number_of_waiting_jobs(
    virtual: Virtual, scenario: Callable[[int], Scheduler], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of function calls per job grows only logarithmically with the number of waiting jobs.

    Each start once asked all others that waited: each kind of needs, each scheduler, each job that was passed.
    """
    monkeypatch.setattr(_admission, "MAX_GROUPS_PER_RESOURCE", 8)  # 50 are more than a look goes through

    def calls_a_job(number: int) -> float:
        count = itertools.count()

        async def main() -> None:
            scheduler = scenario(number)
            sys.setprofile(lambda *_: next(count))
            try:
                assert await scheduler.co_run()
            finally:
                sys.setprofile(None)

        virtual(main)
        return next(count) / number

    assert calls_a_job(200) < 1.4 * calls_a_job(25)


def test_a_job_that_fits_behind_blocked_jobs_is_woken(virtual: Virtual) -> None:
    """A job that fits starts between jobs that are held up by a reservation, which does not concern it."""
    pool = Pool(cpu=2, gpu=2, disk=2)
    begins: dict[str, float] = {}

    async def body(name: str, seconds: float) -> None:
        begins[name] = anyio.current_time()
        await anyio.sleep(seconds)

    async def run(name: str, at: float, seconds: float, backfill: int = 64, **needs: int) -> None:
        await anyio.sleep(at)
        await Scheduler(Job(body, name, seconds, needs=needs), pool=pool, backfill=backfill).co_run()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(partial(run, "holds all cpus", 0, 10, cpu=2))
            group.start_soon(partial(run, "holds the rest", 0, 100, gpu=1, disk=1))
            group.start_soon(partial(run, "has a reservation", 1, 1, backfill=0, gpu=2, disk=2))
            group.start_soon(partial(run, "is blocked", 2, 1, gpu=1, cpu=1))
            group.start_soon(partial(run, "fits", 3, 1, cpu=2))
            group.start_soon(partial(run, "is blocked too", 4, 1, disk=1, cpu=1))

    virtual(main)
    assert begins["fits"] - begins["holds all cpus"] == 10
    assert begins["is blocked"] >= begins["has a reservation"]


def test_a_job_with_own_task_needs_nothing_in_a_run_whose_other_jobs_have_needs(virtual: Virtual) -> None:
    """A job with `own_task` and no needs is queued again for another worker, with nothing to release."""

    async def main() -> list[float | None]:
        async with Scheduler(pool=Pool(cpu=1), jobs_window=1) as scheduler:
            jobs = [scheduler.add(Job(nap, 1, needs={"cpu": 1})), scheduler.add(Job(nap, 1, own_task=True))]
        return [job.started_at for job in jobs]

    assert virtual(main) == [0, 1]


def test_a_reservation_keeps_no_earlier_job_of_another_run_waiting(virtual: Virtual) -> None:
    """A reservation for a job does not delay jobs of other runs that became ready before it."""
    pool = Pool(cpu=3)
    options: dict[str, Any] = {"needs": {"cpu": 2}, "expected_duration": 10}
    early = Job(nap, 10, **options)
    later = Job(nap, 10, required=Job(nap, 1), **options)
    own = Scheduler(early, later, later.required, pool=pool, policy="critical-path", backfill=1)
    between = Job(nap, 1, needs={"cpu": 1})  # at first it has no slot
    passing = Scheduler(Sequence([Job(nap, 0.5, needs={"cpu": 1}) for _ in range(2)]), pool=pool)
    runs = [Scheduler(Job(nap, 2, needs={"cpu": 2}), pool=pool), own]
    runs += [Scheduler(Job(nap, 3.5), between, pool=pool, jobs_window=1), passing]

    virtual(one_after_the_other, runs, (0.25, 0.25, 2, 0))
    assert between.started_at == 4
    assert [job.started_at for job in passing] == [2.5, 12]


def test_an_earlier_job_of_another_run_does_not_count_as_an_overtaker(virtual: Virtual) -> None:
    """Only jobs that became ready later count as overtakers, after too many of which a reservation begins."""
    pool = Pool(cpu=3)
    large, small = [Job(nap, 1, needs={"cpu": 3}) for _ in range(2)], Job(nap, 1, needs={"cpu": 1})
    earlier = Scheduler(large[0], *(Job(nap, 2, needs={"cpu": 1}) for _ in range(2)), pool=pool, jobs_window=1)
    runs = [Scheduler(Job(nap, 6, needs={"cpu": 1}), pool=pool), earlier]
    runs += [Scheduler(large[1], pool=pool, backfill=1), Scheduler(small, pool=pool)]

    virtual(one_after_the_other, runs, (0.25, 0.25, 2.5, 0))
    assert small.started_at == 3


@pytest.mark.parametrize("runs", [1, 2])
def test_a_large_need_is_passed_no_more_often_than_allowed(virtual: Virtual, runs: int) -> None:
    """At most `backfill` later jobs, including those of other runs, start before a job with large needs."""
    large = Job(nap, 1, needs={"cpu": 4})
    small = [[Job(nap, 1 if number else 1 + row / 4, needs={"cpu": 1}) for number in range(50)] for row in range(4)]
    before, chains = Sequence(Job(nap, 0.1), large), [Sequence(*row) for row in small]
    groups = [[before, *chains]] if runs == 1 else [[before], chains]
    assert virtual(Scheduler(*(Scheduler(*group, backfill=40) for group in groups), pool=Pool(cpu=4)).co_run)
    assert large.started_at is not None
    assert sum((job.started_at or 0) < large.started_at for row in small for job in row[1:]) == 40


@pytest.mark.parametrize(("most", "at"), [(2, 4), (3, 0)])
def test_a_scan_of_the_queue_covers_a_limited_number_of_needs(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch, most: int, at: float
) -> None:
    """A search of the queue looks only at a limited number of different needs that wait for a scarce resource."""
    monkeypatch.setattr(_admission, "MAX_GROUPS_PER_RESOURCE", most)
    before = [Job(nap, 2, needs={"cpu": 1}), Job(nap, 1, needs={"cpu": 2}), Job(nap, 1, needs={"cpu": 2, "gpu": 1})]
    behind = Job(nap, 1, needs={"cpu": 1})
    assert virtual(Scheduler(*before, behind, pool=Pool(cpu=2, gpu=1)).co_run)
    assert behind.started_at == at
    assert [job.started_at for job in before] == [0, 2, 3]


def test_an_admitted_job_keeps_what_it_got_when_a_job_of_higher_priority_becomes_ready(virtual: Virtual) -> None:
    """A job that was admitted starts, even if a job with a higher priority is added in the same turn."""
    pool = Pool(cpu=1)
    low, high = Job(nap, 1, needs={"cpu": 1}), Job(nap, 1, needs={"cpu": 1}, priority=1)
    other = Scheduler(low, pool=pool)

    async def add() -> None:
        other.add(high)

    first, late = Job(nap, 1, needs={"cpu": 1}), Job(nap, 1, needs={"cpu": 1}, required=Job(nap, 0.5))
    own = Scheduler(first, late.required, late, Job(add, required=first), pool=pool)
    virtual(one_after_the_other, [own, other], (0.25, 0))
    assert [job.started_at for job in (first, low, high, late)] == [0, 1, 2, 3]


def test_a_job_that_waits_for_a_token_keeps_its_needs(virtual: Virtual) -> None:
    """A job that has its needs, but no token, starts before a late job of higher priority that needs the same."""

    async def main() -> list[float | None]:
        pool = Pool(cpu=1, api=Rate(calls=1, per=10))
        low = Job(nap, 1, needs={"cpu": 1, "api": 1})
        high = Job(nap, 1, needs={"cpu": 1}, priority=1)
        last = Job(nap, 1, needs={"api": 1}, required=low)
        scheduler = Scheduler(Job(nap, 3), low, last, jobs_window=anyio.CapacityLimiter(1), pool=pool)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scheduler.co_run)
            await anyio.sleep(1)
            assert pool.free == {"cpu": 0, "api": {"calls": 0}}
            scheduler.add(high)
        return [job.started_at for job in (high, low, last)]

    assert virtual(main) == [4, 3, 13]


def test_a_job_whose_run_has_no_free_slot_reserves_nothing_from_other_runs(virtual: Virtual) -> None:
    """The reservation of a waiting job ends as soon as its run has no free slot to start it."""

    async def main() -> list[float | None]:
        pool = Pool(cpu=2)
        large, small = Job(nap, 1, needs={"cpu": 2}), Job(nap, 1, needs={"cpu": 1})
        full = Scheduler(large, jobs_window=1, pool=pool, backfill=0)
        other = Scheduler(Job(nap, 9, needs={"cpu": 1}), pool=pool)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(other.co_run)
            await anyio.sleep(1)
            tasks.start_soon(full.co_run)
            await anyio.sleep(1)
            other.add(small)
            await anyio.sleep(1)
            full.add(Job(nap, 20))
        return [job.started_at for job in (large, small)]

    assert virtual(main) == [23, 3]


def test_a_job_with_a_higher_priority_in_another_run_starts_first(virtual: Virtual) -> None:
    """A job with a higher priority starts first, whichever run it is in and however late it became ready."""
    pool = Pool(cpu=1)
    jobs = [Job(nap, 1, needs={"cpu": 1}, priority=priority) for priority in (0, 0, 1)]
    virtual(one_after_the_other, [Scheduler(*jobs[:2], pool=pool), Scheduler(jobs[2], pool=pool)], (0.25, 0))
    assert [job.started_at for job in jobs] == [0, 2, 1]


def test_a_late_job_with_a_higher_priority_moves_its_waiting_run_ahead(virtual: Virtual) -> None:
    """A late job with a higher priority moves its run ahead of runs that have waited for longer."""

    async def main() -> list[float | None]:
        pool = Pool(cpu=1)
        earlier, later, high = (Job(nap, 1, needs={"cpu": 1}, priority=priority) for priority in (0, 0, 1))
        second = Scheduler(later, pool=pool)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Scheduler(Job(nap, 3, needs={"cpu": 1}), earlier, pool=pool).co_run)
            await anyio.sleep(1)
            tasks.start_soon(second.co_run)
            await anyio.sleep(1)
            second.add(high)
        return [job.started_at for job in (high, earlier, later)]

    assert virtual(main) == [3, 4, 5]


def test_a_forever_job_takes_what_it_needs_while_the_window_is_full(virtual: Virtual) -> None:
    """A forever job that is added while jobs wait for a slot starts at once, because it needs none."""
    service = Job(nap, 9, forever=True, needs={"gpu": 1})

    async def add_later() -> None:
        await anyio.sleep(1)
        scheduler.add(service)
        await anyio.sleep(4)

    scheduler = Scheduler(Job(add_later), Job(nap, needs={"gpu": 1}), Job(nap), jobs_window=1, pool=Pool(gpu=2))
    assert virtual(scheduler.co_run)
    assert service.started_at == 1
