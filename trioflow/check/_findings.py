"""`findings`: all errors and suspicious settings of a scenario, found without running or changing it.

The checks before a run stop at the first problem. `findings` makes every check for every job, so that users can mend a
scenario in one go. The module `_allowed` finds the problems that a run does not reject.
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
    is_scheduler,
    may_repeat,
    reachable,
    reject_shared_pools,
    store_implied_requirements,
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
    """A problem of one job, with text that describes it and the remedy."""

    kind: FindingKind
    job: AnyJob
    text: str


def findings(scheduler: BaseScheduler, *, journal: bool = False) -> list[Finding]:
    """Return the problems of a scheduler and of all jobs in it, the most severe first, then in the order of the jobs.

    O(V + E), and for each job that builds on an alarm, the number of jobs that it builds on.

    Args:
        scheduler: the outermost scheduler.
        journal: whether runs will use a journal; then requirements that are no inputs are suspicious.

    """
    store_implied_requirements(scheduler)
    levels = list(_iterate_schedulers(scheduler))
    all_schedulers = dict(levels)
    never = _allowed.find_jobs_that_never_run(list(scheduler.iterate_jobs()))
    suspicions = [finding for level, _ in levels for finding in _allowed.find_suspicious_settings(level)]
    if journal:
        suspicions += [finding for level, _ in levels for finding in _allowed.find_inputs_hidden_from_journal(level)]
    rejected = [finding for level in levels for finding in _find_rejections(*level, all_schedulers, scheduler)]
    rejected += _check_errors(scheduler, reject_shared_pools, all_schedulers, scheduler)
    if not rejected:  # the check that a run makes, for problems that the checks above do not find
        rejected += _check_errors(scheduler, check_scenario, scheduler)
    return [
        *(Finding(FindingKind.REJECTED, job, text) for job, text in rejected),
        *(Finding(FindingKind.NEVER_RUNS, job, text) for job, text in never),
        *(Finding(FindingKind.SUSPICIOUS, job, text) for job, text in suspicions),
    ]


def _iterate_schedulers(scheduler: BaseScheduler) -> Iterator[tuple[BaseScheduler, bool]]:
    """Yield a scheduler and all schedulers nested in it, each with whether one run may run it more than once."""
    todo = [(scheduler, False)]
    while todo:
        level, repeated = todo.pop()
        yield level, repeated
        nested = [job for job in level if is_scheduler(job)]
        todo += [(job, repeated or may_repeat(job)) for job in reversed(nested)]


def _find_rejections(
    level: BaseScheduler, repeated: bool, all_schedulers: Container[BaseScheduler], outermost: BaseScheduler
) -> Iterator[tuple[AnyJob, str]]:
    """Yield jobs, `level` or its members, for which a run of `outermost` would be rejected, each with the reason."""
    yield from _check_errors(level, check_may_run, level)
    for cycle in _find_cycles(level):
        yield cycle[0], str(CycleError(cycle))
    for job in level:
        yield from _check_errors(job, check_needs, level, [job], outermost)
        for requirement in job.required:
            yield from _check_errors(job, check_requirement, job, requirement, level)
            yield from _check_errors(job, _check_outside_input, job, requirement, level, all_schedulers)
        yield from _check_errors(job, check_one_shot, job, repeated)


def _check_errors(job: AnyJob, check: Callable[[*Ts], None], *arguments: *Ts) -> Iterator[tuple[AnyJob, str]]:
    try:
        check(*arguments)
    except (ValueError, RuntimeError) as error:
        yield job, str(error)


def _find_cycles(level: BaseScheduler) -> list[list[AnyJob]]:
    """Return one cycle from each set of jobs that all wait for each other, in the order in which they were added."""
    place = {job: number for number, job in enumerate(level)}
    neighbours = partial(waits_for, level)
    followers = backlinks(place, neighbours)
    unassigned = dict(place)
    cycles: list[list[AnyJob]] = []
    while (cycle := find_cycle(unassigned, neighbours)) is not None:
        first = cycle.index(min(cycle, key=place.__getitem__))
        cycles.append(cycle[first:] + cycle[:first])
        for job in reachable(cycle, neighbours).keys() & reachable(cycle, followers.__getitem__).keys():
            del unassigned[job]
    return sorted(cycles, key=lambda cycle: place[cycle[0]])


def _check_outside_input(
    job: AnyJob, requirement: AnyJob, level: BaseScheduler, all_schedulers: Container[BaseScheduler]
) -> None:
    """Reject a requirement outside of the run that has not settled, because the run cannot wait for it."""
    common = find_common_scheduler(job, requirement)
    if common is not None and common[0] not in all_schedulers:
        check_late_input(job, requirement, level)
