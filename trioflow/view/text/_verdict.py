"""The verdict on a run or a batch, with the same words in terminals, logs, debriefs and reports.

All views count jobs by the rules of `Tally`. Nested schedulers are not counted, but the jobs in them are; a scheduler
that failed by itself counts as one more failure. Forever jobs are counted apart, in whatever state the run ended them,
unless they failed or were blocked.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from ..._core.api import RequirementFailed
from ..._core.api.views import (
    STOP_REASON_TEXTS,
    AnyJob,
    BaseScheduler,
    JobState,
    StopReason,
    duration_text,
    failed_through_member,
    is_scheduler,
    shorten,
)
from .._state_styles import COUNTING_ORDER
from ._symbols import Symbols

MAX_NAMES: Final = 10
"""The number of names in a list before "and 3 more"."""
NO_NAMES: Final[Mapping[AnyJob, str]] = MappingProxyType({})
FOREVER: Final = "forever"
TROUBLE: Final = frozenset({JobState.FAILED, JobState.BLOCKED})
"""States in which a forever job is counted like any other."""


def counted_state(state: JobState, forever: bool) -> JobState | str:
    """Return the state under which a `Tally` counts a job: `FOREVER` for a forever job without trouble."""
    return FOREVER if forever and state not in TROUBLE else state


class CountedJob(Protocol):
    """The attributes of a job, or of its record, that a `Tally` reads."""

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
        failures: the number of failed jobs, plus the schedulers that failed by themselves. Default: the failed ones
            among `jobs`.

    """

    def __init__(self, jobs: Iterable[CountedJob | AnyJob] = (), failures: int | None = None) -> None:
        self._counts: Final[collections.Counter[JobState | str]] = collections.Counter()
        self._failures = failures
        self._restored = 0
        for job in jobs:
            self.add(job.state, job.forever)
            self._restored += job.restored

    @classmethod
    def for_scheduler(cls, scheduler: BaseScheduler) -> Tally:
        """Return the tally of a scheduler's jobs in their current states. O(V)."""
        jobs = list(scheduler.iterate_jobs())
        failures = sum(job.state is JobState.FAILED and not failed_through_member(job) for job in jobs)
        return cls((job for job in jobs if not is_scheduler(job)), failures)

    @classmethod
    def from_counts(cls, counts: Mapping[str, int], failures: int) -> Tally:
        """Return the tally for counts in the form that `by_state` returns."""
        tally = cls(failures=failures)
        for name, number in counts.items():
            tally._counts[FOREVER if name == FOREVER else JobState(name)] += number
        return tally

    def by_state(self) -> dict[str, int]:
        """Return the counts that are not zero, by the name of the state; "forever" for forever jobs without trouble."""
        return {str(getattr(state, "value", state)): number for state, number in self._counts.items() if number}

    def add(self, state: JobState, forever: bool = False, number: int = 1) -> None:
        """Count `number` further jobs in a state."""
        self._counts[counted_state(state, forever)] += number

    @property
    def jobs(self) -> int:
        """The number of jobs; forever jobs count only if they failed or were blocked."""
        return self._counts.total() - self._counts[FOREVER]

    @property
    def succeeded(self) -> int:
        """The number of jobs that succeeded."""
        return self._counts[JobState.SUCCEEDED]

    @property
    def failures(self) -> int:
        """The number of failed jobs, plus the schedulers that failed by themselves."""
        return self._counts[JobState.FAILED] if self._failures is None else self._failures

    @property
    def failed(self) -> int:
        """The number of failures, or of blocked jobs if there are no failures."""
        return self.failures or self._counts[JobState.BLOCKED]

    def in_words(self) -> str:
        """Return the counts in words: `5 jobs: 3 succeeded (2 restored), 1 failed, 1 forever`."""
        remarks = {JobState.SUCCEEDED: f" ({self._restored} restored)"} if self._restored else {}
        counts = [(self._counts[state], f"{state.value}{remarks.get(state, '')}") for state in COUNTING_ORDER]
        counts.append((self._counts[FOREVER], FOREVER))
        words = ", ".join(f"{number} {word}" for number, word in counts if number)
        total = self._counts.total()
        return f"{total} job{'s' * (total != 1)}: {words or 'nothing to do'}"


class Verdict(NamedTuple):
    """The verdict on a run, as one line of text."""

    is_good: bool
    """Whether the run completed, and no job failed."""
    words: str
    """The text, such as "1 of 14 jobs failed, 9.0 s"."""

    def symbol(self, symbols: Symbols) -> str:
        """Return the symbol of SUCCEEDED or FAILED."""
        return symbols.set.states[JobState.SUCCEEDED if self.is_good else JobState.FAILED]

    def line(self, name: str, symbols: Symbols) -> str:
        """Return the line for a terminal: the name of the run, the symbol and the words."""
        return f"{symbols.escape(name)}  {self.symbol(symbols)} {symbols.escape(self.words)}"


def verdict(
    reason: StopReason | None, tally: Tally, seconds: float | None, culprit: str | None = None, noun: str = "job"
) -> Verdict:
    """Return the verdict on a run.

    Args:
        reason: why the run ended; None if it is still going on, or the reason is unknown.
        tally: the number of jobs in each state.
        seconds: the duration of the run; None if unknown.
        culprit: the path of the job that stopped the run, if there is one.
        noun: the word for a job.

    """
    jobs = f"{tally.jobs} {noun}{'s' * (tally.jobs != 1)}"
    parts: list[str] = []
    if reason is None:
        parts.append("has not ended")
    elif reason is not StopReason.COMPLETED:
        by = f" of {culprit}" if culprit is not None and reason is StopReason.CRITICAL else ""
        parts.append(STOP_REASON_TEXTS[reason].removeprefix("was ") + by)
    if tally.failed:
        parts.append(f"{tally.failed} of {jobs} failed")
        if reason is StopReason.INTERRUPTED and tally.succeeded:
            parts.append(f"{tally.succeeded} succeeded")
    elif not tally.jobs:
        parts.append("nothing to do")
    elif tally.succeeded < tally.jobs:
        parts.append(f"{tally.succeeded} of {jobs} succeeded")
    elif tally.jobs == 1 or reason is StopReason.INTERRUPTED:  # not "all": an interrupted run may have more to do
        parts.append(f"{jobs} succeeded")
    else:
        parts.append(f"all {jobs} succeeded")
    if seconds is not None:
        parts.append(duration_text(seconds, in_column=True))
    return Verdict(reason is StopReason.COMPLETED and not tally.failed, ", ".join(parts))


def run_verdict(scheduler: BaseScheduler, reason: StopReason | None, seconds: float | None) -> Verdict:
    """Return the verdict on the last run of a scheduler. O(V)."""
    return verdict(reason, Tally.for_scheduler(scheduler), seconds, culprit_path(scheduler))


def culprit_path(scheduler: BaseScheduler) -> str | None:
    """Return the path of the job that stopped a run, at any depth of nesting; None if no job did."""
    chain = culprits(scheduler)
    return shorten(chain[-1].path) if chain else None


def culprits(scheduler: BaseScheduler) -> list[AnyJob]:
    """Return the member that stopped a run, then, if that is a scheduler, the culprit of its run, and so on."""
    chain: list[AnyJob] = []
    culprit = scheduler.culprit
    while culprit is not None:
        chain.append(culprit)
        culprit = culprit.culprit if is_scheduler(culprit) else None
    return chain


def not_run_lines(jobs: Iterable[AnyJob], names: Mapping[AnyJob, str]) -> list[str]:
    """Return a line for each failure that blocked jobs: `not run: tests (8 jobs), because build failed`.

    A last line names nested schedulers that were SKIPPED: the counts include their jobs, but do not say why these did
    not run.
    """
    blocked_by: dict[str, list[str]] = {}
    for job in jobs:
        if job.state is JobState.BLOCKED:
            blocked_by.setdefault(root_failure_words(job, names), []).append(_name_and_size(job, names))
    skipped = [_name_and_size(job, names) for job in jobs if job.state is JobState.SKIPPED and is_scheduler(job)]
    lines = [f"not run: {join_names(blocked)}, because {cause}" for cause, blocked in blocked_by.items()]
    return [*lines, *([f"skipped: {join_names(skipped)}"] if skipped else [])]


def _name_and_size(job: AnyJob, names: Mapping[AnyJob, str]) -> str:
    if not is_scheduler(job):
        return names[job]
    inside = sum(not is_scheduler(member) for member in job.iterate_jobs())
    return f"{names[job]} ({inside} job{'s' * (inside != 1)})"


def root_failure_words(job: AnyJob, names: Mapping[AnyJob, str] = NO_NAMES) -> str:
    """Return the failure at the root of a BLOCKED job, as `build failed` or `build was cancelled`."""
    while isinstance(error := job.raised_exception(), RequirementFailed):
        job = error.requirement
    return f"{names.get(job, job.label)} {'was cancelled' if job.state is JobState.CANCELLED else 'failed'}"


def join_names(names: Sequence[str], max_names: int = MAX_NAMES) -> str:
    """Join names with commas; after the first `max_names`, only the number of the others follows."""
    more = f" and {len(names) - max_names} more" if len(names) > max_names else ""
    return ", ".join(names[:max_names]) + more
