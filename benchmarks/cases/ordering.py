"""What it costs to choose who runs next: the order of a policy, and a whole run on a virtual clock."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Final

from trioflow import Scheduler, simulate

from .. import graphs
from ..bodies import BODIES, Body
from ..measuring import Contest, Contestant, Sample, Setting, Stopwatch
from ..plans import FIGURE_SHAPES, Plan
from ..rivals import OURS, Build, find, ours
from .running import contestant

RANKED: Final = {policy: f"{OURS}, {policy}" for policy in ("critical-path", "depth-first")}
WINDOW: Final = 16


def with_durations(graph: graphs.Graph, body: Body, window: int | None, **options: Any) -> Scheduler:
    """Build the graph; the jobs are expected to take from 1 to 7 seconds."""
    scheduler = ours.scheduler(graph, body, window, **options)
    for job, seconds in zip(scheduler, itertools.cycle(range(1, 8)), strict=False):
        job.expected_duration = seconds
    return scheduler


def order(plan: Plan) -> Iterator[Contest]:
    """Measure what a ranked queue adds to the first-in-first-out one, in whole runs."""

    def build(policy: str) -> Build:
        def prepared(graph: graphs.Graph, body: Body, window: int | None) -> Callable[[], Any]:
            return partial(with_durations(graph, body, window, policy=policy).co_run, check=True)

        return prepared

    for backend, shape in itertools.product(plan.loops, FIGURE_SHAPES):
        setting = Setting(backend, shape, "no-op", plan.ordered, WINDOW)
        plain = replace(find(OURS, backend), build=build("fifo"))
        ranked = [replace(plain, name=name, build=build(policy)) for policy, name in RANKED.items()]
        yield Contest("order", [contestant(rival, setting) for rival in (plain, *ranked)], plan.rounds)


def simulating(plan: Plan) -> Iterator[Contest]:
    """Simulate a run."""
    for shape in FIGURE_SHAPES:
        setting = Setting("", shape, "simulate", plan.ordered, WINDOW)
        yield Contest("simulate", [Contestant(OURS, setting, partial(simulated, setting))], plan.few_rounds)


def simulated(setting: Setting) -> Sample:
    """Build a scenario, and simulate it."""
    graph = graphs.make(setting.shape, setting.size)
    scheduler = with_durations(graph, BODIES["asyncio"]["no-op"], setting.window)
    with Stopwatch() as watch:
        simulate(scheduler, policy="critical-path")
    return {"simulate": watch.cpu}
