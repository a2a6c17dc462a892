"""Run a real workflow as WfCommons has recorded it: each task sleeps for as long as it took, scaled down.

    python examples/wfcommons.py WORKFLOW.json
    python examples/wfcommons.py WORKFLOW.json --speed 1000 --window 16 --graph workflow.svg --bundle

WfCommons publishes the task graphs of scientific workflows with measured run times (https://wfcommons.org, instances at
https://github.com/wfcommons/WfInstances). A file is in its WfFormat, of any version, or in a shorter form that keeps
run times and dependencies only: `{"name": ..., "tasks": [{"name": ..., "runtime_s": ..., "needs": [index, ...]}]}`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import anyio

from trioflow import Job, Scheduler


class Task(Job[None]):
    """A task of a workflow: it sleeps, and `expected_duration` tells for how long, in seconds."""

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(anyio.sleep, seconds, label=name)
        self.expected_duration = seconds


def scenario(path: str | Path, speed: float = 100.0) -> Scheduler:
    """Return the workflow in a file as a Scheduler; `speed` is how many recorded seconds pass in one second."""
    if not speed > 0:
        raise ValueError(f"speed={speed!r}: give a number of recorded seconds in one second, more than 0")
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    try:
        tasks = read_tasks(content)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no workflow of WfCommons: {type(error).__name__}: {error}") from error
    jobs = {key: Task(name, seconds / speed) for key, name, seconds, _ in tasks}
    for key, _, _, needs in tasks:
        unknown = [need for need in needs if need not in jobs]
        if unknown:
            raise ValueError(f"{path}: task {key!r} needs {unknown[0]!r}, which is not among the tasks")
        jobs[key].requires(jobs[need] for need in needs)
    return Scheduler(jobs.values(), label=str(content.get("name", Path(path).stem)))


# ---------------------------------------------------------------- the formats


def read_tasks(content: dict[str, Any]) -> list[tuple[Any, str, float, list[Any]]]:
    """Return of each task its key, its name, its run time in seconds, and the keys of what it needs."""
    if "workflow" not in content:
        return [(n, task["name"], float(task["runtime_s"]), task["needs"]) for n, task in enumerate(content["tasks"])]
    workflow = content["workflow"]
    if "specification" in workflow:  # from version 1.5 on what is to be done and what was done are kept apart
        tasks = workflow["specification"]["tasks"]
        runtimes = {task["id"]: task["runtimeInSeconds"] for task in workflow["execution"]["tasks"]}
    else:
        tasks = workflow.get("tasks") or workflow["jobs"]
        runtimes = {key_of(task): task.get("runtimeInSeconds", task.get("runtime", 0)) for task in tasks}
    return [(key_of(task), task["name"], float(runtimes[key_of(task)]), task["parents"]) for task in tasks]


def key_of(task: dict[str, Any]) -> str:
    """Return what other tasks call it; before version 1.4 this was its name."""
    key: str = task.get("id", task["name"])
    return key


# ---------------------------------------------------------------- the command


def main() -> int:
    options = parse_arguments()
    try:
        scheduler = scenario(options.workflow, options.speed)
    except (OSError, ValueError) as error:
        print(f"{options.workflow}: {error}", file=sys.stderr)
        return 2
    completed = scheduler.run(backend=options.backend, jobs_window=options.window)
    work = sum(job.elapsed or 0 for job in scheduler)
    took = max(job.finished_at or 0 for job in scheduler) - min(job.started_at or 0 for job in scheduler)
    print(f"{scheduler.label}: {len(scheduler)} tasks, {work:.3f} s of work in {took:.3f} s")
    if options.graph is not None:
        scheduler.export_as_svgfile(options.graph, bundle=options.bundle, legend=True)
    return 0 if completed else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run a workflow of WfCommons, its tasks replaced by sleeps.")
    parser.add_argument("workflow", type=Path, help="a JSON file of github.com/wfcommons/WfInstances")
    parser.add_argument("--speed", type=float, default=100.0, help="recorded seconds in one second (100)")
    parser.add_argument("--window", type=int, help="tasks at once (no limit)")
    parser.add_argument("--backend", choices=["trio", "asyncio"], default="trio")
    parser.add_argument("--graph", type=Path, metavar="FILE", help="draw the graph into this SVG file")
    parser.add_argument("--bundle", action="store_true", help="draw tasks that are alike as one")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
