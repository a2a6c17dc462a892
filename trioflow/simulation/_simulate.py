"""`simulate`: predicts a run by executing a copy of the scenario on a virtual clock, and analyzes its longest paths.

The analysis, by the critical path method, gives the slack of each job and a lower bound of the makespan.

Decided in docs/decisions: 26-simulation.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import sys
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, final

from .._core.admission._policies import PolicyName, check_policy, median_duration
from .._core.admission._window import check_window, is_limiter, max_slots
from .._core.base import _graph_algorithms, _states
from .._core.base._text_forms import duration_text, plural, short_repr
from .._core.job._ancestors import enclosing_schedulers
from .._core.job._job import AnyJob, is_scheduler
from .._core.run._instruments import Instrument
from .._core.scheduler._base_scheduler import BaseScheduler
from .._core.scheduler._checks import check_scenario
from .._core.scheduler._members import first_options, topological_order
from .._core.words._job_queries import all_requirements, inputs_of, is_service, ready_at
from .._core.words._run_view import current_run
from ..view.trace._trace import Trace
from . import _duration_sources
from ._scenario_copy import NeverSettles, ScenarioCopy

if TYPE_CHECKING:
    import asyncio
    from types import EllipsisType

    from .._core.admission._window import Window
    from ._duration_sources import DurationSource

KEEP_WINDOW: Final[Any] = ...
THREAD_NAME_PREFIX: Final = "trioflow simulation"
STALL_TIMEOUT: Final = 1e18
"""A virtual time, in seconds, that is later than every event of a simulation."""


@final
@dataclass(frozen=True, eq=False)
class Simulation:
    """The predicted run of a scenario: each job takes its expected duration.

    *Provisional*: a minor release may change it.
    """

    makespan: float
    """The seconds from the start of the run to its end. It usually ends with the last job that is not a forever job."""
    lower_bound: float
    """A number of seconds that no order of the same work can beat. It follows from the longest path, or from the work
    for the slots of the window, whichever takes longer. Each job counts as long as it works in this run: of a run that
    is stopped early, or whose jobs a timeout or a budget keeps from running, the bound is for the work that it did."""
    critical_path: tuple[AnyJob, ...]
    """The jobs of the longest path. A nested scheduler is replaced by the longest path through it."""
    slack: Mapping[AnyJob, float]
    """The seconds by which each job could take longer without making the longest path longer."""
    utilisation: float | None
    """The fraction of the slots' time that jobs used, from 0 to 1. None if there is no window or the makespan is 0."""
    peak_results: int
    """The maximum number of results kept at the same time. With `keep_result=False`, a result is kept until the last
    job that uses it starts."""
    starts: Mapping[AnyJob, float]
    """The start of each job that started, in seconds from the start of the run."""
    ends: Mapping[AnyJob, float]
    """The end of each job that started, in seconds from the start of the run."""
    stop_reason: _states.StopReason
    """The reason why the run stopped. Timeouts can stop a simulated run, too."""
    timeline: Trace
    """The trace of the simulated run. Jupyter displays it, and it can be exported."""
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
    policy: PolicyName | None = None,
) -> Simulation:
    """Predict a run by executing a copy of the scenario on a virtual clock, with a sleep in place of each job.

    *Provisional*: a minor release may change it.

    The jobs' own code does not run, and the scheduler is not changed. The engine itself runs the copy, so windows,
    policies, timeouts and nesting have their usual effect. A job fails only if it times out. A service is ready after
    its expected duration or, if that is unknown, at once.

    Args:
        scheduler: the scenario.
        durations: the durations of jobs, keyed by path or label: a mapping, a `Trace`, or a file, as for `Scheduler`,
            or None for the scheduler's own `durations`. Other jobs take their `expected_duration`. If that is unknown,
            they take the median of the known durations, or 1 second if none is known.
        jobs_window: the window for this simulation. None or 0 is no window. By default, it is the scheduler's own
            window.
        policy: the policy of all schedulers in this simulation, or None to keep the policy of each scheduler.

    Raises:
        RuntimeError: the scheduler, or a scheduler in it or around it, is running.
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
    for current in (
        scheduler,
        *enclosing_schedulers(scheduler),
        *filter(is_scheduler, scheduler.iterate_jobs()),
    ):
        if current_run(current) is not None:
            raise RuntimeError(
                f"simulate({scheduler.label!r}): {current.label!r} is running; simulate before or after"
            )
    if jobs_window is KEEP_WINDOW:
        window = scheduler.jobs_window
    else:
        window = check_window(jobs_window, "jobs_window", subject)
    if policy is not None:
        check_policy(policy, "policy", subject)
    check_scenario(scheduler)
    all_durations, known_durations = resolve_all_durations(scheduler, durations)
    copy = ScenarioCopy(scheduler, all_durations, known_durations, window, policy)
    trace = Trace()
    # The copy runs in a new thread, because this thread may be running an event loop.
    with ThreadPoolExecutor(1, THREAD_NAME_PREFIX) as thread, silence_log():
        watch = thread.submit(run_scenario_copy, copy, trace).result()
    return _make_simulation(
        scheduler, copy, all_durations, known_durations, window, trace, watch
    )


def run_scenario_copy(copy: ScenarioCopy, trace: Trace) -> RunWatch:
    """Run the copy of a scenario on a virtual clock, and return the observed run.

    Raises:
        ValueError: the run would never end.

    """
    watch = RunWatch(copy)
    subject = repr(copy.scheduler.label)
    try:
        # Imported late: a program on trio may import `simulate`, and need no asyncio.
        from ..clock import virtual_options

        copy.scheduler.run(
            backend="asyncio",
            backend_options=virtual_options("asyncio"),
            instruments=[trace, watch],
        )
    except NeverSettles as error:
        job, calls = error.args
        raise ValueError(
            f"{subject} would hardly ever end: {job.label!r} succeeds in none of {calls:,} calls, because "
            f"an expected duration exceeds a timeout: give a longer timeout=, or fewer retries"
        ) from None
    if watch.stall_reason:
        raise ValueError(
            f"{subject} would never end: {watch.stall_reason}; give it a timeout= to simulate it"
        )
    return watch


class RunWatch(Instrument):
    """An instrument that ends a run that stalls, or that runs a nested scheduler without an end.

    It sets a timer that is later than all others. If the run stalls, no other timer is left, and the virtual clock
    advances to this timer.

    Attributes:
        stall_reason: why the run stalled, or "" if it did not.
        ended_at: the virtual time of the run's end, in seconds from its start.
        clean_up_copies: the copies of the jobs that started as clean-up jobs, which take no slots.

    """

    _loop: asyncio.AbstractEventLoop

    def __init__(self, copy: ScenarioCopy) -> None:
        self._scheduler = copy.scheduler
        self._add_call = copy.add_call
        self._originals = {job_copy: job for job, job_copy in copy.copies.items()}
        self.stall_reason = ""
        self.ended_at = 0.0
        self.clean_up_copies: Final = set[AnyJob]()

    def before_run(self, scheduler: BaseScheduler) -> None:
        """Set the timer at the beginning of the outermost run. Count the runs of a nested scheduler."""
        if scheduler is not self._scheduler:
            self._add_call(self._originals[scheduler])
        else:
            import asyncio

            self._loop = asyncio.get_running_loop()
            self._loop.call_at(STALL_TIMEOUT, self._stop)

    def job_started(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Record a job that starts although its run stops, as only clean-up jobs do."""
        run = current_run(scheduler)
        if run is not None and run.reason is not None:
            self.clean_up_copies.add(job)

    def after_run(self, scheduler: BaseScheduler) -> None:
        if scheduler is self._scheduler:
            self.ended_at = self._loop.time()
            del self._loop

    def _stop(self) -> None:
        waiting = [job for job in self._scheduler.iterate_jobs() if job.is_scheduled()]
        if waiting:
            self.stall_reason = self._scheduler.explain(waiting[0])
        else:
            self.stall_reason = "only forever jobs would go on"
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


def resolve_all_durations(
    scheduler: BaseScheduler, durations: Any
) -> tuple[dict[AnyJob, float], dict[AnyJob, float]]:
    """Return two dicts: the durations of all jobs, including guesses for unknown ones, and the known durations alone.

    An unknown duration is assumed to be 0 for a service, and otherwise the median of the known durations of ordinary
    jobs, which are neither forever jobs nor schedulers. The durations of nested schedulers have no effect, because a
    scheduler takes as long as its jobs.
    """
    source = durations
    if durations is None:
        source = getattr(scheduler, "durations", None)
    known = dict[AnyJob, float]()
    for job in scheduler.iterate_jobs():
        if job.expected_duration is not None:
            known[job] = job.expected_duration
    known.update(_duration_sources.resolve_durations(source, scheduler))
    median = median_duration(
        number
        for job, number in known.items()
        if not job.forever and not is_scheduler(job)
    )
    return {
        job: known.get(job, 0.0 if is_service(job) else median)
        for job in scheduler.iterate_jobs()
    }, known


def _make_simulation(
    scheduler: BaseScheduler,
    copy: ScenarioCopy,
    durations: dict[AnyJob, float],
    known_durations: dict[AnyJob, float],
    window: Window | None,
    trace: Trace,
    watch: RunWatch,
) -> Simulation:
    makespan = watch.ended_at
    starts: dict[AnyJob, float] = {}
    ends: dict[AnyJob, float] = {}
    for job, job_copy in copy.copies.items():
        if (
            job is not scheduler
            and job_copy.started_at is not None
            and job_copy.finished_at is not None
        ):
            starts[job] = job_copy.started_at
            ends[job] = job_copy.finished_at
    size = max_slots(window)
    holders = {
        copy.copies[job] for job in slot_users(scheduler, window)
    } - watch.clean_up_copies
    slot_seconds = 0.0
    for job in holders:
        slot_seconds += job.took or 0.0
    utilisation = None
    if size and makespan:
        utilisation = slot_seconds / (min(size, sys.maxsize) * makespan)
    analysis = PathAnalysis(
        scheduler,
        {job: _working_time(copy.copies[job], watch) for job in durations},
        window,
    )
    guessed = {
        job: number
        for job, number in durations.items()
        if job not in known_durations and not job.forever and not is_scheduler(job)
    }
    reason = copy.scheduler.stop_reason
    assert reason is not None
    return Simulation(
        makespan,
        min(analysis.lower_bound, makespan),
        analysis.critical_path(),
        analysis.slack(),
        utilisation,
        _peak_results(starts, ends),
        starts,
        ends,
        reason,
        trace,
        guessed,
    )


def _working_time(job: AnyJob, watch: RunWatch) -> float:
    """Return the seconds that a copy has worked, or that a service took until it was ready, or 0 for a clean-up job."""
    ready = ready_at(job)
    if ready is not None and job.started_at is not None:
        return ready - job.started_at
    return 0.0 if job in watch.clean_up_copies else job.took or 0.0


def _peak_results(starts: Mapping[AnyJob, float], ends: Mapping[AnyJob, float]) -> int:
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
    # At equal times, dropped results (-1) are sorted before new ones (+1).
    return max(itertools.accumulate(change for _, change in sorted(changes)), default=0)


# ---- the critical path method: longest paths, slack, a lower bound of the makespan


def slot_users(scheduler: BaseScheduler, window: object) -> list[AnyJob]:
    """Return the jobs that take slots of a scheduler's window, which are never forever jobs.

    If the window is a limiter, these are the jobs at any depth that are not schedulers, except those in a nested
    scheduler with another limiter. Otherwise, they are the members of the scheduler.
    """
    if not is_limiter(window):
        return [job for job in scheduler if not job.forever]
    jobs: list[AnyJob] = []
    schedulers = [scheduler]
    # The loop appends nested schedulers to the list.
    for current in schedulers:
        for job in current:
            if job.forever:
                continue
            if not is_scheduler(job):
                jobs.append(job)
            elif job.jobs_window is window or not is_limiter(job.jobs_window):
                schedulers.append(job)
    return jobs


@dataclass(frozen=True, slots=True)
class LongestPath:
    """The longest path through the jobs of a scheduler."""

    jobs: list[AnyJob]
    """The jobs from the last to the first."""
    slack: Mapping[AnyJob, float]
    """The seconds by which each job could take longer without making the path longer."""


class PathAnalysis:
    """The longest paths through a scenario and a lower bound of its makespan, in O(V + E) time.

    The paths are found by the critical path method (Kelley and Walker 1959). The lower bound is the maximum of the
    following: the length of the longest path, and the work of all jobs divided by the number of slots. A nested
    scheduler counts as a job that takes its own lower bound. Each job takes as long as it worked in the simulated run,
    so timeouts and failures count as they did there.

    Args:
        scheduler: the outermost scheduler.
        work: the seconds that each job worked, or that a service took until it was ready, or 0 if it did not run.
        window: the window of the outermost scheduler.

    """

    def __init__(
        self, scheduler: BaseScheduler, work: Mapping[AnyJob, float], window: object
    ) -> None:
        self._scheduler: Final = scheduler
        # Of schedulers, too, nested ones before those around them.
        self._seconds: Final = dict(work)
        schedulers = [scheduler, *filter(is_scheduler, scheduler.iterate_jobs())]
        self._paths: Final = dict[AnyJob, LongestPath]()
        for current in reversed(schedulers):
            own_window = window if current is scheduler else current.jobs_window
            self._paths[current] = self._analyze(current, own_window)

    @property
    def lower_bound(self) -> float:
        return self._seconds[self._scheduler]

    def critical_path(self) -> tuple[AnyJob, ...]:
        """Return the jobs of the longest path, with the longest paths of nested schedulers in their places."""
        path: list[AnyJob] = []
        stack = [*self._paths[self._scheduler].jobs]
        while stack:
            job = stack.pop()
            if is_scheduler(job):
                stack += self._paths[job].jobs
            else:
                path.append(job)
        return tuple(path)

    def slack(self) -> dict[AnyJob, float]:
        slack: dict[AnyJob, float] = {}
        # Enclosing schedulers first.
        for scheduler in reversed(self._paths):
            outer = slack.get(scheduler, 0.0)
            for job, seconds in self._paths[scheduler].slack.items():
                slack[job] = outer + seconds
        return slack

    def _analyze(self, scheduler: BaseScheduler, window: Any) -> LongestPath:
        seconds = self._seconds
        predecessors = partial(all_requirements, scheduler)
        order = topological_order(scheduler)
        awaited = set(itertools.chain.from_iterable(map(predecessors, order)))
        for job in order:
            if job.forever and job not in awaited:
                seconds[job] = 0.0
        latest: dict[AnyJob, AnyJob | None] = {}
        ends: dict[AnyJob, float] = {}
        for job in order:
            last = latest[job] = max(
                predecessors(job), key=ends.__getitem__, default=None
            )
            ends[job] = seconds[job] + (0.0 if last is None else ends[last])
        last = max(order, key=ends.__getitem__, default=None)
        enough = first_options(scheduler)[0]
        if enough is not None and order:
            # Decided when so many have succeeded, or too many others have failed.
            number = min(enough, len(order) - enough + 1)
            last = sorted(order, key=ends.__getitem__)[max(0, number - 1)]
        length = 0.0 if last is None else ends[last]
        # From its start to the end of the run.
        remaining = _graph_algorithms.longest_path_lengths(
            order, predecessors, seconds, 0.0
        )
        slack = {
            job: max(0.0, length - (ends[job] - seconds[job]) - remaining[job])
            for job in order
        }
        seconds[scheduler] = length
        if enough is not None:
            # Which of its jobs do their work is another question in another order.
            seconds.update(dict.fromkeys(scheduler.iterate_jobs(), 0.0))
        elif size := max_slots(window):
            slot_seconds = sum(seconds[job] for job in slot_users(scheduler, window))
            seconds[scheduler] = max(length, slot_seconds / min(size, sys.maxsize))
        path: list[AnyJob] = []
        while last is not None:
            path.append(last)
            last = latest[last]
        return LongestPath(path, slack)
