"""A monitor where the output is no terminal: lines with the time of day, for a log.

Of a run with up to `EACH` jobs, a line when a job starts and one when it ends. Of a larger one, a line for each
twentieth part of all jobs; and of each run the failures, the first `FAILURES` of them one by one. After `PATIENCE`
seconds in which nothing was to be said, a line says how far the run is: some systems end what is silent for long.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Final, TextIO

from .._core._jobs import AbstractJob
from .._core._states import JobState
from . import _monitor_units as units
from . import _values
from ._monitor_head import Head
from ._monitor_layout import context
from ._monitor_model import Model
from ._monitor_outlet import Outlet
from ._monitor_ticker import Ticker
from ._script import Script

EACH: Final = 200
STEPS: Final = 20
FAILURES: Final = 100
PATIENCE: Final = 60.0

WORDS: Final = {
    JobState.SUCCEEDED: "done",
    JobState.FAILED: "FAILED",
    JobState.CANCELLED: "cancelled",
    JobState.BLOCKED: "blocked",
    JobState.SKIPPED: "skipped",
}


class Lines(Outlet):
    """The lines of one run."""

    def __init__(self, stream: TextIO | None, model: Model, script: Script) -> None:
        self._stream: Final = stream
        self._model: Final = model
        self._script: Final = script
        self._head: Final = Head(model, script)
        self._lock: Final = threading.Lock()
        self._is_lost = stream is None
        self._silent_since = time.monotonic()
        self._failures = 0
        self._steps = 0  # how many parts were told of
        self._ticker: Final = Ticker(self._break_silence, 0, PATIENCE)

    def start(self) -> None:
        """Write the first line."""
        jobs = self._model.tally.jobs
        self._write(f"{self._script.line(self._model.root.label)}: {jobs} job{'s' * (jobs != 1)}")
        self._ticker.start()

    def wake(self) -> None:
        """Do nothing: what is of interest to a log is told apart."""

    def job_started(self, job: AbstractJob[Any]) -> None:
        """Write that a job starts, unless there are too many."""
        if self._model.tally.jobs <= EACH:
            self._write(f"{'start':<9} {self._name(job)}")

    def job_finished(self, job: AbstractJob[Any]) -> None:
        """Write that a job has settled, if it has failed or there are not too many; or how far the run is."""
        if job in self._model.failures:
            self._failures += 1
            if self._failures <= FAILURES:
                self._write_end(job)
            if self._failures == FAILURES:
                self._write("further failures are counted only")
        elif self._model.tally.jobs <= EACH:
            self._write_end(job)
        if self._model.tally.jobs > EACH and self._parts_done() > self._steps:
            self._write_progress()

    def job_ready(self, job: AbstractJob[Any]) -> None:
        """Write that a service is ready."""
        if self._model.tally.jobs <= EACH:
            self._write(f"{'ready':<9} {self._name(job)}")

    def stop(self) -> None:
        """Write how the run has ended."""
        self._ticker.stop()
        counts = self._head.counts()
        self._write(f"{self._head.outcome()}{': ' if counts else ''}{counts}")

    def _write_end(self, job: AbstractJob[Any]) -> None:
        started, finished = job._started_at, job._finished_at
        took = units.duration(finished - started) if started is not None and finished is not None else ""
        error = job.raised_exception()
        said = self._script.line(_values.exception(error)) if error is not None else ""
        self._write("  ".join(filter(None, (f"{WORDS[job._state]:<9} {self._name(job)}", took, said))))

    def _name(self, job: AbstractJob[Any]) -> str:
        outer = reversed([one.label for one in context(job, self._model.root)])
        return self._script.line(" / ".join([*outer, job.label]))

    def _parts_done(self) -> int:
        tally = self._model.tally
        return STEPS * sum(tally.settled.values()) // max(1, tally.jobs)

    def _write_progress(self) -> None:
        self._steps = self._parts_done()
        self._write(f"{100 * self._steps // STEPS:>3}% {self._head.counts()}")

    def _break_silence(self) -> None:
        if time.monotonic() - self._silent_since > PATIENCE / 2:
            self._write_progress()

    def _write(self, text: str) -> None:
        """Write a line with the time of day; when the stream is gone, write no more and let the run go on."""
        with self._lock:
            if self._is_lost or self._stream is None:
                return
            self._silent_since = time.monotonic()
            try:
                self._stream.write(f"{time.strftime('%H:%M:%S')} {text}\n")
                self._stream.flush()
            except (OSError, ValueError):
                self._is_lost = True
