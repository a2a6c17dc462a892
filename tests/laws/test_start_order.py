"""What ends in one instant passes on what it had, whichever of its tasks the loop resumes first."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any
import anyio
import pytest
from trioflow import Budget, Job, JobState, PerKey, Pool, Scheduler, current_job
from trioflow.abc import BackendName
from ..bodies import nap, noted, running
from ..conftest import Ordered, Virtual

ORDERS = 4  # in which tasks continue


@pytest.mark.parametrize("is_nested", [True, False])
def test_a_run_without_workers_gets_later_decisions(
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


def test_a_stop_keeps_nothing_of_its_instant_for_the_next_run(
    virtual: Virtual, backend: BackendName
) -> None:
    fails = [OSError("once")]

    async def body() -> None:
        await nap(1)
        if fails:
            raise fails.pop()

    first = Job(body)
    ready, critical = (
        Job(nap, 1, required=first, run_if="settled"),
        Job(nap, 1, required=first, critical=True),
    )
    scheduler = Scheduler(first, Job(nap, 1), ready, critical, jobs_window=2)

    async def main() -> None:
        assert not await scheduler.co_run()
        assert critical.state is JobState.BLOCKED
        assert await scheduler.co_run()
        assert {job.state for job in scheduler.iterate_jobs()} == {JobState.SUCCEEDED}

    virtual(main)


@pytest.mark.parametrize("kind", ["added", "follows a job that has not waited"])
def test_what_becomes_ready_later_in_instant_does_not_pass(
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
def test_what_a_job_returns_as_it_works_passes_over_nobody(
    backend: BackendName, order: int
) -> None:
    """What `used()` leaves of a reservation goes by the order, also in the instant in which a job has become ready."""
    starts: list[str] = []
    seen: list[JobState] = []

    async def use() -> None:
        await anyio.sleep(1)
        seen.append(high.state)
        current_job().used(usd=1)
        await anyio.sleep(3)

    before, low = Job(nap, 1), Job(noted, starts, "low", needs={"usd": 5})
    high = Job(noted, starts, "high", needs={"usd": 4.5}, priority=10, required=before)
    scheduler = Scheduler(
        before, Job(use, needs={"usd": 8}), low, high, pool=Pool(usd=Budget(10))
    )
    Ordered(backend, order)(scheduler.co_run)
    assert starts == ["high" if seen == [JobState.SCHEDULED] else "low"]


@pytest.mark.both_backends
@pytest.mark.parametrize("order", range(ORDERS))
def test_what_is_returned_in_the_instant_in_which_two_runs_meet_is_passed_on(
    backend: BackendName, order: int
) -> None:
    """The job that has become ready needs what another run has had: from then on, both have one order."""
    pool = Pool(usd=Budget(10), cpu=1)

    async def use() -> None:
        await anyio.sleep(1)
        current_job().used(usd=1)

    async def main() -> None:
        before, waits = Job(nap, 1), Job(nap, 1, needs={"usd": 5})
        meets = Job(nap, 1, needs={"cpu": 1}, required=before)
        async with running(
            Scheduler(Job(nap, 0.5, needs={"cpu": 1}), Job(nap, 3), pool=pool)
        ) as group:
            group.start_soon(
                Scheduler(
                    before, Job(use, needs={"usd": 8}), waits, meets, pool=pool
                ).co_run
            )
        assert (waits.started_at, meets.started_at) == (1, 1)

    Ordered(backend, order)(main)


@pytest.mark.parametrize(
    "seed",
    [*range(5), *(pytest.param(seed, marks=pytest.mark.ci) for seed in range(5, 12))],
)
def test_jobs_without_needs_do_not_decide_who_gets_resource(
    virtual: Virtual, backend: BackendName, seed: int
) -> None:
    """Jobs of several runs that need one resource start at the same times, however many others are ready."""

    def starts(others: int) -> list[float | None]:
        draw = random.Random(seed)

        def members() -> list[Job[Any]]:
            needs: list[Mapping[str, Any]] = [
                {"c": 1},
                {"c": 2},
                {"key": "a"},
                {"key": "b"},
            ]
            return [
                Job(nap, 1, needs=draw.choice(needs), priority=draw.choice(priorities))
                for _ in range(3)
            ]

        priorities = draw.choice([(0,), (0, 5)])
        groups = [Scheduler(members()) for _ in range(draw.randint(1, 2))]
        idle = [Job(nap, 0, priority=priorities[-1]) for _ in range(others)]
        scheduler = Scheduler(groups, idle, members(), pool=Pool(c=2, key=PerKey(1)))
        assert virtual(scheduler.co_run)
        return [job.started_at for job in scheduler.iterate_jobs() if job.needs]

    assert starts(0) == starts(11) == starts(12) == starts(40)


@pytest.mark.parametrize("policy", ["fifo", "depth-first"])
def test_a_journal_changes_no_order_among_what_one_end_makes_ready(
    virtual: Virtual, backend: BackendName, policy: Any, tmp_path: Path
) -> None:
    """All of it is looked up in the turn of the end, however long ago another job has begun."""
    starts: list[int] = []

    async def note(number: int) -> None:
        starts.append(number)
        await nap(1)

    async def started_with(**journal: Any) -> list[int]:
        starts.clear()
        before = Job(nap, 5, label="before", priority=100)
        behind = [
            Job(note, number, label=f"{number}", required=before, priority=number)
            for number in range(1, 21)
        ]
        other = Job(note, 0, label="other", priority=0)
        await Scheduler(before, other, *behind, jobs_window=1, policy=policy).co_run(
            **journal
        )
        return [*starts]

    async def main() -> None:
        usual = await started_with()
        assert usual == sorted(usual, reverse=True)
        assert await started_with(journal=tmp_path / "run.db") == usual

    virtual(main)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_group_counts_by_the_longest_chain_in_it_at_any_depth(
    virtual: Virtual, depth: int
) -> None:
    inner: Any = Job(nap, 10, label="long", expected_duration=10)
    for _ in range(depth):
        inner = Scheduler(inner)
    short = Job(nap, 5, label="short", expected_duration=5)
    assert virtual(
        Scheduler(short, inner, jobs_window=1, policy="critical-path").co_run
    )
    assert (inner.started_at, short.started_at) == (0, 10)
