"""`Latch`: a one-time event for threads that signal handlers may use.

A signal handler runs in the main thread, between any two bytecodes. `threading.Event` is not safe there, because it
acquires its lock in Python code. If a handler raises at that moment, the lock is never released, and the thread that
sets the event hangs. If a handler waits for an event whose lock the interrupted code holds, the handler hangs.
Programs written for PyExPool do both: in a handler that interrupts `join`, they delete their pool and exit.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from typing import Final

SIGNAL_CHECK_INTERVAL: Final = 0.1
"""The maximum duration, in seconds, of one wait for the lock.

Python checks for signals before it waits for a lock. A signal that arrives after that check, or that the system
delivers to another thread, is not handled until the wait ends. Without a limit, this may be never: of 400 programs that
received SIGTERM as they began to wait, 8 hung. The limit also helps a waiter that misses its wake-up because a handler
raised in another waiter: it tests the latch again after this time.
"""


class Latch:
    """An event that opens once and never closes; threads, signal handlers and finalizers may call all methods."""

    __slots__ = ("_is_open", "_lock")

    def __init__(self) -> None:
        self._is_open = False
        # The lock is held until the latch opens, and then briefly by each waiter. It is implemented in C, so handlers
        # cannot interrupt it. `SimpleQueue` is, too, but before Python 3.13 a slow handler makes `get` ignore its
        # timeout.
        self._lock: Final = threading.Lock()
        self._lock.acquire()

    def is_open(self) -> bool:
        return self._is_open

    def open(self) -> None:
        self._is_open = True
        self._wake_waiter()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the latch is open, and return whether it is. The time limit is in seconds; None for no limit."""
        deadline = math.inf if seconds is None else time.monotonic() + seconds
        while not self._is_open:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            try:
                self._lock.acquire(timeout=min(SIGNAL_CHECK_INTERVAL, remaining))
            finally:
                if self._is_open:
                    self._wake_waiter()  # wakes the next waiter
        return True

    def _wake_waiter(self) -> None:
        with contextlib.suppress(RuntimeError):  # the lock is not held
            self._lock.release()
