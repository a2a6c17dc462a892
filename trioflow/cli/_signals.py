"""The second signal of a run ends the command at once; the first is the engine's, which ends the run in order."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
from types import FrameType
from typing import Any, Final

from .._core._instruments import Instrument
from .._core._scheduler import BaseScheduler
from .._core._signals import SignalWatch
from ._codes import INTERRUPTED

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SHOW_CURSOR: Final = b"\x1b[?25h\n"  # of every terminal since the VT220; a live display hides it


class SecondSignal(Instrument):
    """Stands before the engine's handlers, from the beginning of a run until the engine puts the old ones back."""

    def __init__(self) -> None:
        """Begin with no signal."""
        self._given = False

    def before_run(self, scheduler: BaseScheduler) -> None:
        """Put this before each handler of the engine; those of the user's own are left alone."""
        for number in SIGNALS:
            handler: Any = signal.getsignal(number)
            if isinstance(getattr(handler, "__self__", None), SignalWatch):
                signal.signal(number, functools.partial(self._handle, handler))

    def _handle(self, engine: Any, number: int, frame: FrameType | None) -> None:
        if self._given:
            end_at_once()
        self._given = True
        with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: in the midst of another print
            print(f"{signal.Signals(number).name}: ending in order; once more to end at once", file=sys.stderr)
        engine(number, frame)


def end_at_once() -> None:
    """End this process here and now, the terminal's cursor visible; nothing is shut down."""
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            if os.isatty(descriptor):
                os.write(descriptor, SHOW_CURSOR)
                break
    os._exit(INTERRUPTED)
