"""`simulate`: predicts a run by executing a copy of the scenario on a virtual clock."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import sys
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from .._core.api.views import (
    AnyJob,
    BaseScheduler,
    Instrument,
    Pool,
    ResourceView,
    StopReason,
    all_requirements,
    check_policy,
    check_scenario,
    check_window,
    copy_pool,
    current_run,
    duration_text,
    enclosing_schedulers,
    find_run_resource,
    inputs_of,
    is_scheduler,
    is_service,
    longest_path_lengths,
    max_slots,
    median_duration,
    resource_views,
    run_needs,
    short_repr,
)
from ..clock import virtual_options
from ..view.text._plural import plural
from ..view.trace._trace import Trace
from . import _duration_sources
from ._scenario_copy import NeverSettles, ScenarioCopy, is_limiter

if TYPE_CHECKING:
    from types import EllipsisType

    from .._core.api.views import Policy, PolicyName, Window
    from ._duration_sources import DurationSource

KEEP_WINDOW: Final[Any] = ...
"""The default of `jobs_window`: keep the scheduler's own window."""
THREAD_NAME_PREFIX: Final = "trioflow simulation"
STALL_TIMEOUT: Final = 1e18
"""A virtual time, in seconds, that is later than every event of a simulation."""


@final
@dataclass(frozen=True, eq=False)
class Simulation:
    """The predicted run of a scenario in which each job takes its expected duration."""

    makespan: float
    """The seconds from the start of the run to its end. It usually ends with the last job that is not a forever job."""
    lower_bound: float
    """A number of seconds that no order of the jobs can beat. It follows from the longest path, from the work for the
    slots of the window, or from the work for limited resources, whichever takes longest; or from the earliest time at
    which a timeout can stop the run."""
    critical_path: tuple[AnyJob, ...]
    """The jobs of the longest path. A nested scheduler is replaced by the longest path through it."""
    slack: Mapping[AnyJob, float]
    """The seconds by which each job could take longer without making the longest path longer."""
    utilisation: float | None
    """The fraction of the slots' time that jobs used, from 0 to 1; None if there is no window or the makespan is 0."""
    peak_results: int
    """The maximum number of results kept at the same time. With `keep_result=False`, a result is kept until the last
    job that uses it starts."""
    starts: Mapping[AnyJob, float]
    """The start of each job that started, in seconds from the start of the run."""
    ends: Mapping[AnyJob, float]
    """The end of each job that started, in seconds from the start of the run."""
    stop_reason: StopReason
    """The reason why the run stopped. Timeouts can stop a simulated run, too."""
    timeline: Trace
    """The trace of the simulated run; Jupyter displays it, and it can be exported."""
    guessed: Mapping[AnyJob, float]
    """The assumed durations of jobs whose duration is unknown, in seconds."""

    def __repr__(self) -> str:
        jobs = plural(len(self.ends), "job")
        return f"<Simulation {duration_text(self.makespan)}, lower bound {duration_text(self.lower_bound)}, {jobs}>"


def simulate(
    scheduler: BaseScheduler,
    *,
    durations: DurationSource | None = None,
    jobs_window: Window | EllipsisType | None = KEEP_WINDOW,
    policy: PolicyName | Policy | None = None,
) -> Simulation:
    """Predict a run by executing a copy of the scenario on a virtual clock, with a sleep in place of each job.

    The jobs' own code does not run, and the scheduler is not changed. The engine itself runs the copy, so windows,
    policies, timeouts and nesting have their usual effect. A job fails only if it times out. A service is ready after
    its expected duration; if that is unknown, at once.

    Args:
        scheduler: the scenario.
        durations: the durations of jobs, keyed by path or label: a mapping, a `Trace`, or a file, as for `Scheduler`;
            None for the scheduler's own `durations`. Other jobs take their `expected_duration`. If that is unknown,
            they take the median of the known durations, or 1 second if none is known.
        jobs_window: the window for this simulation; None or 0 for no window; by default, the scheduler's own window.
        policy: the policy of all schedulers in this simulation; None to keep the policy of each scheduler. If you give
            a `Policy` of your own, it is called with the scenario's own jobs, which are idle during the simulation.

    Raises:
        RuntimeError: the scheduler, or one in it or around it, is running.
        CycleError, MissingRequirement: the requirements of the jobs are invalid.
        ValueError: the scenario cannot run, or would never end. A job that exceeds its timeout in each of 10,000 calls
            counts as never ending.
        TypeError, ValueError: an argument is invalid.

    Example:
        >>> jobs = [Job(anyio.sleep, 0, expected_duration=seconds) for seconds in (3600, 1800, 1800)]
        >>> simulation = simulate(Scheduler(*jobs, jobs_window=2))
        >>> simulation.makespan, simulation.utilisation
        (3600.0, 1.0)

    """
    if not is_scheduler(scheduler):
        raise TypeError(f"simulate({short_repr(scheduler)}): give a Scheduler")
    subject = repr(scheduler.label)
    for current in (scheduler, *enclosing_schedulers(scheduler), *filter(is_scheduler, scheduler.iterate_jobs())):
        if current_run(current) is not None:
            raise RuntimeError(
                f"simulate({scheduler.label!r}): {current.label!r} is running; simulate before or after the run"
            )
    window = scheduler.jobs_window if jobs_window is KEEP_WINDOW else check_window(jobs_window, "jobs_window", subject)
    if policy is not None:
        check_policy(policy, "policy", subject)
    check_scenario(scheduler)
    reject_endless_run(scheduler)
    all_durations, known_durations = resolve_all_durations(scheduler, durations)
    copy, trace = ScenarioCopy(scheduler, all_durations, known_durations, window, policy), Trace()
    clean_up_jobs = CleanUpJobs()
    # The copy runs in a new thread, because this one may be running an event loop.
    with ThreadPoolExecutor(1, THREAD_NAME_PREFIX) as thread, silence_log():
        makespan = thread.submit(run_scenario_copy, copy, trace, clean_up_jobs).result()
    return _make_simulation(
        scheduler, copy, all_durations, known_durations, window, trace, makespan, clean_up_jobs.copies
    )


def run_scenario_copy(copy: ScenarioCopy, *instruments: Instrument) -> float:
    """Run the copy of a scenario on a virtual clock, and return the duration of the run in seconds.

    Raises:
        ValueError: the run would never end.

    """
    detector = StallDetector(copy)
    subject = repr(copy.scheduler.label)
    try:
        copy.scheduler.run(
            backend="asyncio",
            backend_options=virtual_options("asyncio"),
            instruments=[*instruments, detector],
        )
    except NeverSettles as error:
        raise ValueError(
            f"{subject} would hardly ever end: {error.job.label!r} succeeds in none of {error.calls:,} calls, because "
            f"an expected duration exceeds a timeout: give a longer timeout=, or fewer restarts= or retry="
        ) from None
    if detector.stall_reason:
        raise ValueError(f"{subject} would never end: {detector.stall_reason}; give it a timeout= to simulate it")
    return detector.ended_at


def reject_endless_run(scheduler: BaseScheduler) -> None:
    """Reject a scenario with a scheduler that has only forever jobs, unless a timeout ends it.

    Raises:
        ValueError: the run would not end by itself.

    """
    schedulers = [scheduler]
    for current in schedulers:  # the loop appends nested schedulers to the list
        if current.timeout is None:
            members = list(current)
            if members and all(job.forever for job in members):
                raise ValueError(
                    f"{current.label!r} has only forever jobs, so its run would never end: "
                    f"give it a timeout= to simulate it"
                )
            schedulers += [job for job in members if is_scheduler(job) and not job.forever]


class CleanUpJobs(Instrument):
    """An instrument that finds the clean-up jobs, which take no slots.

    Attributes:
        copies: the copies of the jobs that started as clean-up jobs.

    """

    def __init__(self) -> None:
        self.copies: Final[set[AnyJob]] = set()

    def job_started(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Record a job that starts although its run stops, as only clean-up jobs do."""
        run = current_run(scheduler)
        if run is not None and run.reason is not None:
            self.copies.add(job)


class StallDetector(Instrument):
    """An instrument that ends a run that stalls, or that runs a nested scheduler without an end.

    It sets a timer that is later than all others. If the run stalls, no other timer is left, and the virtual clock
    advances to this one.

    Attributes:
        stall_reason: why the run stalled; "" if it did not.
        ended_at: the virtual time at which the run ended, in seconds from its start.

    """

    def __init__(self, copy: ScenarioCopy) -> None:
        """Create a detector for a run of this copy."""
        self._scheduler = copy.scheduler
        self._call_counts = {copy.copies[job]: count for job, count in copy.call_counts.items()}
        for count in self._call_counts.values():
            count.count = 0
        self.stall_reason = ""
        self.ended_at = 0.0

    def before_run(self, scheduler: BaseScheduler) -> None:
        """Set the timer at the beginning of the outermost run; count the runs of a nested scheduler."""
        if scheduler is not self._scheduler:
            self._call_counts[scheduler].add_call()
        else:
            asyncio.get_running_loop().call_at(STALL_TIMEOUT, self._stop)

    def after_run(self, scheduler: BaseScheduler) -> None:
        """Record the end of the run."""
        if scheduler is self._scheduler:
            self.ended_at = asyncio.get_running_loop().time()

    def _stop(self) -> None:
        waiting = [job for job in self._scheduler.iterate_jobs() if job.is_scheduled()]
        self.stall_reason = self._scheduler.explain(waiting[0]) if waiting else "nothing more would happen"
        self._scheduler.cancel()


@contextlib.contextmanager
def silence_log() -> Generator[None]:
    """Suppress the log records of simulations, because they are not about real runs. Other threads log as usual."""
    logger = logging.getLogger("trioflow")

    def is_from_other_thread(record: logging.LogRecord) -> bool:
        return not (record.threadName or "").startswith(THREAD_NAME_PREFIX)

    logger.addFilter(is_from_other_thread)
    try:
        yield
    finally:
        logger.removeFilter(is_from_other_thread)


def resolve_all_durations(scheduler: BaseScheduler, durations: Any) -> tuple[dict[AnyJob, float], dict[AnyJob, float]]:
    """Return two dicts: the durations of all jobs, including guesses for unknown ones, and the known durations alone.

    The durations of nested schedulers have no effect, because a scheduler takes as long as its jobs.
    """
    source = getattr(scheduler, "durations", None) if durations is None else durations
    known_durations = {job: number for job in scheduler.iterate_jobs() if (number := job.expected_duration) is not None}
    known_durations.update(_duration_sources.resolve_durations(source, scheduler))
    return add_guesses(scheduler, known_durations), known_durations


def add_guesses(scheduler: BaseScheduler, known_durations: Mapping[AnyJob, float]) -> dict[AnyJob, float]:
    """Return the durations of all jobs.

    An unknown duration is assumed to be 0 for a service, and otherwise the median of the known durations of ordinary
    jobs, which are neither forever jobs nor schedulers.
    """
    median = median_duration(
        number for job, number in known_durations.items() if not job.forever and not is_scheduler(job)
    )
    return {job: known_durations.get(job, 0.0 if is_service(job) else median) for job in scheduler.iterate_jobs()}


def _make_simulation(
    scheduler: BaseScheduler,
    copy: ScenarioCopy,
    durations: dict[AnyJob, float],
    known_durations: dict[AnyJob, float],
    window: Any,
    trace: Trace,
    makespan: float,
    clean_up_copies: Collection[AnyJob],
) -> Simulation:
    starts: dict[AnyJob, float] = {}
    ends: dict[AnyJob, float] = {}
    for job, job_copy in copy.copies.items():
        if job is not scheduler and job_copy.started_at is not None and job_copy.finished_at is not None:
            starts[job] = job_copy.started_at
            ends[job] = job_copy.finished_at
    size = max_slots(window)
    slot_seconds = sum(
        ends[job] - starts[job]
        for job in slot_users(scheduler, window)
        if job in ends and copy.copies[job] not in clean_up_copies
    )
    analyses = _analyze_schedulers(scheduler, durations, window)
    slack: dict[AnyJob, float] = {}
    for current in reversed(analyses):  # enclosing schedulers first
        scheduler_slack = slack.get(current, 0.0)
        slack.update({job: scheduler_slack + job_slack for job, job_slack in analyses[current].slack.items()})
    guessed = {
        job: number
        for job, number in durations.items()
        if job not in known_durations and not job.forever and not is_scheduler(job)
    }
    reason = copy.scheduler.stop_reason
    assert reason is not None
    return Simulation(
        makespan,
        analyses[scheduler].lower_bound,
        tuple(analyses[scheduler].critical_path(analyses)),
        slack,
        slot_seconds / (min(size, sys.maxsize) * makespan) if size and makespan else None,
        _peak_results(starts, ends),
        starts,
        ends,
        reason,
        trace,
        guessed,
    )


def _analyze_schedulers(
    scheduler: BaseScheduler, durations: dict[AnyJob, float], window: Any
) -> dict[BaseScheduler, _PathAnalysis]:
    """Return the analysis of each scheduler, nested schedulers before the enclosing ones.

    Args:
        scheduler: the outermost scheduler.
        durations: the durations of all jobs.
        window: the window of the outermost scheduler.

    """
    schedulers = [scheduler, *(job for job in scheduler.iterate_jobs() if is_scheduler(job))]
    pools = {current.pool for current in schedulers if current.pool is not None}
    views = {(pool, view.name): view for pool in pools for view in resource_views(copy_pool(pool))}
    distant_inputs = {
        member
        for job in scheduler.iterate_jobs()
        for source in inputs_of(job)
        if source.scheduler is not job.scheduler
        for member in (source, *enclosing_schedulers(source))
    }
    work_durations: dict[AnyJob, float] = {}
    analyses: dict[BaseScheduler, _PathAnalysis] = {}
    for current in reversed(schedulers):  # nested schedulers first
        analyses[current] = _PathAnalysis(
            current,
            durations,
            analyses,
            window if current is scheduler else current.jobs_window,
            views,
            work_durations,
            distant_inputs,
        )
    return analyses


def slot_users(scheduler: BaseScheduler, window: Any) -> list[AnyJob]:
    """Return the jobs that take slots of a scheduler's window, which are never forever jobs.

    If the window is a limiter, these are the jobs at any depth that are not schedulers, except those in a nested
    scheduler with another limiter. Otherwise, they are the members of the scheduler.
    """
    if not is_limiter(window):
        return [job for job in scheduler if not job.forever]
    jobs: list[AnyJob] = []
    schedulers = [scheduler]
    for current in schedulers:  # the loop appends nested schedulers to the list
        for job in current:
            if job.forever:
                continue
            if not is_scheduler(job):
                jobs.append(job)
            elif job.jobs_window is window or not is_limiter(job.jobs_window):
                schedulers.append(job)
    return jobs


def iterate_pool_needs(scheduler: BaseScheduler) -> Iterator[tuple[Pool, str, AnyJob]]:
    """Yield (pool, name of the resource, member) for each need of a scheduler's members for a resource of a pool.

    Forever jobs other than services are left out.
    """
    for job in scheduler:
        for name in job.needs or {}:
            pool = _find_pool(scheduler, name)
            if pool is not None and not (job.forever and not is_service(job)):
                yield pool, name, job


def _find_pool(scheduler: BaseScheduler, name: str) -> Pool | None:
    """Return the pool from which the members of a scheduler take a resource.

    Return None if there is no such pool, or if the scheduler or an enclosing one reserves the resource for its jobs.
    """
    for current in (scheduler, *enclosing_schedulers(scheduler)):
        if current.pool is not None and name in current.pool.total:
            return current.pool
        if name in (current.needs or {}):
            return None
    return None


class _PathAnalysis:
    """The longest paths through the jobs of one scheduler, and a lower bound of its makespan. Takes O(V + E) time.

    The paths are found by the critical path method (Kelley and Walker 1959). The lower bound is the maximum of the
    following: the length of the longest path; the work of all jobs divided by the number of slots; the earliest end of
    the work for each resource of a pool; and the work for each resource of the run divided by its total. A nested
    scheduler counts as a job that takes its own lower bound. A job that exceeds its timeout in any order takes as long
    as its timeout allows, and jobs that need its success take no time. The time of other effects of timeouts, such as
    the end of a run, depends on the order; the lower bound is at most the earliest time at which there can be one.

    Args:
        scheduler: the scheduler.
        durations: the durations of all jobs, without their timeouts.
        nested_analyses: the analyses of the nested schedulers.
        window: the window of the scheduler.
        views: the resources of all pools.
        work_durations: the minimum durations of the jobs in nested schedulers. Those of the members are added.
        distant_inputs: the jobs that are inputs of jobs in other schedulers, and the schedulers that enclose them.

    """

    def __init__(
        self,
        scheduler: BaseScheduler,
        durations: dict[AnyJob, float],
        nested_analyses: dict[BaseScheduler, _PathAnalysis],
        window: Any,
        views: Mapping[tuple[Pool, str], ResourceView],
        work_durations: dict[AnyJob, float],
        distant_inputs: set[AnyJob],
    ) -> None:
        order, predecessors = scheduler.topological_order(), partial(all_requirements, scheduler)
        self._time_limit: Final[float] = math.inf if scheduler.timeout is None else scheduler.timeout
        self._durations: Final[dict[AnyJob, float]] = {}
        earliest: dict[AnyJob, float] = {}
        self._latest_predecessors: Final[dict[AnyJob, AnyJob | None]] = {}
        awaited = _find_awaited_jobs(order, predecessors)
        unsuccessful: set[AnyJob] = set()
        completed: set[AnyJob] = set()  # the jobs that start, and are nested schedulers only if no timeout ends them
        completed_schedulers: list[tuple[AnyJob, _PathAnalysis]] = []
        deviations: list[float] = []  # the earliest times of effects of timeouts that depend on the order
        for job in order:
            last = max(predecessors(job), key=earliest.__getitem__, default=None)
            self._latest_predecessors[job] = last
            start = earliest[last] if last is not None else 0.0
            nested = nested_analyses[job] if is_scheduler(job) else None
            runs_forever = job.forever and not is_service(job)
            seconds = nested._untimed_bound if nested else math.inf if runs_forever else durations[job]
            is_timed_out = job.timeout is not None and seconds >= job.timeout
            if is_timed_out:
                seconds = _seconds_until_timed_out(job)
            is_cut_short = nested is not None and is_timed_out
            needed = predecessors(job) if job.run_if == "succeeded" else inputs_of(job)
            is_blocked = not unsuccessful.isdisjoint(needed)
            is_idle = is_blocked or job.run_if == "failed"
            fails = is_blocked or (is_timed_out and job.on_timeout != "move_on")
            if fails or is_idle:
                unsuccessful.add(job)
            if job in distant_inputs and (is_idle or runs_forever):
                deviations.append(start)
            elif (fails and job.is_critical()) or (job in distant_inputs and (fails or is_cut_short)):
                deviations.append(start if is_idle else start + seconds)
            elif nested and not is_timed_out:
                deviations.append(start + min(nested._deviation, nested._time_limit))
            counts = job in awaited and not is_idle
            if counts and not is_cut_short:
                completed.add(job)
                if nested and not job.forever:
                    completed_schedulers.append((job, nested))
            elif is_scheduler(job):
                work_durations.update(dict.fromkeys(job.iterate_jobs(), 0.0))
            self._durations[job] = seconds if counts and not runs_forever else 0.0
            earliest[job] = start + self._durations[job]
        work_durations.update(self._durations)
        self._deviation: Final[float] = min(deviations, default=math.inf)
        self._last_job: Final = max(order, key=earliest.__getitem__, default=None)
        length = earliest[self._last_job] if self._last_job is not None else 0.0
        remaining = longest_path_lengths(order, predecessors, self._durations, 0.0)  # from each job's start to the end
        self.slack: Final = {job: length - (earliest[job] - self._durations[job]) - remaining[job] for job in order}
        work_seconds = sum(work_durations[job] for job in slot_users(scheduler, window))
        # The uses of each pool resource by the jobs of this scheduler and of nested ones.
        self._resource_uses: Final[dict[tuple[Pool, str], list[_JobUse]]] = {}
        for pool, name, job in iterate_pool_needs(scheduler):
            if job in completed or self._durations[job]:
                self._resource_uses.setdefault((pool, name), []).append(_JobUse(job, job, self._durations[job]))
        for job, analysis in completed_schedulers:
            for key, uses in analysis._resource_uses.items():
                self._resource_uses.setdefault(key, []).extend(_JobUse(use.job, job, use.seconds) for use in uses)
        # For each resource of the run, the work of jobs at any depth, keyed by (owner, total, name) of the resource.
        self._work_by_run_resource: Final[dict[tuple[BaseScheduler, int, str], float]] = {}
        for job in scheduler:
            for name in run_needs(job):
                self._add_work_of_run_resource((*find_run_resource(scheduler, name), name), self._durations[job])
        for _, analysis in completed_schedulers:
            for run_key, work in analysis._work_by_run_resource.items():
                self._add_work_of_run_resource(run_key, work)
        run_bounds = [work / total for (_, total, _), work in self._work_by_run_resource.items()]
        heads = {job: earliest[job] - self._durations[job] for job in order}
        tails = {job: remaining[job] - self._durations[job] for job in order}
        pool_bounds = [
            _resource_lower_bound(views[key], uses, heads, tails)
            for key, uses in self._resource_uses.items()
            if key in views
        ]
        resource_bound = max([*pool_bounds, *run_bounds], default=0.0)
        size = max_slots(window)
        slot_bound = work_seconds / min(size, sys.maxsize) if size else 0.0
        # The lower bound without the scheduler's own timeout.
        self._untimed_bound: Final[float] = min(self._deviation, max(length, resource_bound, slot_bound))
        self.lower_bound: Final = min(self._untimed_bound, self._time_limit)

    def _add_work_of_run_resource(self, key: tuple[BaseScheduler, int, str], work: float) -> None:
        self._work_by_run_resource[key] = self._work_by_run_resource.get(key, 0.0) + work

    def critical_path(self, analyses: dict[BaseScheduler, _PathAnalysis]) -> list[AnyJob]:
        """Return the jobs of the longest path, in which nested schedulers are replaced by their longest paths."""
        path: list[AnyJob] = []
        stack: list[AnyJob] = self._reversed_path()
        while stack:
            job = stack.pop()
            if is_scheduler(job):
                stack += analyses[job]._reversed_path()
            else:
                path.append(job)
        return path

    def _reversed_path(self) -> list[AnyJob]:
        """Return the members on the longest path, from the last to the first."""
        path: list[AnyJob] = []
        job = self._last_job
        while job is not None:
            path.append(job)
            job = self._latest_predecessors[job]
        return path


def _find_awaited_jobs(order: list[AnyJob], predecessors: Callable[[AnyJob], list[AnyJob]]) -> set[AnyJob]:
    """Return the jobs for which a run waits: those that are not forever jobs, and all that these require.

    `order` is topological.
    """
    awaited: set[AnyJob] = set()
    for job in reversed(order):
        if job in awaited or not job.forever:
            awaited.update((job, *predecessors(job)))
    return awaited


def _seconds_until_timed_out(job: AnyJob) -> float:
    """Return how long a job takes if its timeout ends each call of it."""
    assert job.timeout is not None
    retries = job.retry if isinstance(job.retry, int) and job.on_timeout != "move_on" else 0
    return job.timeout * (1 + retries) * (1 + (job.restarts or 0))


class _JobUse(NamedTuple):
    """The use of a resource by a job.

    Attributes:
        job: the job.
        member: the member of the analyzed scheduler that is the job or contains it.
        seconds: the duration of the job.

    """

    job: AnyJob
    member: AnyJob
    seconds: float


def _resource_lower_bound(
    view: ResourceView, uses: list[_JobUse], heads: Mapping[AnyJob, float], tails: Mapping[AnyJob, float]
) -> float:
    """Return the earliest time at which the run can end because of the work for a resource.

    This is the duration of the work, plus the time before the first of the jobs can start, plus the time that the run
    needs after the last of them has ended.

    Args:
        view: the resource.
        uses: the uses of the resource.
        heads: for each member, the length of the longest path to its start.
        tails: for each member, the length of the longest path from its end.

    """
    if view.total is None:
        head = min(heads[use.member] for use in uses)
        tail = min(tails[use.member] + (use.seconds if use.job is use.member else 0.0) for use in uses)
        return head + view.accrual_seconds(use.job for use in uses) + tail
    finite_uses = [use for use in uses if not use.job.forever]
    if not view.total or not finite_uses:
        return 0.0
    work = sum(float((use.job.needs or {})[view.name]) * use.seconds for use in finite_uses)
    head, tail = (min(lengths[use.member] for use in finite_uses) for lengths in (heads, tails))
    return head + work / view.total + tail


def _peak_results(starts: Mapping[AnyJob, float], ends: Mapping[AnyJob, float]) -> int:
    """Return the maximum number of results that were kept at the same time."""
    last_use: dict[AnyJob, float] = {}
    for job, start in starts.items():
        for source in inputs_of(job):
            last_use[source] = max(last_use.get(source, 0.0), start)
    changes: list[tuple[float, int]] = []
    for job, end in ends.items():
        if job.forever or is_scheduler(job):
            continue
        changes.append((end, 1))
        if not job.keep_result and job in last_use:
            changes.append((last_use[job], -1))
    peak = kept = 0
    for _, change in sorted(changes):  # at equal times, dropped results (-1) are sorted before new ones (+1)
        kept += change
        peak = max(peak, kept)
    return peak
