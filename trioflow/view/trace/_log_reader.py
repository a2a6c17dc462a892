"""The facts about the runs in an event log, or about the last run of a scheduler, and the record that is made of them.

`LogReader` makes one pass over the log and groups its facts by run. If a run has not ended, it also reads the current
state of the jobs. For a nested scheduler that never ran, it reads the current members.
"""

from __future__ import annotations

import functools
import platform
from importlib import metadata
from time import monotonic
from typing import Any, Final

from ..._core.api.views import (
    AnyJob,
    BaseScheduler,
    JobState,
    all_requirements,
    is_scheduler,
    outcome,
    paths_of,
    ready_at,
    run_times,
)
from ._event_recorder import EventKind, RunStart, read_events, record_outcome
from ._record import LiveObjects, TraceRecord
from ._resource_use import ResolvedNeeds, ResourceScopes, ResourceUse, resolve_needs
from ._span_builder import PLAIN_OUTCOME, JobFacts, RecordBuilder, RunFacts
from ._spans import HostFacts


def build_record(log: list[Any]) -> TraceRecord:
    """Build the `TraceRecord` of an event log, in O(n log n) time for n jobs."""
    reader = LogReader(log)
    return reader.build() if reader.runs else TraceRecord()


def record_of_last_run(scheduler: BaseScheduler) -> TraceRecord:
    """Build the `TraceRecord` of a scheduler's last run from what its jobs know, without a log.

    The jobs know neither earlier runs of nested schedulers nor attempts, and a window has only its last size.
    """
    reader = LogReader([])
    reader.add_last_run(scheduler)
    return reader.build()


NO_START: Final = RunStart(monotonic, 0.0, None)
"""The start of a run that never began."""


class LogReader:
    """A reader of an event log, which groups the facts in the log by run."""

    def __init__(self, log: list[Any]) -> None:
        self.runs: Final[list[RunFacts]] = []
        self._incidents: Final[list[tuple[float, RunFacts, str]]] = []
        self._latest_runs: Final[dict[BaseScheduler, RunFacts]] = {}
        # Only with keep_jobs=False: the scheduler may already have dropped the job when its path is needed.
        self._recorded_paths: Final[dict[JobFacts, str]] = {}
        self._last_start = NO_START
        for event in read_events(log):
            self._read_event(*event)

    def _read_event(
        self, kind: Any, scheduler: BaseScheduler, job: AnyJob, time: float, finished_at: float | None, details: Any
    ) -> None:
        if kind is EventKind.RUN_BEGAN:
            self._begin_run(scheduler, time, details)
            return
        run = self._latest_runs[scheduler]
        if isinstance(kind, JobState):
            facts = _get_or_create_facts(run, job)
            facts.state, facts.started_at, facts.finished_at = kind, time, finished_at
            facts.outcome, facts.command = details or (PLAIN_OUTCOME, None)
            facts.ready_at = facts.outcome.ready_at
        elif kind is EventKind.ATTEMPT_STARTED:
            _get_or_create_facts(run, job).later_attempt_starts += (time,)
        elif kind is EventKind.JOB_ADDED:
            _get_or_create_facts(run, job).added_at = time
        elif kind is EventKind.JOB_PATH:
            self._recorded_paths[_get_or_create_facts(run, job)] = details
        elif kind is EventKind.WINDOW_RESIZED:
            run.window_sizes.append((time, details))
        elif kind is EventKind.INCIDENT:
            self._incidents.append((time, run, details[0]))
        else:
            run.started_at, run.ended_at = time, finished_at
            run.stop_reason, run.culprit = details.stop_reason, details.culprit
            for unsettled_job in details.unsettled_jobs:
                _get_or_create_facts(run, unsettled_job)

    def _begin_run(self, scheduler: BaseScheduler, time: float, start: RunStart) -> None:
        enclosing_run = self._latest_runs.get(scheduler.scheduler) if scheduler.scheduler is not None else None
        if enclosing_run is not None and enclosing_run.ended_at is not None:
            enclosing_run = None
        previous_run = self._latest_runs.get(scheduler)
        is_repeated = previous_run is not None and previous_run.enclosing_run is enclosing_run
        number = previous_run.run_number + 1 if previous_run is not None and is_repeated else 1
        self._latest_runs[scheduler] = self._add_run(scheduler, enclosing_run, number, time, start)

    def _add_run(
        self,
        scheduler: BaseScheduler,
        enclosing_run: RunFacts | None,
        number: int,
        started_at: float | None = None,
        start: RunStart | None = None,
    ) -> RunFacts:
        run = RunFacts(scheduler, enclosing_run, number, start or NO_START, started_at)
        if start is not None:
            self._last_start = start
        self.runs.append(run)
        return run

    def add_last_run(self, scheduler: BaseScheduler) -> None:
        """Add the last run of an outermost scheduler, and of all schedulers in it."""
        todo: list[tuple[BaseScheduler, RunFacts | None]] = [(scheduler, None)]
        for current, enclosing_run in todo:  # the loop appends nested schedulers to the list
            started, ended = run_times(current) or (0.0, None)
            start = RunStart(monotonic, 0.0, current.window_size, pool=current.pool)
            run = self._add_run(current, enclosing_run, 1, started, start)
            run.ended_at, run.stop_reason, run.culprit = ended, current.stop_reason, current.culprit
            _add_current_states(run)
            todo += [(job, run) for job in current if is_scheduler(job) and job.started_at is not None]

    # ---- the record

    def build(self) -> TraceRecord:
        for run in self.runs:
            if run.ended_at is None and run.stop_reason is None:
                _add_current_states(run)
        self._add_unstarted_schedulers()
        self._describe_jobs()
        clock = self._last_start.clock
        started_runs = [run for run in self.runs if run.started_at is not None]
        end_time = max(clock() if run.ended_at is None else run.ended_at for run in started_runs)
        builder, scopes = RecordBuilder(self.runs), ResourceScopes()
        return builder.build(
            self._incidents,
            end_time,
            _find_needs(self.runs, scopes),
            wall_offset=self._last_start.wall_offset,
            host=_host_facts(),
            live=LiveObjects(
                tuple(dict.fromkeys(run.scheduler for run in self.runs if run.enclosing_run is None)),
                tuple(facts.job for facts in builder.job_facts),
            ),
        )

    def _add_unstarted_schedulers(self) -> None:
        begun_runs = {(run.enclosing_run, run.scheduler) for run in self.runs}
        for run in self.runs:  # the loop appends to this list
            for job in run.facts_by_job:
                if is_scheduler(job) and (run, job) not in begun_runs:
                    unstarted_run = self._add_run(job, run, 0)
                    for member in job:
                        _get_or_create_facts(unstarted_run, member)

    def _describe_jobs(self) -> None:
        """Add to the facts about each job its path, its position and its requirements."""
        paths_by_run = self._find_paths()
        for run in self.runs:
            positions = {job: number for number, job in enumerate(run.scheduler)}
            for job, facts in run.facts_by_job.items():
                facts.path = paths_by_run[run].get(job) or job.label
                facts.position = positions.get(job, len(positions))
                required = map(run.facts_by_job.get, all_requirements(run.scheduler, job))
                facts.requirements = [requirement for requirement in required if requirement is not None]

    def _find_paths(self) -> dict[RunFacts, dict[AnyJob, str]]:
        has_several_roots = len({run.scheduler for run in self.runs if run.enclosing_run is None}) > 1
        paths: dict[RunFacts, dict[AnyJob, str]] = {}
        for run in self.runs:  # enclosing runs come first
            if run.enclosing_run is None:
                prefix = f"{run.scheduler.label}/" if has_several_roots and run.scheduler.scheduler is None else None
                paths[run] = paths_of(run.scheduler, prefix)
            else:
                paths[run] = paths[run.enclosing_run]
                if run.scheduler_facts in self._recorded_paths:
                    paths[run].update(paths_of(run.scheduler, f"{self._recorded_paths[run.scheduler_facts]}/"))
            recorded_paths = ((job, self._recorded_paths.get(facts)) for job, facts in run.facts_by_job.items())
            paths[run].update((job, path) for job, path in recorded_paths if path is not None)
        return paths


def _get_or_create_facts(run: RunFacts, job: AnyJob) -> JobFacts:
    facts = run.facts_by_job.get(job)
    if facts is None:
        facts = run.facts_by_job[job] = JobFacts(job, run)
    return facts


def _add_current_states(run: RunFacts) -> None:
    """Add the current states of those jobs of a run of which the log does not say that they have settled."""
    if (times := run_times(run.scheduler)) is not None:
        run.started_at = times[0]
    for job in run.scheduler:
        facts = _get_or_create_facts(run, job)
        if facts.state is JobState.IDLE:
            facts.state, facts.ready_at = job.state, ready_at(job)
            facts.started_at, facts.finished_at = job.started_at, job.finished_at
            if job.is_settled():
                facts.outcome, facts.command = record_outcome(job)
            else:
                facts.outcome = outcome(job)


def _find_needs(runs: list[RunFacts], scopes: ResourceScopes) -> dict[int, ResolvedNeeds]:
    """Return the needs of each span that has any. Also add the cooldowns of throttled keys to their resources."""
    resources: dict[RunFacts | None, dict[str, ResourceUse]] = {None: {}}
    all_needs: dict[int, ResolvedNeeds] = {}
    for run in runs:  # enclosing runs come first
        reserved_needs = () if run.parent_number is None else all_needs.get(run.parent_number, ())
        scope = resources[run] = scopes.build_run_scope(resources[run.enclosing_run], reserved_needs, run.start.pool)
        for job, facts in run.facts_by_job.items():
            needs = resolve_needs(scope, job.needs or {}) if scope else ()
            needs += tuple(scopes.resolve_run_needs(run.scheduler, job))
            if not needs:
                continue
            all_needs[facts.span_number] = needs
            needed = {resource.name: resource for resource, _ in needs}
            for throttling in facts.outcome.throttled_attempts:
                for name, until in throttling.closed_until:
                    needed[name].cooldowns.append((throttling.ended, until, facts.span_number))
    return all_needs


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
