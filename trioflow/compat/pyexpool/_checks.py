"""Checks of the arguments of jobs, tasks and pools, made when these are created."""

from __future__ import annotations

import logging
import math
import os
from types import EllipsisType
from typing import IO, Any, Final

Output = str | os.PathLike[str] | int | IO[Any] | None
"""The target of output: a file's name, `PIPE`, `STDOUT`, `DEVNULL` or an open file; None for `print`'s."""
OwnOutput = Output | EllipsisType


def name(given: Any, kind: str) -> str:
    """Check a name, and return it.

    Raises:
        TypeError, ValueError: it is not a name.

    """
    if not isinstance(given, str):
        raise TypeError(f"{kind}: the name must be a string, not {given!r}")
    if not given:
        raise ValueError(f"{kind}: the name is empty: give one, which the log will use")
    return given


_reported: Final = set[str]()


def without_effect(given: Any, default: Any, what: str, who: str) -> None:
    """Log, once for each argument, that it has no effect here."""
    if given != default and what not in _reported:
        _reported.add(what)
        logging.getLogger("trioflow.compat.pyexpool").warning(
            "%s=%r of %s has no effect here: jobs of one category are not ended together, and a job's size is not "
            "compared; give those that belong together a Task with a timeout (reported once)",
            what, given, who,
        )  # fmt: skip


def seconds(given: Any, what: str, who: str) -> float:
    """Check a number of seconds, and return it.

    Raises:
        TypeError, ValueError: it is not a number, or below 0.

    """
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise TypeError(f"{what}={given!r} of {who}: give seconds, a number")
    if given < 0 or math.isnan(given):
        raise ValueError(f"{what}={given!r} of {who}: give seconds, 0 or more; 0 for no limit")
    return given


def callback(given: Any, what: str, who: str) -> Any:
    """Check a callback, and return it, or None.

    Raises:
        TypeError: it cannot be called.

    """
    if given is not None and not callable(given):
        raise TypeError(f"{what}={given!r} of {who}: give a function of one argument, or None")
    return given


def unsupported(given: Any, default: Any, what: str, who: str, instead: str) -> None:
    """Reject an option that is not supported, rather than ignore a limit.

    Raises:
        ValueError: the option was given.

    """
    if given != default:
        raise ValueError(f"{what}={given!r} of {who} is not supported: {instead}")
