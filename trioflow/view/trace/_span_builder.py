"""The conversion of a `Trace`'s event log to a `TraceRecord`: spans with lanes and waits, runs and incidents.

`LogReader` makes one pass over the log and groups its facts by run. If a run has not ended, it also reads the current
state of the jobs. For a nested scheduler that never ran, it reads the current members. `_RecordBuilder` then sorts the
jobs of all runs by their starts, numbers them, and creates the spans.
"""

from __future__ import annotations

import functools
import math
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import metadata
from operator import itemgetter
from time import monotonic
from typing import Any, Final, NamedTuple

from ..._core.api import RequirementFailed
from ..._core.api.views import (
    AnyJob,
    BaseScheduler,
    Failure,
    JobState,
    Outcome,
    StopReason,
    WaitCause,
    all_requirements,
    duration_text,
    explicit_label,
    is_scheduler,
    name_of_policy,
    paths_of,
    ready_at,
    run_times,
    shorten,
    takes_slot,
)
from ..text._failure_text import FailureText, describe_failure
from ..text._verdict import Tally, Verdict, create_verdict
from ._critical_path import CriticalPathLink, compute_critical_path
from ._event_recorder import EventKind, RunEnd, RunStart, read_events, record_outcome
from ._graph_description import GraphDescription, describe_graph
from ._lanes import assign_lanes
from ._resource_use import ResolvedNeeds, ResourceScopes, ResourceUse, resolve_needs
from ._spans import CommandRecord, HostFacts, IncidentMark, RunSpan, Span, or_infinity
from ._waits import WaitAnalysis

PLAIN_OUTCOME: Final = Outcome(), None
"""What `record_outcome` returns for jobs that have not settled, or succeeded with nothing else to report."""
PLACEHOLDER_RUN_START: Final = RunStart(lambda: 0.0, 0.0, None)
"""The `RunStart` of a run that never began."""


@dataclass(slots=True, eq=False)
class JobFacts:
    """The facts about one job in one run, from the log. `span_number` and `lane` are assigned by `_RecordBuilder`."""

    job: AnyJob
    run_facts: RunFacts
    state: JobState = JobState.IDLE
    started_at: float | None = None
    finished_at: float | None = None
    outcome: Outcome = PLAIN_OUTCOME[0]
    command: CommandRecord | None = None
    added_at: float = -math.inf  # the default is for jobs that were added before the run
    ready_at: float | None = None
    later_attempt_starts: tuple[float, ...] = ()
    # Recorded only with keep_jobs=False: the scheduler may already have dropped the job when its path is needed.
    path: str = ""
    span_number: int = -1
    lane: int | None = None

    @property
    def requirements(self) -> list[JobFacts]:
        """The facts about the jobs that this job had to wait for."""
        jobs = self.run_facts.facts_by_job
        return [jobs[job] for job in all_requirements(self.run_facts.scheduler, self.job) if job in jobs]

    def scheduled_at(self) -> float | None:
        """Return the time from which the job could start, which is never later than its actual start.

        This is the latest of three times: when the run began, when the job was added, and when its last requirement
        settled or, for a service, became ready. Return None if the job is IDLE, BLOCKED or SKIPPED, if it was cancelled
        before its requirements settled, or if the run never began.
        """
        if self.state in (JobState.IDLE, JobState.BLOCKED, JobState.SKIPPED) or self.run_facts.started_at is None:
            return None
        latest_time = max(self.run_facts.started_at, self.added_at)
        for requirement in self.requirements:
            settled_at = requirement.finished_at if requirement.ready_at is None else requirement.ready_at
            if settled_at is None:
                return None  # the job was cancelled before this requirement settled
            latest_time = max(latest_time, settled_at)
        return latest_time if self.started_at is None else min(latest_time, self.started_at)

    def attempt_starts(self) -> Iterator[float]:
        """Yield the start of each attempt that was not throttled."""
        if self.started_at is not None:
            yield self.started_at
            yield from (time for time in self.later_attempt_starts if time > self.started_at)


@dataclass(slots=True, eq=False)
class RunFacts:
    """The facts about one run of one scheduler, from the log. `started_at` is None if the run never began."""

    scheduler: BaseScheduler
    enclosing_run: RunFacts | None
    run_number: int
    started_at: float | None = None
    run_start: RunStart = PLACEHOLDER_RUN_START
    ended_at: float | None = None
    run_end: RunEnd | None = None
    facts_by_job: dict[AnyJob, JobFacts] = field(default_factory=dict[AnyJob, JobFacts])
    window_sizes: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])

    def get_or_create_facts(self, job: AnyJob) -> JobFacts:
        """Return the facts about a job. If there are none yet, they are created."""
        facts = self.facts_by_job.get(job)
        if facts is None:
            facts = self.facts_by_job[job] = JobFacts(job, self)
        return facts

    @property
    def scheduler_facts(self) -> JobFacts | None:
        """The facts about the scheduler as a job in the enclosing run; None for an outermost scheduler."""
        return None if self.enclosing_run is None else self.enclosing_run.facts_by_job[self.scheduler]


class LogReader:
    """A reader of an event log. Its attributes contain the facts in the log, grouped by run."""

    def __init__(self, log: list[Any]) -> None:
        self.runs: Final[list[RunFacts]] = []
        self.incidents: Final[list[tuple[float, RunFacts, str]]] = []
        self._latest_runs: Final[dict[BaseScheduler, RunFacts]] = {}
        for event in read_events(log):
            self._read_event(*event)
        for run in list(self.runs):
            self._add_unsettled_jobs(run)
        self._add_unstarted_schedulers()

    def _read_event(
        self, kind: Any, scheduler: BaseScheduler, job: AnyJob, time: float, finished_at: float | None, details: Any
    ) -> None:
        if kind is EventKind.RUN_BEGAN:
            self._begin_run(scheduler, time, details)
            return
        run = self._latest_runs[scheduler]
        if isinstance(kind, JobState):
            facts = run.get_or_create_facts(job)
            facts.state, facts.started_at, facts.finished_at = kind, time, finished_at
            facts.outcome, facts.command = details or PLAIN_OUTCOME
            facts.ready_at = facts.outcome.ready_at
        elif kind is EventKind.ATTEMPT_STARTED:
            run.get_or_create_facts(job).later_attempt_starts += (time,)
        elif kind is EventKind.JOB_ADDED:
            run.get_or_create_facts(job).added_at = time
        elif kind is EventKind.JOB_PATH:
            run.get_or_create_facts(job).path = details
        elif kind is EventKind.WINDOW_RESIZED:
            run.window_sizes.append((time, details))
        elif kind is EventKind.INCIDENT:
            self.incidents.append((time, run, details[0]))
        else:
            run.started_at, run.ended_at, run.run_end = time, finished_at, details

    def _begin_run(self, scheduler: BaseScheduler, time: float, run_start: RunStart) -> None:
        enclosing_run = self._latest_runs.get(scheduler.scheduler) if scheduler.scheduler is not None else None
        if enclosing_run is not None and enclosing_run.ended_at is not None:
            enclosing_run = None
        previous_run = self._latest_runs.get(scheduler)
        number = (
            previous_run.run_number + 1
            if previous_run is not None and previous_run.enclosing_run is enclosing_run
            else 1
        )
        run = RunFacts(scheduler, enclosing_run, number, time, run_start)
        self._latest_runs[scheduler] = run
        self.runs.append(run)

    def _add_unsettled_jobs(self, run: RunFacts) -> None:
        """Add the jobs that have not settled: as IDLE if the run has ended, and otherwise with their current state."""
        if run.run_end is not None:
            for job in run.run_end.unsettled_jobs:
                run.get_or_create_facts(job)
            return
        if (times := run_times(run.scheduler)) is not None:
            run.started_at = times[0]
        for facts in map(run.get_or_create_facts, run.scheduler):
            if facts.state is JobState.IDLE:
                facts.state, facts.started_at = facts.job.state, facts.job.started_at
                facts.ready_at = ready_at(facts.job)

    def add_last_run(self, scheduler: BaseScheduler) -> None:
        """Add the last run of an outermost scheduler, and of all schedulers in it."""
        todo: list[tuple[BaseScheduler, RunFacts | None]] = [(scheduler, None)]
        for current, enclosing_run in todo:  # the loop appends nested schedulers to the list
            jobs = list(current)
            started, ended = run_times(current) or (0.0, None)
            start = RunStart(monotonic, 0.0, current.window_size, pool=current.pool)
            end = RunEnd(current.stop_reason, current.culprit, ())
            run = RunFacts(current, enclosing_run, 1, started, start, ended, end)
            self.runs.append(run)
            for job in jobs:
                facts = run.get_or_create_facts(job)
                facts.state, facts.started_at, facts.finished_at = job.state, job.started_at, job.finished_at
                if job.is_settled():
                    facts.outcome, facts.command = record_outcome(job)
                    facts.ready_at = facts.outcome.ready_at
                if is_scheduler(job) and job.started_at is not None:
                    todo.append((job, run))
        self._add_unstarted_schedulers()

    def _add_unstarted_schedulers(self) -> None:
        begun_runs = {(run.enclosing_run, run.scheduler) for run in self.runs}
        for run in self.runs:  # the loop appends to this list
            for job in run.facts_by_job:
                if is_scheduler(job) and (run, job) not in begun_runs:
                    unstarted_run = RunFacts(job, run, 0)
                    for member in job:
                        unstarted_run.get_or_create_facts(member)
                    self.runs.append(unstarted_run)


class LiveObjects(NamedTuple):
    """The outermost schedulers of a record, and the job of each span, for pictures of the graph."""

    schedulers: tuple[BaseScheduler, ...] = ()
    jobs: tuple[AnyJob, ...] = ()


@dataclass(frozen=True)
class TraceRecord:
    """A snapshot of everything that a trace shows. The fields that are dicts are keyed by span number.

    Except for `live`, all of it is data, which `_trace_file` writes and reads.
    """

    spans: tuple[Span, ...] = ()
    runs: tuple[RunSpan, ...] = ()
    """The runs, each after its enclosing run. A nested scheduler that never ran has a `RunSpan` with `run_number` 0."""
    resources: tuple[ResourceUse, ...] = ()
    """The resources of all pools and runs, and the amounts that nested schedulers reserved for their members."""
    incidents: tuple[IncidentMark, ...] = ()
    wall_offset: float = 0.0
    end_time: float = 0.0
    """The time when the last run ended, or the time of the snapshot if a run is in progress."""
    families: tuple[str, ...] = ()
    """For each span, the family of its job, as derived from the job's label by `family_from_label`."""
    failures: dict[int, FailureText] = field(default_factory=dict[int, FailureText])
    """The failures of jobs, and of schedulers that failed although none of their jobs failed."""
    commands: dict[int, CommandRecord] = field(default_factory=dict[int, CommandRecord])
    """The last processes of the jobs that ran commands."""
    host: HostFacts = field(default_factory=HostFacts)
    """Where the run took place."""
    stored_graphs: tuple[GraphDescription, ...] = ()
    """The graphs of the outermost schedulers, if the record was read from a file."""
    live: LiveObjects = field(default_factory=LiveObjects, compare=False)
    """What exists only in the process that ran, and is not written to a file."""

    @property
    def root_runs(self) -> list[RunSpan]:
        """The runs of outermost schedulers. There is only one, unless the trace watches several schedulers at once."""
        return [run for run in self.runs if run.parent is None]

    @property
    def start_time(self) -> float:
        """The time when the first run began."""
        return min((run.started_at for run in self.runs if run.started_at is not None), default=0.0)

    @cached_property
    def scheduler_numbers(self) -> frozenset[int]:
        """The numbers of the spans that are schedulers."""
        return frozenset(run.parent for run in self.runs if run.parent is not None)

    @property
    def leaf_spans(self) -> Iterator[Span]:
        """The spans of jobs that are not schedulers."""
        return (span for span in self.spans if span.number not in self.scheduler_numbers)

    @cached_property
    def counted_spans(self) -> tuple[Span, ...]:
        """The last span of each job, and of each nested scheduler that was blocked or failed without a failed job."""
        members: set[int] = set()
        for run in {(run.parent, run.scheduler_number): run for run in self.runs}.values():  # enclosing runs come first
            if run.parent is None or run.parent in members:
                members.update(run.member_numbers)
        blocked = {number for number in self.scheduler_numbers if self.spans[number].state is JobState.BLOCKED}
        counted_numbers = (members - self.scheduler_numbers) | (members & (self.failures.keys() | blocked))
        return tuple(self.spans[number] for number in sorted(counted_numbers))

    @cached_property
    def tally(self) -> Tally:
        """The number of jobs in each state. If a job ran several times, its last run counts."""
        return Tally(self.counted_spans)

    def find_culprit(self, run: RunSpan) -> Span | None:
        """Return the span of the job that stopped a run, or None if no job stopped it.

        If the run was stopped by a nested scheduler, this is the job that stopped the nested scheduler.
        """
        culprit_numbers = {run.parent: run.culprit_number for run in self.runs}
        culprit_number = run.culprit_number
        while culprit_number is not None and (nested_culprit := culprit_numbers.get(culprit_number)) is not None:
            culprit_number = nested_culprit
        return None if culprit_number is None else self.spans[culprit_number]

    def verdict(self, run: RunSpan, reason: StopReason | None) -> Verdict:
        """Return the verdict on an outermost run.

        Args:
            run: the run.
            reason: the reason why the run ended, or None if it has not ended.

        """
        culprit = self.find_culprit(run)
        path = None if culprit is None else shorten(culprit.path)
        return create_verdict(reason, self.tally, self.end_time - self.start_time, path)

    @cached_property
    def run_indices(self) -> dict[int, int]:
        """For each span number, the index in `runs` of the run that the span belongs to."""
        return {number: index for index, run in enumerate(self.runs) for number in run.member_numbers}

    def enclosing_spans(self, span: Span) -> list[Span]:
        """Return the spans of a job's enclosing schedulers, the innermost first."""
        schedulers: list[Span] = []
        while span.parent is not None:
            span = self.spans[span.parent]
            schedulers.append(span)
        return schedulers

    @cached_property
    def critical_path_links(self) -> tuple[CriticalPathLink, ...]:
        """The links of the critical path, in the order of their starts."""
        return compute_critical_path(self.runs, self.spans)

    @cached_property
    def critical_path_numbers(self) -> frozenset[int]:
        """The numbers of the spans on the critical path."""
        return frozenset(link.span_number for link in self.critical_path_links)

    @property
    def critical_path_jobs(self) -> dict[AnyJob, AnyJob | None]:
        """The jobs on the critical path, each with its predecessor on the path, in the process that ran."""
        jobs = self.live.jobs
        return {
            jobs[link.span_number]: None if link.predecessor_number is None else jobs[link.predecessor_number]
            for link in self.critical_path_links
        }

    @cached_property
    def graphs(self) -> tuple[GraphDescription, ...]:
        """The graphs of the outermost schedulers."""
        return self.stored_graphs or tuple(
            describe_graph(scheduler, self.critical_path_jobs) for scheduler in self.live.schedulers
        )

    def find_root_failure(self, span: Span) -> Span | None:
        """Return the span of the job whose failure blocked the job of `span`, directly or through other jobs.

        If the failed job is unknown, return None. If the job of `span` is not BLOCKED, return its own span.
        """
        for _ in self.spans:  # in a foreign file, blocked jobs may form a cycle
            if span.state is not JobState.BLOCKED:
                return span
            if span.blocked_by is None:
                return None
            span = self.spans[span.blocked_by]
        return None


def build_record(log: list[Any]) -> TraceRecord:
    """Build the `TraceRecord` of an event log, in O(n log n) time for n jobs."""
    reader = LogReader(log)
    return _RecordBuilder(reader).build() if reader.runs else TraceRecord()


def record_of_last_run(scheduler: BaseScheduler) -> TraceRecord:
    """Build the `TraceRecord` of a scheduler's last run from what its jobs know, without a log.

    The jobs know neither earlier runs of nested schedulers nor attempts, and a window has only its last size.
    """
    reader = LogReader([])
    reader.add_last_run(scheduler)
    return _RecordBuilder(reader).build()


def _inner_waits(outcome: Outcome) -> Iterator[tuple[WaitCause, float, float]]:
    """Yield the waits between the first start of a job and its end."""
    for began, ended in outcome.machine_waits:
        yield WaitCause.MACHINE, began, ended
    for began, ended in outcome.retry_waits:
        yield WaitCause.RETRY, began, ended


class _RecordBuilder:
    def __init__(self, reader: LogReader) -> None:
        self._reader: Final = reader
        self._runs: Final = reader.runs
        self._job_facts: Final = self._assign_span_numbers()
        self._paths_by_run: Final = self._find_paths()
        self._scopes: Final = ResourceScopes()
        self._needs_by_span: Final = self._find_needs()
        for run in self._runs:
            _assign_lanes(run)

    def build(self) -> TraceRecord:
        """Return the record."""
        run_indices = {run: index for index, run in enumerate(self._runs)}
        incidents = (IncidentMark(time, run_indices[run], message) for time, run, message in self._reader.incidents)
        last_run_start = next(run.run_start for run in reversed(self._runs) if run.started_at is not None)
        end_time = max(
            last_run_start.clock() if run.ended_at is None else run.ended_at
            for run in self._runs
            if run.started_at is not None
        )
        scheduler_numbers = {run.scheduler: number for number, run in enumerate(reversed(self._runs))}
        runs = tuple(_make_run_span(run, scheduler_numbers[run.scheduler]) for run in self._runs)
        jobs = [facts.job for facts in self._job_facts]
        return TraceRecord(
            spans=self._add_waits([self._make_span(facts) for facts in self._job_facts], runs, end_time),
            runs=runs,
            resources=tuple(self._scopes.resources),
            families=tuple(family_from_label(job.label, explicit_label(job) is not None) for job in jobs),
            incidents=tuple(incidents),
            wall_offset=last_run_start.wall_offset,
            end_time=end_time,
            failures={
                facts.span_number: describe_failure(facts.job, failure)
                for facts in self._job_facts
                if (failure := _find_own_failure(facts)) is not None
            },
            commands={facts.span_number: facts.command for facts in self._job_facts if facts.command is not None},
            host=_host_facts(),
            live=LiveObjects(
                tuple(dict.fromkeys(run.scheduler for run in self._runs if run.enclosing_run is None)), tuple(jobs)
            ),
        )

    def _assign_span_numbers(self) -> list[JobFacts]:
        """Sort the jobs by start, nesting depth and order of addition, and number them in the resulting order."""
        entries: list[tuple[float, int, int, JobFacts]] = []
        depths: dict[RunFacts | None, int] = {None: -1}
        for run in self._runs:  # enclosing runs come first
            depths[run] = depths[run.enclosing_run] + 1
            positions = {job: number for number, job in enumerate(run.scheduler)}
            entries += (
                (or_infinity(facts.started_at), depths[run], positions.get(job, len(positions)), facts)
                for job, facts in run.facts_by_job.items()
            )
        entries.sort(key=itemgetter(0, 1, 2))
        jobs = [facts for *_, facts in entries]
        for number, facts in enumerate(jobs):
            facts.span_number = number
        return jobs

    def _find_needs(self) -> dict[int, ResolvedNeeds]:
        """Return the needs of each span that has any. Also add the cooldowns of throttled keys to their resources."""
        scopes: dict[RunFacts | None, dict[str, ResourceUse]] = {None: {}}
        all_needs: dict[int, ResolvedNeeds] = {}
        for run in self._runs:  # enclosing runs come first
            reserved_needs = () if run.scheduler_facts is None else all_needs.get(run.scheduler_facts.span_number, ())
            scope = scopes[run] = self._scopes.build_run_scope(
                scopes[run.enclosing_run], reserved_needs, run.run_start.pool
            )
            for job, facts in run.facts_by_job.items():
                needs = resolve_needs(scope, job.needs or {}) if scope else ()
                needs += tuple(self._scopes.resolve_run_needs(run.scheduler, job))
                if not needs:
                    continue
                all_needs[facts.span_number] = needs
                needed = {resource.name: resource for resource, _ in needs}
                for throttling in facts.outcome.throttled_attempts:
                    for name, until in throttling.closed_until:
                        needed[name].cooldowns.append((throttling.ended, until, facts.span_number))
        return all_needs

    def _add_waits(self, spans: list[Span], runs: tuple[RunSpan, ...], end_time: float) -> tuple[Span, ...]:
        lifetimes: list[tuple[float, float]] = []
        for facts in self._job_facts:
            run = facts.run_facts
            run_end = end_time if run.ended_at is None else run.ended_at
            end = run_end if facts.finished_at is None else facts.finished_at
            lifetimes.append((end if run.started_at is None else max(run.started_at, facts.added_at), end))
        analysis = WaitAnalysis(
            spans,
            runs,
            lifetimes,
            self._needs_by_span,
            {facts.span_number: tuple(_inner_waits(facts.outcome)) for facts in self._job_facts},
        )
        waits_of_spans = [tuple(analysis.find_waits(span)) for span in spans]
        return tuple(
            replace(span, waits=span_waits) if span_waits else span
            for span, span_waits in zip(spans, waits_of_spans, strict=True)
        )

    def _find_paths(self) -> dict[RunFacts, dict[AnyJob, str]]:
        has_several_roots = len({run.scheduler for run in self._runs if run.enclosing_run is None}) > 1
        paths: dict[RunFacts, dict[AnyJob, str]] = {}
        for run in self._runs:  # enclosing runs come first
            scheduler = run.scheduler
            if run.enclosing_run is None:
                prefix = f"{scheduler.label}/" if has_several_roots and scheduler.scheduler is None else None
                paths[run] = paths_of(scheduler, prefix)
            else:
                paths[run] = paths[run.enclosing_run]
                if run.scheduler_facts is not None and run.scheduler_facts.path:
                    paths[run].update(paths_of(scheduler, f"{run.scheduler_facts.path}/"))
            paths[run].update((job, facts.path) for job, facts in run.facts_by_job.items() if facts.path)
        return paths

    def _make_span(self, facts: JobFacts) -> Span:
        job, run, outcome, command = facts.job, facts.run_facts, facts.outcome, facts.command
        exception = None if outcome.failure is None else outcome.failure.exception
        blocked_by: AnyJob | None = None
        if facts.state is JobState.BLOCKED and isinstance(exception, RequirementFailed):
            blocked_by = exception.requirement
        return Span(
            number=facts.span_number,
            parent=None if run.scheduler_facts is None else run.scheduler_facts.span_number,
            run=run.run_number,
            path=self._paths_by_run[run].get(job, job.label),
            label=job.label,
            kind=type(job).__name__,
            state=facts.state,
            critical=job.is_critical(),
            forever=job.forever,
            scheduled_at=facts.scheduled_at(),
            started_at=facts.started_at,
            ready_at=facts.ready_at,
            finished_at=facts.finished_at,
            attempts=tuple(facts.attempt_starts()),
            lane=facts.lane,
            timed_out=outcome.timed_out,
            moved_on=outcome.moved_on,
            required=tuple(facts.span_number for facts in facts.requirements),
            exception=exception,
            returncode=None if command is None else command.returncode,
            user_time=None if command is None else command.user_time,
            system_time=None if command is None else command.system_time,
            max_rss=None if command is None else command.max_rss,
            throttled=tuple((attempt.began, attempt.ended) for attempt in outcome.throttled_attempts),
            takes_slot=takes_slot(job),
            restored=outcome.restoration is not None,
            restored_at=outcome.restored_at,
            restored_elapsed=None if outcome.restoration is None else outcome.restoration.elapsed,
            blocked_by=None if blocked_by is None else self._find_span_number(run, blocked_by),
        )

    def _find_span_number(self, run: RunFacts | None, job: AnyJob) -> int | None:
        """Return the number of a job's span in a run or an enclosing one; None if the job is in none of them."""
        while run is not None:
            if job in run.facts_by_job:
                return run.facts_by_job[job].span_number
            run = run.enclosing_run
        return None


def _make_run_span(run: RunFacts, scheduler_number: int) -> RunSpan:
    culprit = None if run.run_end is None or run.run_end.culprit is None else run.facts_by_job.get(run.run_end.culprit)
    return RunSpan(
        scheduler_number=scheduler_number,
        parent=None if run.scheduler_facts is None else run.scheduler_facts.span_number,
        run_number=run.run_number,
        label=run.scheduler.label,
        started_at=run.started_at,
        finished_at=run.ended_at,
        window_size=run.run_start.window_size,
        has_limiter=run.run_start.has_limiter,
        backend=run.run_start.backend,
        window_sizes=tuple(run.window_sizes),
        stop_reason=None if run.run_end is None else run.run_end.stop_reason,
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


@functools.cache
def _host_facts() -> HostFacts:
    versions = (f"{name} {version}" for name in ("trioflow", "trio", "anyio") if (version := _package_version(name)))
    return HostFacts(
        platform.node(), platform.platform(), ", ".join([f"Python {platform.python_version()}", *versions])
    )


def _package_version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


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


def _find_own_failure(facts: JobFacts) -> Failure | None:
    """Return the failure of a job. Return None if it did not fail, or only failed because one of its members failed."""
    return None if facts.state is not JobState.FAILED or facts.outcome.failed_through_member else facts.outcome.failure


WORD_PATTERN: Final = re.compile(r"[^\W_]+(?:[.,:][^\W_]+)*")
NUMBER_PATTERN: Final = re.compile(r"\d+(?:[.,:]\d+)*")


def family_from_label(label: str, is_user_chosen: bool) -> str:
    """Derive the family of a job from its label, so that jobs with similar work have the same family.

    If the user chose the label, the family is the label with a star in place of each separate number. Otherwise it is
    the name of the function or the program.

    Args:
        label: the label.
        is_user_chosen: whether the user chose the label. Otherwise, it is the default label.

    Example:
        >>> family_from_label("page 7 for x86", True), family_from_label("python3.11 tests", True)
        ('page * for x86', 'python3.11 tests')
        >>> family_from_label("fetch('a')", False)
        'fetch'

    """
    if not is_user_chosen:
        return label.partition("(")[0].split(" ")[0] or label
    return WORD_PATTERN.sub(lambda word: "*" if NUMBER_PATTERN.fullmatch(word[0]) else word[0], label)
