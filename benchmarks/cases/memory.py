"""Memory: what a job takes while it waits for others, and at the peak.

`tracemalloc` counts every byte that Python asks for, tasks and coroutines included, and nothing else. The resident size
of the process would also count what the allocator keeps in reserve, and it depends on what ran before; it is almost
useless for the few hundred bytes in question. `tracemalloc` is slow, so nothing is timed here.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from functools import partial
from typing import Final

from .. import graphs, loops
from ..measuring import Contest, Contestant, Sample, Setting
from ..plans import FIGURE_SHAPES, Plan
from ..rivals import Rival
from ..verification import run_to_end, verify
from .running import entering

TURNS: Final = 20
"""Turns of the event loop after which all tasks that wait for others have begun to wait."""


def memory(plan: Plan) -> Iterator[Contest]:
    """Measure, for each shape, jobs that wait for one running job; then all jobs running together."""
    for backend in plan.loops:
        for shape in FIGURE_SHAPES:
            yield contest(
                plan,
                Setting(backend, shape, "behind one job", plan.memory_size),
                "waiting",
            )
        yield contest(
            plan, Setting(backend, "wide", "all at once", plan.memory_size), "running"
        )


def contest(plan: Plan, setting: Setting, metric: str) -> Contest:
    contestants = [
        Contestant(
            rival.name,
            setting,
            partial(weigh, rival, setting, metric),
            partial(verify, rival, setting.shape, None),
        )
        for rival in entering(plan, setting)
        if metric == "running" or not rival.only_shapes
    ]
    return Contest("memory", contestants, 1)


def weigh(rival: Rival, setting: Setting, metric: str) -> Sample:
    """Build and run once under `tracemalloc`."""
    graph = graphs.make(setting.shape, setting.size)
    if metric == "waiting":
        graph = behind_one_job(graph)
    scale = Scale(graph, setting.backend)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        run_to_end(setting.backend, rival.build(graph, scale.hold, None))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return {
        metric: (scale.weight - before) / graph.size,
        "peak": (peak - before) / graph.size,
    }


def behind_one_job(graph: graphs.Graph) -> graphs.Graph:
    """Return the same graph with a new job 0, which all entries require."""
    shifted = (
        tuple(requirement + 1 for requirement in required) or (0,)
        for required in graph.requirements
    )
    return graphs.Graph(graph.shape, [(), *shifted])


class Scale:
    """Holds the entry jobs until all of them run and all others wait, then weighs."""

    def __init__(self, graph: graphs.Graph, backend: str) -> None:
        self._backend = backend
        self._entries = frozenset(graph.entries)
        self._to_come = len(self._entries)
        self._go_on = loops.event(backend)
        self.weight = 0

    async def hold(self, number: int) -> None:
        """Serve as the body of all jobs."""
        if number not in self._entries:
            return
        self._to_come -= 1
        if self._to_come:
            await self._go_on.wait()
            return
        for _ in range(TURNS):
            await loops.checkpoint(self._backend)
        self.weight = tracemalloc.get_traced_memory()[0]
        self._go_on.set()
