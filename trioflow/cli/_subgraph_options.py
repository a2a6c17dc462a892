"""The options `--only`, `--from` and `--until`, which select the part of a scenario to run.

1. `--only` selects the jobs that match its patterns. `--from` also selects all jobs that wait for these, and `--until`
   all jobs that these wait for. If several options are given, a job must be selected by each of them.
2. The jobs that a selected job depends on are kept, too: the jobs whose results it takes, and the services that it
   requires, with those that they depend on in turn.
3. All other jobs are removed. A kept job that waited for a removed job now waits for the kept jobs before that one.
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
    all_requirements,
    check_scenario,
    enclosing_schedulers,
    inputs_of,
    is_service,
    paths_of,
    printable,
    reachable,
)
from ..view.text import _selection

AnyMember = AbstractJob[Any]


def keep_selected_jobs(
    scheduler: Scheduler, only: Sequence[str] = (), starts: Sequence[str] = (), ends: Sequence[str] = ()
) -> None:
    """Remove all jobs that are neither selected nor needed by a selected job.

    This takes O(V + E + R) time, where R is the number of requirements that are added between kept jobs.

    Args:
        scheduler: the outermost scheduler.
        only: the patterns of `--only`.
        starts: the patterns of `--from`.
        ends: the patterns of `--until`.

    Raises:
        UsageError: no job matches one of the patterns.
        UsageError: no job is selected by all options.
        ValueError, RuntimeError: the scenario cannot run, for example because of a cycle.

    """
    if not (only or starts or ends):
        return
    check_scenario(scheduler)
    paths = paths_of(scheduler)
    selections = [
        select(scheduler, [job for pattern in patterns for job in match_jobs(paths, pattern)])
        for select, patterns in ((_add_nested, only), (_add_successors, starts), (_add_predecessors, ends))
        if patterns
    ]
    kept = selections[0].intersection(*selections[1:])
    if not any(job for job in kept if not isinstance(job, Scheduler) or not len(job)):
        raise click.UsageError("no job is selected by all of --only, --from and --until")
    kept |= reachable(kept, _dependencies).keys()
    kept |= {enclosing for job in kept for enclosing in _enclosing_schedulers(job, scheduler)}
    for level in [scheduler, *(job for job in kept if isinstance(job, Scheduler))]:
        _remove_unselected(level, kept)


def match_jobs(paths: dict[AnyMember, str], pattern: str) -> list[AnyMember]:
    """Return the jobs whose paths match a pattern. Patterns have the same form as those of `graph(only=)`.

    Raises:
        UsageError: no job matches.

    """
    matches = _selection.match_paths(paths, pattern)
    if not matches:
        hint = _selection.suggest_paths(paths, pattern) or ";"
        raise click.UsageError(
            f"no job has a path like {printable(pattern)!r}{hint} `trioflow list --paths` shows all paths"
        )
    return matches


def _add_nested(scheduler: Scheduler, jobs: Iterable[AnyMember]) -> set[AnyMember]:
    return {member for job in jobs for member in (job, *(job.iterate_jobs() if isinstance(job, Scheduler) else ()))}


def _add_successors(scheduler: Scheduler, jobs: Collection[AnyMember]) -> set[AnyMember]:
    return _reachable(scheduler, jobs, _make_successor_map)


def _add_predecessors(scheduler: Scheduler, jobs: Collection[AnyMember]) -> set[AnyMember]:
    return _reachable(scheduler, jobs, lambda level: partial(all_requirements, level))


def _make_successor_map(level: Scheduler) -> Callable[[AnyMember], Iterable[AnyMember]]:
    successors: dict[AnyMember, list[AnyMember]] = {job: [] for job in level}
    for job in level:
        for predecessor in all_requirements(level, job):
            successors[predecessor].append(job)
    return successors.__getitem__


def _reachable(
    scheduler: Scheduler,
    jobs: Collection[AnyMember],
    neighbors_in: Callable[[Scheduler], Callable[[AnyMember], Iterable[AnyMember]]],
) -> set[AnyMember]:
    """Return the jobs together with all jobs that can be reached from them.

    In each scheduler that encloses one of the jobs, the search starts at the member that is the job or contains it. If
    the search reaches a scheduler, all jobs nested in that scheduler are reached, too.

    Args:
        scheduler: the outermost scheduler.
        jobs: the jobs to start from.
        neighbors_in: takes a scheduler, and returns a function that maps its members to their neighbors.

    """
    starts = set(jobs)
    containers = {enclosing for job in jobs for enclosing in _enclosing_schedulers(job, scheduler)}
    reached: set[AnyMember] = set()
    queue = [scheduler]
    while queue:
        level = queue.pop()
        neighbors = neighbors_in(level)
        start_members = [job for job in level if job in starts or job in containers]
        reached_members = reachable((other for job in start_members for other in neighbors(job)), neighbors)
        reached_members.update((job, None) for job in start_members if job in starts)
        reached |= _add_nested(level, reached_members)
        queue += [job for job in start_members if job not in reached_members and isinstance(job, Scheduler)]
    return reached


def _dependencies(job: AnyMember) -> Iterator[AnyMember]:
    yield from inputs_of(job)
    yield from (requirement for requirement in job.required if is_service(requirement))


def _enclosing_schedulers(job: AnyMember, outermost: Scheduler) -> Iterator[AnyMember]:
    yield from itertools.takewhile(lambda enclosing: enclosing is not outermost, enclosing_schedulers(job))


def _remove_unselected(level: Scheduler, kept: Collection[AnyMember]) -> None:
    """Remove the members of a scheduler that are not in `kept`. The kept members stay in order."""
    kept_members = [job for job in level if job in kept]
    if len(kept_members) == len(level):
        return
    # Maps each removed member to the kept members that it waited for, directly or through other removed members.
    substitutes: dict[AnyMember, dict[AnyMember, None]] = {}
    for job in level.topological_order():
        predecessors: dict[AnyMember, None] = {}
        for predecessor in all_requirements(level, job):
            predecessors.update({predecessor: None} if predecessor in kept else substitutes[predecessor])
        if job in kept:
            job.requires(
                [requirement for requirement in predecessors if requirement not in all_requirements(level, job)]
            )
        else:
            substitutes[job] = predecessors
    level.keep_only(kept_members)
