"""What a `Trace` notes while a run is under way: a flat list of events, written by the hooks.

Six items an event, one behind the other in a single list: what, scheduler, job, when, until when, and whatever else
there is to say. A flat list, because a tuple for each job would be one more object for the garbage collector to go
through; nothing is computed here, because whoever exports has more time than a run (`_trace_record` reads it).

| what          | job      | when       | until       | further                              |
|---------------|----------|------------|-------------|--------------------------------------|
| BEGIN         | None     | now        | None        | the `Beginning`                      |
| END           | None     | now        | None        | the `Ending`                         |
| ADDED         | the job  | now        | None        | None                                 |
| ATTEMPT       | the job  | now        | None        | None; for the second and later ones  |
| READY         | the job  | now        | None        | None                                 |
| INCIDENT      | or None  | now        | None        | message, exception                   |
| a `JobState`  | the job  | its start  | its end     | None, or failure and timed out       |
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .._core._jobs import AbstractJob
    from .._core._scheduler import BaseScheduler
    from .._core._states import StopReason

WIDTH: Final = 6
"""How many items of the list are one event."""


class What(enum.Enum):
    """The events beside the settling of a job."""

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
    culprit: AbstractJob[Any] | None
    unsettled: tuple[AbstractJob[Any], ...]  # those that were never reached


def events(log: list[Any]) -> Iterator[tuple[Any, BaseScheduler, AbstractJob[Any], float, float | None, Any]]:
    """Yield the events of a log, in the order in which they happened."""
    items = iter(log)
    return zip(*[items] * WIDTH, strict=True)
