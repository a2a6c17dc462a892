"""From the log of a `Trace` to its record: spans with their lanes, runs, incidents and the critical path.

The facts come from `_trace_reader`. Here the jobs of all runs are put in the order of their starts and numbered, and
the spans are made.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from .._core import _labels
from .._core._jobs import AbstractJob
from .._core._outcomes import Failure
from .._core._states import JobState
from ._trace_critical import Link, critical_chain
from ._trace_lanes import lanes
from ._trace_reader import JobNotes, Reader, RunNotes
from ._trace_spans import IncidentMark, RunSpan, Span


@dataclass(frozen=True)
class Record:
    """All that a trace shows, at one moment."""

    spans: tuple[Span, ...] = ()
    runs: tuple[RunSpan, ...] = ()  # each behind the one around it; those that never began too
    incidents: tuple[IncidentMark, ...] = ()
    wall_offset: float = 0.0
    now: float = 0.0  # when it was made, or when the last run ended
    failures: dict[int, Failure] = field(default_factory=dict[int, Failure])  # with their first tracebacks

    @property
    def roots(self) -> list[RunSpan]:
        """The runs that are in no other: one, but for a trace that watches several schedulers at once."""
        return [run for run in self.runs if run.parent is None]

    @property
    def began(self) -> float:
        """When the first run began."""
        return min((run.started_at for run in self.runs if run.started_at is not None), default=0.0)

    @cached_property
    def run_of(self) -> dict[int, int]:
        """The place of its run among the runs, for the number of each span."""
        return {number: place for place, run in enumerate(self.runs) for number in run.members}

    @cached_property
    def chain(self) -> tuple[Link, ...]:
        """The critical path."""
        return critical_chain(self.runs, self.spans)


def record(log: list[Any]) -> Record:
    """Return what a log says; O(n log n) for n jobs."""
    reader = Reader(log)
    return _Builder(reader).record() if reader.runs else Record()


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

    def record(self) -> Record:
        """Put it all together."""
        places = {id(run): place for place, run in enumerate(self._runs)}
        incidents = (
            IncidentMark(at, places[id(run)], job, message) for at, run, job, message in self._reader.incidents
        )
        last = next(run for run in reversed(self._runs) if run.beginning is not None)
        assert last.beginning is not None
        ends = [run.ended if run.ended is not None else last.beginning.clock() for run in self._runs if run.beginning]
        return Record(
            spans=tuple(self._span(run, job) for *_, run, job in self._order),
            runs=tuple(self._run_span(run) for run in self._runs),
            incidents=tuple(incidents),
            wall_offset=last.beginning.wall_offset,
            now=max(ends),
            failures=dict(self._failures()),
        )

    def _failures(self) -> Iterator[tuple[int, Failure]]:
        for number, (*_, run, job) in enumerate(self._order):
            failure = run.jobs[job].failure
            if failure is not None:
                yield number, failure

    def _find_depths(self) -> dict[int, int]:
        depths: dict[int, int] = {}
        for run in self._runs:  # each stands behind the one around it
            depths[id(run)] = 0 if run.outer is None else depths[id(run.outer)] + 1
        return depths

    def _places(self) -> Iterator[tuple[float, int, int, RunNotes, AbstractJob[Any]]]:
        """Yield each job with what its place goes by: its start, how deep it is nested, when it was added."""
        for run in self._runs:
            added = {job: number for number, job in enumerate(run.scheduler._jobs)}
            for job, facts in run.jobs.items():
                start = math.inf if facts.started_at is None else facts.started_at
                yield start, self._depths[id(run)], added.get(job, len(added)), run, job

    def _find_lanes(self) -> dict[int, int]:
        """Return the lane of each span that started: ordinary jobs first, so that they need no more than the window."""
        found: dict[int, int] = {}
        for run in self._runs:
            started = [
                (self._number(run, job), facts, job._forever)
                for job, facts in run.jobs.items()
                if facts.started_at is not None
            ]
            lowest = 1
            for forever in (False, True):
                chosen = sorted((number, facts) for number, facts, one in started if one is forever)
                rows = list(lanes((facts.started_at or 0.0, _end(facts)) for _, facts in chosen))
                found.update((number, row + lowest) for (number, _), row in zip(chosen, rows, strict=True))
                lowest += max(rows, default=-1) + 1
        return found

    def _find_paths(self) -> dict[int, dict[AbstractJob[Any], str]]:
        """Return for each outermost run the paths of the jobs below it."""
        roots = [run for run in self._runs if run.outer is None]
        several = len({run.scheduler for run in roots}) > 1
        found: dict[int, dict[AbstractJob[Any], str]] = {}
        for root in roots:
            scheduler = root.scheduler
            prefix = f"{scheduler.label}/" if several and scheduler._scheduler is None else None
            found[id(root)] = _labels.paths(scheduler, prefix)
        for run in self._runs:
            if run.outer is not None:
                found[id(run)] = found[id(run.outer)]
        return found

    def _span(self, run: RunNotes, job: AbstractJob[Any]) -> Span:
        facts, number = run.jobs[job], self._number(run, job)
        required = [one for one in run.scheduler._waits_for(job) if one in run.jobs]
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
            forever=job._forever,
            scheduled_at=self._scheduled_at(run, job, facts, required),
            started_at=facts.started_at,
            ready_at=ready,
            finished_at=facts.finished_at,
            attempts=() if facts.started_at is None else (facts.started_at, *run.again.get(job, ())),
            lane=self._lanes.get(number),
            timed_out=facts.timed_out,
            required=tuple(self._number(run, one) for one in required),
            exception=None if facts.failure is None else facts.failure.exception,
        )

    def _scheduled_at(
        self, run: RunNotes, job: AbstractJob[Any], facts: JobNotes, required: Iterable[AbstractJob[Any]]
    ) -> float | None:
        """Return when the last requirement had settled; nothing has to be noted for this while the run is under way."""
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
            reason=run.ending.reason if run.ending is not None else None,
            culprit=None if culprit is None else self._numbers.get((id(run), culprit)),
            members=tuple(sorted(self._number(run, job) for job in run.jobs)),
        )

    def _parent(self, run: RunNotes) -> int | None:
        return None if run.outer is None else self._number(run.outer, run.scheduler)

    def _number(self, run: RunNotes, job: AbstractJob[Any]) -> int:
        return self._numbers[id(run), job]


def _end(facts: JobNotes) -> float:
    return math.inf if facts.finished_at is None else facts.finished_at
