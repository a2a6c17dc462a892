"""Why a job is in its state, in words."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from ..base import _units
from ..base._states import JobState, RunPhase, StopReason
from ..job import _labels, _rules
from ..job._around import outermost, outwards
from ..job._job import AbstractJob, is_scheduler
from ..job._outcome import in_one_line
from ..limits._ready_jobs import RankedJobs, SharingJobs

if TYPE_CHECKING:
    from ..run._run import Run
    from ._scheduler import BaseScheduler

FEW = 5
"""How many jobs a list names; the others are only counted."""


def explain(scheduler: BaseScheduler, job: AbstractJob[Any]) -> str:
    """Return one sentence; see `BaseScheduler.explain`."""
    why = job._facts.not_restored if job._facts is not None else None
    not_restored = "" if why is None else f"; it was not restored: {why}"
    return f"{job.label!r} {EXPLANATIONS[job._state](job._scheduler or scheduler, job)}{not_restored}"


def _idle(scheduler: BaseScheduler, job: AbstractJob[Any]) -> str:
    run = scheduler._run
    if run is None:
        return _outside_a_run(scheduler)
    if run.phase is RunPhase.CHECKING:
        return f"waits for the start of {scheduler.label!r}, which is being checked"
    if run.stopping or run.group.deadline_passed():  # trio lets jobs unwind before the run notices the deadline
        reason = run.reason or StopReason.TIMEOUT
        return f"will not be reached: {scheduler.label!r} is stopping ({reason.value})"
    if run.phase is RunPhase.DRAINING:
        return f"will not be reached: {scheduler.label!r} is draining, and starts no more jobs"
    if run.phase is not RunPhase.RUNNING:
        return f"waits for the start of {scheduler.label!r}, which is being prepared"
    waiting = still_waits_for(job)
    if not waiting:
        return "waits for nothing any more, and is about to be scheduled"
    return f"waits for {_names(waiting)}: {'; '.join(_progress(one, run.clock()) for one in waiting[:FEW])}"


def still_waits_for(job: AbstractJob[Any]) -> list[AbstractJob[Any]]:
    """Return the members of its scheduler that a job still waits for: they have neither settled, nor said "ready"."""
    scheduler = job._scheduler
    members = [] if scheduler is None else scheduler._waits_for(job)
    return [one for one in members if not (one._state.is_settled or one._is_ready())]


def _outside_a_run(scheduler: BaseScheduler) -> str:
    for around in (scheduler, *outwards(scheduler)):
        outer = scheduler._scheduler
        if around._run is not None and outer is not None:
            why = EXPLANATIONS[scheduler._state](outer, scheduler)
            return f"waits for its scheduler {scheduler.label!r}, which {why}"
        if around._stop_reason is not None:
            return f"was not reached: the run of {around.label!r} stopped before ({around._stop_reason.value})"
    return f"is idle: {scheduler.label!r} is not running"


def _scheduled(scheduler: BaseScheduler, job: AbstractJob[Any]) -> str:
    run = scheduler._run
    if run is None:
        return "is scheduled"
    missing = run.workers.missing_token()  # a scheduler whose jobs wait for needs gives it back meanwhile
    if isinstance(run.queue.jobs, SharingJobs) and (missing is not None or run.workers.has_free_slot()):
        why = run.queue.jobs.why_not(job)
        if why is not None:
            return why
    if missing is not None:
        holders = _holders(scheduler, missing.limiter)
        return f"waits for the token of a scheduler around it, whose window is a limiter that is used up: {holders}"
    window = run.workers.window
    if window is not None and window.has_waiting:
        holders = _holders(scheduler, window.limiter)
        return f"waits for a token of the window, a limiter that is used up: {holders}{_before(run, job)}"
    if run.workers.free <= 0:
        running = [worker.job for worker in run.workers.alive if worker.job is not None and not worker.shielded]
        lent = f", and {run.workers.lent} lent to the builds among them" if run.workers.lent else ""
        return f"waits for a slot: the window is full, with {_names(running)}{lent}{_before(run, job)}"
    if run.workers.interval is not None:
        interval = f"there are {scheduler.start_interval:g} s between two starts"
        return f"waits for the start interval: {interval}{_before(run, job)}"
    return "is ready, and starts within this turn of the event loop or the next"


def _before(run: Run, job: AbstractJob[Any]) -> str:
    """Say which ready jobs start before one, and why; "" if none do, or if they only became ready earlier."""
    ready = run.queue.jobs
    if not isinstance(ready, RankedJobs):
        return ""
    order = ready.order
    waiting = (one for one in ready.in_order() if one._state is JobState.SCHEDULED)
    before = list(itertools.takewhile(lambda one: one is not job, waiting))
    why = ["priority"] if any(one.priority > job.priority for one in before) else []
    if order.policy.needs_heap and any(one.priority == job.priority for one in before):
        why.append(order.policy.reason(job, order.outlook))
    return f"; before it {'come' if len(before) > 1 else 'comes'} {_names(before)} ({', '.join(why)})" if why else ""


def waiting_for(job: AbstractJob[Any]) -> str:
    """Return what a SCHEDULED job waits for, "" if that is not known. It only reads, so any thread may call it."""
    run = None if job._scheduler is None else job._scheduler._run
    if run is None or job._state is not JobState.SCHEDULED:
        return ""
    if run.workers.window is not None and run.workers.window.has_waiting:
        return "no free token"
    if run.workers.free <= 0:
        return "no free slot"
    if isinstance(run.queue.jobs, SharingJobs):
        missing = "; ".join(run.queue.jobs.missing_for(job))
        if missing:
            return missing
    if run.workers.missing_token() is not None:
        return "no free token around"
    return "" if run.workers.interval is None else "start interval"


def _holders(scheduler: BaseScheduler, limiter: Any) -> str:
    """Say who has the tokens of a limiter: jobs of this scenario by name, at any level, and how many are elsewhere."""
    root = outermost(scheduler)
    running: list[AbstractJob[Any]] = []
    for one in [root, *root.iterate_jobs()]:
        run = one._run if is_scheduler(one) else None
        if run is not None and run.workers.window is not None and run.workers.window.limiter is limiter:
            running += [worker.job for worker in run.workers.alive if worker.job is not None and worker.uses_token()]
    others = limiter.borrowed_tokens - len(running)
    holders = ([_names(running)] if running else []) + ([f"{others} elsewhere"] if others else [])
    return "with " + ", and ".join(holders)


def _running(scheduler: BaseScheduler, job: AbstractJob[Any]) -> str:
    since = f"has been running for {_units.duration_text(job.elapsed or 0.0)}"
    if job._is_ready():
        return f"{since}, and is ready for those that require it"
    if job._is_service:
        return f"{since}, and has not said that it is ready"
    said = [since]
    if job.attempts > 1:
        said.append(f"in attempt {job.attempts}")
    if job.fraction_done is not None:
        said.append(f"and is {_labels.percent(job.fraction_done)} done")
    return ", ".join(said)


def _succeeded(scheduler: BaseScheduler, job: AbstractJob[Any]) -> str:
    if job.restored:
        return "was restored: the journal has its result"
    was_cut = job.timed_out and job.on_timeout == "move_on"  # else an earlier attempt was
    moved_on = ": its timeout cancelled it, which on_timeout='move_on' makes a success" if was_cut else ""
    return f"succeeded after {_units.duration_text(job.elapsed or 0.0)}{moved_on}"


def _failed(scheduler: BaseScheduler, job: AbstractJob[Any]) -> str:
    error: Any = job.raised_exception()
    ended = ""
    if scheduler._culprit is job:  # a KeyboardInterrupt, for example, ends the run whether or not the job is critical
        ended = "; it was critical, and ended the run" if isinstance(error, Exception) else "; that ended the run"
    return f"failed after {_units.duration_text(job.elapsed or 0.0)}, with {in_one_line(error)}{ended}"


def _cancelled(scheduler: BaseScheduler, job: AbstractJob[Any]) -> str:
    began = "before it started" if job._started_at is None else f"after {_units.duration_text(job.elapsed or 0.0)}"
    if is_scheduler(job) and job._stop_reason is StopReason.DRAINED:
        return f"was drained {began}: it started no more jobs, and those that were running have ended"
    run = scheduler._run
    reason = run.reason if run is not None else scheduler._stop_reason
    if job.forever and reason is StopReason.COMPLETED and job._started_at is not None:
        return f"ran in the background for {_units.duration_text(job.elapsed or 0.0)}, and was cancelled then"
    if reason in (None, StopReason.COMPLETED):
        return f"was cancelled {began}, by its own cancel()"
    return f"was cancelled {began}; the run stopped: {reason.value}"


def _blocked(scheduler: BaseScheduler, job: AbstractJob[Any]) -> str:
    error: Any = job.raised_exception()
    return f"is blocked: {error.requirement.label!r} did not succeed; it began with {in_one_line(error.__cause__)}"


def _skipped(scheduler: BaseScheduler, job: AbstractJob[Any]) -> str:
    if job.run_if == "failed" and not any(map(_rules.has_failed, job._required)):
        return "was skipped: run_if='failed', and nothing that it requires failed"
    return f"was skipped: {_names([one for one in job._required if one._state is JobState.SKIPPED])} was skipped"


EXPLANATIONS = {
    JobState.IDLE: _idle,
    JobState.SCHEDULED: _scheduled,
    JobState.RUNNING: _running,
    JobState.SUCCEEDED: _succeeded,
    JobState.FAILED: _failed,
    JobState.CANCELLED: _cancelled,
    JobState.BLOCKED: _blocked,
    JobState.SKIPPED: _skipped,
}


def _progress(job: AbstractJob[Any], now: float) -> str:
    if job._started_at is None:
        return f"{job.label!r} has not started"
    return f"{job.label!r} has been running for {_units.duration_text(now - job._started_at)}"


def _names(jobs: list[AbstractJob[Any]]) -> str:
    named = ", ".join(map(repr, _labels.telling_apart(jobs[:FEW])))
    return named + (f" and {len(jobs) - FEW} more" if len(jobs) > FEW else "")
