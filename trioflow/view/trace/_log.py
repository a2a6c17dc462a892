"""What a `Trace` records while a run is under way: a flat list of events, written by the hooks.

Each event is six items of a single list: what, scheduler, job, when, until when, and further facts. The list is flat,
because a tuple for each job would be one more object for the garbage collector to visit. Nothing is computed here,
because an export has more time than a run; `_record` reads the log.

| what          | job      | when       | until       | further                              |
|---------------|----------|------------|-------------|--------------------------------------|
| BEGIN         | None     | now        | None        | the `Beginning`                      |
| END           | None     | now        | None        | the `Ending`                         |
| ADDED         | the job  | now        | None        | None                                 |
| ATTEMPT       | the job  | now        | None        | None; for the second and later ones  |
| READY         | the job  | now        | None        | None                                 |
| INCIDENT      | or None  | now        | None        | message, exception                   |
| a `JobState`  | the job  | its start  | its end     | None, or the `Fate`                  |
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ..._core import AnyJob, BaseScheduler, Failure, StopReason

WIDTH: Final = 6
"""Items of the list per event."""


class EventKind(enum.Enum):
    """The events other than the settling of a job."""

    BEGIN = enum.auto()
    END = enum.auto()
    ADDED = enum.auto()
    ATTEMPT = enum.auto()
    READY = enum.auto()
    INCIDENT = enum.auto()


@dataclass(frozen=True, slots=True)
class Beginning:
    """What is known of a run when it begins."""

    clock: Callable[[], float]
    wall_offset: float  # seconds to add to the clock for the time of day, as time.time() tells it
    window: int | None  # how many jobs at once


@dataclass(frozen=True, slots=True)
class Ending:
    """What is known of a run when it has ended."""

    reason: StopReason | None
    culprit: AnyJob | None
    unsettled: tuple[AnyJob, ...]  # those that were never reached


class Fate(NamedTuple):
    """What became of a job, other than that it succeeded at the first attempt."""

    failure: Failure | None
    timed_out: bool
    through_member: bool  # it is a scheduler that failed because a job of its own did


def events(log: list[Any]) -> Iterator[tuple[Any, BaseScheduler, AnyJob, float, float | None, Any]]:
    """Yield the events of a log, in the order in which they happened."""
    items = iter(log)
    return zip(*[items] * WIDTH, strict=True)
