"""The bar of a batch: the two lines that a monitor shows of a run, at the bottom of the terminal while it runs."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Generator
from typing import Final

from ... import JobState
from ...batch._batch import Batch
from ...view.monitor._display import Line
from ...view.monitor._model import JobCounts
from ...view.monitor._run_header import RunHeader
from ...view.monitor._terminal import TerminalDisplay
from ...view.text._symbols import Symbols
from ...view.text._verdict import Verdict

INTERVAL: Final = 0.1
"""Seconds between two pictures, at least."""
MIN_SAMPLES: Final = 3
"""The number of commands that must have run before there is an estimate."""


class BatchProgress:
    """The figures of a batch for the lines of a monitor; its tally counts commands, not jobs."""

    ending = ""
    ended = None
    slots = None
    slots_taken = 0
    forever_jobs = 0

    def __init__(self, batch: Batch) -> None:
        self._batch: Final = batch
        self._began: Final = time.monotonic()
        self.label: Final[str] = batch.scheduler.label

    @property
    def total(self) -> int | None:
        """The number of commands; None if not known yet."""
        return self._batch.expected

    @property
    def failed(self) -> int:
        """The number of commands that have failed."""
        return self._batch.tally.failed

    @property
    def tally(self) -> JobCounts:
        """The number of commands in each state."""
        batch, counts = self._batch, JobCounts(None)
        counts.settled[JobState.SUCCEEDED] = batch.tally.succeeded
        counts.settled[JobState.FAILED] = batch.tally.failed
        counts.restored = batch.restored
        counts.running = batch.running
        done = batch.tally.succeeded + batch.tally.failed
        counts.jobs = done + counts.running if batch.expected is None else batch.expected
        return counts

    def elapsed(self) -> float:
        """Return the seconds since the batch began."""
        return time.monotonic() - self._began

    def verdict(self) -> Verdict:
        """Return no verdict: the bar is gone at the end."""
        raise NotImplementedError

    def remaining(self) -> float | None:
        """Return the estimated remaining seconds at the current pace; None if unknown."""
        tally = self.tally
        done = sum(tally.settled.values())
        if self.total is None or done - tally.restored < MIN_SAMPLES:
            return None
        return self.elapsed() / (done - tally.restored) * max(0, self.total - done)


class ProgressBar:
    """Shows the progress of a batch on the standard error; hidden while other output is printed."""

    def __init__(self) -> None:
        self._progress: BatchProgress | None = None
        self._lines: RunHeader | None = None  # while it is shown
        self._display: Final = TerminalDisplay(sys.stderr, self._draw, INTERVAL)

    @contextlib.contextmanager
    def shown(self, batch: Batch) -> Generator[None]:
        """Show the bar during a block."""
        self._progress = BatchProgress(batch)
        self._lines = RunHeader(self._progress, Symbols.for_stream(sys.stderr))
        self._display.start()
        try:
            yield
        finally:
            self._lines = None
            self._display.stop()

    def update(self) -> None:
        """Schedule an update after the end of a command."""
        self._display.wake()

    @contextlib.contextmanager
    def aside(self) -> Generator[bool]:
        """Hide the bar during a block."""
        with self._display.pause():
            yield True

    def _draw(self, columns: int, height: int) -> list[Line]:
        if self._lines is None or self._progress is None:
            return []
        return self._lines.lines(columns, self._progress.remaining())[:height]
