"""The measured cases: each takes the plan and yields the contests that it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from ..measuring import Contest
from ..plans import Plan
from . import (
    cancelling,
    commands,
    groups,
    keys,
    limits,
    makespans,
    memory,
    nodes,
    running,
    small,
    waiting,
)

Case = Callable[[Plan], Iterator[Contest]]

CASES: Final[dict[str, Case]] = {
    "running": running.running,
    "sleepers": running.sleepers,
    "growth": running.growth,
    "memory": memory.memory,
    "cancel": cancelling.cancel,
    **{case: partial(groups.beside_hand, case) for case in groups.SCENARIOS},
    "small": small.small,
    "waiting": waiting.waiting,
    "keys": keys.keys,
    "makespans": makespans.makespans,
    "rates": limits.rates,
    "adaptive": limits.adaptive,
    "commands": commands.commands,
    "nodes": nodes.nodes,
}


def contests(plan: Plan) -> list[Contest]:
    """Return all contests of a plan that have a contestant.

    Threads come last: their libraries fill the memory with objects that the garbage collector has to go through.
    """
    found = [
        contest
        for case in plan.cases
        if case in CASES
        for contest in CASES[case](plan)
        if contest.contestants
    ]
    return sorted(
        found, key=lambda contest: contest.contestants[0].setting.backend == "threads"
    )
