"""Simulate forty real workflows under each policy, and compare with the published ratios to the lower bound.

    python -m benchmarks.forty_workflows DIRECTORY

The directory has one JSON file for each workflow: `{"tasks": [{"name", "runtime_s", "needs": [index, ...]}, ...]}`, as
converted from WfCommons' WfInstances. Each line shows makespan / max(critical path, work / window): the geometric mean
and the worst over all workflows, next to what simulations without overheads of list scheduling give for them.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import anyio

from trioflow import Job, Scheduler, simulate

WINDOWS = (4, 16, 64)
PUBLISHED = {
    ("fifo", 4): (1.069, 1.458),
    ("fifo", 16): (1.132, 1.527),
    ("fifo", 64): (1.131, 1.646),
    ("critical-path", 4): (1.029, 1.427),
    ("critical-path", 16): (1.045, 1.233),
    ("critical-path", 64): (1.065, 1.434),
}


def scenario(path: Path) -> Scheduler:
    """Return a workflow as a scheduler; its jobs are never run."""
    tasks = json.loads(path.read_text())["tasks"]
    jobs = [Job(anyio.sleep, 0, label=task["name"], expected_duration=task["runtime_s"]) for task in tasks]
    for job, task in zip(jobs, tasks, strict=True):
        job.requires([jobs[index] for index in task["needs"]])
    return Scheduler(*jobs)


def main(directory: Path) -> None:
    scenarios = [scenario(path) for path in sorted(directory.glob("*.json"))]
    print(f"{len(scenarios)} workflows, {sum(map(len, scenarios))} jobs; geometric mean / worst, (published)")
    for (policy, window), (mean, worst) in PUBLISHED.items():
        found = [simulate(one, jobs_window=window, policy=policy) for one in scenarios]
        ratios = [one.makespan / one.lower_bound for one in found]
        ours = math.exp(sum(map(math.log, ratios)) / len(ratios))
        off = 100 * (ours / mean - 1)
        print(f"{policy:>13} W={window:<3} {ours:.3f} / {max(ratios):.3f}  ({mean:.3f} / {worst:.3f})  {off:+.1f} %")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
