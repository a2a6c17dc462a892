"""`LogDisplay`: the output of a monitor to a file or a pipe, as lines with the time of day.

A line is written when a job starts, and another one when it ends. For a run of more than `MAX_LISTED_JOBS` jobs,
`PROGRESS_LINE_COUNT` lines with the progress of the run are written instead; the engine logs its failures. If no line
has been written for a while, the progress is written, because some CI systems kill programs that write nothing for a
long time.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import sys
import threading
import time
import weakref
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, TextIO

from ..._core.base._states import JobState
from ..._core.base._text_forms import duration_text, plural
from ..._core.job._job import AnyJob
from .._state_styles import STATE_STYLES, recorded_state
from ..text import _failure_text
from ..text._symbols import Symbols
from ..text._verdict import FOREVER_KEY, TOLERATED_KEY, TROUBLE_STATES, failures_text, forever_jobs_text
from ._model import RunModel
from ._output_buffer import BufferedStream, OutputBuffer, visible_text
from ._picture_renderer import attempt_text, full_name, name_of
from ._records import Display, JobRecord, SchedulerRecord, Ticker
from ._run_header import RunHeader

MAX_LISTED_JOBS: Final = 200
PROGRESS_LINE_COUNT: Final = 20
SILENCE_CHECK_INTERVAL: Final = 60.0
"""Seconds between two checks, each of which writes the progress if no line was written for half of the interval."""


def _outcome_word(job: JobRecord) -> str:
    """Return a word for the outcome of a job: "restored", "ended" or the name of the state.

    The word is "ended" for a forever job that neither failed nor was blocked.
    """
    if job.restored:
        return "restored"
    if job.forever and job.state not in TROUBLE_STATES:
        return "ended"
    return "FAILED" if job.state is JobState.FAILED else recorded_state(job).value


def _failures_text(job: JobRecord) -> str:
    """Return what failed in a nested scheduler, in the words of a verdict; "" if nothing did, or for a job."""
    if not isinstance(job, SchedulerRecord) or job.is_first:
        return ""
    counts, failed = job.counts, job.counts.count(JobState.FAILED)
    blocked, tolerated = counts.count(JobState.BLOCKED), counts.count(TOLERATED_KEY)
    return failures_text(failed, blocked, tolerated, counts.job_count, counts.failed_groups)


Fold = Callable[[str, str], str]
"""A function that returns the lines of a job, between the lines that fold them in the log of a CI system.

Its arguments are the name of the job and its lines, without a newline at the end.
"""


def github_group(name: str, lines: str) -> str:
    return f"::group::{name}\n{lines}\n::endgroup::"


def gitlab_section(name: str, lines: str) -> str:
    section = f"{int(time.time())}:trioflow_{next(_SECTION_NUMBERS)}"
    begin, end = (f"\x1b[0Ksection_{word}:{section}" for word in ("start", "end"))
    return f"{begin}[collapsed=true]\r\x1b[0K{name}\n{lines}\n{end}\r\x1b[0K"


_SECTION_NUMBERS: Final = itertools.count(1)
FOLDS: Final[dict[str, Fold]] = {"GITHUB_ACTIONS": github_group, "GITLAB_CI": gitlab_section}
"""What folds lines in the log of a CI system, by the environment variable that such a system sets to `true`."""
MAX_HELD_CHARACTERS: Final = 1 << 20


class FoldedOutput(OutputBuffer):
    """A buffer that holds the lines of each job until the job ends, since the groups of a log cannot overlap.

    More than `MAX_HELD_CHARACTERS` are not held: they become a group before the job ends. Lines of no job, and those
    that arrive after the end of their job, are not held.
    """

    def __init__(self, write_out: Callable[[], None], fold: Fold, get_name: Callable[[AnyJob], str]) -> None:
        super().__init__(write_out, write_out)
        self._fold: Final = fold
        self._get_name: Final = get_name
        self._held: Final[dict[AnyJob, io.StringIO]] = {}
        self._ended_jobs: Final[weakref.WeakSet[AnyJob]] = weakref.WeakSet()

    def add_lines(self, lines: list[str], job: AnyJob | None = None) -> None:
        if job is None or job in self._ended_jobs:
            super().add_lines(lines)
            return
        with self._lock:
            held = self._held.setdefault(job, io.StringIO())
            held.writelines(visible_text(line) + "\n" for line in lines)
            if held.tell() > MAX_HELD_CHARACTERS:
                self._release(job)

    def finish_partial_lines(self, job: Any = None) -> None:
        """Add what is held of a job that has ended, or of all jobs if `job` is None."""
        with self._lock:
            super().finish_partial_lines(job)
            for ended in list(self._held) if job is None else [job]:
                self._ended_jobs.add(ended)
                self._release(ended)

    def _release(self, job: AnyJob) -> None:
        if (held := self._held.pop(job, None)) is not None:
            lines = held.getvalue().removesuffix("\n")
            self._append([lines if job.state is JobState.FAILED else self._fold(self._get_name(job), lines)])


class CapturedOutput:
    """The lines that jobs write to standard streams, each with the tag of its job, or folded by job.

    Args:
        names: the streams to replace, "stdout" or "stderr". The lines are written to the first one.
        make_buffer: creates a buffer, given a function that writes its lines.

    """

    def __init__(self, names: Sequence[str], make_buffer: Callable[[Callable[[], None]], OutputBuffer]) -> None:
        self._real_stream: Final[TextIO] = getattr(sys, names[0])
        self._buffer: Final = make_buffer(self._write_buffered_lines)
        self._lock: Final = threading.RLock()
        self._buffer.open_capture(self._real_stream)
        for name in names:
            self._buffer.replace_stream(name)

    def finish(self, job: AnyJob) -> None:
        """Write what is left of a job that has ended."""
        self._buffer.finish_partial_lines(job)
        self._write_buffered_lines()

    def restore(self) -> None:
        """Restore the real streams, and write incomplete lines."""
        self._buffer.restore_streams()
        self._buffer.finish_partial_lines()  # and what the descriptors had
        self._write_buffered_lines()

    def _write_buffered_lines(self) -> None:
        with self._lock, contextlib.suppress(OSError, ValueError):  # raised if the stream is broken or closed
            self._buffer.write_lines(self._real_stream)


class LogDisplay(Display):
    """The output of a monitor as log lines, for one run.

    Args:
        stream: the stream to write to.
        model: the run.
        symbols: the symbols that the stream can show.
        has_colors: whether to color the outcomes of the jobs, and the verdict.
        get_tag: a function that returns the prefix for the lines of a job; None for no prefixes.
        fold: what folds the lines of each job; None to leave them as they are.

    """

    def __init__(
        self,
        stream: TextIO | None,
        model: RunModel,
        symbols: Symbols,
        has_colors: bool,
        get_tag: Callable[[AnyJob], str] | None = None,
        fold: Fold | None = None,
    ) -> None:
        self._stream: Final = stream
        self._model: Final = model
        self._symbols: Final = symbols
        self._has_colors: Final = has_colors
        self._header: Final = RunHeader(symbols)
        self._lock: Final = threading.Lock()
        self._has_failed = stream is None
        self._last_line_at = time.monotonic()
        self._progress_step = 0  # the step, out of `PROGRESS_LINE_COUNT`, that the latest progress line showed
        self._start_times: Final[dict[JobRecord, float | None]] = {}  # of the listed jobs
        self._ticker: Final = Ticker(self._report_if_silent, 0, SILENCE_CHECK_INTERVAL)
        self._get_tag: Final = get_tag
        self._fold: Final = fold
        self._captured: list[CapturedOutput] = []

    @property
    def shown_subjects(self) -> Collection[str]:
        """What the display shows beside the log: not the failures if there are many jobs."""
        is_long = self._model.root.counts.job_count > MAX_LISTED_JOBS
        return [*super().shown_subjects][is_long:]

    def start(self) -> None:
        """Write the number of jobs, and start tagging or folding the lines on the standard streams."""
        counts = self._model.root.counts
        jobs = plural(counts.job_count, "job") + forever_jobs_text(counts.count(FOREVER_KEY))
        self._write_line(f"{self._symbols.escape(self._model.root.job.label)}: {jobs}")
        self._ticker.start()
        # the streams that exist, and that no other monitor has replaced
        names = [name for name in ("stdout", "stderr") if not isinstance(getattr(sys, name), BufferedStream | None)]
        if self._get_tag is not None:
            self._captured = [
                CapturedOutput([name], lambda write: OutputBuffer(write, write, self._get_tag)) for name in names
            ]
        elif self._fold is not None and len(names) == 2:
            get_name = functools.partial(name_of, model=self._model, symbols=self._symbols)
            self._captured = [
                CapturedOutput(names, functools.partial(FoldedOutput, fold=self._fold, get_name=get_name))
            ]

    def wake(self) -> None:
        """Do nothing, because lines are written only for the events that have methods of their own."""

    def job_started(self, job: JobRecord) -> None:
        """Write a line for the start of a job, if there are few jobs.

        A job that is retried keeps the time of its start, and has a line for the retry instead.
        """
        is_retry = job in self._start_times and self._start_times[job] == job.started_at
        if self._model.root.counts.job_count <= MAX_LISTED_JOBS and not is_retry:
            self._start_times[job] = job.started_at
            self._write_line(f"{'start':<9} {full_name(job, self._symbols)}")

    def job_finished(self, job: JobRecord) -> None:
        """Write the outcome of a job, or, if there are many jobs, the progress whenever it is due."""
        for output in self._captured:
            output.finish(job.job)
        if self._model.root.counts.job_count <= MAX_LISTED_JOBS:
            self._write_outcome(job)
        elif self._current_progress_step() > self._progress_step:
            self._write_progress()

    def job_retried(self, job: JobRecord) -> None:
        """Write a line for a retry of a job, if there are few jobs."""
        if self._model.root.counts.job_count <= MAX_LISTED_JOBS:
            self._write_line(f"{'retry':<9} {full_name(job, self._symbols)}  {attempt_text(job)}")

    def job_ready(self, job: JobRecord) -> None:
        """Write a line for a service that is ready, if there are few jobs."""
        if self._model.root.counts.job_count <= MAX_LISTED_JOBS:
            self._write_line(f"{'ready':<9} {full_name(job, self._symbols)}")

    def stop(self) -> None:
        """Restore the standard streams, and write the verdict on the run."""
        self._ticker.stop()
        while self._captured:
            self._captured.pop().restore()
        progress = self._model.progress()
        assert progress.verdict is not None
        message = progress.verdict.format_line(progress.label, self._symbols)
        counts = f"; {self._header.counts_text(progress)}" * self._header.has_counts_beyond_verdict(progress)
        self._write_line(self._apply_style(message, "good" if progress.verdict.is_good else "failed") + counts)

    def _write_outcome(self, job: JobRecord) -> None:
        started, finished = job.started_at, job.finished_at
        duration = "" if started is None or finished is None else duration_text(finished - started, in_column=True)
        error = job.error if not self._model.are_failures_shown_elsewhere else None
        message = self._symbols.escape(_failure_text.one_line_text(error)) if error is not None else ""
        tolerated = " (tolerated)" * job.is_tolerated
        word = self._apply_style(f"{_outcome_word(job):<9}", STATE_STYLES[recorded_state(job)].monitor_style)
        outcome = f"{word} {full_name(job, self._symbols)}{tolerated}"
        self._write_line("  ".join(filter(None, (outcome, duration, message or _failures_text(job)))))

    def _apply_style(self, text: str, style: str) -> str:
        if not self._has_colors:
            return text
        from ._terminal import render_style  # imported here, because importing rich takes a long time

        return render_style(text, style)

    def _current_progress_step(self) -> int:
        counts = self._model.root.counts
        return PROGRESS_LINE_COUNT * counts.settled_count // max(1, counts.job_count)

    def _write_progress(self) -> None:
        self._progress_step = self._current_progress_step()
        progress = self._model.progress()
        notes = filter(None, (progress.phase_text, *progress.budget_texts))
        text = "; ".join([self._header.counts_text(progress), *map(self._symbols.escape, notes)])
        self._write_line(f"{100 * self._progress_step // PROGRESS_LINE_COUNT:>3}% {text}")

    def _report_if_silent(self) -> None:
        if time.monotonic() - self._last_line_at > SILENCE_CHECK_INTERVAL / 2:
            self._write_progress()

    def _write_line(self, text: str) -> None:
        """Write a line with the time of day. Once the stream has raised an error, write nothing."""
        with self._lock:
            if self._has_failed or self._stream is None:
                return
            self._last_line_at = time.monotonic()
            try:
                self._stream.write(f"{time.strftime('%H:%M:%S')} {text}\n")
                self._stream.flush()
            except (OSError, ValueError):
                self._has_failed = True
