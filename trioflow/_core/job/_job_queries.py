"""Functions on jobs for views, journals and explorations, in addition to the jobs' public attributes.

They are functions, because a user-defined job class may use any other attribute name without a leading underscore. All
but `intercept_calls` only read. Any thread may call them; in another thread than that of the run, their results may be
slightly out of date.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from ..base import _amounts
from ..base._states import MOVED_ON, SUCCEEDED, JobState, ReportedState
from . import _requirements
from ._ancestors import enclosing_schedulers
from ._errors import BudgetSpent, RequirementFailed
from ._function import FunctionJob
from ._job import AbstractJob, AnyJob, BoxStyle, is_scheduler
from ._job_options import RUN_RESOURCES, OptionRecord
from ._outcome import FailedAttempt, Failure, Restoration, Throttling

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ..base._amounts import CheckedNeed
    from ..scheduler._base_scheduler import BaseScheduler

SERVICE: Final = object()
"""A placeholder for the result of a service, which a journal neither stores nor compares, as services run each time."""


def explicit_label(job: AnyJob) -> str | None:
    """Return the label that the user set; None if the job has a default label, which shows its arguments.

    Example:
        >>> explicit_label(ThreadJob(print, 1, label="shown")), explicit_label(CommandJob(["echo", "1"]))
        ('shown', None)

    """
    return job._label


def fraction_done(job: AnyJob) -> float | None:
    """Return the last fraction, from 0 to 1, that a job's latest call passed to `progress()`; None if there is none."""
    return None if job._extras is None else job._extras.fraction


def box_of(job: AnyJob) -> BoxStyle:
    return job._box


def is_service(job: AnyJob) -> bool:
    """Return whether a job is a service: a forever job that reports its readiness, so that others may require it."""
    return job._is_service


def inputs_of(job: AnyJob) -> tuple[AnyJob, ...]:
    """Return the inputs of a job: the jobs among its arguments, which are replaced by their results."""
    return job._inputs


def settled_only_for(job: AnyJob) -> list[AnyJob]:
    """Return the jobs that `requires(..., settled=True)` has made requirements of a job, except its inputs."""
    return [other for other in _requirements.settled_only(job._required) if other not in job._inputs]


def criticality(job: AnyJob) -> bool | None:
    """Return the effective value of `critical`: True if `is_critical()`, False if a failure is tolerated, or None."""
    return job._criticality()


def may_repeat(job: AnyJob) -> bool:
    return job._may_repeat()


def takes_slot(job: AnyJob) -> bool:
    return job._takes_slot and not job._options.forever


def slot_users(scheduler: Iterable[AnyJob]) -> Iterator[AnyJob]:
    """Yield the jobs that take slots of a scheduler's window: its members, and in place of a `First` the jobs in it."""
    todo = [scheduler]
    while todo:
        for job in todo.pop():
            if is_scheduler(job) and job._enough is not None:
                todo.append(job)
            elif takes_slot(job):
                yield job


def is_ready(job: AnyJob) -> bool:
    """Return whether a job is a service that is ready and still running."""
    return job._is_ready()


def ready_at(job: AnyJob) -> float | None:
    """Return the time at which a service became ready in its last run; None for other jobs, or if it never was."""
    return None if job._extras is None else job._extras.ready_at


def end_facts(job: AnyJob) -> tuple[JobState, float | None, float | None, bool]:
    """Return the facts about a settled job that each view needs. One call is faster than four.

    Returns:
        The job's state, when it started, when it settled, and whether there are no further facts: the job SUCCEEDED,
        runs no command, and has no `RunExtras`.

    """
    state = job._state
    is_complete = state is SUCCEEDED and job._extras is None and not (job._runs_commands or job._is_scheduler)
    if not is_complete and has_skipped_itself(job):
        state = JobState.SKIPPED
    return state, job._started_at, job._finished_at, is_complete


def failure_of(job: AnyJob) -> Failure | None:
    """Return the exception of a FAILED or BLOCKED job with its first traceback; None for other jobs.

    The traceback that the exception itself holds grows with each call of `result()`.
    """
    outcome = job._outcome
    return outcome if isinstance(outcome, Failure) else None


def culprit_chain(scheduler: BaseScheduler) -> list[AnyJob]:
    """Return the member that stopped a run; if it is a nested scheduler, also the culprit of its run, and so on."""
    chain: list[AnyJob] = []
    culprit = scheduler.culprit
    while culprit is not None:
        chain.append(culprit)
        culprit = culprit.culprit if is_scheduler(culprit) else None
    return chain


def is_one_job(job: AnyJob) -> bool:
    """Return whether a job counts as one: no scheduler does, but a `First`, whose jobs are ways to do the same."""
    return not is_scheduler(job) or job._enough is not None


def jobs_of_run(scheduler: BaseScheduler) -> Iterator[AnyJob]:
    """Yield the jobs at any depth, as `iterate_jobs` does, but not those in a nested `First`, which is one job.

    Of these, the ones that `is_counted` accepts are the jobs that all views count.
    """
    stack = [iter(tuple(scheduler._members.jobs))]
    while stack:
        for job in stack[-1]:
            yield job
            if is_scheduler(job) and not is_one_job(job):
                stack.append(iter(tuple(job._members.jobs)))
                break
        else:
            stack.pop()


def is_in_first(job: AnyJob, root: BaseScheduler) -> bool:
    """Return whether a job in `root` is in a nested `First`, at any depth, so that `jobs_of_run(root)` omits it."""
    schedulers = takewhile(lambda enclosing: enclosing is not root, enclosing_schedulers(job))
    return any(map(is_one_job, schedulers))


def failed_through_member(job: AnyJob) -> bool:
    """Return whether a FAILED job is a nested scheduler, not a `First`, that failed because of one of its own jobs."""
    culprit = job.culprit if is_scheduler(job) and not is_one_job(job) else None
    return culprit is not None and culprit.raised_exception() is not None


def failed_by_itself(job: AnyJob) -> bool:
    """Return whether a job FAILED and, if it is a nested scheduler, not because of one of its own jobs."""
    return job._state is JobState.FAILED and not failed_through_member(job)


def lacked_budget(job: AnyJob) -> bool:
    """Return whether a job, or each job of a `First`, is BLOCKED because a budget is spent, not by another job."""
    is_possible = job._state is JobState.BLOCKED or (job._state is JobState.FAILED and is_scheduler(job))
    return is_possible and isinstance(job.raised_exception(), BudgetSpent)


def is_counted(job: AnyJob) -> bool:
    """Return whether one of the `jobs_of_run` is counted.

    Of nested schedulers, each `First` is, and those whose failure no job in them shows.
    """
    return is_one_job(job) or job._state is JobState.BLOCKED or failed_by_itself(job)


def has_moved_on(job: AnyJob) -> bool:
    """Return whether a job SUCCEEDED only because it has `on_timeout="move_on"`, and its timeout ended it."""
    # With another `on_timeout`, it was an earlier attempt that timed out, not the one that succeeded.
    return job.timed_out and job._state is JobState.SUCCEEDED and job.on_timeout == "move_on"


def root_failure(job: AnyJob) -> AnyJob:
    """Return the job whose failure has blocked a job; that job itself if no other one has blocked it."""
    error = job.raised_exception() if job._state is JobState.BLOCKED else None
    return error._root if isinstance(error, RequirementFailed) else job


def has_skipped_itself(job: AnyJob) -> bool:
    """Return whether a job SUCCEEDED without its work, as those of an unreachable node with `on_unreachable="skip"`."""
    return job._state is SUCCEEDED and bool(job._skip_reason())


def reported_state(job: AnyJob) -> ReportedState:
    """Return the state of a job as all reports show it: its `state`, unless it SUCCEEDED without its whole work.

    A job with `on_timeout="move_on"` that its timeout ended is "moved on", and that of a node that was skipped,
    "skipped". For the jobs that require them, they are SUCCEEDED. A running `First` whose jobs all wait is shown as
    SCHEDULED.

    Example:
        >>> import anyio
        >>> from trioflow.abc import reported_state
        >>> s = Scheduler(Job(anyio.sleep, 9, timeout=0.01, on_timeout="move_on"), Job(anyio.sleep, 0))
        >>> s.run()
        True
        >>> [reported_state(job).value for job in s]
        ['moved on', 'succeeded']

    """
    if has_skipped_itself(job):
        return JobState.SKIPPED
    if job._state is JobState.RUNNING and is_scheduler(job) and is_one_job(job):
        jobs = (member for member in job.iterate_jobs() if not is_scheduler(member))
        return JobState.RUNNING if any(member._state is JobState.RUNNING for member in jobs) else JobState.SCHEDULED
    return MOVED_ON if has_moved_on(job) else job._state


class Outcome(NamedTuple):
    """The facts about the end of a job, besides its state and its times. The defaults are those of a plain success."""

    attempts: int = 1
    failure: Failure | None = None  # also that of a BLOCKED job
    failed_through_member: bool = False  # whether it is a scheduler that failed because one of its jobs failed
    timed_out: bool = False
    moved_on: bool = False  # whether it SUCCEEDED only because its timeout ended it
    restoration: Restoration | None = None  # if the result was restored from a journal, the facts that it has
    ready_at: float | None = None  # for a service, the time when it became ready
    throttled_attempts: tuple[Throttling, ...] = ()
    machine_waits: tuple[tuple[float, float], ...] = ()  # the start and end of each wait for capacity of the machine
    retry_waits: tuple[tuple[float, float], ...] = ()  # the start and end of each wait between two attempts
    failed_attempts: tuple[FailedAttempt, ...] = ()

    @property
    def restored_at(self) -> float | None:
        """The time when the job settled in the run from which it was restored, in seconds since 1970."""
        return None if self.restoration is None else self.restoration.settled_at


def outcome(job: AnyJob) -> Outcome:
    """Return the facts about the end of a settled job, which all views show. If `end_facts` has none, omit the call."""
    failure = failure_of(job)
    return Outcome(
        job.attempts,
        failure,
        failure is not None and failed_through_member(job),
        job.timed_out,
        has_moved_on(job),
        restoration_of(job),
        ready_at(job),
        throttled_attempts(job),
        machine_waits(job),
        tuple(retry_waits(job)),
        failed_attempts(job),
    )


def stored_result(job: AnyJob) -> Any:
    """Return the result of a job that has succeeded, in the form in which the engine stores it.

    For a value that stays in another process, this is its placeholder: `result()` fetches the value, which may be slow.
    """
    return job._outcome


def throttled_intervals(job: AnyJob) -> tuple[tuple[float, float], ...]:
    """Return the beginning and end of each attempt that raised `Throttled`, and so does not count."""
    return tuple((attempt.began, attempt.ended) for attempt in throttled_attempts(job))


def failed_attempts(job: AnyJob) -> tuple[FailedAttempt, ...]:
    """Return the last attempts that failed, and after which the job was or will be attempted again."""
    return () if job._extras is None else job._extras.failed_attempts


def budget_use(job: AnyJob) -> dict[str, float]:
    """Return the amounts of budgets that a job which is about to settle has used in all its attempts, by name."""
    grant, earlier = job._grant(), {} if job._extras is None else job._extras.earlier_use or {}
    used: Mapping[str, Any] = {} if grant is None else grant.budget_amounts()
    return {name: _amounts.as_number(amount + earlier.get(name, 0)) for name, amount in used.items()}


def retry_waits(job: AnyJob) -> list[tuple[float, float]]:
    """Return the beginning and end of each wait of a settled job between two attempts, in which it held nothing.

    Attempts that were throttled before the first one that failed do not count.
    """
    times = [(attempt.began, attempt.ended) for attempt in failed_attempts(job) if attempt.began is not None]
    if not times or job._extras is None or job._finished_at is None:
        return []
    times += [(attempt.began, attempt.ended) for attempt in throttled_attempts(job) if attempt.began > times[0][0]]
    times.sort()
    last = job._extras.last_started_at
    starts = [*(began for began, _ in times[1:]), job._finished_at if last is None else last]
    return [(ended, start) for (_, ended), start in zip(times, starts, strict=True) if start > ended]


def last_attempt(job: AnyJob) -> tuple[float | None, float | None]:
    """Return when the last attempt of a settled job started, and when it ended; None for what has not happened."""
    extras = job._extras
    is_retried = extras is not None and extras.first_started_at is not None
    return extras.last_started_at if is_retried else job._started_at, job._finished_at  # type: ignore[union-attr]


def worked_seconds(job: AnyJob) -> float | None:
    """Return the seconds in which the attempts of a settled job ran, without waits between them or for its machine."""
    elapsed, waits = job.elapsed, (*machine_waits(job), *retry_waits(job))
    return None if elapsed is None else elapsed - sum(until - since for since, until in waits)


def throttled_attempts(job: AnyJob) -> tuple[Throttling, ...]:
    """Return the attempts that raised `Throttled`, each with the keys of the resources that it throttled."""
    return () if job._extras is None else job._extras.throttlings


def needs_as_given(job: AnyJob) -> dict[str, Any]:
    """Return the needs of a job for pools as the option `needs` takes them: numbers, amounts by key, or text."""
    needs = {name: amount for name, amount in job._needs().items() if name not in RUN_RESOURCES}
    return {name: need if isinstance(need, str) else _amounts.need_as_numbers(need) for name, need in needs.items()}


def run_needs(job: AnyJob) -> dict[str, CheckedNeed]:
    """Return a job's needs for resources of the run itself, as opposed to a pool, by name; empty for most kinds."""
    return {name: amount for name, amount in job._needs().items() if name in RUN_RESOURCES}


def run_resource_totals(scheduler: BaseScheduler) -> Mapping[str, int]:
    """Return the totals of the resources of the run itself that only the jobs in `scheduler` share, by name."""
    return scheduler._run_resource_totals()


def find_run_resource(scheduler: BaseScheduler, name: str) -> tuple[BaseScheduler, int]:
    """Find the scheduler whose jobs, at any depth, share a resource of the run itself.

    Args:
        scheduler: the scheduler of a job that needs the resource; the search goes outwards from here.
        name: the name passed to `declare_run_resource`.

    Returns:
        The scheduler, and the total of the resource.

    """
    for enclosing in (scheduler, *enclosing_schedulers(scheduler)):
        scheduler = enclosing
        if name in (totals := enclosing._run_resource_totals()):
            return enclosing, totals[name]
    return scheduler, RUN_RESOURCES[name]()


def machine_waits(job: AnyJob) -> tuple[tuple[float, float], ...]:
    """Return the beginning and end of each wait of a RUNNING job for its machine."""
    return () if job._extras is None else job._extras.machine_waits


def reason_not_restored(job: AnyJob) -> str | None:
    """Return the reason why the journal did not restore a job; None if it was restored, or there is no journal."""
    return None if job._extras is None else job._extras.not_restored_reason


def restoration_of(job: AnyJob) -> Restoration | None:
    """Return the facts that the journal has about a job that it restored; None if it did not restore the job.

    Example:
        >>> import tempfile
        >>> async def double(number):
        ...     return 2 * number
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     job = Job(double, 21)
        ...     scheduler = Scheduler(job, journal=directory + "/run.db")
        ...     scheduler.run(), restoration_of(job)
        ...     scheduler.run(), restoration_of(job).settled_at is None
        (True, None)
        (True, False)

    """
    restoration = None if job._extras is None else job._extras.restoration
    return _restoration_of_first(job) if restoration is None and is_scheduler(job) else restoration


def _restoration_of_first(scheduler: BaseScheduler) -> Restoration | None:
    """Return that of its last winner, if a `First` has succeeded with restored results alone; otherwise None."""
    if not is_one_job(scheduler) or scheduler._state is not SUCCEEDED:
        return None
    winners = [job for job in scheduler.iterate_jobs() if job._state is SUCCEEDED and is_one_job(job)]
    restorations = [restoration_of(job) for job in winners]
    return restorations[-1] if restorations and None not in restorations else None


def runs_commands(job: AnyJob) -> bool:
    """Return whether a job runs commands, and so has a `last_result`."""
    return job._runs_commands


def command_line_of(job: AnyJob) -> str:
    """Return the command line of a job that runs commands; for a job with `redact=True`, the text that replaces it."""
    command: Any = job  # only kinds that run commands have this method
    return str(command._command_line())


def always_runs(job: AbstractJob[Any]) -> bool:
    """Return whether a journal never stores the result of a job: a scheduler, a service, or another forever job."""
    return job._is_scheduler or job._options.forever


def result_for_journal(job: AbstractJob[Any]) -> Any:
    """Return the stored result of a job that has succeeded; DROPPED if it was dropped; SERVICE for a service."""
    return SERVICE if job._is_service else job._outcome


def options_of(job: AbstractJob[Any]) -> OptionRecord:
    """Return the record of a job's options: to read several of them takes a tenth of the time."""
    return job._options


def was_added_during_run(job: AbstractJob[Any]) -> bool:
    """Return whether a job was added to its scheduler during the run in progress, so that its path may differ."""
    return job._scheduler is not None and job in job._scheduler._members.jobs_added_during_run


def is_known_by_call(job: AbstractJob[Any]) -> bool:
    """Return whether a job added during a run is identified by its call: it has no label, or `map` made the label."""
    return job._label is None or (job._extras is not None and job._extras.is_known_by_call)


def is_member(job: AbstractJob[Any]) -> bool:
    """Return whether a job is still in its scheduler, which has not dropped it because of `keep_jobs=False`."""
    return job._scheduler is not None and job in job._scheduler._members.jobs


def runs_outside_loop(job: AbstractJob[Any]) -> bool:
    """Return whether a job works outside of the event loop, in a thread or a process, and so takes real time."""
    return job._runs_commands or (isinstance(job, FunctionJob) and job._calls_in is not None)


def has_hard_timeout(job: AnyJob) -> bool:
    """Return whether a job has a timeout that may end its body at any checkpoint, not only where its kind allows it."""
    return (job.timeout is not None or job.idle_timeout is not None) and (is_scheduler(job) or not job._keeps_time)


# ---- for explorations

CallInterceptor = Callable[[AnyJob, Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""A function that is called in place of a job or its `co_shutdown`, with the job and the original call."""


def intercept_calls(job: AnyJob, on_call: CallInterceptor, on_shutdown: CallInterceptor) -> None:
    """Replace the calls of a job, and of its `co_shutdown` if its class defines one, by calls of interceptors.

    This gives the job a subclass of its class, with the same name. It also takes the job off the workers' hot path,
    which calls the job's function directly.

    Args:
        job: the job; its class changes.
        on_call: called in place of each call of the job.
        on_shutdown: called in place of each call of its `co_shutdown`.

    """
    job.__class__ = _intercepted_class(cast("Any", type(job)), on_call, on_shutdown)
    job._is_plain = False


@functools.cache
def _intercepted_class(kind: type[Any], on_call: CallInterceptor, on_shutdown: CallInterceptor) -> type[Any]:
    """Return a subclass of `kind`, with the same name, whose objects call the interceptors."""
    own_call, own_shutdown = kind._call_once, kind.co_shutdown

    def call_once(job: AnyJob) -> Awaitable[Any]:
        return on_call(job, functools.partial(own_call, job))

    async def co_shutdown(job: AnyJob) -> None:
        await on_shutdown(job, functools.partial(own_shutdown, job))

    attributes = {"__slots__": (), "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    methods = {"co_shutdown": co_shutdown} if kind._has_own_shutdown else {}
    metaclass: Any = type(kind)
    subclass = metaclass(kind.__name__, (kind,), attributes | methods)
    subclass._call_once = call_once  # last, because `__init_subclass__` may set it
    return cast("type[Any]", subclass)
