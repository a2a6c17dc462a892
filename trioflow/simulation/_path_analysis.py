"""The analysis of a simulated run by the critical path method: longest paths, slack, a lower bound of the makespan."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from .._core.admission._window import max_slots
from .._core.base._graph_algorithms import longest_path_lengths
from .._core.job._job import AnyJob, is_scheduler
from .._core.scheduler._base_scheduler import BaseScheduler
from .._core.scheduler._members import first_options, topological_order
from .._core.words._job_queries import all_requirements
from ._scenario_copy import is_limiter


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


@dataclass(frozen=True, slots=True)
class LongestPath:
    """The longest path through the jobs of one scheduler."""

    jobs: list[AnyJob]
    """The jobs from the last to the first."""
    slack: Mapping[AnyJob, float]
    """The seconds by which each job could take longer without making the path longer."""


class PathAnalysis:
    """The longest paths through a scenario and a lower bound of its makespan, in O(V + E) time.

    The paths are found by the critical path method (Kelley and Walker 1959). The lower bound is the maximum of the
    following: the length of the longest path, and the work of all jobs divided by the number of slots. A nested
    scheduler counts as a job that takes its own lower bound. Each job takes as long as it worked in the simulated run,
    so timeouts and failures count as they did there.

    Args:
        scheduler: the outermost scheduler.
        work: the seconds that each job worked, or that a service took until it was ready; 0 for one that did not run.
        window: the window of the outermost scheduler.

    """

    def __init__(self, scheduler: BaseScheduler, work: Mapping[AnyJob, float], window: Any) -> None:
        self._scheduler: Final = scheduler
        self._seconds: Final = dict(work)  # of schedulers, too, nested ones before those around them
        schedulers = [scheduler, *(job for job in scheduler.iterate_jobs() if is_scheduler(job))]
        self._paths: Final[dict[AnyJob, LongestPath]] = {}
        for current in reversed(schedulers):
            self._paths[current] = self._analyze(current, window if current is scheduler else current.jobs_window)

    @property
    def lower_bound(self) -> float:
        return self._seconds[self._scheduler]

    def critical_path(self) -> tuple[AnyJob, ...]:
        """Return the jobs of the longest path, in which nested schedulers are replaced by their longest paths."""
        path: list[AnyJob] = []
        stack = [*self._paths[self._scheduler].jobs]
        while stack:
            job = stack.pop()
            if is_scheduler(job):
                stack += self._paths[job].jobs
            else:
                path.append(job)
        return tuple(path)

    def slack(self) -> dict[AnyJob, float]:
        slack: dict[AnyJob, float] = {}
        for scheduler in reversed(self._paths):  # enclosing schedulers first
            outer = slack.get(scheduler, 0.0)
            slack.update({job: outer + seconds for job, seconds in self._paths[scheduler].slack.items()})
        return slack

    def _analyze(self, scheduler: BaseScheduler, window: Any) -> LongestPath:
        seconds, predecessors, order = self._seconds, partial(all_requirements, scheduler), topological_order(scheduler)
        awaited = {required for job in order for required in predecessors(job)}
        seconds.update(dict.fromkeys((job for job in order if job.forever and job not in awaited), 0.0))
        latest: dict[AnyJob, AnyJob | None] = {}
        ends: dict[AnyJob, float] = {}
        for job in order:
            last = latest[job] = max(predecessors(job), key=ends.__getitem__, default=None)
            ends[job] = seconds[job] + (0.0 if last is None else ends[last])
        last = max(order, key=ends.__getitem__, default=None)
        enough = first_options(scheduler)[0]
        if enough is not None and order:  # decided when so many have succeeded, or too many others have failed
            number = min(enough, len(order) - enough + 1)
            last = sorted(order, key=ends.__getitem__)[max(0, number - 1)]
        length = 0.0 if last is None else ends[last]
        remaining = longest_path_lengths(order, predecessors, seconds, 0.0)  # from its start to the end of the run
        slack = {job: max(0.0, length - (ends[job] - seconds[job]) - remaining[job]) for job in order}
        seconds[scheduler] = length
        if enough is not None:  # which of its jobs do their work is another question in another order
            seconds.update(dict.fromkeys(scheduler.iterate_jobs(), 0.0))
        elif size := max_slots(window):
            slot_seconds = sum(seconds[job] for job in slot_users(scheduler, window))
            seconds[scheduler] = max(length, slot_seconds / min(size, sys.maxsize))
        path: list[AnyJob] = []
        while last is not None:
            path.append(last)
            last = latest[last]
        return LongestPath(path, slack)
