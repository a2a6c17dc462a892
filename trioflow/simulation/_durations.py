"""Durations of the jobs of a scenario, from a mapping, an earlier trace, a file, or ninja's log.

A file of durations is JSON: `{"trioflow durations": 1, "seconds": {path: seconds}}`. It is replaced atomically, so that
a reader never sees half of it; a lock on a file beside it serializes writers.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from .. import _posix as posix
from .._core.api.views import (
    AnyJob,
    BaseScheduler,
    JobState,
    WaitCause,
    duration,
    file_path,
    machine_waits,
    paths_of,
    short_repr,
    warn,
)
from ..view.trace._trace import Trace

if TYPE_CHECKING:
    Durations: TypeAlias = Mapping[str, float] | Trace | str | os.PathLike[str]

VERSION: Final = 1
KEY: Final = "trioflow durations"
NINJA: Final = "# ninja log v"
NINJA_VERSIONS: Final = (5, 6, 7)
"""Their lines have start and end in milliseconds, a time of change, an output and a hash, separated by tabs."""


def is_file(value: object) -> bool:
    """Return whether durations are given as a file to keep up to date."""
    return isinstance(value, (str, os.PathLike)) and Path(cast("str", value)).name != ".ninja_log"


def durations_of_jobs(value: Any, scheduler: BaseScheduler) -> dict[AnyJob, float]:
    """Return the known durations of the jobs of an outermost scheduler, at any depth. O(V).

    Paths take precedence over labels.

    Raises:
        TypeError: an unsupported type for `durations`.
        ValueError: a duration is not a finite number of seconds, or a file is of another version.

    """
    known = check_durations(value, f"durations of {scheduler.label!r}")
    durations: dict[AnyJob, float] = {}
    for job, path in paths_of(scheduler).items() if known else ():
        duration = known.get(path)
        if duration is None:
            duration = known.get(job.label)
        if duration is not None:
            durations[job] = duration
    return durations


def check_durations(value: Any, what: str) -> dict[str, float]:
    """Return the durations by path or label.

    Raises:
        TypeError: an unsupported type for `durations`.
        ValueError: a duration is not a finite number of seconds, or a file is of another version.

    """
    if value is None:
        return {}
    if isinstance(value, Mapping):
        named = cast("Mapping[Any, Any]", value)  # type: ignore[redundant-cast]  # pyright needs it
        return {str(name): duration(number, f"{what}: {name!r}", "a job") for name, number in named.items()}
    if isinstance(value, (str, os.PathLike)):
        return _read_file(Path(file_path(value, what, "a scheduler")))
    if isinstance(value, Trace):
        return {
            span.path: span.elapsed - sum(wait.seconds for wait in span.waits if wait.cause is WaitCause.MACHINE)
            for span in value.spans
            if span.state is JobState.SUCCEEDED and span.elapsed is not None and not span.forever
        }
    raise TypeError(
        f"{what}: {short_repr(value)} is not a mapping of labels or paths to seconds, a Trace, or the path of a file"
    )


def record_durations(file: Any, scheduler: BaseScheduler) -> None:
    """Write the durations of the SUCCEEDED jobs to a file; an error is logged."""
    path = Path(file)
    new = {
        name: job.elapsed - sum(until - since for since, until in machine_waits(job))
        for job, name in paths_of(scheduler).items()
        if job.is_succeeded() and not job.forever and not job.restored and job.elapsed is not None
    }
    if not new:
        return
    try:
        with _lock_file(path):
            content = _read_durations(path)
            if content is None:
                aside = path.with_name(path.name + ".torn")
                os.replace(path, aside)
                warn(f"{path} was torn: it was renamed to {aside.name}, and a new one was begun")
            _write_atomically(path, {**(content or {}), **new})
    except (OSError, ValueError) as error:
        warn(f"durations of {scheduler.label!r} were not written to {path}: {error}")


def _read_file(path: Path) -> dict[str, float]:
    """Return the durations in a file; none if it is missing or torn, which is reported."""
    content = _read_durations(path)
    if content is None:
        warn(f"{path} is torn: no durations are known from it")
    return content or {}


def _read_durations(path: Path) -> dict[str, float] | None:
    """Return the durations in a file; none if it is missing, and None if it is torn."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return {}
    if text.startswith(NINJA):
        return _read_ninja_log(path, text.splitlines())
    try:
        content: Any = json.loads(text)
    except ValueError:
        begun = text.strip("\0").lstrip()
        if not begun or begun.startswith("{"):
            return None
        content = None
    try:
        version = content[KEY]
        named: dict[Any, Any] = dict(content["seconds"]) if version == VERSION else {}
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            f"{path} is not a file of durations, and is left alone: give one that a Scheduler has written"
        ) from None
    if version != VERSION:
        raise ValueError(
            f"{path} has durations of version {version!r}, and this trioflow writes version {VERSION}: "
            f"give another file, or remove this one"
        )
    return {str(name): duration(number, f"{path}: {name!r}", "a job") for name, number in named.items()}


def _read_ninja_log(path: Path, lines: list[str]) -> dict[str, float]:
    version = lines[0].removeprefix(NINJA).strip()
    if not version.isdigit() or int(version) not in NINJA_VERSIONS:
        known = ", ".join(map(str, NINJA_VERSIONS))
        raise ValueError(f"{path} is a log of ninja of version {version}; those that can be read are {known}")
    seconds: dict[str, float] = {}
    for line in lines[1:]:
        fields = line.split("\t")
        if len(fields) == 5 and fields[0].isdigit() and fields[1].isdigit():  # the last line may be torn
            seconds[fields[3]] = max(0, int(fields[1]) - int(fields[0])) / 1000
    return seconds


@contextlib.contextmanager
def _lock_file(path: Path) -> Generator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(path.name + ".lock"), "w") as lock:
        if posix.IS_POSIX:  # on other systems, the last writer wins
            posix.fcntl.flock(lock, posix.fcntl.LOCK_EX)
        yield


def _write_atomically(path: Path, seconds: dict[str, float]) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".new")
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump({KEY: VERSION, "seconds": seconds}, file, indent=0, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
