"""The lines of `Events`: one class for each event. The JSON Schema beside this file is the same for other programs.

Optional fields with their default are left out of a line. A field may be added, and so may an event: readers
skip what they do not know. Any other change raises the version, `v`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

import msgspec

SCHEMA: Final = Path(__file__).with_name("events.schema.json")


class Event(msgspec.Struct, tag_field="event", omit_defaults=True, gc=False):
    """The fields of every line."""

    v: Literal[1]
    time: float
    """The time of day: seconds since 1970, as returned by `time.time()`."""
    at: float
    """Seconds since the outermost run began, on its own clock."""
    path: str
    """The path of the job, or of the scheduler whose run it is; "" for the outermost one."""


class RunStarted(Event, tag="run_started"):
    """A scheduler begins a run: the outermost one, or one nested in it."""

    label: str
    jobs: int
    """The number of its members, without those of nested schedulers."""
    window: int | None = None
    adaptive: bool = False
    pid: int | None = None
    """The process and its machine; for the outermost run only."""
    host: str | None = None


class JobAdded(Event, tag="job_added"):
    """A job: one event per job when the outermost run begins, and one whenever a job is added."""

    label: str
    kind: str
    inside: str = ""
    """The path of the nested scheduler that has the job."""
    requires: list[str] = []
    scheduler: bool = False
    service: bool = False
    forever: bool = False
    critical: bool = False
    expected: float | None = None
    """The expected duration in seconds."""
    retry: int = 0
    """The number of retries, if it is fixed."""


class JobScheduled(Event, tag="job_scheduled"):
    """A job is ready to start: its requirements have settled. With `throttled`, it ran, and has to wait again."""

    throttled: int = 0


class JobWaiting(Event, tag="job_waiting"):
    """What a scheduled job waits for; polled twice a second, written when it changes."""

    waiting_for: str
    cause: str
    """A value of `WaitCause`."""
    resource: str = ""
    """The name of the resource that is lacking."""


class JobStarted(Event, tag="job_started"):
    """A job starts."""

    granted: dict[str, Any] = {}


class JobAttempt(Event, tag="job_attempt"):
    """A further attempt begins."""

    attempt: int


class JobProgress(Event, tag="job_progress"):
    """The progress that a running job reports; polled twice a second, written when it changes."""

    fraction: float | None = None
    status: str = ""


class JobReady(Event, tag="job_ready"):
    """A service is ready."""


class JobFinished(Event, tag="job_finished"):
    """A job has settled."""

    state: str
    attempts: int = 1
    exception: str | None = None
    returncode: int | None = None
    timed_out: bool = False
    restored: bool = False
    through_member: bool = False
    """Whether this is a scheduler that failed because one of its jobs failed."""


class IncidentEvent(Event, tag="incident"):
    """An incident that is not the outcome of a job."""

    message: str
    exception: str | None = None


class RunEnded(Event, tag="run_ended"):
    """A run has ended, and all of it has been shut down."""

    reason: str | None = None
    culprit: str | None = None
    lines: int | None = None
    """For the outermost run: the lines before this one, without `job_waiting`, `job_progress` and `lines_dropped`."""
    jobs: dict[str, int] | None = None
    """For the outermost run, if it keeps its jobs: the number of jobs in each state, forever jobs as "forever"."""
    failures: int = 0
    """The number of jobs that failed, and of schedulers by themselves."""


class LinesDropped(Event, tag="lines_dropped"):
    """The number of lines dropped here because the reader was too slow."""

    lines: int


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
    """Return a line; surrogates, as in a file name that is not UTF-8, become escape sequences."""
    try:
        return _encode(event) + b"\n"
    except UnicodeEncodeError:
        return _encode(_clean(msgspec.to_builtins(event, enc_hook=str))) + b"\n"


def _clean(value: Any) -> Any:
    # Not isinstance(), which would narrow the type to `list[Unknown]`.
    if type(value) in (str,):
        return value.encode(errors="backslashreplace").decode()
    if type(value) in (list,):
        return [_clean(item) for item in value]
    if type(value) in (dict,):
        return {_clean(name): _clean(item) for name, item in value.items()}
    return value


decode: Final = msgspec.json.Decoder(AnyEvent).decode


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a line; the file `SCHEMA` has the same."""
    (found,), parts = msgspec.json.schema_components([AnyEvent], ref_template="#/$defs/{name}")
    about = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A line of trioflow.Events"}
    return {**about, **found, "$defs": parts}
