"""Estimates of a run's remaining time, from the expected and the measured durations of its jobs.

A scheduler needs at least the time of its longest chain of remaining jobs. It also needs at least the time of a list
schedule of the remaining jobs on the slots of its window, in which each free slot takes the next job. A resource of
its pool bounds the time in the same way: it is like slots, as many as jobs can hold it at once. Rates and throttled
keys become available at known times. The estimate is the largest of these bounds (Graham 1966: a list schedule takes
at most the sum of the first two). A nested scheduler counts as a job that takes the scheduler's own estimate.
The estimates are computed from the innermost schedulers outwards, in O(n log slots) for n unsettled jobs of each.

A job without an expected duration counts with the median of the known ones; if none is known, each job takes one unit
of time. All remaining durations are multiplied by the ratio of measured to expected durations among the jobs that have
succeeded. Without that ratio a unit is not a number of seconds, and there is no estimate.

A running job that reports progress is assumed to continue at the same speed.

`Estimator` is independent of monitors: it works on `Level`s of any nodes, and a function returns the state of each.
`Forecast` evaluates it at intervals for the run of a monitor.
"""

from __future__ import annotations

import contextlib
import heapq
import math
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import Final, Generic, TypeVar

from ..._core.api.views import JobState, longest_paths, median_duration
from ._model import Model
from ._records import JobRecord, SchedulerRecord, Source

Node = TypeVar("Node", bound=Hashable)

MIN_SUCCEEDED: Final = 3
"""The number of jobs that must have succeeded before there is an estimate, if no job has an expected duration."""

PRIOR_WEIGHT: Final = 0.1
"""The weight of the expected durations relative to the measured ones, as a fraction of the sum of all durations."""

Progress = tuple[str, float, float | None]
"""A job's state, the seconds that it has run, and its remaining seconds.

The state is WAITING, RUNNING, SUCCEEDED, or SETTLED for all other final states. The remaining seconds are None unless
the job reports progress.
"""

Unsettled = tuple[Node, float, float | None]
"""A job that has not settled, the seconds that it has run, and its remaining seconds, or None if unknown."""

WAITING: Final = "waiting"
RUNNING: Final = "running"
SUCCEEDED: Final = "succeeded"
SETTLED: Final = "settled"


@dataclass(slots=True)
class PoolBound(Generic[Node]):
    """The bound that one resource of a pool sets on the remaining time.

    Args:
        jobs: the jobs that need the resource, at any depth.
        needs: returns the amount that a job needs.
        total: the total amount of the resource; infinity for a rate.
        opens_in: returns the seconds until a rate or a cooldown lets the given jobs start.

    """

    jobs: list[Node]
    needs: Callable[[Node], float]
    total: float = math.inf
    opens_in: Callable[[list[Node]], float] = lambda jobs: 0.0


@dataclass(slots=True)
class Level(Generic[Node]):
    """The jobs of one scheduler, as the estimator sees them.

    Args:
        node: the scheduler.
        jobs: its jobs in topological order.
        waits_for: returns the requirements of a job in the same scheduler.
        slots: the number of jobs that may run at once; infinity for no limit.
        nested: the jobs that are schedulers.
        limits: the resources of its pool, and the resources that it reserves for its jobs.
        longest_first: whether the job with the longest chain of successors starts first, instead of the first in
            `jobs`.
        expected: the expected duration of each job in seconds; set by the estimator.
        chain_after: the duration of each job's longest chain of successors; set by the estimator.

    """

    node: Node
    jobs: list[Node]
    waits_for: Callable[[Node], Iterable[Node]]
    slots: float = math.inf
    nested: frozenset[Node] = frozenset()
    limits: list[PoolBound[Node]] = field(default_factory=list[PoolBound[Node]])
    longest_first: bool = False
    expected: dict[Node, float] = field(default_factory=dict[Node, float])
    chain_after: dict[Node, float] = field(default_factory=dict[Node, float])


class Estimator(Generic[Node]):
    """An estimator for one graph, whose `remaining` is called repeatedly during the run.

    Args:
        levels: the outermost scheduler and the nested ones, each after the scheduler that encloses it.
        expected: returns the expected duration of a job in seconds; None if unknown.

    """

    def __init__(self, levels: Iterable[Level[Node]], expected: Callable[[Node], float | None]) -> None:
        self._levels: Final = list(levels)
        jobs = [job for level in self._levels for job in level.jobs if job not in level.nested]
        known = {job: seconds for job in jobs if (seconds := expected(job)) is not None}
        default = median_duration(known.values())
        self._total: Final = sum(known.values()) + default * (len(jobs) - len(known))
        self._is_known: Final = bool(known)
        # Measured and expected seconds of the jobs that have succeeded, and the number of these jobs.
        self._measured = self._predicted = 0.0
        self._succeeded = 0
        durations: dict[Node, float] = {}  # the expected durations of schedulers
        for level in reversed(self._levels):
            level.expected = {
                job: durations[job] if job in level.nested else known.get(job, default) for job in level.jobs
            }
            paths = longest_paths(level.jobs, level.waits_for, level.expected, default)
            level.chain_after = {job: path - level.expected[job] for job, path in paths.items()}
            durations[level.node] = max(0.0, *paths.values(), sum(level.expected.values()) / level.slots)

    def remaining(self, progress: Callable[[Node], Progress]) -> float | None:
        """Return the remaining seconds of the run; None if unknown."""
        states = [list(self._unsettled(level, progress)) for level in self._levels]
        factor = self._factor()
        if factor is None:
            reported = [
                seconds_left
                for level, state in zip(self._levels, states, strict=True)
                for job, _, seconds_left in state
                if job not in level.nested
            ]
            if not reported or None in reported:
                return None
            factor = 1.0  # unused: all remaining jobs report progress
        nested: dict[Node, float] = {}  # the remaining seconds of each scheduler
        works: dict[Node, Work] = {}
        for level, state in zip(reversed(self._levels), reversed(states), strict=True):
            nested[level.node] = _remaining_in_level(level, state, nested, factor, works)
        return nested[self._levels[0].node] if self._levels else 0.0

    def _unsettled(self, level: Level[Node], progress: Callable[[Node], Progress]) -> Iterator[Unsettled[Node]]:
        """Yield the unsettled jobs with their elapsed and remaining seconds; remove settled jobs from the level."""
        jobs, level.jobs = level.jobs, []
        for job in jobs:
            state, seconds, seconds_left = progress(job)
            if state is WAITING or state is RUNNING:
                level.jobs.append(job)
                yield job, seconds, seconds_left
            elif state is SUCCEEDED and job not in level.nested:
                self._succeeded += 1
                self._measured += seconds
                self._predicted += level.expected[job]

    def _factor(self) -> float | None:
        """Return the ratio of measured to expected durations; None if too few jobs have succeeded to know it."""
        prior = PRIOR_WEIGHT * self._total if self._is_known else 0.0
        if not self._is_known and self._succeeded < MIN_SUCCEEDED:
            return None
        return (prior + self._measured) / (prior + self._predicted) if prior + self._predicted else 1.0


def _remaining_in_level(
    level: Level[Node],
    state: list[Unsettled[Node]],
    nested: dict[Node, float],
    factor: float,
    works: dict[Node, Work],
) -> float:
    """Return the remaining seconds of one scheduler, and add its jobs to `works`.

    Args:
        level: the scheduler's jobs.
        state: its unsettled jobs.
        nested: the remaining seconds of the nested schedulers.
        factor: the ratio of measured to expected durations.
        works: the unsettled jobs of all levels so far.

    """
    path = 0.0
    own: list[Work] = []
    for job, seconds, seconds_left in state:
        if job in level.nested:
            seconds_left = nested[job]
        elif seconds_left is None:
            seconds_left = max(0.0, factor * level.expected[job] - seconds)
        behind = factor * level.chain_after[job]
        path = max(path, seconds_left + behind)
        works[job] = work = (
            (-math.inf if seconds else -seconds_left - behind if level.longest_first else 0.0),
            seconds_left,
        )
        own.append(work)
    return max([path, _list_schedule(own, level.slots), *(_resource_time(limit, works) for limit in level.limits)])


Work = tuple[float, float]
"""An unsettled job's position in the start order, negative infinity if it runs, and its remaining seconds."""


def _list_schedule(works: list[Work], slots: float) -> float:
    """Return the makespan of a list schedule of these jobs: each free slot takes the next job. O(n log n)."""
    if not works or slots >= len(works):
        return max((seconds_left for _, seconds_left in works), default=0.0)
    ends = [0.0] * int(slots)
    for _, seconds_left in sorted(works, key=itemgetter(0)):
        heapq.heapreplace(ends, ends[0] + seconds_left)
    return max(ends)


def _resource_time(limit: PoolBound[Node], works: dict[Node, Work]) -> float:
    """Return the time that the jobs need because they share a resource.

    If all jobs need the same amount, the resource is like a number of slots. Otherwise, only the sum of the amounts
    over time counts.
    """
    limit.jobs = [job for job in limit.jobs if job in works]
    if not limit.jobs:
        return 0.0
    needed = [limit.needs(job) for job in limit.jobs]
    holders = [works[job] for job in limit.jobs]
    volume = sum(amount * seconds_left for amount, (_, seconds_left) in zip(needed, holders, strict=True)) / limit.total
    is_like_slots = limit.total < math.inf and min(needed) == max(needed)
    makespan = _list_schedule(holders, limit.total // needed[0]) if is_like_slots else 0.0
    waiting = [job for job in limit.jobs if works[job][0] > -math.inf]
    last = min((works[job][1] for job in waiting), default=0.0)
    return max(volume, makespan, limit.opens_in(waiting) + last if waiting else 0.0)


INTERVAL: Final = 1.0
"""The minimum number of seconds between two estimates."""
PAUSE_FACTOR: Final = 500
"""The pause between two estimates as a multiple of the CPU time of one."""


class Forecast:
    """The estimates for the run of a monitor; between two of them, the last one is counted down.

    The estimator of a large graph takes long to build, so it is built only when there are durations to estimate from.
    The time to build it the first time does not lengthen the pause between two estimates.
    """

    def __init__(self, model: Model) -> None:
        self._model: Final = model
        self._estimator: Estimator[JobRecord] | None = None
        self._revision = -1
        self._has_known = False  # whether a job had an expected duration at `_revision`
        self._next_estimate = -math.inf
        self._last_estimate: float | None = None
        self._estimated_at = 0.0  # the time of the last estimate

    def remaining(self) -> float | None:
        """Return the remaining seconds of the run; None if unknown."""
        now = time.monotonic()
        if now >= self._next_estimate:
            with contextlib.suppress(RuntimeError):  # the run has changed the graph meanwhile: try again next time
                if self._can_estimate():
                    is_first = self._estimator is None
                    began = time.thread_time()
                    estimator = self._current_estimator()
                    began = time.thread_time() if is_first else began
                    self._last_estimate, self._estimated_at = estimator.remaining(self._progress), now
                    self._next_estimate = now + max(INTERVAL, PAUSE_FACTOR * (time.thread_time() - began))
        return None if self._last_estimate is None else max(0.0, self._last_estimate - (now - self._estimated_at))

    def _can_estimate(self) -> bool:
        """Return whether a job has an expected duration or reports progress, or enough jobs have succeeded."""
        model = self._model
        if (
            self._last_estimate is not None
            or model.tally.settled[JobState.SUCCEEDED] - model.tally.restored >= MIN_SUCCEEDED
        ):
            return True
        if self._revision != model.revision:
            self._revision, self._estimator = model.revision, None  # the jobs have changed
            self._has_known = any(map(model.source.expected_durations, list(model.tallies)))
        return self._has_known or any(map(self._fraction, list(model.running)))

    def _current_estimator(self) -> Estimator[JobRecord]:
        model = self._model
        if self._estimator is None or self._revision != model.revision:
            revision = model.revision
            graph = list(levels(model.source, model.root))
            known: dict[JobRecord, float] = {}
            for scheduler in list(model.tallies):
                known.update(model.source.expected_durations(scheduler))
            self._estimator = Estimator(graph, known.get)
            self._revision = revision
        return self._estimator

    def _progress(self, job: JobRecord) -> Progress:
        """Return the progress of a job for the estimator."""
        started, finished = job.started_at, job.finished_at
        if finished is not None:
            if started is not None and job.state is JobState.SUCCEEDED:
                return SUCCEEDED, finished - started - sum(until - since for since, until in job.held), None
            return SETTLED, 0.0, None
        if started is None:
            return WAITING, 0.0, None
        seconds = self._model.clock() - started
        fraction = self._fraction(job)
        if not fraction or job.attempts > 1 or job.timed_out:  # the current attempt began after `started_at`
            return RUNNING, seconds, None
        return RUNNING, seconds, seconds / fraction - seconds

    def _fraction(self, job: JobRecord) -> float | None:
        self._model.source.update_progress(job)
        return job.fraction_done


def levels(source: Source, root: SchedulerRecord) -> Iterator[Level[JobRecord]]:
    """Yield the levels of a run, the outermost first, without forever jobs."""
    todo: list[tuple[SchedulerRecord, dict[str, PoolBound[JobRecord]]]] = [(root, {})]
    while todo:
        scheduler, outer_limits = todo.pop()
        jobs = [job for job in source.in_order(scheduler) if not job.forever]
        nested = [job for job in jobs if isinstance(job, SchedulerRecord)]
        own = source.window if scheduler is root else source.slots_in(scheduler)
        limits = dict(_limits(source, scheduler, is_nested=scheduler is not root))
        scope = {**outer_limits, **limits}
        for job in jobs if scope else ():
            for name in source.needs_of(job):
                if name in scope:
                    scope[name].jobs.append(job)
        yield Level(
            scheduler,
            jobs,
            source.waits_for,
            math.inf if own is None else max(1, own),
            frozenset(nested),
            [*limits.values()],
            source.is_longest_first(scheduler),
        )
        todo += [(inner, scope) for inner in nested]


def _limits(
    source: Source, scheduler: SchedulerRecord, *, is_nested: bool
) -> Iterator[tuple[str, PoolBound[JobRecord]]]:
    """Yield the names and bounds of the resources that a scheduler has for its jobs."""
    for name, amount in source.needs_of(scheduler).items() if is_nested else ():
        if isinstance(amount, (int, float)):  # rates, which have a dict by key, are never reserved for members
            yield name, PoolBound([], partial(_amount_needed, source, name), amount)
    for resource in source.resources_in(scheduler):
        total = math.inf if resource.total is None else resource.total
        yield (
            resource.name,
            PoolBound([], partial(_amount_needed, source, resource.name), total, partial(source.opens_in, resource)),
        )


def _amount_needed(source: Source, name: str, job: JobRecord) -> float:
    amount = source.needs_of(job)[name]
    return amount if isinstance(amount, (int, float)) else 1.0
