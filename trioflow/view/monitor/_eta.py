"""The estimate of a run's remaining time, from expected and measured durations of its jobs.

The theory: a scheduler still needs at least the time of its longest chain of jobs. It also needs the time in which the
slots of its window do the remaining work, if each free slot takes the next job. A resource of its pool counts as slots
for the jobs that need it: as many as jobs can have it at once. Rates and throttled keys open at known times. The
largest of these is the estimate (Graham 1966: a scheduler that leaves no slot idle needs at most the sum of two).
A nested scheduler counts as a job that takes its own estimate. This is evaluated from the innermost scheduler
outwards, each in O(n log slots) for n jobs that have not settled.

A job without an expected duration is expected to take the median of the others; if none has one, each takes one unit of
time. The jobs that have succeeded show how much longer jobs really take than expected, and the rest is corrected by
that factor; without it, units are not seconds, and there is no estimate.

A running job that reports progress is expected to go on at its own pace, which gives its remaining time.

The `Estimator` is pure: its graph consists of `Level`s with any nodes, and the state of a run is a function of them.
The `Forecast` evaluates it at intervals for the run of a monitor.
"""

from __future__ import annotations

import contextlib
import heapq
import math
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import Final, Generic, TypeVar

from ..._core.api.views import JobState, longest_paths, usual_duration
from ._model import Model
from ._records import JobRecord, SchedulerRecord, Source

Node = TypeVar("Node", bound=Hashable)

ENOUGH: Final = 3
"""Number of jobs that must succeed before there is an estimate, if no job has an expected duration."""

TRUST: Final = 0.1
"""The weight of expected durations against measured ones, as a share of all the work."""

Progress = tuple[str, float, float | None]
"""WAITING, RUNNING, SUCCEEDED or (otherwise) SETTLED; the seconds that the job has run; its remaining seconds.

The remaining seconds are None unless the job reports progress.
"""

Unsettled = tuple[Node, float, float | None]
"""A job, the seconds that it has run, and its remaining seconds if known."""

WAITING: Final = "waiting"
RUNNING: Final = "running"
SUCCEEDED: Final = "succeeded"
SETTLED: Final = "settled"


@dataclass(slots=True)
class PoolBound(Generic[Node]):
    """A resource of a pool.

    Args:
        jobs: the jobs that need it, at any depth.
        needs: how much each of them needs.
        total: how much there is; infinity for a rate.
        opens_in: returns the seconds until a rate or a cooldown lets these jobs start.

    """

    jobs: list[Node]
    needs: Callable[[Node], float]
    total: float = math.inf
    opens_in: Callable[[list[Node]], float] = lambda jobs: 0.0


@dataclass(slots=True)
class Level(Generic[Node]):
    """The jobs of one scheduler.

    Args:
        node: the scheduler.
        jobs: its jobs, each after what it requires.
        waits_for: what a job requires, among these.
        slots: how many may run at once; infinity for no limit.
        nested: the jobs that are schedulers.
        limits: the resources of its pool, and those that it has for its jobs.
        longest_first: whether the job with the longest chain behind it starts first; otherwise in their order.

    """

    node: Node
    jobs: list[Node]
    waits_for: Callable[[Node], Iterable[Node]]
    slots: float = math.inf
    nested: frozenset[Node] = frozenset()
    limits: list[PoolBound[Node]] = field(default_factory=list[PoolBound[Node]])
    longest_first: bool = False
    expected: dict[Node, float] = field(default_factory=dict[Node, float])
    chain_after: dict[Node, float] = field(default_factory=dict[Node, float])  # the longest chain behind a job


class Estimator(Generic[Node]):
    """Estimates for one graph; `remaining` is called again and again during the run.

    Args:
        levels: the scheduler, then those nested in it, each after the one that it is in.
        expected: seconds that a job is expected to take, None if unknown.

    """

    def __init__(self, levels: Iterable[Level[Node]], expected: Callable[[Node], float | None]) -> None:
        self._levels: Final = list(levels)
        jobs = [job for level in self._levels for job in level.jobs if job not in level.nested]
        given = {job: seconds for job in jobs if (seconds := expected(job)) is not None}
        usual = usual_duration(given.values())
        self._total: Final = sum(given.values()) + usual * (len(jobs) - len(given))
        self._is_known: Final = bool(given)
        self._measured = self._foreseen = 0.0  # seconds of the jobs that have succeeded
        self._succeeded = 0
        whole: dict[Node, float] = {}
        for level in reversed(self._levels):
            level.expected = {job: whole[job] if job in level.nested else given.get(job, usual) for job in level.jobs}
            paths = longest_paths(level.jobs, level.waits_for, level.expected, usual)
            level.chain_after = {job: path - level.expected[job] for job, path in paths.items()}
            whole[level.node] = max(0.0, *paths.values(), sum(level.expected.values()) / level.slots)

    def remaining(self, progress: Callable[[Node], Progress]) -> float | None:
        """Return the remaining seconds of the run; None if unknown."""
        states = [list(self._unsettled(level, progress)) for level in self._levels]
        factor = self._factor()
        if factor is None:
            plain = [
                rest
                for level, state in zip(self._levels, states, strict=True)
                for job, _, rest in state
                if job not in level.nested
            ]
            if not plain or None in plain:
                return None
            factor = 1.0  # unused: all remaining jobs report progress
        left: dict[Node, float] = {}
        works: dict[Node, Work] = {}
        for level, state in zip(reversed(self._levels), reversed(states), strict=True):
            left[level.node] = _work_left(level, state, left, factor, works)
        return left[self._levels[0].node] if self._levels else 0.0

    def _unsettled(self, level: Level[Node], progress: Callable[[Node], Progress]) -> Iterator[Unsettled[Node]]:
        """Yield the unsettled jobs with their elapsed and remaining seconds; drop settled ones."""
        jobs, level.jobs = level.jobs, []
        for job in jobs:
            state, seconds, rest = progress(job)
            if state is WAITING or state is RUNNING:
                level.jobs.append(job)
                yield job, seconds, rest
            elif state is SUCCEEDED and job not in level.nested:
                self._succeeded += 1
                self._measured += seconds
                self._foreseen += level.expected[job]

    def _factor(self) -> float | None:
        """Return the ratio of measured to expected durations."""
        prior = TRUST * self._total if self._is_known else 0.0
        if not self._is_known and self._succeeded < ENOUGH:
            return None
        return (prior + self._measured) / (prior + self._foreseen) if prior + self._foreseen else 1.0


def _work_left(
    level: Level[Node],
    state: list[Unsettled[Node]],
    left: dict[Node, float],
    factor: float,
    works: dict[Node, Work],
) -> float:
    path = 0.0
    own: list[Work] = []
    for job, seconds, rest in state:
        if job in level.nested:
            rest = left[job]
        elif rest is None:
            rest = max(0.0, factor * level.expected[job] - seconds)
        behind = factor * level.chain_after[job]
        path = max(path, rest + behind)
        works[job] = work = (-math.inf if seconds else -rest - behind if level.longest_first else 0.0), rest
        own.append(work)
    return max([path, _shared(own, level.slots), *(_limited(limit, works) for limit in level.limits)])


Work = tuple[float, float]
"""The position of a job in the start order, negative infinity if it runs; and its remaining seconds."""


def _shared(works: list[Work], slots: float) -> float:
    """Return the time that these slots take by list scheduling: each free slot takes the next job. O(n log n)."""
    if not works or slots >= len(works):
        return max((rest for _, rest in works), default=0.0)
    ends = [0.0] * int(slots)
    for _, rest in sorted(works, key=itemgetter(0)):
        heapq.heapreplace(ends, ends[0] + rest)
    return max(ends)


def _limited(limit: PoolBound[Node], works: dict[Node, Work]) -> float:
    """Return the time that a resource takes, as slots if each job needs the same amount, otherwise as shared work."""
    limit.jobs = [job for job in limit.jobs if job in works]
    if not limit.jobs:
        return 0.0
    needed = [limit.needs(job) for job in limit.jobs]
    found = [works[job] for job in limit.jobs]
    work = sum(amount * rest for amount, (_, rest) in zip(needed, found, strict=True)) / limit.total
    is_kept_alike = limit.total < math.inf and min(needed) == max(needed)
    alike = _shared(found, limit.total // needed[0]) if is_kept_alike else 0.0
    waiting = [job for job in limit.jobs if works[job][0] > -math.inf]
    last = min((works[job][1] for job in waiting), default=0.0)
    return max(work, alike, limit.opens_in(waiting) + last if waiting else 0.0)


INTERVAL: Final = 1.0
SHARE: Final = 500
"""The pause between two estimates, as a multiple of the time that an estimate takes."""


class Forecast:
    """The estimate for one run.

    Building the estimator of a large graph takes long, so it is built only when there are durations to estimate from,
    and this time does not count for the pause. Between two estimates the last one is counted down.
    """

    def __init__(self, model: Model) -> None:
        self._model: Final = model
        self._estimator: Estimator[JobRecord] | None = None
        self._edition = -1
        self._has_known = False  # whether a job has an expected duration, as of `edition`
        self._next = -math.inf
        self._last: float | None = None
        self._since = 0.0  # when that was

    def remaining(self) -> float | None:
        """Return the remaining seconds of the run; None if unknown."""
        now = time.monotonic()
        if now >= self._next:
            with contextlib.suppress(RuntimeError):  # the run has just added a requirement: try again next time
                if self._may_know():
                    is_first = self._estimator is None
                    began = time.thread_time()
                    estimator = self._current_estimator()
                    began = time.thread_time() if is_first else began
                    self._last, self._since = estimator.remaining(self._progress), now
                    self._next = now + max(INTERVAL, SHARE * (time.thread_time() - began))
        return None if self._last is None else max(0.0, self._last - (now - self._since))

    def _may_know(self) -> bool:
        """Return whether an estimate is possible: a job has a duration or reports progress, or enough jobs succeeded.

        Called for each picture until there is an estimate.
        """
        model = self._model
        if self._last is not None or model.tally.settled[JobState.SUCCEEDED] - model.tally.restored >= ENOUGH:
            return True
        if self._edition != model.edition:
            self._edition, self._estimator = model.edition, None  # the first call
            self._has_known = any(map(model.source.expected_durations, list(model.tallies)))
        return self._has_known or any(map(self._fraction, list(model.running)))

    def _current_estimator(self) -> Estimator[JobRecord]:
        model = self._model
        if self._estimator is None or self._edition != model.edition:
            edition = model.edition
            found = list(levels(model.source, model.root))
            known: dict[JobRecord, float] = {}
            for scheduler in list(model.tallies):
                known.update(model.source.expected_durations(scheduler))
            self._estimator = Estimator(found, known.get)
            self._edition = edition
        return self._estimator

    def _progress(self, job: JobRecord) -> Progress:
        started, finished = job.started_at, job.finished_at
        if finished is not None:
            if started is not None and job.state is JobState.SUCCEEDED:
                return SUCCEEDED, finished - started - sum(until - since for since, until in job.held), None
            return SETTLED, 0.0, None
        if started is None:
            return WAITING, 0.0, None
        seconds = self._model.clock() - started
        fraction = self._fraction(job)
        if not fraction or job.attempts > 1 or job.timed_out:  # this call began later
            return RUNNING, seconds, None
        return RUNNING, seconds, seconds / fraction - seconds

    def _fraction(self, job: JobRecord) -> float | None:
        self._model.source.look_at_progress(job)
        return job.fraction_done


def levels(source: Source, root: SchedulerRecord) -> Iterator[Level[JobRecord]]:
    """Yield the levels of a run, without forever jobs."""
    todo: list[tuple[SchedulerRecord, dict[str, PoolBound[JobRecord]]]] = [(root, {})]
    while todo:
        scheduler, around = todo.pop()
        jobs = [job for job in source.in_order(scheduler) if not job.forever]
        nested = [job for job in jobs if isinstance(job, SchedulerRecord)]
        own = source.window if scheduler is root else source.slots_in(scheduler)
        limits = dict(_limits(source, scheduler, is_nested=scheduler is not root))
        scope = {**around, **limits}
        for job in jobs if scope else ():
            for name in source.needs_of(job):
                if name in scope:
                    scope[name].jobs.append(job)
        yield Level(
            scheduler,
            jobs,
            source.waits_for,
            math.inf if own is None else max(1, own),
            frozenset(nested),
            [*limits.values()],
            source.is_longest_first(scheduler),
        )
        todo += [(inner, scope) for inner in nested]


def _limits(
    source: Source, scheduler: SchedulerRecord, *, is_nested: bool
) -> Iterator[tuple[str, PoolBound[JobRecord]]]:
    """Yield the resources of a scheduler itself, by name, without resources of enclosing schedulers."""
    for name, given in source.needs_of(scheduler).items() if is_nested else ():
        if isinstance(given, (int, float)):  # a rate is never reserved for members
            yield name, PoolBound([], partial(_need, source, name), given)
    for resource in source.resources_in(scheduler):
        total = math.inf if resource.total is None else resource.total
        yield (
            resource.name,
            PoolBound([], partial(_need, source, resource.name), total, partial(source.opens_in, resource)),
        )


def _need(source: Source, name: str, job: JobRecord) -> float:
    given = source.needs_of(job)[name]
    return given if isinstance(given, (int, float)) else 1.0
