"""`Display`: where a monitor shows a run; and the thread that draws there."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Final

from ._records import JobRecord

Piece = tuple[str, str]
"""A text and the name of its style; "" for none."""
Line = list[Piece]
Draw = Callable[[int, int], list[Line]]
"""Makes a picture of at most so many columns and so many lines."""

PATIENCE: Final = 1.0
"""Seconds after which a picture is made even if nothing has happened, because times change."""


class Display:
    """One way to show one run, which calls it at its events, in its own thread; here, in no way."""

    def start(self) -> None:
        """Show that the run has begun."""

    def stop(self) -> None:
        """Show how the run has ended, and release the output."""

    def wake(self) -> None:
        """Show soon that something has happened."""

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
    """Calls a function in a thread of its own: soon after something has happened, and otherwise now and then.

    Args:
        function: what to call; it must not raise.
        interval: the least number of seconds between two calls.
        patience: seconds after which it is called even if nothing has happened.

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
        """Let the function be called soon; may be called from any thread, and costs almost nothing."""
        if not self._happened.is_set():
            self._happened.set()

    def stop(self) -> None:
        """End the thread, and return when the function will not be called any more."""
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
