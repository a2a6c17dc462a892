"""The event log of a `Trace`: a flat list to which the hooks append during a run.

Each event takes six consecutive items of the list: the kind of the event, the scheduler, the job, two times, and
details. The list is flat because a tuple for each event would be one more object for the garbage collector to visit.
Nothing is computed during a run; `_span_builder` reads the log afterwards.

| kind          | job          | time       | second time | details                              |
|---------------|--------------|------------|-------------|--------------------------------------|
| BEGIN         | None         | now        | None        | the `RunStart`                       |
| END           | None         | now        | None        | the `RunEnd`                         |
| ADDED         | the job      | now        | None        | None                                 |
| ATTEMPT       | the job      | now        | None        | None (only from the second attempt)  |
| WINDOW        | None         | now        | None        | the size of an `Adaptive` window     |
| INCIDENT      | job or None  | now        | None        | message, exception                   |
| PATH          | the job      | now        | None        | the path (only if jobs are dropped)  |
| a `JobState`  | the job      | its start  | its end     | the `JobEnd`, or None                |
"""

from __future__ import annotations

import enum
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ..._core.api.journals import PathCache
from ..._core.api.views import (
    AnyJob,
    BaseScheduler,
    Failure,
    Instrument,
    Pool,
    StopReason,
    Throttling,
    call_place,
    current_run,
    end_facts,
    failed_through_member,
    failure_of,
    learned_durations,
    machine_waits,
    ready_at,
    runs_commands,
    throttled_attempts,
)

ITEMS_PER_EVENT: Final = 6
"""The number of list items per event."""


class EventKind(enum.Enum):
    """The events other than the settling of a job."""

    BEGIN = enum.auto()
    END = enum.auto()
    ADDED = enum.auto()
    ATTEMPT = enum.auto()
    WINDOW = enum.auto()
    INCIDENT = enum.auto()
    PATH = enum.auto()


@dataclass(frozen=True, slots=True)
class RunStart:
    """The facts about a run that are known when it begins."""

    clock: Callable[[], float]
    wall_offset: float  # seconds to add to the clock's time to get time.time()
    window: int | None  # the number of slots; for an `Adaptive` window, the largest number
    has_limiter: bool = False  # whether the window is a limiter
    pool: Pool | None = None
    backend: str = ""
    learned: Mapping[AnyJob, float] | None = None  # durations that policies know besides `expected_duration`


@dataclass(frozen=True, slots=True)
class RunEnd:
    """The facts about a run that are known when it has ended."""

    reason: StopReason | None
    culprit: AnyJob | None
    unsettled: tuple[AnyJob, ...]  # the jobs that were never reached, and so have not settled


MAX_OUTPUT_END: Final = 1000
"""The number of bytes kept from the end of a command's standard output and standard error."""


class CommandEnd(NamedTuple):
    """The exit code, resource use and end of the captured output of a job's last process."""

    returncode: int
    elapsed: float  # seconds
    user_time: float  # seconds of CPU time in user mode
    system_time: float  # seconds of CPU time in the kernel
    max_rss: int | None  # bytes
    stdout: bytes | None
    stderr: bytes | None


def command_end_from_result(result: Any) -> CommandEnd | None:
    """Return the parts of a `CommandResult` that a trace keeps; None if there was no process."""
    if result is None:
        return None
    used = result.elapsed, result.user_time, result.system_time, result.max_rss
    return CommandEnd(result.returncode, *used, *(read_output_end(result, name, MAX_OUTPUT_END)[0] for name in OUTPUTS))


OUTPUTS: Final = "stdout", "stderr"


def read_output_end(result: Any, stream: str, max_bytes: int) -> tuple[bytes | None, int]:
    """Read the end of a command's output, without reading all of it into memory.

    Args:
        result: the `CommandResult`.
        stream: "stdout" or "stderr".
        max_bytes: how many bytes to read.

    Returns:
        The last bytes, or None if the output was not captured; and the number of bytes before them.

    """
    try:
        file = result.open(stream)
    except ValueError:
        return None, 0
    with file:
        before = file.seek(max(0, file.seek(0, os.SEEK_END) - max_bytes))
        return file.read(), before


class JobEnd(NamedTuple):
    """The facts about the end of a job, recorded unless it simply succeeded at the first attempt."""

    failure: Failure | None
    timed_out: bool
    through_member: bool  # whether it is a scheduler that failed because one of its jobs failed
    command: CommandEnd | None = None
    restored: bool = False  # whether the result was restored from a journal
    throttled: tuple[Throttling, ...] = ()  # the attempts that raised `Throttled`
    machine_waits: tuple[tuple[float, float], ...] = ()  # when it was RUNNING, but waited for room on the machine
    ready_at: float | None = None  # for a service, when it became ready
    call_place: tuple[str, int] | None = None  # where the call ran, and the number of concurrent calls there


class Recorder(Instrument):
    """An instrument whose hooks append to an event log; the base of all views that need a `TraceRecord`."""

    def __init__(self) -> None:
        self._log: list[Any] = []
        self._append = self._log.extend
        self._clock = time.monotonic
        self._running: dict[BaseScheduler, None] = {}  # an ordered set of the schedulers that run
        self._window_sizes: dict[BaseScheduler, int | None] = {}  # the last recorded sizes of `Adaptive` windows
        self._paths: dict[BaseScheduler, PathCache] = {}  # for schedulers with keep_jobs=False

    # ---- hooks

    def before_run(self, scheduler: BaseScheduler) -> None:
        """Record the start of a run; clear the log first, unless another scheduler is running."""
        run = current_run(scheduler)
        assert run is not None
        for crashed in [other for other in self._running if current_run(other) is None]:  # `after_run` was not called
            del self._running[crashed]
        if not self._running:
            self._log.clear()
        self._running[scheduler] = None
        self._clock = clock = run.clock
        now = clock()
        limits = run.window, run.tokens_taken is not None, scheduler.pool
        beginning = RunStart(clock, time.time() - now, *limits, run.backend, learned_durations(scheduler))
        self._append((EventKind.BEGIN, scheduler, None, now, None, beginning))
        if run.has_adaptive_window:
            self._record_window_size(scheduler)
        if not scheduler.keep_jobs:
            self._paths[scheduler] = PathCache(
                scheduler, f"{scheduler.path}/" if scheduler.scheduler is not None else ""
            )

    def job_added(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Record the time, from which a job without requirements waits for a slot."""
        self._append((EventKind.ADDED, scheduler, job, self._clock(), None, None))

    def job_attempt(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Record the start of a further attempt; the first attempt starts with the job."""
        if job.attempts > 1:
            self._append((EventKind.ATTEMPT, scheduler, job, self._clock(), None, None))

    def job_finished(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Record the outcome of a job now, because the next run of the job will overwrite it."""
        state, started, finished, is_plain = end_facts(job)
        details = None
        if not is_plain:
            failure = failure_of(job)
            command: Any = job if runs_commands(job) and started is not None else None
            ended = None if command is None else command_end_from_result(command.last_result)
            through_member = failure is not None and failed_through_member(job)
            details = JobEnd(
                failure,
                job.timed_out,
                through_member,
                ended,
                job.restored,
                throttled_attempts(job),
                machine_waits(job),
                ready_at(job),
                call_place(job),
            )
        self._append((state, scheduler, job, started, finished, details))
        if scheduler in self._window_sizes:
            self._record_window_size(scheduler)
        if scheduler in self._paths:
            self._append((EventKind.PATH, scheduler, job, finished, None, self._paths[scheduler].path_of(job)))

    def _record_window_size(self, scheduler: BaseScheduler) -> None:
        """Record the size of an `Adaptive` window, if it has changed."""
        size = scheduler.window_size
        if self._window_sizes.get(scheduler) != size:
            self._window_sizes[scheduler] = size
            self._append((EventKind.WINDOW, scheduler, None, self._clock(), None, size))

    def incident(
        self, scheduler: BaseScheduler, job: AnyJob | None, message: str, exception: BaseException | None
    ) -> None:
        """Record an incident."""
        self._append((EventKind.INCIDENT, scheduler, job, self._clock(), None, (message, exception)))

    def after_run(self, scheduler: BaseScheduler) -> None:
        """Record the end of a run, its reason, and the jobs that it never reached."""
        unsettled = tuple(job for job in scheduler if job.finished_at is None)
        ending = RunEnd(scheduler.stop_reason, scheduler.culprit, unsettled)
        self._append((EventKind.END, scheduler, None, self._clock(), None, ending))
        self._running.pop(scheduler, None)
        self._window_sizes.pop(scheduler, None)
        self._paths.pop(scheduler, None)


def events(log: list[Any]) -> Iterator[tuple[Any, BaseScheduler, AnyJob, float, float | None, Any]]:
    """Yield the events of a log in chronological order, each as a tuple of its six items."""
    items = iter(log)
    return zip(*[items] * ITEMS_PER_EVENT, strict=True)
