"""Why a job is in its state, in words, and whether its wait can end.

The second part finds paths of waits from a job to itself: for the error about a cycle, and for the report of a wait
that may never end.

Decided in docs/decisions: 22-awaiting, 41-standstill.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any, Final

from ..admission._line import borrowers_of, token_holders
from ..admission._policies import FIFO_POLICY
from ..admission._resource import CountedResource, Needs, Resource
from ..base._states import (
    BLOCKED,
    CANCELLED,
    CHECKING,
    COMPLETED,
    DRAINING,
    FAILED,
    IDLE,
    NO_WAIT,
    RAN_TO_END,
    RUNNING,
    SCHEDULED,
    SKIPPED,
    STOPPING,
    SUCCEEDED,
    RunPhase,
    StopReason,
    WaitCause,
    Waiting,
)
from ..base._text_forms import (
    MAX_NAMED_JOBS,
    age,
    clause,
    duration_text,
    join_names,
    percent_text,
)
from ..job._ancestors import ancestors_with_members, enclosing_schedulers
from ..job._errors import BudgetSpent, find_interruption, one_line_error, remedy_of
from ..job._job import AnyJob, RunExtras, has_moved_on, is_scheduler
from ..job._labels import distinct_names, printable, shorten
from ..job._requirements import decide, has_failed
from ..parts._first_rule import FirstRule
from ..run._ending import may_clean_up
from ..run._instruments import Part
from ..run._run import RUNS_IN_PROGRESS, Run
from . import _job_queries

if TYPE_CHECKING:
    from ..admission._admission import WaitingGroup
    from ..scheduler._base_scheduler import BaseScheduler

READY_TEXT: Final = "is ready, and starts in this iteration of the event loop or the next, or after other ready jobs"


def explain(scheduler: BaseScheduler, job: AnyJob) -> str:
    text = f"{job.label!r} {_without_keys(_explanation(scheduler, job), job)}"
    if job._state is SCHEDULED:
        # The reason for a wait has nothing to do with the journal.
        return text
    reason = _job_queries.reason_not_restored(job)
    return text + clause("; it was not restored: {}", reason)


def _explanation(scheduler: BaseScheduler, job: AnyJob) -> str:
    """Return why a job is in its state. An outermost job is seen from `scheduler`.

    Any thread may ask. If the state changes meanwhile, or the run ends, what is so now is explained.
    """
    home = job._scheduler or scheduler
    text = ""
    asked: object = None
    now = job._state, home._run
    while asked != now:
        asked = now
        try:
            text = EXPLAIN_FUNCTIONS[now[0]](home, job)
        except Exception:
            if asked == (job._state, home._run):
                raise
        now = job._state, home._run
    return text


def _without_keys(text: str, job: AnyJob) -> str:
    """Return a text about a job, without the keys of resources that it needs if it has `redact=True`."""
    for need in job._options.needs.values():
        if job.redact and isinstance(need, str):
            text = text.replace(f"'{printable(need)}'", "(redacted)")
    return text


def _explain_idle(scheduler: BaseScheduler, job: AnyJob) -> str:
    # A job that has run was taken back.
    again = clause(" again", job.started_at is not None)
    if (run := scheduler._run) is None:
        return _explain_without_run(scheduler, again)
    if run.phase in (CHECKING, RunPhase.LINKING, RunPhase.ENTERING):
        return f"waits for the start of {scheduler.label!r}, which {run.phase.value}"
    unsettled = open_requirements(job)
    cleans_up = may_clean_up(run, job) and (unsettled or decide(job)[0] is SCHEDULED)
    # The run may not have noticed yet that its time is over.
    is_over = run.phase is STOPPING or run.clock() >= run.deadline
    if is_over and not cleans_up:
        reason = run.fate.reason or StopReason.TIMEOUT
        return f"will not be reached{again}: {scheduler.label!r} is stopping ({reason.value})"
    if run.phase is DRAINING:
        exception = clause(
            ", but for clean-up after a critical failure or a timeout",
            job.run_if == "failed",
        )
        return f"will not be reached{again}: {scheduler.label!r} is draining, and starts no more jobs{exception}"
    if not unsettled:
        rule = run.part(FirstRule)
        if rule is not None:
            return rule.explain(job)
        return "has no open requirements, and is about to be scheduled"
    progress_text = "; ".join(
        _progress_text(other, run.clock) for other in unsettled[:MAX_NAMED_JOBS]
    )
    return f"waits for {_job_names(unsettled)}: {progress_text}"


def open_requirements(job: AnyJob) -> list[AnyJob]:
    """Return the members that a job still waits for. Settled jobs and ready services are left out."""
    scheduler = job._scheduler
    members = []
    if scheduler is not None:
        members = scheduler._members.all_requirements(job)
    return [other for other in members if other._holds_back()]


def _explain_without_run(scheduler: BaseScheduler, again: str) -> str:
    outer = scheduler._scheduler
    for enclosing in (scheduler, *enclosing_schedulers(scheduler)):
        if enclosing._run is not None and outer is not None:
            explanation = _explanation(outer, scheduler)
            return f"waits for its scheduler {scheduler.label!r}, which {explanation}"
        # One that waits to run again, or has ended before it did, has the fate of its last run.
        has_run = enclosing._started_at is not None and enclosing._state.is_settled
        is_over = enclosing._scheduler is None or has_run
        reason = enclosing._fate.reason
        if is_over and reason is not None:
            return f"was not reached{again}: the run of {enclosing.label!r} stopped before ({reason.value})"
        if enclosing._scheduler is not None and enclosing._state.is_settled:
            explanation = _explanation(scheduler, enclosing)
            return f"was not reached{again}: its scheduler {enclosing.label!r} {explanation}"
    return f"is idle: {scheduler.label!r} has not started"


def _explain_scheduled(scheduler: BaseScheduler, job: AnyJob) -> str:
    if (run := scheduler._run) is None:
        return "is scheduled"
    wait = _find_wait(run, job)
    if wait.cause is WaitCause.PAUSE:
        return f"waits for a resume: its run was {wait.text}"
    if wait.cause is WaitCause.RETRY:
        return f"will be {wait.text}"
    if wait.cause is WaitCause.TOKEN:
        return _explain_token_wait(run, job)
    if wait.cause is WaitCause.SLOT:
        return _explain_slot_wait(run, job)
    # The resources that a job needs may be reserved for earlier jobs, even if nothing but the loop seems to delay it.
    return _explain_needs(run, job) or clause("waits for {}", wait.text) or READY_TEXT


def _attempt_text(job: AnyJob, has_limit: bool = True) -> str:
    """Return the attempt that a job waits for, and why the last failed: "attempt 2 of 4, after OSError: broken".

    The attempts before it was tried again are among these, but its `retry` does not count them.
    """
    limit = ""
    if has_limit and job.retry is not None and job.retry.times is not None:
        earlier = (job._extras or RunExtras).earlier_retries
        limit = f" of {earlier + job.retry.times + 1}"
    return f"attempt {job.attempts + 1}{limit}{_job_queries.last_failure(job)}"


def waiting(job: AnyJob) -> Waiting | None:
    """Return why a SCHEDULED job waits, or which jobs a RUNNING job awaits, or None for any other job.

    Any thread may call this.

    Example:
        >>> import anyio
        >>> async def ask() -> str:
        ...     await anyio.sleep(0)
        ...     return waiting(second).text
        >>> first, second = Job(ask), Job(anyio.sleep, 0)
        >>> Scheduler(first, second, jobs_window=1).run()
        True
        >>> first.result()
        'no free slot'

    """
    run = job._enclosing_run()
    if run is not None and job._state is RUNNING:
        awaited_jobs = (job._extras or RunExtras).awaited_jobs
        if not awaited_jobs:
            return None
        names = _job_names(list(awaited_jobs))
        return Waiting(WaitCause.JOBS, text=f"awaits {names}")
    if run is None or job._state is not SCHEDULED:
        return None
    try:
        wait = _find_wait(run, job)
    except Exception:
        if job.is_scheduled() and job._enclosing_run() is run:
            raise
        # Another thread asks, and the job waits no more.
        return None
    if job.redact:
        return wait._replace(text=_without_keys(wait.text, job))
    return wait


def describe_timeout(scheduler: BaseScheduler) -> dict[str, str]:
    """Describe what the jobs of a scheduler do when its time is over, for a `JobTimeout`.

    Its `waits` say what SCHEDULED members wait for, such as "2 of 3 jobs waited for the rate 'api'", its `place` which
    jobs run, at any depth. Each is "" if there are none.
    """
    members = [job for job in scheduler if not job._options.forever]
    counts = Counter[tuple[WaitCause, str]]()
    for job in members:
        wait = waiting(job)
        if wait is not None and wait.cause in WAITED_FOR:
            counts[wait.cause, wait.resource] += 1
    texts: list[str] = []
    for (cause, resource), count in counts.most_common():
        waited_for = WAITED_FOR[cause].format(printable(resource))
        texts.append(f"{count} of {len(members)} jobs waited for {waited_for}")
    running = _job_names(_job_queries.running_jobs(scheduler))
    return {"waits": ", ".join(texts), "place": clause("running {}", running)}


def describe_standstill(scheduler: BaseScheduler) -> str:
    """Return the message for a run without a running job if nothing can start a job."""
    jobs = scheduler.iterate_jobs()
    waiting: list[AnyJob] = []
    for job in jobs:
        if not (job._state.is_settled or job._worker or job._options.forever):
            waiting.append(job)
    explained = "; ".join(explain(scheduler, job) for job in waiting[:MAX_NAMED_JOBS])
    more = clause("; and {} more", len(waiting[MAX_NAMED_JOBS:]))
    return (
        f"{scheduler.label!r} stands still: no job runs, and nothing can start one ({explained}{more}); "
        f"this is a fault of trioflow: please report it, with this message and the scenario"
    )


def describe_outside_wait(scheduler: BaseScheduler) -> str:
    """Describe what the ready jobs wait for when no job runs, or "" if no job is ready."""
    # Jobs further out may wait for resources that a nested scheduler holds.
    runs = []
    if scheduler._run is not None:
        runs = scheduler._run.with_nested()
    for line in (run.line for run in reversed(runs)):
        waiting_for_tokens = line.tokens.waiting if line.tokens else ()
        for job in (*waiting_for_tokens, *line.in_order()):
            if job._state is SCHEDULED:
                return f"no job of {scheduler.label!r} runs: {explain(scheduler, job)}"
    return ""


WAITED_FOR: Final = {
    WaitCause.PAUSE: "a resume",
    WaitCause.RESOURCE: "the resource '{}'",
    WaitCause.THROTTLED: "'{}', which was throttled",
    WaitCause.RATE: "the rate '{}'",
    WaitCause.SLOT: "a slot",
    WaitCause.TOKEN: "a token",
    WaitCause.RETRY: "a retry",
}


def waiting_since(job: AnyJob) -> float | None:
    """Return the time when a SCHEDULED job began to wait, on the same clock as `job.started_at`.

    If the job was throttled or retried, this is the end of its last attempt, and if it was tried again, the time of
    that. It is not before the last of the members that it waited for settled. Return None if there are none of these,
    or if a running service is among the members. Also return None if the job is not SCHEDULED.
    """
    scheduler = job._scheduler
    if scheduler is None or job._state is not SCHEDULED:
        return None
    ends = [attempt.ended for attempt in _job_queries.throttled_attempts(job)]
    for attempt in _job_queries.failed_attempts(job):
        ends.append(attempt.ended)
        if attempt.had_settled:
            ends.append(attempt.backed_off_until)
    times = [other._finished_at for other in scheduler._members.all_requirements(job)]
    if None in times and not ends:
        return None
    ends += [time for time in times if time is not None]
    return max(ends, default=None)


def get_status_text(job: AnyJob) -> str:
    """Return the status text of a RUNNING job. If it has none, return which jobs it awaits. Otherwise return ""."""
    if job._state is not RUNNING:
        return ""
    if (cancellation := _cancellation_text(job)) is not None:
        return f"{cancellation}, still running"
    question = _job_queries.question_of(job)
    # A question is no secret, even if its answer is.
    if not job._has_status_text or (job.redact and question is None):
        return (waiting(job) or NO_WAIT).text
    # Only kinds with a status define `status_text`.
    kind: Any = job
    try:
        text = str(kind.status_text())
        if question is not None and not _job_queries.is_needed(job):
            text += "; nothing can use the answer now"
        return shorten(text)
    except Exception:
        # An error in a user's method must not stop a view.
        return ""


def _cancellation_text(job: AnyJob) -> str | None:
    """Return how long ago a RUNNING job was cancelled, such as "cancelled 3 s ago", or None if it was not."""
    if (worker := job._worker) is None:
        return None
    # The time is that of the job's deadline, if the job has one and was not cancelled before: it lies ahead.
    seconds = age(worker.cancelled_at, worker.run.clock)
    return clause("cancelled {} ago", duration_text(seconds)) or None


# ---- why a SCHEDULED job waits


def _find_wait(run: Run, job: AnyJob) -> Waiting:
    """Return the wait of a SCHEDULED job. If it has several causes, return the first that is checked."""
    line = run.line
    until = (job._extras or RunExtras).backoff_until
    if line.is_paused:
        paused = pause_text(run)
        if paused:
            # A hold keeps no job from its start.
            return Waiting(WaitCause.PAUSE, text=paused)
    if until is not None:
        seconds = duration_text(max(0.0, until - run.clock()))
        last = _job_queries.throttled_attempts(job)[-1:]
        for attempt in last:
            for name, end in attempt.closed_until:
                if end == until:
                    text = f"{name}, throttled for {seconds}"
                    return Waiting(WaitCause.THROTTLED, name, text)
        return Waiting(
            WaitCause.RETRY, text=f"retried in {seconds}, {_attempt_text(job)}"
        )
    if line.tokens is not None and job in line.tokens.waiting:
        return Waiting(WaitCause.TOKEN, text="no free token")
    group = group_of(run, job)
    needs = []
    if group is not None:
        needs = group.needs_of(job)
    if (gated := _opening(needs, job)) is not None:
        return Waiting(WaitCause.RESOURCE, gated.name, gated.opening)
    if line.is_full() and not job._options.forever and job not in line.holders:
        return Waiting(WaitCause.SLOT, text="no free slot")
    waits = [resource.describe_wait(need) for resource, need in _unmet(needs)]
    if not waits:
        return NO_WAIT
    return waits[0]._replace(text="; ".join(wait.text for wait in waits))


def group_of(run: Run | None, job: AnyJob) -> WaitingGroup | None:
    if run is None or run.line.admission is None:
        return None
    # Only `OrderedPlaces` have an admission.
    return run.line.places.find_group(job)  # type: ignore[union-attr]


def _opening(needs: Needs, job: AnyJob) -> Resource | None:
    """Return the resource whose gate is being opened for a job, or None if there is none."""
    for resource, _ in needs:
        if resource.opening and resource.is_closed_to(job):
            return resource
    return None


def _unmet(needs: Needs) -> Needs:
    return [
        (resource, need)
        for resource, need in needs
        if resource.available_at(need) > -math.inf
    ]


def _explain_needs(run: Run, job: AnyJob) -> str | None:
    """Explain why a ready job waits for resources, if it does: too little is free, or another job comes first."""
    if (group := group_of(run, job)) is None:
        return None
    needs = group.needs_of(job)
    if (gated := _opening(needs, job)) is not None:
        return f"waits for {gated.shown_name}: {gated.opening}"
    alike = [
        other
        for *_, other in group.entries()
        if other._options.needs == job._options.needs
    ]
    before = 0
    if job in alike:
        before = alike.index(job)
    missing = _unmet(needs)
    if not missing:
        missing = [each for each in needs if each[0].is_used_up_by(each[1], before)]
    if missing:
        waits = [
            resource.describe_wait(need, before).text for resource, need in missing
        ]
        return f"waits for {'; '.join(waits)}"
    if (blocker := group.find_blocker(job)) is None:
        return None
    names = " and ".join(sorted(resource.shown_name for resource, _ in needs))
    return f"waits for {names}, although enough is free, behind {blocker.label!r}, which no more jobs may overtake"


def _explain_token_wait(run: Run, job: AnyJob) -> str:
    """Name the jobs of the scenario that have the tokens of a limiter, and count the other tasks that have some."""
    tokens: Any = run.line.tokens
    owner = next(
        level
        for level in enclosing_schedulers(job)
        if level._run is not None and level._run.line.limiter is not None
    )
    users = token_holders(run.outermost().with_nested(), tokens.limiter)
    named = [each for each in users if each._own_limiter is None]
    elsewhere = tokens.limiter.borrowed_tokens - len(named)
    holders = filter(None, [_job_names(named), clause("{} elsewhere", elsewhere)])
    advice = ""
    if borrowers_of(tokens.limiter, run.outermost().group.host.task) is not None:
        advice = "; one is of the task that awaits the run: let it call that after its `async with`"
    return (
        f"waits for a token of the window of {owner.label!r}: its limiter is exhausted, with {', and '.join(holders)}"
        f"{advice}{_earlier_jobs_text(run, job, tokens.in_order())}"
    )


def _explain_slot_wait(run: Run, job: AnyJob) -> str:
    holders = sorted(
        run.line.holders.copy(), key=lambda holder: holder._started_at or math.inf
    )
    before_text = _earlier_jobs_text(run, job, run.line.in_order())
    attempt_text = clause("; it is {}", job.attempts and _attempt_text(job))
    return f"waits for a slot: the window is full, with {_job_names(holders)}{before_text}{attempt_text}"


def pause_text(run: Run) -> str:
    """Return since when a run is paused, and by whom, or why it is held, or "" if it is neither."""
    if (pause := run.steering.current_pause(run)) is None:
        return ""
    if pause is run.steering.hold:
        root = run.outermost().scheduler
        failed = _job_queries.failure_count(root)
        return (
            f"held: {failed} failed; try again, or end as failed{root._changes_text()}"
        )
    return f"paused {duration_text(age(pause.since, run.clock))} ago{clause(' by {}', pause.by)}"


def _earlier_jobs_text(run: Run, job: AnyJob, queued_jobs: list[AnyJob]) -> str:
    """Return a text about the queued jobs that priorities or the policy put before `job`, or "" if there are none.

    Args:
        run: the run of the jobs.
        job: a waiting job.
        queued_jobs: all jobs that wait for the same thing as `job`, in the order that they will start.

    """
    if (order := run.line.order) is None:
        return ""
    earlier_jobs: list[AnyJob] = []
    for other in queued_jobs:
        if other is job:
            break
        if other._state is SCHEDULED:
            earlier_jobs.append(other)
    reasons: list[str] = []
    if any(other.priority > job.priority for other in earlier_jobs):
        reasons.append("priority")
    if order.policy is not FIFO_POLICY and any(
        other.priority == job.priority for other in earlier_jobs
    ):
        rank = order.ranks.get(job)
        reasons.append(order.policy.reason.format(label=job.label, rank=rank))
    if not reasons:
        return ""
    verb = "come" if len(earlier_jobs) > 1 else "comes"
    return f"; before it {verb} {_job_names(earlier_jobs)} ({', '.join(reasons)})"


def _explain_running(scheduler: BaseScheduler, job: AnyJob) -> str:
    cancellation = _cancellation_text(job)
    status = ""
    if cancellation is None and (job._has_status_text or is_scheduler(job)):
        status = get_status_text(job)
    # A job has been running since its attempt started.
    now = job.started_at
    since = job._started_at
    if since is None or now is None:
        seconds = 0.0
    else:
        seconds = (job.elapsed or 0.0) - (since - now)
    parts = [f"has been running for {duration_text(seconds)}"]
    if cancellation is not None:
        parts.append(f"was {cancellation}, and is still running")
    elif status and job._takes_slot:
        parts[0] += f" ({status})"
    if job._is_ready():
        parts.append("and is ready for those that require it")
    elif job._is_service:
        parts.append("and has not reported that it is ready")
    else:
        if job.attempts > 1:
            parts.append(f"in attempt {job.attempts}")
        if (fraction := _job_queries.fraction_done(job)) is not None:
            parts.append(f"and is {percent_text(fraction)} done")
        if status and not job._takes_slot:
            parts.append(f"and {status}")
    for awaited in (job._extras or RunExtras).awaited_jobs[:MAX_NAMED_JOBS]:
        explanation = _explanation(scheduler, awaited)
        kind = clause("the forever job ", awaited._options.forever)
        parts.append(f"and awaits {kind}{awaited.label!r}, which {explanation}")
    return ", ".join(parts)


def _explain_succeeded(scheduler: BaseScheduler, job: AnyJob) -> str:
    if job.restored:
        return "was restored: the journal has its result"
    if skip_reason := job._skip_reason():
        return f"was skipped, and has the result None: {skip_reason}"
    timeout_text = ""
    if has_moved_on(job):
        timeout_text = ": its timeout cancelled it, which counts as success with on_timeout='move_on'"
    return f"succeeded after {duration_text(job.took or 0.0)}{timeout_text}"


def _explain_failed(scheduler: BaseScheduler, job: AnyJob) -> str:
    error: Any = job.raised_exception()
    effects = {
        True: "; it was critical, and ended the run",
        False: "; that is tolerated",
        None: "",
    }
    effect = "; that ended the run"
    if find_interruption(error) is None:
        effect = effects[job._criticality()]
    return f"failed after {duration_text(job.took or 0.0)}, with {one_line_error(error)}{effect}"


def _explain_cancelled(scheduler: BaseScheduler, job: AnyJob) -> str:
    when = "before it started"
    if job.started_at is not None:
        when = f"after {duration_text(job.took or 0.0)}"
    if is_scheduler(job) and job._fate.reason is StopReason.DRAINED:
        return f"was drained {when}: it started no more jobs, and those that were running have ended"
    if job._outcome.is_alone:
        return f"was cancelled {when}, by its own cancel()"
    if (run := scheduler._run) is None:
        reason = scheduler._fate.reason
    else:
        reason = run.fate.reason
    if job.forever and reason in RAN_TO_END and job.started_at is not None:
        return f"ran alongside the others for {duration_text(job.elapsed or 0.0)}, and was then cancelled"
    if reason is COMPLETED and scheduler._enough is not None:
        return f"was cancelled {when}: enough other jobs of {scheduler.label!r} had succeeded"
    return f"was cancelled {when}{clause('; the run stopped: {.value}', reason)}"


def _explain_blocked(scheduler: BaseScheduler, job: AnyJob) -> str:
    error: Any = job.raised_exception()
    if isinstance(error, BudgetSpent):
        return f"is blocked: {error}; {remedy_of(error)}"
    cause = one_line_error(error.__cause__)
    return f"is blocked: {error.requirement.label!r} did not succeed; the original failure is {cause}"


def _explain_skipped(scheduler: BaseScheduler, job: AnyJob) -> str:
    if job.run_if == "failed" and not any(map(has_failed, job._required)):
        return "was skipped: run_if='failed', and none of its requirements failed"
    skipped = [other for other in job._required if other._state is SKIPPED]
    return f"was skipped: {_job_names(skipped)} was skipped"


EXPLAIN_FUNCTIONS = {
    IDLE: _explain_idle,
    SCHEDULED: _explain_scheduled,
    RUNNING: _explain_running,
    SUCCEEDED: _explain_succeeded,
    FAILED: _explain_failed,
    CANCELLED: _explain_cancelled,
    BLOCKED: _explain_blocked,
    SKIPPED: _explain_skipped,
}


def _progress_text(job: AnyJob, clock: Callable[[], float]) -> str:
    if (seconds := age(job._started_at, clock)) is not None:
        return f"{job.label!r} has been running for {duration_text(seconds)}"
    waits = "has not started"
    if job.attempts:
        waits = f"waits for {_attempt_text(job, has_limit=False)}"
    return f"{job.label!r} {waits}"


def _job_names(jobs: list[AnyJob]) -> str:
    names = [*map(repr, distinct_names(jobs[:MAX_NAMED_JOBS]))]
    return join_names(names, MAX_NAMED_JOBS, len(jobs))


# ---- paths of waits from a job to itself


FIRST_POLL_SECONDS: Final = 1.0
"""The number of seconds until a wait is first checked for a deadlock. The interval doubles after each check."""
# Words that link a job to a job for which it waits. From these words, `deadlock_text` sees the cause of the wait.
HELD_BY: Final = "needs what is held by"
LASTS: Final = "may run until the end of"
RUNS: Final = "runs"
ITERATES: Final = "iterates over as_settled() until the end of"
WAITS_FOR_ROOM: Final = "waits for room() until the end of"
Step = tuple[str, AnyJob]
"""A job of a path, and the words that link the previous job to it."""
Links = Iterator[tuple[str, Collection[AnyJob]]]
"""The jobs that a job waits for, each collection with the words that link the job to them."""


class WaitWatch(Part):
    """The check of a wait, at `due_at`, until it is reported; a part of the run for which the body of a job waits."""

    def __init__(
        self,
        run: Run,
        waiter: AnyJob,
        jobs: Collection[AnyJob],
        verb: str,
    ) -> None:
        """Watch a wait of a job.

        Args:
            run: the run of the waiting job, which gets the report.
            waiter: the waiting job, or the scheduler.
            jobs: the jobs for which it waits, which may change.
            verb: the words that link the waiting job to these.

        """
        self._run = run
        self.waiter = waiter
        self._jobs = jobs
        self._verb = verb
        self._seconds = FIRST_POLL_SECONDS
        self._due_at = run.clock() + self._seconds

    def due_at(self) -> float:
        return self._due_at

    def act(self) -> None:
        """If the check is due, report the wait, or set the time of the next check."""
        run = self._run
        if run.clock() < self._due_at:
            return
        path = find_path_from_each(self._jobs, self.waiter)
        self._seconds *= 2
        self._due_at = run.clock() + self._seconds
        if path:
            self._due_at = math.inf
            text = deadlock_text(self.waiter, self._verb, path)
            if all(text != incident.message for incident in run.scheduler._incidents):
                # It may wait repeatedly.
                run.report(self.waiter, text)


def find_path_from_each(jobs: Collection[AnyJob], waiter: AnyJob) -> list[Step] | None:
    """Return a path from a job to a job that settles after `waiter`, if there is such a path from each of them."""
    targets = _jobs_that_wait_for(waiter)
    first = None
    for job in tuple(jobs):
        path = _find_path(targets, job, _jobs_that_delay)
        if path is None:
            return None
        first = first or path
    return first


def deadlock_text(waiter: AnyJob, verb: str, path: list[Step]) -> str:
    """Return the message for a path of waits from `waiter` to itself, through a job that lacks something or lasts."""
    held = [index for index, (verb, _) in enumerate(path) if verb == HELD_BY]
    if held and held[-1] == len(path) - 1:
        text = f"{_path_text(waiter, verb, path[:-1])}, but holds what {path[-2][1].label!r} needs"
    else:
        text = _path_text(waiter, verb, path)
        link, last = path[-1]
        if link in (LASTS, ITERATES, WAITS_FOR_ROOM, RUNS) and last is not waiter:
            text = f"{text}, which waits for {waiter.label!r}"
    if held:
        lacking = path[held[-1] - 1][1]
        if lacking._scheduler is None:
            return text
        return f"{text}: {lacking._scheduler.explain(lacking)}"
    for (_, job), (link, _) in itertools.pairwise(path):
        if link in (LASTS, ITERATES):
            end = "ends by itself" if link == LASTS else "leaves its loop"
            advice = clause(
                "; to use a service when it is ready, require it", job._is_service
            )
            return f"{text}: unless {job.label!r} {end}, this wait does not end{advice}"
    return text


# ---- cycles


def reject_wait_cycle(waiter: AnyJob, job: AnyJob, verb: str = "awaits") -> None:
    """Reject a wait for a job that settles only after the waiting job.

    This takes time in proportion to the number of jobs that `job` waits for and their requirements.

    Args:
        waiter: the job that is about to wait.
        job: the job that `waiter` would wait for.
        verb: the words between the labels of the two jobs in the error message.

    Raises:
        RuntimeError: the wait would never end. The error shows the cycle.

    """
    targets = {waiter, *enclosing_schedulers(waiter)}
    path = _find_path(targets, job, _jobs_that_settle_before)
    if path is None:
        return
    text = _path_text(waiter, verb, path)
    if path[-1][1] is not waiter:
        text += f", which contains {waiter.label!r}"
    raise RuntimeError(f"{waiter.label!r} waits for itself: {text}")


def _jobs_that_wait_for(waiter: AnyJob) -> set[AnyJob]:
    """Return `waiter` and the schedulers that it keeps from ending. A scheduler ends although a forever job runs."""
    jobs = {waiter}
    for enclosing, member in ancestors_with_members(waiter):
        if member._options.forever:
            break
        jobs.add(enclosing)
    return jobs


def _find_path(
    targets: set[AnyJob],
    job: AnyJob,
    links_from: Callable[[AnyJob], Links],
) -> list[Step] | None:
    """Return a path from `job` to one of the `targets`, or None if there is none.

    Args:
        targets: the jobs that settle only after the job that waits for `job`.
        job: the first job of the path, without words before it.
        links_from: yields the jobs that a job waits for.

    """
    came_from: dict[AnyJob, tuple[AnyJob | None, str]] = {job: (None, "")}
    todo = [job]
    for reached in todo:
        if reached in targets:
            return [*_steps_back(reached, came_from)][::-1]
        for verb, others in links_from(reached):
            # A thousand jobs may hold a resource that another job lacks, for which each of them waits.
            for target in targets:
                if target in others:
                    came_from[target] = reached, verb
                    return [*_steps_back(target, came_from)][::-1]
            for other in others:
                if other not in came_from:
                    came_from[other] = reached, verb
                    todo.append(other)
    return None


def _steps_back(
    job: AnyJob | None,
    came_from: dict[AnyJob, tuple[AnyJob | None, str]],
) -> Iterator[Step]:
    while job is not None:
        previous, verb = came_from[job]
        yield verb, job
        job = previous


def _path_text(waiter: AnyJob, verb: str, path: list[Step]) -> str:
    steps = [(verb, path[0][1]), *path[1:]]
    return f"{waiter.label!r} " + ", which ".join(
        f"{words} {job.label!r}" for words, job in steps
    )


def _jobs_that_settle_before(job: AnyJob) -> Links:
    """Yield the jobs that must settle before `job`."""
    if job._state is RUNNING or (is_scheduler(job) and job._run is not None):
        yield "awaits", (job._extras or RunExtras).awaited_jobs
        members = job._members.jobs if is_scheduler(job) else ()
        ordinary = (
            member
            for member in members
            if not (member._options.forever or member._state.is_settled)
        )
        yield "waits for its job", dict.fromkeys(ordinary)
    elif not job._state.is_settled:
        yield "requires", open_requirements(job)
        if job._scheduler is not None and job._scheduler._run is None:
            yield "is in", [job._scheduler]


def _jobs_that_delay(job: AnyJob) -> Links:
    """Yield the jobs that must settle before `job`, that hold a resource it lacks now, or whose end may be its own."""
    yield from _jobs_that_settle_before(job)
    scheduler = job._scheduler
    if scheduler is not None and job._options.forever and not job._state.is_settled:
        members = job._members.jobs if is_scheduler(job) else ()
        if all(member._options.forever for member in members):
            yield LASTS, [scheduler]
    if job._state is SCHEDULED:
        yield HELD_BY, _holders(job)
    run = job._enclosing_run()
    group = group_of(run, job)
    if group is not None:
        blocker = group.find_blocker(job)
        if blocker is not None:
            yield "may not overtake", [blocker]
    rule = None
    if run is not None:
        rule = run.part(FirstRule)
    if rule is not None:
        before = rule.turn_before(job)
        if before is not None and before._state is not RUNNING:
            yield "has its turn after", [before]
    for inner in tuple(RUNS_IN_PROGRESS):
        watch = inner.part(WaitWatch)
        if watch is not None and watch.waiter is job and job._state is RUNNING:
            yield RUNS, [inner.scheduler]
    for enclosing in enclosing_schedulers(job):
        for iterator in enclosing._settled_iterators or ():
            yield iterator.wait_verb, iterator.awaited_by(job)


def _holders(job: AnyJob) -> Collection[AnyJob]:
    """Return the jobs, in whatever state, that have the slots, tokens or resources for which a SCHEDULED job waits."""
    wait = waiting(job)
    run = job._enclosing_run()
    if wait is None or run is None:
        return ()
    if wait.cause is WaitCause.SLOT:
        return run.line.holders
    lacking = run.pools.resolve(job).get(wait.resource)
    if isinstance(lacking, CountedResource):
        return lacking.holders.keys()
    # A limiter or a pool may be shared with other runs, also with those in the bodies of jobs.
    runs: list[Run] = []
    for outermost in list(RUNS_IN_PROGRESS):
        if outermost.thread_id == run.thread_id:
            runs += outermost.with_nested()
    if wait.cause is WaitCause.TOKEN:
        if run.line.tokens is None:
            return []
        return list(token_holders(runs, run.line.tokens.limiter))
    # Amounts of a rate accrue again from the start of the jobs that took them.
    unstarted: list[AnyJob] = []
    for each in runs:
        if each.line.tokens is not None:
            unstarted += each.line.tokens.waiting
    holders: list[AnyJob] = []
    for other in unstarted:
        grant = other._grant()
        if grant is not None:
            found = grant.find(wait.resource)
            if found is not None and found[0] is lacking:
                holders.append(other)
    return holders
