"""From the log of a `Trace` to its record: spans with their lanes, runs, incidents and the critical path.

The `Reader` makes one pass over the log and sorts the facts by run. While a run is under way it also reads the jobs
themselves; for nested schedulers that never ran it takes the current members. The `_Builder` then sorts the jobs of all
runs by their starts, numbers them, and makes the spans.
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
    shortened,
    waits_for,
)
from ..text._verdict import Tally, Verdict, verdict
from ._critical import Link, critical_chain
from ._event_recorder import CommandEnd, EventKind, JobEnd, RunEnd, RunStart, events
from ._lanes import lanes
from ._resource_use import Needs, ResourceUse, Scopes, needs_in
from ._spans import IncidentMark, RunSpan, Span, or_infinity
from ._waits import Waits

PLAIN_END: Final = JobEnd(None, timed_out=False, through_member=False)
NEVER: Final = RunStart(lambda: 0.0, 0.0, None)
"""The start of a run that never began."""


@dataclass(slots=True, eq=False)
class JobNotes:
    """The log's facts on one job in one run, and later its number among all jobs."""

    job: AnyJob
    run: RunNotes
    state: JobState = JobState.IDLE
    started_at: float | None = None
    finished_at: float | None = None
    end: JobEnd = PLAIN_END
    added_at: float = -math.inf
    ready_at: float | None = None
    further_attempts: tuple[float, ...] = ()
    path: str = ""  # if it may be dropped
    number: int = -1
    lane: int | None = None

    @property
    def required(self) -> list[JobNotes]:
        """The jobs that it had to wait for."""
        jobs = self.run.jobs
        return [jobs[notes] for notes in waits_for(self.run.scheduler, self.job) if notes in jobs]

    def scheduled_at(self) -> float | None:
        """Return when the last requirement settled; during the run this may not be recorded yet."""
        if self.state in (JobState.IDLE, JobState.BLOCKED, JobState.SKIPPED) or self.run.began is None:
            return None
        found = max(self.run.began, self.added_at)
        for notes in self.required:
            settled = notes.finished_at if notes.ready_at is None else notes.ready_at
            if settled is None:
                return None  # it was cancelled before
            found = max(found, settled)
        return found if self.started_at is None else min(found, self.started_at)

    def attempts(self) -> Iterator[float]:
        """Yield the start of each attempt, without those before a throttle."""
        if self.started_at is not None:
            yield self.started_at
            yield from (at for at in self.further_attempts if at > self.started_at)


@dataclass(slots=True, eq=False)
class RunNotes:
    """The log's facts on one run of one scheduler; `began` is unset if it never ran."""

    scheduler: BaseScheduler
    outer: RunNotes | None
    number: int
    began: float | None = None
    beginning: RunStart = NEVER
    ended: float | None = None
    ending: RunEnd | None = None
    jobs: dict[AnyJob, JobNotes] = field(default_factory=dict[AnyJob, JobNotes])
    window_sizes: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])

    def note(self, job: AnyJob) -> JobNotes:
        """Return the notes on a job."""
        found = self.jobs.get(job)
        if found is None:
            found = self.jobs[job] = JobNotes(job, self)
        return found

    @property
    def parent(self) -> JobNotes | None:
        """The notes on the scheduler, as a job of the enclosing run."""
        return None if self.outer is None else self.outer.jobs[self.scheduler]


class Reader:
    """The log, sorted by run."""

    def __init__(self, log: list[Any]) -> None:
        self.runs: Final[list[RunNotes]] = []
        self.incidents: Final[list[tuple[float, RunNotes, AnyJob | None, str]]] = []
        self._latest: Final[dict[BaseScheduler, RunNotes]] = {}
        for event in events(log):
            self._read(*event)
        for run in list(self.runs):
            self._look_at_unsettled(run)
        self._add_those_that_never_ran()

    def _read(
        self, what: Any, scheduler: BaseScheduler, job: AnyJob, at: float, until: float | None, more: Any
    ) -> None:
        if what is EventKind.BEGIN:
            self._begin(scheduler, at, more)
            return
        run = self._latest[scheduler]
        if isinstance(what, JobState):
            facts = run.note(job)
            facts.state, facts.started_at, facts.finished_at, facts.end = what, at, until, more or PLAIN_END
            facts.ready_at = facts.end.ready_at
        elif what is EventKind.ATTEMPT:
            run.note(job).further_attempts += (at,)
        elif what is EventKind.ADDED:
            run.note(job).added_at = at
        elif what is EventKind.PATH:
            run.note(job).path = more
        elif what is EventKind.WINDOW:
            run.window_sizes.append((at, more))
        elif what is EventKind.INCIDENT:
            self.incidents.append((at, run, job, more[0]))
        else:
            run.ended, run.ending = at, more

    def _begin(self, scheduler: BaseScheduler, at: float, beginning: RunStart) -> None:
        outer = self._latest.get(scheduler.scheduler) if scheduler.scheduler is not None else None
        if outer is not None and outer.ended is not None:
            outer = None
        before = self._latest.get(scheduler)
        number = before.number + 1 if before is not None and before.outer is outer else 1
        run = RunNotes(scheduler, outer, number, at, beginning)
        self._latest[scheduler] = run
        self.runs.append(run)

    def _look_at_unsettled(self, run: RunNotes) -> None:
        """Add the jobs that have not settled, in their state at the run's end, or now."""
        if run.ending is not None:
            for job in run.ending.unsettled:
                run.note(job)
            return
        for facts in map(run.note, run.scheduler):
            if facts.state is JobState.IDLE:
                facts.state, facts.started_at = facts.job.state, facts.job.started_at
                facts.ready_at = ready_at(facts.job)

    def _add_those_that_never_ran(self) -> None:
        ran = {(run.outer, run.scheduler) for run in self.runs}
        for run in self.runs:  # the list grows during the loop
            for job in run.jobs:
                if is_scheduler(job) and (run, job) not in ran:
                    empty = RunNotes(job, run, 0)
                    for member in job:
                        empty.note(member)
                    self.runs.append(empty)


@dataclass(frozen=True)
class TraceRecord:
    """A snapshot of everything that a trace shows."""

    spans: tuple[Span, ...] = ()
    runs: tuple[RunSpan, ...] = ()  # enclosing runs first, including those that never began
    resources: tuple[ResourceUse, ...] = ()  # the resources of all pools, and the shares of nested schedulers
    incidents: tuple[IncidentMark, ...] = ()
    wall_offset: float = 0.0
    now: float = 0.0  # when it was made, or when the last run ended
    kinds: tuple[str, ...] = ()  # for each span, what its label shares with the labels of similar jobs
    failures: dict[int, Failure] = field(
        default_factory=dict[int, Failure]
    )  # the failures of jobs that FAILED by themselves
    commands: dict[int, tuple[Any, CommandEnd]] = field(default_factory=dict[int, tuple[Any, CommandEnd]])
    jobs: tuple[AnyJob, ...] = ()  # the jobs of the spans
    rooms: dict[int, tuple[str, int]] = field(
        default_factory=dict[int, tuple[str, int]]
    )  # the workers of calls on clusters

    @property
    def roots(self) -> list[RunSpan]:
        """The runs that are in no other: one, unless the trace watches several schedulers at once."""
        return [run for run in self.runs if run.parent is None]

    @property
    def began(self) -> float:
        """When the first run began."""
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
    def outcomes(self) -> tuple[Span, ...]:
        """The spans of the last run of each scheduler: of jobs, and of schedulers that failed by themselves."""
        members: set[int] = set()
        for run in {(run.parent, run.scheduler): run for run in self.runs}.values():  # enclosing runs first
            if run.parent is None or run.parent in members:
                members.update(run.members)
        counted = (members - self.nested) | (members & self.failures.keys())
        return tuple(self.spans[number] for number in sorted(counted))

    @cached_property
    def tally(self) -> Tally:
        """The number of jobs in each state."""
        failures = sum(span.number in self.failures for span in self.outcomes)
        return Tally((span for span in self.outcomes if span.number not in self.nested), failures)

    def culprit(self, run: RunSpan) -> Span | None:
        """Return the job that stopped a run, at whatever depth; None if none has."""
        inside = {run.parent: run.culprit for run in self.runs}
        found = run.culprit
        while found is not None and (further := inside.get(found)) is not None:
            found = further
        return None if found is None else self.spans[found]

    def verdict(self, run: RunSpan, reason: StopReason | None) -> Verdict:
        """Return the verdict on an outermost run that ended for this reason."""
        culprit = self.culprit(run)
        path = None if culprit is None else shortened(culprit.path)
        return verdict(reason, self.tally, self.now - self.began, path)

    @cached_property
    def run_of(self) -> dict[int, int]:
        """The place in `runs` of the run of each span, by the span's number."""
        return {number: place for place, run in enumerate(self.runs) for number in run.members}

    def outwards(self, span: Span) -> list[Span]:
        """Return the spans of a job's enclosing schedulers, the innermost first."""
        found: list[Span] = []
        while span.parent is not None:
            span = self.spans[span.parent]
            found.append(span)
        return found

    @cached_property
    def chain(self) -> tuple[Link, ...]:
        """The critical path."""
        return critical_chain(self.runs, self.spans)

    @cached_property
    def on_path(self) -> frozenset[int]:
        """The numbers of the spans on the critical path."""
        return frozenset(link.number for link in self.chain)

    @property
    def critical_jobs(self) -> dict[AnyJob, AnyJob | None]:
        """The jobs on the critical path, each with the one before it."""
        return {self.jobs[link.number]: None if link.after is None else self.jobs[link.after] for link in self.chain}


def record(log: list[Any]) -> TraceRecord:
    """Return the record of a log; O(n log n) for n jobs."""
    reader = Reader(log)
    return _Builder(reader).record() if reader.runs else TraceRecord()


class _Builder:
    """The spans of all runs."""

    def __init__(self, reader: Reader) -> None:
        self._reader: Final = reader
        self._runs: Final = reader.runs
        self._jobs: Final = self._in_order()
        self._paths: Final = self._find_paths()
        self._scopes: Final = Scopes()
        self._needs: Final = self._find_needs()
        for run in self._runs:
            _find_lanes(run)

    def record(self) -> TraceRecord:
        """Build the record."""
        places = {run: place for place, run in enumerate(self._runs)}
        incidents = (IncidentMark(at, places[run], job, message) for at, run, job, message in self._reader.incidents)
        last = next(run.beginning for run in reversed(self._runs) if run.began is not None)
        now = max(last.clock() if run.ended is None else run.ended for run in self._runs if run.began is not None)
        runs = tuple(map(_run_span, self._runs))
        jobs = [facts.job for facts in self._jobs]
        return TraceRecord(
            spans=self._with_waits([self._span(facts) for facts in self._jobs], runs, now),
            runs=runs,
            resources=tuple(self._scopes.all),
            kinds=tuple(kind_of(job.label, given_label(job) is not None) for job in jobs),
            incidents=tuple(incidents),
            wall_offset=last.wall_offset,
            now=now,
            failures={facts.number: failure for facts in self._jobs if (failure := _own_failure(facts)) is not None},
            commands={
                facts.number: (facts.job, facts.end.command) for facts in self._jobs if facts.end.command is not None
            },
            jobs=tuple(jobs),
            rooms={facts.number: facts.end.room for facts in self._jobs if facts.end.room is not None},
        )

    def _in_order(self) -> list[JobNotes]:
        """Number the jobs, sorted by start, depth and time of addition, and return them."""
        places: list[tuple[float, int, int, JobNotes]] = []
        depths: dict[RunNotes | None, int] = {None: -1}
        for run in self._runs:  # enclosing runs come first
            depths[run] = depths[run.outer] + 1
            added = {job: number for number, job in enumerate(run.scheduler)}
            places += (
                (or_infinity(facts.started_at), depths[run], added.get(job, len(added)), facts)
                for job, facts in run.jobs.items()
            )
        places.sort(key=itemgetter(0, 1, 2))
        jobs = [facts for *_, facts in places]
        for number, facts in enumerate(jobs):
            facts.number = number
        return jobs

    def _find_needs(self) -> dict[int, Needs]:
        """Return the needs of the spans that had any, and record cooldowns of keys."""
        scopes: dict[RunNotes | None, dict[str, ResourceUse]] = {None: {}}
        found: dict[int, Needs] = {}
        for run in self._runs:  # enclosing runs come first
            reserved = () if run.parent is None else found.get(run.parent.number, ())
            scope = scopes[run] = self._scopes.of_run(scopes[run.outer], reserved, run.beginning.pool)
            for job, facts in run.jobs.items():
                needs = needs_in(scope, job.needs or {}) if scope else ()
                needs += tuple(self._scopes.of_job(run.scheduler, job))
                if not needs:
                    continue
                found[facts.number] = needs
                for throttled in facts.end.throttled:
                    for name, until in throttled.closed:
                        scope[name].cooldowns.append((throttled.ended, until, facts.number))
        return found

    def _with_waits(self, spans: list[Span], runs: tuple[RunSpan, ...], now: float) -> tuple[Span, ...]:
        """Return the spans with their waits."""
        there: list[tuple[float, float]] = []
        for facts in self._jobs:
            began, over = facts.run.began, now if facts.run.ended is None else facts.run.ended
            end = over if facts.finished_at is None else facts.finished_at
            there.append((end if began is None else max(began, facts.added_at), end))
        held = {facts.number: facts.end.held for facts in self._jobs}
        waits = Waits(spans, runs, there, self._needs, held)
        found = (tuple(waits.of(span)) for span in spans)
        return tuple(replace(span, waits=own) if own else span for span, own in zip(spans, found, strict=True))

    def _find_paths(self) -> dict[RunNotes, dict[AnyJob, str]]:
        """Return the paths of the jobs below the outermost run of each run."""
        several = len({run.scheduler for run in self._runs if run.outer is None}) > 1
        found: dict[RunNotes, dict[AnyJob, str]] = {}
        for run in self._runs:  # enclosing runs come first
            scheduler = run.scheduler
            if run.outer is None:
                prefix = f"{scheduler.label}/" if several and scheduler.scheduler is None else None
                found[run] = paths_of(scheduler, prefix)
            else:
                found[run] = found[run.outer]
                if run.parent is not None and run.parent.path:
                    found[run].update(paths_of(scheduler, f"{run.parent.path}/"))
            found[run].update((job, facts.path) for job, facts in run.jobs.items() if facts.path)
        return found

    def _span(self, facts: JobNotes) -> Span:
        job, run, end = facts.job, facts.run, facts.end
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
            required=tuple(notes.number for notes in facts.required),
            exception=None if end.failure is None else end.failure.exception,
            returncode=None if command is None else command.returncode,
            user_time=None if command is None else command.user_time,
            system_time=None if command is None else command.system_time,
            max_rss=None if command is None else command.max_rss,
            throttled=tuple((attempt.began, attempt.ended) for attempt in end.throttled),
            restored=end.restored,
        )


def _run_span(run: RunNotes) -> RunSpan:
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


def _find_lanes(run: RunNotes) -> None:
    """Assign lanes to the started jobs of a run; ordinary jobs first, so that they need no more lanes than slots."""
    started = sorted(
        (notes for notes in run.jobs.values() if notes.started_at is not None), key=lambda notes: notes.number
    )
    lowest = 1
    for forever in (False, True):
        chosen = [notes for notes in started if notes.job.forever is forever]
        bounds = ((notes.started_at or 0.0, or_infinity(notes.finished_at)) for notes in chosen)
        for notes, row in zip(chosen, [*lanes(bounds, (notes.scheduled_at() for notes in chosen))], strict=True):
            notes.lane = row + lowest
        lowest = max((notes.lane + 1 for notes in chosen if notes.lane is not None), default=lowest)


def _own_failure(facts: JobNotes) -> Failure | None:
    """Return the failure of a job that FAILED by itself."""
    return None if facts.state is not JobState.FAILED or facts.end.through_member else facts.end.failure


WORDS: Final = re.compile(r"[^\W_]+(?:[.,:][^\W_]+)*")
NUMBER: Final = re.compile(r"\d+(?:[.,:]\d+)*")


def kind_of(label: str, is_given: bool) -> str:
    """Return the kind of a job: its label with a star for each separate number.

    For a default label, it is the function or the program.

    Example:
        >>> kind_of("page 7 for x86", True), kind_of("python3.11 tests", True), kind_of("fetch('a')", False)
        ('page * for x86', 'python3.11 tests', 'fetch')

    """
    if not is_given:
        return label.partition("(")[0].split(" ")[0] or label
    return WORDS.sub(lambda word: "*" if NUMBER.fullmatch(word[0]) else word[0], label)
