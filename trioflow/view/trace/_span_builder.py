"""The conversion of a `Trace`'s event log to a `TraceRecord`: spans with lanes and waits, runs and incidents.

`LogReader` makes one pass over the log and groups its facts by run. During a run it also reads the jobs themselves, and
for nested schedulers that never ran, their current members. `_RecordBuilder` then sorts the jobs of all runs by their
starts, numbers them, and creates the spans.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import itemgetter
from typing import Any, Final

from ..._core.api.views import (
    AnyJob,
    BaseScheduler,
    Failure,
    JobState,
    StopReason,
    given_label,
    is_scheduler,
    paths_of,
    ready_at,
    shorten,
    waits_for,
)
from ..text._verdict import Tally, Verdict, verdict
from ._critical import Link, critical_chain
from ._event_recorder import CommandEnd, EventKind, JobEnd, RunEnd, RunStart, events
from ._lanes import assign_lanes
from ._resource_use import Needs, ResourceScopes, ResourceUse, resolve_needs
from ._spans import IncidentMark, RunSpan, Span, or_infinity
from ._waits import Waits

DEFAULT_END: Final = JobEnd(None, timed_out=False, through_member=False)
"""The `JobEnd` of jobs without one: they succeeded at the first attempt, or have not settled."""
NEVER_STARTED: Final = RunStart(lambda: 0.0, 0.0, None)
"""The `RunStart` of a run that never began."""


@dataclass(slots=True, eq=False)
class JobFacts:
    """The facts on one job in one run, from the log; `number` and `lane` are assigned later."""

    job: AnyJob
    run_facts: RunFacts
    state: JobState = JobState.IDLE
    started_at: float | None = None
    finished_at: float | None = None
    end: JobEnd = DEFAULT_END
    added_at: float = -math.inf
    ready_at: float | None = None
    further_attempts: tuple[float, ...] = ()
    path: str = ""  # set for a job that its scheduler may drop
    number: int = -1
    lane: int | None = None

    @property
    def required(self) -> list[JobFacts]:
        """The jobs that this one had to wait for."""
        jobs = self.run_facts.jobs
        return [jobs[job] for job in waits_for(self.run_facts.scheduler, self.job) if job in jobs]

    def scheduled_at(self) -> float | None:
        """Return the time when the last requirement settled; None if that is not in the log, or not yet."""
        if self.state in (JobState.IDLE, JobState.BLOCKED, JobState.SKIPPED) or self.run_facts.began is None:
            return None
        latest = max(self.run_facts.began, self.added_at)
        for requirement in self.required:
            settled = requirement.finished_at if requirement.ready_at is None else requirement.ready_at
            if settled is None:
                return None  # the job was cancelled before
            latest = max(latest, settled)
        return latest if self.started_at is None else min(latest, self.started_at)

    def attempts(self) -> Iterator[float]:
        """Yield the start of each attempt, without those that were throttled."""
        if self.started_at is not None:
            yield self.started_at
            yield from (at for at in self.further_attempts if at > self.started_at)


@dataclass(slots=True, eq=False)
class RunFacts:
    """The facts on one run of one scheduler, from the log; `began` is None if the run never began."""

    scheduler: BaseScheduler
    enclosing: RunFacts | None
    number: int
    began: float | None = None
    beginning: RunStart = NEVER_STARTED
    ended: float | None = None
    ending: RunEnd | None = None
    jobs: dict[AnyJob, JobFacts] = field(default_factory=dict[AnyJob, JobFacts])
    window_sizes: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])

    def facts_on(self, job: AnyJob) -> JobFacts:
        """Return the facts on a job, and create them at the first call."""
        facts = self.jobs.get(job)
        if facts is None:
            facts = self.jobs[job] = JobFacts(job, self)
        return facts

    @property
    def parent(self) -> JobFacts | None:
        """The facts on the scheduler as a job in the enclosing run; None for an outermost scheduler."""
        return None if self.enclosing is None else self.enclosing.jobs[self.scheduler]


class LogReader:
    """The facts in a log, grouped by run."""

    def __init__(self, log: list[Any]) -> None:
        self.runs: Final[list[RunFacts]] = []
        self.incidents: Final[list[tuple[float, RunFacts, AnyJob | None, str]]] = []
        self._latest: Final[dict[BaseScheduler, RunFacts]] = {}
        for event in events(log):
            self._read_event(*event)
        for run in list(self.runs):
            self._add_unsettled_jobs(run)
        self._add_schedulers_never_run()

    def _read_event(
        self, kind: Any, scheduler: BaseScheduler, job: AnyJob, at: float, finished: float | None, details: Any
    ) -> None:
        if kind is EventKind.BEGIN:
            self._begin(scheduler, at, details)
            return
        run = self._latest[scheduler]
        if isinstance(kind, JobState):
            facts = run.facts_on(job)
            facts.state, facts.started_at, facts.finished_at, facts.end = kind, at, finished, details or DEFAULT_END
            facts.ready_at = facts.end.ready_at
        elif kind is EventKind.ATTEMPT:
            run.facts_on(job).further_attempts += (at,)
        elif kind is EventKind.ADDED:
            run.facts_on(job).added_at = at
        elif kind is EventKind.PATH:
            run.facts_on(job).path = details
        elif kind is EventKind.WINDOW:
            run.window_sizes.append((at, details))
        elif kind is EventKind.INCIDENT:
            self.incidents.append((at, run, job, details[0]))
        else:
            run.ended, run.ending = at, details

    def _begin(self, scheduler: BaseScheduler, at: float, beginning: RunStart) -> None:
        enclosing = self._latest.get(scheduler.scheduler) if scheduler.scheduler is not None else None
        if enclosing is not None and enclosing.ended is not None:
            enclosing = None
        previous = self._latest.get(scheduler)
        number = previous.number + 1 if previous is not None and previous.enclosing is enclosing else 1
        run = RunFacts(scheduler, enclosing, number, at, beginning)
        self._latest[scheduler] = run
        self.runs.append(run)

    def _add_unsettled_jobs(self, run: RunFacts) -> None:
        """Add the jobs that have not settled: IDLE if the run has ended, otherwise in their current state."""
        if run.ending is not None:
            for job in run.ending.unsettled:
                run.facts_on(job)
            return
        for facts in map(run.facts_on, run.scheduler):
            if facts.state is JobState.IDLE:
                facts.state, facts.started_at = facts.job.state, facts.job.started_at
                facts.ready_at = ready_at(facts.job)

    def _add_schedulers_never_run(self) -> None:
        ran = {(run.enclosing, run.scheduler) for run in self.runs}
        for run in self.runs:  # the list grows during the loop
            for job in run.jobs:
                if is_scheduler(job) and (run, job) not in ran:
                    empty = RunFacts(job, run, 0)
                    for member in job:
                        empty.facts_on(member)
                    self.runs.append(empty)


@dataclass(frozen=True)
class TraceRecord:
    """A snapshot of everything that a trace shows; the keys of all dicts are numbers of spans."""

    spans: tuple[Span, ...] = ()
    runs: tuple[RunSpan, ...] = ()
    """The runs, each after its enclosing run; those of nested schedulers that never ran are included."""
    resources: tuple[ResourceUse, ...] = ()
    """The resources of all pools, and what nested schedulers reserved of these for their members."""
    incidents: tuple[IncidentMark, ...] = ()
    wall_offset: float = 0.0
    now: float = 0.0
    """The time of the snapshot, or when the last run ended."""
    kinds: tuple[str, ...] = ()
    """The kind of each span's job by its label, see `kind_from_label`."""
    failures: dict[int, Failure] = field(default_factory=dict[int, Failure])
    """The failures of jobs, and of schedulers that failed by themselves."""
    commands: dict[int, tuple[Any, CommandEnd]] = field(default_factory=dict[int, tuple[Any, CommandEnd]])
    """The jobs that ran commands, each with the end of its last process."""
    jobs: tuple[AnyJob, ...] = ()
    """The job of each span."""
    call_places: dict[int, tuple[str, int]] = field(default_factory=dict[int, tuple[str, int]])
    """Where calls outside this process ran, and the number of concurrent calls there."""

    @property
    def roots(self) -> list[RunSpan]:
        """The runs of outermost schedulers: one, unless the trace watches several schedulers at once."""
        return [run for run in self.runs if run.parent is None]

    @property
    def began(self) -> float:
        """The time when the first run began."""
        return min((run.started_at for run in self.runs if run.started_at is not None), default=0.0)

    @cached_property
    def nested(self) -> frozenset[int]:
        """The numbers of the spans that are schedulers."""
        return frozenset(run.parent for run in self.runs if run.parent is not None)

    @property
    def leaves(self) -> Iterator[Span]:
        """The spans of jobs that are not schedulers."""
        return (span for span in self.spans if span.number not in self.nested)

    @cached_property
    def counted_spans(self) -> tuple[Span, ...]:
        """The spans that a verdict counts: the last of each job, and of each scheduler that failed by itself."""
        members: set[int] = set()
        for run in {(run.parent, run.scheduler): run for run in self.runs}.values():  # enclosing runs come first
            if run.parent is None or run.parent in members:
                members.update(run.members)
        counted = (members - self.nested) | (members & self.failures.keys())
        return tuple(self.spans[number] for number in sorted(counted))

    @cached_property
    def tally(self) -> Tally:
        """The number of jobs in each state, in their last runs."""
        failures = sum(span.number in self.failures for span in self.counted_spans)
        return Tally((span for span in self.counted_spans if span.number not in self.nested), failures)

    def culprit(self, run: RunSpan) -> Span | None:
        """Return the span of the job that stopped a run, at any depth of nesting; None if no job did."""
        culprits = {run.parent: run.culprit for run in self.runs}
        number = run.culprit
        while number is not None and (inner := culprits.get(number)) is not None:
            number = inner
        return None if number is None else self.spans[number]

    def verdict(self, run: RunSpan, reason: StopReason | None) -> Verdict:
        """Return the verdict on an outermost run.

        Args:
            run: the run.
            reason: why it ended; None to say that it has not.

        """
        culprit = self.culprit(run)
        path = None if culprit is None else shorten(culprit.path)
        return verdict(reason, self.tally, self.now - self.began, path)

    @cached_property
    def run_indices(self) -> dict[int, int]:
        """For the number of each span, the index of its run in `runs`."""
        return {number: index for index, run in enumerate(self.runs) for number in run.members}

    def enclosing_spans(self, span: Span) -> list[Span]:
        """Return the spans of a job's enclosing schedulers, the innermost first."""
        enclosing: list[Span] = []
        while span.parent is not None:
            span = self.spans[span.parent]
            enclosing.append(span)
        return enclosing

    @cached_property
    def chain(self) -> tuple[Link, ...]:
        """The links of the critical path, in the order of their starts."""
        return critical_chain(self.runs, self.spans)

    @cached_property
    def on_path(self) -> frozenset[int]:
        """The numbers of the spans on the critical path."""
        return frozenset(link.number for link in self.chain)

    @property
    def critical_jobs(self) -> dict[AnyJob, AnyJob | None]:
        """The jobs on the critical path, each with its predecessor on the path."""
        return {self.jobs[link.number]: None if link.after is None else self.jobs[link.after] for link in self.chain}


def build_record(log: list[Any]) -> TraceRecord:
    """Build the record of a log in O(n log n) for n jobs."""
    reader = LogReader(log)
    return _RecordBuilder(reader).build() if reader.runs else TraceRecord()


class _RecordBuilder:
    """The steps from the facts of a log to its `TraceRecord`."""

    def __init__(self, reader: LogReader) -> None:
        self._reader: Final = reader
        self._runs: Final = reader.runs
        self._jobs: Final = self._number_jobs()
        self._paths: Final = self._find_paths()
        self._scopes: Final = ResourceScopes()
        self._needs: Final = self._find_needs()
        for run in self._runs:
            _assign_lanes(run)

    def build(self) -> TraceRecord:
        """Build the record."""
        indices = {run: index for index, run in enumerate(self._runs)}
        incidents = (IncidentMark(at, indices[run], job, message) for at, run, job, message in self._reader.incidents)
        last = next(run.beginning for run in reversed(self._runs) if run.began is not None)
        now = max(last.clock() if run.ended is None else run.ended for run in self._runs if run.began is not None)
        runs = tuple(map(_run_span, self._runs))
        jobs = [facts.job for facts in self._jobs]
        return TraceRecord(
            spans=self._add_waits([self._span(facts) for facts in self._jobs], runs, now),
            runs=runs,
            resources=tuple(self._scopes.resources),
            kinds=tuple(kind_from_label(job.label, given_label(job) is not None) for job in jobs),
            incidents=tuple(incidents),
            wall_offset=last.wall_offset,
            now=now,
            failures={facts.number: failure for facts in self._jobs if (failure := _own_failure(facts)) is not None},
            commands={
                facts.number: (facts.job, facts.end.command) for facts in self._jobs if facts.end.command is not None
            },
            jobs=tuple(jobs),
            call_places={
                facts.number: facts.end.call_place for facts in self._jobs if facts.end.call_place is not None
            },
        )

    def _number_jobs(self) -> list[JobFacts]:
        """Number the jobs by start, depth of nesting and order of addition, and return them in this order."""
        entries: list[tuple[float, int, int, JobFacts]] = []
        depths: dict[RunFacts | None, int] = {None: -1}
        for run in self._runs:  # enclosing runs come first
            depths[run] = depths[run.enclosing] + 1
            added = {job: number for number, job in enumerate(run.scheduler)}
            entries += (
                (or_infinity(facts.started_at), depths[run], added.get(job, len(added)), facts)
                for job, facts in run.jobs.items()
            )
        entries.sort(key=itemgetter(0, 1, 2))
        jobs = [facts for *_, facts in entries]
        for number, facts in enumerate(jobs):
            facts.number = number
        return jobs

    def _find_needs(self) -> dict[int, Needs]:
        """Return the needs of the spans that have any, and add the cooldowns of keys to their resources."""
        scopes: dict[RunFacts | None, dict[str, ResourceUse]] = {None: {}}
        all_needs: dict[int, Needs] = {}
        for run in self._runs:  # enclosing runs come first
            reserved = () if run.parent is None else all_needs.get(run.parent.number, ())
            scope = scopes[run] = self._scopes.scope_of_run(scopes[run.enclosing], reserved, run.beginning.pool)
            for job, facts in run.jobs.items():
                needs = resolve_needs(scope, job.needs or {}) if scope else ()
                needs += tuple(self._scopes.run_needs_of_job(run.scheduler, job))
                if not needs:
                    continue
                all_needs[facts.number] = needs
                for throttled in facts.end.throttled:
                    for name, until in throttled.closed:
                        scope[name].cooldowns.append((throttled.ended, until, facts.number))
        return all_needs

    def _add_waits(self, spans: list[Span], runs: tuple[RunSpan, ...], now: float) -> tuple[Span, ...]:
        """Return the spans with `waits` set."""
        lifetimes: list[tuple[float, float]] = []
        for facts in self._jobs:
            run = facts.run_facts
            run_end = now if run.ended is None else run.ended
            end = run_end if facts.finished_at is None else facts.finished_at
            lifetimes.append((end if run.began is None else max(run.began, facts.added_at), end))
        machine_waits = {facts.number: facts.end.machine_waits for facts in self._jobs}
        waits = Waits(spans, runs, lifetimes, self._needs, machine_waits)
        waits_of_spans = [tuple(waits.find_waits(span)) for span in spans]
        return tuple(replace(span, waits=own) if own else span for span, own in zip(spans, waits_of_spans, strict=True))

    def _find_paths(self) -> dict[RunFacts, dict[AnyJob, str]]:
        """Return, for each run, the paths of the jobs in its outermost scheduler."""
        has_several = len({run.scheduler for run in self._runs if run.enclosing is None}) > 1
        paths: dict[RunFacts, dict[AnyJob, str]] = {}
        for run in self._runs:  # enclosing runs come first
            scheduler = run.scheduler
            if run.enclosing is None:
                prefix = f"{scheduler.label}/" if has_several and scheduler.scheduler is None else None
                paths[run] = paths_of(scheduler, prefix)
            else:
                paths[run] = paths[run.enclosing]
                if run.parent is not None and run.parent.path:
                    paths[run].update(paths_of(scheduler, f"{run.parent.path}/"))
            paths[run].update((job, facts.path) for job, facts in run.jobs.items() if facts.path)
        return paths

    def _span(self, facts: JobFacts) -> Span:
        job, run, end = facts.job, facts.run_facts, facts.end
        command = end.command
        return Span(
            number=facts.number,
            parent=None if run.parent is None else run.parent.number,
            run=run.number,
            path=self._paths[run].get(job, job.label),
            label=job.label,
            kind=type(job).__name__,
            state=facts.state,
            critical=job.is_critical(),
            forever=job.forever,
            scheduled_at=facts.scheduled_at(),
            started_at=facts.started_at,
            ready_at=facts.ready_at,
            finished_at=facts.finished_at,
            attempts=tuple(facts.attempts()),
            lane=facts.lane,
            timed_out=end.timed_out,
            required=tuple(facts.number for facts in facts.required),
            exception=None if end.failure is None else end.failure.exception,
            returncode=None if command is None else command.returncode,
            user_time=None if command is None else command.user_time,
            system_time=None if command is None else command.system_time,
            max_rss=None if command is None else command.max_rss,
            throttled=tuple((attempt.began, attempt.ended) for attempt in end.throttled),
            restored=end.restored,
        )


def _run_span(run: RunFacts) -> RunSpan:
    culprit = None if run.ending is None or run.ending.culprit is None else run.jobs.get(run.ending.culprit)
    return RunSpan(
        scheduler=run.scheduler,
        parent=None if run.parent is None else run.parent.number,
        number=run.number,
        label=run.scheduler.label,
        started_at=run.began,
        finished_at=run.ended,
        window=run.beginning.window,
        has_limiter=run.beginning.has_limiter,
        backend=run.beginning.backend,
        window_sizes=tuple(run.window_sizes),
        learned=run.beginning.learned,
        reason=None if run.ending is None else run.ending.reason,
        culprit=None if culprit is None else culprit.number,
        members=tuple(sorted(facts.number for facts in run.jobs.values())),
    )


def _assign_lanes(run: RunFacts) -> None:
    """Assign lanes to the started jobs of a run, forever jobs last: the others then need no more lanes than slots."""
    started = sorted(
        (facts for facts in run.jobs.values() if facts.started_at is not None), key=lambda facts: facts.number
    )
    lowest = 1
    for forever in (False, True):
        jobs = [facts for facts in started if facts.job.forever is forever]
        bounds = ((facts.started_at or 0.0, or_infinity(facts.finished_at)) for facts in jobs)
        for facts, row in zip(jobs, assign_lanes(bounds, (facts.scheduled_at() for facts in jobs)), strict=True):
            facts.lane = row + lowest
        lowest = max((facts.lane + 1 for facts in jobs if facts.lane is not None), default=lowest)


def _own_failure(facts: JobFacts) -> Failure | None:
    """Return the failure of a job, or of a scheduler that FAILED by itself; otherwise None."""
    return None if facts.state is not JobState.FAILED or facts.end.through_member else facts.end.failure


WORDS: Final = re.compile(r"[^\W_]+(?:[.,:][^\W_]+)*")
NUMBER: Final = re.compile(r"\d+(?:[.,:]\d+)*")


def kind_from_label(label: str, is_given: bool) -> str:
    """Return the kind of a job by its label, so that jobs with similar work have the same kind.

    The kind is the user's label with a star in place of each separate number; of a default label, it is the function
    or the program.

    Args:
        label: the label.
        is_given: whether the user chose the label.

    Example:
        >>> kind_from_label("page 7 for x86", True), kind_from_label("python3.11 tests", True)
        ('page * for x86', 'python3.11 tests')
        >>> kind_from_label("fetch('a')", False)
        'fetch'

    """
    if not is_given:
        return label.partition("(")[0].split(" ")[0] or label
    return WORDS.sub(lambda word: "*" if NUMBER.fullmatch(word[0]) else word[0], label)
