"""Durations of the jobs of a scenario, from a mapping, the trace of a run, or a file.

A file of durations is JSON: `{"trioflow durations": 1, "seconds": {path: seconds}}`. It is replaced atomically: readers
never see a partial file. While a process writes the file, it locks a second file, whose name ends in `.lock`.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

from .. import _posix as posix
from .._core.base._logger import warn
from .._core.base._states import JobState
from .._core.base._text_forms import short_repr
from .._core.job._job import AnyJob
from .._core.job._job_options import duration, file_path
from .._core.job._labels import paths_of
from .._core.scheduler._base_scheduler import BaseScheduler
from ..view._exports import write_atomically
from ..view.trace._trace import Trace

DurationSource: TypeAlias = Mapping[str, float] | Trace | str | os.PathLike[str]

FORMAT_VERSION: Final = 1
VERSION_KEY: Final = "trioflow durations"


def resolve_durations(value: object, scheduler: BaseScheduler) -> dict[AnyJob, float]:
    """Return the durations that `value` gives for the jobs of an outermost scheduler, in O(V) time.

    If it has durations for both the path and the label of a job, the duration for the path is used.

    Raises:
        TypeError: the type of `value` is not supported.
        ValueError: a duration is not a finite number of seconds.
        ValueError: a file has an unknown format or version.

    """
    known = read_durations(value, f"durations of {scheduler.label!r}")
    durations: dict[AnyJob, float] = {}
    if not known:
        return durations
    for job, path in paths_of(scheduler).items():
        if (duration := known.get(path)) is None:
            duration = known.get(job.label)
        if duration is not None:
            durations[job] = duration
    return durations


def read_durations(value: object, description: str) -> dict[str, float]:
    """Return durations in seconds, keyed by the path or label of the job.

    From a trace, take the jobs that succeeded, except forever jobs. The time that a job waited for its machine, or for
    another attempt, does not count.

    Args:
        value: a mapping, a trace, or the path of a file. None is no durations.
        description: the name of the value in error messages.

    Raises:
        TypeError: the type of `value` is not supported.
        ValueError: a duration is not a finite number of seconds.
        ValueError: a file has an unknown format or version.

    """
    if value is None:
        return {}
    if isinstance(value, Mapping):
        mapping = cast("Mapping[Any, Any]", value)  # type: ignore[redundant-cast]  # pyright needs it
        return {
            str(name): duration(number, f"{description}: {name!r}", "a job")
            for name, number in mapping.items()
        }
    if isinstance(value, (str, os.PathLike)):
        return _parse_file(Path(file_path(value, description, "a scheduler")))  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, Trace):
        return {
            span.path: span.took
            for span in value.spans
            if span.state is JobState.SUCCEEDED
            and span.took is not None
            and not (span.forever or span.restored)
        }
    raise TypeError(
        f"{description}: {short_repr(value)} is not a mapping of labels or paths to seconds, a Trace, or the path of "
        "a file"
    )


def record_durations(file: Any, scheduler: BaseScheduler) -> None:
    """Update a file with the durations of the jobs that ran and succeeded, except forever jobs.

    The time that a job waited for its machine, or for another attempt, does not count. Errors are logged, not raised.
    """
    path = Path(file)
    new_durations = dict[str, float]()
    for job, name in paths_of(scheduler).items():
        seconds = job.took
        has_run = job.is_succeeded() and not (job.forever or job.restored)
        if has_run and seconds is not None:
            new_durations[name] = seconds
    if not new_durations:
        return
    try:
        with _lock_file(path):
            content = {
                VERSION_KEY: FORMAT_VERSION,
                "seconds": {**_parse_file(path), **new_durations},
            }
            write_atomically(path, json.dumps(content, indent=0, sort_keys=True))
    except (OSError, ValueError) as error:
        warn(f"durations of {scheduler.label!r} were not written to {path}: {error}")


def _parse_file(path: Path) -> dict[str, float]:
    """Parse a file of durations. Return an empty dict if the file is missing or empty."""
    try:
        text = posix.read_named(path).decode(errors="replace")
    except FileNotFoundError:
        return {}
    if not text:
        return {}
    try:
        content: Any = json.loads(text)
        version = content[VERSION_KEY]
        durations: dict[Any, Any] = {}
        if version == FORMAT_VERSION:
            durations = dict(content["seconds"])
    except (KeyError, TypeError, ValueError, RecursionError):
        raise ValueError(
            f"{path} is no durations file, and stays as it is: give one of a Scheduler"
        ) from None
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {version!r}, but this trioflow writes version {FORMAT_VERSION}: "
            f"give another file, or remove this one"
        )
    return {
        str(name): duration(number, f"{path}: {name!r}", "a job")
        for name, number in durations.items()
    }


@contextlib.contextmanager
def _lock_file(path: Path) -> Generator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    lock_path = path.with_name(path.name + ".lock")
    descriptor = posix.open_regular(lock_path, os.O_RDWR | os.O_CREAT)
    with open(descriptor, "wb") as lock:
        if posix.IS_POSIX:
            # On Windows, there is no lock, and the last writer wins.
            posix.fcntl.flock(lock, posix.fcntl.LOCK_EX)
        yield
