"""Who gets a resource does not depend on how many jobs are ready that need none."""

from __future__ import annotations

import random
from typing import Any

import pytest
from trioflow import AbstractJob, Job, JobState, Pool, Scheduler
from trioflow.testing import run_virtual
from ..bodies import at_once, nap


def random_nest(seed: int, has_crowds: bool) -> tuple[Scheduler, list[Job[Any]]]:
    """Return a nest of jobs that share a pool, and these jobs. In crowds, each scheduler has jobs without needs, too.

    Nested schedulers come first: a crowd before them would delay when their jobs become ready.
    """
    dice, asked = random.Random(seed), list[Job[Any]]()

    def fill(depth: int, prefix: str) -> list[AbstractJob[Any]]:
        jobs = list[AbstractJob[Any]]()
        for number in range(dice.randrange(1, 5)):
            label, priority = f"{prefix}{number}", dice.choice([0, 0, 1, 5])
            if depth < 3 and dice.random() < 0.3:
                jobs.append(Scheduler(*fill(depth + 1, f"{label}."), label=label, priority=99))
                continue
            needs = {name: dice.randrange(1, 3) for name in "cd" if dice.random() < 0.5} or {"c": 1}
            required = [job for job in jobs if job in asked and dice.random() < 0.25]
            job = Job(nap, dice.randrange(1, 4), label=label, needs=needs, priority=priority, required=required)
            asked.append(job)
            jobs.append(job)
        place, size, priority = dice.randrange(len(jobs) + 1), dice.choice([5, 11, 13, 30]), dice.choice([0, 1, 5, 9])
        if has_crowds:
            jobs[place:place] = [Job(nap, 0, priority=priority) for _ in range(size)]
        return jobs

    return Scheduler(*fill(0, ""), pool=Pool(c=2, d=3)), asked


@pytest.mark.both_backends
def test_a_crowd_without_needs_changes_no_start_of_the_jobs_that_have_needs(backend: Any) -> None:
    """From eleven other jobs on, a job in a nested scheduler had overtaken one of a higher priority."""
    for seed in range(40):
        starts: list[list[float | None]] = []
        for has_crowds in (False, True):
            scheduler, asked = random_nest(seed, has_crowds)
            assert run_virtual(scheduler.co_run, backend=backend)
            starts.append([job.started_at for job in asked])
        assert starts[0] == starts[1], seed


@pytest.mark.both_backends
@pytest.mark.parametrize("word", ["pause", "cancel"])
def test_what_a_crowded_run_has_granted_comes_back(backend: Any, word: str) -> None:
    """A job that has its needs, and waits for its turn behind a crowd, is cancelled, or its run is paused."""

    def act() -> None:
        assert waits.state is JobState.SCHEDULED
        assert pool.free["c"] == 0
        (crowded.pause if word == "pause" else waits.cancel)()

    crowd = [Job(at_once, act), *(Job(nap, 1) for _ in range(20))]
    waits, other = Job(nap, 1, needs={"c": 1}), Job(nap, 1, needs={"c": 1})
    pool = Pool(c=1)
    crowded = Scheduler(*crowd, waits)
    group = Scheduler(other, label="other")
    resumes = Job(at_once, crowded.resume, required=group)
    assert run_virtual(Scheduler(crowded, group, resumes, pool=pool).co_run, backend=backend)
    assert other.started_at == 0
    assert waits.started_at == {"pause": 1, "cancel": None}[word]
    assert pool.free["c"] == 1


@pytest.mark.both_backends
@pytest.mark.parametrize("window", [None, 16])
def test_a_crowd_and_the_jobs_with_needs_in_it_start_in_order(backend: Any, window: int | None) -> None:
    order: list[int] = []
    jobs = [Job(at_once, lambda n=n: order.append(n), needs={"c": 1} if n % 9 == 8 else {}) for n in range(60)]
    assert run_virtual(Scheduler(*jobs, pool=Pool(c=9), jobs_window=window).co_run, backend=backend)
    assert order == [*range(60)]
