"""Which jobs somebody means: jobs themselves, their paths, and patterns of paths."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from typing import Any, Final

from .._core import _labels
from .._core._jobs import AbstractJob
from .._core._scheduler import BaseScheduler

AnyJob = AbstractJob[Any]
Wanted = AnyJob | str | Iterable[AnyJob | str]
"""Jobs, and patterns of `job.path`."""

WILD: Final = frozenset("*?[")


def chosen(scheduler: BaseScheduler, wanted: Wanted, option: str) -> set[AnyJob]:
    """Return the jobs below `scheduler` that are meant; a nested scheduler stands for itself alone.

    A string is the `job.path` of a job; if there is no such job, a pattern of it, in which `*` stands for any
    characters, "/" too, `?` for one, and `[abc]` for one of these.

    Args:
        scheduler: the one whose jobs are looked through, those of nested schedulers too.
        wanted: a job, a path or pattern, or a collection of these.
        option: how an error calls it.

    Raises:
        TypeError: something that is none of these.
        ValueError: a job that is not below `scheduler`, or a string that no path matches.

    """
    paths = paths_below(scheduler)
    jobs = {path: job for job, path in paths.items()}
    found: set[AnyJob] = set()
    for one in _as_collection(wanted, option):
        if isinstance(one, str):
            found.update(_matches(one, jobs, scheduler, option))
        elif isinstance(one, AbstractJob):  # pyright: ignore[reportUnnecessaryIsInstance]
            found.add(_below(one, paths, scheduler, option))
        else:
            raise TypeError(f"{option}={one!r}: give jobs, or strings that match their job.path")
    return found


def paths_below(scheduler: BaseScheduler) -> dict[AnyJob, str]:
    """Return `job.path` of each job below `scheduler`, at the cost of one walk."""
    prefix = f"{scheduler.path}/" if scheduler.scheduler is not None else ""
    return {job: prefix + path for job, path in _labels.paths(scheduler).items()}


def _as_collection(wanted: Wanted, option: str) -> tuple[AnyJob | str, ...]:
    if isinstance(wanted, (str, AbstractJob)):  # a scheduler is a job, and iterable too
        return (wanted,)
    try:
        return tuple(wanted)
    except TypeError:
        raise TypeError(f"{option}={wanted!r}: give jobs, or strings that match their job.path") from None


def _matches(pattern: str, jobs: Mapping[str, AnyJob], scheduler: BaseScheduler, option: str) -> list[AnyJob]:
    if pattern in jobs:
        return [jobs[pattern]]
    matching = fnmatch.filter(jobs, pattern) if not WILD.isdisjoint(pattern) else []
    if not matching:
        import difflib

        close = difflib.get_close_matches(pattern, jobs, n=3)
        hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise ValueError(f"{option}={pattern!r}: no job of {scheduler.label!r} has a path like this{hint}")
    return [jobs[path] for path in matching]


def _below(job: AnyJob, paths: Mapping[AnyJob, str], scheduler: BaseScheduler, option: str) -> AnyJob:
    if job not in paths:
        raise ValueError(f"{option}: {job.label!r} is not in {scheduler.label!r}, nor nested there")
    return job
