"""Selection of jobs by job, path, or pattern of paths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from ..._core.api.views import AbstractJob, AnyJob, BaseScheduler, paths_of, printable, shown

K = TypeVar("K")
Wanted = AnyJob | str | Iterable[AnyJob | str]
"""Jobs, and paths or patterns of `job.path`."""


def chosen(scheduler: BaseScheduler, wanted: Wanted, option: str) -> set[AnyJob]:
    """Return the selected jobs below `scheduler`; a nested scheduler does not include its jobs.

    A string is the `job.path` of a job, or a pattern for it: see `matching`.

    Args:
        scheduler: the one whose jobs are searched, with the jobs of nested schedulers.
        wanted: a job, a path or pattern, or a collection of these.
        option: the name of the option, for errors.

    Raises:
        TypeError: an element of `wanted` is neither a job nor a string.
        ValueError: a job is not below `scheduler`, or a string matches no path.

    """
    paths = paths_of(scheduler)
    found: set[AnyJob] = set()
    for item in _as_collection(wanted, option):
        if isinstance(item, str):
            found.update(_matches(item, paths, scheduler, option))
        elif isinstance(item, AbstractJob):  # pyright: ignore[reportUnnecessaryIsInstance]
            found.add(_below(item, paths, scheduler, option))
        else:
            raise TypeError(f"{option}={shown(item)}: give jobs, or strings that match their job.path")
    return found


def matching(paths: Mapping[K, str], pattern: str) -> list[K]:
    """Return the job with this path, or else those whose paths match; `*` is any text, `?` any one character.

    A path matches as it is, or as it is shown, with control characters escaped.
    """
    shown = {job: printable(path) for job, path in paths.items()}
    exact = [job for job, path in paths.items() if pattern in (path, shown[job])]
    if exact:
        return exact
    # Not fnmatch, which would read the brackets of a default label, `fetch([1, 2])`, as a set of characters.
    fits = re.compile(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL).fullmatch
    return [job for job, path in shown.items() if fits(path) or fits(paths[job])]


def near(paths: Mapping[AnyJob, str], pattern: str) -> str:
    """Return a suggestion of a similar path, or an empty string."""
    import difflib  # here, because it is seldom needed

    close = difflib.get_close_matches(pattern, map(printable, paths.values()), n=3)
    return f"; do you mean {' or '.join(map(repr, close))}?" if close else ""


def _as_collection(wanted: Wanted, option: str) -> tuple[AnyJob | str, ...]:
    if isinstance(wanted, (str, AbstractJob)):  # a scheduler is a job, and iterable too
        return (wanted,)
    try:
        return tuple(wanted)
    except TypeError:
        raise TypeError(f"{option}={shown(wanted)}: give jobs, or strings that match their job.path") from None


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
