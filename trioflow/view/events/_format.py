"""The format of the lines of `Events`: one class for each event.

The JSON Schema `events.schema.json` describes the same format for other programs. A field that has its default value
is left out of the line. Readers ignore unknown fields and events, so these may be added; any other change of the
format increments the version, `v`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

import msgspec

SCHEMA: Final = Path(__file__).with_name("events.schema.json")


class Event(msgspec.Struct, tag_field="event", omit_defaults=True, gc=False):
    """The fields that every event has."""

    v: Literal[1]
    time: float
    """The time of day in seconds since 1970, as returned by `time.time()`."""
    at: float
    """Seconds since the outermost run began, on the clock of the run."""
    path: str
    """The path of the job or scheduler that the event is about; "" for the outermost scheduler."""


class RunStarted(Event, tag="run_started"):
    """The outermost scheduler, or a nested one, begins a run."""

    label: str
    jobs: int
    """The number of jobs in the scheduler, without the jobs of nested schedulers."""
    window: int | None = None
    adaptive: bool = False
    pid: int | None = None
    """The id of the process; for the outermost run only."""
    host: str | None = None
    """The name of the machine; for the outermost run only."""


class JobAdded(Event, tag="job_added"):
    """A job exists: written for every job when the outermost run begins, and for each job added later."""

    label: str
    kind: str
    inside: str = ""
    """The path of the nested scheduler that the job belongs to."""
    requires: list[str] = []
    scheduler: bool = False
    service: bool = False
    forever: bool = False
    critical: bool = False
    expected: float | None = None
    """The expected duration in seconds."""
    retry: int = 0
    """The number of retries; 0 if a decorator decides on retries."""


class JobScheduled(Event, tag="job_scheduled"):
    """A job is ready to start: its requirements have settled, or it ran, was throttled, and has to wait again."""

    throttled: int = 0
    """The number of times that the job has been throttled."""


class JobWaiting(Event, tag="job_waiting"):
    """A scheduled job waits for something else than before; checked twice a second."""

    waiting_for: str
    cause: str
    """A value of `WaitCause`."""
    resource: str = ""
    """The name of the missing resource."""


class JobStarted(Event, tag="job_started"):
    """A job starts."""

    granted: dict[str, Any] = {}


class JobAttempt(Event, tag="job_attempt"):
    """A further attempt begins."""

    attempt: int


class JobProgress(Event, tag="job_progress"):
    """A running job has reported progress; checked twice a second."""

    fraction: float | None = None
    status: str = ""


class JobReady(Event, tag="job_ready"):
    """A service is ready."""


class JobFinished(Event, tag="job_finished"):
    """A job has settled in its final state."""

    state: str
    attempts: int = 1
    exception: str | None = None
    returncode: int | None = None
    timed_out: bool = False
    restored: bool = False
    through_member: bool = False
    """Whether the job is a scheduler that failed because one of its jobs failed."""


class IncidentEvent(Event, tag="incident"):
    """An incident that is not the outcome of a job."""

    message: str
    exception: str | None = None


class RunEnded(Event, tag="run_ended"):
    """A run has ended, and its jobs have been shut down."""

    reason: str | None = None
    culprit: str | None = None
    lines: int | None = None
    """For the outermost run, the number of its other lines, except `job_waiting`, `job_progress`, `lines_dropped`."""
    jobs: dict[str, int] | None = None
    """The number of jobs in each state, forever jobs as "forever"; for the outermost run, if `keep_jobs` is set."""
    failures: int = 0
    """The number of jobs that failed, including schedulers that failed for a reason of their own."""


class LinesDropped(Event, tag="lines_dropped"):
    """Lines were dropped here because the reader was too slow."""

    lines: int
    """The number of dropped lines."""


AnyEvent = (
    RunStarted
    | JobAdded
    | JobScheduled
    | JobWaiting
    | JobStarted
    | JobAttempt
    | JobProgress
    | JobReady
    | JobFinished
    | IncidentEvent
    | RunEnded
    | LinesDropped
)

_encode: Final = msgspec.json.Encoder(enc_hook=str).encode


def encode(event: Event) -> bytes:
    """Return an event as a line of JSON; surrogates, as in file names that are not UTF-8, are escaped."""
    try:
        return _encode(event) + b"\n"
    except UnicodeEncodeError:
        return _encode(_escape_surrogates(msgspec.to_builtins(event, enc_hook=str))) + b"\n"


def _escape_surrogates(value: Any) -> Any:
    """Return JSON values with surrogates escaped in all strings."""
    # isinstance() would narrow the type to `list[Unknown]`, which pyright rejects.
    if type(value) in (str,):
        return value.encode(errors="backslashreplace").decode()
    if type(value) in (list,):
        return [_escape_surrogates(item) for item in value]
    if type(value) in (dict,):
        return {_escape_surrogates(name): _escape_surrogates(item) for name, item in value.items()}
    return value


decode: Final = msgspec.json.Decoder(AnyEvent).decode


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a line, as stored in the file `SCHEMA`."""
    (event,), components = msgspec.json.schema_components([AnyEvent], ref_template="#/$defs/{name}")
    header = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A line of trioflow.Events"}
    return {**header, **event, "$defs": components}
