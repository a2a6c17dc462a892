"""`TaskNames`: the tasks of jobs that run for long get their labels as names."""

from __future__ import annotations

import contextvars
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ._worker import Worker

NAMING_INTERVAL: Final = 0.05
"""How often, in seconds, the tasks of jobs that have run for as long get the labels as their names, in 2 to 5 µs each.

If each task were named at its own time, the loop would wake for each turn in which jobs start.
"""
MAX_NAMED_IN_TURN: Final = 200
"""The maximum number of tasks that are named in one turn of the loop, so that it lasts no longer than a millisecond."""


class TaskNames:
    """Names the tasks of the jobs in a loop. All runs share a timer, because one of its own took a run 5 µs."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock: Final = clock
        # The workers that run jobs and have tasks without a name, each with the time since when, the longest first.
        self.unnamed: Final[dict[Worker, float]] = {}
        self.is_due = False  # whether the timer is set

    def watch(self, worker: Worker, now: float) -> None:
        """Let the task of a worker that takes a job be named, unless it does not run the job for long."""
        self.unnamed.setdefault(worker, now)
        if not self.is_due:
            self.is_due = True
            worker.group.call_at(now + NAMING_INTERVAL, self._name_tasks, contextvars.Context())

    def _name_tasks(self) -> None:
        """Name the tasks of jobs that have run for long."""
        unnamed, self.is_due, now = self.unnamed, False, self._clock()
        for worker, since in list(itertools.islice(unnamed.items(), MAX_NAMED_IN_TURN)):
            job: Any = worker.job
            if since + NAMING_INTERVAL > now:
                break
            del unnamed[worker]
            if job is not None and job._started_at + NAMING_INTERVAL > now:
                unnamed[worker] = job._started_at
            elif job is not None:
                worker.run.guard(worker.name_task, job)
        if unnamed:
            worker, since = next(iter(unnamed.items()))
            self.watch(worker, now if since + NAMING_INTERVAL > now else since)
