"""The analysis of a scenario by the critical path method: longest paths, slack, and a lower bound of the makespan."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from .._core.api import topological_order
from .._core.api.views import (
    AnyJob,
    BaseScheduler,
    Retry,
    all_requirements,
    criticality,
    enclosing_schedulers,
    essential_requirements,
    first_options,
    inputs_of,
    is_scheduler,
    is_service,
    longest_path_lengths,
    max_slots,
)
from ._scenario_copy import is_limiter


def analyze_schedulers(
    scheduler: BaseScheduler, durations: dict[AnyJob, float], window: Any
) -> dict[BaseScheduler, PathAnalysis]:
    """Return the analysis of each scheduler, nested schedulers before the enclosing ones.

    Args:
        scheduler: the outermost scheduler.
        durations: the durations of all jobs.
        window: the window of the outermost scheduler.

    """
    schedulers = [scheduler, *(job for job in scheduler.iterate_jobs() if is_scheduler(job))]
    distant_inputs = {
        member
        for job in scheduler.iterate_jobs()
        for source in inputs_of(job)
        if source.scheduler is not job.scheduler
        for member in (source, *enclosing_schedulers(source))
    }
    known = _KnownFacts(durations, distant_inputs, _find_unpaid_jobs(schedulers))
    for current in reversed(schedulers):  # nested schedulers first
        analyzer = _PathAnalyzer(current, known)
        known.analyses[current] = analyzer.analyze(window if current is scheduler else current.jobs_window)
    return known.analyses


@dataclass(frozen=True, slots=True)
class _KnownFacts:
    durations: Mapping[AnyJob, float]
    """The durations of all jobs, without their timeouts."""
    distant_inputs: set[AnyJob]
    """The jobs that are inputs of jobs in other schedulers, and the schedulers that enclose them."""
    unpaid: set[AnyJob]
    """The jobs that a budget may block."""
    analyses: dict[BaseScheduler, PathAnalysis] = field(default_factory=dict[BaseScheduler, "PathAnalysis"])
    work_durations: dict[AnyJob, float] = field(default_factory=dict[AnyJob, float])


def slot_users(scheduler: BaseScheduler, window: Any) -> list[AnyJob]:
    """Return the jobs that take slots of a scheduler's window, which are never forever jobs.

    If the window is a limiter, these are the jobs at any depth that are not schedulers, except those in a nested
    scheduler with another limiter. Otherwise, they are the members of the scheduler.
    """
    if not is_limiter(window):
        return [job for job in scheduler if not job.forever]
    jobs: list[AnyJob] = []
    schedulers = [scheduler]
    for current in schedulers:  # the loop appends nested schedulers to the list
        for job in current:
            if job.forever:
                continue
            if not is_scheduler(job):
                jobs.append(job)
            elif job.jobs_window is window or not is_limiter(job.jobs_window):
                schedulers.append(job)
    return jobs


def _find_unpaid_jobs(schedulers: list[BaseScheduler]) -> set[AnyJob]:
    """Return the jobs that need a budget, which may be spent before they start."""
    return {
        job
        for scheduler in schedulers
        for job in scheduler
        for current in (scheduler, *enclosing_schedulers(scheduler))
        if current.pool is not None and not current.pool.budgets.keys().isdisjoint(job.needs or ())
    }


@dataclass(frozen=True, slots=True, eq=False)
class PathAnalysis:
    """The longest paths through the jobs of one scheduler, and a lower bound of its makespan."""

    last_job: AnyJob | None
    """The last job of the longest path; None if there are no jobs."""
    latest_predecessors: Mapping[AnyJob, AnyJob | None]
    """For each job, its predecessor on the longest path to it."""
    slack: Mapping[AnyJob, float]
    """The seconds by which each job could take longer without making the longest path longer."""
    untimed_bound: float
    """The lower bound without the scheduler's own timeout."""
    lower_bound: float
    deviates_at: float
    """The earliest time at which a timeout, of the scheduler or of a job, has an effect that depends on the order."""
    may_fail: bool
    """Whether the scheduler fails because one of its jobs does, or may do so, if it is a `First`."""

    def critical_path(self, analyses: Mapping[BaseScheduler, PathAnalysis]) -> list[AnyJob]:
        """Return the jobs of the longest path, in which nested schedulers are replaced by their longest paths."""
        path: list[AnyJob] = []
        stack: list[AnyJob] = self._reversed_path()
        while stack:
            job = stack.pop()
            if is_scheduler(job):
                stack += analyses[job]._reversed_path()
            else:
                path.append(job)
        return path

    def _reversed_path(self) -> list[AnyJob]:
        path: list[AnyJob] = []
        job = self.last_job
        while job is not None:
            path.append(job)
            job = self.latest_predecessors[job]
        return path


class _PathAnalyzer:
    """The analysis of one scheduler, in O(V + E) time: a pass over its jobs in topological order, then the bounds.

    The paths are found by the critical path method (Kelley and Walker 1959). The lower bound is the maximum of the
    following: the length of the longest path, and the work of all jobs divided by the number of slots. A nested
    scheduler counts as a job that takes its own lower bound. A job that exceeds its timeout in any order takes as long
    as its timeout allows, and jobs that need its success take no time. The time of other effects of timeouts, such as
    the end of a run, depends on the order; the lower bound is at most the earliest time at which there can be one.
    """

    def __init__(self, scheduler: BaseScheduler, known: _KnownFacts) -> None:
        self._scheduler: Final = scheduler
        self._known: Final = known
        self._predecessors: Final = partial(all_requirements, scheduler)
        self._order: Final = topological_order(scheduler)
        self._awaited: Final = _find_awaited_jobs(self._order, self._predecessors)
        self._durations: Final[dict[AnyJob, float]] = {}
        self._ends: Final[dict[AnyJob, float]] = {}  # the earliest end of each job
        self._latest_predecessors: Final[dict[AnyJob, AnyJob | None]] = {}
        self._unsuccessful: Final[set[AnyJob]] = set()
        self._fails = False  # whether a job fails that counts
        self._deviations: Final[list[float]] = []  # the earliest times of effects of timeouts that depend on the order

    def analyze(self, window: Any) -> PathAnalysis:
        for job in self._order:
            self._place(job)
        work_durations, ends = self._known.work_durations, self._ends
        work_durations.update(self._durations)
        last_job = max(self._order, key=ends.__getitem__, default=None)
        enough = first_options(self._scheduler)[0]
        if enough is not None and self._order:  # decided when so many have succeeded, or too many others have failed
            number = min(enough, len(self._order) - enough + 1)
            last_job = sorted(self._order, key=ends.__getitem__)[max(0, number - 1)]
        length = ends[last_job] if last_job is not None else 0.0
        # From the start of each job to the end of the run.
        remaining = longest_path_lengths(self._order, self._predecessors, self._durations, 0.0)
        heads = {job: ends[job] - self._durations[job] for job in self._order}
        bounds = [length]
        if (size := max_slots(window)) and enough is None:  # of a `First`, it is not known which jobs do their work
            work_seconds = sum(work_durations[job] for job in slot_users(self._scheduler, window))
            bounds.append(work_seconds / min(size, sys.maxsize))
        time_limit = math.inf if self._scheduler.timeout is None else self._scheduler.timeout
        deviates_at = min(self._deviations, default=math.inf)
        untimed_bound = min(deviates_at, max(bounds))
        return PathAnalysis(
            last_job=last_job,
            latest_predecessors=self._latest_predecessors,
            slack={job: max(0.0, length - heads[job] - remaining[job]) for job in self._order},
            untimed_bound=untimed_bound,
            lower_bound=min(untimed_bound, time_limit),
            deviates_at=min(deviates_at, time_limit),
            may_fail=bool(self._unsuccessful) if enough is not None else self._fails,
        )

    def _place(self, job: AnyJob) -> None:
        """Find the duration and the earliest end of a job, after those of its requirements."""
        last = max(self._predecessors(job), key=self._ends.__getitem__, default=None)
        self._latest_predecessors[job] = last
        start = self._ends[last] if last is not None else 0.0
        nested = self._known.analyses[job] if is_scheduler(job) else None
        runs_forever = job.forever and not is_service(job)
        seconds = nested.untimed_bound if nested else math.inf if runs_forever else self._known.durations[job]
        is_timed_out = job.timeout is not None and seconds >= job.timeout
        if is_timed_out:
            seconds = _seconds_until_timed_out(job)
        needed = self._predecessors(job) if job.run_if == "succeeded" else essential_requirements(job)
        is_blocked = job in self._known.unpaid or not self._unsuccessful.isdisjoint(needed)
        is_idle = is_blocked or job.run_if == "failed"
        fails = is_blocked or (is_timed_out and job.on_timeout != "move_on") or (nested is not None and nested.may_fail)
        if fails or is_idle:
            self._unsuccessful.add(job)
        self._fails |= fails and criticality(job) is not False
        is_cut_short, is_distant_input = nested is not None and is_timed_out, job in self._known.distant_inputs
        if is_distant_input and (is_idle or runs_forever):
            self._deviations.append(start)
        elif (fails and criticality(job)) or (is_distant_input and (fails or is_cut_short)):
            self._deviations.append(start if is_idle else start + seconds)
        elif nested and not is_timed_out:
            self._deviations.append(start + nested.deviates_at)
        counts = job in self._awaited and not is_idle
        if is_scheduler(job) and (is_cut_short or not counts or first_options(job)[0] is not None):
            self._known.work_durations.update(dict.fromkeys(job.iterate_jobs(), 0.0))
        self._durations[job] = seconds if counts and not runs_forever else 0.0
        self._ends[job] = start + self._durations[job]


def _find_awaited_jobs(order: list[AnyJob], predecessors: Callable[[AnyJob], list[AnyJob]]) -> set[AnyJob]:
    """Return the jobs for which a run waits: those that are not forever jobs, and all that these require.

    `order` is topological.
    """
    awaited: set[AnyJob] = set()
    for job in reversed(order):
        if job in awaited or not job.forever:
            awaited.update((job, *predecessors(job)))
    return awaited


def _seconds_until_timed_out(job: AnyJob) -> float:
    """Return how long a job takes if its timeout ends each call of it."""
    assert job.timeout is not None
    retry = job.retry if job.on_timeout != "move_on" else None
    if retry is None or retry.times is None:
        return job.timeout
    return job.timeout * (1 + retry.times) + _longest_pauses(retry, retry.times)


def _longest_pauses(retry: Retry, times: int) -> float:
    """Return the sum of `times` pauses, at their longest."""
    total, pause = 0.0, min(retry.first, retry.cap)
    while times and retry.factor > 1 and 0 < pause < retry.cap:  # otherwise, all further pauses are equal
        total, pause, times = total + pause, min(pause * retry.factor, retry.cap), times - 1
    return total + pause * times
