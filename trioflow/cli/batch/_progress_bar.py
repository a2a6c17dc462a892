"""The progress bar of a batch: the two header lines of a monitor, at the bottom of the terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Generator
from typing import Final

from ... import JobState
from ...batch._batch import Batch
from ...view.monitor._display import StyledLine
from ...view.monitor._model import JobCounts
from ...view.monitor._run_header import RunHeader
from ...view.monitor._terminal import TerminalDisplay
from ...view.text._symbols import Symbols
from ...view.text._verdict import Verdict

MIN_REDRAW_INTERVAL: Final = 0.1
MIN_SAMPLES: Final = 3


class BatchProgress:
    """The progress of a batch, in the form that the header of a monitor shows. It counts commands instead of jobs."""

    ending_word = ""
    ended_at = None
    slot_count = None
    used_slot_count = 0
    budget_texts = ()
    forever_count = 0

    def __init__(self, batch: Batch) -> None:
        self._batch: Final = batch
        self._start_time: Final = time.monotonic()
        self.label: Final[str] = batch.scheduler.label

    @property
    def job_count(self) -> int | None:
        """The number of all commands; None while it is unknown."""
        return self._batch.expected_count

    @property
    def failure_count(self) -> int:
        return self._batch.reporter.tally.failed_count

    @property
    def root_counts(self) -> JobCounts:
        reporter, counts = self._batch.reporter, JobCounts()
        counts.settled_counts[JobState.SUCCEEDED] = reporter.tally.succeeded_count
        counts.settled_counts[JobState.FAILED] = reporter.tally.failed_count
        counts.restored_count = reporter.restored_count
        counts.running_count = reporter.running_count
        done = sum(counts.settled_counts.values())
        counts.job_count = done + counts.running_count if self.job_count is None else self.job_count
        return counts

    def elapsed(self) -> float:
        return time.monotonic() - self._start_time

    def verdict(self) -> Verdict:
        """Raise NotImplementedError, because the bar is removed before there is a verdict."""
        raise NotImplementedError

    def remaining(self) -> float | None:
        """Estimate the remaining time in seconds from the mean time per ended command.

        Return None if too few commands have ended, or if the number of commands is unknown.
        """
        counts = self.root_counts
        done = sum(counts.settled_counts.values())
        if self.job_count is None or done - counts.restored_count < MIN_SAMPLES:
            return None
        return self.elapsed() / (done - counts.restored_count) * max(0, self.job_count - done)


class ProgressBar:
    """A progress bar on standard error. It is hidden while other output is printed."""

    def __init__(self) -> None:
        self._progress: BatchProgress | None = None
        self._header: RunHeader | None = None  # None while the bar is not shown
        self._display: Final = TerminalDisplay(sys.stderr, self._draw, MIN_REDRAW_INTERVAL)

    @contextlib.contextmanager
    def show(self, batch: Batch) -> Generator[None]:
        self._progress = BatchProgress(batch)
        self._header = RunHeader(self._progress, Symbols.for_stream(sys.stderr))
        self._display.start()
        try:
            yield
        finally:
            self._header = None
            self._display.stop()

    def update(self) -> None:
        """Redraw the bar soon, because a command has ended."""
        self._display.wake()

    @contextlib.contextmanager
    def hide_for_print(self) -> Generator[bool]:
        """Hide the bar during the body of the `with` statement, which prints other output.

        Yield True, because the bar would overwrite a last line without a newline.
        """
        with self._display.pause():
            yield True

    def _draw(self, columns: int, height: int) -> list[StyledLine]:
        if self._header is None or self._progress is None:
            return []
        return self._header.lines(columns, self._progress.remaining())[:height]
