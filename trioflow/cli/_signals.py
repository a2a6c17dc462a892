"""Signals during a run: at the first, the engine ends the run cleanly; a second one exits at once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

from . import INTERRUPTED

SHOW_CURSOR: Final = b"\x1b[?25h\n"  # for every terminal since the VT220; a live display hides the cursor


class SecondSignal:
    """The command's actions at signals, for `handle_signals`.

    Args:
        drain: drains the run at the first SIGTERM, which then does not count as the first signal; None to end the run.

    """

    def __init__(self, drain: Callable[[], object] | None = None) -> None:
        """Start with no signal received."""
        self._given = False
        self._drain = drain

    def __call__(self, number: int) -> Callable[[], object] | None:
        """Return a callback for the event loop instead of an ordered end of the run; None to end it."""
        if self._given:
            end_at_once()
        drain, self._drain = self._drain, self._drain if number != signal.SIGTERM else None
        if drain is not None and number == signal.SIGTERM:
            _say("SIGTERM: no more jobs start; a second one shuts down")
            return drain
        self._given = True
        _say(f"{signal.Signals(number).name}: shutting down; a second one quits at once")
        return None


def _say(text: str) -> None:
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: the signal interrupted another print
        print(text, file=sys.stderr)


def end_at_once() -> None:
    """End this process immediately, with the terminal's cursor visible; nothing is shut down."""
    for descriptor in (1, 2, 0):  # while a monitor draws, the first two are pipes
        with contextlib.suppress(OSError):
            if os.isatty(descriptor):
                os.write(descriptor, SHOW_CURSOR)
                break
    os._exit(INTERRUPTED)
