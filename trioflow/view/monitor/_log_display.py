"""`LogDisplay`: the output of a monitor that is not a terminal, as lines with the time of day.

Each job has a line when it starts and one when it ends. A run of more than `MAX_LISTED_JOBS` jobs has `PROGRESS_LINES`
lines with its progress instead. The first `MAX_FAILURES` failures always have a line each. After `MAX_SILENCE` seconds
without a line, the progress is written, because some CI systems kill programs that write nothing for a long time.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from typing import Final, TextIO

from ..._core.api.views import AnyJob, JobState, duration_text
from ..text import _exception_text
from ..text._symbols import Symbols
from ..text._verdict import TROUBLE
from ._display import Display, Ticker
from ._fd_capture import FdCapture, open_capture
from ._model import Model
from ._output_buffer import BufferedStream, OutputBuffer
from ._records import Identity, JobRecord
from ._row_selection import attempt_text, full_name
from ._run_header import RunHeader

MAX_LISTED_JOBS: Final = 200
PROGRESS_LINES: Final = 20
MAX_FAILURES: Final = 100
MAX_SILENCE: Final = 60.0


def _outcome_word(job: JobRecord) -> str:
    """Return a word for the outcome of a job; a forever job that did not fail has only "ended"."""
    if job.restored:
        return "restored"
    if job.forever and job.state not in TROUBLE:
        return "ended"
    return "FAILED" if job.state is JobState.FAILED else job.state.value


class TaggedStream:
    """A replacement of a standard stream that prefixes each line with the tag of the job that prints it, if known."""

    def __init__(self, name: str, tag: Callable[[AnyJob], str]) -> None:
        self._real: Final[TextIO] = getattr(sys, name)
        self._buffer: Final = OutputBuffer(self._write, self._write, tag)
        self._lock: Final = threading.RLock()
        self._pipes: FdCapture | None = None
        with contextlib.suppress(OSError, ValueError):  # the stream has no descriptor
            self._pipes = open_capture(self._buffer, self._real.fileno(), self._real.encoding)
        self._buffer.output_factory = self._pipes
        self._buffer.replace_stream(name)

    def finish(self, job: Identity) -> None:
        """Write the unfinished line of a job."""
        self._buffer.finish(job)
        self._write()

    def restore(self) -> None:
        """Restore the real stream, and write unfinished lines."""
        self._buffer.restore()
        if self._pipes is not None:
            self._pipes.restore()
        self._write()

    def _write(self) -> None:
        with self._lock, contextlib.suppress(OSError, ValueError):  # the stream is broken or closed
            lines = self._buffer.take()
            self._real.write("".join(line + "\n" for line in lines))
            self._real.flush()


def can_be_tagged(name: str) -> bool:
    """Return whether a standard stream exists, and no other monitor has replaced it."""
    stream = getattr(sys, name)
    return stream is not None and not isinstance(stream, BufferedStream)


class LogDisplay(Display):
    """The output of a monitor as log lines, for one run."""

    def __init__(
        self, stream: TextIO | None, model: Model, symbols: Symbols, tag: Callable[[AnyJob], str] | None = None
    ) -> None:
        self._stream: Final = stream
        self._model: Final = model
        self._symbols: Final = symbols
        self._header: Final = RunHeader(model, symbols)
        self._lock: Final = threading.Lock()
        self._is_lost = stream is None
        self._silent_since = time.monotonic()
        self._failures = 0
        self._steps = 0  # the number of the latest progress line
        self._ticker: Final = Ticker(self._report_if_silent, 0, MAX_SILENCE)
        self._tag: Final = tag
        self._tagged: list[TaggedStream] = []

    def start(self) -> None:
        """Write the number of jobs, and tag the standard streams."""
        jobs = self._model.tally.jobs + self._model.forever_jobs
        self._write(f"{self._symbols.escape(self._model.label)}: {jobs} job{'s' * (jobs != 1)}")
        self._ticker.start()
        if self._tag is not None:
            self._tagged = [TaggedStream(name, self._tag) for name in ("stdout", "stderr") if can_be_tagged(name)]

    def wake(self) -> None:
        """Do nothing: only the events below have lines."""

    def job_started(self, job: JobRecord) -> None:
        """Write a line for the start of a job, unless there are too many jobs."""
        if self._model.tally.jobs <= MAX_LISTED_JOBS:
            self._write(f"{'start':<9} {full_name(job, self._symbols)}")

    def job_finished(self, job: JobRecord) -> None:
        """Write the outcome of a job if it failed or there are few jobs; otherwise write progress lines."""
        for stream in self._tagged:
            stream.finish(job.named)
        if job in self._model.failures and not self._model.failures_shown_elsewhere:
            self._failures += 1
            if self._failures <= MAX_FAILURES:
                self._write_end(job)
            if self._failures == MAX_FAILURES:
                self._write("further failures are counted only")
        elif self._model.tally.jobs <= MAX_LISTED_JOBS:
            self._write_end(job)
        if self._model.tally.jobs > MAX_LISTED_JOBS and self._steps_done() > self._steps:
            self._write_progress()

    def job_retried(self, job: JobRecord) -> None:
        """Write a line for a further attempt of a job."""
        if self._model.tally.jobs <= MAX_LISTED_JOBS:
            self._write(f"{'again':<9} {full_name(job, self._symbols)}  {attempt_text(job)}")

    def job_ready(self, job: JobRecord) -> None:
        """Write a line for a service that is ready."""
        if self._model.tally.jobs <= MAX_LISTED_JOBS:
            self._write(f"{'ready':<9} {full_name(job, self._symbols)}")

    def stop(self) -> None:
        """Write the verdict on the run."""
        self._ticker.stop()
        while self._tagged:
            self._tagged.pop().restore()
        message = self._model.verdict().line(self._model.label, self._symbols)
        self._write(f"{message}; {self._header.counts()}" if self._header.counts_add_to_verdict() else message)

    def _write_end(self, job: JobRecord) -> None:
        started, finished = job.started_at, job.finished_at
        took = duration_text(finished - started, in_column=True) if started is not None and finished is not None else ""
        error = job.error if not self._model.failures_shown_elsewhere else None
        message = self._symbols.escape(_exception_text.one_line(error)) if error is not None else ""
        self._write(
            "  ".join(filter(None, (f"{_outcome_word(job):<9} {full_name(job, self._symbols)}", took, message)))
        )

    def _steps_done(self) -> int:
        tally = self._model.tally
        return PROGRESS_LINES * sum(tally.settled.values()) // max(1, tally.jobs)

    def _write_progress(self) -> None:
        self._steps = self._steps_done()
        self._write(f"{100 * self._steps // PROGRESS_LINES:>3}% {self._header.counts()}")

    def _report_if_silent(self) -> None:
        if time.monotonic() - self._silent_since > MAX_SILENCE / 2:
            self._write_progress()

    def _write(self, text: str) -> None:
        """Write a line with the time of day; if the stream is broken, write no more lines."""
        with self._lock:
            if self._is_lost or self._stream is None:
                return
            self._silent_since = time.monotonic()
            try:
                now = time.localtime(self._model.source.time_of_day())
                self._stream.write(f"{time.strftime('%H:%M:%S', now)} {text}\n")
                self._stream.flush()
            except (OSError, ValueError):
                self._is_lost = True
