"""Compares what was seen of a run with what the model predicts."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any
from .model import Fate, Outcome
from .scenario import LOOKS, Group, Leaf, Plan, Scenario, members, walk

SAME = 1e-6


def close(one: float | None, other: float | None) -> bool:
    return one == other or (
        one is not None and other is not None and abs(one - other) < SAME
    )


def differences(scenario: Scenario, expected: Outcome, seen: Outcome) -> Iterator[str]:
    """Yield what was seen of a run otherwise than predicted."""
    yield from seen.doubts
    # Nobody's jobs.
    outermost = {
        scenario.root.name,
        *(plan.name for plan in scenario.root.jobs if scenario.apart),
    }
    # Leaving `async with` raises what failed.
    if seen.result != expected.result and scenario.keep_jobs and not scenario.apart:
        yield f"the result is {seen.result} instead of {expected.result}"
    if not close(seen.ended_at, expected.ended_at):
        yield f"the run ended at {seen.ended_at} instead of {expected.ended_at}"
    for name in sorted({*seen.fates, *expected.fates}):
        if name in outermost:
            continue
        one = seen.fates.get(name)
        other = expected.fates.get(name)
        if one is None or other is None:
            yield f"{name} is {one} instead of {other}"
        else:
            yield from fate_differences(scenario, name, one, other)
    for name, verdict in expected.verdicts.items():
        if seen.verdicts.get(name) != verdict and not (
            scenario.apart and name == scenario.root.name
        ):
            yield f"the verdict of {name} is {seen.verdicts.get(name)} instead of {verdict}"
    if not (scenario.keep_jobs or scenario.apart or seen.kept == expected.kept):
        yield f"the scheduler keeps {sorted(seen.kept)} instead of {sorted(expected.kept)}"
    yield from order_differences(scenario, expected, seen)
    left_out: set[str] = set()
    if scenario.apart:
        left_out = outermost
    yield from hook_differences(expected, seen, left_out)
    for when, look, other in zip(LOOKS, expected.looks, seen.looks, strict=False):
        for what, value in look.items():
            # Of a job that was never added, or of a scheduler that has left.
            if what not in other:
                yield f"at {when}, {what} is not known instead of {value}"
            elif not agrees(value, other[what]):
                yield f"at {when}, {what} is {other[what]} instead of {value}"


def agrees(value: Any, seen: Any) -> bool:
    """Return whether amounts are the same, and whether a text has all words."""
    if isinstance(value, list):
        return all(words in seen for words in value)
    if isinstance(value, dict):
        return all(
            key not in seen or agrees(amount, seen[key])
            for key, amount in value.items()
        )
    return close(value, seen)


def fate_differences(
    scenario: Scenario, name: str, seen: Fate, expected: Fate
) -> Iterator[str]:
    """Yield in which fields the fates of a job differ."""
    groups = {plan.name for plan in walk(scenario.root) if isinstance(plan, Group)}
    for field in (
        "state",
        "cause",
        "started",
        "finished",
        "attempts",
        "calls",
        "shutdowns",
        "restored",
        "value",
    ):
        one = getattr(seen, field)
        other = getattr(expected, field)
        if expected.restored and field in ("started", "finished", "attempts"):
            continue  # those of the run that has stored it
        if field in ("calls", "shutdowns") and name in groups:
            continue
        if field == "shutdowns" and not scenario.keep_jobs:
            continue  # a job without one of its own has none, so that it can be dropped
        is_same = one == other
        if field in ("started", "finished"):
            is_same = close(one, other)
        if not is_same:
            yield f"{field} of {name} is {one} instead of {other}"


def order_differences(
    scenario: Scenario, expected: Outcome, seen: Outcome
) -> Iterator[str]:
    """Yield differences of the order in which the leaves of a scheduler start, and of calls of `on_job_settled`."""
    for group in walk(scenario.root):
        if isinstance(group, Group):
            own = {*leaves_of(group)}
            one, other = (
                [name for name in run.started if name in own and name in seen.started]
                for run in (seen, expected)
            )
            if one != other:
                yield f"the order of starts in {group.name} is {one} instead of {other}"
            one, other = (calls_of(run, group) for run in (seen, expected))
            if one != other:
                yield f"the calls of on_job_settled of {group.name} are {one} instead of {other}"


def leaves_of(plan: Plan) -> Iterator[str]:
    """Yield the names of the leaves of a scheduler, those that are added to it included."""
    for inner in members(plan):
        if isinstance(inner, Leaf):
            yield inner.name
            yield from leaves_of(inner)


def calls_of(run: Outcome, group: Group) -> list[str]:
    """Return the calls of `on_job_settled`, by name if the jobs settled at one instant, or have been reset."""
    names = [name for who, name in run.settled if who == group.name]
    found: list[str] = []
    at_once: list[str] = []
    last: float | None = None
    for name in names:
        when = run.fates[name].finished
        if not close(when, last):
            found += sorted(at_once)
            at_once = []
        last = when
        at_once.append(name)
    return found + sorted(at_once)


def hook_differences(
    expected: Outcome, seen: Outcome, left_out: set[str]
) -> Iterator[str]:
    """Yield differences of the calls of hooks, for each job in their order."""
    mine = by_job(seen)
    theirs = by_job(expected)
    for name in sorted({*mine, *theirs} - left_out):
        one = mine[name]
        other = theirs[name]
        same = len(one) == len(other) and all(
            a == b and close(when, then)
            for (when, a), (then, b) in zip(one, other, strict=True)
        )
        if not same:
            yield f"the hooks of {name} are {one} instead of {other}"


def by_job(run: Outcome) -> defaultdict[str, list[tuple[float, str]]]:
    found: defaultdict[str, list[tuple[float, str]]] = defaultdict(list)
    for when, hook, name in run.hooks:
        found[name].append((when, hook))
    return found
