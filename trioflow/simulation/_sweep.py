"""`what_if`: many simulations of one scenario, with different limits and policies.

In each simulation, the engine runs a copy of the scenario. One copy is made for each policy or, if a resource varies,
for each policy and amount. A simulation of 5,000 jobs takes 0.1 to 0.2 s, a third of which is for the copy.
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
    find_run_resource,
    is_scheduler,
    name_of_policy,
    paths_of,
    pool_settings,
    resource_views,
    run_needs,
    short_repr,
)
from ..view.trace._span_builder import TraceRecord
from ..view.trace._what_if import OWN_POLICIES, WhatIf, WhatIfPoint
from . import _simulate
from ._scenario_copy import ScenarioCopy
from ._simulate import iterate_pool_needs, lower_bounds

if TYPE_CHECKING:
    from .._core.api.views import PolicyName
    from ._simulate import PoolSettingsChange

MAX_SIMULATED_JOBS: Final = 60_000
"""The approximate maximum number of jobs in all simulations together if no sizes are given, e.g. 12 of 5,000 jobs."""
MIN_SIZES: Final = 3
"""The minimum number of sizes to simulate if no sizes are given, even if there are many jobs."""


def simulate_trace(
    record: TraceRecord,
    resource: str | None = None,
    sizes: Sequence[int | None] | None = None,
    policies: Sequence[PolicyName] | None = None,
    max_jobs: int = MAX_SIMULATED_JOBS,
) -> WhatIf:
    """Simulate the run of a trace with other sizes and policies; see `Trace.what_if`.

    Raises:
        ValueError: no job has run to its end, the run has not ended, or some of its jobs were removed.
        ValueError: the trace shows several runs.
        ValueError: an argument is invalid, as in `what_if`.

    """
    roots = record.root_runs
    if not roots or not any(span.elapsed is not None for span in record.spans):
        raise ValueError("what_if() of a trace in which no job has completed: no durations are known")
    if len(roots) > 1:
        raise ValueError(f"what_if() of a trace of {len(roots)} runs: use a separate Trace for each run")
    (root,) = roots
    if root.finished_at is None or root.started_at is None:
        raise ValueError(f"what_if() while {root.label!r} is running: call it when the run has ended")
    if len(root.scheduler) < len(root.member_numbers):
        raise ValueError(
            f"what_if() of {root.label!r}, which has {len(root.scheduler)} of its "
            f"{len(root.member_numbers)} jobs left: "
            f"call it before you remove jobs, and without keep_jobs=False"
        )
    durations: dict[str, float] = {}
    for span in record.spans:
        machine_wait = sum(wait.seconds for wait in span.waits if wait.cause is WaitCause.MACHINE)
        end = span.finished_at if span.ready_at is None else span.ready_at
        elapsed = 0.0 if span.started_at is None or end is None else end - span.started_at
        durations[span.path] = max(0.0, elapsed - machine_wait)
    ends = [span.finished_at for span in record.spans if span.started_at is not None and not span.forever]
    makespan = max((end for end in ends if end is not None), default=root.started_at) - root.started_at
    known_durations = {job: durations[path] for job, path in paths_of(root.scheduler).items() if path in durations}
    expected_durations = {job: number for job in known_durations if (number := job.expected_duration) is not None}
    for run in record.runs:
        expected_durations.update(run.learned_durations or {})
    cluster_slots = {record.jobs[number]: slots for number, slots in record.executors.items()}
    scenario = RecordedScenario(root.scheduler, known_durations, root.window_size, expected_durations, cluster_slots)
    return what_if(scenario, makespan, resource, sizes, policies, max_jobs)


class RecordedScenario:
    """A scheduler with the durations that were recorded in its run, and the limits and policy of that run.

    Args:
        scheduler: the scheduler, which is only read.
        known_durations: the known durations of jobs. An unknown duration is assumed to be the median of the known ones,
            or 1 second if none is known.
        window: the limit of concurrent jobs; None for no limit.
        expected_durations: the durations that the policies expected in the run.
        cluster_slots: for each job that was called on a cluster, the name of the cluster and the number of calls that
            the cluster runs at the same time.

    """

    def __init__(
        self,
        scheduler: BaseScheduler,
        known_durations: Mapping[AnyJob, float],
        window: int | None,
        expected_durations: Mapping[AnyJob, float],
        cluster_slots: Mapping[AnyJob, tuple[str, int]],
    ) -> None:
        self.cluster_slots: Final = cluster_slots
        self.cluster_slot_total: Final = sum(dict(cluster_slots.values()).values()) or None
        self.scheduler: Final = scheduler
        self.known_durations: Final = dict(known_durations)
        self.durations: Final = _simulate.add_guesses(scheduler, self.known_durations)
        self.window: Final = window
        self.expected_durations: Final = dict(expected_durations)
        self.policy_name: Final = _common_policy(scheduler, expected_durations)

    def simulate_sizes(self, policy: str, resource: str | None, sizes: Sequence[int | None]) -> Iterator[float]:
        """Simulate the scenario with each size, and yield the makespans.

        Args:
            policy: the name of the policy. If it is that of the recorded run, each scheduler keeps its own policy,
                which uses the durations that it expected in that run.
            resource: the name of the resource to vary; None for the window.
            sizes: the amounts of the resource, or sizes of the window.

        """
        other_policy, known_durations = (
            (None, self.expected_durations) if policy == self.policy_name else (policy, self.known_durations)
        )
        copy: ScenarioCopy | None = None
        make_pool_change = _pool_change_factory(self, resource)
        with ThreadPoolExecutor(1, _simulate.THREAD_NAME_PREFIX) as thread, _simulate.silence_log():
            for size in sizes:
                window = size if resource is None else self.window
                if copy is None or resource is not None:
                    change_pool = None if make_pool_change is None else make_pool_change(size)
                    copy = ScenarioCopy(
                        self.scheduler,
                        self.durations,
                        known_durations,
                        window,
                        other_policy,
                        change_pool,
                        self.cluster_slots,
                    )
                thread.submit(_simulate.run_scenario_copy, copy, window).result()
                copies = copy.copies.items()
                jobs = [job_copy for job, job_copy in copies if job is not self.scheduler and not job_copy.forever]
                ends: Iterable[float] = (job.finished_at for job in jobs if job.finished_at is not None)
                yield max(ends, default=0.0)


def what_if(
    scenario: RecordedScenario,
    makespan: float,
    resource: str | None,
    sizes: Sequence[int | None] | None,
    policies: Sequence[PolicyName] | None,
    max_jobs: int = MAX_SIMULATED_JOBS,
) -> WhatIf:
    """Simulate a scenario with each combination of a size and a policy.

    Args:
        scenario: the scenario.
        makespan: the makespan of the recorded run.
        resource: the name of the resource to vary; None for the slots of the window.
        sizes: the amounts of the resource, or sizes of the window, where None means no limit. By default, some sizes
            around the current one.
        policies: the names of the policies; by default, the policy of the run, fifo and critical-path.
        max_jobs: the approximate maximum number of jobs in all simulations together if `sizes` are not given.

    Raises:
        ValueError: there is no such resource.
        ValueError: a size or a policy is out of range.
        TypeError: an argument, or an item of one, has the wrong type.

    """
    if not isinstance(cast("object", resource), str | None):
        raise TypeError(
            f"resource={short_repr(resource)}: give the name of a resource, or None for the slots of the window"
        )
    _check_list_argument("sizes", sizes, "whole numbers")
    _check_list_argument("policies", policies, "names")
    run_policy = scenario.policy_name
    names: list[str] = list(policies or dict.fromkeys([run_policy, "fifo", "critical-path"]))
    for name in policies or ():
        check_policy(name, "policies", repr(scenario.scheduler.label))
    current_size, min_size = _current_size(scenario, resource)
    simulated_sizes = _check_sizes(sizes, resource, min_size) if sizes is not None else None
    simulated = next(scenario.simulate_sizes(run_policy, resource, [current_size]))
    if simulated_sizes is None:
        max_sizes = max(MIN_SIZES, max_jobs // (max(1, len(scenario.durations)) * len(names)))
        simulated_sizes = _default_sizes(scenario, resource, current_size, min_size, max_sizes)
    points: list[WhatIfPoint] = []
    for policy in names:
        makespans = scenario.simulate_sizes(policy, resource, simulated_sizes)
        points += [
            WhatIfPoint(size, policy, makespan_of_size)
            for size, makespan_of_size in zip(simulated_sizes, makespans, strict=True)
        ]
    make_pool_change = _pool_change_factory(scenario, resource)
    bounds = lower_bounds(scenario.scheduler, scenario.durations, scenario.window, simulated_sizes, make_pool_change)
    rate = _find_rate(scenario, resource)
    has_only_nested = resource is None and all(is_scheduler(job) for job in scenario.scheduler)
    return WhatIf(
        resource,
        tuple(points),
        tuple(zip(simulated_sizes, bounds, strict=True)),
        WhatIfPoint(current_size, run_policy, makespan),
        simulated,
        _rate_unit(rate),
        has_only_nested,
        _count_worker_processes(scenario.scheduler),
        scenario.cluster_slot_total,
    )


def _count_worker_processes(scheduler: BaseScheduler) -> int | None:
    """Return the number of worker processes in a run; None if no job needs one."""
    names = {name for job in scheduler.iterate_jobs() for name in run_needs(job)}
    return next((find_run_resource(scheduler, name)[1] for name in names), None)


def _check_list_argument(argument: str, value: object, item_kind: str) -> None:
    if value is not None and (isinstance(value, str | bytes) or not isinstance(value, Iterable)):
        raise TypeError(f"{argument}={short_repr(value)}: give a list of {item_kind}")


def _common_policy(scheduler: BaseScheduler, expected_durations: Mapping[AnyJob, float]) -> str:
    """Return the name of the policy that all schedulers of a run have; `OWN_POLICIES` if they differ.

    "auto" counts as the policy that it selects: critical-path if a duration is expected, otherwise fifo.
    """
    schedulers = [scheduler, *(job for job in scheduler.iterate_jobs() if is_scheduler(job))]
    with_durations: set[AnyJob] = set()
    names: set[str] = set()
    for current in reversed(schedulers):  # nested schedulers first: a duration in one counts for the enclosing ones
        if any(job in expected_durations or job in with_durations for job in current):
            with_durations.add(current)
        name = name_of_policy(current.policy)
        names.add(name if name != "auto" else "critical-path" if current in with_durations else "fifo")
    return names.pop() if len(names) == 1 else OWN_POLICIES


def _current_size(scenario: RecordedScenario, resource: str | None) -> tuple[int | None, int]:
    """Return the current size of the window or amount of the resource, and the smallest size that can be simulated.

    Raises:
        ValueError: there is no such resource.

    """
    if resource is None:
        return scenario.window, 1
    jobs = [scenario.scheduler, *scenario.scheduler.iterate_jobs()]
    pools = [pool for job in jobs if (pool := getattr(job, "pool", None)) is not None]
    views = {view.name: view for pool in pools for view in resource_views(pool)}
    if resource not in views:
        hint = f"the pools have {', '.join(map(repr, views))}" if views else "there is no pool"
        raise ValueError(f"resource={resource!r}: no pool has it; {hint}")
    rate = _find_rate(scenario, resource)
    if rate is not None:
        return math.ceil(next(iter(rate.limits.values()))), 1
    needed = [job.needs[resource] for job in jobs if job.needs and resource in job.needs]
    return math.ceil(views[resource].total or 0), max(1, math.ceil(max(needed, default=1)))


def _find_rate(scenario: RecordedScenario, resource: str | None) -> Rate | None:
    """Return the first rate of this name in a pool, outermost pools first; None if no pool has one."""
    jobs = [scenario.scheduler, *scenario.scheduler.iterate_jobs()]
    amounts = (
        pool_settings(pool).get(resource or "") for job in jobs if (pool := getattr(job, "pool", None)) is not None
    )
    return next((rate for rate in amounts if isinstance(rate, Rate)), None)


def _rate_unit(rate: Rate | None) -> str | None:
    """Return the unit of the first limit of a rate, such as "requests per second"; None if there is no rate."""
    if rate is None:
        return None
    per = {1.0: "second", 60.0: "minute", 3600.0: "hour", 86400.0: "day"}.get(rate.per, duration_text(rate.per))
    return f"{next(iter(rate.limits))} per {per}"


def _max_needs(scenario: RecordedScenario, resource: str) -> dict[str, float]:
    """Return the largest amount that a single job needs of each limit of a resource, keyed by the limit's name."""
    max_needs: dict[str, float] = {}
    for scheduler in (scenario.scheduler, *(job for job in scenario.scheduler.iterate_jobs() if is_scheduler(job))):
        for pool, name, job in iterate_pool_needs(scheduler):
            for view in resource_views(pool) if name == resource else ():
                for key, amount in view.largest_needs([job]).items() if view.name == resource else ():
                    max_needs[key] = max(max_needs.get(key, 0.0), amount)
    return max_needs


def _pool_change_factory(
    scenario: RecordedScenario, resource: str | None
) -> Callable[[int | None], PoolSettingsChange] | None:
    """Return a factory of changes to the settings of pools; None if there is no resource to vary.

    Called with a size, the factory returns a function that sets the resource to this size in the settings of a pool.
    """
    if resource is None:
        return None
    max_needs = _max_needs(scenario, resource)

    def change_settings(size: int | None, settings: dict[str, Any]) -> dict[str, Any]:
        setting = settings.get(resource)
        if setting is None:
            return settings
        if isinstance(setting, Rate):
            (first, limit), *others = setting.limits.items()
            scaled_burst = setting.burst[first] * (size or limit) / limit
            # With a smaller burst, a job could never start.
            burst = {**setting.burst, first: max(scaled_burst, max_needs.get(first, 0.0))}
            return {**settings, resource: Rate(per=setting.per, burst=burst, **{first: size or limit}, **dict(others))}
        return {**settings, resource: size}

    return lambda size: functools.partial(change_settings, size)


def _check_sizes(sizes: Sequence[int | None], resource: str | None, min_size: int) -> list[int | None]:
    """Check user-supplied sizes, and return them in ascending order, with None at the end.

    Raises:
        TypeError: a size is not a whole number.
        ValueError: a size is too small, or is None although `resource` is given; or there are no sizes.

    """
    for size in sizes:
        if size is None and resource is None:
            continue
        if size is None:
            raise ValueError(f"sizes: {resource!r} is always limited: give whole numbers")
        if type(size) is not int:  # rejects bool, too
            raise TypeError(f"sizes: {short_repr(size)} is not a whole number")
        if size < min_size:
            reason = "" if resource is None or min_size == 1 else f": a job needs {min_size} of {resource!r}"
            raise ValueError(f"sizes: {size!r} is less than {min_size}{reason}")
    if not sizes:
        raise ValueError("sizes is empty")
    limits = sorted({size for size in sizes if size is not None})
    return [*limits, *([None] if None in sizes else [])]


def _default_sizes(
    scenario: RecordedScenario, resource: str | None, current_size: int | None, min_size: int, max_sizes: int
) -> list[int | None]:
    """Return the sizes to simulate, in ascending order: the current one, and some of the series 1, 2, 3, 4, 6, 8, ...

    The series begins with the smallest size that can be simulated. It ends soon after the size above which the lower
    bound of the makespan no longer decreases. If there are more than `max_sizes`, every other size is left out
    repeatedly.
    """
    jobs = sum(not job.forever for job in scenario.scheduler)
    max_size = jobs if resource is None else max(4 * (current_size or min_size), min_size)
    steps = itertools.chain((1,), (step << power for power in range(60) for step in (2, 3)))
    sizes: list[int] = [
        min_size,
        *(size for size in itertools.takewhile(lambda step: step < 2 * max_size, steps) if size > min_size),
    ]
    make_pool_change = _pool_change_factory(scenario, resource)
    bounds = lower_bounds(scenario.scheduler, scenario.durations, scenario.window, sizes, make_pool_change)
    last_useful = next((index for index, bound in enumerate(bounds) if bound <= bounds[-1] * 1.0001), len(sizes) - 1)
    sizes = sizes[: last_useful + 4]  # keep a few larger sizes, because real makespans exceed the bound
    doubled = min(2 * (current_size or 1), max(max_size, current_size or 1))
    fixed_sizes = {current_size, sizes[0], sizes[-1], doubled} - {None}
    while len(set(sizes) | fixed_sizes) > max_sizes and len(sizes) > 2:
        sizes = sizes[::2] if len(sizes) > 3 else [sizes[0], sizes[-1]]
    sorted_sizes = sorted({*sizes, *fixed_sizes} - {None}, key=lambda size: size or 0)
    return [*sorted_sizes, *([None] if current_size is None and resource is None else [])]
