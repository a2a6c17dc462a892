"""Under a limit, jobs start in the order in which they became ready, and those of one instant in the order of adding.

Graphs are drawn whose jobs end at whole seconds, so that many end in one instant, and a plain simulation of the rule
says what starts when. Which of the tasks that end in one instant the loop resumes first must not matter.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import trio

from trioflow import Budget, Job, JobState, PerKey, Pool, Scheduler, current_job
from trioflow.abc import BackendName

from ..bodies import nap
from ..conftest import Ordered

if TYPE_CHECKING:
    from ..conftest import Virtual

COUNT = 20  # of graphs in a test
ORDERS = 4  # in which tasks continue
KINDS = {
    "window": lambda size, _: {"jobs_window": size},
    "priorities": lambda size, _: {"jobs_window": size},
    "needs": lambda size, _: {"pool": Pool(cpu=size + 1)},
    "keys": lambda size, _: {"pool": Pool(host=PerKey(size))},
    "limiter": lambda size, library: {"jobs_window": library.CapacityLimiter(size)},
}


@dataclass
class Drawn:
    """A job of a graph; `required` has positions in the list of all jobs."""

    required: list[int]
    seconds: int
    priority: int
    need: Any


def draw(kind: str, dice: random.Random, first: int) -> Iterator[Drawn]:
    """Yield the jobs of one scheduler, in the order of adding, which is not that of their requirements."""
    numbers = range(dice.randint(4, 12))
    shuffled = dice.sample(numbers, len(numbers))
    for number in numbers:
        before = shuffled[: shuffled.index(number)]
        yield Drawn(
            [first + each for each in dice.sample(before, min(len(before), dice.choice([0, 1, 1, 1, 2])))],
            dice.choice([1, 1, 2, 3]),
            dice.choice([0, 0, 1]) if kind == "priorities" else 0,
            dice.choice("ab") if kind == "keys" else dice.choice([1, 1, 2]) if kind == "needs" else 1,
        )


def expected_starts(jobs: list[Drawn], kind: str, size: int) -> list[tuple[float, int]]:
    """Simulate the rule; return when which job starts, in order."""
    used, ready, ends = Counter[Any](), list[tuple[int, int, int]](), list[tuple[int, int]]()
    starts, numbers, now = list[tuple[float, int]](), itertools.count(), 0
    open_counts = [len(job.required) for job in jobs]
    new = [number for number, count in enumerate(open_counts) if not count]
    while new or ready or ends:
        ready = sorted([*ready, *((-jobs[number].priority, next(numbers), number) for number in sorted(new))])
        for entry in list(ready):
            job = jobs[entry[2]]
            key, amount = (job.need, 1) if kind == "keys" else ("", job.need)
            if used[key] + amount <= size + (kind == "needs"):
                ready.remove(entry)
                used[key] += amount
                starts.append((now, entry[2]))
                heapq.heappush(ends, (now + job.seconds, entry[2]))
        now, new = ends[0][0], []
        while ends and ends[0][0] == now:
            ended = heapq.heappop(ends)[1]
            used.subtract({jobs[ended].need: 1} if kind == "keys" else {"": jobs[ended].need})
            for number, job in enumerate(jobs):
                open_counts[number] -= ended in job.required
                if ended in job.required and not open_counts[number]:
                    new.append(number)
    return starts


def seen_starts(jobs: list[Drawn], kind: str, groups: list[range], options: dict[str, Any], virtual: Virtual) -> Any:
    """Run the graph, with a nested scheduler for each group if there are several; return when which job starts."""
    starts: list[tuple[float, int]] = []

    async def body(number: int, seconds: int) -> None:
        starts.append((anyio.current_time() - began, number))
        await nap(seconds)

    async def main() -> None:
        nonlocal began
        began = anyio.current_time()
        made = [
            Job(
                body,
                number,
                job.seconds,
                priority=job.priority,
                needs={"cpu": job.need} if kind == "needs" else {"host": job.need} if kind == "keys" else {},
            )
            for number, job in enumerate(jobs)
        ]
        for job, drawn in zip(made, jobs, strict=True):
            job.requires([made[number] for number in drawn.required])
        members = made if len(groups) == 1 else [Scheduler(*(made[number] for number in group)) for group in groups]
        assert await Scheduler(*members, **options).co_run()

    began = 0.0
    virtual(main)
    return starts


@pytest.mark.parametrize("kind", KINDS)
def test_jobs_that_become_ready_in_one_instant_start_in_the_order_of_adding(
    virtual: Virtual, backend: BackendName, kind: str
) -> None:
    """What starts, and in which order, is what the rule says."""
    for seed in range(COUNT):
        dice = random.Random(f"{seed} of {kind}")
        jobs, size = [*draw(kind, dice, 0)], dice.randint(1, 4)
        options = KINDS[kind](size, trio if backend == "trio" else anyio)
        found = seen_starts(jobs, kind, [range(len(jobs))], options, virtual)
        assert found == expected_starts(jobs, kind, size), seed


@pytest.mark.parametrize("kind", ["needs", "keys", "limiter"])
def test_jobs_of_sibling_groups_share_a_limit_in_the_order_of_adding(
    virtual: Virtual, backend: BackendName, kind: str
) -> None:
    """Of the jobs of several groups that become ready in one instant, those of the first group get what is free."""
    for seed in range(COUNT):
        dice = random.Random(f"{seed} of groups with {kind}")
        jobs: list[Drawn] = []
        groups: list[range] = []
        for _ in range(dice.randint(2, 3)):
            first = len(jobs)
            jobs += draw(kind, dice, first)
            groups.append(range(first, len(jobs)))
        size = dice.randint(1, 4)
        options = KINDS[kind](size, trio if backend == "trio" else anyio)
        found = seen_starts(jobs, kind, groups, options, virtual)
        assert sorted(found) == sorted(expected_starts(jobs, kind, size)), seed


@pytest.mark.parametrize("is_nested", [True, False])
def test_a_run_whose_workers_have_left_gets_what_is_decided_later(
    virtual: Virtual, backend: BackendName, is_nested: bool
) -> None:
    """Another run decides, in which a job ends in the same instant; a job that was cancelled takes no slot."""

    async def main() -> None:
        first = Job(nap, 2)
        one = Scheduler(first, Job(nap, 2), Job(nap, 1, required=first), jobs_window=2)
        before, dropped = Job(nap, 2), Job(nap, 1, critical=False)
        after = Job(nap, 1, required=before)
        other = Scheduler(before, dropped, after, jobs_window=1)
        schedulers = [Scheduler(one, other, Job(nap, 9))] if is_nested else [one, other]
        async with anyio.create_task_group() as group:
            for scheduler in schedulers:
                group.start_soon(scheduler.co_run)
            await anyio.sleep(1)
            dropped.cancel()
        assert (after.state, after.started_at) == (JobState.SUCCEEDED, 2)

    virtual(main)


def test_a_stop_keeps_nothing_of_its_instant_for_the_next_run(virtual: Virtual, backend: BackendName) -> None:
    """A job that has become ready as the run stops is in the next run like the others."""
    fails = [OSError("once")]

    async def body() -> None:
        await nap(1)
        if fails:
            raise fails.pop()

    first = Job(body)
    ready, critical = Job(nap, 1, required=first, run_if="settled"), Job(nap, 1, required=first, critical=True)
    scheduler = Scheduler(first, Job(nap, 1), ready, critical, jobs_window=2)

    async def main() -> None:
        assert not await scheduler.co_run()
        assert critical.state is JobState.BLOCKED
        assert await scheduler.co_run()
        assert {job.state for job in scheduler.iterate_jobs()} == {JobState.SUCCEEDED}

    virtual(main)


@pytest.mark.parametrize("kind", ["added", "follows a job that has not waited"])
def test_what_becomes_ready_later_in_an_instant_does_not_pass(
    virtual: Virtual, backend: BackendName, kind: str
) -> None:
    """Neither a job that is added then, nor the successor of one that ends at once: it was added later, too."""
    starts: list[str] = []

    async def note(name: str) -> None:
        starts.append(name)

    async def add() -> None:
        await nap(1)
        if kind == "added":
            scheduler.add(Job(note, "later"))

    first, adder = Job(nap, 1), Job(add)
    jobs = [first, adder, Job(note, "ready", required=first)]
    if kind != "added":
        at_once = Job(note, "at once", required=adder)
        jobs += [at_once, Job(note, "later", required=at_once)]
    scheduler = Scheduler(*jobs, jobs_window=2)
    assert virtual(scheduler.co_run)
    assert starts.index("ready") < starts.index("later")


@pytest.mark.both_backends
@pytest.mark.parametrize("order", range(ORDERS))
def test_jobs_of_a_run_that_becomes_limited_start_in_the_order_of_adding(backend: BackendName, order: int) -> None:
    """What is added with needs during a run orders the ends of jobs that began without any limit, too."""
    starts: list[str] = []

    async def note(name: str) -> None:
        starts.append(name)
        await anyio.sleep(1)

    async def main() -> None:
        async with Scheduler(pool=Pool(cpu=1)) as scheduler:
            first, second = scheduler.add(Job(nap, 1)), scheduler.add(Job(nap, 1))
            await anyio.sleep(0.5)
            scheduler.add(Job(note, "of the second", required=second, needs={"cpu": 1}))
            scheduler.add(Job(note, "of the first", required=first, needs={"cpu": 1}))

    Ordered(backend, order)(main)
    assert starts == ["of the second", "of the first"]


@pytest.mark.both_backends
@pytest.mark.parametrize("order", range(ORDERS))
def test_what_a_job_returns_as_it_works_passes_over_nobody(backend: BackendName, order: int) -> None:
    """What `used()` leaves of a reservation goes by the order, also in the instant in which a job has become ready."""
    starts: list[str] = []
    seen: list[JobState] = []

    async def note(name: str) -> None:
        starts.append(name)
        await anyio.sleep(1)

    async def use() -> None:
        await anyio.sleep(1)
        seen.append(high.state)
        current_job().used(usd=1)
        await anyio.sleep(3)

    before, low = Job(nap, 1), Job(note, "low", needs={"usd": 5})
    high = Job(note, "high", needs={"usd": 4.5}, priority=10, required=before)
    scheduler = Scheduler(before, Job(use, needs={"usd": 8}), low, high, pool=Pool(usd=Budget(10)))
    Ordered(backend, order)(scheduler.co_run)
    assert starts == ["high" if seen == [JobState.SCHEDULED] else "low"]


@pytest.mark.both_backends
@pytest.mark.parametrize("order", range(ORDERS))
def test_what_is_returned_in_the_instant_in_which_two_runs_meet_is_passed_on(backend: BackendName, order: int) -> None:
    """The job that has become ready needs what another run has had: from then on, both have one order."""
    pool = Pool(usd=Budget(10), cpu=1)

    async def use() -> None:
        await anyio.sleep(1)
        current_job().used(usd=1)

    async def main() -> None:
        before, waits = Job(nap, 1), Job(nap, 1, needs={"usd": 5})
        meets = Job(nap, 1, needs={"cpu": 1}, required=before)
        async with anyio.create_task_group() as group:
            group.start_soon(Scheduler(Job(nap, 0.5, needs={"cpu": 1}), Job(nap, 3), pool=pool).co_run)
            group.start_soon(Scheduler(before, Job(use, needs={"usd": 8}), waits, meets, pool=pool).co_run)
        assert (waits.started_at, meets.started_at) == (1, 1)

    Ordered(backend, order)(main)


@pytest.mark.both_backends
@pytest.mark.parametrize("order", range(ORDERS))
@pytest.mark.parametrize("depth", [1, 2])
def test_what_a_group_makes_ready_is_in_the_order_of_adding(backend: BackendName, order: int, depth: int) -> None:
    """A group ends some turns later than a job that ends in the same instant, on asyncio later than on trio."""
    group = Scheduler(Job(nap, 9), timeout=1, on_timeout="move_on")
    for _ in range(depth - 1):
        group = Scheduler(group)
    other = Job(nap, 1)
    first = Job(nap, 1, required=group, needs={"cpu": 1})
    second = Job(nap, 1, required=other, needs={"cpu": 1})
    scheduler = Scheduler(group, other, first, second, Job(nap, 5, needs={"cpu": 1}), pool=Pool(cpu=1))
    Ordered(backend, order)(scheduler.co_run)
    assert (first.started_at, second.started_at) == (5, 6)
