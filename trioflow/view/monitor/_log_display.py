"""`LogDisplay`: the output of a monitor to a file or a pipe, as lines with the time of day.

A line is written when a job starts, and another line when it ends. For a run of more than `MAX_LISTED_JOBS` jobs,
`PROGRESS_LINE_COUNT` lines with the progress of the run are written instead, and the engine logs its failures. If no
line has been written for a while, the progress is written, because some CI systems kill programs that write nothing for
a long time.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Collection
from typing import Final, TextIO

from ..._core.base import _states, _text_forms
from ..._core.job._job import AnyJob
from .._state_styles import STATE_STYLES, recorded_state
from ..text import _failure_text, _symbols
from ..text._verdict import (
    FOREVER_KEY,
    TROUBLE_STATES,
    failures_text,
    forever_jobs_text,
)
from . import _model, _run_header
from ._output_buffer import Fold, FoldedOutput, LogOutput, replaceable_streams
from ._picture_renderer import full_name, name_of
from ._records import Display, JobRecord, SchedulerRecord, Ticker

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
    if job.state is _states.JobState.FAILED:
        return "FAILED"
    return recorded_state(job).value


class LogDisplay(Display):
    """The output of a monitor as log lines, for a run.

    Args:
        stream: the stream to write to.
        model: the run.
        symbols: the symbols that the stream can show.
        has_colors: whether to color the outcomes of the jobs, and the verdict.
        get_tag: a function that returns the tag before each line of a job, or None for no tags.
        fold: folds the lines of each job, or None to leave them as they are.

    """

    def __init__(
        self,
        stream: TextIO | None,
        model: _model.RunModel,
        symbols: _symbols.Symbols,
        has_colors: bool,
        get_tag: Callable[[AnyJob], str] | None = None,
        fold: Fold | None = None,
    ) -> None:
        self._stream: Final = stream
        self._model: Final = model
        self._symbols: Final = symbols
        self._has_colors: Final = has_colors
        self._header: Final = _run_header.RunHeader(symbols)
        self._lock: Final = threading.Lock()
        self._has_failed = stream is None
        self._last_line_at = time.monotonic()
        # The step, out of `PROGRESS_LINE_COUNT`, that the latest progress line showed.
        self._progress_step = 0
        self._ticker: Final = Ticker(self._report_if_silent, 0, SILENCE_CHECK_INTERVAL)
        self._get_tag: Final = get_tag
        self._fold: Final = fold
        self._captured: list[LogOutput] = []

    @property
    def shown_subjects(self) -> Collection[str]:
        """The kinds of records that the display shows beside the log: no failures if there are many jobs."""
        if self._model.root.counts.job_count > MAX_LISTED_JOBS:
            return [*super().shown_subjects][1:]
        return super().shown_subjects

    def start(self) -> None:
        """Write the number of jobs, and start tagging or folding the lines on the standard streams."""
        counts = self._model.root.counts
        jobs = _text_forms.plural(counts.job_count, "job")
        forever = forever_jobs_text(counts.count(FOREVER_KEY))
        label = self._symbols.escape(self._model.root.job.label)
        self._write_line(f"{label}: {jobs}{forever}")
        self._ticker.start()
        names = replaceable_streams()
        if self._get_tag is not None:
            self._captured = [LogOutput([name], self._get_tag) for name in names]
        elif self._fold is not None and len(names) == 2:
            get_name = functools.partial(
                name_of, model=self._model, symbols=self._symbols
            )
            self._captured = [FoldedOutput(names, self._fold, get_name)]

    def tell(self, word: str, job: JobRecord, note: str = "") -> None:
        """Write a line for a job, if there are few jobs."""
        if self._model.root.counts.job_count <= MAX_LISTED_JOBS:
            details = [full_name(job, self._symbols), self._symbols.escape(note)]
            self._write_line(f"{word:<9} {'  '.join(filter(None, details))}")

    def job_settled(self, job: JobRecord) -> None:
        """Write the outcome of a job, or, if there are many jobs, the progress whenever it is due."""
        for output in self._captured:
            output.finish(job.job)
        if self._model.root.counts.job_count <= MAX_LISTED_JOBS:
            self._write_outcome(job)
        elif self._current_progress_step() > self._progress_step:
            self._write_progress()

    def stop(self) -> None:
        """Restore the standard streams, and write the verdict on the run."""
        self._ticker.stop()
        while self._captured:
            self._captured.pop().restore()
        progress = self._model.progress()
        assert progress.verdict is not None
        message = progress.verdict.format_line(progress.label, self._symbols)
        forever = _text_forms.clause("; {} forever", progress.tally.count(FOREVER_KEY))
        style = "good" if progress.verdict.is_good else "failed"
        self._write_line(self._apply_style(message, style) + forever)

    def _write_outcome(self, job: JobRecord) -> None:
        duration = ""
        if not job.restored:
            duration = _text_forms.duration_text(job.seconds, in_column=True)
        message = ""
        if not self._model.are_failures_shown_elsewhere:
            message = self._symbols.escape(_failure_text.one_line_text(job.error))
        if not message and isinstance(job, SchedulerRecord) and not job.is_first:
            message = failures_text(job.counts)
        tolerated = _text_forms.clause(" (tolerated)", job.is_tolerated)
        style = STATE_STYLES[recorded_state(job)].monitor_style
        word = self._apply_style(f"{_outcome_word(job):<9}", style)
        outcome = f"{word} {full_name(job, self._symbols)}{tolerated}"
        self._write_line("  ".join(filter(None, (outcome, duration, message))))

    def _apply_style(self, text: str, style: str) -> str:
        if not self._has_colors:
            return text
        # Imported here, because importing rich takes a long time.
        from ._terminal import render_style

        return render_style(text, style)

    def _current_progress_step(self) -> int:
        counts = self._model.root.counts
        return PROGRESS_LINE_COUNT * counts.settled_count // max(1, counts.job_count)

    def _write_progress(self) -> None:
        self._progress_step = self._current_progress_step()
        progress = self._model.progress()
        percent = 100 * self._progress_step // PROGRESS_LINE_COUNT
        notes = filter(None, (progress.phase_text, *progress.budget_texts))
        counts = self._header.counts_text(progress)
        text = "; ".join([counts, *map(self._symbols.escape, notes)])
        self._write_line(f"{percent:>3}% {text}")

    def _report_if_silent(self) -> None:
        if time.monotonic() - self._last_line_at > SILENCE_CHECK_INTERVAL / 2:
            self._write_progress()

    def _write_line(self, text: str) -> None:
        """Write a line with the time of day. Once the stream has raised an error, write nothing."""
        with self._lock:
            if self._has_failed or self._stream is None:
                return
            self._last_line_at = time.monotonic()
            line = f"{time.strftime('%H:%M:%S')} {self._symbols.encodable(text)}\n"
            try:
                self._stream.write(line)
                self._stream.flush()
            except (OSError, ValueError):
                self._has_failed = True
