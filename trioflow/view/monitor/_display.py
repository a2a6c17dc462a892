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
"""A function that returns a picture of at most the given numbers of columns and lines."""

IDLE_INTERVAL: Final = 1.0
"""Seconds after which a picture is drawn even without an event, because it shows elapsed times."""


class Display:
    """Base class of the outputs of a monitor; it shows nothing. The methods are called in the thread of the run."""

    def start(self) -> None:
        """Show that the run has begun."""

    def stop(self) -> None:
        """Show the end of the run, and release the output."""

    def wake(self) -> None:
        """Schedule an update after an event."""

    def job_started(self, job: JobRecord) -> None:
        """Show that a job has started."""
        self.wake()

    def job_retried(self, job: JobRecord) -> None:
        """Show that a further attempt of a job begins."""
        self.wake()

    def job_ready(self, job: JobRecord) -> None:
        """Show that a service is ready."""
        self.wake()

    def job_finished(self, job: JobRecord) -> None:
        """Show that a job has settled."""
        self.wake()


class Ticker:
    """A thread that calls a function soon after each `wake`, and otherwise at intervals.

    Args:
        function: the function to call; it must not raise.
        interval: the minimum number of seconds between two calls.
        idle_interval: the number of seconds after which the function is called even without `wake`.

    """

    def __init__(self, function: Callable[[], None], interval: float, idle_interval: float) -> None:
        self._function: Final = function
        self._interval: Final = interval
        self._idle_interval: Final = idle_interval
        self._woken: Final = threading.Event()
        self._ended: Final = threading.Event()
        # Notebooks find the cell that the output belongs to by a context variable of the caller.
        run_in_context = contextvars.copy_context().run
        self._thread: Final = threading.Thread(
            target=run_in_context, args=(self._run_thread,), name="trioflow monitor", daemon=True
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Schedule a call of the function; this is cheap, and safe in any thread."""
        if not self._woken.is_set():
            self._woken.set()

    def stop(self) -> None:
        """End the thread, and wait for a call in progress."""
        self._ended.set()
        self._woken.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run_thread(self) -> None:
        while True:
            self._woken.wait(self._idle_interval)
            self._woken.clear()
            if self._ended.is_set():
                return
            self._function()
            self._ended.wait(self._interval)
