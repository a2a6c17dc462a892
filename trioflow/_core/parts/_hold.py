"""The hold of a run with `hold=True`: it does not end with failures that count, so that they can be mended."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

from ..base._states import RunPhase
from ..run._part import Part
from ..run._run import Pause

if TYPE_CHECKING:
    from ..run._run import Run


class Hold(Part):
    """Holds a run where it would end with failures, until there are jobs to run again, or `resume()` is called."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._is_released = False  # whether `resume()` was called, since when no job has been added or tried again

    def is_busy(self) -> bool:
        """Return whether all jobs have settled, with failures that count; a spent budget alone holds nothing."""
        run = self._run
        has_failed = run.failures.unblocked_number > 0 and run.phase is RunPhase.RUNNING and not self._is_released
        return has_failed and not (
            run.waits_for_jobs() or any(part.is_busy() for part in run.parts if part is not self)
        )

    def due_at(self) -> float:
        return math.inf if self.is_busy() is (self._run.hold is not None) else self._run.clock()

    def turn(self) -> None:
        """Begin or end to hold the run."""
        run = self._run
        self._is_released &= not run.waits_for_jobs()
        if self.is_busy() is (run.hold is not None):
            return
        run.hold = None if run.hold is not None else Pause(run.clock(), "hold=True")
        run.record_pause()
        if run.hold is not None:
            advice = (
                f"try_again() or `trioflow look {os.getpid()} --retry` tries them again, resume() or --resume ends it"
            )
            message = f"the run of {run.scheduler.label!r} has failures, and is held"
            run.report(None, message, advice=f": {advice}", is_steering=True)

    def on_added(self) -> None:
        self.turn()

    def on_resumed(self) -> None:
        self._is_released = self._run.hold is not None
        self._run.wake()
