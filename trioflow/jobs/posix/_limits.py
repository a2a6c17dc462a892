"""What a process may use: the checks of these options, and its priority."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from ...abc import whole

if TYPE_CHECKING:
    from ._processes import Process


def check(nice: Any, memory_limit: Any, who: str) -> None:
    """Check what the user gave to the job called `who`.

    Raises:
        TypeError, ValueError: an option that makes no sense; the error names it.

    """
    if nice is not None and (isinstance(nice, bool) or not isinstance(nice, int)):
        raise TypeError(f"nice={nice!r} of {who}: give a whole number, added to this program's own, or None")
    if memory_limit is not None and not whole(memory_limit, "memory_limit", who):
        raise ValueError(f"memory_limit={memory_limit!r} of {who}: give a positive number of bytes, or None")


def renice(process: Process, nice: int) -> None:
    """Set the priority of a group that has just been started, relative to this program's own.

    To set it before the start would mean changing this program's own priority, which it may not be allowed to restore.

    Raises:
        PermissionError: only root may raise a priority.

    """
    own = os.getpriority(os.PRIO_PROCESS, 0)
    with contextlib.suppress(ProcessLookupError):
        os.setpriority(os.PRIO_PGRP, process.pid, max(-20, min(19, own + nice)))
