"""`Display`, the base class of a monitor's outputs, and `Ticker`, the thread that draws the pictures."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Collection
from typing import Final

from ..text._symbols import display_width
from ._records import JobRecord

StyledText = tuple[str, str]
"""A text and the name of its style, which is "" for plain text."""
StyledLine = list[StyledText]
DrawFunction = Callable[[int, int], list[StyledLine]]
"""A function that returns a picture, given the maximum number of columns and the maximum number of lines."""


def line_width(line: StyledLine) -> int:
    return sum(display_width(text) for text, _ in line)


REDRAW_INTERVAL: Final = 0.1
"""The minimum number of seconds between two pictures."""
IDLE_INTERVAL: Final = 1.0
"""Seconds after which a picture is drawn again even if no event has occurred, because elapsed times have changed."""


class Display:
    """The output of a monitor. This base class shows nothing. The thread of the run calls the methods."""

    is_beside_log = False  # whether it is where log records are printed if logging is not configured

    @property
    def shown_subjects(self) -> Collection[str]:
        """What the display shows beside the log, which need not repeat it; see `Instrument`."""
        return ("failure", "end") if self.is_beside_log else ()

    def start(self) -> None:
        """Show that the run has begun."""

    def stop(self) -> None:
        """Show the end of the run, and release the output."""

    def wake(self) -> None:
        """Schedule an update after an event."""

    def job_started(self, job: JobRecord) -> None:
        self.wake()

    def job_retried(self, job: JobRecord) -> None:
        """Show that a retry of a job has begun."""
        self.wake()

    def job_ready(self, job: JobRecord) -> None:
        self.wake()

    def job_finished(self, job: JobRecord) -> None:
        self.wake()


class Ticker(threading.Thread):
    """A thread that calls a function soon after each call of `wake`, and otherwise at long intervals.

    Args:
        callback: the function to call; it must not raise.
        interval: the minimum number of seconds between two calls of the function.
        idle_interval: the number of seconds after which the function is called even if `wake` is not.

    """

    def __init__(self, callback: Callable[[], None], interval: float, idle_interval: float) -> None:
        self._callback: Final = callback
        self._interval: Final = interval
        self._idle_interval: Final = idle_interval
        self._wake_event: Final = threading.Event()
        self._stop_event: Final = threading.Event()
        # A notebook finds the cell that an output belongs to by a context variable of the caller.
        run_in_context = contextvars.copy_context().run
        super().__init__(target=run_in_context, args=(self._run_thread,), name="trioflow monitor", daemon=True)

    def wake(self) -> None:
        """Schedule a call of the function. This method is cheap, and any thread may call it."""
        if not self._wake_event.is_set():
            self._wake_event.set()

    def stop(self) -> None:
        """Stop the thread. Wait until it has ended, unless this is called in the thread itself."""
        self._stop_event.set()
        self._wake_event.set()
        if threading.current_thread() is not self:
            self.join()

    def _run_thread(self) -> None:
        while True:
            self._wake_event.wait(self._idle_interval)
            self._wake_event.clear()
            if self._stop_event.is_set():
                return
            self._callback()
            self._stop_event.wait(self._interval)
