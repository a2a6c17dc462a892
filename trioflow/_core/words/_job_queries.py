"""Functions on jobs and schedulers for views, journals, simulations and explorations, beside the public attributes.

They are functions, because a user-defined job class may use any other attribute name without a leading underscore.
Any thread may call them. In another thread than the run's, their results may be slightly out of date.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from ..admission import _policies, _resource
from ..base import _amounts
from ..base._graph_algorithms import longest_path_lengths, topological_order
from ..base._states import (
    BLOCKED,
    CANCELLED,
    FAILED,
    IDLE,
    MOVED_ON,
    RUNNING,
    SCHEDULED,
    SKIPPED,
    SUCCEEDED,
    JobState,
    ReportedState,
)
from ..base._text_forms import clause
from ..job import _requirements
from ..job._ancestors import enclosing_schedulers
from ..job._errors import BudgetSpent, Failure, RequirementFailed
from ..job._following import counted_requirements as counted_requirements
from ..job._function import FunctionJob, unwrap_partial
from ..job._job import (
    AnyJob,
    FailedAttempt,
    Restoration,
    RunExtras,
    Throttling,
    has_moved_on,
    is_scheduler,
    with_members,
)
from ..job._job_options import RUN_RESOURCES, BoxStyle, OptionRecord
from ..run._questions import is_needed as is_needed
from ..run._run import Incident

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from ..scheduler._base_scheduler import BaseScheduler


def explicit_label(job: AnyJob) -> str | None:
    """Return the label that the user set, or None if the job has a default label, which shows its arguments.

    Example:
        >>> explicit_label(ThreadJob(print, 1, label="shown")), explicit_label(CommandJob(["echo", "1"]))
        ('shown', None)

    """
    return job._label


def fraction_done(job: AnyJob) -> float | None:
    """Return the last fraction, from 0 to 1, that a job's latest call passed to `progress()`, or None."""
    return (job._extras or RunExtras).fraction


def inputs_of(job: AnyJob) -> tuple[AnyJob, ...]:
    """Return the inputs of a job: the jobs among its arguments, which are replaced by their results."""
    return job._inputs


def criticality(job: AnyJob) -> bool | None:
    """Return the effective value of `critical`: the job's own, or the value of the nearest `critical_jobs` around it.

    True: a failure of the job ends the run of its scheduler at once. False: it is tolerated. None: it fails the run.
    """
    return job._criticality()


def incidents_of(scheduler: BaseScheduler) -> tuple[Incident, ...]:
    """Return the incidents of the last run: events other than outcomes of jobs, e.g. an exception in `co_shutdown`."""
    return tuple(scheduler._incidents)


def culprit_chain(scheduler: BaseScheduler) -> list[AnyJob]:
    """Return the member that stopped a run and, if it is a nested scheduler, the culprit of its run, and so on."""
    chain: list[AnyJob] = []
    culprit = scheduler.culprit
    while culprit is not None:
        chain.append(culprit)
        culprit = culprit.culprit if is_scheduler(culprit) else None
    return chain


def is_one_job(job: AnyJob) -> bool:
    """Return whether a job counts as a job: no scheduler does, except a `First`, whose jobs are ways to do the same."""
    return not is_scheduler(job) or job._enough is not None


def jobs_of_run(scheduler: BaseScheduler) -> Iterator[AnyJob]:
    """Iterate over the jobs at any depth, as `iterate_jobs` does. A nested `First` counts as a single job.

    All views count the jobs among these that `is_one_job` accepts.
    """
    return scheduler._members.iterate(lambda nested: not is_one_job(nested))


def is_cut_off(job: AnyJob) -> bool:
    """Return whether the end of its run has cancelled a job, and not its own `cancel()`."""
    return job._state is CANCELLED and not job._outcome.is_alone


def jobs_cut_off(scheduler: BaseScheduler) -> Iterator[AnyJob]:
    """Iterate over the jobs at any depth that the end of a run has cancelled, but not in groups that ended before."""
    return filter(is_cut_off, scheduler._members.iterate(is_cut_off))


def ordinary_jobs(scheduler: BaseScheduler) -> list[AnyJob]:
    """Return the jobs that views count, without forever jobs."""
    return [
        job for job in jobs_of_run(scheduler) if is_one_job(job) and not job.forever
    ]


def running_jobs(scheduler: BaseScheduler) -> list[AnyJob]:
    """Return the jobs that views count, and that run."""
    jobs = ordinary_jobs(scheduler)
    return [job for job in jobs if reported_state(job) is RUNNING]


def groups_of_run(scheduler: BaseScheduler) -> list[BaseScheduler]:
    """Return a scheduler, and those nested in it at any depth whose jobs count as jobs of its run."""
    groups = [scheduler]
    for job in jobs_of_run(scheduler):
        if is_scheduler(job) and not is_one_job(job):
            groups.append(job)
    return groups


def is_in_first(job: AnyJob, root: BaseScheduler) -> bool:
    """Return whether a job in `root` is in a nested `First`, at any depth, so that `jobs_of_run(root)` omits it."""
    for enclosing in enclosing_schedulers(job):
        if enclosing is root:
            return False
        if is_one_job(enclosing):
            return True
    return False


def failed_through_member(job: AnyJob) -> bool:
    """Return whether a FAILED job is a nested scheduler, not a `First`, that failed because of one of its own jobs.

    If it is BLOCKED, its culprit is one of an earlier run.
    """
    if job._state is BLOCKED or not is_scheduler(job) or is_one_job(job):
        return False
    culprit = job.culprit
    return culprit is not None and culprit.raised_exception() is not None


def failed_by_itself(job: AnyJob) -> bool:
    """Return whether a job FAILED and, if it is a nested scheduler, not because of one of its own jobs."""
    return job._state is FAILED and not failed_through_member(job)


def has_own_failure(job: AnyJob) -> bool:
    """Return whether a job has failed by itself, or a spent budget has kept it from running."""
    return failed_by_itself(job) or lacked_budget(job)


def is_failed_group(job: AnyJob) -> bool:
    """Return whether a job is a nested scheduler, not a `First`, whose failure no job in it shows."""
    return not is_one_job(job) and has_own_failure(job)


def failure_count(scheduler: BaseScheduler) -> int:
    """Return how many jobs at any depth, and groups by themselves, have failed, without tolerated failures."""
    count = 0
    for job in jobs_of_run(scheduler):
        if failed_by_itself(job) and job._criticality() is not False:
            count += 1
    return count


def lacked_budget(job: AnyJob) -> bool:
    """Return whether a job, or each job of a `First`, is BLOCKED because a budget is spent, not by another job."""
    is_possible = job._state is BLOCKED or (job._state is FAILED and is_scheduler(job))
    return is_possible and isinstance(job.raised_exception(), BudgetSpent)


def root_failure(job: AnyJob) -> AnyJob:
    """Return the job whose failure has blocked a job, or the job itself if no other job has blocked it."""
    if job._state is BLOCKED:
        error = job.raised_exception()
        if isinstance(error, RequirementFailed):
            return error._root
    return job


def first_cause(job: AnyJob) -> AnyJob:
    """Return the job whose failure, over others and in groups, kept a job from running or failed a group, or itself."""
    while True:
        around = (job, *enclosing_schedulers(job))
        blocked = (each for each in around if each._state is BLOCKED)
        cause: AnyJob | None = root_failure(next(blocked, job))
        if is_scheduler(cause) and failed_through_member(cause):
            cause = cause.culprit
        if cause is None or cause is job:
            return job
        job = cause


def has_skipped_itself(job: AnyJob) -> bool:
    """Return whether a job SUCCEEDED without its work, because its unreachable node has `on_unreachable="skip"`."""
    return job._state is SUCCEEDED and bool(job._skip_reason())


def reported_state(job: AnyJob) -> ReportedState:
    """Return the state of a job as all reports show it: its `state`, unless it SUCCEEDED without its whole work.

    A job with `on_timeout="move_on"` that its timeout ended is "moved on". A job of a node that was skipped is
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
        return SKIPPED
    if job._state is RUNNING and is_scheduler(job) and is_one_job(job):
        for member in job.iterate_jobs():
            if member._state is RUNNING and not is_scheduler(member):
                return RUNNING
        return SCHEDULED
    return MOVED_ON if has_moved_on(job) else job.state


CountKey: TypeAlias = tuple[ReportedState, bool, bool]
"""A key of counts of jobs: the state, whether it is a forever job, and whether its failure is tolerated."""


def count_key(job: AnyJob) -> CountKey:
    """Return the key under which a job is counted, wherever jobs are counted by state."""
    return reported_state(job), job._options.forever, job._criticality() is False


def failed_attempts(job: AnyJob) -> tuple[FailedAttempt, ...]:
    """Return the last failed attempts that were or will be followed by another attempt."""
    return (job._extras or RunExtras).failed_attempts


def last_failure(job: AnyJob) -> str:
    """Return the error of the last attempt, ", after OSError: broken", or "" if it did not fail: the job runs again."""
    attempts = failed_attempts(job)
    return clause(", after {}", attempts and attempts[-1].error)


def throttled_attempts(job: AnyJob) -> tuple[Throttling, ...]:
    """Return the attempts that raised `Throttled`, each with the keys of the resources that it throttled."""
    return (job._extras or RunExtras).throttlings


def begun_attempts(job: AnyJob) -> int:
    """Return how many attempts of a job have begun. Its `attempts` leave out those that raised `Throttled`."""
    return job.attempts + len(throttled_attempts(job))


def box_of(job: AnyJob) -> BoxStyle:
    return job._box


def is_service(job: AnyJob) -> bool:
    """Return whether a job is a service: a forever job that reports its readiness, so that others may require it."""
    return job._is_service


def settled_only_for(job: AnyJob) -> list[AnyJob]:
    """Return the jobs that `requires(..., settled=True)` has made requirements of a job. None is an input."""
    return _requirements.flagged(job._required, _requirements.SETTLED_ONLY)


def is_kept_from_running(job: AnyJob) -> bool:
    """Return whether a job would not run if all succeed that it waits for."""
    settled = [each for each in job._required if each._state.is_settled]
    if job.run_if == "failed" and not any(map(_requirements.has_failed, settled)):
        return True
    stops = _requirements.blocking_requirements(job)
    stops += [each for each in job._inputs if each._state is JobState.SKIPPED]
    return any(each in settled for each in stops)


def cut_requirements(job: AnyJob) -> Collection[AnyJob]:
    """Return the requirements that a job has lost because `keep_only` has removed them from its scheduler."""
    if job._scheduler is None:
        return ()
    return job._scheduler._members.cut_requirements.get(job, ())


def has_cut_requirements(job: AnyJob) -> bool:
    """Return whether a job, or a scheduler around it, has lost requirements because of `keep_only`."""
    return any(map(cut_requirements, (job, *enclosing_schedulers(job))))


def is_cut(scheduler: BaseScheduler) -> bool:
    """Return whether `keep_only` has removed jobs from a scheduler, at any depth."""
    return any(
        is_scheduler(job) and job._members.is_cut for job in with_members(scheduler)
    )


def is_ready(job: AnyJob) -> bool:
    """Return whether a job is a service that is ready and still running."""
    return job._is_ready()


def ready_at(job: AnyJob) -> float | None:
    """Return the time when a service became ready in its last run, or None for other jobs, or if it never was."""
    return (job._extras or RunExtras).ready_at


def end_facts(job: AnyJob) -> tuple[JobState, float | None, float | None, bool]:
    """Return the facts about a settled job that each view needs. A single call is faster than four.

    Returns:
        The job's state, when it started, when it settled, and whether there are no further facts: the job SUCCEEDED,
        runs no command, and has no `RunExtras`.

    """
    state = job._state
    is_complete = (
        state is SUCCEEDED
        and job._extras is None
        and not (job._runs_commands or job._is_scheduler)
    )
    started_at = job._started_at
    if not is_complete:
        started_at = job.started_at
        if has_skipped_itself(job):
            state = SKIPPED
    return state, started_at, job._finished_at, is_complete


def failure_of(job: AnyJob) -> Failure | None:
    """Return the exception of a FAILED or BLOCKED job with its first traceback, or None for other jobs.

    The traceback that the exception itself holds grows with each call of `result()`.
    """
    outcome = job._outcome
    return outcome if type(outcome) is Failure else None


def stored_result(job: AnyJob) -> Any:
    """Return the result of a job that has succeeded, as the engine stores it.

    For a value that stays in another process, this is its placeholder: `result()` fetches the value, which may be slow.
    """
    return job._outcome


def latest_start(job: AnyJob) -> float | None:
    """Return when the last attempt of a job started, or None if it waits for the next, or has not started."""
    return job._started_at


def attempt_mark(job: AnyJob) -> str:
    """Return what tells an attempt of a job from the others of a run: its number, and those of the groups around it.

    Between two attempts, it is the number of the next. An attempt that was throttled does not count.
    """
    own = (
        each
        for each in (job, *enclosing_schedulers(job))
        if each._scheduler is not None
    )
    return ".".join(str(1 + (each._extras or RunExtras).retry_count) for each in own)


def keeps_succeeded(scheduler: BaseScheduler) -> bool:
    """Return whether a nested scheduler is tried again, and its run keeps the jobs that succeeded in the run before."""
    return (scheduler._extras or RunExtras).keeps_succeeded


def is_about_to_run_anew(job: AnyJob) -> bool:
    """Return whether a job, which is being cancelled, or has just been, will be IDLE again in a later turn."""
    return (job._extras or RunExtras).repeats is not None


def note_older_code(jobs: Iterable[AnyJob], codes: Mapping[object, object]) -> None:
    """Note the first code of the attempts of jobs whose functions have got another: `codes` has the old by the new."""
    for job in jobs:
        code = _code_of(job)
        if code in codes and (job._extras or RunExtras).first_code[0] != job.attempts:
            job._ensure_extras().first_code = job.attempts, codes[code]


def _code_of(job: AnyJob) -> object:
    import inspect

    called = unwrap_partial(getattr(job, "_function", None))
    return getattr(inspect.unwrap(called), "__code__", None)


def has_older_code(job: AnyJob) -> bool:
    """Return whether a job has succeeded with another code than its function has now, and is not about to run anew."""
    attempt, code = (job._extras or RunExtras).first_code
    is_older = (
        job._state is SUCCEEDED and attempt == job.attempts and code != _code_of(job)
    )
    return is_older and not is_about_to_run_anew(job)


def end_times(job: AnyJob) -> list[float]:
    """Return when a job has settled in this run, once for each of its ends."""
    times = [attempt.ended for attempt in failed_attempts(job) if attempt.had_settled]
    if job._finished_at is not None:
        times.append(job._finished_at)
    return times


def needs_as_given(job: AnyJob) -> dict[str, Any]:
    """Return the needs of a job for pools as the option `needs` takes them: numbers, amounts by key, or text."""
    needs = job.needs
    for name, need in job._options.needs.items():
        if isinstance(need, str):
            needs[name] = need
    return needs


def run_needs(job: AnyJob) -> dict[str, Any]:
    """Return a job's needs for resources of the run itself, as opposed to a pool, by name, or empty for most kinds."""
    return {
        name: amount
        for name, amount in job._options.needs.items()
        if name in RUN_RESOURCES
    }


def find_run_resource(
    scheduler: BaseScheduler, name: str
) -> tuple[BaseScheduler, int, bool]:
    """Find the scheduler whose jobs, at any depth, share a resource of the run itself.

    Args:
        scheduler: the scheduler of a job that needs the resource. The search goes outwards from here.
        name: the name passed to `declare_run_resource`.

    Returns:
        The scheduler, the total of the resource, and whether it has a gate.

    """
    declared = RUN_RESOURCES[name]
    schedulers = [scheduler, *enclosing_schedulers(scheduler)]
    owner = next(
        (each for each in schedulers if name in each._run_resource_totals()),
        schedulers[-1],
    )
    total = owner._run_resource_totals().get(name)
    has_gate = declared.find_gate is not None and owner._opens_gates
    if total is None:
        total = declared.total()
    return owner, total, has_gate


def runs_commands(job: AnyJob) -> bool:
    """Return whether a job runs commands, and so has a `last_result`."""
    return job._runs_commands


def command_line_of(job: AnyJob) -> str:
    """Return the command line of a job that runs commands. With `redact=True`, return the text that replaces it."""
    # Only kinds that run commands have this method.
    command: Any = job
    return str(command._command_line())


def output_tails(job: AnyJob, size: int) -> Iterable[tuple[str, bytes]]:
    """Return the end of each output of the command that a job runs, as far as this program or a file has it.

    Any thread may call this. For a job with `redact=True`, return nothing.
    """
    # Only kinds that run commands have it, while a command runs.
    streams: Any = getattr(job, "_open_streams", None)
    if streams is None or job.redact:
        return ()
    tails: Iterable[tuple[str, bytes]] = streams.tails(size)
    return tails


OutputStream: TypeAlias = Literal["stdout", "stderr"]
OUTPUT_STREAMS: Final[tuple[OutputStream, ...]] = "stdout", "stderr"


def captured_outputs(
    result: Any, max_bytes: int
) -> Iterator[tuple[OutputStream, str, int]]:
    """Yield the ends of the captured outputs of a command, without reading all of them into memory.

    Args:
        result: the `last_result` of a job that runs commands, or None.
        max_bytes: the maximum length of each end.

    Returns:
        The name of each stream that was captured and has output, its end, and the number of bytes before that.

    """
    if result is None:
        return
    for stream in OUTPUT_STREAMS:
        with contextlib.suppress(ValueError), result.open(stream) as file:
            # ValueError: it was not captured.
            skipped_bytes = file.seek(max(0, file.seek(0, os.SEEK_END) - max_bytes))
            if text := file.read().decode("utf-8", errors="backslashreplace"):
                yield stream, text, skipped_bytes


def unkept_outputs(job: AnyJob) -> list[str]:
    """Return the names of the outputs that the command of a job writes to the terminal or the log of this program."""
    streams: Any = getattr(job, "_open_streams", None)
    return getattr(streams, "unkept", list)()


Question = tuple[str, list[str] | None, bool, str, int]
"""A question to a person, the texts that it accepts (None for any), whether it is secret, the last refusal, and its
number: how many different questions the job has asked."""


def question_of(job: object) -> Question | None:
    """Return the question of a job that waits for the answer, or None for other jobs. Any thread may call this."""
    return getattr(job, "_open_question", lambda: None)()


def runs_outside_loop(job: AnyJob) -> bool:
    """Return whether a job works outside of the event loop, in a thread or a process, and so takes real time."""
    return job._runs_commands or (
        isinstance(job, FunctionJob) and job._calls_in is not None
    )


def has_hard_timeout(job: AnyJob) -> bool:
    """Return whether a job has a timeout that may end its body at any checkpoint, not only where its kind allows it."""
    return (job.timeout is not None or job.idle_timeout is not None) and (
        is_scheduler(job) or not job._keeps_time
    )


# ---- the members of a scheduler


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


def all_requirements(scheduler: BaseScheduler, job: AnyJob) -> list[AnyJob]:
    """Return the members of `scheduler` that must settle before `job` may start, even if they have settled already.

    These are the requirements of `job`, and the members that contain an input of `job` or of a job nested in it.
    """
    return scheduler._members.all_requirements(job)


def dropped_counts(scheduler: BaseScheduler) -> Iterator[tuple[CountKey, int]]:
    """Yield how many jobs `keep_jobs=False` has removed, by their keys of `count_key`."""
    for group in groups_of_run(scheduler):
        # Copied in one step, because the run goes on to drop jobs.
        yield from dict(group._members.dropped.counts).items()


def expected_durations(
    scheduler: BaseScheduler, jobs: Iterable[AnyJob] | None = None
) -> dict[AnyJob, float]:
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

    The policy "critical-path" starts jobs in the order of their ranks. Takes O(V + E) time.
    """
    durations = expected_durations(scheduler)
    default = _policies.median_duration(durations.values())
    return longest_path_lengths(
        members_in_order(scheduler),
        scheduler._members.all_requirements,
        durations,
        default,
    )


def counted_state(scheduler: BaseScheduler, job: AnyJob) -> ReportedState | None:
    """Return the state as which a journal and a look count a job, or None if it is no job of the user's."""
    return scheduler._counted_state(job)


def all_counts(scheduler: BaseScheduler) -> Mapping[JobState, int] | None:
    """Return the number of jobs by state, as the scheduler itself has counted them, or None if it has not."""
    return scheduler._all_counts()


# ---- for journals


def reason_not_restored(job: AnyJob) -> str | None:
    """Return the reason why the journal did not restore a job, or None if it was restored, or there is no journal."""
    return (job._extras or RunExtras).not_restored_reason


def rerun_cause(job: AnyJob) -> str | None:
    """Return the first change that makes a job run again, though the journal has it, or None if there is none.

    There is none of a job that waits to be decided anew, after another try of what it requires.
    """
    if job._state is IDLE:
        return None
    return (job._extras or RunExtras).rerun_cause


def restoration_of(job: AnyJob) -> Restoration | None:
    """Return the facts that the journal has about a job that it restored, or None if it did not restore the job.

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
    restoration = (job._extras or RunExtras).restoration
    if restoration is None and is_scheduler(job):
        return _restoration_of_first(job)
    return restoration


def _restoration_of_first(scheduler: BaseScheduler) -> Restoration | None:
    """Return the last winner's restoration if a `First` has succeeded with restored results alone, otherwise None."""
    if not is_one_job(scheduler) or scheduler._state is not SUCCEEDED:
        return None
    last = None
    for job in scheduler.iterate_jobs():
        if job._state is SUCCEEDED and is_one_job(job):
            last = restoration_of(job)
            if last is None:
                return None
    return last


SERVICE: Final = object()
"""A placeholder for the result of a service, which a journal neither stores nor compares, as services run each time."""


def always_runs(job: AnyJob) -> bool:
    """Return whether a journal never stores the result of a job: a scheduler, a service, or another forever job."""
    return job._is_scheduler or job._options.forever


def result_for_journal(job: AnyJob) -> Any:
    """Return the stored result of a job that succeeded, or DROPPED if it was dropped, or SERVICE for a service."""
    return SERVICE if job._is_service else job._outcome


def options_of(job: AnyJob) -> OptionRecord:
    """Return the record of a job's options: to read several of them takes a tenth of the time."""
    return job._options


def was_added_during_run(job: AnyJob) -> bool:
    """Return whether a job was added to its scheduler during the run in progress, so that its path may differ."""
    return (
        job._scheduler is not None
        and job in job._scheduler._members.jobs_added_during_run
    )


def is_known_by_call(job: AnyJob) -> bool:
    """Return whether a job added during a run is identified by its call: it has no label, or `map` made the label."""
    return job._label is None or (job._extras or RunExtras).is_known_by_call


def budget_use(job: AnyJob) -> dict[str, float]:
    """Return the amounts of budgets that a job, or its record, has used in all attempts that have begun, by name."""
    extras = job._extras or RunExtras
    if extras.restoration is not None:
        return dict(extras.restoration.used)
    has_begun = job._state is not SCHEDULED
    if has_begun:
        used = _resource.budgets_used(job)
    else:
        used = extras.earlier_use or {}
    return {name: _amounts.as_number(amount) for name, amount in used.items()}
