"""The verdict on a run, or a batch, in the same words everywhere: terminals, logs, debriefs and reports.

`Tally` counts jobs by the rule of all views. Nested schedulers are not counted, but the jobs in them are; one that
failed by itself is one more failure. Forever jobs are counted apart, whatever state the run ended them in, unless
they failed or were blocked.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from ..._core.api import RequirementFailed
from ..._core.api.views import (
    HOW_RUNS_END,
    AnyJob,
    BaseScheduler,
    JobState,
    StopReason,
    duration_text,
    failed_through_member,
    is_scheduler,
    shortened,
)
from .._state_styles import COUNTING_ORDER
from ._symbols import Symbols

MAX_NAMES: Final = 10
"""Number of jobs named in a list; the others are counted."""
NO_NAMES: Final[Mapping[AnyJob, str]] = MappingProxyType({})
FOREVER: Final = "forever"
TROUBLE: Final = frozenset({JobState.FAILED, JobState.BLOCKED})
"""States in which a forever job is counted like any other."""


def state_of(state: JobState, forever: bool) -> JobState | str:
    """Return the state that a job counts as."""
    return FOREVER if forever and state not in TROUBLE else state


class CountedJob(Protocol):
    """A job, or the record of one."""

    @property
    def state(self) -> JobState: ...
    @property
    def forever(self) -> bool: ...
    @property
    def restored(self) -> bool: ...


class Tally:
    """The number of jobs in each state.

    Args:
        jobs: the jobs, without schedulers.
        failures: the number of failed jobs and of schedulers that failed by themselves; None for no such scheduler.

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

    @classmethod
    def of_counts(cls, counts: Mapping[str, int], failures: int) -> Tally:
        """Return the tally with these counts, as `by_state` gives them."""
        tally = cls(failures=failures)
        for name, number in counts.items():
            tally._counts[FOREVER if name == FOREVER else JobState(name)] += number
        return tally

    def by_state(self) -> dict[str, int]:
        """Return the number of jobs in each state, by its name; "forever" for forever jobs that the run ended."""
        return {str(getattr(state, "value", state)): number for state, number in self._counts.items() if number}

    def add(self, state: JobState, forever: bool = False, number: int = 1) -> None:
        """Count jobs that are in a state."""
        self._counts[state_of(state, forever)] += number

    @property
    def jobs(self) -> int:
        """The number of jobs, without forever jobs."""
        return self._counts.total() - self._counts[FOREVER]

    @property
    def succeeded(self) -> int:
        """The number of jobs that succeeded."""
        return self._counts[JobState.SUCCEEDED]

    @property
    def failures(self) -> int:
        """The number of failed jobs, and of schedulers that failed by themselves."""
        return self._counts[JobState.FAILED] if self._failures is None else self._failures

    @property
    def failed(self) -> int:
        """The number of failures; if there are none, the number of blocked jobs."""
        return self.failures or self._counts[JobState.BLOCKED]

    def in_words(self) -> str:
        """Return `5 jobs: 3 succeeded (2 restored), 1 failed, 1 forever`, without zero counts."""
        more = {JobState.SUCCEEDED: f" ({self._restored} restored)"} if self._restored else {}
        found = [(self._counts[state], f"{state.value}{more.get(state, '')}") for state in COUNTING_ORDER]
        found.append((self._counts[FOREVER], FOREVER))
        words = ", ".join(f"{number} {word}" for number, word in found if number)
        number = self._counts.total()
        return f"{number} job{'s' * (number != 1)}: {words or 'nothing to do'}"


class Verdict(NamedTuple):
    """The verdict, on one line."""

    is_good: bool
    """Whether the run went on to its end, and nothing failed."""
    words: str
    """The words, such as "1 of 14 jobs failed, 9.0 s"."""

    def symbol(self, symbols: Symbols) -> str:
        """Return a tick or a cross."""
        return symbols.set.states[JobState.SUCCEEDED if self.is_good else JobState.FAILED]

    def line(self, name: str, symbols: Symbols) -> str:
        """Return the line, which begins with the label of the run."""
        return f"{symbols.line(name)}  {self.symbol(symbols)} {symbols.line(self.words)}"


def verdict(
    reason: StopReason | None, tally: Tally, seconds: float | None, culprit: str | None = None, what: str = "job"
) -> Verdict:
    """Return the verdict on a run.

    Args:
        reason: why it ended; None if it has not, or this is unknown.
        tally: the number of jobs in each state.
        seconds: its duration; None if unknown.
        culprit: the path of the job that stopped it, if there is one.
        what: the word for a job.

    """
    of = f"{tally.jobs} {what}{'s' * (tally.jobs != 1)}"
    said: list[str] = []
    if reason is None:
        said.append("has not ended")
    elif reason is not StopReason.COMPLETED:
        by = f" of {culprit}" if culprit is not None and reason is StopReason.CRITICAL else ""
        said.append(HOW_RUNS_END[reason].removeprefix("was ") + by)
    if tally.failed:
        said.append(f"{tally.failed} of {of} failed")
        if reason is StopReason.INTERRUPTED and tally.succeeded:
            said.append(f"{tally.succeeded} succeeded")
    elif not tally.jobs:
        said.append("nothing to do")
    elif tally.succeeded == tally.jobs and reason is StopReason.INTERRUPTED:  # there may be more to come
        said.append(f"{of} succeeded")
    elif tally.succeeded == tally.jobs:
        said.append(f"all {of} succeeded" if tally.jobs > 1 else f"{of} succeeded")
    else:
        said.append(f"{tally.succeeded} of {of} succeeded")
    if seconds is not None:
        said.append(duration_text(seconds, in_column=True))
    return Verdict(reason is StopReason.COMPLETED and not tally.failed, ", ".join(said))


def of_run(scheduler: BaseScheduler, reason: StopReason | None, seconds: float | None) -> Verdict:
    """Return the verdict on the last run of a scheduler. O(V)."""
    return verdict(reason, Tally.of_run(scheduler), seconds, culprit_of(scheduler))


def culprit_of(scheduler: BaseScheduler) -> str | None:
    """Return the path of the job that stopped a run, at whatever depth; None if none has."""
    found = culprits(scheduler)
    return shortened(found[-1].path) if found else None


def culprits(scheduler: BaseScheduler) -> list[AnyJob]:
    """Return the job that stopped a run; if it is a scheduler, also the job that stopped that one, and so on."""
    found: list[AnyJob] = []
    culprit = scheduler.culprit
    while culprit is not None:
        found.append(culprit)
        culprit = culprit.culprit if is_scheduler(culprit) else None
    return found


def not_run(jobs: Iterable[AnyJob], names: Mapping[AnyJob, str]) -> list[str]:
    """Return a line for each failure that kept jobs from running: `not run: tests (8 jobs), because build failed`.

    A last line names the SKIPPED nested schedulers, whose jobs are counted only as not run.
    """
    found: dict[str, list[str]] = {}
    for job in jobs:
        if job.state is JobState.BLOCKED:
            found.setdefault(because(job, names), []).append(_with_size(job, names))
    skipped = [_with_size(job, names) for job in jobs if job.state is JobState.SKIPPED and is_scheduler(job)]
    lines = [f"not run: {listed(blocked)}, because {cause}" for cause, blocked in found.items()]
    return [*lines, *([f"skipped: {listed(skipped)}"] if skipped else [])]


def _with_size(job: AnyJob, names: Mapping[AnyJob, str]) -> str:
    if not is_scheduler(job):
        return names[job]
    inside = sum(not is_scheduler(member) for member in job.iterate_jobs())
    return f"{names[job]} ({inside} job{'s' * (inside != 1)})"


def because(job: AnyJob, names: Mapping[AnyJob, str] = NO_NAMES) -> str:
    """Return the words for the failure that kept a job, or those that require it, from running."""
    while isinstance(error := job.raised_exception(), RequirementFailed):
        job = error.requirement
    return f"{names.get(job, job.label)} {'was cancelled' if job.state is JobState.CANCELLED else 'failed'}"


def listed(names: Sequence[str], most: int = MAX_NAMES) -> str:
    """Return a list of names; of many, the first ones and the number of the others."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
