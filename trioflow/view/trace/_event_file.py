"""The record of a run from the file of its events, for a run whose process was killed before it wrote a trace.

The events have neither tracebacks nor the graph, nor the output of commands and the use of resources.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from ..._core.api.views import FailedAttempt, JobState, Throttling
from ..events import _format
from ..text._failure_text import FailureText
from ._log_reader import family_from_label
from ._record import GraphDescription, TraceRecord
from ._span_builder import JobDescription, JobFacts, RecordBuilder, RunFacts
from ._spans import HostFacts, or_infinity

FAILED_STATES: Final = frozenset({JobState.FAILED, JobState.BLOCKED, JobState.CANCELLED})
NO_GRAPH_NOTE: Final = "The file of events has no graph; a trace has one."


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
    reader: _EventReader | None = None
    for event in events:
        if isinstance(event, _format.RunStarted) and not event.path:
            reader = _EventReader(event)
        elif reader is not None:
            reader.read(event)
    return None if reader is None else reader.record()


class _EventReader:
    """A reader of the events of one run, which groups the facts in them by the runs of schedulers.

    The keys in the facts are the paths of the jobs.
    """

    def __init__(self, start: _format.RunStarted) -> None:
        self._start: Final = start
        self._runs: Final[list[RunFacts]] = []
        self._latest_runs: Final[dict[str, RunFacts]] = {}  # by the path of the scheduler
        self._added: Final[dict[str, _format.JobAdded]] = {}
        self._failures: Final[list[JobFacts]] = []
        self._incidents: Final[list[tuple[float, RunFacts, str]]] = []
        self._end = start.at
        self._begin_run(start, None)

    def read(self, event: _format.AnyEvent) -> None:
        self._end = max(self._end, event.at)
        if isinstance(event, _format.JobAdded):
            self._add_job(event)
        elif isinstance(event, _format.RunEnded):
            self._end_run(event)
        elif isinstance(event, _format.IncidentEvent):
            run = self._latest_runs.get(event.path) or self._latest_runs[""]
            self._incidents.append((event.at, run, event.message))
        elif event.path in self._added:
            facts = self._find_job(event.path)
            if isinstance(event, _format.RunStarted):
                self._begin_run(event, facts.run_facts)
            else:
                self._read_job_event(facts, event)

    def _begin_run(self, event: _format.RunStarted, enclosing_run: RunFacts | None) -> None:
        previous = self._latest_runs.get(event.path)
        is_repeated = previous is not None and previous.enclosing_run is enclosing_run
        number = 1 + (previous.run_number if previous is not None and is_repeated else 0)
        run = self._add_run(event.path, event.label, enclosing_run, number)
        run.started_at, run.window_size = event.at, event.window

    def _add_run(self, path: str, label: str, enclosing_run: RunFacts | None, number: int) -> RunFacts:
        run = self._latest_runs[path] = RunFacts(path, label, enclosing_run, number)
        self._runs.append(run)
        run.facts_by_key.update(
            (added.path, JobFacts(added.path, run)) for added in self._added.values() if added.inside == path
        )
        return run

    def _end_run(self, event: _format.RunEnded) -> None:
        run = self._latest_runs.get(event.path)
        if run is not None:
            run.ended_at, run.stop_reason, run.culprit_key = event.at, event.reason, event.culprit
            if event.seconds is not None:  # without the time that the instruments took before the run began
                run.started_at = event.at - event.seconds

    def _add_job(self, event: _format.JobAdded) -> None:
        is_new = event.path not in self._added
        self._added[event.path] = event
        run = self._latest_runs.get(event.inside)
        if is_new and run is not None:
            facts = run.facts_by_key[event.path] = JobFacts(event.path, run)
            facts.added_at = event.at

    def _find_job(self, path: str) -> JobFacts:
        run = self._find_run(self._added[path].inside)
        return run.facts_by_key.setdefault(path, JobFacts(path, run))

    def _find_run(self, path: str) -> RunFacts:
        """Return the latest run of a scheduler. If it has not begun, add a run that never began."""
        run = self._latest_runs.get(path)
        return run or self._add_run(path, self._added[path].label, self._find_job(path).run_facts, 0)

    def _read_job_event(self, facts: JobFacts, event: _format.AnyEvent) -> None:
        match event:
            case _format.JobScheduled():
                attempts = facts.outcome.throttled_attempts
                if facts.started_at is not None and event.throttled > len(attempts):
                    began = (facts.started_at, *facts.later_attempt_starts)[-1]
                    attempt = Throttling(began, event.at, ())
                    facts.outcome = facts.outcome._replace(throttled_attempts=(*attempts, attempt))
                    if not facts.later_attempt_starts:
                        facts.started_at = None
                facts.state = JobState.SCHEDULED
            case _format.JobStarted():
                facts.state = JobState.RUNNING
                facts.started_at = event.at if facts.started_at is None else facts.started_at
            case _format.JobAttempt():
                facts.later_attempt_starts += (event.at,)
                if event.failed_at is not None:
                    failed = FailedAttempt(event.attempt - 1, None, event.failed_at, event.exception or "")
                    failures = dict.fromkeys([*facts.outcome.failed_attempts, failed])
                    facts.outcome = facts.outcome._replace(failed_attempts=tuple(failures))
            case _format.JobReady():
                facts.ready_at = event.at
            case _format.JobFinished():
                self._finish_job(facts, event)
            case _:
                pass

    def _finish_job(self, facts: JobFacts, event: _format.JobFinished) -> None:
        facts.state, facts.finished_at, facts.returncode = event.state, event.at, event.returncode
        facts.outcome = event.outcome()._replace(
            throttled_attempts=facts.outcome.throttled_attempts, failed_attempts=facts.outcome.failed_attempts
        )
        facts.exception = event.error()
        if event.state is JobState.FAILED and not event.through_member:
            text = event.exception or "failed"
            name, _, message = text.partition(": ")
            kind = event.failure_kind or text
            facts.failure = FailureText(len(self._failures), kind, name, text, message, f"{text}\n", None)
            self._failures.append(facts)
        elif event.state is JobState.BLOCKED:
            required = [facts.run_facts.facts_by_key.get(path) for path in self._added[event.path].requires]
            failed = [other for other in required if other is not None and other.state in FAILED_STATES]
            first = min(failed, key=lambda other: or_infinity(other.finished_at), default=None)
            facts.blocked_by_key = None if first is None else first.key

    def record(self) -> TraceRecord:
        for path, added in self._added.items():
            if added.scheduler:
                self._find_run(path)
        positions = defaultdict[str, Iterator[int]](itertools.count)
        descriptions = {
            added.path: JobDescription(
                added.path,
                added.label,
                added.kind,
                added.critical,
                added.forever,
                added.takes_slot,
                family_from_label(added.label, is_user_chosen=True),
                next(positions[added.inside]),
                tuple(added.requires),
                added.first,
            )
            for added in self._added.values()
        }
        for run in self._runs:
            for path, facts in run.facts_by_key.items():
                facts.description = descriptions[path]
        return RecordBuilder(self._runs).build(
            self._incidents,
            self._end,
            wall_offset=self._start.time - self._start.at,
            host=HostFacts(name=self._start.host or ""),
            stored_graphs=(GraphDescription(notes=(NO_GRAPH_NOTE,)),),
        )
