"""`explore` knows `First`: faults around one are found, and a sound one passes."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from trioflow import First, Job, Scheduler
from trioflow.testing import BrokenRun, explore


async def pay(world: dict[str, Any], name: str, seconds: float) -> str:
    world.setdefault("called", []).append(name)
    await anyio.sleep(seconds)
    world.setdefault("paid", []).append(name)
    return name


def hedged(world: dict[str, Any]) -> Scheduler:
    """Return a hedged request, whose answer another job uses."""
    first = First(
        Job(pay, world, "a", 0.5, key="a", label="a"),
        Job(pay, world, "b", 0.5, key="b", label="b"),
        stagger=1,
        label="ask",
    )
    return Scheduler(first, Job(pay, world, first, 1, key="use", label="use"))


def check_result(scheduler: Scheduler, world: dict[str, Any]) -> None:
    first = next(iter(scheduler))
    if first.is_succeeded():
        assert first.result() in world["paid"]
        assert sum(job.is_succeeded() for job in first) == (not first.restored)  # it is restored as a whole


def test_a_sound_first_passes(backend: str) -> None:
    """Whatever fails, is late, is cancelled or crashes, the result is that of the one job that succeeded."""
    assert explore(hedged, check=check_result, backends=[backend], runs=30, seed=1).runs == 30


def test_a_hedge_that_begins_is_found(backend: str) -> None:
    """A late answer lets the second job of a hedge start; the story shows it."""

    def calls_once(scheduler: Scheduler, world: dict[str, Any]) -> None:
        assert "b" not in world["called"]

    with pytest.raises(BrokenRun, match="ask/a"):
        explore(hedged, check=calls_once, faults=["durations"], backends=[backend], runs=100, seed=1)
