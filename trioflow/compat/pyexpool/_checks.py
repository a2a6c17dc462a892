"""Checks of the arguments with which jobs, tasks and pools are created."""

from __future__ import annotations

import logging
import os
from types import EllipsisType
from typing import IO, Any, Final

StreamTarget = str | os.PathLike[str] | int | IO[Any] | None
"""The target of output: a file name, `PIPE`, `STDOUT`, `DEVNULL` or an open file; None for the target of `print`."""
StreamTargetOption = StreamTarget | EllipsisType
"""The target of output as an option: a target, or `...` if the user gave none."""


def check_name(value: Any, kind: str) -> str:
    """Check the name of a job, task or pool, and return it.

    Raises:
        TypeError: the name is not a string.
        ValueError: the name is empty.

    """
    if not isinstance(value, str):
        raise TypeError(f"{kind}: the name must be a string, not {value!r}")
    if not value:
        raise ValueError(f"{kind}: the name is empty: give one, which the log will use")
    return value


_warned_options: Final = set[str]()


def warn_if_ineffective(value: Any, default: Any, option: str, subject: str) -> None:
    """Log that an argument has no effect, unless it has its default value. Log this only once for each option."""
    if value != default and option not in _warned_options:
        _warned_options.add(option)
        logging.getLogger("trioflow.compat.pyexpool").warning(
            "%s=%r of %s has no effect here: jobs of one category are not ended together, and a job's size is not "
            "compared; put related jobs in a Task with a timeout (reported once)",
            option, value, subject,
        )  # fmt: skip


def reject_unsupported(value: Any, default: Any, option: str, subject: str, hint: str) -> None:
    """Reject an option that is not supported, because a limit must not be ignored silently.

    Raises:
        ValueError: the option does not have its default value.

    """
    if value != default:
        raise ValueError(f"{option}={value!r} of {subject} is not supported: {hint}")
