"""`simulate`: predict a run, by executing it with the engine on a virtual clock."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
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
    check_policy,
    check_scenario,
    check_window,
    copy_pool,
    duration_text,
    enclosing_schedulers,
    inputs_of,
    is_scheduler,
    is_service,
    longest_paths,
    max_slots,
    median_duration,
    resource_views,
    run_needs,
    run_resource,
    short_repr,
    waits_for,
)
from ..clock import virtual_options
from ..view.trace._trace import Trace
from . import _durations
from ._clone import ScenarioCopy, is_limiter

if TYPE_CHECKING:
    from types import EllipsisType

    from .._core.api.views import Policy, PolicyName, Window
    from ._durations import Durations

    Change = Callable[[dict[str, Any]], dict[str, Any]]

OWN: Final[Any] = ...
THREADS: Final = "trioflow simulation"
END_OF_TIME: Final = 1e18
"""Seconds beyond every event of a simulation: more than the age of the universe."""


@final
@dataclass(frozen=True, eq=False)
class Simulation:
    """The predicted run of a scenario in which each job takes its expected duration."""

    makespan: float
    """Seconds from the start of the run to the end of its last job that is not forever."""
    lower_bound: float
    """Seconds that no order can beat: the longest path, or the work for the slots of a window or for the resources of a
    pool."""
    critical_path: tuple[AnyJob, ...]
    """The jobs of the longest path; a nested scheduler is replaced by the longest path through it."""
    slack: Mapping[AnyJob, float]
    """The seconds by which each job could be longer without making the longest path longer."""
    utilisation: float | None
    """The share of the slots' time that jobs used, from 0 to 1; None without a window."""
    peak_results: int
    """The most results kept at the same time. With `keep_result=False`, one is kept until its last user starts."""
    starts: Mapping[AnyJob, float]
    """The start of each job that was reached, in seconds from the start of the run."""
    ends: Mapping[AnyJob, float]
    """The end of each job that started, in seconds from the start of the run."""
    stop_reason: StopReason
    """The reason why the run stopped: timeouts apply."""
    timeline: Trace
    """The trace of the simulated run; Jupyter displays it, and it can be exported."""
    guessed: Mapping[AnyJob, float]
    """The assumed durations of jobs whose duration is unknown, in seconds."""

    def __repr__(self) -> str:
        jobs = f"{len(self.ends)} job{'s' * (len(self.ends) != 1)}"
        return f"<Simulation {duration_text(self.makespan)}, lower bound {duration_text(self.lower_bound)}, {jobs}>"


def simulate(
    scheduler: BaseScheduler,
    *,
    durations: Durations | None = None,
    jobs_window: Window | EllipsisType | None = OWN,
    policy: PolicyName | Policy | None = None,
) -> Simulation:
    """Predict a run: the engine executes it on a virtual clock, with a sleep in place of each job.

    The jobs' own code does not run, and the scheduler is not changed. Windows, policies, timeouts and nesting are those
    of the engine. No job fails, except by its timeout. A service is ready after its expected duration, or at once if
    that is unknown.

    Args:
        scheduler: the scenario; it must not be running.
        durations: the durations of jobs, by path or label: a mapping, a `Trace`, or a file, as for `Scheduler`. Other
            jobs take their `expected_duration`; if this is unknown, the median of the known ones, or 1 second.
        jobs_window: a window for this simulation, None or 0 for none; default: the scheduler's own.
        policy: a policy for this simulation, in nested schedulers too; None for their own. A policy of your own gets
            the scenario's own jobs, which are idle during the simulation.

    Raises:
        CycleError, MissingRequirement, ValueError: the scenario cannot run, it would never end, or an argument is out
            of range.
        TypeError: an argument has the wrong type.

    Example:
        >>> jobs = [Job(anyio.sleep, 0, expected_duration=seconds) for seconds in (3600, 1800, 1800)]
        >>> found = simulate(Scheduler(*jobs, jobs_window=2))
        >>> found.makespan, found.utilisation
        (3600.0, 1.0)

    """
    if not is_scheduler(scheduler):
        raise TypeError(f"simulate({short_repr(scheduler)}): give a Scheduler")
    subject = repr(scheduler.label)
    window = scheduler.jobs_window if jobs_window is OWN else check_window(jobs_window, "jobs_window", subject)
    if policy is not None:
        check_policy(policy, "policy", subject)
    check_scenario(scheduler)
    refuse_endless(scheduler)
    seconds, known = durations_with_guesses(scheduler, durations)
    copy, trace = ScenarioCopy(scheduler, seconds, known, window, policy), Trace()
    with ThreadPoolExecutor(1, THREADS) as thread, silence_log():  # this thread may have an event loop
        thread.submit(run, copy, OWN, trace).result()
    return _make_simulation(scheduler, copy, seconds, known, window, trace)


def run(copy: ScenarioCopy, window: Any = OWN, *instruments: Instrument) -> None:
    """Run a copy on a virtual clock, optionally with another window.

    Raises:
        ValueError: the run would never end.

    """
    end = EndOfTime(copy.scheduler)
    options: dict[str, Any] = {} if window is OWN else {"jobs_window": window}
    copy.scheduler.run(
        backend="asyncio",
        backend_options=virtual_options("asyncio"),
        instruments=[*instruments, end],
        **options,
    )
    if end.waiting:
        subject = repr(copy.scheduler.label)
        raise ValueError(f"{subject} would never end: {end.waiting}; give it a timeout= to simulate it")


def refuse_endless(scheduler: BaseScheduler) -> None:
    """Reject a scenario with a scheduler that has only forever jobs and no timeout.

    Raises:
        ValueError: a run would not end by itself.

    """
    levels = [scheduler]
    for level in levels:
        if level.timeout is None:
            members = list(level)
            if members and all(job.forever for job in members):
                raise ValueError(
                    f"{level.label!r} has only forever jobs, so that its run would not end by itself: "
                    f"give it a timeout= to simulate it"
                )
            levels += [job for job in members if is_scheduler(job) and not job.forever]


class EndOfTime(Instrument):
    """Ends a stalled run: with no other timer left, the virtual clock advances to this instrument's."""

    def __init__(self, scheduler: BaseScheduler) -> None:
        """Watch a scheduler."""
        self._scheduler = scheduler
        self.waiting = ""  # the reason why a job would never start

    def before_run(self, scheduler: BaseScheduler) -> None:
        """Set the timer."""
        if scheduler is self._scheduler:
            asyncio.get_running_loop().call_at(END_OF_TIME, self._stop)

    def _stop(self) -> None:
        waiting = [job for job in self._scheduler.iterate_jobs() if job.is_scheduled()]
        self.waiting = self._scheduler.explain(waiting[0]) if waiting else "nothing happens any more"
        self._scheduler.cancel()


@contextlib.contextmanager
def silence_log() -> Generator[None]:
    """Keep reports from threads of simulations out of the log: they are not about real runs."""
    logger = logging.getLogger("trioflow")

    def from_elsewhere(record: logging.LogRecord) -> bool:
        return not (record.threadName or "").startswith(THREADS)

    logger.addFilter(from_elsewhere)
    try:
        yield
    finally:
        logger.removeFilter(from_elsewhere)


def durations_with_guesses(scheduler: BaseScheduler, durations: Any) -> tuple[dict[AnyJob, float], dict[AnyJob, float]]:
    """Return the durations of all jobs, with guesses for unknown ones, and only the known durations.

    Nested schedulers take as long as their jobs.
    """
    source = getattr(scheduler, "durations", None) if durations is None else durations
    known = {job: number for job in scheduler.iterate_jobs() if (number := job.expected_duration) is not None}
    known.update(_durations.durations_of_jobs(source, scheduler))
    return all_durations(scheduler, known), known


def all_durations(scheduler: BaseScheduler, known: Mapping[AnyJob, float]) -> dict[AnyJob, float]:
    """Return the durations of all jobs, with a guess for unknown ones."""
    unknown = median_duration(number for job, number in known.items() if not job.forever and not is_scheduler(job))
    return {job: known.get(job, 0.0 if is_service(job) else unknown) for job in scheduler.iterate_jobs()}


def _make_simulation(
    scheduler: BaseScheduler,
    copy: ScenarioCopy,
    seconds: dict[AnyJob, float],
    known: dict[AnyJob, float],
    window: Any,
    trace: Trace,
) -> Simulation:
    starts: dict[AnyJob, float] = {}
    ends: dict[AnyJob, float] = {}
    for job, double in copy.copies.items():
        if job is not scheduler and double.started_at is not None and double.finished_at is not None:
            starts[job] = double.started_at
            ends[job] = double.finished_at
    makespan = max((end for job, end in ends.items() if not job.forever), default=0.0)
    size = max_slots(window)
    used = sum(ends[job] - starts[job] for job in slot_users(scheduler, window) if job in ends)
    paths = _all_paths(scheduler, seconds, window)
    levels = list(reversed(paths))
    slack: dict[AnyJob, float] = {}
    for level in levels:
        around = slack.get(level, 0.0)
        slack.update({job: around + own for job, own in paths[level].slack.items()})
    guessed = {
        job: number for job, number in seconds.items() if job not in known and not job.forever and not is_scheduler(job)
    }
    reason = copy.scheduler.stop_reason
    assert reason is not None
    return Simulation(
        makespan,
        paths[scheduler].bound,
        tuple(paths[scheduler].critical_path(paths)),
        slack,
        used / (min(size, sys.maxsize) * makespan) if size and makespan else None,
        _peak_results(starts, ends),
        starts,
        ends,
        reason,
        trace,
        guessed,
    )


def _all_paths(
    scheduler: BaseScheduler, seconds: dict[AnyJob, float], window: Any, change: Change | None = None
) -> dict[BaseScheduler, _ChainLengths]:
    """Return the longest paths of each scheduler, innermost first; `change` applies to the settings of pools."""
    levels = [scheduler, *(job for job in scheduler.iterate_jobs() if is_scheduler(job))]
    pools = {level.pool for level in levels if level.pool is not None}
    views = {(pool, view.name): view for pool in pools for view in resource_views(copy_pool(pool, change))}
    paths: dict[BaseScheduler, _ChainLengths] = {}
    for level in reversed(levels):  # nested schedulers first
        paths[level] = _ChainLengths(level, seconds, paths, window if level is scheduler else level.jobs_window, views)
    return paths


def lower_bounds(
    scheduler: BaseScheduler,
    seconds: dict[AnyJob, float],
    window: int | None,
    sizes: Iterable[int | None],
    change: Callable[[int | None], Change] | None,
) -> list[float]:
    """Return the lower bound for each size: of the window, or of the resource that `change` sets in pools."""
    if change is None:
        paths = _all_paths(scheduler, seconds, window)[scheduler]
        return [paths.bound_with(size) for size in sizes]
    return [_all_paths(scheduler, seconds, window, change(size))[scheduler].bound for size in sizes]


def slot_users(level: BaseScheduler, window: Any) -> list[AnyJob]:
    """Return the jobs that take slots of a window: the members; for a limiter, the working jobs at any depth."""
    if not is_limiter(window):
        return [job for job in level if not job.forever]
    jobs: list[AnyJob] = []
    levels = [level]
    for around in levels:  # `levels` grows during the loop
        for job in around:
            if job.forever:
                continue
            if not is_scheduler(job):
                jobs.append(job)
            elif job.jobs_window is window or not is_limiter(job.jobs_window):
                levels.append(job)
    return jobs


def _certainly_runs(job: AnyJob) -> bool:
    """Return whether a job runs even if no other fails."""
    return all(member.run_if != "failed" for member in (job, *enclosing_schedulers(job)))


def users_of(level: BaseScheduler) -> Iterator[tuple[Pool, str, AnyJob]]:
    """Yield the members that need a resource of a pool: the pool, the name of the resource, and the member."""
    for job in level:
        for name in job.needs or {}:
            pool = _pool_of(level, name)
            if pool is not None and not (job.forever and not is_service(job)):
                yield pool, name, job


def _pool_of(level: BaseScheduler, name: str) -> Pool | None:
    """Return the pool that provides a resource to the members of a scheduler; None if the scheduler reserves it."""
    for around in (level, *enclosing_schedulers(level)):
        if around.pool is not None and name in around.pool.total:
            return around.pool
        if name in (around.needs or {}):
            return None
    return None


class _ChainLengths:
    """The longest paths through the jobs of one scheduler, without a window: Kelley and Walker 1959, O(V + E).

    The bound is the longest path, or the work of all jobs divided by the slots, or the work for a pool with the
    shortest paths before and after it; a nested scheduler counts by its own bound.
    """

    def __init__(
        self,
        level: BaseScheduler,
        seconds: dict[AnyJob, float],
        inner: dict[BaseScheduler, _ChainLengths],
        window: Any,
        views: Mapping[tuple[Pool, str], ResourceView],
    ) -> None:
        def own(job: AnyJob) -> float:
            if (job.forever and not is_service(job)) or not _certainly_runs(job):
                return 0.0
            return inner[job].bound if is_scheduler(job) else seconds[job]

        order, before = level.topological_order(), partial(waits_for, level)
        self._own: Final = {job: own(job) for job in order}
        earliest: dict[AnyJob, float] = {}
        self._before: Final[dict[AnyJob, AnyJob | None]] = {}
        for job in order:
            last = max(before(job), key=earliest.__getitem__, default=None)
            self._before[job] = last
            earliest[job] = self._own[job] + (earliest[last] if last is not None else 0.0)
        self._last: Final = max(order, key=earliest.__getitem__, default=None)
        length = earliest[self._last] if self._last is not None else 0.0
        onwards = longest_paths(order, before, self._own, 0.0)  # from the start of each job to the end
        self.slack: Final = {job: length - (earliest[job] - self._own[job]) - onwards[job] for job in order}
        self._length: Final = length
        working = filter(_certainly_runs, slot_users(level, window))
        self._work: Final = sum(self._own[job] if job in self._own else seconds[job] for job in working)
        # The uses of each resource of a pool, at any depth: the job, the member that it is or is in, and its seconds.
        self._uses: Final[dict[tuple[Pool, str], list[_Use]]] = {}
        for pool, name, job in users_of(level):
            self._uses.setdefault((pool, name), []).append(_Use(job, job, self._own[job]))
        for job in level:
            for key, uses in inner[job]._uses.items() if is_scheduler(job) and not job.forever else ():
                self._uses.setdefault(key, []).extend(_Use(use.job, job, use.seconds) for use in uses)
        # The work of all jobs, at any depth, for each resource of the run, by its owner, total and name.
        self._run_work: Final[dict[tuple[BaseScheduler, int, str], float]] = {}
        for job in level:
            for name in run_needs(job):
                self._add_run_work((*run_resource(level, name), name), self._own[job])
            for shared, work in inner[job]._run_work.items() if is_scheduler(job) and not job.forever else ():
                self._add_run_work(shared, work)
        shares = [work / total for (_, total, _), work in self._run_work.items()]
        heads = {job: earliest[job] - self._own[job] for job in order}
        tails = {job: onwards[job] - self._own[job] for job in order}
        served = (_earliest_end(views[key], uses, heads, tails) for key, uses in self._uses.items() if key in views)
        self._served: Final = max([*served, *shares], default=0.0)
        self.bound: Final = self.bound_with(max_slots(window))

    def bound_with(self, size: int | None) -> float:
        """Return the bound for another number of slots."""
        return max(self._length, self._served, self._work / min(size, sys.maxsize) if size else 0.0)

    def _add_run_work(self, shared: tuple[BaseScheduler, int, str], work: float) -> None:
        self._run_work[shared] = self._run_work.get(shared, 0.0) + work

    def critical_path(self, paths: dict[BaseScheduler, _ChainLengths]) -> list[AnyJob]:
        """Return the jobs of the longest path, with nested schedulers replaced by theirs."""
        path: list[AnyJob] = []
        todo: list[AnyJob] = self._chain()
        while todo:
            job = todo.pop()
            if is_scheduler(job):
                todo += paths[job]._chain()
            else:
                path.append(job)
        return path

    def _chain(self) -> list[AnyJob]:
        """Return the longest path in reverse."""
        chain: list[AnyJob] = []
        job = self._last
        while job is not None:
            chain.append(job)
            job = self._before[job]
        return chain


class _Use(NamedTuple):
    job: AnyJob
    member: AnyJob
    seconds: float


def _earliest_end(
    view: ResourceView, uses: list[_Use], heads: Mapping[AnyJob, float], tails: Mapping[AnyJob, float]
) -> float:
    """Return the earliest end of all work for a resource, in any order of its jobs.

    The shortest path to the first of these jobs and from the last one is added.
    """
    if view.total is None:
        head = min(heads[use.member] for use in uses)
        after = min(tails[use.member] + (use.seconds if use.job is use.member else 0.0) for use in uses)
        return head + view.accrual_seconds(use.job for use in uses) + after
    lasting = [use for use in uses if not use.job.forever]
    if not view.total or not lasting:
        return 0.0
    work = sum(float((use.job.needs or {})[view.name]) * use.seconds for use in lasting)
    head, after = (min(ways[use.member] for use in lasting) for ways in (heads, tails))
    return head + work / view.total + after


def _peak_results(starts: Mapping[AnyJob, float], ends: Mapping[AnyJob, float]) -> int:
    """Return the most results that were kept at the same time."""
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
    for _, change in sorted(changes):  # at the same time, drops go first
        kept += change
        peak = max(peak, kept)
    return peak
