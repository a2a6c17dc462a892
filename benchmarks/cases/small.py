"""Small graphs, run again and again in a loop that goes on, as in a program that answers requests.

By hand there is a task for each job, which waits for those that it requires, or is started by the last one of them.
Everything here can run any number of times. "again" runs what was built before, "built" builds it for each run.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, Final

import anyio
import trio

from trioflow import Job

from .. import loops
from ..bodies import BODIES, Body
from ..graphs import Graph
from ..measuring import Contest, Contestant, Sample, Setting, Stopwatch
from ..plans import Plan
from ..rivals import OURS
from ..rivals.ours import scheduler
from ..verification import Witness

GRAPHS: Final = {
    graph.shape: graph
    for graph in (
        Graph("diamond of 5", [(), (0,), (0,), (1, 2), (3,)]),
        Graph(
            "4 layers of 5",
            [
                tuple(range(job // 5 * 5 - 5, job // 5 * 5)) if job >= 5 else ()
                for job in range(20)
            ],
        ),
        Graph("20 wide", [()] * 20),
        Graph("page of 6, watched", [(), (), (0,), (0,), (2,), (2,)]),
    )
}
WATCHED: Final = "page of 6, watched"
"""The graph beside which a job polls for ever, as one that watches a connection of a server."""
SMALL_BODIES: Final = ("no-op", "checkpoint", "nap of 2 ms")
COUNTED: Final = 10
"""In how many runs turns are counted: of one run alone, some belong to the one before."""
NAPS: Final = 10
"""How many times fewer runs there are if the jobs nap."""

Run = Callable[[], Awaitable[Any]]
Build = Callable[[Graph, Body], Run]


async def poll() -> None:
    while True:  # noqa: ASYNC110 - as watchers are written
        await anyio.sleep(0.5)


def ours(graph: Graph, body: Body) -> Run:
    jobs = scheduler(graph, body)
    if graph.shape == WATCHED:
        jobs.add(Job(poll, forever=True))
    return jobs.co_run


def watched(build: Build, backend: str) -> Build:
    """Add the poll to what is written by hand."""

    def build_both(graph: Graph, body: Body) -> Run:
        run = build(graph, body)

        async def on_asyncio() -> None:
            task = asyncio.create_task(poll())
            try:
                await run()
            finally:
                task.cancel()

        async def on_trio() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(poll)
                await run()
                nursery.cancel_scope.cancel()

        return {"asyncio": on_asyncio, "trio": on_trio}[backend]

    return build_both


def ways(setting: Setting) -> dict[str, Build]:
    """Return what runs the graph of a setting, by name."""
    found = WAYS[setting.backend]
    if setting.shape != WATCHED:
        return found
    return {
        name: build if name == OURS else watched(build, setting.backend)
        for name, build in found.items()
    }


def tasks_by_hand(graph: Graph, body: Body) -> Run:
    async def run() -> None:
        jobs: list[asyncio.Task[None]] = []

        async def job(number: int) -> None:
            for requirement in graph.requirements[number]:
                await jobs[requirement]
            await body(number)

        async with asyncio.TaskGroup() as tasks:
            for number in range(graph.size):
                jobs.append(tasks.create_task(job(number)))

    return run


def counters_on_asyncio(graph: Graph, body: Body) -> Run:
    successors = graph.successors()

    async def run() -> None:
        waiting_for = [len(required) for required in graph.requirements]

        async def job(number: int) -> None:
            await body(number)
            for successor in successors[number]:
                waiting_for[successor] -= 1
                if not waiting_for[successor]:
                    tasks.create_task(job(successor))

        async with asyncio.TaskGroup() as tasks:
            for entry in graph.entries:
                tasks.create_task(job(entry))

    return run


def sdax(graph: Graph, body: Body) -> Run:
    """Run on sdax, where only the first phase follows the graph."""
    from sdax import AsyncDagTaskProcessor, AsyncTask, task_func

    def calling(number: int) -> Any:
        return task_func(lambda _: body(number))

    builder: Any = AsyncDagTaskProcessor.builder()
    for number, required in enumerate(graph.requirements):
        job = AsyncTask(str(number), pre_execute=calling(number))
        builder = builder.add_task(job, depends_on=tuple(map(str, required)))
    run: Run = partial(builder.build().process_tasks, None)
    return run


def events_by_hand(graph: Graph, body: Body) -> Run:
    async def run() -> None:
        ended = [trio.Event() for _ in graph.requirements]

        async def job(number: int) -> None:
            for requirement in graph.requirements[number]:
                await ended[requirement].wait()
            await body(number)
            ended[number].set()

        async with trio.open_nursery() as nursery:
            for number in range(graph.size):
                nursery.start_soon(job, number)

    return run


def counters_on_trio(graph: Graph, body: Body) -> Run:
    successors = graph.successors()

    async def run() -> None:
        waiting_for = [len(required) for required in graph.requirements]

        async def job(number: int) -> None:
            await body(number)
            for successor in successors[number]:
                waiting_for[successor] -= 1
                if not waiting_for[successor]:
                    nursery.start_soon(job, successor)

        async with trio.open_nursery() as nursery:
            for entry in graph.entries:
                nursery.start_soon(job, entry)

    return run


# ---- all of them

WAYS: Final[dict[str, dict[str, Build]]] = {
    "trio": {
        OURS: ours,
        "an Event a job": events_by_hand,
        "counters on a nursery": counters_on_trio,
    },
    "asyncio": {
        OURS: ours,
        "a task a job": tasks_by_hand,
        "counters on a TaskGroup": counters_on_asyncio,
        **({"sdax": sdax} if importlib.util.find_spec("sdax") else {}),
    },
}


def small(plan: Plan) -> Iterator[Contest]:
    """Measure each graph with each body."""
    for backend in plan.loops:
        for shape, graph in GRAPHS.items():
            for body in SMALL_BODIES:
                setting = Setting(backend, shape, body, graph.size)
                runs = (
                    max(2, plan.small_runs // NAPS)
                    if "nap" in body
                    else plan.small_runs
                )
                contestants = [
                    Contestant(
                        name,
                        setting,
                        partial(attempt, build, setting, runs),
                        partial(verify, name, setting),
                    )
                    for name, build in ways(setting).items()
                ]
                yield Contest("small", contestants, plan.rounds)


def attempt(build: Build, setting: Setting, runs: int) -> Sample:
    """Run one graph `runs` times, and build and run as many, inside a loop that is already running."""
    graph, body = GRAPHS[setting.shape], BODIES[setting.backend][setting.body]
    again, built = Stopwatch(), Stopwatch()

    async def main() -> None:
        run = build(graph, body)
        await run()
        with again:
            for _ in range(runs):
                await run()
        with built:
            for _ in range(runs):
                await build(graph, body)()

    loops.run(setting.backend, main)
    sample = {"again": again.cpu * 1e6 / runs, "built": built.cpu * 1e6 / runs}
    return (
        sample | {"turns": turns(build(graph, body))}
        if setting.backend == "asyncio"
        else sample
    )


class CountingLoop(asyncio.SelectorEventLoop):
    """Counts its turns."""

    turns = 0

    def _run_once(self) -> None:
        self.turns += 1
        super()._run_once()  # type: ignore[misc]  # its own, and in no stub


def turns(run: Run) -> float:
    """Return how many turns of the loop a run takes, after a first one."""

    async def main() -> float:
        await run()
        before = loop.turns
        for _ in range(COUNTED):
            await run()
        return (loop.turns - before) / COUNTED

    loop = CountingLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main())


class WrongOrder(Exception):
    """A contestant does not run the graph."""


def verify(name: str, setting: Setting) -> None:
    """Run the graph once, and check it.

    Raises:
        WrongOrder: a job did not run, or ran twice, or too early.

    """
    graph = GRAPHS[setting.shape]
    witness = Witness(graph, None)
    loops.run(
        setting.backend, ways(setting)[name](graph, witness.body(setting.backend))
    )
    faults = witness.close()
    if faults:
        raise WrongOrder(
            f"{name} on {setting.backend}, {setting.shape}: " + "; ".join(faults)
        )
