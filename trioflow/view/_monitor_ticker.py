"""A thread that draws: soon after something has happened, and otherwise once in a while."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Final


class Ticker:
    """Calls a function in a thread of its own.

    Args:
        function: what to call; it must not raise.
        interval: seconds between two calls, at least.
        patience: seconds after which it is called even if nothing has happened.

    """

    def __init__(self, function: Callable[[], None], interval: float, patience: float) -> None:
        self._function: Final = function
        self._interval: Final = interval
        self._patience: Final = patience
        self._happened: Final = threading.Event()
        self._ended: Final = threading.Event()
        # In the context of whoever begins: a notebook finds by it which cell the output belongs to.
        work = contextvars.copy_context().run
        self._thread: Final = threading.Thread(target=work, args=(self._work,), name="trioflow monitor", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Let the function be called soon; from any thread, and as good as free until it has been."""
        if not self._happened.is_set():
            self._happened.set()

    def stop(self) -> None:
        """Return when the function will not be called any more."""
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
