"""The duration of some generated workflows with 16 slots, on a virtual clock: exact, and equal on all machines."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from functools import partial
from typing import Final

from ..elapsed import measures, workflows
from ..elapsed.ways import BY_LEVELS, PATH, Way, installed
from ..measuring import Contest, Contestant, Sample, Setting
from ..plans import Plan

WINDOW: Final = 16


def makespans(plan: Plan) -> Iterator[Contest]:
    """Run them once by the critical path, and once by `gather`, level by level."""
    setting = Setting("asyncio", "drawn workflows", "sleep", plan.drawn, WINDOW)
    chosen = [
        way
        for way in installed()
        if way.backend == "asyncio" and way.name in (PATH, BY_LEVELS)
    ]
    yield Contest(
        "makespans",
        [
            Contestant(way.name, setting, partial(simulated, way, plan.drawn))
            for way in chosen
        ],
        1,
    )


def simulated(way: Way, number: int) -> Sample:
    """Return the geometric mean of the makespans, each over its lower bound."""
    found = [measures.simulated(way, one, WINDOW) for one in workflows.drawn(number)]
    return {
        "makespan": statistics.geometric_mean(
            [value for value in found if value is not None]
        )
    }
