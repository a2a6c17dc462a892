"""The end of a process group whose head has gone: a grace for those that are left, then SIGKILL, until none lives."""

from __future__ import annotations

import math
import signal
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from . import _waiting

if TYPE_CHECKING:
    from .._core._run import Run
    from ._processes import Process

FIRST_PAUSE: Final = 0.001
SURVEY_PAUSE: Final = 0.008
LAST_PAUSE: Final = 0.064
"""Seconds between two looks at a group: nothing tells when the last one of it has ended."""

Pause = Callable[[float], Awaitable[bool]]
"""Waits until the clock shows a time, and does meanwhile what there is to do."""


async def end_group(run: Run, process: Process, grace_ends: float, pause_until: Pause) -> None:
    """Wait until the group of a process that is reaped has no living members: for a while, then they are killed."""
    pause, killed = FIRST_PAUSE, False
    while process.has_left_others():
        if not killed and run.clock() >= grace_ends:
            process.signal(signal.SIGKILL)
            pause, killed = FIRST_PAUSE, True
        elif pause >= SURVEY_PAUSE and process.has_left_dead_alone():
            return
        until = min(run.clock() + pause, math.inf if killed else grace_ends)
        await _waiting.outlast(run, lambda until=until: pause_until(until))  # type: ignore[misc]
        pause = min(2 * pause, LAST_PAUSE)
