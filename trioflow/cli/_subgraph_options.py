"""`--only`, `--from`, `--until`: the part of a scenario to run.

1. `--only` gives the named jobs, `--from` these and what waits for them, `--until` these and what they wait for. A job
   is chosen if it is in each of the sets that were given.
2. What a chosen job cannot do without is kept too: its inputs, the services that it requires, and what these need.
3. Everything else is removed. A kept job that waited for a removed one now waits for the kept jobs before that.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import click

from .. import Scheduler
from ..abc import (
    AbstractJob,
    check_scenario,
    enclosing_schedulers,
    inputs_of,
    is_service,
    paths_of,
    printable,
    reachable,
    waits_for,
)
from ..view.text import _selection

Job = AbstractJob[Any]


def keep_selected(
    scheduler: Scheduler, only: Sequence[str] = (), starts: Sequence[str] = (), ends: Sequence[str] = ()
) -> None:
    """Remove everything outside the selected part from the scheduler. O(V + E), plus the new requirements.

    Raises:
        UsageError: no job matches a pattern, or no job is left.
        ValueError, RuntimeError: the scenario could not run.

    """
    if not (only or starts or ends):
        return
    check_scenario(scheduler)
    named = paths_of(scheduler)
    chosen = [
        select(scheduler, [job for pattern in patterns for job in match_jobs(named, pattern)])
        for select, patterns in ((_with_nested, only), (_with_successors, starts), (_with_predecessors, ends))
        if patterns
    ]
    kept = chosen[0].intersection(*chosen[1:])
    if not any(job for job in kept if not isinstance(job, Scheduler) or not len(job)):
        raise click.UsageError("no job of the scenario is left: --only, --from and --until must have one in common")
    kept |= reachable(kept, _predecessors).keys()
    kept |= {around for job in kept for around in _enclosing(job, scheduler)}
    for level in [scheduler, *(job for job in kept if isinstance(job, Scheduler))]:
        _remove_others(level, kept)


def match_jobs(named: dict[Job, str], pattern: str) -> list[Job]:
    """Return the jobs that match a pattern; `graph(only=)` takes the same patterns.

    Raises:
        UsageError: no job matches.

    """
    matches = _selection.match_paths(named, pattern)
    if not matches:
        hint = _selection.suggest_paths(named, pattern) or ";"
        raise click.UsageError(
            f"no job has a path like {printable(pattern)!r}{hint} `trioflow list --paths` shows all paths"
        )
    return matches


def _with_nested(scheduler: Scheduler, jobs: Iterable[Job]) -> set[Job]:
    """Return the jobs, and all jobs nested in them."""
    return {member for job in jobs for member in (job, *_nested_jobs(job))}


def _with_successors(scheduler: Scheduler, jobs: Collection[Job]) -> set[Job]:
    """Return the jobs, and all jobs that wait for them."""
    return _reachable(scheduler, jobs, _followers)


def _with_predecessors(scheduler: Scheduler, jobs: Collection[Job]) -> set[Job]:
    """Return the jobs, and all jobs that they wait for."""
    return _reachable(scheduler, jobs, lambda level: partial(waits_for, level))


def _followers(level: Scheduler) -> Callable[[Job], Iterable[Job]]:
    """Return a function that maps a member to the members that wait for it."""
    followers: dict[Job, list[Job]] = {job: [] for job in level}
    for job in level:
        for one in waits_for(level, job):
            followers[one].append(job)
    return followers.__getitem__


def _reachable(
    scheduler: Scheduler,
    jobs: Collection[Job],
    neighbours_in: Callable[[Scheduler], Callable[[Job], Iterable[Job]]],
) -> set[Job]:
    """Return the jobs and those reachable from them, in their own scheduler and in each enclosing one."""
    marked = set(jobs)
    holders = {around for job in jobs for around in _enclosing(job, scheduler)}
    reached: set[Job] = set()
    todo = [scheduler]
    while todo:
        level = todo.pop()
        neighbours = neighbours_in(level)
        here = [job for job in level if job in marked or job in holders]
        whole = reachable((other for job in here for other in neighbours(job)), neighbours)
        whole.update((job, None) for job in here if job in marked)
        reached |= _with_nested(level, whole)
        todo += [job for job in here if job not in whole and isinstance(job, Scheduler)]
    return reached


def _predecessors(job: Job) -> Iterator[Job]:
    yield from inputs_of(job)
    yield from (requirement for requirement in job.required if is_service(requirement))


def _nested_jobs(job: Job) -> Iterator[Job]:
    return job.iterate_jobs() if isinstance(job, Scheduler) else iter(())


def _enclosing(job: Job, outermost: Scheduler) -> Iterator[Job]:
    """Yield the schedulers that enclose a job, the innermost first, without `outermost`."""
    yield from itertools.takewhile(lambda around: around is not outermost, enclosing_schedulers(job))


def _remove_others(level: Scheduler, kept: Collection[Job]) -> None:
    """Remove the members that are not kept, and keep the order of those that are."""
    staying = [job for job in level if job in kept]
    if len(staying) == len(level):
        return
    instead: dict[Job, dict[Job, None]] = {}  # for each removed member, the kept ones that it waited for
    for job in level.topological_order():
        before: dict[Job, None] = {}
        for one in waits_for(level, job):
            before.update({one: None} if one in kept else instead[one])
        if job in kept:
            job.requires([requirement for requirement in before if requirement not in waits_for(level, job)])
        else:
            instead[job] = before
    level.keep_only(staying)
