"""trioflow, on each backend."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from trioflow import AbstractJob, Job, Scheduler, ThreadJob

from ..bodies import Body
from ..graphs import Graph
from . import OURS, rival


def scheduler(
    graph: Graph, body: Body, window: int | None = None, **options: Any
) -> Scheduler:
    """Build the graph as users do: each job after those that it requires."""
    jobs: list[AbstractJob[Any]] = []
    for number, required in enumerate(graph.requirements):
        jobs.append(
            Job(body, number, required=[jobs[requirement] for requirement in required])
        )
    return Scheduler(*jobs, jobs_window=window, **options)


@rival(OURS, "trio")
@rival(OURS, "asyncio")
def jobs(graph: Graph, body: Body, window: int | None) -> Callable[[], Any]:
    return partial(scheduler(graph, body, window).co_run, check=True)


@rival(OURS, "threads")
def thread_jobs(graph: Graph, body: Body, window: int | None) -> Callable[[], Any]:
    jobs: list[AbstractJob[Any]] = []
    for number, required in enumerate(graph.requirements):
        jobs.append(
            ThreadJob(
                body, number, required=[jobs[requirement] for requirement in required]
            )
        )
    return partial(Scheduler(*jobs, jobs_window=window).run, check=True)
