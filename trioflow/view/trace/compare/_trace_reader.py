"""The reader of trace files for comparisons. `Trace.export_as_json` writes such files.

In a file, the jobs on the critical path have the category `critical-path`. The reader divides the time of the run
into `CriticalPathSegment`s along this path, without gaps. Therefore, when two runs are compared, the changes of all
segments add up to the change of the duration.
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
from ..._state_styles import CAUSE_WORDS
from .._trace_events import FORMAT_VERSION

TraceEvent = dict[str, Any]
INPUT_HINT: Final = "give two files written by `trioflow run --trace FILE.json`"


class BadTrace(ValueError):
    """An error for a file that cannot be read, is not a trace, is damaged, or has an unknown version."""


class CriticalPathSegment(NamedTuple):
    """A part of the time along the critical path: a job, or the wait before it."""

    path: str
    """The path of the job, or an empty string for the time after the last job."""
    is_wait: bool
    """Whether this is the wait between the end of the previous job on the path and the start of the job."""
    seconds: float


@dataclass(frozen=True, slots=True)
class JobTimes:
    """The times and the outcome of a job. If a nested scheduler ran the job several times, the times are sums."""

    seconds: float
    """The time from the start of the job to its end."""
    waited_seconds: float
    """The time for which the job waited after its requirements had settled."""
    state: str
    """The name of the job's last state, a value of `JobState`."""
    waited_for: str = ""
    """The cause of the job's longest wait, with the job that ended the wait, or an empty string if it did not wait."""


@dataclass(frozen=True, slots=True)
class RunTimes:
    """The times of a run, read from a trace file."""

    name: str
    """The labels of the outermost schedulers."""
    seconds: float
    """The duration of the run."""
    critical_path_segments: tuple[CriticalPathSegment, ...]
    """The jobs and waits along the critical path, in chronological order."""
    jobs: dict[str, JobTimes]
    """The times of the jobs that started, by path. Nested schedulers are not included."""
    unstarted_states: dict[str, str]
    """The states of jobs that never started, by path."""

    def was_restored(self, path: str) -> bool:
        """Return whether the result of a job was restored from a journal: it succeeded, but did not start."""
        return self.unstarted_states.get(path) == JobState.SUCCEEDED.value


def read_trace(path: Path) -> RunTimes:
    """Read a trace from a file.

    Raises:
        BadTrace: the file cannot be read as a trace. The message says why.

    """
    try:
        trace: Any = json.loads(path.read_bytes())
    except OSError as error:
        raise BadTrace(f"cannot read {str(path)!r}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise BadTrace(f"{str(path)!r} is not a trace: it is not JSON; {INPUT_HINT}") from None
    try:
        other_data: Any = trace["otherData"]
        is_from_trioflow, version = other_data["program"] == "trioflow", other_data["version"]
    except (TypeError, KeyError, IndexError, AttributeError):
        is_from_trioflow, other_data, version = False, None, None
    if not is_from_trioflow:
        raise BadTrace(f"{str(path)!r} is not a trace of trioflow; {INPUT_HINT}")
    if version != FORMAT_VERSION:
        raise BadTrace(
            f"{str(path)!r} was written by a newer trioflow: its format is {version!r}, but this one reads "
            f"{FORMAT_VERSION}; compare the traces with the newer version, or record both again"
        )
    try:
        return _extract_run_times(trace, other_data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadTrace(f"{str(path)!r} is a damaged trace: {type(error).__name__}: {error}") from None


def _extract_run_times(trace: TraceEvent, other_data: TraceEvent) -> RunTimes:
    events: list[TraceEvent] = trace["traceEvents"]
    processes = {event["pid"]: str(event["args"]["name"]) for event in events if event.get("name") == "process_name"}
    root_pids = {*other_data["roots"]}
    nested_names = {name for pid, name in processes.items() if pid not in root_pids}
    slices = [event for event in events if event.get("ph") == "X" and str(event.get("cat", "")).startswith("job")]
    job_slices = [job_slice for job_slice in slices if str(job_slice["args"]["path"]) not in nested_names]
    critical_path_slices = [job_slice for job_slice in job_slices if "critical-path" in job_slice["cat"]]
    seconds = float(other_data["seconds"])
    return RunTimes(
        name=", ".join(processes[pid] for pid in sorted(root_pids)) or "nothing has run",
        seconds=seconds,
        critical_path_segments=tuple(_critical_path_segments(critical_path_slices, seconds)),
        jobs=_sum_times_by_job(job_slices),
        unstarted_states={str(path): JobState(state).value for path, state in other_data["notStarted"].items()},
    )


def _sum_times_by_job(job_slices: list[TraceEvent]) -> dict[str, JobTimes]:
    times: dict[str, JobTimes] = {}
    for job_slice in job_slices:
        args = job_slice["args"]
        path = str(args["path"])
        previous_times = times.get(path, JobTimes(0.0, 0.0, ""))
        waits: list[TraceEvent] = [wait for wait in args.get("waits", ()) if wait["cause"] != "jobs"]
        times[path] = JobTimes(
            previous_times.seconds + _to_seconds(job_slice["dur"]),
            previous_times.waited_seconds + _to_seconds(args["waited_us"] or 0.0),
            JobState(args["state"]).value,
            _wait_text(max(waits, key=lambda wait: float(wait["dur"]))) if waits else previous_times.waited_for,
        )
    return times


def _wait_text(wait: TraceEvent) -> str:
    release_text = f", until {wait['released_by']}" if "released_by" in wait else ""
    return f"{CAUSE_WORDS[WaitCause(wait['cause'])].awaited_phrase.format(wait['name'])}{release_text}"


def _critical_path_segments(
    critical_path_slices: list[TraceEvent], total_seconds: float
) -> Iterator[CriticalPathSegment]:
    """Yield the segments along the critical path of a run that took `total_seconds`.

    `critical_path_slices` are the trace events of the jobs on the path.
    """
    critical_path_slices.sort(key=lambda job_slice: float(job_slice["ts"]))
    covered_until = 0.0
    for job_slice, next_slice in itertools.pairwise([*critical_path_slices, None]):
        assert job_slice is not None
        path, start = str(job_slice["args"]["path"]), _to_seconds(job_slice["ts"])
        if start > covered_until:
            yield CriticalPathSegment(path, True, start - covered_until)
            covered_until = start
        end = start + _to_seconds(job_slice["dur"])
        if next_slice is not None:
            end = min(end, _to_seconds(next_slice["ts"]))  # a service still runs when a job that requires it starts
        if end > covered_until:
            yield CriticalPathSegment(path, False, end - covered_until)
            covered_until = end
    if total_seconds > covered_until:
        yield CriticalPathSegment("", True, total_seconds - covered_until)


def _to_seconds(microseconds: Any) -> float:
    seconds = float(microseconds) / 1e6
    if not math.isfinite(seconds):
        raise ValueError(f"{microseconds} is not a time")
    return seconds
