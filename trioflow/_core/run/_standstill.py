"""Detection of runs that stand still, and of jobs that are stuck.

**A run stands still** if some of its jobs have not settled, but no job runs, and none starts. Either it waits for
something outside of it: a resume, a token that the program has, or another run that shares a pool with it. After a
second, the log reports this wait. Or nothing can happen any more. This is always a fault of the engine, so no test and
no scenario may ever reach it. Without the detection, a run with such a fault would wait forever, and show no sign of
it.

Nothing can happen any more if all of this holds for a run and for each run nested in it:

- It is RUNNING, some of its jobs have not settled, and no part, such as the body of an `async with`, may add jobs.
- No worker is alive but those that host a nested run, which only waits. So no job is running, not even a forever job,
  and no worker searches for a job or waits for a limiter's token.
- No look-up in the journal and no turn of a part is due, and no timer of an admission is set.
- No run outside that shares a pool with this run waits for resources or holds any.

The deadlines of schedulers do not count: they end a run, but start no job.

**A job is stuck** if it still runs some time after it was cancelled, by its own `cancel()`, by its `timeout` or
`idle_timeout`, or because the run or a phase of its ending stops. The run may wait for such a job forever, and nothing
else shows why. trio notifies nobody that a deadline has passed, so a worker is watched from its first call with a
`timeout` on, before its job is cancelled. The timer is set in the next turn of the loop, which calls that do not wait
never reach.

Decided in docs/decisions: 41-standstill.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ..base import _states, _user_code

if TYPE_CHECKING:
    from ..job._job import AnyJob
    from ._run import Run
    from ._worker import Worker

TURNS: Final = 4
"""A run is stopped after it has stood still for this many turns of the loop. Calls that were scheduled before, for
instance by policies, come in the first two at the latest."""
WAIT_REPORT_DELAY: Final = 1.0
"""The log names the outside cause of a run's wait after this time, in seconds."""


class Standstill:
    """The detector that an outermost run shares with all runs nested in it."""

    def __init__(self, run: Run) -> None:
        self._run: Final = run
        # The number of workers in `Crew.alive`, in all runs, without those that host a nested run, while it waits,
        # that wait for a token, or that run a forever job.
        self._active_count = 0
        # The number of checks that still have to confirm a suspicion, or 0 without a suspicion.
        self._turns_left = 0
        # Stops the timer of the report of a wait for something outside.
        self._stop_timer: Callable[[], None] | None = None

    def add_active(self) -> None:
        """Count one active worker more."""
        self._active_count += 1
        if self._stop_timer is not None:
            self.close()

    def remove_active(self) -> None:
        """Count one active worker fewer. Those of forever jobs are not counted."""
        self._active_count -= 1

    def close(self) -> None:
        if self._stop_timer is not None:
            self._stop_timer()
            self._stop_timer = None

    def suspect(self, run: Run) -> None:
        """Check in the next turns whether nothing can happen any more. Call this when no worker may be active.

        Args:
            run: the run in which a worker has left, or that begins to wait, or whose jobs got nothing in
                a round of admission.

        """
        if self._active_count or self._turns_left or self._stop_timer is not None:
            return
        if _waits_outside(run, self._run):
            self._stop_timer = self._run.call_at(
                self._run.clock() + WAIT_REPORT_DELAY, self._report_wait
            )
        elif not (_may_act(run, self._run) or self._may_progress()):
            self._turns_left = TURNS
            self._run.call_in_loop(self._check)

    def _report_wait(self) -> None:
        """Report the wait for something outside, unless time alone may end it. A repeated wait is reported once."""
        self._stop_timer = None
        run = self._run
        pause = run.steering.pauses.get(run.scheduler)
        if pause is not None and pause.by:
            # The log says so.
            return
        if any(map(_has_timer, run.with_nested())):
            return
        message = run.scheduler._describe_outside_wait()
        # Without the time, which differs.
        told = message.partition(" was paused ")[0]
        if message and not any(
            incident.message.startswith(told) for incident in run.scheduler._incidents
        ):
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
            message = self._run.scheduler._describe_standstill()
            self._run.stop_with_error(RuntimeError(message), None, message)

    def _may_progress(self) -> bool:
        """Return whether a job may settle or start, apart from calls that are due in the next turn."""
        return self._active_count > 0 or any(
            _may_act(run, self._run) for run in self._run.with_nested()
        )


def _may_act(run: Run, outermost: Run) -> bool:
    """Return whether a run can go on without any of its active workers."""
    is_running = run.phase is _states.RunPhase.RUNNING
    if not is_running or run.crew.searchers or not run.counts.unsettled:
        return True
    if any(worker.is_shielded for worker in run.crew.alive):
        return True
    return (
        any(part.is_busy() for part in run.parts)
        or _has_timer(run)
        or _waits_outside(run, outermost)
    )


def _has_timer(run: Run) -> bool:
    """Return whether a turn of a part is due at some time, or time alone may let a job of a run start: in no pause."""
    if run.line.is_paused:
        return False
    if any(part.due_at() < math.inf for part in run.parts):
        return True
    return run.line.admission is not None and run.line.admission.has_timer()


def _waits_outside(run: Run, outermost: Run) -> bool:
    """Return whether something else may let the jobs of a run start: a resume, a token, another run, a forever job."""
    if not run.counts.unsettled:
        return False
    if run.line.is_paused:
        return True
    tokens = run.line.tokens
    if tokens is not None and tokens.waiting and tokens.limit.request is not None:
        return True
    admission = run.line.admission
    if admission is None:
        return False
    if any(each.run.outermost() is not outermost for each in admission.all_places):
        return True
    # A forever job may have what they need until all of them have settled.
    places: Any = run.line.places
    return bool(places.overtaken) and any(
        worker.is_shielded for worker in run.crew.alive
    )


def _has_due_call(run: Run) -> bool:
    """Return whether a call that was scheduled for the next turn may start a job."""
    return run.journal_writer is not None and run.journal_writer.has_work()


STUCK_REPORT_DELAY: Final = 1.0
"""A cancelled job that still runs is reported after this time, in seconds."""
SECONDS_PER_WORKER: Final = 1e-5
"""The time between two checks, in seconds for each worker that is watched: so checks take about 1 % of the time."""


class StuckJobs:
    """Reports the jobs of a run that are stuck, each once.

    The timer is set only while a worker is watched: since its first call with a timeout, or since it was cancelled,
    until it leaves, which it does after each long call. So on a virtual clock, the timer never
    prolongs a run: something else that a job waits for is due later, or a job is stuck.
    """

    def __init__(self, run: Run) -> None:
        self._run: Final = run
        self.watched: Final[dict[Worker, bool]] = {}  # and whether each was reported
        self.due = math.inf  # the time of the timer
        self._sets_timer = False  # whether the timer is due in this turn, to set itself for what is watched then
        self._stop_timer: Callable[[], None] = lambda: None

    def watch(self, worker: Worker, cancelled_at: float) -> None:
        """Report the current job of a worker, its last one, if it still runs some time after `cancelled_at`.

        A job with `keeps_time=True`, which may take longer, is left out, unless it cannot be interrupted. So are nested
        schedulers, which report their own jobs.
        """
        worker.cancelled_at = min(cancelled_at, worker.cancelled_at)
        # A thread that reads files for a job, or calls its `restore_if=`, may hang.
        job = worker.job or getattr(worker.errand, "job", None)
        if job is None:
            return
        if job._cannot_be_interrupted is not None or not job._keeps_time:
            self.watched.setdefault(worker, False)
            self._set_timer(worker.cancelled_at + STUCK_REPORT_DELAY)

    def watch_deadline(self, worker: Worker, now: float, end: float) -> None:
        """Watch a worker that begins a call with a timeout now, at whose end it is cancelled."""
        worker.cancelled_at = end
        if end + STUCK_REPORT_DELAY < self.due:
            self.watched[worker] = False
            self._sets_timer = True
            self._set_timer(now)
        elif worker not in self.watched:
            self.watched[worker] = False

    def forget(self, worker: Worker) -> None:
        worker.cancelled_at = math.inf
        was_watched = self.watched.pop(worker, None) is not None
        if was_watched and not self.watched and not self._sets_timer:
            self.stop()

    def stop(self) -> None:
        self._stop_timer()
        self.due = math.inf

    def _set_timer(self, due: float) -> None:
        if due < self.due:
            self._stop_timer()
            self._stop_timer = self._run.call_at(due, self._check)
            self.due = due

    def _check(self) -> None:
        """Report the jobs that are stuck now. Check again when the next may be."""
        now = self._run.clock()
        self.due = math.inf
        next_due = math.inf
        self._sets_timer = False
        for worker, is_reported in list(self.watched.items()):
            due = worker.cancelled_at + STUCK_REPORT_DELAY
            job = worker.job or getattr(worker.errand, "job", None)
            if due > now and not is_reported:
                next_due = min(next_due, due)
            elif job is not None and not is_reported:
                self.watched[worker] = True
                text = f"{job.label!r} was cancelled {STUCK_REPORT_DELAY:g} s ago and is still running"
                self._run.report(job, text + _advice(worker, job))
        self._set_timer(max(next_due, now + len(self.watched) * SECONDS_PER_WORKER))


def _advice(worker: Worker, job: AnyJob) -> str:
    """Return advice about a stuck job: the remedy for its kind if this cannot be interrupted, or the user's lines."""
    if worker.job is None:
        return ", and the run waits for the thread that reads its files, or calls its restore_if="
    if job._cannot_be_interrupted is not None:
        return f", and the run waits for it: {job._cannot_be_interrupted}"
    # Imported late: few runs need it.
    import traceback

    frames = [*worker.run.backend.frames(worker)]
    own = [
        frame
        for frame in frames
        if not frame[0].f_code.co_filename.startswith(_user_code.library_prefixes())
    ]
    stack = "".join(traceback.StackSummary.extract(iter(own or frames)).format())
    return f"; it must let the cancellation propagate, not swallow it or wait in a shielded scope:\n{stack}"
