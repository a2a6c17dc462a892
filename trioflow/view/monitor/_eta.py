"""Estimates of a run's remaining time, from the expected and the measured durations of its jobs.

The estimate of a scheduler's remaining time is the largest of these times:

- The duration of its longest chain of remaining jobs.
- The sum of the durations of its remaining jobs, divided by the number of slots of its window.
- For each resource of its pool, the sum of amount times duration over the remaining jobs, divided by the total amount,
  and the time until a rate or a cooldown lets them start.

A nested scheduler counts as a job whose duration is the scheduler's own estimate. The estimates are computed from the
innermost schedulers outwards, in O(n) time for n unsettled jobs.

A job without an expected duration is assumed to take the median of the known durations. If no duration is known, each
job is assumed to take one unit of time. All remaining durations are multiplied by the ratio of measured to expected
durations of the jobs that have succeeded. If no duration is known, this is the time of a unit. The shortest jobs end
first, so the time that running jobs have had counts, too, if it is longer than a unit (Epstein and Sobel, 1953). While
the ratio is unknown, units cannot be converted to seconds, so there is no estimate, unless all remaining jobs report
progress. There is none either while an `Answer` without an expected duration remains.

A running job that reports progress is assumed to continue at its average speed so far.

`Forecast` queries an `Estimator` at intervals.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from ..._core.api.views import AnyJob, JobState, fraction_done, longest_path_lengths, max_slots, median_duration
from ._model import RunModel
from ._records import JobRecord, SchedulerRecord

MIN_SUCCEEDED_JOBS: Final = 3
"""The number of jobs that must have succeeded before there is an estimate, if no job has an expected duration."""
PRIOR_WEIGHT: Final = 0.1
"""A fraction of the total expected duration, added to both terms of the ratio of measured to expected durations.

It keeps the first few jobs from dominating the ratio.
"""


@dataclass(slots=True)
class ResourceBound:
    """The bound that one resource sets on the remaining time, because jobs share it."""

    total_amount: float
    """The total amount of the resource; infinity for a rate."""
    start_delay: Callable[[Iterable[AnyJob]], float]
    """A function that returns the seconds until a rate or a cooldown lets all of the given jobs start."""
    amounts: dict[JobRecord, float] = field(default_factory=dict[JobRecord, float])
    """The amount that each job needs, at any depth. Settled jobs are removed."""

    def remaining_seconds(self, seconds_left: dict[JobRecord, float]) -> float:
        """Return the minimum number of seconds that the remaining jobs take because they share the resource."""
        self.amounts = {job: amount for job, amount in self.amounts.items() if job in seconds_left}
        work = sum(amount * seconds_left[job] for job, amount in self.amounts.items())
        waiting = [job for job in self.amounts if _working_job(job).started_at is None]
        if not waiting:
            return work / self.total_amount
        delay = self.start_delay(_working_job(job).job for job in waiting)
        return max(work / self.total_amount, delay + min(seconds_left[job] for job in waiting))


@dataclass(slots=True)
class SchedulerLevel:
    """One scheduler and its jobs, in the form that an `Estimator` needs."""

    scheduler: SchedulerRecord
    jobs: list[JobRecord]
    """The unsettled jobs, without forever jobs, in topological order."""
    slot_count: float
    """The number of jobs that may run at once; infinity if there is no limit."""
    resource_bounds: list[ResourceBound]
    """The bounds of the resources in the scheduler's pool."""


def iterate_scheduler_levels(model: RunModel) -> Iterator[SchedulerLevel]:
    """Yield a `SchedulerLevel` for each scheduler of a run, each after that of its enclosing scheduler."""
    todo: list[tuple[SchedulerRecord, dict[str, ResourceBound]]] = [(model.root, {})]
    while todo:
        scheduler, enclosing_bounds = todo.pop()
        jobs = [job for job in model.topological_order(scheduler) if not job.forever]
        is_root = scheduler is model.root  # of an adaptive window, the current size, and further in the maximum
        slots = scheduler.scheduler.window_size if is_root else max_slots(scheduler.scheduler.jobs_window)
        own_bounds: dict[str, ResourceBound] = {}
        for resource in model.pool_resources(scheduler):
            total = math.inf if resource.total is None else resource.total
            own_bounds[resource.name] = ResourceBound(total, resource.start_delay)
        bounds_in_scope = {**enclosing_bounds, **own_bounds}
        for job in jobs if bounds_in_scope else ():
            for name, amount in (_working_job(job).job.needs or {}).items():
                if name in bounds_in_scope:
                    bounds_in_scope[name].amounts[job] = amount if isinstance(amount, (int, float)) else 1.0
        slot_count = math.inf if slots is None else max(1, slots)
        yield SchedulerLevel(scheduler, jobs, slot_count, [*own_bounds.values()])
        todo += [(job, bounds_in_scope) for job in jobs if isinstance(job, SchedulerRecord) and not job.is_first]


def _working_job(job: JobRecord) -> JobRecord:
    """Return the job itself or, for a `First`, the first of its jobs: it starts first, and of the others, few start."""
    while isinstance(job, SchedulerRecord) and job.is_first and job.members:
        job = next(iter(job.members))
    return job


class Estimator:
    """An estimator of the remaining time of one run. During the run, it can be queried any number of times."""

    def __init__(self, model: RunModel) -> None:
        self._clock: Final = model.clock
        self._levels: Final = list(iterate_scheduler_levels(model))
        known_durations: dict[JobRecord, float] = {}
        jobs = [job for level in self._levels for job in level.jobs if job.is_one_job]
        for level in self._levels:
            known_durations.update(model.expected_durations(level.scheduler))
        for job in filter(lambda job: job.is_first and job not in known_durations, jobs):
            working = _working_job(job)
            if working.enclosing is not None and working in (known := model.expected_durations(working.enclosing)):
                known_durations[job] = known[working]
        known_durations = {job: known_durations[job] for job in jobs if job in known_durations}
        default_duration = median_duration(known_durations.values())
        # The expected duration of each job and each scheduler, and of the longest chain of its successors, in seconds.
        self._expected_durations: Final = {job: known_durations.get(job, default_duration) for job in jobs}
        self._successor_chain_seconds: Final[dict[JobRecord, float]] = {}
        self._has_expected_durations: Final = bool(known_durations)
        # The number of jobs that have succeeded, and the sums of their measured and expected durations.
        self._succeeded_count = 0
        prior_seconds = PRIOR_WEIGHT * sum(self._expected_durations.values()) if known_durations else 0.0
        self._measured_seconds = self._expected_seconds = prior_seconds
        for level in reversed(self._levels):
            durations = {job: self._expected_durations[job] for job in level.jobs}
            paths = longest_path_lengths(level.jobs, model.required_members, durations, default_duration)
            self._successor_chain_seconds.update((job, path - durations[job]) for job, path in paths.items())
            self._expected_durations[level.scheduler] = max(
                0.0, *paths.values(), sum(durations.values()) / level.slot_count
            )

    def estimate_remaining_seconds(self) -> float | None:
        """Return the remaining seconds of the run, or None if they are unknown."""
        for level in self._levels:
            self._remove_settled_jobs(level)
        jobs = [job for level in self._levels for job in level.jobs if job.is_one_job]
        if not all(job.takes_slot or job.job.expected_duration is not None for job in jobs):
            return None  # a person is asked
        # The remaining seconds of jobs that report progress; those of nested schedulers are added below.
        seconds_left = {job: seconds for job in jobs if (seconds := self._reported_seconds_left(job)) is not None}
        if not self._has_expected_durations and self._succeeded_count < MIN_SUCCEEDED_JOBS:
            if not jobs or len(seconds_left) < len(jobs):
                return None
            duration_ratio = 1.0  # has no effect, because all remaining jobs report progress
        else:
            duration_ratio = self._duration_ratio(jobs)
        for level in reversed(self._levels):
            seconds_left[level.scheduler] = self._estimate_level(level, seconds_left, duration_ratio)
        return seconds_left[self._levels[0].scheduler]

    def _remove_settled_jobs(self, level: SchedulerLevel) -> None:
        jobs, level.jobs = level.jobs, []
        for job in jobs:
            started, finished = _working_job(job).started_at, job.finished_at
            if finished is None:
                level.jobs.append(job)
            elif started is not None and job.state is JobState.SUCCEEDED and job.is_one_job:
                self._succeeded_count += 1
                waits = () if job.outcome is None else (*job.outcome.machine_waits, *job.outcome.retry_waits)
                waited_seconds = sum(until - since for since, until in waits)
                self._measured_seconds += finished - started - waited_seconds
                self._expected_seconds += self._expected_durations[job]

    def _duration_ratio(self, jobs: Iterable[JobRecord]) -> float:
        """Return the ratio of measured to expected durations; `jobs` are those that have not settled."""
        measured, expected = self._measured_seconds, self._expected_seconds
        ratio = measured / expected if expected else 1.0
        if self._has_expected_durations or not expected:
            return ratio
        starts = (_working_job(job).started_at for job in jobs)
        seconds = (0.0 if started is None else self._clock() - started for started in starts)
        return (measured + sum(number for number in seconds if number > ratio)) / expected

    def _reported_seconds_left(self, job: JobRecord) -> float | None:
        """Return the remaining seconds of a running job if it reports progress."""
        started = job.started_at
        fraction = None if started is None else fraction_done(job.job)
        # After the first attempt, the speed is unknown, because `started_at` is the start of the first attempt.
        if started is None or not fraction or job.job.attempts > 1 or job.job.timed_out:
            return None
        seconds = self._clock() - started
        return seconds / fraction - seconds

    def _estimate_level(
        self, level: SchedulerLevel, seconds_left: dict[JobRecord, float], duration_ratio: float
    ) -> float:
        """Return the remaining seconds of one scheduler.

        Args:
            level: the scheduler.
            seconds_left: the remaining seconds of nested schedulers, and of jobs that report progress. Those of the
                other jobs are added.
            duration_ratio: the ratio of measured to expected durations.

        """
        now, longest_chain_seconds, work_seconds = self._clock(), 0.0, 0.0
        for job in level.jobs:
            started, chain_seconds = _working_job(job).started_at, duration_ratio * self._successor_chain_seconds[job]
            if (seconds := seconds_left.get(job)) is None:
                elapsed = 0.0 if started is None else now - started
                seconds = max(0.0, duration_ratio * self._expected_durations[job] - elapsed)
                seconds_left[job] = seconds
            longest_chain_seconds = max(longest_chain_seconds, seconds + chain_seconds)
            work_seconds += seconds
        resource_bounds = (bound.remaining_seconds(seconds_left) for bound in level.resource_bounds)
        return max(longest_chain_seconds, work_seconds / level.slot_count, *resource_bounds)


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
        self._estimator: Estimator | None = None
        self._graph_revision = -1
        self._has_expected_durations = False  # whether any job had an expected duration at `_graph_revision`
        self._next_estimate_at = -math.inf
        self._last_estimate: float | None = None  # in seconds
        self._last_estimate_at = 0.0

    def remaining_seconds(self) -> float | None:
        now = time.monotonic()
        if now >= self._next_estimate_at:
            # A RuntimeError means that the thread of the run changed the graph. The next picture tries again.
            with contextlib.suppress(RuntimeError):
                if self._can_estimate():
                    is_first_estimate = self._estimator is None
                    cpu_start = time.thread_time()
                    estimator = self._current_estimator()
                    cpu_start = time.thread_time() if is_first_estimate else cpu_start
                    self._last_estimate = estimator.estimate_remaining_seconds()
                    self._last_estimate_at = now
                    cpu_seconds = time.thread_time() - cpu_start
                    self._next_estimate_at = now + max(ESTIMATE_INTERVAL, PAUSE_FACTOR * cpu_seconds)
        return None if self._last_estimate is None else max(0.0, self._last_estimate - (now - self._last_estimate_at))

    def _can_estimate(self) -> bool:
        """Return whether an estimate, an expected duration, or progress is known, or enough jobs have succeeded."""
        model = self._model
        if (
            self._last_estimate is not None
            or model.root.counts.by_state[JobState.SUCCEEDED] - model.root.counts.restored.number >= MIN_SUCCEEDED_JOBS
        ):
            return True
        if self._graph_revision != model.graph_revision:
            self._graph_revision, self._estimator = model.graph_revision, None
            self._has_expected_durations = any(map(model.expected_durations, model.root.iterate_schedulers()))
        return self._has_expected_durations or any(fraction_done(job.job) for job in list(model.running_jobs))

    def _current_estimator(self) -> Estimator:
        model = self._model
        if self._estimator is None or self._graph_revision != model.graph_revision:
            revision = model.graph_revision
            self._estimator = Estimator(model)
            self._graph_revision = revision
        return self._estimator
