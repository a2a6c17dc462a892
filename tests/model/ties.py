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
from .shrink import kind_of

STEPS = (0.25, 1.0)


def on_grid(value: Any, step: float) -> Any:
    """Return a part of a scenario with its numbers rounded to multiples of `step`, but not to 0."""
    if isinstance(value, float) and value not in (0.0, math.inf):
        return max(step, round(value / step) * step) if value % 1 else value
    if is_dataclass(value) and not isinstance(value, type):
        return replace(
            value,
            **{
                field.name: on_grid(getattr(value, field.name), step)
                for field in fields(value)
            },
        )
    return (
        tuple(on_grid(each, step) for each in value)
        if isinstance(value, tuple)
        else value
    )


def with_ties(scenario: Scenario, step: float) -> Scenario:
    """Return a scenario with times on a grid, but for what comes from outside of the loop."""
    return replace(
        on_grid(scenario, step), killed_at=scenario.killed_at, cut_at=scenario.cut_at
    )


def differs_from_itself(scenario: Scenario, backend: str) -> list[str]:
    """Return what differs between two runs of a scenario on one loop."""
    seen = [
        observe(scenario, backend, 1)
        if scenario.killed_at is None
        else observe_restart(scenario, backend)
        for _ in range(2)
    ]
    if scenario.apart and any(one.result is None for one in seen[0]):
        return []  # a scope around several runs reaches their tasks in the order of a set
    return [
        each
        for one, other in zip(*seen, strict=True)
        for each in differences(scenario, bare(one), bare(other))
    ]


def still_differs_from_itself(scenario: Scenario, backend: str, kind: str) -> bool:
    """Return whether a scenario has the same kind of difference; one that cannot be run has none."""
    try:
        return kind_of(differs_from_itself(scenario, backend)) == kind
    except Exception:
        return False


def bare(outcome: Outcome) -> Outcome:
    """Return what must agree: jobs cancelled at once unwind in any order, in which `on_job_settled` is called."""
    return replace(outcome, looks=[], settled=[], doubts=type(outcome.doubts)())
