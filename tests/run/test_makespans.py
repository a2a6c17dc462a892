"""Runs are list schedules: when which job starts, and between which bounds all is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioflow import Job, Pool, Scheduler
from trioflow.abc import PolicyName
from trioflow.testing import run_virtual

TOTAL = 4
"""How much there is of the one resource."""
LONGEST_FIRST = {"auto": True, "fifo": False, "critical-path": True}
"""Whether a policy goes by the longest path, in projects whose durations are known."""
ROUNDING = 1e-9


@dataclass(frozen=True)
class Task:
    """A job of a random project; no two ends are at the same time."""

    number: int
    seconds: float
    required: tuple[int, ...]
    amount: int

    @property
    def needs(self) -> dict[str, int]:
        return {"cpu": self.amount} if self.amount else {}


@st.composite
def projects(draw: st.DrawFn, most_needed: int = TOTAL) -> list[Task]:
    """Draw up to 14 jobs, each of which requires some of the earlier ones."""
    return [
        Task(
            number,
            draw(st.integers(1, 9)) + 2.0 ** -(number + 4),
            tuple(draw(st.lists(st.integers(0, number - 1), max_size=3, unique=True)) if number else []),
            draw(st.integers(0, most_needed)),
        )
        for number in range(draw(st.integers(1, 14)))
    ]


def ranks(project: list[Task]) -> list[float]:
    """Return the length of the longest path from the start of each job, by definition."""
    found = [0.0] * len(project)
    for task in reversed(project):
        after = [found[other.number] for other in project if task.number in other.required]
        found[task.number] = task.seconds + max(after, default=0.0)
    return found


def list_schedule(project: list[Task], policy: str, window: int) -> list[float]:
    """Return when each job starts: at each end, go through the ready jobs in order, and start those that fit."""
    rank, starts, ends = ranks(project), dict[int, float](), dict[int, float]()
    ready_since = {task.number: 0.0 for task in project if not task.required}
    now = 0.0
    while len(starts) < len(project):
        waiting = [task for task in project if task.number in ready_since and task.number not in starts]
        waiting.sort(key=lambda task: -rank[task.number] if LONGEST_FIRST[policy] else ready_since[task.number])
        for task in waiting:
            running = [project[number] for number, end in ends.items() if end > now]
            if len(running) < window and sum(one.amount for one in running) + task.amount <= TOTAL:
                starts[task.number], ends[task.number] = now, now + task.seconds
        now = min(end for end in ends.values() if end > now)
        for task in project:
            if all(number in ends and ends[number] <= now for number in task.required):
                ready_since.setdefault(task.number, now)
    return [starts[task.number] for task in project]


def scheduler_of(project: list[Task], **options: Any) -> Scheduler:
    jobs: list[Job[None]] = []
    for task in project:
        required = [jobs[number] for number in task.required]
        jobs.append(Job(anyio.sleep, task.seconds, expected_duration=task.seconds, required=required, needs=task.needs))
    return Scheduler(*jobs, pool=Pool(cpu=TOTAL), backfill=1000, **options)


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@given(project=projects(), policy=st.sampled_from(get_args(PolicyName)), window=st.integers(1, 4) | st.just(99))
def test_jobs_start_as_list_scheduling_predicts(backend: str, project: list[Task], policy: Any, window: int) -> None:
    """Jobs start in the order of the policy, as soon as a slot and their needs are free, with backfill."""
    scheduler = scheduler_of(project, policy=policy, jobs_window=window)
    assert run_virtual(scheduler.co_run, backend=backend)
    assert [job.started_at for job in scheduler] == list_schedule(project, policy, window)


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@given(project=projects() | projects(0), policy=st.sampled_from(get_args(PolicyName)), window=st.integers(1, 5))
def test_the_makespan_is_within_the_bounds_of_list_scheduling(
    backend: str, project: list[Task], policy: Any, window: int
) -> None:
    """No makespan beats the longest path, the work per slot, or the amounts needed divided by those in the pool.

    If nothing is needed, no slot is left empty while a job is ready. So the makespan is at most
    work / window + (1 - 1 / window) * longest path, and that is at most 2 - 1 / window times the best possible one
    (Graham 1969, "Bounds on Multiprocessing Timing Anomalies").
    """
    scheduler = scheduler_of(project, policy=policy, jobs_window=window)
    assert run_virtual(scheduler.co_run, backend=backend)
    makespan = max(job.finished_at or 0.0 for job in scheduler)
    path, work = max(ranks(project)), sum(task.seconds for task in project)
    needed = sum(task.seconds * task.amount for task in project)
    assert max(path, work / window, needed / TOTAL) <= makespan + ROUNDING
    if not needed:
        assert makespan <= work / window + (1 - 1 / window) * path + ROUNDING
