"""`what_if`: many simulations of one scenario, with other limits and policies.

The engine itself runs each of them, on a copy of the scenario. A copy is made once for each policy, and once for each
amount of a resource. With 5,000 jobs one simulation takes 0.1 to 0.2 s, of which the copy is a third.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from .._core.door.reading import (
    POLICY_NAMES,
    AnyJob,
    BaseScheduler,
    Pool,
    Rate,
    check_scenario,
    checked_policy,
    name_of_policy,
    paths_of,
    resources_of,
    settings_of,
    slots_of,
)
from ..view.trace._record import TraceRecord
from ..view.trace._what_if import WhatIf, WhatIfPoint
from . import _simulate
from ._copy import ScenarioCopy
from ._simulate import lower_bounds

if TYPE_CHECKING:
    from .._core.door.reading import PolicyName

SIMULATED: Final = 60_000
"""Jobs that are simulated in all, if nobody says for which sizes: with 5,000 jobs these are 12 simulations."""
FEWEST: Final = 3
"""Sizes, however many jobs there are."""


def of_trace(
    record: TraceRecord,
    resource: str | None = None,
    sizes: Sequence[int | None] | None = None,
    policies: Sequence[PolicyName] | None = None,
    most: int = SIMULATED,
) -> WhatIf:
    """Return what the run of a trace would have taken; see `Trace.what_if`.

    Raises:
        ValueError: nothing has run, or not all has ended; the trace shows several runs; or as in `what_if`.

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
        held = sum(wait.seconds for wait in span.waits if wait.cause == "machine")
        until = span.finished_at if span.ready_at is None else span.ready_at
        ran = 0.0 if span.started_at is None or until is None else until - span.started_at
        seconds[span.path] = max(0.0, ran - held)
    ends = [span.finished_at for span in record.spans if span.started_at is not None and not span.forever]
    took = max((end for end in ends if end is not None), default=root.started_at) - root.started_at
    known = {job: seconds[path] for job, path in paths_of(root.scheduler).items() if path in seconds}
    scenario = Scenario(root.scheduler, known, root.window)
    return what_if(scenario, took, resource, sizes, policies, most)


def of_scheduler(
    scheduler: BaseScheduler,
    durations: Any = None,
    resource: str | None = None,
    sizes: Sequence[int | None] | None = None,
    policies: Sequence[PolicyName] | None = None,
) -> WhatIf:
    """Return what a run of a scheduler would take, by the expected durations of its jobs; see `what_if`."""
    check_scenario(scheduler)
    _simulate.refuse_endless(scheduler)
    _, known = _simulate.seconds_of(scheduler, durations)
    scenario = Scenario(scheduler, known, slots_of(scheduler.jobs_window))
    return what_if(scenario, None, resource, sizes, policies)


class Scenario:
    """A scheduler, how long its jobs take, and how it is run.

    Args:
        scheduler: it is only read.
        known: how long jobs take, as far as it is known; others take the median of these, or a second.
        window: how many of them at once, None for no limit.

    """

    def __init__(self, scheduler: BaseScheduler, known: Mapping[AnyJob, float], window: int | None) -> None:
        self.scheduler: Final = scheduler
        self.known: Final = dict(known)
        self.seconds: Final = _simulate.all_seconds(scheduler, self.known)
        self.window: Final = window
        self.policy: Final = _policy_of(scheduler)

    def simulations(self, policy: str, resource: str | None, sizes: Sequence[int | None]) -> Iterator[float]:
        """Yield how long it takes with each of these sizes."""
        given = policy if policy in POLICY_NAMES else None  # its own, which is the user's
        copy: ScenarioCopy | None = None
        with ThreadPoolExecutor(1, _simulate.THREADS) as thread, _simulate.unlogged():
            for size in sizes:
                window = size if resource is None else self.window
                if copy is None or resource is not None:
                    pool_of = _other_amount(resource, size)
                    copy = ScenarioCopy(self.scheduler, self.seconds, self.known, window, given, pool_of)
                thread.submit(_simulate.run, copy, window).result()
                jobs = [job for one, job in copy.copies.items() if one is not self.scheduler and not job.forever]
                ends: Iterable[float] = (job.finished_at for job in jobs if job.finished_at is not None)
                yield max(ends, default=0.0)


def what_if(
    scenario: Scenario,
    took: float | None,
    resource: str | None,
    sizes: Sequence[int | None] | None,
    policies: Sequence[PolicyName] | None,
    most: int = SIMULATED,
) -> WhatIf:
    """Return how long a scenario takes with each of these sizes and policies.

    Args:
        scenario: what is simulated.
        took: how long a run of it took; None if there was none.
        resource: of which there is more or less; None for the slots of the window.
        sizes: how many, None for no limit; default: some around those that there are.
        policies: which ones; default: that of the run, fifo and critical-path.
        most: about so many jobs are simulated in all, if `sizes` are not given.

    Raises:
        ValueError: there is no such resource, or a size or a policy is out of range.
        TypeError: a size is not a whole number.

    """
    own = scenario.policy
    names: list[str] = list(policies or dict.fromkeys([own, "fifo", "critical-path"]))
    for one in policies or ():
        checked_policy(one, "policies", repr(scenario.scheduler.label))
    now, least = _now(scenario, resource)
    chosen = _checked(sizes, resource, least) if sizes is not None else None
    simulated = next(scenario.simulations(own, resource, [now])) if took is not None else None
    if chosen is None:
        number = max(FEWEST, most // (max(1, len(scenario.seconds)) * len(names)))
        chosen = _usual_sizes(scenario, resource, now, least, number)
    points: list[WhatIfPoint] = []
    for name in names:
        found = scenario.simulations(name, resource, chosen)
        points += [WhatIfPoint(size, name, seconds) for size, seconds in zip(chosen, found, strict=True)]
    this = None if took is None else WhatIfPoint(now, own, took)
    bounds = lower_bounds(scenario.scheduler, scenario.seconds, scenario.window, resource, chosen)
    return WhatIf(resource, tuple(points), tuple(zip(chosen, bounds, strict=True)), this, simulated)


def _policy_of(scheduler: BaseScheduler) -> str:
    """Return the name of the policy that a run has: "auto" is one of two."""
    name = name_of_policy(scheduler.policy)
    if name != "auto":
        return name
    knows = any(job.expected_duration is not None for job in scheduler) or getattr(scheduler, "durations", None)
    return "critical-path" if knows else "fifo"


def _now(scenario: Scenario, resource: str | None) -> tuple[int | None, int]:
    """Return how large the window is, or how much there is of the resource; and the least that it can be.

    Raises:
        ValueError: there is no such resource, or it is not one that can be varied.

    """
    if resource is None:
        return scenario.window, 1
    jobs = [scenario.scheduler, *scenario.scheduler.iterate_jobs()]
    pools = [pool for job in jobs if (pool := getattr(job, "pool", None)) is not None]
    views = {view.name: view for pool in pools for view in resources_of(pool)}
    if resource not in views:
        there = f"there are {', '.join(map(repr, views))}" if views else "there is no pool"
        raise ValueError(f"what if there were more of {resource!r}: no pool has it; {there}")
    needed = [job.needs[resource] for job in jobs if job.needs and resource in job.needs]
    if views[resource].total is None:
        per_key = next(rate for pool in pools for name, rate in _rates(pool) if name == resource)
        return math.ceil(next(iter(per_key.limits.values()))), 1
    return math.ceil(views[resource].total or 0), max(1, math.ceil(max(needed, default=1)))


def _rates(pool: Pool) -> Iterator[tuple[str, Rate]]:
    yield from ((name, given) for name, given in settings_of(pool).items() if isinstance(given, Rate))


def _other_amount(resource: str | None, size: int | None) -> Callable[[dict[str, Any]], dict[str, Any]] | None:
    """Return what changes the settings of a pool so that there is so much of a resource."""
    if resource is None:
        return None

    def changed(settings: dict[str, Any]) -> dict[str, Any]:
        given = settings.get(resource)
        if given is None:
            return settings
        if isinstance(given, Rate):
            (first, limit), *others = given.limits.items()
            burst = {**given.burst, first: given.burst[first] * (size or limit) / limit}
            return {**settings, resource: Rate(per=given.per, burst=burst, **{first: size or limit}, **dict(others))}
        return {**settings, resource: size}

    return changed


def _checked(sizes: Sequence[int | None], resource: str | None, least: int) -> list[int | None]:
    """Check the sizes that a user gave, and return them in ascending order.

    Raises:
        TypeError, ValueError: see `what_if`.

    """
    for size in sizes:
        if size is None and resource is None:
            continue
        if size is None:
            raise ValueError(f"sizes: there is always a limit to {resource!r}: give whole numbers")
        if type(size) is not int:  # a bool is no number of slots
            raise TypeError(f"sizes: {size!r} is not a whole number")
        if size < least:
            why = "" if resource is None or least == 1 else f": a job needs {least} of {resource!r}"
            raise ValueError(f"sizes: {size!r} is less than {least}{why}")
    if not sizes:
        raise ValueError("sizes: there are none")
    limited = sorted({size for size in sizes if size is not None})
    return [*limited, *([None] if None in sizes else [])]


def _usual_sizes(
    scenario: Scenario, resource: str | None, now: int | None, least: int, number: int
) -> list[int | None]:
    """Return sizes from the least to where more cannot gain anything: 1, 2, 3, 4, 6, 8, 12, ...; and that of now."""
    jobs = sum(not job.forever for job in scenario.seconds)
    enough = jobs if resource is None else max(4 * (now or least), least)
    steps = itertools.chain((1,), (step << power for power in range(60) for step in (2, 3)))
    found: list[int] = [
        least,
        *(size for size in itertools.takewhile(lambda one: one < 2 * enough, steps) if size > least),
    ]
    bounds = lower_bounds(scenario.scheduler, scenario.seconds, scenario.window, resource, found)
    useful = next((place for place, bound in enumerate(bounds) if bound <= bounds[-1] * 1.0001), len(found) - 1)
    found = found[: useful + 4]  # no order is as good as the bound, so some more are of use
    around = {now, found[0], found[-1]} - {None}
    while len(set(found) | around) > number and len(found) > 2:
        found = found[::2] if len(found) > 3 else [found[0], found[-1]]
    sized = sorted({*found, *around} - {None}, key=lambda size: size or 0)
    return [*sized, *([None] if now is None and resource is None else [])]
