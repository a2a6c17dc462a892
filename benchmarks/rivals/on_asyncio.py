"""Code that users would write by hand on asyncio, or find in a library."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import anyio
from anyio.abc import TaskGroup

from ..bodies import Body
from ..graphs import Graph
from . import rival


def limited(body: Body, window: int | None) -> Body:
    """Let no more than `window` bodies run at once."""
    if window is None:
        return body
    semaphore = asyncio.Semaphore(window)

    async def within_window(number: int) -> None:
        async with semaphore:
            await body(number)

    return within_window


@rival("TaskGroup alone", "asyncio", only_shapes=("wide",))
def task_group_alone(graph: Graph, body: Body, window: int | None) -> Callable[[], Any]:
    body = limited(body, window)

    async def run() -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(graph.size):
                tasks.create_task(body(number))

    return run


@rival("counters on a TaskGroup", "asyncio")
def counters(graph: Graph, body: Body, window: int | None) -> Callable[[], Any]:
    body = limited(body, window)
    waiting_for = [len(required) for required in graph.requirements]
    successors = graph.successors()
    entries = graph.entries
    tasks: asyncio.TaskGroup

    async def job(number: int) -> None:
        await body(number)
        for successor in successors[number]:
            waiting_for[successor] -= 1
            if not waiting_for[successor]:
                tasks.create_task(job(successor))

    async def run() -> None:
        nonlocal tasks
        async with asyncio.TaskGroup() as tasks:
            for entry in entries:
                tasks.create_task(job(entry))

    return run


@rival("gather level by level", "asyncio")
def gather_levels(graph: Graph, body: Body, window: int | None) -> Callable[[], Any]:
    body = limited(body, window)
    levels = graph.levels()

    async def run() -> None:
        for level in levels:
            await asyncio.gather(*[body(number) for number in level])

    return run


@rival("gather of tasks", "asyncio")
def gather_tasks(graph: Graph, body: Body, window: int | None) -> Callable[[], Any]:
    body = limited(body, window)
    tasks: list[asyncio.Task[None]] = []

    async def job(number: int) -> None:
        for requirement in graph.requirements[number]:
            await tasks[requirement]
        await body(number)

    async def run() -> None:
        for number in range(graph.size):
            tasks.append(asyncio.create_task(job(number)))
        await asyncio.gather(*tasks)

    return run


@rival("anyio task group", "asyncio", slow=True)
def anyio_task_group(graph: Graph, body: Body, window: int | None) -> Callable[[], Any]:
    body = limited(body, window)
    waiting_for = [len(required) for required in graph.requirements]
    successors = graph.successors()
    entries = graph.entries
    tasks: TaskGroup

    async def job(number: int) -> None:
        await body(number)
        for successor in successors[number]:
            waiting_for[successor] -= 1
            if not waiting_for[successor]:
                tasks.start_soon(job, successor)

    async def run() -> None:
        nonlocal tasks
        async with anyio.create_task_group() as tasks:
            for entry in entries:
                tasks.start_soon(job, entry)

    return run


@rival("asynciojobs", "asyncio", needs="asynciojobs", max_size=20_000, slow=True)
def asynciojobs(graph: Graph, body: Body, window: int | None) -> Callable[[], Any]:
    from asynciojobs import Job, Scheduler

    jobs: list[Job] = []
    for number, required in enumerate(graph.requirements):
        jobs.append(
            Job(body(number), required=[jobs[requirement] for requirement in required])
        )
    run: Callable[[], Any] = Scheduler(*jobs, jobs_window=window).co_run
    return run


@rival("asynciojobs' names", "asyncio", max_size=20_000, slow=True, counts=False)
def asynciojobs_names(
    graph: Graph, body: Body, window: int | None
) -> Callable[[], Any]:
    """Run on the stand-in for asynciojobs: what its users gain by changing an import."""
    from trioflow.compat.asynciojobs import Job, Scheduler

    jobs: list[Job] = []
    for number, required in enumerate(graph.requirements):
        jobs.append(
            Job(body(number), required=[jobs[requirement] for requirement in required])
        )
    run: Callable[[], Any] = Scheduler(*jobs, jobs_window=window).co_run
    return run


@rival(
    "aiodag", "asyncio", needs="aiodag", takes_window=False, max_size=20_000, slow=True
)
def aiodag(graph: Graph, body: Body, window: int | None) -> Callable[[], Any]:
    """Run on aiodag, which creates a task for each job in the running loop: nothing can be built in advance."""
    from aiodag import task

    async def run() -> None:
        tasks: list[asyncio.Task[None]] = []
        for number, required in enumerate(graph.requirements):
            tasks.append(
                task(body, *[tasks[requirement] for requirement in required])(number)
            )
        await asyncio.gather(*tasks)

    return run


@rival(
    "counters, going on in the same task", "asyncio", takes_window=False, counts=False
)
def going_on(graph: Graph, body: Body, window: int | None) -> Callable[[], Any]:
    """Work like trioflow without its guarantees: the difference is their cost."""
    waiting_for = [len(required) for required in graph.requirements]
    successors = graph.successors()
    entries = graph.entries
    tasks: asyncio.TaskGroup

    async def jobs(number: int | None) -> None:
        while number is not None:
            await body(number)
            following = None
            for successor in successors[number]:
                waiting_for[successor] -= 1
                if not waiting_for[successor]:
                    if following is None:
                        following = successor
                    else:
                        tasks.create_task(jobs(successor))
            number = following

    async def run() -> None:
        nonlocal tasks
        async with asyncio.TaskGroup() as tasks:
            for entry in entries:
                tasks.create_task(jobs(entry))

    return run
