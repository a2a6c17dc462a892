"""`findings`: all errors for which a run of a scenario would not start, found without running or changing it.

The checks before a run stop at the first problem. `findings` makes every check for every job, so that users can fix a
scenario in one go.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from functools import partial
from typing import Any

from . import _file_conflicts
from ._core.base._graph_algorithms import backlinks, find_cycle, reachable
from ._core.job._errors import CycleError
from ._core.job._job import AnyJob, is_scheduler, takes_slot
from ._core.scheduler._base_scheduler import BaseScheduler
from ._core.scheduler._checks import (
    check_late_input,
    check_may_run,
    check_needs,
    check_one_shot,
    check_requirement,
    check_scenario,
    reject_shared_pools,
    store_implied_requirements,
)
from ._core.words._job_queries import all_requirements


def findings(scheduler: BaseScheduler) -> list[tuple[AnyJob, str]]:
    """Return why a run would not start: each job concerned, with the problem and the remedy. Takes O(V + E) time."""
    unreachable = set(store_implied_requirements(scheduler))
    levels = list(_iterate_schedulers(scheduler))
    found = [finding for level in levels for finding in _find_rejections(*level, unreachable, scheduler)]
    found += _check_errors(scheduler, reject_shared_pools, dict(levels), scheduler)
    if not found:
        found = list(_file_conflicts.FileUses(scheduler).unordered_writers())
    # If nothing is found, make the check that a run makes, for problems that the checks above do not find.
    return found or list(_check_errors(scheduler, check_scenario, scheduler))


def notes(scheduler: BaseScheduler, *, starts: bool) -> Iterator[str]:
    """Yield what is no error: more jobs at once than a window says and, if a run starts, readers beside writers."""
    window, most = scheduler.jobs_window, _most_at_once(scheduler)
    if isinstance(window, int) and most > window:
        yield (
            f"{most} may run at once: jobs_window={window} counts a nested scheduler as one; a CapacityLimiter counts "
            "the jobs that work"
        )
    if starts:
        yield from _file_conflicts.FileUses(scheduler).unordered_readers()


def _most_at_once(scheduler: BaseScheduler) -> int:
    """Return how many jobs the windows let run at once, whatever they require and need. Takes O(V log V) time."""
    most: dict[AnyJob, int] = {}
    for level, _ in reversed(list(_iterate_schedulers(scheduler))):
        members = [most.get(job, 1) for job in level if not job.forever and (takes_slot(job) or job in most)]
        members.sort(reverse=True)
        is_number = isinstance(level.jobs_window, int)  # a limiter counts the jobs that work, also in nested schedulers
        total = sum(members[: level.window_size] if is_number else members)
        most[level] = total if is_number or level.window_size is None else min(total, level.window_size)
    return most[scheduler]


def _iterate_schedulers(scheduler: BaseScheduler) -> Iterator[tuple[BaseScheduler, bool]]:
    """Yield a scheduler and all schedulers nested in it, each paired with a flag.

    The flag is True if the scheduler may run more than once within a single run of the outermost scheduler.
    """
    todo = [(scheduler, False)]
    while todo:
        level, can_repeat = todo.pop()
        yield level, can_repeat
        nested = [job for job in level if is_scheduler(job)]
        todo += [(job, can_repeat or job.retry is not None) for job in reversed(nested)]


def _find_rejections(
    level: BaseScheduler, can_repeat: bool, unreachable: Container[tuple[AnyJob, AnyJob]], outermost: BaseScheduler
) -> Iterator[tuple[AnyJob, str]]:
    """Yield `level` or a member of it for each reason to reject a run of `outermost`, paired with the reason."""
    yield from _check_errors(level, check_may_run, level)
    for cycle in _find_cycles(level):
        yield cycle[0], str(CycleError(cycle))
    for job in level:
        yield from _check_errors(job, check_needs, level, [job], outermost)
        for requirement in job.required:
            yield from _check_errors(job, check_requirement, job, requirement, level)
            if (job, requirement) in unreachable:
                yield from _check_errors(job, check_late_input, job, requirement)
        yield from _check_errors(job, check_one_shot, job, can_repeat)


def _check_errors(job: AnyJob, check: Callable[..., None], *arguments: Any) -> Iterator[tuple[AnyJob, str]]:
    try:
        check(*arguments)
    except (ValueError, RuntimeError) as error:
        yield job, str(error)


def _find_cycles(level: BaseScheduler) -> list[list[AnyJob]]:
    """Return one cycle from each strongly connected component that has cycles.

    Each cycle starts with the job that was added first, and the cycles are in the order of these jobs.
    """
    position = {job: number for number, job in enumerate(level)}
    requirements = partial(all_requirements, level)
    followers = backlinks(position, requirements)
    unassigned = dict(position)
    cycles: list[list[AnyJob]] = []
    while (cycle := find_cycle(unassigned, requirements)) is not None:
        first = cycle.index(min(cycle, key=position.__getitem__))
        cycles.append(cycle[first:] + cycle[:first])
        for job in reachable(cycle, requirements).keys() & reachable(cycle, followers.__getitem__).keys():
            del unassigned[job]
    return sorted(cycles, key=lambda cycle: position[cycle[0]])
