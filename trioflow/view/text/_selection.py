"""The selection of jobs: by job, by path, or by a pattern that matches paths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

from ..._core.base._text_forms import clause, short_repr
from ..._core.job._job import AbstractJob, AnyJob, is_job
from ..._core.job._labels import paths_of, printable, unescape_path
from ..._core.scheduler._base_scheduler import BaseScheduler
from ..._core.words._job_queries import settled_only_for as settled_only_for

Key = TypeVar("Key")
JobSelection = AnyJob | str | Iterable[AnyJob | str]
"""The value of an option that selects jobs: a job, a path, a pattern of paths, or a collection of these."""
SELECTION_ADVICE: Final = "give jobs, or strings that match their job.path"


def select_jobs(scheduler: BaseScheduler, selection: JobSelection) -> set[AnyJob]:
    """Return the jobs that the option `collapse` selects. Selecting a nested scheduler does not select its members.

    A string selects the job whose `job.path` equals the string. If there is no such job, the string is a pattern and
    selects all jobs whose paths match the pattern, as described in `match_paths`.

    Args:
        scheduler: the scheduler whose jobs are searched, including jobs of nested schedulers.
        selection: a job, a path or pattern, or a collection of these.

    Raises:
        TypeError: an element of `selection` is neither a job nor a string.
        ValueError: a job is not in `scheduler`, or a string matches no path.

    """
    # Strings and schedulers are iterable.
    try:
        if isinstance(selection, (str, AbstractJob)):
            selection = [selection]
        items = tuple(selection)
    except TypeError:
        raise TypeError(
            f"collapse={short_repr(selection)}: {SELECTION_ADVICE}"
        ) from None
    paths = paths_of(scheduler)
    selected_jobs: set[AnyJob] = set()
    for item in items:
        if isinstance(item, str):
            matches = match_paths(paths, item)
            if not matches:
                hint = suggest_paths(paths, item)
                raise ValueError(
                    f"collapse={item!r}: no job of {scheduler.label!r} has a path like this{hint}"
                )
            selected_jobs.update(matches)
        elif is_job(item):
            if item not in paths:
                raise ValueError(
                    f"collapse: {item.label!r} is neither in {scheduler.label!r} nor nested in it"
                )
            selected_jobs.add(item)
        else:
            raise TypeError(f"collapse={short_repr(item)}: {SELECTION_ADVICE}")
    return selected_jobs


def match_paths(paths: Mapping[Key, str], pattern: str) -> list[Key]:
    """Return the keys whose path equals `pattern`. If no path does, return the keys whose path matches `pattern`.

    In a pattern, `*` matches any text, and `?` matches any single character. The pattern may be written as paths are
    displayed, with control characters escaped, or as the labels are, with nothing escaped.
    """
    equal_keys = list[Key]()
    matching_keys = list[Key]()
    matches = glob_pattern(pattern).fullmatch
    for key, path in paths.items():
        forms = path, printable(path), unescape_path(path)
        if pattern in forms[:2]:
            equal_keys.append(key)
        if any(map(matches, forms)):
            matching_keys.append(key)
    return equal_keys or matching_keys


def glob_pattern(glob: str) -> re.Pattern[str]:
    """Compile a pattern of paths. Matching takes linear time: the first place of each part between two `*` is final.

    `fnmatch` would interpret the brackets of a default label, as in `fetch([1, 2])`, as a set of characters.
    """
    first, *others = (re.escape(part).replace(r"\?", ".") for part in glob.split("*"))
    last = ""
    if others:
        last = f".*{others.pop()}"
    middle = "".join(f"(?>.*?{part})" for part in others)
    return re.compile(first + middle + last, re.DOTALL)


def suggest_paths(paths: Mapping[AnyJob, str], pattern: str) -> str:
    """Return a hint that names paths similar to `pattern`, or an empty string if no path is similar."""
    # Imported here, because it is seldom needed.
    import difflib

    similar = difflib.get_close_matches(pattern, map(printable, paths.values()), n=3)
    return clause("; do you mean {}?", " or ".join(f"'{path}'" for path in similar))


def readable_path(path: str) -> str:
    """Return a path for a sentence that only people read: without escapes, but printable."""
    return printable(unescape_path(path))
