"""How late things happen: a ticker beside a storm of jobs, and a job after its last requirement."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator
from functools import partial
from typing import Final

from .. import graphs, loops
from ..bodies import BODIES
from ..measuring import Contest, Contestant, Sample, Setting
from ..plans import Plan
from ..rivals import OURS, Rival
from ..verification import run_to_end, verify
from .running import entering

TICK: Final = 0.001  # seconds
BY_HAND: Final = ("counters on a nursery", "counters on a TaskGroup")
"""These let other tasks run after each job, so any delay there comes from the machine."""

LATENCY_SETTINGS: Final = (("chain", "checkpoint"), ("layered", "checkpoint"), ("tree", "nap"))


# ---- how late a ticker with a period of one millisecond is while a storm of jobs keeps the loop busy


def ticker(plan: Plan) -> Iterator[Contest]:
    """Storms of jobs in ten chains, which wait for nothing but each other."""
    for backend, (body, size) in itertools.product(plan.loops, plan.storms.items()):
        setting = Setting(backend, "ten chains", body, size)
        contestants = [
            Contestant(
                rival.name,
                setting,
                partial(ticker_attempt, rival, setting),
                partial(verify, rival, setting.shape, None),
            )
            for rival in entering(plan, setting)
            if rival.name == OURS or rival.name in BY_HAND
        ]
        yield Contest("ticker", contestants, plan.few_rounds)


def ticker_attempt(rival: Rival, setting: Setting) -> Sample:
    """Build, then run beside a ticker, from the checks of the graph to the end."""
    graph = graphs.make(setting.shape, setting.size)
    runner = rival.build(graph, BODIES[setting.backend][setting.body], None)
    delays: list[float] = []
    over = False

    async def storm() -> None:
        nonlocal over
        await runner()
        over = True

    async def tick() -> None:
        while not over:
            due = time.perf_counter() + TICK
            await loops.sleep(setting.backend, TICK)
            delays.append(time.perf_counter() - due)

    async def main() -> None:
        await loops.beside(setting.backend, storm, tick)

    loops.run(setting.backend, main)
    return {"delay p50": statistics.median(delays) * 1e3, "delay p99": percentile(delays, 0.99) * 1e3}


# ---- how long a job takes from the end of its last requirement to its own start


def latency(plan: Plan) -> Iterator[Contest]:
    """A chain, where no other job is in the way; layers that become ready together; a loop that is mostly idle."""
    for backend in plan.loops:
        for shape, body in LATENCY_SETTINGS:
            setting = Setting(backend, shape, body, plan.latency_size)
            contestants = [
                Contestant(
                    rival.name, setting, partial(latency_attempt, rival, setting), partial(verify, rival, shape, None)
                )
                for rival in entering(plan, setting)
            ]
            yield Contest("latency", contestants, plan.few_rounds)


def latency_attempt(rival: Rival, setting: Setting) -> Sample:
    """Run once with a body that records when it begins and ends."""
    graph = graphs.make(setting.shape, setting.size)
    body = BODIES[setting.backend][setting.body]
    begun, ended = [0.0] * graph.size, [0.0] * graph.size

    async def recording(number: int) -> None:
        begun[number] = time.perf_counter()
        await body(number)
        ended[number] = time.perf_counter()

    run_to_end(setting.backend, rival.build(graph, recording, None))
    waits = [
        begun[job] - max(ended[requirement] for requirement in required)
        for job, required in enumerate(graph.requirements)
        if required
    ]
    return {"latency p50": statistics.median(waits) * 1e6, "latency p99": percentile(waits, 0.99) * 1e6}


def percentile(values: list[float], part: float) -> float:
    """Return the least value that this fraction of all values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]
