"""`Latch`: a one-time event for threads that is safe with signal handlers.

A signal handler runs in the main thread, between any two steps of Python code. If it raises while a `threading.Event`
is taking its lock, which it does in Python code, that lock is held forever, and the thread that sets the event hangs.
If it waits for the event that the main thread is testing, it hangs itself. PyExPool's programs do both: they delete
their pool and exit, in a handler that has interrupted `join`.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from typing import Final

UNSEEN: Final = 0.1
"""Seconds after which a signal that did not end a wait is handled.

Python checks for signals before it waits for a lock. A signal that comes after that check, or that the system gives to
another thread, is handled when the wait ends, which may be never without a limit. Of 400 programs that were sent
SIGTERM as they began to wait, 8 hung. A waiter that lost its wake-up, because a handler raised while it was passed
on, also tests again after that time.
"""


class Latch:
    """An event that opens once and never closes. All methods may be called in any thread, handler and finalizer."""

    __slots__ = ("_closed", "_is_open")

    def __init__(self) -> None:
        self._is_open = False
        # Held until the latch opens, and then briefly by each waiter. A lock is written in C, one `release` may
        # interrupt another, and its timeout still applies after a handler that took longer: that of `SimpleQueue.get`
        # does not before Python 3.13.
        self._closed: Final = threading.Lock()
        self._closed.acquire()

    def is_open(self) -> bool:
        """Return whether it is open."""
        return self._is_open

    def open(self) -> None:
        """Open it, and wake all waiters."""
        self._is_open = True
        self._wake()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it is open or that many seconds have passed, and return whether it is open."""
        ends = math.inf if seconds is None else time.monotonic() + seconds
        while not self._is_open:
            left = ends - time.monotonic()
            if left <= 0:
                return False
            try:
                self._closed.acquire(timeout=min(UNSEEN, left))
            finally:
                if self._is_open:
                    self._wake()  # the next waiter
        return True

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the lock is not held
            self._closed.release()
