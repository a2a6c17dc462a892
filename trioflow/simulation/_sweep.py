"""`what_if`: many simulations of one scenario, with other limits and policies.

The engine itself runs each of them, on a copy of the scenario. A copy is made once per policy, and once per amount of a
resource. With 5,000 jobs a simulation takes 0.1 to 0.2 s, of which the copy is a third.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, cast

from .._core.api.views import (
    AnyJob,
    BaseScheduler,
    Rate,
    WaitCause,
    check_policy,
    duration_text,
    is_scheduler,
    name_of_policy,
    paths_of,
    pool_settings,
    resource_views,
    run_needs,
    run_resource,
    short_repr,
)
from ..view.trace._span_builder import TraceRecord
from ..view.trace._what_if import OWN_POLICIES, WhatIf, WhatIfPoint
from . import _simulate
from ._clone import ScenarioCopy
from ._simulate import lower_bounds, users_of

if TYPE_CHECKING:
    from .._core.api.views import PolicyName
    from ._simulate import Change

MAX_SIMULATED_JOBS: Final = 60_000
"""The total number of jobs to simulate if no sizes are given: 12 simulations of 5,000 jobs."""
MIN_SIZES: Final = 3
"""The minimum number of sizes, for any number of jobs."""


def simulate_trace(
    record: TraceRecord,
    resource: str | None = None,
    sizes: Sequence[int | None] | None = None,
    policies: Sequence[PolicyName] | None = None,
    most: int = MAX_SIMULATED_JOBS,
) -> WhatIf:
    """Simulate the run of a trace with other sizes and policies; see `Trace.what_if`.

    Raises:
        ValueError: no job has run, or not all have ended; the trace shows several runs; or as in `what_if`.

    """
    roots = record.roots
    if not roots or not any(span.elapsed is not None for span in record.spans):
        raise ValueError("what_if() of a trace in which no job has run to its end: there are no durations to go by")
    if len(roots) > 1:
        raise ValueError(f"what_if() of a trace of {len(roots)} runs: give each run a Trace of its own")
    (root,) = roots
    if root.finished_at is None or root.started_at is None:
        raise ValueError(f"what_if() while {root.label!r} is running: ask when it has ended")
    if len(root.scheduler) < len(root.members):
        raise ValueError(
            f"what_if() of {root.label!r}, which has {len(root.scheduler)} of its {len(root.members)} jobs left: "
            f"ask before you remove jobs, and without keep_jobs=False"
        )
    seconds: dict[str, float] = {}
    for span in record.spans:
        held = sum(wait.seconds for wait in span.waits if wait.cause is WaitCause.MACHINE)
        until = span.finished_at if span.ready_at is None else span.ready_at
        ran = 0.0 if span.started_at is None or until is None else until - span.started_at
        seconds[span.path] = max(0.0, ran - held)
    ends = [span.finished_at for span in record.spans if span.started_at is not None and not span.forever]
    took = max((end for end in ends if end is not None), default=root.started_at) - root.started_at
    known = {job: seconds[path] for job, path in paths_of(root.scheduler).items() if path in seconds}
    expected = {job: number for job in known if (number := job.expected_duration) is not None}
    for run in record.runs:
        expected.update(run.learned or {})
    cluster_slots = {record.jobs[number]: room for number, room in record.call_places.items()}
    scenario = Scenario(root.scheduler, known, root.window, expected, cluster_slots)
    return what_if(scenario, took, resource, sizes, policies, most)


class Scenario:
    """A scheduler with the durations of its jobs and the conditions of its run.

    Args:
        scheduler: the scheduler, which is only read.
        known: the known durations; others are the median of these, or a second.
        window: the limit of concurrent jobs, None for no limit.
        expected: the durations that the policies of its run expected.
        cluster_slots: for each job called on a cluster, the cluster and its number of concurrent calls.

    """

    def __init__(
        self,
        scheduler: BaseScheduler,
        known: Mapping[AnyJob, float],
        window: int | None,
        expected: Mapping[AnyJob, float],
        cluster_slots: Mapping[AnyJob, tuple[str, int]],
    ) -> None:
        self.cluster_slots: Final = cluster_slots
        self.threads: Final = sum(dict(cluster_slots.values()).values()) or None
        self.scheduler: Final = scheduler
        self.known: Final = dict(known)
        self.seconds: Final = _simulate.all_durations(scheduler, self.known)
        self.window: Final = window
        self.expected: Final = dict(expected)
        self.policy: Final = _policy_of(scheduler, expected)

    def simulations(self, policy: str, resource: str | None, sizes: Sequence[int | None]) -> Iterator[float]:
        """Yield the makespan for each size."""
        # For the policy of its run, each scheduler keeps its own, with the expected durations of that run.
        other_policy, known = (None, self.expected) if policy == self.policy else (policy, self.known)
        copy: ScenarioCopy | None = None
        change = _resource_setter(self, resource)
        with ThreadPoolExecutor(1, _simulate.THREADS) as thread, _simulate.silence_log():
            for size in sizes:
                window = size if resource is None else self.window
                if copy is None or resource is not None:
                    pool_of = None if change is None else change(size)
                    copy = ScenarioCopy(
                        self.scheduler, self.seconds, known, window, other_policy, pool_of, self.cluster_slots
                    )
                thread.submit(_simulate.run, copy, window).result()
                jobs = [job for own, job in copy.copies.items() if own is not self.scheduler and not job.forever]
                ends: Iterable[float] = (job.finished_at for job in jobs if job.finished_at is not None)
                yield max(ends, default=0.0)


def what_if(
    scenario: Scenario,
    took: float,
    resource: str | None,
    sizes: Sequence[int | None] | None,
    policies: Sequence[PolicyName] | None,
    most: int = MAX_SIMULATED_JOBS,
) -> WhatIf:
    """Simulate a scenario with each of these sizes and policies.

    Args:
        scenario: the scenario.
        took: the makespan of its run.
        resource: the resource whose amount varies; None for the slots of the window.
        sizes: the amounts, None for no limit; default: some around the current one.
        policies: their names; default: the run's own, fifo and critical-path.
        most: about the total number of jobs to simulate, if `sizes` are not given.

    Raises:
        ValueError: there is no such resource, or a size or a policy is out of range.
        TypeError: a size is not a whole number, or one of the arguments is of a wrong type.

    """
    if not isinstance(cast("object", resource), str | None):
        raise TypeError(
            f"resource={short_repr(resource)}: give the name of a resource, or None for the slots of the window"
        )
    _check_list("sizes", sizes, "whole numbers")
    _check_list("policies", policies, "names")
    own = scenario.policy
    names: list[str] = list(policies or dict.fromkeys([own, "fifo", "critical-path"]))
    for name in policies or ():
        check_policy(name, "policies", repr(scenario.scheduler.label))
    now, least = _current_size(scenario, resource)
    chosen = _check_sizes(sizes, resource, least) if sizes is not None else None
    simulated = next(scenario.simulations(own, resource, [now]))
    if chosen is None:
        number = max(MIN_SIZES, most // (max(1, len(scenario.seconds)) * len(names)))
        chosen = _default_sizes(scenario, resource, now, least, number)
    points: list[WhatIfPoint] = []
    for policy in names:
        makespans = scenario.simulations(policy, resource, chosen)
        points += [WhatIfPoint(size, policy, seconds) for size, seconds in zip(chosen, makespans, strict=True)]
    change = _resource_setter(scenario, resource)
    bounds = lower_bounds(scenario.scheduler, scenario.seconds, scenario.window, chosen, change)
    rate = _rate_of(scenario, resource)
    only_nested = resource is None and all(is_scheduler(job) for job in scenario.scheduler)
    return WhatIf(
        resource,
        tuple(points),
        tuple(zip(chosen, bounds, strict=True)),
        WhatIfPoint(now, own, took),
        simulated,
        _rate_unit(rate),
        only_nested,
        _worker_processes(scenario.scheduler),
        scenario.threads,
    )


def _worker_processes(scheduler: BaseScheduler) -> int | None:
    """Return the number of worker processes of a run, which a simulation uses too; None if no job needs one."""
    names = {name for job in scheduler.iterate_jobs() for name in run_needs(job)}
    return next((run_resource(scheduler, name)[1] for name in names), None)


def _check_list(argument: str, value: object, what: str) -> None:
    if value is not None and (isinstance(value, str | bytes) or not isinstance(value, Iterable)):
        raise TypeError(f"{argument}={short_repr(value)}: give a list of {what}")


def _policy_of(scheduler: BaseScheduler, expected: Mapping[AnyJob, float]) -> str:
    """Return the common policy of all schedulers of a run; "auto" is one of two; `OWN` if they differ."""
    levels = [scheduler, *(job for job in scheduler.iterate_jobs() if is_scheduler(job))]
    knowing: set[AnyJob] = set()
    names: set[str] = set()
    for level in reversed(levels):  # nested schedulers first, as durations of their jobs count for them
        if any(job in expected or job in knowing for job in level):
            knowing.add(level)
        name = name_of_policy(level.policy)
        names.add(name if name != "auto" else "critical-path" if level in knowing else "fifo")
    return names.pop() if len(names) == 1 else OWN_POLICIES


def _current_size(scenario: Scenario, resource: str | None) -> tuple[int | None, int]:
    """Return the size of the window, or the amount of the resource; and the least possible one.

    Raises:
        ValueError: there is no such resource, or it cannot vary.

    """
    if resource is None:
        return scenario.window, 1
    jobs = [scenario.scheduler, *scenario.scheduler.iterate_jobs()]
    pools = [pool for job in jobs if (pool := getattr(job, "pool", None)) is not None]
    views = {view.name: view for pool in pools for view in resource_views(pool)}
    if resource not in views:
        there = f"there are {', '.join(map(repr, views))}" if views else "there is no pool"
        raise ValueError(f"resource={resource!r}: no pool has it; {there}")
    rate = _rate_of(scenario, resource)
    if rate is not None:
        return math.ceil(next(iter(rate.limits.values()))), 1
    needed = [job.needs[resource] for job in jobs if job.needs and resource in job.needs]
    return math.ceil(views[resource].total or 0), max(1, math.ceil(max(needed, default=1)))


def _rate_of(scenario: Scenario, resource: str | None) -> Rate | None:
    """Return the rate of this name in the outermost pool that has one; None for another kind of resource."""
    jobs = [scenario.scheduler, *scenario.scheduler.iterate_jobs()]
    amounts = (
        pool_settings(pool).get(resource or "") for job in jobs if (pool := getattr(job, "pool", None)) is not None
    )
    return next((rate for rate in amounts if isinstance(rate, Rate)), None)


def _rate_unit(rate: Rate | None) -> str | None:
    """Return the unit of a rate's first key, such as "requests per second"; None without a rate."""
    if rate is None:
        return None
    per = {1.0: "second", 60.0: "minute", 3600.0: "hour", 86400.0: "day"}.get(rate.per, duration_text(rate.per))
    return f"{next(iter(rate.limits))} per {per}"


def _largest_needs(scenario: Scenario, resource: str) -> dict[str, float]:
    """Return the most that one job needs of each key of a rate."""
    most: dict[str, float] = {}
    for level in (scenario.scheduler, *(job for job in scenario.scheduler.iterate_jobs() if is_scheduler(job))):
        for pool, name, job in users_of(level):
            for view in resource_views(pool) if name == resource else ():
                for key, amount in view.largest_needs([job]).items() if view.name == resource else ():
                    most[key] = max(most.get(key, 0.0), amount)
    return most


def _resource_setter(scenario: Scenario, resource: str | None) -> Callable[[int | None], Change] | None:
    """Return a function from a size to a change of a pool's settings that sets a resource to that size."""
    if resource is None:
        return None
    needed = _largest_needs(scenario, resource)

    def changed(size: int | None, settings: dict[str, Any]) -> dict[str, Any]:
        setting = settings.get(resource)
        if setting is None:
            return settings
        if isinstance(setting, Rate):
            (first, limit), *others = setting.limits.items()
            own = setting.burst[first] * (size or limit) / limit
            burst = {**setting.burst, first: max(own, needed.get(first, 0.0))}  # with less, a job could never start
            return {**settings, resource: Rate(per=setting.per, burst=burst, **{first: size or limit}, **dict(others))}
        return {**settings, resource: size}

    return lambda size: functools.partial(changed, size)


def _check_sizes(sizes: Sequence[int | None], resource: str | None, least: int) -> list[int | None]:
    """Check a user's sizes, and return them in ascending order.

    Raises:
        TypeError, ValueError: see `what_if`.

    """
    for size in sizes:
        if size is None and resource is None:
            continue
        if size is None:
            raise ValueError(f"sizes: there is always a limit to {resource!r}: give whole numbers")
        if type(size) is not int:  # a bool is not a number of slots
            raise TypeError(f"sizes: {short_repr(size)} is not a whole number")
        if size < least:
            why = "" if resource is None or least == 1 else f": a job needs {least} of {resource!r}"
            raise ValueError(f"sizes: {size!r} is less than {least}{why}")
    if not sizes:
        raise ValueError("sizes: there are none")
    limited = sorted({size for size in sizes if size is not None})
    return [*limited, *([None] if None in sizes else [])]


def _default_sizes(
    scenario: Scenario, resource: str | None, now: int | None, least: int, number: int
) -> list[int | None]:
    """Return sizes from the least to the largest useful one: 1, 2, 3, 4, 6, 8, 12, ...; and the current one."""
    jobs = sum(not job.forever for job in scenario.scheduler)
    enough = jobs if resource is None else max(4 * (now or least), least)
    steps = itertools.chain((1,), (step << power for power in range(60) for step in (2, 3)))
    sizes: list[int] = [
        least,
        *(size for size in itertools.takewhile(lambda step: step < 2 * enough, steps) if size > least),
    ]
    change = _resource_setter(scenario, resource)
    bounds = lower_bounds(scenario.scheduler, scenario.seconds, scenario.window, sizes, change)
    useful = next((place for place, bound in enumerate(bounds) if bound <= bounds[-1] * 1.0001), len(sizes) - 1)
    sizes = sizes[: useful + 4]  # no order reaches the bound, so a few more are useful
    around = {now, sizes[0], sizes[-1], min(2 * (now or 1), max(enough, now or 1))} - {None}
    while len(set(sizes) | around) > number and len(sizes) > 2:
        sizes = sizes[::2] if len(sizes) > 3 else [sizes[0], sizes[-1]]
    sized = sorted({*sizes, *around} - {None}, key=lambda size: size or 0)
    return [*sized, *([None] if now is None and resource is None else [])]
