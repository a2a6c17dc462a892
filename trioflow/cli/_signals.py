"""The second signal during a run ends the command at once; at the first, the engine ends the run in order."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
from types import FrameType
from typing import Any, Final

from .._core.door.reading import BaseScheduler, Instrument, SignalWatch
from . import INTERRUPTED

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SHOW_CURSOR: Final = b"\x1b[?25h\n"  # for every terminal since the VT220; a live display hides the cursor


class SecondSignal(Instrument):
    """Wraps the engine's signal handlers, from the start of a run until the engine puts the old ones back.

    Args:
        drains: whether the first SIGTERM drains the run; it does not count as the first signal then.

    """

    def __init__(self, drains: bool = False) -> None:
        """Start with no signal received."""
        self._given = False
        self._drains = drains
        self._scheduler: BaseScheduler | None = None

    def before_run(self, scheduler: BaseScheduler) -> None:
        """Wrap each handler of the engine; the user's own handlers are left alone."""
        self._scheduler = self._scheduler or scheduler
        for number in SIGNALS:
            handler: Any = signal.getsignal(number)
            if isinstance(getattr(handler, "__self__", None), SignalWatch):
                signal.signal(number, functools.partial(self._handle, handler))

    def _handle(self, engine: Any, number: int, frame: FrameType | None) -> None:
        if self._given:
            end_at_once()
        if self._drains and number == signal.SIGTERM:
            self._drains = False
            engine.__self__.call(self._drain)  # before the next signal can come
            _say("SIGTERM: no more jobs start; once more to end in order")
            return
        self._given = True
        _say(f"{signal.Signals(number).name}: ending in order; once more to end at once")
        engine(number, frame)

    def _drain(self) -> None:
        if self._scheduler is not None and self._scheduler._run is not None:  # it may have ended meanwhile
            self._scheduler._run.drain()


def _say(text: str) -> None:
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: the signal interrupted another print
        print(text, file=sys.stderr)


def end_at_once() -> None:
    """End this process immediately, with the terminal's cursor visible; nothing is shut down."""
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            if os.isatty(descriptor):
                os.write(descriptor, SHOW_CURSOR)
                break
    os._exit(INTERRUPTED)
