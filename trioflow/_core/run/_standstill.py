"""Detection of a run that stands still: jobs have not settled, but no job runs, and none starts.

Either the run waits for something outside of it: a resume, a token that the program has, or another run with which it
shares a pool. After a second, the log says so. Or nothing can happen any more. This is always a fault of the engine, so
no test and no scenario may ever reach it. Without the detection, a run with such a fault would wait forever, and show
no sign of it.

Nothing can happen any more if all of this holds for a run and for each run nested in it:

- It is RUNNING, some of its jobs have not settled, and no part, such as the body of an `async with`, may add jobs.
- No worker is alive but those that host a nested run, which only waits. So no job is running, not even a forever job,
  and no worker searches for a job or waits for a limiter's token.
- No look-up in the journal and no turn of a part is due, and no timer of an admission is set; and no run outside, with
  which this one shares a pool, waits for or holds resources.

The deadlines of schedulers do not count: they end a run, but start no job.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ..base._states import RunPhase

if TYPE_CHECKING:
    from ._run import Run

TURNS: Final = 4
"""The number of turns of the loop in which a run must stand still before it is stopped. Calls that were scheduled
before, for instance by policies, come in the first one or two."""
WAIT_REPORT_DELAY: Final = 1.0
"""The time, in seconds, after which the log says for what a run waits that is outside of it."""


class Standstill:
    """The detector that an outermost run shares with all runs nested in it."""

    def __init__(self, run: Run) -> None:
        self._run: Final = run
        # The number of workers in `Lane.alive`, in all runs, without those that host a nested run, while it waits,
        # that wait for a token, or that run a forever job.
        self.active_count = 0
        self._turns_left = 0  # the number of checks that still have to confirm a suspicion; 0 if there is none
        self._stop_timer: Callable[[], None] | None = None  # of the report of a wait for something outside

    def count_worker(self) -> None:
        self.active_count += 1
        if self._stop_timer is not None:
            self.close()

    def close(self) -> None:
        if self._stop_timer is not None:
            self._stop_timer()
            self._stop_timer = None

    def suspect(self, run: Run) -> None:
        """Check in the next turns whether nothing can happen any more. Call this when `active_count` may be 0.

        Args:
            run: the run in which a worker has left, or that begins to wait, or whose jobs got nothing in
                a round of admission.

        """
        if self.active_count or self._turns_left or self._stop_timer is not None:
            return
        if _waits_outside(run, self._run):
            self._stop_timer = self._run.call_at(self._run.clock() + WAIT_REPORT_DELAY, self._report_wait)
        elif not (_may_act(run, self._run) or self._may_progress()):
            self._turns_left = TURNS
            self._run.call_in_loop(self._check)

    def _report_wait(self) -> None:
        """Report the wait for something outside, unless time alone may end it; once, if it comes repeatedly."""
        self._stop_timer, run = None, self._run
        if run.pause is not None and run.pause.by:  # the log says so
            return
        message = "" if any(map(_has_timer, run.with_nested())) else run.scheduler._describe_outside_wait()
        told = message.partition(" was paused ")[0]  # without the time, which differs
        if message and not any(incident.message.startswith(told) for incident in run.scheduler._incidents):
            run.report(None, message)

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
    """Return whether a run can go on without any of its active workers."""
    if run.phase is not RunPhase.RUNNING or not run.unsettled or run.workers.searchers:
        return True
    if any(worker.is_shielded for worker in run.workers.alive):
        return True
    return any(part.is_busy() for part in run.parts) or _has_timer(run) or _waits_outside(run, outermost)


def _has_timer(run: Run) -> bool:
    """Return whether a turn of a part is due at some time, or time alone may let a job of a run start: in no pause."""
    admission, is_due = run.queue.admission, any(part.due_at() < math.inf for part in run.parts)
    return not run.queue.is_paused and (is_due or (admission is not None and admission.has_timer()))


def _waits_outside(run: Run, outermost: Run) -> bool:
    """Return whether something outside of a run may let its jobs start: a resume, a token, or another run."""
    queue = run.queue
    if not run.unsettled:
        return False
    if queue.is_paused or (queue.tokens is not None and queue.tokens.waiting and queue.tokens.limit.is_requested()):
        return True
    admission = queue.admission
    return admission is not None and any(each.run.outermost() is not outermost for each in admission.queues)


def _has_due_call(run: Run) -> bool:
    """Return whether a call that was scheduled for the next turn may start a job."""
    return run.requirement_counts.counting_down or (run.journal_writer is not None and run.journal_writer.has_work())
