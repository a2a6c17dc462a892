# pyright: reportUnusedImport=false
"""A run, its scheduler and its jobs, read-only: for views, simulations, instruments and journals.

The functions below add to the public attributes of a job, such as `job.state`, `job.started_at` and `job.path`. Any
thread may call them, and gets values that may be slightly out of date. Those of `scheduler._checks` are an exception:
they are for the thread that builds the scenario, before a run. Only explorations use
`intercept_calls` and `interrupt`.
"""

from __future__ import annotations

import functools
import math
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from ..admission._grant import budgets_used
from ..admission._pool import Pool, ResourceView, copy_pool, resource_views
from ..admission._window import Adaptive, check_window, max_slots
from ..admission.policy._builtin_policies import PolicyName
from ..admission.policy._policy import Policy, median_duration
from ..admission.policy._policy_validation import check_policy, name_of_policy
from ..backend import LOOP_PACKAGES, BackendName
from ..backend._shared import await_chain
from ..base import _amounts, _states
from ..base._amounts import Amount, amount_of, amount_text, is_size
from ..base._graph_algorithms import backlinks, find_cycle, longest_path_lengths, reachable, topological_order
from ..base._logger import warn
from ..base._reprs import fit, headline, is_among, short_repr, truncate
from ..base._states import MOVED_ON, RAN_TO_END, JobState, ReportedState, RunPhase, StopReason, WaitCause, Waiting
from ..base._units import MAX_LISTED_NAMES, UNITS, duration_text, join_names, percent_text, plural, size_text
from ..base._user_code import PACKAGE_PREFIX, describe_line, innermost_own, library_prefixes, shown_exception
from ..job import _requirements
from ..job._ancestors import enclosing_schedulers, is_inside, outermost_scheduler
from ..job._arguments import substitute_inputs
from ..job._errors import JournalError
from ..job._function import FunctionJob, Job, call_parts, input_at, is_found_by_name, unwrap_partial
from ..job._job import AbstractJob, AnyJob, has_moved_on, is_scheduler, not_a_scheduler_error, state_of, takes_slot
from ..job._job_options import RUN_RESOURCES, BoxStyle, OptionRecord, SaveName, check_save, duration, file_path, flag
from ..job._labels import PathCache, UniqueSiblingNames, paths_of, printable, shorten
from ..job._outcome import DROPPED, FailedAttempt, Failure, Restoration, Throttling, one_line_error
from ..job._retry import Retry, jitter_source
from ..run._instruments import Instrument
from ..run._journal_interface import NOT_IN_JOURNAL_REASON, NOT_SAVED_REASON, JournalProtocol, NotStored, Restored
from ..run._run import Incident, Steering, SteeringIncident
from ..scheduler._base_scheduler import BaseScheduler, interrupt
from ..scheduler._checks import (
    check_late_input,
    check_may_run,
    check_needs,
    check_one_shot,
    check_requirement,
    check_scenario,
    reject_shared_pools,
    store_implied_requirements,
)
from ..scheduler._members import first_options
from ..words._explain import READY_TEXT, get_status_text, open_requirements, waiting, waiting_since
from ..words._failure_log import failure_kind
from ..words._failures import culprit_text, failure_text
from ..words._job_queries import (
    CountKey,
    count_key,
    criticality,
    culprit_chain,
    explicit_label,
    failed_attempts,
    failed_by_itself,
    failed_through_member,
    fraction_done,
    groups_of_run,
    has_skipped_itself,
    incidents_of,
    inputs_of,
    is_failed_group,
    is_in_first,
    is_one_job,
    jobs_of_run,
    reported_state,
    root_failure,
    throttled_attempts,
)
from ..words._run_view import RunInProgress, RunView, current_run, job_frames, run_steering, run_times, runs_in_progress

if TYPE_CHECKING:
    from ..admission._window import Window
    from ..job._job_options import Save


# ---- jobs


def box_of(job: AnyJob) -> BoxStyle:
    return job._box


def is_service(job: AnyJob) -> bool:
    """Return whether a job is a service: a forever job that reports its readiness, so that others may require it."""
    return job._is_service


def settled_only_for(job: AnyJob) -> list[AnyJob]:
    """Return the jobs that `requires(..., settled=True)` has made requirements of a job, except its inputs."""
    settled_only = _requirements.flagged(job._required, _requirements.SETTLED_ONLY)
    return [other for other in settled_only if other not in job._inputs]


def counted_requirements(job: AnyJob) -> Collection[AnyJob]:
    """Return what a job requires, its inputs included, but for what `requires(..., order_only=True)` has exempted."""
    required = job._required
    if isinstance(required, tuple):
        return required
    return [other for other, flags in required.items() if not flags & _requirements.ORDER_ONLY]


def cut_requirements(job: AnyJob) -> Collection[AnyJob]:
    """Return the requirements that a job has lost because `keep_only` has removed them from its scheduler."""
    return () if job._scheduler is None else job._scheduler._members.cut_requirements.get(job, ())


def has_cut_requirements(job: AnyJob) -> bool:
    """Return whether a job, or a scheduler around it, has lost requirements because of `keep_only`."""
    while (scheduler := job._scheduler) is not None:
        if job in scheduler._members.cut_requirements:
            return True
        job = scheduler
    return False


def accepts_jobs(scheduler: BaseScheduler) -> bool:
    """Return whether `add` is possible now, in this thread: the scheduler is not closed, draining or stopping.

    A control channel asks this before it adds a job.

    Example:
        >>> from trioflow.abc import accepts_jobs
        >>> s = Scheduler()
        >>> accepts_jobs(s), s.close(), accepts_jobs(s)
        (True, None, False)

    """
    try:
        scheduler._members.check_open("accepts_jobs()")
    except RuntimeError:
        return False
    return True


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
    is_complete = state is _states.SUCCEEDED and job._extras is None and not (job._runs_commands or job._is_scheduler)
    if not is_complete and has_skipped_itself(job):
        state = JobState.SKIPPED
    return state, job._started_at if is_complete else job.started_at, job._finished_at, is_complete


def failure_of(job: AnyJob) -> Failure | None:
    """Return the exception of a FAILED or BLOCKED job with its first traceback; None for other jobs.

    The traceback that the exception itself holds grows with each call of `result()`.
    """
    outcome = job._outcome
    return outcome if type(outcome) is Failure else None


def stored_result(job: AnyJob) -> Any:
    """Return the result of a job that has succeeded, in the form in which the engine stores it.

    For a value that stays in another process, this is its placeholder: `result()` fetches the value, which may be slow.
    """
    return job._outcome


def latest_start(job: AnyJob) -> float | None:
    """Return when the last attempt of a job started; None if it waits for the next one, or has not started."""
    return job._started_at


def keeps_succeeded(scheduler: BaseScheduler) -> bool:
    """Return whether a nested scheduler is tried again, and its run keeps what has succeeded in the one before."""
    return scheduler._extras is not None and scheduler._extras.keeps_succeeded


def retry_waits(job: AnyJob) -> list[tuple[float, float]]:
    """Return the beginning and end of each wait of a job between two attempts, in which it held nothing.

    Attempts that were throttled before the first one that failed do not count. The end of a wait that goes on is
    infinity.
    """
    times = [(attempt.began, attempt.ended) for attempt in failed_attempts(job)]
    if not times or job._extras is None:
        return []
    times += [(attempt.began, attempt.ended) for attempt in throttled_attempts(job) if attempt.began > times[0][0]]
    times.sort()
    end = math.inf if job._finished_at is None else job._finished_at
    starts = [*(began for began, _ in times[1:]), end if job._started_at is None else job._started_at]
    return [(ended, start) for (_, ended), start in zip(times, starts, strict=True) if start > ended]


def machine_waits(job: AnyJob) -> tuple[tuple[float, float], ...]:
    """Return the beginning and end of each wait of a RUNNING job for its machine."""
    return () if job._extras is None else job._extras.machine_waits


def worked_seconds(job: AnyJob) -> float | None:
    """Return the seconds in which the attempts of a settled job ran, without waits between them or for its machine."""
    elapsed, waits = job.elapsed, (*machine_waits(job), *retry_waits(job))
    return None if elapsed is None else elapsed - sum(until - since for since, until in waits)


def needs_as_given(job: AnyJob) -> dict[str, Any]:
    """Return the needs of a job for pools as the option `needs` takes them: numbers, amounts by key, or text."""
    needs = {name: amount for name, amount in job._options.needs.items() if name not in RUN_RESOURCES}
    return {name: need if isinstance(need, str) else _amounts.need_as_numbers(need) for name, need in needs.items()}


def run_needs(job: AnyJob) -> dict[str, Any]:
    """Return a job's needs for resources of the run itself, as opposed to a pool, by name; empty for most kinds."""
    return {name: amount for name, amount in job._options.needs.items() if name in RUN_RESOURCES}


def find_run_resource(scheduler: BaseScheduler, name: str) -> tuple[BaseScheduler, int, bool]:
    """Find the scheduler whose jobs, at any depth, share a resource of the run itself.

    Args:
        scheduler: the scheduler of a job that needs the resource; the search goes outwards from here.
        name: the name passed to `declare_run_resource`.

    Returns:
        The scheduler, the total of the resource, and whether it has a gate.

    """
    declared = RUN_RESOURCES[name]
    for enclosing in (scheduler, *enclosing_schedulers(scheduler)):
        scheduler = enclosing
        if (total := enclosing._run_resource_totals().get(name)) is not None:
            break
    else:
        total = declared.total()
    return scheduler, total, declared.find_gate is not None and scheduler._opens_gates


def reason_not_restored(job: AnyJob) -> str | None:
    """Return the reason why the journal did not restore a job; None if it was restored, or there is no journal."""
    return None if job._extras is None else job._extras.not_restored_reason


def rerun_cause(job: AnyJob) -> str | None:
    """Return the first change because of which a job runs again, though the journal has it; None if there is none."""
    return None if job._extras is None else job._extras.rerun_cause


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
    if not is_one_job(scheduler) or scheduler._state is not _states.SUCCEEDED:
        return None
    winners = [job for job in scheduler.iterate_jobs() if job._state is _states.SUCCEEDED and is_one_job(job)]
    restorations = [restoration_of(job) for job in winners]
    return restorations[-1] if restorations and None not in restorations else None


def runs_commands(job: AnyJob) -> bool:
    """Return whether a job runs commands, and so has a `last_result`."""
    return job._runs_commands


def command_line_of(job: AnyJob) -> str:
    """Return the command line of a job that runs commands; for a job with `redact=True`, the text that replaces it."""
    command: Any = job  # only kinds that run commands have this method
    return str(command._command_line())


def output_tails(job: AnyJob, size: int) -> Iterable[tuple[str, bytes]]:
    """Return the end of each output of the command that a job runs, as far as it is captured or goes to a file.

    Any thread may call this. For a job with `redact=True`, return nothing.
    """
    streams: Any = getattr(job, "_open_streams", None)  # only kinds that run commands have it, while one runs
    return () if streams is None or job.redact else streams.tails(size)


def runs_outside_loop(job: AbstractJob[Any]) -> bool:
    """Return whether a job works outside of the event loop, in a thread or a process, and so takes real time."""
    return job._runs_commands or (isinstance(job, FunctionJob) and job._calls_in is not None)


def has_hard_timeout(job: AnyJob) -> bool:
    """Return whether a job has a timeout that may end its body at any checkpoint, not only where its kind allows it."""
    return (job.timeout is not None or job.idle_timeout is not None) and (is_scheduler(job) or not job._keeps_time)


# ---- the members of a scheduler


def all_requirements(scheduler: BaseScheduler, job: AbstractJob[Any]) -> list[AbstractJob[Any]]:
    """Return the members of `scheduler` that must settle before `job` may start, even if they have settled already.

    These are the requirements of `job`, and the members that contain an input of `job` or of a job nested in it.
    """
    return scheduler._members.all_requirements(job)


def insert_members(scheduler: BaseScheduler, jobs: Iterable[AnyJob]) -> None:
    """Add jobs that belong to no scheduler, without their inputs and without checks: a copy of a checked scenario."""
    scheduler._members.is_unchecked = True
    scheduler._members.insert(jobs)


def nested_schedulers(scheduler: BaseScheduler) -> list[BaseScheduler]:
    return list(scheduler._members.nested_schedulers)


def is_droppable(scheduler: BaseScheduler, job: AbstractJob[Any]) -> bool:
    """Return whether a scheduler removes a settled job: it has `keep_jobs=False`, and no longer needs the job.

    Hooks ask this before the failure of the job is counted; a critical one is then kept.
    """
    failure: Any = job._outcome
    is_critical = type(failure) is Failure and not failure.is_from_cancel and job._criticality()
    return not (scheduler.keep_jobs or is_critical) and scheduler._members.can_be_dropped(job)


def ends_with_steering(scheduler: BaseScheduler) -> bool:
    """Return whether the last incident is a word from outside the program, so that nothing went wrong."""
    return isinstance(scheduler._incidents[-1], SteeringIncident)


def collect_dropped(scheduler: BaseScheduler, dropped: deque[AnyJob]) -> None:
    """Let a scheduler with `keep_jobs=False` append each job that it drops in its run to `dropped`."""
    members = scheduler._members
    if all(collected is not dropped for collected in members.last_dropped):
        members.last_dropped += (dropped,)


def stop_collecting(scheduler: BaseScheduler, dropped: deque[AnyJob]) -> None:
    members = scheduler._members
    members.last_dropped = tuple(collected for collected in members.last_dropped if collected is not dropped)


def dropped_counts(scheduler: BaseScheduler) -> Iterator[tuple[CountKey, int]]:
    """Yield how many jobs `keep_jobs=False` has removed, by their keys of `count_key`."""
    for group in groups_of_run(scheduler):
        yield from group._members.dropped_counts.items()


def expected_durations(scheduler: BaseScheduler, jobs: Iterable[AnyJob] | None = None) -> dict[AnyJob, float]:
    """Return the known expected durations of the members of a scheduler, or of some of them, in seconds.

    The option `durations` of the outermost scheduler takes precedence over `expected_duration` of a member.
    """
    return scheduler._expected_durations(jobs)


def members_in_order(scheduler: BaseScheduler) -> list[AnyJob]:
    """Return the members of a scheduler, each after the members that it waits for.

    Jobs in cycles are left out, and so are jobs that wait for them, directly or indirectly.

    Takes O(V + E) time. Unlike `trioflow.graph.topological_order`, this does not look for implied requirements. It uses
    those that the last run or `store_implied_requirements` has stored.
    """
    return topological_order(list(scheduler), scheduler._members.all_requirements)


def ranks_of(scheduler: BaseScheduler) -> dict[AnyJob, float]:
    """Return the rank of each member: the expected duration of the longest path from its start to the end of the graph.

    Ranks are in seconds. Members of unknown duration are assumed to take as long as `median_duration` returns.

    The policy "critical-path" starts jobs in the order of their ranks; see `Outlook.rank`. Takes O(V + E) time.
    """
    durations = expected_durations(scheduler)
    default = median_duration(durations.values())
    return longest_path_lengths(members_in_order(scheduler), scheduler._members.all_requirements, durations, default)


# ---- for journals

SERVICE: Final = object()
"""A placeholder for the result of a service, which a journal neither stores nor compares, as services run each time."""


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


def budget_use(job: AnyJob) -> dict[str, float]:
    """Return the amounts of budgets that a job which is about to settle has used in all its attempts, by name."""
    return {name: _amounts.as_number(amount) for name, amount in budgets_used(job).items()}


def counted_state(scheduler: BaseScheduler, job: AbstractJob[Any]) -> ReportedState | None:
    """Return the state as which a journal and a look count a job; None for what is no job of the user's."""
    return scheduler._counted_state(job)


def all_counts(scheduler: BaseScheduler) -> Mapping[JobState, int] | None:
    """Return the number of jobs by state, as the scheduler itself has counted them, or None if it has not."""
    return scheduler._all_counts()


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
