"""The format of the lines of `Events`: one class for each event.

The JSON Schema `events.schema.json` describes this format for other programs. A line omits each field that has its
default value. Fields, events, and words such as causes of waits may be added: readers ignore fields that they do not
know, and lines with events or words that they do not know. Any other change of the format increments the version, `v`.
"""

from __future__ import annotations

import json
from typing import Any, Final, Literal

import msgspec

from ..._core.base._states import JobState, StopReason, WaitCause


class Event(msgspec.Struct, tag_field="event", omit_defaults=True, gc=False):
    """An event of a run, with the fields that all events have."""

    v: Literal[3]
    time: float
    """The time of day in seconds since 1970, as returned by `time.time()`."""
    at: float
    """The number of seconds since the outermost run began, on the clock of the run."""
    path: str
    """The path of the job or scheduler that the event is about, or "" for the outermost scheduler."""


class RunStarted(Event, tag="run_started"):
    """The outermost scheduler or a nested scheduler begins a run."""

    label: str
    jobs: int
    """The number of jobs in the scheduler, without the jobs of its nested schedulers."""
    window: int | None = None
    adaptive: bool = False
    pid: int | None = None
    """The process id. Only the outermost run has it."""
    host: str | None = None
    """The name of the machine. Only the outermost run has it."""


class JobAdded(Event, tag="job_added"):
    """A job is part of the run.

    This event is written for each job when the outermost run begins, and later for each job that is added.
    """

    label: str
    kind: str
    inside: str = ""
    """The path of the nested scheduler that the job belongs to, or "" for a job of the outermost scheduler."""
    required: list[str] = []
    is_scheduler: bool = False
    is_service: bool = False
    forever: bool = False
    critical: bool | None = None
    """Whether a failure of the job ends its run (true) or is tolerated (false)."""
    expected_duration: float | None = None
    """The expected duration in seconds."""
    retries: int = 0
    """The maximum number of retries, or 0 if a decorator decides whether the job is retried."""
    takes_slot: bool = True
    """Whether the job takes a slot of its scheduler's window while it runs."""
    is_first: bool = False
    """Whether the job is a `First`: a scheduler that counts as a single job, while the jobs in it are not counted."""


class JobScheduled(Event, tag="job_scheduled"):
    """A job is ready to start because its requirements have settled, or waits again because it was throttled."""

    throttled: int = 0


class JobWaiting(Event, tag="job_waiting"):
    """The reason why a scheduled job waits has changed. The reasons are checked twice a second."""

    waiting_for: str
    cause: WaitCause
    resource: str = ""


class JobStarted(Event, tag="job_started"):
    """A job starts."""

    granted: dict[str, Any] = {}


class JobRetried(Event, tag="job_retried"):
    """A retry of a job begins."""

    attempt: int
    """The number of the attempt. The first retry has number 2."""
    failed_at: float | None = None
    """The time, as in `at`, when the attempt before it failed. None if a decorator repeated it without a failure."""
    exception: str | None = None
    """The exception of the attempt before it."""


class JobProgress(Event, tag="job_progress"):
    """A running job has reported progress. The reports are checked twice a second."""

    fraction: float | None = None
    status: str = ""


class ServiceReady(Event, tag="service_ready"):
    """A service is ready."""


class JobSettled(Event, tag="job_settled"):
    """A job has settled in its final state."""

    state: JobState
    attempts: int = 1
    exception: str | None = None
    failure_kind: str = ""
    """For a failed job, a text that is equal for failures of a kind, even if their exceptions have other messages."""
    returncode: int | None = None
    timed_out: bool = False
    moved_on: bool = False
    """Whether the job SUCCEEDED only because it has `on_timeout="move_on"`, and its timeout ended it."""
    restored: bool = False
    restored_at: float | None = None
    """For a restored job, the time when it settled in the run that ran it, in seconds since 1970."""
    through_member: bool = False
    """Whether the job is a scheduler that failed because a job in it failed."""


class JobReopened(Event, tag="job_reopened"):
    """A job that had settled waits again, because it, or a job that has blocked it, is tried again."""


class IncidentEvent(Event, tag="incident"):
    """An incident that is not the outcome of a job."""

    message: str
    exception: str | None = None


class RunEnded(Event, tag="run_ended"):
    """A run has ended, and its jobs have been shut down."""

    stop_reason: StopReason | None = None
    culprit: str | None = None
    lines: int | None = None
    """The number of earlier lines of the outermost run, except `job_waiting`, `job_progress` and `lines_dropped`. None
    for nested runs."""
    jobs: dict[str, int] | None = None
    """The number of jobs in each state, with "moved on" for those that their timeout ended, and "forever" for forever
    jobs that neither failed nor were blocked. Other schedulers are not counted. A `First` is one job, and the jobs in
    it are not counted. None for nested runs."""
    failures: int = 0
    """The number of failed jobs, including schedulers that failed for a reason other than a failed member."""
    seconds: float | None = None
    """The duration of the outermost run. None for nested runs."""


class LinesDropped(Event, tag="lines_dropped"):
    """Lines were dropped here because the reader was too slow."""

    lines: int


_encode: Final = msgspec.json.Encoder(enc_hook=str).encode


def encode(event: Event) -> bytes:
    """Return an event as a line of JSON, without characters that a terminal would obey.

    Surrogates, which occur in file names that are not UTF-8, are replaced by text.
    """
    try:
        line = _encode(event)
    except UnicodeEncodeError:
        line = _encode(_escape_surrogates(msgspec.to_builtins(event, enc_hook=str)))
    if not line.isascii() or b"\x7f" in line:
        characters = list(line.decode())
        for index, character in enumerate(characters):
            if not character.isprintable():
                characters[index] = json.dumps(character)[1:-1]
        line = "".join(characters).encode()
    return line + b"\n"


def _escape_surrogates(value: Any) -> Any:
    """Return a JSON value whose strings have all surrogates escaped."""
    # isinstance() would narrow the type to `list[Unknown]`, which pyright rejects.
    if type(value) in (str,):
        return value.encode(errors="backslashreplace").decode()
    if type(value) in (list,):
        return [_escape_surrogates(item) for item in value]
    if type(value) in (dict,):
        return {
            _escape_surrogates(name): _escape_surrogates(item)
            for name, item in value.items()
        }
    return value
