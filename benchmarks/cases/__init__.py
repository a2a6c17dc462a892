"""The cases: what is measured. Each takes the plan and yields the contests that it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from ..measuring import Contest
from ..plans import Plan
from . import cancelling, commands, importing, latency, memory, running, ticker

Case = Callable[[Plan], Iterator[Contest]]

CASES: Final[dict[str, Case]] = {
    "running": running.running,
    "sleepers": running.sleepers,
    "growth": running.growth,
    "instrument": running.instrument,
    "latency": latency.latency,
    "memory": memory.memory,
    "cancel": cancelling.cancel,
    "ticker": ticker.ticker,
    "import": importing.importing,
    "commands": commands.commands,
}


def contests(plan: Plan) -> list[Contest]:
    """All contests of a plan, but those in which trioflow would be alone for want of a rival on that backend.

    Threads come last: their libraries fill the memory with objects that the collector has to go through.
    """
    found = [contest for case in plan.cases for contest in CASES[case](plan) if contest.contestants]
    return sorted(found, key=lambda contest: contest.contestants[0].setting.backend == "threads")
