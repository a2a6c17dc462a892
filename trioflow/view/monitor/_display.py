"""`Display`: the output of a monitor; and `Ticker`, the thread that draws there."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Final

from ._records import JobRecord

Piece = tuple[str, str]
"""A text and the name of its style; "" for no style."""
Line = list[Piece]
Draw = Callable[[int, int], list[Line]]
"""Makes a picture of at most this many columns and lines."""

PATIENCE: Final = 1.0
"""Seconds after which a picture is drawn even without an event, because times change."""


class Display:
    """The output of one run, called at its events in the run's thread. This base class shows nothing."""

    def start(self) -> None:
        """Show that the run has begun."""

    def stop(self) -> None:
        """Show how the run ended, and release the output."""

    def wake(self) -> None:
        """Schedule an update after an event."""

    def job_started(self, job: JobRecord) -> None:
        """Show that a job has started."""
        self.wake()

    def job_again(self, job: JobRecord) -> None:
        """Show that a further attempt of a job begins."""
        self.wake()

    def job_ready(self, job: JobRecord) -> None:
        """Show that a service is ready."""
        self.wake()

    def job_finished(self, job: JobRecord) -> None:
        """Show that a job has settled."""
        self.wake()


class Ticker:
    """Calls a function in a thread of its own: soon after each wake-up, and otherwise at intervals.

    Args:
        function: what to call; it must not raise.
        interval: the least number of seconds between two calls.
        patience: seconds after which it is called even without a wake-up.

    """

    def __init__(self, function: Callable[[], None], interval: float, patience: float) -> None:
        self._function: Final = function
        self._interval: Final = interval
        self._patience: Final = patience
        self._happened: Final = threading.Event()
        self._ended: Final = threading.Event()
        # In the context of the caller, by which a notebook finds the cell that the output belongs to.
        work = contextvars.copy_context().run
        self._thread: Final = threading.Thread(target=work, args=(self._work,), name="trioflow monitor", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Schedule a call of the function; cheap, and safe in any thread."""
        if not self._happened.is_set():
            self._happened.set()

    def stop(self) -> None:
        """End the thread, and wait for a call in progress."""
        self._ended.set()
        self._happened.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _work(self) -> None:
        while True:
            self._happened.wait(self._patience)
            self._happened.clear()
            if self._ended.is_set():
                return
            self._function()
            self._ended.wait(self._interval)
