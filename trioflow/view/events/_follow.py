"""A file of events, followed: each line changes what is known of the run, and tells a monitor."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from ..._core.door.reading import JobState, StopReason
from ..monitor._monitor import Monitor
from ..monitor._told import ToldJob, ToldRun, ToldScheduler
from . import _format as f

PAUSE: Final = 0.1
"""Seconds between two looks at the end of a file: Python has no way to let the kernel tell that it grows."""
PIECE: Final = 1 << 16


class Unreadable(Exception):
    """The file has no events, or those of another version; the text says what was found."""


def lines(descriptor: int) -> Iterator[bytes | None]:
    """Yield whole lines; None whenever there is no more for now. A pipe ends; a file has to be left."""
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


class Follower:
    """Shows a run on a monitor, from the lines of its events.

    Args:
        monitor: the monitor.

    """

    def __init__(self, monitor: Monitor) -> None:
        self._monitor: Final[Any] = monitor  # it takes told jobs as it takes others
        self._root: ToldScheduler | None = None
        self._jobs: Final[dict[str, ToldJob]] = {}
        self._waits: Final[list[tuple[ToldJob, list[str]]]] = []  # whose requirements have not all been told yet
        self._is_shown = False
        self._is_live = False
        self._at = 0.0  # the time of the latest event
        self._offset = 0.0
        self._process: tuple[int | None, str | None] = None, None
        self.ended = False
        self.understood = 0

    # ---- from the outside

    def feed(self, line: bytes) -> None:
        """Take the next line; what is no event, or one that is not known, is skipped.

        Raises:
            Unreadable: it is an event of another version.

        """
        try:
            event = f.decode(line)
        except msgspec.DecodeError:  # a ValidationError is one, too
            self._check_version(line)
            return
        self.understood += 1
        self._at, self._offset = event.at, event.time - event.at
        if not isinstance(event, (f.RunStarted, f.JobAdded)) or (event.path and isinstance(event, f.RunStarted)):
            self._show()
        TAKE[type(event)](self, event)

    def pause(self) -> None:
        """Note that all lines so far have been read: what is shown now is what is going on."""
        self._show()
        self._is_live = not self.ended

    def is_abandoned(self) -> bool:
        """Return whether the process of the run is gone, on this machine, though the run has not ended."""
        pid, host = self._process
        if self.ended or pid is None or host != os.uname().nodename:
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return False

    def leave(self) -> None:
        """Release the terminal, with what is known."""
        self._is_live = False
        if self._root is not None and self._is_shown and not self.ended:
            self._monitor.after_run(self._root)

    def _check_version(self, line: bytes) -> None:
        try:
            found = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError:
            return
        if "event" in found and found.get("v") != 1:
            raise Unreadable(f"its events have version {found.get('v')!r}, and this trioflow reads version 1")

    def _clock(self) -> float:
        return max(self._at, time.time() - self._offset) if self._is_live else self._at

    def _show(self) -> None:
        """Let the monitor begin, when all jobs have been told."""
        for job, paths in self._waits:
            job.waits_for = [self._jobs[path] for path in paths if path in self._jobs]
        self._waits.clear()
        if self._root is not None and not self._is_shown:
            self._is_shown = True
            self._monitor.before_run(self._root)

    def _job(self, path: str) -> ToldJob:
        """Return a job; one whose line was dropped is made up."""
        job = self._jobs.get(path)
        if job is None:
            outer = self._root
            assert outer is not None
            job = self._jobs[path] = ToldJob(path, path, outer)
            outer.members.append(job)
            self._monitor.job_added(outer, job)
        return job

    # ---- the events

    def run_started(self, event: f.RunStarted) -> None:
        """Begin a run."""
        run = ToldRun(self._clock, event.window, event.adaptive)
        if not event.path:
            self._jobs.clear()
            self._root = ToldScheduler("", event.label, None)
            self._root.run = run
            self._root.time_of_day = lambda: self._offset + self._clock()
            self._process = event.pid, event.host
            self._is_shown = self._is_live = self.ended = False
            return
        nested = self._job(event.path)
        if isinstance(nested, ToldScheduler):
            for job in nested:
                job.forget_run()
            nested.run = run
            self._monitor.before_run(nested)

    def job_added(self, event: f.JobAdded) -> None:
        """Put a job into its scheduler."""
        outer = self._jobs.get(event.inside) if event.inside else self._root
        if not isinstance(outer, ToldScheduler):
            return
        job = self._jobs.get(event.path)
        is_new = job is None
        if job is None:
            job = (ToldScheduler if event.scheduler else ToldJob)(event.path, event.label, outer)
            self._jobs[event.path] = job
            outer.members.append(job)
        job.forever, job.critical, job.service = event.forever, event.critical, event.service
        job.expected_duration, job.retry = event.expected, event.retry
        self._waits.append((job, event.requires))
        if is_new and self._is_shown:
            self._show()
            self._monitor.job_added(outer, job)

    def job_scheduled(self, event: f.JobScheduled) -> None:
        """Let a job wait for its turn."""
        job = self._job(event.path)
        job.state, job.throttled, job.started_at = JobState.SCHEDULED, event.throttled, None
        self._monitor.job_scheduled(job.scheduler, job)

    def job_waiting(self, event: f.JobWaiting) -> None:
        """Note what a job waits for."""
        self._job(event.path).waiting_for = event.waiting_for

    def job_started(self, event: f.JobStarted) -> None:
        """Let a job run."""
        job = self._job(event.path)
        job.state, job.started_at, job.attempts, job.waiting_for = JobState.RUNNING, event.at, 1, ""
        self._monitor.job_started(job.scheduler, job)

    def job_attempt(self, event: f.JobAttempt) -> None:
        """Note which attempt it is."""
        job = self._job(event.path)
        job.attempts = event.attempt
        self._monitor.job_attempt(job.scheduler, job)

    def job_progress(self, event: f.JobProgress) -> None:
        """Note what a job says of itself, unless it has settled meanwhile."""
        job = self._job(event.path)
        if job.state is JobState.RUNNING:
            job.fraction_done, job.status = event.fraction, event.status

    def job_ready(self, event: f.JobReady) -> None:
        """Let a service be ready."""
        job = self._job(event.path)
        job.ready = True
        self._monitor.job_ready(job.scheduler, job)

    def job_finished(self, event: f.JobFinished) -> None:
        """Let a job settle."""
        job = self._job(event.path)
        job.attempts = event.attempts if job.started_at is not None else 0
        job.timed_out, job.restored, job.through_member = event.timed_out, event.restored, event.through_member
        job.error = None if event.exception is None else stand_in(event.exception)
        job.ready, job.status, job.waiting_for, job.finished_at = False, "", "", event.at
        job.state = JobState(event.state)
        self._monitor.job_finished(job.scheduler, job)

    def run_ended(self, event: f.RunEnded) -> None:
        """End a run."""
        scheduler = self._jobs.get(event.path) if event.path else self._root
        if not isinstance(scheduler, ToldScheduler):
            return
        scheduler.stop_reason = StopReason.INTERRUPTED if event.reason is None else StopReason(event.reason)
        scheduler.culprit = None if event.culprit is None else self._jobs.get(event.culprit)
        if scheduler is self._root:
            self._is_live, self.ended = False, True
            self._monitor.after_run(scheduler)
        scheduler.run = None

    def skip(self, event: f.Event) -> None:
        """Leave out what a monitor does not show."""


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
    f.Incident: Follower.skip,
    f.LinesDropped: Follower.skip,
}


def stand_in(text: str) -> BaseException:
    """Return an exception of which views say the same text."""
    name, _, message = text.partition(": ")
    if not re.fullmatch(r"\w+", name):
        name, message = "Exception", text
    kind: Any = type(name, (Exception,), {})
    return kind(*([message] if message else []))  # type: ignore[no-any-return]
