"""The verdict on a run or a batch, with the same words in terminals, logs, debriefs and reports.

All views count jobs by the rules of `Tally`. The jobs in nested schedulers are counted, but not the schedulers, even if
these never ran. A nested `First` is a single job, and the jobs in it are not counted: of a call and its hedges, only
one is wanted. Forever jobs are counted separately unless they failed, and so are nested schedulers that failed for a
reason other than a failed job, such as their timeout.
"""

from __future__ import annotations

import collections
import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from ..._core.base._states import (
    MOVED_ON,
    RAN_TO_END,
    STOP_REASON_TEXTS,
    JobState,
    ReportedState,
    StopReason,
)
from ..._core.base._text_forms import (
    MAX_LISTED_NAMES,
    clause,
    duration_text,
    join_names,
    plural,
)
from ..._core.job import _errors, _labels
from ..._core.job._job import AnyJob, Restoration, is_scheduler
from ..._core.scheduler._base_scheduler import BaseScheduler
from ..._core.words import _failures, _job_queries, _run_view
from .._state_styles import STATE_COUNT_ORDER, STATE_STYLES
from ._symbols import Symbols

FOREVER_KEY: Final = "forever"
TOLERATED_KEY: Final = "tolerated"
TALLY_KEYS: Final = (*STATE_COUNT_ORDER, FOREVER_KEY, TOLERATED_KEY)
TROUBLE_STATES: Final = frozenset[ReportedState]({JobState.FAILED, JobState.BLOCKED})
"""The states of a forever job that has not just ended with its run."""


def tally_key(
    state: ReportedState, forever: bool, tolerated: bool = False
) -> ReportedState | str:
    """Return the key that a `Tally` counts a job by: its state, `FOREVER_KEY` or `TOLERATED_KEY`.

    The key is `FOREVER_KEY` for a forever job that did not fail, and `TOLERATED_KEY` for a failed job with `tolerated`,
    whose failure does not count.
    """
    if tolerated and state is JobState.FAILED:
        return TOLERATED_KEY
    return FOREVER_KEY if forever and state is not JobState.FAILED else state


MIN_SAVED_SECONDS: Final = 1.0
"""The least time that is named: below, a run again saved nothing worth reading."""


class RestoredJobs:
    """The number of jobs that a journal restored, when they ran, and for how long."""

    def __init__(self) -> None:
        self.number = 0
        self.seconds = 0.0
        # In ISO 8601, of the jobs whose time is known.
        self._first_date = self._last_date = ""

    def add(
        self, settled_at: float | None, took: float | None, number: int = 1
    ) -> None:
        """Count a restored job, or with `number=-1`, uncount it. Its date stays.

        Args:
            settled_at: the time when it settled in the run that ran it, in seconds since 1970, or None if unknown.
            took: the seconds that it took in that run, or None if unknown.
            number: how many such jobs.

        """
        self.number += number
        self.seconds += number * (took or 0.0)
        with contextlib.suppress(OverflowError, ValueError, OSError):
            # The journal may be damaged.
            if settled_at is not None:
                date = time.strftime("%Y-%m-%d", time.localtime(settled_at))
                self._first_date = min(self._first_date or date, date)
                self._last_date = max(self._last_date, date)

    def describe(self) -> str:
        """Return number, dates and time, e.g. `40 restored from 2026-11-23, 4 min 10 s saved`, or ""."""
        if not self.number:
            return ""
        text = f"{self.number} restored"
        if self._first_date:
            dates = dict.fromkeys((self._first_date, self._last_date))
            text += f" from {' to '.join(dates)}"
        if self.seconds >= MIN_SAVED_SECONDS:
            text += f", {duration_text(self.seconds)} saved"
        return text


REPORTED_STATES: Final[dict[Any, ReportedState]] = {
    state.value: state for state in STATE_COUNT_ORDER
}


class Tally:
    """The number of jobs in each state, and of nested schedulers that failed by themselves."""

    def __init__(self) -> None:
        # No key is added or removed, so any thread may iterate.
        self._counts: Final = collections.Counter[ReportedState | str](
            dict.fromkeys(TALLY_KEYS, 0)
        )
        self.restored = RestoredJobs()
        self.reruns = collections.Counter[str]()
        """The number of jobs that ran again though a journal has them, by the first change that is the cause."""
        self.may_grow = False
        """Whether it is unknown how many jobs are to come."""
        self.unreached_count = 0
        """Of the IDLE jobs, those that never start because their scheduler has ended. A monitor counts them."""
        self.failed_groups = 0
        """The number of nested schedulers whose failure counts, and that no failed job in them shows."""

    @classmethod
    def for_scheduler(cls, scheduler: BaseScheduler) -> Tally:
        """Return the tally of a scheduler's jobs in their current states. Takes O(V) time."""
        if counts := _job_queries.all_counts(scheduler):
            return cls.from_counts(counts)
        tally = cls()
        for job in _job_queries.jobs_of_run(scheduler):
            if _job_queries.is_one_job(job):
                tally.add_jobs(*_job_queries.count_key(job))
                tally.add_journal_facts(
                    _job_queries.restoration_of(job), _job_queries.rerun_cause(job)
                )
            elif (
                _job_queries.is_failed_group(job)
                and _job_queries.criticality(job) is not False
            ):
                tally.failed_groups += 1
        for key, number in _job_queries.dropped_counts(scheduler):
            tally.add_jobs(*key, number)
        return tally

    @classmethod
    def from_counts(
        cls,
        counts: Mapping[Any, int],
        may_grow: bool | None = None,
        failed_groups: int = 0,
    ) -> Tally:
        """Return the tally of a scheduler's own counts, as in `all_counts`, or of the words for such counts."""
        tally = cls()
        if may_grow is None:
            may_grow = JobState.IDLE not in counts
        tally.may_grow = may_grow
        tally.failed_groups = failed_groups
        for state, number in counts.items():
            counted: Any = REPORTED_STATES.get(state, state)
            tally._counts[counted] += number
        return tally

    def counts_by_state(self) -> dict[str, int]:
        """Return the counts that are not zero, keyed by the value of their state, e.g. "failed", or by "forever"."""
        counts: dict[str, int] = {}
        for state, number in self._counts.items():
            if number:
                counts[getattr(state, "value", state)] = number
        return counts

    def add_jobs(
        self,
        state: ReportedState,
        forever: bool = False,
        tolerated: bool = False,
        number: int = 1,
    ) -> None:
        """Count `number` more jobs with a key of `count_key`."""
        self._counts[tally_key(state, forever, tolerated)] += number

    def add_journal_facts(
        self, restoration: Restoration | None, rerun_cause: str | None, number: int = 1
    ) -> None:
        """Count a job that a journal restored, or that ran again. With `number=-1`, no more."""
        if restoration is not None:
            self.restored.add(restoration.settled_at, restoration.took, number)
        if rerun_cause is not None:
            self.reruns[rerun_cause] += number
            if not self.reruns[rerun_cause]:
                # The success of the only such job was taken back.
                del self.reruns[rerun_cause]

    def replace(
        self, old: ReportedState | str | None, new: ReportedState | str | None
    ) -> None:
        """Count a job under another key of `tally_key`. None stands for a job that is not counted."""
        if old is not None:
            self._counts[old] -= 1
        if new is not None:
            self._counts[new] += 1

    def subtract(self, part: Tally) -> None:
        """Take away the jobs of a nested scheduler that runs again. The dates of restored jobs stay."""
        self._counts.subtract(part._counts)
        self.failed_groups -= part.failed_groups
        self.restored.number -= part.restored.number
        self.restored.seconds -= part.restored.seconds
        self.reruns -= part.reruns

    @property
    def job_count(self) -> int:
        """The number of jobs, without forever jobs that did not fail."""
        return self._counts.total() - self._counts[FOREVER_KEY]

    @property
    def settled_count(self) -> int:
        states = [state for state in STATE_COUNT_ORDER if state.is_settled]
        return sum(map(self._counts.__getitem__, states)) + self._counts[TOLERATED_KEY]

    def count(self, key: ReportedState | str) -> int:
        """Return the number of jobs with a key of `tally_key`, such as a state."""
        return self._counts[key]

    def states(self) -> Iterator[tuple[ReportedState, int]]:
        """Yield each state that a job is in, and the number of these jobs, with the tolerated ones that failed."""
        for state in STATE_COUNT_ORDER:
            number = self._counts[state]
            if state is JobState.FAILED:
                number += self._counts[TOLERATED_KEY]
            if number:
                yield state, number

    @property
    def failure_count(self) -> int:
        """The number of failed jobs, plus the number of schedulers that failed for a reason other than a failed job.

        Tolerated failures are left out.
        """
        return self._counts[JobState.FAILED] + self.failed_groups

    def describe(self) -> str:
        """Return the counts in words, e.g. `5 jobs: 3 succeeded (2 restored), 2 failed, and 1 forever job`."""
        words: dict[ReportedState | str, str] = {
            state: state.value for state in STATE_COUNT_ORDER
        }
        words[JobState.SUCCEEDED] += clause(" ({} restored)", self.restored.number)
        words[TOLERATED_KEY] = "failed (tolerated)"
        jobs = plural(self.job_count, "job")
        if self.may_grow:
            jobs += " so far"
        return (
            f"{jobs}: {self.counts_text(words) or 'nothing to do'}"
            f"{forever_jobs_text(self._counts[FOREVER_KEY])}{failed_groups_text(self.failed_groups)}"
        )

    def counts_text(self, words: Mapping[ReportedState | str, str]) -> str:
        """Return the counts that are not zero, each with the word for its key."""
        counts = [(self._counts[key], word) for key, word in words.items()]
        return ", ".join(f"{number} {word}" for number, word in counts if number)


def reruns_text(reruns: collections.Counter[str]) -> str:
    """Return how many jobs ran again and why, e.g. `17 run again, because 'stage' has changed`."""
    # Causes of as many jobs are in the order of their texts, since the readers count the jobs in different orders.
    total = reruns.total()
    causes = sorted(reruns.items(), key=lambda item: (-item[1], item[0]))[:2]
    if len(reruns) == 1:
        return f"{total:,} run again, because {causes[0][0]}"
    shown = [f"{number:,} because {cause}" for cause, number in causes]
    if others := total - sum(number for _, number in causes):
        shown.append(f"{others:,} for other reasons")
    return f"{total:,} run again: {'; '.join(shown)}"


def forever_jobs_text(number: int) -> str:
    """Return the end of a count of jobs: the number of forever jobs, which are not among the jobs."""
    return clause(f", and {plural(number, 'forever job')}", number)


def failed_groups_text(number: int) -> str:
    """Return the end of a count of jobs: the number of nested schedulers that failed, which are not among the jobs."""
    return clause(f", {plural(number, 'group')} failed", number)


def shortfalls(
    tally: Tally,
    failed: str = "failed",
    tolerated: str = "tolerated",
    is_over: bool = True,
) -> str:
    """Return the number of jobs that neither succeeded nor moved on, e.g. `2 failed, 3 blocked`, or "" if all did.

    With the jobs that succeeded or moved on, these are all jobs of a run that is over.
    """
    words: dict[ReportedState | str, str] = {
        state: state.value for state in STATE_COUNT_ORDER if state.is_settled
    }
    del words[JobState.SUCCEEDED], words[MOVED_ON]
    words[JobState.FAILED] = failed
    words[TOLERATED_KEY] = tolerated
    text = tally.counts_text(words)
    unstarted = tally.count(JobState.IDLE) + tally.count(JobState.SCHEDULED)
    if is_over and unstarted:
        text += f"{text and ', '}{unstarted} never started"
    return text


def failures_text(tally: Tally, is_over: bool = True) -> str:
    """Return the failures among all jobs, e.g. `2 failed, 3 blocked of 30, 1 group failed`, or "" without failures.

    The number of all jobs is left out if it is unknown.
    """
    text = shortfalls(tally, is_over=is_over)
    total = clause(f" of {tally.job_count}", text and not tally.may_grow)
    return (text + total + failed_groups_text(tally.failed_groups)).removeprefix(", ")


class Verdict(NamedTuple):
    """The verdict on a run or a batch, in a sentence."""

    # Whether the run completed, so that no failure counts.
    is_good: bool
    # Whether the timeout of a job ended it, and the run went on without its result.
    has_moved_on: bool
    # The verdict in words, such as "1 failed, 2 blocked of 14, 9.0 s".
    sentence: str

    def symbol(self, symbols: Symbols) -> str:
        """Return the symbol of SUCCEEDED if the verdict is good, or MOVED_ON if also jobs moved on, or else FAILED."""
        return symbols.of(STATE_STYLES[self.state])

    @property
    def state(self) -> ReportedState:
        """The state whose symbol stands for the verdict."""
        if not self.is_good:
            return JobState.FAILED
        return MOVED_ON if self.has_moved_on else JobState.SUCCEEDED

    def format_line(self, name: str, symbols: Symbols) -> str:
        """Return the verdict as a line for a terminal: the name of the run, the symbol and the sentence."""
        return f"{symbols.escape(name)}  {self.symbol(symbols)} {symbols.escape(self.sentence)}"


def create_verdict(
    reason: StopReason | None,
    tally: Tally,
    seconds: float | None,
    culprit: str | None = None,
    noun: str = "job",
    paused: float = 0.0,
) -> Verdict:
    """Return the verdict on a run.

    Args:
        reason: why the run ended, or None if it is still in progress, or if the reason is unknown.
        tally: the number of jobs in each state.
        seconds: the duration of the run, or None if unknown.
        culprit: the failure that stopped the run, in the words of `failure_text`, or None if no job stopped it.
        noun: the word for a job in the sentence, e.g. "command" for a batch.
        paused: the part of `seconds` in which the run was paused or held.

    """
    jobs = plural(tally.job_count, noun)
    succeeded = tally.count(JobState.SUCCEEDED)
    moved_on = tally.count(MOVED_ON)
    failed_groups = tally.failed_groups
    parts = list[str]()
    if reason is None:
        parts.append("has not ended")
    elif reason is StopReason.CRITICAL and culprit is not None:
        parts.append(f"stopped by {culprit}")
    elif reason not in RAN_TO_END:
        parts.append(STOP_REASON_TEXTS[reason].removeprefix("was "))
    restored = tally.restored.describe()
    remark = clause(" ({})", restored)
    some_succeeded = f"{succeeded} succeeded{remark}"
    has_failures = tally.count(JobState.FAILED) or tally.count(JobState.BLOCKED)
    if has_failures and reason is not StopReason.COMPLETED:
        parts.append(failures_text(tally, reason is not None))
        failed_groups = 0
        if reason is StopReason.INTERRUPTED and succeeded:
            parts.append(some_succeeded)
        elif restored:
            parts.append(restored)
    elif not tally.job_count:
        nothing = f"no {noun} succeeded"
        if reason in RAN_TO_END:
            nothing = "nothing to do"
        parts.append(nothing)
    elif moved_on and succeeded + moved_on == tally.job_count:
        if succeeded:
            parts.append(some_succeeded)
    elif succeeded < tally.job_count:
        share = f"{succeeded} of {jobs}"
        if tally.may_grow:
            # The number of all jobs is unknown.
            share = plural(succeeded, noun)
        parts.append(f"{share} succeeded{remark}")
        # Failures that did not count were awaited, or are in a tolerated or cancelled group.
        parts.append(
            shortfalls(
                tally,
                "failed (did not count)",
                "failed (tolerated)",
                reason is not None,
            )
        )
    else:
        share = jobs
        if tally.job_count > 1 and reason in RAN_TO_END:
            # A run that was cut short may have had more to do.
            share = f"all {jobs}"
        parts.append(f"{share} succeeded{remark}")
    if failed_groups:
        parts.append(failed_groups_text(failed_groups).removeprefix(", "))
    if tally.reruns:
        parts.append(reruns_text(tally.reruns))
    if moved_on:
        number = jobs if moved_on == tally.job_count else moved_on
        whose = "its" if moved_on == 1 else "their"
        parts.append(f"{number} moved on after {whose} timeout")
    if seconds is not None:
        parts.append(duration_text(seconds, in_column=True))
        pause_text = duration_text(paused or None, in_column=True)
        parts.append(clause("paused or held for {} of it", pause_text))
    return Verdict(
        reason is StopReason.COMPLETED, moved_on > 0, ", ".join(filter(None, parts))
    )


def run_seconds(scheduler: BaseScheduler) -> float | None:
    """Return the duration of the last run of a scheduler in seconds, or None if none has ended."""
    began, ended = _run_view.run_times(scheduler) or (0.0, None)
    return None if ended is None else ended - began


def paused_seconds(pauses: Iterable[tuple[float, float]], end: float) -> float:
    """Return how long a run that ended at `end` was paused or held. A pause that went on until then has no end."""
    return sum(min(until, end) - since for since, until in pauses)


def run_verdict(
    scheduler: BaseScheduler, reason: StopReason | None, has_duration: bool = False
) -> Verdict:
    """Return the verdict on the last run of a scheduler. `has_duration` adds its duration. Takes O(V) time."""
    seconds = None
    paused = 0.0
    began, ended = _run_view.run_times(scheduler) or (0.0, None)
    if has_duration and ended is not None:
        seconds = ended - began
        paused = paused_seconds(_run_view.run_steering(scheduler).pauses, ended)
    culprit = _failures.culprit_text(scheduler)
    tally = Tally.for_scheduler(scheduler)
    return create_verdict(reason, tally, seconds, culprit, paused=paused)


def not_run_lines(jobs: Iterable[AnyJob], names: Mapping[AnyJob, str]) -> list[str]:
    """Return a line for each failure that blocked jobs, e.g. `not run: tests (8 jobs), because build failed`.

    Of more than ten failures, the last line has the number of the others, and of the jobs that they blocked. If nested
    schedulers were SKIPPED, another line names them, because the counts do not show why the jobs in these schedulers
    did not run.
    """
    blocked_by: dict[str, list[str]] = {}
    skipped_schedulers: list[str] = []
    for job in jobs:
        if job.state is JobState.BLOCKED:
            blocked = blocked_by.setdefault(root_failure_text(job, names), [])
            blocked.append(_name_and_size(job, names))
        elif job.state is JobState.SKIPPED and is_scheduler(job):
            skipped_schedulers.append(_name_and_size(job, names))
    causes = list(blocked_by.items())
    lines = [
        f"not run: {join_names(blocked)}, because {cause}"
        for cause, blocked in causes[:MAX_LISTED_NAMES]
    ]
    others = [len(blocked) for _, blocked in causes[MAX_LISTED_NAMES:]]
    if others:
        lines.append(
            f"not run: {sum(others)} more, because of {plural(len(others), 'other failure')}"
        )
    if skipped_schedulers:
        lines.append(f"skipped: {join_names(skipped_schedulers)}")
    return lines


def _name_and_size(job: AnyJob, names: Mapping[AnyJob, str]) -> str:
    if not is_scheduler(job) or _job_queries.is_one_job(job):
        return names[job]
    count = sum(map(_job_queries.is_one_job, _job_queries.jobs_of_run(job)))
    return f"{names[job]} ({plural(count, 'job')})"


def root_failure_text(job: AnyJob, names: Mapping[AnyJob, str]) -> str:
    """Return why a job is BLOCKED: `build failed`, `build was cancelled` or `the budget usd is spent`."""
    job = _job_queries.first_cause(job)
    error = job.raised_exception()
    if isinstance(error, _errors.BudgetSpent):
        return f"the budget {_labels.printable(error.name)} is spent"
    return failure_words(job, names.get(job))


def failure_words(job: Any, name: str | None = None) -> str:
    """Return that a job, or the span of a job, failed or was cancelled. `name` replaces its label."""
    how = "was cancelled" if job.state is JobState.CANCELLED else "failed"
    return f"{name or job.label} {how}"
