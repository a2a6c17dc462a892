"""`job.path` of the members of a run that grows, drops and renames them."""

from __future__ import annotations

import itertools
import math
import time
from random import Random
from typing import Any
import pytest
import trio
from trioflow import Job, Scheduler, current_job
from trioflow._core.job import _labels


async def nap(number: Any = 0) -> str:
    await trio.lowlevel.checkpoint()
    return current_job().path


@pytest.mark.parametrize("seed", range(20))
def test_each_path_is_that_of_all_paths_after_any_changes(seed: int) -> None:
    """Jobs are added, removed and renamed in random order, in groups too; one path is asked for, or all of them."""
    random = Random(seed)
    group = Scheduler(label="a")
    scheduler = Scheduler(group)
    for _ in range(120):
        jobs = [job for job in scheduler.iterate_jobs() if job is not group]
        match random.choice(
            ["add", "add", "remove", "rename", "rename the group", "look at one"]
        ):
            case "add":
                label = random.choice(["a", "b", None])
                new = Job(nap, random.randrange(2), label=label)
                random.choice([scheduler, group]).add(new)
            case "remove" if jobs:
                job = random.choice(jobs)
                job.scheduler.remove(job)  # type: ignore[union-attr]
            case "rename" if jobs:
                random.choice(jobs).label = random.choice(["a", "b", "c#2", None])
            case "rename the group":
                group.label = random.choice("ab")
            case "look at one" if jobs:
                job = random.choice(jobs)
                assert job.path == _labels.paths_of(scheduler)[job]
            case _:
                pass
        if random.random() < 0.2:
            assert {
                job: job.path for job in scheduler.iterate_jobs()
            } == _labels.paths_of(scheduler)


def test_a_default_label_that_changes_with_its_argument_is_seen_when_its_job_is_named() -> (
    None
):
    numbers = [1]
    first, second = Job(nap, numbers), Job(nap, numbers, label="nap([2])")
    scheduler = Scheduler(first, second)
    assert [first.path, second.path] == ["nap([1])", "nap([2])"]
    numbers[0] = 2
    assert (
        [first.path, second.path]
        == ["nap([2])", "nap([2])#2"]
        == [*_labels.paths_of(scheduler).values()]
    )


def test_a_rejected_label_leaves_all_paths() -> None:
    one, other = Job(nap, label="x"), Job(nap, label="x")
    Scheduler(one, other)
    assert other.path == "x#2"
    with pytest.raises(TypeError):
        one.label = 3  # type: ignore[assignment]
    assert [one.path, other.path] == ["x", "x#2"]


def seconds_per_path(kind: str, count: int) -> float:
    """Return how long a job of a run of `count` jobs needs for its path."""
    spent = 0.0

    async def work(number: int) -> None:
        nonlocal spent
        if kind == "renamed":
            current_job().label = f"page {number}"
        elif kind == "added":
            scheduler.add(Job(nap, number))
        began = time.thread_time()
        assert current_job().path
        spent += time.thread_time() - began

    label = "work" if kind == "equal" else None
    jobs = (Job(work, number, label=label) for number in range(count))
    scheduler = Scheduler(jobs, keep_jobs=kind != "dropped", jobs_window=10, log=False)
    scheduler.run()
    return spent / count


@pytest.mark.parametrize("kind", ["kept", "equal", "dropped", "added", "renamed"])
def test_the_path_of_a_job_costs_the_same_in_a_large_run(kind: str) -> None:
    """A run whose jobs name themselves takes time in proportion to their number: eight times as many, not 64."""
    for _ in range(3):
        small, large = (seconds_per_path(kind, count) for count in (250, 2000))
        if large < 3 * small:
            return
    pytest.fail(
        f"a path takes {small * 1e6:.1f} µs of 250 jobs, and {large * 1e6:.1f} µs of 2000"
    )


def test_threads_ask_for_paths_while_jobs_are_added_and_dropped() -> None:
    found = list[str]()

    def look(jobs: list[Job[Any]], stop: list[bool]) -> None:
        for job in itertools.cycle(jobs):
            found.append(job.path)
            if stop and len(found) > 1000:
                return

    async def work() -> None:
        stop = list[bool]()
        jobs: list[Job[Any]] = [
            Job(trio.sleep, math.inf, label=f"job {number}", forever=True)
            for number in range(5)
        ]
        async with scheduler, trio.open_nursery() as nursery:
            for job in jobs:
                scheduler.add(job)
            nursery.start_soon(trio.to_thread.run_sync, look, jobs, stop)
            for number in range(200):
                await scheduler.add(Job(nap, number, label="job 0"))
            stop.append(True)

    scheduler = Scheduler(keep_jobs=False, log=False)
    trio.run(work)
    assert {*found} == {f"job {number}" for number in range(5)}


def test_a_job_that_leaves_as_another_thread_begins_to_count_was_not_counted() -> None:
    """The run drops a member first, and then its name: a thread that asks for the first path in between sees neither.

    That was a KeyError in the step of the run.
    """
    kept, dropped = Job(nap, label="a"), Job(nap, label="a")
    names = _labels.MemberNames()
    names.add([kept])
    names.remove(dropped)
    assert names.name_of(kept) == "a"
    assert names.name_of(dropped) == "a#2"
