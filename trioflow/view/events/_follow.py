"""A follower of a file of events: it replays each line to a monitor."""

from __future__ import annotations

import os
import re
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import msgspec

from ..._core.api.views import JobState, StopReason, WaitCause, Waiting
from ..monitor._model import Model
from ..monitor._monitor import Monitor
from ..monitor._records import JobRecord, SchedulerRecord, Source
from . import _format as f

PAUSE: Final = 0.1
"""Seconds between two polls of the end of a file: Python has no portable notification that it grows."""
PIECE: Final = 1 << 16


class BadEvents(Exception):
    """The file has no events, or events of another version; the text says what was found."""


def lines(descriptor: int) -> Iterator[bytes | None]:
    """Yield whole lines, and None whenever there are no more for now. Only a pipe ends by itself."""
    is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
    rest = b""
    while True:
        piece = os.read(descriptor, PIECE)
        if piece:
            *whole, rest = (rest + piece).split(b"\n")
            yield from whole
        elif is_file:
            yield None
        else:
            return


class NameInFile(NamedTuple):
    """The name of a job in a file."""

    path: str
    label: str


class Follower(Source):
    """Shows a run on a monitor, from the lines of its events.

    Args:
        monitor: the monitor.

    """

    def __init__(self, monitor: Monitor) -> None:
        self._monitor: Final = monitor
        self._run: Model | None = None  # while it is shown
        self._root: SchedulerRecord | None = None
        self._jobs: Final[dict[str, JobRecord]] = {}
        self._requires: Final[dict[JobRecord, list[str]]] = {}
        self._is_live = False
        self._at = 0.0  # the time of the latest event
        self._offset = 0.0
        self._process: tuple[int | None, str | None] = None, None
        self.ended = False
        self.understood = 0
        self.missing = 0
        """How many lines the file lacks, as far as its last line says."""
        self._lines = 0  # the lines of this run, as `RunEnded.lines` counts them

    # ---- the interface

    def feed(self, line: bytes) -> None:
        """Replay the next line; skip it if it is not an event or an unknown one.

        Raises:
            BadEvents: the event has another version.

        """
        try:
            event = f.decode(line)
        except msgspec.DecodeError:  # a ValidationError is one, too
            self._check_version(line)
            return
        self.understood += 1
        starts = isinstance(event, f.RunStarted) and not event.path
        self._at = event.at if starts else max(self._at, event.at)
        self._offset = event.time - event.at
        self._lines = 0 if starts else self._lines
        ends = isinstance(event, f.RunEnded) and not event.path
        self._lines += not (ends or isinstance(event, (f.JobWaiting, f.JobProgress, f.LinesDropped)))
        if self._root is None and not starts:  # the first line is missing
            self._root = SchedulerRecord(NameInFile("", "run"), None)
        if not isinstance(event, (f.RunStarted, f.JobAdded)) or (event.path and isinstance(event, f.RunStarted)):
            self._show()
        TAKE[type(event)](self, event)

    def pause(self) -> None:
        """Record that all lines so far have been read, so the picture is up to date."""
        self._show()
        self._is_live = not self.ended

    def is_abandoned(self) -> bool:
        """Return whether the process of an unfinished run has disappeared from this machine."""
        pid, host = self._process
        if self.ended or pid is None or host != socket.gethostname():
            return False
        if sys.platform == "win32":  # os.kill(pid, 0) would end it
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return False

    def leave(self) -> None:
        """Draw the last picture, and release the terminal."""
        self._is_live = False
        if self._run is not None:
            self._run.end()
            self._run = None

    def _check_version(self, line: bytes) -> None:
        try:
            found = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError:
            return
        if "event" in found and found.get("v") != 1:
            raise BadEvents(f"its events have version {found.get('v')!r}, and this trioflow reads version 1")

    def _show(self) -> None:
        """Start the monitor once all jobs have been read."""
        if self._root is not None and self._run is None and not self.ended:
            self._run = self._monitor._watch(self._root, self)

    def _job(self, path: str) -> JobRecord:
        """Return a job; create a placeholder if its line was dropped."""
        job = self._jobs.get(path)
        if job is None:
            assert self._root is not None
            job = self._jobs[path] = JobRecord(NameInFile(path, path), self._root)
            self._add(self._root, job)
        return job

    def _add(self, outer: SchedulerRecord, job: JobRecord) -> None:
        outer.add(job)
        if self._run is not None:
            self._run.add(job)

    def _scheduler(self, path: str) -> SchedulerRecord | None:
        found = self._jobs.get(path) if path else self._root
        return found if isinstance(found, SchedulerRecord) else None

    # ---- queries of the monitor

    @property
    def window(self) -> int | None:  # type: ignore[override]
        """The number of slots."""
        return None if self._root is None else self._root.window

    def clock(self) -> float:
        """Return the time of the latest event, or the current time of the writing program."""
        return max(self._at, time.time() - self._offset) if self._is_live else self._at

    def time_of_day(self) -> float:
        """Return the time of day of the shown events."""
        return self._offset + self.clock()

    def waits_for(self, job: JobRecord) -> list[JobRecord]:
        """Return the members of its scheduler that must settle before a job may start."""
        return [self._jobs[path] for path in self._requires.get(job, ()) if path in self._jobs]

    # ---- the events

    def run_started(self, event: f.RunStarted) -> None:
        """Begin a run."""
        if not event.path:
            self._jobs.clear()
            self._requires.clear()
            self._root = SchedulerRecord(NameInFile("", event.label), None)
            self._root.window = event.window
            self._process = event.pid, event.host
            self._run, self._is_live, self.ended = None, False, False
            return
        nested = self._job(event.path)
        if isinstance(nested, SchedulerRecord) and self._run is not None:
            nested.window = event.window
            if not self._run.tallies[nested].is_fresh:
                for job in nested.iterate_jobs():
                    job.forget_run()
                self._run.begin_nested(nested)

    def job_added(self, event: f.JobAdded) -> None:
        """Add a job to its scheduler."""
        outer = self._scheduler(event.inside)
        if outer is None:
            return
        job = self._jobs.get(event.path)
        is_new = job is None
        if job is None:
            kind = SchedulerRecord if event.scheduler else JobRecord
            job = self._jobs[event.path] = kind(NameInFile(event.path, event.label), outer)
        job.forever, job.critical, job.is_service = event.forever, event.critical, event.service
        job.expected_duration, job.retry = event.expected, event.retry
        self._requires[job] = event.requires
        if is_new:
            self._add(outer, job)

    def job_scheduled(self, event: f.JobScheduled) -> None:
        """Mark a job as scheduled."""
        self._current_model().schedule(self._job(event.path))

    def job_waiting(self, event: f.JobWaiting) -> None:
        """Record what a job waits for."""
        self._job(event.path).waiting = Waiting(WaitCause(event.cause), event.resource, event.waiting_for)

    def job_started(self, event: f.JobStarted) -> None:
        """Mark a job as running."""
        self._current_model().start(self._job(event.path), event.at)

    def job_attempt(self, event: f.JobAttempt) -> None:
        """Record the number of the attempt."""
        self._current_model().try_again(self._job(event.path), event.attempt)

    def job_progress(self, event: f.JobProgress) -> None:
        """Record the progress of a job, unless it has settled by now."""
        job = self._job(event.path)
        if job.state is JobState.RUNNING:
            job.fraction_done, job.status = event.fraction, event.status

    def job_ready(self, event: f.JobReady) -> None:
        """Mark a service as ready."""
        self._current_model().make_ready(self._job(event.path))

    def job_finished(self, event: f.JobFinished) -> None:
        """Record the outcome of a job."""
        job = self._job(event.path)
        job.attempts = event.attempts if job.started_at is not None else 0
        job.timed_out, job.restored, job.through_member = event.timed_out, event.restored, event.through_member
        job.error = None if event.exception is None else exception_stand_in(event.exception)
        self._current_model().finish(job, JobState(event.state), event.at)

    def run_ended(self, event: f.RunEnded) -> None:
        """End a run."""
        scheduler = self._scheduler(event.path)
        if scheduler is None:
            return
        scheduler.stop_reason = StopReason.INTERRUPTED if event.reason is None else StopReason(event.reason)
        scheduler.culprit = None if event.culprit is None else self._jobs.get(event.culprit)
        if scheduler is self._root:
            self.ended = True
            self.missing = max(0, (event.lines or 0) - self._lines)
            if self._run is not None and event.jobs is not None:
                self._run.count_at_end(event.jobs, event.failures)
            self.leave()

    def skip(self, event: f.Event) -> None:
        """Ignore an event that a monitor does not show."""

    def _current_model(self) -> Model:
        assert self._run is not None
        return self._run


TAKE: Final[dict[type[f.Event], Callable[[Follower, Any], None]]] = {
    f.RunStarted: Follower.run_started,
    f.JobAdded: Follower.job_added,
    f.JobScheduled: Follower.job_scheduled,
    f.JobWaiting: Follower.job_waiting,
    f.JobStarted: Follower.job_started,
    f.JobAttempt: Follower.job_attempt,
    f.JobProgress: Follower.job_progress,
    f.JobReady: Follower.job_ready,
    f.JobFinished: Follower.job_finished,
    f.RunEnded: Follower.run_ended,
    f.IncidentEvent: Follower.skip,
    f.LinesDropped: Follower.skip,
}


def exception_stand_in(text: str) -> BaseException:
    """Return a placeholder exception that views print as the same text."""
    name, _, message = text.partition(": ")
    if not re.fullmatch(r"\w+", name):
        name, message = "Exception", text
    kind: Any = type(name, (Exception,), {})
    return kind(*([message] if message else []))  # type: ignore[no-any-return]
