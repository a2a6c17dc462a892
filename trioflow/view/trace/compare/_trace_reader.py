"""The reader of trace files, as written by `Trace.export_as_json`, for comparisons.

In the file, the jobs on the critical path have the category `critical-path`. The reader divides the time of the run
into `PathSegment`s along this path, without gaps. So the differences between the segments of two runs add up to the
difference between their durations.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from ...._core.api.views import JobState, WaitCause
from ..._state_styles import CAUSES
from .._trace_events import VERSION

Event = dict[str, Any]
HINT: Final = "give two files that `trioflow run --trace FILE.json` has written"


class BadTrace(ValueError):
    """A file is not a trace, is damaged, or has an unknown version."""


class PathSegment(NamedTuple):
    """A part of the time along the critical path: a job, or the wait before it."""

    path: str
    """The path of the job; empty for the time after the last job."""
    is_wait: bool
    """Whether this is the wait between the end of the previous job and the start of this one."""
    seconds: float


@dataclass(frozen=True, slots=True)
class JobTimes:
    """The times of a job, summed over its runs if a nested scheduler ran it several times."""

    seconds: float
    """The time from the start of the job to its end."""
    waited: float
    """The time for which it waited after its requirements had settled."""
    state: str
    waited_for: str = ""
    """The cause of its longest wait in words, with the job that ended the wait; empty if it did not wait."""


@dataclass(frozen=True, slots=True)
class RunTimes:
    """The times of a run, read from a trace file."""

    name: str
    """The labels of the outermost schedulers."""
    seconds: float
    path_segments: tuple[PathSegment, ...]
    jobs: dict[str, JobTimes]
    """The times of jobs that started, by path, without nested schedulers."""
    not_started: dict[str, str]
    """The states of jobs that never started, by path."""


def read_trace(path: Path) -> RunTimes:
    """Read a trace from a file.

    Raises:
        BadTrace: it cannot be read as a trace; the message says why.

    """
    try:
        trace: Any = json.loads(path.read_bytes())
    except OSError as error:
        raise BadTrace(f"cannot read {str(path)!r}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise BadTrace(f"{str(path)!r} is not a trace: it is not JSON; {HINT}") from None
    try:
        other_data: Any = trace["otherData"]
        is_ours, version = other_data["program"] == "trioflow", other_data["version"]
    except (TypeError, KeyError, IndexError, AttributeError):
        is_ours, other_data, version = False, None, None
    if not is_ours:
        raise BadTrace(f"{str(path)!r} is not a trace of trioflow; {HINT}")
    if version != VERSION:
        raise BadTrace(
            f"{str(path)!r} was written by a newer trioflow: its format is {version!r}, and this one reads "
            f"{VERSION}; compare the two with that one, or make both anew"
        )
    try:
        return _run_times(trace, other_data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadTrace(f"{str(path)!r} is a damaged trace: {type(error).__name__}: {error}") from None


def _run_times(trace: Event, other_data: Event) -> RunTimes:
    events: list[Event] = trace["traceEvents"]
    processes = {event["pid"]: str(event["args"]["name"]) for event in events if event.get("name") == "process_name"}
    roots = {*other_data["roots"]}
    nested = {name for pid, name in processes.items() if pid not in roots}
    slices = [event for event in events if event.get("ph") == "X" and str(event.get("cat", "")).startswith("job")]
    leaves = [leaf for leaf in slices if str(leaf["args"]["path"]) not in nested]
    seconds = float(other_data["seconds"])
    return RunTimes(
        name=", ".join(processes[pid] for pid in sorted(roots)) or "nothing has run",
        seconds=seconds,
        path_segments=tuple(_path_segments([leaf for leaf in leaves if "critical-path" in leaf["cat"]], seconds)),
        jobs=_jobs(leaves),
        not_started={str(path): JobState(state).value for path, state in other_data["notStarted"].items()},
    )


def _jobs(leaves: list[Event]) -> dict[str, JobTimes]:
    jobs: dict[str, JobTimes] = {}
    for leaf in leaves:
        args = leaf["args"]
        path = str(args["path"])
        before = jobs.get(path, JobTimes(0.0, 0.0, ""))
        waits: list[Event] = [wait for wait in args.get("waits", ()) if wait["cause"] != "jobs"]
        jobs[path] = JobTimes(
            before.seconds + _seconds(leaf["dur"]),
            before.waited + _seconds(args["waited_us"] or 0.0),
            JobState(args["state"]).value,
            _wait_text(max(waits, key=lambda wait: float(wait["dur"]))) if waits else before.waited_for,
        )
    return jobs


def _wait_text(wait: Event) -> str:
    by = f", until {wait['released_by']}" if "released_by" in wait else ""
    return f"{CAUSES[WaitCause(wait['cause'])].awaited.format(wait['name'])}{by}"


def _path_segments(chain: list[Event], total: float) -> Iterator[PathSegment]:
    """Yield the segments along the critical path, whose jobs are `chain`, in a run of `total` seconds."""
    chain.sort(key=lambda leaf: float(leaf["ts"]))
    now = 0.0
    for leaf, following in itertools.pairwise([*chain, None]):
        assert leaf is not None
        path, start = str(leaf["args"]["path"]), _seconds(leaf["ts"])
        if start > now:
            yield PathSegment(path, True, start - now)
            now = start
        end = start + _seconds(leaf["dur"])
        if following is not None:
            end = min(end, _seconds(following["ts"]))  # a service still runs when a job that requires it starts
        if end > now:
            yield PathSegment(path, False, end - now)
            now = end
    if total > now:
        yield PathSegment("", True, total - now)


def _seconds(microseconds: Any) -> float:
    seconds = float(microseconds) / 1e6
    if not math.isfinite(seconds):
        raise ValueError(f"{microseconds} is not a time")
    return seconds
