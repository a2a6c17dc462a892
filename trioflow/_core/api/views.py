# pyright: reportUnusedImport=false
"""A run, its scheduler and its jobs, to look at: what views, simulations and instruments read.

What users read of a job is here too, under its public names: `job.state`, `job.started_at`, `job.path`, ... The
functions below add what these do not say. Each of them only reads. A thread beside the run may call all but those of
the section "before a run", and sees what was true a moment ago.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, final

from ..backend import LOOP_PACKAGES, BackendName
from ..base._amounts import Amount, amount_of, is_size, shown_amount
from ..base._graph import backlinks, find_cycle, longest_paths, reachable, topological_order
from ..base._log import warn
from ..base._shown import beginning, headline, is_among, shown
from ..base._states import HOW_RUNS_END, SUCCEEDED, JobState, OnTimeout, RunIf, RunPhase, StopReason
from ..base._units import duration_text, durations_in_column, size_text
from ..base._waits import WaitCause, Waiting
from ..job._around import is_inside, outermost, outwards
from ..job._errors import CycleError
from ..job._function import Job
from ..job._job import AbstractJob, AnyJob, Look, is_scheduler
from ..job._labels import paths_of, percent, printable, shortened, without_middle
from ..job._options import duration, file_path, flag, whole
from ..job._outcome import DROPPED, Failure, Throttling
from ..job._service import Service
from ..limits._pool import Pool
from ..limits._rate import Rate
from ..limits._resource import Stock
from ..limits._window import Adaptive, JobserverStyle
from ..limits._window import slots as slots_of
from ..limits._window import window as checked_window
from ..limits.policy._given import checked as checked_policy
from ..limits.policy._given import name_of_policy
from ..limits.policy._named import PolicyName
from ..limits.policy._outlook import usual as usual_duration
from ..limits.policy._policy import Outlook, Policy
from ..run._durable import NOT_KEPT, NOT_THERE
from ..run._observers import Instrument
from ..run._run import Run
from ..scheduler import _checks
from ..scheduler._checks import _check_one_shot as check_one_shot
from ..scheduler._checks import (
    check_late_input,
    check_may_run,
    check_needs,
    check_requirement,
    common,
    refuse_shared_pools,
)
from ..scheduler._explain import still_waits_for, waiting
from ..scheduler._failures import failed_through_member
from ..scheduler._plain_code import in_cell
from ..scheduler._scheduler import BaseScheduler, Incident

if TYPE_CHECKING:
    from ..limits._resource import Resource
    from ..limits._window import Window

# ---- a run


@final
class RunView:
    """A run that is under way, to look at; see `current_run`."""

    __slots__ = ("_run",)

    def __init__(self, run: Any) -> None:  # a `Run`, whose type is no part of what users see
        self._run: Final[Run] = run

    @property
    def clock(self) -> Callable[[], float]:
        """Returns the time now, in seconds: on the clock of `job.started_at`."""
        return self._run.clock

    @property
    def phase(self) -> RunPhase:
        """How far it is: being checked, being prepared, running, draining or stopping."""
        return self._run.phase

    @property
    def reason(self) -> StopReason | None:
        """Why it stops; None while it is not yet known how it will end."""
        return self._run.reason

    @property
    def window(self) -> int | None:
        """The most jobs that its window ever lets run at once; None for no limit. Now it is `scheduler.window_size`."""
        return self._run.slots

    @property
    def backend(self) -> str:
        """The name of its backend: "trio" or "asyncio"."""
        return self._run.backend.name

    @property
    def has_limiter(self) -> bool:
        """Whether its window is a limiter, of which others may have tokens too."""
        return self._run.workers.limiter is not None

    @property
    def tokens_taken(self) -> int | None:
        """How many tokens of its limiter are taken, by whomever; None if its window is not a limiter."""
        limiter: Any = self._run.workers.limiter
        return None if limiter is None else limiter.borrowed_tokens

    @property
    def has_adaptive_window(self) -> bool:
        """Whether the size of its window changes while it runs."""
        return self._run.workers.adapts


def current_run(scheduler: BaseScheduler) -> RunView | None:
    """Return the run of a scheduler that is under way; None if it is not running."""
    run = scheduler._run
    return None if run is None else RunView(run)


# ---- a scheduler and its jobs


def expected_durations(scheduler: BaseScheduler) -> dict[AnyJob, float]:
    """Return how many seconds the members are expected to take in the run that is in progress, as far as that is known.

    What `durations` of the outermost scheduler says goes before the members' own `expected_duration`.
    """
    return scheduler._expected_durations()


def learned_durations(scheduler: BaseScheduler) -> dict[AnyJob, float]:
    """Return the same, for all members, if the run knows more than its members say themselves; otherwise nothing."""
    return scheduler._expected_durations() if scheduler._knows_durations() else {}


def nested_in(scheduler: BaseScheduler) -> list[BaseScheduler]:
    """Return the members that are schedulers, in the order added, without a look at the others."""
    return list(scheduler._members.nested)


def waits_for(scheduler: BaseScheduler, job: AnyJob) -> list[AnyJob]:
    """Return the members of `scheduler` that must settle before `job` may start.

    These are the members that it requires, and those that contain an input of a job nested in it. Members that have
    settled already are among them.
    """
    return scheduler._members.waits_for(job)


def in_order(scheduler: BaseScheduler) -> list[AnyJob]:
    """Return the members, each after those that it waits for; jobs in cycles are left out. O(V + E).

    Unlike `scheduler.topological_order()`, this finds no implied requirements: it goes by those that the last run, or
    `find_implied`, has found.
    """
    return topological_order(list(scheduler), scheduler._members.waits_for)


def ranks_of(scheduler: BaseScheduler) -> dict[AnyJob, float]:
    """Return the seconds of the longest path from the start of each member to an exit: its urgency, for a cluster.

    It is what the policy "critical-path" goes by, and `Outlook.rank`: see there. O(V + E).
    """
    known = expected_durations(scheduler)
    return longest_paths(in_order(scheduler), scheduler._members.waits_for, known, usual_duration(known.values()))


def given_label(job: AnyJob) -> str | None:
    """Return the label that the user gave to a job; None if it has a default label, which shows its arguments.

    Example:
        >>> given_label(ThreadJob(print, 1, label="shown")), given_label(CommandJob(["echo", "1"]))
        ('shown', None)

    """
    return job._label


def look_of(job: AnyJob) -> Look:
    """Return how pictures and legends show this kind of job."""
    return job._look


def is_service(job: AnyJob) -> bool:
    """Return whether a job is a forever job that may be required, because it says when it is ready."""
    return job._is_service


def inputs_of(job: AnyJob) -> tuple[AnyJob, ...]:
    """Return the jobs whose results a job gets as arguments."""
    return () if job._rule is None else job._rule.inputs


def may_repeat(job: AnyJob) -> bool:
    """Return whether one run may call the job more than once, because of its retries or restarts."""
    return job._repeats()


@final
class ResourceView:
    """A resource of a pool, to look at: how much there is of it, and what jobs need of it."""

    __slots__ = ("_resource",)

    def __init__(self, resource: Any) -> None:
        self._resource: Final[Resource] = resource

    @property
    def name(self) -> str:
        """Its name."""
        return self._resource.name

    @property
    def total(self) -> float | None:
        """How much there is of it; None for a `Rate`."""
        return self._resource.total_shown() if self._resource.is_kept else None

    def shown(self, amount: float) -> str:
        """Return an amount in words: of what was given as a size, "1.5 GiB"."""
        return self._resource.shown_as(amount_of(amount, self.name)) if isinstance(self._resource, Stock) else ""

    def seconds_to_come(self, jobs: Iterable[AnyJob]) -> float:
        """Return how long it takes, from a full burst on, until what these jobs need of a `Rate` has come; otherwise 0.

        Of a `Rate`, nobody keeps anything: so much has to come, whatever the order.
        """
        rate = self._resource.settings()
        if not isinstance(rate, Rate):
            return 0.0
        needs = [self._resource.need(job._needs()[self.name], job.label) for job in jobs]
        found = [0.0]
        for key, limit in rate.limits.items():
            total = sum(float(need.get(key, 0)) for need in needs)
            found.append((total - rate.burst[key]) * rate.per / limit)
        return max(found)

    def most_needed(self, jobs: Iterable[AnyJob]) -> dict[str, float]:
        """Return the most that one of these jobs needs of each key of a `Rate`; nothing of other resources."""
        found: dict[str, float] = {}
        for job in jobs if isinstance(self._resource.settings(), Rate) else ():
            for key, amount in self._resource.need(job._needs()[self.name], job.label).items():
                found[key] = max(found.get(key, 0.0), float(amount))
        return found

    def opens_in(self, jobs: Iterable[AnyJob]) -> float:
        """Return after how many seconds so much has come as these jobs need, and it is not throttled; 0 if now."""
        resource = self._resource
        need: Any = None
        for job in jobs:
            one = resource.need(job._needs()[self.name], job.label)
            need = one if need is None else resource.both(1, one, need)
        return 0.0 if need is None else max(0.0, resource.all_taken_at(need) - resource.clock())


def resources_of(pool: Pool) -> list[ResourceView]:
    """Return the resources of a pool."""
    return [ResourceView(resource) for resource in pool._resources.values()]


def copy_of_pool(pool: Pool, change: Callable[[dict[str, Any]], dict[str, Any]] | None = None) -> Pool:
    """Return another pool that has as much in all, or with what `change` makes of its settings."""
    settings = settings_of(pool)
    return Pool(**(settings if change is None else change(settings)))


def settings_of(pool: Pool) -> dict[str, Any]:
    """Return the arguments for a pool that has as much, without the names of things: amounts, and each `Rate`."""
    return pool._settings()


# ---- what becomes of a job


def is_ready(job: AnyJob) -> bool:
    """Return whether a job is a service that has said that it is ready, and still runs."""
    return job._is_ready()


def end_of(job: AnyJob) -> tuple[JobState, float | None, float | None, bool]:
    """Return how a job has settled, for views that note this of each job: one question takes less time than four.

    Returns:
        Its state, when it started, when it settled, and whether this is all: it SUCCEEDED at the first attempt, and ran
        no command.

    """
    state = job._state
    is_all = state is SUCCEEDED and job._facts is None and not job._runs_commands
    return state, job._started_at, job._finished_at, is_all


def is_further_attempt(job: AnyJob) -> bool:
    """Return whether the attempt of a job that runs is not the first that counts."""
    return job._facts is not None and job._facts.further_attempts > 0


def failure_of(job: AnyJob) -> Failure | None:
    """Return how a job failed, or why it was BLOCKED: the exception with its first traceback; otherwise None.

    The exception's own traceback grows with each `result()`.
    """
    outcome = job._outcome
    return outcome if isinstance(outcome, Failure) else None


def kept_of(job: AnyJob) -> Any:
    """Return what a job that has succeeded keeps as its result: where a value is elsewhere, what stands for it.

    The `result()` of its kind may fetch that value, which may take long.
    """
    return job._outcome


def result_was_dropped(job: AnyJob) -> bool:
    """Return whether a job had a result that is gone, because of `keep_result=False`."""
    return job._outcome is DROPPED


def is_given_up(scheduler: BaseScheduler, job: AnyJob) -> bool:
    """Return whether `keep_jobs=False` gives up a settled job, whose shutdown or failure nobody needs."""
    return not scheduler.keep_jobs and scheduler._members.may_drop(job)


def throttled(job: AnyJob) -> tuple[tuple[float, float], ...]:
    """Return when its attempts that do not count began and ended, because it raised `Throttled`."""
    return tuple((one.began, one.ended) for one in throttlings(job))


def throttlings(job: AnyJob) -> tuple[Throttling, ...]:
    """Return its attempts that do not count, each with the keys on which nothing started after it."""
    return () if job._facts is None else job._facts.throttled


def held(job: AnyJob) -> tuple[tuple[float, float], ...]:
    """Return when it ran, but waited for room on the machine."""
    return () if job._facts is None else job._facts.held


def not_restored(job: AnyJob) -> str | None:
    """Return why a journal did not restore a job, in words; None if it did, or if there was no journal."""
    return None if job._facts is None else job._facts.not_restored


def runs_commands(job: AnyJob) -> bool:
    """Return whether a job runs commands, so that it has a `last_result`."""
    return job._runs_commands


def command_line_of(job: AnyJob) -> str:
    """Return what a job that runs commands runs, in one line; what is secret is left out."""
    command: Any = job  # only kinds that run commands have this
    return str(command._command_line())


def status_of(job: AnyJob) -> str:
    """Return what a RUNNING job says of itself now, or which jobs it awaits; nothing if it is secret."""
    if job._state is not JobState.RUNNING:
        return ""
    if not job._says_status or job.redact:
        wait = waiting(job)
        return "" if wait is None else wait.text
    kind: Any = job  # only kinds that say something have this
    try:
        return shortened(str(kind.status_text()))
    except Exception:
        return ""  # a view shows the run, whatever becomes of one of its jobs


def waiting_since(job: AnyJob) -> float | None:
    """Return when a SCHEDULED job began to wait for its turn: on the clock of `job.started_at`.

    That is when it was throttled last, or when the last job that it waited for settled. None if the job is not
    SCHEDULED, or if it waited for nothing, or for a service: then the engine has not noted it.
    """
    scheduler = job._scheduler
    if scheduler is None or job._state is not JobState.SCHEDULED:
        return None
    for _, ended in throttled(job)[-1:]:
        return ended
    moments = [one._finished_at for one in waits_for(scheduler, job)]
    return max((moment for moment in moments if moment is not None), default=None) if None not in moments else None


# ---- before a run; in the thread that builds the scenario


def find_implied(scheduler: BaseScheduler) -> None:
    """Find what members wait for because of the inputs of jobs nested in them; check nothing. O(V + E).

    A run that is under way has found it; then this does nothing, and any thread may call it.
    """
    if all(one._run is None for one in (scheduler, *outwards(scheduler))):
        _checks.imply_all(scheduler._members)


def check_scenario(scheduler: BaseScheduler) -> None:
    """Check a scheduler and all that is nested in it, as each run does. O(V + E).

    Raises:
        CycleError, MissingRequirement, ValueError, RuntimeError: a run would be refused.

    """
    for _ in _checks.check(scheduler._members):
        pass
