"""`--only`, `--from`, `--until`: the part of a scenario that is to run.

1. The jobs that are named, those behind `--from`, those before `--until`: what is in all that were given, is chosen.
2. What a chosen job cannot do without is kept too: its inputs, the services that it requires, and what these need.
3. All else goes. Who waited for what went waits for what that waited for, as far as it is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, NamedTuple

import click

from .._core import _checks, _graph
from .._core._jobs import AbstractJob
from .._core._labels import paths, printable
from .._core._scheduler import BaseScheduler
from ..view import _choice

Job = AbstractJob[Any]


class Part(NamedTuple):
    """The patterns of the command line."""

    only: tuple[str, ...] = ()
    starts: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()


def keep(scheduler: BaseScheduler, part: Part) -> None:
    """Take all out of the scheduler that does not belong to the part. O(V + E), and the requirements that replace.

    Raises:
        UsageError: a pattern that no job matches, or nothing is left.
        ValueError, RuntimeError: the scenario could not run.

    """
    if not any(part):
        return
    for _ in _checks.check(scheduler):
        pass
    named = paths(scheduler)
    chosen = [
        found(scheduler, [job for pattern in patterns for job in matching(named, pattern)])
        for found, patterns in ((_with_inside, part.only), (_from, part.starts), (_until, part.ends))
        if patterns
    ]
    kept = chosen[0].intersection(*chosen[1:])
    if not any(job for job in kept if not isinstance(job, BaseScheduler) or not len(job)):
        raise click.UsageError("no job is left of the scenario: --only, --from and --until must agree on some")
    kept |= _needed(kept)
    kept |= {around for job in kept for around in _around(job, scheduler)}
    for level in [scheduler, *(job for job in kept if isinstance(job, BaseScheduler))]:
        _reduce(level, kept)


def matching(named: dict[Job, str], pattern: str) -> list[Job]:
    """Return the jobs that a pattern means, in the sense of `graph(only=)` too.

    Raises:
        UsageError: there are none.

    """
    found = _choice.matching(named, pattern)
    if not found:
        hint = _choice.near(named, pattern) or ";"
        raise click.UsageError(f"no job has a path like {printable(pattern)!r}{hint} `list --paths` shows them all")
    return found


def _with_inside(scheduler: BaseScheduler, jobs: Iterable[Job]) -> set[Job]:
    """Return the jobs with all that is in them."""
    return {one for job in jobs for one in (job, *_inside(job))}


def _from(scheduler: BaseScheduler, jobs: Collection[Job]) -> set[Job]:
    """Return the jobs and all that waits for them."""
    return _reached(scheduler, jobs, lambda level: _graph.backlinks(level, level._waits_for).__getitem__)


def _until(scheduler: BaseScheduler, jobs: Collection[Job]) -> set[Job]:
    """Return the jobs and all that they wait for."""
    return _reached(scheduler, jobs, lambda level: level._waits_for)


def _reached(
    scheduler: BaseScheduler,
    jobs: Collection[Job],
    neighbours_in: Callable[[BaseScheduler], Callable[[Job], Iterable[Job]]],
) -> set[Job]:
    """Return the jobs and what is beyond them, in their own scheduler and in each one around it."""
    marked = set(jobs)
    holders = {around for job in jobs for around in _around(job, scheduler)}
    found: set[Job] = set()
    todo = [scheduler]
    while todo:
        level = todo.pop()
        neighbours = neighbours_in(level)
        here = [job for job in level if job in marked or job in holders]
        whole = _graph.reachable((other for job in here for other in neighbours(job)), neighbours)
        whole.update((job, None) for job in here if job in marked)
        found |= _with_inside(level, whole)
        todo += [job for job in here if job not in whole and isinstance(job, BaseScheduler)]
    return found


def _needed(jobs: Iterable[Job]) -> set[Job]:
    """Return the inputs and services that these jobs need, and those that these need in turn."""
    return set(_graph.reachable(jobs, _needs))


def _needs(job: Job) -> Iterator[Job]:
    yield from job._rule.inputs if job._rule is not None else ()
    yield from (one for one in job._required if one._is_service)


def _inside(job: Job) -> Iterator[Job]:
    return job.iterate_jobs() if isinstance(job, BaseScheduler) else iter(())


def _around(job: Job, outermost: BaseScheduler) -> Iterator[BaseScheduler]:
    """Yield the schedulers around a job, from the inside, `outermost` left out."""
    around = job.scheduler
    while around is not None and around is not outermost:
        yield around
        around = around.scheduler


def _reduce(level: BaseScheduler, kept: Collection[Job]) -> None:
    """Take the members out that are not kept, and order those that are as they were."""
    staying = [job for job in level if job in kept]
    if len(staying) == len(level):
        return
    instead: dict[Job, dict[Job, None]] = {}  # what those that go have waited for, as far as it stays
    for job in level.topological_order():
        before: dict[Job, None] = {}
        for one in level._waits_for(job):
            before.update({one: None} if one in kept else instead[one])
        if job in kept:
            job.requires([one for one in before if one not in level._waits_for(job)])
        else:
            instead[job] = before
    level.keep_only(staying)
