"""The selection of jobs by the jobs themselves, by their paths, or by patterns that match their paths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from ..._core.api.views import AbstractJob, AnyJob, BaseScheduler, paths_of, printable, short_repr

K = TypeVar("K")
JobSelection = AnyJob | str | Iterable[AnyJob | str]
"""The value of an option that selects jobs: a job, a path, a pattern of paths, or a collection of these."""


def select_jobs(scheduler: BaseScheduler, selection: JobSelection, option: str) -> set[AnyJob]:
    """Return the selected jobs of `scheduler`; selecting a nested scheduler does not select its members.

    A string selects the job with this `job.path`, or all jobs whose paths it matches: see `match_paths`.

    Args:
        scheduler: the scheduler whose jobs are searched, those of nested schedulers included.
        selection: a job, a path or pattern, or a collection of these.
        option: the name of the user's option, for errors.

    Raises:
        TypeError: an element of `selection` is neither a job nor a string.
        ValueError: a job is not in `scheduler`, or a string matches no path.

    """
    paths = paths_of(scheduler)
    selected: set[AnyJob] = set()
    for item in _as_collection(selection, option):
        if isinstance(item, str):
            selected.update(_jobs_matching(item, paths, scheduler, option))
        elif isinstance(item, AbstractJob):  # pyright: ignore[reportUnnecessaryIsInstance]
            if item not in paths:
                raise ValueError(f"{option}: {item.label!r} is not in {scheduler.label!r}, nor nested there")
            selected.add(item)
        else:
            raise TypeError(f"{option}={short_repr(item)}: give jobs, or strings that match their job.path")
    return selected


def match_paths(paths: Mapping[K, str], pattern: str) -> list[K]:
    """Return the keys whose path equals `pattern`; if there are none, those whose path matches it.

    In a pattern, `*` matches any text, and `?` any one character. Both comparisons also accept a path in its displayed
    form, with control characters escaped.
    """
    escaped = {key: printable(path) for key, path in paths.items()}
    exact = [key for key, path in paths.items() if pattern in (path, escaped[key])]
    if exact:
        return exact
    # Not fnmatch: it would read the brackets of a default label, as in `fetch([1, 2])`, as a set of characters.
    matches = re.compile(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL).fullmatch
    return [key for key, path in escaped.items() if matches(path) or matches(paths[key])]


def suggest_paths(paths: Mapping[AnyJob, str], pattern: str) -> str:
    """Return a hint that names paths similar to `pattern`, or an empty string if there are none."""
    import difflib  # imported late: it is seldom needed

    close = difflib.get_close_matches(pattern, map(printable, paths.values()), n=3)
    return f"; do you mean {' or '.join(map(repr, close))}?" if close else ""


def _as_collection(selection: JobSelection, option: str) -> tuple[AnyJob | str, ...]:
    if isinstance(selection, (str, AbstractJob)):  # checked first, because strings and schedulers are iterable
        return (selection,)
    try:
        return tuple(selection)
    except TypeError:
        raise TypeError(f"{option}={short_repr(selection)}: give jobs, or strings that match their job.path") from None


def _jobs_matching(pattern: str, paths: Mapping[AnyJob, str], scheduler: BaseScheduler, option: str) -> list[AnyJob]:
    matches = match_paths(paths, pattern)
    if not matches:
        hint = suggest_paths(paths, pattern)
        raise ValueError(f"{option}={pattern!r}: no job of {scheduler.label!r} has a path like this{hint}")
    return matches
