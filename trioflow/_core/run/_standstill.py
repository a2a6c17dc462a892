"""Detection of a run that stands still: jobs have not settled, but nothing can happen any more.

This is always a fault of the engine, so no test and no scenario may ever reach it. Without the detection, a run with
such a fault would wait forever, and show no sign of it.

A run stands still if all of this holds for it and for each run nested in it:

- It is RUNNING, some of its jobs have not settled, and no part, such as the body of an `async with`, may add jobs.
- No worker is alive but those that host a nested run, which only waits. So no job is running, not even a forever job,
  and no worker searches for a job or waits for a limiter's token.
- No look-up in the journal and no turn of a part is due, and no timer of an admission is set; and no run outside, with
  which this one shares a pool, waits for or holds resources.

The deadlines of schedulers do not count: they end a run, but start no job.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from ..base._states import RunPhase

if TYPE_CHECKING:
    from ._run import Run

TURNS: Final = 4
"""The number of turns of the loop in which a run must stand still before it is stopped. Calls that were scheduled
before, for instance by policies, come in the first one or two."""


class Standstill:
    """The detector that an outermost run shares with all runs nested in it."""

    def __init__(self, run: Run) -> None:
        self._run: Final = run
        # The number of workers in `Workers.alive`, in all runs, without those that host a nested run, while it waits.
        self.active_count = 0
        self._turns_left = 0  # the number of checks that still have to confirm a suspicion; 0 if there is none

    def suspect(self, run: Run) -> None:
        """Check in the next turns whether nothing can happen any more. Call this when `active_count` may be 0.

        Args:
            run: the run in which a worker has left, or that begins to wait, or whose jobs got nothing in
                a round of admission.

        """
        if not (self.active_count or self._turns_left or _may_act(run, self._run) or self._may_progress()):
            self._turns_left = TURNS
            self._run.call_in_loop(self._check)

    def _check(self) -> None:
        if self._may_progress():
            self._turns_left = 0
            return
        if not any(map(_has_due_call, self._run.with_nested())):
            self._turns_left -= 1
        if self._turns_left:
            self._run.call_in_loop(self._check)
        else:
            self._stop()

    def _may_progress(self) -> bool:
        """Return whether a job may settle or start, apart from calls that are due in the next turn."""
        return self.active_count > 0 or any(_may_act(run, self._run) for run in self._run.with_nested())

    def _stop(self) -> None:
        message = self._run.scheduler._describe_standstill()
        self._run.stop_with_error(RuntimeError(message), None, message)


def _may_act(run: Run, outermost: Run) -> bool:
    """Return whether a run can go on without any of its workers."""
    if run.phase is not RunPhase.RUNNING or not run.unsettled or run.workers.searchers or run.queue.is_paused:
        return True
    if any(part.is_busy() or part.due_at() < math.inf for part in run.parts):
        return True
    if run.queue.resource_line is None:
        return False
    admission = run.queue.resource_line.admission
    return admission.has_timer() or any(queue.run.outermost() is not outermost for queue in admission.queues)


def _has_due_call(run: Run) -> bool:
    """Return whether a call that was scheduled for the next turn may start a job."""
    return run.requirement_counts.counting_down or (run.journal_writer is not None and run.journal_writer.has_work())
