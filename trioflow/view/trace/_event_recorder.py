"""The event log of a `Trace`: a flat list that the hooks write during a run.

Each event is six items of a single list: what, scheduler, job, when, until when, and further facts. The list is flat,
because a tuple for each job would be one more object for the garbage collector to visit. Nothing is computed here,
because an export has more time than a run; `_span_builder` reads the log.

| what          | job      | when       | until       | further                              |
|---------------|----------|------------|-------------|--------------------------------------|
| BEGIN         | None     | now        | None        | the `RunStart`                       |
| END           | None     | now        | None        | the `RunEnd`                         |
| ADDED         | the job  | now        | None        | None                                 |
| ATTEMPT       | the job  | now        | None        | None; for the second and later ones  |
| WINDOW        | None     | now        | None        | the size of an `Adaptive` window     |
| INCIDENT      | or None  | now        | None        | message, exception                   |
| PATH          | the job  | now        | None        | its path, if it may be dropped       |
| a `JobState`  | the job  | its start  | its end     | None, or the `JobEnd`                |
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
    current_run,
    end_of,
    failed_through_member,
    failure_of,
    held,
    learned_durations,
    ready_at,
    room,
    runs_commands,
    throttlings,
)

WIDTH: Final = 6
"""Number of list items per event."""


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
    """The facts of a run at its start."""

    clock: Callable[[], float]
    wall_offset: float  # seconds to add to the clock for the time of day, as time.time() tells it
    window: int | None  # the number of slots
    has_limiter: bool = False  # whether the window is a limiter
    pool: Pool | None = None
    backend: str = ""
    learned: Mapping[AnyJob, float] | None = None  # expected durations, if policies know more than the jobs


@dataclass(frozen=True, slots=True)
class RunEnd:
    """The facts of a run at its end."""

    reason: StopReason | None
    culprit: AnyJob | None
    unsettled: tuple[AnyJob, ...]  # the jobs that were never reached


LONGEST_END: Final = 1000
"""Bytes kept of the end of each output of a command."""


class CommandEnd(NamedTuple):
    """The exit of a job's last process, its resource use, and the end of its captured output."""

    returncode: int
    elapsed: float  # seconds
    user_time: float  # seconds of CPU time
    system_time: float
    max_rss: int | None  # bytes
    stdout: bytes | None
    stderr: bytes | None


def command_end(result: Any) -> CommandEnd | None:
    """Return the part of a `CommandResult` that a trace keeps; None if there was no process."""
    if result is None:
        return None
    used = result.elapsed, result.user_time, result.system_time, result.max_rss
    return CommandEnd(result.returncode, *used, *(end_of_output(result, name, LONGEST_END)[0] for name in OUTPUTS))


OUTPUTS: Final = "stdout", "stderr"


def end_of_output(result: Any, stream: str, most: int) -> tuple[bytes | None, int]:
    """Return the last bytes of an output, None if it was not captured, and the number of bytes before them.

    It does not read all of the output into memory.
    """
    try:
        file = result.open(stream)
    except ValueError:
        return None, 0
    with file:
        before = file.seek(max(0, file.seek(0, os.SEEK_END) - most))
        return file.read(), before


class JobEnd(NamedTuple):
    """The facts of a job's end, unless it succeeded at the first attempt."""

    failure: Failure | None
    timed_out: bool
    through_member: bool  # a scheduler that failed because one of its jobs failed
    command: CommandEnd | None = None
    restored: bool = False  # its result comes from a journal
    throttled: tuple[Throttling, ...] = ()  # attempts that do not count
    held: tuple[tuple[float, float], ...] = ()  # when it ran, but waited for room on the machine
    ready_at: float | None = None  # if it is a service
    room: tuple[str, int] | None = None  # where its call ran, and the number of concurrent calls there


class Recorder(Instrument):
    """The hooks that write the log."""

    def __init__(self) -> None:
        self._log: list[Any] = []
        self._note = self._log.extend
        self._clock = time.monotonic
        self._open: dict[BaseScheduler, None] = {}  # the schedulers whose runs are under way
        self._window_sizes: dict[BaseScheduler, int | None] = {}  # the latest, of those that are `Adaptive`
        self._paths: dict[BaseScheduler, PathCache] = {}  # the paths of schedulers that drop jobs

    # ---- hooks

    def before_run(self, scheduler: BaseScheduler) -> None:
        """Start a new log, unless another run, nested or concurrent, is under way."""
        run = current_run(scheduler)
        assert run is not None
        for other in [one for one in self._open if current_run(one) is None]:  # it crashed before `after_run`
            del self._open[other]
        if not self._open:
            self._log.clear()
        self._open[scheduler] = None
        self._clock = clock = run.clock
        now = clock()
        limits = run.window, run.tokens_taken is not None, scheduler.pool
        beginning = RunStart(clock, time.time() - now, *limits, run.backend, learned_durations(scheduler))
        self._note((EventKind.BEGIN, scheduler, None, now, None, beginning))
        if run.has_adaptive_window:
            self._note_window_size(scheduler)
        if not scheduler.keep_jobs:
            self._paths[scheduler] = PathCache(
                scheduler, f"{scheduler.path}/" if scheduler.scheduler is not None else ""
            )

    def job_added(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Record the time: a job without requirements waits for a slot from now on."""
        self._note((EventKind.ADDED, scheduler, job, self._clock(), None, None))

    def job_attempt(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Record the start of a further attempt; the first one starts with the job."""
        if job.attempts > 1:
            self._note((EventKind.ATTEMPT, scheduler, job, self._clock(), None, None))

    def job_finished(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Record the outcome of a job, which its next run will overwrite."""
        state, started, finished, is_all = end_of(job)
        more = None
        if not is_all:
            failure = failure_of(job)
            command: Any = job if runs_commands(job) and started is not None else None
            ended = None if command is None else command_end(command.last_result)
            through_member = failure is not None and failed_through_member(job)
            more = JobEnd(
                failure,
                job.timed_out,
                through_member,
                ended,
                job.restored,
                throttlings(job),
                held(job),
                ready_at(job),
                room(job),
            )
        self._note((state, scheduler, job, started, finished, more))
        if scheduler in self._window_sizes:
            self._note_window_size(scheduler)
        if scheduler in self._paths:
            self._note((EventKind.PATH, scheduler, job, finished, None, self._paths[scheduler].of(job)))

    def _note_window_size(self, scheduler: BaseScheduler) -> None:
        """Record the size of an `Adaptive` window, if it has changed."""
        size = scheduler.window_size
        if self._window_sizes.get(scheduler) != size:
            self._window_sizes[scheduler] = size
            self._note((EventKind.WINDOW, scheduler, None, self._clock(), None, size))

    def incident(
        self, scheduler: BaseScheduler, job: AnyJob | None, message: str, exception: BaseException | None
    ) -> None:
        """Record an incident that belongs to no job's outcome."""
        self._note((EventKind.INCIDENT, scheduler, job, self._clock(), None, (message, exception)))

    def after_run(self, scheduler: BaseScheduler) -> None:
        """Record why the run ended, and which jobs it never reached."""
        unsettled = tuple(job for job in scheduler if job.finished_at is None)
        ending = RunEnd(scheduler.stop_reason, scheduler.culprit, unsettled)
        self._note((EventKind.END, scheduler, None, self._clock(), None, ending))
        self._open.pop(scheduler, None)
        self._window_sizes.pop(scheduler, None)
        self._paths.pop(scheduler, None)


def events(log: list[Any]) -> Iterator[tuple[Any, BaseScheduler, AnyJob, float, float | None, Any]]:
    """Yield the events of a log, in the order in which they happened."""
    items = iter(log)
    return zip(*[items] * WIDTH, strict=True)
