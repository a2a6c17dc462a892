"""`Fate`: how a run ends, and which of several reasons counts.

Whether a run is ending has no owner, because it is five questions. `Run._stop_alone` and `Steering.drain` write all the
answers, in the step that changes any, so that an object for them would add methods and take no state away.

- How far is the run, and may another job become ready: `Run.phase`, and `_is_ending` of the phase.
- May a worker take a job: `Crew.is_closed`. The clean-up phase, in a run that is STOPPING, has a crew of its own.
- Why does the run end, in words for its user: `Fate.reason`.
- What has cancelled running jobs: `Fate.cancel_reason`. After a drain, that may come later, with another reason.
- May an enclosing run try it again: `Fate.no_more_attempts`. Not after a drain, even of a run that was stopping.
"""

from __future__ import annotations

from typing import Final

from ..base._states import COMPLETED, StopReason
from ..job._job import AnyJob

GIVES_WAY_TO: Final = {
    # Forever jobs, services and calls of the user fail last.
    COMPLETED: (StopReason.FAILED, StopReason.CRITICAL),
    # The journal could not be closed.
    StopReason.FAILED: (StopReason.CRITICAL,),
}
"""The words that replace an earlier word. Apart from these and from `forget_drain`, the first word counts."""


class Fate:
    """How a run ends: nothing else says so. `Run.fate` is not replaced.

    A drain is a reason that stops nothing. The jobs are then cancelled later, if at all, and `cancel_reason` can differ
    from `reason`.
    """

    def __init__(self) -> None:
        # Why the run first stopped or drained.
        self.reason: StopReason | None = None
        self.culprit: AnyJob | None = None
        # Why the running jobs were cancelled, if there were any, or FAILED at the end, and None before. A drain cancels
        # only before jobs start. `OpenBlock` raises by this.
        self.cancel_reason: StopReason | None = None
        # Whether `cancel()`, or a cancellation from outside, has come, perhaps while the run was stopping.
        self.was_cancelled = False
        # Whether a drain was asked for, perhaps while the run was stopping.
        self.no_more_attempts = False

    def give(self, reason: StopReason, culprit: AnyJob | None = None) -> None:
        """Give a word about the end of the run, which counts unless an earlier word is kept."""
        if self.reason is None or reason in GIVES_WAY_TO.get(self.reason, ()):
            self.reason = reason
            self.culprit = culprit

    def stop(self, reason: StopReason, culprit: AnyJob | None) -> None:
        """Give the word that cancels the running jobs, or none are left."""
        self.give(reason, culprit)
        self.cancel_reason = reason
        self.was_cancelled |= reason is StopReason.CANCELLED

    def forget_drain(self) -> None:
        """Take back the word of a drain that has kept no job from its end."""
        if self.reason is StopReason.DRAINED:
            self.reason = None


NO_FATE: Final = Fate()
