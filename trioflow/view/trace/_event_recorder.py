"""The event log of a `Trace`: a flat list to which the hooks append during a run.

Each event takes six consecutive items of the list: the kind of the event, the scheduler, the job, two times, and
details. The list is flat because a tuple for each event would be one more object for the garbage collector to visit.
Nothing is computed during a run; `_log_reader` reads the log afterwards.

| kind             | job          | time       | second time | details                           |
|------------------|--------------|------------|-------------|-----------------------------------|
| RUN_BEGAN        | None         | now        | None        | the `RunStart`                    |
| RUN_ENDED        | None         | its start  | its end     | the `RunEnd`                      |
| JOB_ADDED        | the job      | now        | None        | None                              |
| ATTEMPT_STARTED  | the job      | now        | None        | None                              |
| JOB_REOPENED     | the job      | now        | None        | None                              |
| WINDOW_RESIZED   | None         | now        | None        | the size of an `Adaptive` window  |
| INCIDENT         | job or None  | now        | None        | message, whether it is steering   |
| JOB_PATH         | the job      | its end    | None        | the path                          |
| a `JobState`     | the job      | its start  | its end     | `record_outcome`, or None         |

The first attempt of a job has no ATTEMPT_STARTED. JOB_PATH is recorded only for schedulers with `keep_jobs=False`.
"""

from __future__ import annotations

import contextlib
import enum
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from ..._core.admission._pool import Pool
from ..._core.base._states import StopReason
from ..._core.job._job import AnyJob
from ..._core.job._labels import PathCache
from ..._core.run._instruments import Instrument
from ..._core.run._run import Steering
from ..._core.scheduler._base_scheduler import BaseScheduler
from ..._core.words._job_queries import command_line_of, end_facts, ends_with_steering, runs_commands, stored_result
from ..._core.words._run_view import RunView, current_run, run_steering, run_times
from .._outcome import Outcome, outcome
from ._spans import CommandOutput, CommandRecord

ITEMS_PER_EVENT: Final = 6


class EventKind(enum.Enum):
    """The kinds of events. When a job settles, the kind of the event is its `JobState` instead."""

    RUN_BEGAN = enum.auto()
    RUN_ENDED = enum.auto()
    JOB_ADDED = enum.auto()
    ATTEMPT_STARTED = enum.auto()
    JOB_REOPENED = enum.auto()
    WINDOW_RESIZED = enum.auto()
    INCIDENT = enum.auto()
    JOB_PATH = enum.auto()


@dataclass(frozen=True, slots=True)
class RunStart:
    """The facts about one run that are known when it begins."""

    clock: Callable[[], float]
    wall_offset: float  # seconds to add to the clock's time to get time.time()
    window_size: int | None  # the number of slots, or None if unlimited; for an `Adaptive` window, the largest number
    has_limiter: bool = False  # whether the window is a `CapacityLimiter`
    pool: Pool | None = None
    backend: str = ""


@dataclass(frozen=True, slots=True)
class RunEnd:
    """The facts about one run that are known when it has ended."""

    stop_reason: StopReason | None
    culprit: AnyJob | None
    unsettled_jobs: tuple[AnyJob, ...]  # the jobs that had not settled, because the run never reached them
    steering: Steering


MAX_OUTPUT_BYTES: Final = 1000
"""The maximum number of bytes kept from the end of each output of a command that succeeded."""
MAX_FAILED_OUTPUT_BYTES: Final = 1 << 16
"""The maximum number of bytes kept from the end of each output of a failed command. CI systems reject large files."""
OUTPUT_STREAMS: Final = "stdout", "stderr"
PATH_TYPES: Final[Any] = (str, bytes, os.PathLike)
"""The types of the options `stdout` and `stderr` of a command if the output goes to a file."""


def record_command(job: Any, max_bytes: int) -> CommandRecord | None:
    """Return the record of the last process of a job that runs commands, or None if none has ended."""
    result = stored_result(job) if job.restored else job.last_result
    if not hasattr(result, "max_rss"):  # there was no process; or the journal of a restored job has been changed
        return None
    return CommandRecord(
        command_line_of(job),
        result.returncode,
        result.elapsed,
        result.user_time,
        result.system_time,
        result.max_rss,
        () if job.redact else tuple(_read_outputs(result, max_bytes)),
        () if job.redact else tuple(_output_files(job)),
    )


def _read_outputs(result: Any, max_bytes: int) -> Iterator[CommandOutput]:
    """Yield the ends of the captured outputs of a command, without reading all of them into memory."""
    for stream in OUTPUT_STREAMS:
        with contextlib.suppress(ValueError), result.open(stream) as file:  # ValueError: it was not captured
            skipped_bytes = file.seek(max(0, file.seek(0, os.SEEK_END) - max_bytes))
            if text := file.read().decode("utf-8", errors="backslashreplace"):
                yield CommandOutput(stream, text, skipped_bytes)


def _output_files(job: Any) -> Iterator[tuple[str, str]]:
    for stream in OUTPUT_STREAMS:
        # A user-defined job class may have no `_options`.
        file: Any = getattr(getattr(job, "_command_options", None), stream, None)
        if isinstance(file, PATH_TYPES):
            yield stream, os.path.abspath(os.fsdecode(file))


def record_outcome(job: AnyJob) -> tuple[Outcome, CommandRecord | None]:
    """Return the facts about the end of a job that has settled, and the record of its last process."""
    facts = outcome(job)
    max_bytes = MAX_OUTPUT_BYTES if facts.failure is None else MAX_FAILED_OUTPUT_BYTES
    has_command = runs_commands(job) and (job.started_at is not None or job.restored)
    return facts, record_command(job, max_bytes) if has_command else None


class EventRecorder(Instrument):
    """An instrument whose hooks append to an event log. It is the base class of views that need a `TraceRecord`."""

    def __init__(self) -> None:
        self._log: list[Any] = []
        self._append_event = self._log.extend
        self._clock = time.monotonic
        self._running_schedulers: dict[BaseScheduler, RunView] = {}
        self._window_sizes: dict[BaseScheduler, int | None] = {}  # the last recorded size of each `Adaptive` window
        self._path_caches: dict[BaseScheduler, PathCache] = {}  # contains only schedulers with keep_jobs=False

    # ---- hooks

    def before_run(self, scheduler: BaseScheduler) -> None:
        """Record the start of a run. If no other scheduler is running, the log is cleared first."""
        run = current_run(scheduler)
        assert run is not None
        # If an earlier run crashed, `after_run` was not called for its scheduler.
        for running_scheduler in list(self._running_schedulers):
            if current_run(running_scheduler) is None:
                del self._running_schedulers[running_scheduler]
        if not self._running_schedulers:
            self._log.clear()
        self._running_schedulers[scheduler] = run
        self._clock = clock = run.clock
        limits = run.window, run.tokens_taken is not None, scheduler.pool
        run_start = RunStart(clock, time.time() - clock(), *limits, run.backend)
        self._append_event((EventKind.RUN_BEGAN, scheduler, None, clock(), None, run_start))
        if run.has_adaptive_window:
            self._record_window_size(scheduler)
        if not scheduler.keep_jobs:
            prefix = f"{scheduler.path}/" if scheduler.scheduler is not None else ""
            self._path_caches[scheduler] = PathCache(scheduler, prefix)

    def job_added(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Record the time when the job was added. From then on, a job without requirements waits for a slot."""
        self._append_event((EventKind.JOB_ADDED, scheduler, job, self._clock(), None, None))

    def job_attempt(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Record the start of an attempt, except the first, which starts with the job."""
        if job.attempts > 1:
            self._append_event((EventKind.ATTEMPT_STARTED, scheduler, job, self._clock(), None, None))

    def job_finished(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Record the outcome of a job. The job's attributes do not keep it, because its next run overwrites them."""
        state, started_at, finished_at, is_plain_success = end_facts(job)
        details = None if is_plain_success else record_outcome(job)
        self._append_event((state, scheduler, job, started_at, finished_at, details))
        if scheduler in self._window_sizes:
            self._record_window_size(scheduler)
        if scheduler in self._path_caches:
            path = self._path_caches[scheduler].path_of(job)
            self._append_event((EventKind.JOB_PATH, scheduler, job, finished_at, None, path))

    def job_reopened(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Record that a job that had settled is IDLE again."""
        self._append_event((EventKind.JOB_REOPENED, scheduler, job, self._clock(), None, None))

    def _record_window_size(self, scheduler: BaseScheduler) -> None:
        size = scheduler.window_size
        if self._window_sizes.get(scheduler) != size:
            self._window_sizes[scheduler] = size
            self._append_event((EventKind.WINDOW_RESIZED, scheduler, None, self._clock(), None, size))

    def incident(
        self, scheduler: BaseScheduler, job: AnyJob | None, message: str, exception: BaseException | None
    ) -> None:
        """Record an incident."""
        details = message, ends_with_steering(scheduler)
        self._append_event((EventKind.INCIDENT, scheduler, job, self._clock(), None, details))

    def after_run(self, scheduler: BaseScheduler) -> None:
        """Record the end of a run, its reason, and the jobs that it never reached."""
        unsettled_jobs = tuple(job for job in scheduler if job.finished_at is None)
        self._running_schedulers.pop(scheduler, None)
        run_end = RunEnd(scheduler.stop_reason, scheduler.culprit, unsettled_jobs, run_steering(scheduler))
        times = run_times(scheduler) or (None, None)
        self._append_event((EventKind.RUN_ENDED, scheduler, None, *times, run_end))
        self._window_sizes.pop(scheduler, None)
        self._path_caches.pop(scheduler, None)


def read_events(log: list[Any]) -> Iterator[tuple[Any, BaseScheduler, AnyJob, float, float | None, Any]]:
    """Return an iterator over the events of a log in chronological order.

    Each event is a tuple of six items; see the docstring of the module.
    """
    items = iter(log)
    return zip(*[items] * ITEMS_PER_EVENT, strict=True)
