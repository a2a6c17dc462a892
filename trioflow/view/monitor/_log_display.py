"""A monitor whose output is not a terminal: lines with the time of day, for a log.

With up to `EACH` jobs there is a line when a job starts and one when it ends; with more, a line at every twentieth of
the way. The first `FAILURES` failures have a line each in any case. After `PATIENCE` seconds without a line, one shows
the progress, because some systems kill programs that are silent for long.
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
from ._fd_capture import FdCapture, open_pipes
from ._model import Model
from ._output_buffer import BufferedStream, OutputBuffer
from ._records import JobRecord, Named
from ._row_selection import attempt, full_name
from ._run_header import RunLines

EACH: Final = 200
STEPS: Final = 20
FAILURES: Final = 100
PATIENCE: Final = 60.0


def _word(job: JobRecord) -> str:
    """Return the word for a job's end; a forever job that did not fail is only over."""
    if job.restored:
        return "restored"
    if job.forever and job.state not in TROUBLE:
        return "ended"
    return "FAILED" if job.state is JobState.FAILED else job.state.value


class TaggedStream:
    """A standard stream that tags each line with the label of the job that writes it, if known."""

    def __init__(self, name: str, tag: Callable[[AnyJob], str]) -> None:
        self._real: Final[TextIO] = getattr(sys, name)
        self._above: Final = OutputBuffer(self._write, self._write, tag)
        self._lock: Final = threading.RLock()
        self._pipes: FdCapture | None = None
        with contextlib.suppress(OSError, ValueError):  # it is not a file of the system
            self._pipes = open_pipes(self._above, self._real.fileno(), self._real.encoding)
        self._above.outputs = self._pipes
        self._above.replace_one(name)

    def finish(self, job: Named) -> None:
        """Write the unfinished line of a job."""
        self._above.finish(job)
        self._write()

    def restore(self) -> None:
        """Restore the stream, and write unfinished lines."""
        self._above.restore()
        if self._pipes is not None:
            self._pipes.restore()
        self._write()

    def _write(self) -> None:
        with self._lock, contextlib.suppress(OSError, ValueError):  # it is gone
            lines = self._above.take()
            self._real.write("".join(line + "\n" for line in lines))
            self._real.flush()


def can_be_tagged(name: str) -> bool:
    """Return whether this standard stream exists, and no other monitor has replaced it."""
    stream = getattr(sys, name)
    return stream is not None and not isinstance(stream, BufferedStream)


class LogDisplay(Display):
    """The log lines of one run."""

    def __init__(
        self, stream: TextIO | None, model: Model, symbols: Symbols, tag: Callable[[AnyJob], str] | None = None
    ) -> None:
        self._stream: Final = stream
        self._model: Final = model
        self._symbols: Final = symbols
        self._run_lines: Final = RunLines(model, symbols)
        self._lock: Final = threading.Lock()
        self._is_lost = stream is None
        self._silent_since = time.monotonic()
        self._failures = 0
        self._steps = 0  # twentieths that have been written
        self._ticker: Final = Ticker(self._break_silence, 0, PATIENCE)
        self._tag: Final = tag
        self._tagged: list[TaggedStream] = []

    def start(self) -> None:
        """Write the first line."""
        jobs = self._model.tally.jobs + self._model.forever_jobs
        self._write(f"{self._symbols.escape(self._model.label)}: {jobs} job{'s' * (jobs != 1)}")
        self._ticker.start()
        if self._tag is not None:
            self._tagged = [TaggedStream(name, self._tag) for name in ("stdout", "stderr") if can_be_tagged(name)]

    def wake(self) -> None:
        """Do nothing: a log has lines only for the events below."""

    def job_started(self, job: JobRecord) -> None:
        """Write that a job starts, unless there are too many jobs."""
        if self._model.tally.jobs <= EACH:
            self._write(f"{'start':<9} {full_name(job, self._symbols)}")

    def job_finished(self, job: JobRecord) -> None:
        """Write that a job has settled if it failed or there are few jobs; otherwise write the progress of the run."""
        for stream in self._tagged:
            stream.finish(job.named)
        if job in self._model.failures and not self._model.failures_are_told:
            self._failures += 1
            if self._failures <= FAILURES:
                self._write_end(job)
            if self._failures == FAILURES:
                self._write("further failures are counted only")
        elif self._model.tally.jobs <= EACH:
            self._write_end(job)
        if self._model.tally.jobs > EACH and self._parts_done() > self._steps:
            self._write_progress()

    def job_again(self, job: JobRecord) -> None:
        """Write that a further attempt of a job begins."""
        if self._model.tally.jobs <= EACH:
            self._write(f"{'again':<9} {full_name(job, self._symbols)}  {attempt(job)}")

    def job_ready(self, job: JobRecord) -> None:
        """Write that a service is ready."""
        if self._model.tally.jobs <= EACH:
            self._write(f"{'ready':<9} {full_name(job, self._symbols)}")

    def stop(self) -> None:
        """Write how the run has ended."""
        self._ticker.stop()
        while self._tagged:
            self._tagged.pop().restore()
        said = self._model.verdict().line(self._model.label, self._symbols)
        self._write(f"{said}; {self._run_lines.counts()}" if self._run_lines.counts_say_more() else said)

    def _write_end(self, job: JobRecord) -> None:
        started, finished = job.started_at, job.finished_at
        took = duration_text(finished - started, in_column=True) if started is not None and finished is not None else ""
        error = job.error if not self._model.failures_are_told else None
        said = self._symbols.escape(_exception_text.one_line(error)) if error is not None else ""
        self._write("  ".join(filter(None, (f"{_word(job):<9} {full_name(job, self._symbols)}", took, said))))

    def _parts_done(self) -> int:
        tally = self._model.tally
        return STEPS * sum(tally.settled.values()) // max(1, tally.jobs)

    def _write_progress(self) -> None:
        self._steps = self._parts_done()
        self._write(f"{100 * self._steps // STEPS:>3}% {self._run_lines.counts()}")

    def _break_silence(self) -> None:
        if time.monotonic() - self._silent_since > PATIENCE / 2:
            self._write_progress()

    def _write(self, text: str) -> None:
        """Write a line with the time of day; if the stream breaks, stop writing, and let the run go on."""
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
