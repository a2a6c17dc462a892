"""Functions on jobs for views, journals and explorations, in addition to the jobs' public attributes.

They are functions, because a user-defined job class may use any other attribute name without a leading underscore.
Any thread may call them; in another thread than that of the run, their results may be slightly out of date.
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, TypeAlias

from ..base._states import MOVED_ON, SUCCEEDED, JobState, ReportedState
from ..job._ancestors import enclosing_schedulers
from ..job._errors import BudgetSpent, RequirementFailed
from ..job._job import AnyJob, has_moved_on, is_scheduler
from ..job._outcome import FailedAttempt, Throttling

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..run._run import Incident
    from ..scheduler._base_scheduler import BaseScheduler


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


def inputs_of(job: AnyJob) -> tuple[AnyJob, ...]:
    """Return the inputs of a job: the jobs among its arguments, which are replaced by their results."""
    return job._inputs


def criticality(job: AnyJob) -> bool | None:
    """Return the effective value of `critical`: the job's own, or that of the nearest `critical_jobs` around it.

    True: a failure of the job ends the run of its scheduler at once. False: it is tolerated. None: it fails the run.
    """
    return job._criticality()


def incidents_of(scheduler: BaseScheduler) -> tuple[Incident, ...]:
    """Return the incidents of the last run: events other than outcomes of jobs, e.g. an exception in `co_shutdown`."""
    return tuple(scheduler._incidents)


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
    """Iterate over the jobs at any depth, as `iterate_jobs` does, but not those in a nested `First`, which is one job.

    Of these, the ones that `is_one_job` accepts are the jobs that all views count.
    """
    return scheduler._members.iterate(lambda nested: not is_one_job(nested))


def groups_of_run(scheduler: BaseScheduler) -> list[BaseScheduler]:
    """Return a scheduler, and those nested in it at any depth whose jobs count as jobs of its run."""
    return [scheduler, *(job for job in jobs_of_run(scheduler) if is_scheduler(job) and not is_one_job(job))]


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


def has_own_failure(job: AnyJob) -> bool:
    """Return whether a job has failed by itself, or a spent budget has kept it from running."""
    return failed_by_itself(job) or lacked_budget(job)


def is_failed_group(job: AnyJob) -> bool:
    """Return whether a job is a nested scheduler, not a `First`, whose failure no job in it shows."""
    return not is_one_job(job) and has_own_failure(job)


def lacked_budget(job: AnyJob) -> bool:
    """Return whether a job, or each job of a `First`, is BLOCKED because a budget is spent, not by another job."""
    is_possible = job._state is JobState.BLOCKED or (job._state is JobState.FAILED and is_scheduler(job))
    return is_possible and isinstance(job.raised_exception(), BudgetSpent)


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
    return MOVED_ON if has_moved_on(job) else job.state


CountKey: TypeAlias = tuple[ReportedState, bool, bool]
"""What counts of jobs distinguish: the state, whether it is a forever job, and whether its failure is tolerated."""


def count_key(job: AnyJob) -> CountKey:
    """Return the key under which a job is counted, wherever jobs are counted by state."""
    return reported_state(job), job._options.forever, job._criticality() is False


def failed_attempts(job: AnyJob) -> tuple[FailedAttempt, ...]:
    """Return the last attempts that failed, and after which the job was or will be attempted again."""
    return () if job._extras is None else job._extras.failed_attempts


def throttled_attempts(job: AnyJob) -> tuple[Throttling, ...]:
    """Return the attempts that raised `Throttled`, each with the keys of the resources that it throttled."""
    return () if job._extras is None else job._extras.throttlings
