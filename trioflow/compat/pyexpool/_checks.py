"""What users give to jobs, tasks and pools, checked when they are made."""

from __future__ import annotations

import math
import os
from types import EllipsisType
from typing import IO, Any

Output = str | os.PathLike[str] | int | IO[Any] | None
"""Where output goes: a file's name, `PIPE`, `STDOUT`, `DEVNULL`, an open file; None for where `print` goes."""
OwnOutput = Output | EllipsisType


def name(given: Any, kind: str) -> str:
    """Return a name.

    Raises:
        TypeError, ValueError: it is none.

    """
    if not isinstance(given, str):
        raise TypeError(f"{kind}: the name must be a string, not {given!r}")
    if not given:
        raise ValueError(f"{kind}: the name is empty; tell what it is, the log will use it")
    return given


def seconds(given: Any, what: str, who: str) -> float:
    """Return a number of seconds, 0 or more.

    Raises:
        TypeError, ValueError: it is none.

    """
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise TypeError(f"{what}={given!r} of {who}: give seconds, a number")
    if given < 0 or math.isnan(given):
        raise ValueError(f"{what}={given!r} of {who}: give seconds, 0 or more; 0 for no limit")
    return given


def callback(given: Any, what: str, who: str) -> Any:
    """Return a callback, or None.

    Raises:
        TypeError: it can't be called.

    """
    if given is not None and not callable(given):
        raise TypeError(f"{what}={given!r} of {who}: give a function of one argument, or None")
    return given


def unsupported(given: Any, default: Any, what: str, who: str, instead: str) -> None:
    """Refuse what is not done here, rather than ignore what was meant as a limit.

    Raises:
        ValueError: something was given.

    """
    if given != default:
        raise ValueError(f"{what}={given!r} of {who} is not supported: {instead}")
