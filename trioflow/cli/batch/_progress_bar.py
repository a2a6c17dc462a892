"""The progress bar of a batch: the two header lines of a monitor, at the bottom of the terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Generator
from typing import Final

from ...batch._batch import Batch
from ...view._estimate import MIN_ENDED, TimeLeft
from ...view.monitor import _records, _run_header, _terminal
from ...view.text import _symbols, _verdict


def remaining_seconds(batch: Batch, started_at: float) -> float | None:
    """Return about how long the batch goes on, at the pace since the last restored command, or None if unknown."""
    reporter = batch.reporter
    elapsed = time.monotonic() - max(started_at, batch.reporter.last_restored_at)
    if batch.expected_count is None or reporter.run_count < MIN_ENDED:
        return None
    left = (
        batch.expected_count
        - reporter.tally.succeeded_count
        - reporter.tally.failed_count
    )
    return elapsed / reporter.run_count * max(0, left)


class ProgressBar:
    """A progress bar on standard error. It is hidden while other output is printed."""

    def __init__(self) -> None:
        # None while the bar is not shown.
        self._batch: Batch | None = None
        self._started_at = 0.0
        self._header: Final = _run_header.RunHeader(
            _symbols.Symbols.for_stream(sys.stderr)
        )
        self._display: Final = _terminal.TerminalDisplay(sys.stderr, self._draw)
        self.update: Final = self._display.wake
        """Redraws the bar soon, because a command has ended."""

    @contextlib.contextmanager
    def show(self, batch: Batch) -> Generator[None]:
        self._batch = batch
        self._started_at = time.monotonic()
        self._display.start()
        try:
            yield
        finally:
            self._batch = None
            self._display.stop()

    @contextlib.contextmanager
    def hide_for_print(self) -> Generator[bool]:
        """Hide the bar during the body of the `with` statement, which prints other output.

        Yield True, because the bar would overwrite a last line without a newline.
        """
        with self._display.pause():
            yield True

    def _draw(self, columns: int, height: int) -> list[_records.StyledLine]:
        if (batch := self._batch) is None:
            return []
        tally = _verdict.Tally.for_scheduler(batch.scheduler)
        restored = batch.reporter.restored or tally.restored
        tally.restored.number = restored.number - batch.reporter.restored_failure_count
        progress = _run_header.RunProgress(
            batch.scheduler.label, tally, time.monotonic() - self._started_at
        )
        seconds = remaining_seconds(batch, self._started_at)
        left = None
        if seconds is not None:
            left = TimeLeft(seconds, is_least=False)
        return self._header.lines(progress, columns, left)[:height]
