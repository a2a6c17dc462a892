"""`Part`: what only some runs have, such as the rule of a `First`, the calls of `on_settled`, or an open block.

A run has a tuple of parts, empty for most runs, and asks them at the points that this class names: it knows none of
them by name. A part hears of the jobs of its own run alone, before the instruments do; one that has to hear more is an
`Instrument`, too. An exception that it raises is a fault of the engine.

Workers ask no part: `with_parts` adds `settled` to the function that they call when a job has ended, and that function
is None if there are neither parts nor instruments.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..base._states import RunPhase
    from ..job._job import AbstractJob
    from ._instruments import Hook
    from ._run import Run


class Part:
    """The base class of the parts of a run. A part overrides the methods that it needs."""

    _run: Run  # deleted when the run has ended, to break a reference cycle

    def enter(self, phase: RunPhase) -> None:
        """The run enters the phase LINKING or RUNNING, or, for STOPPING, its ending."""

    def on_added(self) -> None:
        """Jobs have been added to the running scheduler, and linked."""

    def may_start(self, job: AbstractJob[Any]) -> bool:
        """Return whether a job without open requirements may be scheduled; otherwise, the part schedules it later."""
        return True

    def settled(self, job: AbstractJob[Any]) -> None:
        """A job has settled; its successors have not been counted down."""

    def is_busy(self) -> bool:
        """Return whether the run must go on, even if all its jobs have settled: the part may start or add others."""
        return False

    def due_at(self) -> float:
        """Return when the run has to call `turn`, if that is not sooner; a part that changes this wakes the run."""
        return math.inf

    def turn(self) -> None:
        """Do what is due, by time, or because all jobs that became ready have been looked up in the journal."""

    def on_resumed(self) -> None:
        """`resume()` was called, and the run is not paused."""

    async def close(self, deadline: float) -> None:
        """End what the part does, in the shutdown of the run."""


def overriding(parts: tuple[Part, ...], method: str) -> list[Any]:
    """Return the bound methods of those parts that override a method of `Part`."""
    return [getattr(part, method) for part in parts if getattr(type(part), method) is not getattr(Part, method)]


def with_parts(parts: tuple[Part, ...], notify_end: Hook | None) -> Hook | None:
    """Return a function that tells the parts, and then the instruments, that a job has settled."""
    calls = overriding(parts, "settled")
    if not calls:
        return notify_end

    def notify_all(scheduler: Any, job: AbstractJob[Any]) -> None:
        for settled in calls:
            settled(job)
        if notify_end is not None:
            notify_end(scheduler, job)

    return notify_all
