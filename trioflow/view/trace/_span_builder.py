"""The facts about runs and their jobs, and the conversion of these facts to a `TraceRecord`.

`_log_reader` collects the facts from the event log of a `Trace`. `RecordBuilder` sorts the jobs of all runs by their
starts, numbers them, and creates the spans with their lanes and waits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any, Final

from ..._core.api import RequirementFailed
from ..._core.api.views import (
    AnyJob,
    BaseScheduler,
    JobState,
    Outcome,
    StopReason,
    WaitCause,
    criticality,
    duration_text,
    explicit_label,
    is_one_job,
    is_scheduler,
    name_of_policy,
    takes_slot,
)
from ..text._failure_text import describe_failure
from ._event_recorder import RunStart
from ._record import TraceRecord
from ._resource_use import ResolvedNeeds
from ._spans import CommandRecord, IncidentMark, RunSpan, Span, assign_lanes, family_from_label, or_infinity
from ._waits import WaitAnalysis

PLAIN_OUTCOME: Final = Outcome()
"""The outcome of jobs that have not settled, or succeeded with nothing else to report."""


@dataclass(slots=True, eq=False)
class JobFacts:
    """The facts about one job in one run. `span_number` and `lane` are assigned by `RecordBuilder`."""

    job: AnyJob
    run: RunFacts
    path: str = ""
    position: int = 0
    """The position of the job among those of its scheduler, in the order in which they were added."""
    requirements: list[JobFacts] = field(default_factory=list["JobFacts"])
    state: JobState = JobState.IDLE
    started_at: float | None = None
    finished_at: float | None = None
    outcome: Outcome = PLAIN_OUTCOME
    command: CommandRecord | None = None
    added_at: float = -math.inf  # the default is for jobs that were added before the run
    ready_at: float | None = None
    later_attempt_starts: tuple[float, ...] = ()
    span_number: int = -1
    lane: int | None = None

    def scheduled_at(self) -> float | None:
        """Return the time from which the job could start, which is never later than its actual start.

        This is the latest of three times: when the run began, when the job was added, and when its last requirement
        settled or, for a service, became ready. Return None if the job is IDLE, BLOCKED or SKIPPED, if it was cancelled
        before its requirements settled, or if the run never began.
        """
        if self.state in (JobState.IDLE, JobState.BLOCKED, JobState.SKIPPED) or self.run.started_at is None:
            return None
        latest_time = max(self.run.started_at, self.added_at)
        for requirement in self.requirements:
            settled_at = requirement.finished_at if requirement.ready_at is None else requirement.ready_at
            if settled_at is None or settled_at > or_infinity(self.finished_at):
                return None  # the job was cancelled before this requirement settled
            latest_time = max(latest_time, settled_at)
        return latest_time if self.started_at is None else min(latest_time, self.started_at)

    def attempt_starts(self) -> Iterator[float]:
        """Yield the start of each attempt that was not throttled."""
        if self.started_at is not None:
            yield self.started_at
            throttled = self.outcome.throttled_attempts
            for time in self.later_attempt_starts:
                if time >= self.started_at and not any(began <= time <= ended for began, ended, _ in throttled):
                    yield time

    def inner_waits(self, end_time: float) -> Iterator[tuple[WaitCause, float, float]]:
        """Yield the waits between the first start of the job and its end, in a trace that ends at `end_time`."""
        for began, ended in self.outcome.machine_waits:
            yield WaitCause.MACHINE, began, ended
        for began, ended in self.outcome.retry_waits:
            yield WaitCause.RETRY, began, min(ended, end_time)

    def lifetime(self, end_time: float) -> tuple[float, float]:
        """Return the interval in which the job could wait or run, in a trace that ends at `end_time`."""
        run = self.run
        end = next(time for time in (self.finished_at, run.ended_at, end_time) if time is not None)
        return (end if run.started_at is None else max(run.started_at, self.added_at), end)


@dataclass(slots=True, eq=False)
class RunFacts:
    """The facts about one run of one scheduler. `started_at` is None if the run never began."""

    scheduler: BaseScheduler
    enclosing_run: RunFacts | None
    run_number: int
    start: RunStart
    started_at: float | None = None
    ended_at: float | None = None
    stop_reason: StopReason | None = None
    culprit: AnyJob | None = None
    facts_by_job: dict[AnyJob, JobFacts] = field(default_factory=dict[AnyJob, JobFacts])
    window_sizes: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])

    @property
    def scheduler_facts(self) -> JobFacts | None:
        """The facts about the scheduler as a job in the enclosing run; None for an outermost scheduler."""
        return None if self.enclosing_run is None else self.enclosing_run.facts_by_job[self.scheduler]

    @property
    def parent_number(self) -> int | None:
        """The number of the span of the scheduler; None for an outermost scheduler."""
        return None if self.scheduler_facts is None else self.scheduler_facts.span_number


class RecordBuilder:
    """The builder of a `TraceRecord`, in O(n log n) time for n jobs.

    Args:
        runs: the facts about all runs, each after its enclosing run.

    """

    def __init__(self, runs: list[RunFacts]) -> None:
        self._runs: Final = runs
        self.job_facts: Final = _number_jobs(runs)
        for run in runs:
            _assign_lanes(run)

    def build(
        self,
        incidents: Iterable[tuple[float, RunFacts, str]],
        end_time: float,
        needs: Mapping[int, ResolvedNeeds],
        **other_fields: Any,
    ) -> TraceRecord:
        """Return the record.

        Args:
            incidents: the time, the run and the message of each incident.
            end_time: the time when the last run ended, or the time of the snapshot.
            needs: the needs of each span that has any.
            other_fields: further fields of the record.

        """
        run_indices = {run: index for index, run in enumerate(self._runs)}
        scheduler_numbers = {run.scheduler: number for number, run in enumerate(reversed(self._runs))}
        runs = tuple(_make_run_span(run, scheduler_numbers[run.scheduler]) for run in self._runs)
        spans = [_make_span(facts) for facts in self.job_facts]
        analysis = WaitAnalysis(
            spans,
            runs,
            [facts.lifetime(end_time) for facts in self.job_facts],
            needs,
            {facts.span_number: tuple(facts.inner_waits(end_time)) for facts in self.job_facts},
        )
        waits_of_spans = [tuple(analysis.find_waits(span)) for span in spans]
        return TraceRecord(
            spans=tuple(
                replace(span, waits=waits) if waits else span for span, waits in zip(spans, waits_of_spans, strict=True)
            ),
            runs=runs,
            families=tuple(
                family_from_label(facts.job.label, explicit_label(facts.job) is not None) for facts in self.job_facts
            ),
            incidents=tuple(IncidentMark(time, run_indices[run], message) for time, run, message in incidents),
            end_time=end_time,
            failures={
                facts.span_number: describe_failure(facts.job, failure)
                for facts in self.job_facts
                if (failure := facts.outcome.failure) is not None
                and facts.state is JobState.FAILED
                and not facts.outcome.failed_through_member
            },
            commands={facts.span_number: facts.command for facts in self.job_facts if facts.command is not None},
            **other_fields,
        )


def _number_jobs(runs: list[RunFacts]) -> list[JobFacts]:
    """Sort the jobs by start, nesting depth and order of addition, and number them in the resulting order."""
    entries: list[tuple[float, int, int, JobFacts]] = []
    depths: dict[RunFacts | None, int] = {None: -1}
    for run in runs:  # enclosing runs come first
        depths[run] = depths[run.enclosing_run] + 1
        entries += (
            (or_infinity(facts.started_at), depths[run], facts.position, facts) for facts in run.facts_by_job.values()
        )
    entries.sort(key=itemgetter(0, 1, 2))
    jobs = [facts for *_, facts in entries]
    for number, facts in enumerate(jobs):
        facts.span_number = number
    return jobs


def _assign_lanes(run: RunFacts) -> None:
    """Assign lanes to those jobs of a run that have started. Jobs that take no slot get the last lanes."""
    started_jobs = sorted(
        (facts for facts in run.facts_by_job.values() if facts.started_at is not None),
        key=lambda facts: facts.span_number,
    )
    first_lane = 1
    for is_in_slot in (True, False):
        jobs = [facts for facts in started_jobs if takes_slot(facts.job) is is_in_slot]
        intervals = ((facts.started_at or 0.0, or_infinity(facts.finished_at)) for facts in jobs)
        for facts, row in zip(jobs, assign_lanes(intervals, (facts.scheduled_at() for facts in jobs)), strict=True):
            facts.lane = row + first_lane
        first_lane = max((facts.lane + 1 for facts in jobs if facts.lane is not None), default=first_lane)


def _make_span(facts: JobFacts) -> Span:
    job, run, outcome, command = facts.job, facts.run, facts.outcome, facts.command
    error = None if outcome.failure is None else outcome.failure.exception
    is_blocked = facts.state is JobState.BLOCKED
    blocking_job = error.requirement if is_blocked and isinstance(error, RequirementFailed) else None
    return Span(
        number=facts.span_number,
        parent=run.parent_number,
        run=run.run_number,
        path=facts.path,
        label=job.label,
        kind=type(job).__name__,
        state=facts.state,
        critical=criticality(job),
        forever=job.forever,
        scheduled_at=facts.scheduled_at(),
        started_at=facts.started_at,
        ready_at=facts.ready_at,
        finished_at=facts.finished_at,
        attempts=tuple(facts.attempt_starts()),
        lane=facts.lane,
        timed_out=outcome.timed_out,
        moved_on=outcome.moved_on,
        required=tuple(requirement.span_number for requirement in facts.requirements),
        exception=error,
        returncode=None if command is None else command.returncode,
        user_time=None if command is None else command.user_time,
        system_time=None if command is None else command.system_time,
        max_rss=None if command is None else command.max_rss,
        throttled=tuple((attempt.began, attempt.ended) for attempt in outcome.throttled_attempts),
        takes_slot=takes_slot(job),
        is_first=is_scheduler(job) and is_one_job(job),
        restored=outcome.restoration is not None,
        restored_at=outcome.restored_at,
        restored_elapsed=None if outcome.restoration is None else outcome.restoration.elapsed,
        blocked_by=None if blocking_job is None else _find_span_number(run, blocking_job),
        failed_attempts=tuple((attempt.number, attempt.ended, attempt.error) for attempt in outcome.failed_attempts),
    )


def _find_span_number(run: RunFacts | None, job: AnyJob) -> int | None:
    """Return the number of a job's span in a run or an enclosing one; None if the job is in none of them."""
    while run is not None:
        if job in run.facts_by_job:
            return run.facts_by_job[job].span_number
        run = run.enclosing_run
    return None


def _make_run_span(run: RunFacts, scheduler_number: int) -> RunSpan:
    culprit = None if run.culprit is None else run.facts_by_job.get(run.culprit)
    return RunSpan(
        scheduler_number=scheduler_number,
        parent=run.parent_number,
        run_number=run.run_number,
        label=run.scheduler.label,
        started_at=run.started_at,
        finished_at=run.ended_at,
        window_size=run.start.window_size,
        has_limiter=run.start.has_limiter,
        backend=run.start.backend,
        window_sizes=tuple(run.window_sizes),
        stop_reason=run.stop_reason,
        culprit_number=None if culprit is None else culprit.span_number,
        member_numbers=tuple(sorted(facts.span_number for facts in run.facts_by_job.values())),
        has_own_label=explicit_label(run.scheduler) is not None,
        options=tuple(_option_texts(run.scheduler)),
    )


def _option_texts(scheduler: BaseScheduler) -> Iterator[tuple[str, str]]:
    """Yield the names and values of the options that were set on a scheduler, except its window."""
    if scheduler.timeout is not None:
        yield "timeout", duration_text(scheduler.timeout)
    yield "policy", name_of_policy(scheduler.policy)
    if scheduler.pool is not None:
        yield "pool", repr(scheduler.pool)
    if scheduler.critical_jobs is not None:
        yield "critical_jobs", str(scheduler.critical_jobs)
