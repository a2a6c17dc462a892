"""The record of a run from the file of its events, for a run whose process was killed before it wrote a trace.

The events have neither tracebacks nor the graph, nor the output of commands and the use of resources.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from ..._core.api.views import JobState
from ..events import _format
from ..text import _exception_text
from ..text._failure_text import FailureText
from ._graph_description import GraphDescription
from ._lanes import assign_lanes
from ._span_builder import TraceRecord, family_from_label
from ._spans import HostFacts, IncidentMark, RunSpan, Span, or_infinity
from ._waits import WaitAnalysis

FAILED_STATES: Final = frozenset({JobState.FAILED, JobState.BLOCKED, JobState.CANCELLED})
NO_GRAPH_NOTE: Final = "The file of events has no graph; a trace has one."


@dataclass(slots=True, eq=False)
class _JobEvents:
    """The events of one job in one run."""

    added: _format.JobAdded
    run: _RunEvents
    added_at: float = 0.0
    state: JobState = JobState.IDLE
    scheduled_at: float | None = None
    started_at: float | None = None
    ready_at: float | None = None
    retried_at: list[float] = field(default_factory=list[float])
    throttled: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    finished: _format.JobFinished | None = None
    number: int = -1
    lane: int | None = None

    @property
    def finished_at(self) -> float | None:
        """The time when the job settled; None if it has not."""
        return None if self.finished is None else self.finished.at


@dataclass(slots=True, eq=False)
class _RunEvents:
    """The events of one run of one scheduler."""

    path: str
    label: str
    number: int
    parent: _JobEvents | None = None
    started: _format.RunStarted | None = None
    ended: _format.RunEnded | None = None
    jobs: dict[str, _JobEvents] = field(default_factory=dict[str, _JobEvents])

    @property
    def started_at(self) -> float | None:
        """The time when the run began, without the time that its instruments took before it, if that is known."""
        if self.ended is not None and self.ended.seconds is not None:
            return self.ended.at - self.ended.seconds
        return None if self.started is None else self.started.at


def read_event_lines(path: Path) -> Iterator[_format.AnyEvent]:
    """Yield the known events in a file. If it has no other line, or cannot be read, yield none."""
    try:
        with open(path, "rb") as file:
            for line in file:
                try:
                    yield _format.decode(line)
                except (msgspec.DecodeError, ValueError, RecursionError):  # the last line may be incomplete
                    continue
    except OSError:
        return


def record_of_events(events: Iterable[_format.AnyEvent]) -> TraceRecord | None:
    """Return the record of the last run in a sequence of events; None if no run has begun."""
    reader = _EventReader()
    for event in events:
        reader.read(event)
    return reader.record() if reader.runs else None


class _EventReader:
    """A reader of events, which groups them by run."""

    def __init__(self) -> None:
        self.runs: list[_RunEvents] = []
        self._latest_runs: dict[str, _RunEvents] = {}  # by the path of the scheduler
        self._added: dict[str, _format.JobAdded] = {}
        self._incidents: list[tuple[float, _RunEvents, str]] = []
        self._offset = self._end = 0.0

    def read(self, event: _format.AnyEvent) -> None:
        """Read the next event. A new outermost run replaces the previous one."""
        if isinstance(event, _format.RunStarted):
            self._begin_run(event)
        if not self.runs:
            return
        self._end = max(self._end, event.at)
        if isinstance(event, _format.JobAdded):
            self._add_job(event)
        elif isinstance(event, _format.RunEnded) and event.path in self._latest_runs:
            self._latest_runs[event.path].ended = event
        elif isinstance(event, _format.IncidentEvent):
            run = self._latest_runs.get(event.path) or self._latest_runs[""]
            self._incidents.append((event.at, run, event.message))
        elif event.path in self._added:
            self._read_job_event(self._find_job(event.path), event)

    def _begin_run(self, event: _format.RunStarted) -> None:
        if not event.path:
            self.runs, self._latest_runs, self._added, self._incidents = [], {}, {}, []
            self._offset, self._end = event.time - event.at, event.at
        elif event.path not in self._added:
            return
        previous = self._latest_runs.get(event.path)
        parent = self._find_job(event.path) if event.path else None
        is_repeated = previous is not None and previous.parent is parent
        number = 1 + (previous.number if previous is not None and is_repeated else 0)
        run = _RunEvents(event.path, event.label, number, parent, event)
        self._latest_runs[event.path] = run
        self.runs.append(run)
        for added in self._added.values():
            if added.inside == event.path:
                run.jobs[added.path] = _JobEvents(added, run)

    def _add_job(self, event: _format.JobAdded) -> None:
        is_new = event.path not in self._added
        self._added[event.path] = event
        run = self._latest_runs.get(event.inside)
        if is_new and run is not None:
            run.jobs[event.path] = _JobEvents(event, run, event.at)

    def _find_job(self, path: str) -> _JobEvents:
        added = self._added[path]
        run = self._latest_runs.get(added.inside) or self._unstarted_run(added.inside)
        return run.jobs.setdefault(path, _JobEvents(added, run))

    def _unstarted_run(self, path: str) -> _RunEvents:
        """Add the run of a nested scheduler that has not begun."""
        added = self._added[path]
        run = _RunEvents(path, added.label, 0, self._find_job(path))
        run.jobs.update({job.path: _JobEvents(job, run) for job in self._added.values() if job.inside == path})
        self._latest_runs[path] = run
        self.runs.append(run)
        return run

    def _read_job_event(self, job: _JobEvents, event: _format.AnyEvent) -> None:
        match event:
            case _format.JobScheduled():
                if job.started_at is not None and event.throttled > len(job.throttled):
                    job.throttled.append((job.started_at, event.at))
                    job.started_at = None
                job.state = JobState.SCHEDULED
                job.scheduled_at = event.at if job.scheduled_at is None else job.scheduled_at
            case _format.JobStarted():
                job.state = JobState.RUNNING
                job.started_at = event.at if job.started_at is None else job.started_at
            case _format.JobAttempt():
                job.retried_at.append(event.at)
            case _format.JobReady():
                job.ready_at = event.at
            case _format.JobFinished():
                job.state, job.finished = event.state, event
            case _:
                pass

    # ---- the record

    def record(self) -> TraceRecord:
        """Return the record."""
        for path, added in self._added.items():
            if added.scheduler and path not in self._latest_runs:
                self._unstarted_run(path)
        entries = [
            (or_infinity(job.started_at), job.added.path.count("/"), job)
            for run in self.runs
            for job in run.jobs.values()
        ]
        jobs = [job for *_, job in sorted(entries, key=lambda entry: entry[:2])]
        for number, job in enumerate(jobs):
            job.number = number
        for run in self.runs:
            _assign_lanes(run)
        spans, runs = [self._span(job) for job in jobs], tuple(map(self._run_span, self.runs))
        analysis = WaitAnalysis(spans, runs, [self._lifetime(job) for job in jobs], {}, {})
        indices = {run: index for index, run in enumerate(self.runs)}
        root = self._latest_runs[""].started
        return TraceRecord(
            spans=tuple(replace(span, waits=tuple(analysis.find_waits(span))) for span in spans),
            runs=runs,
            incidents=tuple(IncidentMark(at, indices[run], message) for at, run, message in self._incidents),
            wall_offset=self._offset,
            end_time=self._end,
            families=tuple(family_from_label(job.added.label, is_user_chosen=True) for job in jobs),
            failures=dict(self._failures(jobs)),
            host=HostFacts(name=(root.host if root is not None else None) or ""),
            stored_graphs=(GraphDescription(notes=(NO_GRAPH_NOTE,)),),
        )

    def _lifetime(self, job: _JobEvents) -> tuple[float, float]:
        run = job.run
        run_end = self._end if run.ended is None else run.ended.at
        end = run_end if job.finished_at is None else job.finished_at
        return (end if run.started is None else max(run.started.at, job.added_at), end)

    def _span(self, job: _JobEvents) -> Span:
        added, finished, run = job.added, job.finished, job.run
        required = [run.jobs[path] for path in added.requires if path in run.jobs]
        culprits = [other for other in required if other.state in FAILED_STATES and job.state is JobState.BLOCKED]
        text = None if finished is None else finished.exception
        return Span(
            number=job.number,
            parent=None if run.parent is None else run.parent.number,
            run=run.number,
            path=added.path,
            label=added.label,
            kind=added.kind,
            state=job.state,
            critical=added.critical,
            forever=added.forever,
            scheduled_at=job.scheduled_at,
            started_at=job.started_at,
            ready_at=job.ready_at,
            finished_at=job.finished_at,
            attempts=() if job.started_at is None else (job.started_at, *job.retried_at),
            lane=job.lane,
            timed_out=finished is not None and finished.timed_out,
            moved_on=finished is not None and finished.moved_on,
            required=tuple(other.number for other in required),
            exception=None if text is None else _exception_text.placeholder_exception(text),
            returncode=None if finished is None else finished.returncode,
            throttled=tuple(job.throttled),
            restored=finished is not None and finished.restored,
            restored_at=None if finished is None else finished.restored_at,
            takes_slot=added.takes_slot,
            blocked_by=min(culprits, key=lambda other: or_infinity(other.finished_at)).number if culprits else None,
        )

    def _run_span(self, run: _RunEvents) -> RunSpan:
        culprit = None if run.ended is None or run.ended.culprit is None else run.jobs.get(run.ended.culprit)
        return RunSpan(
            scheduler_number=[*self._latest_runs].index(run.path),
            parent=None if run.parent is None else run.parent.number,
            run_number=run.number,
            label=run.label,
            started_at=run.started_at,
            finished_at=None if run.ended is None else run.ended.at,
            window_size=None if run.started is None else run.started.window,
            stop_reason=None if run.ended is None else run.ended.reason,
            culprit_number=None if culprit is None else culprit.number,
            member_numbers=tuple(sorted(job.number for job in run.jobs.values())),
        )

    def _failures(self, jobs: list[_JobEvents]) -> Iterator[tuple[int, FailureText]]:
        failed = [job for job in jobs if job.state is JobState.FAILED and job.finished is not None]
        for number, job in enumerate(sorted(failed, key=lambda job: or_infinity(job.finished_at))):
            finished: Any = job.finished
            text = finished.exception or "failed"
            if not finished.through_member:
                name, _, message = text.partition(": ")
                kind = finished.failure_kind or text
                yield job.number, FailureText(number, kind, name, text, message, f"{text}\n", None)


def _assign_lanes(run: _RunEvents) -> None:
    first_lane = 1
    for takes_slot in (True, False):
        jobs = [job for job in run.jobs.values() if job.started_at is not None and job.added.takes_slot is takes_slot]
        jobs.sort(key=lambda job: job.number)
        intervals = ((job.started_at or 0.0, job.finished_at or math.inf) for job in jobs)
        for job, row in zip(jobs, assign_lanes(intervals, (job.scheduled_at for job in jobs)), strict=True):
            job.lane = row + first_lane
        first_lane = max((job.lane + 1 for job in jobs if job.lane is not None), default=first_lane)
