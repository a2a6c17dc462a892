"""`read`: the reader of a file that `Trace.export_as_json` has written, for a comparison.

The critical path is in the file: its jobs have the category `critical-path`. Here it becomes `PathSegment`s that follow
each other from the beginning of the run to its end without a gap. So the differences of their lengths add up to the
difference of the whole.
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
    """A file is not a trace, or has an unknown version."""


class PathSegment(NamedTuple):
    """A part of the critical path."""

    path: str
    """The path of the job; empty for the rest, after the last job."""
    is_wait: bool
    """Whether the job had not begun: the time between the end of the job before it and its start."""
    seconds: float


@dataclass(frozen=True, slots=True)
class JobTimes:
    """The times of a job; if a nested scheduler has run it several times, their sums."""

    seconds: float
    waited: float
    """Seconds in which it waited, though what it requires had settled."""
    state: str
    waited_for: str = ""
    """Its longest wait, in words, and the job that ended it; empty without a wait."""


@dataclass(frozen=True, slots=True)
class RunTimes:
    """One run."""

    name: str
    seconds: float
    pieces: tuple[PathSegment, ...]
    jobs: dict[str, JobTimes]
    """The started jobs that are not schedulers, by path."""
    not_started: dict[str, str]
    """The states of the jobs that never started."""


def read(path: Path) -> RunTimes:
    """Read a trace from a file.

    Raises:
        BadTrace: it cannot be read as a trace; the message says why.

    """
    try:
        whole: Any = json.loads(path.read_bytes())
    except OSError as error:
        raise BadTrace(f"cannot read {str(path)!r}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise BadTrace(f"{str(path)!r} is not a trace: it is not JSON; {HINT}") from None
    try:
        about: Any = whole["otherData"]
        is_ours, version = about["program"] == "trioflow", about["version"]
    except (TypeError, KeyError, IndexError, AttributeError):
        is_ours, about, version = False, None, None
    if not is_ours:
        raise BadTrace(f"{str(path)!r} is not a trace of trioflow; {HINT}")
    if version != VERSION:
        raise BadTrace(
            f"{str(path)!r} was written by a newer trioflow: its format is {version!r}, and this one reads "
            f"{VERSION}; compare the two with that one, or make both anew"
        )
    try:
        return _run_times(whole, about)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadTrace(f"{str(path)!r} is a damaged trace: {type(error).__name__}: {error}") from None


def _run_times(whole: Event, about: Event) -> RunTimes:
    events: list[Event] = whole["traceEvents"]
    processes = {event["pid"]: str(event["args"]["name"]) for event in events if event.get("name") == "process_name"}
    roots = {*about["roots"]}
    nested = {name for pid, name in processes.items() if pid not in roots}
    slices = [event for event in events if event.get("ph") == "X" and str(event.get("cat", "")).startswith("job")]
    leaves = [leaf for leaf in slices if str(leaf["args"]["path"]) not in nested]
    seconds = float(about["seconds"])
    return RunTimes(
        name=", ".join(processes[pid] for pid in sorted(roots)) or "nothing has run",
        seconds=seconds,
        pieces=tuple(_pieces([leaf for leaf in leaves if "critical-path" in leaf["cat"]], seconds)),
        jobs=_jobs(leaves),
        not_started={str(path): JobState(state).value for path, state in about["notStarted"].items()},
    )


def _jobs(leaves: list[Event]) -> dict[str, JobTimes]:
    found: dict[str, JobTimes] = {}
    for leaf in leaves:
        args = leaf["args"]
        path = str(args["path"])
        before = found.get(path, JobTimes(0.0, 0.0, ""))
        waits: list[Event] = [wait for wait in args.get("waits", ()) if wait["cause"] != "jobs"]
        found[path] = JobTimes(
            before.seconds + _seconds(leaf["dur"]),
            before.waited + _seconds(args["waited_us"] or 0.0),
            JobState(args["state"]).value,
            _wait_text(max(waits, key=lambda wait: float(wait["dur"]))) if waits else before.waited_for,
        )
    return found


def _wait_text(wait: Event) -> str:
    by = f", until {wait['released_by']}" if "released_by" in wait else ""
    return f"{CAUSES[WaitCause(wait['cause'])].awaited.format(wait['name'])}{by}"


def _pieces(chain: list[Event], total: float) -> Iterator[PathSegment]:
    """Yield the parts of the critical path; `leaves` are its jobs without nested schedulers."""
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
            end = min(end, _seconds(following["ts"]))  # a service goes on when the job that waited for it begins
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
