"""The option `--only`, which selects the part of a scenario to run.

1. `--only` selects the jobs that match its patterns, and all jobs nested in these.
2. The jobs that a selected job depends on are kept, too: the jobs whose results it takes, and the services that it
   requires, with those that they depend on in turn.
3. All other jobs are removed. A kept job that waited for a removed job now waits for the kept jobs before that one.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
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
from ..graph import keep_only, topological_order
from ..view.text import _selection

AnyMember = AbstractJob[Any]


def keep_selected_jobs(scheduler: Scheduler, patterns: Sequence[str]) -> None:
    """Remove all jobs that are neither selected nor needed by a selected job; without patterns, remove none.

    This takes O(V + E + R) time, where R is the number of requirements that are added between kept jobs.

    Args:
        scheduler: the outermost scheduler.
        patterns: the patterns of `--only`.

    Raises:
        UsageError: no job matches one of the patterns.
        ValueError, RuntimeError: the scenario cannot run, for example because of a cycle.

    """
    if not patterns:
        return
    check_scenario(scheduler)
    paths = paths_of(scheduler)
    selected = [job for pattern in patterns for job in match_jobs(paths, pattern)]
    kept = set(selected).union(*(job.iterate_jobs() for job in selected if isinstance(job, Scheduler)))
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
    for job in topological_order(level):
        predecessors: dict[AnyMember, None] = {}
        for predecessor in all_requirements(level, job):
            predecessors.update({predecessor: None} if predecessor in kept else substitutes[predecessor])
        if job in kept:
            job.requires(
                [requirement for requirement in predecessors if requirement not in all_requirements(level, job)]
            )
        else:
            substitutes[job] = predecessors
    keep_only(level, kept_members)
