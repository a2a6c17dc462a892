"""The progress bar of a batch: the two header lines of a monitor, at the bottom of the terminal."""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from collections.abc import Callable, Generator
from typing import Final

from ... import JobState
from ...batch._batch import Batch
from ...view.monitor._display import StyledLine
from ...view.monitor._records import JobCounts
from ...view.monitor._run_header import RunHeader, RunProgress
from ...view.monitor._terminal import TerminalDisplay
from ...view.text._symbols import Symbols

MIN_REDRAW_INTERVAL: Final = 0.1
MIN_SAMPLES: Final = 3


def batch_progress(batch: Batch, started_at: float) -> RunProgress:
    """Return the progress of a batch, in the form that the header of a monitor shows: with commands instead of jobs."""
    reporter, counts, total = batch.reporter, JobCounts(), batch.expected_count
    succeeded, failed = reporter.tally.succeeded_count, reporter.tally.failed_count
    counts.by_state[JobState.SUCCEEDED], counts.by_state[JobState.FAILED] = succeeded, failed
    counts.by_state[JobState.RUNNING] = reporter.running_count
    counts.by_state[JobState.IDLE] = 0 if total is None else total - counts.job_count
    counts.restored.number = reporter.restored_count
    return RunProgress(batch.scheduler.label, counts, total, time.monotonic() - started_at, failure_count=failed)


def remaining_seconds(progress: RunProgress) -> float | None:
    """Estimate the remaining time from the mean time per ended command.

    Return None if too few commands have ended, or if the number of commands is unknown.
    """
    done = progress.counts.settled_count
    measured = done - progress.counts.restored.number
    if progress.job_count is None or measured < MIN_SAMPLES:
        return None
    return progress.elapsed / measured * max(0, progress.job_count - done)


class ProgressBar:
    """A progress bar on standard error. It is hidden while other output is printed."""

    def __init__(self) -> None:
        self._get_progress: Callable[[], RunProgress] | None = None  # None while the bar is not shown
        self._header: Final = RunHeader(Symbols.for_stream(sys.stderr))
        self._display: Final = TerminalDisplay(sys.stderr, self._draw, MIN_REDRAW_INTERVAL)

    @contextlib.contextmanager
    def show(self, batch: Batch) -> Generator[None]:
        self._get_progress = functools.partial(batch_progress, batch, time.monotonic())
        self._display.start()
        try:
            yield
        finally:
            self._get_progress = None
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
        if self._get_progress is None:
            return []
        progress = self._get_progress()
        return self._header.lines(progress, columns, remaining_seconds(progress))[:height]
