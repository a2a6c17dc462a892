"""Run a real workflow as WfCommons recorded it: each task sleeps for as long as it took then, scaled down.

    trioflow run examples/wfcommons.py
    trioflow graph examples/wfcommons.py --set path=sarek.json -o sarek.svg
    python examples/wfcommons.py examples/data/mosaic.json
    python examples/wfcommons.py examples/data/mosaic.json --speed 1000 --window 4 --graph mosaic.svg

WfCommons publishes the task graphs of scientific workflows with measured run times (https://wfcommons.org, instances at
https://github.com/wfcommons/WfInstances). A file is in its WfFormat, of any version, or in a shorter form that keeps
run times and dependencies only: `{"name": ..., "tasks": [{"name": ..., "runtime_s": ..., "needs": [index, ...]}]}`.
The file `examples/data/mosaic.json` is a small one in WfFormat 1.5, made up for this example.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import anyio

from trioflow import Job, Scheduler
from trioflow.view import save

MOSAIC = Path(__file__).parent / "data" / "mosaic.json"

Found = dict[
    str, tuple[str, float, list[str]]
]  # for each task, by its key: name, run time in seconds, what it needs


class Task(Job[None]):
    """A task of a workflow: it sleeps for `expected_duration` seconds."""

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(anyio.sleep, seconds, label=name)
        self.expected_duration = seconds


def scenario(path: str = str(MOSAIC), speed: float = 100.0) -> Scheduler:
    """Return the workflow in a file as a Scheduler; `speed` is how many recorded seconds pass in one second."""
    if not speed > 0:
        raise ValueError(
            f"speed={speed!r}: give the number of recorded seconds that pass in one second, more than 0"
        )
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        name, found = str(content.get("name", Path(path).stem)), read_tasks(content)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is not a workflow of WfCommons: {type(error).__name__}: {error}"
        ) from error
    jobs = {
        key: Task(label, seconds / speed) for key, (label, seconds, _) in found.items()
    }
    for key, (label, _, needs) in found.items():
        for need in needs:
            if need not in jobs:
                raise ValueError(
                    f"{path}: the task {label!r} needs {need!r}, which is not there"
                )
            jobs[key].requires(jobs[need])
    return Scheduler(jobs.values(), label=name)


# ---------------------------------------------------------------- the formats


def read_tasks(content: Any) -> Found:
    """Return the tasks of a file in any of the formats."""
    if "workflow" not in content:
        return shortened(content["tasks"])
    workflow = content["workflow"]
    if "specification" in workflow:
        return since_1_5(
            workflow["specification"]["tasks"],
            workflow.get("execution", {}).get("tasks", []),
        )
    return until_1_4(workflow.get("tasks") or workflow["jobs"])


def shortened(tasks: list[Any]) -> Found:
    """Read the short form, where a task is named by its index."""
    return {
        str(number): (
            task["name"],
            float(task["runtime_s"]),
            [str(need) for need in task["needs"]],
        )
        for number, task in enumerate(tasks)
    }


def since_1_5(tasks: list[Any], done: list[Any]) -> Found:
    """Read version 1.5 and later, where a task is named by its id, and its run time, if it was run, is kept apart."""
    seconds = {task["id"]: float(task["runtimeInSeconds"]) for task in done}
    return {
        task["id"]: (task["id"], seconds.get(task["id"], 0.0), task["parents"])
        for task in tasks
    }


def until_1_4(tasks: list[Any]) -> Found:
    """Read versions up to 1.4, where a task is named by its name; the run time has had two names."""
    return {
        task["name"]: (
            task["name"],
            float(task.get("runtimeInSeconds", task.get("runtime", 0))),
            task["parents"],
        )
        for task in tasks
    }


# ---------------------------------------------------------------- the command


def main() -> int:
    options = parse_arguments()
    try:
        scheduler = scenario(options.workflow, options.speed)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    completed = scheduler.run(backend=options.backend, jobs_window=options.window)
    work = sum(job.elapsed or 0 for job in scheduler)
    starts = [
        job.started_at for job in scheduler if job.started_at is not None
    ]  # of tasks that were not BLOCKED
    took = max(job.finished_at or 0 for job in scheduler) - min(starts) if starts else 0
    done = "" if completed else f"{len(scheduler.results())} of "
    print(
        f"{scheduler.label}: {done}{len(scheduler)} tasks, {work:.3f} s of work in {took:.3f} s"
    )
    if options.graph is not None:
        save(scheduler, options.graph)
    return 0 if completed else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Run a workflow of WfCommons, its tasks replaced by sleeps."
    )
    parser.add_argument(
        "workflow", type=Path, help="a JSON file of github.com/wfcommons/WfInstances"
    )
    parser.add_argument(
        "--speed",
        type=float,
        default=100.0,
        help="recorded seconds in one second (100)",
    )
    parser.add_argument("--window", type=int, help="tasks at once (no limit)")
    parser.add_argument("--backend", choices=["trio", "asyncio"], default="trio")
    parser.add_argument(
        "--graph", type=Path, metavar="FILE", help="draw the graph into this SVG file"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
