"""Which jobs somebody means: jobs themselves, their paths, and patterns of paths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from .._core import _labels
from .._core._jobs import AbstractJob
from .._core._scheduler import BaseScheduler

AnyJob = AbstractJob[Any]
Wanted = AnyJob | str | Iterable[AnyJob | str]
"""Jobs, and patterns of `job.path`."""


def chosen(scheduler: BaseScheduler, wanted: Wanted, option: str) -> set[AnyJob]:
    """Return the jobs below `scheduler` that are meant; a nested scheduler stands for itself alone.

    A string is the `job.path` of a job, or a pattern of it: see `matching`.

    Args:
        scheduler: the one whose jobs are looked through, those of nested schedulers too.
        wanted: a job, a path or pattern, or a collection of these.
        option: how an error calls it.

    Raises:
        TypeError: something that is none of these.
        ValueError: a job that is not below `scheduler`, or a string that no path matches.

    """
    paths = _labels.paths(scheduler)
    found: set[AnyJob] = set()
    for one in _as_collection(wanted, option):
        if isinstance(one, str):
            found.update(_matches(one, paths, scheduler, option))
        elif isinstance(one, AbstractJob):  # pyright: ignore[reportUnnecessaryIsInstance]
            found.add(_below(one, paths, scheduler, option))
        else:
            raise TypeError(f"{option}={one!r}: give jobs, or strings that match their job.path")
    return found


def matching(paths: Mapping[AnyJob, str], pattern: str) -> list[AnyJob]:
    """Return the job with this path, or else those whose paths match; `*` is any text, `?` any one character.

    Paths match as they are, or as they are shown, control characters escaped.
    """
    shown = {job: _labels.printable(path) for job, path in paths.items()}
    exact = [job for job, path in paths.items() if pattern in (path, shown[job])]
    if exact:
        return exact
    # Not fnmatch: to it the brackets of a default label, `Job[fetch (...)]`, would be a set of characters.
    fits = re.compile(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL).fullmatch
    return [job for job, path in shown.items() if fits(path) or fits(paths[job])]


def near(paths: Mapping[AnyJob, str], pattern: str) -> str:
    """Return the question whether something like `pattern` is meant that is there, or nothing."""
    import difflib  # late: few need it

    close = difflib.get_close_matches(pattern, map(_labels.printable, paths.values()), n=3)
    return f"; do you mean {' or '.join(map(repr, close))}?" if close else ""


def _as_collection(wanted: Wanted, option: str) -> tuple[AnyJob | str, ...]:
    if isinstance(wanted, (str, AbstractJob)):  # a scheduler is a job, and iterable too
        return (wanted,)
    try:
        return tuple(wanted)
    except TypeError:
        raise TypeError(f"{option}={wanted!r}: give jobs, or strings that match their job.path") from None


def _matches(pattern: str, paths: Mapping[AnyJob, str], scheduler: BaseScheduler, option: str) -> list[AnyJob]:
    found = matching(paths, pattern)
    if not found:
        hint = near(paths, pattern)
        raise ValueError(f"{option}={pattern!r}: no job of {scheduler.label!r} has a path like this{hint}")
    return found


def _below(job: AnyJob, paths: Mapping[AnyJob, str], scheduler: BaseScheduler, option: str) -> AnyJob:
    if job not in paths:
        raise ValueError(f"{option}: {job.label!r} is not in {scheduler.label!r}, nor nested there")
    return job
