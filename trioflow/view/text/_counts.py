"""`Tally`: how many jobs are in which state, in the words and by the rule of all views.

Nested schedulers are not counted, but the jobs in them are; one that failed by itself is one more failure. Forever jobs
are background jobs, whatever state the run ended them in, unless they failed or were blocked.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable
from typing import Final, Protocol

from ..._core.api.views import AnyJob, BaseScheduler, JobState, failed_through_member, is_scheduler

BACKGROUND: Final = "background"
TROUBLE: Final = frozenset({JobState.FAILED, JobState.BLOCKED})
"""States in which a forever job is counted like any other."""


def state_of(state: JobState, forever: bool) -> JobState | str:
    """Return as what a job is counted."""
    return BACKGROUND if forever and state not in TROUBLE else state


class CountedJob(Protocol):
    """A job, or the record of one."""

    @property
    def state(self) -> JobState: ...
    @property
    def forever(self) -> bool: ...
    @property
    def restored(self) -> bool: ...


class Tally:
    """How many jobs are in which state.

    Args:
        jobs: the jobs, without schedulers.
        failures: how many jobs failed, and schedulers by themselves; None for no such scheduler.

    """

    def __init__(self, jobs: Iterable[CountedJob | AnyJob] = (), failures: int | None = None) -> None:
        self._counts: Final[collections.Counter[JobState | str]] = collections.Counter()
        self._failures = failures
        self._restored = 0
        for job in jobs:
            self.add(job.state, job.forever)
            self._restored += job.restored

    @classmethod
    def of_run(cls, scheduler: BaseScheduler) -> Tally:
        """Count the jobs of a scheduler as they are now. O(V)."""
        jobs = list(scheduler.iterate_jobs())
        failures = sum(job.state is JobState.FAILED and not failed_through_member(job) for job in jobs)
        return cls((job for job in jobs if not is_scheduler(job)), failures)

    def add(self, state: JobState, forever: bool = False, number: int = 1) -> None:
        """Count jobs that are in a state."""
        self._counts[state_of(state, forever)] += number

    @property
    def jobs(self) -> int:
        """How many there are, without background jobs."""
        return self._counts.total() - self._counts[BACKGROUND]

    @property
    def succeeded(self) -> int:
        """How many succeeded."""
        return self._counts[JobState.SUCCEEDED]

    @property
    def failed(self) -> int:
        """How many failed, and schedulers by themselves; otherwise, how many were blocked."""
        failures = self._counts[JobState.FAILED] if self._failures is None else self._failures
        return failures or self._counts[JobState.BLOCKED]

    def in_words(self) -> str:
        """Return `5 jobs: 3 succeeded (2 restored), 1 failed, 1 background`, without what there is none of."""
        more = {JobState.SUCCEEDED: f" ({self._restored} restored)"} if self._restored else {}
        found = [(self._counts[state], f"{state.value}{more.get(state, '')}") for state in JobState]
        found.append((self._counts[BACKGROUND], BACKGROUND))
        words = ", ".join(f"{number} {word}" for number, word in found if number)
        number = self._counts.total()
        return f"{number} job{'s' * (number != 1)}: {words or 'nothing to do'}"
