"""The steps of a job in its run, from IDLE to a final state: functions that take a run, the only ones that move a job.

```
            make_ready, schedule, ready           Worker.work             settle
     IDLE ──────────────────────────► SCHEDULED ───────────► RUNNING ───────────► a final state
                                          ▲                     │
                                          └────── requeue ──────┘
```

`settle` gives a state and an outcome to one job, `settle_apart` to jobs without a worker, which another end settles,
and `settle_error` to a job that raised, as its verdict says. `Run` has some as methods, for the rooms below, and for
the modules on which this one stands. One step is not here: `Worker.work` makes a job RUNNING in its own frame, since
another would cost a twentieth of an empty job. `_states` lists all functions that write a state.

Decided in docs/decisions: 19-admission, 24-open-schedulers.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Final

from ..admission._line import NO_PLACES
from ..base import _states
from ..base._states import (
    IDLE,
    REOPENABLE,
    SCHEDULED,
    STOPPING,
    SUCCEEDED,
    CancelCause,
    JobState,
    StopReason,
)
from ..job import _errors, _requirements
from ..job._errors import (
    Failure,
    add_note,
    add_remedy_notes,
    find_interruption,
    one_line_error,
)
from ..job._job import AnyJob, RunExtras, Throttling
from . import _reopening
from ._attempts import (
    BackoffTimer,
    Verdict,
    cancelled_outcome,
    judge,
    outcome_of,
    report_unrepeated,
)

if TYPE_CHECKING:
    from ..admission._line import Line
    from ._instruments import InstrumentSet
    from ._run import Run
    from ._worker import Crew, Worker


MAX_INSTANT_ATTEMPTS: Final = 2000
"""The attempts of a job in a row that may take no time. No real clock shows one time for so long: they cost 50 ms at
least, and the coarsest clock, that of Windows, moves after 16 ms."""


def schedule(run: Run, jobs: Iterable[AnyJob]) -> None:
    """Put those jobs that are IDLE into the ready queue, unless the run drains or stops, and cleans nothing up.

    A job that has got a requirement since it was ready, for instance from a hook, waits for it.
    """
    crew = run.open_crew
    line = crew.line
    for job in jobs:
        must_wait = job._pending or run.phase._is_ending
        if job._state is not IDLE or (must_wait and not crew.is_clean_up):
            continue
        if run.notify_scheduled is None:
            ready(run, job, line)
        else:
            with run.ends:
                ready(run, job, line)


def ready(run: Run, job: AnyJob, line: Line) -> None:
    """Put a job that is IDLE into a ready queue, in a step that holds `EndQueue.depth` if a hook is told."""
    job._state = SCHEDULED
    if line.places is NO_PLACES:
        # As `Line.push` does: a call would cost a twentieth of an empty job.
        line.startable.append(job)
    else:
        line.places.push(job)
    if run.notify_scheduled is not None:
        run.notify_scheduled(run.scheduler, job)


def requeue(run: Run, job: AnyJob, crew: Crew, verdict: Verdict, now: float) -> None:
    """Queue a job whose attempt ended `now` again, at once or after a backoff. Take back its slot and resources.

    A throttled job comes first, and its attempt does not count. Clean-up jobs wait for no needs in their line, so
    such a job waits for the end of the throttle before. After a failure, a job comes after those that were ready
    before, as any that has just become ready.
    """
    error = verdict.failure
    began = job._started_at
    extras = job._ensure_extras()
    push = crew.line.push
    until = now + verdict.backoff
    assert error is not None
    assert began is not None
    if verdict.throttles:
        resources = run.pools.resolve(job)
        push = crew.line.push_throttled
        closed = tuple(
            (each.key, resources[each.key].cooldown.ends_at)
            for each in verdict.throttles
        )
        extras.throttlings += (Throttling(began, now, closed),)
        if extras.throttled_since is None:
            extras.throttled_since = began
        if crew.is_clean_up:
            until = max(ends_at for _, ends_at in closed)
    else:
        extras.add_retry(began, now, error, verdict.backoff)
        if extras.first_started_at is None:
            extras.first_started_at = began
    if began != now:
        extras.instant_attempts = 0
    extras.fraction = job._worker = job._started_at = None
    extras.keeps_succeeded = False
    job._state = SCHEDULED
    with run.ends:
        if run.journal_writer is not None:
            # An error of the journal ends others.
            run.journal_writer.end_attempt(job)
        # The needs of clean-up jobs come back through this line, too, though they wait in a line of their own.
        run.line.give_back(job)
        for part in run.parts:
            part.attempt_ended(job, began, now, error)
        if until > now:
            (run.part(BackoffTimer) or run.add_part(BackoffTimer(run))).add(job, until)
        else:
            # Before the hooks, as in `ready`: one may cancel the job, and try it again.
            push(job)
        run.notify("job_scheduled", job)
    if run.phase._is_ending and not crew.is_clean_up and job._state is SCHEDULED:
        # The run has ended since the verdict.
        settle_apart(run, [job])


def settle_apart(
    run: Run,
    jobs: Iterable[AnyJob],
    failure: Failure | None = None,
    cause: CancelCause = CancelCause.STOP,
) -> None:
    """Settle jobs outside of a worker, as BLOCKED by a failure or as CANCELLED. Pass on their slots and resources.

    None of them is running. While an end is told, they wait.
    """
    run.ends.follow(partial(_settle_each, run, tuple(jobs), failure, cause))


def _settle_each(
    run: Run,
    jobs: Iterable[AnyJob],
    failure: Failure | None,
    cause: CancelCause,
) -> None:
    state = _states.CANCELLED if failure is None else JobState.BLOCKED
    for job in jobs:
        if job._state.is_settled:
            # It has waited for the end of another, and something else has settled it before.
            continue
        run.line.refund(job)
        outcome = failure or cancelled_outcome(run, cause)
        if job._callbacks is None:
            settle(run, job, state, outcome, run.clock())
            continue
        with run.ends:
            # What its callback ends comes after it, too.
            error = report_unrepeated(run, job, state, outcome)
            settle(run, job, state, outcome, run.clock())
        if error is not None:
            # The job does not run, so it cannot fail with it.
            text = f"on_settled of {job.label!r} raised {one_line_error(error)}"
            run.stop_with_error(error, job, text)
    if run.open_crew.is_clean_up:
        # It may have waited for the backoff of one of them.
        run.wake()
    run.open_crew.ensure_searcher()


def settle(run: Run, job: AnyJob, state: JobState, outcome: object, now: float) -> None:
    """Give a job its final state and outcome, and make ready any jobs that were waiting only for it.

    Workers, which call this most often, pass on the job's slot and resources as they look for the next job, or leave.

    Hooks, parts and views rely on this order: the state and the journal, the hooks, the job's slot and resources,
    the jobs that wait for it, the counts, its successors, and the ends that it causes, which have waited.
    """
    successors = job._successors
    extras = job._extras
    ends = run.held_ends
    # Before the worker is gone: another thread that asks how long the job has run then finds its end.
    job._finished_at = now
    job._successors = job._worker = None
    if state is not SUCCEEDED and run.scheduler.keep_jobs:
        # Hooks may extend the list while the jobs of this copy are counted down.
        job._successors = [*successors] if isinstance(successors, list) else successors
    job._outcome = outcome
    job._state = state
    try:
        if ends is not None:
            # `with ends` would cost two calls.
            ends.depth += 1
            if run.journal_writer is not None:
                # A function of the user's `save` may end others, too, and so does an error of the journal.
                run.journal_writer.end_attempt(job)
                if state is SUCCEEDED:
                    run.journal_writer.record(job, outcome)
            if run.notify_end is not None:
                run.notify_end(run.scheduler, job)
            extras = job._extras
        if run.line.places is not NO_PLACES:
            run.line.give_back(job)
        if extras is not None:
            if state not in REOPENABLE:
                extras.context = None
            extras.notify_listeners(job)
            if extras.drops_results:
                job._release_inputs(last_call=True)
        counts = run.counts
        if state is SUCCEEDED and (job._is_plain or not job._options.forever):
            # As `RunCounts.end` does: a call would cost a twentieth of an empty job.
            counts.unsettled -= 1
        else:
            if type(outcome) is Failure:
                run.failures.count(job, outcome)
            counts.end(job, state)
            if run.questions.asking:
                # Perhaps nothing can use their answers now.
                run.wake()
        if run.reopening is not None and run.reopening.keeps_waiting(job):
            pass
        elif successors is not None:
            run.requirement_counts.count_down(successors)
        if extras is not None and extras.runs_once:
            release(run, job, extras)
        if counts.unsettled <= 0:
            if counts.unsettled:
                raise counts.fault(job)
            run.wake()
    except BaseException:
        # A fault of the engine, which ends the run.
        if ends is not None:
            ends.depth -= 1
        raise
    if ends is not None:
        ends.depth -= 1
        if ends.waiting:
            ends.settle_waiting()


def reset(run: Run, job: AnyJob, watchers: InstrumentSet | None, has_run: bool) -> None:
    """Put a job back to IDLE, before the run begins. Notify the watchers if it had settled in the outermost run.

    Unless its scheduler `has_run` in it before, the job begins as in a first run.
    """
    state = job._state
    if has_run:
        _reopening.put_back(job, run.clock())
    else:
        job._reset()
    if watchers is not None and state.is_settled:
        watchers.notify("job_reopened", job._scheduler, job)


def release(run: Run, job: AnyJob, extras: RunExtras) -> None:
    """Release the data that a settled job needs only to run again. With `keep_jobs=False`, drop the job itself."""
    if not run.scheduler.keep_jobs:
        drop(run, job)
    if job._state not in REOPENABLE or job not in run.members.jobs:
        job._release_call()
        extras.context = None
        if extras.is_empty():
            job._extras = None


def drop(run: Run, job: AnyJob) -> None:
    """Remove a settled job from the scheduler, which keeps no jobs, unless the job is still needed."""
    if run.members.can_be_dropped(job) and not _reopening.is_about_to_reopen(run, job):
        if run.journal_writer is not None:
            run.journal_writer.forget(job)
        if run._start_order is not None:
            run._start_order.forget(job)
        run.members.drop_settled(job)


def make_ready(run: Run, job: AnyJob) -> None:
    """Schedule an IDLE job that has no open requirements, or settle it by its rule or from the journal."""
    if job._state is not IDLE or job._pending or run.phase._is_ending:
        return
    verdict, failure = _requirements.decide(job)
    if verdict is not SCHEDULED:
        # A BLOCKED job counts as failed, unless only `cancel()` has blocked it.
        stops = (
            failure is not None and not failure.is_from_cancel and job._criticality()
        )
        with run.ends:
            if stops:
                run.stop(StopReason.CRITICAL, job)
            settle(run, job, verdict, failure, run.clock())
        if failure is not None and run.fate.culprit is job:
            run.failure_log.add(run, job, failure)
        return
    if run.journal_writer is not None:
        # The functions of the user's `save` may end others, or add jobs.
        with run.ends:
            run.journal_writer.restore(job)
    for part in run.parts:
        if not part.may_start(job):
            return
    # This does nothing if the job was restored.
    schedule(run, (job,))


def block(run: Run, job: AnyJob, error: Exception) -> None:
    """Settle as BLOCKED a job that waits for a budget which cannot meet its need any more."""
    # The first cause of the cancellations by this stop.
    failure = Failure(error)
    was_stopping = run.phase is STOPPING
    with run.ends:
        if job._criticality():
            run.stop(StopReason.CRITICAL, job)
        # If the deadline of the run has passed, the stop is about to cancel the job.
        is_over = run.fate.cancel_reason is _states.TIMEOUT and not was_stopping
        if job._state is SCHEDULED and not is_over:
            run.failures.total += 1
            _settle_each(run, (job,), failure, CancelCause.STOP)
            run.failure_log.add(run, job, failure)


def record_progress(run: Run, job: AnyJob, fraction: float | None) -> None:
    """Record a sign of life of a running job, and the fraction of its work that is done, unless that is None.

    Any thread may call this. In other threads, the report is passed on to the event loop.
    """
    if threading.get_ident() != run.thread_id:
        run.time_slice.reports.add(job, fraction)
        return
    if fraction is not None:
        job._ensure_extras().fraction = fraction
    if job._worker is not None:
        for limit in job._worker.time_limits():
            limit._renew()


def on_service_ready(run: Run, job: AnyJob, value: object) -> None:
    """Record that a service is ready, and count down the jobs that require it."""
    extras = job._ensure_extras()
    extras.ready_at = run.clock()
    job._outcome = value
    if extras.time_limit is not None:
        extras.time_limit._lift()
    successors = job._successors
    job._successors = None
    with run.ends:
        run.notify("service_ready", job)
        if successors is not None:
            run.requirement_counts.count_down(successors)
    run.crew.ensure_searcher()


def settle_error(
    run: Run,
    worker: Worker,
    job: AnyJob,
    error: BaseException,
    awaitable: object,
    now: float,
) -> None:
    """Settle a job that raised `error`, or queue it for another attempt, as its verdict says.

    Args:
        run: the run.
        worker: the worker of the job.
        job: the job.
        error: an exception, a cancellation, or a group of both.
        awaitable: the value that the call of the job returned, for advice in the error.
        now: the time when the job ended.

    """
    # Callbacks may have asked for it before.
    verdict = worker.verdict
    worker.verdict = None
    if verdict is None or verdict.judged is not error:
        verdict = judge(worker, job, error)
        if job._options.retry is not None:
            # Its function `on` may have ended others.
            now = run.clock()
    state = verdict.state
    failure = verdict.failure
    throttles = verdict.throttles
    if throttles:
        run.pools.close(job, throttles)
        if state is not JobState.FAILED:
            # The attempt does not count, whether there is another or not.
            job._grant().refund_budgets()
    if state is JobState.FAILED:
        assert failure is not None
        fail(run, job, failure, awaitable, now)
    elif state is not SCHEDULED:
        is_cut_off = (
            run.phase._is_ending and run.fate.cancel_reason is not _states.COMPLETED
        )
        is_alone = worker.cause is CancelCause.JOB
        outcome = outcome_of(run, job, verdict, worker.cause)
        if is_cut_off and state is _states.CANCELLED and not is_alone:
            run.failures.count_cut_off(job, outcome)
        settle(run, job, state, outcome, now)
    elif job._started_at == now and _is_endless(job):
        fault: BaseException = RuntimeError(
            f"{job.label!r} was called {MAX_INSTANT_ATTEMPTS:,} times at one instant of a virtual clock, which moves "
            f"only while all tasks wait; give Retry(first=) or Throttled(after=) more than 0"
        )
        fault.__cause__ = failure
        fail(run, job, fault, awaitable, now)
    else:
        requeue(run, job, worker.crew, verdict, now)


def _is_endless(job: AnyJob) -> bool:
    """Count an attempt that took no time. Return whether too many have come in a row."""
    extras = job._ensure_extras()
    extras.instant_attempts += 1
    return extras.instant_attempts >= MAX_INSTANT_ATTEMPTS


def fail(
    run: Run,
    job: AnyJob,
    failure: BaseException,
    awaitable: object,
    now: float,
) -> None:
    """Settle a job as FAILED. Stop the run if the job is critical, or if the failure is an interruption."""
    hint = add_remedy_notes(
        failure, job, awaitable, run.backend.needed_backend(failure)
    )
    if run.line.tokens is not None:
        advice = run.line.tokens.second_token_advice(job, failure)
        if advice is not None:
            add_note(failure, advice)
            hint = advice
    # Made now, so that it is the first cause for all jobs that the stop cancels and blocks.
    outcome = Failure(failure)
    run.failures.total += 1
    interruption = find_interruption(failure)
    # A hook or a signal may have stopped the run with this very interruption.
    if interruption is None:
        stops = job._criticality()
    else:
        stops = interruption is not run.interruption
    # What the stop ends comes after this end, and so does what a handler of the log ends.
    with run.ends:
        if interruption is None:
            if stops:
                run.stop(StopReason.CRITICAL, job)
            run.failure_log.add(run, job, outcome, hint)
        elif stops:
            _errors.name_companions(interruption, failure, job)
            run.interrupt(interruption, job)
        settle(run, job, JobState.FAILED, outcome, now)


def cancel_job(run: Run, job: AnyJob) -> None:
    """Cancel one job in this run or one nested in it, or keep it from starting. Call this in the thread of the run.

    If its scheduler has not begun, or waits for another attempt, its next run begins with that. So it does if its
    scheduler was stopped before its jobs were linked: none of them is reached, or counted.
    """
    scheduler = job._scheduler
    assert scheduler is not None
    own_run = scheduler._run
    if own_run is None or not own_run.requirement_counts.has_linked:
        run.steering.cancelled_early.setdefault(scheduler, []).append(job)
    elif job._worker is not None:
        job._worker.cancel_alone()
    elif not job._state.is_settled:
        own_run.undecided.stop_reading(job)
        settle_apart(own_run, (job,), cause=CancelCause.JOB)


def settle_leftovers(run: Run) -> None:
    """Settle as CANCELLED the jobs whose steps an error of the engine has interrupted in the middle."""
    run.ends.recover()
    # Perhaps not by all of `settle`.
    for job in [job for job in run.members.jobs if job._state.is_settled]:
        run.line.give_back(job)
    moved = (SCHEDULED, JobState.RUNNING)
    settle_apart(run, [job for job in run.members.jobs if job._state in moved])


def abandon(run: Run, worker: Worker, fault: BaseException) -> None:
    """Stop because of an error of the engine itself. The job of `worker` fails with it."""
    with run.ends:
        run.interrupt(fault)
        job = worker.job
        if job is not None and job._worker is worker:
            worker.job = None
            settle(run, job, JobState.FAILED, Failure(fault), run.clock())
