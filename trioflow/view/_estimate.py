"""How long the rest of a run takes: the estimate of all views, right within a factor of two, or none.

The rest of a scheduler takes at least as long as its longest chain of jobs, and as its work divided by its slots.
Without other limits, it takes at most the sum of both (Graham, 1966), so that the larger of them is right within a
factor of two. Each resource of its pool sets such a bound, too. A nested scheduler is a job that takes its own
estimate.

A job takes its expected duration, corrected by the jobs that have ended, or the mean of its family. A job that has run
for longer may end now, or take as long again. While too few jobs of a family have succeeded, the times of its jobs are
unknown. If these are few, each of them takes no time or `UNLIKE_FACTOR` times as long as any known job, and the
estimate is a lower bound. If the longer times more than double the rest of the run, there is no estimate.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import time
from collections.abc import Iterable
from functools import partial
from statistics import fmean
from typing import Final, NamedTuple

from .._core.admission import _pools, _window
from .._core.base._graph_algorithms import longest_path_lengths
from .._core.base._states import JobState, RunPhase
from .._core.job._job import AnyJob, is_scheduler, takes_slot
from .._core.scheduler._base_scheduler import BaseScheduler
from .._core.words import _job_queries, _run_view
from ._families import family_from_label

MIN_ENDED: Final = 3
"""The number of jobs of a family that must have succeeded before there is an estimate for the others."""
MAX_RATIO: Final = 2
"""How far the estimates may be apart if uncertain jobs take the shortest time, or the longest."""
UNLIKE_FACTOR: Final = 3
"""How many times as long as the longest known job a job of an unknown family may take. In 40 recorded workflows, 2 % of
the lower bounds were less than half of the rest then, and 23 % with a factor of 0."""
FEW: Final = 50
"""One job of this many may be of an unknown family, or one job of fewer."""
PAUSE_FACTOR: Final = 200
"""The least pause between two estimates, as a multiple of the CPU time of an estimate."""


class TimeLeft(NamedTuple):
    seconds: float
    is_least: bool
    """Whether the run goes on for longer, because it is unknown how long some jobs take."""


class Estimate:
    """The estimate for a run. Each thread that asks for it has its own."""

    def __init__(self, scheduler: BaseScheduler) -> None:
        self._scheduler: Final = scheduler
        self._family: Final = functools.cache(_family)
        self._next_at = -math.inf
        self._last: tuple[TimeLeft | None, float] = None, 0.0
        """The last estimate, and when it was made on the clock of the run."""

    def time_left(self) -> TimeLeft | None:
        """Return about or at least how long the run goes on, or None if it is unknown, or no further jobs may start."""
        run = _run_view.current_run(self._scheduler)
        if run is None or run.phase is not RunPhase.RUNNING or run.pause_text:
            return None
        now = run.clock()
        if time.monotonic() >= self._next_at:
            began = time.thread_time()
            left = None
            with contextlib.suppress(RuntimeError):
                # The thread of the run has changed the graph.
                left = self._estimate(now)
            self._last = left, now
            self._next_at = time.monotonic() + PAUSE_FACTOR * (
                time.thread_time() - began
            )
        left, estimated_at = self._last
        seconds = 0.0
        if left is not None:
            seconds = max(0.0, left.seconds - (now - estimated_at))
        if left is None or (left.is_least and seconds < 1):
            return None
        return left._replace(seconds=seconds)

    def _estimate(self, now: float) -> TimeLeft | None:
        groups = [self._scheduler]
        # Enclosing groups come before the group itself.
        for group in _job_queries.groups_of_run(self._scheduler)[1:]:
            if group.scheduler in groups and not group.forever:
                groups.append(group)
        if not all(group.keep_jobs for group in groups):
            # It is unknown how many are to come, and how long those took that were dropped.
            return None
        expected: dict[AnyJob, float] = {}
        for group in groups:
            expected |= _job_queries.expected_durations(group)
        members = itertools.chain(*groups)
        jobs = [
            job for job in members if _job_queries.is_one_job(job) and not job.forever
        ]
        seconds_by_family: dict[str, list[float]] = {}
        # With an expected duration: this, and the seconds that it took.
        ended: list[tuple[float, float]] = []
        for job in jobs:
            seconds = job.took
            if job.state is JobState.SUCCEEDED and seconds is not None:
                began = job.started_at or 0.0
                seconds -= (_working_job(job).started_at or began) - began
                seconds_by_family.setdefault(self._family(job), []).append(seconds)
                if job in expected:
                    ended.append((expected[job], seconds))
        ratio = 1.0
        if len(ended) >= MIN_ENDED:
            ratio = sum(took for _, took in ended) / (
                sum(seconds for seconds, _ in ended) or 1.0
            )
        means = dict[str, float]()
        for family, times in seconds_by_family.items():
            if len(times) >= MIN_ENDED:
                means[family] = fmean(times)
        longest = max([*means.values(), *expected.values()], default=0.0)
        least = dict[AnyJob, float]()
        most = dict[AnyJob, float]()
        unknown = 0
        for job in jobs:
            if job.state.is_settled or (
                job.scheduler is not None and job.scheduler.is_settled()
            ):
                continue
            started = None
            if job.state is JobState.RUNNING and job.attempts == 1:
                started = _working_job(job).started_at
            ran = 0.0 if started is None else now - started
            fraction = _job_queries.fraction_done(job)
            if ran and fraction:
                least[job] = most[job] = ran / fraction - ran
                continue
            seconds = None
            if job in expected:
                seconds = expected[job] * ratio
            elif takes_slot(job):
                seconds = means.get(self._family(job))
            if seconds is None:
                # Nobody knows how long it takes, least of all a person who is asked.
                unknown += 1
                if not (means or expected) or unknown > max(1, len(jobs) // FEW):
                    return None
                least[job] = 0.0
                most[job] = max(ran, UNLIKE_FACTOR * longest)
                continue
            least[job] = max(0.0, seconds - ran)
            most[job] = least[job] or ran
        shortest = _bound(groups, least)
        most_left = _bound(groups, most)
        if shortest == 0.0 or most_left > MAX_RATIO * shortest:
            return None
        if unknown:
            return TimeLeft(shortest, is_least=True)
        return TimeLeft((shortest + most_left) / 2, is_least=False)


def _family(job: AnyJob) -> str:
    return family_from_label(job.label, _job_queries.explicit_label(job) is not None)


def _bound(groups: list[BaseScheduler], seconds: dict[AnyJob, float]) -> float:
    """Return the largest bound of a run.

    Args:
        groups: its schedulers, each after the scheduler around it.
        seconds: how long each job takes that has not settled. The schedulers are added.

    """
    demands = _demands(groups, seconds)
    # The work of the jobs at any depth, which take the tokens of a limiter.
    work: dict[AnyJob, float] = dict.fromkeys(groups, 0.0)
    for group in reversed(groups):
        order = [job for job in _job_queries.members_in_order(group) if not job.forever]
        chains = longest_path_lengths(
            order, partial(_job_queries.all_requirements, group), seconds, 0.0
        )
        members = [seconds.get(job, 0.0) for job in order]
        work[group] = sum(work.get(job, seconds.get(job, 0.0)) for job in order)
        # The current size of an adaptive window is known for the outermost scheduler, and further in only its largest.
        if group is groups[0]:
            slots = group.window_size
        else:
            slots = _window.max_slots(group.jobs_window)
        bounds = [_resource_bound(*demand, seconds) for demand in demands[group]]
        if slots is not None:
            demand = sum(members)
            if _window.is_limiter(group.jobs_window):
                demand = work[group]
            bounds.append(demand / max(1, slots))
        seconds[group] = max([0.0, *chains.values(), *bounds])
    return seconds[groups[0]]


Demand = tuple[_pools.ResourceView, dict[AnyJob, float]]
"""A resource, and the amounts of it that jobs need."""


def _demands(
    groups: list[BaseScheduler], jobs: Iterable[AnyJob]
) -> dict[BaseScheduler, list[Demand]]:
    """Return the needs of jobs for the resources in the pool of each scheduler."""
    demands: dict[BaseScheduler, list[Demand]] = {}
    scopes: dict[BaseScheduler | None, dict[str, dict[AnyJob, float]]] = {}
    for group in groups:
        demands[group] = [(view, {}) for view in _pools.resource_views(group.pool)]
        scopes[group] = scopes.get(group.scheduler, {}) | {
            view.name: amounts for view, amounts in demands[group]
        }
    for job in jobs:
        for name, amount in (_working_job(job).needs or {}).items():
            if (amounts := scopes[job.scheduler].get(name)) is not None:
                amounts[job] = amount if isinstance(amount, int | float) else 1.0
    return demands


def _working_job(job: AnyJob) -> AnyJob:
    """Return the job itself or, of a `First`, the first of its jobs: it starts first, and of the others, few start."""
    while is_scheduler(job) and len(job):
        job = next(iter(job))
    return job


def _resource_bound(
    resource: _pools.ResourceView,
    amounts: dict[AnyJob, float],
    seconds: dict[AnyJob, float],
) -> float:
    """Return how long jobs take at least that share an amount, or a rate at which they may start."""
    work = sum(amount * seconds[job] for job, amount in amounts.items())
    waiting = [job for job in amounts if _working_job(job).started_at is None]
    delay = 0.0
    if waiting:
        delay = resource.start_delay(map(_working_job, waiting)) + min(
            map(seconds.__getitem__, waiting)
        )
    return max(delay, work / resource.total if resource.total else 0.0)
