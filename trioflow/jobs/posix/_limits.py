"""What a process may use: the checks of these options, and its priority."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, Final

from ...abc import shown

if TYPE_CHECKING:
    from ._processes import Process

TOO_MUCH: Final = 1 << 63
"""Bytes that no system can limit a process to. A shell takes so large a number for another, small one."""


def check(nice: Any, memory_limit: Any, who: str) -> None:
    """Check what the user gave to the job called `who`.

    Raises:
        TypeError, ValueError: an option that makes no sense; the error names it.

    """
    for name, value, wanted in (
        ("nice", nice, "a whole number, added to this program's own"),
        ("memory_limit", memory_limit, "a whole number of bytes"),
    ):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise TypeError(f"{name}={shown(value)} of {who}: give {wanted}, or None")
    if memory_limit is not None and not 0 < memory_limit < TOO_MUCH:
        wanted = "a positive number of bytes, below 2**63"
        raise ValueError(f"memory_limit={shown(memory_limit)} of {who}: give {wanted}, or None")


def renice(process: Process, nice: int) -> None:
    """Set the priority of a group that has just been started, relative to this program's own.

    To set it before the start would mean changing this program's own priority, which it may not be allowed to restore.

    Raises:
        PermissionError: only root may raise a priority.

    """
    own = os.getpriority(os.PRIO_PROCESS, 0)
    with contextlib.suppress(ProcessLookupError):
        os.setpriority(os.PRIO_PGRP, process.pid, max(-20, min(19, own + nice)))
