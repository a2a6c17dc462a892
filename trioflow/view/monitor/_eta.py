"""Estimates of a run's remaining time, from the expected and the measured durations of its jobs.

The estimate of a scheduler's remaining time is the largest of these times:

- The duration of its longest chain of remaining jobs.
- The makespan of its remaining jobs on the slots of its window, if each slot that becomes free takes the next job. This
  schedule ignores the requirements of the jobs. A schedule that observes them takes at most the sum of this time and
  the first one (Graham 1966).
- For each resource of its pool, the time that the remaining jobs take because they share the resource. For example, the
  resource may act like a number of slots: the number of jobs that can hold it at the same time. Rates and throttled
  keys become available at known times.

A nested scheduler counts as a job whose duration is the scheduler's own estimate. The estimates are computed from the
innermost schedulers outwards, in O(n log n) time for the n unsettled jobs of each scheduler.

A job without an expected duration is assumed to take the median of the known durations. If no duration is known, each
job is assumed to take one unit of time. All remaining durations are multiplied by the ratio of measured to expected
durations of the jobs that have succeeded. While this ratio is unknown, units cannot be converted to seconds, so there
is no estimate, unless all remaining jobs report progress.

A running job that reports progress is assumed to continue at its average speed so far.

`Estimator` is independent of monitors. Its jobs may be any objects, and the caller passes a function that returns the
progress of each job. `Forecast` queries an estimator at intervals for the run that a monitor shows.
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

from ..._core.api.views import JobState, longest_path_lengths, median_duration
from ._model import RunModel
from ._records import JobRecord, RunSource, SchedulerRecord

Node = TypeVar("Node", bound=Hashable)

MIN_SUCCEEDED_JOBS: Final = 3
"""The number of jobs that must have succeeded before there is an estimate, if no job has an expected duration."""

PRIOR_WEIGHT: Final = 0.1
"""A fraction of the total expected duration, added to both terms of the ratio of measured to expected durations.

It keeps the first few jobs from dominating the ratio.
"""

JobProgress = tuple[str, float, float | None]
"""A job's state, the number of seconds that the job has run, and the number of seconds that remain.

The state is `WAITING`, `RUNNING`, `SUCCEEDED`, or `SETTLED`, which stands for all other final states. The remaining
seconds are None unless the job reports progress.
"""

UnsettledJob = tuple[Node, float, float | None]
"""A job that has not settled, the number of seconds that it has run, and the number that remain (None if unknown)."""

WAITING: Final = "waiting"
RUNNING: Final = "running"
SUCCEEDED: Final = "succeeded"
SETTLED: Final = "settled"


@dataclass(slots=True)
class ResourceBound(Generic[Node]):
    """The bound that one resource of a pool sets on the remaining time.

    Args:
        jobs: the jobs that need the resource, at any depth.
        amount_needed: a function that returns the amount that a job needs.
        total_amount: the total amount of the resource; infinity for a rate.
        start_delay: a function that returns the seconds until a rate or a cooldown lets all of the given jobs start.

    """

    jobs: list[Node]
    amount_needed: Callable[[Node], float]
    total_amount: float = math.inf
    start_delay: Callable[[list[Node]], float] = lambda jobs: 0.0


@dataclass(slots=True)
class SchedulerLevel(Generic[Node]):
    """One scheduler and its jobs, in the form that an `Estimator` needs.

    Args:
        scheduler: the scheduler.
        jobs: the jobs of the scheduler, in topological order.
        required_members: a function that returns the jobs of the scheduler that a job requires.
        slot_count: the number of jobs that may run at once; infinity if there is no limit.
        nested_schedulers: those jobs that are schedulers.
        resource_bounds: the bounds of the resources in the scheduler's pool, and of those that the scheduler itself
            reserves for its jobs.
        is_longest_first: whether jobs start in the order of their longest chains of successors, instead of in the order
            of `jobs`.
        expected_durations: the expected duration of each job in seconds. The estimator sets this.
        successor_chain_seconds: the duration of each job's longest chain of successors. The estimator sets this.

    """

    scheduler: Node
    jobs: list[Node]
    required_members: Callable[[Node], Iterable[Node]]
    slot_count: float = math.inf
    nested_schedulers: frozenset[Node] = frozenset()
    resource_bounds: list[ResourceBound[Node]] = field(default_factory=list[ResourceBound[Node]])
    is_longest_first: bool = False
    expected_durations: dict[Node, float] = field(default_factory=dict[Node, float])
    successor_chain_seconds: dict[Node, float] = field(default_factory=dict[Node, float])


class Estimator(Generic[Node]):
    """An estimator of the remaining time of one run. During the run, it can be queried any number of times.

    Args:
        levels: the outermost scheduler and the nested schedulers, each after the scheduler that encloses it.
        expected_duration: a function that returns the expected duration of a job in seconds; None if it is unknown.

    """

    def __init__(
        self, levels: Iterable[SchedulerLevel[Node]], expected_duration: Callable[[Node], float | None]
    ) -> None:
        self._levels: Final = list(levels)
        jobs = [job for level in self._levels for job in level.jobs if job not in level.nested_schedulers]
        known_durations = {job: seconds for job in jobs if (seconds := expected_duration(job)) is not None}
        default_duration = median_duration(known_durations.values())
        unknown_count = len(jobs) - len(known_durations)
        self._expected_total_seconds: Final = sum(known_durations.values()) + default_duration * unknown_count
        self._has_expected_durations: Final = bool(known_durations)
        # The number of jobs that have succeeded, and the sums of their measured and expected durations.
        self._succeeded_count = 0
        self._measured_seconds = self._expected_seconds = 0.0
        scheduler_durations: dict[Node, float] = {}  # the expected duration of each scheduler, in seconds
        for level in reversed(self._levels):
            level.expected_durations = {
                job: scheduler_durations[job]
                if job in level.nested_schedulers
                else known_durations.get(job, default_duration)
                for job in level.jobs
            }
            paths = longest_path_lengths(level.jobs, level.required_members, level.expected_durations, default_duration)
            level.successor_chain_seconds = {job: path - level.expected_durations[job] for job, path in paths.items()}
            scheduler_durations[level.scheduler] = max(
                0.0, *paths.values(), sum(level.expected_durations.values()) / level.slot_count
            )

    def estimate_remaining_seconds(self, progress: Callable[[Node], JobProgress]) -> float | None:
        """Return the remaining seconds of the run, or None if they are unknown; `progress` returns a job's progress."""
        unsettled_by_level = [list(self._iterate_unsettled(level, progress)) for level in self._levels]
        duration_ratio = self._duration_ratio()
        if duration_ratio is None:
            reported = [
                seconds_left
                for level, unsettled in zip(self._levels, unsettled_by_level, strict=True)
                for job, _, seconds_left in unsettled
                if job not in level.nested_schedulers
            ]
            if not reported or None in reported:
                return None
            duration_ratio = 1.0  # has no effect, because all remaining jobs report progress
        seconds_by_scheduler: dict[Node, float] = {}  # the remaining seconds of each scheduler
        remaining_work: dict[Node, RemainingWork] = {}
        for level, unsettled in zip(reversed(self._levels), reversed(unsettled_by_level), strict=True):
            seconds_by_scheduler[level.scheduler] = _estimate_level(
                level, unsettled, seconds_by_scheduler, duration_ratio, remaining_work
            )
        return seconds_by_scheduler[self._levels[0].scheduler] if self._levels else 0.0

    def _iterate_unsettled(
        self, level: SchedulerLevel[Node], progress: Callable[[Node], JobProgress]
    ) -> Iterator[UnsettledJob[Node]]:
        """Yield the unsettled jobs with their elapsed and remaining seconds, and remove settled jobs from the level."""
        jobs, level.jobs = level.jobs, []
        for job in jobs:
            state, seconds, seconds_left = progress(job)
            if state is WAITING or state is RUNNING:
                level.jobs.append(job)
                yield job, seconds, seconds_left
            elif state is SUCCEEDED and job not in level.nested_schedulers:
                self._succeeded_count += 1
                self._measured_seconds += seconds
                self._expected_seconds += level.expected_durations[job]

    def _duration_ratio(self) -> float | None:
        """Return the ratio of measured to expected durations.

        Return None if no job has an expected duration, and too few jobs have succeeded.
        """
        prior_seconds = PRIOR_WEIGHT * self._expected_total_seconds if self._has_expected_durations else 0.0
        if not self._has_expected_durations and self._succeeded_count < MIN_SUCCEEDED_JOBS:
            return None
        return (
            (prior_seconds + self._measured_seconds) / (prior_seconds + self._expected_seconds)
            if prior_seconds + self._expected_seconds
            else 1.0
        )


def _estimate_level(
    level: SchedulerLevel[Node],
    unsettled: list[UnsettledJob[Node]],
    seconds_by_scheduler: dict[Node, float],
    duration_ratio: float,
    remaining_work: dict[Node, RemainingWork],
) -> float:
    """Return the remaining seconds of one scheduler, and add its unsettled jobs to `remaining_work`.

    Args:
        level: the scheduler.
        unsettled: the unsettled jobs of the scheduler.
        seconds_by_scheduler: the remaining seconds of each nested scheduler.
        duration_ratio: the ratio of measured to expected durations.
        remaining_work: the remaining work of the unsettled jobs in the levels estimated so far.

    """
    longest_chain_seconds = 0.0
    level_work: list[RemainingWork] = []
    for job, seconds, seconds_left in unsettled:
        if job in level.nested_schedulers:
            seconds_left = seconds_by_scheduler[job]
        elif seconds_left is None:
            seconds_left = max(0.0, duration_ratio * level.expected_durations[job] - seconds)
        chain_seconds = duration_ratio * level.successor_chain_seconds[job]
        longest_chain_seconds = max(longest_chain_seconds, seconds_left + chain_seconds)
        remaining_work[job] = work = (
            (-math.inf if seconds else -seconds_left - chain_seconds if level.is_longest_first else 0.0),
            seconds_left,
        )
        level_work.append(work)
    return max(
        [
            longest_chain_seconds,
            _list_schedule_makespan(level_work, level.slot_count),
            *(_resource_lower_bound(bound, remaining_work) for bound in level.resource_bounds),
        ]
    )


RemainingWork = tuple[float, float]
"""A job's sort key, which follows the order in which waiting jobs start, and the job's remaining seconds.

The key of a running job is -inf.
"""


def _list_schedule_makespan(remaining_work: list[RemainingWork], slot_count: float) -> float:
    """Return the makespan of these jobs, in seconds, if each slot that becomes free takes the next job.

    Requirements between the jobs are ignored. This takes O(n log n) time.
    """
    if not remaining_work or slot_count >= len(remaining_work):
        return max((seconds_left for _, seconds_left in remaining_work), default=0.0)
    slot_ends = [0.0] * int(slot_count)
    for _, seconds_left in sorted(remaining_work, key=itemgetter(0)):
        heapq.heapreplace(slot_ends, slot_ends[0] + seconds_left)
    return max(slot_ends)


def _resource_lower_bound(bound: ResourceBound[Node], remaining_work: dict[Node, RemainingWork]) -> float:
    """Return the minimum number of seconds that the remaining jobs take because they share a resource.

    This is the largest of these bounds:

    - The sum of amount times remaining duration over all jobs, divided by the total amount.
    - If all jobs need the same amount, the makespan on as many slots as there are jobs that can hold the resource at
      the same time.
    - If some jobs have not started, the delay until all of them may start, plus the shortest of their remaining
      durations.
    """
    bound.jobs = [job for job in bound.jobs if job in remaining_work]
    if not bound.jobs:
        return 0.0
    amounts = [bound.amount_needed(job) for job in bound.jobs]
    holders = [remaining_work[job] for job in bound.jobs]
    work_seconds = (
        sum(amount * seconds_left for amount, (_, seconds_left) in zip(amounts, holders, strict=True))
        / bound.total_amount
    )
    has_equal_amounts = bound.total_amount < math.inf and min(amounts) == max(amounts)
    makespan = _list_schedule_makespan(holders, bound.total_amount // amounts[0]) if has_equal_amounts else 0.0
    waiting = [job for job in bound.jobs if remaining_work[job][0] > -math.inf]
    shortest = min((remaining_work[job][1] for job in waiting), default=0.0)
    return max(work_seconds, makespan, bound.start_delay(waiting) + shortest if waiting else 0.0)


ESTIMATE_INTERVAL: Final = 1.0
"""The minimum number of seconds between two estimates."""
PAUSE_FACTOR: Final = 500
"""The minimum pause between two estimates, as a multiple of the CPU time that one estimate takes."""


class Forecast:
    """A forecast of the remaining time of the run that a monitor shows.

    The remaining time is the latest estimate, minus the time that has passed since that estimate.

    Building an estimator for a large graph takes a long time, so no estimator is built until there are durations to
    estimate from. The time that it takes to build the first estimator does not lengthen the pause before the next
    estimate.
    """

    def __init__(self, model: RunModel) -> None:
        self._model: Final = model
        self._estimator: Estimator[JobRecord] | None = None
        self._graph_revision = -1
        self._has_expected_durations = False  # whether any job had an expected duration at `_graph_revision`
        self._next_estimate_at = -math.inf
        self._last_estimate: float | None = None  # in seconds
        self._last_estimate_at = 0.0

    def remaining_seconds(self) -> float | None:
        """Return the remaining seconds of the run; None if unknown."""
        now = time.monotonic()
        if now >= self._next_estimate_at:
            # A RuntimeError means that the thread of the run changed the graph. The next picture tries again.
            with contextlib.suppress(RuntimeError):
                if self._can_estimate():
                    is_first_estimate = self._estimator is None
                    cpu_start = time.thread_time()
                    estimator = self._current_estimator()
                    cpu_start = time.thread_time() if is_first_estimate else cpu_start
                    self._last_estimate = estimator.estimate_remaining_seconds(self._job_progress)
                    self._last_estimate_at = now
                    cpu_seconds = time.thread_time() - cpu_start
                    self._next_estimate_at = now + max(ESTIMATE_INTERVAL, PAUSE_FACTOR * cpu_seconds)
        return None if self._last_estimate is None else max(0.0, self._last_estimate - (now - self._last_estimate_at))

    def _can_estimate(self) -> bool:
        """Return whether an estimate, an expected duration, or progress is known, or enough jobs have succeeded."""
        model = self._model
        if (
            self._last_estimate is not None
            or model.root_counts.by_state[JobState.SUCCEEDED] - model.root_counts.restored.number >= MIN_SUCCEEDED_JOBS
        ):
            return True
        if self._graph_revision != model.graph_revision:
            self._graph_revision, self._estimator = model.graph_revision, None
            self._has_expected_durations = any(map(model.source.expected_durations, model.root.iterate_schedulers()))
        return self._has_expected_durations or any(map(self._query_fraction_done, list(model.running_jobs)))

    def _current_estimator(self) -> Estimator[JobRecord]:
        model = self._model
        if self._estimator is None or self._graph_revision != model.graph_revision:
            revision = model.graph_revision
            levels = list(iterate_scheduler_levels(model.source, model.root))
            known_durations: dict[JobRecord, float] = {}
            for scheduler in model.root.iterate_schedulers():
                known_durations.update(model.source.expected_durations(scheduler))
            self._estimator = Estimator(levels, known_durations.get)
            self._graph_revision = revision
        return self._estimator

    def _job_progress(self, job: JobRecord) -> JobProgress:
        """Return the state of a job, its elapsed seconds, and its remaining seconds if it reports progress."""
        started, finished = job.started_at, job.finished_at
        if finished is not None:
            if started is not None and job.state is JobState.SUCCEEDED:
                return SUCCEEDED, finished - started - sum(until - since for since, until in job.machine_waits), None
            return SETTLED, 0.0, None
        if started is None:
            return WAITING, 0.0, None
        seconds = self._model.clock() - started
        fraction = self._query_fraction_done(job)
        # After the first attempt, the speed is unknown, because `started_at` is the start of the first attempt.
        if not fraction or job.attempts > 1 or job.timed_out:
            return RUNNING, seconds, None
        return RUNNING, seconds, seconds / fraction - seconds

    def _query_fraction_done(self, job: JobRecord) -> float | None:
        self._model.source.update_progress(job)
        return job.fraction_done


def iterate_scheduler_levels(source: RunSource, root: SchedulerRecord) -> Iterator[SchedulerLevel[JobRecord]]:
    """Yield a `SchedulerLevel` for each scheduler of a run, the outermost first; forever jobs are omitted."""
    todo: list[tuple[SchedulerRecord, dict[str, ResourceBound[JobRecord]]]] = [(root, {})]
    while todo:
        scheduler, enclosing_bounds = todo.pop()
        jobs = [job for job in source.topological_order(scheduler) if not job.forever]
        nested = [job for job in jobs if isinstance(job, SchedulerRecord)]
        slots = source.root_slot_count if scheduler is root else source.slot_count(scheduler)
        own_bounds = dict(_iterate_resource_bounds(source, scheduler, is_nested=scheduler is not root))
        bounds_in_scope = {**enclosing_bounds, **own_bounds}
        for job in jobs if bounds_in_scope else ():
            for name in source.job_needs(job):
                if name in bounds_in_scope:
                    bounds_in_scope[name].jobs.append(job)
        yield SchedulerLevel(
            scheduler,
            jobs,
            source.required_members,
            math.inf if slots is None else max(1, slots),
            frozenset(nested),
            [*own_bounds.values()],
            source.is_longest_first(scheduler),
        )
        todo += [(nested_scheduler, bounds_in_scope) for nested_scheduler in nested]


def _iterate_resource_bounds(
    source: RunSource, scheduler: SchedulerRecord, *, is_nested: bool
) -> Iterator[tuple[str, ResourceBound[JobRecord]]]:
    """Yield the name and the bound of each resource that a scheduler reserves for its jobs, or has in its pool."""
    for name, amount in source.job_needs(scheduler).items() if is_nested else ():
        if isinstance(amount, (int, float)):  # a dict is an amount of a rate, which cannot be reserved
            yield name, ResourceBound([], partial(_amount_needed, source, name), amount)
    for resource in source.pool_resources(scheduler):
        total = math.inf if resource.total is None else resource.total
        yield (
            resource.name,
            ResourceBound(
                [], partial(_amount_needed, source, resource.name), total, partial(source.start_delay, resource)
            ),
        )


def _amount_needed(source: RunSource, name: str, job: JobRecord) -> float:
    amount = source.job_needs(job)[name]
    return amount if isinstance(amount, (int, float)) else 1.0
