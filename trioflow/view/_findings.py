"""`findings`: all that is wrong with a scenario, or looks as if; nothing is run, nothing is changed.

A run is refused at the first thing that its checks find. Here each of them is asked for each job, so that a scenario
can be mended in one go; `_never` and `_suspicions` look at what is allowed.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVarTuple

from .._core import _checks, _errors, _graph
from .._core._jobs import AbstractJob
from .._core._scheduler import BaseScheduler
from . import _knots, _never, _suspicions

Ts = TypeVarTuple("Ts")

Job = AbstractJob[Any]


class FindingKind(enum.Enum):
    """How bad a finding is."""

    REFUSED = "refused"
    """A run would not start."""
    NEVER_RUNS = "never runs"
    """Whatever happens, the job will not run."""
    SUSPICIOUS = "suspicious"
    """Allowed, but hardly what was meant."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something found about one job, and what to do about it, in words."""

    kind: FindingKind
    job: Job
    text: str


def findings(scheduler: BaseScheduler) -> list[Finding]:
    """Return what is found about a scheduler and all that is in it, the worst first, in the order of the jobs.

    O(V + E), but for jobs that need the success of an alarm: those cost what they need each.
    """
    _checks.imply_all(scheduler)
    levels = list(_levels(scheduler))
    walked = {level for level, _ in levels}
    return [
        *(Finding(FindingKind.REFUSED, job, text) for level in levels for job, text in _refused(*level, walked)),
        *(Finding(FindingKind.NEVER_RUNS, job, text) for job, text in _never.never(list(scheduler.iterate_jobs()))),
        *(Finding(FindingKind.SUSPICIOUS, job, text) for level, _ in levels for job, text in _suspicions.about(level)),
    ]


def _levels(scheduler: BaseScheduler) -> Iterator[tuple[BaseScheduler, bool]]:
    """Yield a scheduler and all that are nested in it, and of each whether it may run more than once in a run."""
    todo = [(scheduler, False)]
    while todo:
        level, repeated = todo.pop()
        yield level, repeated
        nested = [job for job in level if isinstance(job, BaseScheduler)]
        todo += [(job, repeated or _checks.repeats(job)) for job in reversed(nested)]


def _refused(level: BaseScheduler, repeated: bool, walked: set[BaseScheduler]) -> Iterator[tuple[Job, str]]:
    """Yield why a run would refuse this scheduler, or one of its members."""
    yield from _errors_of(level, level._check_may_run)
    for cycle in _cycles(level):
        yield cycle[0], str(_errors.CycleError(cycle))
    for job in level:
        for one in job.required:
            yield from _errors_of(job, _checks.check_requirement, job, one, level)
            yield from _errors_of(job, _refuse_unreachable, job, one, level, walked)
        yield from _errors_of(job, _checks._check_one_shot, job, repeated)


def _errors_of(job: Job, check: Callable[[*Ts], None], *arguments: *Ts) -> Iterator[tuple[Job, str]]:
    try:
        check(*arguments)
    except (ValueError, RuntimeError) as error:
        yield job, str(error)


def _cycles(level: BaseScheduler) -> list[list[Job]]:
    """Return a cycle out of each set of jobs that all wait for each other, in the order in which these were added."""
    place = {job: number for number, job in enumerate(level)}
    found: list[list[Job]] = []
    for knot in _knots.knots(place, level._waits_for):
        cycle = _graph.find_cycle(knot, _within(knot, level._waits_for))
        assert cycle is not None
        first = cycle.index(min(cycle, key=place.__getitem__))
        found.append(cycle[first:] + cycle[:first])
    return sorted(found, key=lambda cycle: place[cycle[0]])


def _within(jobs: Iterable[Job], neighbours: Callable[[Job], Iterable[Job]]) -> Callable[[Job], list[Job]]:
    """Return `neighbours`, as far as they are among these jobs."""
    inside = set(jobs)
    return lambda job: [other for other in neighbours(job) if other in inside]


def _refuse_unreachable(job: Job, one: Job, level: BaseScheduler, walked: set[BaseScheduler]) -> None:
    """Refuse an input outside all that is to run, which has not settled: nothing could wait for it."""
    found = _checks.common(job, one)
    if found is not None and found[0] not in walked:
        _checks.check_late_requirement(job, one, level)
