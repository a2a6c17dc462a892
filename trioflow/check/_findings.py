"""`findings`: all errors and suspicious settings of a scenario; nothing is run, nothing is changed.

A run is rejected at the first problem that its checks find. Here every check is made for every job, so that a scenario
can be mended in one go; `_allowed` looks for what a run would not reject.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVarTuple

from .._core.api.views import (
    AnyJob,
    BaseScheduler,
    CycleError,
    backlinks,
    check_late_input,
    check_may_run,
    check_needs,
    check_one_shot,
    check_requirement,
    check_scenario,
    find_common_scheduler,
    find_cycle,
    find_implied,
    is_scheduler,
    may_repeat,
    reachable,
    reject_shared_pools,
    waits_for,
)
from . import _allowed

Ts = TypeVarTuple("Ts")


class FindingKind(enum.Enum):
    """The severity of a finding."""

    REJECTED = "rejected"
    """A run would not start."""
    NEVER_RUNS = "never runs"
    """The job can never run."""
    SUSPICIOUS = "suspicious"
    """Allowed, but probably not intended."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem of one job, and the remedy, in words."""

    kind: FindingKind
    job: AnyJob
    text: str


def findings(scheduler: BaseScheduler, *, journal: bool = False) -> list[Finding]:
    """Return the problems of a scheduler and everything in it, the worst first, then in the order of the jobs.

    O(V + E), except for jobs that need the success of an alarm: each costs the number of jobs that it needs.

    Args:
        scheduler: the outermost scheduler.
        journal: whether its runs have a journal, which has to see the inputs of each job.

    """
    find_implied(scheduler)
    levels = list(_levels(scheduler))
    walked = dict(levels)
    never = _allowed.jobs_that_never_run(list(scheduler.iterate_jobs()))
    suspicions = [finding for level, _ in levels for finding in _allowed.suspicions(level)]
    if journal:
        suspicions += [finding for level, _ in levels for finding in _allowed.inputs_hidden_from_journal(level)]
    rejected = [finding for level in levels for finding in _rejections(*level, walked, scheduler)]
    rejected += _errors_of(scheduler, reject_shared_pools, walked, scheduler)
    if not rejected:  # the run's own check decides
        rejected += _errors_of(scheduler, check_scenario, scheduler)
    return [
        *(Finding(FindingKind.REJECTED, job, text) for job, text in rejected),
        *(Finding(FindingKind.NEVER_RUNS, job, text) for job, text in never),
        *(Finding(FindingKind.SUSPICIOUS, job, text) for job, text in suspicions),
    ]


def _levels(scheduler: BaseScheduler) -> Iterator[tuple[BaseScheduler, bool]]:
    """Yield a scheduler and all nested in it, each with whether it may run more than once in a run."""
    todo = [(scheduler, False)]
    while todo:
        level, repeated = todo.pop()
        yield level, repeated
        nested = [job for job in level if is_scheduler(job)]
        todo += [(job, repeated or may_repeat(job)) for job in reversed(nested)]


def _rejections(
    level: BaseScheduler, repeated: bool, walked: Container[BaseScheduler], outermost: BaseScheduler
) -> Iterator[tuple[AnyJob, str]]:
    """Yield the reasons why a run of the outermost scheduler would reject this one or one of its members."""
    yield from _errors_of(level, check_may_run, level)
    for cycle in _cycles(level):
        yield cycle[0], str(CycleError(cycle))
    for job in level:
        yield from _errors_of(job, check_needs, level, [job], outermost)
        for requirement in job.required:
            yield from _errors_of(job, check_requirement, job, requirement, level)
            yield from _errors_of(job, _reject_unreachable, job, requirement, level, walked)
        yield from _errors_of(job, check_one_shot, job, repeated)


def _errors_of(job: AnyJob, check: Callable[[*Ts], None], *arguments: *Ts) -> Iterator[tuple[AnyJob, str]]:
    try:
        check(*arguments)
    except (ValueError, RuntimeError) as error:
        yield job, str(error)


def _cycles(level: BaseScheduler) -> list[list[AnyJob]]:
    """Return one cycle from each set of jobs that all wait for each other, in the order in which they were added."""
    place = {job: number for number, job in enumerate(level)}
    neighbours = partial(waits_for, level)
    followers = backlinks(place, neighbours)
    left = dict(place)
    cycles: list[list[AnyJob]] = []
    while (cycle := find_cycle(left, neighbours)) is not None:
        first = cycle.index(min(cycle, key=place.__getitem__))
        cycles.append(cycle[first:] + cycle[:first])
        for job in reachable(cycle, neighbours).keys() & reachable(cycle, followers.__getitem__).keys():
            del left[job]
    return sorted(cycles, key=lambda cycle: place[cycle[0]])


def _reject_unreachable(job: AnyJob, one: AnyJob, level: BaseScheduler, walked: Container[BaseScheduler]) -> None:
    """Reject an input that has not settled and is outside of the run: it cannot be waited for."""
    meeting = find_common_scheduler(job, one)
    if meeting is not None and meeting[0] not in walked:
        check_late_input(job, one, level)
