"""Workflows that were measured: their makespans, next to those of list scheduling, and of real runs.

A workflow is a file of JSON: `{"tasks": [{"name", "runtime_s", "needs": [index, ...]}, ...]}`. The published figures
are those of forty workflows of WfCommons' WfInstances, by a simulation of list scheduling without overheads. They are
compared with the lower bound: max(critical path, work / window).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio

from trioflow import Job, Scheduler, simulate

from .cases import Case, Set, geometric_mean

WINDOWS = (4, 16, 64)
PUBLISHED = {
    4: {"fifo": (1.069, 1.458), "critical-path": (1.029, 1.427)},
    16: {"fifo": (1.132, 1.527), "critical-path": (1.045, 1.233)},
    64: {"fifo": (1.131, 1.646), "critical-path": (1.065, 1.434)},
}


def sets(folder: Path) -> Iterator[Set]:
    """Yield the workflows in a folder, at any depth, once for each window."""
    graphs = [scenario(tasks) for _, tasks in found(folder)]
    for window in WINDOWS if graphs else ():
        published = PUBLISHED[window] if len(graphs) == 40 else {}
        yield Set(f"workflows, window {window}", [Case(one, window, None) for one in graphs], published)


def found(folder: Path) -> Iterator[tuple[str, list[Any]]]:
    """Yield the names and the tasks of the workflows in a folder, at any depth."""
    for path in sorted(folder.rglob("*.json")):
        try:
            content = json.loads(path.read_text())
        except ValueError as error:
            raise ValueError(f"{path} is not JSON: {error}") from None
        if isinstance(content, dict) and "tasks" in content:
            yield path.stem, content["tasks"]


def scenario(tasks: list[Any], scale: float = 1.0) -> Scheduler:
    """Return a workflow as a scheduler; if its jobs run, they sleep for their time, multiplied by `scale`."""
    times = [task["runtime_s"] * scale for task in tasks]
    jobs = [
        Job(anyio.sleep, seconds, label=task["name"], expected_duration=seconds)
        for task, seconds in zip(tasks, times, strict=True)
    ]
    for job, task in zip(jobs, tasks, strict=True):
        job.requires([jobs[index] for index in task["needs"]])
    return Scheduler(*jobs)


async def run_for_real(folder: Path, seconds: float, window: int, policy: str) -> None:
    """Run all workflows of a folder at once, each scaled to take so many seconds, and print real / simulated time.

    They share one event loop. What they cost each other counts, so one run alone is closer to its simulation.
    """
    expected: dict[str, float] = {}
    real: dict[str, float] = {}

    async def run(name: str, scheduler: Scheduler) -> None:
        start = anyio.current_time()
        assert await scheduler.co_run(jobs_window=window)
        real[name] = anyio.current_time() - start

    async with anyio.create_task_group() as group:
        for name, tasks in found(folder):
            whole = simulate(scenario(tasks), jobs_window=window, policy=policy).makespan
            scheduler = scenario(tasks, seconds / whole)
            scheduler.policy = policy
            expected[name] = simulate(scheduler, jobs_window=window).makespan
            group.start_soon(run, name, scheduler)
    ratios = {name: real[name] / expected[name] for name in expected}
    for name, ratio in sorted(ratios.items(), key=lambda one: one[1]):
        print(f"{ratio:.4f}  {name}")
    print(
        f"{len(ratios)} workflows of {seconds:g} s at once, {policy}, window {window}: real / simulated "
        f"{geometric_mean([*ratios.values()]):.4f} (geometric mean), {max(ratios.values()):.4f} (worst)"
    )
