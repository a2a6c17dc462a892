"""The cost of building and running a graph: by shape, body, size and window; sleepers; growth."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Final

from .. import graphs, loops
from ..bodies import BODIES
from ..measuring import Contest, Contestant, Sample, Setting, Stopwatch
from ..plans import Plan
from ..rivals import OURS, Build, Rival
from ..verification import verify

SLEEPERS: Final = ("nursery alone", "TaskGroup alone")


def running(plan: Plan) -> Iterator[Contest]:
    """Measure every combination that the plan's grids ask for."""
    for grid in plan.grids:
        backends = [backend for backend in grid.backends if backend in plan.backends]
        for backend, body, size, window, shape in itertools.product(
            backends, grid.bodies, grid.sizes, grid.windows, grid.shapes
        ):
            if body in BODIES[backend]:
                setting = Setting(backend, shape, body, size, window)
                rivals = entering(plan, setting, grid.rivals)
                yield Contest(
                    "running",
                    [contestant(rival, setting) for rival in rivals],
                    plan.rounds,
                )


def sleepers(plan: Plan) -> Iterator[Contest]:
    """Run many jobs that all sleep for a second at the same time."""
    for backend, conditions in itertools.product(plan.loops, plan.conditions):
        setting = Setting(
            backend, "wide", plan.sleep, plan.sleepers, conditions=conditions
        )
        rivals = [
            rival
            for rival in entering(plan, setting)
            if rival.name in (OURS, *SLEEPERS)
        ]
        yield Contest(
            "sleepers",
            [contestant(rival, setting) for rival in rivals],
            plan.few_rounds,
        )


def growth(plan: Plan) -> Iterator[Contest]:
    """Measure how the cost of a job grows with the number of jobs, up to a million."""
    for backend, shape in itertools.product(plan.loops, plan.growth_shapes):
        settings = [
            Setting(backend, shape, "no-op", size) for size in plan.growth_sizes
        ]
        contestants = [
            contestant(rival, setting, repeat=max(1, plan.growth_batch // setting.size))
            for setting in settings
            for rival in entering(plan, setting)
            if rival.name == OURS or plan.growth_rivals
        ]
        yield Contest("growth", contestants, plan.growth_rounds)


# ---- what a contestant does


def entering(plan: Plan, setting: Setting, chosen: tuple[str, ...] = ()) -> list[Rival]:
    """Return the rivals that can take part under these conditions."""
    contenders = plan.contenders(setting.backend, chosen)
    return [
        rival
        for rival in contenders
        if rival.enters(setting.shape, setting.size, setting.window)
    ]


def contestant(rival: Rival, setting: Setting, repeat: int = 1) -> Contestant:
    """Have a rival run such a graph, `repeat` times in each attempt."""

    def attempt() -> Sample:
        samples = [timed(rival.build, setting) for _ in range(repeat)]
        return {
            metric: sum(sample[metric] for sample in samples) / repeat
            for metric in samples[0]
        }

    return Contestant(
        rival.name,
        setting,
        attempt,
        partial(verify, rival, setting.shape, setting.window),
    )


def timed(build: Build, setting: Setting) -> Sample:
    """Build once and run once, inside a loop that is already running."""
    graph = graphs.make(setting.shape, setting.size)
    body = BODIES[setting.backend][setting.body]
    with Stopwatch() as building:
        runner = build(graph, body, setting.window)
    with Stopwatch() as running:
        if setting.backend == "threads":
            runner()
    if setting.backend != "threads":

        async def main() -> None:
            with running:
                await runner()

        loops.run(setting.backend, main)
    in_µs_per_job = 1e6 / graph.size
    return {
        "build": building.cpu * in_µs_per_job,
        "build wall": building.wall * in_µs_per_job,
        "run": running.cpu * in_µs_per_job,
        "run wall": running.wall * in_µs_per_job,
        "together": (building.cpu + running.cpu) * in_µs_per_job,
    }
