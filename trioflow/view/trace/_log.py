"""What a `Trace` records while a run is under way: a flat list of events, written by the hooks.

Each event is six items of a single list: what, scheduler, job, when, until when, and further facts. The list is flat,
because a tuple for each job would be one more object for the garbage collector to visit. Nothing is computed here,
because an export has more time than a run; `_record` reads the log.

| what          | job      | when       | until       | further                              |
|---------------|----------|------------|-------------|--------------------------------------|
| BEGIN         | None     | now        | None        | the `RunStart`                       |
| END           | None     | now        | None        | the `RunEnd`                         |
| ADDED         | the job  | now        | None        | None                                 |
| ATTEMPT       | the job  | now        | None        | None; for the second and later ones  |
| READY         | the job  | now        | None        | None                                 |
| WINDOW        | None     | now        | None        | the size of an `Adaptive` window     |
| INCIDENT      | or None  | now        | None        | message, exception                   |
| a `JobState`  | the job  | its start  | its end     | None, or the `JobEnd`                |
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ..._core.api.views import AnyJob, BaseScheduler, Failure, Pool, StopReason, Throttling

WIDTH: Final = 6
"""Items of the list per event."""


class EventKind(enum.Enum):
    """The events other than the settling of a job."""

    BEGIN = enum.auto()
    END = enum.auto()
    ADDED = enum.auto()
    ATTEMPT = enum.auto()
    READY = enum.auto()
    WINDOW = enum.auto()
    INCIDENT = enum.auto()


@dataclass(frozen=True, slots=True)
class RunStart:
    """What is known of a run when it begins."""

    clock: Callable[[], float]
    wall_offset: float  # seconds to add to the clock for the time of day, as time.time() tells it
    window: int | None  # how many jobs at once
    has_limiter: bool = False  # whether the window is a limiter
    pool: Pool | None = None
    backend: str = ""
    learned: Mapping[AnyJob, float] | None = None  # how long jobs were expected to take, if more is known than they say


@dataclass(frozen=True, slots=True)
class RunEnd:
    """What is known of a run when it has ended."""

    reason: StopReason | None
    culprit: AnyJob | None
    unsettled: tuple[AnyJob, ...]  # those that were never reached


LONGEST_END: Final = 1000
"""Bytes at the end of each output of a command that are kept."""


class CommandEnd(NamedTuple):
    """How the last process of a job ended, what it used, and the end of what it wrote, if that was captured."""

    returncode: int
    elapsed: float  # seconds
    user_time: float  # seconds of CPU time
    system_time: float
    max_rss: int | None  # bytes
    stdout: bytes | None
    stderr: bytes | None


def command_end(result: Any) -> CommandEnd | None:
    """Return what a trace keeps of a `CommandResult`; None if there was no process."""
    if result is None:
        return None
    used = result.elapsed, result.user_time, result.system_time, result.max_rss
    return CommandEnd(result.returncode, *used, _end(result, "stdout"), _end(result, "stderr"))


def _end(result: Any, stream: str) -> bytes | None:
    """Return the end of an output, without reading all of it into memory."""
    try:
        file = result.open(stream)
    except ValueError:  # it was not captured
        return None
    with file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - LONGEST_END))
        end: bytes = file.read()
    return end


class JobEnd(NamedTuple):
    """How a job ended, if it did more than to succeed at the first attempt."""

    failure: Failure | None
    timed_out: bool
    through_member: bool  # it is a scheduler that failed because a job of its own did
    command: CommandEnd | None = None
    restored: bool = False  # its result comes from a journal
    throttled: tuple[Throttling, ...] = ()  # attempts that do not count
    held: tuple[tuple[float, float], ...] = ()  # when it ran, but waited for room on the machine


def events(log: list[Any]) -> Iterator[tuple[Any, BaseScheduler, AnyJob, float, float | None, Any]]:
    """Yield the events of a log, in the order in which they happened."""
    items = iter(log)
    return zip(*[items] * WIDTH, strict=True)
