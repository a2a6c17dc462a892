"""The times of a run for a comparison: those of its jobs, and of the parts of its critical path.

The parts fill the time of the run without gaps. Therefore, when two runs are compared, the changes of all parts add up
to the change of the duration.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...._core.api.views import JobState, printable
from ..._state_styles import recorded_state
from .._critical_path_parts import critical_path_steps
from .._record import TraceRecord
from .._spans import Span, last_wait

PartKey = tuple[str, bool]
"""A part of the critical path: the path of a job, or "" for the time after the last one, and whether it is the wait
before the job."""


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
    """The cause of the job's last wait, with the job that ended the wait, or an empty string if it did not wait."""


@dataclass(frozen=True, slots=True)
class RunTimes:
    """The times of a run."""

    name: str
    """The labels of the outermost schedulers."""
    seconds: float
    """The duration of the run."""
    critical_path_seconds: dict[PartKey, float]
    """The seconds of each part of the critical path, in chronological order. If a job ran several times, their sum."""
    jobs: dict[str, JobTimes]
    """The times of the jobs that started, by path. Nested schedulers are not included."""
    unstarted_states: dict[str, str]
    """The states of jobs that never started, by path."""

    def was_restored(self, path: str) -> bool:
        """Return whether the result of a job was restored from a journal: it succeeded, but did not start."""
        return self.unstarted_states.get(path) == JobState.SUCCEEDED.value


def run_times(record: TraceRecord) -> RunTimes:
    """Return the times of a run."""
    return RunTimes(
        name=", ".join(dict.fromkeys(run.label for run in record.root_runs)) or "nothing has run",
        seconds=record.end_time - record.start_time,
        critical_path_seconds=_sum_critical_path_seconds(record),
        jobs=_sum_times_by_job(record),
        unstarted_states={_path(span): span.state.value for span in record.spans if span.started_at is None},
    )


def _path(span: Span) -> str:
    return printable(span.path)


def _sum_critical_path_seconds(record: TraceRecord) -> dict[PartKey, float]:
    steps = list(critical_path_steps(record))
    if not steps and record.end_time > record.start_time:
        return {("", True): record.end_time - record.start_time}
    sums: dict[PartKey, float] = {}
    for step in steps:
        is_end = step.is_wait and step is steps[-1]
        key = "" if is_end else _path(record.spans[step.span_number]), step.is_wait
        sums[key] = sums.get(key, 0.0) + step.seconds
    return sums


def _sum_times_by_job(record: TraceRecord) -> dict[str, JobTimes]:
    times: dict[str, JobTimes] = {}
    for span in record.leaf_spans:
        if span.started_at is None:
            continue
        previous = times.get(_path(span), JobTimes(0.0, 0.0, ""))
        end = record.end_time if span.finished_at is None else span.finished_at
        times[_path(span)] = JobTimes(
            previous.seconds + end - span.started_at,
            previous.waited_seconds + (span.waited or 0.0),
            recorded_state(span).value,
            _last_wait_text(record, span) or previous.waited_for,
        )
    return times


def _last_wait_text(record: TraceRecord, span: Span) -> str:
    wait = last_wait(span)
    if wait is None or wait.released_by is None:
        return "" if wait is None else wait.words
    return f"{wait.words}, until {_path(record.spans[wait.released_by])}"
