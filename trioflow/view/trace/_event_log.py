"""The event log of a `Trace`: a flat list that the hooks append to during a run, and the record that is built from it.

Each event takes six consecutive items of the list: the kind of the event, the scheduler, the job, two times, and
details. The list is flat because a tuple for each event would be another object for the garbage collector to visit.

| kind             | job          | time       | second time | details                           |
|------------------|--------------|------------|-------------|-----------------------------------|
| RUN_BEGAN        | None         | now        | None        | the `RunStart`                    |
| RUN_ENDED        | None         | its start  | its end     | reason, culprit, steering, jobs   |
| JOB_ADDED        | the job      | now        | None        | None                              |
| ATTEMPT_STARTED  | the job      | now        | None        | None                              |
| JOB_REOPENED     | the job      | its start  | None        | `record_outcome`                  |
| INCIDENT         | job or None  | now        | None        | message, whether it is steering   |
| JOB_PATH         | the job      | its end    | None        | the path                          |
| a `JobState`     | the job      | its start  | its end     | `record_outcome`, or None         |

The jobs of RUN_ENDED had not settled, because the run never reached them. The first attempt of a job has no
ATTEMPT_STARTED. JOB_PATH is recorded only for schedulers with `keep_jobs=False`.

Nothing is computed during a run. `LogReader` makes a single pass over the log afterwards, and groups its facts by run.
If a run has not ended, it also reads the current state of the jobs. For a nested scheduler that never ran, it reads the
current members. It can also read the last run of a scheduler from its jobs, without a log.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import itertools
import math
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from importlib import metadata
from typing import Any, Final, NamedTuple

from ..._core.admission import _pools
from ..._core.base._states import JobState, StopReason, WaitCause
from ..._core.base._text_forms import duration_text
from ..._core.job._errors import BudgetSpent
from ..._core.job._job import (
    AnyJob,
    FailedAttempt,
    Throttling,
    is_scheduler,
    takes_slot,
)
from ..._core.job._labels import PathCache, paths_of
from ..._core.run import _instruments, _steering
from ..._core.scheduler._base_scheduler import BaseScheduler
from ..._core.words import _job_queries
from ..._core.words._outcome import PLAIN_OUTCOME, Outcome, outcome
from ..._core.words._run_view import RunView, current_run, run_steering, run_times
from .._print_ends import end_of_prints
from ..text._failure_text import describe_failure, one_line_text
from ._record_builder import JobFacts, RecordBuilder, ResourceFacts, RunFacts
from ._spans import (
    CommandOutput,
    CommandRecord,
    HostFacts,
    IncidentMark,
    Interval,
    RunSpan,
    Span,
)
from ._trace_record import LiveObjects, TraceRecord
from ._waits import MIN_GAP_SECONDS

ITEMS_PER_EVENT: Final = 6


class EventKind(enum.Enum):
    """The kinds of events. When a job settles, the kind of the event is its `JobState` instead."""

    RUN_BEGAN = enum.auto()
    RUN_ENDED = enum.auto()
    JOB_ADDED = enum.auto()
    ATTEMPT_STARTED = enum.auto()
    JOB_REOPENED = enum.auto()
    INCIDENT = enum.auto()
    JOB_PATH = enum.auto()


class RunStart(NamedTuple):
    """The facts about a run that are known when it begins."""

    clock: Callable[[], float]
    wall_offset: float  # seconds to add to the clock's time to get time.time()
    window_size: (
        int | None
    )  # the number of slots (the largest number, for an `Adaptive` window), or None if unlimited
    has_limiter: bool = False  # whether the window is a `CapacityLimiter`
    pool: _pools.Pool | None = None
    backend: str = ""


MAX_OUTPUT_BYTES: Final = 1000
MAX_FAILED_OUTPUT_BYTES: Final = 1 << 16
"""How many bytes are kept from the end of each output of a command that succeeded, and that failed: CI systems reject
large files."""
PATH_TYPES: Final[Any] = (str, bytes, os.PathLike)


def record_command(job: Any, max_bytes: int) -> CommandRecord | None:
    """Return the record of the last process of a job that runs commands, or None if none has ended."""
    if job.restored:
        result = _job_queries.stored_result(job)
    else:
        result = job.last_result
    if not hasattr(result, "max_rss"):
        # There was no process, or the journal of a restored job has been changed.
        return None
    record = CommandRecord(
        _job_queries.command_line_of(job),
        result.returncode,
        result.elapsed,
        result.user_time,
        result.system_time,
        result.max_rss,
    )
    if job.redact:
        return record
    outputs = _job_queries.captured_outputs(result, max_bytes)
    return replace(
        record,
        outputs=tuple(itertools.starmap(CommandOutput, outputs)),
        files=tuple(_output_files(job)),
    )


def _output_files(job: object) -> Iterator[tuple[str, str]]:
    for stream in _job_queries.OUTPUT_STREAMS:
        # A user-defined job class may have no `_options`.
        file: Any = getattr(getattr(job, "_command_options", None), stream, None)
        if isinstance(file, PATH_TYPES):
            yield stream, os.path.abspath(os.fsdecode(file))


def record_outcome(job: AnyJob) -> Outcome:
    """Return the facts about a job, and if it has settled, with the record of its last process."""
    facts = outcome(job)
    has_begun = job.started_at is not None or job.restored
    if not (has_begun and job.is_settled() and _job_queries.runs_commands(job)):
        return facts
    max_bytes = MAX_OUTPUT_BYTES if facts.failure is None else MAX_FAILED_OUTPUT_BYTES
    return facts._replace(command=record_command(job, max_bytes))


class EventRecorder(_instruments.Instrument):
    """An instrument whose hooks append to an event log. It is the base class of views that need a `TraceRecord`."""

    def __init__(self) -> None:
        self._log: list[Any] = []
        self._append_event = self._log.extend
        self._clock = time.monotonic
        self._running_schedulers: dict[BaseScheduler, RunView] = {}
        # Contains only schedulers with keep_jobs=False.
        self._path_caches: dict[BaseScheduler, PathCache] = {}

    # ---- hooks

    def before_run(self, scheduler: BaseScheduler) -> None:
        """Record the start of a run. An outermost run clears the log first.

        Raises:
            RuntimeError: another run is in progress. Each event loop may have a clock with another origin.

        """
        run = current_run(scheduler)
        assert run is not None
        # If an earlier run crashed, `after_run` was not called for its scheduler.
        for running_scheduler in list(self._running_schedulers):
            if current_run(running_scheduler) is None:
                del self._running_schedulers[running_scheduler]
        if not self._running_schedulers:
            self._log.clear()
        elif scheduler.scheduler not in self._running_schedulers:
            # The engine logs this error, and removes the instrument from the second run only.
            cure = f"give {scheduler.label!r} its own {type(self).__name__}()"
            raise RuntimeError(f"{self!r} follows one run at a time: {cure}")
        self._running_schedulers[scheduler] = run
        self._clock = clock = run.clock
        limits = run.window, run.tokens_taken is not None, scheduler.pool
        run_start = RunStart(clock, time.time() - clock(), *limits, run.backend)
        self._append_event(
            (EventKind.RUN_BEGAN, scheduler, None, clock(), None, run_start)
        )
        if not scheduler.keep_jobs:
            prefix = ""
            if scheduler.scheduler is not None:
                prefix = f"{scheduler.path}/"
            self._path_caches[scheduler] = PathCache(scheduler, prefix)

    def job_added(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Record the time when the job was added. From then on, a job without requirements waits for a slot."""
        self._append_event(
            (EventKind.JOB_ADDED, scheduler, job, self._clock(), None, None)
        )

    def job_attempt(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Record the start of an attempt, except the first, which starts with the job."""
        if job.attempts > 1:
            self._append_event(
                (EventKind.ATTEMPT_STARTED, scheduler, job, self._clock(), None, None)
            )

    def job_settled(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Record the outcome of a job. The job's attributes do not keep it, because its next run overwrites them."""
        state, started_at, finished_at, is_plain_success = _job_queries.end_facts(job)
        details = None
        if not is_plain_success:
            details = record_outcome(job)
        self._append_event((state, scheduler, job, started_at, finished_at, details))
        if scheduler in self._path_caches:
            path = self._path_caches[scheduler].path_of(job)
            self._append_event(
                (EventKind.JOB_PATH, scheduler, job, finished_at, None, path)
            )

    def job_reopened(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Record that a job that had settled, or waited to start, is IDLE again, and its attempts so far."""
        details = record_outcome(job)
        self._append_event(
            (EventKind.JOB_REOPENED, scheduler, job, job.started_at, None, details)
        )

    def incident(
        self,
        scheduler: BaseScheduler,
        job: AnyJob | None,
        message: str,
        exception: BaseException | None,
    ) -> None:
        """Record an incident."""
        last = _job_queries.incidents_of(scheduler)[-1]
        details = message, last.is_steering
        self._append_event(
            (EventKind.INCIDENT, scheduler, job, last.occurred_at, None, details)
        )

    def after_run(self, scheduler: BaseScheduler) -> None:
        """Record the end of a run, its reason, and the jobs that it never reached."""
        unsettled_jobs = tuple(job for job in scheduler if job.finished_at is None)
        self._running_schedulers.pop(scheduler, None)
        details = (
            scheduler.stop_reason,
            scheduler.culprit,
            run_steering(scheduler),
            unsettled_jobs,
        )
        times = run_times(scheduler) or (None, None)
        self._append_event((EventKind.RUN_ENDED, scheduler, None, *times, details))
        self._path_caches.pop(scheduler, None)


# ---- the reader


def build_record(log: list[Any]) -> TraceRecord:
    """Build the `TraceRecord` of an event log, in O(n log n) time for n jobs."""
    reader = LogReader(log)
    if reader.runs:
        return reader.build()
    return TraceRecord()


def record_of_last_run(scheduler: BaseScheduler) -> TraceRecord:
    """Build the `TraceRecord` of a scheduler's last run from its jobs, without a log.

    The jobs know neither earlier runs of nested schedulers nor attempts, and a window has only its last size.
    """
    reader = LogReader([])
    reader.add_last_run(scheduler)
    return reader.build()


NO_START: Final = RunStart(time.monotonic, 0.0, None)


@dataclass(slots=True, eq=False)
class LiveJob:
    """A job in a run, with its facts from the log, or from the job itself."""

    key: int
    job: AnyJob
    state: JobState = JobState.IDLE
    started_at: float | None = None
    finished_at: float | None = None
    outcome: Outcome = PLAIN_OUTCOME
    added_at: float = -math.inf
    later_attempt_starts: tuple[float, ...] = ()
    # When and why it was BLOCKED. The number is 0.
    blocked_ends: tuple[tuple[int, float, str], ...] = ()
    # The key of its run in a `Watch`.
    run_index: int = 0

    def reopen(
        self, started_at: float | None = None, outcome: Outcome = PLAIN_OUTCOME
    ) -> None:
        """Record that the job is IDLE again. It still knows its attempts, but not that it was BLOCKED."""
        if (
            self.outcome.failure is not None
            and self.finished_at is not None
            and self.started_at is None
        ):
            error = one_line_text(self.outcome.failure.exception)
            self.blocked_ends += ((0, self.finished_at, error),)
        self.state = JobState.IDLE
        self.started_at = started_at
        self.finished_at = None
        self.outcome = outcome

    def read(self) -> None:
        """Take over the current state of the job, and its facts about its end. Any thread may call this."""
        job = self.job
        state = None
        # It has changed while it was read.
        while state is not job.state:
            state = job.state
            self.state, self.started_at, self.finished_at, is_plain_success = (
                _job_queries.end_facts(job)
            )
            if is_plain_success:
                self.outcome = PLAIN_OUTCOME
            else:
                self.outcome = record_outcome(job)


@dataclass(slots=True, eq=False)
class LiveRun:
    """A run of a scheduler, with its facts from the log, or from the scheduler itself."""

    scheduler: BaseScheduler
    enclosing: LiveRun | None
    number: int
    start: RunStart
    started_at: float | None = None
    ended_at: float | None = None
    stop_reason: StopReason | None = None
    culprit: AnyJob | None = None
    jobs: dict[AnyJob, LiveJob] = field(default_factory=dict[AnyJob, LiveJob])
    window_sizes: tuple[tuple[float, int], ...] = ()
    own_pauses: tuple[Interval, ...] = ()
    # Whether the scheduler was tried again, so that its last run is a part of this run.
    is_continued: bool = False
    # In a `Watch`: an object that only this run of the scheduler has.
    identity: object = None
    # In a `Watch`: whether this object stands for all runs of a group, one after the other.
    is_for_all_runs: bool = False
    # The run of the group before this one, whose attempts go on here.
    previous: LiveRun | None = None
    # By its scheduler, the last run of each group in the outermost run.
    last_runs: dict[BaseScheduler, LiveRun] = field(
        default_factory=dict[BaseScheduler, "LiveRun"]
    )

    def __post_init__(self) -> None:
        if self.enclosing is not None:
            self.last_runs = self.enclosing.last_runs
        if self.number or self.scheduler not in self.last_runs:
            self.last_runs[self.scheduler] = self

    @property
    def pauses(self) -> tuple[Interval, ...]:
        """The pauses of the run, and of those around it."""
        if self.enclosing is None:
            return self.own_pauses
        return (*self.enclosing.pauses, *self.own_pauses)

    def steer(self, steering: _steering.SteeringRecord) -> None:
        """Take over when the run was paused, and its numbers of slots if they have changed."""
        self.own_pauses = steering.pauses
        self.window_sizes = steering.window_sizes or self.window_sizes

    @property
    def parent(self) -> LiveJob | None:
        """The scheduler as a job in the enclosing run, or None for an outermost scheduler."""
        if self.enclosing is None:
            return None
        return self.enclosing.jobs[self.scheduler]

    @property
    def parent_key(self) -> int | None:
        return None if self.parent is None else self.parent.key

    def find_key(self, job: AnyJob | None) -> int | None:
        """Return the key of a job in this run, an enclosing run, or the last run of another group, or else None."""
        if job is None:
            return None
        run: LiveRun | None = self
        while run is not None and job not in run.jobs:
            run = run.enclosing
        if run is None and job.scheduler is not None:
            run = self.last_runs.get(job.scheduler)
        if run is None or job not in run.jobs:
            return None
        return run.jobs[job].key


class LogReader:
    """A reader of an event log, which groups the facts in the log by run."""

    def __init__(self, log: list[Any]) -> None:
        self.runs: Final[list[LiveRun]] = []
        self._jobs: Final[list[AnyJob]] = []  # by their keys
        self._incidents: Final[
            list[tuple[LiveRun, float, tuple[str, bool, int | None]]]
        ] = []
        self._latest_runs: Final[dict[BaseScheduler | None, LiveRun]] = {}
        # Only with keep_jobs=False: the scheduler may already have dropped the job when its path is needed.
        self._recorded_paths: Final[dict[LiveJob | None, str]] = {}
        # Among them schedulers, whose next run continues the last run.
        self._reopened: Final[set[LiveJob]] = set()
        # By their last run, the jobs that the next run will repeat, with their starts and outcomes.
        self._reset: Final[
            dict[LiveRun | None, list[tuple[LiveJob, tuple[float | None, Outcome]]]]
        ] = {}
        self._last_start = NO_START
        items = iter(log)
        for event in zip(*[items] * ITEMS_PER_EVENT, strict=True):
            self._read_event(*event)
        for jobs in self._reset.values():
            # Their group has not begun again: what it requires failed, or it waits.
            for live, facts in jobs:
                live.reopen(*facts)

    def _read_event(
        self,
        kind: Any,
        scheduler: BaseScheduler,
        job: AnyJob,
        time: float,
        finished_at: float | None,
        details: Any,
    ) -> None:
        if kind is EventKind.RUN_BEGAN:
            self._begin_run(scheduler, time, details)
            return
        run = self._latest_runs[scheduler]
        if isinstance(kind, JobState):
            live = self._get_or_create(run, job)
            live.state = kind
            live.started_at = time
            live.finished_at = finished_at
            live.outcome = details or PLAIN_OUTCOME
        elif kind is EventKind.ATTEMPT_STARTED:
            self._get_or_create(run, job).later_attempt_starts += (time,)
        elif kind is EventKind.JOB_REOPENED:
            live = self._get_or_create(run, job)
            if not live.state.is_settled:
                # It has left the line.
                live.reopen(time, details)
            elif run.ended_at is None:
                live.reopen(time, details)
                self._reopened.add(live)
            else:
                self._reset.setdefault(run, []).append((live, (time, details)))
        elif kind is EventKind.JOB_ADDED:
            self._get_or_create(run, job).added_at = time
        elif kind is EventKind.JOB_PATH:
            self._recorded_paths[self._get_or_create(run, job)] = details
        elif kind is EventKind.INCIDENT:
            self._incidents.append((run, time, (*details, run.find_key(job))))
        else:
            if not run.is_continued:
                run.started_at = time
            run.ended_at = finished_at
            run.stop_reason, run.culprit, steering, unsettled_jobs = details
            run.steer(steering)
            for unsettled_job in unsettled_jobs:
                self._get_or_create(run, unsettled_job)

    def _begin_run(
        self, scheduler: BaseScheduler, time: float, start: RunStart
    ) -> None:
        enclosing = self._latest_runs.get(scheduler.scheduler)
        if enclosing is not None and enclosing.ended_at is not None:
            enclosing = None
        live = None
        if enclosing is not None:
            live = enclosing.jobs.get(scheduler)
        is_reopened = live in self._reopened
        self._reopened.discard(live)
        previous = self._latest_runs.get(scheduler)
        reset = self._reset.pop(previous, [])
        if previous is not None and previous.enclosing is not enclosing:
            # The run of an earlier try of a group around it, which is as it was.
            previous = None
        number = 1
        if previous is not None:
            if is_reopened and all(job in scheduler for job in previous.jobs):
                previous.is_continued = True
                previous.ended_at = previous.stop_reason = previous.culprit = None
                for each, facts in reset:
                    each.reopen(*facts)
                    self._reopened.add(each)
                return
            number = previous.number + 1
        run = LiveRun(scheduler, enclosing, number, start, time, previous=previous)
        self._latest_runs[scheduler] = self._add_run(run)

    def _add_run(self, run: LiveRun) -> LiveRun:
        if run.start is not NO_START:
            self._last_start = run.start
        self.runs.append(run)
        return run

    def _get_or_create(self, run: LiveRun, job: AnyJob) -> LiveJob:
        if (live := run.jobs.get(job)) is None:
            live = run.jobs[job] = LiveJob(len(self._jobs), job)
            self._jobs.append(job)
        return live

    def add_last_run(self, scheduler: BaseScheduler) -> None:
        """Add the last run of an outermost scheduler, and of all schedulers in it."""
        todo: list[tuple[BaseScheduler, LiveRun | None]] = [(scheduler, None)]
        # The loop appends nested schedulers to the list.
        for current, enclosing in todo:
            start = RunStart(
                time.monotonic, 0.0, current.window_size, pool=current.pool
            )
            began, ended = run_times(current) or (0.0, None)
            run = self._add_run(LiveRun(current, enclosing, 1, start, began, ended))
            if _job_queries.keeps_succeeded(current) and current.started_at is not None:
                run.is_continued = True
                run.started_at = current.started_at
            run.stop_reason = current.stop_reason
            run.culprit = current.culprit
            self._add_current_states(run)
            for job in current:
                if is_scheduler(job) and job.started_at is not None:
                    todo.append((job, run))

    def _add_current_states(self, run: LiveRun) -> None:
        """Add the current states of the jobs of a run that have not settled according to the log."""
        times = run_times(run.scheduler)
        if times is not None and not run.is_continued:
            run.started_at = times[0]
        run.steer(run_steering(run.scheduler))
        for job in run.scheduler:
            live = self._get_or_create(run, job)
            if live.state is JobState.IDLE:
                live.read()

    # ---- the record

    def build(self) -> TraceRecord:
        builder = RecordBuilder(self.read_facts())
        ends: list[float] = []
        for run in self.runs:
            if run.ended_at is not None:
                ends.append(run.ended_at)
            elif run.started_at is not None:
                ends.append(self._last_start.clock())
        indices = {run: index for index, run in enumerate(self.runs)}
        incidents = [
            IncidentMark(time, indices[run], *details)
            for run, time, details in self._incidents
        ]
        outermost = [run.scheduler for run in self.runs if run.enclosing is None]
        jobs = [self._jobs[job.span.number] for job in builder.jobs]
        return builder.build(
            incidents,
            max(ends),
            wall_offset=self._last_start.wall_offset,
            host=host_facts(),
            live=LiveObjects(tuple(dict.fromkeys(outermost)), tuple(jobs)),
        )

    def read_facts(self) -> list[RunFacts]:
        """Return the facts about all runs, each after its enclosing run."""
        for run in self.runs:
            if run.ended_at is None and run.stop_reason is None:
                self._add_current_states(run)
        self._add_unstarted_schedulers()
        scheduler_numbers = {
            run.scheduler: number for number, run in enumerate(reversed(self.runs))
        }
        paths_by_run = self._find_paths()
        owners = dict[object, int]()
        keys = dict[str, dict[str, str]]()
        for job in self._jobs:
            add_keys(job, owners, keys)
        facts: list[RunFacts] = []
        for run in self.runs:
            paths = paths_by_run[run]
            positions = {job: number for number, job in enumerate(run.scheduler)}
            jobs: list[JobFacts] = []
            for job, live in run.jobs.items():
                position = positions.get(job, len(positions))
                jobs.append(describe_job(run, live, paths.get(job), position, owners))
            span = describe_run(run, scheduler_numbers[run.scheduler])
            resources = tuple(pool_resources(run.start.pool, owners, keys))
            facts.append(RunFacts(span, resources, tuple(jobs)))
        return facts

    def _add_unstarted_schedulers(self) -> None:
        begun_runs = {(run.enclosing, run.scheduler) for run in self.runs}
        # The loop appends to this list.
        for run in self.runs:
            for job in run.jobs:
                if is_scheduler(job) and (run, job) not in begun_runs:
                    unstarted_run = self._add_run(LiveRun(job, run, 0, NO_START))
                    for member in job:
                        self._get_or_create(unstarted_run, member)

    def _find_paths(self) -> dict[LiveRun, dict[AnyJob, str]]:
        paths: dict[LiveRun, dict[AnyJob, str]] = {}
        # Enclosing runs come first.
        for run in self.runs:
            if run.enclosing is None:
                paths[run] = paths_of(run.scheduler)
            else:
                paths[run] = paths[run.enclosing]
                if run.parent in self._recorded_paths:
                    prefix = f"{self._recorded_paths[run.parent]}/"
                    paths[run].update(paths_of(run.scheduler, prefix))
            for job, live in run.jobs.items():
                if live in self._recorded_paths:
                    paths[run][job] = self._recorded_paths[live]
        return paths


def describe_run(run: LiveRun, scheduler_number: int) -> RunSpan:
    sizes = [size for _, size in run.window_sizes]
    culprit_number = None
    if run.culprit in run.jobs:
        culprit_number = run.jobs[run.culprit].key
    return RunSpan(
        scheduler_number=scheduler_number,
        parent=run.parent_key,
        run_number=run.number,
        label=run.scheduler.label,
        started_at=run.started_at,
        finished_at=run.ended_at,
        window_size=max(sizes, default=run.start.window_size),
        stop_reason=run.stop_reason,
        culprit_number=culprit_number,
        member_numbers=(),
        has_limiter=run.start.has_limiter,
        backend=run.start.backend,
        window_sizes=run.window_sizes,
        pauses=run.pauses,
        has_own_label=_job_queries.explicit_label(run.scheduler) is not None,
        options=tuple(_option_texts(run.scheduler)),
    )


def _option_texts(scheduler: BaseScheduler) -> Iterator[tuple[str, str]]:
    """Yield the names and values of the options that were set on a scheduler, except its window."""
    if scheduler.timeout is not None:
        yield "timeout", duration_text(scheduler.timeout)
    yield "policy", scheduler.policy
    if scheduler.pool is not None:
        yield "pool", repr(scheduler.pool)
    if scheduler.critical_jobs is not None:
        yield "critical_jobs", str(scheduler.critical_jobs)


def add_keys(
    job: AnyJob, owners: dict[object, int], keys: dict[str, dict[str, str]]
) -> None:
    """Add the keys that a job needs, each by its name in facts, to the keys of all resources."""
    for name, need in (job.needs or {}).items():
        keys.setdefault(name, {})[key_name(job, name, need, owners)] = str(need)


def key_name(job: AnyJob, name: str, key: object, owners: dict[object, int]) -> str:
    """Return the name of a key in facts: the key, or a number in its place if the job has `redact=True`."""
    text = str(key)
    if job.redact:
        return f"(redacted, {owners.setdefault((name, text), len(owners))})"
    return text


def pool_resources(
    pool: _pools.Pool | None, owners: dict[object, int], keys: dict[str, dict[str, str]]
) -> Iterator[ResourceFacts]:
    for view in _pools.resource_views(pool):
        totals = dict[str, float | None]()
        if view.is_per_key:
            for name, key in sorted(keys.get(view.name, {}).items()):
                totals[name] = view.key_total(key)
        owner = owners.setdefault(pool, len(owners))
        yield ResourceFacts(
            owner,
            view.name,
            view.total,
            view.is_per_key,
            totals,
            shortages=view.shortages,
        )


def _run_needs(
    run: LiveRun, job: AnyJob, owners: dict[object, int]
) -> Iterator[tuple[ResourceFacts, float]]:
    for name, amount in _job_queries.run_needs(job).items():
        owner, total, has_gate = _job_queries.find_run_resource(run.scheduler, name)
        number = owners.setdefault(owner, len(owners))
        shortages = None if has_gate else ()
        facts = ResourceFacts(number, name, total, shortages=shortages)
        yield facts, float(str(amount))


class WorkInRun(NamedTuple):
    """The work of a job in one run of its scheduler."""

    started_at: float | None
    later_starts: tuple[float, ...]
    failed: tuple[FailedAttempt, ...]
    throttled: tuple[Throttling, ...]
    waits: tuple[tuple[WaitCause, float, float], ...]
    took: float | None
    first_attempt: int = 1


def work_in_run(run: LiveRun, live: LiveJob) -> WorkInRun:
    """Return the work of a job in one run of its scheduler.

    The attempts of a member go on in each run of its group. The attempts of an earlier run have a span of their own.
    """
    outcome = live.outcome
    waits = (*outcome.inner_waits, *_waits_between_attempts(run, live))
    took = None
    later_starts: tuple[float, ...] = ()
    if live.started_at is not None:
        later_starts = live.later_attempt_starts
        if live.state is JobState.IDLE:
            took = outcome.took
        elif live.finished_at is not None:
            took = outcome.took
            if took is None:
                took = live.finished_at - live.started_at
    work = WorkInRun(
        live.started_at,
        later_starts,
        outcome.failed_attempts,
        outcome.throttled_attempts,
        waits,
        took,
    )
    began = run.started_at
    if began is None or run.is_for_all_runs:
        began = -math.inf
    last_before = _last_attempt_before(run, live)
    if live.started_at is None or (live.started_at >= began and not last_before):
        return work
    failed = tuple(
        [each for each in work.failed if _is_of_run(each, began, last_before)]
    )
    throttled = tuple([each for each in work.throttled if each.began >= began])
    work = work._replace(failed=failed, throttled=throttled)
    if not later_starts:
        return work._replace(started_at=None, waits=(), took=None)
    started_at = later_starts[0]
    if took is not None:
        took = sum(attempt.ended - attempt.began for attempt in failed)
        if live.finished_at is not None:
            took += live.finished_at - later_starts[-1]
    earlier = [each.number for each in outcome.failed_attempts if each not in failed]
    return work._replace(
        started_at=started_at,
        later_starts=later_starts[1:],
        waits=tuple([wait for wait in waits if wait[1] >= started_at]),
        took=took,
        first_attempt=1 + max(earlier, default=0),
    )


def _last_attempt_before(run: LiveRun, live: LiveJob) -> int:
    """Return the number of the last attempt of a job that the run of its group before this one knows, or 0."""
    earlier = None
    if run.previous is not None:
        earlier = run.previous.jobs.get(live.job)
    if earlier is None or live.started_at is None:
        return 0
    if earlier.started_at != live.started_at:
        return 0
    failed = earlier.outcome.failed_attempts
    last_failed = max((attempt.number for attempt in failed), default=0)
    if earlier.state in (JobState.BLOCKED, JobState.SKIPPED):
        return last_failed
    return last_failed + 1


def _is_of_run(attempt: FailedAttempt, run_began: float, last_before: int) -> bool:
    """Return whether an attempt has begun in a run. At the instant in which the run begins, the numbers tell."""
    if attempt.began == run_began:
        return attempt.number > last_before
    return attempt.began > run_began


def describe_job(
    run: LiveRun,
    live: LiveJob,
    path: str | None,
    position: int,
    owners: dict[object, int],
) -> JobFacts:
    job = live.job
    outcome = live.outcome
    command = outcome.command
    work = work_in_run(run, live)
    error = None
    own_failure = None
    if outcome.failure is not None:
        error = outcome.failure.exception
        if live.state is JobState.FAILED:
            is_own = not outcome.failed_through_member
        else:
            is_own = isinstance(error, BudgetSpent) and live.state is JobState.BLOCKED
        if is_own:
            own_failure = describe_failure(job, outcome.failure)
    required = map(run.jobs.get, _job_queries.all_requirements(run.scheduler, job))
    ends = ((attempt.number, attempt.ended, attempt.error) for attempt in work.failed)
    took = work.took
    restored_took = None
    if outcome.restoration is not None:
        restored_took = outcome.restoration.took
    if took is None:
        took = restored_took
    usage_names = ("returncode", "user_time", "system_time", "max_rss")
    usage: dict[str, Any] = {name: getattr(command, name, None) for name in usage_names}
    span = Span(
        number=live.key,
        parent=run.parent_key,
        run=run.number,
        path=path or job.label,
        label=job.label,
        kind=type(job).__name__,
        state=live.state,
        critical=_job_queries.criticality(job),
        forever=job.forever,
        scheduled_at=None,
        started_at=work.started_at,
        ready_at=outcome.ready_at,
        finished_at=live.finished_at,
        attempts=work.later_starts,
        lane=None,
        timed_out=outcome.timed_out,
        required=tuple(each.key for each in required if each is not None),
        exception=error,
        **usage,
        throttled=tuple((attempt.began, attempt.ended) for attempt in work.throttled),
        restored=outcome.restoration is not None,
        restored_at=outcome.restored_at,
        restored_took=restored_took,
        rerun_cause=outcome.rerun_cause,
        takes_slot=takes_slot(job),
        moved_on=outcome.moved_on,
        blocked_by=run.find_key(outcome.cause),
        failed_attempts=(*live.blocked_ends, *ends),
        is_first=is_scheduler(job) and _job_queries.is_one_job(job),
        took=took,
        first_attempt=work.first_attempt,
    )
    needs: dict[str, float | str] = {}
    for name, need in (job.needs or {}).items():
        if isinstance(need, (int, float)):
            needs[name] = float(need)
        else:
            needs[name] = key_name(job, name, need, owners)
    cooldowns: list[tuple[str, float, float]] = []
    for attempt in work.throttled:
        for name, until in attempt.closed_until:
            cooldowns.append((name, attempt.ended, until))
    printed = ""
    if live.state.is_settled:
        printed = end_of_prints(job, work.started_at)
    return JobFacts(
        span,
        position,
        _job_queries.explicit_label(job) is not None,
        live.added_at,
        needs,
        tuple(_run_needs(run, job, owners)),
        tuple(cooldowns),
        work.waits,
        own_failure,
        command,
        printed,
    )


def _waits_between_attempts(
    run: LiveRun, live: LiveJob
) -> Iterator[tuple[WaitCause, float, float]]:
    """Yield the waits between two attempts: for a retry or another try, and waits that `WaitAnalysis` has to explain.

    A job that is ready for its next attempt waits as others do, and so does one that was throttled. If it runs again
    with a job that it requires, it waits for that first. While it is IDLE, it waits for a job, or for its group.
    """
    outcome = live.outcome
    last_cause = WaitCause.LOOP
    if live.state is JobState.IDLE:
        last_cause = WaitCause.JOBS
    backoffs = {
        attempt.ended: (attempt.backed_off_until, attempt.had_settled)
        for attempt in outcome.failed_attempts
    }
    for since, until in outcome.retry_waits:
        backed_off_until, had_settled = backoffs.get(since, (since, False))
        ready = min(backed_off_until, until)
        cause = WaitCause.HELD if had_settled else WaitCause.RETRY
        if until - ready < MIN_GAP_SECONDS:
            yield cause, since, until
            continue
        if ready > since:
            yield cause, since, ready
        required = _job_queries.all_requirements(run.scheduler, live.job)
        ends = itertools.chain(*map(_job_queries.end_times, required))
        last_end = max((end for end in ends if ready < end <= until), default=ready)
        if last_end > ready:
            yield WaitCause.JOBS, ready, last_end
        if until > last_end:
            yield last_cause, last_end, until


@functools.cache
def host_facts() -> HostFacts:
    versions = [f"Python {platform.python_version()}"]
    for name in ("trioflow", "trio", "anyio"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions.append(f"{name} {metadata.version(name)}")
    return HostFacts(platform.node(), platform.platform(), ", ".join(versions))
