"""Facts about a job for views, journals and explorations, besides its public attributes.

These are functions, because a user's job may have any attribute without a leading underscore. Each of them only
reads. Another thread may call it; what it sees may be a moment old.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ..base._states import SUCCEEDED
from ._ancestors import enclosing_schedulers
from ._function import FunctionJob
from ._job import is_scheduler
from ._job_options import RUN_RESOURCES
from ._outcome import Failure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..base._amounts import AmountSpec
    from ..base._states import JobState
    from ..scheduler._base_scheduler import BaseScheduler
    from ._job import AbstractJob, AnyJob, BoxStyle
    from ._job_options import SlowPathOptions
    from ._outcome import Throttling

SERVICE: Final = object()
"""A placeholder for the value of a service: a service runs in each run, and its value may be anything."""


def given_label(job: AnyJob) -> str | None:
    """Return the label that the user gave to a job; None if it has a default label, which shows its arguments.

    Example:
        >>> given_label(ThreadJob(print, 1, label="shown")), given_label(CommandJob(["echo", "1"]))
        ('shown', None)

    """
    return job._label


def box_of(job: AnyJob) -> BoxStyle:
    """Return the style of this kind of job in pictures and legends."""
    return job._box


def is_service(job: AnyJob) -> bool:
    """Return whether a job is a service: a forever job that may be required, since it reports when it is ready."""
    return job._is_service


def inputs_of(job: AnyJob) -> tuple[AnyJob, ...]:
    """Return the inputs of a job: the jobs whose results are its arguments."""
    return () if job._rule is None else job._rule.inputs


def may_repeat(job: AnyJob) -> bool:
    """Return whether one run may call the job more than once, because of its retries or restarts."""
    return job._may_repeat()


def is_ready(job: AnyJob) -> bool:
    """Return whether a job is a service that is ready, and still runs."""
    return job._is_ready()


def ready_at(job: AnyJob) -> float | None:
    """Return the time at which a service became ready in its last run, or None."""
    return None if job._extras is None else job._extras.ready_at


def end_facts(job: AnyJob) -> tuple[JobState, float | None, float | None, bool]:
    """Return the end of a job in one call, which is faster than four.

    Returns:
        Its state, when it started, when it settled, and whether this is all: the job SUCCEEDED at the first attempt,
        and ran no command.

    """
    state = job._state
    is_all = state is SUCCEEDED and job._extras is None and not job._runs_commands
    return state, job._started_at, job._finished_at, is_all


def failure_of(job: AnyJob) -> Failure | None:
    """Return the failure of a FAILED or BLOCKED job: the exception with its first traceback; otherwise None.

    The traceback of the exception itself grows with each `result()`.
    """
    outcome = job._outcome
    return outcome if isinstance(outcome, Failure) else None


def stored_result(job: AnyJob) -> Any:
    """Return the stored result of a job that has succeeded; a remote value is represented by its placeholder.

    The `result()` of its kind may fetch that value, which may be slow.
    """
    return job._outcome


def throttled(job: AnyJob) -> tuple[tuple[float, float], ...]:
    """Return the begin and end of each attempt that raised `Throttled`, and so does not count."""
    return tuple((attempt.began, attempt.ended) for attempt in throttled_attempts(job))


def throttled_attempts(job: AnyJob) -> tuple[Throttling, ...]:
    """Return the attempts that do not count, each with the keys that it closed."""
    return () if job._extras is None else job._extras.throttled


def run_needs(job: AnyJob) -> dict[str, AmountSpec]:
    """Return the needs of a job for resources of the run itself, by name; empty for most kinds."""
    return {name: amount for name, amount in job._needs().items() if name in RUN_RESOURCES}


def run_resource_totals(scheduler: BaseScheduler) -> Mapping[str, int]:
    """Return the totals of the run's own resources that the members of a scheduler do not share with others."""
    return scheduler._run_resource_totals()


def run_resource(scheduler: BaseScheduler, name: str) -> tuple[BaseScheduler, int]:
    """Return the scheduler whose members, at any depth, share a resource of the run itself, and its total."""
    for around in (scheduler, *enclosing_schedulers(scheduler)):
        scheduler = around
        if name in (totals := around._run_resource_totals()):
            return around, totals[name]
    return scheduler, RUN_RESOURCES[name]()


def call_place(job: AnyJob) -> tuple[str, int] | None:
    """Return the place that made the call of a job in its last run, and how many calls that makes at once."""
    return None if job._extras is None else job._extras.call_place


def machine_waits(job: AnyJob) -> tuple[tuple[float, float], ...]:
    """Return the times at which a job ran, but waited for room on the machine."""
    return () if job._extras is None else job._extras.machine_waits


def reason_not_restored(job: AnyJob) -> str | None:
    """Return the reason why a journal did not restore a job; None if it did, or if there was no journal."""
    return None if job._extras is None else job._extras.not_restored


def runs_commands(job: AnyJob) -> bool:
    """Return whether a job runs commands, so that it has a `last_result`."""
    return job._runs_commands


def command_line_of(job: AnyJob) -> str:
    """Return the command line of a job that runs commands, without secrets."""
    command: Any = job  # only kinds that run commands have this
    return str(command._command_line())


def always_runs(job: AbstractJob[Any]) -> bool:
    """Return whether a job runs in each run despite a journal: a scheduler, a service, or another forever job."""
    return job._is_scheduler or job._forever


def result_for_journal(job: AbstractJob[Any]) -> Any:
    """Return the result of a job that has succeeded; DROPPED if it was dropped, and SERVICE for a service."""
    return SERVICE if job._is_service else job._outcome


def journal_options(job: AbstractJob[Any]) -> SlowPathOptions | None:
    """Return a job's options for a journal; None if all are defaults. Ten times as fast as the options themselves."""
    return job._slow_path


def runs_outside_loop(job: AbstractJob[Any]) -> bool:
    """Return whether a job works outside of the event loop, in a thread or a process: so in real time."""
    return job._runs_commands or (isinstance(job, FunctionJob) and job._calls_in is not None)


def has_hard_timeout(job: AnyJob) -> bool:
    """Return whether a job has a timeout that ends its body at any point, not only where its kind checks."""
    return (job.timeout is not None or job.idle_timeout is not None) and (is_scheduler(job) or not job._keeps_time)


def run_scope(job: AnyJob) -> object:
    """Return the cancel scope around a job whose deadline can only be that of its run; None if there is none.

    With plain isolation each worker has such a scope, and on asyncio each such scope has a timer.
    """
    has_own_deadline = not is_scheduler(job) and (job.timeout is not None or job.idle_timeout is not None)
    return None if job._worker is None or has_own_deadline else job._worker.scope
