"""From the log of a `Trace` to its record: spans with their lanes, runs, incidents and the critical path.

The `Reader` goes through the log once and sorts the facts by run. While a run is under way it also asks the jobs
themselves, and for nested schedulers that never ran it takes the members as they are. The `_Builder` then puts the jobs
of all runs in the order of their starts, numbers them, and makes the spans.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, cast

from ..._core.api.views import (
    AnyJob,
    BaseScheduler,
    Failure,
    JobState,
    given_label,
    is_scheduler,
    paths_of,
    waits_for,
)
from ..text._verdict import Tally
from ._critical import Link, critical_chain
from ._lanes import lanes
from ._log import CommandEnd, EventKind, JobEnd, RunEnd, RunStart, events
from ._resources import Needs, ResourceUse, Scopes, needs_in
from ._spans import IncidentMark, RunSpan, Span
from ._waits import Waits

PLAIN_END: Final = JobEnd(None, timed_out=False, through_member=False)


@dataclass(slots=True)
class JobNotes:
    """What the log says of one job in one run."""

    state: JobState
    started_at: float | None = None
    finished_at: float | None = None
    end: JobEnd = PLAIN_END


@dataclass(slots=True, eq=False)
class RunNotes:
    """What the log says of one run of one scheduler; without a `beginning` if that never ran."""

    scheduler: BaseScheduler
    outer: RunNotes | None
    number: int
    began: float | None = None
    beginning: RunStart | None = None
    ended: float | None = None
    ending: RunEnd | None = None
    jobs: dict[AnyJob, JobNotes] = field(default_factory=dict[AnyJob, JobNotes])
    added: dict[AnyJob, float] = field(default_factory=dict[AnyJob, float])
    ready: dict[AnyJob, float] = field(default_factory=dict[AnyJob, float])
    window_sizes: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    further_attempts: dict[AnyJob, list[float]] = field(default_factory=dict[AnyJob, list[float]])
    paths: dict[AnyJob, str] = field(default_factory=dict[AnyJob, str])  # of those that may be dropped


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
            run.jobs[job] = JobNotes(what, cast("float | None", at), until, more or PLAIN_END)
        elif what is EventKind.READY:
            run.ready[job] = at
        elif what is EventKind.ATTEMPT:
            run.further_attempts.setdefault(job, []).append(at)
        elif what is EventKind.ADDED:
            run.added[job] = at
        elif what is EventKind.WINDOW:
            run.window_sizes.append((at, more))
        elif what is EventKind.INCIDENT:
            self.incidents.append((at, run, job, more[0]))
        elif what is EventKind.PATH:
            run.paths[job] = more
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
        """Add the jobs that have not settled, as they were when the run ended, or as they are."""
        members = run.scheduler if run.ending is None else run.ending.unsettled
        for job in members:
            if job not in run.jobs:
                over = run.ending is not None
                run.jobs[job] = JobNotes(JobState.IDLE if over else job.state, None if over else job.started_at)

    def _add_those_that_never_ran(self) -> None:
        ran = {(run.outer, run.scheduler) for run in self.runs}
        for run in self.runs:  # it grows meanwhile
            for job in run.jobs:
                if is_scheduler(job) and (run, job) not in ran:
                    empty = RunNotes(job, run, 0, jobs={one: JobNotes(JobState.IDLE) for one in job})
                    self.runs.append(empty)


@dataclass(frozen=True)
class TraceRecord:
    """Everything that a trace shows, at one moment."""

    spans: tuple[Span, ...] = ()
    runs: tuple[RunSpan, ...] = ()  # each after the one around it, including those that never began
    resources: tuple[ResourceUse, ...] = ()  # of all pools, and the parts of them that nested schedulers have
    incidents: tuple[IncidentMark, ...] = ()
    wall_offset: float = 0.0
    now: float = 0.0  # when it was made, or when the last run ended
    kinds: tuple[str, ...] = ()  # of each span, what its label has in common with those of jobs like it
    failures: dict[int, Failure] = field(default_factory=dict[int, Failure])  # of jobs that FAILED by themselves
    commands: dict[int, tuple[Any, CommandEnd]] = field(default_factory=dict[int, tuple[Any, CommandEnd]])
    jobs: tuple[AnyJob, ...] = ()  # of the spans

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
        """The spans of jobs that are no schedulers."""
        return (span for span in self.spans if span.number not in self.nested)

    @cached_property
    def outcomes(self) -> tuple[Span, ...]:
        """The spans of the last run of each scheduler: of jobs, and of schedulers that failed by themselves."""
        members: set[int] = set()
        for run in {(run.parent, run.scheduler): run for run in self.runs}.values():  # each after the one around it
            if run.parent is None or run.parent in members:
                members.update(run.members)
        counted = (members - self.nested) | (members & self.failures.keys())
        return tuple(self.spans[number] for number in sorted(counted))

    @cached_property
    def tally(self) -> Tally:
        """How many jobs are in which state."""
        failures = sum(span.number in self.failures for span in self.outcomes)
        return Tally((span for span in self.outcomes if span.number not in self.nested), failures)

    def culprit(self, run: RunSpan) -> Span | None:
        """Return the job that stopped a run, at whatever depth; None if none has."""
        inside = {run.parent: run.culprit for run in self.runs}
        found = run.culprit
        while found is not None and (further := inside.get(found)) is not None:
            found = further
        return None if found is None else self.spans[found]

    @cached_property
    def run_of(self) -> dict[int, int]:
        """The place in `runs` of the run of each span, by the span's number."""
        return {number: place for place, run in enumerate(self.runs) for number in run.members}

    def outwards(self, span: Span) -> list[Span]:
        """Return the spans of the schedulers that a job is in, the innermost first."""
        found: list[Span] = []
        while span.parent is not None:
            span = self.spans[span.parent]
            found.append(span)
        return found

    @cached_property
    def chain(self) -> tuple[Link, ...]:
        """The critical path."""
        return critical_chain(self.runs, self.spans)

    @property
    def critical_jobs(self) -> dict[AnyJob, AnyJob | None]:
        """The jobs on the critical path, each with the one before it."""
        return {self.jobs[link.number]: None if link.after is None else self.jobs[link.after] for link in self.chain}


def record(log: list[Any]) -> TraceRecord:
    """Return what a log says; O(n log n) for n jobs."""
    reader = Reader(log)
    return _Builder(reader).record() if reader.runs else TraceRecord()


class _Builder:
    """The spans of all runs."""

    def __init__(self, reader: Reader) -> None:
        self._reader: Final = reader
        self._runs: Final = reader.runs
        self._depths: Final = self._find_depths()
        self._order: Final = sorted(self._places(), key=lambda place: place[:3])
        self._numbers: Final = {(id(run), job): number for number, (*_, run, job) in enumerate(self._order)}
        self._lanes: Final = self._find_lanes()
        self._paths: Final = self._find_paths()
        self._scopes: Final = Scopes()
        self._needs: Final = self._find_needs()

    def record(self) -> TraceRecord:
        """Put it all together."""
        places = {id(run): place for place, run in enumerate(self._runs)}
        incidents = (
            IncidentMark(at, places[id(run)], job, message) for at, run, job, message in self._reader.incidents
        )
        last = next(run for run in reversed(self._runs) if run.beginning is not None)
        assert last.beginning is not None
        now = max(run.ended if run.ended is not None else last.beginning.clock() for run in self._runs if run.beginning)
        runs = tuple(self._run_span(run) for run in self._runs)
        return TraceRecord(
            spans=self._with_waits([self._span(run, job) for *_, run, job in self._order], runs, now),
            runs=runs,
            resources=tuple(self._scopes.all),
            kinds=tuple(kind_of(job.label, given_label(job) is not None) for *_, job in self._order),
            incidents=tuple(incidents),
            wall_offset=last.beginning.wall_offset,
            now=now,
            failures=dict(self._failures()),
            commands=dict(self._commands()),
            jobs=tuple(job for *_, job in self._order),
        )

    def _find_needs(self) -> dict[int, Needs]:
        """Return what each span needed, as far as it needed anything, and note when keys were throttled."""
        scopes: dict[int, dict[str, ResourceUse]] = {}
        found: dict[int, Needs] = {}
        for run in self._runs:  # each comes after the one around it
            around = {} if run.outer is None else scopes[id(run.outer)]
            reserved = () if run.outer is None else found.get(self._number(run.outer, run.scheduler), ())
            pool = None if run.beginning is None else run.beginning.pool
            scope = scopes[id(run)] = self._scopes.of_run(around, reserved, pool)
            for job, facts in run.jobs.items() if scope else ():
                needs = needs_in(scope, job.needs or {})
                if not needs:
                    continue
                number = self._number(run, job)
                found[number] = needs
                for throttled in facts.end.throttled:
                    for name, until in throttled.closed:
                        scope[name].gate.closed.append((throttled.ended, until, number))
        return found

    def _with_waits(self, spans: list[Span], runs: tuple[RunSpan, ...], now: float) -> tuple[Span, ...]:
        """Return the spans with what each of them waited for."""
        there: list[tuple[float, float]] = []
        held: dict[int, tuple[tuple[float, float], ...]] = {}
        for number, (*_, run, job) in enumerate(self._order):
            facts = run.jobs[job]
            over = now if run.ended is None else run.ended
            end = over if facts.finished_at is None else facts.finished_at
            there.append((end if run.began is None else max(run.began, run.added.get(job, run.began)), end))
            held[number] = facts.end.held
        waits = Waits(spans, runs, there, self._needs, held)
        found = (tuple(waits.of(span)) for span in spans)
        return tuple(replace(span, waits=own) if own else span for span, own in zip(spans, found, strict=True))

    def _failures(self) -> Iterator[tuple[int, Failure]]:
        for number, (*_, run, job) in enumerate(self._order):
            end = run.jobs[job].end
            if run.jobs[job].state is JobState.FAILED and end.failure is not None and not end.through_member:
                yield number, end.failure

    def _commands(self) -> Iterator[tuple[int, tuple[Any, CommandEnd]]]:
        for number, (*_, run, job) in enumerate(self._order):
            if (command := run.jobs[job].end.command) is not None:
                yield number, (job, command)

    def _find_depths(self) -> dict[int, int]:
        depths: dict[int, int] = {}
        for run in self._runs:  # each comes after the one around it
            depths[id(run)] = 0 if run.outer is None else depths[id(run.outer)] + 1
        return depths

    def _places(self) -> Iterator[tuple[float, int, int, RunNotes, AnyJob]]:
        """Yield each job with what decides its place: its start, its depth, when it was added."""
        for run in self._runs:
            added = {job: number for number, job in enumerate(run.scheduler)}
            for job, facts in run.jobs.items():
                start = math.inf if facts.started_at is None else facts.started_at
                yield start, self._depths[id(run)], added.get(job, len(added)), run, job

    def _find_lanes(self) -> dict[int, int]:
        """Return the lane of each span that started; ordinary jobs first, so that they need no more than the window."""
        found: dict[int, int] = {}
        for run in self._runs:
            started = [
                (self._number(run, job), facts, job) for job, facts in run.jobs.items() if facts.started_at is not None
            ]
            lowest = 1
            for forever in (False, True):
                chosen = sorted((one for one in started if one[2].forever is forever), key=lambda one: one[0])
                bounds = ((facts.started_at or 0.0, _end(facts)) for _, facts, _ in chosen)
                since = (self._scheduled_at(run, job, facts, self._required(run, job)) for _, facts, job in chosen)
                rows = list(lanes(bounds, since))
                found.update((number, row + lowest) for (number, *_), row in zip(chosen, rows, strict=True))
                lowest += max(rows, default=-1) + 1
        return found

    def _find_paths(self) -> dict[int, dict[AnyJob, str]]:
        """Return the paths of the jobs below the outermost run of each run."""
        roots = [run for run in self._runs if run.outer is None]
        several = len({run.scheduler for run in roots}) > 1
        found: dict[int, dict[AnyJob, str]] = {}
        for root in roots:
            scheduler = root.scheduler
            prefix = f"{scheduler.label}/" if several and scheduler.scheduler is None else None
            found[id(root)] = paths_of(scheduler, prefix)
        for run in self._runs:
            if run.outer is not None:
                found[id(run)] = found[id(run.outer)]
                if (path := run.outer.paths.get(run.scheduler)) is not None:
                    found[id(run)].update(paths_of(run.scheduler, f"{path}/"))
            found[id(run)].update(run.paths)
        return found

    def _span(self, run: RunNotes, job: AnyJob) -> Span:
        facts, number = run.jobs[job], self._number(run, job)
        command = facts.end.command
        required = self._required(run, job)
        ready = run.ready.get(job)
        return Span(
            number=number,
            parent=self._parent(run),
            run=run.number,
            path=self._paths[id(run)].get(job, job.label),
            label=job.label,
            kind=type(job).__name__,
            state=facts.state,
            critical=job.is_critical(),
            forever=job.forever,
            scheduled_at=self._scheduled_at(run, job, facts, required),
            started_at=facts.started_at,
            ready_at=ready,
            finished_at=facts.finished_at,
            attempts=tuple(_attempts(facts, run.further_attempts.get(job, ()))),
            lane=self._lanes.get(number),
            timed_out=facts.end.timed_out,
            required=tuple(self._number(run, one) for one in required),
            exception=None if facts.end.failure is None else facts.end.failure.exception,
            returncode=None if command is None else command.returncode,
            user_time=None if command is None else command.user_time,
            system_time=None if command is None else command.system_time,
            max_rss=None if command is None else command.max_rss,
            throttled=tuple((one.began, one.ended) for one in facts.end.throttled),
            restored=facts.end.restored,
        )

    def _required(self, run: RunNotes, job: AnyJob) -> list[AnyJob]:
        return [one for one in waits_for(run.scheduler, job) if one in run.jobs]

    def _scheduled_at(self, run: RunNotes, job: AnyJob, facts: JobNotes, required: Iterable[AnyJob]) -> float | None:
        """Return when the last requirement settled, which need not be recorded while the run is under way."""
        if facts.state in (JobState.IDLE, JobState.BLOCKED, JobState.SKIPPED) or run.began is None:
            return None
        found = max(run.began, run.added.get(job, run.began))
        for one in required:
            settled = run.ready.get(one, run.jobs[one].finished_at)
            if settled is None:
                return None  # it was cancelled before
            found = max(found, settled)
        return found if facts.started_at is None else min(found, facts.started_at)

    def _run_span(self, run: RunNotes) -> RunSpan:
        culprit = run.ending.culprit if run.ending is not None else None
        return RunSpan(
            scheduler=run.scheduler,
            parent=self._parent(run),
            number=run.number,
            label=run.scheduler.label,
            started_at=run.began,
            finished_at=run.ended,
            window=run.beginning.window if run.beginning is not None else None,
            has_limiter=run.beginning is not None and run.beginning.has_limiter,
            backend=run.beginning.backend if run.beginning is not None else "",
            window_sizes=tuple(run.window_sizes),
            learned=run.beginning.learned if run.beginning is not None else None,
            reason=run.ending.reason if run.ending is not None else None,
            culprit=None if culprit is None else self._numbers.get((id(run), culprit)),
            members=tuple(sorted(self._number(run, job) for job in run.jobs)),
        )

    def _parent(self, run: RunNotes) -> int | None:
        return None if run.outer is None else self._number(run.outer, run.scheduler)

    def _number(self, run: RunNotes, job: AnyJob) -> int:
        return self._numbers[id(run), job]


NUMBERS: Final = re.compile(r"[\s_.:#-]*\d+([.,:]\d+)*")
IN_BRACKETS: Final = re.compile(r"(?<=[<(\[{])\d+([.,:]\d+)*(?=[>)\]}])")
"""Such a number is a star, as in the name of a group in a graph: empty brackets would look like a mistake."""


def kind_of(label: str, is_given: bool) -> str:
    """Return the kind of a job: its label without numbers; of a label that nobody gave, the function or the program."""
    if not is_given:
        return label.partition("(")[0].split(" ")[0] or label
    return NUMBERS.sub("", IN_BRACKETS.sub("*", label)).strip() or label


def _attempts(facts: JobNotes, further: Iterable[float]) -> Iterator[float]:
    """Yield when each attempt began, without those that came before a throttle."""
    if facts.started_at is not None:
        yield facts.started_at
        yield from (at for at in further if at > facts.started_at)


def _end(facts: JobNotes) -> float:
    return math.inf if facts.finished_at is None else facts.finished_at
