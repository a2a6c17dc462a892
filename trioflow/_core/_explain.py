"""Why a job is where it is, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import _rules
from ._jobs import AbstractJob
from ._states import JobState, StopReason

if TYPE_CHECKING:
    from ._run import Run
    from ._scheduler import BaseScheduler

FEW = 5
"""How many jobs are named one by one."""


def explain(scheduler: BaseScheduler, job: AbstractJob[Any]) -> str:
    """Return a sentence or two; see `BaseScheduler.explain`."""
    return f"{job.label!r} {_TELL[job._state](job._scheduler or scheduler, job)}"


def _idle(scheduler: BaseScheduler, job: AbstractJob[Any]) -> str:
    run = scheduler._run
    if run is None:
        return _outside_a_run(scheduler)
    late = run.opened and run.group.deadline_passed()  # trio lets jobs unwind before the run hears of it
    if run.stopping or late:
        reason = run.reason or StopReason.TIMEOUT
        return f"will not be reached: {scheduler.label!r} is stopping ({reason.value})"
    if not run.started:
        return f"waits for the start of {scheduler.label!r}, which is being checked"
    waiting = [one for one in scheduler._waits_for(job) if not (one._state.is_settled or one._is_ready())]
    if not waiting:
        return "waits for nothing any more, and is about to be scheduled"
    return f"waits for {_names(waiting)}: {'; '.join(_fate(one, run.clock()) for one in waiting[:FEW])}"


def _outside_a_run(scheduler: BaseScheduler) -> str:
    around: BaseScheduler | None = scheduler
    while around is not None and around._run is None:
        if around._stop_reason is not None:
            return f"was not reached: the run of {around.label!r} stopped before ({around._stop_reason.value})"
        around = around._scheduler
    outer = scheduler._scheduler
    if around is None or outer is None:
        return f"is idle: {scheduler.label!r} is not running"
    return f"waits for its scheduler {scheduler.label!r}, which {_TELL[scheduler._state](outer, scheduler)}"


def _scheduled(scheduler: BaseScheduler, job: AbstractJob[Any]) -> str:
    run = scheduler._run
    if run is None:
        return "is scheduled"
    window = run.crew.window
    if window is not None and window.has_waiting:
        return f"waits for a token of the window, a limiter that is used up: {_holders(scheduler, window.limiter)}"
    if run.crew.free <= 0:
        running = [worker.job for worker in run.crew.workers if worker.job is not None and not worker.shielded]
        return f"waits for a slot: the window is full, with {_names(running)}"
    if run.crew.interval is not None:
        return f"waits for its start: there are {scheduler.start_interval:g} s between two"
    return "is ready, and starts within this turn of the event loop or the next"


def _holders(scheduler: BaseScheduler, limiter: Any) -> str:
    """Say who has the tokens of a limiter: jobs of the same scenario, however far out, and others."""
    outermost = scheduler
    while outermost._scheduler is not None:
        outermost = outermost._scheduler
    running: list[AbstractJob[Any]] = []
    for one in [outermost, *outermost.iterate_jobs()]:
        run: Run | None = getattr(one, "_run", None)
        if run is not None and run.crew.window is not None and run.crew.window.limiter is limiter:
            running += [worker.job for worker in run.crew.workers if worker.job is not None and worker.uses_token()]
    others = limiter.borrowed_tokens - len(running)
    holders = ([_names(running)] if running else []) + ([f"{others} elsewhere"] if others else [])
    return "with " + ", and ".join(holders)


def _running(scheduler: BaseScheduler, job: AbstractJob[Any]) -> str:
    since = f"has been running for {job.elapsed or 0:.3g} s"
    if job._is_ready():
        return f"{since}, and is ready for those that require it"
    if job._is_service:
        return f"{since}, and has not said that it is ready"
    return f"{since}, in attempt {job.attempts}" if job.attempts > 1 else since


def _succeeded(scheduler: BaseScheduler, job: AbstractJob[Any]) -> str:
    cut = ": its timeout cut it, and on_timeout='move_on' let it pass" if job.timed_out else ""
    return f"succeeded after {job.elapsed or 0:.3g} s{cut}"


def _failed(scheduler: BaseScheduler, job: AbstractJob[Any]) -> str:
    critical = "; it was critical, and ended the run" if scheduler._culprit is job else ""
    return f"failed after {job.elapsed or 0:.3g} s, with {_exception(job.raised_exception())}{critical}"


def _cancelled(scheduler: BaseScheduler, job: AbstractJob[Any]) -> str:
    began = "before it started" if job._started_at is None else f"after {job.elapsed or 0:.3g} s"
    run = scheduler._run
    reason = run.reason if run is not None else scheduler._stop_reason
    if reason in (None, StopReason.COMPLETED) and not job.forever:
        return f"was cancelled {began}, by its own cancel()"
    return f"was cancelled {began}" + (f"; the run stopped: {reason.value}" if reason is not None else "")


def _blocked(scheduler: BaseScheduler, job: AbstractJob[Any]) -> str:
    error: Any = job.raised_exception()
    return f"is blocked: {error.requirement.label!r} did not succeed; it began with {_exception(error.__cause__)}"


def _skipped(scheduler: BaseScheduler, job: AbstractJob[Any]) -> str:
    if job.run_if == "failed" and not any(map(_rules.has_failed, job._required)):
        return "was skipped: run_if='failed', and nothing that it requires failed"
    return f"was skipped: {_names([one for one in job._required if one._state is JobState.SKIPPED])} was skipped"


_TELL = {
    JobState.IDLE: _idle,
    JobState.SCHEDULED: _scheduled,
    JobState.RUNNING: _running,
    JobState.SUCCEEDED: _succeeded,
    JobState.FAILED: _failed,
    JobState.CANCELLED: _cancelled,
    JobState.BLOCKED: _blocked,
    JobState.SKIPPED: _skipped,
}


def _fate(job: AbstractJob[Any], now: float) -> str:
    if job._started_at is None:
        return f"{job.label!r} has not started"
    return f"{job.label!r} has been running for {now - job._started_at:.3g} s"


def _names(jobs: list[AbstractJob[Any]]) -> str:
    named = ", ".join(repr(job.label) for job in jobs[:FEW])
    return named + (f" and {len(jobs) - FEW} more" if len(jobs) > FEW else "")


def _exception(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
