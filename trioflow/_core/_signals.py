"""Ctrl-C and the signals that ask a program to end, while `run()` owns the event loop.

The first signal ends the run in order, INTERRUPTED. It is taken in between two turns of the loop, so no line of the
engine is ever cut in two. If the loop does not turn, because a job blocks it, a second Ctrl-C is raised right there.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

Handler = Callable[[int, FrameType | None], Any] | int | None


class SignalWatch:
    """Turns signals into the end of a run, between `__enter__` and `__exit__`; only in the main thread.

    Args:
        interrupt: called in the event loop with what `run()` shall raise, or None if it shall return False.
        all_signals: SIGTERM and SIGHUP too, and not only Ctrl-C.

    Raises:
        ValueError: all signals are asked for in another thread than the main one, where Python handles none.

    """

    def __init__(self, interrupt: Callable[[BaseException | None], bool], all_signals: bool) -> None:
        """Check that the signals can be handled here."""
        self._interrupt = interrupt
        self._old: dict[int, Handler] = {}
        self._call_in_loop: Callable[[Callable[[], None]], None] | None = None
        self._given = False  # a signal has come...
        self._number = 0  # ...this one...
        self._interruption: BaseException | None = None  # ...which is to leave the run with this...
        self._taken = True  # ...and the run has taken it in
        main = threading.current_thread() is threading.main_thread()
        if all_signals and not main:
            raise ValueError("handle_signals=True: Python handles signals in the main thread only; call run() there")
        self._signals: list[int] = []
        if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._signals.append(signal.SIGINT)
        if all_signals:
            self._signals += [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]

    def loop_started(self, call_in_loop: Callable[[Callable[[], None]], None]) -> None:
        """Take note of how to reach the event loop, and hand over what has come before."""
        self._call_in_loop = call_in_loop
        if self._given:
            call_in_loop(self._take_in)

    def loop_ended(self) -> None:
        """Take note that the event loop is not to be reached any more."""
        self._call_in_loop = None

    def __enter__(self) -> Self:
        """Install the handlers."""
        for number in self._signals:
            self._old[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put the old handlers back, and let them have the signal that came too late for the run."""
        for number, handler in self._old.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        if self._taken:
            return
        if self._interruption is None:
            signal.raise_signal(self._number)
        elif error is None or isinstance(error, Exception):
            raise self._interruption

    def interrupt(self, interruption: BaseException | None) -> None:
        """End the run, as soon as the loop turns, with this exception, or with False if it is None.

        Raises:
            KeyboardInterrupt: the last call has not reached the loop, which therefore does not turn.

        """
        if self._given and not self._taken and interruption is not None:
            raise interruption
        self._given, self._taken = True, False
        self._interruption = self._interruption or interruption
        if self._call_in_loop is not None:
            self._call_in_loop(self._take_in)

    def _take_in(self) -> None:
        self._taken = self._interrupt(self._interruption)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._number = number
        self.interrupt(KeyboardInterrupt() if number == signal.SIGINT else None)
