"""Scenarios whose times are drawn from a grid, so that what chance keeps apart comes in one instant, on both loops.

The contract leaves open what comes first of much that ends in one instant, and the model says so in its doubts. But it
does not leave it to the loop: a scenario that the model predicts alike for both ends alike on both.
"""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass, replace
from typing import Any

from .. import isolations
from .compare import differences
from .model import Outcome, predict, predict_restart
from .real import observe, observe_restart
from .scenario import Scenario
from .shrink import kind_of

STEPS = (0.25, 1.0)
OPEN = {
    "a First ends as another scheduler does",
    "a First takes no time",
    "a job gets a token as others start that take none",
    "a job of a forever scheduler starts as that ends",
    "a job raises what it awaited as another fails",
    "a job gets the token of one that ends as its scheduler does",
    "a nested scheduler ends as another job starts",
    "a nested scheduler takes no time",
    "a scheduler fails as another job does",
    "a scheduler stops as another starts",
    "a scheduler stops for what a job has awaited",
    "a scheduler times out as its jobs are tried again",
    "an answer takes no time",
    "an idle timeout ends in the instant of something else",
    "jobs of two schedulers become ready at one instant",
    "time lets jobs start in the instant of something else",
    "what a job awaits ends as the job is cancelled",
    "what is not limited starts as several end at one instant",  # each at once, in the order of the loop
}
"""Doubts of the model with which turns of the loop may decide."""
if isolations.ISOLATION == "direct":  # each job begins in a task of its own, some turns later
    OPEN |= {
        "a budget is spent as others start",
        "a drain comes in the instant of something else",
        "a scheduler stops as jobs of another in it start or end",
        "two schedulers ask for a token at one instant",
    }


def on_grid(value: Any, step: float) -> Any:
    """Return a part of a scenario with its numbers rounded to multiples of `step`, but not to 0."""
    if isinstance(value, float) and value not in (0.0, math.inf):
        return max(step, round(value / step) * step) if value % 1 else value
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: on_grid(getattr(value, field.name), step) for field in fields(value)})
    return tuple(on_grid(each, step) for each in value) if isinstance(value, tuple) else value


def with_ties(scenario: Scenario, step: float) -> Scenario:
    """Return a scenario with times on a grid, but for what comes from outside of the loop."""
    return replace(on_grid(scenario, step), killed_at=scenario.killed_at, cut_at=scenario.cut_at)


def differs_between_loops(scenario: Scenario) -> list[str] | None:
    """Return what differs between the loops; None if the model, for a reason of its own, expects no agreement."""
    if scenario.killed_at is None:
        predicted = [[predict(scenario, backend)] for backend in ("trio", "asyncio")]
        seen = [observe(scenario, backend, 1) for backend in ("trio", "asyncio")]
    else:
        predicted = [predict_restart(scenario, backend) for backend in ("trio", "asyncio")]
        seen = [observe_restart(scenario, backend) for backend in ("trio", "asyncio")]
    found: list[str] = []
    for expected, other_expected, one, other in zip(*predicted, *seen, strict=True):
        is_open = OPEN & expected.doubts.keys() or expected.doubts.keys() != other_expected.doubts.keys()
        if is_open or [*differences(scenario, bare(expected), bare(other_expected))]:
            return None
        apart = [*differences(scenario, bare(one), bare(other))]
        if apart and all([*differences(scenario, bare(expected), bare(run))] for run in (one, other)):
            return None  # what is open in the course that the runs have taken is not known
        found += apart
    return found


def still_differs_between_loops(scenario: Scenario, kind: str) -> bool:
    """Return whether a scenario has the same kind of difference; one that cannot be predicted has none."""
    try:
        return kind_of(differs_between_loops(scenario) or []) == kind
    except Exception:
        return False


def bare(outcome: Outcome) -> Outcome:
    """Return what must agree: jobs that are cancelled at once unwind in any order, in which `on_settled` is called."""
    return replace(outcome, looks=[], settled=[], doubts=type(outcome.doubts)())
