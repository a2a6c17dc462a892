"""Code that users would write by hand on trio."""

from __future__ import annotations

from collections.abc import Callable
from graphlib import TopologicalSorter
from typing import Any

import trio

from ..bodies import Body
from ..graphs import Graph
from . import rival


def limited(body: Body, window: int | None) -> Body:
    """Let no more than `window` bodies run at once."""
    if window is None:
        return body
    limiter = trio.CapacityLimiter(window)

    async def within_window(number: int) -> None:
        async with limiter:
            await body(number)

    return within_window


@rival("nursery alone", "trio", only_shapes=("wide",))
def nursery_alone(graph: Graph, body: Body, window: int | None) -> Callable[[], Any]:
    body = limited(body, window)

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(graph.size):
                nursery.start_soon(body, number)

    return run


@rival("counters on a nursery", "trio")
def counters(graph: Graph, body: Body, window: int | None) -> Callable[[], Any]:
    body = limited(body, window)
    waiting_for = [len(required) for required in graph.requirements]
    successors = graph.successors()
    entries = graph.entries
    nursery: trio.Nursery

    async def job(number: int) -> None:
        await body(number)
        for successor in successors[number]:
            waiting_for[successor] -= 1
            if not waiting_for[successor]:
                nursery.start_soon(job, successor)

    async def run() -> None:
        nonlocal nursery
        async with trio.open_nursery() as nursery:
            for entry in entries:
                nursery.start_soon(job, entry)

    return run


@rival("an Event a job", "trio")
def events(graph: Graph, body: Body, window: int | None) -> Callable[[], Any]:
    body = limited(body, window)
    done = [trio.Event() for _ in graph.requirements]

    async def job(number: int) -> None:
        for requirement in graph.requirements[number]:
            await done[requirement].wait()
        await body(number)
        done[number].set()

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(graph.size):
                nursery.start_soon(job, number)

    return run


@rival("graphlib + nursery", "trio", slow=True)
def graphlib_sorter(graph: Graph, body: Body, window: int | None) -> Callable[[], Any]:
    body = limited(body, window)
    sorter = TopologicalSorter(dict(enumerate(graph.requirements)))
    sorter.prepare()
    nursery: trio.Nursery

    async def job(number: int) -> None:
        await body(number)
        sorter.done(number)
        start_ready()

    def start_ready() -> None:
        for number in sorter.get_ready():
            nursery.start_soon(job, number)

    async def run() -> None:
        nonlocal nursery
        async with trio.open_nursery() as nursery:
            start_ready()

    return run


@rival("counters, going on in the same task", "trio", takes_window=False, counts=False)
def going_on(graph: Graph, body: Body, window: int | None) -> Callable[[], Any]:
    """Work like trioflow without its guarantees: the difference is their cost."""
    waiting_for = [len(required) for required in graph.requirements]
    successors = graph.successors()
    entries = graph.entries
    nursery: trio.Nursery

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
                        nursery.start_soon(jobs, successor)
            number = following

    async def run() -> None:
        nonlocal nursery
        async with trio.open_nursery() as nursery:
            for entry in entries:
                nursery.start_soon(jobs, entry)

    return run
