"""How late a ticker of one millisecond gets its turn while a storm of jobs keeps the loop busy."""

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
from ..verification import verify
from .running import entering

TICK: Final = 0.001  # seconds
BY_HAND: Final = ("counters on a nursery", "counters on a TaskGroup")
"""They let others run after each job: what is late there is the machine's doing."""


def ticker(plan: Plan) -> Iterator[Contest]:
    """Storms of jobs in ten chains, that never wait for anything but each other."""
    for backend, (body, size) in itertools.product(plan.loops, plan.storms.items()):
        setting = Setting(backend, "ten chains", body, size)
        contestants = [
            Contestant(
                rival.name, setting, partial(attempt, rival, setting), partial(verify, rival, setting.shape, None)
            )
            for rival in entering(plan, setting)
            if rival.name == OURS or rival.name in BY_HAND
        ]
        yield Contest("ticker", contestants, plan.few_rounds)


def attempt(rival: Rival, setting: Setting) -> Sample:
    """Build, then run beside a ticker, from the first look at the graph to the end."""
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


def percentile(values: list[float], part: float) -> float:
    """Return the least value that so large a part of all values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]
