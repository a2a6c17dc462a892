"""Scenarios whose times are drawn from a grid, so that what chance keeps apart comes in one instant.

The contract leaves open what comes first of much that ends in one instant, and the model says so in its doubts. The
event loop decides it. But on virtual time, it decides it in the same way each time, so a scenario ends alike each time.
"""

import math
from dataclasses import fields, is_dataclass, replace
from typing import Any
from .compare import differences
from .model import Outcome
from .real import observe, observe_restart
from .scenario import Scenario

STEPS = (0.25, 1.0)


def on_grid(value: Any, step: float) -> Any:
    """Return a part of a scenario with its numbers rounded to multiples of `step`, but not to 0."""
    if isinstance(value, float) and value not in (0.0, math.inf):
        if value % 1:
            return max(step, round(value / step) * step)
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return replace(
            value,
            **{
                field.name: on_grid(getattr(value, field.name), step)
                for field in fields(value)
            },
        )
    if isinstance(value, tuple):
        return tuple(on_grid(each, step) for each in value)
    return value


def with_ties(scenario: Scenario, step: float) -> Scenario:
    """Return a scenario with times on a grid, but for what comes from outside of the loop."""
    return replace(
        on_grid(scenario, step), killed_at=scenario.killed_at, cut_at=scenario.cut_at
    )


def differs_from_itself(scenario: Scenario, backend: str) -> list[str]:
    """Return what differs between two runs of a scenario on one loop."""
    see = observe if scenario.killed_at is None else observe_restart
    first = see(scenario, backend)
    second = see(scenario, backend)
    if scenario.apart and any(one.result is None for one in first):
        return []  # a scope around several runs reaches their tasks in the order of a set
    found: list[str] = []
    for one, other in zip(first, second, strict=True):
        found += differences(scenario, bare(one), bare(other))
    return found


def what_differs_from_itself(scenario: Scenario, backend: str) -> list[str]:
    """Return what differs between two runs of a scenario; one that cannot be run has no difference."""
    try:
        return differs_from_itself(scenario, backend)
    except Exception:
        return []


def bare(outcome: Outcome) -> Outcome:
    """Return what must agree: jobs cancelled at once unwind in any order, in which `on_job_settled` is called."""
    return replace(outcome, looks=[], settled=[], doubts=type(outcome.doubts)())
