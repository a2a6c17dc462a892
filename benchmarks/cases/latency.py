"""How long a job that could start has to wait: from the end of the last that it requires to its own start."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from functools import partial
from typing import Final

from .. import graphs
from ..bodies import BODIES
from ..measuring import Contest, Contestant, Sample, Setting
from ..plans import Plan
from ..rivals import Rival
from ..verification import run_to_end, verify
from .running import entering
from .ticker import percentile

SETTINGS: Final = (("chain", "checkpoint"), ("layered", "checkpoint"), ("tree", "nap"))


def latency(plan: Plan) -> Iterator[Contest]:
    """A chain, where nobody else is in the way; layers that become ready together; a loop that is mostly idle."""
    for backend in plan.loops:
        for shape, body in SETTINGS:
            setting = Setting(backend, shape, body, plan.latency_size)
            contestants = [
                Contestant(rival.name, setting, partial(attempt, rival, setting), partial(verify, rival, shape, None))
                for rival in entering(plan, setting)
            ]
            yield Contest("latency", contestants, plan.few_rounds)


def attempt(rival: Rival, setting: Setting) -> Sample:
    """Run once with a body that notes when it begins and ends."""
    graph = graphs.make(setting.shape, setting.size)
    body = BODIES[setting.backend][setting.body]
    begun, ended = [0.0] * graph.size, [0.0] * graph.size

    async def noting(number: int) -> None:
        begun[number] = time.perf_counter()
        await body(number)
        ended[number] = time.perf_counter()

    run_to_end(setting.backend, rival.build(graph, noting, None))
    waits = [
        begun[job] - max(ended[requirement] for requirement in required)
        for job, required in enumerate(graph.requirements)
        if required
    ]
    return {"latency p50": statistics.median(waits) * 1e6, "latency p99": percentile(waits, 0.99) * 1e6}
